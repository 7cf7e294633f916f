//! What there is to call: connectors with their layers, schemas and connections, put together once and replaced as a whole on reload.
//!
//! Owns putting together. Refuses to change anything in place: readers keep the catalogue they started with.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use connector_core::{
    Connector, Error, Registry, Result, TenantId,
    clock::Clock,
    layer::{Layer, StackParts, stack},
    resilience::{Resilience, ResilienceSource},
    spec::AuthSpec,
    suggest,
    transport::Transport,
};
use connector_http::{Auth, AuthDeps};
use connector_manifest::{Engine, Hooks, Manifest, env, views::Fulfilments};
use connector_vault::Vault;
use serde_json::Value;

use crate::{
    config::{ConnectionConfig, Env, HubConfig},
    connection::{self, Connections, Linked},
    credentials::Credentials,
    stats::{self, Counters, Probe},
    tags::Templates,
    vaulted::Vaulted,
};

/// One connector, ready.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// With its inner layers and the program's own around them.
    pub(crate) connector: Arc<dyn Connector>,
    /// The engine that renders requests without sending them.
    pub(crate) renderer: Option<Engine>,
    pub(crate) manifest: Option<Arc<Manifest>>,
    /// What its manifest lacks to be called: it can only be described.
    pub(crate) unresolved: Option<Error>,
    pub(crate) resilience: ResilienceSource,
    /// The cache tags of its reads.
    pub(crate) templates: Templates,
    /// Differs between two loads, so that replies kept by an older version are not found.
    pub(crate) generation: u64,
    /// The operations that serve others as their batch.
    pub(crate) batch_tools: HashSet<Arc<str>>,
    validators: HashMap<Arc<str>, OnceLock<Option<jsonschema::Validator>>>,
    views: OnceLock<Fulfilments>,
}

impl Loaded {
    /// The compiled input schema of an operation; `None` if the schema cannot be compiled, which the engine's own check makes up for.
    pub(crate) fn validator(&self, op: &connector_core::spec::OpSpec) -> Option<&jsonschema::Validator> {
        self.validators.get(&op.name)?.get_or_init(|| crate::validate::compile(op)).as_ref()
    }

    /// What it fulfils of views, compiled when somebody first asks.
    pub(crate) fn views(&self) -> &Fulfilments {
        self.views.get_or_init(|| {
            // A manifest that passed its cross-checks compiles; a connector that is code may say anything.
            Fulfilments::of(self.connector.spec())
                .inspect_err(|error| tracing::error!(connector = &*self.connector.spec().id, %error, "its views cannot be used"))
                .unwrap_or_default()
        })
    }

    /// "`HUBSPOT_API_KEY`, or `A` and `B`": the variables from which a connection is made without being configured.
    pub(crate) fn variables(&self) -> Option<String> {
        let of = |scheme: &AuthSpec| {
            let names: Option<Vec<String>> = scheme.fields().into_iter().map(|(_, variable)| variable.map(|name| format!("`{name}`"))).collect();
            names.filter(|names| !names.is_empty()).map(|names| names.join(" and "))
        };
        let each: Vec<String> = self.auth().iter().filter_map(of).collect();
        (!each.is_empty()).then(|| each.join(", or "))
    }

    pub(crate) fn auth(&self) -> &[AuthSpec] {
        &self.connector.spec().auth
    }
}

/// Everything there is to call.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    pub(crate) registry: Arc<Registry>,
    pub(crate) loaded: BTreeMap<Arc<str>, Arc<Loaded>>,
    pub(crate) connections: Connections,
}

/// Puts connectors and connections together, at the start and again on reload.
pub(crate) struct Assembler {
    pub(crate) config: HubConfig,
    pub(crate) env: Env,
    pub(crate) parts: StackParts,
    /// For calls; counts them.
    pub(crate) transport: Arc<dyn Transport>,
    /// What authentication needs: the transport for token requests, the tokens, who hears of trouble.
    pub(crate) auth: AuthDeps,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) vault: Option<Vault>,
    pub(crate) layers: Vec<Arc<dyn Layer>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) generation: AtomicU64,
}

impl std::fmt::Debug for Assembler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Assembler").field("config", &self.config).field("layers", &self.layers).finish_non_exhaustive()
    }
}

/// The names of the parts of `resilience` that are not connectors.
const SECTIONS: [&str; 6] = ["preset", "retry", "budget", "breaker", "limits", "timeout"];

/// The numbers of one connector, and where each came from: preset, hub file, hub file for this connector, environment.
pub(crate) fn resilience(config: &HubConfig, env: &Env, id: &str) -> Result<ResilienceSource> {
    let table = &config.resilience;
    let general: serde_json::Map<String, Value> =
        table.iter().filter(|(key, _)| SECTIONS.contains(&key.as_str())).map(|(key, value)| (key.clone(), value.clone())).collect();
    let mut source = ResilienceSource::new(Resilience::standard(), "preset standard").merge(&Value::Object(general), "hub.yaml")?;
    if let Some(own) = table.get(id) {
        source = source.merge(own, &format!("hub.yaml `resilience.{id}`"))?;
    }
    source.env(id, |name| env(name).filter(|value| !value.is_empty()))
}

impl Assembler {
    fn clock(&self) -> &Arc<dyn Clock> {
        &self.parts.clock
    }

    /// The numbers of one connector, and where each came from.
    pub(crate) fn resilience(&self, id: &str) -> Result<ResilienceSource> {
        resilience(&self.config, &self.env, id)
    }

    /// Every key of `resilience` is a section or a connector.
    pub(crate) fn check_resilience<'a>(&self, ids: impl Iterator<Item = &'a str> + Clone) -> Result<()> {
        for key in self.config.resilience.keys().filter(|key| !SECTIONS.contains(&key.as_str())) {
            if !ids.clone().any(|id| id == key) {
                let hint = suggest::nearest(key, SECTIONS.into_iter().chain(ids.clone()))
                    .map_or_else(|| format!("accepted: {}, or a connector's id", SECTIONS.join(", ")), |near| format!("did you mean `{near}`?"));
                return Err(Error::config(format!("`resilience.{key}` is neither a part of it nor a connector; {hint}")));
            }
        }
        Ok(())
    }

    /// A connector from a manifest. A missing variable fails only if `strict`; otherwise the connector can be described, not called.
    pub(crate) fn engine(&self, id: &str, manifest: &Arc<Manifest>, hooks: &Hooks, strict: bool) -> Result<Loaded> {
        let (manifest, unresolved) = match env::resolve(manifest, &|name| (self.env)(name).filter(|value| !value.is_empty())) {
            // A second copy of a manifest that had nothing to fill would only cost memory.
            Ok(resolved) if resolved == **manifest => (manifest.clone(), None),
            Ok(resolved) => (Arc::new(resolved), None),
            Err(error) if strict => return Err(error),
            Err(error) => (manifest.clone(), Some(error)),
        };
        let probe = Engine::builder(manifest.clone()).id(id).hooks(hooks.clone()).clock(self.clock().clone()).build()?;
        let mut webhook_verifier = None;
        if let (None, Some(webhook)) = (probe.webhook(), &manifest.webhook) {
            // A scheme that only the vendor's own code knows is that code's business; without it the connector cannot receive.
            match connector_webhook::schemes::verifier(webhook, &probe.spec().events) {
                Ok(verifier) => webhook_verifier = Some(verifier),
                Err(error) if strict => return Err(error),
                Err(error) => tracing::warn!(connector = id, %error, "webhooks of this connector cannot be verified and are not received"),
            }
        }
        let auth = Auth::for_spec(&probe.spec().auth, self.credentials.clone(), self.auth.clone());
        let engine = Arc::new(probe.connected(self.transport.clone(), auth, webhook_verifier));
        let resilience = self.resilience(id)?;
        let layered = self.layered(engine.clone(), &resilience);
        engine.set_outer(Arc::downgrade(&layered));
        Ok(Loaded { unresolved, ..self.loaded(layered, Some(probe), Some(manifest), resilience) })
    }

    /// A connector that is code.
    pub(crate) fn native(&self, connector: Arc<dyn Connector>) -> Result<Loaded> {
        let resilience = self.resilience(&connector.spec().id)?;
        let layered = self.layered(connector, &resilience);
        Ok(self.loaded(layered, None, None, resilience))
    }

    /// The inner layers around the probe around the connector: what `connector_manifest::assemble` does, and one that counts.
    fn layered(&self, base: Arc<dyn Connector>, resilience: &ResilienceSource) -> Arc<dyn Connector> {
        let parts = self.parts.with_resilience(resilience.resilience().clone());
        stack::inner(Probe::around(base, self.counters.clone()), &parts)
    }

    fn loaded(&self, layered: Arc<dyn Connector>, renderer: Option<Engine>, manifest: Option<Arc<Manifest>>, resilience: ResilienceSource) -> Loaded {
        let connector = self.layers.iter().rev().fold(layered, |inner, layer| layer.apply(inner));
        let spec = connector.spec().clone();
        Loaded {
            views: OnceLock::new(),
            validators: spec.operations().iter().map(|op| (op.name.clone(), OnceLock::new())).collect(),
            templates: Templates::of(&spec),
            batch_tools: stats::batch_tools(&spec),
            generation: self.generation.fetch_add(1, Relaxed),
            connector,
            renderer,
            manifest,
            unresolved: None,
            resilience,
        }
    }

    /// The registry and the connections over these connectors.
    pub(crate) fn catalogue(&self, loaded: BTreeMap<Arc<str>, Arc<Loaded>>, vaulted: &Vaulted) -> Result<Catalogue> {
        let mut registry = Registry::new();
        for one in loaded.values() {
            registry.add(one.connector.clone())?;
        }
        let mut connections = Connections::default();
        for (id, config) in &self.config.connections {
            let Some(found) = loaded.get(&*config.connector) else {
                registry.require(&config.connector).map_err(|error| Error::config(format!("connection `{id}`: {}", error.message())))?;
                continue;
            };
            let (linked, credential) = connection::configured(id, config, found.manifest.as_deref(), &self.env)?;
            match credential {
                Some((tenant, name, fields)) => {
                    // Somebody may have connected it since it was written down: then its tokens are meant, not the client's own grant.
                    let scheme = vaulted.scheme(&tenant, &name);
                    self.credentials.configure(&tenant, &name, fields, scheme);
                }
                None => self.credentials.remember_env(&linked.connection, found.auth(), &self.env),
            }
            connections.insert(linked);
        }
        for (id, one) in &loaded {
            let configured = self.config.connections.values().any(|config| *config.connector == **id);
            // With connections written down, a built-in that is not among them is not wanted; a dropped-in file always is, and so is
            // what somebody stored a credential for.
            let custom = one.manifest.as_ref().is_some_and(|manifest| manifest.connector == "webhook");
            let stored = vaulted.holds(&TenantId::default(), id) && one.unresolved.is_none() && !self.is_configured(id);
            if !stored && (configured || !(custom || self.config.connections.is_empty()) || !self.is_ready(one)) {
                continue;
            }
            match self.implied(one) {
                Ok(linked) => connections.insert(linked),
                Err(error) => tracing::info!(connector = &**id, %error, "no connection is made from the environment"),
            }
        }
        Ok(Catalogue { registry: Arc::new(registry), loaded, connections })
    }

    /// Whether the default tenant has a connection of this connector, or another one of its name, in the configuration.
    fn is_configured(&self, connector: &str) -> bool {
        let of_default = |config: &ConnectionConfig| config.tenant.as_deref().is_none_or(|tenant| TenantId::from(tenant) == TenantId::default());
        self.config.connections.iter().any(|(id, config)| of_default(config) && (config.connector == connector || id == connector))
    }

    /// The connection of a connector that nobody configured.
    pub(crate) fn implied(&self, one: &Loaded) -> Result<Linked> {
        let linked = connection::implied(&one.connector.spec().id, one.manifest.as_deref(), &self.env)?;
        self.credentials.remember_env(&linked.connection, one.auth(), &self.env);
        Ok(linked)
    }

    /// Whether the environment (or nothing) is all its authentication needs.
    fn is_ready(&self, one: &Loaded) -> bool {
        if let Some(error) = &one.unresolved {
            tracing::debug!(connector = &*one.connector.spec().id, %error, "no connection is made from the environment");
            return false;
        }
        let schemes = one.auth();
        let set = |variable: &str| (self.env)(variable).is_some_and(|value| !value.is_empty());
        schemes.is_empty()
            || schemes.iter().any(|scheme| {
                *scheme == AuthSpec::None || scheme.fields().iter().all(|(_, variable)| variable.is_some_and(set)) && !scheme.fields().is_empty()
            })
    }
}
