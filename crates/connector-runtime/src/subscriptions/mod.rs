//! Vendors' subscriptions that never lapse: made, adopted, renewed at half of their life, made again when a vendor drops them, and every gap
//! closed by the stream of changes.
//!
//! One hub of a fleet at a time holds the lease and works; the rows it writes are refused if another one took over. What a subscription needs
//! to know lies in the store (namespaces `subscriptions*`), never in this process alone. Every call goes the governed way, by the actor
//! `system`. Refuses to guess: a subscription whose secret this hub does not hold is made anew, not trusted.

mod admit;
mod catch_up;
mod desired;
mod ensure;
mod fill;
mod lease;
mod notice;
mod row;
mod secret;
mod seen;
mod tend;
mod vendor;
mod view;

use std::{sync::Arc, time::Duration};

use connector_core::{Error, ErrorKind, Result, TenantId, clock::unix_millis, spec::SubscriptionSpec};
use dashmap::DashMap;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::Notify;

pub(crate) use admit::Admitting;
pub use row::{Counts, Origin, SubscriptionState};
pub use tend::SubscriptionsTended;
pub(crate) use tend::run;
pub use view::SubscriptionView;

use crate::runtime::Runtime;

/// The type of the event that says that a vendor ended a subscription, or that it ran out. Told once for each subscription of the vendor's.
pub const SUBSCRIPTION_LOST: &str = "hub.subscription_lost";
/// The type of the event that says that nothing came over a subscription that a person made, for longer than its kind allows.
pub const SUBSCRIPTION_QUIET: &str = "hub.subscription_quiet";

/// How often a stream of changes is read even if nothing says that there is a gap: a vendor may drop a notification and not tell.
pub const CATCH_UP_EVERY: Duration = Duration::from_secs(3_600);
/// A source is read from its beginning at most so often.
pub const RESYNC_EVERY: Duration = Duration::from_secs(15 * 60);

/// One subscription that is wanted: an entry of `subscriptions` in hub.yaml.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubscriptionConfig {
    /// The connection it is made over.
    pub connection: String,
    /// The kind, as the connector's manifest names it under `subscriptions` (`messages`).
    pub kind: String,
    /// The workspace its events are for.
    #[serde(default = "default_workspace")]
    pub workspace: String,
    /// What the kind wants to know (`folder: inbox`).
    #[serde(default)]
    pub params: Map<String, Value>,
    /// Minutes between two readings of the stream of changes when nothing is amiss; 60 if not said, 0: only when there is a gap.
    #[serde(default)]
    pub catch_up_minutes: Option<u64>,
}

fn default_workspace() -> String {
    "default".into()
}

impl SubscriptionConfig {
    /// A subscription of this kind over a connection, for the workspace `default`.
    pub fn new(connection: impl Into<String>, kind: impl Into<String>) -> Self {
        Self { connection: connection.into(), kind: kind.into(), workspace: default_workspace(), params: Map::new(), catch_up_minutes: None }
    }
}

/// What this process remembers between two looks; all of it can be lost.
pub(crate) struct State {
    /// What the configuration wants.
    pub(crate) wanted: Vec<SubscriptionConfig>,
    /// Somebody changed something: look now.
    pub(crate) wake: Notify,
    lease: tokio::sync::Mutex<Option<lease::Lease>>,
    /// Held while this process looks after subscriptions: what runs by itself and what somebody asks for take turns.
    working: tokio::sync::Mutex<()>,
    rows: DashMap<(TenantId, Arc<str>), admit::Known>,
    heard: DashMap<(TenantId, String), u64>,
    /// What was said about entries of hub.yaml that cannot be done, so that it is said once.
    complaints: DashMap<String, String>,
    opened: DashMap<(TenantId, String), SecretString>,
    holder: String,
}

impl State {
    pub(crate) fn new(wanted: Vec<SubscriptionConfig>) -> Self {
        Self {
            wanted,
            wake: Notify::new(),
            lease: tokio::sync::Mutex::default(),
            working: tokio::sync::Mutex::default(),
            rows: DashMap::new(),
            heard: DashMap::new(),
            complaints: DashMap::new(),
            opened: DashMap::new(),
            holder: uuid::Uuid::new_v4().to_string(),
        }
    }
}

impl Runtime {
    fn wall_ms(&self) -> u64 {
        unix_millis(self.0.shared.clock.wall())
    }

    /// The kind of subscription a connector declares.
    fn subscription_kind(&self, connector: &str, kind: &str) -> Result<SubscriptionSpec> {
        let catalogue = self.0.shared.catalogue.load();
        let spec = catalogue.registry.require(connector)?.spec();
        spec.subscriptions.iter().find(|known| &*known.name == kind).cloned().ok_or_else(|| {
            let near = connector_core::suggest::nearest(kind, spec.subscriptions.iter().map(|known| &*known.name));
            let hint = near.map_or_else(
                || {
                    let known: Vec<&str> = spec.subscriptions.iter().map(|known| &*known.name).collect();
                    if known.is_empty() { "it declares none".to_owned() } else { format!("there is {}", known.join(", ")) }
                },
                |near| format!("did you mean `{near}`?"),
            );
            let kind = connector_core::redact::printable(kind, 60);
            Error::new(ErrorKind::Invalid, format!("`{connector}` has no subscriptions of the kind `{kind}`; {hint}"))
        })
    }
}
