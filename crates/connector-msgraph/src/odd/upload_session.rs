//! Upload sessions: pieces in order, resumed where the service says, and never with a token.
//! <https://learn.microsoft.com/graph/outlook-large-attachments>, <https://learn.microsoft.com/graph/api/driveitem-createuploadsession>
//!
//! The upload address authorises by itself and belongs to another host: no token goes there, and it is in no error and no log. Owns the
//! sending of the pieces; what a finished upload is, and what to do when a session is lost, is the caller's.

use std::time::Duration;

use bytes::Bytes;
use connector_core::{
    CallCx, Error, ErrorKind, Result, Retry,
    transport::{Body, Request},
};
use connector_manifest::{Engine, RawReply};
use http::{HeaderValue, Method, header};
use serde_json::Value;
use url::Url;

use super::args::{pause, text};

/// How often one piece is tried.
const TRIES: u32 = 4;
/// The longest wait for a throttled upload.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How an upload ended.
#[derive(Debug, PartialEq)]
pub(crate) enum Ended<T> {
    /// The last piece was taken, and this is what the service says of it.
    Done(T),
    /// The session is gone, or everything was there before.
    Lost,
}

/// Where pieces go and how large they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Session<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) cx: &'a CallCx,
    pub(crate) address: &'a Url,
    /// Bytes per piece, a multiple of 320 KiB.
    pub(crate) piece: usize,
}

impl Session<'_> {
    /// Sends everything from `start` on. `done` reads an answer that means the upload is finished; other successes are progress.
    pub(crate) async fn send_all<T>(
        &self,
        bytes: &Bytes,
        start: usize,
        pieces: &mut usize,
        done: impl Fn(&RawReply) -> Option<T> + Send + Sync,
    ) -> Result<Ended<T>> {
        let Self { engine, cx, .. } = *self;
        let mut at = start.min(bytes.len());
        let mut tries = 0;
        while at < bytes.len() {
            let end = (at + self.piece).min(bytes.len());
            let outcome = self.put(bytes, at, end).await;
            tries += 1;
            let (error, wait) = match outcome {
                Ok(reply) if reply.is_success() => {
                    *pieces += 1;
                    if let Some(outcome) = done(&reply) {
                        return Ok(Ended::Done(outcome));
                    }
                    // The service may want more or less than the piece just sent.
                    let next = serde_json::from_slice(&reply.body).ok().as_ref().and_then(next_expected).unwrap_or(end);
                    if next > at {
                        tries = 0;
                    }
                    at = next.min(bytes.len());
                    if tries < TRIES {
                        continue;
                    }
                    (Error::protocol("the upload does not go on: the service expects the same piece again"), None)
                }
                Ok(reply) if matches!(reply.status, 404 | 410) => return Ok(Ended::Lost),
                // 416: this range is there already.
                Ok(reply) if reply.status == 416 && tries < TRIES => {
                    match self.expected().await? {
                        Some(next) => at = next.min(bytes.len()),
                        None => return Ok(Ended::Lost),
                    }
                    continue;
                }
                Ok(reply) => {
                    let error = scrubbed(engine, cx, &reply);
                    let wait = error.retry_after();
                    (error, wait)
                }
                Err(error) => (error, None),
            };
            let passes = matches!(error.kind(), ErrorKind::Throttled | ErrorKind::Transient | ErrorKind::Timeout | ErrorKind::NotSent);
            let wait = wait.unwrap_or(Duration::from_secs(1) * 2_u32.saturating_pow(tries.saturating_sub(1)));
            if !passes || tries >= TRIES || wait > LONGEST_WAIT {
                return Err(error);
            }
            pause(cx, wait).await?;
            if !matches!(error.kind(), ErrorKind::Throttled | ErrorKind::NotSent) {
                // The piece may have arrived: ask before it is sent again.
                match self.expected().await? {
                    Some(next) => at = next.min(bytes.len()),
                    None => return Ok(Ended::Lost),
                }
            }
        }
        // Everything was there before the last answer came; the caller looks for the file.
        Ok(Ended::Lost)
    }

    async fn put(&self, bytes: &Bytes, at: usize, end: usize) -> Result<RawReply> {
        let mut request = Request::new(Method::PUT, self.address.clone());
        let range = format!("bytes {at}-{}/{}", end - 1, bytes.len());
        let range = HeaderValue::from_str(&range).map_err(|error| Error::internal("a content range is no header").with_source(error))?;
        request.head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        request.head.headers.insert(header::CONTENT_RANGE, range);
        request.body = Body::Bytes(bytes.slice(at..end));
        self.engine.send_raw(self.cx, request, false).await
    }

    /// What the service expects next; `None`: the session is gone. (Asking with GET is documented for files; for mail unverified.)
    async fn expected(&self) -> Result<Option<usize>> {
        let reply = self.engine.send_raw(self.cx, Request::new(Method::GET, self.address.clone()), false).await?;
        match reply.status {
            404 | 410 => Ok(None),
            200..=299 => {
                let session = serde_json::from_slice(&reply.body).map_err(|error| connector_core::connector::json_error(&error))?;
                next_expected(&session).map(Some).ok_or_else(|| Error::protocol("the upload session does not say what it expects next"))
            }
            _ => Err(scrubbed(self.engine, self.cx, &reply)),
        }
    }

    /// Gives the session up, so that nothing of it stays. A failure does not matter: sessions end by themselves.
    pub(crate) async fn cancel(&self) {
        if let Err(error) = self.engine.send_raw(self.cx, Request::new(Method::DELETE, self.address.clone()), false).await {
            tracing::debug!(kind = error.kind().as_str(), "an upload session could not be cancelled");
        }
    }
}

/// The error of an upload answer. A 401 there is not about our credential.
pub(crate) fn scrubbed(engine: &Engine, cx: &CallCx, reply: &RawReply) -> Error {
    let error = engine.error_for(cx, reply);
    if error.kind() == ErrorKind::AuthExpired {
        return error.with_kind(ErrorKind::Forbidden).with_retry(Retry::Never);
    }
    error
}

/// The address of a session.
pub(crate) fn upload_address(cx: &CallCx, session: &Value) -> Result<Url> {
    let text = text(session, "uploadUrl").ok_or_else(|| Error::protocol("the upload session has no address"))?;
    foreign_address(cx, text)
}

/// An address that Graph hands out and that authorises by itself: absolute, and over TLS unless it is the connection's own host (a sandbox).
/// Everything sent there goes without a token.
pub(crate) fn foreign_address(cx: &CallCx, text: &str) -> Result<Url> {
    let url = Url::parse(text).map_err(|_| Error::protocol("the address that Graph handed out is no URL"))?;
    if url.scheme() == "https" || url.origin() == cx.connection.base_url.origin() {
        return Ok(url);
    }
    Err(Error::protocol("the address that Graph handed out is not https; nothing was sent there")
        .with_retry(Retry::Never)
        .with_context("host", url.host_str().unwrap_or_default()))
}

/// `["2097152"]`, `["2097152-3483321"]` or `["0-"]`.
pub(crate) fn next_expected(session: &Value) -> Option<usize> {
    let first = session["nextExpectedRanges"].as_array()?.first()?.as_str()?;
    first.split('-').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ranges_are_read_in_all_their_forms() {
        for (ranges, next) in [(json!(["0-"]), Some(0)), (json!(["2097152"]), Some(2_097_152)), (json!(["5-9", "12-"]), Some(5)), (json!([]), None)] {
            assert_eq!(next_expected(&json!({ "nextExpectedRanges": ranges })), next);
        }
    }
}
