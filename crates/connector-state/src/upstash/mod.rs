//! What a fleet shares over Upstash's REST API: exact limits and a cache of replies. <https://upstash.com/docs/redis/features/restapi>
//!
//! The same scripts and keys as over Redis, so a fleet may use both ways to one database. Scripts are sent as writes, which only the primary
//! takes, so a replica's lag shows nothing stale. Refuses news: they need a stream per process and are the state store's business. Refuses
//! to put the token into a URL, where logs would keep it. The scripts' use of `TIME` was tried against a Redis server behind a front of the
//! same shape, not against Upstash itself (unverified).

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    CallCx, Connection, TenantId,
    error::{Error, ErrorKind, Result},
    fleet::{SharedAsk, SharedCache, SharedLimits, SharedTurn, SharedValue},
    transport::{Body, Request, Transport},
};
use http::{HeaderValue, Method, StatusCode, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::Value;

use crate::fleet::{Eval, FleetOptions, Item, Script, Scripted};

/// The longest answer that is read: the longest value with its escapes.
const MAX_ANSWER: usize = 2 * 1024 * 1024;

/// [`SharedLimits`] and [`SharedCache`] over one Upstash database.
#[derive(Debug)]
pub struct UpstashFleet(Scripted<Rest>);

impl UpstashFleet {
    /// Uses the database at `url` (`https://NAME.upstash.io`) with its REST token. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the URL or the token will not do: plain http is for this machine only.
    pub fn new(transport: Arc<dyn Transport>, url: &str, token: &SecretString) -> Result<Self> {
        Self::with(transport, url, token, FleetOptions::default())
    }

    /// As [`UpstashFleet::new`], with these options. The default budget of 50 ms fits a database in the same region; further away raise it.
    ///
    /// # Errors
    /// As [`UpstashFleet::new`], or the options will not do.
    pub fn with(transport: Arc<dyn Transport>, url: &str, token: &SecretString, options: FleetOptions) -> Result<Self> {
        options.check()?;
        Ok(Self(Scripted::new(Rest::new(transport, url, token)?, &options)))
    }

    /// Whether the database was lost and is being probed, for health pages.
    pub fn is_lost(&self) -> bool {
        self.0.is_lost()
    }
}

#[async_trait]
impl SharedLimits for UpstashFleet {
    async fn take(&self, ask: &SharedAsk<'_>) -> Result<SharedTurn> {
        self.0.take(ask).await
    }
}

#[async_trait]
impl SharedCache for UpstashFleet {
    async fn get(&self, key: &[u8; 32]) -> Result<Option<SharedValue>> {
        self.0.get(key).await
    }

    async fn stamp(&self) -> Result<u64> {
        self.0.stamp().await
    }

    async fn put(&self, key: &[u8; 32], value: Bytes, tags: &[[u8; 32]], stamp: u64, ttl: Duration) -> Result<()> {
        self.0.put(key, value, tags, stamp, ttl).await
    }

    async fn drop_tags(&self, tags: &[[u8; 32]]) -> Result<()> {
        self.0.drop_tags(tags).await
    }
}

/// The REST API.
#[derive(Debug)]
struct Rest {
    transport: Arc<dyn Transport>,
    cx: CallCx,
    /// Marked sensitive, so that nobody prints it.
    authorization: HeaderValue,
}

/// `{"result": …}` or `{"error": "ERR …"}`.
#[derive(Debug, Deserialize)]
struct Answer {
    result: Option<Value>,
    error: Option<String>,
}

impl Rest {
    fn new(transport: Arc<dyn Transport>, url: &str, token: &SecretString) -> Result<Self> {
        let connection = Connection::named("fleet".into(), TenantId::default(), "upstash", url)?;
        let host = connection.host().trim_matches(['[', ']']);
        let is_local = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        if connection.base_url.scheme() != "https" && !is_local {
            return Err(Error::config("the Upstash database would be reached without encryption; write https://"));
        }
        if connection.base_url.path() != "/" {
            return Err(Error::config("the Upstash URL must have no path: https://NAME.upstash.io"));
        }
        // An administrator wrote the address into the hub's file, so it may be one that is not public.
        let allowed = connection.base_url.port().map_or_else(|| connection.host().to_owned(), |port| format!("{}:{port}", connection.host()));
        let connection = connection.with_setting("egress_allow", allowed);
        let mut authorization = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()))
            .ok()
            .filter(|_| !token.expose_secret().trim().is_empty())
            .ok_or_else(|| Error::config("the Upstash token is empty or holds what no header can; use UPSTASH_REDIS_REST_TOKEN of its console"))?;
        authorization.set_sensitive(true);
        Ok(Self { transport, cx: CallCx::new(Arc::new(connection)).with_operation("fleet"), authorization })
    }

    async fn command(&self, name: &str, script: &str, keys: &[String], args: &[String]) -> Result<Answer> {
        let count = keys.len().to_string();
        let words: Vec<&str> = [name, script, &count].into_iter().chain(keys.iter().chain(args).map(String::as_str)).collect();
        let body = serde_json::to_vec(&words).map_err(|error| Error::internal("a command cannot be written as JSON").with_source(error))?;
        let mut request = Request::new(Method::POST, self.cx.connection.base_url.clone());
        request.head.headers.insert(header::AUTHORIZATION, self.authorization.clone());
        request.head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request.body = Body::Bytes(body.into());
        let (head, body) = self.transport.send(&self.cx, request).await?.into_parts();
        let body = body.collect(MAX_ANSWER).await?;
        if matches!(head.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(Error::config("Upstash does not accept the token, or it may only read; use UPSTASH_REDIS_REST_TOKEN of its console"));
        }
        serde_json::from_slice(&body).map_err(|error| {
            Error::new(ErrorKind::Transient, "Upstash answered with something else than JSON; check the URL")
                .with_status(head.status.as_u16())
                .with_source(error)
        })
    }
}

#[async_trait]
impl Eval for Rest {
    async fn eval(&self, script: &Script, keys: &[String], args: &[String]) -> Result<Vec<Item>> {
        let mut answer = self.command("EVALSHA", script.digest(), keys, args).await?;
        if answer.error.as_ref().is_some_and(|error| error.starts_with("NOSCRIPT")) {
            answer = self.command("EVAL", script.text(), keys, args).await?;
        }
        if let Some(error) = answer.error {
            // Its text may quote a key or a value; its first word is a code.
            let code = error.split_whitespace().next().filter(|code| code.len() <= 32 && code.bytes().all(|byte| byte.is_ascii_uppercase()));
            return Err(Error::new(
                ErrorKind::Transient,
                format!("Upstash refused a command ({}); check the database's limits in its console", code.unwrap_or("no code")),
            ));
        }
        let unreadable = || Error::internal("Upstash answered a script with a type that no script gives");
        let Some(Value::Array(items)) = answer.result else { return Err(unreadable()) };
        let item = |value: Value| match value {
            Value::Number(number) => number.as_i64().map(Item::Int),
            Value::String(text) => Some(Item::Text(text.into_bytes())),
            _ => None,
        };
        items.into_iter().map(|value| item(value).ok_or_else(unreadable)).collect()
    }

    /// Each request stands alone, and the transport looks after its connections.
    fn renew(&self) {}
}
