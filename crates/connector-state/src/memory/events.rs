//! The event log in memory.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    context::TenantId,
    error::Result,
    state::{Appended, EventFilter, EventLog, JobId, NewEvent, StoredEvent},
};

use super::{MemoryState, jobs::Jobs};
use crate::rules::{again, event_job, limit_or_default, payload_hash};

#[derive(Debug, Default)]
pub(super) struct Events {
    last: u64,
    rows: BTreeMap<u64, Row>,
    ids: HashMap<(TenantId, String, String), u64>,
}

#[derive(Debug)]
struct Row {
    event: StoredEvent,
    hash: [u8; 32],
}

impl Events {
    fn append(&mut self, event: NewEvent, jobs: &mut Jobs, now: u64) -> Appended {
        let id = (event.tenant.clone(), event.connection.to_string(), event.event_id.clone());
        let hash = payload_hash(&event);
        if let Some(row) = self.ids.get(&id).and_then(|seq| self.rows.get_mut(seq)) {
            let seq = row.event.seq;
            if row.hash != hash {
                return Appended::Mismatch { seq };
            }
            row.event.duplicates += 1;
            return Appended::Duplicate { seq };
        }
        self.last += 1;
        let seq = self.last;
        let job = jobs.add(event_job(&event, seq), Some(seq), now).id();
        let NewEvent { tenant, workspace, connector, connection, event_id, event_type, order_key, flags, payload, digest: _, received_at } = event;
        let event = StoredEvent {
            seq,
            tenant,
            workspace,
            connector,
            connection,
            event_id,
            event_type,
            order_key,
            flags,
            payload,
            received_at,
            duplicates: 0,
        };
        self.ids.insert(id, seq);
        self.rows.insert(seq, Row { event, hash });
        Appended::New { seq, job }
    }

    fn of(&self, tenant: &TenantId, seq: u64) -> Option<&StoredEvent> {
        self.rows.get(&seq).map(|row| &row.event).filter(|event| event.tenant == *tenant)
    }
}

#[async_trait]
impl EventLog for MemoryState {
    async fn append(&self, events: Vec<NewEvent>) -> Result<Vec<Appended>> {
        let now = self.now();
        let tables = &mut *self.tables();
        Ok(events.into_iter().map(|event| tables.events.append(event, &mut tables.jobs, now)).collect())
    }

    async fn event(&self, tenant: &TenantId, seq: u64) -> Result<Option<StoredEvent>> {
        Ok(self.tables().events.of(tenant, seq).cloned())
    }

    async fn events(&self, tenant: &TenantId, filter: EventFilter) -> Result<Vec<StoredEvent>> {
        let tables = self.tables();
        let from = filter.after.map_or(0, |after| after.saturating_add(1));
        Ok(tables
            .events
            .rows
            .range(from..)
            .map(|(_, row)| &row.event)
            .filter(|event| event.tenant == *tenant)
            .filter(|event| filter.connector.as_deref().is_none_or(|connector| connector == &*event.connector))
            .filter(|event| filter.event_type.as_deref().is_none_or(|kind| kind == &*event.event_type))
            .take(limit_or_default(filter.limit))
            .map(|event| if filter.heads { StoredEvent { payload: Bytes::new(), ..event.clone() } } else { event.clone() })
            .collect())
    }

    async fn replay(&self, tenant: &TenantId, seq: u64) -> Result<Option<JobId>> {
        let now = self.now();
        let tables = &mut *self.tables();
        let Some(event) = tables.events.of(tenant, seq) else { return Ok(None) };
        let job = event_job(&again(event.clone()), seq);
        let id = tables.jobs.add(job, Some(seq), now).id();
        tables.jobs.revive(tenant, id, now);
        Ok(Some(id))
    }

    async fn prune_events(&self, before: u64) -> Result<u64> {
        let tables = &mut *self.tables();
        let busy = tables.jobs.busy_events();
        let old: Vec<u64> = tables
            .events
            .rows
            .values()
            .filter(|row| row.event.received_at < before && !busy.contains(&row.event.seq))
            .map(|row| row.event.seq)
            .collect();
        for seq in &old {
            if let Some(Row { event, .. }) = tables.events.rows.remove(seq) {
                tables.events.ids.remove(&(event.tenant, event.connector.to_string(), event.event_id));
            }
        }
        tables.jobs.prune(before, &old);
        Ok(old.len() as u64)
    }
}
