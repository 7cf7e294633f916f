//! The sandbox's own truth: every effect a fake vendor committed, in order, whatever the client was told about it. A run checks its
//! promises (nothing lost, nothing doubled) against this and never against its own bookkeeping. It refuses reads and refused writes, except refused token requests.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EffectKind {
    /// A message arrived in a mailbox from outside; the input side of a run.
    MailReceived,
    /// A draft was made; it reached nobody yet.
    MailDrafted,
    /// A new message left a mailbox.
    MailSent,
    /// A reply left a mailbox; `parent` is the answered message's `internetMessageId`.
    MailReplied,
    /// A message was forwarded; `parent` is the original's `internetMessageId`.
    MailForwarded,
    /// A message moved to another folder.
    MailMoved,
    /// A message's categories changed; `target` is its `internetMessageId`, `detail` the new list.
    MailCategorised,
    /// Any other change of a message (read state, flag, draft text, attachment).
    MailUpdated,
    /// A message was deleted.
    MailDeleted,
    /// An appointment was made; `key` is its `transactionId`.
    EventCreated,
    /// An appointment was changed, answered, forwarded or taken away.
    EventChanged,
    /// A file or folder was made.
    FileStored,
    /// A file or folder was changed, shared or deleted.
    FileChanged,
    /// A change-notification subscription was made, renewed or removed.
    SubscriptionChanged,
    /// A CRM record was created.
    RecordCreated,
    /// A CRM record was updated.
    RecordUpdated,
    /// A CRM record was archived, merged away or erased.
    RecordRemoved,
    /// A CRM association was made or removed.
    AssociationChanged,
    /// A CRM property definition was created, changed or removed.
    PropertyChanged,
    /// A CMDB object was created.
    CiCreated,
    /// A CMDB object was updated.
    CiUpdated,
    /// A CMDB object was removed.
    CiRemoved,
    /// A journal entry was written on a CMDB object; `target` is `type:id`.
    JournalEntry,
    /// A ticket was linked to a CI; `target` is the CI, `parent` the ticket.
    TicketLinked,
    /// A ticket was created; `key` is its `external_id`, else its idempotency key.
    TicketCreated,
    /// A comment was added; `target` is the ticket.
    TicketCommented,
    /// A ticket's fields changed; `target` is the ticket.
    TicketUpdated,
    /// A purchase order was created.
    PurchaseOrderCreated,
    /// A chat message was written; `target` is `channel:ts`, `parent` the thread's, `key` the mark in its metadata.
    ChatPosted,
    /// A chat message was changed or deleted; `target` is `channel:ts`.
    ChatChanged,
    /// A reaction or a pin was put on a message or taken off; `target` is `channel:ts`.
    ChatMarked,
    /// A channel was made or changed, or who is in it.
    ChatChannelChanged,
    /// A file was shared.
    ChatFileShared,
    /// A slash command or an interaction was answered at its `response_url`.
    ChatAnswered,
    /// A person consented; `target` is the client, `detail` the granted scopes.
    ConsentGiven,
    /// An access token was issued; `target` is the grant (`authorization_code`, `refresh_token`, `client_credentials`).
    TokenIssued,
    /// A token request was refused; `target` is the grant, `detail` the reason. The one refusal that is written: burnt tokens show here.
    TokenRefused,
    /// A consent was taken back over the vendor's own revocation; `target` is the client.
    GrantRevoked,
}

/// One committed effect.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Effect {
    /// Position in the ledger, from 0.
    pub ordinal: u64,
    /// The fake vendor that committed it (`msgraph`, `hubspot`, …).
    pub vendor: &'static str,
    /// What happened.
    pub kind: EffectKind,
    /// Wall time of the commit.
    pub at: Timestamp,
    /// What it happened to: a vendor id, or for mail the `internetMessageId`.
    pub target: String,
    /// The caller's own key, where one was given.
    pub key: Option<String>,
    /// The thing this belongs to: the answered message, the ticket.
    pub parent: Option<String>,
    /// The mail conversation.
    pub conversation: Option<String>,
    /// Further facts, small.
    pub detail: Value,
}

/// An effect about to be written; see [`Effect`] for the fields.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) vendor: &'static str,
    pub(crate) kind: EffectKind,
    pub(crate) target: String,
    pub(crate) key: Option<String>,
    pub(crate) parent: Option<String>,
    pub(crate) conversation: Option<String>,
    pub(crate) detail: Value,
}

impl Entry {
    pub(crate) fn new(vendor: &'static str, kind: EffectKind, target: impl Into<String>) -> Self {
        Self { vendor, kind, target: target.into(), key: None, parent: None, conversation: None, detail: Value::Null }
    }

    pub(crate) fn key(mut self, key: Option<String>) -> Self {
        self.key = key;
        self
    }

    pub(crate) fn parent(mut self, parent: Option<String>) -> Self {
        self.parent = parent;
        self
    }

    pub(crate) fn conversation(mut self, conversation: impl Into<String>) -> Self {
        self.conversation = Some(conversation.into());
        self
    }

    pub(crate) fn detail(mut self, detail: Value) -> Self {
        self.detail = detail;
        self
    }
}

/// The append-only list of effects.
#[derive(Debug, Default)]
pub struct Ledger {
    effects: Mutex<Vec<Effect>>,
}

impl Ledger {
    pub(crate) fn record(&self, at: Timestamp, entry: Entry) {
        let mut effects = lock(&self.effects);
        let ordinal = effects.len() as u64;
        let Entry { vendor, kind, target, key, parent, conversation, detail } = entry;
        effects.push(Effect { ordinal, vendor, kind, at, target, key, parent, conversation, detail });
    }

    /// Every effect so far, oldest first.
    pub fn effects(&self) -> Vec<Effect> {
        lock(&self.effects).clone()
    }

    /// The effects of one kind, oldest first.
    pub fn of_kind(&self, kind: EffectKind) -> Vec<Effect> {
        lock(&self.effects).iter().filter(|e| e.kind == kind).cloned().collect()
    }

    /// How many effects of one kind were committed.
    pub fn count(&self, kind: EffectKind) -> usize {
        lock(&self.effects).iter().filter(|e| e.kind == kind).count()
    }

    /// Replies that left, by the `internetMessageId` they answer. Two under one key mean a doubled reply.
    pub fn replies_by_message(&self) -> BTreeMap<String, Vec<Effect>> {
        self.grouped(EffectKind::MailReplied, |e| e.parent.clone())
    }

    /// Tickets created, by `external_id` or, without one, by idempotency key. Two under one key mean a doubled ticket; tickets with
    /// neither are under the empty string.
    pub fn tickets_by_key(&self) -> BTreeMap<String, Vec<Effect>> {
        self.grouped(EffectKind::TicketCreated, |e| Some(e.key.clone().unwrap_or_default()))
    }

    /// Category changes, by the `internetMessageId` of the message.
    pub fn categories_by_message(&self) -> BTreeMap<String, Vec<Effect>> {
        self.grouped(EffectKind::MailCategorised, |e| Some(e.target.clone()))
    }

    /// Messages that arrived from outside, by `internetMessageId`.
    pub fn received_by_message(&self) -> BTreeMap<String, Vec<Effect>> {
        self.grouped(EffectKind::MailReceived, |e| Some(e.target.clone()))
    }

    fn grouped(&self, kind: EffectKind, key: impl Fn(&Effect) -> Option<String>) -> BTreeMap<String, Vec<Effect>> {
        let mut groups: BTreeMap<String, Vec<Effect>> = BTreeMap::new();
        for effect in lock(&self.effects).iter().filter(|e| e.kind == kind) {
            if let Some(key) = key(effect) {
                groups.entry(key).or_default().push(effect.clone());
            }
        }
        groups
    }
}

/// Locks a mutex, taking the value even after a panic elsewhere: a fake vendor has nothing to protect from itself.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
