//! A master key in this process: 256 bits from the environment, a file or the keyring of the operating system.
//!
//! Refuses weak keys and key files that others could read or replace. Its bytes are wiped on drop and never shown.

use std::fmt;

use async_trait::async_trait;
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use connector_core::{Error, Result};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{Binding, DataKey, MasterKey};
use crate::{
    aead::{self, KEY, NONCE},
    envelope::{DATA_KEY, is_key_id},
};

/// What a made-up id starts from, so that the id says nothing about the key that its other uses could leak.
const ID_TAG: &[u8] = b"connectors key id";

/// How to make a key, for people.
pub(crate) const HOW: &str = "make one with `openssl rand -base64 32`";

/// A master key in memory.
pub struct LocalKey {
    id: String,
    place: String,
    key: DataKey,
}

impl fmt::Debug for LocalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKey").field("id", &self.id).field("place", &self.place).finish_non_exhaustive()
    }
}

impl LocalKey {
    /// A key from its 32 bytes. `id`: what envelopes call it, else `k` and the first eight hex digits of a digest of the key.
    /// `place`: where it came from, for people.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] if the id is not `[a-z0-9_-]{1,32}` or all bytes are the same.
    pub fn new(id: Option<&str>, key: DataKey, place: impl Into<String>) -> Result<Self> {
        let place = place.into();
        if key.iter().all(|byte| *byte == key[0]) {
            return Err(Error::config(format!("the master key in {place} is 32 times the same byte, which is no key; {HOW}")));
        }
        let id = match id {
            Some(id) if is_key_id(id) => id.to_owned(),
            Some(_) => return Err(Error::config(format!("the id of the master key in {place} must be 1 to 32 of a-z, 0-9, _ and -"))),
            None => made_up_id(&key),
        };
        Ok(Self { id, place, key })
    }

    /// A key from text: 32 bytes in base64 (either alphabet, with or without padding) or hex.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] if it is something else. The text is never part of the error.
    pub fn from_text(id: Option<&str>, text: &str, place: impl Into<String>) -> Result<Self> {
        let place = place.into();
        let key = decode(text.trim()).map_err(|why| Error::config(format!("the master key in {place} {why}; {HOW}")))?;
        Self::new(id, key, place)
    }

    /// The key in an environment variable.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] if the variable is not set or holds no key.
    pub fn from_env(id: Option<&str>, variable: &str) -> Result<Self> {
        let place = format!("environment variable {variable}");
        let text = match std::env::var(variable) {
            Ok(text) => Zeroizing::new(text),
            Err(std::env::VarError::NotPresent) => {
                return Err(Error::config(format!("the {place} is not set; it must hold the master key: {HOW}, and keep a copy of it elsewhere")));
            }
            Err(std::env::VarError::NotUnicode(_)) => return Err(Error::config(format!("the master key in {place} is not text; {HOW}"))),
        };
        Self::from_text(id, &text, place)
    }
}

fn made_up_id(key: &DataKey) -> String {
    let digest = Sha256::new().chain_update(ID_TAG).chain_update(&key[..]).finalize();
    format!("k{}", hex::encode(&digest[..4]))
}

/// Base64 in one alphabet, padded or not.
fn engine(alphabet: &alphabet::Alphabet) -> GeneralPurpose {
    GeneralPurpose::new(alphabet, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent))
}

fn decode(text: &str) -> Result<DataKey, String> {
    if text.is_empty() {
        return Err("is empty".into());
    }
    let mut key = DataKey::default();
    if text.len() == 2 * KEY && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return match hex::decode_to_slice(text, &mut *key) {
            Ok(()) => Ok(key),
            Err(_) => Err("is not hex".into()),
        };
    }
    let bytes = engine(&alphabet::STANDARD).decode(text).or_else(|_| engine(&alphabet::URL_SAFE).decode(text));
    let bytes = Zeroizing::new(bytes.map_err(|_| "is neither base64 nor hex")?);
    if bytes.len() != KEY {
        return Err(format!("is {} bytes long, it must be {KEY}", bytes.len()));
    }
    key.copy_from_slice(&bytes);
    Ok(key)
}

#[async_trait]
impl MasterKey for LocalKey {
    fn id(&self) -> &str {
        &self.id
    }

    fn place(&self) -> String {
        self.place.clone()
    }

    fn is_remote(&self) -> bool {
        false
    }

    async fn wrap(&self, key: &DataKey, binding: &Binding<'_>) -> Result<Vec<u8>> {
        let nonce = aead::random::<NONCE>()?;
        let mut out = nonce.to_vec();
        out.extend_from_slice(&aead::seal(&self.key, &nonce, &binding.associated(DATA_KEY), &key[..])?);
        Ok(out)
    }

    async fn unwrap(&self, wrapped: &[u8], binding: &Binding<'_>) -> Result<DataKey> {
        let opened = wrapped
            .split_first_chunk::<NONCE>()
            .and_then(|(nonce, sealed)| aead::open(&self.key, nonce, &binding.associated(DATA_KEY), sealed))
            .filter(|plain| plain.len() == KEY)
            .ok_or_else(|| {
                Error::invalid(format!("the wrapped data key, or what it is bound to, was changed, or `{}` is another key than it was", self.id))
            })?;
        let mut key = DataKey::default();
        key.copy_from_slice(&opened);
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

    use super::*;

    fn bytes() -> [u8; 32] {
        std::array::from_fn(|n| u8::try_from(n).unwrap() * 7 + 3)
    }

    #[test]
    fn base64_in_both_alphabets_and_hex_give_the_same_key_and_id() {
        let texts = [
            BASE64_STANDARD.encode(bytes()),
            BASE64_URL_SAFE_NO_PAD.encode(bytes()),
            hex::encode(bytes()),
            format!("{}\n", hex::encode_upper(bytes())),
        ];
        let ids: Vec<String> = texts.iter().map(|text| LocalKey::from_text(None, text, "a test").unwrap().id).collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert!(ids[0].starts_with('k') && ids[0].len() == 9 && is_key_id(&ids[0]), "{}", ids[0]);
        let digest = Sha256::digest([ID_TAG, &bytes()[..]].concat());
        assert_eq!(ids[0], format!("k{}", &hex::encode(digest)[..8]));
    }

    #[test]
    fn weak_and_wrong_keys_are_refused_without_being_shown() {
        let short = BASE64_STANDARD.encode([7; 16]);
        let cases = [
            ("", "is empty"),
            ("correct horse battery staple", "is neither base64 nor hex"),
            (short.as_str(), "is 16 bytes long, it must be 32"),
            (&BASE64_STANDARD.encode([0; 32]), "32 times the same byte"),
        ];
        for (text, why) in cases {
            let error = LocalKey::from_text(None, text, "environment variable K").unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("openssl rand -base64 32"), "{error}");
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
        let error = LocalKey::from_text(Some("Not An Id"), &hex::encode(bytes()), "a test").unwrap_err().to_string();
        assert!(error.contains("a-z, 0-9"), "{error}");
    }

    #[test]
    fn debug_shows_id_and_place_only() {
        let key = LocalKey::from_text(Some("main"), &hex::encode(bytes()), "a test").unwrap();
        assert_eq!(format!("{key:?}"), r#"LocalKey { id: "main", place: "a test", .. }"#);
    }
}
