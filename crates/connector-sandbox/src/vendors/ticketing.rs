//! A small ticketing REST API with API keys, idempotency keys and a webhook on status changes, the kind a custom connector is written
//! for. It refuses nothing doubled by itself: two tickets with one `external_id` are two tickets, so that a doubled write shows.

use crate::auth::known;
use crate::clock::rfc3339_seconds;
use crate::exchange::{Answer, Reply, Req};
use crate::ledger::{EffectKind, Entry, lock};
use crate::notify::{Delivery, Signing};
use crate::vendors::{Shared, Vendor};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

const PRIORITIES: [&str; 4] = ["low", "normal", "high", "urgent"];
const STATUSES: [&str; 6] = ["open", "in_progress", "pending", "waiting", "resolved", "closed"];
const ASSIGNEE: &str = "support@contoso.example";

/// The fake ticketing system.
#[derive(Debug)]
pub struct Ticketing {
    shared: Shared,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    tickets: BTreeMap<u64, Value>,
    comments: BTreeMap<u64, Vec<Value>>,
    /// First body and reply under each idempotency key.
    keys: HashMap<String, (Value, Reply)>,
    next_comment: u64,
    webhook: Option<(String, Option<String>)>,
}

impl Ticketing {
    pub(crate) fn new(shared: Shared) -> Self {
        Self { shared, state: Mutex::default() }
    }

    /// Where status changes are posted, with a bearer secret if one is given.
    pub fn set_webhook(&self, url: impl Into<String>, secret: Option<String>) {
        lock(&self.state).webhook = Some((url.into(), secret));
    }

    /// How many tickets exist.
    pub fn count(&self) -> usize {
        lock(&self.state).tickets.len()
    }

    fn route(&self, req: &Req) -> Answer {
        let authorised = req.header("x-api-key") == Some(known::TICKETING_API_KEY) || req.bearer() == Some(known::TICKETING_API_KEY);
        if !authorised {
            return Err(error(401, "unauthorized", "missing or unknown API key"));
        }
        // Mounted bare and under the /api/v2 of a common vendor base URL.
        let path = req.path();
        let path = path.strip_prefix(&["api", "v2"][..]).unwrap_or(&path);
        let mut state = lock(&self.state);
        match (req.method.as_str(), path) {
            ("GET", ["tickets"]) => list(&state, req),
            ("POST", ["tickets"]) => self.keyed(&mut state, req, |state, body, key| self.create(state, body, key, req)),
            ("GET", ["tickets", id]) => Ok(Reply::json(200, &state.tickets[&find(&state, id)?])),
            ("PATCH" | "PUT", ["tickets", id]) => {
                let id = find(&state, id)?;
                self.update(&mut state, id, &body(req)?)
            }
            ("GET", ["tickets", id, "comments"]) => {
                let id = find(&state, id)?;
                Ok(Reply::json(200, &json!({"comments": state.comments.get(&id).cloned().unwrap_or_default()})))
            }
            ("POST", ["tickets", id, "comments"]) => {
                let id = find(&state, id)?;
                self.keyed(&mut state, req, |state, body, key| self.comment(state, id, body, key))
            }
            _ => Err(error(404, "not_found", "no such resource")),
        }
    }

    /// The same key with the same body gets the first reply again; with another body it is refused.
    fn keyed(&self, state: &mut State, req: &Req, act: impl FnOnce(&mut State, &Value, Option<&str>) -> Answer) -> Answer {
        let body = body(req)?;
        let Some(key) = req.header("idempotency-key") else { return act(state, &body, None) };
        let scoped = format!("{} {key}", req.segments.join("/"));
        if let Some((first, reply)) = state.keys.get(&scoped) {
            if *first != body {
                return Err(error(422, "idempotency_conflict", "this Idempotency-Key was used with another body"));
            }
            return Ok(reply.clone().with("idempotency-replayed", "true"));
        }
        let reply = act(state, &body, Some(key))?;
        state.keys.insert(scoped, (body, reply.clone()));
        Ok(reply)
    }

    fn create(&self, state: &mut State, body: &Value, key: Option<&str>, req: &Req) -> Answer {
        let subject = body["subject"].as_str().filter(|s| !s.trim().is_empty());
        let subject = subject.ok_or_else(|| error(422, "invalid", "subject is required"))?;
        let priority = body["priority"].as_str().unwrap_or("normal");
        if !PRIORITIES.contains(&priority) {
            return Err(error(422, "invalid", &format!("priority must be one of {}", PRIORITIES.join(", "))));
        }
        let number = state.tickets.len() as u64 + 1;
        let id = format!("TICKET-{number}");
        let now = rfc3339_seconds(self.shared.clock.now());
        let ticket = json!({
            "id": id,
            "number": number,
            "url": format!("{}/tickets/{id}", req.base),
            "status": "open",
            "subject": subject,
            "description": body["description"],
            "priority": priority,
            "external_id": body["external_id"],
            "assignee": {"email": ASSIGNEE},
            "custom_fields": if body["custom_fields"].is_object() { body["custom_fields"].clone() } else { json!({}) },
            "tags": if body["tags"].is_array() { body["tags"].clone() } else { json!([]) },
            "created_at": now,
            "updated_at": now,
        });
        let external = body["external_id"].as_str().or(key).map(str::to_owned);
        let entry = Entry::new("ticketing", EffectKind::TicketCreated, &id).key(external);
        self.shared.record(entry.detail(json!({"subject": subject, "priority": priority, "idempotency_key": key})));
        state.tickets.insert(number, ticket.clone());
        Ok(Reply::json(201, &ticket).with("location", &format!("{}/tickets/{id}", req.base)))
    }

    fn update(&self, state: &mut State, id: u64, body: &Value) -> Answer {
        let ticket = state.tickets.get_mut(&id).ok_or_else(|| error(404, "not_found", "no such ticket"))?;
        if body["status"].as_str().is_some_and(|s| !STATUSES.contains(&s)) {
            return Err(error(422, "invalid", &format!("status must be one of {}", STATUSES.join(", "))));
        }
        let before = ticket["status"].clone();
        for name in ["status", "subject", "description", "priority", "assignee", "custom_fields", "tags", "external_id"] {
            if let Some(value) = body.get(name) {
                ticket[name] = value.clone();
            }
        }
        ticket["updated_at"] = rfc3339_seconds(self.shared.clock.now()).into();
        let ticket = ticket.clone();
        let target = ticket["id"].as_str().unwrap_or_default();
        self.shared.record(Entry::new("ticketing", EffectKind::TicketUpdated, target).detail(body.clone()));
        if before != ticket["status"]
            && let Some((url, secret)) = &state.webhook
        {
            let data = json!({"ticket_id": ticket["id"], "old_status": before, "status": ticket["status"],
                "external_id": ticket["external_id"], "updated_at": ticket["updated_at"]});
            let event_id = format!("{target}-{}", self.shared.ledger.count(EffectKind::TicketUpdated));
            let body = json!({"id": event_id, "event": "ticket.status_changed", "data": data});
            let signing = secret.clone().map_or(Signing::None, Signing::Bearer);
            self.shared.notifier.enqueue(Delivery { vendor: "ticketing", url: url.clone(), body, signing });
        }
        Ok(Reply::json(200, &ticket))
    }

    fn comment(&self, state: &mut State, id: u64, body: &Value, key: Option<&str>) -> Answer {
        let text = body["body"].as_str().filter(|s| !s.is_empty()).ok_or_else(|| error(422, "invalid", "body is required"))?;
        state.next_comment += 1;
        let comment = json!({
            "id": format!("COMMENT-{}", state.next_comment),
            "ticket_id": format!("TICKET-{id}"),
            "body": text,
            "public": body["public"].as_bool().unwrap_or(true),
            "created_at": rfc3339_seconds(self.shared.clock.now()),
        });
        state.comments.entry(id).or_default().push(comment.clone());
        let entry = Entry::new("ticketing", EffectKind::TicketCommented, format!("TICKET-{id}"));
        self.shared.record(entry.key(key.map(str::to_owned)));
        Ok(Reply::json(201, &comment))
    }
}

/// `GET /tickets?external_id=&status=&q=&page=&per_page=`.
fn list(state: &State, req: &Req) -> Answer {
    let (page, size) = (req.q_usize("page", 1).max(1), req.q_usize("per_page", 50).clamp(1, 100));
    let text = |t: &Value, name: &str| t[name].as_str().unwrap_or_default().to_lowercase();
    let found: Vec<&Value> = state
        .tickets
        .values()
        .filter(|t| req.q("external_id").is_none_or(|id| t["external_id"] == id))
        .filter(|t| req.q("status").is_none_or(|s| t["status"] == s))
        .filter(|t| req.q("customer_id").is_none_or(|c| t["custom_fields"]["customer_id"] == c))
        .filter(|t| req.q("q").is_none_or(|q| format!("{} {}", text(t, "subject"), text(t, "description")).contains(&q.to_lowercase())))
        .collect();
    let items: Vec<_> = found.iter().skip((page - 1) * size).take(size).collect();
    let next = (page * size < found.len()).then_some(page + 1);
    Ok(Reply::json(200, &json!({"tickets": items, "count": found.len(), "next_page": next})))
}

/// A ticket by `TICKET-7` or `7`.
fn find(state: &State, id: &str) -> Result<u64, Reply> {
    let number = id.trim_start_matches("TICKET-").parse().ok().filter(|n| state.tickets.contains_key(n));
    number.ok_or_else(|| error(404, "not_found", "no such ticket"))
}

fn body(req: &Req) -> Result<Value, Reply> {
    req.json().ok().filter(Value::is_object).ok_or_else(|| error(400, "bad_request", "the body must be a JSON object"))
}

fn error(status: u16, code: &str, message: &str) -> Reply {
    Reply::json(status, &json!({"error": {"code": code, "message": message}}))
}

#[async_trait]
impl Vendor for Ticketing {
    fn id(&self) -> &'static str {
        "ticketing"
    }

    async fn handle(&self, req: Req) -> Reply {
        self.route(&req).unwrap_or_else(|reply| reply)
    }

    fn throttled(&self, retry_after: u64) -> Reply {
        error(429, "rate_limited", "too many requests").with("retry-after", &retry_after.to_string())
    }

    fn unavailable(&self) -> Reply {
        error(503, "unavailable", "the service is temporarily unavailable")
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
