//! Body structures: which parts a message has, told without fetching them. Facts: RFC 9051 §7.5.2 (BODYSTRUCTURE), RFC 2231 (names).
//!
//! Reads what is there and leaves the rest: a structure that a server got wrong gives fewer parts, never an error.

use mail_parser::{MessageParser, MimeHeaders as _};
use serde::Serialize;

use super::value::Value;

/// The most parts that are told.
const MOST: usize = 1_000;

/// A part that is no container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Part {
    /// Where it is: `2`, `1.3`; what `BODY[2]` means.
    pub(crate) part: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    pub(crate) mime: String,
    /// In bytes as it is encoded.
    pub(crate) size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_id: Option<String>,
    pub(crate) inline: bool,
    #[serde(skip)]
    pub(crate) encoding: String,
    #[serde(skip)]
    attached: bool,
}

impl Part {
    /// Whether people would call it an attachment: named, or said to be one, or nothing that is read as text.
    pub(crate) fn is_attachment(&self) -> bool {
        self.attached || self.name.is_some() || !(self.mime.starts_with("text/") || self.mime.starts_with("multipart/"))
    }
}

/// The parts of a BODYSTRUCTURE.
pub(crate) fn parts(structure: &Value) -> Vec<Part> {
    let mut found = Vec::new();
    // Lists are at most 64 deep (`value`), so this recursion is bounded.
    walk(structure, "", true, &mut found);
    found
}

fn walk(value: &Value, path: &str, top: bool, found: &mut Vec<Part>) {
    let items = value.list();
    if found.len() >= MOST {
        return;
    }
    let children = items.iter().take_while(|item| matches!(item, Value::List(_))).count();
    if children > 0 {
        for (at, child) in items[..children].iter().enumerate() {
            let path = if path.is_empty() { (at + 1).to_string() } else { format!("{path}.{}", at + 1) };
            walk(child, &path, false, found);
        }
        return;
    }
    let word = |at: usize| items.get(at).and_then(Value::text).unwrap_or_default().to_ascii_lowercase();
    let mime = format!("{}/{}", word(0), word(1));
    if mime == "/" {
        return;
    }
    let params = items.get(2).map(Value::list).unwrap_or_default();
    // Where the disposition stands depends on the kind: after lines for text, after envelope, structure and lines for a message.
    let basic = 7 + if mime.starts_with("text/") { 1 } else { 0 } + if mime == "message/rfc822" { 3 } else { 0 };
    let disposition = items.get(basic + 1).map(Value::list).unwrap_or_default();
    let kind = disposition.first().and_then(Value::text).unwrap_or_default().to_ascii_lowercase();
    let disposition_params = disposition.get(1).map(Value::list).unwrap_or_default();
    let name = parameter(disposition_params, "filename").or_else(|| parameter(params, "name"));
    found.push(Part {
        part: if top || path.is_empty() { "1".to_owned() } else { path.to_owned() },
        name,
        size: items.get(6).and_then(Value::number).unwrap_or_default(),
        content_id: items.get(3).and_then(Value::text).map(|id| id.trim_matches(['<', '>']).to_owned()).filter(|id| !id.is_empty()),
        inline: kind == "inline",
        encoding: word(5),
        attached: kind == "attachment",
        mime,
    });
}

/// A parameter by name, put together and decoded by the same code that reads whole messages (RFC 2231 and, because many send it, RFC 2047).
fn parameter(params: &[Value], name: &str) -> Option<String> {
    let mut header = String::from("Content-Disposition: attachment");
    let mut any = false;
    for pair in params.chunks_exact(2) {
        let (Some(key), Some(value)) = (pair[0].text(), pair[1].text()) else { continue };
        let base = key.split('*').next().unwrap_or_default();
        if !base.eq_ignore_ascii_case(name) || key.chars().any(|c| c.is_control() || c == ';' || c == '=') {
            continue;
        }
        any = true;
        let value: String = value.chars().filter(|c| !c.is_control()).collect();
        let renamed = key.to_ascii_lowercase().replacen(&name.to_ascii_lowercase(), "filename", 1);
        if renamed.ends_with('*') {
            header.push_str(&format!("; {renamed}={value}"));
        } else {
            header.push_str(&format!("; {renamed}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")));
        }
    }
    if !any {
        return None;
    }
    header.push_str("\r\n\r\n");
    let message = MessageParser::default().parse(header.as_bytes())?;
    message.attachment_name().or_else(|| message.root_part().attachment_name()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::imap::value::words;

    fn read(text: &str) -> Vec<Part> {
        parts(&words(&Bytes::copy_from_slice(text.as_bytes()), 0).unwrap()[0])
    }

    #[test]
    fn parts_are_told_by_where_they_are() {
        let found = read(concat!(
            "(((\"text\" \"plain\" (\"charset\" \"utf-8\") NIL NIL \"7bit\" 12 1 NIL NIL NIL NIL)(\"text\" \"html\" NIL NIL NIL \"7bit\" 40 2 NIL NIL NIL NIL) ",
            "\"alternative\" (\"boundary\" \"b\") NIL NIL NIL)(\"application\" \"pdf\" (\"name\" \"=?utf-8?Q?a_=C3=BC.pdf?=\") \"<c@x>\" NIL \"base64\" 1200 NIL ",
            "(\"attachment\" (\"filename*0*\" \"UTF-8''a%20\" \"filename*1*\" \"%C3%BC.pdf\")) NIL NIL) \"mixed\" (\"boundary\" \"c\") NIL NIL NIL)"
        ));
        assert_eq!(
            found.iter().map(|part| (part.part.as_str(), part.mime.as_str())).collect::<Vec<_>>(),
            [("1.1", "text/plain"), ("1.2", "text/html"), ("2", "application/pdf")]
        );
        let pdf = &found[2];
        assert_eq!((pdf.name.as_deref(), pdf.size, pdf.content_id.as_deref(), pdf.is_attachment()), (Some("a \u{fc}.pdf"), 1200, Some("c@x"), true));
        assert!(!found[0].is_attachment());
    }

    #[test]
    fn a_single_part_is_part_one_and_nonsense_is_none() {
        assert_eq!(read("(\"text\" \"plain\" NIL NIL NIL \"7bit\" 12 1)")[0].part, "1");
        for odd in ["()", "((()))", "(NIL NIL)", "(\"a\")", "(1 2 3)", "((((\"text\"))))"] {
            assert!(read(odd).len() <= 1, "{odd}");
        }
    }
}
