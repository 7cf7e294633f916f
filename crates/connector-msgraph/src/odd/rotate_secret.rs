//! A new client secret for the app registration, and the end of the old one. Unverified: the calls are those of
//! <https://learn.microsoft.com/graph/api/application-addpassword> and
//! <https://learn.microsoft.com/graph/api/application-removepassword>, from memory, and were tried against a fake only.
//!
//! The app needs `Application.ReadWrite.OwnedBy` and must own itself. Refuses to guess which secret is the old one: its key id is kept
//! beside it in the field `secret_key_id`, and a secret without one is removed by a person.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    CallCx, Error, ErrorKind, Result,
    clock::unix_seconds,
    credential::Credential,
    rotation::Issued,
    transport::{Body, Request},
};
use connector_manifest::{Engine, NativeRotator, RawReply};
use http::{HeaderValue, Method, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use url::Url;

/// The credential's field with the id Entra gave the secret.
pub(crate) const KEY_ID: &str = "secret_key_id";

/// How long one request may take. Waiting less would only make a secret that nobody has more likely.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Issues and removes client secrets.
#[derive(Debug)]
pub(crate) struct RotateSecret;

/// What `addPassword` answers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Added {
    key_id: String,
    #[serde(deserialize_with = "secret")]
    secret_text: SecretString,
    #[serde(default)]
    end_date_time: Option<String>,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

#[async_trait]
impl NativeRotator for RotateSecret {
    async fn issue(&self, engine: &Engine, cx: &CallCx, current: &Credential) -> Result<Issued> {
        // Entra shows the name, so a secret that was lost on its way can be found and removed.
        let name = format!("connectors {}", unix_seconds(engine.clock().wall()));
        let request = request(cx, current, "addPassword", &json!({ "passwordCredential": { "displayName": name } }))?;
        let lost = |error: Error| {
            Error::new(
                ErrorKind::Unknown,
                format!(
                    "nobody knows whether Entra made the secret `{name}`; if it is listed at the app registration, it is unused and can be removed"
                ),
            )
            .with_source(error)
        };
        let reply = match send(engine, cx, request).await {
            Err(error) if error.kind().certainly_not_done() || !error.kind().is_passing() => return Err(error),
            Err(error) => return Err(lost(error)),
            Ok(reply) if reply.is_success() => reply,
            Ok(reply) => {
                let error = engine.error_for(cx, &reply);
                return Err(if reply.status >= 500 && !error.kind().certainly_not_done() { lost(error) } else { advised(error) });
            }
        };
        // serde's messages quote what they dislike, and that is the secret here.
        let added: Added = serde_json::from_slice(&reply.body).map_err(|_| lost(Error::protocol("addPassword did not answer as documented")))?;
        if added.secret_text.expose_secret().is_empty() || added.key_id.is_empty() {
            return Err(lost(Error::protocol("addPassword answered without a secret")));
        }
        Ok(Issued {
            expires_at: added.end_date_time.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok()).map(SystemTime::from),
            fields: vec![("client_secret".to_owned(), added.secret_text), (KEY_ID.to_owned(), added.key_id.into())],
        })
    }

    async fn retire(&self, engine: &Engine, cx: &CallCx, old: &Credential) -> Result<()> {
        let Some(key_id) = old.field(KEY_ID).map(|id| id.expose_secret()).filter(|id| is_guid(id)) else {
            return Err(Error::unsupported(format!(
                "the old client secret has no field `{KEY_ID}`, so nobody can tell which of the app's secrets it is; remove it at the app registration"
            )));
        };
        let removed = send(engine, cx, request(cx, old, "removePassword", &json!({ "keyId": key_id }))?).await?;
        if removed.is_success() || removed.status == 404 {
            return Ok(());
        }
        let error = engine.error_for(cx, &removed);
        // Entra refuses to remove what is not there; whether it is there decides, not the words of the refusal.
        if error.kind() == ErrorKind::Invalid {
            let mut look = Request::new(Method::GET, address(cx, old, "?$select=passwordCredentials")?);
            look.head.headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
            let listed = send(engine, cx, look).await?;
            if let Ok(app) = serde_json::from_slice::<Value>(&listed.body)
                && listed.is_success()
                && let Some(secrets) = app["passwordCredentials"].as_array()
                && !secrets.iter().any(|one| one["keyId"].as_str().is_some_and(|id| id.eq_ignore_ascii_case(key_id)))
            {
                return Ok(());
            }
        }
        Err(advised(error))
    }
}

/// Adds what a refusal most likely means.
fn advised(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Forbidden => error.with_context("needs", "Application.ReadWrite.OwnedBy, and the app among its own owners"),
        _ => error,
    }
}

fn request(cx: &CallCx, credential: &Credential, action: &str, body: &Value) -> Result<Request> {
    let mut request = Request::new(Method::POST, address(cx, credential, &format!("/{action}"))?);
    request.head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    request.head.headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    request.body = Body::Bytes(Bytes::from(body.to_string()));
    Ok(request)
}

/// The app registration by its client id.
fn address(cx: &CallCx, credential: &Credential, rest: &str) -> Result<Url> {
    let name = cx.connection.credential.as_deref().unwrap_or_default();
    let id = credential.require(name, "client_id")?.expose_secret();
    // It becomes part of a path, inside quotes.
    if !is_guid(id) {
        return Err(Error::config(format!("the field `client_id` of credential `{name}` is not the id of an app registration, which is a GUID")));
    }
    Url::parse(&format!("{}/applications(appId='{id}'){rest}", cx.connection.base()))
        .map_err(|_| Error::config("the base URL cannot be extended by the app registration's path"))
}

async fn send(engine: &Engine, cx: &CallCx, request: Request) -> Result<RawReply> {
    match tokio::time::timeout(TIMEOUT, engine.send_raw(cx, request, true)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Error::new(ErrorKind::Timeout, format!("Graph did not answer within {TIMEOUT:?}"))),
    }
}

/// `8-4-4-4-12` hexadecimal digits.
fn is_guid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12]) && groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
