//! Vault and OpenBao, against a real OpenBao: KV v2, AppRole, transit, and a whole vault on a transit key.
#![allow(clippy::unwrap_used, reason = "helpers of tests; a failure here is a failure of the test")]

mod remote_common;

use std::{sync::Arc, time::Duration};

use connector_core::{CallCx, Connection, ErrorKind, TenantId, transport::Transport as _};
use connector_vault::{
    config::{self, VaultConfig},
    key::{Binding, MasterKey as _},
    manager::SecretManager as _,
    remote::{HashiAuth, HashiClient, KvStore, PathTemplate, TransitKey},
};
use http::{HeaderValue, Method};
use remote_common::{Ahead, Door, Noting, credential, deps, get, memory, server, token, unique};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use url::Url;
use zeroize::Zeroizing;

const ROOT: &str = "dev-root";

/// The administrator of the server.
struct Admin {
    url: Url,
    transport: Noting,
}

impl Admin {
    async fn here() -> Option<Self> {
        let url = server("CONNECTORS_BAO_URL", "http://127.0.0.1:18200").await?;
        Some(Self { url, transport: Noting::new() })
    }

    async fn try_(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let host = format!("{}:{}", self.url.host_str().unwrap(), self.url.port().unwrap());
        let connection = Connection::new("bao", self.url.as_str()).unwrap().with_setting("egress_allow", host);
        let mut request = connector_core::transport::Request::new(method, self.url.join("/v1/").unwrap().join(path).unwrap());
        request.head.headers.insert("x-vault-token", HeaderValue::from_static(ROOT));
        if !body.is_null() {
            request.body = bytes::Bytes::from(body.to_string()).into();
        }
        let response = self.transport.send(&CallCx::new(Arc::new(connection)), request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect(1 << 20).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn run(&self, method: Method, path: &str, body: Value) -> Value {
        let (status, answer) = self.try_(method, path, body).await;
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.run(Method::POST, path, body).await
    }

    async fn delete(&self, path: &str) {
        self.run(Method::DELETE, path, Value::Null).await;
    }

    /// A KV v2 engine of our own. It takes a moment until it has versions.
    async fn kv(&self) -> String {
        let mount = unique("kv");
        self.post(&format!("sys/mounts/{mount}"), json!({ "type": "kv", "options": { "version": "2" } })).await;
        for _ in 0..1000 {
            if self.try_(Method::POST, &format!("{mount}/data/ready"), json!({ "data": {} })).await.0 == 200 {
                return mount;
            }
            tokio::task::yield_now().await;
        }
        panic!("the KV engine does not become ready");
    }

    async fn transit(&self) -> String {
        let mount = unique("transit");
        self.post(&format!("sys/mounts/{mount}"), json!({ "type": "transit" })).await;
        self.post(&format!("{mount}/keys/connectors"), json!({ "type": "aes256-gcm96" })).await;
        mount
    }

    async fn unmount(&self, mount: &str) {
        self.delete(&format!("sys/mounts/{mount}")).await;
    }

    /// A token with this policy.
    async fn token(&self, policy: &str) -> String {
        let name = unique("p");
        self.post(&format!("sys/policies/acl/{name}"), json!({ "policy": policy })).await;
        let made = self.post("auth/token/create", json!({ "policies": [name], "ttl": "1h" })).await;
        made["auth"]["client_token"].as_str().unwrap().to_owned()
    }

    /// An AppRole mount with a role of this policy: the mount, the role's id and a secret.
    async fn approle(&self, policy: &str) -> (String, String, String) {
        let (mount, name) = (unique("approle"), unique("p"));
        self.post(&format!("sys/policies/acl/{name}"), json!({ "policy": policy })).await;
        self.post(&format!("sys/auth/{mount}"), json!({ "type": "approle" })).await;
        let role = format!("auth/{mount}/role/hub");
        self.post(&role, json!({ "token_policies": name, "token_ttl": "1200s", "token_max_ttl": "24h" })).await;
        let id = self.run(Method::GET, &format!("{role}/role-id"), Value::Null).await;
        let secret = self.post(&format!("{role}/secret-id"), json!({})).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (mount, text(&id["data"]["role_id"]), text(&secret["data"]["secret_id"]))
    }

    fn client(&self, auth: HashiAuth) -> (HashiClient, Noting, Ahead) {
        let (transport, clock) = (Noting::new(), Ahead::default());
        let client = HashiClient::new(Arc::new(transport.clone()), Arc::new(clock.clone()), self.url.as_str(), None, auth).unwrap();
        (client, transport, clock)
    }

    fn store(&self, mount: &str, auth: HashiAuth) -> (KvStore, Noting, Ahead) {
        let (client, transport, clock) = self.client(auth);
        let path = PathTemplate::parse("connectors/{tenant}/{name}").unwrap();
        (KvStore::new(client, mount, path).unwrap(), transport, clock)
    }
}

fn acme() -> TenantId {
    "acme".into()
}

#[tokio::test]
async fn kv_versions_are_current_previous_deleted_and_destroyed() {
    let Some(admin) = Admin::here().await else { return };
    let mount = admin.kv().await;
    let data = format!("{mount}/data/connectors/acme/slack");
    let (store, _, clock) = admin.store(&mount, HashiAuth::Token(ROOT.into()));
    let read = async || store.read(&acme(), "slack").await.unwrap();

    assert!(read().await.is_none());
    admin.post(&data, json!({ "data": { "token": "one", "port": 7, "key": { "type": "service" } } })).await;
    let first = read().await.unwrap();
    assert_eq!((first.version, first.previous.is_none()), (1, true));
    assert_eq!(first.fields["token"].expose_secret(), "one");
    assert_eq!((first.fields["port"].expose_secret(), first.fields["key"].expose_secret()), ("7", r#"{"type":"service"}"#));

    admin.post(&data, json!({ "data": { "token": "two" } })).await;
    let second = read().await.unwrap();
    assert_eq!((second.version, second.fields["token"].expose_secret()), (2, "two"));
    assert_eq!(second.previous.unwrap()["token"].expose_secret(), "one");
    // A day later the version before is no longer offered.
    clock.advance(Duration::from_secs(24 * 3600 + 1));
    assert!(read().await.unwrap().previous.is_none());

    // Another tenant's place is another place.
    assert!(store.read(&"other".into(), "slack").await.unwrap().is_none());

    admin.delete(&data).await;
    assert!(read().await.is_none());
    admin.post(&format!("{mount}/undelete/connectors/acme/slack"), json!({ "versions": [2] })).await;
    assert_eq!(read().await.unwrap().version, 2);
    admin.post(&format!("{mount}/destroy/connectors/acme/slack"), json!({ "versions": [2] })).await;
    assert!(read().await.is_none());
    admin.unmount(&mount).await;
}

#[tokio::test]
async fn a_path_outside_the_policy_is_refused_with_the_line_that_is_missing() {
    let Some(admin) = Admin::here().await else { return };
    let mount = admin.kv().await;
    for tenant in ["acme", "other"] {
        admin.post(&format!("{mount}/data/connectors/{tenant}/slack"), json!({ "data": { "token": "t-canary" } })).await;
    }
    let given = admin.token(&format!("path \"{mount}/data/connectors/acme/*\" {{ capabilities = [\"read\"] }}")).await;
    let (store, _, _) = admin.store(&mount, HashiAuth::Token(given.as_str().into()));
    assert!(store.read(&acme(), "slack").await.unwrap().is_some());
    let error = store.read(&"other".into(), "slack").await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Config, Some(403)));
    assert!(error.message().contains(&format!("path \"{mount}/data/connectors/+/+\" {{ capabilities = [\"read\"] }}")), "{error}");
    assert!(!format!("{error:?}").contains(&given) && !format!("{error:?}").contains("canary"));
    // Names that climb are refused before they are sent, so the server's own reading of paths does not matter.
    for hostile in ["../other/slack", "..", "%2e%2e%2fother%2fslack", "slack?version=1"] {
        assert_eq!(store.read(&acme(), hostile).await.unwrap_err().kind(), ErrorKind::Config, "{hostile}");
    }
    let (store, _, _) = admin.store(&mount, HashiAuth::Token("hvs.wrong".into()));
    assert_eq!(store.read(&acme(), "slack").await.unwrap_err().kind(), ErrorKind::Config);
    admin.unmount(&mount).await;
}

#[tokio::test]
async fn an_approle_logs_in_once_renews_and_logs_in_again_when_its_token_is_revoked() {
    let Some(admin) = Admin::here().await else { return };
    let mount = admin.kv().await;
    admin.post(&format!("{mount}/data/connectors/acme/slack"), json!({ "data": { "token": "t" } })).await;
    let (auth, role_id, secret_id) = admin.approle(&format!("path \"{mount}/data/connectors/*\" {{ capabilities = [\"read\"] }}")).await;
    let login = format!("POST /v1/auth/{auth}/login");
    let role = |secret: &str| HashiAuth::AppRole { mount: auth.clone(), role_id: role_id.clone(), secret_id: secret.into() };
    let (store, transport, clock) = admin.store(&mount, role(&secret_id));
    let store = Arc::new(store);

    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let store = store.clone();
        readers.spawn(async move { store.read(&acme(), "slack").await.unwrap().unwrap().version });
    }
    assert_eq!(readers.join_all().await, [1; 16]);
    let count = |lines: &[String], line: &str| lines.iter().filter(|sent| *sent == line).count();
    assert_eq!(count(&transport.take(), &login), 1);
    let first = transport.last_token();

    clock.advance(Duration::from_secs(801));
    store.read(&acme(), "slack").await.unwrap().unwrap();
    let lines = transport.take();
    assert_eq!(lines, ["POST /v1/auth/token/renew-self".to_owned(), format!("GET /v1/{mount}/data/connectors/acme/slack")]);
    assert_eq!(transport.last_token(), first);

    admin.post("auth/token/revoke", json!({ "token": first })).await;
    store.read(&acme(), "slack").await.unwrap().unwrap();
    assert_eq!(count(&transport.take(), &login), 1);
    assert_ne!(transport.last_token(), first);

    // Renewal of a revoked token fails, and ends in a login too.
    admin.post("auth/token/revoke", json!({ "token": transport.last_token() })).await;
    clock.advance(Duration::from_secs(801));
    store.read(&acme(), "slack").await.unwrap().unwrap();
    assert_eq!(count(&transport.take(), &login), 1);

    for (auth, text) in [
        (role("wrong-canary"), "make a new secret_id"),
        (HashiAuth::AppRole { mount: "nothing-here".into(), role_id: role_id.clone(), secret_id: "wrong-canary".into() }, "`auth/nothing-here`"),
    ] {
        let (store, _, _) = admin.store(&mount, auth);
        let error = store.read(&acme(), "slack").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains(text) && !format!("{error:?}").contains("canary"), "{error}");
    }
    admin.unmount(&mount).await;
    admin.delete(&format!("sys/auth/{auth}")).await;
}

#[tokio::test]
async fn a_given_token_with_a_period_is_renewed() {
    let Some(admin) = Admin::here().await else { return };
    let mount = admin.kv().await;
    let made = admin.post("auth/token/create", json!({ "policies": ["root"], "period": "20m" })).await;
    let given = made["auth"]["client_token"].as_str().unwrap();
    let (store, transport, clock) = admin.store(&mount, HashiAuth::Token(given.into()));
    assert!(store.read(&acme(), "slack").await.unwrap().is_none());
    assert_eq!(transport.take()[0], "GET /v1/auth/token/lookup-self");
    clock.advance(Duration::from_secs(801));
    assert!(store.read(&acme(), "slack").await.unwrap().is_none());
    assert_eq!(transport.take()[0], "POST /v1/auth/token/renew-self");
    admin.unmount(&mount).await;
}

#[tokio::test]
async fn a_transit_key_opens_what_it_wrapped_for_the_same_record_only_also_after_its_rotation() {
    let Some(admin) = Admin::here().await else { return };
    let mount = admin.transit().await;
    let policy = format!(
        "path \"{mount}/encrypt/connectors\" {{ capabilities = [\"update\"] }}\npath \"{mount}/decrypt/connectors\" {{ capabilities = [\"update\"] }}\n\
         path \"{mount}/encrypt/absent\" {{ capabilities = [\"update\"] }}\npath \"{mount}/decrypt/absent\" {{ capabilities = [\"update\"] }}"
    );
    let given = admin.token(&policy).await;
    let (client, _, _) = admin.client(HashiAuth::Token(given.as_str().into()));
    let key = TransitKey::new(client.clone(), "k", &mount, "connectors").unwrap();
    let (tenant, other) = (acme(), TenantId::from("other"));
    let binding = Binding { tenant: &tenant, credential: "slack", field: "token", version: 1, key_id: "k" };
    let data_key = Zeroizing::new([42; 32]);

    let wrapped = key.wrap(&data_key, &binding).await.unwrap();
    assert!(wrapped.starts_with(b"vault:v1:"));
    assert_eq!(*key.unwrap(&wrapped, &binding).await.unwrap(), [42; 32]);
    for wrong in [
        Binding { tenant: &other, ..binding },
        Binding { credential: "crm", ..binding },
        Binding { field: "secret", ..binding },
        Binding { version: 2, ..binding },
        Binding { key_id: "l", ..binding },
    ] {
        let error = key.unwrap(&wrapped, &wrong).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{wrong:?}: {error}");
    }
    // Every kind of damage is an error, never another key.
    for at in 0..wrapped.len() {
        let mut damaged = wrapped.clone();
        damaged[at] ^= 1;
        assert_eq!(key.unwrap(&damaged, &binding).await.unwrap_err().kind(), ErrorKind::Invalid, "byte {at}");
    }
    assert_eq!(key.unwrap(&wrapped[..wrapped.len() - 4], &binding).await.unwrap_err().kind(), ErrorKind::Invalid);

    admin.post(&format!("{mount}/keys/connectors/rotate"), json!({})).await;
    let newer = key.wrap(&data_key, &binding).await.unwrap();
    assert!(newer.starts_with(b"vault:v2:"));
    assert_eq!(*key.unwrap(&wrapped, &binding).await.unwrap(), [42; 32]);
    assert_eq!(*key.unwrap(&newer, &binding).await.unwrap(), [42; 32]);
    admin.post(&format!("{mount}/keys/connectors/config"), json!({ "min_decryption_version": 2 })).await;
    let error = key.unwrap(&wrapped, &binding).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("min_decryption_version"), "{error}");
    assert_eq!(*key.unwrap(&newer, &binding).await.unwrap(), [42; 32]);

    // A key that is not there is not made by accident.
    let absent = TransitKey::new(client, "k", &mount, "absent").unwrap();
    assert_eq!(absent.wrap(&data_key, &binding).await.unwrap_err().kind(), ErrorKind::Config);
    let error = absent.unwrap(&newer, &binding).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("has no transit key `absent`"), "{error}");
    admin.unmount(&mount).await;
}

#[tokio::test]
async fn a_vault_on_a_transit_key_serves_through_an_outage_for_as_long_as_it_keeps_and_then_says_so() {
    let Some(admin) = Admin::here().await else { return };
    let (transit, kv) = (admin.transit().await, admin.kv().await);
    admin.post(&format!("{kv}/data/connectors/acme/crm"), json!({ "data": { "token": "from-kv" } })).await;
    let policy = format!("path \"{transit}/*\" {{ capabilities = [\"update\"] }}\npath \"{kv}/data/connectors/*\" {{ capabilities = [\"read\"] }}");
    let (auth, role_id, secret_id) = admin.approle(&policy).await;
    let door = Door::to(&admin.url).await;
    let config: VaultConfig = serde_json::from_value(json!({
        "keys": [{
            "id": "bao1",
            "from": format!("transit:{}/{transit}/connectors", door.url),
            "approle": { "role_id": "${ROLE_ID}", "secret_id": "${SECRET_ID}", "mount": auth },
        }],
        "stores": {
            "corp": { "kind": "hashicorp", "url": door.url, "mount": kv, "approle": { "role_id": role_id, "secret_id": "${SECRET_ID}", "mount": auth } },
        },
    }))
    .unwrap();
    let (transport, clock, store) = (Noting::new(), Ahead::default(), memory());
    let vars = [("ROLE_ID", role_id.as_str()), ("SECRET_ID", secret_id.as_str())];
    let vault = config::open(&config, deps(&transport, &clock, &store, &vars)).await.unwrap();
    vault.set(&acme(), "slack", credential("sealed")).await.unwrap();
    assert_eq!(vault.show(&acme(), "slack").await.unwrap().key_id, "bao1");

    // A second process opens what the first one sealed.
    let vault = config::open(&config, deps(&transport, &clock, &store, &vars)).await.unwrap();
    assert_eq!(token(&vault, "acme", "slack").await.unwrap(), "sealed");
    assert_eq!(token(&vault, "acme", "corp:crm").await.unwrap(), "from-kv");
    assert_eq!(
        get(&vault, "other", "slack").await.unwrap_err().to_string(),
        get(&vault, "other", "none").await.unwrap_err().to_string().replace("none", "slack")
    );

    door.close().await;
    for seconds in [2, 200, 90] {
        clock.advance(Duration::from_secs(seconds));
        assert_eq!(token(&vault, "acme", "slack").await.unwrap(), "sealed", "after {seconds} s more");
        assert_eq!(token(&vault, "acme", "corp:crm").await.unwrap(), "from-kv", "after {seconds} s more");
    }
    clock.advance(Duration::from_secs(20));
    for name in ["slack", "corp:crm"] {
        let error = get(&vault, "acme", name).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transient, "{name}: {error}");
    }
    let error = vault.set(&acme(), "new", credential("x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient, "nothing is kept without its key: {error}");
    admin.unmount(&transit).await;
    admin.unmount(&kv).await;
    admin.delete(&format!("sys/auth/{auth}")).await;
}
