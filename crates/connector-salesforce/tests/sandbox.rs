//! The connector over real HTTP against the stateful fake of Salesforce: what one operation writes, another one finds; the fake's own refusals,
//! limits, cursors and outbound messages come out as the manifest promises.
#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, reason = "in tests a panic is the failure")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use connector_core::{Connector as _, ErrorKind, OpCall, OpReply, Result, delta::Change};
use connector_http::{EgressPolicy, HttpTransport};
use connector_manifest::Engine;
use connector_salesforce::{ID, Salesforce, SalesforceBuilder, hooks, manifest};
use connector_sandbox::{EffectKind, Sandbox, known};
use serde_json::{Value, json};

fn builder(sandbox: &Sandbox) -> SalesforceBuilder {
    let transport = HttpTransport::builder().egress(EgressPolicy::new().allow_loopback()).build().unwrap();
    Salesforce::builder().base_url(sandbox.base_url(ID)).token_url(sandbox.token_url(ID).unwrap()).transport(Arc::new(transport))
}

async fn start() -> (Sandbox, Salesforce) {
    let sandbox = Sandbox::builder().vendor(ID).start("127.0.0.1:0").await.unwrap();
    let salesforce = builder(&sandbox).token(known::SALESFORCE_TOKEN).build().unwrap();
    (sandbox, salesforce)
}

async fn reply(salesforce: &Salesforce, tool: &str, args: Value) -> Result<OpReply> {
    let Value::Object(args) = args else { panic!("args must be an object") };
    salesforce.client().call_dynamic(tool, args).await
}

async fn call(salesforce: &Salesforce, tool: &str, args: Value) -> Value {
    let reply = reply(salesforce, tool, args).await.unwrap_or_else(|error| panic!("{tool}: {error}"));
    reply.body.to_value().unwrap()
}

async fn refused(salesforce: &Salesforce, tool: &str, args: Value) -> (ErrorKind, String) {
    let error = reply(salesforce, tool, args).await.unwrap_err();
    (error.kind(), error.vendor_code().unwrap_or_default().to_owned())
}

/// The items of all pages.
async fn pages(salesforce: &Salesforce, tool: &str, args: Value, items: &str) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), None);
    let Value::Object(args) = args else { panic!("args must be an object") };
    for _ in 0..50 {
        let op = OpCall::new(tool, args.clone()).with_cursor(cursor.take());
        let reply = salesforce.client().connector().call(salesforce.client().cx(), op).await.unwrap_or_else(|error| panic!("{tool}: {error}"));
        cursor = reply.next.clone();
        all.extend(reply.body.to_value().unwrap().pointer(items).and_then(Value::as_array).cloned().unwrap_or_default());
        if cursor.is_none() {
            return all;
        }
    }
    panic!("{tool} has no last page");
}

/// Calls operations, holds their replies against the declared shapes, and remembers which ones worked.
struct Walk<'s> {
    salesforce: &'s Salesforce,
    called: BTreeSet<String>,
    shapes: BTreeMap<String, jsonschema::Validator>,
}

impl<'s> Walk<'s> {
    fn new(salesforce: &'s Salesforce) -> Self {
        let engine = Engine::builder(manifest()).hooks(hooks()).build().unwrap();
        let shape = |op: &connector_core::spec::OpSpec| (op.name.to_string(), jsonschema::validator_for(&op.output_schema).unwrap());
        Self { salesforce, called: BTreeSet::new(), shapes: engine.spec().operations().iter().map(|op| shape(op)).collect() }
    }

    async fn call(&mut self, tool: &str, args: Value) -> Value {
        let output = call(self.salesforce, tool, args).await;
        if let Err(error) = self.shapes[tool].validate(&output) {
            assert!(output.get("base64").is_some(), "{tool}: {error}\n{output}");
        }
        self.called.insert(tool.to_owned());
        output
    }
}

fn id(value: &Value) -> String {
    value["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn every_operation_works_against_the_fake() {
    let (sandbox, salesforce) = start().await;
    let mut walk = Walk::new(&salesforce);
    // The org.
    walk.call("sf_list_resources", json!({})).await;
    assert_eq!(walk.call("sf_list_versions", json!({})).await[1]["version"], "66.0");
    assert_eq!(walk.call("sf_current_user", json!({})).await["organization_id"], "00Dxx0000001gPLEAY");
    walk.call("sf_describe_global", json!({})).await;
    walk.call("sf_describe_object", json!({ "sobject": "Contact" })).await;
    walk.call("sf_get_limits", json!({})).await;
    walk.call("sf_list_recent", json!({ "limit": 3 })).await;
    let views = walk.call("sf_list_views", json!({ "sobject": "Case" })).await;
    walk.call("sf_get_view_results", json!({ "sobject": "Case", "view_id": views["listviews"][0]["id"] })).await;
    // Records.
    let contact =
        id(&walk.call("sf_create_record", json!({ "sobject": "Contact", "fields": { "LastName": "O'Hara's", "Email": "x@example.com" } })).await);
    walk.call("sf_update_record", json!({ "sobject": "Contact", "id": contact, "fields": { "Phone": "1" } })).await;
    assert_eq!(walk.call("sf_get_record", json!({ "sobject": "Contact", "id": contact, "fields": ["Phone"] })).await["Phone"], "1");
    let upsert = json!({ "sobject": "Contact", "field": "Hub_Id__c", "value": "hub/9", "fields": { "LastName": "Nine" } });
    assert_eq!(walk.call("sf_upsert_record", upsert.clone()).await["created"], true);
    assert_eq!(walk.call("sf_upsert_record", upsert).await["created"], false);
    walk.call("sf_get_record_by_external_id", json!({ "sobject": "Contact", "field": "Hub_Id__c", "value": "hub/9" })).await;
    let nobody = json!({ "sobject": "Contact", "field": "Hub_Id__c", "value": "nobody" });
    assert_eq!(call(&salesforce, "sf_get_record_by_external_id", nobody).await, Value::Null);
    walk.call("sf_delete_record", json!({ "sobject": "Contact", "id": contact })).await;
    // A second time is done as well.
    walk.call("sf_delete_record", json!({ "sobject": "Contact", "id": contact })).await;
    // Queries.
    let by_name = json!({ "soql": "SELECT Id, Account.Name FROM Contact WHERE LastName = :name", "params": { "name": "O'Hara" } });
    assert_eq!(walk.call("sf_query", by_name).await["records"][0]["Account"]["Name"], "Bob's BBQ");
    let with_deleted = walk.call("sf_query_all", json!({ "soql": "SELECT Id FROM Contact WHERE IsDeleted = true" })).await;
    assert_eq!(with_deleted["totalSize"], 1);
    assert_eq!(
        walk.call("sf_search", json!({ "sosl": "FIND {:t} IN ALL FIELDS RETURNING Account(Id, Name)", "params": { "t": "Bob's" } })).await["searchRecords"]
            [0]["Name"],
        "Bob's BBQ"
    );
    walk.call("sf_parameterized_search", json!({ "text": "acme", "sobjects": [{ "name": "Account", "fields": ["Id", "Name"], "limit": 5 }] })).await;
    // Collections.
    let records: Vec<Value> = (0..250).map(|at| json!({ "attributes": { "type": "Lead" }, "LastName": format!("L{at}"), "Company": "C" })).collect();
    let made = walk.call("sf_create_records", json!({ "records": records })).await;
    assert_eq!(made.as_array().unwrap().len(), 250);
    let leads: Vec<String> = made.as_array().unwrap().iter().map(id).collect();
    walk.call("sf_update_records", json!({ "records": [{ "attributes": { "type": "Lead" }, "id": leads[0], "Company": "D" }] })).await;
    let rows = json!([{ "attributes": { "type": "Lead" }, "Hub_Id__c": "lead-1", "LastName": "U", "Company": "C" }]);
    walk.call("sf_upsert_records", json!({ "sobject": "Lead", "field": "Hub_Id__c", "records": rows })).await;
    assert_eq!(
        walk.call("sf_get_records", json!({ "sobject": "Lead", "ids": [leads[0], "00Qxx0000999999AAA"], "fields": ["Company"] })).await[1],
        Value::Null
    );
    let first = reply(&salesforce, "sf_query", json!({ "soql": "SELECT Id FROM Lead", "batch_size": 200 })).await.unwrap().body.to_value().unwrap();
    let locator = first["nextRecordsUrl"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    assert_eq!(walk.call("sf_query_more", json!({ "locator": locator })).await["done"], true);
    assert_eq!(pages(&salesforce, "sf_query", json!({ "soql": "SELECT Id FROM Lead", "batch_size": 200 }), "/records").await.len(), 252);
    walk.call("sf_delete_records", json!({ "ids": leads[..3] })).await;
    // Composites.
    let step = |method: &str, path: &str, name: &str, body: Value| json!({ "method": method, "url": format!("/services/data/v66.0/{path}"), "referenceId": name, "body": body });
    let steps = json!([
        step("POST", "sobjects/Account", "acc", json!({ "Name": "Composite" })),
        step("POST", "sobjects/Contact", "con", json!({ "LastName": "Child", "AccountId": "@{acc.id}" })),
    ]);
    walk.call("sf_composite", json!({ "steps": steps, "all_or_none": true })).await;
    walk.call(
        "sf_composite_graph",
        json!({ "graphs": [{ "graphId": "g", "compositeRequest": [step("POST", "sobjects/Account", "acc", json!({ "Name": "G" }))] }] }),
    )
    .await;
    walk.call("sf_composite_batch", json!({ "requests": [{ "method": "GET", "url": "v66.0/limits" }] })).await;
    let tree = json!([{ "attributes": { "type": "Account", "referenceId": "a1" }, "Name": "Tree", "Contacts": { "records": [{ "attributes": { "type": "Contact", "referenceId": "c1" }, "LastName": "Leaf" }] } }]);
    assert_eq!(walk.call("sf_create_record_tree", json!({ "sobject": "Account", "records": tree })).await["results"].as_array().unwrap().len(), 2);
    // Replication.
    let now = jiff::Timestamp::now();
    let at = |seconds: i64| jiff::Timestamp::from_second(now.as_second() + seconds).unwrap().to_string();
    let updated = walk.call("sf_get_updated", json!({ "sobject": "Lead", "start": at(-120), "end": at(60) })).await;
    assert!(updated["ids"].as_array().unwrap().len() > 240);
    assert_eq!(
        walk.call("sf_get_deleted", json!({ "sobject": "Lead", "start": at(-120), "end": at(60) })).await["deletedRecords"].as_array().unwrap().len(),
        3
    );
    // Reports.
    let report = walk.call("sf_list_reports", json!({})).await[0]["id"].clone();
    walk.call("sf_describe_report", json!({ "report_id": report })).await;
    assert_eq!(walk.call("sf_get_report", json!({ "report_id": report })).await["factMap"]["T!T"]["rows"].as_array().unwrap().len(), 2);
    let filters = json!([{ "column": "STAGE_NAME", "operator": "equals", "value": "Closed Won" }]);
    assert_eq!(
        walk.call("sf_run_report", json!({ "report_id": report, "filters": filters })).await["factMap"]["T!T"]["rows"].as_array().unwrap().len(),
        1
    );
    let run = id(&walk.call("sf_start_report", json!({ "report_id": report })).await);
    walk.call("sf_list_report_instances", json!({ "report_id": report })).await;
    let instance = json!({ "report_id": report, "instance_id": run });
    assert_eq!(walk.call("sf_get_report_instance", instance.clone()).await["attributes"]["status"], "Running");
    assert_eq!(walk.call("sf_get_report_instance", instance).await["attributes"]["status"], "Success");
    // Jobs by hand.
    let job = id(&walk.call("sf_create_query_job", json!({ "soql": "SELECT Id, Name FROM Account" })).await);
    walk.call("sf_get_query_job", json!({ "job_id": job })).await;
    assert_eq!(walk.call("sf_get_query_job", json!({ "job_id": job })).await["state"], "JobComplete");
    walk.call("sf_list_query_jobs", json!({})).await;
    walk.call("sf_get_query_job_rows", json!({ "job_id": job })).await;
    walk.call("sf_delete_query_job", json!({ "job_id": job })).await;
    let job = id(&walk.call("sf_create_query_job", json!({ "soql": "SELECT Id FROM Account" })).await);
    walk.call("sf_abort_query_job", json!({ "job_id": job })).await;
    let job = id(&walk.call("sf_create_load_job", json!({ "sobject": "Contact", "operation": "insert" })).await);
    walk.call("sf_upload_load_data", json!({ "job_id": job, "csv": "LastName,Email\nBulk,b@example.com\nBad,no-address\n" })).await;
    walk.call("sf_close_load_job", json!({ "job_id": job })).await;
    walk.call("sf_get_load_job", json!({ "job_id": job })).await;
    assert_eq!(walk.call("sf_get_load_job", json!({ "job_id": job })).await["numberRecordsFailed"], 1);
    for tool in ["sf_get_load_successes", "sf_get_load_failures", "sf_get_load_unprocessed"] {
        walk.call(tool, json!({ "job_id": job })).await;
    }
    walk.call("sf_list_load_jobs", json!({})).await;
    walk.call("sf_delete_load_job", json!({ "job_id": job })).await;
    let job = id(&walk.call("sf_create_load_job", json!({ "sobject": "Contact", "operation": "insert" })).await);
    walk.call("sf_abort_load_job", json!({ "job_id": job })).await;
    walk.call("sf_bulk_query", json!({ "soql": "SELECT Id FROM Account" })).await;
    walk.call("sf_bulk_load", json!({ "sobject": "Contact", "operation": "insert", "rows": [{ "LastName": "Loaded" }] })).await;
    // Files, campaigns, cases, actions.
    let file = id(&walk.call("sf_upload_file", json!({ "title": "Offer", "file_name": "offer.txt", "base64": "SGVsbG8=" })).await);
    assert_eq!(walk.call("sf_download_file", json!({ "version_id": file })).await["base64"], "SGVsbG8=");
    let ids = |kind: &str| sandbox.salesforce().record_ids(kind)[0].clone();
    let member = json!({ "campaign_id": ids("Campaign"), "contact_id": ids("Contact"), "status": "Sent" });
    walk.call("sf_add_to_campaign", member.clone()).await;
    assert_eq!(refused(&salesforce, "sf_add_to_campaign", member).await, (ErrorKind::Conflict, "DUPLICATE_VALUE".into()));
    walk.call("sf_add_case_comment", json!({ "case_id": ids("Case"), "text": "Called back." })).await;
    walk.call("sf_list_actions", json!({ "kind": "standard" })).await;
    walk.call("sf_invoke_action", json!({ "action": "chatterPost", "inputs": [{ "text": "Hi" }] })).await;
    walk.call("sf_run_flow", json!({ "flow": "Escalate", "inputs": [{}] })).await;
    walk.call("sf_send_email", json!({ "to": "ada@example.com", "subject": "Hi", "body": "Hello" })).await;
    walk.call("sf_list_quick_actions", json!({ "sobject": "Case" })).await;
    walk.call("sf_run_quick_action", json!({ "sobject": "Case", "action": "LogACall", "fields": { "Subject": "Call" } })).await;

    let all: BTreeSet<String> = manifest().tools.iter().map(|tool| tool.name.clone()).collect();
    assert_eq!(walk.called, all);
}

#[tokio::test]
async fn the_fake_s_own_refusals_have_their_classes() {
    let (sandbox, salesforce) = start().await;
    for (tool, args, kind, code) in [
        ("sf_query", json!({ "soql": "SELECT Id FROM Nope" }), ErrorKind::Invalid, "INVALID_TYPE"),
        ("sf_query", json!({ "soql": "SELECT Nope FROM Contact" }), ErrorKind::Invalid, "INVALID_FIELD"),
        ("sf_query", json!({ "soql": "SELECT Id FROM Contact WHERE LastName = ''x'" }), ErrorKind::Invalid, ""),
        ("sf_query_more", json!({ "locator": "0r8xx9999999-2000" }), ErrorKind::CursorExpired, "INVALID_QUERY_LOCATOR"),
        ("sf_create_record", json!({ "sobject": "Contact", "fields": {} }), ErrorKind::Invalid, "REQUIRED_FIELD_MISSING"),
        ("sf_create_record", json!({ "sobject": "Contact", "fields": { "LastName": "x".repeat(81) } }), ErrorKind::Invalid, "STRING_TOO_LONG"),
        (
            "sf_create_record",
            json!({ "sobject": "Contact", "fields": { "LastName": "x", "Email": "ada.abel@acme.example" } }),
            ErrorKind::Conflict,
            "DUPLICATES_DETECTED",
        ),
        (
            "sf_create_record",
            json!({ "sobject": "Account", "fields": { "Name": "x", "Hub_Id__c": "hub-acme" } }),
            ErrorKind::Conflict,
            "DUPLICATE_VALUE",
        ),
        (
            "sf_create_record",
            json!({ "sobject": "Contact", "fields": { "LastName": "x", "AccountId": "001xx0000999999AAA" } }),
            ErrorKind::Invalid,
            "INVALID_CROSS_REFERENCE_KEY",
        ),
        ("sf_get_record", json!({ "sobject": "Contact", "id": "003xx0000999999AAA" }), ErrorKind::NotFound, "NOT_FOUND"),
        ("sf_bulk_query", json!({ "soql": "SELECT COUNT() FROM Contact" }), ErrorKind::Invalid, "FEATURENOTENABLED"),
    ] {
        let found = refused(&salesforce, tool, args.clone()).await;
        assert_eq!(found, (kind, code.to_owned()), "{tool} {args}");
    }
    let contact = sandbox.salesforce().record_ids("Contact")[0].clone();
    let stale = json!({ "sobject": "Contact", "id": contact, "fields": { "Phone": "1" }, "unmodified_since": "2020-01-01T00:00:00Z" });
    assert_eq!(refused(&salesforce, "sf_update_record", stale).await.0, ErrorKind::Conflict);
    // Another transaction holds the record for a moment.
    sandbox.salesforce().lock_record(&contact, 1);
    call(&salesforce, "sf_update_record", json!({ "sobject": "Contact", "id": contact, "fields": { "Phone": "2" } })).await;
    assert_eq!(sandbox.salesforce().field(&contact, "Phone"), Some("2".into()));
    sandbox.salesforce().set_used(15_000);
    assert_eq!(refused(&salesforce, "sf_get_limits", json!({})).await, (ErrorKind::Quota, "REQUEST_LIMIT_EXCEEDED".into()));
}

#[tokio::test]
async fn a_value_cannot_break_out_of_a_query_that_is_really_run() {
    let (_sandbox, salesforce) = start().await;
    for value in ["x' OR LastName != '", "\\' OR LastName != \\'", "%"] {
        for comparison in ["=", "LIKE"] {
            let args = json!({ "soql": format!("SELECT Id FROM Contact WHERE LastName {comparison} :v"), "params": { "v": value } });
            assert_eq!(call(&salesforce, "sf_query", args).await["totalSize"], 0, "{comparison} {value}");
        }
    }
    let ohara = json!({ "soql": "SELECT Id FROM Contact WHERE LastName LIKE :v", "params": { "v": { "starts_with": "O'" } } });
    assert_eq!(call(&salesforce, "sf_query", ohara).await["totalSize"], 1);
}

#[tokio::test]
async fn failed_items_keep_their_places_and_all_or_none_takes_all_back() {
    let (sandbox, salesforce) = start().await;
    let record = |name: Value| json!({ "attributes": { "type": "Account" }, "Name": name });
    let records = json!([record("One".into()), record(Value::Null), record("Three".into())]);
    let some = reply(&salesforce, "sf_create_records", json!({ "records": records })).await.unwrap();
    assert_eq!(some.partial.iter().map(|item| (item.index, item.kind)).collect::<Vec<_>>(), [(Some(1), ErrorKind::Invalid)]);
    let before = sandbox.salesforce().record_ids("Account").len();
    let none = reply(&salesforce, "sf_create_records", json!({ "records": records, "all_or_none": true })).await.unwrap();
    assert_eq!(none.partial.len(), 3);
    let causes: Vec<_> = none.partial.iter().filter(|item| item.vendor_code.as_deref() != Some("ALL_OR_NONE_OPERATION_ROLLED_BACK")).collect();
    assert_eq!(causes.iter().map(|item| item.index).collect::<Vec<_>>(), [Some(1)]);
    assert_eq!(sandbox.salesforce().record_ids("Account").len(), before);
    let failed = reply(&salesforce, "sf_send_email", json!({ "to": "nobody", "subject": "Hi", "body": "Hello" })).await.unwrap_err();
    assert_eq!(failed.vendor_code(), Some("INVALID_EMAIL_ADDRESS"));
}

#[tokio::test]
async fn a_load_tells_what_became_of_each_row_although_the_vendor_mixes_them() {
    let (sandbox, salesforce) = start().await;
    let mut rows: Vec<Value> =
        (0..40).map(|at| json!({ "LastName": format!("Row {at}, \"quoted\""), "Email": format!("r{at}@example.com") })).collect();
    rows[7]["Email"] = "no-address".into();
    let load = reply(&salesforce, "sf_bulk_load", json!({ "sobject": "Contact", "operation": "insert", "rows": rows })).await.unwrap();
    let body = load.body.to_value().unwrap();
    assert_eq!((&body["processed"], &body["created"], &body["failed"]), (&json!(39), &json!(39), &json!(1)));
    let [failed] = &load.partial[..] else { panic!("{:?}", load.partial) };
    assert_eq!((failed.index, failed.vendor_code.as_deref()), (Some(7), Some("INVALID_EMAIL_ADDRESS")));
    let id = body["ids"][12].as_str().unwrap();
    assert_eq!(sandbox.salesforce().field(id, "LastName"), Some("Row 12, \"quoted\"".into()));
    let found = pages(
        &salesforce,
        "sf_bulk_query",
        json!({ "soql": "SELECT Id, LastName FROM Contact WHERE LastName LIKE :n", "params": { "n": { "starts_with": "Row" } }, "page_size": 10 }),
        "/rows",
    )
    .await;
    assert_eq!(found.len(), 39);
    assert_eq!(sandbox.ledger().of_kind(EffectKind::RecordCreated).iter().filter(|effect| effect.detail["what"] == "bulk").count(), 39);
}

#[tokio::test]
async fn a_stream_starts_in_bulk_and_goes_on_with_changes() {
    let (sandbox, salesforce) = start().await;
    let delta = salesforce.client().connector().delta().unwrap();
    let cx = salesforce.client().cx();
    let mut page = delta.changes(cx, "accounts", None).await.unwrap();
    let mut seen = page.changes.clone();
    while page.more {
        page = delta.changes(cx, "accounts", Some(page.next)).await.unwrap();
        seen.extend(page.changes.clone());
    }
    let record = |changes: &[Change], id: &str| {
        changes.iter().find_map(|change| match change {
            Change::Upsert { key, record } if key == id => Some(serde_json::from_slice::<Value>(record).unwrap()),
            _ => None,
        })
    };
    let acme = sandbox.salesforce().record_ids("Account")[0].clone();
    // Bulk gives texts; the numbers are numbers again.
    assert_eq!(record(&seen, &acme).unwrap()["AnnualRevenue"], 1_250_000.5);
    let made = call(&salesforce, "sf_create_record", json!({ "sobject": "Account", "fields": { "Name": "New" } })).await;
    call(&salesforce, "sf_delete_record", json!({ "sobject": "Account", "id": acme })).await;
    let (mut again, mut next) = (Vec::new(), page.next);
    for _ in 0..10 {
        let page = delta.changes(cx, "accounts", Some(next)).await.unwrap();
        again.extend(page.changes);
        next = page.next;
        if !page.more {
            break;
        }
    }
    assert!(record(&again, made["id"].as_str().unwrap()).is_some(), "{again:?}");
    assert!(again.contains(&Change::Delete { key: acme }));
}

#[tokio::test]
async fn client_credentials_are_renewed_when_the_session_ends() {
    let sandbox = Sandbox::builder().vendor(ID).start("127.0.0.1:0").await.unwrap();
    let salesforce = builder(&sandbox).client_credentials(known::SALESFORCE_CLIENT_ID, known::SALESFORCE_CLIENT_SECRET).build().unwrap();
    call(&salesforce, "sf_get_limits", json!({})).await;
    sandbox.salesforce().expire_tokens();
    call(&salesforce, "sf_get_limits", json!({})).await;
    assert_eq!(sandbox.ledger().count(EffectKind::TokenIssued), 2);
    let wrong = builder(&sandbox).client_credentials("nobody", "wrong").build().unwrap();
    assert_eq!(reply(&wrong, "sf_get_limits", json!({})).await.unwrap_err().kind(), ErrorKind::AuthExpired);
}

#[tokio::test]
async fn usage_of_the_day_is_told_to_the_limiter() {
    let (sandbox, salesforce) = start().await;
    let told = reply(&salesforce, "sf_get_limits", json!({})).await.unwrap();
    assert_eq!(told.meta.remaining, Some(13_499));
    sandbox.salesforce().set_used(13_600);
    assert_eq!(reply(&salesforce, "sf_get_limits", json!({})).await.unwrap().meta.remaining, Some(0));
    let deadline = tokio::time::timeout(Duration::from_secs(1), reply(&salesforce, "sf_get_limits", json!({}))).await;
    assert!(deadline.is_err(), "the next call waits");
}
