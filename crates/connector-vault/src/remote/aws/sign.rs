//! Signature Version 4 for a POST to `/` without a query, which is all that KMS and Secrets Manager need.

use std::time::SystemTime;

use connector_core::{Error, Result};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderValue};
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};
use url::Url;
use zeroize::Zeroizing;

use super::credentials::Keys;
use crate::remote::wire::{header, sensitive};

/// What a signature is good for.
pub(super) struct Scope<'a> {
    pub(super) region: &'a str,
    pub(super) service: &'a str,
    pub(super) at: SystemTime,
}

/// Adds `x-amz-date` and, for temporary keys, `x-amz-security-token`, and gives the `Authorization` header that covers all headers,
/// the host and the body.
pub(super) fn sign(keys: &Keys, scope: &Scope<'_>, url: &Url, headers: &mut HeaderMap, body: &[u8]) -> Result<HeaderValue> {
    let unclear = |_| Error::internal("the time cannot be written for a signature");
    let at = jiff::Timestamp::try_from(scope.at).map_err(unclear)?.strftime("%Y%m%dT%H%M%SZ").to_string();
    let day = &at[..8];
    header(headers, "x-amz-date", HeaderValue::from_str(&at).map_err(|_| Error::internal("the time cannot be a header"))?);
    if let Some(token) = &keys.session_token {
        header(headers, "x-amz-security-token", sensitive(token.expose_secret())?);
    }
    let host = url.host_str().unwrap_or_default();
    let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let mut signed = vec![("host", host.as_bytes())];
    signed.extend(headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())));
    signed.sort_unstable();
    let names = signed.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");

    // The session token is among the lines.
    let mut canonical = Zeroizing::new(b"POST\n/\n\n".to_vec());
    for (name, value) in &signed {
        canonical.extend_from_slice(name.as_bytes());
        canonical.push(b':');
        canonical.extend_from_slice(value.trim_ascii());
        canonical.push(b'\n');
    }
    canonical.extend_from_slice(format!("\n{names}\n{}", hex::encode(Sha256::digest(body))).as_bytes());

    let credential_scope = format!("{day}/{}/{}/aws4_request", scope.region, scope.service);
    let to_sign = format!("AWS4-HMAC-SHA256\n{at}\n{credential_scope}\n{}", hex::encode(Sha256::digest(&canonical)));
    let start = Zeroizing::new(format!("AWS4{}", keys.secret_access_key.expose_secret()));
    let mut key = mac(start.as_bytes(), day.as_bytes())?;
    for part in [scope.region, scope.service, "aws4_request"] {
        key = mac(&*key, part.as_bytes())?;
    }
    let signature = hex::encode(*mac(&*key, to_sign.as_bytes())?);
    sensitive(&format!("AWS4-HMAC-SHA256 Credential={}/{credential_scope}, SignedHeaders={names}, Signature={signature}", keys.access_key_id))
}

fn mac(key: &[u8], message: &[u8]) -> Result<Zeroizing<[u8; 32]>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(|_| Error::internal("a signing key has a length that HMAC does not take"))?;
    mac.update(message);
    Ok(Zeroizing::new(mac.finalize().into_bytes().into()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// 2026-11-21T12:00:00Z.
    const AT: u64 = 1_795_262_400;

    fn signed(session_token: Option<&str>) -> (String, HeaderMap) {
        let keys = Keys {
            access_key_id: "AKIDEXAMPLE".into(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            session_token: session_token.map(Into::into),
            ends_at: None,
        };
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/x-amz-json-1.1"));
        headers.insert("x-amz-target", HeaderValue::from_static("secretsmanager.GetSecretValue"));
        let scope = Scope { region: "eu-central-1", service: "secretsmanager", at: SystemTime::UNIX_EPOCH + Duration::from_secs(AT) };
        let url = "https://secretsmanager.eu-central-1.amazonaws.com/".parse().unwrap();
        let value = sign(&keys, &scope, &url, &mut headers, br#"{"SecretId":"connectors/acme/slack"}"#).unwrap();
        assert!(value.is_sensitive());
        (value.to_str().unwrap().to_owned(), headers)
    }

    /// The same result as botocore 1.44 gives for this request.
    #[test]
    fn the_signature_is_that_of_the_vendors_library() {
        let (value, headers) = signed(None);
        assert_eq!(
            value,
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261121/eu-central-1/secretsmanager/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date;x-amz-target, \
             Signature=0e6ad643cfdc0ebd588039b4aad2df6d124d3ca77e5d83d4b877f2a363778172"
        );
        assert_eq!(headers["x-amz-date"], "20261121T120000Z");
    }

    #[test]
    fn a_session_token_is_signed_and_never_shown() {
        let (value, headers) = signed(Some("session-token-canary"));
        assert!(value.contains("SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target"), "{value}");
        assert!(!format!("{headers:?}").contains("canary"));
    }
}
