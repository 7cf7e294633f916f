//! The audit trail on SQLite. What is hashed is the stored text itself, so any changed byte shows.

use async_trait::async_trait;
use connector_core::{
    context::TenantId,
    error::Result,
    state::{AuditFilter, AuditLog, AuditRecord, ChainReport, StoredAudit},
};
use rusqlite::{OptionalExtension as _, params};

use super::{SqliteState, limit, uint, unreadable};
use crate::chain::{GENESIS, canonical, link};

#[async_trait]
impl AuditLog for SqliteState {
    async fn audit(&self, records: Vec<AuditRecord>) -> Result<()> {
        let texts = records.iter().map(|record| Ok((record.tenant.clone(), canonical(record)?))).collect::<Result<Vec<_>>>()?;
        self.write(move |connection| {
            let mut head = connection.prepare_cached("SELECT seq, hash FROM audit_head WHERE tenant = ?1")?;
            let mut insert = connection.prepare_cached("INSERT INTO audit (tenant, seq, hash, record) VALUES (?1, ?2, ?3, ?4)")?;
            let mut advance = connection.prepare_cached(
                "INSERT INTO audit_head (tenant, seq, hash) VALUES (?1, ?2, ?3)
                 ON CONFLICT (tenant) DO UPDATE SET seq = excluded.seq, hash = excluded.hash",
            )?;
            for (tenant, text) in texts {
                let previous: Option<(i64, String)> = head.query_row([tenant.as_str()], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
                let (seq, previous) = previous.unwrap_or((0, GENESIS.to_owned()));
                let hash = link(&previous, &text);
                insert.execute(params![tenant.as_str(), seq + 1, hash, text])?;
                advance.execute(params![tenant.as_str(), seq + 1, hash])?;
            }
            Ok(())
        })
        .await
    }

    async fn audit_tail(&self, tenant: &TenantId, filter: AuditFilter) -> Result<Vec<StoredAudit>> {
        let tenant = tenant.clone();
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT seq, hash, record FROM audit
                 WHERE tenant = ?1 AND (?2 IS NULL OR operation = ?2) AND (?3 IS NULL OR connection = ?3) AND (?4 IS NULL OR record ->> 'credential' = ?4)
                 ORDER BY seq DESC LIMIT ?5",
            )?;
            let rows = statement.query_map(params![tenant.as_str(), filter.operation, filter.connection, filter.credential, limit(filter.limit)], |row| {
                let record = serde_json::from_str(&row.get::<_, String>(2)?).map_err(|error| unreadable(2, error))?;
                Ok(StoredAudit { seq: uint(row.get(0)?), hash: row.get(1)?, record })
            })?;
            let mut tail = rows.collect::<rusqlite::Result<Vec<_>>>()?;
            tail.reverse();
            Ok(tail)
        })
        .await
    }

    async fn audit_verify(&self, tenant: &TenantId) -> Result<ChainReport> {
        let tenant = tenant.clone();
        self.read(move |connection| {
            // One snapshot, so that an entry written meanwhile does not look like a cut-off end. In memory the writer's transaction is one already.
            let _snapshot = connection.is_autocommit().then(|| connection.unchecked_transaction()).transpose()?;
            let mut report = ChainReport { checked: 0, first_bad: None };
            let mut previous = GENESIS.to_owned();
            let mut statement = connection.prepare_cached("SELECT seq, hash, record FROM audit WHERE tenant = ?1 ORDER BY seq")?;
            let mut rows = statement.query([tenant.as_str()])?;
            while let Some(row) = rows.next()? {
                let (seq, hash, text): (i64, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
                report.checked += 1;
                if uint(seq) != report.checked || link(&previous, &text) != hash {
                    report.first_bad = Some(uint(seq));
                    return Ok(report);
                }
                previous = hash;
            }
            let head: Option<(i64, String)> = connection
                .prepare_cached("SELECT seq, hash FROM audit_head WHERE tenant = ?1")?
                .query_row([tenant.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let (seq, hash) = head.unwrap_or((0, GENESIS.to_owned()));
            if uint(seq) != report.checked || hash != previous {
                // The end was cut off, or the head was changed: the first entry that ought to be there and is not.
                report.first_bad = Some(report.checked + 1);
            }
            Ok(report)
        })
        .await
    }
}
