//! The audit trail in memory, chained as on disk.

use std::collections::HashMap;

use async_trait::async_trait;
use connector_core::{
    context::TenantId,
    error::Result,
    state::{AuditFilter, AuditLog, AuditRecord, ChainReport, StoredAudit},
};

use super::MemoryState;
use crate::{
    chain::{GENESIS, canonical, link},
    rules::limit_or_default,
};

#[derive(Debug, Default)]
pub(super) struct Audit {
    chains: HashMap<TenantId, Vec<StoredAudit>>,
}

#[async_trait]
impl AuditLog for MemoryState {
    async fn audit(&self, records: Vec<AuditRecord>) -> Result<()> {
        let texts = records.iter().map(canonical).collect::<Result<Vec<_>>>()?;
        let mut tables = self.tables();
        for (record, text) in records.into_iter().zip(texts) {
            let chain = tables.audit.chains.entry(record.tenant.clone()).or_default();
            let hash = link(chain.last().map_or(GENESIS, |entry| &entry.hash), &text);
            chain.push(StoredAudit { seq: chain.len() as u64 + 1, hash, record });
        }
        Ok(())
    }

    async fn audit_tail(&self, tenant: &TenantId, filter: AuditFilter) -> Result<Vec<StoredAudit>> {
        let tables = self.tables();
        let Some(chain) = tables.audit.chains.get(tenant) else { return Ok(Vec::new()) };
        let wanted = |entry: &&StoredAudit| {
            filter.operation.as_deref().is_none_or(|operation| operation == &*entry.record.operation)
                && filter.connection.as_deref().is_none_or(|connection| connection == entry.record.connection)
                && filter.credential.as_deref().is_none_or(|credential| Some(credential) == entry.record.credential.as_deref())
        };
        let mut tail: Vec<_> = chain.iter().rev().filter(wanted).take(limit_or_default(filter.limit)).cloned().collect();
        tail.reverse();
        Ok(tail)
    }

    async fn audit_verify(&self, tenant: &TenantId) -> Result<ChainReport> {
        let tables = self.tables();
        let mut report = ChainReport { checked: 0, first_bad: None };
        let mut previous = GENESIS;
        for entry in tables.audit.chains.get(tenant).map(Vec::as_slice).unwrap_or_default() {
            report.checked += 1;
            if link(previous, &canonical(&entry.record)?) != entry.hash {
                report.first_bad = Some(entry.seq);
                break;
            }
            previous = &entry.hash;
        }
        Ok(report)
    }
}
