//! The two fake CMDBs over loopback: NetBox and ServiceNow, one invented data centre.
#![allow(clippy::unwrap_used, reason = "an unwrap that fails is a failed test")]

mod support;

use base64::Engine as _;
use connector_sandbox::{EffectKind, Sandbox, known};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use support::{Caller, Receiver, bearer};

async fn netbox() -> (Sandbox, Caller) {
    let sandbox = Sandbox::builder().start("127.0.0.1:0").await.unwrap();
    let caller = bearer(sandbox.base_url("netbox"), known::NETBOX_TOKEN);
    (sandbox, caller)
}

async fn servicenow() -> (Sandbox, Caller) {
    let sandbox = Sandbox::builder().start("127.0.0.1:0").await.unwrap();
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", known::SERVICENOW_USER, known::SERVICENOW_PASSWORD));
    let caller = Caller::new(sandbox.base_url("servicenow"), &[("authorization", &format!("Basic {pair}")), ("accept", "application/json")]);
    (sandbox, caller)
}

#[tokio::test]
async fn netbox_wants_its_token_and_its_slash() {
    let (sandbox, caller) = netbox().await;
    let wrong = bearer(sandbox.base_url("netbox"), "nbt_x.y").get("/api/dcim/devices/").await.expect(403);
    assert_eq!(wrong["detail"], "Invalid v2 token");
    let redirect = caller.get("/api/dcim/devices?limit=1").await;
    assert_eq!(redirect.status, 302);
    assert!(redirect.header("location").ends_with("/api/dcim/devices/?limit=1"), "{}", redirect.header("location"));
    assert_eq!(caller.get("/api/status/").await.expect(200)["netbox-version"], "4.6.8");
    assert_eq!(caller.get("/api/dcim/starships/").await.status, 404);
}

#[tokio::test]
async fn netbox_lists_filter_and_page() {
    let (_sandbox, caller) = netbox().await;
    let one = caller.get("/api/dcim/devices/?name=web01").await.expect(200);
    assert_eq!(
        (&one["count"], &one["results"][0]["site"]["slug"], &one["results"][0]["status"]["label"]),
        (&json!(1), &json!("fra1"), &json!("Active"))
    );
    assert_eq!(one["results"][0]["primary_ip4"]["address"], "10.1.2.3/24");
    assert_eq!(caller.get("/api/dcim/devices/?name__ic=WEB").await.expect(200)["count"], 2);
    assert_eq!(caller.get("/api/dcim/devices/?q=sn-d0").await.expect(200)["count"], 2);
    assert_eq!(caller.get("/api/dcim/devices/?name=web01&name=db01").await.expect(200)["count"], 2, "repeated values are alternatives");
    assert_eq!(caller.get("/api/dcim/devices/?id=1&id=2&site=fra1").await.expect(200)["count"], 2);
    assert_eq!(caller.get("/api/dcim/devices/?tag=production&unknown_filter=1").await.expect(200)["count"], 13);
    let (mut names, mut url) = (BTreeSet::new(), "/api/dcim/devices/?limit=5&ordering=-name".to_owned());
    loop {
        let page = caller.get(&url).await.expect(200);
        names.extend(page["results"].as_array().unwrap().iter().map(|d| d["name"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => url = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(names.len(), 13);
    let vm = caller.get("/api/virtualization/virtual-machines/?name=vm-shop-1").await.expect(200)["results"][0].clone();
    assert_eq!((&vm["cluster"]["name"], &vm["device"]["name"]), (&json!("kube-prod"), &json!("hv01")));
    let services = caller.get(&format!("/api/ipam/services/?virtual_machine_id={}", vm["id"])).await.expect(200);
    assert_eq!((&services["results"][0]["name"], &services["results"][0]["parent"]["name"]), (&json!("shop"), &json!("vm-shop-1")));
    let cluster = caller.get(&format!("/api/virtualization/virtual-machines/?cluster_id={}", vm["cluster"]["id"])).await.expect(200);
    assert_eq!(cluster["count"], 3);
    let addresses = caller.get(&format!("/api/ipam/ip-addresses/?virtual_machine_id={}", vm["id"])).await.expect(200);
    assert_eq!(addresses["results"][0]["address"], "10.1.7.51/24");
    let owners = caller.get("/api/tenancy/contact-assignments/?object_type=dcim.device&object_id=1").await.expect(200);
    assert_eq!(owners["results"][0]["contact"]["name"], "Web Operations");
}

#[tokio::test]
async fn netbox_cables_can_be_walked() {
    let (_sandbox, caller) = netbox().await;
    let web = caller.get("/api/dcim/devices/?name=web01").await.expect(200)["results"][0]["id"].clone();
    let interfaces = caller.get(&format!("/api/dcim/interfaces/?device_id={web}")).await.expect(200);
    let cabled = interfaces["results"].as_array().unwrap().iter().find(|i| !i["cable"].is_null()).unwrap().clone();
    assert_eq!(cabled["connected_endpoints"][0]["device"]["name"], "sw-acc01");
    let cables = caller.get(&format!("/api/dcim/cables/?device_id={web}")).await.expect(200);
    assert_eq!(cables["count"], 1);
    assert_eq!(cables["results"][0]["b_terminations"][0]["object"]["device"]["name"], "web01");
    let trace = caller.get(&format!("/api/dcim/interfaces/{}/trace/", cabled["id"])).await.expect(200);
    assert_eq!(trace[0][2][0]["device"]["name"], "sw-acc01");
}

#[tokio::test]
async fn netbox_guards_against_lost_updates() {
    let (sandbox, caller) = netbox().await;
    let read = caller.get("/api/dcim/devices/1/").await;
    let etag = read.header("etag").to_owned();
    assert!(etag.starts_with("W/\""), "{etag}");
    let changed = caller.with("if-match", &etag).patch("/api/dcim/devices/1/", json!({"comments": "a", "custom_fields": {"tickets": "T-1"}})).await;
    assert_ne!(changed.header("etag"), etag);
    assert_eq!(changed.expect(200)["custom_fields"]["depends_on"], json!([]), "other custom fields stay");
    let stale = caller.with("if-match", &etag).patch("/api/dcim/devices/1/", json!({"comments": "b"})).await;
    assert_eq!((stale.status, stale.header("etag").is_empty()), (412, false));
    let log = caller.get("/api/core/object-changes/?changed_object_type=dcim.device&changed_object_id=1").await.expect(200);
    assert_eq!((&log["count"], &log["results"][0]["action"]["value"]), (&json!(1), &json!("updated")));
    let recent = caller.get(&format!("/api/dcim/devices/?last_updated__gte={}", changed_at(&caller).await)).await.expect(200);
    assert_eq!(recent["count"], 1);
    assert_eq!(sandbox.ledger().count(EffectKind::CiUpdated), 1);
}

async fn changed_at(caller: &Caller) -> String {
    caller.get("/api/dcim/devices/1/").await.expect(200)["last_updated"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn netbox_writes_are_checked_and_all_or_nothing() {
    let (sandbox, caller) = netbox().await;
    let receiver = Receiver::start().await;
    sandbox.netbox().set_webhook(&receiver.url, Some("hook-secret".into()));
    assert_eq!(caller.post("/api/dcim/devices/", json!({"name": "x"})).await.expect(400)["site"], json!(["This field is required."]));
    let device = json!({"name": "new01", "device_type": 1, "role": {"slug": "server"}, "site": {"slug": "ams1"}});
    let made = caller.post("/api/dcim/devices/", device.clone()).await.expect(201);
    assert_eq!((&made["site"]["name"], &made["status"]["value"]), (&json!("Amsterdam 1"), &json!("active")));
    let mut bad = device.clone();
    bad["site"] = json!(99);
    assert_eq!(caller.post("/api/dcim/devices/", json!([device, bad])).await.status, 400);
    assert_eq!(caller.get("/api/dcim/devices/?name=new01").await.expect(200)["count"], 1, "the good row of a bad list is not kept");
    let protected = caller.delete("/api/dcim/sites/1/").await;
    assert_eq!(protected.status, 409);
    assert!(protected.json()["detail"].as_str().unwrap().contains("web01"));
    assert_eq!(caller.delete(&format!("/api/dcim/devices/{}/", made["id"])).await.status, 204);
    let entry = json!({"assigned_object_type": "dcim.device", "assigned_object_id": 1, "kind": "info", "comments": "TICKET-1"});
    caller.post("/api/extras/journal-entries/", entry.clone()).await.expect(201);
    let mut lost = entry;
    lost["assigned_object_id"] = json!(999);
    assert_eq!(caller.post("/api/extras/journal-entries/", lost).await.status, 400);
    let found = caller.get("/api/extras/journal-entries/?assigned_object_type=dcim.device&assigned_object_id=1").await.expect(200);
    assert_eq!(found["count"], 1);
    let journal = sandbox.ledger().of_kind(EffectKind::JournalEntry);
    assert_eq!((journal[0].target.as_str(), &journal[0].detail), ("dcim.device:1", &json!("TICKET-1")));
    sandbox.settled().await;
    let events: Vec<Value> = receiver.items();
    assert_eq!(events.len(), 3);
    assert!(receiver.hits().iter().all(|h| h.headers["x-hook-signature"].len() == 128));
}

#[tokio::test]
async fn servicenow_takes_basic_and_bearer() {
    let (sandbox, caller) = servicenow().await;
    caller.get("/api/now/table/cmdb_ci?sysparm_limit=1").await.expect(200);
    let anonymous = Caller::new(sandbox.base_url("servicenow"), &[]).get("/api/now/table/cmdb_ci").await.expect(401);
    assert_eq!(anonymous["status"], "failure");
    let form = format!("grant_type=client_credentials&client_id={}&client_secret={}", known::SERVICENOW_CLIENT_ID, known::SERVICENOW_CLIENT_SECRET);
    let form_caller = Caller::new("", &[("content-type", "application/x-www-form-urlencoded")]);
    let token = form_caller.raw("POST", &sandbox.token_url("servicenow").unwrap(), form).await.unwrap().expect(200);
    let oauth = bearer(sandbox.base_url("servicenow"), token["access_token"].as_str().unwrap());
    oauth.get("/api/now/table/cmdb_ci?sysparm_limit=1").await.expect(200);
    sandbox.servicenow().expire_tokens();
    assert_eq!(oauth.get("/api/now/table/cmdb_ci").await.status, 401);
}

#[tokio::test]
async fn servicenow_queries_page_and_display() {
    let (_sandbox, caller) = servicenow().await;
    let table = |query: &str| format!("/api/now/table/cmdb_ci?{query}");
    let one =
        caller.get(&table("sysparm_query=name=web01&sysparm_fields=sys_id,name,sys_class_name,support_group,support_group.name")).await.expect(200);
    let web = &one["result"][0];
    assert_eq!((&web["sys_class_name"], &web["support_group.name"]), (&json!("cmdb_ci_linux_server"), &json!("Web Operations")));
    assert!(web["support_group"]["link"].as_str().unwrap().contains("/sys_user_group/"));
    let shown =
        caller.get(&table("sysparm_query=name=web01&sysparm_fields=support_group,operational_status&sysparm_display_value=all")).await.expect(200);
    assert_eq!(shown["result"][0]["support_group"]["display_value"], "Web Operations");
    assert_eq!(shown["result"][0]["operational_status"], json!({"display_value": "Operational", "value": "1"}));
    let count = |query: &'static str| {
        let (caller, url) = (caller.clone(), table(query));
        async move { caller.get(&url).await.header("x-total-count").to_owned() }
    };
    assert_eq!(count("sysparm_query=nameSTARTSWITHweb").await, "2");
    assert_eq!(count("sysparm_query=name=web01%5EORname=db01").await, "2");
    assert_eq!(count("sysparm_query=nameINweb01,db01,none%5Ename!=db01").await, "1");
    assert_eq!(count("sysparm_query=nonsense=1").await, "29", "an invalid clause is dropped and the whole table comes");
    let page = caller.get(&table("sysparm_query=ORDERBYDESCname&sysparm_limit=10&sysparm_offset=10&sysparm_fields=name")).await;
    let link = page.header("link").to_owned();
    assert!(link.contains("rel=\"prev\"") && link.contains("sysparm_offset=20>;rel=\"next\""), "{link}");
    let names: Vec<String> = page.expect(200)["result"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap().to_owned()).collect();
    assert!(names.is_sorted_by(|a, b| a >= b), "{names:?}");
    assert_eq!(caller.get("/api/now/v2/table/cmdb_ci?sysparm_query=name=none").await.expect(200)["result"], json!([]));
    assert_eq!(caller.get("/api/now/v1/table/cmdb_ci?sysparm_query=name=none").await.status, 404);
    assert_eq!(caller.get("/api/now/table/cmdb_ci/none").await.expect(404)["error"]["message"], "No Record found");
    assert_eq!(caller.get("/api/now/table/sys_secret").await.status, 400);
}

#[tokio::test]
async fn servicenow_relations_hold_a_cycle() {
    let (_sandbox, caller) = servicenow().await;
    let shop = caller.get("/api/now/table/cmdb_ci_service?sysparm_query=name=shop&sysparm_fields=sys_id").await.expect(200)["result"][0]["sys_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let (mut seen, mut frontier, mut cycle) = (BTreeSet::from([shop.clone()]), vec![shop.clone()], false);
    while let Some(ci) = frontier.pop() {
        let url = format!(
            "/api/now/table/cmdb_rel_ci?sysparm_query=parent={ci}%5Etype.nameSTARTSWITHDepends&sysparm_fields=child,type.name&sysparm_exclude_reference_link=true"
        );
        for relation in caller.get(&url).await.expect(200)["result"].as_array().unwrap() {
            let child = relation["child"].as_str().unwrap().to_owned();
            cycle |= child == shop;
            if seen.insert(child.clone()) {
                frontier.push(child);
            }
        }
    }
    assert!(cycle);
    assert_eq!(seen.len(), 7);
}

#[tokio::test]
async fn servicenow_links_tickets_and_reconciles() {
    let (sandbox, caller) = servicenow().await;
    let id = |v: &Value| v["sys_id"].as_str().unwrap().to_owned();
    let ci = id(&caller.get("/api/now/table/cmdb_ci?sysparm_query=name=web01").await.expect(200)["result"][0]);
    let incident = caller.post("/api/now/table/incident", json!({"short_description": "x", "correlation_id": "m1"})).await.expect(201);
    let incident = id(&incident["result"]);
    let patched = caller.patch(&format!("/api/now/table/incident/{incident}?sysparm_display_value=true"), json!({"cmdb_ci": ci})).await.expect(200);
    assert_eq!(patched["result"]["cmdb_ci"]["display_value"], "web01");
    caller.post("/api/now/table/task_ci", json!({"task": incident, "ci_item": ci})).await.expect(201);
    assert_eq!(caller.post("/api/now/table/task_ci", json!({"task": incident})).await.status, 403);
    assert_eq!(sandbox.ledger().of_kind(EffectKind::TicketLinked)[0].parent.as_deref(), Some(incident.as_str()));
    assert_eq!(sandbox.ledger().of_kind(EffectKind::TicketCreated)[0].key.as_deref(), Some("m1"));
    let text = caller.with("content-type", "text/plain").raw("POST", "/api/now/table/incident", "{}").await.unwrap();
    assert_eq!(text.status, 415);

    let payload = json!({"items": [
        {"className": "cmdb_ci_linux_server", "values": {"name": "new09", "serial_number": "X77-1"}},
        {"className": "cmdb_ci_appl", "values": {"name": "shop-worker"}},
        {"className": "cmdb_ci_appl", "values": {"version": "1"}},
    ], "relations": [{"parent": 1, "child": 0, "type": "Runs on::Runs"}]});
    let url = "/api/now/identifyreconcile?sysparm_data_source=connectors";
    let first = caller.post(url, payload.clone()).await.expect(200)["result"].clone();
    assert_eq!(
        (&first["items"][0]["operation"], &first["relations"][0]["operation"], &first["hasError"]),
        (&json!("INSERT"), &json!("INSERT"), &json!(true))
    );
    assert_eq!(first["items"][2]["errors"][0]["error"], "MISSING_MATCHING_ATTRIBUTES");
    let second = caller.post(url, payload).await.expect(200)["result"].clone();
    assert_eq!((&second["items"][0]["operation"], &second["relations"][0]["operation"]), (&json!("NO_CHANGE"), &json!("NO_CHANGE")));
    assert_eq!(caller.delete(&format!("/api/now/table/incident/{incident}")).await.status, 204);
}
