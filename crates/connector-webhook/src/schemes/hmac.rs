//! A described HMAC: which header, over what, written how. Most vendors' schemes are one of these.

use std::time::{Duration, SystemTime};

use connector_core::{
    error::{Error, Result},
    webhook::RawWebhook,
};
use connector_manifest::model::{MacAlgorithm, MacEncoding};
use http::HeaderName;
use secrecy::{ExposeSecret as _, SecretString};

use super::{
    Proof, Proven, denied, header,
    mac::{self, MAX_HEADER, MAX_SIGNATURES},
    time,
};

/// What is signed, as a template of `{body}`, `{timestamp}`, `{method}` and `{url}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Body,
    Timestamp,
    Method,
    Url,
}

impl Message {
    /// Reads a template.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] if a placeholder is unknown or the body is not part of it.
    pub fn parse(template: &str) -> Result<Self> {
        let mut parts = Vec::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) =
                after.split_once('}').ok_or_else(|| Error::config(format!("the signed message `{template}` has a `{{` without its `}}`")))?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(match name {
                "body" => Part::Body,
                "timestamp" => Part::Timestamp,
                "method" => Part::Method,
                "url" => Part::Url,
                other => {
                    return Err(Error::config(format!(
                        "the signed message `{template}` names `{{{other}}}`; it may hold {{body}}, {{timestamp}}, {{method}} and {{url}}"
                    )));
                }
            });
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        if !parts.contains(&Part::Body) {
            return Err(Error::config(format!("the signed message `{template}` does not hold {{body}}, so the body would not be protected")));
        }
        Ok(Self(parts))
    }

    fn pieces<'r>(&'r self, request: &RawWebhook<'r>, timestamp: &'r str) -> Vec<&'r [u8]> {
        self.0
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.as_bytes(),
                Part::Body => &request.body[..],
                Part::Timestamp => timestamp.as_bytes(),
                Part::Method => request.method.as_str().as_bytes(),
                Part::Url => request.url.as_bytes(),
            })
            .collect()
    }
}

/// An HMAC in one header, with or without a signed timestamp in another.
#[derive(Debug, Clone)]
pub struct HmacScheme {
    name: &'static str,
    algorithm: MacAlgorithm,
    header: HeaderName,
    message: Message,
    encoding: MacEncoding,
    prefix: String,
    timestamp: Option<(HeaderName, Duration)>,
}

impl HmacScheme {
    /// A scheme with the signature, in hex, in `header`, over the message `template`.
    ///
    /// # Errors
    /// As [`Message::parse`]; also if the header's name is not one.
    pub fn new(algorithm: MacAlgorithm, header: &str, template: &str) -> Result<Self> {
        let name = match algorithm {
            MacAlgorithm::HmacSha1 => "hmac_sha1",
            MacAlgorithm::HmacSha256 => "hmac_sha256",
            MacAlgorithm::HmacSha512 => "hmac_sha512",
        };
        let message = Message::parse(template)?;
        Ok(Self { name, algorithm, header: header_name(header)?, message, encoding: MacEncoding::Hex, prefix: String::new(), timestamp: None })
    }

    /// Another name for health and documentation.
    #[must_use]
    pub fn named(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// How the signature is written.
    #[must_use]
    pub fn encoded(mut self, encoding: MacEncoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// The text before the signature (`sha256=`). Signatures without it are ignored.
    #[must_use]
    pub fn prefixed(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.prefix);
        self
    }

    /// The header with the timestamp, and how far it may be from now.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] if the header's name is not one.
    pub fn fresh_by(mut self, header: &str, tolerance: Duration) -> Result<Self> {
        self.timestamp = Some((header_name(header)?, tolerance));
        Ok(self)
    }

    /// Checks that the parts fit each other.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] if there is a timestamp that is not signed, or one is signed that no header carries.
    pub fn build(self) -> Result<Self> {
        match (self.message.0.contains(&Part::Timestamp), &self.timestamp) {
            (true, None) => Err(Error::config("the signed message holds {timestamp}, but `timestamp` does not say which header carries it")),
            (false, Some((header, _))) => Err(Error::config(format!(
                "the timestamp in `{header}` is not part of the signed message, so anybody could change it; add {{timestamp}}"
            ))),
            _ => Ok(self),
        }
    }

    /// GitHub's `X-Hub-Signature-256`. It has no timestamp: only the dedupe stops a replay.
    // https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries (unverified: from memory, no vendor vector at hand)
    pub fn github() -> Self {
        Self {
            name: "github",
            algorithm: MacAlgorithm::HmacSha256,
            header: HeaderName::from_static("x-hub-signature-256"),
            message: Message(vec![Part::Body]),
            encoding: MacEncoding::Hex,
            prefix: "sha256=".to_owned(),
            timestamp: None,
        }
    }

    /// Slack's `v0` signature.
    // https://docs.slack.dev/authentication/verifying-requests-from-slack
    pub fn slack_v0() -> Self {
        Self {
            name: "slack_v0",
            algorithm: MacAlgorithm::HmacSha256,
            header: HeaderName::from_static("x-slack-signature"),
            message: Message(vec![Part::Text("v0:".to_owned()), Part::Timestamp, Part::Text(":".to_owned()), Part::Body]),
            encoding: MacEncoding::Hex,
            prefix: "v0=".to_owned(),
            timestamp: Some((HeaderName::from_static("x-slack-request-timestamp"), time::TOLERANCE)),
        }
    }
}

fn header_name(name: &str) -> Result<HeaderName> {
    HeaderName::try_from(name).map_err(|_| Error::config(format!("`{name}` is not the name of a header")))
}

impl Proof for HmacScheme {
    fn scheme(&self) -> &'static str {
        self.name
    }

    fn prove(&self, request: &RawWebhook<'_>, secrets: &[SecretString], now: SystemTime) -> Result<Proven> {
        let value = header(request, self.header.as_str())?;
        let timestamp = match &self.timestamp {
            Some((name, tolerance)) => {
                let text = header(request, name.as_str())?;
                Some((text, time::parse(text)?, *tolerance))
            }
            None => None,
        };
        if value.len() > MAX_HEADER {
            return Err(denied("malformed"));
        }
        let signatures: Vec<Vec<u8>> = value
            .split([',', ' '])
            .filter_map(|one| one.strip_prefix(&self.prefix))
            .filter(|one| !one.is_empty())
            .take(MAX_SIGNATURES)
            .filter_map(|one| mac::decode(self.encoding, one))
            .collect();
        if signatures.is_empty() {
            return Err(denied("malformed"));
        }
        let pieces = self.message.pieces(request, timestamp.map_or("", |(text, ..)| text));
        let codes: Vec<_> = secrets.iter().map(|secret| mac::compute(self.algorithm, secret.expose_secret().as_bytes(), &pieces)).collect();
        if !mac::any_equal(&signatures, &codes) {
            return Err(denied("mismatch"));
        }
        // Looked at last, so that `stale` means: genuine, but a clock is wrong or somebody replays it.
        if timestamp.is_some_and(|(_, at, tolerance)| !time::fresh(at, now, tolerance)) {
            return Err(denied("stale"));
        }
        Ok(Proven::default())
    }
}
