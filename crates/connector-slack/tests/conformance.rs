//! The manifest holds what it promises: to the house's rules, to its own files, and to Slack's published description of its Web API.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "in tests a panic is the failure, a skip is said")]

use std::{path::PathBuf, sync::Arc};

use connector_core::{CallCx, Connector as _, OpCall, spec::Effect};
use connector_manifest::{ConnectionOptions, Engine, Strictness, connection, load};
use connector_slack::{ID, hooks, manifest};
use serde_json::Value;
use url::Url;

/// What the published description (of 2021, trimmed) says otherwise or does not have, and where the facts come from instead.
const NOT_DESCRIBED: [(&str, &str); 7] = [
    ("/files.getUploadURLExternal", "https://docs.slack.dev/reference/methods/files.getUploadURLExternal"),
    ("/files.completeUploadExternal", "https://docs.slack.dev/reference/methods/files.completeUploadExternal"),
    ("/apps.connections.open", "https://docs.slack.dev/reference/methods/apps.connections.open"),
    // There the views are GET with JSON in the query; the reference shows POST with a JSON body.
    ("/views.open", "https://docs.slack.dev/reference/methods/views.open"),
    ("/views.update", "https://docs.slack.dev/reference/methods/views.update"),
    ("/views.push", "https://docs.slack.dev/reference/methods/views.push"),
    ("/views.publish", "https://docs.slack.dev/reference/methods/views.publish"),
];

/// Parameters that are newer than the description.
const NEWER: [(&str, &str); 7] = [
    ("/chat.postMessage", "metadata"),
    ("/conversations.history", "include_all_metadata"),
    ("/conversations.replies", "include_all_metadata"),
    ("/conversations.list", "team_id"),
    ("/search.messages", "cursor"),
    ("/reactions.list", "limit"),
    ("/users.list", "limit"),
];

fn engine() -> Engine {
    Engine::builder(manifest()).hooks(hooks()).build().unwrap()
}

#[test]
fn conforms() {
    connector_testkit::conformance::check(manifest(), hooks());
}

#[test]
fn the_built_in_manifest_is_what_the_files_say() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("manifest");
    let mut files: Vec<(String, String)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(&path).unwrap()))
        .collect();
    files.sort();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let parsed = load(&files, Strictness::BuiltIn).unwrap_or_else(|found| panic!("{found}"));
    assert_eq!(parsed.warnings.to_string(), "");
    assert!(parsed.manifest == *manifest(), "generated/spec.json is not up to date; run `cargo xtask codegen`");
}

#[test]
fn the_operations_that_were_asked_for_are_there_under_their_names() {
    let engine = engine();
    let names = ["slack_send_message", "slack_read_channel", "slack_search_messages", "slack_list_channels", "slack_set_topic", "slack_react"];
    assert!(names.iter().all(|name| engine.spec().operation(name).is_some()));
    assert!(engine.spec().operations().len() >= 45, "{}", engine.spec().operations().len());
    let events: Vec<&str> = engine.spec().events.iter().map(|event| &*event.name).collect();
    assert!(["message_received", "reaction_added", "slash_command"].iter().all(|name| events.contains(name)), "{events:?}");
    for op in engine.spec().operations().iter().filter(|op| op.effect != Effect::Read) {
        assert!(op.docs.is_some(), "{}", op.name);
    }
}

/// Slack's own description; `None`, said aloud, where it is not there (never in CI).
fn described() -> Option<Value> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let root = std::env::var_os("CONNECTORS_SHARED").map_or(beside, PathBuf::from);
    match std::fs::read_to_string(root.join("specs/slack.json")) {
        Ok(text) => Some(serde_json::from_str(&text).unwrap()),
        Err(_) if std::env::var_os("CI").is_some() => panic!("the published description of Slack is absent; set CONNECTORS_SHARED"),
        Err(_) => {
            eprintln!("skipped: the published description of Slack is not here");
            None
        }
    }
}

#[test]
fn examples_match_slacks_published_description() {
    let Some(api) = described() else { return };
    let engine = engine();
    let options = ConnectionOptions::default();
    let cx = CallCx::new(Arc::new(connection(&manifest(), ID, options, &|_| None).unwrap()));
    let (mut problems, mut checked, mut waived) = (Vec::new(), 0, Vec::new());
    for op in engine.spec().operations().iter().filter(|op| !op.is_native()) {
        let rendered = engine.render(&cx, &OpCall::new(op.name.clone(), op.example.args.clone())).unwrap();
        let url = Url::parse(&rendered.url).unwrap();
        let path = url.path().strip_prefix("/api").unwrap();
        if NOT_DESCRIBED.iter().any(|(waiver, _)| *waiver == path) {
            waived.push(path.to_owned());
            continue;
        }
        checked += 1;
        let Some(described) = api["paths"][path].as_object().and_then(|methods| methods.get(&rendered.method.to_ascii_lowercase())) else {
            problems.push(format!("{}: {} {path} is not described", op.name, rendered.method));
            continue;
        };
        let params = described["parameters"].as_array().unwrap();
        let known = |name: &str| params.iter().any(|param| param["name"] == name) || NEWER.contains(&(path, name));
        let mut sent: Vec<String> = url.query_pairs().map(|(name, _)| name.into_owned()).collect();
        if let Value::Object(body) = &rendered.body {
            sent.extend(body.keys().cloned());
            let takes_json = described["consumes"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "application/json"));
            if !takes_json {
                problems.push(format!("{}: a JSON body where only forms are described", op.name));
            }
        }
        problems.extend(sent.iter().filter(|name| !known(name)).map(|name| format!("{}: `{name}` is not described", op.name)));
        let required = params.iter().filter(|param| param["required"] == true && param["name"] != "token");
        for name in required.filter_map(|param| param["name"].as_str()).filter(|name| !sent.iter().any(|sent| sent == name)) {
            problems.push(format!("{}: the required `{name}` is missing", op.name));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(checked >= 45, "{checked}");
    for (waiver, source) in NOT_DESCRIBED {
        assert!(waived.iter().any(|path| path == waiver), "the waiver for {waiver} ({source}) is not needed any more");
    }
}
