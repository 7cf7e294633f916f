//! What a program says about its Microsoft 365 connection. Refuses secrets: they stay with the provider of authentication.

use std::collections::BTreeMap;

use connector_core::{Connection, Result, TenantId};
use connector_manifest::ConnectionOptions;
use serde::{Deserialize, Serialize};

use crate::{ID, manifest};

/// A connection to Microsoft 365. What is left out follows from the manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The Graph root with its version, for national clouds and sandboxes; `https://graph.microsoft.com/v1.0` if not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// The Entra tenant, a GUID or a domain. Needed with OAuth 2.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
    /// The mailbox that calls use when they name none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mailbox: Option<String>,
    /// The Entra host of the cloud; `login.microsoftonline.com` if not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login_host: Option<String>,
    /// The whole token endpoint, where it is not at `login_host` (a sandbox).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_url: Option<String>,
    /// The scope to ask for; `https://graph.microsoft.com/.default` if not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graph_scope: Option<String>,
    /// The name of the credential; the connector's id if not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// Further settings, for example `egress_allow`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

impl Config {
    /// The connection it describes. `lookup` gives environment variables for what is left out.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] if the base URL is unusable.
    pub fn connection(&self, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Connection> {
        connector_manifest::connection(&manifest(), ID, self.clone().into_options(), lookup)
    }

    /// What the manifest calls it.
    pub(crate) fn into_options(self) -> ConnectionOptions {
        let Self { base_url, tenant_id, mailbox, login_host, token_url, graph_scope, credential, mut settings } = self;
        let named =
            [("tenant_id", tenant_id), ("mailbox", mailbox), ("login_host", login_host), ("token_url", token_url), ("graph_scope", graph_scope)];
        settings.extend(named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        ConnectionOptions { id: None, tenant: TenantId::default(), base_url, settings, credential }
    }
}
