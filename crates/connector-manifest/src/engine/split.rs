//! A long list of inputs, cut into requests the vendor accepts. Outcomes stay per item: what succeeded stands, what failed is named.

use connector_core::{CallCx, Error, OpCall, OpReply, ReplyBody, Result, connector::Decode};
use serde_json::{Map, Value};

use super::{
    Engine,
    compile::{CompiledTool, HttpTool, Split},
};

impl Engine {
    /// Carries out a call whose list is longer than one request takes, one slice after the other.
    ///
    /// A slice that fails as a whole fails its items; the slices before it stand, so the call as a whole is then partial. Only a first
    /// slice that fails is the call's own error.
    pub(super) async fn call_split(&self, tool: &CompiledTool, http: &HttpTool, split: &Split, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let inputs = call.args.get(&split.by).and_then(Value::as_array).cloned().unwrap_or_default();
        let mut joined: Option<(Value, Vec<Value>)> = None;
        let mut whole = OpReply::default();
        for (number, slice) in inputs.chunks(split.max).enumerate() {
            let offset = number * split.max;
            let mut args = call.args.clone();
            args.insert(split.by.clone(), Value::Array(slice.to_vec()));
            // Each slice is a write of its own; the vendor must not take the second for a repetition of the first.
            let cx = match &cx.idempotency_key {
                Some(key) => cx.clone().with_idempotency_key(format!("{key}:{number}")),
                None => cx.clone(),
            };
            let reply = self.call_http(tool, http, &cx, OpCall { args, decode: None, ..call.clone() }).await;
            match reply {
                Ok(mut reply) => {
                    whole.partial.extend(reply.partial.drain(..).map(|mut item| {
                        item.index = item.index.map(|index| index + offset);
                        item
                    }));
                    whole.meta.status = whole.meta.status.max(reply.meta.status);
                    whole.meta.attempts = whole.meta.attempts.max(reply.meta.attempts);
                    let body = reply.body.to_value()?;
                    let items = split.items.get(&body).and_then(Value::as_array).cloned().unwrap_or_default();
                    match &mut joined {
                        Some((_, all)) => all.extend(items),
                        None => joined = Some((body, items)),
                    }
                }
                Err(error) if number == 0 => return Err(error),
                Err(error) => whole.partial.extend((offset..offset + slice.len()).map(|index| failed(index, &error))),
            }
        }
        let (first, items) = joined.unwrap_or((Value::Object(Map::new()), Vec::new()));
        let body = put(first, split, items);
        let decoded = call.decode.map(|decode: Decode| decode.value(body.clone())).transpose()?;
        whole.body = ReplyBody::Value(body);
        Ok(whole.with_decoded(decoded))
    }
}

fn failed(index: usize, error: &Error) -> connector_core::connector::ItemError {
    connector_core::connector::ItemError {
        index: Some(index),
        key: None,
        kind: error.kind(),
        message: error.message().to_owned(),
        vendor_code: error.vendor_code().map(str::to_owned),
        retryable: error.kind().is_passing(),
    }
}

/// The first reply with all items in place of its own.
fn put(mut first: Value, split: &Split, items: Vec<Value>) -> Value {
    match split.items.get_mut(&mut first) {
        Some(place) => {
            *place = Value::Array(items);
            first
        }
        // The first slice gave no list; there is no better place for those of the others.
        None => Value::Array(items),
    }
}
