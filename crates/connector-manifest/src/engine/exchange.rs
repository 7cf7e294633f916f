//! One request and its answer: authorise, send, cap the body, and refresh the credential once if it was not accepted.

use bytes::Bytes;
use connector_core::{
    CallCx, Error, Result, redact,
    transport::{Body, Head, Request},
};
use http::{HeaderMap, HeaderValue};

use super::{Engine, render::Rendered};

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct RawReply {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, capped.
    pub body: Bytes,
}

impl RawReply {
    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl Engine {
    /// Sends the request that `render` gives with the connection's credential. A 401 refreshes the credential and sends once more, even a
    /// write: what was rejected was not carried out. Rendering again then is cheaper than keeping a copy of every request.
    pub(super) async fn exchange(&self, cx: &CallCx, render: impl Fn() -> Result<Rendered> + Send + Sync) -> Result<RawReply> {
        let Rendered { mut head, body } = render()?;
        let used = self.auth.authorize(cx, &mut head, &body).await?;
        let reply = self.send_authorized(cx, head, body).await?;
        if reply.status != 401 || !self.auth.rejected(cx, &used).await? {
            return Ok(reply);
        }
        let Rendered { mut head, body } = render()?;
        self.auth.authorize(cx, &mut head, &body).await?;
        self.send_authorized(cx, head, body).await
    }

    /// Sends a request with its credential; an error answer that quotes the credential loses the quote before anybody reads it.
    async fn send_authorized(&self, cx: &CallCx, head: Head, body: Bytes) -> Result<RawReply> {
        // Cloning a header value counts a reference; a request carries one credential, or a key and a signature.
        let mut sensitive = head.headers.values().filter(|value| value.is_sensitive()).cloned();
        let sent = [sensitive.next(), sensitive.next()];
        drop(sensitive);
        let mut reply = self.send_once(cx, head, body).await?;
        if !reply.is_success() || self.table.hides_error(&reply.body) {
            sent.iter().flatten().for_each(|value| forget(&mut reply.body, value));
        }
        Ok(reply)
    }

    pub(super) async fn send_once(&self, cx: &CallCx, head: Head, body: Bytes) -> Result<RawReply> {
        let response = self.transport.send(cx, Request { head, body: body.into() }).await?;
        let (parts, body) = response.into_parts();
        let body = match body {
            Body::Bytes(bytes) if bytes.len() <= self.body_cap => bytes,
            other => other.collect(self.body_cap).await?,
        };
        Ok(RawReply { status: parts.status.as_u16(), headers: parts.headers, body })
    }

    /// Sends a request that no template describes: a next link, an upload chunk. Only the connection's own host gets the credential.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Denied`] if it should be authorised but goes to another host; transport errors. An HTTP error status is an answer:
    /// turn it into an error with [`Engine::error_for`].
    pub async fn send_raw(&self, cx: &CallCx, request: Request, authorize: bool) -> Result<RawReply> {
        let body = request.body.collect(self.body_cap).await?;
        if !authorize {
            return self.send_once(cx, request.head, body).await;
        }
        if request.head.url.origin() != cx.connection.base_url.origin() {
            return Err(Error::new(
                connector_core::ErrorKind::Denied,
                "a request to another host is never authorised with this connection's credential",
            )
            .with_context("host", request.head.url.host_str().unwrap_or_default()));
        }
        let rendered = Rendered { head: request.head, body };
        self.exchange(cx, || Ok(rendered.clone())).await
    }
}

/// The shortest credential that can be told from ordinary text.
const SHORTEST_SECRET: usize = 6;

/// Replaces a credential in an error answer: the header's value, and what stands after its scheme.
fn forget(body: &mut Bytes, value: &HeaderValue) {
    let value = value.as_bytes();
    let secret = value.iter().position(|byte| *byte == b' ').map_or(value, |at| &value[at + 1..]);
    if secret.len() < SHORTEST_SECRET {
        return;
    }
    let mut kept = Vec::new();
    let mut rest = &body[..];
    while let Some(at) = rest.windows(secret.len()).position(|window| window == secret) {
        kept.extend_from_slice(&rest[..at]);
        kept.extend_from_slice(redact::REDACTED.as_bytes());
        rest = &rest[at + secret.len()..];
    }
    if !kept.is_empty() {
        kept.extend_from_slice(rest);
        *body = kept.into();
    }
}
