//! Finds out whether an ambiguous write happened, by the read its operation declares.

use super::path;
use crate::{
    connector::{Connector, OpCall, OpReply, ReplyBody},
    context::CallCx,
    error::{Error, ErrorKind},
    spec::{Effect, OpSpec},
};

/// What looking found.
pub(super) enum Finding {
    /// It happened; this is the record.
    Done(OpReply),
    /// It certainly did not happen.
    NotDone,
    /// The look itself failed.
    Unsure(Error),
}

/// Looks through `connector`, in the context of the write but without its key.
pub(super) async fn look(connector: &dyn Connector, cx: &CallCx, op: &OpSpec, write: &OpCall) -> Finding {
    let Some(lookup) = &op.lookup else { return Finding::Unsure(Error::unsupported("the operation declares no lookup")) };
    match connector.spec().operation(&lookup.tool) {
        Some(read) if read.effect == Effect::Read => {}
        _ => return Finding::Unsure(Error::config(format!("the lookup `{}` of `{}` is not a read of this connector", lookup.tool, op.name))),
    }
    let mut args = serde_json::Map::new();
    for (name, path) in &lookup.by {
        let Some(value) = path::select_in(&write.args, path) else {
            return Finding::Unsure(Error::invalid(format!("the write has no value at `{path}` to look for")));
        };
        args.insert(name.to_string(), value.clone());
    }
    let mut cx = cx.clone();
    cx.idempotency_key = None;
    let reply = match connector.call(&cx, OpCall::new(lookup.tool.clone(), args)).await {
        Ok(reply) if reply.meta.absent => return Finding::NotDone,
        Ok(reply) => reply,
        Err(error) if error.kind() == ErrorKind::NotFound => return Finding::NotDone,
        Err(error) => return Finding::Unsure(error),
    };
    let body = match reply.body.to_value() {
        Ok(body) => body,
        Err(error) => return Finding::Unsure(error),
    };
    let record = path::select(&body, lookup.found.as_deref().unwrap_or("."));
    let Some(record) = record.filter(|record| !record.is_null() && record.as_array().is_none_or(|list| !list.is_empty())) else {
        return Finding::NotDone;
    };
    // A record that does not read as the write's output is still the proof that it happened.
    let mut found = OpReply::from_value(record.clone(), write.decode).unwrap_or_else(|_| OpReply::new(ReplyBody::Value(record.clone())));
    found.meta = reply.meta;
    found.meta.reconciled = true;
    Finding::Done(found)
}
