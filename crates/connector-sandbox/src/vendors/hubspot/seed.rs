//! The account as it is on the first day: a dozen companies with tiers, forty contacts, deals, a few prospects without a customer.
//! All invented; addresses end in `.example`.

use super::properties::definition;
use super::store::{Store, TYPES};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Company name, domain, tier, lifecycle stage.
const COMPANIES: [(&str, &str, &str, &str); 12] = [
    ("Acme Robotics", "acme.example", "gold", "customer"),
    ("Borealis Energy", "borealis.example", "silver", "customer"),
    ("Cobalt Finance", "cobalt.example", "gold", "customer"),
    ("Delphi Logistics", "delphi.example", "bronze", "customer"),
    ("Ember Foods", "ember.example", "silver", "customer"),
    ("Fjord Shipping", "fjord.example", "bronze", "customer"),
    ("Glade Retail", "glade.example", "gold", "customer"),
    ("Helix Labs", "helix.example", "silver", "customer"),
    ("Iris Media", "iris.example", "standard", "customer"),
    ("Juniper Homes", "juniper.example", "standard", "customer"),
    ("Kestrel Air", "kestrel.example", "", "opportunity"),
    ("Lumen Optics", "lumen.example", "", "opportunity"),
];

const FIRST: [&str; 20] = [
    "Ada", "Bruno", "Chloé", "Dmitri", "Elena", "Farid", "Grace", "Hiro", "Inés", "Jonas", "Karin", "Liam", "Mei", "Noor", "Oskar", "Priya",
    "Quentin", "Rosa", "Sven", "Tomás",
];
const LAST: [&str; 10] = ["Abel", "Brandt", "Costa", "Duarte", "Eriksen", "Fontaine", "Gruber", "Haas", "Ito", "Jansen"];

/// Contacts at companies; prospects come on top.
const CONTACTS: usize = 36;

/// Definitions HubSpot ships: object, name, label, type, field type.
const DEFINITIONS: [(&str, &str, &str, &str, &str); 60] = [
    ("contacts", "email", "Email", "string", "text"),
    ("contacts", "firstname", "First name", "string", "text"),
    ("contacts", "lastname", "Last name", "string", "text"),
    ("contacts", "phone", "Phone number", "string", "phonenumber"),
    ("contacts", "company", "Company name", "string", "text"),
    ("contacts", "jobtitle", "Job title", "string", "text"),
    ("contacts", "lifecyclestage", "Lifecycle stage", "string", "text"),
    ("contacts", "hs_lead_status", "Lead status", "string", "text"),
    ("contacts", "hubspot_owner_id", "Contact owner", "string", "text"),
    ("contacts", "createdate", "Create date", "datetime", "date"),
    ("contacts", "lastmodifieddate", "Last modified date", "datetime", "date"),
    ("companies", "name", "Company name", "string", "text"),
    ("companies", "domain", "Company domain name", "string", "text"),
    ("companies", "industry", "Industry", "string", "text"),
    ("companies", "lifecyclestage", "Lifecycle stage", "string", "text"),
    ("companies", "phone", "Phone number", "string", "phonenumber"),
    ("companies", "website", "Website URL", "string", "text"),
    ("companies", "hubspot_owner_id", "Company owner", "string", "text"),
    ("companies", "createdate", "Create date", "datetime", "date"),
    ("deals", "dealname", "Deal name", "string", "text"),
    ("deals", "amount", "Amount", "number", "number"),
    ("deals", "closedate", "Close date", "datetime", "date"),
    ("deals", "pipeline", "Pipeline", "string", "text"),
    ("deals", "dealstage", "Deal stage", "string", "text"),
    ("deals", "hs_is_closed", "Is closed", "string", "text"),
    ("deals", "hubspot_owner_id", "Deal owner", "string", "text"),
    ("deals", "createdate", "Create date", "datetime", "date"),
    ("tickets", "subject", "Ticket name", "string", "text"),
    ("tickets", "content", "Ticket description", "string", "textarea"),
    ("tickets", "hs_pipeline", "Pipeline", "string", "text"),
    ("tickets", "hs_pipeline_stage", "Ticket status", "string", "text"),
    ("tickets", "hs_ticket_category", "Category", "string", "text"),
    ("tickets", "hs_ticket_priority", "Priority", "string", "text"),
    ("tickets", "hubspot_owner_id", "Ticket owner", "string", "text"),
    ("tickets", "createdate", "Create date", "datetime", "date"),
    ("notes", "hs_note_body", "Note body", "string", "html"),
    ("notes", "hs_timestamp", "Activity date", "datetime", "date"),
    ("notes", "hs_createdate", "Create date", "datetime", "date"),
    ("products", "name", "Name", "string", "text"),
    ("products", "description", "Description", "string", "textarea"),
    ("products", "price", "Unit price", "number", "number"),
    ("products", "hs_sku", "SKU", "string", "text"),
    ("products", "createdate", "Create date", "datetime", "date"),
    ("notes", "hubspot_owner_id", "Activity assigned to", "string", "text"),
    ("line_items", "name", "Name", "string", "text"),
    ("line_items", "quantity", "Quantity", "number", "number"),
    ("line_items", "price", "Unit price", "number", "number"),
    ("line_items", "amount", "Net price", "number", "number"),
    ("line_items", "hs_product_id", "Product ID", "number", "number"),
    ("line_items", "createdate", "Create date", "datetime", "date"),
    ("tasks", "hs_task_subject", "Task title", "string", "text"),
    ("tasks", "hs_task_body", "Task notes", "string", "html"),
    ("tasks", "hs_task_status", "Task status", "string", "text"),
    ("tasks", "hs_task_priority", "Priority", "string", "text"),
    ("tasks", "hs_timestamp", "Due date", "datetime", "date"),
    ("tasks", "hubspot_owner_id", "Assigned to", "string", "text"),
    ("tasks", "createdate", "Create date", "datetime", "date"),
    ("machines", "serial", "Serial number", "string", "text"),
    ("machines", "createdate", "Create date", "datetime", "date"),
    ("machines", "model", "Model", "string", "text"),
];

/// Fills an empty store.
pub(super) fn fill(store: &mut Store, now: Timestamp) {
    store.next_id = 500;
    define(store);
    let mut company_ids = Vec::new();
    for (name, domain, tier, stage) in COMPANIES {
        let website = format!("https://www.{domain}");
        let mut properties = vec![("name", name), ("domain", domain), ("lifecyclestage", stage), ("website", website.as_str())];
        if !tier.is_empty() {
            properties.extend([("tier", tier), ("hub_tier", tier)]);
        }
        company_ids.push(put(store, "companies", &properties, now));
    }
    for n in 0..CONTACTS {
        let at = n % COMPANIES.len();
        let (company, domain, _, stage) = COMPANIES[at];
        let (first, last) = (FIRST[n % FIRST.len()], LAST[(n * 7) % LAST.len()]);
        let email = format!("{}.{}@{domain}", plain(first), plain(last));
        let contact = put(
            store,
            "contacts",
            &[("email", &email), ("firstname", first), ("lastname", last), ("company", company), ("lifecyclestage", stage)],
            now,
        );
        store.link(("contacts", contact), ("companies", company_ids[at]), vec![("HUBSPOT_DEFINED".into(), 1)]);
        if n < COMPANIES.len() {
            let (deal_stage, closed) = if stage == "customer" { ("closedwon", "true") } else { ("qualifiedtobuy", "false") };
            deal(store, &format!("{company} subscription"), deal_stage, closed, contact, Some(company_ids[at]), now);
        }
    }
    // Prospects: an open deal, no company, never a customer.
    for (n, (first, last)) in [("Uma", "Keller"), ("Viktor", "Lindqvist"), ("Wanda", "Moreau"), ("Yusuf", "Novak")].iter().enumerate() {
        let email = format!("{}.{}@prospect{}.example", plain(first), plain(last), n + 1);
        let contact = put(store, "contacts", &[("email", &email), ("firstname", first), ("lastname", last), ("lifecyclestage", "opportunity")], now);
        deal(store, &format!("{first} {last} trial"), "appointmentscheduled", "false", contact, None, now);
    }
    store.events.clear();
}

fn deal(store: &mut Store, name: &str, stage: &str, closed: &str, contact: u64, company: Option<u64>, now: Timestamp) {
    let properties = [("dealname", name), ("amount", "12000"), ("pipeline", "default"), ("dealstage", stage), ("hs_is_closed", closed)];
    let deal = put(store, "deals", &properties, now);
    store.link(("deals", deal), ("contacts", contact), Vec::new());
    if let Some(company) = company {
        store.link(("deals", deal), ("companies", company), vec![("HUBSPOT_DEFINED".into(), 5)]);
    }
}

fn put(store: &mut Store, kind: &'static str, properties: &[(&str, &str)], now: Timestamp) -> u64 {
    let properties: BTreeMap<String, String> = properties.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    store.create(kind, properties, now).expect("the seed keeps the vendor's rules; a test creates one of each")
}

fn plain(name: &str) -> String {
    name.to_lowercase().replace('é', "e").replace('á', "a")
}

fn define(store: &mut Store) {
    let group = |kind: &str| format!("{}information", super::store::singular(kind));
    for (kind, ..) in TYPES {
        let id = definition(&json!({"name": "hs_object_id", "label": "Record ID", "type": "number", "fieldType": "number",
            "groupName": group(kind), "hubspotDefined": true, "readOnly": true}));
        let modified = super::store::modified_property(kind);
        let modified_definition = definition(&json!({"name": modified, "label": "Last modified date", "type": "datetime",
            "fieldType": "date", "groupName": group(kind), "hubspotDefined": true, "readOnly": true}));
        let known: &mut BTreeMap<String, Value> = store.properties.entry(kind).or_default();
        known.insert("hs_object_id".into(), id);
        known.insert(modified.into(), modified_definition);
    }
    for (kind, name, label, data_type, field_type) in DEFINITIONS {
        let kind = super::store::object_type(kind).unwrap_or("contacts");
        let read_only = matches!(name, "createdate" | "lastmodifieddate" | "hs_createdate");
        let definition = definition(&json!({"name": name, "label": label, "type": data_type, "fieldType": field_type,
            "groupName": group(kind), "hubspotDefined": true, "readOnly": read_only,
            "hasUniqueValue": kind == "contacts" && name == "email"}));
        store.properties.entry(kind).or_default().insert(name.to_owned(), definition);
    }
    for name in ["tier", "hub_tier"] {
        let options: Vec<Value> = ["gold", "silver", "bronze", "standard"]
            .iter()
            .enumerate()
            .map(|(n, tier)| json!({"label": tier, "value": tier, "displayOrder": n, "hidden": false}))
            .collect();
        let definition = definition(&json!({"name": name, "label": "Tier", "type": "enumeration", "fieldType": "select",
            "groupName": "companyinformation", "options": options}));
        store.properties.entry("companies").or_default().insert(name.to_owned(), definition);
    }
}
