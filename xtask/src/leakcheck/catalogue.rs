//! The whole catalogue in this process: every tool of every connector over the governed call path and the real transport, against a vendor
//! that repeats secrets, in every way a call can end.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, anyhow};
use async_trait::async_trait;
use connector_core::{
    Actor, CallCx, Connection, OpCall, TenantId,
    clock::{Clock as _, SystemClock, unix_millis},
    connector::Connector,
    credential::{CredentialQuery, CredentialStore as _},
    spec::{AuthSpec, ClientAuth, OAuth2Flow, OpSpec},
    state::{AuditFilter, Condition, EventFilter, JobFilter, StoredEvent},
    token::{TokenFacts, TokenRecord, TokenSet, TokenState, TokenStore as _},
    transport::{Request, Response, Transport},
    webhook::RawWebhook,
};
use connector_http::{EgressPolicy, HttpTransport};
use connector_runtime::{CallOutcome, CallRequest, EventHandler, HubConfig, Role, Runtime};
use connector_state::SqliteState;
use connector_vault::{NewCredential, Vault, key::LocalKey};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{
    Secrets,
    hostile::{Hostile, Mode},
    sinks::Sinks,
};

/// How many operations of a way to authenticate that is not a connector's first are called.
const SAMPLE: usize = 3;
/// Connections that are called at the same time.
const ABREAST: usize = 12;
/// The manifest of the connector for everything the built-in ones do not use.
pub(super) const CANARY: &str = include_str!("canary.yaml");

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) tools: usize,
    pub(crate) connections: usize,
    pub(crate) calls: u64,
    pub(crate) answered: u64,
    pub(crate) failed: BTreeMap<&'static str, u64>,
    pub(crate) panicked: u64,
    pub(crate) parked: u64,
}

/// One connection: a connector, a way to authenticate, a vendor's mood.
#[derive(Debug, Clone)]
struct Link {
    id: String,
    connector: String,
    scheme: Option<AuthSpec>,
    mode: Mode,
    panics: bool,
    /// Every tool, not a sample.
    whole: bool,
}

pub(crate) async fn run(dir: &Path, secrets: &Secrets, hostile: &Arc<Hostile>, sinks: &Sinks) -> Result<Done> {
    let manifest = dir.join("canary.yaml");
    std::fs::write(&manifest, CANARY)?;
    let store = Arc::new(SqliteState::open(dir.join("catalogue.db"))?);
    let key = LocalKey::from_text(Some("main"), &secrets.master_key, "leakcheck's own key")?;
    sinks.shown(&key);
    let vault = Vault::builder(store.clone()).key(Arc::new(key)).open().await?;

    let links = links(&manifest).await?;
    let mut connections = serde_json::Map::new();
    for link in &links {
        keep(&vault, secrets, link, sinks).await?;
        connections.insert(link.id.clone(), entry(link, hostile));
    }
    let config = json!({
        "manifests": [manifest.display().to_string()],
        "egress": { "allow_loopback": true },
        "connections": connections,
        "resilience": {
            "retry": { "max_attempts": 1, "timeout_attempts": 1 },
            "breaker": { "threshold": 10000, "min_calls": 10000, "failure_percent": 100 },
            "limits": { "max_wait_ms": 300 },
            "timeout": { "read_ms": 250, "write_ms": 250, "long_ms": 250, "operation_ms": 3000 },
        },
    });
    let config = HubConfig::parse("hub.yaml", &config.to_string()).map_err(|problems| anyhow!("{problems}"))?;
    sinks.shown(&config);
    let webhook_secret = secrets.webhook.clone();
    let transport = Panicky(Arc::new(HttpTransport::builder().egress(EgressPolicy::new().allow_loopback()).build()?));
    let runtime = connectors::builtins()
        .iter()
        .fold(Runtime::builder(), |builder, built| builder.builtin(built.id, (built.manifest)(), (built.hooks)()))
        .config(config)
        .env(move |name| (name == "CANARY_WEBHOOK").then(|| webhook_secret.clone()))
        .store(store.clone())
        .vault(vault.clone())
        .transport(Arc::new(transport))
        .on_event(Arc::new(Careless { secret: secrets.webhook.clone() }))
        .build()
        .await?;
    sinks.shown(&runtime);
    sinks.shown(&vault);
    let tasks = runtime.start();

    let mut done = Done { connections: links.len(), tools: runtime.registry().operations().count(), ..Done::default() };
    let mut set: JoinSet<Result<Done>> = JoinSet::new();
    for link in links {
        while set.len() >= ABREAST {
            add(&mut done, set.join_next().await)?;
        }
        let (runtime, hostile, sinks) = (runtime.clone(), hostile.clone(), sinks.clone());
        set.spawn(async move { calls(&runtime, &link, &hostile, &sinks).await });
    }
    while !set.is_empty() {
        add(&mut done, set.join_next().await)?;
    }
    webhooks(&runtime, secrets, sinks).await?;
    views(&runtime, &vault, sinks).await?;
    tasks.shutdown(Duration::from_secs(5)).await;
    Ok(done)
}

fn add(sum: &mut Done, one: Option<std::result::Result<Result<Done>, tokio::task::JoinError>>) -> Result<()> {
    let Some(one) = one else { return Ok(()) };
    let one = one.context("a caller panicked")??;
    sum.calls += one.calls;
    sum.answered += one.answered;
    sum.panicked += one.panicked;
    sum.parked += one.parked;
    for (kind, count) in one.failed {
        *sum.failed.entry(kind).or_default() += count;
    }
    Ok(())
}

/// All connections: the first way of each connector in every mood with every tool, the other ways with some tools.
async fn links(manifest: &Path) -> Result<Vec<Link>> {
    let config = json!({ "manifests": [manifest.display().to_string()] });
    let config = HubConfig::parse("hub.yaml", &config.to_string()).map_err(|problems| anyhow!("{problems}"))?;
    let runtime = connectors::builtins()
        .iter()
        .fold(Runtime::builder(), |builder, built| builder.builtin(built.id, (built.manifest)(), (built.hooks)()))
        .config(config)
        .env(|_| None)
        .build()
        .await?;
    if let Some(problem) = runtime.problems().first() {
        return Err(anyhow!("the connector `canary` does not load: {problem:?}"));
    }
    let mut links = Vec::new();
    for connector in runtime.registry().iter() {
        let id = connector.spec().id.to_string();
        for (number, scheme) in connector.spec().auth.iter().enumerate() {
            for mode in Mode::ALL {
                let whole = number == 0 && matches!(mode, Mode::Good | Mode::Invalid | Mode::Silent);
                let link = Link {
                    id: format!("{id}-{number}-{}", mode.name()),
                    connector: id.clone(),
                    scheme: Some(scheme.clone()),
                    mode,
                    panics: false,
                    whole,
                };
                links.push(link);
            }
            let link = Link {
                id: format!("{id}-{number}-panic"),
                connector: id.clone(),
                scheme: Some(scheme.clone()),
                mode: Mode::Good,
                panics: true,
                whole: number == 0,
            };
            links.push(link);
        }
    }
    Ok(links)
}

/// The connection in the hub's configuration.
fn entry(link: &Link, hostile: &Hostile) -> Value {
    let mut base = hostile.base(link.mode, &link.id);
    if link.panics {
        base.push_str("/panic");
    }
    // Which way to authenticate follows from the credential, which says how it is meant.
    let mut settings = json!({
        "token_url": format!("{base}/token"), "tenant_id": "t", "mailbox": "support@example.com", "profile": "netbox",
    });
    if link.connector != "cmdb" {
        settings.as_object_mut().map(|settings| settings.remove("profile"));
    }
    let mut entry = json!({ "connector": link.connector, "base_url": base, "credential": link.id, "settings": settings });
    // One connection of each connector receives webhooks, in a workspace of its own.
    if link.id.ends_with("-0-good") {
        entry["webhook"] = json!({ "secrets": ["${CANARY_WEBHOOK}"], "public_url": "https://hub.example" });
        entry["workspaces"] = json!(["default", format!("ws_{}", link.connector)]);
    }
    entry
}

/// Puts the connection's credential into the vault.
async fn keep(vault: &Vault, secrets: &Secrets, link: &Link, sinks: &Sinks) -> Result<()> {
    let Some(scheme) = &link.scheme else { return Ok(()) };
    let mut fields: Vec<(&str, String)> = Vec::new();
    match scheme {
        AuthSpec::Bearer { .. } => fields.push(("token", secrets.bearer.clone())),
        AuthSpec::ApiKey { .. } => fields.push(("key", secrets.api_key.clone())),
        AuthSpec::Basic { .. } => fields.extend([("username", "svc".to_owned()), ("password", secrets.password.clone())]),
        AuthSpec::Hmac(_) => fields.push(("secret", secrets.hmac.clone())),
        AuthSpec::All { .. } => fields.extend(scheme.fields().into_iter().map(|(field, _)| match field {
            "token" => (field, secrets.bearer.clone()),
            "key" => (field, secrets.api_key.clone()),
            "password" => (field, secrets.password.clone()),
            "secret" => (field, secrets.hmac.clone()),
            _ => (field, "svc".to_owned()),
        })),
        AuthSpec::OAuth2(oauth2) => {
            fields.push(("client_id", "client-1".to_owned()));
            if oauth2.flow == OAuth2Flow::JwtBearer || oauth2.client_auth == ClientAuth::PrivateKeyJwt {
                fields.extend([("private_key", secrets.private_key.clone()), ("subject", "svc@example.com".to_owned())]);
            } else {
                fields.push(("client_secret", secrets.client_secret.clone()));
            }
        }
        _ => {}
    }
    let name = match scheme {
        AuthSpec::OAuth2(oauth2) => oauth2.flow.as_str(),
        other => other.kind(),
    };
    let new = NewCredential {
        fields: fields.into_iter().map(|(field, value)| (field.to_owned(), SecretString::from(value))).collect(),
        scheme: Some(name.into()),
        connector: Some(link.connector.clone()),
        workspaces: vec!["*".into()],
        ..NewCredential::default()
    };
    sinks.shown(&new);
    sinks.shown(&vault.set(&TenantId::default(), &link.id, new).await?);
    if let AuthSpec::OAuth2(oauth2) = scheme
        && oauth2.flow.has_consent()
    {
        let now = unix_millis(SystemClock.wall());
        // About to end, so that the first call renews them.
        let facts = TokenFacts { state: TokenState::Active, serial: 1, obtained_at: now, expires_at: Some(now + 1), ..TokenFacts::default() };
        let tokens = TokenSet { access: secrets.access.clone().into(), refresh: Some(secrets.refresh.clone().into()) };
        let record = TokenRecord { tokens, facts };
        let cx = CallCx::new(Arc::new(Connection::new(&link.connector, "https://x.example")?));
        let query = CredentialQuery::of(&cx, &link.id).for_errand("leakcheck");
        vault.save(&query, &record, Condition::Absent).await?;
        sinks.shown(&record);
        sinks.shown(&vault.load(&query).await?);
        sinks.shown(&vault.get(&query).await?);
    }
    Ok(())
}

/// Every tool, or some, over one connection, one after the other.
async fn calls(runtime: &Runtime, link: &Link, hostile: &Hostile, sinks: &Sinks) -> Result<Done> {
    let registry = runtime.registry();
    let connector: Arc<dyn Connector> = registry.require(&link.connector)?.clone();
    let mut done = Done::default();
    let operations = connector.spec().operations();
    let step = if link.whole { 1 } else { operations.len().div_ceil(SAMPLE).max(1) };
    for op in operations.iter().step_by(step) {
        hostile.reply(&link.id, op.example.status.unwrap_or(200), op.example.reply.clone());
        call(runtime, link, op, false, sinks, &mut done).await;
        if link.mode == Mode::Good && link.whole {
            call(runtime, link, op, true, sinks, &mut done).await;
        }
    }
    let checked = {
        let (runtime, id) = (runtime.clone(), link.id.clone());
        tokio::spawn(async move { runtime.check(&TenantId::default(), &id).await }).await
    };
    if let Ok(Err(error)) = checked {
        sinks.error(&error);
    }
    let cx = CallCx::new(runtime.connection(&TenantId::default(), &link.id)?);
    sinks.shown(&cx);
    if link.whole {
        sinks.shown(&connector);
    }
    if let Some(op) = operations.first() {
        match runtime.render(&cx, &OpCall::new(op.name.clone(), op.example.args.clone())) {
            Ok(request) => sinks.add("dry runs", serde_json::to_string(&request)?),
            Err(error) => sinks.error(&error),
        }
    }
    Ok(done)
}

/// One call in a task of its own, because it may panic; a write that waits for a yes gets one and is called again.
async fn call(runtime: &Runtime, link: &Link, op: &Arc<OpSpec>, dry_run: bool, sinks: &Sinks, done: &mut Done) {
    for _ in 0..2 {
        let mut request = CallRequest::new(op.name.to_string(), op.example.args.clone()).connection(link.id.clone());
        request.actor = Actor::User("ada".into());
        request.deadline = Some(Duration::from_secs(4));
        request.dry_run = dry_run;
        sinks.shown(&request);
        let calling = runtime.clone();
        done.calls += 1;
        match tokio::spawn(async move { calling.call(request).await }).await {
            Ok(Ok(CallOutcome::PendingApproval { approval_id, .. })) => {
                match runtime.approve(&TenantId::default(), &approval_id, &Actor::User("boss".into()), Role::Admin).await {
                    Ok(approval) => sinks.shown(&approval),
                    Err(error) => sinks.error(&error),
                }
                continue;
            }
            Ok(Ok(outcome)) => {
                sinks.shown(&outcome);
                match &outcome {
                    CallOutcome::Done(reply) => {
                        done.answered += 1;
                        match reply.body.to_value() {
                            Ok(value) => sinks.add("replies", value.to_string()),
                            Err(error) => sinks.error(&error),
                        }
                    }
                    CallOutcome::DryRun(request) => match serde_json::to_string(request) {
                        Ok(text) => sinks.add("dry runs", text),
                        Err(error) => sinks.add("dry runs", error.to_string()),
                    },
                    _ => done.parked += 1,
                }
            }
            Ok(Err(error)) => {
                *done.failed.entry(error.kind().as_str()).or_default() += 1;
                sinks.error(&error);
            }
            // The payload of this panic is a secret by design; what is looked at is what the program wrote down about it.
            Err(_) => done.panicked += 1,
        }
        return;
    }
}

/// Deliveries with a good and a bad signature, a parked secret in the address, and a handler that panics over each.
async fn webhooks(runtime: &Runtime, secrets: &Secrets, sinks: &Sinks) -> Result<()> {
    let body = bytes::Bytes::from(json!({ "id": "e1", "type": "thing.created", "thing": "1" }).to_string());
    let good = hex::encode(hmac_sha256(secrets.webhook.as_bytes(), &body));
    for connector in ["canary", "hubspot", "msgraph", "cmdb"] {
        for (signature, secret_header) in [(good.as_str(), false), ("00ff", false), (secrets.webhook.as_str(), true)] {
            let mut headers = HeaderMap::new();
            for name in ["x-hub-signature", "x-hubspot-signature-v3", "x-hook-signature", "authorization"] {
                if secret_header || name != "authorization" {
                    headers.insert(HeaderName::from_static(name), HeaderValue::from_str(signature)?);
                }
            }
            headers.insert("x-hubspot-request-timestamp", HeaderValue::from_str(&unix_millis(SystemClock.wall()).to_string())?);
            let workspace = format!("ws_{connector}");
            let url = format!("https://hub.example/api/v1/webhooks/{connector}/{workspace}");
            let raw = RawWebhook { method: &Method::POST, url: &url, query: "", headers: &headers, body: &body };
            let answer = runtime.receive(&TenantId::default(), connector, &workspace, raw).await;
            sinks.shown(&answer);
        }
    }
    // Long enough for the dispatcher to meet the panic and to write down what it makes of it.
    tokio::time::sleep(Duration::from_millis(800)).await;
    Ok(())
}

/// Everything the runtime shows of what it keeps.
async fn views(runtime: &Runtime, vault: &Vault, sinks: &Sinks) -> Result<()> {
    let tenant = TenantId::default();
    let letters = runtime.dead_letters(&tenant, JobFilter { limit: 5000, ..JobFilter::default() }).await?;
    sinks.add("dead letters", format!("{letters:#?}"));
    let approvals = runtime.approvals(&tenant).await?;
    sinks.add("approvals", format!("{approvals:#?}"));
    let audit = runtime.audit_tail(&tenant, AuditFilter { limit: 10_000, ..AuditFilter::default() }).await?;
    sinks.add("audit", format!("{audit:#?}"));
    let events = runtime.store().events(&tenant, EventFilter { limit: 5000, ..EventFilter::default() }).await?;
    sinks.add("events", format!("{events:#?}"));
    sinks.add("health", format!("{:#?}", runtime.health().await));
    sinks.add("credential lists", format!("{:#?}", vault.list(&tenant).await?));
    sinks.add("credential lists", serde_json::to_string(&vault.list(&tenant).await?)?);
    sinks.add("credential lists", serde_json::to_string(&vault.verify().await?)?);
    sinks.shown(&runtime.stats());
    sinks.shown(runtime.cache());
    sinks.shown(&runtime.problems());
    Ok(())
}

/// A transport that panics with what it was about to send, where the path says so.
#[derive(Debug)]
struct Panicky(Arc<HttpTransport>);

#[async_trait]
impl Transport for Panicky {
    async fn send(&self, cx: &CallCx, request: Request) -> connector_core::Result<Response> {
        if request.head.url.path().contains("/panic/") && !request.head.url.path().ends_with("/token") {
            let headers: Vec<String> = request.head.headers.values().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect();
            std::panic::panic_any(format!("a defect while sending {}", headers.join(" ")));
        }
        self.0.send(cx, request).await
    }
}

/// A program's own handler that panics with a secret in its words.
#[derive(Debug)]
struct Careless {
    secret: String,
}

#[async_trait]
impl EventHandler for Careless {
    async fn handle(&self, _event: &StoredEvent, _attempt: u32) -> connector_core::Result<()> {
        std::panic::panic_any(format!("a defect in a handler that knows {}", self.secret));
    }
}

/// HMAC-SHA256, as the vendor signs.
fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    use hmac::{KeyInit as _, Mac as _};
    hmac::Hmac::<sha2::Sha256>::new_from_slice(key)
        .map(|mut mac| {
            mac.update(message);
            mac.finalize().into_bytes().to_vec()
        })
        .unwrap_or_default()
}
