//! A stateful fake of a Salesforce org: records with the vendor's rules, SOQL and SOSL, composite resources and collections, Bulk API 2.0 jobs,
//! reports, getUpdated and getDeleted, OAuth with `instance_url`, usage in `Sforce-Limit-Info`, and outbound messages. It refuses Apex, metadata,
//! streaming and everything a support integration does not call.
//!
//! Since all fakes share one address, this one is mounted below a path; `instance_url` and `nextRecordsUrl` begin with it. Where the vendor counts
//! 24 hours rolling, the fake counts from its start.

mod bulk;
mod collections;
mod composite;
mod oauth;
mod org;
mod outbound;
mod query;
mod records;
mod seed;
mod soql;
mod store;

use crate::auth::{Tokens, known};
use crate::exchange::{Answer, Reply, Req};
use crate::grants::{Grants, Renewal};
use crate::ledger::lock;
use crate::vendors::{Shared, Vendor};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex;
use store::{Refused, Store};

/// The version all paths are of.
const VERSION: &str = "v66.0";
/// Calls a Developer org may make in 24 hours.
const DAILY: u64 = 15_000;
/// Query locators are good for this long, in seconds.
const LOCATOR_LIFE: i64 = 2 * 86_400;

/// The fake Salesforce.
#[derive(Debug)]
pub struct Salesforce {
    shared: Shared,
    tokens: Tokens,
    grants: Grants,
    enforce_limits: bool,
    state: Mutex<State>,
}

/// What changes.
#[derive(Debug, Default)]
struct State {
    store: Store,
    /// Open queries, by locator.
    queries: BTreeMap<String, query::Open>,
    jobs: BTreeMap<String, bulk::Job>,
    runs: BTreeMap<String, org::Run>,
    used: u64,
    webhook: Option<String>,
    /// The next requests are refused so often as too many long ones at once.
    crowded: u32,
}

impl Salesforce {
    pub(crate) fn new(shared: Shared, token_lifetime_s: i64, enforce_limits: bool) -> Self {
        let tokens = Tokens::new("00Dxx0000001gPL!sandbox-salesforce", token_lifetime_s, shared.clock.clone());
        let grants = Grants::new("salesforce", (known::SALESFORCE_CLIENT_ID, known::SALESFORCE_CLIENT_SECRET), Renewal::Burns, shared.clone());
        grants.seed(known::SALESFORCE_REFRESH_TOKEN, &["api", "refresh_token"]);
        let mut state = State::default();
        seed::fill(&mut state.store, shared.clock.now());
        Self { shared, tokens, grants, enforce_limits, state: Mutex::new(state) }
    }

    /// Where outbound messages go from now on; the address holds the token.
    pub fn set_webhook(&self, url: impl Into<String>) {
        lock(&self.state).webhook = Some(url.into());
    }

    /// Ends every access token that was issued; the fixed one stays.
    pub fn expire_tokens(&self) {
        self.tokens.revoke_all();
    }

    /// What a renewal does with the refresh token from now on. Orgs may have them rotate, which is how this one starts.
    pub fn set_renewal(&self, renewal: Renewal) {
        self.grants.set_renewal(renewal);
    }

    /// Takes every consent back, as if the app had been blocked.
    pub fn revoke_grants(&self) {
        self.grants.revoke_all(&self.tokens);
    }

    /// Writes to this record fail so many times with `UNABLE_TO_LOCK_ROW`, as while another transaction holds it.
    pub fn lock_record(&self, id: &str, times: u32) {
        lock(&self.state).store.locked.insert(id.to_owned(), times);
    }

    /// How many calls of the day's allowance are used.
    pub fn set_used(&self, calls: u64) {
        lock(&self.state).used = calls;
    }

    /// The next requests are refused so often because too many long ones run at once.
    pub fn crowd(&self, times: u32) {
        lock(&self.state).crowded = times;
    }

    /// Ids of the live records of a type, in order of creation.
    pub fn record_ids(&self, sobject: &str) -> Vec<String> {
        let state = lock(&self.state);
        state
            .store
            .records
            .values()
            .filter(|record| record.kind.name == sobject && record.deleted.is_none())
            .map(|record| record.id.clone())
            .collect()
    }

    /// A field of a record, as the API would show it.
    pub fn field(&self, id: &str, name: &str) -> Option<Value> {
        lock(&self.state).store.records.get(id).map(|record| record.get(name))
    }

    fn answer(&self, req: &Req) -> Answer {
        let path = req.path();
        match path.as_slice() {
            ["services", "oauth2", rest @ ..] => return self.oauth(req, rest),
            ["services", "data"] => return Ok(org::versions()),
            _ => {}
        }
        if !req.bearer().is_some_and(|token| token == known::SALESFORCE_TOKEN || self.tokens.accepts(token)) {
            return Err(error(401, "INVALID_SESSION_ID", "Session expired or invalid"));
        }
        let mut state = lock(&self.state);
        if state.crowded > 0 {
            state.crowded -= 1;
            return Err(error(403, "REQUEST_LIMIT_EXCEEDED", "ConcurrentRequests (Concurrent API Requests) Limit exceeded."));
        }
        if state.used >= DAILY {
            return Err(error(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.").with("sforce-limit-info", &usage(state.used)));
        }
        state.used += 1;
        let now = self.shared.clock.now();
        state.store.sweep(now);
        let reply = self.route(&mut state, req, &path).unwrap_or_else(|reply| reply);
        outbound::flush(&mut state, &self.shared);
        Ok(reply.with("sforce-limit-info", &usage(state.used)))
    }

    fn route(&self, state: &mut State, req: &Req, path: &[&str]) -> Answer {
        let rest = match path {
            ["services", "data", version, rest @ ..] if *version == VERSION => rest,
            ["services", "data", version, ..] if version.trim_start_matches('v').parse::<f64>().is_ok_and(|version| version < 31.0) => {
                return Err(error(410, "GONE", "This API version is retired."));
            }
            _ => return Err(not_found()),
        };
        if req.path_and_query.len() > 16_384 {
            return Err(Reply::empty(414));
        }
        let method = req.method.as_str();
        match (method, rest) {
            ("GET", []) => Ok(org::resources()),
            ("GET", ["limits"]) => Ok(org::limits(state.used)),
            ("GET", ["recent"]) => Ok(org::recent(state, req)),
            ("GET", ["query" | "queryAll", ..]) => self.query(state, req, rest),
            ("GET", ["search"]) => query::search(state, req),
            ("POST", ["parameterizedSearch"]) => query::parameterized(state, req),
            (_, ["sobjects", rest @ ..]) => self.sobjects(state, req, rest),
            (_, ["composite", rest @ ..]) => self.composite(state, req, rest),
            (_, ["jobs", rest @ ..]) => self.jobs(state, req, rest),
            (_, ["analytics", "reports", rest @ ..]) => self.reports(state, req, rest),
            (_, ["actions", rest @ ..]) => org::actions(&self.shared, req, rest),
            _ => Err(not_found()),
        }
    }
}

fn usage(used: u64) -> String {
    format!("api-usage={used}/{DAILY}; per-app-api-usage={}/250(appName=hub)", used.min(250))
}

fn not_found() -> Reply {
    error(404, "NOT_FOUND", "The requested resource does not exist")
}

/// An error as the REST resources tell it: a list of one.
fn error(status: u16, code: &str, message: &str) -> Reply {
    Reply::json(status, &json!([{"message": message, "errorCode": code}]))
}

/// A broken rule as the REST resources tell it.
fn refused(refused: &Refused) -> Reply {
    let mut one = json!({"message": refused.message, "errorCode": refused.code});
    if !refused.fields.is_empty() {
        one["fields"] = json!(refused.fields);
    }
    if refused.code == "DUPLICATES_DETECTED" {
        one["duplicateResult"] = json!({"allowSave": true});
    }
    Reply::json(refused.status, &json!([one]))
}

impl From<Refused> for Reply {
    fn from(broken: Refused) -> Self {
        refused(&broken)
    }
}

/// The body of a request as an object, or Salesforce's complaint about it.
fn object(req: &Req) -> Result<serde_json::Map<String, Value>, Reply> {
    match req.json() {
        Ok(Value::Object(map)) => Ok(map),
        _ => {
            Err(error(400, "JSON_PARSER_ERROR", "The HTTP entity body is required, but this request has no entity body or it is not a JSON object."))
        }
    }
}

#[async_trait]
impl Vendor for Salesforce {
    fn id(&self) -> &'static str {
        "salesforce"
    }

    async fn handle(&self, req: Req) -> Reply {
        self.answer(&req).unwrap_or_else(|reply| reply)
    }

    fn throttled(&self, retry_after: u64) -> Reply {
        error(403, "REQUEST_LIMIT_EXCEEDED", "ConcurrentPerOrgLongTxn Limit exceeded").with("retry-after", &retry_after.to_string())
    }

    fn unavailable(&self) -> Reply {
        error(503, "SERVER_UNAVAILABLE", "The server is temporarily unavailable")
    }

    fn revoke(&self, req: &Req) -> bool {
        req.bearer().is_some_and(|token| self.tokens.revoke(token))
    }

    fn presents_cursor(&self, req: &Req) -> bool {
        matches!(req.path().as_slice(), ["services", "data", _, "query" | "queryAll", _])
    }

    fn lane(&self, req: &Req) -> Option<(String, usize)> {
        // Long requests of a Developer org; reports are the long ones.
        (self.enforce_limits && req.path().contains(&"reports")).then(|| ("salesforce".to_owned(), 5))
    }

    fn spared(&self, req: &Req) -> bool {
        req.segments.get(1).is_some_and(|segment| segment == "oauth2")
    }
}
