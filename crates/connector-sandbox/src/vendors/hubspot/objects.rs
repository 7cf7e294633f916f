//! Single-record operations on CRM objects: get, list, create, update, archive, merge, erase.

use super::store::{Invalid, Store, object_type, singular};
use super::{HubSpot, error, invalid, json_body};
use crate::exchange::{Answer, Reply, Req};
use crate::ledger::{EffectKind, Entry};
use serde_json::{Value, json};

/// The names a query parameter lists, with commas or by coming several times.
fn list(req: &Req, name: &str) -> Vec<String> {
    let all = req.query.iter().filter(|(k, _)| k == name);
    all.flat_map(|(_, v)| v.split(',')).map(|s| s.trim().to_owned()).filter(|s| !s.is_empty()).collect()
}

/// Properties and associations a read asks for, from the query.
pub(super) fn wanted(req: &Req) -> (Option<Vec<String>>, Vec<&'static str>) {
    let list = |name: &str| list(req, name);
    let properties = list("properties");
    let associations = list("associations").iter().filter_map(|t| object_type(t)).collect();
    ((!properties.is_empty()).then_some(properties), associations)
}

impl HubSpot {
    pub(super) fn get(&self, store: &Store, kind: &'static str, id: &str, req: &Req) -> Answer {
        let (properties, associations) = wanted(req);
        let id = store.find(kind, id, req.q("idProperty")).map_err(|e| invalid(&e))?;
        let archived = store.objects[kind][&id].archived.is_some();
        if archived != req.q_true("archived") {
            return Err(invalid(&Invalid::not_found(format!("{} not found", singular(kind)))));
        }
        let mut record = store.render(kind, id, properties.as_deref(), &associations);
        store.with_history(kind, id, &list(req, "propertiesWithHistory"), &mut record);
        Ok(Reply::json(200, &record))
    }

    /// Ordered by id; `after` is the last id given.
    pub(super) fn list(&self, store: &Store, kind: &'static str, req: &Req) -> Answer {
        let (properties, associations) = wanted(req);
        let limit = req.q_usize("limit", 10);
        if !(1..=100).contains(&limit) {
            return Err(error(400, "VALIDATION_ERROR", "limit must be between 1 and 100"));
        }
        let after: u64 = match req.q("after") {
            None => 0,
            Some(text) => text.parse().map_err(|_| error(400, "VALIDATION_ERROR", "after is not a cursor of this list"))?,
        };
        let archived = req.q_true("archived");
        let mut rest = store.objects.get(kind).into_iter().flat_map(|o| o.range(after + 1..)).filter(|(_, r)| r.archived.is_some() == archived);
        let ids: Vec<u64> = rest.by_ref().take(limit).map(|(id, _)| *id).collect();
        let past = list(req, "propertiesWithHistory");
        let shown = |id: &u64| {
            let mut record = store.render(kind, *id, properties.as_deref(), &associations);
            store.with_history(kind, *id, &past, &mut record);
            record
        };
        let mut body = json!({"results": ids.iter().map(shown).collect::<Vec<_>>()});
        if let (Some(last), Some(_)) = (ids.last(), rest.next()) {
            let path = req.path_and_query.split('?').next().unwrap_or_default();
            body["paging"] = json!({"next": {"after": last.to_string(), "link": format!("{}{path}?limit={limit}&after={last}", req.base)}});
        }
        Ok(Reply::json(200, &body))
    }

    pub(super) fn create(&self, store: &mut Store, kind: &'static str, req: &Req) -> Answer {
        let body = json_body(req)?;
        let id = self.create_one(store, kind, &body).map_err(|e| invalid(&e))?;
        let reply = store.render(kind, id, Some(&names(&body["properties"])), &[]);
        Ok(Reply::json(201, &reply))
    }

    /// Creates a record with its links; used by the batch too.
    pub(super) fn create_one(&self, store: &mut Store, kind: &'static str, body: &Value) -> Result<u64, Invalid> {
        let properties = store.check(kind, &body["properties"])?;
        // Links are checked before the record exists, so a bad one leaves nothing behind.
        let mut links = Vec::new();
        for association in body["associations"].as_array().into_iter().flatten() {
            let types = super::associations::types(&association["types"]);
            let to_type = super::associations::target_of(store, kind, &types);
            let to_id = association["to"]["id"].as_str().map(str::to_owned).or_else(|| association["to"]["id"].as_u64().map(|n| n.to_string()));
            let (Some(to_type), Some(to_id)) = (to_type, to_id) else {
                return Err(Invalid::validation("INVALID_ASSOCIATION", "One or more associations are not valid".into(), None));
            };
            links.push((to_type, store.find(to_type, &to_id, None)?, types));
        }
        let key = properties.iter().find(|(name, _)| store.is_unique(kind, name)).map(|(_, value)| value.clone());
        let id = store.create(kind, properties, self.shared.clock.now())?;
        for (to_type, to_id, types) in links {
            store.link((kind, id), (to_type, to_id), types);
        }
        self.shared.record(Entry::new("hubspot", EffectKind::RecordCreated, format!("{kind}:{id}")).key(key));
        Ok(id)
    }

    pub(super) fn update(&self, store: &mut Store, kind: &'static str, id: &str, req: &Req) -> Answer {
        let body = json_body(req)?;
        let id = store.find(kind, id, req.q("idProperty")).map_err(|e| invalid(&e))?;
        self.update_one(store, kind, id, &body["properties"]).map_err(|e| invalid(&e))?;
        Ok(Reply::json(200, &store.render(kind, id, Some(&names(&body["properties"])), &[])))
    }

    pub(super) fn update_one(&self, store: &mut Store, kind: &'static str, id: u64, properties: &Value) -> Result<(), Invalid> {
        if store.objects[kind].get(&id).is_some_and(|r| r.archived.is_some()) {
            return Err(Invalid::not_found(format!("{} not found", singular(kind))));
        }
        let checked = store.check(kind, properties)?;
        let changed: Vec<String> = checked.keys().cloned().collect();
        store.update(kind, id, checked, self.shared.clock.now())?;
        self.shared.record(Entry::new("hubspot", EffectKind::RecordUpdated, format!("{kind}:{id}")).detail(json!(changed)));
        Ok(())
    }

    /// 204 whether or not the record was there.
    pub(super) fn archive(&self, store: &mut Store, kind: &'static str, id: &str) -> Answer {
        if let Ok(id) = store.find(kind, id, None) {
            self.archive_one(store, kind, id);
        }
        Ok(Reply::empty(204))
    }

    pub(super) fn archive_one(&self, store: &mut Store, kind: &'static str, id: u64) {
        if store.archive(kind, id, self.shared.clock.now()) {
            self.shared.record(Entry::new("hubspot", EffectKind::RecordRemoved, format!("{kind}:{id}")).detail(json!("archived")));
        }
    }

    /// The loser's id keeps working on single calls, but not in batches.
    pub(super) fn merge(&self, store: &mut Store, kind: &'static str, req: &Req) -> Answer {
        let body = json_body(req)?;
        let id = |key: &str| store.find(kind, body[key].as_str().unwrap_or_default(), None).map_err(|e| invalid(&e));
        let (primary, loser) = (id("primaryObjectId")?, id("objectIdToMerge")?);
        if primary == loser {
            return Err(error(400, "VALIDATION_ERROR", "An object cannot be merged into itself"));
        }
        let now = self.shared.clock.now();
        let lost = store.objects.get_mut(kind).and_then(|o| o.remove(&loser));
        for (name, value) in lost.map(|r| r.properties).unwrap_or_default() {
            if let Some(record) = store.objects.get_mut(kind).and_then(|o| o.get_mut(&primary)) {
                record.properties.entry(name).or_insert(value);
                record.updated = now;
            }
        }
        for link in store.links.get(&(kind, loser)).cloned().unwrap_or_default() {
            store.link((kind, primary), (link.to_type, link.to_id), link.types);
        }
        store.unlink_all(kind, loser);
        store.merged.insert((kind, loser), primary);
        store.events.push(super::events::Event::merged(kind, primary, loser));
        let entry = Entry::new("hubspot", EffectKind::RecordRemoved, format!("{kind}:{loser}"));
        self.shared.record(entry.parent(Some(format!("{kind}:{primary}"))).detail(json!("merged")));
        Ok(Reply::json(200, &store.render(kind, primary, None, &[])))
    }

    pub(super) fn gdpr_delete(&self, store: &mut Store, kind: &'static str, req: &Req) -> Answer {
        let body = json_body(req)?;
        let found = store.find(kind, body["objectId"].as_str().unwrap_or_default(), body["idProperty"].as_str());
        if let Ok(id) = found {
            store.unlink_all(kind, id);
            if let Some(objects) = store.objects.get_mut(kind) {
                objects.remove(&id);
            }
            store.events.push(super::events::Event::deleted(kind, id));
            self.shared.record(Entry::new("hubspot", EffectKind::RecordRemoved, format!("{kind}:{id}")).detail(json!("erased")));
        }
        Ok(Reply::empty(204))
    }
}

/// Names of the properties a write carried; the reply shows these.
pub(super) fn names(properties: &Value) -> Vec<String> {
    properties.as_object().map(|o| o.keys().cloned().collect()).unwrap_or_default()
}
