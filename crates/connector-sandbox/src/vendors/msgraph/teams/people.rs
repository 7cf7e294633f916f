//! Who is in a team, a channel or a chat, and chats themselves. <https://learn.microsoft.com/graph/api/resources/conversationmember>

use super::super::compose::json_body;
use super::super::rows::{self, Listing};
use super::super::wire::{bad_request, error};
use super::super::{MsGraph, State, unknown_segment};
use super::{Chat, PLAIN, gone};
use crate::auth::known;
use crate::clock::rfc3339_millis;
use crate::exchange::{Answer, Reply, Req};
use crate::ledger::{EffectKind, Entry};
use serde_json::{Value, json};

/// A membership.
pub(super) fn member(number: u64, person: &str, roles: &[&str]) -> Value {
    json!({ "@odata.type": "#microsoft.graph.aadUserConversationMember", "id": format!("MCMjM{number}=="), "displayName": name_of(person),
        "userId": person, "email": format!("{}@contoso.example", name_of(person).to_lowercase()), "roles": roles, "tenantId": known::GRAPH_TENANT,
        "visibleHistoryStartDateTime": "0001-01-01T00:00:00Z" })
}

fn name_of(person: &str) -> String {
    match person.chars().last() {
        Some('1') => "Ann".into(),
        Some('2') => "Bo".into(),
        _ => format!("Person {}", person.chars().rev().take(3).collect::<String>()),
    }
}

/// A membership as callers give it: the type, the roles and a reference to the person.
pub(super) fn from_body(number: u64, body: &Value) -> Result<Value, Reply> {
    if body["@odata.type"].as_str().is_none_or(|kind| !kind.ends_with("aadUserConversationMember")) {
        return Err(bad_request("A member needs its @odata.type."));
    }
    let person = body["user@odata.bind"].as_str().and_then(|bind| bind.split_once("users('")?.1.split_once("')"));
    let (person, _) = person.ok_or_else(|| bad_request("Invalid bind property name in the member."))?;
    let roles: Vec<&str> = body["roles"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if roles.iter().any(|role| !matches!(*role, "owner" | "guest")) {
        return Err(bad_request("Invalid role specified for member."));
    }
    Ok(member(number, &person.replace("''", "'"), &roles))
}

/// `…/members[/{id}]`.
pub(super) fn members(all: &mut Vec<Value>, number: u64, method: &str, rest: &[&str], req: &Req) -> Answer {
    match (method, rest) {
        ("GET", []) => rows::list(req, all.clone(), PLAIN),
        ("POST", []) => {
            let body = json_body(req)?;
            let mut new = from_body(number, &body)?;
            if let Some(known) = all.iter_mut().find(|known| known["userId"] == new["userId"]) {
                known["roles"] = new["roles"].take();
                return Ok(Reply::json(201, known));
            }
            all.push(new.clone());
            Ok(Reply::json(201, &new))
        }
        (_, [id]) => {
            let at = all.iter().position(|one| one["id"] == *id).ok_or_else(|| gone("The member was"))?;
            let is_last_owner = all[at]["roles"][0] == "owner" && all.iter().filter(|one| one["roles"][0] == "owner").count() == 1;
            match method {
                "GET" => rows::one(req, &all[at]),
                "PATCH" => {
                    rows::merge(&mut all[at], &json_body(req)?, &["roles"]);
                    rows::one(req, &all[at])
                }
                "DELETE" if is_last_owner => Err(error(403, "Forbidden", "The last owner cannot be removed.")),
                "DELETE" => {
                    all.remove(at);
                    Ok(Reply::empty(204))
                }
                _ => Err(unknown_segment()),
            }
        }
        _ => Err(unknown_segment()),
    }
}

impl MsGraph {
    /// `/users/{u}/joinedTeams` and `/users/{u}/chats…`. Whoever the mailbox is counts as the known person.
    pub(in super::super) fn teams_of(&self, state: &mut State, _user: &str, method: &str, rest: &[&str], req: &Req) -> Option<Answer> {
        let is_in = |members: &[Value]| members.iter().any(|member| member["userId"] == known::GRAPH_PERSON);
        Some(match (method, rest) {
            ("GET", ["joinedTeams"]) => self.permitted(req, &["Team.ReadBasic.All"], "Forbidden").and_then(|()| {
                let teams = state.teams.teams.values().filter(|team| is_in(&team.members)).map(|team| team.head.clone()).collect();
                rows::list(req, teams, PLAIN)
            }),
            ("GET", ["chats"]) => self.permitted(req, &["Chat.ReadBasic.All", "Chat.Read.All", "Chat.ReadBasic"], "Forbidden").and_then(|()| {
                let chats = state.teams.chats.values().filter(|chat| is_in(&chat.members)).map(|chat| shown(chat, req)).collect();
                rows::list(req, chats, Listing { page: (20, 50), queries: true })
            }),
            ("GET", ["chats", "getAllMessages"]) => self.permitted(req, &["Chat.Read.All"], "Forbidden").and_then(|()| {
                let chats = state.teams.chats.values().filter(|chat| is_in(&chat.members));
                rows::list(req, chats.flat_map(|chat| chat.messages.all().cloned()).collect(), Listing { page: (20, 50), queries: true })
            }),
            _ => return None,
        })
    }

    /// `/chats…`. <https://learn.microsoft.com/graph/api/resources/chat>
    pub(in super::super) fn chats(&self, state: &mut State, method: &str, rest: &[&str], req: &Req) -> Answer {
        match (method, rest) {
            ("POST", []) => {
                self.permitted(req, &["Chat.Create"], "Forbidden")?;
                self.create_chat(state, &json_body(req)?)
            }
            ("GET", [id]) => {
                self.permitted(req, &["Chat.ReadBasic.All", "Chat.Read.All", "Chat.ReadBasic"], "Forbidden")?;
                let chat = state.teams.chat(id)?;
                rows::one(req, &shown(chat, req))
            }
            ("PATCH", [id]) => {
                self.permitted(req, &["Chat.ReadWrite.All", "Chat.ReadWrite"], "Forbidden")?;
                let chat = state.teams.chat(id)?;
                if chat.head["chatType"] != "group" {
                    return Err(bad_request("The topic can only be set on a group chat."));
                }
                rows::merge(&mut chat.head, &json_body(req)?, &["topic"]);
                rows::one(req, &chat.head)
            }
            (_, [id, "members", rest @ ..]) => {
                let needed: &[&str] =
                    if method == "GET" { &["ChatMember.Read.All", "ChatMember.ReadWrite.All"] } else { &["ChatMember.ReadWrite.All"] };
                self.permitted(req, needed, "Forbidden")?;
                let number = state.teams.number();
                let answer = members(&mut state.teams.chat(id)?.members, number, method, rest, req)?;
                // Adding somebody to a chat answers without a body. https://learn.microsoft.com/graph/api/chat-post-members
                Ok(if method == "POST" { Reply::empty(201) } else { answer })
            }
            (_, [id, "messages", rest @ ..]) => self.chat_messages(state, id, method, rest, req),
            (_, [id, "pinnedMessages", rest @ ..]) => self.pinned(state, id, method, rest, req),
            _ => Err(unknown_segment()),
        }
    }

    /// Between two people there is one chat.
    fn create_chat(&self, state: &mut State, body: &Value) -> Answer {
        let kind = rows::required(body, "chatType")?.as_str().unwrap_or_default().to_owned();
        let mut members = Vec::new();
        for one in rows::required(body, "members")?.as_array().into_iter().flatten() {
            members.push(from_body(state.teams.number(), one)?);
        }
        if members.len() < 2 || (kind == "oneOnOne" && members.len() != 2) {
            return Err(bad_request("A chat needs its members: two of them, or more in a group."));
        }
        let people = |members: &[Value]| {
            let mut all: Vec<String> = members.iter().filter_map(|member| member["userId"].as_str().map(str::to_owned)).collect();
            all.sort();
            all
        };
        if kind == "oneOnOne"
            && let Some(known) =
                state.teams.chats.values().find(|chat| chat.head["chatType"] == "oneOnOne" && people(&chat.members) == people(&members))
        {
            return Ok(Reply::json(201, &known.head));
        }
        let id = format!("19:chat{}@thread.v2", state.teams.number());
        let now = rfc3339_millis(self.shared.clock.now());
        let head = json!({ "id": id, "topic": body["topic"], "chatType": kind, "createdDateTime": now, "lastUpdatedDateTime": now,
            "tenantId": known::GRAPH_TENANT, "webUrl": "https://teams.microsoft.com/l/chat" });
        state.teams.chats.insert(id.clone(), Chat { head: head.clone(), members, ..Chat::default() });
        self.shared.record(Entry::new("msgraph", EffectKind::ChatChannelChanged, &id).detail(json!("chat created")));
        Ok(Reply::json(201, &head))
    }

    fn pinned(&self, state: &mut State, id: &str, method: &str, rest: &[&str], req: &Req) -> Answer {
        let needed: &[&str] =
            if method == "GET" { &["Chat.Read.All", "Chat.ReadWrite.All"] } else { &["Chat.ReadWrite.All", "Chat.ReadWrite", "ChatMessage.Send"] };
        self.permitted(req, needed, "Forbidden")?;
        let chat = state.teams.chat(id)?;
        match (method, rest) {
            ("GET", []) => rows::whole(req, chat.pinned.iter().map(|id| json!({ "id": id })).collect()),
            ("POST", []) => {
                let body = json_body(req)?;
                let message = body["message@odata.bind"].as_str().and_then(|bind| bind.rsplit_once("/messages/")).map(|(_, id)| id.to_owned());
                let message = message.ok_or_else(|| bad_request("The message to pin is missing."))?;
                chat.messages.get(&message).ok_or_else(|| gone("The message was"))?;
                if !chat.pinned.contains(&message) {
                    chat.pinned.push(message.clone());
                }
                Ok(Reply::json(201, &json!({ "id": message })))
            }
            ("DELETE", [message]) => {
                let before = chat.pinned.len();
                chat.pinned.retain(|one| one != message);
                if chat.pinned.len() == before { Err(gone("The pinned message was")) } else { Ok(Reply::empty(204)) }
            }
            _ => Err(unknown_segment()),
        }
    }
}

/// A chat, with its members where they are wanted.
fn shown(chat: &Chat, req: &Req) -> Value {
    let mut head = chat.head.clone();
    if req.q("$expand").is_some_and(|expand| expand.contains("members")) {
        head["members"] = chat.members.clone().into();
    }
    head
}
