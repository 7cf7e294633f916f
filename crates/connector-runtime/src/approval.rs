//! Approvals: single-use, expiring permissions for one exact write, given by somebody else than who asked.
//!
//! Owns the binding to everything that makes a write that write, and consumption exactly once. Refuses to approve one's own question, and
//! to show arguments under secret names.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use connector_core::{
    Actor, Error, ErrorKind, Result, TenantId,
    clock::{Clock, unix_seconds},
    redact,
    spec::{Approval as Needs, Effect},
    state::{Condition, Entry, Namespace, PutOutcome, Store},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    access, canonical,
    config::{PolicyConfig, Writes},
    connection::Linked,
    idempotency::Records,
    request::{CallOutcome, Governed, Role},
    stack::{Next, Stage},
    stats::{Counters, one},
};

/// How long a question may be answered and an answer used: 15 minutes.
pub const APPROVAL_TTL: Duration = Duration::from_secs(900);
/// How long decided approvals stay on show.
const KEPT: Duration = Duration::from_secs(86_400);
/// The part of the store.
const NAMESPACE: &str = "approvals";
/// How often a changed row is looked at again before giving up.
const TRIES: usize = 64;

/// Where an approval stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ApprovalState {
    /// Nobody has decided.
    Pending,
    /// The write may be made once.
    Approved,
    /// The write may not be made.
    Denied,
    /// The write was let through.
    Used,
    /// Nobody decided, or nobody used it, in time.
    Expired,
}

/// A question and its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    /// Its id.
    pub id: String,
    /// The tenant.
    pub tenant: TenantId,
    /// The workspace the write is for.
    pub workspace: String,
    /// The connector.
    pub connector: String,
    /// The connection.
    pub connection: String,
    /// The tool.
    pub tool: String,
    /// What it does.
    pub effect: Effect,
    /// Who asked.
    pub requester: String,
    /// The arguments, values under secret names replaced. What is approved is the digest.
    pub arguments: Map<String, Value>,
    /// The digest of everything the approval is bound to, in hex.
    pub binding: String,
    /// Where it stands.
    pub state: ApprovalState,
    /// Who decided.
    pub decided_by: Option<String>,
    /// Unix seconds of the question.
    pub created_at: u64,
    /// Unix seconds after which it is worth nothing.
    pub expires_at: u64,
}

/// Keeps approvals in the state store.
#[derive(Debug)]
pub(crate) struct Approvals {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    counters: Arc<Counters>,
}

/// What the record says about a write that needs an approval.
enum Verdict {
    Granted,
    Pending(Box<Approval>),
}

fn row(id: &str) -> String {
    format!("id:{id}")
}

fn index(binding: &str) -> String {
    format!("for:{binding}")
}

fn encode(approval: &Approval) -> Result<bytes::Bytes> {
    serde_json::to_vec(approval).map(Into::into).map_err(|error| Error::internal("an approval could not be written").with_source(error))
}

fn decode(entry: &Entry) -> Result<Approval> {
    serde_json::from_slice(&entry.value).map_err(|error| Error::internal("a stored approval cannot be read").with_source(error))
}

impl Approvals {
    pub(crate) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, counters: Arc<Counters>) -> Self {
        Self { store, clock, counters }
    }

    fn now(&self) -> u64 {
        unix_seconds(self.clock.wall())
    }

    async fn read(&self, tenant: &TenantId, id: &str) -> Result<Option<(Approval, u64)>> {
        let Some(entry) = self.store.get(Namespace::new(tenant, NAMESPACE), &row(id)).await? else { return Ok(None) };
        let mut approval = decode(&entry)?;
        if matches!(approval.state, ApprovalState::Pending | ApprovalState::Approved) && approval.expires_at <= self.now() {
            approval.state = ApprovalState::Expired;
        }
        Ok(Some((approval, entry.version)))
    }

    async fn swap(&self, approval: &Approval, version: u64) -> Result<bool> {
        let namespace = Namespace::new(&approval.tenant, NAMESPACE);
        let written = self.store.put(namespace, &row(&approval.id), encode(approval)?, Condition::Is(version), Some(KEPT)).await?;
        Ok(written.is_stored())
    }

    /// One approval. Another tenant's looks like one that does not exist.
    pub(crate) async fn show(&self, tenant: &TenantId, id: &str) -> Result<Approval> {
        Ok(self.find(tenant, id).await?.0)
    }

    async fn find(&self, tenant: &TenantId, id: &str) -> Result<(Approval, u64)> {
        self.read(tenant, id).await?.ok_or_else(|| {
            let id = redact::printable(id, 63);
            Error::new(ErrorKind::NotFound, format!("there is no approval `{id}`; `approvals list` shows what there is"))
        })
    }

    /// The newest approvals of a tenant, those to be decided first.
    pub(crate) async fn list(&self, tenant: &TenantId) -> Result<Vec<Approval>> {
        let namespace = Namespace::new(tenant, NAMESPACE);
        let (mut all, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = self.store.scan(namespace, "id:", after.as_deref(), 256).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            // One whose data key is lost is empty, and nobody can decide about it; the others are shown.
            for (_, entry) in page.iter().filter(|(_, entry)| !entry.value.is_empty()) {
                let mut approval = decode(entry)?;
                if matches!(approval.state, ApprovalState::Pending | ApprovalState::Approved) && approval.expires_at <= self.now() {
                    approval.state = ApprovalState::Expired;
                }
                all.push(approval);
            }
        }
        all.sort_by_key(|approval| (approval.state != ApprovalState::Pending, std::cmp::Reverse(approval.created_at), approval.id.clone()));
        Ok(all)
    }

    /// Answers a question.
    pub(crate) async fn decide(&self, tenant: &TenantId, id: &str, by: &Actor, role: Role, state: ApprovalState) -> Result<Approval> {
        if role < Role::Approver {
            return Err(Error::new(ErrorKind::Denied, format!("a {role} may not decide about approvals; that needs the role approver")));
        }
        for _ in 0..TRIES {
            let (mut approval, version) = self.find(tenant, id).await?;
            if approval.requester == by.to_string() {
                return Err(Error::new(ErrorKind::Denied, "nobody decides about a write they asked for; somebody else must"));
            }
            if approval.state != ApprovalState::Pending {
                let state = format!("{:?}", approval.state).to_lowercase();
                return Err(Error::new(ErrorKind::Conflict, format!("approval `{id}` is {state} already and cannot be decided again")));
            }
            approval.state = state;
            approval.decided_by = Some(by.to_string());
            if self.swap(&approval, version).await? {
                return Ok(approval);
            }
        }
        Err(Error::new(ErrorKind::Conflict, format!("approval `{id}` keeps changing; try again")))
    }

    /// Uses up the approval of this exact write, or asks for one.
    async fn consume(&self, call: &Governed, linked: &Linked) -> Result<Verdict> {
        let binding = binding(call, linked);
        let namespace = Namespace::new(&call.tenant, NAMESPACE);
        for _ in 0..TRIES {
            let place = self.store.get(namespace, &index(&binding)).await?;
            let known = match &place {
                Some(entry) => self.read(&call.tenant, &String::from_utf8_lossy(&entry.value)).await?,
                None => None,
            };
            match known {
                Some((approval, _)) if approval.state == ApprovalState::Pending => return Ok(Verdict::Pending(approval.into())),
                Some((approval, _)) if approval.state == ApprovalState::Denied && approval.expires_at > self.now() => {
                    let by = approval.decided_by.unwrap_or_default();
                    return Err(Error::new(ErrorKind::Denied, format!("this write was denied by {by}")).with_context("approval", approval.id));
                }
                Some((mut approval, version)) if approval.state == ApprovalState::Approved => {
                    approval.state = ApprovalState::Used;
                    // Whoever swaps this row first makes the write; everybody else finds it used.
                    if self.swap(&approval, version).await? {
                        return Ok(Verdict::Granted);
                    }
                }
                _ => {
                    let condition = place.map_or(Condition::Absent, |entry| Condition::Is(entry.version));
                    if let Some(asked) = self.ask(call, linked, &binding, condition).await? {
                        return Ok(Verdict::Pending(asked.into()));
                    }
                }
            }
        }
        Err(Error::new(ErrorKind::Conflict, "the approval of this write keeps changing; call again"))
    }

    /// Writes the question down. `None` if somebody else did at the same time.
    async fn ask(&self, call: &Governed, linked: &Linked, binding: &str, condition: Condition) -> Result<Option<Approval>> {
        let mut arguments = Value::Object(call.params.clone());
        redact::redact(&mut arguments);
        let now = self.now();
        let approval = Approval {
            id: uuid::Uuid::new_v4().simple().to_string(),
            tenant: call.tenant.clone(),
            workspace: call.workspace.to_string(),
            connector: call.loaded.connector.spec().id.to_string(),
            connection: linked.connection.id.to_string(),
            tool: call.op.name.to_string(),
            effect: call.op.effect,
            requester: call.actor.to_string(),
            arguments: if let Value::Object(map) = arguments { map } else { Map::new() },
            binding: binding.to_owned(),
            state: ApprovalState::Pending,
            decided_by: None,
            created_at: now,
            expires_at: now + APPROVAL_TTL.as_secs(),
        };
        let namespace = Namespace::new(&call.tenant, NAMESPACE);
        // The row first: an index that leads nowhere would look like an answered question.
        self.store.put(namespace, &row(&approval.id), encode(&approval)?, Condition::Absent, Some(KEPT)).await?;
        let indexed = self.store.put(namespace, &index(binding), approval.id.clone().into(), condition, Some(KEPT)).await?;
        if let PutOutcome::Refused(_) = indexed {
            self.store.delete(namespace, &row(&approval.id), Condition::Any).await?;
            return Ok(None);
        }
        one(&self.counters.approvals);
        tracing::info!(approval = %approval.id, tool = %approval.tool, requester = %approval.requester, "a write waits for an approval");
        Ok(Some(approval))
    }
}

/// The digest of everything that makes a write this write. One changed byte is another write.
fn binding(call: &Governed, linked: &Linked) -> String {
    let spec = call.loaded.connector.spec();
    let connection = &linked.connection;
    let schema = canonical::canonical_value(&call.op.input_schema);
    let settings: BTreeMap<_, _> = connection.settings.iter().collect();
    let settings = settings.iter().map(|(key, value)| format!("{key}={value}\u{1f}")).collect::<String>();
    canonical::hex_digest(&[
        call.tenant.as_str().as_bytes(),
        call.workspace.as_str().as_bytes(),
        spec.id.as_bytes(),
        call.op.name.as_bytes(),
        schema.as_bytes(),
        call.op.endpoint.as_bytes(),
        canonical::canonical(&call.params).as_bytes(),
        connection.id.as_str().as_bytes(),
        connection.base().as_bytes(),
        settings.as_bytes(),
        connection.credential.as_deref().unwrap_or_default().as_bytes(),
        call.actor.to_string().as_bytes(),
    ])
}

/// The stage that holds writes back until they are approved.
#[derive(Debug)]
pub(crate) struct ApprovalStage {
    pub(crate) approvals: Arc<Approvals>,
    pub(crate) records: Arc<Records>,
    pub(crate) policy: PolicyConfig,
}

#[async_trait]
impl Stage for ApprovalStage {
    fn name(&self) -> &'static str {
        "approval"
    }

    async fn run(&self, call: &mut Governed, next: Next<'_>) -> Result<CallOutcome> {
        let Some(linked) = call.linked.clone() else { return Err(Error::internal("approval was asked before access")) };
        let gated = call.op.approval == Needs::Required || access::writes(&self.policy, &linked, call.workspace.as_str()) >= Writes::Approve;
        if !call.is_write() && call.op.approval != Needs::Required || !gated {
            return next.run(call).await;
        }
        // A repeat of a call that was let through under the same key is answered from its record and sends nothing.
        if self.records.exists(call).await? {
            call.replay_only = true;
            return next.run(call).await;
        }
        match self.approvals.consume(call, &linked).await? {
            Verdict::Granted => next.run(call).await,
            Verdict::Pending(approval) => Ok(CallOutcome::PendingApproval { approval_id: approval.id, expires_at: approval.expires_at }),
        }
    }
}
