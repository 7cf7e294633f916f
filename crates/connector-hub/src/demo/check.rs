//! The demo checks itself against the sandbox's own ledger, which knows what really happened and nothing of what the hub believes.
//!
//! Owns the judgement: lost, doubled, misdirected. Refuses to look at the hub's records except for its dead letters, because a dead
//! letter is the hub's way of saying that it did not lose something.

use std::collections::{BTreeMap, BTreeSet};

use connector_sandbox::{Effect, EffectKind};
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

/// Judges a run. `delivered` is in the order of delivery, which is the order of the ledger's arrivals.
pub(super) fn judge(delivered: &[Delivered], ledger: &[Effect], dead: &DeadLetters) -> Verdict {
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
            let tickets = letters
                .keys()
                .filter(|id| facts.conversation(id) == Some(conversation))
                .filter(|id| facts.tickets.contains_key(key(id, "ticket").as_str()));
            let tickets = tickets.count();
            if tickets > 1 {
                verdict.doubled.push(offence(first, format!("its conversation has {tickets} tickets")));
            }
        }
    }
    let known: BTreeSet<String> = letters.keys().map(|id| key(id, "ticket")).collect();
    for stray in facts.tickets.keys().filter(|ticket| !known.contains(**ticket)) {
        verdict.doubled.push(Offender { file: "(none)".into(), what: format!("a ticket was made under `{stray}`, which no letter stands for") });
    }
    for stray in facts.replies.keys().filter(|parent| !letters.contains_key(**parent)) {
        verdict.misdirected.push(Offender { file: "(none)".into(), what: format!("an answer left to `{stray}`, which never arrived") });
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
struct Facts<'a> {
    arrived: Vec<&'a Effect>,
    /// By the answered message.
    replies: BTreeMap<&'a str, Vec<&'a Effect>>,
    /// By their reference.
    tickets: BTreeMap<&'a str, usize>,
    comments: BTreeMap<&'a str, usize>,
    tagged: BTreeSet<&'a str>,
}

impl<'a> Facts<'a> {
    fn of(ledger: &'a [Effect]) -> Self {
        let of_kind = |kind: EffectKind| ledger.iter().filter(move |effect| effect.kind == kind);
        let by_key = |kind: EffectKind| {
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            for effect in of_kind(kind) {
                *counts.entry(effect.key.as_deref().unwrap_or_default()).or_default() += 1;
            }
            counts
        };
        let mut replies: BTreeMap<&str, Vec<&Effect>> = BTreeMap::new();
        for reply in of_kind(EffectKind::MailReplied) {
            replies.entry(reply.parent.as_deref().unwrap_or_default()).or_default().push(reply);
        }
        Self {
            arrived: of_kind(EffectKind::MailReceived).collect(),
            replies,
            tickets: by_key(EffectKind::TicketCreated),
            comments: by_key(EffectKind::TicketCommented),
            tagged: of_kind(EffectKind::MailCategorised).map(|effect| effect.target.as_str()).collect(),
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
        let tickets = self.tickets.get(key(message_id, "ticket").as_str()).copied().unwrap_or(0);
        let comments = self.comments.get(key(message_id, "comment").as_str()).copied().unwrap_or(0);
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
        let may_be_answered = is_work || expected(&[Expectation::Broken]);
        let was_answered = !replies.is_empty() || tickets + comments > 0;
        if was_answered && !may_be_answered {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Letters `1` and `2` of one conversation and `3` of another, as a sandbox's ledger has them.
    async fn arrivals() -> Vec<Effect> {
        let sandbox = connector_sandbox::Sandbox::builder().start("127.0.0.1:0").await.unwrap();
        for (id, before) in [("1", ""), ("2", "In-Reply-To: <1@a.example>\r\n"), ("3", "")] {
            let mail = format!("Message-ID: <{id}@a.example>\r\n{before}From: a@a.example\r\nSubject: s\r\n\r\ntext");
            sandbox.msgraph().inject_mime(connector_sandbox::known::GRAPH_MAILBOX, "inbox", mail.as_bytes()).unwrap();
        }
        sandbox.ledger().effects()
    }

    fn letter(n: u8) -> String {
        format!("<{n}@a.example>")
    }

    /// An effect like this arrival's, of another kind.
    fn effect(arrival: &Effect, kind: EffectKind) -> Effect {
        let key = match kind {
            EffectKind::TicketCreated => Some(key(&arrival.target, "ticket")),
            EffectKind::TicketCommented => Some(key(&arrival.target, "comment")),
            _ => None,
        };
        Effect { kind, key, parent: Some(arrival.target.clone()), ..arrival.clone() }
    }

    /// Everything that should happen to the three letters.
    fn good(arrivals: &[Effect]) -> Vec<Effect> {
        use EffectKind::{MailCategorised, MailReplied, TicketCommented, TicketCreated};
        let effects = [(0, TicketCreated), (1, TicketCommented), (2, TicketCreated)];
        let mut all = arrivals.to_vec();
        all.extend(effects.map(|(at, kind)| effect(&arrivals[at], kind)));
        all.extend(arrivals.iter().flat_map(|arrival| [effect(arrival, MailReplied), effect(arrival, MailCategorised)]));
        all
    }

    fn delivered() -> Vec<Delivered> {
        let message = |file: &str, expectation| Delivered { file: file.into(), expectation };
        vec![message("one", Expectation::Ticket), message("two", Expectation::FollowUp), message("three", Expectation::Ticket)]
    }

    fn counts(verdict: &Verdict) -> (usize, usize, usize, usize, usize) {
        (verdict.handled_once, verdict.dead_letters, verdict.lost.len(), verdict.doubled.len(), verdict.misdirected.len())
    }

    #[tokio::test]
    async fn a_good_run_has_nothing_to_complain_about() {
        let arrivals = arrivals().await;
        assert_eq!(counts(&judge(&delivered(), &good(&arrivals), &DeadLetters::new())), (3, 0, 0, 0, 0));
    }

    #[tokio::test]
    async fn each_missing_effect_is_a_loss_unless_a_dead_letter_says_why() {
        let arrivals = arrivals().await;
        let all = good(&arrivals);
        for missing in 3..all.len() {
            let mut ledger = all.clone();
            let gone = ledger.remove(missing);
            let verdict = judge(&delivered(), &ledger, &DeadLetters::new());
            // The tag alone is no promise of an answered letter.
            let lost = usize::from(gone.kind != EffectKind::MailCategorised);
            assert_eq!(counts(&verdict), (3 - lost, 0, lost, 0, 0), "{:?}", gone.kind);
        }
        let dead = DeadLetters::from([(letter(3), "the script says so".to_owned())]);
        let ledger: Vec<Effect> =
            all.iter().filter(|effect| effect.target != letter(3) || effect.kind == EffectKind::MailReceived).cloned().collect();
        assert_eq!(counts(&judge(&delivered(), &ledger, &dead)), (2, 1, 0, 0, 0));
        assert_eq!(counts(&judge(&delivered(), &arrivals, &DeadLetters::new())), (0, 0, 3, 0, 0));
        assert_eq!(counts(&judge(&delivered(), &[], &DeadLetters::new())), (0, 0, 3, 0, 0), "what never arrived is lost too");
    }

    #[tokio::test]
    async fn each_effect_too_many_is_doubled() {
        let arrivals = arrivals().await;
        let all = good(&arrivals);
        for again in all.iter().skip(3).filter(|effect| effect.kind != EffectKind::MailCategorised) {
            let mut ledger = all.clone();
            ledger.push(again.clone());
            let verdict = judge(&delivered(), &ledger, &DeadLetters::new());
            assert!(!verdict.doubled.is_empty() && verdict.lost.len() <= 1, "{:?}: {verdict:?}", again.kind);
        }
        // A follow-up with a ticket of its own makes two in the conversation.
        let mut ledger = all.clone();
        ledger.push(effect(&arrivals[1], EffectKind::TicketCreated));
        let doubled: Vec<String> = judge(&delivered(), &ledger, &DeadLetters::new()).doubled.into_iter().map(|one| one.what).collect();
        assert!(doubled.iter().any(|what| what.contains("its conversation has 2 tickets")), "{doubled:?}");
        // A ticket that belongs to nothing.
        ledger = all;
        ledger.push(Effect { key: Some("mail-other-ticket".into()), ..effect(&arrivals[0], EffectKind::TicketCreated) });
        assert_eq!(judge(&delivered(), &ledger, &DeadLetters::new()).doubled.len(), 1);
    }

    #[tokio::test]
    async fn an_answer_to_a_machine_or_in_another_conversation_is_misdirected() {
        let arrivals = arrivals().await;
        let mut ledger = good(&arrivals);
        let reply = ledger.iter_mut().find(|effect| effect.kind == EffectKind::MailReplied).unwrap();
        reply.conversation = Some("elsewhere".into());
        assert_eq!(judge(&delivered(), &ledger, &DeadLetters::new()).misdirected.len(), 1);

        let mut machines = delivered();
        machines[2].expectation = Expectation::AutoReply;
        assert_eq!(judge(&machines, &good(&arrivals), &DeadLetters::new()).misdirected.len(), 1);
        // Tagging one is all that is wanted.
        let mut ledger: Vec<Effect> = good(&arrivals).into_iter().filter(|effect| effect.parent.as_deref() != Some(&letter(3))).collect();
        assert_eq!(judge(&machines, &ledger, &DeadLetters::new()).lost.len(), 1);
        ledger.push(effect(&arrivals[2], EffectKind::MailCategorised));
        assert_eq!(counts(&judge(&machines, &ledger, &DeadLetters::new())), (3, 0, 0, 0, 0));
    }

    #[tokio::test]
    async fn a_damaged_letter_may_be_handled_or_kept_but_not_forgotten() {
        let arrivals = arrivals().await;
        let mut damaged = delivered();
        damaged[2].expectation = Expectation::Broken;
        assert_eq!(counts(&judge(&damaged, &good(&arrivals), &DeadLetters::new())), (3, 0, 0, 0, 0));
        let rest: Vec<Effect> = good(&arrivals).into_iter().filter(|effect| effect.parent.as_deref() != Some(&letter(3))).collect();
        assert_eq!(judge(&damaged, &rest, &DeadLetters::new()).lost.len(), 1);
    }
}
