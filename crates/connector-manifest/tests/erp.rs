//! The ERP manifest that the format grew from works as it stands.

use std::{env, fs, path::PathBuf};

use connector_core::spec::{Approval, Effect, Repeat};
use connector_manifest::{Severity, Strictness, build_spec, load, parse};
use serde_json::json;

const ERP: &str = include_str!("fixtures/erp-system.yaml");

#[test]
fn it_reads_without_errors_and_asks_to_declare_what_is_only_used() {
    let parsed = load(&[("erp-system.yaml", ERP)], Strictness::Custom).unwrap();
    assert!(parsed.warnings.0.iter().all(|found| found.severity == Severity::Hint), "{}", parsed.warnings);
    insta::assert_snapshot!(parsed.warnings.to_string());
}

#[test]
fn reading_stock_is_a_read_with_one_required_parameter() {
    let manifest = parse("erp-system.yaml", ERP).unwrap().manifest;
    assert_eq!(manifest.connector_id("erp-system"), "erp-system");
    let spec = build_spec(&std::sync::Arc::new(manifest.clone()), "erp-system");
    let op = spec.require("erp_get_inventory").unwrap();
    assert_eq!((op.effect, op.approval, op.repeat), (Effect::Read, Approval::Policy, Repeat::Natural));
    assert_eq!(op.endpoint, "GET /inventory");
    assert_eq!(
        op.input_schema,
        json!({ "type": "object", "properties": { "sku": { "type": "string" } }, "required": ["sku"], "additionalProperties": false })
    );
    assert_eq!(op.output_schema["required"], json!(["location", "quantity"]));
}

#[test]
fn an_order_takes_its_parameters_from_the_body_template_and_needs_approval() {
    let manifest = parse("erp-system.yaml", ERP).unwrap().manifest;
    let spec = build_spec(&std::sync::Arc::new(manifest.clone()), "erp-system");
    let op = spec.require("erp_create_po").unwrap();
    assert_eq!((op.effect, op.approval, op.repeat), (Effect::Write, Approval::Required, Repeat::Never));
    let params: Vec<_> = op.params.iter().map(|param| (&*param.name, &*param.type_name, param.required)).collect();
    assert_eq!(params, [("vendor_id", "any", true), ("items", "any", true), ("total", "any", true)]);
    assert_eq!(op.input_schema["required"], json!(["vendor_id", "items", "total"]));
}

#[test]
fn the_fixture_is_the_seed_byte_for_byte() {
    let shared = env::var_os("CONNECTORS_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from)
        .join("seeds");
    let Ok(seeds) = fs::read_dir(&shared) else {
        assert!(env::var_os("CI").is_none(), "the shared seeds are absent");
        eprintln!("skipped: the shared seeds are absent");
        return;
    };
    let seed = seeds.map(|entry| entry.unwrap().path()).find(|path| path.file_name().unwrap().to_string_lossy().starts_with("003")).unwrap();
    let text = fs::read_to_string(seed).unwrap();
    let (_, after) = text.split_once("# integrations/custom/erp-system.yaml\n").unwrap();
    let (block, _) = after.split_once("```").unwrap();
    assert_eq!(ERP, block);
}
