//! A stateful fake of HubSpot's CRM: objects, batches, search, properties, associations, lookups, OAuth and signed webhooks. It
//! refuses marketing, CMS and conversation APIs.

mod app;
mod associations;
mod batch;
mod catalogue;
mod events;
mod lists;
mod oauth;
mod objects;
mod properties;
mod search;
mod seed;
mod store;

use crate::auth::{Tokens, known};
use crate::exchange::{Answer, Reply, Req};
use crate::grants::{Grants, Renewal};
use crate::ledger::lock;
use crate::vendors::{Shared, Vendor};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::Mutex;
use store::{Invalid, Store, object_type};

/// The account every record belongs to.
const PORTAL: u64 = 424_242;
/// A fixed correlation id keeps replies repeatable.
const CORRELATION: &str = "7d9e0f11-2222-4333-8444-555566667777";
/// Requests in ten seconds that a private app of a Professional account may make.
const BURST: usize = 190;
const DAILY: u64 = 625_000;

/// The fake HubSpot.
#[derive(Debug)]
pub struct HubSpot {
    shared: Shared,
    tokens: Tokens,
    grants: Grants,
    enforce_limits: bool,
    store: Mutex<Store>,
}

impl HubSpot {
    pub(crate) fn new(shared: Shared, token_lifetime_s: i64, enforce_limits: bool) -> Self {
        let tokens = Tokens::new("sandbox-hubspot", token_lifetime_s, shared.clock.clone());
        let client = (known::HUBSPOT_CLIENT_ID, known::HUBSPOT_CLIENT_SECRET);
        let grants = Grants::new("hubspot", client, Renewal::Keeps, shared.clone());
        grants.seed(known::HUBSPOT_REFRESH_TOKEN, &["oauth", "crm.objects.contacts.read", "crm.objects.contacts.write"]);
        let mut store = Store::default();
        seed::fill(&mut store, shared.clock.now());
        Self { shared, tokens, grants, enforce_limits, store: Mutex::new(store) }
    }

    /// Where signed webhook events go from now on.
    pub fn set_webhook(&self, url: impl Into<String>) {
        lock(&self.store).webhook = Some(url.into());
    }

    /// Ends every OAuth access token; the private-app token stays.
    pub fn expire_tokens(&self) {
        self.tokens.revoke_all();
    }

    /// What a renewal does with the refresh token from now on. HubSpot keeps it; the others are for trying out stricter vendors.
    pub fn set_renewal(&self, renewal: Renewal) {
        self.grants.set_renewal(renewal);
    }

    /// Takes every consent back, as if the app had been uninstalled.
    pub fn revoke_grants(&self) {
        self.grants.revoke_all(&self.tokens);
    }

    /// Email addresses of the live contacts, by record id.
    pub fn contact_emails(&self) -> Vec<String> {
        let store = lock(&self.store);
        let contacts = store.objects.get("contacts").into_iter().flat_map(|o| o.values());
        contacts.filter(|r| r.archived.is_none()).filter_map(|r| r.properties.get("email").cloned()).collect()
    }

    fn route(&self, store: &mut Store, req: &Req) -> Answer {
        let path = unversioned(req);
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let method = req.method.as_str();
        match (method, path.as_slice()) {
            ("GET", ["account-info", "details"]) => Ok(catalogue::account()),
            ("GET", ["crm", "owners"]) => catalogue::owners(req),
            ("GET", ["crm", "owners", id]) => catalogue::owner(id),
            ("GET", ["crm", "pipelines", kind]) => catalogue::pipelines(kind),
            (_, ["crm", "schemas", rest @ ..]) => app::schemas(rest, req),
            (_, ["crm", "lists", rest @ ..]) => self.lists(store, rest, req),
            (_, ["webhooks", rest @ ..]) => self.app(store, rest, req),
            (_, ["crm", "properties", kind, rest @ ..]) => self.properties(store, known_type(kind)?, rest, req),
            (_, ["crm", "associations", from, to, rest @ ..]) => self.association_batch(store, from, to, rest, req),
            (_, ["crm", "objects", kind, rest @ ..]) => {
                let kind = known_type(kind)?;
                match (method, rest) {
                    ("GET", []) => self.list(store, kind, req),
                    ("POST", []) => self.create(store, kind, req),
                    ("POST", ["search"]) => self.search(store, kind, req),
                    ("POST", ["merge"]) => self.merge(store, kind, req),
                    ("POST", ["gdpr-delete"]) => self.gdpr_delete(store, kind, req),
                    ("POST", ["batch", action]) => self.batch(store, kind, action, req),
                    ("GET", [id]) => self.get(store, kind, id, req),
                    ("PATCH", [id]) => self.update(store, kind, id, req),
                    ("DELETE", [id]) => self.archive(store, kind, id),
                    (_, [id, "associations", rest @ ..]) => self.associations(store, kind, id, rest, req),
                    _ => Err(unknown_path()),
                }
            }
            _ => Err(unknown_path()),
        }
    }

    /// Counts the request and refuses it when limits are enforced; search has its own bucket and no headers.
    fn limited(&self, store: &mut Store) -> Result<usize, Reply> {
        let now = self.shared.clock.now();
        while store.recent.front().is_some_and(|at| now.duration_since(*at).as_millis() >= 10_000) {
            store.recent.pop_front();
        }
        if self.enforce_limits && store.recent.len() >= BURST {
            return Err(throttled("TEN_SECONDLY_ROLLING", "ten_secondly_rolling"));
        }
        store.recent.push_back(now);
        Ok(BURST.saturating_sub(store.recent.len()))
    }

    fn answer(&self, req: &Req) -> Answer {
        let last = req.segments.last().map(String::as_str).unwrap_or_default();
        if req.segments.first().is_some_and(|s| s == "oauth") {
            return self.oauth(req);
        }
        if !req.bearer().is_some_and(|t| t == known::HUBSPOT_TOKEN || self.tokens.accepts(t)) {
            let message = "Authentication credentials not found. This API supports OAuth 2.0 authentication.";
            return Err(error(401, "INVALID_AUTHENTICATION", message));
        }
        self.allowed(req)?;
        let mut store = lock(&self.store);
        // Lists are searched too, but not with the search API and its limit.
        if last == "search" && !req.segments.iter().any(|segment| segment == "lists") {
            return self.route(&mut store, req);
        }
        let remaining = self.limited(&mut store)?;
        let reply = self.route(&mut store, req).unwrap_or_else(|reply| reply);
        events::flush(&mut store, &self.shared);
        Ok(reply
            .with("x-hubspot-ratelimit-daily", &DAILY.to_string())
            .with("x-hubspot-ratelimit-daily-remaining", &(DAILY - 1).to_string())
            .with("x-hubspot-ratelimit-interval-milliseconds", "10000")
            .with("x-hubspot-ratelimit-max", &BURST.to_string())
            .with("x-hubspot-ratelimit-remaining", &remaining.to_string()))
    }
}

fn known_type(name: &str) -> Result<&'static str, Reply> {
    object_type(name).ok_or_else(|| error(400, "VALIDATION_ERROR", &format!("Unable to infer object type from: {name}")))
}

fn unknown_path() -> Reply {
    error(404, "OBJECT_NOT_FOUND", "No such endpoint")
}

/// The path without its version: `crm/v3/objects/…`, `crm/objects/2026-03/…` and `crm/associations/v4/…` are the same API.
fn unversioned(req: &Req) -> Vec<String> {
    let is_version = |s: &str| {
        let dated = s.len() == 7 && s.as_bytes()[4] == b'-' && s.bytes().enumerate().all(|(n, b)| n == 4 || b.is_ascii_digit());
        matches!(s, "v3" | "v4") || dated
    };
    let mut path = req.segments.clone();
    if let Some(at) = (1..path.len().min(3)).find(|at| is_version(&path[*at])) {
        path.remove(at);
    }
    path
}

/// The body of a request, or HubSpot's complaint about it.
fn json_body(req: &Req) -> Result<Value, Reply> {
    match req.json() {
        Ok(Value::Null) | Err(_) => Err(error(400, "VALIDATION_ERROR", "Invalid input JSON: the body could not be read")),
        Ok(body) => Ok(body),
    }
}

/// An error body. <https://developers.hubspot.com/docs/api-reference/error-handling>
fn error(status: u16, category: &str, message: &str) -> Reply {
    Reply::json(status, &json!({"status": "error", "message": message, "correlationId": CORRELATION, "category": category}))
}

fn invalid(problem: &Invalid) -> Reply {
    let mut body = json!({"status": "error", "message": problem.message, "correlationId": CORRELATION, "category": problem.category});
    if let Some(property) = &problem.property
        && problem.category == "VALIDATION_ERROR"
    {
        let values = json!([{"isValid": false, "message": problem.message, "error": problem.code, "name": property}]);
        body["message"] = format!("Property values were not valid: {values}").into();
        body["errors"] = json!([{"message": problem.message, "code": problem.code, "in": property, "context": {"propertyName": [property]}}]);
    }
    Reply::json(problem.status, &body)
}

fn throttled(policy: &str, words: &str) -> Reply {
    let message = format!("You have reached your {words} limit.");
    Reply::json(
        429,
        &json!({"status": "error", "message": message, "errorType": "RATE_LIMIT", "correlationId": CORRELATION,
            "policyName": policy, "requestId": CORRELATION}),
    )
}

#[async_trait]
impl Vendor for HubSpot {
    fn id(&self) -> &'static str {
        "hubspot"
    }

    async fn handle(&self, req: Req) -> Reply {
        self.answer(&req).unwrap_or_else(|reply| reply)
    }

    fn throttled(&self, retry_after: u64) -> Reply {
        throttled("TEN_SECONDLY_ROLLING", "ten_secondly_rolling").with("retry-after", &retry_after.to_string())
    }

    fn unavailable(&self) -> Reply {
        error(503, "SERVICE_UNAVAILABLE", "The service is temporarily unavailable")
    }

    fn revoke(&self, req: &Req) -> bool {
        req.bearer().is_some_and(|token| self.tokens.revoke(token))
    }

    fn presents_cursor(&self, _req: &Req) -> bool {
        false
    }

    fn spared(&self, req: &Req) -> bool {
        req.segments.first().is_some_and(|s| s == "oauth")
    }
}
