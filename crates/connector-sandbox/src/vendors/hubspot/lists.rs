//! Lists and their members. MANUAL and SNAPSHOT lists take members over the API; DYNAMIC ones refuse to. Deleted lists can be restored.
//! <https://developers.hubspot.com/docs/guides/api/crm/lists/overview>

use super::store::{Store, TYPES};
use super::{HubSpot, error, json_body};
use crate::clock::rfc3339_millis;
use crate::exchange::{Answer, Reply, Req};
use crate::ledger::{EffectKind, Entry};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A list.
#[derive(Clone, Debug)]
pub(super) struct List {
    name: String,
    /// The type's path name and id.
    kind: &'static str,
    type_id: &'static str,
    processing: String,
    filters: Value,
    version: u64,
    created: Timestamp,
    updated: Timestamp,
    deleted: Option<Timestamp>,
    /// Record id to when it came in.
    members: BTreeMap<u64, Timestamp>,
}

impl HubSpot {
    /// `crm/lists/…`.
    pub(super) fn lists(&self, store: &mut Store, rest: &[&str], req: &Req) -> Answer {
        match (req.method.as_str(), rest) {
            ("POST", []) => self.create_list(store, req),
            ("POST", ["search"]) => search(store, req),
            ("GET", ["object-type-id", type_id, "name", name]) => {
                let found = store.lists.iter().find(|(_, l)| l.deleted.is_none() && l.type_id == *type_id && l.name.eq_ignore_ascii_case(name));
                let (id, list) = found.ok_or_else(missing)?;
                Ok(Reply::json(200, &json!({"list": shown(*id, list, false)})))
            }
            ("GET", ["records", type_id, record, "memberships"]) => Ok(of_record(store, type_id, record)),
            (method, [id, rest @ ..]) => {
                let id: u64 = id.parse().map_err(|_| missing())?;
                let restores = (method, rest) == ("PUT", &["restore"][..]);
                let list = store.lists.get(&id).filter(|list| list.deleted.is_none() || restores).ok_or_else(missing)?;
                match (method, rest) {
                    ("GET", []) => Ok(Reply::json(200, &json!({"list": shown(id, list, req.q("includeFilters") == Some("true"))}))),
                    ("DELETE", []) => {
                        self.note(id, "deleted");
                        self.change(store, id, |list, now| list.deleted = Some(now));
                        Ok(Reply::empty(204))
                    }
                    ("PUT", ["restore"]) => {
                        self.note(id, "restored");
                        self.change(store, id, |list, _| list.deleted = None);
                        Ok(Reply::empty(204))
                    }
                    ("PUT", ["update-list-name"]) => {
                        let name = req.q("listName").unwrap_or_default().to_owned();
                        if name.is_empty()
                            || store.lists.iter().any(|(other, l)| *other != id && l.deleted.is_none() && l.name.eq_ignore_ascii_case(&name))
                        {
                            return Err(error(400, "VALIDATION_ERROR", "The list name is empty or taken"));
                        }
                        self.note(id, "renamed");
                        self.change(store, id, |list, _| list.name = name);
                        Ok(Reply::json(200, &json!({"updatedList": store.lists.get(&id).map(|list| shown(id, list, false))})))
                    }
                    ("GET", ["memberships"]) => members(list, req),
                    (_, ["memberships", ..]) if list.processing == "DYNAMIC" => {
                        Err(error(400, "VALIDATION_ERROR", "The members of a DYNAMIC list cannot be changed"))
                    }
                    ("DELETE", ["memberships"]) => {
                        self.note(id, "cleared");
                        self.change(store, id, |list, _| list.members.clear());
                        Ok(Reply::empty(204))
                    }
                    ("PUT", ["memberships", action @ ("add" | "remove" | "add-and-remove")]) => {
                        let body = json_body(req)?;
                        let (add, remove) = match *action {
                            "add" => (body, json!([])),
                            "remove" => (json!([]), body),
                            _ => (body["recordIdsToAdd"].clone(), body["recordIdsToRemove"].clone()),
                        };
                        Ok(self.move_members(store, id, &add, &remove))
                    }
                    _ => Err(super::unknown_path()),
                }
            }
            _ => Err(super::unknown_path()),
        }
    }

    fn note(&self, id: u64, what: &str) {
        self.shared.record(Entry::new("hubspot", EffectKind::RecordUpdated, format!("lists:{id}")).detail(json!(what)));
    }

    fn change(&self, store: &mut Store, id: u64, change: impl FnOnce(&mut List, Timestamp)) {
        let now = self.shared.clock.now();
        if let Some(list) = store.lists.get_mut(&id) {
            change(list, now);
            list.updated = now;
            list.version += 1;
        }
    }

    fn create_list(&self, store: &mut Store, req: &Req) -> Answer {
        let body = json_body(req)?;
        let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        let bad = |message: &str| error(400, "VALIDATION_ERROR", message);
        let type_id = text("objectTypeId");
        let (kind, _, type_id) = TYPES.iter().find(|(.., id)| *id == type_id).ok_or_else(|| bad("Unknown objectTypeId"))?;
        if !["MANUAL", "SNAPSHOT", "DYNAMIC"].contains(&text("processingType").as_str()) {
            return Err(bad("processingType must be MANUAL, SNAPSHOT or DYNAMIC"));
        }
        if text("processingType") == "DYNAMIC" && !body["filterBranch"].is_object() {
            return Err(bad("A DYNAMIC list needs a filterBranch"));
        }
        let name = text("name");
        if name.is_empty() || store.lists.values().any(|l| l.deleted.is_none() && l.name.eq_ignore_ascii_case(&name)) {
            return Err(bad(&format!("The list name '{name}' is empty or taken")));
        }
        let now = self.shared.clock.now();
        let id = store.lists.keys().next_back().copied().unwrap_or(30) + 1;
        let processing = text("processingType");
        let filters = body["filterBranch"].clone();
        let list = List { name, kind, type_id, processing, filters, version: 1, created: now, updated: now, deleted: None, members: BTreeMap::new() };
        let reply = json!({"list": shown(id, &list, true)});
        store.lists.insert(id, list);
        self.shared.record(Entry::new("hubspot", EffectKind::RecordCreated, format!("lists:{id}")));
        Ok(Reply::json(200, &reply))
    }

    fn move_members(&self, store: &mut Store, id: u64, add: &Value, remove: &Value) -> Reply {
        let ids = |list: &Value| -> Vec<String> {
            let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
            list.as_array().into_iter().flatten().map(text).collect()
        };
        let kind = store.lists.get(&id).map_or("", |list| list.kind);
        let there = |store: &Store, record: &str| -> Option<u64> {
            let record = record.parse().ok()?;
            store.objects.get(kind)?.get(&record).filter(|r| r.archived.is_none()).map(|r| r.id)
        };
        let (mut added, mut missing, mut removed) = (Vec::new(), Vec::new(), Vec::new());
        let wanted: Vec<(String, Option<u64>)> = ids(add).into_iter().map(|text| (text.clone(), there(store, &text))).collect();
        let now = self.shared.clock.now();
        if let Some(list) = store.lists.get_mut(&id) {
            for (text, found) in wanted {
                match found {
                    None => missing.push(text),
                    Some(record) => {
                        if list.members.insert(record, now).is_none() {
                            added.push(text);
                        }
                    }
                }
            }
            for text in ids(remove) {
                if text.parse().ok().and_then(|record: u64| list.members.remove(&record)).is_some() {
                    removed.push(text);
                }
            }
        }
        if !added.is_empty() || !removed.is_empty() {
            self.note(id, "members");
        }
        Reply::json(200, &json!({"recordIdsAdded": added, "recordIdsMissing": missing, "recordIdsRemoved": removed}))
    }
}

fn missing() -> Reply {
    error(404, "OBJECT_NOT_FOUND", "List not found")
}

fn shown(id: u64, list: &List, with_filters: bool) -> Value {
    let mut out = json!({"listId": id.to_string(), "listVersion": list.version, "name": list.name, "objectTypeId": list.type_id,
        "processingType": list.processing, "processingStatus": "COMPLETE", "size": list.members.len(),
        "createdAt": rfc3339_millis(list.created), "updatedAt": rfc3339_millis(list.updated)});
    if with_filters && !list.filters.is_null() {
        out["filterBranch"] = list.filters.clone();
    }
    out
}

fn search(store: &Store, req: &Req) -> Answer {
    let body = json_body(req)?;
    let (offset, count) = (body["offset"].as_u64().unwrap_or(0) as usize, body["count"].as_u64().unwrap_or(20) as usize);
    if !(1..=500).contains(&count) {
        return Err(error(400, "VALIDATION_ERROR", "count must be between 1 and 500"));
    }
    let query = body["query"].as_str().unwrap_or_default().to_lowercase();
    let types: Vec<&str> = body["processingTypes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let passes = |list: &List| {
        list.deleted.is_none() && list.name.to_lowercase().contains(&query) && (types.is_empty() || types.contains(&list.processing.as_str()))
    };
    let found: Vec<(&u64, &List)> = store.lists.iter().filter(|(_, list)| passes(list)).collect();
    let page: Vec<Value> = found
        .iter()
        .skip(offset)
        .take(count)
        .map(|(id, list)| {
            let mut one = shown(**id, list, false);
            one["additionalProperties"] = json!({"hs_list_size": list.members.len().to_string()});
            one
        })
        .collect();
    let next = offset + page.len();
    Ok(Reply::json(200, &json!({"hasMore": next < found.len(), "lists": page, "offset": next, "total": found.len()})))
}

fn members(list: &List, req: &Req) -> Answer {
    let (limit, after) = (req.q_usize("limit", 100), req.q_usize("after", 0));
    if !(1..=250).contains(&limit) {
        return Err(error(400, "VALIDATION_ERROR", "limit must be between 1 and 250"));
    }
    let page: Vec<Value> = list
        .members
        .iter()
        .skip(after)
        .take(limit)
        .map(|(id, since)| json!({"recordId": id.to_string(), "membershipTimestamp": rfc3339_millis(*since)}))
        .collect();
    let mut body = json!({"results": page, "total": list.members.len()});
    if after + limit < list.members.len() {
        body["paging"] = json!({"next": {"after": (after + limit).to_string()}});
    }
    Ok(Reply::json(200, &body))
}

fn of_record(store: &Store, type_id: &str, record: &str) -> Reply {
    let record: u64 = record.parse().unwrap_or(0);
    let near = store.lists.iter().filter(|(_, list)| list.deleted.is_none() && list.type_id == type_id);
    let results: Vec<Value> = near
        .filter_map(|(id, list)| {
            let since = rfc3339_millis(*list.members.get(&record)?);
            Some(json!({"listId": id.to_string(), "listVersion": list.version, "firstAddedTimestamp": since, "lastAddedTimestamp": since}))
        })
        .collect();
    Reply::json(200, &json!({"total": results.len(), "results": results}))
}
