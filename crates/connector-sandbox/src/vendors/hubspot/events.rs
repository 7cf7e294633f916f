//! Webhook events of CRM changes, as HubSpot batches them into one POST. <https://developers.hubspot.com/docs/api-reference/webhooks-webhooks-v3>

use super::store::{Store, singular};
use crate::auth::known;
use crate::notify::{Delivery, Signing};
use crate::vendors::Shared;
use serde_json::{Value, json};

/// The app the webhooks belong to.
const APP: u64 = 9001;

/// A change that subscribers hear of.
#[derive(Clone, Debug)]
pub(super) struct Event {
    kind: &'static str,
    what: &'static str,
    object: u64,
    more: Value,
}

impl Event {
    pub(super) fn created(kind: &'static str, object: u64) -> Self {
        Self { kind, what: "creation", object, more: json!({"changeFlag": "CREATED"}) }
    }

    pub(super) fn deleted(kind: &'static str, object: u64) -> Self {
        Self { kind, what: "deletion", object, more: json!({"changeFlag": "DELETED"}) }
    }

    pub(super) fn property(kind: &'static str, object: u64, name: &str, value: &str) -> Self {
        Self { kind, what: "propertyChange", object, more: json!({"propertyName": name, "propertyValue": value}) }
    }

    pub(super) fn merged(kind: &'static str, primary: u64, loser: u64) -> Self {
        let more = json!({"primaryObjectId": primary, "mergedObjectIds": [loser], "newObjectId": primary, "numberOfPropertiesMoved": 0});
        Self { kind, what: "merge", object: primary, more }
    }

    pub(super) fn linked(kind: &'static str, from: u64, to_kind: &'static str, to: u64, removed: bool) -> Self {
        let association = format!("{}_TO_{}", singular(kind), singular(to_kind)).to_uppercase();
        let more = json!({"associationType": association, "fromObjectId": from, "toObjectId": to,
            "associationRemoved": removed, "isPrimaryAssociation": false});
        Self { kind, what: "associationChange", object: from, more }
    }
}

/// Sends the events gathered during a request, up to 100 in one POST.
pub(super) fn flush(store: &mut Store, shared: &Shared) {
    let events = std::mem::take(&mut store.events);
    let Some(url) = store.webhook.clone() else { return };
    let now = shared.clock.now().as_millisecond();
    let mut rendered = Vec::new();
    for event in events {
        store.event_id += 1;
        let subscription_type = format!("{}.{}", singular(event.kind), event.what);
        let mut body = json!({
            "eventId": store.event_id,
            "subscriptionId": 7000 + subscription_type.len(),
            "portalId": super::PORTAL,
            "appId": APP,
            "occurredAt": now,
            "subscriptionType": subscription_type,
            "attemptNumber": 0,
            "objectId": event.object,
            "changeSource": "CRM",
            "sourceId": "userId:77",
        });
        for (key, value) in event.more.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        rendered.push(body);
    }
    for chunk in rendered.chunks(100) {
        shared.notifier.enqueue(Delivery {
            vendor: "hubspot",
            url: url.clone(),
            body: Value::Array(chunk.to_vec()),
            signing: Signing::HubSpotV3(known::HUBSPOT_CLIENT_SECRET.to_owned()),
        });
    }
}
