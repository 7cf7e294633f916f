//! Bringing everything under the current master key, while everything goes on.
//!
//! Each field is sealed anew under a fresh data key, because the payload is bound to the key's id too, and each record is one conditional
//! write: it is under the old key or under the new one, both open, so a kill at any point loses nothing and a second run finishes.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use connector_core::{
    Result, TenantId,
    state::{AuditRecord, Condition, Entry, Namespace, PutOutcome},
};

use super::{
    CREDENTIALS, Inner, LEASES, TOKENS, TRIES, Vault, contended, tokens,
    verify::{DAMAGED_KEY, lost, subject},
};
use crate::{
    info::RotationReport,
    keys::{Fault, Target},
    payload::{KeyRow, PAYLOAD_KEYS, SUBJECT},
    record::Row,
};

/// What the audit trail calls it.
const ERRAND: &str = "vault.rotate_key";
/// Counts envelopes sealed anew.
pub(super) const REWRAPPED: &str = "integration_vault_rewrapped_total";
/// How long the renewal of one credential's tokens is held back at most while they are sealed anew.
const LEASE: Duration = Duration::from_secs(15);
/// A renewal that is under way is waited for: its lease is a minute.
const LEASE_PAUSE: Duration = Duration::from_millis(250);
const LEASE_TRIES: usize = 4 * 90;

/// What one row came to.
#[derive(Default)]
struct Done {
    rewrapped: u64,
    already: u64,
    /// Fields that did not open, and why.
    unreadable: Vec<(String, String)>,
}

impl Vault {
    /// Seals everything anew under the current master key, while everything goes on. Stopped anywhere, it goes on where it was.
    /// `progress` hears how many envelopes are done. Each credential's opening is audited as `vault.rotate_key`.
    ///
    /// # Errors
    /// What the store reports; what a master key reports that cannot be reached. What does not open is left as it is and part of the report.
    pub async fn rotate_key(&self, progress: &(dyn Fn(u64) + Send + Sync)) -> Result<RotationReport> {
        self.0.prove_current().await?;
        let mut report = RotationReport { key_id: self.0.keys.current().id().to_owned(), ..RotationReport::default() };
        for tenant in self.tenants().await? {
            for namespace in [CREDENTIALS, TOKENS, PAYLOAD_KEYS] {
                let mut after = None::<String>;
                loop {
                    let page = self.0.page(&tenant, namespace, after.as_deref()).await?;
                    let Some((last, _)) = page.last() else { break };
                    after = Some(last.clone());
                    let mut trail = Vec::new();
                    let outcome = self.0.rewrap_page(&tenant, namespace, page, &mut report, &mut trail, progress).await;
                    // What was opened before a failure is written down too.
                    self.0.audit(trail).await;
                    outcome?;
                }
            }
            self.reseal_elsewhere(&tenant, &mut report).await?;
            progress(report.rewrapped + report.already);
        }
        report.left = self.left().await?;
        Ok(report)
    }

    /// How many envelopes each key holds that is not the current one.
    async fn left(&self) -> Result<BTreeMap<String, u64>> {
        let mut left: BTreeMap<String, u64> = self.known_keys().await?.into_iter().map(|id| (id, 0)).collect();
        for tenant in self.tenants().await? {
            let mut count = |id: &str| *left.entry(id.to_owned()).or_default() += 1;
            self.each(&tenant, CREDENTIALS, |_, entry| {
                if let Some(record) = Row::read(&entry).record {
                    record.envelopes().filter_map(|(_, kept)| kept.key_id()).for_each(&mut count);
                }
            })
            .await?;
            self.each(&tenant, TOKENS, |_, entry| {
                if let Some(id) = tokens::key_id(&entry.value) {
                    count(&id);
                }
            })
            .await?;
            self.each(&tenant, PAYLOAD_KEYS, |_, entry| {
                if let Some(id) = KeyRow::read(&entry).and_then(|row| row.key_id()) {
                    count(&id);
                }
            })
            .await?;
            self.held_elsewhere(&tenant).await?.iter().for_each(|id| count(id));
        }
        left.remove(self.0.keys.current().id());
        Ok(left)
    }
}

impl Inner {
    async fn rewrap_page(
        &self,
        tenant: &TenantId,
        namespace: &str,
        page: Vec<(String, Entry)>,
        report: &mut RotationReport,
        trail: &mut Vec<AuditRecord>,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<()> {
        for (name, entry) in page {
            let started = self.wall();
            let done = self.rewrap(tenant, namespace, &name, entry).await?;
            if done.rewrapped > 0 || !done.unreadable.is_empty() {
                let fault = done.unreadable.first().map(|(_, why)| Fault::Unreadable(why.clone()));
                trail.push(self.errand(tenant, &subject(namespace, &name), ERRAND, fault.as_ref(), started));
            }
            metrics::counter!(REWRAPPED).increment(done.rewrapped);
            report.rewrapped += done.rewrapped;
            report.already += done.already;
            let name = if namespace == PAYLOAD_KEYS { SUBJECT } else { &name };
            report.unreadable.extend(done.unreadable.iter().map(|(field, why)| lost(tenant, name, field, why)));
            progress(report.rewrapped + report.already);
        }
        Ok(())
    }

    async fn rewrap(&self, tenant: &TenantId, namespace: &str, name: &str, entry: Entry) -> Result<Done> {
        if namespace != TOKENS {
            return self.rewrap_row(tenant, namespace, name, entry).await;
        }
        if tokens::key_id(&entry.value).as_deref() == Some(self.keys.current().id()) {
            return Ok(Done { already: 1, ..Done::default() });
        }
        // A renewal in flight must find the row as it left it, or the tokens it gets could not be saved. So nobody renews meanwhile.
        let leases = Namespace::new(tenant, LEASES);
        for _ in 0..LEASE_TRIES {
            let PutOutcome::Stored(fence) = self.store.put(leases, name, Bytes::new(), Condition::Absent, Some(LEASE)).await? else {
                tokio::time::sleep(LEASE_PAUSE).await;
                continue;
            };
            let done = match self.store.get(Namespace::new(tenant, namespace), name).await {
                Ok(Some(entry)) => self.rewrap_row(tenant, namespace, name, entry).await,
                Ok(None) => Ok(Done::default()),
                Err(error) => Err(error),
            };
            self.store.delete(leases, name, Condition::Is(fence)).await?;
            return done;
        }
        // Somebody renews it all the time. It stays under its key, and the report counts it.
        tracing::warn!(%tenant, credential = name, "tokens were not sealed anew: they are being renewed all the time");
        Ok(Done::default())
    }

    async fn rewrap_row(&self, tenant: &TenantId, namespace: &str, name: &str, mut entry: Entry) -> Result<Done> {
        for _ in 0..TRIES {
            let mut done = Done::default();
            let anew = match namespace {
                TOKENS => self.rewrapped_tokens(tenant, name, &entry, &mut done).await?,
                PAYLOAD_KEYS => self.rewrapped_data_key(tenant, name, &entry, &mut done).await?,
                _ => self.rewrapped_record(tenant, name, &entry, &mut done).await?,
            };
            let Some(anew) = anew else { return Ok(done) };
            let place = Namespace::new(tenant, namespace);
            if self.store.put(place, name, anew, Condition::Is(entry.version), None).await?.is_stored() {
                return Ok(done);
            }
            // Somebody changed it meanwhile: what they wrote is looked at again.
            match self.store.get(place, name).await? {
                Some(newer) => entry = newer,
                None => return Ok(Done::default()),
            }
        }
        Err(contended(name))
    }

    /// The record with every envelope that can be opened under the current key. `None`: nothing to change.
    async fn rewrapped_record(&self, tenant: &TenantId, name: &str, entry: &Entry, done: &mut Done) -> Result<Option<Bytes>> {
        let Some(mut record) = Row::read(entry).record else {
            done.unreadable.push(("*".into(), "its record is damaged or was written by a newer version".into()));
            return Ok(None);
        };
        record.prune(self.wall());
        for (field, versions) in &mut record.fields {
            for kept in versions {
                if kept.key_id() == Some(self.keys.current().id()) {
                    done.already += 1;
                    continue;
                }
                let target = Target { tenant, credential: name, field, version: kept.version };
                match self.keys.open(target, &kept.sealed).await {
                    Ok(plain) => {
                        kept.sealed = self.keys.seal(target, &plain).await?;
                        done.rewrapped += 1;
                    }
                    Err(Fault::Unreadable(why)) => done.unreadable.push((field.clone(), why)),
                    Err(Fault::Away(error)) => return Err(error),
                }
            }
        }
        if done.rewrapped == 0 { Ok(None) } else { record.to_bytes().map(Some) }
    }

    /// The row of a data key of payloads under the current key. What is sealed under the data key stays as it is.
    async fn rewrapped_data_key(&self, tenant: &TenantId, name: &str, entry: &Entry, done: &mut Done) -> Result<Option<Bytes>> {
        let Some(row) = KeyRow::read(entry) else {
            done.unreadable.push((name.to_owned(), DAMAGED_KEY.into()));
            return Ok(None);
        };
        if row.key_id().as_deref() == Some(self.keys.current().id()) {
            done.already += 1;
            return Ok(None);
        }
        let target = row.target(tenant, name);
        match self.keys.open(target, &row.sealed()).await {
            Ok(plain) => {
                let sealed = self.keys.seal(target, &plain).await?;
                done.rewrapped += 1;
                row.resealed(&sealed).to_bytes().map(Some)
            }
            Err(Fault::Unreadable(why)) => {
                done.unreadable.push((name.to_owned(), why));
                Ok(None)
            }
            Err(Fault::Away(error)) => Err(error),
        }
    }

    async fn rewrapped_tokens(&self, tenant: &TenantId, name: &str, entry: &Entry, done: &mut Done) -> Result<Option<Bytes>> {
        if tokens::key_id(&entry.value).as_deref() == Some(self.keys.current().id()) {
            done.already += 1;
            return Ok(None);
        }
        match self.open_tokens(tenant, name, &entry.value).await {
            Ok(record) => {
                done.rewrapped += 1;
                self.seal_tokens(tenant, name, &record).await.map(Some)
            }
            Err(Fault::Unreadable(why)) => {
                done.unreadable.push((tokens::FIELD.into(), why));
                Ok(None)
            }
            Err(Fault::Away(error)) => Err(error),
        }
    }
}
