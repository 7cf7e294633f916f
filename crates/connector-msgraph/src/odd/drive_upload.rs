//! Uploading a file of any size into a drive: one request for small ones, a session for large ones, resumed where it stopped.
//! <https://learn.microsoft.com/graph/api/driveitem-put-content>, <https://learn.microsoft.com/graph/api/driveitem-createuploadsession>

use async_trait::async_trait;
use connector_core::{CallCx, Error, ErrorKind, OpCall, OpReply, Result, Retry, transport::Body};
use connector_manifest::{Engine, NativeOperation, RawReply};
use http::{HeaderValue, Method, header};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    args::{arguments, may_have_happened, request, segment},
    drive_items::{body, name_segment},
    outgoing::{File, FileArgs},
    upload_session::{Ended, Session, next_expected, upload_address},
};

/// Up to here a file goes in one request.
const SMALL: usize = 4 * 1024 * 1024;
/// A multiple of 320 KiB, below the 60 MiB of one piece.
const PIECE: usize = 16 * 320 * 1024;
/// The most that is taken here.
const MOST: usize = 250 * 1024 * 1024;
/// How often a lost session is replaced.
const SESSIONS: u32 = 3;

/// The native operation `msgraph_upload_file`.
#[derive(Debug)]
pub(crate) struct UploadFile;

#[derive(Deserialize)]
struct Args {
    drive_id: String,
    parent_id: String,
    #[serde(default = "replace")]
    conflict: String,
    #[serde(flatten)]
    file: FileArgs,
}

fn replace() -> String {
    "replace".into()
}

#[async_trait]
impl NativeOperation for UploadFile {
    async fn call(&self, engine: &Engine, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let args: Args = arguments(&call)?;
        let name = name_segment(&args.file.name)?;
        let file = File::of(args.file)?;
        if file.bytes.len() > MOST {
            return Err(Error::invalid(format!("`{}` is larger than 250 MB; nothing was sent", file.name)));
        }
        let outcome = if file.bytes.len() <= SMALL {
            let path = format!("/drives/{}/items/{}:/{name}:/content", segment(&args.drive_id), segment(&args.parent_id));
            small(engine, cx, &path, &args.conflict, &file).await
        } else {
            let session = json!({ "drive_id": args.drive_id, "parent_id": args.parent_id, "name": file.name, "conflict": args.conflict });
            large(engine, cx, session, &file).await
        };
        let item = outcome.map_err(|error| if args.conflict == "replace" { error } else { once(error) })?;
        OpReply::from_value(item, call.decode)
    }
}

/// Without `replace` another try could make a second file, or take our own for somebody else's.
fn once(error: Error) -> Error {
    if may_have_happened(&error) { error.with_kind(ErrorKind::Unknown).with_retry(Retry::Never) } else { error }
}

async fn small(engine: &Engine, cx: &CallCx, path: &str, conflict: &str, file: &File) -> Result<Value> {
    let path = format!("{path}?@microsoft.graph.conflictBehavior={}", segment(conflict));
    let mut request = request(cx, Method::PUT, &path, None)?;
    let kind = HeaderValue::from_str(&file.content_type).map_err(|error| Error::invalid("`content_type` is no header value").with_source(error))?;
    request.head.headers.insert(header::CONTENT_TYPE, kind);
    request.body = Body::Bytes(file.bytes.clone());
    let reply = engine.send_raw(cx, request, true).await?;
    body(engine, cx, &reply)
}

async fn large(engine: &Engine, cx: &CallCx, args: Value, file: &File) -> Result<Value> {
    let mut pieces = 0;
    for _ in 0..SESSIONS {
        let made = engine.call_value(cx, "msgraph_create_drive_upload_session", args.clone()).await?;
        let address = upload_address(cx, &made)?;
        let session = Session { engine, cx, address: &address, piece: PIECE };
        let start = next_expected(&made).unwrap_or(0);
        match session.send_all(&file.bytes, start, &mut pieces, finished).await {
            Ok(Ended::Done(item)) => return Ok(item),
            // The last answer may have been lost with the session; with `replace` sending again does no harm.
            Ok(Ended::Lost) if args["conflict"] == "replace" => {}
            Ok(Ended::Lost) => {
                let message = "the upload session was lost; look whether the file is there before sending it again";
                return Err(Error::new(ErrorKind::Unknown, message).with_retry(Retry::Never));
            }
            Err(error) => {
                session.cancel().await;
                return Err(error);
            }
        }
    }
    Err(Error::new(ErrorKind::Transient, "the upload session was lost again and again").with_context("pieces", pieces.to_string()))
}

/// The file, if the answer is the last one: 200 or 201 with an item, where progress is 202.
fn finished(reply: &RawReply) -> Option<Value> {
    let item: Value = matches!(reply.status, 200 | 201).then(|| serde_json::from_slice(&reply.body).ok())??;
    item["id"].is_string().then_some(item)
}
