//! One record at a time: read, create, change, upsert, delete, describe, and which ones changed.

use super::store::{KINDS, Kind, Record, Refused, kind, shown};
use super::{Salesforce, State, error, not_found, object, org};
use crate::exchange::{Answer, Reply, Req};
use crate::ledger::{EffectKind, Entry};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// How long changes and deletions are told, in seconds.
const UPDATED_FOR: i64 = 30 * 86_400;
const DELETED_FOR: i64 = 15 * 86_400;

impl Salesforce {
    pub(super) fn sobjects(&self, state: &mut State, req: &Req, path: &[&str]) -> Answer {
        let Some((name, rest)) = path.split_first() else {
            let all: Vec<Value> = KINDS.iter().map(summary).collect();
            return Ok(Reply::json(200, &json!({"encoding": "UTF-8", "maxBatchSize": 200, "sobjects": all})));
        };
        let kind = kind(name).ok_or_else(not_found)?;
        let now = self.shared.clock.now();
        match (req.method.as_str(), rest) {
            ("POST", []) => {
                let mut fields = object(req)?;
                if req.header("sforce-duplicate-rule-header").is_some_and(|header| header.contains("allowSave=true")) {
                    fields.insert("attributes".into(), json!({"allowSave": true}));
                }
                let id = state.store.create(kind, &fields, now)?;
                self.wrote("create", &id);
                Ok(Reply::json(201, &json!({"id": id, "success": true, "errors": []})))
            }
            ("GET", ["describe"]) => describe(kind, req),
            ("GET", ["updated"]) => self.updated(state, kind, req),
            ("GET", ["deleted"]) => self.deleted(state, kind, req),
            ("GET", ["listviews"]) => Ok(org::list_views(kind)),
            ("GET", ["listviews", view, "results"]) => org::view_results(state, kind, view),
            ("GET", ["quickActions"]) => Ok(org::quick_actions(kind)),
            ("POST", ["quickActions", action]) => {
                object(req)?;
                self.wrote("quick_action", action);
                Ok(Reply::json(201, &json!({"contextId": null, "created": true, "errors": [], "id": "00Txx0000000009AAA", "success": true})))
            }
            ("GET", [id]) => {
                let record = state.store.find(kind, id)?;
                fields(kind, record, req.q("fields")).map(|body| Reply::json(200, &body))
            }
            ("PATCH", [id]) => {
                let record = state.store.find(kind, id)?;
                unmodified(req, record)?;
                let id = state.store.update(kind, id, &object(req)?, now)?;
                self.wrote("update", &id);
                Ok(Reply::empty(204))
            }
            ("DELETE", [id]) => {
                let id = state.store.delete(kind, id, now)?;
                self.wrote("delete", &id);
                Ok(Reply::empty(204))
            }
            ("GET", [id, "VersionData"]) => {
                use base64::Engine as _;
                let record = state.store.find(kind, id)?;
                let data = record.get("VersionData").as_str().and_then(|data| base64::engine::general_purpose::STANDARD.decode(data).ok());
                Ok(Reply::bytes(200, "application/octetstream", data.unwrap_or_default().into()))
            }
            ("GET", [field, value]) => {
                let found = state.store.by_external(kind, field, value)?;
                match found.as_slice() {
                    [] => Err(not_found()),
                    [id] => fields(kind, &state.store.records[id], req.q("fields")).map(|body| Reply::json(200, &body)),
                    several => Err(Reply::json(
                        300,
                        &json!(several.iter().map(|id| state.store.records[id].attributes()["url"].clone()).collect::<Vec<_>>()),
                    )),
                }
            }
            ("PATCH", [field, value]) => self.upsert(state, kind, (*field, *value), req),
            _ => Err(error(405, "METHOD_NOT_ALLOWED", "HTTP Method not allowed")),
        }
    }

    fn upsert(&self, state: &mut State, kind: &'static Kind, by: (&str, &str), req: &Req) -> Answer {
        let fields = object(req)?;
        if fields.keys().any(|name| name.eq_ignore_ascii_case(by.0) || name.eq_ignore_ascii_case("id")) {
            let message = format!("The {} field should not be specified in the sobject data.", by.0);
            return Err(error(400, "INVALID_FIELD", &message));
        }
        let found = state.store.by_external(kind, by.0, by.1)?;
        if found.is_empty() && req.q("updateOnly") == Some("true") {
            return Err(not_found());
        }
        if found.len() > 1 {
            return Err(Reply::json(300, &json!(found.iter().map(|id| state.store.records[id].attributes()["url"].clone()).collect::<Vec<_>>())));
        }
        let (id, created) = state.store.upsert(kind, by, &fields, self.shared.clock.now())?;
        self.wrote("upsert", &id);
        Ok(Reply::json(if created { 201 } else { 200 }, &json!({"id": id, "success": true, "errors": [], "created": created})))
    }

    /// Writes an effect.
    pub(super) fn wrote(&self, what: &str, target: &str) {
        let kind = match what {
            "update" => EffectKind::RecordUpdated,
            "delete" => EffectKind::RecordRemoved,
            _ => EffectKind::RecordCreated,
        };
        self.shared.record(Entry::new("salesforce", kind, target).detail(json!({"what": what})));
    }

    fn updated(&self, state: &State, kind: &Kind, req: &Req) -> Answer {
        let now = self.shared.clock.now();
        let (start, end) = span(req, now, UPDATED_FOR)?;
        let inside = |at: Timestamp| start <= at && at < end;
        let ids: Vec<&str> = live(state, kind).filter(|record| inside(record.modified)).map(|record| record.id.as_str()).collect();
        Ok(Reply::json(200, &json!({"ids": ids, "latestDateCovered": shown(end.min(now))})))
    }

    fn deleted(&self, state: &State, kind: &Kind, req: &Req) -> Answer {
        let now = self.shared.clock.now();
        let (start, end) = span(req, now, DELETED_FOR)?;
        let gone = state.store.records.values().filter(|record| record.kind.name == kind.name);
        let gone: Vec<Value> = gone
            .filter_map(|record| record.deleted.filter(|at| start <= *at && *at < end).map(|at| json!({"id": record.id, "deletedDate": shown(at)})))
            .collect();
        let earliest = Timestamp::from_second(now.as_second() - DELETED_FOR).unwrap_or(now);
        Ok(Reply::json(200, &json!({"deletedRecords": gone, "earliestDateAvailable": shown(earliest), "latestDateCovered": shown(end.min(now))})))
    }
}

fn live<'s>(state: &'s State, kind: &'s Kind) -> impl Iterator<Item = &'s Record> {
    state.store.records.values().filter(|record| record.kind.name == kind.name && record.deleted.is_none())
}

/// `start` and `end` by the minute: seconds do not count.
fn span(req: &Req, now: Timestamp, most: i64) -> Result<(Timestamp, Timestamp), Reply> {
    let at = |name: &str| {
        let text = req.q(name).ok_or_else(|| error(400, "INVALID_FIELD", &format!("{name} is missing")))?;
        let at: Timestamp = text.parse().map_err(|_| error(400, "INVALID_FIELD", &format!("{name} is not a date")))?;
        let minute = at.as_second() - at.as_second().rem_euclid(60);
        Timestamp::from_second(minute).map_err(|_| error(400, "INVALID_FIELD", &format!("{name} is not a date")))
    };
    let (start, end) = (at("start")?, at("end")?);
    if end <= start {
        return Err(error(400, "INVALID_REPLICATION_DATE", "startDate must be at least one minute before endDate"));
    }
    if now.as_second() - start.as_second() > most + 60 {
        return Err(error(400, "INVALID_REPLICATION_DATE", "startDate is too far in the past"));
    }
    // What is committed in this minute is covered up to now.
    let end = if end.as_second() + 60 > now.as_second() { now } else { end };
    Ok((start, end))
}

/// The record has not changed since the date of the request.
fn unmodified(req: &Req, record: &Record) -> Result<(), Reply> {
    let Some(text) = req.header("if-unmodified-since") else { return Ok(()) };
    let since = jiff::fmt::rfc2822::parse(text).map_err(|_| error(400, "INVALID_HEADER", "If-Unmodified-Since is not a date"))?;
    if record.modified.as_second() > since.timestamp().as_second() {
        return Err(error(412, "PRECONDITION_FAILED", "The resource was modified since the specified date"));
    }
    Ok(())
}

/// A record with the asked fields, or all.
fn fields(kind: &'static Kind, record: &Record, asked: Option<&str>) -> Result<Value, Reply> {
    let mut shown = Map::new();
    shown.insert("attributes".into(), record.attributes());
    match asked {
        None => shown.extend(kind.all().map(|field| (field.name.to_owned(), record.get(field.name)))),
        Some(asked) => {
            for name in asked.split(',').map(str::trim).filter(|name| !name.is_empty()) {
                let field = kind
                    .field(name)
                    .ok_or_else(|| Refused::new("INVALID_FIELD", format!("No such column '{name}' on sobject of type {}", kind.name)))?;
                shown.insert(field.name.to_owned(), record.get(field.name));
            }
        }
    }
    Ok(Value::Object(shown))
}

fn summary(kind: &Kind) -> Value {
    json!({"name": kind.name, "label": kind.name, "keyPrefix": kind.prefix, "custom": false, "queryable": true, "createable": true,
        "updateable": true, "deletable": true, "replicateable": true})
}

/// The fields of a type. Nothing changes while the sandbox runs, so any date since its start is unmodified.
fn describe(kind: &'static Kind, req: &Req) -> Answer {
    if req.header("if-modified-since").is_some_and(|text| jiff::fmt::rfc2822::parse(text).is_ok()) {
        return Ok(Reply::empty(304));
    }
    let field = |field: &super::store::Field| {
        let common = super::store::COMMON.iter().any(|common| common.name == field.name);
        json!({"name": field.name, "label": field.name, "type": field.kind, "length": 80, "nillable": !field.required, "createable": !common,
            "updateable": !common, "externalId": field.name == "Hub_Id__c", "unique": field.name == "Hub_Id__c", "referenceTo": [], "picklistValues": []})
    };
    let mut body = summary(kind);
    body["fields"] = kind.all().map(field).collect();
    body["childRelationships"] = json!([]);
    body["recordTypeInfos"] = json!([]);
    Ok(Reply::json(200, &body))
}
