//! The store as the runtime uses it: what vendors told us, what is to be told them and what they answered is sealed on its way in and opened on
//! its way out.
//!
//! Owns what is sealed and what it is bound to. Refuses to give out a payload that was changed or stood somewhere else; a listing shows that
//! there is one and says why it is empty. What routing, order and de-duplication need stays readable: tenants, workspaces, connectors,
//! connections, ids, kinds, keys, states, times, errors. So do the audit trail, which holds digests only, and the vault's own records,
//! which are sealed already.

mod events;
mod jobs;
mod kv;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    Error, Result, TenantId,
    clock::Clock,
    state::{AuditFilter, AuditLog, AuditRecord, ChainReport, Store, StoredAudit, StoredEvent},
};
use connector_vault::{
    Vault,
    payload::{PayloadSealer, Unopened},
};
use connector_webhook::dispatch::EventHandler;

/// The oddity of an event whose payload does not open.
pub(crate) const UNREADABLE: &str = "payload_unreadable";

/// A store that seals payloads.
#[derive(Debug)]
pub(crate) struct SealedStore {
    inner: Arc<dyn Store>,
    /// `None`: there is no vault, so nothing is sealed and nothing that was sealed opens.
    sealer: Option<PayloadSealer>,
    /// Whether what is written is sealed. What was sealed is opened in any case.
    seals: bool,
    clock: Arc<dyn Clock>,
}

impl SealedStore {
    /// `clock` must be the store's. `seals`: what hub.yaml says under `seal_payloads`; nothing is sealed without a vault.
    pub(crate) fn over(inner: Arc<dyn Store>, vault: Option<Vault>, seals: bool, clock: Arc<dyn Clock>) -> Arc<dyn Store> {
        if vault.is_some() && !seals {
            tracing::warn!(
                "`seal_payloads: false`: events, queued calls, dead letters and kept replies are written to the state store in plain text"
            );
        }
        let sealer = vault.map(PayloadSealer::new);
        Arc::new(Self { inner, seals: seals && sealer.is_some(), sealer, clock })
    }

    /// The sealer, if what is written is sealed.
    fn sealing(&self) -> Option<&PayloadSealer> {
        self.sealer.as_ref().filter(|_| self.seals)
    }

    async fn seal(&self, tenant: &TenantId, context: &[&[u8]], plain: Bytes) -> Result<Bytes> {
        match self.sealing() {
            Some(sealer) => sealer.seal(tenant, context, &plain).await,
            None => Ok(plain),
        }
    }

    async fn open(&self, tenant: &TenantId, context: &[&[u8]], bytes: Bytes) -> Result<Bytes, Unopened> {
        match &self.sealer {
            Some(sealer) => sealer.open(tenant, context, bytes).await,
            None if PayloadSealer::is_sealed(&bytes) => {
                Err(Unopened::Away(Error::config("it is sealed, and this program was given no vault; give it the master key")))
            }
            None => Ok(bytes),
        }
    }
}

/// What to say about a payload that does not open.
fn why(unopened: &Unopened) -> String {
    match unopened {
        Unopened::Lost(why) => format!("its payload cannot be opened: {why}"),
        Unopened::Away(error) => format!("its payload cannot be opened now: {error}"),
    }
}

#[async_trait]
impl AuditLog for SealedStore {
    async fn audit(&self, records: Vec<AuditRecord>) -> Result<()> {
        self.inner.audit(records).await
    }

    async fn audit_tail(&self, tenant: &TenantId, filter: AuditFilter) -> Result<Vec<StoredAudit>> {
        self.inner.audit_tail(tenant, filter).await
    }

    async fn audit_verify(&self, tenant: &TenantId) -> Result<ChainReport> {
        self.inner.audit_verify(tenant).await
    }
}

/// Handles events whose payload could be opened. The others become dead letters at once: nobody can work on them, and trying again does not help.
#[derive(Debug)]
pub(crate) struct Readable(pub(crate) Arc<dyn EventHandler>);

#[async_trait]
impl EventHandler for Readable {
    async fn handle(&self, event: &StoredEvent, attempt: u32) -> Result<()> {
        if event.payload.is_empty() && event.flags.iter().any(|flag| flag == UNREADABLE) {
            let message = "the payload of the event cannot be opened: it was changed or moved, or its data key is gone (the log says which); look at \
                           `vault verify`, then replay the event or discard it";
            return Err(Error::config(message).with_context("seq", event.seq.to_string()));
        }
        self.0.handle(event, attempt).await
    }
}
