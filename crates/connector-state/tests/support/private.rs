//! A PostgreSQL server of a test's own, on a free port and a folder that vanishes.

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{raw, skip, within_ten_seconds};

/// The server. Stopped on drop.
pub(crate) struct Private {
    folder: tempfile::TempDir,
    programs: PathBuf,
    owner: Option<(u32, u32)>,
    port: u16,
    settings: Vec<String>,
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
fn owner() -> Option<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Some(None);
    }
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let fields: Vec<&str> = users.lines().find(|line| line.starts_with("postgres:"))?.split(':').collect();
    Some(Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?)))
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Private {
    /// A folder, a port and no server yet, or `None` with a line why not.
    fn new(settings: &[&str]) -> Option<Self> {
        let (Some(programs), Some(owner)) = (programs(), owner()) else {
            skip("PostgreSQL's `initdb` is not installed here, or there is no user to run it as");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        if let Some((user, group)) = owner {
            chown(folder.path(), Some(user), Some(group)).unwrap();
        }
        let settings = settings.iter().map(|one| (*one).to_owned()).collect();
        Some(Self { folder, programs, owner, port: free_port(), settings, running: None })
    }

    /// A new, running server with these settings, or `None` with a line why not.
    pub(crate) async fn start(settings: &[&str]) -> Option<Self> {
        let mut server = Self::new(settings)?;
        let mut initdb = server.command("initdb");
        initdb.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N", "-D"]).arg(server.data());
        assert!(initdb.status().unwrap().success(), "initdb failed");
        server.up().await;
        Some(server)
    }

    /// A running replica of this server.
    pub(crate) async fn replica(&self) -> Option<Self> {
        let mut replica = Self::new(&[])?;
        let mut copy = replica.command("pg_basebackup");
        copy.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &self.port.to_string(), "-R", "-N", "-c", "fast", "-D"]).arg(replica.data());
        assert!(copy.status().unwrap().success(), "pg_basebackup failed");
        replica.up().await;
        Some(replica)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        command
    }

    /// Writes a file that the server can read and nobody else.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        if let Some((user, group)) = self.owner {
            chown(&path, Some(user), Some(group)).unwrap();
        }
        path
    }

    pub(crate) fn set(&mut self, settings: &[&str]) {
        self.settings = settings.iter().map(|one| (*one).to_owned()).collect();
    }

    /// Starts it and waits until it answers.
    pub(crate) async fn up(&mut self) {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c"]);
        command.arg(format!("unix_socket_directories={}", self.folder.path().display()));
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        self.running = Some(command.spawn().unwrap());
        let url = self.url();
        within_ten_seconds("starting PostgreSQL", || async { raw(&url).await.ok() }).await;
    }

    fn signal(&mut self, signal: Signal) {
        if let Some(mut child) = self.running.take() {
            if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                kill_process(pid, signal).unwrap();
            }
            child.wait().unwrap();
        }
    }

    /// Stops it as an administrator does: sessions are ended, what they do is undone.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::INT);
    }

    /// Stops it as a crash does: nothing is written, the next start recovers from the log.
    pub(crate) fn crash(&mut self) {
        self.signal(Signal::QUIT);
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        self.crash();
    }
}
