//! The marker that makes sending exactly-once: a header on the draft that says which intended message it is, and the search for it.
//!
//! Graph has no idempotency key for mail, but own headers starting with `x-` may be set when a draft is made and travel with it into
//! Sent Items (<https://learn.microsoft.com/graph/api/resources/internetmessageheader>). They cannot be filtered on, so the candidates
//! come from the conversation, or from the newest drafts and sent items, and their headers are read one by one.

use connector_core::{CallCx, Result};
use connector_manifest::Engine;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    args::{items, text},
    threading::{address, base_subject, header},
};

/// The header's name.
pub(crate) const HEADER: &str = "x-connector-key";
/// Longer keys are hashed; header lines have a limit.
const LONGEST_KEY: usize = 128;
/// How far back the newest drafts and sent items are searched where there is no conversation.
const RECENT: u32 = 100;
/// What is read of a candidate.
const CANDIDATE: [&str; 7] = ["id", "isDraft", "subject", "from", "conversationId", "internetMessageId", "lastModifiedDateTime"];

/// The marker of one intended message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Marker(String);

impl Marker {
    /// The caller's idempotency key; without one, a hash of everything that makes this message what it is.
    pub(crate) fn of(cx: &CallCx, operation: &str, mailbox: &str, args: &Map<String, Value>) -> Self {
        match cx.idempotency_key.as_deref() {
            Some(key) if !key.is_empty() && key.len() <= LONGEST_KEY && key.bytes().all(|byte| byte.is_ascii_graphic()) => Self(key.to_owned()),
            Some(key) => Self(format!("h-{}", digest(&[key]))),
            None => Self(format!("d-{}", digest(&[operation, mailbox, &Value::Object(args.clone()).to_string()]))),
        }
    }

    /// The header as Graph takes it.
    pub(crate) fn header(&self) -> Value {
        json!([{ "name": HEADER, "value": self.0 }])
    }

    /// The id of the element that wraps our text in the body, by which an interrupted run sees that it is there already.
    pub(crate) fn element_id(&self) -> String {
        format!("{HEADER}-{}", &digest(&[&self.0])[..16])
    }

    fn is_on(&self, message: &Value) -> bool {
        header(message, HEADER) == Some(&self.0)
    }
}

/// Where to look for a marked message.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place<'a> {
    /// In a conversation. Messages by this sender are not ours.
    Conversation {
        /// Its id.
        id: &'a str,
        /// Who wrote the message that is answered.
        not_by: Option<&'a str>,
    },
    /// Among the newest drafts and sent items with this subject, reply marks aside.
    Recent {
        /// The subject.
        subject: &'a str,
    },
}

/// The message with the marker: a sent one if there is one, otherwise the newest draft.
pub(crate) async fn find(engine: &Engine, cx: &CallCx, user: &str, marker: &Marker, place: Place<'_>) -> Result<Option<Value>> {
    let candidates = match place {
        Place::Conversation { id, not_by } => {
            let args = json!({ "user": user, "conversation_id": id, "select": CANDIDATE, "top": 1000 });
            let page = engine.call_value(cx, "msgraph_list_conversation", args).await?;
            let foreign = |message: &Value| {
                let by = address(message, "from");
                message["isDraft"] != Value::Bool(true) && by.is_some() && by.map(str::to_lowercase) == not_by.map(str::to_lowercase)
            };
            items(&page).iter().filter(|message| !foreign(message)).cloned().collect::<Vec<_>>()
        }
        Place::Recent { subject } => {
            let wanted = base_subject(subject);
            let mut found = Vec::new();
            for folder in ["sentitems", "drafts"] {
                let args = json!({ "user": user, "folder": folder, "orderby": "lastModifiedDateTime desc", "select": CANDIDATE, "top": RECENT });
                let page = engine.call_value(cx, "msgraph_list_folder_messages", args).await?;
                let same = |message: &&Value| base_subject(message["subject"].as_str().unwrap_or_default()) == wanted;
                found.extend(items(&page).iter().filter(same).cloned());
            }
            found
        }
    };
    let ids: Vec<&str> = candidates.iter().filter_map(|message| text(message, "id")).collect();
    if ids.is_empty() {
        return Ok(None);
    }
    let args = json!({ "user": user, "message_ids": ids, "select": ["id", "internetMessageHeaders", "isDraft"] });
    let read = engine.call_value(cx, "msgraph_get_messages", args).await?;
    let read = read["results"].as_array().map(Vec::as_slice).unwrap_or_default();
    // One that cannot be read might be the one: a message that vanished meanwhile (404) is not, anything else is worth another try.
    if let Some(unread) = read.iter().find(|outcome| !matches!(outcome["status"].as_u64(), Some(200..=299 | 404))) {
        let error = connector_core::Error::new(connector_core::ErrorKind::Transient, "a message that may be ours could not be looked at");
        return Err(error.with_context("item_status", unread["status"].to_string()));
    }
    let marked = read.iter().filter(|outcome| marker.is_on(&outcome["message"]));
    let mut ours: Vec<Value> = marked
        .filter_map(|outcome| {
            let mut whole = candidates.iter().find(|message| message["id"] == outcome["id"])?.clone();
            whole["isDraft"] = outcome["message"]["isDraft"].clone();
            Some(whole)
        })
        .collect();
    // Sent ones (false) sort before drafts, newer before older.
    ours.sort_by_key(|message| {
        (message["isDraft"] == Value::Bool(true), std::cmp::Reverse(message["lastModifiedDateTime"].as_str().unwrap_or_default().to_owned()))
    });
    Ok(ours.into_iter().next())
}

/// Whether a message with the marker is among the newest of Sent Items, whatever its subject.
pub(crate) async fn find_sent(engine: &Engine, cx: &CallCx, user: &str, marker: &Marker) -> Result<bool> {
    let args = json!({ "user": user, "folder": "sentitems", "orderby": "lastModifiedDateTime desc", "select": ["id"], "top": RECENT });
    let page = engine.call_value(cx, "msgraph_list_folder_messages", args).await?;
    let ids: Vec<&str> = items(&page).iter().filter_map(|message| text(message, "id")).collect();
    if ids.is_empty() {
        return Ok(false);
    }
    let args = json!({ "user": user, "message_ids": ids, "select": ["id", "internetMessageHeaders"] });
    let read = engine.call_value(cx, "msgraph_get_messages", args).await?;
    Ok(read["results"].as_array().into_iter().flatten().any(|outcome| marker.is_on(&outcome["message"])))
}

fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part.as_bytes());
    }
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use connector_core::Connection;
    use std::sync::Arc;

    fn marker(key: Option<&str>, body: &str) -> Marker {
        let mut cx = CallCx::new(Arc::new(Connection::new("msgraph", "https://graph.example/v1.0").unwrap()));
        cx.idempotency_key = key.map(Into::into);
        let args = json!({ "message_id": "m", "body": body });
        Marker::of(&cx, "msgraph_reply_in_thread", "support@contoso.com", args.as_object().unwrap())
    }

    #[test]
    fn a_key_is_kept_if_it_fits_a_header_and_hashed_if_not() {
        assert_eq!(marker(Some("evt-1:reply"), "a").0, "evt-1:reply");
        for odd in ["a b", "a\r\nBcc: x@y", "ключ", &"k".repeat(129)] {
            let marker = marker(Some(odd), "a");
            assert!(marker.0.starts_with("h-") && marker.0.len() == 66, "{odd:?}");
        }
    }

    #[test]
    fn without_a_key_the_content_is_the_key() {
        assert_eq!(marker(None, "a"), marker(None, "a"));
        assert_ne!(marker(None, "a"), marker(None, "b"));
    }
}
