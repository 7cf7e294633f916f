//! Files by their path, and their bytes. A path is encoded part by part, and a download is sent to another host, where no token goes.
//! <https://learn.microsoft.com/graph/api/driveitem-get>, <https://learn.microsoft.com/graph/api/driveitem-get-content>

use std::sync::Arc;

use async_trait::async_trait;
use connector_core::{CallCx, Error, OpCall, OpReply, Result, connector::ReplyBody, transport::Request};
use connector_manifest::{Engine, NativeOperation, RawReply};
use http::{HeaderValue, Method, header};
use serde::Deserialize;
use serde_json::Value;

use super::{
    args::{arguments, request, segment},
    upload_session::{foreign_address, scrubbed},
};

/// What no name of a file or folder may have. <https://learn.microsoft.com/graph/onedrive-addressing-driveitems>
const FORBIDDEN: [char; 9] = ['"', '*', ':', '<', '>', '?', '/', '\\', '|'];

/// A name as one encoded segment; a name Graph would refuse is refused here.
pub(crate) fn name_segment(name: &str) -> Result<String> {
    if matches!(name, "" | "." | "..") || name.contains(FORBIDDEN) || name.chars().any(char::is_control) {
        return Err(Error::invalid("a name in a drive cannot be empty, `.` or `..`, nor have any of \" * : < > ? / \\ |"));
    }
    Ok(segment(name))
}

/// The native operation `msgraph_get_drive_item_by_path`.
#[derive(Debug)]
pub(crate) struct ByPath;

#[derive(Deserialize)]
struct PathArgs {
    drive_id: String,
    path: String,
}

#[async_trait]
impl NativeOperation for ByPath {
    async fn call(&self, engine: &Engine, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let args: PathArgs = arguments(&call)?;
        let parts = args.path.trim_matches('/').split('/').map(name_segment).collect::<Result<Vec<_>>>()?;
        let path = format!("/drives/{}/root:/{}", segment(&args.drive_id), parts.join("/"));
        let reply = engine.send_raw(cx, request(cx, Method::GET, &path, None)?, true).await?;
        if reply.status == 404 {
            return OpReply::from_value(Value::Null, call.decode);
        }
        OpReply::from_value(body(engine, cx, &reply)?, call.decode)
    }
}

/// The JSON of a success; otherwise the error it stands for.
pub(crate) fn body(engine: &Engine, cx: &CallCx, reply: &RawReply) -> Result<Value> {
    if !reply.is_success() {
        return Err(engine.error_for(cx, reply));
    }
    serde_json::from_slice(&reply.body).map_err(|error| connector_core::connector::json_error(&error))
}

/// The native operation `msgraph_download_file`.
#[derive(Debug)]
pub(crate) struct Download;

#[derive(Deserialize)]
struct DownloadArgs {
    drive_id: String,
    item_id: String,
    range: Option<String>,
}

#[async_trait]
impl NativeOperation for Download {
    async fn call(&self, engine: &Engine, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let args: DownloadArgs = arguments(&call)?;
        let path = format!("/drives/{}/items/{}/content", segment(&args.drive_id), segment(&args.item_id));
        let mut first = request(cx, Method::GET, &path, None)?;
        first.head.headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        let mut reply = engine.send_raw(cx, first, true).await?;
        if matches!(reply.status, 302 | 307) {
            let location = reply.headers.get(header::LOCATION).and_then(|location| location.to_str().ok());
            let location = location.ok_or_else(|| Error::protocol("the answer sends elsewhere for the bytes, but does not say where"))?;
            // A range belongs to the host that has the bytes.
            let mut second = Request::new(Method::GET, foreign_address(cx, location)?);
            if let Some(range) = &args.range {
                let range = HeaderValue::from_str(range).map_err(|error| Error::invalid("`range` is no header value").with_source(error))?;
                second.head.headers.insert(header::RANGE, range);
            }
            reply = engine.send_raw(cx, second, false).await?;
            if !reply.is_success() {
                return Err(scrubbed(engine, cx, &reply));
            }
        } else if !reply.is_success() {
            return Err(engine.error_for(cx, &reply));
        }
        let content_type = reply.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("application/octet-stream");
        let content_type: Arc<str> = content_type.into();
        Ok(OpReply::new(ReplyBody::Raw { bytes: reply.body, content_type }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_graph_refuses_or_that_would_leave_the_folder_are_refused() {
        for wrong in ["", ".", "..", "a/b", "a:b", "c?", "x\\y", "a\nb"] {
            assert!(name_segment(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(name_segment("Plan 2026 #1.txt").unwrap(), "Plan%202026%20%231.txt");
    }
}
