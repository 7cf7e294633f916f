//! A request to a token endpoint, for every grant: where it goes, what it says, and how the client proves itself (RFC 6749 §2.3.1, RFC 7523
//! §2.2).
//!
//! Refuses settings that would change the shape of an endpoint's URL, and parameters in a manifest that only this module may write.

use std::fmt;

use bytes::Bytes;
use connector_core::{
    clock::Clock,
    context::{CallCx, Connection},
    credential::Credential,
    error::{Error, Result},
    redact::is_secret_name,
    spec::{ClientAuth, OAuth2Flow, OAuth2Spec, TokenBody},
    transport::{Body, Request},
};
use http::{HeaderValue, Method, header};
use secrecy::{ExposeSecret as _, SecretString};
use url::{Url, form_urlencoded};

use super::{
    TOKEN_URL_SETTING,
    jwt::{self, AssertionAsk, Purpose},
    template::{fill, fill_text, fill_url},
};
use crate::auth::basic;

/// Parameters that follow from the other keys of an oauth2 section.
const OURS: [&str; 13] = [
    "grant_type",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "scope",
    "code",
    "code_verifier",
    "redirect_uri",
    "refresh_token",
    "device_code",
    "assertion",
    "token",
];

/// What `client_assertion_type` says (RFC 7523 §2.2).
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Where an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// Here.
    Url(String),
    /// Where this issuer's metadata says.
    Issuer(String),
}

/// Where a connection's token comes from, and for what: together with tenant and credential, what a token is kept under.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Target {
    pub(super) place: Place,
    /// The scopes, as the form has them.
    pub(super) scopes: String,
    /// What an assertion says about whom, where settings have a part in that.
    claims: Vec<String>,
}

/// Refuses a spec whose parameters would overwrite the grant, or that would keep a secret where facts are kept.
pub(super) fn check(spec: &OAuth2Spec) -> Result<()> {
    if let Some(name) = spec.params.keys().find(|name| OURS.contains(&name.as_str())) {
        return Err(Error::config(format!("`{name}` cannot be set in the `params` of an oauth2 section; it follows from the other keys")));
    }
    if let Some(name) = spec.keep.iter().find(|name| is_secret_name(name)) {
        return Err(Error::config(format!("`{name}` cannot be in the `keep` of an oauth2 section; what is kept there can be seen")));
    }
    Ok(())
}

/// Fills the placeholders of token URL and scopes.
pub(super) fn target(spec: &OAuth2Spec, connection: &Connection) -> Result<Target> {
    let template = connection.setting(TOKEN_URL_SETTING).unwrap_or(&spec.token_url);
    let place = place(spec, connection, Some(template).filter(|template| !template.is_empty()))?
        .ok_or_else(|| Error::config(format!("the oauth2 section of {} names neither a token URL nor an issuer", connection.connector)))?;
    let scopes = spec.scopes.iter().map(|scope| fill_text(scope, connection)).collect::<Result<Vec<_>>>()?.join(spec.scope_separator.as_str());
    let said = spec.assertion.iter().flat_map(|said| [&said.issuer, &said.subject, &said.audience]).flatten();
    // What the credential fills is the same for all of its connections.
    let claims = said.filter(|text| text.contains('{')).map(|text| {
        let own = text.replace("{client_id}", "").replace("{subject}", "").replace("{client_email}", "");
        fill_text(&own, connection)
    });
    let claims = claims.collect::<Result<Vec<_>>>()?;
    Ok(Target { place, scopes, claims })
}

/// Where an endpoint is: as the manifest says, else where the issuer's metadata says, if there is an issuer.
pub(super) fn place(spec: &OAuth2Spec, connection: &Connection, template: Option<&str>) -> Result<Option<Place>> {
    match template {
        Some(template) => fill_url(template, connection).map(|url| Some(Place::Url(url))),
        None => Ok(super::issuer(spec, connection)?.map(Place::Issuer)),
    }
}

/// The parameters of a request, in the order they are written. All of them are handled as if they were secret.
#[derive(Default)]
pub(super) struct Form(Vec<(String, SecretString)>);

impl Form {
    /// The parameters of this grant.
    pub(super) fn of(grant: &str) -> Self {
        Self::default().with("grant_type", grant)
    }

    pub(super) fn with(mut self, name: &str, value: impl Into<SecretString>) -> Self {
        self.push(name, value);
        self
    }

    /// Adds the scopes, if there are any.
    pub(super) fn with_scopes(self, scopes: &str) -> Self {
        if scopes.is_empty() { self } else { self.with("scope", scopes) }
    }

    fn push(&mut self, name: &str, value: impl Into<SecretString>) {
        self.0.push((name.to_owned(), value.into()));
    }

    fn write(&self, body: TokenBody) -> (Bytes, &'static str) {
        match body {
            TokenBody::Json => {
                let members = self.0.iter().map(|(name, value)| (name.clone(), value.expose_secret().into()));
                let object = serde_json::Value::Object(members.collect());
                (object.to_string().into(), "application/json")
            }
            _ => {
                let mut form = form_urlencoded::Serializer::new(String::new());
                form.extend_pairs(self.0.iter().map(|(name, value)| (name, value.expose_secret())));
                (form.finish().into(), "application/x-www-form-urlencoded")
            }
        }
    }
}

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// Who asks, and on what.
#[derive(Clone, Copy)]
pub(super) struct Client<'a> {
    pub(super) spec: &'a OAuth2Spec,
    pub(super) cx: &'a CallCx,
    pub(super) credential: &'a Credential,
    pub(super) clock: &'a dyn Clock,
}

impl Client<'_> {
    /// A request to the endpoint at `url`, with the client's proof and the manifest's further parameters.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] if the credential lacks a field or the URL cannot be used.
    pub(super) fn request(&self, url: &str, mut form: Form) -> Result<Request> {
        for (name, value) in &self.spec.params {
            form.push(name, fill(value, &self.cx.connection, |value| Some(value.to_owned()))?);
        }
        self.bare_request(url, form)
    }

    /// The same without the further parameters, which belong to tokens.
    pub(super) fn bare_request(&self, url: &str, mut form: Form) -> Result<Request> {
        let id = &self.cx.connection.id;
        let target = Url::parse(url)
            .map_err(|_| Error::config(format!("the token URL of connection `{id}` is not a URL once its placeholders are filled")))?;
        if !target.username().is_empty() || target.password().is_some() {
            return Err(Error::config(format!("the token URL of connection `{id}` must not hold a user name or password")));
        }
        let mut request = Request::new(Method::POST, target);
        if let Some(authorization) = self.prove(url, &mut form)? {
            request.head.headers.insert(header::AUTHORIZATION, authorization);
        }
        let (body, kind) = form.write(self.spec.body);
        let headers = &mut request.head.headers;
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        request.body = Body::Bytes(body);
        Ok(request)
    }

    /// Adds what proves the client; the header, if that is where it goes.
    fn prove(&self, url: &str, form: &mut Form) -> Result<Option<HeaderValue>> {
        let name = self.cx.connection.credential.as_deref().unwrap_or_default();
        let text = |field| self.credential.require(name, field).map(|value| value.expose_secret());
        // An assertion that is the grant names and proves the client; a secret besides is sent only where there is one (RFC 7523 §3.1).
        let by_grant = self.spec.flow == OAuth2Flow::JwtBearer;
        match self.spec.client_auth {
            ClientAuth::None if by_grant => {}
            ClientAuth::Post | ClientAuth::Basic if by_grant && self.credential.field("client_secret").is_none() => {}
            ClientAuth::Basic => {
                let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
                return basic::encode(&encoded(text("client_id")?), &encoded(text("client_secret")?)).map(Some);
            }
            ClientAuth::None => form.push("client_id", text("client_id")?),
            ClientAuth::PrivateKeyJwt => {
                form.push("client_id", text("client_id")?);
                form.push("client_assertion_type", ASSERTION_TYPE);
                form.push("client_assertion", self.assertion(Purpose::ClientAuth, url, "")?);
            }
            _ => {
                form.push("client_id", text("client_id")?);
                form.push("client_secret", text("client_secret")?);
            }
        }
        Ok(None)
    }

    /// A signed assertion for the endpoint at `url`.
    pub(super) fn assertion(&self, purpose: Purpose, url: &str, scopes: &str) -> Result<SecretString> {
        let ask = AssertionAsk { purpose, connection: &self.cx.connection, credential: self.credential, token_url: url, scopes, clock: self.clock };
        match &self.spec.assertion {
            Some(spec) => jwt::assertion(spec, &ask),
            None => jwt::assertion(&Default::default(), &ask),
        }
    }
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
            if let Ok(Target { place: Place::Url(url), .. }) = target(&spec("https://id.example/a/{t}/token"), &connection) {
                let url = Url::parse(&url).unwrap();
                prop_assert_eq!((url.host_str(), url.query(), url.fragment(), url.port()), (Some("id.example"), None, None, None));
                let segments: Vec<_> = url.path_segments().unwrap().collect();
                prop_assert_eq!((segments.len(), segments[0], segments[2]), (3, "a", "token"));
            }
        }
    }

    #[test]
    fn what_would_be_seen_is_not_kept() {
        let spec = OAuth2Spec { keep: vec!["instance_url".into(), "id_token".into()], ..spec("/t") };
        assert!(check(&spec).unwrap_err().message().contains("`id_token`"));
    }

    #[test]
    fn two_connections_that_speak_for_different_people_have_different_tokens() {
        let said = connector_core::spec::AssertionSpec { subject: Some("{user}".into()), issuer: Some("{client_id}".into()), ..Default::default() };
        let spec = OAuth2Spec { assertion: Some(said), ..spec("https://id.example/t") };
        let of = |user: &str| target(&spec, &Connection::new("x", "https://api.example").unwrap().with_setting("user", user)).unwrap();
        assert_ne!(of("ada"), of("bob"));
        assert_eq!(of("ada"), of("ada"));
    }

    #[test]
    fn a_form_shows_names_only() {
        assert_eq!(format!("{:?}", Form::of("x").with("refresh_token", "canary")), r#"["grant_type", "refresh_token"]"#);
    }
}
