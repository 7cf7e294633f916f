//! External secret managers: read through, never written.

use std::{collections::BTreeMap, fmt::Debug, time::Duration};

use async_trait::async_trait;
use connector_core::{Result, TenantId};
use secrecy::SecretString;

/// A secret as its manager holds it.
pub struct ManagedSecret {
    /// The fields in use.
    pub fields: BTreeMap<String, SecretString>,
    /// Grows (or at least changes) with each version.
    pub version: u64,
    /// The fields of the version before, while the manager still has it.
    pub previous: Option<BTreeMap<String, SecretString>>,
    /// How long it may be kept; the vault's own default if the manager does not say.
    pub lease: Option<Duration>,
}

impl Debug for ManagedSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ManagedSecret")
            .field("fields", &self.fields.keys().collect::<Vec<_>>())
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// Reads secrets somebody else keeps. A connection names them `store:name`.
#[async_trait]
pub trait SecretManager: Debug + Send + Sync + 'static {
    /// What it is, for people: `OpenBao at https://bao.internal`.
    fn place(&self) -> String;

    /// The secret `name` of a tenant; `None` if there is none. The tenant is part of where it looks, never of what the caller says.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Transient`] if it cannot be reached, [`connector_core::ErrorKind::Config`] if it refuses us.
    async fn read(&self, tenant: &TenantId, name: &str) -> Result<Option<ManagedSecret>>;
}
