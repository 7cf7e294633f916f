//! The manifest holds what it promises: to the house's rules and to its own files.
#![allow(clippy::unwrap_used, reason = "in tests a panic is the failure")]

use std::path::PathBuf;

use connector_core::{Connector as _, spec::Effect};
use connector_email::{hooks, manifest};
use connector_manifest::{Engine, Strictness, load};

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
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<(String, String)> =
        paths.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(&path).unwrap())).collect();
    files.sort();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let parsed = load(&files, Strictness::BuiltIn).unwrap_or_else(|found| panic!("{found}"));
    assert_eq!(parsed.warnings.to_string(), "");
    assert!(parsed.manifest == *manifest(), "generated/spec.json is not up to date; run `cargo xtask codegen`");
}

#[test]
fn the_operations_that_were_asked_for_are_there_under_their_names() {
    let engine = engine();
    for name in ["email_read_inbox", "email_search", "email_send", "email_reply", "email_draft", "email_label"] {
        assert!(engine.spec().operation(name).is_some(), "{name}");
    }
    assert_eq!(engine.spec().operations().len(), 42);
    assert!(engine.spec().operations().iter().all(|op| op.is_native() && op.docs.is_some()));
    // Whatever could go out twice is looked for first, and whatever removes for good says so.
    for name in ["email_send", "email_reply", "email_reply_all", "email_forward", "email_send_draft"] {
        let op = engine.spec().operation(name).unwrap();
        assert_eq!((op.repeat.as_str(), op.approval == connector_core::spec::Approval::Required), ("lookup_first", true), "{name}");
    }
    let removing: Vec<&str> = engine.spec().operations().iter().filter(|op| op.effect == Effect::Destructive).map(|op| &*op.name).collect();
    assert_eq!(removing, ["email_delete_draft", "email_delete_folder", "email_delete"]);
}

#[test]
fn the_stream_is_followed_and_the_event_described() {
    let engine = engine();
    assert!(engine.delta().is_some());
    assert_eq!(engine.spec().events.iter().map(|event| &*event.name).collect::<Vec<_>>(), ["message_received"]);
}
