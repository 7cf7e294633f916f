//! 20 to 25 and 41: addresses, framing, heads, headers that lie, names, ids.

use connector_runtime::Role;

use super::{
    INVALID, NOT_FOUND, UNAUTHORIZED,
    wire::{CANARY, CRM, Hub, NOW, bearer, pairs, request},
};

#[tokio::test]
async fn item_20_path_ids_that_are_no_names_are_404_all_alike() {
    let hub = Hub::start().await;
    let unknown = hub.send(&request("POST", "/api/v1/webhooks/nobody/support", &[], b"{}")).await;
    assert_eq!((unknown.status, unknown.body.as_str()), (404, NOT_FOUND));
    for path in [
        "/api/v1/webhooks/../crm/support",
        "/api/v1/webhooks/%2e%2e%2fcrm/support",
        "/api/v1/webhooks/%252e%252e/support",
        "/api/v1/webhooks/..;/crm/support",
        "/api/v1/webhooks/crm/%00",
        "/api/v1/webhooks/crm/support%00",
        "/api/v1/webhooks/crm/%E2%80%AEtroppus",
        "/api/v1/webhooks/CRM/support",
        "/api/v1/webhooks/crm/Support",
        "/api/v1/webhooks/crm//support",
        "/api/v1/webhooks/crm/support/",
        "/api/v1/webhooks/crm/%2Fetc%2Fpasswd",
        "/api/v1/webhooks/%D1%81rm/support",
        "/api/v1/webhooks/crm",
        "/api/v1/webhooks/",
    ] {
        hub.refuses(&request("POST", path, &[], b"{}"), 404, NOT_FOUND).await;
        let signed = String::from_utf8(Hub::delivery(br#"{"id":"e1"}"#)).unwrap().replace(CRM, path);
        hub.refuses(signed.as_bytes(), 404, NOT_FOUND).await;
    }
    // One decode, and a percent sign for a plain letter names the same webhook: it exists, and wants a proof.
    hub.refuses(&request("POST", "/api/v1/webhooks/%63rm/support", &[], b"{}"), 401, UNAUTHORIZED).await;
}

#[tokio::test]
async fn item_21_framing_that_two_parsers_read_differently_is_400_and_closed() {
    let hub = Hub::start().await;
    let smuggled = "GET /healthz HTTP/1.1\r\nhost: hub.example\r\n\r\n";
    let post = format!("POST {CRM} HTTP/1.1\r\nhost: hub.example\r\n");
    let corpus = [
        format!("{post}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"),
        format!("{post}transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n{smuggled}"),
        format!("{post}content-length: 2\r\ncontent-length: 2\r\n\r\n{{}}{smuggled}"),
        format!("{post}content-length: 2\r\ncontent-length: 60\r\n\r\n{{}}{smuggled}"),
        format!("{post}content-length: 2, 2\r\n\r\n{{}}{smuggled}"),
        format!("{post}content-length: +2\r\n\r\n{{}}{smuggled}"),
        format!("{post}content-length : 2\r\n\r\n{{}}{smuggled}"),
        format!("{post}content-length: 0x2\r\n\r\n{{}}{smuggled}"),
        format!("{post}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n{smuggled}"),
        format!("{post}transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n{smuggled}"),
        format!("{post}transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"),
        format!("{post}transfer-encoding:\u{b}chunked\r\n\r\n0\r\n\r\n{smuggled}"),
        format!("{post}x: a\r\n transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n{{}}{smuggled}"),
        format!("{post}x: a\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n{{}}{smuggled}"),
        format!("POST {CRM} HTTP/1.1\nhost: hub.example\ncontent-length: 2\n\n{{}}{smuggled}"),
        format!("{post}content-length: 2\r\n\n{{}}{smuggled}"),
        format!("POST {CRM} HTTP/1.0\r\nhost: hub.example\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"),
        format!("{post}x\0y: a\r\n\r\n{smuggled}"),
        format!("POST  {CRM} HTTP/1.1\r\n\r\n{smuggled}"),
        format!("POST {CRM} HTTP/1.9\r\nhost: hub.example\r\n\r\n{smuggled}"),
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0 a TLS hello\r\n\r\n".to_owned(),
    ];
    for text in corpus {
        let (reply, rest) = hub.exchange(text.as_bytes()).await;
        assert_eq!((reply.status, reply.body.as_str()), (400, ""), "{text:?}");
        assert_eq!(rest.as_deref(), Some(&b""[..]), "closed, and the second request is not answered: {text:?}");
        hub.told_nothing(&reply);
    }
    // In a body the head is over: the delivery is refused, and the connection closed.
    for chunk in ["5\nhello\r\n0\r\n\r\n", "g\r\n\r\n", "5 \r\nhello\r\n0\r\n\r\n", "5\r\nhelloworld\r\n0\r\n\r\n", "fffffffffffffffff\r\n"] {
        let (reply, rest) = hub.exchange(format!("{post}transfer-encoding: chunked\r\n\r\n{chunk}{smuggled}").as_bytes()).await;
        assert_eq!((reply.status, reply.body.as_str()), (400, INVALID), "{chunk:?}");
        assert_eq!(rest.as_deref(), Some(&b""[..]), "{chunk:?}");
    }
    assert!(hub.kept().await.is_empty());
}

#[tokio::test]
async fn item_22_a_head_with_101_fields_or_33_kib_is_431() {
    let hub = Hub::start().await;
    let many = |count: usize| (0..count).map(|n| (format!("x-{n}"), "v".to_owned())).collect::<Vec<_>>();
    let long = |size: usize| pairs(&[("x-long", &"v".repeat(size))]);
    let base = "GET /healthz HTTP/1.1\r\nhost: hub.example\r\n\r\n";
    for headers in [many(100), long(33 << 10)] {
        let (reply, rest) = hub.exchange(&request("GET", "/healthz", &headers, b"")).await;
        assert_eq!((reply.status, reply.body.as_str(), rest.is_some()), (431, "", true));
    }
    for headers in [many(99), long((31 << 10) - base.len())] {
        assert_eq!(hub.send(&request("GET", "/healthz", &headers, b"")).await.status, 200);
    }
    let line = request("GET", &format!("/healthz?{}", "q".repeat(33 << 10)), &[], b"");
    let (reply, _) = hub.exchange(&line).await;
    assert!(matches!(reply.status, 414 | 431), "{}", reply.status);
}

/// Values that become a header of a request to a vendor. SMTP addresses and IMAP mailboxes have no connector yet.
#[tokio::test]
async fn item_23_crlf_in_a_value_that_becomes_a_header_is_refused_before_anything_is_sent() {
    let hub = Hub::start().await;
    let key = hub.key(Role::Admin).await;
    for note in ["a\\r\\nX-Injected: b", "a\\nb", "a\\u0000b", "a\\rb"] {
        let body = format!(r#"{{"connection":"crm","params":{{"id":"1","note":"{note}"}}}}"#);
        let reply = hub.send(&request("POST", "/api/v1/tools/crm_note/execute", &[bearer(&key)], body.as_bytes())).await;
        assert_eq!(reply.status, 400, "{}", reply.body);
        assert!(!reply.body.contains("X-Injected"), "{}", reply.body);
        hub.told_nothing(&reply);
    }
    assert_eq!(hub.vendor.load(std::sync::atomic::Ordering::SeqCst), 0, "nobody connected to the vendor");
    let sound = br#"{"connection":"crm","params":{"id":"1","note":"a b"}}"#;
    let reply = hub.send(&request("POST", "/api/v1/tools/crm_note/execute", &[bearer(&key)], sound)).await;
    assert!(hub.vendor.load(std::sync::atomic::Ordering::SeqCst) > 0, "and without it somebody does: {}", reply.body);
}

#[tokio::test]
async fn item_24_forwarded_headers_of_strangers_are_ignored() {
    let hub = Hub::start().await;
    let key = hub.key(Role::Viewer).await;
    let spoofed = format!(
        "GET /api/v1/tools HTTP/1.1\r\nhost: evil.example\r\nx-forwarded-host: hub.example\r\nx-forwarded-for: 127.0.0.1\r\nforwarded: host=hub.example\r\n\
         authorization: Bearer {key}\r\n\r\n"
    );
    assert_eq!(hub.send(spoofed.as_bytes()).await.status, 403);
    assert!(hub.logs().contains("client=127.0.0.1"), "the peer itself is who it is");
    let honest =
        pairs(&[("x-forwarded-for", "203.0.113.9"), ("x-forwarded-host", "evil.example"), ("x-forwarded-proto", "https"), ("x-real-ip", "::1")]);
    let reply = hub.send(&request("GET", "/api/v1/tools", &[honest, vec![bearer(&key)]].concat(), b"")).await;
    assert_eq!(reply.status, 200, "and they take nothing from an honest caller");
}

/// HTTP only: there is no MCP endpoint yet.
#[tokio::test]
async fn item_25_wrong_host_or_origin_is_403() {
    let hub = Hub::start().await;
    let key = hub.key(Role::Admin).await;
    let ask = |method: &str, path: &str, host: &str, more: &str| {
        format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n{more}authorization: Bearer {key}\r\ncontent-length: 0\r\n\r\n").into_bytes()
    };
    let port = hub.address.port();
    let mut bodies = std::collections::BTreeSet::new();
    for host in ["evil.example", "hub.example.evil.example", "169.254.169.254", "localhost.evil.example", &format!("evil.example:{port}")] {
        for (method, path) in [("GET", "/api/v1/tools"), ("POST", CRM), ("GET", "/"), ("GET", "/metrics"), ("GET", "/nowhere")] {
            let reply = hub.send(&ask(method, path, host, "")).await;
            assert_eq!(reply.status, 403, "{host} {path}");
            assert!(!reply.body.contains("evil"), "{}", reply.body);
            bodies.insert(reply.body);
        }
    }
    assert_eq!(bodies.len(), 1, "the same body for all");
    for host in ["hub.example", "hub.internal:8443", "localhost", &format!("127.0.0.1:{port}"), &format!("[::1]:{port}")] {
        assert_eq!(hub.send(&ask("GET", "/api/v1/tools", host, "")).await.status, 200, "{host}");
    }
    assert_eq!(hub.send(&ask("GET", "/api/v1/tools", "a@hub.example", "")).await.status, 400);
    assert_eq!(hub.send(b"GET /api/v1/tools HTTP/1.1\r\n\r\n").await.status, 400, "no host at all");
    assert_eq!(hub.send(b"GET /healthz HTTP/1.1\r\nhost: 10.0.0.7:4000\r\n\r\n").await.status, 200, "probes are sent to addresses");
    for origin in ["https://evil.example", "null", "http://hub.example", "https://hub.example:444"] {
        let reply = hub.send(&ask("POST", "/api/v1/keys", "hub.example", &format!("origin: {origin}\r\n"))).await;
        // The host's own name over plain http is the hub as this machine sees it behind a proxy; another port is not.
        let expected = if origin == "http://hub.example" { 400 } else { 403 };
        assert_eq!(reply.status, expected, "{origin}: {}", reply.body);
    }
    let own = hub.send(&ask("POST", "/api/v1/keys", "hub.example", "origin: https://hub.example\r\n")).await;
    assert_eq!(own.status, 400, "past the check, and refused for what it asks: {}", own.body);
}

#[tokio::test]
async fn item_41_ids_that_only_look_like_another_hit_no_other_record() {
    let hub = Hub::start().await;
    let key = hub.key(Role::Admin).await;
    assert_eq!(hub.send(&Hub::delivery(br#"{"id":"evt-1"}"#)).await.status, 202);
    let seq = hub.kept().await[0].seq;
    let get = |path: String| request("GET", &path, &[bearer(&key)], b"");
    assert_eq!(hub.send(&get(format!("/api/v1/events/{seq}"))).await.status, 200);
    let huge = (1_u128 << 63).to_string();
    for id in [huge.as_str(), "9223372036854775807", "18446744073709551616", "0", "-1", "00", &format!("{seq}.0"), "%EF%BC%91", "1e0"] {
        for route in ["/api/v1/events", "/api/v1/dlq"] {
            let reply = hub.send(&get(format!("{route}/{id}"))).await;
            assert!(matches!(reply.status, 400 | 404), "{route}/{id}: {} {}", reply.status, reply.body);
            assert!(!reply.body.contains("evt-1"), "{}", reply.body);
        }
    }
    for path in [
        "/api/connectors/CRM",
        "/api/connectors/%D1%81rm",
        "/api/connectors/crm%00",
        "/api/v1/connections/CRM/scopes",
        "/api/v1/connections/crm%20/scopes",
        "/api/v1/approvals/0",
        "/api/v1/credentials/CRM",
    ] {
        let reply = hub.send(&get(path.to_owned())).await;
        assert!(matches!(reply.status, 400 | 404), "{path}: {} {}", reply.status, reply.body);
        hub.told_nothing(&reply);
    }
    // Events whose ids look alike are different events.
    for id in ["EVT-1", "evt\u{2010}1", "\u{435}vt-1", "evt-1\u{200b}", " evt-1x"] {
        assert_eq!(hub.send(&Hub::signed(format!(r#"{{"id":"{id}"}}"#).as_bytes(), NOW, &[])).await.status, 202, "{id:?}");
    }
    let ids: std::collections::BTreeSet<String> = hub.kept().await.into_iter().map(|event| event.event_id).collect();
    assert_eq!(ids.len(), 6, "{ids:?}");
    assert!(!format!("{ids:?}").contains(CANARY));
}
