//! A vendor's subscriptions as data: how one is made, renewed, found and ended, what its notices mean, and what closes a gap.
//!
//! Owns the words. Refuses to do anything: who keeps subscriptions alive reads this and calls the operations named here. Texts may hold
//! `{placeholders}`; which ones stands at each field.

use std::{collections::BTreeMap, str::FromStr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One kind of subscription (`messages`).
///
/// Placeholders everywhere: the kind's own parameters by name, `{resource}`, `{notification_url}`, `{lifecycle_url}`, `{secret}`, `{expires}`,
/// `{id}` (the vendor's id), `{ids}` (of all that are renewed together), `{new_id}` (a fresh UUID) and what [`CreateSpec::keep`] kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SubscriptionSpec {
    /// Its name within the connector.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub name: Arc<str>,
    /// What it tells about.
    pub doc: String,
    /// A person subscribes in the vendor's console; the hub only watches that events still come.
    #[serde(rename = "static", skip_serializing_if = "std::ops::Not::not")]
    pub by_hand: bool,
    /// What that person does, for `static`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// Silence after which a static subscription is reported. `None`: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiet_after: Option<Span>,
    /// What can be said about one of this kind.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, SubscriptionParam>,
    /// What is watched, as the vendor writes it; tells one subscription from another.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
    /// The life to ask for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<Span>,
    /// The longest life the vendor grants. `None`: it does not end by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_lifetime: Option<Span>,
    /// When to renew, counted from the last grant, where half of the granted life is not right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renew_at: Option<Span>,
    /// How the vendor writes the end of a life.
    #[serde(skip_serializing_if = "is_default")]
    pub expires_as: ExpiresAs,
    /// Whether the hub makes a secret for it (`{secret}`) that every notification then proves itself with.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
    /// Making one. Every kind but a static one has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create: Option<CreateSpec>,
    /// Renewing one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renew: Option<RenewSpec>,
    /// Finding what is there already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub list: Option<ListSpec>,
    /// Ending one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delete: Option<OpRef>,
    /// Confirming that the app may still see the resource, without a new end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reauthorize: Option<OpRef>,
    /// What the vendor's events about the subscription itself mean, by event name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub lifecycle: BTreeMap<String, LifecycleMeaning>,
    /// Where a stored event tells which subscription and which change it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<SubscriptionEvents>,
    /// What closes a gap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catch_up: Option<CatchUpSpec>,
}

/// A parameter of a kind of subscription.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SubscriptionParam {
    /// What it means.
    pub doc: String,
    /// Whether a subscription without it is refused.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// The value if it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// The connection's setting whose value is used if it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setting: Option<String>,
}

/// An operation and its arguments, texts with placeholders. An argument that is one placeholder without a value is left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpRef {
    /// The operation.
    pub tool: Arc<str>,
    /// Its arguments.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub args: Map<String, Value>,
}

/// Making a subscription.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateSpec {
    /// The operation.
    pub tool: Arc<str>,
    /// Its arguments.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub args: Map<String, Value>,
    /// Where the reply has the vendor's id.
    pub id: String,
    /// Where the reply has the granted end; absent: the asked one counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// More of the reply that later calls need, by placeholder name (`resource_id: .resourceId`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keep: BTreeMap<String, String>,
}

/// Renewing a subscription: by an operation, or by replacing it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RenewSpec {
    /// The operation; absent for [`RenewSpec::replace`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<Arc<str>>,
    /// Its arguments.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub args: Map<String, Value>,
    /// Where the reply has the granted end; absent: the asked one counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// There is no renewing: a new one is made, then the old one is ended.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub replace: bool,
    /// So many ids go into one call (`{ids}`). 0 or 1: each has its own.
    #[serde(skip_serializing_if = "is_default")]
    pub many: usize,
}

/// Finding the subscriptions that are there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListSpec {
    /// The operation; all its pages are read.
    pub tool: Arc<str>,
    /// Its arguments.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub args: Map<String, Value>,
    /// Where the reply lists them.
    pub items: String,
    /// Where one has its id.
    pub id: String,
    /// Where one has its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// One is ours if each of these paths holds this text (`.notificationUrl: "{notification_url}"`).
    pub ours: BTreeMap<String, String>,
    /// One of ours can stay if each of these holds as well; otherwise it is ended and made anew. Comma lists compare as sets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fits: BTreeMap<String, String>,
}

/// What an event about the subscription itself means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LifecycleMeaning {
    /// Access must be confirmed, or nothing more comes.
    Reauthorize,
    /// The vendor ended it: make a new one and close the gap.
    Removed,
    /// Notifications were lost: close the gap.
    Missed,
}

/// Where a stored event tells which subscription and which change it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubscriptionEvents {
    /// Where it has the vendor's id of the subscription.
    pub subscription: String,
    /// Where it has the record's key; absent where notifications only say "something changed".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Where it has the record's version (an ETag, a change key, a time).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The event of a new record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The event of a changed record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated: Option<String>,
    /// The event of a removed record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<String>,
}

/// What closes a gap. Placeholders beside the usual ones: `{key}`, `{version}` and `{change}` (`created`, `updated`, `deleted`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatchUpSpec {
    /// The stream of changes.
    pub stream: String,
    /// Where its records have the version that events carry as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The id an event would have had, had it come by webhook.
    pub event_id: String,
    /// The event's payload, in the shape of a webhook's.
    pub payload: Value,
}

/// How a vendor writes the end of a life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpiresAs {
    /// RFC 3339 in UTC.
    #[default]
    Rfc3339,
    /// Unix milliseconds.
    UnixMs,
    /// Unix seconds.
    UnixS,
}

/// A length of time, written as `45m`, `30d` or `90s`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a length of time; write a number and s, m, h or d, for example `45m`");
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, unit) = text.split_at(digits);
        let seconds: u64 = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        number.checked_mul(seconds).map(|seconds| Self(Duration::from_secs(seconds))).ok_or_else(wrong)
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        match span.0.as_secs() {
            s if s > 0 && s % 86_400 == 0 => format!("{}d", s / 86_400),
            s if s > 0 && s % 3_600 == 0 => format!("{}h", s / 3_600),
            s if s > 0 && s % 60 == 0 => format!("{}m", s / 60),
            s => format!("{s}s"),
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_and_write_as_text() {
        for text in ["7d", "4230m", "42h", "90s", "0s"] {
            assert_eq!(String::from(text.parse::<Span>().unwrap()), text);
        }
        assert_eq!(String::from("10080m".parse::<Span>().unwrap()), "7d");
        for text in ["", "7", "d", "7y", "-1d", "1.5h"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
