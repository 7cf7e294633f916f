//! Rich notifications: content that Graph encrypts for the connection's certificate, and the tokens that come with it.
//! <https://learn.microsoft.com/graph/change-notifications-with-resource-data>
//!
//! Owns the order: tokens, then the signature of the content, then its decryption. Refuses to decrypt what any of them does not prove.
//! Everything here is computed offline. Microsoft's signing keys must be handed in ([`SigningKeys::set`]); nothing here fetches them.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use aws_lc_rs::{
    cipher::{AES_256, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey},
    hmac,
    rsa::{OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, PrivateDecryptingKey},
    signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::Value;

/// Who Graph's change notifications come from, in every tenant.
const PUBLISHER: &str = "0bf30f3b-4a52-48df-9a82-234910c4a086";
/// How far clocks may be apart, in seconds.
const LEEWAY: u64 = 300;
/// The longest content that is decrypted, in bytes.
const LONGEST: usize = 1 << 20;
/// Tokens of one delivery; there is one for each app and tenant in it.
const MOST_TOKENS: usize = 20;
/// Keys that are remembered.
const MOST_KEYS: usize = 100;

/// Why content stays closed. The words are stored with the event.
pub(crate) type Closed = &'static str;

/// Microsoft's keys for validation tokens, by key id. Clones share them, so they can be exchanged while the hub runs.
#[derive(Debug, Clone, Default)]
pub struct SigningKeys(Arc<RwLock<HashMap<String, Modulus>>>);

#[derive(Debug, Clone)]
struct Modulus {
    n: Vec<u8>,
    e: Vec<u8>,
}

impl SigningKeys {
    /// Takes the keys of a JWK set, as `https://login.microsoftonline.com/common/discovery/v2.0/keys` gives it, instead of those before; how
    /// many there are. A set without a usable RSA key changes nothing and gives 0.
    pub fn set(&self, jwks: &[u8]) -> usize {
        let Ok(set) = serde_json::from_slice::<Value>(jwks) else { return 0 };
        let part = |key: &Value, name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str()?).ok();
        let keys = set["keys"].as_array().into_iter().flatten().filter(|key| key["kty"] == "RSA").take(MOST_KEYS);
        let keys: HashMap<String, Modulus> =
            keys.filter_map(|key| Some((key["kid"].as_str()?.to_owned(), Modulus { n: part(key, "n")?, e: part(key, "e")? }))).collect();
        let count = keys.len();
        if count > 0 {
            *self.0.write().unwrap_or_else(PoisonError::into_inner) = keys;
        }
        count
    }
}

/// A connection's private key, with the app it belongs to.
#[derive(Debug)]
pub(crate) struct PrivateKey {
    key: OaepPrivateDecryptingKey,
    app_id: Option<String>,
}

impl PrivateKey {
    /// Reads PKCS#8 in PEM. A line `app-id: …` before it (RFC 7468 allows such text) says for which app tokens must be.
    pub(crate) fn from_pem(text: &str) -> Option<Self> {
        let (before, rest) = text.split_once("-----BEGIN PRIVATE KEY-----")?;
        let (body, _) = rest.split_once("-----END PRIVATE KEY-----")?;
        let body: String = body.chars().filter(|c| !c.is_whitespace()).collect();
        let key = PrivateDecryptingKey::from_pkcs8(&STANDARD.decode(body).ok()?).ok()?;
        let app_id = before.lines().find_map(|line| line.trim().strip_prefix("app-id:")).map(|id| id.trim().to_owned());
        Some(Self { key: OaepPrivateDecryptingKey::new(key).ok()?, app_id })
    }
}

/// Opens an item's `encryptedContent` with whichever of the keys it was made for; two may be valid while a certificate is exchanged.
pub(crate) fn open(content: &Value, keys: &[PrivateKey]) -> Result<Value, Closed> {
    const UNREADABLE: Closed = "the encrypted content is not written as Graph writes it";
    let bytes = |name: &str| content[name].as_str().and_then(|text| STANDARD.decode(text).ok()).ok_or(UNREADABLE);
    let (mut data, data_key, signature) = (bytes("data")?, bytes("dataKey")?, bytes("dataSignature")?);
    if data.len() > LONGEST {
        return Err("the encrypted content is longer than 1 MiB");
    }
    for key in keys {
        let mut room = vec![0; key.key.min_output_size()];
        let Ok(symmetric) = key.key.decrypt(&OAEP_SHA1_MGF1SHA1, &data_key, &mut room, None) else { continue };
        // The signature decides, in constant time, before anything is decrypted: no padding oracle.
        if symmetric.len() != 32 || hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, symmetric), &data, &signature).is_err() {
            return Err("the signature of the encrypted content does not fit; it was not decrypted");
        }
        let start: [u8; 16] = symmetric[..16].try_into().map_err(|_| UNREADABLE)?;
        let cipher = UnboundCipherKey::new(&AES_256, symmetric).and_then(PaddedBlockDecryptingKey::cbc_pkcs7).map_err(|_| UNREADABLE)?;
        let plain = cipher.decrypt(&mut data, DecryptionContext::Iv128((&start).into())).map_err(|_| UNREADABLE)?;
        return serde_json::from_slice(plain).map_err(|_| "the decrypted content is not JSON");
    }
    Err("none of the connection's private keys opens the encrypted content")
}

/// Checks all validation tokens of a delivery: RS256 under one of Microsoft's keys, publisher, audience, issuer of one of the items' tenants,
/// and time.
pub(crate) fn tokens(delivery: &Value, signing: &SigningKeys, keys: &[PrivateKey], now: u64) -> Result<(), Closed> {
    let tokens = delivery["validationTokens"].as_array().filter(|tokens| (1..=MOST_TOKENS).contains(&tokens.len()));
    let tokens = tokens.ok_or("the delivery holds no validation tokens")?;
    let apps: Vec<&str> = keys.iter().filter_map(|key| key.app_id.as_deref()).collect();
    if apps.is_empty() {
        return Err("no private key says for which app it is (a line `app-id: …` before the PEM), so no token can be checked");
    }
    let tenants: Vec<&str> = delivery["value"].as_array().into_iter().flatten().filter_map(|item| item["tenantId"].as_str()).collect();
    let known = signing.0.read().unwrap_or_else(PoisonError::into_inner);
    if known.is_empty() {
        return Err("Microsoft's signing keys were not handed in, so no token can be checked");
    }
    tokens.iter().try_for_each(|token| one_token(token.as_str().unwrap_or_default(), &known, &apps, &tenants, now))
}

fn one_token(token: &str, known: &HashMap<String, Modulus>, apps: &[&str], tenants: &[&str], now: u64) -> Result<(), Closed> {
    const UNREADABLE: Closed = "a validation token cannot be read";
    let (signed, signature) = token.rsplit_once('.').ok_or(UNREADABLE)?;
    let (head, body) = signed.split_once('.').ok_or(UNREADABLE)?;
    let read = |part: &str| URL_SAFE_NO_PAD.decode(part).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok()).ok_or(UNREADABLE);
    let (head, claims) = (read(head)?, read(body)?);
    if head["alg"] != "RS256" {
        return Err("a validation token is not signed with RS256");
    }
    let key =
        head["kid"].as_str().and_then(|kid| known.get(kid)).ok_or("a validation token is signed with a key that is not Microsoft's, or too new")?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| UNREADABLE)?;
    let public = RsaPublicKeyComponents { n: &key.n, e: &key.e };
    public.verify(&RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &signature).map_err(|_| "the signature of a validation token does not fit")?;
    let text = |name: &str| claims[name].as_str().unwrap_or_default();
    if text("appid") != PUBLISHER && text("azp") != PUBLISHER {
        return Err("a validation token is not from Graph's change notifications");
    }
    if !apps.contains(&text("aud")) {
        return Err("a validation token is for another app");
    }
    if !tenants.iter().any(|tenant| text("iss") == format!("https://sts.windows.net/{tenant}/")) {
        return Err("a validation token is from another tenant than the notifications");
    }
    let until = claims["exp"].as_u64().ok_or(UNREADABLE)?;
    let from = claims["nbf"].as_u64().unwrap_or(0);
    if now > until.saturating_add(LEEWAY) || now.saturating_add(LEEWAY) < from {
        return Err("a validation token is expired or not valid yet");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
