//! What tools need, what a connection was granted, and what follows from the difference.
//!
//! Refuses to guess: a tool whose scopes nobody wrote down is named as such, and a connection whose scopes nobody knows is not judged.

use std::{collections::BTreeSet, sync::Arc};

use connector_core::{
    Connection, Error, ErrorKind, Result, TenantId,
    spec::{AuthSpec, ConnectorSpec, OAuth2Spec, OpSpec},
};
use connector_vault::CredentialInfo;

use super::{
    Target,
    answer::{ConnectorScopes, ScopeDiff, ScopeReport},
    target::{flat, name_of},
};
use crate::{catalogue::Loaded, runtime::Runtime};

/// Scopes that ask for a refresh token. Few vendors repeat them in what they say was granted.
const OFFLINE: [&str; 3] = ["offline_access", "refresh_token", "offline"];

/// What tools need and what was granted.
pub(super) struct Compared {
    pub(super) needed: Vec<String>,
    pub(super) missing: Vec<String>,
    pub(super) too_much: Vec<String>,
    pub(super) unusable_tools: Vec<String>,
}

/// The operations of these names; of no names: all of them.
pub(super) fn operations(spec: &ConnectorSpec, tools: &[String]) -> Result<Vec<Arc<OpSpec>>> {
    if tools.is_empty() {
        return Ok(spec.operations().to_vec());
    }
    tools.iter().map(|tool| spec.require(tool).cloned()).collect()
}

/// A scope with its placeholders filled from the connection's settings; what nobody fills stays, and is then asked for by nobody.
fn filled(scope: &str, connection: Option<&Connection>) -> String {
    let Some(connection) = connection.filter(|_| scope.contains('{')) else { return scope.to_owned() };
    connection.settings.iter().fold(scope.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
}

/// The way to authenticate that is meant, if it is OAuth.
fn meant<'a>(mut schemes: impl Iterator<Item = &'a AuthSpec>, scheme: Option<&str>) -> Option<&'a OAuth2Spec> {
    schemes.find_map(|one| match one {
        AuthSpec::OAuth2(spec) if scheme.is_none_or(|scheme| scheme == spec.flow.as_str() || scheme == "oauth2") => Some(&**spec),
        _ => None,
    })
}

/// The scopes an operation needs, as this way to authenticate calls them.
fn of_operation(spec: Option<&OAuth2Spec>, op: &OpSpec, connection: Option<&Connection>) -> Vec<String> {
    op.scopes.iter().map(|scope| filled(spec.map_or(&**scope, |spec| spec.scope_name(scope)), connection)).collect()
}

/// Those that are asked for whatever the tools are, and those of the operations.
fn least(spec: Option<&OAuth2Spec>, operations: &[Arc<OpSpec>], connection: Option<&Connection>) -> Vec<String> {
    let base = spec.into_iter().flat_map(|spec| &spec.base_scopes).map(|scope| filled(scope, connection));
    let all: BTreeSet<String> = base.chain(operations.iter().flat_map(|op| of_operation(spec, op, connection))).collect();
    all.into_iter().collect()
}

/// What a person is asked for: the base scopes, then what is wanted, or what the manifest names.
pub(super) fn asked(spec: &OAuth2Spec, connection: &Connection, wanted: &[String]) -> Vec<String> {
    let wanted = if wanted.is_empty() { &spec.scopes } else { wanted };
    let mut asked: Vec<String> = Vec::new();
    for scope in spec.base_scopes.iter().chain(wanted).map(|scope| filled(spec.scope_name(scope), Some(connection))) {
        if !asked.contains(&scope) {
            asked.push(scope);
        }
    }
    asked
}

/// How a connector is usually authenticated: by a person's consent if it knows one, else by what comes first.
fn usual(loaded: &Loaded) -> Option<&AuthSpec> {
    let consent = flat(loaded.auth()).find(|scheme| matches!(scheme, AuthSpec::OAuth2(spec) if spec.flow.has_consent()));
    consent.or_else(|| loaded.auth().first()).filter(|scheme| **scheme != AuthSpec::None)
}

impl Target {
    /// What to ask a person for: what was said, or what the tools need, or, without tools or where nobody wrote anything down, what the
    /// manifest names (which is what an empty list means to the authorization request).
    pub(super) fn wanted(&self, tools: &[String], scopes: &[String]) -> Result<Vec<String>> {
        let operations = operations(self.loaded.connector.spec(), tools)?;
        if !scopes.is_empty() {
            return Ok(scopes.to_vec());
        }
        Ok(if tools.is_empty() { Vec::new() } else { least(None, &operations, Some(self.connection())) })
    }

    /// What these tools need over this connection, compared with what was granted.
    pub(super) fn compare(&self, scheme: Option<&str>, tools: &[String], granted: &[String]) -> Result<Compared> {
        let connection = self.connection();
        let operations = operations(self.loaded.connector.spec(), tools)?;
        let spec = meant(self.schemes().into_iter(), scheme);
        let has = |scope: &str| granted.iter().any(|one| same(one, scope));
        let needed = least(spec, &operations, Some(connection));
        let missing: Vec<String> = needed.iter().filter(|scope| !has(scope) && !OFFLINE.contains(&scope.as_str())).cloned().collect();
        let too_much = granted.iter().filter(|one| !needed.iter().any(|scope| same(one, scope)) && !OFFLINE.contains(&one.as_str()));
        let unusable = operations.iter().filter(|op| of_operation(spec, op, Some(connection)).iter().any(|scope| missing.contains(scope)));
        Ok(Compared { too_much: too_much.cloned().collect(), unusable_tools: unusable.map(|op| op.name.to_string()).collect(), needed, missing })
    }
}

/// Whether two scopes are the same: vendors answer `https://graph.microsoft.com/Mail.Read` to `mail.read`.
/// <https://learn.microsoft.com/entra/identity-platform/scopes-oidc>
fn same(granted: &str, needed: &str) -> bool {
    let last = |scope: &str| scope.rsplit_once('/').map(|(resource, name)| (resource.to_ascii_lowercase(), name.to_ascii_lowercase()));
    if granted.eq_ignore_ascii_case(needed) {
        return true;
    }
    match (last(granted), last(needed)) {
        (Some((resource, name)), None) => resource == "https://graph.microsoft.com" && name.eq_ignore_ascii_case(needed),
        (None, Some((resource, name))) => resource == "https://graph.microsoft.com" && name.eq_ignore_ascii_case(granted),
        _ => false,
    }
}

/// What a credential was granted, as far as its record knows.
pub(super) fn granted(info: Option<&CredentialInfo>) -> Option<Vec<String>> {
    let info = info?;
    let of_tokens = info.token.as_ref().map(|token| &token.scopes).filter(|scopes| !scopes.is_empty());
    of_tokens.or(Some(&info.scopes).filter(|scopes| !scopes.is_empty())).cloned()
}

impl Runtime {
    /// The least scopes these tools need, for each of their connectors.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a tool that does not exist; suggests the nearest.
    pub fn scopes(&self, tools: &[String]) -> Result<ScopeReport> {
        let catalogue = self.0.shared.catalogue.load();
        let mut by_connector: std::collections::BTreeMap<Arc<str>, Vec<Arc<OpSpec>>> = std::collections::BTreeMap::new();
        for tool in tools {
            let (connector, op) = catalogue.registry.tool(tool)?;
            by_connector.entry(connector.spec().id.clone()).or_default().push(op.clone());
        }
        let mut connectors = Vec::new();
        for (id, operations) in by_connector {
            let loaded = catalogue.loaded.get(&id).ok_or_else(|| Error::internal("a connector is listed but not loaded"))?;
            let usual = usual(loaded);
            let scheme = usual.map(name_of);
            connectors.push(ConnectorScopes {
                connector: id.to_string(),
                scheme: scheme.map(str::to_owned),
                scopes: least(meant(usual.into_iter(), scheme), &operations, None),
                undeclared: operations.iter().filter(|op| op.scopes.is_empty()).map(|op| op.name.to_string()).collect(),
            });
        }
        Ok(ScopeReport { connectors })
    }

    /// What a connection has too little and too much for these tools; of no tools: for all of its connector.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the tenant has no such connection, [`ErrorKind::Unsupported`] for a tool its connector does not have, and
    /// whatever keeps the vault from looking.
    pub async fn scope_diff(&self, tenant: &TenantId, connection: &str, tools: &[String]) -> Result<ScopeDiff> {
        let target = self.target_of(tenant, connection)?;
        let info = self.info(&target).await?;
        let scheme = info.as_ref().and_then(|info| info.scheme.clone());
        let granted = granted(info.as_ref());
        let unknown = granted.is_none();
        let granted = granted.unwrap_or_default();
        let compared = target.compare(scheme.as_deref(), tools, &granted)?;
        Ok(ScopeDiff {
            connection: connection.to_owned(),
            needed: compared.needed,
            missing: if unknown { Vec::new() } else { compared.missing },
            too_much: compared.too_much,
            unusable_tools: if unknown { Vec::new() } else { compared.unusable_tools },
            granted,
            unknown,
        })
    }

    /// What the vault knows about the credential of a connection.
    pub(super) async fn info(&self, target: &Target) -> Result<Option<CredentialInfo>> {
        let Some(vault) = self.vault() else { return Ok(None) };
        match vault.show(&target.connection().tenant, target.credential()).await {
            Ok(info) => Ok(Some(info)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_the_same_however_microsoft_writes_it() {
        assert!(same("Mail.Read", "mail.read"));
        assert!(same("https://graph.microsoft.com/Mail.Read", "Mail.Read"));
        assert!(!same("https://evil.example/Mail.Read", "Mail.Read"));
        assert!(!same("https://www.googleapis.com/auth/gmail.readonly", "gmail.readonly"));
        assert!(!same("crm.objects.contacts.read", "crm.objects.contacts.write"));
    }
}
