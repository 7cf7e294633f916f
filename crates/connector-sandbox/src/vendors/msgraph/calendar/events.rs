//! Appointments: made once per `transactionId`, changed, answered, cancelled. <https://learn.microsoft.com/graph/api/resources/event>

use super::super::attach::from_json;
use super::super::compose::{action_body, json_body};
use super::super::rows::{self, OUTLOOK};
use super::super::subscriptions::Happened;
use super::super::wire::{self, bad_request, error, not_found};
use super::super::{MsGraph, State, unknown_segment};
use super::{Calendars, EVENTS, span};
use crate::clock::rfc3339_seconds;
use crate::exchange::{Answer, Reply, Req};
use crate::ledger::{EffectKind, Entry};
use serde_json::{Value, json};

/// What a caller may set.
const WRITABLE: [&str; 17] = [
    "subject",
    "body",
    "start",
    "end",
    "location",
    "attendees",
    "isAllDay",
    "isOnlineMeeting",
    "recurrence",
    "showAs",
    "sensitivity",
    "categories",
    "reminderMinutesBeforeStart",
    "importance",
    "allowNewTimeProposals",
    "hideAttendees",
    "isReminderOn",
];

impl MsGraph {
    pub(super) fn list_events(&self, own: &Calendars, calendar: Option<&str>, req: &Req) -> Answer {
        let inside = own.events.all().filter(|event| calendar.is_none_or(|id| event["_calendar"] == id));
        rows::list(req, inside.cloned().collect(), EVENTS)
    }

    /// Two creations with one `transactionId` are one appointment.
    pub(super) fn create_event(&self, state: &mut State, user: &str, calendar: Option<&str>, req: &Req) -> Answer {
        let body = json_body(req)?;
        for field in ["start", "end"] {
            span::instant(rows::required(&body, field)?)?;
        }
        if body["recurrence"].is_object() {
            span::rhythm(&body["recurrence"])?;
        }
        if span::instant(&body["end"])? < span::instant(&body["start"])? {
            return Err(error(400, "ErrorPropertyValidationFailure", "The end is before the start."));
        }
        let own = state.calendars(user);
        let calendar = own.calendar(calendar)?;
        if let Some(known) = body["transactionId"].as_str().and_then(|id| own.events.all().find(|event| event["transactionId"] == id)) {
            return Ok(Reply::json(201, &rows::shown(known.clone())));
        }
        let now = rfc3339_seconds(self.shared.clock.now());
        let number = own.events.next();
        let id = format!("AAkALg-event{number}");
        let kind = if body["recurrence"].is_object() { "seriesMaster" } else { "singleInstance" };
        let mut event = json!({
            "id": id, "iCalUId": format!("040000008200E00074C5B7101A82E008{number:032x}"), "transactionId": body["transactionId"],
            "createdDateTime": now, "subject": "", "body": { "contentType": "html", "content": "" }, "bodyPreview": "", "isAllDay": false,
            "isCancelled": false, "isOrganizer": true, "showAs": "busy", "sensitivity": "normal", "importance": "normal", "type": kind,
            "attendees": [], "categories": [], "hasAttachments": false, "isOnlineMeeting": false, "isDraft": false,
            "organizer": { "emailAddress": { "name": user, "address": user } }, "responseStatus": { "response": "organizer" },
            "webLink": format!("https://outlook.office365.com/owa/?itemid={number}"), "_calendar": calendar, "_attachments": [],
        });
        rows::merge(&mut event, &body, &WRITABLE);
        self.store_event(state, user, event, "created", EffectKind::EventCreated).map(|event| Reply::json(201, &rows::shown(event)))
    }

    /// Puts an appointment back with a new version and tells everybody.
    fn store_event(&self, state: &mut State, user: &str, mut event: Value, change: &'static str, kind: EffectKind) -> Result<Value, Reply> {
        for field in ["start", "end"] {
            event[field] = span::written(span::instant(&event[field])?);
        }
        let version = state.calendars(user).events.next();
        event["changeKey"] = format!("DwAA{version}").into();
        event["@odata.etag"] = format!("W/\"DwAA{version}\"").into();
        event["lastModifiedDateTime"] = rfc3339_seconds(self.shared.clock.now()).into();
        let id = event["id"].as_str().unwrap_or_default().to_owned();
        state.calendars(user).events.put(&id, event.clone());
        let invited: Vec<&Value> = event["attendees"].as_array().into_iter().flatten().map(|one| &one["emailAddress"]["address"]).collect();
        let key = event["transactionId"].as_str().map(str::to_owned);
        self.shared.record(Entry::new("msgraph", kind, &id).key(key).detail(json!({ "subject": event["subject"], "invited": invited })));
        self.tell_event(state, user, &event, change);
        Ok(event)
    }

    fn tell_event(&self, state: &State, user: &str, event: &Value, change: &'static str) {
        let id = event["id"].as_str().unwrap_or_default();
        let path = format!("Users/{}/Events/{id}", state.mailboxes.get(user).map_or(user, |mailbox| &mailbox.user_id));
        let happened =
            Happened { topic: format!("users/{user}/events"), change, kind: "#Microsoft.Graph.Event", path, id, etag: event["@odata.etag"].as_str() };
        self.tell(state, &happened);
    }

    pub(super) fn event(&self, state: &mut State, user: &str, method: &str, id: &str, rest: &[&str], req: &Req) -> Answer {
        let mut event = state.calendars(user).events.get(id).cloned().ok_or_else(not_found)?;
        let is_ours = event["isOrganizer"] == true;
        match (method, rest) {
            ("GET", []) => rows::one(req, &event),
            ("PATCH", []) => {
                rows::if_match(req, &[event["@odata.etag"].as_str().unwrap_or_default()])?;
                rows::merge(&mut event, &json_body(req)?, &WRITABLE);
                self.store_event(state, user, event, "updated", EffectKind::EventChanged).map(|event| Reply::json(200, &rows::shown(event)))
            }
            ("DELETE", []) => {
                rows::if_match(req, &[event["@odata.etag"].as_str().unwrap_or_default()])?;
                self.remove_event(state, user, id, &event, "deleted")
            }
            ("POST", ["cancel"]) if !is_ours => {
                Err(error(400, "ErrorInvalidRequest", "Your request can't be completed. You need to be an organizer to cancel a meeting."))
            }
            ("POST", ["cancel"]) => self.remove_event(state, user, id, &event, "cancelled").map(|_| Reply::empty(202)),
            ("POST", ["accept" | "decline" | "tentativelyAccept"]) if is_ours => Err(error(
                400,
                "ErrorInvalidRequest",
                "Your request can't be completed. You can't respond to this meeting because you're the meeting organizer.",
            )),
            ("POST", [answer @ ("accept" | "tentativelyAccept")]) => {
                event["responseStatus"] = json!({ "response": if *answer == "accept" { "accepted" } else { "tentativelyAccepted" } });
                self.store_event(state, user, event, "updated", EffectKind::EventChanged).map(|_| Reply::empty(202))
            }
            ("POST", ["decline"]) => self.remove_event(state, user, id, &event, "declined").map(|_| Reply::empty(202)),
            ("POST", ["forward"]) => {
                let body = action_body(req)?;
                let to = body["toRecipients"].as_array().filter(|to| !to.is_empty()).ok_or_else(|| bad_request("ToRecipients is missing."))?;
                self.shared.record(Entry::new("msgraph", EffectKind::EventChanged, id).detail(json!({ "forwarded": to })));
                Ok(Reply::empty(202))
            }
            ("POST", ["dismissReminder" | "snoozeReminder"]) => Ok(Reply::empty(202)),
            ("GET", ["instances"]) => {
                let (from, until) = window(req)?;
                let found = span::occurrences(std::iter::once(&event), from, until).into_iter().map(|one| one.event).collect();
                rows::list(req, found, EVENTS)
            }
            ("GET", ["attachments"]) => rows::list(req, event["_attachments"].as_array().cloned().unwrap_or_default(), EVENTS),
            ("POST", ["attachments"]) => {
                let mut attachment = from_json(&json_body(req)?, self.shared.clock.now())?;
                attachment.id = format!("AAMkAG-ea{}", state.calendars(user).events.next());
                let made = wire::attachment(&attachment, true);
                if let Some(all) = event["_attachments"].as_array_mut() {
                    all.push(made.clone());
                }
                event["hasAttachments"] = true.into();
                self.store_event(state, user, event, "updated", EffectKind::EventChanged).map(|_| Reply::json(201, &made))
            }
            _ => Err(unknown_segment()),
        }
    }

    fn remove_event(&self, state: &mut State, user: &str, id: &str, event: &Value, why: &str) -> Answer {
        state.calendars(user).events.take(id);
        self.shared.record(Entry::new("msgraph", EffectKind::EventChanged, id).detail(json!(why)));
        self.tell_event(state, user, event, "deleted");
        Ok(Reply::empty(204))
    }

    pub(super) fn calendar_view(&self, own: &Calendars, req: &Req) -> Answer {
        let (from, until) = window(req)?;
        let default = own.calendar(None)?;
        let events = own.events.all().filter(|event| event["_calendar"] == *default);
        rows::list(req, span::occurrences(events, from, until).into_iter().map(|one| one.event).collect(), EVENTS)
    }

    /// Only `startDateTime` and `endDateTime` are options of a round, and only of its first call.
    pub(super) fn calendar_delta(&self, own: &Calendars, req: &Req) -> Answer {
        if req.q("$select").is_some() || req.q("$filter").is_some() {
            return Err(error(
                400,
                "ErrorInvalidUrlQuery",
                "The following parameters are not supported with change tracking over the 'Calendar' resource: '$select, $filter'.",
            ));
        }
        if req.q("$deltatoken").is_none() && req.q("$skiptoken").is_none() {
            window(req)?;
        }
        let default = own.calendar(None)?;
        let inside = |event: &Value, round: &rows::Round| {
            let edge = |name: &str| round.options.get(name).and_then(|text| wire::instant(text));
            let (from, until) = (edge("startDateTime")?, edge("endDateTime")?);
            let is_inside = event["_calendar"] == *default && !span::occurrences(std::iter::once(event), from, until).is_empty();
            is_inside.then(|| rows::shown(event.clone()))
        };
        rows::delta(
            req,
            &own.events,
            OUTLOOK,
            &["startDateTime", "endDateTime"],
            inside,
            |id| json!({ "id": id, "@removed": { "reason": "deleted" } }),
        )
    }
}

/// The span a request names; both ends are needed.
fn window(req: &Req) -> Result<(jiff::Timestamp, jiff::Timestamp), Reply> {
    let edge = |name: &str| {
        let text = req.q(name).or_else(|| req.q(&name.to_lowercase()));
        let text = text.ok_or_else(|| {
            error(
                400,
                "ErrorInvalidParameter",
                "This request requires a time window specified by the query string parameters StartDateTime and EndDateTime.",
            )
        })?;
        wire::instant(text)
            .or_else(|| span::instant(&json!({ "dateTime": text })).ok())
            .ok_or_else(|| error(400, "ErrorInvalidParameter", "The value of the parameter is invalid."))
    };
    // Zones other than UTC are refused, also as a preference.
    let zone = req.headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok()).find_map(|value| value.split("outlook.timezone=").nth(1));
    if zone.is_some_and(|zone| !zone.trim_start_matches('"').starts_with("UTC")) {
        return Err(error(400, "TimeZoneNotSupportedException", "A time zone was specified which is not supported."));
    }
    Ok((edge("startDateTime")?, edge("endDateTime")?))
}
