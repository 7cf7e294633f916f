//! From an engine to a connector with its inner layers: what a library user, the runtime and a test all want.

use std::sync::Arc;

use connector_core::{
    CallCx, Client, Connection, Connector, Result,
    auth::AuthProvider,
    layer::stack::{self, StackParts},
    transport::Transport,
};

use crate::{Engine, Hooks, Manifest};

/// Puts the inner layers (metrics, batching, retry, breaker, limits, timeout) around an engine.
///
/// Requests that native operations make go through the same layers, each on its own account.
pub fn assemble(engine: Engine, parts: &StackParts) -> Arc<dyn Connector> {
    let engine = Arc::new(engine);
    let layered = stack::inner(engine.clone(), parts);
    engine.set_outer(Arc::downgrade(&layered));
    layered
}

/// A client of one connection: the engine of a manifest with its layers, what a vendor crate's own client type wraps.
///
/// # Errors
/// [`connector_core::ErrorKind::Config`] if the manifest cannot be compiled; see [`crate::EngineBuilder::build`].
pub fn open(
    manifest: Arc<Manifest>,
    hooks: Hooks,
    connection: Connection,
    transport: Arc<dyn Transport>,
    auth: Arc<dyn AuthProvider>,
    parts: &StackParts,
) -> Result<Client> {
    let engine = Engine::builder(manifest).hooks(hooks).transport(transport).auth(auth).clock(parts.clock.clone()).build()?;
    Ok(Client::new(assemble(engine, parts), CallCx::new(Arc::new(connection))))
}
