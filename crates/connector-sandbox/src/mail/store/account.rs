//! One account: its mailboxes and what a client may do with them. Every change counts the modification sequence of the account up by one.

use super::{Mailbox, Message};
use crate::mail::mime;
use jiff::Timestamp;
use std::collections::BTreeSet;

/// Gmail's own names for the mailboxes that are not user labels.
const GMAIL_LABELS: [(&str, &str); 5] =
    [("\\Inbox", "INBOX"), ("\\Sent", "[Gmail]/Sent Mail"), ("\\Draft", "[Gmail]/Drafts"), ("\\Trash", "[Gmail]/Trash"), ("\\Spam", "[Gmail]/Spam")];

/// The mailboxes a person has from the start.
const MAILBOXES: [(&str, Option<&str>); 6] = [
    ("INBOX", None),
    ("Drafts", Some("\\Drafts")),
    ("Sent", Some("\\Sent")),
    ("Trash", Some("\\Trash")),
    ("Junk", Some("\\Junk")),
    ("Archive", Some("\\Archive")),
];

const GMAIL_MAILBOXES: [(&str, Option<&str>); 8] = [
    ("INBOX", None),
    ("[Gmail]", None),
    ("[Gmail]/All Mail", Some("\\All")),
    ("[Gmail]/Drafts", Some("\\Drafts")),
    ("[Gmail]/Sent Mail", Some("\\Sent")),
    ("[Gmail]/Spam", Some("\\Junk")),
    ("[Gmail]/Starred", Some("\\Flagged")),
    ("[Gmail]/Trash", Some("\\Trash")),
];

/// How flags are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Replace,
    Add,
    Remove,
}

/// An account's mailboxes.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) mailboxes: Vec<Mailbox>,
    gmail: bool,
    delimiter: char,
    modseq: u64,
    next_id: u64,
    next_gm: u64,
}

impl Account {
    pub(crate) fn new(gmail: bool, delimiter: char) -> Self {
        let mut account = Self { mailboxes: Vec::new(), gmail, delimiter, modseq: 715_194_045_000, next_id: 1, next_gm: 1_278_455_344_230_334_800 };
        let names: &[(&str, Option<&str>)] = if gmail { &GMAIL_MAILBOXES } else { &MAILBOXES };
        for (name, special) in names {
            account.create(name, *special);
        }
        account
    }

    fn step(&mut self) -> u64 {
        self.modseq += 1;
        self.modseq
    }

    /// Makes a mailbox; false if the name is taken.
    pub(crate) fn create(&mut self, name: &str, special: Option<&str>) -> bool {
        if self.named(name).is_some() {
            return false;
        }
        let (id, highest) = (self.next_id, self.step());
        self.next_id += 1;
        self.mailboxes.push(Mailbox {
            id,
            name: canonical(name),
            special: special.map(str::to_owned),
            selectable: name != "[Gmail]",
            subscribed: true,
            uidvalidity: 1_763_600_000 + u32::try_from(id).unwrap_or_default(),
            uidnext: 1,
            highest,
            messages: Vec::new(),
            vanished: Vec::new(),
        });
        true
    }

    pub(crate) fn named(&self, name: &str) -> Option<&Mailbox> {
        let name = canonical(name);
        self.mailboxes.iter().find(|mailbox| mailbox.name == name)
    }

    pub(crate) fn by_id(&self, id: u64) -> Option<&Mailbox> {
        self.mailboxes.iter().find(|mailbox| mailbox.id == id)
    }

    pub(crate) fn by_id_mut(&mut self, id: u64) -> Option<&mut Mailbox> {
        self.mailboxes.iter_mut().find(|mailbox| mailbox.id == id)
    }

    /// The mailbox with this special use.
    pub(crate) fn special(&self, special: &str) -> Option<&Mailbox> {
        self.mailboxes.iter().find(|mailbox| mailbox.special.as_deref() == Some(special))
    }

    /// Removes a mailbox.
    pub(crate) fn delete(&mut self, id: u64) {
        self.mailboxes.retain(|mailbox| mailbox.id != id);
    }

    /// Renames a mailbox and what is below it; the messages keep their UIDs.
    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        let below = format!("{from}{}", self.delimiter);
        for mailbox in &mut self.mailboxes {
            if mailbox.name == from {
                mailbox.name = to.to_owned();
            } else if let Some(rest) = mailbox.name.strip_prefix(&below) {
                mailbox.name = format!("{to}{}{rest}", self.delimiter);
            }
        }
    }

    /// Gives a mailbox a new UIDVALIDITY and new UIDs, as after a restore from a backup.
    pub(crate) fn reset_uidvalidity(&mut self, name: &str) -> bool {
        let modseq = self.step();
        let name = canonical(name);
        let Some(mailbox) = self.mailboxes.iter_mut().find(|mailbox| mailbox.name == name) else { return false };
        mailbox.uidvalidity += 1000;
        mailbox.vanished.clear();
        mailbox.highest = modseq;
        for (uid, message) in (1..).zip(&mut mailbox.messages) {
            message.uid = uid;
            message.modseq = modseq;
        }
        mailbox.uidnext = u32::try_from(mailbox.messages.len()).unwrap_or(u32::MAX - 1) + 1;
        true
    }

    /// Stores new octets; the UID, or `None` without such a mailbox.
    pub(crate) fn append(&mut self, mailbox: u64, raw: &[u8], flags: BTreeSet<String>, internal: Timestamp) -> Option<u32> {
        let header = mime::split(raw).0;
        let message_id = mime::field(header, "message-id").unwrap_or_default();
        self.next_gm += 1;
        let gm_msgid = self.next_gm;
        let cited = [mime::field(header, "references"), mime::field(header, "in-reply-to")].into_iter().flatten().collect::<String>();
        let thread = self.mailboxes.iter().flat_map(|mailbox| &mailbox.messages);
        let gm_thrid = thread
            .filter(|message| !message.message_id.is_empty() && cited.contains(&message.message_id))
            .map(|message| message.gm_thrid)
            .next()
            .unwrap_or(gm_msgid);
        let message = Message { uid: 0, modseq: 0, flags, internal, raw: raw.into(), message_id, gm_msgid, gm_thrid };
        let modseq = self.step();
        let uid = self.by_id_mut(mailbox)?.push(message.clone(), modseq);
        if self.gmail
            && let Some(all) = self.special("\\All").map(|all| all.id)
            && all != mailbox
            && !self.by_id(mailbox).is_some_and(|mailbox| matches!(mailbox.special.as_deref(), Some("\\Trash" | "\\Junk")))
        {
            self.by_id_mut(all)?.push(message, modseq);
        }
        Some(uid)
    }

    /// Copies a message; its UID in the other mailbox. Gmail does not copy what is there already.
    pub(crate) fn copy(&mut self, from: u64, uid: u32, to: u64) -> Option<u32> {
        let message = self.by_id(from)?.get(uid)?.clone();
        if self.gmail {
            let there = self.by_id(to)?.messages.iter().find(|other| other.gm_msgid == message.gm_msgid);
            if let Some(there) = there {
                return Some(there.uid);
            }
        }
        let modseq = self.step();
        let new = self.by_id_mut(to)?.push(message.clone(), modseq);
        let emptying = |mailbox: &Mailbox| matches!(mailbox.special.as_deref(), Some("\\Trash" | "\\Junk"));
        if self.gmail && self.by_id(to).is_some_and(emptying) {
            // A message in the bin has no other label.
            let others: Vec<(u64, u32)> =
                self.copies(message.gm_msgid).into_iter().filter(|(mailbox, _)| *mailbox != to && *mailbox != from).collect();
            for (mailbox, uid) in others {
                self.expunge(mailbox, uid);
            }
        }
        self.touch(message.gm_msgid);
        Some(new)
    }

    /// Removes a message from a mailbox.
    pub(crate) fn expunge(&mut self, mailbox: u64, uid: u32) -> Option<Message> {
        let modseq = self.step();
        let message = self.by_id_mut(mailbox)?.take(uid, modseq)?;
        self.touch(message.gm_msgid);
        Some(message)
    }

    /// Changes flags; the new modification sequence if anything changed.
    pub(crate) fn flag(&mut self, mailbox: u64, uid: u32, change: Change, flags: &BTreeSet<String>) -> Option<u64> {
        let message = self.by_id(mailbox)?.get(uid)?;
        let mut wanted = message.flags.clone();
        match change {
            Change::Replace => wanted = flags.clone(),
            Change::Add => wanted.extend(flags.iter().filter(|flag| !message.has(flag)).cloned()),
            Change::Remove => wanted.retain(|known| !flags.iter().any(|flag| flag.eq_ignore_ascii_case(known))),
        }
        if wanted == message.flags {
            return None;
        }
        let gm_msgid = message.gm_msgid;
        let modseq = self.step();
        let copies = if self.gmail { self.copies(gm_msgid) } else { vec![(mailbox, uid)] };
        for (mailbox, uid) in copies {
            let mailbox = self.by_id_mut(mailbox)?;
            mailbox.highest = modseq;
            let message = mailbox.get_mut(uid)?;
            message.flags.clone_from(&wanted);
            message.modseq = modseq;
        }
        Some(modseq)
    }

    /// The Gmail labels of a message, as the client sees them.
    pub(crate) fn labels(&self, gm_msgid: u64) -> Vec<String> {
        let mut labels: Vec<String> = Vec::new();
        for (id, _) in self.copies(gm_msgid) {
            let Some(mailbox) = self.by_id(id) else { continue };
            if mailbox.special.as_deref() == Some("\\All") {
                continue;
            }
            let system = GMAIL_LABELS.iter().find(|(_, name)| *name == mailbox.name);
            labels.push(system.map_or_else(|| mailbox.name.clone(), |(label, _)| (*label).to_owned()));
        }
        labels
    }

    /// Puts a label on a message or takes it off; a new label makes a new mailbox.
    pub(crate) fn label(&mut self, mailbox: u64, uid: u32, label: &str, on: bool) -> Option<()> {
        let system = GMAIL_LABELS.iter().find(|(known, _)| known.eq_ignore_ascii_case(label));
        let name = system.map_or(label, |(_, name)| name).to_owned();
        let gm_msgid = self.by_id(mailbox)?.get(uid)?.gm_msgid;
        if on {
            self.create(&name, None);
            let to = self.named(&name)?.id;
            self.copy(mailbox, uid, to)?;
        } else {
            let from = self.named(&name)?.id;
            let (_, uid) = self.copies(gm_msgid).into_iter().find(|(mailbox, _)| *mailbox == from)?;
            self.expunge(from, uid);
        }
        Some(())
    }

    /// Every place of a message.
    fn copies(&self, gm_msgid: u64) -> Vec<(u64, u32)> {
        let places = self.mailboxes.iter().flat_map(|mailbox| mailbox.messages.iter().map(move |message| (mailbox.id, message)));
        places.filter(|(_, message)| message.gm_msgid == gm_msgid).map(|(id, message)| (id, message.uid)).collect()
    }

    /// In the Gmail mode a change of labels is a change of every copy.
    fn touch(&mut self, gm_msgid: u64) {
        if !self.gmail {
            return;
        }
        let modseq = self.step();
        for (mailbox, uid) in self.copies(gm_msgid) {
            if let Some(mailbox) = self.by_id_mut(mailbox) {
                mailbox.highest = modseq;
                if let Some(message) = mailbox.get_mut(uid) {
                    message.modseq = modseq;
                }
            }
        }
    }

    /// Octets in all mailboxes.
    pub(crate) fn size(&self) -> u64 {
        self.mailboxes.iter().map(Mailbox::size).sum()
    }
}

/// INBOX is one name in any case (RFC 3501 §5.1).
fn canonical(name: &str) -> String {
    if name.eq_ignore_ascii_case("INBOX") { "INBOX".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_uid_is_never_used_again_and_what_vanished_is_remembered() {
        let mut account = Account::new(false, '/');
        let inbox = account.named("inbox").unwrap().id;
        for _ in 0..2 {
            account.append(inbox, b"Subject: a\r\n\r\n", BTreeSet::new(), Timestamp::UNIX_EPOCH);
        }
        let before = account.named("INBOX").unwrap().highest;
        account.expunge(inbox, 2);
        assert_eq!(account.append(inbox, b"Subject: b\r\n\r\n", BTreeSet::new(), Timestamp::UNIX_EPOCH), Some(3));
        let mailbox = account.named("INBOX").unwrap();
        assert!(mailbox.highest > before);
        assert_eq!(mailbox.vanished.iter().map(|(uid, _)| *uid).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn flags_that_are_there_already_change_nothing() {
        let mut account = Account::new(false, '/');
        let inbox = account.named("INBOX").unwrap().id;
        account.append(inbox, b"\r\n", flags(&["\\Seen"]), Timestamp::UNIX_EPOCH);
        assert_eq!(account.flag(inbox, 1, Change::Add, &flags(&["\\seen"])), None);
        assert!(account.flag(inbox, 1, Change::Remove, &flags(&["\\SEEN"])).is_some());
    }

    #[test]
    fn in_gmail_a_label_is_a_mailbox_and_flags_are_of_the_message() {
        let mut account = Account::new(true, '/');
        let inbox = account.named("INBOX").unwrap().id;
        account.append(inbox, b"Message-ID: <1@x>\r\n\r\n", BTreeSet::new(), Timestamp::UNIX_EPOCH);
        account.label(inbox, 1, "Support/Open", true).unwrap();
        let gm = account.named("INBOX").unwrap().messages[0].gm_msgid;
        assert_eq!(account.labels(gm), ["\\Inbox", "Support/Open"]);
        let label = account.named("Support/Open").unwrap().id;
        account.flag(label, 1, Change::Add, &flags(&["\\Seen"])).unwrap();
        assert!(account.named("[Gmail]/All Mail").unwrap().messages[0].has("\\Seen"));
        account.label(inbox, 1, "\\Inbox", false).unwrap();
        assert_eq!(account.labels(gm), ["Support/Open"]);
        assert!(account.named("INBOX").unwrap().messages.is_empty());
    }
}
