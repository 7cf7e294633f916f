//! The connectors a program has, by id.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    connector::Connector,
    error::{Error, Result},
    spec::OpSpec,
    suggest,
};

/// Connectors by id, and their operations by name.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    connectors: BTreeMap<Arc<str>, Arc<dyn Connector>>,
    tools: BTreeMap<Arc<str>, Arc<str>>,
}

impl Registry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a connector.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] if its id, or the name of one of its operations, is taken by another connector.
    pub fn add(&mut self, connector: Arc<dyn Connector>) -> Result<()> {
        let spec = connector.spec().clone();
        if self.connectors.contains_key(&spec.id) {
            return Err(Error::config(format!("there are two connectors named `{}`; rename one", spec.id)));
        }
        for operation in spec.operations() {
            if let Some(owner) = self.tools.get(&operation.name) {
                return Err(Error::config(format!(
                    "tool `{}` of connector `{}` is already a tool of `{owner}`; rename one",
                    operation.name, spec.id
                )));
            }
        }
        self.replace(connector);
        Ok(())
    }

    /// Adds a connector, taking the place of one with the same id (a reloaded manifest).
    pub fn replace(&mut self, connector: Arc<dyn Connector>) {
        let spec = connector.spec().clone();
        self.remove(&spec.id);
        for operation in spec.operations() {
            self.tools.insert(operation.name.clone(), spec.id.clone());
        }
        self.connectors.insert(spec.id.clone(), connector);
    }

    /// Removes a connector and its tools.
    pub fn remove(&mut self, id: &str) -> Option<Arc<dyn Connector>> {
        self.tools.retain(|_, owner| &**owner != id);
        self.connectors.remove(id)
    }

    /// The connector of this id.
    pub fn get(&self, id: &str) -> Option<&Arc<dyn Connector>> {
        self.connectors.get(id)
    }

    /// The connector of this id, or an error that suggests the nearest.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] if there is none.
    pub fn require(&self, id: &str) -> Result<&Arc<dyn Connector>> {
        self.get(id).ok_or_else(|| {
            let hint = suggest::nearest(id, self.connectors.keys().map(|id| &**id)).map_or_else(
                || format!("there are: {}", self.connectors.keys().map(|id| &**id).collect::<Vec<_>>().join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            Error::config(format!("there is no connector `{id}`; {hint}"))
        })
    }

    /// The connector that has this tool, and the tool's spec; or an error that suggests the nearest tool.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unsupported`] if no connector has it.
    pub fn tool(&self, name: &str) -> Result<(&Arc<dyn Connector>, &Arc<OpSpec>)> {
        let found =
            self.tools.get(name).and_then(|id| self.connectors.get(id)).and_then(|connector| Some((connector, connector.spec().operation(name)?)));
        found.ok_or_else(|| {
            let hint = suggest::nearest(name, self.tools.keys().map(|name| &**name))
                .map_or_else(|| "`tools` lists what there is".to_owned(), |near| format!("did you mean `{near}`?"));
            Error::unsupported(format!("there is no tool `{name}`; {hint}"))
        })
    }

    /// All connectors, ordered by id.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Connector>> {
        self.connectors.values()
    }

    /// All operations of all connectors, ordered by connector id, then as the connector lists them.
    pub fn operations(&self) -> impl Iterator<Item = (&Arc<dyn Connector>, &Arc<OpSpec>)> {
        self.iter().flat_map(|connector| connector.spec().operations().iter().map(move |operation| (connector, operation)))
    }
}
