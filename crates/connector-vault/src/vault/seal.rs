//! Sealing small things that are not credentials and that somebody else keeps (a PKCE verifier in a sign-in's state).
//!
//! A rotation of the master key does not find them, because it does not know where they are: what is sealed so must be short-lived, or be
//! sealed anew by whoever keeps it ([`Vault::reseal`]), at best as part of the rotation ([`crate::SealedElsewhere`]).

use connector_core::{Result, TenantId};
use zeroize::Zeroizing;

use super::Vault;
use crate::{envelope::Envelope, keys::Target};

/// No credential's name starts like this, so what is sealed here never opens as a credential, nor the other way round.
fn credential(purpose: &str) -> String {
    format!("$sealed:{purpose}")
}

impl Vault {
    /// Seals something small that is not a credential (a PKCE verifier), bound to tenant, purpose and id. At most 1 MiB.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Transient`] if the master key cannot be reached; [`connector_core::ErrorKind::Invalid`] if it is too long.
    pub async fn seal(&self, tenant: &TenantId, purpose: &str, id: &str, plain: &[u8]) -> Result<Vec<u8>> {
        let target = Target { tenant, credential: &credential(purpose), field: id, version: 0 };
        self.0.keys.seal(target, plain).await
    }

    /// Seals anew under the current master key what [`Vault::seal`] sealed under another one; `None`: it is under the current one already.
    ///
    /// # Errors
    /// As [`Vault::unseal`] and [`Vault::seal`].
    pub async fn reseal(&self, tenant: &TenantId, purpose: &str, id: &str, sealed: &[u8]) -> Result<Option<Vec<u8>>> {
        if Envelope::parse(sealed).is_ok_and(|envelope| envelope.key_id() == self.0.keys.current().id()) {
            return Ok(None);
        }
        let plain = self.unseal(tenant, purpose, id, sealed).await?;
        self.seal(tenant, purpose, id, &plain).await.map(Some)
    }

    /// Opens what [`Vault::seal`] sealed for the same tenant, purpose and id.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] if it was changed, sealed for something else, or its master key is not configured;
    /// [`connector_core::ErrorKind::Transient`] if the key cannot be reached.
    pub async fn unseal(&self, tenant: &TenantId, purpose: &str, id: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let target = Target { tenant, credential: &credential(purpose), field: id, version: 0 };
        self.0.keys.open(target, sealed).await.map_err(|fault| fault.about(&format!("what was sealed for {purpose}")))
    }
}
