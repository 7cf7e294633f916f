//! The schema and its versions. Goes forward only, and refuses a file that a newer program has changed.

use connector_core::error::{Error, Result};
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

use super::fault::fault;

/// Each entry takes the schema one version further. Entries are never edited once released, only added.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_state.sql"),
    include_str!("migrations/0002_lanes.sql"),
    include_str!("migrations/0003_connections.sql"),
    include_str!("migrations/0004_spent.sql"),
];

/// The newest schema this program knows.
pub(super) const VERSION: usize = MIGRATIONS.len();

/// Brings the file to [`VERSION`] in one transaction; two programs that start together do it once.
pub(super) fn migrate(connection: &mut Connection) -> Result<()> {
    // A table that is made anew must not take the rows that refer to it along. It can only be switched outside a transaction.
    connection.pragma_update(None, "foreign_keys", false).map_err(fault)?;
    in_transaction(connection)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(fault)
}

fn in_transaction(connection: &mut Connection) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_version_before_keeps_its_events_and_their_jobs() {
        let mut connection = Connection::open_in_memory().unwrap();
        MIGRATIONS[..2].iter().for_each(|migration| connection.execute_batch(migration).unwrap());
        connection
            .execute_batch(
                "CREATE TABLE connectors_schema (version INTEGER NOT NULL) STRICT;
                 INSERT INTO connectors_schema (version) VALUES (2);
                 INSERT INTO events (tenant, workspace, connector, event_id, event_type, flags, payload, payload_hash, received_at)
                 VALUES ('acme', 'support', 'crm', 'e1', 't', '[]', x'01', x'02', 7);
                 INSERT INTO jobs (tenant, workspace, queue, subject, payload, state, max_attempts, not_before, created_at, due_at, event_seq)
                 VALUES ('acme', 'support', 'events', 's', x'31', 0, 8, 0, 0, 0, 1);",
            )
            .unwrap();
        migrate(&mut connection).unwrap();
        let event = connection.query_row("SELECT seq, connection, event_id FROM events", [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        assert_eq!(event.unwrap(), (1_i64, "crm".to_owned(), "e1".to_owned()));
        let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(count("SELECT event_seq FROM jobs"), 1);
        assert_eq!(count("SELECT count(*) FROM pragma_foreign_key_check"), 0);
        assert_eq!(count("SELECT count(*) FROM pragma_foreign_key_list('jobs') WHERE \"table\" = 'events'"), 1);
        assert_eq!(count("PRAGMA foreign_keys"), 1, "and it holds again");
        connection.execute_batch("DELETE FROM events").unwrap();
        assert_eq!(count("SELECT count(*) FROM jobs"), 0);
    }
}
