//! Everything in one SQLite file: the embedded default.
//!
//! One thread writes and commits in groups, two read; the async runtime never blocks. Every commit is on disk before anybody hears of
//! it (`journal_mode=WAL`, `synchronous=FULL`). Refuses to serve a file whose schema is newer than the program, or that is damaged.

mod audit;
mod events;
mod fault;
mod file;
mod jobs;
mod kv;
mod reader;
mod schema;
mod writer;

use std::{path::Path, sync::Arc, thread::JoinHandle, time::Duration};

use connector_core::{
    clock::{Clock, SystemClock, unix_millis},
    error::Result,
};
use rusqlite::{Connection, OpenFlags};

use self::{fault::fault, reader::Readers, writer::Writer};
use crate::rules::{int, uint};

pub use writer::WriterStats;

/// How long a statement waits for another process that holds the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Threads that read.
const READERS: usize = 2;
/// Prepared statements each connection keeps.
const STATEMENTS: usize = 64;

/// A [`Store`](connector_core::state::Store) on SQLite.
#[derive(Debug)]
pub struct SqliteState {
    clock: Arc<dyn Clock>,
    threads: Threads,
}

/// The threads, joined on drop after their work is done: readers first, so that the writer is last and can fold the log into the file.
#[derive(Debug)]
struct Threads {
    writer: Option<Writer>,
    /// `None` for a database in memory, which only its own connection can see.
    readers: Option<Readers>,
    handles: Vec<JoinHandle<()>>,
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.readers = None;
        self.writer = None;
        for handle in self.handles.drain(..) {
            if handle.join().is_err() {
                tracing::error!(target: "connectors::state", "a state thread panicked");
            }
        }
    }
}

impl SqliteState {
    /// Opens or creates the file at `path`, readable by its owner only, with the real clock.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] if the file cannot be opened for writing or its schema is newer than this program;
    /// internal if it is damaged; transient if another program holds it for longer than 5 s.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, SystemClock::shared())
    }

    /// As [`SqliteState::open`], with leases and expiries by this clock.
    ///
    /// # Errors
    /// As [`SqliteState::open`].
    pub fn open_with(path: impl AsRef<Path>, clock: Arc<dyn Clock>) -> Result<Self> {
        let path = path.as_ref();
        file::prepare(path)?;
        let named = |error: connector_core::Error| error.with_context("file", path.display().to_string());
        let writer = file::writer(path).map_err(named)?;
        let readers = (0..READERS).map(|_| file::reader(path)).collect::<Result<Vec<_>>>().map_err(named)?;
        Self::start(writer, readers, clock)
    }

    /// A database in memory, for tests: forgotten on drop.
    ///
    /// # Errors
    /// Internal, if SQLite has no memory for it.
    pub fn open_in_memory() -> Result<Self> {
        Self::open_in_memory_with(SystemClock::shared())
    }

    /// As [`SqliteState::open_in_memory`], with leases and expiries by this clock.
    ///
    /// # Errors
    /// As [`SqliteState::open_in_memory`].
    pub fn open_in_memory_with(clock: Arc<dyn Clock>) -> Result<Self> {
        let mut connection = Connection::open_in_memory_with_flags(OpenFlags::default()).map_err(fault)?;
        file::tune(&connection)?;
        schema::migrate(&mut connection)?;
        Self::start(connection, Vec::new(), clock)
    }

    fn start(writer: Connection, readers: Vec<Connection>, clock: Arc<dyn Clock>) -> Result<Self> {
        let mut threads = Threads { writer: None, readers: None, handles: Vec::new() };
        if !readers.is_empty() {
            let (readers, handles) = Readers::start(readers)?;
            threads.readers = Some(readers);
            threads.handles.extend(handles);
        }
        let (writer, handle) = Writer::start(writer)?;
        threads.writer = Some(writer);
        threads.handles.push(handle);
        Ok(Self { clock, threads })
    }

    /// How many transactions were committed, and how many operations they held.
    pub fn stats(&self) -> WriterStats {
        self.threads.writer.as_ref().map(Writer::stats).unwrap_or_default()
    }

    fn now(&self) -> i64 {
        int(unix_millis(self.clock.wall()))
    }

    async fn write<T: Send + 'static>(&self, op: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static) -> Result<T> {
        let writer = self.threads.writer.as_ref().ok_or_else(fault::stopped)?;
        writer.write(op).await
    }

    /// As [`SqliteState::write`], for an operation of one statement.
    async fn write_one<T: Send + 'static>(&self, op: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static) -> Result<T> {
        let writer = self.threads.writer.as_ref().ok_or_else(fault::stopped)?;
        writer.write_one(op).await
    }

    async fn read<T: Send + 'static>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static) -> Result<T> {
        match &self.threads.readers {
            Some(readers) => readers.read(query).await,
            None => self.write(query).await,
        }
    }
}

fn limit(limit: usize) -> i64 {
    i64::try_from(crate::rules::limit_or_default(limit)).unwrap_or(i64::MAX)
}

/// A stored JSON column that cannot be read any more.
fn unreadable(column: usize, error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}
