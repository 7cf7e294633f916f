//! iTop's fake: one address, codes inside a 200, keys of three kinds, and impacts.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use connector_sandbox::{Sandbox, known};
use serde_json::{Value, json};
use support::Caller;

async fn ask(caller: &Caller, version: &str, user: &str, ask: Value) -> Value {
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("auth_user", user)
        .append_pair("auth_pwd", known::ITOP_PASSWORD)
        .append_pair("json_data", &ask.to_string())
        .finish();
    caller.raw("POST", &format!("/webservices/rest.php?version={version}"), form).await.unwrap().expect(200)
}

async fn itop() -> (Sandbox, Caller) {
    let sandbox = Sandbox::builder().vendor("itop").start("127.0.0.1:0").await.unwrap();
    let caller = Caller::new(sandbox.base_url("itop"), &[("content-type", "application/x-www-form-urlencoded")]);
    (sandbox, caller)
}

#[tokio::test]
async fn failures_are_codes_inside_a_200() {
    let (_sandbox, caller) = itop().await;
    let list = json!({"operation": "list_operations"});
    assert_eq!(ask(&caller, "1.3", known::ITOP_USER, list.clone()).await["code"], 0);
    assert_eq!(ask(&caller, "9.9", known::ITOP_USER, list.clone()).await["code"], 10);
    assert_eq!(ask(&caller, "1.3", "nobody", list).await["code"], 1);
    for (request, code) in [
        (json!({"operation": "core/dance"}), 11),
        (json!({"operation": "core/get", "class": "Spaceship", "key": "1"}), 100),
        (json!({"operation": "core/get", "class": "Server", "key": "SELECT Server WHERE name = 'x"}), 100),
        (json!({"operation": "core/get", "class": "Server", "key": "SELECT Server", "limit": "5", "page": "0"}), 13),
    ] {
        assert_eq!(ask(&caller, "1.3", known::ITOP_USER, request.clone()).await["code"], code, "{request}");
    }
}

#[tokio::test]
async fn keys_are_ids_queries_or_values_and_lists_page() {
    let (_sandbox, caller) = itop().await;
    let get = |class: &str, key: Value, page: usize| json!({"operation": "core/get", "class": class, "key": key, "output_fields": "*+", "limit": "4", "page": page.to_string()});
    let by_name = ask(&caller, "1.3", known::ITOP_USER, get("Server", json!({"name": "web01"}), 1)).await;
    let (key, web) = by_name["objects"].as_object().unwrap().iter().next().unwrap();
    assert_eq!((key.starts_with("Server::"), &web["fields"]["organization_name"]), (true, &json!("Acme")));
    let by_id = ask(&caller, "1.3", known::ITOP_USER, get("FunctionalCI", web["key"].clone(), 1)).await;
    assert_eq!(by_id["objects"][key]["class"], "Server", "an abstract class finds what extends it");
    let second = ask(&caller, "1.3", known::ITOP_USER, get("Server", json!("SELECT Server"), 2)).await;
    assert_eq!((second["objects"].as_object().unwrap().len(), &second["message"]), (4, &json!("Found: 8")));
    assert_eq!(ask(&caller, "1.3", known::ITOP_USER, get("Server", json!("9999"), 1)).await["objects"], Value::Null);
}

#[tokio::test]
async fn impacts_lead_from_source_to_what_suffers() {
    let (_sandbox, caller) = itop().await;
    let related = |name: &str, direction: &str, depth: &str| json!({"operation": "core/get_related", "class": "FunctionalCI", "key": {"name": name}, "relation": "impacts", "direction": direction, "depth": depth});
    let near = ask(&caller, "1.3", known::ITOP_USER, related("db01", "down", "1")).await;
    let names = |answer: &Value| -> Vec<String> {
        answer["objects"].as_object().unwrap().values().map(|one| one["fields"]["friendlyname"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&near), ["app01", "db01", "postgres-orders"].map(str::to_owned));
    let far = names(&ask(&caller, "1.3", known::ITOP_USER, related("db01", "down", "20")).await);
    assert!(far.contains(&"storefront-cdn".to_owned()) && !far.contains(&"stor01".to_owned()), "{far:?}");
    let up = names(&ask(&caller, "1.3", known::ITOP_USER, related("db01", "up", "20")).await);
    assert_eq!(up, ["db01", "stor01"].map(str::to_owned));
}
