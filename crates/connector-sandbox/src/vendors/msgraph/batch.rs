//! `$batch`: up to 20 requests in one, each with its own outcome. <https://learn.microsoft.com/graph/json-batching>

use super::MsGraph;
use super::compose::json_body;
use super::wire::{bad_request, error};
use crate::exchange::{Answer, Reply, Req};
use crate::faults::{self, Fault, FaultKind, Plan};
use crate::vendors::Vendor;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Map, Value, json};
use std::collections::{HashMap, HashSet};

impl MsGraph {
    /// Runs a batch. Items run in order; one whose dependency failed is 424. Faults of the plan hit single items, as in the real service.
    pub(super) async fn batch(&self, req: &Req) -> Answer {
        let body = json_body(req)?;
        let items = body["requests"].as_array().ok_or_else(|| bad_request("The 'requests' array is required."))?;
        if items.is_empty() || items.len() > 20 {
            return Err(bad_request("A batch must hold 1 to 20 requests."));
        }
        let mut seen = HashSet::new();
        for item in items {
            let id = item["id"].as_str().unwrap_or_default().to_lowercase();
            if id.is_empty() || !seen.insert(id) {
                return Err(bad_request("Every request needs an id of its own."));
            }
            if !item["body"].is_null() && !has_content_type(&item["headers"]) {
                return Err(bad_request("A request with a body needs a Content-Type header."));
            }
        }
        let mut failed: HashMap<String, bool> = HashMap::new();
        let mut responses = Vec::new();
        for item in items {
            let id = item["id"].as_str().unwrap_or_default();
            let needs = || item["dependsOn"].as_array().into_iter().flatten().filter_map(Value::as_str);
            if needs().any(|n| !failed.contains_key(&n.to_lowercase())) {
                return Err(bad_request("dependsOn must name an earlier request."));
            }
            let reply = if needs().any(|n| failed[&n.to_lowercase()]) {
                error(424, "FailedDependency", "A request this one depends on failed.")
            } else {
                self.batch_item(req, item).await
            };
            failed.insert(id.to_lowercase(), !reply.is_success());
            responses.push(response(id, &reply));
        }
        Ok(Reply::json(200, &json!({"responses": responses})))
    }

    async fn batch_item(&self, outer: &Req, item: &Value) -> Reply {
        let url = item["url"].as_str().unwrap_or_default().trim_start_matches('/');
        let Ok(method) = item["method"].as_str().unwrap_or("GET").to_ascii_uppercase().parse::<Method>() else {
            return bad_request("The method is not known.");
        };
        let mut headers = HeaderMap::new();
        for (name, value) in item["headers"].as_object().into_iter().flatten() {
            let value = value.as_str().unwrap_or_default();
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
                headers.insert(name, value);
            }
        }
        // A batch is one caller's.
        if let Some(caller) = outer.headers.get(http::header::AUTHORIZATION) {
            headers.insert(http::header::AUTHORIZATION, caller.clone());
        }
        let body = match &item["body"] {
            Value::Null => Bytes::new(),
            // A body that is not JSON travels as base64.
            Value::String(text) => STANDARD.decode(text).map_or_else(|_| Bytes::from(text.clone()), Bytes::from),
            other => Bytes::from(other.to_string()),
        };
        let inner = Req::new(method, outer.base.clone(), &format!("/v1.0/{url}"), headers, body);
        let plan = faults::from_header(&inner).unwrap_or_else(|| {
            // An item that says nothing is undisturbed when the whole batch says so.
            if outer.header("x-sandbox-fault").is_some() { Plan::default() } else { self.shared.faults.next("msgraph") }
        });
        match plan.fault {
            Some(Fault::Throttled(after)) => {
                self.shared.faults.counted("msgraph", FaultKind::Throttled);
                return self.throttled(after);
            }
            Some(Fault::Unavailable) => {
                self.shared.faults.counted("msgraph", FaultKind::Unavailable);
                return self.unavailable();
            }
            _ => {}
        }
        if inner.segments.last().is_some_and(|s| s == "$batch") {
            return bad_request("A batch cannot hold a batch.");
        }
        // A batch item may open a subscription, which awaits a handshake; the box breaks the type's recursion.
        Box::pin(self.graph(&inner)).await.unwrap_or_else(|reply| reply)
    }
}

fn has_content_type(headers: &Value) -> bool {
    headers.as_object().is_some_and(|h| h.keys().any(|k| k.eq_ignore_ascii_case("content-type")))
}

fn response(id: &str, reply: &Reply) -> Value {
    let mut headers = Map::new();
    for (name, value) in &reply.headers {
        let shown = match name.as_str() {
            "content-type" => "Content-Type",
            "retry-after" => "Retry-After",
            "location" => "Location",
            "etag" => "ETag",
            other => other,
        };
        headers.insert(shown.to_owned(), value.to_str().unwrap_or_default().into());
    }
    let mut out = json!({"id": id, "status": reply.status.as_u16(), "headers": headers});
    if !reply.body.is_empty() {
        out["body"] = if reply.is_json() { serde_json::from_slice(&reply.body).unwrap_or_default() } else { STANDARD.encode(&reply.body).into() };
    }
    out
}
