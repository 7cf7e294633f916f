//! Where a vendor tells its errors, and what they mean. First match wins; what matches nothing falls back to the HTTP table.

use std::{borrow::Cow, collections::BTreeMap};

use connector_core::ErrorKind;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

use super::{DurationText, OneOrMany, is_default};

/// Where errors are told, and the table of meanings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Errors {
    /// Where an error body has the vendor's code; the first path that gives one wins.
    #[serde(default, skip_serializing_if = "OneOrMany::is_empty")]
    pub code: OneOrMany<String>,
    /// Where it has a text for people. Never used to decide anything.
    #[serde(default, skip_serializing_if = "OneOrMany::is_empty")]
    pub message: OneOrMany<String>,
    /// Where it has the request id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The response header that has the request id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id_header: Option<String>,
    /// A path that, if it is there (and not `false` or null) in a 2xx body, makes the reply an error (`.error`), or with `!` before it, if it is false (`!.ok`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inside_success: Option<String>,
    /// The rules, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub table: Vec<ErrorRule>,
}

impl Errors {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        is_default(self)
    }
}

/// One rule: all conditions must hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ErrorRule {
    /// The status, several, or a family (`4xx`).
    #[serde(default, skip_serializing_if = "OneOrMany::is_empty")]
    pub status: OneOrMany<StatusPattern>,
    /// The vendor's code, or several.
    #[serde(default, skip_serializing_if = "OneOrMany::is_empty")]
    pub code: OneOrMany<String>,
    /// Paths into the body and the values they must have (a list: any of them; `*`: anything).
    #[serde(rename = "where", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub conditions: BTreeMap<String, Value>,
    /// A part of the vendor's message, where the vendor gives nothing better to decide by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_contains: Option<String>,
    /// The class.
    #[schemars(schema_with = "crate::schema::error_class")]
    pub class: ErrorKind,
    /// `partial`: where the body lists the failed items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<String>,
    /// `throttled`, `quota`, `transient`: the least wait, if the reply names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<DurationText>,
    /// `throttled`, `quota`: until when, if the reply names no wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Until>,
    /// The write was certainly not carried out, so even an unsafe one may be sent again.
    #[serde(default, skip_serializing_if = "is_default")]
    pub not_done: bool,
    /// What a person should do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// Until when a vendor refuses.
#[derive(Debug, Clone, PartialEq)]
pub enum Until {
    /// Midnight of the account's time zone (connection setting `timezone`, UTC if absent).
    AccountMidnight,
    /// Midnight UTC.
    UtcMidnight,
    /// A response header with Unix seconds, seconds from now, or a date.
    Header(String),
}

impl Serialize for Until {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::AccountMidnight => serializer.serialize_str("account_midnight"),
            Self::UtcMidnight => serializer.serialize_str("utc_midnight"),
            Self::Header(name) => serializer.collect_str(&format_args!("header:{name}")),
        }
    }
}

impl<'de> Deserialize<'de> for Until {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        match &*text {
            "account_midnight" => Ok(Self::AccountMidnight),
            "utc_midnight" => Ok(Self::UtcMidnight),
            other => match other.strip_prefix("header:") {
                Some(name) if !name.is_empty() => Ok(Self::Header(name.to_owned())),
                _ => Err(de::Error::custom(format!("`{other}` is not an instant; accepted: account_midnight, utc_midnight, header:NAME"))),
            },
        }
    }
}

impl JsonSchema for Until {
    fn schema_name() -> Cow<'static, str> {
        "Until".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^(account_midnight|utc_midnight|header:.+)$" })
    }
}

/// A status, or a family of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusPattern {
    /// One status.
    Exact(u16),
    /// `4xx` is 4.
    Family(u16),
}

impl StatusPattern {
    /// Whether a status is meant.
    pub fn matches(self, status: u16) -> bool {
        match self {
            Self::Exact(exact) => exact == status,
            Self::Family(family) => status / 100 == family,
        }
    }
}

impl Serialize for StatusPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Exact(status) => serializer.serialize_u16(*status),
            Self::Family(family) => serializer.collect_str(&format_args!("{family}xx")),
        }
    }
}

impl<'de> Deserialize<'de> for StatusPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let wrong = || de::Error::custom(format!("{value} is not a status; write a number from 100 to 599 or a family such as `4xx`"));
        match &value {
            Value::Number(number) => number
                .as_u64()
                .and_then(|number| u16::try_from(number).ok())
                .filter(|status| (100..600).contains(status))
                .map(Self::Exact)
                .ok_or_else(wrong),
            Value::String(text) => {
                let family = text.strip_suffix("xx").and_then(|family| family.parse().ok()).filter(|family| (1..6).contains(family));
                family.map(Self::Family).ok_or_else(wrong)
            }
            _ => Err(wrong()),
        }
    }
}

impl JsonSchema for StatusPattern {
    fn schema_name() -> Cow<'static, str> {
        "StatusPattern".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "integer", "minimum": 100, "maximum": 599 }, { "type": "string", "pattern": "^[1-5]xx$" }] })
    }
}
