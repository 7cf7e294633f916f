//! One request and its answer: authorise, send, cap the body, and refresh the credential once if it was not accepted.

use base64::{Engine as _, engine::general_purpose::STANDARD};
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
        if reply.status != 401 || !self.blames_credential(cx, &reply) || !self.auth.rejected(cx, &used).await? {
            return Ok(reply);
        }
        let Rendered { mut head, body } = render()?;
        self.auth.authorize(cx, &mut head, &body).await?;
        self.send_authorized(cx, head, body).await
    }

    /// Whether a 401 is about the credential. Where the manifest's table calls it something else, a new token would only be refused again.
    fn blames_credential(&self, cx: &CallCx, reply: &RawReply) -> bool {
        self.error_for(cx, reply).kind() == connector_core::ErrorKind::AuthExpired
    }

    /// Sends a request with its credential; an error answer that quotes the credential loses the quote before anybody reads it.
    async fn send_authorized(&self, cx: &CallCx, head: Head, body: Bytes) -> Result<RawReply> {
        // Cloning a header value counts a reference; a request carries one credential, or a key and a signature.
        let mut sensitive = head.headers.values().filter(|value| value.is_sensitive()).cloned();
        let sent = [sensitive.next(), sensitive.next()];
        drop(sensitive);
        let mut reply = self.send_once(cx, head, body).await?;
        if !reply.is_success() || self.table.hides_error(&reply.body) {
            sent.iter().flatten().flat_map(secrets).for_each(|secret| forget(&mut reply, &secret));
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

    /// Sends a request of a vendor that wants the credential where no header is: in a form, in JSON, or exchanged for a session. `place` is
    /// given what authentication would have put into headers and puts it where it belongs. Nothing else of it is sent.
    ///
    /// # Errors
    /// As [`Engine::send_raw`], and what `place` reports.
    pub async fn send_placed(
        &self,
        cx: &CallCx,
        head: Head,
        place: impl Fn(&HeaderMap, &mut Head) -> Result<Bytes> + Send + Sync,
    ) -> Result<RawReply> {
        if head.url.origin() != cx.connection.base_url.origin() {
            return Err(Error::new(connector_core::ErrorKind::Denied, "the credential of a connection is never sent to another host")
                .with_context("host", head.url.host_str().unwrap_or_default()));
        }
        let mut again = true;
        loop {
            let mut proof = Head { method: head.method.clone(), url: head.url.clone(), headers: HeaderMap::new() };
            let used = self.auth.authorize(cx, &mut proof, &Bytes::new()).await?;
            let mut placed = head.clone();
            let body = place(&proof.headers, &mut placed)?;
            let mut reply = self.send_once(cx, placed, body).await?;
            if reply.status == 401 && again && self.auth.rejected(cx, &used).await? {
                again = false;
                continue;
            }
            // The credential may be anywhere in the answer, and a vendor that fails inside a 200 may quote it there too.
            proof.headers.values().filter(|value| value.is_sensitive()).flat_map(secrets).for_each(|secret| forget(&mut reply, &secret));
            return Ok(reply);
        }
    }
}

/// The shortest credential that can be told from ordinary text.
const SHORTEST_SECRET: usize = 6;

/// What a header's value could be quoted as: what stands after its scheme, and for HTTP Basic the password a vendor reads out of it, as it is
/// and as JSON writes it.
fn secrets(value: &HeaderValue) -> Vec<Vec<u8>> {
    let value = value.as_bytes();
    let (scheme, secret) = match value.iter().position(|byte| *byte == b' ') {
        Some(at) => (&value[..at], &value[at + 1..]),
        None => (&value[..0], value),
    };
    let mut found = vec![secret.to_vec()];
    if scheme.eq_ignore_ascii_case(b"basic")
        && let Ok(pair) = STANDARD.decode(secret)
        && let Some(at) = pair.iter().position(|byte| *byte == b':')
    {
        let password = &pair[at + 1..];
        let written = serde_json::to_string(&String::from_utf8_lossy(password)).unwrap_or_default();
        found.extend([password.to_vec(), written.trim_matches('"').as_bytes().to_vec()]);
    }
    found.retain(|secret| secret.len() >= SHORTEST_SECRET);
    found
}

/// Replaces a credential in an error answer.
fn forget(reply: &mut RawReply, secret: &[u8]) {
    for value in reply.headers.values_mut() {
        if value.as_bytes().windows(secret.len()).any(|window| window == secret) {
            *value = HeaderValue::from_static(redact::REDACTED);
        }
    }
    let body = &mut reply.body;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_that_a_vendor_read_out_of_basic_is_forgotten_wherever_it_is_quoted() {
        let password = "correct\"horse:battery";
        let value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(format!("ada:{password}")))).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("x-request-id", HeaderValue::from_str(&format!("was {password}")).unwrap());
        let body = serde_json::json!({ "code": password, "plain": "ada" }).to_string();
        let mut reply = RawReply { status: 401, headers, body: body.into() };
        secrets(&value).iter().for_each(|secret| forget(&mut reply, secret));
        assert_eq!(reply.body, r#"{"code":"REDACTED","plain":"ada"}"#.as_bytes());
        assert_eq!(reply.headers["x-request-id"], redact::REDACTED);
        // Too short to be told from ordinary text.
        assert!(secrets(&HeaderValue::from_static("Basic YTpi")).iter().all(|secret| secret != b"b"));
    }
}
