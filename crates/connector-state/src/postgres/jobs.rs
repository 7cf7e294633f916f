//! The job queue on PostgreSQL. `due_at` is the one column that claiming looks at: the job's time while pending, its lease's end while leased.

use std::time::Duration;

use async_trait::async_trait;
use connector_core::{
    context::TenantId,
    error::{Error, Result},
    state::{Enqueued, Job, JobError, JobFilter, JobId, JobQueue, JobState, NewJob, QueueDepth},
};
use tokio_postgres::Row;

use super::{
    PostgresState,
    batch::Grouped,
    fault::{Repeat, unreadable_json},
    int, limit, millis,
    pool::{Db, Value},
    row::{bytes, cell, number, small, text, text_opt},
    text::{stored, stored_opt},
};
use crate::rules::lease_lost;

const COLUMNS: &str = "id, tenant, workspace, queue, subject, key, order_key, payload, state, attempts, max_attempts, not_before, created_at, \
                       last_error, fence";

/// Jobs given out by one claim at most, so that its transaction stays short. Of lanes it takes 64 at most.
const CLAIM_CAP: usize = 256;

fn code(state: JobState) -> i16 {
    match state {
        JobState::Pending => 0,
        JobState::Leased => 1,
        JobState::Done => 2,
        JobState::Dead => 3,
        JobState::Discarded => 4,
    }
}

fn job(row: &Row) -> Result<Job> {
    let state = match cell::<i16>(row, 8)? {
        0 => JobState::Pending,
        1 => JobState::Leased,
        2 => JobState::Done,
        3 => JobState::Dead,
        4 => JobState::Discarded,
        _ => return Err(Error::internal("the state store holds a job in a state this program does not know")),
    };
    let last_error: Option<String> = cell(row, 13)?;
    Ok(Job {
        id: JobId(number(row, 0)?),
        tenant: text(row, 1)?.into(),
        workspace: text(row, 2)?.into(),
        queue: text(row, 3)?.into(),
        subject: text(row, 4)?,
        key: text_opt(row, 5)?,
        order_key: text_opt(row, 6)?,
        payload: bytes(row, 7)?,
        state,
        attempts: small(row, 9)?,
        max_attempts: small(row, 10)?,
        not_before: number(row, 11)?,
        created_at: number(row, 12)?,
        last_error: last_error.map(|text| serde_json::from_str(&text)).transpose().map_err(|_| unreadable_json())?,
        fence: number(row, 14)?,
    })
}

/// As JSON, which escapes what a text of PostgreSQL cannot hold.
fn error_text(error: &JobError) -> String {
    serde_json::json!({ "kind": error.kind, "message": error.message }).to_string()
}

/// A lease to be ended.
#[derive(Debug)]
pub(super) struct Held {
    tenant: TenantId,
    id: i64,
    fence: i64,
}

impl Held {
    fn of(job: &Job) -> Self {
        Self { tenant: job.tenant.clone(), id: int(job.id.0), fence: int(job.fence) }
    }
}

/// Completions, in groups.
#[derive(Debug)]
pub(super) struct Completions;

impl Grouped for Completions {
    type Item = Held;
    type Answer = bool;

    fn bytes(_: &Held) -> usize {
        64
    }

    async fn run(db: &Db, items: &[Held]) -> Result<Vec<bool>> {
        let rows = db
            .rows(
                Repeat::Harmless,
                // In the order of ids, so that two processes that hold the same jobs do not wait for each other.
                "WITH held AS (
                     SELECT j.id, u.ord FROM unnest($1::text[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS u (tenant, id, fence, ord)
                     JOIN jobs AS j ON j.id = u.id AND j.tenant = u.tenant AND j.fence = u.fence AND j.state = 1
                     ORDER BY j.id FOR NO KEY UPDATE OF j)
                 UPDATE jobs SET state = 2 FROM held WHERE jobs.id = held.id AND jobs.state = 1 RETURNING held.ord",
                &[
                    &items.iter().map(|held| stored(held.tenant.as_str())).collect::<Vec<_>>(),
                    &items.iter().map(|held| held.id).collect::<Vec<_>>(),
                    &items.iter().map(|held| held.fence).collect::<Vec<_>>(),
                ],
            )
            .await?;
        let mut done = vec![false; items.len()];
        for row in &rows {
            let ord: i64 = cell(row, 0)?;
            if let Some(place) = usize::try_from(ord - 1).ok().and_then(|at| done.get_mut(at)) {
                *place = true;
            }
        }
        Ok(done)
    }
}

impl PostgresState {
    /// Runs an update of a leased job, of which `$1` is the tenant, `$2` the id and `$3` the fence. The fence lets it happen once.
    async fn held(&self, job: &Job, sql: &str, more: &[Value<'_>]) -> Result<bool> {
        let held = Held::of(job);
        let tenant = stored(held.tenant.as_str());
        let mut values: Vec<Value<'_>> = vec![&tenant, &held.id, &held.fence];
        values.extend(more);
        Ok(!self.db.rows(Repeat::Harmless, sql, &values).await?.is_empty())
    }

    async fn add(&self, new: &NewJob, state: JobState, error: Option<&JobError>) -> Result<Enqueued> {
        // Without a key nothing tells a second one from the first.
        let repeat = if new.key.is_some() { Repeat::Harmless } else { Repeat::Twice };
        let row = self
            .db
            .row(
                repeat,
                "SELECT o_id, o_new FROM add_job($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, NULL)",
                &[
                    &self.at(),
                    &stored(new.tenant.as_str()),
                    &stored(new.workspace.as_str()),
                    &stored(&new.queue),
                    &stored(&new.subject),
                    &stored_opt(new.key.as_deref()),
                    &stored_opt(new.order_key.as_deref()),
                    &&new.payload[..],
                    &code(state),
                    &i64::from(new.max_attempts.max(1)),
                    &int(new.not_before),
                    &self.delay(new.not_before),
                    &error.map(error_text),
                ],
            )
            .await?;
        let id = JobId(number(&row, 0)?);
        Ok(if cell(&row, 1)? { Enqueued::New(id) } else { Enqueued::Existing(id) })
    }
}

#[async_trait]
impl JobQueue for PostgresState {
    async fn enqueue(&self, job: NewJob) -> Result<Enqueued> {
        let added = self.add(&job, JobState::Pending, None).await?;
        if matches!(added, Enqueued::New(_)) {
            self.wakes.tell();
        }
        Ok(added)
    }

    async fn claim(&self, queue: &str, limit: usize, lease: Duration) -> Result<Vec<Job>> {
        let limit = i64::try_from(limit.min(CLAIM_CAP)).unwrap_or(i64::MAX);
        let rows = self
            .db
            .rows(
                // Jobs of a claim whose answer was lost come again when their lease has run out.
                Repeat::Harmless,
                "SELECT o_id, o_tenant, o_workspace, o_queue, o_subject, o_key, o_order_key, o_payload, o_state, o_attempts, o_max_attempts,
                        o_not_before, o_created_at, o_last_error, o_fence
                 FROM claim_jobs($1, $2, $3, $4, $5)",
                &[&self.at(), &stored(queue), &limit, &millis(lease), &error_text(&lease_lost())],
            )
            .await?;
        rows.iter().map(job).collect()
    }

    async fn complete(&self, job: &Job) -> Result<bool> {
        self.completions.submit(Held::of(job)).await
    }

    async fn retry(&self, job: &Job, not_before: u64, error: JobError) -> Result<bool> {
        self.held(
            job,
            // Every right-hand side sees the row as it was before the update.
            "UPDATE jobs SET state = CASE WHEN attempts >= max_attempts THEN 3 ELSE 0 END, last_error = $4, not_before = $5,
                             due_at = now_ms($6) + $7
             WHERE tenant = $1 AND id = $2 AND fence = $3 AND state = 1 RETURNING id",
            &[&error_text(&error), &int(not_before), &self.at(), &self.delay(not_before)],
        )
        .await
    }

    async fn bury(&self, job: &Job, error: JobError) -> Result<bool> {
        self.held(
            job,
            "UPDATE jobs SET state = 3, last_error = $4 WHERE tenant = $1 AND id = $2 AND fence = $3 AND state = 1 RETURNING id",
            &[&error_text(&error)],
        )
        .await
    }

    async fn bury_new(&self, job: NewJob, error: JobError) -> Result<JobId> {
        Ok(self.add(&job, JobState::Dead, Some(&error)).await?.id())
    }

    async fn job(&self, tenant: &TenantId, id: JobId) -> Result<Option<Job>> {
        let sql = format!("SELECT {COLUMNS} FROM jobs WHERE tenant = $1 AND id = $2");
        let rows = self.db.rows(Repeat::Harmless, &sql, &[&stored(tenant.as_str()), &int(id.0)]).await?;
        rows.first().map(job).transpose()
    }

    async fn jobs(&self, tenant: &TenantId, filter: JobFilter) -> Result<Vec<Job>> {
        // The state is written out, not bound: only then can the index of dead letters be used.
        let state = filter.state.map(|state| format!("AND state = {}", code(state))).unwrap_or_default();
        let rows = self
            .db
            .rows(
                Repeat::Harmless,
                &format!(
                    "SELECT {COLUMNS} FROM jobs WHERE tenant = $1 AND id > $2 AND ($3::text IS NULL OR queue = $3) {state} ORDER BY id LIMIT $4"
                ),
                &[
                    &stored(tenant.as_str()),
                    &int(filter.after.map_or(0, |after| after.0)),
                    &stored_opt(filter.queue.as_deref()),
                    &limit(filter.limit),
                ],
            )
            .await?;
        rows.iter().map(job).collect()
    }

    async fn revive(&self, tenant: &TenantId, id: JobId) -> Result<bool> {
        let sql = "UPDATE jobs SET state = 0, attempts = 0, not_before = 0, due_at = now_ms($3)
                   WHERE tenant = $1 AND id = $2 AND state = 3 RETURNING id";
        let rows = self.db.rows(Repeat::Harmless, sql, &[&stored(tenant.as_str()), &int(id.0), &self.at()]).await?;
        if !rows.is_empty() {
            self.wakes.tell();
        }
        Ok(!rows.is_empty())
    }

    async fn discard(&self, tenant: &TenantId, id: JobId) -> Result<bool> {
        let sql = "UPDATE jobs SET state = 4 WHERE tenant = $1 AND id = $2 AND state = 3 RETURNING id";
        Ok(!self.db.rows(Repeat::Harmless, sql, &[&stored(tenant.as_str()), &int(id.0)]).await?.is_empty())
    }

    async fn depth(&self, queue: &str) -> Result<QueueDepth> {
        let row = self
            .db
            .row(
                Repeat::Harmless,
                "SELECT count(*) FILTER (WHERE state = 0), count(*) FILTER (WHERE state = 1),
                        (SELECT count(*) FROM jobs WHERE queue = $1 AND state = 3)
                 FROM jobs WHERE queue = $1 AND state IN (0, 1)",
                &[&stored(queue)],
            )
            .await?;
        Ok(QueueDepth { pending: number(&row, 0)?, leased: number(&row, 1)?, dead: number(&row, 2)? })
    }
}
