//! CMDB: every operation on both systems, the dependency walk with its cycle, and a ticket linked once.

use connector_sandbox::{EffectKind, FaultProfile, Sandbox};
use serde_json::{Value, json};

use crate::world::{World, cmdb, tireless};

/// Operations a system cannot do, each with its reason.
fn not_here(profile: &str) -> Vec<(&'static str, &'static str)> {
    match profile {
        "netbox" => vec![("cmdb_get_ticket", "NetBox has no tickets"), ("cmdb_list_owned_cis", "NetBox has no filter for owners that is known")],
        _ => vec![("cmdb_get_ci_history", "ServiceNow's history is not public")],
    }
}

#[tokio::test]
async fn every_operation_succeeds_on_both_systems() {
    let sandbox = Sandbox::builder().vendor("cmdb").start("127.0.0.1:0").await.unwrap();
    for (profile, class, attributes, change) in [
        ("netbox", "cluster", json!({}), json!({ "status": "offline" })),
        ("servicenow", "linux_server", json!({ "serial_number": "SN-9" }), json!({ "operational_status": "6" })),
    ] {
        let world = World::watching(cmdb(&sandbox, profile, tireless()).client());
        let probe = world.with("cmdb_probe", json!({})).await;
        world.expect(probe["ok"] == true, || format!("{profile}: {probe}"));
        world.with("cmdb_list_classes", json!({})).await;
        let web = world.like_example("cmdb_find_ci_by_name", json!({})).await;
        let found = world.like_example("cmdb_search_cis", json!({})).await;
        world.expect(found["results"].as_array().is_some_and(|all| all.len() >= 2), || format!("{profile}: {found}"));
        let same = world.with("cmdb_get_ci", json!({ "id": web["id"] })).await;
        world.expect(same["name"] == "web01", || format!("{profile}: {same}"));
        let owner = world.with("cmdb_get_owner", json!({ "id": web["id"] })).await;
        world.expect(owner["results"][0]["name"] == "Web Operations", || format!("{profile}: {owner}"));
        world.with("cmdb_list_relations", json!({ "id": web["id"] })).await;
        walks(&world, profile).await;
        let ticket = ticket(&sandbox, profile).await;
        links(&world, &sandbox, profile, &ticket, &web["id"]).await;
        let made = world.with("cmdb_create_ci", json!({ "class": class, "name": "made-here", "attributes": attributes })).await;
        let again = world.with("cmdb_create_ci", json!({ "class": class, "name": "made-here", "attributes": attributes })).await;
        world.expect(made["created"] == true && again["created"] == false, || format!("{profile}: {made} {again}"));
        let changed = world.with("cmdb_update_ci", json!({ "id": made["ci"]["id"], "attributes": change })).await;
        world.expect(!changed.is_null(), || format!("{profile}: {changed}"));
        rest(&world, profile, class, &made["ci"]["id"], &ticket).await;
        world.finish(&not_here(profile));
    }
}

/// What came to the neutral operations later.
async fn rest(world: &World, profile: &str, class: &str, made: &Value, ticket: &str) {
    let of = |answer: &Value| answer["results"].as_array().map_or(0, Vec::len);
    let web = world.with("cmdb_find_ci_by_name", json!({ "name": "web01" })).await["id"].clone();
    let shop = world.with("cmdb_find_ci_by_name", json!({ "name": "shop" })).await["id"].clone();
    let store = world.with("cmdb_find_ci_by_name", json!({ "name": "stor01" })).await["id"].clone();
    for (tool, args) in [
        ("cmdb_get_cis", json!({ "ids": [web, shop] })),
        ("cmdb_find_cis_by_serial", json!({ "serial": "SN-W001" })),
        ("cmdb_find_cis_by_ip", json!({ "ip": "10.1.2.3" })),
        ("cmdb_find_cis_in_text", json!({ "text": "web01 burns" })),
        ("cmdb_list_cis", json!({ "class": class, "limit": 1 })),
        ("cmdb_list_changes", json!({ "class": class, "since": "2020-01-01T00:00:00Z" })),
        ("cmdb_identify_ci", json!({ "name": "web01" })),
        ("cmdb_list_relation_kinds", json!({})),
        ("cmdb_common_dependencies", json!({ "ids": [shop, store] })),
        ("cmdb_find_cycles", json!({ "id": shop })),
    ] {
        let answer = world.with(tool, args).await;
        world.expect(of(&answer) > 0, || format!("{profile} {tool}: {answer}"));
    }
    let count = world.with("cmdb_count_cis", json!({ "class": class })).await;
    world.expect(count["count"].as_u64().is_some_and(|count| count > 0), || format!("{profile}: {count}"));
    match profile {
        "netbox" => drop(world.with("cmdb_get_ci_history", json!({ "id": made })).await),
        _ => {
            world.with("cmdb_list_owned_cis", json!({ "owner": "Web Operations" })).await;
            world.with("cmdb_get_ticket", json!({ "ticket": "INC0010001" })).await;
        }
    }
    world.with("cmdb_capabilities", json!({})).await;
    let way = world.with("cmdb_find_path", json!({ "from": shop, "to": store })).await;
    world.expect(way["found"] == true, || format!("{profile}: {way}"));
    let map = world.with("cmdb_service_map", json!({ "ids": [shop], "format": "svg" })).await;
    world.expect(map["text"].as_str().is_some_and(|text| text.starts_with("<svg")), || format!("{profile}: {map}"));
    let same = world.with("cmdb_upsert_ci", json!({ "class": class, "name": "made-here" })).await;
    world.expect(same["outcome"] == "unchanged", || format!("{profile}: {same}"));
    for tool in ["cmdb_plan_cis", "cmdb_reconcile_cis"] {
        let done = world.with(tool, json!({ "items": [{ "class": class, "name": "made-here" }] })).await;
        world.expect(done["unchanged"] == 1, || format!("{profile}: {done}"));
    }
    world.with("cmdb_retire_ci", json!({ "id": made })).await;
    world.with("cmdb_restore_ci", json!({ "id": made })).await;
    let (from, to, kind) = match profile {
        "netbox" => ("vm-mail-1", "hv01", "runs_on"),
        _ => ("mail-relay", "db02", "depends_on"),
    };
    let from = world.with("cmdb_find_ci_by_name", json!({ "name": from })).await["id"].clone();
    let to = world.with("cmdb_find_ci_by_name", json!({ "name": to })).await["id"].clone();
    for tool in ["cmdb_add_relation", "cmdb_remove_relation"] {
        world.with(tool, json!({ "from": from, "to": to, "kind": kind })).await;
    }
    world.with("cmdb_set_linked_cis", json!({ "ticket": ticket, "ci_ids": [web] })).await;
    let impact = world.with("cmdb_ticket_impact", json!({ "ticket": ticket })).await;
    world.expect(impact["linked"][0]["id"] == web, || format!("{profile}: {impact}"));
    world.with("cmdb_unlink_ticket", json!({ "ticket": ticket })).await;
}

async fn walks(world: &World, profile: &str) {
    let shop = world.with("cmdb_find_ci_by_name", json!({ "name": "shop" })).await;
    let down = world.with("cmdb_dependencies", json!({ "id": shop["id"], "depth": 8 })).await;
    let names = |walk: &Value| -> Vec<String> {
        walk["nodes"].as_array().into_iter().flatten().filter_map(|node| node["name"].as_str().map(str::to_owned)).collect()
    };
    let reached = names(&down);
    let mut once = reached.clone();
    once.sort();
    once.dedup();
    world.expect(down["cyclic"] == true, || format!("{profile}: the cycle was not seen: {down}"));
    world.expect(once.len() == reached.len(), || format!("{profile}: a node was visited twice: {reached:?}"));
    for needed in ["billing-api", "auth", "search", "db01", "stor01"] {
        world.expect(once.iter().any(|name| name == needed), || format!("{profile}: `{needed}` is missing: {once:?}"));
    }
    let store = world.with("cmdb_find_ci_by_name", json!({ "name": "stor01" })).await;
    let up = names(&world.with("cmdb_dependents", json!({ "id": store["id"], "depth": 8 })).await);
    world.expect(up.iter().any(|name| name == "shop"), || format!("{profile}: `shop` needs stor01: {up:?}"));
    let few = world.with("cmdb_dependencies", json!({ "id": shop["id"], "depth": 8, "max_nodes": 2 })).await;
    world.expect(few["truncated"] == true, || format!("{profile}: {few}"));
}

async fn links(world: &World, sandbox: &Sandbox, profile: &str, ticket: &str, ci: &Value) {
    let effects = || sandbox.ledger().count(EffectKind::JournalEntry) + sandbox.ledger().count(EffectKind::TicketLinked);
    let before = effects();
    for (linked, already) in [(1, 0), (0, 1)] {
        let done = world.with("cmdb_link_ticket", json!({ "ticket": ticket, "ci_ids": [ci] })).await;
        let count = |name: &str| done[name].as_array().map_or(0, Vec::len);
        world.expect((count("linked"), count("already_linked")) == (linked, already), || format!("{profile}: {done}"));
    }
    world.expect(effects() == before + 1, || format!("{profile}: {} entries for one link", effects() - before));
    let cis = world.with("cmdb_list_linked_cis", json!({ "ticket": ticket })).await;
    world.expect(cis["results"][0]["ci_id"] == *ci, || format!("{profile}: {cis}"));
    let tickets = world.with("cmdb_list_linked_tickets", json!({ "id": ci })).await;
    world.expect(tickets["results"].as_array().is_some_and(|all| all.len() == 1), || format!("{profile}: {tickets}"));
    let impact = world.with("cmdb_impact", json!({ "ticket": ticket })).await;
    world.expect(impact["roots"] == json!([ci]), || format!("{profile}: {impact}"));
    let gone = world.with("cmdb_unlink_ticket", json!({ "ticket": ticket })).await;
    world.expect(gone["removed"].as_array().is_some_and(|all| all.len() == 1), || format!("{profile}: {gone}"));
}

/// NetBox takes any text for a ticket; ServiceNow wants the id of a record, and the fake has one.
async fn ticket(sandbox: &Sandbox, profile: &str) -> String {
    if profile == "netbox" {
        return "INC-8841".into();
    }
    use base64::Engine as _;
    use connector_sandbox::{client, known};
    let url = format!("{}/api/now/table/incident", sandbox.base_url(profile));
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", known::SERVICENOW_USER, known::SERVICENOW_PASSWORD));
    let headers = [(http::header::AUTHORIZATION, format!("Basic {basic}").parse().unwrap())].into_iter().collect();
    let reply = client::send(http::Method::GET, &url, headers, Vec::new()).await.unwrap();
    let rows: Value = serde_json::from_slice(reply.body()).unwrap();
    rows["result"][0]["sys_id"].as_str().unwrap().to_owned()
}

/// A cut after the link was written must not make a second one.
#[tokio::test]
async fn a_link_under_cut_connections_is_one_link() {
    let sandbox = Sandbox::builder().vendor("cmdb").seed(23).start("127.0.0.1:0").await.unwrap();
    for profile in ["netbox", "servicenow"] {
        let cmdb = cmdb(&sandbox, profile, tireless());
        let ticket = ticket(&sandbox, profile).await;
        let names = ["web01", "web02", "app01", "app02", "db01", "db02", "hv01", "hv02"];
        let mut ids = Vec::new();
        for name in names {
            ids.push(cmdb.find_ci_by_name(name).await.unwrap().unwrap().id);
        }
        let effects = || sandbox.ledger().count(EffectKind::JournalEntry) + sandbox.ledger().count(EffectKind::TicketLinked);
        let before = effects();
        sandbox.faults().set(FaultProfile { cut: 0.25, ..FaultProfile::none() });
        for id in &ids {
            let mut tries = 0;
            while let Err(error) = cmdb.link_ticket(&ticket, [id]).await {
                tries += 1;
                assert!(tries < 30, "{profile}: {error}");
            }
        }
        sandbox.faults().set(FaultProfile::none());
        assert_eq!(effects() - before, ids.len(), "{profile}");
    }
}
