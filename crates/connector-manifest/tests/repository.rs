//! Every manifest of this repository reads, passes the cross-checks of built-in connectors, fits the published schema and survives JSON.
#![allow(clippy::unwrap_used, reason = "a helper of tests: what cannot be read fails the test")]

use std::{fs, path::PathBuf};

use connector_manifest::{Manifest, Strictness, build_spec, load, schema::manifest_schema};
use serde_json::Value;

/// The files of each vendor folder, by connector crate.
fn folders() -> Vec<(String, Vec<(String, String)>)> {
    let crates = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found: Vec<_> = fs::read_dir(crates)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("manifest/connector.yaml").is_file())
        .map(|path| {
            let mut files: Vec<_> = fs::read_dir(path.join("manifest"))
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
                .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read_to_string(&path).unwrap()))
                .collect();
            files.sort();
            (path.file_name().unwrap().to_string_lossy().into_owned(), files)
        })
        .collect();
    found.sort();
    found
}

#[test]
fn every_manifest_of_the_repository_is_good() {
    let schema = manifest_schema();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    for (name, files) in folders() {
        let files: Vec<(&str, &str)> = files.iter().map(|(file, text)| (file.as_str(), text.as_str())).collect();
        let parsed = load(&files, Strictness::BuiltIn).unwrap_or_else(|found| panic!("{name}:\n{found}"));
        let json: Value = serde_json::from_str(&parsed.manifest.to_json_pretty()).unwrap();
        let errors: Vec<String> = validator.iter_errors(&json).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(errors.is_empty(), "{name}: {errors:#?}");
        assert_eq!(Manifest::from_json(&parsed.manifest.to_json_pretty()).unwrap(), parsed.manifest, "{name}");

        for op in build_spec(&std::sync::Arc::new(parsed.manifest.clone()), &parsed.manifest.connector).operations() {
            for schema in [&op.input_schema, &op.output_schema] {
                jsonschema::draft202012::new(schema).unwrap_or_else(|error| panic!("{}: {error}", op.name));
            }
        }
    }
}

#[test]
fn the_published_schema_is_a_schema_and_refuses_what_the_parser_refuses() {
    let schema = manifest_schema();
    assert!(jsonschema::meta::is_valid(&schema));
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let good = serde_json::json!({ "connector": "webhook", "name": "ERP", "auth": { "type": "bearer", "token_env": "T" }, "tools": [{ "name": "erp_a", "method": "GET", "path": "/a" }] });
    assert!(validator.is_valid(&good));
    for (pointer, value) in [
        ("/auth", serde_json::json!({ "type": "bearer", "tokn_env": "T" })),
        ("/auth", serde_json::json!({ "type": "saml" })),
        ("/tools/0/method", "GTE".into()),
        ("/name", Value::Null),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        assert!(!validator.is_valid(&bad), "{pointer}");
    }
}
