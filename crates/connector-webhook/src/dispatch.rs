//! Handles persisted events: takes their jobs from the queue, gives them to a handler, retries what may pass, buries what may not.
//!
//! Owns leases, waits and isolation. Refuses to know what an event means. Handling is at least once: effects carry keys.

use std::{fmt::Debug, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_trait::async_trait;
use connector_core::{
    clock::{Clock, Rng, ThreadRng, unix_millis},
    error::{Error, ErrorKind, Result},
    state::{EventLog, Job, JobError, JobQueue, JobState, StoredEvent},
};
use futures_util::FutureExt as _;
use metrics::counter;
use tokio::sync::watch;

use crate::work::{Waker, Work, budget, work_off};

/// What to do with an event.
#[async_trait]
pub trait EventHandler: Debug + Send + Sync + 'static {
    /// Handles one event. `attempt` is 1 the first time.
    ///
    /// # Errors
    /// A passing error is tried again later, a permanent one makes the event a dead letter at once.
    async fn handle(&self, event: &StoredEvent, attempt: u32) -> Result<()>;
}

/// Hears of dead letters. One implementation serves every queue.
#[async_trait]
pub trait DeadLetters: Debug + Send + Sync + 'static {
    /// `job` is a dead letter now, durably; its `last_error` says why. What goes wrong in telling somebody is the implementor's to handle.
    async fn died(&self, job: &Job);
}

/// `job` as it is once the store has buried it for `error`.
pub fn buried(job: &Job, error: &Error) -> Job {
    Job { state: JobState::Dead, last_error: Some(JobError::from(error)), ..job.clone() }
}

/// How events are worked off.
#[derive(Debug, Clone)]
pub struct DispatchPolicy {
    /// The queue: `events`.
    pub queue: Arc<str>,
    /// Events in work at the same time: 16.
    pub concurrency: usize,
    /// How long a worker may keep an event: 60 s. The handler is stopped a tenth earlier, so that two never work on the same event.
    pub lease: Duration,
    /// The waits between attempts: 5 s, 30 s, 2 m, 10 m, 1 h, 6 h, 24 h. The last one repeats.
    pub schedule: Vec<Duration>,
    /// How far a wait may differ, up or down: 0.2.
    pub jitter: f64,
    /// How often the queue is looked at when nobody wakes us: 1 s.
    pub poll: Duration,
    /// After this many panics an event is a dead letter: 3.
    pub strikes: u32,
    /// How long events in work may take to finish when the dispatcher stops: 20 s. The rest is taken again when its lease runs out.
    pub drain: Duration,
}

impl Default for DispatchPolicy {
    fn default() -> Self {
        Self {
            queue: "events".into(),
            concurrency: 16,
            lease: Duration::from_secs(60),
            schedule: [5, 30, 120, 600, 3_600, 21_600, 86_400].map(Duration::from_secs).to_vec(),
            jitter: 0.2,
            poll: Duration::from_secs(1),
            strikes: 3,
            drain: Duration::from_secs(20),
        }
    }
}

impl DispatchPolicy {
    /// The wait after this attempt (from 1), at least `floor`.
    pub fn wait(&self, attempt: u32, floor: Option<Duration>, rng: &dyn Rng) -> Duration {
        let at = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
        let base = self.schedule.get(at).or(self.schedule.last()).copied().unwrap_or(self.poll);
        let factor = 1.0 + self.jitter.clamp(0.0, 1.0) * (2.0 * rng.unit() - 1.0);
        base.mul_f64(factor.max(0.0)).max(floor.unwrap_or(Duration::ZERO).min(MAX_FLOOR))
    }
}

/// A vendor that asks for longer than this gets an attempt after this.
const MAX_FLOOR: Duration = Duration::from_secs(86_400);
/// How a panic is kept as a job's last error; the number is the strike.
const PANICKED: &str = "the handler panicked, strike ";

/// Works off a queue of events.
#[derive(Debug, Clone)]
pub struct Dispatcher {
    jobs: Arc<dyn JobQueue>,
    log: Arc<dyn EventLog>,
    handler: Arc<dyn EventHandler>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    policy: Arc<DispatchPolicy>,
    waker: Waker,
    dead: Option<Arc<dyn DeadLetters>>,
}

impl Dispatcher {
    /// A dispatcher over one store's two ports. `clock` must be the store's.
    pub fn new(jobs: Arc<dyn JobQueue>, log: Arc<dyn EventLog>, handler: Arc<dyn EventHandler>, clock: Arc<dyn Clock>) -> Self {
        Self { jobs, log, handler, clock, rng: Arc::new(ThreadRng), policy: Arc::new(DispatchPolicy::default()), waker: Waker::default(), dead: None }
    }

    /// Replaces the policy.
    #[must_use]
    pub fn with_policy(mut self, policy: DispatchPolicy) -> Self {
        self.policy = Arc::new(policy);
        self
    }

    /// Replaces the source of jitter.
    #[must_use]
    pub fn with_rng(mut self, rng: Arc<dyn Rng>) -> Self {
        self.rng = rng;
        self
    }

    /// Replaces the waker, for one that exists before its dispatcher.
    #[must_use]
    pub fn with_waker(mut self, waker: Waker) -> Self {
        self.waker = waker;
        self
    }

    /// Tells somebody of events that become dead letters.
    #[must_use]
    pub fn with_dead_letters(mut self, dead: Arc<dyn DeadLetters>) -> Self {
        self.dead = Some(dead);
        self
    }

    /// Wakes this dispatcher; give it to whatever adds events.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Works until `stop` becomes true or its sender is gone, then lets what is in work finish.
    pub async fn run(&self, stop: watch::Receiver<bool>) {
        work_off(&*self.jobs, &self.policy, &self.waker, stop, Arc::new(self.clone())).await;
    }

    /// Runs the handler. Gives the connector for the metric, too.
    async fn attempt(&self, job: &Job) -> (String, Result<()>) {
        let event = match self.event(job).await {
            Ok(event) => event,
            Err(error) => return (UNKNOWN_CONNECTOR.to_owned(), Err(error)),
        };
        let budget = budget(&self.policy);
        // The handler gets nothing mutable of ours, so a panic leaves nothing half done on this side.
        let handled = AssertUnwindSafe(self.handler.handle(&event, job.attempts)).catch_unwind();
        let result = match tokio::time::timeout(budget, handled).await {
            Ok(Ok(result)) => result,
            Ok(Err(_panic)) => Err(Error::internal(format!("{PANICKED}{} of {}", strikes(job) + 1, self.policy.strikes))),
            Err(_) => Err(Error::new(ErrorKind::Timeout, format!("the handler did not finish within {budget:?}"))),
        };
        (event.connector.to_string(), result)
    }

    async fn event(&self, job: &Job) -> Result<StoredEvent> {
        let seq = std::str::from_utf8(&job.payload).ok().and_then(|text| text.parse().ok());
        let seq = seq.ok_or_else(|| Error::internal("the job does not name an event").with_context("job", job.id.to_string()))?;
        let event = self.log.event(&job.tenant, seq).await?;
        event.ok_or_else(|| Error::new(ErrorKind::NotFound, "the event is not in the log any more").with_context("seq", seq.to_string()))
    }

    /// Whether trying again cannot help.
    fn permanent(&self, job: &Job, error: &Error) -> bool {
        if error.message().starts_with(PANICKED) {
            return strikes(job) + 1 >= self.policy.strikes;
        }
        // A cancelled handler was stopped by us, and a named delay says that waiting helps, whatever the class.
        !(error.kind().is_passing() || error.kind() == ErrorKind::Cancelled || error.retry_after().is_some())
    }
}

#[async_trait]
impl Work for Dispatcher {
    async fn once(&self, job: Job) {
        let (connector, result) = self.attempt(&job).await;
        let (outcome, settled) = match &result {
            Ok(()) => ("handled", self.jobs.complete(&job).await),
            Err(error) if self.permanent(&job, error) => {
                tracing::error!(target: "connectors::webhook", job = %job.id, subject = %job.subject, %error, "an event became a dead letter");
                (DEAD, self.jobs.bury(&job, JobError::from(error)).await)
            }
            Err(error) => {
                let wait = self.policy.wait(job.attempts, error.retry_after(), &*self.rng);
                let not_before = unix_millis(self.clock.wall()).saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
                tracing::warn!(target: "connectors::webhook", job = %job.id, subject = %job.subject, attempt = job.attempts, ?wait, %error, "an event failed");
                let outcome = if job.attempts >= job.max_attempts { DEAD } else { "retried" };
                (outcome, self.jobs.retry(&job, not_before, JobError::from(error)).await)
            }
        };
        counter!("integration_webhook_events_total", "connector" => connector, "outcome" => outcome).increment(1);
        match settled {
            Ok(true) => {
                if let (DEAD, Err(error), Some(dead)) = (outcome, &result, &self.dead) {
                    dead.died(&buried(&job, error)).await;
                }
            }
            Ok(false) => tracing::warn!(target: "connectors::webhook", job = %job.id, "the lease was lost; somebody else has the event"),
            Err(error) => {
                tracing::error!(target: "connectors::webhook", job = %job.id, %error, "the outcome of an event could not be kept; it will be handled again")
            }
        }
    }

    async fn vanished(&self, job: Job) {
        counter!("integration_webhook_events_total", "connector" => UNKNOWN_CONNECTOR, "outcome" => DEAD).increment(1);
        if let Some(dead) = &self.dead {
            dead.died(&job).await;
        }
    }
}

/// The outcome of an event that is given up.
const DEAD: &str = "dead";
/// The label of a job whose event could not be read.
const UNKNOWN_CONNECTOR: &str = "unknown";

/// How often the handler panicked over this job in a row.
fn strikes(job: &Job) -> u32 {
    let kept = job.last_error.as_ref().and_then(|error| error.message.strip_prefix(PANICKED));
    kept.and_then(|rest| rest.split(' ').next()).and_then(|number| number.parse().ok()).unwrap_or(0)
}
