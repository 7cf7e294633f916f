//! The schema and its versions. Goes forward only, and refuses a file that a newer program has changed.

use connector_core::error::{Error, Result};
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

use super::fault::fault;

/// Each entry takes the schema one version further. Entries are never edited once released, only added.
const MIGRATIONS: &[&str] = &[include_str!("migrations/0001_state.sql"), include_str!("migrations/0002_lanes.sql")];

/// The newest schema this program knows.
pub(super) const VERSION: usize = MIGRATIONS.len();

/// Brings the file to [`VERSION`] in one transaction; two programs that start together do it once.
pub(super) fn migrate(connection: &mut Connection) -> Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fault)?;
    transaction.execute_batch("CREATE TABLE IF NOT EXISTS connectors_schema (version INTEGER NOT NULL) STRICT").map_err(fault)?;
    let found: Option<i64> = transaction.query_row("SELECT version FROM connectors_schema", [], |row| row.get(0)).optional().map_err(fault)?;
    let from = usize::try_from(found.unwrap_or(0)).unwrap_or(usize::MAX);
    if from > VERSION {
        return Err(Error::config(format!(
            "the state file has schema version {from}, but this program knows versions up to {VERSION}; use the newer program, or restore the backup made before the upgrade"
        )));
    }
    for migration in &MIGRATIONS[from..] {
        transaction.execute_batch(migration).map_err(fault)?;
    }
    let to = i64::try_from(VERSION).unwrap_or(i64::MAX);
    match found {
        None => transaction.execute("INSERT INTO connectors_schema (version) VALUES (?1)", [to]),
        Some(_) => transaction.execute("UPDATE connectors_schema SET version = ?1", [to]),
    }
    .map_err(fault)?;
    transaction.commit().map_err(fault)
}
