//! Answers that are not what an API promises: login pages, nothing at all, half a document, too much of it, the wrong charset. Each is a
//! protocol failure at once; none hangs, panics or gets through as data.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    CallCx, ErrorKind, OpCall, Result,
    transport::{Body, Request, Response, Transport},
};
use connector_testkit::transport::{Replay, Step};
use futures_util::stream::{self, StreamExt as _};
use serde_json::json;

use crate::common::{args, builder, cx, over, run};

const TOOLS: &str = "models: { Thing: { doc: A thing., fields: { id: string } } }
tools:
  - { name: shop_get, method: GET, path: /a }
  - { name: shop_thing, method: GET, path: /a, returns: Thing }
  - { name: shop_maybe, method: GET, path: /a, returns: 'Thing?' }
  - { name: shop_list, method: GET, path: /a, pagination: { kind: cursor, next: .next, param: after } }
  - { name: shop_map, method: GET, path: /a, response_map: { id: .data.id } }
  - { name: shop_select, method: GET, path: /a, select: .data }
  - { name: shop_post, method: POST, path: /a }
  - { name: shop_none, method: POST, path: /a, returns: none }";

const JSON_TOOLS: [&str; 6] = ["shop_get", "shop_thing", "shop_list", "shop_map", "shop_select", "shop_post"];

#[tokio::test]
async fn what_is_not_json_is_a_protocol_failure_whatever_the_tool_makes_of_it() {
    let bodies: [(&str, &[u8]); 11] = [
        ("a login page", b"<!DOCTYPE html><html><form action=/login>"),
        ("a page after blanks", b"\r\n  <html>"),
        ("plain words", b"OK"),
        ("blanks", b"  \n "),
        ("half an object", br#"{"next":"2","results":[{"id":"1"#),
        ("half a text", br#"{"id":"abc"#),
        ("two documents", br#"{"id":"1"} {"id":"2"}"#),
        ("rubbish after it", br#"{"id":"1"}<!-- 3ms -->"#),
        ("a wrong charset", b"{\"id\":\"caf\xe9\"}"),
        ("UTF-16", b"\xff\xfe{\0}\0"),
        ("a control character in a text", b"{\"id\":\"a\nb\"}"),
    ];
    for (what, body) in bodies {
        for tool in JSON_TOOLS {
            let step = Step::text(200, "text/html; charset=iso-8859-1", body.to_vec());
            let error = run(&over(TOOLS, Replay::new([step])), tool, json!({})).await.expect_err(&format!("{what}, {tool}"));
            assert_eq!(error.kind(), ErrorKind::Protocol, "{what}, {tool}: {error}");
            assert!(!format!("{error} {error:?}").contains("caf"), "{error:?}");
        }
    }
}

#[tokio::test]
async fn a_web_page_is_no_success_even_where_nobody_reads_the_answer() {
    for page in ["<!DOCTYPE html><html><form action=/login>", "\r\n  <html>"] {
        let step = Step::text(200, "text/html; charset=utf-8", page);
        let error = run(&over(TOOLS, Replay::new([step])), "shop_none", json!({})).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    }
    let step = Step::text(200, "application/json", r#"{"ok":true}"#);
    assert!(run(&over(TOOLS, Replay::new([step])), "shop_none", json!({})).await.unwrap().body.to_value().unwrap().is_null());
}

#[tokio::test]
async fn an_empty_200_is_no_answer_where_one_was_promised() {
    for tool in ["shop_thing", "shop_list", "shop_map", "shop_select"] {
        let error = run(&over(TOOLS, Replay::new([Step::empty(200)])), tool, json!({})).await.expect_err(tool);
        assert_eq!(error.kind(), ErrorKind::Protocol, "{tool}: {error}");
    }
    // Where nothing was promised, or the status says that there is nothing, it is one.
    for (tool, status) in [("shop_none", 200), ("shop_get", 200), ("shop_maybe", 200), ("shop_post", 202), ("shop_thing", 204), ("shop_map", 204)] {
        let reply = run(&over(TOOLS, Replay::new([Step::empty(status)])), tool, json!({})).await.unwrap();
        assert!(reply.body.to_value().unwrap().is_null(), "{tool} {status}");
    }
}

#[tokio::test]
async fn deep_nesting_is_refused_without_a_stack_overflow() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for tool in JSON_TOOLS {
        // Bytes nobody looks into are passed on; whoever builds values of them is told.
        let reply = run(&over(TOOLS, Replay::new([Step::text(200, "application/json", deep.clone())])), tool, json!({})).await;
        let Err(error) = reply.and_then(|reply| reply.body.to_value()) else { panic!("{tool} built values 100,000 deep") };
        assert_eq!(error.kind(), ErrorKind::Protocol, "{tool}");
    }
    let error = run(&over(TOOLS, Replay::new([Step::text(500, "application/json", deep)])), "shop_get", json!({})).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient);
}

/// Streams zeros for ever and counts how many bytes were taken.
struct Endless {
    taken: Arc<AtomicUsize>,
    announced: Option<u64>,
}

impl fmt::Debug for Endless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Endless")
    }
}

#[async_trait]
impl Transport for Endless {
    async fn send(&self, _: &CallCx, _: Request) -> Result<Response> {
        let taken = self.taken.clone();
        let chunk = Bytes::from(vec![b'0'; 64 * 1024]);
        let chunks = stream::repeat_with(move || {
            taken.fetch_add(chunk.len(), Ordering::Relaxed);
            Ok(chunk.clone())
        });
        let body = Body::Stream { chunks: chunks.boxed(), length: self.announced };
        Ok(http::Response::builder().status(200).body(body).unwrap())
    }
}

#[tokio::test]
async fn a_body_without_end_is_given_up_at_the_cap() {
    for (announced, most) in [(None, 2 << 20), (Some(10 << 30), 0), (Some(5), 2 << 20)] {
        let taken = Arc::new(AtomicUsize::new(0));
        let engine = builder(TOOLS).body_cap(1 << 20).transport(Arc::new(Endless { taken: taken.clone(), announced })).build().unwrap();
        let error = run(&engine, "shop_get", json!({})).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert!(error.to_string().contains("longer than 1048576 bytes"), "{error}");
        assert!(taken.load(Ordering::Relaxed) <= most, "{announced:?}: {} bytes were read", taken.load(Ordering::Relaxed));
    }
    let engine = builder(TOOLS).body_cap(8).transport(Arc::new(Replay::new([Step::json(200, json!([1, 2, 3, 4, 5]))]))).build().unwrap();
    assert_eq!(run(&engine, "shop_get", json!({})).await.unwrap_err().kind(), ErrorKind::Protocol);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_never_comes_ends_with_the_timeout() {
    use connector_core::layer::stack::StackParts;
    let client = connector_manifest::assemble(over(TOOLS, Replay::new([Step::Hang, Step::Hang])), &StackParts::default());
    let start = tokio::time::Instant::now();
    let error = client.call(&cx(), OpCall::new("shop_get", args(json!({})))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(start.elapsed() <= Duration::from_secs(60), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_typed_reply_of_another_shape_is_a_protocol_failure_that_quotes_nothing() {
    #[derive(Debug, serde::Deserialize)]
    struct Thing {
        #[allow(dead_code, reason = "only read by serde")]
        id: u64,
    }
    let engine = over(TOOLS, Replay::new([Step::json(200, json!({ "id": "canary-4711" }))]));
    let call = OpCall::new("shop_thing", args(json!({}))).decoding::<Thing>();
    let error = connector_core::Connector::call(&engine, &cx(), call).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
    assert!(error.to_string().contains("documented shape"), "{error}");
}
