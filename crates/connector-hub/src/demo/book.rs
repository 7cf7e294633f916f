//! What the desk remembers, in the state store: which message is being handled and how, and which thread has which ticket.
//!
//! Every claim is a compare-and-swap, so that two copies of a message, or two messages of one thread that arrive together, never both
//! win. Refuses to call vendors.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use connector_core::{
    Error, Result, TenantId,
    clock::{Clock, unix_millis},
    state::{Condition, Entry, Namespace, PutOutcome, Store},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::mail::Mail;

/// Messages by what makes them the same letter.
const MAIL: &str = "demo.mail";
/// Finished messages by Graph's id, so that an event that comes again is seen without a request.
const DONE: &str = "demo.done";
/// Threads and their tickets.
const THREADS: &str = "demo.threads";
/// After this time a thread's opener that made no ticket is taken for gone.
const ABANDONED: Duration = Duration::from_secs(20);

/// A configuration item a message names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Item {
    pub(super) id: String,
    pub(super) name: String,
    /// How many other items depend on it.
    pub(super) dependents: usize,
}

/// What was found out about a message before anything was written. Kept, so that an attempt after a failure writes the very same things.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) tier: String,
    pub(super) company: Option<String>,
    pub(super) priority: String,
    /// Hours until somebody answers.
    pub(super) hours: u32,
    pub(super) items: Vec<Item>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    graph_id: String,
    plan: Option<Plan>,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// It opened a ticket and was answered.
    Ticket,
    /// It was added to its thread's ticket and answered.
    Comment,
    /// A machine wrote it; it was only tagged.
    Automatic,
    /// The same letter was delivered a second time; it was only tagged.
    Copy,
    /// It was deleted before anybody looked.
    Gone,
}

/// Whose turn it is with a message.
#[derive(Debug, PartialEq)]
pub(super) enum Claim {
    /// Ours, with the plan of an earlier attempt.
    Ours(Option<Plan>),
    /// Another delivery of the same letter is handled already.
    Copy,
}

/// A thread as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Thread {
    /// The reference under which the message that opened it makes its ticket.
    pub(super) opener: String,
    pub(super) ticket: Option<String>,
    /// Unix milliseconds.
    since: u64,
}

/// How a message stands to its thread.
#[derive(Debug, PartialEq)]
pub(super) enum Entrance {
    /// It shall make the ticket and then settle the thread at this version.
    Open(u64),
    /// It made this ticket in an earlier attempt.
    Opened(String),
    /// Another message made this ticket.
    Joined(String),
    /// Another message is making the ticket.
    Wait,
    /// Another message claimed the thread long ago and made no ticket that we know of.
    Abandoned(Thread, u64),
}

/// The desk's memory.
#[derive(Debug, Clone)]
pub(super) struct Book {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    tenant: TenantId,
}

impl Book {
    pub(super) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock, tenant: TenantId::default() }
    }

    /// Unix milliseconds.
    pub(super) fn now(&self) -> u64 {
        unix_millis(self.clock.wall())
    }

    fn part<'a>(&'a self, name: &'a str) -> Namespace<'a> {
        Namespace::new(&self.tenant, name)
    }

    async fn put(&self, part: &str, key: &str, value: &impl Serialize, condition: Condition) -> Result<PutOutcome> {
        let bytes = serde_json::to_vec(value).map_err(|error| Error::internal("a record of the desk cannot be written").with_source(error))?;
        self.store.put(self.part(part), key, Bytes::from(bytes), condition, None).await
    }

    /// What became of a message, if it is finished.
    pub(super) async fn outcome(&self, graph_id: &str) -> Result<Option<Outcome>> {
        self.store.get(self.part(DONE), graph_id).await?.map(|entry| read(&entry)).transpose()
    }

    /// The message is finished.
    pub(super) async fn finish(&self, graph_id: &str, outcome: Outcome) -> Result<()> {
        self.put(DONE, graph_id, &outcome, Condition::Any).await.map(drop)
    }

    /// Takes a message, or finds that it is a copy of one that is taken.
    pub(super) async fn claim(&self, mail: &Mail) -> Result<Claim> {
        let key = mail.key("claim");
        let record = Record { graph_id: mail.id.clone(), plan: None };
        match self.put(MAIL, &key, &record, Condition::Absent).await? {
            PutOutcome::Stored(_) => Ok(Claim::Ours(None)),
            PutOutcome::Refused(Some(entry)) => {
                let known: Record = read(&entry)?;
                Ok(if known.graph_id == mail.id { Claim::Ours(known.plan) } else { Claim::Copy })
            }
            PutOutcome::Refused(None) => Err(Error::internal("a message's record vanished while it was read")),
        }
    }

    /// Keeps the plan for a claimed message.
    pub(super) async fn plan(&self, mail: &Mail, plan: &Plan) -> Result<()> {
        let record = Record { graph_id: mail.id.clone(), plan: Some(plan.clone()) };
        self.put(MAIL, &mail.key("claim"), &record, Condition::Any).await.map(drop)
    }

    /// Asks for the thread's ticket, or for the right to make it under the reference `opener`.
    pub(super) async fn enter(&self, thread: &str, opener: &str) -> Result<Entrance> {
        let fresh = Thread { opener: opener.to_owned(), ticket: None, since: self.now() };
        match self.put(THREADS, thread, &fresh, Condition::Absent).await? {
            PutOutcome::Stored(version) => Ok(Entrance::Open(version)),
            PutOutcome::Refused(Some(entry)) => {
                let known: Thread = read(&entry)?;
                let is_ours = known.opener == opener;
                Ok(match &known.ticket {
                    Some(ticket) if is_ours => Entrance::Opened(ticket.clone()),
                    Some(ticket) => Entrance::Joined(ticket.clone()),
                    None if is_ours => Entrance::Open(entry.version),
                    None if self.now().saturating_sub(known.since) > millis(ABANDONED) => Entrance::Abandoned(known, entry.version),
                    None => Entrance::Wait,
                })
            }
            PutOutcome::Refused(None) => Ok(Entrance::Wait),
        }
    }

    /// The thread has its ticket. `false`: somebody else settled it meanwhile.
    pub(super) async fn settle(&self, thread: &str, opener: &str, ticket: &str, version: u64) -> Result<bool> {
        let settled = Thread { opener: opener.to_owned(), ticket: Some(ticket.to_owned()), since: self.now() };
        Ok(self.put(THREADS, thread, &settled, Condition::Is(version)).await?.is_stored())
    }

    /// Takes over a thread whose opener is gone. `None`: somebody else was quicker.
    pub(super) async fn take_over(&self, thread: &str, opener: &str, version: u64) -> Result<Option<u64>> {
        let fresh = Thread { opener: opener.to_owned(), ticket: None, since: self.now() };
        Ok(match self.put(THREADS, thread, &fresh, Condition::Is(version)).await? {
            PutOutcome::Stored(version) => Some(version),
            PutOutcome::Refused(_) => None,
        })
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn read<T: DeserializeOwned>(entry: &Entry) -> Result<T> {
    serde_json::from_slice(&entry.value).map_err(|error| Error::internal("a record of the desk cannot be read").with_source(error))
}

#[cfg(test)]
mod tests {
    use connector_core::clock::SystemClock;
    use connector_state::MemoryState;

    use super::*;

    fn book() -> Book {
        Book::new(Arc::new(MemoryState::default()), SystemClock::shared())
    }

    #[tokio::test]
    async fn one_message_of_a_thread_opens_it_and_the_others_join() {
        let book = book();
        let Entrance::Open(version) = book.enter("t", "a").await.unwrap() else { panic!("the first opens") };
        assert_eq!(book.enter("t", "b").await.unwrap(), Entrance::Wait);
        assert_eq!(book.enter("t", "a").await.unwrap(), Entrance::Open(version), "an attempt after a crash goes on");
        assert!(book.settle("t", "a", "TICKET-1", version).await.unwrap());
        assert!(!book.settle("t", "b", "TICKET-2", version).await.unwrap(), "an old version settles nothing");
        assert_eq!(book.enter("t", "a").await.unwrap(), Entrance::Opened("TICKET-1".into()));
        assert_eq!(book.enter("t", "b").await.unwrap(), Entrance::Joined("TICKET-1".into()));
        assert!(matches!(book.enter("other", "b").await.unwrap(), Entrance::Open(_)));
    }

    #[tokio::test]
    async fn a_thread_is_taken_over_once() {
        let book = book();
        let Entrance::Open(version) = book.enter("t", "a").await.unwrap() else { panic!("the first opens") };
        let taken = book.take_over("t", "b", version).await.unwrap().unwrap();
        assert_eq!(book.take_over("t", "c", version).await.unwrap(), None);
        assert_eq!(book.enter("t", "b").await.unwrap(), Entrance::Open(taken));
        assert!(!book.settle("t", "a", "TICKET-1", version).await.unwrap(), "who was given up cannot settle any more");
    }
}
