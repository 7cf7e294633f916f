//! The demo as a newcomer runs it: the built binary, its JSON, its exit code.

#![allow(clippy::unwrap_used, reason = "a failed helper fails its test")]

use std::{path::PathBuf, process::Command};

use serde_json::Value;

/// Runs `demo --once --json` with these options and gives the document it ends with.
fn demo(options: &[&str]) -> Value {
    let elsewhere = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_connector-hub"))
        .args(["demo", "--once", "--json"])
        .args(options)
        // No hub.yaml and no data folder of whoever runs the tests.
        .current_dir(elsewhere.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("stdout is not one JSON document: {error}\n{stderr}"));
    assert!(output.status.success(), "{}\n{stderr}", report["offenders"]);
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0, "the demo leaves nothing where it was started");
    report
}

fn number(report: &Value, field: &str) -> u64 {
    report[field].as_u64().unwrap_or_else(|| panic!("`{field}` is not a count: {}", report[field]))
}

#[test]
fn nothing_is_lost_or_doubled_on_an_ordinary_bad_day() {
    let report = demo(&["--messages", "40", "--seed", "7", "--faults", "light"]);
    assert_eq!((number(&report, "lost"), number(&report, "doubled"), number(&report, "misdirected")), (0, 0, 0));
    assert_eq!(number(&report, "messages_in"), 40);
    assert_eq!(number(&report, "handled_once") + number(&report, "dead_letters"), 40);
    // The contract of design/interfaces.md.
    for field in ["duplicates_dropped", "throttled_waits", "breaker_trips", "calls_made", "p50_ms", "p95_ms"] {
        number(&report, field);
    }
    assert!(report["retries"].as_object().is_some_and(|retries| retries.values().all(Value::is_u64)), "{}", report["retries"]);
    assert!(report["wall_s"].is_f64());
    assert!(report["calls_saved"]["cache"].as_u64().is_some_and(|saved| saved > 0), "{}", report["calls_saved"]);
    assert!(report["calls_saved"]["batching"].is_u64());
    assert!(number(&report, "tickets") > 0 && number(&report, "replies") > number(&report, "tickets") / 2);
}

// Few messages: Graph's fake asks for up to two seconds of quiet after each of many refusals, and the hub keeps quiet.
#[test]
fn nothing_is_lost_or_doubled_on_the_day_everything_breaks() {
    let report = demo(&["--messages", "8", "--seed", "23", "--faults", "heavy"]);
    assert_eq!((number(&report, "lost"), number(&report, "doubled"), number(&report, "misdirected")), (0, 0, 0));
    assert_eq!(number(&report, "handled_once") + number(&report, "dead_letters"), 8);
    assert!(report["retries"].as_object().is_some_and(|retries| !retries.is_empty()), "a heavy day without a retry was no heavy day");
    assert!(number(&report, "duplicates_dropped") > 0);
}

#[test]
fn mail_of_the_users_own_is_delivered_too() {
    let folder = tempfile::tempdir().unwrap();
    let letter = "Message-ID: <own-1@acme.example>\r\nFrom: Ada <ada.abel@acme.example>\r\nTo: support@contoso.example\r\nSubject: web01 is down\r\n\r\nSince noon.\r\n";
    std::fs::write(folder.path().join("one.eml"), letter).unwrap();
    // The same letter a second time is tagged, not answered again.
    std::fs::write(folder.path().join("two.eml"), letter).unwrap();
    std::fs::write(folder.path().join("three.eml"), b"\xff\xfe\x00garbage").unwrap();
    let path = folder.path().to_str().unwrap();
    let report = demo(&["--messages", "0", "--faults", "none", "--mail", path]);
    assert_eq!((number(&report, "messages_in"), number(&report, "handled_once"), number(&report, "dead_letters")), (3, 2, 1));
    assert_eq!((number(&report, "tickets"), number(&report, "replies"), number(&report, "links")), (1, 1, 1));
    assert_eq!(report["retries"], Value::Object(serde_json::Map::new()));
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let missing = PathBuf::from("no").join("such").join("folder");
    let output = Command::new(env!("CARGO_BIN_EXE_connector-hub")).args(["demo", "--once", "--mail"]).arg(&missing).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no/such/folder"));
}
