//! The stream of a class's items by the time of their last change. Deletions are not told: systems hide them, and items are retired here.

use bytes::Bytes;
use connector_core::{
    Cursor, Error, ErrorKind, Result,
    delta::{Change, DeltaPage},
};
use serde::{Deserialize, Serialize};

use crate::system::System;

/// Rows of a page.
const PAGE: usize = 200;
/// Where a round starts before the last change of the one before: what was written at about the same time may be seen later. A record comes
/// twice then.
const OVERLAP: jiff::SignedDuration = jiff::SignedDuration::from_secs(60);
/// Before every change.
const START: &str = "1970-01-01T00:00:00Z";

/// Where a stream stands.
#[derive(Debug, Serialize, Deserialize)]
struct Position {
    /// This round reads what changed since then.
    since: String,
    /// Rows of this round that were given.
    row: usize,
    /// The newest change seen.
    newest: Option<String>,
}

/// One page of changes of the class that the stream is called after.
pub(crate) async fn page(system: System<'_>, class: &str, cursor: Option<Cursor>) -> Result<DeltaPage> {
    let mut at: Position = match cursor {
        Some(cursor) => serde_json::from_str(cursor.as_str())
            .map_err(|error| Error::new(ErrorKind::CursorExpired, "this cursor is not one of this stream's").with_source(error))?,
        None => Position { since: START.into(), row: 0, newest: None },
    };
    // The stream `cis` follows the class that is looked through first.
    let class = match class {
        "cis" => system.profile.look_through(None)?.first().map(|class| class.name.clone()).unwrap_or_default(),
        other => other.to_owned(),
    };
    let (found, more) = system.changed(&class, &at.since, at.row, PAGE).await?;
    at.row += found.len();
    let mut changes = Vec::new();
    for ci in &found {
        let newer = |time: &String| at.newest.as_ref().is_none_or(|newest| instant(time) > instant(newest));
        if let Some(time) = ci.updated_at.as_ref().filter(|time| newer(time)) {
            at.newest = Some(time.clone());
        }
        let record = serde_json::to_vec(ci).map_err(|error| Error::internal("a record could not be written as JSON").with_source(error))?;
        changes.push(Change::Upsert { key: ci.id.clone(), record: Bytes::from(record) });
    }
    let more = more && !found.is_empty();
    if !more {
        let next = at.newest.as_deref().and_then(instant).and_then(|time| time.checked_sub(OVERLAP).ok()).map(|time| time.to_string());
        at = Position { since: next.unwrap_or(at.since), row: 0, newest: at.newest };
    }
    let next = serde_json::to_string(&at).map_err(|error| Error::internal("a cursor could not be written as JSON").with_source(error))?;
    Ok(DeltaPage { changes, next: Cursor::new(next), more })
}

fn instant(time: &str) -> Option<jiff::Timestamp> {
    time.parse().ok()
}
