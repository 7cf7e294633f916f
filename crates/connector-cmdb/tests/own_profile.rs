//! A profile of one's own, as the example for Nautobot has it: it is read, it answers, and every request it makes is one of Nautobot's published
//! description (links excepted, which the description does not cover).

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and says what it skips")]

mod support;

use std::{collections::BTreeSet, fs, path::Path, path::PathBuf, sync::Arc};

use connector_cmdb::Cmdb;
use connector_core::{auth::NoAuth, clock::ManualClock, clock::SeededRng, layer::StackParts, resilience::Resilience};
use serde_json::{Value, json};

use support::{Answer, Fake, Seen, output, query};

const DEVICE: &str = "0f3c5d2e-0000-4000-8000-000000000007";
const MACHINE: &str = "0f3c5d2e-0000-4000-8000-000000000001";

/// The profile inside the example's connection.
fn profile() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/cmdb/nautobot.yaml");
    let example: Value = serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    example["connections"]["nautobot"]["settings"]["profile_yaml"].as_str().unwrap().to_owned()
}

fn answer(seen: &Seen) -> Answer {
    let path = seen.target.split('?').next().unwrap().strip_prefix("/base").unwrap();
    let device = json!({ "id": DEVICE, "object_type": "dcim.device", "name": "web01", "status": { "name": "Active" }, "serial": "SN-W001",
        "primary_ip4": { "address": "10.1.2.3/24" }, "last_updated": "2026-11-21T12:00:00Z", "tenant": { "id": MACHINE, "name": "Shop" } });
    let machine = json!({ "id": MACHINE, "object_type": "virtualization.virtualmachine", "name": "vm1", "cluster": null });
    let link = json!({ "id": DEVICE, "source_type": "virtualization.virtualmachine", "source_id": MACHINE, "destination_type": "dcim.device",
        "destination_id": DEVICE, "relationship": { "key": "app_on_server" } });
    let list = |rows: Vec<Value>| Answer::Json(200, json!({ "count": rows.len(), "results": rows }));
    match path {
        "/api/status/" => Answer::Json(200, json!({ "nautobot-version": "3.1.7" })),
        "/api/dcim/devices/" => list(vec![device]),
        "/api/virtualization/virtual-machines/" if query(&seen.target).contains_key("cluster_id") => list(Vec::new()),
        "/api/virtualization/virtual-machines/" => list(vec![machine]),
        "/api/virtualization/clusters/" => list(Vec::new()),
        "/api/extras/relationship-associations/" => list(vec![link]),
        "/api/extras/object-changes/" => {
            list(vec![json!({ "id": MACHINE, "time": "2026-11-21T12:00:00Z", "user_name": "ada", "action": { "value": "update" } })])
        }
        one if one == format!("/api/dcim/devices/{DEVICE}/") => Answer::Json(200, device),
        one if one == format!("/api/virtualization/virtual-machines/{MACHINE}/") => Answer::Json(200, machine),
        other => panic!("unexpected {other}"),
    }
}

fn client(fake: &Arc<Fake>) -> Cmdb {
    let parts = StackParts::with_clock(Resilience::standard(), Arc::new(ManualClock::at_unix(support::NOON)), Arc::new(SeededRng::new(7)));
    let builder = Cmdb::builder().profile("nautobot").add_profile(profile()).base_url("https://cmdb.example/base");
    builder.transport(fake.clone()).auth(Arc::new(NoAuth)).resilience(parts).build().unwrap()
}

/// Everything the profile can do but links.
async fn everything() -> Arc<Fake> {
    let fake = Fake::new(answer);
    let cmdb = client(&fake);
    assert_eq!(output(&cmdb, "cmdb_probe", json!({})).await.unwrap()["version"], "3.1.7");
    let id = format!("dcim.device:{DEVICE}");
    let found = output(&cmdb, "cmdb_find_ci_by_name", json!({ "name": "web01" })).await.unwrap();
    assert_eq!((&found["id"], &found["status"], &found["ips"]), (&json!(id), &json!("Active"), &json!(["10.1.2.3"])));
    let up = output(&cmdb, "cmdb_dependents", json!({ "id": id })).await.unwrap();
    assert_eq!((&up["nodes"][0]["name"], &up["relations"][0]["kind"]), (&json!("vm1"), &json!("runs_on")));
    for (tool, args) in [
        ("cmdb_search_cis", json!({ "query": "web" })),
        ("cmdb_get_cis", json!({ "ids": [id] })),
        ("cmdb_dependencies", json!({ "id": format!("virtualization.virtualmachine:{MACHINE}") })),
        ("cmdb_list_changes", json!({ "class": "device", "since": "2026-11-20T00:00:00Z" })),
        ("cmdb_get_ci_history", json!({ "id": id })),
        ("cmdb_get_owner", json!({ "id": id })),
        ("cmdb_update_ci", json!({ "id": id, "attributes": { "serial": "SN-W002" } })),
    ] {
        output(&cmdb, tool, args).await.unwrap_or_else(|error| panic!("{tool}: {error}"));
    }
    fake
}

#[tokio::test]
async fn a_profile_of_ones_own_answers_like_a_built_in_one() {
    assert!(everything().await.seen().len() > 10);
    let cmdb = client(&Fake::new(answer));
    let error = output(&cmdb, "cmdb_retire_ci", json!({ "id": format!("dcim.device:{DEVICE}") })).await.unwrap_err();
    assert!(error.kind() == connector_core::ErrorKind::Unsupported && error.message().contains("`nautobot`"), "{error}");
}

/// Nautobot's published description, or `None` (which only a developer's machine may be without).
fn description() -> Option<Value> {
    let root = std::env::var_os("CONNECTORS_SHARED").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let path = root.join("specs/nautobot.json");
    if !path.exists() {
        assert!(std::env::var_os("CI").is_none(), "shared/specs/nautobot.json is missing; set CONNECTORS_SHARED");
        eprintln!("skipped: shared/specs/nautobot.json is absent");
        return None;
    }
    Some(serde_json::from_slice(&fs::read(path).unwrap()).unwrap())
}

#[tokio::test]
async fn every_request_is_one_of_the_published_description() {
    let Some(spec) = description() else { return };
    let fake = everything().await;
    let mut checked = BTreeSet::new();
    for seen in fake.seen() {
        let path = seen.target.split('?').next().unwrap().strip_prefix("/base/api").unwrap().replace(DEVICE, "{id}").replace(MACHINE, "{id}");
        let operation = &spec["paths"][&path][seen.method.to_lowercase()];
        assert!(operation.is_object(), "{} {path} is not in the description", seen.method);
        let known: BTreeSet<&str> = operation["parameters"].as_array().into_iter().flatten().filter_map(|one| one["name"].as_str()).collect();
        for name in query(&seen.target).keys() {
            assert!(known.contains(name.as_str()), "{} {path} has no parameter `{name}`", seen.method);
        }
        checked.insert(format!("{} {path}", seen.method));
    }
    assert!(checked.len() >= 8, "{checked:?}");
}
