//! Sending: a message once, whatever happens on the way; answers in their thread; forwarding.
//!
//! The Message-ID is made of the call's idempotency key, so a repeat is the same message, and whoever repeats looks into the folder of sent
//! mail first. A connection that is lost after the last dot leaves the outcome open: where the provider keeps sent mail by itself it is looked
//! for there, and otherwise the call ends as `unknown` and nothing is sent again (fact sheet §4.2).

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use connector_core::{Error, ErrorKind, Result, connector::ItemError};
use connector_manifest::engine::Authorization;
use mail_parser::{MessageParser, MimeHeaders as _};
use serde_json::{Value, json};

use super::{Mail, Outcome, find, targets};
use crate::{
    imap::{
        command::Command,
        mailbox::{Access, Folder},
        names::Purpose,
        session::Session,
    },
    mail::{
        address,
        answer::{self, Parent},
        compose::{Composed, File, Making, Outgoing},
        read,
    },
    net::Dial,
    smtp::dialogue::{Failed, Submission, Taken},
};

/// The longest an attempt may take; the layers above cut it off at this (`TimeoutClass::Long`).
const WHOLE: Duration = Duration::from_secs(300);
/// What is left for looking whether a message was sent after all.
const RESERVE: Duration = Duration::from_secs(15);
/// When to look into sent mail after a loss: providers take a moment to put it there.
const LOOKS: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(5)];

impl Mail<'_> {
    /// What a message of this call is made with.
    pub(super) async fn making(&self, keep_bcc: bool, needs_recipients: bool) -> Result<(String, Making<'static>)> {
        let seed = match &self.cx.idempotency_key {
            Some(key) => format!("{}\0{}\0{}\0{key}", self.cx.tenant(), self.cx.connection.id, self.call.operation),
            None => uuid::Uuid::new_v4().to_string(),
        };
        let making = Making {
            sender: self.sender().await?,
            seed: "",
            now: self.engine.clock().wall(),
            max_bytes: self.settings.max_message,
            keep_bcc,
            needs_recipients,
        };
        Ok((seed, making))
    }

    pub(super) async fn send(&self) -> Result<Outcome> {
        let outgoing: Outgoing = self.args()?;
        let (seed, making) = self.making(false, true).await?;
        let composed = outgoing.compose(&Making { seed: &seed, ..making })?;
        self.deliver(&composed).await
    }

    pub(super) async fn reply(&self, all: bool) -> Result<Outcome> {
        let mut outgoing: Outgoing = self.args()?;
        let (seed, making) = self.making(false, true).await?;
        let own: Vec<String> = making.sender.iter().map(|sender| sender.email.to_string()).collect();
        let (folder, validity, uid) = {
            let mut session = self.lease().await?;
            let (open, uid) = self.target(&mut session, Access::Read).await?;
            let (_, bytes) = self.fetch_whole(&mut session, &open, uid).await?;
            let message = MessageParser::default().parse(&bytes).ok_or_else(targets::not_found)?;
            let parent = Parent::of(&message);
            if let (true, Some(why)) = (outgoing.automatic, parent.automatic) {
                return Err(Error::invalid(format!("no automatic answer is sent to this message: {why}")));
            }
            let (to, cc) = parent.recipients(&own, all)?;
            outgoing.to = to;
            outgoing.cc.extend(cc);
            outgoing.subject = Some(outgoing.subject.take().unwrap_or_else(|| answer::reply_subject(&parent.subject)));
            outgoing.in_reply_to.clone_from(&parent.message_id);
            outgoing.references = parent.thread();
            if self.flag("quote") {
                let before = outgoing.text.take().unwrap_or_default();
                let quoted = answer::quoted(&read::text_of(&message).unwrap_or_default());
                outgoing.text = Some(format!(
                    "{before}\n\n{} wrote{}:\n{quoted}",
                    parent.from.join(", "),
                    parent.date.as_deref().map(|date| format!(" on {date}")).unwrap_or_default()
                ));
            }
            (open.name, open.uid_validity, uid)
        };
        let composed = outgoing.compose(&Making { seed: &seed, ..making })?;
        let outcome = self.deliver(&composed).await?;
        self.mark_answered(&folder, validity, uid, "(\\Answered)").await;
        Ok(outcome)
    }

    pub(super) async fn forward(&self) -> Result<Outcome> {
        let mut outgoing: Outgoing = self.args()?;
        let (seed, making) = self.making(false, true).await?;
        let (folder, validity, uid) = {
            let mut session = self.lease().await?;
            let (open, uid) = self.target(&mut session, Access::Read).await?;
            let (_, bytes) = self.fetch_whole(&mut session, &open, uid).await?;
            let message = MessageParser::default().parse(&bytes).ok_or_else(targets::not_found)?;
            let parent = Parent::of(&message);
            outgoing.subject = Some(outgoing.subject.take().unwrap_or_else(|| answer::forward_subject(&parent.subject)));
            let before = outgoing.text.take().unwrap_or_default();
            outgoing.text = Some(format!(
                "{before}\n\n---------- Forwarded message ----------\nFrom: {}\nDate: {}\nSubject: {}\nTo: {}\n\n{}",
                parent.from.join(", "),
                parent.date.as_deref().unwrap_or_default(),
                parent.subject,
                parent.to.join(", "),
                read::text_of(&message).unwrap_or_default()
            ));
            if self.call.args.get("attachments_too").and_then(Value::as_bool).is_none_or(|too| too) {
                for part in message.attachments() {
                    let plain = |text: String| text.chars().filter(|c| !c.is_control()).collect::<String>();
                    outgoing.attachments.push(File {
                        name: plain(read::name(part).unwrap_or_else(|| "attachment".to_owned())),
                        // An attached message must not be encoded (RFC 2046 §5.2.1); as a file it may.
                        mime: Some(
                            Some(read::mime(part)).filter(|mime| mime != "message/rfc822").unwrap_or_else(|| "application/octet-stream".to_owned()),
                        ),
                        base64: STANDARD.encode(part.contents()),
                        content_id: part.content_id().map(|id| plain(id.to_owned())).filter(|_| outgoing.html.is_some()),
                    });
                }
            }
            (open.name, open.uid_validity, uid)
        };
        let composed = outgoing.compose(&Making { seed: &seed, ..making })?;
        let outcome = self.deliver(&composed).await?;
        self.mark_answered(&folder, validity, uid, "($Forwarded)").await;
        Ok(outcome)
    }

    /// Sends a message once.
    pub(super) async fn deliver(&self, composed: &Composed) -> Result<Outcome> {
        // With a key this may be a repeat of what has happened.
        if self.cx.idempotency_key.is_some() && self.was_sent(&composed.message_id).await? {
            return Ok(self.sent(composed, None, true, true));
        }
        let started = self.engine.clock().now();
        let whole = self.cx.time_left(started).unwrap_or(WHOLE).min(WHOLE);
        let taken = match self.submit(composed, whole).await {
            Ok(taken) => taken,
            Err(Failed::Before(error)) => return Err(error),
            Err(Failed::Unclear(error)) => return self.after_loss(composed, error).await,
        };
        let saved = if self.settings.saves_sent { self.save_sent(composed).await } else { true };
        Ok(self.sent(composed, Some(taken), saved, false))
    }

    async fn submit(&self, composed: &Composed, whole: Duration) -> Result<Taken, Failed> {
        let started = self.engine.clock().now();
        let (authorization, used) = self.engine.authorization(self.cx).await?;
        let opened = match self.open_submission(&authorization).await {
            Err(error) if error.kind() == ErrorKind::AuthExpired && self.engine.rejected(self.cx, &used).await? => {
                let (fresher, _) = self.engine.authorization(self.cx).await?;
                self.open_submission(&fresher).await
            }
            opened => opened,
        };
        let mut submission = opened?;
        // The reply to the last dot is waited for as long as the caller has, and a little is kept for looking.
        let spent = self.engine.clock().now().saturating_duration_since(started);
        let patience = whole.saturating_sub(spent).saturating_sub(RESERVE).max(Duration::from_secs(1));
        let taken = submission.send(&composed.envelope, &composed.bytes, patience).await;
        if taken.is_ok() {
            submission.quit().await;
        }
        taken
    }

    /// An authenticated submission session.
    pub(super) async fn open_submission(&self, authorization: &Authorization) -> Result<Submission> {
        let tls = self.pool.tls().client(self.settings.ca_file.as_deref()).await?;
        let dial = Dial::new(self.engine, self.cx, &self.settings.smtp, tls).await?;
        Submission::open(&dial, &self.settings, authorization).await
    }

    /// Nobody knows whether the server has it: sent mail may tell.
    async fn after_loss(&self, composed: &Composed, error: Error) -> Result<Outcome> {
        if !self.settings.saves_sent {
            for wait in LOOKS {
                tokio::time::sleep(wait).await;
                match self.was_sent(&composed.message_id).await {
                    Ok(true) => return Ok(self.sent(composed, None, true, true)),
                    Ok(false) => {}
                    Err(error) => tracing::warn!(target: "connectors::email", %error, "sent mail could not be looked through after a loss"),
                }
            }
        }
        let message =
            "the connection was lost after the message was handed over, so nobody knows whether it was sent; it is not sent again by itself";
        Err(Error::new(ErrorKind::Unknown, message).with_context("message_id", composed.message_id.clone()).with_source(error))
    }

    /// Whether sent mail has a message of this id.
    pub(super) async fn was_sent(&self, message_id: &str) -> Result<bool> {
        let mut session = self.lease().await?;
        let folders = session.folders().await?;
        match sent_folder(&folders) {
            Some(folder) => has(&mut session, &folder, message_id).await,
            None => Ok(false),
        }
    }

    /// Puts a copy into sent mail. The message is out: a failure here is told, and not an error.
    async fn save_sent(&self, composed: &Composed) -> bool {
        let saved = async {
            let mut session = self.lease().await?;
            let folders = session.folders().await?;
            let folder = sent_folder(&folders).ok_or_else(|| Error::new(ErrorKind::NotFound, "this mailbox has no folder for sent mail"))?;
            session.append(&folder, "(\\Seen)", Bytes::copy_from_slice(&composed.bytes)).await
        };
        let saved: Result<_> = saved.await;
        if let Err(error) = &saved {
            tracing::warn!(target: "connectors::email", %error, "a message was sent, but no copy could be put into sent mail");
        }
        saved.is_ok()
    }

    async fn mark_answered(&self, folder: &str, validity: u32, uid: u32, flag: &str) {
        let marked = async {
            let mut session = self.lease().await?;
            let open = session.open(folder, Access::Write, None).await?;
            if open.uid_validity == validity { session.store(&[uid], "+FLAGS.SILENT", Command::new(flag)).await } else { Ok(()) }
        };
        let marked: Result<()> = marked.await;
        if let Err(error) = marked {
            tracing::warn!(target: "connectors::email", %error, "an answer was sent, but the message it answers could not be marked");
        }
    }

    /// What a caller hears of a message that is out.
    fn sent(&self, composed: &Composed, taken: Option<Taken>, saved: bool, reconciled: bool) -> Outcome {
        let (accepted, refused) = match taken {
            Some(taken) => (taken.accepted, taken.refused),
            None => (composed.envelope.to.clone(), Vec::new()),
        };
        let told: Vec<Value> = refused
            .iter()
            .map(|refused| json!({ "address": refused.address, "code": refused.reply.shown(), "may_be_tried_again": refused.reply.is_passing() }))
            .collect();
        let index = |address: &str| composed.envelope.to.iter().position(|to| address::same(to, address));
        let partial = refused
            .into_iter()
            .map(|refused| ItemError {
                index: index(&refused.address),
                kind: refused.reply.kind().0,
                message: "the mail server refused this recipient; the others got the message".to_owned(),
                vendor_code: Some(refused.reply.shown()),
                retryable: refused.reply.is_passing(),
                key: Some(refused.address),
            })
            .collect();
        let value =
            json!({ "message_id": composed.message_id, "accepted": accepted, "refused": told, "saved_to_sent": saved, "already_sent": reconciled });
        Outcome { value, partial, reconciled }
    }
}

/// The folder of sent mail; on Gmail a search in all mail would find drafts, too.
fn sent_folder(folders: &[Folder]) -> Option<String> {
    find(folders, Purpose::Sent)
}

/// Whether a folder has a message of this id.
pub(super) async fn has(session: &mut Session, folder: &str, message_id: &str) -> Result<bool> {
    Ok(newest(session, folder, message_id).await?.is_some())
}

/// The newest message of this id in a folder: UIDVALIDITY and UID.
pub(super) async fn newest(session: &mut Session, folder: &str, message_id: &str) -> Result<Option<(u32, u32)>> {
    let open = session.open(folder, Access::Read, None).await?;
    let found = session.search(Command::new("UNDELETED HEADER Message-ID").value(message_id)?).await?;
    Ok(found.last().map(|uid| (open.uid_validity, *uid)))
}
