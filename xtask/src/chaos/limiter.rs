//! `limiter`: many processes call one vendor through limits they share over Redis, which is killed and started again. Whatever happens, no rolling
//! window of the vendor sees more than it published, and while Redis is there the fleet uses what it may.

use std::{
    collections::BTreeMap,
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use connector_core::{resilience::LimitPolicy, spec::Window};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, Command},
};

use super::{
    limiter_servers::{Counter, Redis, Upstash},
    limiter_worker::Job,
    verdict::Verdict,
};

#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Processes that call
    #[arg(long, default_value_t = 8)]
    procs: u32,
    /// What the vendor publishes
    #[arg(long, default_value = "100/10s")]
    limit: Window,
    /// How long they call
    #[arg(long, value_parser = secs, default_value = "40s")]
    secs: Duration,
    /// When the Redis server is killed; never if not said
    #[arg(long, value_parser = secs)]
    kill_redis_at: Option<Duration>,
    /// When it is started again, empty; halfway between the kill and the end if not said
    #[arg(long, value_parser = secs)]
    restart_at: Option<Duration>,
    /// It is stopped and goes on later (SIGSTOP, SIGCONT) instead of being killed
    #[arg(long)]
    freeze: bool,
    /// Over a REST front as Upstash has one, instead of Redis itself
    #[arg(long)]
    upstash: bool,
    /// How long a call waits for the server, milliseconds; 50, or 250 over the front
    #[arg(long)]
    budget_ms: Option<u64>,
    /// A short run with each of 1, 2, 4, 8 and 16 processes instead, and one with a kill; for CI
    #[arg(long)]
    quick: bool,
    /// For the report; the order of events is the machine's
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// `20s`, or a bare number of seconds.
fn secs(text: &str) -> std::result::Result<Duration, String> {
    let seconds = text.strip_suffix('s').unwrap_or(text).parse::<f64>().map_err(|error| format!("{error}; write seconds, as in `20s`"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// Of what the fleet may use while Redis is there, it uses at least this part.
const USED: f64 = 0.97;

pub(crate) async fn run(options: Options) -> Result<ExitCode> {
    let mut verdict = Verdict::new("limiter", options.seed);
    if !options.quick {
        let figures = once(&options, &mut verdict).await?;
        figures.into_iter().for_each(|(name, value)| verdict.figure(name, value));
        return verdict.conclude();
    }
    let mut runs = Vec::new();
    for procs in [1, 2, 4, 8, 16] {
        let kill = (procs == 8).then(|| Duration::from_secs(6));
        let short = Options {
            procs,
            limit: Window { limit: 100, per: Duration::from_secs(2) },
            secs: if kill.is_some() { Duration::from_secs(14) } else { Duration::from_secs(6) },
            kill_redis_at: kill,
            restart_at: kill.map(|at| at + Duration::from_secs(3)),
            ..options.clone()
        };
        runs.push(Value::Object(once(&short, &mut verdict).await?.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()));
    }
    verdict.figure("runs", runs);
    verdict.conclude()
}

/// One process of the fleet. Killed on drop.
struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
}

impl Process {
    async fn start(job: &Job) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["chaos", "limiter-worker"])
            .env("CHAOS_LIMITER", serde_json::to_string(job)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting a process of the fleet")?;
        let stdin = child.stdin.take().context("its stdin")?;
        let mut lines = BufReader::new(child.stdout.take().context("its stdout")?).lines();
        let ready = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await.context("a process does not get ready")??;
        if ready.as_deref() != Some("ready") {
            bail!("a process said {ready:?} instead of being ready");
        }
        Ok(Self { child, stdin: Some(stdin), lines })
    }

    /// Anything on stdin starts it; its end stops it.
    async fn go(&mut self) -> Result<()> {
        self.stdin.as_mut().context("its stdin")?.write_all(b"g").await.context("a process does not listen")
    }

    /// Stops it and hears what it has to say.
    async fn stop(mut self) -> Result<Value> {
        drop(self.stdin.take());
        let line = tokio::time::timeout(Duration::from_secs(20), self.lines.next_line()).await.context("a process does not stop")??;
        let report = serde_json::from_str(&line.context("a process died")?)?;
        tokio::time::timeout(Duration::from_secs(20), self.child.wait()).await.context("a process does not end")??;
        Ok(report)
    }
}

async fn once(options: &Options, verdict: &mut Verdict) -> Result<BTreeMap<&'static str, Value>> {
    let counter = Counter::start().await?;
    let mut redis = Redis::start().await?;
    let front = if options.upstash { Some(Upstash::start(redis.port()).await?) } else { None };
    let budget_ms = options.budget_ms.unwrap_or(if options.upstash { 250 } else { 50 });
    let job = Job {
        vendor: counter.url(),
        redis: redis.url(),
        upstash: front.as_ref().map(Upstash::url_and_token),
        processes: options.procs,
        limit: options.limit,
        budget_ms,
    };
    let mut fleet = Vec::new();
    for _ in 0..options.procs {
        fleet.push(Process::start(&job).await?);
    }
    let begun = Instant::now();
    for process in &mut fleet {
        process.go().await?;
    }
    let kill = options.kill_redis_at.filter(|at| *at < options.secs);
    let restart = kill.map(|at| options.restart_at.unwrap_or((at + options.secs) / 2));
    let until = |moment: Duration| tokio::time::sleep_until((begun + moment).into());
    if let (Some(kill), Some(restart)) = (kill, restart) {
        until(kill).await;
        if options.freeze {
            redis.freeze()?
        } else {
            redis.kill().await?
        }
        until(restart).await;
        if options.freeze { redis.thaw()? } else { redis.up().await? }
    }
    until(options.secs).await;
    let mut reports = Vec::new();
    for process in fleet {
        reports.push(process.stop().await?);
    }
    let times = counter.times(begun);
    Ok(judge(options, verdict, &times, kill.zip(restart), &reports))
}

/// The most calls any rolling window of this length saw.
fn busiest(times: &[Duration], per: Duration) -> usize {
    let (mut first, mut most) = (0, 0);
    for (last, time) in times.iter().enumerate() {
        while *time - times[first] >= per {
            first += 1;
        }
        most = most.max(last + 1 - first);
    }
    most
}

fn judge(
    options: &Options,
    verdict: &mut Verdict,
    times: &[Duration],
    gone: Option<(Duration, Duration)>,
    reports: &[Value],
) -> BTreeMap<&'static str, Value> {
    let Options { procs, limit: window, secs, .. } = options;
    let who = format!("{procs} processes, {}", String::from(*window));
    let policy = LimitPolicy::default();
    let (allowed, burst) = (window.limit * policy.percent / 100, window.limit * policy.burst_percent / 100);
    let rate = f64::from(allowed - burst) / window.per.as_secs_f64();
    let within = |from: Duration, to: Duration| times.iter().filter(|time| **time >= from && **time < to).count();
    // How much of the rate was used; a window that begins empty lets no more than the rate through.
    #[allow(clippy::cast_precision_loss, reason = "some thousand calls")]
    let used = |from: Duration, to: Duration| within(from, to) as f64 / (rate * (to - from).as_secs_f64());
    let mut figures = BTreeMap::new();
    let most = busiest(times, window.per);
    figures.insert("procs", (*procs).into());
    figures.insert("limit", String::from(*window).into());
    figures.insert("calls", times.len().into());
    figures.insert("busiest_window", most.into());
    figures.insert("allowed_90_percent", allowed.into());
    let lost: u64 = reports.iter().filter_map(|report| report["lost"].as_u64()).sum();
    figures.insert("times_a_process_lost_redis", lost.into());
    let refused: u64 = reports.iter().filter_map(|report| report["refused"].as_u64()).sum();
    verdict.require(refused == 0, || format!("{who}: {refused} calls were refused, although they may wait a minute"));
    verdict.require(most <= window.limit as usize, || format!("{who}: a rolling window saw {most} calls"));
    // The store settles for a second, and the first turn comes after that; a store that comes back has to be noticed as well.
    let (settled, noticed) = (Duration::from_millis(2_500), Duration::from_millis(1_000));
    let end = gone.map_or(*secs, |(kill, _)| kill);
    let before = used(settled, end);
    figures.insert("used_before", json!(round(before)));
    verdict.require(before >= USED, || format!("{who}: only {before:.3} of the quota was used while Redis was there"));
    if let Some((kill, restart)) = gone {
        let share = f64::from(allowed / procs * procs) / window.per.as_secs_f64();
        let during = within(kill + Duration::from_secs(1), restart);
        #[allow(clippy::cast_precision_loss, reason = "some hundred calls")]
        let rate_during = during as f64 / (restart - kill - Duration::from_secs(1)).as_secs_f64();
        let after = used(restart + noticed + settled, *secs);
        figures.insert("busiest_window_across_the_kill", busiest(&part(times, kill, window.per), window.per).into());
        figures.insert("busiest_window_across_the_restart", busiest(&part(times, restart, window.per), window.per).into());
        figures.insert("calls_per_second_without_redis", json!(round(rate_during)));
        figures.insert("used_after", json!(round(after)));
        verdict.require(during > 0, || format!("{who}: nothing was sent without Redis"));
        verdict.require(rate_during <= share, || format!("{who}: {rate_during:.1} calls a second without Redis; all shares together are {share:.1}"));
        verdict.require(after >= USED, || format!("{who}: only {after:.3} of the quota was used after Redis came back"));
        verdict.require(lost >= u64::from(*procs), || format!("{who}: Redis was lost {lost} times only; was it gone at all?"));
    }
    figures
}

/// The calls that may share a window with this moment.
fn part(times: &[Duration], moment: Duration, per: Duration) -> Vec<Duration> {
    times.iter().filter(|time| **time + per >= moment && **time <= moment + per).copied().collect()
}

fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}
