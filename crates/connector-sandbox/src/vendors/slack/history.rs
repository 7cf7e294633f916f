//! Reading: a channel's history, threads, search. <https://docs.slack.dev/reference/methods/conversations.history>

use super::args::Args;
use super::chat::permalink;
use super::store::{Channel, Message, Store, cursor, place_of, ts_read, ts_text};
use super::{Caller, Outcome, Refusal};
use serde_json::{Value, json};

/// Messages a page for apps sold outside the Marketplace.
const RESTRICTED: usize = 15;

/// The bounds a reader asked for.
struct Window {
    oldest: Option<u64>,
    latest: Option<u64>,
    inclusive: bool,
}

impl Window {
    fn read(args: &Args) -> Result<Self, Refusal> {
        let bound = |name: &str, code: &'static str| {
            args.text(name).filter(|text| text != "0" && text != "now").map(|text| ts_read(&text).ok_or(code)).transpose()
        };
        Ok(Self {
            oldest: bound("oldest", "invalid_ts_oldest")?,
            latest: bound("latest", "invalid_ts_latest")?,
            inclusive: args.flag("inclusive") == Some(true),
        })
    }

    fn holds(&self, ts: u64) -> bool {
        self.oldest.is_none_or(|oldest| ts > oldest || (self.inclusive && ts == oldest))
            && self.latest.is_none_or(|latest| ts < latest || (self.inclusive && ts == latest))
    }
}

/// A channel that the caller may read: it is in it.
fn readable<'s>(store: &'s Store, caller: &Caller, args: &Args) -> Result<&'s Channel, Refusal> {
    let channel = store.channel(&args.need("channel")?, caller.user)?;
    if channel.members.contains(caller.user) { Ok(channel) } else { Err("not_in_channel".into()) }
}

fn limit(args: &Args, most: usize, restricted: bool) -> usize {
    if restricted { args.limit(RESTRICTED, RESTRICTED) } else { args.limit(100, most) }
}

pub(super) fn history(store: &Store, caller: &Caller, args: &Args, restricted: bool) -> Outcome {
    let channel = readable(store, caller, args)?;
    let window = Window::read(args)?;
    let metadata = args.flag("include_all_metadata") == Some(true);
    let before =
        args.text("cursor").map(|cursor| place_of(&cursor, "next_ts")?.parse::<u64>().map_err(|_| Refusal::from("invalid_cursor"))).transpose()?;
    let size = limit(args, 999, restricted);
    let shows = |message: &Message| message.only_for.is_none() && (message.parent.is_none() || message.broadcast);
    let mut found = channel
        .messages
        .iter()
        .rev()
        .filter(|(ts, message)| window.holds(**ts) && shows(message))
        .filter(|(ts, _)| before.is_none_or(|before| **ts <= before));
    let messages: Vec<Value> = found.by_ref().take(size).map(|(ts, message)| channel.shown(*ts, message, metadata)).collect();
    let next = found.next().map(|(ts, _)| cursor("next_ts", &ts.to_string()));
    Ok(json!({"messages": messages, "has_more": next.is_some(), "pin_count": channel.pins.len(),
        "response_metadata": {"next_cursor": next.unwrap_or_default()}}))
}

pub(super) fn replies(store: &Store, caller: &Caller, args: &Args, restricted: bool) -> Outcome {
    let channel = readable(store, caller, args)?;
    let asked = ts_read(&args.need("ts")?).ok_or("thread_not_found")?;
    let message = channel.messages.get(&asked).ok_or("thread_not_found")?;
    let parent = message.parent.unwrap_or(asked);
    let window = Window::read(args)?;
    let metadata = args.flag("include_all_metadata") == Some(true);
    let after =
        args.text("cursor").map(|cursor| place_of(&cursor, "next_ts")?.parse::<u64>().map_err(|_| Refusal::from("invalid_cursor"))).transpose()?;
    let size = limit(args, 1000, restricted);
    // The parent comes first whatever the bounds are.
    let mut found = channel
        .messages
        .iter()
        .filter(|(ts, message)| **ts == parent || (message.parent == Some(parent) && window.holds(**ts)))
        .filter(|(ts, _)| after.is_none_or(|after| **ts >= after));
    let messages: Vec<Value> = found.by_ref().take(size).map(|(ts, message)| channel.shown(*ts, message, metadata)).collect();
    let next = found.next().map(|(ts, _)| cursor("next_ts", &ts.to_string()));
    Ok(json!({"messages": messages, "has_more": next.is_some(), "response_metadata": {"next_cursor": next.unwrap_or_default()}}))
}

/// Words, quoted phrases, `in:#name` and `from:@name`; everything else of the query language is taken for words.
pub(super) fn search(store: &Store, caller: &Caller, args: &Args) -> Outcome {
    let query = args.text("query").ok_or("no_query")?;
    let (mut words, mut in_channel, mut from) = (Vec::new(), None, None);
    for (at, part) in query.split('"').enumerate() {
        if at % 2 == 1 {
            words.push(part.to_lowercase());
            continue;
        }
        for word in part.split_whitespace() {
            match word.split_once(':') {
                Some(("in", name)) => in_channel = Some(name.trim_start_matches('#').to_owned()),
                Some(("from", name)) => from = Some(name.trim_start_matches('@').to_owned()),
                _ => words.push(word.to_lowercase()),
            }
        }
    }
    let mut matches = Vec::new();
    let visible = store.channels.values().filter(|channel| channel.members.contains(caller.user) || channel.sort == super::store::Sort::Public);
    for channel in visible.filter(|channel| in_channel.as_ref().is_none_or(|name| channel.name == *name)) {
        for (ts, message) in channel.messages.iter().filter(|(_, message)| message.only_for.is_none()) {
            let name = store.user(&message.user).map_or("", |user| user.name.as_str());
            let text = message.text().to_lowercase();
            if words.iter().all(|word| text.contains(word.as_str())) && from.as_ref().is_none_or(|from| from == name || *from == message.user) {
                matches.push((
                    *ts,
                    json!({"iid": format!("{}-{ts}", channel.id), "team": super::TEAM, "type": "message",
                    "channel": {"id": channel.id, "name": channel.name, "is_private": channel.sort != super::store::Sort::Public},
                    "user": message.user, "username": name, "ts": ts_text(*ts), "text": message.text(),
                    "permalink": permalink(&channel.id, &ts_text(*ts)), "score": 0.9}),
                ));
            }
        }
    }
    let ascending = args.text("sort_dir").as_deref() == Some("asc");
    matches.sort_by_key(|(ts, _)| if ascending { i128::from(*ts) } else { -i128::from(*ts) });
    let count = args.number("count").and_then(|count| usize::try_from(count).ok()).unwrap_or(20).clamp(1, 100);
    let number = args.number("page").and_then(|page| usize::try_from(page).ok()).unwrap_or(1).clamp(1, 100);
    let (total, pages) = (matches.len(), matches.len().div_ceil(count));
    let matches: Vec<Value> = matches.into_iter().skip((number - 1) * count).take(count).map(|(_, one)| one).collect();
    Ok(json!({"query": query, "messages": {"total": total, "matches": matches,
        "paging": {"count": count, "total": total, "page": number, "pages": pages},
        "pagination": {"total_count": total, "page": number, "per_page": count, "page_count": pages, "first": 1, "last": pages}}}))
}
