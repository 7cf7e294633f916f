//! 1 to 10: bodies.

use std::time::Duration;

use connector_core::{TenantId, state::AuditFilter};
use tokio::io::AsyncWriteExt as _;

use super::{
    INVALID, TIMEOUT, TOO_LARGE, UNAUTHORIZED, UNSUPPORTED,
    wire::{CANARY, CAP, CRM, Hub, NOW, pairs, read_reply, request},
};

const RECEIVED: &str = "integration_http_received_bytes_total{}";
/// What may be read beyond a body's cap.
const PAST: f64 = 65_536.0;

fn json_of(size: usize) -> Vec<u8> {
    let frame = format!(r#"{{"id":"e1","fill":"{CANARY}"}}"#);
    frame.replace(CANARY, &format!("{CANARY}{}", "x".repeat(size - frame.len()))).into_bytes()
}

#[tokio::test]
async fn item_01_body_one_byte_over_cap_is_413() {
    let hub = Hub::start().await;
    assert_eq!(hub.send(&Hub::delivery(&json_of(CAP))).await.status, 202, "the cap itself fits");
    let over = Hub::delivery(&json_of(CAP + 1));
    let before = hub.seen.value(RECEIVED);
    hub.refuses(&over, 413, TOO_LARGE).await;
    let (reply, closed) = hub.exchange(&over).await;
    assert_eq!((reply.status, reply.header("connection")), (413, Some("close")));
    assert!(closed.is_some(), "the connection is closed");
    #[allow(clippy::cast_precision_loss, reason = "a mebibyte")]
    let most = 2.0 * (CAP as f64 + PAST);
    assert!(hub.seen.value(RECEIVED) - before <= most, "{}", hub.seen.value(RECEIVED) - before);
    assert_eq!(hub.kept().await.len(), 1);
}

#[tokio::test]
async fn item_02_chunked_endless_body_is_413_at_the_cap() {
    let hub = Hub::start().await;
    let (mut from, mut to) = hub.connect().await.into_split();
    let head = format!("POST {CRM} HTTP/1.1\r\nhost: hub.example\r\ntransfer-encoding: chunked\r\n\r\n");
    let chunk = [b"2000\r\n".as_slice(), &[b'x'; 0x2000], b"\r\n"].concat();
    let writing = tokio::spawn(async move {
        to.write_all(head.as_bytes()).await.unwrap();
        let mut sent = 0_u64;
        while to.write_all(&chunk).await.is_ok() {
            sent += 0x2000;
        }
        sent
    });
    let reply = read_reply(&mut from, &mut Vec::new()).await.unwrap();
    assert_eq!((reply.status, reply.body.as_str()), (413, TOO_LARGE));
    // It goes on sending for as long as it can; nobody reads it.
    let sent = tokio::time::timeout(Duration::from_secs(10), writing).await.expect("the connection is closed in the end").unwrap();
    assert!(sent > 0);
    #[allow(clippy::cast_precision_loss, reason = "a mebibyte")]
    let most = CAP as f64 * 1.002 + PAST;
    assert!(hub.seen.value(RECEIVED) <= most, "{} of {sent}", hub.seen.value(RECEIVED));
    assert!(hub.kept().await.is_empty());
}

#[tokio::test]
async fn item_02_body_that_does_not_arrive_is_408_at_its_time() {
    let hub = Hub::with(|settings| {
        assert_eq!(settings.ingress_body, Duration::from_secs(10), "the contract");
        settings.ingress_body = Duration::from_millis(150);
    })
    .await;
    let half = format!("POST {CRM} HTTP/1.1\r\nhost: hub.example\r\ncontent-length: 1000\r\n\r\n{{\"id\":");
    let chunk = format!("POST {CRM} HTTP/1.1\r\nhost: hub.example\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n");
    for begun in [half, chunk] {
        hub.refuses(begun.as_bytes(), 408, TIMEOUT).await;
        let (reply, closed) = hub.exchange(begun.as_bytes()).await;
        assert_eq!((reply.status, reply.header("connection"), closed.is_some()), (408, Some("close"), true));
    }
}

#[tokio::test]
async fn item_02_body_cut_off_is_not_taken_for_whole() {
    let hub = Hub::start().await;
    let body = br#"{"id":"e1"}"#;
    let whole = Hub::delivery(body);
    let mut stream = hub.connect().await;
    stream.write_all(&whole[..whole.len() - 1]).await.unwrap();
    stream.shutdown().await.unwrap();
    // There may be an answer or none; what counts is that nothing was believed.
    if let Some(reply) = read_reply(&mut stream, &mut Vec::new()).await {
        assert_eq!((reply.status, reply.body.as_str()), (400, INVALID));
    }
    assert!(hub.kept().await.is_empty());
}

#[tokio::test]
async fn item_03_gzip_bomb_is_415_unopened() {
    let hub = Hub::start().await;
    // The beginning of a gzip stream of zeros; it is never looked at, so its rest does not matter.
    let mut bomb = b"\x1f\x8b\x08\0\0\0\0\0\0\x03".to_vec();
    bomb.resize(CAP, 0);
    for encoding in ["gzip", "GZIP", "deflate", "br", "zstd", "x-gzip"] {
        hub.refuses(&Hub::signed(&bomb, NOW, &[("content-encoding", encoding)]), 415, UNSUPPORTED).await;
    }
}

#[tokio::test]
async fn item_04_nested_gzip_is_415() {
    let hub = Hub::start().await;
    hub.refuses(&Hub::signed(b"{}", NOW, &[("content-encoding", "gzip, gzip, gzip, gzip, gzip")]), 415, UNSUPPORTED).await;
    hub.refuses(&Hub::signed(b"{}", NOW, &[("content-encoding", "identity"), ("content-encoding", "gzip")]), 415, UNSUPPORTED).await;
}

#[tokio::test]
async fn item_05_json_depth_10000_is_400() {
    let hub = Hub::start().await;
    hub.refuses(&Hub::delivery(&[b"[".repeat(10_000), b"]".repeat(10_000)].concat()), 400, INVALID).await;
    let deep = |depth: usize| [br#"{"a":"#.repeat(depth), b"1".to_vec(), b"}".repeat(depth)].concat();
    hub.refuses(&Hub::delivery(&deep(65)), 400, INVALID).await;
    assert_eq!(hub.send(&Hub::delivery(&deep(64))).await.status, 202);
}

#[tokio::test]
async fn item_06_json_100000_keys_is_400() {
    let hub = Hub::start().await;
    let keys = |count: usize| format!("{{{}}}", (0..count).map(|n| format!("\"{n:x}\":0")).collect::<Vec<_>>().join(",")).into_bytes();
    assert!(keys(100_000).len() <= CAP);
    hub.refuses(&Hub::delivery(&keys(100_000)), 400, INVALID).await;
    hub.refuses(&Hub::delivery(&keys(10_001)), 400, INVALID).await;
    assert_eq!(hub.send(&Hub::delivery(&keys(10_000))).await.status, 202);
}

#[tokio::test]
async fn item_07_duplicate_key_in_a_signed_envelope_is_400_and_audited() {
    let hub = Hub::start().await;
    for body in [format!(r#"{{"id":"{CANARY}","id":"e2"}}"#), format!(r#"{{"id":"e1","data":[{{"x":"{CANARY}","\u0078":2}}]}}"#)] {
        hub.refuses(&Hub::delivery(body.as_bytes()), 400, INVALID).await;
    }
    let trail = hub.runtime.audit_tail(&TenantId::default(), AuditFilter::default()).await.unwrap();
    assert_eq!(trail.len(), 2, "{trail:?}");
    for entry in &trail {
        let record = &entry.record;
        assert_eq!((&*record.operation, record.connection.as_str(), record.error.as_deref()), ("webhook.receive", "crm", Some("invalid")));
        assert!(!format!("{record:?}").contains(CANARY));
    }
    // One that nothing proves is nobody's: whoever could write to the trail could fill it.
    hub.refuses(&request("POST", CRM, &[], br#"{"id":1,"id":2}"#), 401, UNAUTHORIZED).await;
    assert_eq!(hub.runtime.audit_tail(&TenantId::default(), AuditFilter::default()).await.unwrap().len(), 2);
}

#[tokio::test]
async fn item_08_numbers_that_lose_digits_are_400() {
    let hub = Hub::start().await;
    for number in ["1e400", "-1e400", "1234567890123456789012345678901234567890", "18446744073709551616", "NaN", "Infinity", "01", "0x10"] {
        hub.refuses(&Hub::delivery(format!(r#"{{"id":"{CANARY}","amount":{number}}}"#).as_bytes()), 400, INVALID).await;
    }
    // What fits is kept digit by digit.
    let exact = br#"{"id":"e1","amount":12345678.90,"big":18446744073709551615}"#;
    assert_eq!(hub.send(&Hub::delivery(exact)).await.status, 202);
    assert_eq!(hub.kept().await[0].payload, exact.as_slice());
}

#[tokio::test]
async fn item_09_text_that_is_none_is_400_and_the_signature_is_over_the_raw_bytes() {
    let hub = Hub::start().await;
    let bodies: [&[u8]; 6] =
        [b"{\"id\":\"\xff\xfe\"}", br#"{"id":"\ud800"}"#, b"\xef\xbb\xbf{\"id\":\"e1\"}", b"{\"id\":\"a\0b\"}", br#"{"id":"a\u0000b"}"#, b"\xc0\xaf"];
    for body in bodies {
        hub.refuses(&Hub::delivery(body), 400, INVALID).await;
        // Not proven, not read: the same bytes under a signature that is not over them.
        let mut forged = Hub::delivery(b"{}");
        let cut = forged.len() - 2;
        forged.truncate(cut);
        forged.extend_from_slice(body);
        let forged = String::from_utf8_lossy(&forged).replace("content-length: 2\r\n", &format!("content-length: {}\r\n", body.len()));
        if forged.contains('\u{fffd}') {
            continue;
        }
        hub.refuses(forged.as_bytes(), 401, UNAUTHORIZED).await;
    }
}

#[tokio::test]
async fn item_10_json_under_another_content_type_is_verified_then_415() {
    let hub = Hub::start().await;
    for kind in ["text/html", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json, text/html", "\u{e9}"] {
        hub.refuses(&Hub::signed(br#"{"id":"e1"}"#, NOW, &[("content-type", kind)]), 415, UNSUPPORTED).await;
        // Who proves nothing does not learn what is read.
        hub.refuses(&request("POST", CRM, &pairs(&[("content-type", kind)]), br#"{"id":"e1"}"#), 401, UNAUTHORIZED).await;
    }
    for (n, kind) in ["application/json; charset=utf-8", "APPLICATION/JSON", "application/cloudevents+json", "text/json"].into_iter().enumerate() {
        let body = format!(r#"{{"id":"e{n}"}}"#);
        assert_eq!(hub.send(&Hub::signed(body.as_bytes(), NOW, &[("content-type", kind)])).await.status, 202, "{kind}");
    }
}
