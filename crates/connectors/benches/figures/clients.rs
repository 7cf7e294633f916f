//! The two sides that are compared: a connector with its whole inner stack, and reqwest used directly.

use std::sync::Arc;

use connector_core::{
    CallCx, Client, Connection, Operation,
    credential::{Credential, MemoryCredentials},
    layer::StackParts,
    transport::Transport,
};
use connector_http::{Auth, AuthDeps, EgressPolicy, HttpTransport};
use connector_manifest::{Engine, Manifest, assemble};
use serde::{Deserialize, Serialize};

use crate::server::Server;

/// The token of every call.
pub(crate) const TOKEN: &str = "xoxb-0123456789-0123456789012-abcdefghijklmnopqrstuvwx";

/// A connector with one operation, of the shape of Slack's `chat.postMessage`. Its limits are never reached, but looked after.
const MANIFEST: &str = r#"
connector: bench
name: Bench
base_url: http://127.0.0.1
auth:
  - { type: bearer }
  - { type: oauth2, flow: client_credentials, token_url: "{token_url}", scopes: [read] }
settings:
  - { name: token_url, doc: Where tokens are. }
limits:
  default: { windows: ["4000000000/1s"], concurrent: 1000 }
errors:
  code: .error
  request_id_header: x-request-id
  inside_success: "!.ok"
tools:
  - name: bench_post_message
    doc: Post a message.
    method: POST
    path: /api/chat.postMessage
    body: { channel: "{channel}", text: "{text}" }
    repeat: natural
    params:
      - { name: channel, type: string, required: true, doc: The channel. }
      - { name: text, type: string, required: true, doc: The text. }
    returns: object
  - name: bench_throttled
    doc: Post a message to somebody busy.
    method: POST
    path: /throttled
    body: { channel: "{channel}", text: "{text}" }
    repeat: natural
    params:
      - { name: channel, type: string, required: true, doc: The channel. }
      - { name: text, type: string, required: true, doc: The text. }
    returns: object
"#;

/// Posts a message.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PostMessage {
    pub(crate) channel: String,
    pub(crate) text: String,
}

impl PostMessage {
    pub(crate) fn sample() -> Self {
        Self { channel: "C0123456789".into(), text: "Your ticket was created. An engineer looks at it shortly.".into() }
    }
}

impl Operation for PostMessage {
    type Output = Posted;
    const NAME: &'static str = "bench_post_message";
}

/// The same where one call in ten is refused.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub(crate) struct PostBusy(pub(crate) PostMessage);

impl Operation for PostBusy {
    type Output = Posted;
    const NAME: &'static str = "bench_throttled";
}

/// The reply.
#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "reading the fields is what is measured")]
pub(crate) struct Posted {
    pub(crate) ok: bool,
    channel: String,
    ts: String,
    message: Message,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "reading the fields is what is measured")]
struct Message {
    #[serde(rename = "type")]
    kind: String,
    text: String,
    ts: String,
    username: Option<String>,
    bot_id: Option<String>,
    app_id: Option<String>,
    team: Option<String>,
}

fn transport() -> Arc<dyn Transport> {
    Arc::new(HttpTransport::builder().egress(EgressPolicy::new().allow_loopback()).build().unwrap())
}

/// A client of `manifest` against the server, with every inner layer.
fn client(manifest: Arc<Manifest>, server: &str, credential: Credential) -> Client {
    let transport = transport();
    let store = Arc::new(MemoryCredentials::with("bench", credential));
    let auth = Auth::for_spec(&manifest.auth, store, AuthDeps::new(transport.clone()));
    let connection =
        Connection::new(&manifest.connector, server).unwrap().with_credential("bench").with_setting("token_url", format!("{server}/token"));
    let engine = Engine::builder(manifest).transport(transport).auth(auth).build().unwrap();
    Client::new(assemble(engine, &StackParts::default()), CallCx::new(Arc::new(connection)))
}

/// A client of the small connector with a fixed token.
pub(crate) fn posting(server: &Server) -> Client {
    client(manifest(), &server.base(), Credential::new([("token", TOKEN)]))
}

/// A client of the small connector that has to ask for a token first.
pub(crate) fn without_token(server: &Server) -> Client {
    client(manifest(), &server.base(), Credential::new([("client_id", "bench"), ("client_secret", "bench")]))
}

pub(crate) fn manifest() -> Arc<Manifest> {
    Arc::new(connector_manifest::parse("bench.yaml", MANIFEST).unwrap_or_else(|wrong| panic!("{wrong}")).manifest)
}

/// A client of the HubSpot connector with limits that do not slow it down.
pub(crate) fn hubspot(server: &str) -> Client {
    let mut manifest = Manifest::clone(&connector_hubspot::manifest());
    if let Some(limit) = manifest.limits.get_mut("default") {
        limit.windows = vec!["4000000000/1s".parse().unwrap(), "4000000000/1d".parse().unwrap()];
    }
    // The operations under test are requests; those written in Rust would need their hooks.
    manifest.tools.retain(|tool| tool.native.is_none());
    client(Arc::new(manifest), server, Credential::new([("token", TOKEN)]))
}

/// Reqwest as a program would use it that does everything itself.
#[allow(clippy::disallowed_methods, reason = "the baseline is what one gets without us")]
pub(crate) fn raw() -> reqwest::Client {
    // Whoever comes first sets it; the others find it there.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder().no_proxy().build().unwrap()
}
