//! A span around every call, and an event for every failure. Costs nothing while nobody listens.

use std::{future::Future, pin::Pin, sync::Arc};

use tracing::Instrument as _;

use super::{Layer, forward_to_inner};
use crate::{
    connector::{Connector, OpCall, OpReply},
    context::CallCx,
    error::Result,
    spec::ConnectorSpec,
};

/// Puts each call into a span `call` with connector, operation, tenant, connection and correlation id.
#[derive(Debug, Clone, Copy, Default)]
pub struct TraceLayer;

impl Layer for TraceLayer {
    fn apply(&self, inner: Arc<dyn Connector>) -> Arc<dyn Connector> {
        Arc::new(Traced { spec: inner.spec().clone(), inner })
    }
}

#[derive(Debug)]
struct Traced {
    spec: Arc<ConnectorSpec>,
    inner: Arc<dyn Connector>,
}

impl Connector for Traced {
    forward_to_inner!();

    // Written out, so that nothing is allocated while no subscriber wants the span.
    fn call<'life0, 'life1, 'async_trait>(
        &'life0 self,
        cx: &'life1 CallCx,
        call: OpCall,
    ) -> Pin<Box<dyn Future<Output = Result<OpReply>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        Self: 'async_trait,
    {
        let span = tracing::debug_span!(
            "call",
            connector = &*self.spec.id,
            operation = &*call.operation,
            tenant = cx.tenant().as_str(),
            connection = cx.connection.id.as_str(),
            correlation_id = &*cx.correlation_id,
        );
        if span.is_disabled() {
            return self.inner.call(cx, call);
        }
        let result = self.inner.call(cx, call);
        let traced = async move {
            let result = result.await;
            match &result {
                Ok(reply) => tracing::debug!(attempts = reply.meta.attempts, status = reply.meta.status, "call succeeded"),
                Err(error) => tracing::debug!(class = error.kind().as_str(), %error, "call failed"),
            }
            result
        };
        Box::pin(traced.instrument(span))
    }
}
