//! Batches: some items fail and the others stand, and lists longer than one request takes are cut without mixing up who is who.

use connector_core::{
    ErrorKind, OpReply,
    connector::{ItemError, json_error},
};
use connector_manifest::Hooks;
use connector_testkit::transport::{Replay, Seen, Step};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::common::{builder, call, cx, over, run};

const TABLE: &str = "errors:
  code: .category
  message: .message
  table:
    - { status: 207, class: partial, items: .errors }
    - { code: RATE_LIMITS, class: throttled }
    - { status: 429, class: throttled }
    - { code: CONFLICT, class: conflict }
tools:
  - name: shop_batch
    method: POST
    path: /batch
    repeat: { key: { header: Idempotency-Key } }
    body: { inputs: '{inputs}', mode: '{mode}' }
    split: { by: inputs, max: 2 }
    params:
      - { name: inputs, type: array<object>, required: true }
      - { name: mode, type: string }";

fn facts(reply: &OpReply) -> Vec<(Option<usize>, Option<&str>, ErrorKind, bool)> {
    reply.partial.iter().map(|item| (item.index, item.key.as_deref(), item.kind, item.retryable)).collect()
}

#[tokio::test]
async fn a_207_keeps_what_succeeded_and_names_what_failed() {
    let body = json!({ "results": [{ "id": "1" }], "errors": [
        { "status": 429, "category": "RATE_LIMITS", "index": 1, "id": "b", "message": "slow down, ada@example.com" },
        { "status": 409, "category": "CONFLICT", "key": "c" },
        { "category": "VALIDATION_ERROR" },
        { "status": 503 },
        "not even an object",
    ] });
    let engine = over(TABLE, Replay::new([Step::json(207, body.clone())]));
    let reply = run(&engine, "shop_batch", json!({ "inputs": [] })).await.unwrap();
    assert_eq!(
        facts(&reply),
        [
            (Some(1), Some("b"), ErrorKind::Throttled, true),
            (None, Some("c"), ErrorKind::Conflict, false),
            (None, None, ErrorKind::Invalid, false),
            (None, None, ErrorKind::Transient, true),
            (None, None, ErrorKind::Invalid, false),
        ]
    );
    assert!(!format!("{:?}", reply.partial).contains("ada@"), "{:?}", reply.partial);
    assert_eq!(reply.partial_error().unwrap().kind(), ErrorKind::Partial);
    assert_eq!(reply.body.to_value().unwrap(), body);
    let fine = over(TABLE, Replay::new([Step::json(207, json!({ "results": [], "errors": [] }))]));
    assert!(run(&fine, "shop_batch", json!({ "inputs": [] })).await.unwrap().partial.is_empty());
}

#[tokio::test]
async fn a_vendors_own_reader_of_failed_items_wins() {
    fn read(body: &Value, args: &Map<String, Value>) -> Vec<ItemError> {
        let sent = args["inputs"].as_array().map_or(0, Vec::len);
        let done = body["results"].as_array().map_or(0, Vec::len);
        (done..sent)
            .map(|index| ItemError {
                index: Some(index),
                key: args["inputs"][index]["id"].as_str().map(str::to_owned),
                kind: ErrorKind::NotFound,
                message: "it was not in the answer".into(),
                vendor_code: None,
                retryable: false,
            })
            .collect()
    }
    let step = Step::json(207, json!({ "results": [{}], "errors": [{}, {}, {}] }));
    let engine = builder(TABLE).hooks(Hooks::new().partial(read)).transport(std::sync::Arc::new(Replay::new([step]))).build().unwrap();
    let reply = run(&engine, "shop_batch", json!({ "inputs": [{ "id": "a" }, { "id": "b" }] })).await.unwrap();
    assert_eq!(facts(&reply), [(Some(1), Some("b"), ErrorKind::NotFound, false)]);
}

#[tokio::test]
async fn a_long_list_goes_out_in_slices_with_a_key_of_its_own_each() {
    let answer =
        |ids: &[u64]| Step::json(200, json!({ "status": "COMPLETE", "results": ids.iter().map(|id| json!({ "id": id })).collect::<Vec<_>>() }));
    let replay = Replay::new([answer(&[1, 2]), answer(&[3, 4]), answer(&[5])]);
    let engine = over(TABLE, replay.clone());
    let inputs: Vec<Value> = (1..=5).map(|id| json!({ "id": id })).collect();
    let cx = cx().with_idempotency_key("job");
    let reply = connector_core::Connector::call(&engine, &cx, call("shop_batch", json!({ "inputs": inputs, "mode": "m" }))).await.unwrap();
    assert_eq!(reply.body.to_value().unwrap(), json!({ "status": "COMPLETE", "results": inputs }));
    assert!(reply.partial.is_empty());
    let sent: Vec<(Value, Option<String>)> =
        replay.seen().iter().map(|seen: &Seen| (seen.json(), seen.header("idempotency-key").map(str::to_owned))).collect();
    assert_eq!(
        sent,
        [
            (json!({ "inputs": inputs[..2], "mode": "m" }), Some("job:0".to_owned())),
            (json!({ "inputs": inputs[2..4], "mode": "m" }), Some("job:1".to_owned())),
            (json!({ "inputs": inputs[4..], "mode": "m" }), Some("job:2".to_owned())),
        ]
    );
}

#[tokio::test]
async fn a_list_that_fits_goes_out_in_one_request_under_the_callers_key() {
    let replay = Replay::new([Step::json(200, json!({ "results": [] }))]);
    let cx = cx().with_idempotency_key("job");
    connector_core::Connector::call(&over(TABLE, replay.clone()), &cx, call("shop_batch", json!({ "inputs": [{}, {}] }))).await.unwrap();
    assert_eq!(replay.seen()[0].header("idempotency-key"), Some("job"));
}

#[tokio::test]
async fn positions_are_those_of_the_whole_list_and_a_failed_later_slice_fails_its_items_only() {
    #[derive(Debug, Deserialize, PartialEq)]
    struct Results {
        results: Vec<Value>,
    }
    let replay = Replay::new([
        Step::json(200, json!({ "results": [{ "id": 1 }, { "id": 2 }] })),
        Step::json(207, json!({ "results": [{ "id": 4 }], "errors": [{ "index": 0, "category": "CONFLICT", "status": 409 }] })),
        Step::json(429, json!({ "category": "RATE_LIMITS" })),
        Step::json(400, json!({ "category": "BAD" })),
        Step::json(200, json!({ "results": [{ "id": 9 }] })),
    ]);
    let inputs: Vec<Value> = (1..=9).map(|id| json!({ "id": id })).collect();
    let call = call("shop_batch", json!({ "inputs": inputs })).decoding::<Results>();
    let reply = connector_core::Connector::call(&over(TABLE, replay), &cx(), call).await.unwrap();
    assert_eq!(
        facts(&reply),
        [
            (Some(2), None, ErrorKind::Conflict, false),
            (Some(4), None, ErrorKind::Throttled, true),
            (Some(5), None, ErrorKind::Throttled, true),
            (Some(6), None, ErrorKind::Invalid, false),
            (Some(7), None, ErrorKind::Invalid, false),
        ]
    );
    assert_eq!(reply.meta.status, 207);
    let output: Results = reply.into_output().unwrap();
    assert_eq!(output.results, [json!({ "id": 1 }), json!({ "id": 2 }), json!({ "id": 4 }), json!({ "id": 9 })]);
}

#[tokio::test]
async fn a_first_slice_that_fails_is_the_calls_own_error() {
    let replay = Replay::new([Step::json(429, json!({})), Step::json(200, json!({ "results": [] }))]);
    let error = run(&over(TABLE, replay.clone()), "shop_batch", json!({ "inputs": [{}, {}, {}] })).await.unwrap_err();
    assert_eq!((error.kind(), replay.left()), (ErrorKind::Throttled, 1));
}

#[tokio::test]
async fn joined_results_stay_where_the_vendor_puts_them() {
    for (items, wrap) in [
        (".data.results", (|ids| json!({ "data": { "results": ids, "n": 1 } })) as fn(Value) -> Value),
        (".", |ids| ids),
        ("'.\"odd.key\"'", |ids| json!({ "odd.key": ids })),
    ] {
        let yaml = format!(
            "tools: [{{ name: shop_batch, method: POST, path: /b, body: {{ inputs: '{{inputs}}' }}, split: {{ by: inputs, max: 1, items: {items} }} }}]"
        );
        let replay = Replay::new([Step::json(200, wrap(json!([1]))), Step::json(200, wrap(json!([2, 3])))]);
        let reply = run(&over(&yaml, replay), "shop_batch", json!({ "inputs": [1, 2] })).await.unwrap();
        assert_eq!(reply.body.to_value().unwrap(), wrap(json!([1, 2, 3])), "{items}");
    }
}

#[test]
fn a_data_error_never_quotes_the_value() {
    let error = serde_json::from_str::<u64>("\"canary\"").unwrap_err();
    assert!(!json_error(&error).to_string().contains("canary"));
}
