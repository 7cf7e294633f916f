//! Where a vendor's own Rust comes in: native operations, a verifier, a delta source, per-item outcomes. Everything else is data.

use std::{collections::HashMap, fmt::Debug, sync::Arc};

use async_trait::async_trait;
use connector_core::{
    CallCx, Cursor, OpCall, OpReply, Result, connector::ItemError, credential::Credential, delta::DeltaPage, rotation::Issued,
    webhook::WebhookVerifier,
};
use serde_json::{Map, Value};

use super::{Engine, RenderedRequest};

/// An operation written in Rust because a request template cannot say it: several requests, a look before a write, an upload.
///
/// It makes its requests through [`Engine::call_value`], so each of them is limited, retried and counted like any other; such an operation
/// says `limit_class: composed` and takes no turn of its own. Requests through [`Engine::send_raw`] are sent as they are: an operation made of
/// those is limited and retried as a whole.
#[async_trait]
pub trait NativeOperation: Debug + Send + Sync + 'static {
    /// Carries it out.
    ///
    /// # Errors
    /// What its requests report; an ambiguous write it could not resolve is [`connector_core::ErrorKind::Unknown`].
    async fn call(&self, engine: &Engine, cx: &CallCx, call: OpCall) -> Result<OpReply>;

    /// What a call would send, for dry runs: arguments are checked as far as that goes without asking anybody, and nothing is sent or looked
    /// up. `None` (if not said): it makes several requests, which cannot be shown without making them.
    ///
    /// # Errors
    /// What is wrong with the arguments or the connection's settings.
    fn show(&self, cx: &CallCx, call: &OpCall) -> Result<Option<RenderedRequest>> {
        let _ = (cx, call);
        Ok(None)
    }
}

/// A source of changes written in Rust.
#[async_trait]
pub trait NativeDelta: Debug + Send + Sync + 'static {
    /// One page of changes; see [`connector_core::delta::DeltaSource::changes`].
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::CursorExpired`] if the cursor is no longer known.
    async fn changes(&self, engine: &Engine, cx: &CallCx, stream: &str, cursor: Option<Cursor>) -> Result<DeltaPage>;
}

/// A way to replace a secret through the vendor's API, written in Rust.
///
/// Its requests go through [`Engine::send_raw`], not through operations: what an operation gives can be seen, and this gives secrets. So
/// nothing is retried; see [`connector_core::rotation::Rotator`] for what is promised.
#[async_trait]
pub trait NativeRotator: Debug + Send + Sync + 'static {
    /// Asks for a successor of `current`; both work afterwards.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Unknown`] if a secret may have been issued that nobody has.
    async fn issue(&self, engine: &Engine, cx: &CallCx, current: &Credential) -> Result<Issued>;

    /// Makes the vendor forget `old`. Doing it twice does no harm.
    ///
    /// # Errors
    /// What the vendor reports.
    async fn retire(&self, engine: &Engine, cx: &CallCx, old: &Credential) -> Result<()>;
}

/// Reads the failed items out of a partly successful batch reply: the body and the arguments go in.
pub type PartialItems = fn(&Value, &Map<String, Value>) -> Vec<ItemError>;

/// Checks or rewrites the arguments of a tool before its request is rendered, also for a dry run. What it leaves must still be parameters of
/// the tool.
///
/// # Errors
/// [`connector_core::ErrorKind::Invalid`] that names the parameter and what would be accepted.
pub type Prepare = fn(&mut Map<String, Value>) -> Result<()>;

/// A look at a call before anything is sent: the context and the operation's name go in, a refusal comes out.
pub type Guard = fn(&CallCx, &str) -> Result<()>;

/// A vendor's hooks, by name.
#[derive(Debug, Clone, Default)]
pub struct Hooks {
    pub(super) native: HashMap<String, Arc<dyn NativeOperation>>,
    pub(super) prepare: HashMap<String, Prepare>,
    pub(super) webhook: Option<Arc<dyn WebhookVerifier>>,
    pub(super) delta: Option<Arc<dyn NativeDelta>>,
    pub(super) partial: Option<PartialItems>,
    pub(super) rotator: Option<Arc<dyn NativeRotator>>,
    pub(super) guard: Option<Guard>,
}

impl Hooks {
    /// No hooks: everything is data.
    pub fn new() -> Self {
        Self::default()
    }

    /// The operation that `native: NAME` means.
    #[must_use]
    pub fn native(mut self, name: &str, operation: impl NativeOperation) -> Self {
        self.native.insert(name.to_owned(), Arc::new(operation));
        self
    }

    /// The function that `prepare: NAME` means.
    #[must_use]
    pub fn prepare(mut self, name: &str, prepare: Prepare) -> Self {
        self.prepare.insert(name.to_owned(), prepare);
        self
    }

    /// The verifier of the vendor's webhooks.
    #[must_use]
    pub fn webhook(mut self, verifier: impl WebhookVerifier) -> Self {
        self.webhook = Some(Arc::new(verifier));
        self
    }

    /// The verifier, already shared.
    #[must_use]
    pub fn webhook_shared(mut self, verifier: Arc<dyn WebhookVerifier>) -> Self {
        self.webhook = Some(verifier);
        self
    }

    /// The source of the streams' changes.
    #[must_use]
    pub fn delta(mut self, source: impl NativeDelta) -> Self {
        self.delta = Some(Arc::new(source));
        self
    }

    /// How the vendor's API replaces the fields that the manifest calls `rotatable`.
    #[must_use]
    pub fn rotator(mut self, rotator: impl NativeRotator) -> Self {
        self.rotator = Some(Arc::new(rotator));
        self
    }

    /// What is refused before a request is made, for example what this kind of credential may never do.
    #[must_use]
    pub fn guard(mut self, guard: Guard) -> Self {
        self.guard = Some(guard);
        self
    }

    /// How failed items are read out of a partly successful batch, where a list of errors under one path is not enough.
    #[must_use]
    pub fn partial(mut self, items: PartialItems) -> Self {
        self.partial = Some(items);
        self
    }
}
