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
