//! The same questions to five systems over HTTP, against the stateful fakes of the sandbox: the answers are of one shape, whatever the system.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{collections::BTreeSet, sync::Arc};

use connector_cmdb::Cmdb;
use connector_core::ErrorKind;
use connector_http::{EgressPolicy, HttpTransport};
use connector_sandbox::Sandbox;
use secrecy::SecretString;
use serde_json::{Value, json};

/// Profile, a class to create in, what creating needs, a ticket.
const SYSTEMS: [(&str, &str, &str, &str); 5] = [
    ("netbox", "cluster", "{}", "INC-8841"),
    ("servicenow", "linux_server", "{}", "INC0010001"),
    ("glpi", "computer", "{}", "1"),
    ("itop", "server", r#"{"org_id": "SELECT Organization WHERE name = 'Acme'"}"#, "R-000001"),
    ("valuemation", "server", "{}", "T0815"),
];

async fn start() -> Sandbox {
    Sandbox::builder().vendor("cmdb").start("127.0.0.1:0").await.unwrap()
}

fn client(sandbox: &Sandbox, profile: &str) -> Cmdb {
    let transport = HttpTransport::builder().egress(EgressPolicy::new().allow_loopback()).build().unwrap();
    let credentials = sandbox.credentials();
    let field = |name: &str| credentials.iter().find(|one| one.vendor == profile && one.name == name).map(|one| one.value);
    let fields: Vec<(&'static str, SecretString)> =
        [("token", "token"), ("key", "key"), ("username", "username"), ("username", "user"), ("password", "password")]
            .into_iter()
            .filter_map(|(ours, theirs)| Some((ours, field(theirs)?.into())))
            .collect();
    let builder = Cmdb::builder().profile(profile).base_url(sandbox.base_url(profile)).credential(fields).transport(Arc::new(transport));
    builder.setting("retired_status", "2").setting("active_status", "1").build().unwrap()
}

async fn ask(cmdb: &Cmdb, tool: &str, args: Value) -> connector_core::Result<Value> {
    let Value::Object(args) = args else { panic!("args must be an object") };
    cmdb.client().call_dynamic(tool, args).await?.body.to_value()
}

async fn id(cmdb: &Cmdb, name: &str) -> String {
    cmdb.find_ci_by_name(name).await.unwrap().unwrap_or_else(|| panic!("no {name}")).id
}

fn names(list: &Value) -> BTreeSet<String> {
    list.as_array().unwrap().iter().filter_map(|one| one["name"].as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn items_are_found_by_name_serial_number_and_text() {
    let sandbox = start().await;
    for (profile, ..) in SYSTEMS {
        let cmdb = client(&sandbox, profile);
        assert!(cmdb.probe().await.unwrap().ok, "{profile}");
        let web = cmdb.find_ci_by_name("web01").await.unwrap().unwrap();
        assert_eq!((web.name.as_str(), web.serial.as_deref()), ("web01", Some("SN-W001")), "{profile}");
        assert_eq!(cmdb.find_ci_by_name("no such thing").await.unwrap(), None, "{profile}");
        let found = ask(&cmdb, "cmdb_search_cis", json!({ "query": "web0" })).await.unwrap();
        assert_eq!(names(&found["results"]), BTreeSet::from(["web01".to_owned(), "web02".to_owned()]), "{profile}");
        let whole = cmdb.get_ci(&web.id).await.unwrap().unwrap();
        assert!(whole.attributes.is_some() && whole.name == "web01", "{profile}");
        let identified = ask(&cmdb, "cmdb_identify_ci", json!({ "serial": "SN-W001", "name": "nobody" })).await.unwrap();
        assert_eq!(
            (&identified["outcome"], &identified["by"], &identified["results"][0]["id"]),
            (&json!("one"), &json!("serial"), &json!(web.id)),
            "{profile}"
        );
        let missing = match profile {
            "netbox" => "dcim.device:9999",
            "servicenow" => "00000000000000000000000000000000",
            "glpi" => "Computer:9999",
            "itop" => "9999",
            _ => "SRV-9999",
        };
        assert_eq!(cmdb.get_ci(missing).await.unwrap(), None, "{profile}");
        let several = ask(&cmdb, "cmdb_get_cis", json!({ "ids": [web.id, missing] })).await.unwrap();
        assert_eq!((names(&several["results"]).len(), &several["missing"]), (1, &json!([missing])), "{profile}");
        let text = "Since noon web01 and vm-shop-1 answer slowly, db-99 too.";
        let mentioned = ask(&cmdb, "cmdb_find_cis_in_text", json!({ "text": text })).await.unwrap();
        let matched: Vec<&str> = mentioned["results"].as_array().unwrap().iter().map(|one| one["ci"]["name"].as_str().unwrap()).collect();
        assert_eq!(matched, ["web01", "vm-shop-1"], "{profile}");
        let owner = ask(&cmdb, "cmdb_get_owner", json!({ "id": web.id })).await.unwrap();
        assert!(names(&owner["results"]).contains("Web Operations"), "{profile}: {owner}");
    }
}

#[tokio::test]
async fn lists_page_to_their_end() {
    let sandbox = start().await;
    for (profile, class, ..) in SYSTEMS {
        let cmdb = client(&sandbox, profile);
        let class = if profile == "netbox" { "device" } else { class };
        let count = ask(&cmdb, "cmdb_count_cis", json!({ "class": class })).await.unwrap()["count"].as_u64().unwrap();
        let (mut seen, mut after, mut rows) = (BTreeSet::new(), None, 0);
        loop {
            let mut args = json!({ "class": class, "limit": 3 });
            if let Some(after) = after {
                args["after"] = after;
            }
            let page = ask(&cmdb, "cmdb_list_cis", args).await.unwrap();
            rows += page["results"].as_array().unwrap().len();
            seen.extend(page["results"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()));
            match page["next"].clone() {
                Value::Null => break,
                next => after = Some(next),
            }
        }
        assert_eq!((seen.len() as u64, rows as u64), (count, count), "{profile}");
        assert!(count >= 6, "{profile}: {count}");
    }
}

#[tokio::test]
async fn walks_ways_circles_and_maps_are_the_same_everywhere() {
    let sandbox = start().await;
    for (profile, ..) in SYSTEMS {
        let cmdb = client(&sandbox, profile);
        let (shop, cdn, store) = (id(&cmdb, "shop").await, id(&cmdb, "storefront-cdn").await, id(&cmdb, "stor01").await);
        let down = ask(&cmdb, "cmdb_dependencies", json!({ "id": shop, "depth": 8 })).await.unwrap();
        let reached = names(&down["nodes"]);
        for needed in ["billing-api", "auth", "search", "vm-shop-1", "hv01", "db01", "stor01"] {
            assert!(reached.contains(needed), "{profile}: {needed} is missing of {reached:?}");
        }
        assert_eq!((&down["cyclic"], &down["truncated"]), (&json!(true), &json!(false)), "{profile}");
        let few = ask(&cmdb, "cmdb_dependencies", json!({ "id": shop, "depth": 8, "max_nodes": 2 })).await.unwrap();
        assert_eq!((few["nodes"].as_array().unwrap().len(), &few["truncated"]), (2, &json!(true)), "{profile}");
        let up = ask(&cmdb, "cmdb_dependents", json!({ "id": store, "depth": 8 })).await.unwrap();
        assert!(names(&up["nodes"]).contains("storefront-cdn"), "{profile}");

        let way = ask(&cmdb, "cmdb_find_path", json!({ "from": cdn, "to": store })).await.unwrap();
        let steps = way["relations"].as_array().unwrap();
        assert_eq!((&way["found"], &steps[0]["from"], &steps[steps.len() - 1]["to"]), (&json!(true), &json!(cdn), &json!(store)), "{profile}");
        assert!(steps.windows(2).all(|pair| pair[0]["to"] == pair[1]["from"]), "{profile}: {steps:?}");
        let back = ask(&cmdb, "cmdb_find_path", json!({ "from": store, "to": cdn })).await.unwrap();
        assert_eq!((&back["found"], &back["truncated"]), (&json!(false), &json!(false)), "{profile}");

        let mail = id(&cmdb, "mail-relay").await;
        let common = ask(&cmdb, "cmdb_common_dependencies", json!({ "ids": [shop, mail] })).await.unwrap();
        assert_eq!(common["results"][0]["name"], "auth", "{profile}: {common}");
        let cycles = ask(&cmdb, "cmdb_find_cycles", json!({ "id": cdn })).await.unwrap();
        assert_eq!(names(&cycles["results"][0]["members"]), BTreeSet::from(["billing-api".to_owned(), "shop".to_owned()]), "{profile}");

        for (format, start) in [("mermaid", "flowchart TB\n"), ("dot", "digraph services {"), ("svg", "<svg xmlns=")] {
            let map = ask(&cmdb, "cmdb_service_map", json!({ "ids": [shop], "format": format, "depth": 2 })).await.unwrap();
            let text = map["text"].as_str().unwrap();
            assert!(text.starts_with(start) && text.contains("billing-api") && text.contains("storefront-cdn"), "{profile} {format}: {text}");
            let again = ask(&cmdb, "cmdb_service_map", json!({ "ids": [shop], "format": format, "depth": 2 })).await.unwrap();
            assert_eq!(map, again, "{profile} {format}");
        }
    }
}

#[tokio::test]
async fn a_connection_is_told_from_the_item_that_was_asked_about() {
    let sandbox = start().await;
    for profile in ["netbox", "servicenow"] {
        let cmdb = client(&sandbox, profile);
        for name in ["web01", "sw-acc01"] {
            let id = id(&cmdb, name).await;
            let found = ask(&cmdb, "cmdb_list_relations", json!({ "id": id })).await.unwrap();
            let wires: Vec<&Value> = found["results"].as_array().unwrap().iter().filter(|one| one["kind"] == "connected_to").collect();
            assert!(!wires.is_empty() && wires.iter().all(|one| one["from"] == json!(id)), "{profile} {name}: {wires:?}");
        }
    }
}

#[tokio::test]
async fn tickets_are_linked_once_and_tell_what_they_affect() {
    let sandbox = start().await;
    for (profile, _, _, ticket) in SYSTEMS {
        let cmdb = client(&sandbox, profile);
        let (database, web) = (id(&cmdb, "db01").await, id(&cmdb, "web01").await);
        for (linked, already) in [(1, 0), (0, 1)] {
            let answer = ask(&cmdb, "cmdb_link_ticket", json!({ "ticket": ticket, "ci_ids": [database] })).await.unwrap();
            let made = |name: &str| answer[name].as_array().unwrap().len();
            assert_eq!((made("linked"), made("already_linked")), (linked, already), "{profile}: {answer}");
        }
        let impact = ask(&cmdb, "cmdb_ticket_impact", json!({ "ticket": ticket })).await.unwrap();
        assert_eq!(impact["linked"][0]["id"], json!(database), "{profile}");
        for affected in ["postgres-orders", "billing-api", "shop", "storefront-cdn", "app01"] {
            assert!(names(&impact["affected"]).contains(affected), "{profile}: {affected}");
        }
        let counted: u64 = impact["by_class"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
        assert_eq!(counted, impact["affected"].as_array().unwrap().len() as u64, "{profile}");
        let set = ask(&cmdb, "cmdb_set_linked_cis", json!({ "ticket": ticket, "ci_ids": [web] })).await.unwrap();
        assert_eq!((&set["linked"][0]["ci_id"], &set["removed"][0]["ci_id"], &set["kept"]), (&json!(web), &json!(database), &json!([])), "{profile}");
        let tickets = ask(&cmdb, "cmdb_list_linked_tickets", json!({ "id": web })).await.unwrap();
        assert_eq!(tickets["results"].as_array().unwrap().len(), 1, "{profile}");
        match ask(&cmdb, "cmdb_get_ticket", json!({ "ticket": ticket })).await {
            Ok(found) => assert_eq!(found["title"], "Checkout is slow", "{profile}"),
            Err(error) => assert_eq!((profile, error.kind()), ("netbox", ErrorKind::Unsupported)),
        }
        assert_eq!(ask(&cmdb, "cmdb_unlink_ticket", json!({ "ticket": ticket })).await.unwrap()["removed"].as_array().unwrap().len(), 1, "{profile}");
        if profile != "netbox" {
            let gone = if profile == "glpi" { "99" } else { "T-404" };
            let error = ask(&cmdb, "cmdb_link_ticket", json!({ "ticket": gone, "ci_ids": [web] })).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{profile}: {error}");
        }
    }
}

#[tokio::test]
async fn what_is_reconciled_twice_is_written_once() {
    let sandbox = start().await;
    for (profile, class, attributes, _) in SYSTEMS {
        let cmdb = client(&sandbox, profile);
        let attributes: Value = serde_json::from_str(attributes).unwrap();
        let items = json!([{ "class": class, "name": "brand-new", "attributes": attributes }, { "class": "no_such_class", "name": "x" }]);
        let counts = |answer: &Value| ["created", "updated", "unchanged", "failed"].map(|name| answer[name].as_u64().unwrap());
        let dry = ask(&cmdb, "cmdb_plan_cis", json!({ "items": items })).await.unwrap();
        assert_eq!(counts(&dry), [1, 0, 0, 1], "{profile}");
        assert_eq!(cmdb.find_ci_by_name("brand-new").await.unwrap(), None, "{profile}: a plan wrote");
        let first = ask(&cmdb, "cmdb_reconcile_cis", json!({ "items": items })).await.unwrap();
        assert_eq!(counts(&first), [1, 0, 0, 1], "{profile}: {first}");
        let made = first["results"][0]["ci"]["id"].clone();
        let bare = json!([{ "class": class, "name": "brand-new" }]);
        let second = ask(&cmdb, "cmdb_reconcile_cis", json!({ "items": bare })).await.unwrap();
        assert_eq!((counts(&second), &second["results"][0]["ci"]["id"]), ([0, 0, 1, 0], &made), "{profile}: {second}");

        let retired = ask(&cmdb, "cmdb_retire_ci", json!({ "id": made })).await.unwrap()["status"].as_str().unwrap().to_lowercase();
        assert!(["decommissioning", "6", "retired", "obsolete"].contains(&retired.as_str()), "{profile}: {retired}");
        let back = ask(&cmdb, "cmdb_restore_ci", json!({ "id": made })).await.unwrap()["status"].as_str().unwrap().to_lowercase();
        assert!(["active", "1", "in use", "production"].contains(&back.as_str()), "{profile}: {back}");
        let field = match profile {
            "servicenow" => "short_description",
            "glpi" => "comment",
            "itop" | "netbox" => "description",
            _ => "remark",
        };
        let values = json!({ field: "by the hub" });
        for outcome in ["updated", "unchanged"] {
            let done = ask(&cmdb, "cmdb_upsert_ci", json!({ "class": class, "name": "brand-new", "attributes": values })).await.unwrap();
            assert_eq!((&done["outcome"], &done["ci"]["id"]), (&json!(outcome), &made), "{profile}: {done}");
        }
    }
}

#[tokio::test]
async fn relations_are_made_once_and_removed_once() {
    let sandbox = start().await;
    for (profile, ..) in SYSTEMS {
        let cmdb = client(&sandbox, profile);
        let (from, to, kind) = match profile {
            "netbox" => (id(&cmdb, "vm-mail-1").await, id(&cmdb, "hv01").await, "runs_on"),
            _ => (id(&cmdb, "mail-relay").await, id(&cmdb, "db02").await, "depends_on"),
        };
        let args = json!({ "from": from, "to": to, "kind": kind });
        if profile == "itop" {
            let error = ask(&cmdb, "cmdb_add_relation", args).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            continue;
        }
        for created in [true, false] {
            let made = ask(&cmdb, "cmdb_add_relation", args.clone()).await.unwrap();
            assert_eq!((&made["created"], &made["relation"]["to"]), (&json!(created), &json!(to)), "{profile}: {made}");
        }
        let way = ask(&cmdb, "cmdb_find_path", json!({ "from": from, "to": to })).await.unwrap();
        assert_eq!(way["relations"].as_array().unwrap().len(), 1, "{profile}");
        for removed in [true, false] {
            let gone = ask(&cmdb, "cmdb_remove_relation", args.clone()).await.unwrap();
            assert_eq!(gone["removed"], json!(removed), "{profile}: {gone}");
        }
    }
}

#[tokio::test]
async fn every_operation_says_whether_a_system_can_do_it_and_does_as_it_says() {
    let sandbox = start().await;
    for (profile, ..) in SYSTEMS {
        let cmdb = client(&sandbox, profile);
        let told = ask(&cmdb, "cmdb_capabilities", json!({})).await.unwrap();
        let operations = told["operations"].as_array().unwrap();
        assert_eq!(operations.len(), connector_cmdb::manifest().tools.len(), "{profile}");
        let supported = |name: &str| operations.iter().find(|one| one["operation"] == name).unwrap()["supported"] == true;
        let web = id(&cmdb, "web01").await;
        let class = if profile == "valuemation" { "server" } else { "cluster" };
        let class = if profile == "servicenow" { "ci" } else { class };
        for (tool, args) in [
            ("cmdb_find_cis_by_serial", json!({ "serial": "SN-W001" })),
            ("cmdb_find_cis_by_ip", json!({ "ip": "10.1.2.3" })),
            ("cmdb_list_changes", json!({ "class": class, "since": "2020-01-01T00:00:00Z" })),
            ("cmdb_get_ci_history", json!({ "id": web })),
            ("cmdb_list_owned_cis", json!({ "owner": "Acme" })),
            ("cmdb_retire_ci", json!({ "id": web })),
        ] {
            match ask(&cmdb, tool, args).await {
                Ok(answer) => {
                    assert!(supported(tool), "{profile} {tool}");
                    if tool.starts_with("cmdb_find") {
                        assert_eq!(names(&answer["results"]), BTreeSet::from(["web01".to_owned()]), "{profile} {tool}");
                    }
                }
                Err(error) => assert_eq!((supported(tool), error.kind()), (false, ErrorKind::Unsupported), "{profile} {tool}: {error}"),
            }
        }
    }
}
