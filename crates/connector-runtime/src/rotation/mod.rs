//! Replacing credentials: by hand, or on a schedule through the vendor's own API; reminding people where there is none; telling what ends soon.
//!
//! Owns when. Refuses to lose a secret that was issued: it is stored before anything else is done, and kept in memory if it cannot be.

mod issue;
mod progress;
mod tend;

use std::{collections::BTreeMap, time::Duration};

use connector_core::{Actor, Error, ErrorKind, Result, TenantId, WorkspaceId, state::AuditOutcome};
use connector_vault::{CredentialInfo, CredentialState};
use secrecy::SecretString;

pub(crate) use issue::Unstored;
pub(crate) use progress::Retirings;
pub(crate) use tend::tend;
pub use tend::{CREDENTIAL_EXPIRING, ROTATION_DUE, Tended};

use crate::{audit::Errand, reauth, runtime::Runtime};

/// How long the version before is accepted besides, if nobody says otherwise.
pub const OVERLAP: Duration = Duration::from_secs(24 * 3600);

/// The errand.
const ROTATE: &str = "credential.rotate";

impl Runtime {
    /// Replaces a credential: with these fields, or, without any, with what the vendor issues through the connector. The version before is
    /// accepted for `overlap` besides (24 hours if not said); what the vendor issued is retired there afterwards.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the tenant has no such credential in the vault; [`ErrorKind::Unsupported`] if the vendor has no API for it,
    /// or nothing uses it; [`ErrorKind::Conflict`] if it is being replaced at this moment, or was revoked; [`ErrorKind::Config`] without a
    /// vault; what the vendor and the vault report.
    pub async fn rotate_credential(
        &self,
        tenant: &TenantId,
        name: &str,
        fields: Option<BTreeMap<String, SecretString>>,
        overlap: Option<Duration>,
    ) -> Result<CredentialInfo> {
        let info = self.require_vault()?.show(tenant, name).await?;
        let overlap = overlap.unwrap_or(OVERLAP);
        match fields {
            Some(fields) => self.rotate_by_hand(&info, fields, overlap).await,
            None => self.rotate_at_vendor(&info, overlap).await,
        }
    }

    async fn rotate_by_hand(&self, info: &CredentialInfo, fields: BTreeMap<String, SecretString>, overlap: Duration) -> Result<CredentialInfo> {
        let put = About::of(self, info);
        self.record(&put.errand(), AuditOutcome::Intent, None).await?;
        let result = self.require_vault()?.rotate(&info.tenant, &info.name, fields, overlap).await;
        self.record_end(&put.errand(), &result).await;
        if result.is_ok() {
            self.trust(&info.tenant, &info.name);
        }
        result
    }

    /// Forgets that a credential was refused: there is a new version.
    fn trust(&self, tenant: &TenantId, name: &str) {
        for linked in reauth::using(&self.0.shared.catalogue.load(), tenant, name) {
            self.0.shared.monitor.trust(&linked.connection);
        }
    }
}

/// What is put on record about a credential.
struct About<'a> {
    info: &'a CredentialInfo,
    connector: String,
    connection: String,
    workspace: WorkspaceId,
    correlation_id: String,
}

impl<'a> About<'a> {
    fn of(runtime: &Runtime, info: &'a CredentialInfo) -> Self {
        let catalogue = runtime.0.shared.catalogue.load();
        let over = reauth::using(&catalogue, &info.tenant, &info.name);
        let connection = over.first().map(|linked| &linked.connection);
        let connector = connection.map(|connection| connection.connector.to_string()).or_else(|| info.connector.clone());
        Self {
            info,
            connector: connector.unwrap_or_default(),
            connection: connection.map(|connection| connection.id.to_string()).unwrap_or_default(),
            workspace: reauth::workspace(&over),
            correlation_id: uuid::Uuid::new_v4().to_string(),
        }
    }

    fn errand(&self) -> Errand<'_> {
        Errand {
            tenant: &self.info.tenant,
            workspace: self.workspace.clone(),
            actor: &Actor::System,
            connector: &self.connector,
            connection: &self.connection,
            operation: ROTATE,
            credential: Some(&self.info.name),
            correlation_id: &self.correlation_id,
            args_digest: "",
        }
    }
}

/// Refuses what cannot be replaced.
fn replaceable(info: &CredentialInfo) -> Result<()> {
    match info.state {
        CredentialState::Revoked => Err(Error::new(ErrorKind::Conflict, format!("credential `{}` was revoked; set it anew", info.name))),
        CredentialState::Unreadable => Err(Error::config(format!("credential `{}` cannot be opened; set it again", info.name))),
        _ => Ok(()),
    }
}
