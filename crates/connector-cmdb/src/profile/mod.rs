//! What the neutral operations mean in one system, as data. `profiles/README.md` documents the keys.
//!
//! Owns the shape, and refuses placeholders nobody fills: a typing error in a profile must not become a request for a whole table.

mod check;
mod words;

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use connector_core::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::neutral::Kind;

pub(crate) use words::{At, Words};

/// A system.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    pub(crate) profile: String,
    pub(crate) name: String,
    #[serde(default)]
    #[allow(dead_code, reason = "for people who read the profile")]
    docs: String,
    pub(crate) ids: Ids,
    #[serde(default)]
    pub(crate) escape: Option<String>,
    pub(crate) times: Times,
    pub(crate) page: Page,
    pub(crate) probe: Probe,
    pub(crate) fields: Fields,
    /// Where a single record is in its reply.
    #[serde(default = "At::whole")]
    pub(crate) record: At,
    pub(crate) classes: Classes,
    /// The path of one record, from `{list}` and `{id}`.
    pub(crate) one: Words,
    /// Sent with every request for records.
    #[serde(default)]
    pub(crate) query: Query,
    pub(crate) search: Query,
    pub(crate) by_name: Query,
    pub(crate) by_ids: ByIds,
    pub(crate) relations: Vec<Rule>,
    pub(crate) owner: Owners,
    pub(crate) links: Links,
    pub(crate) create: Create,
    pub(crate) update: Update,
}

/// Query parameters; a value that is one placeholder for a list repeats its key.
pub(crate) type Query = BTreeMap<String, Words>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ids {
    pub(crate) style: IdStyle,
    pub(crate) format: IdFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum IdStyle {
    /// `dcim.device:7`: the system's ids are unique within a class only.
    Typed,
    /// The system's own id.
    Plain,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum IdFormat {
    Integer,
    Uuid,
    Hex32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Times {
    Rfc3339,
    /// `YYYY-MM-DD HH:MM:SS` in UTC.
    UtcSpace,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Page {
    pub(crate) items: At,
    #[serde(default)]
    pub(crate) total: Option<At>,
    #[serde(default)]
    pub(crate) total_header: Option<String>,
    pub(crate) limit: String,
    pub(crate) offset: String,
    pub(crate) size: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Probe {
    pub(crate) path: Words,
    #[serde(default)]
    pub(crate) query: Query,
    #[serde(default)]
    pub(crate) version: Option<At>,
}

#[derive(Debug, Deserialize)]
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
}

/// The classes in the order they are looked through.
#[derive(Debug)]
pub(crate) struct Classes(pub(crate) Vec<Class>);

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Class {
    #[serde(skip)]
    pub(crate) name: String,
    pub(crate) native: String,
    pub(crate) list: String,
    #[serde(default)]
    pub(crate) query: BTreeMap<String, String>,
    /// Looked through where no class is named; if none says so, all are.
    #[serde(default)]
    pub(crate) default: bool,
    pub(crate) creatable: bool,
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ByIds {
    pub(crate) query: Query,
    /// The most ids in one request.
    pub(crate) most: usize,
}

/// Records that are, or hold, relations.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// The class whose records hold the relation, or `list`.
    #[serde(default)]
    pub(crate) class: Option<String>,
    #[serde(default)]
    pub(crate) list: Option<String>,
    #[serde(default)]
    pub(crate) query: Query,
    pub(crate) from: RuleEnd,
    pub(crate) to: RuleEnd,
    /// Finds the records whose `from` is among `{ids}`.
    pub(crate) by_from: Query,
    /// Finds the records whose `to` is among `{ids}`.
    #[serde(default)]
    pub(crate) by_to: Option<Query>,
    /// There is no filter for that: read all records and compare names.
    #[serde(default)]
    pub(crate) scan: bool,
    #[serde(default)]
    pub(crate) kind: Option<Kind>,
    /// Where a record tells its kind, and what the words mean.
    #[serde(default)]
    pub(crate) native: Option<At>,
    #[serde(default)]
    pub(crate) kinds: BTreeMap<String, NativeKind>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NativeKind {
    pub(crate) kind: Kind,
    /// The record's `to` depends on its `from`.
    #[serde(default)]
    pub(crate) reverse: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleEnd {
    #[serde(default)]
    pub(crate) class: Option<String>,
    /// Where the record tells the native class.
    #[serde(rename = "type", default)]
    pub(crate) native_class: Option<At>,
    /// Where the id is; without it the name is looked up.
    #[serde(default)]
    pub(crate) id: Option<At>,
    #[serde(default)]
    pub(crate) name: Option<At>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Owners {
    pub(crate) requests: Vec<OwnerRequest>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OwnerRequest {
    pub(crate) path: Words,
    #[serde(default)]
    pub(crate) query: Query,
    pub(crate) items: At,
    pub(crate) id: At,
    pub(crate) name: At,
    #[serde(default)]
    pub(crate) role: Option<At>,
    #[serde(default)]
    pub(crate) role_is: Option<String>,
    #[serde(default)]
    pub(crate) email: Option<At>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Links {
    /// How a ticket's number becomes its id, where links need it.
    #[serde(default)]
    pub(crate) ticket: Option<TicketLookup>,
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TicketLookup {
    pub(crate) path: Words,
    pub(crate) query: Query,
    pub(crate) items: At,
    pub(crate) id: At,
    /// Must be the number that was asked for: an invalid query may give anything.
    pub(crate) is: At,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Verb {
    Post,
    Put,
    Patch,
    Delete,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Write {
    pub(crate) method: Verb,
    pub(crate) path: Words,
    #[serde(default)]
    pub(crate) query: Query,
    #[serde(default)]
    pub(crate) body: Value,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Create {
    pub(crate) method: Verb,
    pub(crate) path: Words,
    #[serde(default)]
    pub(crate) query: Query,
    #[serde(default)]
    pub(crate) body: Value,
    /// The system's attribute for the name.
    pub(crate) name: String,
    /// Where the reply has the new id.
    pub(crate) id: At,
    #[serde(default)]
    pub(crate) failed: Option<Failed>,
}

/// A failure inside a 200.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Failed {
    /// `true` there means it failed.
    pub(crate) at: At,
    pub(crate) code: At,
    /// Codes of failures that pass.
    #[serde(default)]
    pub(crate) transient: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Update {
    pub(crate) method: Verb,
    pub(crate) path: Words,
    pub(crate) body: Value,
    /// The header that makes the system refuse a lost update. Without one the record is read and compared first.
    #[serde(default)]
    pub(crate) if_unchanged: Option<IfUnchanged>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IfUnchanged {
    pub(crate) header: String,
    pub(crate) value: Words,
}

impl Profile {
    /// Reads a profile and checks it as a whole.
    pub(crate) fn parse(yaml: &str) -> Result<Self> {
        let profile: Self = serde_saphyr::from_str(yaml).map_err(|error| Error::config(format!("the CMDB profile cannot be read: {error}")))?;
        check::check(&profile).map_err(|what| Error::config(format!("CMDB profile `{}`: {what}", profile.profile)))?;
        Ok(profile)
    }

    /// The class of this neutral name.
    pub(crate) fn class(&self, name: &str) -> Result<&Class> {
        self.classes.0.iter().find(|class| class.name == name).ok_or_else(|| {
            let known = self.classes.0.iter().map(|class| class.name.as_str());
            let hint = match connector_core::suggest::nearest(name, known.clone()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there are {}", known.collect::<Vec<_>>().join(", ")),
            };
            Error::invalid(format!("{} has no class `{}`; {hint}", self.name, connector_core::redact::printable(name, 60)))
        })
    }

    /// The class the system calls so.
    pub(crate) fn native_class(&self, native: &str) -> Option<&Class> {
        self.classes.0.iter().find(|class| class.native == native)
    }

    /// The neutral name of what the system calls so; its own word where there is none.
    pub(crate) fn class_name(&self, native: &str) -> String {
        self.native_class(native).map_or(native, |class| &class.name).to_owned()
    }

    /// The classes to look through: the named one, the default ones, or all.
    pub(crate) fn look_through(&self, class: Option<&str>) -> Result<Vec<&Class>> {
        if let Some(name) = class {
            return Ok(vec![self.class(name)?]);
        }
        let chosen: Vec<&Class> = self.classes.0.iter().filter(|class| class.default).collect();
        Ok(if chosen.is_empty() { self.classes.0.iter().collect() } else { chosen })
    }
}

/// The profiles of this crate.
pub(crate) fn builtin() -> Result<Vec<Arc<Profile>>> {
    static ALL: LazyLock<Result<Vec<Arc<Profile>>>> = LazyLock::new(|| {
        [include_str!("../../profiles/netbox.yaml"), include_str!("../../profiles/servicenow.yaml")]
            .into_iter()
            .map(|yaml| Profile::parse(yaml).map(Arc::new))
            .collect()
    });
    ALL.clone()
}
