//! Messages of channels and chats: only people write, twice written is there twice, cards must be named in the text.
//! <https://learn.microsoft.com/graph/api/resources/chatmessage>

use super::super::compose::json_body;
use super::super::rows::{self, Listing, Shelf, TEAMS};
use super::super::subscriptions::Happened;
use super::super::wire::{self, bad_request, error};
use super::super::{MsGraph, State, unknown_segment};
use super::{MESSAGES, gone};
use crate::auth::known;
use crate::clock::rfc3339_millis;
use crate::exchange::{Answer, Reply, Req};
use crate::ledger::{EffectKind, Entry};
use serde_json::{Value, json};

/// About the most one message takes, bytes (unverified).
const MOST: usize = 28 * 1024;

/// Where messages are: what their notifications are about, and how their effects are called.
struct Place {
    topic: String,
    path: String,
    name: String,
    identity: Value,
}

impl Place {
    fn channel(team: &str, channel: &str) -> Self {
        Self {
            topic: format!("teams/{team}/channels/{channel}/messages"),
            path: format!("teams('{team}')/channels('{channel}')/messages"),
            name: channel.to_owned(),
            identity: json!({ "channelIdentity": { "teamId": team, "channelId": channel }, "chatId": null }),
        }
    }

    fn chat(chat: &str) -> Self {
        Self {
            topic: format!("chats/{chat}/messages"),
            path: format!("chats('{chat}')/messages"),
            name: chat.to_owned(),
            identity: json!({ "channelIdentity": null, "chatId": chat }),
        }
    }
}

impl MsGraph {
    pub(super) fn channel_messages(&self, state: &mut State, team: &str, channel: &str, method: &str, rest: &[&str], req: &Req) -> Answer {
        let read: &[&str] = &["ChannelMessage.Read.All", "ChannelMessage.Read.Group"];
        let roots = |shelf: &Shelf, of: Option<&str>| -> Vec<Value> {
            shelf.all().rev().filter(|message| message["replyToId"].as_str() == of).cloned().collect()
        };
        match (method, rest) {
            ("GET", []) => {
                self.permitted(req, read, "Forbidden")?;
                let shelf = &state.teams.channel(team, channel)?.messages;
                let mut all = roots(shelf, None);
                if req.q("$expand") == Some("replies") {
                    for message in &mut all {
                        message["replies"] = roots(shelf, message["id"].as_str()).into();
                    }
                }
                rows::list(req, all, MESSAGES)
            }
            ("GET", ["delta"]) => {
                self.permitted(req, read, "Forbidden")?;
                let shelf = &state.teams.channel(team, channel)?.messages;
                let since = req.q("$filter").map(since).transpose()?;
                let wanted = |message: &Value, round: &rows::Round| {
                    let since = since.clone().or_else(|| round.options.get("$filter").and_then(|text| self::since(text).ok()));
                    let modified = message["lastModifiedDateTime"].as_str().unwrap_or_default();
                    (message["replyToId"].is_null() && since.is_none_or(|since| modified > &*since)).then(|| rows::shown(message.clone()))
                };
                rows::delta(req, shelf, TEAMS, &["$filter"], wanted, |id| json!({ "id": id, "@removed": { "reason": "deleted" } }))
            }
            ("GET", [id]) => {
                self.permitted(req, read, "Forbidden")?;
                rows::one(req, state.teams.channel(team, channel)?.messages.get(id).ok_or_else(|| gone("The message was"))?)
            }
            ("GET", [id, "replies"]) => {
                self.permitted(req, read, "Forbidden")?;
                let shelf = &state.teams.channel(team, channel)?.messages;
                shelf.get(id).ok_or_else(|| gone("The message was"))?;
                rows::list(req, roots(shelf, Some(id)), MESSAGES)
            }
            ("POST", []) => {
                self.writes(req, "ChannelMessage.Send")?;
                self.write_message(state, &Place::channel(team, channel), None, req, |state| {
                    state.teams.channel(team, channel).map(|one| &mut one.messages)
                })
            }
            ("POST", [id, "replies"]) => {
                self.writes(req, "ChannelMessage.Send")?;
                state.teams.channel(team, channel)?.messages.get(id).ok_or_else(|| gone("The message was"))?;
                self.write_message(state, &Place::channel(team, channel), Some(id), req, |state| {
                    state.teams.channel(team, channel).map(|one| &mut one.messages)
                })
            }
            ("POST", [id, action]) => {
                let permission = if action.contains("oftDelete") { "ChannelMessage.ReadWrite" } else { "ChannelMessage.Send" };
                self.writes(req, permission)?;
                self.act(state, &Place::channel(team, channel), id, action, req, |state| {
                    state.teams.channel(team, channel).map(|one| &mut one.messages)
                })
            }
            _ => Err(unknown_segment()),
        }
    }

    pub(super) fn chat_messages(&self, state: &mut State, chat: &str, method: &str, rest: &[&str], req: &Req) -> Answer {
        let read: &[&str] = &["Chat.Read.All", "Chat.Read", "Chat.ReadWrite", "ChatMessage.Read.Chat"];
        match (method, rest) {
            ("GET", []) => {
                self.permitted(req, read, "Forbidden")?;
                let all = state.teams.chat(chat)?.messages.all().rev().cloned().collect();
                rows::list(req, all, Listing { queries: true, ..MESSAGES })
            }
            ("GET", [id]) => {
                self.permitted(req, read, "Forbidden")?;
                rows::one(req, state.teams.chat(chat)?.messages.get(id).ok_or_else(|| gone("The message was"))?)
            }
            ("POST", []) => {
                self.writes(req, "ChatMessage.Send")?;
                self.write_message(state, &Place::chat(chat), None, req, |state| state.teams.chat(chat).map(|one| &mut one.messages))
            }
            ("POST", [id, action]) => {
                self.writes(req, "ChatMessage.Send")?;
                self.act(state, &Place::chat(chat), id, action, req, |state| state.teams.chat(chat).map(|one| &mut one.messages))
            }
            _ => Err(unknown_segment()),
        }
    }

    /// Only people write; an app alone gets what Teams says to it (the status is second-hand).
    fn writes(&self, req: &Req, permission: &str) -> Result<(), Reply> {
        if self.is_person(req) {
            return self.person(req, permission, "Forbidden");
        }
        let text = "Message POST is allowed in application-only context only for import purposes. Refer to https://docs.microsoft.com/microsoftteams/platform/graph-api/import-messages/import-external-messages-to-teams for more details.";
        Err(error(401, "Unauthorized", text))
    }

    fn write_message(
        &self,
        state: &mut State,
        place: &Place,
        reply_to: Option<&str>,
        req: &Req,
        shelf: impl Fn(&mut State) -> Result<&mut Shelf, Reply>,
    ) -> Answer {
        let body = json_body(req)?;
        let content = body["body"]["content"].as_str().filter(|content| !content.is_empty()).ok_or_else(|| bad_request("Missing body content."))?;
        let attachments = body["attachments"].as_array().cloned().unwrap_or_default();
        for one in &attachments {
            let id = one["id"].as_str().unwrap_or_default();
            if id.is_empty() || !content.contains(&format!("<attachment id=\"{id}\">")) {
                return Err(bad_request("Invalid request body was sent: an attachment is not named in the body's content."));
            }
            let is_card = one["contentType"] == "application/vnd.microsoft.card.adaptive";
            if is_card && one["content"].as_str().is_none_or(|card| serde_json::from_str::<Value>(card).is_err()) {
                return Err(bad_request("The card's content must be JSON in a string."));
            }
        }
        if !attachments.is_empty() && body["body"]["contentType"] != "html" {
            return Err(bad_request("Attachments need a body of contentType html."));
        }
        if req.body.len() > MOST {
            return Err(error(413, "RequestEntityTooLarge", "The message is too large."));
        }
        let now = self.shared.clock.now();
        let number = state.teams.number();
        let shelf = shelf(state)?;
        // Ids are milliseconds; the fake's clock may stand still.
        let id = (u64::try_from(now.as_millisecond()).unwrap_or(0) + number).to_string();
        let text = rfc3339_millis(now);
        let mut message = json!({
            "id": id, "replyToId": reply_to, "etag": id, "messageType": "message", "createdDateTime": text, "lastModifiedDateTime": text,
            "lastEditedDateTime": null, "deletedDateTime": null, "subject": body["subject"], "importance": body["importance"].as_str().unwrap_or("normal"),
            "locale": "en-us", "webUrl": format!("https://teams.microsoft.com/l/message/{id}"),
            "from": { "user": { "id": known::GRAPH_PERSON, "displayName": "Ann", "userIdentityType": "aadUser" } },
            "body": { "contentType": body["body"]["contentType"].as_str().unwrap_or("text"), "content": rewritten(&body["body"]) },
            "attachments": attachments, "mentions": body["mentions"].as_array().cloned().unwrap_or_default(), "reactions": [],
        });
        rows::merge(&mut message, &place.identity, &["channelIdentity", "chatId"]);
        shelf.put(&id, message.clone());
        let entry = Entry::new("msgraph", EffectKind::ChatPosted, format!("{}:{id}", place.name)).parent(reply_to.map(str::to_owned));
        self.shared.record(entry.detail(json!({ "text": wire::strip_tags(content) })));
        self.tell_message(state, place, &message, "created");
        Ok(Reply::json(201, &message))
    }

    fn act(
        &self,
        state: &mut State,
        place: &Place,
        id: &str,
        action: &str,
        req: &Req,
        shelf: impl Fn(&mut State) -> Result<&mut Shelf, Reply>,
    ) -> Answer {
        let body = json_body(req)?;
        let now = rfc3339_millis(self.shared.clock.now());
        let shelf = shelf(state)?;
        let mut message = shelf.get(id).cloned().ok_or_else(|| gone("The message was"))?;
        let version = shelf.next();
        let reaction = || body["reactionType"].as_str().filter(|kind| !kind.is_empty()).ok_or_else(|| bad_request("The reactionType is missing."));
        match action {
            "softDelete" => message["deletedDateTime"] = now.clone().into(),
            "undoSoftDelete" => message["deletedDateTime"] = Value::Null,
            "setReaction" | "unsetReaction" => {
                let kind = reaction()?;
                let reactions = message["reactions"].as_array_mut().ok_or_else(unknown_segment)?;
                reactions.retain(|one| one["reactionType"] != kind);
                if action == "setReaction" {
                    reactions.push(json!({ "reactionType": kind, "createdDateTime": now, "user": { "user": { "id": known::GRAPH_PERSON } } }));
                }
            }
            _ => return Err(unknown_segment()),
        }
        message["lastModifiedDateTime"] = now.into();
        message["etag"] = format!("{id}.{version}").into();
        shelf.put(id, message.clone());
        let kind = if action.ends_with("eaction") { EffectKind::ChatMarked } else { EffectKind::ChatChanged };
        self.shared.record(Entry::new("msgraph", kind, format!("{}:{id}", place.name)).detail(json!(action)));
        self.tell_message(state, place, &message, if action == "softDelete" { "deleted" } else { "updated" });
        Ok(Reply::empty(204))
    }

    fn tell_message(&self, state: &State, place: &Place, message: &Value, change: &'static str) {
        let id = message["id"].as_str().unwrap_or_default();
        let path = format!("{}('{id}')", place.path);
        let etag = message["etag"].as_str();
        self.tell(state, &Happened { topic: place.topic.clone(), change, kind: "#Microsoft.Graph.chatMessage", path, id, etag });
    }

    /// Somebody writes into a channel. `None`: there is no such channel.
    pub fn say_in_channel(&self, team: &str, channel: &str, text: &str) -> Option<String> {
        let body = json!({ "body": { "contentType": "html", "content": text } });
        let req = Req::new(http::Method::POST, String::new(), "", http::HeaderMap::new(), body.to_string().into());
        let mut state = crate::ledger::lock(&self.state);
        let reply = self.write_message(&mut state, &Place::channel(team, channel), None, &req, |state| {
            state.teams.channel(team, channel).map(|one| &mut one.messages)
        });
        serde_json::from_slice::<Value>(&reply.ok()?.body).ok()?["id"].as_str().map(str::to_owned)
    }
}

/// Teams writes HTML anew.
fn rewritten(body: &Value) -> Value {
    let content = body["content"].as_str().unwrap_or_default();
    if body["contentType"] == "html" && !content.starts_with('<') { format!("<p>{content}</p>").into() } else { content.into() }
}

/// `lastModifiedDateTime gt X` is the only filter a delta of messages takes.
fn since(filter: &str) -> Result<String, Reply> {
    let text = filter.strip_prefix("lastModifiedDateTime gt ").ok_or_else(|| bad_request("Only lastModifiedDateTime gt is supported."))?;
    let at = wire::instant(text).ok_or_else(|| bad_request("The filter's value is no date."))?;
    Ok(rfc3339_millis(at))
}
