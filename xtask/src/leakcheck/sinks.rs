//! Where things end up: everything that was written, shown or kept during the run, by the name of the place.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    io,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context as _, Result};
use rusqlite::{Connection, types::ValueRef};
use tracing_subscriber::fmt::MakeWriter;

/// All places. Cheap to clone; clones share everything.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sinks(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl Sinks {
    /// Adds what was found at a place.
    pub(crate) fn add(&self, place: &str, bytes: impl AsRef<[u8]>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sink = all.entry(place.to_owned()).or_default();
        sink.extend_from_slice(bytes.as_ref());
        // So that the end of one text and the start of the next are never taken for one.
        sink.push(b'\n');
    }

    /// Adds everything that can be made of a value for people.
    pub(crate) fn shown(&self, value: &impl Debug) {
        self.add("Debug", format!("{value:?}\n{value:#?}"));
    }

    /// Adds an error with all it says, and all that it comes from.
    pub(crate) fn error(&self, error: &impl std::error::Error) {
        let mut text = format!("{error}\n{error:#}\n{error:?}\n{error:#?}\n");
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(&format!("{cause}\n{cause:?}\n"));
            source = cause.source();
        }
        self.add("errors", text);
    }

    /// Adds the raw bytes of a database's files, and every column of every row by table.
    pub(crate) fn database(&self, file: &Path) -> Result<()> {
        for suffix in ["", "-wal", "-shm"] {
            let path = format!("{}{suffix}", file.display());
            if Path::new(&path).is_file() {
                self.add("SQLite files", std::fs::read(&path).with_context(|| format!("reading {path}"))?);
            }
        }
        let database = Connection::open(file)?;
        let names: Vec<String> = database
            .prepare("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")?
            .query_map([], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        for name in names {
            let mut statement = database.prepare(&format!("SELECT * FROM \"{name}\""))?;
            let columns = statement.column_count();
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let mut line = Vec::new();
                for column in 0..columns {
                    match row.get_ref(column)? {
                        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => line.extend_from_slice(bytes),
                        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => {}
                    }
                    line.push(b' ');
                }
                self.add(&format!("table {name}"), line);
            }
        }
        Ok(())
    }

    /// Everything, by place.
    pub(crate) fn all(&self) -> BTreeMap<String, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Takes what `tracing` writes, as long as it is on.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    pub(crate) sinks: Sinks,
    pub(crate) on: Arc<AtomicBool>,
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.on.load(Ordering::SeqCst) {
            self.sinks.add("log at TRACE", bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
