//! Who we are to AWS: keys of the environment, or temporary ones that are fetched and kept until shortly before they end.
//!
//! Owns the order: environment, web identity, container. The last two follow what the vendor's libraries do and were tried against a
//! stand-in of STS only (unverified). Refuses to read `~/.aws`, and to ask a credential server that is not on this machine or link.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use connector_core::{
    Error, ErrorKind, Result,
    clock::{Clock, Instant},
    transport::Transport,
};
use http::{
    HeaderMap, HeaderValue, Method,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;
use zeroize::Zeroizing;

use super::{check_region, domain};
use crate::remote::{
    Env, secret,
    wire::{Wire, sensitive},
};

/// Temporary keys are replaced this long before they end.
const MARGIN: Duration = Duration::from_secs(300);
/// The longest token file that is read, in bytes.
const MAX_TOKEN: u64 = 64 * 1024;
/// Where ECS serves credentials.
const ECS: &str = "http://169.254.170.2";
/// The hosts that may be asked over plain http: ECS, EKS pod identities in both address families, this machine.
const LINK_HOSTS: [&str; 6] = ["169.254.170.2", "169.254.170.23", "[fd00:ec2::23]", "127.0.0.1", "localhost", "[::1]"];

/// Finds credentials, in this order: `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` (and `AWS_SESSION_TOKEN`); a web identity
/// (`AWS_WEB_IDENTITY_TOKEN_FILE`, `AWS_ROLE_ARN`); the container's credential server (`AWS_CONTAINER_CREDENTIALS_FULL_URI` or
/// `_RELATIVE_URI`).
pub struct AwsCredentials {
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    env: Env,
    region: String,
    current: RwLock<Option<Arc<Keys>>>,
    gate: Mutex<Option<(Instant, Error)>>,
}

/// An access key.
pub(super) struct Keys {
    pub(super) access_key_id: String,
    pub(super) secret_access_key: SecretString,
    pub(super) session_token: Option<SecretString>,
    /// When a temporary one ends.
    pub(super) ends_at: Option<SystemTime>,
}

impl AwsCredentials {
    /// Credentials from this environment; `region` is where tokens are exchanged.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a region that is none.
    pub fn new(transport: Arc<dyn Transport>, clock: Arc<dyn Clock>, env: Env, region: &str) -> Result<Self> {
        check_region(region)?;
        Ok(Self { transport, clock, env, region: region.to_owned(), current: RwLock::default(), gate: Mutex::default() })
    }

    /// The keys to sign with now.
    pub(super) async fn keys(&self) -> Result<Arc<Keys>> {
        if let Some(keys) = self.in_env()? {
            return Ok(Arc::new(keys));
        }
        let asked_at = self.clock.now();
        if let Some(keys) = self.kept() {
            return Ok(keys);
        }
        // One caller fetches for all; whoever waited for a failure gets it, not a turn.
        let mut failed = self.gate.lock().await;
        if let Some(keys) = self.kept() {
            return Ok(keys);
        }
        if let Some((at, error)) = &*failed
            && *at > asked_at
        {
            return Err(error.clone());
        }
        match self.fetch().await {
            Ok(keys) => {
                let keys = Arc::new(keys);
                *failed = None;
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(keys.clone());
                Ok(keys)
            }
            Err(error) => {
                *failed = Some((self.clock.now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Drops keys that a service refused, so that the next call fetches new ones.
    pub(super) fn forget(&self, keys: &Arc<Keys>) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|known| Arc::ptr_eq(known, keys)) {
            *current = None;
        }
    }

    fn kept(&self) -> Option<Arc<Keys>> {
        let limit = self.clock.wall() + MARGIN;
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        current.filter(|keys| keys.ends_at.is_none_or(|end| limit < end))
    }

    fn var(&self, name: &str) -> Option<String> {
        (self.env)(name).filter(|value| !value.is_empty())
    }

    fn in_env(&self) -> Result<Option<Keys>> {
        let Some(access_key_id) = self.var("AWS_ACCESS_KEY_ID") else { return Ok(None) };
        let secret = self.var("AWS_SECRET_ACCESS_KEY");
        let secret = secret.ok_or_else(|| Error::config("AWS_ACCESS_KEY_ID is set, but AWS_SECRET_ACCESS_KEY is not; set both"))?;
        let session_token = self.var("AWS_SESSION_TOKEN").map(Into::into);
        Ok(Some(Keys { access_key_id, secret_access_key: secret.into(), session_token, ends_at: None }))
    }

    async fn fetch(&self) -> Result<Keys> {
        if let (Some(file), Some(role)) = (self.var("AWS_WEB_IDENTITY_TOKEN_FILE"), self.var("AWS_ROLE_ARN")) {
            return self.by_web_identity(file, &role).await;
        }
        let relative = self.var("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").map(|path| format!("{ECS}{path}"));
        if let Some(url) = relative.or_else(|| self.var("AWS_CONTAINER_CREDENTIALS_FULL_URI")) {
            return self.in_container(&url).await;
        }
        Err(Error::config(
            "there are no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run with a web identity or container role",
        ))
    }

    /// `AssumeRoleWithWebIdentity`, which is not signed: the token is the proof.
    async fn by_web_identity(&self, file: String, role: &str) -> Result<Keys> {
        // The platform replaces the file before its token ends, so it is read each time.
        let token = token_file(file).await?;
        let public = format!("https://sts.{}.{}", self.region, domain(&self.region));
        let wire = Wire::new(self.transport.clone(), "AWS STS", self.var("AWS_ENDPOINT_URL_STS").as_deref().unwrap_or(&public))?;
        let session = self.var("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| "connectors".into());
        let form = url::form_urlencoded::Serializer::new(String::with_capacity(2 * token.len() + 512))
            .append_pair("Action", "AssumeRoleWithWebIdentity")
            .append_pair("Version", "2011-06-15")
            .append_pair("RoleArn", role)
            .append_pair("RoleSessionName", &session)
            .append_pair("WebIdentityToken", &token)
            .finish();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        let body = Bytes::from_owner(Zeroizing::new(form.into_bytes()));
        let answer = wire.send(Method::POST, wire.base().clone(), headers, body).await?;
        let text = std::str::from_utf8(answer.body()).unwrap_or_default();
        if !answer.status.is_success() {
            if answer.status.is_server_error() || answer.status.as_u16() == 429 {
                return Err(wire.passing(&answer, "failed"));
            }
            let code = element(text, "Code").filter(|code| code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric()));
            let what = format!("does not let us be `{role}`: check its trust policy and the service account");
            return Err(wire.error(ErrorKind::Config, what).with_status(answer.status.as_u16()).with_vendor_code(code.unwrap_or("unknown")));
        }
        let keys = element(text, "AccessKeyId").zip(element(text, "SecretAccessKey")).zip(element(text, "SessionToken"));
        let ((id, secret), token) = keys.ok_or_else(|| wire.error(ErrorKind::Config, "does not answer like STS; check AWS_ENDPOINT_URL_STS"))?;
        Ok(Keys {
            access_key_id: id.to_owned(),
            secret_access_key: secret.into(),
            session_token: Some(token.into()),
            ends_at: Some(self.end(element(text, "Expiration"))),
        })
    }

    /// The credential server of a container.
    async fn in_container(&self, url: &str) -> Result<Keys> {
        let parsed = Url::parse(url).map_err(|_| Error::config("AWS_CONTAINER_CREDENTIALS_FULL_URI is not a URL"))?;
        if parsed.scheme() != "https" && !LINK_HOSTS.contains(&parsed.host_str().unwrap_or_default()) {
            return Err(Error::config("AWS_CONTAINER_CREDENTIALS_FULL_URI must be https, or lead to this machine or the container's own link"));
        }
        let wire = Wire::on_link(self.transport.clone(), "the container's AWS credential server", &parsed)?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let token = match self.var("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
            Some(file) => Some(token_file(file).await?),
            None => self.var("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(Zeroizing::new),
        };
        if let Some(token) = token {
            headers.insert(AUTHORIZATION, sensitive(&token)?);
        }
        let answer = wire.send(Method::GET, parsed, headers, Bytes::new()).await?;
        if answer.status.is_server_error() || answer.status.as_u16() == 429 {
            return Err(wire.passing(&answer, "failed"));
        }
        let served: Option<Served> = answer.status.is_success().then(|| serde_json::from_slice(answer.body()).ok()).flatten();
        let served = served.ok_or_else(|| {
            wire.error(ErrorKind::Config, "gives no credentials; check the role of the task or pod").with_status(answer.status.as_u16())
        })?;
        Ok(Keys {
            access_key_id: served.access_key_id.expose_secret().to_owned(),
            secret_access_key: served.secret_access_key,
            session_token: Some(served.token),
            ends_at: Some(self.end(served.expiration.as_deref())),
        })
    }

    /// When temporary keys end; in a quarter of an hour, the shortest AWS gives out, if that cannot be read.
    fn end(&self, text: Option<&str>) -> SystemTime {
        let end = text.and_then(|text| text.trim().parse::<jiff::Timestamp>().ok());
        end.map_or_else(|| self.clock.wall() + Duration::from_secs(900), SystemTime::from)
    }
}

impl fmt::Debug for AwsCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsCredentials").field("region", &self.region).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Served {
    #[serde(deserialize_with = "secret")]
    access_key_id: SecretString,
    #[serde(deserialize_with = "secret")]
    secret_access_key: SecretString,
    #[serde(deserialize_with = "secret")]
    token: SecretString,
    expiration: Option<String>,
}

/// The token in a file that the platform keeps fresh.
async fn token_file(path: String) -> Result<Zeroizing<String>> {
    let shown = connector_core::redact::printable(&path, 200);
    let unreadable = move || Error::config(format!("the AWS token file `{shown}` cannot be read"));
    let read = tokio::task::spawn_blocking(move || {
        use std::io::Read as _;
        let mut text = Zeroizing::new(String::new());
        std::fs::File::open(path)?.take(MAX_TOKEN).read_to_string(&mut text)?;
        std::io::Result::Ok(text)
    });
    let text = read.await.map_err(|_| Error::internal("reading a token file was cut off"))?.map_err(|error| unreadable().with_source(error))?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

/// The text of the first element of this name. STS answers with few flat elements whose texts need no unescaping.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text.trim()).filter(|text| !text.is_empty())
}
