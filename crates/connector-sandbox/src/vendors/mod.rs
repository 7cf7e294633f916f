//! The fake vendors, one folder or file each, and the face they all show to the dispatcher. A vendor owns its state and its error
//! bodies; it refuses to know about sockets, fault chances or the other vendors.

pub(crate) mod erp;
pub(crate) mod glpi;
pub(crate) mod hubspot;
pub(crate) mod itop;
pub(crate) mod msgraph;
pub(crate) mod netbox;
pub(crate) mod salesforce;
pub(crate) mod servicenow;
pub(crate) mod slack;
pub(crate) mod ticketing;
pub(crate) mod topology;
pub(crate) mod valuemation;

use crate::clock::WallClock;
use crate::exchange::{Reply, Req};
use crate::faults::Faults;
use crate::ledger::{Entry, Ledger};
use crate::notify::Notifier;
use async_trait::async_trait;
use std::sync::Arc;

/// Ids of all vendors, as they appear in URLs.
pub const VENDORS: [&str; 11] =
    ["msgraph", "hubspot", "slack", "salesforce", "netbox", "servicenow", "glpi", "itop", "valuemation", "ticketing", "erp"];

/// A fake vendor as the dispatcher drives it.
#[async_trait]
pub(crate) trait Vendor: Send + Sync {
    /// The vendor's id, which is also its mount point.
    fn id(&self) -> &'static str;
    /// Answers a request.
    async fn handle(&self, req: Req) -> Reply;
    /// The vendor's 429.
    fn throttled(&self, retry_after: u64) -> Reply;
    /// The vendor's 503.
    fn unavailable(&self) -> Reply;
    /// Revokes the token this request carries; false if it carries none that can end.
    fn revoke(&self, req: &Req) -> bool;
    /// Whether this request presents a delta cursor.
    fn presents_cursor(&self, req: &Req) -> bool;
    /// The lane a request occupies while in flight and how many fit into it, where the vendor publishes such a limit.
    fn lane(&self, _req: &Req) -> Option<(String, usize)> {
        None
    }
    /// The vendor's 429 for a full lane.
    fn crowded(&self) -> Reply {
        self.throttled(1)
    }
    /// Whether random faults spare this request: token endpoints, so that a run is not about logging in.
    fn spared(&self, req: &Req) -> bool;
}

/// What every vendor shares with the sandbox around it.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) clock: WallClock,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) notifier: Notifier,
    pub(crate) faults: Arc<Faults>,
}

impl Shared {
    /// Writes an effect with the current wall time.
    pub(crate) fn record(&self, entry: Entry) {
        self.ledger.record(self.clock.now(), entry);
    }
}
