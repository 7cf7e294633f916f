//! From arguments to a request: path, query, headers and body, typed values, what is absent, defaults and settings.

use std::sync::Arc;

use connector_core::CallCx;
use serde_json::json;

use crate::common::{call, connection, cx, engine, line, refused, rendered};

#[test]
fn a_reading_tools_remaining_parameters_are_its_query() {
    let engine = engine(
        "tools:
  - name: shop_find
    method: GET
    path: /orders/{id}/lines
    params:
      - { name: id, type: string, required: true }
      - { name: status, type: string }
      - { name: limit, type: integer, default: 50 }
      - { name: open, type: boolean }",
    );
    assert_eq!(line(&engine, "shop_find", json!({ "id": "A 1" })), "GET /orders/A%201/lines?limit=50");
    assert_eq!(
        line(&engine, "shop_find", json!({ "id": "7", "status": "a&b=c", "limit": 3, "open": true })),
        "GET /orders/7/lines?status=a%26b%3Dc&limit=3&open=true"
    );
    assert_eq!(line(&engine, "shop_find", json!({ "id": "7", "status": null })), "GET /orders/7/lines?limit=50");
    let request = rendered(&engine, "shop_find", json!({ "id": "7" }));
    assert!(request.body.is_null() && request.headers.get("content-type").is_none(), "{request:?}");
    assert_eq!(request.headers["accept"], "application/json");
}

#[test]
fn a_writing_tools_remaining_parameters_are_its_body() {
    let engine = engine(
        "tools:
  - name: shop_add
    method: POST
    path: /orders/{id}
    params:
      - { name: id, type: integer, required: true }
      - { name: items, type: array<object>, required: true }
      - { name: note, type: string }
  - name: shop_drop
    method: DELETE
    path: /orders/{id}
    params: [{ name: reason, type: string }]
  - name: shop_touch
    method: POST
    path: /orders/{id}/touch",
    );
    let request = rendered(&engine, "shop_add", json!({ "id": 7, "items": [{ "sku": "x", "n": 1.5 }] }));
    assert_eq!(request.url, "https://api.example/v1/orders/7");
    assert_eq!(request.body, json!({ "items": [{ "sku": "x", "n": 1.5 }] }));
    assert_eq!(request.headers["content-type"], "application/json");
    assert_eq!(line(&engine, "shop_drop", json!({ "id": "7", "reason": "old" })), "DELETE /orders/7?reason=old");
    assert!(rendered(&engine, "shop_touch", json!({ "id": "7" })).body.is_null());
}

#[test]
fn values_keep_their_json_type_and_absent_ones_drop_their_key() {
    let engine = engine(
        r#"tools:
  - name: shop_add
    method: POST
    path: /orders
    query: { dry: "{dry}", source: "app {app}", fixed: 1, on: true }
    body: { order: { items: "{items}", total: "{total}", note: "{note}" }, meta: { by: "{by}", at: "{at}" }, tags: ["a", "{tag}"], text: "for {by}", kind: fixed }
    params:
      - { name: items, type: any, required: true }
      - { name: total, type: number }
      - { name: note, type: string }
      - { name: by, type: string }
      - { name: at, type: string }
      - { name: tag, type: string }
      - { name: dry, type: boolean }
      - { name: app, type: string }"#,
    );
    let all =
        json!({ "items": [1, null, { "a": [] }], "total": 12.50, "note": "n", "by": "Ada", "at": "now", "tag": "t", "dry": false, "app": "x/y" });
    let request = rendered(&engine, "shop_add", all);
    assert_eq!(
        request.body,
        json!({ "order": { "items": [1, null, { "a": [] }], "total": 12.5, "note": "n" }, "meta": { "by": "Ada", "at": "now" }, "tags": ["a", "t"],
            "text": "for Ada", "kind": "fixed" })
    );
    assert_eq!(request.url, "https://api.example/v1/orders?dry=false&source=app%20x/y&fixed=1&on=true");
    let least = rendered(&engine, "shop_add", json!({ "items": {} }));
    assert_eq!(least.body, json!({ "order": { "items": {} }, "tags": ["a"], "kind": "fixed" }));
    assert_eq!(least.url, "https://api.example/v1/orders?fixed=1&on=true");
}

#[test]
fn lists_in_a_query_are_joined_or_their_key_is_repeated() {
    let engine = engine(
        r#"tools:
  - name: shop_find
    method: GET
    path: /orders
    query: { ids: "{ids}", tag: "{tag}", both: ["{one}", fixed], filter: { a: "{one}", b: 2 } }
    params:
      - { name: ids, type: array<integer>, join: "," }
      - { name: tag, type: array<string> }
      - { name: one, type: string }"#,
    );
    assert_eq!(
        line(&engine, "shop_find", json!({ "ids": [1, 2], "tag": ["a b", "c"], "one": "x" })),
        "GET /orders?ids=1,2&tag=a%20b&tag=c&both=x&both=fixed&filter=%7B%22a%22:%22x%22,%22b%22:2%7D"
    );
    assert_eq!(line(&engine, "shop_find", json!({ "tag": [] })), "GET /orders?both=fixed&filter=%7B%22b%22:2%7D");
}

#[test]
fn a_setting_of_the_connection_stands_in_for_an_argument_and_for_a_header() {
    let engine = engine(
        r#"headers: { X-Region: "{region}", X-Fixed: yes-please, X-Absent: "{nowhere}" }
tools:
  - name: shop_find
    method: GET
    path: /boxes/{mailbox}/mail
    params:
      - { name: mailbox, type: string, required: true, setting: mailbox }
      - { name: size, type: string, setting: size, default: small }"#,
    );
    let cx = CallCx::new(Arc::new(connection().with_setting("mailbox", "support@x").with_setting("region", "eu")));
    let request = engine.render(&cx, &call("shop_find", json!({}))).unwrap();
    assert_eq!(request.url, "https://api.example/v1/boxes/support%40x/mail?size=small");
    assert_eq!((&request.headers["x-region"], &request.headers["x-fixed"]), (&json!("eu"), &json!("yes-please")));
    assert!(!request.headers.contains_key("x-absent"));
    let given = engine.render(&cx, &call("shop_find", json!({ "mailbox": "other", "size": "big" }))).unwrap();
    assert_eq!(given.url, "https://api.example/v1/boxes/other/mail?size=big");
    assert!(refused(&engine, "shop_find", json!({})).to_string().contains("or set `mailbox` on the connection"));
}

#[test]
fn a_tools_own_headers_take_parameters_and_are_left_out_without_them() {
    let engine = engine(
        r#"tools:
  - name: shop_get
    method: GET
    path: /a
    query: {}
    headers: { If-Match: "\"{etag}\"", Prefer: return=minimal }
    params: [{ name: etag, type: string }]"#,
    );
    assert_eq!(rendered(&engine, "shop_get", json!({ "etag": "7" })).headers["if-match"], "\"7\"");
    let without = rendered(&engine, "shop_get", json!({}));
    assert_eq!(without.headers["prefer"], "return=minimal");
    assert!(!without.headers.contains_key("if-match"));
}

#[test]
fn a_form_nests_its_keys_and_encodes_its_values() {
    let engine = engine(
        r#"tools:
  - name: shop_pay
    method: POST
    path: /charges
    encoding: form
    body: { amount: "{amount}", a: { b: "{list}" }, meta: "{meta}", gone: "{gone}" }
    params:
      - { name: amount, type: integer, required: true }
      - { name: list, type: array<any> }
      - { name: meta, type: map<any> }
      - { name: gone, type: string }"#,
    );
    let request = rendered(&engine, "shop_pay", json!({ "amount": 5, "list": ["x&y", { "z": true }], "meta": { "k=1": "a b+c", "n": null } }));
    assert_eq!(request.headers["content-type"], "application/x-www-form-urlencoded");
    assert_eq!(request.body, "amount=5&a%5Bb%5D%5B0%5D=x%26y&a%5Bb%5D%5B1%5D%5Bz%5D=true&meta%5Bk%3D1%5D=a%20b%2Bc");
    let text = request.body.as_str().unwrap();
    let read: Vec<(String, String)> = url::form_urlencoded::parse(text.as_bytes()).into_owned().collect();
    let wanted = [("amount", "5"), ("a[b][0]", "x&y"), ("a[b][1][z]", "true"), ("meta[k=1]", "a b+c")];
    assert_eq!(read, wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn a_text_body_goes_out_as_it_is() {
    let engine = engine(
        r#"tools:
  - name: shop_note
    method: PUT
    path: /note
    encoding: text
    body: "{text}"
    params: [{ name: text, type: string }]"#,
    );
    let request = rendered(&engine, "shop_note", json!({ "text": "line one\r\n{text} ünïcode" }));
    assert_eq!((&request.headers["content-type"], &request.body), (&json!("text/plain"), &json!("line one\r\n{text} ünïcode")));
    assert!(refused(&engine, "shop_note", json!({})).to_string().contains("one text"));
}

#[test]
fn the_idempotency_key_of_the_call_goes_into_the_vendors_header() {
    let engine = engine(
        "tools:
  - { name: shop_pay, method: POST, path: /charges, repeat: { key: { header: Idempotency-Key, ttl: 24h } } }
  - { name: shop_other, method: POST, path: /other }",
    );
    let keyed = cx().with_idempotency_key("order-17");
    assert_eq!(engine.render(&keyed, &call("shop_pay", json!({}))).unwrap().headers["idempotency-key"], "order-17");
    assert!(!rendered(&engine, "shop_pay", json!({})).headers.contains_key("idempotency-key"));
    assert!(!engine.render(&keyed, &call("shop_other", json!({}))).unwrap().headers.contains_key("idempotency-key"));
    let broken = cx().with_idempotency_key("a\r\nX-Admin: 1");
    assert!(engine.render(&broken, &call("shop_pay", json!({}))).unwrap_err().to_string().contains("line breaks"));
}

#[test]
fn a_callers_trace_goes_along() {
    let engine = engine("tools: [{ name: shop_get, method: GET, path: /a }]");
    let mut traced = cx();
    traced.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into());
    let request = engine.render(&traced, &call("shop_get", json!({}))).unwrap();
    assert_eq!(request.headers["traceparent"], "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
}

#[test]
fn a_dry_run_shows_where_the_credential_will_be_and_never_the_credential() {
    for (auth, header) in [
        ("auth: { type: bearer, token_env: SHOP_TOKEN }", "authorization"),
        ("auth: { type: api_key, header: X-Shop-Key, key_env: SHOP_TOKEN }", "x-shop-key"),
        ("auth: { type: basic, username_env: SHOP_USER, password_env: SHOP_PASSWORD }", "authorization"),
    ] {
        let yaml = format!(
            "{auth}\ntools:\n  - name: shop_get\n    method: GET\n    path: /a\n    headers: {{ X-Session-Token: \"{{session}}\" }}\n    query: {{ api_key: \"{{session}}\", q: \"{{q}}\" }}"
        );
        let request = rendered(&engine(&yaml), "shop_get", json!({ "session": "canary-4711", "q": "x" }));
        assert_eq!(request.headers[header], "REDACTED", "{auth}");
        assert_eq!(request.headers["x-session-token"], "REDACTED");
        let shown = serde_json::to_string(&request).unwrap();
        assert!(!shown.contains("canary-4711"), "{shown}");
        assert!(request.url.ends_with("q=x"), "{}", request.url);
    }
}
