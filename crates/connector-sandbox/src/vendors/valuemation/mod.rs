//! A stateful fake of one imagined Valuemation installation. The call itself (POST to `execwf` with accessToken, username, password, service and
//! params; an answer with returnCode and result) is what the vendor's public help shows; the services, their parameters and their answers are
//! made up here, as they are made up anew by every real installation.

use crate::auth::known;
use crate::exchange::{Answer, Reply, Req};
use crate::ledger::{EffectKind, Entry, lock};
use crate::vendors::topology::{CLUSTERS, DEPENDS_ON, DEVICES, MACHINES, SERVICES};
use crate::vendors::{Shared, Vendor};
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// The fake Valuemation.
#[derive(Debug)]
pub struct Valuemation {
    shared: Shared,
    store: Mutex<Store>,
}

#[derive(Debug, Default)]
struct Store {
    items: BTreeMap<String, Map<String, Value>>,
    /// From, to, type: `from` depends on `to`.
    relations: Vec<(String, String, String)>,
    tickets: BTreeMap<String, Value>,
    /// Link id, ticket, item.
    links: Vec<(u64, String, String)>,
    next_link: u64,
    next_item: u64,
    locked: u32,
}

/// A return code that is not `00`, with a text.
type Refused = (&'static str, String);

impl Valuemation {
    pub(crate) fn new(shared: Shared) -> Self {
        let store = seeded();
        Self { shared, store: Mutex::new(store) }
    }

    /// The next calls find their workflow locked by somebody else.
    pub fn lock_workflows(&self, calls: u32) {
        lock(&self.store).locked = calls;
    }

    fn route(&self, req: &Req) -> Answer {
        if req.path() != ["vmweb", "execwf"] || req.method != http::Method::POST {
            return Err(Reply::empty(404));
        }
        let answer = match self.run(req) {
            Ok(data) => json!({"result": {"score": "success", "data": data, "message": {"messageId": ""}}, "returnCode": "00"}),
            Err((code, text)) => json!({"result": {"score": "error", "data": null, "message": {"messageId": text}}, "returnCode": code}),
        };
        Ok(Reply::json(200, &answer))
    }

    fn run(&self, req: &Req) -> Result<Value, Refused> {
        let body = req.json().ok().filter(Value::is_object).ok_or_else(|| ("15", "the body is not JSON".to_owned()))?;
        let given = |name: &str| body[name].as_str().unwrap_or_default();
        if given("accessToken") != known::VALUEMATION_TOKEN {
            return Err(("44", "the web service client is not allowed".into()));
        }
        if given("username").is_empty() {
            return Err(("01", "no user".into()));
        }
        if given("password").is_empty() {
            return Err(("02", "no password".into()));
        }
        if given("username") != known::VALUEMATION_USER || given("password") != known::VALUEMATION_PASSWORD {
            return Err(("04", "login failed".into()));
        }
        let mut store = lock(&self.store);
        if store.locked > 0 {
            store.locked -= 1;
            return Err(("45", "the workflow is locked".into()));
        }
        self.service(&mut store, given("service"), &body["params"])
    }

    fn service(&self, store: &mut Store, service: &str, params: &Value) -> Result<Value, Refused> {
        let text = |name: &str| params[name].as_str().unwrap_or_default().to_owned();
        let missing = |what: &str| ("11", format!("the workflow crashed: no {what}"));
        Ok(match service {
            "WS_Ping" => json!({"version": "5.2"}),
            "WS_GetCI" => store.items.get(&text("ciNumber")).map_or(Value::Null, |item| Value::Object(item.clone())),
            "WS_FindCI" => {
                let listed = texts(&params["ciNumbers"]);
                let passes = |item: &Map<String, Value>| {
                    let has = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default().to_lowercase();
                    let class = text("ciType");
                    (class.is_empty() || class == "Component" || has("ciType") == class.to_lowercase())
                        && has("shortText").contains(&text("text").to_lowercase())
                        && (text("name").is_empty() || has("shortText") == text("name").to_lowercase())
                        && (text("serialNumber").is_empty() || has("serialNumber") == text("serialNumber").to_lowercase())
                        && (listed.is_empty() || listed.iter().any(|id| has("ciNumber") == id.to_lowercase()))
                };
                let most = text("max").parse().unwrap_or(100);
                json!({"list": store.items.values().filter(|item| passes(item)).take(most).collect::<Vec<_>>()})
            }
            "WS_CreateCI" => {
                store.next_item += 1;
                let number = format!("NEW-{:04}", store.next_item);
                let mut item = params["values"].as_object().cloned().unwrap_or_default();
                item.insert("ciNumber".into(), number.as_str().into());
                item.insert("ciType".into(), text("ciType").into());
                item.entry("status").or_insert_with(|| "active".into());
                store.items.insert(number.clone(), item);
                self.shared.record(Entry::new("valuemation", EffectKind::CiCreated, &number));
                json!({"ciNumber": number})
            }
            "WS_UpdateCI" => {
                let item = store.items.get_mut(&text("ciNumber")).ok_or_else(|| missing("such component"))?;
                item.extend(params["values"].as_object().cloned().unwrap_or_default());
                self.shared.record(Entry::new("valuemation", EffectKind::CiUpdated, text("ciNumber")));
                Value::Null
            }
            "WS_ListRelations" => {
                let (from, to) = (texts(&params["from"]), texts(&params["to"]));
                let near = store.relations.iter().filter(|(a, b, _)| from.contains(a) || to.contains(b));
                let name = |id: &str, field: &str| store.items.get(id).and_then(|item| item.get(field)).cloned().unwrap_or_default();
                let shown = near.map(|(a, b, kind)| {
                    json!({"from": a, "to": b, "relationType": kind, "fromText": name(a, "shortText"), "toText": name(b, "shortText"),
                        "fromType": name(a, "ciType"), "toType": name(b, "ciType")})
                });
                json!({"list": shown.collect::<Vec<_>>()})
            }
            "WS_Relate" | "WS_Unrelate" => {
                let relation = (text("from"), text("to"), text("relationType"));
                if !store.items.contains_key(&relation.0) || !store.items.contains_key(&relation.1) {
                    return Err(missing("such component"));
                }
                store.relations.retain(|known| *known != relation);
                if service == "WS_Relate" {
                    store.relations.push(relation);
                }
                Value::Null
            }
            "WS_GetTicket" => store.tickets.get(&text("ticket")).cloned().unwrap_or_default(),
            "WS_ListLinks" => {
                let (ticket, item) = (text("ticket"), text("ciNumber"));
                let near = store.links.iter().filter(|(_, t, i)| (ticket.is_empty() || *t == ticket) && (item.is_empty() || *i == item));
                json!({"list": near.map(|link| store.link(link)).collect::<Vec<_>>()})
            }
            "WS_LinkCI" => {
                if !store.tickets.contains_key(&text("ticket")) || !store.items.contains_key(&text("ciNumber")) {
                    return Err(missing("such ticket or component"));
                }
                store.next_link += 1;
                let link = (store.next_link, text("ticket"), text("ciNumber"));
                self.shared.record(Entry::new("valuemation", EffectKind::TicketLinked, text("ciNumber")).parent(Some(text("ticket"))));
                let shown = store.link(&link);
                store.links.push(link);
                shown
            }
            "WS_UnlinkCI" => {
                store.links.retain(|(id, ..)| id.to_string() != text("linkId"));
                Value::Null
            }
            other => return Err(("05", format!("workflow {other} not found"))),
        })
    }
}

impl Store {
    fn link(&self, (id, ticket, item): &(u64, String, String)) -> Value {
        let field = |name: &str| self.items.get(item).and_then(|item| item.get(name)).cloned().unwrap_or_default();
        json!({"linkId": id.to_string(), "ticket": ticket, "ciNumber": item, "shortText": field("shortText"), "ciType": field("ciType")})
    }
}

/// One text, or each of a list.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(all) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Value::String(one) => vec![one.clone()],
        _ => Vec::new(),
    }
}

fn seeded() -> Store {
    let mut store = Store::default();
    let mut ids: BTreeMap<&str, String> = BTreeMap::new();
    let mut add = |prefix: &str, name: &'static str, class: &str, serial: &str, owner: &str| {
        let id = format!("{prefix}-{:04}", ids.len() + 1);
        let item = json!({"ciNumber": id, "shortText": name, "ciType": class, "status": "active", "serialNumber": serial, "ownerGroup": owner,
            "changedAt": "2026-11-20T09:00:00Z"});
        if let Value::Object(item) = item {
            store.items.insert(id.clone(), item);
        }
        ids.insert(name, id);
    };
    for device in &DEVICES {
        add("SRV", device.name, if matches!(device.role, "switch" | "firewall") { "Network" } else { "Server" }, device.serial, device.owner);
    }
    CLUSTERS.iter().for_each(|(name, _)| add("CLU", name, "Cluster", "", "Platform"));
    MACHINES.iter().for_each(|(name, ..)| add("VS", name, "VirtualServer", "", "Platform"));
    SERVICES.iter().for_each(|(name, ..)| add("APP", name, "Application", "", "Applications"));
    let depends = DEPENDS_ON.iter().map(|(a, b)| (*a, *b, "dependsOn"));
    let machines = MACHINES.iter().flat_map(|(name, cluster, host, _)| [(*name, *host, "runsOn"), (*name, *cluster, "memberOf")]);
    let services = SERVICES.iter().map(|(name, parent, _)| (*name, *parent, "runsOn"));
    for (from, to, kind) in depends.chain(machines).chain(services) {
        store.relations.push((ids[from].clone(), ids[to].clone(), kind.into()));
    }
    store.tickets.insert("T0815".into(), json!({"id": "T0815", "shortText": "Checkout is slow", "status": "open"}));
    store
}

#[async_trait]
impl Vendor for Valuemation {
    fn id(&self) -> &'static str {
        "valuemation"
    }

    async fn handle(&self, req: Req) -> Reply {
        self.route(&req).unwrap_or_else(|reply| reply)
    }

    fn throttled(&self, retry_after: u64) -> Reply {
        Reply::empty(429).with("retry-after", &retry_after.to_string())
    }

    fn unavailable(&self) -> Reply {
        Reply::empty(503)
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
