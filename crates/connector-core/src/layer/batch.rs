//! Turns concurrent single calls into one batch call, where the operation declares how.

use std::{
    collections::HashMap,
    hash::{Hash, Hasher},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use serde_json::Value;

use super::{Layer, forward_to_inner, path};
use crate::{
    connector::{Args, Connector, ItemError, OpCall, OpReply, ReplyBody, ReplyMeta},
    context::{CallCx, ConnectionId, TenantId, WorkspaceId},
    error::{Error, ErrorKind, Result},
    resilience::Batcher,
    spec::{BatchSpec, ConnectorSpec, OpSpec},
};

/// How many collections are kept before those nobody waits in are forgotten.
const KEEP: usize = 256;

/// Collects single calls of operations that declare a batch.
#[derive(Debug, Clone, Copy, Default)]
pub struct BatchLayer;

impl Layer for BatchLayer {
    fn apply(&self, inner: Arc<dyn Connector>) -> Arc<dyn Connector> {
        if inner.spec().operations().iter().all(|op| op.batch.is_none()) {
            return inner;
        }
        Arc::new(Batching { spec: inner.spec().clone(), inner, groups: Mutex::new(HashMap::new()) })
    }
}

/// Only calls that differ in nothing but the collected value share a batch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Group {
    operation: Arc<str>,
    tenant: TenantId,
    connection: ConnectionId,
    workspace: WorkspaceId,
    shared: String,
}

/// One collected value: compared by its text, sent as it came. It brings its context along, because the batch goes out in
/// that of its first caller: a connection may have been changed since the batch before.
#[derive(Debug, Clone)]
struct Item {
    text: Arc<str>,
    args: Args,
    cx: Arc<CallCx>,
}

impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Item {}

impl Hash for Item {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

/// What each caller gets: its part of the reply, and how that came to be.
type Answer = (ReplyBody, ReplyMeta);

#[derive(Debug)]
struct Batching {
    spec: Arc<ConnectorSpec>,
    inner: Arc<dyn Connector>,
    groups: Mutex<HashMap<Group, Arc<Batcher<Item, Answer>>>>,
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

impl Batching {
    /// The group and value of a call, if it can be part of a batch at all.
    fn place(cx: &CallCx, op: &OpSpec, batch: &BatchSpec, call: &OpCall) -> Option<(Group, Item)> {
        let text = text_of(call.args.get(&*batch.by)?)?;
        let fits = |name: &str, value: &Value| {
            name == &*batch.by || batch.share.iter().any(|shared| **shared == *name) || batch.args.get(name) == Some(value)
        };
        if call.cursor.is_some() || !call.args.iter().all(|(name, value)| fits(name, value)) {
            return None;
        }
        let shared: Vec<_> = batch.share.iter().filter_map(|name| call.args.get(&**name).map(|value| (&**name, value))).collect();
        let group = Group {
            operation: op.name.clone(),
            tenant: cx.tenant().clone(),
            connection: cx.connection.id.clone(),
            workspace: cx.workspace.clone(),
            shared: if shared.is_empty() { String::new() } else { serde_json::to_string(&shared).ok()? },
        };
        // A batch is nobody's own call: it has neither one caller's deadline nor its key.
        let mut cx = cx.clone();
        cx.deadline = None;
        cx.idempotency_key = None;
        Some((group, Item { text: text.into(), args: call.args.clone(), cx: Arc::new(cx) }))
    }

    fn batcher(&self, op: &Arc<OpSpec>, batch: &BatchSpec, group: Group) -> Arc<Batcher<Item, Answer>> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if groups.len() >= KEEP && !groups.contains_key(&group) {
            groups.retain(|_, batcher| Arc::strong_count(batcher) > 1 || !batcher.is_empty());
        }
        let make = || {
            let (inner, op, batch) = (self.inner.clone(), op.clone(), batch.clone());
            let window = Duration::from_millis(batch.window_ms);
            Arc::new(Batcher::new(batch.max, window, move |items| send(inner.clone(), op.clone(), batch.clone(), items).boxed()))
        };
        groups.entry(group).or_insert_with(make).clone()
    }
}

/// Sends one batch and gives each item its part of the reply.
async fn send(inner: Arc<dyn Connector>, op: Arc<OpSpec>, batch: BatchSpec, items: Vec<Item>) -> Result<HashMap<Item, Result<Answer>>> {
    let Some(first) = items.first() else { return Ok(HashMap::new()) };
    let cx = &*first.cx;
    let batched = |mut meta: ReplyMeta| {
        meta.batched = items.len() > 1;
        meta
    };
    if let [only] = items.as_slice() {
        let reply = inner.call(cx, OpCall::new(op.name.clone(), only.args.clone())).await?;
        return Ok(HashMap::from([(only.clone(), Ok((reply.body, batched(reply.meta))))]));
    }
    let mut args = batch.args.clone();
    args.extend(batch.share.iter().filter_map(|name| Some((name.to_string(), first.args.get(&**name)?.clone()))));
    let values = items.iter().filter_map(|item| item.args.get(&*batch.by)).map(|value| match &batch.input {
        None => value.clone(),
        Some(shape) => fill(shape, &batch.by, value),
    });
    args.insert(batch.into.to_string(), values.collect());
    let reply = inner.call(cx, OpCall::new(batch.tool.clone(), args)).await?;
    let body = reply.body.to_value()?;
    let results = path::select(&body, &batch.items).and_then(Value::as_array);
    let results = results.ok_or_else(|| Error::protocol(format!("the batch reply has no list at `{}`", batch.items)))?;

    let mut found = HashMap::with_capacity(items.len());
    let by_text: HashMap<&str, &Value> = results
        .iter()
        .filter_map(|result| Some((path::select(result, &batch.key)?, result)))
        .filter_map(|(key, result)| Some((key.as_str()?, result)))
        .collect();
    let by_loose_text: HashMap<String, &Value> =
        results.iter().filter_map(|result| Some((text_of(path::select(result, &batch.key)?)?.to_lowercase(), result))).collect();
    for (at, item) in items.iter().enumerate() {
        // Vendors fold the case of e-mail addresses and the like; an exact match goes first.
        let result = by_text.get(&*item.text).or_else(|| by_loose_text.get(&item.text.to_lowercase()));
        let failed = || reply.partial.iter().find(|failed| failed.index == Some(at) || failed.key.as_deref() == Some(&item.text));
        let answer = match (result, failed()) {
            (Some(result), _) => Ok((ReplyBody::Value((*result).clone()), batched(reply.meta.clone()))),
            (None, Some(failed)) if failed.kind == ErrorKind::NotFound && op.absent_is_answer => {
                Ok((ReplyBody::Empty, ReplyMeta { absent: true, ..batched(reply.meta.clone()) }))
            }
            (None, Some(failed)) => Err(item_error(failed)),
            // The vendor may know the thing under another value of the key (a second e-mail address): only the single call can tell.
            (None, None) => {
                let single = inner.call(&item.cx, OpCall::new(op.name.clone(), (*item.args).clone())).await;
                single.map(|reply| (reply.body, reply.meta))
            }
        };
        found.insert(item.clone(), answer);
    }
    Ok(found)
}

/// What the batch says about one failed item, as the single call would say it.
fn item_error(failed: &ItemError) -> Error {
    let error = Error::new(failed.kind, failed.message.clone());
    match &failed.vendor_code {
        Some(code) => error.with_vendor_code(code.clone()),
        None => error,
    }
}

/// Puts the value in the place of `{name}` in a shape. A placeholder that is the whole text keeps the value's type.
fn fill(shape: &Value, name: &str, value: &Value) -> Value {
    match shape {
        Value::String(text) => match text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(inside) if inside == name => value.clone(),
            _ => match text_of(value) {
                Some(plain) => Value::String(text.replace(&format!("{{{name}}}"), &plain)),
                None => shape.clone(),
            },
        },
        Value::Array(list) => list.iter().map(|shape| fill(shape, name, value)).collect(),
        Value::Object(map) => map.iter().map(|(key, shape)| (key.clone(), fill(shape, name, value))).collect(),
        other => other.clone(),
    }
}

#[async_trait]
impl Connector for Batching {
    forward_to_inner!();

    async fn call(&self, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let spec = &self.spec;
        let Some((op, batch)) = spec.operation(&call.operation).and_then(|op| Some((op, op.batch.as_ref()?))) else {
            return self.inner.call(cx, call).await;
        };
        let Some((group, item)) = Self::place(cx, op, batch, &call) else { return self.inner.call(cx, call).await };
        let batcher = self.batcher(op, batch, group);
        let answer = batcher.get(item);
        let (body, meta) = match cx.deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, answer)
                .await
                .unwrap_or_else(|_| Err(Error::new(ErrorKind::Timeout, "the batch did not answer before the deadline"))),
            None => answer.await,
        }
        .map_err(|error| error.at(&spec.id, &op.name))?;
        let decoded = match (&body, call.decode) {
            (_, None) => None,
            (ReplyBody::Json(bytes), Some(decode)) => Some(decode.slice(bytes)?),
            (other, Some(decode)) => Some(decode.value(other.to_value()?)?),
        };
        let mut reply = OpReply::new(body).with_decoded(decoded);
        reply.meta = meta;
        Ok(reply)
    }
}
