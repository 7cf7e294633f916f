//! `connect` from the terminal: the address it prints, the page the browser gets, what the terminal says, and what is kept.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod common;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, Output, Stdio},
};

use common::{
    hub::{Hub, json, said, stderr, stdout},
    vendor::{CANARY, MANIFEST, Vendor},
};
use serde_json::json;
use url::Url;

fn acme_hub(address: &str) -> Hub {
    let hub = Hub::new();
    hub.write("acme.yaml", MANIFEST);
    hub.write(
        "hub.yaml",
        &format!(
            "manifests: [acme.yaml]\negress: {{ allow_loopback: true }}\nconnections:\n  acme: {{ connector: acme, base_url: \"{address}\", \
             egress_allow: [loopback] }}\n"
        ),
    );
    hub
}

/// A sign-in that waits for its browser.
struct Waiting {
    child: Child,
    err: BufReader<std::process::ChildStderr>,
    authorize: Url,
    heard: String,
}

impl Waiting {
    fn start(hub: &Hub, args: &[&str], app: &str) -> Self {
        let mut child = hub.command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(app.as_bytes()).unwrap();
        let mut err = BufReader::new(child.stderr.take().unwrap());
        let mut heard = String::new();
        let authorize = loop {
            let mut line = String::new();
            assert!(err.read_line(&mut line).unwrap() > 0, "it ended without an address: {heard}");
            heard += &line;
            if let Ok(url) = Url::parse(line.trim()) {
                break url;
            }
        };
        Self { child, err, authorize, heard }
    }

    fn param(&self, wanted: &str) -> String {
        self.authorize.query_pairs().find(|(name, _)| name == wanted).unwrap().1.into_owned()
    }

    /// What the vendor's redirect makes the browser do.
    fn browse(&self, query: &str) -> String {
        let back = Url::parse(&self.param("redirect_uri")).unwrap();
        let mut socket = TcpStream::connect(("127.0.0.1", back.port().unwrap())).unwrap();
        write!(socket, "GET /callback?{query} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }

    fn end(mut self) -> Output {
        self.err.read_to_string(&mut self.heard).unwrap();
        let mut output = self.child.wait_with_output().unwrap();
        output.stderr = self.heard.into_bytes();
        output
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_signs_in_and_the_terminal_tells_what_was_granted() {
    let (vendor, address) = Vendor::start("me.read").await;
    let (hub, first, second) = tokio::task::spawn_blocking(move || {
        let hub = acme_hub(&address);
        let args =
            ["connect", "acme", "--no-browser", "--field", "client_id", "--field", "client_secret", "--scheme", "authorization_code", "--json"];
        let waiting = Waiting::start(&hub, &args, &format!("client_id=acme-app\nclient_secret={CANARY}-app\n"));
        assert!(waiting.param("redirect_uri").starts_with("http://127.0.0.1:"));
        // An answer to another sign-in gets a page, and the wait goes on.
        let stray = waiting.browse("code=good-code&state=0");
        assert!(stray.starts_with("HTTP/1.1 400") && stray.contains("does not belong"), "{stray}");
        let page = waiting.browse(&format!("code=good-code&state={}", waiting.param("state")));
        assert!(page.starts_with("HTTP/1.1 200") && page.contains("less than was asked for") && page.contains("things.write"), "{page}");
        assert!(page.to_lowercase().contains("content-security-policy: default-src 'none'"), "{page}");
        assert!(!page.contains(CANARY) && !page.contains("<script"), "{page}");
        let first = waiting.end();
        // Again: the app is kept, so nothing is asked.
        let waiting = Waiting::start(&hub, &["connect", "acme", "--no-browser"], "");
        let denied = waiting.browse(&format!("error=access_denied&error_description=%3Cscript%3E&state={}", waiting.param("state")));
        assert!(denied.starts_with("HTTP/1.1 400") && denied.contains("Not connected") && !denied.contains("<script"), "{denied}");
        (hub, first, waiting.end())
    })
    .await
    .unwrap();
    let report = json(&first, &["connect"]);
    assert_eq!((&report["connection"], &report["granted"], &report["missing"]), (&json!("acme"), &json!(["me.read"]), &json!(["things.write"])));
    assert_eq!(report["unusable_tools"], json!(["acme_make_thing"]));
    assert!(!said(&first).contains(CANARY), "{}", said(&first));
    assert_ne!(second.status.code(), Some(0), "{}", said(&second));
    assert!(stderr(&second).contains("did not grant"), "a terminal needs no escaping of markup: {}", said(&second));
    let (called, validated, diff) = tokio::task::spawn_blocking(move || {
        let called = hub.run(&["call", "acme_me"]);
        let validated = hub.run(&["credentials", "validate", "acme"]);
        let diff = hub.run(&["scopes", "--diff", "acme", "--tools", "acme_make_thing"]);
        (called, validated, diff)
    })
    .await
    .unwrap();
    assert!(called.status.success() && stdout(&called).contains("\"7\""), "a refused second sign-in leaves the first: {}", said(&called));
    assert!(stdout(&validated).contains("accepted"), "{}", said(&validated));
    assert!(stdout(&diff).contains("things.write") && diff.status.code() == Some(1), "{}", said(&diff));
    assert_eq!(vendor.0.lock().unwrap().tokens.len(), 1, "one code was exchanged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_asked_for_proven_and_kept() {
    let (_vendor, address) = Vendor::start("me.read").await;
    tokio::task::spawn_blocking(move || {
        let hub = acme_hub(&address);
        let nothing = hub.run(&["connect", "acme"]);
        assert_eq!(nothing.status.code(), Some(2), "{}", said(&nothing));
        assert!(stderr(&nothing).contains("key") && !hub.has(".connectors/master.key"), "{}", said(&nothing));
        let wrong = hub.pipe(&["connect", "acme", "--field", "key"], "wrong");
        assert_eq!(wrong.status.code(), Some(1), "{}", said(&wrong));
        let good = hub.pipe(&["connect", "acme", "--field", "key"], &format!("{CANARY}-key"));
        assert!(good.status.success() && stderr(&good).contains("connected"), "{}", said(&good));
        assert!(!said(&good).contains(CANARY));
        let health = hub.run(&["health"]);
        assert!(health.status.success(), "{}", said(&health));
        let gone = hub.run(&["disconnect", "acme", "--yes"]);
        assert!(gone.status.success(), "{}", said(&gone));
        let health = hub.run(&["health"]);
        assert_eq!(health.status.code(), Some(1));
        assert!(stderr(&health).contains("connector-hub connect acme"), "it says what to do: {}", said(&health));
    })
    .await
    .unwrap();
}

#[test]
fn a_sign_in_without_its_app_says_what_is_missing_and_makes_nothing() {
    let hub = acme_hub("http://127.0.0.1:9");
    let output = hub.run(&["connect", "acme", "--scheme", "authorization_code"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("ACME_CLIENT_ID") && stderr(&output).contains("--field client_id"), "{}", stderr(&output));
    assert!(!hub.has(".connectors/master.key"));
    let device = hub.run(&["connect", "acme", "--device"]);
    assert_eq!(device.status.code(), Some(2));
    assert!(stderr(&device).contains("another device"), "{}", stderr(&device));
}
