//! The demo checks itself against the sandbox's own ledger, which knows what really happened and nothing of what the hub believes.
//!
//! Owns the judgement: lost, doubled, misdirected. Refuses to look at the hub's records except for its dead letters, because a dead
//! letter is the hub's way of saying that it did not lose something.

use std::collections::{BTreeMap, BTreeSet};

use connector_sandbox::{Effect, EffectKind, Ledger};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::corpus::Expectation;

/// A message that was let into the mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Delivered {
    /// The file it came from, for people.
    pub(super) file: String,
    pub(super) expectation: Expectation,
}

/// What the hub gave up, by Message-ID, with the reason.
pub(super) type DeadLetters = BTreeMap<String, String>;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Offender {
    pub(super) file: String,
    pub(super) what: String,
}

/// The verdict.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) handled_once: usize,
    pub(super) dead_letters: usize,
    /// Neither an effect nor a dead letter, or not all effects.
    pub(super) lost: Vec<Offender>,
    /// More than one ticket, comment or reply.
    pub(super) doubled: Vec<Offender>,
    /// An answer in the wrong conversation, or to a machine.
    pub(super) misdirected: Vec<Offender>,
}

impl Verdict {
    pub(super) fn is_good(&self) -> bool {
        self.lost.is_empty() && self.doubled.is_empty() && self.misdirected.is_empty()
    }
}

/// Judges a run. `delivered` is in the order of delivery, which is the order of the ledger's arrivals.
pub(super) fn judge(delivered: &[Delivered], ledger: &Ledger, dead: &DeadLetters) -> Verdict {
    let facts = Facts::of(ledger);
    let mut verdict = Verdict::default();
    let mut letters: BTreeMap<&str, Vec<(&Delivered, &Effect)>> = BTreeMap::new();
    for (at, message) in delivered.iter().enumerate() {
        match facts.arrived.get(at) {
            Some(arrival) => letters.entry(&arrival.target).or_default().push((message, arrival)),
            None => verdict.lost.push(offence(message, "it never arrived in the mailbox")),
        }
    }
    let mut judged = BTreeSet::new();
    for (message_id, copies) in &letters {
        let found = facts.letter(message_id, copies, dead);
        let (first, _) = copies[0];
        let (was_lost, was_doubled, was_misdirected) = (!found.lost.is_empty(), !found.doubled.is_empty(), !found.misdirected.is_empty());
        verdict.lost.extend(found.lost.into_iter().map(|what| offence(first, what)));
        verdict.doubled.extend(found.doubled.into_iter().map(|what| offence(first, what)));
        verdict.misdirected.extend(found.misdirected.into_iter().map(|what| offence(first, what)));
        if dead.contains_key(*message_id) {
            verdict.dead_letters += copies.len();
        } else if !(was_lost || was_doubled || was_misdirected) {
            verdict.handled_once += copies.len();
        }
        // One ticket for a conversation, whichever of its letters opened it.
        let (_, arrival) = copies[0];
        if let Some(conversation) = arrival.conversation.as_deref().filter(|conversation| judged.insert((*conversation).to_owned())) {
            let tickets =
                letters.keys().filter(|id| facts.conversation(id) == Some(conversation)).filter(|id| facts.tickets.contains_key(&key(id, "ticket")));
            let tickets = tickets.count();
            if tickets > 1 {
                verdict.doubled.push(offence(first, format!("its conversation has {tickets} tickets")));
            }
        }
    }
    let known: BTreeSet<String> = letters.keys().map(|id| key(id, "ticket")).collect();
    for stray in facts.tickets.keys().filter(|ticket| !known.contains(*ticket)) {
        verdict.doubled.push(Offender { file: "(none)".into(), what: format!("a ticket was made under `{stray}`, which no letter stands for") });
    }
    verdict
}

/// What is wrong with one letter.
#[derive(Debug, Default)]
struct Found {
    lost: Vec<String>,
    doubled: Vec<String>,
    misdirected: Vec<String>,
}

/// The ledger by what is asked of it.
struct Facts {
    arrived: Vec<Effect>,
    replies: BTreeMap<String, Vec<Effect>>,
    tickets: BTreeMap<String, Vec<Effect>>,
    comments: BTreeMap<String, usize>,
    tagged: BTreeSet<String>,
}

impl Facts {
    fn of(ledger: &Ledger) -> Self {
        let mut comments = BTreeMap::new();
        for comment in ledger.of_kind(EffectKind::TicketCommented) {
            *comments.entry(comment.key.unwrap_or_default()).or_default() += 1;
        }
        Self {
            arrived: ledger.of_kind(EffectKind::MailReceived),
            replies: ledger.replies_by_message(),
            tickets: ledger.tickets_by_key(),
            comments,
            tagged: ledger.categories_by_message().into_keys().collect(),
        }
    }

    fn conversation(&self, message_id: &str) -> Option<&str> {
        self.arrived.iter().find(|arrival| arrival.target == message_id)?.conversation.as_deref()
    }

    /// One letter, of which several copies may have been delivered.
    fn letter(&self, message_id: &str, copies: &[(&Delivered, &Effect)], dead: &DeadLetters) -> Found {
        let mut found = Found::default();
        let none = Vec::new();
        let replies = self.replies.get(message_id).unwrap_or(&none);
        let tickets = self.tickets.get(&key(message_id, "ticket")).map_or(0, Vec::len);
        let comments = self.comments.get(&key(message_id, "comment")).copied().unwrap_or(0);
        for (count, what) in [(replies.len(), "replies"), (tickets, "tickets"), (comments, "comments")] {
            if count > 1 {
                found.doubled.push(format!("it has {count} {what}"));
            }
        }
        if tickets > 0 && comments > 0 {
            found.doubled.push("it has a ticket of its own and a comment on another".into());
        }
        let home = |reply: &Effect| copies.iter().any(|(_, arrival)| arrival.conversation == reply.conversation);
        if replies.iter().any(|reply| !home(reply)) {
            found.misdirected.push("its answer left in another conversation".into());
        }
        let expected = |wanted: &[Expectation]| copies.iter().any(|(message, _)| wanted.contains(&message.expectation));
        let is_dead = dead.contains_key(message_id);
        let is_work = expected(&[Expectation::Ticket, Expectation::FollowUp]);
        if !is_work && !expected(&[Expectation::Broken]) && !(replies.is_empty() && tickets + comments == 0) {
            found.misdirected.push("a machine wrote it, and it was answered".into());
        }
        if is_dead {
            return found;
        }
        let was_worked_on = replies.len() == 1 && tickets + comments == 1;
        if is_work && !was_worked_on {
            found.lost.push(format!("it has {} replies, {tickets} tickets and {comments} comments, and no dead letter says why", replies.len()));
        } else if !was_worked_on && !self.tagged.contains(message_id) {
            found.lost.push("nothing happened to it, and no dead letter says why".into());
        }
        found
    }
}

fn offence(message: &Delivered, what: impl Into<String>) -> Offender {
    Offender { file: message.file.clone(), what: what.into() }
}

/// The key a letter's step is known by at the vendors. Spelt out here once more: the check shares nothing with what it checks.
fn key(message_id: &str, step: &str) -> String {
    let hash = hex::encode(Sha256::digest(message_id.as_bytes()));
    format!("mail-{}-{step}", hash.chars().take(32).collect::<String>())
}
