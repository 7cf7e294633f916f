//! The manifest holds what it promises: to the house's rules, to its own files, and to Microsoft's published description of Graph.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "in tests a panic is the failure")]

mod openapi;
mod waivers;

use std::{path::PathBuf, sync::Arc};

use connector_core::{CallCx, Connector as _, OpCall, spec::OpSpec};
use connector_manifest::{ConnectionOptions, Engine, Strictness, connection, load};
use connector_msgraph::{ID, hooks, manifest};
use openapi::OpenApi;
use serde_json::Value;
use waivers::{NOT_DESCRIBED, excused};

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
    assert!(spec().operations().len() >= 200);
}

fn spec() -> Arc<connector_core::spec::ConnectorSpec> {
    engine().spec().clone()
}

fn engine() -> Engine {
    Engine::builder(manifest()).hooks(hooks()).build().unwrap()
}

/// Microsoft's descriptions, the larger one last: it has what the others were cut out of.
const DESCRIPTIONS: [&str; 5] = ["msgraph_mail.json", "msgraph_calendar.json", "msgraph_teams.json", "msgraph_sites.json", "msgraph.json"];

#[test]
fn examples_match_microsofts_published_description() {
    let Some(descriptions) = DESCRIPTIONS.iter().map(|name| OpenApi::read(name)).collect::<Option<Vec<_>>>() else { return };
    let engine = engine();
    let cx = CallCx::new(Arc::new(connection(&manifest(), ID, ConnectionOptions::default(), &|_| None).unwrap()));
    let (mut found, mut used) = (Vec::new(), Vec::new());
    let mut checked = 0;
    for op in engine.spec().operations().iter().filter(|op| op.endpoint != "native") {
        let outcomes: Vec<_> = descriptions.iter().map(|api| check(api, &engine, &cx, op)).collect();
        let mut missing = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
        if outcomes.iter().all(Result::is_err) {
            let path = op.endpoint.split_once(' ').map_or("", |(_, path)| path);
            match NOT_DESCRIBED.iter().find(|(what, _)| *what == path) {
                Some((what, _)) => used.push(*what),
                None => found.extend(missing.next_back().cloned()),
            }
        }
        for problem in outcomes.into_iter().filter_map(Result::ok).inspect(|_| checked += 1).flatten() {
            match excused(&op.name, &problem) {
                Some(what) => used.push(what),
                None => found.push(format!("{}: {problem}", op.name)),
            }
        }
    }
    assert!(found.is_empty(), "{} problem(s):\n{}", found.len(), found.join("\n"));
    assert!(checked > 150, "only {checked} examples were checked");
    for (what, why) in NOT_DESCRIBED {
        assert!(used.contains(&what), "the waiver for `{what}` ({why}) is not needed any more");
    }
}

/// Our models and the entities they are, as Microsoft's metadata has them.
const ENTITIES: [(&str, &str); 19] = [
    ("Message", "message"),
    ("MailFolder", "mailFolder"),
    ("Subscription", "subscription"),
    ("EmailAddress", "emailAddress"),
    ("ItemBody", "itemBody"),
    ("Recipient", "recipient"),
    ("DateTimeTimeZone", "dateTimeTimeZone"),
    ("Calendar", "calendar"),
    ("Event", "event"),
    ("Attendee", "attendee"),
    ("ScheduleInformation", "scheduleInformation"),
    ("Team", "team"),
    ("Channel", "channel"),
    ("Chat", "chat"),
    ("ChatMessage", "chatMessage"),
    ("ChatAttachment", "chatMessageAttachment"),
    ("Site", "site"),
    ("ListItem", "listItem"),
    ("DriveItem", "driveItem"),
];

#[test]
fn models_have_only_properties_that_microsofts_metadata_has() {
    let Some(shared) = openapi::shared() else { return };
    let text = std::fs::read_to_string(shared.join("specs/msgraph_entities.json")).unwrap();
    let entities: Value = serde_json::from_str(&text).unwrap();
    let models = &manifest().models;
    let mut found = Vec::new();
    for (model, entity) in ENTITIES {
        let known = entities[entity].as_object().unwrap_or_else(|| panic!("the metadata has no {entity}"));
        let fields = models[model].fields.0.iter().map(|(name, _)| name.as_str());
        found.extend(fields.filter(|name| !name.starts_with('@') && !known.contains_key(*name)).map(|name| format!("{model}.{name}")));
    }
    assert!(found.is_empty(), "{found:?}");
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
