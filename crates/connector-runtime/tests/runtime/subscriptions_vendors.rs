//! The model against vendors that have no connector here yet: manifests written from their sheets, unverified against any account, and answers
//! as the sheets show them. Google's channels are replaced because they cannot be renewed, Jira's webhooks are refreshed many at a time and live
//! 30 days, Notion's are made by a person.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    CallCx, Result, TenantId,
    clock::{Clock, ManualClock},
    state::Store,
    transport::{Body, Request, Response, Transport},
};
use connector_manifest::{Hooks, Strictness};
use connector_runtime::{HubConfig, Runtime, SUBSCRIPTION_QUIET, SubscriptionState};
use connector_state::MemoryState;
use serde_json::{Value, json};

use crate::subscriptions_world::START;

const DAY: Duration = Duration::from_secs(86_400);

/// Push channels of a calendar. <https://developers.google.com/workspace/calendar/api/guides/push> (sheet §5.4): no renewing; a channel lives 7 days
/// unless asked otherwise, its end is Unix milliseconds in quotes, stopping it needs the id and the resource's id.
const GOOGLE: &str = r#"
connector: webhook
id: gcal
name: Google Calendar
version: 0.1.0
base_url: https://www.googleapis.com/calendar/v3
auth: { type: bearer, token_env: GCAL_TOKEN }
webhook: { verify: { scheme: google_channel } }
events:
  calendar.changed: { doc: Something changed., match: { .resource_state: exists } }
subscriptions:
  events:
    doc: Changes of one calendar.
    params: { calendar: { doc: Its id., default: primary } }
    resource: "/calendars/{calendar}/events"
    lifetime: 7d
    max_lifetime: 30d
    expires_as: unix_ms
    secret: true
    create:
      tool: gcal_watch
      args: { calendar: "{calendar}", id: "{new_id}", address: "{notification_url}", token: "{secret}", expiration: "{expires}" }
      id: .id
      expires: .expiration
      keep: { resource_id: .resourceId }
    renew: { replace: true }
    delete: { tool: gcal_stop, args: { id: "{id}", resource_id: "{resource_id}" } }
    events: { subscription: .channel_id }
tools:
  - name: gcal_watch
    doc: Opens a channel.
    method: POST
    path: /calendars/{calendar}/events/watch
    body: { id: "{id}", type: web_hook, address: "{address}", token: "{token}", expiration: "{expiration}" }
    params:
      - { name: calendar, type: string, required: true }
      - { name: id, type: string, required: true }
      - { name: address, type: string, required: true }
      - { name: token, type: string, required: true }
      - { name: expiration, type: integer, required: true }
  - name: gcal_stop
    doc: Closes a channel.
    method: POST
    path: /channels/stop
    body: { id: "{id}", resourceId: "{resource_id}" }
    params:
      - { name: id, type: string, required: true }
      - { name: resource_id, type: string, required: true }
"#;

/// Dynamic webhooks. <https://developer.atlassian.com/cloud/jira/platform/webhooks/> (sheet §8): 30 days, refreshed by a list of ids, the answer says when
/// they end; the sheet advises every 20 days.
const JIRA: &str = r#"
connector: webhook
id: jiradyn
name: Jira
version: 0.1.0
base_url: https://api.atlassian.com/ex/jira/1
auth: { type: bearer, token_env: JIRA_TOKEN }
webhook: { verify: { scheme: jira } }
events:
  issue.updated: { doc: An issue changed., match: { .webhookEvent: "jira:issue_updated" } }
subscriptions:
  issues:
    doc: Issues that a JQL filter finds.
    params: { jql: { doc: The filter., required: true } }
    resource: "{jql}"
    lifetime: 30d
    max_lifetime: 30d
    renew_at: 20d
    create:
      tool: jira_create_webhook
      args: { url: "{notification_url}", jql: "{jql}" }
      id: ".webhookRegistrationResult[0].createdWebhookId"
    renew: { tool: jira_refresh_webhooks, args: { ids: "{ids}" }, expires: .expirationDate, many: 100 }
    list:
      tool: jira_list_webhooks
      items: .values
      id: .id
      expires: .expirationDate
      ours: { .jqlFilter: "{jql}", .url: "{notification_url}" }
    delete: { tool: jira_delete_webhook, args: { ids: "{ids}" } }
    events: { subscription: ".matchedWebhookIds[0]" }
tools:
  - name: jira_create_webhook
    doc: Makes a webhook.
    method: POST
    path: /rest/api/3/webhook
    body: { url: "{url}", webhooks: [{ jqlFilter: "{jql}", events: ["jira:issue_updated"] }] }
    params: [{ name: url, type: string, required: true }, { name: jql, type: string, required: true }]
  - name: jira_refresh_webhooks
    doc: Gives webhooks another 30 days.
    method: PUT
    path: /rest/api/3/webhook/refresh
    body: { webhookIds: "{ids}" }
    params: [{ name: ids, type: "array<integer>", required: true }]
  - name: jira_list_webhooks
    doc: Lists the app's webhooks.
    method: GET
    path: /rest/api/3/webhook
  - name: jira_delete_webhook
    doc: Removes webhooks.
    method: DELETE
    path: /rest/api/3/webhook
    body: { webhookIds: "{ids}" }
    params: [{ name: ids, type: "array<integer>", required: true }]
"#;

/// <https://developers.notion.com/reference/webhooks> (sheet §10): made in the connection's settings; the first request brings the token.
const NOTION: &str = r#"
connector: webhook
id: notionui
name: Notion
version: 0.1.0
base_url: https://api.notion.com/v1
auth: { type: bearer, token_env: NOTION_TOKEN }
webhook: { verify: { scheme: notion } }
events:
  page.changed: { doc: A page changed., match: { .type: page.content_updated } }
subscriptions:
  webhooks:
    doc: The events chosen in the connection's settings.
    static: true
    instructions: Open the connection's settings, add the address, paste the token the hub was sent.
    quiet_after: 3d
    events: { subscription: .subscription_id }
"#;

/// Answers as the sheets show them.
#[derive(Debug)]
struct Vendors {
    clock: Arc<ManualClock>,
    seen: Mutex<Vec<(String, Value)>>,
    jira: Mutex<Vec<(u64, String, String)>>,
}

impl Vendors {
    fn calls(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|(line, _)| line.clone()).collect()
    }

    fn bodies(&self, of: &str) -> Vec<Value> {
        self.seen.lock().unwrap().iter().filter(|(line, _)| line == of).map(|(_, body)| body.clone()).collect()
    }
}

#[async_trait]
impl Transport for Vendors {
    async fn send(&self, _: &CallCx, request: Request) -> Result<Response> {
        let line = format!("{} {}", request.head.method, request.head.url.path());
        let bytes = request.body.collect(1 << 20).await?;
        let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        self.seen.lock().unwrap().push((line.clone(), body.clone()));
        let in_30_days = jiff::Timestamp::try_from(self.clock.wall() + 30 * DAY).unwrap().strftime("%Y-%m-%dT%H:%M:%S.000+0000").to_string();
        let mut jira = self.jira.lock().unwrap();
        let answer = match line.as_str() {
            "POST /calendar/v3/calendars/primary/events/watch" => json!({ "kind": "api#channel", "id": body["id"], "resourceId": "o3h",
                "token": body["token"], "expiration": body["expiration"].to_string() }),
            "POST /calendar/v3/channels/stop" => Value::Null,
            "POST /ex/jira/1/rest/api/3/webhook" => {
                let id = 1_000 + jira.len() as u64;
                jira.push((id, body["webhooks"][0]["jqlFilter"].as_str().unwrap().to_owned(), body["url"].as_str().unwrap().to_owned()));
                json!({ "webhookRegistrationResult": [{ "createdWebhookId": id }] })
            }
            "PUT /ex/jira/1/rest/api/3/webhook/refresh" => json!({ "expirationDate": in_30_days }),
            "GET /ex/jira/1/rest/api/3/webhook" => {
                let values: Vec<Value> =
                    jira.iter().map(|(id, jql, url)| json!({ "id": id, "jqlFilter": jql, "url": url, "expirationDate": in_30_days })).collect();
                json!({ "values": values })
            }
            other => panic!("no answer to {other}"),
        };
        let bytes = if answer.is_null() { Bytes::new() } else { Bytes::from(answer.to_string()) };
        Ok(http::Response::new(Body::from(bytes)))
    }
}

async fn hub(id: &str, manifest: &str, wanted: &str) -> (Runtime, Arc<Vendors>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at_unix(START));
    let vendors = Arc::new(Vendors { clock: clock.clone(), seen: Mutex::default(), jira: Mutex::default() });
    let parsed = connector_manifest::load(&[("vendor.yaml", manifest)], Strictness::Custom).unwrap_or_else(|found| panic!("{found}"));
    let text = format!(
        "public_url: https://hub.example\nconnections:\n  main: {{ connector: {id}, credential: {{ token: \"${{TOKEN}}\" }} }}\nsubscriptions:\n{wanted}"
    );
    let dyn_clock: Arc<dyn Clock> = clock.clone();
    let store: Arc<dyn Store> = Arc::new(MemoryState::new(dyn_clock.clone()));
    let runtime = Runtime::builder()
        .builtin(id, Arc::new(parsed.manifest), Hooks::new())
        .config(HubConfig::parse("hub.yaml", &text).unwrap())
        .env(|name| (name == "TOKEN").then(|| "token".to_owned()))
        .transport(vendors.clone())
        .store(store)
        .clock(dyn_clock)
        .build()
        .await
        .unwrap();
    (runtime, vendors, clock)
}

#[tokio::test]
async fn a_channel_that_cannot_be_renewed_is_replaced_before_its_end() {
    let (runtime, vendors, clock) = hub("gcal", GOOGLE, "  - { connection: main, kind: events }\n").await;
    let tenant = TenantId::default();
    assert_eq!(runtime.tend_subscriptions().await.unwrap().created, 1);
    let first = runtime.subscriptions(&tenant).await.unwrap().remove(0);
    assert_eq!((first.state, first.expires_at), (SubscriptionState::Active, Some((START + 7 * 86_400) * 1_000)));
    clock.advance(4 * DAY);
    runtime.tend_subscriptions().await.unwrap();
    let second = runtime.subscriptions(&tenant).await.unwrap().remove(0);
    assert_ne!(second.vendor_id, first.vendor_id);
    assert_eq!(second.expires_at, Some((START + 11 * 86_400) * 1_000));
    let (watch, stop) = ("POST /calendar/v3/calendars/primary/events/watch", "POST /calendar/v3/channels/stop");
    assert_eq!(vendors.calls(), [watch, watch, stop], "the new one first, then the old one goes");
    assert_eq!(vendors.bodies(stop), [json!({ "id": first.vendor_id, "resourceId": "o3h" })]);
    let opened = vendors.bodies(watch);
    assert_eq!(opened[0]["address"], "https://hub.example/api/v1/webhooks/gcal/default");
    assert_ne!(opened[0]["token"], opened[1]["token"]);
    assert!(opened[0]["token"].as_str().unwrap().len() >= 43, "256 bits");
}

#[tokio::test]
async fn many_are_refreshed_in_one_call_when_the_manifest_says() {
    let wanted = "  - { connection: main, kind: issues, params: { jql: project = A } }\n  - { connection: main, kind: issues, params: { jql: project = B } }\n";
    let (runtime, vendors, clock) = hub("jiradyn", JIRA, wanted).await;
    let tenant = TenantId::default();
    assert_eq!(runtime.tend_subscriptions().await.unwrap().created, 2);
    clock.advance(19 * DAY);
    runtime.tend_subscriptions().await.unwrap();
    let refresh = "PUT /ex/jira/1/rest/api/3/webhook/refresh";
    assert!(vendors.bodies(refresh).is_empty(), "half of the life is 15 days, but the manifest says 20");
    clock.advance(2 * DAY);
    assert_eq!(runtime.tend_subscriptions().await.unwrap().renewed, 2);
    let ids = vendors.bodies(refresh);
    assert_eq!(ids.len(), 1, "one call for both: {ids:?}");
    let mut ids: Vec<u64> = serde_json::from_value(ids[0]["webhookIds"].clone()).unwrap();
    ids.sort_unstable();
    assert_eq!(ids, [1_000, 1_001]);
    for one in runtime.subscriptions(&tenant).await.unwrap() {
        assert_eq!(one.expires_at, Some((START + 51 * 86_400) * 1_000));
    }
    // Those that are there already are taken over by a hub that remembers nothing.
    let (again, vendors_of_it, _) = hub("jiradyn", JIRA, wanted).await;
    *vendors_of_it.jira.lock().unwrap() = vendors.jira.lock().unwrap().clone();
    let done = again.tend_subscriptions().await.unwrap();
    assert_eq!((done.adopted, done.created), (2, 0));
}

#[tokio::test]
async fn one_that_a_person_made_is_watched_and_its_silence_is_told_once() {
    let (runtime, _, clock) = hub("notionui", NOTION, "  - { connection: main, kind: webhooks }\n").await;
    let tenant = TenantId::default();
    runtime.tend_subscriptions().await.unwrap();
    let view = runtime.subscriptions(&tenant).await.unwrap().remove(0);
    assert_eq!(view.state, SubscriptionState::Watching);
    assert!(view.instructions.unwrap().contains("settings"));
    clock.advance(4 * DAY);
    for _ in 0..3 {
        runtime.tend_subscriptions().await.unwrap();
        clock.advance(DAY / 24);
    }
    let told = runtime.store().events(&tenant, Default::default()).await.unwrap();
    assert_eq!(told.iter().map(|event| &*event.event_type).collect::<Vec<_>>(), [SUBSCRIPTION_QUIET]);
    let view = runtime.subscriptions(&tenant).await.unwrap().remove(0);
    assert!(view.last_error.unwrap().contains("nothing came for 3d"));
}
