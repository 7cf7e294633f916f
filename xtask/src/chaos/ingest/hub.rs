//! One hub process: started, watched, killed, asked to stop. It is a real `connector-hub serve`, killed when dropped.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::wire::{Reply, get, once};

/// How long a hub may take to start.
const START: Duration = Duration::from_secs(90);
/// How long a probe may take before it counts as unanswered.
pub(crate) const PROBE: Duration = Duration::from_secs(5);
/// Ports that the kernel gives to nobody by itself (Linux begins at 32768), so that a hub finds its own again after it was killed.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// A port that is free now.
pub(crate) fn pick_port() -> Result<u16> {
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    std::iter::repeat_with(|| fastrand::u16(PORTS)).take(200).find(free).context("no port is free")
}

/// A hub.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) addr: SocketAddr,
    program: PathBuf,
    dir: PathBuf,
    pub(crate) data: PathBuf,
    env: Vec<(String, String)>,
    log: PathBuf,
    child: Option<Child>,
}

impl Hub {
    /// One that is not started yet. `dir` holds its `hub.yaml`, `data` what it keeps.
    pub(crate) fn new(program: &Path, dir: &Path, data: PathBuf, env: Vec<(String, String)>) -> Result<Self> {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, pick_port()?));
        let log = dir.join(format!("hub-{}.log", addr.port()));
        Ok(Self { addr, program: program.to_owned(), dir: dir.to_owned(), data, env, log, child: None })
    }

    /// A command of the hub's program over this hub's configuration and data, with nothing of this machine's environment.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path))).env("RUST_LOG", "warn");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.current_dir(&self.dir).arg("--config").arg("hub.yaml").arg("--data-dir").arg(&self.data).args(args);
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Starts it and waits until it says that it is ready. Gives how long that took.
    pub(crate) async fn start(&mut self) -> Result<Duration> {
        let began = Instant::now();
        self.spawn()?;
        loop {
            if let Ok(reply) = self.probe("/readyz").await
                && reply.status == 200
            {
                return Ok(began.elapsed());
            }
            if let Some(status) = self.ended()? {
                bail!("the hub ended with {status} instead of getting ready; it said:\n{}", self.last_words());
            }
            if began.elapsed() > START {
                bail!("the hub did not get ready within {START:?}; it said:\n{}", self.last_words());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts it and does not wait.
    pub(crate) fn spawn(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = self.command(&["serve", "--listen", &self.addr.to_string()]);
        command.stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().with_context(|| format!("starting {}", self.program.display()))?);
        Ok(())
    }

    /// The end of what it logged.
    pub(crate) fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    /// All it logged so far.
    pub(crate) fn log(&self) -> Result<Vec<u8>> {
        std::fs::read(&self.log).context("reading the hub's log")
    }

    /// Asks a GET over a connection of its own.
    pub(crate) async fn probe(&self, path: &str) -> Result<Reply> {
        self.ask(path, None).await
    }

    /// The same, showing an API key.
    pub(crate) async fn ask(&self, path: &str, key: Option<&str>) -> Result<Reply> {
        once(self.addr, &get(self.addr, path, key), PROBE).await.map_err(|fault| anyhow::anyhow!("GET {path}: {fault}"))
    }

    /// Its exit status, if it has ended.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        match &mut self.child {
            Some(child) => Ok(child.try_wait()?),
            None => Ok(None),
        }
    }

    fn pid(&self) -> Result<Pid> {
        let id = self.child.as_ref().and_then(Child::id).context("the hub does not run")?;
        i32::try_from(id).ok().and_then(Pid::from_raw).context("a process id out of range")
    }

    /// SIGKILL, and waits until it is gone. `true`: it was running.
    pub(crate) async fn kill(&mut self) -> Result<bool> {
        let Some(mut child) = self.child.take() else { return Ok(false) };
        let running = child.try_wait()?.is_none();
        child.kill().await.context("killing the hub")?;
        Ok(running)
    }

    /// SIGTERM.
    pub(crate) fn term(&self) -> Result<()> {
        Ok(kill_process(self.pid()?, Signal::TERM)?)
    }

    /// Waits for its end after a [`Hub::term`].
    pub(crate) async fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let child = self.child.as_mut().context("the hub does not run")?;
        let status = tokio::time::timeout(patience, child.wait()).await.with_context(|| format!("the hub did not end within {patience:?}"))??;
        self.child = None;
        Ok(status)
    }

    /// How much memory it holds, in bytes.
    pub(crate) fn rss(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?.as_raw_nonzero()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse().context("VmRSS is not a number")?;
        Ok(kib * 1024)
    }
}
