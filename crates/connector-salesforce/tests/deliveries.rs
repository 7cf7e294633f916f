//! Outbound messages through the whole ingress: what is kept, under which id, what Salesforce is answered, and what is refused on the way.
#![allow(clippy::unwrap_used, reason = "in tests a panic is the failure")]

use std::sync::Arc;

use bytes::Bytes;
use connector_core::{
    Connector as _,
    clock::ManualClock,
    context::{TenantId, WorkspaceId},
    state::{EventFilter, Store, StoredEvent},
    webhook::RawWebhook,
};
use connector_manifest::Engine;
use connector_salesforce::{OutboundMessages, hooks, manifest};
use connector_state::MemoryState;
use connector_webhook::ingress::{ConnectionKeys, IngressAnswer, IngressLimits, IngressPipeline, IngressTarget, Outcome};
use http::{HeaderMap, Method};
use serde_json::Value;

const ORG: &str = "00Dxx0000001gPLEAY";
const TOKEN: &str = "3b1f0c52d8a947e6b0c4d9e2f7a81c35";

struct Bench {
    state: Arc<MemoryState>,
    pipeline: IngressPipeline,
    engine: Engine,
}

impl Bench {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at_unix(1_767_225_600));
        let state = Arc::new(MemoryState::new(clock.clone()));
        let pipeline = IngressPipeline::new(state.clone(), clock, IngressLimits::default());
        Self { state, pipeline, engine: Engine::builder(manifest()).hooks(hooks()).build().unwrap() }
    }

    async fn send(&self, kind: &str, query: &str, body: &str) -> IngressAnswer {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", kind.parse().unwrap());
        let body = Bytes::copy_from_slice(body.as_bytes());
        let (tenant, workspace) = (TenantId::from("acme"), WorkspaceId::from("support"));
        let keys = [ConnectionKeys { connection: "salesforce".into(), secrets: vec![format!("{ORG}:{TOKEN}").into()] }];
        let verifier = OutboundMessages;
        let target = IngressTarget::new(&tenant, &workspace, self.engine.spec(), &verifier, &keys);
        let request = RawWebhook { method: &Method::POST, url: "https://hub.example/x", query, headers: &headers, body: &body };
        self.pipeline.receive(&target, request).await
    }

    async fn kept(&self) -> Vec<StoredEvent> {
        let store: &dyn Store = &*self.state;
        store.events(&"acme".into(), EventFilter::default()).await.unwrap()
    }
}

fn message(notification: &str, name: &str) -> String {
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body><notifications xmlns="http://soap.sforce.com/2005/09/outbound"><OrganizationId>{ORG}</OrganizationId><ActionId>04kxx0000000001AAA</ActionId><SessionId xsi:nil="true"/><EnterpriseUrl>x</EnterpriseUrl><PartnerUrl>x</PartnerUrl><Notification><Id>{notification}</Id><sObject xsi:type="sf:Contact" xmlns:sf="urn:sobject.enterprise.soap.sforce.com"><sf:Id>003xx000004TmiQAAS</sf:Id><sf:LastName>{name}</sf:LastName></sObject></Notification></notifications></soapenv:Body></soapenv:Envelope>"#
    )
}

#[tokio::test]
async fn a_message_is_kept_once_and_acknowledged_each_time() {
    let bench = Bench::new();
    let query = format!("token={TOKEN}");
    for (round, outcome) in [Outcome::Accepted, Outcome::Duplicate].into_iter().enumerate() {
        let answer = bench.send("text/xml; charset=UTF-8", &query, &message("04lxx0000000001AAA", "O&apos;Hara")).await;
        assert_eq!((answer.status, answer.outcome), (200, outcome), "{round}");
        assert_eq!(answer.content_type, "text/xml; charset=utf-8");
        assert!(std::str::from_utf8(&answer.body).unwrap().contains("<Ack>true</Ack>"));
    }
    let kept = bench.kept().await;
    let [event] = &kept[..] else { panic!("{} events", kept.len()) };
    assert_eq!((&*event.event_type, event.event_id.as_str()), ("contact.changed", "04lxx0000000001AAA"));
    assert_eq!(event.flags, [""; 0], "nothing is odd about it");
    let payload: Value = serde_json::from_slice(&event.payload).unwrap();
    assert_eq!((&payload["record"]["LastName"], &payload["record_id"]), (&"O'Hara".into(), &"003xx000004TmiQAAS".into()));
}

#[tokio::test]
async fn what_is_not_proven_is_neither_kept_nor_acknowledged() {
    let bench = Bench::new();
    let good = message("04lxx0000000002AAA", "x");
    for (kind, query, body, outcome) in [
        ("text/xml", "", good.clone(), Outcome::MissingProof),
        ("text/xml", "token=wrong", good.clone(), Outcome::WrongProof),
        ("text/xml", &*format!("token={TOKEN}"), good.replace(ORG, "00Dxx0000009gPLEAY"), Outcome::WrongProof),
        ("text/xml", &*format!("token={TOKEN}"), "<x/>".to_owned(), Outcome::Invalid),
        ("text/plain", &*format!("token={TOKEN}"), good.clone(), Outcome::NotJson),
    ] {
        let answer = bench.send(kind, query, &body).await;
        assert_eq!(answer.outcome, outcome, "{kind} {query}");
        assert!(!std::str::from_utf8(&answer.body).unwrap().contains("Ack"));
    }
    assert!(bench.kept().await.is_empty());
}
