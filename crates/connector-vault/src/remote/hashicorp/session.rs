//! The login at a Vault server: one for all callers, renewed at two thirds of its lease.
//!
//! Owns the token. Refuses to let a slow or failing login pile up: whoever waited for one that failed gets its error, not a turn.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use connector_core::{
    Error, ErrorKind, Result,
    clock::{Instant, Rng as _, ThreadRng},
};
use http::{HeaderValue, Method};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::{Call, HashiAuth, Inner, complaint, mount_segments, said, token_header};
use crate::remote::{json_body, secret};

/// After a renewal failed while the token is still good, the next try waits this long.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// A token and how long it lives.
pub(super) struct Session {
    token: SecretString,
    serial: u64,
    lease: Option<Lease>,
}

#[derive(Clone, Copy)]
struct Lease {
    length: Duration,
    renewable: bool,
    renew_at: Instant,
    ends_at: Instant,
}

impl Lease {
    /// A lease of `seconds` from now; 0 stands for one without an end.
    fn new(now: Instant, seconds: u64, renewable: bool) -> Option<Self> {
        if seconds == 0 {
            return None;
        }
        let length = Duration::from_secs(seconds.min(10 * 365 * 86_400));
        // Between 60 % and two thirds, so that the hubs of a fleet do not all come at once. A token is not used up to its last second.
        let renew_at = now + length.mul_f64(0.6 + 0.0666 * ThreadRng.unit());
        let ends_at = now + length.saturating_sub((length / 10).min(Duration::from_secs(10)));
        Some(Self { length, renewable, renew_at, ends_at })
    }
}

impl Session {
    /// The token as a header.
    pub(super) fn header(&self) -> Result<HeaderValue> {
        token_header(&self.token)
    }
}

/// Keeps the one login.
pub(super) struct Keeper {
    auth: HashiAuth,
    current: RwLock<Option<Arc<Session>>>,
    /// Held by whoever logs in or renews.
    gate: Mutex<Gate>,
}

#[derive(Default)]
struct Gate {
    serial: u64,
    failed: Option<(Instant, Error)>,
    no_renewal_before: Option<Instant>,
}

impl Keeper {
    pub(super) fn new(auth: HashiAuth) -> Self {
        Self { auth, current: RwLock::default(), gate: Mutex::default() }
    }

    /// Whether a refused token can be replaced.
    pub(super) fn can_log_in(&self) -> bool {
        matches!(self.auth, HashiAuth::AppRole { .. })
    }

    /// Drops this session, unless somebody else replaced it meanwhile.
    pub(super) fn forget(&self, session: &Session) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|known| known.serial == session.serial) {
            *current = None;
        }
    }

    fn current(&self) -> Option<Arc<Session>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, gate: &mut Gate, token: SecretString, lease: Option<Lease>) -> Arc<Session> {
        gate.serial += 1;
        gate.failed = None;
        gate.no_renewal_before = None;
        let session = Arc::new(Session { token, serial: gate.serial, lease });
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(session.clone());
        session
    }

    /// A session that is good now.
    pub(super) async fn session(&self, server: &Inner) -> Result<Arc<Session>> {
        let asked_at = server.clock.now();
        let usable = |session: &Session| session.lease.is_none_or(|lease| server.clock.now() < lease.ends_at);
        let fresh = |session: &Session| session.lease.is_none_or(|lease| server.clock.now() < lease.renew_at);
        if let Some(session) = self.current().filter(|session| usable(session)) {
            if fresh(&session) {
                return Ok(session);
            }
            // One caller renews; the others go on with what is still good.
            let Ok(mut gate) = self.gate.try_lock() else { return Ok(session) };
            let newest = self.current().filter(|newest| usable(newest)).unwrap_or(session);
            if fresh(&newest) || gate.no_renewal_before.is_some_and(|at| asked_at < at) {
                return Ok(newest);
            }
            return match self.renew(server, &newest).await {
                Ok((token, lease)) => Ok(self.keep(&mut gate, token, lease)),
                Err(error) => {
                    tracing::warn!(place = %server.wire.place(), %error, "a vault token could not be renewed; the one in use is still good");
                    gate.no_renewal_before = Some(server.clock.now() + TRY_AGAIN);
                    Ok(newest)
                }
            };
        }
        let mut gate = self.gate.lock().await;
        if let Some(session) = self.current().filter(|session| usable(session)) {
            return Ok(session);
        }
        if let Some((at, error)) = &gate.failed
            && *at > asked_at
        {
            return Err(error.clone());
        }
        match self.log_in(server).await {
            Ok((token, lease)) => Ok(self.keep(&mut gate, token, lease)),
            Err(error) => {
                gate.failed = Some((server.clock.now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn renew(&self, server: &Inner, session: &Session) -> Result<(SecretString, Option<Lease>)> {
        let Some(lease) = session.lease else { return Ok((session.token.clone(), None)) };
        if lease.renewable {
            let wanted = lease.length.as_secs();
            let call = Call {
                method: Method::POST,
                path: vec!["auth", "token", "renew-self"],
                version: None,
                body: json_body(&serde_json::json!({ "increment": format!("{wanted}s") }))?,
                needs: ("auth/token/renew-self".into(), "update"),
            };
            let answer = server.send(&call, Some(session)).await?;
            let renewed = answer.status.is_success().then(|| serde_json::from_slice::<Login>(answer.body()).ok()).flatten();
            if let Some(auth) = renewed.and_then(|login| login.auth) {
                // Much less than was asked for: the token's longest life is near, and only a new login goes on.
                let is_short = auth.lease_duration != 0 && auth.lease_duration < wanted - wanted / 3;
                if !is_short || !self.can_log_in() {
                    return Ok((auth.client_token, Lease::new(server.clock.now(), auth.lease_duration, auth.renewable)));
                }
            }
        }
        match &self.auth {
            HashiAuth::AppRole { .. } => self.log_in(server).await,
            // Nothing can be done about a given token that cannot be renewed: it is used to its end, and then the server says so.
            HashiAuth::Token(token) => Ok((token.clone(), Some(Lease { renew_at: lease.ends_at, ..lease }))),
        }
    }

    async fn log_in(&self, server: &Inner) -> Result<(SecretString, Option<Lease>)> {
        match &self.auth {
            HashiAuth::Token(token) => self.look_up(server, token).await,
            HashiAuth::AppRole { mount, role_id, secret_id } => {
                let mut path = vec!["auth"];
                path.extend(mount_segments(mount)?);
                path.push("login");
                let body = json_body(&AppRole { role_id, secret_id: secret_id.expose_secret() })?;
                let call = Call { method: Method::POST, path, version: None, body, needs: (format!("auth/{mount}/login"), "update") };
                let answer = server.send(&call, None).await?;
                let refuse = |what: &str| server.wire.error(ErrorKind::Config, what).with_status(answer.status.as_u16());
                if !answer.status.is_success() {
                    // 400 `invalid role or secret ID`; 403 where nothing is mounted, or where the secret is bound to other addresses.
                    let what = format!(
                        "refuses the AppRole login at `auth/{mount}`: the mount is another, or role_id or secret_id is wrong, used up or \
                         expired; make a new secret_id"
                    );
                    return Err(refuse(&what).with_context("said", said(&complaint(&answer))));
                }
                let auth = serde_json::from_slice::<Login>(answer.body()).ok().and_then(|login| login.auth);
                let auth = auth.ok_or_else(|| refuse("does not answer a login like a Vault server; check its address"))?;
                Ok((auth.client_token, Lease::new(server.clock.now(), auth.lease_duration, auth.renewable)))
            }
        }
    }

    /// What the server knows about a given token, so that a periodic one is renewed.
    async fn look_up(&self, server: &Inner, token: &SecretString) -> Result<(SecretString, Option<Lease>)> {
        let session = Session { token: token.clone(), serial: 0, lease: None };
        let call = Call {
            method: Method::GET,
            path: vec!["auth", "token", "lookup-self"],
            version: None,
            body: bytes::Bytes::new(),
            needs: ("auth/token/lookup-self".into(), "read"),
        };
        let answer = server.send(&call, Some(&session)).await?;
        let known = answer.status.is_success().then(|| serde_json::from_slice::<Looked>(answer.body()).ok()).flatten();
        // A token may be good and not allowed to look at itself. Whether it is good shows when it is used.
        let lease = known.and_then(|known| Lease::new(server.clock.now(), known.data.ttl, known.data.renewable));
        Ok((session.token, lease))
    }
}

#[derive(serde::Serialize)]
struct AppRole<'a> {
    role_id: &'a str,
    secret_id: &'a str,
}

#[derive(Deserialize)]
struct Login {
    auth: Option<Auth>,
}

#[derive(Deserialize)]
struct Auth {
    #[serde(deserialize_with = "secret")]
    client_token: SecretString,
    #[serde(default)]
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
}

#[derive(Deserialize)]
struct Looked {
    data: Known,
}

#[derive(Deserialize)]
struct Known {
    #[serde(default)]
    ttl: u64,
    #[serde(default)]
    renewable: bool,
}
