//! What an authorization server says about itself (RFC 8414, with OpenID Connect's place as the second try).
//!
//! Owns fetching, checking and remembering it. Refuses documents of another issuer, endpoints that are not web addresses, and answers
//! longer than 64 KiB.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use connector_core::{
    clock::{Clock, Instant},
    context::{CallCx, Connection, TenantId},
    error::{Error, ErrorKind, Result},
    redact::printable,
    spec::OAuth2Spec,
    transport::{Request, Transport},
};
use http::{HeaderValue, Method, header};
use serde::Deserialize;
use tokio::sync::Mutex as AsyncMutex;
use url::Url;

use super::template;

/// How much of a metadata document is read.
const MAX_ANSWER: usize = 64 * 1024;

/// How long a document is believed.
const KEPT_FOR: Duration = Duration::from_secs(3600);

/// How long a failure is: long enough for those who waited for it, too short for anybody to notice.
const FAILED_FOR: Duration = Duration::from_secs(5);

/// How long one try may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// After this many issuers, those whose documents are stale are forgotten before another is kept.
const SWEEP_AT: usize = 256;

/// The members of a metadata document that are used. Every endpoint is `https`, or `http` where issuer and endpoint are this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerMetadata {
    /// Who it is, exactly as asked for.
    pub issuer: String,
    /// Where a person signs in.
    pub authorization_endpoint: Option<Url>,
    /// Where tokens come from.
    pub token_endpoint: Option<Url>,
    /// Where tokens are revoked (RFC 7009).
    pub revocation_endpoint: Option<Url>,
    /// Where a device asks for its codes (RFC 8628).
    pub device_authorization_endpoint: Option<Url>,
    /// The scopes it knows; empty if it does not say.
    pub scopes_supported: Vec<String>,
    /// How PKCE challenges may be made; `None` if it does not say.
    pub code_challenge_methods_supported: Option<Vec<String>>,
    /// Its redirects always carry `iss` (RFC 9207): one without is a forgery.
    pub authorization_response_iss_parameter_supported: bool,
}

impl ServerMetadata {
    /// Refuses a server that says how PKCE challenges may be made and does not name S256.
    ///
    /// # Errors
    /// [`ErrorKind::Config`].
    pub fn require_s256(&self) -> Result<()> {
        match &self.code_challenge_methods_supported {
            Some(methods) if !methods.iter().any(|method| method == "S256") => {
                Err(Error::config("the authorization server offers no S256 code challenge, without which a code could be stolen on its way"))
            }
            _ => Ok(()),
        }
    }
}

/// Reads and remembers metadata documents, one request at a time for each tenant and issuer.
#[derive(Debug)]
pub struct Discovery {
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    known: Mutex<Places>,
}

/// By tenant and issuer.
type Places = HashMap<(TenantId, Box<str>), Arc<Place>>;

/// The last outcome for one issuer. The lock makes fetching single.
type Place = AsyncMutex<Option<Outcome>>;

#[derive(Debug)]
struct Outcome {
    until: Instant,
    answer: Result<Arc<ServerMetadata>>,
}

impl Discovery {
    /// Fetches over this transport, whose egress guard judges the addresses.
    pub fn new(transport: Arc<dyn Transport>, clock: Arc<dyn Clock>) -> Self {
        Self { transport, clock, known: Mutex::default() }
    }

    /// The metadata of the issuer a spec names, its placeholders filled; `None` if it names none.
    ///
    /// # Errors
    /// As [`Discovery::get`], and [`ErrorKind::Config`] if a placeholder has no setting.
    pub async fn for_spec(&self, cx: &CallCx, spec: &OAuth2Spec) -> Result<Option<Arc<ServerMetadata>>> {
        match issuer(spec, &cx.connection)? {
            Some(issuer) => self.get(cx, &issuer).await.map(Some),
            None => Ok(None),
        }
    }

    /// The metadata of this issuer, not older than an hour.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the issuer is no web address or publishes nothing that can be used, [`ErrorKind::Protocol`] if what it
    /// publishes is another issuer's or breaks the rules, and what the transport reports.
    pub async fn get(&self, cx: &CallCx, issuer: &str) -> Result<Arc<ServerMetadata>> {
        let place = self.place(cx.tenant(), issuer);
        let mut last = place.lock().await;
        if let Some(outcome) = &*last
            && self.clock.now() < outcome.until
        {
            return outcome.answer.clone();
        }
        let answer = self.fetch(cx, issuer).await.map(Arc::new);
        let kept = if answer.is_ok() { KEPT_FOR } else { FAILED_FOR };
        *last = Some(Outcome { until: self.clock.now() + kept, answer: answer.clone() });
        answer
    }

    fn place(&self, tenant: &TenantId, issuer: &str) -> Arc<Place> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= SWEEP_AT {
            let now = self.clock.now();
            // A place somebody else holds is being filled right now.
            known.retain(|_, place| {
                Arc::strong_count(place) > 1 || place.try_lock().is_ok_and(|last| last.as_ref().is_some_and(|outcome| now < outcome.until))
            });
        }
        known.entry((tenant.clone(), issuer.into())).or_default().clone()
    }

    async fn fetch(&self, cx: &CallCx, issuer: &str) -> Result<ServerMetadata> {
        let mut refused = None;
        for url in well_known(issuer)? {
            match tokio::time::timeout(TIMEOUT, self.read(cx, issuer, url)).await {
                Ok(Ok(Found::Document(metadata))) => return Ok(*metadata),
                Ok(Ok(Found::Nothing(status))) => refused = Some(status),
                Ok(Err(error)) => return Err(error.with_context("issuer", printable(issuer, 120))),
                Err(_) => return Err(Error::new(ErrorKind::Timeout, format!("the authorization server did not answer within {TIMEOUT:?}"))),
            }
        }
        let error = Error::config("the authorization server publishes no metadata; name its endpoints in the manifest instead");
        let error = error.with_context("issuer", printable(issuer, 120));
        Err(refused.map_or(error.clone(), |status| error.with_status(status)))
    }

    async fn read(&self, cx: &CallCx, issuer: &str, url: Url) -> Result<Found> {
        let mut request = Request::new(Method::GET, url);
        request.head.headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let (head, body) = self.transport.send(cx, request).await?.into_parts();
        let status = head.status;
        if status.as_u16() == 429 || status.is_server_error() {
            return Err(
                Error::new(ErrorKind::Transient, "the authorization server's metadata cannot be read at the moment").with_status(status.as_u16())
            );
        }
        if !status.is_success() {
            return Ok(Found::Nothing(status.as_u16()));
        }
        let body = body.collect(MAX_ANSWER).await?;
        match serde_json::from_slice::<Document>(&body) {
            Ok(document) => document.checked(issuer).map(Box::new).map(Found::Document),
            // A web page at an address nobody serves; the other place may have the document.
            Err(_) => Ok(Found::Nothing(status.as_u16())),
        }
    }
}

/// The issuer a spec names, its placeholders filled from the connection's settings.
///
/// # Errors
/// [`ErrorKind::Config`] if a placeholder has no setting.
pub fn issuer(spec: &OAuth2Spec, connection: &Connection) -> Result<Option<String>> {
    spec.issuer.as_deref().map(|issuer| template::fill_url(issuer, connection)).transpose()
}

enum Found {
    Document(Box<ServerMetadata>),
    Nothing(u16),
}

/// Where the document is: the well-known name between host and path (RFC 8414 §3.1), then after the path (OpenID Connect Discovery §4).
fn well_known(issuer: &str) -> Result<[Url; 2]> {
    let url = template::endpoint(issuer, "the issuer")?;
    if url.query().is_some() {
        return Err(Error::config("the issuer must not have a query"));
    }
    let path = url.path().trim_end_matches('/');
    let mut inserted = url.clone();
    inserted.set_path(&format!("/.well-known/oauth-authorization-server{path}"));
    let mut appended = url.clone();
    appended.set_path(&format!("{path}/.well-known/openid-configuration"));
    Ok([inserted, appended])
}

/// The document as it is written.
#[derive(Deserialize)]
struct Document {
    issuer: String,
    #[serde(default)]
    authorization_endpoint: Option<String>,
    #[serde(default)]
    token_endpoint: Option<String>,
    #[serde(default)]
    revocation_endpoint: Option<String>,
    #[serde(default)]
    device_authorization_endpoint: Option<String>,
    #[serde(default)]
    scopes_supported: Option<Vec<String>>,
    #[serde(default)]
    code_challenge_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: Option<bool>,
}

impl Document {
    fn checked(self, asked: &str) -> Result<ServerMetadata> {
        if self.issuer != asked {
            return Err(Error::protocol(format!(
                "the metadata is that of `{}`, which is not the issuer it was asked for; it is not used (RFC 8414 §3.3)",
                printable(&self.issuer, 120)
            )));
        }
        let here = Url::parse(asked).is_ok_and(|url| template::is_this_machine(&url));
        let endpoint = |text: Option<String>, what: &str| match text.map(|text| template::endpoint(&text, what)).transpose() {
            // A server elsewhere must not send a browser or a secret to this machine.
            Ok(Some(url)) if url.scheme() == "http" && !here => Err(Error::protocol(format!("the metadata's {what} must start with https://"))),
            Ok(url) => Ok(url),
            Err(error) => Err(Error::protocol(format!("in the metadata, {}", error.message()))),
        };
        Ok(ServerMetadata {
            authorization_endpoint: endpoint(self.authorization_endpoint, "authorization_endpoint")?,
            token_endpoint: endpoint(self.token_endpoint, "token_endpoint")?,
            revocation_endpoint: endpoint(self.revocation_endpoint, "revocation_endpoint")?,
            device_authorization_endpoint: endpoint(self.device_authorization_endpoint, "device_authorization_endpoint")?,
            scopes_supported: self.scopes_supported.unwrap_or_default(),
            code_challenge_methods_supported: self.code_challenge_methods_supported,
            authorization_response_iss_parameter_supported: self.authorization_response_iss_parameter_supported.unwrap_or(false),
            issuer: self.issuer,
        })
    }
}

#[cfg(test)]
mod tests;
