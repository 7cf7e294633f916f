//! What a stored event means for subscriptions, before the program's handler sees it: signs of life, notices about the subscription itself, and
//! whether its change was told already.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use connector_core::{
    Error, ErrorKind, Result, TenantId,
    clock::Instant,
    spec::SubscriptionSpec,
    state::{Condition, Namespace, StoredEvent},
};
use connector_webhook::dispatch::EventHandler;
use serde_json::Value;

use super::{
    State,
    catch_up::{AFTER, FOUND},
    fill,
    row::Row,
    seen::{Change, Told, Verdict},
};
use crate::runtime::Runtime;

/// How long the rows of a connection are believed without looking again.
const KNOWN_FOR: Duration = Duration::from_secs(10);
/// How often a sign of life is written down.
const HEARD_EVERY: u64 = 60_000;
/// Where signs of life are kept.
pub(super) const HEARD: &str = "subscriptions.heard";
/// So often an event waits for the subscription it belongs to, which is being made at this moment.
const PATIENCE: u32 = 6;

/// The rows of one connection, as far as events need them.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    at: Instant,
    rows: Arc<Vec<Brief>>,
}

#[derive(Debug)]
struct Brief {
    id: String,
    kind: String,
    vendor_ids: Vec<String>,
    creating: bool,
}

impl From<Row> for Brief {
    fn from(row: Row) -> Self {
        Self { vendor_ids: row.vendor_ids(), creating: row.creating && row.vendor.is_none(), id: row.id, kind: row.kind }
    }
}

impl State {
    /// The rows of a connection changed.
    pub(super) fn forget(&self, tenant: &TenantId, connection: &str) {
        self.rows.remove(&(tenant.clone(), Arc::from(connection)));
    }
}

/// The runtime's handler with the subscriptions' own look at each event before it.
#[derive(Debug)]
pub(crate) struct Admitting {
    pub(crate) runtime: Runtime,
    pub(crate) inner: Arc<dyn EventHandler>,
}

#[async_trait]
impl EventHandler for Admitting {
    async fn handle(&self, event: &StoredEvent, attempt: u32) -> Result<()> {
        match self.runtime.admit(event, attempt).await? {
            Admitted::Tell => self.inner.handle(event, attempt).await,
            Admitted::TellAs(event_type) => self.inner.handle(&StoredEvent { event_type, ..event.clone() }, attempt).await,
            Admitted::Drop => {
                metrics::counter!("integration_subscription_told_already_total", "connector" => event.connector.to_string()).increment(1);
                Ok(())
            }
        }
    }
}

enum Admitted {
    Tell,
    TellAs(Arc<str>),
    Drop,
}

impl Runtime {
    async fn known_rows(&self, tenant: &TenantId, connection: &Arc<str>, fresh: bool) -> Result<Arc<Vec<Brief>>> {
        let key = (tenant.clone(), connection.clone());
        let now = self.0.shared.clock.now();
        if !fresh
            && let Some(known) = self.0.subscriptions.rows.get(&key)
            && now.saturating_duration_since(known.at) < KNOWN_FOR
        {
            return Ok(known.rows.clone());
        }
        let rows = self.subscription_rows(tenant, &format!("{connection}.")).await?;
        let rows: Arc<Vec<Brief>> = Arc::new(rows.into_iter().map(|held| held.row.into()).collect());
        self.0.subscriptions.rows.insert(key, Known { at: now, rows: rows.clone() });
        Ok(rows)
    }

    async fn admit(&self, event: &StoredEvent, attempt: u32) -> Result<Admitted> {
        let spec = self.0.shared.catalogue.load().registry.get(&event.connector).map(|connector| connector.spec().clone());
        // Most connectors have none, and then nothing is looked up.
        let Some(spec) = spec.filter(|spec| !spec.subscriptions.is_empty()) else { return Ok(Admitted::Tell) };
        let kinds = &spec.subscriptions;
        let rows = self.known_rows(&event.tenant, &event.connection, false).await?;
        if rows.is_empty() {
            return Ok(Admitted::Tell);
        }
        let Ok(payload) = serde_json::from_slice::<Value>(&event.payload) else { return Ok(Admitted::Tell) };
        let of = |row: &Brief| kinds.iter().find(|kind| *kind.name == *row.kind);
        for row in rows.iter().filter(|row| of(row).is_some_and(|kind| kind.by_hand)) {
            self.heard(&event.tenant, &row.id).await?;
        }
        let named = |rows: &[Brief]| -> Result<Option<(usize, String)>> {
            for (at, row) in rows.iter().enumerate() {
                let Some(path) = of(row).and_then(|kind| kind.events.as_ref()).map(|events| &events.subscription) else { continue };
                if let Some(id) = fill::select_text(path, &payload)?
                    && row.vendor_ids.contains(&id)
                {
                    return Ok(Some((at, id)));
                }
            }
            Ok(None)
        };
        let concerns = |row: &Brief| of(row).is_some_and(|kind| !kind.by_hand && change(kind, &event.event_type).is_some());
        let (rows, found) = match named(&rows)? {
            Some(found) => (rows, Some(found)),
            None if rows.iter().any(concerns) => {
                let rows = self.known_rows(&event.tenant, &event.connection, true).await?;
                let found = named(&rows)?;
                (rows, found)
            }
            None => (rows, None),
        };
        let Some((at, vendor_id)) = found else {
            if attempt < PATIENCE && rows.iter().any(|row| row.creating && concerns(row)) {
                return Err(Error::new(
                    ErrorKind::Transient,
                    "the subscription this event came over is being made at this moment; it is handled in a moment",
                ));
            }
            return Ok(Admitted::Tell);
        };
        let (row, Some(kind)) = (&rows[at], of(&rows[at])) else { return Ok(Admitted::Tell) };
        self.heard(&event.tenant, &row.id).await?;
        if let Some(meaning) = kind.lifecycle.get(&*event.event_type) {
            self.keep_notice(&event.tenant, &row.id, *meaning, vendor_id, event.seq).await?;
            return Ok(Admitted::Tell);
        }
        self.admit_change(event, row, kind, &payload).await
    }

    async fn admit_change(&self, event: &StoredEvent, row: &Brief, kind: &SubscriptionSpec, payload: &Value) -> Result<Admitted> {
        let (Some(events), Some(change)) = (&kind.events, change(kind, &event.event_type)) else { return Ok(Admitted::Tell) };
        // Without a stream nothing tells a change a second time under another id.
        let (Some(path), Some(_)) = (&events.key, &kind.catch_up) else { return Ok(Admitted::Tell) };
        let Some(key) = fill::select_text(path, payload)? else { return Ok(Admitted::Tell) };
        let version = events.version.as_deref().map(|path| fill::select_text(path, payload)).transpose()?.flatten();
        let found = event.flags.iter().any(|flag| flag == FOUND);
        let after = event.flags.iter().find_map(|flag| flag.strip_prefix(AFTER)?.parse().ok());
        let told = Told { change, version: version.as_deref(), seq: event.seq, found, after, now: self.wall_ms() };
        Ok(match self.claim_change(&event.tenant, &row.id, &key, told).await? {
            Verdict::Tell => Admitted::Tell,
            Verdict::Drop => Admitted::Drop,
            Verdict::TellAsUpdate => match &events.updated {
                Some(updated) => Admitted::TellAs(updated.as_str().into()),
                None => Admitted::Drop,
            },
        })
    }

    /// Something came over a subscription.
    async fn heard(&self, tenant: &TenantId, row: &str) -> Result<()> {
        let now = self.wall_ms();
        let key = (tenant.clone(), row.to_owned());
        if self.0.subscriptions.heard.get(&key).is_some_and(|last| now.saturating_sub(*last) < HEARD_EVERY) {
            return Ok(());
        }
        self.0.store.put(Namespace::new(tenant, HEARD), row, now.to_string().into(), Condition::Any, None).await?;
        self.0.subscriptions.heard.insert(key, now);
        Ok(())
    }

    /// When something came over a subscription last, to the minute. Unix milliseconds.
    pub(super) async fn last_heard(&self, tenant: &TenantId, row: &str) -> Result<Option<u64>> {
        let found = self.0.store.get(Namespace::new(tenant, HEARD), row).await?;
        Ok(found.and_then(|entry| std::str::from_utf8(&entry.value).ok()?.parse().ok()))
    }
}

/// Which change an event of this kind tells.
fn change(kind: &SubscriptionSpec, event_type: &str) -> Option<Change> {
    let events = kind.events.as_ref()?;
    let is = |name: &Option<String>| name.as_deref() == Some(event_type);
    match () {
        () if is(&events.created) => Some(Change::Created),
        () if is(&events.updated) => Some(Change::Updated),
        () if is(&events.deleted) => Some(Change::Deleted),
        () => None,
    }
}
