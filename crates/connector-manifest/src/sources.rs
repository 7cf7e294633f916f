//! Where each key of a manifest stands in its files.
//!
//! Owns the spelling of key paths (`tools[0].params[1].type`, `events["contact.created"].match`) and what they point at.

use std::collections::HashMap;

use crate::{
    diagnostic::{Diagnostic, Severity},
    yaml::{Content, Node, Place},
};

/// The files of a manifest and the place of each key in them. Empty for a manifest that came from JSON.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    files: Vec<String>,
    places: HashMap<String, Place>,
}

impl Sources {
    pub(crate) fn new(files: Vec<String>, root: &Node) -> Self {
        let mut places = HashMap::new();
        places.insert(String::new(), root.place);
        index(root, "", &mut places);
        Self { files, places }
    }

    /// The name of the file the manifest starts in; empty if there is none.
    pub fn file(&self) -> &str {
        let head = self.places.get("").map_or(0, |place| place.file);
        self.files.get(head).map_or("", String::as_str)
    }

    /// The file, line and column of a key, or of the nearest key around it. Line and column are 0 if nothing is known.
    pub fn locate(&self, key: &str) -> (&str, u32, u32) {
        // A list of one may be written as its member, so `auth[0].type` may stand at `auth.type`.
        let mut key = key.to_owned();
        loop {
            let found = self.places.get(&key).or_else(|| self.places.get(&key.replace("[0]", "")));
            if let Some(place) = found {
                return (self.files.get(place.file).map_or("", String::as_str), place.line, place.col);
            }
            if key.is_empty() {
                return (self.file(), 0, 0);
            }
            key.truncate(parent(&key));
        }
    }

    /// A finding about a key.
    pub(crate) fn diagnostic(&self, severity: Severity, key: impl Into<String>, message: impl Into<String>) -> Diagnostic {
        let key = key.into();
        let (file, line, col) = self.locate(&key);
        Diagnostic { file: file.to_owned(), line, col, severity, key, message: message.into() }
    }
}

/// The most findings that are told at once; nobody reads more, and a hostile file could make very many.
pub(crate) const MOST_FINDINGS: usize = 100;

/// The known name nearest to a mistyped one. What is longer than any name is not compared.
pub(crate) fn near<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 64;
    if word.len() > LONGEST {
        return None;
    }
    connector_core::suggest::nearest(word, candidates.into_iter().filter(|candidate| candidate.len() <= LONGEST).take(300))
}

/// The length of the path without its last step.
fn parent(path: &str) -> usize {
    if path.ends_with("\"]") {
        return path.rfind("[\"").unwrap_or(0);
    }
    path.rfind(['.', '[']).unwrap_or(0)
}

/// The path of a key inside a mapping.
pub(crate) fn child(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    match (plain, path.is_empty()) {
        (true, true) => key.to_owned(),
        (true, false) => format!("{path}.{key}"),
        (false, _) => format!("{path}[\"{key}\"]"),
    }
}

/// The path of an item of a list.
pub(crate) fn item(path: &str, at: usize) -> String {
    format!("{path}[{at}]")
}

fn index(node: &Node, path: &str, places: &mut HashMap<String, Place>) {
    match &node.content {
        Content::Scalar { .. } => {}
        Content::Sequence(items) => {
            for (at, inner) in items.iter().enumerate() {
                let path = item(path, at);
                index(inner, &path, places);
                places.insert(path, inner.place);
            }
        }
        Content::Mapping(entries) => {
            for entry in entries {
                let path = child(path, &entry.key);
                // A scalar is pointed at itself, a whole block at its key.
                let place = if matches!(entry.value.content, Content::Scalar { .. }) { entry.value.place } else { entry.place };
                index(&entry.value, &path, places);
                places.insert(path, place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_and_an_unknown_one_falls_back_to_what_is_around_it() {
        let root = crate::yaml::load(0, "auth: { type: bearer }\nevents:\n  contact.created:\n    match: { .type: x }\n").unwrap();
        let sources = Sources::new(vec!["a.yaml".into()], &root);
        assert_eq!(sources.locate("auth[0].type"), ("a.yaml", 1, 15));
        assert_eq!(sources.locate("events[\"contact.created\"].match[\".type\"]"), ("a.yaml", 4, 21));
        assert_eq!(sources.locate("events[\"contact.created\"].payload"), ("a.yaml", 3, 3));
        assert_eq!(sources.locate("tools[0].name"), ("a.yaml", 1, 1));
        assert_eq!(Sources::default().locate("tools[0]"), ("", 0, 0));
    }
}
