//! The manifest as a whole: it parses as a built-in connector, and every example's arguments and output have the shapes it promises.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{collections::BTreeSet, fs, path::Path};

use connector_cmdb::{hooks, manifest};
use connector_core::{Connector as _, spec::Effect};
use connector_manifest::{Engine, Manifest, Severity, Strictness, load};
use serde_json::Value;

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
    assert!(parsed.warnings.0.iter().all(|found| found.severity == Severity::Hint), "{}", parsed.warnings);
    let names = |manifest: &Manifest| -> BTreeSet<String> { manifest.tools.iter().map(|tool| tool.name.clone()).collect() };
    let on_disk = names(&parsed.manifest);
    assert_eq!(names(&manifest()), on_disk, "generated/spec.json is up to date");
    assert!(on_disk.len() >= 42);
    assert!(on_disk.iter().all(|name| name.starts_with("cmdb_")));
}

#[test]
fn every_example_has_the_shapes_it_promises() {
    let engine = Engine::builder(manifest()).hooks(hooks()).build().unwrap();
    for tool in &manifest().tools {
        let example = tool.example.as_ref().unwrap();
        let op = engine.spec().operation(&tool.name).unwrap();
        jsonschema::validate(&op.input_schema, &Value::Object(example.args.clone())).unwrap_or_else(|error| panic!("{}: {error}", tool.name));
        jsonschema::validate(&op.output_schema, &example.reply).unwrap_or_else(|error| panic!("{}: {error}", tool.name));
    }
}

#[test]
fn every_write_says_how_it_may_be_repeated_and_none_deletes_an_item() {
    for tool in &manifest().tools {
        assert!(tool.effect() == Effect::Read || tool.repeat.is_some(), "{}", tool.name);
        assert!(
            tool.effect() != Effect::Destructive || ["cmdb_unlink_ticket", "cmdb_set_linked_cis", "cmdb_remove_relation"].contains(&&*tool.name),
            "{}",
            tool.name
        );
    }
}
