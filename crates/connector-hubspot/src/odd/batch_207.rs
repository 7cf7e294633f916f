//! Which rows of a batch failed. HubSpot lists failures apart from the results, grouped by reason, and names the rows inside `context`;
//! here each named row becomes its own outcome with its place in the input. It refuses to pass on the vendor's messages: they quote values.
//!
//! <https://developers.hubspot.com/docs/guides/api/crm/understanding-the-crm>

use connector_core::{ErrorKind, connector::ItemError};
use serde_json::{Map, Value};

/// The keys of `context` that name rows: ids, trace ids, and the record whose links were asked for (the last one is unverified).
const NAMES: [&str; 4] = ["ids", "id", "objectWriteTraceId", "fromObjectId"];

/// Reads the failed rows out of a 207.
pub(crate) fn item_errors(body: &Value, args: &Map<String, Value>) -> Vec<ItemError> {
    let inputs = args.get("inputs").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let reasons = body.get("errors").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut failed = Vec::new();
    for reason in reasons {
        let category = reason.get("category").and_then(Value::as_str).unwrap_or_default();
        let kind = class(category);
        let error = |key: Option<String>| ItemError {
            index: key.as_deref().and_then(|key| inputs.iter().position(|input| is_named(input, key))),
            key,
            kind,
            message: said(kind).to_owned(),
            vendor_code: (!category.is_empty()).then(|| connector_core::redact::printable(category, 80)),
            retryable: kind.is_passing(),
        };
        let rows: Vec<String> =
            NAMES.iter().filter_map(|name| reason.get("context")?.get(name)).flat_map(texts).filter(|row| !row.is_empty()).collect();
        if rows.is_empty() {
            failed.push(error(None));
        }
        // A row may be named twice, by its id and by its trace id; it failed once.
        let mut places = Vec::new();
        for one in rows.into_iter().map(|row| error(Some(row))) {
            if one.index.is_none_or(|place| !places.contains(&place)) {
                places.extend(one.index);
                failed.push(one);
            }
        }
    }
    failed
}

/// `["a", "b"]`, `"a"` or `7` as texts.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::String(text) => vec![text.clone()],
        Value::Number(number) => vec![number.to_string()],
        _ => Vec::new(),
    }
}

/// Whether an input is the row that `name` stands for. Addresses come back in lower case.
fn is_named(input: &Value, name: &str) -> bool {
    ["id", "objectWriteTraceId"].iter().filter_map(|key| input.get(key)).flat_map(texts).any(|text| text.eq_ignore_ascii_case(name))
}

/// The class of a row's failure.
fn class(category: &str) -> ErrorKind {
    match category {
        "OBJECT_NOT_FOUND" => ErrorKind::NotFound,
        "CONFLICT" => ErrorKind::Conflict,
        "MISSING_SCOPES" => ErrorKind::Forbidden,
        "RATE_LIMITS" | "RATE_LIMIT" => ErrorKind::Throttled,
        _ => ErrorKind::Invalid,
    }
}

fn said(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound => "there is no such record, or it has no such links",
        ErrorKind::Conflict => "another record has this unique value",
        ErrorKind::Forbidden => "a scope for this row is missing",
        ErrorKind::Throttled => "HubSpot asks to slow down",
        _ => "HubSpot refused this row as wrong",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: Value, args: Value) -> Vec<(Option<usize>, Option<String>, ErrorKind)> {
        let Value::Object(args) = args else { panic!("args must be an object") };
        item_errors(&body, &args).into_iter().map(|item| (item.index, item.key, item.kind)).collect()
    }

    #[test]
    fn every_named_row_is_an_outcome_of_its_own() {
        let body = json!({ "errors": [
            { "status": "error", "category": "OBJECT_NOT_FOUND", "message": "x", "context": { "ids": ["9", "Bob@acme.test"] } },
            { "category": "VALIDATION_ERROR", "context": { "objectWriteTraceId": ["row-1"] } },
            { "category": "CONFLICT" },
        ] });
        let args = json!({ "inputs": [{ "id": "bob@acme.test" }, { "objectWriteTraceId": "row-1" }, { "id": "9" }] });
        assert_eq!(
            read(body, args),
            [
                (Some(2), Some("9".into()), ErrorKind::NotFound),
                (Some(0), Some("Bob@acme.test".into()), ErrorKind::NotFound),
                (Some(1), Some("row-1".into()), ErrorKind::Invalid),
                (None, None, ErrorKind::Conflict),
            ]
        );
    }

    #[test]
    fn a_row_named_by_its_id_and_by_its_trace_failed_once() {
        let body = json!({ "errors": [{ "category": "CONFLICT", "context": { "ids": ["", "a"], "objectWriteTraceId": ["row-1"] } }] });
        let args = json!({ "inputs": [{ "id": "b" }, { "id": "a", "objectWriteTraceId": "row-1" }] });
        assert_eq!(read(body, args), [(Some(1), Some("a".into()), ErrorKind::Conflict)]);
    }

    #[test]
    fn a_batch_without_errors_has_none() {
        assert!(read(json!({ "results": [], "numErrors": 0 }), json!({})).is_empty());
    }

    #[test]
    fn the_vendor_s_text_is_not_passed_on() {
        let body = json!({ "errors": [{ "category": "VALIDATION_ERROR", "message": "ada@example.com is bad", "context": { "ids": ["1"] } }] });
        assert!(!item_errors(&body, &Map::new())[0].message.contains("ada@"));
    }
}
