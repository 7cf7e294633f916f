//! The threads that read. They see what is committed and never wait for the writer.

use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use connector_core::error::{Error, Result};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::fault::{fault, stopped};

/// Reads that may wait for one reader; more callers wait for a place.
const QUEUE_CAP: usize = 256;

type Query = Box<dyn FnOnce(&Connection) + Send>;

/// The way to the readers.
#[derive(Clone)]
pub(super) struct Readers {
    inboxes: Vec<mpsc::Sender<Query>>,
    next: Arc<AtomicUsize>,
}

impl Debug for Readers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readers").field("threads", &self.inboxes.len()).finish()
    }
}

impl Readers {
    /// One thread for each connection. They end when the last `Readers` is gone.
    pub(super) fn start(connections: Vec<Connection>) -> Result<(Self, Vec<JoinHandle<()>>)> {
        let mut inboxes = Vec::new();
        let mut threads = Vec::new();
        for connection in connections {
            let (inbox, mut queries) = mpsc::channel::<Query>(QUEUE_CAP);
            let thread = std::thread::Builder::new()
                .name("state-reader".to_owned())
                .spawn(move || {
                    while let Some(query) = queries.blocking_recv() {
                        query(&connection);
                    }
                })
                .map_err(|error| Error::internal("a state reader thread could not be started").with_source(error))?;
            inboxes.push(inbox);
            threads.push(thread);
        }
        Ok((Self { inboxes, next: Arc::default() }, threads))
    }

    /// Runs `query` on the next reader.
    pub(super) async fn read<T: Send + 'static>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let at = self.next.fetch_add(1, Ordering::Relaxed) % self.inboxes.len();
        let query: Query = Box::new(move |connection| {
            // A caller that went away needs no answer.
            drop(answer.send(query(connection).map_err(fault)));
        });
        self.inboxes[at].send(query).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}
