//! How a message is named: `INBOX;3857529045;4391` (folder, UIDVALIDITY, UID), which is exact, or its Message-ID, which is looked for.

use connector_core::{Error, Result, redact};

/// A message's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Locator {
    /// Exactly this one.
    Exact { folder: String, uid_validity: u32, uid: u32 },
    /// Whichever has this Message-ID, with its angle brackets.
    MessageId(String),
}

/// The exact name.
pub(crate) fn exact(folder: &str, uid_validity: u32, uid: u32) -> String {
    format!("{folder};{uid_validity};{uid}")
}

impl Locator {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            let text = redact::printable(text, 80);
            Error::invalid(format!("`{text}` names no message; give its `id` (`INBOX;3857529045;4391`) or its Message-ID (`<1@example.com>`)"))
        };
        let text = text.trim();
        let mut words = text.rsplitn(3, ';');
        if let (Some(uid), Some(validity), Some(folder)) = (words.next(), words.next(), words.next())
            && let (Ok(uid), Ok(uid_validity)) = (uid.parse::<u32>(), validity.parse::<u32>())
        {
            return if folder.is_empty() || uid == 0 { Err(wrong()) } else { Ok(Self::Exact { folder: folder.to_owned(), uid_validity, uid }) };
        }
        let inner = text.strip_prefix('<').and_then(|text| text.strip_suffix('>')).unwrap_or(text);
        let sound = inner.len() > 2 && inner.len() <= 900 && inner.contains('@') && !inner.chars().any(|c| c.is_control() || matches!(c, '<' | '>'));
        if sound { Ok(Self::MessageId(format!("<{inner}>"))) } else { Err(wrong()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let exact = |folder: &str| Locator::Exact { folder: folder.into(), uid_validity: 7, uid: 9 };
        assert_eq!(Locator::parse("INBOX;7;9").unwrap(), exact("INBOX"));
        assert_eq!(Locator::parse("a;b;7;9").unwrap(), exact("a;b"));
        assert_eq!(Locator::parse("<1@c.example>").unwrap(), Locator::MessageId("<1@c.example>".into()));
        assert_eq!(Locator::parse("1@c.example").unwrap(), Locator::MessageId("<1@c.example>".into()));
        for wrong in ["", "7", "INBOX;7;0", ";7;9", "INBOX;7;99999999999", "<a@b>\r\nx", "<<a@b>>"] {
            assert!(Locator::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
