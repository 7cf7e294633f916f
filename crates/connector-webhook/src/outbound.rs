//! Signed outbound webhooks: an event of ours as a Standard Webhooks request to somebody else's address.
//!
//! Owns the signature and what an answer means. Refuses to retry: the queue that holds the delivery does, under the same id, so that the
//! receiver can tell a repeat. Where requests may go is the transport's egress guard's business.

use std::{fmt, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use connector_core::{
    clock::{Clock, unix_seconds},
    context::CallCx,
    error::{Error, ErrorKind, Result, Retry},
    redact,
    resilience::retry_after,
    transport::{Body, Request, Transport},
};
use connector_manifest::model::MacAlgorithm;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use secrecy::SecretString;
use serde_json::{Value, json};
use url::Url;

use crate::schemes::{mac, named::key};

/// The longest payload that is sent, in bytes. The specification advises less than 20 KB; receivers refuse much more.
pub const MAX_PAYLOAD: usize = 256 * 1024;
/// How long a receiver may take.
// https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md: 15 to 30 s
const TIMEOUT: Duration = Duration::from_secs(20);
/// How much of an answer is read: only its status counts.
const MAX_ANSWER: usize = 4 * 1024;

/// A receiver of events. `Debug` shows the host only: a path may be what lets one in.
#[derive(Clone)]
pub struct Endpoint {
    /// Where they go.
    pub url: Url,
    /// The secrets they are signed with, the newest first: during a rotation both sign, so that the receiver may change at its own time.
    pub secrets: Vec<SecretString>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("host", &self.url.host_str().unwrap_or_default()).field("secrets", &self.secrets.len()).finish()
    }
}

impl Endpoint {
    /// A receiver.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the URL is not http(s) or carries a password, or a secret is missing or not one.
    pub fn new(url: &str, secrets: Vec<SecretString>) -> Result<Self> {
        let url = Url::parse(url).map_err(|_| Error::config("the address that events are forwarded to is not a URL"))?;
        if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
            return Err(Error::config("the address that events are forwarded to must be http(s) and hold no user name or password"));
        }
        if secrets.is_empty() {
            return Err(Error::config("events are forwarded signed; store a secret for this address (`whsec_` and 24 to 64 bytes in base64)"));
        }
        secrets.iter().try_for_each(|secret| key(secret).map(drop))?;
        Ok(Self { url, secrets })
    }
}

/// The body of a delivery as the specification advises: `{"type","timestamp","data"}`. `at` is in Unix milliseconds.
pub fn envelope(kind: &str, at: u64, data: Value) -> Value {
    let at = jiff::Timestamp::from_millisecond(i64::try_from(at).unwrap_or(i64::MAX)).unwrap_or(jiff::Timestamp::MAX);
    json!({ "type": kind, "timestamp": at.to_string(), "data": data })
}

/// One event on its way out.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Its id, the same at every attempt: receivers deduplicate by it.
    pub id: String,
    /// The body: `{"type","timestamp","data"}`.
    pub payload: Bytes,
}

/// What an answer means for the receiver's future.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    /// It took the event.
    Taken,
    /// It asks never to be called again (410): its endpoint should be switched off.
    Gone,
}

/// Sends events.
#[derive(Debug, Clone)]
pub struct Sender {
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
}

impl Sender {
    /// A sender over this transport, whose egress guard decides where it may go.
    pub fn new(transport: Arc<dyn Transport>, clock: Arc<dyn Clock>) -> Self {
        Self { transport, clock }
    }

    /// Sends an event once.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for an id with a dot or a payload over [`MAX_PAYLOAD`], which will never be taken; [`ErrorKind::Throttled`] with
    /// the wait that the receiver names; [`ErrorKind::Transient`], [`ErrorKind::Timeout`] or [`ErrorKind::NotSent`] where a later attempt may
    /// succeed. A redirect is a failure and never followed.
    pub async fn send(&self, cx: &CallCx, endpoint: &Endpoint, delivery: &Delivery) -> Result<Delivered> {
        let request = self.request(endpoint, delivery)?;
        let late = |_| Error::new(ErrorKind::Timeout, format!("the receiver of a forwarded event did not answer within {TIMEOUT:?}"));
        let (head, body) = tokio::time::timeout(TIMEOUT, self.transport.send(cx, request)).await.map_err(late)??.into_parts();
        // Read so that the connection can be used again; a body that is too long or breaks off changes nothing about the status.
        drop(body.collect(MAX_ANSWER).await);
        let status = head.status;
        if status.is_success() {
            return Ok(Delivered::Taken);
        }
        if status == StatusCode::GONE {
            return Ok(Delivered::Gone);
        }
        let wait = retry_after::from_headers(&head.headers, self.clock.wall()).filter(|delay| !delay.is_zero());
        let kind = match status.as_u16() {
            429 => ErrorKind::Throttled,
            408 | 425 | 500..=599 => ErrorKind::Transient,
            // The receiver may be mended: the queue's schedule decides how long that is waited for.
            _ => ErrorKind::Protocol,
        };
        let error = Error::new(kind, format!("the receiver of a forwarded event answered {status}")).with_status(status.as_u16());
        Err(wait.map_or(error.clone(), |delay| error.with_retry(Retry::After(delay))))
    }

    fn request(&self, endpoint: &Endpoint, delivery: &Delivery) -> Result<Request> {
        let id = &delivery.id;
        // A dot would let the border between id, timestamp and body be moved without changing the signed text.
        let sound = !id.is_empty() && id.len() <= 256 && id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'.');
        if !sound {
            return Err(Error::invalid(format!("`{}` cannot be the id of a forwarded event", redact::printable(id, 40))));
        }
        if delivery.payload.len() > MAX_PAYLOAD {
            return Err(Error::invalid(format!("a forwarded event may have {} KiB; send an id and let the receiver ask", MAX_PAYLOAD / 1024)));
        }
        let sent = unix_seconds(self.clock.wall()).to_string();
        let pieces: [&[u8]; 5] = [id.as_bytes(), b".", sent.as_bytes(), b".", &delivery.payload];
        let signatures: Vec<String> = endpoint
            .secrets
            .iter()
            .map(|secret| Ok(format!("v1,{}", STANDARD.encode(mac::compute(MacAlgorithm::HmacSha256, &key(secret)?, &pieces)))))
            .collect::<Result<_>>()?;
        let value = |text: &str| HeaderValue::from_str(text).map_err(|_| Error::internal("a header of a forwarded event cannot be written"));
        let mut request = Request::new(Method::POST, endpoint.url.clone());
        let headers = &mut request.head.headers;
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(HeaderName::from_static("webhook-id"), value(id)?);
        headers.insert(HeaderName::from_static("webhook-timestamp"), value(&sent)?);
        headers.insert(HeaderName::from_static("webhook-signature"), value(&signatures.join(" "))?);
        request.body = Body::Bytes(delivery.payload.clone());
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use connector_core::{clock::ManualClock, context::Connection, transport::Response, webhook::RawWebhook};
    use connector_manifest::model::Verify;

    use super::*;
    use crate::schemes;

    /// Answers with what it was made with and remembers what it was asked.
    #[derive(Debug)]
    struct Receiver {
        status: u16,
        retry_after: Option<&'static str>,
        seen: Mutex<Vec<Request>>,
    }

    #[async_trait]
    impl Transport for Receiver {
        async fn send(&self, _cx: &CallCx, request: Request) -> Result<Response> {
            self.seen.lock().unwrap().push(request);
            let mut response = http::Response::builder().status(self.status);
            if let Some(wait) = self.retry_after {
                response = response.header("retry-after", wait);
            }
            Ok(response.body(Body::Empty).unwrap())
        }
    }

    const NEW: &str = "whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
    const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const BODY: &[u8] = br#"{"type":"contact.created","timestamp":"2026-11-21T12:00:00Z","data":{"id":"1f81eb52"}}"#;

    fn cx() -> CallCx {
        CallCx::new(Arc::new(Connection::new("forward", "https://hooks.example").unwrap()))
    }

    async fn send(status: u16, retry_after: Option<&'static str>, id: &str, payload: &[u8]) -> (Result<Delivered>, Arc<Receiver>) {
        let receiver = Arc::new(Receiver { status, retry_after, seen: Mutex::default() });
        let sender = Sender::new(receiver.clone(), Arc::new(ManualClock::at_unix(1_795_262_400)));
        let endpoint = Endpoint::new("https://hooks.example/in", vec![NEW.into(), OLD.into()]).unwrap();
        let delivery = Delivery { id: id.to_owned(), payload: Bytes::copy_from_slice(payload) };
        (sender.send(&cx(), &endpoint, &delivery).await, receiver)
    }

    #[tokio::test]
    async fn the_specifications_vector_is_signed_and_our_own_verifier_takes_it_under_both_secrets() {
        let (outcome, receiver) = send(204, None, "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W", BODY).await;
        assert_eq!(outcome.unwrap(), Delivered::Taken);
        let seen = receiver.seen.lock().unwrap().pop().unwrap();
        let signature = seen.head.headers["webhook-signature"].to_str().unwrap();
        assert!(signature.starts_with("v1,q94lp4BjFpDQDmQihOobLx3wBMSc71Dooc2dBZ2ZJ3E= v1,"), "{signature}");
        let proof = schemes::proof(&Verify { scheme: Some("standard_webhooks".into()), ..Verify::default() }).unwrap();
        let body = Bytes::from_static(BODY);
        let request = RawWebhook { method: &Method::POST, url: "", query: "", headers: &seen.head.headers, body: &body };
        let now = std::time::UNIX_EPOCH + Duration::from_secs(1_795_262_500);
        for secret in [NEW, OLD] {
            assert!(proof.prove(&request, &[secret.into()], now).is_ok());
        }
    }

    #[tokio::test]
    async fn answers_mean_what_the_specification_says() {
        assert_eq!(send(410, None, "m", b"{}").await.0.unwrap(), Delivered::Gone);
        for (status, kind) in [
            (429, ErrorKind::Throttled),
            (503, ErrorKind::Transient),
            (504, ErrorKind::Transient),
            (301, ErrorKind::Protocol),
            (400, ErrorKind::Protocol),
        ] {
            let error = send(status, None, "m", b"{}").await.0.unwrap_err();
            assert_eq!(error.kind(), kind, "{status}");
            assert!(error.kind().is_passing(), "{status}: the queue tries again");
        }
        let error = send(503, Some("120"), "m", b"{}").await.0.unwrap_err();
        assert_eq!(error.retry_after(), Some(Duration::from_secs(120)));
    }

    #[tokio::test]
    async fn what_can_never_be_taken_is_not_sent() {
        let long = vec![b'x'; MAX_PAYLOAD + 1];
        for (id, payload) in [("a.b", &b"{}"[..]), ("", b"{}"), ("a\r\nb", b"{}"), ("m", &long)] {
            let (outcome, receiver) = send(204, None, id, payload).await;
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Invalid);
            assert!(receiver.seen.lock().unwrap().is_empty());
        }
    }

    #[test]
    fn an_endpoint_needs_an_address_and_a_sound_secret() {
        for (url, secrets) in [
            ("ftp://x.example", vec![NEW]),
            ("https://u:p@x.example", vec![NEW]),
            ("nonsense", vec![NEW]),
            ("https://x.example", vec![]),
            ("https://x.example", vec!["whsec_c2hvcnQ="]),
            ("https://x.example", vec![NEW, "!"]),
        ] {
            let error = Endpoint::new(url, secrets.into_iter().map(SecretString::from).collect()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{url}");
            assert!(!error.to_string().contains("c2hvcnQ"), "{error}");
        }
    }
}
