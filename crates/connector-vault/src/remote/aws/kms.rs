//! A KMS key as a master key. What a data key is bound to is KMS's encryption context, which CloudTrail logs in the clear: tenant,
//! names and numbers, no secrets.

use std::fmt;

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use connector_core::{Error, ErrorKind, Result};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::{AwsClient, Fault};
use crate::{
    key::{Binding, DataKey, MasterKey},
    remote::{data_key, encoded, json_body, secret},
};

/// The longest wrapped key KMS takes back, in bytes.
const MAX_WRAPPED: usize = 6144;

/// A symmetric KMS key. Its users need `kms:Encrypt` and `kms:Decrypt`, best with a condition on `kms:EncryptionContext:tenant`.
pub struct KmsKey {
    client: AwsClient,
    id: String,
    key: String,
}

impl KmsKey {
    /// The key `key` (`alias/connectors`, an id or an ARN), which envelopes name `id`. An alias that is moved to another key takes the
    /// data keys sealed before out of reach: give the new key an id of its own instead.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if this cannot name a key.
    pub fn new(client: AwsClient, id: &str, key: &str) -> Result<Self> {
        let is_key = (1..=2048).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_/:".contains(&byte));
        if !is_key {
            return Err(Error::config(format!(
                "`{}` is not a KMS key; write it like `alias/connectors`, or give its id or ARN",
                connector_core::redact::printable(key, 80)
            )));
        }
        Ok(Self { client, id: id.to_owned(), key: key.to_owned() })
    }

    fn refused(&self, fault: Fault) -> Error {
        let key = &self.key;
        let what = match fault.code.as_str() {
            "NotFoundException" => format!("has no key `{key}` here; check the name and the region"),
            "DisabledException" => format!("says that the key `{key}` is disabled; enable it"),
            "KMSInvalidStateException" => format!("cannot use the key `{key}` in its state; if its deletion is scheduled, cancel that"),
            "InvalidKeyUsageException" => format!("says that the key `{key}` is not for encryption; it must be symmetric, for ENCRYPT_DECRYPT"),
            _ => format!("refuses to use the key `{key}`"),
        };
        self.client.error(ErrorKind::Config, fault, what)
    }
}

impl fmt::Debug for KmsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KmsKey").field("id", &self.id).field("place", &self.place()).finish()
    }
}

#[async_trait]
impl MasterKey for KmsKey {
    fn id(&self) -> &str {
        &self.id
    }

    fn place(&self) -> String {
        format!("AWS KMS `{}` in {}", self.key, self.client.region)
    }

    fn is_remote(&self) -> bool {
        true
    }

    async fn wrap(&self, key: &DataKey, binding: &Binding<'_>) -> Result<Vec<u8>> {
        let version = binding.version.to_string();
        let plaintext = encoded(&**key);
        let body = Encrypt { key_id: &self.key, plaintext: &plaintext, encryption_context: Context::of(binding, &version) };
        let answer = self.client.call("Encrypt", json_body(&body)?).await?.map_err(|fault| self.refused(fault))?;
        let sealed: Option<Encrypted> = serde_json::from_slice(answer.body()).ok();
        let sealed = sealed.and_then(|sealed| BASE64.decode(sealed.ciphertext_blob).ok());
        sealed.filter(|sealed| (1..=MAX_WRAPPED).contains(&sealed.len())).ok_or_else(|| self.client.odd())
    }

    async fn unwrap(&self, wrapped: &[u8], binding: &Binding<'_>) -> Result<DataKey> {
        let damaged = || format!("a wrapped key does not open under `{}`: it is damaged or belongs to another record", self.id);
        if wrapped.is_empty() || wrapped.len() > MAX_WRAPPED {
            return Err(Error::invalid(damaged()));
        }
        let version = binding.version.to_string();
        let blob = encoded(wrapped);
        let body = Decrypt { ciphertext_blob: &blob, encryption_context: Context::of(binding, &version), key_id: &self.key };
        let answer = match self.client.call("Decrypt", json_body(&body)?).await? {
            Ok(answer) => answer,
            Err(fault) => {
                return Err(match fault.code.as_str() {
                    "InvalidCiphertextException" => fault.on(Error::invalid(damaged())),
                    "IncorrectKeyException" => fault.on(Error::invalid(format!(
                        "{}, or `{}` was moved to another KMS key: list the old one under `vault.keys` with the id it had",
                        damaged(),
                        self.key
                    ))),
                    _ => self.refused(fault),
                });
            }
        };
        let opened: Option<Decrypted> = serde_json::from_slice(answer.body()).ok();
        opened.and_then(|opened| data_key(opened.plaintext.expose_secret())).ok_or_else(|| self.client.odd())
    }
}

#[derive(Serialize)]
struct Context<'a> {
    tenant: &'a str,
    credential: &'a str,
    field: &'a str,
    version: &'a str,
    key_id: &'a str,
}

impl<'a> Context<'a> {
    fn of(binding: &Binding<'a>, version: &'a str) -> Self {
        Self { tenant: binding.tenant.as_str(), credential: binding.credential, field: binding.field, version, key_id: binding.key_id }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Encrypt<'a> {
    key_id: &'a str,
    plaintext: &'a str,
    encryption_context: Context<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Decrypt<'a> {
    ciphertext_blob: &'a str,
    encryption_context: Context<'a>,
    key_id: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Encrypted {
    ciphertext_blob: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Decrypted {
    #[serde(deserialize_with = "secret")]
    plaintext: SecretString,
}
