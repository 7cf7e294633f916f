//! What remains of a webhook delivery besides its events: a record of genuine ones that were refused, and the suspicion that a clock is wrong.
//!
//! Costs nothing for deliveries that were accepted or that nothing proves. A suspicion is kept in the store for a while, so that other processes
//! (`health` at the command line) see it, too.

use std::time::Duration;

use bytes::Bytes;
use connector_core::{
    Actor, Error, Result, TenantId, WorkspaceId,
    state::{AuditOutcome, Condition, Namespace},
};
use connector_webhook::ingress::{CLOCK_SUSPECT, ConnectionKeys, IngressAnswer, Outcome};

use crate::{
    audit::{Entry, Errand},
    runtime::Runtime,
};

/// What a delivery is called in the audit trail.
const OPERATION: &str = "webhook.receive";
/// Where suspicions are kept.
const NAMESPACE: &str = "clock_skew";
/// How long after the last stale delivery a clock is suspected.
const SUSPECTED_FOR: Duration = Duration::from_secs(600);
/// What health says then.
pub(crate) const CLOCK_SKEW: &str = "clock skew suspected: genuine webhook deliveries were too old or too new; check this machine's time";

/// Looks at what became of a delivery.
pub(crate) async fn note(
    runtime: &Runtime,
    tenant: &TenantId,
    workspace: &WorkspaceId,
    connector: &str,
    keys: &[ConnectionKeys],
    answer: &IngressAnswer,
) {
    match answer.outcome {
        Outcome::Invalid | Outcome::Mismatch | Outcome::NotJson => refused(runtime, tenant, workspace, connector, answer),
        Outcome::Stale => {
            for keys in keys {
                let streak = runtime.0.ingress.stale_streak(tenant, &keys.connection);
                // Said again now and then, so that it holds as long as it is true.
                if streak >= CLOCK_SUSPECT
                    && streak.is_multiple_of(CLOCK_SUSPECT)
                    && let Err(error) = suspect(runtime, tenant, &keys.connection).await
                {
                    tracing::warn!(%error, "that a clock may be wrong could not be kept");
                }
            }
        }
        _ => {
            for (tenant, connection) in runtime.0.ingress.take_recovered() {
                if let Err(error) = runtime.0.store.delete(Namespace::new(&tenant, NAMESPACE), &connection, Condition::Any).await {
                    tracing::warn!(%error, "that a clock is good again could not be kept; the suspicion ends by itself");
                }
            }
        }
    }
}

/// Nobody but the vendor, or somebody with its secret, can cause such a record.
fn refused(runtime: &Runtime, tenant: &TenantId, workspace: &WorkspaceId, connector: &str, answer: &IngressAnswer) {
    let Some(connection) = answer.connection.as_deref() else { return };
    let errand = Errand {
        tenant,
        workspace: workspace.clone(),
        actor: &Actor::System,
        connector,
        connection,
        operation: OPERATION,
        credential: None,
        correlation_id: &uuid::Uuid::new_v4().to_string(),
        args_digest: "",
    };
    let error = match answer.outcome {
        Outcome::Mismatch => Error::new(connector_core::ErrorKind::Conflict, "the same event came with another payload"),
        _ => Error::invalid("the delivery cannot be read"),
    };
    runtime.0.shared.audit.write_later(Entry::errand(&errand, AuditOutcome::Refused, Some(&error)));
}

async fn suspect(runtime: &Runtime, tenant: &TenantId, connection: &str) -> Result<()> {
    let namespace = Namespace::new(tenant, NAMESPACE);
    runtime.0.store.put(namespace, connection, Bytes::new(), Condition::Any, Some(SUSPECTED_FOR)).await.map(|_| ())
}

/// What is wrong with a connection's deliveries, in plain words.
pub(crate) async fn warnings(runtime: &Runtime, tenant: &TenantId, connection: &str) -> Vec<String> {
    let here = runtime.0.ingress.stale_streak(tenant, connection) >= CLOCK_SUSPECT;
    // A store that does not answer is told elsewhere.
    let kept = || async { runtime.0.store.get(Namespace::new(tenant, NAMESPACE), connection).await.is_ok_and(|entry| entry.is_some()) };
    if here || kept().await { vec![CLOCK_SKEW.to_owned()] } else { Vec::new() }
}
