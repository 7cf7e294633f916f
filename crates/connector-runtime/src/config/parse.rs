//! From the text of `hub.yaml` to a [`HubConfig`], with the place of every mistake.
//!
//! Refuses what manifests refuse: unknown keys, anchors, aliases, merge keys, tags, several documents. Values are never shown: they may be secrets.

use std::{collections::HashMap, path::Path};

use connector_core::{Error, Result, suggest};
use connector_manifest::{Diagnostic, Diagnostics, Severity};
use serde_saphyr::granit_parser::{Event, Options, Parser};

use super::HubConfig;

/// The longest file that is read.
const MAX_BYTES: u64 = 1 << 20;
/// The deepest nesting.
const MAX_DEPTH: usize = 32;

impl HubConfig {
    /// Reads a configuration. `file` is how the text is called in messages.
    ///
    /// # Errors
    /// What is wrong and where, as `file:line:col: message`.
    pub fn parse(file: &str, text: &str) -> Result<Self, Diagnostics> {
        let places = Places::of(text).map_err(|(line, col, message)| one(file, (line, col), String::new(), message))?;
        if places.0.is_empty() {
            return Ok(Self::default());
        }
        let config: Self = serde_saphyr::from_str(text).map_err(|error| {
            let at = error.location().map_or((0, 0), |at| (small(at.line()), small(at.column())));
            one(file, at, String::new(), humane(error.without_snippet()))
        })?;
        let problems: Vec<Diagnostic> =
            config.problems().into_iter().flat_map(|(key, message)| one(file, places.locate(&key), key, message)).collect();
        if problems.is_empty() { Ok(config) } else { Err(Diagnostics(problems)) }
    }

    /// Reads the configuration in a file. Relative paths under `manifests` are meant from the file's own folder.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] if the file cannot be read, or with everything [`HubConfig::parse`] finds.
    pub fn load(path: &Path) -> Result<Self> {
        let shown = path.display();
        let unreadable = |error: std::io::Error| Error::config(format!("the configuration `{shown}` cannot be read")).with_source(error);
        if std::fs::metadata(path).map_err(unreadable)?.len() > MAX_BYTES {
            return Err(Error::config(format!("the configuration `{shown}` is longer than {} KiB", MAX_BYTES / 1024)));
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let mut config = Self::parse(&shown.to_string(), &text)?;
        if let Some(folder) = path.parent() {
            config.manifests.iter_mut().for_each(|manifest| *manifest = folder.join(&*manifest));
        }
        Ok(config)
    }
}

fn one(file: &str, (line, col): (u32, u32), key: String, message: String) -> Diagnostics {
    Diagnostics(vec![Diagnostic { file: file.to_owned(), line, col, severity: Severity::Error, key, message }])
}

fn small(number: impl TryInto<u32>) -> u32 {
    number.try_into().unwrap_or(u32::MAX)
}

/// What the reader found, without the value it quotes, and with the nearest known word.
fn humane(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error as Found;
    let near = |given: &str, known: &[&'static str]| {
        suggest::nearest(given, known.iter().copied())
            .map_or_else(|| format!("accepted: {}", known.join(", ")), |near| format!("did you mean `{near}`?"))
    };
    match error {
        Found::SerdeUnknownField { field, expected, .. } => {
            let field = connector_core::redact::printable(field, 40);
            format!("there is no key `{field}` here; {}", near(&field, expected))
        }
        // A value may be anything, also a secret in the wrong place.
        Found::SerdeUnknownVariant { variant, expected, .. } => format!("this value is not accepted; {}", near(variant, expected)),
        Found::SerdeMissingField { field, .. } => format!("the key `{field}` is missing here"),
        Found::SerdeInvalidType { expected, .. } | Found::SerdeInvalidValue { expected, .. } => format!("something else belongs here: {expected}"),
        Found::InvalidScalar { ty, .. } => format!("something else belongs here: a {ty}"),
        Found::Unexpected { expected, .. } => {
            let expected = if expected.contains("mapping") { "keys with values, each on its own line" } else { expected };
            format!("something else belongs here: {expected}")
        }
        Found::Message { msg, .. } if msg.starts_with("the setting `") => msg.clone(),
        other => {
            let text = other.to_string();
            connector_core::redact::scrub(text.split(" at line ").next().unwrap_or(&text), 200)
        }
    }
}

/// Where each key and list item stands: `connections.hubspot.credential.token`, `webhook.secrets[0]`.
struct Places(HashMap<String, (u32, u32)>);

enum Open {
    Mapping { path: String, key: Option<String> },
    Sequence { path: String, at: usize },
}

impl Places {
    fn of(text: &str) -> std::result::Result<Self, (u32, u32, String)> {
        let mut options = Options::default();
        options.emit_comments = false;
        options.flow_nesting_limit = MAX_DEPTH + 1;
        options.block_nesting_limit = MAX_DEPTH + 1;
        let (mut places, mut open, mut documents) = (HashMap::new(), Vec::<Open>::new(), 0);
        for next in Parser::new_from_str_with_options(text, options) {
            let (event, span) = next.map_err(|error| {
                let marker = error.marker();
                let mut message = format!("this is not valid YAML: {}", error.info().to_string().trim_end_matches('.'));
                let line = marker.line().checked_sub(1).and_then(|at| text.lines().nth(at)).unwrap_or_default();
                if line.contains("${") && line.contains(['{', '[']) {
                    message.push_str("; inside `{..}` and `[..]` write \"${VAR}\" in quotes");
                }
                (small(marker.line()), small(marker.col()).saturating_add(1), message)
            })?;
            let at = (small(span.start.line()), small(span.start.col()).saturating_add(1));
            let refuse = |message: &str| Err((at.0, at.1, message.to_owned()));
            match &event {
                Event::Alias(_) => return refuse("aliases (`*name`) are not read here; write the value out where it is used"),
                Event::Scalar(_, _, anchor, _) | Event::SequenceStart(_, anchor, _) | Event::MappingStart(_, anchor, _) if *anchor != 0 => {
                    return refuse("anchors (`&name`) are not read here; write the value out where it is used");
                }
                Event::Scalar(_, _, _, Some(_)) | Event::SequenceStart(_, _, Some(_)) | Event::MappingStart(_, _, Some(_)) => {
                    return refuse("tags (`!name`) are not read here; remove it, and quote the value if it is a text");
                }
                Event::DocumentStart(..) => {
                    documents += 1;
                    if documents > 1 {
                        return refuse("a second document starts here; a file holds one configuration");
                    }
                }
                Event::Scalar(text, ..) => {
                    if let Some(Open::Mapping { path, key: key @ None }) = open.last_mut() {
                        if text == "<<" {
                            return refuse("merge keys (`<<`) are not read here; write the keys out");
                        }
                        let full = if path.is_empty() { text.to_string() } else { format!("{path}.{text}") };
                        if places.insert(full, at).is_some() {
                            return refuse("this key is given twice");
                        }
                        *key = Some(text.to_string());
                    } else {
                        places.insert(finish(&mut open), at);
                    }
                }
                Event::MappingStart(..) => open.push(Open::Mapping { path: here(&open), key: None }),
                Event::SequenceStart(..) => open.push(Open::Sequence { path: here(&open), at: 0 }),
                Event::MappingEnd | Event::SequenceEnd => {
                    open.pop();
                    finish(&mut open);
                }
                _ => {}
            }
        }
        places.remove("");
        Ok(Self(places))
    }

    /// The place of a key, or of the nearest key around it.
    fn locate(&self, key: &str) -> (u32, u32) {
        let mut key = key;
        loop {
            if let Some(at) = self.0.get(key) {
                return *at;
            }
            match key.rfind(['.', '[']) {
                Some(end) => key = &key[..end],
                None => return (1, 1),
            }
        }
    }
}

/// The path of the value that comes next.
fn here(open: &[Open]) -> String {
    match open.last() {
        None => String::new(),
        Some(Open::Mapping { path, key }) => match (path.is_empty(), key) {
            (true, key) => key.clone().unwrap_or_default(),
            (false, Some(key)) => format!("{path}.{key}"),
            (false, None) => path.clone(),
        },
        Some(Open::Sequence { path, at }) => format!("{path}[{at}]"),
    }
}

/// A value ended: gives its path and moves on to the next.
fn finish(open: &mut [Open]) -> String {
    let path = here(open);
    match open.last_mut() {
        Some(Open::Mapping { key, .. }) => *key = None,
        Some(Open::Sequence { at, .. }) => *at += 1,
        None => {}
    }
    path
}
