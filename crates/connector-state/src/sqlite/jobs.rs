//! The job queue on SQLite. `due_at` is the one column that claiming looks at: the job's time while pending, its lease's end while leased.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    context::TenantId,
    error::Result,
    state::{Enqueued, Job, JobError, JobFilter, JobId, JobQueue, JobState, NewJob, QueueDepth},
};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{SqliteState, int, limit, uint, unreadable};
use crate::rules::lease_lost;

const PENDING: i64 = 0;
const LEASED: i64 = 1;
const DONE: i64 = 2;
const DEAD: i64 = 3;
const DISCARDED: i64 = 4;

const COLUMNS: &str = "id, tenant, workspace, queue, subject, key, order_key, payload, state, attempts, max_attempts, not_before, created_at, \
                       last_error, fence";

fn code(state: JobState) -> i64 {
    match state {
        JobState::Pending => PENDING,
        JobState::Leased => LEASED,
        JobState::Done => DONE,
        JobState::Dead => DEAD,
        JobState::Discarded => DISCARDED,
    }
}

fn job(row: &Row<'_>) -> rusqlite::Result<Job> {
    let text = |column: usize| row.get::<_, String>(column);
    let state = match row.get(8)? {
        PENDING => JobState::Pending,
        LEASED => JobState::Leased,
        DONE => JobState::Done,
        DEAD => JobState::Dead,
        DISCARDED => JobState::Discarded,
        other => return Err(rusqlite::Error::IntegralValueOutOfRange(8, other)),
    };
    let last_error: Option<String> = row.get(13)?;
    Ok(Job {
        id: JobId(uint(row.get(0)?)),
        tenant: text(1)?.into(),
        workspace: text(2)?.into(),
        queue: text(3)?.into(),
        subject: text(4)?,
        key: row.get(5)?,
        order_key: row.get(6)?,
        payload: Bytes::from(row.get::<_, Vec<u8>>(7)?),
        state,
        attempts: row.get(9)?,
        max_attempts: row.get(10)?,
        not_before: uint(row.get(11)?),
        created_at: uint(row.get(12)?),
        last_error: last_error.map(|text| serde_json::from_str(&text)).transpose().map_err(|error| unreadable(13, error))?,
        fence: uint(row.get(14)?),
    })
}

fn error_text(error: &JobError) -> String {
    serde_json::json!({ "kind": error.kind, "message": error.message }).to_string()
}

/// Adds a pending job, unless an open or dead one holds its key.
pub(super) fn add(connection: &Connection, new: &NewJob, event: Option<i64>, now: i64) -> rusqlite::Result<Enqueued> {
    insert(connection, new, event, now, PENDING, None)
}

fn insert(connection: &Connection, new: &NewJob, event: Option<i64>, now: i64, state: i64, error: Option<&JobError>) -> rusqlite::Result<Enqueued> {
    if let Some(key) = &new.key {
        let holder: Option<i64> = connection
            .prepare_cached("SELECT id FROM jobs WHERE tenant = ?1 AND queue = ?2 AND key = ?3 AND state IN (0, 1, 3)")?
            .query_row(params![new.tenant.as_str(), &*new.queue, key], |row| row.get(0))
            .optional()?;
        if let Some(id) = holder {
            return Ok(Enqueued::Existing(JobId(uint(id))));
        }
    }
    row(connection, new, event, now, state, error).map(Enqueued::New)
}

/// Adds the job of an event that was written just now: nothing can hold its key yet.
pub(super) fn add_first(connection: &Connection, new: &NewJob, event: i64, now: i64) -> rusqlite::Result<JobId> {
    row(connection, new, Some(event), now, PENDING, None)
}

fn row(connection: &Connection, new: &NewJob, event: Option<i64>, now: i64, state: i64, error: Option<&JobError>) -> rusqlite::Result<JobId> {
    let id = connection
        .prepare_cached(
            "INSERT INTO jobs (tenant, workspace, queue, subject, key, order_key, payload, state, max_attempts, not_before, created_at, due_at,
                               last_error, event_seq)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?
        .insert(params![
            new.tenant.as_str(),
            new.workspace.as_str(),
            &*new.queue,
            new.subject,
            new.key,
            new.order_key,
            &new.payload[..],
            state,
            new.max_attempts.max(1),
            int(new.not_before),
            now,
            int(new.not_before).max(now),
            error.map(error_text),
            event
        ])?;
    Ok(JobId(uint(id)))
}

/// Queues a dead job again.
pub(super) fn revive(connection: &Connection, tenant: &TenantId, id: JobId, now: i64) -> rusqlite::Result<bool> {
    let changed = connection
        .prepare_cached("UPDATE jobs SET state = 0, attempts = 0, not_before = 0, due_at = ?3 WHERE tenant = ?1 AND id = ?2 AND state = 3")?
        .execute(params![tenant.as_str(), int(id.0), now])?;
    Ok(changed > 0)
}

/// Makes the due jobs of a queue that used up their attempts dead letters. `jobs_spent` is the index of exactly these words: every claim begins
/// with this, so it must not read the backlog.
fn bury_spent() -> String {
    format!(
        "UPDATE jobs SET state = 3, last_error = ?3 WHERE queue = ?1 AND due_at <= ?2 AND state IN (0, 1) AND attempts >= max_attempts
         RETURNING {COLUMNS}"
    )
}

fn claim(connection: &Connection, queue: &str, limit: i64, now: i64, lease: i64) -> rusqlite::Result<Vec<Job>> {
    let mut claimed = connection
        .prepare_cached(&bury_spent())?
        .query_map(params![queue, now, error_text(&lease_lost())], job)?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let mut due = connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM jobs AS job
             WHERE queue = ?1 AND due_at <= ?2 AND state IN (0, 1)
               AND (order_key IS NULL OR (
                   NOT EXISTS (
                       SELECT 1 FROM jobs AS earlier
                       WHERE earlier.tenant = job.tenant AND earlier.queue = job.queue AND earlier.order_key = job.order_key
                         AND earlier.state IN (0, 1) AND earlier.id < job.id)
                   AND NOT EXISTS (
                       -- A later one is in work if this one was a dead letter meanwhile.
                       SELECT 1 FROM jobs AS held
                       WHERE held.tenant = job.tenant AND held.queue = job.queue AND held.order_key = job.order_key
                         AND held.state = 1 AND held.due_at > ?2 AND held.id <> job.id)))
             ORDER BY due_at, id LIMIT ?3"
        ))?
        .query_map(params![queue, now, limit], job)?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let mut take = connection.prepare_cached("UPDATE jobs SET state = 1, attempts = attempts + 1, fence = fence + 1, due_at = ?2 WHERE id = ?1")?;
    for job in &mut due {
        take.execute(params![int(job.id.0), now.saturating_add(lease)])?;
        job.state = JobState::Leased;
        job.attempts += 1;
        job.fence += 1;
    }
    claimed.append(&mut due);
    Ok(claimed)
}

impl SqliteState {
    /// Runs an update that ends with a fence check on `?1` (tenant), `?2` (id) and `?3` (fence).
    async fn held(&self, job: &Job, set: &'static str, due: Option<u64>, error: Option<JobError>) -> Result<bool> {
        let (tenant, id, fence) = (job.tenant.clone(), int(job.id.0), int(job.fence));
        self.write_one(move |connection| {
            let changed = connection
                .prepare_cached(&format!(
                    "UPDATE jobs SET {set}, last_error = coalesce(?5, last_error)
                     WHERE tenant = ?1 AND id = ?2 AND fence = ?3 AND state = 1 AND ?4 IS ?4"
                ))?
                .execute(params![tenant.as_str(), id, fence, due.map(int), error.as_ref().map(error_text)])?;
            Ok(changed > 0)
        })
        .await
    }
}

#[async_trait]
impl JobQueue for SqliteState {
    async fn enqueue(&self, job: NewJob) -> Result<Enqueued> {
        let now = self.now();
        self.write(move |connection| add(connection, &job, None, now)).await
    }

    async fn claim(&self, queue: &str, limit: usize, lease: Duration) -> Result<Vec<Job>> {
        let (queue, now) = (queue.to_owned(), self.now());
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let lease = int(u64::try_from(lease.as_millis()).unwrap_or(u64::MAX));
        self.write(move |connection| claim(connection, &queue, limit, now, lease)).await
    }

    async fn complete(&self, job: &Job) -> Result<bool> {
        self.held(job, "state = 2", None, None).await
    }

    async fn retry(&self, job: &Job, not_before: u64, error: JobError) -> Result<bool> {
        // Every right-hand side sees the row as it was before the update.
        let set = "state = CASE WHEN attempts >= max_attempts THEN 3 ELSE 0 END, not_before = ?4, due_at = ?4";
        self.held(job, set, Some(not_before), Some(error)).await
    }

    async fn bury(&self, job: &Job, error: JobError) -> Result<bool> {
        self.held(job, "state = 3", None, Some(error)).await
    }

    async fn bury_new(&self, job: NewJob, error: JobError) -> Result<JobId> {
        let now = self.now();
        self.write(move |connection| Ok(insert(connection, &job, None, now, DEAD, Some(&error))?.id())).await
    }

    async fn job(&self, tenant: &TenantId, id: JobId) -> Result<Option<Job>> {
        let tenant = tenant.clone();
        self.read(move |connection| {
            connection
                .prepare_cached(&format!("SELECT {COLUMNS} FROM jobs WHERE tenant = ?1 AND id = ?2"))?
                .query_row(params![tenant.as_str(), int(id.0)], job)
                .optional()
        })
        .await
    }

    async fn jobs(&self, tenant: &TenantId, filter: JobFilter) -> Result<Vec<Job>> {
        let tenant = tenant.clone();
        self.read(move |connection| {
            // The state is written out, not bound: only then can the index of dead letters be used.
            let state = filter.state.map(|state| format!("AND state = {}", code(state))).unwrap_or_default();
            connection
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM jobs WHERE tenant = ?1 AND id > ?2 AND (?3 IS NULL OR queue = ?3) {state} ORDER BY id LIMIT ?4"
                ))?
                .query_map(params![tenant.as_str(), int(filter.after.map_or(0, |after| after.0)), filter.queue, limit(filter.limit)], job)?
                .collect()
        })
        .await
    }

    async fn revive(&self, tenant: &TenantId, id: JobId) -> Result<bool> {
        let (tenant, now) = (tenant.clone(), self.now());
        self.write(move |connection| revive(connection, &tenant, id, now)).await
    }

    async fn discard(&self, tenant: &TenantId, id: JobId) -> Result<bool> {
        let tenant = tenant.clone();
        self.write(move |connection| {
            let changed = connection
                .prepare_cached("UPDATE jobs SET state = 4 WHERE tenant = ?1 AND id = ?2 AND state = 3")?
                .execute(params![tenant.as_str(), int(id.0)])?;
            Ok(changed > 0)
        })
        .await
    }

    async fn depth(&self, queue: &str) -> Result<QueueDepth> {
        let queue = queue.to_owned();
        self.read(move |connection| {
            connection
                .prepare_cached(
                    "SELECT (SELECT count(*) FROM jobs WHERE queue = ?1 AND state IN (0, 1) AND state = 0),
                            (SELECT count(*) FROM jobs WHERE queue = ?1 AND state IN (0, 1) AND state = 1),
                            (SELECT count(*) FROM jobs WHERE queue = ?1 AND state = 3)",
                )?
                .query_row([queue], |row| Ok(QueueDepth { pending: uint(row.get(0)?), leased: uint(row.get(1)?), dead: uint(row.get(2)?) }))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::schema;

    #[test]
    fn a_claim_does_not_read_the_backlog_for_jobs_that_used_up_their_attempts() {
        let mut connection = Connection::open_in_memory().unwrap();
        schema::migrate(&mut connection).unwrap();
        let plan: String = connection
            .prepare(&format!("EXPLAIN QUERY PLAN {}", bury_spent()))
            .unwrap()
            .query_row(params!["events", 1, "{}"], |row| row.get("detail"))
            .unwrap();
        assert!(plan.contains("USING INDEX jobs_spent"), "{plan}");
    }
}
