//! Writing mail: drafts, replies, forwards, sending, triage, moving, deleting. Every change goes through the mailbox so that delta,
//! notifications and the ledger agree. <https://learn.microsoft.com/graph/api/message-createreply>

use super::model::{ChangeKind, Mailbox, Message, Origin, address_of, recipient};
use super::wire::{self, View, bad_request, error, not_found};
use super::{MsGraph, State, mime};
use crate::exchange::{Answer, Reply, Req};
use crate::ledger::{EffectKind, Entry};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

/// The three ways to answer a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answering {
    Reply,
    ReplyAll,
    Forward,
}

impl Answering {
    /// Reads the action segment: whether it makes a draft, and which answer.
    pub(super) fn of(action: &str) -> Option<(bool, Self)> {
        Some(match action {
            "createReply" => (true, Self::Reply),
            "createReplyAll" => (true, Self::ReplyAll),
            "createForward" => (true, Self::Forward),
            "reply" => (false, Self::Reply),
            "replyAll" => (false, Self::ReplyAll),
            "forward" => (false, Self::Forward),
            _ => return None,
        })
    }
}

impl MsGraph {
    /// `POST …/messages/{id}/createReply` and its relatives; the one-shot forms send at once and answer 202 without an id.
    pub(super) fn answer(&self, state: &mut State, user: &str, id: &str, action: (bool, Answering), req: &Req) -> Answer {
        let (draft_only, how) = action;
        let now = self.shared.clock.now();
        let body = if is_mime(req) { Value::Null } else { action_body(req)? };
        let mailbox = state.mailbox(user);
        let original = mailbox.find(id).ok_or_else(not_found)?;
        if body["comment"].is_string() && !body["message"]["body"].is_null() {
            return Err(bad_request("Comment and Message.Body cannot be specified together."));
        }
        let mut draft = derive(mailbox, original, how, body["comment"].as_str().unwrap_or_default(), now);
        if is_mime(req) {
            let own = from_mime(req, now)?;
            (draft.html, draft.content, draft.attachments) = (own.html, own.content, own.attachments);
        }
        if let Some(to) = body["toRecipients"].as_array() {
            draft.to.clone_from(to);
        }
        apply(&mut draft, &body["message"], true)?;
        attach_inline(&mut draft, &body["message"], now)?;
        if draft_only {
            let view = View::of(req);
            let key = self.store_draft(state, user, draft);
            let mailbox = state.mailbox(user);
            return Ok(Reply::json(201, &wire::message(mailbox, &mailbox.messages[&key], &view)));
        }
        if draft.to.is_empty() && draft.cc.is_empty() && draft.bcc.is_empty() {
            return Err(error(400, "ErrorInvalidRecipients", "At least one recipient isn't valid."));
        }
        self.send_new(state, user, draft, true);
        Ok(Reply::empty(202))
    }

    /// `POST …/messages`: a new draft from JSON or base64 MIME.
    pub(super) fn create_draft(&self, state: &mut State, user: &str, folder: Option<&str>, req: &Req) -> Answer {
        let now = self.shared.clock.now();
        let mut draft = if is_mime(req) {
            from_mime(req, now)?
        } else {
            let body = json_body(req)?;
            let mut draft = Message::blank(now, Origin::New);
            apply(&mut draft, &body, true)?;
            attach_inline(&mut draft, &body, now)?;
            draft
        };
        own(state.mailbox(user), &mut draft)?;
        draft.is_draft = true;
        draft.is_read = true;
        let key = match folder {
            None => self.store_draft(state, user, draft),
            Some(folder) => self.store(state, user, draft, folder.to_owned(), EffectKind::MailDrafted),
        };
        let mailbox = state.mailbox(user);
        Ok(Reply::json(201, &wire::message(mailbox, &mailbox.messages[&key], &View::of(req))))
    }

    /// `POST /users/{u}/sendMail`.
    pub(super) fn send_mail(&self, state: &mut State, user: &str, req: &Req) -> Answer {
        let now = self.shared.clock.now();
        let (mut message, save) = if is_mime(req) {
            (from_mime(req, now)?, true)
        } else {
            let body = action_body(req)?;
            if !body["message"].is_object() {
                return Err(bad_request("The property 'message' is required."));
            }
            let mut message = Message::blank(now, Origin::New);
            apply(&mut message, &body["message"], true)?;
            attach_inline(&mut message, &body["message"], now)?;
            (message, body["saveToSentItems"].as_bool().unwrap_or(true))
        };
        own(state.mailbox(user), &mut message)?;
        if message.to.is_empty() && message.cc.is_empty() && message.bcc.is_empty() {
            return Err(error(400, "ErrorInvalidRecipients", "At least one recipient isn't valid."));
        }
        self.send_new(state, user, message, save);
        Ok(Reply::empty(202))
    }

    /// `POST …/messages/{draft}/send`.
    pub(super) fn send_draft(&self, state: &mut State, user: &str, id: &str) -> Answer {
        let now = self.shared.clock.now();
        let mailbox = state.mailbox(user);
        let draft = mailbox.find(id).ok_or_else(not_found)?;
        if !draft.is_draft {
            // Exchange refuses to send a sent message again; the code is from memory (unverified).
            return Err(error(400, "ErrorInvalidRequest", "The message is not a draft."));
        }
        if draft.to.is_empty() && draft.cc.is_empty() && draft.bcc.is_empty() {
            return Err(error(400, "ErrorInvalidRecipients", "At least one recipient isn't valid."));
        }
        if draft.to.len() + draft.cc.len() + draft.bcc.len() > 500 {
            return Err(error(400, "ErrorMaxRecipientsExceeded", "A message can have at most 500 recipients."));
        }
        let (key, before) = (draft.key, mailbox.snapshot(draft, "deleted"));
        let sent_items = mailbox.well_known("sentitems");
        let entry = sent_entry(draft);
        if let Some(m) = mailbox.messages.get_mut(&key) {
            m.is_draft = false;
            (m.sent, m.received, m.modified) = (now, now, now);
        }
        mailbox.relocate(key, sent_items);
        let after = mailbox.snapshot(&mailbox.messages[&key], "created");
        self.shared.record(entry);
        self.notify(state, user, &[before, after]);
        Ok(Reply::empty(202))
    }

    /// `PATCH …/messages/{id}`.
    pub(super) fn patch_message(&self, state: &mut State, user: &str, id: &str, req: &Req) -> Answer {
        let now = self.shared.clock.now();
        let body = json_body(req)?;
        let mailbox = state.mailbox(user);
        let stored = mailbox.find(id).ok_or_else(not_found)?;
        check_etag(req, stored)?;
        let mut changed = stored.clone();
        apply(&mut changed, &body, stored.is_draft)?;
        changed.modified = now;
        if changed.is_draft {
            changed.mime = None;
        }
        let kind = if changed.categories == stored.categories { EffectKind::MailUpdated } else { EffectKind::MailCategorised };
        let entry = Entry::new("msgraph", kind, &changed.message_id).conversation(&changed.conversation).detail(match kind {
            EffectKind::MailCategorised => json!(changed.categories),
            _ => body.as_object().map(|o| o.keys().cloned().collect()).unwrap_or_default(),
        });
        let key = changed.key;
        mailbox.messages.insert(key, changed);
        mailbox.changed(key, ChangeKind::Updated);
        let event = mailbox.snapshot(&mailbox.messages[&key], "updated");
        let reply = wire::message(mailbox, &mailbox.messages[&key], &View::of(req));
        self.shared.record(entry);
        self.notify(state, user, &[event]);
        Ok(Reply::json(200, &reply))
    }

    /// `POST …/messages/{id}/move` and `/copy`.
    pub(super) fn relocate(&self, state: &mut State, user: &str, id: &str, copy: bool, req: &Req) -> Answer {
        let body = action_body(req)?;
        let mailbox = state.mailbox(user);
        let m = mailbox.find(id).ok_or_else(not_found)?;
        let target = body["destinationId"].as_str().ok_or_else(|| bad_request("destinationId is required."))?;
        let target = mailbox.folder_id(target).ok_or_else(not_found)?;
        let (key, before) = (m.key, mailbox.snapshot(m, "deleted"));
        let entry = Entry::new("msgraph", EffectKind::MailMoved, &m.message_id).detail(json!({"to": target, "copy": copy}));
        let (key, events) = if copy {
            let twin = m.clone();
            let key = mailbox.insert(twin, target);
            (key, vec![mailbox.snapshot(&mailbox.messages[&key], "created")])
        } else {
            mailbox.relocate(key, target);
            (key, vec![before, mailbox.snapshot(&mailbox.messages[&key], "created")])
        };
        let reply = wire::message(mailbox, &mailbox.messages[&key], &View::of(req));
        self.shared.record(entry);
        self.notify(state, user, &events);
        Ok(Reply::json(201, &reply))
    }

    /// `DELETE …/messages/{id}`: to Deleted Items first, for good from there.
    pub(super) fn delete_message(&self, state: &mut State, user: &str, id: &str, req: &Req) -> Answer {
        let mailbox = state.mailbox(user);
        let m = mailbox.find(id).ok_or_else(not_found)?;
        check_etag(req, m)?;
        let (key, before) = (m.key, mailbox.snapshot(m, "deleted"));
        let entry = Entry::new("msgraph", EffectKind::MailDeleted, &m.message_id);
        let bin = mailbox.well_known("deleteditems");
        let events = if m.folder == bin {
            mailbox.remove(key);
            vec![before]
        } else {
            mailbox.relocate(key, bin);
            vec![before, mailbox.snapshot(&mailbox.messages[&key], "created")]
        };
        self.shared.record(entry);
        self.notify(state, user, &events);
        Ok(Reply::empty(204))
    }

    fn store_draft(&self, state: &mut State, user: &str, draft: Message) -> u64 {
        let drafts = state.mailbox(user).well_known("drafts");
        self.store(state, user, draft, drafts, EffectKind::MailDrafted)
    }

    /// Puts a message into a folder, writes the effect and notifies.
    pub(super) fn store(&self, state: &mut State, user: &str, message: Message, folder: String, kind: EffectKind) -> u64 {
        let mailbox = state.mailbox(user);
        let key = mailbox.insert(message, folder);
        let m = &mailbox.messages[&key];
        let entry = Entry::new("msgraph", kind, &m.message_id).parent(m.in_reply_to.clone()).conversation(&m.conversation);
        let event = mailbox.snapshot(m, "created");
        self.shared.record(entry.detail(json!({"subject": m.subject})));
        self.notify(state, user, &[event]);
        key
    }

    /// Sends a message that was never a stored draft.
    fn send_new(&self, state: &mut State, user: &str, mut message: Message, save: bool) {
        message.is_draft = false;
        message.is_read = true;
        let mailbox = state.mailbox(user);
        let sent_items = mailbox.well_known("sentitems");
        let key = mailbox.insert(message, sent_items);
        let entry = sent_entry(&mailbox.messages[&key]);
        let event = mailbox.snapshot(&mailbox.messages[&key], "created");
        if !save {
            mailbox.remove(key);
        }
        self.shared.record(entry);
        if save {
            self.notify(state, user, &[event]);
        }
    }
}

/// The effect of a message that leaves.
fn sent_entry(m: &Message) -> Entry {
    let (kind, parent) = match &m.origin {
        Origin::Forward { parent } => (EffectKind::MailForwarded, Some(parent.clone())),
        _ if m.in_reply_to.is_some() => (EffectKind::MailReplied, m.in_reply_to.clone()),
        _ => (EffectKind::MailSent, None),
    };
    let marker = m.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("x-connector-key")).map(|(_, v)| v.clone());
    let to: Vec<&str> = m.to.iter().map(address_of).collect();
    Entry::new("msgraph", kind, &m.message_id)
        .key(marker)
        .parent(parent)
        .conversation(&m.conversation)
        .detail(json!({"subject": m.subject, "to": to}))
}

/// The draft of an answer: recipients, subject, thread and quoted text.
fn derive(mailbox: &Mailbox, original: &Message, how: Answering, comment: &str, now: jiff::Timestamp) -> Message {
    let forward = how == Answering::Forward;
    let origin = if forward { Origin::Forward { parent: original.message_id.clone() } } else { Origin::Reply };
    let mut draft = Message::blank(now, origin);
    draft.is_draft = true;
    draft.is_read = true;
    draft.subject = prefixed(if forward { "FW:" } else { "RE:" }, &original.subject);
    draft.from = Some(recipient("", &mailbox.address));
    draft.sender.clone_from(&draft.from);
    // A forward stays in the conversation but answers nobody.
    draft.conversation.clone_from(&original.conversation);
    draft.hide_conversation = original.hide_conversation;
    draft.references.clone_from(&original.references);
    draft.references.push(original.message_id.clone());
    if forward {
        draft.attachments = original.attachments.clone();
    } else {
        draft.in_reply_to = Some(original.message_id.clone());
        draft.to = if original.reply_to.is_empty() { original.from.iter().cloned().collect() } else { original.reply_to.clone() };
    }
    if how == Answering::ReplyAll {
        let known = |list: &[Value], r: &Value| list.iter().any(|k| address_of(k).eq_ignore_ascii_case(address_of(r)));
        for r in original.to.iter().filter(|r| !address_of(r).eq_ignore_ascii_case(&mailbox.address)) {
            if !known(&draft.to, r) {
                draft.to.push(r.clone());
            }
        }
        let cc = original.cc.iter().filter(|r| !address_of(r).eq_ignore_ascii_case(&mailbox.address) && !known(&draft.to, r));
        draft.cc = cc.cloned().collect();
    }
    draft.html = true;
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let quoted = if original.html { original.content.clone() } else { escape(&original.content).replace('\n', "<br>\n") };
    let from = original.from.as_ref().map(address_of).unwrap_or_default();
    draft.content = format!(
        "<html><body>{}<hr><div><b>From:</b> {}<br><b>Sent:</b> {}<br><b>Subject:</b> {}</div>{quoted}</body></html>",
        escape(comment).replace('\n', "<br>\n"),
        escape(from),
        original.sent.strftime("%A, %B %d, %Y %H:%M"),
        escape(&original.subject),
    );
    draft
}

fn prefixed(prefix: &str, subject: &str) -> String {
    let has = subject.get(..prefix.len()).is_some_and(|p| p.eq_ignore_ascii_case(prefix));
    if has { subject.to_owned() } else { format!("{prefix} {subject}").trim_end().to_owned() }
}

/// Writes JSON properties into a message. Subject, body and recipients of a message that is no draft are refused, as announced for
/// `Mail.ReadWrite` from 2026-12-31 on.
fn apply(m: &mut Message, patch: &Value, draft: bool) -> Result<(), Reply> {
    let Some(patch) = patch.as_object() else { return Ok(()) };
    for (name, value) in patch {
        let list = || value.as_array().cloned().unwrap_or_default();
        let text = || value.as_str().unwrap_or_default().to_owned();
        match name.as_str() {
            "subject" | "body" | "toRecipients" | "ccRecipients" | "bccRecipients" | "replyTo" | "internetMessageHeaders" | "from" | "sender"
                if !draft =>
            {
                return Err(error(403, "ErrorAccessDenied", "Changing this property of a sent or received message is not allowed."));
            }
            "subject" => m.subject = text(),
            "body" => {
                m.html = value["contentType"].as_str().is_some_and(|t| t.eq_ignore_ascii_case("html"));
                m.content = value["content"].as_str().unwrap_or_default().to_owned();
            }
            "toRecipients" => m.to = checked(list())?,
            "ccRecipients" => m.cc = checked(list())?,
            "bccRecipients" => m.bcc = checked(list())?,
            "replyTo" => m.reply_to = checked(list())?,
            "from" => m.from = Some(value.clone()),
            "sender" => m.sender = Some(value.clone()),
            "importance" => m.importance = text().to_lowercase(),
            "inferenceClassification" => m.inference = text(),
            "isRead" => m.is_read = value.as_bool().unwrap_or(m.is_read),
            "categories" => m.categories = list().iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            "flag" => m.flag = value["flagStatus"].as_str().unwrap_or("notFlagged").to_owned(),
            "internetMessageHeaders" => {
                for header in list() {
                    let (name, content) = (header["name"].as_str().unwrap_or_default(), header["value"].as_str().unwrap_or_default());
                    if !name.to_ascii_lowercase().starts_with("x-") {
                        let message = format!("The internet message header name '{name}' should start with 'x-' or 'X-'.");
                        return Err(error(400, "InvalidInternetMessageHeader", &message));
                    }
                    m.headers.retain(|(k, _)| !k.eq_ignore_ascii_case(name));
                    m.headers.push((name.to_owned(), content.to_owned()));
                }
            }
            "singleValueExtendedProperties" => {
                for property in list() {
                    let value = property["value"].as_str().unwrap_or_default().to_owned();
                    match property["id"].as_str().unwrap_or_default() {
                        "String 0x1042" => m.in_reply_to = Some(value),
                        "String 0x1039" => m.references = value.split_whitespace().map(str::to_owned).collect(),
                        "String 0x1035" => m.message_id = value,
                        id => m.extended.push((id.to_owned(), value)),
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn checked(recipients: Vec<Value>) -> Result<Vec<Value>, Reply> {
    if recipients.iter().any(|r| !address_of(r).contains('@')) {
        return Err(error(400, "ErrorInvalidRecipients", "At least one recipient isn't valid."));
    }
    Ok(recipients)
}

/// Attachments given inside a message.
fn attach_inline(m: &mut Message, body: &Value, now: jiff::Timestamp) -> Result<(), Reply> {
    for attachment in body["attachments"].as_array().into_iter().flatten() {
        let attachment = super::attach::from_json(attachment, now)?;
        m.attach(attachment, now);
    }
    Ok(())
}

/// App-only mail leaves as the mailbox; another `from` needs rights the fake app has not.
fn own(mailbox: &Mailbox, m: &mut Message) -> Result<(), Reply> {
    if m.from.as_ref().is_some_and(|r| !address_of(r).eq_ignore_ascii_case(&mailbox.address)) {
        let message =
            "The user account which was used to submit this request does not have the right to send mail on behalf of the specified sending account.";
        return Err(error(403, "ErrorSendAsDenied", message));
    }
    m.from = Some(recipient("", &mailbox.address));
    m.sender.clone_from(&m.from);
    Ok(())
}

fn check_etag(req: &Req, m: &Message) -> Result<(), Reply> {
    match req.header("if-match") {
        Some(tag) if tag != "*" && tag != m.etag() => Err(error(
            412,
            "ErrorIrresolvableConflict",
            "The send or update operation could not be performed because the change key passed in the request does not match the current change key for the item.",
        )),
        _ => Ok(()),
    }
}

fn is_mime(req: &Req) -> bool {
    req.header("content-type").is_some_and(|t| t.starts_with("text/plain"))
}

fn from_mime(req: &Req, now: jiff::Timestamp) -> Result<Message, Reply> {
    let packed: Vec<u8> = req.body.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
    let bytes = STANDARD.decode(packed);
    let bytes = bytes.map_err(|_| error(400, "ErrorMimeContentInvalidBase64String", "Invalid base64 string for MIME content."))?;
    Ok(mime::read(&Bytes::from(bytes), now, Origin::New))
}

pub(super) fn json_body(req: &Req) -> Result<Value, Reply> {
    req.json().map_err(|_| error(400, "BadRequest", "Unable to read JSON request payload."))
}

/// The parameters of an action. Their names are declared with a capital (`Message`, `SaveToSentItems`), and both ways are written: by the
/// documentation without, by Microsoft's SDKs with.
pub(super) fn action_body(req: &Req) -> Result<Value, Reply> {
    let body = json_body(req)?;
    let Value::Object(map) = body else { return Ok(body) };
    let lowered = |name: String| match name.chars().next() {
        Some(first) if first.is_ascii_uppercase() => first.to_ascii_lowercase().to_string() + &name[1..],
        _ => name,
    };
    Ok(Value::Object(map.into_iter().map(|(name, value)| (lowered(name), value)).collect()))
}
