//! Verification schemes as data: how a delivery with a JSON body proves itself, and where its events are.
//!
//! A manifest's `webhook` section becomes a [`WebhookVerifier`] here. Refuses a default: without a known scheme and a secret nothing is
//! believed, and no scheme tells a caller which part of the proof was wrong.

mod hmac;
pub(crate) mod mac;
pub(crate) mod named;
mod reader;
mod slack;
mod time;
mod vendors;

use std::{fmt::Debug, sync::Arc, time::SystemTime};

use connector_core::{
    error::{Error, ErrorKind, Result},
    spec::EventSpec,
    suggest::nearest,
    webhook::{HandshakeReply, Ingress, RawWebhook, WebhookVerifier},
};
use connector_manifest::model::{Verify, Webhook};
use secrecy::{ExposeSecret as _, SecretString};

use self::vendors::{FreshBody, GoogleChannel, Intuit, Zendesk};
pub use self::{
    hmac::{HmacScheme, Message},
    mac::MAX_SIGNATURES,
    named::{StandardWebhooks, StaticBearer, Stripe},
    reader::{EventReader, UNKNOWN},
    slack::SlackV0,
    time::TOLERANCE,
};
/// The scheme that proves the sender but not the message.
pub(crate) const BEARER: &str = "bearer";

/// The named schemes a manifest may use without code.
pub const NAMED: [&str; 12] = connector_manifest::model::WEBHOOK_SCHEMES;

/// What a proof brought to light besides being good.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proven {
    /// The delivery's own id, if it is covered by the signature.
    pub delivery_id: Option<String>,
}

/// Proves that raw bytes come from somebody who has one of the secrets.
pub trait Proof: Debug + Send + Sync + 'static {
    /// The scheme's name.
    fn scheme(&self) -> &'static str;

    /// Checks the proof. `secrets` is never empty and holds no empty secret.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] with context `reason`: `missing`, `malformed`, `mismatch` or `stale`.
    fn prove(&self, request: &RawWebhook<'_>, secrets: &[SecretString], now: SystemTime) -> Result<Proven>;

    /// The answer to a proven delivery by which the vendor only checks the address; `None`: it holds events.
    fn handshake(&self, _request: &RawWebhook<'_>) -> Option<HandshakeReply> {
        None
    }

    /// Why a secret must not be used although it could be: everybody knows it. `None`: nothing is wrong with it.
    fn refuses(&self, _secret: &SecretString) -> Option<&'static str> {
        None
    }
}

/// A [`WebhookVerifier`] for JSON bodies: a proof, and a way to read the events.
#[derive(Debug)]
pub struct JsonWebhook {
    proof: Box<dyn Proof>,
    reader: EventReader,
}

impl JsonWebhook {
    /// From its parts.
    pub fn new(proof: impl Proof, reader: EventReader) -> Self {
        Self { proof: Box::new(proof), reader }
    }

    /// From a manifest's `webhook` section and the kinds of events it declares.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the scheme is unknown, its parts do not fit, or a path is not one.
    pub fn from_manifest(webhook: &Webhook, events: &[EventSpec]) -> Result<Self> {
        let proof = proof(&webhook.verify)?;
        let reader = EventReader::new(webhook, events, proof.scheme())?;
        Ok(Self { proof, reader })
    }
}

/// The verifier that a manifest's `webhook` section describes.
///
/// # Errors
/// As [`JsonWebhook::from_manifest`].
pub fn verifier(webhook: &Webhook, events: &[EventSpec]) -> Result<Arc<dyn WebhookVerifier>> {
    Ok(match webhook.verify.scheme.as_deref() {
        // These have a shape of their own besides their proof.
        Some("intuit") => Arc::new(Intuit::new()?),
        Some("google_channel") => Arc::new(GoogleChannel),
        _ => Arc::new(JsonWebhook::from_manifest(webhook, events)?),
    })
}

/// The proof that `verify` describes.
///
/// # Errors
/// [`ErrorKind::Config`] if it names no scheme, an unknown one, or two, or its parts do not fit.
pub fn proof(verify: &Verify) -> Result<Box<dyn Proof>> {
    match (&verify.scheme, verify.kind) {
        (Some(scheme), None) => Ok(match scheme.as_str() {
            "standard_webhooks" => Box::new(StandardWebhooks),
            "stripe" => Box::new(Stripe),
            "slack_v0" => Box::new(SlackV0::default()),
            "github" => Box::new(HmacScheme::github()),
            "linear" => Box::new(FreshBody::linear()?),
            "notion" => Box::new(FreshBody::notion()?),
            "jira" => Box::new(FreshBody::jira()?),
            "zendesk" => Box::new(Zendesk::new()?),
            "netbox" => Box::new(vendors::netbox()?),
            BEARER => Box::new(StaticBearer),
            other => {
                let hint = nearest(other, NAMED).map_or_else(|| format!("known are {}", NAMED.join(", ")), |near| format!("did you mean `{near}`?"));
                return Err(Error::config(format!("there is no webhook scheme `{other}`; {hint}")));
            }
        }),
        (None, Some(algorithm)) => {
            let header = verify.header.as_deref().ok_or_else(|| Error::config("`webhook.verify.header` must name the header with the signature"))?;
            let usual = if verify.timestamp.is_some() { "{timestamp}.{body}" } else { "{body}" };
            let mut scheme = HmacScheme::new(algorithm, header, verify.message.as_deref().unwrap_or(usual))?
                .encoded(verify.encoding)
                .prefixed(verify.prefix.as_deref().unwrap_or_default());
            if let Some(timestamp) = &verify.timestamp {
                scheme = scheme.fresh_by(timestamp, verify.tolerance.map_or(TOLERANCE, |text| text.0))?;
            }
            Ok(Box::new(scheme.build()?))
        }
        (Some(_), Some(_)) => Err(Error::config("`webhook.verify` has both `scheme` and `kind`; keep one")),
        (None, None) => Err(Error::config("`webhook.verify` needs `scheme` or `kind`: without proof nothing is believed")),
    }
}

impl WebhookVerifier for JsonWebhook {
    fn scheme(&self) -> &'static str {
        self.proof.scheme()
    }

    fn verify(&self, request: &RawWebhook<'_>, secrets: &[SecretString], now: SystemTime) -> Result<Ingress> {
        usable(secrets)?;
        if let Some(why) = secrets.iter().find_map(|secret| self.proof.refuses(secret)) {
            return Err(Error::config(why));
        }
        let proven = self.proof.prove(request, secrets, now)?;
        if let Some(reply) = self.proof.handshake(request) {
            return Ok(Ingress::Handshake(reply));
        }
        Ok(Ingress::Events(self.reader.read(request.body, &proven)?))
    }
}

/// Refuses to check anything without a secret: an empty one would accept what anybody can compute.
///
/// # Errors
/// [`ErrorKind::Config`].
pub fn usable(secrets: &[SecretString]) -> Result<()> {
    if secrets.is_empty() {
        return Err(Error::config("no webhook secret is configured for this connection; store the one the vendor shows"));
    }
    if secrets.iter().any(|secret| secret.expose_secret().trim().is_empty()) {
        return Err(Error::config("a webhook secret of this connection is empty; store the one the vendor shows"));
    }
    Ok(())
}

/// The refusal of an unproven delivery. The reason is for logs and metrics, never for the sender.
pub(crate) fn denied(reason: &'static str) -> Error {
    Error::new(ErrorKind::Denied, "nothing proves that the delivery comes from the vendor").with_context("reason", reason)
}

/// A header that must be there once.
pub(crate) fn header<'r>(request: &RawWebhook<'r>, name: &str) -> Result<&'r str> {
    let mut values = request.headers.get_all(name).iter();
    let (Some(first), None) = (values.next(), values.next()) else {
        return Err(denied(if request.headers.contains_key(name) { "malformed" } else { "missing" }));
    };
    let text = first.to_str().map_err(|_| denied("malformed"))?;
    if text.trim().is_empty() { Err(denied("missing")) } else { Ok(text) }
}
