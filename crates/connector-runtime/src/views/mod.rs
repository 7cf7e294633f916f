//! Capability views over the connections of a workspace: `crm_find_contact` goes to whichever connection can do it.
//!
//! Owns choosing the connection and translating there and back. Refuses to carry anything out: what comes of the translation is a call of
//! the underlying tool on the same governed path as any other, so access, approvals, idempotency, cache, limits and audit are that tool's.

use std::sync::{Arc, LazyLock};

use connector_core::{
    Error, ErrorKind, OpReply, ReplyBody, Result, TenantId, WorkspaceId,
    spec::{
        OpSpec,
        views::{self, CONNECTION, ViewTool},
    },
    state::AuditOutcome,
};
use connector_manifest::views::{Fulfilment, Source};
use serde_json::{Map, Value};

use crate::{
    audit::{Entry, Errand},
    canonical,
    catalogue::{Catalogue, Loaded},
    connection::Linked,
    request::{CallOutcome, CallRequest},
    runtime::Runtime,
    stats::one,
    validate,
};

/// A tool of a view that at least one connection can do.
#[derive(Debug, Clone)]
pub struct AvailableView {
    /// The tool, described like any other.
    pub tool: &'static ViewTool,
    /// The connections that can do it.
    pub over: Vec<ViewOver>,
}

/// A connection over which a view's tool can be called.
#[derive(Debug, Clone)]
pub struct ViewOver {
    /// The connection's id.
    pub connection: String,
    /// Its connector.
    pub connector: Arc<str>,
    /// The tool that is called in the end.
    pub operation: Arc<OpSpec>,
}

/// The compiled input schemas of all tools of views, in their order.
static VALIDATORS: LazyLock<Vec<Option<jsonschema::Validator>>> =
    LazyLock::new(|| views::tools().iter().map(|tool| validate::compile(&tool.spec)).collect());

fn check(tool: &ViewTool, args: &Map<String, Value>) -> Result<()> {
    let at = views::tools().iter().position(|known| known.spec.name == tool.spec.name);
    match at.and_then(|at| VALIDATORS.get(at)?.as_ref()) {
        Some(validator) => validate::check(validator, &tool.spec, args),
        None => Err(Error::internal(format!("the input schema of `{}` cannot be compiled", tool.spec.name))),
    }
}

/// How this connector does the tool, if it does.
fn fulfilled<'l>(loaded: &'l Loaded, tool: &ViewTool) -> Option<&'l Fulfilment> {
    // Most connectors fulfil nothing; theirs are not compiled.
    if !loaded.connector.spec().views.contains_key(tool.view.id) {
        return None;
    }
    loaded.views().get(tool.view.id, tool.op.name)
}

/// The connections of a tenant that can do the tool and that `is_granted` lets through.
fn fitting<'c>(
    catalogue: &'c Catalogue,
    tenant: &'c TenantId,
    tool: &'c ViewTool,
    is_granted: impl Fn(&Linked) -> bool + 'c,
) -> impl Iterator<Item = (&'c Arc<Linked>, &'c Arc<Loaded>, &'c Fulfilment)> {
    let own = catalogue.connections.all().filter(move |linked| linked.connection.tenant == *tenant && is_granted(linked));
    own.filter_map(move |linked| {
        let loaded = catalogue.loaded.get(&linked.connection.connector)?;
        Some((linked, loaded, fulfilled(loaded, tool)?))
    })
}

/// The call that a view's call becomes.
struct Translated {
    request: CallRequest,
    args: Map<String, Value>,
    loaded: Arc<Loaded>,
    connection: String,
}

impl Runtime {
    /// The tools of views that the connections of a tenant can do, as far as `sees` lets the caller see the workspaces a connection is
    /// granted to. A connector's own tool of the same name takes its place.
    pub fn views(&self, tenant: &TenantId, sees: impl Fn(&[String]) -> bool) -> Vec<AvailableView> {
        let catalogue = self.0.shared.catalogue.load();
        let free = views::tools().iter().filter(|tool| catalogue.registry.tool(&tool.spec.name).is_err());
        free.filter_map(|tool| {
            let over: Vec<ViewOver> = fitting(&catalogue, tenant, tool, |linked| sees(&linked.workspaces))
                .filter_map(|(linked, loaded, fulfilment)| {
                    let spec = loaded.connector.spec();
                    let operation = spec.operation(fulfilment.tool())?.clone();
                    Some(ViewOver { connection: linked.connection.id.to_string(), connector: spec.id.clone(), operation })
                })
                .collect();
            (!over.is_empty()).then_some(AvailableView { tool, over })
        })
        .collect()
    }

    /// Makes a call of a view's tool: chooses the connection, calls the tool behind it, and gives its reply in the view's words.
    pub(crate) async fn call_view(&self, tool: &'static ViewTool, request: CallRequest, settled_by_caller: bool) -> Result<CallOutcome> {
        let translated = match self.translate(tool, &request) {
            Ok(translated) => translated,
            Err(error) => {
                self.refused(tool, &request, &error);
                return Err(error.at(&tool.view.id.into(), &tool.spec.name));
            }
        };
        let Translated { request, args, loaded, connection } = translated;
        let outcome = self.call_tool(request, settled_by_caller).await?;
        let CallOutcome::Done(reply) = outcome else { return Ok(outcome) };
        let fulfilment = fulfilled(&loaded, tool).ok_or_else(|| Error::internal("a view's tool lost what fulfils it while it was called"))?;
        let source = Source { connector: &loaded.connector.spec().id, connection: &connection };
        let value = fulfilment
            .reply(&args, reply.body.to_value()?, reply.next.is_some(), source)
            .map_err(|error| error.at(&loaded.connector.spec().id, fulfilment.tool()))?;
        let OpReply { next, partial, mut meta, .. } = reply;
        meta.absent = value.is_null();
        let mut made = OpReply::new(ReplyBody::Value(value));
        (made.next, made.partial, made.meta) = (next, partial, meta);
        Ok(CallOutcome::Done(made))
    }

    fn translate(&self, tool: &ViewTool, request: &CallRequest) -> Result<Translated> {
        let catalogue = self.0.shared.catalogue.load();
        let mut args = request.params.clone();
        args.retain(|_, value| !value.is_null());
        let wanted = wanted(request, &mut args)?;
        let linked = choose(&catalogue, tool, &request.tenant, &request.workspace, wanted.as_deref())?;
        let connector = &linked.connection.connector;
        let loaded = catalogue.loaded.get(connector).ok_or_else(|| Error::internal("a connection is of a connector that is not loaded"))?;
        let fulfilment = fulfilled(loaded, tool).ok_or_else(|| unsupported(&catalogue, tool, request, Some(&linked)))?;
        check(tool, &args)?;
        let op = loaded.connector.spec().require(fulfilment.tool())?;
        let params = fulfilment.request(connector, &args, &op.input_schema)?;
        let connection = linked.connection.id.to_string();
        let request = CallRequest { tool: op.name.to_string(), params, connection: Some(connection.clone()), ..request.clone() };
        Ok(Translated { request, args, loaded: loaded.clone(), connection })
    }

    /// A call that reached no tool stands in the trail under the view's name; all others under the tool's.
    fn refused(&self, tool: &ViewTool, request: &CallRequest, error: &Error) {
        let shared = &self.0.shared;
        one(&shared.counters.calls);
        if error.kind() == ErrorKind::Denied {
            one(&shared.counters.denied);
        }
        if request.dry_run {
            return;
        }
        let digest = canonical::sha256_hex(canonical::canonical(&request.params).as_bytes());
        let connection = connector_core::redact::printable(request.connection.as_deref().unwrap_or_default(), 63);
        let correlation_id = request.correlation_id.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        let errand = Errand {
            tenant: &request.tenant,
            workspace: request.workspace.clone(),
            actor: &request.actor,
            connector: tool.view.id,
            connection: &connection,
            operation: &tool.spec.name,
            credential: None,
            correlation_id: &correlation_id,
            args_digest: &digest,
        };
        shared.audit.write_later(Entry::errand(&errand, AuditOutcome::Refused, Some(error)).with_effect(tool.op.effect));
    }
}

/// The connection that was asked for: beside the arguments or among them.
fn wanted(request: &CallRequest, args: &mut Map<String, Value>) -> Result<Option<String>> {
    match (&request.connection, args.remove(CONNECTION)) {
        (beside, None) => Ok(beside.clone()),
        (None, Some(Value::String(among))) => Ok(Some(among)),
        (Some(beside), Some(Value::String(among))) if *beside == among => Ok(Some(among)),
        (Some(_), Some(Value::String(_))) => Err(Error::invalid("`connection` is said twice, and not the same; say it once")),
        (_, Some(_)) => Err(Error::invalid("`connection` must be text: the id of a connection")),
    }
}

/// The connection a view's call goes over: the one asked for, or the only one that can do it. Never a silent choice.
fn choose(catalogue: &Catalogue, tool: &ViewTool, tenant: &TenantId, workspace: &WorkspaceId, wanted: Option<&str>) -> Result<Arc<Linked>> {
    if let Some(id) = wanted {
        let connector = catalogue.connections.of(tenant, id)?.connection.connector.clone();
        return catalogue.connections.choose(tenant, workspace, &connector, Some(id));
    }
    let fitting: Vec<&Arc<Linked>> = fitting(catalogue, tenant, tool, |linked| linked.is_granted(workspace)).map(|(linked, ..)| linked).collect();
    match fitting.as_slice() {
        [only] => Ok((*only).clone()),
        [] => Err(none_can(catalogue, tool, tenant, workspace, None)),
        several => Err(Error::invalid(format!(
            "several connections do `{}`: {}; say which with `connection`",
            tool.spec.name,
            named(several.iter().copied())
        ))),
    }
}

fn unsupported(catalogue: &Catalogue, tool: &ViewTool, request: &CallRequest, linked: Option<&Linked>) -> Error {
    none_can(catalogue, tool, &request.tenant, &request.workspace, linked)
}

/// Says who could have done it: connections of the workspace, then connectors that somebody may connect.
fn none_can(catalogue: &Catalogue, tool: &ViewTool, tenant: &TenantId, workspace: &WorkspaceId, asked: Option<&Linked>) -> Error {
    let name = &tool.spec.name;
    let what = match asked {
        Some(linked) => format!("connection `{}` is of `{}`, which does not do `{name}`", linked.connection.id, linked.connection.connector),
        None => format!("no connection of workspace `{workspace}` does `{name}`"),
    };
    let can: Vec<&Arc<Linked>> = fitting(catalogue, tenant, tool, |linked| linked.is_granted(workspace)).map(|(linked, ..)| linked).collect();
    if !can.is_empty() {
        return Error::unsupported(format!("{what}; these do: {}", named(can.into_iter())));
    }
    let connectors: Vec<String> =
        catalogue.loaded.iter().filter(|(_, loaded)| fulfilled(loaded, tool).is_some()).map(|(id, _)| format!("`{id}`")).collect();
    let way_out = match connectors.as_slice() {
        [] => "no connector here does".to_owned(),
        some => format!("these connectors do: {}; configure a connection of one under `connections` of hub.yaml", some.join(", ")),
    };
    Error::unsupported(format!("{what}; {way_out}"))
}

fn named<'l>(linked: impl Iterator<Item = &'l Arc<Linked>>) -> String {
    linked.map(|linked| format!("`{}` ({})", linked.connection.id, linked.connection.connector)).collect::<Vec<_>>().join(", ")
}
