//! What an error answer means: the manifest's table in its order, errors inside a 200, waits in every form, and the vendor's own words.

use std::{sync::Arc, time::Duration};

use connector_core::{CallCx, Error, ErrorKind, Retry};
use connector_testkit::transport::{Replay, Step};
use serde_json::{Value, json};

use crate::common::{call, connection, over, run};

async fn error(errors: &str, step: Step) -> Error {
    let yaml = format!("errors:\n{errors}\ntools: [{{ name: shop_get, method: GET, path: /a }}]");
    run(&over(&yaml, Replay::new([step])), "shop_get", json!({})).await.unwrap_err()
}

fn seconds(error: &Error) -> Option<f64> {
    error.retry_after().map(|delay| delay.as_secs_f64())
}

#[tokio::test]
async fn the_first_row_that_matches_decides() {
    let table = r#"  code: [.error.code, .code]
  message: .error.text
  request_id: .trace
  table:
    - { status: 403, code: [LIMIT, BUSY], where: { .scope: [day, month] }, class: quota, wait: 1h }
    - { status: 403, code: LIMIT, class: throttled, wait: 7s }
    - { status: [409, 4xx], message_contains: already there, class: conflict, advice: read it first }
    - { code: GONE, class: cursor_expired }
    - { status: 5xx, where: { .maintenance: "*" }, class: throttled, not_done: true }"#;
    for (status, body, kind, wait) in [
        (403, json!({ "code": "LIMIT", "scope": "day" }), ErrorKind::Quota, Some(3_600.0)),
        (403, json!({ "error": { "code": "BUSY" }, "code": "OTHER", "scope": "month" }), ErrorKind::Quota, Some(3_600.0)),
        (403, json!({ "code": "LIMIT", "scope": "hour" }), ErrorKind::Throttled, Some(7.0)),
        (403, json!({ "code": "BUSY", "scope": "hour" }), ErrorKind::Forbidden, None),
        (422, json!({ "error": { "text": "it is already there" } }), ErrorKind::Conflict, None),
        (422, json!({ "error": { "text": "it is not there" } }), ErrorKind::Invalid, None),
        (418, json!({ "code": "GONE" }), ErrorKind::CursorExpired, None),
        (500, json!({ "maintenance": false }), ErrorKind::Throttled, None),
        (500, json!({ "maintenance": null }), ErrorKind::Transient, None),
        (404, json!([1, 2]), ErrorKind::NotFound, None),
    ] {
        let error = error(table, Step::json(status, body.clone())).await;
        assert_eq!((error.kind(), seconds(&error)), (kind, wait), "{status} {body}: {error}");
    }
    let shown = error(table, Step::json(409, json!({ "error": { "text": "already there" }, "trace": "t-1", "code": "DUP" }))).await;
    assert_eq!((shown.vendor_code(), shown.request_id(), shown.status()), (Some("DUP"), Some("t-1"), Some(409)));
    assert!(shown.to_string().contains("; read it first") && shown.to_string().contains("already there"), "{shown}");
    let not_done = error(table, Step::json(503, json!({ "maintenance": "until noon" }))).await;
    assert_eq!(not_done.context_value("not_done"), Some("true"));
}

#[tokio::test]
async fn a_web_page_or_nothing_as_an_error_is_judged_by_its_status() {
    let table = "  code: .code\n  message: .message\n  table: [{ status: 400, code: X, class: conflict }]";
    for (status, kind) in [
        (400, ErrorKind::Invalid),
        (401, ErrorKind::AuthExpired),
        (403, ErrorKind::Forbidden),
        (502, ErrorKind::Transient),
        (302, ErrorKind::Protocol),
        (402, ErrorKind::Quota),
        (599, ErrorKind::Transient),
    ] {
        for step in [
            Step::text(status, "text/html", "<html>{\"code\":\"X\"}"),
            Step::empty(status),
            Step::text(status, "application/json", "{\"code\":\"X\""),
        ] {
            let error = error(table, step).await;
            assert_eq!((error.kind(), error.vendor_code()), (kind, None), "{status}: {error}");
        }
    }
    // What is too long to be an error text is not read.
    let long = format!("{{\"code\":\"X\",\"pad\":\"{}\"}}", "x".repeat(70_000));
    assert_eq!(error(table, Step::text(400, "application/json", long)).await.kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn an_error_inside_a_200_is_an_error() {
    let negated = "  inside_success: '!.ok'\n  code: .error\n  table:\n    - { code: ratelimited, class: throttled }\n    - { code: [invalid_auth, token_revoked], class: auth_expired }";
    for (body, kind) in [
        (json!({ "ok": false, "error": "ratelimited" }), Some(ErrorKind::Throttled)),
        (json!({ "ok": false, "error": "token_revoked" }), Some(ErrorKind::AuthExpired)),
        // The vendor said no; that it has no row here does not make its answer unreadable, nor the write uncertain.
        (json!({ "ok": false, "error": "channel_is_purple" }), Some(ErrorKind::Invalid)),
        (json!({ "ok": true, "error": "ratelimited" }), None),
        (json!({ "error": "ratelimited" }), None),
        (json!([]), None),
    ] {
        let yaml = format!("errors:\n{negated}\ntools: [{{ name: shop_post, method: POST, path: /a }}]");
        let result = run(&over(&yaml, Replay::new([Step::json(200, body.clone())])), "shop_post", json!({})).await;
        assert_eq!(result.as_ref().err().map(Error::kind), kind, "{body}: {result:?}");
    }
    let present = "  inside_success: .errors\n  code: '.errors[0].extensions.type'\n  table: [{ code: LOCKED, class: transient }]";
    for (body, kind) in [
        (json!({ "data": null, "errors": [{ "extensions": { "type": "LOCKED" } }] }), Some(ErrorKind::Transient)),
        (json!({ "data": {}, "errors": null }), None),
        (json!({ "data": {} }), None),
    ] {
        let yaml = format!("errors:\n{present}\ntools: [{{ name: shop_post, method: POST, path: /a }}]");
        let result = run(&over(&yaml, Replay::new([Step::json(200, body.clone())])), "shop_post", json!({})).await;
        assert_eq!(result.err().map(|error| error.kind()), kind, "{body}");
    }
}

#[tokio::test]
async fn retry_after_is_read_in_every_form_and_nonsense_is_no_value() {
    for (value, wait) in [
        ("7", Some(7.0)),
        (" 0.5 ", Some(0.5)),
        ("0", Some(0.0)),
        ("Thu, 01 Jan 2026 00:00:30 GMT", Some(30.0)),
        ("Wed, 31 Dec 2025 23:00:00 GMT", Some(0.0)),
        ("1e99", Some(86_400.0)),
        ("315360000", Some(86_400.0)),
        ("Tue, 01 Jan 2036 00:00:00 GMT", Some(86_400.0)),
        ("-1", None),
        ("abc", None),
        ("", None),
        ("NaN", None),
        ("inf", None),
        ("7 seconds", None),
    ] {
        let error = error("  table: []", Step::json(429, json!({})).with_header("retry-after", value)).await;
        assert_eq!((error.kind(), seconds(&error)), (ErrorKind::Throttled, wait), "{value:?}");
    }
    let busy = error("  table: []", Step::json(503, json!({})).with_header("retry-after", "2")).await;
    assert_eq!((busy.kind(), busy.retry()), (ErrorKind::Throttled, Retry::After(Duration::from_secs(2))));
    let precise = error("  table: []", Step::json(429, json!({})).with_header("retry-after-ms", "250").with_header("retry-after", "9")).await;
    assert_eq!(seconds(&precise), Some(0.25));
}

#[tokio::test]
async fn a_refusal_may_last_until_an_instant() {
    let yaml = |until: &str| {
        format!(
            "errors: {{ table: [{{ status: 429, class: quota, until: {until}, wait: 90s }}] }}\ntools: [{{ name: shop_get, method: GET, path: /a }}]"
        )
    };
    let wait = |until: &str, zone: &str, step: Step| {
        let engine = over(&yaml(until), Replay::new([step]));
        let cx = CallCx::new(Arc::new(connection().with_setting("timezone", zone)));
        async move {
            let error = connector_core::Connector::call(&engine, &cx, call("shop_get", json!({}))).await.unwrap_err();
            seconds(&error)
        }
    };
    let plain = || Step::json(429, json!({}));
    // It is midnight UTC, 01:00 in Paris and 19:00 the day before in New York.
    assert_eq!(wait("utc_midnight", "America/New_York", plain()).await, Some(86_400.0));
    assert_eq!(wait("account_midnight", "Europe/Paris", plain()).await, Some(23.0 * 3_600.0));
    assert_eq!(wait("account_midnight", "America/New_York", plain()).await, Some(5.0 * 3_600.0));
    assert_eq!(wait("account_midnight", "Not/AZone", plain()).await, Some(86_400.0));
    assert_eq!(wait("utc_midnight", "UTC", plain().with_header("retry-after", "3")).await, Some(3.0));
    for (value, expected) in [
        ("40", 40.0),
        ("1767225630", 30.0),
        ("1767225630000", 30.0),
        ("2026-01-01T00:00:20Z", 20.0),
        // Minute precision is rounded up, or the next try would come too early.
        ("2026-01-01T00:05Z", 360.0),
        ("2020-01-01T00:00:00Z", 0.0),
        ("soon", 90.0),
        ("-5", 90.0),
        ("nan", 90.0),
        ("inf", 90.0),
    ] {
        assert_eq!(wait("header:X-Reset", "UTC", plain().with_header("x-reset", value)).await, Some(expected), "{value}");
    }
    assert_eq!(wait("header:X-Reset", "UTC", plain()).await, Some(90.0));
}

#[tokio::test]
async fn a_quota_without_an_end_is_not_tried_again() {
    let error = error("  table: [{ status: 429, class: quota }]", Step::json(429, json!({}))).await;
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Quota, Retry::Never));
}

#[tokio::test]
async fn the_vendors_words_are_scrubbed_and_cut() {
    let table = "  code: .code\n  message: .message\n  request_id: .id\n  request_id_header: X-Id\n  table: []";
    let body = json!({
        "message": format!("no contact ada@example.com for key pat-na1-0123456789abcdef: \u{1b}]0;pwn\u{7}\r\nFAKE LINE {}", "x ".repeat(500)),
        "code": "the token sk-live-0123456789abcdefghij is bad\r\nFAKE",
        "id": "r\n1",
    });
    let shown = error(table, Step::json(400, body)).await;
    let text = format!("{shown} {shown:?}");
    for secret in ["ada@example.com", "pat-na1-0123456789abcdef", "sk-live-0123456789abcdefghij"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    assert!(shown.to_string().contains("no contact REDACTED for key REDACTED"), "{shown}");
    assert!(!shown.to_string().chars().any(char::is_control) && shown.to_string().len() < 700, "{shown}");
    // Vendors' request ids are what their support asks for.
    let step = Step::json(400, Value::Null).with_header("x-id", "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed");
    assert_eq!(error(table, step).await.request_id(), Some("1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed"));
    // A failure that is not the caller's fault needs no vendor's words.
    let server = error(table, Step::json(500, json!({ "message": "stack trace with row data" }))).await;
    assert!(!server.to_string().contains("stack trace"), "{server}");
}
