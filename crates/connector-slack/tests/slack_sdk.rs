//! Slack's own Python client (`slack_sdk`) against the fake of Slack: if it is content, the fake answers as the client library expects of Slack.
#![allow(clippy::unwrap_used, reason = "in tests a panic is the failure")]

use connector_sandbox::{Sandbox, known};
use connector_testkit::python::Python;

const VERSION: &str = "3.47.0";

#[tokio::test(flavor = "multi_thread")]
async fn slacks_own_client_is_content_with_the_fake() {
    let Some(python) = Python::with("slack_sdk", VERSION).await else { return };
    let sandbox = Sandbox::builder().vendor("slack").start("127.0.0.1:0").await.unwrap();
    let limited = Sandbox::builder().vendor("slack").enforce_limits(true).start("127.0.0.1:0").await.unwrap();
    let script = format!("{}/tests/python/against_the_fake.py", env!("CARGO_MANIFEST_DIR"));
    let (base, slow) = (format!("{}/", sandbox.base_url("slack")), format!("{}/", limited.base_url("slack")));
    let said = python.run(&script, &[&base, known::SLACK_BOT_TOKEN, &slow]).await;
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 8, "{said}");
    assert_eq!(sandbox.slack().file("report.csv").as_deref(), Some(&b"a,b\n1,2\n"[..]));
}
