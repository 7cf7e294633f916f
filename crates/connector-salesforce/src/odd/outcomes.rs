//! Which items of a reply failed that is a success as a whole. Collections, composites, batches, graphs and actions each tell it their own way;
//! here each failed item becomes an outcome with its place. It refuses to pass on the vendor's messages: they quote values.

use connector_core::{ErrorKind, connector::ItemError, redact};
use serde_json::{Map, Value};

/// Reads the failed items.
pub(crate) fn failed_items(body: &Value, _: &Map<String, Value>) -> Vec<ItemError> {
    if let Some(items) = body.as_array() {
        return items.iter().enumerate().filter_map(|(at, item)| of_item(at, item)).collect();
    }
    let list = |name: &str| body.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let steps = list("compositeResponse").iter().enumerate().filter_map(|(at, step)| of_step(at, step, "httpStatusCode", "body"));
    let requests = list("results").iter().enumerate().filter_map(|(at, request)| of_step(at, request, "statusCode", "result"));
    let graphs = list("graphs").iter().enumerate().filter_map(|(at, graph)| of_graph(at, graph));
    steps.chain(requests).chain(graphs).collect()
}

/// One of a collection (`success`, `errors[].statusCode`) or of an action's runs (`isSuccess`).
fn of_item(at: usize, item: &Value) -> Option<ItemError> {
    let well = item.get("success").or_else(|| item.get("isSuccess"))?;
    if well != &Value::Bool(false) {
        return None;
    }
    let error = item.get("errors").and_then(|errors| errors.get(0)).unwrap_or(&Value::Null);
    Some(outcome(at, text(item, "id"), error, 400))
}

/// A step of a composite, or a request of a batch: a status, and a list of errors where it failed.
fn of_step(at: usize, step: &Value, status: &str, body: &str) -> Option<ItemError> {
    let status = step.get(status).and_then(Value::as_u64).filter(|status| *status >= 400)?;
    let error = step.get(body).and_then(|body| body.get(0)).unwrap_or(&Value::Null);
    Some(outcome(at, text(step, "referenceId"), error, status))
}

/// A graph fails as a whole; the step that is to blame is the one that was not merely halted.
fn of_graph(at: usize, graph: &Value) -> Option<ItemError> {
    if graph.get("isSuccessful") != Some(&Value::Bool(false)) {
        return None;
    }
    let steps = graph.pointer("/graphResponse/compositeResponse").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let failed: Vec<ItemError> = steps.iter().enumerate().filter_map(|(at, step)| of_step(at, step, "httpStatusCode", "body")).collect();
    let cause = failed.iter().find(|one| one.vendor_code.as_deref().is_none_or(|code| !is_consequence(code))).or(failed.first()).cloned();
    let key = text(graph, "graphId").map(str::to_owned);
    Some(match cause {
        Some(cause) => ItemError { index: Some(at), key, ..cause },
        None => ItemError { key, ..outcome(at, None, &Value::Null, 400) },
    })
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name).and_then(Value::as_str)
}

fn outcome(at: usize, key: Option<&str>, error: &Value, status: u64) -> ItemError {
    let code = text(error, "statusCode").or_else(|| text(error, "errorCode")).unwrap_or_default();
    let kind = class(code, text(error, "message").unwrap_or_default(), status);
    ItemError {
        index: Some(at),
        key: key.map(|key| redact::printable(key, 80)),
        kind,
        message: said(code, kind).to_owned(),
        vendor_code: (!code.is_empty()).then(|| redact::printable(code, 80)),
        retryable: kind.is_passing(),
    }
}

/// Codes of items that failed only because another one did.
fn is_consequence(code: &str) -> bool {
    matches!(code, "ALL_OR_NONE_OPERATION_ROLLED_BACK" | "PROCESSING_HALTED" | "BATCH_PROCESSING_HALTED")
}

/// The class of an item's failure, as the manifest's table has it for whole replies.
pub(crate) fn class(code: &str, message: &str, status: u64) -> ErrorKind {
    match code {
        "UNABLE_TO_LOCK_ROW" | "SERVER_UNAVAILABLE" | "QUERY_TIMEOUT" | "REQUEST_RUNNING_TOO_LONG" | "ALREADY_IN_PROCESS" => ErrorKind::Transient,
        "INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE" => ErrorKind::Transient,
        "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY" if message.contains("UNABLE_TO_LOCK_ROW") => ErrorKind::Transient,
        "REQUEST_LIMIT_EXCEEDED" if message.contains("Concurrent") => ErrorKind::Throttled,
        "REQUEST_LIMIT_EXCEEDED" | "STORAGE_LIMIT_EXCEEDED" | "LIMIT_EXCEEDED" => ErrorKind::Quota,
        "DUPLICATE_VALUE" | "DUPLICATES_DETECTED" | "ENTITY_IS_LOCKED" => ErrorKind::Conflict,
        "NOT_FOUND" | "ENTITY_IS_DELETED" => ErrorKind::NotFound,
        code if code.starts_with("INSUFFICIENT_ACCESS") => ErrorKind::Forbidden,
        code if is_consequence(code) => ErrorKind::Conflict,
        _ => match status {
            404 => ErrorKind::NotFound,
            403 => ErrorKind::Forbidden,
            409 | 412 => ErrorKind::Conflict,
            500..=599 => ErrorKind::Transient,
            _ => ErrorKind::Invalid,
        },
    }
}

fn said(code: &str, kind: ErrorKind) -> &'static str {
    match kind {
        _ if is_consequence(code) => "not done, because another item failed",
        ErrorKind::Transient => "another change held the record; send this item again",
        ErrorKind::Throttled => "Salesforce asks to slow down",
        ErrorKind::Quota => "an allowance of the org is used up",
        ErrorKind::Conflict => "a record like this is there already, or it is locked",
        ErrorKind::NotFound => "there is no such record",
        ErrorKind::Forbidden => "the user may not do this with the record",
        _ => "Salesforce refused this item as wrong",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: Value) -> Vec<(Option<usize>, Option<String>, ErrorKind, String)> {
        let failed = failed_items(&body, &Map::new());
        failed.into_iter().map(|item| (item.index, item.key, item.kind, item.vendor_code.unwrap_or_default())).collect()
    }

    #[test]
    fn each_family_tells_its_failures() {
        let collection = json!([{ "id": "003", "success": true, "errors": [] }, null,
            { "success": false, "errors": [{ "statusCode": "DUPLICATE_VALUE", "message": "m", "fields": ["Email"] }] }]);
        assert_eq!(read(collection), [(Some(2), None, ErrorKind::Conflict, "DUPLICATE_VALUE".into())]);
        let composite = json!({ "compositeResponse": [
            { "httpStatusCode": 400, "referenceId": "acc", "body": [{ "errorCode": "PROCESSING_HALTED", "message": "m" }] },
            { "httpStatusCode": 400, "referenceId": "con", "body": [{ "errorCode": "REQUIRED_FIELD_MISSING", "message": "m" }] }] });
        let found = read(composite.clone());
        assert_eq!(found[0], (Some(0), Some("acc".into()), ErrorKind::Conflict, "PROCESSING_HALTED".into()));
        assert_eq!(found[1], (Some(1), Some("con".into()), ErrorKind::Invalid, "REQUIRED_FIELD_MISSING".into()));
        let graphs =
            json!({ "graphs": [{ "graphId": "g1", "isSuccessful": true }, { "graphId": "g2", "isSuccessful": false, "graphResponse": composite }] });
        assert_eq!(read(graphs), [(Some(1), Some("g2".into()), ErrorKind::Invalid, "REQUIRED_FIELD_MISSING".into())]);
        let batch = json!({ "hasErrors": true, "results": [{ "statusCode": 204, "result": null },
            { "statusCode": 404, "result": [{ "errorCode": "NOT_FOUND", "message": "m" }] },
            { "statusCode": 412, "result": [{ "errorCode": "BATCH_PROCESSING_HALTED", "message": "m" }] }] });
        assert_eq!(
            read(batch).iter().map(|one| (one.0, one.2)).collect::<Vec<_>>(),
            [(Some(1), ErrorKind::NotFound), (Some(2), ErrorKind::Conflict)]
        );
    }

    #[test]
    fn a_lock_inside_a_trigger_s_words_passes() {
        let said = "trigger: execution of AfterUpdate caused by: UNABLE_TO_LOCK_ROW, unable to obtain exclusive access";
        assert_eq!(class("CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", said, 400), ErrorKind::Transient);
        assert_eq!(class("CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", "no", 400), ErrorKind::Invalid);
    }

    #[test]
    fn the_vendor_s_text_is_not_passed_on() {
        let body = json!([{ "success": false, "errors": [{ "statusCode": "X", "message": "ada@example.com is bad" }] }]);
        assert!(!failed_items(&body, &Map::new())[0].message.contains("ada@"));
    }
}
