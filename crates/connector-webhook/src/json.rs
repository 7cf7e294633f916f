//! The shape a JSON body may have before anybody works with it: depth, number of keys, no repeated key, numbers that fit.
//!
//! Refuses to build a tree: one pass, so that a hostile body costs no more than its own length.

use std::{collections::HashSet, fmt};

use connector_core::error::{Error, Result};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// How deep arrays and objects may be nested.
pub const MAX_DEPTH: usize = 64;
/// How many keys all objects may have together.
pub const MAX_KEYS: usize = 10_000;

/// Checks that `text` is one JSON value within the limits.
///
/// # Errors
/// [`connector_core::ErrorKind::Invalid`] with what is wrong and where, never with a value.
pub fn check(text: &[u8]) -> Result<()> {
    exact_numbers(text)?;
    let mut reader = serde_json::Deserializer::from_slice(text);
    let mut keys = 0;
    Shape { depth: 0, keys: &mut keys }.deserialize(&mut reader).and_then(|()| reader.end()).map_err(|error| refuse(&error))
}

/// Our own findings are short and hold no value; serde's may quote one, so only their position is kept.
fn refuse(error: &serde_json::Error) -> Error {
    let text = error.to_string();
    let what = [DEEP, KEYS, TWICE, NUL].into_iter().find(|known| text.starts_with(known)).unwrap_or("the body is not JSON");
    Error::invalid(what).with_context("line", error.line().to_string()).with_context("column", error.column().to_string())
}

const DEEP: &str = "the body is nested deeper than 64 levels";
const KEYS: &str = "the body has more than 10000 keys";
const TWICE: &str = "an object in the body has the same key twice";
const NUL: &str = "a text in the body holds a NUL character";

/// Integers that do not fit 64 bits would silently lose digits later on.
fn exact_numbers(text: &[u8]) -> Result<()> {
    let (mut at, mut in_text) = (0, false);
    while at < text.len() {
        match text[at] {
            b'\\' if in_text => at += 1,
            b'"' => in_text = !in_text,
            b'-' | b'0'..=b'9' if !in_text => {
                let end =
                    text[at..].iter().position(|byte| !matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')).map_or(text.len(), |n| at + n);
                let number = &text[at..end];
                let whole = !number.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E'));
                let fits = || std::str::from_utf8(number).is_ok_and(|number| number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok());
                if whole && !fits() {
                    return Err(Error::invalid("a number in the body does not fit 64 bits").with_context("offset", at.to_string()));
                }
                at = end;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

struct Shape<'k> {
    depth: usize,
    keys: &'k mut usize,
}

impl<'de> DeserializeSeed<'de> for Shape<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Shape<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        if text.contains('\0') { Err(E::custom(NUL)) } else { Ok(()) }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        if self.depth == MAX_DEPTH {
            return Err(A::Error::custom(DEEP));
        }
        while items.next_element_seed(Shape { depth: self.depth + 1, keys: self.keys })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        if self.depth == MAX_DEPTH {
            return Err(A::Error::custom(DEEP));
        }
        let mut seen = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            *self.keys += 1;
            if *self.keys > MAX_KEYS {
                return Err(A::Error::custom(KEYS));
            }
            if key.contains('\0') {
                return Err(A::Error::custom(NUL));
            }
            if !seen.insert(key) {
                return Err(A::Error::custom(TWICE));
            }
            entries.next_value_seed(Shape { depth: self.depth + 1, keys: self.keys })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_fails(text: &[u8], with: &str) {
        let error = check(text).unwrap_err();
        assert_eq!(error.kind(), connector_core::ErrorKind::Invalid);
        assert!(error.message().starts_with(with), "{error}");
    }

    #[test]
    fn ordinary_json_passes() {
        for text in [r#"{"a":[1,-2,3.5,1e3,true,null,"x\"y\\"],"b":{"a":18446744073709551615}}"#, "[]", r#""é""#, " 1 "] {
            check(text.as_bytes()).unwrap();
        }
    }

    #[test]
    fn a_repeated_key_is_refused_wherever_it_is() {
        check_fails(br#"{"id":1,"id":2}"#, TWICE);
        check_fails(br#"[{"a":{"id":1,"\u0069d":2}}]"#, TWICE);
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
        check_fails(br#"{"n":1234567890123456789012345678901234567890}"#, "a number in the body does not fit 64 bits");
        check_fails(br#"{"n":1e400}"#, "the body is not JSON");
        check_fails(br#"{"n":NaN}"#, "the body is not JSON");
        check(br#"{"n":"1234567890123456789012345678901234567890"}"#).unwrap();
    }

    #[test]
    fn text_must_be_text() {
        check_fails(b"{\"a\":\"\xff\"}", "the body is not JSON");
        check_fails(br#"{"a":"\ud800"}"#, "the body is not JSON");
        check_fails(b"\xef\xbb\xbf{}", "the body is not JSON");
        check_fails(b"{\"a\":\"\0\"}", "the body is not JSON");
        check_fails(br#"{"a":"\u0000"}"#, NUL);
        check_fails(b"{} {}", "the body is not JSON");
        check_fails(b"", "the body is not JSON");
    }

    #[test]
    fn a_message_never_quotes_the_body() {
        let error = check(br#"{"token":"sk_live_1", oops}"#).unwrap_err();
        assert!(!error.to_string().contains("sk_live"));
    }
}
