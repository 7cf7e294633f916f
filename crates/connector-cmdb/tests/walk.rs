//! Walks over a CMDB with a circle in it: everything is reached once, nothing loops, limits are kept and told.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;

use connector_core::ErrorKind;
use serde_json::{Value, json};

use support::{Answer, Fake, Seen, client, output, query};

/// shop → vm1 → hv1; shop → billing → shop (a circle by custom field); billing on vm2 → hv1; vm1, vm2 in kube.
fn answer(seen: &Seen) -> Answer {
    let asked = url::Url::parse(&format!("http://x{}", seen.target)).unwrap();
    let wanted = |name: &str| -> Vec<String> { asked.query_pairs().filter(|(key, _)| key == name).map(|(_, value)| value.into_owned()).collect() };
    let field = |name: &str| json!({ "id": name.bytes().last().unwrap() - b'0', "name": name });
    let rows: Vec<Value> = match asked.path() {
        "/base/api/virtualization/virtual-machines/" => vec![
            json!({ "id": 1, "name": "vm1", "device": field("hv1"), "cluster": { "id": 5, "name": "kube" } }),
            json!({ "id": 2, "name": "vm2", "device": field("hv1"), "cluster": { "id": 5, "name": "kube" } }),
        ],
        "/base/api/ipam/services/" => vec![
            json!({ "id": 1, "name": "shop", "parent_object_type": "virtualization.virtualmachine", "parent_object_id": 1, "parent": field("vm1"), "custom_fields": { "depends_on": ["billing"] } }),
            json!({ "id": 2, "name": "billing", "parent_object_type": "virtualization.virtualmachine", "parent_object_id": 2, "parent": field("vm2"), "custom_fields": { "depends_on": ["shop", "nobody"] } }),
        ],
        "/base/api/dcim/devices/" => vec![json!({ "id": 1, "name": "hv1", "custom_fields": { "depends_on": null } })],
        "/base/api/virtualization/clusters/" => vec![json!({ "id": 5, "name": "kube" })],
        "/base/api/dcim/interfaces/" => {
            vec![json!({ "id": 1, "device": field("hv1"), "connected_endpoints": [{ "id": 9, "device": { "id": 3, "name": "sw3" } }] })]
        }
        "/base/api/extras/journal-entries/" => {
            vec![json!({ "id": 4, "assigned_object_type": "dcim.device", "assigned_object_id": 1, "comments": "Linked ticket INC-7" })]
        }
        one => {
            let (path, id) = one.trim_end_matches('/').rsplit_once('/').unwrap();
            let rows = match answer(&Seen { method: "GET".into(), target: format!("{path}/"), body: Value::Null }) {
                Answer::Json(200, body) => body["results"].as_array().unwrap().clone(),
                _ => Vec::new(),
            };
            let row = rows.into_iter().find(|row| row["id"].as_u64() == id.parse().ok());
            return row.map_or(Answer::Json(404, json!({ "detail": "No Device matches the given query." })), |row| Answer::Json(200, row));
        }
    };
    let filters: [(&str, &str); 6] = [
        ("id", "/id"),
        ("name", "/name"),
        ("device_id", "/device/id"),
        ("cluster_id", "/cluster/id"),
        ("parent_object_id", "/parent_object_id"),
        ("parent_object_type", "/parent_object_type"),
    ];
    let passes = |row: &Value| {
        filters.iter().all(|(name, at)| {
            let wanted = wanted(name);
            let have = row.pointer(at).map(|have| have.as_str().map_or_else(|| have.to_string(), str::to_owned));
            wanted.is_empty() || have.is_some_and(|have| wanted.contains(&have))
        })
    };
    let rows: Vec<Value> = rows.into_iter().filter(passes).collect();
    let (offset, limit) = (
        query(&seen.target).get("offset").map_or(0, |at| at.as_str().unwrap().parse().unwrap()),
        query(&seen.target).get("limit").map_or(250, |at| at.as_str().unwrap().parse().unwrap()),
    );
    let shown: Vec<&Value> = rows.iter().skip(offset).take(limit).collect();
    Answer::Json(200, json!({ "count": rows.len(), "results": shown }))
}

async fn walk(tool: &str, args: Value) -> (Value, Arc<Fake>) {
    let fake = Fake::new(answer);
    let walk = output(&client(&fake, "netbox"), tool, args).await.unwrap();
    (walk, fake)
}

fn nodes(walk: &Value) -> Vec<String> {
    let mut nodes: Vec<String> =
        walk["nodes"].as_array().unwrap().iter().map(|node| format!("{} {}", node["distance"], node["name"].as_str().unwrap())).collect();
    nodes.sort();
    nodes
}

#[tokio::test]
async fn down_a_circle_everything_is_reached_once() {
    let (walk, _) = walk("cmdb_dependencies", json!({ "id": "ipam.service:1" })).await;
    assert_eq!(nodes(&walk), ["1 billing", "1 vm1", "2 hv1", "2 kube", "2 vm2"]);
    assert_eq!((&walk["cyclic"], &walk["truncated"], &walk["depth"]), (&json!(true), &json!(false), &json!(2)));
    let ids: Vec<&str> = walk["nodes"].as_array().unwrap().iter().map(|node| node["id"].as_str().unwrap()).collect();
    assert!(!ids.contains(&"ipam.service:1"), "the root is not its own dependency");
}

#[tokio::test]
async fn up_a_circle_everything_affected_is_found() {
    let (walk, _) = walk("cmdb_dependents", json!({ "id": "dcim.device:1" })).await;
    assert_eq!(nodes(&walk), ["1 vm1", "1 vm2", "2 billing", "2 shop"]);
    assert_eq!(walk["cyclic"], json!(true));
}

#[tokio::test]
async fn a_level_is_one_request_per_rule_and_not_per_item() {
    let (_, fake) = walk("cmdb_dependents", json!({ "id": "dcim.device:1" })).await;
    let up_from_machines: Vec<_> =
        fake.seen().into_iter().filter(|seen| seen.target.contains("parent_object_type=virtualization.virtualmachine")).collect();
    assert_eq!(up_from_machines.len(), 1, "both machines in one request");
    let scans = fake
        .seen()
        .iter()
        .filter(|seen| {
            seen.target.starts_with("/base/api/ipam/services/") && !seen.target.contains("parent_object") && !seen.target.contains("name=")
        })
        .count();
    assert_eq!(scans, 1, "custom fields are read once per walk");
}

#[tokio::test]
async fn depth_and_size_end_a_walk_and_are_told() {
    let (shallow, _) = walk("cmdb_dependencies", json!({ "id": "ipam.service:1", "depth": 1 })).await;
    assert_eq!((nodes(&shallow), &shallow["truncated"]), (vec!["1 billing".to_owned(), "1 vm1".to_owned()], &json!(true)));
    let (small, _) = walk("cmdb_dependencies", json!({ "id": "ipam.service:1", "max_nodes": 3 })).await;
    assert_eq!((small["nodes"].as_array().unwrap().len(), &small["truncated"]), (3, &json!(true)));
    let reached: Vec<&Value> = small["nodes"].as_array().unwrap().iter().map(|node| &node["id"]).chain([&small["roots"][0]]).collect();
    for relation in small["relations"].as_array().unwrap() {
        assert!(reached.contains(&&relation["from"]) && reached.contains(&&relation["to"]), "{relation}");
    }
    for (name, value) in [("depth", 11), ("max_nodes", 5_001)] {
        let error =
            output(&client(&Fake::new(answer), "netbox"), "cmdb_dependencies", json!({ "id": "ipam.service:1", name: value })).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{name}");
    }
}

#[tokio::test]
async fn cables_are_followed_only_if_asked_for() {
    let (plain, fake) = walk("cmdb_dependencies", json!({ "id": "dcim.device:1" })).await;
    assert_eq!(plain["nodes"], json!([]));
    assert!(!fake.seen().iter().any(|seen| seen.target.contains("interfaces")));
    let (wired, _) = walk("cmdb_dependencies", json!({ "id": "dcim.device:1", "kinds": ["connected_to"] })).await;
    assert_eq!((nodes(&wired), &wired["cyclic"]), (vec!["1 sw3".to_owned()], &json!(false)));
    let error =
        output(&client(&Fake::new(answer), "netbox"), "cmdb_dependencies", json!({ "id": "dcim.device:1", "kinds": ["depends"] })).await.unwrap_err();
    assert!(error.message().contains("depends_on"), "{error}");
}

#[tokio::test]
async fn the_impact_of_a_ticket_starts_at_its_items() {
    let (impact, _) = walk("cmdb_impact", json!({ "ticket": "INC-7" })).await;
    assert_eq!(impact["roots"], json!(["dcim.device:1"]));
    assert_eq!(nodes(&impact), ["1 vm1", "1 vm2", "2 billing", "2 shop"]);
    let (both, _) = walk("cmdb_impact", json!({ "ids": ["virtualization.virtualmachine:1", "virtualization.virtualmachine:2"] })).await;
    assert_eq!(nodes(&both), ["1 billing", "1 shop"]);
    let error = output(&client(&Fake::new(answer), "netbox"), "cmdb_impact", json!({})).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn an_item_that_does_not_exist_is_told() {
    let error = output(&client(&Fake::new(answer), "netbox"), "cmdb_dependents", json!({ "id": "dcim.device:99" })).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}
