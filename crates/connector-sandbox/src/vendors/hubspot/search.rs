//! CRM search with its own limits: five groups, six filters each, 18 in all, 200 per page, 10,000 results, five calls a second.
//! <https://developers.hubspot.com/docs/api-reference/search/guide>

use super::store::{Record, Store, object_type};
use super::{HubSpot, error, json_body, throttled};
use crate::exchange::{Answer, Reply, Req};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::cmp::Ordering;

impl HubSpot {
    pub(super) fn search(&self, store: &mut Store, kind: &'static str, req: &Req) -> Answer {
        let now = self.shared.clock.now();
        while store.searches.front().is_some_and(|at| now.duration_since(*at).as_millis() >= 1000) {
            store.searches.pop_front();
        }
        if self.enforce_limits && store.searches.len() >= 5 {
            return Err(throttled("SECONDLY", "secondly"));
        }
        store.searches.push_back(now);
        let body = json_body(req)?;
        let groups = body["filterGroups"].as_array().cloned().unwrap_or_default();
        let filters = |group: &Value| group["filters"].as_array().cloned().unwrap_or_default();
        let total: usize = groups.iter().map(|g| filters(g).len()).sum();
        let bad = |message: &str| error(400, "VALIDATION_ERROR", message);
        if groups.len() > 5 || groups.iter().any(|g| filters(g).len() > 6) || total > 18 {
            return Err(bad("A search may have at most 5 filter groups, 6 filters per group and 18 filters"));
        }
        let limit = body["limit"].as_u64().unwrap_or(10) as usize;
        if !(1..=200).contains(&limit) {
            return Err(bad("limit must be between 1 and 200"));
        }
        let after = match &body["after"] {
            Value::Null => 0,
            Value::String(text) if text.is_empty() => 0,
            Value::String(text) => text.parse().map_err(|_| bad("after is not a number"))?,
            other => other.as_u64().unwrap_or(0) as usize,
        };
        if after + limit > 10_000 {
            return Err(bad("The search offset plus limit must not exceed 10000"));
        }
        let sorts = body["sorts"].as_array().cloned().unwrap_or_default();
        if sorts.len() > 1 {
            return Err(bad("Only one sort is allowed"));
        }
        for filter in groups.iter().flat_map(filters) {
            let name = filter["propertyName"].as_str().unwrap_or_default();
            if !store.properties[kind].contains_key(name) && !name.starts_with("associations.") {
                return Err(bad(&format!("There was a problem with the request: property {name} does not exist")));
            }
        }
        let query = body["query"].as_str().unwrap_or_default().to_lowercase();
        let mut found: Vec<&Record> = store
            .objects
            .get(kind)
            .into_iter()
            .flat_map(|o| o.values())
            // Archived records never show in search.
            .filter(|r| r.archived.is_none())
            .filter(|r| query.is_empty() || matches_text(kind, r, &query))
            .filter(|r| groups.is_empty() || groups.iter().any(|g| filters(g).iter().all(|f| matches(store, kind, r, f))))
            .collect();
        if let Some((name, descending)) = sorts.first().and_then(sort_key) {
            found.sort_by(|a, b| {
                let order = compare(value(a, &name), value(b, &name));
                if descending { order.reverse() } else { order }
            });
        }
        let properties: Option<Vec<String>> = body["properties"].as_array().map(|p| p.iter().filter_map(Value::as_str).map(str::to_owned).collect());
        let total = found.len();
        let results: Vec<Value> = found.iter().skip(after).take(limit).map(|r| store.render(kind, r.id, properties.as_deref(), &[])).collect();
        let mut reply = json!({"total": total, "results": results});
        if after + limit < total {
            reply["paging"] = json!({"next": {"after": (after + limit).to_string()}});
        }
        Ok(Reply::json(200, &reply))
    }
}

fn sort_key(sort: &Value) -> Option<(String, bool)> {
    match sort {
        Value::String(name) => Some((name.clone(), false)),
        sort => Some((sort["propertyName"].as_str()?.to_owned(), sort["direction"] == "DESCENDING")),
    }
}

fn value<'a>(record: &'a Record, name: &str) -> &'a str {
    record.properties.get(name).map(String::as_str).unwrap_or_default()
}

fn matches_text(kind: &str, record: &Record, query: &str) -> bool {
    let extra: &[&str] = if kind == "contacts" { &["phone", "company"] } else { &["phone", "website"] };
    let names = super::store::default_properties(kind).iter().chain(extra);
    names.into_iter().any(|n| value(record, n).to_lowercase().contains(query))
}

fn matches(store: &Store, kind: &'static str, record: &Record, filter: &Value) -> bool {
    let name = filter["propertyName"].as_str().unwrap_or_default();
    let wanted = text(&filter["value"]);
    if let Some(target) = name.strip_prefix("associations.") {
        let Some(to) = object_type(target) else { return false };
        return store.links_to(kind, record.id, to).any(|l| l.to_id.to_string() == wanted);
    }
    let have = value(record, name);
    let values = || filter["values"].as_array().into_iter().flatten().map(text);
    match filter["operator"].as_str().unwrap_or_default() {
        "EQ" => !have.is_empty() && compare(have, &wanted).is_eq(),
        "NEQ" => compare(have, &wanted).is_ne(),
        "LT" => !have.is_empty() && compare(have, &wanted).is_lt(),
        "LTE" => !have.is_empty() && compare(have, &wanted).is_le(),
        "GT" => !have.is_empty() && compare(have, &wanted).is_gt(),
        "GTE" => !have.is_empty() && compare(have, &wanted).is_ge(),
        "BETWEEN" => !have.is_empty() && compare(have, &wanted).is_ge() && compare(have, &text(&filter["highValue"])).is_le(),
        // The values of IN must be lower-case; the stored ones are compared lower-cased.
        "IN" => values().any(|v| have.to_lowercase() == v),
        "NOT_IN" => !values().any(|v| have.to_lowercase() == v),
        "HAS_PROPERTY" => !have.is_empty(),
        "NOT_HAS_PROPERTY" => have.is_empty(),
        "CONTAINS_TOKEN" => token(have, &wanted),
        "NOT_CONTAINS_TOKEN" => !token(have, &wanted),
        _ => false,
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// `*` stands for any text; without one the token must be a whole word.
fn token(have: &str, wanted: &str) -> bool {
    let (have, wanted) = (have.to_lowercase(), wanted.to_lowercase());
    match (wanted.strip_prefix('*'), wanted.strip_suffix('*')) {
        (Some(rest), Some(_)) if rest.len() > 1 => have.contains(rest.trim_end_matches('*')),
        (Some(tail), _) => have.ends_with(tail),
        (_, Some(start)) => have.split(|c: char| !c.is_alphanumeric()).any(|w| w.starts_with(start)) || have.starts_with(start),
        _ => have == wanted || have.split(|c: char| !c.is_alphanumeric()).any(|w| w == wanted),
    }
}

/// Numbers and instants by value, everything else as text.
fn compare(a: &str, b: &str) -> Ordering {
    let number = |s: &str| -> Option<f64> { s.parse::<f64>().ok().or_else(|| s.parse::<Timestamp>().ok().map(|t| t.as_millisecond() as f64)) };
    match (number(a), number(b)) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        _ => a.cmp(b),
    }
}
