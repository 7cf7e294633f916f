//! How a profile describes reading: ids, pages, records, classes, relations, owners, histories.

use std::collections::BTreeMap;

use connector_core::Result;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{At, Words};
use crate::neutral::Kind;

/// Query parameters, or members of the body where everything is a POST (dots nest). A value that is one placeholder for a list repeats its key.
pub(crate) type Query = BTreeMap<String, Words>;

/// What ids look like.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ids {
    pub(crate) style: IdStyle,
    pub(crate) format: IdFormat,
}

/// Whether an id tells the class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum IdStyle {
    /// `dcim.device:7`: the system's ids are unique within a class only.
    Typed,
    /// The system's own id.
    Plain,
}

/// The form of the system's own id. Nothing else passes as an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum IdFormat {
    /// Digits.
    Integer,
    /// 36 characters with dashes.
    Uuid,
    /// 32 hexadecimal digits.
    Hex32,
    /// Up to 64 letters, digits, dots, dashes and underscores.
    Token,
}

/// How the system writes times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Times {
    /// `2026-11-21T12:00:00Z`.
    Rfc3339,
    /// `YYYY-MM-DD HH:MM:SS` in UTC.
    UtcSpace,
}

/// Lists and their pages. Of `offset`, `range` and `number` at most one; with none of them a list is one page.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Page {
    /// Where the list is.
    pub(crate) items: At,
    /// No list at all means an empty one.
    #[serde(default)]
    pub(crate) absent_is_empty: bool,
    /// Where the reply tells how many there are.
    #[serde(default)]
    pub(crate) total: Option<At>,
    /// The header that tells it, as a number or after a slash (`Content-Range: 0-49/200`).
    #[serde(default)]
    pub(crate) total_header: Option<String>,
    /// The parameter for the size of a page.
    #[serde(default)]
    pub(crate) limit: Option<String>,
    /// The parameter for the number of rows to skip.
    #[serde(default)]
    pub(crate) offset: Option<String>,
    /// The parameter for both ends at once, `0-49`.
    #[serde(default)]
    pub(crate) range: Option<String>,
    /// The parameter for the number of the page, from 1.
    #[serde(default)]
    pub(crate) number: Option<String>,
    /// The most rows in a page.
    pub(crate) size: usize,
    /// Codes of errors that mean: there are no more rows.
    #[serde(default)]
    pub(crate) end_codes: Vec<String>,
}

/// The cheapest request that proves address and credential.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Probe {
    #[serde(default = "Words::root")]
    pub(crate) path: Words,
    #[serde(default)]
    pub(crate) query: Query,
    /// Where the system's version is.
    #[serde(default)]
    pub(crate) version: Option<At>,
}

/// Where a record has what.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fields {
    pub(crate) id: At,
    #[serde(default)]
    pub(crate) class: Option<At>,
    pub(crate) name: At,
    #[serde(default)]
    pub(crate) status: Option<At>,
    #[serde(default)]
    pub(crate) serial: Option<At>,
    #[serde(default)]
    pub(crate) ips: Vec<At>,
    #[serde(default)]
    pub(crate) owner: Option<At>,
    #[serde(default)]
    pub(crate) updated_at: Option<At>,
    #[serde(default)]
    pub(crate) url: Option<At>,
    /// Where attributes are that can be written, for comparing before a write.
    #[serde(default = "At::whole")]
    pub(crate) attributes: At,
}

/// The classes in the order they are looked through.
#[derive(Debug, JsonSchema)]
#[schemars(transparent)]
pub(crate) struct Classes(#[schemars(with = "BTreeMap<String, Class>")] pub(crate) Vec<Class>);

/// A class.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Class {
    #[serde(skip)]
    pub(crate) name: String,
    /// The system's word.
    pub(crate) native: String,
    /// The path of its list.
    #[serde(default)]
    pub(crate) list: String,
    /// Fixed parameters of its list.
    #[serde(default)]
    pub(crate) query: BTreeMap<String, String>,
    /// Looked through where no class is named; if none says so, all are.
    #[serde(default)]
    pub(crate) default: bool,
    /// Whether items of it can be created.
    pub(crate) creatable: bool,
    /// What it is, for people.
    pub(crate) doc: String,
}

impl<'de> Deserialize<'de> for Classes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut classes = Vec::new();
        for (name, class) in Map::<String, Value>::deserialize(deserializer)? {
            let class: Class = serde_json::from_value(class).map_err(|error| serde::de::Error::custom(format!("class `{name}`: {error}")))?;
            classes.push(Class { name, ..class });
        }
        Ok(Self(classes))
    }
}

/// Finding items by address.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IpLookup {
    /// Filled: `{ip}`.
    pub(crate) query: Query,
    /// The path of a list of addresses, where items have none themselves.
    #[serde(default)]
    pub(crate) list: Option<String>,
    /// Where an address tells whose it is.
    #[serde(default)]
    pub(crate) ends: Vec<RuleEnd>,
}

/// Asking for several items by id.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ByIds {
    /// Filled: `{ids}`.
    pub(crate) query: Query,
    /// The most ids in one request.
    pub(crate) most: usize,
}

/// Records that are, or hold, relations. `from` depends on `to`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// The class whose records hold the relation, or `list`.
    #[serde(default)]
    pub(crate) class: Option<String>,
    /// The path of the records.
    #[serde(default)]
    pub(crate) list: Option<String>,
    #[serde(default)]
    pub(crate) query: Query,
    /// The reply has a map from each item to a list of others at this place. A record is then `{source, target}`: the key and one of its list.
    #[serde(default)]
    pub(crate) edges: Option<At>,
    pub(crate) from: RuleEnd,
    pub(crate) to: RuleEnd,
    /// Finds the records whose `from` is among `{ids}`.
    #[serde(default)]
    pub(crate) by_from: Query,
    /// Finds the records whose `to` is among `{ids}`.
    #[serde(default)]
    pub(crate) by_to: Option<Query>,
    /// There is no filter for `to`: read all records and compare names.
    #[serde(default)]
    pub(crate) scan: bool,
    /// There is no filter at all: read all records once and look for ids in them.
    #[serde(default)]
    pub(crate) whole: bool,
    /// What the relation means, or `native`.
    #[serde(default)]
    pub(crate) kind: Option<Kind>,
    /// Where a record tells its kind, and what the words mean.
    #[serde(default)]
    pub(crate) native: Option<At>,
    #[serde(default)]
    pub(crate) kinds: BTreeMap<String, NativeKind>,
}

/// What the system's word for a relation means.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NativeKind {
    pub(crate) kind: Kind,
    /// The record's `to` depends on its `from`.
    #[serde(default)]
    pub(crate) reverse: bool,
}

/// One end of a relation, or of a link.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleEnd {
    /// The neutral class.
    #[serde(default)]
    pub(crate) class: Option<String>,
    /// Where the record tells the native class.
    #[serde(rename = "type", default)]
    pub(crate) native_class: Option<At>,
    /// Where the id is; without it the name is looked up.
    #[serde(default)]
    pub(crate) id: Option<At>,
    /// Where class and id are in one text, `Server::12`. Ends of classes the profile does not know are left out.
    #[serde(rename = "ref", default)]
    pub(crate) reference: Option<At>,
    #[serde(default)]
    pub(crate) name: Option<At>,
}

/// Who is responsible for an item.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Owners {
    #[serde(default)]
    pub(crate) requests: Vec<OwnerRequest>,
    /// Finds the items of `{owner}`.
    #[serde(default)]
    pub(crate) owned_by: Option<Query>,
}

/// One request that tells owners.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OwnerRequest {
    #[serde(default = "Words::root")]
    pub(crate) path: Words,
    #[serde(default)]
    pub(crate) query: Query,
    pub(crate) items: At,
    #[serde(default)]
    pub(crate) id: Option<At>,
    pub(crate) name: At,
    #[serde(default)]
    pub(crate) role: Option<At>,
    #[serde(default)]
    pub(crate) role_is: Option<String>,
    #[serde(default)]
    pub(crate) email: Option<At>,
}

/// What was done to an item, newest first if the system says so.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct History {
    /// The path; filled: `{one}`, `{id}`, `{native_class}`.
    #[serde(default = "Words::root")]
    pub(crate) list: Words,
    #[serde(default)]
    pub(crate) query: Query,
    pub(crate) id: At,
    pub(crate) at: At,
    #[serde(default)]
    pub(crate) actor: Option<At>,
    #[serde(default)]
    pub(crate) action: Option<At>,
    #[serde(default)]
    pub(crate) before: Option<At>,
    #[serde(default)]
    pub(crate) after: Option<At>,
}
