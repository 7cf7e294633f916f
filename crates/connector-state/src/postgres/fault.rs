//! PostgreSQL's failures as ours: what happened, whether waiting helps, what to do, and whether the work may have been done all the same.
//!
//! Refuses row contents and connection strings: messages are written here. The server's own text may quote a row, so of it only the
//! SQLSTATE is kept.

use std::{error::Error as _, io, time::Duration};

use connector_core::error::{Error, ErrorKind, Retry};
use deadpool_postgres::{PoolError, TimeoutType};
use tokio_postgres::error::SqlState;

/// How long a caller should wait for a server that restarts, fails over or is out of connections.
const AWAY_RETRY: Duration = Duration::from_secs(1);
/// How long a caller should wait when the server's disk is full.
const FULL_RETRY: Duration = Duration::from_secs(30);

/// The context key that says whether the work may have been done although no answer came. Its one value is `unknown`.
pub(super) const OUTCOME: &str = "outcome";

/// What a repetition of the same call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Nothing new: a key, a version or a fence makes it harmless.
    Harmless,
    /// The same once more: the caller must look before it repeats.
    Twice,
}

fn away(message: &str) -> Error {
    Error::new(ErrorKind::Transient, message).with_retry(Retry::After(AWAY_RETRY))
}

fn crowded(message: &str) -> Error {
    Error::new(ErrorKind::Overloaded, message).with_retry(Retry::After(AWAY_RETRY))
}

/// A failed statement as ours.
pub(super) fn fault(error: &tokio_postgres::Error, repeat: Repeat) -> Error {
    match error.code() {
        Some(code) => {
            let mapped = said(code).with_context("sqlstate", code.code());
            // A server that goes down may do so between the commit and the answer. Every other refusal means that nothing was done.
            if matches!(*code, SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN) { uncertain(mapped, repeat) } else { mapped }
        }
        None if error.is_closed() || is_io(error) => uncertain(lost(), repeat),
        None => unreadable(error),
    }
}

/// The connection broke while a statement was under way.
fn lost() -> Error {
    away("the connection to the PostgreSQL server broke; it is made again by itself, check the server if this goes on")
}

/// No answer within the client's own limit.
pub(super) fn no_answer(repeat: Repeat) -> Error {
    let error = Error::new(ErrorKind::Timeout, "the PostgreSQL server gave no answer in time; check whether it is overloaded or unreachable");
    uncertain(error.with_retry(Retry::After(AWAY_RETRY)), repeat)
}

fn uncertain(error: Error, repeat: Repeat) -> Error {
    let error = match repeat {
        Repeat::Harmless => error,
        Repeat::Twice => error.with_kind(ErrorKind::Unknown),
    };
    error.with_context(OUTCOME, "unknown")
}

fn said(code: &SqlState) -> Error {
    match *code {
        SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN | SqlState::CANNOT_CONNECT_NOW | SqlState::CONNECTION_FAILURE => {
            away("the PostgreSQL server is starting or shutting down; wait, no restart of this program is needed")
        }
        SqlState::READ_ONLY_SQL_TRANSACTION => read_only(),
        SqlState::TOO_MANY_CONNECTIONS => {
            crowded("the PostgreSQL server has no connection left; raise its `max_connections` or lower the number of connections of each hub")
        }
        SqlState::OUT_OF_MEMORY => crowded("the PostgreSQL server is out of memory or locks; raise `max_locks_per_transaction` or its memory"),
        SqlState::DISK_FULL => {
            Error::internal("the disk of the PostgreSQL server is full; free some space, no restart is needed").with_retry(Retry::After(FULL_RETRY))
        }
        SqlState::LOCK_NOT_AVAILABLE => {
            crowded("the state tables are locked by another session; look for a long transaction or a migration in `pg_stat_activity`")
        }
        SqlState::QUERY_CANCELED => crowded("the PostgreSQL server took too long and the statement was cancelled; look at its load and its locks"),
        SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED => {
            away("the state transaction collided with another one again and again; it was undone, try it again")
        }
        SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            Error::config("the PostgreSQL server refused the user or its password; correct the connection URL or `pg_hba.conf`")
        }
        SqlState::INVALID_CATALOG_NAME => Error::config("the PostgreSQL server has no such database; create it or correct the connection URL"),
        SqlState::INSUFFICIENT_PRIVILEGE => {
            Error::config("the PostgreSQL user lacks a privilege: it must own the schema, or be allowed to create it in the database")
        }
        SqlState::UNDEFINED_TABLE | SqlState::UNDEFINED_FUNCTION | SqlState::UNDEFINED_COLUMN | SqlState::INVALID_SCHEMA_NAME => {
            Error::internal("the state schema was changed or dropped while the program ran; restore it from a backup, or restart to create it")
        }
        SqlState::DATA_CORRUPTED | SqlState::INDEX_CORRUPTED => {
            Error::internal("the PostgreSQL server reports damaged data; stop the program and restore the database from a backup")
        }
        SqlState::IO_ERROR | SqlState::SYSTEM_ERROR => {
            Error::internal("the PostgreSQL server cannot read or write its files; check its disk").with_retry(Retry::After(FULL_RETRY))
        }
        SqlState::PROGRAM_LIMIT_EXCEEDED => Error::invalid("a value is too long for an index of the state store"),
        _ => Error::internal("the state store failed"),
    }
}

fn read_only() -> Error {
    away("the PostgreSQL server is read-only, a replica or in a failover; name the primary, or all hosts separated by commas, in the connection URL")
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    error.source().is_some_and(|source| source.is::<io::Error>())
}

/// A row that does not look as this program wrote it.
fn unreadable(error: &tokio_postgres::Error) -> Error {
    // Its own words name a column or a parameter by number, no value.
    Error::internal("the state store got an answer it cannot read").with_context("detail", error.to_string())
}

/// As [`unreadable`], for a column.
pub(super) fn unreadable_row(error: &tokio_postgres::Error) -> Error {
    unreadable(error)
}

/// A stored JSON text that cannot be read any more. Its error is not shown: it may quote the text.
pub(super) fn unreadable_json() -> Error {
    Error::internal("a stored record is not the JSON it was")
}

/// A connection that could not be made.
pub(super) fn unreachable(error: &tokio_postgres::Error) -> Error {
    if let Some(code) = error.code() {
        return said(code).with_context("sqlstate", code.code());
    }
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(tls) = tls_error(cause) {
            return distrusted(tls);
        }
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            if io.kind() == io::ErrorKind::PermissionDenied {
                return read_only();
            }
            return away("the PostgreSQL server cannot be reached; check that it runs and that host, port and network are right")
                .with_context("cause", io.kind().to_string());
        }
        source = cause.source();
    }
    match error.to_string().as_str() {
        "error performing TLS handshake" => Error::config(
            "the PostgreSQL server offers no TLS; turn it on there, or add `sslmode=disable` to the connection URL if the network can be trusted",
        ),
        "authentication error" | "invalid configuration" => {
            Error::config("the PostgreSQL server asks for a password or a method that the connection URL does not provide")
        }
        "invalid connection string" => {
            Error::config("the connection URL is not valid: postgres://user:password@host:port/database?sslmode=verify-full")
        }
        _ => lost(),
    }
}

fn tls_error<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    cause.downcast_ref::<rustls::Error>().or_else(|| cause.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref())
}

fn distrusted(error: &rustls::Error) -> Error {
    match error {
        rustls::Error::InvalidCertificate(_) => Error::config(
            "the certificate of the PostgreSQL server is not valid for its host or its authority is not known; name the authority with `sslrootcert`",
        ),
        _ => away("the TLS handshake with the PostgreSQL server failed"),
    }
    .with_context("tls", error.to_string())
}

/// No connection from the pool: nothing was sent.
pub(super) fn no_connection(error: &PoolError) -> Error {
    match error {
        PoolError::Timeout(TimeoutType::Wait) => {
            crowded("all connections of this program to the PostgreSQL server are in use; raise their number or look for slow statements")
        }
        PoolError::Timeout(_) => away("the PostgreSQL server takes too long to accept a connection; check its load and the network"),
        PoolError::Backend(error) => unreachable(error),
        PoolError::Closed | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => stopped(),
    }
}

/// The error of a store whose tasks are gone.
pub(super) fn stopped() -> Error {
    Error::internal("the state store has stopped; the program is shutting down or one of its tasks failed")
}

/// Whether the statement was undone because it met another one, so that trying it again at once may work.
pub(super) fn collided(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| matches!(*code, SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED))
}

/// Whether the server takes no writes any more.
pub(super) fn is_read_only(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_says_whether_waiting_helps() {
        let cases = [
            (SqlState::ADMIN_SHUTDOWN, ErrorKind::Transient, Retry::After(AWAY_RETRY)),
            (SqlState::CANNOT_CONNECT_NOW, ErrorKind::Transient, Retry::After(AWAY_RETRY)),
            (SqlState::READ_ONLY_SQL_TRANSACTION, ErrorKind::Transient, Retry::After(AWAY_RETRY)),
            (SqlState::TOO_MANY_CONNECTIONS, ErrorKind::Overloaded, Retry::After(AWAY_RETRY)),
            (SqlState::LOCK_NOT_AVAILABLE, ErrorKind::Overloaded, Retry::After(AWAY_RETRY)),
            (SqlState::DISK_FULL, ErrorKind::Internal, Retry::After(FULL_RETRY)),
            (SqlState::INVALID_PASSWORD, ErrorKind::Config, Retry::Never),
            (SqlState::UNIQUE_VIOLATION, ErrorKind::Internal, Retry::Never),
        ];
        for (code, kind, retry) in cases {
            let error = said(&code);
            assert_eq!((error.kind(), error.retry()), (kind, retry), "{error}");
        }
    }

    #[test]
    fn an_unknown_outcome_is_said() {
        let harmless = no_answer(Repeat::Harmless);
        assert_eq!(harmless.kind(), ErrorKind::Timeout);
        assert_eq!(harmless.context(), [(OUTCOME, "unknown".to_owned())]);
        let twice = no_answer(Repeat::Twice);
        assert_eq!((twice.kind(), twice.retry()), (ErrorKind::Unknown, Retry::Never));
    }
}
