//! Four verbs over namespaced keys: enough for tokens, checkpoints, idempotency records and leases.

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{context::TenantId, error::Result};

/// A tenant's named part of the store, for example `tokens`.
#[derive(Debug, Clone, Copy)]
pub struct Namespace<'a> {
    /// The tenant.
    pub tenant: &'a TenantId,
    /// The part.
    pub name: &'a str,
}

impl<'a> Namespace<'a> {
    /// The part `name` of `tenant`.
    pub fn new(tenant: &'a TenantId, name: &'a str) -> Self {
        Self { tenant, name }
    }
}

/// A stored value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The value.
    pub value: Bytes,
    /// Grows with every write of the key, also across delete and re-create.
    pub version: u64,
}

/// When a write may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Always.
    Any,
    /// Only if the key is not there (or has expired).
    Absent,
    /// Only if the key is at this version.
    Is(u64),
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutOutcome {
    /// Written, now at this version.
    Stored(u64),
    /// The condition did not hold; this is what is there.
    Refused(Option<Entry>),
}

impl PutOutcome {
    /// Whether it was written.
    pub fn is_stored(&self) -> bool {
        matches!(self, Self::Stored(_))
    }
}

/// A durable map.
#[async_trait]
pub trait StateStore: Debug + Send + Sync + 'static {
    /// The value of `key`, unless it is not there or has expired.
    async fn get(&self, namespace: Namespace<'_>, key: &str) -> Result<Option<Entry>>;

    /// Writes `key` if `condition` holds, to be forgotten after `ttl` if one is given. Durable when it returns.
    async fn put(&self, namespace: Namespace<'_>, key: &str, value: Bytes, condition: Condition, ttl: Option<Duration>) -> Result<PutOutcome>;

    /// Removes `key` if `condition` holds. `true` if something was removed.
    async fn delete(&self, namespace: Namespace<'_>, key: &str, condition: Condition) -> Result<bool>;

    /// Up to `limit` entries whose key starts with `prefix`, in key order, after the key `after`.
    async fn scan(&self, namespace: Namespace<'_>, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Entry)>>;
}
