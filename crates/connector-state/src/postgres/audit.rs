//! The audit trail on PostgreSQL. What is hashed is the stored text itself, so any changed byte shows. The hashes are computed in the
//! transaction that holds the tenant's head, and checked here, by the code that every backend shares.

use async_trait::async_trait;
use connector_core::{
    context::TenantId,
    error::Result,
    state::{AuditFilter, AuditLog, AuditRecord, ChainReport, StoredAudit},
};

use super::{
    PostgresState,
    batch::Grouped,
    fault::{Repeat, unreadable_json},
    int, limit,
    pool::Db,
    row::{cell, number},
    text::{stored, stored_opt},
};
use crate::chain::{GENESIS, canonical, link};

/// Entries checked with one statement.
const PAGE: i64 = 1_000;

/// An entry, ready to be stored.
#[derive(Debug)]
pub(super) struct Entry {
    text: String,
    record: AuditRecord,
}

/// Entries, in groups.
#[derive(Debug)]
pub(super) struct Entries;

impl Grouped for Entries {
    type Item = Vec<Entry>;
    type Answer = ();

    fn bytes(item: &Vec<Entry>) -> usize {
        item.iter().map(|entry| entry.text.len() + 256).sum()
    }

    async fn run(db: &Db, items: &[Vec<Entry>]) -> Result<Vec<()>> {
        let entries: Vec<&Entry> = items.iter().flatten().collect();
        db.rows(
            // A second entry about the same action is a blemish and a missing one a fault: who does not know writes it again.
            Repeat::Harmless,
            "SELECT append_audit($1, $2, $3, $4, $5)",
            &[
                &entries.iter().map(|entry| stored(entry.record.tenant.as_str())).collect::<Vec<_>>(),
                &entries.iter().map(|entry| &*entry.text).collect::<Vec<_>>(),
                &entries.iter().map(|entry| stored(&entry.record.operation)).collect::<Vec<_>>(),
                &entries.iter().map(|entry| stored(&entry.record.connection)).collect::<Vec<_>>(),
                &entries.iter().map(|entry| stored_opt(entry.record.credential.as_deref())).collect::<Vec<_>>(),
            ],
        )
        .await?;
        Ok(vec![(); items.len()])
    }
}

#[async_trait]
impl AuditLog for PostgresState {
    async fn audit(&self, records: Vec<AuditRecord>) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let entries = records.into_iter().map(|record| Ok(Entry { text: canonical(&record)?, record })).collect::<Result<Vec<_>>>()?;
        self.entries.submit(entries).await
    }

    async fn audit_tail(&self, tenant: &TenantId, filter: AuditFilter) -> Result<Vec<StoredAudit>> {
        let rows = self
            .db
            .rows(
                Repeat::Harmless,
                "SELECT seq, hash, record FROM audit
                 WHERE tenant = $1 AND ($2::text IS NULL OR operation = $2) AND ($3::text IS NULL OR connection = $3)
                   AND ($4::text IS NULL OR credential = $4)
                 ORDER BY seq DESC LIMIT $5",
                &[
                    &stored(tenant.as_str()),
                    &stored_opt(filter.operation.as_deref()),
                    &stored_opt(filter.connection.as_deref()),
                    &stored_opt(filter.credential.as_deref()),
                    &limit(filter.limit),
                ],
            )
            .await?;
        let entry = |row| {
            let record = serde_json::from_str(&cell::<String>(row, 2)?).map_err(|_| unreadable_json())?;
            Ok(StoredAudit { seq: number(row, 0)?, hash: cell(row, 1)?, record })
        };
        rows.iter().rev().map(entry).collect()
    }

    async fn audit_verify(&self, tenant: &TenantId) -> Result<ChainReport> {
        let tenant = stored(tenant.as_str());
        // The head and whether anything lies beyond it, in one look. What is up to the head does not change any more, so that it can be read
        // in portions; what comes after this look is for the next check.
        let heads = self
            .db
            .rows(
                Repeat::Harmless,
                "SELECT h.seq, h.hash, EXISTS (SELECT 1 FROM audit AS a WHERE a.tenant = $1 AND a.seq > h.seq)
                 FROM (SELECT seq, hash FROM audit_head WHERE tenant = $1 UNION ALL SELECT 0, $2 ORDER BY seq DESC LIMIT 1) AS h",
                &[&tenant, &GENESIS],
            )
            .await?;
        let (last, head_hash, beyond) = match heads.first() {
            Some(row) => (number(row, 0)?, cell::<String>(row, 1)?, cell::<bool>(row, 2)?),
            None => (0, GENESIS.to_owned(), false),
        };
        let mut report = ChainReport { checked: 0, first_bad: None };
        let mut previous = GENESIS.to_owned();
        let mut after = 0;
        loop {
            let rows = self
                .db
                .rows(
                    Repeat::Harmless,
                    "SELECT seq, hash, record FROM audit WHERE tenant = $1 AND seq > $2 AND seq <= $3 ORDER BY seq LIMIT $4",
                    &[&tenant, &after, &int(last), &PAGE],
                )
                .await?;
            for row in &rows {
                let (seq, hash, text): (u64, String, String) = (number(row, 0)?, cell(row, 1)?, cell(row, 2)?);
                report.checked += 1;
                if seq != report.checked || link(&previous, &text) != hash {
                    report.first_bad = Some(seq);
                    return Ok(report);
                }
                previous = hash;
                after = int(seq);
            }
            if rows.is_empty() {
                break;
            }
        }
        if last != report.checked || head_hash != previous || beyond {
            // The end was cut off or added to, or the head was changed: the first entry that is not as it ought to be.
            report.first_bad = Some(report.checked + 1);
        }
        Ok(report)
    }
}
