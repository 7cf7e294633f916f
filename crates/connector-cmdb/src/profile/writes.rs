//! How a profile describes writing: ticket links, creates, changes, relations.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{At, Query, RuleEnd, Words};
use crate::neutral::Kind;

/// Links between tickets and items.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Links {
    /// How a ticket's number becomes its id, where links need it.
    #[serde(default)]
    pub(crate) ticket: Option<TicketLookup>,
    /// A ticket's number is this, where it is not looked up.
    #[serde(default)]
    pub(crate) ticket_is_integer: bool,
    #[serde(default)]
    pub(crate) list: String,
    #[serde(default)]
    pub(crate) query: Query,
    /// The text that makes a record a link, where the system has no tickets. `{ticket}` stands in it once.
    #[serde(default)]
    pub(crate) marker: Option<Words>,
    /// Where a record has that text.
    #[serde(default)]
    pub(crate) marked: Option<At>,
    /// Where a record tells the ticket, if it is no marker.
    #[serde(default)]
    pub(crate) ticket_at: Option<At>,
    /// Where a record tells the ticket's id: records of other tickets are left out, for systems that filter by likeness only.
    #[serde(default)]
    pub(crate) exactly: Option<At>,
    pub(crate) by_both: Query,
    pub(crate) by_ci: Query,
    pub(crate) by_ticket: Query,
    pub(crate) id: At,
    pub(crate) ci: RuleEnd,
    pub(crate) create: Write,
    pub(crate) remove: Write,
    /// Where the reply to a create has the new record.
    #[serde(default = "At::whole")]
    pub(crate) created: At,
}

/// How a ticket is found.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TicketLookup {
    #[serde(default = "Words::root")]
    pub(crate) path: Words,
    #[serde(default)]
    pub(crate) query: Query,
    pub(crate) items: At,
    pub(crate) id: At,
    /// Must be the number that was asked for: an invalid query may give anything.
    pub(crate) is: At,
    #[serde(default)]
    pub(crate) title: Option<At>,
    #[serde(default)]
    pub(crate) state: Option<At>,
}

/// The method of a write.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Verb {
    #[default]
    Post,
    Put,
    Patch,
    Delete,
}

/// A write.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Write {
    #[serde(default)]
    pub(crate) method: Verb,
    #[serde(default = "Words::root")]
    pub(crate) path: Words,
    #[serde(default)]
    pub(crate) query: Query,
    #[serde(default)]
    pub(crate) body: Value,
}

/// Creating an item.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Create {
    #[serde(default)]
    pub(crate) method: Verb,
    #[serde(default = "Words::root")]
    pub(crate) path: Words,
    #[serde(default)]
    pub(crate) query: Query,
    #[serde(default)]
    pub(crate) body: Value,
    /// The system's attribute for the name.
    pub(crate) name: String,
    /// The system's attribute for the serial number.
    #[serde(default)]
    pub(crate) serial: Option<String>,
    /// Where the reply has the new id.
    pub(crate) id: At,
    #[serde(default)]
    pub(crate) failed: Option<Failed>,
}

/// A failure inside a 200.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Failed {
    /// `true` there means it failed.
    pub(crate) at: At,
    pub(crate) code: At,
    /// Codes of failures that pass.
    #[serde(default)]
    pub(crate) transient: Vec<String>,
}

/// Changing an item.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Update {
    #[serde(default = "patch")]
    pub(crate) method: Verb,
    #[serde(default = "Words::root")]
    pub(crate) path: Words,
    #[serde(default)]
    pub(crate) body: Value,
    /// The reply is not the record; read it again.
    #[serde(default)]
    pub(crate) read_back: bool,
    /// The header that makes the system refuse a lost update. Without one the record is read and compared first.
    #[serde(default)]
    pub(crate) if_unchanged: Option<IfUnchanged>,
    /// The attributes that retire an item, and those that bring it back.
    #[serde(default)]
    pub(crate) retire: Option<Lifecycle>,
}

fn patch() -> Verb {
    Verb::Patch
}

/// How an item's life ends, and starts again. Items are never deleted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lifecycle {
    /// The attributes of a retired item.
    pub(crate) retired: Map<String, Value>,
    /// The attributes of one in use.
    pub(crate) active: Map<String, Value>,
    /// Neutral classes that have no such state.
    #[serde(default)]
    pub(crate) not_for: Vec<String>,
}

/// The header of an optimistic lock.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IfUnchanged {
    pub(crate) header: String,
    pub(crate) value: Words,
}

/// How a relation of one kind is made and removed. Filled: `{from}`, `{to}`, `{from_class}`, `{to_class}`, `{from_one}`, `{type}`, `{relation}`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Relate {
    pub(crate) kind: Kind,
    /// The neutral classes the ends may have; any if not said.
    #[serde(default)]
    pub(crate) from_class: Option<String>,
    #[serde(default)]
    pub(crate) to_class: Option<String>,
    /// What `{type}` is looked up by.
    #[serde(default)]
    pub(crate) lookup: Option<TypeLookup>,
    pub(crate) create: Write,
    /// Finds the record of a relation between `{from}` and `{to}`, where removing needs its id.
    #[serde(default)]
    pub(crate) record: Option<RelationRecord>,
    pub(crate) remove: Write,
}

/// Where the record of a relation is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RelationRecord {
    #[serde(default)]
    pub(crate) list: String,
    #[serde(default)]
    pub(crate) query: Query,
    pub(crate) id: At,
    /// Where it tells its ends; a record with others is left out.
    pub(crate) from: RuleEnd,
    pub(crate) to: RuleEnd,
}

/// How the system's id of a type of relation is found.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TypeLookup {
    pub(crate) path: Words,
    #[serde(default)]
    pub(crate) query: Query,
    pub(crate) items: At,
    pub(crate) id: At,
}
