//! What the tests against real key services share: finding the server or skipping, a clock that can be moved although the network needs
//! real time, a door that can be closed, and a transport that notes what passes.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    dead_code,
    unreachable_pub,
    reason = "test helpers, a skip is said; not every test binary uses all of them"
)]

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use connector_core::{
    CallCx, Connection, Result, TenantId,
    clock::{Clock, Instant, SystemClock},
    credential::{Credential, CredentialQuery, CredentialStore as _},
    state::Store,
    transport::{Request, Response, Transport},
};
use connector_http::{EgressPolicy, HttpTransport};
use connector_state::MemoryState;
use connector_vault::{NewCredential, Vault, config::OpenDeps};
use secrecy::ExposeSecret as _;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use url::Url;

/// The address of a server, if one listens there. Without one the test is skipped, except in CI.
pub async fn server(variable: &str, default: &str) -> Option<Url> {
    let url: Url = std::env::var(variable).unwrap_or_else(|_| default.to_owned()).parse().unwrap();
    let address = format!("{}:{}", url.host_str().unwrap(), url.port_or_known_default().unwrap());
    match TcpStream::connect(&address).await {
        Ok(_) => Some(url),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "nothing listens at {address} ({error}); {variable} says where the server is");
            eprintln!("skipped: nothing listens at {address}; {variable} may say where the server is");
            None
        }
    }
}

/// A name no other test or run uses.
pub fn unique(prefix: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let since = SystemClock.wall().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
    format!("{prefix}-{since:x}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The transport of a hub, and the lines of what it sent.
#[derive(Debug, Clone)]
pub struct Noting {
    inner: Arc<HttpTransport>,
    lines: Arc<Mutex<Vec<String>>>,
    tokens: Arc<Mutex<Vec<String>>>,
}

impl Noting {
    /// The public internet only, apart from what a connection's own setting names.
    pub fn new() -> Self {
        let egress = EgressPolicy::new().trust_connection_settings(true);
        let inner = Arc::new(HttpTransport::builder().egress(egress).build().unwrap());
        Self { inner, lines: Arc::default(), tokens: Arc::default() }
    }

    /// What was sent since the last look: the path, or the operation of AWS.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.lines.lock().unwrap())
    }

    /// The Vault token used last.
    pub fn last_token(&self) -> String {
        self.tokens.lock().unwrap().last().unwrap().clone()
    }
}

#[async_trait::async_trait]
impl Transport for Noting {
    async fn send(&self, cx: &CallCx, request: Request) -> Result<Response> {
        let header = |name: &str| request.head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let line = header("x-amz-target").unwrap_or_else(|| format!("{} {}", request.head.method, request.head.url.path()));
        self.lines.lock().unwrap().push(line);
        self.tokens.lock().unwrap().extend(header("x-vault-token"));
        self.inner.send(cx, request).await
    }
}

/// The real time and what a test added to it.
#[derive(Debug, Clone, Default)]
pub struct Ahead(Arc<Mutex<Duration>>);

impl Ahead {
    pub fn advance(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }
}

impl Clock for Ahead {
    fn now(&self) -> Instant {
        Instant::now() + *self.0.lock().unwrap()
    }

    fn wall(&self) -> SystemTime {
        SystemClock.wall() + *self.0.lock().unwrap()
    }
}

/// A door to a server, at a port of its own, that can be closed.
pub struct Door {
    pub url: String,
    task: JoinHandle<()>,
}

impl Door {
    pub async fn to(server: &Url) -> Self {
        let behind: SocketAddr = format!("{}:{}", server.host_str().unwrap(), server.port().unwrap()).parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            // Dropped with this task, and every connection with it.
            let mut through = tokio::task::JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                through.spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(behind).await {
                        tokio::io::copy_bidirectional(&mut client, &mut server).await.ok();
                    }
                });
            }
        });
        Self { url, task }
    }

    pub async fn close(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

/// What a vault is opened with; `vars` is the environment.
pub fn deps(transport: &Noting, clock: &Ahead, store: &Arc<dyn Store>, vars: &[(&str, &str)]) -> OpenDeps {
    let vars: HashMap<String, String> = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    OpenDeps {
        store: store.clone(),
        transport: Arc::new(transport.clone()),
        env: Arc::new(move |name| vars.get(name).cloned()),
        data_dir: None,
        clock: Arc::new(clock.clone()),
    }
}

pub fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryState::default())
}

/// A credential with one token, for all workspaces.
pub fn credential(token: &str) -> NewCredential {
    let fields = [("token".to_owned(), token.into())].into();
    NewCredential { fields, workspaces: vec!["*".into()], ..NewCredential::default() }
}

/// Asks for a credential as a call of this tenant would.
pub async fn get(vault: &Vault, tenant: &str, name: &str) -> Result<Arc<Credential>> {
    let connection = Connection::named("c".into(), TenantId::from(tenant), "slack", "https://slack.example").unwrap();
    let cx = CallCx::new(Arc::new(connection));
    vault.get(&CredentialQuery::of(&cx, name)).await
}

/// The token of a credential.
pub async fn token(vault: &Vault, tenant: &str, name: &str) -> Result<String> {
    let found = get(vault, tenant, name).await?;
    Ok(found.require(name, "token")?.expose_secret().to_owned())
}
