//! An authorization server of our own choosing: the certified `oidc-provider`, started on a free port and ended with us.
//!
//! It is strict: using an old refresh token again revokes the whole family.

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};
use url::form_urlencoded;

use super::client::Client;
use crate::counterparts;

/// The confidential client every counterpart knows; it opens only this server.
pub(crate) const CLIENT_ID: &str = "app";
pub(crate) const CLIENT_SECRET: &str = "app-secret";
/// Where it sends people back to. Nothing listens there: the robot reads the address.
const REDIRECT: &str = "http://127.0.0.1:18999/cb";
/// Seconds an access token lives at the server.
pub(crate) const LIFETIME: u64 = 3600;
/// How long node may take to start.
const START: Duration = Duration::from_secs(60);

/// A running authorization server; ended when dropped.
#[derive(Debug)]
pub(crate) struct Provider {
    issuer: String,
    robot: PathBuf,
    client: Client,
    _child: Child,
}

/// The tokens of one consent.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) access: SecretString,
    pub(crate) refresh: SecretString,
}

impl Provider {
    /// Starts one, and waits until it listens.
    pub(crate) async fn start() -> Result<Self> {
        let scripts = counterparts::shared()?.join("counterparts");
        counterparts::cache()?;
        let mut command = Command::new("bash");
        command.arg(scripts.join("oidc-provider.sh")).env("AT_TTL", LIFETIME.to_string());
        let (issuer, child) = listening(command).await?;
        Ok(Self { issuer, robot: scripts.join("oidc_robot.py"), client: Client::new()?, _child: child })
    }

    /// Its base URL.
    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Lets a stand-in for a person sign in and consent, and exchanges the code: the first tokens of a new family.
    pub(crate) async fn family(&self) -> Result<Family> {
        let verifier: String = std::iter::repeat_with(fastrand::alphanumeric).take(64).collect();
        let challenge = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(Sha256::digest(&verifier));
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("client_id", CLIENT_ID)
            .append_pair("response_type", "code")
            .append_pair("redirect_uri", REDIRECT)
            .append_pair("scope", "openid offline_access api.read")
            .append_pair("prompt", "consent")
            .append_pair("state", "chaos")
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256")
            .finish();
        let output =
            Command::new("python3").arg(&self.robot).arg(format!("{}/auth?{query}", self.issuer)).output().await.context("starting the robot")?;
        if !output.status.success() {
            bail!("nobody could sign in: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let back = url::Url::parse(String::from_utf8_lossy(&output.stdout).trim()).context("the robot printed no address")?;
        let code = back.query_pairs().find(|(name, _)| name == "code").context("the redirect carries no code")?.1.into_owned();
        let form = [("grant_type", "authorization_code"), ("code", &code), ("redirect_uri", REDIRECT), ("code_verifier", &verifier)];
        let answer = self.post("/token", &form).await?;
        let token =
            |name: &str| answer.get(name).and_then(Value::as_str).map(SecretString::from).with_context(|| format!("the answer has no {name}"));
        Ok(Family { access: token("access_token")?, refresh: token("refresh_token")? })
    }

    /// Whether the server would still accept this token (RFC 7662).
    pub(crate) async fn active(&self, token: &SecretString) -> Result<bool> {
        let answer = self.post("/token/introspection", &[("token", token.expose_secret())]).await?;
        Ok(answer.get("active").and_then(Value::as_bool).unwrap_or(false))
    }

    async fn post(&self, path: &str, form: &[(&str, &str)]) -> Result<Value> {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("{CLIENT_ID}:{CLIENT_SECRET}"));
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&format!("Basic {basic}"))?);
        let answer = self.client.fetch(Method::POST, &format!("{}{path}", self.issuer), headers, Bytes::from(body)).await?;
        if !answer.status.is_success() {
            bail!("{path} answered {}", answer.status);
        }
        serde_json::from_slice(&answer.body).map_err(|_| anyhow::anyhow!("{path} answered without JSON"))
    }
}

/// Starts a server that takes its port from `OIDC_PORT` and prints `oidc-provider ISSUER` when it listens.
pub(crate) async fn listening(mut command: Command) -> Result<(String, Child)> {
    let port = free_port()?;
    command.env("OIDC_PORT", port.to_string()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().context("starting oidc-provider (it needs bash and node)")?;
    let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    let heard = tokio::time::timeout(START, async {
        while let Some(line) = lines.next_line().await? {
            if line.starts_with("oidc-provider http") {
                return anyhow::Ok(true);
            }
        }
        Ok(false)
    });
    if !heard.await.context("oidc-provider did not listen within a minute")?? {
        bail!("oidc-provider ended before it listened");
    }
    // Whatever else it says is read and dropped, so that it never waits for a reader.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok((format!("http://127.0.0.1:{port}"), child))
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
