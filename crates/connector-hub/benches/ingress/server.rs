//! The servers under load: the raw handler they are compared with, and the hub over its stores.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use connector_core::state::Store;
use connector_runtime::{HubConfig, Runtime};
use connector_state::{MemoryState, SqliteState};
use hmac::{Hmac, KeyInit as _, Mac as _};

/// The first argument of a server that is this program.
pub(crate) const CHILD: &str = "serve";
pub(crate) const SECRET: &str = "bench-secret-of-the-desk";
const VARIABLE: &str = "DESK_SECRET";
/// Where a PostgreSQL may be for the figures of a fleet's store; without it they are left out.
const POSTGRES: &str = "CONNECTORS_BENCH_POSTGRES";

const MANIFEST: &str = r#"
connector: webhook
id: desk
name: The desk
base_url: "https://desk.example.com/api"
webhook:
  verify: { kind: hmac_sha256, header: X-Signature, message: "{timestamp}.{body}", encoding: hex, timestamp: X-Timestamp }
  event_id: .id
  event_type: .type
models:
  Requester: { fields: { id: int, name: string, email: string } }
  Ticket:
    fields: { id: int, subject: string, status: string, priority: string, requester: Requester, tags: "array<string>", custom: "map<string>", description: string }
  Created: { fields: { id: string, type: string, created: int, ticket: Ticket } }
events:
  ticket.created: { match: { .type: ticket.created }, payload: Created }
tools:
  - { name: desk_get_ticket, doc: One ticket., method: GET, path: "/tickets/{id}", params: [{ name: id, type: int, required: true }] }
"#;

/// What answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// axum and an HMAC over the body, nothing kept.
    Raw,
    /// The hub with its store in memory; events are accepted and queued, not handled.
    Memory,
    /// The hub on SQLite; events are accepted and queued, not handled.
    Sqlite,
    /// The hub as it comes, on SQLite: events are handled, too.
    Handled,
    /// The hub on PostgreSQL.
    Postgres,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [Self::Raw, Self::Memory, Self::Sqlite, Self::Handled, Self::Postgres];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| format!("{kind:?}").eq_ignore_ascii_case(name))
    }

    pub(crate) fn is_there(&self) -> bool {
        *self != Self::Postgres || std::env::var_os(POSTGRES).is_some()
    }

    /// The least share of the raw handler's events, and the most CPU for one in microseconds.
    // design/performance.md §9, rows 15 and 16
    pub(crate) fn targets(self) -> (Option<f64>, Option<f64>) {
        match self {
            Self::Raw | Self::Handled | Self::Postgres => (None, None),
            Self::Memory => (Some(0.75), None),
            Self::Sqlite => (Some(0.28), Some(22.0)),
        }
    }
}

/// A running server; stopped when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Gone already is as good.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Server {
    pub(crate) fn start(kind: Kind) -> Self {
        // Where its files are decides what a commit costs; next to the build is a disk, a temporary folder may be memory.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        fs::write(folder.path().join("desk.yaml"), MANIFEST).unwrap();
        fs::write(
            folder.path().join("hub.yaml"),
            format!("manifests: [desk.yaml]\nconnections:\n  desk:\n    connector: desk\n    webhook: {{ secrets: [\"${{{VARIABLE}}}\"] }}\n"),
        )
        .unwrap();
        // Freed again at once; nobody else is expected to take it in the moment between.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = folder.path().join("hub.yaml");
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]);
        match kind {
            Kind::Raw | Kind::Memory | Kind::Sqlite => {
                command.arg(std::env::current_exe().unwrap()).args([CHILD, &format!("{kind:?}"), &address.to_string()]).arg(&config)
            }
            Kind::Handled | Kind::Postgres => command
                .arg(env!("CARGO_BIN_EXE_connector-hub"))
                .arg("--config")
                .arg(&config)
                .arg("--data-dir")
                .arg(folder.path().join("data"))
                .args(["serve", "--listen", &address.to_string()]),
        };
        if kind == Kind::Postgres {
            command.env("CONNECTORS_STATE_URL", std::env::var_os(POSTGRES).unwrap());
        }
        command.env(VARIABLE, SECRET).env("TOKIO_WORKER_THREADS", "1").env("RUST_LOG", "error").stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("`taskset` of util-linux starts the server on one core");
        let server = Self { address, child, _folder: folder };
        let patience = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < patience, "{kind:?} does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// Where events go.
    pub(crate) fn path(&self) -> &'static str {
        "/api/v1/webhooks/desk/default"
    }

    /// CPU of the process so far.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    /// Bytes resident.
    pub(crate) fn rss(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).and_then(|rest| rest.trim().strip_suffix(" kB"));
        kib.unwrap().trim().parse::<u64>().unwrap() * 1024
    }

    /// Waits until the process has worked off what it took.
    pub(crate) fn settle(&self) {
        let patience = Instant::now() + Duration::from_secs(120);
        let mut last = self.cpu();
        loop {
            std::thread::sleep(Duration::from_millis(300));
            let now = self.cpu();
            if now - last <= Duration::from_millis(10) || Instant::now() > patience {
                return;
            }
            last = now;
        }
    }
}

/// `serve KIND ADDRESS CONFIG`
pub(crate) fn child(args: &[String]) -> std::process::ExitCode {
    let [kind, address, config] = args else { panic!("serve KIND ADDRESS CONFIG") };
    let kind = Kind::named(kind).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        match kind {
            Kind::Raw => axum::serve(listener, Router::new().route("/api/v1/webhooks/desk/default", post(raw))).await.unwrap(),
            _ => {
                let store: Arc<dyn Store> = match kind {
                    Kind::Sqlite => Arc::new(SqliteState::open(Path::new(config).with_file_name("state.db")).unwrap()),
                    _ => Arc::new(MemoryState::default()),
                };
                let config = HubConfig::load(Path::new(config)).unwrap();
                // Its workers are not started: what is measured is what an acknowledgement costs.
                let runtime = Runtime::builder().config(config).store(store).build().await.unwrap();
                let app = connector_hub::http::App::new(runtime, None, None);
                axum::serve(listener, connector_hub::http::router(app)).await.unwrap();
            }
        }
    });
    std::process::ExitCode::SUCCESS
}

/// The least that a receiver must do.
async fn raw(headers: HeaderMap, body: Bytes) -> StatusCode {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let (Some(at), Some(signature)) = (header("x-timestamp"), header("x-signature").and_then(|text| hex::decode(text).ok())) else {
        return StatusCode::UNAUTHORIZED;
    };
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(at.as_bytes());
    mac.update(b".");
    mac.update(&body);
    if mac.verify_slice(&signature).is_ok() { StatusCode::ACCEPTED } else { StatusCode::UNAUTHORIZED }
}
