//! From options, `hub.yaml` and the environment to a runtime.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use connector_core::{Registry, state::Store};
use connector_runtime::{HubConfig, Runtime, RuntimeBuilder};
use connector_state::{MemoryState, SqliteState};

/// Where things are, as the options say.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    /// `--config`, or `hub.yaml` here if it is present.
    pub(crate) config: Option<PathBuf>,
    /// `--data-dir`.
    pub(crate) data_dir: PathBuf,
}

impl Setup {
    pub(crate) fn new(config: Option<PathBuf>, data_dir: PathBuf) -> Self {
        let default = Path::new("hub.yaml");
        Self { config: config.or_else(|| default.is_file().then(|| default.to_path_buf())), data_dir }
    }

    /// What `hub.yaml` says; the defaults if there is none.
    pub(crate) fn hub_config(&self) -> Result<HubConfig> {
        match &self.config {
            Some(path) => Ok(HubConfig::load(path)?),
            None => Ok(HubConfig::default()),
        }
    }

    /// The embedded default store: SQLite in the data directory.
    pub(crate) fn store(&self) -> Result<Arc<dyn Store>> {
        create_private(&self.data_dir)?;
        Ok(Arc::new(SqliteState::open(self.data_dir.join("connectors.db"))?))
    }

    /// A runtime over the embedded store, with everything that is built in.
    pub(crate) async fn runtime(&self) -> Result<Runtime> {
        Ok(self.builder()?.store(self.store()?).build().await?)
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
