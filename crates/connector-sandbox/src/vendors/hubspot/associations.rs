//! Associations v4: default and labelled links, listing, batches, labels. A link always has two sides with paired type ids.
//! <https://developers.hubspot.com/docs/api-reference/crm-associations-v4/guide>

use super::events::Event;
use super::store::{Invalid, Label, Link, Store, object_type, singular};
use super::{HubSpot, error, invalid, json_body};
use crate::exchange::{Answer, Reply, Req};
use crate::ledger::{EffectKind, Entry};
use serde_json::{Value, json};

/// (from, to, type id, its inverse, label): HubSpot's own association types, default before primary.
const TYPES: [(&str, &str, u64, u64, Option<&str>); 26] = [
    ("contacts", "companies", 279, 280, None),
    ("contacts", "companies", 1, 2, Some("Primary")),
    ("companies", "contacts", 280, 279, None),
    ("companies", "contacts", 2, 1, Some("Primary")),
    ("deals", "contacts", 3, 4, None),
    ("contacts", "deals", 4, 3, None),
    ("deals", "companies", 341, 342, None),
    ("deals", "companies", 5, 6, Some("Primary")),
    ("companies", "deals", 342, 341, None),
    ("companies", "deals", 6, 5, Some("Primary")),
    ("contacts", "tickets", 15, 16, None),
    ("tickets", "contacts", 16, 15, None),
    ("tickets", "companies", 339, 340, None),
    ("tickets", "companies", 26, 25, Some("Primary")),
    ("companies", "tickets", 340, 339, None),
    ("companies", "tickets", 25, 26, Some("Primary")),
    ("deals", "tickets", 27, 28, None),
    ("tickets", "deals", 28, 27, None),
    ("notes", "contacts", 202, 201, None),
    ("contacts", "notes", 201, 202, None),
    ("notes", "companies", 190, 189, None),
    ("companies", "notes", 189, 190, None),
    ("tasks", "contacts", 204, 203, None),
    ("contacts", "tasks", 203, 204, None),
    ("line_items", "deals", 20, 19, None),
    ("deals", "line_items", 19, 20, None),
];

const OWN: &str = "HUBSPOT_DEFINED";
/// Links of one record in one answer.
const PAGE: usize = 500;

/// Reads `[{associationCategory, associationTypeId}]`.
pub(super) fn types(list: &Value) -> Vec<(String, u64)> {
    let one = |t: &Value| Some((t["associationCategory"].as_str().unwrap_or(OWN).to_owned(), t["associationTypeId"].as_u64()?));
    list.as_array().into_iter().flatten().filter_map(one).collect()
}

/// The object type a set of type ids leads to from `from`.
pub(super) fn target_of(store: &Store, from: &str, types: &[(String, u64)]) -> Option<&'static str> {
    let (category, id) = types.first()?;
    if category == OWN {
        return TYPES.iter().find(|(f, _, t, ..)| *f == from && t == id).map(|(_, to, ..)| *to);
    }
    store.labels.iter().find(|l| l.from == from && l.id == *id).map(|l| l.to)
}

impl Store {
    fn default_type(from: &str, to: &str) -> Option<u64> {
        TYPES.iter().find(|(f, t, ..)| *f == from && *t == to).map(|(_, _, id, ..)| *id)
    }

    fn inverse(&self, from: &str, kind: &(String, u64)) -> Option<(String, u64)> {
        let id = if kind.0 == OWN {
            TYPES.iter().find(|(f, _, t, ..)| *f == from && *t == kind.1).map(|(_, _, _, inverse, _)| *inverse)
        } else {
            self.labels.iter().find(|l| l.from == from && l.id == kind.1).map(|l| l.inverse)
        };
        id.map(|id| (kind.0.clone(), id))
    }

    /// Links two records; the new set of types replaces the old one, and the unlabelled default is always part of it.
    pub(super) fn link(&mut self, from: (&'static str, u64), to: (&'static str, u64), types: Vec<(String, u64)>) -> bool {
        let mut forward = types;
        forward.extend(Self::default_type(from.0, to.0).map(|id| (OWN.to_owned(), id)));
        forward.sort();
        forward.dedup();
        let mut back: Vec<_> = forward.iter().filter_map(|t| self.inverse(from.0, t)).collect();
        back.sort();
        back.dedup();
        let changed = self.put_side(from, Link { to_type: to.0, to_id: to.1, types: forward });
        self.put_side(to, Link { to_type: from.0, to_id: from.1, types: back });
        if changed {
            self.events.push(Event::linked(from.0, from.1, to.0, to.1, false));
        }
        changed
    }

    fn put_side(&mut self, side: (&'static str, u64), link: Link) -> bool {
        let links = self.links.entry(side).or_default();
        match links.iter_mut().find(|l| l.to_type == link.to_type && l.to_id == link.to_id) {
            Some(old) if *old == link => false,
            Some(old) => {
                *old = link;
                true
            }
            None => {
                links.push(link);
                true
            }
        }
    }

    fn unlink(&mut self, from: (&'static str, u64), to: (&'static str, u64)) -> bool {
        let mut removed = false;
        for (a, b) in [(from, to), (to, from)] {
            if let Some(links) = self.links.get_mut(&a) {
                let before = links.len();
                links.retain(|l| !(l.to_type == b.0 && l.to_id == b.1));
                removed |= links.len() < before;
            }
        }
        if removed {
            self.events.push(Event::linked(from.0, from.1, to.0, to.1, true));
        }
        removed
    }

    fn label_of(&self, from: &str, kind: &(String, u64)) -> Option<String> {
        if kind.0 == OWN {
            return TYPES.iter().find(|(f, _, t, ..)| *f == from && *t == kind.1).and_then(|(.., label)| label.map(str::to_owned));
        }
        self.labels.iter().find(|l| l.from == from && l.id == kind.1).map(|l| l.label.clone())
    }

    fn show(&self, from: &str, link: &Link) -> Value {
        let types: Vec<Value> = link.types.iter().map(|t| json!({"category": t.0, "typeId": t.1, "label": self.label_of(from, t)})).collect();
        json!({"toObjectId": link.to_id.to_string(), "associationTypes": types})
    }
}

impl HubSpot {
    /// `…/objects/{from}/{id}/associations/…`.
    pub(super) fn associations(&self, store: &mut Store, from: &'static str, id: &str, rest: &[&str], req: &Req) -> Answer {
        let own = store.find(from, id, None).map_err(|e| invalid(&e))?;
        let target = |store: &Store, to: &str, to_id: &str| -> Result<(&'static str, u64), Reply> {
            let to = object_type(to).ok_or_else(|| unknown_type(to))?;
            Ok((to, store.find(to, to_id, None).map_err(|e| invalid(&e))?))
        };
        match (req.method.as_str(), rest) {
            ("GET", [to]) => {
                let to = object_type(to).ok_or_else(|| unknown_type(to))?;
                let (limit, after) = (req.q_usize("limit", 500).clamp(1, 500), req.q_usize("after", 0));
                let all: Vec<Value> = store.links_to(from, own, to).map(|l| store.show(from, l)).collect();
                let mut body = json!({"results": all.iter().skip(after).take(limit).collect::<Vec<_>>()});
                if after + limit < all.len() {
                    body["paging"] = json!({"next": {"after": (after + limit).to_string()}});
                }
                Ok(Reply::json(200, &body))
            }
            ("PUT", ["default", to, to_id]) => {
                let to = target(store, to, to_id)?;
                self.linked(store, (from, own), to, Vec::new());
                let id = Store::default_type(from, to.0).unwrap_or_default();
                let result = json!({"from": {"id": own.to_string()}, "to": {"id": to.1.to_string()},
                    "associationSpec": {"associationCategory": OWN, "associationTypeId": id}});
                Ok(Reply::json(200, &json!({"status": "COMPLETE", "results": [result]})))
            }
            ("PUT", [to, to_id]) => {
                let to = target(store, to, to_id)?;
                // The body is a bare array.
                let types = types(&json_body(req)?);
                if types.is_empty() || target_of(store, from, &types) != Some(to.0) {
                    return Err(error(400, "VALIDATION_ERROR", "The association types do not fit this pair of objects"));
                }
                self.linked(store, (from, own), to, types.clone());
                let labels: Vec<_> = types.iter().filter_map(|t| store.label_of(from, t)).collect();
                let body = json!({"fromObjectTypeId": from, "fromObjectId": own, "toObjectTypeId": to.0, "toObjectId": to.1, "labels": labels});
                Ok(Reply::json(201, &body))
            }
            ("DELETE", [to, to_id]) => {
                let to = target(store, to, to_id)?;
                self.unlinked(store, (from, own), to);
                Ok(Reply::empty(204))
            }
            _ => Err(error(404, "OBJECT_NOT_FOUND", "No such association operation")),
        }
    }

    /// `…/associations/{from}/{to}/batch/…` and `…/labels`.
    pub(super) fn association_batch(&self, store: &mut Store, from: &str, to: &str, rest: &[&str], req: &Req) -> Answer {
        let from = object_type(from).ok_or_else(|| unknown_type(from))?;
        let to = object_type(to).ok_or_else(|| unknown_type(to))?;
        let body = if req.method == http::Method::GET { Value::Null } else { json_body(req)? };
        if rest == ["labels"] {
            return self.labels(store, from, to, &body, req);
        }
        let inputs = body["inputs"].as_array().cloned().unwrap_or_default();
        let cap = if rest == ["batch", "read"] { 1000 } else { 2000 };
        if inputs.is_empty() || inputs.len() > cap {
            return Err(error(400, "VALIDATION_ERROR", &format!("inputs must hold 1 to {cap} items")));
        }
        let find = |store: &Store, kind, id: &Value| -> Result<u64, Invalid> {
            let id = id["id"].as_str().map(str::to_owned).unwrap_or_else(|| id["id"].to_string());
            store.find(kind, &id, None)
        };
        let (mut results, mut errors) = (Vec::new(), Vec::new());
        let fail = |problem: &Invalid, input: &Value| json!({"status": "error", "category": problem.category, "message": problem.message, "context": {"fromObjectId": [input["from"]["id"]]}});
        let ok = match rest {
            ["batch", "read"] => {
                for input in &inputs {
                    let links: Vec<Value> =
                        find(store, from, input).map(|own| store.links_to(from, own, to).map(|l| store.show(from, l)).collect()).unwrap_or_default();
                    if links.is_empty() {
                        let message = format!("No {} is associated with {} {}.", singular(to), singular(from), input["id"]);
                        errors
                            .push(json!({"status": "error", "category": "OBJECT_NOT_FOUND", "subCategory": "crm.associations.NO_ASSOCIATIONS_FOUND",
                            "message": message, "context": {"fromObjectId": [input["id"]]}}));
                    } else {
                        // 500 links of each record at a time; the record's own cursor leads on.
                        let after = input["after"].as_str().and_then(|after| after.parse().ok()).unwrap_or(0_usize);
                        let page: Vec<&Value> = links.iter().skip(after).take(PAGE).collect();
                        let mut one = json!({"from": {"id": input["id"]}, "to": page});
                        if after + PAGE < links.len() {
                            one["paging"] = json!({"next": {"after": (after + PAGE).to_string()}});
                        }
                        results.push(one);
                    }
                }
                200
            }
            ["batch", "create"] | ["batch", "associate", "default"] => {
                for input in &inputs {
                    let pair = find(store, from, &input["from"]).and_then(|a| Ok((a, find(store, to, &input["to"])?)));
                    match pair {
                        Ok((a, b)) => {
                            self.linked(store, (from, a), (to, b), types(&input["types"]));
                            results.push(json!({"fromObjectTypeId": from, "fromObjectId": a, "toObjectTypeId": to, "toObjectId": b, "labels": []}));
                        }
                        Err(problem) => errors.push(fail(&problem, input)),
                    }
                }
                201
            }
            ["batch", "archive"] => {
                for input in &inputs {
                    let Ok(a) = find(store, from, &input["from"]) else { continue };
                    for target in input["to"].as_array().into_iter().flatten() {
                        if let Ok(b) = find(store, to, target) {
                            self.unlinked(store, (from, a), (to, b));
                        }
                    }
                }
                return Ok(Reply::empty(204));
            }
            ["batch", "labels", "archive"] => {
                for input in &inputs {
                    let pair = find(store, from, &input["from"]).and_then(|a| Ok((a, find(store, to, &input["to"])?)));
                    if let Ok((a, b)) = pair {
                        self.unlabelled(store, (from, a), (to, b), &types(&input["types"]));
                    }
                }
                return Ok(Reply::empty(204));
            }
            _ => return Err(error(404, "OBJECT_NOT_FOUND", "No such association operation")),
        };
        let mut reply = json!({"status": "COMPLETE", "results": results});
        if errors.is_empty() {
            return Ok(Reply::json(ok, &reply));
        }
        reply["numErrors"] = errors.len().into();
        reply["errors"] = Value::Array(errors);
        Ok(Reply::json(207, &reply))
    }

    fn labels(&self, store: &mut Store, from: &'static str, to: &'static str, body: &Value, req: &Req) -> Answer {
        if req.method == http::Method::GET {
            let own = TYPES.iter().filter(|(f, t, ..)| *f == from && *t == to);
            let own = own.map(|(_, _, id, _, label)| json!({"category": OWN, "typeId": id, "label": label}));
            let user = store.labels.iter().filter(|l| l.from == from && l.to == to);
            let user = user.map(|l| json!({"category": "USER_DEFINED", "typeId": l.id, "label": l.label}));
            return Ok(Reply::json(200, &json!({"results": own.chain(user).collect::<Vec<_>>()})));
        }
        let label = body["label"].as_str().ok_or_else(|| error(400, "VALIDATION_ERROR", "label is required"))?;
        let back = body["inverseLabel"].as_str().unwrap_or(label).to_owned();
        let (id, inverse) = (1000 + store.labels.len() as u64, 1001 + store.labels.len() as u64);
        store.labels.push(Label { from, to, id, inverse, label: label.to_owned() });
        store.labels.push(Label { from: to, to: from, id: inverse, inverse: id, label: back.clone() });
        let results = json!([
            {"category": "USER_DEFINED", "typeId": id, "label": label},
            {"category": "USER_DEFINED", "typeId": inverse, "label": back},
        ]);
        Ok(Reply::json(200, &json!({"results": results})))
    }

    fn linked(&self, store: &mut Store, from: (&'static str, u64), to: (&'static str, u64), types: Vec<(String, u64)>) {
        if store.link(from, to, types) {
            self.association_effect(from, to, "linked");
        }
    }

    /// Takes labels off a pair; the unlabelled link stays.
    fn unlabelled(&self, store: &mut Store, from: (&'static str, u64), to: (&'static str, u64), gone: &[(String, u64)]) {
        let old = store.links_to(from.0, from.1, to.0).find(|l| l.to_id == to.1).map(|l| l.types.clone());
        if let Some(mut types) = old {
            types.retain(|t| !gone.contains(t));
            self.linked(store, from, to, types);
        }
    }

    fn unlinked(&self, store: &mut Store, from: (&'static str, u64), to: (&'static str, u64)) {
        if store.unlink(from, to) {
            self.association_effect(from, to, "unlinked");
        }
    }

    fn association_effect(&self, from: (&str, u64), to: (&str, u64), what: &str) {
        let entry = Entry::new("hubspot", EffectKind::AssociationChanged, format!("{}:{}", from.0, from.1));
        self.shared.record(entry.parent(Some(format!("{}:{}", to.0, to.1))).detail(json!(what)));
    }
}

fn unknown_type(name: &str) -> Reply {
    error(400, "VALIDATION_ERROR", &format!("Unable to infer object type from: {name}"))
}
