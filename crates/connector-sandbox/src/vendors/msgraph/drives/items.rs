//! Files and folders: looking, making, renaming, moving, copying, deleting. <https://learn.microsoft.com/graph/api/resources/driveitem>

use super::super::compose::json_body;
use super::super::rows::{self, FILES};
use super::super::subscriptions::Happened;
use super::super::wire::{bad_request, error};
use super::super::{MsGraph, State, unknown_segment};
use super::{Drive, FORBIDDEN, PLAIN, gone, taken};
use crate::clock::rfc3339_seconds;
use crate::exchange::{Answer, Reply, Req};
use crate::ledger::{EffectKind, Entry};
use serde_json::{Value, json};

impl MsGraph {
    pub(super) fn drive_item(&self, state: &mut State, drive: &str, id: &str, method: &str, rest: &[&str], req: &Req) -> Answer {
        let found = state.drives.drive(drive)?;
        match (method, rest) {
            ("GET", []) => rows::one(req, &seen(found, found.item(id)?)),
            ("GET", ["children"]) => rows::list(req, found.children(id).map(|item| seen(found, item)).collect(), PLAIN),
            ("POST", ["children"]) => {
                let body = json_body(req)?;
                if !body["folder"].is_object() {
                    return Err(bad_request("Only folders are made so; upload files."));
                }
                let name = rows::required(&body, "name")?.as_str().unwrap_or_default().to_owned();
                let conflict = body["@microsoft.graph.conflictBehavior"].as_str().unwrap_or("fail").to_owned();
                self.put_item(state, drive, id, &name, &conflict, None).map(|(item, _)| Reply::json(201, &item))
            }
            ("PATCH", []) => {
                let item = found.item(id)?.clone();
                rows::if_match(req, &[tag(&item, "eTag"), tag(&item, "cTag")])?;
                self.patch_item(state, drive, item, &json_body(req)?)
            }
            ("DELETE", []) if id == found.root => Err(error(403, "accessDenied", "The root cannot be deleted.")),
            ("DELETE", []) => {
                let item = found.item(id)?;
                rows::if_match(req, &[tag(item, "eTag"), tag(item, "cTag")])?;
                let mut below = vec![id.to_owned()];
                let mut at = 0;
                while at < below.len() {
                    let inside: Vec<String> = found.children(&below[at]).filter_map(|item| item["id"].as_str().map(str::to_owned)).collect();
                    below.extend(inside);
                    at += 1;
                }
                for one in below.iter().rev() {
                    found.items.take(one);
                    found.contents.remove(one);
                }
                self.shared.record(Entry::new("msgraph", EffectKind::FileChanged, id).detail(json!("deleted")));
                self.tell_drive(state, drive);
                Ok(Reply::empty(204))
            }
            ("GET", ["delta" | "delta()"]) => {
                let render = |item: &Value, _: &rows::Round| {
                    let mut item = seen(found, item);
                    // Deltas carry no paths.
                    if let Some(parent) = item["parentReference"].as_object_mut() {
                        parent.remove("path");
                    }
                    Some(item)
                };
                rows::delta(req, &found.items, FILES, &[], render, |id| json!({ "id": id, "deleted": { "state": "deleted" } }))
            }
            ("GET", [search]) if search.starts_with("search(q='") => {
                let words = search["search(q='".len()..].trim_end_matches(')').trim_end_matches('\'').replace("''", "'").to_lowercase();
                let hit = |item: &&Value| item["root"].is_null() && item["name"].as_str().is_some_and(|name| name.to_lowercase().contains(&words));
                rows::list(req, found.items.all().filter(hit).map(|item| seen(found, item)).collect(), PLAIN)
            }
            ("GET", ["content"]) => self.send_for_content(state, drive, id, req),
            ("PUT", ["content"]) => self.put_content(state, drive, id, req),
            ("POST", ["createUploadSession"]) => Err(bad_request("Name the file: …/items/{parent}:/{name}:/createUploadSession.")),
            ("POST", ["copy"]) => self.copy_item(state, drive, id, req),
            ("GET", ["versions"]) => {
                let count = found.contents.get(id).map_or(0, Vec::len);
                let sizes = found.contents.get(id).into_iter().flatten().enumerate();
                let mut all: Vec<Value> = sizes.map(|(at, bytes)| json!({ "id": format!("{}.0", at + 1), "size": bytes.len() })).collect();
                all.reverse();
                all.truncate(count);
                rows::whole(req, all)
            }
            ("POST", ["versions", version, "restoreVersion"]) => {
                let at = version.trim_end_matches(".0").parse::<usize>().ok().and_then(|n| n.checked_sub(1)).ok_or_else(gone)?;
                let bytes = found.contents.get(id).and_then(|all| all.get(at)).cloned().ok_or_else(gone)?;
                self.write(state, drive, id, bytes)?;
                Ok(Reply::empty(204))
            }
            ("POST", ["checkout" | "checkin"]) => self.check(state, drive, id, rest[0] == "checkout"),
            ("GET", ["listItem"]) => {
                let item = found.item(id)?;
                Ok(Reply::json(200, &json!({ "id": "1", "eTag": item["eTag"], "fields": { "FileLeafRef": item["name"] } })))
            }
            (_, ["permissions", ..]) | ("POST", ["createLink" | "invite"]) => self.sharing(state, drive, id, method, rest, req),
            _ => Err(unknown_segment()),
        }
    }

    /// Makes a folder (`bytes` absent) or a file in a folder. True: the item is new.
    pub(super) fn put_item(
        &self,
        state: &mut State,
        drive: &str,
        parent: &str,
        name: &str,
        conflict: &str,
        bytes: Option<bytes::Bytes>,
    ) -> Result<(Value, bool), Reply> {
        if matches!(name, "" | "." | "..") || name.contains(FORBIDDEN) {
            return Err(bad_request("The provided name cannot be used."));
        }
        let number = state.drives.number();
        let now = rfc3339_seconds(self.shared.clock.now());
        let found = state.drives.drive(drive)?;
        if !found.item(parent)?["folder"].is_object() {
            return Err(bad_request("The parent is no folder."));
        }
        if bytes.as_ref().is_some_and(|bytes| found.used() + bytes.len() as u64 > found.quota) {
            return Err(error(507, "quotaLimitReached", "Insufficient space available on the drive."));
        }
        let mut name = name.to_owned();
        if let Some(known) = found.child(parent, &name).cloned() {
            match conflict {
                "replace" => {
                    let id = known["id"].as_str().unwrap_or_default().to_owned();
                    if let Some(bytes) = bytes {
                        self.write(state, drive, &id, bytes)?;
                    }
                    let found = state.drives.drive(drive)?;
                    return Ok((seen(found, found.item(&id)?), false));
                }
                "rename" => {
                    let (stem, ending) =
                        name.rsplit_once('.').map_or((name.clone(), String::new()), |(stem, ending)| (stem.to_owned(), format!(".{ending}")));
                    let free = (1..).map(|n| format!("{stem} {n}{ending}")).find(|free| found.child(parent, free).is_none());
                    name = free.ok_or_else(taken)?;
                }
                _ => return Err(taken()),
            }
        }
        let id = format!("01ITEM{number:06}");
        let mut item = json!({ "id": id, "name": name, "size": 0, "createdDateTime": now, "lastModifiedDateTime": now,
            "createdBy": { "application": { "displayName": "Hub" } }, "parentReference": { "driveId": drive, "id": parent },
            "webUrl": format!("https://contoso.sharepoint.example/Documents/{name}") });
        match &bytes {
            Some(_) => item["file"] = json!({ "mimeType": "application/octet-stream" }),
            None => item["folder"] = json!({ "childCount": 0 }),
        }
        self.keep_item(state, drive, item, EffectKind::FileStored)?;
        if let Some(bytes) = bytes {
            self.write(state, drive, &id, bytes)?;
        }
        let found = state.drives.drive(drive)?;
        Ok((seen(found, found.item(&id)?), true))
    }

    /// Puts an item back with a new version and tells everybody.
    pub(super) fn keep_item(&self, state: &mut State, drive: &str, mut item: Value, kind: EffectKind) -> Result<(), Reply> {
        let id = item["id"].as_str().unwrap_or_default().to_owned();
        let found = state.drives.drive(drive)?;
        let version = found.items.next();
        item["eTag"] = format!("\"{{{id}}},{version}\"").into();
        if item["cTag"].is_null() {
            item["cTag"] = format!("\"c:{{{id}}},{version}\"").into();
        }
        item["lastModifiedDateTime"] = rfc3339_seconds(self.shared.clock.now()).into();
        let entry = Entry::new("msgraph", kind, &id).detail(json!({ "name": item["name"], "size": item["size"] }));
        found.items.put(&id, item);
        self.shared.record(entry);
        self.tell_drive(state, drive);
        Ok(())
    }

    fn patch_item(&self, state: &mut State, drive: &str, mut item: Value, body: &Value) -> Answer {
        let found = state.drives.drive(drive)?;
        if let Some(name) = body["name"].as_str()
            && (name.is_empty() || name.contains(FORBIDDEN))
        {
            return Err(bad_request("The provided name cannot be used."));
        }
        rows::merge(&mut item, body, &["name", "description"]);
        if let Some(parent) = body["parentReference"]["id"].as_str() {
            let other = body["parentReference"]["driveId"].as_str();
            if other.is_some_and(|other| other != drive) {
                return Err(bad_request("An item cannot be moved to another drive; copy it."));
            }
            item["parentReference"]["id"] = found.id(parent)?.into();
        }
        let (id, parent, name) = (tag(&item, "id"), item["parentReference"]["id"].as_str().unwrap_or_default(), tag(&item, "name"));
        if found.child(parent, name).is_some_and(|known| known["id"] != id) {
            return Err(taken());
        }
        let id = id.to_owned();
        self.keep_item(state, drive, item, EffectKind::FileChanged)?;
        let found = state.drives.drive(drive)?;
        Ok(Reply::json(200, &seen(found, found.item(&id)?)))
    }

    fn check(&self, state: &mut State, drive: &str, id: &str, out: bool) -> Answer {
        let mut item = state.drives.drive(drive)?.item(id)?.clone();
        let is_out = item["publication"]["level"] == "checkout";
        match (out, is_out) {
            (true, true) => return Err(error(423, "resourceLocked", "The resource you are attempting to access is locked.")),
            (false, false) => return Err(bad_request("The file is not checked out.")),
            _ => item["publication"] = json!({ "level": if out { "checkout" } else { "published" } }),
        }
        self.keep_item(state, drive, item, EffectKind::FileChanged)?;
        Ok(Reply::empty(204))
    }

    /// Accepted at once; the copy is there when the monitor says so. <https://learn.microsoft.com/graph/api/driveitem-copy>
    fn copy_item(&self, state: &mut State, drive: &str, id: &str, req: &Req) -> Answer {
        let body = json_body(req)?;
        let found = state.drives.drive(drive)?;
        let item = found.item(id)?.clone();
        let bytes = found.contents.get(id).and_then(|all| all.last()).cloned();
        let target = body["parentReference"]["driveId"].as_str().unwrap_or(drive).to_owned();
        let parent = match body["parentReference"]["id"].as_str() {
            Some(parent) => state.drives.drive(&target)?.id(parent)?,
            None => item["parentReference"]["id"].as_str().unwrap_or_default().to_owned(),
        };
        let name = body["name"].as_str().or(item["name"].as_str()).unwrap_or_default().to_owned();
        let conflict = req.q("@microsoft.graph.conflictBehavior").unwrap_or("fail");
        let (copy, _) = self.put_item(state, &target, &parent, &name, conflict, bytes)?;
        let number = state.drives.number();
        let monitor = format!("monitor-{number}");
        let looks = state.drives.slow_copies;
        state.drives.copies.insert(monitor.clone(), (looks, copy["id"].as_str().unwrap_or_default().to_owned()));
        Ok(Reply::empty(202).with("location", &format!("{}/monitor/{monitor}", req.base)))
    }

    /// The monitor of a copy, which takes no token.
    pub(in super::super) fn monitor(&self, state: &mut State, id: &str, req: &Req) -> Answer {
        if req.header("authorization").is_some() {
            return Err(error(401, "unauthenticated", "This address takes no token."));
        }
        let (looks, copy) = state.drives.copies.get_mut(id).ok_or_else(gone)?;
        if *looks > 0 {
            *looks -= 1;
            return Ok(Reply::json(202, &json!({ "operation": "ItemCopy", "percentageComplete": 27.5, "status": "inProgress" })));
        }
        Ok(Reply::json(200, &json!({ "percentageComplete": 100.0, "resourceId": copy, "status": "completed" })))
    }

    /// Subscribers of a drive hear that something changed, and not what.
    fn tell_drive(&self, state: &State, drive: &str) {
        let path = format!("drives/{drive}/root");
        self.tell(state, &Happened { topic: path.clone(), change: "updated", kind: "#Microsoft.Graph.DriveItem", path, id: "", etag: None });
    }
}

/// A text of an item.
fn tag<'v>(item: &'v Value, field: &str) -> &'v str {
    item[field].as_str().unwrap_or_default()
}

/// An item as it is shown: with its children counted and the path of its folder.
pub(super) fn seen(drive: &Drive, item: &Value) -> Value {
    let mut item = rows::shown(item.clone());
    if item["folder"].is_object() {
        let id = tag(&item, "id").to_owned();
        item["folder"]["childCount"] = drive.children(&id).count().into();
    }
    let (mut names, mut at) = (Vec::new(), item["parentReference"]["id"].as_str().unwrap_or_default().to_owned());
    while let Some(parent) = drive.items.get(&at).filter(|parent| parent["root"].is_null()) {
        names.push(tag(parent, "name").to_owned());
        at = parent["parentReference"]["id"].as_str().unwrap_or_default().to_owned();
    }
    names.reverse();
    if item["root"].is_null() {
        let drive = tag(&drive.head, "id");
        let path = names.iter().fold(format!("/drives/{drive}/root:"), |path, name| format!("{path}/{name}"));
        item["parentReference"]["path"] = path.into();
    }
    item
}
