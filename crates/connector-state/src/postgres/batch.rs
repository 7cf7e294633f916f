//! Group commit: operations that wait at the same time go to the server as one statement, which is one transaction with one flush.
//!
//! A task takes what has gathered while the last group was under way, so a lone operation is not delayed and many share. Nobody is answered
//! before the commit. If one operation makes the server refuse the group, each is tried alone, so that it does not spoil its neighbours.

use std::{
    fmt::Debug,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use connector_core::error::{Error, ErrorKind, Result, Retry};
use tokio::sync::{mpsc, oneshot};

use super::{fault::stopped, pool::Db};

/// Operations that may wait; more callers wait for a place.
const QUEUE_CAP: usize = 1024;
/// Operations in one group.
const GROUP_CAP: usize = 256;
/// Bytes in one group, unless the first operation alone has more.
const BYTES_CAP: usize = 4 << 20;

/// A kind of operation that can be done in groups.
pub(super) trait Grouped: Send + 'static {
    type Item: Send + Sync + 'static;
    type Answer: Send + 'static;

    /// Roughly how many bytes go to the server.
    fn bytes(item: &Self::Item) -> usize;

    /// Does all of them in one transaction and gives one answer each, in order.
    fn run<'a>(db: &'a Db, items: &'a [Self::Item]) -> impl Future<Output = Result<Vec<Self::Answer>>> + Send + 'a;
}

/// How much was written in groups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GroupStats {
    /// Transactions committed.
    pub commits: u64,
    /// Operations in them.
    pub operations: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    commits: AtomicU64,
    operations: AtomicU64,
}

impl Counters {
    pub(super) fn stats(&self) -> GroupStats {
        GroupStats { commits: self.commits.load(Ordering::Relaxed), operations: self.operations.load(Ordering::Relaxed) }
    }
}

struct Waiting<G: Grouped> {
    item: G::Item,
    answer: oneshot::Sender<Result<G::Answer>>,
}

/// The way to the task of one kind of operation. The task ends, its last group done, when this is gone.
pub(super) struct Batcher<G: Grouped> {
    inbox: mpsc::Sender<Waiting<G>>,
}

impl<G: Grouped> Debug for Batcher<G> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batcher").field("waiting", &(QUEUE_CAP - self.inbox.capacity())).finish()
    }
}

impl<G: Grouped> Batcher<G> {
    pub(super) fn start(db: Db, counters: Arc<Counters>) -> Self {
        let (inbox, waiting) = mpsc::channel(QUEUE_CAP);
        tokio::spawn(run::<G>(db, waiting, counters));
        Self { inbox }
    }

    /// Does `item` with the next group and gives its answer once that is committed. If the caller stops waiting, it is done all the same.
    pub(super) async fn submit(&self, item: G::Item) -> Result<G::Answer> {
        let (answer, answered) = oneshot::channel();
        self.inbox.send(Waiting { item, answer }).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}

async fn run<G: Grouped>(db: Db, mut inbox: mpsc::Receiver<Waiting<G>>, counters: Arc<Counters>) {
    let mut left_over: Option<Waiting<G>> = None;
    loop {
        let first = match left_over.take() {
            Some(first) => first,
            None => match inbox.recv().await {
                Some(first) => first,
                None => return,
            },
        };
        let mut bytes = G::bytes(&first.item);
        let (mut items, mut answers) = (vec![first.item], vec![first.answer]);
        while items.len() < GROUP_CAP
            && let Ok(next) = inbox.try_recv()
        {
            bytes = bytes.saturating_add(G::bytes(&next.item));
            if bytes > BYTES_CAP {
                left_over = Some(next);
                break;
            }
            items.push(next.item);
            answers.push(next.answer);
        }
        match one_group::<G>(&db, &items, &counters).await {
            Ok(results) => {
                for (answer, result) in answers.into_iter().zip(results) {
                    // A caller that went away needs no answer.
                    drop(answer.send(Ok(result)));
                }
            }
            // The server refused what one of them holds; nothing of the group was done.
            Err(error) if items.len() > 1 && is_refusal(&error) => {
                for (item, answer) in items.iter().zip(answers) {
                    let alone = one_group::<G>(&db, std::slice::from_ref(item), &counters).await;
                    drop(answer.send(alone.and_then(|results| results.into_iter().next().ok_or_else(stopped))));
                }
            }
            Err(error) => {
                tracing::warn!(target: "connectors::state", operations = items.len(), %error, "a group of state operations failed");
                for answer in answers {
                    drop(answer.send(Err(error.clone())));
                }
            }
        }
    }
}

async fn one_group<G: Grouped>(db: &Db, items: &[G::Item], counters: &Counters) -> Result<Vec<G::Answer>> {
    let results = G::run(db, items).await?;
    if results.len() != items.len() {
        return Err(Error::internal("the state store answered for another number of operations than it was given"));
    }
    counters.commits.fetch_add(1, Ordering::Relaxed);
    counters.operations.fetch_add(items.len() as u64, Ordering::Relaxed);
    Ok(results)
}

/// Whether the fault lies in what was sent, so that sending less of it may work. A passing fault would only be met 256 times.
fn is_refusal(error: &Error) -> bool {
    error.retry() == Retry::Never && matches!(error.kind(), ErrorKind::Internal | ErrorKind::Invalid)
}
