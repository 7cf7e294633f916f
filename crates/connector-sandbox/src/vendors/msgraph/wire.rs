//! How Graph objects and errors look on the wire. It refuses to decide anything; it only prints.
//! Shapes: <https://learn.microsoft.com/graph/api/resources/message>, <https://learn.microsoft.com/graph/errors>

use super::model::{Attachment, Folder, Mailbox, Message};
use crate::clock::rfc3339_seconds;
use crate::exchange::{Reply, Req};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

/// A Graph error reply.
pub(super) fn error(status: u16, code: &str, message: &str) -> Reply {
    Reply::json(status, &json!({"error": error_body(code, message)}))
}

fn error_body(code: &str, message: &str) -> Value {
    // A fixed request id keeps replies repeatable; a real one is a fresh GUID.
    let id = "00000000-0000-4000-8000-00000000feed";
    json!({"code": code, "message": message, "innerError": {"date": "2026-11-21T00:00:00", "request-id": id, "client-request-id": id}})
}

pub(super) fn not_found() -> Reply {
    error(404, "ErrorItemNotFound", "The specified object was not found in the store.")
}

pub(super) fn bad_request(message: &str) -> Reply {
    error(400, "invalidRequest", message)
}

/// What the caller wants of the reply, from `Prefer` and `$select`.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    pub(super) immutable: bool,
    pub(super) text_body: bool,
    pub(super) page: Option<usize>,
    pub(super) select: Option<Vec<String>>,
    /// A single get, where `internetMessageHeaders` may be selected.
    pub(super) single: bool,
}

impl View {
    pub(super) fn of(req: &Req) -> Self {
        let mut view = Self { select: req.q("$select").map(split_select), ..Self::default() };
        for value in req.headers.get_all("prefer") {
            for preference in value.to_str().unwrap_or_default().split(',') {
                let plain = preference.trim().replace('"', "").to_ascii_lowercase();
                match plain.split_once('=').map_or((plain.as_str(), ""), |(k, v)| (k, v)) {
                    ("idtype", "immutableid") => view.immutable = true,
                    ("outlook.body-content-type", "text") => view.text_body = true,
                    ("odata.maxpagesize", n) => view.page = n.parse().ok(),
                    _ => {}
                }
            }
        }
        view
    }

    fn wants(&self, field: &str) -> bool {
        self.select.as_ref().is_some_and(|names| names.iter().any(|n| n.eq_ignore_ascii_case(field)))
    }
}

pub(super) fn split_select(text: &str) -> Vec<String> {
    text.split(',').map(|s| s.trim().to_owned()).filter(|s| !s.is_empty()).collect()
}

/// A message.
pub(super) fn message(mailbox: &Mailbox, m: &Message, view: &View) -> Value {
    let body = if view.text_body && m.html { body("text", &strip_tags(&m.content)) } else { body(if m.html { "html" } else { "text" }, &m.content) };
    let mut out = json!({
        "@odata.etag": m.etag(),
        "id": mailbox.id_of(m, view.immutable),
        "createdDateTime": rfc3339_seconds(m.created),
        "lastModifiedDateTime": rfc3339_seconds(m.modified),
        "changeKey": m.change_key(),
        "categories": m.categories,
        "receivedDateTime": rfc3339_seconds(m.received),
        "sentDateTime": rfc3339_seconds(m.sent),
        "hasAttachments": has_attachments(m),
        "internetMessageId": m.message_id,
        "subject": m.subject,
        "bodyPreview": preview(m),
        "importance": m.importance,
        "parentFolderId": m.folder,
        "conversationId": m.conversation,
        "conversationIndex": STANDARD.encode(m.conversation.as_bytes()),
        "isDeliveryReceiptRequested": Value::Null,
        "isReadReceiptRequested": false,
        "isRead": m.is_read,
        "isDraft": m.is_draft,
        "webLink": format!("https://outlook.office365.com/owa/?ItemID={:x}&exvsurl=1&viewmodel=ReadMessageItem", m.key),
        "inferenceClassification": m.inference,
        "body": body,
        "sender": m.sender,
        "from": m.from,
        "toRecipients": m.to,
        "ccRecipients": m.cc,
        "bccRecipients": m.bcc,
        "replyTo": m.reply_to,
        "flag": {"flagStatus": m.flag},
    });
    if let Some(map) = out.as_object_mut() {
        if m.hide_conversation {
            map.remove("conversationId");
            map.remove("conversationIndex");
        }
        // Only on request, and the headers only when one message is read.
        if view.wants("uniqueBody") {
            map.insert("uniqueBody".into(), map["body"].clone());
        }
        if view.single && view.wants("internetMessageHeaders") {
            map.insert("internetMessageHeaders".into(), headers(m));
        }
        if let Some(names) = &view.select {
            map.retain(|key, _| key == "id" || key == "@odata.etag" || names.iter().any(|n| n.eq_ignore_ascii_case(key)));
        }
    }
    out
}

fn body(kind: &str, content: &str) -> Value {
    json!({"contentType": kind, "content": content})
}

fn headers(m: &Message) -> Value {
    let mut all = m.headers.clone();
    let has = |all: &[(String, String)], name: &str| all.iter().any(|(k, _)| k.eq_ignore_ascii_case(name));
    if let Some(parent) = m.in_reply_to.as_ref().filter(|_| !has(&all, "In-Reply-To")) {
        all.push(("In-Reply-To".into(), parent.clone()));
    }
    if !m.references.is_empty() && !has(&all, "References") {
        all.push(("References".into(), m.references.join(" ")));
    }
    all.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
}

/// False when every attachment is inline, as Exchange reports it.
pub(super) fn has_attachments(m: &Message) -> bool {
    m.attachments.iter().any(|a| !a.inline)
}

fn preview(m: &Message) -> String {
    let text = if m.html { strip_tags(&m.content) } else { m.content.clone() };
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(255).collect()
}

/// Text of an HTML body, roughly: tags out, the five common entities back.
pub(super) fn strip_tags(html: &str) -> String {
    let mut text = String::with_capacity(html.len());
    let mut inside = false;
    for c in html.chars() {
        match c {
            '<' => inside = true,
            '>' if inside => inside = false,
            c if !inside => text.push(c),
            _ => {}
        }
    }
    text.replace("&nbsp;", " ").replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
}

/// A mail folder with its live counts.
pub(super) fn folder(mailbox: &Mailbox, f: &Folder) -> Value {
    let inside = || mailbox.messages.values().filter(|m| m.folder == f.id);
    json!({
        "id": f.id,
        "displayName": f.name,
        "parentFolderId": f.parent,
        "childFolderCount": mailbox.folders.iter().filter(|c| c.parent == f.id && c.id != f.id).count(),
        "unreadItemCount": inside().filter(|m| !m.is_read).count(),
        "totalItemCount": inside().count(),
        "isHidden": f.hidden,
    })
}

/// An attachment, with its bytes when asked for.
pub(super) fn attachment(a: &Attachment, with_bytes: bool) -> Value {
    let kind = if a.item { "#microsoft.graph.itemAttachment" } else { "#microsoft.graph.fileAttachment" };
    let mut out = json!({
        "@odata.type": kind,
        "@odata.mediaContentType": a.content_type,
        "id": a.id,
        "lastModifiedDateTime": rfc3339_seconds(a.modified),
        "name": a.name,
        "contentType": a.content_type,
        "size": a.bytes.len(),
        "isInline": a.inline,
    });
    if !a.item {
        out["contentId"] = json!(a.content_id);
        if with_bytes {
            out["contentBytes"] = STANDARD.encode(&a.bytes).into();
        }
    }
    out
}

/// A collection page.
pub(super) fn page(context: &str, count: Option<usize>, items: Vec<Value>, next: Option<String>) -> Value {
    let mut out = json!({"@odata.context": context});
    if let Some(count) = count {
        out["@odata.count"] = count.into();
    }
    out["value"] = Value::Array(items);
    if let Some(next) = next {
        out["@odata.nextLink"] = next.into();
    }
    out
}

/// Keeps only selected keys of an object (ids and OData annotations stay).
pub(super) fn select(mut value: Value, names: Option<&[String]>) -> Value {
    if let (Some(map), Some(names)) = (value.as_object_mut(), names) {
        map.retain(|k, _| k == "id" || k.starts_with("@odata") || names.iter().any(|n| n.eq_ignore_ascii_case(k)));
    }
    value
}

/// Reads an RFC 3339 instant.
pub(super) fn instant(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}
