//! Custom connectors while the program runs: new versions take over between two calls, bad ones leave the last good version in charge.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use connector_core::Result;
use connector_manifest::Hooks;
use connector_webhook::{
    custom::CustomConnector,
    reload::{Change, Problem, Watcher},
};

use crate::{
    catalogue::{Assembler, Catalogue, Loaded},
    vaulted::Vaulted,
};

/// How often the files are looked at.
pub(crate) const POLL: Duration = Duration::from_secs(2);

/// Puts new catalogues together when files change.
#[derive(Debug)]
pub(crate) struct Reloader {
    assembler: Assembler,
    /// Built-in connectors and those that are code; they never change.
    fixed: BTreeMap<Arc<str>, Arc<Loaded>>,
    custom: BTreeMap<Arc<str>, (Arc<CustomConnector>, Arc<Loaded>)>,
    watcher: Option<Watcher>,
    problems: Vec<Problem>,
    /// What the vault held when the last catalogue was put together.
    vaulted: Vaulted,
}

impl Reloader {
    /// Reads the files for the first time.
    pub(crate) async fn start(assembler: Assembler, fixed: BTreeMap<Arc<str>, Arc<Loaded>>, watcher: Watcher) -> Result<(Self, Catalogue)> {
        let mut this = Self { assembler, fixed, custom: BTreeMap::new(), watcher: Some(watcher), problems: Vec::new(), vaulted: Vaulted::default() };
        let changes = this.scan().await?;
        this.apply(changes);
        let ids: Vec<Arc<str>> = this.fixed.keys().chain(this.custom.keys()).cloned().collect();
        this.assembler.check_resilience(ids.iter().map(|id| &**id))?;
        this.vaulted = this.look().await?;
        let catalogue = this.catalogue().map_err(|error| match this.problems.as_slice() {
            [] => error,
            // The connector it misses may be one of those that could not be read.
            problems => {
                let shown: Vec<String> = problems.iter().map(|problem| problem.diagnostics.to_string()).collect();
                connector_core::Error::config(format!("{}; also: {}", error.message(), shown.join("; ")))
            }
        })?;
        Ok((this, catalogue))
    }

    pub(crate) fn assembler(&self) -> &Assembler {
        &self.assembler
    }

    pub(crate) fn problems(&self) -> Vec<Problem> {
        self.problems.clone()
    }

    /// Looks at the files. `None`: nothing changed that matters.
    pub(crate) async fn reload(&mut self) -> Result<Option<Catalogue>> {
        let changes = self.scan().await?;
        if changes.is_empty() {
            return Ok(None);
        }
        if !self.apply(changes) {
            return Ok(None);
        }
        self.rebuild().await.map(Some)
    }

    /// Puts the catalogue together anew, with the credentials the vault holds now.
    pub(crate) async fn rebuild(&mut self) -> Result<Catalogue> {
        self.vaulted = self.look().await?;
        self.catalogue()
    }

    /// As [`Reloader::rebuild`], if the vault holds other credentials than last time: another process may have stored some.
    pub(crate) async fn follow_vault(&mut self) -> Result<Option<Catalogue>> {
        let vaulted = self.look().await?;
        if vaulted == self.vaulted {
            return Ok(None);
        }
        self.vaulted = vaulted;
        self.catalogue().map(Some)
    }

    async fn look(&self) -> Result<Vaulted> {
        Vaulted::of(self.assembler.vault.as_ref(), &self.assembler.config).await
    }

    async fn scan(&mut self) -> Result<Vec<Change>> {
        let Some(mut watcher) = self.watcher.take() else { return Ok(Vec::new()) };
        let now = self.assembler.parts.clock.wall();
        let scanned = tokio::task::spawn_blocking(move || {
            let changes = watcher.scan(now);
            (watcher, changes)
        });
        let (watcher, changes) =
            scanned.await.map_err(|error| connector_core::Error::internal("the manifests could not be looked at").with_source(error))?;
        self.watcher = Some(watcher);
        Ok(changes)
    }

    /// Takes the changes over; `true` if the catalogue is another one now.
    fn apply(&mut self, changes: Vec<Change>) -> bool {
        let mut changed = false;
        for change in changes {
            match change {
                Change::Removed { id } => {
                    changed |= self.custom.remove(&*id).is_some();
                    tracing::info!(connector = id, "a custom connector is gone with its file");
                }
                Change::Rejected { path, diagnostics, kept } => {
                    let kept = kept.as_deref().unwrap_or("nothing");
                    tracing::error!(file = %path.display(), kept, "a custom connector cannot be used: {diagnostics}");
                }
                Change::Loaded(connector) => match self.load(&connector) {
                    Ok(loaded) => {
                        changed = true;
                        tracing::info!(connector = connector.id, "a custom connector was loaded");
                        self.custom.insert(connector.id.as_str().into(), (connector, Arc::new(loaded)));
                    }
                    Err(error) => {
                        tracing::error!(connector = connector.id, %error, "a custom connector cannot be used");
                        let previous = self.custom.get(&*connector.id).map(|(previous, _)| previous.clone());
                        if let Some(watcher) = &mut self.watcher {
                            watcher.reject(&connector, previous, error.message().to_owned());
                        }
                    }
                },
            }
        }
        self.problems = self.watcher.as_ref().map(Watcher::problems).unwrap_or_default();
        changed
    }

    fn load(&self, connector: &CustomConnector) -> Result<Loaded> {
        use connector_core::Error;
        if self.fixed.contains_key(&*connector.id) {
            return Err(Error::config(format!("`{}` is the name of a built-in connector; give this one another `id:`", connector.id)));
        }
        let loaded = self.assembler.engine(&connector.id, &connector.manifest, &Hooks::new(), true)?;
        let others = self.fixed.values().chain(self.custom.iter().filter(|(id, _)| ***id != *connector.id).map(|(_, (_, loaded))| loaded));
        let spec = loaded.connector.spec();
        for other in others {
            let theirs = other.connector.spec();
            if let Some(op) = spec.operations().iter().find(|op| theirs.operation(&op.name).is_some()) {
                return Err(Error::config(format!("tool `{}` is already a tool of `{}`; rename it", op.name, theirs.id)));
            }
        }
        // A new version must leave the connections that are configured for it usable.
        for (id, config) in self.assembler.config.connections.iter().filter(|(_, config)| config.connector == connector.id) {
            crate::connection::configured(id, config, loaded.manifest.as_deref(), &self.assembler.env)?;
        }
        Ok(loaded)
    }

    fn catalogue(&self) -> Result<Catalogue> {
        let custom = self.custom.iter().map(|(id, (_, loaded))| (id.clone(), loaded.clone()));
        self.assembler.catalogue(self.fixed.iter().map(|(id, loaded)| (id.clone(), loaded.clone())).chain(custom).collect(), &self.vaulted)
    }
}
