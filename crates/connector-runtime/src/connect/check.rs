//! Whether a connection's credential works, and what for.
//!
//! Refuses to fail for a credential that was refused: that is what was asked.

use connector_core::{Error, ErrorKind, Result, TenantId, spec::AuthSpec, token::TokenState};
use connector_vault::{CredentialInfo, CredentialState};

use super::{
    Target,
    answer::{CredentialCheck, CredentialReport},
    scopes, settle,
};
use crate::runtime::Runtime;

impl Runtime {
    /// Proves a connection's credential with the connector's cheapest call and says what it is good for. A refused one is an answer, not a failure.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the tenant has no such connection, and whatever keeps the vault from looking.
    pub async fn validate_credentials(&self, tenant: &TenantId, connection: &str) -> Result<CredentialReport> {
        let target = self.target_of(tenant, connection)?;
        let before = self.info(&target).await?;
        // Its tokens are over: asking the vendor would only prove it once more.
        let probed = match &before {
            Some(info) if needs_person(info) => Err(Error::new(ErrorKind::AuthExpired, "a person has to connect again")),
            _ => self.check(tenant, connection).await,
        };
        // The probe may have renewed a token, or found out that it cannot be.
        let info = self.info(&target).await?;
        let scheme = info.as_ref().and_then(|info| info.scheme.clone());
        let granted = scopes::granted(info.as_ref());
        let compared = granted.as_ref().map(|granted| target.compare(scheme.as_deref(), &[], granted)).transpose()?;
        let (missing, unusable_tools) = compared.map(|compared| (compared.missing, compared.unusable_tools)).unwrap_or_default();
        let outcome = match &probed {
            Ok(()) => self.proof(&target).await,
            Err(error) => match error.kind() {
                ErrorKind::AuthExpired | ErrorKind::Forbidden => CredentialCheck::Refused,
                ErrorKind::Config if !self.has_credential(&target).await => CredentialCheck::Missing,
                ErrorKind::Config => CredentialCheck::Refused,
                // An answer about the request says that the credential was let in.
                ErrorKind::NotFound | ErrorKind::Invalid | ErrorKind::Conflict => CredentialCheck::Ok,
                _ => CredentialCheck::Unreachable,
            },
        };
        let failed = probed.err().filter(|_| outcome != CredentialCheck::Ok);
        Ok(CredentialReport {
            tenant: tenant.clone(),
            connection: connection.to_owned(),
            connector: target.connection().connector.to_string(),
            credential: target.connection().credential.as_deref().map(str::to_owned),
            outcome,
            kind: failed.as_ref().map(Error::kind),
            error: failed.as_ref().map(settle::shown),
            state: info.as_ref().map(|info| info.state),
            expires_at: info.as_ref().and_then(|info| info.expires_at),
            token: info.and_then(|info| info.token),
            granted: granted.unwrap_or_default(),
            missing,
            unusable_tools,
        })
    }

    /// What a probe that found nothing wrong proves.
    async fn proof(&self, target: &Target) -> CredentialCheck {
        let needs_none = target.loaded.auth().iter().all(|scheme| *scheme == AuthSpec::None);
        if !needs_none && !self.has_credential(target).await {
            return CredentialCheck::Missing;
        }
        // Code without a manifest knows itself what proves it.
        let has_probe = target.loaded.manifest.as_ref().is_none_or(|manifest| manifest.probe.is_some());
        if has_probe { CredentialCheck::Ok } else { CredentialCheck::Unproven }
    }

    async fn has_credential(&self, target: &Target) -> bool {
        // What keeps us from looking is no proof that there is none.
        self.0.credentials.source(&target.connection().tenant, target.credential()).await.map_or(true, |source| source.is_some())
    }
}

fn needs_person(info: &CredentialInfo) -> bool {
    info.state == CredentialState::ReauthRequired || info.token.as_ref().is_some_and(|token| token.state == TokenState::ReauthRequired)
}
