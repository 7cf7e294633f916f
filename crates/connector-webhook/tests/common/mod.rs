//! What the tests of the ingress share: a signer, a request, a target. Each test binary uses a part of it.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "each test binary uses a part; a test may fail this way and says aloud what it skips"
)]

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use connector_core::{
    clock::{Clock, Instant, ManualClock},
    spec::{ConnectorSpec, EventSpec},
    state::Store,
    webhook::{RawWebhook, WebhookVerifier},
};
use connector_manifest::model::Webhook;
use connector_state::MemoryState;
use connector_webhook::{
    ingress::{ConnectionKeys, IngressAnswer, IngressLimits, IngressPipeline, IngressTarget, Strictness},
    schemes,
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use secrecy::SecretString;
use serde_json::{Value, json};

/// The second at which every test starts.
pub const NOW: u64 = 1_795_230_000;
pub const SECRET: &str = "test-secret-of-acme";
pub const URL: &str = "https://hub.example/api/v1/webhooks/crm/support";

/// HMAC-SHA256 in hex.
pub fn sign(secret: &str, message: &[u8]) -> String {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(message);
    hex::encode(mac.finalize().into_bytes())
}

/// `X-Signature` over `{timestamp}.{body}`.
pub fn signed_at(at: u64, body: &[u8]) -> Vec<(String, String)> {
    let message = [at.to_string().as_bytes(), b".", body].concat();
    vec![("x-timestamp".to_owned(), at.to_string()), ("x-signature".to_owned(), sign(SECRET, &message))]
}

pub fn webhook(section: Value) -> Webhook {
    serde_json::from_value(section).unwrap()
}

/// A described MAC with a timestamp, ids at `.id`, kinds at `.type`.
pub fn described() -> Webhook {
    webhook(json!({
        "verify": { "kind": "hmac_sha256", "header": "X-Signature", "timestamp": "X-Timestamp" },
        "event_id": ".id", "event_type": ".type", "order_by": ".contact",
    }))
}

pub fn event(name: &str, schema: Option<Value>) -> EventSpec {
    EventSpec { name: name.into(), doc: String::new(), matches: std::collections::BTreeMap::new(), invalidates: Vec::new(), schema }
}

pub fn spec(events: Vec<EventSpec>) -> Arc<ConnectorSpec> {
    let mut spec = ConnectorSpec::new("crm", "CRM", "1.0.0", Vec::new());
    spec.events = events;
    Arc::new(spec)
}

pub fn headers(pairs: &[(String, String)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (HeaderName::try_from(name).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())).collect()
}

/// Everything one delivery needs, with a memory store behind it.
pub struct Bench {
    pub state: Arc<MemoryState>,
    pub clock: ManualClock,
    pub pipeline: IngressPipeline,
    pub spec: Arc<ConnectorSpec>,
    pub verifier: Arc<dyn WebhookVerifier>,
    pub secrets: Vec<SecretString>,
    pub schema: Strictness,
    pub tenant: &'static str,
}

impl Bench {
    pub fn new(webhook: &Webhook) -> Self {
        let clock = ManualClock::at_unix(NOW);
        let state = Arc::new(MemoryState::new(Arc::new(clock.clone())));
        Self {
            pipeline: IngressPipeline::new(state.clone(), Arc::new(clock.clone()), IngressLimits::default()),
            state,
            clock,
            spec: spec(Vec::new()),
            verifier: schemes::verifier(webhook, &[]).unwrap(),
            secrets: vec![SecretString::from(SECRET)],
            schema: Strictness::Keep,
            tenant: "acme",
        }
    }

    pub async fn send(&self, body: &[u8], pairs: &[(String, String)]) -> IngressAnswer {
        let headers = headers(pairs);
        let body = Bytes::copy_from_slice(body);
        let (tenant, workspace) = (self.tenant.into(), "support".into());
        let keys = [ConnectionKeys { connection: "crm".into(), secrets: self.secrets.clone() }];
        let target = IngressTarget { schema: self.schema, ..IngressTarget::new(&tenant, &workspace, &self.spec, &*self.verifier, &keys) };
        self.pipeline.receive(&target, RawWebhook { method: &Method::POST, url: URL, query: "", headers: &headers, body: &body }).await
    }

    /// Sends a body signed as [`described`] wants it.
    pub async fn deliver(&self, body: &[u8]) -> IngressAnswer {
        self.send(body, &signed_at(NOW, body)).await
    }

    pub async fn kept(&self) -> Vec<connector_core::state::StoredEvent> {
        let store: &dyn Store = &*self.state;
        store.events(&self.tenant.into(), connector_core::state::EventFilter::default()).await.unwrap()
    }
}

/// A clock whose wall time follows tokio's, so that a paused test moves both.
#[derive(Debug)]
pub struct FollowingClock(Instant);

impl FollowingClock {
    pub fn shared() -> Arc<Self> {
        Arc::new(Self(Instant::now()))
    }
}

impl Clock for FollowingClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> std::time::SystemTime {
        std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(NOW) + self.0.elapsed()
    }
}

/// A file of the shared reference material; `None`, said aloud, where it is not there (never in CI).
pub fn shared(path: &str) -> Option<String> {
    let root = std::env::var_os("CONNECTORS_SHARED").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    match std::fs::read_to_string(root.join(path)) {
        Ok(text) => Some(text),
        Err(_) if std::env::var_os("CI").is_some() => panic!("the shared reference material is missing: {path}"),
        Err(_) => {
            eprintln!("skipped: the shared reference material is not there ({path})");
            None
        }
    }
}
