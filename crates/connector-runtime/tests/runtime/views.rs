//! Views over connections: which one is meant, and that the tool behind a view's tool is governed as if it had been called itself.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use connector_core::{
    Actor, CallCx, Connector, ErrorKind, OpCall, OpReply, Result,
    connector::Lifecycle,
    delta::DeltaSource,
    rotation::Rotator,
    spec::{ConnectorSpec, views::ViewSpec},
    state::{AuditFilter, AuditOutcome, Store},
    webhook::WebhookVerifier,
};
use connector_manifest::Manifest;
use connector_runtime::{
    CallOutcome, CallRequest, HubConfig, Role, Runtime,
    config::{ConnectionConfig, PolicyConfig, Writes},
};
use connector_state::MemoryState;
use serde_json::{Map, Value, json};

use crate::fixture::{TestClock, value};

/// An address book: finds, changes and, if it is told to, lists people.
#[derive(Debug)]
struct Book {
    spec: Arc<ConnectorSpec>,
    seen: Mutex<Vec<(String, Map<String, Value>)>>,
}

impl Book {
    fn new(id: &str, lists: bool) -> Arc<Self> {
        let list = if lists { "list_contacts: { call: ID_list, with: { size: \"{limit}\" }, at: .rows }" } else { "" };
        let yaml = r#"
connector: webhook
id: ID
name: Book
base_url: https://book.example.com
models:
  Person: { required: [key], fields: { key: integer, mail: string, name: string, own: "map<any>", since: integer } }
  People: { fields: { rows: "array<Person>" } }
tools:
  - { name: ID_find, doc: Finds., method: GET, path: /find, query: { mail: "{mail}" }, params: [ { name: mail, type: string, required: true } ], returns: "Person?", cache: { ttl: 5m, tags: [] } }
  - { name: ID_list, doc: Lists., method: GET, path: /list, query: { size: "{size}" }, params: [ { name: size, type: integer } ], returns: People }
  - { name: ID_change, doc: Changes., method: PATCH, path: "/people/{who}", body: { own: "{own}" }, repeat: natural, params: [ { name: who, type: string, required: true }, { name: own, type: "map<string>", required: true } ], returns: Person }
views:
  crm:
    models: { Contact: { id: .key, email: .mail, first_name: .name, created_at: .since, custom: .own } }
    operations:
      find_contact: { call: ID_find, with: { mail: "{email}" } }
      update_contact: { call: ID_change, with: { who: "{id}", own: { name: "{first_name}" } }, add: { own: "{custom}" } }
      LIST
"#;
        let yaml = yaml.replace("LIST", list).replace("ID", id);
        let manifest: Manifest = connector_manifest::load(&[("book.yaml", &yaml)], connector_manifest::Strictness::Custom).unwrap().manifest;
        Arc::new(Self { spec: Arc::new(connector_manifest::build_spec(&Arc::new(manifest), id)), seen: Mutex::default() })
    }

    fn seen(&self) -> Vec<(String, Map<String, Value>)> {
        self.seen.lock().unwrap().clone()
    }
}

#[async_trait]
impl Connector for Book {
    fn spec(&self) -> &Arc<ConnectorSpec> {
        &self.spec
    }

    async fn call(&self, _: &CallCx, call: OpCall) -> Result<OpReply> {
        self.seen.lock().unwrap().push((call.operation.to_string(), call.args.clone().into()));
        let ada = json!({ "key": 7, "mail": "ada@b.c", "name": "Ada", "own": { "tier": "gold" }, "since": 1_767_225_600, "loud": true });
        let body = match call.operation.rsplit_once('_').unwrap().1 {
            "find" if call.args["mail"] != "ada@b.c" => Value::Null,
            "list" => json!({ "rows": [ada] }),
            _ => ada,
        };
        OpReply::from_value(body, call.decode)
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

    fn rotator(&self) -> Option<&dyn Rotator> {
        None
    }
}

/// A connection of this connector.
fn linked(connector: &str, tenant: &str, workspaces: &[&str]) -> ConnectionConfig {
    let mut connection = ConnectionConfig::new(connector);
    connection.base_url = Some("https://book.example.com".into());
    connection.tenant = Some(tenant.into());
    connection.workspaces = workspaces.iter().map(|workspace| (*workspace).to_owned()).collect();
    connection
}

struct World {
    red: Arc<Book>,
    blue: Arc<Book>,
    runtime: Runtime,
}

async fn world(connections: &[(&str, ConnectionConfig)], policy: PolicyConfig) -> World {
    let (red, blue) = (Book::new("red", true), Book::new("blue", false));
    let connections = connections.iter().map(|(id, connection)| ((*id).to_owned(), connection.clone())).collect();
    let config = HubConfig { connections, policy, ..HubConfig::default() };
    let clock = TestClock::shared();
    let store: Arc<dyn Store> = Arc::new(MemoryState::new(clock.clone()));
    let builder = Runtime::builder().connector(red.clone()).connector(blue.clone()).config(config).env(|_| None).clock(clock).store(store);
    World { red, blue, runtime: builder.build().await.unwrap() }
}

/// One connection of `acme`, and one of another tenant.
async fn one(policy: PolicyConfig) -> World {
    world(&[("main", linked("red", "acme", &["*"])), ("rival", linked("blue", "globex", &["*"]))], policy).await
}

fn ask(tool: &str, params: Value) -> CallRequest {
    let Value::Object(params) = params else { panic!("parameters are an object") };
    CallRequest::new(tool, params).tenant("acme").by(Actor::User("ada".into()), Role::Operator)
}

fn find() -> CallRequest {
    ask("crm_find_contact", json!({ "email": "ada@b.c" }))
}

fn change() -> CallRequest {
    ask("crm_update_contact", json!({ "id": "7", "first_name": "Ada", "custom": { "size": 3 } }))
}

async fn error(runtime: &Runtime, request: CallRequest) -> (ErrorKind, String) {
    let error = runtime.call(request).await.unwrap_err();
    (error.kind(), error.message().to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_record_comes_in_the_views_words_with_the_vendors_own_fields_and_where_from() {
    let world = one(PolicyConfig::default()).await;
    let expected = json!({
        "id": "7", "email": "ada@b.c", "first_name": "Ada", "created_at": "2026-01-01T00:00:00Z", "custom": { "tier": "gold", "loud": true },
        "source": { "connector": "red", "connection": "main" },
    });
    assert_eq!(value(&world.runtime, find()).await, expected);
    let again = world.runtime.call(find()).await.unwrap().into_reply().unwrap();
    assert!(again.meta.cached, "the tool's own cache answers");
    assert_eq!(value(&world.runtime, ask("crm_list_contacts", json!({ "limit": 2 }))).await, json!({ "items": [expected], "more": false }));
    let nobody = world.runtime.call(ask("crm_find_contact", json!({ "email": "x@b.c" }))).await.unwrap().into_reply().unwrap();
    assert!(nobody.meta.absent && nobody.body.to_value().unwrap().is_null());
    value(&world.runtime, change()).await;
    let calls: Vec<_> = world.red.seen().into_iter().map(|(tool, args)| (tool, Value::Object(args))).collect();
    assert_eq!(
        calls,
        [
            ("red_find".to_owned(), json!({ "mail": "ada@b.c" })),
            ("red_list".to_owned(), json!({ "size": 2 })),
            ("red_find".to_owned(), json!({ "mail": "x@b.c" })),
            // Added fields join the object, and numbers are text where the tool takes text.
            ("red_change".to_owned(), json!({ "who": "7", "own": { "name": "Ada", "size": "3" } })),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn no_connection_is_chosen_silently() {
    let several = world(&[("main", linked("red", "acme", &["*"])), ("second", linked("blue", "acme", &["*"]))], PolicyConfig::default()).await;
    let runtime = &several.runtime;
    assert_eq!(
        error(runtime, find()).await,
        (ErrorKind::Invalid, "several connections do `crm_find_contact`: `main` (red), `second` (blue); say which with `connection`".to_owned())
    );
    assert_eq!(value(runtime, find().connection("second")).await["source"]["connector"], "blue");
    let among = ask("crm_find_contact", json!({ "email": "ada@b.c", "connection": "second" }));
    assert_eq!(value(runtime, among.clone()).await["source"]["connection"], "second");
    assert_eq!(error(runtime, among.connection("main")).await.0, ErrorKind::Invalid);
    // Only one of them lists people, so that one is meant.
    assert_eq!(value(runtime, ask("crm_list_contacts", json!({}))).await["items"][0]["source"]["connection"], "main");
    assert_eq!(
        error(runtime, ask("crm_list_contacts", json!({})).connection("second")).await,
        (ErrorKind::Unsupported, "connection `second` is of `blue`, which does not do `crm_list_contacts`; these do: `main` (red)".to_owned())
    );
    assert_eq!(
        error(runtime, ask("crm_list_deals", json!({}))).await,
        (ErrorKind::Unsupported, "no connection of workspace `default` does `crm_list_deals`; no connector here does".to_owned())
    );
    let globex = error(runtime, find().tenant("globex")).await;
    assert_eq!(globex.0, ErrorKind::Unsupported);
    assert!(globex.1.contains("these connectors do: `blue`, `red`"), "{}", globex.1);
}

#[tokio::test(start_paused = true)]
async fn wrong_arguments_are_told_in_the_views_words() {
    let world = one(PolicyConfig::default()).await;
    for (params, told) in [
        (json!({}), "the parameter `email` is missing: E-mail address"),
        (json!({ "email": 7 }), "`email` must be a string"),
        (json!({ "email": "a@b.c", "mail": "x" }), "there is no parameter `mail`; did you mean `email`?"),
    ] {
        let (kind, message) = error(&world.runtime, ask("crm_find_contact", params)).await;
        assert_eq!((kind, message.as_str()), (ErrorKind::Invalid, told));
    }
    let (kind, message) = error(&world.runtime, ask("crm_find_contact", json!({ "email": "a@b.c", "fields": ["x"] }))).await;
    assert_eq!((kind, message.as_str()), (ErrorKind::Unsupported, "`red` has no place for `fields` of `crm_find_contact`; it takes: email"));
    assert!(world.red.seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_forbids_the_tool_forbids_the_view() {
    let world = one(PolicyConfig { writes: Some(Writes::Deny), ..PolicyConfig::default() }).await;
    let (kind, message) = error(&world.runtime, change()).await;
    assert_eq!(kind, ErrorKind::Denied);
    assert!(message.contains("refused by policy"), "{message}");
    let world = one(PolicyConfig::default()).await;
    let (kind, message) = error(&world.runtime, change().by(Actor::User("eve".into()), Role::Viewer)).await;
    assert_eq!((kind, message.as_str()), (ErrorKind::Denied, "a viewer may only read; `red_change` is a write and needs the role operator"));
    assert!(world.red.seen().is_empty());
    let trail = world.runtime.audit_tail(&"acme".into(), AuditFilter::default()).await.unwrap();
    let seen: Vec<_> = trail.iter().map(|stored| (&*stored.record.operation, &*stored.record.connector, stored.record.outcome)).collect();
    assert_eq!(seen, [("red_change", "red", AuditOutcome::Refused)]);
}

#[tokio::test(start_paused = true)]
async fn an_approval_is_of_the_underlying_call() {
    let world = one(PolicyConfig { writes: Some(Writes::Approve), ..PolicyConfig::default() }).await;
    let pending = |request| {
        let runtime = world.runtime.clone();
        async move {
            match runtime.call(request).await.unwrap() {
                CallOutcome::PendingApproval { approval_id, .. } => approval_id,
                other => panic!("expected a question, got {other:?}"),
            }
        }
    };
    let id = pending(change()).await;
    let approval = world.runtime.approval(&"acme".into(), &id).await.unwrap();
    assert_eq!((&*approval.tool, &approval.arguments["own"]["size"], &approval.arguments["who"]), ("red_change", &json!("3"), &json!("7")));
    let direct = ask("red_change", json!({ "who": "7", "own": { "name": "Ada", "size": "3" } }));
    assert_eq!(pending(direct).await, id, "the same write asks the same question, through whichever door");
    world.runtime.approve(&"acme".into(), &id, &Actor::User("boss".into()), Role::Approver).await.unwrap();
    let mut other = change();
    other.params.insert("first_name".into(), json!("Eve"));
    assert_ne!(pending(other).await, id, "what was not approved is not let through");
    assert!(matches!(world.runtime.call(change()).await.unwrap(), CallOutcome::Done(_)));
    assert_ne!(pending(change()).await, id, "and what was approved once is let through once");
    assert_eq!(world.red.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_same_key_is_the_same_call_and_its_result_comes_in_the_views_words_again() {
    let world = one(PolicyConfig::default()).await;
    let first = value(&world.runtime, change().idempotency_key("k")).await;
    assert_eq!(value(&world.runtime, change().idempotency_key("k")).await, first);
    assert_eq!((first["id"].as_str(), world.red.seen().len()), (Some("7"), 1));
}

#[tokio::test(start_paused = true)]
async fn connections_of_others_are_not_there() {
    let connections =
        [("main", linked("red", "acme", &["*"])), ("sales", linked("blue", "acme", &["ws_sales"])), ("rival", linked("blue", "globex", &["*"]))];
    let world = world(&connections, PolicyConfig::default()).await;
    let runtime = &world.runtime;
    // From the default workspace only `main` fits; from that of sales both do.
    assert_eq!(value(runtime, find()).await["source"]["connection"], "main");
    assert_eq!(error(runtime, find().workspace("ws_sales")).await.0, ErrorKind::Invalid);
    assert_eq!(error(runtime, find().connection("sales")).await.0, ErrorKind::Denied);
    let (foreign, missing) = (error(runtime, find().connection("rival")).await, error(runtime, find().connection("nobody")).await);
    assert_eq!(foreign.0, ErrorKind::NotFound);
    assert_eq!(foreign.1.replace("rival", "ID"), missing.1.replace("nobody", "ID"));
    assert!(world.blue.seen().is_empty());

    let seen = |tenant: &str, workspace: &str| {
        let views = runtime.views(&tenant.into(), |granted| granted.iter().any(|one| one == "*" || one == workspace));
        let over = |view: &connector_runtime::AvailableView| view.over.iter().map(|over| over.connection.clone()).collect::<Vec<_>>().join("+");
        views.iter().map(|view| format!("{} {}", view.tool.spec.name, over(view))).collect::<Vec<_>>()
    };
    assert_eq!(seen("acme", "default"), ["crm_find_contact main", "crm_list_contacts main", "crm_update_contact main"]);
    assert_eq!(seen("acme", "ws_sales"), ["crm_find_contact main+sales", "crm_list_contacts main", "crm_update_contact main+sales"]);
    assert_eq!(seen("globex", "default"), ["crm_find_contact rival", "crm_update_contact rival"]);
    assert!(seen("initech", "default").is_empty(), "a view's tools are there once a connection is");

    let trail = runtime.audit_tail(&"acme".into(), AuditFilter::default()).await.unwrap();
    let refused = trail.iter().map(|stored| &stored.record).filter(|record| record.outcome == AuditOutcome::Refused);
    let refused: Vec<_> = refused.map(|record| (&*record.connector, &*record.operation, &*record.connection)).collect();
    assert_eq!(refused.len(), 4);
    assert!(refused.contains(&("crm", "crm_find_contact", "rival")), "who asked for another's is on its own trail: {refused:?}");
    assert!(runtime.audit_tail(&"globex".into(), AuditFilter::default()).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_description_that_makes_no_sense_offers_nothing() {
    let mut broken = (*Book::new("red", false).spec).clone();
    let views: ViewSpec = serde_json::from_value(json!({ "operations": { "find_contact": { "call": "red_find" } } })).unwrap();
    broken.views = [("crm".into(), views)].into();
    let book = Arc::new(Book { spec: Arc::new(broken), seen: Mutex::default() });
    let connections = [("main".to_owned(), linked("red", "acme", &["*"]))].into();
    let config = HubConfig { connections, ..HubConfig::default() };
    let runtime = Runtime::builder().connector(book).config(config).env(|_| None).store(Arc::new(MemoryState::default())).build().await.unwrap();
    assert!(runtime.views(&"acme".into(), |_| true).is_empty());
    assert_eq!(error(&runtime, find()).await.0, ErrorKind::Unsupported);
}
