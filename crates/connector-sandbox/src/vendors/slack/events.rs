//! What the app hears: events of what happens in its channels, slash commands and interactions, to Socket Mode if a connection is open and
//! else signed to the webhook; and what it answers to a `response_url`. <https://docs.slack.dev/apis/events-api>

use super::seed::said;
use super::socket::Work;
use super::store::{Answerable, Message, Store, ts_read, ts_text};
use super::{APP, BOT_USER, Slack, TEAM};
use crate::auth::known;
use crate::exchange::{Reply, Req};
use crate::ledger::{EffectKind, Entry, lock};
use crate::notify::{Delivery, Signing};
use bytes::Bytes;
use jiff::SignedDuration;
use serde_json::{Value, json};

/// How long a trigger is good.
const TRIGGER: SignedDuration = SignedDuration::from_secs(3);
/// How long and how often a `response_url` is good.
const ANSWER_S: i64 = 1800;
const ANSWERS: u32 = 5;
/// The token of old, which still comes with everything and proves nothing.
const OLD_TOKEN: &str = "sandbox-slack-verification-token";

impl Slack {
    /// Sends the events gathered during a request: those of channels the app is in, and those of none.
    pub(super) fn flush(&self, store: &mut Store) {
        let now = self.shared.clock.now().as_second();
        for event in std::mem::take(&mut store.events) {
            let named = ["/channel", "/channel/id", "/channel_id", "/item/channel"].iter().find_map(|at| event.pointer(at)?.as_str());
            let hears = named.and_then(|id| store.channels.get(id)).is_none_or(|channel| {
                channel.members.contains(BOT_USER) || matches!(event["type"].as_str(), Some("channel_created" | "channel_rename" | "channel_archive"))
            });
            if !hears {
                continue;
            }
            let number = store.next();
            let envelope = json!({"token": OLD_TOKEN, "team_id": TEAM, "api_app_id": APP, "event": event, "type": "event_callback",
                "event_id": format!("Ev0HUB{number:06}"), "event_time": now, "is_ext_shared_channel": false,
                "authorizations": [{"enterprise_id": null, "team_id": TEAM, "user_id": BOT_USER, "is_bot": true}]});
            self.deliver(store, Work::Event, envelope);
        }
    }

    /// To an open socket, else to the webhook, else nowhere.
    fn deliver(&self, store: &Store, work: Work, payload: Value) {
        if self.sockets.take(work, &payload) {
            return;
        }
        let Some(url) = store.webhook.clone() else { return };
        let secret = known::SLACK_SIGNING_SECRET.to_owned();
        let (body, signing) = match work {
            Work::Event => (payload, Signing::SlackJson(secret)),
            Work::Command => (payload, Signing::SlackForm(secret)),
            Work::Interaction => (json!({"payload": payload.to_string()}), Signing::SlackForm(secret)),
        };
        self.shared.notifier.enqueue(Delivery { vendor: "slack", url, body, signing });
    }

    /// Somebody writes a message, in a thread if its parent's `ts` is given; the message's own `ts`. `None`: there is no such channel or
    /// parent.
    pub fn say(&self, user: &str, channel: &str, text: &str, thread_ts: Option<&str>) -> Option<String> {
        let mut store = lock(&self.store);
        let place = store.channels.get(channel)?;
        let parent = match thread_ts {
            Some(ts) => Some(ts_read(ts).filter(|ts| place.messages.contains_key(ts))?),
            None => None,
        };
        let ts = self.write(&mut store, channel, Message { parent, ..said(user, text) });
        self.flush(&mut store);
        Some(ts_text(ts))
    }

    /// Somebody reacts to a message; `false` if that cannot be.
    pub fn react(&self, user: &str, channel: &str, ts: &str, name: &str) -> bool {
        let mut store = lock(&self.store);
        let done = ts_read(ts).is_some_and(|at| self.react_as(&mut store, user, channel, at, name, true).is_ok());
        self.flush(&mut store);
        done
    }

    /// Somebody uses a slash command of the app; the trigger it can open a form with.
    pub fn slash_command(&self, user: &str, channel: &str, command: &str, text: &str) -> String {
        let mut store = lock(&self.store);
        let (trigger, answer) = self.prompt(&mut store, user, channel, None);
        let name = |id: &str| store.channels.get(id).map_or_else(String::new, |channel| channel.name.clone());
        let person = store.user(user).map_or_else(String::new, |user| user.name.clone());
        let payload = json!({"token": OLD_TOKEN, "team_id": TEAM, "team_domain": "acme", "channel_id": channel, "channel_name": name(channel),
            "user_id": user, "user_name": person, "command": command, "text": text, "api_app_id": APP, "is_enterprise_install": "false",
            "response_url": answer, "trigger_id": trigger});
        self.deliver(&store, Work::Command, payload);
        trigger
    }

    /// Somebody presses a button of the app's on a message; the trigger it can open a form with.
    pub fn press(&self, user: &str, channel: &str, ts: &str, action: &str, value: &str) -> String {
        let mut store = lock(&self.store);
        let at = ts_read(ts);
        let (trigger, answer) = self.prompt(&mut store, user, channel, at);
        let place = store.channels.get(channel);
        let message = place.zip(at).and_then(|(place, at)| Some(place.shown(at, place.messages.get(&at)?, false)));
        let now = self.shared.clock.now().as_second();
        let payload = json!({"type": "block_actions", "token": OLD_TOKEN, "user": {"id": user, "team_id": TEAM}, "team": {"id": TEAM, "domain": "acme"},
            "api_app_id": APP, "trigger_id": trigger, "response_url": answer, "container": {"type": "message", "message_ts": ts, "channel_id": channel},
            "channel": {"id": channel}, "message": message,
            "actions": [{"action_id": action, "block_id": "b1", "value": value, "type": "button", "action_ts": format!("{now}.1")}]});
        self.deliver(&store, Work::Interaction, payload);
        trigger
    }

    /// Slack says that it left events out.
    pub fn tell_rate_limited(&self) {
        let store = lock(&self.store);
        let minute = self.shared.clock.now().as_second() / 60 * 60;
        let payload = json!({"token": OLD_TOKEN, "type": "app_rate_limited", "team_id": TEAM, "minute_rate_limited": minute, "api_app_id": APP});
        self.deliver(&store, Work::Event, payload);
    }

    /// The messages of a channel as they are shown, the oldest first, what only one person sees included.
    pub fn messages(&self, channel: &str) -> Vec<Value> {
        let store = lock(&self.store);
        let Some(place) = store.channels.get(channel) else { return Vec::new() };
        place.messages.iter().map(|(ts, message)| place.shown(*ts, message, true)).collect()
    }

    /// A trigger and an address to answer to.
    fn prompt(&self, store: &mut Store, user: &str, channel: &str, message: Option<u64>) -> (String, String) {
        let (number, now) = (store.next(), self.shared.clock.now());
        let trigger = format!("{number}.77.{number:032x}");
        store.triggers.insert(trigger.clone(), now.saturating_add(TRIGGER).unwrap_or(now));
        let ticket = format!("T0ACME-{number:08}");
        let until = now.as_second() + ANSWER_S;
        let answerable = Answerable { channel: channel.to_owned(), user: user.to_owned(), until, uses: 0, message };
        store.answerable.insert(ticket.clone(), answerable);
        (trigger, format!("{}/hooks/response/{ticket}", self.base))
    }

    /// An answer to a `response_url`: five times in half an hour. The words of the refusals are unverified.
    pub(super) fn respond(&self, ticket: &str, req: &Req) -> Reply {
        let refused = |code: &str| Reply::json(404, &json!({"ok": false, "error": code}));
        let Ok(Value::Object(body)) = req.json() else { return Reply::bytes(400, "text/plain", Bytes::from_static(b"invalid_payload")) };
        let mut store = lock(&self.store);
        let now = self.shared.clock.now().as_second();
        let Some(place) = store.answerable.get_mut(ticket) else { return refused("no_such_url") };
        if now > place.until {
            return refused("expired_url");
        }
        if place.uses >= ANSWERS {
            return refused("used_url");
        }
        place.uses += 1;
        let place = place.clone();
        let flag = |name: &str| body.get(name) == Some(&Value::Bool(true));
        let text = body.get("text").and_then(Value::as_str).unwrap_or_default().to_owned();
        let kind = body.get("response_type").and_then(Value::as_str).unwrap_or("ephemeral");
        let detail = json!({"text": text, "response_type": kind, "replaced": flag("replace_original"), "deleted": flag("delete_original")});
        self.shared.record(Entry::new("slack", EffectKind::ChatAnswered, ticket).detail(detail));
        let original = |store: &mut Store| -> Option<(String, u64)> {
            Some((place.channel.clone(), place.message?)).filter(|(id, _)| store.channels.contains_key(id))
        };
        match (flag("delete_original"), flag("replace_original"), original(&mut store)) {
            (true, _, Some((id, at))) => drop(store.channels.get_mut(&id).and_then(|channel| channel.messages.remove(&at))),
            (_, true, Some((id, at))) => {
                if let Some(message) = store.channels.get_mut(&id).and_then(|channel| channel.messages.get_mut(&at)) {
                    message.body["text"] = text.into();
                    if let Some(blocks) = body.get("blocks") {
                        message.body["blocks"] = blocks.clone();
                    }
                }
            }
            _ => {
                let mut message = said(BOT_USER, &text);
                if let Some(blocks) = body.get("blocks") {
                    message.body["blocks"] = blocks.clone();
                }
                message.parent = body.get("thread_ts").and_then(Value::as_str).and_then(ts_read);
                if kind == "in_channel" {
                    self.write(&mut store, &place.channel, message);
                } else {
                    message.only_for = Some(place.user.clone());
                    let ts = store.ts(self.shared.clock.now());
                    if let Some(channel) = store.channels.get_mut(&place.channel) {
                        channel.messages.insert(ts, message);
                    }
                }
            }
        }
        self.flush(&mut store);
        Reply::bytes(200, "text/plain", Bytes::from_static(b"ok"))
    }
}
