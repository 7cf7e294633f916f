//! What this vault sealed and somebody else keeps for longer than a moment: its keeper says where it is, so that a rotation of the master key
//! moves and counts it with everything else.
//!
//! Refuses to guess: what nobody registers is not found.

use std::{
    fmt::Debug,
    sync::{Arc, PoisonError},
};

use async_trait::async_trait;
use connector_core::{Result, TenantId};

use super::Vault;
use crate::info::{RotationReport, Unreadable};

/// Keeps what [`Vault::seal`] sealed.
#[async_trait]
pub trait SealedElsewhere: Debug + Send + Sync + 'static {
    /// What it keeps, in a word; one keeper of a name is asked, the one registered last.
    fn name(&self) -> &'static str;

    /// Seals anew what a tenant has under older master keys ([`Vault::reseal`]), each record in one conditional write.
    ///
    /// # Errors
    /// What the store reports, and what a master key reports that cannot be reached. What does not open is left as it is and part of the answer.
    async fn reseal(&self, vault: &Vault, tenant: &TenantId) -> Result<Resealed>;

    /// The master key of each envelope that a tenant has, as far as it can be read.
    ///
    /// # Errors
    /// What the store reports.
    async fn held_under(&self, tenant: &TenantId) -> Result<Vec<String>>;
}

/// What a keeper did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Envelopes sealed anew.
    pub rewrapped: u64,
    /// Envelopes that were under the current key already.
    pub already: u64,
    /// What could not be opened and was left as it is.
    pub unreadable: Vec<Unreadable>,
}

impl Vault {
    /// Lets rotations of the master key move and count what a keeper has. A keeper of the same name is replaced.
    pub fn rotate_too(&self, keeper: Arc<dyn SealedElsewhere>) {
        let mut all = self.0.elsewhere.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|known| known.name() != keeper.name());
        all.push(keeper);
    }

    fn keepers(&self) -> Vec<Arc<dyn SealedElsewhere>> {
        self.0.elsewhere.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) async fn reseal_elsewhere(&self, tenant: &TenantId, report: &mut RotationReport) -> Result<()> {
        for keeper in self.keepers() {
            let done = keeper.reseal(self, tenant).await?;
            metrics::counter!(super::rotate_key::REWRAPPED).increment(done.rewrapped);
            report.rewrapped += done.rewrapped;
            report.already += done.already;
            report.unreadable.extend(done.unreadable);
        }
        Ok(())
    }

    pub(super) async fn held_elsewhere(&self, tenant: &TenantId) -> Result<Vec<String>> {
        let mut held = Vec::new();
        for keeper in self.keepers() {
            held.extend(keeper.held_under(tenant).await?);
        }
        Ok(held)
    }
}
