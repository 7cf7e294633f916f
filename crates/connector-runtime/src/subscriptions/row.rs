//! What the store remembers of one subscription. Every write says which version it replaces, so a hub that lost its lease writes nothing.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use connector_core::{
    Error, ErrorKind, Result, TenantId,
    state::{Condition, Entry, Namespace, PutOutcome},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::lease::Lease;
use crate::runtime::Runtime;

/// The part of the store.
pub(super) const NAMESPACE: &str = "subscriptions";
/// Ids of the vendor's that are over and must not be taken for ours again.
const MOST_FORMER: usize = 16;

/// Where a subscription stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubscriptionState {
    /// Wanted, not made yet.
    #[default]
    Pending,
    /// The vendor has it.
    Active,
    /// The vendor ended it, or it ran out; it is being made again.
    Lost,
    /// A person made it in the vendor's console; the hub watches that events come.
    Watching,
    /// It is being taken down.
    Ending,
}

/// Who wants it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// hub.yaml.
    #[default]
    Config,
    /// Somebody, over HTTP.
    Api,
}

/// What was done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Made at the vendor.
    pub created: u64,
    /// Found at the vendor and taken over.
    pub adopted: u64,
    /// Renewed.
    pub renewed: u64,
    /// Second ones of the same that were ended.
    pub duplicates: u64,
    /// Gaps that were closed.
    pub gaps: u64,
    /// Changes that no notification told of.
    pub found: u64,
    /// Readings of the whole source.
    pub resyncs: u64,
}

/// A secret of a subscription at rest.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct KeptSecret {
    /// Sealed by the vault, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sealed: Option<String>,
    /// As it is, where there is no vault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) plain: Option<String>,
    /// Unix milliseconds after which it proves nothing. The current one has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) until: Option<u64>,
}

impl fmt::Debug for KeptSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptSecret").field("sealed", &self.sealed.is_some()).field("until", &self.until).finish_non_exhaustive()
    }
}

/// What the vendor granted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Granted {
    /// The vendor's id, as its JSON has it.
    pub(super) id: Value,
    /// Unix milliseconds.
    pub(super) granted_at: u64,
    /// Unix milliseconds; `None`: it does not end.
    pub(super) expires_at: Option<u64>,
    /// More of the reply that later calls need.
    #[serde(default)]
    pub(super) kept: BTreeMap<String, Value>,
}

impl Granted {
    pub(super) fn id_text(&self) -> String {
        text(&self.id)
    }
}

/// A scalar as text.
pub(super) fn text(value: &Value) -> String {
    connector_manifest::template::scalar(value).map(std::borrow::Cow::into_owned).unwrap_or_default()
}

/// One subscription.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) connection: String,
    pub(super) connector: String,
    pub(super) kind: String,
    pub(super) workspace: String,
    pub(super) params: Map<String, Value>,
    pub(super) origin: Origin,
    /// Milliseconds between two readings of the stream; 0: only when there is a gap.
    pub(super) every: u64,
    pub(super) state: SubscriptionState,
    pub(super) created_at: u64,
    pub(super) resource: String,
    pub(super) vendor: Option<Granted>,
    /// The vendor's ids that are over, the last first.
    pub(super) former: Vec<String>,
    /// The current one last.
    pub(super) secrets: Vec<KeptSecret>,
    /// A call that makes one was begun and nobody knows whether it was carried out. One that shows up has the current secret.
    pub(super) creating: bool,
    /// The end that was asked for, while a person decides about exactly that call.
    pub(super) asked: Option<u64>,
    pub(super) fails: u32,
    pub(super) retry_at: u64,
    pub(super) last_error: Option<String>,
    pub(super) reauthorize: bool,
    /// Why changes may have been missed since `cursor`.
    pub(super) gap: Option<String>,
    pub(super) cursor: Option<String>,
    /// When the reading that gave the cursor began.
    pub(super) caught_up_at: u64,
    pub(super) resynced_at: u64,
    pub(super) catch_up_retry_at: u64,
    pub(super) quiet_told: u64,
    /// The lease under which it was written last.
    pub(super) epoch: u64,
    pub(super) counts: Counts,
}

impl Row {
    /// The vendor's subscription is over. Whatever it would have told since the last good cursor has to be looked for.
    pub(super) fn retire(&mut self, why: &str) {
        if let Some(granted) = self.vendor.take() {
            let id = granted.id_text();
            self.former.retain(|known| *known != id);
            self.former.insert(0, id);
            self.former.truncate(MOST_FORMER);
            self.state = SubscriptionState::Lost;
        }
        self.gap.get_or_insert_with(|| why.to_owned());
        (self.creating, self.asked) = (false, None);
    }

    /// The vendor's ids, the present one first.
    pub(super) fn vendor_ids(&self) -> Vec<String> {
        self.vendor.iter().map(Granted::id_text).chain(self.former.iter().cloned()).collect()
    }
}

/// A row and the version it was read at.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) tenant: TenantId,
    pub(super) row: Row,
    pub(super) version: u64,
}

pub(super) fn decode(entry: &Entry) -> Result<Row> {
    serde_json::from_slice(&entry.value).map_err(|error| Error::internal("a subscription's row cannot be read").with_source(error))
}

pub(super) fn encode(row: &impl Serialize) -> Result<Bytes> {
    serde_json::to_vec(row).map(Bytes::from).map_err(|error| Error::internal("a subscription's row cannot be written").with_source(error))
}

impl Runtime {
    pub(super) async fn subscription_row(&self, tenant: &TenantId, id: &str) -> Result<Option<Held>> {
        let found = self.0.store.get(Namespace::new(tenant, NAMESPACE), id).await?;
        found.map(|entry| Ok(Held { tenant: tenant.clone(), row: decode(&entry)?, version: entry.version })).transpose()
    }

    /// All rows of a tenant whose id starts so.
    pub(super) async fn subscription_rows(&self, tenant: &TenantId, prefix: &str) -> Result<Vec<Held>> {
        const PAGE: usize = 200;
        let (mut found, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = self.0.store.scan(Namespace::new(tenant, NAMESPACE), prefix, after.as_deref(), PAGE).await?;
            let full = page.len() == PAGE;
            after = page.last().map(|(key, _)| key.clone());
            for (_, entry) in page {
                found.push(Held { tenant: tenant.clone(), row: decode(&entry)?, version: entry.version });
            }
            if !full {
                return Ok(found);
            }
        }
    }

    /// Writes a row that is still as it was read. Under a lease it carries the lease's number, so that whoever held an older one is refused.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if somebody wrote it meanwhile.
    pub(super) async fn save_subscription(&self, held: &mut Held, lease: Option<&Lease>) -> Result<()> {
        if let Some(lease) = lease {
            held.row.epoch = lease.epoch;
        }
        let condition = if held.version == 0 { Condition::Absent } else { Condition::Is(held.version) };
        let namespace = Namespace::new(&held.tenant, NAMESPACE);
        match self.0.store.put(namespace, &held.row.id, encode(&held.row)?, condition, None).await? {
            PutOutcome::Stored(version) => {
                held.version = version;
                self.0.subscriptions.forget(&held.tenant, &held.row.connection);
                Ok(())
            }
            PutOutcome::Refused(_) => {
                Err(Error::new(ErrorKind::Conflict, format!("subscription `{}` was changed by somebody else meanwhile", held.row.id)))
            }
        }
    }
}
