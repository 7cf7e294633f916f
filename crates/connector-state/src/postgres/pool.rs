//! Connections and the one way to use them: a single statement that commits by itself.
//!
//! Owns the settings of every session, the limits of time and the repetition of statements that collided. Refuses open transactions
//! across an await: a unit of work is one function of the schema, so it happens as a whole or not at all, and a frozen client holds nothing.

use std::{future::Future, pin::Pin, time::Duration};

use connector_core::error::Result;
use deadpool_postgres::{Connect, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, Row, types::ToSql};

use super::{
    fault::{Repeat, collided, fault, is_read_only, no_answer, no_connection, stopped},
    target::Target,
};

/// How long a caller waits for a free connection.
const WAIT: Duration = Duration::from_secs(5);
/// How long making a connection may take, TLS and password included.
const CREATE: Duration = Duration::from_secs(8);
/// How long a statement may take by the server's own watch.
const STATEMENT_MS: u32 = 10_000;
/// How long a statement waits for somebody else's lock.
const LOCK_MS: u32 = 5_000;
/// When a statement is given up on here, because the server did not even report its own limit.
const ANSWER: Duration = Duration::from_secs(15);
/// How often a statement that collided is tried.
const TRIES: u32 = 5;

/// One value for a statement.
pub(super) type Value<'a> = &'a (dyn ToSql + Sync);

/// Makes sessions with our settings.
pub(super) struct Sessions {
    target: Target,
    settings: String,
}

impl Sessions {
    pub(super) fn new(target: Target, schema: &str) -> Self {
        // READ COMMITTED: the functions count on it. No sequential scans: a plan that is made while a table is small is kept, and would read
        // the whole table once it is large; every statement here has its index. No JIT: it takes longer than any of our statements.
        // A server that waits for its replicas to apply (`remote_apply`) goes on doing so; less than a flush to disk is not accepted.
        let settings = format!(
            "SET search_path TO \"{schema}\"; SET default_transaction_isolation TO 'read committed'; SET client_min_messages TO warning; SET TIME ZONE 'UTC'; SET enable_seqscan TO off; SET jit TO off; \
             SET statement_timeout TO {STATEMENT_MS}; SET lock_timeout TO {LOCK_MS}; SET idle_in_transaction_session_timeout TO {STATEMENT_MS}; \
             SELECT set_config('synchronous_commit', \
                 CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false)"
        );
        Self { target, settings }
    }

    /// A new session. The task ends with the client.
    pub(super) async fn open(&self) -> Result<(Client, JoinHandle<()>), tokio_postgres::Error> {
        let (client, connection) = self.target.config.connect(self.target.tls.clone()).await?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                // The caller whose statement was under way reports it; here it is only for the curious.
                tracing::debug!(target: "connectors::state", %error, "a connection to PostgreSQL ended");
            }
        });
        client.batch_execute(&self.settings).await?;
        Ok((client, task))
    }
}

impl Connect for Sessions {
    fn connect(&self, _: &Config) -> Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), tokio_postgres::Error>> + Send + '_>> {
        Box::pin(self.open())
    }
}

/// A pool of sessions.
#[derive(Clone)]
pub(super) struct Db {
    pool: Pool,
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let status = self.pool.status();
        f.debug_struct("Db").field("connections", &status.size).field("most", &status.max_size).field("waiting", &status.waiting).finish()
    }
}

impl Db {
    /// A pool of up to `connections`; none is made yet.
    pub(super) fn new(target: &Target, schema: &str, connections: usize) -> Result<Self> {
        let sessions = Sessions::new(target.clone(), schema);
        let manager = Manager::from_connect(target.config.clone(), sessions, ManagerConfig { recycling_method: RecyclingMethod::Fast });
        let pool = Pool::builder(manager)
            .max_size(connections)
            .wait_timeout(Some(WAIT))
            .create_timeout(Some(CREATE))
            .recycle_timeout(Some(CREATE))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| stopped().with_source(error))?;
        Ok(Self { pool })
    }

    /// Runs one statement, which is one transaction. What collided with another transaction was undone and is tried again.
    ///
    /// # Errors
    /// As the fault says; with the context `outcome: unknown` if it may have been done although no answer came.
    pub(super) async fn rows(&self, repeat: Repeat, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>> {
        let mut tries = 1;
        loop {
            let client = self.pool.get().await.map_err(|error| no_connection(&error))?;
            let answer = tokio::time::timeout(ANSWER, async {
                let statement = client.prepare_cached(sql).await?;
                client.query(&statement, values).await
            });
            match answer.await {
                Ok(Ok(rows)) => return Ok(rows),
                Ok(Err(error)) if collided(&error) && tries < TRIES => {
                    drop(client);
                    tokio::time::sleep(Duration::from_millis(5) * tries).await;
                    tries += 1;
                }
                Ok(Err(error)) => {
                    if is_read_only(&error) {
                        // The primary is elsewhere now: the next session looks for it among the hosts of the URL.
                        drop(Object::take(client));
                    }
                    return Err(fault(&error, repeat));
                }
                Err(_) => {
                    // Whatever this connection is stuck in, nobody else shall wait behind it.
                    drop(Object::take(client));
                    return Err(no_answer(repeat));
                }
            }
        }
    }

    /// As [`Db::rows`], for a statement that gives exactly one row.
    pub(super) async fn row(&self, repeat: Repeat, sql: &str, values: &[Value<'_>]) -> Result<Row> {
        let rows = self.rows(repeat, sql, values).await?;
        rows.into_iter().next().ok_or_else(|| connector_core::error::Error::internal("the state store gave no answer to a statement that has one"))
    }
}
