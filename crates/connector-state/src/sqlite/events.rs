//! The event log on SQLite: the event, its dedupe key and its job in one transaction.

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    context::TenantId,
    error::Result,
    state::{Appended, EventFilter, EventLog, JobId, NewEvent, StoredEvent},
};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{
    SqliteState, int,
    jobs::{add, add_first, revive},
    limit, uint, unreadable,
};
use crate::rules::{again, event_job, payload_hash};

const COLUMNS: &str = "seq, tenant, workspace, connector, event_id, event_type, order_key, flags, payload, received_at, duplicates, connection";

fn stored(row: &Row<'_>) -> rusqlite::Result<StoredEvent> {
    let text = |column: usize| row.get::<_, String>(column);
    Ok(StoredEvent {
        seq: uint(row.get(0)?),
        tenant: text(1)?.into(),
        workspace: text(2)?.into(),
        connector: text(3)?.into(),
        event_id: text(4)?,
        event_type: text(5)?.into(),
        order_key: row.get(6)?,
        flags: serde_json::from_str(&text(7)?).map_err(|error| unreadable(7, error))?,
        payload: Bytes::from(row.get::<_, Vec<u8>>(8)?),
        received_at: uint(row.get(9)?),
        duplicates: uint(row.get(10)?),
        connection: text(11)?.into(),
    })
}

fn find(connection: &Connection, tenant: &TenantId, seq: u64) -> rusqlite::Result<Option<StoredEvent>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM events WHERE tenant = ?1 AND seq = ?2"))?
        .query_row(params![tenant.as_str(), int(seq)], stored)
        .optional()
}

fn append(connection: &Connection, event: &NewEvent, now: i64) -> rusqlite::Result<Appended> {
    let hash = payload_hash(event);
    let flags = serde_json::Value::from(event.flags.clone()).to_string();
    let seq: Option<i64> = connection
        .prepare_cached(
            "INSERT INTO events (tenant, workspace, connector, event_id, event_type, order_key, flags, payload, payload_hash, received_at, connection)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
             ON CONFLICT (tenant, connection, event_id) DO NOTHING RETURNING seq",
        )?
        .query_row(
            params![
                event.tenant.as_str(),
                event.workspace.as_str(),
                &*event.connector,
                event.event_id,
                &*event.event_type,
                event.order_key,
                flags,
                &event.payload[..],
                &hash[..],
                int(event.received_at),
                &*event.connection
            ],
            |row| row.get(0),
        )
        .optional()?;
    if let Some(seq) = seq {
        let job = add_first(connection, &event_job(event, uint(seq)), seq, now)?;
        return Ok(Appended::New { seq: uint(seq), job });
    }
    let (seq, same): (i64, bool) = connection
        .prepare_cached("SELECT seq, payload_hash = ?4 FROM events WHERE tenant = ?1 AND connection = ?2 AND event_id = ?3")?
        .query_row(params![event.tenant.as_str(), &*event.connection, event.event_id, &hash[..]], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if !same {
        return Ok(Appended::Mismatch { seq: uint(seq) });
    }
    connection.prepare_cached("UPDATE events SET duplicates = duplicates + 1 WHERE seq = ?1")?.execute([seq])?;
    Ok(Appended::Duplicate { seq: uint(seq) })
}

#[async_trait]
impl EventLog for SqliteState {
    async fn append(&self, events: Vec<NewEvent>) -> Result<Vec<Appended>> {
        let now = self.now();
        self.write(move |connection| events.iter().map(|event| append(connection, event, now)).collect()).await
    }

    async fn event(&self, tenant: &TenantId, seq: u64) -> Result<Option<StoredEvent>> {
        let tenant = tenant.clone();
        self.read(move |connection| find(connection, &tenant, seq)).await
    }

    async fn events(&self, tenant: &TenantId, filter: EventFilter) -> Result<Vec<StoredEvent>> {
        let tenant = tenant.clone();
        let columns = if filter.heads { COLUMNS.replace("payload", "x''") } else { COLUMNS.to_owned() };
        self.read(move |connection| {
            connection
                .prepare_cached(&format!(
                    "SELECT {columns} FROM events
                     WHERE tenant = ?1 AND seq > ?2 AND (?3 IS NULL OR connector = ?3) AND (?4 IS NULL OR event_type = ?4) ORDER BY seq LIMIT ?5"
                ))?
                .query_map(
                    params![tenant.as_str(), int(filter.after.unwrap_or(0)), filter.connector, filter.event_type, limit(filter.limit)],
                    stored,
                )?
                .collect()
        })
        .await
    }

    async fn replay(&self, tenant: &TenantId, seq: u64) -> Result<Option<JobId>> {
        let (tenant, now) = (tenant.clone(), self.now());
        self.write(move |connection| {
            let Some(event) = find(connection, &tenant, seq)? else { return Ok(None) };
            let id = add(connection, &event_job(&again(event), seq), Some(int(seq)), now)?.id();
            revive(connection, &tenant, id, now)?;
            Ok(Some(id))
        })
        .await
    }

    async fn prune_events(&self, before: u64) -> Result<u64> {
        self.write(move |connection| {
            let pruned = connection
                .prepare_cached(
                    "DELETE FROM events WHERE received_at < ?1
                     AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.event_seq = events.seq AND jobs.state IN (0, 1, 3))",
                )?
                .execute([int(before)])?;
            connection.prepare_cached("DELETE FROM jobs WHERE state IN (2, 4) AND created_at < ?1")?.execute([int(before)])?;
            Ok(pruned as u64)
        })
        .await
    }
}
