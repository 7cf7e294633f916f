//! YAML text as a tree with positions, under a budget.
//!
//! Owns what of YAML a manifest may use: one document of mappings, lists and scalars. Refuses what makes a small file big
//! or its meaning depend on the reader: anchors, aliases, merge keys, tags, includes, several documents, duplicate keys,
//! and more than `MAX_BYTES`, `MAX_NODES` or `MAX_DEPTH`. Scalars follow the YAML 1.2 core schema: `yes` and `no` are text.

use std::{borrow::Cow, collections::HashMap};

use serde_json::{Number, Value};
use serde_saphyr::granit_parser::{Event, Marker, Options, Parser, ScalarStyle};

/// The longest text that is read, in bytes.
pub(crate) const MAX_BYTES: usize = 256 * 1024;
/// The most mappings, lists, keys and scalars in one text.
pub(crate) const MAX_NODES: usize = 20_000;
/// The deepest nesting.
pub(crate) const MAX_DEPTH: usize = 64;

/// A place in one of the files being read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Which of the files.
    pub(crate) file: usize,
    /// From 1.
    pub(crate) line: u32,
    /// In characters, from 1.
    pub(crate) col: u32,
}

/// A node and where it starts.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) content: Content,
}

/// What a node is.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// A scalar; `plain` if it is not quoted and so may be a number, a boolean or null.
    Scalar { text: String, plain: bool },
    /// A list.
    Sequence(Vec<Node>),
    /// A mapping, in order, keys unique.
    Mapping(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) place: Place,
    pub(crate) value: Node,
}

/// Why a text is no tree: where and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) place: Place,
    pub(crate) message: String,
}

impl Node {
    /// The entry of this key, if this is a mapping that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The entries; none if this is not a mapping.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.content {
            Content::Mapping(entries) => entries,
            _ => &[],
        }
    }

    /// The value a scalar has by itself, whatever is expected of it. Lists and mappings give theirs.
    pub(crate) fn to_value(&self) -> Result<Value, Fault> {
        match &self.content {
            Content::Scalar { text, plain: false } => Ok(Value::String(text.clone())),
            Content::Scalar { text, plain: true } => plain(text).map_err(|message| Fault { place: self.place, message }),
            Content::Sequence(items) => items.iter().map(Self::to_value).collect::<Result<_, _>>().map(Value::Array),
            Content::Mapping(entries) => {
                entries.iter().map(|entry| Ok((entry.key.clone(), entry.value.to_value()?))).collect::<Result<_, _>>().map(Value::Object)
            }
        }
    }
}

/// A plain scalar by the YAML 1.2 core schema.
fn plain(text: &str) -> Result<Value, String> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "-.inf" => {
            return Err(format!("`{text}` has no meaning in JSON; put it in quotes if it is a text"));
        }
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Ok(Value::String(text.to_owned()));
    }
    let too_big = || format!("`{text}` is too big for a number; put it in quotes if it is an id");
    if !unsigned.is_empty() && unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        let number = text.strip_prefix('+').unwrap_or(text);
        return match (number.parse::<i64>(), number.parse::<u64>()) {
            (Ok(number), _) => Ok(Value::from(number)),
            (_, Ok(number)) => Ok(Value::from(number)),
            _ => Err(too_big()),
        };
    }
    let float = unsigned.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
    match (float, text.parse::<f64>()) {
        (true, Ok(number)) => Number::from_f64(number).map(Value::Number).ok_or_else(too_big),
        _ => Ok(Value::String(text.to_owned())),
    }
}

/// Reads one document.
pub(crate) fn load(file: usize, text: &str) -> Result<Node, Fault> {
    let start = Place { file, line: 1, col: 1 };
    if text.len() > MAX_BYTES {
        let message = format!("the file has {} KiB; a manifest has at most {} KiB, split it into several files", text.len() / 1024, MAX_BYTES / 1024);
        return Err(Fault { place: start, message });
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut options = Options::default();
    options.emit_comments = false;
    options.flow_nesting_limit = MAX_DEPTH + 1;
    options.block_nesting_limit = MAX_DEPTH + 1;
    let mut loader = Loader { file, nodes: 0, open: Vec::new(), root: None };
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, span) = next.map_err(|error| syntax(file, text, error.marker(), error.info()))?;
        loader.take(event, place(file, &span.start))?;
    }
    loader.root.ok_or_else(|| Fault { place: start, message: "the file is empty; a manifest starts with `connector:` and `name:`".into() })
}

fn place(file: usize, marker: &Marker) -> Place {
    let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Place { file, line: small(marker.line()), col: small(marker.col()).saturating_add(1) }
}

/// The parser's own error, in words that help where it is the usual slip.
fn syntax(file: usize, text: &str, marker: &Marker, info: impl std::fmt::Display) -> Fault {
    let mut place = place(file, marker);
    let line = usize::try_from(place.line).ok().and_then(|line| text.lines().nth(line.saturating_sub(1))).unwrap_or_default();
    let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
    if let Some(tab) = line[..indent].find('\t') {
        place.col = u32::try_from(tab).unwrap_or(0) + 1;
        return Fault { place, message: "a tab indents this line; YAML allows only spaces there".into() };
    }
    let info = info.to_string();
    if info.contains("nesting") || info.contains("recursion") {
        return Fault { place, message: too_deep() };
    }
    let mut message = format!("this is not valid YAML: {}", info.trim_end_matches('.'));
    let at = usize::try_from(place.col).unwrap_or(1).saturating_sub(1);
    if line.chars().nth(at).is_some_and(|c| "{}[]*&!%@`|>".contains(c)) || info.contains("flow") {
        message.push_str("; a text that starts with or holds `{`, `}`, `[`, `]`, `*`, `&`, `!`, `%`, `@` or a backtick needs quotes");
    }
    Fault { place, message }
}

fn too_deep() -> String {
    format!("this is nested more than {MAX_DEPTH} levels deep; a manifest never needs that")
}

/// What is open while reading.
enum Open {
    Sequence(Place, Vec<Node>),
    Mapping { place: Place, entries: Vec<Entry>, seen: HashMap<String, Place>, key: Option<(String, Place)> },
}

struct Loader {
    file: usize,
    nodes: usize,
    open: Vec<Open>,
    root: Option<Node>,
}

impl Loader {
    fn take(&mut self, event: Event<'_>, place: Place) -> Result<(), Fault> {
        let fault = |message: &str| Err(Fault { place, message: message.to_owned() });
        const ANCHOR: &str = "anchors (`&name`) are not read in manifests; write the value out where it is used";
        match event {
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd | Event::Comment(..) => Ok(()),
            Event::DocumentStart(..) if self.root.is_some() => {
                fault("a second document starts here; a file holds one manifest, put the other in its own file")
            }
            Event::DocumentStart(_, Some(_)) => fault("`%YAML` directives are not read; remove the line"),
            Event::DocumentStart(..) => Ok(()),
            Event::Alias(_) => fault("aliases (`*name`) are not read in manifests; write the value out where it is used"),
            Event::Scalar(_, _, anchor, _) | Event::SequenceStart(_, anchor, _) | Event::MappingStart(_, anchor, _) if anchor != 0 => fault(ANCHOR),
            Event::Scalar(_, _, _, Some(_)) | Event::SequenceStart(_, _, Some(_)) | Event::MappingStart(_, _, Some(_)) => {
                fault("tags (`!name`, `!!name`) are not read in manifests; remove it, and quote the value if it is a text")
            }
            Event::Scalar(text, style, ..) => self.scalar(text, style, place),
            Event::SequenceStart(..) => {
                self.start(place)?;
                self.open.push(Open::Sequence(place, Vec::new()));
                Ok(())
            }
            Event::MappingStart(..) => {
                self.start(place)?;
                self.open.push(Open::Mapping { place, entries: Vec::new(), seen: HashMap::new(), key: None });
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::Sequence(place, items)) => self.finish(Node { place, content: Content::Sequence(items) }),
                Some(Open::Mapping { place, entries, .. }) => self.finish(Node { place, content: Content::Mapping(entries) }),
                None => fault("this closes nothing"),
            },
            // The parser's events may grow; what is not known is not read.
            _ => fault("this kind of YAML is not read in manifests"),
        }
    }

    fn count(&mut self, place: Place) -> Result<(), Fault> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            let message = format!("the file has more than {MAX_NODES} keys and values; split it into several files");
            return Err(Fault { place, message });
        }
        Ok(())
    }

    fn start(&mut self, place: Place) -> Result<(), Fault> {
        self.count(place)?;
        if self.open.len() >= MAX_DEPTH {
            return Err(Fault { place, message: too_deep() });
        }
        if let Some(Open::Mapping { key: None, .. }) = self.open.last() {
            return Err(Fault { place, message: "a key must be a text; quote it if it starts with `{` or `[`".into() });
        }
        Ok(())
    }

    fn scalar(&mut self, text: Cow<'_, str>, style: ScalarStyle, place: Place) -> Result<(), Fault> {
        self.count(place)?;
        if let Some(Open::Mapping { seen, key: key @ None, .. }) = self.open.last_mut() {
            if text == "<<" {
                return Err(Fault { place, message: "merge keys (`<<`) are not read in manifests; write the keys out".into() });
            }
            if let Some(first) = seen.insert(text.to_string(), place) {
                return Err(Fault { place, message: format!("`{text}` is given twice; the first is on line {}", first.line) });
            }
            *key = Some((text.into_owned(), place));
            return Ok(());
        }
        self.finish(Node { place, content: Content::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain } })
    }

    fn finish(&mut self, node: Node) -> Result<(), Fault> {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::Sequence(_, items)) => items.push(node),
            Some(Open::Mapping { entries, key, .. }) => match key.take() {
                Some((key, place)) => entries.push(Entry { key, place, value: node }),
                None => return Err(Fault { place: Place { file: self.file, ..node.place }, message: "a key must be a text".into() }),
            },
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_follow_the_core_schema() {
        for (text, value) in [
            ("1", serde_json::json!(1)),
            ("-7", serde_json::json!(-7)),
            ("18446744073709551615", serde_json::json!(18_446_744_073_709_551_615_u64)),
            ("1.5", serde_json::json!(1.5)),
            ("1e3", serde_json::json!(1000.0)),
            ("1.2.0", serde_json::json!("1.2.0")),
            ("2027-09-30", serde_json::json!("2027-09-30")),
            ("yes", serde_json::json!("yes")),
            ("-", serde_json::json!("-")),
            (".id", serde_json::json!(".id")),
            ("", Value::Null),
            ("~", Value::Null),
        ] {
            assert_eq!(plain(text).unwrap(), value, "{text}");
        }
        for text in ["1e400", "99999999999999999999999999999999999999999", ".inf"] {
            assert!(plain(text).is_err(), "{text}");
        }
    }

    #[test]
    fn places_are_lines_and_columns_from_one() {
        let node = load(0, "a: 1\nb:\n  - é: x\n").unwrap();
        let b = node.get("b").unwrap();
        assert_eq!((b.place.line, b.place.col), (2, 1));
        let Content::Sequence(items) = &b.value.content else { panic!("a list") };
        let entry = &items[0].entries()[0];
        assert_eq!((entry.place.line, entry.place.col, entry.value.place.col), (3, 5, 8));
    }
}
