//! The chaos commands as a script sees them: one JSON line, and an exit code that says whether the promise held.

use std::process::{Command, Output};

use serde_json::Value;

fn chaos(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask")).arg("chaos").args(args).output().unwrap_or_else(|error| panic!("xtask does not start: {error}"))
}

fn verdict(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().unwrap_or_else(|| panic!("nothing on stdout; stderr: {}", String::from_utf8_lossy(&output.stderr)));
    serde_json::from_str(line).unwrap_or_else(|error| panic!("`{line}` is not JSON: {error}"))
}

#[test]
fn a_master_key_changes_under_load_although_the_process_is_killed() {
    let output = chaos(&["rotate-key", "--rps", "60", "--kills", "2", "--secs", "3", "--credentials", "120", "--readers", "1", "--seed", "5"]);
    let verdict = verdict(&output);
    assert!(output.status.success(), "{verdict}");
    assert_eq!((&verdict["case"], &verdict["seed"], &verdict["ok"]), (&"rotate-key".into(), &5.into(), &true.into()));
    for (figure, expected) in [("kills", 2), ("failed_reads", 0), ("unreadable", 0), ("under_the_old_key", 0)] {
        assert_eq!(verdict["figures"][figure], expected, "{verdict}");
    }
    assert!(verdict["figures"]["reads"].as_u64().is_some_and(|reads| reads > 50), "{verdict}");
}

#[test]
fn an_unmet_promise_is_exit_code_1_and_says_which() {
    // No read takes no time.
    let output = chaos(&["rotate-key", "--rps", "20", "--kills", "0", "--secs", "1", "--credentials", "5", "--readers", "1", "--within-ms", "0"]);
    let verdict = verdict(&output);
    assert_eq!(output.status.code(), Some(1), "{verdict}");
    assert_eq!(verdict["ok"], false);
    assert!(verdict["breaches"][0].as_str().is_some_and(|breach| breach.contains("a read took")), "{verdict}");
}

#[test]
fn an_unknown_case_is_a_usage_error() {
    assert_eq!(chaos(&["refresh-rice"]).status.code(), Some(2));
}
