//! Following a mailbox by its changes: QRESYNC where the server has it, CONDSTORE with a look at what is gone, or a plain comparison.
//!
//! A cursor says where we stand: folder, UIDVALIDITY, mod-sequence and the UIDs that are known (or, for very scattered mailboxes, a digest of
//! them). It is raised only with the changes themselves. Another UIDVALIDITY is [`ErrorKind::CursorExpired`]: everything has to be read again.
//! Facts: RFC 7162; fact sheet §3.10.

use std::sync::Arc;

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use connector_core::{
    CallCx, Cursor, Error, ErrorKind, Result,
    delta::{Change, DeltaPage},
};
use connector_manifest::{Engine, NativeDelta};
use serde::{Deserialize, Serialize};

use crate::{
    imap::{
        command::Command,
        fetched::Fetched,
        mailbox::{Access, Open},
        pool::Pool,
        session::Session,
        sets::UidSet,
    },
    mail::{locator::exact, read},
    settings::Settings,
};

/// Messages in one page.
const PAGE: usize = 200;
/// The longest list of known UIDs that a cursor carries.
const LONGEST_SET: usize = 32 * 1024;
/// The most changes that are told without a full resync.
const MOST_CHANGES: u64 = 200_000;

/// The source of changes.
#[derive(Debug)]
pub(crate) struct MailDelta {
    pub(crate) pool: Arc<Pool>,
}

/// Where we stand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    /// Which folder.
    f: String,
    /// Its UIDVALIDITY.
    v: u32,
    /// The mod-sequence up to which everything is told, where the server has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    m: Option<u64>,
    /// The UIDs that were told; absent where they are too scattered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    u: Option<String>,
    /// How many they are, and their digest.
    n: u64,
    d: String,
    /// The first reading or a catching up goes on above this UID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    a: Option<u32>,
}

impl Place {
    fn read(cursor: &Cursor) -> Result<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(cursor.as_str()).ok();
        bytes
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .ok_or_else(|| Error::new(ErrorKind::CursorExpired, "this is not a cursor of a mailbox"))
    }

    fn write(&self) -> Result<Cursor> {
        let bytes = serde_json::to_vec(self).map_err(|error| Error::internal("a cursor cannot be written").with_source(error))?;
        Ok(Cursor::new(URL_SAFE_NO_PAD.encode(bytes)))
    }

    fn know(&mut self, uids: &UidSet) {
        let text = uids.to_string();
        self.n = uids.len();
        self.d = uids.digest();
        self.u = (text.len() <= LONGEST_SET).then_some(text);
    }

    fn known(&self) -> Option<UidSet> {
        self.u.as_deref().and_then(UidSet::parse)
    }
}

#[async_trait]
impl NativeDelta for MailDelta {
    async fn changes(&self, engine: &Engine, cx: &CallCx, stream: &str, cursor: Option<Cursor>) -> Result<DeltaPage> {
        let folder = match stream.split_once(':') {
            None if stream == "messages" => "INBOX",
            Some(("messages", folder)) if !folder.is_empty() => folder,
            _ => {
                let stream = connector_core::redact::printable(stream, 60);
                return Err(Error::unsupported(format!("`{stream}` is not a stream of email; accepted: messages, messages:FOLDER")));
            }
        };
        let settings = Settings::of(cx)?;
        let mut session = self.pool.lease(engine, cx, &settings).await?;
        let place = cursor.as_ref().map(Place::read).transpose()?;
        match place {
            Some(place) if place.f != folder => Err(Error::new(ErrorKind::CursorExpired, "this cursor belongs to another folder")),
            Some(place) => next(&mut session, place).await,
            None => {
                let open = session.open(folder, Access::Read, None).await?;
                let place = Place { f: folder.to_owned(), v: open.uid_validity, m: open.highest_modseq, a: Some(0), ..Place::default() };
                first(&mut session, &open, place).await
            }
        }
    }
}

async fn next(session: &mut Session, place: Place) -> Result<DeltaPage> {
    if place.a.is_some() {
        let open = session.open(&place.f, Access::Read, None).await?;
        same(&open, &place)?;
        return first(session, &open, place).await;
    }
    let quick = match place.m {
        Some(modseq) if session.enable("QRESYNC").await? => Some((place.v, modseq)),
        _ => None,
    };
    let open = session.open(&place.f, Access::Read, quick).await?;
    same(&open, &place)?;
    // Without QRESYNC a removal need not raise the mod-sequence (RFC 7162 §3.1.2), but it changes the count.
    let none_gone = if quick.is_some() { open.vanished.is_empty() } else { u64::from(open.exists) == place.n };
    if place.m.is_some() && open.highest_modseq == place.m && none_gone {
        return Ok(DeltaPage { changes: Vec::new(), next: place.write()?, more: false });
    }
    // What is gone.
    let (gone, now) = match (quick, place.known()) {
        // A server may name UIDs that never were: only those we told count, where we know them.
        (Some(_), Some(known)) => {
            let gone = open.vanished.intersection(&known);
            let rest = known.without(&gone);
            (gone, Some(rest))
        }
        (Some(_), None) => (open.vanished.clone(), None),
        (None, known) => {
            let present = UidSet::of(session.search(Command::new("ALL")).await?);
            match known {
                Some(known) => (known.without(&present), Some(known.intersection(&present))),
                None => {
                    let still = UidSet::of(present.iter().filter(|uid| Some(*uid) <= place.last()));
                    if still.len() != place.n || still.digest() != place.d {
                        return Err(Error::new(
                            ErrorKind::CursorExpired,
                            "messages are gone, and this mailbox is too scattered to tell which; read it again",
                        ));
                    }
                    (UidSet::default(), Some(still))
                }
            }
        }
    };
    if gone.len() > MOST_CHANGES {
        return Err(Error::new(ErrorKind::CursorExpired, "so much is gone that reading everything again is quicker"));
    }
    // What is new or changed.
    let changed: Vec<u32> = match (quick, place.m) {
        (Some(_), _) => open.changed.iter().map(|fetched| fetched.uid).collect(),
        (None, Some(modseq)) => session.changed_since(modseq, false).await?.0.iter().map(|fetched| fetched.uid).collect(),
        (None, None) => {
            let known = now.clone().unwrap_or_default();
            session.search(Command::new("ALL")).await?.into_iter().filter(|uid| !known.contains(*uid)).collect()
        }
    };
    if changed.len() as u64 > MOST_CHANGES {
        return Err(Error::new(ErrorKind::CursorExpired, "so much has changed that reading everything again is quicker"));
    }
    let changed = UidSet::of(changed).without(&gone);
    let mut changes: Vec<Change> = gone.iter().map(|uid| Change::Delete { key: exact(&open.name, open.uid_validity, uid) }).collect();
    let uids: Vec<u32> = changed.iter().collect();
    changes.extend(upserts(session, &open, &uids).await?);
    let mut next = Place { f: place.f.clone(), v: place.v, m: open.highest_modseq.or(place.m), ..Place::default() };
    next.know(&match now {
        Some(rest) => rest.union(&changed),
        None => UidSet::of(session.search(Command::new("ALL")).await?),
    });
    Ok(DeltaPage { changes, next: next.write()?, more: false })
}

impl Place {
    fn last(&self) -> Option<u32> {
        self.known().and_then(|known| known.last()).or(Some(u32::MAX))
    }
}

/// The first reading, a page at a time, from the smallest UID on. The mod-sequence is that of the beginning, so nothing between is missed.
async fn first(session: &mut Session, open: &Open, mut place: Place) -> Result<DeltaPage> {
    let from = place.a.unwrap_or_default().saturating_add(1);
    let all = session.search(Command::new("ALL")).await?;
    let page: Vec<u32> = all.iter().copied().filter(|uid| *uid >= from).take(PAGE).collect();
    let changes = upserts(session, open, &page).await?;
    let last = page.last().copied();
    let more = last.is_some_and(|last| all.last().is_some_and(|greatest| *greatest > last));
    if more {
        place.a = last;
    } else {
        place.a = None;
        place.know(&UidSet::of(all.into_iter().filter(|uid| last.is_none_or(|last| *uid <= last))));
    }
    Ok(DeltaPage { changes, next: place.write()?, more })
}

fn same(open: &Open, place: &Place) -> Result<()> {
    if open.uid_validity == place.v {
        return Ok(());
    }
    Err(Error::new(ErrorKind::CursorExpired, "the folder was rebuilt (another UIDVALIDITY); read it again from the beginning")
        .with_vendor_code("UIDVALIDITY"))
}

async fn upserts(session: &mut Session, open: &Open, uids: &[u32]) -> Result<Vec<Change>> {
    let gmail = if session.is_gmail() { " X-GM-LABELS X-GM-MSGID X-GM-THRID" } else { "" };
    let items = format!("(UID FLAGS INTERNALDATE RFC822.SIZE BODYSTRUCTURE{gmail} BODY.PEEK[HEADER.FIELDS ({})])", read::FIELDS);
    let mut changes = Vec::with_capacity(uids.len());
    let mut told = std::collections::HashSet::new();
    session
        .fetch(uids, &items, 0, &mut |fetched: Fetched| {
            if fetched.header.is_some() && told.insert(fetched.uid) {
                let record = serde_json::to_vec(&read::summary(&open.name, open.uid_validity, &fetched));
                let record = record.map_err(|error| Error::internal("a change cannot be written as JSON").with_source(error))?;
                changes.push(Change::Upsert { key: exact(&open.name, open.uid_validity, fetched.uid), record: Bytes::from(record) });
            }
            Ok(())
        })
        .await?;
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_written_and_read() {
        let mut place = Place { f: "Entw\u{fc}rfe".into(), v: 7, m: Some(9), ..Place::default() };
        place.know(&UidSet::of([1, 2, 3, 9]));
        assert_eq!(Place::read(&place.write().unwrap()).unwrap(), place);
        assert_eq!((place.n, place.u.as_deref()), (4, Some("1:3,9")));
        place.know(&UidSet::of((0..40_000).map(|n| n * 2 + 1)));
        assert!(place.u.is_none() && place.write().unwrap().as_str().len() < 500);
        assert_eq!(Place::read(&Cursor::new("x")).unwrap_err().kind(), ErrorKind::CursorExpired);
    }
}
