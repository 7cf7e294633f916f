//! Sharing a file in three steps: ask for an address, send the bytes there, complete. The first two may be started over; the last one is looked
//! up before it is repeated.
//!
//! The address authorises by itself and belongs to another host: no token goes there, and it is in no error and no log.
//! <https://docs.slack.dev/messaging/working-with-files#uploading_files>

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use connector_core::{
    CallCx, Error, ErrorKind, OpCall, OpReply, Result,
    transport::{Body, Request},
};
use connector_manifest::{Engine, NativeOperation};
use http::{HeaderValue, Method, header};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::{arguments, may_have_happened};

/// The most that is sent, in bytes: what a call may carry.
const MOST: usize = 50 * 1024 * 1024;
/// How often the bytes are sent to a new address.
const TRIES: usize = 3;
/// Where Slack takes files. https://docs.slack.dev/reference/methods/files.getUploadURLExternal
const HOST: &str = "files.slack.com";

/// The native operation `slack_upload_file`.
#[derive(Debug)]
pub(crate) struct UploadFile;

#[derive(Deserialize)]
struct Args {
    filename: String,
    content: Option<String>,
    content_base64: Option<String>,
    title: Option<String>,
    channel: Option<String>,
    thread_ts: Option<String>,
    initial_comment: Option<String>,
}

impl Args {
    fn bytes(&self) -> Result<Bytes> {
        let bytes = match (&self.content, &self.content_base64) {
            (Some(text), None) => Bytes::copy_from_slice(text.as_bytes()),
            (None, Some(encoded)) => STANDARD.decode(encoded).map_err(|_| Error::invalid("`content_base64` is not base64"))?.into(),
            _ => return Err(Error::invalid("give either `content` or `content_base64`")),
        };
        match bytes.len() {
            0 => Err(Error::invalid("the file is empty; Slack takes none")),
            size if size > MOST => Err(Error::invalid(format!("the file is larger than {} MB", MOST / 1024 / 1024))),
            _ => Ok(bytes),
        }
    }
}

#[async_trait]
impl NativeOperation for UploadFile {
    async fn call(&self, engine: &Engine, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let args: Args = arguments(&call)?;
        let bytes = args.bytes()?;
        let channel = args.channel.clone().or_else(|| cx.connection.setting("channel").map(str::to_owned));
        let file = sent(engine, cx, &args.filename, &bytes).await?;
        let complete = json!({
            "files": [{ "id": file, "title": args.title.as_deref().unwrap_or(&args.filename) }],
            "channel": channel, "thread_ts": args.thread_ts, "initial_comment": args.initial_comment,
        });
        let record = match engine.call_value(cx, "slack_complete_upload", complete).await {
            Ok(mut reply) => reply.pointer_mut("/files/0").map(Value::take),
            Err(error) if may_have_happened(&error) => shared(engine, cx, &file, channel.as_deref(), error).await?,
            Err(error) => return Err(error),
        };
        let record = record.ok_or_else(|| Error::protocol("Slack completed the upload and names no file"))?;
        OpReply::from_value(record, call.decode)
    }
}

/// Sends the bytes, to a new address if one fails, and gives the file's id. Until it is completed nobody sees any of it.
async fn sent(engine: &Engine, cx: &CallCx, filename: &str, bytes: &Bytes) -> Result<String> {
    let mut last = None;
    for _ in 0..TRIES {
        let address = engine.call_value(cx, "slack_get_upload_address", json!({ "filename": filename, "length": bytes.len() })).await?;
        let file = address["file_id"].as_str().ok_or_else(|| Error::protocol("Slack names no file for the upload"))?.to_owned();
        let url = upload_url(cx, &address)?;
        let mut request = Request::new(Method::POST, url);
        request.head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        request.body = Body::Bytes(bytes.clone());
        match engine.send_raw(cx, request, false).await {
            Ok(reply) if reply.is_success() => return Ok(file),
            Ok(reply) => last = Some(engine.error_for(cx, &reply)),
            Err(error) => last = Some(error),
        }
        if last.as_ref().is_some_and(|error| !error.kind().is_passing()) {
            break;
        }
    }
    Err(last.unwrap_or_else(|| Error::internal("an upload was never tried")).with_context("step", "upload"))
}

/// The address, if it is Slack's own host for files, or (for sandboxes) the connection's.
fn upload_url(cx: &CallCx, address: &Value) -> Result<Url> {
    let url = address["upload_url"].as_str().and_then(|text| Url::parse(text).ok());
    let url = url.ok_or_else(|| Error::protocol("Slack names no usable address for the upload"))?;
    let own = url.origin() == cx.connection.base_url.origin();
    if own || (url.scheme() == "https" && url.host_str() == Some(HOST)) {
        Ok(url)
    } else {
        Err(Error::new(ErrorKind::Denied, format!("the upload was to go to another host than {HOST}; nothing was sent there")))
    }
}

/// Whether the unclear last step happened: the file's own record says where it is shared.
async fn shared(engine: &Engine, cx: &CallCx, file: &str, channel: Option<&str>, unclear: Error) -> Result<Option<Value>> {
    let unknown =
        |why: &Error| Error::new(ErrorKind::Unknown, "the file may have been shared; its record could not be read").with_source(why.clone());
    let record = engine.call_value(cx, "slack_get_file", json!({ "file": file })).await.map_err(|why| unknown(&why))?;
    let is_shared = match channel {
        Some(channel) => ["public", "private"].iter().any(|kind| record.pointer(&format!("/shares/{kind}/{channel}")).is_some()),
        None => record["id"].is_string(),
    };
    if is_shared { Ok(Some(record)) } else { Err(unclear.with_kind(ErrorKind::Transient)) }
}
