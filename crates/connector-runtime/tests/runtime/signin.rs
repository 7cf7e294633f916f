//! A vault, an authorization server and an API in memory, and a connector that signs in there.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use connector_core::{
    Actor, CallCx, Error, ErrorKind, Result, TenantId,
    clock::Clock,
    state::Store,
    transport::{Body, Request, Response, Transport},
};
use connector_manifest::{Hooks, Manifest};
use connector_runtime::{ConnectAsk, ConnectBack, ConnectStart, HubConfig, Role, Runtime, RuntimeBuilder, config::ConnectionConfig};
use connector_state::MemoryState;
use connector_vault::{
    NewCredential, Vault,
    key::{Binding, DataKey, LocalKey, MasterKey},
};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::fixture::TestClock;

pub(crate) const CRM: &str = r#"
connector: crm
name: CRM
version: 0.1.0
doc: Contacts.
base_url: https://crm.example
auth:
  - { type: bearer, token_env: CRM_TOKEN, label: private token }
  - type: oauth2
    flow: authorization_code
    authorize_url: https://id.example/authorize
    token_url: https://id.example/token
    revoke_url: https://id.example/revoke
    client_id_env: CRM_CLIENT_ID
    client_secret_env: CRM_CLIENT_SECRET
    base_scopes: [offline_access]
    scopes: [contacts.read]
    rotates: true
  - type: oauth2
    flow: device_code
    token_url: https://id.example/token
    device_url: https://id.example/device
    client_id_env: CRM_CLIENT_ID
    client_secret_env: CRM_CLIENT_SECRET
    base_scopes: [offline_access]
    scopes: [contacts.read]
probe: { tool: crm_me }
webhook:
  verify: { scheme: bearer }
  event_id: .id
  event_type: .event
events:
  contact.changed: { doc: A contact changed., match: { .event: contact.changed } }
tools:
  - { name: crm_me, doc: Who we are., method: GET, path: /me }
  - { name: crm_list, doc: Contacts., method: GET, path: /contacts, scopes: [contacts.read] }
  - { name: crm_create, doc: A new contact., method: POST, path: /contacts, scopes: [contacts.write], body: { name: "{name}" }, params: [{ name: name, type: string, required: true, doc: The name. }] }
"#;

pub(crate) const CALLBACK: &str = "https://hub.example/oauth/callback";

/// What was sent: the address without the query, and the form.
pub(crate) type Sent = (String, BTreeMap<String, String>);

/// `id.example` issues tokens, `crm.example` takes them.
#[derive(Debug, Default)]
pub(crate) struct Vendor {
    sent: Mutex<Vec<Sent>>,
    accepted: Mutex<HashSet<String>>,
    /// The scopes it grants, whatever is asked for.
    pub(crate) grants: Mutex<Option<String>>,
    /// How token requests are refused.
    pub(crate) refuses: Mutex<Option<(u16, &'static str)>>,
    pub(crate) unreachable: AtomicBool,
}

impl Vendor {
    pub(crate) fn accept(&self, token: &str) {
        self.accepted.lock().unwrap().insert(token.to_owned());
    }

    pub(crate) fn forget(&self, token: &str) {
        self.accepted.lock().unwrap().remove(token);
    }

    pub(crate) fn sent(&self, path: &str) -> Vec<Sent> {
        self.sent.lock().unwrap().iter().filter(|(url, _)| url.ends_with(path)).cloned().collect()
    }

    fn token(&self) -> Value {
        let n = self.sent("/token").len();
        let access = format!("at-canary-{n}");
        self.accept(&access);
        let mut answer = json!({ "access_token": access, "refresh_token": format!("rt-canary-{n}"), "token_type": "Bearer", "expires_in": 3600 });
        if let Some(scope) = &*self.grants.lock().unwrap() {
            answer["scope"] = scope.as_str().into();
        }
        answer
    }
}

#[async_trait]
impl Transport for Vendor {
    async fn send(&self, _: &CallCx, request: Request) -> Result<Response> {
        let Request { head, body } = request;
        let form: BTreeMap<String, String> = url::form_urlencoded::parse(&body.collect(65_536).await?).into_owned().collect();
        let place = format!("{}{}", head.url.host_str().unwrap(), head.url.path());
        self.sent.lock().unwrap().push((place.clone(), form.clone()));
        tokio::task::yield_now().await;
        if self.unreachable.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::NotSent, "the network is down"));
        }
        let answer = |status: u16, body: Value| Ok(http::Response::builder().status(status).body(Body::Bytes(body.to_string().into())).unwrap());
        match place.as_str() {
            "id.example/token" => match *self.refuses.lock().unwrap() {
                Some((status, error)) => answer(status, json!({ "error": error })),
                None => answer(200, self.token()),
            },
            "id.example/revoke" => answer(200, json!({})),
            "id.example/device" => answer(
                200,
                json!({ "device_code": "device-canary", "user_code": "WDJB-MJHT", "verification_uri": "https://id.example/go", "expires_in": 600, "interval": 5 }),
            ),
            _ => {
                let said = head.headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
                let token = said.strip_prefix("Bearer ").unwrap_or_default();
                if self.accepted.lock().unwrap().contains(token) {
                    answer(200, json!({ "id": "1" }))
                } else {
                    answer(401, json!({ "message": "no" }))
                }
            }
        }
    }
}

/// A master key that can be taken away.
#[derive(Debug)]
pub(crate) struct FlakyKey {
    inner: LocalKey,
    pub(crate) away: Arc<AtomicBool>,
}

#[async_trait]
impl MasterKey for FlakyKey {
    fn id(&self) -> &str {
        self.inner.id()
    }

    fn place(&self) -> String {
        self.inner.place()
    }

    fn is_remote(&self) -> bool {
        false
    }

    async fn wrap(&self, key: &DataKey, binding: &Binding<'_>) -> Result<Vec<u8>> {
        if self.away.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Transient, "the key service is away"));
        }
        self.inner.wrap(key, binding).await
    }

    async fn unwrap(&self, wrapped: &[u8], binding: &Binding<'_>) -> Result<DataKey> {
        if self.away.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Transient, "the key service is away"));
        }
        self.inner.unwrap(wrapped, binding).await
    }
}

/// Everything around a runtime, so that a second one can be put over the same store.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) vendor: Arc<Vendor>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) key_away: Arc<AtomicBool>,
}

impl World {
    pub(crate) fn new() -> Self {
        let clock = TestClock::shared();
        Self { vendor: Arc::default(), store: Arc::new(MemoryState::new(clock.clone())), clock, key_away: Arc::default() }
    }

    pub(crate) async fn vault(&self) -> Vault {
        let bytes: [u8; 32] = std::array::from_fn(|at| u8::try_from(at).unwrap());
        let inner = LocalKey::new(Some("k1"), bytes.into(), "the test").unwrap();
        let key = FlakyKey { inner, away: self.key_away.clone() };
        Vault::builder(self.store.clone()).key(Arc::new(key)).clock(self.clock.clone()).open().await.unwrap()
    }

    /// A builder with the vault, the store, the clock and the vendor.
    pub(crate) async fn builder(&self, config: HubConfig) -> RuntimeBuilder {
        Runtime::builder()
            .config(config)
            .env(|_| None)
            .clock(self.clock.clone())
            .store(self.store.clone())
            .vault(self.vault().await)
            .transport(self.vendor.clone())
    }

    /// The store as a runtime has it, where payloads can be read.
    pub(crate) async fn opened(&self) -> Arc<dyn Store> {
        self.builder(HubConfig::default()).await.build().await.unwrap().store().clone()
    }

    /// A runtime with the connector that signs in.
    pub(crate) async fn runtime(&self, config: HubConfig) -> Runtime {
        self.builder(config).await.builtin("crm", manifest(), Hooks::new()).build().await.unwrap()
    }
}

pub(crate) fn manifest() -> Arc<Manifest> {
    Arc::new(connector_manifest::parse("crm.yaml", CRM).unwrap_or_else(|error| panic!("{error}")).manifest)
}

/// One connection of each of two tenants.
pub(crate) fn hub() -> HubConfig {
    let connection = |tenant: &str| ConnectionConfig { tenant: Some(tenant.into()), ..ConnectionConfig::new("crm") };
    HubConfig {
        connections: [("main".to_owned(), connection("acme")), ("rival".to_owned(), connection("globex"))].into(),
        public_url: Some("https://hub.example".into()),
        ..HubConfig::default()
    }
}

pub(crate) fn secrets<const N: usize>(fields: [(&str, &str); N]) -> BTreeMap<String, SecretString> {
    fields.map(|(field, value)| (field.to_owned(), SecretString::from(value))).into()
}

/// Stores the client of the application for a tenant's credential.
pub(crate) async fn with_client(runtime: &Runtime, tenant: &str, name: &str) {
    let new = NewCredential {
        fields: secrets([("client_id", "app"), ("client_secret", "client-canary")]),
        workspaces: vec!["*".into()],
        connector: Some("crm".into()),
        ..NewCredential::default()
    };
    runtime.vault().unwrap().set(&TenantId::from(tenant), name, new).await.unwrap();
}

pub(crate) fn ask(tenant: &str) -> ConnectAsk {
    ConnectAsk {
        tenant: tenant.into(),
        session: "session-1".into(),
        actor: Actor::User("ada".into()),
        role: Role::Operator,
        connector: "crm".into(),
        connection: None,
        tools: vec!["crm_list".into()],
        scopes: Vec::new(),
        redirect_uri: CALLBACK.into(),
        next: Some("/connections".into()),
    }
}

/// The answer of a browser.
pub(crate) fn back(start: &ConnectStart) -> ConnectBack {
    ConnectBack {
        session: "session-1".into(),
        query: vec![("code".into(), "code-canary".into()), ("state".into(), start.state.clone())],
        redirect_uri: CALLBACK.into(),
    }
}

/// Connects `main` of `acme`.
pub(crate) async fn connected(world: &World) -> Runtime {
    let runtime = world.runtime(hub()).await;
    with_client(&runtime, "acme", "main").await;
    let start = runtime.begin_connect(ask("acme")).await.unwrap();
    let report = runtime.finish_connect(back(&start)).await.unwrap();
    assert_eq!(report.checked, None, "{report:?}");
    runtime
}
