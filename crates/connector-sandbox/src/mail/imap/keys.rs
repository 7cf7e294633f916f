//! Reading the keys of SEARCH (RFC 3501 §6.4.4, RFC 7162 §3.1.5, Google's extensions).

use super::parse::{Args, Word, ranges};
use super::{Refusal, bad};
use jiff::civil::Date;

/// One search key.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Key {
    All,
    Flag(String),
    Not(Box<Key>),
    Or(Box<Key>, Box<Key>),
    And(Vec<Key>),
    /// Field name, lower case, and what it must hold; nothing means the field must be there.
    Header(String, String),
    Body(String),
    Text(String),
    /// Internal date: on or after.
    Since(Date),
    Before(Date),
    SentSince(Date),
    SentBefore(Date),
    Larger(usize),
    Smaller(usize),
    Uid(Vec<(u32, u32)>),
    Sequence(Vec<(u32, u32)>),
    Modseq(u64),
    GmailMessage(u64),
    GmailThread(u64),
    GmailLabel(String),
    GmailRaw(String),
}

/// What the keys are read against: what `*` stands for, and whether Gmail's keys are known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ground {
    pub(super) last_uid: u32,
    pub(super) last_sequence: u32,
    pub(super) gmail: bool,
    pub(super) condstore: bool,
    /// How deep NOT, OR and parentheses may still go.
    pub(super) depth: u8,
}

impl Ground {
    fn deeper(self) -> Result<Self, Refusal> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Self { depth, ..self }),
            None => bad("search keys are nested too deep"),
        }
    }
}

/// All keys to the end, joined by "and".
pub(super) fn keys(args: &mut Args, ground: Ground) -> Result<Key, Refusal> {
    let mut found = Vec::new();
    while args.peek().is_some() {
        found.push(key(args, ground)?);
    }
    if found.is_empty() { bad("expected a search key") } else { Ok(Key::And(found)) }
}

fn key(args: &mut Args, ground: Ground) -> Result<Key, Refusal> {
    let name = match args.word() {
        Some(Word::List(list)) => return keys(&mut Args::new(list), ground.deeper()?),
        Some(Word::Atom(name)) => name,
        _ => return bad("expected a search key"),
    };
    let flag = |name: &str| Key::Flag(format!("\\{name}"));
    let not = |key| Key::Not(Box::new(key));
    let number = |text: String| text.parse::<u64>().map_err(|_| Refusal::Bad(format!("`{text}` is not a number")));
    let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    Ok(match name.to_ascii_uppercase().as_str() {
        "ALL" => Key::All,
        "SEEN" => flag("Seen"),
        "UNSEEN" => not(flag("Seen")),
        "ANSWERED" => flag("Answered"),
        "UNANSWERED" => not(flag("Answered")),
        "FLAGGED" => flag("Flagged"),
        "UNFLAGGED" => not(flag("Flagged")),
        "DELETED" => flag("Deleted"),
        "UNDELETED" => not(flag("Deleted")),
        "DRAFT" => flag("Draft"),
        "UNDRAFT" => not(flag("Draft")),
        // Nothing is \Recent here: every session would see it, which is what a second session must not.
        "RECENT" | "NEW" => not(Key::All),
        "OLD" => Key::All,
        "KEYWORD" => Key::Flag(args.atom("a keyword")?),
        "UNKEYWORD" => not(Key::Flag(args.atom("a keyword")?)),
        field @ ("FROM" | "TO" | "CC" | "BCC" | "SUBJECT") => Key::Header(field.to_ascii_lowercase(), args.text("a string")?),
        "HEADER" => Key::Header(args.text("a field name")?.to_ascii_lowercase(), args.text("a string")?),
        "BODY" => Key::Body(args.text("a string")?),
        "TEXT" => Key::Text(args.text("a string")?),
        "SINCE" => Key::Since(date(args)?),
        "BEFORE" => Key::Before(date(args)?),
        "ON" => on(date(args)?, Key::Since, Key::Before)?,
        "SENTSINCE" => Key::SentSince(date(args)?),
        "SENTBEFORE" => Key::SentBefore(date(args)?),
        "SENTON" => on(date(args)?, Key::SentSince, Key::SentBefore)?,
        "LARGER" => Key::Larger(size(number(args.atom("a size")?)?)),
        "SMALLER" => Key::Smaller(size(number(args.atom("a size")?)?)),
        "UID" => Key::Uid(ranges(&args.atom("a set of UIDs")?, ground.last_uid)?),
        "NOT" => not(key(args, ground.deeper()?)?),
        "OR" => {
            let ground = ground.deeper()?;
            Key::Or(Box::new(key(args, ground)?), Box::new(key(args, ground)?))
        }
        "MODSEQ" if ground.condstore => {
            if matches!(args.peek(), Some(Word::Text(_))) {
                // A flag's own sequence is not kept apart: its name and type are read and the message's sequence decides (RFC 7162 §3.1.5).
                args.string("an entry name")?;
                args.atom("an entry type")?;
            }
            Key::Modseq(number(args.atom("a modification sequence")?)?)
        }
        "X-GM-MSGID" if ground.gmail => Key::GmailMessage(number(args.atom("an id")?)?),
        "X-GM-THRID" if ground.gmail => Key::GmailThread(number(args.atom("an id")?)?),
        "X-GM-LABELS" if ground.gmail => Key::GmailLabel(args.text("a label")?),
        "X-GM-RAW" if ground.gmail => Key::GmailRaw(args.text("a query")?),
        set if set.starts_with(|char: char| char.is_ascii_digit() || char == '*') => Key::Sequence(ranges(set, ground.last_sequence)?),
        other => return bad(format!("unknown search key {other}")),
    })
}

fn on(day: Date, since: fn(Date) -> Key, before: fn(Date) -> Key) -> Result<Key, Refusal> {
    let Ok(next) = day.tomorrow() else { return bad("there is no day after that") };
    Ok(Key::And(vec![since(day), before(next)]))
}

/// `1-Nov-2026`, quoted or not.
fn date(args: &mut Args) -> Result<Date, Refusal> {
    let text = args.text("a date")?;
    jiff::fmt::strtime::parse("%d-%b-%Y", &text).and_then(|day| day.to_date()).map_err(|_| Refusal::Bad(format!("`{text}` is not a date")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::imap::parse::{Piece, words};

    fn read(text: &str) -> Result<Key, Refusal> {
        let mut args = Args::new(words(vec![Piece::Line(text.as_bytes().to_vec())])?);
        keys(&mut args, Ground { last_uid: 9, last_sequence: 9, gmail: true, condstore: true, depth: 50 })
    }

    #[test]
    fn keys_nest_but_not_without_end() {
        assert!(read(&"NOT ".repeat(20_000)).is_err() && read(&"OR ".repeat(20_000)).is_err());
        let key = Key::And(vec![Key::Not(Box::new(Key::Or(Box::new(Key::All), Box::new(Key::And(vec![Key::Larger(5)])))))]);
        assert!(read("NOT OR ALL (LARGER 5)").is_ok_and(|found| found == key));
    }

    #[test]
    fn a_damaged_command_is_refused_and_never_a_panic() {
        let whole = r#"OR (FROM "a b" NOT SEEN) MODSEQ "/flags/\\\\draft" all 12 SINCE 1-Nov-2026 UID 1:*,4 X-GM-RAW "a:b -c" HEADER X-Y "\"" 2:4"#;
        assert!(read(whole).is_ok());
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..5_000 {
            let mut text: Vec<char> = whole.chars().collect();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(0..text.len());
                match random.u8(0..3) {
                    0 if text.len() > 1 => {
                        text.remove(at);
                    }
                    1 => text.insert(at, *random.choice(&['(', ')', '"', '\\', ' ', '[', '*', '{', '\u{fc}']).unwrap()),
                    _ => text.truncate(at.max(1)),
                }
            }
            if let Ok(key) = read(&text.iter().collect::<String>()) {
                assert!(matches!(key, Key::And(keys) if !keys.is_empty()));
            }
        }
    }
}
