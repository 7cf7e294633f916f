//! Address lists of a header as ENVELOPE carries them: the name as written (encoded words stay encoded), mailbox and host apart, groups as
//! their two markers (RFC 3501 §7.4.2).

use crate::mail::imap::nstring;

#[derive(Clone, Debug, PartialEq)]
enum Word {
    Text(String),
    Special(char),
}

/// An address list in parentheses, or `NIL`.
pub(crate) fn envelope_addresses(value: Option<&str>) -> Vec<u8> {
    let mut list = Vec::new();
    for address in value.map(addresses).unwrap_or_default() {
        list.push(b'(');
        list.extend(nstring(address.name.as_deref().map(str::as_bytes)));
        list.extend(b" NIL ");
        list.extend(nstring(address.mailbox.as_deref().map(str::as_bytes)));
        list.push(b' ');
        list.extend(nstring(address.host.as_deref().map(str::as_bytes)));
        list.push(b')');
    }
    if list.is_empty() { b"NIL".to_vec() } else { [b"(", &list[..], b")"].concat() }
}

#[derive(Debug, Default, PartialEq)]
struct Address {
    name: Option<String>,
    mailbox: Option<String>,
    host: Option<String>,
}

fn addresses(value: &str) -> Vec<Address> {
    let mut found = Vec::new();
    let mut phrase: Vec<Word> = Vec::new();
    let mut angle: Option<Vec<Word>> = None;
    let mut comment = None;
    let mut words = words(value, &mut comment).into_iter();
    loop {
        let word = words.next();
        match (&word, &mut angle) {
            (Some(Word::Special('<')), _) => angle = Some(Vec::new()),
            (Some(Word::Special('>')), _) => {}
            (Some(Word::Special(':')), None) => {
                found.push(Address { mailbox: Some(text(&phrase)), ..Address::default() });
                phrase.clear();
            }
            (Some(Word::Special(',' | ';')) | None, _) => {
                let (name, spec) = match angle.take() {
                    Some(spec) => (Some(text(&phrase)).filter(|name| !name.is_empty()), spec),
                    None => (comment.take(), phrase.clone()),
                };
                if !spec.is_empty() {
                    let spec = spec.iter().map(word_text).collect::<String>();
                    let (mailbox, host) = spec.rsplit_once('@').unwrap_or((&spec, ""));
                    found.push(Address { name, mailbox: Some(mailbox.to_owned()), host: Some(host.to_owned()) });
                }
                phrase.clear();
                match word {
                    Some(Word::Special(';')) => found.push(Address::default()),
                    Some(_) => {}
                    None => return found,
                }
            }
            (Some(word), Some(spec)) => spec.push(word.clone()),
            (Some(word), None) => phrase.push(word.clone()),
        }
    }
}

fn word_text(word: &Word) -> String {
    match word {
        Word::Text(text) => text.clone(),
        Word::Special(char) => char.to_string(),
    }
}

fn text(words: &[Word]) -> String {
    let mut text = String::new();
    for word in words {
        if matches!(word, Word::Text(_)) && !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&word_text(word));
    }
    text
}

fn words(value: &str, comment: &mut Option<String>) -> Vec<Word> {
    let mut words = Vec::new();
    let mut chars = value.chars().peekable();
    let mut atom = String::new();
    while let Some(char) = chars.next() {
        if !matches!(char, ' ' | '\t' | '"' | '(' | '<' | '>' | ',' | ';' | ':') {
            atom.push(char);
            continue;
        }
        if !atom.is_empty() {
            words.push(Word::Text(std::mem::take(&mut atom)));
        }
        match char {
            '"' => {
                let mut quoted = String::new();
                while let Some(char) = chars.next() {
                    match char {
                        '"' => break,
                        '\\' => quoted.extend(chars.next()),
                        other => quoted.push(other),
                    }
                }
                words.push(Word::Text(quoted));
            }
            '(' => {
                let (mut depth, mut inside) = (1, String::new());
                for char in chars.by_ref() {
                    depth += match char {
                        '(' => 1,
                        ')' => -1,
                        _ => 0,
                    };
                    if depth == 0 {
                        break;
                    }
                    inside.push(char);
                }
                *comment = Some(inside);
            }
            ' ' | '\t' => {}
            special => words.push(Word::Special(special)),
        }
    }
    if !atom.is_empty() {
        words.push(Word::Text(atom));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: &str) -> String {
        String::from_utf8(envelope_addresses(Some(value))).unwrap()
    }

    #[test]
    fn addresses_are_taken_apart_and_encoded_words_stay() {
        assert_eq!(shown("Ann <ann@x.test>, bob@y.test"), r#"(("Ann" NIL "ann" "x.test")(NIL NIL "bob" "y.test"))"#);
        assert_eq!(shown("=?utf-8?q?J=C3=BCrgen?= Roth <j@x.test>"), r#"(("=?utf-8?q?J=C3=BCrgen?= Roth" NIL "j" "x.test"))"#);
        assert_eq!(shown("\"Last, First \\\"F\\\"\" <l@x.test>"), r#"(("Last, First \"F\"" NIL "l" "x.test"))"#);
        assert_eq!(shown("team: a@x.test, b@x.test;"), r#"((NIL NIL "team" NIL)(NIL NIL "a" "x.test")(NIL NIL "b" "x.test")(NIL NIL NIL NIL))"#);
        assert_eq!(shown("ann@x.test (Ann)"), r#"(("Ann" NIL "ann" "x.test"))"#);
        assert_eq!(envelope_addresses(None), b"NIL");
    }
}
