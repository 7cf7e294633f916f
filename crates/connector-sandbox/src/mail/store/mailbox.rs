//! One mailbox: messages in UID order, and what is no longer there.

use jiff::Timestamp;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A message in a mailbox. Cloning is cheap: the octets are shared.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) uid: u32,
    pub(crate) modseq: u64,
    pub(crate) flags: BTreeSet<String>,
    pub(crate) internal: Timestamp,
    pub(crate) raw: Arc<[u8]>,
    pub(crate) message_id: String,
    pub(crate) gm_msgid: u64,
    pub(crate) gm_thrid: u64,
}

impl Message {
    pub(crate) fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|known| known.eq_ignore_ascii_case(flag))
    }
}

/// A mailbox.
#[derive(Debug)]
pub(crate) struct Mailbox {
    pub(crate) id: u64,
    /// As on the wire: modified UTF-7.
    pub(crate) name: String,
    /// Its special use (`\Sent`), if it has one.
    pub(crate) special: Option<String>,
    /// False for a name that only holds others.
    pub(crate) selectable: bool,
    pub(crate) subscribed: bool,
    pub(crate) uidvalidity: u32,
    pub(crate) uidnext: u32,
    pub(crate) highest: u64,
    pub(crate) messages: Vec<Message>,
    pub(crate) vanished: Vec<(u32, u64)>,
}

impl Mailbox {
    pub(crate) fn get(&self, uid: u32) -> Option<&Message> {
        self.messages.binary_search_by_key(&uid, |message| message.uid).ok().map(|at| &self.messages[at])
    }

    pub(crate) fn get_mut(&mut self, uid: u32) -> Option<&mut Message> {
        let at = self.messages.binary_search_by_key(&uid, |message| message.uid).ok()?;
        self.messages.get_mut(at)
    }

    /// Puts a message at the end under a new UID.
    pub(crate) fn push(&mut self, mut message: Message, modseq: u64) -> u32 {
        let uid = self.uidnext;
        self.uidnext += 1;
        self.highest = modseq;
        message.uid = uid;
        message.modseq = modseq;
        self.messages.push(message);
        uid
    }

    /// Takes a message out and remembers that it was there.
    pub(crate) fn take(&mut self, uid: u32, modseq: u64) -> Option<Message> {
        let at = self.messages.binary_search_by_key(&uid, |message| message.uid).ok()?;
        self.highest = modseq;
        self.vanished.push((uid, modseq));
        Some(self.messages.remove(at))
    }

    pub(crate) fn unseen(&self) -> usize {
        self.messages.iter().filter(|message| !message.has("\\Seen")).count()
    }

    pub(crate) fn size(&self) -> u64 {
        self.messages.iter().map(|message| message.raw.len() as u64).sum()
    }
}
