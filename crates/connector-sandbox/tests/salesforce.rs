//! The fake Salesforce over loopback: tokens, queries with pages, the vendor's refusals, collections, jobs, usage, and outbound messages.
#![allow(clippy::unwrap_used, reason = "an unwrap that fails is a failed test")]

mod support;

use connector_sandbox::{EffectKind, Sandbox, WallClock, known};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use support::{Caller, Receiver, bearer};

async fn start() -> (Sandbox, Caller) {
    let sandbox = Sandbox::builder().vendor("salesforce").start("127.0.0.1:0").await.unwrap();
    let caller = bearer(sandbox.base_url("salesforce"), known::SALESFORCE_TOKEN);
    (sandbox, caller)
}

fn code(body: &Value) -> &str {
    body[0]["errorCode"].as_str().unwrap()
}

async fn token(sandbox: &Sandbox, fields: &[(&str, &str)]) -> support::Got {
    let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let caller = Caller::new("", &[("content-type", "application/x-www-form-urlencoded")]);
    caller.raw("POST", &sandbox.token_url("salesforce").unwrap(), form).await.unwrap()
}

#[tokio::test]
async fn tokens_come_with_an_instance_and_without_a_lifetime_and_refresh_tokens_burn() {
    let (sandbox, _) = start().await;
    assert_eq!(code(&bearer(sandbox.base_url("salesforce"), "nope").get("/limits").await.expect(401)), "INVALID_SESSION_ID");
    let client = [("client_id", known::SALESFORCE_CLIENT_ID), ("client_secret", known::SALESFORCE_CLIENT_SECRET)];
    let ask = |more: &[(&'static str, &'static str)]| [&client[..], more].concat();
    let granted = token(&sandbox, &ask(&[("grant_type", "client_credentials")])).await.expect(200);
    assert_eq!((granted.get("expires_in"), &granted["instance_url"]), (None, &json!(sandbox.mount("salesforce"))));
    let caller = bearer(sandbox.base_url("salesforce"), granted["access_token"].as_str().unwrap());
    caller.get("/limits").await.expect(200);
    sandbox.salesforce().expire_tokens();
    caller.get("/limits").await.expect(401);
    let refresh = ask(&[("grant_type", "refresh_token"), ("refresh_token", known::SALESFORCE_REFRESH_TOKEN)]);
    assert_ne!(token(&sandbox, &refresh).await.expect(200)["refresh_token"], known::SALESFORCE_REFRESH_TOKEN);
    let burnt = token(&sandbox, &refresh).await.expect(400);
    assert_eq!((burnt["error"].as_str(), burnt["error_description"].as_str()), (Some("invalid_grant"), Some("expired access/refresh token")));
    let assertion = |claims: Value| {
        use base64::Engine as _;
        let part = |value: &Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.c2ln", part(&json!({"alg": "RS256"})), part(&claims))
    };
    let now = jiff::Timestamp::now().as_second();
    let good =
        json!({"iss": known::SALESFORCE_CLIENT_ID, "sub": "integration@acme.example", "aud": "https://login.salesforce.com", "exp": now + 170});
    let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
    assert_eq!(token(&sandbox, &[("grant_type", grant), ("assertion", &assertion(good.clone()))]).await.status, 200);
    for (key, value, said) in [
        ("exp", json!(now + 600), "expired authorization code"),
        ("sub", json!("nobody@acme.example"), "user hasn't approved this consumer"),
        ("aud", json!("https://acme.my.salesforce.com"), "audience is invalid"),
    ] {
        let mut claims = good.clone();
        claims[key] = value;
        assert_eq!(token(&sandbox, &[("grant_type", grant), ("assertion", &assertion(claims))]).await.expect(400)["error_description"], said);
    }
}

#[tokio::test]
async fn a_query_has_pages_whose_locator_ends_after_two_days() {
    let now = Arc::new(AtomicI64::new(1_790_000_000));
    let clock = now.clone();
    let clock = WallClock::from_fn(move || jiff::Timestamp::from_second(clock.load(Ordering::Relaxed)).unwrap());
    let sandbox = Sandbox::builder().vendor("salesforce").clock(clock).start("127.0.0.1:0").await.unwrap();
    let caller = bearer(sandbox.base_url("salesforce"), known::SALESFORCE_TOKEN);
    for start in [0, 200, 400] {
        let records: Vec<Value> = (start..start + 200).map(|n| json!({"attributes": {"type": "Product2"}, "Name": format!("P{n:03}")})).collect();
        caller.post("/composite/sobjects", json!({"records": records})).await.expect(200);
    }
    let first = caller
        .with("sforce-query-options", "batchSize=250")
        .get("/query?q=SELECT+Name+FROM+Product2+WHERE+Name+LIKE+'P%25'+ORDER+BY+Name")
        .await
        .expect(200);
    assert_eq!((&first["totalSize"], &first["done"], first["records"].as_array().unwrap().len()), (&json!(600), &json!(false), 250));
    assert_eq!(first["records"][3], json!({"attributes": first["records"][3]["attributes"], "Name": "P003"}));
    let next = format!("http://{}{}", sandbox.addr(), first["nextRecordsUrl"].as_str().unwrap());
    assert_eq!(caller.get(&next).await.expect(200)["records"][0]["Name"], "P250");
    now.fetch_add(2 * 86_400 + 1, Ordering::Relaxed);
    assert_eq!(code(&caller.get(&next).await.expect(400)), "INVALID_QUERY_LOCATOR");
}

#[tokio::test]
async fn every_reply_tells_the_usage_and_the_day_ends() {
    let (sandbox, caller) = start().await;
    sandbox.salesforce().set_used(14_998);
    assert!(caller.get("/limits").await.header("sforce-limit-info").starts_with("api-usage=14999/15000"));
    caller.get("/limits").await.expect(200);
    let refused = caller.get("/limits").await;
    assert_eq!(refused.header("sforce-limit-info").split(';').next(), Some("api-usage=15000/15000"));
    let body = refused.expect(403);
    assert_eq!((code(&body), body[0]["message"].as_str()), ("REQUEST_LIMIT_EXCEEDED", Some("TotalRequests Limit exceeded.")));
    sandbox.salesforce().set_used(0);
    sandbox.salesforce().crowd(1);
    assert!(caller.get("/limits").await.expect(403)[0]["message"].as_str().unwrap().contains("Concurrent"));
    caller.get("/limits").await.expect(200);
}

#[tokio::test]
async fn records_obey_the_vendor_s_rules() {
    let (sandbox, caller) = start().await;
    let made = caller.post("/sobjects/Contact", json!({"LastName": "Diaz"})).await.expect(201);
    let id = made["id"].as_str().unwrap();
    assert_eq!((id.len(), &made["success"], &made["errors"]), (18, &json!(true), &json!([])));
    let path = format!("/sobjects/Contact/{id}");
    // The short form of an id is the same.
    assert_eq!(caller.get(&format!("/sobjects/Contact/{}?fields=LastName", &id[..15])).await.expect(200)["LastName"], "Diaz");
    assert_eq!(caller.patch(&path, json!({"Phone": "1"})).await.status, 204);
    let stale = caller.with("if-unmodified-since", "Thu, 01 Jan 2015 00:00:00 GMT").patch(&path, json!({"Phone": "2"})).await;
    assert_eq!(code(&stale.expect(412)), "PRECONDITION_FAILED");
    for (body, wanted) in [
        (json!({"Nope": 1}), "INVALID_FIELD"),
        (json!({"CreatedDate": "2026-01-01"}), "INVALID_FIELD_FOR_INSERT_UPDATE"),
        (json!({"Email": "no-address"}), "INVALID_EMAIL_ADDRESS"),
        (json!({"AccountId": "001xx0000999999AAA"}), "INVALID_CROSS_REFERENCE_KEY"),
        (json!([]), "JSON_PARSER_ERROR"),
    ] {
        assert_eq!(code(&caller.patch(&path, body).await.expect(400)), wanted);
    }
    sandbox.salesforce().lock_record(id, 1);
    assert_eq!(code(&caller.patch(&path, json!({"Phone": "3"})).await.expect(400)), "UNABLE_TO_LOCK_ROW");
    assert_eq!(caller.delete(&path).await.status, 204);
    assert_eq!(code(&caller.delete(&path).await.expect(404)), "ENTITY_IS_DELETED");
    assert_eq!(code(&caller.get("/sobjects/Contact/003xx0000999999AAA").await.expect(404)), "NOT_FOUND");
    assert_eq!(sandbox.ledger().count(EffectKind::RecordRemoved), 1);
    let upsert = |value: Value| caller.patch("/sobjects/Contact/Hub_Id__c/h-1", value);
    assert_eq!(upsert(json!({"LastName": "U"})).await.expect(201)["created"], true);
    assert_eq!(upsert(json!({"LastName": "V"})).await.expect(200)["created"], false);
    assert_eq!(code(&upsert(json!({"LastName": "V", "Hub_Id__c": "h-1"})).await.expect(400)), "INVALID_FIELD");
}

#[tokio::test]
async fn a_load_is_uploaded_once_and_tells_each_row() {
    let (_sandbox, caller) = start().await;
    let job =
        caller.post("/jobs/ingest", json!({"object": "Contact", "operation": "insert", "contentType": "CSV", "lineEnding": "LF"})).await.expect(200);
    let id = job["id"].as_str().unwrap().to_owned();
    let url = format!("{}/jobs/ingest/{id}/batches", caller.base);
    let csv = caller.with("content-type", "text/csv");
    assert_eq!(csv.raw("PUT", &url, "LastName,Email\nA,a@x.example\nB,bad\n").await.unwrap().status, 201);
    assert_eq!(csv.raw("PUT", &url, "LastName\nAgain\n").await.unwrap().status, 400);
    let closed = caller.patch(&format!("/jobs/ingest/{id}"), json!({"state": "UploadComplete"})).await.expect(200);
    assert!(closed.get("lineEnding").is_none(), "the reply is not the whole job");
    let states = [caller.get(&format!("/jobs/ingest/{id}")).await.expect(200), caller.get(&format!("/jobs/ingest/{id}")).await.expect(200)];
    assert_eq!(states.map(|job| job["state"].clone()), ["InProgress", "JobComplete"].map(Value::from));
    let text = |got: &support::Got| String::from_utf8(got.bytes.to_vec()).unwrap();
    let done = text(&caller.get(&format!("/jobs/ingest/{id}/successfulResults/")).await);
    let failed = text(&caller.get(&format!("/jobs/ingest/{id}/failedResults/")).await);
    assert!(
        done.starts_with("\"sf__Id\",\"sf__Created\",\"LastName\",\"Email\"\n\"003") && done.contains("\"true\",\"A\",\"a@x.example\""),
        "{done}"
    );
    assert!(failed.contains("INVALID_EMAIL_ADDRESS:") && failed.contains("\"B\",\"bad\""), "{failed}");
}

#[tokio::test]
async fn outbound_messages_go_out_as_soap_and_are_repeated_until_taken() {
    let (sandbox, caller) = start().await;
    let receiver = Receiver::start().await;
    receiver.answer_with(&[500]);
    sandbox.salesforce().set_webhook(format!("{}?token=t", receiver.url));
    caller.post("/sobjects/Contact", json!({"LastName": "O'Hara & <Sons>"})).await.expect(201);
    caller.post("/sobjects/Product2", json!({"Name": "told to nobody"})).await.expect(201);
    sandbox.settled().await;
    let hits = receiver.hits();
    assert_eq!(hits.len(), 2, "once refused, once taken");
    assert_eq!(hits[0].body, hits[1].body);
    assert!(hits[0].headers["content-type"].to_str().unwrap().starts_with("text/xml"));
    assert!(hits[0].body.contains("<OrganizationId>00Dxx0000001gPLEAY</OrganizationId>"));
    assert!(hits[0].body.contains("<sf:LastName>O'Hara &amp; &lt;Sons&gt;</sf:LastName>"), "{}", hits[0].body);
}
