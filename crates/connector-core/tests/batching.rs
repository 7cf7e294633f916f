//! Concurrent single calls become one batch call where the operation declares it, and each caller gets its own answer.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod common;

use std::{sync::Arc, time::Duration};

use common::{Script, call_with, cx, cx_of, fail, ok, op, parts, spec};
use connector_core::{
    ErrorKind,
    connector::{ItemError, OpReply, ReplyBody},
    layer::stack,
    spec::{BatchSpec, ConnectorSpec, Effect, OpSpec, Repeat},
};
use futures_util::future::join_all;
use serde_json::{Map, Value, json};

fn operations() -> Vec<OpSpec> {
    let mut get = op("x_get", Effect::Read, Repeat::Natural);
    get.batch = Some(BatchSpec {
        tool: "x_batch".into(),
        by: "email".into(),
        max: 100,
        window_ms: 5,
        into: "inputs".into(),
        input: Some(json!({"id": "{email}"})),
        items: ".results".into(),
        key: ".properties.email".into(),
        args: Map::from_iter([("id_property".to_owned(), json!("email"))]),
        share: vec!["properties".into()],
    });
    vec![get, op("x_batch", Effect::Read, Repeat::Natural)]
}

fn contact(email: &str) -> Value {
    json!({"id": email.len(), "properties": {"email": email.to_lowercase()}})
}

fn connector() -> ConnectorSpec {
    spec(operations())
}

/// Knows everybody at example.com but `nobody`; refuses `broken` with an item error. A batch answers for `alias` under another address.
fn crm() -> Arc<Script> {
    Script::quick(connector(), |_, call| {
        if &*call.operation == "x_get" {
            if call.args["email"].as_str().unwrap().starts_with("nobody") {
                return fail(ErrorKind::NotFound);
            }
            return Ok(OpReply::new(ReplyBody::Value(contact(call.args["email"].as_str().unwrap()))));
        }
        let asked: Vec<&str> = call.args["inputs"].as_array().unwrap().iter().map(|input| input["id"].as_str().unwrap()).collect();
        let known = asked.iter().filter(|email| !["nobody", "broken", "alias"].iter().any(|word| email.starts_with(word)));
        let mut reply = OpReply::new(ReplyBody::Value(json!({"results": known.map(|email| contact(email)).collect::<Vec<_>>()})));
        reply.partial = asked
            .iter()
            .filter(|email| email.starts_with("broken"))
            .map(|email| ItemError {
                index: None,
                key: Some((*email).to_owned()),
                kind: ErrorKind::Invalid,
                message: "refused".into(),
                vendor_code: Some("BAD".into()),
                retryable: false,
            })
            .collect();
        Ok(reply)
    })
}

#[tokio::test(start_paused = true)]
async fn fifty_gets_are_one_batch() {
    let script = crm();
    let stack = stack::inner(script.clone(), &parts());
    let cx = cx();
    let emails: Vec<String> = (0..50).map(|n| format!("Person{n}@example.com")).collect();
    let replies = join_all(emails.iter().map(|email| stack.call(&cx, call_with("x_get", json!({"email": email}))))).await;
    for (email, reply) in emails.iter().zip(replies) {
        let reply = reply.unwrap();
        assert!(reply.meta.batched);
        assert_eq!(reply.body.to_value().unwrap()["properties"]["email"], email.to_lowercase(), "the vendor folds the case");
    }
    let sent = script.sent();
    assert_eq!((sent.len(), sent[0].operation.as_str(), &sent[0].args["id_property"]), (1, "x_batch", &json!("email")));
    assert_eq!(sent[0].args["inputs"].as_array().unwrap().len(), 50);
}

#[tokio::test(start_paused = true)]
async fn each_caller_gets_its_own_answer_or_error() {
    #[derive(serde::Deserialize)]
    struct Contact {
        id: usize,
    }
    let stack = stack::inner(crm(), &parts());
    let cx = cx();
    let get = |email: &str| stack.call(&cx, call_with("x_get", json!({"email": email})).decoding::<Contact>());
    let (known, nobody, broken) = tokio::join!(get("ada@example.com"), get("nobody@example.com"), get("broken@example.com"));
    assert_eq!(known.unwrap().into_output::<Contact>().unwrap().id, 15);
    let nobody = nobody.unwrap_err();
    assert_eq!((nobody.kind(), nobody.operation()), (ErrorKind::NotFound, Some("x_get")));
    let broken = broken.unwrap_err();
    assert_eq!((broken.kind(), broken.vendor_code()), (ErrorKind::Invalid, Some("BAD")));
}

/// A contact is also found by its second address, but the batch names only the first one: the single call decides.
#[tokio::test(start_paused = true)]
async fn what_a_batch_does_not_answer_is_asked_alone() {
    let script = crm();
    let stack = stack::inner(script.clone(), &parts());
    let cx = cx();
    let get = |email: &str| stack.call(&cx, call_with("x_get", json!({"email": email})));
    let (known, alias) = tokio::join!(get("ada@example.com"), get("alias@example.com"));
    assert!(known.unwrap().meta.batched);
    assert_eq!(alias.unwrap().body.to_value().unwrap()["properties"]["email"], "alias@example.com");
    let sent: Vec<String> = script.sent().into_iter().map(|sent| sent.operation).collect();
    assert_eq!(sent, ["x_batch", "x_get"]);
}

/// Where "there is none" is an answer to the single call, it is one in a batch.
#[tokio::test(start_paused = true)]
async fn an_absent_item_is_an_answer_where_the_single_call_says_so() {
    let mut operations = operations();
    operations[0].absent_is_answer = true;
    let script = Script::quick(spec(operations), |_, _| {
        let mut reply = OpReply::new(ReplyBody::Value(json!({"results": [contact("ada@example.com")]})));
        reply.partial = vec![ItemError {
            index: None,
            key: Some("nobody@example.com".into()),
            kind: ErrorKind::NotFound,
            message: "there is none".into(),
            vendor_code: None,
            retryable: false,
        }];
        Ok(reply)
    });
    let stack = stack::inner(script, &parts());
    let cx = cx();
    let get = |email: &str| stack.call(&cx, call_with("x_get", json!({"email": email})).decoding::<Option<Value>>());
    let (known, nobody) = tokio::join!(get("ada@example.com"), get("nobody@example.com"));
    assert!(known.unwrap().into_output::<Option<Value>>().unwrap().is_some());
    let nobody = nobody.unwrap();
    assert!(nobody.meta.absent && nobody.into_output::<Option<Value>>().unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_lone_call_stays_what_it_is() {
    let script = crm();
    let stack = stack::inner(script.clone(), &parts());
    let reply = stack.call(&cx(), call_with("x_get", json!({"email": "ada@example.com"}))).await.unwrap();
    assert!(!reply.meta.batched && script.sent()[0].operation == "x_get");
}

#[tokio::test(start_paused = true)]
async fn only_calls_that_differ_in_nothing_else_share_a_batch() {
    let script = crm();
    let stack = stack::inner(script.clone(), &parts());
    let (acme, globex) = (cx(), cx_of("globex", "https://x.example"));
    let get = |cx, args| stack.call(cx, call_with("x_get", args));
    let replies = join_all([
        get(&acme, json!({"email": "a@x", "properties": ["phone"]})),
        get(&acme, json!({"email": "b@x", "properties": ["phone"]})),
        get(&acme, json!({"email": "c@x", "properties": ["city"]})),
        get(&globex, json!({"email": "d@x", "properties": ["phone"]})),
        get(&acme, json!({"email": "e@x", "archived": true})),
    ])
    .await;
    assert!(replies.iter().all(Result::is_ok));
    let mut sent: Vec<_> = script.sent().into_iter().map(|sent| (sent.operation, sent.args.get("properties").cloned())).collect();
    sent.sort_by_key(|(operation, properties)| format!("{operation}{properties:?}"));
    let (phone, city) = (Some(json!(["phone"])), Some(json!(["city"])));
    let expected = [("x_batch", phone.clone()), ("x_get", None), ("x_get", city), ("x_get", phone)];
    assert_eq!(sent, expected.map(|(operation, properties)| (operation.to_owned(), properties)));
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_retried_as_one_call_and_a_leaver_takes_nothing_away() {
    let script = Script::quick(connector(), |n, _| if n == 1 { fail(ErrorKind::Transient) } else { ok() });
    let stack = stack::inner(script.clone(), &parts());
    let cx = cx();
    let get = |email: &str| stack.call(&cx, call_with("x_get", json!({"email": email})));
    let (left, a, b) = tokio::join!(tokio::time::timeout(Duration::from_millis(1), get("l@x")), get("a@x"), get("b@x"));
    assert!(left.is_err());
    assert_eq!(script.sends(), 2);
    assert_eq!(script.sent()[1].args["inputs"].as_array().unwrap().len(), 2);
    // The reply has no list: that is said to everybody.
    assert!([a, b].into_iter().all(|result| result.unwrap_err().kind() == ErrorKind::Protocol));
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_each_caller_holds() {
    let script = Script::new(connector(), |_, _, _| Box::pin(std::future::pending()));
    let stack = stack::inner(script, &parts());
    let start = connector_core::clock::Instant::now();
    let hurried = cx().with_deadline(start + Duration::from_secs(1));
    let error = stack.call(&hurried, call_with("x_get", json!({"email": "a@x"}))).await.unwrap_err();
    assert_eq!((error.kind(), start.elapsed()), (ErrorKind::Timeout, Duration::from_secs(1)));
}

/// A connection may be changed between two batches: each goes out as its own callers see it.
#[tokio::test(start_paused = true)]
async fn a_batch_goes_out_in_the_context_of_its_own_callers() {
    let hosts = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = hosts.clone();
    let script = Script::new(connector(), move |_, cx, call| {
        seen.lock().unwrap().push((cx.connection.host().to_owned(), cx.correlation_id.to_string(), cx.idempotency_key.is_some()));
        let found = call.args["inputs"].as_array().unwrap().iter().map(|input| contact(input["id"].as_str().unwrap()));
        Box::pin(std::future::ready(Ok(OpReply::new(ReplyBody::Value(json!({"results": found.collect::<Vec<_>>()}))))))
    });
    let stack = stack::inner(script, &parts());
    for host in ["old", "new"] {
        let cx = cx_of("acme", &format!("https://{host}.example")).with_correlation_id(host).with_idempotency_key("k");
        let get = |email: &str| stack.call(&cx, call_with("x_get", json!({"email": email})));
        let (a, b) = tokio::join!(get("a@x"), get("b@x"));
        assert!(a.is_ok() && b.is_ok());
    }
    let expected = ["old", "new"].map(|host| (format!("{host}.example"), host.to_owned(), false));
    assert_eq!(*hosts.lock().unwrap(), expected);
}
