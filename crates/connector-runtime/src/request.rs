//! What goes into the governed call path and what comes out of it.
//!
//! Owns the caller's words: tool, parameters, role, keys. Refuses credentials: there is no field for one, and none is ever read from parameters.

use std::{fmt, sync::Arc, time::Duration};

use connector_core::{Actor, Cursor, OpReply, TenantId, WorkspaceId, state::JobId};
use connector_manifest::RenderedRequest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a caller may do. Each role may do what the ones before it may.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads only.
    Viewer,
    /// Reads and writes.
    #[default]
    Operator,
    /// Also decides about approvals that others ask for.
    Approver,
    /// Everything.
    Admin,
}

impl Role {
    /// `viewer`, `operator`, `approver` or `admin`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Approver => "approver",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One governed call. `Debug` shows the names of the parameters, never their values.
#[derive(Clone)]
pub struct CallRequest {
    /// The tenant the caller belongs to.
    pub tenant: TenantId,
    /// The workspace the call is made for.
    pub workspace: WorkspaceId,
    /// Who is behind it.
    pub actor: Actor,
    /// What the caller may do.
    pub role: Role,
    /// The connection to use; needed only where several fit.
    pub connection: Option<String>,
    /// The tool (`hubspot_get_contact_by_email`).
    pub tool: String,
    /// Its parameters.
    pub params: Map<String, Value>,
    /// The key under which this exact write happens at most once, remembered for seven days.
    pub idempotency_key: Option<String>,
    /// Where to go on in a listing.
    pub cursor: Option<Cursor>,
    /// Show the request instead of sending it.
    pub dry_run: bool,
    /// Ties log lines, audit records and vendor requests of one logical action together; made up if absent.
    pub correlation_id: Option<String>,
    /// How long the caller waits, with all waits and retries; the policy's default if absent.
    pub deadline: Option<Duration>,
    /// Whether a call that cannot be made now may be queued. `None`: writes may, reads may not.
    pub queue: Option<bool>,
}

impl CallRequest {
    /// A call by the program itself, in the default tenant and workspace, as [`Role::Operator`].
    pub fn new(tool: impl Into<String>, params: Map<String, Value>) -> Self {
        Self {
            tenant: TenantId::default(),
            workspace: WorkspaceId::default(),
            actor: Actor::System,
            role: Role::default(),
            connection: None,
            tool: tool.into(),
            params,
            idempotency_key: None,
            cursor: None,
            dry_run: false,
            correlation_id: None,
            deadline: None,
            queue: None,
        }
    }

    /// For this tenant.
    #[must_use]
    pub fn tenant(mut self, tenant: impl Into<TenantId>) -> Self {
        self.tenant = tenant.into();
        self
    }

    /// For this workspace.
    #[must_use]
    pub fn workspace(mut self, workspace: impl Into<WorkspaceId>) -> Self {
        self.workspace = workspace.into();
        self
    }

    /// By this actor in this role.
    #[must_use]
    pub fn by(mut self, actor: Actor, role: Role) -> Self {
        self.actor = actor;
        self.role = role;
        self
    }

    /// Over this connection.
    #[must_use]
    pub fn connection(mut self, id: impl Into<String>) -> Self {
        self.connection = Some(id.into());
        self
    }

    /// At most once under this key.
    #[must_use]
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Shows the request instead of sending it.
    #[must_use]
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }
}

impl fmt::Debug for CallRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallRequest")
            .field("tool", &self.tool)
            .field("params", &self.params.keys().collect::<Vec<_>>())
            .field("tenant", &self.tenant)
            .field("workspace", &self.workspace)
            .field("actor", &self.actor)
            .field("role", &self.role)
            .field("connection", &self.connection)
            .field("dry_run", &self.dry_run)
            .finish_non_exhaustive()
    }
}

/// What became of a governed call.
#[derive(Debug)]
pub enum CallOutcome {
    /// It was made (or answered from the cache, or had been made before under the same key).
    Done(OpReply),
    /// It was not sent; this is what would have been.
    DryRun(RenderedRequest),
    /// It needs an approval by somebody else. Call again with the same arguments once it is given.
    PendingApproval {
        /// The approval to decide about.
        approval_id: String,
        /// Unix seconds at which the question lapses.
        expires_at: u64,
    },
    /// It could not be made now and is durably queued.
    Queued {
        /// The job.
        job_id: JobId,
        /// Why, for people.
        reason: String,
    },
}

impl CallOutcome {
    /// The reply, if the call was made.
    pub fn reply(&self) -> Option<&OpReply> {
        match self {
            Self::Done(reply) => Some(reply),
            _ => None,
        }
    }

    /// The reply, if the call was made.
    pub fn into_reply(self) -> Option<OpReply> {
        match self {
            Self::Done(reply) => Some(reply),
            _ => None,
        }
    }
}

/// A call on its way through the stages, with what they found out.
pub(crate) struct Governed {
    pub(crate) tenant: TenantId,
    pub(crate) workspace: WorkspaceId,
    pub(crate) actor: Actor,
    pub(crate) role: Role,
    pub(crate) wanted: Option<String>,
    pub(crate) loaded: Arc<crate::catalogue::Loaded>,
    pub(crate) op: Arc<connector_core::spec::OpSpec>,
    pub(crate) params: Map<String, Value>,
    pub(crate) cursor: Option<Cursor>,
    pub(crate) dry_run: bool,
    /// The caller's own key.
    pub(crate) key: Option<String>,
    pub(crate) correlation_id: Arc<str>,
    pub(crate) deadline: Option<Duration>,
    pub(crate) queue: Option<bool>,
    /// The caller finds out by itself what became of an unclear write.
    pub(crate) settled_by_caller: bool,
    /// SHA-256 of the canonical arguments and the cursor, in hex.
    pub(crate) digest: String,
    /// Where it goes, once access has said so.
    pub(crate) linked: Option<Arc<crate::connection::Linked>>,
    pub(crate) cx: Option<connector_core::CallCx>,
    /// The call was handed to the connector.
    pub(crate) sent: bool,
    /// An earlier call with this key is on record, so this one needs no approval, and must not be made either.
    pub(crate) replay_only: bool,
    /// The idempotency record to be settled when a queued job ends.
    pub(crate) record: Option<String>,
}

impl Governed {
    pub(crate) fn is_write(&self) -> bool {
        self.op.effect != connector_core::spec::Effect::Read
    }

    /// The context; there is none before access was granted.
    pub(crate) fn cx(&self) -> connector_core::Result<&connector_core::CallCx> {
        self.cx.as_ref().ok_or_else(|| connector_core::Error::internal("a call has no context before access was granted"))
    }

    /// The connection's id as far as it is known.
    pub(crate) fn connection_id(&self) -> &str {
        match (&self.linked, &self.wanted) {
            (Some(linked), _) => linked.connection.id.as_str(),
            (None, Some(wanted)) => wanted,
            (None, None) => "",
        }
    }
}
