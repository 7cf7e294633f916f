//! PostgreSQL for tests: a running server with a schema for each test, and private servers that a test may stop and break.
//!
//! Where no server answers the test says so and ends; with `CI` set that is a failure.
#![allow(clippy::unwrap_used, clippy::print_stderr, dead_code, reason = "helpers of tests, of which no test uses all")]

pub(crate) mod private;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use connector_core::clock::Clock;
use connector_state::{PostgresOptions, PostgresState};
use secrecy::SecretString;
use tokio_postgres::{Client, NoTls};

/// Servers that may be there, besides the one that `CONNECTORS_TEST_POSTGRES` names.
const USUAL: [&str; 2] = ["postgres://postgres@127.0.0.1:15432/postgres", "postgres://root@127.0.0.1:5432/test"];

/// A plain session, to look behind the store's back.
pub(crate) async fn raw(url: &str) -> Result<Client, tokio_postgres::Error> {
    let mut config: tokio_postgres::Config = url.parse()?;
    config.connect_timeout(Duration::from_secs(2));
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}

/// Says why a test does nothing. In CI it must do something.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "{why}, and CI is set");
    eprintln!("skipped: {why}");
}

/// Schemas of one test on a running server, dropped at its end.
pub(crate) struct Schemas {
    pub(crate) url: String,
    names: Mutex<Vec<String>>,
}

impl Schemas {
    /// The first server that answers.
    pub(crate) async fn find() -> Option<Self> {
        let named = std::env::var("CONNECTORS_TEST_POSTGRES").ok();
        let candidates: Vec<&str> = named.as_deref().map_or_else(|| USUAL.to_vec(), |one| vec![one]);
        for url in &candidates {
            if raw(url).await.is_ok() {
                return Some(Self::on((*url).to_owned()));
            }
        }
        skip("no PostgreSQL server answers; name one with CONNECTORS_TEST_POSTGRES");
        None
    }

    /// Schemas on this server.
    pub(crate) fn on(url: String) -> Self {
        Self { url, names: Mutex::default() }
    }

    /// A name nobody else uses, to be dropped at the end.
    pub(crate) fn name(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("connectors_test_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        self.names.lock().unwrap().push(name.clone());
        name
    }

    pub(crate) fn secret(&self) -> SecretString {
        SecretString::from(self.url.as_str())
    }

    /// A state in this schema, with the server's time.
    pub(crate) async fn open(&self, schema: &str) -> PostgresState {
        PostgresState::connect_with(&self.secret(), PostgresOptions::default().schema(schema)).await.unwrap()
    }

    /// Two states in one fresh schema, as two processes would have them.
    pub(crate) async fn pair(&self) -> (String, Arc<PostgresState>, Arc<PostgresState>) {
        let schema = self.name();
        let one = Arc::new(self.open(&schema).await);
        let two = Arc::new(self.open(&schema).await);
        (schema, one, two)
    }

    /// A plain session in this schema.
    pub(crate) async fn raw(&self, schema: &str) -> Client {
        let client = raw(&self.url).await.unwrap();
        client.batch_execute(&format!("SET search_path TO {schema}")).await.unwrap();
        client
    }

    /// A fresh state that measures time by this clock. Needs a runtime of several threads.
    pub(crate) fn fresh(&self, clock: Arc<dyn Clock>) -> PostgresState {
        let options = PostgresOptions::default().schema(self.name()).time_from(clock);
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(PostgresState::connect_with(&self.secret(), options)).unwrap())
    }
}

impl Drop for Schemas {
    fn drop(&mut self) {
        let (url, names) = (self.url.clone(), std::mem::take(&mut *self.names.lock().unwrap()));
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = raw(&url).await?;
                client.batch_execute("SET client_min_messages TO error; SET lock_timeout TO '5s'").await?;
                for name in names {
                    client.batch_execute(&format!("DROP SCHEMA IF EXISTS {name} CASCADE")).await?;
                }
                Ok::<_, tokio_postgres::Error>(())
            })
        });
        if let Ok(Err(error)) = dropped.join() {
            eprintln!("a test schema was not dropped: {error}");
        }
    }
}

/// Waits until `done` gives something, at most ten seconds.
pub(crate) async fn within_ten_seconds<T, F: Future<Output = Option<T>>>(what: &str, mut done: impl FnMut() -> F) -> T {
    let begun = std::time::Instant::now();
    loop {
        if let Some(value) = done().await {
            return value;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{what} took more than ten seconds");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
