//! Wrappers around a connector: tracing, metrics, batching, retry, breaker, limits, timeout.
//!
//! State lives in the layer (and may be shared between layers through [`StackParts`]); the wrapped connectors are only
//! projections of it. [`stack`] is the one place that fixes the order.

mod batch;
mod breaker;
mod limit;
mod metrics;
mod path;
mod reconcile;
mod retry;
pub mod stack;
mod timeout;
mod trace;

use std::{fmt::Debug, sync::Arc};

use crate::{connector::Connector, transport::Transport};

pub use batch::BatchLayer;
pub use breaker::BreakerLayer;
pub use limit::LimitLayer;
pub use metrics::MetricsLayer;
pub use retry::RetryLayer;
pub use stack::StackParts;
pub use timeout::TimeoutLayer;
pub use trace::TraceLayer;

/// Something put around connectors or transports. Object-safe, so that programs can keep lists of them.
pub trait Layer: Debug + Send + Sync + 'static {
    /// Puts itself around a connector.
    fn apply(&self, inner: Arc<dyn Connector>) -> Arc<dyn Connector> {
        inner
    }

    /// Puts itself around a transport.
    fn apply_transport(&self, inner: Arc<dyn Transport>) -> Arc<dyn Transport> {
        inner
    }
}

/// Forwards what a wrapper does not change to its field `inner`; the spec, which every call asks for, is kept in the field
/// `spec`. Written out, so that a method added to
/// [`Connector`](crate::Connector) stops every wrapper from compiling until somebody decides what it means there.
macro_rules! forward_to_inner {
    () => {
        fn spec(&self) -> &std::sync::Arc<crate::spec::ConnectorSpec> {
            &self.spec
        }

        fn lifecycle<'life0, 'life1, 'async_trait>(
            &'life0 self,
            cx: &'life1 crate::context::CallCx,
            event: crate::connector::Lifecycle,
        ) -> std::pin::Pin<Box<dyn std::future::Future<Output = crate::error::Result<()>> + Send + 'async_trait>>
        where
            'life0: 'async_trait,
            'life1: 'async_trait,
            Self: 'async_trait,
        {
            self.inner.lifecycle(cx, event)
        }

        fn webhook(&self) -> Option<&dyn crate::webhook::WebhookVerifier> {
            self.inner.webhook()
        }

        fn delta(&self) -> Option<&dyn crate::delta::DeltaSource> {
            self.inner.delta()
        }

        fn rotator(&self) -> Option<&dyn crate::rotation::Rotator> {
            self.inner.rotator()
        }
    };
}
use forward_to_inner;
