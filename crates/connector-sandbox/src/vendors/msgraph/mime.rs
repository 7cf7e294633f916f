//! Between RFC 5322 bytes and stored messages. Reading never fails: whatever could be parsed is taken and the bytes are kept, as a
//! real mailbox does with broken mail. It refuses to deliver anything.

use super::model::{Attachment, Message, Origin, address_of, recipient};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use mail_parser::{Address, HeaderValue, MessageParser, MimeHeaders, PartType};
use serde_json::Value;

/// Reads a message; `now` stands in for dates it does not carry.
pub(super) fn read(bytes: &Bytes, now: Timestamp, origin: Origin) -> Message {
    let mut out = Message::blank(now, origin);
    out.mime = Some(bytes.clone());
    let Some(mail) = MessageParser::default().parse(&bytes[..]) else {
        out.content = String::from_utf8_lossy(bytes).into_owned();
        return out;
    };
    out.subject = mail.subject().unwrap_or_default().to_owned();
    out.from = recipients(mail.from()).into_iter().next();
    out.sender = recipients(mail.sender()).into_iter().next().or_else(|| out.from.clone());
    out.to = recipients(mail.to());
    out.cc = recipients(mail.cc());
    out.bcc = recipients(mail.bcc());
    out.reply_to = recipients(mail.reply_to());
    out.message_id = mail.message_id().map(bracketed).unwrap_or_default();
    out.in_reply_to = ids(mail.in_reply_to()).into_iter().next();
    out.references = ids(mail.references());
    if let Some(date) = mail.date().and_then(|d| Timestamp::from_second(d.to_timestamp()).ok()) {
        out.sent = date;
    }
    out.headers = mail.headers_raw().map(|(name, value)| (name.to_owned(), unfold(value))).collect();
    out.importance = importance(&out.headers).to_owned();
    // A text-only message also has an "HTML body" in the parser's view, made up from its text; only a real HTML part counts.
    let html = mail.html_bodies().find_map(|part| match &part.body {
        PartType::Html(html) => Some(html.clone().into_owned()),
        _ => None,
    });
    (out.html, out.content) = match html {
        Some(html) => (true, html),
        None => (false, mail.body_text(0).map(|t| t.into_owned()).unwrap_or_default()),
    };
    for (n, part) in mail.attachments().enumerate() {
        let kind = part.content_type().map(|t| format!("{}/{}", t.ctype(), t.subtype().unwrap_or("octet-stream")));
        let item = part.is_message();
        let name = part.attachment_name().map_or_else(|| format!("attachment-{}{}", n + 1, if item { ".eml" } else { "" }), str::to_owned);
        out.attachments.push(Attachment {
            id: String::new(),
            name,
            content_type: kind.unwrap_or_else(|| "application/octet-stream".into()).to_lowercase(),
            inline: matches!(part.body, PartType::InlineBinary(_)) || part.content_disposition().is_some_and(|d| d.is_inline()),
            content_id: part.content_id().map(str::to_owned),
            bytes: match &part.body {
                PartType::Message(inner) => Bytes::copy_from_slice(inner.raw_message()),
                _ => Bytes::copy_from_slice(part.contents()),
            },
            item,
            modified: now,
        });
    }
    out
}

fn recipients(address: Option<&Address<'_>>) -> Vec<Value> {
    address.into_iter().flat_map(|list| list.iter()).filter_map(|a| Some(recipient(a.name().unwrap_or_default(), a.address()?))).collect()
}

fn ids(value: &HeaderValue<'_>) -> Vec<String> {
    match value {
        HeaderValue::Text(id) => vec![bracketed(id)],
        HeaderValue::TextList(list) => list.iter().map(|id| bracketed(id)).collect(),
        _ => Vec::new(),
    }
}

fn bracketed(id: &str) -> String {
    format!("<{}>", id.trim().trim_matches(['<', '>']))
}

fn unfold(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn importance(headers: &[(String, String)]) -> &'static str {
    let value = |name: &str| headers.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v.to_lowercase());
    match (value("importance").as_deref(), value("x-priority").as_deref().and_then(|p| p.chars().next())) {
        (Some("high"), _) | (None, Some('1' | '2')) => "high",
        (Some("low"), _) | (None, Some('4' | '5')) => "low",
        _ => "normal",
    }
}

/// The MIME text of a message made through the API; received ones answer with their own bytes.
pub(super) fn write(m: &Message) -> Bytes {
    if let Some(bytes) = &m.mime {
        return bytes.clone();
    }
    let mut head = Vec::new();
    let mut put = |name: &str, value: String| {
        if !value.is_empty() {
            head.push(format!("{name}: {value}"));
        }
    };
    put("Date", m.sent.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string());
    put("From", m.from.iter().map(mailbox).collect::<Vec<_>>().join(", "));
    put("To", m.to.iter().map(mailbox).collect::<Vec<_>>().join(", "));
    put("Cc", m.cc.iter().map(mailbox).collect::<Vec<_>>().join(", "));
    put("Subject", encoded_word(&m.subject));
    put("Message-ID", m.message_id.clone());
    put("In-Reply-To", m.in_reply_to.clone().unwrap_or_default());
    put("References", m.references.join(" "));
    for (name, value) in &m.headers {
        put(name, encoded_word(value));
    }
    put("MIME-Version", "1.0".into());
    let text = format!(
        "Content-Type: text/{}; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n{}",
        if m.html { "html" } else { "plain" },
        wrapped(m.content.as_bytes())
    );
    let body = if m.attachments.is_empty() {
        text
    } else {
        let boundary = format!("=_sandbox_{:x}", m.key);
        let mut parts = format!("Content-Type: multipart/mixed; boundary=\"{boundary}\"\r\n\r\n--{boundary}\r\n{text}");
        for a in &m.attachments {
            let name = encoded_word(&a.name).replace('"', "'");
            parts.push_str(&format!(
                "\r\n--{boundary}\r\nContent-Type: {}\r\nContent-Disposition: {}; filename=\"{name}\"\r\nContent-Transfer-Encoding: base64\r\n\r\n{}",
                a.content_type,
                if a.inline { "inline" } else { "attachment" },
                wrapped(&a.bytes)
            ));
        }
        format!("{parts}\r\n--{boundary}--")
    };
    Bytes::from(format!("{}\r\n{body}\r\n", head.join("\r\n")))
}

fn mailbox(recipient: &Value) -> String {
    let (name, address) = (recipient["emailAddress"]["name"].as_str().unwrap_or_default(), address_of(recipient));
    if name.is_empty() || name == address {
        return address.to_owned();
    }
    if name.is_ascii() { format!("\"{}\" <{address}>", name.replace('"', "'")) } else { format!("{} <{address}>", encoded_word(name)) }
}

/// RFC 2047 for anything but plain ASCII; line breaks never reach a header.
fn encoded_word(text: &str) -> String {
    let flat = text.replace(['\r', '\n'], " ");
    if flat.is_ascii() { flat } else { format!("=?utf-8?B?{}?=", STANDARD.encode(flat)) }
}

fn wrapped(bytes: &[u8]) -> String {
    let text = STANDARD.encode(bytes);
    let lines: Vec<&str> = text.as_bytes().chunks(76).map(|c| std::str::from_utf8(c).unwrap_or_default()).collect();
    lines.join("\r\n")
}
