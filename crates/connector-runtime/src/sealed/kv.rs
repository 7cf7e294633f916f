//! The parts of the key-value store that hold what vendors said or what they are to be told, bound to part and key. All others pass through:
//! numbers, marks, leases, and what the vault sealed itself.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{
    Error, Result,
    state::{Condition, Entry, Namespace, PutOutcome, StateStore},
};
use connector_vault::payload::Unopened;

use super::{SealedStore, why};

/// The parts that are sealed: arguments of writes that wait for an approval, replies kept for later steps of an event, results of keyed calls,
/// messages to subscribers. All of them end by themselves within a week.
const SEALED: [&str; 4] = ["approvals", "effects", "idempotency", "push"];

fn is_sealed(namespace: Namespace<'_>) -> bool {
    SEALED.contains(&namespace.name)
}

/// What a value is bound to, besides its tenant.
fn context<'a>(namespace: Namespace<'a>, key: &'a str) -> [&'a [u8]; 3] {
    [b"kv", namespace.name.as_bytes(), key.as_bytes()]
}

impl SealedStore {
    async fn open_entry(&self, namespace: Namespace<'_>, key: &str, mut entry: Entry) -> Result<Entry, Unopened> {
        if is_sealed(namespace) {
            entry.value = self.open(namespace.tenant, &context(namespace, key), entry.value).await?;
        }
        Ok(entry)
    }
}

/// The error of a value that does not open.
fn unreadable(unopened: Unopened, namespace: Namespace<'_>) -> Error {
    Error::from(unopened).with_context("part", namespace.name.to_owned())
}

#[async_trait]
impl StateStore for SealedStore {
    async fn get(&self, namespace: Namespace<'_>, key: &str) -> Result<Option<Entry>> {
        match self.inner.get(namespace, key).await? {
            Some(entry) => self.open_entry(namespace, key, entry).await.map(Some).map_err(|unopened| unreadable(unopened, namespace)),
            None => Ok(None),
        }
    }

    async fn put(&self, namespace: Namespace<'_>, key: &str, value: Bytes, condition: Condition, ttl: Option<Duration>) -> Result<PutOutcome> {
        if !is_sealed(namespace) {
            return self.inner.put(namespace, key, value, condition, ttl).await;
        }
        let sealed = self.seal(namespace.tenant, &context(namespace, key), value).await?;
        match self.inner.put(namespace, key, sealed, condition, ttl).await? {
            PutOutcome::Refused(Some(entry)) => {
                let opened = self.open_entry(namespace, key, entry).await;
                opened.map(|entry| PutOutcome::Refused(Some(entry))).map_err(|unopened| unreadable(unopened, namespace))
            }
            outcome => Ok(outcome),
        }
    }

    async fn delete(&self, namespace: Namespace<'_>, key: &str, condition: Condition) -> Result<bool> {
        self.inner.delete(namespace, key, condition).await
    }

    /// A value that does not open is empty, so that the others can be had.
    async fn scan(&self, namespace: Namespace<'_>, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Entry)>> {
        let mut entries = self.inner.scan(namespace, prefix, after, limit).await?;
        if !is_sealed(namespace) {
            return Ok(entries);
        }
        for (key, entry) in &mut entries {
            let sealed = std::mem::take(&mut entry.value);
            match self.open(namespace.tenant, &context(namespace, key), sealed).await {
                Ok(value) => entry.value = value,
                Err(unopened) => {
                    tracing::error!(tenant = %namespace.tenant, part = namespace.name, key, why = why(&unopened), "a record cannot be read")
                }
            }
        }
        Ok(entries)
    }
}
