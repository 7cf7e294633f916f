//! AWS KMS and Secrets Manager, against moto, which keeps encryption contexts and version stages as AWS does. It checks neither
//! signatures (those have the vendor library's vector) nor the state of a key.
#![allow(clippy::unwrap_used, reason = "helpers of tests; a failure here is a failure of the test")]

mod remote_common;

use std::{collections::HashMap, sync::Arc, time::Duration};

use connector_core::{CallCx, Connection, ErrorKind, TenantId, transport::Transport as _};
use connector_vault::{
    config::{self, VaultConfig},
    key::{Binding, MasterKey as _},
    manager::SecretManager as _,
    remote::{AwsClient, AwsCredentials, AwsService, Env, KmsKey, PathTemplate, SecretsManagerStore},
};
use http::{HeaderValue, Method};
use remote_common::{Ahead, Door, Noting, credential, deps, get, memory, server, token, unique};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use url::Url;
use zeroize::Zeroizing;

const REGION: &str = "eu-central-1";
const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "secret")];

/// The administrator of the account.
struct Admin {
    url: Url,
    transport: Noting,
}

impl Admin {
    async fn here() -> Option<Self> {
        let url = server("CONNECTORS_MOTO_URL", "http://127.0.0.1:15000").await?;
        Some(Self { url, transport: Noting::new() })
    }

    async fn run(&self, target: &str, body: Value) -> Value {
        let service = if target.starts_with("Trent") { "kms" } else { "secretsmanager" };
        let host = format!("{}:{}", self.url.host_str().unwrap(), self.url.port().unwrap());
        let connection = Connection::new("moto", self.url.as_str()).unwrap().with_setting("egress_allow", host);
        let mut request = connector_core::transport::Request::new(Method::POST, self.url.clone());
        let scope = format!("AWS4-HMAC-SHA256 Credential=A/20261121/{REGION}/{service}/aws4_request, SignedHeaders=host, Signature=00");
        for (name, value) in [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target), ("authorization", &scope)] {
            request.head.headers.insert(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        request.body = bytes::Bytes::from(body.to_string()).into();
        let response = self.transport.send(&CallCx::new(Arc::new(connection)), request).await.unwrap();
        assert!(response.status().is_success(), "{target}: {}", response.status());
        let body = response.into_body().collect(1 << 20).await.unwrap();
        serde_json::from_slice(&body).unwrap_or_default()
    }

    /// A new key behind a new alias.
    async fn key(&self) -> (String, String) {
        let alias = unique("alias/connectors");
        let made = self.run("TrentService.CreateKey", json!({})).await;
        let id = made["KeyMetadata"]["KeyId"].as_str().unwrap().to_owned();
        self.run("TrentService.CreateAlias", json!({ "AliasName": alias, "TargetKeyId": id })).await;
        (alias, id)
    }

    async fn secret(&self, operation: &str, body: Value) {
        self.run(&format!("secretsmanager.{operation}"), body).await;
    }

    fn client(&self, service: AwsService, vars: &[(&str, &str)]) -> (AwsClient, Noting, Ahead) {
        let (transport, clock) = (Noting::new(), Ahead::default());
        let vars: HashMap<String, String> = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let env: Env = Arc::new(move |name| vars.get(name).cloned());
        let (shared, time) = (Arc::new(transport.clone()), Arc::new(clock.clone()));
        let credentials = Arc::new(AwsCredentials::new(shared.clone(), time.clone(), env, REGION).unwrap());
        let client = AwsClient::new(shared, time, credentials, service, REGION, Some(self.url.as_str())).unwrap();
        (client, transport, clock)
    }
}

#[tokio::test]
async fn a_kms_key_opens_what_it_wrapped_in_the_same_context_only() {
    let Some(admin) = Admin::here().await else { return };
    let (alias, id) = admin.key().await;
    let (client, _, _) = admin.client(AwsService::Kms, &KEYS);
    let key = KmsKey::new(client.clone(), "k", &alias).unwrap();
    let (tenant, other) = (TenantId::from("acme"), TenantId::from("other"));
    let binding = Binding { tenant: &tenant, credential: "slack", field: "token", version: 1, key_id: "k" };
    let wrapped = key.wrap(&Zeroizing::new([42; 32]), &binding).await.unwrap();
    assert_eq!(*key.unwrap(&wrapped, &binding).await.unwrap(), [42; 32]);
    // By its id it is the same key.
    let by_id = KmsKey::new(client.clone(), "k", &id).unwrap();
    assert_eq!(*by_id.unwrap(&wrapped, &binding).await.unwrap(), [42; 32]);
    for wrong in [
        Binding { tenant: &other, ..binding },
        Binding { credential: "crm", ..binding },
        Binding { field: "secret", ..binding },
        Binding { version: 2, ..binding },
        Binding { key_id: "l", ..binding },
    ] {
        let error = key.unwrap(&wrapped, &wrong).await.unwrap_err();
        assert_eq!((error.kind(), error.vendor_code()), (ErrorKind::Invalid, Some("InvalidCiphertextException")), "{wrong:?}");
    }
    let mut damaged = wrapped.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(key.unwrap(&damaged, &binding).await.unwrap_err().kind(), ErrorKind::Invalid);
    let absent = KmsKey::new(client, "k", "alias/not-there").unwrap();
    let error = absent.wrap(&Zeroizing::new([42; 32]), &binding).await.unwrap_err();
    assert_eq!((error.kind(), error.vendor_code()), (ErrorKind::Config, Some("NotFoundException")));
    assert!(error.message().contains("has no key `alias/not-there` here"), "{error}");
}

#[tokio::test]
async fn a_secret_is_current_previous_rotated_missing_and_deleted() {
    let Some(admin) = Admin::here().await else { return };
    let tenant = TenantId::from(&unique("acme"));
    let id = format!("connectors/{tenant}/slack");
    let (client, transport, clock) = admin.client(AwsService::SecretsManager, &KEYS);
    let store = SecretsManagerStore::new(client, PathTemplate::parse("connectors/{tenant}/{name}").unwrap());
    let read = async || store.read(&tenant, "slack").await.unwrap();

    assert!(read().await.is_none());
    admin.secret("CreateSecret", json!({ "Name": id, "SecretString": r#"{"token":"one","port":7}"# })).await;
    let first = read().await.unwrap();
    assert_eq!((first.fields["token"].expose_secret(), first.fields["port"].expose_secret()), ("one", "7"));
    assert!(first.previous.is_none());

    admin.secret("PutSecretValue", json!({ "SecretId": id, "SecretString": r#"{"token":"two"}"# })).await;
    let second = read().await.unwrap();
    assert_ne!(second.version, first.version);
    assert_eq!(second.fields["token"].expose_secret(), "two");
    assert_eq!(second.previous.unwrap()["token"].expose_secret(), "one");
    // What is not finished is not used.
    admin.secret("PutSecretValue", json!({ "SecretId": id, "SecretString": "pending", "VersionStages": ["AWSPENDING"] })).await;
    assert_eq!(read().await.unwrap().version, second.version);
    // A day later the version before is neither offered nor asked for.
    clock.advance(Duration::from_secs(24 * 3600 + 1));
    transport.take();
    assert!(read().await.unwrap().previous.is_none());
    assert_eq!(transport.take(), ["secretsmanager.GetSecretValue"]);

    admin.secret("PutSecretValue", json!({ "SecretId": id, "SecretString": "plain" })).await;
    assert_eq!(read().await.unwrap().fields["value"].expose_secret(), "plain");
    assert!(store.read(&"other".into(), "slack").await.unwrap().is_none());

    admin.secret("DeleteSecret", json!({ "SecretId": id })).await;
    let error = store.read(&tenant, "slack").await.unwrap_err();
    assert_eq!((error.kind(), error.vendor_code()), (ErrorKind::Config, Some("InvalidRequestException")));
    assert!(error.message().contains("restore it"), "{error}");
    admin.secret("DeleteSecret", json!({ "SecretId": id, "ForceDeleteWithoutRecovery": true })).await;
    assert!(read().await.is_none());
}

#[tokio::test]
async fn a_web_identity_becomes_temporary_keys() {
    let Some(admin) = Admin::here().await else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "identity\n").unwrap();
    let vars = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file.to_str().unwrap()),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/connectors"),
        ("AWS_ENDPOINT_URL_STS", admin.url.as_str()),
    ];
    let (client, transport, _) = admin.client(AwsService::SecretsManager, &vars);
    let store = SecretsManagerStore::new(client, PathTemplate::parse("connectors/{tenant}/{name}").unwrap());
    for _ in 0..2 {
        assert!(store.read(&"acme".into(), "none").await.unwrap().is_none());
    }
    assert_eq!(transport.take(), ["POST /", "secretsmanager.GetSecretValue", "secretsmanager.GetSecretValue"]);
}

#[tokio::test]
async fn a_vault_on_a_kms_key_serves_through_an_outage_for_as_long_as_it_keeps_and_then_says_so() {
    let Some(admin) = Admin::here().await else { return };
    let (alias, _) = admin.key().await;
    let tenant = TenantId::from(&unique("acme"));
    let id = format!("connectors/{tenant}/crm");
    admin.secret("CreateSecret", json!({ "Name": id, "SecretString": r#"{"token":"from-aws"}"# })).await;
    let door = Door::to(&admin.url).await;
    let config: VaultConfig = serde_json::from_value(json!({
        "keys": [{ "id": "kms1", "from": format!("aws-kms:{alias}?region={REGION}&endpoint={}", door.url) }],
        "stores": { "aws": { "kind": "aws_secrets_manager", "endpoint": door.url } },
        "keep_for": "5m",
    }))
    .unwrap();
    let (transport, clock, store) = (Noting::new(), Ahead::default(), memory());
    let vars = [KEYS[0], KEYS[1], ("AWS_REGION", REGION)];
    let vault = config::open(&config, deps(&transport, &clock, &store, &vars)).await.unwrap();
    vault.set(&tenant, "slack", credential("sealed")).await.unwrap();
    let vault = config::open(&config, deps(&transport, &clock, &store, &vars)).await.unwrap();
    let (acme, slack, crm) = (tenant.as_str(), "slack", "aws:crm");
    assert_eq!(token(&vault, acme, slack).await.unwrap(), "sealed");
    assert_eq!(token(&vault, acme, crm).await.unwrap(), "from-aws");

    door.close().await;
    for seconds in [2, 200, 90] {
        clock.advance(Duration::from_secs(seconds));
        assert_eq!(token(&vault, acme, slack).await.unwrap(), "sealed", "after {seconds} s more");
        assert_eq!(token(&vault, acme, crm).await.unwrap(), "from-aws", "after {seconds} s more");
    }
    clock.advance(Duration::from_secs(20));
    for name in [slack, crm] {
        let error = get(&vault, acme, name).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transient, "{name}: {error}");
    }
    admin.secret("DeleteSecret", json!({ "SecretId": id, "ForceDeleteWithoutRecovery": true })).await;
}
