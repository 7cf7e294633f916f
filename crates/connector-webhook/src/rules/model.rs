//! Rules as they are written in `hub.yaml`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One rule.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// Its name, unique; part of every effect's key, so renaming a rule lets it act again on events that are replayed.
    pub name: String,
    /// The kinds of events: `msgraph.message_received`, or several.
    #[serde(deserialize_with = "one_or_many")]
    pub on: Vec<String>,
    /// The tenant; `default` if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The workspaces whose events it is for; all of the tenant's if not said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workspaces: Vec<String>,
    /// What must hold of the event, all of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub when: Vec<ConditionConfig>,
    /// What to do, in this order.
    #[serde(rename = "do")]
    pub steps: Vec<StepConfig>,
    /// What a failed step means for the next ones.
    #[serde(default)]
    pub on_failure: OnFailure,
}

/// What must hold of the event.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConditionConfig {
    /// Where in the event's payload to look: `.from.address`.
    pub path: String,
    /// It is exactly this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<Value>,
    /// It is one of these.
    #[serde(rename = "in", default, skip_serializing_if = "Option::is_none")]
    pub one_of: Option<Vec<Value>>,
    /// It is there (`true`) or not (`false`). Null counts as not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exists: Option<bool>,
    /// It is a text that this regular expression finds something in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<String>,
}

/// One thing to do. Exactly one of `call`, `forward`, `push`, `invalidate` and `alert` is given. Texts may hold `{payload.…}`, `{event.…}`
/// (`id`, `type`, `connector`, `workspace`, `received_at`) and `{steps.NAME.…}`, the reply of an earlier step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepConfig {
    /// The tool to call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// The connection to call it over; needed only where several fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// Its parameters.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub params: Map<String, Value>,
    /// The name under which later steps find its reply.
    #[serde(rename = "as", default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The configured endpoint to forward the event to, signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward: Option<String>,
    /// The topic under which subscribers get the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<String>,
    /// What is forwarded or pushed instead of the payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
    /// Cache tags of the event's connector that are stale now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub invalidate: Vec<String>,
    /// What to tell the people in charge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<String>,
    /// How urgent the alert is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<AlertLevel>,
}

/// What a failed step means for the next ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// They wait: the event is tried again as a whole, and steps that are done are not repeated.
    #[default]
    Stop,
    /// They are done; the event is tried again for the failed one afterwards.
    Continue,
}

/// How urgent an alert is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names say it")]
pub enum AlertLevel {
    Info,
    #[default]
    Warning,
    Critical,
}

impl AlertLevel {
    /// `info`, `warning` or `critical`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Given::deserialize(deserializer)? {
        Given::One(one) => vec![one],
        Given::Many(many) => many,
    })
}

/// What a step's reply is kept under, by name.
pub(super) type Replies = BTreeMap<String, Value>;
