//! The fake HubSpot over loopback: records, batches, search, properties, associations, limits, OAuth, signed webhooks.
#![allow(clippy::unwrap_used, reason = "an unwrap that fails is a failed test")]

mod support;

use base64::Engine as _;
use connector_sandbox::{EffectKind, Sandbox, WallClock, known};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use support::{Caller, Receiver, bearer, hubspot};

const CONTACTS: &str = "/crm/v3/objects/contacts";
const ADA: &str = "ada.abel@acme.example";

async fn start() -> (Sandbox, Caller) {
    let sandbox = Sandbox::builder().start("127.0.0.1:0").await.unwrap();
    let caller = hubspot(&sandbox);
    (sandbox, caller)
}

async fn ada(caller: &Caller) -> Value {
    caller
        .get(&format!("{CONTACTS}/ada.abel%40acme.example?idProperty=email&properties=email,lifecyclestage&associations=companies"))
        .await
        .expect(200)
}

#[tokio::test]
async fn only_the_right_token_gets_in() {
    let (sandbox, _) = start().await;
    let wrong = bearer(sandbox.base_url("hubspot"), "nope").get(CONTACTS).await.expect(401);
    assert_eq!(wrong["category"], "INVALID_AUTHENTICATION");
    let form = |secret: &str| {
        url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "refresh_token")
            .append_pair("client_id", known::HUBSPOT_CLIENT_ID)
            .append_pair("client_secret", secret)
            .append_pair("refresh_token", known::HUBSPOT_REFRESH_TOKEN)
            .finish()
    };
    let caller = Caller::new("", &[("content-type", "application/x-www-form-urlencoded")]);
    let url = sandbox.token_url("hubspot").unwrap();
    assert_eq!(caller.raw("POST", &url, form("wrong")).await.unwrap().status, 400);
    let token = caller.raw("POST", &url, form(known::HUBSPOT_CLIENT_SECRET)).await.unwrap().expect(200);
    let oauth = bearer(sandbox.base_url("hubspot"), token["access_token"].as_str().unwrap());
    let reply = oauth.get("/account-info/v3/details").await;
    assert_eq!(reply.header("x-hubspot-ratelimit-max"), "190");
    assert_eq!(reply.expect(200)["portalId"], 424_242);
    sandbox.hubspot().expire_tokens();
    assert_eq!(oauth.get(CONTACTS).await.status, 401);
}

#[tokio::test]
async fn a_contact_leads_to_its_tier() {
    let (_sandbox, caller) = start().await;
    let ada = ada(&caller).await;
    assert_eq!(ada["properties"]["lifecyclestage"], "customer");
    let company = ada["associations"]["companies"]["results"][0]["id"].as_str().unwrap();
    let company = caller.get(&format!("/crm/v3/objects/companies/{company}?properties=name,hub_tier,tier")).await.expect(200);
    assert_eq!((&company["properties"]["hub_tier"], &company["properties"]["tier"]), (&json!("gold"), &json!("gold")));
    // A prospect: an open deal and no company.
    let uma = caller.get(&format!("{CONTACTS}/uma.keller%40prospect1.example?idProperty=email&associations=companies,deals")).await.expect(200);
    assert!(uma["associations"].get("companies").is_none());
    let deal = uma["associations"]["deals"]["results"][0]["id"].as_str().unwrap();
    let deal = caller.get(&format!("/crm/v3/objects/deals/{deal}?properties=hs_is_closed,dealstage")).await.expect(200);
    assert_eq!(deal["properties"]["hs_is_closed"], "false");
    assert_eq!(caller.get(&format!("{CONTACTS}/nobody%40x.example?idProperty=email")).await.expect(404)["category"], "OBJECT_NOT_FOUND");
}

#[tokio::test]
async fn list_walks_every_contact_once() {
    let (sandbox, caller) = start().await;
    let (mut seen, mut url) = (Vec::new(), format!("{CONTACTS}?limit=7"));
    loop {
        let page = caller.get(&url).await.expect(200);
        seen.extend(page["results"].as_array().unwrap().iter().map(|r| r["id"].as_str().unwrap().to_owned()));
        match page["paging"]["next"]["after"].as_str() {
            Some(after) => url = format!("{CONTACTS}?limit=7&after={after}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 40);
    assert_eq!(seen.len(), sandbox.hubspot().contact_emails().len());
    assert_eq!(caller.get(&format!("{CONTACTS}?limit=101")).await.status, 400);
    // The dated path family is the same API.
    assert_eq!(caller.get("/crm/objects/2026-03/contacts?limit=1").await.expect(200)["results"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn writes_follow_the_vendors_rules() {
    let (sandbox, caller) = start().await;
    let made = caller.post(CONTACTS, json!({"properties": {"email": "new@acme.example", "firstname": "New"}})).await.expect(201);
    let clash = caller.post(CONTACTS, json!({"properties": {"email": "NEW@acme.example"}})).await.expect(409);
    assert!(clash["message"].as_str().unwrap().ends_with(&format!("Existing ID: {}", made["id"].as_str().unwrap())), "{clash}");
    let unknown = caller.post(CONTACTS, json!({"properties": {"email": "b@acme.example", "shoe_size": "44"}})).await.expect(400);
    assert_eq!(unknown["errors"][0]["code"], "PROPERTY_DOESNT_EXIST");
    let bad = caller.post(CONTACTS, json!({"properties": {"email": "no-at"}})).await.expect(400);
    assert_eq!(bad["errors"][0]["code"], "INVALID_EMAIL");
    assert_eq!(caller.post("/crm/v3/objects/deals", json!({"properties": {"dealname": "x"}})).await.status, 400);
    let url = format!("{CONTACTS}/{}", made["id"].as_str().unwrap());
    let updated = caller.patch(&url, json!({"properties": {"phone": 123, "firstname": ""}})).await.expect(200);
    assert_eq!((&updated["properties"]["phone"], &updated["properties"]["firstname"]), (&json!("123"), &Value::Null));
    assert_eq!(caller.delete(&url).await.status, 204);
    assert_eq!(caller.delete(&url).await.status, 204, "a second delete is no error");
    assert_eq!(caller.get(&url).await.status, 404);
    assert_eq!(caller.get(&format!("{url}?archived=true")).await.expect(200)["archived"], true);
    let ledger = sandbox.ledger();
    assert_eq!(ledger.count(EffectKind::RecordCreated), 1);
    assert_eq!(ledger.of_kind(EffectKind::RecordCreated)[0].key.as_deref(), Some("new@acme.example"));
    assert_eq!((ledger.count(EffectKind::RecordUpdated), ledger.count(EffectKind::RecordRemoved)), (1, 1));
}

#[tokio::test]
async fn batches_succeed_in_part() {
    let (_sandbox, caller) = start().await;
    let read = json!({"idProperty": "email", "properties": ["email"], "inputs": [{"id": ADA}, {"id": "none@x.example"}]});
    let read = caller.post(&format!("{CONTACTS}/batch/read"), read).await.expect(207);
    assert_eq!((read["results"].as_array().unwrap().len(), &read["numErrors"]), (1, &json!(1)));
    assert_eq!(read["errors"][0]["context"]["ids"], json!(["none@x.example"]));
    let all = caller.post(&format!("{CONTACTS}/batch/read"), json!({"idProperty": "email", "inputs": [{"id": ADA}]})).await;
    all.expect(200);

    let rows = |trace: bool| {
        let row = |email: &str, n: u32| {
            let mut row = json!({"properties": {"email": email}});
            if trace {
                row["objectWriteTraceId"] = json!(n.to_string());
            }
            row
        };
        json!({"inputs": [row("batch1@x.example", 1), row(ADA, 2)]})
    };
    assert_eq!(caller.post(&format!("{CONTACTS}/batch/create"), rows(false)).await.status, 409, "without trace ids one bad row refuses all");
    assert_eq!(caller.get(&format!("{CONTACTS}/batch1%40x.example?idProperty=email")).await.status, 404);
    let some = caller.post(&format!("{CONTACTS}/batch/create"), rows(true)).await.expect(207);
    assert_eq!(some["errors"][0]["context"]["objectWriteTraceId"], json!(["2"]));
    assert_eq!(some["results"][0]["objectWriteTraceId"], "1");

    let upsert = json!({"inputs": [
        {"id": ADA, "idProperty": "email", "properties": {"phone": "1"}},
        {"id": "up@x.example", "idProperty": "email", "properties": {"firstname": "Up"}},
    ]});
    let upsert = caller.post(&format!("{CONTACTS}/batch/upsert"), upsert).await.expect(200);
    assert_eq!((&upsert["results"][0]["new"], &upsert["results"][1]["new"]), (&json!(false), &json!(true)));
    let update = json!({"inputs": [{"id": "1", "properties": {"phone": "2"}}, {"id": upsert["results"][0]["id"], "properties": {"phone": "2"}}]});
    let update = caller.post(&format!("{CONTACTS}/batch/update"), update).await.expect(207);
    assert_eq!(update["results"][0]["properties"]["phone"], "2");
    let archive = json!({"inputs": [{"id": upsert["results"][1]["id"]}]});
    assert_eq!(caller.post(&format!("{CONTACTS}/batch/archive"), archive).await.status, 204);
    let many: Vec<Value> = (0..101).map(|n| json!({"id": n.to_string()})).collect();
    assert_eq!(caller.post(&format!("{CONTACTS}/batch/read"), json!({"inputs": many})).await.status, 400);
}

#[tokio::test]
async fn search_filters_sorts_and_caps() {
    let (_sandbox, caller) = start().await;
    let search = |body: Value| {
        let caller = caller.clone();
        async move { caller.post(&format!("{CONTACTS}/search"), body).await }
    };
    let filter = |name: &str, op: &str, value: &str| json!({"propertyName": name, "operator": op, "value": value});
    let one = search(json!({"filterGroups": [{"filters": [filter("email", "EQ", ADA)]}]})).await.expect(200);
    assert_eq!(one["total"], 1);
    let domain = json!({"filterGroups": [{"filters": [filter("email", "CONTAINS_TOKEN", "*@acme.example")]}, {"filters": [filter("email", "EQ", "uma.keller@prospect1.example")]}],
        "sorts": [{"propertyName": "email", "direction": "DESCENDING"}], "limit": 2});
    let page = search(domain).await.expect(200);
    assert_eq!((&page["total"], &page["paging"]["next"]["after"]), (&json!(4), &json!("2")));
    assert_eq!(page["results"][0]["properties"]["email"], "uma.keller@prospect1.example");
    let prospects = search(json!({"filterGroups": [{"filters": [{"propertyName": "company", "operator": "NOT_HAS_PROPERTY"}]}]})).await.expect(200);
    assert_eq!(prospects["total"], 4);
    assert_eq!(search(json!({"after": "10000", "limit": 1})).await.status, 400);
    assert_eq!(search(json!({"limit": 201})).await.status, 400);
    assert_eq!(search(json!({"filterGroups": vec![json!({"filters": [filter("email", "EQ", "a")]}); 6]})).await.status, 400);
    assert_eq!(search(json!({"filterGroups": [{"filters": [filter("nonsense", "EQ", "a")]}]})).await.status, 400);
    let reply = search(json!({})).await;
    assert_eq!(reply.header("x-hubspot-ratelimit-max"), "", "search carries no rate headers");
}

#[tokio::test]
async fn enforced_limits_name_their_policy() {
    let at = Arc::new(AtomicI64::new(1_800_000_000));
    let source = at.clone();
    let clock = WallClock::from_fn(move || jiff::Timestamp::from_second(source.load(Ordering::SeqCst)).unwrap());
    let sandbox = Sandbox::builder().clock(clock).enforce_limits(true).start("127.0.0.1:0").await.unwrap();
    let caller = hubspot(&sandbox);
    for _ in 0..5 {
        caller.post(&format!("{CONTACTS}/search"), json!({})).await.expect(200);
    }
    assert_eq!(caller.post(&format!("{CONTACTS}/search"), json!({})).await.expect(429)["policyName"], "SECONDLY");
    at.fetch_add(1, Ordering::SeqCst);
    caller.post(&format!("{CONTACTS}/search"), json!({})).await.expect(200);
    for _ in 0..190 {
        caller.get("/account-info/v3/details").await.expect(200);
    }
    assert_eq!(caller.get("/account-info/v3/details").await.expect(429)["policyName"], "TEN_SECONDLY_ROLLING");
}

#[tokio::test]
async fn a_custom_property_must_exist_before_it_is_written() {
    let (_sandbox, caller) = start().await;
    let url = "/crm/v3/properties/contacts";
    assert_eq!(caller.get(&format!("{url}/hub_key")).await.status, 404);
    let definition =
        json!({"groupName": "contactinformation", "name": "hub_key", "label": "Key", "type": "string", "fieldType": "text", "hasUniqueValue": true});
    caller.post(url, definition.clone()).await.expect(201);
    assert_eq!(caller.post(url, definition).await.status, 409);
    caller.post(CONTACTS, json!({"properties": {"hub_key": "k1"}})).await.expect(201);
    assert_eq!(caller.post(CONTACTS, json!({"properties": {"hub_key": "k1"}})).await.status, 409);
    caller.get(&format!("{CONTACTS}/k1?idProperty=hub_key")).await.expect(200);
    assert_eq!(caller.patch(&format!("{url}/hub_key"), json!({"label": "Hub key"})).await.expect(200)["label"], "Hub key");
    assert_eq!(caller.delete(&format!("{url}/hub_key")).await.status, 204);
    assert_eq!(caller.delete(&format!("{url}/email")).await.status, 400);
    assert_eq!(
        caller.post(url, json!({"name": "Bad Name", "label": "x", "groupName": "g", "type": "string", "fieldType": "text"})).await.status,
        400
    );
}

#[tokio::test]
async fn associations_have_two_sides_and_labels_replace() {
    let (_sandbox, caller) = start().await;
    let ada = ada(&caller).await["id"].as_str().unwrap().to_owned();
    let ticket = json!({"properties": {"subject": "t", "hs_pipeline": "0", "hs_pipeline_stage": "1"},
        "associations": [{"to": {"id": ada}, "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 16}]}]});
    let ticket = caller.post("/crm/v3/objects/tickets", ticket).await.expect(201)["id"].as_str().unwrap().to_owned();
    let back = caller.get(&format!("/crm/v4/objects/contacts/{ada}/associations/tickets")).await.expect(200);
    assert_eq!(back["results"][0]["toObjectId"], json!(ticket));
    assert_eq!(back["results"][0]["associationTypes"][0]["typeId"], 15);

    let company = caller.post("/crm/v3/objects/companies", json!({"properties": {"name": "X"}})).await.expect(201)["id"].as_str().unwrap().to_owned();
    let pair = format!("/crm/v4/objects/contacts/{ada}/associations/companies/{company}");
    let labels = caller.post("/crm/associations/v4/contacts/companies/labels", json!({"label": "Buyer", "name": "buyer"})).await.expect(200);
    let buyer = labels["results"][0]["typeId"].clone();
    caller.put(&pair, json!([{"associationCategory": "USER_DEFINED", "associationTypeId": buyer}])).await.expect(201);
    caller.put(&pair, json!([{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 1}])).await.expect(201);
    let types = caller.get(&format!("/crm/v4/objects/companies/{company}/associations/contacts")).await.expect(200);
    let ids: Vec<&Value> = types["results"][0]["associationTypes"].as_array().unwrap().iter().map(|t| &t["typeId"]).collect();
    assert_eq!(ids, [&json!(2), &json!(280)], "the new label set replaced the old one");
    assert_eq!(caller.put(&pair, json!([{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 4}])).await.status, 400);
    caller.put(&format!("/crm/v4/objects/contacts/{ada}/associations/default/companies/{company}"), Value::Null).await.expect(200);

    let read = json!({"inputs": [{"id": ada}, {"id": "1"}]});
    let read = caller.post("/crm/v4/associations/contacts/companies/batch/read", read).await.expect(207);
    assert_eq!(read["results"][0]["to"].as_array().unwrap().len(), 2);
    assert_eq!(read["errors"][0]["subCategory"], "crm.associations.NO_ASSOCIATIONS_FOUND");
    let archive = json!({"inputs": [{"from": {"id": ada}, "to": [{"id": company}]}]});
    assert_eq!(caller.post("/crm/v4/associations/contacts/companies/batch/archive", archive).await.status, 204);
    let left = caller.get(&format!("/crm/v4/objects/companies/{company}/associations/contacts")).await.expect(200);
    assert_eq!(left["results"], json!([]));
    let create = json!({"inputs": [{"from": {"id": ada}, "to": {"id": company}, "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 279}]}]});
    caller.post("/crm/v4/associations/contacts/companies/batch/create", create).await.expect(201);
    assert_eq!(caller.delete(&pair).await.status, 204);
}

#[tokio::test]
async fn merge_keeps_the_old_id_on_single_calls_only() {
    let (sandbox, caller) = start().await;
    let id = |r: Value| r["id"].as_str().unwrap().to_owned();
    let a = id(caller.post(CONTACTS, json!({"properties": {"email": "a@m.example"}})).await.expect(201));
    let b = id(caller.post(CONTACTS, json!({"properties": {"email": "b@m.example", "phone": "7"}})).await.expect(201));
    let merged = caller.post(&format!("{CONTACTS}/merge"), json!({"primaryObjectId": a, "objectIdToMerge": b})).await.expect(200);
    assert_eq!(merged["id"], json!(a));
    assert_eq!(caller.get(&format!("{CONTACTS}/{b}?properties=phone")).await.expect(200)["properties"]["phone"], "7");
    caller.post(&format!("{CONTACTS}/batch/read"), json!({"inputs": [{"id": b}]})).await.expect(207);
    assert_eq!(caller.post(&format!("{CONTACTS}/gdpr-delete"), json!({"objectId": "a@m.example", "idProperty": "email"})).await.status, 204);
    assert_eq!(caller.get(&format!("{CONTACTS}/{a}")).await.status, 404);
    assert_eq!(sandbox.ledger().count(EffectKind::RecordRemoved), 2);
}

#[tokio::test]
async fn lookups_answer() {
    let (_sandbox, caller) = start().await;
    let owners = caller.get("/crm/v3/owners?limit=2").await.expect(200);
    assert_eq!((owners["results"].as_array().unwrap().len(), &owners["paging"]["next"]["after"]), (2, &json!("72")));
    assert_eq!(caller.get("/crm/v3/owners?email=fay%40contoso.example").await.expect(200)["results"][0]["id"], "73");
    assert_eq!(caller.get("/crm/v3/pipelines/tickets").await.expect(200)["results"][0]["stages"][3]["metadata"]["ticketState"], "CLOSED");
    assert_eq!(caller.get("/crm/v3/objects/spaceships").await.status, 400);
    assert_eq!(caller.get("/marketing/v3/emails").await.status, 404);
}

#[tokio::test]
async fn changes_are_signed_events() {
    let (sandbox, caller) = start().await;
    let receiver = Receiver::start().await;
    sandbox.hubspot().set_webhook(&receiver.url);
    receiver.answer_with(&[500]);
    let made = caller.post(CONTACTS, json!({"properties": {"email": "hook@x.example"}})).await.expect(201);
    caller.patch(&format!("{CONTACTS}/{}", made["id"].as_str().unwrap()), json!({"properties": {"phone": "1"}})).await.expect(200);
    sandbox.settled().await;
    let events = receiver.items();
    let change = events.iter().find(|e| e["subscriptionType"] == "contact.propertyChange").unwrap();
    assert_eq!((&change["propertyName"], &change["propertyValue"]), (&json!("phone"), &json!("1")));
    assert!(events.iter().any(|e| e["attemptNumber"] == 1), "the refused one came again");
    for hit in receiver.hits() {
        let stamp = hit.headers["x-hubspot-request-timestamp"].to_str().unwrap();
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(known::HUBSPOT_CLIENT_SECRET.as_bytes()).unwrap();
        mac.update(format!("POST{}{}{stamp}", receiver.url, hit.body).as_bytes());
        let expected = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
        assert_eq!(hit.headers["x-hubspot-signature-v3"], expected.as_str());
    }
}
