//! Drafts: messages in the folder of drafts. A message never changes on a server (RFC 9051 §2.3.1.1), so a changed draft is a new one that
//! takes the place of the old.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use connector_core::{Error, ErrorKind, Result};
use mail_parser::{Message, MessageParser, MimeHeaders as _};
use serde_json::json;

use super::{Mail, Outcome, folder_for, sending::newest, targets::not_found};
use crate::{
    imap::{mailbox::Access, names::Purpose, session::Session},
    mail::{
        answer::{self, Parent},
        compose::{Composed, File, Making, Outgoing},
        locator::exact,
        raw, read,
    },
};

impl Mail<'_> {
    pub(super) async fn draft(&self) -> Result<Outcome> {
        let mut outgoing: Outgoing = self.args()?;
        let (seed, making) = self.making(true, false).await?;
        let mut session = self.lease().await?;
        if self.text("message").is_some() {
            // A draft of an answer belongs into the thread of what it answers.
            let (open, uid) = self.target(&mut session, Access::Read).await?;
            let (_, bytes) = self.fetch_whole(&mut session, &open, uid).await?;
            let message = MessageParser::default().parse(&bytes).ok_or_else(not_found)?;
            let parent = Parent::of(&message);
            if outgoing.to.is_empty() {
                let own: Vec<String> = making.sender.iter().map(|sender| sender.email.to_string()).collect();
                (outgoing.to, _) = parent.recipients(&own, false)?;
            }
            outgoing.subject = Some(outgoing.subject.take().unwrap_or_else(|| answer::reply_subject(&parent.subject)));
            outgoing.in_reply_to.clone_from(&parent.message_id);
            outgoing.references = parent.thread();
        }
        let composed = outgoing.compose(&Making { seed: &seed, ..making })?;
        let folder = folder_for(&mut session, Purpose::Drafts).await?;
        drop(session);
        let (id, reconciled) = self.store_draft(&folder, &composed).await?;
        Ok(Outcome { value: json!({ "id": id, "message_id": composed.message_id, "folder": folder }), partial: Vec::new(), reconciled })
    }

    /// Puts a draft into its folder, once: APPEND has no key, but the Message-ID tells whether it is there.
    async fn store_draft(&self, folder: &str, composed: &Composed) -> Result<(Option<String>, bool)> {
        let mut session = self.lease().await?;
        let id = |found: (u32, u32)| exact(folder, found.0, found.1);
        if self.cx.idempotency_key.is_some()
            && let Some(found) = newest(&mut session, folder, &composed.message_id).await?
        {
            return Ok((Some(id(found)), true));
        }
        let appended = match session.append(folder, "(\\Draft \\Seen)", Bytes::copy_from_slice(&composed.bytes)).await {
            Err(error) if matches!(error.kind(), ErrorKind::Transient | ErrorKind::Timeout) => {
                drop(session);
                let mut session = self.lease().await?;
                // Whole or not at all: if it is not there, it was not put there.
                return match newest(&mut session, folder, &composed.message_id).await? {
                    Some(found) => Ok((Some(id(found)), true)),
                    None => Err(error.with_kind(ErrorKind::NotSent)),
                };
            }
            appended => appended?,
        };
        if let (Some(validity), Some(uid)) = (appended.uid_validity, appended.uid) {
            return Ok((Some(exact(folder, validity, uid)), false));
        }
        Ok((newest(&mut session, folder, &composed.message_id).await?.map(id), false))
    }

    /// The draft that is named, with its bytes. What is no draft is left alone.
    async fn open_draft(&self, session: &mut Session) -> Result<(String, u32, Bytes)> {
        let (open, uid) = self.target(session, Access::Read).await?;
        let (about, bytes) = self.fetch_whole(session, &open, uid).await?;
        let is_draft = about.flags.iter().flatten().any(|flag| flag.eq_ignore_ascii_case("\\Draft"));
        let drafts = folder_for(session, Purpose::Drafts).await.ok();
        if !is_draft && drafts.as_deref() != Some(&open.name) {
            return Err(Error::invalid("the message is not a draft"));
        }
        Ok((open.name, uid, bytes))
    }

    pub(super) async fn update_draft(&self) -> Result<Outcome> {
        let given: Outgoing = self.args()?;
        let (seed, making) = self.making(true, false).await?;
        let mut session = self.lease().await?;
        let (folder, uid, bytes) = self.open_draft(&mut session).await?;
        drop(session);
        let message = MessageParser::default().parse(&bytes).ok_or_else(not_found)?;
        let merged = self.merged(given, &message);
        let composed = merged.compose(&Making { seed: &seed, ..making })?;
        let (id, reconciled) = self.store_draft(&folder, &composed).await?;
        // The new one is there: now the old one may go.
        let mut session = self.lease().await?;
        session.open(&folder, Access::Write, None).await?;
        session.remove(&[uid]).await?;
        Ok(Outcome { value: json!({ "id": id, "message_id": composed.message_id, "folder": folder }), partial: Vec::new(), reconciled })
    }

    /// What was given, and what the draft had where nothing was given.
    fn merged(&self, mut given: Outgoing, old: &Message<'_>) -> Outgoing {
        let has = |name: &str| self.call.args.get(name).is_some_and(|value| !value.is_null());
        for (name, to, value) in [("to", &mut given.to, old.to()), ("cc", &mut given.cc, old.cc()), ("bcc", &mut given.bcc, old.bcc())] {
            if !has(name) {
                *to = answer::addresses(value);
            }
        }
        let plain = |text: &str| text.chars().filter(|c| !c.is_control()).collect::<String>();
        given.subject = given.subject.or_else(|| old.subject().map(plain));
        given.reply_to = given.reply_to.or_else(|| answer::addresses(old.reply_to()).into_iter().next());
        given.from = given.from.or_else(|| answer::addresses(old.from()).into_iter().next());
        if given.text.is_none() && given.html.is_none() {
            given.text = read::text_of(old);
            given.html = (0..old.parts.len())
                .find_map(|at| old.part(u32::try_from(at).ok()?).filter(|part| part.is_text_html()))
                .and(old.body_html(0).map(std::borrow::Cow::into_owned));
        }
        if !has("attachments") {
            given.attachments = old
                .attachments()
                .map(|part| File {
                    name: plain(&read::name(part).unwrap_or_else(|| "attachment".to_owned())),
                    mime: Some(
                        Some(read::mime(part)).filter(|mime| mime != "message/rfc822").unwrap_or_else(|| "application/octet-stream".to_owned()),
                    ),
                    base64: STANDARD.encode(part.contents()),
                    content_id: part.content_id().map(plain).filter(|_| given.html.is_some()),
                })
                .collect();
        }
        let parent = Parent::of(old);
        given.in_reply_to = parent.in_reply_to;
        given.references = parent.references;
        given
    }

    pub(super) async fn send_draft(&self) -> Result<Outcome> {
        let mut session = self.lease().await?;
        let (folder, uid, bytes) = self.open_draft(&mut session).await?;
        drop(session);
        let (message, envelope) = raw::read(&bytes)?;
        let message_id = message.message_id().map(answer::bracketed);
        let message_id =
            message_id.ok_or_else(|| Error::invalid("the draft has no Message-ID; change it with `email_update_draft`, which gives it one"))?;
        let composed = Composed { message_id, envelope, bytes: raw::without(&bytes, "Bcc") };
        // The Message-ID of a draft is its own: if sent mail has it, this draft was sent before.
        let outcome = if self.was_sent(&composed.message_id).await? {
            Outcome {
                value: json!({ "message_id": composed.message_id, "accepted": composed.envelope.to, "refused": [], "saved_to_sent": true, "already_sent": true }),
                partial: Vec::new(),
                reconciled: true,
            }
        } else {
            self.deliver(&composed).await?
        };
        let removed = async {
            let mut session = self.lease().await?;
            session.open(&folder, Access::Write, None).await?;
            session.remove(&[uid]).await
        };
        let removed: Result<bool> = removed.await;
        if let Err(error) = removed {
            tracing::warn!(target: "connectors::email", %error, "a draft was sent, but could not be taken out of the drafts");
        }
        Ok(outcome)
    }

    pub(super) async fn delete_draft(&self) -> Result<Outcome> {
        let mut session = self.lease().await?;
        let (folder, uid, _) = match self.open_draft(&mut session).await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(json!({ "deleted": false }).into()),
            found => found?,
        };
        session.open(&folder, Access::Write, None).await?;
        session.remove(&[uid]).await?;
        Ok(json!({ "deleted": true }).into())
    }
}
