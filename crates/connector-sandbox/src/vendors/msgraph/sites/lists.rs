//! Lists and their rows. A column without an index cannot be filtered unless the caller insists.
//! <https://learn.microsoft.com/graph/api/resources/list>

use super::super::compose::json_body;
use super::super::rows::{self, FILES, Filter, Shelf};
use super::super::subscriptions::Happened;
use super::super::wire::{bad_request, error};
use super::super::{MsGraph, State, unknown_segment};
use super::{List, PLAIN, Site, gone};
use crate::clock::rfc3339_seconds;
use crate::exchange::{Answer, Reply, Req};
use crate::ledger::{EffectKind, Entry};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A list with text columns, each with an index or not.
pub(super) fn new(id: &str, name: &str, template: &str, columns: &[(&str, bool)]) -> List {
    let head = json!({ "id": id, "name": name, "displayName": name, "eTag": format!("\"{id},1\""), "createdDateTime": "2026-11-20T08:00:00Z",
        "lastModifiedDateTime": "2026-11-20T08:00:00Z", "list": { "template": template, "hidden": false, "contentTypesEnabled": false },
        "webUrl": format!("https://contoso.sharepoint.example/sites/desk/Lists/{name}") });
    let columns = columns.iter().map(|(name, indexed)| column(name, *indexed)).collect();
    List { head, columns, items: Shelf::default(), rows: 0, versions: BTreeMap::new() }
}

fn column(name: &str, indexed: bool) -> Value {
    json!({ "id": format!("column-{name}"), "name": name, "displayName": name, "indexed": indexed, "required": false, "readOnly": false, "hidden": false,
        "text": {} })
}

impl Site {
    /// A list by id or name.
    pub(super) fn list(&mut self, id: &str) -> Result<&mut List, Reply> {
        let found = self.lists.iter().find(|(key, list)| *key == id || list.head["name"] == id).map(|(key, _)| key.clone());
        found.and_then(|key| self.lists.get_mut(&key)).ok_or_else(gone)
    }
}

impl MsGraph {
    pub(super) fn lists(&self, state: &mut State, site: &str, method: &str, rest: &[&str], req: &Req) -> Answer {
        let number = state.sites.number();
        match (method, rest) {
            ("GET", []) => {
                let lists = state.sites.site(site)?.lists.values().map(|list| shown(list, req)).collect();
                rows::list(req, lists, PLAIN)
            }
            ("POST", []) => {
                let body = json_body(req)?;
                let name = rows::required(&body, "displayName")?.as_str().unwrap_or_default().to_owned();
                let site = state.sites.site(site)?;
                if site.lists.values().any(|list| list.head["displayName"] == *name) {
                    return Err(error(409, "nameAlreadyExists", "The specified name already exists."));
                }
                let id = format!("7a1d3c52-0000-4000-8000-{:012x}", 0xb000 + number);
                let mut list = new(&id, &name, body["list"]["template"].as_str().unwrap_or("genericList"), &[("Title", true)]);
                for one in body["columns"].as_array().into_iter().flatten() {
                    list.columns.push(made_column(one)?);
                }
                let reply = list.head.clone();
                site.lists.insert(id.clone(), list);
                self.shared.record(Entry::new("msgraph", EffectKind::RecordCreated, id).detail(json!("list")));
                Ok(Reply::json(201, &reply))
            }
            ("GET", [list]) => {
                let list = state.sites.site(site)?.list(list)?;
                rows::one(req, &shown(list, req))
            }
            ("DELETE", [list]) => {
                let id = state.sites.site(site)?.list(list)?.head["id"].as_str().unwrap_or_default().to_owned();
                state.sites.site(site)?.lists.remove(&id);
                self.shared.record(Entry::new("msgraph", EffectKind::RecordRemoved, id).detail(json!("list")));
                Ok(Reply::empty(204))
            }
            ("GET", [list, "columns"]) => rows::whole(req, state.sites.site(site)?.list(list)?.columns.clone()),
            ("POST", [list, "columns"]) => {
                let new = made_column(&json_body(req)?)?;
                let list = state.sites.site(site)?.list(list)?;
                if list.columns.iter().any(|column| column["name"] == new["name"]) {
                    return Err(error(409, "nameAlreadyExists", "The specified name already exists."));
                }
                list.columns.push(new.clone());
                Ok(Reply::json(201, &new))
            }
            ("GET", [list, "contentTypes"]) => {
                state.sites.site(site)?.list(list)?;
                rows::whole(req, vec![json!({ "id": "0x01", "name": "Item" })])
            }
            (_, [list, "items", rest @ ..]) => self.items(state, site, list, method, rest, req),
            _ => Err(unknown_segment()),
        }
    }

    fn items(&self, state: &mut State, site: &str, list: &str, method: &str, rest: &[&str], req: &Req) -> Answer {
        let found = state.sites.site(site)?.list(list)?;
        match (method, rest) {
            ("GET", []) => {
                indexed(found, req)?;
                let expand = req.q("$expand").unwrap_or_default().to_owned();
                // The filter sees all columns, the caller only those asked for.
                let mut reply = rows::list(req, found.items.all().cloned().collect(), PLAIN)?;
                let mut body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
                for item in body["value"].as_array_mut().into_iter().flatten() {
                    narrow(item, &expand);
                }
                reply.body = body.to_string().into();
                Ok(reply)
            }
            ("POST", []) => {
                let body = json_body(req)?;
                let fields = checked(found, rows::required(&body, "fields")?)?;
                found.rows += 1;
                let id = found.rows.to_string();
                let now = rfc3339_seconds(self.shared.clock.now());
                let item = json!({ "id": id, "createdDateTime": now, "contentType": { "id": "0x01", "name": "Item" },
                    "createdBy": { "application": { "displayName": "Hub" } }, "fields": fields,
                    "webUrl": format!("https://contoso.sharepoint.example/sites/desk/Lists/Tickets/{id}_.000") });
                self.store_item(state, site, list, item, EffectKind::RecordCreated).map(|item| Reply::json(201, &item))
            }
            ("GET", ["delta"]) => {
                let expand = req.q("$expand").unwrap_or_default().to_owned();
                let render = |item: &Value, round: &rows::Round| {
                    let mut item = rows::shown(item.clone());
                    narrow(&mut item, round.options.get("$expand").unwrap_or(&expand));
                    Some(item)
                };
                rows::delta(req, &found.items, FILES, &["$expand"], render, |id| json!({ "id": id, "deleted": { "state": "deleted" } }))
            }
            (_, [id, rest @ ..]) => {
                let mut item = found.items.get(id).cloned().ok_or_else(gone)?;
                match (method, rest) {
                    ("GET", []) => {
                        narrow(&mut item, req.q("$expand").unwrap_or_default());
                        rows::one(req, &item)
                    }
                    ("GET", ["fields"]) => {
                        let mut fields = item["fields"].clone();
                        fields["@odata.etag"] = item["eTag"].clone();
                        rows::one(req, &fields)
                    }
                    ("PATCH", ["fields"]) => {
                        rows::if_match(req, &[item["eTag"].as_str().unwrap_or_default()])?;
                        for (name, value) in checked(found, &json_body(req)?)?.as_object().into_iter().flatten() {
                            item["fields"][name] = value.clone();
                        }
                        let item = self.store_item(state, site, list, item, EffectKind::RecordUpdated)?;
                        let mut fields = item["fields"].clone();
                        fields["@odata.etag"] = item["eTag"].clone();
                        Ok(Reply::json(200, &fields))
                    }
                    ("DELETE", []) => {
                        rows::if_match(req, &[item["eTag"].as_str().unwrap_or_default()])?;
                        found.items.take(id);
                        self.shared.record(Entry::new("msgraph", EffectKind::RecordRemoved, format!("{list}:{id}")));
                        self.tell_list(state, site, list);
                        Ok(Reply::empty(204))
                    }
                    ("GET", ["versions"]) => rows::whole(req, found.versions.get(*id).into_iter().flatten().rev().cloned().collect()),
                    _ => Err(unknown_segment()),
                }
            }
            _ => Err(unknown_segment()),
        }
    }

    /// Puts a row back with a new version and tells everybody.
    fn store_item(&self, state: &mut State, site: &str, list: &str, mut item: Value, kind: EffectKind) -> Result<Value, Reply> {
        let now = rfc3339_seconds(self.shared.clock.now());
        let found = state.sites.site(site)?.list(list)?;
        let id = item["id"].as_str().unwrap_or_default().to_owned();
        let versions = found.versions.entry(id.clone()).or_default();
        let number = versions.len() + 1;
        versions.push(json!({ "id": format!("{number}.0"), "lastModifiedDateTime": now }));
        let tag = format!("\"7a1d3c52-0000-4000-8000-{:012x},{number}\"", id.parse::<u64>().unwrap_or(0));
        (item["eTag"], item["@odata.etag"], item["lastModifiedDateTime"]) = (tag.as_str().into(), tag.into(), now.into());
        found.items.put(&id, item.clone());
        self.shared.record(Entry::new("msgraph", kind, format!("{list}:{id}")).detail(item["fields"].clone()));
        self.tell_list(state, site, list);
        Ok(item)
    }

    /// Subscribers of a list hear that something changed, and not what.
    fn tell_list(&self, state: &mut State, site: &str, list: &str) {
        let id = state.sites.site(site).and_then(|site| site.list(list)).map(|list| list.head["id"].as_str().unwrap_or_default().to_owned());
        let Ok(id) = id else { return };
        let path = format!("sites/{site}/lists/{id}");
        self.tell(state, &Happened { topic: path.clone(), change: "updated", kind: "#Microsoft.Graph.ListItem", path, id: "", etag: None });
    }
}

/// A list, with its columns where they are wanted.
fn shown(list: &List, req: &Req) -> Value {
    let mut head = list.head.clone();
    if req.q("$expand").is_some_and(|expand| expand.contains("columns")) {
        head["columns"] = list.columns.clone().into();
    }
    head
}

fn made_column(body: &Value) -> Result<Value, Reply> {
    let name = rows::required(body, "name")?.as_str().unwrap_or_default();
    let mut made = column(name, body["indexed"] == true);
    if let (Some(made), Some(body)) = (made.as_object_mut(), body.as_object()) {
        made.remove("text");
        made.extend(body.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
    Ok(made)
}

/// Fields that the list has columns for.
fn checked(list: &List, fields: &Value) -> Result<Value, Reply> {
    let known = |name: &str| list.columns.iter().any(|column| column["name"] == name);
    let map = fields.as_object().ok_or_else(|| bad_request("The fields are no object."))?;
    match map.keys().find(|name| !known(name)) {
        Some(name) => Err(bad_request(&format!("Field '{name}' is not recognized."))),
        None => Ok(fields.clone()),
    }
}

/// A column without an index is filtered only for who insists.
fn indexed(list: &List, req: &Req) -> Result<(), Reply> {
    let Some(filter) = req.q("$filter") else { return Ok(()) };
    let insists = req.headers.get_all("prefer").iter().any(|value| value.to_str().is_ok_and(|value| value.contains("HonorNonIndexedQueries")));
    let filter = Filter::parse(filter).map_err(|why| bad_request(&why))?;
    for path in filter.paths() {
        let Some(name) = path.strip_prefix("fields/") else { continue };
        let column = list.columns.iter().find(|column| column["name"] == name);
        let column = column.ok_or_else(|| bad_request(&format!("Field '{name}' is not recognized.")))?;
        if column["indexed"] != true && !insists {
            let text = format!(
                "Field '{name}' cannot be referenced in filter or orderby as it is not indexed. Provide the 'Prefer: HonorNonIndexedQueriesWarningMayFailRandomly' header to allow this, but be warned that such queries may fail on large lists."
            );
            return Err(bad_request(&text));
        }
    }
    Ok(())
}

/// Leaves of a row's columns what `$expand` asks for: nothing, `fields`, or `fields($select=A,B)`.
fn narrow(item: &mut Value, expand: &str) {
    let Some(map) = item.as_object_mut() else { return };
    if !expand.starts_with("fields") {
        map.remove("fields");
        return;
    }
    let names = expand.split_once("$select=").map(|(_, names)| names.trim_end_matches(')').split(',').map(str::trim).collect::<Vec<_>>());
    if let (Some(names), Some(fields)) = (names, map.get_mut("fields").and_then(Value::as_object_mut)) {
        fields.retain(|name, _| names.contains(&name.as_str()));
    }
}
