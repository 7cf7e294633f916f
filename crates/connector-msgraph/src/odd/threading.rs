//! Which thread a message belongs to, when Graph says so and when it does not.
//!
//! Owns the order of evidence: conversationId, then References, In-Reply-To and Message-ID, then subject and sender. Refuses to ask anybody:
//! it is a pure function over a message as Graph gives it.

use std::fmt;

use serde_json::Value;

/// What ties the messages of a thread together. Its text form is stable and fit for a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ThreadKey {
    /// Graph's own id of the conversation. Valid within one mailbox.
    Conversation(String),
    /// The Message-ID of the thread's first message, as far as the headers still know it.
    MessageId(String),
    /// Nothing better was there: the subject without reply marks, and who wrote.
    Subject {
        /// The normalised subject.
        subject: String,
        /// The sender's address in lower case.
        sender: String,
    },
}

impl fmt::Display for ThreadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conversation(id) => write!(f, "conversation:{id}"),
            Self::MessageId(id) => write!(f, "message-id:{id}"),
            Self::Subject { subject, sender } => write!(f, "subject:{subject}|{sender}"),
        }
    }
}

/// The thread of a message. `None` if it has neither ids nor a subject.
///
/// conversationId is not guaranteed, for example on imported mail. Headers are read where the message was fetched with them
/// (`msgraph_get_message_headers`).
pub fn thread_key(message: &Value) -> Option<ThreadKey> {
    if let Some(id) = text(message, "conversationId") {
        return Some(ThreadKey::Conversation(id.to_owned()));
    }
    // RFC 5322 §3.6.4: References starts with the thread's root; In-Reply-To names the parent only.
    let root = header(message, "References").and_then(first_id).or_else(|| header(message, "In-Reply-To").and_then(first_id));
    if let Some(id) = root.or_else(|| text(message, "internetMessageId").map(str::to_owned)) {
        return Some(ThreadKey::MessageId(id));
    }
    let subject = base_subject(text(message, "subject")?);
    let sender = address(message, "from").or_else(|| address(message, "sender")).unwrap_or_default().to_lowercase();
    (!subject.is_empty()).then_some(ThreadKey::Subject { subject, sender })
}

/// A subject without the marks that replies and forwards put before it, in lower case, spaces collapsed.
pub fn base_subject(subject: &str) -> String {
    // The marks of the languages Outlook and the common clients write.
    const MARKS: [&str; 16] = ["re", "fw", "fwd", "aw", "wg", "sv", "vs", "vb", "antw", "doorst", "tr", "rv", "res", "enc", "odp", "回复"];
    let mut rest = subject.trim();
    while let Some((mark, after)) = rest.split_once([':', '：']) {
        let bare = mark.trim().trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '[' | ']' | '(' | ')' | '^')).to_lowercase();
        if !MARKS.contains(&bare.as_str()) {
            break;
        }
        rest = after.trim_start();
    }
    rest.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

/// One of the message's Internet headers.
pub(crate) fn header<'m>(message: &'m Value, name: &str) -> Option<&'m str> {
    let headers = message.get("internetMessageHeaders")?.as_array()?;
    let found = headers.iter().find(|header| text(header, "name").is_some_and(|known| known.eq_ignore_ascii_case(name)))?;
    text(found, "value")
}

/// The address in `from` or `sender`.
pub(crate) fn address<'m>(message: &'m Value, field: &str) -> Option<&'m str> {
    message.get(field)?.get("emailAddress")?.get("address")?.as_str().filter(|address| !address.is_empty())
}

fn text<'m>(value: &'m Value, field: &str) -> Option<&'m str> {
    value.get(field)?.as_str().filter(|text| !text.is_empty())
}

fn first_id(header: &str) -> Option<String> {
    let start = header.find('<')?;
    let end = header[start..].find('>')? + start;
    // Folded headers may have white space inside long ids.
    Some(header[start..=end].split_whitespace().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key(message: &Value) -> String {
        thread_key(message).map(|key| key.to_string()).unwrap_or_default()
    }

    #[test]
    fn the_best_evidence_wins() {
        let mut message = json!({
            "conversationId": "AAQk", "internetMessageId": "<3@c.example>", "subject": "AW: RE[2]: Printer  down",
            "from": { "emailAddress": { "address": "Ann@Client.example" } },
            "internetMessageHeaders": [
                { "name": "in-reply-to", "value": "<2@c.example>" },
                { "name": "REFERENCES", "value": " <1@c.example>\r\n <2@c.example>" },
            ],
        });
        let mut keys = Vec::new();
        for field in ["conversationId", "internetMessageHeaders", "internetMessageId", "subject"] {
            keys.push(key(&message));
            message.as_object_mut().unwrap().remove(field);
        }
        keys.push(key(&message));
        assert_eq!(
            keys,
            ["conversation:AAQk", "message-id:<1@c.example>", "message-id:<3@c.example>", "subject:printer down|ann@client.example", ""]
        );
    }

    #[test]
    fn only_reply_marks_are_taken_off_a_subject() {
        for (subject, base) in [
            ("Re: Fwd: re: Hello", "hello"),
            ("Incident: router", "incident: router"),
            ("SV: VB: Å  b", "å b"),
            ("回复：打印机", "打印机"),
            ("re", "re"),
            ("RE:", ""),
        ] {
            assert_eq!(base_subject(subject), base, "{subject}");
        }
    }

    #[test]
    fn broken_headers_do_not_make_a_key() {
        let message =
            json!({ "internetMessageHeaders": [{ "name": "References", "value": "no ids here" }, { "name": null }], "internetMessageId": "" });
        assert_eq!(key(&message), "");
    }
}
