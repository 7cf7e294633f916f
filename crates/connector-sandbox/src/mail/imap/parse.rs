//! Words of an IMAP command (RFC 3501 §9): atoms, quoted strings, literals and lists, and reading them one after another. It refuses to know
//! what a command means. A bracket keeps an atom together, so `BODY.PEEK[HEADER.FIELDS (TO)]<0.10>` is one word.
//!
//! `imap-codec` would parse commands too; it is an alpha and closed to the extensions a fake must also understand (Gmail's search keys and
//! labels, `UNCHANGEDSINCE`), so these 200 lines are our own.

/// One word.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Word {
    /// An atom, a flag, a number, a sequence set.
    Atom(String),
    /// A quoted string or a literal.
    Text(Vec<u8>),
    /// A list in parentheses.
    List(Vec<Word>),
}

/// What a command was read from: octets of lines, and literals between them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Piece {
    Line(Vec<u8>),
    Literal(Vec<u8>),
}

/// The length of a literal announced at the end of a line, and whether the client waits for a go-ahead (`{5}`) or not (`{5+}`).
pub(crate) fn literal_ahead(line: &[u8]) -> Option<(usize, bool)> {
    let open = line.iter().rposition(|byte| *byte == b'{')?;
    let inner = std::str::from_utf8(line[open + 1..].strip_suffix(b"}")?).ok()?;
    let (digits, waits) = inner.strip_suffix('+').map_or((inner, true), |digits| (digits, false));
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| (digits.parse().unwrap_or(usize::MAX), waits))
}

/// Reads all words of a command.
///
/// # Errors
/// What is wrong with it, for the `BAD` answer.
pub(crate) fn words(pieces: Vec<Piece>) -> Result<Vec<Word>, String> {
    // The lists that are open, the outermost first.
    let mut open: Vec<Vec<Word>> = vec![Vec::new()];
    let push = |open: &mut Vec<Vec<Word>>, word| {
        if let Some(list) = open.last_mut() {
            list.push(word);
        }
    };
    for piece in pieces {
        let line = match piece {
            Piece::Literal(octets) => {
                push(&mut open, Word::Text(octets));
                continue;
            }
            Piece::Line(line) => line,
        };
        let mut at = 0;
        while let Some(byte) = line.get(at) {
            match byte {
                b' ' => at += 1,
                b'(' if open.len() > 30 => return Err("too many parentheses".to_owned()),
                b'(' => {
                    open.push(Vec::new());
                    at += 1;
                }
                b')' => {
                    let list = open.pop().filter(|_| !open.is_empty()).ok_or("a closing parenthesis too many")?;
                    push(&mut open, Word::List(list));
                    at += 1;
                }
                b'"' => {
                    let (text, next) = quoted(&line, at + 1)?;
                    push(&mut open, Word::Text(text));
                    at = next;
                }
                _ => {
                    let end = atom_end(&line, at)?;
                    push(&mut open, Word::Atom(String::from_utf8_lossy(&line[at..end]).into_owned()));
                    at = end;
                }
            }
        }
    }
    match (open.pop(), open.is_empty()) {
        (Some(words), true) => Ok(words),
        _ => Err("a parenthesis is not closed".to_owned()),
    }
}

fn quoted(line: &[u8], from: usize) -> Result<(Vec<u8>, usize), String> {
    let mut text = Vec::new();
    let mut at = from;
    loop {
        match line.get(at) {
            Some(b'"') => return Ok((text, at + 1)),
            Some(b'\\') => {
                let escaped = line.get(at + 1).filter(|byte| matches!(byte, b'"' | b'\\')).ok_or("a backslash in a quoted string must escape")?;
                text.push(*escaped);
                at += 2;
            }
            Some(byte) => {
                text.push(*byte);
                at += 1;
            }
            None => return Err("a quoted string is not closed".to_owned()),
        }
    }
}

fn atom_end(line: &[u8], from: usize) -> Result<usize, String> {
    let mut at = from;
    let mut bracket = false;
    while let Some(byte) = line.get(at) {
        match byte {
            b'[' => bracket = true,
            b']' => bracket = false,
            b'"' if bracket => {
                at = quoted(line, at + 1)?.1;
                continue;
            }
            b' ' | b'(' | b')' | b'"' if !bracket => break,
            0..=31 | 127 => return Err("a control character in a command".to_owned()),
            _ => {}
        }
        at += 1;
    }
    if bracket { Err("a bracket is not closed".to_owned()) } else { Ok(at) }
}

/// Reads the words of a command in order.
#[derive(Debug)]
pub(crate) struct Args {
    words: std::vec::IntoIter<Word>,
}

impl Args {
    pub(crate) fn new(words: Vec<Word>) -> Self {
        Self { words: words.into_iter() }
    }

    /// The next word, whatever it is.
    pub(crate) fn word(&mut self) -> Option<Word> {
        self.words.next()
    }

    /// The next word without taking it.
    pub(crate) fn peek(&self) -> Option<&Word> {
        self.words.as_slice().first()
    }

    /// The next word as an atom.
    pub(crate) fn atom(&mut self, what: &str) -> Result<String, String> {
        match self.word() {
            Some(Word::Atom(atom)) => Ok(atom),
            _ => Err(format!("expected {what}")),
        }
    }

    /// The next word as a string of any form.
    pub(crate) fn string(&mut self, what: &str) -> Result<Vec<u8>, String> {
        match self.word() {
            Some(Word::Atom(atom)) => Ok(atom.into_bytes()),
            Some(Word::Text(text)) => Ok(text),
            _ => Err(format!("expected {what}")),
        }
    }

    /// The next word as text.
    pub(crate) fn text(&mut self, what: &str) -> Result<String, String> {
        String::from_utf8(self.string(what)?).map_err(|_| format!("{what} is not UTF-8"))
    }

    /// The next word as a list.
    pub(crate) fn list(&mut self, what: &str) -> Result<Vec<Word>, String> {
        match self.word() {
            Some(Word::List(list)) => Ok(list),
            _ => Err(format!("expected {what} in parentheses")),
        }
    }

    /// Takes the next word if it is this atom.
    pub(crate) fn took(&mut self, atom: &str) -> bool {
        let found = matches!(self.peek(), Some(Word::Atom(word)) if word.eq_ignore_ascii_case(atom));
        if found {
            self.words.next();
        }
        found
    }

    /// Nothing may be left.
    pub(crate) fn end(&self) -> Result<(), String> {
        if self.words.as_slice().is_empty() { Ok(()) } else { Err("too many arguments".to_owned()) }
    }
}

/// A sequence set (`1:4,9,12:*`) against the numbers that exist; `last` is what `*` stands for. A range may be written either way round, so
/// `n:*` always holds the last number (RFC 3501 §9, seq-range).
pub(crate) fn ranges(set: &str, last: u32) -> Result<Vec<(u32, u32)>, String> {
    let number = |text: &str| match text {
        "*" => Ok(last),
        digits => digits.parse::<u32>().ok().filter(|number| *number > 0).ok_or_else(|| format!("`{set}` is not a sequence set")),
    };
    set.split(',')
        .map(|range| {
            let (from, to) = range.split_once(':').unwrap_or((range, range));
            let (from, to) = (number(from)?, number(to)?);
            Ok((from.min(to), from.max(to)))
        })
        .collect()
}

pub(crate) fn within(ranges: &[(u32, u32)], number: u32) -> bool {
    ranges.iter().any(|(from, to)| (*from..=*to).contains(&number))
}

/// Ascending numbers as a sequence set.
pub(crate) fn set_of(numbers: &[u32]) -> String {
    let mut set = String::new();
    let mut at = 0;
    while at < numbers.len() {
        let mut end = at;
        while end + 1 < numbers.len() && numbers[end + 1] == numbers[end] + 1 {
            end += 1;
        }
        if !set.is_empty() {
            set.push(',');
        }
        set.push_str(&numbers[at].to_string());
        if end > at {
            set.push_str(&format!(":{}", numbers[end]));
        }
        at = end + 1;
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Vec<Piece> {
        vec![Piece::Line(text.as_bytes().to_vec())]
    }

    fn atom(text: &str) -> Word {
        Word::Atom(text.to_owned())
    }

    #[test]
    fn words_of_every_kind() {
        let read = words(line(r#"UID FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (TO "X Y")]<0.10>) "a \"b\"""#)).unwrap();
        assert_eq!(
            read,
            [
                atom("UID"),
                atom("FETCH"),
                atom("1:*"),
                Word::List(vec![atom("FLAGS"), atom("BODY.PEEK[HEADER.FIELDS (TO \"X Y\")]<0.10>")]),
                Word::Text(b"a \"b\"".to_vec())
            ]
        );
        let literal = vec![Piece::Line(b"SEARCH (SUBJECT ".to_vec()), Piece::Literal(b"a)\r\n".to_vec()), Piece::Line(b")".to_vec())];
        assert_eq!(words(literal).unwrap()[1], Word::List(vec![atom("SUBJECT"), Word::Text(b"a)\r\n".to_vec())]));
    }

    #[test]
    fn what_is_not_closed_is_an_error() {
        for bad in ["(a", "a)", "\"a", "BODY[", "\"a\\b\""] {
            assert!(words(line(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn literals_wait_or_do_not() {
        assert_eq!(literal_ahead(b"a LOGIN {5}"), Some((5, true)));
        assert_eq!(literal_ahead(b"a LOGIN {5+}"), Some((5, false)));
        assert_eq!(literal_ahead(b"a LOGIN {+}"), None);
        assert_eq!(literal_ahead(b"a LOGIN {5} x"), None);
    }

    #[test]
    fn a_range_to_the_star_always_holds_the_last() {
        let found = ranges("900:*,2", 12).unwrap();
        assert!(within(&found, 12) && within(&found, 2) && !within(&found, 11));
        assert!(ranges("0", 12).is_err() && ranges("a:b", 12).is_err());
        assert_eq!(set_of(&[1, 2, 3, 7, 9, 10]), "1:3,7,9:10");
    }
}
