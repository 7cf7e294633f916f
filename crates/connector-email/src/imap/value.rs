//! What a server says, as a tree of words: atoms, texts and lists. Owns the grammar of data (RFC 9051 §9) and nothing about its meaning.
//!
//! Tolerant on purpose: an item nobody knows is a word like any other, so a new extension or a strange body structure never ends a session.
//! Bounded on purpose: lists deeper than [`DEEPEST`] lose their inside instead of the stack.

use bytes::Bytes;

/// The deepest list whose inside is kept.
const DEEPEST: usize = 64;

/// One word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// As it stands: a number, a flag, `NIL`, `BODY[HEADER.FIELDS (FROM)]`.
    Atom(Bytes),
    /// What was quoted or came as a literal.
    Text(Bytes),
    /// What stood in parentheses.
    List(Vec<Value>),
}

impl Value {
    /// The bytes of an atom or a text; `None` for lists and `NIL`.
    pub(crate) fn bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Atom(atom) if atom.eq_ignore_ascii_case(b"NIL") => None,
            Self::Atom(bytes) | Self::Text(bytes) => Some(bytes),
            Self::List(_) => None,
        }
    }

    /// The same as text; what is no UTF-8 is replaced.
    pub(crate) fn text(&self) -> Option<String> {
        self.bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    /// A number.
    pub(crate) fn number<T: std::str::FromStr>(&self) -> Option<T> {
        std::str::from_utf8(self.bytes()?).ok()?.parse().ok()
    }

    /// What a list holds; nothing for anything else.
    pub(crate) fn list(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }

    /// Whether it is this atom, in any case.
    pub(crate) fn is(&self, atom: &str) -> bool {
        matches!(self, Self::Atom(bytes) if bytes.eq_ignore_ascii_case(atom.as_bytes()))
    }
}

/// The words of `line` from `at` on. `None` if it is not a sequence of words.
pub(crate) fn words(line: &Bytes, mut at: usize) -> Option<Vec<Value>> {
    let mut open: Vec<Vec<Value>> = vec![Vec::new()];
    let mut too_deep = 0_usize;
    while let Some(byte) = line.get(at) {
        let (value, next) = match byte {
            b' ' => {
                at += 1;
                continue;
            }
            b'(' => {
                if too_deep > 0 || open.len() > DEEPEST {
                    too_deep += 1;
                } else {
                    open.push(Vec::new());
                }
                at += 1;
                continue;
            }
            b')' if too_deep > 0 => {
                too_deep -= 1;
                at += 1;
                continue;
            }
            b')' => {
                let closed = open.pop()?;
                (Value::List(closed), at + 1)
            }
            b'"' => quoted(line, at + 1)?,
            b'{' => literal(line, at)?,
            b'~' if line.get(at + 1) == Some(&b'{') => literal(line, at + 1)?,
            _ => atom(line, at),
        };
        at = next;
        if too_deep == 0 {
            open.last_mut()?.push(value);
        }
    }
    let words = open.pop()?;
    open.is_empty().then_some(words)
}

fn atom(line: &Bytes, start: usize) -> (Value, usize) {
    let rest = &line[start..];
    // Only a body section has brackets that may hold blanks and lists.
    let is_section = ["BODY[", "BODY.PEEK[", "BINARY["].iter().any(|name| {
        let name = name.as_bytes();
        rest.len() >= name.len() && rest[..name.len()].eq_ignore_ascii_case(name)
    });
    let mut bracket = false;
    let mut length = 0;
    for byte in rest {
        match byte {
            b'[' if is_section => bracket = true,
            b']' => bracket = false,
            b' ' | b'(' | b')' if !bracket => break,
            _ => {}
        }
        length += 1;
    }
    // A byte that starts no word is one of its own, so that reading always goes on.
    let end = start + length.max(1);
    (Value::Atom(line.slice(start..end)), end)
}

fn quoted(line: &Bytes, start: usize) -> Option<(Value, usize)> {
    let mut escaped = false;
    let mut at = start;
    loop {
        match line.get(at)? {
            b'\\' => {
                escaped = true;
                at += 2;
            }
            b'"' => break,
            _ => at += 1,
        }
    }
    let raw = line.slice(start..at);
    if !escaped {
        return Some((Value::Text(raw), at + 1));
    }
    let mut plain = Vec::with_capacity(raw.len());
    let mut bytes = raw.iter();
    while let Some(byte) = bytes.next() {
        plain.push(if *byte == b'\\' { *bytes.next()? } else { *byte });
    }
    Some((Value::Text(plain.into()), at + 1))
}

/// `{5}` CR LF and five bytes. That all of them are there is what the wire saw to.
fn literal(line: &Bytes, start: usize) -> Option<(Value, usize)> {
    let close = start + line[start..].iter().position(|byte| *byte == b'}')?;
    let length: usize = std::str::from_utf8(&line[start + 1..close]).ok()?.trim_end_matches('+').parse().ok()?;
    let after = close + 1;
    let body = match line.get(after)? {
        b'\r' if line.get(after + 1) == Some(&b'\n') => after + 2,
        b'\n' => after + 1,
        _ => return None,
    };
    let end = body.checked_add(length).filter(|end| *end <= line.len())?;
    Some((Value::Text(line.slice(body..end)), end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<Vec<Value>> {
        words(&Bytes::copy_from_slice(line.as_bytes()), 0)
    }

    fn atom(text: &str) -> Value {
        Value::Atom(Bytes::copy_from_slice(text.as_bytes()))
    }

    fn text(text: &str) -> Value {
        Value::Text(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn atoms_texts_lists_and_literals_are_told_apart() {
        let found = read("12 FETCH (FLAGS (\\Seen $Junk) BODY[HEADER.FIELDS (FROM TO)]<0> {5}\r\na)\"(b UID 7 X \"q\\\"\\\\\")").unwrap();
        let inside = vec![
            atom("FLAGS"),
            Value::List(vec![atom("\\Seen"), atom("$Junk")]),
            atom("BODY[HEADER.FIELDS (FROM TO)]<0>"),
            text("a)\"(b"),
            atom("UID"),
            atom("7"),
            atom("X"),
            text("q\"\\"),
        ];
        assert_eq!(found, [atom("12"), atom("FETCH"), Value::List(inside)]);
        assert_eq!(read("LIST () NIL \"\"").unwrap(), [atom("LIST"), Value::List(vec![]), atom("NIL"), text("")]);
    }

    #[test]
    fn what_is_no_sequence_of_words_is_refused() {
        for broken in ["(a", "a)", "\"a", "\"a\\", "{5}\r\nabc", "{x}\r\n", "{99999999999999999999}\r\n", "{5}abc"] {
            assert_eq!(read(broken), None, "{broken}");
        }
    }

    #[test]
    fn lists_too_deep_lose_their_inside_and_not_the_stack() {
        let deep = format!("{}x{} after", "(".repeat(200_000), ")".repeat(200_000));
        let found = read(&deep).unwrap();
        assert_eq!((found.len(), &found[1]), (2, &atom("after")));
    }

    #[test]
    fn flags_with_brackets_are_ordinary_atoms() {
        // Seen from a server of an unknown make (imap-proto's notes): brackets in a flag.
        assert_eq!(read("(OIB-Seen-[Gmail]/All \\*)").unwrap(), [Value::List(vec![atom("OIB-Seen-[Gmail]/All"), atom("\\*")])]);
    }
}
