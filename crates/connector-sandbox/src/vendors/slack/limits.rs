//! Slack's limits: each method by its tier, a message a second in a channel, and the strict history of apps sold outside the Marketplace.
//! <https://docs.slack.dev/apis/web-api/rate-limits>

use super::args::Args;
use crate::clock::add_seconds;
use jiff::Timestamp;
use std::collections::{HashMap, VecDeque};

/// Requests a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tier {
    /// One.
    One,
    /// Twenty.
    Two,
    /// Fifty.
    Three,
    /// A hundred.
    Four,
    /// `chat.postMessage` and its like: one a second in each channel, 300 a minute in all.
    Posting,
    /// Hundreds: not limited here.
    Free,
}

/// The tier of a method; `None`: there is no such method.
pub(super) fn tier(method: &str) -> Option<Tier> {
    Some(match method {
        "apps.connections.open" => Tier::One,
        "chat.postMessage" | "chat.meMessage" => Tier::Posting,
        "chat.postEphemeral" | "conversations.members" | "users.info" | "users.profile.get" => Tier::Four,
        "files.getUploadURLExternal"
        | "files.completeUploadExternal"
        | "files.info"
        | "views.open"
        | "views.update"
        | "views.push"
        | "views.publish" => Tier::Four,
        "chat.update" | "chat.delete" | "chat.scheduleMessage" | "chat.deleteScheduledMessage" | "chat.scheduledMessages.list" | "chat.unfurl" => {
            Tier::Three
        }
        "conversations.history"
        | "conversations.replies"
        | "conversations.info"
        | "conversations.open"
        | "conversations.join"
        | "conversations.invite"
        | "conversations.kick"
        | "conversations.leave"
        | "conversations.mark" => Tier::Three,
        "users.conversations" | "users.lookupByEmail" | "reactions.add" | "reactions.get" | "files.list" | "team.info" => Tier::Three,
        "conversations.list"
        | "conversations.create"
        | "conversations.archive"
        | "conversations.unarchive"
        | "conversations.rename"
        | "conversations.close"
        | "conversations.setTopic"
        | "conversations.setPurpose" => Tier::Two,
        "reactions.remove" | "reactions.list" | "search.messages" | "users.list" | "pins.add" | "pins.remove" | "pins.list" => Tier::Two,
        "bookmarks.add" | "bookmarks.list" | "bookmarks.remove" => Tier::Two,
        "auth.test" | "auth.revoke" | "chat.getPermalink" => Tier::Free,
        _ => return None,
    })
}

/// Whether a method only reads, and so takes no JSON.
pub(super) fn is_read(method: &str) -> bool {
    let name = method.rsplit('.').next().unwrap_or_default();
    matches!(name, "history" | "replies" | "list" | "info" | "members" | "get" | "lookupByEmail" | "messages" | "getPermalink" | "test")
        || matches!(method, "users.conversations" | "files.getUploadURLExternal")
}

/// What was asked for lately.
#[derive(Debug, Default)]
pub(super) struct Limits {
    recent: HashMap<String, VecDeque<Timestamp>>,
    pub(super) restricted: bool,
}

impl Limits {
    /// Counts the request, or says in how many seconds it may come again.
    pub(super) fn admit(&mut self, tier: Tier, method: &str, args: &Args, now: Timestamp, enforce: bool) -> Result<(), u64> {
        let history = matches!(method, "conversations.history" | "conversations.replies");
        if self.restricted && history {
            return self.take(&[(method.to_owned(), 1, 60)], now);
        }
        if !enforce {
            return Ok(());
        }
        let one = |per_minute| [(method.to_owned(), per_minute, 60)];
        match tier {
            Tier::One => self.take(&one(1), now),
            Tier::Two => self.take(&one(20), now),
            Tier::Three => self.take(&one(50), now),
            Tier::Four => self.take(&one(100), now),
            Tier::Posting => {
                let channel = args.text("channel").unwrap_or_default();
                self.take(&[(format!("{method} {channel}"), 1, 1), (method.to_owned(), 300, 60)], now)
            }
            Tier::Free => Ok(()),
        }
    }

    /// Takes a place in every window, or in none.
    fn take(&mut self, windows: &[(String, usize, i64)], now: Timestamp) -> Result<(), u64> {
        for (key, most, seconds) in windows {
            let recent = self.recent.entry(key.clone()).or_default();
            while recent.front().is_some_and(|at| add_seconds(*at, *seconds) <= now) {
                recent.pop_front();
            }
            if let Some(first) = recent.front().filter(|_| recent.len() >= *most) {
                let wait = add_seconds(*first, *seconds).duration_since(now).as_millis();
                return Err(u64::try_from(wait).unwrap_or_default().div_ceil(1000).max(1));
            }
        }
        for (key, ..) in windows {
            self.recent.entry(key.clone()).or_default().push_back(now);
        }
        Ok(())
    }
}
