//! Several requests in one: composite with references, batch, graph and tree. Each step is answered as if it had come by itself.

use super::store::kind;
use super::{Salesforce, State, error, object};
use crate::exchange::{Answer, Reply, Req};
use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::{Map, Value, json};

/// What a step gave.
struct Done {
    status: u16,
    body: Value,
}

impl Salesforce {
    /// `/composite…`.
    pub(super) fn composite(&self, state: &mut State, req: &Req, path: &[&str]) -> Answer {
        match (req.method.as_str(), path) {
            ("POST", []) => {
                let body = object(req)?;
                let steps = list(body.get("compositeRequest"));
                if steps.len() > 25 {
                    return Err(error(400, "LIMIT_EXCEEDED", "The number of subrequests in a composite request is at most 25"));
                }
                let all = body.get("allOrNone") == Some(&Value::Bool(true));
                let (answers, _) = self.steps(state, req, &steps, all);
                Ok(Reply::json(200, &json!({"compositeResponse": answers})))
            }
            ("POST", ["batch"]) => self.batch(state, req),
            ("POST", ["graph"]) => {
                let body = object(req)?;
                let graphs = list(body.get("graphs"));
                let mut shown = Vec::new();
                for graph in &graphs {
                    let (answers, well) = self.steps(state, req, &list(graph.get("compositeRequest")), true);
                    shown.push(json!({"graphId": graph["graphId"], "graphResponse": {"compositeResponse": answers}, "isSuccessful": well}));
                }
                Ok(Reply::json(200, &json!({"graphs": shown})))
            }
            ("POST", ["tree", name]) => self.tree(state, req, name),
            (_, ["sobjects", rest @ ..]) => self.collection(state, req, rest),
            _ => Err(super::not_found()),
        }
    }

    /// Steps one after the other; all are taken back if one fails and all were wanted. False if one failed.
    fn steps(&self, state: &mut State, req: &Req, steps: &[Value], all: bool) -> (Vec<Value>, bool) {
        let (before, told) = (state.store.records.clone(), state.store.told.len());
        let mut results: Map<String, Value> = Map::new();
        let mut done: Vec<(String, Done)> = Vec::new();
        let mut halted = false;
        for step in steps {
            let reference = step["referenceId"].as_str().unwrap_or_default().to_owned();
            let outcome = if halted {
                Done {
                    status: 400,
                    body: json!([{"errorCode": "PROCESSING_HALTED", "message": "The transaction was rolled back since another operation in the same transaction failed."}]),
                }
            } else {
                match filled(step, &results) {
                    Err(unknown) => Done {
                        status: 400,
                        body: json!([{"errorCode": "PROCESSING_HALTED", "message": format!("Invalid reference specified. No value for {unknown} found.")}]),
                    },
                    Ok(step) => self.step(state, req, &step, "/"),
                }
            };
            halted |= all && outcome.status >= 400;
            if outcome.status < 400 {
                results.insert(reference.clone(), outcome.body.clone());
            }
            done.push((reference, outcome));
        }
        if halted {
            state.store.records = before;
            state.store.told.truncate(told);
        }
        let well = done.iter().all(|(_, one)| one.status < 400);
        let shown = done.into_iter().map(|(reference, one)| {
            let rolled_back = halted && one.status < 400;
            let (status, body) = if rolled_back {
                (400, json!([{"errorCode": "PROCESSING_HALTED", "message": "The transaction was rolled back since another operation in the same transaction failed."}]))
            } else {
                (one.status, one.body)
            };
            json!({"body": body, "httpHeaders": {}, "httpStatusCode": status, "referenceId": reference})
        });
        (shown.collect(), well)
    }

    fn batch(&self, state: &mut State, req: &Req) -> Answer {
        let body = object(req)?;
        let halts = body.get("haltOnError") == Some(&Value::Bool(true));
        let requests = list(body.get("batchRequests"));
        if requests.len() > 25 {
            return Err(error(400, "LIMIT_EXCEEDED", "Batch request size is at most 25"));
        }
        let (mut results, mut failed) = (Vec::new(), false);
        for request in &requests {
            let one = if failed && halts {
                Done { status: 412, body: json!([{"errorCode": "BATCH_PROCESSING_HALTED", "message": "Batch processing halted per request"}]) }
            } else {
                self.step(state, req, request, "/services/data/")
            };
            failed |= one.status >= 400;
            results.push(json!({"statusCode": one.status, "result": one.body}));
        }
        Ok(Reply::json(200, &json!({"hasErrors": failed, "results": results})))
    }

    /// One request inside another; `before` is what its address lacks.
    fn step(&self, state: &mut State, req: &Req, step: &Value, before: &str) -> Done {
        let url = step["url"].as_str().unwrap_or_default();
        let below = format!("{before}{}", url.trim_start_matches('/'));
        let body = step.get("body").or_else(|| step.get("richInput")).map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let method = step["method"].as_str().and_then(|method| method.parse::<Method>().ok()).unwrap_or(Method::GET);
        let mut headers = HeaderMap::new();
        for (name, value) in step["httpHeaders"].as_object().into_iter().flatten() {
            if let (Ok(name), Some(Ok(value))) = (name.parse::<http::HeaderName>(), value.as_str().map(str::parse)) {
                headers.insert(name, value);
            }
        }
        let inner = Req::new(method, req.base.clone(), &below, headers, body);
        let path: Vec<String> = inner.segments.clone();
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let reply = match path.as_slice() {
            // No composite in a composite but collections.
            ["services", "data", _, "composite", rest @ ..] if rest.first() != Some(&"sobjects") => super::not_found(),
            path => self.route(state, &inner, path).unwrap_or_else(|reply| reply),
        };
        Done { status: reply.status.as_u16(), body: serde_json::from_slice(&reply.body).unwrap_or_default() }
    }

    /// Records with their children; all or none.
    fn tree(&self, state: &mut State, req: &Req, name: &str) -> Answer {
        let body = object(req)?;
        let (before, told) = (state.store.records.clone(), state.store.told.len());
        let (mut made, mut errors) = (Vec::new(), Vec::new());
        for record in list(body.get("records")) {
            self.branch(state, name, &record, None, &mut made, &mut errors);
        }
        if made.len() + errors.len() > 200 {
            errors.push(json!({"referenceId": "", "errors": [{"statusCode": "INVALID_INPUT", "message": "at most 200 records", "fields": []}]}));
        }
        if errors.is_empty() {
            return Ok(Reply::json(201, &json!({"hasErrors": false, "results": made})));
        }
        state.store.records = before;
        state.store.told.truncate(told);
        Err(Reply::json(400, &json!({"hasErrors": true, "results": errors})))
    }

    fn branch(&self, state: &mut State, name: &str, record: &Value, parent: Option<(&str, &str)>, made: &mut Vec<Value>, errors: &mut Vec<Value>) {
        let reference = record.pointer("/attributes/referenceId").cloned().unwrap_or_default();
        let Some(kind) = kind(name) else {
            return errors.push(json!({"referenceId": reference, "errors": [{"statusCode": "INVALID_TYPE", "message": name, "fields": []}]}));
        };
        let (mut fields, mut children) = (Map::new(), Vec::new());
        for (key, value) in record.as_object().into_iter().flatten() {
            match value.get("records").and_then(Value::as_array) {
                Some(records) => children.extend(records.iter().cloned()),
                None => drop(fields.insert(key.clone(), value.clone())),
            }
        }
        fields.shift_remove("attributes");
        if let Some((field, id)) = parent.and_then(|(parent, id)| Some((kind.field(&format!("{parent}Id"))?, id))) {
            fields.insert(field.name.to_owned(), id.into());
        }
        match state.store.create(kind, &fields, self.shared.clock.now()) {
            Err(refused) => errors.push(json!({"referenceId": reference, "errors": [refused.item()]})),
            Ok(id) => {
                self.wrote("create", &id);
                made.push(json!({"referenceId": reference, "id": id}));
                for child in &children {
                    let name = child.pointer("/attributes/type").and_then(Value::as_str).unwrap_or_default().to_owned();
                    self.branch(state, &name, child, Some((kind.name, &id)), made, errors);
                }
            }
        }
    }
}

fn list(value: Option<&Value>) -> Vec<Value> {
    value.and_then(Value::as_array).cloned().unwrap_or_default()
}

/// The step with its references filled; `Err` names one that leads nowhere. After a create the id is `id`, after a read it is `Id`.
fn filled(value: &Value, results: &Map<String, Value>) -> Result<Value, String> {
    match value {
        Value::String(text) => {
            let mut out = String::new();
            let mut rest = text.as_str();
            while let Some(at) = rest.find("@{") {
                let end = rest[at..].find('}').map(|end| at + end).ok_or_else(|| rest.to_owned())?;
                let path = &rest[at + 2..end];
                let (reference, inside) = path.split_once('.').unwrap_or((path, ""));
                let pointer = format!("/{}", inside.replace("[", "/").replace(']', "").replace('.', "/"));
                let found =
                    results.get(reference).and_then(|result| result.pointer(&pointer)).and_then(Value::as_str).ok_or_else(|| path.to_owned())?;
                out.push_str(&rest[..at]);
                out.push_str(found);
                rest = &rest[end + 1..];
            }
            out.push_str(rest);
            Ok(out.into())
        }
        Value::Array(items) => items.iter().map(|item| filled(item, results)).collect::<Result<Vec<_>, _>>().map(Value::Array),
        Value::Object(map) => {
            map.iter().map(|(key, value)| Ok((key.clone(), filled(value, results)?))).collect::<Result<Map<_, _>, _>>().map(Value::Object)
        }
        other => Ok(other.clone()),
    }
}
