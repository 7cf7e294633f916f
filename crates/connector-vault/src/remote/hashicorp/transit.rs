//! A key of a transit engine as a master key: it wraps data keys there and never leaves.
//!
//! Refuses `rewrap`: OpenBao 2.7 cannot re-wrap what is bound to associated data. A rotation inside the engine needs nothing from us,
//! because older versions still decrypt; to end them, the vault seals anew under a key with another id and the engine's
//! `min_decryption_version` is raised afterwards.

use std::fmt;

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use connector_core::{Error, ErrorKind, Result};
use http::{Method, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::{Call, HashiClient, complaint, mount_segments};
use crate::{
    envelope::DATA_KEY,
    key::{Binding, DataKey, MasterKey},
    remote::{data_key, encoded, json_body, path::check, secret},
};

/// A transit key. Its policy needs `update` on `<mount>/encrypt/<key>` and `<mount>/decrypt/<key>`; without `create` there, a key that
/// does not exist is not made by accident.
pub struct TransitKey {
    client: HashiClient,
    id: String,
    mount: String,
    key: String,
}

impl TransitKey {
    /// The key called `key` of the engine at `mount`, which envelopes name `id`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a mount or key that is not a path.
    pub fn new(client: HashiClient, id: &str, mount: &str, key: &str) -> Result<Self> {
        mount_segments(mount)?;
        check("transit key", key)?;
        Ok(Self { client, id: id.to_owned(), mount: mount.trim_matches('/').to_owned(), key: key.to_owned() })
    }

    async fn post(&self, verb: &'static str, body: bytes::Bytes) -> Result<super::Answer> {
        let mut path = mount_segments(&self.mount)?;
        path.extend([verb, &*self.key]);
        let needs = (format!("{}/{verb}/{}", self.mount, self.key), "update");
        self.client.call(Call { method: Method::POST, path, version: None, body, needs }).await
    }

    fn damaged(&self) -> Error {
        Error::invalid(format!("a wrapped key does not open under `{}`: it is damaged or belongs to another record", self.id))
    }

    fn missing(&self, answer: &super::Answer) -> Error {
        let what = format!("has no transit key `{}` at `{}`; make it there (`bao write -f {}/keys/{}`)", self.key, self.mount, self.mount, self.key);
        self.client.0.wire.error(ErrorKind::Config, what).with_status(answer.status.as_u16())
    }
}

impl fmt::Debug for TransitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransitKey").field("id", &self.id).field("place", &self.place()).finish()
    }
}

#[async_trait]
impl MasterKey for TransitKey {
    fn id(&self) -> &str {
        &self.id
    }

    fn place(&self) -> String {
        format!("{}, transit key `{}/{}`", self.client.place(), self.mount, self.key)
    }

    fn is_remote(&self) -> bool {
        true
    }

    async fn wrap(&self, key: &DataKey, binding: &Binding<'_>) -> Result<Vec<u8>> {
        let (plaintext, bound) = (encoded(&**key), encoded(&binding.associated(DATA_KEY)));
        let answer = self.post("encrypt", json_body(&Encrypt { plaintext: &plaintext, associated_data: &bound })?).await?;
        match answer.status {
            StatusCode::NOT_FOUND => return Err(self.missing(&answer)),
            StatusCode::BAD_REQUEST => {
                return Err(self.client.refused(&answer, "refuses to encrypt; the key must be of type `aes256-gcm96`, not derived"));
            }
            _ => {}
        }
        let sealed = serde_json::from_slice::<Sealed>(answer.body()).ok().map(|sealed| sealed.data.ciphertext);
        let sealed = sealed.filter(|text| is_sealed(text)).ok_or_else(|| self.client.odd("a transit engine"))?;
        Ok(sealed.into_bytes())
    }

    async fn unwrap(&self, wrapped: &[u8], binding: &Binding<'_>) -> Result<DataKey> {
        let ciphertext = std::str::from_utf8(wrapped).ok().filter(|text| is_sealed(text)).ok_or_else(|| self.damaged())?;
        let bound = encoded(&binding.associated(DATA_KEY));
        let answer = self.post("decrypt", json_body(&Decrypt { ciphertext, associated_data: &bound })?).await?;
        match answer.status {
            StatusCode::NOT_FOUND => return Err(self.missing(&answer)),
            StatusCode::BAD_REQUEST => {
                let complaint = complaint(&answer);
                return Err(if complaint.contains("key not found") {
                    self.missing(&answer)
                } else if complaint.contains("disallowed by policy") {
                    self.client.refused(&answer, "no longer decrypts with this version of the key; lower `min_decryption_version`")
                } else {
                    self.damaged().with_status(answer.status.as_u16())
                });
            }
            _ => {}
        }
        let opened = serde_json::from_slice::<Opened>(answer.body()).ok().and_then(|opened| data_key(opened.data.plaintext.expose_secret()));
        opened.ok_or_else(|| self.client.odd("a transit engine"))
    }
}

/// Whether this is a transit ciphertext in the one form engines write. They read others too (`v0` as `v1`, base64 with line ends in it),
/// but a wrapped key that was changed must not open, not even to the same key.
fn is_sealed(text: &str) -> bool {
    let Some((version, sealed)) = text.strip_prefix("vault:v").and_then(|rest| rest.split_once(':')) else { return false };
    let is_version = !version.starts_with('0') && (1..=10).contains(&version.len()) && version.bytes().all(|byte| byte.is_ascii_digit());
    is_version && !sealed.is_empty() && BASE64.decode(sealed).is_ok()
}

#[derive(Serialize)]
struct Encrypt<'a> {
    plaintext: &'a str,
    associated_data: &'a str,
}

#[derive(Serialize)]
struct Decrypt<'a> {
    ciphertext: &'a str,
    associated_data: &'a str,
}

#[derive(Deserialize)]
struct Sealed {
    data: Ciphertext,
}

#[derive(Deserialize)]
struct Ciphertext {
    ciphertext: String,
}

#[derive(Deserialize)]
struct Opened {
    data: Plaintext,
}

#[derive(Deserialize)]
struct Plaintext {
    #[serde(deserialize_with = "secret")]
    plaintext: SecretString,
}
