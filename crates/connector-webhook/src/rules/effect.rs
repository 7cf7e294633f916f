//! A rule at work on one event: its steps, filled one after the other as replies come in.

use std::{borrow::Cow, sync::Arc};

use connector_core::{
    context::{TenantId, WorkspaceId},
    error::{Error, Result},
    state::StoredEvent,
};
use connector_manifest::template::{Args, Tree, scalar};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    compile::{Act, Rule},
    model::{AlertLevel, OnFailure, Replies},
};
use crate::outbound;

/// Something to be done, filled. `key` is the same whenever the same step of the same rule is done for the same event.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Call a tool.
    Call {
        /// The tool.
        tool: Arc<str>,
        /// The connection, if the rule says one.
        connection: Option<String>,
        /// The parameters.
        params: Map<String, Value>,
        /// The idempotency key.
        key: String,
    },
    /// Send to a configured endpoint, signed, under the key as its id.
    Forward {
        /// The endpoint's name.
        endpoint: Arc<str>,
        /// `{"type","timestamp","data"}`.
        body: Value,
        /// The delivery's id.
        key: String,
    },
    /// Give to subscribers.
    Push {
        /// The topic.
        topic: String,
        /// What they get.
        data: Value,
        /// The key.
        key: String,
    },
    /// Drop cached replies of a connector.
    Invalidate {
        /// The connector.
        connector: Arc<str>,
        /// The tags.
        tags: Vec<String>,
    },
    /// Tell the people in charge.
    Alert {
        /// How urgent.
        level: AlertLevel,
        /// What.
        text: String,
        /// The key.
        key: String,
    },
}

/// What rules may know about an event.
#[derive(Debug, Clone)]
pub struct Facts {
    pub(super) tenant: TenantId,
    pub(super) workspace: WorkspaceId,
    pub(super) connector: Arc<str>,
    connection: Arc<str>,
    pub(super) event_type: Arc<str>,
    id: String,
    received_at: u64,
    /// `payload` and `event`, as placeholders name them.
    root: Value,
}

impl Facts {
    /// Reads a kept event.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Internal`] if its payload is not JSON, which the ingress does not let in.
    pub fn of(event: &StoredEvent) -> Result<Self> {
        let payload: Value = serde_json::from_slice(&event.payload).map_err(|_| Error::internal("a stored event is not JSON"))?;
        let known = json!({
            "id": event.event_id, "type": event.event_type, "connector": event.connector, "workspace": event.workspace, "received_at": event.received_at,
        });
        let root = Value::Object([("payload".to_owned(), payload), ("event".to_owned(), known)].into_iter().collect());
        Ok(Self {
            tenant: event.tenant.clone(),
            workspace: event.workspace.clone(),
            connector: event.connector.clone(),
            connection: event.connection.clone(),
            event_type: event.event_type.clone(),
            id: event.event_id.clone(),
            received_at: event.received_at,
            root,
        })
    }

    /// What the vendor sent.
    pub fn payload(&self) -> &Value {
        self.root.get("payload").unwrap_or(&Value::Null)
    }

    fn key(&self, rule: &str, step: usize) -> String {
        let mut hash = Sha256::new();
        for part in [self.tenant.as_str(), &self.connection, &self.id, rule, &step.to_string()] {
            // The length first: no two lists of parts give the same bytes.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        format!("rule_{}", hex::encode(&hash.finalize()[..20]))
    }
}

/// One rule at work on one event.
#[derive(Debug)]
pub struct Run<'r> {
    rule: &'r Rule,
    facts: &'r Facts,
    replies: Replies,
}

impl<'r> Run<'r> {
    pub(super) fn new(rule: &'r Rule, facts: &'r Facts) -> Self {
        Self { rule, facts, replies: Replies::new() }
    }

    /// The rule's name.
    pub fn rule(&self) -> &str {
        &self.rule.name
    }

    /// What a failed step means for the next ones.
    pub fn on_failure(&self) -> OnFailure {
        self.rule.on_failure
    }

    /// How many steps there are.
    pub fn len(&self) -> usize {
        self.rule.steps.len()
    }

    /// Whether there is nothing to do; a compiled rule has at least one step.
    pub fn is_empty(&self) -> bool {
        self.rule.steps.is_empty()
    }

    /// The key of step `at`: the same whenever it is done for the same event. What is known to be done is not done again under it.
    pub fn key(&self, at: usize) -> String {
        self.facts.key(&self.rule.name, at)
    }

    /// The name under which later steps find the reply of step `at`.
    pub fn name(&self, at: usize) -> Option<&str> {
        self.rule.steps.get(at)?.name.as_deref()
    }

    /// Keeps the reply of step `at` for the later ones, if it has a name.
    pub fn replied(&mut self, at: usize, reply: Value) {
        if let Some(name) = self.rule.steps.get(at).and_then(|step| step.name.clone()) {
            self.replies.insert(name, reply);
        }
    }

    /// The effect of step `at`.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Invalid`] if a text that must be whole (a topic, a cache tag) needs something that the event does not have.
    pub fn effect(&self, at: usize) -> Result<Effect> {
        let step = self.rule.steps.get(at).ok_or_else(|| Error::internal("a rule has fewer steps than asked for"))?;
        let key = self.key(at);
        let data = |tree: &Option<Tree>| tree.as_ref().map_or_else(|| self.facts.payload().clone(), |tree| self.fill(tree));
        Ok(match &step.act {
            Act::Call { tool, connection, params } => {
                let params = match self.fill(params) {
                    Value::Object(map) => map,
                    _ => Map::new(),
                };
                Effect::Call { tool: tool.clone(), connection: connection.clone(), params, key }
            }
            Act::Forward { endpoint, data: tree } => {
                let kind = format!("{}.{}", self.facts.connector, self.facts.event_type);
                Effect::Forward { endpoint: endpoint.clone(), body: outbound::envelope(&kind, self.facts.received_at, data(tree)), key }
            }
            Act::Push { topic, data: tree } => Effect::Push { topic: self.whole(topic)?, data: data(tree), key },
            Act::Invalidate { tags } => {
                let tags = tags.iter().map(|tag| self.whole(tag)).collect::<Result<_>>()?;
                Effect::Invalidate { connector: self.facts.connector.clone(), tags }
            }
            // Half an alert is better than none.
            Act::Alert { level, text } => {
                Effect::Alert { level: *level, text: text.fill(|name| Some(self.text(name).unwrap_or("–".into()))).unwrap_or_default(), key }
            }
        })
    }

    fn whole(&self, template: &connector_manifest::template::Template) -> Result<String> {
        template.fill(|name| self.text(name)).ok_or_else(|| {
            let lacking: Vec<&str> = template.placeholders().filter(|name| self.text(name).is_none()).collect();
            Error::invalid(format!("the rule `{}` needs `{}`, which this event does not have", self.rule.name, lacking.join("`, `")))
        })
    }

    fn fill(&self, tree: &Tree) -> Value {
        tree.filled(self).and_then(|filled| serde_json::to_value(filled).ok()).unwrap_or_default()
    }
}

impl Args for Run<'_> {
    fn value(&self, name: &str) -> Option<&Value> {
        let mut parts = name.split('.');
        let start = match parts.next()? {
            "steps" => self.replies.get(parts.next()?)?,
            first => self.facts.root.get(first)?,
        };
        parts
            .try_fold(start, |value, part| match value {
                Value::Object(map) => map.get(part),
                Value::Array(items) => items.get(part.parse::<usize>().ok()?),
                _ => None,
            })
            .filter(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        scalar(self.value(name)?)
    }
}
