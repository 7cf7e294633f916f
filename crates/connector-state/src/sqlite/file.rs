//! Opening the file: permissions, settings, schema, a look at its health.

use std::{fs, path::Path};

use connector_core::error::{Error, Result};
use rusqlite::{Connection, OpenFlags};

use super::{BUSY_TIMEOUT, STATEMENTS, fault::fault, schema};

/// Up to this size every page is checked at start; a larger file would delay it.
const CHECK_UP_TO: u64 = 64 << 20;

/// Creates the file if it is not there, readable and writable by its owner only. SQLite gives its log files the same mode.
pub(super) fn prepare(path: &Path) -> Result<()> {
    let cannot =
        |what: &str, error: std::io::Error| Error::config(format!("the state file `{}` {what}: {}", path.display(), error.kind())).with_source(error);
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let file = options.open(path).map_err(|error| cannot("cannot be opened; check that its folder exists and may be written", error))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let metadata = file.metadata().map_err(|error| cannot("cannot be examined", error))?;
        if metadata.permissions().mode() & 0o077 != 0 {
            file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(|error| cannot("is open to others and that cannot be changed", error))?;
        }
    }
    drop(file);
    Ok(())
}

/// The connection that writes, on a file with the current schema.
pub(super) fn writer(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(fault)?;
    tune(&connection)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(fault)?;
    if mode != "wal" {
        return Err(Error::config(format!("the state file cannot use a write-ahead log here (journal mode `{mode}`); put it on a local disk")));
    }
    connection.pragma_update(None, "synchronous", "FULL").map_err(fault)?;
    wipe_what_is_deleted(&connection)?;
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() <= CHECK_UP_TO) {
        check(&connection)?;
    }
    schema::migrate(&mut connection)?;
    Ok(connection)
}

/// Overwrites what is deleted wherever its page is written anyway (`FAST`). Pages that become free as a whole keep their bytes until they are
/// used again: wiping those too (`ON`) would write each of them once more, at every end of a lease and every pruning, for rows whose payloads
/// are sealed already where the program has a vault.
fn wipe_what_is_deleted(connection: &Connection) -> Result<()> {
    connection.pragma_update_and_check(None, "secure_delete", "FAST", |_| Ok(())).map_err(fault)
}

/// A connection that only reads.
pub(super) fn reader(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(fault)?;
    tune(&connection)?;
    Ok(connection)
}

/// Settings of every connection.
pub(super) fn tune(connection: &Connection) -> Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT).map_err(fault)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(fault)?;
    // A file somebody else prepared must not run functions of ours from its triggers and views.
    connection.pragma_update(None, "trusted_schema", false).map_err(fault)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(())
}

fn check(connection: &Connection) -> Result<()> {
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(fault)?;
    if verdict == "ok" {
        return Ok(());
    }
    Err(Error::internal("the state file is damaged; nothing was changed: restore it from a backup, or salvage it with `sqlite3 FILE .recover`")
        .with_context("check", verdict))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a deleted row can still be read in the file.
    fn is_left(path: &Path, connection: &Connection) -> bool {
        let row = ["INSERT INTO kv (tenant, namespace, key, value, version) VALUES ('t', 'n', 'k', 'CANARY-deleted-91ab', 1)", "DELETE FROM kv"];
        row.iter().for_each(|sql| assert_eq!(connection.execute(sql, []).unwrap(), 1));
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        fs::read(path).unwrap().windows(19).any(|window| window == b"CANARY-deleted-91ab")
    }

    #[test]
    fn what_is_deleted_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        prepare(&path).unwrap();
        let connection = writer(&path).unwrap();
        assert!(!is_left(&path, &connection));
        connection.pragma_update_and_check(None, "secure_delete", false, |_| Ok(())).unwrap();
        assert!(is_left(&path, &connection), "the search finds what is left");
    }
}
