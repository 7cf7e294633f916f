//! Messages as they stand: taking the blind copies out of a draft, and reading who it goes to. Owns nothing but the header's bytes.

use connector_core::{Error, Result};
use mail_parser::{Message, MessageParser};

use super::{answer::addresses, compose::MOST_ATTACHMENTS};
use crate::smtp::dialogue::Envelope;

/// The most parts of a stored draft that is sent.
const MOST_PARTS: usize = MOST_ATTACHMENTS * 3;

/// Reads a message that is to be sent as it stands.
pub(crate) fn read(bytes: &[u8]) -> Result<(Message<'_>, Envelope)> {
    let message = MessageParser::default().parse(bytes).ok_or_else(|| Error::invalid("the draft has no header that can be read"))?;
    if message.parts.len() > MOST_PARTS {
        return Err(Error::invalid(format!("the draft has {} parts; at most {MOST_PARTS} are sent", message.parts.len())));
    }
    let from = addresses(message.from()).into_iter().next().ok_or_else(|| Error::invalid("the draft says not who it is from"))?;
    let mut to: Vec<String> = Vec::new();
    for address in [message.to(), message.cc(), message.bcc()].into_iter().flat_map(addresses) {
        if !to.contains(&address) {
            to.push(address);
        }
    }
    if to.is_empty() {
        return Err(Error::invalid("the draft has no recipients yet; change it with `email_update_draft`"));
    }
    Ok((message, Envelope { from, to }))
}

/// The same message without one header field, however it is folded.
pub(crate) fn without(bytes: &[u8], name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    let mut dropping = false;
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
        let (line, after) = rest.split_at(end);
        if line.trim_ascii().is_empty() {
            // The body begins.
            out.extend_from_slice(rest);
            break;
        }
        if !matches!(line[0], b' ' | b'\t') {
            let field = line.split(|byte| *byte == b':').next().unwrap_or_default().trim_ascii();
            dropping = field.eq_ignore_ascii_case(name.as_bytes());
        }
        if !dropping {
            out.extend_from_slice(line);
        }
        rest = after;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blind_copies_are_taken_out_wherever_they_are() {
        let draft = b"From: a@x.example\r\nBCC : eve@x.example,\r\n\tmallory@x.example\r\nTo: b@x.example\r\nbcc: z@x.example\r\n\r\nBcc: stays in the body\r\n";
        let (_, envelope) = read(draft).unwrap();
        assert!(envelope.to.contains(&"b@x.example".to_owned()));
        assert_eq!(without(draft, "Bcc"), b"From: a@x.example\r\nTo: b@x.example\r\n\r\nBcc: stays in the body\r\n");
        assert_eq!(without(b"Bcc: x", "Bcc"), b"");
    }

    #[test]
    fn a_draft_of_a_thousand_parts_is_not_sent() {
        let mut draft = "From: a@x.example\r\nTo: b@x.example\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n".to_owned();
        for _ in 0..1_000 {
            draft.push_str("--b\r\n\r\nx\r\n");
        }
        draft.push_str("--b--\r\n");
        assert!(read(draft.as_bytes()).unwrap_err().message().contains("parts"));
        assert!(read(b"From: a@x.example\r\n\r\n").unwrap_err().message().contains("no recipients"));
        assert!(read(b"To: a@x.example\r\n\r\n").unwrap_err().message().contains("who it is from"));
    }
}
