//! One test per oddity of NetBox and ServiceNow, named after it.
//! Sources: https://netboxlabs.com/docs/netbox/integrations/rest-api/ and https://www.servicenow.com/docs/r/api-reference/rest-apis/c_TableAPI.html

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use connector_core::ErrorKind;
use serde_json::{Value, json};

use support::{Answer, Fake, client, output, query};

const SYS: &str = "3a290cc60a0a0bb400000bdb386af1cf";
const TASK: &str = "9d385017c611228701d22104cc95c371";

fn page(rows: Value) -> Answer {
    let count = rows.as_array().unwrap().len();
    Answer::Json(200, json!({ "count": count, "next": null, "previous": null, "results": rows }))
}

fn web01() -> Value {
    json!({ "id": 7, "name": "web01", "status": { "value": "active", "label": "Active" }, "serial": "SN-W001", "tenant": { "id": 1, "name": "Shop" },
        "primary_ip": { "id": 3, "address": "10.1.2.3/24" }, "primary_ip4": { "id": 3, "address": "10.1.2.3/24" },
        "last_updated": "2026-11-21T12:00:00.000001Z", "display_url": "https://cmdb.example/dcim/devices/7/" })
}

/// A NetBox with one device and a journal.
fn netbox() -> (Arc<Fake>, Arc<Mutex<Vec<Value>>>) {
    let journal: Arc<Mutex<Vec<Value>>> = Arc::default();
    let entries = journal.clone();
    let fake = Fake::new(move |seen| {
        let path = seen.target.split('?').next().unwrap();
        let asked = query(&seen.target);
        let mut entries = entries.lock().unwrap();
        match (seen.method.as_str(), path) {
            ("GET", "/base/api/dcim/devices/7/") => Answer::Json(200, web01()),
            ("GET", "/base/api/dcim/devices/") => page(json!([web01()])),
            ("GET", "/base/api/extras/journal-entries/") => {
                let text = asked["q"].as_str().unwrap();
                page(entries.iter().filter(|entry| entry["comments"].as_str().unwrap().contains(text)).cloned().collect())
            }
            ("POST", "/base/api/extras/journal-entries/") => {
                let mut entry = seen.body.clone();
                entry["id"] = json!(entries.len() + 31);
                entries.push(entry.clone());
                Answer::Json(201, entry)
            }
            ("DELETE", path) if path.starts_with("/base/api/extras/journal-entries/") => {
                let id = path.split('/').nth(5).unwrap();
                entries.retain(|entry| entry["id"].as_u64() != id.parse().ok());
                Answer::Json(204, Value::Null)
            }
            _ if path.ends_with('/') => page(json!([])),
            _ => Answer::Json(302, Value::Null),
        }
    });
    (fake, journal)
}

#[tokio::test]
async fn every_path_of_netbox_ends_with_a_slash_and_addresses_lose_their_prefix() {
    let (fake, _) = netbox();
    let cmdb = client(&fake, "netbox");
    let found = output(&cmdb, "cmdb_search_cis", json!({ "query": "web" })).await.unwrap();
    let ci = &found["results"][0];
    assert_eq!((&ci["id"], &ci["class"], &ci["status"], &ci["owner"]), (&json!("dcim.device:7"), &json!("device"), &json!("active"), &json!("Shop")));
    assert_eq!(ci["ips"], json!(["10.1.2.3"]));
    assert!(ci.get("attributes").is_none());
    output(&cmdb, "cmdb_dependents", json!({ "id": "dcim.device:7" })).await.unwrap();
    output(&cmdb, "cmdb_get_owner", json!({ "id": "dcim.device:7" })).await.unwrap();
    assert!(fake.calls().iter().all(|call| call.ends_with('/')), "{:?}", fake.calls());
}

#[tokio::test]
async fn a_redirect_is_told_as_a_wrong_address_and_never_followed() {
    let fake = Fake::new(|_| Answer::Json(302, Value::Null));
    let error = output(&client(&fake, "netbox"), "cmdb_update_ci", json!({ "id": "dcim.device:7", "attributes": { "status": "offline" } })).await;
    let error = error.unwrap_err();
    assert!(error.to_string().contains("trailing slash"), "{error}");
}

#[tokio::test]
async fn netbox_says_403_to_a_token_it_does_not_know() {
    for (detail, kind) in [
        ("Invalid v2 token", ErrorKind::AuthExpired),
        ("Token expired", ErrorKind::AuthExpired),
        ("Token disabled", ErrorKind::AuthExpired),
        ("You do not have permission to perform this action.", ErrorKind::Forbidden),
    ] {
        let fake = Fake::new(move |_| Answer::Json(403, json!({ "detail": detail })));
        let error = output(&client(&fake, "netbox"), "cmdb_probe", json!({})).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{detail}");
    }
}

#[tokio::test]
async fn a_lost_update_is_refused_by_netbox_itself_with_if_match() {
    let fake = Fake::new(|_| Answer::Json(412, json!({ "detail": "The object has changed." })));
    let args = json!({ "id": "dcim.device:7", "attributes": { "status": "offline" }, "unless_changed_since": "2026-11-21T12:00:00.000001Z" });
    let error = output(&client(&fake, "netbox"), "cmdb_update_ci", args).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(fake.headers(0, "if-match").as_deref(), Some("W/\"2026-11-21T12:00:00.000001Z\""));
    assert_eq!((fake.seen()[0].method.as_str(), &fake.seen()[0].body), ("PATCH", &json!({ "status": "offline" })));
}

#[tokio::test]
async fn linking_a_ticket_twice_in_netbox_writes_one_journal_entry() {
    let (fake, journal) = netbox();
    let cmdb = client(&fake, "netbox");
    // Somebody's own note that mentions the ticket, and a ticket whose number only starts the same.
    journal.lock().unwrap().extend([
        json!({ "id": 1, "assigned_object_type": "dcim.device", "assigned_object_id": 7, "comments": "see Linked ticket INC-8841 below" }),
        json!({ "id": 2, "assigned_object_type": "dcim.device", "assigned_object_id": 7, "comments": "Linked ticket INC-88412" }),
    ]);
    let args = json!({ "ticket": "INC-8841", "ci_ids": ["dcim.device:7", "dcim.device:7"] });
    let first = output(&cmdb, "cmdb_link_ticket", args.clone()).await.unwrap();
    assert_eq!((first["linked"].as_array().unwrap().len(), first["already_linked"].as_array().unwrap().len()), (1, 0));
    let second = output(&cmdb, "cmdb_link_ticket", args.clone()).await.unwrap();
    assert_eq!((second["linked"].as_array().unwrap().len(), second["already_linked"].as_array().unwrap().len()), (0, 1));
    assert_eq!(journal.lock().unwrap().len(), 3);
    assert_eq!(journal.lock().unwrap()[2]["assigned_object_id"], 7, "a number, not a text");

    let linked = output(&cmdb, "cmdb_list_linked_cis", json!({ "ticket": "INC-8841" })).await.unwrap();
    assert_eq!(linked["results"].as_array().unwrap().iter().map(|link| &link["ci_id"]).collect::<Vec<_>>(), ["dcim.device:7"]);
    let tickets = output(&cmdb, "cmdb_list_linked_tickets", json!({ "id": "dcim.device:7" })).await.unwrap();
    assert_eq!(tickets["results"].as_array().unwrap().iter().map(|link| &link["ticket"]).collect::<Vec<_>>(), ["INC-88412", "INC-8841"]);

    let gone = output(&cmdb, "cmdb_unlink_ticket", args.clone()).await.unwrap();
    assert_eq!(gone["removed"][0]["id"], "33");
    assert_eq!(output(&cmdb, "cmdb_unlink_ticket", args).await.unwrap()["removed"], json!([]));
    assert_eq!(journal.lock().unwrap().len(), 2, "other people's notes stay");
}

#[tokio::test(start_paused = true)]
async fn a_link_whose_answer_was_lost_is_found_and_not_made_again() {
    let (inner, journal) = netbox();
    let lost = AtomicUsize::new(0);
    let fake = Fake::new(move |seen| {
        let answer = inner.answer(seen);
        if seen.method == "POST" && lost.fetch_add(1, Ordering::SeqCst) == 0 { Answer::Lost(ErrorKind::Timeout) } else { answer }
    });
    let linked = output(&client(&fake, "netbox"), "cmdb_link_ticket", json!({ "ticket": "INC-1", "ci_ids": ["dcim.device:7"] })).await.unwrap();
    assert_eq!(linked["already_linked"].as_array().unwrap().len(), 1);
    assert_eq!(journal.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn an_id_is_never_more_than_an_id() {
    let fake = Fake::new(|_| Answer::Json(500, Value::Null));
    for (profile, id) in [
        ("netbox", "dcim.device:7/../../users/tokens"),
        ("netbox", "dcim.device:"),
        ("netbox", "users.token:1"),
        ("netbox", "7"),
        ("servicenow", "3a290cc60a0a0bb400000bdb386af1cf^ORsys_idISNOTEMPTY"),
        ("servicenow", "INC0010001"),
    ] {
        let error = output(&client(&fake, profile), "cmdb_get_ci", json!({ "id": id })).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{profile} {id}");
    }
    assert!(fake.seen().is_empty());
}

fn table(rows: Value) -> Answer {
    Answer::Json(200, json!({ "result": rows }))
}

#[tokio::test]
async fn text_cannot_leave_its_clause_in_a_servicenow_query() {
    let fake = Fake::new(|_| table(json!([])));
    let cmdb = client(&fake, "servicenow");
    output(&cmdb, "cmdb_search_cis", json!({ "query": "web^ORsys_idISNOTEMPTY" })).await.unwrap();
    output(&cmdb, "cmdb_find_ci_by_name", json!({ "name": "a^NQname=b" })).await.unwrap();
    let asked: Vec<_> = fake.seen().iter().map(|seen| query(&seen.target)["sysparm_query"].as_str().unwrap().to_owned()).collect();
    assert_eq!(asked, ["nameLIKEweb ORsys_idISNOTEMPTY^ORDERBYname^ORDERBYsys_id", "name=a NQname=b^ORDERBYsys_id"]);
}

#[tokio::test]
async fn a_whole_table_instead_of_an_answer_is_not_believed() {
    // An invalid clause is silently dropped, and everything comes back.
    let fake = Fake::new(|_| table(json!([{ "sys_id": SYS, "name": "other", "sys_class_name": "cmdb_ci_server" }])));
    assert_eq!(output(&client(&fake, "servicenow"), "cmdb_find_ci_by_name", json!({ "name": "web01" })).await.unwrap(), Value::Null);
}

#[tokio::test]
async fn an_empty_list_is_a_404_in_servicenow_s_first_version() {
    let fake = Fake::new(|_| Answer::Json(404, json!({ "error": { "message": "No Record found", "detail": "" }, "status": "failure" })));
    let cmdb = client(&fake, "servicenow");
    assert_eq!(output(&cmdb, "cmdb_search_cis", json!({ "query": "web" })).await.unwrap(), json!({ "results": [], "truncated": false }));
    assert_eq!(output(&cmdb, "cmdb_get_ci", json!({ "id": SYS })).await.unwrap(), Value::Null);
}

#[tokio::test]
async fn a_short_page_of_servicenow_is_not_the_last_one() {
    // Rows are counted before access rules take some away; the header says how far there is to go.
    let row = |name: &str| json!({ "sys_id": SYS, "name": name, "sys_class_name": "cmdb_ci_linux_server", "sys_updated_on": "2026-11-21 12:00:00", "ip_address": "" });
    let fake = Fake::new(move |seen| {
        let offset = query(&seen.target)["sysparm_offset"].clone();
        let rows = if offset == "0" { json!([row("web01")]) } else { json!([row("web02"), row("web03")]) };
        Answer::Headers(200, json!({ "result": rows }), vec![("x-total-count", "300")])
    });
    let found = output(&client(&fake, "servicenow"), "cmdb_search_cis", json!({ "query": "web", "limit": 200 })).await.unwrap();
    let names: Vec<_> = found["results"].as_array().unwrap().iter().map(|ci| ci["name"].as_str().unwrap()).collect();
    assert_eq!((names, &found["truncated"]), (vec!["web01", "web02", "web03"], &json!(false)));
    let first = &found["results"][0];
    assert_eq!((&first["class"], &first["updated_at"], &first["ips"]), (&json!("linux_server"), &json!("2026-11-21T12:00:00Z"), &json!([])));
}

#[tokio::test]
async fn relation_types_of_servicenow_read_from_parent_to_child_unless_they_say_otherwise() {
    let id = |digit: char| digit.to_string().repeat(32);
    let row = move |parent: char, child: char, kind: &str| {
        json!({ "sys_id": id('9'), "parent": id(parent), "parent.name": parent.to_string(),
        "parent.sys_class_name": "cmdb_ci_service", "child": { "link": "x", "value": id(child) }, "child.name": child.to_string(), "child.sys_class_name": "u_own", "type.name": kind })
    };
    let fake = Fake::new(move |seen| {
        if !seen.target.contains("cmdb_rel_ci") {
            return Answer::Json(200, json!({ "result": { "sys_id": id('a'), "name": "a", "sys_class_name": "cmdb_ci_service" } }));
        }
        let asked = query(&seen.target)["sysparm_query"].as_str().unwrap().to_owned();
        table(if asked.starts_with("parentIN") {
            json!([row('a', 'b', "Depends on::Used by"), row('a', 'c', "Contains::Contained by"), row('a', 'd', "Feeds::Fed by")])
        } else {
            json!([row('e', 'a', "Runs on::Runs")])
        })
    });
    let found = output(&client(&fake, "servicenow"), "cmdb_list_relations", json!({ "id": id('a') })).await.unwrap();
    let mut shown: Vec<String> = found["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|relation| {
            format!(
                "{} {} {}{}",
                &relation["from"].as_str().unwrap()[..1],
                relation["kind"].as_str().unwrap(),
                &relation["to"].as_str().unwrap()[..1],
                relation["native"].as_str().map(|native| format!(" ({native})")).unwrap_or_default()
            )
        })
        .collect();
    shown.sort();
    assert_eq!(shown, ["a depends_on b", "a other d (Feeds::Fed by)", "c member_of a", "e runs_on a"]);
    let own = found["results"].as_array().unwrap().iter().find(|relation| relation["kind"] == "depends_on").unwrap();
    assert_eq!((&own["from_class"], &own["to_class"]), (&json!("service"), &json!("u_own")));
}

#[tokio::test]
async fn a_ticket_of_servicenow_is_looked_up_by_number_and_linked_once() {
    let rows: Arc<Mutex<Vec<Value>>> = Arc::default();
    let links = rows.clone();
    let fake = Fake::new(move |seen| {
        let path = seen.target.split('?').next().unwrap();
        match (seen.method.as_str(), path) {
            ("GET", "/base/api/now/table/task") => table(json!([{ "sys_id": TASK, "number": "INC0010001" }])),
            ("GET", "/base/api/now/table/task_ci") => table(json!(*links.lock().unwrap())),
            ("POST", "/base/api/now/table/task_ci") => {
                let mut row = seen.body.clone();
                row["sys_id"] = json!("f".repeat(32));
                row["task.number"] = json!("INC0010001");
                links.lock().unwrap().push(row.clone());
                Answer::Json(201, json!({ "result": row }))
            }
            other => panic!("unexpected {other:?}"),
        }
    });
    let cmdb = client(&fake, "servicenow");
    for (linked, already) in [(1, 0), (0, 1)] {
        let answer = output(&cmdb, "cmdb_link_ticket", json!({ "ticket": "INC0010001", "ci_ids": [SYS] })).await.unwrap();
        assert_eq!((answer["linked"].as_array().unwrap().len(), answer["already_linked"].as_array().unwrap().len()), (linked, already));
    }
    assert_eq!(rows.lock().unwrap().len(), 1);
    let posted = fake.seen().into_iter().find(|seen| seen.method == "POST").unwrap();
    assert_eq!(posted.body, json!({ "task": TASK, "ci_item": SYS }));
    // The vendor gave something else than was asked for.
    let error = output(&cmdb, "cmdb_link_ticket", json!({ "ticket": "INC0019999", "ci_ids": [SYS] })).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn identification_and_reconciliation_fails_inside_a_200() {
    let answer = |failed: bool, code: &str| json!({ "result": { "hasError": failed, "items": [{ "sysId": SYS, "operation": "INSERT", "errors": [{ "error": code }] }] } });
    for (code, kind) in [("MISSING_MATCHING_ATTRIBUTES", ErrorKind::Invalid), ("LOCK_TIMEOUT", ErrorKind::Transient)] {
        let reply = answer(true, code);
        let fake = Fake::new(move |seen| if seen.method == "GET" { table(json!([])) } else { Answer::Json(200, reply.clone()) });
        let engine = connector_cmdb::engine(fake.clone(), Arc::new(connector_core::auth::NoAuth)).unwrap();
        let cmdb = client(&fake, "servicenow");
        let Value::Object(args) = json!({ "class": "server", "name": "web09" }) else { unreachable!() };
        let error =
            connector_core::Connector::call(&engine, cmdb.client().cx(), connector_core::OpCall::new("cmdb_create_ci", args)).await.unwrap_err();
        assert_eq!((error.kind(), error.vendor_code()), (kind, Some(code)));
    }
    let good = answer(false, "");
    let fake = Fake::new(move |seen| match (seen.method.as_str(), seen.target.contains(SYS)) {
        ("GET", true) => Answer::Json(200, json!({ "result": { "sys_id": SYS, "name": "web09", "sys_class_name": "cmdb_ci_server" } })),
        ("GET", false) => table(json!([])),
        _ => Answer::Json(200, good.clone()),
    });
    let made =
        output(&client(&fake, "servicenow"), "cmdb_create_ci", json!({ "class": "server", "name": "web09", "attributes": { "serial_number": "X" } }))
            .await
            .unwrap();
    assert_eq!((&made["created"], &made["ci"]["id"]), (&json!(true), &json!(SYS)));
    let posted = fake.seen().into_iter().find(|seen| seen.method == "POST").unwrap();
    assert!(posted.target.ends_with("?sysparm_data_source=ServiceNow"), "{}", posted.target);
    assert_eq!(
        posted.body,
        json!({ "items": [{ "className": "cmdb_ci_server", "values": { "serial_number": "X", "name": "web09" } }], "relations": [] })
    );
}

#[tokio::test]
async fn what_is_there_is_not_created_again_and_not_every_class_can_be() {
    let (fake, _) = netbox();
    let cmdb = client(&fake, "netbox");
    let there = output(&cmdb, "cmdb_create_ci", json!({ "class": "device", "name": "web01" })).await.unwrap();
    assert_eq!((&there["created"], &there["ci"]["id"]), (&json!(false), &json!("dcim.device:7")));
    assert!(fake.seen().iter().all(|seen| seen.method == "GET"));
    let error = output(&cmdb, "cmdb_create_ci", json!({ "class": "service", "name": "x" })).await.unwrap_err();
    assert!(error.message().contains("creatable are device, virtual_machine, cluster"), "{error}");
    let error = output(&cmdb, "cmdb_create_ci", json!({ "class": "devise", "name": "x" })).await.unwrap_err();
    assert!(error.message().contains("did you mean `device`?"), "{error}");
}

#[tokio::test]
async fn servicenow_has_no_lock_so_the_item_is_compared_first() {
    let fake = Fake::new(|_| {
        Answer::Json(
            200,
            json!({ "result": { "sys_id": SYS, "name": "web01", "sys_class_name": "cmdb_ci_server", "sys_updated_on": "2026-11-21 12:00:00" } }),
        )
    });
    let cmdb = client(&fake, "servicenow");
    let args = |since: &str| json!({ "id": SYS, "attributes": { "operational_status": "6" }, "unless_changed_since": since });
    let error = output(&cmdb, "cmdb_update_ci", args("2026-11-21T11:59:59Z")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(fake.calls().len(), 1);
    output(&cmdb, "cmdb_update_ci", args("2026-11-21T12:00:00Z")).await.unwrap();
    assert_eq!(fake.calls().last().unwrap(), &format!("PATCH /base/api/now/table/cmdb_ci/{SYS}"));
}

#[tokio::test]
async fn a_business_rule_that_aborts_is_not_asked_again() {
    let fake = Fake::new(|seen| match seen.method.as_str() {
        "GET" => table(json!([])),
        _ => Answer::Json(500, json!({ "error": { "message": "Operation Failed", "detail": "Operation Failed by a rule" }, "status": "failure" })),
    });
    let error = output(&client(&fake, "servicenow"), "cmdb_link_ticket", json!({ "ticket": TASK, "ci_ids": [SYS] })).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(fake.calls().iter().filter(|call| call.starts_with("POST")).count(), 1);
}

#[tokio::test]
async fn a_missing_or_misspelt_profile_is_named() {
    let fake = Fake::new(|_| Answer::Json(500, Value::Null));
    let error = output(&client(&fake, "netbx"), "cmdb_list_classes", json!({})).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.message().contains("did you mean `netbox`?"), "{error}");
    let error = connector_cmdb::Cmdb::builder()
        .base_url("https://x.example")
        .transport(fake.clone())
        .auth(Arc::new(connector_core::auth::NoAuth))
        .build()
        .unwrap_err();
    assert!(error.message().contains("`profile`") && error.message().contains("CMDB_PROFILE"), "{error}");
}
