//! The `vault:` section of `hub.yaml`: where the master keys are, which external stores are read through, how long things are kept.
//!
//! Owns the shape and its checks. Refuses secrets in plain text: what authenticates is a `${VAR}`, and a key is named by its place.

mod fill;
mod open;
mod place;

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use serde::{Deserialize, Deserializer};

use self::place::Place;
use crate::{envelope::is_key_id, remote::PathTemplate};

pub use open::{MASTER_KEY, OpenDeps, open};

/// How long what was opened may be kept, if the configuration does not say.
const KEEP_FOR: Duration = Duration::from_secs(300);
/// The longest it may be kept: a revocation elsewhere must be noticed the same hour.
const MAX_KEEP_FOR: Duration = Duration::from_secs(3600);
/// Where secrets lie in a manager, if the configuration does not say.
const PATH: &str = "connectors/{tenant}/{name}";

/// The `vault:` section. `Debug` shows no secrets; there are none in it that passed [`VaultConfig::problems`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VaultConfig {
    /// The master keys. The first one seals, all of them open. Without any: the variable [`MASTER_KEY`], else a file in the data directory.
    pub keys: Vec<KeyConfig>,
    /// External stores by name; a connection names a secret `name:rest`.
    pub stores: BTreeMap<String, StoreConfig>,
    /// How long what was opened is kept in memory (`5m`, which is the default; at most `1h`).
    pub keep_for: Option<String>,
}

/// One master key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyConfig {
    /// What envelopes call it: `[a-z0-9_-]{1,32}`. Never given to another key.
    pub id: String,
    /// Where it is: `env:VARIABLE`, `file:/path`, `keyring:SERVICE/ACCOUNT`, `aws-kms:KEY?region=..&endpoint=..`,
    /// `transit:https://HOST:8200/MOUNT/KEY`.
    pub from: String,
    /// For `transit:`: the token, as `${VAR}`.
    #[serde(default)]
    pub token: Option<SecretRef>,
    /// For `transit:`: the AppRole login instead of a token.
    #[serde(default)]
    pub approle: Option<AppRoleConfig>,
    /// For `transit:`: the namespace.
    #[serde(default)]
    pub namespace: Option<String>,
}

/// An external store.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StoreConfig {
    /// HashiCorp Vault or OpenBao, KV version 2.
    Hashicorp(HashicorpConfig),
    /// AWS Secrets Manager.
    AwsSecretsManager(SecretsManagerConfig),
    /// A folder of files.
    File(FileConfig),
    /// Environment variables.
    Env(EnvConfig),
}

/// `kind: hashicorp`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HashicorpConfig {
    /// The server: `https://bao.internal:8200`.
    pub url: String,
    /// Where the KV engine is mounted: `secret` if not said.
    #[serde(default)]
    pub mount: Option<String>,
    /// Where secrets lie in it: `connectors/{tenant}/{name}` if not said.
    #[serde(default)]
    pub path: Option<String>,
    /// The token, as `${VAR}`.
    #[serde(default)]
    pub token: Option<SecretRef>,
    /// The AppRole login instead of a token.
    #[serde(default)]
    pub approle: Option<AppRoleConfig>,
    /// The namespace.
    #[serde(default)]
    pub namespace: Option<String>,
}

/// An AppRole login.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppRoleConfig {
    /// The role.
    pub role_id: String,
    /// Its secret, as `${VAR}`.
    pub secret_id: SecretRef,
    /// Where the method is mounted: `approle` if not said.
    #[serde(default)]
    pub mount: Option<String>,
}

/// `kind: aws_secrets_manager`. Credentials come from the environment, a web identity or the container.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretsManagerConfig {
    /// The region; `AWS_REGION` if not said.
    #[serde(default)]
    pub region: Option<String>,
    /// How secrets are named: `connectors/{tenant}/{name}` if not said.
    #[serde(default)]
    pub path: Option<String>,
    /// Another endpoint than the public one.
    #[serde(default)]
    pub endpoint: Option<String>,
}

/// `kind: file`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// The folder with a folder for each tenant.
    pub dir: PathBuf,
}

/// `kind: env`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvConfig {
    /// What the variables start with.
    pub prefix: String,
    /// Fields to look for besides the usual ones.
    #[serde(default)]
    pub fields: Vec<String>,
}

/// Where a secret is: `${VAR}`. `Debug` hides what is not such a reference.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretRef(String);

impl SecretRef {
    /// The secret in this text: `${VAR}`, or anything else, which [`VaultConfig::problems`] refuses.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    fn is_reference(&self) -> bool {
        fill::is_reference(&self.0)
    }
}

impl fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_reference() { &self.0 } else { connector_core::redact::REDACTED })
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        // Written out, because the usual refusal of a number quotes the number, and it may be the secret.
        macro_rules! refuse {
            ($($name:ident: $type:ty),*) => {
                $(fn $name<E: serde::de::Error>(self, _: $type) -> Result<SecretRef, E> {
                    Err(E::custom("a reference such as \"${VAULT_TOKEN}\" belongs here"))
                })*
            };
        }
        impl serde::de::Visitor<'_> for Visitor {
            type Value = SecretRef;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a reference such as \"${VAULT_TOKEN}\"")
            }

            fn visit_str<E>(self, text: &str) -> Result<SecretRef, E> {
                Ok(SecretRef(text.to_owned()))
            }

            refuse!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_i128: i128, visit_u128: u128, visit_f64: f64, visit_bytes: &[u8]);
        }
        // Not `deserialize_str`, with which the reader refuses a number itself, and quotes it.
        deserializer.deserialize_any(Visitor)
    }
}

impl VaultConfig {
    /// What is wrong, each with the path of its key in `hub.yaml` (`vault.keys[0].id`) and how to mend it. No value that may be a secret
    /// is shown.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for (at, key) in self.keys.iter().enumerate() {
            key.problems(&format!("vault.keys[{at}]"), &mut found);
            if self.keys[..at].iter().any(|other| other.id == key.id) {
                found
                    .push((format!("vault.keys[{at}].id"), format!("two keys are called `{}`; each has an id of its own, for ever", shown(&key.id))));
            }
        }
        for (name, store) in &self.stores {
            let at = format!("vault.stores.{name}");
            if !is_key_id(name) {
                found.push((at.clone(), "a store's name is lower-case letters, digits, `-` and `_`, at most 32".into()));
            }
            store.problems(&at, name, &mut found);
        }
        if self.keep().is_none() {
            found.push(("vault.keep_for".into(), "write a time from `1s` to `1h`, like `5m`".into()));
        }
        found
    }

    /// How long things are kept; `None` if what is written is not a time that may be.
    fn keep(&self) -> Option<Duration> {
        let Some(text) = &self.keep_for else { return Some(KEEP_FOR) };
        let digits = text.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = text.split_at(digits);
        let unit = match unit {
            "s" => 1,
            "m" | "min" => 60,
            "h" => 3600,
            _ => return None,
        };
        let time = Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(unit)?);
        Some(time).filter(|time| (Duration::from_secs(1)..=MAX_KEEP_FOR).contains(time))
    }
}

impl KeyConfig {
    fn problems(&self, at: &str, found: &mut Vec<(String, String)>) {
        if !is_key_id(&self.id) {
            found.push((format!("{at}.id"), "a key's id is lower-case letters, digits, `-` and `_`, at most 32".into()));
        }
        let mut is_transit = self.from.starts_with("transit:");
        // What has a variable in it can be read when the variable is.
        if !self.from.contains("${") {
            match Place::parse(&self.from) {
                Ok(place) => is_transit = matches!(place, Place::Transit { .. }),
                Err(why) => found.push((format!("{at}.from"), why)),
            }
        }
        if is_transit {
            login_problems(at, "TRANSIT", self.token.as_ref(), self.approle.as_ref(), found);
        } else {
            let given = [("token", self.token.is_some()), ("approle", self.approle.is_some()), ("namespace", self.namespace.is_some())];
            for (name, _) in given.iter().filter(|(_, given)| *given) {
                found.push((format!("{at}.{name}"), "this is for `transit:` keys only; remove it".into()));
            }
        }
    }
}

impl StoreConfig {
    fn problems(&self, at: &str, name: &str, found: &mut Vec<(String, String)>) {
        let path = match self {
            Self::Hashicorp(config) => {
                login_problems(at, name, config.token.as_ref(), config.approle.as_ref(), found);
                config.path.as_deref()
            }
            Self::AwsSecretsManager(config) => config.path.as_deref(),
            Self::File(_) | Self::Env(_) => None,
        };
        if let Some(path) = path
            && let Err(error) = PathTemplate::parse(path)
        {
            found.push((format!("{at}.path"), error.message().to_owned()));
        }
    }
}

/// A Vault server needs one of the two logins, and neither in plain text.
fn login_problems(at: &str, name: &str, token: Option<&SecretRef>, approle: Option<&AppRoleConfig>, found: &mut Vec<(String, String)>) {
    let mut refuse = |key: &str, secret: &SecretRef| {
        if !secret.is_reference() {
            let leaf = key.rsplit('.').next().unwrap_or(key);
            let variable: String =
                format!("{name}_{leaf}").chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
            let message = format!(
                "a secret stands here in plain text, where backups and colleagues read it; set an environment variable and write \"${{{variable}}}\""
            );
            found.push((format!("{at}.{key}"), message));
        }
    };
    match (token, approle) {
        (Some(token), None) => refuse("token", token),
        (None, Some(approle)) => refuse("approle.secret_id", &approle.secret_id),
        (Some(token), Some(approle)) => {
            refuse("token", token);
            refuse("approle.secret_id", &approle.secret_id);
            found.push((format!("{at}.approle"), "`token` and `approle` are two ways to log in; keep one".into()));
        }
        (None, None) => {
            found.push((at.to_owned(), "this server needs a login: `token: \"${VAULT_TOKEN}\"`, or `approle: { role_id, secret_id }`".into()));
        }
    }
}

fn shown(text: &str) -> String {
    connector_core::redact::printable(text, 60)
}

#[cfg(test)]
mod open_tests;
#[cfg(test)]
mod tests;
