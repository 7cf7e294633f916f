//! Arguments that try to leave their place: other paths, other hosts, other headers, other query clauses. Each stays one encoded value, or
//! is refused; nothing is expanded twice.

use std::{sync::Arc, time::Duration};

use connector_core::{Connection, ErrorKind, OpCall};
use connector_manifest::Engine;
use proptest::prelude::*;
use serde_json::{Value, json};
use url::Url;

use crate::common::{args, call, cx, engine, refused, rendered};

const TOOLS: &str = r#"tools:
  - name: shop_get
    method: GET
    path: /orders/{id}/lines
    query: { q: "{q}", text: "a {q} b" }
    headers: { X-Ref: "r {ref}" }
    params:
      - { name: id, type: string, required: true }
      - { name: q, type: string }
      - { name: ref, type: string }
      - { name: other, type: string }
  - name: shop_part
    method: POST
    path: /files/{name}.{ext}/x-{name}
    body: { name: "{name}", line: "{name}!{other}" }
    params:
      - { name: name, type: string, required: true }
      - { name: ext, type: string, required: true }
      - { name: other, type: string }
  - name: shop_query
    method: GET
    path: /records
    query: { filter: "name eq '{odata}'", search: "\"{kql}\"", sysparm_query: "number={sysparm}^active=true", soql: "Name = '{soql}'" }
    params:
      - { name: odata, type: string, escape: odata_string }
      - { name: kql, type: string, escape: kql }
      - { name: sysparm, type: string, escape: sysparm }
      - { name: soql, type: string, escape: soql_string }"#;

fn url_of(engine: &Engine, tool: &str, json: Value) -> Url {
    rendered(engine, tool, json).url.parse().unwrap()
}

fn segments(url: &Url) -> Vec<String> {
    url.path_segments().unwrap().map(str::to_owned).collect()
}

#[test]
fn a_path_parameter_is_one_encoded_segment_or_an_error() {
    let engine = engine(TOOLS);
    for (given, wanted) in [
        ("../../admin", "..%2F..%2Fadmin"),
        ("a/b?x=1#f", "a%2Fb%3Fx%3D1%23f"),
        ("%2F", "%252F"),
        ("%2e%2e%2f", "%252e%252e%252f"),
        ("..;/", "..%3B%2F"),
        ("..\\..\\x", "..%5C..%5Cx"),
        ("{other}", "%7Bother%7D"),
        ("\r\nHost: evil", "%0D%0AHost%3A%20evil"),
        ("@evil.example", "%40evil.example"),
        ("//evil.example/x", "%2F%2Fevil.example%2Fx"),
        ("a\u{0}b", "a%00b"),
        ("\u{202e}gpj", "%E2%80%AEgpj"),
        ("...", "..."),
    ] {
        let url = url_of(&engine, "shop_get", json!({ "id": given, "other": "EXPANDED" }));
        assert_eq!(url.host_str(), Some("api.example"), "{given}");
        assert_eq!(segments(&url), ["v1", "orders", wanted, "lines"], "{given}");
    }
    for given in ["", ".", ".."] {
        let error = refused(&engine, "shop_get", json!({ "id": given }));
        assert_eq!(error.kind(), ErrorKind::Invalid, "{given:?}");
        assert!(error.to_string().contains("`id` is part of the address"), "{error}");
    }
}

#[test]
fn a_query_value_stays_one_value_and_a_template_in_a_value_is_text() {
    let engine = engine(TOOLS);
    for given in ["1&admin=true", "x#frag", "{other}", "a=b", "%26", "a+b c", "ü\u{0}\r\n"] {
        let url = url_of(&engine, "shop_get", json!({ "id": "7", "q": given, "other": "EXPANDED" }));
        let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        assert_eq!(pairs, [("q".to_owned(), given.to_owned()), ("text".to_owned(), format!("a {given} b"))], "{url}");
        assert_eq!(url.fragment(), None);
    }
    let request = rendered(&engine, "shop_part", json!({ "name": "{other}{ext}", "ext": "{name}", "other": "o\"}" }));
    assert_eq!(request.body, json!({ "name": "{other}{ext}", "line": "{other}{ext}!o\"}" }));
}

#[test]
fn a_header_value_with_a_line_break_is_refused_before_anything_is_sent() {
    let engine = engine(TOOLS);
    for given in ["x\r\nX-Admin: 1", "x\nX-Admin: 1", "x\ry", "\u{0}", "a\u{7f}", "\u{1b}]0;pwn\u{7}"] {
        let error = refused(&engine, "shop_get", json!({ "id": "7", "ref": given }));
        assert_eq!(error.kind(), ErrorKind::Invalid, "{given:?}");
        assert!(error.to_string().contains("header `x-ref`") && !error.to_string().contains("X-Admin"), "{error}");
    }
    assert_eq!(rendered(&engine, "shop_get", json!({ "id": "7", "ref": "fine" })).headers["x-ref"], "r fine");
}

#[test]
fn a_quote_in_a_value_does_not_end_a_clause_of_a_query_language() {
    let engine = engine(TOOLS);
    let hostile = "' OR '1'='1\"}){^ORactive=false\n";
    let url = url_of(&engine, "shop_query", json!({ "odata": hostile, "kql": hostile, "sysparm": hostile, "soql": hostile }));
    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    let value = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).unwrap();
    assert_eq!(value("filter"), "name eq ''' OR ''1''=''1\"}){^ORactive=false\n'");
    assert_eq!(value("search"), "\"' OR '1'='1 }){^ORactive=false\n\"");
    assert_eq!(value("sysparm_query").matches('^').count(), 1, "{}", value("sysparm_query"));
    assert_eq!(value("soql"), "Name = '\\' OR \\'1\\'=\\'1\\\"}){^ORactive=false\\n'");
}

#[test]
fn a_megabyte_in_any_place_is_handled_at_once() {
    let engine = engine(TOOLS);
    let long = "x/".repeat(512 * 1024);
    let start = std::time::Instant::now();
    let url = url_of(&engine, "shop_get", json!({ "id": long, "q": long }));
    assert_eq!(segments(&url).len(), 4);
    let request = rendered(&engine, "shop_part", json!({ "name": long, "ext": "y" }));
    assert_eq!(request.body["name"].as_str().map(str::len), Some(long.len()));
    // Generous for a debug build on a busy machine; a quadratic way of escaping would take minutes.
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    let error = refused(&engine, &long[..200], json!({}));
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let error = refused(&engine, "shop_get", json!({ "id": "7", (long): 1 }));
    assert!(error.to_string().len() < 400, "{} characters", error.to_string().len());
}

#[test]
fn an_argument_cannot_name_a_setting_or_a_secret() {
    let engine = engine("tools: [{ name: shop_get, method: GET, path: /a, query: { q: \"{q}\" } }]");
    let cx = connector_core::CallCx::new(Arc::new(Connection::new("shop", "https://api.example/v1").unwrap().with_setting("mailbox", "private")));
    let url = engine.render(&cx, &call("shop_get", json!({ "q": "{mailbox} ${HOME} ${secret:x}" }))).unwrap().url;
    assert_eq!(url, "https://api.example/v1/a?q=%7Bmailbox%7D%20$%7BHOME%7D%20$%7Bsecret:x%7D");
}

#[test]
fn a_cursor_from_elsewhere_is_refused_and_never_followed_to_another_host() {
    let engine = engine(
        "tools:
  - { name: shop_links, method: GET, path: /a, pagination: { kind: link_header, items: . } }
  - { name: shop_list, method: GET, path: /a, pagination: { kind: cursor, next: .next, param: after } }
  - { name: shop_plain, method: GET, path: /a }",
    );
    let with = |tool: &str, cursor: &str| {
        engine.render(&cx(), &OpCall::new(tool, args(json!({}))).with_cursor(Some(connector_core::connector::Cursor::new(cursor))))
    };
    for cursor in ["1~https://evil.example/a", "1~http://api.example/v1/a", "1~https://api.example:8443/v1/a", "1~https://api.example@evil.example/"]
    {
        let error = with("shop_links", cursor).unwrap_err();
        assert!(error.to_string().contains("another host") && error.kind() == ErrorKind::Protocol, "{cursor}: {error}");
    }
    assert!(with("shop_links", "1~file:///etc/passwd").is_err() && with("shop_links", "1~not an address").is_err());
    for cursor in ["", "7", "~", "x~7", "-1~7"] {
        assert_eq!(with("shop_list", cursor).unwrap_err().kind(), ErrorKind::Invalid, "{cursor:?}");
    }
    assert_eq!(with("shop_list", "1~a&b=c/../x").unwrap().url, "https://api.example/v1/a?after=a%26b%3Dc/../x");
    assert!(with("shop_plain", "1~7").unwrap_err().to_string().contains("not paged"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// promises.md X7: whatever the argument, host, scheme, port and the number of segments stay.
    #[test]
    fn whatever_the_argument_the_request_goes_to_the_same_place(id in ".*", name in ".*", ext in ".*", q in ".*", base in 0..3_usize) {
        let base = ["https://api.example/v1", "https://api.example:8443", "http://[2001:db8::1]/a/b/"][base];
        let cx = connector_core::CallCx::new(Arc::new(Connection::new("shop", base).unwrap()));
        let engine = engine(TOOLS);
        let before: Url = base.parse().unwrap();
        let depth = before.path().trim_end_matches('/').matches('/').count();
        for (call, count) in [
            (call("shop_get", json!({ "id": id, "q": q })), 3),
            (call("shop_part", json!({ "name": name, "ext": ext })), 3),
        ] {
            match engine.render(&cx, &call) {
                Ok(request) => {
                    let url: Url = request.url.parse().unwrap();
                    prop_assert_eq!(url.origin(), before.origin());
                    prop_assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none());
                    prop_assert_eq!(url.path_segments().unwrap().count(), depth + count, "{}", url);
                    prop_assert!(url.path().starts_with(before.path().trim_end_matches('/')), "{}", url);
                }
                Err(error) => prop_assert_eq!(error.kind(), ErrorKind::Invalid),
            }
        }
    }
}
