//! Attachments: list, get, raw bytes, add, remove, and the upload session for large ones.
//! <https://learn.microsoft.com/graph/outlook-large-attachments>

use super::compose::json_body;
use super::model::{Attachment, ChangeKind, Mailbox, Origin};
use super::wire::{self, View, bad_request, error, not_found};
use super::{MsGraph, State, mime};
use crate::clock::rfc3339_seconds;
use crate::exchange::{Answer, Reply, Req};
use crate::ledger::{EffectKind, Entry};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Largest file a JSON request may carry, bytes.
const INLINE_CAP: usize = 3 * 1024 * 1024;
/// A chunk must be below this many bytes.
const CHUNK_CAP: usize = 4 * 1024 * 1024;
/// Largest file an upload session takes, bytes.
const SESSION_CAP: u64 = 150 * 1024 * 1024;

/// A file being uploaded.
#[derive(Debug)]
pub(super) struct Upload {
    user: String,
    key: u64,
    name: String,
    content_type: String,
    inline: bool,
    size: u64,
    got: BytesMut,
    expires: Timestamp,
}

/// Reads an attachment from JSON; `contentBytes` is base64.
pub(super) fn from_json(body: &Value, now: Timestamp) -> Result<Attachment, Reply> {
    let name = body["name"].as_str().ok_or_else(|| bad_request("The attachment name is required."))?;
    let bytes = match body["contentBytes"].as_str() {
        Some(text) => STANDARD.decode(text).map_err(|_| bad_request("contentBytes is not valid base64."))?,
        None => return Err(bad_request("Only file attachments with contentBytes can be added here.")),
    };
    if bytes.len() > INLINE_CAP {
        return Err(error(413, "ErrorMessageSizeExceeded", "The attachment is too large for one request; use an upload session."));
    }
    Ok(Attachment {
        id: String::new(),
        name: name.to_owned(),
        content_type: body["contentType"].as_str().unwrap_or("application/octet-stream").to_owned(),
        inline: body["isInline"].as_bool().unwrap_or(false),
        content_id: body["contentId"].as_str().map(str::to_owned),
        bytes: Bytes::from(bytes),
        item: false,
        modified: now,
    })
}

impl MsGraph {
    /// `GET …/attachments`.
    pub(super) fn list_attachments(&self, mailbox: &Mailbox, id: &str, req: &Req) -> Answer {
        let m = mailbox.find(id).ok_or_else(not_found)?;
        let view = View::of(req);
        let items = m.attachments.iter().map(|a| wire::select(wire::attachment(a, true), view.select.as_deref())).collect();
        let context = format!("{}/v1.0/$metadata#users('{}')/messages('{id}')/attachments", req.base, mailbox.address);
        Ok(Reply::json(200, &wire::page(&context, None, items, None)))
    }

    /// `GET …/attachments/{aid}` and `…/$value`.
    pub(super) fn get_attachment(&self, mailbox: &Mailbox, id: &str, aid: &str, raw: bool, req: &Req) -> Answer {
        let m = mailbox.find(id).ok_or_else(not_found)?;
        let attachment = m.attachments.iter().find(|a| a.id == aid).ok_or_else(not_found)?;
        if raw {
            return Ok(Reply::bytes(200, &attachment.content_type, attachment.bytes.clone()));
        }
        let mut body = wire::select(wire::attachment(attachment, true), View::of(req).select.as_deref());
        if attachment.item && req.q("$expand").is_some_and(|e| e.eq_ignore_ascii_case("microsoft.graph.itemattachment/item")) {
            let inner = mime::read(&attachment.bytes, self.shared.clock.now(), Origin::Inbound);
            body["item"] = wire::message(mailbox, &inner, &View::of(req));
            body["item"]["@odata.type"] = "#microsoft.graph.message".into();
            // An attached item has no place in the mailbox, hence no id of its own.
            body["item"]["id"] = "".into();
        }
        Ok(Reply::json(200, &body))
    }

    /// `POST …/attachments`.
    pub(super) fn add_attachment(&self, state: &mut State, user: &str, id: &str, req: &Req) -> Answer {
        let now = self.shared.clock.now();
        let attachment = from_json(&json_body(req)?, now)?;
        let key = draft_key(state.mailbox(user), id)?;
        let aid = self.attach(state, user, key, attachment).ok_or_else(not_found)?;
        let mailbox = state.mailbox(user);
        let stored = mailbox.messages[&key].attachments.iter().find(|a| a.id == aid).ok_or_else(not_found)?;
        Ok(Reply::json(201, &wire::attachment(stored, true)))
    }

    /// `DELETE …/attachments/{aid}`.
    pub(super) fn remove_attachment(&self, state: &mut State, user: &str, id: &str, aid: &str) -> Answer {
        let mailbox = state.mailbox(user);
        let key = mailbox.key_of(id).ok_or_else(not_found)?;
        let m = mailbox.messages.get_mut(&key).ok_or_else(not_found)?;
        let before = m.attachments.len();
        m.attachments.retain(|a| a.id != aid);
        if m.attachments.len() == before {
            return Err(not_found());
        }
        let entry = Entry::new("msgraph", EffectKind::MailUpdated, &m.message_id).detail(json!(["attachments"]));
        mailbox.changed(key, ChangeKind::Updated);
        let event = mailbox.snapshot(&mailbox.messages[&key], "updated");
        self.shared.record(entry);
        self.notify(state, user, &[event]);
        Ok(Reply::empty(204))
    }

    fn attach(&self, state: &mut State, user: &str, key: u64, attachment: Attachment) -> Option<String> {
        let now = self.shared.clock.now();
        let mailbox = state.mailbox(user);
        let m = mailbox.messages.get_mut(&key)?;
        let aid = m.attach(attachment, now);
        let entry = Entry::new("msgraph", EffectKind::MailUpdated, &m.message_id).detail(json!(["attachments"]));
        mailbox.changed(key, ChangeKind::Updated);
        let event = mailbox.snapshot(&mailbox.messages[&key], "updated");
        self.shared.record(entry);
        self.notify(state, user, &[event]);
        Some(aid)
    }

    /// `POST …/attachments/createUploadSession`.
    pub(super) fn create_upload(&self, state: &mut State, user: &str, id: &str, req: &Req) -> Answer {
        let body = json_body(req)?;
        let item = &body["AttachmentItem"];
        let (Some(name), Some(size)) = (item["name"].as_str(), item["size"].as_u64()) else {
            return Err(bad_request("AttachmentItem needs attachmentType, name and size."));
        };
        if size == 0 || size > SESSION_CAP {
            return Err(error(413, "ErrorMessageSizeExceeded", "The attachment size must be between 1 byte and 150 MB."));
        }
        let key = draft_key(state.mailbox(user), id)?;
        let expires = self.shared.clock.after(3600);
        state.next_id += 1;
        let session = format!("upl-{:08x}", state.next_id);
        state.uploads.insert(
            session.clone(),
            Upload {
                user: user.to_owned(),
                key,
                name: name.to_owned(),
                content_type: item["contentType"].as_str().unwrap_or("application/octet-stream").to_owned(),
                inline: item["isInline"].as_bool().unwrap_or(false),
                size,
                got: BytesMut::new(),
                expires,
            },
        );
        let url = format!("{}/upload/{session}?authtoken=sandbox-preauthenticated", req.base);
        let body = json!({"uploadUrl": url, "expirationDateTime": rfc3339_seconds(expires), "nextExpectedRanges": ["0-"]});
        Ok(Reply::json(201, &body))
    }

    /// `PUT|GET|DELETE` on an upload URL, which carries its own authority: an `Authorization` header is refused.
    pub(super) fn upload(&self, state: &mut State, session: &str, req: &Req) -> Answer {
        if req.headers.contains_key("authorization") {
            let message = "The upload URL is pre-authenticated; send it without an Authorization header.";
            return Err(error(401, "InvalidAuthenticationToken", message));
        }
        let now = self.shared.clock.now();
        let live = state.uploads.get(session).is_some_and(|u| u.expires > now);
        if !live || req.q("authtoken") != Some("sandbox-preauthenticated") {
            return Err(error(404, "itemNotFound", "The upload session was not found or has expired."));
        }
        let upload = state.uploads.get_mut(session).ok_or_else(not_found)?;
        match req.method.as_str() {
            "GET" => return Ok(Reply::json(200, &upload.progress())),
            "DELETE" => {
                state.uploads.remove(session);
                return Ok(Reply::empty(204));
            }
            "PUT" => {}
            _ => return Err(error(405, "methodNotAllowed", "Use PUT, GET or DELETE on an upload URL.")),
        }
        let (start, end, total) = req
            .header("content-range")
            .and_then(content_range)
            .ok_or_else(|| error(400, "invalidRequest", "Content-Range must be 'bytes start-end/total'."))?;
        let length = end.saturating_sub(start).saturating_add(1);
        if total != upload.size || end < start || length != req.body.len() as u64 || end >= total {
            return Err(error(400, "invalidRequest", "Content-Range does not fit the body or the declared size."));
        }
        if req.body.len() >= CHUNK_CAP {
            return Err(error(413, "invalidRequest", "A chunk must be smaller than 4 MB."));
        }
        if start != upload.got.len() as u64 {
            return Err(error(416, "invalidRange", "The range is not the next expected one."));
        }
        upload.got.extend_from_slice(&req.body);
        if (upload.got.len() as u64) < upload.size {
            return Ok(Reply::json(200, &upload.progress()));
        }
        let done = state.uploads.remove(session).ok_or_else(not_found)?;
        let attachment = Attachment {
            id: String::new(),
            name: done.name,
            content_type: done.content_type,
            inline: done.inline,
            content_id: None,
            bytes: done.got.freeze(),
            item: false,
            modified: now,
        };
        let aid = self.attach(state, &done.user, done.key, attachment).ok_or_else(not_found)?;
        let mailbox = state.mailbox(&done.user);
        let id = mailbox.default_id(&mailbox.messages[&done.key]);
        let location = format!("{}/v1.0/Users('{}')/Messages('{id}')/Attachments('{aid}')", req.base, mailbox.user_id);
        Ok(Reply::empty(201).with("location", &location))
    }
}

impl Upload {
    fn progress(&self) -> Value {
        json!({"expirationDateTime": rfc3339_seconds(self.expires), "nextExpectedRanges": [self.got.len().to_string()]})
    }
}

/// `bytes a-b/total`.
pub(super) fn content_range(text: &str) -> Option<(u64, u64, u64)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, end) = range.split_once('-')?;
    Some((start.parse().ok()?, end.parse().ok()?, total.parse().ok()?))
}

/// Only drafts take attachments.
fn draft_key(mailbox: &Mailbox, id: &str) -> Result<u64, Reply> {
    let m = mailbox.find(id).ok_or_else(not_found)?;
    if m.is_draft { Ok(m.key) } else { Err(error(403, "ErrorAccessDenied", "Attachments can only be added to a draft.")) }
}
