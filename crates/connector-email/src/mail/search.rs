//! What is looked for, as search keys (RFC 9051 §6.4.4). Values are bound: whatever they hold, they stay one value.

use connector_core::{Error, Result};
use jiff::civil::Date;
use serde::Deserialize;

use crate::imap::command::Command;

/// The criteria; all of them must hold.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Criteria {
    pub(crate) from: Option<String>,
    pub(crate) to: Option<String>,
    pub(crate) cc: Option<String>,
    pub(crate) subject: Option<String>,
    pub(crate) body: Option<String>,
    pub(crate) text: Option<String>,
    pub(crate) message_id: Option<String>,
    pub(crate) header: Option<String>,
    pub(crate) header_value: Option<String>,
    pub(crate) since: Option<String>,
    pub(crate) before: Option<String>,
    pub(crate) unread: Option<bool>,
    pub(crate) starred: Option<bool>,
    pub(crate) answered: Option<bool>,
    pub(crate) draft: Option<bool>,
    pub(crate) keyword: Option<String>,
    pub(crate) larger: Option<u32>,
    pub(crate) smaller: Option<u32>,
    pub(crate) uid_from: Option<u32>,
    /// Gmail's own search language.
    pub(crate) gmail: Option<String>,
}

impl Criteria {
    /// The keys; `ALL` if nothing is said.
    pub(crate) fn keys(&self, is_gmail: bool) -> Result<Command> {
        // What is marked as removed is gone for people.
        let mut keys = Command::new("UNDELETED");
        let texts =
            [("FROM", &self.from), ("TO", &self.to), ("CC", &self.cc), ("SUBJECT", &self.subject), ("BODY", &self.body), ("TEXT", &self.text)];
        for (key, value) in texts {
            if let Some(value) = value {
                keys = keys.words(key).value(value)?;
            }
        }
        if let Some(id) = &self.message_id {
            keys = keys.words("HEADER Message-ID").value(id)?;
        }
        match (&self.header, &self.header_value) {
            (Some(name), value) => {
                if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':') {
                    return Err(Error::invalid("`header` is not the name of a header field"));
                }
                keys = keys.words("HEADER").value(name)?.value(value.as_deref().unwrap_or_default())?;
            }
            (None, Some(_)) => return Err(Error::invalid("`header_value` needs `header`, the name of the field")),
            (None, None) => {}
        }
        for (key, value) in [("SINCE", &self.since), ("BEFORE", &self.before)] {
            if let Some(value) = value {
                keys = keys.words(key).words(&date(value)?);
            }
        }
        let flags = [
            ("SEEN", "UNSEEN", self.unread.map(|unread| !unread)),
            ("FLAGGED", "UNFLAGGED", self.starred),
            ("ANSWERED", "UNANSWERED", self.answered),
            ("DRAFT", "UNDRAFT", self.draft),
        ];
        for (set, unset, wanted) in flags {
            if let Some(wanted) = wanted {
                keys = keys.words(if wanted { set } else { unset });
            }
        }
        if let Some(keyword) = &self.keyword {
            keys = keys.words("KEYWORD").words(keyword_atom(keyword)?);
        }
        if let Some(size) = self.larger {
            keys = keys.words(&format!("LARGER {size}"));
        }
        if let Some(size) = self.smaller {
            keys = keys.words(&format!("SMALLER {size}"));
        }
        if let Some(uid) = self.uid_from {
            keys = keys.words(&format!("UID {uid}:*"));
        }
        if let Some(query) = &self.gmail {
            if !is_gmail {
                return Err(Error::invalid("`gmail` is Gmail's own search language, and this is not Gmail; use the other criteria"));
            }
            keys = keys.words("X-GM-RAW").value(query)?;
        }
        Ok(keys)
    }
}

/// `1-Nov-2026`, which is how IMAP writes a day.
fn date(text: &str) -> Result<String> {
    // A date and time is taken for its day: IMAP knows no finer grain here.
    let day = text.get(..10).unwrap_or(text);
    let date: Date = day.parse().map_err(|_| Error::invalid("a date is written YYYY-MM-DD"))?;
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = usize::try_from(date.month() - 1).unwrap_or_default();
    Ok(format!("{}-{}-{:04}", date.day(), MONTHS[month], date.year()))
}

/// A keyword, which is an atom: no blanks, no 8-bit characters, nothing that means something else.
pub(crate) fn keyword_atom(keyword: &str) -> Result<&str> {
    let sound = !keyword.is_empty()
        && keyword.len() <= 128
        && keyword.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'(' | b')' | b'{' | b'%' | b'*' | b'"' | b'\\' | b']' | b'['));
    if sound { Ok(keyword) } else { Err(Error::invalid("a keyword has ASCII letters, digits and signs, and none of blank ( ) { % * \" \\ [ ]")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imap::command::Piece;

    fn keys(criteria: &Criteria) -> String {
        let pieces = criteria.keys(true).unwrap().into_pieces();
        pieces
            .into_iter()
            .map(|piece| match piece {
                Piece::Words(words) => words,
                Piece::Literal(bytes) => format!("{{{}}}", bytes.len()),
            })
            .collect()
    }

    #[test]
    fn criteria_are_bound_keys() {
        let criteria = Criteria {
            from: Some("ann\" OR ALL \"".into()),
            subject: Some("Gr\u{fc}\u{df}e".into()),
            since: Some("2026-11-01T10:00:00Z".into()),
            unread: Some(true),
            starred: Some(false),
            keyword: Some("$Done".into()),
            larger: Some(9),
            gmail: Some("has:attachment newer_than:2d".into()),
            ..Criteria::default()
        };
        assert_eq!(
            keys(&criteria),
            "UNDELETED FROM {13} SUBJECT {7} SINCE 1-Nov-2026 UNSEEN UNFLAGGED KEYWORD $Done LARGER 9 X-GM-RAW \"has:attachment newer_than:2d\""
        );
        assert!(criteria.keys(true).unwrap().needs_utf8());
        assert!(!Criteria::default().keys(false).unwrap().needs_utf8());
    }

    #[test]
    fn what_cannot_be_a_key_is_refused() {
        let wrong = [
            Criteria { since: Some("1 Nov".into()), ..Criteria::default() },
            Criteria { since: Some("2026-13-01".into()), ..Criteria::default() },
            Criteria { keyword: Some("a b".into()), ..Criteria::default() },
            Criteria { keyword: Some("x) ALL (".into()), ..Criteria::default() },
            Criteria { header: Some("X: y".into()), ..Criteria::default() },
            Criteria { header_value: Some("y".into()), ..Criteria::default() },
            Criteria { gmail: Some("x".into()), ..Criteria::default() },
            Criteria { from: Some("a\0".into()), ..Criteria::default() },
        ];
        assert!(wrong.iter().all(|criteria| criteria.keys(false).is_err()));
    }
}
