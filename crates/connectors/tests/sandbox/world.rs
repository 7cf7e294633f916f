//! A connector under observation: calls start from the operation's own example, each answer is held against the declared shape, and at
//! the end every operation must have succeeded at least once.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use connector_sandbox::{Sandbox, known};
use connectors::{
    CallCx, Client, Connection, Connector, OpCall, OpReply, Result,
    core::{
        ReplyBody,
        auth::AuthProvider,
        connector::Lifecycle,
        credential::{Credential, MemoryCredentials},
        delta::DeltaSource,
        layer::stack::StackParts,
        resilience::Resilience,
        spec::{AuthSpec, ConnectorSpec},
        webhook::WebhookVerifier,
    },
    http::{Auth, AuthDeps, EgressPolicy, HttpTransport},
    manifest::{ConnectionOptions, Hooks, Manifest},
};
use serde_json::{Map, Value};

/// Remembers which operations succeeded.
#[derive(Debug)]
struct Recording {
    inner: Arc<dyn Connector>,
    succeeded: Arc<Mutex<BTreeSet<String>>>,
}

#[async_trait]
impl Connector for Recording {
    fn spec(&self) -> &Arc<ConnectorSpec> {
        self.inner.spec()
    }

    async fn call(&self, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let operation = call.operation.to_string();
        let reply = self.inner.call(cx, call).await?;
        self.succeeded.lock().unwrap().insert(operation);
        Ok(reply)
    }

    async fn lifecycle(&self, cx: &CallCx, event: Lifecycle) -> Result<()> {
        self.inner.lifecycle(cx, event).await
    }

    fn webhook(&self) -> Option<&dyn WebhookVerifier> {
        self.inner.webhook()
    }

    fn delta(&self) -> Option<&dyn DeltaSource> {
        self.inner.delta()
    }

    fn rotator(&self) -> Option<&dyn connector_core::rotation::Rotator> {
        self.inner.rotator()
    }
}

/// A connector, what succeeded, and what did not.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) client: Client,
    succeeded: Arc<Mutex<BTreeSet<String>>>,
    problems: Mutex<Vec<String>>,
}

impl World {
    pub(crate) fn watching(client: &Client) -> Self {
        let succeeded = Arc::default();
        let recording = Recording { inner: client.connector().clone(), succeeded: Arc::clone(&succeeded) };
        Self { client: Client::new(Arc::new(recording), client.cx().clone()), succeeded, problems: Mutex::default() }
    }

    /// Calls with the arguments of the operation's example and these instead or besides; null takes one away.
    pub(crate) async fn like_example(&self, operation: &str, over: Value) -> Value {
        let Ok(op) = self.client.connector().spec().require(operation) else { panic!("there is no `{operation}`") };
        let mut args = op.example.args.clone();
        for (name, value) in object(over) {
            if value.is_null() {
                args.remove(&name)
            } else {
                args.insert(name, value)
            };
        }
        self.call(operation, args).await
    }

    /// Calls with these arguments only.
    pub(crate) async fn with(&self, operation: &str, args: Value) -> Value {
        self.call(operation, object(args)).await
    }

    async fn call(&self, operation: &str, args: Map<String, Value>) -> Value {
        let reply = match self.client.call_dynamic(operation, args).await {
            Ok(reply) => reply,
            Err(error) => return self.problem(format!("{operation}: {error}")),
        };
        if !reply.partial.is_empty() {
            return self.problem(format!("{operation}: {:?}", reply.partial));
        }
        let is_raw = matches!(reply.body, ReplyBody::Raw { .. });
        let value = match reply.body.to_value() {
            Ok(value) => value,
            Err(error) => return self.problem(format!("{operation}: {error}")),
        };
        let schema = &self.client.connector().spec().require(operation).unwrap().output_schema;
        if !is_raw {
            let validator = jsonschema::validator_for(schema).unwrap();
            for error in validator.iter_errors(&value).take(3) {
                self.problem(format!("{operation}: its answer is not what it declares: {error} at {}", error.instance_path()));
            }
        }
        value
    }

    pub(crate) fn problem(&self, text: String) -> Value {
        self.problems.lock().unwrap().push(text);
        Value::Null
    }

    /// Checks an expectation without ending the run, so that one run shows all that is wrong.
    pub(crate) fn expect(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.problem(what());
        }
    }

    /// Every operation must have succeeded but these, each of which must have a reason and must not have.
    pub(crate) fn finish(&self, not_in_sandbox: &[(&str, &str)]) {
        self.finish_of(|_| true, not_in_sandbox);
    }

    /// As [`World::finish`], for those operations alone that are `ours`: the others are called by another test.
    pub(crate) fn finish_of(&self, ours: impl Fn(&str) -> bool, not_in_sandbox: &[(&str, &str)]) {
        let mut problems = self.problems.lock().unwrap().clone();
        let succeeded = self.succeeded.lock().unwrap();
        for op in self.client.connector().spec().operations().iter().filter(|op| ours(&op.name)) {
            let excused = not_in_sandbox.iter().find(|(name, _)| *name == &*op.name);
            match (succeeded.contains(&*op.name), excused) {
                (false, None) => problems.push(format!("{}: never succeeded", op.name)),
                (true, Some((_, reason))) => problems.push(format!("{}: succeeded, but is excused: {reason}", op.name)),
                _ => {}
            }
        }
        assert!(problems.is_empty(), "{} problem(s):\n{}", problems.len(), problems.join("\n"));
    }
}

fn object(json: Value) -> Map<String, Value> {
    match json {
        Value::Object(map) => map,
        other => panic!("arguments must be an object, not {other}"),
    }
}

pub(crate) fn transport() -> Arc<HttpTransport> {
    Arc::new(HttpTransport::builder().egress(EgressPolicy::new().allow_loopback()).build().unwrap())
}

pub(crate) fn provider(specs: &[AuthSpec], id: &str, credential: Credential, transport: &Arc<HttpTransport>) -> Arc<dyn AuthProvider> {
    Auth::for_spec(specs, Arc::new(MemoryCredentials::with(id, credential)), AuthDeps::new(transport.clone()))
}

/// Patience without waiting: many tries, next to no delay, a breaker that stays shut.
pub(crate) fn tireless() -> StackParts {
    let mut patience = Resilience::standard();
    patience.retry.max_attempts = 10;
    patience.retry.timeout_attempts = 10;
    patience.retry.base_delay = Duration::from_millis(1);
    patience.retry.max_delay = Duration::from_millis(2);
    patience.retry.throttle_base = Duration::from_millis(1);
    patience.retry.throttle_max = Duration::from_millis(2);
    patience.budget.percent = 1_000;
    patience.budget.burst = 100_000;
    patience.breaker.threshold = u32::MAX;
    patience.breaker.min_calls = u32::MAX;
    StackParts::new(patience)
}

/// The published limits are the layers' business and tested there; here they would only make the run slow.
fn unlimited(manifest: &Manifest) -> Arc<Manifest> {
    let mut manifest = manifest.clone();
    manifest.limits.clear();
    Arc::new(manifest)
}

fn client(manifest: &Manifest, hooks: Hooks, connection: Connection, credential: Credential, parts: &StackParts) -> Client {
    let transport = transport();
    let auth = provider(&manifest.auth, connection.credential.as_deref().unwrap(), credential, &transport);
    connectors::manifest::open(unlimited(manifest), hooks, connection, transport, auth, parts).unwrap()
}

/// Microsoft 365 with the token endpoint of the fake.
pub(crate) fn msgraph(sandbox: &Sandbox, parts: &StackParts) -> Client {
    use connectors::msgraph::{Config, ID, hooks, manifest};
    let config = Config {
        base_url: Some(sandbox.base_url(ID)),
        token_url: sandbox.token_url(ID),
        tenant_id: Some(known::GRAPH_TENANT.into()),
        mailbox: Some(known::GRAPH_MAILBOX.into()),
        ..Config::default()
    };
    let credential = Credential::new([("client_id", known::GRAPH_CLIENT_ID), ("client_secret", known::GRAPH_CLIENT_SECRET)]);
    client(&manifest(), hooks(), config.connection(&|_| None).unwrap(), credential, parts)
}

/// HubSpot with a private app token.
pub(crate) fn hubspot(sandbox: &Sandbox, parts: &StackParts) -> Client {
    use connectors::hubspot::{ID, hooks, manifest};
    let options = ConnectionOptions { base_url: Some(sandbox.base_url(ID)), ..ConnectionOptions::default() };
    let connection = connectors::manifest::connection(&manifest(), ID, options, &|_| None).unwrap();
    client(&manifest(), hooks(), connection, Credential::new([("token", known::HUBSPOT_TOKEN)]), parts)
}

/// A CMDB by its profile.
pub(crate) fn cmdb(sandbox: &Sandbox, profile: &str, parts: StackParts) -> connectors::cmdb::Cmdb {
    let fields: Vec<(&'static str, secrecy::SecretString)> = match profile {
        "netbox" => vec![("token", known::NETBOX_TOKEN.into())],
        _ => vec![("username", known::SERVICENOW_USER.into()), ("password", known::SERVICENOW_PASSWORD.into())],
    };
    connectors::cmdb::Cmdb::builder()
        .profile(profile)
        .base_url(sandbox.base_url(profile))
        .credential(fields)
        .transport(transport())
        .resilience(parts)
        .build()
        .unwrap()
}

/// A plain message as it arrives.
pub(crate) fn mail(id: &str) -> Vec<u8> {
    format!(
        "From: Ann <ann@client.example>\r\nTo: support@contoso.example\r\nCc: bob@client.example\r\nSubject: Printer down\r\nMessage-ID: <{id}>\r\n\
         Date: Fri, 20 Nov 2026 09:00:00 +0000\r\n\r\nIt burns.\r\n"
    )
    .into_bytes()
}
