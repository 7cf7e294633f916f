//! What is put on messages and channels: reactions, pins, bookmarks.

use super::args::Args;
use super::chat::{found, permalink};
use super::store::{Store, page, ts_text};
use super::{Caller, Outcome, Slack};
use crate::ledger::{EffectKind, Entry};
use serde_json::json;

/// Different reactions on one message.
const MOST_REACTIONS: usize = 23;

impl Slack {
    pub(super) fn marks(&self, store: &mut Store, family: &str, name: &str, caller: &Caller, args: &Args) -> Outcome {
        match (family, name) {
            ("reactions", "add" | "remove") => self.reaction(store, name == "add", caller, args),
            ("reactions", "get") => {
                let (channel, at) = target(store, caller, args)?;
                let place = store.channel(&channel, caller.user)?;
                let message = place.messages.get(&at).ok_or("message_not_found")?;
                let mut view = place.shown(at, message, false);
                view["permalink"] = permalink(&channel, &ts_text(at)).into();
                Ok(json!({"type": "message", "channel": channel, "message": view}))
            }
            ("reactions", "list") => {
                let user = args.text("user").unwrap_or_else(|| caller.user.to_owned());
                store.user(&user).ok_or("user_not_found")?;
                let mut items = Vec::new();
                for place in store.channels.values().filter(|place| place.members.contains(caller.user)) {
                    let theirs = place.messages.iter().filter(|(_, message)| message.reactions.iter().any(|(_, users)| users.contains(&user)));
                    items.extend(theirs.map(|(ts, message)| {
                        let mut view = place.shown(*ts, message, false);
                        view["permalink"] = permalink(&place.id, &ts_text(*ts)).into();
                        json!({"type": "message", "channel": place.id, "message": view})
                    }));
                }
                let (items, next) = page(items, args.text("cursor"), args.limit(100, 1000))?;
                Ok(json!({"items": items, "response_metadata": {"next_cursor": next}}))
            }
            ("pins", "add" | "remove") => self.pin(store, name == "add", caller, args),
            ("pins", "list") => {
                let place = store.channel(&args.need("channel")?, caller.user)?;
                let item = |(ts, (by, at)): (&u64, &(String, i64))| {
                    let message = place.messages.get(ts).map(|message| place.shown(*ts, message, false));
                    json!({"type": "message", "channel": place.id, "created": at, "created_by": by, "message": message})
                };
                Ok(json!({"items": place.pins.iter().map(item).collect::<Vec<_>>()}))
            }
            ("bookmarks", _) => self.bookmarks(store, name, caller, args),
            _ => Err("unknown_method".into()),
        }
    }

    fn reaction(&self, store: &mut Store, add: bool, caller: &Caller, args: &Args) -> Outcome {
        let (channel, at) = target(store, caller, args)?;
        let name = args.text("name").ok_or("invalid_name")?;
        if name.contains(':') || !name.chars().all(|c| c.is_ascii_alphanumeric() || "_-+'".contains(c)) {
            return Err("invalid_name".into());
        }
        self.react_as(store, caller.user, &channel, at, &name, add)
    }

    /// Gives a reaction or takes it back, and tells of it.
    pub(super) fn react_as(&self, store: &mut Store, user: &str, channel: &str, at: u64, name: &str, add: bool) -> Outcome {
        let message = store.channels.get_mut(channel).and_then(|place| place.messages.get_mut(&at)).ok_or("message_not_found")?;
        let there = message.reactions.iter().position(|(one, _)| one == name);
        match (add, there) {
            (true, Some(place)) if message.reactions[place].1.iter().any(|one| one == user) => return Err("already_reacted".into()),
            (true, Some(place)) => message.reactions[place].1.push(user.to_owned()),
            (true, None) if message.reactions.len() >= MOST_REACTIONS => return Err("too_many_emoji".into()),
            (true, None) => message.reactions.push((name.to_owned(), vec![user.to_owned()])),
            (false, Some(place)) if message.reactions[place].1.iter().any(|one| one == user) => {
                message.reactions[place].1.retain(|one| one != user);
                message.reactions.retain(|(_, users)| !users.is_empty());
            }
            (false, _) => return Err("no_reaction".into()),
        }
        let author = message.user.clone();
        self.shared.record(
            Entry::new("slack", EffectKind::ChatMarked, format!("{channel}:{}", ts_text(at)))
                .detail(json!({"reaction": name, "user": user, "added": add})),
        );
        let now = store.ts(self.shared.clock.now());
        store
            .events
            .push(json!({"type": if add { "reaction_added" } else { "reaction_removed" }, "user": user, "reaction": name, "item_user": author,
            "item": {"type": "message", "channel": channel, "ts": ts_text(at)}, "event_ts": ts_text(now)}));
        Ok(json!({}))
    }

    fn pin(&self, store: &mut Store, add: bool, caller: &Caller, args: &Args) -> Outcome {
        let (channel, at) = target(store, caller, args)?;
        let now = self.shared.clock.now().as_second();
        let place = store.channel_mut(&channel, caller.user)?;
        if add {
            if place.pins.contains_key(&at) {
                return Err("already_pinned".into());
            }
            place.pins.insert(at, (caller.user.to_owned(), now));
        } else {
            place.pins.remove(&at).ok_or("no_pin")?;
        }
        self.shared.record(Entry::new("slack", EffectKind::ChatMarked, format!("{channel}:{}", ts_text(at))).detail(json!({"pinned": add})));
        store.events.push(json!({"type": if add { "pin_added" } else { "pin_removed" }, "user": caller.user, "channel_id": channel,
            "item": {"type": "message", "channel": channel, "message": {"ts": ts_text(at)}}}));
        Ok(json!({}))
    }

    fn bookmarks(&self, store: &mut Store, name: &str, caller: &Caller, args: &Args) -> Outcome {
        let channel = args.need("channel_id")?;
        let number = store.next();
        let now = self.shared.clock.now().as_second();
        let place = store.channel_mut(&channel, caller.user)?;
        match name {
            "list" => Ok(json!({"bookmarks": place.bookmarks})),
            "add" => {
                let (title, kind) = (args.need("title")?, args.need("type")?);
                if kind != "link" {
                    return Err("invalid_bookmark_type".into());
                }
                let link = args.text("link").filter(|link| link.starts_with("http")).ok_or("invalid_link")?;
                let bookmark = json!({"id": format!("Bk0HUB{number}"), "channel_id": channel, "title": title, "link": link, "type": kind,
                    "date_created": now, "last_updated_by_user_id": caller.user});
                place.bookmarks.push(bookmark.clone());
                Ok(json!({"bookmark": bookmark}))
            }
            "remove" => {
                let id = args.need("bookmark_id")?;
                let before = place.bookmarks.len();
                place.bookmarks.retain(|bookmark| bookmark["id"].as_str() != Some(id.as_str()));
                if place.bookmarks.len() == before { Err("not_found".into()) } else { Ok(json!({})) }
            }
            _ => Err("unknown_method".into()),
        }
    }
}

/// The message a mark goes onto.
fn target(store: &Store, caller: &Caller, args: &Args) -> Result<(String, u64), super::Refusal> {
    let (Some(channel), Some(ts)) = (args.text("channel"), args.text("timestamp")) else { return Err("no_item_specified".into()) };
    if super::store::ts_read(&ts).is_none() {
        return Err("bad_timestamp".into());
    }
    found(store, caller, &channel, &ts)
}
