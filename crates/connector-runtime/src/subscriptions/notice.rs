//! What a vendor's event said about a subscription itself, kept until the hub that holds the lease has acted on it. Written by whichever hub
//! handled the event, so it has a row of its own and never competes with the leader's.

use connector_core::{
    Result, TenantId,
    spec::LifecycleMeaning,
    state::{Condition, Namespace},
};
use serde::{Deserialize, Serialize};

use super::row::{Held, encode};
use crate::runtime::Runtime;

const NAMESPACE: &str = "subscriptions.notices";
/// Notices read at once.
const PAGE: usize = 100;

#[derive(Debug, Serialize, Deserialize)]
struct Notice {
    meaning: LifecycleMeaning,
    /// The vendor's id of the subscription it is about.
    vendor_id: String,
}

impl Runtime {
    /// Keeps a notice and wakes whoever acts on it in this process.
    pub(super) async fn keep_notice(&self, tenant: &TenantId, row: &str, meaning: LifecycleMeaning, vendor_id: String, seq: u64) -> Result<()> {
        let notice = encode(&Notice { meaning, vendor_id })?;
        self.0.store.put(Namespace::new(tenant, NAMESPACE), &format!("{row}/{seq:020}"), notice, Condition::Any, None).await?;
        self.0.subscriptions.wake.notify_one();
        Ok(())
    }

    /// Applies the notices of a row. Gives the keys to forget once the row is saved.
    pub(super) async fn apply_notices(&self, held: &mut Held) -> Result<Vec<String>> {
        let prefix = format!("{}/", held.row.id);
        let mut keys = Vec::new();
        for (key, entry) in self.0.store.scan(Namespace::new(&held.tenant, NAMESPACE), &prefix, None, PAGE).await? {
            keys.push(key);
            let Ok(notice) = serde_json::from_slice::<Notice>(&entry.value) else {
                tracing::warn!(subscription = held.row.id, "a notice about a subscription cannot be read; its stream of changes is read instead");
                held.row.gap.get_or_insert_with(|| "unreadable_notice".to_owned());
                continue;
            };
            let present = held.row.vendor.as_ref().is_some_and(|granted| granted.id_text() == notice.vendor_id);
            match notice.meaning {
                LifecycleMeaning::Reauthorize => held.row.reauthorize |= present,
                LifecycleMeaning::Removed if present => held.row.retire("removed"),
                // About one that is over already: what it meant was done when it ended.
                LifecycleMeaning::Removed => {}
                LifecycleMeaning::Missed => {
                    held.row.gap.get_or_insert_with(|| "missed".to_owned());
                }
            }
        }
        Ok(keys)
    }

    pub(super) async fn forget_notices(&self, tenant: &TenantId, keys: &[String]) -> Result<()> {
        for key in keys {
            self.0.store.delete(Namespace::new(tenant, NAMESPACE), key, Condition::Any).await?;
        }
        Ok(())
    }
}
