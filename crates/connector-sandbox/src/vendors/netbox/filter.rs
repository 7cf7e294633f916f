//! List filters of NetBox: `name__ic`, `device_id`, `last_updated__gte`, `q` and friends. Repeated parameters are alternatives; unknown
//! ones are ignored, as the real list views do.

use super::store::{Store, by_type};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Parameters that are not filters.
const CONTROL: [&str; 10] = ["limit", "offset", "ordering", "brief", "fields", "omit", "exclude", "format", "start", "include"];

/// Whether a row passes every filter of the query.
pub(super) fn matches(store: &Store, row: &Map<String, Value>, query: &[(String, String)]) -> bool {
    let mut wanted: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, value) in query.iter().filter(|(n, _)| !CONTROL.contains(&n.as_str())) {
        wanted.entry(name).or_default().push(value);
    }
    wanted.into_iter().all(|(name, values)| passes(store, row, name, &values))
}

fn passes(store: &Store, row: &Map<String, Value>, name: &str, values: &[&str]) -> bool {
    let any = |test: &dyn Fn(&str) -> bool| values.iter().any(|v| test(v));
    if name == "q" {
        return any(&|v| {
            let needle = v.to_lowercase();
            let fields = ["name", "serial", "asset_tag", "comments", "description", "address", "dns_name", "label", "slug"];
            fields.iter().any(|f| row.get(*f).and_then(Value::as_str).is_some_and(|t| t.to_lowercase().contains(&needle)))
        });
    }
    if let Some((field, lookup)) = name.split_once("__") {
        let text = scalar(row.get(match field {
            "time" => "time",
            other => other,
        }));
        let lower = text.to_lowercase();
        return match lookup {
            "ic" => any(&|v| lower.contains(&v.to_lowercase())),
            "nic" => !any(&|v| lower.contains(&v.to_lowercase())),
            "isw" => any(&|v| lower.starts_with(&v.to_lowercase())),
            "iew" => any(&|v| lower.ends_with(&v.to_lowercase())),
            "ie" => any(&|v| lower == v.to_lowercase()),
            "n" => !any(&|v| text == v),
            "empty" => any(&|v| text.is_empty() == (v == "true")),
            "gte" => any(&|v| order(&text, v).is_ge()),
            "gt" => any(&|v| order(&text, v).is_gt()),
            "lte" => any(&|v| order(&text, v).is_le()),
            "lt" => any(&|v| order(&text, v).is_lt()),
            _ => true,
        };
    }
    match name {
        "time_after" => any(&|v| order(&scalar(row.get("time")), v).is_ge()),
        "time_before" => any(&|v| order(&scalar(row.get("time")), v).is_le()),
        "device_id" | "virtual_machine_id" | "device" | "virtual_machine" => any(&|v| {
            owners(store, row, name.trim_end_matches("_id")).iter().any(|o| o.to_string() == v || name_of(store, name, *o).is_some_and(|n| n == v))
        }),
        // An address without its prefix length finds it with any.
        "address" => any(&|v| {
            let have = scalar(row.get("address"));
            have == v || have.split('/').next() == Some(v)
        }),
        "tag" => any(&|v| {
            let tags = row.get("tags").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_u64);
            tags.into_iter().any(|t| store.get("extras/tags", t).is_some_and(|tag| tag.get("slug").is_some_and(|s| s == v)))
        }),
        _ => {
            if let Some(field) = name.strip_suffix("_id")
                && row.get(field).is_some()
            {
                return any(&|v| scalar(row.get(field)) == v);
            }
            if let Some(custom) = name.strip_prefix("cf_") {
                return any(&|v| scalar(row.get("custom_fields").and_then(|c| c.get(custom))) == v);
            }
            match row.get(name) {
                None => true,
                Some(Value::Number(id)) if name != "id" && !name.ends_with("_id") => {
                    // A reference filtered by the slug or name of what it points to.
                    let target = ["dcim/sites", "dcim/device-roles", "virtualization/clusters"];
                    any(&|v| {
                        v == id.to_string()
                            || target
                                .iter()
                                .filter_map(|t| store.get(t, id.as_u64().unwrap_or(0)))
                                .any(|r| r.get("slug").is_some_and(|s| s == v) || r.get("name").is_some_and(|s| s == v))
                    })
                }
                Some(value) => any(&|v| scalar(Some(value)) == v),
            }
        }
    }
}

/// The devices or machines a row belongs to: its own field, what its address is assigned to, its service parent, its cable ends.
fn owners(store: &Store, row: &Map<String, Value>, kind: &str) -> Vec<u64> {
    let mut out = Vec::new();
    let mut add = |value: Option<&Value>| out.extend(value.and_then(Value::as_u64));
    add(row.get(kind));
    for (type_field, id_field) in
        [("assigned_object_type", "assigned_object_id"), ("parent_object_type", "parent_object_id"), ("object_type", "object_id")]
    {
        let model = row.get(type_field).and_then(Value::as_str).and_then(by_type);
        let id = row.get(id_field).and_then(Value::as_u64);
        if let (Some(model), Some(id)) = (model, id) {
            let whole = if kind == "device" { "dcim/devices" } else { "virtualization/virtual-machines" };
            if model == whole {
                add(Some(&id.into()));
            } else {
                add(store.get(model, id).and_then(|r| r.get(kind)));
            }
        }
    }
    for side in ["a_terminations", "b_terminations"] {
        for termination in row.get(side).and_then(Value::as_array).into_iter().flatten() {
            if let Some(interface) = termination["object_id"].as_u64() {
                add(store.get("dcim/interfaces", interface).and_then(|r| r.get(kind)));
            }
        }
    }
    out
}

fn name_of(store: &Store, filter: &str, id: u64) -> Option<String> {
    let model = match filter {
        "device" => "dcim/devices",
        "virtual_machine" => "virtualization/virtual-machines",
        _ => return None,
    };
    store.get(model, id)?.get("name")?.as_str().map(str::to_owned)
}

fn scalar(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// Numbers and instants by value, the rest as text.
fn order(a: &str, b: &str) -> std::cmp::Ordering {
    let number = |s: &str| {
        // A blank is how an unescaped `+` of an offset arrives.
        let instant = s.replace(' ', "+").parse::<jiff::Timestamp>();
        s.parse::<f64>().ok().or_else(|| instant.ok().map(|t| t.as_microsecond() as f64))
    };
    match (number(a), number(b)) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        _ => a.cmp(b),
    }
}

/// Sorts by `ordering=name,-id`.
pub(super) fn sort(rows: &mut [(u64, &Map<String, Value>)], ordering: &str) {
    rows.sort_by(|(a_id, a), (b_id, b)| {
        for key in ordering.split(',').filter(|k| !k.is_empty()) {
            let (field, descending) = key.strip_prefix('-').map_or((key, false), |f| (f, true));
            let found = if field == "id" { a_id.cmp(b_id) } else { order(&scalar(a.get(field)), &scalar(b.get(field))) };
            let found = if descending { found.reverse() } else { found };
            if found.is_ne() {
                return found;
            }
        }
        a_id.cmp(b_id)
    });
}
