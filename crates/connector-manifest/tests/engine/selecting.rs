//! From a reply to an output: `select`, `response_map`, `none_on`, raw and empty replies.

use connector_core::{ErrorKind, OpCall, ReplyBody};
use connector_testkit::transport::{Replay, Step};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::common::{args, cx, output, over, run};

const MAPPED: &str = r#"tools:
  - name: shop_get
    method: GET
    path: /a
    response_map:
      plain: .data.name
      in_list: .data.rows[1].id
      each: .data.rows[].id
      deep: .data.groups[].rows[].id
      whole: .
      missing: .nowhere.at.all
      huge: .data.rows[18446744073709551615].id
      past: .data.rows[99].id
      into_text: .data.name[0]
      into_number: .data.n.x
      of_null: .data.nothing.more
      quoted: '."odd key"["x.y"]'
      first_of: .data.nothing // .data.name
  - { name: shop_select, method: GET, path: /b, select: ".data.rows[0]" }
  - { name: shop_both, method: GET, path: /c, select: .data, response_map: { first: ".rows[0].id", each: ".rows[].id" } }"#;

fn reply() -> Value {
    json!({ "data": { "name": "n", "n": 7, "nothing": null, "rows": [{ "id": 1 }, { "id": 2 }], "groups": [{ "rows": [{ "id": 3 }] }, { "rows": [] }, { "rows": [{ "id": 4 }, { "x": 0 }] }] },
        "odd key": { "x.y": true } })
}

#[tokio::test]
async fn a_path_that_leads_nowhere_gives_null_and_one_through_lists_gives_a_list() {
    let engine = over(MAPPED, Replay::new([Step::json(200, reply()), Step::json(200, reply()), Step::json(200, reply())]));
    let mapped = output(&engine, "shop_get", json!({})).await;
    assert_eq!(
        mapped,
        json!({ "plain": "n", "in_list": 2, "each": [1, 2], "deep": [3, 4], "whole": reply(), "missing": null, "huge": null, "past": null,
            "into_text": null, "into_number": null, "of_null": null, "quoted": true, "first_of": "n" })
    );
    assert_eq!(output(&engine, "shop_select", json!({})).await, json!({ "id": 1 }));
    assert_eq!(output(&engine, "shop_both", json!({})).await, json!({ "first": 1, "each": [1, 2] }));
}

#[tokio::test]
async fn a_reply_of_another_shape_gives_nulls_and_no_panic() {
    for odd in [json!([]), json!("text"), json!(7), json!({ "data": [1, 2] }), json!({ "data": { "rows": { "0": 1 } } })] {
        let engine = over(MAPPED, Replay::new([Step::json(200, odd.clone()), Step::json(200, odd.clone()), Step::json(200, odd.clone())]));
        let mapped = output(&engine, "shop_get", json!({})).await;
        assert_eq!((&mapped["plain"], &mapped["each"], &mapped["whole"]), (&Value::Null, &json!([]), &odd));
        assert_eq!(output(&engine, "shop_select", json!({})).await, Value::Null);
        assert_eq!(output(&engine, "shop_both", json!({})).await, json!({ "first": null, "each": [] }));
    }
}

#[test]
fn an_index_that_no_list_can_have_is_refused_or_leads_nowhere() {
    use connector_manifest::select::Path;
    let error = Path::parse(".a[99999999999999999999999]").unwrap_err();
    assert!(error.contains("neither a number nor empty"), "{error}");
    assert_eq!(Path::parse(".a[4000000000]").unwrap().select(&json!({ "a": [1] })), Value::Null);
    let deep = format!(".{}", vec!["a"; 10_000].join("."));
    assert_eq!(Path::parse(&deep).unwrap().select(&json!({ "a": { "a": 1 } })), Value::Null);
}

#[tokio::test]
async fn absent_is_an_answer_where_the_manifest_says_so() {
    #[derive(Debug, Deserialize, PartialEq)]
    struct Order {
        id: u64,
    }
    let yaml = "tools:
  - { name: shop_get, method: GET, path: '/a/{id}', none_on: [404, 410] }
  - { name: shop_must, method: GET, path: '/a/{id}' }";
    let engine = over(yaml, Replay::new([Step::text(404, "text/html", "<h1>nope"), Step::empty(410), Step::json(404, json!({})), Step::empty(404)]));
    let reply = run(&engine, "shop_get", json!({ "id": 1 })).await.unwrap();
    assert!(reply.meta.absent && reply.meta.status == 404 && matches!(reply.body, ReplyBody::Empty));
    let call = OpCall::new("shop_get", args(json!({ "id": 1 }))).decoding::<Option<Order>>();
    assert_eq!(connector_core::Connector::call(&engine, &cx(), call).await.unwrap().into_output::<Option<Order>>().unwrap(), None);
    assert_eq!(run(&engine, "shop_must", json!({ "id": 1 })).await.unwrap_err().kind(), ErrorKind::NotFound);
    let wants_one = OpCall::new("shop_get", args(json!({ "id": 1 }))).decoding::<Order>();
    assert_eq!(connector_core::Connector::call(&engine, &cx(), wants_one).await.unwrap_err().kind(), ErrorKind::Protocol);
}

#[tokio::test]
async fn what_is_so_already_is_done_and_a_refusal_in_a_200_is_not() {
    let yaml = "errors: { code: .error, inside_success: '!.ok', table: [{ code: no_such_thing, class: not_found }] }
tools:
  - { name: shop_react, method: POST, path: /react, params: [{ name: name, type: string }], returns: none, repeat: natural, done_on: [already_reacted, gone] }";
    let answers = [
        Step::json(200, json!({ "ok": true })),
        Step::json(200, json!({ "ok": false, "error": "already_reacted" })),
        Step::json(410, json!({ "ok": false, "error": "gone" })),
        Step::json(200, json!({ "ok": false, "error": "no_such_thing" })),
        Step::json(200, json!({ "ok": false, "error": "already_reacted_not" })),
    ];
    let engine = over(yaml, Replay::new(answers));
    for _ in 0..3 {
        assert!(matches!(run(&engine, "shop_react", json!({ "name": "eyes" })).await.unwrap().body, ReplyBody::Empty));
    }
    assert_eq!(run(&engine, "shop_react", json!({})).await.unwrap_err().kind(), ErrorKind::NotFound);
    let other = run(&engine, "shop_react", json!({})).await.unwrap_err();
    assert_eq!(other.vendor_code(), Some("already_reacted_not"));
}

#[tokio::test]
async fn bytes_that_are_not_json_come_as_they_are() {
    let yaml = "tools: [{ name: shop_file, method: GET, path: /f, returns: raw }]";
    let mime = b"Subject: \xffx\r\n\r\n<html>".to_vec();
    let replay = Replay::new([Step::text(200, "message/rfc822", mime.clone()), Step::text(200, "image/png", b"".to_vec()), Step::empty(404)]);
    let engine = over(yaml, replay.clone());
    let reply = run(&engine, "shop_file", json!({})).await.unwrap();
    let ReplyBody::Raw { bytes, content_type } = &reply.body else { panic!("{:?}", reply.body) };
    assert_eq!((&bytes[..], &**content_type), (&mime[..], "message/rfc822"));
    let value = reply.body.to_value().unwrap();
    assert_eq!(value["content_type"], "message/rfc822");
    let content: connector_core::connector::RawContent = serde_json::from_value(value).unwrap();
    assert_eq!(content.bytes, mime);
    assert!(matches!(run(&engine, "shop_file", json!({})).await.unwrap().body, ReplyBody::Raw { bytes, .. } if bytes.is_empty()));
    assert_eq!(run(&engine, "shop_file", json!({})).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(replay.seen()[0].header("accept"), Some("*/*"));
}

#[tokio::test]
async fn facts_about_the_reply_come_along() {
    let yaml = "limits: { default: { windows: ['10/1s'], remaining_header: X-Left } }
errors: { request_id_header: X-Request-Id }
tools: [{ name: shop_get, method: GET, path: /a }]";
    let step = Step::json(201, json!({})).with_header("x-left", " 41 ").with_header("x-request-id", "req-1");
    let reply = run(&over(yaml, Replay::new([step])), "shop_get", json!({})).await.unwrap();
    assert_eq!((reply.meta.status, reply.meta.remaining, reply.meta.request_id.as_deref(), reply.meta.attempts), (201, Some(41), Some("req-1"), 1));
}
