//! A typed call through all layers, over a scripted server.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;

use connector_email::Email;
use support::{Local, Script, Scripted, Secret};

#[tokio::test]
async fn a_typed_call_reaches_the_server() {
    let server = Scripted::start([Script::imap("").folders()]).await;
    let client = Email::builder()
        .base_url(format!("https://127.0.0.1:{}", server.port))
        .setting("imap_security", "none")
        .setting("smtp_security", "none")
        .setting("allow_plaintext_loopback", "true")
        .transport(Arc::new(Local))
        .auth(Arc::new(Secret::Password("ann@example.test", "secret")))
        .build()
        .unwrap();
    let folders = client.list_folders().await.unwrap().folders;
    assert_eq!(folders.iter().map(|folder| folder.name.as_str()).collect::<Vec<_>>(), ["INBOX", "Drafts", "Sent", "Trash"]);
    assert_eq!(folders[2].purpose.as_deref(), Some("sent"));
}

#[test]
fn a_client_without_a_server_says_what_is_missing() {
    let error = Email::builder().transport(Arc::new(Local)).auth(Arc::new(Secret::Password("a", "b"))).build().unwrap_err();
    assert!(error.message().contains("preset"), "{error}");
}
