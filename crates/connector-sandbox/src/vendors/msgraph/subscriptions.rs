//! Change-notification subscriptions: the handshake before they exist, their life, and the notifications they cause.
//! <https://learn.microsoft.com/graph/change-notifications-delivery-webhooks>

use super::changes::NotedChange;
use super::compose::json_body;
use super::model::{Mailbox, Message};
use super::wire::{self, View, bad_request, error};
use super::{MsGraph, State};
use crate::auth::known;
use crate::clock::{add_seconds, rfc3339_seconds};
use crate::exchange::{Answer, Reply, Req};
use crate::ledger::{EffectKind, Entry, lock};
use crate::notify::{Delivery, Signing};
use http::{HeaderMap, HeaderValue, Method, header};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::str::FromStr;

/// What a subscription watches.
#[derive(Clone, Debug)]
pub(super) enum Watched {
    /// A mailbox, or one folder of it.
    Mail(String, Option<String>),
    /// Something else, by a canonical path.
    Topic(String, Service),
}

/// Whose rules a subscription follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    Outlook,
    Teams,
    Files,
}

impl Service {
    /// Longest life of a basic subscription, minutes. <https://learn.microsoft.com/graph/api/resources/subscription#subscription-lifetime>
    fn longest_min(self) -> i64 {
        match self {
            Self::Outlook => 10_080,
            Self::Teams => 4_320,
            Self::Files => 42_300,
        }
    }
}

/// A change of something that is no mail.
#[derive(Clone, Debug)]
pub(super) struct Happened<'a> {
    pub(super) topic: String,
    pub(super) change: &'static str,
    pub(super) kind: &'static str,
    pub(super) path: String,
    /// Empty where Graph does not say what changed (drives, lists).
    pub(super) id: &'a str,
    pub(super) etag: Option<&'a str>,
}

/// A shorter life than this is raised to it, minutes.
const SHORTEST_MIN: i64 = 45;

/// A subscription to mail changes.
#[derive(Clone, Debug)]
pub(super) struct Subscription {
    id: String,
    user: String,
    folder: Option<String>,
    /// What is watched, if it is no mail.
    topic: Option<String>,
    service: Service,
    resource: String,
    change_type: String,
    notification_url: String,
    lifecycle_url: Option<String>,
    client_state: Option<String>,
    expires: Timestamp,
    immutable: bool,
}

/// A lifecycle notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LifecycleEvent {
    /// The subscription must be reauthorised or renewed.
    ReauthorizationRequired,
    /// The subscription is gone (the fake removes it too).
    SubscriptionRemoved,
    /// Some notifications were lost.
    Missed,
}

impl LifecycleEvent {
    fn name(self) -> &'static str {
        match self {
            Self::ReauthorizationRequired => "reauthorizationRequired",
            Self::SubscriptionRemoved => "subscriptionRemoved",
            Self::Missed => "missed",
        }
    }
}

impl FromStr for LifecycleEvent {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        [Self::ReauthorizationRequired, Self::SubscriptionRemoved, Self::Missed]
            .into_iter()
            .find(|e| e.name() == name)
            .ok_or_else(|| format!("unknown lifecycle event `{name}`; use reauthorizationRequired, subscriptionRemoved or missed"))
    }
}

/// A change of a message as notifications see it.
#[derive(Clone, Debug)]
pub(super) struct Event {
    folder: String,
    id: String,
    immutable_id: String,
    etag: String,
    change: &'static str,
}

impl Event {
    /// The change as the truth has it.
    pub(super) fn noted(&self, user: &str) -> NotedChange {
        let Self { folder, immutable_id, etag, change, .. } = self.clone();
        NotedChange { mailbox: user.to_owned(), folder, id: immutable_id, etag, change }
    }
}

impl Mailbox {
    /// A change of this message, to be notified later.
    pub(super) fn snapshot(&self, m: &Message, change: &'static str) -> Event {
        Event { folder: m.folder.clone(), id: self.default_id(m), immutable_id: self.immutable_id(m.key), etag: m.etag(), change }
    }
}

impl MsGraph {
    /// `POST /subscriptions`: both URLs must pass the handshake before anything is stored.
    pub(super) async fn subscribe(&self, req: &Req) -> Answer {
        let body = json_body(req)?;
        let text = |key: &str| body[key].as_str().filter(|t| !t.is_empty()).map(str::to_owned);
        let required = |key: &str| text(key).ok_or_else(|| bad_request(&format!("The required property {key} is missing.")));
        let now = self.shared.clock.now();
        let mut subscription = Subscription {
            id: String::new(),
            user: String::new(),
            folder: None,
            topic: None,
            service: Service::Outlook,
            resource: required("resource")?,
            change_type: required("changeType")?,
            notification_url: required("notificationUrl")?,
            lifecycle_url: text("lifecycleNotificationUrl"),
            client_state: text("clientState"),
            expires: now,
            immutable: View::of(req).immutable,
        };
        if subscription.client_state.as_ref().is_some_and(|s| s.len() > 128) {
            return Err(bad_request("clientState must be at most 128 characters."));
        }
        if subscription.change_type.split(',').any(|t| !["created", "updated", "deleted"].contains(&t.trim())) {
            return Err(bad_request("changeType must be created, updated or deleted."));
        }
        {
            let state = lock(&self.state);
            match state.resource(&subscription.resource)? {
                Watched::Mail(user, folder) => (subscription.user, subscription.folder) = (user, folder),
                Watched::Topic(topic, service) => (subscription.topic, subscription.service) = (Some(topic), service),
            }
        }
        let asked = expiry(&required("expirationDateTime")?, now, subscription.service)?;
        subscription.expires = self.granted(asked, now);
        if subscription.service == Service::Files && subscription.change_type != "updated" {
            return Err(bad_request("Only the changeType updated is supported for this resource."));
        }
        if subscription.service == Service::Teams && subscription.lifecycle_url.is_none() && asked > add_seconds(now, 3600) {
            return Err(bad_request(
                "lifecycleNotificationUrl is a required property for subscription creation on this resource when the expirationDateTime value is set to greater than 1 hour.",
            ));
        }
        self.handshake(&subscription.notification_url).await?;
        if let Some(url) = &subscription.lifecycle_url {
            self.handshake(url).await?;
        }
        let mut state = lock(&self.state);
        state.next_id += 1;
        subscription.id = format!("7f105c7d-0000-4000-8000-{:012x}", state.next_id);
        let reply = subscription.render(req);
        self.shared.record(Entry::new("msgraph", EffectKind::SubscriptionChanged, &subscription.id).detail(json!("created")));
        state.subscriptions.insert(subscription.id.clone(), subscription);
        Ok(Reply::json(201, &reply))
    }

    /// The endpoint must answer 200 with the plain decoded token within 10 s.
    async fn handshake(&self, url: &str) -> Result<(), Reply> {
        // The blank and the colon show whether the receiver decodes.
        let token = format!("Validation: sandbox {}", self.tokens.issued());
        let query: String = url::form_urlencoded::Serializer::new(String::new()).append_pair("validationToken", &token).finish();
        let target = format!("{url}{}{query}", if url.contains('?') { '&' } else { '?' });
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        let failed = |why: &str| {
            // The code is from memory (unverified); the status is documented.
            error(400, "ValidationError", &format!("Subscription validation request failed. {why}"))
        };
        let reply = crate::client::send(Method::POST, &target, headers, Vec::new()).await;
        let reply = reply.map_err(|_| failed("Notification endpoint could not be reached."))?;
        let plain =
            reply.headers().get(header::CONTENT_TYPE).and_then(|t| t.to_str().ok()).is_some_and(|t| t.to_ascii_lowercase().starts_with("text/plain"));
        if reply.status() != 200 {
            return Err(failed(&format!("Response must be 200, but was {}.", reply.status().as_u16())));
        }
        if !plain || reply.body() != token.as_bytes() {
            return Err(failed("Response must echo the decoded validationToken as text/plain."));
        }
        Ok(())
    }

    /// `GET|PATCH|DELETE /subscriptions[/{id}]` and `POST …/reauthorize`.
    pub(super) fn subscription(&self, state: &mut State, id: Option<&str>, action: &str, req: &Req) -> Answer {
        let now = self.shared.clock.now();
        state.subscriptions.retain(|_, s| s.expires > now);
        let Some(id) = id else {
            let all = state.subscriptions.values().map(|s| s.render(req)).collect();
            let context = format!("{}/v1.0/$metadata#subscriptions", req.base);
            return Ok(Reply::json(200, &wire::page(&context, None, all, None)));
        };
        let missing = || error(404, "ResourceNotFound", "The object was not found.");
        let subscription = state.subscriptions.get_mut(id).ok_or_else(missing)?;
        let changed = |what: &str| self.shared.record(Entry::new("msgraph", EffectKind::SubscriptionChanged, id).detail(json!(what)));
        match action {
            "GET" => Ok(Reply::json(200, &subscription.render(req))),
            "PATCH" => {
                if self.refuses_renewal() {
                    return Err(error(403, "ErrorAccessDenied", "Access is denied. Check credentials and try again."));
                }
                let body = json_body(req)?;
                if let Some(until) = body["expirationDateTime"].as_str() {
                    subscription.expires = self.granted(expiry(until, now, subscription.service)?, now);
                }
                if let Some(url) = body["notificationUrl"].as_str() {
                    url.clone_into(&mut subscription.notification_url);
                }
                let reply = subscription.render(req);
                changed("renewed");
                Ok(Reply::json(200, &reply))
            }
            "DELETE" => {
                state.subscriptions.remove(id);
                changed("deleted");
                Ok(Reply::empty(204))
            }
            _ => {
                changed("reauthorized");
                Ok(Reply::empty(204))
            }
        }
    }

    /// The end that is granted of the one that was asked for.
    fn granted(&self, asked: Timestamp, now: Timestamp) -> Timestamp {
        self.longest_life().map_or(asked, |minutes| asked.min(add_seconds(now, minutes * 60)))
    }

    /// Queues a notification for every subscription that covers one of these changes.
    pub(super) fn notify(&self, state: &State, user: &str, events: &[Event]) {
        self.note_changes(user, events);
        let now = self.shared.clock.now();
        let live = || state.subscriptions.values().filter(|s| s.topic.is_none() && s.user == user && s.expires > now);
        for event in events {
            for s in live().filter(|s| s.covers(event)) {
                let mailbox = &state.mailboxes[user];
                let id = if s.immutable { &event.immutable_id } else { &event.id };
                let path = format!("Users/{}/Messages/{id}", mailbox.user_id);
                let data = json!({"@odata.type": "#Microsoft.Graph.Message", "@odata.id": path, "@odata.etag": event.etag, "id": id});
                let mut item = s.envelope();
                item["changeType"] = event.change.into();
                item["resource"] = path.into();
                item["resourceData"] = data;
                self.post(&s.notification_url, item);
            }
        }
    }

    /// Queues a notification for every subscription to this topic.
    pub(super) fn tell(&self, state: &State, happened: &Happened<'_>) {
        let now = self.shared.clock.now();
        let live = state.subscriptions.values().filter(|s| s.expires > now && s.topic.as_ref() == Some(&happened.topic));
        for s in live.filter(|s| s.change_type.split(',').any(|t| t.trim() == happened.change)) {
            let mut data = json!({ "@odata.type": happened.kind, "@odata.id": happened.path });
            if !happened.id.is_empty() {
                data["id"] = happened.id.into();
            }
            if let Some(etag) = happened.etag {
                data["@odata.etag"] = etag.into();
            }
            let mut item = s.envelope();
            item["changeType"] = happened.change.into();
            item["resource"] = happened.path.as_str().into();
            item["resourceData"] = data;
            self.post(&s.notification_url, item);
        }
    }

    /// Sends a lifecycle notification for every subscription that has a URL for it; returns how many.
    pub fn fire_lifecycle(&self, event: LifecycleEvent) -> usize {
        let mut state = lock(&self.state);
        let targets: Vec<(String, Value)> = state
            .subscriptions
            .values()
            .filter_map(|s| {
                let mut item = s.envelope();
                item["lifecycleEvent"] = event.name().into();
                Some((s.lifecycle_url.clone()?, item))
            })
            .collect();
        if event == LifecycleEvent::SubscriptionRemoved {
            state.subscriptions.retain(|_, s| s.lifecycle_url.is_none());
        }
        let sent = targets.len();
        for (url, item) in targets {
            self.post(&url, item);
        }
        sent
    }

    /// Ids of the live subscriptions.
    pub fn subscription_ids(&self) -> Vec<String> {
        let now = self.shared.clock.now();
        lock(&self.state).subscriptions.values().filter(|s| s.expires > now).map(|s| s.id.clone()).collect()
    }

    fn post(&self, url: &str, item: Value) {
        let body = json!({"value": [item]});
        self.shared.notifier.enqueue(Delivery { vendor: "msgraph", url: url.to_owned(), body, signing: Signing::None });
    }
}

impl Subscription {
    fn covers(&self, event: &Event) -> bool {
        self.change_type.split(',').any(|t| t.trim() == event.change) && self.folder.as_ref().is_none_or(|f| *f == event.folder)
    }

    /// The part every notification item shares.
    fn envelope(&self) -> Value {
        json!({
            "subscriptionId": self.id,
            "subscriptionExpirationDateTime": rfc3339_seconds(self.expires),
            "clientState": self.client_state,
            "tenantId": known::GRAPH_TENANT,
        })
    }

    fn render(&self, req: &Req) -> Value {
        json!({
            "@odata.context": format!("{}/v1.0/$metadata#subscriptions/$entity", req.base),
            "id": self.id,
            "resource": self.resource,
            "applicationId": known::GRAPH_CLIENT_ID,
            "changeType": self.change_type,
            "clientState": self.client_state,
            "notificationUrl": self.notification_url,
            "lifecycleNotificationUrl": self.lifecycle_url,
            "expirationDateTime": rfc3339_seconds(self.expires),
            "creatorId": known::GRAPH_CLIENT_ID,
            "latestSupportedTlsVersion": "v1_2",
        })
    }
}

/// Reads and bounds an expiry; too far ahead is refused, too near is raised.
fn expiry(text: &str, now: Timestamp, service: Service) -> Result<Timestamp, Reply> {
    let longest = service.longest_min();
    let until = wire::instant(text).ok_or_else(|| bad_request("expirationDateTime is not a date."))?;
    if until <= now {
        return Err(bad_request("Subscription expiration must be in the future."));
    }
    // A minute of grace for clocks that differ.
    if until > add_seconds(now, (longest + 1) * 60) {
        return Err(bad_request(&format!("Subscription expiration can only be {longest} minutes in the future.")));
    }
    Ok(until.max(add_seconds(now, SHORTEST_MIN * 60)))
}
