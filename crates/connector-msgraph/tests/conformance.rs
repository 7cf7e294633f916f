//! The manifest holds what it promises: to the house's rules, to its own files, and to Microsoft's published description of Graph.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "in tests a panic is the failure")]

mod openapi;

use std::{path::PathBuf, sync::Arc};

use connector_core::{CallCx, Connector as _, OpCall, spec::OpSpec};
use connector_manifest::{ConnectionOptions, Engine, Strictness, connection, load};
use connector_msgraph::{ID, hooks, manifest};
use openapi::OpenApi;
use serde_json::Value;

/// What the published description, trimmed as it is, does not have, and where the facts come from instead.
const NOT_DESCRIBED: [(&str, &str); 11] = [
    ("/users/{user}/mailFolders/{folder}/childFolders", "https://learn.microsoft.com/graph/api/mailfolder-list-childfolders"),
    ("/users/{user}/mailFolders/delta", "https://learn.microsoft.com/graph/api/mailfolder-delta"),
    ("/users/{user}/outlook/masterCategories", "https://learn.microsoft.com/graph/api/outlookuser-list-mastercategories"),
    ("/users/{user}/translateExchangeIds", "https://learn.microsoft.com/graph/api/user-translateexchangeids"),
    ("/users/{user}/messages/{message_id}/createForward", "https://learn.microsoft.com/graph/api/message-createforward"),
    ("/users/{user}/messages/{message_id}/attachments/createUploadSession", "https://learn.microsoft.com/graph/outlook-large-attachments"),
    ("/users/{user}/messages/{message_id}/attachments/{attachment_id}/$value", "https://learn.microsoft.com/graph/api/attachment-get"),
    // Properties of derived types that the description's trimmed discriminators would lead to.
    ("msgraph_add_attachment /contentBytes", "https://learn.microsoft.com/graph/api/resources/fileattachment"),
    ("msgraph_get_attachment /contentBytes", "https://learn.microsoft.com/graph/api/resources/fileattachment"),
    ("msgraph_get_attached_item /item", "https://learn.microsoft.com/graph/api/resources/itemattachment"),
    ("msgraph_send_mime", "https://learn.microsoft.com/graph/outlook-send-mime-message: the body is text/plain there"),
];

fn files() -> Vec<(String, String)> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("manifest");
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| (file.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(file).unwrap())).collect()
}

#[test]
fn conforms() {
    connector_testkit::conformance::check(manifest(), hooks());
}

#[test]
fn the_built_in_manifest_is_what_the_files_say() {
    let files = files();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let parsed = load(&files, Strictness::BuiltIn).unwrap_or_else(|found| panic!("{found}"));
    assert_eq!(parsed.warnings.to_string(), "");
    assert!(parsed.manifest == *manifest(), "generated/spec.json is not up to date; run `cargo xtask codegen`");
}

#[test]
fn every_operation_says_which_scopes_it_needs_and_where_it_is_documented() {
    for op in spec().operations() {
        assert!(!op.scopes.is_empty() && op.docs.is_some(), "{}", op.name);
    }
    assert!(spec().operations().len() >= 45);
}

fn spec() -> Arc<connector_core::spec::ConnectorSpec> {
    engine().spec().clone()
}

fn engine() -> Engine {
    Engine::builder(manifest()).hooks(hooks()).build().unwrap()
}

#[test]
fn examples_match_microsofts_published_description() {
    // Read one after the other: the larger description has operations the other lacks.
    let (Some(mail), Some(all)) = (OpenApi::read("msgraph_mail.json"), OpenApi::read("msgraph.json")) else { return };
    let engine = engine();
    let cx = CallCx::new(Arc::new(connection(&manifest(), ID, ConnectionOptions::default(), &|_| None).unwrap()));
    let (mut found, mut used) = (Vec::new(), Vec::new());
    let mut checked = 0;
    for op in engine.spec().operations().iter().filter(|op| op.endpoint != "native") {
        for api in [&mail, &all] {
            match check(api, &engine, &cx, op) {
                Ok(problems) => {
                    checked += 1;
                    for problem in problems {
                        let waiver = NOT_DESCRIBED.iter().find(|(what, _)| {
                            *what == &*op.name || what.split_once(' ').is_some_and(|(name, part)| name == &*op.name && problem.contains(part))
                        });
                        match waiver {
                            Some(waiver) => used.push(waiver.0),
                            None => found.push(format!("{}: {problem}", op.name)),
                        }
                    }
                }
                Err(missing) => {
                    let path = op.endpoint.split_once(' ').map_or("", |(_, path)| path);
                    match NOT_DESCRIBED.iter().find(|(what, _)| *what == path) {
                        Some(waiver) => used.push(waiver.0),
                        None if std::ptr::eq(api, &raw const all) => found.push(missing),
                        // The mail description is the smaller one; the other must have it.
                        None => {}
                    }
                }
            }
        }
    }
    assert!(found.is_empty(), "{} problem(s):\n{}", found.len(), found.join("\n"));
    assert!(checked > 60, "only {checked} examples were checked");
    for (what, why) in NOT_DESCRIBED {
        assert!(used.contains(&what), "the waiver for `{what}` ({why}) is not needed any more");
    }
}

/// What is wrong with an operation's example; an error if the description does not have it.
fn check(api: &OpenApi, engine: &Engine, cx: &CallCx, op: &OpSpec) -> Result<Vec<String>, String> {
    let call = OpCall::new(op.name.clone(), op.example.args.clone());
    let request = engine.render(cx, &call).map_err(|error| format!("{}: {error}", op.name))?;
    let url = url::Url::parse(&request.url).unwrap();
    let path = url.path().strip_prefix("/v1.0").unwrap();
    let template = api.path(path).ok_or_else(|| format!("{}: the description has no path like {path}", op.name))?;
    // A placeholder must not stand for a fixed word (`messages/{id}` for `messages/delta`).
    let fixed = |path: &str| path.split('/').filter(|segment| !segment.starts_with('{')).map(str::to_owned).collect::<Vec<_>>();
    let own = op.endpoint.split_once(' ').map_or("", |(_, path)| path);
    if fixed(template) != fixed(own) {
        return Err(format!("{}: the description has no path like {own}", op.name));
    }
    let operation =
        api.operation(template, &request.method).ok_or_else(|| format!("{}: the description has no {} {template}", op.name, request.method))?;
    let mut found = Vec::new();
    let known = operation.query();
    for (name, _) in url.query_pairs() {
        if !known.contains(&&*name) {
            found.push(format!("query parameter `{name}` is not described"));
        }
    }
    found.extend(operation.request_problems(&request.body).into_iter().map(|problem| format!("request: {problem}")));
    let raw = op.output_schema.pointer("/properties/base64").is_some() || op.example.reply.is_string();
    if !raw {
        let status = op.example.status.unwrap_or(200);
        let reply = if op.example.reply.is_null() { Value::Null } else { op.example.reply.clone() };
        found.extend(operation.reply_problems(status, &reply).into_iter().map(|problem| format!("reply: {problem}")));
    }
    Ok(found)
}
