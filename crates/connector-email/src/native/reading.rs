//! Reading: listings, whole messages, attachments, threads. Folders are opened with EXAMINE and bodies fetched with PEEK, so nothing is
//! marked as read by looking at it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use connector_core::{Error, ErrorKind, Result};
use mail_parser::{Encoding, MessageParser};
use serde_json::{Value, json};

use super::{Mail, Operation, Outcome, folder_for, folder_named, targets::not_found};
use crate::{
    imap::{
        command::Command,
        fetched::Fetched,
        mailbox::{Access, Open},
        names::Purpose,
        session::Session,
    },
    mail::{
        answer::{Parent, base_subject},
        read,
        search::Criteria,
    },
};

/// How much of a body a preview is made of.
const PREVIEW_BYTES: usize = 64 * 1024;
/// The most messages of a thread.
const THREAD: usize = 100;

/// What FETCH is asked for in a listing.
fn items(session: &Session, preview: bool) -> String {
    let gmail = if session.is_gmail() { " X-GM-LABELS X-GM-MSGID X-GM-THRID" } else { "" };
    let body = if preview { format!(" BODY.PEEK[]<0.{PREVIEW_BYTES}>") } else { String::new() };
    format!("(UID FLAGS INTERNALDATE RFC822.SIZE BODYSTRUCTURE{gmail} BODY.PEEK[HEADER.FIELDS ({})]{body})", read::FIELDS)
}

/// These items of one message.
async fn about_one(session: &mut Session, uid: u32, items: &str) -> Result<Fetched> {
    let mut about = None;
    session
        .fetch(&[uid], items, 0, &mut |fetched| {
            about = Some(fetched);
            Ok(())
        })
        .await?;
    about.ok_or_else(not_found)
}

/// Messages of an open folder, the newest first.
async fn summaries(session: &mut Session, open: &Open, uids: &[u32], preview: bool) -> Result<Vec<Value>> {
    let items = items(session, preview);
    let mut found: Vec<(u32, Value)> = Vec::with_capacity(uids.len());
    session
        .fetch(uids, &items, 0, &mut |fetched| {
            found.push((fetched.uid, read::summary(&open.name, open.uid_validity, &fetched)));
            Ok(())
        })
        .await?;
    // The same message may be told twice; the later word counts.
    found.sort_by_key(|(uid, _)| std::cmp::Reverse(*uid));
    found.dedup_by_key(|(uid, _)| *uid);
    Ok(found.into_iter().map(|(_, value)| value).collect())
}

impl Mail<'_> {
    pub(super) async fn list(&self, operation: Operation) -> Result<Outcome> {
        let mut session = self.lease().await?;
        let folder = match operation {
            Operation::ListDrafts => folder_for(&mut session, Purpose::Drafts).await?,
            _ => folder_named(&mut session, self.text("folder").unwrap_or("INBOX")).await?,
        };
        let mut criteria = match operation {
            Operation::Search => self.args::<Criteria>()?,
            _ => Criteria::default(),
        };
        if self.flag("unread_only") {
            criteria.unread = Some(true);
        }
        let number = |name: &str| self.call.args.get(name).and_then(Value::as_u64);
        let limit = usize::try_from(number("limit").unwrap_or(50)).unwrap_or(50).clamp(1, 500);
        let open = session.open(&folder, Access::Read, None).await?;
        let keys = criteria.keys(session.is_gmail())?;
        let mut uids = session.search(keys).await?;
        if let Some(from) = criteria.uid_from {
            // `UID n:*` always has the last message, also where its UID is smaller (fact sheet §3.4).
            uids.retain(|uid| *uid >= from);
        }
        let total = uids.len();
        if let Some(before) = number("before_uid") {
            uids.retain(|uid| u64::from(*uid) < before);
        }
        let page = &uids[uids.len().saturating_sub(limit)..];
        let next = (page.len() < uids.len()).then(|| page.first().copied()).flatten();
        let preview = self.flag("preview") || matches!(operation, Operation::ReadInbox) && self.call.args.get("preview").is_none_or(Value::is_null);
        let messages = summaries(&mut session, &open, page, preview).await?;
        Ok(json!({ "folder": open.name, "uidvalidity": open.uid_validity, "total": total, "messages": messages, "next_before_uid": next }).into())
    }

    /// A message with its bytes, not longer than the connection allows.
    pub(super) async fn fetch_whole(&self, session: &mut Session, open: &Open, uid: u32) -> Result<(Fetched, Bytes)> {
        let gmail = if session.is_gmail() { " X-GM-LABELS X-GM-MSGID X-GM-THRID" } else { "" };
        let items = format!("(UID FLAGS INTERNALDATE RFC822.SIZE BODYSTRUCTURE{gmail})");
        let about = about_one(session, uid, &items).await?;
        let most = self.settings.max_message;
        if about.size.unwrap_or_default() > most as u64 {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("the message is larger than {most} bytes (setting `max_message_bytes`); get its header or single attachments"),
            )
            .with_context("size", about.size.unwrap_or_default().to_string())
            .with_context("folder", open.name.clone()));
        }
        let mut body = None;
        session
            .fetch(&[uid], "(UID BODY.PEEK[])", most.saturating_add(64 * 1024), &mut |fetched| {
                body = fetched.body.or(body.take());
                Ok(())
            })
            .await?;
        Ok((about, body.ok_or_else(not_found)?))
    }

    pub(super) async fn get_message(&self) -> Result<Outcome> {
        let mut session = self.lease().await?;
        let (open, uid) = self.target(&mut session, Access::Read).await?;
        let (about, bytes) = self.fetch_whole(&mut session, &open, uid).await?;
        Ok(read::full(&open.name, open.uid_validity, &about, &bytes, self.flag("html")).into())
    }

    pub(super) async fn get_headers(&self) -> Result<Outcome> {
        let mut session = self.lease().await?;
        let (open, uid) = self.target(&mut session, Access::Read).await?;
        let mut header = None;
        session
            .fetch(&[uid], "(UID BODY.PEEK[HEADER])", 0, &mut |fetched| {
                header = fetched.header.or(header.take());
                Ok(())
            })
            .await?;
        let header = header.ok_or_else(not_found)?;
        let parsed = MessageParser::default().parse_headers(&header);
        let fields: Vec<Value> = parsed
            .iter()
            .flat_map(|message| message.headers_raw())
            .map(|(name, value)| json!({ "name": name, "value": value.split_whitespace().collect::<Vec<_>>().join(" ") }))
            .collect();
        Ok(json!({ "id": crate::mail::locator::exact(&open.name, open.uid_validity, uid), "headers": fields }).into())
    }

    pub(super) async fn get_raw(&self) -> Result<Outcome> {
        let mut session = self.lease().await?;
        let (open, uid) = self.target(&mut session, Access::Read).await?;
        let (_, bytes) = self.fetch_whole(&mut session, &open, uid).await?;
        Ok(json!({ "content_type": "message/rfc822", "base64": STANDARD.encode(&bytes) }).into())
    }

    pub(super) async fn list_attachments(&self) -> Result<Outcome> {
        let mut session = self.lease().await?;
        let (open, uid) = self.target(&mut session, Access::Read).await?;
        let parts = self.parts(&mut session, uid).await?;
        let files: Vec<Value> = parts.iter().filter(|part| part.is_attachment()).map(|part| serde_json::to_value(part).unwrap_or_default()).collect();
        Ok(json!({ "id": crate::mail::locator::exact(&open.name, open.uid_validity, uid), "attachments": files }).into())
    }

    async fn parts(&self, session: &mut Session, uid: u32) -> Result<Vec<crate::imap::structure::Part>> {
        let mut parts = None;
        session
            .fetch(&[uid], "(UID BODYSTRUCTURE)", 0, &mut |fetched| {
                parts = fetched.parts.or(parts.take());
                Ok(())
            })
            .await?;
        parts.ok_or_else(not_found)
    }

    pub(super) async fn get_attachment(&self) -> Result<Outcome> {
        let wanted = self.required("part")?;
        if wanted.len() > 100
            || !wanted.split('.').all(|number| !number.is_empty() && number.len() <= 5 && number.bytes().all(|byte| byte.is_ascii_digit()))
        {
            return Err(Error::invalid("`part` is a number such as `2` or `1.3`; `email_list_attachments` tells which there are"));
        }
        let mut session = self.lease().await?;
        let (_, uid) = self.target(&mut session, Access::Read).await?;
        let parts = self.parts(&mut session, uid).await?;
        let part = parts.iter().find(|part| part.part == wanted).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "the message has no such part")
                .with_context("parts", parts.iter().map(|part| part.part.as_str()).collect::<Vec<_>>().join(", "))
        })?;
        let most = self.settings.max_message;
        if part.size > most as u64 {
            return Err(Error::invalid(format!("the attachment is larger than {most} bytes (setting `max_message_bytes`)")));
        }
        let mut body = None;
        session
            .fetch(&[uid], &format!("(UID BODY.PEEK[{wanted}])"), most.saturating_add(64 * 1024), &mut |fetched| {
                body = fetched.body.or(body.take());
                Ok(())
            })
            .await?;
        let bytes = decoded(&part.encoding, &body.ok_or_else(not_found)?);
        Ok(json!({ "name": part.name, "mime": part.mime, "size": bytes.len(), "base64": STANDARD.encode(&bytes) }).into())
    }

    /// Everything that belongs to a message by its references, over the inbox, sent mail and all mail; on Gmail by its own thread.
    pub(super) async fn get_thread(&self) -> Result<Outcome> {
        let mut session = self.lease().await?;
        let (open, uid) = self.target(&mut session, Access::Read).await?;
        let items = items(&session, false);
        let about = about_one(&mut session, uid, &items).await?;
        let header = about.header.clone().unwrap_or_default();
        let parent = MessageParser::default().parse_headers(&header).map(|message| Parent::of(&message)).unwrap_or_default();
        let mut ids = parent.thread();
        ids.extend(parent.in_reply_to.clone());
        ids.extend(parent.message_id.clone());
        ids.sort();
        ids.dedup();
        let root = parent.references.first().or(parent.in_reply_to.as_ref()).or(parent.message_id.as_ref()).cloned();
        let mut messages: Vec<Value> = Vec::new();
        let listed = session.folders().await?;
        let mut folders = vec![open.name.clone()];
        for purpose in [Purpose::All, Purpose::Inbox, Purpose::Sent, Purpose::Archive] {
            folders.extend(super::find(&listed, purpose).filter(|name| !folders.contains(name)));
        }
        let all_mail = super::find(&listed, Purpose::All);
        if let (true, Some(all)) = (session.is_gmail(), &all_mail) {
            folders = vec![all.clone()];
        }
        for folder in folders {
            let open = session.open(&folder, Access::Read, None).await?;
            let uids = match (&about.gmail_thread, session.is_gmail()) {
                (Some(thread), true) if thread.bytes().all(|byte| byte.is_ascii_digit()) => {
                    session.search(Command::new(format!("X-GM-THRID {thread}"))).await?
                }
                _ => {
                    let mut uids = Vec::new();
                    // What the message refers to, and what refers to where its thread began.
                    for id in ids.iter().rev().take(20) {
                        uids.extend(session.search(Command::new("HEADER Message-ID").value(id)?).await?);
                    }
                    for id in [root.as_ref(), parent.message_id.as_ref()].into_iter().flatten() {
                        uids.extend(session.search(Command::new("OR HEADER References").value(id)?.words("HEADER In-Reply-To").value(id)?).await?);
                    }
                    uids.sort_unstable();
                    uids.dedup();
                    uids
                }
            };
            let newest = &uids[uids.len().saturating_sub(THREAD)..];
            messages.extend(summaries(&mut session, &open, newest, self.flag("preview")).await?);
        }
        // A message may be in several folders; once is enough.
        let mut known = std::collections::HashSet::new();
        messages.retain(|message| message["message_id"].as_str().is_none_or(|id| known.insert(id.to_owned())));
        // Within a second, an answer comes after what it refers to.
        let when = |message: &Value| {
            let time = message["received_at"].as_str().or(message["date"].as_str()).unwrap_or_default().to_owned();
            (time, message["references"].as_array().map_or(0, Vec::len))
        };
        messages.sort_by_key(when);
        messages.truncate(THREAD);
        let thread_id = about.gmail_thread.clone().or(root);
        Ok(json!({ "thread_id": thread_id, "subject": base_subject(&parent.subject), "messages": messages }).into())
    }

    pub(super) async fn find_message(&self) -> Result<Outcome> {
        let mut session = self.lease().await?;
        let id = crate::mail::answer::bracketed(self.required("message_id")?);
        let crate::mail::locator::Locator::MessageId(id) = crate::mail::locator::Locator::parse(&id)? else { return Err(not_found()) };
        match super::targets::find_id(&mut session, self.text("folder"), &id).await? {
            Some((open, uid)) => {
                let found = summaries(&mut session, &open, &[uid], false).await?;
                Ok(json!({ "message": found.into_iter().next() }).into())
            }
            None => Ok(json!({ "message": null }).into()),
        }
    }
}

/// A part's bytes without their transfer encoding.
fn decoded(encoding: &str, bytes: &Bytes) -> Vec<u8> {
    let encoding = match encoding {
        "base64" => Encoding::Base64,
        "quoted-printable" => Encoding::QuotedPrintable,
        _ => return bytes.to_vec(),
    };
    let name = if encoding == Encoding::Base64 { "base64" } else { "quoted-printable" };
    // The same decoder that reads whole messages: tolerant of what mailers get wrong.
    let mut message = format!("Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: {name}\r\n\r\n").into_bytes();
    message.extend_from_slice(bytes);
    match MessageParser::default().parse(&message) {
        Some(parsed) => parsed.root_part().contents().to_vec(),
        None => bytes.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfer_encodings_are_taken_off() {
        assert_eq!(decoded("base64", &Bytes::from_static(b"JVBE\r\nRg==\r\n")), b"%PDF");
        assert_eq!(decoded("quoted-printable", &Bytes::from_static(b"a=3Db=\r\nc")), b"a=bc");
        assert_eq!(decoded("7bit", &Bytes::from_static(b"x=3D")), b"x=3D");
    }
}
