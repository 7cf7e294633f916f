//! Every layer forwards all five methods of a connector.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::SystemTime,
};

use async_trait::async_trait;
use common::{call, cx, every_kind, ok, op, parts, spec};
use connector_core::{
    CallCx, Connector, Cursor, Error, OpCall, OpReply, Result,
    connector::Lifecycle,
    delta::{DeltaPage, DeltaSource},
    layer::stack,
    spec::{BatchSpec, ConnectorSpec, Effect, Repeat},
    webhook::{Ingress, RawWebhook, WebhookVerifier},
};
use secrecy::SecretString;

/// Has everything a connector can have, and counts what reaches it.
#[derive(Debug)]
struct Whole {
    spec: Arc<ConnectorSpec>,
    calls: AtomicUsize,
    lifecycles: AtomicUsize,
}

#[async_trait]
impl Connector for Whole {
    fn spec(&self) -> &Arc<ConnectorSpec> {
        &self.spec
    }

    async fn call(&self, _cx: &CallCx, _call: OpCall) -> Result<OpReply> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        ok()
    }

    async fn lifecycle(&self, _cx: &CallCx, event: Lifecycle) -> Result<()> {
        assert_eq!(event, Lifecycle::Check);
        self.lifecycles.fetch_add(1, Ordering::SeqCst);
        Err(Error::config("seen"))
    }

    fn webhook(&self) -> Option<&dyn WebhookVerifier> {
        Some(self)
    }

    fn delta(&self) -> Option<&dyn DeltaSource> {
        Some(self)
    }

    fn rotator(&self) -> Option<&dyn connector_core::rotation::Rotator> {
        Some(self)
    }
}

#[async_trait]
impl connector_core::rotation::Rotator for Whole {
    async fn issue(
        &self,
        _cx: &CallCx,
        _connector: &dyn Connector,
        _current: &connector_core::credential::Credential,
    ) -> Result<connector_core::rotation::Issued> {
        Err(Error::config("seen"))
    }

    async fn retire(&self, _cx: &CallCx, _connector: &dyn Connector, _old: &connector_core::credential::Credential) -> Result<()> {
        Ok(())
    }
}

impl WebhookVerifier for Whole {
    fn scheme(&self) -> &'static str {
        "whole"
    }

    fn verify(&self, _request: &RawWebhook<'_>, _secrets: &[SecretString], _now: SystemTime) -> Result<Ingress> {
        Err(Error::config("verifier"))
    }
}

#[async_trait]
impl DeltaSource for Whole {
    async fn changes(&self, _cx: &CallCx, _stream: &str, _cursor: Option<Cursor>) -> Result<DeltaPage> {
        Err(Error::config("delta"))
    }
}

#[tokio::test(start_paused = true)]
async fn every_layer_forwards_all_five_methods() {
    let mut operations = every_kind();
    // With a batch declared, the batch layer wraps too.
    let mut get = op("x_get", Effect::Read, Repeat::Natural);
    get.batch = Some(BatchSpec {
        tool: "x_read".into(),
        by: "id".into(),
        max: 10,
        window_ms: 1,
        into: "ids".into(),
        input: None,
        items: ".".into(),
        key: ".id".into(),
        args: serde_json::Map::new(),
        share: Vec::new(),
    });
    operations.push(get);
    let mut wrappers = 0;
    for layer in stack::layers(&parts()) {
        let base = Arc::new(Whole { spec: Arc::new(spec(operations.clone())), calls: AtomicUsize::new(0), lifecycles: AtomicUsize::new(0) });
        let wrapped = layer.apply(base.clone());
        let name = format!("{layer:?}");
        wrappers += usize::from(!format!("{wrapped:?}").starts_with("Whole"));
        assert!(Arc::ptr_eq(wrapped.spec(), &base.spec), "{name}");
        wrapped.call(&cx(), call("x_read")).await.unwrap();
        assert_eq!(base.calls.load(Ordering::SeqCst), 1, "{name}");
        assert_eq!(wrapped.lifecycle(&cx(), Lifecycle::Check).await.unwrap_err().message(), "seen", "{name}");
        assert_eq!(base.lifecycles.load(Ordering::SeqCst), 1, "{name}");
        assert!(wrapped.rotator().is_some(), "{name} hides the rotator");
        let delta = wrapped.delta().unwrap_or_else(|| panic!("{name} hides the delta source"));
        assert_eq!(delta.changes(&cx(), "s", None).await.unwrap_err().message(), "delta", "{name}");
        assert_eq!(wrapped.webhook().map(WebhookVerifier::scheme), Some("whole"), "{name}");
    }
    assert_eq!(wrappers, 7);
}
