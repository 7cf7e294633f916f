//! One state for a fleet of hubs, on PostgreSQL.
//!
//! Every unit of work is one function of the schema, called by one statement. Appends, completions and audit entries of a process that wait
//! at the same time share a transaction. Expiries and leases go by the server's clock, so that hubs whose clocks differ agree. Refuses a
//! server that would lose acknowledged work (`fsync=off`) and a schema that is newer than the program.

mod audit;
mod batch;
mod events;
mod fault;
mod jobs;
mod kv;
mod pool;
mod pubsub;
mod row;
mod schema;
mod target;
mod text;
mod wake;

use std::{sync::Arc, time::Duration};

use connector_core::{
    clock::{Clock, SystemClock, unix_millis},
    error::{Error, Result},
};
use secrecy::SecretString;
use tokio::sync::watch;

pub use self::{batch::GroupStats, pubsub::PostgresPubSub};
use self::{
    batch::{Batcher, Counters},
    pool::{Db, Sessions},
    pubsub::News,
    target::Target,
    wake::Wakes,
};
use crate::rules::{int, uint};

/// Connections that write in groups: one each for events, completions and audit entries.
const WRITERS: usize = 3;
/// The connection that listens for wakes.
const LISTENERS: usize = 1;
/// How long making the first connection may take.
const OPEN: Duration = Duration::from_secs(10);
/// The longest time a job can be put off: a hundred years, in milliseconds.
const FAR: u64 = 3_155_760_000_000;

/// How a [`PostgresState`] uses its server.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    schema: String,
    connections: usize,
    clock: Arc<dyn Clock>,
    server_time: bool,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self { schema: "connectors".to_owned(), connections: 12, clock: SystemClock::shared(), server_time: true }
    }
}

impl PostgresOptions {
    /// The schema that holds the tables, created if it is not there (default `connectors`). Lower case letters, digits and `_`.
    #[must_use]
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = schema.into();
        self
    }

    /// The most connections this process opens, at least 5 (default 12). The sum over all hubs must stay below the server's
    /// `max_connections`.
    #[must_use]
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// The clock of this process. Only times that callers give (`not_before`) are read by it; they become a delay from the server's now.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Measures leases and expiries by this clock instead of the server's. For tests that move time: a fleet must not do this.
    #[must_use]
    pub fn time_from(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self.server_time = false;
        self
    }

    fn check(&self) -> Result<()> {
        let plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if self.schema.is_empty() || self.schema.len() > 63 || !plain(&self.schema) || self.schema.starts_with("pg_") {
            return Err(Error::config("the schema name must be 1 to 63 lower case letters, digits and `_`, and not begin with `pg_`"));
        }
        if self.connections < WRITERS + LISTENERS + 1 {
            return Err(Error::config("the PostgreSQL state needs at least 5 connections"));
        }
        Ok(())
    }
}

/// A [`Store`](connector_core::state::Store) on PostgreSQL, shared by any number of processes.
#[derive(Debug)]
pub struct PostgresState {
    options: PostgresOptions,
    db: Db,
    appends: Batcher<events::Appends>,
    completions: Batcher<jobs::Completions>,
    entries: Batcher<audit::Entries>,
    counters: Arc<Counters>,
    wakes: Wakes,
    news: News,
}

impl PostgresState {
    /// Connects to `postgres://user:password@host:port/database?sslmode=verify-full` and brings its schema up to date.
    ///
    /// TLS is used unless the host is this machine or the URL says `sslmode=disable`; `sslrootcert` names a file of authorities instead of
    /// the system's. Several hosts may be named, separated by commas: the one that takes writes is used, also after a failover.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] if the URL, the user, the certificate or the server's settings will not do, or the schema is
    /// newer than this program; transient or overloaded if the server is away, read-only or full for now. The URL is never shown.
    pub async fn connect(url: &SecretString) -> Result<Self> {
        Self::connect_with(url, PostgresOptions::default()).await
    }

    /// As [`PostgresState::connect`], with these options.
    ///
    /// # Errors
    /// As [`PostgresState::connect`].
    pub async fn connect_with(url: &SecretString, options: PostgresOptions) -> Result<Self> {
        options.check()?;
        let target = Target::parse(url)?;
        let channel = prepare(&target, &options.schema).await?;
        let db = Db::new(&target, &options.schema, options.connections - WRITERS - LISTENERS)?;
        let writers = Db::new(&target, &options.schema, WRITERS)?;
        let counters = Arc::new(Counters::default());
        Ok(Self {
            appends: Batcher::start(writers.clone(), counters.clone()),
            completions: Batcher::start(writers.clone(), counters.clone()),
            entries: Batcher::start(writers, counters.clone()),
            news: News::on(target.clone(), format!("{channel}_news")),
            wakes: Wakes::start(target, channel),
            options,
            db,
            counters,
        })
    }

    /// A counter that moves when any process of the fleet, this one included, may have queued work. A hint that saves a poll: after a broken
    /// connection it moves once, because something may have been missed, and a process that dies right after a commit tells nobody.
    pub fn wakes(&self) -> watch::Receiver<u64> {
        self.wakes.subscribe()
    }

    /// News between the processes that use this schema. One more connection than [`PostgresOptions::connections`] says is opened when this is
    /// first called; it must be called inside a tokio runtime.
    pub fn pubsub(&self) -> Arc<PostgresPubSub> {
        self.news.started()
    }

    /// How many transactions were shared, and how many operations they held.
    pub fn stats(&self) -> GroupStats {
        self.counters.stats()
    }

    /// The time that replaces the server's, in tests.
    fn at(&self) -> Option<i64> {
        (!self.options.server_time).then(|| int(unix_millis(self.options.clock.wall())))
    }

    /// How far off a caller's time is, in milliseconds. The clock of this process may be wrong; a delay is right by any clock.
    fn delay(&self, not_before: u64) -> i64 {
        int(not_before.saturating_sub(unix_millis(self.options.clock.wall())).min(FAR))
    }
}

/// Checks the server, brings the schema up to date and names the channel of its wakes.
async fn prepare(target: &Target, schema: &str) -> Result<String> {
    let sessions = Sessions::new(target.clone(), schema);
    let opened = tokio::time::timeout(OPEN, sessions.open()).await.map_err(|_| fault::no_answer(fault::Repeat::Harmless))?;
    let (mut client, _task) = opened.map_err(|error| fault::unreachable(&error))?;
    schema::check(&client).await?;
    schema::migrate(&mut client, schema).await?;
    // The number of the schema, because two databases of a server share no channels but two schemas of a database do.
    let row = client
        .query_one("SELECT 'connectors_' || oid FROM pg_namespace WHERE nspname = $1", &[&schema])
        .await
        .map_err(|error| fault::fault(&error, fault::Repeat::Harmless))?;
    row.try_get(0).map_err(|error| fault::unreadable_row(&error))
}

fn limit(limit: usize) -> i64 {
    i64::try_from(crate::rules::limit_or_default(limit)).unwrap_or(i64::MAX)
}

fn millis(duration: Duration) -> i64 {
    int(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).min(FAR))
}
