//! Connections that need a person: told once, shown until somebody connects again.
//!
//! Owns turning a notice of the authentication layer into one event, one alert and one count. Refuses to fail the call that met the
//! trouble, and to say anything but names, a short code and a number.

use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use connector_core::{
    TenantId, WorkspaceId,
    credential::CredentialQuery,
    redact::printable,
    token::{CredentialNotice, CredentialWatch},
};
use dashmap::DashMap;
use serde_json::json;

use crate::{
    catalogue::Catalogue,
    connection::Linked,
    credentials::Credentials,
    events::{HubEvent, Teller},
    health::Monitor,
};

/// The type of the event that says that a person has to connect again.
pub const REAUTH_REQUIRED: &str = "connection.reauth_required";

/// Hears of credentials that stopped working, or work again.
#[derive(Debug)]
pub(crate) struct ReauthWatch {
    teller: Teller,
    catalogue: Arc<ArcSwap<Catalogue>>,
    monitor: Arc<Monitor>,
    credentials: Arc<Credentials>,
    lapsed: DashMap<(TenantId, Arc<str>), Lapse>,
}

#[derive(Debug, Clone, Copy)]
struct Lapse {
    serial: u64,
    /// The event is on disk.
    told: bool,
}

impl ReauthWatch {
    pub(crate) fn new(teller: Teller, catalogue: Arc<ArcSwap<Catalogue>>, monitor: Arc<Monitor>, credentials: Arc<Credentials>) -> Self {
        Self { teller, catalogue, monitor, credentials, lapsed: DashMap::new() }
    }

    /// Whether this process met a credential that needs a person. The vault knows for all processes; this is for programs without one.
    pub(crate) fn is_lapsed(&self, tenant: &TenantId, credential: &Arc<str>) -> bool {
        !self.lapsed.is_empty() && self.lapsed.contains_key(&(tenant.clone(), credential.clone()))
    }

    async fn lapse(&self, query: &CredentialQuery<'_>, reason: &str, serial: u64) {
        let key = (query.tenant.clone(), Arc::from(query.name));
        {
            let mut known = self.lapsed.entry(key.clone()).or_insert(Lapse { serial, told: false });
            if known.serial == serial && known.told {
                return;
            }
            if known.serial != serial {
                *known = Lapse { serial, told: false };
            }
        }
        let catalogue = self.catalogue.load_full();
        let over: Vec<&Arc<Linked>> = using(&catalogue, query.tenant, query.name);
        let connections: Vec<&str> = over.iter().map(|linked| linked.connection.id.as_str()).collect();
        let (reason, credential) = (printable(reason, 64), printable(query.name, 80));
        let event = HubEvent {
            tenant: query.tenant,
            workspace: workspace(&over),
            connector: query.connector,
            event_type: REAUTH_REQUIRED,
            event_id: format!("reauth:{}:{serial}", query.name),
            about: query.name,
            // The same from whichever process and call meets it: the event is one, and so is what it says.
            payload: json!({ "credential": query.name, "connections": connections, "connector": query.connector, "reason": reason, "serial": serial }),
        };
        match self.teller.tell(event).await {
            Ok(is_new) => {
                if let Some(mut known) = self.lapsed.get_mut(&key)
                    && known.serial == serial
                {
                    known.told = true;
                }
                if is_new {
                    metrics::counter!("integration_reauth_required_total", "connector" => query.connector.to_owned()).increment(1);
                    let connections = connections.join(", ");
                    tracing::error!(
                        tenant = query.tenant.as_str(),
                        connector = query.connector,
                        credential,
                        connections,
                        reason,
                        "a person has to connect again; nothing is tried with this credential until then"
                    );
                }
            }
            // The next call that meets it tells it again.
            Err(error) => tracing::error!(%error, credential, "that a person has to connect again could not be put on record"),
        }
    }
}

#[async_trait]
impl CredentialWatch for ReauthWatch {
    async fn notice(&self, query: &CredentialQuery<'_>, notice: CredentialNotice) {
        match notice {
            CredentialNotice::ReauthRequired { reason, serial } => self.lapse(query, &reason, serial).await,
            CredentialNotice::Connected { .. } => {
                self.lapsed.remove(&(query.tenant.clone(), Arc::from(query.name)));
                self.credentials.renew(query.tenant, query.name);
                for linked in using(&self.catalogue.load(), query.tenant, query.name) {
                    self.monitor.trust(&linked.connection);
                }
            }
            other => tracing::debug!(?other, "a notice about a credential that nothing is done about"),
        }
    }
}

/// The connections of a tenant that use a credential, by id.
pub(crate) fn using<'a>(catalogue: &'a Catalogue, tenant: &TenantId, credential: &str) -> Vec<&'a Arc<Linked>> {
    catalogue
        .connections
        .all()
        .filter(|linked| linked.connection.tenant == *tenant && linked.connection.credential.as_deref() == Some(credential))
        .collect()
}

/// The workspace an event about these connections is for: the first that one of them is granted to by name.
pub(crate) fn workspace(over: &[&Arc<Linked>]) -> WorkspaceId {
    let named = over.iter().flat_map(|linked| &linked.workspaces).find(|workspace| *workspace != "*");
    named.map(WorkspaceId::from).unwrap_or_default()
}
