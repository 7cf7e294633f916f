//! The client of Vault and OpenBao against a script: logins, every class of error, names that want to get elsewhere.

use std::sync::Mutex;

use connector_core::{
    Retry, TenantId,
    clock::{ManualClock, SystemClock},
};
use connector_testkit::transport::{Answering, Replay, Seen, Step};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::*;
use crate::{
    key::{Binding, MasterKey as _},
    manager::SecretManager as _,
    remote::{PathTemplate, path::HOSTILE},
};

/// 2026-11-21T12:00:00Z.
const NOW: u64 = 1_795_262_400;

fn role() -> HashiAuth {
    HashiAuth::AppRole { mount: "approle".into(), role_id: "role".into(), secret_id: "secret-id-canary".into() }
}

fn client(transport: impl Transport, auth: HashiAuth) -> HashiClient {
    HashiClient::new(Arc::new(transport), Arc::new(ManualClock::at_unix(NOW)), "https://bao.example:8200", Some("team/eu"), auth).unwrap()
}

fn kv(transport: impl Transport, auth: HashiAuth) -> KvStore {
    KvStore::new(client(transport, auth), "secret", PathTemplate::parse("connectors/{tenant}/{name}").unwrap()).unwrap()
}

fn login(token: &str, lease: u64, renewable: bool) -> Step {
    Step::json(200, json!({ "auth": { "client_token": token, "lease_duration": lease, "renewable": renewable } }))
}

/// A token without an end.
fn root() -> Step {
    Step::json(200, json!({ "data": { "ttl": 0, "renewable": false } }))
}

fn secret(version: u64, created: &str, data: Value) -> Step {
    Step::json(200, json!({ "data": { "data": data, "metadata": { "version": version, "created_time": created, "destroyed": false } } }))
}

fn refused(status: u16, why: &str) -> Step {
    Step::json(status, json!({ "errors": [why] }))
}

const OLD: &str = "2026-01-01T00:00:00.123456789Z";
const YOUNG: &str = "2026-11-21T11:00:00.123456789Z";

#[tokio::test]
async fn a_secret_is_read_with_its_version_and_the_one_before_while_that_is_young() {
    let script = Replay::new([root(), secret(4, YOUNG, json!({ "token": "new" })), secret(3, OLD, json!({ "token": "old" }))]);
    let store = kv(script.clone(), HashiAuth::Token("token-canary".into()));
    let found = store.read(&"acme".into(), "slack").await.unwrap().unwrap();
    assert_eq!((found.version, found.fields["token"].expose_secret()), (4, "new"));
    assert_eq!(found.previous.as_ref().unwrap()["token"].expose_secret(), "old");
    assert_eq!(
        script.lines(),
        ["GET /v1/auth/token/lookup-self", "GET /v1/secret/data/connectors/acme/slack", "GET /v1/secret/data/connectors/acme/slack?version=3"]
    );
    let seen = &script.seen()[1];
    assert_eq!((seen.header("x-vault-request"), seen.header("x-vault-namespace")), (Some("true"), Some("team/eu")));
    assert_eq!(seen.header("x-vault-token"), Some("token-canary"));
    let shown = format!("{store:?} {found:?} {seen:?}");
    assert!(!shown.contains("canary"), "{shown}");
}

#[tokio::test]
async fn an_old_version_before_is_not_asked_for_and_a_failing_one_does_no_harm() {
    let script = Replay::new([root(), secret(4, OLD, json!({ "token": "t" }))]);
    let found = kv(script.clone(), HashiAuth::Token("t".into())).read(&"acme".into(), "slack").await.unwrap().unwrap();
    assert!(found.previous.is_none() && script.left() == 0);
    for step in [Step::empty(500), refused(404, ""), Step::json(404, json!({ "data": { "data": null, "metadata": { "version": 3 } } }))] {
        let script = Replay::new([root(), secret(4, YOUNG, json!({ "token": "t" })), step]);
        let found = kv(script, HashiAuth::Token("t".into())).read(&"acme".into(), "slack").await.unwrap().unwrap();
        assert!(found.previous.is_none());
    }
}

#[tokio::test]
async fn absent_and_deleted_secrets_are_none() {
    let deleted = json!({ "data": { "data": null, "metadata": { "version": 2, "deletion_time": YOUNG, "destroyed": true } } });
    for step in [Step::json(404, json!({ "errors": [] })), Step::json(404, deleted.clone()), Step::json(200, deleted)] {
        let store = kv(Replay::new([root(), step]), HashiAuth::Token("t".into()));
        assert!(store.read(&"acme".into(), "slack").await.unwrap().is_none());
    }
}

#[tokio::test]
async fn hostile_names_never_reach_the_server() {
    let script = Replay::new([]);
    let store = kv(script.clone(), HashiAuth::Token("t".into()));
    for hostile in HOSTILE {
        assert_eq!(store.read(&"acme".into(), hostile).await.unwrap_err().kind(), ErrorKind::Config, "{hostile:?}");
        assert_eq!(store.read(&hostile.into(), "slack").await.unwrap_err().kind(), ErrorKind::Config, "{hostile:?}");
    }
    assert!(script.seen().is_empty());
    let new = |namespace, auth| HashiClient::new(Arc::new(Replay::new([])), Arc::new(SystemClock), "https://bao", namespace, auth);
    for hostile in HOSTILE.iter().filter(|text| !matches!(**text, "a/b" | "/a" | "a/")) {
        assert!(new(Some(hostile), role()).is_err(), "{hostile:?} as a namespace");
        let auth = HashiAuth::AppRole { mount: (*hostile).into(), role_id: "r".into(), secret_id: "s".into() };
        assert!(new(None, auth).is_err(), "{hostile:?} as a mount");
    }
}

#[tokio::test]
async fn passing_failures_are_transient_and_lasting_ones_say_what_to_do() {
    for (step, kind, text) in [
        (Step::json(503, json!({ "errors": ["Vault is sealed"] })), ErrorKind::Transient, "is sealed or not ready; unseal it"),
        (Step::empty(429).with_header("retry-after", "7"), ErrorKind::Transient, "over its quota"),
        (Step::empty(412), ErrorKind::Transient, "failed"),
        (Step::empty(473), ErrorKind::Transient, "failed"),
        (Step::empty(500), ErrorKind::Transient, "failed"),
        (Step::Fail(ErrorKind::NotSent), ErrorKind::Transient, "cannot be reached"),
        (Step::Fail(ErrorKind::Denied), ErrorKind::Config, "allow it under `egress`"),
        (Step::empty(302), ErrorKind::Config, "does not answer like a Vault server"),
        (refused(400, "odd token hvs.0123456789abcdefghijkl"), ErrorKind::Config, "refuses to read a secret"),
        (refused(403, "permission denied"), ErrorKind::Config, r#"path "secret/data/connectors/+/+" { capabilities = ["read"] }"#),
        (Step::text(200, "text/html", "<html>canary"), ErrorKind::Config, "KV version 2 engine"),
        (Step::json(200, json!({ "data": { "data": { "a": "b" } } })), ErrorKind::Config, "KV version 2 engine"),
    ] {
        let case = format!("{step:?}");
        let store = kv(Replay::new([root(), step]), HashiAuth::Token("token-canary".into()));
        let error = store.read(&"acme".into(), "slack").await.unwrap_err();
        assert_eq!(error.kind(), kind, "{case}: {error}");
        assert!(error.message().contains(text), "{case}: {error}");
        assert!(!format!("{error} {error:?}").contains("canary") && !error.to_string().contains("0123456789abcdef"), "{error}");
        if error.status() == Some(429) {
            assert_eq!(error.retry(), Retry::After(Duration::from_secs(7)));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_login_serves_all_callers_and_is_renewed_at_two_thirds() {
    let script = Replay::new([login("t1", 1200, true)]);
    for _ in 0..8 {
        script.push(secret(1, OLD, json!({ "token": "t" })));
    }
    let store = Arc::new(kv(script.clone(), role()));
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        readers.spawn(async move { store.read(&"acme".into(), "slack").await.unwrap().unwrap().version });
    }
    assert_eq!(readers.join_all().await, [1; 8]);
    assert_eq!(script.lines().iter().filter(|line| line.contains("login")).count(), 1);
    let sent = script.seen().remove(0);
    assert_eq!((sent.line(), sent.json()), ("POST /v1/auth/approle/login".into(), json!({ "role_id": "role", "secret_id": "secret-id-canary" })));
    assert!(sent.header("x-vault-token").is_none());

    let mut used = script.seen().len();
    let read = async |steps: Vec<Step>| {
        steps.into_iter().for_each(|step| script.push(step));
        store.read(&"acme".into(), "slack").await.unwrap().unwrap();
        let lines: Vec<_> = script.seen().split_off(used).iter().map(|seen| format!("{} {:?}", seen.line(), seen.header("x-vault-token"))).collect();
        used = script.seen().len();
        lines
    };
    let mut read = read;
    let value = || secret(1, OLD, json!({ "token": "t" }));
    const READ: &str = "GET /v1/secret/data/connectors/acme/slack";

    // Before 60 % of the lease nothing happens; at two thirds it is renewed.
    tokio::time::advance(Duration::from_secs(700)).await;
    assert_eq!(read(vec![value()]).await, [format!("{READ} Some(\"t1\")")]);
    tokio::time::advance(Duration::from_secs(101)).await;
    let lines = read(vec![login("t1", 1200, true), value()]).await;
    assert_eq!(lines, ["POST /v1/auth/token/renew-self Some(\"t1\")".into(), format!("{READ} Some(\"t1\")")]);
    // Renewed for less than was asked for: its longest life is near, so we log in again.
    tokio::time::advance(Duration::from_secs(801)).await;
    let lines = read(vec![login("t1", 300, true), login("t2", 1200, true), value()]).await;
    assert_eq!(
        lines,
        ["POST /v1/auth/token/renew-self Some(\"t1\")".into(), "POST /v1/auth/approle/login None".into(), format!("{READ} Some(\"t2\")")]
    );
    // A renewal that fails does no harm while the token is good, and is not tried at every call.
    tokio::time::advance(Duration::from_secs(801)).await;
    let lines = read(vec![Step::empty(500), value()]).await;
    assert_eq!(lines, ["POST /v1/auth/token/renew-self Some(\"t2\")".into(), format!("{READ} Some(\"t2\")")]);
    assert_eq!(read(vec![value()]).await, [format!("{READ} Some(\"t2\")")]);
    // After its end there is a new login, without a renewal.
    tokio::time::advance(Duration::from_secs(500)).await;
    let lines = read(vec![login("t3", 0, false), value()]).await;
    assert_eq!(lines, ["POST /v1/auth/approle/login None".into(), format!("{READ} Some(\"t3\")")]);
    // A lease of 0 has no end.
    tokio::time::advance(Duration::from_secs(1_000_000)).await;
    assert_eq!(read(vec![value()]).await, [format!("{READ} Some(\"t3\")")]);
}

#[tokio::test(start_paused = true)]
async fn a_given_token_is_renewed_while_it_can_be() {
    let looked = |ttl: u64, renewable| Step::json(200, json!({ "data": { "ttl": ttl, "renewable": renewable } }));
    let value = || secret(1, OLD, json!({ "token": "t" }));
    let script = Replay::new([looked(1200, true), value(), login("given", 1200, true), value()]);
    let store = kv(script.clone(), HashiAuth::Token("given".into()));
    store.read(&"acme".into(), "slack").await.unwrap();
    tokio::time::advance(Duration::from_secs(801)).await;
    store.read(&"acme".into(), "slack").await.unwrap();
    assert_eq!(script.lines()[2], "POST /v1/auth/token/renew-self");
    assert_eq!(script.left(), 0);
    // One that cannot be renewed is used to its end; a look that is not allowed is no failure.
    for first in [looked(1200, false), refused(403, "permission denied")] {
        let script = Replay::new([first, value(), value()]);
        let store = kv(script.clone(), HashiAuth::Token("given".into()));
        store.read(&"acme".into(), "slack").await.unwrap();
        tokio::time::advance(Duration::from_secs(801)).await;
        store.read(&"acme".into(), "slack").await.unwrap();
        assert_eq!(script.left(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_replaced_once_and_a_forbidden_path_does_not_cost_a_login_each_time() {
    let value = || secret(1, OLD, json!({ "token": "t" }));
    let denied = || refused(403, "permission denied");
    let script = Replay::new([login("t1", 1200, true), denied(), login("t2", 1200, true), value()]);
    let store = kv(script.clone(), role());
    assert!(store.read(&"acme".into(), "slack").await.unwrap().is_some());
    assert_eq!(script.left(), 0);

    let logins = Arc::new(Mutex::new(0));
    let counted = logins.clone();
    let store = kv(
        Answering::new(move |seen: &Seen| {
            if seen.line().contains("login") {
                *counted.lock().unwrap() += 1;
                return login("t", 1200, true);
            }
            refused(403, "permission denied")
        }),
        role(),
    );
    for _ in 0..5 {
        let error = store.read(&"acme".into(), "slack").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
    }
    assert_eq!(*logins.lock().unwrap(), 2);
    tokio::time::advance(LOGIN_AGAIN).await;
    assert!(store.read(&"acme".into(), "slack").await.is_err());
    assert_eq!(*logins.lock().unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_fails_fails_once_for_all_who_wait() {
    let script = Replay::new([Step::Hang]);
    let store = Arc::new(kv(script.clone(), role()));
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let store = store.clone();
        readers.spawn(async move { store.read(&"acme".into(), "slack").await.unwrap_err().kind() });
    }
    let before = tokio::time::Instant::now();
    assert_eq!(readers.join_all().await, [ErrorKind::Transient; 5]);
    assert!(before.elapsed() < Duration::from_secs(6));
    assert_eq!(script.seen().len(), 1);
    // Nobody is remembered for it: the next one tries again.
    script.push(refused(400, "invalid role or secret ID"));
    let error = store.read(&"acme".into(), "slack").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("make a new secret_id") && !format!("{error:?}").contains("canary"), "{error}");
}

fn binding(tenant: &TenantId) -> Binding<'_> {
    Binding { tenant, credential: "slack", field: "token", version: 1, key_id: "k" }
}

fn transit(steps: impl IntoIterator<Item = Step>) -> (Replay, TransitKey) {
    let script = Replay::new(std::iter::once(root()).chain(steps));
    (script.clone(), TransitKey::new(client(script, HashiAuth::Token("t".into())), "k", "transit", "connectors").unwrap())
}

#[tokio::test]
async fn a_data_key_is_wrapped_with_what_it_is_bound_to() {
    let sealed = Step::json(200, json!({ "data": { "ciphertext": "vault:v3:AAAA", "key_version": 3 } }));
    let opened = Step::json(200, json!({ "data": { "plaintext": super::super::encoded(&[7; 32]).as_str() } }));
    let (script, key) = transit([sealed, opened]);
    let tenant = TenantId::from("acme");
    let wrapped = key.wrap(&Zeroizing::new([7; 32]), &binding(&tenant)).await.unwrap();
    assert_eq!(wrapped, b"vault:v3:AAAA");
    assert_eq!(*key.unwrap(&wrapped, &binding(&tenant)).await.unwrap(), [7; 32]);
    let seen = script.seen();
    assert_eq!(seen[1].line(), "POST /v1/transit/encrypt/connectors");
    assert_eq!(seen[2].line(), "POST /v1/transit/decrypt/connectors");
    assert_eq!(seen[1].json()["associated_data"], seen[2].json()["associated_data"]);
    assert!(!seen[1].json()["associated_data"].as_str().unwrap().is_empty());
    assert!(key.is_remote() && key.id() == "k");
    assert_eq!(key.place(), "Vault/OpenBao at https://bao.example:8200, transit key `transit/connectors`");
}

#[tokio::test]
async fn what_does_not_unwrap_is_invalid_and_what_is_set_up_wrong_is_config() {
    let tenant = TenantId::from("acme");
    for (step, kind) in [
        (refused(400, "cipher: message authentication failed"), ErrorKind::Invalid),
        (refused(400, "invalid ciphertext length"), ErrorKind::Invalid),
        (refused(400, "invalid ciphertext: version is too new"), ErrorKind::Invalid),
        (refused(400, "ciphertext or signature version is disallowed by policy (too old)"), ErrorKind::Config),
        (refused(400, "encryption key not found"), ErrorKind::Config),
        (refused(404, "no handler for route"), ErrorKind::Config),
        (refused(403, "permission denied"), ErrorKind::Config),
        (Step::empty(503), ErrorKind::Transient),
        (Step::json(200, json!({ "data": { "plaintext": "c2hvcnQ=" } })), ErrorKind::Config),
        (Step::json(200, json!({})), ErrorKind::Config),
    ] {
        let case = format!("{step:?}");
        let (_, key) = transit([step]);
        let error = key.unwrap(b"vault:v1:AAAA", &binding(&tenant)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{case}: {error}");
    }
    // What cannot be a ciphertext is not sent.
    let (script, key) = transit([]);
    for wrong in [&b""[..], b"AAAA", b"\xff\xfe", b"vault:", b"vault:v0:AAAA", b"vault:v01:AAAA", b"vault:v1:", b"vault:v1:AA\nAA", b"vault:v1:AAA"] {
        assert_eq!(key.unwrap(wrong, &binding(&tenant)).await.unwrap_err().kind(), ErrorKind::Invalid);
    }
    assert!(script.seen().is_empty());
    for step in [refused(400, "bad key type"), refused(404, ""), Step::json(200, json!({ "data": { "ciphertext": "AAAA" } }))] {
        let (_, key) = transit([step]);
        assert_eq!(key.wrap(&Zeroizing::new([7; 32]), &binding(&tenant)).await.unwrap_err().kind(), ErrorKind::Config);
    }
    for hostile in HOSTILE {
        assert!(TransitKey::new(client(Replay::new([]), role()), "k", "transit", hostile).is_err(), "{hostile:?}");
    }
}
