//! The guide's example is the file beside it, and it works.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use connector_core::{
    CallCx, Result,
    state::{Appended, JobFilter, NewEvent},
    transport::{Body, Request, Response, Transport},
};
use connector_runtime::{HubConfig, Runtime};
use serde_json::json;

use crate::rules_world::{SECRET, event, pass};

/// Answers like the desk and the ERP, and notes what it was asked.
#[derive(Debug, Default)]
struct Outside(Mutex<Vec<String>>);

#[async_trait]
impl Transport for Outside {
    async fn send(&self, _: &CallCx, request: Request) -> Result<Response> {
        let (method, url) = (request.head.method.clone(), request.head.url.clone());
        let body = request.body.collect(1 << 20).await?;
        self.0.lock().unwrap().push(format!("{method} {url} {}", String::from_utf8_lossy(&body)));
        let reply = json!({ "name": "Ada", "plan": "gold" }).to_string();
        Ok(http::Response::builder().header("content-type", "application/json").body(Body::Bytes(reply.into())).unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn the_guides_example_does_what_it_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let file = root.join("examples/rules/hub.yaml");
    let guide = std::fs::read_to_string(root.join("docs/guide/rules.md")).unwrap();
    assert!(guide.contains(&std::fs::read_to_string(&file).unwrap()), "docs/guide/rules.md shows another version of examples/rules/hub.yaml");
    let outside = Arc::new(Outside::default());
    let env = |name: &str| match name {
        "DESK_TOKEN" => Some("t".to_owned()),
        "DESK_WEBHOOK_SECRET" | "ERP_HOOK_SECRET" => Some(SECRET.to_owned()),
        _ => None,
    };
    let builder = Runtime::builder().config(HubConfig::load(&file).unwrap()).env(env).transport(outside.clone());
    let runtime = builder.clock(crate::fixture::TestClock::shared()).build().await.unwrap();
    assert_eq!((runtime.problems(), runtime.rule_problems()), (vec![], vec![]));
    let tasks = runtime.start();
    let ticket = json!({ "type": "ticket.created", "data": { "ticket": { "id": "17", "customer_id": 4, "priority": "high", "subject": "Fire" } } });
    let new = NewEvent {
        tenant: "default".into(),
        workspace: "default".into(),
        connector: "desk".into(),
        connection: "desk".into(),
        event_type: "ticket.created".into(),
        payload: ticket.to_string().into(),
        ..event("d1")
    };
    assert!(matches!(runtime.store().append(vec![new]).await.unwrap()[..], [Appended::New { .. }]));
    pass(20).await;
    let jobs = runtime.store().jobs(&"default".into(), JobFilter::default()).await.unwrap();
    assert!(jobs.iter().all(|job| job.state == connector_core::state::JobState::Done), "{jobs:?}");
    let mut asked = outside.0.lock().unwrap().clone();
    asked.sort();
    let forwarded = asked.pop().unwrap();
    assert_eq!(
        asked,
        [
            "GET https://desk.example/api/customers/4 ",
            r#"POST https://desk.example/api/tickets/1/notes {"text":"[info] Ada wrote: Fire"}"#,
            r#"POST https://desk.example/api/tickets/17/notes {"text":"Ada has the plan gold."}"#,
        ]
    );
    let body: serde_json::Value = serde_json::from_str(forwarded.strip_prefix("POST https://erp.example/hooks/tickets ").unwrap()).unwrap();
    let data = json!({ "ticket": "17", "customer": { "name": "Ada", "plan": "gold" } });
    assert_eq!(body, json!({ "type": "desk.ticket.created", "timestamp": "2027-01-15T08:00:00Z", "data": data }));
    let pushed = runtime.push_log().after(&"default".into(), 0, 10).await.unwrap();
    assert_eq!((pushed.len(), pushed[0].topic.as_str(), &pushed[0].data), (1, "ticket.17", &ticket));
    drop(tasks);
}
