//! SQLite's failures as ours: what happened, whether waiting helps, what to do.
//!
//! Refuses row contents: messages are written here, SQLite's own text stays in the source.

use std::time::Duration;

use connector_core::error::{Error, ErrorKind, Retry};
use rusqlite::ErrorCode;

/// How long a caller should wait when somebody else holds the file.
const LOCKED_RETRY: Duration = Duration::from_secs(5);
/// How long a caller should wait when the disk is full.
const FULL_RETRY: Duration = Duration::from_secs(30);

/// `error` as ours.
pub(super) fn fault(error: rusqlite::Error) -> Error {
    let mapped = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Error::new(ErrorKind::Transient, "the state file is locked by another program; close it or wait").with_retry(Retry::After(LOCKED_RETRY))
        }
        Some(ErrorCode::DiskFull) => {
            Error::internal("the disk that holds the state file is full; free some space, no restart is needed").with_retry(Retry::After(FULL_RETRY))
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Error::internal(
            "the state file is damaged or not a state file; stop the program and restore it from a backup, or salvage it with `sqlite3 FILE .recover`",
        ),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            Error::config("the state file cannot be opened for writing; check that its folder exists and that this user may write there")
        }
        Some(ErrorCode::SystemIoFailure) => {
            Error::internal("reading or writing the state file failed; check the disk").with_retry(Retry::After(FULL_RETRY))
        }
        _ => Error::internal("the state store failed"),
    };
    mapped.with_source(error)
}

/// The error of a store whose threads are gone.
pub(super) fn stopped() -> Error {
    Error::internal("the state store has stopped; the program is shutting down or its writer failed")
}

/// The error of every operation in a transaction that SQLite undid by itself, which it does when the disk is full.
pub(super) fn rolled_back() -> Error {
    Error::internal("the state transaction was undone, most likely because the disk is full; free some space, no restart is needed")
        .with_retry(Retry::After(FULL_RETRY))
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    #[test]
    fn a_fault_says_whether_waiting_helps() {
        let of = |code| fault(rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some("sqlite's own words".to_owned())));
        let cases = [
            (ffi::SQLITE_BUSY, ErrorKind::Transient, Retry::After(LOCKED_RETRY)),
            (ffi::SQLITE_FULL, ErrorKind::Internal, Retry::After(FULL_RETRY)),
            (ffi::SQLITE_CORRUPT, ErrorKind::Internal, Retry::Never),
            (ffi::SQLITE_NOTADB, ErrorKind::Internal, Retry::Never),
            (ffi::SQLITE_READONLY, ErrorKind::Config, Retry::Never),
            (ffi::SQLITE_CONSTRAINT, ErrorKind::Internal, Retry::Never),
        ];
        for (code, kind, retry) in cases {
            let error = of(code);
            assert_eq!((error.kind(), error.retry()), (kind, retry), "{error}");
            assert!(!error.to_string().contains("own words"));
        }
    }
}
