//! The view `crm`: people, companies, deals and notes.

use async_trait::async_trait;
use connector_core::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Listing, Page, Source, View};

const VIEW: &str = "crm";

/// A person.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Contact {
    /// Its id at the vendor.
    pub id: String,
    /// E-mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// First name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_name: Option<String>,
    /// Last name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_name: Option<String>,
    /// Telephone number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    /// What the person does at the company.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The company's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub company: Option<String>,
    /// The company's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub company_id: Option<String>,
    /// How far the person is on the way to being a customer, in the vendor's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Who of the own people looks after the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<String>,
    /// When the record was made, RFC 3339 in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// When it was last changed, RFC 3339 in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<String>,
    /// The record's page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What the vendor says besides, under its own names.
    pub custom: Map<String, Value>,
    /// Where it came from.
    pub source: Source,
}

/// A company.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Company {
    /// Its id at the vendor.
    pub id: String,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its internet domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Telephone number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    /// What it does, in the vendor's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub industry: Option<String>,
    /// Who of the own people looks after the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<String>,
    /// When the record was made, RFC 3339 in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// When it was last changed, RFC 3339 in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<String>,
    /// The record's page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What the vendor says besides, under its own names.
    pub custom: Map<String, Value>,
    /// Where it came from.
    pub source: Source,
}

/// A sale that may come.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Deal {
    /// Its id at the vendor.
    pub id: String,
    /// What it is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is worth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<f64>,
    /// The amount's currency, ISO 4217.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// How far it is, in the vendor's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// The pipeline whose stages these are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// When it is expected to be decided, as the vendor writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub close_date: Option<String>,
    /// The company's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub company_id: Option<String>,
    /// Who of the own people looks after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<String>,
    /// When the record was made, RFC 3339 in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// When it was last changed, RFC 3339 in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<String>,
    /// The record's page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What the vendor says besides, under its own names.
    pub custom: Map<String, Value>,
    /// Where it came from.
    pub source: Source,
}

/// A note that was put on a record.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Note {
    /// Its id at the vendor.
    pub id: String,
    /// What it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// When it happened, RFC 3339 in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// What the vendor says besides, under its own names.
    pub custom: Map<String, Value>,
    /// Where it came from.
    pub source: Source,
}

/// What a person's record is to hold. What is `None` is left as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ContactFields {
    /// E-mail address.
    pub email: Option<String>,
    /// First name.
    pub first_name: Option<String>,
    /// Last name.
    pub last_name: Option<String>,
    /// Telephone number.
    pub phone: Option<String>,
    /// What the person does at the company.
    pub title: Option<String>,
    /// The company's name.
    pub company: Option<String>,
    /// The stage, in the vendor's words.
    pub stage: Option<String>,
    /// Who of the own people looks after it.
    pub owner_id: Option<String>,
    /// The vendor's own fields, under the names `custom` has in results.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub custom: Map<String, Value>,
}

/// What a deal is to hold. What is `None` is left as it is; a new deal needs a name and a stage.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct DealFields {
    /// What it is called.
    pub name: Option<String>,
    /// How far it is, in the vendor's words.
    pub stage: Option<String>,
    /// What it is worth.
    pub amount: Option<f64>,
    /// The pipeline whose stages these are.
    pub pipeline: Option<String>,
    /// When it is expected to be decided, YYYY-MM-DD.
    pub close_date: Option<String>,
    /// Who of the own people looks after it.
    pub owner_id: Option<String>,
    /// The vendor's own fields, under the names `custom` has in results.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub custom: Map<String, Value>,
}

/// People, companies and deals, whoever keeps them.
///
/// Every method fails with [`connector_core::ErrorKind::Unsupported`], naming who can, if the connector does not do it or has no place for an
/// argument; otherwise with whatever the connector reports.
#[async_trait]
pub trait Crm: std::fmt::Debug + Send + Sync {
    /// Finds one person by e-mail address. `fields` are the vendor's own, to be given under `custom`.
    async fn find_contact(&self, email: &str, fields: &[&str]) -> Result<Option<Contact>>;
    /// Gets one person by id.
    async fn get_contact(&self, id: &str, fields: &[&str]) -> Result<Contact>;
    /// Searches people by a text.
    async fn search_contacts(&self, query: &str, listing: Listing) -> Result<Page<Contact>>;
    /// Lists people.
    async fn list_contacts(&self, listing: Listing) -> Result<Page<Contact>>;
    /// Adds a person.
    async fn create_contact(&self, fields: ContactFields) -> Result<Contact>;
    /// Changes a person's record. Some vendors do not give the record back; then only its id is filled.
    async fn update_contact(&self, id: &str, fields: ContactFields) -> Result<Contact>;
    /// Finds one company by its internet domain.
    async fn find_company(&self, domain: &str, fields: &[&str]) -> Result<Option<Company>>;
    /// Gets one company by id.
    async fn get_company(&self, id: &str, fields: &[&str]) -> Result<Company>;
    /// Searches companies by a text.
    async fn search_companies(&self, query: &str, listing: Listing) -> Result<Page<Company>>;
    /// Lists deals.
    async fn list_deals(&self, listing: Listing) -> Result<Page<Deal>>;
    /// Searches deals by a text.
    async fn search_deals(&self, query: &str, listing: Listing) -> Result<Page<Deal>>;
    /// Gets one deal by id.
    async fn get_deal(&self, id: &str, fields: &[&str]) -> Result<Deal>;
    /// Adds a deal.
    async fn create_deal(&self, fields: DealFields) -> Result<Deal>;
    /// Changes a deal. Some vendors do not give the record back; then only its id is filled.
    async fn update_deal(&self, id: &str, fields: DealFields) -> Result<Deal>;
    /// Puts a note on a person's record. `at` is when it happened, RFC 3339.
    async fn log_note(&self, contact_id: &str, text: &str, at: &str) -> Result<Note>;
}

/// A key besides the fields of an argument, with the vendor's own fields to be read if there are any.
fn by(key: &str, value: &str, fields: &[&str]) -> Value {
    let mut args = json!({ key: value });
    if !fields.is_empty() {
        args["fields"] = fields.into();
    }
    args
}

#[derive(Serialize)]
struct Change<'a, T> {
    id: &'a str,
    #[serde(flatten)]
    fields: T,
}

#[async_trait]
impl Crm for View {
    async fn find_contact(&self, email: &str, fields: &[&str]) -> Result<Option<Contact>> {
        self.one(VIEW, "find_contact", by("email", email, fields)).await
    }

    async fn get_contact(&self, id: &str, fields: &[&str]) -> Result<Contact> {
        self.one(VIEW, "get_contact", by("id", id, fields)).await
    }

    async fn search_contacts(&self, query: &str, listing: Listing) -> Result<Page<Contact>> {
        self.page(VIEW, "search_contacts", by("query", query, &[]), &listing).await
    }

    async fn list_contacts(&self, listing: Listing) -> Result<Page<Contact>> {
        self.page(VIEW, "list_contacts", Map::new(), &listing).await
    }

    async fn create_contact(&self, fields: ContactFields) -> Result<Contact> {
        self.one(VIEW, "create_contact", fields).await
    }

    async fn update_contact(&self, id: &str, fields: ContactFields) -> Result<Contact> {
        self.one(VIEW, "update_contact", Change { id, fields }).await
    }

    async fn find_company(&self, domain: &str, fields: &[&str]) -> Result<Option<Company>> {
        self.one(VIEW, "find_company", by("domain", domain, fields)).await
    }

    async fn get_company(&self, id: &str, fields: &[&str]) -> Result<Company> {
        self.one(VIEW, "get_company", by("id", id, fields)).await
    }

    async fn search_companies(&self, query: &str, listing: Listing) -> Result<Page<Company>> {
        self.page(VIEW, "search_companies", by("query", query, &[]), &listing).await
    }

    async fn list_deals(&self, listing: Listing) -> Result<Page<Deal>> {
        self.page(VIEW, "list_deals", Map::new(), &listing).await
    }

    async fn search_deals(&self, query: &str, listing: Listing) -> Result<Page<Deal>> {
        self.page(VIEW, "search_deals", by("query", query, &[]), &listing).await
    }

    async fn get_deal(&self, id: &str, fields: &[&str]) -> Result<Deal> {
        self.one(VIEW, "get_deal", by("id", id, fields)).await
    }

    async fn create_deal(&self, fields: DealFields) -> Result<Deal> {
        self.one(VIEW, "create_deal", fields).await
    }

    async fn update_deal(&self, id: &str, fields: DealFields) -> Result<Deal> {
        self.one(VIEW, "update_deal", Change { id, fields }).await
    }

    async fn log_note(&self, contact_id: &str, text: &str, at: &str) -> Result<Note> {
        self.one(VIEW, "log_note", json!({ "contact_id": contact_id, "text": text, "at": at })).await
    }
}
