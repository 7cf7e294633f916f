//! The published JSON Schema of profiles is the one the code has, and every profile of this crate fits it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{fs, path::Path};

use serde_json::Value;

#[test]
fn the_published_schema_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/profile.schema.json");
    let ours = format!("{}\n", serde_json::to_string_pretty(&connector_cmdb::profile_schema()).unwrap());
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        fs::write(&path, &ours).unwrap();
    }
    assert!(fs::read_to_string(&path).unwrap_or_default() == ours, "run this test with UPDATE_SCHEMA=1 and look at the difference");
}

#[test]
fn every_profile_fits_the_schema_and_a_typing_error_does_not() {
    let validator = jsonschema::validator_for(&connector_cmdb::profile_schema()).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles");
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let profile: Value = serde_saphyr::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let problems: Vec<String> = validator.iter_errors(&profile).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(problems.is_empty(), "{}: {problems:#?}", path.display());
        let mut wrong = profile.clone();
        wrong["serach"] = wrong["search"].clone();
        assert!(!validator.is_valid(&wrong));
        seen += 1;
    }
    assert_eq!(seen, 5);
}
