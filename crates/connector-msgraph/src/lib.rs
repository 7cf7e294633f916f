#![doc = include_str!("../README.md")]

mod config;
#[allow(clippy::redundant_field_names, reason = "generated code names every field")]
pub mod generated;
mod odd;

use std::sync::{Arc, LazyLock};

use connector_core::{CallCx, Client, Connector};
use connector_manifest::{Hooks, Manifest};

pub use config::{Builder, Config, connector};
pub use generated::{models, ops};
pub use odd::{
    notifications::ClientState,
    threading::{ThreadKey, base_subject, thread_key},
};

/// The connector's id.
pub const ID: &str = "msgraph";

/// A client of one Microsoft 365 connection. Its methods are in [`ops`]; operations known only at run time go through
/// [`MsGraph::client`]. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MsGraph {
    client: Client,
}

impl MsGraph {
    /// Starts to put a client together.
    pub fn builder(config: Config) -> Builder {
        Builder::new(config)
    }

    /// A client over a connector that is already layered and a context that names the connection.
    pub fn from_client(client: Client) -> Self {
        Self { client }
    }

    /// The connector and its context, for calls by name.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The same client in another context (actor, deadline, idempotency key).
    #[must_use]
    pub fn with_cx(&self, cx: CallCx) -> Self {
        Self { client: self.client.with_cx(cx) }
    }

    /// The connector.
    pub fn connector(&self) -> &Arc<dyn Connector> {
        self.client.connector()
    }
}

/// The connector's manifest, read once.
pub fn manifest() -> Arc<Manifest> {
    static MANIFEST: LazyLock<Arc<Manifest>> =
        LazyLock::new(|| Arc::new(Manifest::from_json(generated::SPEC).expect("generated/spec.json is what codegen wrote")));
    MANIFEST.clone()
}

/// What Rust adds to the manifest.
pub fn hooks() -> Hooks {
    use odd::{batch, categories, delta, large_upload, outgoing, reply_in_thread, send_message, subscriptions};
    Hooks::new()
        .native("reply_in_thread", reply_in_thread::ReplyInThread)
        .native("send_message", send_message::SendMessage)
        .native("send_draft", outgoing::SendDraft)
        .native("large_upload", large_upload::LargeUpload)
        .native("ensure_subscription", subscriptions::EnsureSubscription)
        .native("add_categories", categories::Categories::Add)
        .native("remove_categories", categories::Categories::Remove)
        .native("batch", batch::Batch)
        .native("get_messages", batch::Bulk::Get)
        .native("update_messages", batch::Bulk::Update)
        .native("move_messages", batch::Bulk::Move)
        .delta(delta::MailDelta)
        .webhook(ClientState::default())
}
