//! Opening a credential: every field of what is accepted now, once for all who wait, audited before anybody gets it.

use std::{sync::Arc, time::Duration};

use connector_core::{Result, TenantId, credential::Credential, credential::CredentialQuery};
use secrecy::SecretString;
use zeroize::Zeroizing;

use super::{
    Inner,
    read::{permitted, unreadable},
};
use crate::{
    cache::{Opened, Slot},
    keys::{Fault, Target},
    record::{Kept, Record, Row},
};

/// After a key service did not answer, what is still good is handed out for so long before it is asked again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

impl Inner {
    /// Opens the credential of a row and keeps it.
    pub(super) async fn open(&self, query: &CredentialQuery<'_>, slot: &Slot, mut row: Arc<Row>) -> Result<Arc<Credential>> {
        let _alone = slot.gate.lock().await;
        // Whoever had the gate before may have opened it already, or seen a newer row.
        if let Some(newer) = slot.state().row().filter(|known| known.version > row.version).cloned() {
            row = newer;
        }
        let started = self.wall();
        let (version, now) = (permitted(query, &row)?.version, self.clock.now());
        let kept = {
            let state = slot.state();
            let rests = state.retry_at.is_some_and(|at| now < at);
            state
                .opened
                .clone()
                .filter(|opened| opened.version == version && now.saturating_duration_since(opened.at) < self.keep_for)
                .map(|o| (o, rests))
        };
        if let Some((opened, rests)) = &kept
            && (*rests || self.is_fresh(permitted(query, &row)?, opened.at, now))
        {
            return Ok(opened.at(started));
        }
        let mut outcome = self.open_record(query.tenant, query.name, permitted(query, &row)?).await;
        if matches!(outcome, Err(Fault::Unreadable(_)))
            && let Some((_, newer)) = self.row(query.tenant, query.name).await?
            && newer.version != row.version
        {
            // It was written anew while it was read, perhaps under another master key.
            row = newer;
            outcome = self.open_record(query.tenant, query.name, permitted(query, &row)?).await;
        }
        self.audit_open(query, outcome.as_ref().err(), started).await;
        let mut state = slot.state();
        state.retry_at = None;
        state.unreadable = None;
        match (outcome, kept) {
            (Ok(opened), _) => {
                // A revocation or rotation in the meantime has put another row there; then this copy serves this call only.
                let is_current = |row: &&Arc<Row>| row.record.as_ref().is_some_and(|record| record.version == opened.version && !record.is_revoked());
                if state.row().filter(is_current).is_some() {
                    state.opened = Some(opened.clone());
                }
                drop(state);
                self.purge(now);
                Ok(opened.at(started))
            }
            (Err(fault), Some((opened, _))) if fault.is_passing() => {
                state.retry_at = Some(now + RETRY_AFTER);
                tracing::warn!(error = %fault.about("it"), "a credential is used from memory while its master key cannot be reached");
                Ok(opened.at(started))
            }
            (Err(Fault::Unreadable(why)), _) => {
                state.unreadable = Some(row.version);
                Err(unreadable(query.name, &why))
            }
            (Err(Fault::Away(error)), _) => Err(error),
        }
    }

    async fn open_record(&self, tenant: &TenantId, name: &str, record: &Record) -> Result<Opened, Fault> {
        let at = self.clock.now();
        let previous = record.previous_at(self.wall());
        let alone = self.open_version(tenant, name, record, record.version).await?;
        let before = match previous {
            Some(previous) => Some(Arc::new(self.open_version(tenant, name, record, previous.version).await?)),
            None => None,
        };
        let both = before.map(|before| Arc::new(alone.clone().with_previous(Some(before))));
        let alone = Arc::new(alone);
        let until = previous.map(|previous| previous.until);
        Ok(Opened { version: record.version, at, until, both: both.unwrap_or_else(|| alone.clone()), alone })
    }

    async fn open_version(&self, tenant: &TenantId, name: &str, record: &Record, version: u64) -> Result<Credential, Fault> {
        let mut fields = Vec::new();
        for (field, kept) in record.fields_at(version) {
            fields.push((field, self.open_field(tenant, name, field, kept).await?));
        }
        let mut credential = Credential::new(fields).with_scheme(record.scheme.clone());
        credential.version = version;
        Ok(credential)
    }

    async fn open_field(&self, tenant: &TenantId, name: &str, field: &str, kept: &Kept) -> Result<SecretString, Fault> {
        let target = Target { tenant, credential: name, field, version: kept.version };
        let plain = self.keys.open(target, &kept.sealed).await.map_err(|fault| match fault {
            Fault::Unreadable(why) => Fault::Unreadable(format!("field `{field}`: {why}")),
            away => away,
        })?;
        text(&plain).ok_or_else(|| Fault::Unreadable(format!("field `{field}`: it is not text")))
    }
}

/// A secret from opened bytes. Its memory is allocated once in the right size: growing or shrinking would leave a copy behind.
pub(super) fn text(plain: &Zeroizing<Vec<u8>>) -> Option<SecretString> {
    std::str::from_utf8(plain).ok().map(|text| SecretString::from(text.to_owned()))
}
