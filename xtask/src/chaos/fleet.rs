//! The coordinator's side of a worker process: what it is told, what it says, and its end.
//!
//! One JSON document a line in both directions. A worker that is dropped is killed.

use std::{collections::BTreeMap, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

/// How long a worker may be silent.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a worker is told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(crate) enum Order {
    /// Authorise this many requests at the same time, with the clock this many seconds ahead of the real one.
    Authorize { tasks: usize, ahead_secs: u64 },
    /// Read credentials at this rate until told to stop.
    Read { rps: u64, credentials: usize },
    /// Stop reading and report.
    Stop,
}

/// What a worker says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "said", rename_all = "snake_case")]
pub(crate) enum Said {
    /// It is set up and waits.
    Ready,
    /// A person has to connect again.
    Reauth { serial: u64, reason: String },
    /// What came of `Authorize`.
    Authorized(Authorized),
    /// What came of `Read`.
    Reads(Reads),
    /// A pass over all envelopes is done: everything is under `key` now.
    Pass { key: String, rewrapped: u64, already: u64, unreadable: u64, left: u64 },
}

/// What came of a round of authorisations. Tokens are told apart by a digest.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Authorized {
    pub(crate) ok: u64,
    /// Failures by kind and message.
    pub(crate) failed: BTreeMap<String, u64>,
    /// How many requests got each token.
    pub(crate) tokens: BTreeMap<String, u64>,
    /// How long each waited, microseconds.
    pub(crate) waits: Vec<u64>,
}

/// What came of reading under load.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Reads {
    pub(crate) ok: u64,
    /// Failures by kind and message; a wrong value counts as one.
    pub(crate) failed: BTreeMap<String, u64>,
    /// How long each took, microseconds.
    pub(crate) waits: Vec<u64>,
}

/// A worker process.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    /// Serials for which it told that a person has to connect again, and why, in order.
    pub(crate) reauths: Vec<(u64, String)>,
}

impl Worker {
    /// Starts a worker and waits until it is ready.
    pub(crate) async fn start(role: &str, env: &[(&str, String)]) -> Result<Self> {
        let exe = std::env::current_exe().context("finding this program")?;
        let mut command = Command::new(exe);
        command.args(["chaos", "worker", role]).envs(env.iter().map(|(name, value)| (name, value)));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().context("starting a worker")?;
        let stdin = child.stdin.take().context("a worker without stdin")?;
        let lines = BufReader::new(child.stdout.take().context("a worker without stdout")?).lines();
        let mut worker = Self { child, stdin, lines, reauths: Vec::new() };
        match worker.hear().await? {
            Some(Said::Ready) => Ok(worker),
            other => bail!("a worker did not get ready: {other:?}"),
        }
    }

    /// Tells it what to do.
    pub(crate) async fn tell(&mut self, order: &Order) -> Result<()> {
        let mut line = serde_json::to_string(order)?;
        line.push('\n');
        self.stdin.write_all(line.as_bytes()).await.context("telling a worker")?;
        Ok(())
    }

    /// The next thing it says other than notices, which are remembered; `None`: it has ended.
    pub(crate) async fn hear(&mut self) -> Result<Option<Said>> {
        loop {
            let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await.context("a worker says nothing")??;
            let Some(line) = line else { return Ok(None) };
            match serde_json::from_str(&line).with_context(|| format!("a worker said `{line}`"))? {
                Said::Reauth { serial, reason } => self.reauths.push((serial, reason)),
                said => return Ok(Some(said)),
            }
        }
    }

    /// Tells it to authorise and waits for what comes of it; `None`: it died over it.
    pub(crate) async fn authorize(&mut self, tasks: usize, ahead_secs: u64) -> Result<Option<Authorized>> {
        self.tell(&Order::Authorize { tasks, ahead_secs }).await?;
        match self.hear().await? {
            Some(Said::Authorized(authorized)) => Ok(Some(authorized)),
            None => Ok(None),
            other => bail!("a worker answered {other:?}"),
        }
    }

    /// Kills it with SIGKILL and waits until it is gone. `true`: it was still running.
    pub(crate) async fn kill(&mut self) -> Result<bool> {
        let running = self.child.try_wait()?.is_none();
        self.child.kill().await.context("killing a worker")?;
        Ok(running)
    }

    /// Waits for its end; the signal that ended it, if one did.
    pub(crate) async fn ended_by(&mut self) -> Result<Option<i32>> {
        use std::os::unix::process::ExitStatusExt as _;
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.context("a worker does not end")??;
        Ok(status.signal())
    }
}
