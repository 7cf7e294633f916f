//! The view `cmdb`: configuration items and how they hang together.

use async_trait::async_trait;
use connector_core::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Listing, Page, Source, View};

const VIEW: &str = "cmdb";

/// A configuration item.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Item {
    /// Its id.
    pub id: String,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What kind of thing it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Its status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Its serial number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Its network addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Who is responsible.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// When it was last changed, RFC 3339 in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<String>,
    /// Its page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What the vendor says besides, under its own names.
    pub custom: Map<String, Value>,
    /// Where it came from.
    pub source: Source,
}

/// How one item hangs on another.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Relation {
    /// The item that depends.
    pub from: String,
    /// The item it depends on.
    pub to: String,
    /// How: depends_on, runs_on, hosted_on, member_of, connected_to, other.
    pub kind: String,
    /// The name of the one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_name: Option<String>,
    /// The name of the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_name: Option<String>,
    /// What the vendor says besides, under its own names.
    pub custom: Map<String, Value>,
    /// Where it came from.
    pub source: Source,
}

/// An item that a walk came to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Affected {
    /// Its id.
    pub id: String,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What kind of thing it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// How many relations away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distance: Option<i64>,
    /// The item it was reached from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    /// What the vendor says besides, under its own names.
    pub custom: Map<String, Value>,
    /// Where it came from.
    pub source: Source,
}

/// Who is responsible for an item.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ItemOwner {
    /// The id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The name.
    pub name: String,
    /// As what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// E-mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// What the vendor says besides, under its own names.
    pub custom: Map<String, Value>,
    /// Where it came from.
    pub source: Source,
}

/// Configuration items and their relations, whoever keeps them.
///
/// Every method fails with [`connector_core::ErrorKind::Unsupported`], naming who can, if the connector does not do it or has no place for an
/// argument; otherwise with whatever the connector reports.
#[async_trait]
pub trait Cmdb: std::fmt::Debug + Send + Sync {
    /// Finds the item of exactly this name, in one class or in any.
    async fn find_item(&self, name: &str, class: Option<&str>) -> Result<Option<Item>>;
    /// Gets an item by id.
    async fn get_item(&self, id: &str) -> Result<Option<Item>>;
    /// Searches items by a piece of text.
    async fn search_items(&self, query: &str, class: Option<&str>, listing: Listing) -> Result<Page<Item>>;
    /// Lists the relations of an item: `dependencies`, `dependents` or, if not said, both.
    async fn list_relations(&self, id: &str, direction: Option<&str>) -> Result<Page<Relation>>;
    /// Everything an item depends on, nearest first, over at most `depth` relations in a row.
    async fn dependencies(&self, id: &str, depth: Option<u32>) -> Result<Page<Affected>>;
    /// Everything that is affected if these items fail together, nearest first.
    async fn impact(&self, ids: &[&str], depth: Option<u32>) -> Result<Page<Affected>>;
    /// Who is responsible for an item.
    async fn owners(&self, id: &str) -> Result<Page<ItemOwner>>;
    /// Adds an item. `custom` are the system's own fields.
    async fn create_item(&self, class: &str, name: &str, custom: Map<String, Value>) -> Result<Item>;
    /// Changes fields of an item.
    async fn update_item(&self, id: &str, custom: Map<String, Value>) -> Result<Item>;
}

#[async_trait]
impl Cmdb for View {
    async fn find_item(&self, name: &str, class: Option<&str>) -> Result<Option<Item>> {
        self.one(VIEW, "find_item", json!({ "name": name, "class": class })).await
    }

    async fn get_item(&self, id: &str) -> Result<Option<Item>> {
        self.one(VIEW, "get_item", json!({ "id": id })).await
    }

    async fn search_items(&self, query: &str, class: Option<&str>, listing: Listing) -> Result<Page<Item>> {
        self.page(VIEW, "search_items", json!({ "query": query, "class": class }), &listing).await
    }

    async fn list_relations(&self, id: &str, direction: Option<&str>) -> Result<Page<Relation>> {
        self.page(VIEW, "item_relations", json!({ "id": id, "direction": direction }), &Listing::default()).await
    }

    async fn dependencies(&self, id: &str, depth: Option<u32>) -> Result<Page<Affected>> {
        self.page(VIEW, "item_dependencies", json!({ "id": id, "depth": depth }), &Listing::default()).await
    }

    async fn impact(&self, ids: &[&str], depth: Option<u32>) -> Result<Page<Affected>> {
        self.page(VIEW, "item_impact", json!({ "ids": ids, "depth": depth }), &Listing::default()).await
    }

    async fn owners(&self, id: &str) -> Result<Page<ItemOwner>> {
        self.page(VIEW, "item_owners", json!({ "id": id }), &Listing::default()).await
    }

    async fn create_item(&self, class: &str, name: &str, custom: Map<String, Value>) -> Result<Item> {
        self.one(VIEW, "create_item", json!({ "class": class, "name": name, "custom": custom })).await
    }

    async fn update_item(&self, id: &str, custom: Map<String, Value>) -> Result<Item> {
        self.one(VIEW, "update_item", json!({ "id": id, "custom": custom })).await
    }
}
