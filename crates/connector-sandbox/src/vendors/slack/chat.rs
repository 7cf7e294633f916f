//! `chat.*`: writing, changing, deleting, scheduling.

use super::args::Args;
use super::store::{Message, Scheduled, Store, page, ts_read, ts_text};
use super::{APP, BOT, BOT_USER, Caller, Kind, Outcome, Refusal, Slack, TEAM};
use crate::ledger::{EffectKind, Entry};
use serde_json::{Value, json};

/// The longest text.
const LONGEST: usize = 40_000;
/// How far ahead a message may be scheduled, in seconds.
const AHEAD: i64 = 120 * 86_400;

impl Slack {
    pub(super) fn chat(&self, store: &mut Store, name: &str, caller: &Caller, args: &Args) -> Outcome {
        match name {
            "postMessage" => self.post_message(store, caller, args),
            "meMessage" => {
                let mut body = content(caller, args)?;
                body["subtype"] = "me_message".into();
                let channel = self.writable(store, caller, &args.need("channel")?)?;
                let ts = self.write(store, &channel, message(caller, body));
                Ok(json!({"channel": channel, "ts": ts_text(ts)}))
            }
            "postEphemeral" => {
                let (body, user) = (content(caller, args)?, args.need("user")?);
                let channel = self.writable(store, caller, &args.need("channel")?)?;
                if !store.channels.get(&channel).is_some_and(|channel| channel.members.contains(&user)) {
                    return Err("user_not_in_channel".into());
                }
                let ts = store.ts(self.shared.clock.now());
                let shown = Message { only_for: Some(user), ..message(caller, body) };
                store.channels.entry(channel).and_modify(|channel| drop(channel.messages.insert(ts, shown)));
                Ok(json!({"message_ts": ts_text(ts)}))
            }
            "update" => self.update(store, caller, args),
            "delete" => self.delete(store, caller, args),
            "scheduleMessage" => self.schedule(store, caller, args),
            "deleteScheduledMessage" => {
                let (channel, id) = (args.need("channel")?, args.need("scheduled_message_id")?);
                store.scheduled.get(&id).filter(|waiting| waiting.channel == channel).ok_or("invalid_scheduled_message_id")?;
                store.scheduled.remove(&id);
                Ok(json!({}))
            }
            "scheduledMessages.list" => scheduled(store, args),
            "getPermalink" => {
                let (channel, ts) = (args.need("channel")?, args.need("message_ts")?);
                found(store, caller, &channel, &ts)?;
                Ok(json!({"channel": channel, "permalink": permalink(&channel, &ts)}))
            }
            "unfurl" => {
                let unfurls = args.tree("unfurls").and_then(|tree| tree.as_object().cloned()).ok_or("missing_unfurls")?;
                let (channel, ts) = (args.need("channel")?, args.need("ts")?);
                let (id, at) = found(store, caller, &channel, &ts)?;
                let message = store.channels.get_mut(&id).and_then(|channel| channel.messages.get_mut(&at)).ok_or("message_not_found")?;
                if unfurls.keys().any(|link| !message.text().contains(link.as_str())) {
                    return Err("cannot_unfurl_url".into());
                }
                message.body["attachments"] = unfurls
                    .into_iter()
                    .map(|(link, mut shown)| {
                        shown["from_url"] = link.into();
                        shown
                    })
                    .collect::<Vec<_>>()
                    .into();
                Ok(json!({}))
            }
            _ => Err("unknown_method".into()),
        }
    }

    /// Where the caller may write: a channel it is in, or any public one, as `chat:write.public` allows apps.
    fn writable(&self, store: &mut Store, caller: &Caller, named: &str) -> Result<String, Refusal> {
        let id = store.place(named, caller.user, self.shared.clock.now())?;
        let member = store.channels.get(&id).is_some_and(|channel| channel.members.contains(caller.user));
        if !member && caller.kind != Kind::Bot {
            return Err("not_in_channel".into());
        }
        Ok(id)
    }

    fn post_message(&self, store: &mut Store, caller: &Caller, args: &Args) -> Outcome {
        let body = content(caller, args)?;
        let channel = self.writable(store, caller, &args.need("channel")?)?;
        let parent = args.text("thread_ts").map(|ts| ts_read(&ts).ok_or("invalid_thread_ts")).transpose()?;
        let parent = parent.map(|ts| thread_of(store, &channel, ts)).transpose()?;
        let written = Message {
            metadata: args.tree("metadata"),
            parent,
            broadcast: parent.is_some() && args.flag("reply_broadcast") == Some(true),
            ..message(caller, body)
        };
        let ts = self.write(store, &channel, written);
        let shown = store.channels.get(&channel).and_then(|place| Some(place.shown(ts, place.messages.get(&ts)?, true)));
        Ok(json!({"channel": channel, "ts": ts_text(ts), "message": shown}))
    }

    /// Puts a message there, writes it into the ledger, and tells of it.
    pub(super) fn write(&self, store: &mut Store, channel: &str, written: Message) -> u64 {
        let ts = store.ts(self.shared.clock.now());
        let key = written.metadata.as_ref().and_then(|metadata| metadata.pointer("/event_payload/key")?.as_str().map(str::to_owned));
        let entry = Entry::new("slack", EffectKind::ChatPosted, format!("{channel}:{}", ts_text(ts))).key(key);
        self.shared.record(entry.parent(written.parent.map(ts_text)).detail(json!({"user": written.user, "text": written.text()})));
        let Some(place) = store.channels.get_mut(channel) else { return ts };
        let sort = place.sort;
        place.messages.insert(ts, written);
        let mut event = place.messages.get(&ts).map(|one| place.shown(ts, one, false)).unwrap_or_default();
        event["channel"] = channel.into();
        event["event_ts"] = ts_text(ts).into();
        event["channel_type"] = sort.event_name().into();
        store.events.push(event);
        ts
    }

    fn update(&self, store: &mut Store, caller: &Caller, args: &Args) -> Outcome {
        let (channel, at) = found(store, caller, &args.need("channel")?, &args.need("ts")?)?;
        let new = content(caller, args)?;
        let now = store.ts(self.shared.clock.now());
        let place = store.channels.get_mut(&channel).ok_or("channel_not_found")?;
        let sort = place.sort;
        let message = place.messages.get(&at).ok_or("message_not_found")?;
        if message.user != caller.user {
            return Err("cant_update_message".into());
        }
        let before = place.shown(at, message, false);
        if let Some(message) = place.messages.get_mut(&at) {
            for name in ["text", "blocks", "attachments"] {
                if let Some(value) = new.get(name) {
                    message.body[name] = value.clone();
                }
            }
            message.body["edited"] = json!({"user": caller.user, "ts": ts_text(now)});
        }
        let after = place.messages.get(&at).map(|message| place.shown(at, message, false)).unwrap_or_default();
        let text = after["text"].clone();
        self.shared.record(Entry::new("slack", EffectKind::ChatChanged, format!("{channel}:{}", ts_text(at))).detail(json!({"text": text})));
        store.events.push(json!({"type": "message", "subtype": "message_changed", "channel": channel, "channel_type": sort.event_name(),
            "message": after, "previous_message": before, "ts": ts_text(now), "event_ts": ts_text(now)}));
        Ok(json!({"channel": channel, "ts": ts_text(at), "text": text, "message": after}))
    }

    fn delete(&self, store: &mut Store, caller: &Caller, args: &Args) -> Outcome {
        let (channel, at) = found(store, caller, &args.need("channel")?, &args.need("ts")?)?;
        let now = store.ts(self.shared.clock.now());
        let place = store.channels.get_mut(&channel).ok_or("channel_not_found")?;
        let sort = place.sort;
        let message = place.messages.get(&at).ok_or("message_not_found")?;
        if message.user != caller.user {
            return Err("cant_delete_message".into());
        }
        let before = place.shown(at, message, false);
        place.messages.remove(&at);
        place.pins.remove(&at);
        self.shared.record(Entry::new("slack", EffectKind::ChatChanged, format!("{channel}:{}", ts_text(at))).detail(json!({"deleted": true})));
        store.events.push(json!({"type": "message", "subtype": "message_deleted", "channel": channel, "channel_type": sort.event_name(),
            "deleted_ts": ts_text(at), "previous_message": before, "ts": ts_text(now), "event_ts": ts_text(now)}));
        Ok(json!({"channel": channel, "ts": ts_text(at)}))
    }

    fn schedule(&self, store: &mut Store, caller: &Caller, args: &Args) -> Outcome {
        let body = content(caller, args)?;
        let channel = self.writable(store, caller, &args.need("channel")?)?;
        let now = self.shared.clock.now().as_second();
        let post_at = args.number("post_at").ok_or("invalid_time")?;
        if post_at <= now {
            return Err("time_in_past".into());
        }
        if post_at > now + AHEAD {
            return Err("time_too_far".into());
        }
        if store.scheduled.values().filter(|one| one.channel == channel && (one.post_at - post_at).abs() <= 300).count() >= 30 {
            return Err("restricted_too_many".into());
        }
        let parent = args.text("thread_ts").map(|ts| ts_read(&ts).ok_or("invalid_thread_ts")).transpose()?;
        let parent = parent.map(|ts| thread_of(store, &channel, ts)).transpose()?;
        let id = format!("Q0HUB{}", store.next());
        store.scheduled.insert(id.clone(), Scheduled { id: id.clone(), channel: channel.clone(), post_at, created: now, body: body.clone(), parent });
        Ok(json!({"channel": channel, "scheduled_message_id": id, "post_at": post_at, "message": body}))
    }

    /// Writes what was scheduled for a moment that has come.
    pub(super) fn post_due(&self, store: &mut Store) {
        let now = self.shared.clock.now().as_second();
        let due: Vec<String> = store.scheduled.values().filter(|waiting| waiting.post_at <= now).map(|waiting| waiting.id.clone()).collect();
        for id in due {
            if let Some(Scheduled { channel, body, parent, .. }) = store.scheduled.remove(&id) {
                let user = body["user"].as_str().unwrap_or(BOT_USER).to_owned();
                let message = Message { user, body, metadata: None, parent, broadcast: false, reactions: Vec::new(), only_for: None };
                self.write(store, &channel, message);
            }
        }
    }
}

fn message(caller: &Caller, body: Value) -> Message {
    Message { user: caller.user.to_owned(), body, metadata: None, parent: None, broadcast: false, reactions: Vec::new(), only_for: None }
}

/// What a call says, as a message shows it.
fn content(caller: &Caller, args: &Args) -> Outcome {
    let (text, markdown) = (args.text("text"), args.text("markdown_text"));
    let (blocks, attachments) = (args.tree("blocks"), args.tree("attachments"));
    if markdown.is_some() && (text.is_some() || blocks.is_some()) {
        return Err("markdown_text_conflict".into());
    }
    let long = |text: &Option<String>, most: usize| text.as_ref().is_some_and(|text| text.chars().count() > most);
    if long(&text, LONGEST) || long(&markdown, 12_000) {
        return Err("msg_too_long".into());
    }
    let text = text.or(markdown);
    let count = |tree: &Option<Value>| tree.as_ref().and_then(Value::as_array).map_or(0, Vec::len);
    if count(&blocks) > 50 || blocks.as_ref().is_some_and(|blocks| blocks.as_array().is_none_or(|all| all.iter().any(|one| one["type"].is_null()))) {
        return Err("invalid_blocks".into());
    }
    if count(&attachments) > 100 {
        return Err("too_many_attachments".into());
    }
    if text.is_none() && count(&blocks) == 0 && count(&attachments) == 0 {
        return Err("no_text".into());
    }
    let mut body = json!({"type": "message", "user": caller.user, "text": text.unwrap_or_default(), "team": TEAM});
    if caller.kind == Kind::Bot {
        body["bot_id"] = BOT.into();
        body["app_id"] = APP.into();
    }
    for (name, value) in [("blocks", blocks), ("attachments", attachments)] {
        if let Some(value) = value {
            body[name] = value;
        }
    }
    if let Some(username) = args.text("username") {
        body["username"] = username.into();
    }
    Ok(body)
}

/// The thread a message belongs to: its own, or its parent's.
fn thread_of(store: &Store, channel: &str, ts: u64) -> Result<u64, Refusal> {
    let message = store.channels.get(channel).and_then(|channel| channel.messages.get(&ts)).filter(|message| message.only_for.is_none());
    message.map(|message| message.parent.unwrap_or(ts)).ok_or_else(|| "cannot_reply_to_message".into())
}

/// A message that everybody in the channel sees.
pub(super) fn found(store: &Store, caller: &Caller, channel: &str, ts: &str) -> Result<(String, u64), Refusal> {
    let place = store.channel(channel, caller.user)?;
    let at = ts_read(ts).ok_or("message_not_found")?;
    place.messages.get(&at).filter(|message| message.only_for.is_none()).ok_or("message_not_found")?;
    Ok((place.id.clone(), at))
}

pub(super) fn permalink(channel: &str, ts: &str) -> String {
    format!("https://acme.slack.com/archives/{channel}/p{}", ts.replace('.', ""))
}

fn scheduled(store: &Store, args: &Args) -> Outcome {
    let (channel, oldest, latest) = (args.text("channel"), args.number("oldest"), args.number("latest"));
    let all: Vec<Value> = store
        .scheduled
        .values()
        .filter(|one| channel.as_ref().is_none_or(|channel| *channel == one.channel))
        .filter(|one| oldest.is_none_or(|oldest| one.post_at >= oldest) && latest.is_none_or(|latest| one.post_at <= latest))
        .map(|one| json!({"id": one.id, "channel_id": one.channel, "post_at": one.post_at, "date_created": one.created, "text": one.body["text"]}))
        .collect();
    let (all, next) = page(all, args.text("cursor"), args.limit(100, 1000))?;
    Ok(json!({"scheduled_messages": all, "response_metadata": {"next_cursor": next}}))
}
