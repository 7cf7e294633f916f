//! The world of a case: a folder, an effect server, one or more hubs over one store, and the secret that deliveries are signed with.
//!
//! Dropping it ends everything it started and removes the folder.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use clap::{Args, ValueEnum};
use connector_core::{
    clock::{Clock as _, SystemClock, unix_seconds},
    state::{QueueDepth, Store},
};
use connector_state::{PostgresState, SqliteState};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::SecretString;
use serde_json::{Value, json};
use sha2::Sha256;

use super::{effects::Effects, hub::Hub, postgres::Postgres};
use crate::hub::program_of;

/// The tenant's queues. Nothing is left to do when all are empty.
pub(crate) const QUEUES: [&str; 3] = ["events", "outbox", "forward"];
/// How many lanes there are: events of one lane are handled in order.
const LANES: u64 = 4000;

/// What every case takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Base {
    /// The hub's program, if it is built already
    #[arg(long, value_name = "FILE")]
    pub(crate) hub: Option<PathBuf>,
    /// Decides what happens when
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

/// Where the hubs keep their state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kept {
    /// One hub over a file
    #[default]
    Sqlite,
    /// Any number of hubs over one server, which the case starts
    Postgres,
}

/// What a world is made of.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    pub(crate) program: Option<PathBuf>,
    pub(crate) kept: Kept,
    pub(crate) hubs: usize,
    /// The section `server` of `hub.yaml`, if the case needs one.
    pub(crate) server: Option<Value>,
    /// Each event is also pushed to subscribers, under `desk.created`.
    pub(crate) push: bool,
    /// Where the data lies, if not in the world's own folder.
    pub(crate) data: Option<PathBuf>,
}

/// The running pieces. Dropped in this order.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) hubs: Vec<Hub>,
    pub(crate) effects: Effects,
    pub(crate) vendor: Arc<Vendor>,
    pub(crate) postgres: Option<Postgres>,
    kept: Kept,
    dir: tempfile::TempDir,
}

impl World {
    /// Makes it; the hubs are not started yet.
    pub(crate) async fn new(plan: Plan) -> Result<Self> {
        if plan.kept == Kept::Sqlite && plan.hubs > 1 {
            bail!("several hubs share a PostgreSQL server: add `--store postgres`");
        }
        let program = program_of(plan.program.as_deref())?;
        let dir = tempfile::tempdir()?;
        let effects = Effects::start(&dir.path().join("ledger")).await?;
        let postgres = match plan.kept {
            Kept::Sqlite => None,
            Kept::Postgres => Some(Postgres::start().await?),
        };
        let vendor = Arc::new(Vendor { secret: random_hex(), note: random_hex() });
        std::fs::write(dir.path().join("desk.yaml"), manifest().to_string())?;
        std::fs::write(dir.path().join("hub.yaml"), config(&effects.url(), postgres.is_some(), plan.server, plan.push).to_string())?;
        let master: [u8; 32] = std::array::from_fn(|_| fastrand::u8(..));
        let mut env = vec![
            ("CONNECTORS_MASTER_KEY".to_owned(), base64::engine::general_purpose::STANDARD.encode(master)),
            ("DESK_SECRET".to_owned(), vendor.secret.clone()),
            ("DESK_TOKEN".to_owned(), random_hex()),
        ];
        env.extend(postgres.as_ref().map(|postgres| ("DESK_STATE".to_owned(), postgres.url())));
        let data = |at: usize| plan.data.clone().unwrap_or_else(|| dir.path().join(format!("data-{at}")));
        let hubs = (0..plan.hubs.max(1)).map(|at| Hub::new(&program, dir.path(), data(at), env.clone())).collect::<Result<_>>()?;
        Ok(Self { hubs, effects, vendor, postgres, kept: plan.kept, dir })
    }

    /// Makes it and starts its hubs.
    pub(crate) async fn start(plan: Plan) -> Result<Self> {
        let mut world = Self::new(plan).await?;
        // One after the other: the first one brings the schema up to date.
        for hub in &mut world.hubs {
            hub.start().await?;
        }
        Ok(world)
    }

    /// A file in the world's folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where the hubs listen.
    pub(crate) fn addrs(&self) -> Vec<SocketAddr> {
        self.hubs.iter().map(|hub| hub.addr).collect()
    }

    /// The SQLite file of the hub.
    pub(crate) fn database(&self) -> PathBuf {
        self.hubs[0].data.join("connectors.db")
    }

    /// The hubs' state, opened by this process, for looking.
    pub(crate) async fn look(&self) -> Result<Look> {
        let store: Arc<dyn Store> = match (&self.kept, &self.postgres) {
            (Kept::Postgres, Some(postgres)) => Arc::new(PostgresState::connect(&SecretString::from(postgres.url())).await?),
            _ => Arc::new(SqliteState::open(self.database())?),
        };
        Ok(Look { store })
    }

    /// Runs a command of the hub's program to its end and gives what it prints. `accept`: further exit codes that are no failure.
    pub(crate) async fn cli(&self, args: &[&str], accept: &[i32]) -> Result<String> {
        const PATIENCE: Duration = Duration::from_secs(120);
        let output = tokio::time::timeout(PATIENCE, self.hubs[0].command(args).output()).await;
        let output = output.with_context(|| format!("`{}` does not end", args.join(" ")))??;
        let code = output.status.code();
        if code != Some(0) && !accept.iter().any(|other| Some(*other) == code) {
            bail!("`{}` ended with {}: {}", args.join(" "), output.status, String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// The state of the hubs, from outside.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) store: Arc<dyn Store>,
}

impl Look {
    /// All queues together.
    pub(crate) async fn depth(&self) -> Result<QueueDepth> {
        let mut all = QueueDepth::default();
        for queue in QUEUES {
            let depth = self.store.depth(queue).await?;
            all.pending += depth.pending;
            all.leased += depth.leased;
            all.dead += depth.dead;
        }
        Ok(all)
    }
}

/// The vendor who sends: signs deliveries as the manifest says.
#[derive(Debug)]
pub(crate) struct Vendor {
    secret: String,
    /// Stands in every payload. Nobody may see it who may not see payloads.
    pub(crate) note: String,
}

impl Vendor {
    /// The body of event `number`: always the same one.
    pub(crate) fn body(&self, id: &str, number: u64, pad: usize) -> String {
        let lane = format!("t-{}", number % LANES);
        let mut body = json!({ "id": id, "type": "ticket.created", "ticket": lane, "note": self.note });
        if pad > 0 {
            body["pad"] = "x".repeat(pad).into();
        }
        body.to_string()
    }

    /// A signed delivery, as bytes.
    pub(crate) fn delivery(&self, to: SocketAddr, body: &str) -> Vec<u8> {
        let mut request = self.head(to, body);
        request.extend_from_slice(body.as_bytes());
        request
    }

    /// Its head alone.
    pub(crate) fn head(&self, to: SocketAddr, body: &str) -> Vec<u8> {
        let now = unix_seconds(SystemClock.wall());
        let signature = self.sign(&format!("{now}.{body}"));
        format!(
            "POST /api/v1/webhooks/desk/default HTTP/1.1\r\nHost: {to}\r\nContent-Type: application/json\r\nX-Timestamp: {now}\r\nX-Signature: {signature}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes()
    }

    fn sign(&self, message: &str) -> String {
        // A key of any length is a key of this MAC, so there is nothing to fail.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()) else { return String::new() };
        mac.update(message.as_bytes());
        hex::encode(mac.finalize().into_bytes())
    }
}

/// A secret nobody else has.
fn random_hex() -> String {
    hex::encode(std::array::from_fn::<u8, 20, _>(|_| fastrand::u8(..)))
}

/// The connector: signed events with an id and an order, and a write that carries a key.
fn manifest() -> Value {
    json!({
        "connector": "webhook", "id": "desk", "name": "Desk", "base_url": "https://desk.example.com", "auth": { "type": "bearer" },
        "webhook": {
            "verify": {
                "kind": "hmac_sha256", "header": "X-Signature", "message": "{timestamp}.{body}", "encoding": "hex",
                "timestamp": "X-Timestamp", "tolerance": "300s",
            },
            "event_id": ".id", "event_type": ".type", "order_by": ".ticket",
        },
        "events": { "ticket_created": { "match": { ".type": "ticket.created" } } },
        "tools": [{
            "name": "desk_record_effect", "doc": "Does something that must be done once.", "method": "POST", "path": "/effects",
            "repeat": { "key": { "header": "Idempotency-Key", "ttl": "24h" } },
            "params": [
                { "name": "event", "type": "string", "required": true, "doc": "The event." },
                { "name": "note", "type": "string", "doc": "What it says." },
            ],
            "body": { "event": "{event}", "note": "{note}" },
        }],
    })
}

/// The hub: one connection, one rule. The waits are short, because a case cannot last for hours.
fn config(effects: &str, postgres: bool, server: Option<Value>, push: bool) -> Value {
    let mut steps = vec![json!({ "call": "desk_record_effect", "params": { "event": "{payload.id}", "note": "{payload.note}" } })];
    if push {
        steps.push(json!({ "push": "desk.created", "data": { "id": "{payload.id}" } }));
    }
    let mut config = json!({
        "manifests": ["desk.yaml"],
        "egress": { "allow_loopback": true },
        "connections": {
            "desk": {
                "connector": "desk", "base_url": effects, "credential": { "token": "${DESK_TOKEN}" }, "webhook": { "secrets": ["${DESK_SECRET}"] },
                "egress_allow": ["loopback"],
            },
        },
        "rules": [{ "name": "record", "on": "desk.ticket_created", "do": steps }],
        "resilience": {
            "retry": { "base_delay_ms": 50, "max_delay_ms": 500 },
            "budget": { "percent": 50, "burst": 100 },
            "limits": { "concurrent": 64 },
            "timeout": { "read_ms": 2000, "write_ms": 2000, "operation_ms": 5000 },
        },
    });
    if postgres {
        config["state"] = "${DESK_STATE}".into();
    }
    if let Some(server) = server {
        config["server"] = server;
    }
    config
}

/// Lets this process hold as many connections as it may; gives how many that are.
pub(crate) fn raise_files() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        eprintln!("the limit of open files could not be raised: {error}");
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Whether these bytes hold that text.
pub(crate) fn contains(bytes: &[u8], needle: &str) -> bool {
    bytes.windows(needle.len().max(1)).any(|window| window == needle.as_bytes())
}
