//! Following a collection by change time, past the 10,000 results that one search gives.
//!
//! Every page opens a new window that starts at the last change time seen, so no query ever comes near the cap and a record that changes
//! during the walk moves to its end instead of shifting its neighbours out of sight. More records of one instant than a page holds are
//! walked by id. Deletions come from the recycle bin, because archived records never show in search.
//!
//! <https://developers.hubspot.com/docs/guides/api/crm/search>

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    CallCx, Cursor, Error, ErrorKind, Result,
    clock::unix_millis,
    delta::{Change, DeltaPage},
};
use connector_manifest::{Engine, NativeDelta};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The most one search page holds.
const PAGE: usize = 200;
/// The search index lags some seconds behind writes, so a new round starts this much before the last change seen.
const OVERLAP: Duration = Duration::from_secs(60);

/// The changes of every kind of record that is a stream.
#[derive(Debug)]
pub(crate) struct SearchWindows;

/// Where a stream stands. Stored as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Position {
    /// The window starts here: Unix milliseconds of a change.
    since: u64,
    /// The latest change of this round.
    seen: u64,
    /// All records of the instant `since` up to this id are done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tie: Option<u64>,
    /// The round is through with changes and reads the recycle bin; the cursor of its listing, empty for its first page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bin: Option<String>,
    /// Deletions before this are known. Absent in the first round, which has nothing to delete from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deleted_since: Option<u64>,
    /// When this round began.
    began: u64,
}

/// A stream's words at the vendor.
struct Names {
    search: &'static str,
    list: &'static str,
    /// Contacts differ from all others.
    modified: &'static str,
}

fn names(stream: &str) -> Result<Names> {
    let (search, list, modified) = match stream {
        "contacts" => ("hubspot_search_contacts", "hubspot_list_contacts", "lastmodifieddate"),
        "companies" => ("hubspot_search_companies", "hubspot_list_companies", "hs_lastmodifieddate"),
        "deals" => ("hubspot_search_deals", "hubspot_list_deals", "hs_lastmodifieddate"),
        "tickets" => ("hubspot_search_tickets", "hubspot_list_tickets", "hs_lastmodifieddate"),
        "products" => ("hubspot_search_products", "hubspot_list_products", "hs_lastmodifieddate"),
        "line_items" => ("hubspot_search_line_items", "hubspot_list_line_items", "hs_lastmodifieddate"),
        "tasks" => ("hubspot_search_tasks", "hubspot_list_tasks", "hs_lastmodifieddate"),
        "notes" => ("hubspot_search_notes", "hubspot_list_notes", "hs_lastmodifieddate"),
        other => {
            let other = connector_core::redact::printable(other, 60);
            return Err(Error::unsupported(format!(
                "hubspot has no stream `{other}`; there are contacts, companies, deals, tickets, products, line_items, tasks and notes"
            )));
        }
    };
    Ok(Names { search, list, modified })
}

#[async_trait]
impl NativeDelta for SearchWindows {
    async fn changes(&self, engine: &Engine, cx: &CallCx, stream: &str, cursor: Option<Cursor>) -> Result<DeltaPage> {
        let names = names(stream)?;
        let now = unix_millis(engine.clock().wall());
        let position = match cursor {
            Some(cursor) => serde_json::from_str(cursor.as_str())
                .map_err(|error| Error::new(ErrorKind::CursorExpired, "this cursor is not one of this stream's").with_source(error))?,
            None => Position { since: 0, seen: 0, tie: None, bin: None, deleted_since: None, began: now },
        };
        match position.bin.clone() {
            Some(page) => deletions(engine, cx, &names, position, &page, now).await,
            None => window(engine, cx, &names, position, now).await,
        }
    }
}

/// One page of changes, and the window after it.
async fn window(engine: &Engine, cx: &CallCx, names: &Names, mut position: Position, now: u64) -> Result<DeltaPage> {
    let since = position.since.to_string();
    let (filters, sort) = match position.tie {
        None => (json!([{ "propertyName": names.modified, "operator": "GTE", "value": since }]), names.modified),
        Some(id) => (
            json!([
                { "propertyName": names.modified, "operator": "EQ", "value": since },
                { "propertyName": "hs_object_id", "operator": "GT", "value": id.to_string() },
            ]),
            "hs_object_id",
        ),
    };
    let args = json!({
        "filter_groups": [{ "filters": filters }],
        "sorts": [{ "propertyName": sort, "direction": "ASCENDING" }],
        "properties": properties(engine, names),
        "limit": PAGE,
    });
    let mut page = engine.call_value(cx, names.search, args).await?;
    let records = match page.get_mut("results").map(Value::take) {
        Some(Value::Array(records)) => records,
        _ => return Err(Error::protocol("the search reply has no list of results")),
    };
    let full = page.pointer("/paging/next/after").is_some();
    let last = match records.last() {
        Some(record) => Some((changed_at(record, names)?, id_of(record)?)),
        None => None,
    };
    match (last, position.tie) {
        // The instant is walked through to its end.
        (_, Some(_)) if !full => {
            position.tie = None;
            position.since += 1;
            position.seen = position.seen.max(position.since - 1);
            return upserts(records, position, true);
        }
        (Some((_, id)), Some(_)) => position.tie = Some(id),
        // The page holds one instant only, and there is more: walk that instant by id.
        (Some((at, _)), None) if full && at == position.since => {
            position.tie = Some(0);
            // Sorted by change time, this page's records of the instant are in no order of ids; all come again by id.
        }
        (Some((at, _)), None) => {
            position.since = at;
            position.seen = position.seen.max(at);
        }
        (None, _) => {}
    }
    if full {
        return upserts(records, position, true);
    }
    // The changes of this round are all here. The first round has no deletions to look for.
    if position.deleted_since.is_some() {
        position.bin = Some(String::new());
        return upserts(records, position, true);
    }
    let next = next_round(&position, now);
    upserts(records, next, false)
}

/// One page of the recycle bin, and the start of the next round after its last.
async fn deletions(engine: &Engine, cx: &CallCx, names: &Names, mut position: Position, page: &str, now: u64) -> Result<DeltaPage> {
    let cursor = (!page.is_empty()).then(|| Cursor::new(page));
    let args = json!({ "archived": true, "properties": ["hs_object_id"], "limit": 100 });
    let reply = engine.call_inner(cx, names.list, args, cursor).await?;
    let body = reply.body.to_value()?;
    let records = body.get("results").and_then(Value::as_array).ok_or_else(|| Error::protocol("the listing has no list of results"))?;
    let known = position.deleted_since.unwrap_or(0);
    let mut changes = Vec::new();
    for record in records {
        // The bin holds everything of the last months; what was deleted before the round before is known.
        let archived = record.get("archivedAt").and_then(Value::as_str).and_then(millis);
        if archived.is_none_or(|at| at >= known) {
            changes.push(Change::Delete { key: id_of(record)?.to_string() });
        }
    }
    match reply.next {
        Some(next) => {
            position.bin = Some(next.as_str().to_owned());
            page_of(changes, &position, true)
        }
        None => page_of(changes, &next_round(&position, now), false),
    }
}

/// Where the round after this one starts: a little before the last change, because the index may still be catching up.
fn next_round(position: &Position, now: u64) -> Position {
    let overlap = u64::try_from(OVERLAP.as_millis()).unwrap_or(u64::MAX);
    Position {
        since: position.seen.saturating_sub(overlap),
        seen: position.seen,
        tie: None,
        bin: None,
        deleted_since: Some(position.began.saturating_sub(overlap)),
        began: now,
    }
}

fn upserts(records: Vec<Value>, position: Position, more: bool) -> Result<DeltaPage> {
    let changes = records
        .into_iter()
        .map(|record| {
            let key = id_of(&record)?.to_string();
            let record = serde_json::to_vec(&record).map_err(|error| Error::internal("a record could not be written as JSON").with_source(error))?;
            Ok(Change::Upsert { key, record: Bytes::from(record) })
        })
        .collect::<Result<_>>()?;
    page_of(changes, &position, more)
}

fn page_of(changes: Vec<Change>, position: &Position, more: bool) -> Result<DeltaPage> {
    let next = serde_json::to_string(position).map_err(|error| Error::internal("a cursor could not be written as JSON").with_source(error))?;
    Ok(DeltaPage { changes, next: Cursor::new(next), more })
}

/// The search's own default properties, and the one the window goes by.
fn properties(engine: &Engine, names: &Names) -> Value {
    let tool = engine.manifest().tool(names.search);
    let mut wanted = tool.and_then(|tool| tool.param("properties")).and_then(|param| param.default.as_array().cloned()).unwrap_or_default();
    wanted.push(names.modified.into());
    Value::Array(wanted)
}

fn changed_at(record: &Value, names: &Names) -> Result<u64> {
    let property = record.get("properties").and_then(|properties| properties.get(names.modified));
    let text = property.or_else(|| record.get("updatedAt")).and_then(Value::as_str);
    text.and_then(millis).ok_or_else(|| Error::protocol(format!("a record has no readable `{}`", names.modified)))
}

fn id_of(record: &Value) -> Result<u64> {
    let id = record.get("id").and_then(|id| id.as_str().and_then(|text| text.parse().ok()).or_else(|| id.as_u64()));
    id.ok_or_else(|| Error::protocol("a record has no numeric id"))
}

/// An RFC 3339 instant, or milliseconds as text.
fn millis(text: &str) -> Option<u64> {
    let instant = text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond);
    instant.and_then(|millis| u64::try_from(millis).ok()).or_else(|| text.parse().ok())
}
