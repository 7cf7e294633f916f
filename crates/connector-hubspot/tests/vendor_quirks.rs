//! One test per oddity of HubSpot, named after it. Sources: https://developers.hubspot.com/docs, pages named beside the oddities in manifest and odd/.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use connector_core::{ErrorKind, Retry};
use connector_http::{EgressPolicy, HttpTransport};
use connector_hubspot::{HubSpot, manifest};
use futures_util::future::join_all;
use serde_json::{Value, json};

use support::{Answer, Fake, call, client, output, query};

fn contact(id: &str, properties: Value) -> Value {
    json!({ "id": id, "properties": properties, "createdAt": "2026-01-02T03:04:05Z", "updatedAt": "2026-01-02T03:04:05Z", "archived": false })
}

fn always(status: u16, body: Value) -> Arc<Fake> {
    Fake::new(move |_| Answer::Json(status, body.clone()))
}

async fn error(status: u16, body: Value) -> connector_core::Error {
    let fake = always(status, body);
    call(&client(&fake), "hubspot_merge_contacts", json!({ "primary_id": "1", "merge_id": "2" })).await.unwrap_err()
}

#[tokio::test]
async fn property_values_are_texts_whatever_was_written() {
    let fake = always(200, contact("7001", json!({ "amount": "1250.5", "closed": "true", "note": "", "owner": null })));
    let deal = output(&client(&fake), "hubspot_get_deal", json!({ "id": "7001" })).await.unwrap();
    assert_eq!(deal["properties"], json!({ "amount": "1250.5", "closed": "true", "note": "", "owner": null }));
}

#[tokio::test]
async fn contacts_have_lastmodifieddate_and_all_others_hs_lastmodifieddate() {
    let fake = always(200, json!({ "total": 0, "results": [] }));
    let hubspot = client(&fake);
    let delta = hubspot.client().connector().delta().unwrap();
    for stream in ["contacts", "companies", "deals", "tickets"] {
        delta.changes(hubspot.client().cx(), stream, None).await.unwrap();
    }
    let sorted_by = |seen: &support::Seen| seen.body["sorts"][0]["propertyName"].as_str().unwrap().to_owned();
    let names: Vec<_> = fake.seen().iter().map(sorted_by).collect();
    assert_eq!(names, ["lastmodifieddate", "hs_lastmodifieddate", "hs_lastmodifieddate", "hs_lastmodifieddate"]);
}

#[tokio::test(start_paused = true)]
async fn searches_have_a_bucket_of_their_own_inside_the_main_one() {
    let fake = always(200, json!({ "total": 0, "results": [] }));
    let hubspot = client(&fake);
    let started = tokio::time::Instant::now();
    for _ in 0..12 {
        call(&hubspot, "hubspot_search_deals", json!({})).await.unwrap();
    }
    let searching = started.elapsed();
    assert!(searching >= Duration::from_secs(2), "12 searches at no more than 5 a second took {searching:?}");
    // Lists are searched over an API of their own.
    for tool in manifest().tools.iter().filter(|tool| tool.name.contains("_search_") && tool.name != "hubspot_search_lists") {
        assert_eq!(tool.limit_class.as_deref(), Some("search"), "{}", tool.name);
    }
    assert_eq!(manifest().limits["search"].with.as_deref(), Some("default"));
}

#[tokio::test]
async fn a_secondary_address_finds_the_contact_too() {
    let fake = always(200, contact("512", json!({ "email": "ada@example.com" })));
    let found = output(&client(&fake), "hubspot_get_contact_by_email", json!({ "email": "countess@example.com" })).await.unwrap();
    assert_eq!(found["id"], "512");
}

#[tokio::test]
async fn after_is_a_record_id_in_lists_and_an_offset_in_searches() {
    let fake = Fake::new(|seen| {
        let first = if seen.method == "GET" { !seen.target.contains("after=") } else { seen.body.get("after").is_none() };
        let after = if seen.method == "GET" { "1024" } else { "200" };
        let paging = if first { json!({ "next": { "after": after } }) } else { Value::Null };
        Answer::Json(200, json!({ "total": 900, "results": [], "paging": paging }))
    });
    let hubspot = client(&fake);
    for tool in ["hubspot_list_contacts", "hubspot_search_contacts"] {
        let first = call(&hubspot, tool, json!({})).await.unwrap();
        let next = connector_core::OpCall::new(tool, serde_json::Map::new()).with_cursor(first.next);
        hubspot.client().connector().call(hubspot.client().cx(), next).await.unwrap();
    }
    let seen = fake.seen();
    assert_eq!((query(&seen[0].target).get("after"), &query(&seen[1].target)["after"]), (None, &json!("1024")));
    assert_eq!((seen[2].body.get("after"), &seen[3].body["after"]), (None, &json!("200")));
    assert_eq!(seen[3].body["limit"], 200);
}

#[tokio::test]
async fn a_207_keeps_the_successes_and_names_the_rows_that_failed() {
    let body = json!({ "status": "COMPLETE", "results": [contact("1", json!({}))], "numErrors": 1,
        "errors": [{ "status": "error", "category": "VALIDATION_ERROR", "message": "no", "context": { "objectWriteTraceId": ["row-2"] } }] });
    let fake = always(207, body);
    let rows = json!({ "inputs": [{ "objectWriteTraceId": "row-1", "properties": {} }, { "objectWriteTraceId": "row-2", "properties": {} }] });
    let reply = call(&client(&fake), "hubspot_batch_create_contacts", rows).await.unwrap();
    assert_eq!(reply.body.to_value().unwrap()["results"][0]["id"], "1");
    let [failed] = &reply.partial[..] else { panic!("one row failed") };
    assert_eq!((failed.index, failed.kind, failed.vendor_code.as_deref()), (Some(1), ErrorKind::Invalid, Some("VALIDATION_ERROR")));
}

#[tokio::test]
async fn one_bad_row_without_a_trace_id_fails_the_whole_create() {
    let fake = always(400, json!({ "status": "error", "category": "VALIDATION_ERROR", "correlationId": "c-1" }));
    let rows = json!({ "inputs": [{ "properties": {} }, { "properties": {} }] });
    let error = call(&client(&fake), "hubspot_batch_create_deals", rows).await.unwrap_err();
    assert_eq!((error.kind(), error.vendor_code(), error.request_id()), (ErrorKind::Invalid, Some("VALIDATION_ERROR"), Some("c-1")));
}

#[tokio::test]
async fn batches_above_a_hundred_are_cut_and_failures_keep_their_place() {
    let fake = Fake::new(|seen| {
        let rows = seen.body["inputs"].as_array().unwrap();
        let missing = rows.iter().find(|row| row["id"] == "205");
        let results: Vec<Value> = rows.iter().filter(|row| row["id"] != "205").map(|row| contact(row["id"].as_str().unwrap(), json!({}))).collect();
        let errors = missing.map(|_| json!([{ "category": "OBJECT_NOT_FOUND", "context": { "ids": ["205"] } }])).unwrap_or(json!([]));
        Answer::Json(if missing.is_some() { 207 } else { 200 }, json!({ "status": "COMPLETE", "results": results, "errors": errors }))
    });
    let inputs: Vec<Value> = (0..230).map(|id| json!({ "id": id.to_string() })).collect();
    let reply = call(&client(&fake), "hubspot_batch_read_companies", json!({ "inputs": inputs })).await.unwrap();
    let sizes: Vec<usize> = fake.seen().iter().map(|seen| seen.body["inputs"].as_array().unwrap().len()).collect();
    assert_eq!(sizes, [100, 100, 30]);
    assert_eq!(reply.body.to_value().unwrap()["results"].as_array().unwrap().len(), 229);
    assert_eq!(reply.partial.iter().map(|row| (row.index, row.kind)).collect::<Vec<_>>(), [(Some(205), ErrorKind::NotFound)]);
}

#[tokio::test]
async fn the_body_of_a_labelled_association_is_a_bare_array() {
    let fake = always(201, json!({ "labels": [] }));
    let types = json!([{ "associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 1 }]);
    let args = json!({ "from_type": "contacts", "from_id": "512", "to_type": "companies", "to_id": "9001", "types": types });
    call(&client(&fake), "hubspot_associate_labelled", args).await.unwrap();
    assert_eq!(fake.seen()[0].body, types);
}

#[test]
fn the_scope_of_tickets_is_tickets() {
    for tool in manifest().tools.iter().filter(|tool| tool.name.ends_with("_ticket") || tool.name.ends_with("_tickets")) {
        assert_eq!(tool.scopes, ["tickets"], "{}", tool.name);
    }
}

#[tokio::test]
async fn an_address_in_a_path_is_percent_encoded_on_the_wire() {
    let mut server = mockito::Server::new_async().await;
    let found = server
        .mock("GET", "/crm/v3/objects/contacts/ada%2Bshop%40example.com")
        .match_query(mockito::Matcher::UrlEncoded("idProperty".into(), "email".into()))
        .match_header("authorization", "Bearer pat-test")
        .with_body(contact("512", json!({ "email": "ada+shop@example.com" })).to_string())
        .create_async()
        .await;
    let transport = HttpTransport::builder().egress(EgressPolicy::new().allow_loopback()).build().unwrap();
    let hubspot = HubSpot::builder().token("pat-test").base_url(server.url()).transport(Arc::new(transport)).build().unwrap();
    let contact = output(&hubspot, "hubspot_get_contact_by_email", json!({ "email": "ada+shop@example.com" })).await.unwrap();
    assert_eq!(contact["id"], "512");
    found.assert_async().await;
    assert!(!format!("{hubspot:?}").contains("pat-test"));
}

#[tokio::test]
async fn archiving_what_is_gone_succeeds() {
    let fake = always(204, Value::Null);
    let reply = call(&client(&fake), "hubspot_archive_contact", json!({ "id": "1" })).await.unwrap();
    assert_eq!(reply.body.to_value().unwrap(), Value::Null);
}

/// An account with one contact whose deals are in the given stages of a pipeline with opaque stage ids.
fn account(lifecycle: &'static str, stages: &'static [&'static str]) -> Arc<Fake> {
    Fake::new(move |seen| {
        let path = seen.target.split('?').next().unwrap();
        Answer::Json(
            200,
            match path {
                "/crm/v3/objects/contacts/ada%40example.com" => contact("512", json!({ "email": "ada@example.com", "lifecyclestage": lifecycle })),
                "/crm/v4/objects/contacts/512/associations/deals" => {
                    let deals: Vec<Value> = (0..stages.len()).map(|deal| json!({ "toObjectId": deal + 1, "associationTypes": [] })).collect();
                    json!({ "results": deals })
                }
                "/crm/v3/pipelines/deals" => json!({ "results": [
                    { "id": "p1", "stages": [
                        { "id": "100", "metadata": { "isClosed": "false", "probability": "0.2" } },
                        { "id": "200", "metadata": { "isClosed": "true", "probability": "1.0" } },
                        { "id": "300", "metadata": { "isClosed": "true", "probability": "0.0" } }] },
                    { "id": "p2", "stages": [{ "id": "100", "metadata": { "isClosed": "true", "probability": "1.0" } }] }] }),
                "/crm/v3/objects/deals/batch/read" => {
                    let deals: Vec<Value> = seen.body["inputs"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|row| {
                            let stage = stages[row["id"].as_str().unwrap().parse::<usize>().unwrap() - 1];
                            contact(row["id"].as_str().unwrap(), json!({ "pipeline": "p1", "dealstage": stage }))
                        })
                        .collect();
                    json!({ "status": "COMPLETE", "results": deals })
                }
                other => panic!("unexpected request {other}"),
            },
        )
    })
}

#[tokio::test]
async fn won_and_open_are_told_by_the_account_s_own_stages() {
    for (lifecycle, stages, prospect) in [
        ("opportunity", &["100"][..], true),
        ("opportunity", &["100", "300"][..], true),
        ("opportunity", &["300"][..], false),
        ("opportunity", &["100", "200"][..], false),
        ("customer", &["100"][..], false),
        ("lead", &[][..], false),
        ("lead", &["gone"][..], false),
    ] {
        let fake = account(lifecycle, stages);
        assert_eq!(client(&fake).is_prospect_by_email("ada@example.com").await.unwrap(), prospect, "{lifecycle} {stages:?}");
    }
}

/// A contact whose companies are given, each with its label and its tier properties.
fn companies(companies: Value) -> Arc<Fake> {
    Fake::new(move |seen| {
        let path = seen.target.split('?').next().unwrap();
        let body = match path {
            "/crm/v3/objects/contacts/ada%40example.com" => contact("512", json!({ "email": "ada@example.com" })),
            "/crm/v4/objects/contacts/512/associations/companies" => {
                let links: Vec<Value> = companies.as_array().unwrap().iter()
                    .map(|company| json!({ "toObjectId": company["id"], "associationTypes": [{ "category": "HUBSPOT_DEFINED", "typeId": company["label"], "label": null }] }))
                    .collect();
                json!({ "results": links })
            }
            path => match path.strip_prefix("/crm/v3/objects/companies/") {
                Some(id) => {
                    let company = companies.as_array().unwrap().iter().find(|company| company["id"].as_u64() == id.parse().ok()).unwrap();
                    contact(id, company["properties"].clone())
                }
                None => return Answer::Json(404, json!({ "category": "OBJECT_NOT_FOUND" })),
            },
        };
        Answer::Json(200, body)
    })
}

#[tokio::test]
async fn the_tier_is_the_primary_company_s_and_standard_if_nobody_says() {
    let gold = json!({ "id": 9001, "label": 1, "properties": { "name": "Acme", "tier": "gold" } });
    let other = json!({ "id": 9002, "label": 279, "properties": { "name": "Other", "hub_tier": "silver" } });
    let empty = json!({ "id": 9003, "label": 1, "properties": { "name": "Empty", "tier": "", "hub_tier": null } });
    for (these, tier) in [
        (json!([other, gold]), "gold"),
        (json!([other]), "silver"),
        (json!([other, other]), "standard"),
        (json!([empty]), "standard"),
        (json!([]), "standard"),
    ] {
        assert_eq!(client(&companies(these.clone())).tier_of("ada@example.com").await.unwrap(), tier, "{these}");
    }
    let stranger = client(&companies(json!([]))).tier_of("nobody@example.com").await.unwrap();
    assert_eq!(stranger, "standard");
}

#[tokio::test]
async fn a_deal_comes_with_its_people_and_companies_in_three_calls() {
    let fake = Fake::new(|seen| {
        let record = |id: &str| contact(id, json!({}));
        Answer::Json(
            200,
            match seen.target.split('?').next().unwrap() {
                "/crm/v3/objects/deals/7001" => {
                    let mut deal = record("7001");
                    deal["associations"] = json!({ "contacts": { "results": [{ "id": "512", "type": "deal_to_contact" }, { "id": "512", "type": "label" }] },
                    "companies": { "results": [{ "id": "9001", "type": "deal_to_company" }] } });
                    deal
                }
                _ => {
                    json!({ "results": seen.body["inputs"].as_array().unwrap().iter().map(|row| record(row["id"].as_str().unwrap())).collect::<Vec<_>>() })
                }
            },
        )
    });
    let context = output(&client(&fake), "hubspot_deal_context", json!({ "deal_id": "7001" })).await.unwrap();
    assert_eq!(
        (&context["deal"]["id"], &context["contacts"][0]["id"], &context["companies"][0]["id"]),
        (&json!("7001"), &json!("512"), &json!("9001"))
    );
    assert_eq!(fake.seen().len(), 3);
    assert_eq!(fake.seen()[1].body["inputs"], json!([{ "id": "512" }]));
}

#[tokio::test(start_paused = true)]
async fn a_429_means_what_its_policy_name_says() {
    let limited = |policy: &str| json!({ "status": "error", "errorType": "RATE_LIMIT", "policyName": policy, "correlationId": "c-9" });
    let daily = error(429, limited("DAILY")).await;
    // Noon UTC is one o'clock in Paris: eleven hours to the account's midnight.
    assert_eq!((daily.kind(), daily.retry_after()), (ErrorKind::Quota, Some(Duration::from_secs(11 * 3600))));
    assert_eq!(daily.request_id(), Some("c-9"));
    for (policy, wait) in [("TEN_SECONDLY_ROLLING", 10), ("SECONDLY", 1)] {
        let sends = Arc::new(AtomicUsize::new(0));
        let (counter, body) = (sends.clone(), limited(policy));
        let fake = Fake::new(move |_| match counter.fetch_add(1, Ordering::SeqCst) {
            0 => Answer::Json(429, body.clone()),
            _ => Answer::Json(200, contact("1", json!({}))),
        });
        let started = tokio::time::Instant::now();
        call(&client(&fake), "hubspot_get_contact", json!({ "id": "1" })).await.unwrap();
        assert!(started.elapsed() >= Duration::from_secs(wait), "{policy}: {:?}", started.elapsed());
        assert_eq!(sends.load(Ordering::SeqCst), 2, "{policy}");
    }
}

#[tokio::test(start_paused = true)]
async fn statuses_of_hubspot_s_own_have_their_class() {
    for (status, body, kind) in [
        (477, json!({}), ErrorKind::Throttled),
        (403, json!({ "category": "MISSING_SCOPES" }), ErrorKind::Forbidden),
        (409, json!({ "category": "CONFLICT", "message": "Existing ID: 512" }), ErrorKind::Conflict),
        (414, json!({}), ErrorKind::Invalid),
        (404, json!({ "category": "OBJECT_NOT_FOUND" }), ErrorKind::NotFound),
    ] {
        assert_eq!(error(status, body).await.kind(), kind, "{status}");
    }
    // A merge must not be repeated, so where nobody knows whether it happened, the caller is told so.
    for status in [524, 521, 500] {
        assert_eq!(error(status, json!({})).await.kind(), ErrorKind::Unknown, "{status}");
    }
    let read = call(&client(&always(524, json!({}))), "hubspot_get_contact", json!({ "id": "1" })).await.unwrap_err();
    assert_eq!((read.kind(), read.retry()), (ErrorKind::Timeout, Retry::Exhausted));
}

#[tokio::test(start_paused = true)]
async fn a_locked_record_is_asked_again_after_two_seconds() {
    let sends = Arc::new(AtomicUsize::new(0));
    let counter = sends.clone();
    let fake = Fake::new(move |_| match counter.fetch_add(1, Ordering::SeqCst) {
        0 => Answer::Json(423, json!({})),
        _ => Answer::Json(200, contact("1", json!({}))),
    });
    let started = tokio::time::Instant::now();
    call(&client(&fake), "hubspot_update_contact", json!({ "id": "1", "properties": { "firstname": "Ada" } })).await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(2), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_custom_property_is_made_once_even_if_somebody_is_faster() {
    let wanted = json!({ "object_type": "deals", "name": "hub_tier", "label": "Tier", "group_name": "dealinformation", "has_unique_value": true });
    let there = json!({ "name": "hub_tier", "type": "string", "fieldType": "select", "hasUniqueValue": true });

    let fake = always(200, there.clone());
    let found = output(&client(&fake), "hubspot_ensure_property", wanted.clone()).await.unwrap();
    assert_eq!((&found["created"], &found["differs"]), (&json!(false), &json!(["fieldType"])));
    assert_eq!(fake.calls(), ["GET /crm/v3/properties/deals/hub_tier"]);

    let fake = Fake::new({
        let there = there.clone();
        move |seen| if seen.method == "GET" { Answer::Json(404, json!({})) } else { Answer::Json(201, there.clone()) }
    });
    let made = output(&client(&fake), "hubspot_ensure_property", wanted.clone()).await.unwrap();
    assert_eq!((&made["created"], &made["property"]["name"]), (&json!(true), &json!("hub_tier")));
    let body = &fake.seen()[1].body;
    assert_eq!((&body["type"], &body["fieldType"], &body["hasUniqueValue"]), (&json!("string"), &json!("text"), &json!(true)));

    let looks = Arc::new(AtomicUsize::new(0));
    let fake = Fake::new(move |seen| match seen.method.as_str() {
        "GET" if looks.fetch_add(1, Ordering::SeqCst) == 0 => Answer::Json(404, json!({})),
        "GET" => Answer::Json(200, there.clone()),
        _ => Answer::Json(409, json!({ "category": "CONFLICT" })),
    });
    let raced = output(&client(&fake), "hubspot_ensure_property", wanted).await.unwrap();
    assert_eq!(raced["created"], json!(false));
    assert_eq!(fake.calls().len(), 3);
}

#[tokio::test]
async fn an_upsert_of_one_row_fails_as_a_call_and_not_as_a_batch() {
    let args = json!({ "value": "ada@example.com", "properties": { "firstname": "Ada" } });
    let mut record = contact("512", json!({ "firstname": "Ada" }));
    record["new"] = json!(true);
    let fake = always(200, json!({ "status": "COMPLETE", "results": [record] }));
    let made = output(&client(&fake), "hubspot_upsert_contact", args.clone()).await.unwrap();
    assert_eq!((&made["id"], &made["new"]), (&json!("512"), &json!(true)));
    assert_eq!(fake.seen()[0].body["inputs"], json!([{ "id": "ada@example.com", "idProperty": "email", "properties": { "firstname": "Ada" } }]));

    let fake = always(
        207,
        json!({ "status": "COMPLETE", "results": [], "errors": [{ "category": "VALIDATION_ERROR", "context": { "ids": ["ada@example.com"] } }] }),
    );
    let error = call(&client(&fake), "hubspot_upsert_contact", args).await.unwrap_err();
    assert_eq!((error.kind(), error.vendor_code()), (ErrorKind::Invalid, Some("VALIDATION_ERROR")));
}

#[tokio::test(start_paused = true)]
async fn a_contact_that_may_have_been_created_is_looked_up_by_address() {
    let fake = Fake::new(|seen| match seen.method.as_str() {
        "POST" => Answer::Lost(ErrorKind::Timeout),
        _ => Answer::Json(200, contact("512", json!({ "email": "ada@example.com" }))),
    });
    let reply = call(&client(&fake), "hubspot_create_contact", json!({ "properties": { "email": "ada@example.com" } })).await.unwrap();
    assert_eq!((reply.meta.reconciled, &reply.body.to_value().unwrap()["id"]), (true, &json!("512")));
    assert_eq!(fake.calls().iter().filter(|call| call.starts_with("POST")).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_deal_that_may_have_been_created_is_never_created_twice() {
    let fake = Fake::new(|seen| match seen.method.as_str() {
        "POST" => Answer::Lost(ErrorKind::Timeout),
        _ => Answer::Json(200, contact("7001", json!({ "hub_idempotency_key": "k-1" }))),
    });
    let reply =
        call(&client(&fake), "hubspot_create_deal", json!({ "properties": { "dealname": "x", "hub_idempotency_key": "k-1" } })).await.unwrap();
    assert_eq!(reply.body.to_value().unwrap()["id"], "7001");
    // Without the key there is nothing to look for.
    let error = call(&client(&fake), "hubspot_create_deal", json!({ "properties": { "dealname": "x" } })).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unknown);
    assert_eq!(fake.calls().iter().filter(|call| call.starts_with("POST")).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn concurrent_lookups_by_address_become_one_batch() {
    let fake = Fake::new(|seen| {
        let rows = seen.body["inputs"].as_array().unwrap();
        let found = rows.iter().map(|row| contact("1", json!({ "email": row["id"].as_str().unwrap().to_lowercase() }))).collect::<Vec<_>>();
        Answer::Json(200, json!({ "status": "COMPLETE", "results": found }))
    });
    let hubspot = client(&fake);
    let hubspot = &hubspot;
    let lookups =
        (0..40).map(|n| async move { output(hubspot, "hubspot_get_contact_by_email", json!({ "email": format!("User{n}@example.com") })).await });
    let found = join_all(lookups).await;
    assert!(found.iter().all(|contact| contact.as_ref().unwrap()["id"] == "1"));
    assert_eq!(fake.calls(), ["POST /crm/v3/objects/contacts/batch/read"]);
    assert_eq!(fake.seen()[0].body["idProperty"], "email");
}
