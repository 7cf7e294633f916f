//! What the workspace holds. A message is named by its channel and its `ts`, which is kept as microseconds and written as Slack does.

use super::{BOT_USER, Refusal, TEAM};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A person or a bot.
#[derive(Clone, Debug)]
pub(super) struct User {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) real_name: String,
    pub(super) email: Option<String>,
    pub(super) deleted: bool,
    pub(super) is_bot: bool,
    pub(super) status: String,
}

impl User {
    pub(super) fn profile(&self) -> Value {
        json!({"real_name": self.real_name, "display_name": self.name, "email": self.email, "status_text": self.status, "status_emoji": "", "team": TEAM})
    }

    pub(super) fn view(&self) -> Value {
        json!({"id": self.id, "team_id": TEAM, "name": self.name, "real_name": self.real_name, "deleted": self.deleted, "is_bot": self.is_bot,
            "is_admin": false, "is_restricted": false, "tz": "Europe/Paris", "updated": 1_767_200_000, "profile": self.profile()})
    }
}

/// What a channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Public,
    Private,
    Direct,
    Group,
}

impl Sort {
    /// As `types` names it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Public => "public_channel",
            Self::Private => "private_channel",
            Self::Direct => "im",
            Self::Group => "mpim",
        }
    }

    /// As events name it.
    pub(super) fn event_name(self) -> &'static str {
        match self {
            Self::Public => "channel",
            Self::Private => "group",
            Self::Direct => "im",
            Self::Group => "mpim",
        }
    }
}

/// A topic or a purpose.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    pub(super) value: String,
    pub(super) creator: String,
    pub(super) last_set: i64,
}

impl Said {
    fn view(&self) -> Value {
        json!({"value": self.value, "creator": self.creator, "last_set": self.last_set})
    }
}

/// One message.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) user: String,
    /// What Slack shows of it, without `ts`, thread, reactions and metadata.
    pub(super) body: Value,
    pub(super) metadata: Option<Value>,
    /// The parent, for a reply.
    pub(super) parent: Option<u64>,
    /// A reply that also shows in the channel.
    pub(super) broadcast: bool,
    /// Reaction and who gave it, in the order of the first.
    pub(super) reactions: Vec<(String, Vec<String>)>,
    /// Whom else it is shown to; everybody if nobody is named.
    pub(super) only_for: Option<String>,
}

impl Message {
    pub(super) fn text(&self) -> &str {
        self.body["text"].as_str().unwrap_or_default()
    }
}

/// A channel, group or direct message.
#[derive(Clone, Debug)]
pub(super) struct Channel {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) sort: Sort,
    pub(super) archived: bool,
    /// For direct messages: closed by the app.
    pub(super) closed: bool,
    pub(super) created: i64,
    pub(super) creator: String,
    pub(super) members: BTreeSet<String>,
    pub(super) topic: Said,
    pub(super) purpose: Said,
    pub(super) messages: BTreeMap<u64, Message>,
    /// Pinned message, by whom and when.
    pub(super) pins: BTreeMap<u64, (String, i64)>,
    pub(super) bookmarks: Vec<Value>,
    pub(super) last_read: u64,
}

impl Channel {
    pub(super) fn new(id: &str, name: &str, sort: Sort, creator: &str, created: i64) -> Self {
        Self {
            id: id.to_owned(),
            name: name.to_owned(),
            sort,
            archived: false,
            closed: false,
            created,
            creator: creator.to_owned(),
            members: BTreeSet::from([creator.to_owned()]),
            topic: Said::default(),
            purpose: Said::default(),
            messages: BTreeMap::new(),
            pins: BTreeMap::new(),
            bookmarks: Vec::new(),
            last_read: 0,
        }
    }

    pub(super) fn is_general(&self) -> bool {
        self.id == "C0GENERAL"
    }

    pub(super) fn view(&self, viewer: &str) -> Value {
        let direct = self.sort == Sort::Direct;
        let mut view = json!({
            "id": self.id, "is_channel": matches!(self.sort, Sort::Public | Sort::Private), "is_group": false, "is_im": direct,
            "is_mpim": self.sort == Sort::Group, "is_private": self.sort != Sort::Public, "is_archived": self.archived,
            "is_general": self.is_general(), "is_member": self.members.contains(viewer), "created": self.created, "creator": self.creator,
            "context_team_id": TEAM, "is_ext_shared": false, "topic": self.topic.view(), "purpose": self.purpose.view(),
        });
        if direct {
            view["user"] = self.members.iter().find(|member| *member != viewer).cloned().into();
        } else {
            view["name"] = self.name.as_str().into();
        }
        view
    }

    /// A message as it is shown, with what hangs on it.
    pub(super) fn shown(&self, ts: u64, message: &Message, with_metadata: bool) -> Value {
        let mut view = message.body.clone();
        view["ts"] = ts_text(ts).into();
        let replies: Vec<(u64, &Message)> = self.messages.iter().filter(|(_, one)| one.parent == Some(ts)).map(|(ts, one)| (*ts, one)).collect();
        if let Some(parent) = message.parent {
            view["thread_ts"] = ts_text(parent).into();
        } else if let Some((last, _)) = replies.last() {
            let mut users: Vec<&str> = Vec::new();
            for (_, reply) in &replies {
                if !users.contains(&reply.user.as_str()) {
                    users.push(&reply.user);
                }
            }
            view["thread_ts"] = ts_text(ts).into();
            view["reply_count"] = replies.len().into();
            view["reply_users"] = json!(users);
            view["reply_users_count"] = users.len().into();
            view["latest_reply"] = ts_text(*last).into();
        }
        if !message.reactions.is_empty() {
            view["reactions"] =
                message.reactions.iter().map(|(name, users)| json!({"name": name, "users": users, "count": users.len()})).collect::<Vec<_>>().into();
        }
        if let (true, Some(metadata)) = (with_metadata, &message.metadata) {
            view["metadata"] = metadata.clone();
        }
        if self.pins.contains_key(&ts) {
            view["pinned_to"] = json!([self.id]);
        }
        view
    }
}

/// A message that waits for its time.
#[derive(Clone, Debug)]
pub(super) struct Scheduled {
    pub(super) id: String,
    pub(super) channel: String,
    pub(super) post_at: i64,
    pub(super) created: i64,
    pub(super) body: Value,
    pub(super) parent: Option<u64>,
}

/// A file, or a place for one.
#[derive(Clone, Debug)]
pub(super) struct File {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) title: String,
    pub(super) length: usize,
    pub(super) user: String,
    pub(super) created: i64,
    pub(super) bytes: Option<bytes::Bytes>,
    pub(super) completed: bool,
    /// Channel and the message that shares it there.
    pub(super) shares: Vec<(String, String)>,
}

/// Somewhere to answer to: a slash command's or an interaction's `response_url`.
#[derive(Clone, Debug)]
pub(super) struct Answerable {
    pub(super) channel: String,
    pub(super) user: String,
    pub(super) until: i64,
    pub(super) uses: u32,
    /// The message with the button, which an answer may replace.
    pub(super) message: Option<u64>,
}

/// Everything in the workspace.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) users: BTreeMap<String, User>,
    pub(super) channels: BTreeMap<String, Channel>,
    pub(super) scheduled: BTreeMap<String, Scheduled>,
    pub(super) files: BTreeMap<String, File>,
    /// Upload ticket to file.
    pub(super) uploads: HashMap<String, String>,
    /// Trigger and until when it is good; taken out when used.
    pub(super) triggers: HashMap<String, Timestamp>,
    pub(super) views: BTreeMap<String, Value>,
    pub(super) answerable: HashMap<String, Answerable>,
    pub(super) webhook: Option<String>,
    /// Events gathered during a request.
    pub(super) events: Vec<Value>,
    counter: u64,
    last_ts: u64,
}

impl Store {
    /// A number nothing else has.
    pub(super) fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// The `ts` of a message written now: never the same twice.
    pub(super) fn ts(&mut self, now: Timestamp) -> u64 {
        let now = u64::try_from(now.as_second()).unwrap_or_default() * 1_000_000;
        self.last_ts = (self.last_ts + 100).max(now + 100);
        self.last_ts
    }

    pub(super) fn user(&self, id: &str) -> Option<&User> {
        self.users.get(id)
    }

    /// A channel the caller can see. An invisible one looks like one that does not exist.
    pub(super) fn channel(&self, id: &str, viewer: &str) -> Result<&Channel, Refusal> {
        self.channels
            .get(id)
            .filter(|channel| channel.sort == Sort::Public || channel.members.contains(viewer))
            .ok_or_else(|| "channel_not_found".into())
    }

    pub(super) fn channel_mut(&mut self, id: &str, viewer: &str) -> Result<&mut Channel, Refusal> {
        self.channels
            .get_mut(id)
            .filter(|channel| channel.sort == Sort::Public || channel.members.contains(viewer))
            .ok_or_else(|| "channel_not_found".into())
    }

    /// A channel to write into, by id, by name, or by the person on its other end.
    pub(super) fn place(&mut self, named: &str, writer: &str, now: Timestamp) -> Result<String, Refusal> {
        if self.users.contains_key(named) {
            return Ok(self.direct(&[writer, named], now));
        }
        let name = named.trim_start_matches('#');
        let by_name = self.channels.values().find(|channel| channel.name == name && !name.is_empty()).map(|channel| channel.id.clone());
        let id = if self.channels.contains_key(named) { named.to_owned() } else { by_name.unwrap_or_default() };
        let channel = self.channel(&id, writer)?;
        if channel.archived {
            return Err("is_archived".into());
        }
        Ok(id)
    }

    /// The direct message between these, made if there is none.
    pub(super) fn direct(&mut self, people: &[&str], now: Timestamp) -> String {
        let members: BTreeSet<String> = people.iter().map(|id| (*id).to_owned()).collect();
        let sort = if members.len() > 2 { Sort::Group } else { Sort::Direct };
        if let Some(channel) = self.channels.values_mut().find(|channel| channel.sort == sort && channel.members == members) {
            channel.closed = false;
            return channel.id.clone();
        }
        let number = self.next();
        let (id, name) =
            if sort == Sort::Direct { (format!("D0DM{number}"), String::new()) } else { (format!("G0MP{number}"), format!("mpdm-{number}")) };
        let mut channel = Channel::new(&id, &name, sort, BOT_USER, now.as_second());
        channel.members = members;
        self.channels.insert(id.clone(), channel);
        id
    }
}

/// `1767225600.000100`.
pub(super) fn ts_text(ts: u64) -> String {
    format!("{}.{:06}", ts / 1_000_000, ts % 1_000_000)
}

/// Microseconds of a `ts`, or of a whole second.
pub(super) fn ts_read(text: &str) -> Option<u64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let fraction = format!("{fraction:0<6}");
    let seconds: u64 = seconds.parse().ok()?;
    seconds.checked_mul(1_000_000)?.checked_add(fraction.get(..6)?.parse().ok()?)
}

/// A cursor as Slack writes them: opaque, and with an `=` at its end, which a client must escape.
pub(super) fn cursor(kind: &str, place: &str) -> String {
    let text = format!("{kind}:{place}");
    STANDARD.encode(if text.len().is_multiple_of(3) { format!("{text} ") } else { text })
}

/// The place a cursor stands for.
pub(super) fn place_of(cursor: &str, kind: &str) -> Result<String, Refusal> {
    let text = STANDARD.decode(cursor).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.and_then(|text| text.strip_prefix(&format!("{kind}:")).map(|place| place.trim().to_owned())).ok_or_else(|| "invalid_cursor".into())
}

/// A page of a list that is walked by position.
pub(super) fn page<T>(items: Vec<T>, given: Option<String>, limit: usize) -> Result<(Vec<T>, String), Refusal> {
    let from = given.map_or(Ok(0), |given| place_of(&given, "next")?.parse().map_err(|_| Refusal::from("invalid_cursor")))?;
    let total = items.len();
    let items: Vec<T> = items.into_iter().skip(from).take(limit).collect();
    let next = if from + items.len() < total { cursor("next", &(from + items.len()).to_string()) } else { String::new() };
    Ok((items, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ts_keeps_every_digit() {
        for text in ["1767225600.000100", "1.000000", "1767225600.999999"] {
            assert_eq!(ts_text(ts_read(text).unwrap()), text);
        }
        assert_eq!(ts_read("1767225600"), Some(1_767_225_600_000_000));
        assert_eq!(ts_read("x"), None);
    }

    #[test]
    fn pages_end_with_an_empty_cursor() {
        let (first, next) = page((0..5).collect(), None, 3).unwrap();
        assert_eq!(first, [0, 1, 2]);
        let (rest, end) = page((0..5).collect(), Some(next), 3).unwrap();
        assert_eq!((rest, end.as_str()), (vec![3, 4], ""));
        assert_eq!(page(vec![1], Some("nonsense".into()), 3).unwrap_err().code, "invalid_cursor");
    }
}
