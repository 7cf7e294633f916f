//! Teams of the fake tenant: teams, channels, chats, who is in them, and what is written there. What takes a signed-in person is refused to an
//! app, as Teams does. <https://learn.microsoft.com/graph/api/resources/teams-api-overview>

mod messages;
mod people;

use super::compose::json_body;
use super::rows::{self, Listing, Shelf};
use super::wire::{bad_request, error};
use super::{MsGraph, State, unknown_segment};
use crate::auth::known;
use crate::clock::rfc3339_millis;
use crate::exchange::{Answer, Reply, Req};
use crate::ledger::{EffectKind, Entry};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What a listing of teams, members and tabs allows.
const PLAIN: Listing = Listing { page: (100, 999), queries: true };
/// A listing of messages: at most 50, no filter.
const MESSAGES: Listing = Listing { page: (20, 50), queries: false };

/// Teams and chats of the tenant.
#[derive(Debug)]
pub(super) struct Teams {
    teams: BTreeMap<String, Team>,
    chats: BTreeMap<String, Chat>,
    operations: BTreeMap<String, Value>,
    /// Numbers ids, and with the clock the messages.
    made: u64,
    /// Requests of the running second, by team; checked only when asked to.
    pub(super) rate: Option<(i64, BTreeMap<String, u32>)>,
}

#[derive(Debug, Default)]
struct Team {
    head: Value,
    members: Vec<Value>,
    channels: BTreeMap<String, Channel>,
}

#[derive(Debug, Default)]
struct Channel {
    head: Value,
    members: Vec<Value>,
    messages: Shelf,
}

#[derive(Debug, Default)]
struct Chat {
    head: Value,
    members: Vec<Value>,
    messages: Shelf,
    pinned: Vec<String>,
}

impl Default for Teams {
    fn default() -> Self {
        let ann = people::member(1, known::GRAPH_PERSON, &["owner"]);
        let channel = |id: &str, name: &str| (id.to_owned(), Channel { head: channel(id, name, "standard"), ..Channel::default() });
        let team = Team {
            head: team(known::GRAPH_TEAM, "Operations", "private"),
            members: vec![ann.clone()],
            channels: [channel("19:general@thread.tacv2", "General"), channel(known::GRAPH_CHANNEL, "Alerts")].into(),
        };
        let head = json!({ "id": known::GRAPH_CHAT, "topic": "Service desk", "chatType": "group", "createdDateTime": "2026-11-20T08:00:00Z",
            "lastUpdatedDateTime": "2026-11-20T08:00:00Z", "tenantId": known::GRAPH_TENANT, "webUrl": "https://teams.microsoft.com/l/chat" });
        let chat = Chat { head, members: vec![ann, people::member(2, "5a2b0c1e-0000-4000-8000-000000000102", &["owner"])], ..Chat::default() };
        Self {
            teams: [(known::GRAPH_TEAM.to_owned(), team)].into(),
            chats: [(known::GRAPH_CHAT.to_owned(), chat)].into(),
            operations: BTreeMap::new(),
            made: 10,
            rate: None,
        }
    }
}

fn team(id: &str, name: &str, visibility: &str) -> Value {
    json!({ "id": id, "displayName": name, "description": name, "visibility": visibility, "isArchived": false, "tenantId": known::GRAPH_TENANT,
        "createdDateTime": "2026-11-20T08:00:00Z", "webUrl": "https://teams.microsoft.com/l/team" })
}

fn channel(id: &str, name: &str, kind: &str) -> Value {
    json!({ "id": id, "displayName": name, "membershipType": kind, "createdDateTime": "2026-11-20T08:00:00Z", "email": "",
        "tenantId": known::GRAPH_TENANT, "webUrl": "https://teams.microsoft.com/l/channel" })
}

/// Teams' 404.
fn gone(what: &str) -> Reply {
    error(404, "NotFound", &format!("{what} not found."))
}

impl Teams {
    fn number(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    fn team(&mut self, id: &str) -> Result<&mut Team, Reply> {
        self.teams.get_mut(id).ok_or_else(|| gone("No team found with Group Id. The team was"))
    }

    fn channel(&mut self, team: &str, id: &str) -> Result<&mut Channel, Reply> {
        self.team(team)?.channels.get_mut(id).ok_or_else(|| gone("The channel was"))
    }

    fn chat(&mut self, id: &str) -> Result<&mut Chat, Reply> {
        self.chats.get_mut(id).ok_or_else(|| gone("The chat was"))
    }
}

impl MsGraph {
    /// Counts requests per team from now on, and refuses the fifth of a second with 429.
    pub fn limit_teams(&self) {
        crate::ledger::lock(&self.state).teams.rate = Some((0, BTreeMap::new()));
    }

    /// Makes every delta cursor of a channel stale.
    pub fn expire_channel(&self, team: &str, channel: &str) {
        if let Ok(channel) = crate::ledger::lock(&self.state).teams.channel(team, channel) {
            channel.messages.expire();
        }
    }

    /// `/teams…`. <https://learn.microsoft.com/graph/api/resources/team>
    pub(super) fn teams(&self, state: &mut State, method: &str, rest: &[&str], req: &Req) -> Answer {
        if let Some(team) = rest.first() {
            self.paced(&mut state.teams, team)?;
        }
        match (method, rest) {
            ("GET", []) => {
                self.permitted(req, &["Team.ReadBasic.All", "Group.Read.All"], "Forbidden")?;
                rows::list(req, state.teams.teams.values().map(|team| team.head.clone()).collect(), PLAIN)
            }
            ("POST", []) => self.create_team(&mut state.teams, req),
            (_, [team, "channels", rest @ ..]) => self.channels(state, team, method, rest, req),
            (_, [team, "members", rest @ ..]) => {
                let needed: &[&str] =
                    if method == "GET" { &["TeamMember.Read.All", "TeamMember.ReadWrite.All"] } else { &["TeamMember.ReadWrite.All"] };
                self.permitted(req, needed, "Forbidden")?;
                let number = state.teams.number();
                people::members(&mut state.teams.team(team)?.members, number, method, rest, req)
            }
            ("GET", [team, "primaryChannel"]) => {
                self.permitted(req, &["Channel.ReadBasic.All"], "Forbidden")?;
                let general = state.teams.team(team)?.channels.values().find(|channel| channel.head["displayName"] == "General");
                rows::one(req, &general.ok_or_else(|| gone("The channel was"))?.head)
            }
            ("GET", [_, "operations", id]) => rows::one(req, state.teams.operations.get(*id).ok_or_else(|| gone("The operation was"))?),
            ("POST", [team, "sendActivityNotification"]) => {
                self.permitted(req, &["TeamsActivity.Send"], "Forbidden")?;
                let body = json_body(req)?;
                let to = body["recipient"]["userId"].as_str().ok_or_else(|| bad_request("The recipient is missing."))?;
                if !state.teams.team(team)?.members.iter().any(|member| member["userId"] == to) {
                    return Err(error(403, "Forbidden", "The recipient is not a member of the team."));
                }
                self.shared.record(Entry::new("msgraph", EffectKind::ChatPosted, format!("activity:{to}")).detail(body["previewText"].clone()));
                Ok(Reply::empty(204))
            }
            (_, [team]) => self.one_team(&mut state.teams, team, method, req),
            ("POST", [team, archive @ ("archive" | "unarchive")]) => {
                self.permitted(req, &["TeamSettings.ReadWrite.All"], "Forbidden")?;
                state.teams.team(team)?.head["isArchived"] = (*archive == "archive").into();
                let id = self.operation(&mut state.teams, "archiveTeam", team);
                Ok(Reply::empty(202).with("location", &format!("/teams('{team}')/operations('{id}')")))
            }
            _ => Err(unknown_segment()),
        }
    }

    fn one_team(&self, teams: &mut Teams, id: &str, method: &str, req: &Req) -> Answer {
        let needed: &[&str] = if method == "GET" { &["Team.ReadBasic.All"] } else { &["TeamSettings.ReadWrite.All"] };
        self.permitted(req, needed, "Forbidden")?;
        let team = teams.team(id)?;
        match method {
            "GET" => rows::one(req, &team.head),
            "PATCH" => {
                rows::merge(&mut team.head, &json_body(req)?, &["displayName", "description", "visibility", "memberSettings", "messagingSettings"]);
                self.shared.record(Entry::new("msgraph", EffectKind::ChatChannelChanged, id).detail(json!("team")));
                Ok(Reply::empty(204))
            }
            _ => Err(unknown_segment()),
        }
    }

    fn operation(&self, teams: &mut Teams, kind: &str, team: &str) -> String {
        let id = format!("3c1e0000-0000-4000-8000-{:012x}", teams.number());
        let now = rfc3339_millis(self.shared.clock.now());
        let operation = json!({ "id": id, "operationType": kind, "status": "succeeded", "targetResourceId": team, "attemptsCount": 1,
            "createdDateTime": now, "lastActionDateTime": now, "targetResourceLocation": format!("/teams('{team}')") });
        teams.operations.insert(id.clone(), operation);
        id
    }

    /// An empty 202 whose headers say which team it will be. <https://learn.microsoft.com/graph/api/team-post>
    fn create_team(&self, teams: &mut Teams, req: &Req) -> Answer {
        self.permitted(req, &["Team.Create"], "Forbidden")?;
        let body = json_body(req)?;
        if !body["template@odata.bind"].as_str().is_some_and(|template| template.contains("teamsTemplates('")) {
            return Err(bad_request("A team needs a template."));
        }
        let name = rows::required(&body, "displayName")?.as_str().unwrap_or_default().to_owned();
        let mut members = Vec::new();
        for one in body["members"].as_array().into_iter().flatten() {
            members.push(people::from_body(teams.number(), one)?);
        }
        if members.is_empty() {
            if !self.is_person(req) {
                return Err(error(400, "BadRequest", "A team owner must be provided when creating a team in application context."));
            }
            members.push(people::member(1, known::GRAPH_PERSON, &["owner"]));
        }
        let id = format!("7a1d3c52-0000-4000-8000-{:012x}", teams.number());
        let general = format!("19:general{}@thread.tacv2", teams.number());
        let head = team(&id, &name, body["visibility"].as_str().unwrap_or("public"));
        let channels = [(general.clone(), Channel { head: channel(&general, "General", "standard"), ..Channel::default() })].into();
        teams.teams.insert(id.clone(), Team { head, members, channels });
        self.shared.record(Entry::new("msgraph", EffectKind::ChatChannelChanged, &id).detail(json!("team created")));
        let operation = self.operation(teams, "createTeam", &id);
        let location = format!("/teams('{id}')/operations('{operation}')");
        Ok(Reply::empty(202).with("location", &location).with("content-location", &format!("/teams('{id}')")))
    }

    fn channels(&self, state: &mut State, team: &str, method: &str, rest: &[&str], req: &Req) -> Answer {
        match (method, rest) {
            ("GET", []) => {
                self.permitted(req, &["Channel.ReadBasic.All", "ChannelSettings.Read.All"], "Forbidden")?;
                rows::list(req, state.teams.team(team)?.channels.values().map(|channel| channel.head.clone()).collect(), PLAIN)
            }
            ("POST", []) => self.create_channel(&mut state.teams, team, req),
            ("GET", ["getAllMessages"]) => {
                self.permitted(req, &["ChannelMessage.Read.All"], "Forbidden")?;
                let all = state.teams.team(team)?.channels.values().flat_map(|channel| channel.messages.all().cloned()).collect();
                rows::list(req, all, Listing { page: (20, 50), queries: true })
            }
            (_, [channel]) => self.one_channel(&mut state.teams, team, channel, method, req),
            (_, [channel, "members", rest @ ..]) => {
                let needed: &[&str] =
                    if method == "GET" { &["ChannelMember.Read.All", "ChannelMember.ReadWrite.All"] } else { &["ChannelMember.ReadWrite.All"] };
                self.permitted(req, needed, "Forbidden")?;
                let number = state.teams.number();
                let everybody = state.teams.team(team)?.members.clone();
                let channel = state.teams.channel(team, channel)?;
                if channel.head["membershipType"] == "standard" {
                    // Who is in a standard channel is who is in the team.
                    return match method {
                        "GET" => rows::list(req, everybody, PLAIN),
                        _ => Err(bad_request("Members of a standard channel are the members of its team.")),
                    };
                }
                people::members(&mut channel.members, number, method, rest, req)
            }
            ("GET", [channel, "filesFolder"]) => {
                let name = state.teams.channel(team, channel)?.head["displayName"].clone();
                self.permitted(req, &["Files.Read.All", "Files.ReadWrite.All", "Sites.Read.All"], "Forbidden")?;
                let root = state.drives.root(known::GRAPH_DRIVE)?;
                Ok(Reply::json(
                    200,
                    &json!({ "id": root, "name": name, "folder": { "childCount": 0 }, "parentReference": { "driveId": known::GRAPH_DRIVE } }),
                ))
            }
            ("GET", [channel, "tabs"]) => {
                state.teams.channel(team, channel)?;
                rows::whole(req, vec![json!({ "id": "tab-1", "displayName": "Runbook", "webUrl": "https://teams.microsoft.com/l/tab" })])
            }
            (_, [channel, "messages", rest @ ..]) => self.channel_messages(state, team, channel, method, rest, req),
            _ => Err(unknown_segment()),
        }
    }

    fn create_channel(&self, teams: &mut Teams, team: &str, req: &Req) -> Answer {
        self.permitted(req, &["Channel.Create"], "Forbidden")?;
        let body = json_body(req)?;
        let name = rows::required(&body, "displayName")?.as_str().unwrap_or_default().to_owned();
        if name.is_empty()
            || name.chars().count() > 50
            || name.contains(['~', '#', '%', '&', '*', '{', '}', '+', '/', '\\', ':', '<', '>', '?', '|', '\'', '"'])
        {
            return Err(bad_request("Channel name is invalid."));
        }
        let kind = body["membershipType"].as_str().unwrap_or("standard").to_owned();
        let mut members = Vec::new();
        for one in body["members"].as_array().into_iter().flatten() {
            members.push(people::from_body(teams.number(), one)?);
        }
        let id = format!("19:channel{}@thread.tacv2", teams.number());
        let team = teams.team(team)?;
        if team.channels.values().any(|channel| channel.head["displayName"].as_str().is_some_and(|taken| taken.eq_ignore_ascii_case(&name))) {
            return Err(error(400, "BadRequest", "Channel name already existed, please use other name."));
        }
        let mut head = channel(&id, &name, &kind);
        rows::merge(&mut head, &body, &["description"]);
        team.channels.insert(id.clone(), Channel { head: head.clone(), members, ..Channel::default() });
        self.shared.record(Entry::new("msgraph", EffectKind::ChatChannelChanged, &id).detail(json!("created")));
        Ok(Reply::json(201, &head))
    }

    fn one_channel(&self, teams: &mut Teams, team: &str, id: &str, method: &str, req: &Req) -> Answer {
        let needed: &[&str] = match method {
            "GET" => &["Channel.ReadBasic.All", "ChannelSettings.Read.All"],
            "DELETE" => &["Channel.Delete.All"],
            _ => &["ChannelSettings.ReadWrite.All"],
        };
        self.permitted(req, needed, "Forbidden")?;
        let channel = teams.channel(team, id)?;
        match method {
            "GET" => rows::one(req, &channel.head),
            "PATCH" | "DELETE" if channel.head["displayName"] == "General" => Err(bad_request("The General channel cannot be changed so.")),
            "PATCH" => {
                rows::merge(&mut channel.head, &json_body(req)?, &["displayName", "description"]);
                self.shared.record(Entry::new("msgraph", EffectKind::ChatChannelChanged, id).detail(json!("updated")));
                Ok(Reply::empty(204))
            }
            "DELETE" => {
                teams.team(team)?.channels.remove(id);
                self.shared.record(Entry::new("msgraph", EffectKind::ChatChannelChanged, id).detail(json!("deleted")));
                Ok(Reply::empty(204))
            }
            _ => Err(unknown_segment()),
        }
    }

    /// At most four requests a second on one team. <https://learn.microsoft.com/graph/throttling-limits#microsoft-teams-service-limits>
    fn paced(&self, teams: &mut Teams, team: &str) -> Result<(), Reply> {
        let now = self.shared.clock.now().as_second();
        let Some((second, counts)) = &mut teams.rate else { return Ok(()) };
        if *second != now {
            (*second, *counts) = (now, BTreeMap::new());
        }
        let count = counts.entry(team.to_owned()).or_default();
        *count += 1;
        if *count > 4 { Err(error(429, "TooManyRequests", "Too many requests.").with("retry-after", "1")) } else { Ok(()) }
    }
}
