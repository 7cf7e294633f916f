//! A small internal ERP: stock by SKU and purchase orders, bearer token. The smallest thing a custom connector can be written for.

use crate::auth::known;
use crate::clock::rfc3339_seconds;
use crate::exchange::{Answer, Reply, Req};
use crate::ledger::{EffectKind, Entry, lock};
use crate::vendors::{Shared, Vendor};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::Mutex;

/// SKU, pieces on hand, warehouse.
const STOCK: [(&str, u32, &str); 6] = [
    ("WIDGET-1", 42, "Rotterdam-2"),
    ("WIDGET-2", 0, "Rotterdam-2"),
    ("GEAR-10", 1250, "Leipzig-1"),
    ("CABLE-CAT6", 310, "Leipzig-1"),
    ("PSU-750", 17, "Gdansk-4"),
    ("SKU 9/ä", 3, "Gdansk-4"),
];

/// The fake ERP.
#[derive(Debug)]
pub(crate) struct Erp {
    shared: Shared,
    orders: Mutex<Vec<Value>>,
}

impl Erp {
    pub(crate) fn new(shared: Shared) -> Self {
        Self { shared, orders: Mutex::default() }
    }

    fn route(&self, req: &Req) -> Answer {
        if req.bearer() != Some(known::ERP_TOKEN) {
            return Err(error(401, "missing or unknown token"));
        }
        let path = req.path();
        let path = path.strip_prefix(&["api"][..]).unwrap_or(&path);
        match (req.method.as_str(), path) {
            ("GET", ["inventory"]) => {
                let sku = req.q("sku").ok_or_else(|| error(400, "sku is required"))?;
                let found = STOCK.iter().find(|(known, ..)| *known == sku);
                let (sku, pieces, warehouse) = found.ok_or_else(|| error(404, "unknown sku"))?;
                Ok(Reply::json(200, &json!({"data": {"sku": sku, "quantity_on_hand": pieces, "warehouse": warehouse}})))
            }
            ("POST", ["purchase-orders"]) => self.order(req),
            ("GET", ["purchase-orders", id]) => {
                let orders = lock(&self.orders);
                let found = orders.iter().find(|o| o["id"] == *id);
                found.map(|o| Reply::json(200, &json!({"data": o}))).ok_or_else(|| error(404, "unknown purchase order"))
            }
            _ => Err(error(404, "no such resource")),
        }
    }

    fn order(&self, req: &Req) -> Answer {
        let body = req.json().map_err(|_| error(400, "the body is not JSON"))?;
        let vendor = body["vendor_id"].as_str().ok_or_else(|| error(422, "vendor_id must be a string"))?;
        if body["items"].as_array().is_none_or(Vec::is_empty) {
            return Err(error(422, "items must be a list that is not empty"));
        }
        if !body["total"].is_number() {
            return Err(error(422, "total must be a number"));
        }
        let mut orders = lock(&self.orders);
        let id = format!("PO-{}", 1001 + orders.len());
        let order = json!({"id": id, "vendor_id": vendor, "items": body["items"], "total": body["total"], "status": "submitted",
            "created_at": rfc3339_seconds(self.shared.clock.now())});
        orders.push(order.clone());
        let key = req.header("idempotency-key").map(str::to_owned);
        self.shared.record(Entry::new("erp", EffectKind::PurchaseOrderCreated, &id).key(key).detail(json!({"total": body["total"]})));
        Ok(Reply::json(201, &json!({"data": order})))
    }
}

fn error(status: u16, message: &str) -> Reply {
    Reply::json(status, &json!({"error": message}))
}

#[async_trait]
impl Vendor for Erp {
    fn id(&self) -> &'static str {
        "erp"
    }

    async fn handle(&self, req: Req) -> Reply {
        self.route(&req).unwrap_or_else(|reply| reply)
    }

    fn throttled(&self, retry_after: u64) -> Reply {
        error(429, "too many requests").with("retry-after", &retry_after.to_string())
    }

    fn unavailable(&self) -> Reply {
        error(503, "the service is temporarily unavailable")
    }

    fn revoke(&self, _req: &Req) -> bool {
        false
    }

    fn presents_cursor(&self, _req: &Req) -> bool {
        false
    }

    fn spared(&self, _req: &Req) -> bool {
        false
    }
}
