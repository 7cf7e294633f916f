//! Everything the story needs around it: the sandbox, a hub over SQLite in a folder of its own, and the hub's HTTP server.
//!
//! Owns starting and ending. The hub is an ordinary one: its `hub.yaml` and its custom connector are the files beside this one. Refuses
//! to reach anything but this machine.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use connector_core::{clock::SystemClock, state::Store};
use connector_runtime::{HubConfig, Runtime, RuntimeTasks};
use connector_sandbox::{Sandbox, known};
use connector_state::SqliteState;
use serde_json::json;
use tokio::{net::TcpListener, task::JoinHandle};

use super::{
    book::Book,
    caller::{Desk, Hub, WORKSPACE},
    corpus::SUPPORT_MAILBOX,
    story::Story,
    tally::Tally,
};
use crate::{cli::Faults, http, keys};

const HUB: &str = include_str!("hub.yaml");
const TICKETING: &str = include_str!("ticketing.yaml");
/// How often a subscription of unknown outcome is asked for.
const SUBSCRIBE: u32 = 4;
/// How long work in flight may take when the demo ends.
const DRAIN: Duration = Duration::from_secs(5);

/// A folder that goes away with the demo.
#[derive(Debug)]
pub(super) struct DataDir {
    path: PathBuf,
    keep: bool,
}

impl DataDir {
    fn new(keep: bool) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("connectors-demo-{}", uuid::Uuid::new_v4().simple()));
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        {
            use std::os::unix::fs::DirBuilderExt as _;
            builder.mode(0o700);
        }
        builder.create(&path).with_context(|| format!("the demo's folder `{}` cannot be made", path.display()))?;
        Ok(Self { path, keep })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            tracing::warn!(%error, folder = %self.path.display(), "the demo's folder could not be removed");
        }
    }
}

/// The running pieces.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) sandbox: Sandbox,
    pub(super) runtime: Runtime,
    pub(super) desk: Desk,
    pub(super) book: Book,
    pub(super) tally: Arc<Tally>,
    pub(super) store: Arc<dyn Store>,
    pub(super) address: SocketAddr,
    pub(super) key: Option<String>,
    client_state: String,
    tasks: RuntimeTasks,
    server: JoinHandle<std::io::Result<()>>,
    // Last, so that it is removed when nothing writes to it any more.
    pub(super) dir: DataDir,
}

impl Stage {
    pub(super) async fn start(faults: Faults, seed: u64, port: u16, keep: bool) -> Result<Self> {
        let sandbox = Sandbox::builder().seed(seed).faults(faults.profile()).start("127.0.0.1:0").await.context("the sandbox could not start")?;
        let dir = DataDir::new(keep)?;
        let ticketing = dir.path().join("ticketing.yaml");
        std::fs::write(&ticketing, TICKETING).context("the demo's custom connector could not be written")?;
        std::fs::write(dir.path().join("hub.yaml"), HUB).context("the demo's hub.yaml could not be written")?;
        let mut config = HubConfig::parse("hub.yaml", HUB)?;
        config.manifests = vec![ticketing];

        // Only Graph's own notifications may know it.
        let client_state = uuid::Uuid::new_v4().simple().to_string();
        let store: Arc<dyn Store> = Arc::new(SqliteState::open(dir.path().join("connectors.db"))?);
        let tally = Arc::new(Tally::default());
        let hub = Arc::new(Hub::default());
        let desk = Desk::new(hub.clone());
        let book = Book::new(store.clone(), SystemClock::shared());
        let story = Story::new(desk.clone(), book.clone(), tally.clone(), SUPPORT_MAILBOX);
        let builtins = connectors::builtins();
        let builder = builtins.iter().fold(Runtime::builder(), |builder, built| builder.builtin(built.id, (built.manifest)(), (built.hooks)()));
        let builder = builder.config(config).env(environment(&sandbox, &client_state)).store(store.clone()).on_event(Arc::new(story));
        let runtime = builder.build().await?;
        hub.open(runtime.clone())?;
        let tasks = runtime.start();

        let app = http::App::new(runtime.clone(), Some(http::install_metrics()?), None);
        let key = app.keys().first_key().await?.map(|key| keys::reveal(&key).to_owned());
        let listener =
            TcpListener::bind(("127.0.0.1", port)).await.with_context(|| format!("listening on port {port}; choose another with --port"))?;
        let address = listener.local_addr()?;
        let server = tokio::spawn(async move { axum::serve(listener, http::router(app)).await });
        Ok(Self { sandbox, runtime, desk, book, tally, store, address, key, client_state, tasks, server, dir })
    }

    /// Asks Graph to tell us about new mail. The handshake really happens: the hub's server answers it.
    pub(super) async fn subscribe(&self) -> Result<()> {
        let url = format!("http://{}/api/v1/webhooks/msgraph/{WORKSPACE}", self.address);
        let args = json!({ "change_type": "created", "notification_url": url, "lifecycle_url": url, "client_state": self.client_state });
        for attempt in 1..=SUBSCRIBE {
            // Its own key each time: the tool looks for what is there, so asking again never makes a second subscription.
            match self.desk.write("msgraph_ensure_subscription", args.clone(), format!("demo-subscription-{attempt}")).await {
                Err(error) if error.is_ambiguous() && attempt < SUBSCRIBE => tracing::warn!(%error, attempt, "subscribing is tried again"),
                other => return other.map(drop).context("Graph would not notify the hub"),
            }
        }
        Ok(())
    }

    /// Ends everything; what is in work may finish.
    pub(super) async fn end(self) {
        self.tasks.shutdown(DRAIN).await;
        self.server.abort();
    }
}

/// What the variables of `hub.yaml` stand for: the sandbox's published test credentials. The process environment is not looked at, so
/// that a demo never uses somebody's real ones.
fn environment(sandbox: &Sandbox, client_state: &str) -> impl Fn(&str) -> Option<String> + Send + Sync + 'static {
    let values: std::collections::HashMap<&'static str, String> = [
        ("SANDBOX_URL", format!("http://{}", sandbox.addr())),
        ("AZURE_TENANT_ID", known::GRAPH_TENANT.to_owned()),
        ("AZURE_CLIENT_ID", known::GRAPH_CLIENT_ID.to_owned()),
        ("AZURE_CLIENT_SECRET", known::GRAPH_CLIENT_SECRET.to_owned()),
        ("SUPPORT_MAILBOX", SUPPORT_MAILBOX.to_owned()),
        ("MSGRAPH_CLIENT_STATE", client_state.to_owned()),
        ("HUBSPOT_API_KEY", known::HUBSPOT_TOKEN.to_owned()),
        ("CMDB_TOKEN", known::NETBOX_TOKEN.to_owned()),
        ("TICKETING_API_KEY", known::TICKETING_API_KEY.to_owned()),
    ]
    .into();
    move |name| values.get(name).cloned()
}
