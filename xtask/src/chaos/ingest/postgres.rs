//! A PostgreSQL server of a case's own, on a free port and a folder that vanishes. It is stopped with the case; the machine's own is left alone.

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::hub::pick_port;

/// How long it may take to start, recovery included.
const START: Duration = Duration::from_secs(60);

/// How it is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// As an administrator does: sessions are ended, what they do is undone.
    Fast,
    /// As a crash does: nothing is written, the next start recovers from the log.
    Immediate,
}

/// The server.
#[derive(Debug)]
pub(crate) struct Postgres {
    folder: tempfile::TempDir,
    programs: PathBuf,
    owner: Option<(u32, u32)>,
    port: u16,
    running: Option<Child>,
}

/// The folder of `initdb` and `postgres`, the newest if there are several.
fn programs() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").is_file())
        .collect();
    found.sort();
    found.pop()
}

/// PostgreSQL refuses to run as root; Debian's package brings a user for it.
fn owner() -> Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    let line =
        users.lines().find(|line| line.starts_with("postgres:")).context("PostgreSQL does not run as root, and there is no user `postgres`")?;
    let fields: Vec<&str> = line.split(':').collect();
    let number = |at: usize| fields.get(at).and_then(|field| field.parse().ok()).context("the user `postgres` has no number");
    Ok(Some((number(2)?, number(3)?)))
}

impl Postgres {
    /// A new, running server.
    pub(crate) async fn start() -> Result<Self> {
        let programs = programs().context("this case needs PostgreSQL's `initdb` under /usr/lib/postgresql (Debian: postgresql)")?;
        let owner = owner()?;
        let folder = tempfile::tempdir()?;
        if let Some((user, group)) = owner {
            chown(folder.path(), Some(user), Some(group))?;
        }
        let mut server = Self { folder, programs, owner, port: pick_port()?, running: None };
        let mut initdb = server.command("initdb");
        initdb.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N", "-D"]).arg(server.data());
        let output = tokio::task::spawn_blocking(move || initdb.output()).await??;
        if !output.status.success() {
            bail!("initdb failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        server.up().await?;
        Ok(server)
    }

    /// The connection URL; it holds no password.
    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        command
    }

    /// Starts it and waits until it takes connections.
    pub(crate) async fn up(&mut self) -> Result<()> {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c"]);
        command.arg(format!("unix_socket_directories={}", self.folder.path().display()));
        self.running = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("starting PostgreSQL")?);
        let until = Instant::now() + START;
        loop {
            let mut ready = self.command("pg_isready");
            ready.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
            if tokio::task::spawn_blocking(move || ready.status()).await??.success() {
                return Ok(());
            }
            if Instant::now() > until {
                bail!("PostgreSQL did not get ready within {START:?}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Stops it and waits until it is gone.
    pub(crate) fn stop(&mut self, how: Stop) -> Result<()> {
        let Some(mut child) = self.running.take() else { return Ok(()) };
        let signal = match how {
            Stop::Fast => Signal::INT,
            Stop::Immediate => Signal::QUIT,
        };
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            kill_process(pid, signal)?;
        }
        child.wait()?;
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Err(error) = self.stop(Stop::Immediate) {
            eprintln!("PostgreSQL could not be stopped: {error:#}");
        }
    }
}
