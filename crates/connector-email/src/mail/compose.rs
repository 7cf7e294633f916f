//! Messages of ours: headers, text, HTML, attachments. lettre writes them (RFC 5322, 2045 to 2047, 2231); owns what may go in.
//!
//! The same arguments, time and Message-ID give the same bytes: boundaries come from the Message-ID. Refuses line breaks in headers, too many
//! parts and too many bytes, before anything is built or sent.

use std::time::SystemTime;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use connector_core::{Error, Result};
use lettre::{
    Message,
    message::{
        Attachment, Mailbox, MultiPart, SinglePart,
        header::{ContentType, HeaderName, HeaderValue},
    },
};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::address::{mailbox, mailboxes, plain};
use crate::smtp::dialogue::Envelope;

/// The most attachments of one message.
pub(crate) const MOST_ATTACHMENTS: usize = 100;
/// The most recipients of one message.
const MOST_RECIPIENTS: usize = 500;
/// The most ids kept in `References`: the first and the last ones (fact sheet §5, unverified).
const MOST_REFERENCES: usize = 21;

/// What a caller says about a message.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Outgoing {
    pub(crate) from: Option<String>,
    pub(crate) to: Vec<String>,
    pub(crate) cc: Vec<String>,
    pub(crate) bcc: Vec<String>,
    pub(crate) reply_to: Option<String>,
    pub(crate) subject: Option<String>,
    pub(crate) text: Option<String>,
    pub(crate) html: Option<String>,
    pub(crate) attachments: Vec<File>,
    pub(crate) automatic: bool,
    /// Of the message that is answered.
    #[serde(skip)]
    pub(crate) in_reply_to: Option<String>,
    #[serde(skip)]
    pub(crate) references: Vec<String>,
}

/// A file to attach.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) mime: Option<String>,
    pub(crate) base64: String,
    /// Shown inside the HTML, where it is named `cid:..`.
    pub(crate) content_id: Option<String>,
}

/// A message that is ready.
#[derive(Debug, Clone)]
pub(crate) struct Composed {
    /// With its angle brackets.
    pub(crate) message_id: String,
    pub(crate) envelope: Envelope,
    pub(crate) bytes: Vec<u8>,
}

/// What a message is made with besides its content.
#[derive(Debug, Clone)]
pub(crate) struct Making<'a> {
    /// The connection's own address, for messages that name no sender.
    pub(crate) sender: Option<Mailbox>,
    /// What makes the Message-ID: the same seed gives the same id.
    pub(crate) seed: &'a str,
    pub(crate) now: SystemTime,
    pub(crate) max_bytes: usize,
    /// Drafts keep the blind copies, so that they are known when it is sent.
    pub(crate) keep_bcc: bool,
    /// A draft may have no recipients yet.
    pub(crate) needs_recipients: bool,
}

impl Outgoing {
    /// Builds the message.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Invalid`] that names what is wrong with which argument.
    pub(crate) fn compose(&self, making: &Making<'_>) -> Result<Composed> {
        self.check(making)?;
        let from = match (&self.from, &making.sender) {
            (Some(from), _) => mailbox(from, "from")?,
            (None, Some(sender)) => sender.clone(),
            (None, None) => return Err(Error::invalid("who is it from? give `from`, or set `address` on the connection")),
        };
        let (to, cc, bcc) = (mailboxes(&self.to, "to")?, mailboxes(&self.cc, "cc")?, mailboxes(&self.bcc, "bcc")?);
        let mut recipients: Vec<String> = Vec::new();
        for mailbox in to.iter().chain(&cc).chain(&bcc) {
            let address = mailbox.email.to_string();
            if !recipients.contains(&address) {
                recipients.push(address);
            }
        }
        if making.needs_recipients && recipients.is_empty() {
            return Err(Error::invalid("the message has no recipients; give `to`, `cc` or `bcc`"));
        }
        if recipients.len() > MOST_RECIPIENTS {
            return Err(Error::invalid(format!("the message has {} recipients; at most {MOST_RECIPIENTS} are sent at once", recipients.len())));
        }
        let message_id = message_id(making.seed, from.email.domain());
        let mut builder = Message::builder().message_id(Some(message_id.clone())).date(making.now).from(from.clone());
        builder = to.iter().cloned().fold(builder, lettre::message::MessageBuilder::to);
        builder = cc.iter().cloned().fold(builder, lettre::message::MessageBuilder::cc);
        if making.keep_bcc {
            builder = bcc.iter().cloned().fold(builder, lettre::message::MessageBuilder::bcc).keep_bcc();
        }
        if let Some(reply_to) = &self.reply_to {
            builder = builder.reply_to(mailbox(reply_to, "reply_to")?);
        }
        builder = builder.subject(self.subject.clone().unwrap_or_default());
        if let Some(parent) = &self.in_reply_to {
            builder = builder.in_reply_to(parent.clone());
        }
        if !self.references.is_empty() {
            builder = builder.references(trimmed(&self.references).join(" "));
        }
        if self.automatic {
            // RFC 3834: so that no machine answers this one.
            builder = builder.raw_header(HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-replied".to_owned()));
        }
        // lettre wants somebody to send to; who that is, the envelope of ours says.
        let placeholder = lettre::address::Envelope::new(Some(from.email.clone()), vec![from.email.clone()]);
        builder = builder.envelope(placeholder.map_err(|error| Error::internal("an envelope could not be made").with_source(error))?);
        let unbuilt = |error: lettre::error::Error| Error::invalid("the message could not be built").with_source(error);
        let built = match self.body(&message_id)? {
            Body::Single(part) => builder.singlepart(part),
            Body::Multi(parts) => builder.multipart(parts),
        };
        let bytes = built.map_err(unbuilt)?.formatted();
        if bytes.len() > making.max_bytes {
            return Err(Error::invalid(format!(
                "the message has {} bytes; at most {} are sent (setting `max_message_bytes`)",
                bytes.len(),
                making.max_bytes
            )));
        }
        Ok(Composed { message_id, envelope: Envelope { from: from.email.to_string(), to: recipients }, bytes })
    }

    /// What can be said before anything is decoded or copied.
    fn check(&self, making: &Making<'_>) -> Result<()> {
        plain(self.subject.as_deref().unwrap_or_default(), "subject")?;
        if self.attachments.len() > MOST_ATTACHMENTS {
            return Err(Error::invalid(format!("the message has {} attachments; at most {MOST_ATTACHMENTS} are sent", self.attachments.len())));
        }
        let content = self.attachments.iter().map(|file| file.base64.len()).sum::<usize>()
            + self.text.as_ref().map_or(0, String::len)
            + self.html.as_ref().map_or(0, String::len);
        if content > making.max_bytes {
            return Err(Error::invalid(format!(
                "the message's content has {content} bytes; at most {} are sent (setting `max_message_bytes`)",
                making.max_bytes
            )));
        }
        for id in self.references.iter().chain(&self.in_reply_to) {
            plain(id, "references")?;
        }
        Ok(())
    }

    fn body(&self, message_id: &str) -> Result<Body> {
        let boundary = |level: &str| format!("={}", hex::encode(&Sha256::digest(format!("{message_id}\0{level}"))[..16]));
        let text = self.text.clone().or_else(|| self.html.is_none().then(String::new));
        let (inline, attached): (Vec<&File>, Vec<&File>) = self.attachments.iter().partition(|file| file.content_id.is_some() && self.html.is_some());
        let html = match &self.html {
            Some(html) if inline.is_empty() => Some(Body::Single(SinglePart::html(html.clone()))),
            Some(html) => {
                let related = MultiPart::related().boundary(boundary("related")).singlepart(SinglePart::html(html.clone()));
                Some(Body::Multi(inline.iter().try_fold(related, |parts, file| Ok::<_, Error>(parts.singlepart(file.part()?)))?))
            }
            None => None,
        };
        let main = match (text, html) {
            (Some(text), None) => Body::Single(SinglePart::plain(text)),
            (None, Some(html)) => html,
            (Some(text), Some(html)) => {
                let both = MultiPart::alternative().boundary(boundary("alternative")).singlepart(SinglePart::plain(text));
                Body::Multi(html.added_to(both))
            }
            (None, None) => Body::Single(SinglePart::plain(String::new())),
        };
        if attached.is_empty() {
            return Ok(main);
        }
        let mixed = match main {
            Body::Single(part) => MultiPart::mixed().boundary(boundary("mixed")).singlepart(part),
            Body::Multi(parts) => MultiPart::mixed().boundary(boundary("mixed")).multipart(parts),
        };
        Ok(Body::Multi(attached.iter().try_fold(mixed, |parts, file| Ok::<_, Error>(parts.singlepart(file.part()?)))?))
    }
}

enum Body {
    Single(SinglePart),
    Multi(MultiPart),
}

impl Body {
    fn added_to(self, parts: MultiPart) -> MultiPart {
        match self {
            Self::Single(part) => parts.singlepart(part),
            Self::Multi(inner) => parts.multipart(inner),
        }
    }
}

impl File {
    fn part(&self) -> Result<SinglePart> {
        plain(&self.name, "attachments.name")?;
        let wrong = |what: &str| Error::invalid(format!("attachment `{}`: {what}", connector_core::redact::printable(&self.name, 60)));
        let mime = self.mime.as_deref().unwrap_or("application/octet-stream");
        plain(mime, "attachments.mime")?;
        let mime: ContentType = mime.parse().map_err(|_| wrong("`mime` is no media type"))?;
        let bytes = STANDARD.decode(self.base64.trim()).map_err(|_| wrong("`base64` is not base64"))?;
        let attachment = match &self.content_id {
            Some(id) => {
                plain(id, "attachments.content_id")?;
                Attachment::new_inline_with_name(id.trim_matches(['<', '>']).to_owned(), self.name.clone())
            }
            None => Attachment::new(self.name.clone()),
        };
        Ok(attachment.body(bytes, mime))
    }
}

/// `<..@domain>`, made of the seed: unique if the seed is, and the same each time for the same one.
fn message_id(seed: &str, domain: &str) -> String {
    let domain = if domain.is_ascii() { domain } else { "localhost" };
    format!("<{}@{domain}>", hex::encode(&Sha256::digest(seed.as_bytes())[..20]))
}

/// The first id and the last ones.
fn trimmed(references: &[String]) -> Vec<String> {
    if references.len() <= MOST_REFERENCES {
        return references.to_vec();
    }
    let last = &references[references.len() - (MOST_REFERENCES - 1)..];
    references[..1].iter().chain(last).cloned().collect()
}

#[cfg(test)]
mod tests {
    use mail_parser::{MessageParser, MimeHeaders as _};

    use super::*;

    fn making() -> Making<'static> {
        Making {
            sender: Some("Hub <hub@example.test>".parse().unwrap()),
            seed: "k1",
            now: SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_767_225_600),
            max_bytes: 100_000,
            keep_bcc: false,
            needs_recipients: true,
        }
    }

    fn outgoing() -> Outgoing {
        Outgoing { to: vec!["Ann <ann@example.test>".into()], subject: Some("Hi".into()), text: Some("Hello".into()), ..Outgoing::default() }
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_blind_copies_stay_blind() {
        let message = Outgoing { bcc: vec!["eve@example.test".into(), "ann@example.test".into()], html: Some("<p>Hi</p>".into()), ..outgoing() };
        let one = message.compose(&making()).unwrap();
        assert_eq!(one.bytes, message.compose(&making()).unwrap().bytes);
        assert_eq!(one.envelope.to, ["ann@example.test", "eve@example.test"]);
        assert!(!String::from_utf8_lossy(&one.bytes).contains("eve"));
        let draft = message.compose(&Making { keep_bcc: true, ..making() }).unwrap();
        assert!(String::from_utf8_lossy(&draft.bytes).contains("eve"));
        assert_ne!(one.message_id, message.compose(&Making { seed: "k2", ..making() }).unwrap().message_id);
    }

    #[test]
    fn names_texts_and_files_survive() {
        let file =
            File { name: "B\u{e4}r \u{1f43b}.pdf".into(), mime: Some("application/pdf".into()), base64: STANDARD.encode(b"%PDF"), content_id: None };
        let logo = File { name: "l.png".into(), mime: Some("image/png".into()), base64: STANDARD.encode(b"PNG"), content_id: Some("logo@x".into()) };
        let message = Outgoing {
            subject: Some("Gr\u{fc}\u{df}e \u{1f600} ".repeat(20)),
            text: Some(".\nvon\u{2026}\n".into()),
            html: Some("<img src=\"cid:logo@x\">".into()),
            attachments: vec![file, logo],
            ..outgoing()
        };
        let bytes = message.compose(&making()).unwrap().bytes;
        assert!(bytes.is_ascii() && bytes.split(|byte| *byte == b'\n').all(|line| line.len() <= 998));
        let read = MessageParser::default().parse(&bytes).unwrap();
        assert_eq!(read.subject().unwrap().trim(), message.subject.as_deref().unwrap().trim());
        assert_eq!(read.body_text(0).unwrap().replace("\r\n", "\n"), ".\nvon\u{2026}\n");
        let names: Vec<_> = read.attachments().filter_map(|part| part.attachment_name()).collect();
        assert!(names.contains(&"B\u{e4}r \u{1f43b}.pdf"), "{names:?}");
        assert!(read.attachments().any(|part| part.content_id() == Some("logo@x")));
    }

    #[test]
    fn headers_cannot_be_injected() {
        let evil = "x\r\nBcc: eve@example.test";
        let file = |name: &str, mime: &str, id: Option<&str>| {
            vec![File { name: name.into(), mime: Some(mime.into()), base64: String::new(), content_id: id.map(str::to_owned) }]
        };
        for message in [
            Outgoing { subject: Some(evil.into()), ..outgoing() },
            Outgoing { to: vec![format!("ann@example.test{evil}")], ..outgoing() },
            Outgoing { from: Some(format!("A{evil} <a@b.example>")), ..outgoing() },
            Outgoing { reply_to: Some(evil.into()), ..outgoing() },
            Outgoing { in_reply_to: Some(evil.into()), ..outgoing() },
            Outgoing { references: vec![evil.into()], ..outgoing() },
            Outgoing { attachments: file(evil, "text/plain", None), ..outgoing() },
            Outgoing { attachments: file("a", evil, None), ..outgoing() },
            Outgoing { attachments: file("a", "text/plain", Some(evil)), html: Some("x".into()), ..outgoing() },
        ] {
            let error = message.compose(&making()).unwrap_err();
            assert_eq!(error.kind(), connector_core::ErrorKind::Invalid, "{error}");
        }
    }

    #[test]
    fn too_much_is_refused_before_it_is_built() {
        let file = |size: usize| File { name: "a".into(), mime: None, base64: "A".repeat(size), content_id: None };
        let large = Outgoing { attachments: vec![file(100_001)], ..outgoing() };
        assert!(large.compose(&making()).unwrap_err().message().contains("at most 100000"), "oversized");
        let many = Outgoing { attachments: (0..1_000).map(|_| file(4)).collect(), ..outgoing() };
        assert!(many.compose(&making()).unwrap_err().message().contains("1000 attachments"));
        let crowd = Outgoing { to: (0..501).map(|n| format!("a{n}@example.test")).collect(), ..outgoing() };
        assert!(crowd.compose(&making()).unwrap_err().message().contains("501 recipients"));
        assert!(Outgoing { to: vec![], ..outgoing() }.compose(&making()).unwrap_err().message().contains("no recipients"));
    }

    #[test]
    fn long_threads_keep_their_first_and_last_ids() {
        let ids: Vec<String> = (0..50).map(|n| format!("<{n}@x>")).collect();
        let kept = trimmed(&ids);
        assert_eq!((kept.len(), kept[0].as_str(), kept[1].as_str(), kept[20].as_str()), (21, "<0@x>", "<30@x>", "<49@x>"));
    }
}
