//! A stateful fake of ServiceNow's Table API, a minimal Identification and Reconciliation endpoint and its OAuth token endpoint. It
//! refuses business rules, ACLs and everything outside the CMDB and its tickets.
//! <https://www.servicenow.com/docs/r/api-reference/rest-apis/c_TableAPI.html>

mod query;
mod seed;
mod store;

use crate::auth::{Tokens, basic, known};
use crate::exchange::{Answer, Reply, Req, field};
use crate::ledger::{EffectKind, Entry, lock};
use crate::vendors::{Shared, Vendor};
use async_trait::async_trait;
use query::Query;
use serde_json::{Value, json};
use std::sync::Mutex;
use store::{Display, Row, Store, extends, table};

/// The fake ServiceNow.
#[derive(Debug)]
pub struct ServiceNow {
    shared: Shared,
    tokens: Tokens,
    store: Mutex<Store>,
}

impl ServiceNow {
    pub(crate) fn new(shared: Shared, token_lifetime_s: i64) -> Self {
        let tokens = Tokens::new("sandbox-servicenow", token_lifetime_s, shared.clock.clone());
        let mut store = Store::default();
        seed::fill(&mut store, shared.clock.now());
        Self { shared, tokens, store: Mutex::new(store) }
    }

    /// Ends every OAuth token.
    pub fn expire_tokens(&self) {
        self.tokens.revoke_all();
    }

    fn token(&self, req: &Req) -> Reply {
        let form = req.form();
        let refuse = |status: u16, what: &str| Reply::json(status, &json!({"error": what, "error_description": "access_denied"}));
        let client =
            field(&form, "client_id") == Some(known::SERVICENOW_CLIENT_ID) && field(&form, "client_secret") == Some(known::SERVICENOW_CLIENT_SECRET);
        if !client {
            return refuse(401, "invalid_client");
        }
        match field(&form, "grant_type") {
            Some("client_credentials" | "refresh_token") => {}
            Some("password")
                if field(&form, "username") == Some(known::SERVICENOW_USER) && field(&form, "password") == Some(known::SERVICENOW_PASSWORD) => {}
            Some("password") => return refuse(401, "invalid_grant"),
            _ => return refuse(400, "unsupported_grant_type"),
        }
        let body = json!({"scope": "useraccount", "token_type": "Bearer", "expires_in": self.tokens.lifetime_s(),
            "refresh_token": "sandbox-servicenow-refresh-token", "access_token": self.tokens.issue()});
        Reply::json(200, &body)
    }

    fn authorised(&self, req: &Req) -> bool {
        let user = basic(req.header("authorization"));
        let basic_ok = user.is_some_and(|(u, p)| u == known::SERVICENOW_USER && p == known::SERVICENOW_PASSWORD);
        basic_ok || req.bearer().is_some_and(|t| self.tokens.accepts(t))
    }

    fn route(&self, req: &Req) -> Answer {
        let path = req.path();
        if path == ["oauth_token.do"] && req.method == http::Method::POST {
            return Ok(self.token(req));
        }
        if !self.authorised(req) {
            let reply = error(401, "User Not Authenticated", "Required to provide Auth information");
            return Err(reply.with("www-authenticate", "Basic realm=\"Service-now\""));
        }
        let Some(path) = path.strip_prefix(&["api", "now"][..]) else { return Err(bad_uri()) };
        // The version segment changes one thing only: what an empty list answers.
        let (v2, path) = match path {
            [version, rest @ ..] if *version == "v1" || *version == "v2" => (*version == "v2", rest),
            _ => (true, path),
        };
        let writes = ["POST", "PUT", "PATCH"].contains(&req.method.as_str());
        if writes && !req.header("content-type").is_some_and(|t| t.starts_with("application/json")) {
            return Err(error(415, "Unsupported media type", "Content-Type must be application/json"));
        }
        let mut store = lock(&self.store);
        match (req.method.as_str(), path) {
            ("POST", ["identifyreconcile"]) => self.identify(&mut store, req),
            (method, ["table", name, rest @ ..]) => {
                let name = table(name).ok_or_else(|| error(400, &format!("Invalid table {name}"), ""))?;
                match (method, rest) {
                    ("GET", []) => list(&store, name, v2, req),
                    ("POST", []) => self.create(&mut store, name, req),
                    ("GET", [id]) => {
                        let row = store.get(name, id).ok_or_else(no_record)?;
                        Ok(Reply::json(200, &json!({"result": show(&store, row, req)})))
                    }
                    ("PUT" | "PATCH", [id]) => self.update(&mut store, name, id, req),
                    ("DELETE", [id]) => {
                        store.get(name, id).ok_or_else(no_record)?;
                        self.shared.record(Entry::new("servicenow", EffectKind::CiRemoved, format!("{name}:{id}")));
                        store.remove(id);
                        Ok(Reply::empty(204))
                    }
                    _ => Err(error(405, "Method not allowed", "")),
                }
            }
            _ => Err(bad_uri()),
        }
    }

    fn create(&self, store: &mut Store, name: &'static str, req: &Req) -> Answer {
        let row = fields(&json_body(req)?);
        if name == "task_ci" && (row.get("task").is_none_or(String::is_empty) || row.get("ci_item").is_none_or(String::is_empty)) {
            return Err(error(403, "Operation Failed", "Error during insert of task_ci: task and ci_item are mandatory"));
        }
        let (task, ci) = (row.get("task").cloned(), row.get("ci_item").cloned());
        let key = row.get("correlation_id").filter(|k| !k.is_empty()).cloned();
        let id = store.insert(name, row, self.shared.clock.now());
        let entry = match name {
            "task_ci" => Entry::new("servicenow", EffectKind::TicketLinked, ci.unwrap_or_default()).parent(task),
            _ if extends(name, "task") => Entry::new("servicenow", EffectKind::TicketCreated, &id).key(key),
            _ => Entry::new("servicenow", EffectKind::CiCreated, format!("{name}:{id}")).key(key),
        };
        self.shared.record(entry);
        let row = store.get(name, &id).ok_or_else(no_record)?;
        let location = format!("{}/api/now/table/{name}/{id}", req.base);
        Ok(Reply::json(201, &json!({"result": show(store, row, req)})).with("location", &location))
    }

    fn update(&self, store: &mut Store, name: &'static str, id: &str, req: &Req) -> Answer {
        let body = json_body(req)?;
        store.get(name, id).ok_or_else(no_record)?;
        store.update(id, fields(&body), self.shared.clock.now());
        let kind = if extends(name, "task") { EffectKind::TicketUpdated } else { EffectKind::CiUpdated };
        self.shared.record(Entry::new("servicenow", kind, format!("{name}:{id}")).detail(body));
        let row = store.get(name, id).ok_or_else(no_record)?;
        Ok(Reply::json(200, &json!({"result": show(store, row, req)})))
    }

    /// Identification by serial number, else by name: INSERT, UPDATE or NO_CHANGE for each item; relations between items by index.
    fn identify(&self, store: &mut Store, req: &Req) -> Answer {
        let body = json_body(req)?;
        let now = self.shared.clock.now();
        let (mut items, mut ids) = (Vec::new(), Vec::new());
        for item in body["items"].as_array().into_iter().flatten() {
            let values = fields(&item["values"]);
            let class = item["className"].as_str().and_then(table).filter(|t| extends(t, "cmdb_ci"));
            let problem = |code: &str| {
                json!({"className": item["className"], "operation": "NO_CHANGE", "sysId": "Unknown", "errorCount": 1,
                    "errors": [{"error": code, "message": code}], "warnings": []})
            };
            let identified = ["serial_number", "name"].into_iter().find(|f| values.get(*f).is_some_and(|v| !v.is_empty()));
            let (Some(class), Some(by)) = (class, identified) else {
                items.push(problem(if class.is_none() { "INVALID_INPUT_DATA" } else { "MISSING_MATCHING_ATTRIBUTES" }));
                ids.push(String::new());
                continue;
            };
            let found: Vec<String> = store.all("cmdb_ci").filter(|r| r.get(by) == values.get(by)).filter_map(|r| r.get("sys_id").cloned()).collect();
            let (operation, id, result) = match found.as_slice() {
                [] => ("INSERT", store.insert(class, values, now), "NO_MATCH"),
                [one] => {
                    let same = store.get("cmdb_ci", one).is_some_and(|row| values.iter().all(|(k, v)| row.get(k) == Some(v)));
                    if !same {
                        store.update(one, values, now);
                    }
                    (if same { "NO_CHANGE" } else { "UPDATE" }, one.clone(), "MATCHED")
                }
                _ => {
                    items.push(problem("MULTI_MATCH"));
                    ids.push(String::new());
                    continue;
                }
            };
            if operation != "NO_CHANGE" {
                let kind = if operation == "INSERT" { EffectKind::CiCreated } else { EffectKind::CiUpdated };
                self.shared.record(Entry::new("servicenow", kind, format!("{class}:{id}")));
            }
            items.push(json!({"className": store.table_of(&id), "operation": operation, "sysId": id, "errors": [], "warnings": [], "errorCount": 0,
                "identificationAttempts": [{"identifierName": "Sandbox Rule", "attemptResult": result, "attributes": [by], "searchOnTable": class}]}));
            ids.push(id);
        }
        let mut relations = Vec::new();
        for relation in body["relations"].as_array().into_iter().flatten() {
            let end = |side: &str| relation[side].as_u64().and_then(|n| ids.get(n as usize)).filter(|id| !id.is_empty()).cloned();
            let kind = store.all("cmdb_rel_type").find(|r| relation["type"] == r.get("name").map(String::as_str).unwrap_or_default());
            let kind = kind.and_then(|r| r.get("sys_id").cloned());
            let (Some(parent), Some(child), Some(kind)) = (end("parent"), end("child"), kind) else {
                relations.push(json!({"operation": "NO_CHANGE", "sysId": "Unknown", "errors": [{"error": "ABANDONED"}]}));
                continue;
            };
            let row: Row = [("parent", parent), ("child", child), ("type", kind)].into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
            let known = store.all("cmdb_rel_ci").find(|r| row.iter().all(|(k, v)| r.get(k) == Some(v))).and_then(|r| r.get("sys_id").cloned());
            let (operation, id) = match known {
                Some(id) => ("NO_CHANGE", id),
                None => ("INSERT", store.insert("cmdb_rel_ci", row, now)),
            };
            relations.push(json!({"operation": operation, "sysId": id}));
        }
        let failed = items.iter().chain(&relations).any(|i| i["errors"].as_array().is_some_and(|e| !e.is_empty()));
        let result = json!({"items": items, "relations": relations, "hasError": failed, "hasWarning": false});
        Ok(Reply::json(200, &json!({"result": result})))
    }
}

fn list(store: &Store, name: &'static str, v2: bool, req: &Req) -> Answer {
    let all: Vec<&Row> = store.all(name).collect();
    // A field counts as existing when any row has it, or when it walks through a reference.
    let known = |field: &str| field.contains('.') || all.iter().any(|r| r.contains_key(field));
    let query = Query::parse(req.q("sysparm_query").unwrap_or_default(), known);
    let mut rows: Vec<&Row> = all.iter().copied().filter(|r| query.matches(store, r)).collect();
    // `field=value` parameters are filters too.
    for (field, value) in req.query.iter().filter(|(k, _)| !k.starts_with("sysparm_")) {
        rows.retain(|r| store.value(r, field) == value);
    }
    query.sort(store, &mut rows);
    let (limit, offset) = (req.q_usize("sysparm_limit", 10_000), req.q_usize("sysparm_offset", 0));
    let total = rows.len();
    let result: Vec<Value> = rows.iter().skip(offset).take(limit).map(|r| show(store, r, req)).collect();
    if result.is_empty() && !v2 {
        return Err(no_record());
    }
    let mut reply = Reply::json(200, &json!({"result": result}));
    if req.q("sysparm_no_count") != Some("true") {
        reply = reply.with("x-total-count", &total.to_string());
    }
    if req.q("sysparm_suppress_pagination_header") != Some("true") && limit > 0 && total > limit {
        reply = reply.with("link", &links(req, limit, offset, total));
    }
    Ok(reply)
}

/// `<url>;rel="first",<url>;rel="prev",…`.
fn links(req: &Req, limit: usize, offset: usize, total: usize) -> String {
    let path = req.path_and_query.split('?').next().unwrap_or_default();
    let link = |at: usize, rel: &str| {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (key, value) in req.query.iter().filter(|(k, _)| k != "sysparm_offset") {
            query.append_pair(key, value);
        }
        query.append_pair("sysparm_offset", &at.to_string());
        format!("<{}{path}?{}>;rel=\"{rel}\"", req.base, query.finish())
    };
    let last = (total - 1) / limit * limit;
    let mut all = vec![link(0, "first")];
    if offset > 0 {
        all.push(link(offset.saturating_sub(limit), "prev"));
    }
    if offset + limit < total {
        all.push(link(offset + limit, "next"));
    }
    all.push(link(last, "last"));
    all.join(",")
}

fn show(store: &Store, row: &Row, req: &Req) -> Value {
    let fields: Option<Vec<String>> = req.q("sysparm_fields").filter(|f| !f.is_empty()).map(|f| f.split(',').map(|s| s.trim().to_owned()).collect());
    let display = match req.q("sysparm_display_value") {
        Some("true") => Display::Label,
        Some("all") => Display::Both,
        _ => Display::Value,
    };
    let with_links = req.q("sysparm_exclude_reference_link") != Some("true");
    store.show(row, fields.as_deref(), display, with_links, &req.base)
}

/// Every value of a row is a string.
fn fields(body: &Value) -> Row {
    let text = |v: &Value| match v {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Object(reference) => reference.get("value").and_then(Value::as_str).unwrap_or_default().to_owned(),
        other => other.to_string(),
    };
    let system = ["sys_id", "sys_created_on", "sys_updated_on", "sys_mod_count", "sys_class_name"];
    let given = body.as_object().into_iter().flatten();
    given.filter(|(k, _)| !system.contains(&k.as_str())).map(|(k, v)| (k.clone(), text(v))).collect()
}

fn json_body(req: &Req) -> Result<Value, Reply> {
    req.json().ok().filter(Value::is_object).ok_or_else(|| error(400, "Exception while reading request", "The payload is not valid JSON"))
}

fn no_record() -> Reply {
    error(404, "No Record found", "Record doesn't exist or ACL restricts the record retrieval")
}

fn bad_uri() -> Reply {
    error(400, "Requested URI does not represent any resource", "")
}

fn error(status: u16, message: &str, detail: &str) -> Reply {
    Reply::json(status, &json!({"error": {"message": message, "detail": detail}, "status": "failure"}))
}

#[async_trait]
impl Vendor for ServiceNow {
    fn id(&self) -> &'static str {
        "servicenow"
    }

    async fn handle(&self, req: Req) -> Reply {
        self.route(&req).unwrap_or_else(|reply| reply)
    }

    fn throttled(&self, retry_after: u64) -> Reply {
        error(429, "Rate limit exceeded", "Rejected the request based on the rate limit rules").with("retry-after", &retry_after.to_string())
    }

    fn unavailable(&self) -> Reply {
        error(503, "Service unavailable", "The instance is temporarily unavailable")
    }

    fn revoke(&self, req: &Req) -> bool {
        req.bearer().is_some_and(|token| self.tokens.revoke(token))
    }

    fn presents_cursor(&self, _req: &Req) -> bool {
        false
    }

    fn spared(&self, req: &Req) -> bool {
        req.segments.first().is_some_and(|s| s == "oauth_token.do")
    }
}
