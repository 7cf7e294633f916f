//! Commands as they are written: words of ours, and values of others that can never become words. Owns quoting (RFC 9051 §4.3).
//!
//! A value goes as a quoted text if it is plain, and as a literal otherwise: quotes, backslashes, line ends and 8-bit bytes are then data by
//! their count, and nothing in them can end the text. Refuses NUL, which no form can carry.

use bytes::Bytes;
use connector_core::{Error, Result};

use super::names;

/// The longest value that goes as a quoted text.
const LONGEST_QUOTED: usize = 512;

/// A piece of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Words of ours and quoted values.
    Words(String),
    /// A value that is sent by its length.
    Literal(Bytes),
}

/// A command without its tag.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Command {
    pieces: Vec<Piece>,
    needs_utf8: bool,
}

impl Command {
    /// Starts with words of ours. They are written as they stand: never put a value of others in here.
    pub(crate) fn new(words: impl Into<String>) -> Self {
        Self { pieces: vec![Piece::Words(words.into())], needs_utf8: false }
    }

    /// Adds words of ours after a blank.
    #[must_use]
    pub(crate) fn words(mut self, words: &str) -> Self {
        self.push(" ");
        self.push(words);
        self
    }

    /// Adds a value after a blank, whatever it holds.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Invalid`] if it has a NUL.
    pub(crate) fn value(mut self, value: &str) -> Result<Self> {
        self.push(" ");
        self.bind(value)?;
        Ok(self)
    }

    /// Adds a list of values after a blank.
    ///
    /// # Errors
    /// As [`Command::value`].
    pub(crate) fn list<'v>(mut self, values: impl IntoIterator<Item = &'v str>) -> Result<Self> {
        self.push(" (");
        for (at, value) in values.into_iter().enumerate() {
            if at > 0 {
                self.push(" ");
            }
            self.bind(value)?;
        }
        self.push(")");
        Ok(self)
    }

    fn bind(&mut self, value: &str) -> Result<()> {
        if value.contains('\0') {
            return Err(Error::invalid("a text has a NUL character, which IMAP cannot carry"));
        }
        self.needs_utf8 |= !value.is_ascii();
        let plain = value.len() <= LONGEST_QUOTED && value.bytes().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\'));
        if plain {
            self.push(&format!("\"{value}\""));
        } else {
            self.pieces.push(Piece::Literal(Bytes::copy_from_slice(value.as_bytes())));
        }
        Ok(())
    }

    /// Adds the name of a mailbox after a blank, in the encoding of mailbox names.
    ///
    /// # Errors
    /// As [`Command::value`].
    pub(crate) fn mailbox(self, name: &str) -> Result<Self> {
        self.value(&names::encode(name))
    }

    /// Adds bytes after a blank.
    #[must_use]
    pub(crate) fn literal(mut self, bytes: Bytes) -> Self {
        self.push(" ");
        self.pieces.push(Piece::Literal(bytes));
        self
    }

    /// Adds another command's pieces after a blank.
    #[must_use]
    pub(crate) fn then(mut self, other: Self) -> Self {
        self.push(" ");
        self.needs_utf8 |= other.needs_utf8;
        for piece in other.pieces {
            match piece {
                Piece::Words(words) => self.push(&words),
                literal => self.pieces.push(literal),
            }
        }
        self
    }

    /// Whether a value in it is not ASCII, so that a search has to name its charset.
    pub(crate) fn needs_utf8(&self) -> bool {
        self.needs_utf8
    }

    /// The pieces in order.
    pub(crate) fn into_pieces(self) -> Vec<Piece> {
        self.pieces
    }

    fn push(&mut self, words: &str) {
        match self.pieces.last_mut() {
            Some(Piece::Words(last)) => last.push_str(words),
            _ => self.pieces.push(Piece::Words(words.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::imap::value::{Value, words};

    /// What a server reads: one line with literals in place.
    fn wire(command: Command) -> Bytes {
        let mut bytes = Vec::new();
        for piece in command.into_pieces() {
            match piece {
                Piece::Words(words) => bytes.extend_from_slice(words.as_bytes()),
                Piece::Literal(literal) => {
                    bytes.extend_from_slice(format!("{{{}}}\r\n", literal.len()).as_bytes());
                    bytes.extend_from_slice(&literal);
                }
            }
        }
        bytes.into()
    }

    #[test]
    fn a_break_out_stays_data() {
        let evil = "x\" NOT (ALL)\r\na2 DELETE INBOX\\";
        let command = Command::new("UID SEARCH FROM").value(evil).unwrap().words("UNSEEN");
        let read = words(&wire(command.clone()), 0).unwrap();
        assert_eq!(read[3], Value::Text(Bytes::from(evil)));
        assert_eq!(read.len(), 5);
        assert!(matches!(&command.into_pieces()[0], Piece::Words(words) if words == "UID SEARCH FROM "));
    }

    #[test]
    fn plain_values_are_quoted_and_nul_is_refused() {
        let command = Command::new("SELECT").mailbox("Sent Items").unwrap();
        assert_eq!(command.into_pieces(), [Piece::Words("SELECT \"Sent Items\"".into())]);
        assert!(Command::new("X").value("a\0b").is_err());
    }

    proptest! {
        #[test]
        fn whatever_a_value_holds_a_server_reads_that_value(value in any::<String>().prop_filter("NUL", |text| !text.contains('\0')), more in "[ -~]{0,9}") {
            let more = more.replace(['"', '\\'], "");
            let command = Command::new("UID SEARCH SUBJECT").value(&value).unwrap().words("FROM").value(&more).unwrap();
            let read = words(&wire(command), 0).unwrap();
            prop_assert_eq!(read.len(), 6);
            prop_assert_eq!(&read[3], &Value::Text(Bytes::from(value)));
            prop_assert_eq!(&read[5], &Value::Text(Bytes::from(more)));
        }
    }
}
