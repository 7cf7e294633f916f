//! Addresses as people give them (`Ann <ann@example.com>`). Refuses line breaks and other control characters before anything is built.

use connector_core::{Error, Result, redact};
use lettre::message::Mailbox;

/// An address with or without a name.
pub(crate) fn mailbox(text: &str, what: &str) -> Result<Mailbox> {
    plain(text, what)?;
    let wrong = || Error::invalid(format!("`{}` in `{what}` is not an e-mail address", redact::printable(text, 80)));
    text.trim().parse().map_err(|_| wrong())
}

/// Several of them.
pub(crate) fn mailboxes(texts: &[String], what: &str) -> Result<Vec<Mailbox>> {
    texts.iter().map(|text| mailbox(text, what)).collect()
}

/// Refuses what would start another header.
pub(crate) fn plain(text: &str, what: &str) -> Result<()> {
    if text.chars().any(char::is_control) {
        return Err(Error::invalid(format!("`{what}` has a line break or another control character; nothing was sent")));
    }
    Ok(())
}

/// Whether two addresses are the same mailbox, as far as can be told from outside.
pub(crate) fn same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_break_is_refused_before_anything_is_read() {
        for evil in ["a@b.example\r\nBcc: x@y.example", "a@b.example\n", "A\0 <a@b.example>", "a@b.example\r"] {
            assert!(mailbox(evil, "to").unwrap_err().message().contains("control character"), "{evil:?}");
        }
        for wrong in ["", "ann", "@b", "a@", "a b@c.example", "<a@b.example", "a@b.example, c@d.example"] {
            assert!(mailbox(wrong, "to").is_err(), "{wrong:?}");
        }
        let ann = mailbox("Ann Example <ann@example.com>", "to").unwrap();
        assert_eq!((ann.name.as_deref(), ann.email.to_string()), (Some("Ann Example"), "ann@example.com".to_owned()));
    }
}
