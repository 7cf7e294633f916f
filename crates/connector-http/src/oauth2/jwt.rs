//! Signed assertions (RFC 7523): what a program says about itself instead of showing a secret, signed with its private key.
//!
//! Owns reading the key, the header, the claims and the signature. Refuses keys it would have to guess about (encrypted, SEC 1, wrong
//! kind for the algorithm) and never shows a byte of one: errors name the credential's field and what is expected there.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use connector_core::{
    clock::{Clock, unix_seconds},
    context::Connection,
    credential::Credential,
    error::{Error, Result},
    spec::{AssertionSpec, JwtAlgorithm},
};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair},
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::template;

/// Seconds an assertion is good for if the spec does not say. Vendors allow from 3 minutes (Salesforce) to an hour (Google).
const LIFETIME: u64 = 300;

/// How far `nbf` lies before `iat`, so that a clock that runs behind ours does not refuse the assertion.
const BACKDATED: u64 = 30;

/// What an assertion is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It is the grant itself: it speaks for a user (RFC 7523 §2.1).
    Grant,
    /// It proves the client at the token endpoint (RFC 7523 §2.2).
    ClientAuth,
}

/// Everything an assertion is made from besides its spec.
pub(super) struct AssertionAsk<'a> {
    pub(super) purpose: Purpose,
    pub(super) connection: &'a Connection,
    pub(super) credential: &'a Credential,
    /// Where it is sent, filled: the audience if the spec names none.
    pub(super) token_url: &'a str,
    /// The scopes, written as the form would have them.
    pub(super) scopes: &'a str,
    pub(super) clock: &'a dyn Clock,
}

/// The members of a Google service account's key file that are used.
#[derive(Deserialize)]
struct ServiceAccount {
    #[serde(deserialize_with = "secret")]
    private_key: SecretString,
    #[serde(default)]
    private_key_id: Option<String>,
    #[serde(default)]
    client_email: Option<String>,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

/// A signed JWT.
///
/// The key is the credential's `private_key` (PEM), or a Google service account's key file in `service_account` or in `private_key`. Its
/// `client_email` is then the issuer unless the spec names one, its `private_key_id` the `kid`; otherwise the field `key_id` is.
///
/// # Errors
/// [`connector_core::ErrorKind::Config`] that names the field and what is expected in it.
pub(super) fn assertion(spec: &AssertionSpec, ask: &AssertionAsk<'_>) -> Result<SecretString> {
    let name = ask.connection.credential.as_deref().unwrap_or_default();
    let source = Source::of(ask.credential, name)?;
    let key = Key::parse(source.pem.expose_secret(), spec.algorithm, name, source.field)?;
    let mut header = Map::from_iter([("alg".into(), algorithm(spec.algorithm)?), ("typ".into(), "JWT".into())]);
    if let Some(id) = text(ask.credential, "key_id").or(source.key_id.as_deref()) {
        header.insert("kid".into(), id.into());
    }
    if spec.thumbprint {
        header.insert("x5t#S256".into(), thumbprint(ask.credential, name)?.into());
    }
    let claims = claims(spec, ask, source.email.as_deref())?;
    let part = |map: Map<String, Value>| URL_SAFE_NO_PAD.encode(Value::Object(map).to_string());
    let mut jwt = format!("{}.{}", part(header), part(claims));
    let signature = key.sign(jwt.as_bytes()).ok_or_else(|| Error::internal("an assertion could not be signed"))?;
    jwt.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut jwt);
    Ok(jwt.into())
}

fn claims(spec: &AssertionSpec, ask: &AssertionAsk<'_>, email: Option<&str>) -> Result<Map<String, Value>> {
    let name = ask.connection.credential.as_deref().unwrap_or_default();
    let client_id = text(ask.credential, "client_id");
    let subject = text(ask.credential, "subject");
    let facts: Vec<_> = [("client_id", client_id), ("subject", subject), ("client_email", email)]
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
        .collect();
    let fill = |template: &str| {
        // Facts of the credential are not settings: say where they belong.
        if let Some(missing) =
            ["client_id", "subject"].iter().find(|fact| template.contains(&format!("{{{fact}}}")) && text(ask.credential, fact).is_none())
        {
            return Err(Error::config(format!("credential `{name}` needs the field `{missing}`, which the signed assertion names")));
        }
        template::fill_with(template, ask.connection, &facts, |value| (!value.is_empty()).then(|| value.to_owned()))
    };
    let own = || {
        client_id
            .map(str::to_owned)
            .ok_or_else(|| Error::config(format!("credential `{name}` needs the field `client_id`, whom the signed assertion is from")))
    };
    let issuer = match (&spec.issuer, email) {
        (Some(issuer), _) => fill(issuer)?,
        (None, Some(email)) if ask.purpose == Purpose::Grant => email.to_owned(),
        (None, _) => own()?,
    };
    let subject = match (&spec.subject, ask.purpose) {
        (Some(subject), _) => Some(fill(subject)?),
        // A service account without a subject speaks for itself.
        (None, Purpose::Grant) => subject.map(str::to_owned),
        (None, Purpose::ClientAuth) => Some(own()?),
    };
    let audience = match &spec.audience {
        Some(audience) => fill(audience)?,
        None => ask.token_url.to_owned(),
    };
    let now = unix_seconds(ask.clock.wall());
    let mut claims = Map::from_iter([
        ("iss".into(), issuer.into()),
        ("aud".into(), audience.into()),
        ("iat".into(), now.into()),
        ("nbf".into(), now.saturating_sub(BACKDATED).into()),
        ("exp".into(), now.saturating_add(spec.lifetime.unwrap_or(LIFETIME)).into()),
        ("jti".into(), unique()?.into()),
    ]);
    if let Some(subject) = subject {
        claims.insert("sub".into(), subject.into());
    }
    if spec.scope_claim && !ask.scopes.is_empty() {
        claims.insert("scope".into(), ask.scopes.into());
    }
    Ok(claims)
}

/// The algorithm's name in a header, which is its name in a manifest.
fn algorithm(algorithm: JwtAlgorithm) -> Result<Value> {
    serde_json::to_value(algorithm).map_err(|_| Error::internal("the name of a signature algorithm could not be written"))
}

fn text<'a>(credential: &'a Credential, field: &str) -> Option<&'a str> {
    credential.field(field).map(|value| value.expose_secret().trim()).filter(|value| !value.is_empty())
}

/// A random UUID (version 4), for `jti`.
fn unique() -> Result<String> {
    let mut bytes = [0_u8; 16];
    super::authorize::random(&mut bytes)?;
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let mut id = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            id.push('-');
        }
        write!(id, "{byte:02x}").map_err(|_| Error::internal("an id could not be written"))?;
    }
    Ok(id)
}

/// The thumbprint of the credential's certificate: base64url of SHA-256 over its DER (RFC 7515 §4.1.8).
fn thumbprint(credential: &Credential, name: &str) -> Result<String> {
    let pem = lines(credential.require(name, "certificate")?.expose_secret());
    let certificate = CertificateDer::from_pem_slice(pem.expose_secret().as_bytes()).map_err(|_| {
        Error::config(format!("the field `certificate` of credential `{name}` is not a certificate in PEM form (-----BEGIN CERTIFICATE-----)"))
    })?;
    Ok(URL_SAFE_NO_PAD.encode(Sha256::digest(&certificate)))
}

/// `\n` written out, as environment variables and copies from JSON have it, becomes a line break.
fn lines(text: &str) -> SecretString {
    text.replace("\\r", "").replace("\\n", "\n").into()
}

/// Where the key came from.
struct Source {
    pem: SecretString,
    field: &'static str,
    key_id: Option<String>,
    email: Option<String>,
}

impl Source {
    fn of(credential: &Credential, name: &str) -> Result<Self> {
        let field = if text(credential, "service_account").is_some() { "service_account" } else { "private_key" };
        let held = credential.require(name, field)?.expose_secret().trim();
        if field == "private_key" && !held.starts_with('{') {
            return Ok(Self { pem: lines(held), field, key_id: None, email: None });
        }
        // serde's messages quote what they dislike, and that may be the key.
        let account: ServiceAccount = serde_json::from_str(held).map_err(|_| {
            Error::config(format!(
                "the field `{field}` of credential `{name}` is not a service account's key file: JSON with `private_key` and `client_email` is expected"
            ))
        })?;
        Ok(Self { pem: lines(account.private_key.expose_secret()), field, key_id: account.private_key_id, email: account.client_email })
    }
}

/// A key that can sign with its algorithm.
enum Key {
    Rsa(RsaKeyPair, bool),
    Ec(EcdsaKeyPair),
}

impl Key {
    fn parse(pem: &str, algorithm: JwtAlgorithm, name: &str, field: &str) -> Result<Self> {
        let refuse = |why: &str| Error::config(format!("the field `{field}` of credential `{name}` {why}"));
        if pem.contains("ENCRYPTED") {
            return Err(refuse("is an encrypted key; decrypt it first (`openssl pkcs8 -topk8 -nocrypt`), the vault encrypts it again"));
        }
        let der = PrivateKeyDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| refuse("is not a private key in PEM form (-----BEGIN PRIVATE KEY----- or -----BEGIN RSA PRIVATE KEY-----)"))?;
        let pss = algorithm == JwtAlgorithm::Ps256;
        match (algorithm, &der) {
            (JwtAlgorithm::Es256, PrivateKeyDer::Pkcs8(key)) => {
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.secret_pkcs8_der(), &SystemRandom::new())
                    .map(Self::Ec)
                    .map_err(|_| refuse("is not an elliptic curve key on P-256 in PKCS#8 form, which ES256 signs with"))
            }
            (JwtAlgorithm::Rs256 | JwtAlgorithm::Ps256, PrivateKeyDer::Pkcs8(key)) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der())
                .map(|key| Self::Rsa(key, pss))
                .map_err(|_| refuse("is not an RSA key of 2,048 to 4,096 bits, which RS256 and PS256 sign with")),
            (JwtAlgorithm::Rs256 | JwtAlgorithm::Ps256, PrivateKeyDer::Pkcs1(key)) => RsaKeyPair::from_der(key.secret_pkcs1_der())
                .map(|key| Self::Rsa(key, pss))
                .map_err(|_| refuse("is not an RSA key of 2,048 to 4,096 bits, which RS256 and PS256 sign with")),
            (JwtAlgorithm::Es256, _) => Err(refuse("is not in PKCS#8 form; convert it with `openssl pkcs8 -topk8 -nocrypt`")),
            _ => Err(refuse("is not an RSA key, which RS256 and PS256 sign with")),
        }
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(key, pss) => {
                let padding: &'static dyn ring::signature::RsaEncoding = if *pss { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(padding, &random, message, &mut signature).ok()?;
                Some(signature)
            }
            Self::Ec(key) => Some(key.sign(&random, message).ok()?.as_ref().to_vec()),
        }
    }
}

#[cfg(test)]
mod tests;
