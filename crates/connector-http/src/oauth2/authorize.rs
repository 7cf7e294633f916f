//! Sending a person to sign in, and reading what comes back with them (RFC 6749 §4.1, RFC 7636, RFC 9207).
//!
//! Owns the authorization request and the redirect's parameters. Refuses to keep the state: whoever serves the redirect binds it to tenant,
//! session, connector, verifier and issuer, and spends it once. Refuses redirects that can be read in two ways.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use connector_core::{
    context::Connection,
    error::{Error, Result},
    redact::scrub,
    spec::OAuth2Spec,
};
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use url::Url;

use super::{discovery, discovery::ServerMetadata, template};

/// The connection setting that replaces the manifest's authorization URL, for sandboxes and self-hosted vendors.
pub const AUTHORIZE_URL_SETTING: &str = "authorize_url";

/// Query parameters that only this module writes.
const OURS: [&str; 7] = ["response_type", "client_id", "redirect_uri", "state", "scope", "code_challenge", "code_challenge_method"];

/// How much of a vendor's words is shown.
const SHOWN: usize = 300;

/// What a person is asked to consent to, and where they come back to.
#[derive(Debug, Clone)]
pub struct AuthorizeAsk<'a> {
    /// Where the vendor sends them back, exactly as it is registered there and as the code is exchanged with.
    pub redirect_uri: &'a str,
    /// See [`new_state`].
    pub state: &'a str,
    /// The scopes the chosen tools need; empty: those of the manifest. Base scopes are added either way.
    pub scopes: &'a [String],
    /// The resource the token is for (RFC 8707), if the server asks for one.
    pub resource: Option<&'a str>,
}

/// A request that is ready to be opened in a browser. `Debug` shows neither verifier nor state.
pub struct AuthorizeRequest {
    /// Where the browser goes. Only `https`, or `http` on this machine.
    pub url: Url,
    /// What proves that the code is exchanged by whoever asked for it. Empty where the server takes no PKCE.
    pub verifier: SecretString,
    /// Who must have answered: compare with the redirect's `iss`.
    pub issuer: Option<String>,
    /// The scopes that were asked for, to be compared with those that are granted.
    pub scopes: Vec<String>,
}

impl fmt::Debug for AuthorizeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizeRequest")
            .field("host", &self.url.host_str())
            .field("issuer", &self.issuer)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

/// What a redirect brought.
#[derive(Debug)]
pub enum RedirectAnswer {
    /// Exchange it, once.
    Code(SecretString),
    /// The vendor or the person refused.
    Refused {
        /// The error code (`access_denied`), scrubbed.
        error: String,
        /// The vendor's words, scrubbed and cut; still to be escaped for where they are shown.
        description: Option<String>,
    },
}

/// A state nobody can guess: 256 bits.
///
/// # Errors
/// [`connector_core::ErrorKind::Internal`] if the system has no randomness to give.
pub fn new_state() -> Result<String> {
    let mut bytes = [0_u8; 32];
    random(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Fills `bytes` from the system.
pub(super) fn random(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|_| Error::internal("the system has no randomness to give"))
}

/// The request that asks a person for consent.
///
/// `metadata` is the server's own description, if the spec names an issuer; an authorization URL in the spec comes first.
///
/// # Errors
/// [`connector_core::ErrorKind::Config`] if there is no authorization URL, it is no web address, a placeholder has no setting, the redirect
/// is neither `https` nor this machine, or the server refuses S256.
pub fn authorize_request(
    spec: &OAuth2Spec,
    connection: &Connection,
    client_id: &str,
    metadata: Option<&ServerMetadata>,
    ask: &AuthorizeAsk<'_>,
) -> Result<AuthorizeRequest> {
    if let Some(name) = spec.authorize_params.keys().find(|name| OURS.contains(&name.as_str())) {
        return Err(Error::config(format!("`{name}` cannot be set in the `authorize_params` of an oauth2 section; it follows from the other keys")));
    }
    if client_id.is_empty() {
        return Err(Error::config("the client id is empty; store it again"));
    }
    let template = connection.setting(AUTHORIZE_URL_SETTING).or(spec.authorize_url.as_deref());
    let mut url = match (template, metadata.and_then(|metadata| metadata.authorization_endpoint.as_ref())) {
        (Some(template), _) => template::endpoint(&template::fill_url(template, connection)?, "the authorization URL")?,
        (None, Some(url)) => template::endpoint(url.as_str(), "the authorization URL")?,
        (None, None) => return Err(Error::config(format!("{} names no authorization URL; nobody can be sent to sign in", connection.connector))),
    };
    if ask.redirect_uri != template::endpoint(ask.redirect_uri, "the redirect URL")?.as_str() {
        return Err(Error::config("the redirect URL is not in its normal form; vendors compare it letter by letter"));
    }
    let scopes = scopes(spec, connection, ask.scopes)?;
    let verifier = if spec.without_pkce {
        String::new()
    } else {
        metadata.map_or(Ok(()), ServerMetadata::require_s256)?;
        verifier()?
    };
    let params = spec.authorize_params.iter().map(|(name, value)| Ok((name, template::fill_text(value, connection)?))).collect::<Result<Vec<_>>>()?;
    {
        let mut query = url.query_pairs_mut();
        query.append_pair("response_type", "code").append_pair("client_id", client_id).append_pair("redirect_uri", ask.redirect_uri);
        if !scopes.is_empty() {
            query.append_pair("scope", &scopes.join(spec.scope_separator.as_str()));
        }
        query.append_pair("state", ask.state);
        if !verifier.is_empty() {
            query.append_pair("code_challenge", &challenge(&verifier)).append_pair("code_challenge_method", "S256");
        }
        if let Some(resource) = ask.resource {
            query.append_pair("resource", resource);
        }
        for (name, value) in &params {
            query.append_pair(name, value);
        }
    }
    let issuer = match metadata {
        Some(metadata) => Some(metadata.issuer.clone()),
        None => discovery::issuer(spec, connection)?,
    };
    Ok(AuthorizeRequest { url, verifier: verifier.into(), issuer, scopes })
}

/// Base scopes, then those that are wanted, each once, under this flow's names, placeholders filled.
pub(super) fn scopes(spec: &OAuth2Spec, connection: &Connection, wanted: &[String]) -> Result<Vec<String>> {
    let wanted = if wanted.is_empty() { &spec.scopes } else { wanted };
    let mut scopes: Vec<String> = Vec::with_capacity(spec.base_scopes.len() + wanted.len());
    for scope in spec.base_scopes.iter().chain(wanted) {
        let scope = template::fill_text(spec.scope_name(scope), connection)?;
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    Ok(scopes)
}

/// 64 characters from 48 random bytes; RFC 7636 §4.1 wants 43 to 128.
fn verifier() -> Result<String> {
    let mut bytes = [0_u8; 48];
    random(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// S256, RFC 7636 §4.2.
fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))
}

/// The state of a redirect, by which whoever sent the person there finds what it was bound to.
///
/// # Errors
/// [`connector_core::ErrorKind::Invalid`] if there is none, or more than one.
pub fn redirect_state(pairs: &[(String, String)]) -> Result<&str> {
    single(pairs, "state")?.ok_or_else(|| Error::invalid("the redirect carries no `state`; start the sign-in again"))
}

/// Reads the parameters of a redirect whose state was found and spent.
///
/// `issuer` is who must have answered, from [`AuthorizeRequest::issuer`]; `iss_required` is the server's promise always to name itself
/// ([`ServerMetadata::authorization_response_iss_parameter_supported`]).
///
/// # Errors
/// [`connector_core::ErrorKind::Invalid`] if a parameter comes twice or is missing, or the answer is another issuer's. Nothing of what the
/// redirect carried is in the error.
pub fn read_redirect(pairs: &[(String, String)], issuer: Option<&str>, iss_required: bool) -> Result<RedirectAnswer> {
    redirect_state(pairs)?;
    let code = single(pairs, "code")?;
    let error = single(pairs, "error")?;
    let description = single(pairs, "error_description")?;
    match (single(pairs, "iss")?, issuer) {
        (Some(found), Some(expected)) if found != expected => {
            return Err(Error::invalid(
                "the redirect comes from another authorization server than the one that was asked (RFC 9207); it was dropped",
            ));
        }
        (None, _) if iss_required => {
            return Err(Error::invalid(
                "the redirect does not say which authorization server it comes from, though this one always does; it was dropped",
            ));
        }
        _ => {}
    }
    match (code, error) {
        (Some(_), Some(_)) => Err(Error::invalid("the redirect carries both a code and an error; it was dropped")),
        (Some(code), None) => Ok(RedirectAnswer::Code(code.to_owned().into())),
        (None, Some(error)) => Ok(RedirectAnswer::Refused { error: scrub(error, 64), description: description.map(|words| scrub(words, SHOWN)) }),
        (None, None) => Err(Error::invalid("the redirect carries neither a code nor an error; start the sign-in again")),
    }
}

/// The one value of a parameter; an empty one counts as missing.
fn single<'a>(pairs: &'a [(String, String)], name: &'static str) -> Result<Option<&'a str>> {
    let mut values = pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let first = values.next();
    if values.next().is_some() {
        return Err(Error::invalid(format!("the redirect carries `{name}` more than once; it was dropped")));
    }
    Ok(first.filter(|value| !value.is_empty()))
}

#[cfg(test)]
mod tests;
