//! A stateful fake of iTop's REST/JSON service: one address, form posts with `json_data`, HTTP 200 whatever happens. It refuses stimuli, data
//! synchronisation and every class outside configuration items and their tickets. Sources: github.com/Combodo/iTop.

mod oql;
mod store;

use crate::auth::known;
use crate::exchange::{Answer, Reply, Req, field};
use crate::ledger::{EffectKind, Entry, lock};
use crate::vendors::{Shared, Vendor};
use async_trait::async_trait;
use oql::Oql;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::sync::Mutex;
use store::{Store, extends};

/// The deepest `core/get_related` goes without being told.
const DEPTH: u64 = 20;

/// The fake iTop.
#[derive(Debug)]
pub struct Itop {
    shared: Shared,
    store: Mutex<Store>,
}

/// A refusal: iTop's code and its words.
type Refused = (u64, String);

impl Itop {
    pub(crate) fn new(shared: Shared) -> Self {
        let mut store = Store::default();
        store.seed();
        Self { shared, store: Mutex::new(store) }
    }

    fn route(&self, req: &Req) -> Answer {
        if req.path() != ["webservices", "rest.php"] {
            return Err(Reply::empty(404));
        }
        let answer = self.run(req).unwrap_or_else(|(code, message)| json!({"code": code, "message": message}));
        Ok(Reply::json(200, &answer))
    }

    fn run(&self, req: &Req) -> Result<Value, Refused> {
        let form = req.form();
        match req.q("version") {
            None => return Err((2, "Missing parameter 'version'".into())),
            Some("1.0" | "1.1" | "1.2" | "1.3" | "1.4") => {}
            Some(_) => return Err((10, "Unsupported version".into())),
        }
        let (Some(user), Some(password)) = (field(&form, "auth_user"), field(&form, "auth_pwd")) else {
            return Err((5, "Missing parameter 'auth_user'".into()));
        };
        if user != known::ITOP_USER || password != known::ITOP_PASSWORD {
            return Err((1, "Invalid login".into()));
        }
        let json = field(&form, "json_data").ok_or((3, "Missing parameter 'json_data'".to_owned()))?;
        let ask: Value = serde_json::from_str(json).map_err(|_| (4, "Parameter json_data is not a valid JSON structure".to_owned()))?;
        let mut store = lock(&self.store);
        match ask["operation"].as_str().unwrap_or_default() {
            "list_operations" => Ok(json!({"code": 0, "message": "Operations: 7", "version": "1.3", "operations": []})),
            "core/check_credentials" => {
                let good = ask["user"] == known::ITOP_USER && ask["password"] == known::ITOP_PASSWORD;
                Ok(json!({"code": 0, "message": "", "authorized": good}))
            }
            "core/get" => get(&store, &ask),
            "core/create" => self.create(&mut store, &ask),
            "core/update" => self.update(&mut store, &ask),
            "core/delete" => self.delete(&mut store, &ask),
            "core/get_related" => related(&store, &ask),
            other => Err((11, format!("Unknown verb '{other}' in version 1.3"))),
        }
    }

    fn create(&self, store: &mut Store, ask: &Value) -> Result<Value, Refused> {
        let class = class(ask)?;
        let given = ask["fields"].as_object().cloned().ok_or_else(|| internal("Missing parameter 'fields'"))?;
        let mut fields = Map::new();
        for (name, value) in given {
            let value = if name == "org_id" { organization(store, &value)? } else { value };
            fields.insert(name, value);
        }
        if store::is_ci(class) && (fields.get("name").and_then(Value::as_str).is_none_or(str::is_empty) || !fields.contains_key("org_id")) {
            return Err(internal("Error: name and org_id are mandatory"));
        }
        let text = |name: &str| store::text(fields.get(name));
        let (ci, ticket) = (text("functionalci_id"), text("ticket_id"));
        if class == "lnkFunctionalCIToTicket" && (store.get("FunctionalCI", &ci).is_none() || store.get("Ticket", &ticket).is_none()) {
            return Err(internal("Error: an external key points at nothing"));
        }
        let id = store.insert(class, fields);
        self.shared.record(match class {
            "lnkFunctionalCIToTicket" => Entry::new("itop", EffectKind::TicketLinked, ci).parent(Some(ticket)),
            _ => Entry::new("itop", EffectKind::CiCreated, format!("{class}:{id}")),
        });
        Ok(shown(store, &[id], "Created: 1"))
    }

    fn update(&self, store: &mut Store, ask: &Value) -> Result<Value, Refused> {
        let ids = found(store, ask)?;
        let [id] = ids[..] else { return Err(internal(&format!("{} items found for the key", ids.len()))) };
        let fields = ask["fields"].as_object().cloned().unwrap_or_default();
        self.shared.record(Entry::new("itop", EffectKind::CiUpdated, id.to_string()).detail(json!(fields)));
        store.update(id, fields);
        Ok(shown(store, &[id], "Updated: 1"))
    }

    fn delete(&self, store: &mut Store, ask: &Value) -> Result<Value, Refused> {
        let ids = found(store, ask)?;
        if ask["simulate"] != true {
            for id in &ids {
                store.remove(*id);
                self.shared.record(Entry::new("itop", EffectKind::CiRemoved, id.to_string()));
            }
        }
        Ok(json!({"code": 0, "message": format!("Deleted: {}", ids.len()), "objects": null}))
    }
}

fn class(ask: &Value) -> Result<&'static str, Refused> {
    let name = ask["class"].as_str().unwrap_or_default();
    store::class(name).ok_or_else(|| internal(&format!("Error: class: Unknown class '{name}'")))
}

/// An external key: an id, or a query that gives one.
fn organization(store: &Store, value: &Value) -> Result<Value, Refused> {
    match value.as_str() {
        Some(query) if query.starts_with("SELECT") => {
            let ids = Oql::parse(query).map_err(|why| internal(&why))?.run(store);
            match ids[..] {
                [id] => Ok(id.into()),
                _ => Err(internal(&format!("Error: org_id: {} items found", ids.len()))),
            }
        }
        _ => Ok(value.clone()),
    }
}

/// The objects a key means: an id, a query, or values that all must be there.
fn found(store: &Store, ask: &Value) -> Result<Vec<u64>, Refused> {
    let class = class(ask)?;
    match &ask["key"] {
        Value::Number(id) => Ok(id.as_u64().filter(|id| store.get(class, &id.to_string()).is_some()).into_iter().collect()),
        Value::String(text) if text.parse::<u64>().is_ok() => {
            Ok(text.parse().ok().filter(|_| store.get(class, text).is_some()).into_iter().collect())
        }
        Value::String(query) => {
            let query = Oql::parse(query).map_err(|why| internal(&why))?;
            if !extends(query.class, class) {
                return Err(internal("Error: the query is about another class"));
            }
            Ok(query.run(store))
        }
        Value::Object(wanted) => {
            let has = |id: &u64| wanted.iter().all(|(name, value)| store.value(*id, name).eq_ignore_ascii_case(&store::text(Some(value))));
            Ok(store.ids(class).filter(has).collect())
        }
        _ => Err(internal("Error: Missing parameter 'key'")),
    }
}

fn get(store: &Store, ask: &Value) -> Result<Value, Refused> {
    let ids = found(store, ask)?;
    let number = |name: &str| store::text(ask.get(name)).parse::<usize>().ok();
    let (limit, page) = (number("limit").unwrap_or(0), number("page").unwrap_or(1));
    if page == 0 {
        return Err((13, "The page must be 1 or more".into()));
    }
    let page: Vec<u64> = if limit == 0 { ids.clone() } else { ids.iter().skip((page - 1) * limit).take(limit).copied().collect() };
    Ok(shown(store, &page, &format!("Found: {}", ids.len())))
}

fn shown(store: &Store, ids: &[u64], message: &str) -> Value {
    let mut objects = Map::new();
    for id in ids {
        let class = store.class_of(*id);
        objects
            .insert(format!("{class}::{id}"), json!({"code": 0, "message": "", "class": class, "key": id.to_string(), "fields": store.fields(*id)}));
    }
    let objects = if objects.is_empty() { Value::Null } else { Value::Object(objects) };
    json!({"objects": objects, "code": 0, "message": message})
}

/// Impact, a level at a time.
fn related(store: &Store, ask: &Value) -> Result<Value, Refused> {
    if ask["relation"] != "impacts" {
        return Err(internal("Error: Unknown relation"));
    }
    let down = match ask["direction"].as_str() {
        None | Some("down") => true,
        Some("up") => false,
        Some(other) => return Err(internal(&format!("Invalid value for direction: {other}"))),
    };
    let depth = store::text(ask.get("depth")).parse().unwrap_or(DEPTH);
    let mut seen: BTreeSet<u64> = found(store, ask)?.into_iter().collect();
    let scope = seen.len();
    let mut frontier = seen.clone();
    let mut edges: BTreeSet<(u64, u64)> = BTreeSet::new();
    for _ in 0..depth {
        let near: Vec<(u64, u64)> =
            store.impacts().iter().filter(|(source, sink)| frontier.contains(if down { source } else { sink })).copied().collect();
        frontier = near.iter().map(|(source, sink)| if down { *sink } else { *source }).filter(|id| seen.insert(*id)).collect();
        edges.extend(near);
        if frontier.is_empty() {
            break;
        }
    }
    let name = |id: u64| format!("{}::{id}", store.class_of(id));
    let mut relations = Map::new();
    for (source, sink) in &edges {
        let list = relations.entry(name(*source)).or_insert_with(|| json!([]));
        if let Some(list) = list.as_array_mut() {
            list.push(json!({"key": name(*sink)}));
        }
    }
    let all: Vec<u64> = seen.into_iter().collect();
    let mut answer = shown(store, &all, &format!("Scope: {scope}; Related objects: {}", all.len() - scope));
    answer["relations"] = if relations.is_empty() { Value::Null } else { Value::Object(relations) };
    Ok(answer)
}

fn internal(message: &str) -> Refused {
    (100, message.to_owned())
}

#[async_trait]
impl Vendor for Itop {
    fn id(&self) -> &'static str {
        "itop"
    }

    async fn handle(&self, req: Req) -> Reply {
        self.route(&req).unwrap_or_else(|reply| reply)
    }

    fn throttled(&self, retry_after: u64) -> Reply {
        Reply::empty(429).with("retry-after", &retry_after.to_string())
    }

    fn unavailable(&self) -> Reply {
        Reply::bytes(503, "text/html", "<html><body>iTop is in maintenance</body></html>".into())
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
