//! Which hub of a fleet works: a lease of 60 s in the store. Taking it gives a number that only grows; rows carry it.

use std::time::Duration;

use connector_core::{
    Error, ErrorKind, Result,
    state::{Condition, Namespace, PutOutcome},
};

use crate::{connect, runtime::Runtime};

/// How long a hub may be silent before another one begins.
pub(super) const LEASE: Duration = Duration::from_secs(60);
const NAMESPACE: &str = "scheduler";
const KEY: &str = "subscriptions";

/// The lease as this hub holds it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lease {
    /// The version under which it lies in the store now.
    version: u64,
    /// The version under which it was taken.
    pub(super) epoch: u64,
}

impl Runtime {
    /// Takes the lease, or keeps it. `None`: another hub has it.
    pub(super) async fn lead_subscriptions(&self) -> Result<Option<Lease>> {
        let mut mine = self.0.subscriptions.lease.lock().await;
        let hub = connect::hub();
        let namespace = Namespace::new(&hub, NAMESPACE);
        let value = || bytes::Bytes::from(self.0.subscriptions.holder.clone());
        if let Some(lease) = mine.as_mut() {
            if let PutOutcome::Stored(version) = self.0.store.put(namespace, KEY, value(), Condition::Is(lease.version), Some(LEASE)).await? {
                lease.version = version;
                return Ok(Some(*lease));
            }
            *mine = None;
        }
        Ok(match self.0.store.put(namespace, KEY, value(), Condition::Absent, Some(LEASE)).await? {
            PutOutcome::Stored(version) => {
                *mine = Some(Lease { version, epoch: version });
                *mine
            }
            PutOutcome::Refused(_) => None,
        })
    }

    /// Makes sure that the lease is still this hub's, for another 60 s, before something is done under it.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if another hub took over.
    pub(super) async fn keep_leading(&self) -> Result<Lease> {
        let held = self.0.subscriptions.lease.lock().await.map(|lease| lease.epoch);
        match (held, self.lead_subscriptions().await?) {
            (Some(epoch), Some(lease)) if lease.epoch == epoch => Ok(lease),
            _ => Err(Error::new(ErrorKind::Conflict, "another hub looks after the subscriptions now")),
        }
    }

    /// Gives the lease on looking after subscriptions back, if this process holds it, so that another hub need not wait for its end. A hub that
    /// stops does so by itself; a program that looked once with [`Runtime::tend_subscriptions`] says so.
    ///
    /// # Errors
    /// What the store reports; the lease then ends by itself within a minute.
    pub async fn release_subscriptions(&self) -> Result<()> {
        if let Some(lease) = self.0.subscriptions.lease.lock().await.take() {
            let hub = connect::hub();
            self.0.store.delete(Namespace::new(&hub, NAMESPACE), KEY, Condition::Is(lease.version)).await?;
        }
        Ok(())
    }
}
