//! Key-value pairs on SQLite. Expiry is by the wall clock, because it must hold across restarts.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    error::Result,
    state::{Condition, Entry, Namespace, PutOutcome, StateStore},
};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{SqliteState, int, uint};

/// Every so many writes, expired entries are removed.
const SWEEP_EVERY: i64 = 256;
/// At most so many at once, so that nobody waits for it.
const SWEEP_CAP: i64 = 1024;

fn entry(row: &Row<'_>, value: usize, version: usize) -> rusqlite::Result<Entry> {
    Ok(Entry { value: Bytes::from(row.get::<_, Vec<u8>>(value)?), version: uint(row.get(version)?) })
}

fn live(connection: &Connection, address: &Address, now: i64) -> rusqlite::Result<Option<Entry>> {
    connection
        .prepare_cached(
            "SELECT value, version FROM kv WHERE tenant = ?1 AND namespace = ?2 AND key = ?3 AND (expires_at IS NULL OR expires_at > ?4)",
        )?
        .query_row(params![address.tenant, address.namespace, address.key, now], |row| entry(row, 0, 1))
        .optional()
}

fn holds(condition: Condition, current: Option<&Entry>) -> bool {
    match condition {
        Condition::Any => true,
        Condition::Absent => current.is_none(),
        Condition::Is(version) => current.is_some_and(|entry| entry.version == version),
    }
}

/// An owned key, to travel to another thread.
struct Address {
    tenant: String,
    namespace: String,
    key: String,
}

impl Address {
    fn new(namespace: Namespace<'_>, key: &str) -> Self {
        Self { tenant: namespace.tenant.as_str().to_owned(), namespace: namespace.name.to_owned(), key: key.to_owned() }
    }
}

#[async_trait]
impl StateStore for SqliteState {
    async fn get(&self, namespace: Namespace<'_>, key: &str) -> Result<Option<Entry>> {
        let (address, now) = (Address::new(namespace, key), self.now());
        self.read(move |connection| live(connection, &address, now)).await
    }

    async fn put(&self, namespace: Namespace<'_>, key: &str, value: Bytes, condition: Condition, ttl: Option<Duration>) -> Result<PutOutcome> {
        let (address, now) = (Address::new(namespace, key), self.now());
        let expires = ttl.map(|ttl| now.saturating_add(int(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX))));
        self.write(move |connection| {
            if condition != Condition::Any {
                let current = live(connection, &address, now)?;
                if !holds(condition, current.as_ref()) {
                    return Ok(PutOutcome::Refused(current));
                }
            }
            let version: i64 = connection
                .prepare_cached("UPDATE counters SET value = value + 1 WHERE name = 'kv' RETURNING value")?
                .query_row([], |row| row.get(0))?;
            connection
                .prepare_cached(
                    "INSERT INTO kv (tenant, namespace, key, value, version, expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                     ON CONFLICT (tenant, namespace, key) DO UPDATE SET value = excluded.value, version = excluded.version, expires_at = excluded.expires_at",
                )?
                .execute(params![address.tenant, address.namespace, address.key, &value[..], version, expires])?;
            if version % SWEEP_EVERY == 0 {
                connection
                    .prepare_cached("DELETE FROM kv WHERE rowid IN (SELECT rowid FROM kv WHERE expires_at <= ?1 LIMIT ?2)")?
                    .execute(params![now, SWEEP_CAP])?;
            }
            Ok(PutOutcome::Stored(uint(version)))
        })
        .await
    }

    async fn delete(&self, namespace: Namespace<'_>, key: &str, condition: Condition) -> Result<bool> {
        let (address, now) = (Address::new(namespace, key), self.now());
        self.write(move |connection| {
            let current = live(connection, &address, now)?;
            if current.is_none() || !holds(condition, current.as_ref()) {
                return Ok(false);
            }
            let removed = connection.prepare_cached("DELETE FROM kv WHERE tenant = ?1 AND namespace = ?2 AND key = ?3")?.execute(params![
                address.tenant,
                address.namespace,
                address.key
            ])?;
            Ok(removed > 0)
        })
        .await
    }

    async fn scan(&self, namespace: Namespace<'_>, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Entry)>> {
        let (address, now) = (Address::new(namespace, prefix), self.now());
        let after = after.map(str::to_owned);
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT key, value, version FROM kv
                 WHERE tenant = ?1 AND namespace = ?2 AND key >= ?3 AND (?4 IS NULL OR key > ?4) AND (expires_at IS NULL OR expires_at > ?5)
                 ORDER BY key",
            )?;
            let mut rows = statement.query(params![address.tenant, address.namespace, address.key, after, now])?;
            let mut found = Vec::new();
            while found.len() < limit
                && let Some(row) = rows.next()?
            {
                let key: String = row.get(0)?;
                if !key.starts_with(&address.key) {
                    break;
                }
                found.push((key, entry(row, 1, 2)?));
            }
            Ok(found)
        })
        .await
    }
}
