//! The token request: where it goes and what it says (RFC 6749 §2.3.1 and §4.4.2).
//!
//! Refuses unfilled placeholders and settings that would change the shape of the token URL.

use bytes::Bytes;
use connector_core::{
    context::{CallCx, Connection},
    credential::Credential,
    error::{Error, Result},
    spec::{ClientAuth, OAuth2Spec},
    transport::{Body, Request},
};
use http::{HeaderValue, Method, header};
use secrecy::ExposeSecret as _;
use url::{Url, form_urlencoded};

use super::{
    TOKEN_URL_SETTING,
    template::{fill, fill_text, fill_url},
};
use crate::auth::basic;

/// Form parameters that only this module writes.
const OURS: [&str; 4] = ["grant_type", "client_id", "client_secret", "scope"];

/// Where a connection's token comes from, and for which scopes: together with tenant and credential, what a token is kept under.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Target {
    pub(super) token_url: String,
    pub(super) scopes: String,
}

/// Refuses a spec whose parameters would overwrite the grant.
pub(super) fn check(spec: &OAuth2Spec) -> Result<()> {
    match spec.params.keys().find(|name| OURS.contains(&name.as_str())) {
        Some(name) => Err(Error::config(format!("`{name}` cannot be set in the `params` of an oauth2 section; it follows from the other keys"))),
        None => Ok(()),
    }
}

/// Fills the placeholders of token URL and scopes.
pub(super) fn target(spec: &OAuth2Spec, connection: &Connection) -> Result<Target> {
    let template = connection.setting(TOKEN_URL_SETTING).unwrap_or(&spec.token_url);
    let token_url = fill_url(template, connection)?;
    let mut scopes = String::new();
    for scope in &spec.scopes {
        if !scopes.is_empty() {
            scopes.push(' ');
        }
        scopes.push_str(&fill_text(scope, connection)?);
    }
    Ok(Target { token_url, scopes })
}

/// The request for a new token.
pub(super) fn build(spec: &OAuth2Spec, target: &Target, cx: &CallCx, credential: &Credential) -> Result<Request> {
    let name = cx.connection.credential.as_deref().unwrap_or_default();
    let id = credential.require(name, "client_id")?.expose_secret();
    let secret = credential.require(name, "client_secret")?.expose_secret();
    let url = Url::parse(&target.token_url)
        .map_err(|_| Error::config(format!("the token URL of connection `{}` is not a URL once its placeholders are filled", cx.connection.id)))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Error::config(format!("the token URL of connection `{}` must not hold a user name or password", cx.connection.id)));
    }
    let mut request = Request::new(Method::POST, url);
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    if !target.scopes.is_empty() {
        form.append_pair("scope", &target.scopes);
    }
    for (name, value) in &spec.params {
        form.append_pair(name, &fill(value, &cx.connection, |value| Some(value.to_owned()))?);
    }
    match spec.client_auth {
        ClientAuth::Basic => {
            let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            request.head.headers.insert(header::AUTHORIZATION, basic::encode(&encoded(id), &encoded(secret))?);
        }
        _ => {
            form.append_pair("client_id", id).append_pair("client_secret", secret);
        }
    }
    let headers = &mut request.head.headers;
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    request.body = Body::Bytes(Bytes::from(form.finish()));
    Ok(request)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spec(token_url: &str) -> OAuth2Spec {
        OAuth2Spec { token_url: token_url.into(), ..OAuth2Spec::default() }
    }

    proptest! {
        #[test]
        fn no_setting_changes_host_path_depth_or_query_of_the_token_url(
            value in prop_oneof![any::<String>(), "[./%?#@:\\\\\t a2eE]{0,12}"]
        ) {
            let connection = Connection::new("x", "https://api.example").unwrap().with_setting("t", value);
            if let Ok(target) = target(&spec("https://id.example/a/{t}/token"), &connection) {
                let url = Url::parse(&target.token_url).unwrap();
                prop_assert_eq!((url.host_str(), url.query(), url.fragment(), url.port()), (Some("id.example"), None, None, None));
                let segments: Vec<_> = url.path_segments().unwrap().collect();
                prop_assert_eq!((segments.len(), segments[0], segments[2]), (3, "a", "token"));
            }
        }
    }
}
