//! A hub in this process with two tenants that know nothing of each other, and a client that asks it without a socket.

use std::{io::Write as _, sync::Arc};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request, StatusCode, header},
};
use connector_core::{Actor, TenantId, state::Store};
use connector_hub::{
    http::{App, router},
    keys::{KeyOrder, Keys},
};
use connector_runtime::{HubConfig, Role, Runtime};
use connector_state::MemoryState;
use connector_vault::{Vault, key::LocalKey};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tower::ServiceExt as _;

use super::vendor;

/// Where browsers reach it.
pub(crate) const PUBLIC: &str = "https://hub.example";

pub(crate) struct World {
    pub(crate) runtime: Runtime,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) vault: Vault,
    pub(crate) keys: Keys,
    pub(crate) router: Router,
    pub(crate) app: App,
    dir: tempfile::TempDir,
}

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{}: {error}", self.body))
    }

    pub(crate) fn header(&self, name: header::HeaderName) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

/// A request to be sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ask<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) key: Option<&'a str>,
    pub(crate) cookie: Option<&'a str>,
    pub(crate) body: Option<Value>,
}

impl World {
    /// `acme` is where the test vendor is; tenants `a` and `b` each have a connection of each connector, named `<connector>-<tenant>`.
    pub(crate) async fn new(acme: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let manifest = dir.path().join("acme.yaml");
        std::fs::File::create(&manifest).unwrap().write_all(vendor::MANIFEST.as_bytes()).unwrap();
        let mut yaml = format!("public_url: {PUBLIC}\negress: {{ allow_loopback: true }}\npolicy: {{ writes: approve }}\nconnections:\n");
        for tenant in ["a", "b"] {
            yaml += &format!("  acme-{tenant}: {{ connector: acme, tenant: {tenant}, base_url: \"{acme}\", egress_allow: [loopback] }}\n");
            for built in connectors::builtins() {
                let manifest = (built.manifest)();
                let fields = manifest.auth.first().map(|auth| auth.fields()).unwrap_or_default();
                let fields: Vec<String> = fields.iter().map(|(name, _)| format!("{name}: \"${{TOKEN}}\"")).collect();
                let settings = match built.id {
                    "cmdb" => "profile: netbox",
                    "msgraph" => "tenant_id: t, mailbox: \"m@example.com\"",
                    _ => "",
                };
                yaml += &format!(
                    "  {id}-{tenant}: {{ connector: {id}, tenant: {tenant}, base_url: \"https://{id}.example.com\", settings: {{ {settings} }}, \
                     credential: {{ {} }} }}\n",
                    fields.join(", "),
                    id = built.id,
                );
            }
        }
        let mut config = HubConfig::parse("hub.yaml", &yaml).unwrap();
        config.manifests = vec![manifest];
        let store: Arc<dyn Store> = Arc::new(MemoryState::default());
        let key = LocalKey::generate_file(&dir.path().join("master.key")).unwrap();
        let vault = Vault::builder(store.clone()).key(Arc::new(key)).open().await.unwrap();
        let env = |name: &str| match name {
            "TOKEN" => Some(format!("{}-env", vendor::CANARY)),
            "ACME_CLIENT_ID" => Some("acme-app".to_owned()),
            "ACME_CLIENT_SECRET" => Some(format!("{}-app", vendor::CANARY)),
            _ => None,
        };
        let builder =
            connectors::builtins().iter().fold(Runtime::builder(), |builder, built| builder.builtin(built.id, (built.manifest)(), (built.hooks)()));
        let runtime = builder.config(config).env(env).store(store.clone()).vault(vault.clone()).build().await.unwrap();
        let app = App::new(runtime.clone(), None, Some(PUBLIC.parse().unwrap()));
        Self { keys: Keys::new(store.clone()), router: router(app.clone()), app, runtime, store, vault, dir }
    }

    /// A key of this tenant.
    pub(crate) async fn key(&self, tenant: &str, role: Role, workspaces: &[&str]) -> String {
        let workspaces = workspaces.iter().map(|&workspace| workspace.to_owned()).collect();
        let order = KeyOrder { tenant: TenantId::from(tenant), role, workspaces, name: None, by: Actor::System };
        self.keys.create(order).await.unwrap().1.expose_secret().to_owned()
    }

    pub(crate) async fn admin(&self, tenant: &str) -> String {
        self.key(tenant, Role::Admin, &["*"]).await
    }

    pub(crate) async fn send(&self, ask: Ask<'_>) -> Answer {
        let mut request = Request::builder().method(ask.method).uri(ask.path);
        if let Some(key) = ask.key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        if let Some(cookie) = ask.cookie {
            request = request.header(header::COOKIE, cookie);
        }
        let body = ask.body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let request = request.header(header::CONTENT_TYPE, "application/json").body(body).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        // A stream does not end by itself; that it began is the answer.
        let body = if parts.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream") { Body::empty() } else { body };
        let bytes = axum::body::to_bytes(body, 4 << 20).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, body: String::from_utf8(bytes.to_vec()).unwrap() }
    }

    pub(crate) async fn get(&self, key: &str, path: &str) -> Answer {
        self.send(Ask { method: "GET", path, key: Some(key), ..Ask::default() }).await
    }

    pub(crate) async fn post(&self, key: &str, path: &str, body: Value) -> Answer {
        self.send(Ask { method: "POST", path, key: Some(key), body: Some(body), ..Ask::default() }).await
    }

    pub(crate) async fn delete(&self, key: &str, path: &str) -> Answer {
        self.send(Ask { method: "DELETE", path, key: Some(key), ..Ask::default() }).await
    }
}
