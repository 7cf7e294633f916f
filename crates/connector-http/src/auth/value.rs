//! Turning secrets into header values: marked sensitive, refused without being shown.

use bytes::{BufMut as _, Bytes, BytesMut};
use connector_core::{
    credential::Credential,
    error::{Error, Result},
};
use http::{HeaderName, HeaderValue, header::InvalidHeaderValue};
use secrecy::ExposeSecret as _;

/// `{prefix}{field}` as a sensitive header value.
pub(super) fn secret_header(credential: &Credential, name: &str, field: &'static str, prefix: &str) -> Result<HeaderValue> {
    let secret = credential.require(name, field)?.expose_secret();
    if secret.trim().is_empty() {
        return Err(Error::config(format!("the field `{field}` of credential `{name}` is empty; store it again")));
    }
    let mut text = BytesMut::with_capacity(prefix.len() + secret.len());
    text.put_slice(prefix.as_bytes());
    text.put_slice(secret.as_bytes());
    sensitive(text.freeze()).map_err(|_| {
        let hint = if secret.trim() == secret { "a control character" } else { "white space or a line break at its end" };
        Error::config(format!("the field `{field}` of credential `{name}` has {hint}, which a header cannot carry; store it again"))
    })
}

/// Text as a header value that is never shown by `Debug` and never indexed by HPACK.
pub(crate) fn sensitive(text: Bytes) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut value = HeaderValue::from_maybe_shared(text)?;
    value.set_sensitive(true);
    Ok(value)
}

/// A header's name from a manifest.
pub(super) fn header_name(name: &str) -> Result<HeaderName> {
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| Error::config(format!("`{}` is not a header name", connector_core::redact::printable(name, 80))))
}
