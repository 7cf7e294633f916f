//! Sending a message that must be there once. Slack has no idempotency key, so each message carries a mark in its metadata, and after an
//! unclear failure the channel (or thread) is searched for it before anything is sent again.
//!
//! <https://docs.slack.dev/messaging/message-metadata>

use std::time::Duration;

use async_trait::async_trait;
use connector_core::{CallCx, Cursor, Error, ErrorKind, OpCall, OpReply, Result, clock::unix_seconds};
use connector_manifest::{Engine, NativeOperation};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{arguments, channel, may_have_happened, text::escape};

/// What the mark is called. People do not see it; other apps with access to the channel do.
const EVENT_TYPE: &str = "connectors_message";
/// Slack's clock and ours need not agree to the second.
const SLACK: Duration = Duration::from_secs(60);
/// How far back a keyed message is searched: a caller who repeats later than that means another one.
const KEYED_BACK: Duration = Duration::from_secs(24 * 3600);
/// How many pages are read for it.
const PAGES: usize = 3;
/// Messages per page; apps sold outside the Marketplace get 15 of them, whatever is asked for.
const PAGE: u32 = 200;

/// The native operation `slack_send_message`.
#[derive(Debug)]
pub(crate) struct SendOnce;

#[derive(Deserialize)]
struct Args {
    channel: Option<String>,
    text: Option<String>,
    blocks: Option<Value>,
    thread_ts: Option<String>,
    reply_broadcast: Option<bool>,
    mentions: Option<bool>,
    unfurl_links: Option<bool>,
}

#[async_trait]
impl NativeOperation for SendOnce {
    async fn call(&self, engine: &Engine, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let args: Args = arguments(&call)?;
        let channel = channel(cx, args.channel)?;
        if args.text.is_none() && args.blocks.is_none() {
            return Err(Error::invalid("a message needs `text` or `blocks`"));
        }
        let text = args.text.map(|text| if args.mentions == Some(true) { text } else { escape(&text) });
        let mark = mark(cx);
        let place = Place { channel: &channel, thread: args.thread_ts.as_deref() };
        let started = engine.clock().wall();
        // A caller's key may come from a run that died after sending.
        if cx.idempotency_key.is_some()
            && let Ok(Some(sent)) = find(engine, cx, &place, &mark, unix_seconds(started - KEYED_BACK)).await
        {
            return OpReply::from_value(sent, call.decode);
        }
        let message = json!({
            "channel": channel, "text": text, "blocks": args.blocks, "thread_ts": args.thread_ts, "reply_broadcast": args.reply_broadcast,
            "unfurl_links": args.unfurl_links, "metadata": { "event_type": EVENT_TYPE, "event_payload": { "key": mark } },
        });
        let unclear = match engine.call_value(cx, "slack_post_message", message.clone()).await {
            Ok(reply) => return OpReply::from_value(posted(&reply), call.decode),
            Err(error) if may_have_happened(&error) => error,
            Err(error) => return Err(error),
        };
        let since = unix_seconds(started - SLACK);
        match find(engine, cx, &place, &mark, since).await {
            Ok(Some(sent)) => return OpReply::from_value(sent, call.decode),
            Ok(None) => {}
            Err(why) => return Err(unknown(&unclear, &why)),
        }
        // It is not there: the first attempt did not arrive.
        match engine.call_value(cx, "slack_post_message", message).await {
            Ok(reply) => OpReply::from_value(posted(&reply), call.decode),
            Err(error) if may_have_happened(&error) => match find(engine, cx, &place, &mark, since).await {
                Ok(Some(sent)) => OpReply::from_value(sent, call.decode),
                Ok(None) => Err(error.with_kind(ErrorKind::Transient)),
                Err(why) => Err(unknown(&error, &why)),
            },
            Err(error) => Err(error),
        }
    }
}

/// Where a message goes.
struct Place<'a> {
    channel: &'a str,
    thread: Option<&'a str>,
}

/// The caller's key, hashed because others can read it; without one, something no other message has.
fn mark(cx: &CallCx) -> String {
    match cx.idempotency_key.as_deref() {
        Some(key) => {
            let mut hash = Sha256::new();
            hash.update(cx.tenant().as_str());
            hash.update([0]);
            hash.update(key);
            format!("k-{}", hex::encode(&hash.finalize()[..16]))
        }
        None => format!("r-{}", uuid::Uuid::new_v4().simple()),
    }
}

/// The message with the mark, if it is among the newest ones since a Unix second.
async fn find(engine: &Engine, cx: &CallCx, place: &Place<'_>, mark: &str, since: u64) -> Result<Option<Value>> {
    // The look belongs to no key of the caller's: it is a read.
    let cx = CallCx { idempotency_key: None, ..cx.clone() };
    let oldest = format!("{since}.000000");
    let (tool, args) = match place.thread {
        Some(thread) => {
            ("slack_read_thread", json!({ "channel": place.channel, "ts": thread, "oldest": oldest, "include_all_metadata": true, "limit": PAGE }))
        }
        None => ("slack_read_channel", json!({ "channel": place.channel, "oldest": oldest, "include_all_metadata": true, "limit": PAGE })),
    };
    let mut cursor: Option<Cursor> = None;
    for _ in 0..PAGES {
        let reply = engine.call_inner(&cx, tool, args.clone(), cursor.take()).await?;
        let next = reply.next.clone();
        let page = reply.body.to_value()?;
        let ours = |message: &&Value| message.pointer("/metadata/event_payload/key").and_then(Value::as_str) == Some(mark);
        if let Some(message) = page["messages"].as_array().into_iter().flatten().find(ours) {
            return Ok(Some(json!({ "channel": place.channel, "ts": message["ts"], "message": message })));
        }
        match next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    Ok(None)
}

/// What a caller gets of Slack's answer.
fn posted(reply: &Value) -> Value {
    json!({ "channel": reply["channel"], "ts": reply["ts"], "message": reply["message"] })
}

/// Nobody can say whether it was sent.
fn unknown(unclear: &Error, why: &Error) -> Error {
    Error::new(ErrorKind::Unknown, "the message may have been sent; the channel could not be read to find out")
        .with_source(why.clone())
        .with_context("first_failure", unclear.kind().as_str())
}
