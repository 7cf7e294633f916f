//! HubSpot's own Python client (`hubspot-api-client`) against the fake of HubSpot: if it is content, the fake answers as the client library
//! expects of HubSpot. Its models check what comes back, so a field of the wrong kind fails here.
#![allow(clippy::unwrap_used, reason = "in tests a panic is the failure")]

use connector_sandbox::{EffectKind, Sandbox, known};
use connector_testkit::python::Python;

const VERSION: &str = "12.0.0";

#[tokio::test(flavor = "multi_thread")]
async fn hubspots_own_client_is_content_with_the_fake() {
    let Some(python) = Python::with("hubspot-api-client", VERSION).await else { return };
    let sandbox = Sandbox::builder().vendor("hubspot").start("127.0.0.1:0").await.unwrap();
    let limited = Sandbox::builder().vendor("hubspot").enforce_limits(true).start("127.0.0.1:0").await.unwrap();
    let script = format!("{}/tests/python/against_the_fake.py", env!("CARGO_MANIFEST_DIR"));
    let (base, slow) = (sandbox.base_url("hubspot"), limited.base_url("hubspot"));
    let said = python.run(&script, &[&base, known::HUBSPOT_TOKEN, &slow]).await;
    assert_eq!(said.lines().count(), 11, "{said}");
    let contacts =
        sandbox.ledger().of_kind(EffectKind::RecordCreated).iter().filter(|made| made.key.as_deref() == Some("sdk@python.example")).count();
    assert_eq!(contacts, 1, "what the client was told was made was made once");
}
