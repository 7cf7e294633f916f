//! `$batch`: many requests in one, 20 at a time, one outcome each. <https://learn.microsoft.com/graph/json-batching>
//!
//! The outer 200 says nothing about the inner ones. Owns the cutting, the order of the answers and the repeating of throttled items
//! alone. Refuses to repeat a write whose outcome is unclear.

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;
use connector_core::{
    CallCx, Error, ErrorKind, OpCall, OpReply, Result,
    connector::ItemError,
    transport::{Body, Request},
};
use connector_manifest::{Engine, NativeOperation, RawReply};
use http::{HeaderMap, HeaderValue, Method, header};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::args::{arguments, mailbox, may_have_happened, pause, segment};

/// The most requests in one batch.
pub(crate) const MOST: usize = 20;
/// How often an item is sent that asks for patience.
const TRIES: u32 = 4;
/// The wait for a throttled item that does not say how long.
const BASE_WAIT: Duration = Duration::from_secs(1);
/// The longest wait made inside a batch.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The outcome of one inner request.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// Its id.
    pub(crate) id: String,
    /// Its status; 0 if there was no answer for it.
    pub(crate) status: u16,
    /// Its headers.
    pub(crate) headers: Map<String, Value>,
    /// Its body.
    pub(crate) body: Value,
}

/// The code of an item nobody knows the outcome of.
const UNCLEAR: &str = "outcomeUnclear";
/// The code of an item that was certainly not carried out.
const NOT_SENT: &str = "notSent";

impl Outcome {
    fn without_answer(request: &Map<String, Value>, code: &str) -> Self {
        let id = request.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        Self { id, status: 0, headers: Map::new(), body: json!({ "error": { "code": code } }) }
    }

    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The error it stands for, by the connector's table.
    fn error(&self, engine: &Engine, cx: &CallCx) -> Error {
        if self.status == 0 && self.body["error"]["code"] == NOT_SENT {
            return Error::new(ErrorKind::NotSent, "the batch ended before this request was sent").with_vendor_code(NOT_SENT);
        }
        if self.status == 0 {
            return Error::new(ErrorKind::Unknown, "the batch gave no outcome for this request").with_vendor_code(UNCLEAR);
        }
        let body = serde_json::to_vec(&self.body).unwrap_or_default();
        engine.error_for(cx, &RawReply { status: self.status, headers: self.header_map(), body: body.into() })
    }

    fn header_map(&self) -> HeaderMap {
        let pairs = self
            .headers
            .iter()
            .filter_map(|(name, value)| Some((name.parse::<http::HeaderName>().ok()?, HeaderValue::from_str(value.as_str()?).ok()?)));
        pairs.collect()
    }

    /// How long to wait before it is sent again; `None`: it is not.
    fn wait(&self, method: &str, tries: u32) -> Option<Duration> {
        // A throttled request was not carried out, whatever it is; after 503 and 504 only reading is harmless.
        let again = self.status == 429 || (matches!(self.status, 503 | 504) && method.eq_ignore_ascii_case("GET"));
        if !again {
            return None;
        }
        let named = self.header_map().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse::<f64>().ok());
        let told = named.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok());
        Some(told.unwrap_or(BASE_WAIT * 2_u32.saturating_pow(tries)))
    }
}

/// Sends requests and gives their outcomes in the same order. Ids are made where there are none.
pub(crate) async fn run(engine: &Engine, cx: &CallCx, requests: Vec<Map<String, Value>>) -> Result<Vec<Outcome>> {
    let requests = prepared(requests)?;
    let mut outcomes = Vec::with_capacity(requests.len());
    for chunk in requests.chunks(MOST) {
        match run_chunk(engine, cx, chunk).await {
            Ok(made) => outcomes.extend(made),
            Err(error) if outcomes.is_empty() => return Err(error),
            // What was carried out stands and must be told.
            Err(error) => {
                let code = if may_have_happened(&error) { UNCLEAR } else { NOT_SENT };
                outcomes.extend(chunk.iter().map(|request| Outcome::without_answer(request, code)));
                let rest = requests.iter().skip(outcomes.len());
                let rest: Vec<Outcome> = rest.map(|request| Outcome::without_answer(request, NOT_SENT)).collect();
                outcomes.extend(rest);
                return Ok(outcomes);
            }
        }
    }
    Ok(outcomes)
}

/// Checks requests and fills in what Graph insists on.
fn prepared(mut requests: Vec<Map<String, Value>>) -> Result<Vec<Map<String, Value>>> {
    let mut seen = HashMap::new();
    for (at, request) in requests.iter_mut().enumerate() {
        let wrong = |what: &str| Err(Error::invalid(format!("request {} of the batch {what}", at + 1)));
        let id = match request.get("id") {
            None | Some(Value::Null) => (at + 1).to_string(),
            Some(Value::String(id)) if !id.is_empty() => id.clone(),
            Some(_) => return wrong("has an id that is not text"),
        };
        if seen.insert(id.to_lowercase(), at).is_some() {
            return wrong("has an id that another one has too; ids are compared without case");
        }
        if !request.get("url").and_then(Value::as_str).is_some_and(|url| url.starts_with('/') && !url.starts_with("//")) {
            return wrong("needs a `url` relative to the API version, starting with `/`");
        }
        if request.get("method").and_then(Value::as_str).is_none_or(|method| Method::from_bytes(method.as_bytes()).is_err()) {
            return wrong("needs a `method`");
        }
        for needed in request.get("dependsOn").and_then(Value::as_array).into_iter().flatten() {
            let found = needed.as_str().and_then(|id| seen.get(&id.to_lowercase()).copied());
            if found.is_none_or(|found| found == at || found / MOST != at / MOST) {
                return wrong("depends on one that is not before it among the same 20");
            }
        }
        request.insert("id".into(), id.into());
        let has_body = request.get("body").is_some_and(|body| !body.is_null());
        if !has_body {
            request.remove("body");
        }
        let headers = request.entry("headers").or_insert_with(|| json!({}));
        let Some(headers) = headers.as_object_mut() else { return wrong("has headers that are not an object") };
        let has = |headers: &Map<String, Value>, name: &str| headers.keys().any(|known| known.eq_ignore_ascii_case(name));
        if has_body && !has(headers, "content-type") {
            headers.insert("Content-Type".into(), "application/json".into());
        }
        // Headers of the batch itself do not reach the requests inside.
        if !has(headers, "prefer") {
            headers.insert("Prefer".into(), "IdType=\"ImmutableId\"".into());
        }
    }
    Ok(requests)
}

async fn run_chunk(engine: &Engine, cx: &CallCx, chunk: &[Map<String, Value>]) -> Result<Vec<Outcome>> {
    let mut done: HashMap<String, Outcome> = HashMap::with_capacity(chunk.len());
    let mut open: Vec<Map<String, Value>> = chunk.to_vec();
    for tries in 0..TRIES {
        let answered = post(engine, cx, &open).await;
        let answered = match answered {
            Ok(answered) => answered,
            // What succeeded stands; only the throttled rest is as the error says.
            Err(error) if tries > 0 => {
                if may_have_happened(&error) {
                    done.extend(open.iter().map(|request| (key(request), Outcome::without_answer(request, UNCLEAR))));
                }
                break;
            }
            Err(error) => return Err(error),
        };
        let mut wait = Duration::ZERO;
        let mut again: Vec<String> = Vec::new();
        for request in &open {
            let id = key(request);
            let outcome = answered.get(&id).cloned().unwrap_or_else(|| Outcome::without_answer(request, UNCLEAR));
            let depends_on_again = || {
                let needs = request.get("dependsOn").and_then(Value::as_array).into_iter().flatten();
                needs.filter_map(Value::as_str).any(|needed| again.contains(&needed.to_lowercase()))
            };
            if let Some(told) = outcome.wait(request["method"].as_str().unwrap_or_default(), tries) {
                wait = wait.max(told);
                again.push(id.clone());
            } else if outcome.status == 424 && depends_on_again() {
                again.push(id.clone());
            }
            done.insert(id, outcome);
        }
        if again.is_empty() || wait > LONGEST_WAIT || tries + 1 == TRIES || pause(cx, wait).await.is_err() {
            break;
        }
        open.retain(|request| again.contains(&key(request)));
        for request in &mut open {
            // What it depended on and what succeeded is not in this batch any more.
            if let Some(needs) = request.get_mut("dependsOn").and_then(Value::as_array_mut) {
                needs.retain(|needed| needed.as_str().is_some_and(|needed| again.contains(&needed.to_lowercase())));
            }
        }
    }
    chunk.iter().map(|request| done.remove(&key(request)).ok_or_else(|| Error::internal("a request of the batch was lost"))).collect()
}

fn key(request: &Map<String, Value>) -> String {
    request.get("id").and_then(Value::as_str).unwrap_or_default().to_lowercase()
}

/// One `POST /$batch`.
async fn post(engine: &Engine, cx: &CallCx, requests: &[Map<String, Value>]) -> Result<HashMap<String, Outcome>> {
    let address = format!("{}/$batch", cx.connection.base());
    let url = address.parse().map_err(|error| Error::config("the address of the batch cannot be parsed; check the base URL").with_source(error))?;
    let mut request = Request::new(Method::POST, url);
    request.head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    request.head.headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    let body =
        serde_json::to_vec(&json!({ "requests": requests })).map_err(|error| Error::internal("a batch cannot be written").with_source(error))?;
    request.body = Body::from(bytes::Bytes::from(body));
    let reply = engine.send_raw(cx, request, true).await?;
    if !reply.is_success() {
        return Err(engine.error_for(cx, &reply));
    }
    let value: Value = serde_json::from_slice(&reply.body).map_err(|error| connector_core::connector::json_error(&error))?;
    let responses = value["responses"].as_array().ok_or_else(|| Error::protocol("the answer of the batch lists no responses"))?;
    Ok(responses
        .iter()
        .filter_map(|response| {
            let id = response["id"].as_str()?;
            let outcome = Outcome {
                id: id.to_owned(),
                status: response["status"].as_u64().and_then(|status| u16::try_from(status).ok()).unwrap_or(0),
                headers: response["headers"].as_object().cloned().unwrap_or_default(),
                body: response["body"].clone(),
            };
            Some((id.to_lowercase(), outcome))
        })
        .collect())
}

/// The failed ones, for callers that look at [`OpReply::partial`].
fn failures(engine: &Engine, cx: &CallCx, outcomes: &[Outcome], names: &[String]) -> Vec<ItemError> {
    let failed = outcomes.iter().zip(names).enumerate().filter(|(_, (outcome, _))| !outcome.is_success());
    failed
        .map(|(index, (outcome, name))| {
            let error = outcome.error(engine, cx);
            ItemError {
                index: Some(index),
                key: Some(name.clone()),
                kind: error.kind(),
                message: error.message().to_owned(),
                vendor_code: error.vendor_code().map(str::to_owned),
                retryable: error.kind().is_passing(),
            }
        })
        .collect()
}

/// The native operation `msgraph_batch`.
#[derive(Debug)]
pub(crate) struct Batch;

#[derive(Deserialize)]
struct BatchArgs {
    requests: Vec<Map<String, Value>>,
}

#[async_trait]
impl NativeOperation for Batch {
    async fn call(&self, engine: &Engine, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let args: BatchArgs = arguments(&call)?;
        let outcomes = run(engine, cx, args.requests).await?;
        let names: Vec<String> = outcomes.iter().map(|outcome| outcome.id.clone()).collect();
        let partial = failures(engine, cx, &outcomes, &names);
        let failed = partial.len();
        let responses: Vec<Value> = outcomes
            .into_iter()
            .map(|outcome| json!({ "id": outcome.id, "status": outcome.status, "headers": outcome.headers, "body": outcome.body }))
            .collect();
        let mut reply = OpReply::from_value(json!({ "responses": responses, "failed": failed }), call.decode)?;
        reply.partial = partial;
        Ok(reply)
    }
}

/// The native operations that do the same to many messages.
#[derive(Debug)]
pub(crate) enum Bulk {
    /// `msgraph_get_messages`.
    Get,
    /// `msgraph_update_messages`.
    Update,
    /// `msgraph_move_messages`.
    Move,
}

#[derive(Deserialize)]
struct BulkArgs {
    user: Option<String>,
    message_ids: Vec<String>,
    #[serde(default)]
    select: Vec<String>,
    is_read: Option<bool>,
    categories: Option<Vec<String>>,
    importance: Option<String>,
    flag_status: Option<String>,
    destination: Option<String>,
}

impl Bulk {
    fn request(&self, user: &str, id: &str, args: &BulkArgs) -> Result<Map<String, Value>> {
        let url = format!("/users/{}/messages/{}", segment(user), segment(id));
        let (method, url, body) = match self {
            Self::Get if args.select.is_empty() => ("GET", url, Value::Null),
            Self::Get => ("GET", format!("{url}?$select={}", segment(&args.select.join(",")).replace("%2C", ",")), Value::Null),
            Self::Move => ("POST", format!("{url}/move"), json!({ "destinationId": args.destination })),
            Self::Update => {
                let mut change = Map::new();
                let mut set = |name: &str, value: Option<Value>| value.map(|value| change.insert(name.into(), value));
                set("isRead", args.is_read.map(Into::into));
                set("categories", args.categories.clone().map(Into::into));
                set("importance", args.importance.clone().map(Into::into));
                set("flag", args.flag_status.as_ref().map(|status| json!({ "flagStatus": status })));
                if change.is_empty() {
                    return Err(Error::invalid("nothing to change; give `is_read`, `categories`, `importance` or `flag_status`"));
                }
                ("PATCH", url, Value::Object(change))
            }
        };
        let mut request = Map::new();
        request.insert("method".into(), method.into());
        request.insert("url".into(), url.into());
        request.insert("body".into(), body);
        Ok(request)
    }
}

#[async_trait]
impl NativeOperation for Bulk {
    async fn call(&self, engine: &Engine, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let args: BulkArgs = arguments(&call)?;
        let user = mailbox(cx, args.user.as_deref())?;
        let requests = args.message_ids.iter().map(|id| self.request(&user, id, &args)).collect::<Result<Vec<_>>>()?;
        let outcomes = run(engine, cx, requests).await?;
        let partial = failures(engine, cx, &outcomes, &args.message_ids);
        let results: Vec<Value> = outcomes
            .into_iter()
            .zip(&args.message_ids)
            .enumerate()
            .map(|(index, (outcome, id))| {
                let mut item = json!({ "id": id, "status": outcome.status });
                if outcome.is_success() {
                    item["message"] = outcome.body;
                } else if let Some(code) = partial.iter().find(|error| error.index == Some(index)).and_then(|error| error.vendor_code.as_ref()) {
                    item["error"] = code.as_str().into();
                }
                item
            })
            .collect();
        let mut reply = OpReply::from_value(json!({ "results": results, "failed": partial.len() }), call.decode)?;
        reply.partial = partial;
        Ok(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepare(requests: Value) -> Result<Vec<Map<String, Value>>> {
        prepared(serde_json::from_value(requests).unwrap())
    }

    #[test]
    fn requests_get_what_graph_insists_on() {
        let made =
            prepare(json!([{ "method": "PATCH", "url": "/me", "body": { "a": 1 }, "headers": { "PREFER": "x" } }, { "method": "GET", "url": "/b" }]))
                .unwrap();
        assert_eq!(
            Value::from(made.into_iter().map(Value::from).collect::<Vec<_>>()),
            json!([
                { "method": "PATCH", "url": "/me", "body": { "a": 1 }, "headers": { "PREFER": "x", "Content-Type": "application/json" }, "id": "1" },
                { "method": "GET", "url": "/b", "id": "2", "headers": { "Prefer": "IdType=\"ImmutableId\"" } },
            ])
        );
    }

    #[test]
    fn what_graph_would_refuse_is_refused_here() {
        for (requests, why) in [
            (json!([{ "id": "a", "method": "GET", "url": "/a" }, { "id": "A", "method": "GET", "url": "/b" }]), "without case"),
            (json!([{ "method": "GET", "url": "https://evil.example/a" }]), "relative"),
            (json!([{ "method": "GET", "url": "//evil.example/a" }]), "relative"),
            (json!([{ "url": "/a" }]), "needs a `method`"),
            (json!([{ "id": 7, "method": "GET", "url": "/a" }]), "not text"),
            (json!([{ "method": "GET", "url": "/a", "dependsOn": ["2"] }, { "method": "GET", "url": "/b" }]), "depends on"),
        ] {
            let error = prepare(requests).unwrap_err();
            assert!(error.message().contains(why), "{error}");
        }
        let mut many: Vec<Value> = (0..21).map(|_| json!({ "method": "GET", "url": "/a" })).collect();
        many[20]["dependsOn"] = json!(["1"]);
        assert!(prepare(many.into()).unwrap_err().message().contains("same 20"));
    }
}
