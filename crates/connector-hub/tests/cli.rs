//! The command line as a person or a script uses it: what it prints, how it fails, with which code.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod common;

use std::path::Path;

use common::hub::{Hub, stderr, stdout};
use connector_sandbox::Sandbox;
use serde_json::Value;

fn erp_manifest() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../connector-manifest/tests/fixtures/erp-system.yaml");
    std::fs::read_to_string(path).unwrap()
}

/// A hub with the ERP manifest of the seeds and a connection to the sandbox.
fn erp_hub(sandbox: &Sandbox) -> Hub {
    let hub = Hub::new();
    hub.write("erp-system.yaml", &erp_manifest());
    hub.write(
        "hub.yaml",
        &format!(
            "manifests: [erp-system.yaml]\negress: {{ allow_loopback: true }}\nconnections:\n  erp-system:\n    connector: erp-system\n    base_url: {}\n",
            sandbox.base_url("erp")
        ),
    );
    hub
}

#[test]
fn listings_are_one_json_document() {
    let hub = Hub::new();
    let connectors = hub.json(&["connectors", "--json"]);
    let ids: Vec<&str> = connectors.as_array().unwrap().iter().map(|connector| connector["id"].as_str().unwrap()).collect();
    let mut built_in: Vec<&str> = connectors::builtins().iter().map(|built| built.id).collect();
    built_in.sort_unstable();
    assert_eq!(ids, built_in);
    let tools = hub.json(&["tools", "--json"]);
    assert!(tools.as_array().unwrap().len() > 150);
    for tool in tools.as_array().unwrap() {
        for key in ["name", "connector", "effect", "approval", "summary", "input_schema", "output_schema", "scopes", "repeat", "limit_class"] {
            assert!(tool.get(key).is_some(), "{} has no `{key}`", tool["name"]);
        }
    }
}

#[test]
fn a_sheet_says_how_to_authenticate_and_what_there_is() {
    let sheet = stdout(&Hub::new().run(&["describe", "hubspot"]));
    for part in [
        "## Integration: connectors → HubSpot",
        "### Authentication",
        "`HUBSPOT_API_KEY`",
        "### Operations",
        "`hubspot_get_contact_by_email`",
        "### Webhook setup",
    ] {
        assert!(sheet.contains(part), "no {part}");
    }
}

#[test]
fn typos_find_their_word_and_cost_exit_code_2() {
    let hub = Hub::new();
    let unknown = hub.run(&["describe", "hubsopt"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("did you mean `hubspot`?"), "{}", stderr(&unknown));
    let unknown = hub.run(&["call", "hubspot_get_contcat"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("did you mean `hubspot_get_contact`?"), "{}", stderr(&unknown));
}

#[test]
fn a_tool_without_a_connection_says_what_is_missing() {
    let output = Hub::new().run(&["call", "hubspot_get_contact", "--arg", "id=512"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("HUBSPOT_API_KEY") || stderr(&output).contains("connection"), "{}", stderr(&output));
}

#[test]
fn a_dry_run_shows_the_exact_request_and_no_secret() {
    let hub = Hub::new();
    let output = hub
        .command(&["call", "hubspot_get_contact_by_email", "--arg", "email=ada+x@example.com", "--arg", "properties=email,tier", "--dry-run"])
        .env("HUBSPOT_API_KEY", "pat-na1-canary")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let request: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(request["method"], "GET");
    assert_eq!(request["url"], "https://api.hubapi.com/crm/v3/objects/contacts/ada%2Bx%40example.com?idProperty=email&properties=email,tier");
    assert_eq!(request["headers"]["authorization"], "REDACTED");
    assert!(!stdout(&output).contains("canary") && !stderr(&output).contains("canary"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_seeds_erp_manifest_works_as_it_stands() {
    let sandbox = Sandbox::builder().vendor("erp").start("127.0.0.1:0").await.unwrap();
    let token = sandbox.credentials().iter().find(|credential| credential.vendor == "erp").unwrap().value;
    let sku = "WIDGET-1";
    let (found, dry, pending) = tokio::task::spawn_blocking({
        let hub = erp_hub(&sandbox);
        move || {
            let call = |args: &[&str]| hub.command(args).env("ERP_API_TOKEN", token).output().unwrap();
            let found = call(&["call", "erp_get_inventory", "--arg", &format!("sku={sku}")]);
            let order = r#"{"vendor_id":"V-1","items":[{"sku":"WIDGET-1","quantity":2}],"total":19.9}"#;
            let dry = call(&["call", "erp_create_po", "--params", order, "--dry-run"]);
            let pending = call(&["call", "erp_create_po", "--params", order]);
            (found, dry, pending)
        }
    })
    .await
    .unwrap();
    assert!(found.status.success(), "{}", stderr(&found));
    let found: Value = serde_json::from_slice(&found.stdout).unwrap();
    assert!(found["quantity"].is_number() && found["location"].is_string(), "{found}");
    let order: Value = serde_json::from_slice(&dry.stdout).unwrap_or_else(|_| panic!("{}", stderr(&dry)));
    assert_eq!(order["body"]["items"][0]["quantity"], 2, "a list stays a list: {order}");
    assert_eq!(pending.status.code(), Some(3), "a write that requires an approval waits for one: {}", stderr(&pending));
}

#[test]
fn manifest_mistakes_are_told_at_their_place() {
    let hub = Hub::new();
    hub.write("bad.yaml", "connector: webhook\nname: Bad\nbase_url: https://x.example\ntols: []\n");
    let output = hub.run(&["manifest", "check", "bad.yaml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stdout(&output).contains("bad.yaml:4:1:") && stdout(&output).contains("`tools`"), "{}", stdout(&output));
    let good = hub.write("erp-system.yaml", &erp_manifest());
    assert!(hub.run(&["manifest", "check", good.to_str().unwrap()]).status.success());
}

#[test]
fn a_new_manifest_passes_its_own_check_and_renders() {
    let hub = Hub::new();
    let text = stdout(&hub.run(&["manifest", "new", "--id", "crm", "--name", "Our CRM", "--base-url", "https://crm.example.com"]));
    hub.write("crm.yaml", &text);
    let checked = hub.run(&["manifest", "check", "crm.yaml"]);
    assert!(checked.status.success(), "{}", stdout(&checked));
    let rendered = hub.json(&["manifest", "render", "crm.yaml"]);
    assert!(!rendered.as_array().unwrap().is_empty());
}

#[test]
fn a_literal_secret_in_the_configuration_is_refused() {
    let hub = Hub::new();
    hub.write("hub.yaml", "connections:\n  crm:\n    connector: hubspot\n    credential: { token: pat-na1-canary }\n");
    let output = hub.run(&["health"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("${"), "it names the safer way: {}", stderr(&output));
    assert!(!stderr(&output).contains("canary"));
}

#[test]
fn a_setting_tells_where_it_comes_from() {
    let hub = Hub::new();
    let output = hub.command(&["config", "explain", "retry.max_attempts", "--json"]).env("CONNECTOR_RETRY_MAX_ATTEMPTS", "4").output().unwrap();
    let explained: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", stderr(&output)));
    assert_eq!(explained[0]["value"], 4);
    assert!(explained[0]["origin"].as_str().unwrap().contains("CONNECTOR_RETRY_MAX_ATTEMPTS"), "{explained}");
}

#[test]
fn empty_queues_are_said_to_be_empty() {
    let hub = Hub::new();
    assert_eq!(hub.json(&["dlq", "list", "--json"]), Value::Array(Vec::new()));
    assert_eq!(hub.json(&["events", "list", "--json"]), Value::Array(Vec::new()));
    let missing = hub.run(&["dlq", "show", "7"]);
    assert_eq!(missing.status.code(), Some(4), "{}", stderr(&missing));
}

#[test]
fn completions_are_made_for_a_shell() {
    assert!(stdout(&Hub::new().run(&["completions", "bash"])).contains("connector-hub"));
}
