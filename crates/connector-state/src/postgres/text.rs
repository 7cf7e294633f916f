//! Text that PostgreSQL cannot hold as it is: U+0000. Vendors do send it, in ids and keys, and SQLite keeps it.
//!
//! Owns an escape that is exact both ways: U+0010 starts a pair, `U+0010 0` stands for U+0000 and `U+0010 1` for U+0010 itself. Every
//! other text stays as it is, and a prefix of a text is a prefix of its escaped form.

use std::borrow::Cow;

const NUL: char = '\0';
const ESCAPE: char = '\u{10}';

/// `text` as it is stored.
pub(super) fn stored(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| byte == 0 || byte == 0x10) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            NUL => escaped.extend([ESCAPE, '0']),
            ESCAPE => escaped.extend([ESCAPE, '1']),
            other => escaped.push(other),
        }
    }
    Cow::Owned(escaped)
}

/// As [`stored`], of an optional text.
pub(super) fn stored_opt(text: Option<&str>) -> Option<Cow<'_, str>> {
    text.map(stored)
}

/// A stored text as it was.
pub(super) fn shown(text: String) -> String {
    if !text.contains(ESCAPE) {
        return text;
    }
    let mut shown = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            ESCAPE => shown.push(if characters.next() == Some('0') { NUL } else { ESCAPE }),
            other => shown.push(other),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back() {
        for text in ["", "plain", "ü€😀", "\0", "a\0b", "\u{10}", "\u{10}0", "\u{10}\0\u{10}1"] {
            let kept = stored(text);
            assert!(!kept.contains('\0'), "{text:?}");
            assert_eq!(shown(kept.into_owned()), text);
        }
        assert!(matches!(stored("plain"), Cow::Borrowed(_)));
        assert_ne!(stored("\0"), stored("\u{10}0"));
    }
}
