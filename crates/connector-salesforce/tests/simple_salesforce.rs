//! `simple-salesforce`, the usual Python client, against the fake of Salesforce: if it is content, the fake answers as that library expects of
//! Salesforce.
#![allow(clippy::unwrap_used, reason = "in tests a panic is the failure")]

use connector_sandbox::{Sandbox, known};
use connector_testkit::python::Python;

const VERSION: &str = "1.12.10";

#[tokio::test(flavor = "multi_thread")]
async fn the_usual_python_client_is_content_with_the_fake() {
    let Some(python) = Python::with("simple-salesforce", VERSION).await else { return };
    let sandbox = Sandbox::builder().vendor("salesforce").start("127.0.0.1:0").await.unwrap();
    let script = format!("{}/tests/python/against_the_fake.py", env!("CARGO_MANIFEST_DIR"));
    let mount = sandbox.mount("salesforce");
    let said = python.run(&script, &[&mount, known::SALESFORCE_TOKEN]).await;
    assert_eq!(said.lines().count(), 7, "{said}");
}
