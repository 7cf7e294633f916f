//! Attaching files of 3 to 150 MB by an upload session. <https://learn.microsoft.com/graph/outlook-large-attachments>

use async_trait::async_trait;
use connector_core::{CallCx, Error, ErrorKind, OpCall, OpReply, Result};
use connector_manifest::{Engine, NativeOperation, RawReply};
use http::header;
use serde::Deserialize;
use serde_json::json;

use super::{
    args::{arguments, mailbox},
    outgoing::{self, File, FileArgs},
    upload_session::{Ended, Session, next_expected, upload_address},
};

/// Below the 4 MB of one PUT, a multiple of 320 KiB.
const PIECE: usize = 10 * 320 * 1024;
/// The most a session takes.
const MOST: usize = 150 * 1024 * 1024;
/// How often a lost session is replaced.
const SESSIONS: u32 = 3;

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
        let session = Session { engine, cx, address: &address, piece: PIECE };
        let done = |reply: &RawReply| (reply.status == 201).then(|| attachment_id(reply));
        match session.send_all(&file.bytes, start, &mut pieces, done).await? {
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

/// The id in a `Location` that ends with `/Attachments('<id>')`.
fn attachment_id(reply: &RawReply) -> Option<String> {
    let location = reply.headers.get(header::LOCATION)?.to_str().ok()?;
    let (_, rest) = location.rsplit_once("Attachments('")?;
    let (id, _) = rest.split_once("')")?;
    Some(percent_encoding::percent_decode_str(id).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

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
