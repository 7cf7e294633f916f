//! An app's webhook subscriptions brought to what is wanted: the vendor has no upsert for them, and creating one twice makes two.
//!
//! <https://developers.hubspot.com/docs/guides/api/app-management/webhooks>

use async_trait::async_trait;
use connector_core::{CallCx, Error, OpCall, OpReply, Result};
use connector_manifest::{Engine, NativeOperation};
use serde_json::{Value, json};

/// `hubspot_import_webhook_subscriptions`.
#[derive(Debug)]
pub(crate) struct ImportSubscriptions;

#[async_trait]
impl NativeOperation for ImportSubscriptions {
    async fn call(&self, engine: &Engine, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let app = call.args.get("app_id").cloned().unwrap_or_default();
        let wanted = call.args.get("subscriptions").and_then(Value::as_array).cloned().unwrap_or_default();
        for one in &wanted {
            // Caught before anything is made: half an import is harder to understand than none.
            let (event, property) = (text(one, "event_type"), text(one, "property_name"));
            if event.ends_with(".propertyChange") == property.is_empty() {
                let event = connector_core::redact::printable(event, 60);
                return Err(Error::invalid(format!("`{event}`: `property_name` belongs to events that end in .propertyChange, and only to those")));
            }
        }
        let there = engine.call_value(cx, "hubspot_list_webhook_subscriptions", json!({ "app_id": app })).await?;
        let there = there.get("results").and_then(Value::as_array).cloned().unwrap_or_default();
        let is = |one: &Value, other: &Value| {
            text(one, "event_type") == text(other, "eventType") && text(one, "property_name") == text(other, "propertyName")
        };
        let (mut created, mut activated, mut kept): (Vec<Value>, Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new(), Vec::new());
        for one in &wanted {
            if created.iter().chain(&activated).chain(&kept).any(|done| is(one, done)) {
                continue;
            }
            match there.iter().find(|known| is(one, known)) {
                Some(known) if known.get("active") == Some(&Value::Bool(true)) => kept.push(known.clone()),
                Some(known) => {
                    let args = json!({ "app_id": app, "subscription_id": known.get("id"), "active": true });
                    activated.push(engine.call_value(cx, "hubspot_set_webhook_subscription_active", args).await?);
                }
                None => {
                    let mut args = json!({ "app_id": app, "event_type": one.get("event_type"), "active": true });
                    if let Some(property) = one.get("property_name") {
                        args["property_name"] = property.clone();
                    }
                    created.push(engine.call_value(cx, "hubspot_create_webhook_subscription", args).await?);
                }
            }
        }
        let others: Vec<&Value> = there.iter().filter(|known| !wanted.iter().any(|one| is(one, known))).collect();
        OpReply::from_value(json!({ "created": created, "activated": activated, "kept": kept, "others": others }), call.decode)
    }
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}
