//! A client secret is replaced at a fake Entra: what is asked, what is kept, what is never shown, and what happens when the answer is lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "in tests a panic is the failure")]

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use connector_core::{
    CallCx, Connection, Connector, Error, ErrorKind, Result,
    auth::NoAuth,
    credential::Credential,
    layer::stack::StackParts,
    transport::{Body, Request, Response, Transport},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

const APP: &str = "11111111-2222-4333-8444-555555555555";
const OLD: &str = "aaaaaaaa-2222-4333-8444-555555555555";
const NEW: &str = "bbbbbbbb-2222-4333-8444-555555555555";

/// An app registration with its secrets' ids, and what happens to the next request.
#[derive(Debug, Default)]
struct Entra {
    secrets: Mutex<Vec<String>>,
    requests: Mutex<Vec<(String, Value)>>,
    mishap: Mutex<Option<Mishap>>,
}

#[derive(Debug, Clone, Copy)]
enum Mishap {
    NotSent,
    AnswerLost,
    Silence,
    Status(u16),
    Text(&'static str),
}

#[async_trait]
impl Transport for Entra {
    async fn send(&self, _: &CallCx, request: Request) -> Result<Response> {
        let url = request.head.url.clone();
        let body: Value = serde_json::from_slice(&request.body.collect(1 << 16).await?).unwrap_or_default();
        let mishap = self.mishap.lock().unwrap().take();
        if matches!(mishap, Some(Mishap::NotSent)) {
            return Err(Error::new(ErrorKind::NotSent, "connection refused"));
        }
        self.requests.lock().unwrap().push((format!("{} {}", request.head.method, &url[url::Position::BeforePath..]), body.clone()));
        let answer = |status: u16, body: Value| Ok(http::Response::builder().status(status).body(Body::Bytes(body.to_string().into())).unwrap());
        let mut secrets = self.secrets.lock().unwrap().clone();
        let outcome = if url.path().ends_with("/addPassword") {
            secrets.push(NEW.to_owned());
            answer(200, json!({ "keyId": NEW, "secretText": "s3cret-canary", "endDateTime": "2027-05-20T10:00:00Z", "displayName": "x" }))
        } else if url.path().ends_with("/removePassword") {
            let known = secrets.iter().any(|id| body["keyId"] == **id);
            secrets.retain(|id| body["keyId"] != **id);
            if known {
                answer(204, Value::Null)
            } else {
                answer(400, json!({ "error": { "code": "Request_BadRequest", "message": "No password credential found with keyId." } }))
            }
        } else {
            answer(200, json!({ "passwordCredentials": secrets.iter().map(|id| json!({ "keyId": id })).collect::<Vec<_>>() }))
        };
        if !matches!(mishap, Some(Mishap::Status(_))) {
            *self.secrets.lock().unwrap() = secrets;
        }
        match mishap {
            Some(Mishap::AnswerLost) => Err(Error::new(ErrorKind::Transient, "connection reset")),
            Some(Mishap::Silence) => std::future::pending().await,
            Some(Mishap::Status(status)) => {
                answer(status, json!({ "error": { "code": "Authorization_RequestDenied", "message": "Insufficient privileges." } }))
            }
            Some(Mishap::Text(text)) => Ok(http::Response::new(Body::Bytes(text.into()))),
            _ => outcome,
        }
    }
}

struct Rig {
    entra: Arc<Entra>,
    connector: Arc<dyn Connector>,
    cx: CallCx,
}

impl Rig {
    fn new() -> Self {
        let entra = Arc::new(Entra { secrets: Mutex::new(vec![OLD.to_owned()]), ..Entra::default() });
        let connector = connector_msgraph::connector(entra.clone(), Arc::new(NoAuth), &StackParts::default()).unwrap();
        let connection = Connection::new("msgraph", "https://graph.microsoft.com/v1.0").unwrap().with_credential("app");
        Self { entra, connector, cx: CallCx::new(Arc::new(connection)) }
    }

    async fn issue(&self, credential: &Credential) -> Result<connector_core::rotation::Issued> {
        self.connector.rotator().unwrap().issue(&self.cx, &*self.connector, credential).await
    }

    async fn retire(&self, credential: &Credential) -> Result<()> {
        self.connector.rotator().unwrap().retire(&self.cx, &*self.connector, credential).await
    }

    fn requests(&self) -> Vec<String> {
        self.entra.requests.lock().unwrap().iter().map(|(line, _)| line.clone()).collect()
    }
}

fn credential(key_id: Option<&str>) -> Credential {
    let mut fields = vec![("client_id", SecretString::from(APP)), ("client_secret", "old-canary".into())];
    fields.extend(key_id.map(|id| ("secret_key_id", SecretString::from(id))));
    Credential::new(fields)
}

#[tokio::test]
async fn a_successor_is_issued_and_the_old_secret_removed() {
    let rig = Rig::new();
    let issued = rig.issue(&credential(Some(OLD))).await.unwrap();
    let fields: Vec<_> = issued.fields.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).collect();
    assert_eq!(fields, [("client_secret", "s3cret-canary"), ("secret_key_id", NEW)]);
    assert_eq!(issued.expires_at, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_810_807_200)));
    assert!(!format!("{issued:?}").contains("canary"));
    assert_eq!(*rig.entra.secrets.lock().unwrap(), [OLD, NEW], "both work during the overlap");
    rig.retire(&credential(Some(OLD))).await.unwrap();
    assert_eq!(*rig.entra.secrets.lock().unwrap(), [NEW]);
    // Once more does no harm.
    rig.retire(&credential(Some(OLD))).await.unwrap();
    let path = format!("/v1.0/applications(appId='{APP}')");
    assert_eq!(
        rig.requests(),
        [
            format!("POST {path}/addPassword"),
            format!("POST {path}/removePassword"),
            format!("POST {path}/removePassword"),
            format!("GET {path}?$select=passwordCredentials"),
        ]
    );
    let (_, body) = rig.entra.requests.lock().unwrap()[0].clone();
    assert!(body["passwordCredential"]["displayName"].as_str().unwrap().starts_with("connectors "));
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_never_tried_again_and_says_what_to_look_for() {
    for mishap in [Mishap::AnswerLost, Mishap::Silence, Mishap::Status(504), Mishap::Text("<html>"), Mishap::Text(r#"{"secretText":"canary"}"#)] {
        let rig = Rig::new();
        *rig.entra.mishap.lock().unwrap() = Some(mishap);
        let error = rig.issue(&credential(None)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unknown, "{mishap:?}: {error}");
        assert!(error.message().contains("`connectors "), "{error}");
        assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
        assert_eq!(rig.requests().len(), 1, "{mishap:?}");
    }
}

#[tokio::test]
async fn what_surely_did_not_happen_is_told_as_it_is() {
    for (mishap, kind) in
        [(Mishap::NotSent, ErrorKind::NotSent), (Mishap::Status(403), ErrorKind::Forbidden), (Mishap::Status(429), ErrorKind::Throttled)]
    {
        let rig = Rig::new();
        *rig.entra.mishap.lock().unwrap() = Some(mishap);
        let error = rig.issue(&credential(None)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(error.context_value("needs").is_some(), kind == ErrorKind::Forbidden);
    }
}

#[tokio::test]
async fn no_secret_is_removed_on_a_guess() {
    let rig = Rig::new();
    for old in [credential(None), credential(Some("x')/removeKey"))] {
        assert_eq!(rig.retire(&old).await.unwrap_err().kind(), ErrorKind::Unsupported);
    }
    let foreign = Credential::new([("client_id", "x')/y"), ("client_secret", "s"), ("secret_key_id", OLD)]);
    assert_eq!(rig.issue(&foreign).await.unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(rig.retire(&foreign).await.unwrap_err().kind(), ErrorKind::Config);
    assert!(rig.requests().is_empty());
    // A refusal for another reason stays one: the secret is still listed.
    *rig.entra.mishap.lock().unwrap() = Some(Mishap::Status(400));
    assert_eq!(rig.retire(&credential(Some(OLD))).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(*rig.entra.secrets.lock().unwrap(), [OLD]);
}
