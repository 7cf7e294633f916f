//! Batch operations and their partial successes: 200 or 201 when all went well, 207 when some did, 400 when the whole call is refused.

use super::objects::names;
use super::store::{Invalid, Store, singular};
use super::{HubSpot, error, invalid, json_body};
use crate::clock::rfc3339_millis;
use crate::exchange::{Answer, Reply, Req};
use serde_json::{Value, json};

/// Inputs per call at most.
const CAP: usize = 100;

/// What a batch gathered.
#[derive(Default)]
struct Outcome {
    results: Vec<Value>,
    errors: Vec<Value>,
}

impl Outcome {
    fn fail(&mut self, problem: &Invalid, id: &str, trace: &Value) {
        let mut context = json!({"ids": [id]});
        if let Some(trace) = trace.as_str() {
            context["objectWriteTraceId"] = json!([trace]);
        }
        self.errors.push(json!({"status": "error", "category": problem.category, "message": problem.message, "context": context}));
    }
}

impl HubSpot {
    /// Dispatches `…/batch/{action}`.
    pub(super) fn batch(&self, store: &mut Store, kind: &'static str, action: &str, req: &Req) -> Answer {
        let body = json_body(req)?;
        let inputs = body["inputs"].as_array().ok_or_else(|| error(400, "VALIDATION_ERROR", "inputs is required"))?;
        if inputs.is_empty() || inputs.len() > CAP {
            return Err(error(400, "VALIDATION_ERROR", &format!("inputs must hold 1 to {CAP} items")));
        }
        let mut outcome = Outcome::default();
        let ok = match action {
            "read" => self.batch_read(store, kind, &body, inputs, req, &mut outcome)?,
            "create" => self.batch_create(store, kind, inputs, &mut outcome)?,
            "update" => {
                for input in inputs {
                    let id = id_of(input);
                    let done = store.find(kind, &id, input["idProperty"].as_str()).and_then(|key| {
                        if store.merged.contains_key(&(kind, id.parse().unwrap_or(0))) {
                            return Err(Invalid::not_found(format!("{} not found", singular(kind))));
                        }
                        self.update_one(store, kind, key, &input["properties"]).map(|()| key)
                    });
                    match done {
                        Ok(key) => outcome.results.push(store.render(kind, key, Some(&names(&input["properties"])), &[])),
                        Err(problem) => outcome.fail(&problem, &id, &input["objectWriteTraceId"]),
                    }
                }
                200
            }
            "upsert" => self.batch_upsert(store, kind, inputs, &mut outcome)?,
            "archive" => {
                for input in inputs {
                    if let Ok(id) = store.find(kind, &id_of(input), None) {
                        self.archive_one(store, kind, id);
                    }
                }
                return Ok(Reply::empty(204));
            }
            _ => return Err(error(404, "OBJECT_NOT_FOUND", "No such batch operation")),
        };
        Ok(self.finish(ok, outcome))
    }

    fn finish(&self, ok: u16, outcome: Outcome) -> Reply {
        let now = rfc3339_millis(self.shared.clock.now());
        let mut body = json!({"status": "COMPLETE", "results": outcome.results, "startedAt": now, "completedAt": now});
        if outcome.errors.is_empty() {
            return Reply::json(ok, &body);
        }
        body["numErrors"] = outcome.errors.len().into();
        body["errors"] = Value::Array(outcome.errors);
        Reply::json(207, &body)
    }

    fn batch_read(&self, store: &Store, kind: &'static str, body: &Value, inputs: &[Value], req: &Req, outcome: &mut Outcome) -> Result<u16, Reply> {
        let properties: Option<Vec<String>> = body["properties"].as_array().map(|p| p.iter().filter_map(Value::as_str).map(str::to_owned).collect());
        let past: Vec<String> = body["propertiesWithHistory"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        let property = body["idProperty"].as_str();
        if let Some(name) = property.filter(|p| *p != "hs_object_id" && !store.is_unique(kind, p)) {
            return Err(error(400, "VALIDATION_ERROR", &format!("idProperty {name} is not unique")));
        }
        let archived = req.q_true("archived");
        let mut missing = Vec::new();
        for input in inputs {
            let id = id_of(input);
            // A merged-away id is only known to single calls.
            let merged = property.is_none() && store.merged.contains_key(&(kind, id.parse().unwrap_or(0)));
            match store.find(kind, &id, property) {
                Ok(key) if !merged && store.objects[kind][&key].archived.is_some() == archived => {
                    let mut record = store.render(kind, key, properties.as_deref(), &[]);
                    store.with_history(kind, key, &past, &mut record);
                    // One record asked for twice comes once.
                    if !outcome.results.contains(&record) {
                        outcome.results.push(record);
                    }
                }
                _ => missing.push(id),
            }
        }
        if !missing.is_empty() {
            // HubSpot folds all missing ids into one error.
            let message = format!("Could not get some {} objects, they may be deleted or not exist.", singular(kind).to_uppercase());
            outcome.errors.push(json!({"status": "error", "category": "OBJECT_NOT_FOUND", "message": message, "context": {"ids": missing}}));
        }
        // Results come in no promised order; reversing keeps clients honest.
        outcome.results.reverse();
        Ok(200)
    }

    /// Without a unique trace id on every input, one bad row refuses the whole call.
    fn batch_create(&self, store: &mut Store, kind: &'static str, inputs: &[Value], outcome: &mut Outcome) -> Result<u16, Reply> {
        let mut traces: Vec<&str> = inputs.iter().filter_map(|i| i["objectWriteTraceId"].as_str()).collect();
        traces.sort_unstable();
        traces.dedup();
        let traced = traces.len() == inputs.len();
        if !traced {
            let first_problem = self.rehearse(store, kind, inputs);
            if let Some(problem) = first_problem {
                return Err(invalid(&problem));
            }
        }
        for input in inputs {
            match self.create_one(store, kind, input) {
                Ok(id) => {
                    let mut record = store.render(kind, id, Some(&names(&input["properties"])), &[]);
                    if let Some(trace) = input["objectWriteTraceId"].as_str() {
                        record["objectWriteTraceId"] = trace.into();
                    }
                    outcome.results.push(record);
                }
                Err(problem) => outcome.fail(&problem, "", &input["objectWriteTraceId"]),
            }
        }
        Ok(201)
    }

    /// Tries the creations on a copy of what they touch and reports the first that would fail.
    fn rehearse(&self, store: &Store, kind: &'static str, inputs: &[Value]) -> Option<Invalid> {
        let mut trial = Store {
            objects: [(kind, store.objects.get(kind).cloned().unwrap_or_default())].into(),
            properties: store.properties.clone(),
            next_id: store.next_id,
            ..Store::default()
        };
        let now = self.shared.clock.now();
        inputs.iter().find_map(|input| trial.check(kind, &input["properties"]).and_then(|p| trial.create(kind, p, now)).err())
    }

    fn batch_upsert(&self, store: &mut Store, kind: &'static str, inputs: &[Value], outcome: &mut Outcome) -> Result<u16, Reply> {
        for input in inputs {
            let (id, property) = (id_of(input), input["idProperty"].as_str().unwrap_or_default());
            if !store.is_unique(kind, property) {
                let message = format!("idProperty {property} must be a unique property");
                return Err(error(400, "VALIDATION_ERROR", &message));
            }
            let (done, new) = match store.find(kind, &id, Some(property)) {
                Ok(key) => (self.update_one(store, kind, key, &input["properties"]).map(|()| key), false),
                Err(_) => {
                    let mut body = input.clone();
                    if body["properties"][property].is_null() {
                        body["properties"][property] = id.clone().into();
                    }
                    (self.create_one(store, kind, &body), true)
                }
            };
            match done {
                Ok(key) => {
                    let mut record = store.render(kind, key, Some(&names(&input["properties"])), &[]);
                    record["new"] = new.into();
                    if let Some(trace) = input["objectWriteTraceId"].as_str() {
                        record["objectWriteTraceId"] = trace.into();
                    }
                    outcome.results.push(record);
                }
                Err(problem) => outcome.fail(&problem, &id, &input["objectWriteTraceId"]),
            }
        }
        Ok(200)
    }
}

fn id_of(input: &Value) -> String {
    match &input["id"] {
        Value::String(id) => id.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}
