//! The transport against servers that answer, lie, stall and break off.

use std::time::Duration;

use connector_core::error::{ErrorKind, Retry};
use http::StatusCode;
use tokio::io::AsyncWriteExt as _;

use super::*;
use crate::testing::{FakeLookup, RawServer, cx, get, local, read_head};

const CAP: usize = 1 << 20;

async fn fetch(transport: &HttpTransport, url: &str) -> Result<(StatusCode, bytes::Bytes)> {
    let (head, body) = transport.send(&cx("https://vendor.example"), get(url)).await?.into_parts();
    Ok((head.status, body.collect(CAP).await?))
}

#[tokio::test]
async fn one_connection_serves_call_after_call() {
    let server = RawServer::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let transport = local().build().unwrap();
    for _ in 0..20 {
        let (status, body) = fetch(&transport, &server.url("/")).await.unwrap();
        assert_eq!((status, &body[..]), (StatusCode::OK, &b"ok"[..]));
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_request_says_what_it_is_told_and_little_else() {
    let mut server = mockito::Server::new_async().await;
    let mock = server
        .mock("POST", "/send?q=1")
        .match_header("content-length", "0")
        .match_header("user-agent", mockito::Matcher::Regex("^connectors/".into()))
        .match_header("accept-encoding", mockito::Matcher::Regex("gzip".into()))
        .match_header("referer", mockito::Matcher::Missing)
        .match_header("x-own", "1")
        .with_status(202)
        .create_async()
        .await;
    let mut request = Request::new(Method::POST, format!("{}/send?q=1", server.url()).parse().unwrap());
    request.head.headers.insert("x-own", HeaderValue::from_static("1"));
    let response = local().build().unwrap().send(&cx("https://vendor.example"), request).await.unwrap();
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    mock.assert_async().await;
}

#[tokio::test]
async fn a_streamed_body_keeps_its_announced_length() {
    let mut server = mockito::Server::new_async().await;
    let mock = server.mock("PUT", "/upload").match_header("content-length", "6").match_body("abcdef").create_async().await;
    let chunks = futures_util::stream::iter([Ok(bytes::Bytes::from_static(b"abc")), Ok(bytes::Bytes::from_static(b"def"))]);
    let mut request = Request::new(Method::PUT, format!("{}/upload", server.url()).parse().unwrap());
    request.body = Body::Stream { chunks: Box::pin(chunks), length: Some(6) };
    local().build().unwrap().send(&cx("https://vendor.example"), request).await.unwrap();
    mock.assert_async().await;
}

#[tokio::test]
async fn an_error_status_is_an_answer() {
    let server = RawServer::answering("HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n").await;
    let response = local().build().unwrap().send(&cx("https://vendor.example"), get(&server.url("/"))).await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["retry-after"].to_str().unwrap()), (503, "7"));
}

#[tokio::test]
async fn redirects_are_answers_and_are_never_followed() {
    let transport = local().build().unwrap();
    for status in [301, 302, 303, 307, 308] {
        let answer = format!("HTTP/1.1 {status} Moved\r\nlocation: http://169.254.169.254/latest/meta-data/\r\ncontent-length: 0\r\n\r\n");
        let server = RawServer::answering(answer).await;
        let mut request = get(&server.url("/"));
        request.head.headers.insert("x-api-key", HeaderValue::from_static("canary"));
        let response = transport.send(&cx("https://vendor.example"), request).await.unwrap();
        assert_eq!(response.status().as_u16(), status);
        assert_eq!(server.connections(), 1);
    }
}

#[tokio::test]
async fn a_connection_nobody_accepts_is_not_sent_and_shows_no_url() {
    // A port that was free a moment ago and is closed now.
    let address = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = fetch(&local().build().unwrap(), &format!("http://{address}/path-canary?api_key=key-canary")).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::NotSent, Retry::Soon));
    assert!(error.message().contains("refused"), "{error}");
    let mut shown = format!("{error} {error:?}");
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(&error);
    while let Some(error) = cause {
        shown += &format!(" {error} {error:?}");
        cause = error.source();
    }
    assert!(!shown.contains("canary"), "{shown}");
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_not_sent() {
    let transport = HttpTransport::builder().lookup(FakeLookup::new(&[&[]])).build().unwrap();
    let error = fetch(&transport, "https://nowhere.example/").await.unwrap_err();
    assert_eq!((error.kind(), error.context_value("host")), (ErrorKind::NotSent, Some("nowhere.example")));
}

#[tokio::test]
async fn a_handshake_that_hangs_is_not_sent_within_the_connect_timeout() {
    let server = RawServer::start(|_, stream| async move {
        // Accepts, and never speaks TLS.
        let _open = stream;
        std::future::pending().await
    })
    .await;
    let transport = local().connect_timeout(Duration::from_millis(100)).build().unwrap();
    let error = fetch(&transport, &server.url("/").replace("http:", "https:")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotSent, "{error}");
    assert!(error.message().contains("timed out"), "{error}");
}

#[tokio::test]
async fn a_connection_cut_before_the_answer_is_transient() {
    let server = RawServer::start(|_, mut stream| async move {
        read_head(&mut stream).await?;
        Ok(())
    })
    .await;
    let error = fetch(&local().build().unwrap(), &server.url("/?key=canary")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient);
    assert!(!format!("{error:?}").contains("canary"));
}

#[tokio::test]
async fn a_connection_cut_in_the_body_is_transient() {
    for answer in ["HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"] {
        let server = RawServer::start(move |_, mut stream| async move {
            read_head(&mut stream).await?;
            stream.write_all(answer.as_bytes()).await
        })
        .await;
        let error = fetch(&local().build().unwrap(), &server.url("/")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
    }
}

#[tokio::test]
async fn a_body_that_stops_arriving_is_a_timeout() {
    let server = RawServer::start(|_, mut stream| async move {
        read_head(&mut stream).await?;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await?;
        std::future::pending().await
    })
    .await;
    let transport = local().stall_limit(1024, Duration::from_millis(100)).build().unwrap();
    let error = fetch(&transport, &server.url("/")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
}

#[tokio::test]
async fn an_answer_longer_than_the_cap_is_refused_by_its_announced_or_its_real_length() {
    let announced = "HTTP/1.1 200 OK\r\ncontent-length: 10737418240\r\n\r\nx".to_owned();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let endless = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}", chunk.repeat(CAP / 0x10000 + 2));
    for answer in [announced, endless] {
        let server = RawServer::answering(answer).await;
        let error = fetch(&local().build().unwrap(), &server.url("/")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    }
}

/// `payload` as an answer with this content encoding.
fn encoded(encoding: &str, payload: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-encoding: {encoding}\r\ncontent-length: {}\r\n\r\n", payload.len()).into_bytes();
    answer.extend_from_slice(payload);
    answer
}

fn base64(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

/// `{"hello":"gzip"}` as gzip writes it.
const SMALL_GZIP: &str = "H4sIAAAAAAAC/6tWykjNyclXslJKr8osUKoFAPZPBW8QAAAA";

#[tokio::test]
async fn gzip_and_brotli_are_decoded() {
    // The brotli stream holds "hello" uncompressed: one meta-block of RFC 7932 section 9.2, and the empty last one.
    let brotli = [0x0b, 0x02, 0x80, b'h', b'e', b'l', b'l', b'o', 0x03];
    for (encoding, payload, expected) in [("gzip", base64(SMALL_GZIP), r#"{"hello":"gzip"}"#), ("br", brotli.to_vec(), "hello")] {
        let server = RawServer::answering(encoded(encoding, &payload)).await;
        let (_, body) = fetch(&local().build().unwrap(), &server.url("/")).await.unwrap();
        assert_eq!(body, expected);
    }
}

#[tokio::test]
async fn a_gzip_bomb_is_cut_at_the_cap_of_what_comes_out() {
    // 1 MiB of zeros in 1,051 bytes.
    let bomb = base64(&format!("H4sIAAAAAAAC/+3BMQEAAADCoPVPbQhfo{}PgMc6jinAAAQAA==", "A".repeat(1355)));
    assert_eq!(bomb.len(), 1051);
    let server = RawServer::answering(encoded("gzip", &bomb)).await;
    let transport = local().build().unwrap();
    let body = async |cap| transport.send(&cx("https://vendor.example"), get(&server.url("/"))).await.unwrap().into_body().collect(cap).await;
    assert_eq!(body(1 << 16).await.unwrap_err().kind(), ErrorKind::Protocol);
    assert_eq!(body((1 << 20) - 1).await.unwrap_err().kind(), ErrorKind::Protocol);
    assert_eq!(body(1 << 20).await.unwrap().len(), 1 << 20);
}

#[tokio::test]
async fn broken_gzip_is_a_protocol_error() {
    let mut broken = base64(SMALL_GZIP);
    broken[15] ^= 0xff;
    let not_gzip = b"<html>login</html>".to_vec();
    for payload in [broken, not_gzip] {
        let server = RawServer::answering(encoded("gzip", &payload)).await;
        let error = fetch(&local().build().unwrap(), &server.url("/")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    }
}

/// A server that closes after each answer, so that the next request dials again.
async fn one_shot() -> RawServer {
    RawServer::start(|_, mut stream| async move {
        read_head(&mut stream).await?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok").await
    })
    .await
}

#[tokio::test]
async fn a_name_that_changes_its_mind_is_not_followed_inside() {
    let server = one_shot().await;
    let port = server.address.port();
    // The test's stand-in for a public address is 127.0.0.1; the second answer is another inside address.
    let policy = EgressPolicy::new().allow_host(&format!("rebind.example:{port}")).unwrap().allow_cidr("127.0.0.1/32").unwrap();
    let lookup = FakeLookup::new(&[&["127.0.0.1"], &["127.0.0.2"]]);
    let transport = HttpTransport::builder().egress(policy).lookup(lookup).build().unwrap();
    let url = format!("http://rebind.example:{port}/?key=canary");
    fetch(&transport, &url).await.unwrap();
    let error = fetch(&transport, &url).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Denied, Retry::Never));
    assert!(error.message().contains("`rebind.example`: a loopback address"), "{error}");
    assert!(!format!("{error:?}").contains("canary"));
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn of_mixed_addresses_only_the_allowed_are_dialled() {
    let server = one_shot().await;
    let port = server.address.port();
    let policy = EgressPolicy::new().allow_host(&format!("mixed.example:{port}")).unwrap().allow_cidr("127.0.0.1/32").unwrap();
    let lookup = FakeLookup::new(&[&["169.254.169.254", "127.0.0.2", "127.0.0.1", "::1"]]);
    let transport = HttpTransport::builder().egress(policy).lookup(lookup).build().unwrap();
    let (status, _) = fetch(&transport, &format!("http://mixed.example:{port}/")).await.unwrap();
    assert_eq!((status, server.connections()), (StatusCode::OK, 1));
}

#[tokio::test]
async fn a_public_looking_name_that_leads_inside_is_denied_before_anything_is_sent() {
    for ip in ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fd00:ec2::254", "64:ff9b::a00:1"] {
        let transport = HttpTransport::builder().lookup(FakeLookup::new(&[&[ip]])).build().unwrap();
        let error = fetch(&transport, "https://innocent.example/").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{ip}: {error}");
    }
}

#[tokio::test]
async fn another_protocol_may_go_where_requests_may_and_to_its_own_ports() {
    const MAIL: &[u16] = &[993, 587];
    let cx = CallCx::new(Arc::new(connector_core::Connection::new("mail", "https://vendor.example").unwrap()));
    let transport = HttpTransport::builder().lookup(FakeLookup::new(&[&["10.0.0.1", "8.8.8.8"], &["127.0.0.1"], &[]])).build().unwrap();
    let found = transport.resolve(&cx, "mail.example", 993, MAIL).await.unwrap();
    assert_eq!(found, ["8.8.8.8:993".parse().unwrap()], "the private address of a name is left out");
    for (host, port, kind) in [
        ("mail.example", 587, ErrorKind::Denied),
        ("mail.example", 993, ErrorKind::NotSent),
        ("mail.example", 22, ErrorKind::Denied),
        ("127.0.0.1", 993, ErrorKind::Denied),
        ("2130706433", 993, ErrorKind::Denied),
        ("[::1]", 993, ErrorKind::Denied),
        ("localhost", 993, ErrorKind::Denied),
        ("metadata.google.internal", 993, ErrorKind::Denied),
        ("a b", 993, ErrorKind::Config),
    ] {
        assert_eq!(transport.resolve(&cx, host, port, MAIL).await.unwrap_err().kind(), kind, "{host}:{port}");
    }
    assert_eq!(transport.resolve(&cx, "8.8.8.8", 993, MAIL).await.unwrap(), ["8.8.8.8:993".parse().unwrap()]);
    let open = HttpTransport::builder().egress(EgressPolicy::new().allow_loopback()).build().unwrap();
    assert_eq!(open.resolve(&cx, "127.0.0.1", 19_993, MAIL).await.unwrap(), ["127.0.0.1:19993".parse().unwrap()]);
    let listed = HttpTransport::builder().egress(EgressPolicy::new().allow_host("10.1.2.3:1143").unwrap()).build().unwrap();
    assert_eq!(listed.resolve(&cx, "10.1.2.3", 1143, MAIL).await.unwrap(), ["10.1.2.3:1143".parse().unwrap()]);
}

#[tokio::test]
async fn a_connections_allow_list_counts_where_settings_are_trusted() {
    let server = RawServer::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let connection = connector_core::Connection::new("erp", "https://vendor.example").unwrap().with_setting(EGRESS_ALLOW, "loopback");
    let with_list = CallCx::new(Arc::new(connection));
    for (trusted, cx, open) in [(true, &with_list, true), (false, &with_list, false), (true, &cx("https://vendor.example"), false)] {
        let policy = EgressPolicy::new().trust_connection_settings(trusted);
        let transport = HttpTransport::builder().egress(policy).build().unwrap();
        for _ in 0..2 {
            let outcome = transport.send(cx, get(&server.url("/"))).await.map(|response| response.status());
            assert_eq!(outcome.map_err(|error| error.kind()), if open { Ok(StatusCode::OK) } else { Err(ErrorKind::Denied) });
        }
        assert_eq!(transport.extended.read().unwrap().len(), usize::from(open));
    }
}

#[tokio::test]
async fn an_unreadable_allow_list_is_a_config_error() {
    let connection = connector_core::Connection::new("erp", "https://vendor.example").unwrap().with_setting(EGRESS_ALLOW, "10.0.0.0/99");
    let transport = HttpTransport::builder().egress(EgressPolicy::new().trust_connection_settings(true)).build().unwrap();
    let error = transport.send(&CallCx::new(Arc::new(connection)), get("https://vendor.example/")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

/// Runs itself again with proxy variables set, because a process cannot safely set its own.
#[tokio::test]
async fn proxies_from_the_environment_are_ignored() {
    const INNER: &str = "CONNECTOR_HTTP_TEST_PROXIED";
    if std::env::var_os(INNER).is_some() {
        let server = RawServer::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        fetch(&local().build().unwrap(), &server.url("/")).await.unwrap();
        return;
    }
    let proxy = RawServer::answering("HTTP/1.1 502 Proxied\r\ncontent-length: 0\r\n\r\n").await;
    let url = proxy.url("");
    let status = tokio::task::spawn_blocking(move || {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "client::tests::proxies_from_the_environment_are_ignored"]).env(INNER, "1");
        for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"] {
            child.env(name, &url);
        }
        child.stdout(std::process::Stdio::null()).status().unwrap()
    })
    .await
    .unwrap();
    assert!(status.success());
    assert_eq!(proxy.connections(), 0);
}

#[test]
fn settings_that_cannot_be_used_are_config_errors() {
    for builder in [HttpTransport::builder().user_agent("a\nb"), HttpTransport::builder().extra_root_certificates("no pem")] {
        assert_eq!(builder.build().unwrap_err().kind(), ErrorKind::Config);
    }
}

#[test]
fn the_shared_transport_is_one() {
    assert!(Arc::ptr_eq(&HttpTransport::shared().unwrap(), &HttpTransport::shared().unwrap()));
}

#[tokio::test]
async fn a_body_that_fails_to_be_read_keeps_its_own_class() {
    let server = RawServer::start(|_, mut stream| async move {
        read_head(&mut stream).await?;
        std::future::pending().await
    })
    .await;
    let mut request = Request::new(Method::PUT, server.url("/upload").parse().unwrap());
    let chunks = futures_util::stream::iter([Ok(bytes::Bytes::from_static(b"abc")), Err(Error::invalid("the file ended early"))]);
    request.body = Body::Stream { chunks: Box::pin(chunks), length: Some(6) };
    let error = local().build().unwrap().send(&cx("https://vendor.example"), request).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Invalid, "the file ended early"));
}
