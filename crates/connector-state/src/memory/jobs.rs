//! The job queue in memory.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use connector_core::{
    context::TenantId,
    error::Result,
    state::{Enqueued, Job, JobError, JobFilter, JobId, JobQueue, JobState, NewJob, QueueDepth},
};

use super::MemoryState;
use crate::rules::{lease_lost, limit_or_default};

type Lane = (TenantId, Arc<str>, String);

#[derive(Debug, Default)]
pub(super) struct Jobs {
    last: u64,
    rows: BTreeMap<u64, Row>,
    /// Open jobs by (queue, time at which they may be taken, id).
    due: BTreeSet<(Arc<str>, u64, u64)>,
    /// Open jobs that share an order key; only the first may be taken.
    lanes: HashMap<Lane, BTreeSet<u64>>,
    /// The job that holds a key: open or dead.
    keys: HashMap<Lane, u64>,
}

#[derive(Debug)]
struct Row {
    job: Job,
    /// When it may be taken: its time while pending, the end of its lease while leased.
    due_at: u64,
    event: Option<u64>,
}

fn is_open(state: JobState) -> bool {
    matches!(state, JobState::Pending | JobState::Leased)
}

impl Row {
    fn lane(&self) -> Option<Lane> {
        self.job.order_key.as_ref().map(|key| (self.job.tenant.clone(), self.job.queue.clone(), key.clone()))
    }

    fn key(&self) -> Option<Lane> {
        self.job.key.as_ref().map(|key| (self.job.tenant.clone(), self.job.queue.clone(), key.clone()))
    }
}

impl Jobs {
    /// Adds a pending job, unless an open or dead one holds its key.
    pub(super) fn add(&mut self, new: NewJob, event: Option<u64>, now: u64) -> Enqueued {
        if let Some(key) = &new.key
            && let Some(id) = self.keys.get(&(new.tenant.clone(), new.queue.clone(), key.clone()))
        {
            return Enqueued::Existing(JobId(*id));
        }
        self.last += 1;
        let id = self.last;
        let job = Job {
            id: JobId(id),
            tenant: new.tenant,
            workspace: new.workspace,
            queue: new.queue,
            subject: new.subject,
            key: new.key,
            order_key: new.order_key,
            payload: new.payload,
            state: JobState::Pending,
            attempts: 0,
            max_attempts: new.max_attempts.max(1),
            not_before: new.not_before,
            created_at: now,
            last_error: None,
            fence: 0,
        };
        let row = Row { due_at: job.not_before.max(now), job, event };
        if let Some(key) = row.key() {
            self.keys.insert(key, id);
        }
        self.rows.insert(id, row);
        self.index(id);
        Enqueued::New(JobId(id))
    }

    fn index(&mut self, id: u64) {
        let Some(row) = self.rows.get(&id).filter(|row| is_open(row.job.state)) else { return };
        self.due.insert((row.job.queue.clone(), row.due_at, id));
        if let Some(lane) = row.lane() {
            self.lanes.entry(lane).or_default().insert(id);
        }
    }

    fn unindex(&mut self, id: u64) {
        let Some(row) = self.rows.get(&id) else { return };
        self.due.remove(&(row.job.queue.clone(), row.due_at, id));
        if let Some(lane) = row.lane()
            && let Some(ids) = self.lanes.get_mut(&lane)
        {
            ids.remove(&id);
            if ids.is_empty() {
                self.lanes.remove(&lane);
            }
        }
    }

    /// Changes a job and keeps the indexes in step. `None` if there is no such job.
    fn change<T>(&mut self, id: u64, change: impl FnOnce(&mut Row) -> T) -> Option<T> {
        self.unindex(id);
        let row = self.rows.get_mut(&id)?;
        let result = change(row);
        if matches!(row.job.state, JobState::Done | JobState::Discarded)
            && let Some(key) = row.key()
        {
            self.keys.remove(&key);
        }
        self.index(id);
        Some(result)
    }

    /// Changes a job if its lease is still this worker's.
    fn held(&mut self, job: &Job, change: impl FnOnce(&mut Row)) -> bool {
        let holds = |row: &&Row| row.job.tenant == job.tenant && row.job.state == JobState::Leased && row.job.fence == job.fence;
        if self.rows.get(&job.id.0).filter(holds).is_none() {
            return false;
        }
        self.change(job.id.0, change).is_some()
    }

    fn claim(&mut self, queue: &str, limit: usize, now: u64, lease: u64) -> Vec<Job> {
        let queue: Arc<str> = queue.into();
        let ready =
            |jobs: &Self| -> Vec<u64> { jobs.due.range((queue.clone(), 0, 0)..=(queue.clone(), now, u64::MAX)).map(|(_, _, id)| *id).collect() };
        let mut taken = Vec::new();
        for id in ready(self) {
            if self.rows.get(&id).is_some_and(|row| row.job.attempts >= row.job.max_attempts) {
                taken.extend(self.change(id, |row| {
                    bury(row, lease_lost());
                    row.job.clone()
                }));
            }
        }
        let limit = taken.len() + limit;
        for id in ready(self) {
            if taken.len() >= limit {
                break;
            }
            if self.must_wait(id, now) {
                continue;
            }
            taken.extend(self.change(id, |row| {
                row.job.state = JobState::Leased;
                row.job.attempts += 1;
                row.job.fence += 1;
                row.due_at = now.saturating_add(lease);
                row.job.clone()
            }));
        }
        taken
    }

    /// Whether an earlier job of its lane is open, or any other one in work: a later one is, if this one was a dead letter meanwhile.
    fn must_wait(&self, id: u64, now: u64) -> bool {
        let Some(lane) = self.rows.get(&id).and_then(Row::lane).and_then(|lane| self.lanes.get(&lane)) else { return false };
        let in_work = |other: &u64| self.rows.get(other).is_some_and(|row| row.job.state == JobState::Leased && row.due_at > now);
        lane.first() != Some(&id) || lane.iter().any(|other| *other != id && in_work(other))
    }

    fn of(&self, tenant: &TenantId, id: JobId) -> Option<&Job> {
        self.rows.get(&id.0).map(|row| &row.job).filter(|job| job.tenant == *tenant)
    }

    fn is_dead(&self, tenant: &TenantId, id: JobId) -> bool {
        self.of(tenant, id).is_some_and(|job| job.state == JobState::Dead)
    }

    /// Queues a dead job again.
    pub(super) fn revive(&mut self, tenant: &TenantId, id: JobId, now: u64) -> bool {
        self.is_dead(tenant, id)
            && self
                .change(id.0, |row| {
                    row.job.state = JobState::Pending;
                    row.job.attempts = 0;
                    row.job.not_before = 0;
                    row.due_at = now;
                })
                .is_some()
    }

    /// The events whose job is open or dead.
    pub(super) fn busy_events(&self) -> HashSet<u64> {
        let busy = |row: &&Row| is_open(row.job.state) || row.job.state == JobState::Dead;
        self.rows.values().filter(busy).filter_map(|row| row.event).collect()
    }

    /// Forgets finished jobs from before this time, and those of these events.
    pub(super) fn prune(&mut self, before: u64, events: &[u64]) {
        let events: HashSet<u64> = events.iter().copied().collect();
        self.rows.retain(|_, row| {
            let finished = matches!(row.job.state, JobState::Done | JobState::Discarded);
            !(finished && (row.job.created_at < before || row.event.is_some_and(|seq| events.contains(&seq))))
        });
    }
}

fn bury(row: &mut Row, error: JobError) {
    row.job.state = JobState::Dead;
    row.job.last_error = Some(error);
}

#[async_trait]
impl JobQueue for MemoryState {
    async fn enqueue(&self, job: NewJob) -> Result<Enqueued> {
        let now = self.now();
        Ok(self.tables().jobs.add(job, None, now))
    }

    async fn claim(&self, queue: &str, limit: usize, lease: Duration) -> Result<Vec<Job>> {
        let now = self.now();
        let lease = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        Ok(self.tables().jobs.claim(queue, limit, now, lease))
    }

    async fn complete(&self, job: &Job) -> Result<bool> {
        Ok(self.tables().jobs.held(job, |row| row.job.state = JobState::Done))
    }

    async fn retry(&self, job: &Job, not_before: u64, error: JobError) -> Result<bool> {
        Ok(self.tables().jobs.held(job, |row| {
            if row.job.attempts >= row.job.max_attempts {
                return bury(row, error);
            }
            row.job.state = JobState::Pending;
            row.job.not_before = not_before;
            row.job.last_error = Some(error);
            row.due_at = not_before;
        }))
    }

    async fn bury(&self, job: &Job, error: JobError) -> Result<bool> {
        Ok(self.tables().jobs.held(job, |row| bury(row, error)))
    }

    async fn bury_new(&self, job: NewJob, error: JobError) -> Result<JobId> {
        let now = self.now();
        let jobs = &mut self.tables().jobs;
        let added = jobs.add(job, None, now);
        if let Enqueued::New(id) = added {
            jobs.change(id.0, |row| bury(row, error));
        }
        Ok(added.id())
    }

    async fn job(&self, tenant: &TenantId, id: JobId) -> Result<Option<Job>> {
        Ok(self.tables().jobs.of(tenant, id).cloned())
    }

    async fn jobs(&self, tenant: &TenantId, filter: JobFilter) -> Result<Vec<Job>> {
        let tables = self.tables();
        let from = filter.after.map_or(0, |after| after.0.saturating_add(1));
        Ok(tables
            .jobs
            .rows
            .range(from..)
            .map(|(_, row)| &row.job)
            .filter(|job| job.tenant == *tenant)
            .filter(|job| filter.queue.as_deref().is_none_or(|queue| queue == &*job.queue))
            .filter(|job| filter.state.is_none_or(|state| state == job.state))
            .take(limit_or_default(filter.limit))
            .cloned()
            .collect())
    }

    async fn revive(&self, tenant: &TenantId, id: JobId) -> Result<bool> {
        let now = self.now();
        Ok(self.tables().jobs.revive(tenant, id, now))
    }

    async fn discard(&self, tenant: &TenantId, id: JobId) -> Result<bool> {
        let jobs = &mut self.tables().jobs;
        Ok(jobs.is_dead(tenant, id) && jobs.change(id.0, |row| row.job.state = JobState::Discarded).is_some())
    }

    async fn depth(&self, queue: &str) -> Result<QueueDepth> {
        let tables = self.tables();
        let mut depth = QueueDepth::default();
        for row in tables.jobs.rows.values().filter(|row| &*row.job.queue == queue) {
            match row.job.state {
                JobState::Pending => depth.pending += 1,
                JobState::Leased => depth.leased += 1,
                JobState::Dead => depth.dead += 1,
                JobState::Done | JobState::Discarded => {}
            }
        }
        Ok(depth)
    }
}
