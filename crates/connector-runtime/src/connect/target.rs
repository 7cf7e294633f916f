//! What an ask is about: the connection, its credential, and the way to authenticate.
//!
//! Refuses to tell another tenant's connection from one that does not exist.

use std::sync::Arc;

use connector_core::{
    Connection, Error, Result, TenantId,
    spec::{AuthSpec, OAuth2Flow, OAuth2Spec},
};
use connector_http::AUTH_SETTING;

use crate::{
    catalogue::{Catalogue, Loaded},
    connection::{self, Linked},
    runtime::Runtime,
};

/// A connection that is there, or would be once its credential is.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) loaded: Arc<Loaded>,
    pub(crate) linked: Arc<Linked>,
}

impl Target {
    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.linked.connection
    }

    /// The name of its credential. Connections of the runtime always have one.
    pub(crate) fn credential(&self) -> &Arc<str> {
        // The manifest crate names the credential after the connection; see `connector_manifest::connection`.
        self.linked.connection.credential.as_ref().unwrap_or(&self.linked.connection.connector)
    }

    /// Its ways to authenticate, also those under a signature, without those its settings rule out.
    pub(crate) fn schemes(&self) -> Vec<&AuthSpec> {
        let said = self.connection().setting(AUTH_SETTING);
        flat(self.loaded.auth()).filter(|scheme| said.is_none_or(|said| goes_by(scheme, said))).collect()
    }

    /// How a person consents.
    pub(super) fn consent(&self, flow: OAuth2Flow) -> Result<&OAuth2Spec> {
        let found = self.schemes().into_iter().find_map(|scheme| match scheme {
            AuthSpec::OAuth2(spec) if spec.flow == flow => Some(&**spec),
            _ => None,
        });
        found.ok_or_else(|| {
            let connector = &self.connection().connector;
            let others: Vec<String> = self.schemes().iter().filter(|scheme| ***scheme != AuthSpec::None).map(|scheme| scheme.label()).collect();
            let others = if others.is_empty() { "nothing".to_owned() } else { others.join(", or ") };
            let how = match flow {
                OAuth2Flow::DeviceCode => "by a code on another device",
                _ => "in a browser",
            };
            Error::unsupported(format!("`{connector}` cannot be connected {how}; it takes {others}"))
        })
    }
}

/// Each scheme, and what is under a signature.
pub(super) fn flat(schemes: &[AuthSpec]) -> impl Iterator<Item = &AuthSpec> {
    schemes
        .iter()
        .flat_map(|scheme| match scheme {
            AuthSpec::Hmac(hmac) => [Some(scheme), hmac.also.as_deref()],
            _ => [Some(scheme), None],
        })
        .flatten()
}

/// Whether a scheme is meant by this name: its kind, or its grant for OAuth 2.0.
pub(super) fn goes_by(scheme: &AuthSpec, name: &str) -> bool {
    match scheme {
        AuthSpec::OAuth2(spec) => name == "oauth2" || name == spec.flow.as_str(),
        other => name == other.kind(),
    }
}

/// The name that means this scheme and no other of the same connector, as far as there is one.
pub(super) fn name_of(scheme: &AuthSpec) -> &'static str {
    match scheme {
        AuthSpec::OAuth2(spec) => spec.flow.as_str(),
        other => other.kind(),
    }
}

/// Whether a person's consent is part of this scheme.
pub(super) fn needs_consent(scheme: &AuthSpec) -> bool {
    flat(std::slice::from_ref(scheme)).any(|scheme| matches!(scheme, AuthSpec::OAuth2(spec) if spec.flow.has_consent()))
}

/// Whether the scheme of this name needs a person's consent.
pub(crate) fn has_consent(schemes: &[AuthSpec], name: &str) -> bool {
    flat(schemes).any(|scheme| matches!(scheme, AuthSpec::OAuth2(spec) if spec.flow.has_consent()) && goes_by(scheme, name))
}

impl Runtime {
    /// The connection of a tenant that this ask is about.
    pub(super) fn target(&self, tenant: &TenantId, connector: &str, wanted: Option<&str>) -> Result<Target> {
        let catalogue = self.0.shared.catalogue.load_full();
        catalogue.registry.require(connector)?;
        let of_it: Vec<&Arc<Linked>> =
            catalogue.connections.all().filter(|linked| linked.connection.tenant == *tenant && &*linked.connection.connector == connector).collect();
        match wanted {
            Some(id) => match catalogue.connections.of(tenant, id) {
                Ok(linked) if &*linked.connection.connector != connector => Err(Error::invalid(format!(
                    "connection `{id}` is of `{}`, not of `{connector}`; name one of its connections",
                    linked.connection.connector
                ))),
                Ok(linked) => existing(&catalogue, linked),
                // What somebody is about to bring into being.
                Err(_) if id == connector && of_it.is_empty() && *tenant == TenantId::default() => self.implied(&catalogue, connector),
                Err(error) => Err(error),
            },
            None => match of_it.as_slice() {
                [only] => existing(&catalogue, only),
                [] if *tenant == TenantId::default() => self.implied(&catalogue, connector),
                [] => Err(Error::config(format!("there is no connection of `{connector}`; configure one under `connections` of hub.yaml"))),
                several => {
                    let ids = several.iter().map(|linked| linked.connection.id.as_str()).collect::<Vec<_>>().join("`, `");
                    Err(Error::invalid(format!("there are several connections of `{connector}`: `{ids}`; say which")))
                }
            },
        }
    }

    /// One connection of a tenant.
    pub(super) fn target_of(&self, tenant: &TenantId, connection: &str) -> Result<Target> {
        let catalogue = self.0.shared.catalogue.load_full();
        let linked = catalogue.connections.of(tenant, connection)?;
        existing(&catalogue, linked)
    }

    fn implied(&self, catalogue: &Catalogue, connector: &str) -> Result<Target> {
        let loaded = loaded(catalogue, connector)?;
        if let Some(error) = &loaded.unresolved {
            return Err(error.clone());
        }
        let linked = connection::implied(connector, loaded.manifest.as_deref(), &self.0.env)?;
        self.0.credentials.remember_env(&linked.connection, loaded.auth(), &self.0.env);
        Ok(Target { loaded, linked: Arc::new(linked) })
    }
}

fn existing(catalogue: &Catalogue, linked: &Arc<Linked>) -> Result<Target> {
    Ok(Target { loaded: loaded(catalogue, &linked.connection.connector)?, linked: linked.clone() })
}

fn loaded(catalogue: &Catalogue, connector: &str) -> Result<Arc<Loaded>> {
    catalogue.loaded.get(connector).cloned().ok_or_else(|| Error::internal("a connector is listed but not loaded"))
}
