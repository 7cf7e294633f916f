//! Calendars of the fake mailboxes: appointments, series, answers to invitations, free/busy. Every change reaches delta, subscribers and the
//! ledger. Times are UTC; another zone is refused rather than misread. <https://learn.microsoft.com/graph/api/resources/calendar>

mod events;
mod span;

use super::compose::{action_body, json_body};
use super::rows::{self, Listing, Shelf};
use super::wire::{bad_request, error, not_found};
use super::{MsGraph, State, unknown_segment};
use crate::exchange::{Answer, Reply, Req};
use serde_json::{Value, json};

/// What a listing of appointments allows.
const EVENTS: Listing = Listing { page: (10, 1000), queries: true };

/// The calendars of one mailbox.
#[derive(Debug, Default)]
pub(super) struct Calendars {
    calendars: Vec<Value>,
    events: Shelf,
}

impl Calendars {
    /// With the default calendar.
    fn new(address: &str) -> Self {
        let owner = json!({ "name": address, "address": address });
        let own = json!({ "id": "AQMkAG-calendar", "name": "Calendar", "color": "auto", "isDefaultCalendar": true, "canEdit": true, "canShare": true,
            "owner": owner, "changeKey": "1", "allowedOnlineMeetingProviders": ["teamsForBusiness"], "defaultOnlineMeetingProvider": "teamsForBusiness" });
        Self { calendars: vec![own], events: Shelf::default() }
    }

    /// The id of a calendar, or of the default one.
    fn calendar(&self, id: Option<&str>) -> Result<String, Reply> {
        let found = self.calendars.iter().find(|one| id.map_or(one["isDefaultCalendar"] == true, |id| one["id"] == id));
        found.and_then(|one| one["id"].as_str()).map(str::to_owned).ok_or_else(not_found)
    }
}

impl MsGraph {
    /// Makes every delta cursor of a calendar stale.
    pub fn expire_calendar(&self, user: &str) {
        let mut state = crate::ledger::lock(&self.state);
        if let Ok(user) = state.user(user) {
            state.calendars(&user).events.expire();
        }
    }

    /// Somebody invites a mailbox to an hour from `start` (RFC 3339). Gives the appointment's id; `None`: there is no such mailbox or time.
    pub fn invite(&self, user: &str, organizer: &str, subject: &str, start: &str) -> Option<String> {
        let mut state = crate::ledger::lock(&self.state);
        let user = state.user(user).ok()?;
        let start: jiff::Timestamp = start.parse().ok()?;
        let own = state.calendars(&user);
        let id = format!("AAkALg-invited{}", own.events.next());
        let calendar = own.calendar(None).ok()?;
        let event = json!({ "id": id, "subject": subject, "start": span::written(start), "end": span::written(crate::clock::add_seconds(start, 3600)),
            "type": "singleInstance", "isOrganizer": false, "isCancelled": false, "showAs": "tentative", "attendees": [], "categories": [],
            "organizer": { "emailAddress": { "name": organizer, "address": organizer } }, "responseStatus": { "response": "notResponded" },
            "@odata.etag": "W/\"DwAA0\"", "_calendar": calendar, "_attachments": [] });
        own.events.put(&id, event);
        Some(id)
    }

    /// Everything of a mailbox that is about its calendars; `None`: the path is not.
    pub(super) fn calendar(&self, state: &mut State, user: &str, method: &str, rest: &[&str], req: &Req) -> Option<Answer> {
        let is_write = method != "GET" && !matches!(rest.last(), Some(&"getSchedule" | &"findMeetingTimes"));
        if !matches!(rest.first(), Some(&("calendar" | "calendars" | "calendarView" | "events" | "findMeetingTimes"))) {
            return None;
        }
        let needed: &[&str] = if is_write { &["Calendars.ReadWrite"] } else { &["Calendars.ReadBasic", "Calendars.Read", "Calendars.ReadWrite"] };
        Some(self.permitted(req, needed, "ErrorAccessDenied").and_then(|()| self.calendar_route(state, user, method, rest, req)))
    }

    fn calendar_route(&self, state: &mut State, user: &str, method: &str, rest: &[&str], req: &Req) -> Answer {
        match (method, rest) {
            ("GET", ["calendar"]) => {
                let own = state.calendars(user);
                let id = own.calendar(None)?;
                rows::one(req, own.calendars.iter().find(|one| one["id"] == *id).ok_or_else(not_found)?)
            }
            ("GET", ["calendars"]) => rows::list(req, state.calendars(user).calendars.clone(), EVENTS),
            ("POST", ["calendars"]) => create_calendar(state.calendars(user), &json_body(req)?),
            (_, ["calendars", id]) => one_calendar(state.calendars(user), method, id, req),
            ("GET", ["events"]) => self.list_events(state.calendars(user), None, req),
            ("GET", ["calendar", "events"]) => {
                let id = state.calendars(user).calendar(None)?;
                self.list_events(state.calendars(user), Some(&id), req)
            }
            ("GET", ["calendars", id, "events"]) => {
                let id = state.calendars(user).calendar(Some(id))?;
                self.list_events(state.calendars(user), Some(&id), req)
            }
            ("POST", ["events"] | ["calendar", "events"]) => self.create_event(state, user, None, req),
            ("POST", ["calendars", id, "events"]) => self.create_event(state, user, Some(id), req),
            ("GET", ["calendarView"]) => self.calendar_view(state.calendars(user), req),
            ("GET", ["calendarView", "delta"]) => self.calendar_delta(state.calendars(user), req),
            (_, ["events", id, rest @ ..]) => self.event(state, user, method, id, rest, req),
            ("POST", ["calendar", "getSchedule"]) => self.get_schedule(state, &action_body(req)?),
            ("POST", ["findMeetingTimes"]) => self.find_meeting_times(state, user, req),
            _ => Err(unknown_segment()),
        }
    }

    /// <https://learn.microsoft.com/graph/api/calendar-getschedule>
    fn get_schedule(&self, state: &mut State, body: &Value) -> Answer {
        let asked = rows::required(body, "schedules")?.as_array().cloned().unwrap_or_default();
        if asked.is_empty() || asked.len() > 20 {
            return Err(error(400, "ErrorInvalidParameter", "One to 20 schedules can be asked for."));
        }
        let (from, until) = (span::instant(&body["startTime"])?, span::instant(&body["endTime"])?);
        let step = body["availabilityViewInterval"].as_i64().unwrap_or(30);
        if !(5..=1440).contains(&step) {
            return Err(error(400, "ErrorInvalidParameter", "The interval must be between 5 and 1440 minutes."));
        }
        let schedules: Vec<Value> = asked
            .iter()
            .filter_map(Value::as_str)
            .map(|address| {
                let Ok(user) = state.user(address) else {
                    let text = format!("Email address is not found: {address}");
                    return json!({ "scheduleId": address, "availabilityView": "", "scheduleItems": [],
                        "error": { "message": text, "responseCode": "ErrorMailRecipientNotFound" } });
                };
                let busy = span::occurrences(state.calendars(&user).events.all(), from, until);
                let mut view = String::new();
                let mut at = from;
                while at < until {
                    let end = crate::clock::add_seconds(at, step * 60);
                    let here = busy.iter().filter(|one| one.start < end && one.end > at).map(|one| span::digit(&one.event));
                    view.push(here.max().unwrap_or('0'));
                    at = end;
                }
                let items: Vec<Value> = busy
                    .iter()
                    .map(|one| json!({ "status": one.event["showAs"], "start": span::written(one.start), "end": span::written(one.end) }))
                    .collect();
                json!({ "scheduleId": address, "availabilityView": view, "scheduleItems": items })
            })
            .collect();
        Ok(Reply::json(200, &json!({ "value": schedules })))
    }

    /// Only for people. <https://learn.microsoft.com/graph/api/user-findmeetingtimes>
    fn find_meeting_times(&self, state: &mut State, user: &str, req: &Req) -> Answer {
        self.person(req, "Calendars.Read.Shared", "ErrorAccessDenied")?;
        let body = action_body(req)?;
        let now = self.shared.clock.now();
        let minutes = span::minutes(body["meetingDuration"].as_str().unwrap_or("PT30M"))
            .ok_or_else(|| bad_request("meetingDuration is not an ISO 8601 duration."))?;
        let slot = &body["timeConstraint"]["timeSlots"][0];
        let from = if slot.is_null() { now } else { span::instant(&slot["start"])? };
        let until = if slot.is_null() { crate::clock::add_seconds(now, 86_400) } else { span::instant(&slot["end"])? };
        let mut people: Vec<String> = vec![user.to_owned()];
        for attendee in body["attendees"].as_array().into_iter().flatten() {
            people.extend(attendee["emailAddress"]["address"].as_str().and_then(|address| state.user(address).ok()));
        }
        let mut taken = Vec::new();
        for person in &people {
            taken.extend(span::occurrences(state.calendars(person).events.all(), from, until));
        }
        let (mut found, mut at) = (Vec::new(), from);
        let most = body["maxCandidates"].as_u64().unwrap_or(20);
        while crate::clock::add_seconds(at, minutes * 60) <= until && (found.len() as u64) < most {
            let end = crate::clock::add_seconds(at, minutes * 60);
            if !taken.iter().any(|one| one.start < end && one.end > at) {
                found.push(json!({ "confidence": 100.0, "organizerAvailability": "free",
                    "meetingTimeSlot": { "start": span::written(at), "end": span::written(end) } }));
            }
            at = crate::clock::add_seconds(at, 1800);
        }
        let why = if found.is_empty() { "attendeesUnavailable" } else { "" };
        Ok(Reply::json(200, &json!({ "emptySuggestionsReason": why, "meetingTimeSuggestions": found })))
    }
}

fn create_calendar(own: &mut Calendars, body: &Value) -> Answer {
    let name = rows::required(body, "name")?;
    if own.calendars.iter().any(|one| one["name"] == *name) {
        return Err(error(409, "ErrorFolderExists", "A folder with the specified name already exists."));
    }
    let id = format!("AQMkAG-calendar{}", own.calendars.len() + 1);
    let color = body["color"].as_str().unwrap_or("auto");
    let made = json!({ "id": id, "name": name, "color": color, "isDefaultCalendar": false, "canEdit": true, "canShare": true, "changeKey": "1" });
    own.calendars.push(made.clone());
    Ok(Reply::json(201, &made))
}

fn one_calendar(own: &mut Calendars, method: &str, id: &str, req: &Req) -> Answer {
    let at = own.calendars.iter().position(|one| one["id"] == id).ok_or_else(not_found)?;
    match method {
        "GET" => rows::one(req, &own.calendars[at]),
        "PATCH" => {
            rows::merge(&mut own.calendars[at], &json_body(req)?, &["name", "color"]);
            rows::one(req, &own.calendars[at])
        }
        "DELETE" if own.calendars[at]["isDefaultCalendar"] == true => Err(error(403, "ErrorAccessDenied", "The default calendar cannot be deleted.")),
        "DELETE" => {
            own.calendars.remove(at);
            let inside: Vec<String> =
                own.events.all().filter(|event| event["_calendar"] == id).filter_map(|event| event["id"].as_str().map(str::to_owned)).collect();
            inside.iter().for_each(|event| drop(own.events.take(event)));
            Ok(Reply::empty(204))
        }
        _ => Err(unknown_segment()),
    }
}

impl State {
    /// The calendars of a mailbox the router found before.
    pub(super) fn calendars(&mut self, user: &str) -> &mut Calendars {
        self.calendars.entry(user.to_owned()).or_insert_with(|| Calendars::new(user))
    }
}
