//! The manifest holds what it promises: to the house's rules, to its own files, and to the names that were asked for.
#![allow(clippy::unwrap_used, reason = "in tests a panic is the failure")]

use std::path::PathBuf;

use connector_core::{Connector as _, spec::Effect};
use connector_manifest::{Engine, Strictness, load};
use connector_salesforce::{hooks, manifest};

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
fn the_operations_that_were_asked_for_are_there_under_their_names_and_parameters() {
    let engine = engine();
    let asked: [(&str, &[&str]); 6] = [
        ("sf_query", &["soql"]),
        ("sf_get_record", &["sobject", "id"]),
        ("sf_search", &["sosl"]),
        ("sf_create_record", &["sobject", "fields"]),
        ("sf_update_record", &["sobject", "id", "fields"]),
        ("sf_get_report", &["report_id"]),
    ];
    for (name, params) in asked {
        let op = engine.spec().require(name).unwrap();
        let required: Vec<&str> = op.params.iter().filter(|param| param.required).map(|param| &*param.name).collect();
        assert_eq!(required, params, "{name}");
    }
    assert!(engine.spec().operations().len() >= 45, "{}", engine.spec().operations().len());
    for op in engine.spec().operations().iter().filter(|op| op.effect != Effect::Read) {
        assert!(op.docs.is_some(), "{}", op.name);
    }
}

/// The sheet of facts has no machine-readable description, so the requests are written down here as its tables have them.
#[test]
fn requests_go_where_the_vendor_s_guides_say() {
    let engine = engine();
    let mut endpoints: Vec<String> =
        engine.spec().operations().iter().filter(|op| !op.is_native()).map(|op| format!("{} {}", op.endpoint, op.name)).collect();
    endpoints.sort();
    insta::assert_snapshot!(endpoints.join("\n"));
}
