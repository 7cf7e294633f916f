//! The configuration of a hub: connections, custom connectors, resilience, policy, egress; read from `hub.yaml` or built in code.
//!
//! Owns the shape, `${VAR}` substitution and the refusal of secrets in plain text. Refuses to hold a resolved secret: values of
//! credentials stay references here and go from the environment straight into the credential store.

mod effects;
mod fleet;
mod parse;
mod server;
mod substitute;

use std::{collections::BTreeMap, fmt, path::PathBuf};

use connector_core::{Error, Result};
use connector_http::EgressPolicy;
use connector_vault::config::VaultConfig;
use connector_webhook::rules::RuleConfig;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

pub(crate) use effects::ALL_TENANTS;
pub use effects::{AlertConfig, AlertOn, AlertTo, EndpointConfig};
pub use fleet::{FleetConfig, UpstashConfig};
pub use server::ServerConfig;
pub(crate) use substitute::{Env, Substitution};

use crate::subscriptions::SubscriptionConfig;

/// Credential fields that identify and do not authenticate; they may stand in the file as they are.
const PUBLIC_FIELDS: [&str; 4] = ["username", "client_id", "key_id", "tenant_id"];

/// A hub's configuration (`hub.yaml`). `Debug` shows no credential values.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HubConfig {
    /// The connections by id. Without any, they are derived from the environment.
    pub connections: BTreeMap<String, ConnectionConfig>,
    /// Files, or folders of files, that declare custom connectors.
    pub manifests: Vec<PathBuf>,
    /// Resilience numbers for all connectors (`retry`, `budget`, `breaker`, `limits`, `timeout`, `preset`), and under a connector's id for that one.
    pub resilience: Map<String, Value>,
    /// What writes need.
    pub policy: PolicyConfig,
    /// Where requests may go besides public https addresses.
    pub egress: EgressConfig,
    /// Where state is kept (`sqlite://hub.db`); the program that embeds the runtime opens it.
    pub state: Option<String>,
    /// The address the hub listens on.
    pub listen: Option<String>,
    /// The URL the outside world reaches the hub at.
    pub public_url: Option<String>,
    /// The tenants; if any are named, a connection must belong to one of them.
    pub tenants: Vec<String>,
    /// What is done about events.
    pub rules: Vec<RuleConfig>,
    /// Where events and alerts are forwarded to, by name.
    pub endpoints: BTreeMap<String, EndpointConfig>,
    /// Who is told when something goes wrong.
    pub alerts: Vec<AlertConfig>,
    /// The vendors' subscriptions that the hub keeps alive.
    pub subscriptions: Vec<SubscriptionConfig>,
    /// Where the master keys are and which external stores are read through; the program that embeds the runtime opens the vault.
    pub vault: Option<VaultConfig>,
    /// Whether events, queued calls, dead letters and kept replies are sealed in the state store. They are unless this is `false`, where there is
    /// a vault. What was sealed before stays readable.
    pub seal_payloads: Option<bool>,
    /// What several hubs share besides their state store; the program that embeds the runtime connects.
    pub fleet: FleetConfig,
    /// Who may reach the hub over HTTP, how much at once, and how it stops.
    pub server: ServerConfig,
}

/// One connection.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionConfig {
    /// The connector it configures.
    pub connector: String,
    /// Its tenant; `default` if not said.
    #[serde(default)]
    pub tenant: Option<String>,
    /// Where the API is, if not where the connector's manifest says.
    #[serde(default)]
    pub base_url: Option<String>,
    /// Settings such as `mailbox`. Never secrets.
    #[serde(default, deserialize_with = "settings")]
    pub settings: BTreeMap<String, String>,
    /// What authenticates it.
    #[serde(default)]
    pub credential: CredentialConfig,
    /// The workspaces that may use it; `["*"]` for all, which is the default.
    #[serde(default = "everybody")]
    pub workspaces: Vec<String>,
    /// How its webhooks are proven.
    #[serde(default)]
    pub webhook: Option<WebhookConfig>,
    /// Hosts, networks or `loopback` its requests may go to besides public addresses.
    #[serde(default)]
    pub egress_allow: Vec<String>,
    /// A stricter policy for this connection.
    #[serde(default)]
    pub policy: PolicyConfig,
}

impl ConnectionConfig {
    /// A connection of this connector with nothing else said, open to all workspaces of the default tenant.
    pub fn new(connector: impl Into<String>) -> Self {
        Self {
            connector: connector.into(),
            tenant: None,
            base_url: None,
            settings: BTreeMap::new(),
            credential: CredentialConfig::default(),
            workspaces: everybody(),
            webhook: None,
            egress_allow: Vec::new(),
            policy: PolicyConfig::default(),
        }
    }
}

/// What authenticates a connection.
#[derive(Clone, Default, PartialEq)]
pub enum CredentialConfig {
    /// Nothing said: the connector's own environment variables, or the store's credential that has the connection's id.
    #[default]
    Default,
    /// A credential of the vault, by name; `store:name` for one that an external secret store keeps.
    Named(String),
    /// Fields, each a reference such as `${HUBSPOT_API_KEY}`.
    Fields(BTreeMap<String, String>),
}

impl fmt::Debug for CredentialConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("Default"),
            Self::Named(name) => write!(f, "Named({name:?})"),
            Self::Fields(fields) => f.debug_tuple("Fields").field(&fields.keys().collect::<Vec<_>>()).finish(),
        }
    }
}

impl<'de> Deserialize<'de> for CredentialConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = CredentialConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a stored credential, or fields such as `token: ${HUBSPOT_API_KEY}`")
            }

            fn visit_str<E>(self, name: &str) -> std::result::Result<Self::Value, E> {
                Ok(CredentialConfig::Named(name.to_owned()))
            }

            fn visit_unit<E>(self) -> std::result::Result<Self::Value, E> {
                Ok(CredentialConfig::Default)
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> std::result::Result<Self::Value, A::Error> {
                BTreeMap::deserialize(serde::de::value::MapAccessDeserializer::new(map)).map(CredentialConfig::Fields)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// How a connection's webhooks are proven.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// The secrets that are valid now, each a reference such as `${HUBSPOT_WEBHOOK_SECRET}`; two during a rotation.
    pub secrets: Vec<String>,
    /// The base of the URL the vendor calls, if not the hub's.
    #[serde(default)]
    pub public_url: Option<String>,
}

impl fmt::Debug for WebhookConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookConfig").field("secrets", &self.secrets.len()).field("public_url", &self.public_url).finish()
    }
}

/// What writes need. Of all policies that apply to a call the strictest holds.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyConfig {
    /// For all writes.
    pub writes: Option<Writes>,
    /// For writes of one workspace.
    pub workspaces: BTreeMap<String, Writes>,
}

impl PolicyConfig {
    /// What a write of this workspace needs, as far as this policy goes.
    pub fn of(&self, workspace: &str) -> Writes {
        self.writes.unwrap_or_default().max(self.workspaces.get(workspace).copied().unwrap_or_default())
    }
}

/// What a write needs, the laxest first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Writes {
    /// Nothing, unless the operation itself requires an approval.
    #[default]
    Allow,
    /// An approval by somebody else.
    Approve,
    /// They are refused.
    Deny,
}

/// Where requests may go besides public https addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EgressConfig {
    /// This machine, for sandboxes and sidecars.
    pub allow_loopback: bool,
    /// Hosts (`erp.internal:8443`) and networks (`10.20.0.0/16`).
    pub allow: Vec<String>,
}

impl EgressConfig {
    /// The guard's policy. Connections may extend it, because only an administrator writes this configuration.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] that names the entry that cannot be read.
    pub fn policy(&self) -> Result<EgressPolicy> {
        let policy = EgressPolicy::new().trust_connection_settings(true);
        let policy = if self.allow_loopback { policy.allow_loopback() } else { policy };
        policy.extended(&self.allow.join(","))
    }
}

impl HubConfig {
    /// Checks what the types cannot: secrets in plain text, unknown tenants, ids that cannot stand in an address.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] listing every problem with its key.
    pub fn check(&self) -> Result<()> {
        let problems = self.problems();
        if problems.is_empty() {
            return Ok(());
        }
        let shown: Vec<String> = problems.into_iter().map(|(key, message)| format!("`{key}`: {message}")).collect();
        Err(Error::config(format!("the hub cannot be configured: {}", shown.join("; "))))
    }

    /// A text of this configuration with its `${VAR}` filled, for the keys the embedding program reads itself (`state`, `listen`).
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] naming every missing variable and that `key` needs it.
    pub fn fill(key: &str, text: &str, lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Result<String> {
        let mut substitution = Substitution::new(std::sync::Arc::new(lookup));
        let filled = substitution.fill(key, text);
        substitution.finish()?;
        Ok(filled)
    }

    /// The problems [`HubConfig::check`] reports, each with the path of its key.
    fn problems(&self) -> Vec<(String, String)> {
        let mut found = self.vault.as_ref().map(VaultConfig::problems).unwrap_or_default();
        let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
        for (id, connection) in &self.connections {
            let tenant = connection.tenant.as_deref().unwrap_or("default");
            for workspace in connection.workspaces.iter().filter(|workspace| *workspace != "*") {
                let owner = *owners.entry(workspace).or_insert(tenant);
                if owner != tenant {
                    let message =
                        format!("the workspace `{workspace}` belongs to the tenant `{owner}` and cannot belong to `{tenant}`, too; rename one");
                    found.push((format!("connections.{id}.workspaces"), message));
                }
            }
        }
        found.extend(self.server.problems());
        found.extend(self.fleet.problems());
        found.extend(effects::problems(self));
        for (id, connection) in &self.connections {
            let key = format!("connections.{id}");
            if connector_webhook::ingress::route::path_id(id).as_deref() != Some(id) {
                found.push((key.clone(), "a connection's id is lower-case letters, digits, `-` and `_`, at most 63".into()));
            }
            if let CredentialConfig::Fields(fields) = &connection.credential {
                let literal = |(field, value): &(&String, &String)| !PUBLIC_FIELDS.contains(&field.as_str()) && !substitute::is_reference(value);
                for (field, _) in fields.iter().filter(literal) {
                    found.push((format!("{key}.credential.{field}"), plain_secret(&format!("{id}_{field}"))));
                }
            }
            if let CredentialConfig::Named(name) = &connection.credential
                && let Some((store, _)) = name.split_once(':')
                && !self.vault.iter().any(|vault| vault.stores.contains_key(store))
            {
                let store = connector_core::redact::printable(store, 40);
                found.push((format!("{key}.credential"), format!("there is no secret store `{store}`; name it under `vault.stores`")));
            }
            for (at, secret) in connection.webhook.iter().flat_map(|webhook| &webhook.secrets).enumerate() {
                if !substitute::is_reference(secret) {
                    found.push((format!("{key}.webhook.secrets[{at}]"), plain_secret(&format!("{id}_webhook_secret"))));
                }
            }
            // `auth` names a scheme; it only sounds like a secret.
            let secret = |name: &str| name != connector_http::AUTH_SETTING && connector_core::redact::is_secret_name(name);
            for setting in connection.settings.keys().filter(|name| secret(name)) {
                let message = "a secret does not belong into settings, which are shown and logged; put it under `credential`";
                found.push((format!("{key}.settings.{setting}"), message.into()));
            }
            if let Some(tenant) = connection.tenant.as_ref().filter(|tenant| !self.tenants.is_empty() && !self.tenants.contains(tenant)) {
                let near = connector_core::suggest::nearest(tenant, self.tenants.iter().map(String::as_str));
                let hint = near.map_or_else(|| format!("there are: {}", self.tenants.join(", ")), |near| format!("did you mean `{near}`?"));
                found.push((format!("{key}.tenant"), format!("there is no tenant `{tenant}`; {hint}")));
            }
        }
        found
    }
}

fn plain_secret(name: &str) -> String {
    let variable: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
    format!("a secret stands here in plain text, where backups and colleagues read it; set an environment variable and write \"${{{variable}}}\"")
}

fn everybody() -> Vec<String> {
    vec!["*".into()]
}

/// Settings are text; numbers and booleans are taken as they are written.
fn settings<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<BTreeMap<String, String>, D::Error> {
    let given = BTreeMap::<String, Value>::deserialize(deserializer)?;
    given
        .into_iter()
        .map(|(key, value)| match value {
            Value::String(text) => Ok((key, text)),
            Value::Number(_) | Value::Bool(_) => Ok((key, value.to_string())),
            _ => Err(serde::de::Error::custom(format!("the setting `{key}` must be a text, a number or a boolean"))),
        })
        .collect()
}

#[cfg(test)]
mod tests;
