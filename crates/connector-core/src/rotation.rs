//! Replacing a credential through the vendor's own API, where there is one.
//!
//! The order is the vault's: `issue` at the vendor, store, use, and `retire` only after the overlap. Refuses to decide when.

use std::{fmt::Debug, time::SystemTime};

use async_trait::async_trait;
use secrecy::SecretString;

use crate::{connector::Connector, context::CallCx, credential::Credential, error::Result};

/// Issues and retires secrets at a vendor.
#[async_trait]
pub trait Rotator: Debug + Send + Sync + 'static {
    /// Asks the vendor for a successor of `current`; both work afterwards. `connector` is the connector itself with its layers.
    ///
    /// # Errors
    /// What the vendor reports. [`crate::ErrorKind::Unknown`] if a secret may have been issued that nobody has: it is unused and may be removed.
    async fn issue(&self, cx: &CallCx, connector: &dyn Connector, current: &Credential) -> Result<Issued>;

    /// Makes the vendor forget `old`, which nothing uses any more. Doing it twice does no harm.
    ///
    /// # Errors
    /// What the vendor reports.
    async fn retire(&self, cx: &CallCx, connector: &dyn Connector, old: &Credential) -> Result<()>;
}

/// A new secret.
#[derive(Debug)]
pub struct Issued {
    /// The fields that change; the others stay.
    pub fields: Vec<(String, SecretString)>,
    /// When the vendor stops accepting it, if it does.
    pub expires_at: Option<SystemTime>,
}
