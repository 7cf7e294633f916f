//! The audit trail: who did what over which connection, chained so that an edit shows.

use std::{fmt::Debug, sync::Arc};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    context::{TenantId, WorkspaceId},
    error::Result,
    spec::Effect,
};

/// How an audited action ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditOutcome {
    /// It is about to be sent; written before the first byte of a write leaves.
    Intent,
    /// It succeeded.
    Ok,
    /// It failed.
    Failed,
    /// It was refused before anything was sent.
    Refused,
    /// Nobody knows; it is queued for reconciliation.
    Unknown,
    /// It waits in the outbox.
    Queued,
}

/// One entry. Arguments and replies are never here, only their digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Unix milliseconds.
    pub at: u64,
    /// The tenant.
    pub tenant: TenantId,
    /// The workspace.
    pub workspace: WorkspaceId,
    /// Who.
    pub actor: String,
    /// The connector.
    pub connector: Arc<str>,
    /// The connection.
    pub connection: String,
    /// The operation.
    pub operation: Arc<str>,
    /// What it does to the vendor's data.
    pub effect: Effect,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// The error class, if it failed.
    pub error: Option<String>,
    /// SHA-256 of the canonical arguments, in hex.
    pub args_digest: String,
    /// The idempotency key.
    pub idempotency_key: Option<String>,
    /// The correlation id.
    pub correlation_id: String,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// The name of the credential it was authorised with. Absent in records from before there was a vault, whose hashes must stay valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Arc<str>>,
}

/// A kept entry with its place in the tenant's chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredAudit {
    /// Its place in the tenant's chain, from 1.
    pub seq: u64,
    /// SHA-256 over the previous hash and this record, in hex.
    pub hash: String,
    /// The record.
    pub record: AuditRecord,
}

/// Which entries to show.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Only this operation's.
    pub operation: Option<String>,
    /// Only this connection's.
    pub connection: Option<String>,
    /// Only those authorised with this credential.
    pub credential: Option<String>,
    /// At most this many, the newest (0: 100).
    pub limit: usize,
}

/// What a check of the chain found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChainReport {
    /// Entries checked.
    pub checked: u64,
    /// The first entry whose hash does not follow from the one before.
    pub first_bad: Option<u64>,
}

/// The audit trail.
#[async_trait]
pub trait AuditLog: Debug + Send + Sync + 'static {
    /// Appends entries in order. Durable when it returns.
    async fn audit(&self, records: Vec<AuditRecord>) -> Result<()>;

    /// The newest entries, oldest of them first.
    async fn audit_tail(&self, tenant: &TenantId, filter: AuditFilter) -> Result<Vec<StoredAudit>>;

    /// Recomputes the tenant's chain.
    async fn audit_verify(&self, tenant: &TenantId) -> Result<ChainReport>;
}
