//! HashiCorp Vault and OpenBao: one client with its login, a KV v2 store and a transit key over it.
//!
//! The facts are those of the HTTP API as OpenBao 2.7 answers it and as hvac 2.4 speaks it. Refuses retries of its own: a passing
//! failure is the vault's to bridge with what it holds.

mod kv;
mod session;
mod transit;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use connector_core::{Error, ErrorKind, Result, clock::Clock, transport::Transport};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header::CONTENT_TYPE};
use secrecy::SecretString;
use serde::Deserialize;
use url::Url;

use self::session::{Keeper, Session};
use super::{
    path::{check, is_plain},
    wire::{Answer, Wire, header, said, sensitive},
};

pub use self::{kv::KvStore, transit::TransitKey};

/// After a new login did not help against a refusal, the next one waits this long: a path that the policy forbids stays forbidden, and
/// each call for it must not cost a login.
const LOGIN_AGAIN: Duration = Duration::from_secs(30);

/// How the client proves itself.
pub enum HashiAuth {
    /// A token somebody else made. It is renewed while it can be.
    Token(SecretString),
    /// AppRole: logs in, renews at two thirds of the lease, logs in again when that ends.
    AppRole {
        /// Where the method is mounted: `approle` if not moved.
        mount: String,
        /// The role.
        role_id: String,
        /// Its secret.
        secret_id: SecretString,
    },
}

impl fmt::Debug for HashiAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(_) => f.write_str("Token"),
            Self::AppRole { mount, .. } => f.debug_struct("AppRole").field("mount", mount).finish_non_exhaustive(),
        }
    }
}

/// A Vault or OpenBao server, and our login there. Clones share the login.
#[derive(Clone)]
pub struct HashiClient(Arc<Inner>);

struct Inner {
    wire: Wire,
    namespace: Option<HeaderValue>,
    keeper: Keeper,
    clock: Arc<dyn Clock>,
    /// Milliseconds after the start of this client until which a refusal does not lead to a new login.
    no_login_before: AtomicU64,
    born: connector_core::clock::Instant,
}

impl HashiClient {
    /// A client of the server at `url` (`https://bao.internal:8200`). Nothing is sent yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a URL, namespace or mount that cannot be used.
    pub fn new(transport: Arc<dyn Transport>, clock: Arc<dyn Clock>, url: &str, namespace: Option<&str>, auth: HashiAuth) -> Result<Self> {
        let wire = Wire::new(transport, "Vault/OpenBao", url)?;
        let namespace = namespace
            .map(|text| {
                let plain = text.trim_matches('/').split('/').all(is_plain);
                HeaderValue::from_str(text).ok().filter(|_| plain).ok_or_else(|| Error::config("the namespace is not a path such as `team/eu`"))
            })
            .transpose()?;
        if let HashiAuth::AppRole { mount, .. } = &auth {
            mount_segments(mount)?;
        }
        let born = clock.now();
        Ok(Self(Arc::new(Inner { wire, namespace, keeper: Keeper::new(auth), clock, no_login_before: AtomicU64::new(0), born })))
    }

    /// `Vault/OpenBao at https://bao.internal:8200`.
    fn place(&self) -> &str {
        self.0.wire.place()
    }

    /// Sends a request with the current token. Gives 2xx, 400 and 404 answers; a refused token is replaced once.
    async fn call(&self, request: Call<'_>) -> Result<Answer> {
        let inner = &*self.0;
        let session = inner.session().await?;
        let answer = inner.send(&request, Some(&session)).await?;
        if answer.status != StatusCode::FORBIDDEN {
            return Ok(answer);
        }
        if !inner.keeper.can_log_in() || inner.uptime() < inner.no_login_before.load(Ordering::Relaxed) {
            return Err(inner.forbidden(&request, &answer));
        }
        inner.keeper.forget(&session);
        let session = inner.session().await?;
        let answer = inner.send(&request, Some(&session)).await?;
        if answer.status == StatusCode::FORBIDDEN {
            let until = inner.uptime().saturating_add(LOGIN_AGAIN.as_millis().try_into().unwrap_or(u64::MAX));
            inner.no_login_before.store(until, Ordering::Relaxed);
            return Err(inner.forbidden(&request, &answer));
        }
        Ok(answer)
    }

    /// A 400 nobody expected.
    fn refused(&self, answer: &Answer, what: &str) -> Error {
        self.0.wire.error(ErrorKind::Config, what).with_status(answer.status.as_u16()).with_context("said", said(&complaint(answer)))
    }

    /// An answer without what it must hold.
    fn odd(&self, what: &str) -> Error {
        self.0.wire.error(ErrorKind::Config, format!("does not answer like {what}; check its address and the mount"))
    }
}

impl fmt::Debug for HashiClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HashiClient").field(&self.place()).finish()
    }
}

/// One request.
struct Call<'a> {
    method: Method,
    /// The path below `/v1`, each part one segment.
    path: Vec<&'a str>,
    /// The version of a secret.
    version: Option<u64>,
    body: Bytes,
    /// What the policy must allow: the path as policies write it and the capability.
    needs: (String, &'static str),
}

impl Inner {
    async fn session(&self) -> Result<Arc<Session>> {
        self.keeper.session(self).await
    }

    fn uptime(&self) -> u64 {
        let time = self.clock.now().saturating_duration_since(self.born).as_millis();
        time.try_into().unwrap_or(u64::MAX)
    }

    async fn send(&self, call: &Call<'_>, session: Option<&Session>) -> Result<Answer> {
        let mut headers = HeaderMap::new();
        // Agent proxies ask for it, against requests forged through a browser; servers do not mind.
        header(&mut headers, "x-vault-request", HeaderValue::from_static("true"));
        if let Some(namespace) = &self.namespace {
            header(&mut headers, "x-vault-namespace", namespace.clone());
        }
        if let Some(session) = session {
            header(&mut headers, "x-vault-token", session.header()?);
        }
        if !call.body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let answer = self.wire.send(call.method.clone(), self.url(call)?, headers, call.body.clone()).await?;
        match answer.status.as_u16() {
            200..=299 | 400 | 403 | 404 => Ok(answer),
            503 => Err(self.wire.passing(&answer, "is sealed or not ready; unseal it")),
            429 => Err(self.wire.passing(&answer, "is standby or over its quota")),
            // 412: the node has not yet seen what was just written; 472, 473: a standby that does not serve (unverified).
            412 | 472 | 473 | 500..=599 => Err(self.wire.passing(&answer, "failed")),
            status => Err(self.wire.error(ErrorKind::Config, "does not answer like a Vault server; check its address").with_status(status)),
        }
    }

    fn url(&self, call: &Call<'_>) -> Result<Url> {
        let mut url = self.wire.base().clone();
        url.path_segments_mut()
            .map_err(|()| Error::config("the address of a Vault server cannot carry a path"))?
            .pop_if_empty()
            .push("v1")
            .extend(&call.path);
        if let Some(version) = call.version {
            url.query_pairs_mut().append_pair("version", &version.to_string());
        }
        Ok(url)
    }

    fn forbidden(&self, call: &Call<'_>, answer: &Answer) -> Error {
        let (path, capability) = &call.needs;
        let what = format!("refuses us: the token is no longer good, or its policy lacks `path \"{path}\" {{ capabilities = [\"{capability}\"] }}`");
        self.wire.error(ErrorKind::Config, what).with_status(answer.status.as_u16())
    }
}

/// The parts of a mount such as `secret` or `team/kv`.
fn mount_segments(mount: &str) -> Result<Vec<&str>> {
    mount.trim_matches('/').split('/').map(|part| check("mount", part).map(|()| part)).collect()
}

/// What the server complained about (`{"errors":["permission denied"]}`).
fn complaint(answer: &Answer) -> String {
    #[derive(Default, Deserialize)]
    struct Errors {
        #[serde(default)]
        errors: Vec<String>,
    }
    serde_json::from_slice::<Errors>(answer.body()).unwrap_or_default().errors.join("; ")
}

/// A token as a header.
fn token_header(token: &SecretString) -> Result<HeaderValue> {
    sensitive(secrecy::ExposeSecret::expose_secret(token))
}

#[cfg(test)]
mod tests;
