//! Drives of the fake tenant: a document library and the OneDrive of each mailbox, with folders, files, versions and permissions.
//! <https://learn.microsoft.com/graph/api/resources/onedrive>

mod content;
mod items;
mod sharing;

use super::rows::{self, Listing, Shelf};
use super::wire::error;
use super::{MsGraph, State, unknown_segment};
use crate::auth::known;
use crate::exchange::{Answer, Reply, Req};
use bytes::Bytes;
pub(super) use content::Upload;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What listings of files allow.
const PLAIN: Listing = Listing { page: (200, 1000), queries: true };
/// Characters no name may have. <https://learn.microsoft.com/graph/onedrive-addressing-driveitems>
const FORBIDDEN: [char; 9] = ['"', '*', ':', '<', '>', '?', '/', '\\', '|'];

/// All drives, and what goes on beside the API.
#[derive(Debug)]
pub(super) struct Drives {
    drives: BTreeMap<String, Drive>,
    pub(super) uploads: BTreeMap<String, Upload>,
    /// Pre-authenticated downloads: token to drive and item.
    downloads: BTreeMap<String, (String, String)>,
    /// Running copies: looks still to be told `inProgress`, and the copy.
    copies: BTreeMap<String, (u32, String)>,
    /// Looks a copy takes.
    pub(super) slow_copies: u32,
    made: u64,
}

/// A drive. Items are JSON as Graph shows them; contents and permissions are beside them.
#[derive(Debug, Default)]
struct Drive {
    head: Value,
    root: String,
    items: Shelf,
    contents: BTreeMap<String, Vec<Bytes>>,
    permissions: BTreeMap<String, Vec<Value>>,
    quota: u64,
}

impl Default for Drives {
    fn default() -> Self {
        let mut drives =
            Self { drives: BTreeMap::new(), uploads: BTreeMap::new(), downloads: BTreeMap::new(), copies: BTreeMap::new(), slow_copies: 1, made: 0 };
        drives.add(known::GRAPH_DRIVE, "Documents", "documentLibrary");
        drives
    }
}

/// SharePoint's 404.
fn gone() -> Reply {
    error(404, "itemNotFound", "The resource could not be found.")
}

/// A name that is taken.
fn taken() -> Reply {
    error(409, "nameAlreadyExists", "The specified item name already exists.")
}

impl Drives {
    fn add(&mut self, id: &str, name: &str, kind: &str) {
        let head = json!({ "id": id, "name": name, "driveType": kind, "createdDateTime": "2026-11-20T08:00:00Z",
            "lastModifiedDateTime": "2026-11-20T08:00:00Z", "webUrl": format!("https://contoso.sharepoint.example/{name}") });
        let root = format!("01{}ROOT", id.trim_start_matches("b!").to_uppercase());
        let mut drive = Drive { head, root: root.clone(), quota: 1 << 40, ..Drive::default() };
        let item = json!({ "id": root, "name": "root", "size": 0, "folder": { "childCount": 0 }, "root": {}, "createdDateTime": "2026-11-20T08:00:00Z",
            "lastModifiedDateTime": "2026-11-20T08:00:00Z", "parentReference": { "driveId": id, "driveType": kind } });
        drive.items.put(&root, item);
        self.drives.insert(id.to_owned(), drive);
    }

    fn number(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    fn drive(&mut self, id: &str) -> Result<&mut Drive, Reply> {
        self.drives.get_mut(id).ok_or_else(gone)
    }

    /// The root folder's id.
    pub(super) fn root(&mut self, id: &str) -> Result<String, Reply> {
        self.drive(id).map(|drive| drive.root.clone())
    }

    /// The drives of one kind.
    pub(super) fn heads(&self, kind: &str) -> Vec<Value> {
        self.drives.values().filter(|drive| drive.head["driveType"] == kind).map(Drive::shown).collect()
    }

    /// The OneDrive of a mailbox, made at the first look.
    fn own(&mut self, user: &str) -> String {
        let id = format!("b!{}", user.split('@').next().unwrap_or(user));
        if !self.drives.contains_key(&id) {
            self.add(&id, "OneDrive", "business");
        }
        id
    }
}

impl Drive {
    fn used(&self) -> u64 {
        self.contents.values().flatten().map(|bytes| bytes.len() as u64).sum()
    }

    fn shown(&self) -> Value {
        let mut head = self.head.clone();
        head["quota"] = json!({ "total": self.quota, "used": self.used(), "remaining": self.quota.saturating_sub(self.used()), "state": "normal" });
        head
    }

    /// An item's id: `root` stands for the root folder.
    fn id(&self, id: &str) -> Result<String, Reply> {
        let id = if id == "root" { &self.root } else { id };
        self.items.get(id).map(|_| id.to_owned()).ok_or_else(gone)
    }

    fn item(&self, id: &str) -> Result<&Value, Reply> {
        self.items.get(if id == "root" { &self.root } else { id }).ok_or_else(gone)
    }

    fn children(&self, id: &str) -> impl Iterator<Item = &Value> {
        self.items.all().filter(move |item| item["parentReference"]["id"] == id)
    }

    /// An item of a folder by its name, without regard to case.
    fn child(&self, parent: &str, name: &str) -> Option<&Value> {
        self.children(parent).find(|item| item["name"].as_str().is_some_and(|known| known.eq_ignore_ascii_case(name)))
    }

    /// An item by its path from the root.
    fn by_path(&self, parts: &[&str]) -> Result<String, Reply> {
        parts
            .iter()
            .try_fold(self.root.clone(), |at, part| self.child(&at, part).and_then(|item| item["id"].as_str()).map(str::to_owned).ok_or_else(gone))
    }
}

impl MsGraph {
    /// Makes every delta cursor of a drive stale.
    pub fn expire_drive(&self, drive: &str) {
        if let Ok(drive) = crate::ledger::lock(&self.state).drives.drive(drive) {
            drive.items.expire();
        }
    }

    /// Leaves a drive so much room, bytes.
    pub fn set_quota(&self, drive: &str, bytes: u64) {
        if let Ok(drive) = crate::ledger::lock(&self.state).drives.drive(drive) {
            drive.quota = bytes;
        }
    }

    /// How often a copy is told to go on before it is there.
    pub fn slow_copies(&self, looks: u32) {
        crate::ledger::lock(&self.state).drives.slow_copies = looks;
    }

    /// A file's bytes by its path. `None`: there is none.
    pub fn file(&self, drive: &str, path: &str) -> Option<Bytes> {
        let mut state = crate::ledger::lock(&self.state);
        let drive = state.drives.drive(drive).ok()?;
        let id = drive.by_path(&path.split('/').collect::<Vec<_>>()).ok()?;
        drive.contents.get(&id)?.last().cloned()
    }

    /// Upload sessions that were begun and neither finished nor given up.
    pub fn open_uploads(&self) -> usize {
        crate::ledger::lock(&self.state).drives.uploads.len()
    }

    /// `/users/{u}/drive` and `/users/{u}/drives`.
    pub(super) fn drives_of(&self, state: &mut State, user: &str, method: &str, rest: &[&str], req: &Req) -> Option<Answer> {
        let ("GET", ["drive" | "drives"]) = (method, rest) else { return None };
        Some(self.permitted(req, READ, "accessDenied").and_then(|()| {
            let id = state.drives.own(user);
            let head = state.drives.drive(&id)?.shown();
            if rest == ["drive"] { rows::one(req, &head) } else { rows::list(req, vec![head], PLAIN) }
        }))
    }

    /// `/drives…` and `/shares…`; `path` is as it was sent, because names may have brackets.
    pub(super) fn drives(&self, state: &mut State, method: &str, path: &[&str], req: &Req) -> Answer {
        self.permitted(req, if method == "GET" { READ } else { WRITE }, "accessDenied")?;
        self.unthrottled()?;
        match (method, path) {
            ("GET", ["shares", share, "driveItem"]) => self.shared_item(state, share, req),
            ("GET", ["drives", drive]) => rows::one(req, &state.drives.drive(drive)?.shown()),
            (_, ["drives", drive, "root", rest @ ..]) => {
                let root = state.drives.root(drive)?;
                self.drive_item(state, drive, &root, method, rest, req)
            }
            (_, ["drives", drive, "root:", rest @ ..]) => {
                let end = rest.iter().position(|part| part.ends_with(':')).map_or(rest.len(), |at| at + 1);
                let parts: Vec<&str> = rest[..end].iter().map(|part| part.trim_end_matches(':')).collect();
                match (method, &rest[end..]) {
                    ("PUT", ["content"]) | ("POST", ["createUploadSession"]) => {
                        let (name, above) = parts.split_last().ok_or_else(gone)?;
                        let parent = state.drives.drive(drive)?.by_path(above)?;
                        self.named(state, drive, &parent, name, rest[end], req)
                    }
                    (_, after) => {
                        let id = state.drives.drive(drive)?.by_path(&parts)?;
                        self.drive_item(state, drive, &id, method, after, req)
                    }
                }
            }
            ("PUT" | "POST", ["drives", drive, "items", parent, name, what]) if parent.ends_with(':') && name.ends_with(':') => {
                let parent = state.drives.drive(drive)?.id(parent.trim_end_matches(':'))?;
                self.named(state, drive, &parent, name.trim_end_matches(':'), what, req)
            }
            (_, ["drives", drive, "items", id, rest @ ..]) => {
                let id = state.drives.drive(drive)?.id(id)?;
                self.drive_item(state, drive, &id, method, rest, req)
            }
            _ => Err(unknown_segment()),
        }
    }

    /// `/items/{parent}:/{name}:/content` and `…:/createUploadSession`.
    fn named(&self, state: &mut State, drive: &str, parent: &str, name: &str, what: &str, req: &Req) -> Answer {
        match what {
            "content" => self.put_named(state, drive, parent, name, req),
            "createUploadSession" => self.create_session(state, drive, parent, name, req),
            _ => Err(unknown_segment()),
        }
    }
}

/// What lets read.
const READ: &[&str] = &["Files.Read.All", "Files.ReadWrite.All", "Sites.Read.All", "Sites.ReadWrite.All", "Sites.Selected", "Files.Read"];
/// What lets write.
const WRITE: &[&str] = &["Files.ReadWrite.All", "Sites.ReadWrite.All", "Sites.Selected", "Files.ReadWrite"];
