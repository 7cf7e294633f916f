//! ENVELOPE and BODYSTRUCTURE (RFC 3501 §7.4.2) of a part tree.

use super::{Inner, Part, envelope_addresses, field, parameters};
use crate::mail::imap::nstring;

/// `(date subject from sender reply-to to cc bcc in-reply-to message-id)`.
pub(crate) fn envelope(header: &[u8]) -> Vec<u8> {
    let value = |name: &str| field(header, name);
    let string = |name: &str| nstring(value(name).as_deref().map(str::as_bytes));
    let from = value("from");
    let or_from = |name: &str| envelope_addresses(value(name).filter(|value| !value.is_empty()).or_else(|| from.clone()).as_deref());
    let list = |name: &str| envelope_addresses(value(name).as_deref());
    let parts = [
        string("date"),
        string("subject"),
        list("from"),
        or_from("sender"),
        or_from("reply-to"),
        list("to"),
        list("cc"),
        list("bcc"),
        string("in-reply-to"),
        string("message-id"),
    ];
    [b"(", &parts.join(&b' ')[..], b")"].concat()
}

/// The structure; with `extended` also what only BODYSTRUCTURE tells.
pub(crate) fn body_structure(part: &Part<'_>, extended: bool) -> Vec<u8> {
    let mut out = b"(".to_vec();
    let disposition = field(part.header, "content-disposition");
    match &part.inner {
        Inner::Parts(parts) if !parts.is_empty() => {
            for inner in parts {
                out.extend(body_structure(inner, extended));
            }
            out.push(b' ');
            out.extend(nstring(Some(part.subtype.as_bytes())));
            if extended {
                out.push(b' ');
                out.extend(param_list(&part.params));
            }
        }
        inner => {
            let encoding = field(part.header, "content-transfer-encoding").unwrap_or_else(|| "7BIT".to_owned()).to_ascii_uppercase();
            let params =
                if part.params.is_empty() && part.kind == "TEXT" { vec![("CHARSET".to_owned(), "us-ascii".to_owned())] } else { part.params.clone() };
            let pieces = [
                nstring(Some(part.kind.as_bytes())),
                nstring(Some(part.subtype.as_bytes())),
                param_list(&params),
                nstring(field(part.header, "content-id").as_deref().map(str::as_bytes)),
                nstring(field(part.header, "content-description").as_deref().map(str::as_bytes)),
                nstring(Some(encoding.as_bytes())),
                part.body.len().to_string().into_bytes(),
            ];
            out.extend(pieces.join(&b' '));
            if let Inner::Message(message) = inner {
                out.push(b' ');
                out.extend(envelope(message.header));
                out.push(b' ');
                out.extend(body_structure(message, extended));
            }
            if matches!(inner, Inner::Message(_)) || part.kind == "TEXT" {
                out.extend(format!(" {}", part.body.iter().filter(|byte| **byte == b'\n').count()).into_bytes());
            }
            if extended {
                out.extend(b" NIL");
            }
        }
    }
    if extended {
        out.push(b' ');
        match disposition.as_deref().map(parameters) {
            Some((kind, params)) => {
                out.push(b'(');
                out.extend(nstring(Some(kind.as_bytes())));
                out.push(b' ');
                out.extend(param_list(&params));
                out.push(b')');
            }
            None => out.extend(b"NIL"),
        }
        out.push(b' ');
        out.extend(nstring(field(part.header, "content-language").as_deref().map(str::as_bytes)));
        out.extend(b" NIL");
    }
    out.push(b')');
    out
}

fn param_list(params: &[(String, String)]) -> Vec<u8> {
    if params.is_empty() {
        return b"NIL".to_vec();
    }
    let pairs: Vec<Vec<u8>> = params.iter().flat_map(|(name, value)| [nstring(Some(name.as_bytes())), nstring(Some(value.as_bytes()))]).collect();
    [b"(", &pairs.join(&b' ')[..], b")"].concat()
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    #[test]
    fn an_envelope_falls_back_to_from() {
        let shown = String::from_utf8(envelope(b"From: Ann <ann@x.test>\r\nSubject: Hi \"there\"\r\nMessage-ID: <1@x.test>\r\n\r\n")).unwrap();
        assert_eq!(
            shown,
            r#"(NIL "Hi \"there\"" (("Ann" NIL "ann" "x.test")) (("Ann" NIL "ann" "x.test")) (("Ann" NIL "ann" "x.test")) NIL NIL NIL NIL "<1@x.test>")"#
        );
    }

    #[test]
    fn an_attachment_shows_its_disposition() {
        let raw = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhello\r\n--b\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename=\"a b.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n--b--\r\n";
        let shown = String::from_utf8(body_structure(&parse(raw), true)).unwrap();
        assert_eq!(
            shown,
            r#"(("TEXT" "PLAIN" ("CHARSET" "us-ascii") NIL NIL "7BIT" 5 0 NIL NIL NIL NIL)("APPLICATION" "PDF" NIL NIL NIL "BASE64" 4 NIL ("attachment" ("FILENAME" "a b.pdf")) NIL NIL) "MIXED" ("BOUNDARY" "b") NIL NIL NIL)"#
        );
    }
}
