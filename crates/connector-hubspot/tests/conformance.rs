//! The manifest as a whole: it parses as a built-in connector, every example renders to the request it shows, and every recorded answer reads
//! as the output it promises.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use connector_core::{CallCx, Connection, Connector as _, OpCall, auth::NoAuth, spec::Effect};
use connector_hubspot::{engine, hooks, manifest};
use connector_manifest::{Engine, Manifest, RawReply, Strictness, load};
use http::HeaderMap;
use serde_json::Value;

use support::{Answer, Fake, contains, query};

fn described() -> Engine {
    Engine::builder(manifest()).hooks(hooks()).build().unwrap()
}

fn cx() -> CallCx {
    CallCx::new(Arc::new(Connection::new("hubspot", "https://api.hubapi.com").unwrap()))
}

fn files() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifest");
    let mut files: Vec<(String, String)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn the_manifest_is_one_of_a_built_in_connector() {
    let files = files();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let parsed = load(&files, Strictness::BuiltIn).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(parsed.warnings.0.is_empty(), "{}", parsed.warnings);
    let names = |manifest: &Manifest| -> BTreeSet<String> { manifest.tools.iter().map(|tool| tool.name.clone()).collect() };
    let on_disk = names(&parsed.manifest);
    assert_eq!(names(&manifest()), on_disk, "generated/spec.json is up to date");
    assert!(on_disk.len() >= 50);
    assert!(on_disk.iter().all(|name| name.starts_with("hubspot_")));
}

#[test]
fn every_example_renders_to_the_request_it_shows() {
    let engine = described();
    for tool in manifest().tools.iter().filter(|tool| tool.native.is_none()) {
        let example = tool.example.as_ref().unwrap();
        let wanted = example.request.as_ref().unwrap_or_else(|| panic!("{}: the example shows no request", tool.name));
        let call = OpCall::new(tool.name.as_str(), example.args.clone());
        let rendered = engine.render(&cx(), &call).unwrap_or_else(|error| panic!("{}: {error}", tool.name));
        let target = rendered.url.strip_prefix("https://api.hubapi.com").unwrap();
        assert_eq!(rendered.method, wanted["method"], "{}", tool.name);
        assert_eq!(target.split('?').next().unwrap(), wanted["path"], "{}", tool.name);
        let sent = Value::Object(query(target));
        assert!(contains(&sent, wanted.get("query").unwrap_or(&Value::Object(Default::default()))), "{}: {sent}", tool.name);
        match wanted.get("body") {
            Some(body) => assert!(contains(&rendered.body, body), "{}: {}", tool.name, rendered.body),
            None => assert_eq!(rendered.body, Value::Null, "{}", tool.name),
        }
    }
}

#[test]
fn every_recorded_answer_reads_as_the_output_it_promises() {
    let engine = described();
    for tool in &manifest().tools {
        let example = tool.example.as_ref().unwrap();
        let op = engine.spec().operation(&tool.name).unwrap();
        let args = Value::Object(example.args.clone());
        jsonschema::validate(&op.input_schema, &args).unwrap_or_else(|error| panic!("{}: {error}", tool.name));
        let output = if tool.native.is_some() {
            example.reply.clone()
        } else {
            let bytes = if example.reply.is_null() { Default::default() } else { example.reply.to_string().into() };
            let reply = RawReply { status: example.status.unwrap_or(200), headers: HeaderMap::new(), body: bytes };
            let call = OpCall::new(tool.name.as_str(), example.args.clone());
            let reply = engine.understand_recorded(&cx(), &call, reply).unwrap_or_else(|error| panic!("{}: {error}", tool.name));
            reply.body.to_value().unwrap()
        };
        jsonschema::validate(&op.output_schema, &output).unwrap_or_else(|error| panic!("{}: {error}\n{output}", tool.name));
        if let Some(expect) = &example.expect {
            assert!(contains(&output, expect), "{}: {output}", tool.name);
        }
    }
}

#[test]
fn every_write_says_how_it_may_be_repeated_and_what_is_final_needs_an_approval() {
    for tool in &manifest().tools {
        if tool.effect() != Effect::Read {
            assert!(tool.repeat.is_some() || tool.method.is_some_and(|method| format!("{method:?}").contains(['u', 'e'])), "{}", tool.name);
        }
    }
    for name in ["hubspot_gdpr_delete_contact", "hubspot_merge_contacts", "hubspot_merge_deals"] {
        let tool = manifest().tool(name).cloned().unwrap();
        assert_eq!((tool.effect(), tool.approval_required), (Effect::Destructive, true), "{name}");
    }
}

#[tokio::test]
async fn the_probe_is_one_cheap_read() {
    let fake = Fake::new(|_| Answer::Json(200, serde_json::json!({ "portalId": 424242 })));
    let engine = engine(fake.clone(), Arc::new(NoAuth)).unwrap();
    engine.lifecycle(&cx(), connector_core::connector::Lifecycle::Check).await.unwrap();
    assert_eq!(fake.calls(), ["GET /account-info/v3/details"]);
}
