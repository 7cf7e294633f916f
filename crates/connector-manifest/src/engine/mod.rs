//! The one engine: a manifest, hooks and a transport are a [`Connector`].
//!
//! Per request: render → egress guard (in the transport) → authorise (one refresh after a 401) → send → cap the body → classify.
//! Retries, limits, breakers and timeouts are layers around it, never in here.

pub(crate) mod allowance;
mod authorization;
mod compile;
mod errors;
pub(crate) mod escape;
mod exchange;
mod hooks;
mod input;
mod paginate;
mod render;
mod reply;
mod split;

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock, Weak},
};

use async_trait::async_trait;
use connector_core::{
    CallCx, Connector, Cursor, Error, OpCall, OpReply, Result,
    auth::{AuthProvider, NoAuth},
    clock::{Clock, SystemClock},
    connector::Lifecycle,
    credential::Credential,
    delta::{DeltaPage, DeltaSource},
    redact,
    rotation::{Issued, Rotator},
    spec::ConnectorSpec,
    transport::Transport,
    webhook::WebhookVerifier,
};
use http::HeaderName;
use serde::Serialize;
use serde_json::{Map, Value};

use self::{
    compile::{CompiledTool, Door, HttpTool},
    input::Arguments,
};
use crate::{Manifest, spec::build_spec, template::Template};

pub use authorization::Authorization;
pub use escape::apply as escape_text;
pub use exchange::RawReply;
pub use hooks::{Guard, Hooks, NativeDelta, NativeOperation, NativeRotator, PartialItems, Prepare};

/// Replies above this are refused as a protocol failure.
pub const DEFAULT_BODY_CAP: usize = 10 * 1024 * 1024;

/// A connector made of a manifest.
#[derive(Debug)]
pub struct Engine {
    spec: Arc<ConnectorSpec>,
    manifest: Arc<Manifest>,
    tools: Arc<HashMap<Arc<str>, CompiledTool>>,
    headers: Arc<Vec<(HeaderName, Template)>>,
    table: Arc<errors::Table>,
    transport: Arc<dyn Transport>,
    auth: Arc<dyn AuthProvider>,
    clock: Arc<dyn Clock>,
    hooks: Hooks,
    body_cap: usize,
    outer: OnceLock<Weak<dyn Connector>>,
}

/// Puts an engine together.
#[derive(Debug)]
pub struct EngineBuilder {
    manifest: Arc<Manifest>,
    id: Option<String>,
    transport: Option<Arc<dyn Transport>>,
    auth: Arc<dyn AuthProvider>,
    clock: Arc<dyn Clock>,
    hooks: Hooks,
    body_cap: usize,
}

impl EngineBuilder {
    /// The id of a custom connector that does not name itself (its file's stem).
    #[must_use]
    pub fn id(mut self, id: &str) -> Self {
        self.id = Some(id.to_owned());
        self
    }

    /// How requests are sent. Without one, the engine can describe and render but not call.
    #[must_use]
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = Some(transport);
        self
    }

    /// How requests are authenticated; not at all if not said.
    #[must_use]
    pub fn auth(mut self, auth: Arc<dyn AuthProvider>) -> Self {
        self.auth = auth;
        self
    }

    /// The source of wall time.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The vendor's own Rust.
    #[must_use]
    pub fn hooks(mut self, hooks: Hooks) -> Self {
        self.hooks = hooks;
        self
    }

    /// The longest reply accepted, in bytes.
    #[must_use]
    pub fn body_cap(mut self, bytes: usize) -> Self {
        self.body_cap = bytes;
        self
    }

    /// Compiles the manifest.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] that names the tool and what is wrong with it: an unusable path or header, a native operation
    /// that no hook provides.
    pub fn build(self) -> Result<Engine> {
        let id = self.id.as_deref().unwrap_or(&self.manifest.connector);
        let spec = Arc::new(build_spec(&self.manifest, self.manifest.connector_id(id)));
        if spec.rotatable.is_empty() == self.hooks.rotator.is_some() {
            return Err(Error::config("`rotatable` names the fields that the connector's rotator replaces: there must be both, or neither"));
        }
        let mut tools = HashMap::with_capacity(self.manifest.tools.len());
        for tool in &self.manifest.tools {
            let op = spec.require(&tool.name)?.clone();
            let door = match &tool.native {
                Some(native) => Door::Native(self.hooks.native.get(native).cloned().ok_or_else(|| {
                    Error::config(format!("tool `{}` is native (`{native}`), but this connector's code has no such operation", tool.name))
                })?),
                None => Door::Http(Box::new(compile::http_tool(&self.manifest, tool, &op, &self.hooks)?)),
            };
            tools.insert(op.name.clone(), CompiledTool { params: compile::parameters(&op, tool), spec: op, door });
        }
        let headers = self.manifest.headers.iter().map(|(name, value)| {
            let name = HeaderName::try_from(name).map_err(|_| Error::config(format!("`{name}` is not a header name")))?;
            Ok((name, Template::parse(value)))
        });
        Ok(Engine {
            headers: Arc::new(headers.collect::<Result<_>>()?),
            table: Arc::new(errors::Table::compile(&self.manifest.errors).map_err(Error::config)?),
            transport: self.transport.unwrap_or_else(|| Arc::new(NoTransport)),
            spec,
            tools: Arc::new(tools),
            manifest: self.manifest,
            auth: self.auth,
            clock: self.clock,
            hooks: self.hooks,
            body_cap: self.body_cap,
            outer: OnceLock::new(),
        })
    }
}

/// A request as it would be sent, for dry runs and conformance tests. Holds no secret: authentication is added later.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RenderedRequest {
    /// The method.
    pub method: String,
    /// The full address.
    pub url: String,
    /// The headers, with `REDACTED` where the credential will be.
    pub headers: Map<String, Value>,
    /// The body: JSON where it is JSON, text otherwise, `null` if there is none.
    pub body: Value,
}

impl Engine {
    /// Starts to put an engine together.
    pub fn builder(manifest: impl Into<Arc<Manifest>>) -> EngineBuilder {
        EngineBuilder {
            manifest: manifest.into(),
            id: None,
            transport: None,
            auth: Arc::new(NoAuth),
            clock: SystemClock::shared(),
            hooks: Hooks::new(),
            body_cap: DEFAULT_BODY_CAP,
        }
    }

    /// The same engine with these ways to send and authenticate, and this verifier of webhooks if one is given. Shares everything that was
    /// compiled, so that an engine that only describes and one that calls cost little more than one.
    #[must_use]
    pub fn connected(&self, transport: Arc<dyn Transport>, auth: Arc<dyn AuthProvider>, webhook: Option<Arc<dyn WebhookVerifier>>) -> Self {
        let hooks = match webhook {
            Some(verifier) => self.hooks.clone().webhook_shared(verifier),
            None => self.hooks.clone(),
        };
        Self {
            spec: self.spec.clone(),
            manifest: self.manifest.clone(),
            tools: self.tools.clone(),
            headers: self.headers.clone(),
            table: self.table.clone(),
            transport,
            auth,
            clock: self.clock.clone(),
            hooks,
            body_cap: self.body_cap,
            outer: OnceLock::new(),
        }
    }

    /// The manifest it runs.
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// The source of wall time.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Tells the engine which layered connector it is the heart of, so that the requests native operations make are limited, retried and
    /// counted like any other. Set once; later calls change nothing.
    pub fn set_outer(&self, outer: Weak<dyn Connector>) {
        // A second set would come from stacking the same engine twice; the first stack stays in charge.
        self.outer.get_or_init(|| outer);
    }

    /// Calls another operation from a native one, through all layers, and gives its output as a tree.
    ///
    /// # Errors
    /// Whatever that operation reports.
    pub async fn call_value(&self, cx: &CallCx, operation: &str, args: Value) -> Result<Value> {
        self.call_inner(cx, operation, args, None).await?.body.to_value()
    }

    /// Calls another operation from a native one, through all layers.
    ///
    /// An idempotency key of the whole is narrowed to this step, so that two steps never share one.
    ///
    /// # Errors
    /// Whatever that operation reports; [`connector_core::ErrorKind::Internal`] if `args` is not an object.
    pub async fn call_inner(&self, cx: &CallCx, operation: &str, args: Value, cursor: Option<Cursor>) -> Result<OpReply> {
        let Value::Object(args) = args else {
            return Err(Error::internal(format!("the arguments of the inner call `{operation}` are not an object")));
        };
        let narrowed;
        let cx = match &cx.idempotency_key {
            Some(key) => {
                narrowed = cx.clone().with_idempotency_key(format!("{key}:{operation}"));
                &narrowed
            }
            None => cx,
        };
        let call = OpCall::new(operation, args).with_cursor(cursor);
        match self.outer.get().and_then(Weak::upgrade) {
            Some(outer) => outer.call(cx, call).await,
            None => self.call(cx, call).await,
        }
    }

    /// The error a raw reply stands for, by the manifest's table.
    pub fn error_for(&self, cx: &CallCx, reply: &RawReply) -> Error {
        let args = Map::new();
        self.table.error(errors::Answer { cx, status: reply.status, headers: &reply.headers, body: &reply.body, args: &args, now: self.clock.wall() })
    }

    /// Renders the request of a call without sending it.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Invalid`] for wrong arguments, [`connector_core::ErrorKind::Unsupported`] for unknown operations and for
    /// native ones that show nothing.
    pub fn render(&self, cx: &CallCx, call: &OpCall) -> Result<RenderedRequest> {
        let tool = self.tool(&call.operation)?;
        let http = match &tool.door {
            Door::Http(http) => http,
            Door::Native(native) => {
                Arguments::check(tool, &call.args, cx)?;
                return native.show(cx, call)?.ok_or_else(|| {
                    Error::unsupported(format!(
                        "`{}` is a native operation: it makes several requests, which cannot be shown without making them",
                        call.operation
                    ))
                });
            }
        };
        let call = http.prepared(tool, cx, call.clone())?;
        let args = Arguments::check(tool, &call.args, cx)?;
        let rendered = render::render(http, &self.headers, cx, &args, call.cursor.as_ref())?;
        let mut headers: Map<String, Value> = Map::new();
        for (name, value) in &rendered.head.headers {
            let shown =
                if redact::is_secret_name(name.as_str()) { redact::REDACTED.into() } else { String::from_utf8_lossy(value.as_bytes()).into_owned() };
            headers.insert(name.as_str().to_owned(), shown.into());
        }
        for name in self.manifest.auth.first().map(auth_headers).unwrap_or_default() {
            headers.insert(name, redact::REDACTED.into());
        }
        let body = if rendered.body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&rendered.body).unwrap_or_else(|_| String::from_utf8_lossy(&rendered.body).into_owned().into())
        };
        Ok(RenderedRequest { method: rendered.head.method.to_string(), url: redact::redact_url(&rendered.head.url), headers, body })
    }

    /// Understands a recorded answer as a reply to a call, for conformance tests and examples.
    ///
    /// # Errors
    /// What a caller would get for that answer.
    pub fn understand_recorded(&self, cx: &CallCx, call: &OpCall, reply: RawReply) -> Result<OpReply> {
        match &self.tool(&call.operation)?.door {
            Door::Http(http) => self.understand(http, cx, call, reply),
            Door::Native(_) => Err(Error::unsupported(format!("`{}` is a native operation and has no single answer", call.operation))),
        }
    }

    fn rotates(&self) -> Result<&dyn NativeRotator> {
        self.hooks.rotator.as_deref().ok_or_else(|| Error::unsupported(format!("`{}` has no API that replaces a secret", self.spec.id)))
    }

    fn tool(&self, name: &str) -> Result<&CompiledTool> {
        match self.tools.get(name) {
            Some(tool) => Ok(tool),
            None => self.spec.require(name).and(Err(Error::internal(format!("`{name}` is described but was not compiled")))),
        }
    }

    async fn call_http(&self, tool: &CompiledTool, http: &HttpTool, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let render = || {
            let args = Arguments::check(tool, &call.args, cx)?;
            render::render(http, &self.headers, cx, &args, call.cursor.as_ref())
        };
        let raw = self.exchange(cx, render).await?;
        self.understand(http, cx, &call, raw)
    }

    async fn dispatch(&self, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let tool = self.tool(&call.operation)?;
        if let Some(guard) = self.hooks.guard {
            guard(cx, &call.operation)?;
        }
        match &tool.door {
            Door::Native(native) => {
                Arguments::check(tool, &call.args, cx)?;
                native.call(self, cx, call).await
            }
            Door::Http(http) => {
                let call = http.prepared(tool, cx, call)?;
                match &http.split {
                    Some(split) if call.args.get(&split.by).and_then(Value::as_array).is_some_and(|items| items.len() > split.max) => {
                        self.call_split(tool, http, split, cx, call).await
                    }
                    _ => self.call_http(tool, http, cx, call).await,
                }
            }
        }
    }
}

#[async_trait]
impl Connector for Engine {
    fn spec(&self) -> &Arc<ConnectorSpec> {
        &self.spec
    }

    async fn call(&self, cx: &CallCx, call: OpCall) -> Result<OpReply> {
        let operation = call.operation.clone();
        self.dispatch(cx, call).await.map_err(|error| error.at(&self.spec.id, &operation))
    }

    async fn lifecycle(&self, cx: &CallCx, event: Lifecycle) -> Result<()> {
        if let (Lifecycle::Check, Some(probe)) = (event, &self.manifest.probe) {
            self.call_value(cx, &probe.tool, Value::Object(probe.args.clone())).await?;
        }
        Ok(())
    }

    fn webhook(&self) -> Option<&dyn WebhookVerifier> {
        self.hooks.webhook.as_deref()
    }

    fn delta(&self) -> Option<&dyn DeltaSource> {
        self.hooks.delta.is_some().then_some(self)
    }

    fn rotator(&self) -> Option<&dyn Rotator> {
        self.hooks.rotator.is_some().then_some(self as &dyn Rotator)
    }
}

#[async_trait]
impl Rotator for Engine {
    async fn issue(&self, cx: &CallCx, _: &dyn Connector, current: &Credential) -> Result<Issued> {
        self.rotates()?.issue(self, cx, current).await
    }

    async fn retire(&self, cx: &CallCx, _: &dyn Connector, old: &Credential) -> Result<()> {
        self.rotates()?.retire(self, cx, old).await
    }
}

#[async_trait]
impl DeltaSource for Engine {
    async fn changes(&self, cx: &CallCx, stream: &str, cursor: Option<Cursor>) -> Result<DeltaPage> {
        match &self.hooks.delta {
            Some(delta) => delta.changes(self, cx, stream, cursor).await,
            None => Err(Error::unsupported(format!("`{}` has no streams that can be followed", self.spec.id))),
        }
    }
}

/// The headers a way to authenticate fills.
fn auth_headers(auth: &connector_core::spec::AuthSpec) -> Vec<String> {
    use connector_core::spec::AuthSpec;
    match auth {
        AuthSpec::ApiKey { header, .. } => vec![header.to_ascii_lowercase()],
        AuthSpec::Hmac(hmac) => {
            hmac.also.as_deref().map(auth_headers).unwrap_or_default().into_iter().chain([hmac.header.to_ascii_lowercase()]).collect()
        }
        AuthSpec::All { of, .. } => of.iter().flat_map(auth_headers).collect(),
        AuthSpec::None => Vec::new(),
        _ => vec!["authorization".into()],
    }
}

/// Stands in where an engine only describes and renders.
#[derive(Debug)]
struct NoTransport;

#[async_trait]
impl Transport for NoTransport {
    async fn send(&self, _: &CallCx, _: connector_core::transport::Request) -> Result<connector_core::transport::Response> {
        Err(Error::config("this connector was built without a transport; it can describe and render, but not call"))
    }
}
