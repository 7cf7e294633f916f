//! From a vendor's record to a view's: canonical fields taken out by path and brought to their kind, everything else kept as `custom`.
//!
//! Owns the promise that nothing a vendor said is lost: what no field names, or what does not fit the field's kind, stays in `custom`.

use connector_core::{
    Error, Result,
    spec::views::{CUSTOM, SOURCE, View, ViewField, ViewKind, ViewModel},
};
use serde_json::{Map, Number, Value, json};

use crate::{
    select::{Path, Step, collect, one},
    template::{Template, scalar},
    views::Source,
};

/// Where the fields of a model are.
#[derive(Debug)]
pub(crate) struct Mapping {
    view: &'static View,
    model: &'static ViewModel,
    fields: Vec<(&'static ViewField, Take)>,
    /// The objects of the record whose members are lifted into `custom`.
    lifted: Vec<Path>,
}

/// Where one field is.
#[derive(Debug)]
pub(crate) enum Take {
    /// At a place of the record.
    Path(Path),
    /// A text over the arguments.
    Text(Template),
    /// The opposite of a flag.
    Not(Path),
    /// A record made of parts.
    Parts(Vec<(Box<str>, Take)>),
}

impl Take {
    /// Reads what a manifest says: a path begins with `.`, another text is a template over the arguments, an object is a record's parts.
    pub(crate) fn parse(value: &Value) -> std::result::Result<Self, String> {
        match value {
            Value::String(text) if text.starts_with('.') => Path::parse(text).map(Self::Path),
            Value::String(text) => Ok(Self::Text(Template::parse(text))),
            Value::Object(parts) if parts.len() == 1 && parts.contains_key("not") => match &parts["not"] {
                Value::String(text) => Path::parse(text).map(Self::Not),
                _ => Err("`not` is the path of a flag".to_owned()),
            },
            Value::Object(parts) => parts
                .iter()
                .map(|(name, part)| Ok((name.as_str().into(), Self::parse(part)?)))
                .collect::<std::result::Result<_, String>>()
                .map(Self::Parts),
            _ => Err("a field is a path such as `.properties.email`, a text with `{argument}`, or an object of these".to_owned()),
        }
    }

    pub(crate) fn placeholders(&self, found: &mut Vec<String>) {
        match self {
            Self::Path(_) | Self::Not(_) => {}
            Self::Text(template) => found.extend(template.placeholders().map(str::to_owned)),
            Self::Parts(parts) => parts.iter().for_each(|(_, part)| part.placeholders(found)),
        }
    }

    /// The paths in it.
    pub(crate) fn paths<'t>(&'t self, found: &mut Vec<&'t Path>) {
        match self {
            Self::Path(path) | Self::Not(path) => found.push(path),
            Self::Text(_) => {}
            Self::Parts(parts) => parts.iter().for_each(|(_, part)| part.paths(found)),
        }
    }
}

/// The objects that `custom` of a mapping names.
pub(crate) fn lifted(map: &Map<String, Value>) -> std::result::Result<Vec<Path>, String> {
    let one = |value: &Value| match value {
        Value::String(text) => Path::parse(text).and_then(|path| match path.to_string().contains("[]") || path.is_whole() {
            true => Err(format!("`{text}` is no place of an object in the record; what no field names is kept anyway")),
            false => Ok(path),
        }),
        _ => Err("`custom` is the path of an object, or a list of such paths".to_owned()),
    };
    match map.get(CUSTOM) {
        None => Ok(Vec::new()),
        Some(Value::Array(paths)) => paths.iter().map(one).collect(),
        Some(path) => one(path).map(|path| vec![path]),
    }
}

impl Mapping {
    pub(crate) fn new(view: &'static View, model: &'static ViewModel, map: &Map<String, Value>) -> std::result::Result<Self, String> {
        if let Some(unknown) = map.keys().find(|name| *name != CUSTOM && !model.fields.iter().any(|field| field.name == *name)) {
            return Err(format!("`{}` has no field `{unknown}`", model.name));
        }
        let mut fields = Vec::new();
        for field in model.fields {
            match map.get(field.name) {
                Some(value) => fields.push((field, Take::parse(value)?)),
                None if field.required => return Err(format!("`{}` must say where `{}` is", model.name, field.name)),
                None => {}
            }
        }
        Ok(Self { view, model, fields, lifted: lifted(map)? })
    }

    pub(crate) fn placeholders(&self, found: &mut Vec<String>) {
        self.fields.iter().for_each(|(_, take)| take.placeholders(found));
    }

    /// The view's record.
    pub(crate) fn record(&self, record: Value, args: &Map<String, Value>, source: Source<'_>) -> Result<Value> {
        let mut left = record.clone();
        let mut made = Map::new();
        for (field, take) in &self.fields {
            match self.field(field.kind, take, &record, args, &mut left) {
                Some(value) => {
                    made.insert(field.name.to_owned(), value);
                }
                None if field.required => {
                    let message = format!("a `{}` of `{}` came without `{}`", self.model.name, source.connector, field.name);
                    return Err(Error::protocol(message));
                }
                None => {}
            }
        }
        made.insert(CUSTOM.to_owned(), Value::Object(self.custom(left)));
        made.insert(SOURCE.to_owned(), json!({ "connector": source.connector, "connection": source.connection }));
        Ok(Value::Object(made))
    }

    /// What no field took: members of the lifted objects under their own names, the rest beside them. Where both have a name, the rest's is
    /// written as a path.
    fn custom(&self, mut left: Value) -> Map<String, Value> {
        let mut custom = Map::new();
        for path in &self.lifted {
            for steps in path.alternatives() {
                let found = steps.iter().try_fold(&left, one).and_then(Value::as_object).cloned();
                if let Some(found) = found {
                    remove(&mut left, steps);
                    found.into_iter().for_each(|(name, value)| keep(&mut custom, name, value));
                }
            }
        }
        if let Value::Object(rest) = left {
            rest.into_iter().for_each(|(name, value)| keep(&mut custom, name, value));
        }
        custom
    }

    fn field(&self, kind: ViewKind, take: &Take, record: &Value, args: &Map<String, Value>, left: &mut Value) -> Option<Value> {
        match take {
            Take::Path(path) => path.alternatives().find_map(|steps| self.at(kind, steps, record, left)),
            Take::Not(path) => match path.alternatives().find_map(|steps| self.at(ViewKind::Flag, steps, record, left)) {
                Some(Value::Bool(flag)) if kind == ViewKind::Flag => Some(Value::Bool(!flag)),
                _ => None,
            },
            Take::Text(template) => self.fit(kind, &Value::String(template.fill(|name| scalar(args.get(name)?))?)),
            Take::Parts(parts) => {
                let ViewKind::Record(model) = kind else { return None };
                let model = self.view.model(model)?;
                let mut made = Map::new();
                for (name, part) in parts {
                    let field = model.fields.iter().find(|field| field.name == &**name)?;
                    if let Some(value) = self.field(field.kind, part, record, args, left) {
                        made.insert(field.name.to_owned(), value);
                    }
                }
                (!made.is_empty()).then_some(Value::Object(made))
            }
        }
    }

    /// What is at a place, brought to its kind; what was understood is taken from `left`.
    fn at(&self, kind: ViewKind, steps: &[Step], record: &Value, left: &mut Value) -> Option<Value> {
        let mut found = Vec::new();
        collect(record, steps, &mut found);
        let value = match (steps.contains(&Step::Each), kind.is_list()) {
            (true, true) => Value::Array(found.into_iter().cloned().collect()),
            _ => found.first().copied()?.clone(),
        };
        let fitted = self.fit(kind, &value)?;
        match kind {
            ViewKind::Record(model) | ViewKind::Records(model) => {
                // Only what the inner record has a word for was understood.
                let through_list = matches!(kind, ViewKind::Records(_)) && !steps.contains(&Step::Each);
                for field in self.view.model(model)?.fields {
                    let mut inner = steps.to_vec();
                    inner.extend(through_list.then_some(Step::Each));
                    inner.push(Step::Key(field.name.into()));
                    remove(left, &inner);
                }
            }
            _ => remove(left, steps),
        }
        Some(fitted)
    }

    /// A value as its kind; `None` if it is none.
    fn fit(&self, kind: ViewKind, value: &Value) -> Option<Value> {
        match kind {
            ViewKind::Text => scalar(value).map(|text| text.into_owned().into()),
            ViewKind::Word(words) => scalar(value).filter(|text| words.contains(&&**text)).map(|text| text.into_owned().into()),
            ViewKind::Time => time(value).map(|time| time.to_string().into()),
            ViewKind::Number => number(value).map(Value::Number),
            ViewKind::Integer => number(value).filter(|number| number.is_i64() || number.is_u64()).map(Value::Number),
            ViewKind::Flag => match value {
                Value::Bool(_) => Some(value.clone()),
                Value::String(text) => text.parse::<bool>().ok().map(Value::Bool),
                _ => None,
            },
            ViewKind::Texts => value.as_array()?.iter().map(|item| scalar(item).map(|text| Value::from(text.into_owned()))).collect(),
            ViewKind::Fields => value.is_object().then(|| value.clone()),
            ViewKind::Record(model) => {
                let (model, value) = (self.view.model(model)?, value.as_object()?);
                let fitted = |field: &ViewField| Some((field.name.to_owned(), self.fit(field.kind, value.get(field.name)?)?));
                let made: Map<String, Value> = model.fields.iter().filter_map(fitted).collect();
                (!made.is_empty()).then_some(Value::Object(made))
            }
            ViewKind::Records(model) => value.as_array()?.iter().map(|item| self.fit(ViewKind::Record(model), item)).collect(),
        }
    }
}

fn keep(custom: &mut Map<String, Value>, name: String, value: Value) {
    let name = if custom.contains_key(&name) { format!(".{name}") } else { name };
    custom.insert(name, value);
}

fn number(value: &Value) -> Option<Number> {
    match value {
        Value::Number(number) => Some(number.clone()),
        Value::String(text) => serde_json::from_str(text.trim()).ok(),
        _ => None,
    }
}

/// A point in time: RFC 3339, or seconds or milliseconds since 1970 as a number or as digits.
fn time(value: &Value) -> Option<jiff::Timestamp> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(time);
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    match whole.len() {
        // From 1973 on, to 2286.
        9..=10 => {
            let nanos: i32 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
            jiff::Timestamp::new(whole.parse().ok()?, nanos).ok()
        }
        12..=13 => jiff::Timestamp::from_millisecond(whole.parse().ok()?).ok(),
        _ => None,
    }
}

/// Takes what is at a place out of a tree, and what is empty then around it.
fn remove(value: &mut Value, steps: &[Step]) {
    let Some((step, rest)) = steps.split_first() else { return };
    match (value, step) {
        (Value::Object(map), Step::Key(key)) => {
            let gone = rest.is_empty() || map.get_mut(&**key).is_some_and(|inner| emptied(inner, rest));
            if gone {
                map.shift_remove(&**key);
            }
        }
        // A list keeps its places, so that what is left in it is where it was.
        (Value::Array(items), Step::Index(index)) => {
            if let Some(item) = items.get_mut(*index)
                && (rest.is_empty() || emptied(item, rest))
            {
                *item = Value::Null;
            }
        }
        (Value::Array(items), Step::Each) => {
            let mut all_gone = true;
            for item in &mut *items {
                if rest.is_empty() || emptied(item, rest) {
                    *item = Value::Null;
                }
                all_gone &= item.is_null();
            }
            if all_gone {
                items.clear();
            }
        }
        _ => {}
    }
}

/// Whether nothing is left of a value after what is at a place was taken out.
fn emptied(value: &mut Value, steps: &[Step]) -> bool {
    // What was empty before stays, unless it is the list itself that was asked for.
    let stays = is_empty(value) && !matches!((&*value, steps.first()), (Value::Array(_), Some(Step::Each)));
    remove(value, steps);
    !stays && is_empty(value)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.iter().all(Value::is_null),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(view: &str, model: &str, map: Value, record: Value, args: Value) -> Result<Value> {
        let view = connector_core::spec::views::view(view).expect("a view");
        let (Value::Object(map), Value::Object(args)) = (map, args) else { panic!("objects") };
        let mapping = Mapping::new(view, view.model(model).expect("a model"), &map).expect("a mapping");
        mapping.record(record, &args, Source { connector: "c", connection: "c-1" })
    }

    #[test]
    fn what_no_field_names_is_kept_and_lifted() {
        let map = json!({ "id": ".id", "email": ".properties.email", "created_at": ".createdAt", "custom": ".properties" });
        let vendor = json!({ "id": 512, "properties": { "email": "a@b.c", "tier": "gold", "archived": "x" }, "createdAt": "2026-01-02T04:04:05+01:00", "archived": false });
        assert_eq!(
            record("crm", "Contact", map, vendor, json!({})).unwrap(),
            json!({ "id": "512", "email": "a@b.c", "created_at": "2026-01-02T03:04:05Z", "custom": { "tier": "gold", "archived": "x", ".archived": false },
                "source": { "connector": "c", "connection": "c-1" } })
        );
    }

    #[test]
    fn records_in_records_leave_what_they_have_no_word_for() {
        let map = json!({ "id": ".id", "from": ".from.emailAddress", "to": ".to[].emailAddress", "cc": ".cc", "labels": ".tags", "read": ".isRead", "draft": { "not": ".sent" } });
        let vendor = json!({ "id": "1", "from": { "emailAddress": { "name": "Ann", "address": "a@b.c" } },
            "to": [{ "emailAddress": { "address": "x@y.z", "kind": "list" } }, { "emailAddress": { "address": "q@y.z" } }],
            "cc": [{ "address": "c@y.z" }], "tags": ["a", 7], "isRead": "true", "sent": false, "none": [], "left": [] });
        let made = record("mailbox", "Message", map, vendor, json!({})).unwrap();
        assert_eq!(made["from"], json!({ "name": "Ann", "address": "a@b.c" }));
        assert_eq!(made["to"], json!([{ "address": "x@y.z" }, { "address": "q@y.z" }]));
        assert_eq!((&made["cc"], &made["labels"]), (&json!([{ "address": "c@y.z" }]), &json!(["a", "7"])));
        assert_eq!((&made["read"], &made["draft"]), (&json!(true), &json!(true)));
        assert_eq!(made["custom"], json!({ "to": [{ "emailAddress": { "kind": "list" } }, null], "none": [], "left": [] }));
        let made =
            record("mailbox", "Message", json!({ "id": ".id", "to": ".none[].emailAddress" }), json!({ "id": "1", "none": [] }), json!({})).unwrap();
        assert_eq!((&made["to"], &made["custom"]), (&json!([]), &json!({})));
    }

    #[test]
    fn what_does_not_fit_its_kind_is_custom_and_what_must_be_there_is_missed() {
        let map = json!({ "id": ".id", "amount": ".amount", "updated_at": ".changed // .made", "name": "deal of {who}" });
        let made = record(
            "crm",
            "Deal",
            map.clone(),
            json!({ "id": "1", "amount": "much", "changed": "soon", "made": "1767225600.000100" }),
            json!({ "who": "Ada" }),
        );
        let made = made.unwrap();
        assert_eq!((made.get("amount"), &made["updated_at"], &made["name"]), (None, &json!("2026-01-01T00:00:00.0001Z"), &json!("deal of Ada")));
        assert_eq!(made["custom"], json!({ "amount": "much", "changed": "soon" }));
        let error = record("crm", "Deal", map, json!({ "amount": "7" }), json!({})).unwrap_err();
        assert_eq!(error.message(), "a `Deal` of `c` came without `id`");
    }

    #[test]
    fn times_of_any_vendor_are_the_same_time() {
        for text in
            [json!("2026-01-01T00:00:00Z"), json!("2026-01-01T00:00:00.000+0000"), json!(1767225600), json!("1767225600"), json!(1767225600000_u64)]
        {
            assert_eq!(time(&text).map(|time| time.to_string()).as_deref(), Some("2026-01-01T00:00:00Z"), "{text}");
        }
        for text in [json!("2026"), json!("soon"), json!(true), json!("-1767225600"), json!("")] {
            assert_eq!(time(&text), None, "{text}");
        }
    }
}
