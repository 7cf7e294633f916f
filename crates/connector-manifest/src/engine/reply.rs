//! From an answer to an output: is it what the API promises, which part of it is the output, and where does the listing go on.

use std::sync::Arc;

use connector_core::{
    CallCx, Error, OpCall, OpReply, ReplyBody, Result,
    connector::{Decode, ItemError, ReplyMeta},
};
use http::header;
use serde_json::{Map, Value};

use super::{
    Engine,
    compile::HttpTool,
    errors::{Answer, Verdict},
    exchange::RawReply,
};

impl Engine {
    /// Understands an answer to `tool`.
    pub(super) fn understand(&self, tool: &HttpTool, cx: &CallCx, call: &OpCall, raw: RawReply) -> Result<OpReply> {
        let meta = self.meta(tool, &raw);
        if tool.none_on.contains(&raw.status) {
            return nothing(ReplyMeta { absent: true, ..meta }, call.decode);
        }
        let answer = Answer { cx, status: raw.status, headers: &raw.headers, body: &raw.body, args: &call.args, now: self.clock.wall() };
        if !raw.is_success() {
            return tool.settle(self.table.error(answer), meta, call.decode);
        }
        if tool.raw {
            return bytes(meta, &raw, call.decode);
        }
        if tool.nothing {
            // What nobody reads still tells who answered: a gateway's page in a 200 means that nothing was done.
            not_a_web_page(&raw)?;
            // And vendors that say 200 to everything say in the body that it was refused.
            return match self.table.inspect_success(answer, self.hooks.partial) {
                Verdict::Wrong(error) => tool.settle(error, meta, call.decode),
                Verdict::Fine | Verdict::Partial(_) => nothing(meta, call.decode),
            };
        }
        if raw.body.is_empty() && (!tool.promises || says_nothing(raw.status)) {
            return nothing(meta, call.decode);
        }
        if raw.body.is_empty() {
            return Err(Error::protocol("the vendor's answer is empty where data was promised").with_status(raw.status));
        }
        looks_like_json(&raw)?;
        let partial = match self.table.inspect_success(answer, self.hooks.partial) {
            Verdict::Fine if tool.outcomes => self.outcomes(&raw.body, &call.args)?,
            Verdict::Fine => Vec::new(),
            Verdict::Partial(items) => items,
            Verdict::Wrong(error) => return Err(error),
        };
        let next = match &tool.paging {
            Some(paging) => paging.next(cx, call.cursor.as_ref(), &raw.headers, &raw.body)?,
            None => None,
        };
        let (body, decoded) = output(tool, raw, call.decode)?;
        let mut reply = OpReply::new(body).with_decoded(decoded);
        (reply.next, reply.partial, reply.meta) = (next, partial, meta);
        Ok(reply)
    }

    /// The failed items of a reply that has an outcome for each.
    fn outcomes(&self, body: &[u8], args: &Map<String, Value>) -> Result<Vec<ItemError>> {
        let body: Value = serde_json::from_slice(body).map_err(|error| connector_core::connector::json_error(&error))?;
        Ok(self.hooks.partial.map(|read| read(&body, args)).unwrap_or_default())
    }

    fn meta(&self, tool: &HttpTool, raw: &RawReply) -> ReplyMeta {
        let header = |name: &http::HeaderName| raw.headers.get(name).and_then(|value| value.to_str().ok());
        ReplyMeta {
            status: raw.status,
            attempts: 1,
            request_id: self.table.request_id_header.as_ref().and_then(header).map(Arc::from),
            remaining: tool.allowance.as_ref().and_then(|allowance| allowance.left(&raw.headers)),
            ..ReplyMeta::default()
        }
    }
}

impl HttpTool {
    /// An error that means that what was wanted is so already is none.
    fn settle(&self, error: Error, meta: ReplyMeta, decode: Option<Decode>) -> Result<OpReply> {
        match error.vendor_code() {
            Some(code) if self.done_on.iter().any(|done| done == code) => nothing(meta, decode),
            _ => Err(error),
        }
    }
}

/// An answer without content, or one that says that there is none.
fn nothing(meta: ReplyMeta, decode: Option<Decode>) -> Result<OpReply> {
    let decoded = decode.map(|decode| decode.slice(b"")).transpose()?;
    let mut reply = OpReply::default().with_decoded(decoded);
    reply.meta = meta;
    Ok(reply)
}

/// Accepted for later (202), no content (204), reset content (205).
fn says_nothing(status: u16) -> bool {
    matches!(status, 202 | 204 | 205)
}

/// An answer that is not JSON: a file, a MIME message.
fn bytes(meta: ReplyMeta, raw: &RawReply, decode: Option<Decode>) -> Result<OpReply> {
    let content_type = raw.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("application/octet-stream");
    let body = ReplyBody::Raw { bytes: raw.body.clone(), content_type: content_type.into() };
    let decoded = decode.map(|decode| decode.value(body.to_value()?)).transpose()?;
    let mut reply = OpReply::new(body).with_decoded(decoded);
    reply.meta = meta;
    Ok(reply)
}

/// The output: the body as it came, or what `select` and `response_map` make of it.
fn output(tool: &HttpTool, raw: RawReply, decode: Option<Decode>) -> Result<(ReplyBody, Option<Box<dyn std::any::Any + Send>>)> {
    if tool.select.is_none() && tool.response_map.is_none() {
        let decoded = match decode {
            // Whoever asked for text reads it, and checks it while doing so.
            Some(decode) if decode.is_unread() => None,
            Some(decode) => Some(decode.slice(&raw.body)?),
            None => {
                serde_json::from_slice::<serde::de::IgnoredAny>(&raw.body).map_err(|error| connector_core::connector::json_error(&error))?;
                // Text that is skipped is not checked by the parser, but whoever reads it later needs it to be UTF-8.
                if std::str::from_utf8(&raw.body).is_err() {
                    return Err(Error::protocol("the vendor's answer is not UTF-8, which JSON is").with_status(raw.status));
                }
                None
            }
        };
        return Ok((ReplyBody::Json(raw.body), decoded));
    }
    let mut value: Value = serde_json::from_slice(&raw.body).map_err(|error| connector_core::connector::json_error(&error))?;
    if let Some(select) = &tool.select {
        value = select.take(value);
    }
    if let Some(map) = &tool.response_map {
        value = Value::Object(map.iter().map(|(name, path)| (name.clone(), path.select(&value))).collect::<Map<_, _>>());
    }
    let decoded = decode.map(|decode| decode.value(value.clone())).transpose()?;
    Ok((ReplyBody::Value(value), decoded))
}

/// A login page or a proxy's error in a 200 is recognised before anybody tries to read it as data.
fn looks_like_json(raw: &RawReply) -> Result<()> {
    if first_byte(raw).is_some_and(|byte| matches!(byte, b'{' | b'[' | b'"' | b't' | b'f' | b'n' | b'-' | b'0'..=b'9')) {
        return Ok(());
    }
    not_a_web_page(raw)?;
    Err(unreadable(raw, "the vendor's answer is not JSON"))
}

fn not_a_web_page(raw: &RawReply) -> Result<()> {
    if first_byte(raw) != Some(b'<') {
        return Ok(());
    }
    Err(unreadable(raw, "the vendor answered with a web page, not with data; is the base URL a login page?"))
}

fn first_byte(raw: &RawReply) -> Option<u8> {
    raw.body.iter().copied().find(|byte| !byte.is_ascii_whitespace())
}

fn unreadable(raw: &RawReply, what: &'static str) -> Error {
    let content_type = raw.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("none");
    Error::protocol(what).with_status(raw.status).with_context("content_type", connector_core::redact::printable(content_type, 60))
}
