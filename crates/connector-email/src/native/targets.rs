//! Which messages a call means: ids resolved to folders and UIDs, many at once. What is gone is told for each message by itself.

use std::collections::BTreeMap;

use connector_core::{Error, ErrorKind, Result, connector::ItemError};
use serde_json::Value;

use super::{Mail, folder_named};
use crate::{
    imap::{
        command::Command,
        mailbox::{Access, Open},
        names::Purpose,
        session::Session,
        sets::UidSet,
    },
    mail::{locator::Locator, search::Criteria},
};

/// The most messages of one call.
const MOST: usize = 500;
/// The most folders that are looked through for a Message-ID.
const MOST_FOLDERS: usize = 30;

/// Messages of one folder.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) open: Open,
    pub(super) uids: Vec<u32>,
}

/// All that a call means.
#[derive(Debug, Default)]
pub(super) struct Targets {
    /// By folder.
    pub(super) wanted: BTreeMap<String, Wanted>,
    pub(super) missing: Vec<ItemError>,
    pub(super) total: usize,
}

/// What is wanted of one folder, before it is opened.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Which UIDVALIDITY each of them was named under, and where in the arguments.
    uids: Vec<(u32, u32, usize)>,
}

fn gone(index: usize, key: &str, message: &str) -> ItemError {
    let key = Some(connector_core::redact::printable(key, 120));
    ItemError { index: Some(index), key, kind: ErrorKind::NotFound, message: message.to_owned(), vendor_code: None, retryable: false }
}

impl Mail<'_> {
    /// The messages that the argument `messages` names.
    pub(super) async fn targets(&self, session: &mut Session) -> Result<Targets> {
        let names: Vec<String> =
            self.call.args.get("messages").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        if names.is_empty() || names.len() > MOST {
            return Err(Error::invalid(format!("`messages` names from 1 to {MOST} messages")));
        }
        let mut targets = Targets { total: names.len(), ..Targets::default() };
        // All are read before anything is looked for, so that a wrong one stops the call before it begins.
        let locators = names.iter().map(|name| Locator::parse(name)).collect::<Result<Vec<_>>>()?;
        for (index, (locator, name)) in locators.into_iter().zip(&names).enumerate() {
            match locator {
                Locator::Exact { folder, uid_validity, uid } => targets.wanted.entry(folder).or_default().uids.push((uid_validity, uid, index)),
                Locator::MessageId(id) => match find_id(session, self.text("folder"), &id).await? {
                    Some((open, uid)) => targets.wanted.entry(open.name).or_default().uids.push((open.uid_validity, uid, index)),
                    None => targets.missing.push(gone(index, name, "no folder has a message of this Message-ID")),
                },
            }
        }
        Ok(targets)
    }

    /// One message, opened for reading: where it is and its UID.
    pub(super) async fn target(&self, session: &mut Session, access: Access) -> Result<(Open, u32)> {
        let name = self.required("message")?;
        match Locator::parse(name)? {
            Locator::Exact { folder, uid_validity, uid } => {
                let open = session.open(&folder, access, None).await?;
                if open.uid_validity != uid_validity {
                    return Err(rebuilt(&folder));
                }
                Ok((open, uid))
            }
            Locator::MessageId(id) => {
                let (open, uid) = find_id(session, self.text("folder"), &id).await?.ok_or_else(not_found)?;
                Ok(if access == Access::Write { (session.open(&open.name, access, None).await?, uid) } else { (open, uid) })
            }
        }
    }
}

/// UIDs mean other messages now, or none (RFC 9051 §2.3.1.1).
pub(super) fn rebuilt(folder: &str) -> Error {
    Error::new(ErrorKind::CursorExpired, "the folder was rebuilt since this id was given out (another UIDVALIDITY); look for the message again")
        .with_context("folder", connector_core::redact::printable(folder, 60))
}

pub(super) fn not_found() -> Error {
    Error::new(ErrorKind::NotFound, "there is no such message; it may have been moved or removed")
}

impl Targets {
    /// Opens a folder and leaves of what was wanted in it what is there.
    pub(super) async fn open(&mut self, session: &mut Session, folder: &str, wanted: Wanted, access: Access) -> Result<Option<Group>> {
        let open = match session.open(folder, access, None).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.missing.extend(wanted.uids.iter().map(|(_, _, index)| gone(*index, folder, "there is no such folder")));
                return Ok(None);
            }
            open => open?,
        };
        let there = session.search(Command::new(format!("UID {}", UidSet::of(wanted.uids.iter().map(|(_, uid, _)| *uid))))).await?;
        let mut uids = Vec::new();
        for (validity, uid, index) in wanted.uids {
            if validity != open.uid_validity {
                let mut error = gone(index, folder, "the folder was rebuilt since this id was given out (another UIDVALIDITY)");
                error.kind = ErrorKind::CursorExpired;
                self.missing.push(error);
            } else if there.binary_search(&uid).is_err() {
                self.missing.push(gone(index, &format!("{folder};{validity};{uid}"), "the message is not there any more"));
            } else {
                uids.push(uid);
            }
        }
        uids.sort_unstable();
        uids.dedup();
        Ok((!uids.is_empty()).then_some(Group { open, uids }))
    }

    /// The error if nothing at all was there.
    pub(super) fn all_missing(&self) -> Option<Error> {
        let first = self.missing.first().filter(|_| self.missing.len() == self.total)?;
        Some(if first.kind == ErrorKind::CursorExpired { rebuilt("") } else { not_found() }.with_context("messages", self.total.to_string()))
    }
}

/// Looks for a Message-ID: in the folder that is named, or in the inbox, then in the folder of all mail, then in every other. The folder it
/// was found in stays open for reading.
pub(super) async fn find_id(session: &mut Session, folder: Option<&str>, id: &str) -> Result<Option<(Open, u32)>> {
    let criteria = Criteria { message_id: Some(id.to_owned()), ..Criteria::default() };
    let folders = match folder {
        Some(name) => vec![folder_named(session, name).await?],
        None => {
            let mut listed = session.folders().await?;
            listed.retain(|folder| folder.selectable);
            let rank = |purpose: Option<Purpose>| match purpose {
                Some(Purpose::Inbox) => 0,
                Some(Purpose::All) => 1,
                Some(Purpose::Archive | Purpose::Sent | Purpose::Drafts) => 2,
                Some(Purpose::Junk | Purpose::Trash) => 4,
                _ => 3,
            };
            listed.sort_by_key(|folder| rank(folder.purpose));
            listed.truncate(MOST_FOLDERS);
            listed.into_iter().map(|folder| folder.name).collect()
        }
    };
    let keys = criteria.keys(false)?;
    for name in folders {
        let open = match session.open(&name, Access::Read, None).await {
            // A folder somebody may list but not open.
            Err(error) if folder.is_none() && session.is_clean() && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Forbidden) => continue,
            open => open?,
        };
        // Servers look for a part of the value; the newest is meant where several have it.
        if let Some(uid) = session.search(keys.clone()).await?.last() {
            return Ok(Some((open, *uid)));
        }
    }
    Ok(None)
}
