//! The event log: payloads sealed, bound to connection, event id and workspace, and told apart by a keyed digest.

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    Result, TenantId,
    state::{Appended, EventFilter, EventLog, JobFilter, JobId, NewEvent, StoredEvent},
};
use connector_vault::payload::{PayloadSealer, Unopened};

use super::{SealedStore, UNREADABLE, why};

/// What an event's payload is bound to, besides its tenant.
fn context<'a>(connection: &'a str, event_id: &'a str, workspace: &'a str) -> [&'a [u8]; 4] {
    [b"event", connection.as_bytes(), event_id.as_bytes(), workspace.as_bytes()]
}

impl SealedStore {
    /// Opens an event's payload in place.
    async fn open_event(&self, event: &mut StoredEvent) -> Result<(), Unopened> {
        let sealed = std::mem::take(&mut event.payload);
        event.payload = self.open(&event.tenant, &context(&event.connection, &event.event_id, event.workspace.as_str()), sealed).await?;
        Ok(())
    }

    /// Whether an event that the store has under another digest is the same after all: it was written before payloads were sealed, or while
    /// that was switched off, or the key of digests was lost.
    async fn is_same(&self, tenant: &TenantId, seq: u64, payload: &Bytes) -> bool {
        match self.event(tenant, seq).await {
            Ok(Some(event)) => event.payload == *payload && !event.flags.iter().any(|flag| flag == UNREADABLE),
            Ok(None) => false,
            Err(error) => {
                tracing::warn!(%tenant, seq, %error, "whether an event came again with another payload cannot be checked; it is taken for that");
                false
            }
        }
    }

    /// Forgets data keys that nothing needs any more, after events before `before` are gone. What goes wrong is tried again the next time.
    async fn forget_keys(&self, sealer: &PayloadSealer, before: u64) -> Result<()> {
        for tenant in sealer.vault().tenants().await? {
            let events = self.inner.events(&tenant, EventFilter { limit: 1, ..EventFilter::default() }).await?;
            let jobs = self.inner.jobs(&tenant, JobFilter { limit: 1, ..JobFilter::default() }).await?;
            // A dead letter is kept until somebody decides, however old it is.
            let oldest = events.iter().map(|event| event.received_at).chain(jobs.iter().map(|job| job.created_at)).min();
            let gone = sealer.forget_keys(&tenant, oldest.unwrap_or(before).min(before)).await?;
            if gone > 0 {
                tracing::info!(%tenant, gone, "data keys that no payload needs any more were removed");
            }
        }
        Ok(())
    }
}

#[async_trait]
impl EventLog for SealedStore {
    async fn append(&self, mut events: Vec<NewEvent>) -> Result<Vec<Appended>> {
        if self.sealer.is_none() {
            return self.inner.append(events).await;
        }
        let plain: Vec<(TenantId, Bytes)> = events.iter().map(|event| (event.tenant.clone(), event.payload.clone())).collect();
        if let Some(sealer) = self.sealing() {
            for event in &mut events {
                if event.digest.is_none() {
                    event.digest = Some(sealer.digest(&event.tenant, &event.payload).await?);
                }
                let context = context(&event.connection, &event.event_id, event.workspace.as_str());
                event.payload = sealer.seal(&event.tenant, &context, &event.payload).await?;
            }
        }
        let mut appended = self.inner.append(events).await?;
        for (outcome, (tenant, payload)) in appended.iter_mut().zip(&plain) {
            if let Appended::Mismatch { seq } = *outcome
                && self.is_same(tenant, seq, payload).await
            {
                *outcome = Appended::Duplicate { seq };
            }
        }
        Ok(appended)
    }

    async fn event(&self, tenant: &TenantId, seq: u64) -> Result<Option<StoredEvent>> {
        let Some(mut event) = self.inner.event(tenant, seq).await? else { return Ok(None) };
        match self.open_event(&mut event).await {
            Ok(()) => {}
            Err(lost @ Unopened::Lost(_)) => {
                tracing::error!(%tenant, seq, why = why(&lost), "an event cannot be read");
                event.flags.push(UNREADABLE.to_owned());
            }
            Err(away) => return Err(away.into()),
        }
        Ok(Some(event))
    }

    async fn events(&self, tenant: &TenantId, filter: EventFilter) -> Result<Vec<StoredEvent>> {
        let heads = filter.heads;
        let mut events = self.inner.events(tenant, filter).await?;
        for event in events.iter_mut().filter(|_| !heads) {
            if let Err(unopened) = self.open_event(event).await {
                tracing::warn!(%tenant, seq = event.seq, why = why(&unopened), "an event is listed without its payload");
                event.flags.push(UNREADABLE.to_owned());
            }
        }
        Ok(events)
    }

    async fn replay(&self, tenant: &TenantId, seq: u64) -> Result<Option<JobId>> {
        self.inner.replay(tenant, seq).await
    }

    async fn prune_events(&self, before: u64) -> Result<u64> {
        let pruned = self.inner.prune_events(before).await?;
        if let Some(sealer) = &self.sealer
            && let Err(error) = self.forget_keys(sealer, before).await
        {
            tracing::warn!(%error, "data keys that no payload needs any more could not be removed; the next time they are");
        }
        Ok(pruned)
    }
}
