//! The control API under `/_sandbox/`: what the command line and other processes use to look at the ledger, change the faults and
//! make things happen. It is no vendor: it takes no credentials and no faults touch it.

use crate::dispatch::Hub;
use crate::exchange::{Answer, Reply, Req};
use crate::faults::FaultProfile;
use crate::grants::Renewal;
use crate::vendors::msgraph::LifecycleEvent;
use serde_json::{Value, json};

/// Answers a control request.
///
/// | request | does |
/// |---|---|
/// | `GET /_sandbox/ledger` | every effect |
/// | `GET /_sandbox/faults` | profile and counts |
/// | `PUT /_sandbox/faults` | a profile name as JSON string, or a profile object |
/// | `GET /_sandbox/notifications` | what became of each notification |
/// | `POST /_sandbox/mail?user=&folder=` | injects the body (RFC 5322 bytes) |
/// | `POST /_sandbox/lifecycle?event=` | fires a Graph lifecycle notification to every subscription |
/// | `POST /_sandbox/expire-delta?user=` | makes every delta cursor of a mailbox stale |
/// | `POST /_sandbox/expire-tokens` | ends every token |
/// | `POST /_sandbox/revoke-grants` | takes every person's consent back |
/// | `PUT /_sandbox/renewal` | `"keeps"`, `"adds"` or `"burns"`: what a renewal does with the refresh token |
/// | `POST /_sandbox/slack/say` | `{user, channel, text, thread_ts?}`: somebody writes a message |
/// | `POST /_sandbox/slack/command` | `{user, channel, command, text}`: somebody uses a slash command |
/// | `PUT /_sandbox/webhooks` | `{vendor, url, secret?}` for hubspot, slack, salesforce, netbox, ticketing |
pub(crate) fn handle(hub: &Hub, req: &Req) -> Reply {
    route(hub, req).unwrap_or_else(|reply| reply)
}

fn route(hub: &Hub, req: &Req) -> Answer {
    let ok = |body: Value| Ok(Reply::json(200, &body));
    let path = req.path();
    match (req.method.as_str(), path.as_slice()) {
        ("GET", ["ledger"]) => ok(json!({"effects": hub.shared.ledger.effects()})),
        ("GET", ["notifications"]) => ok(json!({"notifications": hub.shared.notifier.log()})),
        ("GET", ["faults"]) => ok(faults(hub)),
        ("PUT", ["faults"]) => {
            let profile = match body(req)? {
                Value::String(name) => name.parse::<FaultProfile>().map_err(bad)?,
                object => serde_json::from_value(object).map_err(|e| bad(e.to_string()))?,
            };
            hub.shared.faults.set(profile);
            ok(faults(hub))
        }
        ("POST", ["mail"]) => {
            let user = req.q("user").unwrap_or(crate::known::GRAPH_MAILBOX);
            let folder = req.q("folder").unwrap_or("inbox");
            let id = hub.msgraph.inject_mime(user, folder, &req.body).ok_or_else(|| bad("no such mailbox or folder".into()))?;
            ok(json!({"id": id}))
        }
        ("POST", ["lifecycle"]) => {
            let event: LifecycleEvent = req.q("event").unwrap_or("missed").parse().map_err(bad)?;
            ok(json!({"sent": hub.msgraph.fire_lifecycle(event)}))
        }
        ("POST", ["expire-delta"]) => {
            hub.msgraph.expire_delta(req.q("user").unwrap_or(crate::known::GRAPH_MAILBOX));
            ok(json!({}))
        }
        ("POST", ["expire-tokens"]) => {
            hub.msgraph.expire_tokens();
            hub.hubspot.expire_tokens();
            hub.slack.expire_tokens();
            hub.salesforce.expire_tokens();
            hub.servicenow.expire_tokens();
            hub.glpi.end_sessions();
            ok(json!({}))
        }
        ("POST", ["revoke-grants"]) => {
            hub.msgraph.revoke_grants();
            hub.hubspot.revoke_grants();
            hub.slack.revoke_grants();
            hub.salesforce.revoke_grants();
            ok(json!({}))
        }
        ("PUT", ["renewal"]) => {
            let renewal = match body(req)?.as_str() {
                Some("keeps") => Renewal::Keeps,
                Some("adds") => Renewal::Adds,
                Some("burns") => Renewal::Burns,
                _ => return Err(bad("say \"keeps\", \"adds\" or \"burns\"".into())),
            };
            hub.msgraph.set_renewal(renewal);
            hub.hubspot.set_renewal(renewal);
            hub.slack.set_renewal(renewal);
            hub.salesforce.set_renewal(renewal);
            ok(json!({}))
        }
        ("POST", ["slack", "say"]) => {
            let body = body(req)?;
            let text = |key: &str, usual: &str| body[key].as_str().unwrap_or(usual).to_owned();
            let (user, channel) = (text("user", "U0ANN"), text("channel", "C0OPS"));
            let ts = hub.slack.say(&user, &channel, &text("text", "hello"), body["thread_ts"].as_str());
            ok(json!({"ts": ts.ok_or_else(|| bad("no such channel or parent".into()))?}))
        }
        ("POST", ["slack", "command"]) => {
            let body = body(req)?;
            let text = |key: &str, usual: &str| body[key].as_str().unwrap_or(usual).to_owned();
            let (user, channel) = (text("user", "U0ANN"), text("channel", "C0OPS"));
            ok(json!({"trigger_id": hub.slack.slash_command(&user, &channel, &text("command", "/hub"), &text("text", ""))}))
        }
        ("PUT", ["webhooks"]) => {
            let body = body(req)?;
            let text = |key: &str| body[key].as_str().map(str::to_owned);
            let url = text("url").ok_or_else(|| bad("`url` is missing".into()))?;
            match text("vendor").as_deref() {
                Some("hubspot") => hub.hubspot.set_webhook(url),
                Some("slack") => hub.slack.set_webhook(url),
                Some("salesforce") => hub.salesforce.set_webhook(url),
                Some("netbox") => hub.netbox.set_webhook(url, text("secret")),
                Some("ticketing") => hub.ticketing.set_webhook(url, text("secret")),
                _ => return Err(bad("`vendor` must be hubspot, slack, salesforce, netbox or ticketing".into())),
            }
            ok(json!({}))
        }
        _ => Err(Reply::json(404, &json!({"error": "no such control request"}))),
    }
}

fn faults(hub: &Hub) -> Value {
    let mut injected = json!({});
    for ((vendor, kind), n) in hub.shared.faults.counts() {
        let kind = serde_json::to_value(kind).unwrap_or_default();
        injected[vendor][kind.as_str().unwrap_or_default()] = n.into();
    }
    json!({"profile": hub.shared.faults.profile(), "injected": injected})
}

fn body(req: &Req) -> Result<Value, Reply> {
    req.json().map_err(|e| bad(format!("the body is not JSON: {e}")))
}

fn bad(message: String) -> Reply {
    Reply::json(400, &json!({"error": message}))
}
