//! A stateful fake of NetBox's REST API: inventory, cabling, addresses, services, journal, change log, ETags and event-rule webhooks.
//! It refuses GraphQL, scripts and rendering. <https://netboxlabs.com/docs/netbox/integrations/rest-api/>

mod filter;
mod seed;
mod store;

use crate::auth::known;
use crate::exchange::{Answer, Reply, Req};
use crate::ledger::{EffectKind, Entry, lock};
use crate::notify::{Delivery, Signing};
use crate::vendors::{Shared, Vendor};
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use std::sync::Mutex;
use store::{MODELS, Store, model, type_of};

const USER: &str = "svc-connectors";

/// The fake NetBox.
#[derive(Debug)]
pub struct NetBox {
    shared: Shared,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    store: Store,
    webhook: Option<(String, Option<String>)>,
    requests: u64,
}

impl NetBox {
    pub(crate) fn new(shared: Shared) -> Self {
        let mut state = State::default();
        let stamp = state.store.stamp(shared.clock.now());
        seed::fill(&mut state.store, &stamp);
        Self { shared, state: Mutex::new(state) }
    }

    /// Where event-rule webhooks go, signed with SHA-512 if a secret is given.
    pub fn set_webhook(&self, url: impl Into<String>, secret: Option<String>) {
        lock(&self.state).webhook = Some((url.into(), secret));
    }

    fn route(&self, req: &Req) -> Answer {
        let path = req.path();
        let Some(path) = path.strip_prefix(&["api"][..]) else { return Err(missing("page")) };
        if !req.trailing_slash {
            // Django redirects to the path with a slash, and a client that follows loses its body.
            let (path, query) =
                req.path_and_query.split_once('?').map_or((req.path_and_query.as_str(), String::new()), |(p, q)| (p, format!("?{q}")));
            return Err(Reply::empty(302).with("location", &format!("{}{path}/{query}", req.base)));
        }
        match req.header("authorization") {
            None => return Err(detail(403, "Authentication credentials were not provided.")),
            Some(_) if req.bearer() != Some(known::NETBOX_TOKEN) => return Err(detail(403, "Invalid v2 token")),
            Some(_) => {}
        }
        let mut state = lock(&self.state);
        state.requests += 1;
        match (req.method.as_str(), path) {
            ("GET", ["status"]) => Ok(Reply::json(
                200,
                &json!({"django-version": "5.2.8", "hostname": "netbox-sandbox", "netbox-version": "4.6.8", "netbox-full-version": "4.6.8",
                    "plugins": {}, "python-version": "3.12.3", "rq-workers-running": 1}),
            )),
            (method, [app, name, rest @ ..]) => {
                let model = model(app, name).ok_or_else(|| missing("page"))?;
                match (method, rest) {
                    ("GET", []) => list(&state.store, model, req),
                    ("POST" | "PATCH" | "PUT" | "DELETE", _) if model == "core/object-changes" => {
                        Err(detail(405, &format!("Method \"{method}\" not allowed.")))
                    }
                    ("POST", []) => self.create(&mut state, model, req),
                    ("PATCH" | "PUT" | "DELETE", []) => self.bulk(&mut state, model, req),
                    (_, [id, rest @ ..]) => {
                        let id = id.parse().ok().filter(|id| state.store.get(model, *id).is_some());
                        let id = id.ok_or_else(|| missing(type_of(model).split('.').next_back().unwrap_or_default()))?;
                        self.one(&mut state, model, id, rest, req)
                    }
                    _ => Err(detail(405, &format!("Method \"{method}\" not allowed."))),
                }
            }
            _ => Err(missing("page")),
        }
    }

    fn one(&self, state: &mut State, model: &'static str, id: u64, rest: &[&str], req: &Req) -> Answer {
        match (req.method.as_str(), rest) {
            ("GET", []) => Ok(shown(&state.store, model, id, 200, &req.base)),
            ("GET", ["trace"]) if model == "dcim/interfaces" => Ok(Reply::json(200, &trace(&state.store, id, &req.base))),
            ("PATCH" | "PUT", []) => {
                let current = etag(&state.store, model, id);
                if req.header("if-match").is_some_and(|tag| tag != "*" && tag != current) {
                    return Err(detail(412, "The object has changed since it was read.").with("etag", &current));
                }
                let change = object(&json_body(req)?)?;
                self.update(state, model, id, change).map_err(|e| Reply::json(400, &e))?;
                Ok(shown(&state.store, model, id, 200, &req.base))
            }
            ("DELETE", []) => {
                self.delete(state, model, id)?;
                Ok(Reply::empty(204))
            }
            (method, _) => Err(detail(405, &format!("Method \"{method}\" not allowed."))),
        }
    }

    /// One object or an array of them; an array is all-or-nothing.
    fn create(&self, state: &mut State, model: &'static str, req: &Req) -> Answer {
        let body = json_body(req)?;
        let (many, rows) = match body {
            Value::Array(rows) => (true, rows),
            one => (false, vec![one]),
        };
        let mut checked = Vec::new();
        for row in &rows {
            checked.push(check(&state.store, model, object(row)?).map_err(|e| Reply::json(400, &e))?);
        }
        let mut shown_rows = Vec::new();
        for row in checked {
            let stamp = state.store.stamp(self.shared.clock.now());
            let id = state.store.insert(model, row, &stamp);
            self.committed(state, model, id, "create", &stamp);
            shown_rows.push((id, state.store.show(model, id, &req.base)));
        }
        match (many, shown_rows.as_slice()) {
            (false, [(id, _)]) => Ok(shown(&state.store, model, *id, 201, &req.base)),
            _ => Ok(Reply::json(201, &shown_rows.into_iter().map(|(_, row)| row).collect())),
        }
    }

    /// `PATCH|PUT|DELETE` of a collection: an array of objects with `id`.
    fn bulk(&self, state: &mut State, model: &'static str, req: &Req) -> Answer {
        let body = json_body(req)?;
        let rows = body.as_array().ok_or_else(|| detail(400, "Expected a list of items."))?;
        let mut ids = Vec::new();
        for row in rows {
            let id = row["id"].as_u64().filter(|id| state.store.get(model, *id).is_some());
            ids.push(id.ok_or_else(|| detail(400, "Every item needs the id of an existing object."))?);
        }
        if req.method == http::Method::DELETE {
            if let Some(problem) = ids.iter().find_map(|id| protected(&state.store, model, *id)) {
                return Err(problem);
            }
            for id in ids {
                self.delete(state, model, id)?;
            }
            return Ok(Reply::empty(204));
        }
        for row in rows {
            state.store.resolve(&mut object(row)?).map_err(|e| Reply::json(400, &e))?;
        }
        for (id, row) in ids.iter().zip(rows) {
            self.update(state, model, *id, object(row)?).map_err(|e| Reply::json(400, &e))?;
        }
        Ok(Reply::json(200, &ids.iter().map(|id| state.store.show(model, *id, &req.base)).collect()))
    }

    fn update(&self, state: &mut State, model: &'static str, id: u64, mut change: Map<String, Value>) -> Result<(), Value> {
        change.remove("id");
        let mut tags = |key: &str| change.remove(key).and_then(|t| t.as_array().cloned());
        let (add, remove) = (tags("add_tags"), tags("remove_tags"));
        state.store.resolve(&mut change)?;
        let stamp = state.store.stamp(self.shared.clock.now());
        let mut patch: Map<String, Value> = change.into_iter().filter(|(k, _)| k != "changelog_message").collect();
        if let Some(row) = state.store.get(model, id) {
            // Custom fields and tags are merged, everything else replaced.
            if let (Some(Value::Object(new)), Some(Value::Object(old))) = (patch.get("custom_fields"), row.get("custom_fields")) {
                let merged = old.clone().into_iter().chain(new.clone()).collect();
                patch.insert("custom_fields".into(), Value::Object(merged));
            }
            if add.is_some() || remove.is_some() {
                let mut lists = Map::new();
                lists.insert("tags".into(), add.map(Value::Array).unwrap_or_else(|| json!([])));
                state.store.resolve(&mut lists)?;
                let mut dropped = Map::new();
                dropped.insert("tags".into(), remove.map(Value::Array).unwrap_or_else(|| json!([])));
                state.store.resolve(&mut dropped)?;
                let mut all = row.get("tags").and_then(Value::as_array).cloned().unwrap_or_default();
                all.extend(lists["tags"].as_array().cloned().unwrap_or_default());
                all.retain(|t| !dropped["tags"].as_array().is_some_and(|d| d.contains(t)));
                all.dedup();
                patch.insert("tags".into(), Value::Array(all));
            }
        }
        patch.insert("last_updated".into(), stamp.clone().into());
        if let Some(row) = state.store.rows.get_mut(model).and_then(|r| r.get_mut(&id)) {
            row.extend(patch);
        }
        self.committed(state, model, id, "update", &stamp);
        Ok(())
    }

    fn delete(&self, state: &mut State, model: &'static str, id: u64) -> Result<(), Reply> {
        if let Some(problem) = protected(&state.store, model, id) {
            return Err(problem);
        }
        let stamp = state.store.stamp(self.shared.clock.now());
        self.committed(state, model, id, "delete", &stamp);
        if let Some(rows) = state.store.rows.get_mut(model) {
            rows.remove(&id);
        }
        Ok(())
    }

    /// Change log, ledger and webhook of one commit.
    fn committed(&self, state: &mut State, model: &'static str, id: u64, action: &str, stamp: &str) {
        let object_type = type_of(model);
        let data = state.store.show(model, id, "");
        let request_id = format!("00000000-0000-4000-8000-{:012x}", state.requests);
        let change = json!({"time": stamp, "user_name": USER, "request_id": request_id, "action": format!("{action}d"),
            "changed_object_type": object_type, "changed_object_id": id, "object_repr": data["display"], "postchange_data": data});
        if let Value::Object(change) = change {
            state.store.insert("core/object-changes", change, stamp);
        }
        let target = format!("{object_type}:{id}");
        let entry = if model == "extras/journal-entries" {
            let about = format!("{}:{}", data["assigned_object_type"].as_str().unwrap_or_default(), data["assigned_object_id"]);
            Entry::new("netbox", EffectKind::JournalEntry, about).key(Some(target)).detail(data["comments"].clone())
        } else {
            let kind = match action {
                "create" => EffectKind::CiCreated,
                "update" => EffectKind::CiUpdated,
                _ => EffectKind::CiRemoved,
            };
            Entry::new("netbox", kind, target)
        };
        self.shared.record(entry);
        if let Some((url, secret)) = &state.webhook {
            let event = format!("{action}d");
            let body = json!({"event": event, "timestamp": stamp, "object_type": object_type, "username": USER, "request_id": request_id,
                "data": data, "snapshots": {"prechange": null, "postchange": data}});
            let signing = secret.clone().map_or(Signing::None, Signing::HookSha512);
            self.shared.notifier.enqueue(Delivery { vendor: "netbox", url: url.clone(), body, signing });
        }
    }
}

fn list(store: &Store, model: &'static str, req: &Req) -> Answer {
    // 0 means the maximum, as in the real list views.
    let limit = match req.q_usize("limit", 50) {
        0 => 1000,
        n => n.min(1000),
    };
    let offset = req.q_usize("offset", 0);
    let mut rows: Vec<(u64, &Map<String, Value>)> =
        store.rows.get(model).into_iter().flatten().filter(|(_, row)| filter::matches(store, row, &req.query)).map(|(id, row)| (*id, row)).collect();
    filter::sort(&mut rows, req.q("ordering").unwrap_or("id"));
    let brief = req.q("brief").is_some_and(|b| b != "false");
    let fields: Option<Vec<&str>> = req.q("fields").map(|f| f.split(',').collect());
    let results: Vec<Value> = rows
        .iter()
        .skip(offset)
        .take(limit)
        .map(|(id, _)| {
            let mut row = if brief { store.brief(model, *id, &req.base) } else { store.show(model, *id, &req.base) };
            if let (Some(fields), Some(map)) = (&fields, row.as_object_mut()) {
                map.retain(|k, _| fields.contains(&k.as_str()));
            }
            row
        })
        .collect();
    let link = |offset: usize| {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (key, value) in req.query.iter().filter(|(k, _)| k != "limit" && k != "offset") {
            query.append_pair(key, value);
        }
        query.append_pair("limit", &limit.to_string());
        if offset > 0 {
            query.append_pair("offset", &offset.to_string());
        }
        format!("{}/api/{model}/?{}", req.base, query.finish())
    };
    let next = (offset + limit < rows.len()).then(|| link(offset + limit));
    let previous = (offset > 0).then(|| link(offset.saturating_sub(limit)));
    Ok(Reply::json(200, &json!({"count": rows.len(), "next": next, "previous": previous, "results": results})))
}

/// `[[near], cable, [far]]` steps from an interface.
fn trace(store: &Store, id: u64, base: &str) -> Value {
    let near = store.show("dcim/interfaces", id, base);
    if near["cable"].is_null() {
        return json!([[[store.brief("dcim/interfaces", id, base)], null, null]]);
    }
    json!([[[store.brief("dcim/interfaces", id, base)], near["cable"], near["link_peers"]]])
}

/// Required fields and references of a new row.
fn check(store: &Store, model: &'static str, mut row: Map<String, Value>) -> Result<Map<String, Value>, Value> {
    let required = MODELS.iter().find(|(path, ..)| *path == model).map_or(&[][..], |(_, _, required)| *required);
    let mut problems = Map::new();
    for field in required {
        if row.get(*field).is_none_or(|v| v.is_null() || v == "") {
            problems.insert((*field).to_owned(), json!(["This field is required."]));
        }
    }
    if !problems.is_empty() {
        return Err(Value::Object(problems));
    }
    store.resolve(&mut row)?;
    if matches!(model, "dcim/devices" | "virtualization/virtual-machines" | "ipam/ip-addresses") {
        row.entry("status").or_insert_with(|| "active".into());
    }
    if model == "extras/journal-entries" {
        row.entry("kind").or_insert_with(|| "info".into());
        let kind = row["assigned_object_type"].as_str().and_then(store::by_type);
        let exists = kind.zip(row["assigned_object_id"].as_u64()).is_some_and(|(kind, id)| store.get(kind, id).is_some());
        if !exists {
            return Err(json!({"assigned_object_id": ["Invalid object: it does not exist."]}));
        }
    }
    let serial_taken = |serial: &Value| store.rows.get(model).into_iter().flatten().any(|(_, r)| r.get("asset_tag") == Some(serial));
    if row.get("asset_tag").is_some_and(|t| t.is_string() && serial_taken(t)) {
        return Err(json!({"asset_tag": ["device with this asset tag already exists."]}));
    }
    Ok(row)
}

fn protected(store: &Store, model: &'static str, id: u64) -> Option<Reply> {
    let dependants = store.dependants(model, id);
    (!dependants.is_empty()).then(|| {
        let list = dependants.join(", ");
        detail(409, &format!("Unable to delete object. {} dependent objects were found: {list}", dependants.len()))
    })
}

fn shown(store: &Store, model: &'static str, id: u64, status: u16, base: &str) -> Reply {
    Reply::json(status, &store.show(model, id, base)).with("etag", &etag(store, model, id))
}

fn etag(store: &Store, model: &str, id: u64) -> String {
    let stamp = store.get(model, id).and_then(|r| r.get("last_updated")).and_then(Value::as_str).unwrap_or_default();
    format!("W/\"{stamp}\"")
}

fn object(value: &Value) -> Result<Map<String, Value>, Reply> {
    value.as_object().cloned().ok_or_else(|| Reply::json(400, &json!({"non_field_errors": ["Invalid data. Expected a dictionary."]})))
}

fn json_body(req: &Req) -> Result<Value, Reply> {
    req.json().map_err(|e| detail(400, &format!("JSON parse error - {e}")))
}

fn detail(status: u16, text: &str) -> Reply {
    Reply::json(status, &json!({"detail": text}))
}

fn missing(what: &str) -> Reply {
    detail(404, &format!("No {what} matches the given query."))
}

#[async_trait]
impl Vendor for NetBox {
    fn id(&self) -> &'static str {
        "netbox"
    }

    async fn handle(&self, req: Req) -> Reply {
        self.route(&req).unwrap_or_else(|reply| reply)
    }

    fn throttled(&self, retry_after: u64) -> Reply {
        // NetBox has no limiter; a proxy in front of it may.
        detail(429, "Request was throttled.").with("retry-after", &retry_after.to_string())
    }

    fn unavailable(&self) -> Reply {
        detail(503, "Service temporarily unavailable, try again later.")
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
