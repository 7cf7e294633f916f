//! What a manifest says becomes schemas that accept what it means and nothing else.
#![allow(clippy::unwrap_used, reason = "a helper of tests: a schema that cannot be read fails the test")]

use connector_core::{
    ErrorKind,
    spec::{Repeat, TimeoutClass},
};
use connector_manifest::{Strictness, build_spec, load};
use serde_json::{Value, json};

const ORDERS: &str = r#"
connector: webhook
id: orders
name: Orders
base_url: https://orders.example.com
auth: { type: bearer, token_env: ORDERS_TOKEN }
settings: [{ name: region, doc: The region., default: eu }]
errors:
  code: .code
  table:
    - { status: [429, 5xx], code: BUSY, where: { .scope: [day, month] }, class: quota, until: utc_midnight, advice: Buy more. }
pagination: { kind: cursor, next: .next, param: after }
models:
  Order: { doc: An order., fields: { id: string, lines: "array<Line>", parent: "Order?" }, required: [id] }
  Line: { fields: { sku: string, at: datetime } }
  Unused: { fields: { id: string } }
webhook: { verify: { kind: hmac_sha256, header: X-Sig, message: "{body}" }, event_id: .id }
events: { order.created: { match: { .type: created }, payload: Order } }
streams: { orders: { list: orders_list, key: .id, cursor: { field: .changed }, deleted: { list: orders_list } } }
tools:
  - name: orders_list
    method: GET
    path: /orders
    pagination: true
    returns: "array<Order>"
    params:
      - { name: status, type: "array<string>", enum: [open, done], max: 2, join: "," }
      - { name: since, type: "date?" }
      - { name: limit, type: integer, min: 1, max: 100, default: 20, required: true }
      - { name: region, type: string, required: true, setting: region, format: hostname, doc: Where. }
  - { name: orders_get, method: GET, path: "/orders/{id}", params: [{ name: id, type: string, required: true, min: 1 }], returns: Order, none_on: [404], cache: { ttl: 5m, tags: ["order:{id}"] } }
  - { name: orders_put, method: PUT, path: "/orders/{order.id}", body: { order: "{order}" }, params: [{ name: order, type: Order, required: true }], returns: none, none_on: [404], timeout: long }
  - { name: orders_add, method: POST, path: /orders, params: [{ name: tags, type: "map<integer>" }], repeat: { key: { header: Idempotency-Key, ttl: 24h } } }
"#;

fn accepts(schema: &Value, value: &Value) -> bool {
    jsonschema::draft202012::new(schema).unwrap().is_valid(value)
}

#[test]
fn input_schemas_accept_what_is_declared_and_nothing_else() {
    let parsed = load(&[("orders.yaml", ORDERS)], Strictness::Custom).unwrap();
    let spec = build_spec(&std::sync::Arc::new(parsed.manifest.clone()), "orders");
    let list = &spec.require("orders_list").unwrap().input_schema;
    for good in [json!({}), json!({ "status": ["open"], "since": null, "limit": 100 }), json!({ "region": "eu", "since": "2026-01-02" })] {
        assert!(accepts(list, &good), "{good}");
    }
    for bad in [
        json!({ "status": ["lost"] }),
        json!({ "status": "open" }),
        json!({ "limit": 0 }),
        json!({ "limit": 1.5 }),
        json!({ "pages": 1 }),
        json!({ "since": 7 }),
    ] {
        assert!(!accepts(list, &bad), "{bad}");
    }
    let put = &spec.require("orders_put").unwrap().input_schema;
    assert!(accepts(put, &json!({ "order": { "id": "1", "parent": { "id": "2", "parent": null }, "new_vendor_field": 1 } })));
    assert!(!accepts(put, &json!({ "order": { "lines": [] } })) && !accepts(put, &json!({ "order": { "id": "1", "lines": [{ "sku": 1 }] } })));
    let models: Vec<&String> = put["$defs"].as_object().unwrap().keys().collect();
    assert_eq!(models, ["Line", "Order"]);
}

#[test]
fn output_schemas_allow_absence_where_it_is_an_answer() {
    let parsed = load(&[("orders.yaml", ORDERS)], Strictness::Custom).unwrap();
    let spec = build_spec(&std::sync::Arc::new(parsed.manifest.clone()), "orders");
    let get = &spec.require("orders_get").unwrap().output_schema;
    assert!(accepts(get, &Value::Null) && accepts(get, &json!({ "id": "1", "lines": [{ "sku": "X" }] })) && !accepts(get, &json!({})));
    assert_eq!(spec.require("orders_put").unwrap().output_schema, json!({ "type": "null" }));
    assert_eq!(spec.require("orders_add").unwrap().output_schema, json!({}));
}

#[test]
fn everything_layers_read_is_in_the_spec() {
    let parsed = load(&[("orders.yaml", ORDERS)], Strictness::Custom).unwrap();
    let spec = build_spec(&std::sync::Arc::new(parsed.manifest.clone()), "orders");
    let list = spec.require("orders_list").unwrap();
    assert_eq!(list.page.as_ref().map(|page| (&*page.kind, &*page.items)), Some(("cursor", ".results")));
    let required: Vec<_> = list.params.iter().filter(|param| param.required).collect();
    assert!(required.is_empty(), "a default and a setting stand in: {required:?}");
    assert_eq!(spec.require("orders_get").unwrap().cache.as_ref().map(|cache| cache.ttl_seconds), Some(300));
    let put = spec.require("orders_put").unwrap();
    assert_eq!((put.repeat, put.timeout_class), (Repeat::Natural, TimeoutClass::Long));
    let add = spec.require("orders_add").unwrap();
    assert_eq!((add.repeat, add.repeat_ttl_seconds), (Repeat::ProviderKey, Some(86_400)));
    assert_eq!(spec.webhook.as_ref().unwrap().scheme, "hmac_sha256");
    assert!(accepts(spec.events[0].schema.as_ref().unwrap(), &json!({ "id": "1" })));
    assert!(spec.streams[0].deletes);
    let row = &spec.errors[0];
    assert_eq!((row.when.as_str(), row.class), ("status 429 or 5xx, code BUSY, scope day or month", ErrorKind::Quota));
    assert_eq!(row.action, "wait until the allowance resets (midnight UTC); Buy more");
}
