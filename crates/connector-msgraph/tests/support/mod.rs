//! What the tests against the fake share: a sandbox, a client of the app and a client of a signed-in person.
#![allow(dead_code, clippy::unwrap_used, reason = "support of tests: each uses its part, and a panic is the failure")]

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    CallCx, Result,
    auth::{AuthProvider, CredentialUse},
    layer::stack::StackParts,
    resilience::Resilience,
    transport::Head,
};
use connector_http::{EgressPolicy, HttpTransport};
use connector_msgraph::{Config, ID, MsGraph};
use connector_sandbox::{Sandbox, known};
use http::{HeaderValue, header};

/// A running fake.
pub(crate) async fn sandbox() -> Sandbox {
    Sandbox::builder().vendor(ID).start("127.0.0.1:0").await.unwrap()
}

/// How the fake is reached.
pub(crate) fn config(sandbox: &Sandbox) -> Config {
    Config {
        base_url: Some(sandbox.base_url(ID)),
        token_url: sandbox.token_url(ID),
        tenant_id: Some(known::GRAPH_TENANT.into()),
        mailbox: Some(known::GRAPH_MAILBOX.into()),
        ..Config::default()
    }
}

fn transport() -> Arc<HttpTransport> {
    Arc::new(HttpTransport::builder().egress(EgressPolicy::new().allow_loopback()).build().unwrap())
}

/// The published limits a thousand times over: what is proven here is not the waiting.
fn hasty() -> StackParts {
    let mut resilience = Resilience::standard();
    (resilience.limits.percent, resilience.limits.burst_percent) = (100_000, 100);
    StackParts::new(resilience)
}

/// The app itself.
pub(crate) fn app(sandbox: &Sandbox) -> MsGraph {
    MsGraph::builder(config(sandbox))
        .client_secret(known::GRAPH_CLIENT_ID, known::GRAPH_CLIENT_SECRET)
        .transport(transport())
        .resilience(hasty())
        .build()
        .unwrap()
}

/// A person who signed in and agreed to these permissions.
pub(crate) fn person(sandbox: &Sandbox, scopes: &[&str]) -> MsGraph {
    let mut config = config(sandbox);
    config.settings.insert("access".into(), "delegated".into());
    let token = sandbox.msgraph().delegated_token(scopes);
    MsGraph::builder(config).transport(transport()).auth(Arc::new(Bearer(token))).resilience(hasty()).build().unwrap()
}

/// No credential at all, for scripted answers.
#[derive(Debug)]
pub(crate) struct NoAuth;

#[async_trait]
impl AuthProvider for NoAuth {
    async fn authorize(&self, _: &CallCx, _: &mut Head, _: &Bytes) -> Result<CredentialUse> {
        Ok(CredentialUse::FIXED)
    }

    async fn rejected(&self, _: &CallCx, _: &CredentialUse) -> Result<bool> {
        Ok(false)
    }
}

/// A token that does not change.
#[derive(Debug)]
struct Bearer(String);

#[async_trait]
impl AuthProvider for Bearer {
    async fn authorize(&self, _: &CallCx, head: &mut Head, _: &Bytes) -> Result<CredentialUse> {
        let value = HeaderValue::from_str(&format!("Bearer {}", self.0)).unwrap();
        head.headers.insert(header::AUTHORIZATION, value);
        Ok(CredentialUse::FIXED)
    }

    async fn rejected(&self, _: &CallCx, _: &CredentialUse) -> Result<bool> {
        Ok(false)
    }
}
