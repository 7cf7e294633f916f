//! What the desk finds out before it acts: who wrote (HubSpot), how soon they are served, what they wrote about (CMDB).
//!
//! Owns the plan for a message. Good to know is not needed: a CRM or CMDB that is down for the moment costs the message its facts, which
//! is counted, and never its answer. Refuses to write anything.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use connector_core::{ErrorKind, Result};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{
    book::{Item, Plan},
    caller::Desk,
    mail::{Mail, text},
    tally::{Tally, one},
};

/// How long the facts about one message may take, waits and retries included.
const PATIENCE: Duration = Duration::from_secs(10);
/// How far dependents are followed.
const DEPTH: u32 = 3;

/// Who wrote.
#[derive(Debug, Clone, Default, PartialEq)]
struct Person {
    tier: Option<String>,
    company: Option<String>,
    is_prospect: bool,
}

/// Facts that several messages ask for at once are fetched once. What HubSpot's and the CMDB's manifests declare as cacheable is kept by
/// the runtime; this keeps what the desk itself put together from several calls.
#[derive(Debug)]
struct Known<T>(Mutex<HashMap<String, Arc<OnceCell<T>>>>);

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Known<T> {
    async fn get(&self, key: &str, make: impl Future<Output = Result<T>>) -> Result<T> {
        let cell = self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key.to_owned()).or_default().clone();
        // A failure is not kept: the next message asks again.
        cell.get_or_try_init(|| make).await.cloned()
    }
}

/// Makes plans.
#[derive(Debug)]
pub(super) struct Enricher {
    desk: Desk,
    tally: Arc<Tally>,
    people: Known<Person>,
    items: Known<Option<Item>>,
}

impl Enricher {
    pub(super) fn new(desk: Desk, tally: Arc<Tally>) -> Self {
        Self { desk, tally, people: Known::default(), items: Known::default() }
    }

    /// What is to be done about a message by this sender.
    pub(super) async fn plan(&self, mail: &Mail, sender: &str) -> Plan {
        let (person, items) = tokio::join!(self.person(sender), self.items(mail));
        let (priority, hours) = served(&person, mail.is_urgent, &items);
        let tier = person.tier.unwrap_or_else(|| if person.is_prospect { "prospect" } else { "standard" }.to_owned());
        Plan { tier, company: person.company, priority: priority.to_owned(), hours, items }
    }

    /// A fact, or its absence if it cannot be had in time.
    fn or_missed<T: Default>(&self, what: &str, result: Result<T>) -> T {
        result.unwrap_or_else(|error| {
            // Somebody with an address that HubSpot refuses is simply unknown.
            if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Invalid) {
                one(&self.tally.missed);
                tracing::warn!(what, %error, "a message is handled without a fact about it");
            }
            T::default()
        })
    }

    async fn person(&self, sender: &str) -> Person {
        let contact = self.or_missed("contact", self.desk.glance("hubspot_get_contact_by_email", json!({ "email": sender }), PATIENCE).await);
        let Some(id) = text(&contact, "id").map(str::to_owned) else { return Person::default() };
        let facts = self.people.get(&id, self.facts(&id)).await;
        self.or_missed("company", facts)
    }

    async fn facts(&self, contact: &str) -> Result<Person> {
        let args = || json!({ "contact_id": contact });
        let company = self.desk.glance("hubspot_company_tier", args(), PATIENCE).await?;
        let name = text(&company, "company_name").map(str::to_owned);
        if let Some(tier) = text(&company, "tier").filter(|_| company["source"] == "company") {
            return Ok(Person { tier: Some(tier.to_owned()), company: name, is_prospect: false });
        }
        // Who has a tier is a customer. Only of others is it worth four more requests to know whether they are about to become one.
        let prospect = self.desk.glance("hubspot_is_prospect", args(), PATIENCE).await?;
        Ok(Person { tier: None, company: name, is_prospect: prospect["prospect"] == Value::Bool(true) })
    }

    async fn items(&self, mail: &Mail) -> Vec<Item> {
        let mut found = Vec::new();
        for name in mail.names() {
            let item = self.items.get(&name, self.item(&name)).await;
            found.extend(self.or_missed("configuration item", item));
        }
        found
    }

    async fn item(&self, name: &str) -> Result<Option<Item>> {
        let item = self.desk.glance("cmdb_find_ci_by_name", json!({ "name": name }), PATIENCE).await?;
        let Some(id) = text(&item, "id") else { return Ok(None) };
        let walk = self.desk.glance("cmdb_dependents", json!({ "id": id, "depth": DEPTH }), PATIENCE).await?;
        let dependents = walk["nodes"].as_array().map_or(0, Vec::len);
        Ok(Some(Item { id: id.to_owned(), name: text(&item, "name").unwrap_or(name).to_owned(), dependents }))
    }
}

/// The service level: who pays for a quick answer gets one, who may become a customer too, and so does whatever takes others down with it.
fn served(person: &Person, is_urgent: bool, items: &[Item]) -> (&'static str, u32) {
    const LEVELS: [(&str, u32); 4] = [("low", 48), ("normal", 24), ("high", 8), ("urgent", 4)];
    let base = match person.tier.as_deref() {
        Some("platinum" | "gold") => 2,
        Some("silver" | "bronze") => 1,
        _ if person.is_prospect => 2,
        _ => 0,
    };
    let raised = usize::from(is_urgent) + usize::from(items.iter().any(|item| item.dependents >= 3));
    LEVELS[(base + raised).min(LEVELS.len() - 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tier_urgency_and_reach_decide_the_service_level() {
        let person = |tier: &str| Person { tier: Some(tier.into()), ..Person::default() };
        let item = |dependents| Item { id: "1".into(), name: "x".into(), dependents };
        assert_eq!(served(&Person::default(), false, &[]), ("low", 48));
        assert_eq!(served(&person("bronze"), false, &[item(2)]), ("normal", 24));
        assert_eq!(served(&person("gold"), false, &[]), ("high", 8));
        assert_eq!(served(&person("gold"), true, &[item(3)]), ("urgent", 4));
        assert_eq!(served(&Person { is_prospect: true, ..Person::default() }, false, &[]), ("high", 8));
    }
}
