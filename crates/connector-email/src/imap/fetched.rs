//! What FETCH tells about one message. Items come in any order, some come unasked; what is not known is passed over.

use bytes::Bytes;

use super::{names, structure, value::Value};

/// What was told about a message.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fetched {
    pub(crate) uid: u32,
    pub(crate) flags: Option<Vec<String>>,
    pub(crate) internal_date: Option<String>,
    pub(crate) size: Option<u64>,
    pub(crate) modseq: Option<u64>,
    /// The header, or the fields of it that were asked for.
    pub(crate) header: Option<Bytes>,
    /// The body, or the part or piece of it that was asked for.
    pub(crate) body: Option<Bytes>,
    pub(crate) parts: Option<Vec<structure::Part>>,
    /// Gmail's labels.
    pub(crate) labels: Option<Vec<String>>,
    pub(crate) gmail_message: Option<String>,
    pub(crate) gmail_thread: Option<String>,
}

impl Fetched {
    /// Reads `12 FETCH (..)`; `None` if it is something else, or does not say whose it is.
    pub(crate) fn read(words: &[Value]) -> Option<Self> {
        let [_, what, Value::List(items)] = words else { return None };
        if !what.is("FETCH") {
            return None;
        }
        let mut found = Self::default();
        for pair in items.chunks(2) {
            let [Value::Atom(name), value] = pair else { continue };
            let name = name.to_ascii_uppercase();
            match name.as_slice() {
                b"UID" => found.uid = value.number()?,
                b"FLAGS" => found.flags = Some(value.list().iter().filter_map(Value::text).collect()),
                b"INTERNALDATE" => found.internal_date = value.text(),
                b"RFC822.SIZE" => found.size = value.number(),
                b"MODSEQ" => found.modseq = value.list().first().and_then(Value::number),
                b"BODYSTRUCTURE" => found.parts = Some(structure::parts(value)),
                b"X-GM-LABELS" => {
                    found.labels = Some(value.list().iter().filter_map(Value::text).map(|label| names::decode(&label)).collect());
                }
                b"X-GM-MSGID" => found.gmail_message = value.text(),
                b"X-GM-THRID" => found.gmail_thread = value.text(),
                section if section.starts_with(b"BODY[HEADER") => found.header = value.bytes().cloned(),
                section if section.starts_with(b"BODY[") => found.body = value.bytes().cloned(),
                _ => {}
            }
        }
        (found.uid > 0).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imap::value::words;

    #[test]
    fn items_come_in_any_order_and_unknown_ones_are_passed_over() {
        let line = Bytes::from_static(
            b"3 FETCH (X-NEW (a (b)) BODY[]<0> {3}\r\nabc FLAGS (\\Seen) MODSEQ (12) UID 9 RFC822.SIZE 4 X-GM-LABELS (\"\\\\Inbox\" \"Entw&APw-rfe\") BODY[HEADER.FIELDS (FROM)] NIL)",
        );
        let found = Fetched::read(&words(&line, 0).unwrap()).unwrap();
        assert_eq!(
            (found.uid, found.size, found.modseq, found.body.as_deref(), found.header.as_deref()),
            (9, Some(4), Some(12), Some(&b"abc"[..]), None)
        );
        assert_eq!(found.labels.unwrap(), ["\\Inbox", "Entw\u{fc}rfe"]);
    }

    #[test]
    fn what_is_no_fetch_or_names_no_uid_is_nothing() {
        for line in ["3 EXPUNGE", "3 FETCH (FLAGS ())", "SEARCH 1 2", "3 FETCH (UID x)", "3 FETCH (UID 0)"] {
            assert!(Fetched::read(&words(&Bytes::copy_from_slice(line.as_bytes()), 0).unwrap()).is_none(), "{line}");
        }
    }
}
