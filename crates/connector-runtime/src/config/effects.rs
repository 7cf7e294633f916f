//! `rules`, `endpoints` and `alerts`: what a hub does about events, where it forwards them, and whom it tells when something goes wrong.
//!
//! Owns the shape and what can be checked without connectors. What rules and alerts call is checked when the runtime is put together.

use std::{collections::BTreeSet, fmt};

use connector_core::{redact::printable, suggest};
use connector_webhook::rules::AlertLevel;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::{HubConfig, plain_secret, substitute};

/// The tenant of an alert that hears of all of them.
pub(crate) const ALL_TENANTS: &str = "*";
/// The most secrets of an endpoint: the new one and the one it replaces.
const MAX_SECRETS: usize = 2;

/// A receiver of forwarded events and alerts, signed the Standard Webhooks way.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointConfig {
    /// Where it is; may hold `${VAR}`.
    pub url: String,
    /// The secrets that sign, each a reference such as `${ERP_HOOK_SECRET}`, the newest first; two during a rotation.
    pub secrets: Vec<String>,
    /// The tenant whose rules may use it; `default` if not said.
    #[serde(default)]
    pub tenant: Option<String>,
    /// Hosts, networks or `loopback` it may be at besides public addresses.
    #[serde(default)]
    pub egress_allow: Vec<String>,
}

impl fmt::Debug for EndpointConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A path may be what lets one in.
        f.debug_struct("EndpointConfig")
            .field("tenant", &self.tenant)
            .field("secrets", &self.secrets.len())
            .field("egress_allow", &self.egress_allow)
            .finish_non_exhaustive()
    }
}

/// What an alert is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertOn {
    /// A call, an event or a delivery was given up.
    DeadLetter,
    /// A connection needs a person.
    ReauthRequired,
    /// A credential expires soon or is to be rotated by hand.
    CredentialDue,
    /// A vendor ended a subscription, or nothing comes over one that a person made.
    SubscriptionLost,
    /// A receiver of forwarded events asked never to be called again.
    EndpointOff,
    /// A rule says so.
    Rule,
}

impl AlertOn {
    /// As it stands in `hub.yaml`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DeadLetter => "dead_letter",
            Self::ReauthRequired => "reauth_required",
            Self::CredentialDue => "credential_due",
            Self::SubscriptionLost => "subscription_lost",
            Self::EndpointOff => "endpoint_off",
            Self::Rule => "rule",
        }
    }
}

/// Who hears of what.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertConfig {
    /// Its name, unique.
    pub name: String,
    /// What it hears of; everything if not said.
    #[serde(default)]
    pub on: Vec<AlertOn>,
    /// The least urgent level it hears of; `info` if not said.
    #[serde(default = "least")]
    pub min_level: AlertLevel,
    /// How it is told.
    pub to: AlertTo,
    /// Whose alerts: `default` if not said, `"*"` for all tenants.
    #[serde(default)]
    pub tenant: Option<String>,
    /// The workspace that its call is made for; `default` if not said.
    #[serde(default)]
    pub workspace: Option<String>,
}

fn least() -> AlertLevel {
    AlertLevel::Info
}

/// How somebody is told.
#[derive(Debug, Clone, PartialEq)]
pub enum AlertTo {
    /// In the log, where every alert stands anyway.
    Log,
    /// By a signed request to an endpoint.
    Endpoint(String),
    /// By a tool: a message to a channel, a mail, a ticket.
    Call {
        /// The tool.
        call: String,
        /// The connection to call it over; needed only where several fit.
        connection: Option<String>,
        /// Its parameters, with `{alert.text}`, `{alert.kind}`, `{alert.level}`, `{alert.id}`, `{alert.tenant}` and `{alert.workspace}`.
        params: Map<String, Value>,
    },
}

impl<'de> Deserialize<'de> for AlertTo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Given {
            endpoint: Option<String>,
            call: Option<String>,
            connection: Option<String>,
            #[serde(default)]
            params: Map<String, Value>,
        }
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = AlertTo;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`log`, `endpoint: NAME`, or `call: TOOL` with `params`")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<AlertTo, E> {
                if text == "log" { Ok(AlertTo::Log) } else { Err(E::invalid_value(serde::de::Unexpected::Other("another word"), &self)) }
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<AlertTo, A::Error> {
                use serde::de::Error as _;
                let given = Given::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                match (given.endpoint, given.call) {
                    (Some(endpoint), None) if given.connection.is_none() && given.params.is_empty() => Ok(AlertTo::Endpoint(endpoint)),
                    (None, Some(call)) => Ok(AlertTo::Call { call, connection: given.connection, params: given.params }),
                    _ => Err(A::Error::invalid_value(serde::de::Unexpected::Other("something else"), &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// What is wrong with the three sections, with the key of each.
pub(super) fn problems(config: &HubConfig) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let sound = |id: &str| connector_webhook::ingress::route::path_id(id).as_deref() == Some(id);
    let mut tenant = |key: String, given: Option<&String>, also: &str| {
        let Some(given) = given.filter(|given| *given != also && !config.tenants.is_empty() && !config.tenants.contains(given)) else { return };
        let near = suggest::nearest(given, config.tenants.iter().map(String::as_str));
        let hint = near.map_or_else(|| format!("there are: {}", config.tenants.join(", ")), |near| format!("did you mean `{near}`?"));
        found.push((key, format!("there is no tenant `{}`; {hint}", printable(given, 63))));
    };
    for (at, rule) in config.rules.iter().enumerate() {
        tenant(format!("rules[{at}].tenant"), rule.tenant.as_ref(), "");
    }
    for (name, endpoint) in &config.endpoints {
        tenant(format!("endpoints.{name}.tenant"), endpoint.tenant.as_ref(), "");
    }
    for (at, alert) in config.alerts.iter().enumerate() {
        tenant(format!("alerts[{at}].tenant"), alert.tenant.as_ref(), ALL_TENANTS);
    }
    for (name, endpoint) in &config.endpoints {
        let key = format!("endpoints.{name}");
        if !sound(name) {
            found.push((key.clone(), "an endpoint's name is lower-case letters, digits, `-` and `_`, at most 63".into()));
        }
        for (at, secret) in endpoint.secrets.iter().enumerate() {
            if !substitute::is_reference(secret) {
                found.push((format!("{key}.secrets[{at}]"), plain_secret(&format!("{name}_secret"))));
            }
        }
        if endpoint.secrets.is_empty() || endpoint.secrets.len() > MAX_SECRETS {
            let message = "what is forwarded is signed: give one secret, or during a rotation the new one and the old one".to_owned();
            found.push((format!("{key}.secrets"), message));
        }
    }
    let mut names = BTreeSet::new();
    for (at, alert) in config.alerts.iter().enumerate() {
        let key = format!("alerts[{at}]");
        if !sound(&alert.name) {
            found.push((format!("{key}.name"), "an alert's name is lower-case letters, digits, `-` and `_`, at most 63".into()));
        } else if !names.insert(&alert.name) {
            found.push((format!("{key}.name"), format!("two alerts are called `{}`", alert.name)));
        }
        if let AlertTo::Endpoint(name) = &alert.to
            && !config.endpoints.contains_key(name)
        {
            let near = suggest::nearest(name, config.endpoints.keys().map(String::as_str));
            let hint = near.map_or_else(|| "name it under `endpoints`".to_owned(), |near| format!("did you mean `{near}`?"));
            found.push((format!("{key}.to.endpoint"), format!("there is no endpoint `{}`; {hint}", printable(name, 63))));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
tenants: [default, acme]
rules:
  - name: tickets
    on: [msgraph.message_received]
    tenant: acme
    when: [{ path: .importance, in: [high, 7] }]
    do:
      - call: desk_create_ticket
        params: { title: "{payload.subject}" }
        as: ticket
      - forward: erp
        data: { id: "{steps.ticket.id}" }
    on_failure: continue
endpoints:
  erp: { url: "https://${ERP_HOST}/hooks", secrets: ["${NEW}", "${OLD}"], tenant: acme, egress_allow: ["erp.internal:8443"] }
alerts:
  - { name: everything, to: log }
  - { name: erp, on: [dead_letter, endpoint_off], min_level: critical, to: { endpoint: erp }, tenant: "*" }
  - name: chat
    to: { call: slack_post_message, connection: slack, params: { channel: C1, text: "{alert.text}" } }
"#;

    #[test]
    fn the_three_sections_are_read() {
        let config = HubConfig::parse("hub.yaml", WHOLE).unwrap();
        assert_eq!((config.rules[0].on.as_slice(), config.rules[0].steps.len()), (&["msgraph.message_received".to_owned()][..], 2));
        assert_eq!(config.endpoints["erp"].secrets, ["${NEW}", "${OLD}"]);
        assert_eq!((config.alerts[0].to.clone(), config.alerts[0].min_level), (AlertTo::Log, AlertLevel::Info));
        assert_eq!(
            (config.alerts[1].on.as_slice(), config.alerts[1].min_level),
            (&[AlertOn::DeadLetter, AlertOn::EndpointOff][..], AlertLevel::Critical)
        );
        let AlertTo::Call { call, params, .. } = &config.alerts[2].to else { panic!("{:?}", config.alerts[2].to) };
        assert_eq!((call.as_str(), params["text"].as_str()), ("slack_post_message", Some("{alert.text}")));
        assert!(!format!("{config:?}").contains("ERP_HOST"));
    }

    #[test]
    fn mistakes_have_their_place_and_secrets_are_not_shown() {
        let shown = |text: &str| HubConfig::parse("hub.yaml", text).unwrap_err().to_string();
        let text = "
tenants: [acme]
rules:
  - { name: r, on: a.b, tenant: acmee, do: [{ alert: x }] }
endpoints:
  Bad Name: { url: x, secrets: [s3cret] }
  none: { url: x, secrets: [] }
alerts:
  - { name: a, to: { endpoint: nonne } }
  - { name: a, to: log, tenant: '*' }
";
        let found = shown(text);
        assert!(!found.contains("s3cret"), "{found}");
        for place in ["4:33", "6:3", "6:33", "7:19", "9:32", "10:13"] {
            assert!(found.contains(&format!("hub.yaml:{place}")), "{place}: {found}");
        }
        for text in [
            "alerts:\n  - { name: a, to: s3cret }",
            "alerts:\n  - { name: a, to: { endpoint: e, call: c } }",
            "rules:\n  - { name: r, on: a.b, do: [], if: x }",
        ] {
            let found = shown(text);
            assert!(found.contains("hub.yaml:2") && !found.contains("s3cret"), "{found}");
        }
    }
}
