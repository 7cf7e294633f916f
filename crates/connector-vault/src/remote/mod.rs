//! Keys and secrets that live elsewhere: HashiCorp Vault and OpenBao, AWS KMS and Secrets Manager, folders of files, the environment.
//!
//! Owns the few calls each of them takes, over the [`Transport`](connector_core::transport::Transport) the program brings. Refuses to
//! write secrets, to keep them (the vault does), and to show what a server answered beyond its scrubbed error text.

mod aws;
mod env;
mod file;
mod hashicorp;
mod path;
mod wire;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use connector_core::{Error, Result};
use secrecy::SecretString;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::key::DataKey;

pub use aws::{AwsClient, AwsCredentials, AwsService, KmsKey, SecretsManagerStore};
pub use env::EnvStore;
pub use file::FileStore;
pub use hashicorp::{HashiAuth, HashiClient, KvStore, TransitKey};
pub use path::PathTemplate;
pub(crate) use path::is_plain;

/// Where environment variables come from.
pub type Env = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// How long after a rotation the version before is offered besides. A manager keeps old versions for months; a secret that was
/// replaced because it leaked must not be accepted for that long.
pub const OVERLAP: Duration = Duration::from_secs(24 * 3600);

/// Bytes as base64, wiped on drop.
fn encoded(bytes: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(BASE64.encode(bytes))
}

/// A data key from its base64 form.
fn data_key(text: &str) -> Option<DataKey> {
    let bytes = Zeroizing::new(BASE64.decode(text).ok()?);
    let mut key = Zeroizing::new([0; 32]);
    if bytes.len() != key.len() {
        return None;
    }
    key.copy_from_slice(&bytes);
    Some(key)
}

/// A request body that is wiped when the last holder drops it.
fn json_body(value: &impl serde::Serialize) -> Result<bytes::Bytes> {
    // Room for the whole, so that no half-grown copy stays behind in freed memory.
    let mut text = Zeroizing::new(Vec::with_capacity(8 * 1024));
    serde_json::to_writer(&mut *text, value).map_err(|_| Error::internal("a request could not be written as JSON"))?;
    Ok(bytes::Bytes::from_owner(text))
}

/// Deserialises a text straight into a secret.
fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

/// The fields of a JSON object: texts as they are, `null` left out, everything else as the JSON text it was written in, which is what a
/// service account key kept as an object should become.
fn fields(object: BTreeMap<String, &RawValue>) -> Option<BTreeMap<String, SecretString>> {
    let mut fields = BTreeMap::new();
    for (name, value) in object {
        let text = value.get();
        let secret = match text.as_bytes().first() {
            Some(b'"') => serde_json::from_str::<String>(text).ok()?,
            Some(b'n') => continue,
            _ => text.to_owned(),
        };
        fields.insert(name, SecretString::from(secret));
    }
    Some(fields)
}

/// A number for a version that has only a name: changes with it, and fits what JSON readers take for an integer.
fn version_of(name: &str) -> u64 {
    let digest = Sha256::digest(name.as_bytes());
    let mut number = [0; 8];
    number.copy_from_slice(&digest[..8]);
    (u64::from_be_bytes(number) >> 11).max(1)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn fields_are_texts_and_nested_objects_stay_json() {
        let object = serde_json::from_str(r#"{"a":"x\ny","n":7,"none":null,"key":{"type":"service_account"}}"#).unwrap();
        let fields = fields(object).unwrap();
        let shown: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).collect();
        assert_eq!(shown, [("a", "x\ny"), ("key", r#"{"type":"service_account"}"#), ("n", "7")]);
    }

    #[test]
    fn a_data_key_has_32_bytes() {
        assert!(data_key(&BASE64.encode([7; 32])).is_some());
        for wrong in [String::new(), BASE64.encode([7; 31]), BASE64.encode([7; 33]), "not base64!".into()] {
            assert!(data_key(&wrong).is_none());
        }
    }

    #[test]
    fn a_named_version_changes_with_its_name() {
        assert_eq!(version_of("a"), version_of("a"));
        assert_ne!(version_of("a"), version_of("b"));
        assert!(version_of("a") < 1 << 53);
    }
}
