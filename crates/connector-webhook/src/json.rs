//! The shape a JSON body may have before anybody works with it: depth, number of keys, no repeated key, numbers that fit.
//!
//! Owns one pass over the text that is as strict as the parser that comes after it. Refuses to build a tree: a hostile body costs no more than
//! its own length, an ordinary one no memory but a list of the keys of the objects around the present place.

use std::{borrow::Cow, collections::HashSet};

use connector_core::error::{Error, Result};

/// How deep arrays and objects may be nested.
pub const MAX_DEPTH: usize = 64;
/// How many keys all objects may have together.
pub const MAX_KEYS: usize = 10_000;
/// Up to so many keys of one object are compared one by one, which is faster than hashing them.
const FEW: usize = 16;

const DEEP: &str = "the body is nested deeper than 64 levels";
const KEYS: &str = "the body has more than 10000 keys";
const TWICE: &str = "an object in the body has the same key twice";
const NUL: &str = "a text in the body holds a NUL character";
const DIGITS: &str = "a number in the body does not fit 64 bits";
const RANGE: &str = "a number in the body is out of range";
const SYNTAX: &str = "the body is not JSON";

/// Checks that `text` is one JSON value within the limits.
///
/// # Errors
/// [`connector_core::ErrorKind::Invalid`] with what is wrong and where, never with a value.
pub fn check(text: &[u8]) -> Result<()> {
    let sound = match std::str::from_utf8(text) {
        Ok(_) => {
            let mut reader = Reader { text, at: 0, keys: 0, names: Vec::new() };
            reader.whole().map_err(|what| (what, reader.at))
        }
        Err(error) => Err((SYNTAX, error.valid_up_to())),
    };
    sound.map_err(|(what, at)| {
        let before = &text[..at.min(text.len())];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let column = 1 + before.iter().rev().take_while(|byte| **byte != b'\n').count();
        Error::invalid(what).with_context("line", line.to_string()).with_context("column", column.to_string())
    })
}

type Checked<T = ()> = Result<T, &'static str>;

/// A place in a text that is UTF-8.
struct Reader<'t> {
    text: &'t [u8],
    at: usize,
    keys: usize,
    /// The keys seen so far of all small objects that are open, outermost first.
    names: Vec<Cow<'t, [u8]>>,
}

impl<'t> Reader<'t> {
    fn whole(&mut self) -> Checked {
        self.value(0)?;
        self.blanks();
        if self.at == self.text.len() { Ok(()) } else { Err(SYNTAX) }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// Takes this byte if it comes next, after blanks.
    fn takes(&mut self, byte: u8) -> bool {
        self.blanks();
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn value(&mut self, depth: usize) -> Checked {
        self.blanks();
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string().map(|_| ()),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            _ => Err(SYNTAX),
        }
    }

    fn word(&mut self, word: &[u8]) -> Checked {
        if self.text[self.at..].starts_with(word) {
            self.at += word.len();
            Ok(())
        } else {
            Err(SYNTAX)
        }
    }

    fn array(&mut self, depth: usize) -> Checked {
        if depth == MAX_DEPTH {
            return Err(DEEP);
        }
        self.at += 1;
        if self.takes(b']') {
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            if self.takes(b']') {
                return Ok(());
            }
            if !self.takes(b',') {
                return Err(SYNTAX);
            }
        }
    }

    fn object(&mut self, depth: usize) -> Checked {
        if depth == MAX_DEPTH {
            return Err(DEEP);
        }
        self.at += 1;
        if self.takes(b'}') {
            return Ok(());
        }
        let first = self.names.len();
        let mut many: Option<HashSet<Cow<'t, [u8]>>> = None;
        loop {
            self.blanks();
            if self.peek() != Some(b'"') {
                return Err(SYNTAX);
            }
            let key = self.key()?;
            self.keys += 1;
            if self.keys > MAX_KEYS {
                return Err(KEYS);
            }
            let fresh = match &mut many {
                Some(many) => many.insert(key),
                None => {
                    let fresh = !self.names[first..].contains(&key);
                    self.names.push(key);
                    if self.names.len() - first > FEW {
                        many = Some(self.names.drain(first..).collect());
                    }
                    fresh
                }
            };
            if !fresh {
                return Err(TWICE);
            }
            if !self.takes(b':') {
                return Err(SYNTAX);
            }
            self.value(depth + 1)?;
            if self.takes(b'}') {
                self.names.truncate(first);
                return Ok(());
            }
            if !self.takes(b',') {
                return Err(SYNTAX);
            }
        }
    }

    /// A key as it reads, so that `"id"` and `"\u0069d"` are the same one.
    fn key(&mut self) -> Checked<Cow<'t, [u8]>> {
        let start = self.at;
        let (text, escaped) = self.string()?;
        if !escaped {
            return Ok(Cow::Borrowed(text));
        }
        serde_json::from_slice::<String>(&self.text[start..self.at]).map(|key| Cow::Owned(key.into_bytes())).map_err(|_| SYNTAX)
    }

    /// A text without its quotes, and whether it has escapes.
    fn string(&mut self) -> Checked<(&'t [u8], bool)> {
        self.at += 1;
        let (start, mut escaped) = (self.at, false);
        loop {
            let Some(plain) = self.text[self.at..].iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)) else {
                self.at = self.text.len();
                return Err(SYNTAX);
            };
            self.at += plain;
            match self.text[self.at] {
                b'"' => {
                    self.at += 1;
                    return Ok((&self.text[start..self.at - 1], escaped));
                }
                b'\\' => {
                    escaped = true;
                    self.at += 1;
                    self.escape()?;
                }
                _ => return Err(SYNTAX),
            }
        }
    }

    fn escape(&mut self) -> Checked {
        let kind = self.peek().ok_or(SYNTAX)?;
        self.at += 1;
        match kind {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(()),
            b'u' => match self.unit()? {
                0 => Err(NUL),
                // Half a character, which only the other half makes one.
                0xd800..=0xdbff => {
                    self.word(b"\\u")?;
                    if (0xdc00..=0xdfff).contains(&self.unit()?) { Ok(()) } else { Err(SYNTAX) }
                }
                0xdc00..=0xdfff => Err(SYNTAX),
                _ => Ok(()),
            },
            _ => Err(SYNTAX),
        }
    }

    /// Four hexadecimal digits.
    fn unit(&mut self) -> Checked<u32> {
        let digits = self.text.get(self.at..self.at + 4).ok_or(SYNTAX)?;
        self.at += 4;
        digits.iter().try_fold(0, |unit, digit| Some(unit * 16 + char::from(*digit).to_digit(16)?)).ok_or(SYNTAX)
    }

    /// Integers that do not fit 64 bits would silently lose digits later on, and numbers beyond all others would be infinite.
    fn number(&mut self) -> Checked {
        let start = self.at;
        let negative = self.peek() == Some(b'-');
        self.at += usize::from(negative);
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return Err(SYNTAX),
        }
        let whole = self.at;
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        let text = || std::str::from_utf8(&self.text[start..self.at]).map_err(|_| SYNTAX);
        if self.at > whole {
            let finite = text()?.parse::<f64>().is_ok_and(f64::is_finite);
            return if finite { Ok(()) } else { Err(RANGE) };
        }
        // Eighteen digits always fit.
        let fits = whole - start <= 18 || if negative { text()?.parse::<i64>().is_ok() } else { text()?.parse::<u64>().is_ok() };
        if fits { Ok(()) } else { Err(DIGITS) }
    }

    /// At least one digit.
    fn digits(&mut self) -> Checked {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(SYNTAX) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check_fails(text: &[u8], with: &str) {
        let error = check(text).unwrap_err();
        assert_eq!(error.kind(), connector_core::ErrorKind::Invalid);
        assert!(error.message().starts_with(with), "{error}");
    }

    #[test]
    fn ordinary_json_passes() {
        for text in
            [r#"{"a":[1,-2,3.5,1e3,true,null,"x\"y\\"],"b":{"a":18446744073709551615}}"#, "[]", r#""é""#, " 1 ", r#""\ud83d\ude00""#, "-0", "{}"]
        {
            check(text.as_bytes()).unwrap();
        }
    }

    #[test]
    fn a_repeated_key_is_refused_wherever_it_is() {
        check_fails(br#"{"id":1,"id":2}"#, TWICE);
        check_fails(br#"[{"a":{"id":1,"\u0069d":2}}]"#, TWICE);
        let many = |last: &str| format!("{{{},\"{last}\":0}}", (0..40).map(|n| format!("\"k{n}\":{{\"k{n}\":0}}")).collect::<Vec<_>>().join(","));
        check(many("k40").as_bytes()).unwrap();
        for known in ["k0", "k15", "k16", "k17", "k39"] {
            check_fails(many(known).as_bytes(), TWICE);
        }
        check(br#"{"a":{"id":1},"id":2,"b":{"id":3,"a":4}}"#).unwrap();
    }

    #[test]
    fn depth_and_keys_are_bounded() {
        let nested = |depth: usize| [b"[".repeat(depth), b"]".repeat(depth)].concat();
        check(&nested(64)).unwrap();
        check_fails(&nested(65), DEEP);
        check_fails(&nested(10_000), DEEP);
        let keys = |count: usize| format!("{{{}}}", (0..count).map(|n| format!("\"k{n}\":0")).collect::<Vec<_>>().join(","));
        check(keys(10_000).as_bytes()).unwrap();
        check_fails(keys(100_000).as_bytes(), KEYS);
    }

    #[test]
    fn numbers_must_keep_their_digits() {
        check_fails(br#"{"n":1234567890123456789012345678901234567890}"#, DIGITS);
        check_fails(br#"{"n":18446744073709551616}"#, DIGITS);
        check_fails(br#"{"n":-9223372036854775809}"#, DIGITS);
        check(br#"[18446744073709551615,-9223372036854775808]"#).unwrap();
        check_fails(br#"{"n":1e400}"#, RANGE);
        for bad in ["NaN", "01", "1.", ".5", "-", "+1", "1e", "1e+", "0x1", "Infinity"] {
            check_fails(format!("{{\"n\":{bad}}}").as_bytes(), SYNTAX);
        }
        check(br#"{"n":"1234567890123456789012345678901234567890"}"#).unwrap();
    }

    #[test]
    fn text_must_be_text() {
        for bad in [
            &b"{\"a\":\"\xff\"}"[..],
            br#"{"a":"\ud800"}"#,
            br#"{"a":"\udc00"}"#,
            br#"{"a":"\ud800\u0041"}"#,
            b"\xef\xbb\xbf{}",
            b"{\"a\":\"\0\"}",
            b"{} {}",
            b"",
        ] {
            check_fails(bad, SYNTAX);
        }
        check_fails(br#"{"a":"\u0000"}"#, NUL);
        check_fails(br#"{"\u0000":"a"}"#, NUL);
    }

    #[test]
    fn a_message_says_where_and_never_quotes_the_body() {
        let error = check(b"{\"token\":\n\"sk_live_1\", oops}").unwrap_err();
        assert!(!error.to_string().contains("sk_live"));
        assert_eq!((error.context_value("line"), error.context_value("column")), (Some("2"), Some("14")));
    }

    /// What the parser behind it says. It takes the last of repeated keys, keeps NUL, and makes large integers inexact; all else is the same.
    fn agrees(text: &[u8]) {
        let parsed = serde_json::from_slice::<serde_json::Value>(text);
        match check(text) {
            Ok(()) => assert!(parsed.is_ok(), "{}: {}", text.escape_ascii(), parsed.unwrap_err()),
            Err(error) if [SYNTAX, RANGE].contains(&error.message()) => assert!(parsed.is_err(), "{}: {error}", text.escape_ascii()),
            Err(_) => {}
        }
    }

    proptest! {
        #[test]
        fn it_says_the_same_as_the_parser_behind_it(text in r#"([\[\]{},:]|"a"|"b"|"\\u00[46]1"|"\\ud83d\\ude00"|"\\ud83d"|"\\n"|"\\x"|true|null|-?[0-9]{1,3}|0\.5|1e5|-| |\n|é|"ü"){0,14}"#) {
            agrees(text.as_bytes());
        }

        #[test]
        fn a_changed_byte_never_makes_them_disagree(at in 0_usize..120, byte in any::<u8>()) {
            let mut text = br#"{"id":"e\u00e91","n":[1,-2.5e-3,true,null,{"k":"v\\\"","l":""}],"order":{"total":12.50,"lines":[{"sku":"A-1"},{"sku":"B"}]}}"#.to_vec();
            let at = at % text.len();
            text[at] = byte;
            agrees(&text);
            text.truncate(at);
            agrees(&text);
        }
    }
}
