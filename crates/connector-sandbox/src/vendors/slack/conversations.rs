//! `conversations.*` besides reading messages: find, make, join, change. <https://docs.slack.dev/reference/methods>

use super::args::Args;
use super::store::{Channel, Said, Sort, Store, page, ts_read};
use super::{BOT_USER, Caller, Outcome, Refusal, Slack};
use crate::ledger::{EffectKind, Entry};
use serde_json::{Value, json};

impl Slack {
    pub(super) fn conversations(&self, store: &mut Store, name: &str, caller: &Caller, args: &Args) -> Outcome {
        let now = self.shared.clock.now();
        match name {
            "list" => list(store, caller, args, false),
            "info" => {
                let channel = store.channel(&args.need("channel")?, caller.user)?;
                let mut view = channel.view(caller.user);
                if args.flag("include_num_members") == Some(true) {
                    view["num_members"] = channel.members.len().into();
                }
                if args.flag("include_locale") == Some(true) {
                    view["locale"] = "en-GB".into();
                }
                Ok(json!({"channel": view}))
            }
            "members" => {
                let members = store.channel(&args.need("channel")?, caller.user)?.members.iter().cloned().collect();
                let (members, next): (Vec<String>, String) = page(members, args.text("cursor"), args.limit(100, 1000))?;
                Ok(json!({"members": members, "response_metadata": {"next_cursor": next}}))
            }
            "open" => {
                let id = match args.text("channel") {
                    Some(id) => store.channel(&id, caller.user).map(|channel| channel.id.clone())?,
                    None => {
                        let users = args.ids("users");
                        if users.is_empty() {
                            return Err("users_list_not_supplied".into());
                        }
                        if users.len() > 8 {
                            return Err("too_many_users".into());
                        }
                        for user in &users {
                            let known = store.user(user).ok_or("user_not_found")?;
                            if known.deleted {
                                return Err("user_disabled".into());
                            }
                        }
                        let people: Vec<&str> = users.iter().map(String::as_str).chain([caller.user]).collect();
                        store.direct(&people, now)
                    }
                };
                let channel = store.channel_mut(&id, caller.user)?;
                if !matches!(channel.sort, Sort::Direct | Sort::Group) {
                    return Err("method_not_supported_for_channel_type".into());
                }
                channel.closed = false;
                let view = channel.view(caller.user);
                Ok(json!({"channel": if args.flag("return_im") == Some(true) { view } else { json!({"id": id}) }}))
            }
            "close" => {
                let channel = store.channel_mut(&args.need("channel")?, caller.user)?;
                if !matches!(channel.sort, Sort::Direct | Sort::Group) {
                    return Err("method_not_supported_for_channel_type".into());
                }
                let before = std::mem::replace(&mut channel.closed, true);
                Ok(if before { json!({"no_op": true, "already_closed": true}) } else { json!({}) })
            }
            "create" => self.create(store, caller, args),
            _ => self.change(store, name, caller, args),
        }
    }

    fn create(&self, store: &mut Store, caller: &Caller, args: &Args) -> Outcome {
        let name = args.text("name").ok_or("invalid_name_required")?;
        sound_name(&name)?;
        if store.channels.values().any(|channel| channel.name == name) {
            return Err("name_taken".into());
        }
        let id = format!("C0NEW{}", store.next());
        let sort = if args.flag("is_private") == Some(true) { Sort::Private } else { Sort::Public };
        let channel = Channel::new(&id, &name, sort, caller.user, self.shared.clock.now().as_second());
        let view = channel.view(caller.user);
        store.channels.insert(id.clone(), channel);
        self.noted(&id, json!({"created": name}));
        if sort == Sort::Public {
            store.events.push(json!({"type": "channel_created", "channel": {"id": id, "name": name, "creator": caller.user}}));
        }
        Ok(json!({"channel": view}))
    }

    /// What changes a channel that is there.
    fn change(&self, store: &mut Store, name: &str, caller: &Caller, args: &Args) -> Outcome {
        let now = self.shared.clock.now().as_second();
        let id = args.need("channel")?;
        let user = caller.user;
        let names: Vec<String> = store.channels.values().map(|channel| channel.name.clone()).collect();
        let known: Vec<String> = store.users.keys().cloned().collect();
        let channel = store.channel_mut(&id, user)?;
        if matches!(channel.sort, Sort::Direct | Sort::Group) && !matches!(name, "mark" | "setTopic" | "setPurpose" | "leave") {
            return Err("method_not_supported_for_channel_type".into());
        }
        let inside = channel.members.contains(user);
        let open = |channel: &Channel| if channel.archived { Err(Refusal::from("is_archived")) } else { Ok(()) };
        let member = || if inside { Ok(()) } else { Err(Refusal::from("not_in_channel")) };
        let (mut event, mut more) = (Value::Null, json!({}));
        match name {
            "join" => {
                if channel.sort != Sort::Public {
                    return Err("method_not_supported_for_channel_type".into());
                }
                open(channel)?;
                if channel.members.insert(user.to_owned()) {
                    event = json!({"type": "member_joined_channel", "user": user, "channel": id, "channel_type": "C"});
                } else {
                    more = json!({"warning": "already_in_channel", "response_metadata": {"warnings": ["already_in_channel"]}});
                }
            }
            "leave" => {
                if channel.is_general() {
                    return Err("cant_leave_general".into());
                }
                if !channel.members.remove(user) {
                    return Ok(json!({"not_in_channel": true}));
                }
                event = json!({"type": "member_left_channel", "user": user, "channel": id, "channel_type": "C"});
            }
            "archive" => {
                if channel.is_general() {
                    return Err("cant_archive_general".into());
                }
                if std::mem::replace(&mut channel.archived, true) {
                    return Err("already_archived".into());
                }
                event = json!({"type": "channel_archive", "channel": id, "user": user});
            }
            "unarchive" => {
                if !std::mem::replace(&mut channel.archived, false) {
                    return Err("not_archived".into());
                }
                event = json!({"type": "channel_unarchive", "channel": id, "user": user});
            }
            "rename" => {
                member()?;
                let new = args.text("name").ok_or("invalid_name_required")?;
                sound_name(&new)?;
                if new != channel.name && names.contains(&new) {
                    return Err("name_taken".into());
                }
                channel.name.clone_from(&new);
                event = json!({"type": "channel_rename", "channel": {"id": id, "name": new, "created": channel.created}});
            }
            "invite" | "kick" => {
                member()?;
                open(channel)?;
                return self.people_of(store, name, &id, caller, args, &known);
            }
            "setTopic" | "setPurpose" => {
                member()?;
                open(channel)?;
                let field = if name == "setTopic" { "topic" } else { "purpose" };
                let value = args.text(field).unwrap_or_default();
                if value.chars().count() > 250 {
                    return Err("too_long".into());
                }
                let said = Said { value: value.clone(), creator: user.to_owned(), last_set: now };
                *(if name == "setTopic" { &mut channel.topic } else { &mut channel.purpose }) = said;
                more = json!({field: value});
            }
            "mark" => {
                member()?;
                channel.last_read = ts_read(&args.need("ts")?).ok_or("invalid_timestamp")?;
                return Ok(json!({}));
            }
            _ => return Err("unknown_method".into()),
        }
        let view = channel.view(user);
        self.noted(&id, json!({name: more.clone()}));
        if !event.is_null() {
            store.events.push(event);
        }
        if name == "archive" || name == "unarchive" || name == "leave" {
            return Ok(json!({}));
        }
        more["channel"] = view;
        Ok(more)
    }

    fn people_of(&self, store: &mut Store, name: &str, id: &str, caller: &Caller, args: &Args, known: &[String]) -> Outcome {
        let channel = store.channel_mut(id, caller.user)?;
        if name == "kick" {
            let user = args.need("user")?;
            if user == caller.user {
                return Err("cant_kick_self".into());
            }
            if channel.is_general() {
                return Err("cant_kick_from_general".into());
            }
            if !known.contains(&user) {
                return Err("user_not_found".into());
            }
            if !channel.members.remove(&user) {
                return Err("not_in_channel".into());
            }
            store.events.push(json!({"type": "member_left_channel", "user": user, "channel": id, "channel_type": "C"}));
            self.noted(id, json!({"kick": user}));
            return Ok(json!({}));
        }
        let users = args.ids("users");
        if users.is_empty() {
            return Err("no_user".into());
        }
        if users.len() > 1000 {
            return Err("too_many_users".into());
        }
        if users.iter().any(|user| user == caller.user) {
            return Err("cant_invite_self".into());
        }
        if users.iter().any(|user| !known.contains(user)) {
            return Err("user_not_found".into());
        }
        if users.iter().all(|user| channel.members.contains(user)) {
            return Err("already_in_channel".into());
        }
        let new: Vec<String> = users.into_iter().filter(|user| channel.members.insert(user.clone())).collect();
        let view = channel.view(caller.user);
        for user in &new {
            store.events.push(json!({"type": "member_joined_channel", "user": user, "channel": id, "channel_type": "C", "inviter": caller.user}));
        }
        self.noted(id, json!({"invite": new}));
        Ok(json!({"channel": view}))
    }

    fn noted(&self, channel: &str, detail: Value) {
        self.shared.record(Entry::new("slack", EffectKind::ChatChannelChanged, channel).detail(detail));
    }
}

/// `conversations.list`, and `users.conversations` where only one's own are wanted. Archived ones are left out after the page was cut.
pub(super) fn list(store: &Store, caller: &Caller, args: &Args, own: bool) -> Outcome {
    let types = args.ids("types");
    let types = if types.is_empty() { vec!["public_channel".to_owned()] } else { types };
    if types.iter().any(|name| !["public_channel", "private_channel", "mpim", "im"].contains(&name.as_str())) {
        return Err("invalid_types".into());
    }
    let whose = args.text("user").filter(|_| own).unwrap_or_else(|| caller.user.to_owned());
    if store.user(&whose).is_none() {
        return Err("user_not_found".into());
    }
    let seen = |channel: &&Channel| {
        let inside = channel.members.contains(&whose);
        types.iter().any(|name| *name == channel.sort.name()) && if own { inside } else { inside || channel.sort == Sort::Public }
    };
    let all: Vec<&Channel> = store.channels.values().filter(seen).collect();
    let (all, next) = page(all, args.text("cursor"), args.limit(100, 999))?;
    let exclude = args.flag("exclude_archived") == Some(true);
    let shown = |channel: &Channel| {
        let mut view = channel.view(caller.user);
        view["num_members"] = channel.members.len().into();
        view
    };
    let channels: Vec<Value> = all.into_iter().filter(|channel| !(exclude && channel.archived)).map(shown).collect();
    Ok(json!({"channels": channels, "response_metadata": {"next_cursor": next}}))
}

fn sound_name(name: &str) -> Result<(), Refusal> {
    let code = if name.chars().count() > 80 {
        "invalid_name_maxlength"
    } else if name.chars().any(|c| c.is_uppercase() || c.is_whitespace() || c == '.') {
        "invalid_name_specials"
    } else if !name.chars().any(char::is_alphanumeric) {
        "invalid_name_punctuation"
    } else {
        return Ok(());
    };
    Err(code.into())
}

impl Slack {
    /// The names of the channels the app is in.
    pub fn own_channels(&self) -> Vec<String> {
        let store = crate::ledger::lock(&self.store);
        store
            .channels
            .values()
            .filter(|channel| channel.members.contains(BOT_USER) && !channel.name.is_empty())
            .map(|channel| channel.name.clone())
            .collect()
    }
}
