//! Delivers an alert to one of those who hear of it: by a signed request, or by a tool.

use std::{borrow::Cow, time::Duration};

use async_trait::async_trait;
use connector_core::{Actor, Error, ErrorKind, Result, state::Job};
use connector_manifest::template::{Args, scalar};
use connector_webhook::{outbound, rules::RESERVED};
use serde_json::{Map, Value, json};

use super::{Alert, Parcel, delivery_id, sinks::To};
use crate::{
    CallOutcome, CallRequest, Role, Runtime,
    effects::{Attempt, EFFECT_TTL},
    forward::Sent,
};

/// How long a call may take.
const CALL_TIME: Duration = Duration::from_secs(30);

/// One delivery from the queue.
#[derive(Debug)]
pub(crate) struct AlertWork {
    pub(crate) runtime: Runtime,
}

/// What placeholders find of an alert.
struct Known(Map<String, Value>);

impl Known {
    fn of(alert: &Alert) -> Self {
        let Alert { tenant, workspace, kind, level, text, key } = alert;
        let known = json!({ "text": text, "kind": kind, "level": level, "id": key, "tenant": tenant, "workspace": workspace });
        Self(match known {
            Value::Object(known) => known,
            _ => Map::new(),
        })
    }
}

impl Args for Known {
    fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name.strip_prefix("alert.")?)
    }

    fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        self.value(name).and_then(scalar)
    }
}

#[async_trait]
impl Attempt for AlertWork {
    async fn attempt(&self, job: &Job) -> Result<()> {
        let parcel: Parcel =
            serde_json::from_slice(&job.payload).map_err(|error| Error::internal("a queued alert cannot be read").with_source(error))?;
        let inner = &self.runtime.0;
        let sink = inner.alerts.sinks().get(&parcel.sink);
        let sink = sink.ok_or_else(|| Error::config(format!("there is no alert `{}` under `alerts` of hub.yaml any more", parcel.sink)))?;
        let id = delivery_id(&parcel.alert, &sink.name);
        match &sink.to {
            To::Endpoint(endpoint) => {
                let data = Value::Object(Known::of(&parcel.alert).0);
                let body = outbound::envelope(&format!("alert.{}", parcel.alert.kind.as_str()), parcel.at, data).to_string();
                match inner.forward.send(endpoint, &id, body.into()).await? {
                    Sent::Taken => Ok(()),
                    Sent::Gone { since } => {
                        inner.alerts.raise(&inner.forward.gone(endpoint, since)?, Some(EFFECT_TTL)).await?;
                        Err(off(endpoint))
                    }
                    Sent::Off => Err(off(endpoint)),
                }
            }
            To::Call { tool, connection, params, tenant, workspace } => {
                let known = Known::of(&parcel.alert);
                let params = match params.filled(&known).and_then(|filled| serde_json::to_value(filled).ok()) {
                    Some(Value::Object(params)) => params,
                    _ => Map::new(),
                };
                let actor = Actor::Rule(format!("{RESERVED}{}", sink.name).into());
                let mut request = CallRequest::new(tool.as_str(), params)
                    .tenant(tenant.as_str())
                    .workspace(workspace.as_str())
                    .by(actor, Role::Operator)
                    .idempotency_key(id);
                request.connection.clone_from(connection);
                request.deadline = Some(CALL_TIME);
                // This queue is the one that tries again.
                request.queue = Some(false);
                match self.runtime.call(request).await? {
                    CallOutcome::PendingApproval { approval_id, .. } => {
                        let message = format!("telling somebody of an alert needs an approval (`{approval_id}`); let the policy allow `{tool}`");
                        Err(Error::new(ErrorKind::ApprovalRequired, message))
                    }
                    _ => Ok(()),
                }
            }
        }
    }
}

fn off(endpoint: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("endpoint `{endpoint}` is switched off, because it answered 410"))
}
