//! A connector that answers from a script, a clock whose wall time follows tokio's, and runtimes around them.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use connector_core::{
    CallCx, Connector, Error, ErrorKind, OpCall, OpReply, Result,
    clock::{Clock, Instant},
    connector::Lifecycle,
    delta::DeltaSource,
    spec::{Approval, CacheSpec, ConnectorSpec, Effect, EventSpec, Example, LookupSpec, OpSpec, ParamSpec, Repeat, TimeoutClass},
    state::Store,
    webhook::WebhookVerifier,
};
use connector_runtime::{
    CallRequest, HubConfig, Runtime,
    config::{ConnectionConfig, PolicyConfig},
};
use connector_state::MemoryState;
use serde_json::{Map, Value, json};

/// Wall time that moves with tokio's.
#[derive(Debug)]
pub(crate) struct TestClock(Instant);

impl TestClock {
    pub(crate) fn shared() -> Arc<dyn Clock> {
        Arc::new(Self(Instant::now()))
    }
}

impl Clock for TestClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) + Instant::now().duration_since(self.0)
    }
}

/// One answer.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Ok(Value),
    Absent,
    Fail(ErrorKind),
    Slow(Duration, Value),
}

/// One call as the connector saw it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) operation: String,
    pub(crate) args: Map<String, Value>,
    pub(crate) key: Option<String>,
}

/// Answers from a script, then with `{"id": "<n>", "n": n}`.
#[derive(Debug)]
pub(crate) struct Scripted {
    spec: Arc<ConnectorSpec>,
    steps: Mutex<HashMap<String, VecDeque<Step>>>,
    seen: Mutex<Vec<Seen>>,
}

impl Scripted {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { spec: Arc::new(spec()), steps: Mutex::default(), seen: Mutex::default() })
    }

    pub(crate) fn script(&self, operation: &str, steps: impl IntoIterator<Item = Step>) {
        self.steps.lock().unwrap().entry(operation.to_owned()).or_default().extend(steps);
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn sent(&self, operation: &str) -> usize {
        self.seen().iter().filter(|seen| seen.operation == operation).count()
    }
}

#[async_trait]
impl Connector for Scripted {
    fn spec(&self) -> &Arc<ConnectorSpec> {
        &self.spec
    }

    async fn call(&self, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let (step, n) = {
            let mut seen = self.seen.lock().unwrap();
            let key = cx.idempotency_key.as_deref().map(str::to_owned);
            seen.push(Seen { operation: call.operation.to_string(), args: call.args.clone().into(), key });
            let step = self.steps.lock().unwrap().get_mut(&*call.operation).and_then(VecDeque::pop_front);
            (step, seen.len())
        };
        match step {
            None => OpReply::from_value(json!({ "id": call.args.get("id").cloned().unwrap_or_else(|| n.to_string().into()), "n": n }), call.decode),
            Some(Step::Ok(value)) => OpReply::from_value(value, call.decode),
            Some(Step::Absent) => {
                let mut reply = OpReply::from_value(Value::Null, call.decode)?;
                reply.meta.absent = true;
                Ok(reply)
            }
            Some(Step::Fail(kind)) => Err(Error::new(kind, "scripted failure")),
            Some(Step::Slow(time, value)) => {
                tokio::time::sleep(time).await;
                OpReply::from_value(value, call.decode)
            }
        }
    }

    async fn lifecycle(&self, _: &CallCx, _: Lifecycle) -> Result<()> {
        Ok(())
    }

    fn webhook(&self) -> Option<&dyn WebhookVerifier> {
        None
    }

    fn delta(&self) -> Option<&dyn DeltaSource> {
        None
    }

    fn rotator(&self) -> Option<&dyn connector_core::rotation::Rotator> {
        None
    }
}

fn op(name: &str, effect: Effect, repeat: Repeat, params: &[(&str, &str, bool)]) -> OpSpec {
    let properties: Map<String, Value> = params.iter().map(|(name, kind, _)| ((*name).to_owned(), json!({ "type": kind }))).collect();
    let required: Vec<&str> = params.iter().filter(|(.., required)| *required).map(|(name, ..)| *name).collect();
    OpSpec {
        name: name.into(),
        summary: name.into(),
        effect,
        approval: Approval::Policy,
        repeat,
        repeat_ttl_seconds: None,
        absent_is_answer: false,
        lookup: None,
        scopes: Vec::new(),
        limit_class: "default".into(),
        timeout_class: if effect == Effect::Read { TimeoutClass::Read } else { TimeoutClass::Write },
        cache: None,
        batch: None,
        page: None,
        inverse: None,
        params: params
            .iter()
            .map(|(name, kind, required)| ParamSpec {
                name: (*name).into(),
                type_name: (*kind).into(),
                required: *required,
                doc: format!("The {name}."),
                default: None,
                setting: None,
            })
            .collect(),
        input_schema: json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false }).into(),
        output_schema: json!({}).into(),
        endpoint: "native".into(),
        docs: None,
        example: Example::default().into(),
    }
}

fn spec() -> ConnectorSpec {
    let id = &[("id", "string", true)];
    let mut get = op("crm_get", Effect::Read, Repeat::Natural, &[("id", "string", true), ("fields", "string", false)]);
    get.cache = Some(CacheSpec { ttl_seconds: 300, tags: vec!["contact:{id}".into(), "email:{reply.email}".into()] });
    let mut remove = op("crm_delete", Effect::Destructive, Repeat::Natural, id);
    remove.approval = Approval::Required;
    let mut upsert = op("crm_upsert", Effect::Write, Repeat::LookupFirst, &[("email", "string", true)]);
    let by = BTreeMap::from([("email".into(), ".email".to_owned())]);
    upsert.lookup = Some(LookupSpec { tool: "crm_find".into(), by, found: None });
    let mut spec = ConnectorSpec::new(
        "crm",
        "CRM",
        "1.0.0",
        vec![
            get,
            op("crm_find", Effect::Read, Repeat::Natural, &[("email", "string", true)]),
            op("crm_create", Effect::Write, Repeat::Never, &[("email", "string", true), ("amount", "integer", false)]),
            op("crm_update", Effect::Write, Repeat::Natural, &[("id", "string", true), ("name", "string", false)]),
            op("crm_charge", Effect::Write, Repeat::ProviderKey, &[("amount", "integer", true)]),
            upsert,
            remove,
        ],
    );
    spec.events.push(EventSpec {
        name: "contact.changed".into(),
        doc: String::new(),
        matches: BTreeMap::new(),
        invalidates: vec!["contact:{objectId}".into()],
        schema: None,
    });
    spec
}

/// A connection of the scripted connector.
pub(crate) fn connection(tenant: &str, workspaces: &[&str]) -> ConnectionConfig {
    let mut connection = ConnectionConfig::new("crm");
    connection.base_url = Some("https://crm.example".into());
    connection.tenant = Some(tenant.into());
    connection.workspaces = workspaces.iter().map(|workspace| (*workspace).to_owned()).collect();
    connection
}

/// Two tenants, the first with two connections of which one belongs to a workspace.
pub(crate) fn config(policy: PolicyConfig) -> HubConfig {
    let connections = [("main", connection("acme", &["*"])), ("rival", connection("globex", &["*"]))];
    HubConfig { connections: connections.map(|(id, connection)| (id.to_owned(), connection)).into(), policy, ..HubConfig::default() }
}

pub(crate) async fn runtime_with(connector: Arc<Scripted>, config: HubConfig) -> Runtime {
    let clock = TestClock::shared();
    let store: Arc<dyn Store> = Arc::new(MemoryState::new(clock.clone()));
    runtime_over(connector, config, clock, store).await
}

pub(crate) async fn runtime_over(connector: Arc<Scripted>, config: HubConfig, clock: Arc<dyn Clock>, store: Arc<dyn Store>) -> Runtime {
    Runtime::builder().connector(connector).config(config).env(|_| None).clock(clock).store(store).build().await.unwrap()
}

pub(crate) async fn runtime(connector: &Arc<Scripted>) -> Runtime {
    runtime_with(connector.clone(), config(PolicyConfig::default())).await
}

/// A call by tenant `acme`.
pub(crate) fn call(tool: &str, params: Value) -> CallRequest {
    let Value::Object(params) = params else { panic!("parameters are an object") };
    CallRequest::new(tool, params).tenant("acme")
}

/// The reply's body, or what happened instead.
pub(crate) async fn value(runtime: &Runtime, request: CallRequest) -> Value {
    let outcome = runtime.call(request).await.unwrap();
    outcome.into_reply().expect("a reply").body.to_value().unwrap()
}
