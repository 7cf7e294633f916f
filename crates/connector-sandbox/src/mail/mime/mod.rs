//! A message as an IMAP server sees it: octets with a part tree over them. Nothing is decoded; a client asks for the raw octets of a part and
//! decodes them itself. Bounded: a tree deeper than 20 levels or wider than 2,000 parts is cut off.

mod address;
mod structure;

pub(crate) use address::envelope_addresses;
pub(crate) use structure::{body_structure, envelope};

use super::wire::find;

const DEEPEST: usize = 20;
const WIDEST: usize = 2_000;

/// One node of the tree.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    /// The header block with the empty line that ends it.
    pub(crate) header: &'a [u8],
    /// Everything after it.
    pub(crate) body: &'a [u8],
    /// Type, upper case.
    pub(crate) kind: String,
    /// Subtype, upper case.
    pub(crate) subtype: String,
    /// Parameters of `Content-Type`, names upper case.
    pub(crate) params: Vec<(String, String)>,
    /// What is inside.
    pub(crate) inner: Inner<'a>,
}

/// What a part holds.
#[derive(Debug)]
pub(crate) enum Inner<'a> {
    /// Octets.
    Leaf,
    /// Parts of a multipart.
    Parts(Vec<Part<'a>>),
    /// A whole message.
    Message(Box<Part<'a>>),
}

/// Reads a message.
pub(crate) fn parse(raw: &[u8]) -> Part<'_> {
    parse_part(raw, "TEXT/PLAIN", 0)
}

fn parse_part<'a>(raw: &'a [u8], default: &str, depth: usize) -> Part<'a> {
    let (header, body) = split(raw);
    let value = field(header, "content-type").unwrap_or_default();
    let (media, params) = parameters(&value);
    let media = if media.contains('/') { media } else { default.to_owned() };
    let (kind, subtype) = media.split_once('/').unwrap_or(("TEXT", "PLAIN"));
    let (kind, subtype) = (kind.trim().to_ascii_uppercase(), subtype.trim().to_ascii_uppercase());
    let boundary = params.iter().find(|(name, _)| name == "BOUNDARY").map(|(_, value)| value.clone());
    let inner = match boundary {
        _ if depth >= DEEPEST => Inner::Leaf,
        Some(boundary) if kind == "MULTIPART" => {
            let default = if subtype == "DIGEST" { "MESSAGE/RFC822" } else { "TEXT/PLAIN" };
            Inner::Parts(pieces(body, &boundary).into_iter().map(|piece| parse_part(piece, default, depth + 1)).collect())
        }
        _ if kind == "MESSAGE" && subtype == "RFC822" => Inner::Message(Box::new(parse_part(body, "TEXT/PLAIN", depth + 1))),
        _ => Inner::Leaf,
    };
    Part { header, body, kind, subtype, params, inner }
}

/// Header block (with its empty line) and body.
pub(crate) fn split(raw: &[u8]) -> (&[u8], &[u8]) {
    if raw.starts_with(b"\r\n") {
        return raw.split_at(2);
    }
    find(raw, b"\r\n\r\n").map_or((raw, &raw[raw.len()..]), |at| raw.split_at(at + 4))
}

/// The raw header fields: name, and the whole field with its folds and last CRLF.
pub(crate) fn fields(header: &[u8]) -> Vec<(String, &[u8])> {
    let mut found: Vec<(String, usize, usize)> = Vec::new();
    let mut at = 0;
    while at < header.len() {
        let end = find(&header[at..], b"\r\n").map_or(header.len(), |found| at + found + 2);
        let line = &header[at..end];
        if line == b"\r\n" {
            break;
        }
        if matches!(line.first(), Some(b' ' | b'\t')) {
            if let Some(last) = found.last_mut() {
                last.2 = end;
            }
        } else if let Some(colon) = line.iter().position(|byte| *byte == b':') {
            found.push((String::from_utf8_lossy(&line[..colon]).trim().to_owned(), at, end));
        }
        at = end;
    }
    found.into_iter().map(|(name, from, to)| (name, &header[from..to])).collect()
}

/// The first field of this name, unfolded, without the white space around it.
pub(crate) fn field(header: &[u8], name: &str) -> Option<String> {
    let (_, raw) = fields(header).into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
    let text = String::from_utf8_lossy(raw);
    let value = text.split_once(':')?.1;
    Some(value.replace("\r\n", "").trim().to_owned())
}

/// A value and its `; name=value` parameters (names upper case), quotes undone.
pub(crate) fn parameters(value: &str) -> (String, Vec<(String, String)>) {
    let mut pieces: Vec<String> = vec![String::new()];
    let (mut quoted, mut escaped) = (false, false);
    for char in value.chars() {
        if escaped {
            escaped = false;
        } else if char == '\\' && quoted {
            escaped = true;
            continue;
        } else if char == '"' {
            quoted = !quoted;
            continue;
        } else if char == ';' && !quoted {
            pieces.push(String::new());
            continue;
        }
        if let Some(last) = pieces.last_mut() {
            last.push(char);
        }
    }
    let mut pieces = pieces.into_iter();
    let first = pieces.next().unwrap_or_default().trim().to_owned();
    let params =
        pieces.filter_map(|piece| piece.split_once('=').map(|(name, value)| (name.trim().to_ascii_uppercase(), value.trim().to_owned()))).collect();
    (first, params)
}

/// The pieces between the delimiter lines. The CRLF before a delimiter belongs to the delimiter (RFC 2046 §5.1.1).
fn pieces<'a>(body: &'a [u8], boundary: &str) -> Vec<&'a [u8]> {
    let delimiter = format!("--{boundary}");
    let mut found = Vec::new();
    let mut start = None;
    let mut at = 0;
    while at < body.len() && found.len() < WIDEST {
        let end = find(&body[at..], b"\r\n").map_or(body.len(), |found| at + found + 2);
        let line = body[at..end].trim_ascii_end();
        let rest = line.strip_prefix(delimiter.as_bytes());
        if rest.is_some_and(|rest| rest.is_empty() || rest == b"--") {
            if let Some(from) = start {
                found.push(&body[from..at.saturating_sub(2).max(from)]);
            }
            start = Some(end);
            if rest == Some(b"--") {
                return found;
            }
        }
        at = end;
    }
    if let Some(from) = start {
        found.push(&body[from..]);
    }
    found
}

/// The part a section number names: `1.2` is `[1, 2]`. An empty path is the message.
pub(crate) fn at<'p, 'a>(root: &'p Part<'a>, path: &[usize]) -> Option<&'p Part<'a>> {
    let mut part = root;
    for (depth, number) in path.iter().enumerate() {
        let holder = match &part.inner {
            _ if depth == 0 => root,
            Inner::Message(message) => message,
            Inner::Parts(_) => part,
            Inner::Leaf => return None,
        };
        part = match &holder.inner {
            Inner::Parts(parts) => parts.get(number.checked_sub(1)?)?,
            // A message that is not a multipart has one part, its body.
            _ if *number == 1 => holder,
            _ => return None,
        };
    }
    Some(part)
}

impl Part<'_> {
    /// The message inside a `message/rfc822` part.
    pub(crate) fn message(&self) -> Option<&Self> {
        match &self.inner {
            Inner::Message(message) => Some(message),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NESTED: &[u8] = b"Subject: a\r\nContent-Type: multipart/mixed; boundary=\"x y\"\r\n\r\npreamble\r\n--x y\r\n\r\none\r\n--x y  \r\nContent-Type: message/rfc822\r\n\r\nSubject: b\r\n\r\ninner\r\n--x y--\r\nepilogue";

    #[test]
    fn a_tree_is_read_and_its_parts_are_found_by_number() {
        let root = parse(NESTED);
        assert_eq!(at(&root, &[1]).unwrap().body, b"one");
        let message = at(&root, &[2]).unwrap();
        assert_eq!(message.body, b"Subject: b\r\n\r\ninner");
        assert_eq!(message.message().unwrap().header, b"Subject: b\r\n\r\n");
        assert_eq!(at(&root, &[2, 1]).unwrap().body, b"inner");
        assert!(at(&root, &[3]).is_none());
        assert!(at(&root, &[1, 1]).is_none(), "a text has no parts");
        let plain = parse(b"Subject: c\r\n\r\nhello");
        assert_eq!(at(&plain, &[1]).unwrap().body, b"hello");
        assert!(at(&plain, &[1, 1]).is_none() && at(&plain, &[2]).is_none());
    }

    #[test]
    fn fields_keep_their_folds_and_values_lose_them() {
        let header = b"Subject: one\r\n two\r\nX-A: b\r\n\r\n";
        assert_eq!(field(header, "subject").unwrap(), "one two");
        assert_eq!(fields(header)[0].1, b"Subject: one\r\n two\r\n");
    }

    #[test]
    fn parameters_may_be_quoted_and_hold_a_semicolon() {
        let (media, params) = parameters("text/plain; charset=utf-8; name=\"a;\\\"b\\\".txt\"");
        assert_eq!(media, "text/plain");
        assert_eq!(params, [("CHARSET".into(), "utf-8".into()), ("NAME".into(), "a;\"b\".txt".into())]);
    }

    #[test]
    fn a_damaged_message_still_has_a_structure() {
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..3_000 {
            let mut raw = NESTED.to_vec();
            for _ in 0..random.usize(1..5) {
                let at = random.usize(0..raw.len());
                match random.u8(0..3) {
                    0 if raw.len() > 1 => {
                        raw.remove(at);
                    }
                    1 => raw[at] = random.u8(..),
                    _ => raw.truncate(at.max(1)),
                }
            }
            let root = parse(&raw);
            let structure = body_structure(&root, true);
            assert!(structure.starts_with(b"(") && structure.ends_with(b")"));
            assert!(at(&root, &[2, 1, 1]).is_none_or(|part| part.body.len() < raw.len()));
        }
    }
}
