//! One request to a key or secret service and its answer, bounded in time and size.
//!
//! Owns the time limit, the cap, the wiping of answers and the mapping of transport failures. Refuses plain http to another machine:
//! tokens and keys would cross the network in the clear.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use connector_core::{
    CallCx, Connection, Error, ErrorKind, Result, Retry, TenantId,
    redact::{printable, scrub},
    transport::{Body, Request, Response, Transport},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use url::{Host, Url};
use zeroize::Zeroize as _;

/// The time for connecting and the whole answer together.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest answer that is read. The largest secrets are 64 KiB (AWS) and 1 MiB (a Vault entry, 512 KiB by default).
const MAX_ANSWER: usize = 2 * 1024 * 1024;
/// The setting by which a connection may reach a host that is not public. An administrator wrote the address in the hub's file.
const EGRESS_ALLOW: &str = "egress_allow";

/// A way to one service.
#[derive(Debug, Clone)]
pub(super) struct Wire {
    transport: Arc<dyn Transport>,
    cx: CallCx,
    /// How the service is called in messages.
    place: Arc<str>,
}

impl Wire {
    /// A way to the service at `url`, which is called `what` in messages.
    pub(super) fn new(transport: Arc<dyn Transport>, what: &str, url: &str) -> Result<Self> {
        let connection = Connection::named("vault".into(), TenantId::default(), what, url)?;
        let url = &connection.base_url;
        let is_local = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            None => false,
        };
        if url.scheme() != "https" && !is_local {
            return Err(Error::config(format!(
                "{what} at `{}` would be reached without encryption; write https://, or run a TLS proxy on this machine",
                printable(connection.base(), 120)
            )));
        }
        Ok(Self::over(transport, what, connection))
    }

    /// A way to a server on this machine's own link, which may speak plain http. The caller says which hosts are on it.
    pub(super) fn on_link(transport: Arc<dyn Transport>, what: &str, url: &Url) -> Result<Self> {
        let connection = Connection::named("vault".into(), TenantId::default(), what, &url.origin().ascii_serialization())?;
        Ok(Self::over(transport, what, connection))
    }

    fn over(transport: Arc<dyn Transport>, what: &str, connection: Connection) -> Self {
        let host = connection.host();
        let allowed = connection.base_url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let place = format!("{what} at {}", connection.base()).into();
        let connection = connection.with_setting(EGRESS_ALLOW, allowed);
        Self { transport, cx: CallCx::new(Arc::new(connection)).with_operation("vault"), place }
    }

    /// `OpenBao at https://bao.internal:8200`.
    pub(super) fn place(&self) -> &Arc<str> {
        &self.place
    }

    /// The URL of the service.
    pub(super) fn base(&self) -> &Url {
        &self.cx.connection.base_url
    }

    /// Sends a request and reads its answer, whatever its status.
    ///
    /// # Errors
    /// [`ErrorKind::Transient`] if there was none in time; [`ErrorKind::Config`] if the egress guard or the configuration forbids it.
    pub(super) async fn send(&self, method: Method, url: Url, headers: HeaderMap, body: Bytes) -> Result<Answer> {
        let mut request = Request::new(method, url);
        request.head.headers = headers;
        request.body = body.into();
        let answered = tokio::time::timeout(TIMEOUT, async {
            let response = self.transport.send(&self.cx, request).await?;
            let (head, body) = Response::into_parts(response);
            let body = Body::collect(body, MAX_ANSWER).await?;
            Ok(Answer { status: head.status, headers: head.headers, body })
        });
        match answered.await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.unreachable(error)),
            Err(_) => Err(self.error(ErrorKind::Transient, format!("did not answer within {} s; check that it runs", TIMEOUT.as_secs()))),
        }
    }

    /// An error about this service: `place` and then what happened.
    pub(super) fn error(&self, kind: ErrorKind, what: impl std::fmt::Display) -> Error {
        Error::new(kind, format!("{} {what}", self.place))
    }

    /// A status that usually passes.
    pub(super) fn passing(&self, answer: &Answer, what: impl std::fmt::Display) -> Error {
        let error = self.error(ErrorKind::Transient, what).with_status(answer.status.as_u16());
        match answer.retry_after() {
            Some(delay) => error.with_retry(Retry::After(delay)),
            None => error,
        }
    }

    fn unreachable(&self, error: Error) -> Error {
        match error.kind() {
            ErrorKind::Denied => {
                self.error(ErrorKind::Config, format!("may not be reached: {}; allow it under `egress`", error.message())).with_source(error)
            }
            ErrorKind::Config => error,
            ErrorKind::Protocol => self.error(ErrorKind::Protocol, format!("answered what cannot be read: {}", error.message())).with_source(error),
            // A certificate that is not accepted comes as `NotSent` and stays final.
            _ => {
                let retry = error.retry();
                self.error(ErrorKind::Transient, format!("cannot be reached: {}", error.message())).with_retry(retry).with_source(error)
            }
        }
    }
}

/// An answer; its body is wiped when it is dropped, as far as nobody else holds it.
pub(super) struct Answer {
    /// The status.
    pub(super) status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    /// The body.
    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }

    /// A header as text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// `Retry-After` in seconds, at most ten minutes.
    fn retry_after(&self) -> Option<Duration> {
        let seconds: u64 = self.header("retry-after")?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds.min(600)))
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Ok(mut bytes) = std::mem::take(&mut self.body).try_into_mut() {
            bytes.as_mut().zeroize();
        }
    }
}

/// A header value that is never shown.
pub(super) fn sensitive(text: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(text).map_err(|_| Error::config("a token has characters that a header cannot carry"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A header whose name is written in lower case here.
pub(super) fn header(headers: &mut HeaderMap, name: &'static str, value: HeaderValue) {
    headers.insert(HeaderName::from_static(name), value);
}

/// What a server said about an error, as far as it may be shown.
pub(super) fn said(text: &str) -> String {
    scrub(text.trim(), 160)
}

#[cfg(test)]
mod tests {
    use connector_testkit::transport::{Failing, Never, Replay, Step};

    use super::*;

    fn wire(transport: impl Transport) -> Wire {
        Wire::new(Arc::new(transport), "OpenBao", "https://bao.example:8200").unwrap()
    }

    async fn outcome(transport: impl Transport) -> Result<StatusCode> {
        let wire = wire(transport);
        let url = wire.base().clone();
        wire.send(Method::GET, url, HeaderMap::new(), Bytes::new()).await.map(|answer| answer.status)
    }

    #[tokio::test(start_paused = true)]
    async fn what_keeps_a_service_from_answering_is_transient_and_what_forbids_it_is_config() {
        for kind in [ErrorKind::NotSent, ErrorKind::Timeout, ErrorKind::Transient] {
            assert_eq!(outcome(Failing(kind)).await.unwrap_err().kind(), ErrorKind::Transient, "{kind}");
        }
        assert_eq!(outcome(Failing(ErrorKind::Denied)).await.unwrap_err().kind(), ErrorKind::Config);
        let error = outcome(Never).await.unwrap_err();
        assert_eq!((error.kind(), error.retry()), (ErrorKind::Transient, Retry::Soon));
        assert_eq!(error.message(), "OpenBao at https://bao.example:8200 did not answer within 5 s; check that it runs");
    }

    #[tokio::test]
    async fn an_endless_answer_is_cut() {
        let long = vec![b'x'; MAX_ANSWER + 1];
        assert_eq!(outcome(Replay::new([Step::text(200, "text/plain", long)])).await.unwrap_err().kind(), ErrorKind::Protocol);
    }

    #[test]
    fn plain_http_stays_on_this_machine() {
        let to = |url: &str| Wire::new(Arc::new(Never), "OpenBao", url);
        for allowed in ["http://127.0.0.1:8200", "http://localhost:8200", "http://[::1]:8200", "https://10.1.2.3:8200"] {
            assert!(to(allowed).is_ok(), "{allowed}");
        }
        for refused in
            ["http://bao.internal:8200", "http://10.1.2.3:8200", "ftp://bao", "https://user:pw@bao", "bao:8200", "http://localhost.evil.example"]
        {
            assert_eq!(to(refused).unwrap_err().kind(), ErrorKind::Config, "{refused}");
        }
    }
}
