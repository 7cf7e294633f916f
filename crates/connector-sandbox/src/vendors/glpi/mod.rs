//! A stateful fake of GLPI's legacy REST API: sessions, searches by numbered fields, lists, items, impact relations and ticket links. It
//! refuses everything outside assets and their tickets. <https://github.com/glpi-project/glpi/blob/main/apirest.md>

mod search;
mod store;

use crate::auth::{Tokens, basic, known};
use crate::exchange::{Answer, Reply, Req};
use crate::ledger::{EffectKind, Entry, lock};
use crate::vendors::{Shared, Vendor};
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use std::sync::Mutex;
use store::Store;

/// The fake GLPI.
#[derive(Debug)]
pub struct Glpi {
    shared: Shared,
    sessions: Tokens,
    store: Mutex<Store>,
}

impl Glpi {
    pub(crate) fn new(shared: Shared, session_lifetime_s: i64) -> Self {
        let sessions = Tokens::new("sandbox-glpi-session", session_lifetime_s, shared.clock.clone());
        let mut store = Store::default();
        store.seed(shared.clock.now());
        Self { shared, sessions, store: Mutex::new(store) }
    }

    /// Ends every session.
    pub fn end_sessions(&self) {
        self.sessions.revoke_all();
    }

    /// Sessions that were ever started.
    pub fn sessions_started(&self) -> u64 {
        self.sessions.issued()
    }

    fn route(&self, req: &Req) -> Answer {
        let path = req.path();
        let Some(path) = path.strip_prefix(&["apirest.php"][..]) else { return Err(Reply::empty(404)) };
        let method = req.method.as_str();
        if req.header("app-token") != Some(known::GLPI_APP_TOKEN) {
            return Err(match req.header("app-token") {
                None => error(400, "ERROR_APP_TOKEN_PARAMETERS_MISSING", "missing parameter(s) : app_token"),
                Some(_) => error(400, "ERROR_WRONG_APP_TOKEN_PARAMETER", "parameter app_token seems wrong"),
            });
        }
        if (method, path) == ("GET", &["initSession"][..]) {
            return self.start(req);
        }
        match req.header("session-token") {
            None => return Err(error(401, "ERROR_SESSION_TOKEN_MISSING", "session_token is missing")),
            Some(token) if !self.sessions.accepts(token) => return Err(error(401, "ERROR_SESSION_TOKEN_INVALID", "session_token seems invalid")),
            Some(_) => {}
        }
        if method == "GET" && !req.body.is_empty() {
            return Err(error(400, "ERROR_BAD_REQUEST", "GET requests must have an empty body"));
        }
        let mut store = lock(&self.store);
        match (method, path) {
            ("GET", ["killSession"]) => {
                self.sessions.revoke(req.header("session-token").unwrap_or_default());
                Ok(Reply::json(200, &Value::Null))
            }
            ("GET", ["getGlpiConfig"]) => Ok(Reply::json(200, &json!({"cfg_glpi": {"version": "11.0.2"}}))),
            ("GET", ["listSearchOptions", kind]) => search::options(itemtype(kind)?),
            ("GET", ["search", kind]) => search::search(&store, itemtype(kind)?, req),
            ("GET", [kind]) => search::list(&store, itemtype(kind)?, req),
            ("GET", [kind, id]) => {
                let row = store.get(itemtype(kind)?, id).ok_or_else(not_found)?;
                Ok(Reply::json(200, &store.shown(row, req.q("expand_dropdowns") == Some("true"))))
            }
            ("GET", [kind, id, "Log"]) => {
                store.get(itemtype(kind)?, id).ok_or_else(not_found)?;
                Ok(Reply::json(200, &Value::Array(store.log(kind, id))))
            }
            ("POST", [kind]) => self.create(&mut store, itemtype(kind)?, req),
            ("PUT" | "PATCH", [kind, id]) => self.update(&mut store, itemtype(kind)?, id, req),
            ("DELETE", [kind, id]) => self.delete(&mut store, itemtype(kind)?, id),
            _ => Err(error(405, "ERROR_METHOD_NOT_ALLOWED", "method not allowed")),
        }
    }

    fn start(&self, req: &Req) -> Answer {
        let header = req.header("authorization");
        let by_token = header.and_then(|value| value.strip_prefix("user_token ")).is_some_and(|token| token == known::GLPI_USER_TOKEN);
        let by_user = basic(header).is_some_and(|(user, password)| user == known::GLPI_USER && password == known::GLPI_PASSWORD);
        if header.is_none() {
            return Err(error(400, "ERROR_LOGIN_PARAMETERS_MISSING", "parameter(s) login, password or user_token are missing"));
        }
        if !by_token && !by_user {
            return Err(error(401, "ERROR_GLPI_LOGIN", "Invalid credentials"));
        }
        Ok(Reply::json(200, &json!({"session_token": self.sessions.issue()})))
    }

    fn create(&self, store: &mut Store, kind: &'static str, req: &Req) -> Answer {
        let input = input(req)?;
        if kind == "ImpactRelation" && store.relates(&input) {
            return Err(error(400, "ERROR_GLPI_ADD", "You don't have permission to perform this action."));
        }
        if store::ASSETS.contains(&kind) && input.get("name").and_then(Value::as_str).is_none_or(str::is_empty) {
            return Err(error(400, "ERROR_GLPI_ADD", "name is missing"));
        }
        if kind == "Item_Ticket" && store.get("Ticket", &text(&input, "tickets_id")).is_none() {
            return Err(error(400, "ERROR_GLPI_ADD", "the ticket does not exist"));
        }
        let target = format!("{}:{}", text(&input, "itemtype"), text(&input, "items_id"));
        let ticket = text(&input, "tickets_id");
        let id = store.insert(kind, input, self.shared.clock.now());
        self.shared.record(match kind {
            "Item_Ticket" => Entry::new("glpi", EffectKind::TicketLinked, target).parent(Some(ticket)),
            "Ticket" => Entry::new("glpi", EffectKind::TicketCreated, id.to_string()),
            _ => Entry::new("glpi", EffectKind::CiCreated, format!("{kind}:{id}")),
        });
        Ok(Reply::json(201, &json!({"id": id, "message": ""})))
    }

    fn update(&self, store: &mut Store, kind: &'static str, id: &str, req: &Req) -> Answer {
        let input = input(req)?;
        store.get(kind, id).ok_or_else(not_found)?;
        let names: Vec<&String> = input.keys().collect();
        self.shared.record(Entry::new("glpi", EffectKind::CiUpdated, format!("{kind}:{id}")).detail(json!(names)));
        store.update(kind, id, input, self.shared.clock.now());
        Ok(Reply::json(200, &json!([{id: true, "message": ""}])))
    }

    fn delete(&self, store: &mut Store, kind: &'static str, id: &str) -> Answer {
        store.get(kind, id).ok_or_else(not_found)?;
        store.remove(kind, id);
        self.shared.record(Entry::new("glpi", EffectKind::CiRemoved, format!("{kind}:{id}")));
        Ok(Reply::json(200, &json!([{id: true, "message": ""}])))
    }
}

fn itemtype(name: &str) -> Result<&'static str, Reply> {
    let known = store::ASSETS.iter().chain(&store::OTHERS).find(|kind| **kind == name);
    known.copied().ok_or_else(|| error(400, "ERROR_RESOURCE_NOT_FOUND_NOR_COMMONDBTM", "resource not found or not an instance of CommonDBTM"))
}

fn input(req: &Req) -> Result<Map<String, Value>, Reply> {
    let body = req.json().map_err(|_| error(400, "ERROR_JSON_PAYLOAD_INVALID", "JSON payload seems not valid"))?;
    body.get("input").and_then(Value::as_object).cloned().ok_or_else(|| error(400, "ERROR_BAD_ARRAY", "input parameter must be an array of objects"))
}

fn text(row: &Map<String, Value>, name: &str) -> String {
    match row.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

fn not_found() -> Reply {
    error(404, "ERROR_ITEM_NOT_FOUND", "Item not found")
}

/// A list of two texts.
fn error(status: u16, code: &str, message: &str) -> Reply {
    Reply::json(status, &json!([code, message]))
}

#[async_trait]
impl Vendor for Glpi {
    fn id(&self) -> &'static str {
        "glpi"
    }

    async fn handle(&self, req: Req) -> Reply {
        self.route(&req).unwrap_or_else(|reply| reply)
    }

    fn throttled(&self, retry_after: u64) -> Reply {
        error(429, "ERROR_TOO_MANY_REQUESTS", "too many requests").with("retry-after", &retry_after.to_string())
    }

    fn unavailable(&self) -> Reply {
        error(503, "ERROR_MAINTENANCE", "GLPI is under maintenance")
    }

    fn revoke(&self, req: &Req) -> bool {
        req.header("session-token").is_some_and(|token| self.sessions.revoke(token))
    }

    fn presents_cursor(&self, _req: &Req) -> bool {
        false
    }

    fn spared(&self, req: &Req) -> bool {
        req.segments.last().is_some_and(|last| last == "initSession")
    }
}
