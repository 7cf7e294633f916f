//! What came with lists, line items, tasks, custom objects and subscriptions, against the stateful fake of the sandbox; and the limits that reading
//! links and records one by one runs into.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{collections::BTreeSet, sync::Arc};

use connector_core::{ErrorKind, delta::Change};
use connector_http::{EgressPolicy, HttpTransport};
use connector_hubspot::HubSpot;
use connector_sandbox::{EffectKind, Sandbox};
use serde_json::{Value, json};

use support::{Answer, Fake, client};

async fn hubspot() -> (Sandbox, HubSpot) {
    let sandbox = Sandbox::builder().vendor("hubspot").start("127.0.0.1:0").await.unwrap();
    let transport = HttpTransport::builder().egress(EgressPolicy::new().allow_loopback()).build().unwrap();
    let token = sandbox.credentials().into_iter().find(|credential| credential.vendor == "hubspot" && credential.name == "token").unwrap().value;
    let hubspot = HubSpot::builder().token(token).base_url(sandbox.base_url("hubspot")).transport(Arc::new(transport)).build().unwrap();
    (sandbox, hubspot)
}

async fn ask(hubspot: &HubSpot, tool: &str, args: Value) -> connector_core::Result<Value> {
    let Value::Object(args) = args else { panic!("args must be an object") };
    hubspot.client().call_dynamic(tool, args).await?.body.to_value()
}

async fn contact(hubspot: &HubSpot, n: usize) -> String {
    let made = ask(hubspot, "hubspot_create_contact", json!({ "properties": { "email": format!("c{n}@lists.example") } })).await.unwrap();
    made["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_list_takes_members_tells_who_is_missing_and_comes_back() {
    let (_sandbox, hubspot) = hubspot().await;
    let list = ask(&hubspot, "hubspot_create_list", json!({ "name": "Renewals" })).await.unwrap();
    let id = list["listId"].as_str().unwrap().to_owned();
    assert_eq!(ask(&hubspot, "hubspot_create_list", json!({ "name": "renewals" })).await.unwrap_err().kind(), ErrorKind::Invalid);
    let (one, two) = (contact(&hubspot, 1).await, contact(&hubspot, 2).await);
    let added = ask(&hubspot, "hubspot_add_to_list", json!({ "list_id": id, "record_ids": [one, two, "999999"] })).await.unwrap();
    assert_eq!((&added["recordIdsAdded"], &added["recordIdsMissing"]), (&json!([one, two]), &json!(["999999"])));
    let again = ask(&hubspot, "hubspot_add_to_list", json!({ "list_id": id, "record_ids": [one] })).await.unwrap();
    assert_eq!(again["recordIdsAdded"], json!([]));
    let of = ask(&hubspot, "hubspot_lists_of_record", json!({ "record_id": one })).await.unwrap();
    assert_eq!(of["results"][0]["listId"], json!(id));
    let moved = ask(&hubspot, "hubspot_change_list_members", json!({ "list_id": id, "remove_ids": [one] })).await.unwrap();
    assert_eq!(moved["recordIdsRemoved"], json!([one]));
    let members = ask(&hubspot, "hubspot_list_members", json!({ "list_id": id })).await.unwrap();
    assert_eq!(members["results"].as_array().unwrap().iter().map(|member| &member["recordId"]).collect::<Vec<_>>(), [&json!(two)]);
    ask(&hubspot, "hubspot_rename_list", json!({ "list_id": id, "name": "Renewals 2026" })).await.unwrap();
    ask(&hubspot, "hubspot_delete_list", json!({ "list_id": id })).await.unwrap();
    assert_eq!(ask(&hubspot, "hubspot_get_list", json!({ "list_id": id })).await.unwrap(), Value::Null);
    ask(&hubspot, "hubspot_restore_list", json!({ "list_id": id })).await.unwrap();
    let found = ask(&hubspot, "hubspot_search_lists", json!({ "query": "2026" })).await.unwrap();
    assert_eq!(found["lists"][0]["additionalProperties"]["hs_list_size"], "1");
}

#[tokio::test]
async fn a_dynamic_list_refuses_members() {
    let (_sandbox, hubspot) = hubspot().await;
    let filters = json!({ "filterBranchType": "OR", "filterBranches": [] });
    let args = json!({ "name": "By filter", "processing_type": "DYNAMIC", "filter_branch": filters });
    let id = ask(&hubspot, "hubspot_create_list", args).await.unwrap()["listId"].clone();
    let one = contact(&hubspot, 1).await;
    let error = ask(&hubspot, "hubspot_add_to_list", json!({ "list_id": id, "record_ids": [one] })).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(ask(&hubspot, "hubspot_get_list", json!({ "list_id": id, "include_filters": true })).await.unwrap()["filterBranch"], filters);
}

#[tokio::test]
async fn engagements_line_items_and_custom_objects_are_records_like_others() {
    let (_sandbox, hubspot) = hubspot().await;
    let task = json!({ "properties": { "hs_timestamp": "2026-11-21T12:00:00Z", "hs_task_subject": "Call back", "hs_task_status": "NOT_STARTED" } });
    let task = ask(&hubspot, "hubspot_create_task", task).await.unwrap()["id"].clone();
    ask(&hubspot, "hubspot_complete_task", json!({ "id": task })).await.unwrap();
    assert_eq!(ask(&hubspot, "hubspot_get_task", json!({ "id": task })).await.unwrap()["properties"]["hs_task_status"], "COMPLETED");
    let product = ask(&hubspot, "hubspot_create_product", json!({ "properties": { "name": "Router", "price": "120" } })).await.unwrap();
    let line = json!({ "properties": { "name": "Router", "hs_product_id": product["id"], "quantity": "2" } });
    let line = ask(&hubspot, "hubspot_create_line_item", line).await.unwrap()["id"].clone();
    let found = ask(&hubspot, "hubspot_search_line_items", json!({ "query": "router", "properties": ["quantity"] })).await.unwrap();
    assert_eq!((&found["results"][0]["id"], &found["results"][0]["properties"]["quantity"]), (&line, &json!("2")));
    ask(&hubspot, "hubspot_archive_line_item", json!({ "id": line })).await.unwrap();
    let gone = ask(&hubspot, "hubspot_list_line_items", json!({ "archived": true })).await.unwrap();
    assert_eq!((&gone["results"][0]["id"], &gone["results"][0]["archived"]), (&line, &json!(true)));
    let schema = ask(&hubspot, "hubspot_list_schemas", json!({})).await.unwrap()["results"][0].clone();
    let kind = schema["objectTypeId"].clone();
    let made = ask(&hubspot, "hubspot_create_object", json!({ "object_type": kind, "properties": { "serial": "X77-1" } })).await.unwrap();
    let read =
        ask(&hubspot, "hubspot_get_object", json!({ "object_type": "p424242_machine", "id": made["id"], "properties": ["serial"] })).await.unwrap();
    assert_eq!(read["properties"]["serial"], "X77-1");
}

#[tokio::test]
async fn every_stream_sees_what_was_made_and_then_what_was_archived() {
    let (_sandbox, hubspot) = hubspot().await;
    for (stream, create, archive, properties) in [
        ("products", "hubspot_create_product", "hubspot_archive_product", json!({ "name": "Router" })),
        ("line_items", "hubspot_create_line_item", "hubspot_archive_line_item", json!({ "name": "Router" })),
        ("tasks", "hubspot_create_task", "hubspot_archive_task", json!({ "hs_timestamp": "2026-11-21T12:00:00Z" })),
    ] {
        let id = ask(&hubspot, create, json!({ "properties": properties })).await.unwrap()["id"].as_str().unwrap().to_owned();
        let (mut cursor, mut upserts, mut deletes) = (None, BTreeSet::new(), BTreeSet::new());
        for round in 0..2 {
            loop {
                let page = hubspot.client().connector().delta().unwrap().changes(hubspot.client().cx(), stream, cursor).await.unwrap();
                for change in page.changes {
                    match change {
                        Change::Upsert { key, .. } => upserts.insert(key),
                        Change::Delete { key } => deletes.insert(key),
                    };
                }
                cursor = Some(page.next);
                if !page.more {
                    break;
                }
            }
            if round == 0 {
                assert!(upserts.contains(&id) && deletes.is_empty(), "{stream}");
                ask(&hubspot, archive, json!({ "id": id })).await.unwrap();
            }
        }
        assert_eq!(deletes, BTreeSet::from([id]), "{stream}");
    }
}

#[tokio::test]
async fn earlier_values_of_a_property_are_told_newest_first() {
    let (_sandbox, hubspot) = hubspot().await;
    let id = contact(&hubspot, 1).await;
    for stage in ["lead", "customer"] {
        ask(&hubspot, "hubspot_update_contact", json!({ "id": id, "properties": { "lifecyclestage": stage } })).await.unwrap();
    }
    let args = json!({ "id": id, "properties_with_history": ["lifecyclestage"] });
    let read = ask(&hubspot, "hubspot_get_contact", args).await.unwrap();
    let values: Vec<&str> =
        read["propertiesWithHistory"]["lifecyclestage"].as_array().unwrap().iter().map(|one| one["value"].as_str().unwrap()).collect();
    assert_eq!(values, ["customer", "lead"]);
}

#[tokio::test]
async fn importing_subscriptions_twice_makes_them_once() {
    let (sandbox, hubspot) = hubspot().await;
    let off = json!({ "app_id": "9001", "event_type": "deal.creation", "active": false });
    ask(&hubspot, "hubspot_create_webhook_subscription", off).await.unwrap();
    let other = json!({ "app_id": "9001", "event_type": "company.deletion" });
    ask(&hubspot, "hubspot_create_webhook_subscription", other).await.unwrap();
    let wanted = json!([{ "event_type": "contact.propertyChange", "property_name": "email" }, { "event_type": "deal.creation" }, { "event_type": "deal.creation" }]);
    let counts = |answer: &Value| ["created", "activated", "kept", "others"].map(|name| answer[name].as_array().unwrap().len());
    let first = ask(&hubspot, "hubspot_import_webhook_subscriptions", json!({ "app_id": "9001", "subscriptions": wanted })).await.unwrap();
    assert_eq!(counts(&first), [1, 1, 0, 1]);
    let second = ask(&hubspot, "hubspot_import_webhook_subscriptions", json!({ "app_id": "9001", "subscriptions": wanted })).await.unwrap();
    assert_eq!(counts(&second), [0, 0, 2, 1]);
    assert_eq!(sandbox.ledger().count(EffectKind::SubscriptionChanged), 4);
    let half = json!({ "app_id": "9001", "subscriptions": [{ "event_type": "ticket.creation" }, { "event_type": "contact.propertyChange" }] });
    assert_eq!(ask(&hubspot, "hubspot_import_webhook_subscriptions", half).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(sandbox.ledger().count(EffectKind::SubscriptionChanged), 4, "nothing of a wrong import is made");
}

#[tokio::test]
async fn more_than_five_hundred_links_of_a_record_are_read_to_their_end() {
    let (_sandbox, hubspot) = hubspot().await;
    let company = ask(&hubspot, "hubspot_create_company", json!({ "properties": { "name": "Large" } })).await.unwrap()["id"].clone();
    let inputs: Vec<Value> =
        (0..1_205).map(|n| json!({ "objectWriteTraceId": n.to_string(), "properties": { "email": format!("p{n}@large.example") } })).collect();
    let made = ask(&hubspot, "hubspot_batch_create_contacts", json!({ "inputs": inputs })).await.unwrap();
    let pairs: Vec<Value> =
        made["results"].as_array().unwrap().iter().map(|one| json!({ "from": { "id": one["id"] }, "to": { "id": company } })).collect();
    assert_eq!(pairs.len(), 1_205);
    ask(&hubspot, "hubspot_batch_associate", json!({ "from_type": "contacts", "to_type": "companies", "inputs": pairs })).await.unwrap();
    let args = json!({ "from_type": "companies", "to_type": "contacts", "ids": [company, "1"] });
    let all = ask(&hubspot, "hubspot_read_all_associations", args.clone()).await.unwrap();
    let linked: BTreeSet<&str> = all["results"][0]["to"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    assert_eq!((linked.len(), &all["missing"], &all["truncated"]), (1_205, &json!(["1"]), &json!(false)));
    let mut few = args;
    few["max_links"] = json!(700);
    let few = ask(&hubspot, "hubspot_read_all_associations", few).await.unwrap();
    assert_eq!((few["results"][0]["to"].as_array().unwrap().len(), &few["truncated"]), (700, &json!(true)));
}

#[tokio::test(start_paused = true)]
async fn a_hundred_concurrent_gets_of_contacts_are_one_request() {
    let fake = Fake::new(|seen| {
        let inputs = seen.body["inputs"].as_array().unwrap();
        let results: Vec<Value> = inputs
            .iter()
            .map(|input| json!({ "id": input["id"], "properties": { "email": format!("{}@x.example", input["id"].as_str().unwrap()) } }))
            .collect();
        Answer::Json(200, json!({ "status": "COMPLETE", "results": results }))
    });
    let hubspot = client(&fake);
    let calls = (0..100).map(|n| {
        let hubspot = hubspot.clone();
        tokio::spawn(async move { hubspot.get_contact(n.to_string()).await.map(|contact| contact.id) })
    });
    for (n, call) in calls.enumerate().collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap().unwrap(), n.to_string());
    }
    assert_eq!(fake.calls(), ["POST /crm/v3/objects/contacts/batch/read"]);
    assert_eq!(fake.seen()[0].body["inputs"].as_array().unwrap().len(), 100);
}
