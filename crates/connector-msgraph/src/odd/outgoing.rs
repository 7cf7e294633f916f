//! Sending a draft exactly once, and attaching files to it: what replies and new messages share.
//!
//! `/send` has no idempotency key, but a draft keeps its immutable id when it is sent, so after an unclear answer the draft itself tells:
//! no longer a draft means it left. <https://learn.microsoft.com/graph/api/message-send>

use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use bytes::Bytes;
use connector_core::{CallCx, Error, ErrorKind, OpCall, OpReply, Result};
use connector_manifest::{Engine, NativeOperation};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    args::{arguments, items, mailbox, may_have_happened, pause, text},
    large_upload,
    marker::{self, Marker, Place},
};

/// How often a draft that is still one is sent.
const SENDS: u32 = 3;
/// How long Exchange is given to show what it did.
const SETTLE: Duration = Duration::from_secs(2);
/// Above this a file goes through an upload session. <https://learn.microsoft.com/graph/outlook-large-attachments>
pub(crate) const SMALL: usize = 3 * 1024 * 1024 - 1;
/// What Exchange adds to a file's size.
const SIZE_SLACK: u64 = 64 * 1024;

/// Sends a draft. `true`: it turned out to have been sent already.
pub(crate) async fn send(engine: &Engine, cx: &CallCx, user: &str, draft: &str, marker: Option<&Marker>) -> Result<bool> {
    let mut sends = 0;
    loop {
        sends += 1;
        let Err(error) = engine.call_value(cx, "msgraph_send_draft_once", json!({ "user": user, "message_id": draft })).await else {
            return Ok(sends > 1);
        };
        let unclear = may_have_happened(&error);
        // A refusal may be the echo of an earlier send: what is sent is no draft any more, or was moved on by a rule.
        if !unclear && !matches!(error.kind(), ErrorKind::Invalid | ErrorKind::NotFound | ErrorKind::Conflict | ErrorKind::Forbidden) {
            return Err(error);
        }
        match state(engine, cx, user, draft, marker, if unclear { 2 } else { 1 }).await {
            Ok(State::Sent) => return Ok(true),
            Ok(State::Draft) if unclear && sends < SENDS => {}
            Ok(State::Draft) => return Err(error),
            Ok(State::Gone) if unclear => return Err(unknown(draft).with_source(error)),
            Ok(State::Gone) => return Err(error),
            Err(why) => return Err(unknown(draft).with_source(why)),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Draft,
    Sent,
    Gone,
}

/// What became of a draft, looked at up to `looks` times: Exchange may still be busy with it.
async fn state(engine: &Engine, cx: &CallCx, user: &str, draft: &str, marker: Option<&Marker>, looks: u32) -> Result<State> {
    for look in 1..=looks {
        let args = json!({ "user": user, "message_id": draft, "select": ["id", "isDraft", "subject"] });
        match engine.call_value(cx, "msgraph_get_message", args).await {
            Ok(message) if message["isDraft"] == Value::Bool(false) => return Ok(State::Sent),
            Ok(_) if look < looks => pause(cx, SETTLE).await?,
            Ok(_) => return Ok(State::Draft),
            Err(error) if error.is_not_found() && look < looks => pause(cx, SETTLE).await?,
            Err(error) if error.is_not_found() => break,
            Err(error) => return Err(error),
        }
    }
    // Sent Items may have it under another id, for example after a move to an archive mailbox.
    let Some(marker) = marker else { return Ok(State::Gone) };
    let found = marker::find_sent(engine, cx, user, marker).await?;
    Ok(if found { State::Sent } else { State::Gone })
}

fn unknown(draft: &str) -> Error {
    Error::new(ErrorKind::Unknown, "nobody can tell whether the draft was sent; look into Sent Items before sending it again")
        .with_context("draft", draft.to_owned())
}

/// The native operation `msgraph_send_draft`.
#[derive(Debug)]
pub(crate) struct SendDraft;

#[derive(Deserialize)]
struct SendDraftArgs {
    user: Option<String>,
    message_id: String,
}

#[async_trait]
impl NativeOperation for SendDraft {
    async fn call(&self, engine: &Engine, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let args: SendDraftArgs = arguments(&call)?;
        let user = mailbox(cx, args.user.as_deref())?;
        let reconciled = send(engine, cx, &user, &args.message_id, None).await?;
        OpReply::from_value(json!({ "id": args.message_id, "reconciled": reconciled }), call.decode)
    }
}

/// A file to attach, as callers give it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct FileArgs {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) content_type: Option<String>,
    #[serde(default)]
    pub(crate) content_base64: Option<String>,
    #[serde(default)]
    pub(crate) content_text: Option<String>,
    #[serde(default)]
    pub(crate) content_id: Option<String>,
}

/// A file to attach.
#[derive(Debug, Clone)]
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) content_type: String,
    pub(crate) content_id: Option<String>,
    pub(crate) bytes: Bytes,
}

impl File {
    /// Reads what a caller gave.
    pub(crate) fn of(args: FileArgs) -> Result<Self> {
        let bytes = match (args.content_base64, args.content_text) {
            (Some(base64), None) => base64::engine::general_purpose::STANDARD
                .decode(base64.trim())
                .map_err(|error| Error::invalid(format!("the content of attachment `{}` is not base64", args.name)).with_source(error))?,
            (None, Some(text)) => text.into_bytes(),
            _ => return Err(Error::invalid(format!("attachment `{}` needs either `content_base64` or `content_text`", args.name))),
        };
        Ok(Self {
            name: args.name,
            content_type: args.content_type.unwrap_or_else(|| "application/octet-stream".into()),
            content_id: args.content_id,
            bytes: bytes.into(),
        })
    }
}

/// Attaches files to a draft. With `look`, those that an earlier run attached are left alone.
pub(crate) async fn attach(engine: &Engine, cx: &CallCx, user: &str, draft: &str, files: &[File], look: bool) -> Result<()> {
    for file in files {
        if look && attached(engine, cx, user, draft, file).await?.is_some() {
            continue;
        }
        attach_one(engine, cx, user, draft, file).await?;
    }
    Ok(())
}

/// Attaches one file: in one request if it is small, in pieces if not. Gives its id, if it is known, and the number of pieces.
pub(crate) async fn attach_one(engine: &Engine, cx: &CallCx, user: &str, draft: &str, file: &File) -> Result<(Option<String>, usize)> {
    if file.bytes.len() > SMALL {
        return large_upload::upload(engine, cx, user, draft, file).await;
    }
    let args = json!({
        "user": user, "message_id": draft, "name": file.name, "content_type": file.content_type,
        "content_base64": base64::engine::general_purpose::STANDARD.encode(&file.bytes),
        "content_id": file.content_id, "inline": file.content_id.is_some().then_some(true),
    });
    for again in [true, false] {
        match engine.call_value(cx, "msgraph_add_attachment", args.clone()).await {
            Ok(attachment) => return Ok((text(&attachment, "id").map(str::to_owned), 1)),
            Err(error) if may_have_happened(&error) => {
                pause(cx, SETTLE).await?;
                if let Some(id) = attached(engine, cx, user, draft, file).await? {
                    return Ok((Some(id), 1));
                }
                if !again {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Err(Error::internal("attaching a file ended without an outcome"))
}

/// The id of a file of this name and about this size that is on the draft already.
pub(crate) async fn attached(engine: &Engine, cx: &CallCx, user: &str, draft: &str, file: &File) -> Result<Option<String>> {
    let page = engine.call_value(cx, "msgraph_list_attachments", json!({ "user": user, "message_id": draft })).await?;
    let size = file.bytes.len() as u64;
    let same = |item: &&Value| {
        text(item, "name") == Some(&file.name) && item["size"].as_u64().is_some_and(|found| (size..=size + SIZE_SLACK).contains(&found))
    };
    Ok(items(&page).iter().find(same).and_then(|item| text(item, "id")).map(str::to_owned))
}

/// What a caller learns about a message that was sent.
pub(crate) fn sent(message: &Value, thread_key: Option<String>, reconciled: bool) -> Value {
    let mut out = json!({ "id": message["id"], "reconciled": reconciled });
    for field in ["conversationId", "internetMessageId", "subject"] {
        if let Some(value) = text(message, field) {
            out[field] = value.into();
        }
    }
    if let Some(key) = thread_key {
        out["thread_key"] = key.into();
    }
    out
}

/// The place a new message's marker is looked for.
pub(crate) fn recent(subject: &str) -> Place<'_> {
    Place::Recent { subject }
}
