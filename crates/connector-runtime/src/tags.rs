//! Cache tags: names such as `contact:{email}` or `contact:{reply.id}`, filled from arguments, replies and events.
//!
//! Refuses to guess: a template whose placeholders have no value gives no tag.

use std::collections::BTreeSet;

use connector_core::spec::{ConnectorSpec, OpSpec};
use connector_manifest::select::Path;
use serde_json::{Map, Value};

/// One template.
#[derive(Debug, Clone)]
struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone)]
enum Piece {
    Text(String),
    Slot(Slot),
}

/// A placeholder.
#[derive(Debug, Clone)]
struct Slot {
    /// As it was written, without `reply.`.
    name: String,
    path: Path,
    of_reply: bool,
}

impl Template {
    fn parse(text: &str) -> Option<Self> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            if at > 0 {
                pieces.push(Piece::Text(rest[..at].to_owned()));
            }
            let (inside, after) = rest[at + 1..].split_once('}')?;
            let (path, of_reply) = inside.strip_prefix("reply.").map_or((inside, false), |path| (path, true));
            let path = if path.starts_with('.') { path.to_owned() } else { format!(".{path}") };
            pieces.push(Piece::Slot(Slot { name: path.trim_start_matches('.').to_owned(), path: Path::parse(&path).ok()?, of_reply }));
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Some(Self { pieces })
    }

    /// The tag, if `value` knows every path.
    fn fill(&self, value: impl Fn(&Slot) -> Option<String>) -> Option<String> {
        let mut filled = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => filled.push_str(text),
                Piece::Slot(slot) => filled.push_str(&value(slot)?),
            }
        }
        Some(filled)
    }
}

fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The tag templates of all cached reads of a connector.
#[derive(Debug, Clone, Default)]
pub(crate) struct Templates(Vec<Template>);

impl Templates {
    pub(crate) fn of(spec: &ConnectorSpec) -> Self {
        let all: BTreeSet<&str> =
            spec.operations().iter().filter_map(|op| op.cache.as_ref()).flat_map(|cache| &cache.tags).map(String::as_str).collect();
        Self(all.into_iter().filter_map(Template::parse).collect())
    }

    /// The tags a write may have made stale: every template that its arguments or its reply can fill.
    pub(crate) fn touched_by(&self, args: &Value, reply: Option<&Value>) -> BTreeSet<String> {
        let nothing = Value::Null;
        let reply = reply.unwrap_or(&nothing);
        let mut tags = BTreeSet::new();
        for template in &self.0 {
            for (first, second) in [(args, reply), (reply, args)] {
                tags.extend(template.fill(|slot| text(slot.path.get(first)).or_else(|| text(slot.path.get(second)))));
            }
        }
        tags
    }
}

/// The tags of a read's reply.
pub(crate) fn of_reply(op: &OpSpec, args: &Map<String, Value>, reply: &Value) -> Vec<String> {
    let Some(cache) = &op.cache else { return Vec::new() };
    let args = Value::Object(args.clone());
    let default = |name: &str| op.params.iter().find(|param| *param.name == *name).and_then(|param| text(param.default.as_ref()));
    let value = |slot: &Slot| {
        if slot.of_reply { text(slot.path.get(reply)) } else { text(slot.path.get(&args)).or_else(|| default(&slot.name)) }
    };
    cache.tags.iter().filter_map(|tag| Template::parse(tag)?.fill(value)).collect()
}

/// A tag that an event makes stale, with `{path}` into the event.
pub(crate) fn of_event(template: &str, event: &Value) -> Option<String> {
    Template::parse(template)?.fill(|slot| text(slot.path.get(event)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_fills_paths_and_gives_no_tag_where_it_cannot() {
        let event = json!({"objectId": 512, "data": {"object": {"email": "a@b.c"}}});
        assert_eq!(of_event("contact:{objectId}", &event).as_deref(), Some("contact:512"));
        assert_eq!(of_event("contact:{data.object.email}", &event).as_deref(), Some("contact:a@b.c"));
        assert_eq!(of_event("contact:{.objectId}:{missing}", &event), None);
        assert_eq!(of_event("all", &event).as_deref(), Some("all"));
    }
}
