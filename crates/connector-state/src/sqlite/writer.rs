//! The one thread that writes: it takes what waits, runs it in one transaction, commits once, then answers everybody.
//!
//! Each operation has its own savepoint, so one that fails does not spoil its neighbours. Nobody is answered before the commit.

use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use connector_core::error::{Error, Result};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::fault::{fault, rolled_back, stopped};

/// Operations that may wait for the writer; more callers wait for a place.
pub(super) const QUEUE_CAP: usize = 1024;
/// Operations in one transaction.
pub(super) const BATCH_CAP: usize = 256;

/// Tells an operation's caller what became of it, once the fate of the transaction is known.
type Reply = Box<dyn FnOnce(Result<()>) + Send>;
/// Runs inside the transaction and gives back how to answer. Without a connection it does nothing: the transaction has failed already.
type Op = Box<dyn FnOnce(Option<&Connection>) -> Reply + Send>;

/// How much the writer did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriterStats {
    /// Transactions committed.
    pub commits: u64,
    /// Operations in them.
    pub operations: u64,
}

#[derive(Debug, Default)]
struct Counters {
    commits: AtomicU64,
    operations: AtomicU64,
}

/// The way to the writer.
#[derive(Clone)]
pub(super) struct Writer {
    ops: mpsc::Sender<Op>,
    counters: Arc<Counters>,
}

impl Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("waiting", &(QUEUE_CAP - self.ops.capacity())).finish()
    }
}

impl Writer {
    /// Starts the thread. It ends, and closes the connection, when the last `Writer` is gone.
    pub(super) fn start(connection: Connection) -> Result<(Self, std::thread::JoinHandle<()>)> {
        let (ops, inbox) = mpsc::channel(QUEUE_CAP);
        let counters = Arc::new(Counters::default());
        let counted = counters.clone();
        let thread = std::thread::Builder::new()
            .name("state-writer".to_owned())
            .spawn(move || run(&connection, inbox, &counted))
            .map_err(|error| Error::internal("the state writer thread could not be started").with_source(error))?;
        Ok((Self { ops, counters }, thread))
    }

    /// Runs `op` in the next transaction and gives its result once that is committed.
    ///
    /// If the caller stops waiting, the operation happens all the same.
    pub(super) async fn write<T: Send + 'static>(&self, op: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static) -> Result<T> {
        self.queue(move |connection| in_savepoint(connection, op)).await
    }

    /// As [`Writer::write`], for an operation of one statement: SQLite undoes a statement that fails by itself, so it needs no savepoint.
    pub(super) async fn write_one<T: Send + 'static>(&self, op: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static) -> Result<T> {
        self.queue(op).await
    }

    async fn queue<T: Send + 'static>(&self, op: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let op: Op = Box::new(move |connection| {
            let result = connection.map_or_else(|| Err(stopped()), |connection| op(connection).map_err(fault));
            Box::new(move |committed| {
                // A caller that went away needs no answer.
                drop(answer.send(committed.and(result)));
            })
        });
        self.ops.send(op).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }

    pub(super) fn stats(&self) -> WriterStats {
        WriterStats { commits: self.counters.commits.load(Ordering::Relaxed), operations: self.counters.operations.load(Ordering::Relaxed) }
    }
}

fn in_savepoint<T>(connection: &Connection, op: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    cached(connection, "SAVEPOINT op")?;
    match op(connection) {
        Ok(result) => {
            cached(connection, "RELEASE op")?;
            Ok(result)
        }
        Err(error) => {
            // A full disk makes SQLite roll the whole transaction back by itself; then there is no savepoint left to undo.
            if !connection.is_autocommit() {
                connection.execute_batch("ROLLBACK TO op; RELEASE op")?;
            }
            Err(error)
        }
    }
}

fn run(connection: &Connection, mut inbox: mpsc::Receiver<Op>, counters: &Counters) {
    let mut batch = Vec::with_capacity(BATCH_CAP);
    while let Some(first) = inbox.blocking_recv() {
        batch.push(first);
        while batch.len() < BATCH_CAP
            && let Ok(next) = inbox.try_recv()
        {
            batch.push(next);
        }
        let (replies, outcome) = transaction(connection, batch.drain(..));
        match &outcome {
            Ok(()) => {
                counters.commits.fetch_add(1, Ordering::Relaxed);
                counters.operations.fetch_add(replies.len() as u64, Ordering::Relaxed);
            }
            Err(error) => tracing::warn!(target: "connectors::state", operations = replies.len(), %error, "a state transaction failed"),
        }
        for reply in replies {
            reply(outcome.clone());
        }
    }
}

/// Runs the operations in one transaction. Every operation gets a reply, whatever happens.
fn transaction(connection: &Connection, ops: impl Iterator<Item = Op>) -> (Vec<Reply>, Result<()>) {
    // IMMEDIATE takes the write lock now, waiting up to the busy timeout, so that no operation fails half-way for want of it.
    if let Err(error) = cached(connection, "BEGIN IMMEDIATE") {
        return (ops.map(|op| op(None)).collect(), Err(fault(error)));
    }
    let replies: Vec<Reply> = ops.map(|op| op((!connection.is_autocommit()).then_some(connection))).collect();
    if connection.is_autocommit() {
        return (replies, Err(rolled_back()));
    }
    let outcome = cached(connection, "COMMIT").map_err(|error| {
        if !connection.is_autocommit()
            && let Err(rollback) = connection.execute_batch("ROLLBACK")
        {
            tracing::error!(target: "connectors::state", error = %rollback, "a failed state transaction could not be rolled back");
        }
        fault(error)
    });
    (replies, outcome)
}

/// Runs a statement that is parsed once for the life of the connection.
fn cached(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_disk_refuses_what_does_not_fit_and_recovers() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE t (x BLOB); PRAGMA max_page_count = 20").unwrap();
        let (writer, thread) = Writer::start(connection).unwrap();
        let insert = |bytes: i64| {
            let writer = writer.clone();
            async move { writer.write(move |connection| connection.execute("INSERT INTO t VALUES (zeroblob(?1))", [bytes])).await }
        };
        insert(10).await.unwrap();
        let error = insert(200_000).await.unwrap_err();
        assert!(error.retry_after().is_some() && error.message().contains("full"), "{error}");
        insert(10).await.unwrap();
        let rows = writer.write(|connection| connection.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0))).await.unwrap();
        assert_eq!(rows, 2);
        drop(writer);
        thread.join().unwrap();
    }
}
