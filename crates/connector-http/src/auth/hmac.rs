//! A signature over each request: HMAC-SHA256 with a shared key, as the manifest describes it.
//!
//! Refuses a manifest whose message uses a timestamp or nonce that no header carries: the vendor could not check it.

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use connector_core::{
    clock::{Clock, unix_seconds},
    credential::Credential,
    error::{Error, Result},
    redact::printable,
    spec::{BasicEncoding, HmacSpec},
    transport::Head,
};
use hmac::{KeyInit as _, Mac as _};
use http::{HeaderName, HeaderValue};
use rustls::crypto::SecureRandom;
use secrecy::ExposeSecret as _;
use sha2::Sha256;

use super::{Headers, value};

/// Signs requests.
pub(super) struct Hmac {
    header: HeaderName,
    message: Vec<Part>,
    encoding: BasicEncoding,
    prefix: Box<str>,
    timestamp_header: Option<HeaderName>,
    nonce_header: Option<HeaderName>,
    key_id_header: Option<HeaderName>,
    clock: Arc<dyn Clock>,
    random: &'static dyn SecureRandom,
}

/// A piece of what is signed.
#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(Box<str>),
    Method,
    Path,
    Timestamp,
    Nonce,
    Body,
}

impl Hmac {
    pub(super) fn new(spec: &HmacSpec, clock: Arc<dyn Clock>) -> Result<Self> {
        let message = parse(&spec.message)?;
        let name = |header: &Option<String>| header.as_deref().map(value::header_name).transpose();
        let (timestamp_header, nonce_header) = (name(&spec.timestamp_header)?, name(&spec.nonce_header)?);
        for (part, header, key) in [(Part::Timestamp, &timestamp_header, "timestamp"), (Part::Nonce, &nonce_header, "nonce")] {
            if message.contains(&part) && header.is_none() {
                return Err(Error::config(format!("the signed message uses `{{{key}}}`, so the auth section must name `{key}_header`")));
            }
        }
        Ok(Self {
            header: value::header_name(&spec.header)?,
            message,
            encoding: spec.encoding,
            prefix: spec.prefix.as_deref().unwrap_or_default().into(),
            timestamp_header,
            nonce_header,
            key_id_header: name(&spec.key_id_header)?,
            clock,
            random: rustls::crypto::ring::default_provider().secure_random,
        })
    }

    /// Adds the signature and what the vendor needs to check it.
    pub(super) fn headers(&self, credential: &Credential, name: &str, head: &Head, body: &Bytes, headers: &mut Headers) -> Result<()> {
        let timestamp = unix_seconds(self.clock.wall()).to_string();
        let nonce = if self.nonce_header.is_some() { self.nonce()? } else { String::new() };
        let key = credential.require(name, "secret")?.expose_secret();
        if key.is_empty() {
            return Err(Error::config(format!("the field `secret` of credential `{name}` is empty; store it again")));
        }
        let mut mac = hmac::Hmac::<Sha256>::new_from_slice(key.as_bytes())
            .map_err(|_| Error::internal("HMAC refused a key although it takes keys of every length"))?;
        for part in &self.message {
            match part {
                Part::Text(text) => mac.update(text.as_bytes()),
                Part::Method => mac.update(head.method.as_str().as_bytes()),
                Part::Path => mac.update(head.url[url::Position::BeforePath..url::Position::AfterQuery].as_bytes()),
                Part::Timestamp => mac.update(timestamp.as_bytes()),
                Part::Nonce => mac.update(nonce.as_bytes()),
                Part::Body => mac.update(body),
            }
        }
        let digest = mac.finalize().into_bytes();
        let signature = match self.encoding {
            BasicEncoding::Base64 => STANDARD.encode(digest),
            _ => hex(&digest),
        };
        let made = |text: String| {
            value::sensitive(text.into()).map_err(|_| Error::config("the signature's prefix has a character that a header cannot carry"))
        };
        headers.push((self.header.clone(), made(format!("{}{signature}", self.prefix))?));
        let plain = |text: &str| HeaderValue::from_str(text).map_err(|_| Error::internal("digits were refused as a header value"));
        if let Some(header) = &self.timestamp_header {
            headers.push((header.clone(), plain(&timestamp)?));
        }
        if let Some(header) = &self.nonce_header {
            headers.push((header.clone(), plain(&nonce)?));
        }
        if let Some(header) = &self.key_id_header {
            headers.push((header.clone(), value::secret_header(credential, name, "key_id", "")?));
        }
        Ok(())
    }

    /// 128 unpredictable bits.
    fn nonce(&self) -> Result<String> {
        let mut bytes = [0; 16];
        self.random.fill(&mut bytes).map_err(|_| Error::internal("the operating system gave no randomness for a nonce"))?;
        Ok(hex(&bytes))
    }
}

impl fmt::Debug for Hmac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hmac").field("header", &self.header).field("message", &self.message).finish_non_exhaustive()
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]).map(char::from).collect()
}

/// Reads the message template once, when the connector is set up.
fn parse(template: &str) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        if open > 0 {
            parts.push(Part::Text(rest[..open].into()));
        }
        let (name, after) = rest[open + 1..]
            .split_once('}')
            .ok_or_else(|| Error::config(format!("the signed message `{}` has a `{{` without its `}}`", printable(template, 120))))?;
        parts.push(match name {
            "method" => Part::Method,
            "path" => Part::Path,
            "timestamp" => Part::Timestamp,
            "nonce" => Part::Nonce,
            "body" => Part::Body,
            other => {
                let other = printable(other, 40);
                return Err(Error::config(format!(
                    "the signed message knows no `{{{other}}}`; it can use {{method}}, {{path}}, {{timestamp}}, {{nonce}} and {{body}}"
                )));
            }
        });
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.into()));
    }
    if parts.is_empty() {
        return Err(Error::config("the signed message is empty; write for example `{timestamp}.{body}`"));
    }
    Ok(parts)
}
