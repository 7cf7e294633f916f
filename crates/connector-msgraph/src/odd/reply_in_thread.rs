//! Answering in the thread exactly once: `msgraph_reply_in_thread`.
//!
//! A crash, a timeout or a second call at any step never doubles the answer: every run first looks for a draft or sent message with its
//! marker and goes on from there. Owns the order of the steps; [`super::outgoing`] sends, [`super::marker`] looks, [`super::compose`]
//! writes. Sources: <https://learn.microsoft.com/graph/api/message-createreply>, <https://learn.microsoft.com/graph/outlook-immutable-id>.

use std::time::Duration;

use async_trait::async_trait;
use connector_core::{CallCx, Error, ErrorKind, OpCall, OpReply, Result};
use connector_manifest::{Engine, NativeOperation};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    args::{arguments, mailbox, may_have_happened, pause, text},
    compose::{self, Text},
    marker::{self, Marker, Place},
    outgoing::{self, File, FileArgs},
    threading::{ThreadKey, address, header, thread_key},
};

/// How long a draft is given to show up after an unclear answer.
const SETTLE: Duration = Duration::from_secs(2);

/// The native operation.
#[derive(Debug)]
pub(crate) struct ReplyInThread;

#[derive(Deserialize)]
struct Args {
    user: Option<String>,
    message_id: String,
    body: String,
    #[serde(default = "html")]
    body_type: String,
    #[serde(default)]
    reply_all: bool,
    #[serde(default)]
    cc: Vec<String>,
    #[serde(default)]
    attachments: Vec<FileArgs>,
}

fn html() -> String {
    "html".into()
}

/// One reply on its way.
struct Reply<'a> {
    engine: &'a Engine,
    cx: &'a CallCx,
    user: &'a str,
    args: &'a Args,
    marker: &'a Marker,
    source: Value,
}

#[async_trait]
impl NativeOperation for ReplyInThread {
    async fn call(&self, engine: &Engine, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let mut args: Args = arguments(&call)?;
        let user = mailbox(cx, args.user.as_deref())?;
        let files = std::mem::take(&mut args.attachments).into_iter().map(File::of).collect::<Result<Vec<_>>>()?;
        let marker = Marker::of(cx, &call.operation, &user, &call.args);
        let source = source(engine, cx, &user, &args.message_id).await?;
        let key = thread_key(&source).map(|key| key.to_string());
        let reply = Reply { engine, cx, user: &user, args: &args, marker: &marker, source };

        let (draft, found) = match reply.find().await? {
            Some(found) if found["isDraft"] == Value::Bool(false) => return OpReply::from_value(outgoing::sent(&found, key, true), call.decode),
            Some(draft) => (reply.whole(&draft).await?, true),
            None => reply.draft().await?,
        };
        let id = text(&draft, "id").ok_or_else(|| Error::protocol("the draft of the reply has no id"))?.to_owned();
        outgoing::attach(engine, cx, &user, &id, &files, found).await?;
        reply.write(&id, &draft).await?;
        let was_sent = outgoing::send(engine, cx, &user, &id, Some(&marker)).await?;
        OpReply::from_value(outgoing::sent(&draft, key, found || was_sent), call.decode)
    }
}

impl Reply<'_> {
    /// A draft or sent message of an earlier run.
    async fn find(&self) -> Result<Option<Value>> {
        let subject = self.source["subject"].as_str().unwrap_or_default();
        let place = match text(&self.source, "conversationId") {
            Some(id) => Place::Conversation { id, not_by: address(&self.source, "from") },
            None => Place::Recent { subject },
        };
        marker::find(self.engine, self.cx, self.user, self.marker, place).await
    }

    /// A new draft; `true`: it turned out to be there already.
    async fn draft(&self) -> Result<(Value, bool)> {
        let operation = if self.args.reply_all { "msgraph_create_reply_all_draft" } else { "msgraph_create_reply_draft" };
        let mut message = json!({ "internetMessageHeaders": self.marker.header() });
        if text(&self.source, "conversationId").is_none() {
            // Graph does not know the conversation: name parent and thread by the MAPI properties behind In-Reply-To and References
            // ([MS-OXPROPS] PidTagInReplyToId 0x1042, PidTagInternetReferences 0x1039).
            if let Some(properties) = threading_properties(&self.source) {
                message["singleValueExtendedProperties"] = properties;
            }
        }
        let args = json!({ "user": self.user, "message_id": self.args.message_id, "message": message });
        for again in [true, false] {
            match self.engine.call_value(self.cx, operation, args.clone()).await {
                Ok(draft) => return Ok((draft, false)),
                Err(error) if may_have_happened(&error) => {
                    pause(self.cx, SETTLE).await?;
                    if let Some(found) = self.find().await? {
                        return Ok((self.whole(&found).await?, true));
                    }
                    // A draft that shows up later is an orphan in Drafts, never a second mail. The marker makes the whole worth another run, so
                    // this is a failure that may pass and not one that only a person can decide about.
                    if !again {
                        return Err(error.with_kind(ErrorKind::Transient));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::internal("making a draft ended without an outcome"))
    }

    /// A found draft with its body.
    async fn whole(&self, found: &Value) -> Result<Value> {
        let select = ["id", "isDraft", "subject", "body", "bodyPreview", "ccRecipients", "toRecipients", "conversationId", "internetMessageId"];
        self.engine.call_value(self.cx, "msgraph_get_message", json!({ "user": self.user, "message_id": found["id"], "select": select })).await
    }

    /// Puts our text and the further copies into the draft, unless they are there.
    async fn write(&self, id: &str, draft: &Value) -> Result<()> {
        let text = Text { content: &self.args.body, is_html: self.args.body_type == "html" };
        let element = self.marker.element_id();
        let mut change = json!({ "user": self.user, "message_id": id });
        if !compose::is_there(draft, text, &element) {
            change["body"] = compose::prepend(&draft["body"], text, &element);
        }
        let mut copies = draft["ccRecipients"].as_array().cloned().unwrap_or_default();
        let known = |list: &[Value], wanted: &str| {
            list.iter().any(|one| one["emailAddress"]["address"].as_str().is_some_and(|address| address.eq_ignore_ascii_case(wanted)))
        };
        let before = copies.len();
        for wanted in &self.args.cc {
            if !known(&copies, wanted) && !known(draft["toRecipients"].as_array().map(Vec::as_slice).unwrap_or_default(), wanted) {
                copies.push(json!({ "emailAddress": { "address": wanted } }));
            }
        }
        if copies.len() > before {
            change["cc"] = copies.into();
        }
        if change.get("body").is_some() || change.get("cc").is_some() {
            self.engine.call_value(self.cx, "msgraph_update_draft", change).await?;
        }
        Ok(())
    }
}

/// The message to answer, with headers where the conversation is unknown.
async fn source(engine: &Engine, cx: &CallCx, user: &str, message: &str) -> Result<Value> {
    let select = ["id", "subject", "from", "sender", "conversationId", "internetMessageId"];
    let found = engine.call_value(cx, "msgraph_get_message", json!({ "user": user, "message_id": message, "select": select })).await?;
    if text(&found, "conversationId").is_some() {
        return Ok(found);
    }
    engine.call_value(cx, "msgraph_get_message_headers", json!({ "user": user, "message_id": message })).await
}

/// In-Reply-To and References of an answer to this message (RFC 5322 §3.6.4).
fn threading_properties(source: &Value) -> Option<Value> {
    let parent = text(source, "internetMessageId")?;
    let before = header(source, "References").or_else(|| header(source, "In-Reply-To")).unwrap_or_default();
    let references = before.split_whitespace().filter(|id| *id != parent).chain([parent]).collect::<Vec<_>>().join(" ");
    debug_assert!(!matches!(thread_key(source), Some(ThreadKey::Conversation(_))), "only used where the conversation is unknown");
    Some(json!([{ "id": "String 0x1042", "value": parent }, { "id": "String 0x1039", "value": references }]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_end_with_the_parent() {
        let source = json!({ "internetMessageId": "<2@x>", "internetMessageHeaders": [{ "name": "References", "value": "<0@x>\r\n <1@x>" }] });
        assert_eq!(
            threading_properties(&source),
            Some(json!([{ "id": "String 0x1042", "value": "<2@x>" }, { "id": "String 0x1039", "value": "<0@x> <1@x> <2@x>" }]))
        );
        assert_eq!(threading_properties(&json!({})), None);
    }
}
