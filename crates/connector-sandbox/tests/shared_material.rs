//! The fake Graph against material nobody here wrote: real mail, and the shapes Microsoft publishes. Skipped where it is absent.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "an unwrap that fails is a failed test; a skipped test says so")]
mod support;

use connector_sandbox::{EffectKind, Sandbox, known};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;
use support::{Caller, Receiver, graph, mail, subscription};

const BOX: &str = "/users/support@contoso.example";

/// A folder of the shared reference material, or `None` (which only a developer's machine may be).
fn shared(below: &str) -> Option<PathBuf> {
    let root = std::env::var_os("CONNECTORS_SHARED").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let path = root.join(below);
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "shared/{below} is missing; set CONNECTORS_SHARED");
    eprintln!("skipped: shared/{below} is absent");
    None
}

#[tokio::test]
async fn every_real_message_is_kept_and_readable() {
    let Some(folder) = shared("mail") else { return };
    let sandbox = Sandbox::builder().start("127.0.0.1:0").await.unwrap();
    let graph = graph(&sandbox).await;
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "eml")).collect();
    files.sort();
    assert!(files.len() > 50);
    let mut seen = BTreeSet::new();
    for file in &files {
        let bytes = std::fs::read(file).unwrap();
        let id = sandbox.msgraph().inject_mime(known::GRAPH_MAILBOX, "inbox", &bytes).unwrap();
        let message = graph.get(&format!("{BOX}/messages/{id}?$expand=attachments")).await.expect(200);
        assert!(message["bodyPreview"].as_str().unwrap().chars().count() <= 255);
        let raw = graph.get(&format!("{BOX}/messages/{id}/$value")).await;
        assert_eq!(raw.bytes, bytes, "{}", file.display());
        let draft = graph.post(&format!("{BOX}/messages/{id}/createReply"), Value::Null).await.expect(201);
        assert_eq!(draft["conversationId"], message["conversationId"]);
        seen.insert(id);
    }
    assert_eq!(seen.len(), files.len());
    assert_eq!(sandbox.ledger().count(EffectKind::MailReceived), files.len());
}

/// The published schema of one type, with OpenAPI's `nullable` and discriminators turned into plain JSON Schema.
fn schema(spec: &Value, name: &str) -> Value {
    let mut document = json!({"$ref": format!("#/components/schemas/{name}"), "components": spec["components"]});
    plain(&mut document);
    document
}

fn plain(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.remove("discriminator");
            // Patterns there describe OData literals; `format: binary` and friends are no JSON Schema formats.
            map.remove("pattern");
            // `@odata.type` is required by the description, but the service leaves it out of ordinary replies.
            if let Some(Value::Array(required)) = map.get_mut("required") {
                required.retain(|r| r != "@odata.type");
                if required.is_empty() {
                    map.remove("required");
                }
            }
            let nullable = map.remove("nullable") == Some(Value::Bool(true));
            for child in map.values_mut() {
                plain(child);
            }
            if nullable {
                let inner = Value::Object(std::mem::take(map));
                map.insert("anyOf".into(), json!([inner, {"type": "null"}]));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(plain),
        _ => {}
    }
}

fn check(spec: &Value, name: &str, reply: &Value) {
    let validator = jsonschema::options().build(&schema(spec, name)).unwrap();
    let problems: Vec<String> = validator.iter_errors(reply).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(problems.is_empty(), "{name}: {problems:#?}");
    // A misspelt property would pass any schema that allows more; so each one must be known.
    let known = properties(spec, name);
    for key in reply.as_object().unwrap().keys().filter(|k| !k.contains("@odata")) {
        assert!(known.contains(key), "{name} has no property `{key}`");
    }
}

/// Property names of a type and of those it is made of.
fn properties(spec: &Value, name: &str) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    let mut todo = vec![spec["components"]["schemas"][name].clone()];
    while let Some(part) = todo.pop() {
        out.extend(part["properties"].as_object().into_iter().flatten().map(|(k, _)| k.clone()));
        todo.extend(part["allOf"].as_array().into_iter().flatten().cloned());
        if let Some(target) = part["$ref"].as_str().and_then(|r| r.strip_prefix("#/components/schemas/")) {
            todo.push(spec["components"]["schemas"][target].clone());
        }
    }
    out
}

#[tokio::test]
async fn replies_have_the_published_shapes() {
    let Some(path) = shared("specs/msgraph_mail.json") else { return };
    let spec: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let sandbox = Sandbox::builder().start("127.0.0.1:0").await.unwrap();
    let graph: Caller = graph(&sandbox).await;
    let receiver = Receiver::start().await;
    let id = sandbox.msgraph().inject_mime(known::GRAPH_MAILBOX, "inbox", &mail("a@x", "one", "")).unwrap();
    check(&spec, "microsoft.graph.message", &graph.get(&format!("{BOX}/messages/{id}")).await.expect(200));
    let draft = graph.post(&format!("{BOX}/messages/{id}/createReply"), Value::Null).await.expect(201);
    check(&spec, "microsoft.graph.message", &draft);
    check(&spec, "microsoft.graph.messageCollectionResponse", &graph.get(&format!("{BOX}/messages?$top=1")).await.expect(200));
    check(&spec, "microsoft.graph.mailFolder", &graph.get(&format!("{BOX}/mailFolders/inbox")).await.expect(200));
    check(&spec, "microsoft.graph.mailFolderCollectionResponse", &graph.get(&format!("{BOX}/mailFolders")).await.expect(200));
    let file = json!({"@odata.type": "#microsoft.graph.fileAttachment", "name": "n.txt", "contentType": "text/plain", "contentBytes": "SGk="});
    let url = format!("{BOX}/messages/{}/attachments", draft["id"].as_str().unwrap());
    graph.post(&url, file).await.expect(201);
    check(
        &spec,
        "microsoft.graph.attachmentCollectionResponse",
        &graph.get(&format!("{url}?$select=name,size,contentType,isInline")).await.expect(200),
    );
    let made = graph.post("/subscriptions", subscription(&receiver)).await.expect(201);
    check(&spec, "microsoft.graph.subscription", &made);
    check(&spec, "microsoft.graph.subscriptionCollectionResponse", &graph.get("/subscriptions").await.expect(200));
    check(&spec, "microsoft.graph.ODataErrors.ODataError", &graph.get(&format!("{BOX}/messages/none")).await.expect(404));
    check(&spec, "microsoft.graph.user", &graph.get(BOX).await.expect(200));
}
