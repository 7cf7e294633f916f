//! What a fake mail server gets wrong on request. Each fault is asked for by name and counted in, so a test says exactly which exchange goes
//! wrong; nothing is random.

use crate::ledger::lock;
use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The name under which the answer to a new connection waits.
pub(crate) const GREETING: &str = "GREETING";
/// The name under which the end of an IDLE waits.
pub(crate) const IDLING: &str = "IDLING";

/// What happens to a message after the dot that ends it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AfterDot {
    /// The message is accepted and delivered, then the connection is cut: the client cannot know.
    AcceptedReplyLost,
    /// The connection is cut and the message is not accepted: to the client it looks the same.
    NotAccepted,
    /// The message is accepted and the server never answers; the client's time limit ends the wait.
    AcceptedSilent,
    /// The message is refused with this reply line, such as `550 5.7.1 Message rejected as spam`.
    Refused(String),
}

/// A place of the SMTP dialogue where a scripted reply may stand in for the real one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// The greeting. A reply that is not `220` ends the connection.
    Greeting,
    /// The credentials were sent.
    Auth,
    /// `MAIL FROM`.
    Mail,
    /// `RCPT TO`, whoever it names; see [`MailFaults::recipient`] for a reply to one address.
    Rcpt,
    /// `DATA` or the first `BDAT`.
    Data,
}

/// A reply to one recipient.
#[derive(Clone, Debug)]
struct Script {
    reply: String,
    left: Option<u32>,
}

/// The faults of a running server. Every method works from the next exchange on.
///
/// Three recipients are scripted from the start, in any domain, because a person without a program wants to see them too: `greylisted@` is put
/// off once (`451 4.7.1`) and accepted after that, `unknown@` does not exist (`550 5.1.1`), `full@` has no room (`452 4.2.2`).
/// Two more decide what happens after the dot of a message to them: `reply-lost@` (accepted) and `cut@` (not accepted).
#[derive(Debug)]
pub struct MailFaults {
    imap: Mutex<VecDeque<(String, String)>>,
    stages: Mutex<HashMap<Stage, VecDeque<String>>>,
    recipients: Mutex<HashMap<String, Script>>,
    after_dot: Mutex<VecDeque<AfterDot>>,
    strip_starttls: AtomicBool,
    inject_after_starttls: AtomicBool,
    refuse_logins: AtomicBool,
    over_quota: AtomicBool,
    max_connections: AtomicUsize,
}

impl Default for MailFaults {
    fn default() -> Self {
        let script = |reply: &str, left| Script { reply: reply.to_owned(), left };
        let recipients = HashMap::from([
            ("greylisted".to_owned(), script("451 4.7.1 Greylisted, please try again in 300 seconds", Some(1))),
            ("unknown".to_owned(), script("550 5.1.1 The email account that you tried to reach does not exist", None)),
            ("full".to_owned(), script("452 4.2.2 The recipient's mailbox is full", None)),
        ]);
        Self {
            imap: Mutex::default(),
            stages: Mutex::default(),
            recipients: Mutex::new(recipients),
            after_dot: Mutex::default(),
            strip_starttls: AtomicBool::new(false),
            inject_after_starttls: AtomicBool::new(false),
            refuse_logins: AtomicBool::new(false),
            over_quota: AtomicBool::new(false),
            max_connections: AtomicUsize::new(usize::MAX),
        }
    }
}

impl MailFaults {
    /// The next IMAP `command` (`SELECT`, `UID FETCH`, `APPEND`, …; `*` for any) is not done and answered with `reply`: `NO [UNAVAILABLE] text`
    /// or `BAD text` as the tagged answer, `BYE text` for `* BYE` and a closed connection, `CUT` for a closed connection without a word.
    /// `GREETING` stands for the next connection, with a reply of the same forms. Several wait in line. An IDLE that waits already is ended by
    /// [`end_idle`](super::MailServer::end_idle).
    pub fn imap(&self, command: &str, reply: &str) {
        lock(&self.imap).push_back((command.to_ascii_uppercase(), reply.to_owned()));
    }

    /// The next `times` SMTP exchanges at this stage are answered with `reply` (`450 4.2.1 text`) and not done. A `421` also closes the connection.
    pub fn smtp(&self, stage: Stage, reply: &str, times: usize) {
        let mut stages = lock(&self.stages);
        stages.entry(stage).or_default().extend(std::iter::repeat_n(reply.to_owned(), times));
    }

    /// Answers `RCPT TO` for this recipient (a full address, or a local part for every domain) with `reply`, the next `times` times or for ever.
    pub fn recipient(&self, recipient: &str, reply: &str, times: Option<u32>) {
        lock(&self.recipients).insert(recipient.to_ascii_lowercase(), Script { reply: reply.to_owned(), left: times });
    }

    /// Lets the next message end like this. Several wait in line.
    pub fn after_dot(&self, fate: AfterDot) {
        lock(&self.after_dot).push_back(fate);
    }

    /// Hides STARTTLS and refuses it, as somebody between client and server would do to keep the password readable.
    pub fn strip_starttls(&self, on: bool) {
        self.strip_starttls.store(on, Ordering::Relaxed);
    }

    /// Sends a plaintext line together with the answer to STARTTLS, as somebody between client and server would do to speak for the server.
    pub fn inject_after_starttls(&self, on: bool) {
        self.inject_after_starttls.store(on, Ordering::Relaxed);
    }

    /// Refuses every login, right password or not.
    pub fn refuse_logins(&self, on: bool) {
        self.refuse_logins.store(on, Ordering::Relaxed);
    }

    /// Refuses everything that would store a message: `NO [OVERQUOTA]` in IMAP, `452 4.2.2` for local recipients in SMTP.
    pub fn over_quota(&self, on: bool) {
        self.over_quota.store(on, Ordering::Relaxed);
    }

    /// At most this many IMAP sessions per account and this many SMTP connections.
    pub fn max_connections(&self, count: usize) {
        self.max_connections.store(count, Ordering::Relaxed);
    }

    pub(crate) fn starttls_stripped(&self) -> bool {
        self.strip_starttls.load(Ordering::Relaxed)
    }

    pub(crate) fn injects_after_starttls(&self) -> bool {
        self.inject_after_starttls.load(Ordering::Relaxed)
    }

    pub(crate) fn logins_refused(&self) -> bool {
        self.refuse_logins.load(Ordering::Relaxed)
    }

    pub(crate) fn is_over_quota(&self) -> bool {
        self.over_quota.load(Ordering::Relaxed)
    }

    pub(crate) fn connections(&self) -> usize {
        self.max_connections.load(Ordering::Relaxed)
    }

    pub(crate) fn next_imap(&self, command: &str) -> Option<String> {
        let mut waiting = lock(&self.imap);
        let any = !matches!(command, GREETING | IDLING);
        let at = waiting.iter().position(|(name, _)| name == command || (any && name == "*"))?;
        waiting.remove(at).map(|(_, reply)| reply)
    }

    pub(crate) fn next_smtp(&self, stage: Stage) -> Option<String> {
        lock(&self.stages).get_mut(&stage)?.pop_front()
    }

    pub(crate) fn next_recipient(&self, address: &str) -> Option<String> {
        let address = address.to_ascii_lowercase();
        let local = address.split('@').next().unwrap_or_default().to_owned();
        let mut recipients = lock(&self.recipients);
        let key = if recipients.contains_key(&address) { address } else { local };
        let script = recipients.get_mut(&key)?;
        match &mut script.left {
            Some(0) => None,
            Some(left) => {
                *left -= 1;
                Some(script.reply.clone())
            }
            None => Some(script.reply.clone()),
        }
    }

    pub(crate) fn next_after_dot(&self, recipients: &[String]) -> Option<AfterDot> {
        if let Some(fate) = lock(&self.after_dot).pop_front() {
            return Some(fate);
        }
        recipients.iter().find_map(|address| match address.split('@').next()? {
            "reply-lost" => Some(AfterDot::AcceptedReplyLost),
            "cut" => Some(AfterDot::NotAccepted),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greylisted_is_put_off_once_and_a_full_address_wins_over_a_local_part() {
        let faults = MailFaults::default();
        assert!(faults.next_recipient("Greylisted@example.test").unwrap().starts_with("451 4.7.1"));
        assert_eq!(faults.next_recipient("greylisted@example.test"), None);
        faults.recipient("unknown@here.test", "450 4.2.1 later", None);
        assert_eq!(faults.next_recipient("unknown@here.test").unwrap(), "450 4.2.1 later");
        assert!(faults.next_recipient("unknown@there.test").unwrap().starts_with("550"));
    }

    #[test]
    fn a_scripted_answer_waits_for_its_command() {
        let faults = MailFaults::default();
        faults.imap("uid fetch", "NO [UNAVAILABLE] later");
        assert_eq!(faults.next_imap("SELECT"), None);
        assert!(faults.next_imap("UID FETCH").is_some());
        assert_eq!(faults.next_imap("UID FETCH"), None);
    }
}
