//! A connector together with the context its calls are made in: what typed vendor clients wrap.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::{
    connector::{Connector, OpCall, OpReply},
    context::CallCx,
    error::Result,
    operation::{Call, Operation},
};

/// A connector bound to one connection. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    connector: Arc<dyn Connector>,
    cx: CallCx,
}

impl Client {
    /// Calls go through `connector` in the context `cx`.
    pub fn new(connector: Arc<dyn Connector>, cx: CallCx) -> Self {
        Self { connector, cx }
    }

    /// The connector.
    pub fn connector(&self) -> &Arc<dyn Connector> {
        &self.connector
    }

    /// The context calls are made in unless they say otherwise.
    pub fn cx(&self) -> &CallCx {
        &self.cx
    }

    /// The same connector in another context.
    #[must_use]
    pub fn with_cx(&self, cx: CallCx) -> Self {
        Self { connector: self.connector.clone(), cx }
    }

    /// A typed call.
    pub fn call<O: Operation>(&self, operation: O) -> Call<O> {
        Call::new(self, operation)
    }

    /// A call by name, for tools known only at run time.
    ///
    /// # Errors
    /// Whatever the connector reports, after the policy's retries.
    pub async fn call_dynamic(&self, operation: &str, args: Map<String, Value>) -> Result<OpReply> {
        self.connector.call(&self.cx, OpCall::new(operation, args)).await
    }
}

impl From<&Client> for Client {
    fn from(client: &Client) -> Self {
        client.clone()
    }
}
