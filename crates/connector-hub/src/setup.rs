//! From options, `hub.yaml` and the environment to a runtime, with or without the vault.
//!
//! Owns when a master key is made: on the first use that keeps something, never for a look. Refuses to go on where something is sealed and its
//! key is not there.

mod fleet;
mod state;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use connector_core::{
    Error, Registry, TenantId, WorkspaceId,
    clock::SystemClock,
    state::{Namespace, Store},
    suggest,
};
use connector_http::HttpTransport;
use connector_runtime::{AvailableView, HubConfig, Runtime, RuntimeBuilder};
use connector_state::MemoryState;
use connector_vault::{
    Vault,
    config::{MASTER_KEY, OpenDeps},
};

use state::{Opened, Place};

/// What a command does about the master key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// Uses the vault if there is one.
    IfThere,
    /// Keeps something, so the vault is started if there is none.
    MakeIfMissing,
}

/// Where things are, as the options say.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    /// `--config`, or `hub.yaml` here if it is present.
    pub(crate) config: Option<PathBuf>,
    /// `--data-dir`.
    pub(crate) data_dir: PathBuf,
    tenant: TenantId,
    workspace: WorkspaceId,
}

impl Setup {
    pub(crate) fn new(config: Option<PathBuf>, data_dir: PathBuf, tenant: &str, workspace: &str) -> Self {
        let default = Path::new("hub.yaml");
        let config = config.or_else(|| default.is_file().then(|| default.to_path_buf()));
        Self { config, data_dir, tenant: TenantId::from(tenant), workspace: WorkspaceId::from(workspace) }
    }

    /// `--tenant`, if `hub.yaml` has nothing against it.
    pub(crate) fn tenant(&self) -> Result<TenantId> {
        let known = self.hub_config()?.tenants;
        let tenant = self.tenant.as_str();
        if known.is_empty() || known.iter().any(|one| one == tenant) {
            return Ok(self.tenant.clone());
        }
        let hint = suggest::nearest(tenant, known.iter().map(String::as_str))
            .map_or_else(|| format!("there are: {}", known.join(", ")), |near| format!("did you mean `{near}`?"));
        Err(Error::config(format!("there is no tenant `{}` in hub.yaml; {hint}", connector_core::redact::printable(tenant, 63))).into())
    }

    /// `--workspace`.
    pub(crate) fn workspace(&self) -> WorkspaceId {
        self.workspace.clone()
    }

    /// What `hub.yaml` says; the defaults if there is none.
    pub(crate) fn hub_config(&self) -> Result<HubConfig> {
        match &self.config {
            Some(path) => Ok(HubConfig::load(path)?),
            None => Ok(HubConfig::default()),
        }
    }

    /// The store that the environment or `hub.yaml` names; SQLite in the data directory if neither does.
    pub(crate) async fn store(&self) -> Result<Opened> {
        create_private(&self.data_dir)?;
        let config = self.hub_config()?;
        let folder = self.config.as_deref().and_then(Path::parent);
        Place::find(config.state.as_deref(), folder, &self.data_dir, |name| std::env::var(name).ok())?.open().await
    }

    /// A runtime over the store, for calls: with everything that is built in, and the vault if there is one.
    pub(crate) async fn runtime(&self) -> Result<Runtime> {
        self.with_vault(Key::IfThere).await
    }

    /// The same, saying what to do about a master key that is not there.
    pub(crate) async fn with_vault(&self, key: Key) -> Result<Runtime> {
        Ok(self.served(key).await?.0)
    }

    /// The same, and which store it is in words.
    pub(crate) async fn served(&self, key: Key) -> Result<(Runtime, String)> {
        self.tenant()?;
        let opened = self.store().await?;
        let (store, mut shown) = (opened.store.clone(), opened.shown.clone());
        let (builder, shared) = fleet::join(over(self.builder()?, &opened), &self.hub_config()?, opened.pubsub).await?;
        if let Some(shared) = shared {
            shown.push_str(&format!("; limits and cache shared over {shared}"));
        }
        let builder = match self.vault(store, key).await? {
            Some(vault) => builder.vault(vault),
            None => builder,
        };
        Ok((builder.build().await?, shown))
    }

    /// A runtime over the store for looking at what is kept there. It opens no secret, so it needs no key.
    pub(crate) async fn bare(&self) -> Result<Runtime> {
        self.tenant()?;
        let opened = self.store().await?;
        let builder = over(self.builder()?, &opened);
        Ok(opened.pubsub.into_iter().fold(builder, RuntimeBuilder::pubsub).build().await?)
    }

    /// The same, with the vault if there is one: what vendors told us is sealed where it is kept, and is to be shown or settled.
    pub(crate) async fn reading(&self) -> Result<Runtime> {
        self.tenant()?;
        let opened = self.store().await?;
        let builder = over(self.builder()?, &opened);
        let builder = match self.vault(opened.store.clone(), Key::IfThere).await? {
            Some(vault) => builder.vault(vault),
            None => builder,
        };
        Ok(opened.pubsub.into_iter().fold(builder, RuntimeBuilder::pubsub).build().await?)
    }

    /// The same for lists: whoever has lost the master key still sees what is there, though not what is in it.
    pub(crate) async fn looking(&self) -> Result<Runtime> {
        match self.reading().await {
            Ok(runtime) => Ok(runtime),
            // What has nothing to do with the vault is found again here and told.
            Err(error) => {
                let runtime = self.bare().await?;
                eprintln!("warning: what is sealed cannot be looked into: {error}");
                Ok(runtime)
            }
        }
    }

    /// A runtime that keeps nothing, for commands that only look.
    pub(crate) async fn transient(&self) -> Result<Runtime> {
        Ok(self.builder()?.store(Arc::new(MemoryState::default())).build().await?)
    }

    /// The runtime, still to be completed.
    pub(crate) fn builder(&self) -> Result<RuntimeBuilder> {
        Ok(builtins().config(self.hub_config()?).env(|name| std::env::var(name).ok()))
    }

    /// All connectors, built in and custom, for description only: no credential, no connection and no variable is needed.
    pub(crate) async fn catalogue(&self) -> Result<Arc<Registry>> {
        let mut config = self.hub_config()?;
        config.connections.clear();
        let runtime = builtins().config(config).env(|_| None).store(Arc::new(MemoryState::default())).build().await?;
        Ok(runtime.registry())
    }

    /// The tools of views that connections of `--tenant` and `--workspace` can do.
    pub(crate) async fn views(&self) -> Result<Vec<AvailableView>> {
        // What was connected is in the store; where nothing was ever kept, none is made for looking.
        let runtime = if self.data_dir.is_dir() { self.looking().await? } else { self.transient().await? };
        let workspace = self.workspace();
        Ok(runtime.views(&self.tenant()?, |granted| granted.iter().any(|one| one == "*" || one == workspace.as_str())))
    }

    /// The vault in `store`. `None`: nothing was ever kept in it and nothing is to be.
    async fn vault(&self, store: Arc<dyn Store>, key: Key) -> Result<Option<Vault>> {
        let config = self.hub_config()?;
        let ours = config.vault.clone().unwrap_or_default();
        let file = self.data_dir.join("master.key");
        let configured = !ours.keys.is_empty() || std::env::var_os(MASTER_KEY).is_some_and(|value| !value.is_empty());
        let made = file.symlink_metadata().is_ok();
        if !configured && !made {
            let sealed = sealed_under(&*store).await?;
            if !sealed.is_empty() {
                let message = format!(
                    "the vault cannot be opened: its master key `{}` is not there; put `{}` back from its copy, set {MASTER_KEY}, or name the key under \
                     `vault.keys` of hub.yaml",
                    sealed.join("`, `"),
                    file.display()
                );
                return Err(Error::config(message).into());
            }
            if key == Key::IfThere && ours.stores.is_empty() {
                return Ok(None);
            }
            eprintln!(
                "a new master key is made in `{}`: keep a copy where the backups are not; without it what is kept here cannot be opened",
                file.display()
            );
        }
        let transport = HttpTransport::builder().egress(config.egress.policy()?).build()?;
        let deps = OpenDeps {
            store,
            transport: Arc::new(transport),
            env: Arc::new(|name| std::env::var(name).ok()),
            data_dir: Some(self.data_dir.clone()),
            clock: SystemClock::shared(),
        };
        Ok(Some(connector_vault::config::open(&ours, deps).await?))
    }
}

/// The ids of the master keys that were ever used here. The vault keeps a proof of each; looking whether there are any needs none of them.
async fn sealed_under(store: &dyn Store) -> connector_core::Result<Vec<String>> {
    let tenant = TenantId::from("$vault");
    let proofs = store.scan(Namespace::new(&tenant, "vault.keys"), "", None, 16).await?;
    Ok(proofs.into_iter().map(|(id, _)| id).collect())
}

/// A runtime over this store.
fn over(builder: RuntimeBuilder, opened: &Opened) -> RuntimeBuilder {
    opened.wakes.iter().cloned().fold(builder.store(opened.store.clone()), RuntimeBuilder::wakes)
}

/// A runtime with everything that is compiled in.
pub(crate) fn builtins() -> RuntimeBuilder {
    connectors::builtins().iter().fold(Runtime::builder(), |builder, built| builder.builtin(built.id, (built.manifest)(), (built.hooks)()))
}

/// Makes the data directory readable by its owner only: it holds what vendors told us.
fn create_private(dir: &Path) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(dir).with_context(|| format!("the data directory `{}` cannot be made; choose another with --data-dir", dir.display()))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}
