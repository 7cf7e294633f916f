//! Credentials of a single-connection program: the environment variables its connector's manifest names.
//!
//! Refuses other tenants than the default one: an environment belongs to a process, not to a customer.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use connector_core::{
    context::TenantId,
    credential::{Credential, CredentialQuery, CredentialStore},
    error::{Error, Result},
    spec::AuthSpec,
};
use secrecy::SecretString;

/// Reads the environment once, when it is made.
pub struct EnvCredentials {
    found: Result<Arc<Credential>>,
}

impl EnvCredentials {
    /// The credential of `connector` from the process environment.
    ///
    /// The first scheme whose variables are all set is taken. A field without a variable of its own in the manifest is read from
    /// `CONNECTOR_<CONNECTOR>_<FIELD>`. What is missing surfaces when a credential is asked for, so that a connector can be made without one.
    pub fn for_specs(connector: &str, specs: &[AuthSpec]) -> Self {
        Self::with_lookup(connector, specs, |name| std::env::var(name).ok())
    }

    /// As [`EnvCredentials::for_specs`], from any source of variables.
    pub fn with_lookup(connector: &str, specs: &[AuthSpec], lookup: impl Fn(&str) -> Option<String>) -> Self {
        let mut missing = Vec::new();
        // What wants several proofs is tried first: one of its variables alone may be all that another way needs.
        let (several, others): (Vec<&AuthSpec>, Vec<&AuthSpec>) = specs.iter().partition(|spec| matches!(spec, AuthSpec::All { .. }));
        for spec in several.into_iter().chain(others) {
            let mut fields = Vec::new();
            let mut absent = Vec::new();
            for (field, variable) in spec.fields() {
                let variable = variable.map_or_else(|| fallback(connector, field), str::to_owned);
                match lookup(&variable).filter(|value| !value.is_empty()) {
                    Some(value) => fields.push((field, SecretString::from(value))),
                    None => absent.push(format!("`{variable}`")),
                }
            }
            if absent.is_empty() && !fields.is_empty() {
                // A first refresh token, whom an assertion speaks for: taken if they are there.
                let more = spec.optional_fields().iter().filter_map(|field| Some((*field, lookup(&fallback(connector, field))?)));
                fields.extend(more.filter(|(_, value)| !value.is_empty()).map(|(field, value)| (field, SecretString::from(value))));
                return Self { found: Ok(Arc::new(Credential::new(fields))) };
            }
            if !absent.is_empty() {
                missing.push(format!("{} ({})", absent.join(" and "), spec.label()));
            }
        }
        let message = if missing.is_empty() {
            format!("{connector} knows no way to authenticate that takes a credential")
        } else {
            format!("{connector} needs a credential: set the environment variable {}", missing.join(", or "))
        };
        Self { found: Err(Error::config(message).with_context("connector", connector)) }
    }
}

/// `CONNECTOR_HUBSPOT_REFRESH_TOKEN`.
fn fallback(connector: &str, field: &str) -> String {
    format!("CONNECTOR_{connector}_{field}").chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

impl fmt::Debug for EnvCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnvCredentials").field("found", &self.found).finish()
    }
}

#[async_trait]
impl CredentialStore for EnvCredentials {
    async fn get(&self, query: &CredentialQuery<'_>) -> Result<Arc<Credential>> {
        if *query.tenant != TenantId::default() {
            return Err(query.missing());
        }
        self.found.clone()
    }

    async fn exists(&self, tenant: &TenantId, _name: &str) -> Result<bool> {
        Ok(*tenant == TenantId::default() && self.found.is_ok())
    }
}

#[cfg(test)]
mod tests {
    use connector_core::context::{CallCx, Connection};

    use super::*;

    fn specs() -> Vec<AuthSpec> {
        serde_json::from_value(serde_json::json!([
            { "type": "bearer", "token_env": "HUBSPOT_API_KEY", "label": "private app token" },
            { "type": "oauth2", "flow": "client_credentials", "token_url": "/t", "client_id_env": "HUBSPOT_CLIENT_ID" },
        ]))
        .unwrap()
    }

    fn cx(tenant: &str) -> CallCx {
        CallCx::new(Arc::new(Connection::named("c".into(), tenant.into(), "hubspot", "https://api.example").unwrap()))
    }

    fn env(set: &'static [(&str, &str)]) -> EnvCredentials {
        EnvCredentials::with_lookup("hubspot", &specs(), |name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    async fn fields(set: &'static [(&str, &str)]) -> Vec<String> {
        let cx = cx("default");
        let credential = env(set).get(&CredentialQuery::of(&cx, "any")).await.unwrap();
        credential.field_names().map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn the_first_scheme_whose_variables_are_all_set_is_taken() {
        assert_eq!(fields(&[("HUBSPOT_API_KEY", "pat"), ("HUBSPOT_CLIENT_ID", "id")]).await, ["token"]);
        assert_eq!(
            fields(&[("HUBSPOT_API_KEY", ""), ("HUBSPOT_CLIENT_ID", "id"), ("CONNECTOR_HUBSPOT_CLIENT_SECRET", "s")]).await,
            ["client_id", "client_secret"]
        );
    }

    #[tokio::test]
    async fn several_proofs_are_taken_together_before_one_of_them_alone() {
        let specs: Vec<AuthSpec> = serde_json::from_value(serde_json::json!([
            { "type": "bearer", "token_env": "T" },
            { "type": "all", "of": [{ "type": "bearer", "token_env": "T", "prefix": "user_token" }, { "type": "api_key", "header": "App-Token", "key_env": "K" }] },
        ]))
        .unwrap();
        for (set, fields) in [(&["T", "K"][..], &["token", "key"][..]), (&["T"], &["token"])] {
            let store = EnvCredentials::with_lookup("glpi", &specs, |name| set.contains(&name).then(|| "x".to_owned()));
            let credential = store.get(&CredentialQuery::of(&cx("default"), "any")).await.unwrap();
            let mut found: Vec<&str> = credential.field_names().collect();
            found.sort_unstable_by_key(|field| fields.iter().position(|wanted| wanted == field));
            assert_eq!(found, fields);
        }
    }

    #[tokio::test]
    async fn a_missing_variable_is_named_with_who_needs_it() {
        let error = env(&[("HUBSPOT_CLIENT_ID", "id-canary")]).get(&CredentialQuery::of(&cx("default"), "any")).await.unwrap_err();
        assert_eq!(
            error.message(),
            "hubspot needs a credential: set the environment variable `HUBSPOT_API_KEY` (private app token), \
             or `CONNECTOR_HUBSPOT_CLIENT_SECRET` (OAuth 2.0 client credentials)"
        );
    }

    #[tokio::test]
    async fn the_environment_belongs_to_the_default_tenant_and_is_never_shown() {
        let store = env(&[("HUBSPOT_API_KEY", "pat-canary")]);
        assert!(store.get(&CredentialQuery::of(&cx("other"), "any")).await.is_err());
        assert!(!format!("{store:?}").contains("canary"));
    }
}
