//! What FETCH asks for: the items, with the sections and partial ranges of `BODY[…]<…>` (RFC 3501 §6.4.5).

use super::parse::{Piece, Word, words};
use super::{Refusal, bad};

/// One asked-for item.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Item {
    Uid,
    Flags,
    InternalDate,
    Size,
    Envelope,
    /// `BODYSTRUCTURE`, or `BODY` without the extension data.
    Structure {
        extended: bool,
    },
    Modseq,
    GmailLabels,
    GmailMessage,
    GmailThread,
    Body {
        /// How the answer names it.
        name: String,
        path: Vec<usize>,
        text: Text,
        partial: Option<(usize, usize)>,
        /// False sets `\Seen`.
        peek: bool,
    },
}

/// Which octets of a part.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Text {
    /// A message with its header, or a part's body.
    All,
    Header,
    Mime,
    Body,
    /// These fields of the header, or with `not` all the others.
    Fields {
        names: Vec<String>,
        not: bool,
    },
}

/// Reads the items: one, a macro, or a list.
pub(super) fn items(word: Word) -> Result<Vec<Item>, Refusal> {
    let list = match word {
        Word::Atom(name) => match name.to_ascii_uppercase().as_str() {
            "ALL" => return items(named(&["FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"])),
            "FAST" => return items(named(&["FLAGS", "INTERNALDATE", "RFC822.SIZE"])),
            "FULL" => return items(named(&["FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"])),
            _ => vec![Word::Atom(name)],
        },
        Word::List(list) => list,
        Word::Text(_) => return bad("expected fetch items"),
    };
    list.into_iter().map(item).collect()
}

fn named(names: &[&str]) -> Word {
    Word::List(names.iter().map(|name| Word::Atom((*name).to_owned())).collect())
}

fn item(word: Word) -> Result<Item, Refusal> {
    let Word::Atom(name) = word else { return bad("a fetch item is an atom") };
    let whole = |name: &str, text, peek| Item::Body { name: name.to_owned(), path: Vec::new(), text, partial: None, peek };
    Ok(match name.to_ascii_uppercase().as_str() {
        "UID" => Item::Uid,
        "FLAGS" => Item::Flags,
        "INTERNALDATE" => Item::InternalDate,
        "RFC822.SIZE" => Item::Size,
        "ENVELOPE" => Item::Envelope,
        "BODYSTRUCTURE" => Item::Structure { extended: true },
        "BODY" => Item::Structure { extended: false },
        "MODSEQ" => Item::Modseq,
        "X-GM-LABELS" => Item::GmailLabels,
        "X-GM-MSGID" => Item::GmailMessage,
        "X-GM-THRID" => Item::GmailThread,
        "RFC822" => whole("RFC822", Text::All, false),
        "RFC822.HEADER" => whole("RFC822.HEADER", Text::Header, true),
        "RFC822.TEXT" => whole("RFC822.TEXT", Text::Body, false),
        upper if upper.starts_with("BODY[") || upper.starts_with("BODY.PEEK[") => body(&name)?,
        _ => return bad(format!("unknown fetch item {name}")),
    })
}

/// `BODY[1.2.HEADER.FIELDS (A B)]<0.100>`.
fn body(item: &str) -> Result<Item, Refusal> {
    let wrong = || Refusal::Bad(format!("{item} is not a body section"));
    let (before, rest) = item.split_once('[').ok_or_else(wrong)?;
    let (section, after) = rest.rsplit_once(']').ok_or_else(wrong)?;
    let partial = if after.is_empty() {
        None
    } else {
        let range = after.strip_prefix('<').and_then(|range| range.strip_suffix('>')).ok_or_else(wrong)?;
        let (from, count) = range.split_once('.').ok_or_else(wrong)?;
        Some((from.parse().map_err(|_| wrong())?, count.parse().ok().filter(|count| *count > 0).ok_or_else(wrong)?))
    };
    let (mut path, mut rest) = (Vec::new(), section);
    while rest.starts_with(|char: char| char.is_ascii_digit()) {
        let (digits, more) = rest.split_once('.').unwrap_or((rest, ""));
        path.push(digits.parse().ok().filter(|number| *number > 0).ok_or_else(wrong)?);
        rest = more;
    }
    let (keyword, list) = rest.split_once(' ').unwrap_or((rest, ""));
    let text = match keyword.to_ascii_uppercase().as_str() {
        "" => Text::All,
        "HEADER" => Text::Header,
        "TEXT" => Text::Body,
        "MIME" if !path.is_empty() => Text::Mime,
        name @ ("HEADER.FIELDS" | "HEADER.FIELDS.NOT") => Text::Fields { names: field_names(list)?, not: name.ends_with("NOT") },
        _ => return Err(wrong()),
    };
    let start = partial.map(|(from, _)| format!("<{from}>")).unwrap_or_default();
    let name = format!("BODY[{}]{start}", section.to_ascii_uppercase());
    Ok(Item::Body { name, path, text, partial, peek: before.eq_ignore_ascii_case("BODY.PEEK") })
}

fn field_names(list: &str) -> Result<Vec<String>, Refusal> {
    let read = words(vec![Piece::Line(list.as_bytes().to_vec())])?;
    let [Word::List(names)] = read.as_slice() else { return bad("expected field names in parentheses") };
    names
        .iter()
        .map(|name| match name {
            Word::Atom(name) => Ok(name.clone()),
            Word::Text(name) => Ok(String::from_utf8_lossy(name).into_owned()),
            Word::List(_) => bad("a field name is a string"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Option<Item> {
        item(Word::Atom(text.to_owned())).ok()
    }

    #[test]
    fn sections_are_read_with_their_parts_and_ranges() {
        let Some(Item::Body { name, path, text, partial, peek }) = one("BODY.PEEK[1.2.MIME]<0.10>") else { panic!() };
        assert_eq!((name.as_str(), path, text, partial, peek), ("BODY[1.2.MIME]<0>", vec![1, 2], Text::Mime, Some((0, 10)), true));
        let Some(Item::Body { text, peek, .. }) = one("BODY[HEADER.FIELDS.NOT (to \"cc\")]") else { panic!() };
        assert_eq!((text, peek), (Text::Fields { names: vec!["to".into(), "cc".into()], not: true }, false));
        for wrong in ["BODY[MIME]", "BODY[0]", "BODY[1.X]", "BODY[]<0>", "BODY[]<0.0>", "BODY[HEADER.FIELDS]", "FOO"] {
            assert_eq!(one(wrong), None, "{wrong}");
        }
    }
}
