//! More than fits, and the end: who is told to come again, who is answered whatever happens, and what a stop does to whom. Over real sockets.
#![allow(clippy::unwrap_used, reason = "a test may fail this way")]

#[path = "bad_input/wire.rs"]
mod wire;

use std::time::Duration;

use axum::http::Request;
use connector_hub::http::server::Drained;
use connector_runtime::Role;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use wire::{CRM, Hub, bearer, pairs, read_reply, request};

/// A request whose body is not complete, held open.
async fn begun(hub: &Hub, whole: &[u8]) -> TcpStream {
    let mut stream = hub.connect().await;
    stream.write_all(&whole[..whole.len() - 1]).await.unwrap();
    stream
}

/// Waits until the hub counts as many, so that what was sent is there.
async fn counted(hub: &Hub, name: &str, count: usize) {
    let all = async {
        #[allow(clippy::cast_precision_loss, clippy::float_cmp, reason = "a small whole number")]
        while hub.seen.value(name) != count as f64 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), all).await.unwrap_or_else(|_| panic!("{name} is {}", hub.seen.value(name)));
}

const REQUESTS: &str = "integration_http_requests_in_flight{}";
const INGRESS: &str = "integration_ingress_in_flight{}";
const CONNECTIONS: &str = "integration_http_connections{}";

#[tokio::test]
async fn reads_are_shed_first_then_everything_but_health_and_approvals() {
    let hub = Hub::with(|settings| settings.requests = 4).await;
    let key = hub.key(Role::Admin).await;
    let slow = request("POST", "/api/v1/keys", &[bearer(&key)], br#"{"role":"viewer","workspaces":["*"]}"#);
    let get = |path: &str| request("GET", path, &[bearer(&key)], b"");
    let mut held = Vec::new();
    for count in 1..=3 {
        held.push(begun(&hub, &slow).await);
        counted(&hub, REQUESTS, count).await;
    }
    let shed = hub.send(&get("/api/v1/tools")).await;
    assert_eq!((shed.status, shed.header("retry-after"), shed.header("content-type")), (503, Some("1"), Some("application/problem+json")));
    let call = request("POST", "/api/v1/tools/crm_note/execute", &[bearer(&key)], br#"{"params":{"id":"1","note":"x"}}"#);
    assert_eq!(hub.send(&call).await.status, 503, "a call that only reads is a read");
    assert_eq!(hub.send(&Hub::delivery(br#"{"id":"e1"}"#)).await.status, 202, "there is room for the rest");
    held.push(begun(&hub, &slow).await);
    counted(&hub, REQUESTS, 4).await;
    let full = hub.send(&Hub::delivery(br#"{"id":"e2"}"#)).await;
    assert_eq!((full.status, full.body.as_str(), full.header("retry-after")), (503, r#"{"status":"try_again"}"#, Some("1")));
    for path in ["/healthz", "/readyz", "/metrics", "/api/v1/approvals"] {
        let status = hub.send(&get(path)).await.status;
        // This hub does not render its counters.
        assert_eq!(status, if path == "/metrics" { 404 } else { 200 }, "{path}");
    }
    assert!((hub.seen.value("integration_http_shed_total{class=read}") - 1.0).abs() < 0.1);
    assert!((hub.seen.value("integration_http_shed_total{class=ingress}") - 1.0).abs() < 0.1);
    // What was let in is finished.
    for stream in &mut held {
        stream.write_all(b"}").await.unwrap();
        assert_eq!(read_reply(stream, &mut Vec::new()).await.unwrap().status, 201);
    }
    counted(&hub, REQUESTS, 0).await;
    assert_eq!(hub.send(&get("/api/v1/tools")).await.status, 200);
}

#[tokio::test]
async fn deliveries_have_a_cap_of_their_own_and_so_have_their_bytes() {
    let hub = Hub::with(|settings| (settings.ingress, settings.ingress_bytes) = (2, 4_000)).await;
    let delivery = |n: usize, size: usize| Hub::delivery(format!(r#"{{"id":"e{n}","fill":"{}"}}"#, "x".repeat(size)).as_bytes());
    let again = r#"{"status":"try_again"}"#;
    let mut held = vec![begun(&hub, &delivery(1, 1_000)).await, begun(&hub, &delivery(2, 1_000)).await];
    counted(&hub, INGRESS, 2).await;
    let third = hub.send(&delivery(3, 10)).await;
    assert_eq!((third.status, third.body.as_str(), third.header("retry-after")), (503, again, Some("1")));
    held.pop();
    counted(&hub, INGRESS, 1).await;
    let large = hub.send(&delivery(4, 3_500)).await;
    assert_eq!((large.status, large.body.as_str(), large.header("retry-after")), (503, again, Some("1")), "there is no room for its bytes");
    assert_eq!(hub.send(&delivery(5, 10)).await.status, 202);
    held[0].write_all(b"}").await.unwrap();
    assert_eq!(read_reply(&mut held[0], &mut Vec::new()).await.unwrap().status, 202);
    assert_eq!(hub.send(&delivery(4, 3_500)).await.status, 202, "the vendor came again");
    assert_eq!(hub.kept().await.len(), 3, "and what was refused was not kept before");
}

#[tokio::test]
async fn health_answers_while_slow_senders_hold_every_connection() {
    let hub = Hub::with(|settings| settings.connections = 16).await;
    let mut slow = Vec::new();
    for n in 0..60 {
        let mut stream = hub.connect().await;
        // Half of them say nothing at all.
        if n % 2 == 0 {
            stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: hub").await.unwrap();
        }
        slow.push(stream);
        if n % 20 == 19 {
            let probe = tokio::time::timeout(Duration::from_secs(1), hub.send(b"GET /healthz HTTP/1.1\r\n\r\n")).await;
            assert_eq!(probe.expect("an answer within a second").status, 200);
        }
    }
    assert!(hub.seen.value("integration_http_evicted_total{}") >= 30.0, "{}", hub.seen.value("integration_http_evicted_total{}"));
    assert!(hub.seen.value(CONNECTIONS) <= 20.0, "{}", hub.seen.value(CONNECTIONS));
}

#[tokio::test]
async fn connections_above_the_cap_are_for_probes_and_deciders_while_all_others_are_busy() {
    let hub = Hub::with(|settings| settings.connections = 2).await;
    let key = hub.key(Role::Admin).await;
    let slow = request("POST", "/api/v1/keys", &[bearer(&key)], br#"{"role":"viewer","workspaces":["*"]}"#);
    let _held = [begun(&hub, &slow).await, begun(&hub, &slow).await];
    counted(&hub, REQUESTS, 2).await;
    let get = |path: &str| request("GET", path, &[bearer(&key)], b"");
    let refused = hub.send(&get("/api/v1/tools")).await;
    assert_eq!((refused.status, refused.header("retry-after"), refused.header("connection")), (503, Some("1"), Some("close")));
    assert_eq!(hub.send(&get("/api/v1/approvals")).await.status, 200);
    assert_eq!(hub.send(&get("/readyz")).await.status, 200);
}

#[tokio::test]
async fn a_head_has_its_time_and_so_has_an_idle_connection() {
    let hub = Hub::with(|settings| {
        assert_eq!((settings.head, settings.idle), (Duration::from_secs(10), Duration::from_secs(75)), "the contract");
        (settings.head, settings.idle) = (Duration::from_millis(80), Duration::from_millis(80));
    })
    .await;
    for begun in [&b""[..], b"GET /healthz HTTP/1.1\r\nhost: ", b"GET /healthz HTTP/1.1\r\nhost: hub.example\r\n\r\n"] {
        let mut stream = hub.connect().await;
        stream.write_all(begun).await.unwrap();
        let mut seen = Vec::new();
        if begun.ends_with(b"\r\n\r\n") {
            assert_eq!(read_reply(&mut stream, &mut seen).await.unwrap().status, 200);
        }
        assert_eq!(read_reply(&mut stream, &mut seen).await, None, "closed without a word");
    }
    counted(&hub, CONNECTIONS, 0).await;
}

#[tokio::test]
async fn one_connection_serves_many_requests_also_when_they_come_all_at_once() {
    let hub = Hub::start().await;
    let mut stream = hub.connect().await;
    let all: Vec<u8> = (0..50).flat_map(|n| Hub::delivery(format!(r#"{{"id":"e{n}"}}"#).as_bytes())).collect();
    stream.write_all(&all).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..50 {
        assert_eq!(read_reply(&mut stream, &mut seen).await.unwrap().status, 202);
    }
    assert_eq!(hub.kept().await.len(), 50);
}

#[tokio::test]
async fn http2_is_held_to_the_same_rules() {
    let hub = Hub::start().await;
    let key = hub.key(Role::Viewer).await;
    let (mut client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(hub.connect().await)).await.unwrap();
    tokio::spawn(connection);
    let mut ask = async |path: &str, many: usize| {
        let mut request = Request::get(path).header("authorization", format!("Bearer {key}"));
        for n in 0..many {
            request = request.header(format!("x-{n}"), "v");
        }
        client.ready().await.unwrap();
        let response = client.send_request(request.body(Empty::<axum::body::Bytes>::new()).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        response.into_body().collect().await.unwrap();
        status
    };
    assert_eq!(ask("http://hub.example/api/v1/tools", 0).await, 200);
    assert_eq!(ask("http://evil.example/api/v1/tools", 0).await, 403);
    assert_eq!(ask("http://hub.example/api/v1/tools", 100).await, 431);
    assert_eq!(ask("http://hub.example/api/v1/tools", 0).await, 200);
}

#[tokio::test]
async fn a_stop_says_no_to_probes_at_once_and_lets_what_is_in_flight_finish() {
    let mut hub = Hub::with(|settings| settings.drain_delay = Duration::from_millis(300)).await;
    let mut idle = hub.connect().await;
    idle.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(read_reply(&mut idle, &mut Vec::new()).await.unwrap().header("connection"), None);
    let mut held = begun(&hub, &Hub::delivery(br#"{"id":"held"}"#)).await;
    counted(&hub, INGRESS, 1).await;
    let asked = std::time::Instant::now();
    hub.stop();
    while hub.send(b"GET /readyz HTTP/1.1\r\n\r\n").await.status != 503 {
        assert!(asked.elapsed() < Duration::from_millis(300), "probes are told before anything else happens");
    }
    let late = hub.send(&Hub::delivery(br#"{"id":"late"}"#)).await;
    assert_eq!((late.status, late.header("connection")), (202, Some("close")), "still served, and sent elsewhere");
    let stream = hub.send(&request("GET", "/api/v1/stream", &pairs(&[]), b"")).await;
    assert_eq!(stream.status, 503, "a stream would end at once");
    // The idle one is closed when nothing is accepted any more, and from then on nobody gets in.
    assert_eq!(read_reply(&mut idle, &mut Vec::new()).await, None);
    assert!(TcpStream::connect(hub.address).await.is_err());
    held.write_all(b"}").await.unwrap();
    let reply = read_reply(&mut held, &mut Vec::new()).await.unwrap();
    assert_eq!((reply.status, reply.header("connection")), (202, Some("close")));
    assert_eq!(read_reply(&mut held, &mut Vec::new()).await, None, "closed");
    drop(held);
    assert_eq!(hub.drained().await, Drained { cut: 0 });
    assert_eq!(hub.kept().await.len(), 2);
}

#[tokio::test]
async fn what_does_not_finish_in_time_is_cut_off() {
    let mut hub = Hub::with(|settings| {
        (settings.drain_delay, settings.drain_timeout) = (Duration::from_millis(20), Duration::from_millis(100));
    })
    .await;
    let mut held = begun(&hub, &Hub::delivery(br#"{"id":"held"}"#)).await;
    counted(&hub, INGRESS, 1).await;
    hub.stop();
    assert_eq!(hub.drained().await, Drained { cut: 1 });
    assert_eq!(read_reply(&mut held, &mut Vec::new()).await, None);
    assert!(hub.kept().await.is_empty());
}

#[tokio::test]
async fn twenty_stale_deliveries_in_a_row_make_a_clock_suspect_and_a_fresh_one_clears_it() {
    let hub = Hub::start().await;
    let key = hub.key(Role::Viewer).await;
    let health = async || {
        let reply = hub.send(&request("GET", "/api/connectors/health", &[bearer(&key)], b"")).await;
        let all: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
        all.as_array().unwrap().iter().find(|one| one["connection"] == "crm").unwrap()["warnings"].clone()
    };
    for n in 0..20 {
        assert_eq!(health().await, serde_json::json!([]), "after {n}");
        assert_eq!(hub.send(&Hub::signed(b"{}", wire::NOW - 400, &[])).await.status, 401);
    }
    assert!(health().await[0].as_str().unwrap().starts_with("clock skew suspected"), "{}", health().await);
    assert_eq!(hub.send(&request("POST", CRM, &[], b"{}")).await.status, 401, "a forgery changes nothing");
    assert!(!health().await.as_array().unwrap().is_empty());
    assert_eq!(hub.send(&Hub::delivery(b"{}")).await.status, 202);
    assert_eq!(health().await, serde_json::json!([]));
}
