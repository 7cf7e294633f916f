//! Messages as callers see them: the fields of the header, decoded; text and HTML; what is attached. Parsing is mail-parser's.

use bytes::Bytes;
use jiff::fmt::strtime;
use mail_parser::{Address, Message, MessageParser, MimeHeaders as _, PartType};
use serde_json::{Map, Value, json};

use super::{answer::ids, locator};
use crate::imap::fetched::Fetched;

/// The header fields of a listing.
pub(crate) const FIELDS: &str = "MESSAGE-ID IN-REPLY-TO REFERENCES DATE FROM TO CC BCC SUBJECT REPLY-TO AUTO-SUBMITTED LIST-ID CONTENT-TYPE";
/// The longest text that is given in a listing, in characters.
const PREVIEW: usize = 2_000;
/// The longest text or HTML of one message that is given, in characters.
const LONGEST_TEXT: usize = 1_000_000;

/// One message of a listing.
pub(crate) fn summary(folder: &str, uid_validity: u32, fetched: &Fetched) -> Value {
    let header = fetched.header.clone().unwrap_or_default();
    let parsed = MessageParser::default().parse_headers(&header);
    let mut out = base(folder, uid_validity, fetched);
    if let Some(message) = &parsed {
        fields(message, &mut out);
    }
    if let Some(body) = &fetched.body
        && let Some(message) = MessageParser::default().parse(body)
    {
        out.insert("preview".into(), cut(&text_of(&message).unwrap_or_default(), PREVIEW).into());
    }
    Value::Object(out)
}

/// One whole message.
pub(crate) fn full(folder: &str, uid_validity: u32, fetched: &Fetched, bytes: &Bytes, with_html: bool) -> Value {
    let mut out = base(folder, uid_validity, fetched);
    let Some(message) = MessageParser::default().parse(bytes) else {
        // Nothing in it is a header: it is shown as text rather than lost.
        out.insert("text".into(), cut(&String::from_utf8_lossy(bytes), LONGEST_TEXT).into());
        return Value::Object(out);
    };
    fields(&message, &mut out);
    if let Some(text) = text_of(&message) {
        out.insert("text".into(), cut(&text, LONGEST_TEXT).into());
    }
    if with_html && let Some(html) = message.body_html(0) {
        out.insert("html".into(), cut(&html, LONGEST_TEXT).into());
    }
    let attached = attachments(&message);
    if out.get("attachments").is_none_or(|known| known.as_array().is_none_or(Vec::is_empty)) {
        out.insert("attachments".into(), attached.into());
    }
    Value::Object(out)
}

/// What is attached, by a number of its own where no part number is known.
pub(crate) fn attachments(message: &Message<'_>) -> Vec<Value> {
    message
        .attachments()
        .enumerate()
        .map(|(at, part)| {
            let mut file = json!({ "index": at, "mime": mime(part), "size": part.len(), "inline": matches!(part.body, PartType::InlineBinary(_)) });
            if let Some(name) = name(part) {
                file["name"] = name.into();
            }
            if let Some(id) = part.content_id() {
                file["content_id"] = id.into();
            }
            file
        })
        .collect()
}

/// The name of a part; an attached message is named after its subject.
pub(crate) fn name(part: &mail_parser::MessagePart<'_>) -> Option<String> {
    let named = part.attachment_name().map(str::to_owned);
    named.or_else(|| part.message().map(|message| format!("{}.eml", message.subject().unwrap_or("message"))))
}

/// The media type of a part.
pub(crate) fn mime(part: &mail_parser::MessagePart<'_>) -> String {
    match part.content_type() {
        Some(kind) => format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or("octet-stream")).to_ascii_lowercase(),
        None if part.is_message() => "message/rfc822".to_owned(),
        None => "text/plain".to_owned(),
    }
}

fn base(folder: &str, uid_validity: u32, fetched: &Fetched) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("id".into(), locator::exact(folder, uid_validity, fetched.uid).into());
    out.insert("folder".into(), folder.into());
    out.insert("uidvalidity".into(), uid_validity.into());
    out.insert("uid".into(), fetched.uid.into());
    if let Some(flags) = &fetched.flags {
        let has = |wanted: &str| flags.iter().any(|flag| flag.eq_ignore_ascii_case(wanted));
        out.insert("unread".into(), (!has("\\Seen")).into());
        out.insert("starred".into(), has("\\Flagged").into());
        out.insert("answered".into(), has("\\Answered").into());
        out.insert("flags".into(), flags.clone().into());
        let keywords: Vec<String> = flags.iter().filter(|flag| !flag.starts_with('\\')).cloned().collect();
        out.insert("labels".into(), fetched.labels.clone().unwrap_or(keywords).into());
    }
    if let Some(size) = fetched.size {
        out.insert("size".into(), size.into());
    }
    if let Some(date) = fetched.internal_date.as_deref().and_then(internal_date) {
        out.insert("received_at".into(), date.into());
    }
    if let Some(thread) = &fetched.gmail_thread {
        out.insert("thread_id".into(), thread.clone().into());
    }
    if let Some(id) = &fetched.gmail_message {
        out.insert("gmail_id".into(), id.clone().into());
    }
    if let Some(parts) = &fetched.parts {
        let files = parts.iter().filter(|part| part.is_attachment()).map(|part| serde_json::to_value(part).unwrap_or_default());
        out.insert("attachments".into(), files.collect::<Vec<_>>().into());
    }
    out
}

fn fields(message: &Message<'_>, out: &mut Map<String, Value>) {
    out.insert("message_id".into(), message.message_id().map(super::answer::bracketed).into());
    out.insert("in_reply_to".into(), ids(message.in_reply_to()).into_iter().next().into());
    out.insert("references".into(), ids(message.references()).into());
    out.insert("subject".into(), message.subject().into());
    out.insert("date".into(), message.date().map(mail_parser::DateTime::to_rfc3339).into());
    let lists = [("from", message.from()), ("to", message.to()), ("cc", message.cc()), ("bcc", message.bcc()), ("reply_to", message.reply_to())];
    for (name, value) in lists {
        out.insert(name.into(), people(value).into());
    }
    let raw = |name: &str| message.header_raw(name.to_owned()).map(|value| value.split_whitespace().collect::<Vec<_>>().join(" "));
    if let Some(value) = raw("Auto-Submitted") {
        out.insert("auto_submitted".into(), value.into());
    }
    if let Some(value) = raw("List-Id") {
        out.insert("list_id".into(), value.into());
    }
}

fn people(value: Option<&Address<'_>>) -> Vec<Value> {
    let Some(value) = value else { return Vec::new() };
    value.iter().map(|one| json!({ "name": one.name.as_deref(), "address": one.address.as_deref() })).collect()
}

/// The text people would read.
pub(crate) fn text_of(message: &Message<'_>) -> Option<String> {
    message.body_text(0).map(std::borrow::Cow::into_owned)
}

/// Cut at so many characters.
fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}\u{2026}", &text[..at]),
        None => text.to_owned(),
    }
}

/// `17-Jul-1996 02:44:25 -0700` as RFC 3339.
pub(crate) fn internal_date(text: &str) -> Option<String> {
    let parsed = strtime::parse("%d-%b-%Y %H:%M:%S %z", text.trim()).ok()?;
    Some(parsed.to_timestamp().ok()?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_dates_are_read() {
        assert_eq!(internal_date("17-Jul-1996 02:44:25 -0700").as_deref(), Some("1996-07-17T09:44:25Z"));
        assert_eq!(internal_date(" 1-Nov-2026 00:00:00 +0000").as_deref(), Some("2026-11-01T00:00:00Z"));
        assert_eq!(internal_date("yesterday"), None);
    }

    #[test]
    fn a_listing_tells_what_the_header_says() {
        let header = Bytes::from_static(b"Message-ID: <1@c.example>\r\nFrom: =?utf-8?Q?J=C3=BCrgen?= <j@c.example>\r\nTo: a@b.example, b@b.example\r\nSubject: =?utf-8?B?SMOk?=\r\nDate: Sat, 21 Nov 2026 09:00:00 +0000\r\nReferences: <a@x> <b@x>\r\n\r\n");
        let fetched =
            Fetched { uid: 9, flags: Some(vec!["\\Seen".into(), "Work".into()]), header: Some(header), size: Some(5), ..Fetched::default() };
        let told = summary("INBOX", 7, &fetched);
        assert_eq!(told["id"], "INBOX;7;9");
        assert_eq!(
            (&told["subject"], &told["from"][0]["name"], &told["to"][1]["address"]),
            (&json!("H\u{e4}"), &json!("J\u{fc}rgen"), &json!("b@b.example"))
        );
        assert_eq!((&told["unread"], &told["labels"], &told["references"]), (&json!(false), &json!(["Work"]), &json!(["<a@x>", "<b@x>"])));
        assert_eq!((&told["message_id"], &told["date"]), (&json!("<1@c.example>"), &json!("2026-11-21T09:00:00Z")));
    }

    #[test]
    fn what_is_no_message_is_shown_and_not_lost() {
        for bytes in [&b""[..], b"\0\xff\xfe", b"\r\n\r\n", b"hello"] {
            let told = full("INBOX", 7, &Fetched { uid: 1, ..Fetched::default() }, &Bytes::copy_from_slice(bytes), true);
            assert_eq!(told["id"], "INBOX;7;1");
        }
    }
}
