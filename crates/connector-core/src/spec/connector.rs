//! What a connector is as a whole.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde::Serialize;

use super::{AuthSpec, EventSpec, LimitSpec, OpSpec, StreamSpec, SubscriptionSpec, WebhookSpec, views::ViewSpec};
use crate::{error::ErrorKind, hash::BuildFolded};

/// How far the connector's operations have been shown to work. Said honestly: `verified_live` stays false until someone did it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Status {
    /// Works against our sandbox.
    pub sandbox: bool,
    /// Requests and replies match the vendor's published description.
    pub published_description: bool,
    /// Verified against the live vendor.
    pub verified_live: bool,
}

/// One row of the error table, for documentation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ErrorRow {
    /// What the row matches, in words (`status 429, policyName DAILY`).
    pub when: String,
    /// The class it gives.
    pub class: ErrorKind,
    /// What is done about it.
    pub action: String,
}

/// Everything there is to know about a connector without running it.
#[derive(Debug, Clone, Serialize)]
pub struct ConnectorSpec {
    /// Its id: crate suffix, feature, folder, tool prefix.
    pub id: Arc<str>,
    /// Its name for people.
    pub name: String,
    /// The version of its manifest (semver).
    pub version: String,
    /// What it links to, in a sentence.
    pub summary: String,
    /// The vendor's API documentation.
    pub docs: Option<String>,
    /// The vendor's API version.
    pub api_version: Option<String>,
    /// The public base URL, if there is one for everybody. May hold `{setting}` placeholders.
    pub base_url: Option<String>,
    /// The ways to authenticate, the preferred one first.
    pub auth: Vec<AuthSpec>,
    /// Credential fields that the connector replaces through the vendor's API ([`crate::rotation::Rotator`]); the others a person replaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rotatable: Vec<String>,
    /// The limit classes by name; `default` applies to operations that name none.
    pub limits: BTreeMap<Arc<str>, LimitSpec>,
    /// The error table.
    pub errors: Vec<ErrorRow>,
    /// How webhooks arrive.
    pub webhook: Option<WebhookSpec>,
    /// The kinds of events.
    pub events: Vec<EventSpec>,
    /// The syncable collections.
    pub streams: Vec<StreamSpec>,
    /// The kinds of subscriptions, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subscriptions: Vec<SubscriptionSpec>,
    /// The capability views it fulfils, by id ([`super::views`]).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub views: BTreeMap<Arc<str>, ViewSpec>,
    /// How far it has been shown to work.
    pub status: Status,
    operations: Vec<Arc<OpSpec>>,
    #[serde(skip)]
    index: HashMap<Arc<str>, usize, BuildFolded>,
}

impl ConnectorSpec {
    /// A spec with these operations and nothing else said. Set the public fields afterwards.
    pub fn new(id: &str, name: &str, version: &str, operations: Vec<OpSpec>) -> Self {
        let operations: Vec<Arc<OpSpec>> = operations.into_iter().map(Arc::new).collect();
        let index = operations.iter().enumerate().map(|(at, op)| (op.name.clone(), at)).collect();
        Self {
            id: id.into(),
            name: name.into(),
            version: version.into(),
            summary: String::new(),
            docs: None,
            api_version: None,
            base_url: None,
            auth: Vec::new(),
            rotatable: Vec::new(),
            limits: BTreeMap::new(),
            errors: Vec::new(),
            webhook: None,
            events: Vec::new(),
            streams: Vec::new(),
            subscriptions: Vec::new(),
            views: BTreeMap::new(),
            status: Status::default(),
            operations,
            index,
        }
    }

    /// The operations in the manifest's order.
    pub fn operations(&self) -> &[Arc<OpSpec>] {
        &self.operations
    }

    /// The operation of this name.
    pub fn operation(&self, name: &str) -> Option<&Arc<OpSpec>> {
        self.index.get(name).map(|at| &self.operations[*at])
    }

    /// The operation of this name, or an error that suggests the nearest.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if there is none.
    pub fn require(&self, name: &str) -> crate::Result<&Arc<OpSpec>> {
        self.operation(name).ok_or_else(|| {
            let hint = crate::suggest::nearest(name, self.operations.iter().map(|op| &*op.name))
                .map_or_else(|| "`tools` lists what there is".to_owned(), |near| format!("did you mean `{near}`?"));
            crate::Error::unsupported(format!("`{}` has no operation `{name}`; {hint}", self.id)).with_context("connector", &*self.id)
        })
    }
}
