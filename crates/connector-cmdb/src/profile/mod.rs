//! What the neutral operations mean in one system, as data. `profiles/README.md` and `docs/guide/cmdb.md` document the keys.
//!
//! Owns the shape, and refuses placeholders nobody fills: a typing error in a profile must not become a request for a whole table.

mod check;
mod reads;
mod wire;
mod words;
mod writes;

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use connector_core::{Error, Result};
use schemars::JsonSchema;
use serde::Deserialize;

pub(crate) use reads::{ByIds, Class, Classes, Fields, History, IdFormat, IdStyle, Ids, IpLookup, Owners, Page, Probe, Query, Rule, RuleEnd, Times};
pub(crate) use wire::{Session, Wire, WireError, WireKind};
pub(crate) use words::{At, Words};
pub(crate) use writes::{Create, Lifecycle, Links, Relate, Update, Verb, Write};

/// A system.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    /// The id that connections name.
    pub(crate) profile: String,
    /// The name for people.
    pub(crate) name: String,
    /// The vendor's page.
    #[serde(default)]
    #[allow(dead_code, reason = "for people who read the profile")]
    docs: String,
    /// What people should know before they rely on it.
    #[serde(default)]
    pub(crate) notes: String,
    /// Settings of the connection that texts may use as placeholders, with their defaults.
    #[serde(default)]
    pub(crate) settings: BTreeMap<String, String>,
    /// Where everything is posted to one address.
    #[serde(default)]
    pub(crate) wire: Option<Wire>,
    /// Where the credential is exchanged for a session.
    #[serde(default)]
    pub(crate) session: Option<Session>,
    pub(crate) ids: Ids,
    /// The rule for values inside query texts: `sysparm`, `oql_string`.
    #[serde(default)]
    pub(crate) escape: Option<String>,
    pub(crate) times: Times,
    pub(crate) page: Page,
    pub(crate) probe: Probe,
    pub(crate) fields: Fields,
    /// Texts that stand for nothing (`"0"` in GLPI).
    #[serde(default)]
    pub(crate) nothing: Vec<String>,
    /// Maps in answers that are lists of their values.
    #[serde(default)]
    pub(crate) maps: Vec<At>,
    /// Where a single record is in its reply.
    #[serde(default = "At::whole")]
    pub(crate) record: At,
    pub(crate) classes: Classes,
    /// The path of one record, from `{list}`, `{native_class}` and `{id}`.
    #[serde(default = "Words::root")]
    pub(crate) one: Words,
    /// Sent with the request for one record.
    #[serde(default)]
    pub(crate) one_query: Query,
    /// Sent with every request for records.
    #[serde(default)]
    pub(crate) query: Query,
    /// Finds records by `{text}`.
    pub(crate) search: Query,
    /// Records whose name does not contain the text are left out: the system's search is wider, or takes wildcards.
    #[serde(default)]
    pub(crate) search_is_in_name: bool,
    /// Finds records by `{name}`, or `{names}`.
    pub(crate) by_name: Query,
    /// Finds records by `{serial}`.
    #[serde(default)]
    pub(crate) by_serial: Option<Query>,
    /// Finds records by `{ip}`.
    #[serde(default)]
    pub(crate) by_ip: Option<IpLookup>,
    /// Finds all records of a class.
    #[serde(default)]
    pub(crate) all: Query,
    /// Finds records changed since `{since}`, a time of the system, oldest first.
    #[serde(default)]
    pub(crate) changed_since: Option<Query>,
    pub(crate) by_ids: ByIds,
    pub(crate) relations: Vec<Rule>,
    /// How relations are made and removed.
    #[serde(default)]
    pub(crate) relate: Vec<Relate>,
    pub(crate) owner: Owners,
    #[serde(default)]
    pub(crate) history: Option<History>,
    pub(crate) links: Links,
    pub(crate) create: Create,
    pub(crate) update: Update,
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

    /// Whether records are read by a request of their own, or by a list with one row.
    pub(crate) fn reads_one_by_query(&self) -> bool {
        self.wire.is_some()
    }
}

/// The profiles of this crate.
pub(crate) fn builtin() -> Result<Vec<Arc<Profile>>> {
    static ALL: LazyLock<Result<Vec<Arc<Profile>>>> = LazyLock::new(|| {
        [
            include_str!("../../profiles/netbox.yaml"),
            include_str!("../../profiles/servicenow.yaml"),
            include_str!("../../profiles/glpi.yaml"),
            include_str!("../../profiles/itop.yaml"),
            include_str!("../../profiles/valuemation.yaml"),
        ]
        .into_iter()
        .map(|yaml| Profile::parse(yaml).map(Arc::new))
        .collect()
    });
    ALL.clone()
}

/// The JSON Schema of a profile, for editors.
pub(crate) fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(Profile).to_value();
    if let Some(map) = schema.as_object_mut() {
        map.insert("title".into(), "CMDB profile of connectors".into());
    }
    schema
}
