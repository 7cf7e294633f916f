//! Who may do what over which connection: tenant, workspace grant, role, and the policy that refuses writes.
//!
//! Owns the choice of the connection and the context of the call. Refuses to tell another tenant's connection from a missing one.

use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use connector_core::{CallCx, Error, ErrorKind, Result, clock::Clock};

use crate::{
    catalogue::Catalogue,
    config::{PolicyConfig, Writes},
    connection::Linked,
    request::{CallOutcome, Governed, Role},
    stack::{Next, Stage},
    stats::{Counters, one},
};

/// The stage that lets callers in.
#[derive(Debug)]
pub(crate) struct AccessStage {
    pub(crate) catalogue: Arc<ArcSwap<Catalogue>>,
    pub(crate) policy: PolicyConfig,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) counters: Arc<Counters>,
}

/// What writes of a workspace over a connection need: the strictest of all policies.
pub(crate) fn writes(hub: &PolicyConfig, linked: &Linked, workspace: &str) -> Writes {
    hub.of(workspace).max(linked.policy.of(workspace))
}

impl AccessStage {
    fn enter(&self, call: &mut Governed) -> Result<()> {
        let catalogue = self.catalogue.load();
        let connector = &call.loaded.connector.spec().id;
        let chosen = catalogue.connections.choose(&call.tenant, &call.workspace, connector, call.wanted.as_deref());
        let linked = chosen.map_err(|error| match (&call.loaded.unresolved, call.loaded.variables()) {
            (Some(lacks), _) if error.kind() == ErrorKind::Config => Error::config(format!("{}; {}", error.message(), lacks.message())),
            (None, Some(variables)) if error.kind() == ErrorKind::Config => Error::config(format!("{}, or set {variables}", error.message())),
            _ => error,
        })?;
        call.linked = Some(linked.clone());
        if call.is_write() {
            if call.role < Role::Operator {
                let effect = call.op.effect.as_str();
                let message = format!("a {} may only read; `{}` is a {effect} and needs the role operator", call.role, call.op.name);
                return Err(Error::new(ErrorKind::Denied, message));
            }
            if writes(&self.policy, &linked, call.workspace.as_str()) == Writes::Deny {
                let message = format!("writes of workspace `{}` over connection `{}` are refused by policy", call.workspace, linked.connection.id);
                return Err(Error::new(ErrorKind::Denied, message));
            }
        }
        let mut cx = CallCx::new(linked.connection.clone())
            .with_workspace(call.workspace.clone())
            .with_actor(call.actor.clone())
            .with_correlation_id(call.correlation_id.clone())
            .with_operation(call.op.name.clone());
        if let Some(time) = call.deadline {
            cx = cx.with_deadline(self.clock.now() + time);
        }
        if let Some(key) = call.key.as_deref().filter(|_| call.is_write()) {
            cx = cx.with_idempotency_key(key);
        }
        call.cx = Some(cx);
        Ok(())
    }
}

#[async_trait]
impl Stage for AccessStage {
    fn name(&self) -> &'static str {
        "access"
    }

    async fn run(&self, call: &mut Governed, next: Next<'_>) -> Result<CallOutcome> {
        if let Err(error) = self.enter(call) {
            if error.kind() == ErrorKind::Denied {
                one(&self.counters.denied);
            }
            return Err(error.at(&call.loaded.connector.spec().id, &call.op.name));
        }
        next.run(call).await
    }
}
