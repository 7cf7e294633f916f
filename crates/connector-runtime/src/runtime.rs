//! The runtime itself: one door for calls, one for webhooks, and views of what is kept.

use std::sync::{Arc, Mutex, PoisonError};

use connector_core::{
    Actor, Connection, Error, ErrorKind, OpCall, Registry, Result, TenantId, WorkspaceId,
    clock::Rng,
    connector::Lifecycle,
    fleet::PubSub,
    layer::StackParts,
    resilience::Explained,
    spec::views,
    state::{Appended, AuditFilter, Job, JobFilter, JobId, JobState, Store, StoredAudit},
    webhook::RawWebhook,
};
use connector_http::{AuthDeps, oauth2::Discovery};
use connector_vault::Vault;
use connector_webhook::{
    dispatch::{DispatchPolicy, EventHandler},
    ingress::{IngressAnswer, IngressPipeline, IngressTarget, Outcome, route::IngressRoute},
    reload::Problem,
    work::Waker,
};
use dashmap::DashMap;
use tokio::sync::watch;

use crate::{
    alerts::Alerts,
    approval::{Approval, ApprovalState},
    builder::RuntimeBuilder,
    cache::Cache,
    canonical,
    catalogue::Catalogue,
    config::Env,
    connection::Linked,
    credentials::Credentials,
    effects::{Marks, Parked, Rules, Words},
    events::Teller,
    forward::{self, Forward},
    outbox,
    push::PushLog,
    reauth::ReauthWatch,
    reload::Reloader,
    request::{CallOutcome, CallRequest, Governed, Role},
    rotation::Unstored,
    send::SendStage,
    stack::{Next, Shared, Stage},
    stats::{Stats, one},
    subscriptions,
};

/// What a check is called in the audit of secrets.
const CHECK: &str = "connection.check";

/// The governed call path around any connectors. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Runtime(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) stages: Vec<Box<dyn Stage>>,
    pub(crate) shared: Shared,
    pub(crate) send: Arc<SendStage>,
    pub(crate) ingress: IngressPipeline,
    pub(crate) waker: Waker,
    pub(crate) handler: Option<Arc<dyn EventHandler>>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) parts: StackParts,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) reloader: tokio::sync::Mutex<Reloader>,
    pub(crate) public_url: Option<String>,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) vault: Option<Vault>,
    /// What signing in needs: the transport of token requests, and where tokens live.
    pub(crate) auth: AuthDeps,
    pub(crate) discovery: Discovery,
    pub(crate) watch: Arc<ReauthWatch>,
    pub(crate) teller: Teller,
    /// The hub's own events that are on disk, so that they are not written again every minute.
    pub(crate) told: DashMap<(TenantId, String), ()>,
    pub(crate) unstored: Unstored,
    /// The tokens other processes and this one saw last, by their serial; 0: none.
    pub(crate) serials: DashMap<(TenantId, String), u64>,
    pub(crate) env: Env,
    pub(crate) dispatch: DispatchPolicy,
    pub(crate) pubsub: Arc<dyn PubSub>,
    /// What is told to the fleet and heard from it, for as long as the runtime lives.
    pub(crate) _fleet: crate::fleet::FleetTasks,
    pub(crate) push: PushLog,
    pub(crate) rules: Rules,
    pub(crate) marks: Marks,
    pub(crate) forward: Forward,
    pub(crate) alerts: Arc<Alerts>,
    pub(crate) parked: Parked,
    pub(crate) subscriptions: subscriptions::State,
    pub(crate) wakes: Option<watch::Receiver<u64>>,
    pub(crate) problems: Mutex<Vec<Problem>>,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let catalogue = self.0.shared.catalogue.load();
        let connectors: Vec<&Arc<str>> = catalogue.loaded.keys().collect();
        let connections: Vec<&str> = catalogue.connections.all().map(|linked| linked.connection.id.as_str()).collect();
        f.debug_struct("Runtime").field("connectors", &connectors).field("connections", &connections).finish_non_exhaustive()
    }
}

impl Runtime {
    /// Starts to put one together.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder::new()
    }

    /// The connectors, with their inner layers, as they are now. A reload replaces the registry as a whole.
    pub fn registry(&self) -> Arc<Registry> {
        self.0.shared.catalogue.load().registry.clone()
    }

    /// All connections of all tenants.
    pub fn connections(&self) -> Vec<Arc<Connection>> {
        self.0.shared.catalogue.load().connections.all().map(|linked| linked.connection.clone()).collect()
    }

    /// One connection of a tenant.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the tenant has none of this id, which looks the same as another tenant's.
    pub fn connection(&self, tenant: &TenantId, id: &str) -> Result<Arc<Connection>> {
        self.0.shared.catalogue.load().connections.of(tenant, id).map(|linked| linked.connection.clone())
    }

    /// Makes a governed call: access, validation, approval, idempotency, cache and outbox around the connector's own layers.
    ///
    /// # Errors
    /// Whatever a stage or the connector reports, after everything that could help was tried; [`ErrorKind::Unknown`] with the context
    /// `dead_letter` if a write may or may not have happened.
    pub async fn call(&self, request: CallRequest) -> Result<CallOutcome> {
        self.call_as(request, false).await
    }

    /// As [`Runtime::call`], for a caller that finds out by itself what became of an unclear write: no dead letter is kept of it.
    pub(crate) async fn call_settled_by_caller(&self, request: CallRequest) -> Result<CallOutcome> {
        self.call_as(request, true).await
    }

    async fn call_as(&self, request: CallRequest, settled_by_caller: bool) -> Result<CallOutcome> {
        // A connector's own tool goes before a view's of the same name.
        if let Some(tool) = views::tool(&request.tool)
            && self.registry().tool(&request.tool).is_err()
        {
            return self.call_view(tool, request, settled_by_caller).await;
        }
        self.call_tool(request, settled_by_caller).await
    }

    /// Makes a governed call of a connector's tool.
    pub(crate) async fn call_tool(&self, request: CallRequest, settled_by_caller: bool) -> Result<CallOutcome> {
        one(&self.0.shared.counters.calls);
        let (loaded, op) = {
            let catalogue = self.0.shared.catalogue.load();
            let (connector, op) = catalogue.registry.tool(&request.tool)?;
            let loaded = catalogue.loaded.get(&connector.spec().id).ok_or_else(|| Error::internal("a connector is listed but not loaded"))?;
            (loaded.clone(), op.clone())
        };
        let mut params = request.params;
        // Absent and null mean the same to every connector, so they are the same call.
        params.retain(|_, value| !value.is_null());
        let text = canonical::canonical(&params);
        let digest = match &request.cursor {
            None => canonical::sha256_hex(text.as_bytes()),
            Some(cursor) => canonical::hex_digest(&[text.as_bytes(), cursor.as_str().as_bytes()]),
        };
        let mut call = Governed {
            tenant: request.tenant,
            workspace: request.workspace,
            actor: request.actor,
            role: request.role,
            wanted: request.connection,
            loaded,
            op,
            params,
            cursor: request.cursor,
            dry_run: request.dry_run,
            key: request.idempotency_key,
            correlation_id: request.correlation_id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string()).into(),
            deadline: request.deadline,
            queue: request.queue,
            settled_by_caller,
            digest,
            linked: None,
            cx: None,
            sent: false,
            replay_only: false,
            record: None,
        };
        Next::all(&self.0.stages).run(&mut call).await
    }

    /// Makes the cheapest call that proves a connection's credential and network.
    ///
    /// # Errors
    /// What that call reports; [`ErrorKind::NotFound`] if there is no such connection.
    pub async fn check(&self, tenant: &TenantId, id: &str) -> Result<()> {
        let inner = &self.0;
        let (linked, connector) = {
            let catalogue = inner.shared.catalogue.load();
            let linked = catalogue.connections.of(tenant, id)?.clone();
            let connector = catalogue.registry.require(&linked.connection.connector)?.clone();
            (linked, connector)
        };
        let connection = linked.connection.clone();
        let cx = connector_core::CallCx::new(connection.clone()).with_workspace(self.granted_workspace(&linked).await).with_operation(CHECK);
        let start = inner.shared.clock.now();
        let result = connector.lifecycle(&cx, Lifecycle::Check).await;
        let took = inner.shared.clock.now().saturating_duration_since(start);
        inner.shared.monitor.record(&connection, took, result.as_ref().err());
        result
    }

    /// A workspace that may use both the connection and its credential: what is done for no workspace in particular is done for that one.
    async fn granted_workspace(&self, linked: &Linked) -> WorkspaceId {
        let named = |workspaces: &[String]| workspaces.iter().find(|workspace| *workspace != "*").map(WorkspaceId::from);
        if let Some(workspace) = named(&linked.workspaces) {
            return workspace;
        }
        let (Some(vault), Some(name)) = (self.vault(), &linked.connection.credential) else { return WorkspaceId::default() };
        match vault.show(&linked.connection.tenant, name).await {
            Ok(info) if !info.workspaces.iter().any(|workspace| workspace == "*") => named(&info.workspaces).unwrap_or_default(),
            // Granted to all, or none of the vault's; what is wrong with it the check itself tells.
            _ => WorkspaceId::default(),
        }
    }

    /// The tenant that the deliveries of a webhook address are for. The address names no tenant, because a workspace belongs to one: it is the
    /// tenant of a connection that names the workspace, then the only tenant whose connections are open to all workspaces, then the default one.
    pub fn tenant_of_webhook(&self, connector_id: &str, workspace_id: &str) -> TenantId {
        let catalogue = self.0.shared.catalogue.load();
        let own = || catalogue.connections.of_connector(connector_id);
        if let Some(linked) = own().find(|linked| linked.workspaces.iter().any(|workspace| workspace == workspace_id)) {
            return linked.connection.tenant.clone();
        }
        let mut open = own().filter(|linked| linked.workspaces.iter().any(|workspace| workspace == "*")).map(|linked| &linked.connection.tenant);
        match open.next() {
            Some(first) if open.all(|tenant| tenant == first) => first.clone(),
            _ => TenantId::default(),
        }
    }

    /// Takes a webhook delivery. A connector, workspace or webhook that does not exist is answered 404, whatever the delivery holds.
    pub async fn receive(&self, tenant: &TenantId, connector_id: &str, workspace_id: &str, raw: RawWebhook<'_>) -> IngressAnswer {
        let unknown = || IngressAnswer::of(Outcome::NotFound);
        let workspace = WorkspaceId::from(workspace_id);
        let catalogue = self.0.shared.catalogue.load_full();
        let Some(connector) = catalogue.registry.get(connector_id) else { return unknown() };
        let Some(verifier) = connector.webhook() else { return unknown() };
        let granted: Vec<_> = catalogue.connections.granted(tenant, &workspace, connector_id).cloned().collect();
        let keys = match crate::webhook_secrets::of(self, &granted).await {
            Ok(keys) if keys.is_empty() => return unknown(),
            Ok(keys) => keys,
            // The vendor sends it again; a 404 would make it give the webhook up.
            Err(error) => {
                tracing::error!(%error, connector = connector_id, "the secret of a webhook cannot be had at the moment");
                return IngressAnswer::of(Outcome::NotPersisted);
            }
        };
        // Signatures over the URL are over the public one, which only the configuration knows.
        let public = granted.iter().find_map(|linked| linked.public_url.as_deref());
        let url = public.map(|base| {
            let route = IngressRoute { connector: connector_id.to_owned(), workspace: workspace_id.to_owned() };
            let query = if raw.query.is_empty() { String::new() } else { format!("?{}", raw.query) };
            format!("{}{query}", route.url(base))
        });
        let raw = RawWebhook { url: url.as_deref().unwrap_or(raw.url), ..raw };
        let target = IngressTarget::new(tenant, &workspace, connector.spec(), verifier, &keys);
        let answer = self.0.ingress.receive(&target, raw).await;
        crate::deliveries::note(self, tenant, &workspace, connector_id, &keys, &answer).await;
        self.count_events(&answer.events);
        answer
    }

    /// Counts what became of events that came in, however they did.
    pub(crate) fn count_events(&self, events: &[Appended]) {
        for event in events {
            match event {
                Appended::New { .. } => one(&self.0.shared.counters.events),
                _ => one(&self.0.shared.counters.duplicates),
            }
        }
    }

    /// The address a vendor is to be given for a webhook, if the configuration says how the outside reaches this hub.
    pub fn webhook_url(&self, tenant: &TenantId, connector_id: &str, workspace_id: &str) -> Option<String> {
        let catalogue = self.0.shared.catalogue.load();
        let workspace = WorkspaceId::from(workspace_id);
        let own = catalogue.connections.granted(tenant, &workspace, connector_id).find_map(|linked| linked.public_url.clone());
        let base = own.or_else(|| self.0.public_url.clone())?;
        Some(IngressRoute { connector: connector_id.to_owned(), workspace: workspace_id.to_owned() }.url(&base))
    }

    /// Calls and events that used up their attempts, or that only a person can decide about.
    ///
    /// # Errors
    /// Whatever the state store reports.
    pub async fn dead_letters(&self, tenant: &TenantId, filter: JobFilter) -> Result<Vec<Job>> {
        self.0.store.jobs(tenant, JobFilter { state: Some(JobState::Dead), ..filter }).await
    }

    /// Queues a dead letter again, under its original idempotency key. `false`: there is no such dead letter.
    ///
    /// # Errors
    /// Whatever the state store reports.
    pub async fn retry_dead_letter(&self, tenant: &TenantId, id: JobId) -> Result<bool> {
        let Some(job) = self.dead_letter(tenant, id).await? else { return Ok(false) };
        // The record first: once the job is back in the queue its worker may settle it at any time.
        let record = self.record_of(&job);
        if let Some(row) = &record {
            self.0.shared.records.revived(tenant, row, id).await?;
        }
        let revived = self.0.store.revive(tenant, id).await?;
        if revived {
            self.0.alerts.settled(&job).await;
            if &*job.queue == forward::QUEUE {
                self.0.forward.revived(&job).await;
            }
            self.wake_effects();
            self.0.shared.outbox.waker.wake();
            self.0.waker.wake();
        }
        Ok(revived)
    }

    /// Decides that a dead letter is not to be done; its idempotency key is free again. `false`: there is no such dead letter.
    ///
    /// # Errors
    /// Whatever the state store reports.
    pub async fn discard_dead_letter(&self, tenant: &TenantId, id: JobId) -> Result<bool> {
        let Some(job) = self.dead_letter(tenant, id).await? else { return Ok(false) };
        let discarded = self.0.store.discard(tenant, id).await?;
        if discarded {
            self.0.alerts.settled(&job).await;
        }
        if let Some(row) = self.record_of(&job).filter(|_| discarded) {
            self.0.shared.records.release(tenant, &row).await?;
        }
        Ok(discarded)
    }

    /// Queues an event once more. Steps that were done for it stay done. `None`: there is no such event.
    ///
    /// # Errors
    /// Whatever the state store reports.
    pub async fn replay_event(&self, tenant: &TenantId, seq: u64) -> Result<Option<JobId>> {
        let job = self.0.store.replay(tenant, seq).await?;
        if job.is_some() {
            self.0.waker.wake();
        }
        Ok(job)
    }

    async fn dead_letter(&self, tenant: &TenantId, id: JobId) -> Result<Option<Job>> {
        Ok(self.0.store.job(tenant, id).await?.filter(|job| job.state == JobState::Dead))
    }

    fn record_of(&self, job: &Job) -> Option<String> {
        (&*job.queue == outbox::QUEUE).then(|| outbox::record_of(&job.payload)).flatten()
    }

    /// The approvals of a tenant, those to be decided first.
    ///
    /// # Errors
    /// Whatever the state store reports.
    pub async fn approvals(&self, tenant: &TenantId) -> Result<Vec<Approval>> {
        self.0.shared.approvals.list(tenant).await
    }

    /// One approval.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the tenant has none of this id.
    pub async fn approval(&self, tenant: &TenantId, id: &str) -> Result<Approval> {
        self.0.shared.approvals.show(tenant, id).await
    }

    /// Lets the exact write of this approval through, once, within its time.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] for one's own question or a role below approver, [`ErrorKind::Conflict`] if it is decided or lapsed already.
    pub async fn approve(&self, tenant: &TenantId, id: &str, by: &Actor, role: Role) -> Result<Approval> {
        self.0.shared.approvals.decide(tenant, id, by, role, ApprovalState::Approved).await
    }

    /// Refuses the write of this approval.
    ///
    /// # Errors
    /// As [`Runtime::approve`].
    pub async fn deny(&self, tenant: &TenantId, id: &str, by: &Actor, role: Role) -> Result<Approval> {
        self.0.shared.approvals.decide(tenant, id, by, role, ApprovalState::Denied).await
    }

    /// The newest audit records of a tenant, those still on their way included.
    ///
    /// # Errors
    /// Whatever the state store reports.
    pub async fn audit_tail(&self, tenant: &TenantId, filter: AuditFilter) -> Result<Vec<StoredAudit>> {
        self.0.shared.audit.flush().await;
        self.0.store.audit_tail(tenant, filter).await
    }

    /// The request a call would send, without any governance: for `render` and documentation.
    ///
    /// # Errors
    /// As [`connector_manifest::Engine::render`]; [`ErrorKind::Unsupported`] for connectors that are code.
    pub fn render(&self, cx: &connector_core::CallCx, call: &OpCall) -> Result<connector_manifest::RenderedRequest> {
        let catalogue = self.0.shared.catalogue.load();
        let (connector, op) = catalogue.registry.tool(&call.operation)?;
        let engine = catalogue.loaded.get(&connector.spec().id).and_then(|loaded| loaded.renderer.as_ref());
        engine.ok_or_else(|| Error::new(ErrorKind::Unsupported, format!("`{}` is made in code and cannot be shown", op.name)))?.render(cx, call)
    }

    /// One resilience number of a connector, and where it came from.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if there is no such key or connector; suggests the nearest.
    pub fn explain(&self, connector: &str, key: &str) -> Result<Explained> {
        let catalogue = self.0.shared.catalogue.load();
        catalogue.registry.require(connector)?;
        let loaded = catalogue.loaded.get(connector).ok_or_else(|| Error::internal("a connector is listed but not loaded"))?;
        loaded.resilience.explain(key)
    }

    /// The files of custom connectors that cannot be used as they are now.
    pub fn problems(&self) -> Vec<Problem> {
        self.0.problems.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks at the files of custom connectors now. `true` if anything changed.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the new set cannot be put together; the old one stays.
    pub async fn reload(&self) -> Result<bool> {
        let mut reloader = self.0.reloader.lock().await;
        let result = reloader.reload().await;
        *self.0.problems.lock().unwrap_or_else(PoisonError::into_inner) = reloader.problems();
        match result? {
            Some(catalogue) => {
                self.take_over(catalogue);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Makes this what there is to call, and what rules may name.
    fn take_over(&self, catalogue: Catalogue) {
        self.0.rules.follow(&Words { catalogue: &catalogue, endpoints: self.0.forward.endpoints() });
        self.0.shared.catalogue.store(Arc::new(catalogue));
    }

    /// Puts connections together anew, after a credential came or went.
    pub(crate) async fn refresh(&self) -> Result<()> {
        let catalogue = self.0.reloader.lock().await.rebuild().await?;
        self.take_over(catalogue);
        Ok(())
    }

    /// As [`Runtime::refresh`], if the vault holds other credentials than before: another process may have stored or taken back some.
    pub(crate) async fn follow_vault(&self) -> Result<()> {
        if self.0.vault.is_some()
            && let Some(catalogue) = self.0.reloader.lock().await.follow_vault().await?
        {
            self.take_over(catalogue);
        }
        Ok(())
    }

    /// Where secrets are kept, if the program brought a vault.
    pub fn vault(&self) -> Option<&Vault> {
        self.0.vault.as_ref()
    }

    /// The newest uses of a credential: calls that were authorised with it, and openings of its secrets. Oldest first, at most `limit` (0: 100).
    /// A credential that does not exist, or is another tenant's, has none.
    ///
    /// # Errors
    /// Whatever the state store reports.
    pub async fn who_used(&self, tenant: &TenantId, credential: &str, limit: usize) -> Result<Vec<StoredAudit>> {
        self.audit_tail(tenant, AuditFilter { credential: Some(credential.to_owned()), limit, ..AuditFilter::default() }).await
    }

    /// The state store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.0.store
    }

    /// What the inner layers share: breakers, limiters, budgets.
    pub fn stack(&self) -> &StackParts {
        &self.0.parts
    }

    /// How this process and the others of its fleet tell each other something.
    pub fn pubsub(&self) -> &Arc<dyn PubSub> {
        &self.0.pubsub
    }

    /// The log of messages to subscribers.
    pub fn push_log(&self) -> &PushLog {
        &self.0.push
    }

    /// The cache of replies.
    pub fn cache(&self) -> &Cache {
        &self.0.shared.cache
    }

    /// What was counted so far.
    pub fn stats(&self) -> Stats {
        let trips = self.0.parts.breakers().snapshot().values().map(|breaker| breaker.trips).sum();
        self.0.shared.counters.snapshot(trips)
    }
}
