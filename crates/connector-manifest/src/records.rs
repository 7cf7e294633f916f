//! Passing records on as the vendor wrote them: a page is split into its records without building a single value.
//!
//! Owns finding the list and cutting it up. Everything on the page is checked to be JSON while it is read, once. Refuses paths that run
//! over several lists; those need the values built.

use std::fmt;

use connector_core::{Error, Result, connector::json_error};
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::select::{Path, Step};

/// How many records a page is expected to have.
const USUAL: usize = 100;

/// The records of a page, in order, as pieces of `json`. `items` says where the list is (`.results`, or `.` if the page is the list); no
/// list there means no records.
///
/// # Errors
/// [`connector_core::ErrorKind::Protocol`] if the page is not JSON or there is something else than a list;
/// [`connector_core::ErrorKind::Unsupported`] if the path runs over lists with `[]`.
pub fn split<'j>(json: &'j [u8], items: &Path) -> Result<Vec<&'j RawValue>> {
    let mut records = Vec::new();
    for steps in items.alternatives() {
        if steps.contains(&Step::Each) {
            return Err(Error::unsupported(format!("records at `{items}` cannot be passed on unread; the path runs over lists")));
        }
        let mut reader = serde_json::Deserializer::from_slice(json);
        let found = Walk { steps, records: &mut records }.deserialize(&mut reader).and_then(|found| reader.end().map(|()| found));
        if found.map_err(|error| json_error(&error))? {
            break;
        }
    }
    Ok(records)
}

/// Appends the records of a page to `lines`, each as one line of JSON (NDJSON), and tells how many there were.
///
/// # Errors
/// As [`split`]; then nothing was appended.
pub fn write_lines(json: &[u8], items: &Path, lines: &mut Vec<u8>) -> Result<usize> {
    let records = split(json, items)?;
    lines.reserve(json.len());
    for record in &records {
        let text = record.get().as_bytes();
        if text.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
            // JSON text has line breaks between its tokens only: inside strings they are escaped.
            lines.extend(text.iter().filter(|byte| !matches!(byte, b'\n' | b'\r')));
        } else {
            lines.extend_from_slice(text);
        }
        lines.push(b'\n');
    }
    Ok(records.len())
}

/// Descends along the steps to a list and keeps the text of its elements. Gives whether the list was there.
struct Walk<'s, 'r, 'j> {
    steps: &'s [Step],
    records: &'r mut Vec<&'j RawValue>,
}

impl<'j> DeserializeSeed<'j> for Walk<'_, '_, 'j> {
    type Value = bool;

    fn deserialize<D: Deserializer<'j>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'j> Visitor<'j> for Walk<'_, '_, 'j> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.steps.is_empty() { "a list of records" } else { "a page" })
    }

    fn visit_map<A: MapAccess<'j>>(self, mut map: A) -> Result<bool, A::Error> {
        let Some((step, rest)) = self.steps.split_first() else { return Err(A::Error::custom("an object where the records should be")) };
        let mut found = false;
        while let Some(key) = map.next_key::<std::borrow::Cow<'j, str>>()? {
            match step {
                Step::Key(wanted) if **wanted == *key => {
                    // As in a tree, the last of two equal keys counts.
                    self.records.clear();
                    found = map.next_value_seed(Walk { steps: rest, records: &mut *self.records })?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'j>>(self, mut seq: A) -> Result<bool, A::Error> {
        let Some((step, rest)) = self.steps.split_first() else {
            self.records.reserve(USUAL);
            while let Some(record) = seq.next_element()? {
                self.records.push(record);
            }
            return Ok(true);
        };
        let mut found = false;
        for at in 0.. {
            let more = match step {
                Step::Index(wanted) if *wanted == at => match seq.next_element_seed(Walk { steps: rest, records: &mut *self.records })? {
                    Some(there) => {
                        found = there;
                        true
                    }
                    None => false,
                },
                _ => seq.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                break;
            }
        }
        Ok(found)
    }

    /// `null` is what vendors write for an empty list.
    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use connector_core::ErrorKind;

    use super::*;

    fn texts(json: &str, path: &str) -> Result<Vec<String>> {
        let records = split(json.as_bytes(), &Path::parse(path).unwrap())?;
        Ok(records.iter().map(|record| record.get().to_owned()).collect())
    }

    #[test]
    fn records_come_as_they_were_written() {
        let page = r#"{"total": 2, "results": [{"id": "1", "n": 1.50}, {"id": "ä"}], "paging": {"next": {"after": "7"}}}"#;
        assert_eq!(texts(page, ".results").unwrap(), [r#"{"id": "1", "n": 1.50}"#, r#"{"id": "ä"}"#]);
        assert_eq!(texts("[1, null, [2]]", ".").unwrap(), ["1", "null", "[2]"]);
        assert_eq!(texts(r#"{"a": [0, {"items": [7]}]}"#, ".a[1].items").unwrap(), ["7"]);
        assert_eq!(texts(r#"{"value": [3]}"#, ".results // .value").unwrap(), ["3"]);
        assert_eq!(texts(r#"{"results": [1], "results": [2]}"#, ".results").unwrap(), ["2"]);
    }

    #[test]
    fn no_list_means_no_records_and_anything_else_is_an_error() {
        for page in [r#"{"total": 0}"#, r#"{"results": null}"#, r#"{"results": []}"#] {
            assert!(texts(page, ".results").unwrap().is_empty(), "{page}");
        }
        for page in [r#"{"results": {"id": 1}}"#, r#"{"results": "none"}"#, r#"{"results": [1], "paging": {"#, r#"{"results": [1]} x"#, "<html>"] {
            assert_eq!(texts(page, ".results").unwrap_err().kind(), ErrorKind::Protocol, "{page}");
        }
        assert_eq!(texts("[]", ".groups[].items").unwrap_err().kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn each_record_is_one_line_however_it_was_written() {
        let mut lines = b"before\n".to_vec();
        let page = b"{\"results\": [{\n  \"id\": 1,\r\n  \"text\": \"a\\nb\"\n}, 2]}";
        assert_eq!(write_lines(page, &Path::parse(".results").unwrap(), &mut lines).unwrap(), 2);
        let text = String::from_utf8(lines).unwrap();
        let written: Vec<&str> = text.lines().collect();
        assert_eq!(written.len(), 3, "{text}");
        let first: serde_json::Value = serde_json::from_str(written[1]).unwrap();
        assert_eq!(first, serde_json::json!({ "id": 1, "text": "a\nb" }));
        let mut untouched = Vec::new();
        write_lines(b"{\"results\": [1, }", &Path::parse(".results").unwrap(), &mut untouched).unwrap_err();
        assert!(untouched.is_empty());
    }
}
