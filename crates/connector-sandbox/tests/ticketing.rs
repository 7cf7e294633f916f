//! The two systems reached through custom manifests: ticketing and ERP.
#![allow(clippy::unwrap_used, reason = "an unwrap that fails is a failed test")]

mod support;

use connector_sandbox::{EffectKind, Sandbox, known};
use serde_json::{Value, json};
use support::{Caller, Receiver, bearer};

async fn start() -> (Sandbox, Caller) {
    let sandbox = Sandbox::builder().start("127.0.0.1:0").await.unwrap();
    let caller = Caller::new(sandbox.base_url("ticketing"), &[("x-api-key", known::TICKETING_API_KEY)]);
    (sandbox, caller)
}

#[tokio::test]
async fn tickets_are_made_found_and_commented() {
    let (sandbox, caller) = start().await;
    let body = json!({"subject": "Shop down", "description": "since nine", "priority": "high", "external_id": "m1", "custom_fields": {"customer_id": "512"}});
    let made = caller.post("/tickets", body).await.expect(201);
    assert_eq!((&made["id"], &made["status"]), (&json!("TICKET-1"), &json!("open")));
    assert!(made["url"].as_str().unwrap().ends_with("/ticketing/tickets/TICKET-1"));
    let read = caller.get("/tickets/TICKET-1").await.expect(200);
    assert_eq!(read["assignee"]["email"], "support@contoso.example");
    assert_eq!(caller.get("/tickets?external_id=m1").await.expect(200)["count"], 1);
    assert_eq!(caller.get("/tickets?external_id=m2").await.expect(200)["tickets"], json!([]));
    assert_eq!(caller.get("/api/v2/tickets?customer_id=512&q=shop").await.expect(200)["count"], 1, "also below /api/v2");
    let comment = caller.post("/tickets/TICKET-1/comments", json!({"body": "on it", "public": false})).await.expect(201);
    assert_eq!((&comment["id"], &comment["public"]), (&json!("COMMENT-1"), &json!(false)));
    assert_eq!(caller.get("/tickets/TICKET-1/comments").await.expect(200)["comments"].as_array().unwrap().len(), 1);
    assert_eq!(caller.post("/tickets", json!({"description": "no subject"})).await.status, 422);
    assert_eq!(caller.post("/tickets", json!({"subject": "x", "priority": "panic"})).await.status, 422);
    assert_eq!(caller.get("/tickets/TICKET-9").await.status, 404);
    let wrong = Caller::new(sandbox.base_url("ticketing"), &[("x-api-key", "no")]);
    assert_eq!(wrong.get("/tickets").await.status, 401);
    bearer(sandbox.base_url("ticketing"), known::TICKETING_API_KEY).get("/tickets").await.expect(200);
    assert_eq!(sandbox.ledger().tickets_by_key()["m1"][0].target, "TICKET-1");
    assert_eq!(sandbox.ledger().count(EffectKind::TicketCommented), 1);
}

#[tokio::test]
async fn an_idempotency_key_makes_one_ticket() {
    let (sandbox, caller) = start().await;
    let keyed = caller.with("idempotency-key", "k1");
    let first = keyed.post("/tickets", json!({"subject": "x"})).await.expect(201);
    let again = keyed.post("/tickets", json!({"subject": "x"})).await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.expect(201), first);
    assert_eq!(keyed.post("/tickets", json!({"subject": "y"})).await.expect(422)["error"]["code"], "idempotency_conflict");
    // A refused request does not burn its key.
    let other = caller.with("idempotency-key", "k2");
    assert_eq!(other.post("/tickets", json!({})).await.status, 422);
    other.post("/tickets", json!({"subject": "z"})).await.expect(201);
    assert_eq!(sandbox.ticketing().count(), 2);
    // Without a key, a doubled write is a doubled ticket, and the ledger shows it.
    for _ in 0..2 {
        caller.post("/tickets", json!({"subject": "x", "external_id": "m1"})).await.expect(201);
    }
    assert_eq!(sandbox.ledger().tickets_by_key()["m1"].len(), 2);
}

#[tokio::test]
async fn a_status_change_calls_back() {
    let (sandbox, caller) = start().await;
    let receiver = Receiver::start().await;
    sandbox.ticketing().set_webhook(&receiver.url, Some("whsec".into()));
    caller.post("/tickets", json!({"subject": "x"})).await.expect(201);
    caller.patch("/tickets/TICKET-1", json!({"priority": "low"})).await.expect(200);
    caller.patch("/tickets/1", json!({"status": "in_progress"})).await.expect(200);
    assert_eq!(caller.patch("/tickets/1", json!({"status": "lost"})).await.status, 422);
    sandbox.settled().await;
    let events: Vec<Value> = receiver.items();
    assert_eq!(events.len(), 1);
    assert_eq!((&events[0]["event"], &events[0]["data"]["status"]), (&json!("ticket.status_changed"), &json!("in_progress")));
    assert_eq!(receiver.hits()[0].headers["authorization"], "Bearer whsec");
}

#[tokio::test]
async fn the_erp_has_stock_and_takes_orders() {
    let sandbox = Sandbox::builder().start("127.0.0.1:0").await.unwrap();
    let caller = bearer(sandbox.base_url("erp"), known::ERP_TOKEN);
    let stock = caller.get("/inventory?sku=WIDGET-1").await.expect(200);
    assert_eq!(stock["data"], json!({"sku": "WIDGET-1", "quantity_on_hand": 42, "warehouse": "Rotterdam-2"}));
    caller.get("/inventory?sku=SKU%209%2F%C3%A4").await.expect(200);
    assert_eq!(caller.get("/inventory?sku=NONE").await.status, 404);
    assert_eq!(caller.get("/inventory").await.status, 400);
    let items = json!([{"sku": "WIDGET-1", "quantity": 5}]);
    let order = caller.post("/purchase-orders", json!({"vendor_id": "V-7", "items": items, "total": 99.5})).await.expect(201);
    assert_eq!((&order["data"]["id"], &order["data"]["items"]), (&json!("PO-1001"), &items));
    // A list that was turned into text on the way is refused.
    let text = json!({"vendor_id": "V-7", "items": items.to_string(), "total": 99.5});
    assert_eq!(caller.post("/purchase-orders", text).await.status, 422);
    caller.get("/purchase-orders/PO-1001").await.expect(200);
    assert_eq!(bearer(sandbox.base_url("erp"), "no").get("/inventory?sku=WIDGET-1").await.status, 401);
    assert_eq!(sandbox.ledger().count(EffectKind::PurchaseOrderCreated), 1);
}
