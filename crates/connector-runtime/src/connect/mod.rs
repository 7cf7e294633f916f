//! Connecting accounts while the program runs: in a browser, on another device, or with keys; taking them apart again; and what they may do.
//!
//! Owns who may connect what, and that an answer belongs to its question. Refuses to hold a token longer than it takes to store it, and
//! to tell why an answer was not believed: whoever forged it learns nothing, whoever owns it starts again.

mod answer;
mod browser;
mod check;
mod device;
mod disconnect;
mod keys;
mod pending;
mod redirect;
mod scopes;
mod settle;
mod target;

use connector_core::{Actor, CallCx, Error, ErrorKind, Result, TenantId, WorkspaceId, credential::CredentialQuery, state::AuditOutcome};
use connector_vault::Vault;

pub use answer::{
    ConnectAsk, ConnectBack, ConnectReport, ConnectStart, ConnectorScopes, CredentialCheck, CredentialReport, DeviceStart, Disconnected, ScopeDiff,
    ScopeReport,
};
pub use pending::STATE_TTL;
pub(crate) use pending::hub;
pub(crate) use target::{Target, has_consent};

use crate::{
    audit::{Entry, Errand},
    request::Role,
    runtime::Runtime,
};

/// The errands that are asked for secrets and put on record.
pub(crate) mod errand {
    pub(crate) const BEGIN: &str = "connect.begin";
    pub(crate) const FINISH: &str = "connect.finish";
    pub(crate) const DEVICE: &str = "connect.device";
    pub(crate) const KEYS: &str = "connect.keys";
    pub(crate) const DISCONNECT: &str = "connect.disconnect";
}

impl Runtime {
    pub(crate) fn require_vault(&self) -> Result<&Vault> {
        self.vault().ok_or_else(|| {
            Error::config(
                "connecting needs a vault to keep what comes of it; give the hub a master key (`vault.keys` in hub.yaml) and start it again",
            )
        })
    }

    /// Puts something done about a connection on record and waits until it is durable.
    pub(crate) async fn record(&self, errand: &Errand<'_>, outcome: AuditOutcome, error: Option<&Error>) -> Result<()> {
        self.0.shared.audit.write_now(Entry::errand(errand, outcome, error)).await
    }

    /// Puts how it ended on record. The intent is there already, so a missing outcome hides nothing.
    pub(crate) async fn record_end<T>(&self, errand: &Errand<'_>, result: &Result<T>) {
        let outcome = match result {
            Ok(_) => AuditOutcome::Ok,
            Err(error) if error.kind() == ErrorKind::Unknown => AuditOutcome::Unknown,
            Err(_) => AuditOutcome::Failed,
        };
        if let Err(error) = self.record(errand, outcome, result.as_ref().err()).await {
            tracing::error!(%error, operation = errand.operation, "how it ended could not be put on record");
        }
    }

    /// Puts a refusal on record, off the caller's path: whoever is refused must not be able to make us wait for a disk.
    pub(crate) fn record_refused(&self, errand: &Errand<'_>, error: &Error) {
        self.0.shared.audit.write_later(Entry::errand(errand, AuditOutcome::Refused, Some(error)));
    }
}

/// Who may connect and disconnect.
fn may_connect(role: Role) -> Result<()> {
    if role < Role::Operator {
        return Err(Error::new(ErrorKind::Denied, format!("a {role} may not connect accounts; that needs the role operator")));
    }
    Ok(())
}

/// The context of work on a connection by this actor.
fn cx_of(target: &Target, actor: &Actor, operation: &'static str) -> CallCx {
    let workspace = crate::reauth::workspace(&[&target.linked]);
    CallCx::new(target.linked.connection.clone())
        .with_workspace(workspace)
        .with_actor(actor.clone())
        .with_operation(operation)
        .with_correlation_id(uuid::Uuid::new_v4().to_string())
}

/// The question for a secret of this connection, as the hub's own errand.
fn query<'a>(cx: &'a CallCx, credential: &'a str, operation: &'a str) -> CredentialQuery<'a> {
    CredentialQuery::of(cx, credential).for_errand(operation)
}

/// What is put on record about work on a connection.
fn errand<'a>(cx: &'a CallCx, credential: &'a str, operation: &'a str) -> Errand<'a> {
    Errand {
        tenant: &cx.connection.tenant,
        workspace: cx.workspace.clone(),
        actor: &cx.actor,
        connector: &cx.connection.connector,
        connection: cx.connection.id.as_str(),
        operation,
        credential: Some(credential),
        correlation_id: &cx.correlation_id,
        args_digest: "",
    }
}

/// An errand about which little is known: an answer that belongs to no question.
fn stray<'a>(tenant: &'a TenantId, actor: &'a Actor, operation: &'a str, digest: &'a str) -> Errand<'a> {
    Errand {
        tenant,
        workspace: WorkspaceId::default(),
        actor,
        connector: "",
        connection: "",
        operation,
        credential: None,
        correlation_id: "",
        args_digest: digest,
    }
}
