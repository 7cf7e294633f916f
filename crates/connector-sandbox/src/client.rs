//! A plain-HTTP client for loopback: notifications go out through it, and the sandbox's tests come in through it. One connection per
//! request, no TLS, no redirects, no proxy, capped reply; it refuses anything but `http://`.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;

/// Replies longer than this many bytes are an error; a mailbox page with bodies stays far below.
const REPLY_CAP: usize = 64 * 1024 * 1024;
/// The whole exchange must end within this time; Graph gives a notification endpoint 10 s.
const DEADLINE: Duration = Duration::from_secs(10);

/// Sends one request and reads the whole reply.
///
/// # Errors
/// Any I/O or protocol failure, a URL that is not `http://`, a reply over the cap, or no reply in time; a connection that closes
/// without a reply is an error too, which is how a cut connection shows.
pub async fn send(method: Method, url: &str, headers: HeaderMap, body: impl Into<Bytes>) -> io::Result<Response<Bytes>> {
    let body = body.into();
    tokio::time::timeout(DEADLINE, exchange(method, url, headers, body))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("no reply within {} s", DEADLINE.as_secs())))?
}

async fn exchange(method: Method, url: &str, headers: HeaderMap, body: Bytes) -> io::Result<Response<Bytes>> {
    let uri: Uri = url.parse().map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, format!("bad URL: {e}")))?;
    let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the sandbox only calls http:// URLs"));
    };
    let stream = TcpStream::connect((authority.host().trim_matches(['[', ']']), authority.port_u16().unwrap_or(80))).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let target = uri.path_and_query().map_or("/", |p| p.as_str());
    let mut request = Request::builder().method(method).uri(target).body(Full::new(body)).map_err(io::Error::other)?;
    *request.headers_mut() = headers;
    let host = authority.as_str().parse().map_err(io::Error::other)?;
    request.headers_mut().insert(header::HOST, host);
    request.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    let answer = async {
        let reply = sender.send_request(request).await.map_err(io::Error::other)?;
        let (head, body) = reply.into_parts();
        let body = Limited::new(body, REPLY_CAP).collect().await.map_err(io::Error::other)?.to_bytes();
        Ok(Response::from_parts(head, body))
    };
    // The connection future drives the socket; both run on this task, so nothing outlives the call.
    tokio::pin!(answer);
    tokio::pin!(connection);
    tokio::select! {
        biased;
        reply = &mut answer => reply,
        ended = &mut connection => match ended {
            Ok(()) => answer.await,
            Err(e) => Err(io::Error::other(e)),
        },
    }
}
