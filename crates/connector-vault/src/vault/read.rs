//! Handing out credentials: who may, from what is in memory or from the store.

use std::sync::Arc;

use async_trait::async_trait;
use connector_core::{
    Error, ErrorKind, Result, TenantId,
    credential::{Credential, CredentialQuery, CredentialStore},
    redact::printable,
};

use super::{Inner, Vault};
use crate::record::{Record, Row};

#[async_trait]
impl CredentialStore for Vault {
    async fn get(&self, query: &CredentialQuery<'_>) -> Result<Arc<Credential>> {
        let inner = &*self.0;
        if let Some((manager, name)) = query.name.split_once(':') {
            return inner.external(query, manager, name).await;
        }
        let Some((slot, row)) = inner.recent_row(query.tenant, query.name).await? else { return Err(query.missing()) };
        let record = permitted(query, &row)?;
        let now = inner.clock.now();
        let opened = slot.state().opened.clone().filter(|opened| opened.version == record.version && inner.is_fresh(record, opened.at, now));
        if let Some(opened) = opened {
            return Ok(opened.at(inner.wall()));
        }
        inner.open(query, &slot, row).await
    }

    /// A revoked credential does not exist. One of an external manager does if the manager is configured: asking it would open it.
    async fn exists(&self, tenant: &TenantId, name: &str) -> Result<bool> {
        if let Some((manager, _)) = name.split_once(':') {
            return Ok(self.0.managers.contains_key(manager));
        }
        let found = self.0.recent_row(tenant, name).await?;
        Ok(found.is_some_and(|(_, row)| row.record.as_ref().is_none_or(|record| !record.is_revoked())))
    }
}

/// The record, if whoever asks may use it.
pub(super) fn permitted<'a>(query: &CredentialQuery<'_>, row: &'a Row) -> Result<&'a Record> {
    let Some(record) = &row.record else {
        return Err(unreadable(query.name, "its record is damaged or was written by a newer version"));
    };
    if !record.is_granted(query.workspace) {
        return Err(query.missing());
    }
    if record.is_revoked() {
        let message = format!("credential `{}` was revoked; set it anew or connect again", printable(query.name, 80));
        return Err(Error::new(ErrorKind::AuthExpired, message));
    }
    Ok(record)
}

/// What to say when a credential does not open. The others do.
pub(super) fn unreadable(name: &str, why: &str) -> Error {
    Error::config(format!("credential `{}` is unreadable: {why}; set it again, other credentials are not affected", printable(name, 80)))
}

impl Inner {
    /// How long what was opened is used without trying to open it again. What needs a remote key is opened anew a little before its time, so
    /// that a key service that is away for a moment is not noticed.
    pub(super) fn is_fresh(&self, record: &Record, at: connector_core::clock::Instant, now: connector_core::clock::Instant) -> bool {
        let age = now.saturating_duration_since(at);
        let remote =
            || record.envelopes().any(|(_, kept)| kept.key_id().and_then(|id| self.keys.find(id)).is_some_and(crate::key::MasterKey::is_remote));
        age < self.keep_for && (age < self.keep_for * 4 / 5 || !remote())
    }
}
