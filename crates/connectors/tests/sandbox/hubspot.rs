//! HubSpot CRM: every operation, partial batches, upserts, associations there and back, and more records than one search may list.

use std::collections::BTreeSet;

use connector_sandbox::{EffectKind, Sandbox};
use connectors::{ErrorKind, core::delta::Change, hubspot::HubSpot};
use serde_json::{Value, json};

use crate::world::{World, hubspot, tireless};

/// Operations the fake cannot answer, each with its reason.
const NOT_IN_SANDBOX: [(&str, &str); 0] = [];

/// A kind of record: plural, singular, what a new one needs, a property to change.
struct Kind {
    plural: &'static str,
    singular: &'static str,
    needs: fn(usize) -> Value,
    change: (&'static str, &'static str),
}

const KINDS: [Kind; 4] = [
    Kind {
        plural: "contacts",
        singular: "contact",
        needs: |n| json!({ "email": format!("kind{n}@client.example"), "firstname": "Ada" }),
        change: ("lifecyclestage", "customer"),
    },
    Kind {
        plural: "companies",
        singular: "company",
        needs: |n| json!({ "name": format!("Company {n}"), "domain": format!("company{n}.example") }),
        change: ("hub_tier", "gold"),
    },
    Kind {
        plural: "deals",
        singular: "deal",
        needs: |n| json!({ "dealname": format!("Deal {n}"), "pipeline": "default", "dealstage": "appointmentscheduled" }),
        change: ("dealstage", "closedwon"),
    },
    Kind {
        plural: "tickets",
        singular: "ticket",
        needs: |n| json!({ "subject": format!("Ticket {n}"), "hs_pipeline": "0", "hs_pipeline_stage": "1" }),
        change: ("hs_ticket_priority", "HIGH"),
    },
];

fn id(value: &Value) -> String {
    value["id"].as_str().unwrap_or_default().to_owned()
}

fn results(value: &Value) -> usize {
    value["results"].as_array().map_or(0, Vec::len)
}

#[tokio::test]
async fn every_operation_succeeds() {
    let sandbox = Sandbox::builder().vendor("hubspot").start("127.0.0.1:0").await.unwrap();
    let world = World::watching(&hubspot(&sandbox, &tireless()));
    account(&world).await;
    properties(&world).await;
    for (n, kind) in KINDS.iter().enumerate() {
        records(&world, kind, n * 100).await;
    }
    objects(&world).await;
    plain_records(&world).await;
    lists(&world).await;
    developer(&world).await;
    associations(&world).await;
    helpers(&world).await;
    world.with("hubspot_create_contact", json!({ "properties": { "email": "erase@client.example" } })).await;
    world.like_example("hubspot_gdpr_delete_contact", json!({ "id": "erase@client.example" })).await;
    let erased = world.with("hubspot_get_contact_by_email", json!({ "email": "erase@client.example" })).await;
    world.expect(erased.is_null(), || format!("hubspot_gdpr_delete_contact: {erased}"));
    world.finish(&NOT_IN_SANDBOX);
}

async fn account(world: &World) {
    let account = world.with("hubspot_account_info", json!({})).await;
    world.expect(account["timeZone"] == "Europe/Berlin", || format!("hubspot_account_info: {account}"));
    let owners = world.like_example("hubspot_list_owners", json!({})).await;
    world.expect(results(&owners) == 3, || format!("hubspot_list_owners: {owners}"));
    let owner = world.with("hubspot_get_owner", json!({ "id": owners["results"][0]["id"] })).await;
    world.with("hubspot_get_owner_by_email", json!({ "email": owner["email"] })).await;
    for kind in ["deals", "tickets"] {
        world.with("hubspot_list_pipelines", json!({ "object_type": kind })).await;
    }
}

async fn properties(world: &World) {
    world.like_example("hubspot_list_properties", json!({})).await;
    world.like_example("hubspot_batch_read_properties", json!({})).await;
    world.like_example("hubspot_create_property", json!({ "name": "hub_support_tier" })).await;
    world.like_example("hubspot_update_property", json!({ "name": "hub_support_tier" })).await;
    let read = world.like_example("hubspot_get_property", json!({ "name": "hub_support_tier" })).await;
    world.expect(read["label"] == "Support tier", || format!("hubspot_update_property: {read}"));
    world.like_example("hubspot_delete_property", json!({ "name": "hub_support_tier" })).await;
    for kind in &KINDS {
        for name in ["hub_idempotency_key", "hub_number"] {
            for _ in 0..2 {
                let group = format!("{}information", kind.singular);
                let over = json!({ "object_type": kind.plural, "name": name, "group_name": group, "has_unique_value": true });
                world.like_example("hubspot_ensure_property", over).await;
            }
        }
    }
}

async fn records(world: &World, kind: &Kind, from: usize) {
    let (plural, singular) = (kind.plural, kind.singular);
    let needs = |n: usize, more: Value| {
        let mut properties = (kind.needs)(from + n);
        properties.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        properties
    };
    let op = |name: &str| format!("hubspot_{name}");
    let key = json!({ "hub_idempotency_key": format!("key-{from}"), "hub_number": format!("N-{from}") });
    let made = id(&world.with(&op(&format!("create_{singular}")), json!({ "properties": needs(0, key) })).await);
    let one = world.like_example(&op(&format!("get_{singular}")), json!({ "id": made })).await;
    world.expect(id(&one) == made, || format!("get_{singular}: {one}"));
    let by = json!({ "id_property": "hub_number", "value": format!("N-{from}"), "properties": null });
    let found = world.like_example(&op(&format!("get_{singular}_by")), by).await;
    world.expect(id(&found) == made, || format!("get_{singular}_by: {found}"));
    match plural {
        "contacts" => {
            let found = world.with("hubspot_get_contact_by_email", json!({ "email": format!("kind{from}@client.example") })).await;
            world.expect(id(&found) == made, || format!("get_contact_by_email: {found}"));
        }
        _ => {
            let found = world.like_example(&op(&format!("get_{singular}_by_key")), json!({ "key": format!("key-{from}") })).await;
            world.expect(id(&found) == made, || format!("get_{singular}_by_key: {found}"));
            let none = world.like_example(&op(&format!("get_{singular}_by_key")), json!({ "key": "no such key" })).await;
            world.expect(none.is_null(), || format!("get_{singular}_by_key: {none}"));
        }
    }
    world.like_example(&op(&format!("list_{plural}")), json!({})).await;
    let filter = json!([{ "filters": [{ "propertyName": "hub_number", "operator": "EQ", "value": format!("N-{from}") }] }]);
    let hits = world.like_example(&op(&format!("search_{plural}")), json!({ "filter_groups": filter, "properties": null })).await;
    world.expect(results(&hits) == 1, || format!("search_{plural}: {hits}"));
    let (property, value) = kind.change;
    let changed = world.with(&op(&format!("update_{singular}")), json!({ "id": made, "properties": { property: value } })).await;
    world.expect(id(&changed) == made, || format!("update_{singular}: {changed}"));
    for n in 0..2 {
        let upserted = json!({ "id_property": "hub_number", "value": format!("N-{from}-u"), "properties": needs(1, json!({ "hub_number": format!("N-{from}-u") })) });
        let done = world.with(&op(&format!("upsert_{singular}")), upserted).await;
        world.expect(done["new"] == (n == 0), || format!("upsert_{singular}: {done}"));
    }
    let merged = batches(world, kind, from, &needs).await;
    let winner = world.with(&op(&format!("merge_{plural}")), json!({ "primary_id": made, "merge_id": merged })).await;
    world.expect(!id(&winner).is_empty(), || format!("merge_{plural}: {winner}"));
    world.with(&op(&format!("archive_{singular}")), json!({ "id": id(&winner) })).await;
}

/// Makes, reads, changes and archives several at once; gives the id of one that is left.
async fn batches(world: &World, kind: &Kind, from: usize, needs: &(impl Fn(usize, Value) -> Value + Sync)) -> String {
    let plural = kind.plural;
    let op = |name: &str| format!("hubspot_batch_{name}_{plural}");
    let inputs: Vec<Value> = (10..13).map(|n| json!({ "objectWriteTraceId": format!("row-{n}"), "properties": needs(n, json!({})) })).collect();
    let made = world.with(&op("create"), json!({ "inputs": inputs })).await;
    let ids: Vec<String> = made["results"].as_array().into_iter().flatten().map(id).collect();
    world.expect(ids.len() == 3, || format!("{}: {made}", op("create")));
    let refs: Vec<Value> = ids.iter().map(|id| json!({ "id": id })).collect();
    let read = world.with(&op("read"), json!({ "inputs": refs })).await;
    world.expect(results(&read) == 3, || format!("{}: {read}", op("read")));
    let (property, value) = kind.change;
    let changes: Vec<Value> = ids.iter().map(|id| json!({ "id": id, "properties": { property: value } })).collect();
    let changed = world.with(&op("update"), json!({ "inputs": changes })).await;
    world.expect(results(&changed) == 3, || format!("{}: {changed}", op("update")));
    let upserts: Vec<Value> = (20..22)
        .map(|n| {
            let number = format!("N-{from}-b{n}");
            json!({ "id": number, "idProperty": "hub_number", "properties": needs(n, json!({ "hub_number": number })) })
        })
        .collect();
    let upserted = world.with(&op("upsert"), json!({ "inputs": upserts })).await;
    world.expect(results(&upserted) == 2, || format!("{}: {upserted}", op("upsert")));
    world.with(&op("archive"), json!({ "inputs": &refs[1..] })).await;
    ids.first().cloned().unwrap_or_default()
}

async fn objects(world: &World) {
    let made =
        id(&world.with("hubspot_create_object", json!({ "object_type": "products", "properties": { "name": "Router", "price": "10" } })).await);
    world.with("hubspot_get_object", json!({ "object_type": "products", "id": made })).await;
    world.like_example("hubspot_list_objects", json!({})).await;
    let hits = world.like_example("hubspot_search_objects", json!({})).await;
    world.expect(results(&hits) == 1, || format!("hubspot_search_objects: {hits}"));
    let update = json!({ "object_type": "products", "id": made, "properties": { "price": "12" } });
    world.with("hubspot_update_object", update).await;
    world.with("hubspot_archive_object", json!({ "object_type": "products", "id": made })).await;
}

/// Kinds of records with the usual operations only: plural, singular, what a new one needs, a change.
const PLAIN: [(&str, &str, &str, &str); 4] = [
    ("products", "product", r#"{"name": "Router"}"#, r#"{"price": "12"}"#),
    ("line_items", "line_item", r#"{"name": "Router"}"#, r#"{"quantity": "3"}"#),
    ("tasks", "task", r#"{"hs_timestamp": "2026-11-21T12:00:00Z"}"#, r#"{"hs_task_subject": "Call back"}"#),
    ("notes", "note", r#"{"hs_timestamp": "2026-11-21T12:00:00Z"}"#, r#"{"hs_note_body": "Called back."}"#),
];

async fn plain_records(world: &World) {
    for (plural, singular, needs, change) in PLAIN {
        let (needs, change): (Value, Value) = (serde_json::from_str(needs).unwrap(), serde_json::from_str(change).unwrap());
        let op = |name: &str| format!("hubspot_{name}_{singular}");
        let ops = |name: &str| format!("hubspot_{name}_{plural}");
        let made = if singular == "note" {
            id(&world.like_example("hubspot_create_note", json!({ "associations": null })).await)
        } else {
            id(&world.with(&op("create"), json!({ "properties": needs })).await)
        };
        let one = world.with(&op("get"), json!({ "id": made })).await;
        world.expect(id(&one) == made, || format!("{}: {one}", op("get")));
        world.with(&op("update"), json!({ "id": made, "properties": change })).await;
        let all = world.with(&ops("list"), json!({})).await;
        world.expect(results(&all) > 0, || format!("{}: {all}", ops("list")));
        let found = world.with(&ops("search"), json!({ "limit": 5 })).await;
        world.expect(results(&found) > 0, || format!("{}: {found}", ops("search")));
        let inputs: Vec<Value> = (0..2).map(|n| json!({ "objectWriteTraceId": format!("row-{n}"), "properties": needs })).collect();
        let many = world.with(&ops("batch_create"), json!({ "inputs": inputs })).await;
        let refs: Vec<Value> = many["results"].as_array().into_iter().flatten().map(|one| json!({ "id": one["id"] })).collect();
        world.expect(refs.len() == 2, || format!("{}: {many}", ops("batch_create")));
        let read = world.with(&ops("batch_read"), json!({ "inputs": refs })).await;
        world.expect(results(&read) == 2, || format!("{}: {read}", ops("batch_read")));
        let changes: Vec<Value> = refs.iter().map(|one| json!({ "id": one["id"], "properties": change })).collect();
        world.with(&ops("batch_update"), json!({ "inputs": changes })).await;
        world.with(&ops("batch_archive"), json!({ "inputs": refs })).await;
        if singular == "task" {
            world.with("hubspot_complete_task", json!({ "id": made })).await;
        }
        world.with(&op("archive"), json!({ "id": made })).await;
    }
}

async fn lists(world: &World) {
    let contact = id(&world.with("hubspot_create_contact", json!({ "properties": { "email": "member@client.example" } })).await);
    let list = world.like_example("hubspot_create_list", json!({})).await["listId"].clone();
    world.with("hubspot_get_list", json!({ "list_id": list })).await;
    world.like_example("hubspot_get_list_by_name", json!({})).await;
    world.like_example("hubspot_search_lists", json!({})).await;
    let added = world.with("hubspot_add_to_list", json!({ "list_id": list, "record_ids": [contact] })).await;
    world.expect(added["recordIdsAdded"] == json!([contact]), || format!("hubspot_add_to_list: {added}"));
    let members = world.with("hubspot_list_members", json!({ "list_id": list })).await;
    world.expect(results(&members) == 1, || format!("hubspot_list_members: {members}"));
    let of = world.with("hubspot_lists_of_record", json!({ "record_id": contact })).await;
    world.expect(results(&of) == 1, || format!("hubspot_lists_of_record: {of}"));
    world.with("hubspot_remove_from_list", json!({ "list_id": list, "record_ids": [contact] })).await;
    world.with("hubspot_change_list_members", json!({ "list_id": list, "add_ids": [contact] })).await;
    world.with("hubspot_clear_list", json!({ "list_id": list })).await;
    world.with("hubspot_rename_list", json!({ "list_id": list, "name": "Others" })).await;
    world.with("hubspot_delete_list", json!({ "list_id": list })).await;
    world.with("hubspot_restore_list", json!({ "list_id": list })).await;
}

async fn developer(world: &World) {
    world.with("hubspot_list_schemas", json!({})).await;
    world.like_example("hubspot_get_schema", json!({})).await;
    let imported = world.like_example("hubspot_import_webhook_subscriptions", json!({})).await;
    world.expect(imported["created"].as_array().is_some_and(|all| all.len() == 1), || format!("{imported}"));
    let made = id(&world.with("hubspot_create_webhook_subscription", json!({ "app_id": "9001", "event_type": "deal.creation" })).await);
    world.with("hubspot_set_webhook_subscription_active", json!({ "app_id": "9001", "subscription_id": made, "active": false })).await;
    world.like_example("hubspot_list_webhook_subscriptions", json!({})).await;
    world.with("hubspot_delete_webhook_subscription", json!({ "app_id": "9001", "subscription_id": made })).await;
    // Nobody listens there; what is to be delivered later fails and is given up.
    world.with("hubspot_set_webhook_settings", json!({ "app_id": "9001", "target_url": "https://hub.invalid/hook" })).await;
    world.like_example("hubspot_get_webhook_settings", json!({})).await;
}

async fn associations(world: &World) {
    let mut made = Vec::new();
    for n in 0..2 {
        let contact = world.with("hubspot_create_contact", json!({ "properties": { "email": format!("pair{n}@client.example") } })).await;
        let company = world.with("hubspot_create_company", json!({ "properties": { "name": format!("Pair {n}") } })).await;
        made.push((id(&contact), id(&company)));
    }
    let (contact, company) = made[0].clone();
    let pair = json!({ "from_id": contact, "to_id": company });
    let listed = || world.like_example("hubspot_list_associations", json!({ "from_id": contact }));
    world.like_example("hubspot_associate", pair.clone()).await;
    let there = listed().await;
    world.expect(there["results"][0]["toObjectId"].to_string().contains(&company), || format!("hubspot_list_associations: {there}"));
    let back = world.with("hubspot_list_associations", json!({ "from_type": "companies", "from_id": company, "to_type": "contacts" })).await;
    world.expect(back["results"][0]["toObjectId"].to_string().contains(&contact), || format!("there, but not back: {back}"));
    world.like_example("hubspot_associate_labelled", pair.clone()).await;
    world.like_example("hubspot_list_association_labels", json!({})).await;
    world.like_example("hubspot_remove_associations", pair).await;
    let none = listed().await;
    world.expect(results(&none) == 0, || format!("hubspot_remove_associations: {none}"));
    let one = |contact: &str, company: &str| json!({ "from": { "id": contact }, "to": { "id": company } });
    let typed = |contact: &str, company: &str, kind: u64| json!({ "from": { "id": contact }, "to": { "id": company }, "types": [{ "associationCategory": "HUBSPOT_DEFINED", "associationTypeId": kind }] });
    let pairs: Vec<Value> = made.iter().map(|(contact, company)| one(contact, company)).collect();
    world.like_example("hubspot_batch_associate", json!({ "inputs": pairs })).await;
    let labelled: Vec<Value> = made.iter().map(|(contact, company)| typed(contact, company, 1)).collect();
    world.like_example("hubspot_batch_create_associations", json!({ "inputs": labelled })).await;
    let asked: Vec<Value> = made.iter().map(|(contact, _)| json!({ "id": contact })).collect();
    let read = world.like_example("hubspot_batch_read_associations", json!({ "inputs": asked })).await;
    let ids: Vec<&String> = made.iter().map(|(contact, _)| contact).collect();
    let all = world.with("hubspot_read_all_associations", json!({ "from_type": "contacts", "to_type": "companies", "ids": ids })).await;
    world.expect(results(&all) == 2, || format!("hubspot_read_all_associations: {all}"));
    world.expect(results(&read) == 2, || format!("hubspot_batch_read_associations: {read}"));
    world.like_example("hubspot_batch_remove_association_labels", json!({ "inputs": labelled })).await;
    let gone: Vec<Value> = made.iter().map(|(contact, company)| json!({ "from": { "id": contact }, "to": [{ "id": company }] })).collect();
    world.like_example("hubspot_batch_remove_associations", json!({ "inputs": gone })).await;
    let none = listed().await;
    world.expect(results(&none) == 0, || format!("hubspot_batch_remove_associations: {none}"));
}

async fn helpers(world: &World) {
    let tier = world.with("hubspot_company_tier", json!({ "email": "ada.abel@acme.example" })).await;
    world.expect(tier["tier"] == "gold", || format!("hubspot_company_tier: {tier}"));
    let prospect = world.with("hubspot_is_prospect", json!({ "email": "uma.keller@prospect1.example" })).await;
    world.expect(prospect["prospect"] == true, || format!("hubspot_is_prospect: {prospect}"));
    let deal = world.with("hubspot_list_deals", json!({ "limit": 1 })).await;
    let context = world.with("hubspot_deal_context", json!({ "deal_id": deal["results"][0]["id"] })).await;
    world.expect(context["contacts"].as_array().is_some_and(|all| !all.is_empty()), || format!("hubspot_deal_context: {context}"));
}

#[tokio::test]
async fn a_long_batch_keeps_what_succeeded_and_names_the_rows_that_did_not() {
    let sandbox = Sandbox::builder().vendor("hubspot").start("127.0.0.1:0").await.unwrap();
    let client = hubspot(&sandbox, &tireless());
    let inputs: Vec<Value> = (0..250)
        .map(|n| {
            let email = if n % 100 == 7 { "no address".to_owned() } else { format!("row{n}@client.example") };
            json!({ "objectWriteTraceId": format!("row-{n}"), "properties": { "email": email } })
        })
        .collect();
    let reply = client.call_dynamic("hubspot_batch_create_contacts", json!({ "inputs": inputs }).as_object().unwrap().clone()).await.unwrap();
    let failed: Vec<(Option<usize>, ErrorKind)> = reply.partial.iter().map(|row| (row.index, row.kind)).collect();
    assert_eq!(failed, [7, 107, 207].map(|index| (Some(index), ErrorKind::Invalid)));
    assert_eq!(results(&reply.body.to_value().unwrap()), 247);
    assert_eq!(sandbox.ledger().count(EffectKind::RecordCreated), 247);
}

/// A search lists 10,000 records and not one more; a stream is followed past that by windows.
#[tokio::test]
async fn a_stream_is_followed_past_what_one_search_lists() {
    const MANY: usize = 10_250;
    let sandbox = Sandbox::builder().vendor("hubspot").start("127.0.0.1:0").await.unwrap();
    let client = hubspot(&sandbox, &tireless());
    let before = sandbox.hubspot().contact_emails().len();
    let inputs: Vec<Value> = (0..MANY).map(|n| json!({ "properties": { "firstname": format!("F{n}") } })).collect();
    let reply = client.call_dynamic("hubspot_batch_create_contacts", json!({ "inputs": inputs }).as_object().unwrap().clone()).await.unwrap();
    assert!(reply.partial.is_empty(), "{:?}", &reply.partial[..1]);
    let hubspot = HubSpot::from_client(client);
    let (delta, cx) = (hubspot.client().connector().delta().unwrap(), hubspot.client().cx());
    let mut seen = BTreeSet::new();
    let mut cursor = None;
    loop {
        let page = delta.changes(cx, "contacts", cursor).await.unwrap();
        seen.extend(page.changes.into_iter().filter_map(|change| match change {
            Change::Upsert { key, .. } => Some(key),
            Change::Delete { .. } => None,
        }));
        cursor = Some(page.next);
        if !page.more {
            break;
        }
    }
    assert_eq!(seen.len(), MANY + before);
}
