//! Small things that are sealed for others, and the counters and trail of openings.
#![allow(clippy::unwrap_used, reason = "a test may fail this way")]

mod common;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use common::{Place, RemoteKey, ask, dying::Dying, key, new, open, value};
use connector_core::{ErrorKind, TenantId, credential::CredentialStore as _, state::AuditFilter};
use metrics::{Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

on_both_stores!(
    what_is_sealed_opens_for_the_same_tenant_purpose_and_id_only,
    what_is_sealed_for_others_can_be_brought_under_a_new_key,
    a_trail_that_cannot_be_written_is_counted_and_stops_nobody,
);

async fn what_is_sealed_opens_for_the_same_tenant_purpose_and_id_only(place: Place) {
    let vault = place.vault().await;
    let (acme, other) = (TenantId::from("acme"), TenantId::from("other"));
    let sealed = vault.seal(&acme, "pkce", "state-1", b"verifier").await.unwrap();
    assert_ne!(sealed, vault.seal(&acme, "pkce", "state-1", b"verifier").await.unwrap());
    assert_eq!(vault.unseal(&acme, "pkce", "state-1", &sealed).await.unwrap().as_slice(), b"verifier");
    for (tenant, purpose, id) in [(&other, "pkce", "state-1"), (&acme, "csrf", "state-1"), (&acme, "pkce", "state-2"), (&acme, "pkc", "estate-1")] {
        let error = vault.unseal(tenant, purpose, id, &sealed).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(&format!("what was sealed for {purpose} is unreadable")), "{error}");
    }
    for len in 0..sealed.len() {
        assert!(vault.unseal(&acme, "pkce", "state-1", &sealed[..len]).await.is_err());
    }
    // It is nobody's credential, and makes nobody a tenant.
    assert!(vault.tenants().await.unwrap().is_empty());
}

async fn what_is_sealed_for_others_can_be_brought_under_a_new_key(place: Place) {
    let acme = TenantId::from("acme");
    let sealed = place.vault_under(vec![key(1)]).await.unwrap().seal(&acme, "retire", "1", b"x").await.unwrap();
    let vault = place.vault_under(vec![key(2), key(1)]).await.unwrap();
    let anew = vault.reseal(&acme, "retire", "1", &sealed).await.unwrap().unwrap();
    assert_eq!(vault.reseal(&acme, "retire", "1", &anew).await.unwrap(), None);
    assert!(vault.reseal(&acme, "retire", "2", &sealed).await.is_err());
    let vault = place.vault_under(vec![key(2)]).await.unwrap();
    assert_eq!(vault.unseal(&acme, "retire", "1", &anew).await.unwrap().as_slice(), b"x");
    let error = vault.unseal(&acme, "retire", "1", &sealed).await.unwrap_err();
    assert!(error.to_string().contains("sealed under the master key `k1`, which is not configured"), "{error}");
}

/// Counters by `name{labels}`.
#[derive(Debug, Default, Clone)]
struct Seen(Arc<Mutex<BTreeMap<String, u64>>>);

struct One(Seen, String);

impl CounterFn for One {
    fn increment(&self, by: u64) {
        *self.0.0.lock().unwrap().entry(self.1.clone()).or_default() += by;
    }

    fn absolute(&self, _: u64) {}
}

impl Recorder for Seen {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let labels: Vec<String> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        Counter::from_arc(Arc::new(One(self.clone(), format!("{}{{{}}}", key.name(), labels.join(",")))))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

async fn a_trail_that_cannot_be_written_is_counted_and_stops_nobody(place: Place) {
    let (kms, seen) = (RemoteKey::new(7), Seen::default());
    let _recording = metrics::set_default_local_recorder(&seen);
    let tenant = TenantId::from("acme");
    let vault = open(Arc::new(Dying::without_trail(place.store.clone())), &place.clock, vec![key(1), kms.clone()]).await.unwrap();
    for name in ["crm", "erp", "bad"] {
        vault.set(&tenant, name, new([("token", "s3cret")])).await.unwrap();
    }
    let row = place.raw("acme", common::CREDENTIALS, "crm").await;
    place.put_raw("acme", common::CREDENTIALS, "bad", row).await;
    place.pass(std::time::Duration::from_secs(1)).await;
    for _ in 0..3 {
        assert_eq!(value(&vault.get(&ask("acme", "crm").query()).await.unwrap(), "token"), "s3cret");
    }
    assert!(vault.get(&ask("acme", "bad").query()).await.is_err());
    let remote = place.vault_under(vec![kms.clone(), key(1)]).await.unwrap();
    remote.set(&tenant, "erp", new([("token", "s3cret")])).await.unwrap();
    kms.set_away(true);
    assert!(remote.get(&ask("acme", "erp").query()).await.is_err());
    let counted = seen.0.lock().unwrap().clone();
    let expected = [
        ("integration_vault_audit_failures_total{}", 2),
        ("integration_vault_opens_total{outcome=ok}", 1),
        ("integration_vault_opens_total{outcome=unreachable}", 1),
        ("integration_vault_opens_total{outcome=unreadable}", 1),
    ];
    assert_eq!(counted, expected.map(|(name, count)| (name.to_owned(), count)).into());
    // Only the one whose trail could be written is there.
    let trail = place.store.audit_tail(&tenant, AuditFilter::default()).await.unwrap();
    assert_eq!(trail.iter().map(|entry| entry.record.error.as_deref()).collect::<Vec<_>>(), [Some("transient")]);
}
