//! Up to 200 records of one call, each with its own outcome, or all or none.

use super::store::{Refused, kind};
use super::{Salesforce, State, error, object};
use crate::exchange::{Answer, Reply, Req};
use serde_json::{Map, Value, json};

/// What one record became: its id and whether it was created.
type Outcome = Result<(String, Option<bool>), Refused>;

impl Salesforce {
    /// `/composite/sobjects…`.
    pub(super) fn collection(&self, state: &mut State, req: &Req, path: &[&str]) -> Answer {
        match (req.method.as_str(), path) {
            ("POST", []) | ("PATCH", []) | ("PATCH", [_, _]) => {
                let body = object(req)?;
                let records = body.get("records").and_then(Value::as_array).cloned().unwrap_or_default();
                let all = body.get("allOrNone") == Some(&Value::Bool(true));
                let upsert = match path {
                    [name, field] => Some((*name, *field)),
                    _ => None,
                };
                let method = req.method.as_str().to_owned();
                self.each(state, &records, all, |this, state, record| this.save(state, &method, upsert, record))
            }
            ("DELETE", []) => {
                let ids: Vec<Value> = req.q("ids").unwrap_or_default().split(',').filter(|id| !id.is_empty()).map(Value::from).collect();
                self.each(state, &ids, req.q("allOrNone") == Some("true"), |this, state, id| {
                    let id = id.as_str().unwrap_or_default();
                    let kind = state.store.kind_of(id).ok_or_else(|| Refused::new("MALFORMED_ID", "malformed id"))?;
                    let id = state.store.delete(kind, id, this.shared.clock.now())?;
                    this.wrote("delete", &id);
                    Ok((id, None))
                })
            }
            ("POST", [name]) => {
                let body = object(req)?;
                let kind = kind(name).ok_or_else(super::not_found)?;
                let texts = |key: &str| -> Vec<String> {
                    body.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(|one| one.as_str().map(str::to_owned)).collect()
                };
                let (ids, fields) = (texts("ids"), texts("fields"));
                if ids.len() > 2_000 {
                    return Err(error(400, "EXCEEDED_ID_LIMIT", "record limit reached. cannot submit more than 2000 records into this call"));
                }
                if let Some(unknown) = fields.iter().find(|name| kind.field(name).is_none()) {
                    return Err(Refused::new("INVALID_FIELD", format!("No such column '{unknown}' on sobject of type {}", kind.name)).into());
                }
                let read = |id: &String| match state.store.find(kind, id) {
                    Err(_) => Value::Null,
                    Ok(record) => {
                        let mut shown = Map::from_iter([("attributes".to_owned(), record.attributes())]);
                        shown.extend(fields.iter().filter_map(|name| kind.field(name)).map(|field| (field.name.to_owned(), record.get(field.name))));
                        Value::Object(shown)
                    }
                };
                Ok(Reply::json(200, &ids.iter().map(read).collect()))
            }
            _ => Err(super::not_found()),
        }
    }

    /// Does one after the other, and takes all of them back if one fails and all were wanted.
    fn each(&self, state: &mut State, items: &[Value], all: bool, act: impl Fn(&Self, &mut State, &Value) -> Outcome) -> Answer {
        if items.len() > 200 {
            return Err(error(400, "EXCEEDED_ID_LIMIT", "record limit reached. cannot submit more than 200 records into this call"));
        }
        let (before, told) = (state.store.records.clone(), state.store.told.len());
        let outcomes: Vec<Outcome> = items.iter().map(|item| act(self, state, item)).collect();
        let halted = all && outcomes.iter().any(Result::is_err);
        if halted {
            state.store.records = before;
            state.store.told.truncate(told);
        }
        let shown = outcomes.iter().map(|outcome| match outcome {
            Ok(_) if halted => {
                let rolled_back = Refused::new(
                    "ALL_OR_NONE_OPERATION_ROLLED_BACK",
                    "Record rolled back because not all records were valid and the request was using AllOrNone header",
                );
                json!({"success": false, "errors": [rolled_back.item()]})
            }
            Ok((id, None)) => json!({"id": id, "success": true, "errors": []}),
            Ok((id, Some(created))) => json!({"id": id, "success": true, "errors": [], "created": created}),
            Err(refused) => json!({"success": false, "errors": [refused.item()]}),
        });
        Ok(Reply::json(200, &shown.collect()))
    }

    fn save(&self, state: &mut State, method: &str, upsert: Option<(&str, &str)>, record: &Value) -> Outcome {
        let now = self.shared.clock.now();
        let name = record.pointer("/attributes/type").and_then(Value::as_str).unwrap_or_default();
        let kind = kind(name).ok_or_else(|| Refused::new("INVALID_TYPE", format!("sObject type '{name}' is not supported.")))?;
        let mut fields = record.as_object().cloned().unwrap_or_default();
        fields.shift_remove("attributes");
        let (id, created) = match (method, upsert) {
            (_, Some((_, by))) => {
                let key = fields.keys().find(|key| key.eq_ignore_ascii_case(by)).cloned();
                let value = key.and_then(|key| fields.shift_remove(&key));
                let value =
                    value.as_ref().and_then(Value::as_str).ok_or_else(|| Refused::new("MISSING_ARGUMENT", format!("{by} not specified")))?.to_owned();
                let (id, created) = state.store.upsert(kind, (by, &value), &fields, now)?;
                (id, Some(created))
            }
            ("POST", None) => (state.store.create(kind, &fields, now)?, None),
            _ => {
                let id = ["id", "Id"].iter().find_map(|key| fields.get(*key)?.as_str().map(str::to_owned));
                let id = id.ok_or_else(|| Refused::new("MISSING_ARGUMENT", "Id not specified in an update call"))?;
                (state.store.update(kind, &id, &fields, now)?, None)
            }
        };
        self.wrote(if method == "POST" { "create" } else { "update" }, &id);
        Ok((id, created))
    }
}
