//! From a proven body to its events: where they are, what they are called, what is unique about them.
//!
//! Payloads are slices of the body wherever the path allows, so numbers keep every digit the vendor sent.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::SystemTime};

use bytes::Bytes;
use connector_core::{
    error::{Error, Result},
    spec::EventSpec,
    webhook::IncomingEvent,
};
use connector_manifest::{model::Webhook, select::Path};
use serde_json::{Value, value::RawValue};

use super::{Proven, time};

/// The kind of an event that does not say what it is.
pub const UNKNOWN: &str = "unknown";

/// Finds the events of a delivery.
#[derive(Debug, Clone)]
pub struct EventReader {
    events_at: Path,
    event_id: Vec<Path>,
    event_type: Path,
    occurred_at: Option<Path>,
    order_by: Option<Path>,
    kinds: Vec<Kind>,
}

/// A declared kind and what tells it from the others.
#[derive(Debug, Clone)]
struct Kind {
    name: Arc<str>,
    matches: Vec<(Path, Value)>,
}

impl EventReader {
    /// A reader for bodies as `webhook` describes them; `events` gives the names of kinds. What is not said is as usual for `scheme`.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] if a path is not one.
    pub fn new(webhook: &Webhook, events: &[EventSpec], scheme: &str) -> Result<Self> {
        let usual = Usual::of(scheme);
        let mut event_id: Vec<Path> = webhook.event_id.0.iter().map(|text| path(text)).collect::<Result<_>>()?;
        if event_id.is_empty() {
            event_id = usual.event_id.iter().map(|text| path(text)).collect::<Result<_>>()?;
        }
        let kinds = events
            .iter()
            .filter(|event| !event.matches.is_empty())
            .map(|event| {
                let matches = event.matches.iter().map(|(text, value)| Ok((path(text)?, value.clone()))).collect::<Result<_>>()?;
                Ok(Kind { name: event.name.clone(), matches })
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            events_at: path(&webhook.events_at)?,
            event_id,
            event_type: path(webhook.event_type.as_deref().unwrap_or(usual.event_type))?,
            occurred_at: webhook.occurred_at.as_deref().or(usual.occurred_at).map(path).transpose()?,
            order_by: webhook.order_by.as_deref().map(path).transpose()?,
            kinds,
        })
    }

    /// The events in `body`.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Invalid`] if the body is not JSON.
    pub fn read(&self, body: &Bytes, proven: &Proven) -> Result<Vec<IncomingEvent>> {
        let payloads = self.payloads(body)?;
        // The id of a delivery is the id of its event only if there is just one.
        let delivery_id = proven.delivery_id.as_ref().filter(|_| payloads.len() == 1);
        payloads.into_iter().map(|payload| self.event(payload, delivery_id)).collect()
    }

    fn payloads(&self, body: &Bytes) -> Result<Vec<Bytes>> {
        let slice = |raw: &RawValue| body.slice_ref(raw.get().as_bytes());
        if let Some(found) = raw_at(body, &self.events_at.to_string())? {
            return Ok(match found {
                None => Vec::new(),
                Some(raw) if raw.get().starts_with('[') => {
                    serde_json::from_str::<Vec<&RawValue>>(raw.get()).map_err(|error| not_json(&error))?.into_iter().map(slice).collect()
                }
                Some(raw) => vec![slice(raw)],
            });
        }
        let tree: Value = serde_json::from_slice(body).map_err(|error| not_json(&error))?;
        let written = |value: &Value| Bytes::from(value.to_string());
        Ok(match self.events_at.select(&tree) {
            Value::Null => Vec::new(),
            Value::Array(items) => items.iter().map(written).collect(),
            one => vec![written(&one)],
        })
    }

    fn event(&self, payload: Bytes, delivery_id: Option<&String>) -> Result<IncomingEvent> {
        let tree: Value = serde_json::from_slice(&payload).map_err(|error| not_json(&error))?;
        let declared = self.kinds.iter().find(|kind| kind.matches.iter().all(|(path, value)| path.get(&tree) == Some(value)));
        let event_type = match declared {
            Some(kind) => kind.name.clone(),
            None => self.event_type.text(&tree).map_or_else(|| UNKNOWN.into(), Arc::from),
        };
        Ok(IncomingEvent {
            id: self.id(&tree).or_else(|| delivery_id.cloned()),
            event_type,
            occurred_at: self.occurred_at.as_ref().and_then(|path| moment(path.get(&tree)?)),
            order_key: self.order_by.as_ref().and_then(|path| path.text(&tree)),
            payload,
        })
    }

    /// All parts joined; `None` if one is missing. Within a part the joint is escaped, so different parts never give the same id.
    fn id(&self, tree: &Value) -> Option<String> {
        match &self.event_id[..] {
            [] => None,
            [one] => one.text(tree),
            many => {
                let parts: Option<Vec<String>> =
                    many.iter().map(|path| path.text(tree).map(|part| part.replace('%', "%25").replace(':', "%3A"))).collect();
                parts.map(|parts| parts.join(":"))
            }
        }
    }
}

/// What a scheme's senders usually do, for what the manifest leaves out.
struct Usual {
    event_id: &'static [&'static str],
    event_type: &'static str,
    occurred_at: Option<&'static str>,
}

impl Usual {
    fn of(scheme: &str) -> Self {
        match scheme {
            // https://docs.slack.dev/apis/events-api
            "slack_v0" => Self { event_id: &[".event_id"], event_type: ".event.type // .type", occurred_at: Some(".event_time") },
            // https://docs.stripe.com/api/events/object
            "stripe" => Self { event_id: &[".id"], event_type: ".type", occurred_at: Some(".created") },
            "standard_webhooks" => Self { event_id: &[], event_type: ".type", occurred_at: Some(".timestamp") },
            // https://linear.app/developers/webhooks: the delivery's own id is in a header that the signature does not cover.
            "linear" => Self {
                event_id: &[".webhookId", ".type", ".action", ".data.id", ".data.updatedAt"],
                event_type: ".type",
                occurred_at: Some(".createdAt"),
            },
            // https://developers.notion.com/reference/webhooks
            "notion" => Self { event_id: &[".id"], event_type: ".type", occurred_at: Some(".timestamp") },
            // https://developer.zendesk.com/api-reference/webhooks/event-types/
            "zendesk" => Self { event_id: &[".id"], event_type: ".type", occurred_at: Some(".time") },
            // https://developer.atlassian.com/cloud/jira/platform/webhooks/: nothing in the body is an id, so its hash is.
            "jira" => Self { event_id: &[], event_type: ".webhookEvent", occurred_at: Some(".timestamp") },
            // https://netboxlabs.com/docs/netbox/integrations/webhooks/
            "netbox" => Self { event_id: &[], event_type: ".event", occurred_at: Some(".timestamp") },
            _ => Self { event_id: &[], event_type: ".event // .type", occurred_at: None },
        }
    }
}

fn path(text: &str) -> Result<Path> {
    Path::parse(text).map_err(Error::config)
}

fn not_json(error: &serde_json::Error) -> Error {
    Error::invalid("the body is not JSON").with_context("line", error.line().to_string()).with_context("column", error.column().to_string())
}

/// Follows a path of plain keys without building a tree. Outer `None`: the path is not that simple. Inner `None`: there is nothing there.
fn raw_at<'b>(body: &'b [u8], path: &str) -> Result<Option<Option<&'b RawValue>>> {
    let plain = |key: &&str| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    let keys: Vec<&str> = match path {
        "." => Vec::new(),
        _ => path.trim().trim_start_matches('.').split('.').collect(),
    };
    if !keys.iter().all(plain) {
        return Ok(None);
    }
    let mut raw: &RawValue = serde_json::from_slice(body).map_err(|error| not_json(&error))?;
    for key in keys {
        if !raw.get().starts_with('{') {
            return Ok(Some(None));
        }
        let mut entries: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(raw.get()).map_err(|error| not_json(&error))?;
        match entries.remove(key) {
            Some(inner) if inner.get() != "null" => raw = inner,
            _ => return Ok(Some(None)),
        }
    }
    Ok(Some(Some(raw)))
}

/// A time as vendors write it: Unix seconds or milliseconds as a number or digits, or RFC 3339.
pub(super) fn moment(value: &Value) -> Option<SystemTime> {
    match value {
        Value::Number(number) => number.as_u64().filter(|number| *number < 100_000_000_000_000).map(time::instant),
        Value::String(text) => time::parse(text).ok().or_else(|| text.parse::<jiff::Timestamp>().ok().map(SystemTime::from)),
        _ => None,
    }
}
