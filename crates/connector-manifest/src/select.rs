//! Selection paths: `.data.items[0].id`, `.items[].id`, `."@odata.nextLink"`, alternatives with `//`. No conditions, no arithmetic.
//!
//! A path is parsed once. It reads a parsed tree, or straight from JSON text without building what it does not need.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// A parsed path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    text: Box<str>,
    alternatives: Vec<Vec<Step>>,
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Key(Box<str>),
    Index(usize),
    Each,
}

impl Path {
    /// Parses a path.
    ///
    /// # Errors
    /// A message that says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let alternatives = text
            .split("//")
            .map(|part| parse_steps(part.trim()).map_err(|why| format!("`{text}` is not a path: {why}")))
            .collect::<Result<_, _>>()?;
        Ok(Self { text: text.into(), alternatives })
    }

    /// The steps of each alternative.
    pub(crate) fn alternatives(&self) -> impl Iterator<Item = &[Step]> {
        self.alternatives.iter().map(Vec::as_slice)
    }

    /// Whether it is `.`, the whole value.
    pub fn is_whole(&self) -> bool {
        matches!(&self.alternatives[..], [steps] if steps.is_empty())
    }

    /// The one value the path leads to; `None` if it is not there or null, or if the path runs over lists with `[]`.
    pub fn get<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        self.alternatives.iter().find_map(|steps| steps.iter().try_fold(value, |value, step| one(value, step)).filter(|value| !value.is_null()))
    }

    /// The place the path leads to, to be written; `None` where [`Path::get`] gives `None`.
    pub fn get_mut<'v>(&self, value: &'v mut Value) -> Option<&'v mut Value> {
        let steps = self.alternatives.iter().find(|steps| steps.iter().try_fold(&*value, one).is_some_and(|found| !found.is_null()))?;
        steps.iter().try_fold(value, |value, step| match step {
            Step::Key(key) => value.get_mut(&**key),
            Step::Index(index) => value.get_mut(index),
            Step::Each => None,
        })
    }

    /// What the path leads to: one value, `null` if it is not there, or a list if the path runs over lists with `[]`.
    pub fn select(&self, value: &Value) -> Value {
        for steps in &self.alternatives {
            if steps.contains(&Step::Each) {
                let mut found = Vec::new();
                collect(value, steps, &mut found);
                if !found.is_empty() || self.alternatives.len() == 1 {
                    return Value::Array(found.into_iter().cloned().collect());
                }
            } else if let Some(found) = steps.iter().try_fold(value, one).filter(|value| !value.is_null()) {
                return found.clone();
            }
        }
        Value::Null
    }

    /// Takes the value out of a tree without cloning it; `null` if it is not there.
    pub fn take(&self, mut value: Value) -> Value {
        let [steps] = &self.alternatives[..] else { return self.select(&value) };
        if steps.contains(&Step::Each) {
            return self.select(&value);
        }
        for step in steps {
            value = match (value, step) {
                (Value::Object(mut map), Step::Key(key)) => map.remove(&**key).unwrap_or_default(),
                (Value::Array(mut items), Step::Index(index)) if *index < items.len() => items.swap_remove(*index),
                _ => return Value::Null,
            };
        }
        value
    }

    /// The value as text, numbers and booleans written out.
    pub fn text(&self, value: &Value) -> Option<String> {
        match self.get(value)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(flag) => Some(flag.to_string()),
            _ => None,
        }
    }

    /// The one value, read straight from JSON text. Everything beside the path is skipped without being built; if the first key is the
    /// first of the text, as flags of failure mostly are, or near its end, as paging information mostly is, the rest is not even read.
    ///
    /// `None` if it is not there, null, or the text is not JSON.
    pub fn get_in_text(&self, json: &[u8]) -> Option<Value> {
        let found = |steps: &Vec<Step>| in_head(json, steps).or_else(|| in_tail(json, steps)).unwrap_or_else(|| walk(json, steps));
        self.alternatives.iter().find_map(|steps| found(steps).filter(|value| !value.is_null()))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

pub(crate) fn one<'v>(value: &'v Value, step: &Step) -> Option<&'v Value> {
    match step {
        Step::Key(key) => value.get(&**key),
        Step::Index(index) => value.get(index),
        Step::Each => None,
    }
}

pub(crate) fn collect<'v>(value: &'v Value, steps: &[Step], found: &mut Vec<&'v Value>) {
    match steps.split_first() {
        None if value.is_null() => {}
        None => found.push(value),
        Some((Step::Each, rest)) => value.as_array().into_iter().flatten().for_each(|item| collect(item, rest, found)),
        Some((step, rest)) => {
            if let Some(value) = one(value, step) {
                collect(value, rest, found);
            }
        }
    }
}

fn parse_steps(text: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut rest = text.strip_prefix('.').ok_or("it must start with `.`")?;
    if rest.is_empty() {
        return Ok(steps);
    }
    let mut wants_key = !rest.starts_with('[');
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('[') {
            let (inside, after) = after.split_once(']').ok_or("`[` without `]`")?;
            if inside.is_empty() {
                steps.push(Step::Each);
            } else if let Some(key) = inside.strip_prefix('"').and_then(|key| key.strip_suffix('"')) {
                steps.push(Step::Key(key.into()));
            } else {
                steps.push(Step::Index(inside.parse().map_err(|_| format!("`[{inside}]` is neither a number nor empty"))?));
            }
            rest = after;
            wants_key = false;
        } else if wants_key {
            let key;
            if let Some(after) = rest.strip_prefix('"') {
                (key, rest) = after.split_once('"').ok_or("a quote is not closed")?;
            } else {
                let end = rest.find(['.', '[']).unwrap_or(rest.len());
                (key, rest) = rest.split_at(end);
                let plain = key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '$' | '@' | ':'));
                if key.is_empty() {
                    return Err("a key is empty".into());
                }
                if !plain {
                    return Err(format!("`{key}` is not a plain key; quote it: `.\"{key}\"`"));
                }
            }
            steps.push(Step::Key(key.into()));
            wants_key = false;
        } else {
            rest = rest.strip_prefix('.').ok_or_else(|| format!("expected `.` or `[` before `{rest}`"))?;
            if rest.is_empty() {
                return Err("it ends with `.`".into());
            }
            wants_key = !rest.starts_with('[');
        }
    }
    Ok(steps)
}

/// Reads the path from the start of an object's text, if its first key is the path's.
///
/// `None`: the shortcut does not apply. `Some(found)`: it does.
fn in_head(json: &[u8], steps: &[Step]) -> Option<Option<Value>> {
    let (Step::Key(key), rest) = steps.split_first()? else { return None };
    let text = json.trim_ascii_start().strip_prefix(b"{")?.trim_ascii_start().strip_prefix(b"\"")?;
    let value = text.strip_prefix(key.as_bytes())?.strip_prefix(b"\"")?.trim_ascii_start().strip_prefix(b":")?;
    let found = Seed(rest).deserialize(&mut serde_json::Deserializer::from_slice(value)).ok()?;
    // A number does not say itself where it ends, so a text that was cut off there would be believed.
    if matches!(found, Some(Value::Number(_))) { None } else { Some(found) }
}

/// How far from the end a first key may stand for the shortcut to be worth it.
const TAIL: usize = 1024;

/// Reads the path from the end of an object's text: if `{` and the text from the key on is one complete object, the key is a top-level key
/// (a nested one would leave closing brackets over, and inside a string the quotes would be escaped).
///
/// `None`: the shortcut does not apply. `Some(found)`: it does.
fn in_tail(json: &[u8], steps: &[Step]) -> Option<Option<Value>> {
    let Some(Step::Key(key)) = steps.first() else { return None };
    let tail = &json[json.len().saturating_sub(TAIL)..];
    let is_key = |window: &[u8]| window.strip_prefix(b"\"").and_then(|window| window.strip_suffix(b"\"")) == Some(key.as_bytes());
    let at = tail.windows(key.len() + 2).rposition(is_key)?;
    let mut object = Vec::with_capacity(tail.len() - at + 1);
    object.push(b'{');
    object.extend_from_slice(&tail[at..]);
    let mut reader = serde_json::Deserializer::from_slice(&object);
    let found = Seed(steps).deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    Some(found)
}

fn walk(json: &[u8], steps: &[Step]) -> Option<Value> {
    Seed(steps).deserialize(&mut serde_json::Deserializer::from_slice(json)).ok().flatten()
}

/// Descends along the steps and ignores everything else.
struct Seed<'s>(&'s [Step]);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        match self.0 {
            [] => serde::Deserialize::deserialize(deserializer).map(Some),
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        let step = self.0.split_first();
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            match step {
                Some((Step::Key(wanted), rest)) if **wanted == *key => found = map.next_value_seed(Seed(rest))?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        let mut at = 0;
        loop {
            match self.0.split_first() {
                Some((Step::Index(wanted), rest)) if *wanted == at => match seq.next_element_seed(Seed(rest))? {
                    Some(value) => found = value,
                    None => return Ok(found),
                },
                _ => {
                    if seq.next_element::<IgnoredAny>()?.is_none() {
                        return Ok(found);
                    }
                }
            }
            at += 1;
        }
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(path: &str, value: &Value, expected: &Value) {
        let path = Path::parse(path).unwrap();
        assert_eq!(path.select(value), *expected, "select {path}");
        assert_eq!(path.take(value.clone()), *expected, "take {path}");
        let text = value.to_string();
        if !path.to_string().contains("[]") {
            assert_eq!(path.get(value).cloned().unwrap_or_default(), *expected, "get {path}");
            assert_eq!(path.get_in_text(text.as_bytes()).unwrap_or_default(), *expected, "text {path}");
        }
    }

    #[test]
    fn paths_lead_where_they_say() {
        let value = json!({ "a": { "b": [{ "id": 1 }, { "id": 2 }] }, "@odata.nextLink": "u", "n": null, "x": { "paging": 9 }, "paging": { "next": { "after": "7" } } });
        check(".", &value, &value);
        check(".a.b[1].id", &value, &json!(2));
        check(".a.b[].id", &value, &json!([1, 2]));
        check(".\"@odata.nextLink\"", &value, &json!("u"));
        check(".[\"@odata.nextLink\"]", &value, &json!("u"));
        check(".paging.next.after", &value, &json!("7"));
        check(".missing.b", &value, &Value::Null);
        check(".n", &value, &Value::Null);
        check(".a.b[9].id", &value, &Value::Null);
        check(".missing // .n // .x.paging", &value, &json!(9));
    }

    #[test]
    fn a_nested_or_quoted_twin_of_the_key_does_not_fool_the_shortcut() {
        for json in [
            r#"{"paging":{"next":{"after":"right"}},"results":[{"paging":{"next":{"after":"wrong"}}}]}"#,
            r#"{"paging":{"next":{"after":"right"}},"note":"\"paging\":{\"next\":{\"after\":\"wrong\"}}"}"#,
            r#"{"paging":{"next":{"after":"right"}},"z":{"paging":{"next":{"after":"wrong"}}}}"#,
            r#"{"z":"paging","paging":{"next":{"after":"right"}}}  "#,
        ] {
            assert_eq!(Path::parse(".paging.next.after").unwrap().get_in_text(json.as_bytes()), Some(json!("right")), "{json}");
        }
        assert_eq!(Path::parse(".paging").unwrap().get_in_text(b"{\"paging\":1"), None);
        assert_eq!(Path::parse(".ok").unwrap().get_in_text(b" { \"ok\" : false, \"a\": 1}"), Some(json!(false)));
        assert_eq!(Path::parse(".ok").unwrap().get_in_text(b"{\"okay\":false}"), None);
        assert_eq!(Path::parse(".ok").unwrap().get_in_text(b"{\"ok\":fal"), None);
    }

    #[test]
    fn what_is_not_a_path_says_why() {
        for (text, why) in
            [("a.b", "must start"), (".a[", "without"), (".a[x]", "neither"), (".a b", "quote it"), (".a.", "ends with"), (".\"a", "not closed")]
        {
            assert!(Path::parse(text).unwrap_err().contains(why), "{text}: {:?}", Path::parse(text));
        }
    }
}
