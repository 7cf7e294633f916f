//! The schemes that are more than a described HMAC: Standard Webhooks, Stripe, and the static bearer of old.

use std::time::SystemTime;

use base64::Engine as _;
use connector_core::{
    error::{Error, Result},
    webhook::RawWebhook,
};
use connector_manifest::model::{MacAlgorithm, MacEncoding};
use ring::signature::{ED25519, UnparsedPublicKey};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use super::{
    Proof, Proven, denied, header,
    mac::{self, MAX_HEADER, MAX_SIGNATURES},
    time,
};

/// Standard Webhooks: symmetric (`v1`, secrets `whsec_…`) and asymmetric (`v1a`, Ed25519, public keys `whpk_…`). Both kinds may stand among
/// the secrets of a connection; a signature only counts under a secret of its own kind.
// https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
#[derive(Debug, Clone, Copy, Default)]
pub struct StandardWebhooks;

impl Proof for StandardWebhooks {
    fn scheme(&self) -> &'static str {
        "standard_webhooks"
    }

    fn prove(&self, request: &RawWebhook<'_>, secrets: &[SecretString], now: SystemTime) -> Result<Proven> {
        let id = header(request, "webhook-id")?;
        let sent = header(request, "webhook-timestamp")?;
        let value = header(request, "webhook-signature")?;
        // A dot in the id would let the border between id, timestamp and body be moved without changing the signed text.
        if id.is_empty() || id.contains('.') || value.len() > MAX_HEADER {
            return Err(denied("malformed"));
        }
        let at = time::parse(sent)?;
        let of = |scheme: &'static str| -> Vec<Vec<u8>> {
            let signatures = value.split(' ').take(MAX_SIGNATURES).filter_map(|one| one.strip_prefix(scheme)?.strip_prefix(','));
            signatures.filter_map(|one| mac::decode(MacEncoding::Base64, one)).collect()
        };
        let (symmetric, asymmetric) = (of("v1"), of("v1a"));
        if symmetric.is_empty() && asymmetric.is_empty() {
            return Err(denied("malformed"));
        }
        let pieces: [&[u8]; 5] = [id.as_bytes(), b".", sent.as_bytes(), b".", request.body];
        let (public, shared): (Vec<_>, Vec<_>) = secrets.iter().partition(|secret| secret.expose_secret().starts_with(PUBLIC));
        let codes = shared.iter().map(|secret| Ok(mac::compute(MacAlgorithm::HmacSha256, &key(secret)?, &pieces))).collect::<Result<Vec<_>>>()?;
        let signed = public.iter().map(|key| public_key(key)).collect::<Result<Vec<_>>>()?.into_iter().any(|key| {
            let message = pieces.concat();
            asymmetric.iter().any(|signature| key.verify(&message, signature).is_ok())
        });
        if !signed && !mac::any_equal(&symmetric, &codes) {
            return Err(denied("mismatch"));
        }
        if !time::fresh(at, now, time::TOLERANCE) {
            return Err(denied("stale"));
        }
        Ok(Proven { delivery_id: Some(id.to_owned()) })
    }
}

/// What a public key of the asymmetric scheme begins with.
const PUBLIC: &str = "whpk_";

fn public_key(secret: &SecretString) -> Result<UnparsedPublicKey<Vec<u8>>> {
    let encoded = secret.expose_secret().trim_start_matches(PUBLIC);
    let key = base64::engine::general_purpose::STANDARD.decode(encoded).ok().filter(|key| key.len() == 32);
    key.map(|key| UnparsedPublicKey::new(&ED25519, key))
        .ok_or_else(|| Error::config("a Standard Webhooks public key must be `whpk_` and 32 bytes in base64; copy it again from the vendor"))
}

/// The key of a symmetric secret: what stands after `whsec_`, decoded; 24 to 64 bytes. Incoming and outgoing deliveries read it alike.
///
/// # Errors
/// [`connector_core::ErrorKind::Config`] if it is not one; the text is never quoted.
pub(crate) fn key(secret: &SecretString) -> Result<Vec<u8>> {
    let text = secret.expose_secret();
    let encoded = text.strip_prefix("whsec_").unwrap_or(text);
    base64::engine::general_purpose::STANDARD
        .decode(encoded)
        .ok()
        .filter(|key| (24..=64).contains(&key.len()))
        .ok_or_else(|| Error::config("a Standard Webhooks secret must be `whsec_` and 24 to 64 bytes in base64; copy it again from the vendor"))
}

/// Stripe's `Stripe-Signature: t=…,v1=…`. The key is the whole secret, `whsec_` included. `v0` and unknown schemes are ignored.
// https://docs.stripe.com/webhooks/signature
#[derive(Debug, Clone, Copy, Default)]
pub struct Stripe;

impl Proof for Stripe {
    fn scheme(&self) -> &'static str {
        "stripe"
    }

    fn prove(&self, request: &RawWebhook<'_>, secrets: &[SecretString], now: SystemTime) -> Result<Proven> {
        let value = header(request, "stripe-signature")?;
        if value.len() > MAX_HEADER {
            return Err(denied("malformed"));
        }
        let fields = || value.split(',').filter_map(|field| field.trim().split_once('='));
        let mut times = fields().filter(|(name, _)| *name == "t").map(|(_, text)| text);
        let (Some(sent), None) = (times.next(), times.next()) else { return Err(denied("malformed")) };
        let at = time::parse(sent)?;
        let signatures: Vec<Vec<u8>> =
            fields().filter(|(name, _)| *name == "v1").take(MAX_SIGNATURES).filter_map(|(_, text)| mac::decode(MacEncoding::Hex, text)).collect();
        if signatures.is_empty() {
            return Err(denied("malformed"));
        }
        let pieces: [&[u8]; 3] = [sent.as_bytes(), b".", request.body];
        let codes: Vec<_> = secrets.iter().map(|secret| mac::compute(MacAlgorithm::HmacSha256, secret.expose_secret().as_bytes(), &pieces)).collect();
        if !mac::any_equal(&signatures, &codes) {
            return Err(denied("mismatch"));
        }
        if !time::fresh(at, now, time::TOLERANCE) {
            return Err(denied("stale"));
        }
        Ok(Proven::default())
    }
}

/// `Authorization: Bearer {secret}`: proves who sends, not what. Anybody who sees one delivery can forge the next, so it is only there for
/// senders that cannot sign, and what it lets in is flagged `legacy_scheme`.
#[derive(Debug, Clone, Copy, Default)]
pub struct StaticBearer;

impl Proof for StaticBearer {
    fn scheme(&self) -> &'static str {
        super::BEARER
    }

    fn prove(&self, request: &RawWebhook<'_>, secrets: &[SecretString], _now: SystemTime) -> Result<Proven> {
        let value = header(request, "authorization")?;
        let token = value.split_once(' ').filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
        let token = token.filter(|token| !token.is_empty()).ok_or_else(|| denied("malformed"))?;
        // Digests are compared, so that not even the length of the secret shows.
        let digest = |text: &str| Sha256::digest(text.as_bytes()).to_vec();
        let known: Vec<_> = secrets.iter().map(|secret| digest(secret.expose_secret())).collect();
        if mac::any_equal(&[digest(token)], &known) { Ok(Proven::default()) } else { Err(denied("mismatch")) }
    }
}
