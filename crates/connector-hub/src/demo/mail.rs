//! A message as the desk reads it: who wrote, whether a machine did, what it says, which configuration items it may name.
//!
//! Pure functions over what Graph gives. Refuses to ask anybody, and to guess where a message says nothing.

use connector_core::{Error, Result};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The properties of a message the desk reads, headers included, so that one request is enough.
pub(super) const SELECT: [&str; 12] = [
    "id",
    "subject",
    "body",
    "from",
    "replyTo",
    "conversationId",
    "internetMessageId",
    "internetMessageHeaders",
    "categories",
    "importance",
    "receivedDateTime",
    "hasAttachments",
];
/// The longest text that goes into a ticket, in characters.
const MOST_TEXT: usize = 4_000;
/// The most names looked up for one message; more are a log or a table, not a request.
const MOST_NAMES: usize = 4;

/// A message.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mail {
    /// Graph's id, immutable within the mailbox.
    pub(super) id: String,
    /// The version that was read.
    pub(super) etag: Option<String>,
    /// The Message-ID header with its brackets; Graph gives one to mail that came without.
    pub(super) message_id: String,
    /// The thread it belongs to.
    pub(super) thread: String,
    pub(super) subject: String,
    pub(super) text: String,
    /// The sender's address in lower case.
    pub(super) sender: Option<String>,
    pub(super) sender_name: String,
    pub(super) categories: Vec<String>,
    pub(super) is_urgent: bool,
    /// Why a machine must have written it.
    pub(super) automatic: Option<&'static str>,
}

impl Mail {
    /// Reads a message. `mailbox` is our own address: what we wrote ourselves is never answered.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Invalid`] if it cannot be told apart from other messages.
    pub(super) fn read(message: &Value, mailbox: &str) -> Result<Self> {
        let id = text(message, "id").ok_or_else(|| Error::invalid("the message has no id"))?.to_owned();
        let message_id =
            text(message, "internetMessageId").ok_or_else(|| Error::invalid("the message has no Message-ID, so nobody can tell it from a copy"))?;
        let thread = thread_of(message).ok_or_else(|| Error::invalid("nothing says which thread the message belongs to"))?;
        let from = message.pointer("/from/emailAddress").unwrap_or(&Value::Null);
        let sender = text(from, "address").filter(|address| address.contains('@')).map(str::to_lowercase);
        let content = message.pointer("/body/content").and_then(Value::as_str).unwrap_or_default();
        let categories = message["categories"].as_array().into_iter().flatten().filter_map(|one| one.as_str().map(str::to_owned)).collect();
        Ok(Self {
            etag: text(message, "@odata.etag").map(str::to_owned),
            message_id: message_id.to_owned(),
            thread,
            subject: text(message, "subject").unwrap_or("(no subject)").chars().take(200).collect(),
            text: content.trim().chars().take(MOST_TEXT).collect(),
            sender_name: text(from, "name").or(sender.as_deref()).unwrap_or_default().to_owned(),
            automatic: automatic(message, sender.as_deref(), mailbox),
            is_urgent: text(message, "importance") == Some("high"),
            sender,
            categories,
            id,
        })
    }

    /// The key of one step over this message: the same after a crash, a copy and a restart, and no secret. Of the Message-ID, because
    /// that is what makes two deliveries the same letter.
    pub(super) fn key(&self, step: &str) -> String {
        format!("mail-{}-{step}", &digest(&self.message_id)[..32])
    }

    /// Words that have the form of a host's or service's name: letters, digits and hyphens, with a digit or a hyphen among them. A word
    /// without either (`shop`) looks like any other, so it is not looked up: that would ask the CMDB about every word of the language.
    pub(super) fn names(&self) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for word in words(&self.subject).chain(words(&self.text)) {
            if is_name(&word) && !found.contains(&word) {
                found.push(word);
            }
        }
        // Digits say more than hyphens, which ordinary words have too.
        found.sort_by_key(|name| !name.bytes().any(|byte| byte.is_ascii_digit()));
        found.truncate(MOST_NAMES);
        found
    }
}

/// The thread of a message in the form in which it is stored.
fn thread_of(message: &Value) -> Option<String> {
    connectors::msgraph::thread_key(message).map(|key| digest(&key.to_string()))
}

fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    let breaks = |c: char| !(c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '@'));
    text.split(breaks).map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase())
}

fn is_name(word: &str) -> bool {
    let parts = || word.split('-');
    (3..=32).contains(&word.len())
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && word.starts_with(|c: char| c.is_ascii_lowercase())
        && word.bytes().any(|byte| byte.is_ascii_digit() || byte == b'-')
        && parts().count() <= 4
        && parts().all(|part| !part.is_empty())
}

/// RFC 3834 §2 and what mailers do besides: a machine, a list and a bounce get no answer, or two machines would talk for ever.
fn automatic(message: &Value, sender: Option<&str>, mailbox: &str) -> Option<&'static str> {
    let values = |name: &'static str| {
        let headers = message["internetMessageHeaders"].as_array().map(Vec::as_slice).unwrap_or_default();
        headers
            .iter()
            .filter(move |header| text(header, "name").is_some_and(|known| known.eq_ignore_ascii_case(name)))
            .map(|header| header["value"].as_str().unwrap_or_default().trim().to_ascii_lowercase())
    };
    let has_word = |name: &'static str, wanted: &[&str]| {
        values(name).any(|value| value.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-')).any(|word| wanted.contains(&word)))
    };
    if sender.is_some_and(|sender| sender.eq_ignore_ascii_case(mailbox)) {
        return Some("we wrote it ourselves");
    }
    if values("auto-submitted").any(|value| !value.is_empty() && !value.starts_with("no")) {
        return Some("Auto-Submitted says so");
    }
    if values("return-path").any(|value| value == "<>") {
        return Some("it is a bounce");
    }
    if values("content-type").any(|value| value.starts_with("multipart/report")) {
        return Some("it is a delivery or read report");
    }
    if values("list-id").next().is_some() {
        return Some("it came over a mailing list");
    }
    if has_word("precedence", &["bulk", "list", "junk", "auto_reply"]) {
        return Some("Precedence says so");
    }
    if has_word("x-auto-response-suppress", &["all", "autoreply"]) {
        return Some("its sender wants no automatic answer");
    }
    let daemons = ["mailer-daemon@", "postmaster@"];
    sender.is_some_and(|sender| daemons.iter().any(|daemon| sender.starts_with(daemon))).then_some("a mail system wrote it")
}

/// A text field of an object, if it says something.
pub(super) fn text<'v>(value: &'v Value, field: &str) -> Option<&'v str> {
    value.get(field)?.as_str().map(str::trim).filter(|text| !text.is_empty())
}

/// SHA-256 in hex.
pub(super) fn digest(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(headers: &[(&str, &str)]) -> Value {
        let headers: Vec<Value> = headers.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
        json!({
            "id": "AAk1", "@odata.etag": "W/\"1\"", "internetMessageId": "<1@acme.example>", "conversationId": "AAQ1", "subject": "web01 is slow",
            "body": { "contentType": "text", "content": "  web01, db02 and billing-api. See http://intra.acme.example/a-b?x=1 or mail a-1@b.example.\r\n" },
            "from": { "emailAddress": { "name": "Ada", "address": "Ada@Acme.Example" } }, "internetMessageHeaders": headers,
        })
    }

    #[test]
    fn a_message_is_read_with_its_sender_in_lower_case() {
        let mail = Mail::read(&message(&[]), "support@contoso.example").unwrap();
        assert_eq!((mail.sender.as_deref(), mail.sender_name.as_str(), mail.automatic), (Some("ada@acme.example"), "Ada", None));
        assert!(mail.text.starts_with("web01, db02"));
    }

    #[test]
    fn keys_depend_on_message_and_step_only() {
        let one = Mail::read(&message(&[]), "x").unwrap();
        let copy = Mail { id: "AAk2".into(), subject: "other".into(), ..one.clone() };
        assert_eq!(one.key("reply"), copy.key("reply"));
        assert_ne!(one.key("reply"), one.key("ticket"));
        assert_ne!(one.key("reply"), Mail { message_id: "<2@acme.example>".into(), ..one.clone() }.key("reply"));
    }

    #[test]
    fn only_words_that_look_like_names_are_looked_up() {
        let names =
            |subject: &str, text: &str| Mail { subject: subject.into(), text: text.into(), ..Mail::read(&message(&[]), "x").unwrap() }.names();
        assert_eq!(names("web01 is slow", "(web01), \u{201c}mail-relay\u{201d} and sw-acc01."), ["web01", "sw-acc01", "mail-relay"]);
        assert_eq!(names("", "の web02 まで vm-billing-1。"), ["web02", "vm-billing-1"]);
        let nothing: [&str; 0] = [];
        assert_eq!(names("", "the shop is down; 12345, 2026-11-21, ---, a.b.example, x@y1.example, v1.2"), nothing);
        assert_eq!(names("", "h1 host1 host2 host3 host4 host5").len(), MOST_NAMES);
    }

    #[test]
    fn machines_lists_and_ourselves_are_recognised() {
        for header in [
            ("Auto-Submitted", "auto-replied (vacation)"),
            ("AUTO-SUBMITTED", "auto-generated"),
            ("Return-Path", "<>"),
            ("Content-Type", "Multipart/Report; report-type=delivery-status"),
            ("List-Id", "Operators <ops.lists.example.com>"),
            ("Precedence", "bulk"),
            ("X-Auto-Response-Suppress", "OOF, AutoReply"),
        ] {
            assert!(Mail::read(&message(&[header]), "x").unwrap().automatic.is_some(), "{header:?}");
        }
        for header in [("Auto-Submitted", "no"), ("Precedence", "first-class"), ("Return-Path", "<ada@acme.example>"), ("Content-Type", "text/plain")]
        {
            assert_eq!(Mail::read(&message(&[header]), "x").unwrap().automatic, None, "{header:?}");
        }
        assert!(Mail::read(&message(&[]), "ADA@acme.example").unwrap().automatic.is_some());
    }

    #[test]
    fn a_message_without_an_id_of_its_own_is_refused_with_the_reason() {
        let mut broken = message(&[]);
        broken["internetMessageId"] = Value::Null;
        assert!(Mail::read(&broken, "x").unwrap_err().message().contains("no Message-ID"));
        let mut anonymous = message(&[]);
        anonymous["from"] = Value::Null;
        assert_eq!(Mail::read(&anonymous, "x").unwrap().sender, None);
    }
}
