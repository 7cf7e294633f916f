//! What is remembered of each effect: that it was done, and what it answered, so that an event that is handled again goes on where it stopped.

use std::{sync::Arc, time::Duration};

use connector_core::{
    Error, ErrorKind, Result, TenantId, redact,
    state::{Condition, Namespace, Store},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The part of the store.
const NAMESPACE: &str = "effects";
/// The longest reply that is kept, in bytes of JSON. A step with a longer one is done again: reads read again, writes answer from their
/// idempotency record.
const MAX_REPLY: usize = 256 * 1024;

/// How long a claim holds: shorter than the lease of a job, so that the next attempt after a crash finds it lapsed.
const CLAIM: Duration = Duration::from_secs(30);

/// How far an effect got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It was done.
    Done,
    /// Its call is in the outbox, which sees to it.
    Queued,
    /// Its call waits for an approval, and is made when that is given.
    Waiting,
    /// Its call was denied by a person.
    Denied,
}

/// What is remembered of an effect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) outcome: Outcome,
    /// The reply, without values under secret names, if a later step may ask for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reply: Option<Value>,
    /// The approval that is waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) approval: Option<String>,
}

impl Mark {
    /// Done, with nothing to remember.
    pub(crate) fn of(outcome: Outcome) -> Self {
        Self { outcome, reply: None, approval: None }
    }

    /// Done, with a reply that later steps may use. Those see it as it is kept, so that they do the same after a crash.
    pub(crate) fn replied(mut reply: Value) -> Self {
        redact::redact(&mut reply);
        Self { reply: Some(reply), ..Self::of(Outcome::Done) }
    }
}

/// The marks of all effects.
#[derive(Debug, Clone)]
pub(crate) struct Marks {
    store: Arc<dyn Store>,
}

/// A store that cannot be asked now is no reason to give up an event.
fn passing(error: Error, what: &str) -> Error {
    Error::new(ErrorKind::Transient, format!("{what}; the state store is in trouble")).with_source(error)
}

impl Marks {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// What is remembered under `key`.
    ///
    /// # Errors
    /// [`ErrorKind::Transient`] if the store cannot be read.
    pub(crate) async fn get(&self, tenant: &TenantId, key: &str) -> Result<Option<Mark>> {
        let entry = self.store.get(Namespace::new(tenant, NAMESPACE), key).await;
        let Some(entry) = entry.map_err(|error| passing(error, "it cannot be told which steps are done"))? else { return Ok(None) };
        serde_json::from_slice(&entry.value).map(Some).map_err(|error| Error::internal("the mark of an effect cannot be read").with_source(error))
    }

    /// Remembers. Durable when it returns.
    ///
    /// # Errors
    /// [`ErrorKind::Transient`] if the store cannot be written: the effect will be tried again, under its key.
    pub(crate) async fn put(&self, tenant: &TenantId, key: &str, mark: &Mark, ttl: Option<Duration>) -> Result<()> {
        let text = serde_json::to_vec(mark).map_err(|error| Error::internal("the mark of an effect cannot be written").with_source(error))?;
        if text.len() > MAX_REPLY {
            tracing::debug!(key, bytes = text.len(), "the reply of a step is too long to be kept; the step is done again if its event is");
            return Ok(());
        }
        let put = self.store.put(Namespace::new(tenant, NAMESPACE), key, text.into(), Condition::Any, ttl).await;
        put.map(drop).map_err(|error| passing(error, "it cannot be remembered that a step is done"))
    }

    /// Makes this caller the one who sees to `key`, for [`CLAIM`]. `false`: it is done, or another one is at it.
    ///
    /// # Errors
    /// [`ErrorKind::Transient`] if the store cannot be written.
    pub(crate) async fn claim(&self, tenant: &TenantId, key: &str) -> Result<bool> {
        let mark =
            serde_json::to_vec(&Mark::of(Outcome::Waiting)).map_err(|error| Error::internal("a claim cannot be written").with_source(error))?;
        let put = self.store.put(Namespace::new(tenant, NAMESPACE), key, mark.into(), Condition::Absent, Some(CLAIM)).await;
        put.map(|put| put.is_stored()).map_err(|error| passing(error, "it cannot be told whether something is done already"))
    }

    /// Forgets.
    ///
    /// # Errors
    /// [`ErrorKind::Transient`] if the store cannot be written.
    pub(crate) async fn forget(&self, tenant: &TenantId, key: &str) -> Result<()> {
        let removed = self.store.delete(Namespace::new(tenant, NAMESPACE), key, Condition::Any).await;
        removed.map(drop).map_err(|error| passing(error, "the mark of an effect cannot be removed"))
    }
}

#[cfg(test)]
mod tests {
    use connector_state::MemoryState;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn a_mark_keeps_its_reply_without_secrets_and_long_ones_not_at_all() {
        let marks = Marks::new(Arc::new(MemoryState::default()));
        let tenant = TenantId::from("acme");
        assert_eq!(marks.get(&tenant, "k").await.unwrap(), None);
        let mark = Mark::replied(json!({ "id": 7, "access_token": "canary" }));
        marks.put(&tenant, "k", &mark, None).await.unwrap();
        let kept = marks.get(&tenant, "k").await.unwrap().unwrap();
        assert_eq!(kept.reply, Some(json!({ "id": 7, "access_token": "REDACTED" })));
        assert_eq!(kept, mark, "the first run sees what a later one sees");
        assert_eq!(marks.get(&"globex".into(), "k").await.unwrap(), None);
        marks.put(&tenant, "long", &Mark::replied(json!("x".repeat(MAX_REPLY))), None).await.unwrap();
        assert_eq!(marks.get(&tenant, "long").await.unwrap(), None);
        marks.forget(&tenant, "k").await.unwrap();
        assert_eq!(marks.get(&tenant, "k").await.unwrap(), None);
    }
}
