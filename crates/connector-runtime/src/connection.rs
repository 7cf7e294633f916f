//! The connections of a runtime: made from the configuration or from the environment, found by tenant and grant.
//!
//! Owns who may use which connection. Refuses to tell another tenant's connection from one that does not exist.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use connector_core::{Connection, Error, ErrorKind, Result, TenantId, WorkspaceId};
use connector_http::EGRESS_ALLOW;
use connector_manifest::{ConnectionOptions, Manifest};
use secrecy::SecretString;

use crate::config::{ConnectionConfig, CredentialConfig, Env, PolicyConfig, Substitution};

/// A connection with what the runtime knows about it besides.
pub(crate) struct Linked {
    pub(crate) connection: Arc<Connection>,
    pub(crate) workspaces: Vec<String>,
    pub(crate) policy: PolicyConfig,
    pub(crate) webhook_secrets: Vec<SecretString>,
    pub(crate) public_url: Option<String>,
}

impl std::fmt::Debug for Linked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Linked")
            .field("connection", &self.connection)
            .field("workspaces", &self.workspaces)
            .field("policy", &self.policy)
            .field("webhook_secrets", &self.webhook_secrets.len())
            .finish_non_exhaustive()
    }
}

impl Linked {
    pub(crate) fn is_granted(&self, workspace: &WorkspaceId) -> bool {
        self.workspaces.iter().any(|granted| granted == "*" || granted == workspace.as_str())
    }
}

/// The fields of a credential as they are to be stored, for the connections that bring their own.
pub(crate) type NewCredential = (TenantId, String, Vec<(String, SecretString)>);

/// Makes one configured connection. `manifest` is absent for connectors that are code.
pub(crate) fn configured(id: &str, config: &ConnectionConfig, manifest: Option<&Manifest>, env: &Env) -> Result<(Linked, Option<NewCredential>)> {
    let mut substitution = Substitution::new(env.clone());
    let key = |rest: &str| format!("connections.{id}.{rest}");
    let mut settings: BTreeMap<String, String> =
        config.settings.iter().map(|(name, value)| (name.clone(), substitution.fill(&key(&format!("settings.{name}")), value))).collect();
    if !config.egress_allow.is_empty() {
        settings.insert(EGRESS_ALLOW.to_owned(), config.egress_allow.join(","));
    }
    let base_url = config.base_url.as_ref().map(|url| substitution.fill(&key("base_url"), url));
    let tenant = config.tenant.as_deref().map_or_else(TenantId::default, TenantId::from);
    let (name, credential) = match &config.credential {
        CredentialConfig::Default => (None, None),
        CredentialConfig::Named(name) => (Some(name.clone()), None),
        CredentialConfig::Fields(fields) => {
            let filled = fields
                .iter()
                .map(|(field, value)| (field.clone(), SecretString::from(substitution.fill(&key(&format!("credential.{field}")), value))))
                .collect();
            (None, Some((tenant.clone(), id.to_owned(), filled)))
        }
    };
    let (secrets, public_url) = match &config.webhook {
        None => (Vec::new(), None),
        Some(webhook) => {
            let secrets = webhook.secrets.iter().enumerate();
            let secrets =
                secrets.map(|(at, secret)| SecretString::from(substitution.fill(&key(&format!("webhook.secrets[{at}]")), secret))).collect();
            (secrets, webhook.public_url.as_ref().map(|url| substitution.fill(&key("webhook.public_url"), url)))
        }
    };
    substitution.finish()?;
    let options = ConnectionOptions { id: Some(id.to_owned()), tenant, base_url, settings, credential: name };
    Ok((
        Linked {
            connection: Arc::new(make(&config.connector, manifest, options, env)?),
            workspaces: config.workspaces.clone(),
            policy: config.policy.clone(),
            webhook_secrets: secrets,
            public_url,
        },
        credential,
    ))
}

/// Makes the connection of a connector that nobody configured but whose environment variables are there.
pub(crate) fn implied(connector: &str, manifest: Option<&Manifest>, env: &Env) -> Result<Linked> {
    // The seed's one-connection programs keep their webhook secret in a variable, too.
    let variable = format!("{}_WEBHOOK_SECRET", connector.to_uppercase().replace('-', "_"));
    let secret = env(&variable).filter(|secret| !secret.trim().is_empty());
    Ok(Linked {
        connection: Arc::new(make(connector, manifest, ConnectionOptions::default(), env)?),
        workspaces: vec!["*".into()],
        policy: PolicyConfig::default(),
        webhook_secrets: secret.into_iter().map(SecretString::from).collect(),
        public_url: None,
    })
}

fn make(connector: &str, manifest: Option<&Manifest>, options: ConnectionOptions, env: &Env) -> Result<Connection> {
    let nothing = Manifest::default();
    connector_manifest::connection(manifest.unwrap_or(&nothing), connector, options, &|name| env(name).filter(|value| !value.is_empty()))
}

/// All connections, by tenant and id.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    by_id: BTreeMap<(TenantId, Arc<str>), Arc<Linked>>,
    /// The same by connector, so that a webhook delivery does not walk all of them.
    by_connector: HashMap<Arc<str>, Vec<Arc<Linked>>>,
}

impl Connections {
    pub(crate) fn insert(&mut self, linked: Linked) {
        let key = (linked.connection.tenant.clone(), Arc::from(linked.connection.id.as_str()));
        let linked = Arc::new(linked);
        if let Some(replaced) = self.by_id.insert(key, linked.clone())
            && let Some(of_connector) = self.by_connector.get_mut(&replaced.connection.connector)
        {
            of_connector.retain(|known| !Arc::ptr_eq(known, &replaced));
        }
        self.by_connector.entry(linked.connection.connector.clone()).or_default().push(linked);
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Linked>> {
        self.by_id.values()
    }

    /// Those of a connector, of all tenants.
    pub(crate) fn of_connector(&self, connector: &str) -> impl Iterator<Item = &Arc<Linked>> {
        self.by_connector.get(connector).into_iter().flatten()
    }

    /// Those of a connector that a workspace of a tenant may use.
    pub(crate) fn granted<'a>(
        &'a self,
        tenant: &'a TenantId,
        workspace: &'a WorkspaceId,
        connector: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Linked>> {
        self.of_connector(connector).filter(move |linked| linked.connection.tenant == *tenant && linked.is_granted(workspace))
    }

    /// One connection of a tenant. Another tenant's looks like one that does not exist.
    pub(crate) fn of(&self, tenant: &TenantId, id: &str) -> Result<&Arc<Linked>> {
        self.by_id.get(&(tenant.clone(), Arc::from(id))).ok_or_else(|| {
            let id = connector_core::redact::printable(id, 63);
            Error::new(ErrorKind::NotFound, format!("there is no connection `{id}`; `connections` lists what there is"))
        })
    }

    /// The connection a call goes over: the one asked for, or the only one that fits.
    pub(crate) fn choose(&self, tenant: &TenantId, workspace: &WorkspaceId, connector: &str, wanted: Option<&str>) -> Result<Arc<Linked>> {
        if let Some(id) = wanted {
            let linked = self.of(tenant, id)?;
            if &*linked.connection.connector != connector {
                let own = &linked.connection.connector;
                return Err(Error::invalid(format!(
                    "connection `{id}` is of `{own}`, but the tool is of `{connector}`; name one of its connections"
                )));
            }
            if !linked.is_granted(workspace) {
                return Err(Error::new(
                    ErrorKind::Denied,
                    format!(
                        "connection `{id}` is not granted to workspace `{workspace}`; an administrator adds it under `workspaces` of the connection"
                    ),
                ));
            }
            return Ok(linked.clone());
        }
        let fitting: Vec<&Arc<Linked>> = self.granted(tenant, workspace, connector).collect();
        match fitting.as_slice() {
            [only] => Ok((*only).clone()),
            [] => Err(Error::config(format!(
                "workspace `{workspace}` has no connection of `{connector}`; configure one under `connections` of hub.yaml"
            ))),
            several => {
                let ids = several.iter().map(|linked| linked.connection.id.as_str()).collect::<Vec<_>>().join("`, `");
                Err(Error::invalid(format!("several connections of `{connector}` fit: `{ids}`; say which with `connection`")))
            }
        }
    }
}
