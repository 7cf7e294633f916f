//! The bytes of files: small uploads, upload sessions with their ranges, and downloads from an address that takes no token.
//! <https://learn.microsoft.com/graph/api/driveitem-createuploadsession>, <https://learn.microsoft.com/graph/api/driveitem-get-content>

use super::super::attach::content_range;
use super::super::compose::json_body;
use super::super::wire::{bad_request, error};
use super::super::{MsGraph, State};
use super::{gone, items::seen, taken};
use crate::clock::{add_seconds, rfc3339_seconds};
use crate::exchange::{Answer, Reply, Req};
use crate::ledger::EffectKind;
use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Pieces are multiples of this, but for the last.
const STEP: u64 = 327_680;
/// A piece must be smaller.
const PIECE_CAP: u64 = 60 * 1024 * 1024;

/// A file being uploaded.
#[derive(Debug)]
pub(in super::super) struct Upload {
    drive: String,
    parent: String,
    name: String,
    conflict: String,
    got: BytesMut,
    expires: Timestamp,
}

impl Upload {
    fn progress(&self) -> Value {
        json!({ "expirationDateTime": rfc3339_seconds(self.expires), "nextExpectedRanges": [format!("{}-", self.got.len())] })
    }
}

impl MsGraph {
    /// `PUT …/items/{parent}:/{name}:/content`.
    pub(super) fn put_named(&self, state: &mut State, drive: &str, parent: &str, name: &str, req: &Req) -> Answer {
        let conflict = req.q("@microsoft.graph.conflictBehavior").unwrap_or("replace");
        let (item, is_new) = self.put_item(state, drive, parent, name, conflict, Some(req.body.clone()))?;
        Ok(Reply::json(if is_new { 201 } else { 200 }, &item))
    }

    /// `PUT …/items/{id}/content`.
    pub(super) fn put_content(&self, state: &mut State, drive: &str, id: &str, req: &Req) -> Answer {
        if !state.drives.drive(drive)?.item(id)?["file"].is_object() {
            return Err(bad_request("A folder has no content."));
        }
        self.write(state, drive, id, req.body.clone())?;
        let found = state.drives.drive(drive)?;
        Ok(Reply::json(200, &seen(found, found.item(id)?)))
    }

    /// A new version of a file.
    pub(super) fn write(&self, state: &mut State, drive: &str, id: &str, bytes: Bytes) -> Result<(), Reply> {
        let found = state.drives.drive(drive)?;
        let mut item = found.item(id)?.clone();
        if item["publication"]["level"] == "checkout" {
            return Err(error(423, "resourceLocked", "The resource you are attempting to access is locked."));
        }
        (item["size"], item["cTag"]) = (bytes.len().into(), Value::Null);
        found.contents.entry(id.to_owned()).or_default().push(bytes);
        self.keep_item(state, drive, item, EffectKind::FileChanged)
    }

    /// `GET …/content`: a 302 to where the bytes are.
    pub(super) fn send_for_content(&self, state: &mut State, drive: &str, id: &str, req: &Req) -> Answer {
        let number = state.drives.number();
        let found = state.drives.drive(drive)?;
        let item = found.item(id)?;
        if !item["file"].is_object() {
            return Err(bad_request("A folder has no content."));
        }
        if req.header("if-none-match").is_some_and(|known| item["eTag"] == known || item["cTag"] == known) {
            return Ok(Reply::empty(304));
        }
        let token = format!("d{number}");
        let location = format!("{}/download/{token}", req.base);
        state.drives.downloads.insert(token, (drive.to_owned(), id.to_owned()));
        Ok(Reply::empty(302).with("location", &location))
    }

    /// The bytes, at an address that takes no token.
    pub(in super::super) fn download(&self, state: &mut State, token: &str, req: &Req) -> Answer {
        if req.header("authorization").is_some() {
            return Err(error(401, "unauthenticated", "This address takes no token."));
        }
        let (drive, id) = state.drives.downloads.get(token).cloned().ok_or_else(gone)?;
        let bytes = state.drives.drive(&drive)?.contents.get(&id).and_then(|all| all.last()).cloned().unwrap_or_default();
        let Some(range) = req.header("range") else { return Ok(Reply::bytes(200, "application/octet-stream", bytes)) };
        let unfit = || error(416, "invalidRange", "The range cannot be served.");
        let (from, until) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')).ok_or_else(unfit)?;
        let from: usize = from.parse().map_err(|_| unfit())?;
        let until: usize = if until.is_empty() { bytes.len() } else { until.parse::<usize>().map_err(|_| unfit())? + 1 };
        if from >= bytes.len() || from >= until {
            return Err(unfit());
        }
        let until = until.min(bytes.len());
        let told = format!("bytes {from}-{}/{}", until - 1, bytes.len());
        Ok(Reply::bytes(206, "application/octet-stream", bytes.slice(from..until)).with("content-range", &told))
    }

    /// `POST …:/createUploadSession`.
    pub(super) fn create_session(&self, state: &mut State, drive: &str, parent: &str, name: &str, req: &Req) -> Answer {
        let body = json_body(req)?;
        let conflict = body["item"]["@microsoft.graph.conflictBehavior"].as_str().unwrap_or("replace").to_owned();
        let number = state.drives.number();
        let found = state.drives.drive(drive)?;
        if !found.item(parent)?["folder"].is_object() {
            return Err(bad_request("The parent is no folder."));
        }
        let expires = add_seconds(self.shared.clock.now(), 86_400);
        let upload = Upload { drive: drive.to_owned(), parent: parent.to_owned(), name: name.to_owned(), conflict, got: BytesMut::new(), expires };
        let mut reply = upload.progress();
        reply["uploadUrl"] = format!("{}/drive-upload/u{number}", req.base).into();
        state.drives.uploads.insert(format!("u{number}"), upload);
        Ok(Reply::json(200, &reply))
    }

    /// Pieces, status and giving up, at an address that takes no token.
    pub(in super::super) fn drive_upload(&self, state: &mut State, session: &str, req: &Req) -> Answer {
        if req.header("authorization").is_some() {
            return Err(error(401, "unauthenticated", "This address takes no token."));
        }
        let now = self.shared.clock.now();
        let upload = state.drives.uploads.get_mut(session).filter(|upload| upload.expires > now).ok_or_else(gone)?;
        match req.method.as_str() {
            "GET" => return Ok(Reply::json(200, &upload.progress())),
            "DELETE" => {
                state.drives.uploads.remove(session);
                return Ok(Reply::empty(204));
            }
            "PUT" => {}
            _ => return Err(error(405, "methodNotAllowed", "Use PUT, GET or DELETE on an upload URL.")),
        }
        let range = req.header("content-range").and_then(content_range);
        let (start, end, total) = range.ok_or_else(|| bad_request("Content-Range must be 'bytes start-end/total'."))?;
        let length = req.body.len() as u64;
        if end < start || end >= total || length != end - start + 1 {
            return Err(bad_request("Content-Range does not fit the body."));
        }
        if length >= PIECE_CAP || (end + 1 < total && !length.is_multiple_of(STEP)) {
            return Err(bad_request("A piece must be below 60 MiB and a multiple of 320 KiB."));
        }
        if start != upload.got.len() as u64 {
            return Err(error(416, "invalidRange", "The range is not the next expected one."));
        }
        upload.got.extend_from_slice(&req.body);
        if end + 1 < total {
            return Ok(Reply::json(202, &upload.progress()));
        }
        let done = state.drives.uploads.remove(session).ok_or_else(gone)?;
        let outcome = self.put_item(state, &done.drive, &done.parent, &done.name, &done.conflict, Some(done.got.clone().freeze()));
        let (item, is_new) = outcome.map_err(|reply| if reply.status == 409 { taken() } else { reply })?;
        Ok(Reply::json(if is_new { 201 } else { 200 }, &item))
    }

    /// Forgets every upload session, as if they had run out.
    pub fn lose_uploads(&self) {
        crate::ledger::lock(&self.state).drives.uploads.clear();
    }
}
