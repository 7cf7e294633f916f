//! Puts a [`Runtime`] together. Everything that can be wrong with the configuration comes out of [`RuntimeBuilder::build`].

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::Duration,
};

use arc_swap::ArcSwap;
use connector_core::{
    Connector, Error, Result,
    clock::{Clock, Rng, SystemClock, ThreadRng},
    credential::CredentialStore,
    fleet::{LocalPubSub, PubSub, SharedCache, SharedLimits},
    layer::{Layer, StackParts},
    resilience::Resilience,
    state::Store,
    token::{MemoryTokens, TokenStore},
    transport::Transport,
};
use connector_http::{AuthDeps, HttpTransport, oauth2::Discovery};
use connector_manifest::{Hooks, Manifest};
use connector_state::MemoryState;
use connector_vault::Vault;
use connector_webhook::{
    dispatch::{DispatchPolicy, EventHandler},
    ingress::{IngressLimits, IngressPipeline},
    reload::Watcher,
    work::Waker,
};

use dashmap::DashMap;
use tokio::sync::watch;

use crate::{
    alerts::{Alerts, Sinks},
    approval::Approvals,
    audit::Trail,
    cache::Cache,
    catalogue::{self, Assembler, Catalogue, Loaded},
    config::{Env, HubConfig, Substitution},
    credentials::Credentials,
    effects::{Marks, Parked, Rules, Words},
    events::Teller,
    fleet,
    forward::{Endpoints, Forward},
    health::Monitor,
    idempotency::Records,
    outbox::Outbox,
    push::{PUSH_TTL, PushLog},
    reauth::ReauthWatch,
    reload::Reloader,
    rotation::{Retirings, Unstored},
    runtime::{Inner, Runtime},
    sealed::SealedStore,
    send::SendStage,
    stack::{self, Shared},
    stats::{Counted, Counters},
    subscriptions,
    tokens::Tokens,
};

/// Settings of a [`Runtime`].
#[must_use = "a builder does nothing until `build` is called"]
pub struct RuntimeBuilder {
    builtins: Vec<(String, Arc<Manifest>, Hooks)>,
    connectors: Vec<Arc<dyn Connector>>,
    config: HubConfig,
    env: Env,
    store: Option<Arc<dyn Store>>,
    transport: Option<Arc<dyn Transport>>,
    credentials: Option<Arc<dyn CredentialStore>>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    handler: Option<Arc<dyn EventHandler>>,
    layers: Vec<Arc<dyn Layer>>,
    vault: Option<Vault>,
    dispatch: DispatchPolicy,
    pubsub: Option<Arc<dyn PubSub>>,
    shared_limits: Option<(Arc<dyn SharedLimits>, u32)>,
    shared_cache: Option<Arc<dyn SharedCache>>,
    wakes: Option<watch::Receiver<u64>>,
    push_ttl: Duration,
}

impl std::fmt::Debug for RuntimeBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let builtins: Vec<&str> = self.builtins.iter().map(|(id, ..)| id.as_str()).collect();
        f.debug_struct("RuntimeBuilder").field("builtins", &builtins).field("config", &self.config).finish_non_exhaustive()
    }
}

impl RuntimeBuilder {
    pub(crate) fn new() -> Self {
        Self {
            builtins: Vec::new(),
            connectors: Vec::new(),
            config: HubConfig::default(),
            env: Arc::new(|name| std::env::var(name).ok()),
            store: None,
            transport: None,
            credentials: None,
            clock: SystemClock::shared(),
            rng: Arc::new(ThreadRng),
            handler: None,
            layers: Vec::new(),
            vault: None,
            dispatch: DispatchPolicy::default(),
            pubsub: None,
            shared_limits: None,
            shared_cache: None,
            wakes: None,
            push_ttl: PUSH_TTL,
        }
    }

    /// Adds a built-in connector: its manifest and its own Rust.
    pub fn builtin(mut self, id: impl Into<String>, manifest: Arc<Manifest>, hooks: Hooks) -> Self {
        self.builtins.push((id.into(), manifest, hooks));
        self
    }

    /// Adds a connector that is code. The inner layers are put around it here.
    pub fn connector(mut self, connector: Arc<dyn Connector>) -> Self {
        self.connectors.push(connector);
        self
    }

    /// The configuration; an empty one if not said, with connections derived from the environment.
    pub fn config(mut self, config: HubConfig) -> Self {
        self.config = config;
        self
    }

    /// Where environment variables come from; the process environment if not said.
    pub fn env(mut self, lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        self.env = Arc::new(lookup);
        self
    }

    /// Where state is kept; in memory if not said. Its clock must be this builder's.
    pub fn store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = Some(store);
        self
    }

    /// How requests are sent; over HTTP under the configured egress policy if not said.
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Where credentials come from that the configuration does not bring.
    pub fn credentials(mut self, credentials: Arc<dyn CredentialStore>) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Keeps credentials and the tokens of people's consents, and lets connections be connected while the program runs. It must lie in
    /// the same store. Payloads in that store are sealed under its keys from then on ([`HubConfig::seal_payloads`]). Without one, tokens live in
    /// memory, nothing can be connected, and payloads are plain.
    pub fn vault(mut self, vault: Vault) -> Self {
        self.vault = Some(vault);
        self
    }

    /// How events are worked off: how many at a time, how often and when again.
    pub fn dispatch(mut self, policy: DispatchPolicy) -> Self {
        self.dispatch = policy;
        self
    }

    /// How the processes of a fleet tell each other something; only this process hears it if not said.
    pub fn pubsub(mut self, pubsub: Arc<dyn PubSub>) -> Self {
        self.pubsub = Some(pubsub);
        self
    }

    /// Where the processes of a fleet count the vendors' limits together; each counts by itself if not said. `max_processes`: the most processes
    /// the fleet ever has, because each uses that part of every limit while the store is out of reach.
    pub fn shared_limits(mut self, store: Arc<dyn SharedLimits>, max_processes: u32) -> Self {
        self.shared_limits = Some((store, max_processes));
        self
    }

    /// Where the processes of a fleet keep replies for each other, behind what each keeps itself. Give it a [`RuntimeBuilder::pubsub`] as well, or
    /// a reply that another process's event made stale lives here until its time is over.
    pub fn shared_cache(mut self, store: Arc<dyn SharedCache>) -> Self {
        self.shared_cache = Some(store);
        self
    }

    /// A counter that moves when another process may have added work to the store. Without one, such work is found when the queues are next looked at.
    pub fn wakes(mut self, wakes: watch::Receiver<u64>) -> Self {
        self.wakes = Some(wakes);
        self
    }

    /// How long messages to subscribers are kept, so that they can be had after a break; [`PUSH_TTL`] if not said.
    pub fn push_ttl(mut self, ttl: Duration) -> Self {
        self.push_ttl = ttl;
        self
    }

    /// The time.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The jitter.
    pub fn rng(mut self, rng: Arc<dyn Rng>) -> Self {
        self.rng = rng;
        self
    }

    /// What the program does with events, after the runtime has dropped what they made stale.
    pub fn on_event(mut self, handler: Arc<dyn EventHandler>) -> Self {
        self.handler = Some(handler);
        self
    }

    /// A layer of the program's own, between the governed stages and the inner layers. The first one added is the outermost.
    pub fn outer_layer(mut self, layer: Arc<dyn Layer>) -> Self {
        self.layers.push(layer);
        self
    }

    /// Several layers; see [`RuntimeBuilder::outer_layer`].
    pub fn outer_layers(mut self, layers: impl IntoIterator<Item = Arc<dyn Layer>>) -> Self {
        self.layers.extend(layers);
        self
    }

    /// Checks everything and puts it together. Must be called inside a tokio runtime. Nothing is sent.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] that names what is wrong: a missing variable and who needs it, an unknown connector, a secret in
    /// plain text. Custom connectors whose file is wrong do not stop it; see [`Runtime::problems`].
    pub async fn build(self) -> Result<Runtime> {
        self.config.check()?;
        let counters = Arc::new(Counters::default());
        let parts = StackParts::with_clock(Resilience::standard(), self.clock.clone(), self.rng.clone());
        let parts = match self.shared_limits {
            Some((store, max_processes)) => parts.with_shared_limits(store, max_processes),
            None => parts,
        };
        let plain = match self.transport {
            Some(transport) => transport,
            None => {
                let timeouts = catalogue::resilience(&self.config, &self.env, "")?.resilience().timeouts;
                let http = HttpTransport::builder()
                    .egress(self.config.egress.policy()?)
                    .connect_timeout(timeouts.connect)
                    .stall_limit(u64::from(timeouts.stall_bytes_per_second), timeouts.stall);
                Arc::new(http.build()?)
            }
        };
        let credentials = Arc::new(Credentials::over(self.credentials, self.vault.clone()));
        let mut substitution = Substitution::new(self.env.clone());
        let public_url = self.config.public_url.as_ref().map(|url| substitution.fill("public_url", url));
        substitution.finish()?;
        let store = self.store.unwrap_or_else(|| Arc::new(MemoryState::new(self.clock.clone())));
        if let Some(vault) = &self.vault {
            // As it lies there, not as it is sealed below: the vault would hold what holds the vault.
            vault.rotate_too(Arc::new(Retirings { store: store.clone() }));
        }
        let store = SealedStore::over(store, self.vault.clone(), self.config.seal_payloads.unwrap_or(true), self.clock.clone());
        let catalogue = Arc::new(ArcSwap::from_pointee(Catalogue::default()));
        let monitor = Arc::new(Monitor::new(self.clock.clone()));
        let waker = Waker::default();
        let teller = Teller { log: events_of(&store), clock: self.clock.clone(), waker: waker.clone() };
        let watch = Arc::new(ReauthWatch::new(teller.clone(), catalogue.clone(), monitor.clone(), credentials.clone()));
        let tokens: Arc<dyn TokenStore> = match &self.vault {
            Some(vault) => Arc::new(Tokens { vault: vault.clone(), credentials: credentials.clone() }),
            None => Arc::new(MemoryTokens::new(self.clock.clone())),
        };
        let auth = AuthDeps { clock: self.clock.clone(), rng: self.rng.clone(), tokens, watch: Some(watch.clone()), ..AuthDeps::new(plain.clone()) };
        let wanted_subscriptions = self.config.subscriptions.clone();
        let assembler = Assembler {
            transport: Arc::new(Counted { inner: plain, counters: counters.clone() }),
            auth: auth.clone(),
            credentials: credentials.clone(),
            vault: self.vault.clone(),
            config: self.config,
            env: self.env.clone(),
            parts: parts.clone(),
            layers: self.layers,
            counters: counters.clone(),
            generation: AtomicU64::new(0),
        };
        let mut fixed: BTreeMap<Arc<str>, Arc<Loaded>> = BTreeMap::new();
        let mut add = |loaded: Loaded| {
            let id = loaded.connector.spec().id.clone();
            match fixed.insert(id.clone(), Arc::new(loaded)) {
                None => Ok(()),
                Some(_) => Err(Error::config(format!("there are two connectors named `{id}`; rename one"))),
            }
        };
        for (id, manifest, hooks) in &self.builtins {
            let configured = assembler.config.connections.values().any(|connection| connection.connector == *id);
            add(assembler.engine(id, manifest, hooks, configured)?)?;
        }
        for connector in self.connectors {
            add(assembler.native(connector)?)?;
        }
        let watcher = Watcher::new(assembler.config.manifests.clone());
        let (reloader, first) = Reloader::start(assembler, fixed, watcher).await?;
        catalogue.store(Arc::new(first));

        let config = &reloader.assembler().config;
        let endpoints = Endpoints::configured(&config.endpoints, &self.env)?;
        let (rules, sinks) = {
            let catalogue = catalogue.load();
            let words = Words { catalogue: &catalogue, endpoints: &endpoints };
            (Rules::new(config.rules.clone(), config.alerts.clone(), &words)?, Sinks::compile(&config.alerts, &words)?)
        };
        let alerts = Arc::new(Alerts::new(store.clone(), self.clock.clone(), sinks));
        let forward = Forward::new(endpoints, auth.transport.clone(), store.clone(), self.clock.clone());

        let trail = Trail::start(store.clone(), self.clock.clone(), counters.clone());
        let records = Arc::new(Records::new(store.clone(), self.clock.clone()));
        let cache = Arc::new(Cache::new(self.clock.clone(), self.shared_cache, self.pubsub.is_some()));
        let fleet = fleet::start(self.pubsub.as_ref(), &cache, parts.limits());
        let shared = Shared {
            catalogue: catalogue.clone(),
            policy: reloader.assembler().config.policy.clone(),
            clock: self.clock.clone(),
            counters: counters.clone(),
            audit: trail.clone(),
            approvals: Arc::new(Approvals::new(store.clone(), self.clock.clone(), counters.clone())),
            records: records.clone(),
            cache: cache.clone(),
            outbox: Arc::new(Outbox::new(store.clone(), self.clock.clone(), self.rng.clone(), counters.clone(), alerts.clone())),
            monitor: monitor.clone(),
        };
        let stages = stack::stages(&shared);
        let send = Arc::new(SendStage { trail, counters: counters.clone(), monitor, clock: self.clock.clone() });
        let ingress = IngressPipeline::new(events_of(&store), self.clock.clone(), IngressLimits::default()).waking(waker.clone());
        let problems = reloader.problems();
        let pubsub = self.pubsub.unwrap_or_else(|| Arc::new(LocalPubSub::default()));
        let push = PushLog::new(store.clone(), self.clock.clone(), pubsub.clone(), self.push_ttl);
        Ok(Runtime(Arc::new(Inner {
            stages,
            shared,
            send,
            ingress,
            waker,
            handler: self.handler,
            parts,
            rng: self.rng,
            reloader: tokio::sync::Mutex::new(reloader),
            public_url,
            credentials,
            vault: self.vault,
            discovery: Discovery::new(auth.transport.clone(), auth.clock.clone()),
            auth,
            watch,
            teller,
            told: DashMap::new(),
            subscriptions: subscriptions::State::new(wanted_subscriptions),
            unstored: Unstored::default(),
            serials: DashMap::new(),
            env: self.env,
            dispatch: self.dispatch,
            pubsub,
            _fleet: fleet,
            push,
            wakes: self.wakes,
            problems: Mutex::new(problems),
            rules,
            marks: Marks::new(store.clone()),
            forward,
            alerts,
            parked: Parked::new(store.clone(), self.clock.clone()),
            store,
        })))
    }
}

/// The store's event log alone.
fn events_of(store: &Arc<dyn Store>) -> Arc<dyn connector_core::state::EventLog> {
    store.clone()
}
