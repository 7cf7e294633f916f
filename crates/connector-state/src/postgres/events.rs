//! The event log on PostgreSQL: the events of a group, their dedupe keys and their jobs in one transaction.
//!
//! Numbers are drawn in the order of arrival at one process, but processes commit when they commit. Listings therefore stop below the first
//! number that is drawn and not committed yet (`events_horizon`): whoever follows the log by `after` misses nothing.

use async_trait::async_trait;
use connector_core::{
    context::TenantId,
    error::{Error, Result},
    state::{Appended, EventFilter, EventLog, JobId, NewEvent, StoredEvent},
};
use tokio_postgres::Row;

use super::{
    PostgresState,
    batch::Grouped,
    fault::{Repeat, unreadable_json},
    int, limit,
    pool::Db,
    row::{bytes, cell, number, text, text_opt},
    text::{stored, stored_opt},
    uint,
};
use crate::rules::{EVENT_MAX_ATTEMPTS, EVENTS, again, dedupe_hash, event_job, payload_hash};

const COLUMNS: &str = "seq, tenant, workspace, connector, event_id, event_type, order_key, flags, payload, received_at, duplicates, connection";

/// Events pruned in one transaction.
const PRUNE: i64 = 1_000;

fn stored_event(row: &Row) -> Result<StoredEvent> {
    Ok(StoredEvent {
        seq: number(row, 0)?,
        tenant: text(row, 1)?.into(),
        workspace: text(row, 2)?.into(),
        connector: text(row, 3)?.into(),
        event_id: text(row, 4)?,
        event_type: text(row, 5)?.into(),
        order_key: text_opt(row, 6)?,
        flags: serde_json::from_str(&cell::<String>(row, 7)?).map_err(|_| unreadable_json())?,
        payload: bytes(row, 8)?,
        received_at: number(row, 9)?,
        duplicates: number(row, 10)?,
        connection: text(row, 11)?.into(),
    })
}

/// One call of `append`.
#[derive(Debug)]
pub(super) struct Append {
    at: Option<i64>,
    events: Vec<NewEvent>,
}

/// Appends, in groups.
#[derive(Debug)]
pub(super) struct Appends;

impl Grouped for Appends {
    type Item = Append;
    type Answer = Vec<Appended>;

    fn bytes(item: &Append) -> usize {
        item.events.iter().map(|event| event.payload.len() + 1_024).sum()
    }

    async fn run(db: &Db, items: &[Append]) -> Result<Vec<Vec<Appended>>> {
        let events: Vec<&NewEvent> = items.iter().flat_map(|item| &item.events).collect();
        let mut appended = append(db, items.first().and_then(|item| item.at), &events).await?.into_iter();
        Ok(items.iter().map(|item| appended.by_ref().take(item.events.len()).collect()).collect())
    }
}

async fn append(db: &Db, at: Option<i64>, events: &[&NewEvent]) -> Result<Vec<Appended>> {
    // What does not hang on the number is made here, by the same rules as everywhere; the function adds what does.
    let jobs: Vec<_> = events.iter().map(|event| event_job(event, 0)).collect();
    let rows = db
        .rows(
            // The dedupe keys make a second append of the same events find the first.
            Repeat::Harmless,
            "SELECT o_ord, o_kind, o_seq, o_job FROM append_events($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
            &[
                &at,
                &EVENTS,
                &i64::from(EVENT_MAX_ATTEMPTS),
                &events.iter().map(|event| stored(event.tenant.as_str())).collect::<Vec<_>>(),
                &events.iter().map(|event| stored(event.workspace.as_str())).collect::<Vec<_>>(),
                &events.iter().map(|event| stored(&event.connector)).collect::<Vec<_>>(),
                &events.iter().map(|event| stored(&event.event_id)).collect::<Vec<_>>(),
                &events.iter().map(|event| stored(&event.event_type)).collect::<Vec<_>>(),
                &events.iter().map(|event| stored_opt(event.order_key.as_deref())).collect::<Vec<_>>(),
                &events.iter().map(|event| serde_json::Value::from(event.flags.clone()).to_string()).collect::<Vec<_>>(),
                &events.iter().map(|event| &event.payload[..]).collect::<Vec<_>>(),
                &events.iter().map(|event| payload_hash(event).to_vec()).collect::<Vec<_>>(),
                &events.iter().map(|event| int(event.received_at)).collect::<Vec<_>>(),
                &events.iter().map(|event| dedupe_hash(event).to_vec()).collect::<Vec<_>>(),
                &jobs.iter().map(|job| stored(&job.subject)).collect::<Vec<_>>(),
                &jobs.iter().map(|job| stored_opt(job.order_key.as_deref())).collect::<Vec<_>>(),
                &events.iter().map(|event| stored(&event.connection)).collect::<Vec<_>>(),
            ],
        )
        .await?;
    let mut appended: Vec<Option<Appended>> = vec![None; events.len()];
    for row in &rows {
        let (ord, seq) = (cell::<i64>(row, 0)?, number(row, 2)?);
        let outcome = match cell::<i16>(row, 1)? {
            0 => Appended::New { seq, job: JobId(number(row, 3)?) },
            1 => Appended::Duplicate { seq },
            _ => Appended::Mismatch { seq },
        };
        if let Some(place) = usize::try_from(ord - 1).ok().and_then(|at| appended.get_mut(at)) {
            *place = Some(outcome);
        }
    }
    let all: Option<Vec<Appended>> = appended.into_iter().collect();
    all.ok_or_else(|| Error::internal("the state store did not say what became of an event"))
}

#[async_trait]
impl EventLog for PostgresState {
    async fn append(&self, events: Vec<NewEvent>) -> Result<Vec<Appended>> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let appended = self.appends.submit(Append { at: self.at(), events }).await?;
        if appended.iter().any(|one| matches!(one, Appended::New { .. })) {
            self.wakes.tell();
        }
        Ok(appended)
    }

    async fn event(&self, tenant: &TenantId, seq: u64) -> Result<Option<StoredEvent>> {
        let sql = format!("SELECT {COLUMNS} FROM events WHERE tenant = $1 AND seq = $2");
        let rows = self.db.rows(Repeat::Harmless, &sql, &[&stored(tenant.as_str()), &int(seq)]).await?;
        rows.first().map(stored_event).transpose()
    }

    async fn events(&self, tenant: &TenantId, filter: EventFilter) -> Result<Vec<StoredEvent>> {
        // A statement of its own, before the one that reads.
        let horizon: i64 = cell(&self.db.row(Repeat::Harmless, "SELECT events_horizon()", &[]).await?, 0)?;
        let columns = if filter.heads { COLUMNS.replace("payload", "''::bytea") } else { COLUMNS.to_owned() };
        let rows = self
            .db
            .rows(
                Repeat::Harmless,
                &format!(
                    "SELECT {columns} FROM events
                     WHERE tenant = $1 AND seq > $2 AND seq <= $3 AND ($4::text IS NULL OR connector = $4) AND ($5::text IS NULL OR event_type = $5)
                     ORDER BY seq LIMIT $6"
                ),
                &[
                    &stored(tenant.as_str()),
                    &int(filter.after.unwrap_or(0)),
                    &horizon,
                    &stored_opt(filter.connector.as_deref()),
                    &stored_opt(filter.event_type.as_deref()),
                    &limit(filter.limit),
                ],
            )
            .await?;
        rows.iter().map(stored_event).collect()
    }

    async fn replay(&self, tenant: &TenantId, seq: u64) -> Result<Option<JobId>> {
        let Some(event) = self.event(tenant, seq).await? else { return Ok(None) };
        let job = event_job(&again(event), seq);
        let row = self
            .db
            .row(
                Repeat::Harmless,
                "SELECT replay_event($1, $2, $3, $4, $5, $6, $7)",
                &[
                    &self.at(),
                    &stored(tenant.as_str()),
                    &int(seq),
                    &EVENTS,
                    &i64::from(job.max_attempts),
                    &stored(&job.subject),
                    &stored_opt(job.order_key.as_deref()),
                ],
            )
            .await?;
        let id: Option<i64> = cell(&row, 0)?;
        if id.is_some() {
            self.wakes.tell();
        }
        Ok(id.map(|id| JobId(uint(id))))
    }

    async fn prune_events(&self, before: u64) -> Result<u64> {
        let mut pruned = 0;
        // In portions, so that no statement runs long and no row stays locked for long.
        for (sql, counted) in [("SELECT prune_some_events($1, $2)", true), ("SELECT prune_some_jobs($1, $2)", false)] {
            loop {
                let gone = number(&self.db.row(Repeat::Harmless, sql, &[&int(before), &PRUNE]).await?, 0)?;
                if counted {
                    pruned += gone;
                }
                if gone == 0 {
                    break;
                }
            }
        }
        Ok(pruned)
    }
}
