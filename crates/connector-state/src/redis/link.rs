//! One connection to the Redis server for all questions of a process, made again in the background whenever it breaks.
//!
//! Refuses to make a call wait for a connection: without one the answer is an error at once.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use connector_core::error::{Error, ErrorKind, Result};
use redis::{
    Cmd, RedisError, ServerErrorKind, Value,
    aio::{ConnectionLike as _, MultiplexedConnection},
};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};

use super::target::Target;
use crate::fleet::{Eval, Item, Script};

/// How long making a connection may take.
pub(super) const CONNECT: Duration = Duration::from_secs(2);
/// How long to wait before the first and the last of the attempts to connect again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));
/// How long telling news may take; nobody's call waits for it.
const TELL: Duration = Duration::from_secs(1);

/// Aborts its task on drop.
#[derive(Debug)]
pub(super) struct Running(pub(super) JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

type Current = Arc<Mutex<Option<MultiplexedConnection>>>;

/// The connection.
#[derive(Debug)]
pub(super) struct Link {
    current: Current,
    renew: Arc<Notify>,
    _task: Running,
}

/// What came of the first attempt to connect.
pub(super) type First = watch::Receiver<Option<Result<()>>>;

impl Link {
    /// Starts to connect; the second tells what came of the first attempt.
    pub(super) fn start(target: Target) -> (Self, First) {
        let current = Current::default();
        let renew = Arc::new(Notify::new());
        let (told, first) = watch::channel(None);
        let task = tokio::spawn(keep(target, current.clone(), renew.clone(), told));
        (Self { current, renew, _task: Running(task) }, first)
    }

    fn connection(&self) -> Result<MultiplexedConnection> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.clone().ok_or_else(|| Error::new(ErrorKind::Transient, "there is no connection to the Redis server; it is made again by itself"))
    }

    /// Tells everybody who listens to the channel.
    pub(super) async fn publish(&self, channel: &str, message: &[u8]) -> Result<()> {
        let mut connection = self.connection()?;
        let mut command = Cmd::new();
        command.arg("PUBLISH").arg(channel).arg(message);
        let told = tokio::time::timeout(TELL, connection.req_packed_command(&command)).await;
        let told = told.map_err(|_| Error::new(ErrorKind::Transient, "the Redis server does not answer; check it"))?;
        told.and_then(Value::extract_error).map(drop).map_err(|error| fault(&error))
    }
}

#[async_trait]
impl Eval for Link {
    async fn eval(&self, script: &Script, keys: &[String], args: &[String]) -> Result<Vec<Item>> {
        let mut connection = self.connection()?;
        let command = |name: &str, script: &str| {
            let mut command = Cmd::new();
            command.arg(name).arg(script).arg(keys.len()).arg(keys).arg(args);
            command
        };
        let mut said = connection.req_packed_command(&command("EVALSHA", script.digest())).await.and_then(Value::extract_error);
        if said.as_ref().is_err_and(|error| error.kind() == redis::ErrorKind::Server(ServerErrorKind::NoScript)) {
            said = connection.req_packed_command(&command("EVAL", script.text())).await.and_then(Value::extract_error);
        }
        match said.map_err(|error| fault(&error))? {
            Value::Array(items) => items.into_iter().map(item).collect(),
            _ => Err(unreadable()),
        }
    }

    fn renew(&self) {
        self.renew.notify_one();
    }
}

fn item(value: Value) -> Result<Item> {
    match value {
        Value::Int(number) => Ok(Item::Int(number)),
        Value::BulkString(bytes) => Ok(Item::Text(bytes)),
        _ => Err(unreadable()),
    }
}

fn unreadable() -> Error {
    Error::internal("the Redis server answered a script with a type that no script gives")
}

/// A failure as ours. The server's text may quote a key or a value, so of it only the code is kept.
pub(super) fn fault(error: &RedisError) -> Error {
    match error.kind() {
        redis::ErrorKind::AuthenticationFailed => {
            Error::config("the Redis server does not accept the user or password of its URL; correct them, or the server's ACL")
        }
        redis::ErrorKind::Server(ServerErrorKind::NoPerm) => Error::config(
            "the user of the Redis URL may not run scripts or use the fleet's keys; allow `+@scripting +@read +@write +publish +subscribe ~{connectors}:* &{connectors}:*`",
        ),
        _ => {
            let code = error.code().filter(|code| code.len() <= 32).unwrap_or("no code");
            let what = if error.is_timeout() {
                "gave no answer in time"
            } else if error.is_io_error() || error.is_connection_dropped() {
                "cannot be reached, or broke the connection"
            } else {
                "refused a command"
            };
            Error::new(ErrorKind::Transient, format!("the Redis server {what} ({code}); check that it runs, has memory left and takes writes"))
        }
    }
}

/// Keeps one connection open.
async fn keep(target: Target, current: Current, renew: Arc<Notify>, told: watch::Sender<Option<Result<()>>>) {
    let mut wait = BACKOFF.0;
    let put = |connection| *current.lock().unwrap_or_else(PoisonError::into_inner) = connection;
    loop {
        match connect(&target).await {
            Ok((connection, driver)) => {
                put(Some(connection));
                told.send_replace(Some(Ok(())));
                wait = BACKOFF.0;
                tokio::select! {
                    () = driver => tracing::debug!(target: "connectors::fleet", "the connection to the Redis server broke"),
                    () = renew.notified() => tracing::debug!(target: "connectors::fleet", "the connection to the Redis server is given up"),
                }
                put(None);
            }
            Err(error) => {
                tracing::debug!(target: "connectors::fleet", %error, "no connection to the Redis server");
                told.send_replace(Some(Err(error)));
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(BACKOFF.1);
    }
}

async fn connect(target: &Target) -> Result<(MultiplexedConnection, impl Future<Output = ()>)> {
    let connected = tokio::time::timeout(CONNECT, async {
        let stream = target.open().await.map_err(RedisError::from)?;
        MultiplexedConnection::new(&target.login, stream).await
    });
    let connected = connected.await.map_err(|_| Error::new(ErrorKind::Transient, "the Redis server does not answer; check that it runs"))?;
    connected.map_err(|error| fault(&error))
}
