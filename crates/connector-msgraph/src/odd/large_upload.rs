//! Attaching files of 3 to 150 MB: an upload session, pieces in order, resumed where the service says.
//! <https://learn.microsoft.com/graph/outlook-large-attachments>
//!
//! The upload address authorises by itself and belongs to another host: no token goes there, and it is in no error and no log.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    CallCx, Error, ErrorKind, OpCall, OpReply, Result, Retry,
    transport::{Body, Request},
};
use connector_manifest::{Engine, NativeOperation, RawReply};
use http::{HeaderValue, Method, header};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::{
    args::{arguments, mailbox, pause, text},
    outgoing::{self, File, FileArgs},
};

/// Below the 4 MB of one PUT, a multiple of 320 KiB.
const PIECE: usize = 10 * 320 * 1024;
/// The most a session takes.
const MOST: usize = 150 * 1024 * 1024;
/// How often one piece is tried.
const TRIES: u32 = 4;
/// How often a lost session is replaced.
const SESSIONS: u32 = 3;
/// The longest wait for a throttled upload.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The native operation `msgraph_upload_attachment`.
#[derive(Debug)]
pub(crate) struct LargeUpload;

#[derive(Deserialize)]
struct Args {
    user: Option<String>,
    message_id: String,
    #[serde(flatten)]
    file: FileArgs,
}

#[async_trait]
impl NativeOperation for LargeUpload {
    async fn call(&self, engine: &Engine, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let args: Args = arguments(&call)?;
        let user = mailbox(cx, args.user.as_deref())?;
        let file = File::of(args.file)?;
        let (id, chunks) = match outgoing::attached(engine, cx, &user, &args.message_id, &file).await? {
            Some(id) => (Some(id), 0),
            None => outgoing::attach_one(engine, cx, &user, &args.message_id, &file).await?,
        };
        let value = json!({ "id": id, "name": file.name, "size": file.bytes.len(), "chunks": chunks });
        OpReply::from_value(value, call.decode)
    }
}

/// Uploads a file to a draft. Gives the attachment's id, if the service told it, and the number of pieces sent.
pub(crate) async fn upload(engine: &Engine, cx: &CallCx, user: &str, draft: &str, file: &File) -> Result<(Option<String>, usize)> {
    if file.bytes.len() > MOST {
        return Err(Error::invalid(format!("attachment `{}` is larger than 150 MB", file.name)));
    }
    let mut pieces = 0;
    for _ in 0..SESSIONS {
        let args = json!({
            "user": user, "message_id": draft, "name": file.name, "size": file.bytes.len(), "content_type": file.content_type,
            "content_id": file.content_id, "inline": file.content_id.is_some().then_some(true),
        });
        let session = engine.call_value(cx, "msgraph_create_upload_session", args).await?;
        let address = upload_address(cx, &session)?;
        let start = next_expected(&session).unwrap_or(0);
        match send_all(engine, cx, &address, &file.bytes, start, &mut pieces).await? {
            Ended::Done(id) => return Ok((id, pieces)),
            // The last piece's answer may have been lost with the session: the file is then there already.
            Ended::Lost => {
                if let Some(id) = outgoing::attached(engine, cx, user, draft, file).await? {
                    return Ok((Some(id), pieces));
                }
            }
        }
    }
    Err(Error::new(ErrorKind::Transient, "the upload session was lost again and again").with_context("pieces", pieces.to_string()))
}

#[derive(Debug, PartialEq)]
enum Ended {
    Done(Option<String>),
    Lost,
}

async fn send_all(engine: &Engine, cx: &CallCx, address: &Url, bytes: &Bytes, start: usize, pieces: &mut usize) -> Result<Ended> {
    let mut at = start.min(bytes.len());
    let mut tries = 0;
    while at < bytes.len() {
        let end = (at + PIECE).min(bytes.len());
        let outcome = put(engine, cx, address, bytes, at, end).await;
        tries += 1;
        let (error, wait) = match outcome {
            Ok(reply) if reply.status == 201 => {
                *pieces += 1;
                return Ok(Ended::Done(attachment_id(&reply)));
            }
            Ok(reply) if reply.is_success() => {
                *pieces += 1;
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
                match expected(engine, cx, address).await? {
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
            match expected(engine, cx, address).await? {
                Some(next) => at = next.min(bytes.len()),
                None => return Ok(Ended::Lost),
            }
        }
    }
    // Everything was there before the last answer came; the caller looks for the file.
    Ok(Ended::Lost)
}

async fn put(engine: &Engine, cx: &CallCx, address: &Url, bytes: &Bytes, at: usize, end: usize) -> Result<RawReply> {
    let mut request = Request::new(Method::PUT, address.clone());
    let range = format!("bytes {at}-{}/{}", end - 1, bytes.len());
    let range = HeaderValue::from_str(&range).map_err(|error| Error::internal("a content range is no header").with_source(error))?;
    request.head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    request.head.headers.insert(header::CONTENT_RANGE, range);
    request.body = Body::Bytes(bytes.slice(at..end));
    engine.send_raw(cx, request, false).await
}

/// What the service expects next; `None`: the session is gone. (Asking with GET is documented for files; for mail unverified.)
async fn expected(engine: &Engine, cx: &CallCx, address: &Url) -> Result<Option<usize>> {
    let reply = engine.send_raw(cx, Request::new(Method::GET, address.clone()), false).await?;
    match reply.status {
        404 | 410 => Ok(None),
        200..=299 => {
            let session = serde_json::from_slice(&reply.body).map_err(|error| connector_core::connector::json_error(&error))?;
            next_expected(&session).map(Some).ok_or_else(|| Error::protocol("the upload session does not say what it expects next"))
        }
        _ => Err(scrubbed(engine, cx, &reply)),
    }
}

/// The error of an upload answer. A 401 there is not about our credential.
fn scrubbed(engine: &Engine, cx: &CallCx, reply: &RawReply) -> Error {
    let error = engine.error_for(cx, reply);
    if error.kind() == ErrorKind::AuthExpired {
        return error.with_kind(ErrorKind::Forbidden).with_retry(Retry::Never);
    }
    error
}

/// The address of a session: absolute, and over TLS unless it is the connection's own host (a sandbox).
fn upload_address(cx: &CallCx, session: &Value) -> Result<Url> {
    let text = text(session, "uploadUrl").ok_or_else(|| Error::protocol("the upload session has no address"))?;
    let url = Url::parse(text).map_err(|_| Error::protocol("the upload session's address is no URL"))?;
    if url.scheme() == "https" || url.origin() == cx.connection.base_url.origin() {
        return Ok(url);
    }
    Err(Error::protocol("the upload session's address is not https; nothing was sent there")
        .with_retry(Retry::Never)
        .with_context("host", url.host_str().unwrap_or_default()))
}

/// `["2097152"]`, `["2097152-3483321"]` or `["0-"]`.
fn next_expected(session: &Value) -> Option<usize> {
    let first = session["nextExpectedRanges"].as_array()?.first()?.as_str()?;
    first.split('-').next()?.trim().parse().ok()
}

/// The id in a `Location` that ends with `/Attachments('<id>')`.
fn attachment_id(reply: &RawReply) -> Option<String> {
    let location = reply.headers.get(header::LOCATION)?.to_str().ok()?;
    let (_, rest) = location.rsplit_once("Attachments('")?;
    let (id, _) = rest.split_once("')")?;
    Some(percent_encoding::percent_decode_str(id).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_in_all_their_forms() {
        for (ranges, next) in [(json!(["0-"]), Some(0)), (json!(["2097152"]), Some(2_097_152)), (json!(["5-9", "12-"]), Some(5)), (json!([]), None)] {
            assert_eq!(next_expected(&json!({ "nextExpectedRanges": ranges })), next);
        }
    }

    #[test]
    fn the_id_is_read_from_the_location() {
        let id = |location: &str| {
            let mut reply = RawReply { status: 201, headers: http::HeaderMap::new(), body: Bytes::new() };
            reply.headers.insert(header::LOCATION, location.parse().unwrap());
            attachment_id(&reply)
        };
        assert_eq!(id("https://outlook.office.com/api/v2.0/Users('u')/Messages('m')/Attachments('AAk%3D')").as_deref(), Some("AAk="));
        assert_eq!(id("https://outlook.office.com/elsewhere"), None);
    }
}
