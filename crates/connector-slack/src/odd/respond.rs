//! Answering a slash command or an interaction at its `response_url`: Slack takes five answers within half an hour, without a token.
//!
//! The address authorises by itself and comes out of an event: it goes to Slack's own host and nowhere else, and is in no error and no log.
//! <https://docs.slack.dev/interactivity/handling-user-interaction#message_responses>

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    CallCx, Error, ErrorKind, OpCall, OpReply, Result,
    clock::Instant,
    transport::{Body, Request},
};
use connector_manifest::{Engine, NativeOperation};
use http::{HeaderValue, Method, header};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use url::Url;

use super::{arguments, text::escape};

/// Where Slack takes answers.
const HOST: &str = "hooks.slack.com";
/// How many it takes at one address.
const ANSWERS: u32 = 5;
/// How long it takes them. Counted from the first one we saw, so never shorter than Slack counts.
const WINDOW: Duration = Duration::from_secs(30 * 60);
/// Addresses that are remembered at a time. More are answered uncounted: Slack itself then refuses the sixth.
const REMEMBERED: usize = 10_000;

/// The native operation `slack_respond`.
#[derive(Debug, Default)]
pub(crate) struct Respond {
    /// The digest of an address (never the address): when it was first answered and how often.
    used: Mutex<HashMap<[u8; 32], (Instant, u32)>>,
}

#[derive(Deserialize)]
struct Args {
    response_url: String,
    text: Option<String>,
    blocks: Option<Value>,
    response_type: Option<String>,
    replace_original: Option<bool>,
    delete_original: Option<bool>,
    thread_ts: Option<String>,
    mentions: Option<bool>,
}

#[async_trait]
impl NativeOperation for Respond {
    async fn call(&self, engine: &Engine, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let args: Args = arguments(&call)?;
        if args.text.is_none() && args.blocks.is_none() && args.delete_original != Some(true) {
            return Err(Error::invalid("an answer needs `text`, `blocks` or `delete_original`"));
        }
        let url = address(cx, &args.response_url)?;
        let digest: [u8; 32] = Sha256::digest(args.response_url.as_bytes()).into();
        self.take(digest, engine.clock().now())?;
        let text = args.text.map(|text| if args.mentions == Some(true) { text } else { escape(&text) });
        let mut body = json!({
            "text": text, "blocks": args.blocks, "response_type": args.response_type, "replace_original": args.replace_original,
            "delete_original": args.delete_original, "thread_ts": args.thread_ts,
        });
        if let Some(body) = body.as_object_mut() {
            body.retain(|_, value| !value.is_null());
        }
        let mut request = Request::new(Method::POST, url);
        request.head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        request.body = Body::Bytes(Bytes::from(body.to_string()));
        match engine.send_raw(cx, request, false).await {
            Ok(reply) if reply.is_success() => OpReply::from_value(Value::Null, call.decode),
            // What Slack says here is text, and not the same everywhere (unverified); the status is what counts.
            Ok(reply) if reply.status == 404 || reply.status == 410 => Err(Error::new(ErrorKind::NotFound, SPENT).with_status(reply.status)),
            Ok(reply) => Err(engine.error_for(cx, &reply)),
            Err(error) => {
                if error.kind() == ErrorKind::NotSent {
                    self.give_back(digest);
                }
                Err(error)
            }
        }
    }
}

/// What is said where an address takes nothing any more.
const SPENT: &str = "this response_url takes no more answers: Slack takes five within 30 minutes; use slack_send_message instead";

impl Respond {
    /// Counts an answer, or refuses the sixth and the late one before anything is sent.
    fn take(&self, digest: [u8; 32], now: Instant) -> Result<()> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() >= REMEMBERED {
            used.retain(|_, (first, _)| now.duration_since(*first) < WINDOW);
        }
        if used.len() >= REMEMBERED && !used.contains_key(&digest) {
            return Ok(());
        }
        let (first, count) = used.entry(digest).or_insert((now, 0));
        if *count >= ANSWERS || now.duration_since(*first) >= WINDOW {
            return Err(Error::new(ErrorKind::Conflict, SPENT));
        }
        *count += 1;
        Ok(())
    }

    /// An answer that surely did not leave does not count.
    fn give_back(&self, digest: [u8; 32]) {
        if let Some((_, count)) = self.used.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&digest) {
            *count = count.saturating_sub(1);
        }
    }
}

/// The address, if it is Slack's own host for answers, or (for sandboxes) the connection's.
fn address(cx: &CallCx, text: &str) -> Result<Url> {
    let url = Url::parse(text).map_err(|_| Error::invalid("`response_url` is not a URL; take it from the event as it is"))?;
    let own = url.origin() == cx.connection.base_url.origin();
    let slack = url.scheme() == "https" && url.host_str() == Some(HOST) && url.port().is_none();
    if !(own || slack) || !url.username().is_empty() || url.password().is_some() {
        return Err(Error::new(ErrorKind::Denied, format!("`response_url` leads to another host than {HOST}; nothing was sent there")));
    }
    Ok(url)
}
