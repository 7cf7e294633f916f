//! The errors people see, word for word: each says what happened, where, and what to do.

use std::sync::Arc;

use connector_core::{CallCx, Connector, Error};
use connector_testkit::transport::{Replay, Step};
use serde_json::{Value, json};

use crate::common::{builder, call, connection, cx, engine, over, refused, run};

const TOOLS: &str = r#"doc: Sells things.
errors: { code: .code, message: .message, request_id_header: X-Request-Id, table: [{ status: 409, class: conflict, advice: read the order again }] }
tools:
  - name: shop_get_order
    method: GET
    path: /orders/{order_id}
    params:
      - { name: order_id, type: string, required: true, doc: The id of the order. }
      - { name: expand, type: array<string>, max: 2, doc: What to include. }
      - { name: state, type: string, enum: [open, closed] }
      - { name: limit, type: integer, min: 1, max: 100 }
      - { name: since, type: datetime }
      - { name: day, type: date }
      - { name: flag, type: boolean }
      - { name: label, type: string, max: 3 }
  - { name: shop_list_orders, method: GET, path: /orders, params: [{ name: mailbox, type: string, required: true, setting: mailbox, doc: Whose orders. }] }
  - { name: shop_ping, method: GET, path: /ping }
  - { name: shop_reply, native: reply, effect: write }"#;

#[test]
fn wrong_arguments() {
    let yaml = TOOLS.replace("\n  - { name: shop_reply, native: reply, effect: write }", "");
    let engine = engine(&yaml);
    let cases: [(&str, Value); 16] = [
        ("shop_get_ordr", json!({})),
        ("zzz", json!({})),
        ("shop_get_order", json!({})),
        ("shop_get_order", json!({ "order_id": null })),
        ("shop_get_order", json!({ "order": "7" })),
        ("shop_get_order", json!({ "order_id": "7", "zzz\u{1b}[31m": 1 })),
        ("shop_get_order", json!({ "order_id": { "secret": "canary" } })),
        ("shop_get_order", json!({ "order_id": "7", "expand": "lines" })),
        ("shop_get_order", json!({ "order_id": "7", "expand": ["a", "b", "c"] })),
        ("shop_get_order", json!({ "order_id": "7", "state": "canary" })),
        ("shop_get_order", json!({ "order_id": "7", "limit": 0 })),
        ("shop_get_order", json!({ "order_id": "7", "limit": 1.5 })),
        ("shop_get_order", json!({ "order_id": "7", "since": 1_700_000_000, "flag": true })),
        ("shop_get_order", json!({ "order_id": "7", "label": "long" })),
        ("shop_list_orders", json!({})),
        ("shop_ping", json!({ "x": 1 })),
    ];
    let texts: Vec<String> = cases.into_iter().map(|(tool, args)| refused(&engine, tool, args).to_string()).collect();
    assert!(texts.iter().all(|text| !text.contains("canary") && !text.chars().any(char::is_control)), "{texts:#?}");
    insta::assert_snapshot!(texts.join("\n"));
}

#[tokio::test]
async fn answers_that_are_errors() {
    let yaml = TOOLS.replace("\n  - { name: shop_reply, native: reply, effect: write }", "");
    let mut texts = Vec::new();
    for step in [
        Step::json(400, json!({ "code": "BAD_FIELD", "message": "`colour` is not a field" })).with_header("x-request-id", "r-1"),
        Step::empty(401),
        Step::json(403, json!({ "code": "NO_SCOPE", "message": "orders.read is missing" })),
        Step::json(404, json!({})),
        Step::json(409, json!({})),
        Step::json(429, json!({})).with_header("retry-after", "2"),
        Step::empty(402),
        Step::empty(500),
        Step::text(302, "text/html", ""),
        Step::text(200, "text/html", "<html>"),
        Step::text(200, "text/plain", "ok"),
        Step::text(200, "application/json", "{\"a\":"),
    ] {
        texts.push(run(&over(&yaml, Replay::new([step])), "shop_ping", json!({})).await.unwrap_err().to_string());
    }
    insta::assert_snapshot!(texts.join("\n"));
}

#[tokio::test]
async fn wrong_set_ups() {
    let built = |yaml: &str| builder(yaml).build().unwrap_err();
    let mut texts: Vec<Error> = vec![
        built(TOOLS),
        built("tools: [{ name: shop_a, path: /a }]"),
        built("tools: [{ name: shop_a, method: GET }]"),
        built("tools: [{ name: shop_a, method: GET, path: /a, headers: { 'a b': x } }]"),
        built("tools: [{ name: shop_a, method: GET, path: /a, select: data }]"),
        built("tools: [{ name: shop_a, method: GET, path: /a, pagination: true }]"),
        built("tools: [{ name: shop_a, method: GET, path: /a, pagination: { kind: cursor } }]"),
        built("tools: [{ name: shop_a, method: GET, path: /a, params: [{ name: q, type: string, escape: sql }] }]"),
        built("errors: { code: message }\ntools: [{ name: shop_a, method: GET, path: /a }]"),
        built("headers: { 'x y': z }\ntools: [{ name: shop_a, method: GET, path: /a }]"),
    ];
    let plain = "headers: { X-Region: '{region}' }\ntools: [{ name: shop_a, method: GET, path: /a }]";
    texts.push(run(&engine(plain), "shop_a", json!({})).await.unwrap_err());
    let broken = CallCx::new(Arc::new(connection().with_setting("region", "eu\r\nX-Admin: 1")));
    texts.push(over(plain, Replay::new([])).call(&broken, call("shop_a", json!({}))).await.unwrap_err());
    texts.push(engine(plain).delta().map_or_else(|| Error::unsupported("no delta"), |_| Error::internal("a delta")));
    let paged = over("tools: [{ name: shop_a, method: GET, path: /a, pagination: { kind: cursor, next: .n, param: p } }]", Replay::new([]));
    texts.push(paged.call(&cx(), call("shop_a", json!({})).with_cursor(Some(connector_core::Cursor::new("7")))).await.unwrap_err());
    insta::assert_snapshot!(texts.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
}
