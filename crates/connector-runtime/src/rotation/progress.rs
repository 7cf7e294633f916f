//! How far the replacing of each credential is, in the state store: an intent, what is still to be retired, when to try again.
//!
//! Refuses unconditional writes: every change names the version it was made from, so that two hubs never both ask a vendor for a secret.

use std::sync::Arc;

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use connector_core::{
    Error, ErrorKind, Result, TenantId,
    credential::Credential,
    state::{Condition, Entry, Namespace, Store},
};
use connector_vault::{Resealed, SealedElsewhere, Unreadable, Vault, envelope::Envelope};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

const NAMESPACE: &str = "rotation";
const PURPOSE: &str = "credential.retire";
const PAGE: usize = 256;
/// A record that others got ahead of is tried so often.
const TRIES: usize = 16;

/// Where one credential stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Unix milliseconds at which a successor was about to be asked for. Still there later: whoever asked died, the outcome is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) intent: Option<u64>,
    /// Failures in a row.
    #[serde(default)]
    pub(super) failures: u32,
    /// Unix milliseconds before which nothing is tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) retry_at: Option<u64>,
    /// What the vendor is still to forget.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) retiring: Vec<Retiring>,
}

/// A version that nothing uses any more after `at`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Retiring {
    pub(super) version: u64,
    /// Unix milliseconds.
    pub(super) at: u64,
    #[serde(default)]
    pub(super) failures: u32,
    /// Its fields, sealed by the vault.
    sealed: String,
}

/// A stored [`Progress`].
#[derive(Debug, Clone, Default)]
pub(super) struct Row {
    pub(super) progress: Progress,
    /// `None`: there is no row yet.
    version: Option<u64>,
}

impl Row {
    fn condition(&self) -> Condition {
        self.version.map_or(Condition::Absent, Condition::Is)
    }
}

fn unreadable() -> Error {
    Error::internal("the record of a rotation cannot be read")
}

pub(super) async fn load(store: &dyn Store, tenant: &TenantId, credential: &str) -> Result<Row> {
    match store.get(Namespace::new(tenant, NAMESPACE), credential).await? {
        None => Ok(Row::default()),
        Some(entry) => Ok(Row { progress: serde_json::from_slice(&entry.value).map_err(|_| unreadable())?, version: Some(entry.version) }),
    }
}

/// The credentials of a tenant that something is still to be done about.
pub(super) async fn all(store: &dyn Store, tenant: &TenantId) -> Result<Vec<(String, Row)>> {
    let (mut found, mut after) = (Vec::new(), None::<String>);
    loop {
        let page = store.scan(Namespace::new(tenant, NAMESPACE), "", after.as_deref(), PAGE).await?;
        let Some((last, _)) = page.last() else { return Ok(found) };
        after = Some(last.clone());
        for (name, entry) in page {
            let progress = serde_json::from_slice(&entry.value).map_err(|_| unreadable())?;
            found.push((name, Row { progress, version: Some(entry.version) }));
        }
    }
}

/// Writes a change if nobody else did meanwhile; `None`: somebody did. A row that says nothing is removed.
pub(super) async fn save(store: &dyn Store, tenant: &TenantId, credential: &str, row: &Row, progress: Progress) -> Result<Option<Row>> {
    let namespace = Namespace::new(tenant, NAMESPACE);
    if progress == Progress::default() {
        let Some(version) = row.version else { return Ok(Some(Row::default())) };
        return Ok(store.delete(namespace, credential, Condition::Is(version)).await?.then(Row::default));
    }
    let bytes = serde_json::to_vec(&progress).map_err(|error| Error::internal("the record of a rotation could not be written").with_source(error))?;
    match store.put(namespace, credential, bytes.into(), row.condition(), None).await? {
        connector_core::state::PutOutcome::Stored(version) => Ok(Some(Row { progress, version: Some(version) })),
        connector_core::state::PutOutcome::Refused(_) => Ok(None),
    }
}

fn id(credential: &str, version: u64) -> String {
    format!("{credential}:{version}")
}

impl Retiring {
    /// Keeps what the vendor will need to know the old version by.
    pub(super) async fn seal(vault: &Vault, tenant: &TenantId, credential: &str, old: &Credential, at: u64) -> Result<Self> {
        let fields: Vec<(&str, &str)> = old.field_names().filter_map(|field| Some((field, old.field(field)?.expose_secret()))).collect();
        let plain = Zeroizing::new(serde_json::to_vec(&fields).map_err(|_| unreadable())?);
        let sealed = vault.seal(tenant, PURPOSE, &id(credential, old.version), &plain).await?;
        Ok(Self { version: old.version, at, failures: 0, sealed: STANDARD.encode(sealed) })
    }

    pub(super) async fn unseal(&self, vault: &Vault, tenant: &TenantId, credential: &str) -> Result<Credential> {
        let sealed = STANDARD.decode(&self.sealed).map_err(|_| unreadable())?;
        let plain = vault.unseal(tenant, PURPOSE, &id(credential, self.version), &sealed).await?;
        let fields: Vec<(String, Zeroizing<String>)> = serde_json::from_slice::<Vec<(String, String)>>(&plain)
            .map_err(|_| unreadable())?
            .into_iter()
            .map(|(field, value)| (field, Zeroizing::new(value)))
            .collect();
        let mut old = Credential::new(fields.into_iter().map(|(field, value)| (field, SecretString::from(value.as_str()))));
        old.version = self.version;
        Ok(old)
    }
}

/// The secrets that are still to be retired at a vendor, as far as a rotation of the master key is concerned.
#[derive(Debug)]
pub(crate) struct Retirings {
    /// The store as the vault has it.
    pub(crate) store: Arc<dyn Store>,
}

impl Retirings {
    async fn rows(&self, tenant: &TenantId) -> Result<Vec<(String, Entry)>> {
        let (mut rows, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = self.store.scan(Namespace::new(tenant, NAMESPACE), "", after.as_deref(), PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(rows) };
            after = Some(last.clone());
            rows.extend(page);
        }
    }

    /// Seals one record's envelopes anew. A record that says something else meanwhile is looked at again.
    async fn move_one(&self, vault: &Vault, tenant: &TenantId, credential: &str, mut entry: Entry) -> Result<Resealed> {
        for _ in 0..TRIES {
            let mut done = Resealed::default();
            let lost = |field: String, why: String| Unreadable { tenant: tenant.clone(), name: credential.to_owned(), field, why };
            let Ok(mut progress) = serde_json::from_slice::<Progress>(&entry.value) else {
                done.unreadable.push(lost(PURPOSE.to_owned(), "the record of its rotation cannot be read".to_owned()));
                return Ok(done);
            };
            for retiring in &mut progress.retiring {
                let id = id(credential, retiring.version);
                let sealed = STANDARD.decode(&retiring.sealed).unwrap_or_default();
                match vault.reseal(tenant, PURPOSE, &id, &sealed).await {
                    Ok(Some(anew)) => {
                        retiring.sealed = STANDARD.encode(anew);
                        done.rewrapped += 1;
                    }
                    Ok(None) => done.already += 1,
                    Err(error) if error.kind() == ErrorKind::Config => {
                        done.unreadable.push(lost(format!("{PURPOSE}:{}", retiring.version), error.message().to_owned()));
                    }
                    Err(error) => return Err(error),
                }
            }
            if done.rewrapped == 0 {
                return Ok(done);
            }
            let row = Row { progress: Progress::default(), version: Some(entry.version) };
            if save(&*self.store, tenant, credential, &row, progress).await?.is_some() {
                return Ok(done);
            }
            match self.store.get(Namespace::new(tenant, NAMESPACE), credential).await? {
                Some(newer) => entry = newer,
                None => return Ok(Resealed::default()),
            }
        }
        Err(Error::new(ErrorKind::Conflict, format!("the rotation of credential `{credential}` is being changed by others all the time")))
    }
}

#[async_trait]
impl SealedElsewhere for Retirings {
    fn name(&self) -> &'static str {
        PURPOSE
    }

    async fn reseal(&self, vault: &Vault, tenant: &TenantId) -> Result<Resealed> {
        let mut all = Resealed::default();
        for (credential, entry) in self.rows(tenant).await? {
            let one = self.move_one(vault, tenant, &credential, entry).await?;
            all.rewrapped += one.rewrapped;
            all.already += one.already;
            all.unreadable.extend(one.unreadable);
        }
        Ok(all)
    }

    async fn held_under(&self, tenant: &TenantId) -> Result<Vec<String>> {
        let rows = self.rows(tenant).await?;
        let records = rows.iter().filter_map(|(_, entry)| serde_json::from_slice::<Progress>(&entry.value).ok());
        let sealed = records.flat_map(|progress| progress.retiring).filter_map(|retiring| STANDARD.decode(retiring.sealed).ok());
        Ok(sealed.filter_map(|sealed| Envelope::parse(&sealed).ok().map(|envelope| envelope.key_id().to_owned())).collect())
    }
}
