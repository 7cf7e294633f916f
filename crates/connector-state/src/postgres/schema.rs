//! The schema and its versions. Goes forward only, refuses a database that a newer program has changed, and lets one of several hubs that
//! start together do the work while the others wait for it.

use connector_core::error::{Error, Result};
use tokio_postgres::{Client, Transaction};

use super::fault::{Repeat, fault};

/// Each entry takes the schema one version further. Entries are never edited once released, only added, and only in ways that programs of
/// the version before can live with: a running hub looks at the version when it starts, not later.
const MIGRATIONS: &[&str] = &[concat!(include_str!("migrations/0001_state.sql"), include_str!("migrations/0001_functions.sql"))];

/// The newest schema this program knows.
pub(super) const VERSION: usize = MIGRATIONS.len();

/// The oldest server whose functions are enough.
const SERVER: i32 = 13;

/// Refuses a server that cannot keep what is promised.
pub(super) async fn check(client: &Client) -> Result<()> {
    let row = client
        .query_one(
            "SELECT current_setting('server_version_num')::int / 10000, current_setting('fsync'), current_setting('server_encoding'),
                    current_setting('synchronous_commit')",
            &[],
        )
        .await
        .map_err(failed)?;
    let text = |column| row.try_get::<_, String>(column).map_err(failed);
    let version: i32 = row.try_get(0).map_err(failed)?;
    if version < SERVER {
        return Err(Error::config(format!("the PostgreSQL server has version {version}; version {SERVER} or later is needed")));
    }
    if text(1)? != "on" {
        return Err(Error::config("the PostgreSQL server runs with `fsync=off` and would lose acknowledged events; turn it on"));
    }
    if text(2)? != "UTF8" {
        return Err(Error::config("the database is not encoded in UTF-8; create it with `ENCODING 'UTF8' TEMPLATE template0`"));
    }
    let commit = text(3)?;
    if commit != "on" && commit != "remote_apply" {
        return Err(Error::config(format!(
            "commits are not flushed to disk (`synchronous_commit={commit}`) and cannot be made to; a pooler in between must pass settings on"
        )));
    }
    Ok(())
}

/// Brings `schema` to [`VERSION`] in one transaction.
pub(super) async fn migrate(client: &mut Client, schema: &str) -> Result<()> {
    let transaction = client.transaction().await.map_err(failed)?;
    match in_transaction(&transaction, schema).await {
        Ok(()) => transaction.commit().await.map_err(failed),
        Err(error) => {
            // Now and not whenever the connection is dropped: others wait for the lock. Its own failure adds nothing to the first one.
            if let Err(rollback) = transaction.rollback().await {
                tracing::debug!(target: "connectors::state", error = %rollback, "a failed migration was not rolled back, its connection ends");
            }
            Err(error)
        }
    }
}

async fn in_transaction(transaction: &Transaction<'_>, schema: &str) -> Result<()> {
    // Others that start now wait here until it is done. A migration may take longer than a statement otherwise may.
    transaction.batch_execute("SET LOCAL lock_timeout TO '120s'; SET LOCAL statement_timeout TO '600s'").await.map_err(failed)?;
    transaction.execute("SELECT pg_advisory_xact_lock(hashtext('connectors migrate ' || $1), 0)", &[&schema]).await.map_err(failed)?;
    // `IF NOT EXISTS` alone would ask for the privilege to create even where there is nothing to be created.
    if transaction.query_opt("SELECT 1 FROM pg_namespace WHERE nspname = $1", &[&schema]).await.map_err(failed)?.is_none() {
        transaction.batch_execute(&format!("CREATE SCHEMA \"{schema}\"")).await.map_err(failed)?;
    }
    let found = version(transaction).await?;
    let from = usize::try_from(found.unwrap_or(0)).unwrap_or(usize::MAX);
    if from > VERSION {
        return Err(Error::config(format!(
            "the database has schema version {from}, but this program knows versions up to {VERSION}; use the newer program, or restore the backup made before the upgrade"
        )));
    }
    for migration in &MIGRATIONS[from..] {
        transaction.batch_execute(migration).await.map_err(failed)?;
    }
    if from < VERSION {
        let to = i32::try_from(VERSION).unwrap_or(i32::MAX);
        transaction.execute("DELETE FROM connectors_schema", &[]).await.map_err(failed)?;
        transaction.execute("INSERT INTO connectors_schema (version) VALUES ($1)", &[&to]).await.map_err(failed)?;
        tracing::info!(target: "connectors::state", schema, from, to = VERSION, "the state schema was brought up to date");
    }
    Ok(())
}

async fn version(transaction: &Transaction<'_>) -> Result<Option<i32>> {
    let known = transaction.query_one("SELECT to_regclass('connectors_schema') IS NOT NULL", &[]).await.map_err(failed)?;
    if !known.try_get::<_, bool>(0).map_err(failed)? {
        transaction.batch_execute("CREATE TABLE connectors_schema (version int NOT NULL)").await.map_err(failed)?;
        return Ok(None);
    }
    let row = transaction.query_opt("SELECT version FROM connectors_schema", &[]).await.map_err(failed)?;
    row.map(|row| row.try_get(0).map_err(failed)).transpose()
}

#[expect(clippy::needless_pass_by_value, reason = "used as a function value in `map_err`")]
fn failed(error: tokio_postgres::Error) -> Error {
    fault(&error, Repeat::Harmless)
}
