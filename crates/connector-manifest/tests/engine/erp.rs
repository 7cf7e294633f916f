//! The ERP manifest the format grew from, end to end: it reads stock and orders, and an order is never sent twice by itself.

use std::sync::Arc;

use connector_core::{Connection, ErrorKind, layer::stack::StackParts};
use connector_manifest::{ConnectionOptions, Hooks, Strictness, connection, load, open};
use connector_testkit::transport::{Replay, Step};
use serde_json::json;

use crate::common::args;

const ERP: &str = include_str!("../fixtures/erp-system.yaml");

fn client(replay: &Replay) -> connector_core::Client {
    let manifest = Arc::new(load(&[("erp-system.yaml", ERP)], Strictness::Custom).unwrap().manifest);
    let connection: Connection = connection(&manifest, "erp-system", ConnectionOptions::default(), &|_| None).unwrap();
    let auth = Arc::new(connector_core::auth::NoAuth);
    open(manifest, Hooks::new(), connection, Arc::new(replay.clone()), auth, &StackParts::default()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn stock_is_read_through_a_busy_vendor_and_mapped() {
    let replay = Replay::new([
        Step::json(503, json!({})),
        Step::json(429, json!({})).with_header("retry-after", "3"),
        Step::json(200, json!({ "data": { "sku": "SKU 9/ä", "quantity_on_hand": 3, "warehouse": "Gdansk-4" } })),
    ]);
    let reply = client(&replay).call_dynamic("erp_get_inventory", args(json!({ "sku": "SKU 9/ä" }))).await.unwrap();
    assert_eq!(reply.body.to_value().unwrap(), json!({ "quantity": 3, "location": "Gdansk-4" }));
    assert_eq!(reply.meta.attempts, 3);
    assert_eq!(replay.lines(), vec!["GET /api/inventory?sku=SKU%209/%C3%A4"; 3]);
    assert_eq!(replay.seen()[0].head.url.host_str(), Some("erp.internal.company.com"));
}

#[tokio::test(start_paused = true)]
async fn an_order_is_sent_as_it_was_given_and_never_twice_by_itself() {
    let order = json!({ "vendor_id": "V-7", "items": [{ "sku": "X1", "quantity": 2 }], "total": 19.90 });
    let replay = Replay::new([Step::json(201, json!({ "data": { "id": "PO-1001" } }))]);
    let reply = client(&replay).call_dynamic("erp_create_po", args(order.clone())).await.unwrap();
    assert_eq!(reply.body.to_value().unwrap(), json!({ "data": { "id": "PO-1001" } }));
    assert_eq!((replay.lines(), replay.seen()[0].json()), (vec!["POST /api/purchase-orders".to_owned()], order.clone()));
    for step in [Step::Fail(ErrorKind::Timeout), Step::Fail(ErrorKind::Transient), Step::json(500, json!({})), Step::text(200, "text/html", "<html>")]
    {
        let what = format!("{step:?}");
        let replay = Replay::new([step, Step::json(201, json!({}))]);
        let error = client(&replay).call_dynamic("erp_create_po", args(order.clone())).await.unwrap_err();
        assert_eq!((error.kind(), replay.left()), (ErrorKind::Unknown, 1), "{what}: {error}");
        assert!(error.is_ambiguous());
    }
    let replay = Replay::new([Step::Fail(ErrorKind::NotSent), Step::json(201, json!({}))]);
    client(&replay).call_dynamic("erp_create_po", args(order)).await.unwrap();
    assert_eq!(replay.left(), 0);
}

#[tokio::test]
async fn what_is_missing_or_unknown_is_named() {
    let client = client(&Replay::new([]));
    let missing = client.call_dynamic("erp_get_inventory", args(json!({}))).await.unwrap_err();
    assert!(missing.to_string().contains("`erp_get_inventory` needs the parameter `sku` (string)"), "{missing}");
    let unknown = client.call_dynamic("erp_get_inventry", args(json!({}))).await.unwrap_err();
    assert!(unknown.to_string().contains("did you mean `erp_get_inventory`?"), "{unknown}");
    let parameter = client.call_dynamic("erp_get_inventory", args(json!({ "skuu": "X" }))).await.unwrap_err();
    assert!(parameter.to_string().contains("did you mean `sku`?"), "{parameter}");
}
