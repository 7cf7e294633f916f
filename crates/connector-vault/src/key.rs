//! Master keys: what wraps the data keys. Each knows its id, which every envelope carries.

mod file;
mod keyring;
mod local;

use std::fmt::Debug;

use async_trait::async_trait;
use connector_core::{Result, TenantId};
use zeroize::Zeroizing;

pub(crate) use local::HOW;
pub use local::LocalKey;

/// A data key: 256 bits, wiped on drop.
pub type DataKey = Zeroizing<[u8; 32]>;

/// What an envelope is bound to. A row moved to another tenant, credential, field or version does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding<'a> {
    /// The tenant.
    pub tenant: &'a TenantId,
    /// The credential's name.
    pub credential: &'a str,
    /// The field, or what else is sealed (`$tokens`).
    pub field: &'a str,
    /// The version of the credential.
    pub version: u64,
    /// The master key's id.
    pub key_id: &'a str,
}

/// Wraps and unwraps data keys.
#[async_trait]
pub trait MasterKey: Debug + Send + Sync + 'static {
    /// Its id, as envelopes name it: `[a-z0-9_-]{1,32}`.
    fn id(&self) -> &str;

    /// Where it is, for people: `environment variable CONNECTORS_MASTER_KEY`, `AWS KMS alias/connectors`. Never key material.
    fn place(&self) -> String;

    /// Whether wrapping and unwrapping leave this process, so that opened data keys are worth keeping for a while.
    fn is_remote(&self) -> bool;

    /// Wraps a data key, bound to `binding`.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Transient`] if what holds it cannot be reached, [`connector_core::ErrorKind::Config`] if it refuses us.
    async fn wrap(&self, key: &DataKey, binding: &Binding<'_>) -> Result<Vec<u8>>;

    /// Unwraps a data key.
    ///
    /// # Errors
    /// As [`MasterKey::wrap`]; [`connector_core::ErrorKind::Invalid`] if the wrapped key is damaged or bound to something else.
    async fn unwrap(&self, wrapped: &[u8], binding: &Binding<'_>) -> Result<DataKey>;
}
