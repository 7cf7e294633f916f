//! The AWS clients against a script: what is sent, every class of error, where credentials come from.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use connector_core::{TenantId, clock::ManualClock};
use connector_testkit::transport::{Replay, Step};
use secrecy::ExposeSecret as _;
use serde_json::json;
use zeroize::Zeroizing;

use super::*;
use crate::{
    key::{Binding, MasterKey as _},
    manager::SecretManager as _,
    remote::{Env, PathTemplate, path::HOSTILE},
};

/// 2026-11-21T12:00:00Z.
const NOW: u64 = 1_795_262_400;

fn env(pairs: &[(&str, &str)]) -> Env {
    let vars: HashMap<String, String> = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Arc::new(move |name| vars.get(name).cloned())
}

const KEYS: [(&str, &str); 3] =
    [("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "secret-canary"), ("AWS_SESSION_TOKEN", "token-canary")];

fn client(script: &Replay, service: AwsService) -> AwsClient {
    with(script, service, env(&KEYS), ManualClock::at_unix(NOW))
}

fn with(script: &Replay, service: AwsService, env: Env, clock: ManualClock) -> AwsClient {
    let transport: Arc<dyn Transport> = Arc::new(script.clone());
    let clock: Arc<dyn Clock> = Arc::new(clock);
    let credentials = AwsCredentials::new(transport.clone(), clock.clone(), env, "eu-central-1").unwrap();
    AwsClient::new(transport, clock, Arc::new(credentials), service, "eu-central-1", None).unwrap()
}

fn kms(script: &Replay) -> KmsKey {
    KmsKey::new(client(script, AwsService::Kms), "k", "alias/connectors").unwrap()
}

fn store(script: &Replay) -> SecretsManagerStore {
    SecretsManagerStore::new(client(script, AwsService::SecretsManager), PathTemplate::parse("connectors/{tenant}/{name}").unwrap())
}

fn fault(status: u16, code: &str) -> Step {
    Step::json(status, json!({ "__type": code, "Message": "arn:aws:kms:eu-central-1:123456789012:key/1 says no" }))
}

fn binding(tenant: &TenantId) -> Binding<'_> {
    Binding { tenant, credential: "slack", field: "token", version: 3, key_id: "k" }
}

#[tokio::test]
async fn a_data_key_is_wrapped_in_the_encryption_context_it_is_bound_to() {
    let script = Replay::new([
        Step::json(200, json!({ "CiphertextBlob": BASE64.encode([9; 180]), "KeyId": "arn" })),
        Step::json(200, json!({ "Plaintext": BASE64.encode([7; 32]), "KeyId": "arn" })),
    ]);
    let key = kms(&script);
    let tenant = TenantId::from("acme");
    let wrapped = key.wrap(&Zeroizing::new([7; 32]), &binding(&tenant)).await.unwrap();
    assert_eq!(wrapped, [9; 180]);
    assert_eq!(*key.unwrap(&wrapped, &binding(&tenant)).await.unwrap(), [7; 32]);
    let seen = script.seen();
    let context = json!({ "tenant": "acme", "credential": "slack", "field": "token", "version": "3", "key_id": "k" });
    assert_eq!(seen[0].json(), json!({ "KeyId": "alias/connectors", "Plaintext": BASE64.encode([7; 32]), "EncryptionContext": context }));
    assert_eq!(seen[1].json(), json!({ "CiphertextBlob": BASE64.encode([9; 180]), "EncryptionContext": context, "KeyId": "alias/connectors" }));
    assert_eq!(seen[0].head.url.as_str(), "https://kms.eu-central-1.amazonaws.com/");
    assert_eq!((seen[0].header("x-amz-target"), seen[1].header("x-amz-target")), (Some("TrentService.Encrypt"), Some("TrentService.Decrypt")));
    assert_eq!(seen[0].header("content-type"), Some("application/x-amz-json-1.1"));
    assert_eq!(seen[0].header("x-amz-security-token"), Some("token-canary"));
    assert!(seen[0].header("authorization").unwrap().starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261121/eu-central-1/kms/aws4_request"));
    let shown = format!("{key:?} {:?} {:?}", seen[0], client(&script, AwsService::Kms));
    assert!(!shown.contains("canary"), "{shown}");
}

#[tokio::test]
async fn each_fault_of_kms_has_its_class() {
    use ErrorKind::{Config, Invalid, Transient};
    let tenant = TenantId::from("acme");
    for (step, kind) in [
        (fault(400, "ThrottlingException"), Transient),
        (fault(500, "KMSInternalException"), Transient),
        (fault(500, "com.amazonaws.kms#KeyUnavailableException"), Transient),
        (fault(503, "DependencyTimeoutException"), Transient),
        (Step::text(502, "text/html", "<html>"), Transient),
        (Step::empty(429), Transient),
        (Step::Fail(ErrorKind::NotSent), Transient),
        (fault(400, "com.amazonaws.kms#AccessDeniedException"), Config),
        (fault(400, "UnrecognizedClientException"), Config),
        (fault(400, "ExpiredTokenException"), Config),
        (fault(403, "InvalidSignatureException"), Config),
        (fault(400, "NotFoundException"), Config),
        (fault(400, "DisabledException"), Config),
        (fault(400, "KMSInvalidStateException"), Config),
        (fault(400, "InvalidKeyUsageException"), Config),
        (fault(400, "InvalidGrantTokenException"), Config),
        (fault(400, "InvalidCiphertextException"), Invalid),
        (fault(400, "IncorrectKeyException"), Invalid),
        (Step::text(404, "text/html", "<html>"), Config),
        (Step::json(200, json!({ "Plaintext": "c2hvcnQ=" })), Config),
        (Step::text(200, "text/html", "<html>"), Config),
    ] {
        let case = format!("{step:?}");
        let error = kms(&Replay::new([step])).unwrap(&[9; 180], &binding(&tenant)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{case}: {error}");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("canary") && !shown.contains("<html>") && !shown.contains("123456789012"), "{shown}");
    }
    let error = kms(&Replay::new([fault(400, "x#DisabledException").with_header("x-amzn-requestid", "r-1")]))
        .wrap(&Zeroizing::new([7; 32]), &binding(&tenant))
        .await
        .unwrap_err();
    assert_eq!((error.vendor_code(), error.request_id(), error.status()), (Some("DisabledException"), Some("r-1"), Some(400)));
    assert!(error.message().ends_with("says that the key `alias/connectors` is disabled; enable it"), "{error}");
    let error = kms(&Replay::new([fault(400, "AccessDeniedException")])).unwrap(&[9; 10], &binding(&tenant)).await.unwrap_err();
    assert!(error.message().contains("allow `kms:Decrypt`"), "{error}");
    // A wrapped key that no KMS could have made is not sent.
    let script = Replay::new([]);
    for wrong in [vec![], vec![0; 6145]] {
        assert_eq!(kms(&script).unwrap(&wrong, &binding(&tenant)).await.unwrap_err().kind(), Invalid);
    }
    assert!(script.seen().is_empty());
}

fn value(version: &str, created: u64, text: &str) -> Step {
    Step::json(200, json!({ "ARN": "arn", "Name": "n", "VersionId": version, "SecretString": text, "CreatedDate": created as f64 + 0.5 }))
}

#[tokio::test]
async fn current_is_used_and_previous_while_the_rotation_is_young() {
    let script = Replay::new([value("v2", NOW - 60, r#"{"token":"new","n":1}"#), value("v1", NOW - 9_000_000, r#"{"token":"old"}"#)]);
    let found = store(&script).read(&"acme".into(), "slack").await.unwrap().unwrap();
    assert_eq!(found.fields["token"].expose_secret(), "new");
    assert_eq!(found.previous.unwrap()["token"].expose_secret(), "old");
    let seen = script.seen();
    assert_eq!(seen[0].json(), json!({ "SecretId": "connectors/acme/slack", "VersionStage": "AWSCURRENT" }));
    assert_eq!(seen[1].json(), json!({ "SecretId": "connectors/acme/slack", "VersionStage": "AWSPREVIOUS" }));

    let script = Replay::new([value("v2", NOW - 25 * 3600, "plain text")]);
    let later = store(&script).read(&"acme".into(), "slack").await.unwrap().unwrap();
    assert_eq!(later.fields["value"].expose_secret(), "plain text");
    assert_eq!((later.version, later.previous.is_none()), (found.version, true));
    let script = Replay::new([value("v3", NOW, "x"), fault(400, "ResourceNotFoundException")]);
    let newer = store(&script).read(&"acme".into(), "slack").await.unwrap().unwrap();
    assert!(newer.version != found.version && newer.previous.is_none());
}

#[tokio::test]
async fn each_fault_of_secrets_manager_has_its_class() {
    for (step, kind, text) in [
        (fault(400, "AccessDeniedException"), ErrorKind::Config, "secretsmanager:GetSecretValue"),
        (fault(400, "InvalidRequestException"), ErrorKind::Config, "if its deletion is scheduled, restore it"),
        (fault(400, "DecryptionFailure"), ErrorKind::Config, "kms:Decrypt"),
        (fault(400, "InvalidParameterException"), ErrorKind::Config, "refuses to read"),
        (fault(500, "InternalServiceError"), ErrorKind::Transient, "failed"),
        (fault(400, "LimitExceededException"), ErrorKind::Transient, "quota"),
        (Step::json(200, json!({ "VersionId": "v", "SecretBinary": "AAAA" })), ErrorKind::Config, "as bytes"),
        (Step::json(200, json!({})), ErrorKind::Config, "does not answer as its documentation says"),
    ] {
        let case = format!("{step:?}");
        let error = store(&Replay::new([step])).read(&"acme".into(), "slack").await.unwrap_err();
        assert_eq!(error.kind(), kind, "{case}: {error}");
        assert!(error.message().contains(text), "{case}: {error}");
    }
    assert!(store(&Replay::new([fault(400, "x#ResourceNotFoundException")])).read(&"acme".into(), "slack").await.unwrap().is_none());
    let script = Replay::new([]);
    for hostile in HOSTILE.iter().chain(&["arn:aws:secretsmanager:eu-central-1:1:secret:x"]) {
        assert!(store(&script).read(&"acme".into(), hostile).await.is_err(), "{hostile:?}");
        assert!(store(&script).read(&(*hostile).into(), "slack").await.is_err(), "{hostile:?}");
    }
    assert!(script.seen().is_empty());
}

#[tokio::test]
async fn credentials_are_named_when_they_are_missing_or_halved() {
    let script = Replay::new([]);
    for (vars, text) in [(&[][..], "there are no AWS credentials"), (&KEYS[..1], "AWS_SECRET_ACCESS_KEY is not")] {
        let key = KmsKey::new(with(&script, AwsService::Kms, env(vars), ManualClock::at_unix(NOW)), "k", "alias/c").unwrap();
        let error = key.unwrap(&[1; 9], &binding(&TenantId::default())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains(text), "{error}");
    }
    assert!(script.seen().is_empty());
}

#[tokio::test]
async fn a_web_identity_is_exchanged_once_and_again_before_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "identity-canary\n").unwrap();
    let vars = [("AWS_WEB_IDENTITY_TOKEN_FILE", file.to_str().unwrap()), ("AWS_ROLE_ARN", "arn:aws:iam::1:role/connectors")];
    let sts = |id: &str, end: &str| {
        Step::text(
            200,
            "text/xml",
            format!(
                "<A><Credentials><AccessKeyId>{id}</AccessKeyId><SecretAccessKey>sk-canary</SecretAccessKey>\
                 <SessionToken>st-canary</SessionToken><Expiration>{end}</Expiration></Credentials></A>"
            ),
        )
    };
    let opened = || Step::json(200, json!({ "Plaintext": BASE64.encode([7; 32]) }));
    let script = Replay::new([sts("ASIA1", "2026-11-21T13:00:00Z"), opened(), opened(), sts("ASIA2", "2026-11-21T14:00:00Z"), opened()]);
    let clock = ManualClock::at_unix(NOW);
    let key = KmsKey::new(with(&script, AwsService::Kms, env(&vars), clock.clone()), "k", "alias/c").unwrap();
    let tenant = TenantId::default();
    key.unwrap(&[1; 9], &binding(&tenant)).await.unwrap();
    key.unwrap(&[1; 9], &binding(&tenant)).await.unwrap();
    clock.advance(Duration::from_secs(3301));
    key.unwrap(&[1; 9], &binding(&tenant)).await.unwrap();
    let seen = script.seen();
    assert_eq!(seen[0].head.url.as_str(), "https://sts.eu-central-1.amazonaws.com/");
    let form = String::from_utf8(seen[0].body.to_vec()).unwrap();
    assert_eq!(
        form,
        "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fconnectors&RoleSessionName=connectors&\
         WebIdentityToken=identity-canary"
    );
    let by: Vec<bool> = [(1, "ASIA1"), (2, "ASIA1"), (4, "ASIA2")].map(|(at, id)| seen[at].header("authorization").unwrap().contains(id)).into();
    assert_eq!(by, [true; 3]);
    assert_eq!(seen[1].header("x-amz-security-token"), Some("st-canary"));

    let refused = Step::text(403, "text/xml", "<E><Error><Code>AccessDenied</Code><Message>canary</Message></Error></E>");
    for (step, kind) in [(refused, ErrorKind::Config), (Step::empty(503), ErrorKind::Transient), (Step::empty(200), ErrorKind::Config)] {
        let script = Replay::new([step]);
        let key = KmsKey::new(with(&script, AwsService::Kms, env(&vars), ManualClock::at_unix(NOW)), "k", "alias/c").unwrap();
        let error = key.unwrap(&[1; 9], &binding(&tenant)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }
}

#[tokio::test]
async fn a_containers_credentials_are_fetched_from_its_own_link_only() {
    let served = json!({ "AccessKeyId": "ASIA1", "SecretAccessKey": "s", "Token": "t", "Expiration": "2026-11-21T13:00:00Z" });
    let opened = Step::json(200, json!({ "Plaintext": BASE64.encode([7; 32]) }));
    let vars = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials"), ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "pod-canary")];
    let script = Replay::new([Step::json(200, served), opened]);
    let key = KmsKey::new(with(&script, AwsService::Kms, env(&vars), ManualClock::at_unix(NOW)), "k", "alias/c").unwrap();
    key.unwrap(&[1; 9], &binding(&TenantId::default())).await.unwrap();
    assert_eq!(script.seen()[0].line(), "GET /v1/credentials");
    assert_eq!(script.seen()[0].header("authorization"), Some("pod-canary"));
    let script = Replay::new([]);
    for elsewhere in ["http://credentials.example/x", "http://169.254.169.254/x", "ftp://169.254.170.2/", "nonsense"] {
        let vars = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", elsewhere)];
        let key = KmsKey::new(with(&script, AwsService::Kms, env(&vars), ManualClock::at_unix(NOW)), "k", "alias/c").unwrap();
        assert_eq!(key.unwrap(&[1; 9], &binding(&TenantId::default())).await.unwrap_err().kind(), ErrorKind::Config, "{elsewhere}");
    }
    assert!(script.seen().is_empty());
}

/// The allow-list entry a request travels with.
#[derive(Debug, Default)]
struct Allowed(Mutex<Vec<String>>);

#[async_trait::async_trait]
impl Transport for Allowed {
    async fn send(&self, cx: &connector_core::CallCx, _: connector_core::transport::Request) -> Result<connector_core::transport::Response> {
        self.0.lock().unwrap().push(cx.connection.setting("egress_allow").unwrap_or_default().to_owned());
        Err(Error::new(ErrorKind::NotSent, "nobody is there"))
    }
}

#[tokio::test]
async fn a_client_may_reach_its_own_endpoint_and_nothing_else() {
    let transport = Arc::new(Allowed::default());
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at_unix(NOW));
    let credentials = Arc::new(AwsCredentials::new(transport.clone(), clock.clone(), env(&KEYS), "eu-central-1").unwrap());
    let new = |region: &str, endpoint| AwsClient::new(transport.clone(), clock.clone(), credentials.clone(), AwsService::Kms, region, endpoint);
    for (region, endpoint) in [("eu-central-1", None), ("cn-north-1", None), ("eu-central-1", Some("https://vpce.internal:8443"))] {
        let key = KmsKey::new(new(region, endpoint).unwrap(), "k", "alias/c").unwrap();
        assert_eq!(key.unwrap(&[1; 9], &binding(&TenantId::default())).await.unwrap_err().kind(), ErrorKind::Transient);
    }
    assert_eq!(*transport.0.lock().unwrap(), ["kms.eu-central-1.amazonaws.com", "kms.cn-north-1.amazonaws.com.cn", "vpce.internal:8443"]);
    for (region, endpoint) in
        [("eu central", None), ("evil.example/", None), ("", None), ("eu", Some("http://kms.internal")), ("eu", Some("https://h/path"))]
    {
        assert_eq!(new(region, endpoint).unwrap_err().kind(), ErrorKind::Config, "{region} {endpoint:?}");
    }
    for wrong in ["", "alias/a b", "a\nb", "../x?y", "clé"] {
        assert!(KmsKey::new(new("eu-central-1", None).unwrap(), "k", wrong).is_err(), "{wrong}");
    }
}
