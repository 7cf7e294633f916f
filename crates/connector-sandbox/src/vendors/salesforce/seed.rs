//! The org as it starts: a few accounts with contacts, deals, cases, a campaign and the integration's own user.

use super::store::{Store, kind};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Fills an empty store.
pub(super) fn fill(store: &mut Store, now: Timestamp) {
    // Everything is a week old, so that a test sees its own changes apart.
    let then = Timestamp::from_second(now.as_second() - 7 * 86_400).unwrap_or(now);
    let mut make = |name: &str, fields: Value| {
        let Some(kind) = kind(name) else { return String::new() };
        let fields = fields.as_object().cloned().unwrap_or_default();
        store.create(kind, &fields, then).unwrap_or_default()
    };
    make("User", json!({"LastName": "Integration", "Username": "integration@acme.example", "Email": "integration@acme.example"}));
    let acme = make(
        "Account",
        json!({"Name": "Acme", "Industry": "Manufacturing", "Phone": "+49 30 1000", "AnnualRevenue": 1_250_000.5, "Hub_Id__c": "hub-acme"}),
    );
    let bobs = make("Account", json!({"Name": "Bob's BBQ", "Industry": "Food"}));
    let ada =
        make("Contact", json!({"FirstName": "Ada", "LastName": "Abel", "Email": "ada.abel@acme.example", "AccountId": acme, "Hub_Id__c": "hub-ada"}));
    make("Contact", json!({"FirstName": "Bob", "LastName": "O'Hara", "Email": "bob@bbq.example", "AccountId": bobs}));
    make("Lead", json!({"FirstName": "Lin", "LastName": "Larsen", "Company": "Harbour", "Email": "lin@harbour.example"}));
    make("Opportunity", json!({"Name": "Acme routers", "StageName": "Prospecting", "CloseDate": "2026-12-31", "Amount": 5_000, "AccountId": acme}));
    make("Opportunity", json!({"Name": "BBQ tables", "StageName": "Closed Won", "CloseDate": "2026-06-30", "Amount": 900, "AccountId": bobs}));
    make("Case", json!({"Subject": "Printer is on fire", "Status": "New", "Priority": "High", "ContactId": ada, "AccountId": acme}));
    make("Campaign", json!({"Name": "Spring", "Status": "Planned"}));
    make("Product2", json!({"Name": "Router", "ProductCode": "R-1", "IsActive": true}));
    store.told.clear();
}
