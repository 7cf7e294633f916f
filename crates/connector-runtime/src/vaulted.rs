//! What the vault holds, as far as putting a catalogue together needs to know: names and how they are meant, nothing that is sealed.

use std::{collections::BTreeMap, sync::Arc};

use connector_core::{Result, TenantId};
use connector_vault::{CredentialState, Vault};

use crate::config::{CredentialConfig, HubConfig};

/// The credentials that decide about connections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Vaulted(BTreeMap<(TenantId, String), Option<Arc<str>>>);

impl Vaulted {
    /// Asks the vault. Only the default tenant, whose connectors need no entry in the configuration, and those whose entry brings fields.
    pub(crate) async fn of(vault: Option<&Vault>, config: &HubConfig) -> Result<Self> {
        let Some(vault) = vault else { return Ok(Self::default()) };
        let with_fields = config.connections.values().filter(|connection| matches!(connection.credential, CredentialConfig::Fields(_)));
        let mut tenants: Vec<TenantId> = with_fields.filter_map(|connection| connection.tenant.as_deref().map(TenantId::from)).collect();
        tenants.push(TenantId::default());
        tenants.sort();
        tenants.dedup();
        let mut found = BTreeMap::new();
        for tenant in tenants {
            let all = vault.list(&tenant).await?.into_iter().filter(|info| info.state != CredentialState::Revoked);
            found.extend(all.map(|info| ((tenant.clone(), info.name), info.scheme)));
        }
        Ok(Self(found))
    }

    /// Whether there is one of this name that was not taken back.
    pub(crate) fn holds(&self, tenant: &TenantId, name: &str) -> bool {
        self.0.contains_key(&(tenant.clone(), name.to_owned()))
    }

    /// How it is meant to be used.
    pub(crate) fn scheme(&self, tenant: &TenantId, name: &str) -> Option<Arc<str>> {
        self.0.get(&(tenant.clone(), name.to_owned())).cloned().flatten()
    }
}
