//! Events that come in over a connection we opened ourselves (Slack's Socket Mode): nobody signs them, the connection proves them. They go
//! through the same pipeline as a webhook's: same caps, same dedupe, same write, same counters.
//!
//! Refuses to guess whose they are: tenant, workspace and connection are named, and must belong together.

use connector_core::{Error, ErrorKind, Result, TenantId, WorkspaceId, state::Appended, webhook::IncomingEvent};
use connector_webhook::ingress::{Outcome, ProvenTarget};

use crate::runtime::Runtime;

impl Runtime {
    /// Takes events that came in over a connection which this process opened, and which proves them by that. When this gives `Ok` they are
    /// durable; those that were known already are [`Appended::Duplicate`] or [`Appended::Mismatch`].
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the tenant has no such connection or the workspace may not use it; [`ErrorKind::Invalid`] if an event is not
    /// JSON, or there are too many; [`ErrorKind::Transient`] if they could not be made durable: whoever sent them must send them again.
    pub async fn accept_events(
        &self,
        tenant: &TenantId,
        workspace: &WorkspaceId,
        connection: &str,
        events: Vec<IncomingEvent>,
    ) -> Result<Vec<Appended>> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let catalogue = self.0.shared.catalogue.load_full();
        let linked = catalogue.connections.of(tenant, connection)?;
        if !linked.is_granted(workspace) {
            return Err(Error::new(ErrorKind::NotFound, format!("the workspace `{workspace}` has no connection `{connection}`")));
        }
        let connector = catalogue.registry.get(&linked.connection.connector).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("the connector `{}` of the connection `{connection}` is not there", linked.connection.connector))
        })?;
        let target = ProvenTarget::new(tenant, workspace, connector.spec());
        let answer = self.0.ingress.accept(&target, &linked.connection.id.as_str().into(), events).await;
        self.count_events(&answer.events);
        match answer.outcome {
            Outcome::Accepted | Outcome::Duplicate | Outcome::Mismatch => Ok(answer.events),
            Outcome::Invalid | Outcome::NotJson | Outcome::TooLarge => {
                Err(Error::invalid("the events of the connection are not readable JSON, or too many"))
            }
            other => Err(Error::new(ErrorKind::Transient, "the events of the connection could not be made durable; they must come again")
                .with_context("outcome", other.as_str())),
        }
    }
}
