//! HTTP Basic, RFC 7617: `base64(username:password)` in UTF-8.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use connector_core::{
    credential::Credential,
    error::{Error, Result},
};
use http::{HeaderName, HeaderValue, header};
use secrecy::{ExposeSecret as _, SecretString};

use super::value;

/// User name and password from the credential.
pub(super) fn header(credential: &Credential, name: &str) -> Result<(HeaderName, HeaderValue)> {
    let username = credential.require(name, "username")?;
    let password = credential.require(name, "password")?;
    let refuse = |what: &str| Error::config(format!("credential `{name}`: {what}, which HTTP Basic cannot carry"));
    if username.expose_secret().contains(':') {
        return Err(refuse("the `username` has a colon"));
    }
    for (field, secret) in [("username", username), ("password", password)] {
        if secret.expose_secret().chars().any(char::is_control) {
            return Err(refuse(&format!("the `{field}` has a control character (a line break at its end?)")));
        }
    }
    Ok((header::AUTHORIZATION, encode(username.expose_secret(), password.expose_secret())?))
}

/// `Basic base64(first:second)`, marked sensitive.
pub(crate) fn encode(first: &str, second: &str) -> Result<HeaderValue> {
    let pair = SecretString::from(format!("{first}:{second}"));
    let text = format!("Basic {}", STANDARD.encode(pair.expose_secret()));
    value::sensitive(text.into()).map_err(|_| Error::internal("base64 text was refused as a header value"))
}
