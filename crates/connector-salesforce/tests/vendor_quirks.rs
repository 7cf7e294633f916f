//! One test per oddity of Salesforce, named after it. Sources stand beside the oddities in manifest and odd/.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use connector_core::{ErrorKind, OpCall, Retry};
use connector_http::{EgressPolicy, HttpTransport};
use connector_salesforce::Salesforce;
use serde_json::{Value, json};

use support::{Answer, Fake, call, client, output};

fn told(code: &str, message: &str) -> Value {
    json!([{ "errorCode": code, "message": message }])
}

/// What a create that is answered like this is reported as.
async fn refused(status: u16, body: Value) -> connector_core::Error {
    let fake = Fake::always(status, body);
    call(&client(&fake), "sf_create_record", json!({ "sobject": "Contact", "fields": { "LastName": "Diaz" } })).await.unwrap_err()
}

#[tokio::test]
async fn soql_quote_break_outs_stay_literals() {
    let fake = Fake::always(200, json!({ "totalSize": 0, "done": true, "records": [] }));
    let salesforce = client(&fake);
    for (value, literal) in [
        ("Bob's BBQ", r"'Bob\'s BBQ'"),
        ("x' OR LastName != '", r"'x\' OR LastName != \''"),
        (r"x\' OR Id != \'", r"'x\\\' OR Id != \\\''"),
        ("trailing\\", r"'trailing\\'"),
    ] {
        output(&salesforce, "sf_query", json!({ "soql": "SELECT Id FROM Contact WHERE LastName = :v", "params": { "v": value } })).await.unwrap();
        assert_eq!(fake.seen().last().unwrap().q("q"), format!("SELECT Id FROM Contact WHERE LastName = {literal}"));
    }
    output(&salesforce, "sf_query", json!({ "soql": "SELECT Id FROM A WHERE B LIKE :v", "params": { "v": "50%_off" } })).await.unwrap();
    assert_eq!(fake.seen().last().unwrap().q("q"), r"SELECT Id FROM A WHERE B LIKE '50\%\_off'");
}

#[tokio::test]
async fn a_value_without_a_place_is_refused_before_anything_is_sent() {
    let fake = Fake::always(200, json!({}));
    let error =
        output(&client(&fake), "sf_query", json!({ "soql": "SELECT Id FROM A WHERE B = :emial", "params": { "email": "x" } })).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("did you mean `:email`?"), "{error}");
    assert!(fake.lines().is_empty());
}

#[tokio::test]
async fn pages_follow_next_records_url_with_its_own_version() {
    let fake = Fake::new(|seen| {
        Answer::Json(
            200,
            if seen.path == "/query" {
                json!({ "totalSize": 2, "done": false, "nextRecordsUrl": "/services/data/v60.0/query/0r8xx-2000", "records": [{ "Id": "1" }] })
            } else {
                json!({ "totalSize": 2, "done": true, "records": [{ "Id": "2" }] })
            },
        )
    });
    let salesforce = client(&fake);
    let first = call(&salesforce, "sf_query", json!({ "soql": "SELECT Id FROM A", "batch_size": 200 })).await.unwrap();
    let Value::Object(args) = json!({ "soql": "SELECT Id FROM A" }) else { unreachable!() };
    let next = OpCall::new("sf_query", args).with_cursor(first.next);
    let second = salesforce.client().connector().call(salesforce.client().cx(), next).await.unwrap();
    assert_eq!(second.body.to_value().unwrap()["records"][0]["Id"], "2");
    assert!(second.next.is_none());
    assert_eq!(fake.lines(), ["GET /query", "GET /services/data/v60.0/query/0r8xx-2000"]);
    assert_eq!(fake.seen()[0].header("sforce-query-options"), "batchSize=200");
}

#[tokio::test]
async fn a_next_page_on_another_host_is_not_followed() {
    let fake = Fake::always(200, json!({ "totalSize": 2, "done": false, "nextRecordsUrl": "https://evil.example/q", "records": [] }));
    let error = call(&client(&fake), "sf_query", json!({ "soql": "SELECT Id FROM A" })).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
}

#[tokio::test]
async fn a_locator_that_is_two_days_old_starts_the_query_again() {
    for code in ["INVALID_QUERY_LOCATOR", "QUERY_LOCATOR_EXPIRED"] {
        let fake = Fake::always(400, told(code, "invalid query locator"));
        let error = call(&client(&fake), "sf_query_more", json!({ "locator": "0r8xx-2000" })).await.unwrap_err();
        assert_eq!((error.kind(), error.vendor_code()), (ErrorKind::CursorExpired, Some(code)));
    }
}

#[tokio::test(start_paused = true)]
async fn request_limit_exceeded_is_two_things() {
    let daily = refused(403, told("REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")).await;
    assert_eq!(daily.kind(), ErrorKind::Quota);
    let tries = Arc::new(AtomicUsize::new(0));
    let seen = tries.clone();
    let fake = Fake::new(move |_| match seen.fetch_add(1, Ordering::Relaxed) {
        0 => Answer::Json(403, told("REQUEST_LIMIT_EXCEEDED", "ConcurrentPerOrgLongTxn Limit exceeded")),
        _ => Answer::Json(201, json!({ "id": "003", "success": true, "errors": [] })),
    });
    let started = tokio::time::Instant::now();
    // Even a create: what was refused was not carried out.
    output(&client(&fake), "sf_create_record", json!({ "sobject": "Contact", "fields": { "LastName": "D" } })).await.unwrap();
    assert!(tries.load(Ordering::Relaxed) == 2 && started.elapsed() >= Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn two_401_are_not_cured_by_a_new_token() {
    for message in ["Connected app is not attached to Agent", "This session is not valid for use with the REST API"] {
        assert_eq!(refused(401, told("INVALID_SESSION_ID", message)).await.kind(), ErrorKind::Forbidden, "{message}");
    }
    assert_eq!(refused(401, told("INVALID_SESSION_ID", "Session expired or invalid")).await.kind(), ErrorKind::AuthExpired);
}

#[tokio::test]
async fn a_401_that_no_token_cures_asks_for_none() {
    let mut server = mockito::Server::new_async().await;
    let tokens = server
        .mock("POST", "/services/oauth2/token")
        .with_body(json!({ "access_token": "one", "instance_url": server.url(), "token_type": "Bearer" }).to_string())
        .expect(1)
        .create_async()
        .await;
    let limits = server
        .mock("GET", "/services/data/v66.0/limits")
        .with_status(401)
        .with_body(told("INVALID_SESSION_ID", "This session is not valid for use with the REST API").to_string())
        .expect(1)
        .create_async()
        .await;
    let salesforce = over(&server);
    assert_eq!(call(&salesforce, "sf_get_limits", json!({})).await.unwrap_err().kind(), ErrorKind::Forbidden);
    tokens.assert_async().await;
    limits.assert_async().await;
}

/// A client with client credentials against a mock on loopback.
fn over(server: &mockito::Server) -> Salesforce {
    let transport = HttpTransport::builder().egress(EgressPolicy::new().allow_loopback()).build().unwrap();
    Salesforce::builder()
        .client_credentials("consumer", "secret")
        .base_url(format!("{}/services/data/v66.0", server.url()))
        .token_url(format!("{}/services/oauth2/token", server.url()))
        .transport(Arc::new(transport))
        .build()
        .unwrap()
}

#[tokio::test]
async fn an_expired_session_is_renewed_once_although_the_token_named_no_lifetime() {
    let mut server = mockito::Server::new_async().await;
    let issued = AtomicUsize::new(0);
    let url = server.url();
    server
        .mock("POST", "/services/oauth2/token")
        .with_body_from_request(move |_| {
            let number = issued.fetch_add(1, Ordering::Relaxed);
            json!({ "access_token": format!("00D!token{number}"), "instance_url": url, "token_type": "Bearer", "issued_at": "1767225600000" })
                .to_string()
                .into()
        })
        .expect(2)
        .create_async()
        .await;
    let expired = server
        .mock("GET", "/services/data/v66.0/limits")
        .match_header("authorization", "Bearer 00D!token0")
        .with_status(401)
        .with_body(told("INVALID_SESSION_ID", "Session expired or invalid").to_string())
        .expect(1)
        .create_async()
        .await;
    server
        .mock("GET", "/services/data/v66.0/limits")
        .match_header("authorization", "Bearer 00D!token1")
        .with_body(json!({ "DailyApiRequests": { "Max": 15000, "Remaining": 1 } }).to_string())
        .create_async()
        .await;
    let salesforce = over(&server);
    let limits = output(&salesforce, "sf_get_limits", json!({})).await.unwrap();
    assert_eq!(limits["DailyApiRequests"]["Remaining"], 1);
    expired.assert_async().await;
    assert!(!format!("{salesforce:?}").contains("token1"));
}

#[tokio::test]
async fn calls_go_to_the_instance_that_comes_with_the_token_and_nowhere_else() {
    for (instance, reaches) in [
        ("https://acme.my.salesforce.com", Some("acme.my.salesforce.com")),
        ("https://acme--dev.sandbox.my.salesforce.com", Some("acme--dev.sandbox.my.salesforce.com")),
        ("https://acme.lightning.force.com", None),
        ("http://acme.my.salesforce.com", None),
        ("https://acme.my.salesforce.com.evil.example", None),
    ] {
        let fake = Fake::new(move |seen| {
            Answer::Json(
                200,
                match seen.path.as_str() {
                    "/services/oauth2/token" => json!({ "access_token": "00D!t", "instance_url": instance, "token_type": "Bearer" }),
                    _ => json!({ "DailyApiRequests": { "Max": 1, "Remaining": 1 } }),
                },
            )
        });
        let salesforce = Salesforce::builder().client_credentials("consumer", "secret").transport(fake.clone()).build().unwrap();
        let called = output(&salesforce, "sf_get_limits", json!({})).await;
        let hosts: Vec<String> = fake.seen().into_iter().map(|seen| seen.host).collect();
        match reaches {
            Some(host) => assert_eq!((called.is_ok(), hosts), (true, vec!["login.salesforce.com".to_owned(), host.to_owned()])),
            None => assert_eq!((called.is_err(), hosts), (true, vec!["login.salesforce.com".to_owned()]), "{instance}"),
        }
    }
}

#[tokio::test]
async fn an_instance_url_that_is_not_salesforce_s_gets_no_token() {
    let mut server = mockito::Server::new_async().await;
    let token = json!({ "access_token": "stolen?", "instance_url": "https://evil.example", "token_type": "Bearer" });
    server.mock("POST", "/services/oauth2/token").with_body(token.to_string()).create_async().await;
    let limits = server.mock("GET", mockito::Matcher::Any).expect(0).create_async().await;
    let error = call(&over(&server), "sf_get_limits", json!({})).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    limits.assert_async().await;
}

#[tokio::test(start_paused = true)]
async fn unable_to_lock_row_is_sent_again_even_for_a_create() {
    for (code, message) in [
        ("UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access to this record"),
        ("CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", "Trigger: execution of AfterInsert caused by: UNABLE_TO_LOCK_ROW, unable to obtain"),
    ] {
        let tries = AtomicUsize::new(0);
        let fake = Fake::new(move |_| match tries.fetch_add(1, Ordering::Relaxed) {
            0 => Answer::Json(400, told(code, message)),
            _ => Answer::Json(201, json!({ "id": "003", "success": true, "errors": [] })),
        });
        output(&client(&fake), "sf_create_record", json!({ "sobject": "Contact", "fields": { "LastName": "D" } })).await.unwrap();
        assert_eq!(fake.lines().len(), 2, "{code}");
    }
    assert_eq!(refused(400, told("CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", "no")).await.kind(), ErrorKind::Invalid);
}

#[tokio::test(start_paused = true)]
async fn a_create_whose_outcome_nobody_knows_is_not_sent_again() {
    let fake = Fake::new(|_| Answer::Lost(ErrorKind::Timeout));
    let error = call(&client(&fake), "sf_create_record", json!({ "sobject": "Contact", "fields": { "LastName": "D" } })).await.unwrap_err();
    assert_eq!((error.kind(), fake.lines().len()), (ErrorKind::Unknown, 1));
    let fake = Fake::new(|_| Answer::Lost(ErrorKind::Timeout));
    let args = json!({ "sobject": "Contact", "field": "Hub_Id__c", "value": "1", "fields": { "LastName": "D" } });
    call(&client(&fake), "sf_upsert_record", args).await.unwrap_err();
    assert!(fake.lines().len() > 1, "an upsert by external id is");
}

#[tokio::test(start_paused = true)]
async fn each_status_and_code_has_its_class() {
    for (status, body, kind) in [
        (300, json!(["/services/data/v66.0/sobjects/Contact/003A", "/services/data/v66.0/sobjects/Contact/003B"]), ErrorKind::Invalid),
        (400, told("MALFORMED_QUERY", "unexpected token"), ErrorKind::Invalid),
        (400, told("INVALID_FIELD", "No such column"), ErrorKind::Invalid),
        (400, told("DUPLICATE_VALUE", "duplicate value found"), ErrorKind::Conflict),
        (400, told("DUPLICATES_DETECTED", "Use one of these records?"), ErrorKind::Conflict),
        (400, told("INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY", "no"), ErrorKind::Forbidden),
        (400, told("ENTITY_IS_LOCKED", "locked by an approval"), ErrorKind::Conflict),
        (403, told("INSUFFICIENT_ACCESS", "no"), ErrorKind::Forbidden),
        (403, told("API_CURRENTLY_DISABLED", "off"), ErrorKind::Forbidden),
        (403, told("STORAGE_LIMIT_EXCEEDED", "full"), ErrorKind::Quota),
        (404, told("NOT_FOUND", "gone"), ErrorKind::NotFound),
        (404, told("ENTITY_IS_DELETED", "deleted"), ErrorKind::NotFound),
        (405, told("METHOD_NOT_ALLOWED", "no"), ErrorKind::Invalid),
        (409, told("INVALIDJOBSTATE", "no"), ErrorKind::Conflict),
        (410, told("GONE", "retired"), ErrorKind::Invalid),
        (412, told("PRECONDITION_FAILED", "changed"), ErrorKind::Conflict),
        (414, Value::Null, ErrorKind::Invalid),
        (431, Value::Null, ErrorKind::Invalid),
    ] {
        let error = refused(status, body.clone()).await;
        assert_eq!(error.kind(), kind, "{status} {body}");
    }
    // A read is sent again after these.
    for (status, code) in [(500, "UNKNOWN_EXCEPTION"), (503, "SERVER_UNAVAILABLE"), (400, "QUERY_TIMEOUT"), (420, "")] {
        let fake = Fake::always(status, told(code, "m"));
        let error = call(&client(&fake), "sf_get_limits", json!({})).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Transient && fake.lines().len() > 1, "{status} {code}: {error}");
    }
}

#[tokio::test]
async fn a_web_page_from_the_edge_is_no_data() {
    let fake = Fake::new(|_| Answer::Text(200, "text/html", "<html>Sign in</html>".into(), Vec::new()));
    let error = call(&client(&fake), "sf_query", json!({ "soql": "SELECT Id FROM A" })).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
}

#[tokio::test]
async fn an_update_is_answered_without_a_body_and_an_upsert_with_three_statuses() {
    let fake = Fake::always(204, Value::Null);
    let update = json!({ "sobject": "Contact", "id": "003xx000004TmiQAAS", "fields": { "Phone": null } });
    assert_eq!(output(&client(&fake), "sf_update_record", update).await.unwrap(), Value::Null);
    assert_eq!(fake.seen()[0].json(), json!({ "Phone": null }), "null empties a field");
    for (status, body) in [
        (201, json!({ "id": "003", "success": true, "created": true })),
        (200, json!({ "id": "003", "success": true, "created": false })),
        (204, Value::Null),
    ] {
        let fake = Fake::always(status, body.clone());
        let args = json!({ "sobject": "Contact", "field": "Hub_Id__c", "value": "a/b c", "fields": { "LastName": "D" } });
        assert_eq!(output(&client(&fake), "sf_upsert_record", args).await.unwrap(), body);
        assert_eq!(fake.lines(), ["PATCH /sobjects/Contact/Hub_Id__c/a%2Fb%20c"]);
    }
}

#[tokio::test]
async fn collections_answer_200_and_name_their_failures() {
    let fake = Fake::new(|seen| {
        let rows = seen.json()["records"].as_array().unwrap().len();
        let mut body: Vec<Value> = (0..rows).map(|row| json!({ "id": format!("003{row}"), "success": true, "errors": [] })).collect();
        if rows == 30 {
            body[5] = json!({ "success": false, "errors": [{ "statusCode": "DUPLICATE_VALUE", "message": "ada@example.com", "fields": ["Email"] }] });
        }
        Answer::Json(200, body.into())
    });
    let records: Vec<Value> = (0..430).map(|row| json!({ "attributes": { "type": "Contact" }, "LastName": row.to_string() })).collect();
    let reply = call(&client(&fake), "sf_create_records", json!({ "records": records })).await.unwrap();
    let sizes: Vec<usize> = fake.seen().iter().map(|seen| seen.json()["records"].as_array().unwrap().len()).collect();
    assert_eq!(sizes, [200, 200, 30]);
    assert_eq!(reply.body.to_value().unwrap().as_array().unwrap().len(), 430);
    let [failed] = &reply.partial[..] else { panic!("one item failed: {:?}", reply.partial) };
    assert_eq!((failed.index, failed.kind, failed.vendor_code.as_deref()), (Some(405), ErrorKind::Conflict, Some("DUPLICATE_VALUE")));
    assert!(!failed.message.contains("ada@"));
}

#[tokio::test]
async fn all_or_none_of_more_than_one_request_is_refused() {
    let fake = Fake::always(200, json!([]));
    let ids: Vec<String> = (0..201).map(|id| format!("003xx{id:010}AAA")).collect();
    let error = call(&client(&fake), "sf_delete_records", json!({ "ids": ids, "all_or_none": true })).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && fake.lines().is_empty(), "{error}");
}

#[tokio::test]
async fn a_rolled_back_composite_names_the_step_that_is_to_blame() {
    let fake = Fake::always(
        200,
        json!({ "compositeResponse": [
        { "httpStatusCode": 400, "referenceId": "acc", "httpHeaders": {}, "body": [{ "errorCode": "PROCESSING_HALTED", "message": "m" }] },
        { "httpStatusCode": 400, "referenceId": "con", "httpHeaders": {}, "body": [{ "errorCode": "REQUIRED_FIELD_MISSING", "message": "m" }] }] }),
    );
    let step =
        |name: &str, kind: &str| json!({ "method": "POST", "url": format!("/services/data/v66.0/sobjects/{kind}"), "referenceId": name, "body": {} });
    let reply = call(&client(&fake), "sf_composite", json!({ "all_or_none": true, "steps": [step("acc", "Account"), step("con", "Contact")] }))
        .await
        .unwrap();
    let outcomes: Vec<_> = reply.partial.iter().map(|one| (one.key.as_deref(), one.kind)).collect();
    assert_eq!(outcomes, [(Some("acc"), ErrorKind::Conflict), (Some("con"), ErrorKind::Invalid)]);
}

#[tokio::test]
async fn foreign_text_with_a_reference_in_it_never_reaches_a_composite() {
    let fake = Fake::always(200, json!({ "compositeResponse": [] }));
    let step = json!({ "method": "POST", "url": "/services/data/v66.0/sobjects/Contact", "referenceId": "con", "body": { "LastName": "@{acc.id}" } });
    let error = call(&client(&fake), "sf_composite", json!({ "steps": [step] })).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && fake.lines().is_empty(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_usage_header_stops_at_nine_tenths_of_the_org_s_own_allowance() {
    let fake = Fake::new(|_| {
        let usage = "api-usage=13500/15000; per-app-api-usage=17/250(appName=hub)".to_owned();
        Answer::Text(200, "application/json", r#"{"DailyApiRequests":{"Max":15000,"Remaining":1500}}"#.into(), vec![("sforce-limit-info", usage)])
    });
    let salesforce = client(&fake);
    let reply = call(&salesforce, "sf_get_limits", json!({})).await.unwrap();
    assert_eq!(reply.meta.remaining, Some(0));
    let started = tokio::time::Instant::now();
    call(&salesforce, "sf_get_limits", json!({})).await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(10), "the second call waited {:?}", started.elapsed());
}

#[tokio::test]
async fn dates_go_as_http_dates_and_changes_since_are_conflicts() {
    let fake = Fake::always(412, told("PRECONDITION_FAILED", "changed"));
    let args =
        json!({ "sobject": "Contact", "id": "003xx000004TmiQAAS", "fields": { "Phone": "1" }, "unmodified_since": "2026-01-02T10:00:00.000+0000" });
    let error = call(&client(&fake), "sf_update_record", args).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Conflict, Retry::Never));
    assert_eq!(fake.seen()[0].header("if-unmodified-since"), "Fri, 02 Jan 2026 10:00:00 GMT");
    let fake = Fake::always(304, Value::Null);
    let args = json!({ "sobject": "Contact", "modified_since": "2026-01-02T10:00:00Z" });
    assert_eq!(output(&client(&fake), "sf_describe_object", args).await.unwrap(), Value::Null);
}

#[tokio::test]
async fn our_own_changes_are_marked_and_default_rules_can_be_told() {
    let fake = Fake::always(201, json!({ "id": "500", "success": true, "errors": [] }));
    let args = json!({ "sobject": "Case", "fields": {}, "auto_assign": "FALSE", "allow_duplicates": true });
    call(&client(&fake), "sf_create_record", args).await.unwrap();
    let seen = &fake.seen()[0];
    assert_eq!(seen.header("sforce-call-options"), "client=connectors");
    assert_eq!((seen.header("sforce-auto-assign"), seen.header("sforce-duplicate-rule-header")), ("FALSE", "allowSave=true"));
    call(&client(&fake), "sf_create_record", json!({ "sobject": "Case", "fields": {} })).await.unwrap();
    assert!(fake.seen()[1].headers.get("sforce-auto-assign").is_none());
}

#[tokio::test(start_paused = true)]
async fn the_locator_of_the_last_bulk_page_is_the_word_null() {
    let fake = Fake::new(|seen| match (seen.line().as_str(), seen.q("locator")) {
        ("POST /jobs/query", _) => Answer::Json(200, json!({ "id": "750xx0000000001AAA", "state": "UploadComplete" })),
        ("GET /jobs/query/750xx0000000001AAA", _) => Answer::Json(200, json!({ "id": "750xx0000000001AAA", "state": "JobComplete" })),
        (_, "") => {
            Answer::Text(200, "text/csv", "Id,Name\n1,A\n2,\n".into(), vec![("sforce-locator", "MTA".into()), ("sforce-numberofrecords", "2".into())])
        }
        (_, "MTA") => {
            Answer::Text(200, "text/csv", "Id,Name\n3,C\n".into(), vec![("sforce-locator", "null".into()), ("sforce-numberofrecords", "1".into())])
        }
        other => panic!("unexpected {other:?}"),
    });
    let salesforce = client(&fake);
    let (mut rows, mut cursor) = (Vec::new(), None);
    for _ in 0..10 {
        let Value::Object(args) = json!({ "soql": "SELECT Id, Name FROM A", "page_size": 2 }) else { unreachable!() };
        let op = OpCall::new("sf_bulk_query", args).with_cursor(cursor.take());
        let reply = salesforce.client().connector().call(salesforce.client().cx(), op).await.unwrap();
        cursor = reply.next.clone();
        rows.extend(reply.body.to_value().unwrap()["rows"].as_array().unwrap().clone());
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(rows, [json!({ "Id": "1", "Name": "A" }), json!({ "Id": "2", "Name": null }), json!({ "Id": "3", "Name": "C" })]);
    assert_eq!(fake.seen().last().unwrap().header("accept"), "text/csv");
}

#[tokio::test(start_paused = true)]
async fn a_page_with_fewer_rows_than_its_header_says_is_not_taken_for_whole() {
    let fake = Fake::new(|seen| match seen.line().as_str() {
        "POST /jobs/query" => Answer::Json(200, json!({ "id": "750xx0000000001AAA", "state": "UploadComplete" })),
        "GET /jobs/query/750xx0000000001AAA" => Answer::Json(200, json!({ "id": "750xx0000000001AAA", "state": "JobComplete" })),
        _ => Answer::Text(200, "text/csv", "Id\n1\n".into(), vec![("sforce-locator", "null".into()), ("sforce-numberofrecords", "2".into())]),
    });
    let salesforce = client(&fake);
    let Value::Object(args) = json!({ "soql": "SELECT Id FROM A" }) else { unreachable!() };
    let first = call(&salesforce, "sf_bulk_query", Value::Object(args.clone())).await.unwrap();
    let op = OpCall::new("sf_bulk_query", args).with_cursor(first.next);
    let error = salesforce.client().connector().call(salesforce.client().cx(), op).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_may_have_arrived_is_not_repeated_but_its_job_aborted() {
    let fake = Fake::new(|seen| match (seen.method.as_str(), seen.path.as_str()) {
        ("POST", "/jobs/ingest") => Answer::Json(200, json!({ "id": "750xx0000000001AAA", "state": "Open" })),
        ("PUT", _) => Answer::Lost(ErrorKind::Timeout),
        ("PATCH", _) => Answer::Json(200, json!({ "id": "750xx0000000001AAA", "state": "Aborted" })),
        other => panic!("unexpected {other:?}"),
    });
    let args = json!({ "sobject": "Contact", "operation": "insert", "rows": [{ "LastName": "D" }] });
    let error = call(&client(&fake), "sf_bulk_load", args).await.unwrap_err();
    assert!(error.to_string().contains("nothing was loaded"), "{error}");
    let puts = fake.seen().iter().filter(|seen| seen.method == "PUT").count();
    assert_eq!(puts, 1);
    assert_eq!(fake.seen().last().unwrap().json(), json!({ "state": "Aborted" }));
}
