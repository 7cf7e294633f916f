//! What a developer sets up: custom object types, and the app's webhook settings and subscriptions.
//! <https://developers.hubspot.com/docs/guides/api/app-management/webhooks>

use super::store::Store;
use super::{HubSpot, error, json_body, unknown_path};
use crate::clock::rfc3339_millis;
use crate::exchange::{Answer, Reply, Req};
use crate::ledger::{EffectKind, Entry};
use serde_json::{Value, json};

/// The one custom object type of the account.
pub(super) fn schemas(rest: &[&str], req: &Req) -> Answer {
    let machine = json!({"id": "1234", "objectTypeId": "2-1234", "fullyQualifiedName": "p424242_machine", "name": "machine",
        "labels": {"singular": "Machine", "plural": "Machines"}, "primaryDisplayProperty": "serial", "requiredProperties": ["serial"], "archived": false});
    match (req.method.as_str(), rest) {
        ("GET", []) if req.q_true("archived") => Ok(Reply::json(200, &json!({"results": []}))),
        ("GET", []) => Ok(Reply::json(200, &json!({"results": [machine]}))),
        ("GET", ["2-1234" | "machine" | "p424242_machine"]) => Ok(Reply::json(200, &machine)),
        ("GET", [_]) => Err(error(404, "OBJECT_NOT_FOUND", "No such object type")),
        _ => Err(unknown_path()),
    }
}

impl HubSpot {
    /// `webhooks/{app}/…`.
    pub(super) fn app(&self, store: &mut Store, rest: &[&str], req: &Req) -> Answer {
        let now = rfc3339_millis(self.shared.clock.now());
        match (req.method.as_str(), rest) {
            ("GET", [_, "settings"]) => match &store.webhook {
                Some(url) => {
                    Ok(Reply::json(200, &json!({"targetUrl": url, "throttling": {"maxConcurrentRequests": 10}, "createdAt": now, "updatedAt": now})))
                }
                None => Err(error(404, "OBJECT_NOT_FOUND", "The app has no webhook settings")),
            },
            ("PUT", [_, "settings"]) => {
                let body = json_body(req)?;
                let url = body["targetUrl"].as_str().filter(|url| url.starts_with("https://") || url.starts_with("http://127.0.0.1"));
                let url = url.ok_or_else(|| error(400, "VALIDATION_ERROR", "targetUrl must be an https address"))?;
                if body["throttling"]["maxConcurrentRequests"].as_u64().unwrap_or(0) <= 5 {
                    return Err(error(400, "VALIDATION_ERROR", "maxConcurrentRequests must be above 5"));
                }
                store.webhook = Some(url.to_owned());
                self.shared.record(Entry::new("hubspot", EffectKind::SubscriptionChanged, "settings"));
                Ok(Reply::json(200, &json!({"targetUrl": url, "throttling": body["throttling"], "createdAt": now, "updatedAt": now})))
            }
            ("GET", [_, "subscriptions"]) => Ok(Reply::json(200, &json!({"results": store.subscriptions.values().collect::<Vec<_>>()}))),
            ("POST", [_, "subscriptions"]) => {
                let body = json_body(req)?;
                let event = body["eventType"].as_str().unwrap_or_default();
                if !event.contains('.') {
                    return Err(error(400, "VALIDATION_ERROR", "eventType is missing"));
                }
                if event.ends_with(".propertyChange") && body["propertyName"].as_str().is_none_or(str::is_empty) {
                    return Err(error(400, "VALIDATION_ERROR", "propertyName is missing"));
                }
                let id = store.subscriptions.keys().next_back().copied().unwrap_or(7000) + 1;
                let mut one = json!({"id": id.to_string(), "eventType": event, "active": body["active"] == true, "createdAt": now});
                if let Some(property) = body["propertyName"].as_str() {
                    one["propertyName"] = property.into();
                }
                store.subscriptions.insert(id, one.clone());
                self.shared.record(Entry::new("hubspot", EffectKind::SubscriptionChanged, id.to_string()));
                Ok(Reply::json(201, &one))
            }
            (method, [_, "subscriptions", id]) => {
                let id: u64 = id.parse().map_err(|_| unknown_path())?;
                let gone = || error(404, "OBJECT_NOT_FOUND", "Subscription not found");
                match method {
                    "GET" => store.subscriptions.get(&id).map(|one| Reply::json(200, one)).ok_or_else(gone),
                    "PATCH" => {
                        let active: Value = json_body(req)?["active"].clone();
                        let one = store.subscriptions.get_mut(&id).ok_or_else(gone)?;
                        one["active"] = active;
                        self.shared.record(Entry::new("hubspot", EffectKind::SubscriptionChanged, id.to_string()));
                        Ok(Reply::json(200, one))
                    }
                    "DELETE" => {
                        store.subscriptions.remove(&id);
                        self.shared.record(Entry::new("hubspot", EffectKind::SubscriptionChanged, id.to_string()));
                        Ok(Reply::empty(204))
                    }
                    _ => Err(unknown_path()),
                }
            }
            _ => Err(unknown_path()),
        }
    }
}
