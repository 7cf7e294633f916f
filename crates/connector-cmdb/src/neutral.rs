//! The neutral shape of a CMDB: items, relations, walks and ticket links, whatever system they come from.
//!
//! One direction rule for all: `from` depends on `to`. If `to` fails, `from` is affected.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A configuration item.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Ci {
    pub(crate) id: String,
    pub(crate) system: String,
    pub(crate) native_id: String,
    pub(crate) class: String,
    pub(crate) native_class: String,
    pub(crate) name: String,
    pub(crate) status: Option<String>,
    pub(crate) serial: Option<String>,
    pub(crate) ips: Vec<String>,
    pub(crate) owner: Option<String>,
    pub(crate) updated_at: Option<String>,
    pub(crate) url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) attributes: Option<serde_json::Value>,
}

/// One end of a relation or link, as far as it is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct End {
    pub(crate) id: String,
    pub(crate) name: Option<String>,
    pub(crate) class: Option<String>,
}

/// What a relation means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    DependsOn,
    RunsOn,
    HostedOn,
    /// Has no direction.
    ConnectedTo,
    MemberOf,
    Other,
}

impl Kind {
    /// The name of this kind.
    pub(crate) fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or("other", |(name, _)| name)
    }

    /// The kinds by name.
    pub(crate) const ALL: [(&'static str, Self); 6] = [
        ("depends_on", Self::DependsOn),
        ("runs_on", Self::RunsOn),
        ("hosted_on", Self::HostedOn),
        ("connected_to", Self::ConnectedTo),
        ("member_of", Self::MemberOf),
        ("other", Self::Other),
    ];
}

/// `from` depends on `to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Relation {
    pub(crate) from: End,
    pub(crate) to: End,
    pub(crate) kind: Kind,
    pub(crate) native: Option<String>,
}

impl Serialize for Relation {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Flat<'a> {
            from: &'a str,
            to: &'a str,
            kind: Kind,
            native: Option<&'a str>,
            from_name: Option<&'a str>,
            to_name: Option<&'a str>,
            from_class: Option<&'a str>,
            to_class: Option<&'a str>,
        }
        let Self { from, to, kind, native } = self;
        Flat {
            from: &from.id,
            to: &to.id,
            kind: *kind,
            native: native.as_deref(),
            from_name: from.name.as_deref(),
            to_name: to.name.as_deref(),
            from_class: from.class.as_deref(),
            to_class: to.class.as_deref(),
        }
        .serialize(serializer)
    }
}

/// Which way to look along relations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// To what an item depends on.
    Dependencies,
    /// To what depends on it.
    Dependents,
}

/// A link between a ticket and an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct TicketLink {
    pub(crate) id: String,
    pub(crate) ticket: String,
    pub(crate) ci_id: String,
    pub(crate) ci_name: Option<String>,
    pub(crate) ci_class: Option<String>,
}
