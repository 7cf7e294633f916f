//! Audit trail behaviour: order, chain, filters, tenants.

use std::sync::Arc;

use connector_core::{
    TenantId,
    clock::Clock,
    spec::Effect,
    state::{AuditFilter, AuditOutcome, AuditRecord, ChainReport, Store},
};

use super::{START_MS, fresh};

/// A record of tenant `acme`.
pub fn record(tenant: &str, operation: &str, connection: &str) -> AuditRecord {
    AuditRecord {
        at: START_MS,
        tenant: tenant.into(),
        workspace: "support".into(),
        actor: "user:ada".to_owned(),
        connector: "crm".into(),
        connection: connection.to_owned(),
        operation: operation.into(),
        effect: Effect::Write,
        outcome: AuditOutcome::Ok,
        error: None,
        args_digest: "00".repeat(32),
        idempotency_key: Some("k".to_owned()),
        correlation_id: "c-1".to_owned(),
        duration_ms: 12,
        credential: None,
    }
}

/// Runs the audit behaviour against fresh stores.
pub async fn audit(make: impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    let (store, _) = fresh(&make);
    let (acme, other) = (TenantId::from("acme"), TenantId::from("other"));
    assert_eq!(store.audit_verify(&acme).await.unwrap(), ChainReport { checked: 0, first_bad: None });
    store.audit(Vec::new()).await.unwrap();
    store.audit(vec![record("acme", "op1", "main"), record("other", "op1", "main"), record("acme", "op2", "main")]).await.unwrap();
    store.audit(vec![record("acme", "op1", "second")]).await.unwrap();

    let tail = store.audit_tail(&acme, AuditFilter::default()).await.unwrap();
    assert_eq!(tail.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(tail[1].record, record("acme", "op2", "main"), "the record comes back whole");
    assert!(tail.iter().all(|entry| entry.hash.len() == 64));
    assert_ne!(tail[0].hash, tail[1].hash);
    let newest = store.audit_tail(&acme, AuditFilter { limit: 2, ..AuditFilter::default() }).await.unwrap();
    assert_eq!(newest.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [2, 3], "the newest, oldest of them first");
    let op1 = AuditFilter { operation: Some("op1".to_owned()), ..AuditFilter::default() };
    assert_eq!(store.audit_tail(&acme, op1).await.unwrap().iter().map(|entry| entry.seq).collect::<Vec<_>>(), [1, 3]);
    let second = AuditFilter { connection: Some("second".to_owned()), ..AuditFilter::default() };
    assert_eq!(store.audit_tail(&acme, second).await.unwrap().len(), 1);
    assert_eq!(store.audit_tail(&other, AuditFilter::default()).await.unwrap().len(), 1, "each tenant has its own chain");

    assert_eq!(store.audit_verify(&acme).await.unwrap(), ChainReport { checked: 3, first_bad: None });
    assert_eq!(store.audit_verify(&other).await.unwrap(), ChainReport { checked: 1, first_bad: None });
    // The chain does not depend on the backend: the first hash is SHA-256 of 32 zero bytes and the canonical record.
    assert_eq!(tail[0].hash, "cdb8ebd02cb7e551dca0b3465762c66db8036a99d2633af55f5382d1899048d6");
}
