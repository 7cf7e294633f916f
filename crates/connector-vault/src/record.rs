//! The record of a credential as it lies in the store: JSON with envelopes in base64. Holds nothing that is not sealed.
//!
//! Owns what a rotation keeps and drops, and how a record stands. Refuses to open anything.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use connector_core::{Error, Result, TenantId, WorkspaceId, state::Entry, token::TokenState};
use serde::{Deserialize, Serialize};

use crate::{
    envelope::Envelope,
    info::{CredentialInfo, CredentialState, TokenInfo},
};

/// The format this code writes. A record that says more was written by a newer version and is left alone.
const FORMAT: u8 = 1;
/// Granted to every workspace of the tenant.
const ALL: &str = "*";
/// An end is near in the last fifth of a lifetime, and at most two weeks before.
const NEAR_SHARE: u64 = 5;
const NEAR_MOST_MS: u64 = 14 * 24 * 60 * 60 * 1000;

/// One version of one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// The credential's version in which the field got this value.
    pub(crate) version: u64,
    #[serde(with = "base64_bytes")]
    pub(crate) sealed: Vec<u8>,
}

impl Kept {
    /// The master key it is sealed under, as far as it can be read.
    pub(crate) fn key_id(&self) -> Option<&str> {
        Envelope::parse(&self.sealed).ok().map(|envelope| envelope.key_id())
    }
}

/// A record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) format: u8,
    pub(crate) version: u64,
    pub(crate) state: CredentialState,
    /// Each field's versions, the newest first: one, or two while an overlap lasts.
    pub(crate) fields: BTreeMap<String, Vec<Kept>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) connector: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scheme: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) workspaces: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) scopes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) owner: Option<String>,
    pub(crate) created_at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rotated_at: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<u64>,
    /// Seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rotate_every: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) previous: Option<Previous>,
}

/// The version before, as long as it is accepted too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Previous {
    pub(crate) version: u64,
    /// Unix milliseconds.
    pub(crate) until: u64,
}

impl Record {
    /// An empty record of this version.
    pub(crate) fn new(version: u64, now: u64) -> Self {
        Self { format: FORMAT, version, created_at: now, ..Self::default() }
    }

    pub(crate) fn to_bytes(&self) -> Result<Bytes> {
        serde_json::to_vec(self).map(Bytes::from).map_err(|_| Error::internal("a credential's record cannot be written as JSON"))
    }

    /// `None` if it is damaged or of a newer format.
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Self>(bytes).ok().filter(|record| record.format == FORMAT && record.fields.values().all(|kept| !kept.is_empty()))
    }

    pub(crate) fn is_revoked(&self) -> bool {
        self.state == CredentialState::Revoked
    }

    /// Whether a workspace may use it. The hub's own errands come without one.
    pub(crate) fn is_granted(&self, workspace: Option<&WorkspaceId>) -> bool {
        workspace.is_none_or(|workspace| self.workspaces.iter().any(|granted| granted == ALL || granted == workspace.as_str()))
    }

    /// The version that is accepted besides, now.
    pub(crate) fn previous_at(&self, now: u64) -> Option<Previous> {
        self.previous.filter(|previous| now < previous.until)
    }

    /// What each field was at a version: the newest value that is not younger.
    pub(crate) fn fields_at(&self, version: u64) -> impl Iterator<Item = (&str, &Kept)> {
        self.fields.iter().filter_map(move |(name, kept)| kept.iter().find(|kept| kept.version <= version).map(|kept| (name.as_str(), kept)))
    }

    /// Every envelope, with its field.
    pub(crate) fn envelopes(&self) -> impl Iterator<Item = (&str, &Kept)> {
        self.fields.iter().flat_map(|(name, kept)| kept.iter().map(move |kept| (name.as_str(), kept)))
    }

    /// Drops what is not accepted any more. `true`: something was dropped.
    pub(crate) fn prune(&mut self, now: u64) -> bool {
        if self.previous.is_none() || self.previous_at(now).is_some() {
            return false;
        }
        self.previous = None;
        self.fields.values_mut().for_each(|kept| kept.truncate(1));
        true
    }

    /// Puts new values of some fields in front, as version `next`. The version before stays until `until`, the one before that goes.
    pub(crate) fn succeed(&mut self, next: u64, fields: BTreeMap<String, Vec<u8>>, until: Option<u64>) {
        let before = self.version;
        for kept in self.fields.values_mut() {
            kept.truncate(1);
        }
        for (name, sealed) in fields {
            let kept = self.fields.entry(name).or_default();
            kept.insert(0, Kept { version: next, sealed });
            kept.truncate(if until.is_some() { 2 } else { 1 });
        }
        self.version = next;
        self.previous = until.map(|until| Previous { version: before, until });
    }

    /// Leaves the record that there was one, and nothing to open.
    pub(crate) fn destroy(&mut self) {
        self.version += 1;
        self.state = CredentialState::Revoked;
        self.fields.clear();
        self.previous = None;
        self.expires_at = None;
        self.rotate_every = None;
    }

    /// How it stands, by what it says itself.
    fn state_at(&self, now: u64, token: Option<&TokenInfo>) -> CredentialState {
        match self.state {
            CredentialState::Active if token.is_some_and(|token| token.state == TokenState::ReauthRequired) => CredentialState::ReauthRequired,
            CredentialState::Active if self.ends_soon(now) => CredentialState::Expiring,
            state => state,
        }
    }

    fn ends_soon(&self, now: u64) -> bool {
        let start = self.rotated_at.unwrap_or(self.created_at);
        let due = self.rotate_every.map(|seconds| start.saturating_add(seconds.saturating_mul(1000)));
        self.expires_at.into_iter().chain(due).any(|end| {
            let near = (end.saturating_sub(start) / NEAR_SHARE).min(NEAR_MOST_MS);
            now >= end.saturating_sub(near)
        })
    }

    /// What people may know.
    pub(crate) fn info(&self, tenant: &TenantId, name: &str, now: u64, token: Option<TokenInfo>) -> CredentialInfo {
        CredentialInfo {
            tenant: tenant.clone(),
            name: name.to_owned(),
            connector: self.connector.clone(),
            scheme: self.scheme.clone(),
            fields: self.fields.keys().cloned().collect(),
            state: self.state_at(now, token.as_ref()),
            version: self.version,
            workspaces: self.workspaces.clone(),
            scopes: self.scopes.clone(),
            owner: self.owner.clone(),
            created_at: self.created_at,
            rotated_at: self.rotated_at,
            expires_at: self.expires_at,
            rotate_every: self.rotate_every,
            previous_until: self.previous_at(now).map(|previous| previous.until),
            key_id: self.fields_at(self.version).filter_map(|(_, kept)| kept.key_id()).next().unwrap_or_default().to_owned(),
            token,
        }
    }
}

/// A record with its place in the store.
#[derive(Debug)]
pub(crate) struct Row {
    /// The store's version, for conditional writes.
    pub(crate) version: u64,
    /// `None`: damaged.
    pub(crate) record: Option<Record>,
}

impl Row {
    pub(crate) fn read(entry: &Entry) -> Self {
        Self { version: entry.version, record: Record::from_bytes(&entry.value) }
    }

    /// A version that no older reader can take for one it knows. The store's version grows at least as fast as the record's.
    pub(crate) fn next_version(&self) -> u64 {
        self.record.as_ref().map_or(self.version, |record| record.version) + 1
    }
}

/// Workspaces in order, each once; `*` makes the others superfluous.
pub(crate) fn workspaces(given: Vec<String>) -> Result<Vec<String>> {
    if let Some(bad) = given.iter().find(|name| name.is_empty() || name.len() > 128 || name.chars().any(char::is_control)) {
        return Err(Error::invalid(format!("`{}` is no workspace; name workspaces, or `*` for all", connector_core::redact::printable(bad, 40))));
    }
    if given.iter().any(|name| name == ALL) {
        return Ok(vec![ALL.to_owned()]);
    }
    Ok(given.into_iter().collect::<BTreeSet<_>>().into_iter().collect())
}

/// Whole seconds, at least one.
pub(crate) fn seconds(time: Duration) -> u64 {
    time.as_secs().max(1)
}

mod base64_bytes {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use base64::{Engine as _, prelude::BASE64_STANDARD};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        BASE64_STANDARD.decode(text.as_bytes()).map_err(|_| D::Error::custom("not base64"))
    }
}
