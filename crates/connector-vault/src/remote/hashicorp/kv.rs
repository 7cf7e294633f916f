//! Secrets of a KV version 2 engine, and the version before while it is young.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use connector_core::{Result, TenantId, clock::unix_seconds};
use http::{Method, StatusCode};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Call, HashiClient, mount_segments};
use crate::{
    manager::{ManagedSecret, SecretManager},
    remote::{OVERLAP, PathTemplate, fields},
};

/// A KV v2 engine as a secret manager. Deleted and destroyed versions count as absent.
#[derive(Debug)]
pub struct KvStore {
    client: HashiClient,
    mount: String,
    path: PathTemplate,
}

impl KvStore {
    /// The engine at `mount`, with secrets at `path`.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] for a mount that is not a path.
    pub fn new(client: HashiClient, mount: &str, path: PathTemplate) -> Result<Self> {
        mount_segments(mount)?;
        Ok(Self { client, mount: mount.trim_matches('/').to_owned(), path })
    }

    async fn version(&self, path: &[String], version: Option<u64>) -> Result<Option<Version>> {
        let mut segments = mount_segments(&self.mount)?;
        segments.push("data");
        segments.extend(path.iter().map(String::as_str));
        let needs = (format!("{}/data/{}", self.mount, self.path.pattern("+")), "read");
        let answer = self.client.call(Call { method: Method::GET, path: segments, version, body: Bytes::new(), needs }).await?;
        match answer.status {
            // Absent, or deleted or destroyed, in which case the body tells when. For us all are the same.
            StatusCode::NOT_FOUND => return Ok(None),
            StatusCode::BAD_REQUEST => return Err(self.client.refused(&answer, "refuses to read a secret")),
            _ => {}
        }
        let odd = || self.client.odd("a KV version 2 engine");
        let Some(data) = serde_json::from_slice::<Read<'_>>(answer.body()).map_err(|_| odd())?.data else { return Ok(None) };
        let Some(object) = data.data else { return Ok(None) };
        let metadata = data.metadata.ok_or_else(odd)?;
        Ok(Some(Version { fields: fields(object).ok_or_else(odd)?, number: metadata.version, created: metadata.created_time }))
    }

    /// Whether a version made then replaced one that may still be in use.
    fn is_young(&self, created: &str) -> bool {
        let Ok(created) = created.parse::<jiff::Timestamp>() else { return false };
        let now = unix_seconds(self.client.0.clock.wall());
        now < u64::try_from(created.as_second()).unwrap_or(0).saturating_add(OVERLAP.as_secs())
    }
}

struct Version {
    fields: BTreeMap<String, SecretString>,
    number: u64,
    created: String,
}

#[async_trait]
impl SecretManager for KvStore {
    fn place(&self) -> String {
        format!("{}, KV engine `{}`", self.client.place(), self.mount)
    }

    async fn read(&self, tenant: &TenantId, name: &str) -> Result<Option<ManagedSecret>> {
        let Some(path) = self.path.fill(tenant, name)? else { return Ok(None) };
        let Some(newest) = self.version(&path, None).await? else { return Ok(None) };
        let mut previous = None;
        if newest.number > 1 && self.is_young(&newest.created) {
            match self.version(&path, Some(newest.number - 1)).await {
                Ok(version) => previous = version.map(|version| version.fields),
                // The secret in use is here; it must not fail because of the one before.
                Err(error) => tracing::warn!(place = self.client.place(), %error, "the version before a secret's newest could not be read"),
            }
        }
        Ok(Some(ManagedSecret { fields: newest.fields, version: newest.number, previous, lease: None }))
    }
}

#[derive(Deserialize)]
struct Read<'a> {
    #[serde(borrow)]
    data: Option<Data<'a>>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    data: Option<BTreeMap<String, &'a RawValue>>,
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Metadata {
    version: u64,
    #[serde(default)]
    created_time: String,
}
