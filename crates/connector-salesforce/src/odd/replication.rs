//! Following a type of object: everything once through a bulk query, then what getUpdated and getDeleted tell. The vendor's `latestDateCovered` is
//! where the next round starts, because a long transaction may commit later than its date says. Seconds do not count there, so a round begins a
//! minute early; records may come twice.
//!
//! Nothing grows with the org: a page of rows, or the ids of one span of time. A span with too many ids is halved.
//!
//! <https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_getupdated.htm>

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    CallCx, ConnectionId, Cursor, Error, ErrorKind, Result, TenantId,
    clock::{Instant, unix_millis},
    delta::{Change, DeltaPage},
};
use connector_manifest::{Engine, NativeDelta};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{bulk_query, prepare::minute, rows};
use crate::soql::instant;

const MINUTE: i64 = 60;
const DAY: i64 = 86_400;
/// How long updated ids are told.
const UPDATED_FOR: i64 = 30 * DAY;
/// How long deleted ids are told.
const DELETED_FOR: i64 = 15 * DAY;
/// A first round sees what was written while it began: our clock and theirs may differ.
const OVERLAP: i64 = 5 * MINUTE;
/// Rows of a page of the first round.
const ROWS: u64 = 2_000;
/// Records that are read at once; wide objects must still fit into a reply.
const READ: usize = 500;
/// A span that names more ids is halved, until it is a minute.
const MOST_IDS: usize = 10_000;

/// How long the fields of an object are taken for known, and of how many objects they are kept.
const FIELDS_FOR: Duration = Duration::from_secs(600);
const MOST_KNOWN: usize = 1_000;

/// The changes of the streams. Keeps what it learned about objects for a while: each page needs their fields.
#[derive(Debug, Default)]
pub(crate) struct Replication(Mutex<Known>);

/// Tenant, connection, object.
type Whose = (TenantId, ConnectionId, &'static str);

/// Fields, and when they were learned.
type Known = HashMap<Whose, (Instant, Arc<Vec<Field>>)>;

/// Where a stream stands. Stored as JSON; times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case", deny_unknown_fields)]
enum Position {
    /// The first round: a bulk query and how far it is. What changed since `since` comes after it.
    All { query: String, since: i64 },
    /// Changes from `since` on are next.
    Since { since: i64 },
    /// The changes of this span, those with ids up to `after` done. `covered` is what the vendor vouches for.
    Changed { since: i64, until: i64, after: String, covered: i64 },
    /// The changes of this span are done, its deletions are next.
    Gone { since: i64, until: i64, covered: i64 },
}

/// The object type of a stream.
fn object(stream: &str) -> Result<&'static str> {
    Ok(match stream {
        "accounts" => "Account",
        "contacts" => "Contact",
        "leads" => "Lead",
        "opportunities" => "Opportunity",
        "cases" => "Case",
        "tasks" => "Task",
        "events" => "Event",
        "campaigns" => "Campaign",
        "products" => "Product2",
        "users" => "User",
        other => {
            let other = connector_core::redact::printable(other, 60);
            return Err(Error::unsupported(format!(
                "salesforce has no stream `{other}`; there are accounts, contacts, leads, opportunities, cases, tasks, events, campaigns, products and users"
            )));
        }
    })
}

#[async_trait]
impl NativeDelta for Replication {
    async fn changes(&self, engine: &Engine, cx: &CallCx, stream: &str, cursor: Option<Cursor>) -> Result<DeltaPage> {
        let round = Round {
            known: self,
            engine,
            cx,
            object: object(stream)?,
            now: i64::try_from(unix_millis(engine.clock().wall()) / 1_000).unwrap_or(i64::MAX),
        };
        let position = match cursor {
            Some(cursor) => Some(
                serde_json::from_str(cursor.as_str())
                    .map_err(|error| Error::new(ErrorKind::CursorExpired, "this cursor is not one of this stream's").with_source(error))?,
            ),
            None => None,
        };
        match position {
            None => round.begin().await,
            Some(Position::All { query, since }) => round.all(&query, since).await,
            Some(Position::Since { since }) => round.span(since, None).await,
            Some(Position::Changed { since, until, after, covered }) => round.changed(since, until, &after, covered).await,
            Some(Position::Gone { since, until, covered }) => round.gone(since, until, covered).await,
        }
    }
}

/// One call: whose changes, and when it is.
struct Round<'r> {
    known: &'r Replication,
    engine: &'r Engine,
    cx: &'r CallCx,
    object: &'static str,
    now: i64,
}

/// A field that can be read in every way.
#[derive(Debug)]
struct Field {
    name: String,
    kind: String,
}

impl Round<'_> {
    /// Starts the first round.
    async fn begin(&self) -> Result<DeltaPage> {
        let fields = self.fields().await?;
        let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
        let soql = format!("SELECT {} FROM {}", names.join(", "), self.object);
        let step = bulk_query::start(self.engine, self.cx, &soql, false).await?;
        let query = step.next.unwrap_or_default();
        page(Vec::new(), &Position::All { query, since: floor(self.now - OVERLAP) }, true)
    }

    /// A page of the first round.
    async fn all(&self, query: &str, since: i64) -> Result<DeltaPage> {
        let step = bulk_query::advance(self.engine, self.cx, query, ROWS).await?;
        let changes = if step.rows.is_empty() {
            Vec::new()
        } else {
            let fields = self.fields().await?;
            step.rows.iter().map(|row| upsert(typed(rows::object(&step.head, row), &fields))).collect::<Result<_>>()?
        };
        match step.next {
            Some(query) => page(changes, &Position::All { query, since }, true),
            None => page(changes, &Position::Since { since }, true),
        }
    }

    /// Opens a span from `since` on, as far as `until` or now, and gives its first changes.
    async fn span(&self, since: i64, until: Option<i64>) -> Result<DeltaPage> {
        let now = floor(self.now);
        let start = since.min(now - MINUTE);
        if since < now - DELETED_FOR.min(UPDATED_FOR) {
            return Err(Error::new(ErrorKind::CursorExpired, "deletions before 15 days ago are not told any more; start a full resync"));
        }
        let mut until = until.unwrap_or(now).min(now);
        if until - start < MINUTE {
            return page(Vec::new(), &Position::Since { since }, false);
        }
        loop {
            let (ids, covered) = match self.updated(start, until).await {
                Ok(found) => found,
                // Too many to be told, or to be held.
                Err(error) if is_too_much(&error) && until - start > MINUTE => {
                    until = half(start, until);
                    continue;
                }
                Err(error) => return Err(error),
            };
            if ids.len() > MOST_IDS && until - start > MINUTE {
                until = half(start, until);
                continue;
            }
            return self.read(ids, start, until, "", covered).await;
        }
    }

    /// The next changes of a span.
    async fn changed(&self, since: i64, until: i64, after: &str, covered: i64) -> Result<DeltaPage> {
        let (ids, again) = self.updated(since, until).await?;
        self.read(ids, since, until, after, covered.min(again)).await
    }

    /// Reads the next records of a span's ids, in the order of ids.
    async fn read(&self, mut ids: Vec<String>, since: i64, until: i64, after: &str, covered: i64) -> Result<DeltaPage> {
        ids.sort_unstable();
        ids.dedup();
        let left: Vec<String> = ids.into_iter().filter(|id| id.as_str() > after).collect();
        let more = left.len() > READ;
        let batch = &left[..left.len().min(READ)];
        let mut changes = Vec::with_capacity(batch.len());
        if let Some(last) = batch.last() {
            let fields = self.fields().await?;
            let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
            let args = json!({ "sobject": self.object, "ids": batch, "fields": names });
            let records = self.engine.call_value(self.cx, "sf_get_records", args).await?;
            let Value::Array(records) = records else { return Err(Error::protocol("the collection is not a list")) };
            // One that is not there any more is told among the deleted.
            changes = records.into_iter().filter(|record| !record.is_null()).map(upsert).collect::<Result<_>>()?;
            if more {
                return page(changes, &Position::Changed { since, until, after: last.clone(), covered }, true);
            }
        }
        page(changes, &Position::Gone { since, until, covered }, true)
    }

    /// The deletions of a span, and where the next one starts.
    async fn gone(&self, since: i64, until: i64, covered: i64) -> Result<DeltaPage> {
        let reply = self.engine.call_value(self.cx, "sf_get_deleted", self.args(since, until)?).await?;
        // The recycle bin was emptied since: what was in it will never be told.
        if seconds(&reply, "earliestDateAvailable")? > since + MINUTE {
            return Err(Error::new(ErrorKind::CursorExpired, "deletions since the last round are not told any more; start a full resync"));
        }
        let deleted = reply.get("deletedRecords").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let key = |record: &Value| record.get("id").and_then(Value::as_str).map(str::to_owned);
        let changes = deleted.iter().filter_map(key).map(|key| Change::Delete { key }).collect();
        // Never back, or the same span would come for ever.
        let covered = covered.min(seconds(&reply, "latestDateCovered")?).min(until);
        let whole = until >= floor(self.now);
        let next = floor(if whole { covered - MINUTE } else { covered }).max(since);
        let more = !whole && next > since;
        page(changes, &Position::Since { since: next }, more)
    }

    async fn updated(&self, since: i64, until: i64) -> Result<(Vec<String>, i64)> {
        let reply = self.engine.call_value(self.cx, "sf_get_updated", self.args(since, until)?).await?;
        let ids = reply.get("ids").and_then(Value::as_array).ok_or_else(|| Error::protocol("the reply has no list of ids"))?;
        let ids = ids.iter().filter_map(|id| id.as_str().map(str::to_owned)).collect();
        Ok((ids, seconds(&reply, "latestDateCovered")?))
    }

    fn args(&self, since: i64, until: i64) -> Result<Value> {
        let at = |seconds: i64| {
            jiff::Timestamp::from_second(seconds).map(minute).map_err(|error| Error::internal("a time is outside of the calendar").with_source(error))
        };
        Ok(json!({ "sobject": self.object, "start": at(since)?, "end": at(until)? }))
    }

    /// The fields that a bulk query and a collection both give: no compound ones, no content.
    async fn fields(&self) -> Result<Arc<Vec<Field>>> {
        let (connection, now) = (&self.cx.connection, self.engine.clock().now());
        let whose = (connection.tenant.clone(), connection.id.clone(), self.object);
        if let Some((_, fields)) = self.known.lock().get(&whose).filter(|(since, _)| now.saturating_duration_since(*since) < FIELDS_FOR) {
            return Ok(fields.clone());
        }
        let described = self.engine.call_value(self.cx, "sf_describe_object", json!({ "sobject": self.object })).await?;
        let fields = described.get("fields").and_then(Value::as_array).ok_or_else(|| Error::protocol("the description has no list of fields"))?;
        let text = |field: &Value, name: &str| field.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let fields = fields.iter().map(|field| Field { name: text(field, "name"), kind: text(field, "type") });
        let usable =
            |field: &Field| !matches!(field.kind.as_str(), "address" | "location" | "base64") && crate::soql::identifier(&field.name).is_ok();
        let fields: Arc<Vec<Field>> = Arc::new(fields.filter(usable).collect());
        let mut known = self.known.lock();
        if known.len() >= MOST_KNOWN {
            known.retain(|_, (since, _)| now.saturating_duration_since(*since) < FIELDS_FOR);
        }
        if known.len() < MOST_KNOWN {
            known.insert(whose, (now, fields.clone()));
        }
        Ok(fields)
    }
}

impl Replication {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The types of JSON that a collection gives, from a row's texts.
fn typed(mut row: serde_json::Map<String, Value>, fields: &[Field]) -> Value {
    for field in fields {
        let Some(slot) = row.get_mut(&field.name) else { continue };
        let Some(text) = slot.as_str() else { continue };
        let value = match field.kind.as_str() {
            "boolean" => text.parse::<bool>().ok().map(Value::from),
            "int" | "long" => text.parse::<i64>().ok().map(Value::from),
            "double" | "currency" | "percent" => text.parse::<f64>().ok().map(Value::from),
            _ => None,
        };
        if let Some(value) = value {
            *slot = value;
        }
    }
    Value::Object(row)
}

fn upsert(record: Value) -> Result<Change> {
    let key = record.get("Id").and_then(Value::as_str).ok_or_else(|| Error::protocol("a record has no Id"))?.to_owned();
    let record = serde_json::to_vec(&record).map_err(|error| Error::internal("a record could not be written as JSON").with_source(error))?;
    Ok(Change::Upsert { key, record: Bytes::from(record) })
}

fn page(changes: Vec<Change>, position: &Position, more: bool) -> Result<DeltaPage> {
    let next = serde_json::to_string(position).map_err(|error| Error::internal("a cursor could not be written as JSON").with_source(error))?;
    Ok(DeltaPage { changes, next: Cursor::new(next), more })
}

/// `EXCEEDED_ID_LIMIT`, or a reply over the cap.
fn is_too_much(error: &Error) -> bool {
    error.vendor_code() == Some("EXCEEDED_ID_LIMIT") || error.context_value("cap").is_some()
}

/// The start of the minute.
fn floor(seconds: i64) -> i64 {
    seconds - seconds.rem_euclid(MINUTE)
}

/// The middle of a span, at least a minute behind its start.
fn half(since: i64, until: i64) -> i64 {
    floor(since + (until - since) / 2).max(since + MINUTE)
}

fn seconds(reply: &Value, name: &str) -> Result<i64> {
    let text = reply.get(name).and_then(Value::as_str).ok_or_else(|| Error::protocol(format!("the reply has no `{name}`")))?;
    instant(text).map(jiff::Timestamp::as_second).map_err(|error| Error::protocol(format!("`{name}` of the reply is no date")).with_source(error))
}
