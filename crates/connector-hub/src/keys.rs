//! API keys: shown once, kept as hashes, bound to a role, a tenant and workspaces.
//!
//! Owns making, finding and revoking. Refuses to keep or to show a key again.

use std::sync::Arc;

use connector_core::{
    Actor, Error, ErrorKind, Result, TenantId,
    clock::{Clock as _, SystemClock, unix_millis},
    redact,
    state::{Condition, Namespace, Store},
};
use connector_runtime::Role;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Hashes of all tenants lie together: a caller shows a key before anybody knows its tenant.
const SPACE: &str = "api_keys";
/// Each tenant's own list, by public id.
const LIST: &str = "api_keys_by_id";
const MARKER: &str = "first";
/// The most keys one listing shows.
const MOST: usize = 10_000;

/// What a key is good for. Holds nothing of the key itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// Its public id, as audit records name it.
    pub id: String,
    /// What it is for, in its maker's words.
    #[serde(default)]
    pub name: Option<String>,
    /// What its holder may do.
    pub role: Role,
    /// The tenant it belongs to.
    pub tenant: TenantId,
    /// The workspaces it is good for, or `*`.
    pub workspaces: Vec<String>,
    /// Unix milliseconds of its making.
    #[serde(default)]
    pub created_at: u64,
    /// Who made it.
    #[serde(default)]
    pub created_by: String,
    /// Unix milliseconds since which it is worth nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<u64>,
}

/// A key to be made.
#[derive(Debug, Clone)]
pub struct KeyOrder {
    /// The tenant it is for.
    pub tenant: TenantId,
    /// What its holder may do.
    pub role: Role,
    /// The workspaces it is good for, or `*`.
    pub workspaces: Vec<String>,
    /// What it is for.
    pub name: Option<String>,
    /// Who makes it.
    pub by: Actor,
}

/// A line of a tenant's list.
#[derive(Serialize, Deserialize)]
struct Listed {
    record: KeyRecord,
    hash: String,
}

/// The keys there are.
#[derive(Debug, Clone)]
pub struct Keys(Arc<dyn Store>);

impl Keys {
    /// The keys that lie in `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self(store)
    }

    /// Makes the first admin key, if no first key was ever made. Its text is given once and never again.
    ///
    /// # Errors
    /// Whatever the state store reports.
    pub async fn first_key(&self) -> Result<Option<SecretString>> {
        let tenant = TenantId::default();
        if !self.0.put(Namespace::new(&tenant, SPACE), MARKER, "made".into(), Condition::Absent, None).await?.is_stored() {
            return Ok(None);
        }
        let order = KeyOrder { tenant, role: Role::Admin, workspaces: vec!["*".into()], name: Some("first start".into()), by: Actor::System };
        Ok(Some(self.create(order).await?.1))
    }

    /// Makes a key. Its text is given once and never again.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] without a workspace; whatever the state store reports.
    pub async fn create(&self, order: KeyOrder) -> Result<(KeyRecord, SecretString)> {
        if order.workspaces.is_empty() || order.workspaces.iter().any(|workspace| workspace.trim().is_empty()) {
            return Err(Error::invalid("a key is for at least one workspace; `*` is all of them"));
        }
        let text = format!("ck_{}", hex::encode(random::<32>()?));
        let record = KeyRecord {
            id: format!("k{}", hex::encode(random::<6>()?)),
            name: order.name.map(|name| redact::printable(&name, 80)),
            role: order.role,
            tenant: order.tenant,
            workspaces: order.workspaces,
            created_at: unix_millis(SystemClock.wall()),
            created_by: order.by.to_string(),
            revoked_at: None,
        };
        let hash = hash(&text);
        let listed = encode(&Listed { record: record.clone(), hash: hash.clone() })?;
        // The list first: a key that works is always one that can be seen and revoked.
        self.0.put(Namespace::new(&record.tenant, LIST), &record.id, listed.into(), Condition::Absent, None).await?;
        self.0.put(Namespace::new(&TenantId::default(), SPACE), &hash, encode(&record)?.into(), Condition::Any, None).await?;
        Ok((record, SecretString::from(text)))
    }

    /// The keys of a tenant, revoked ones too, the oldest first.
    ///
    /// # Errors
    /// Whatever the state store reports.
    pub async fn list(&self, tenant: &TenantId) -> Result<Vec<KeyRecord>> {
        let rows = self.0.scan(Namespace::new(tenant, LIST), "", None, MOST).await?;
        let mut records = rows.iter().map(|(_, entry)| Ok(decode::<Listed>(&entry.value)?.record)).collect::<Result<Vec<_>>>()?;
        records.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(records)
    }

    /// Makes a key worthless at once. The record of it stays.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the tenant has none of this id, which looks the same as another tenant's; [`ErrorKind::Conflict`] if somebody
    /// else is at it.
    pub async fn revoke(&self, tenant: &TenantId, id: &str) -> Result<KeyRecord> {
        let list = Namespace::new(tenant, LIST);
        let entry = self.0.get(list, id).await?.ok_or_else(|| Self::missing(id))?;
        let Listed { mut record, hash } = decode(&entry.value)?;
        // The hash first: from here on the key opens nothing, whatever happens to the list.
        self.0.delete(Namespace::new(&TenantId::default(), SPACE), &hash, Condition::Any).await?;
        if record.revoked_at.is_none() {
            record.revoked_at = Some(unix_millis(SystemClock.wall()));
            let listed = encode(&Listed { record: record.clone(), hash })?;
            if !self.0.put(list, id, listed.into(), Condition::Is(entry.version), None).await?.is_stored() {
                return Err(Error::new(ErrorKind::Conflict, "somebody else revokes this key at the same moment; it is worth nothing now"));
            }
        }
        Ok(record)
    }

    /// Whether this key still opens something, for those who came in with it and stay.
    ///
    /// # Errors
    /// Whatever the state store reports.
    pub(crate) async fn stands(&self, tenant: &TenantId, id: &str) -> Result<bool> {
        let entry = self.0.get(Namespace::new(tenant, LIST), id).await?;
        entry.map_or(Ok(false), |entry| Ok(decode::<Listed>(&entry.value)?.record.revoked_at.is_none()))
    }

    /// What to say when there is none of this id.
    pub(crate) fn missing(id: &str) -> Error {
        Error::new(ErrorKind::NotFound, format!("there is no key `{}`; `keys list` shows what there is", redact::printable(id, 63)))
    }

    /// What this key is good for, if it is one.
    pub(crate) async fn find(&self, key: &str) -> Result<Option<KeyRecord>> {
        let entry = self.0.get(Namespace::new(&TenantId::default(), SPACE), &hash(key)).await?;
        entry.map(|entry| decode(&entry.value)).transpose()
    }
}

/// A key to be shown to its new holder, this once.
pub(crate) fn reveal(key: &SecretString) -> &str {
    key.expose_secret()
}

/// Random bytes that nobody can guess.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| Error::internal("the system gives no random numbers").with_source(error))?;
    Ok(bytes)
}

/// Keys are random and long, so one round of a plain hash is enough and lookups stay fast.
pub(crate) fn hash(key: &str) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(key.as_bytes())))
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::internal("a key record cannot be written").with_source(error))
}

fn decode<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|_| Error::internal("a stored key record cannot be read"))
}

#[cfg(test)]
mod tests {
    use connector_state::MemoryState;

    use super::*;

    fn order(tenant: &str) -> KeyOrder {
        KeyOrder { tenant: tenant.into(), role: Role::Operator, workspaces: vec!["sales".into()], name: None, by: Actor::System }
    }

    #[tokio::test]
    async fn a_key_opens_until_it_is_revoked_and_only_its_own_tenant_can() {
        let store: Arc<dyn Store> = Arc::new(MemoryState::default());
        let keys = Keys::new(store.clone());
        let (record, text) = keys.create(order("a")).await.unwrap();
        assert_eq!(keys.find(reveal(&text)).await.unwrap(), Some(record.clone()));
        assert!(keys.list(&"b".into()).await.unwrap().is_empty());
        let foreign = keys.revoke(&"b".into(), &record.id).await.unwrap_err();
        assert_eq!(foreign.message().replace(&record.id, "kx"), keys.revoke(&"b".into(), "kx").await.unwrap_err().message());
        assert!(keys.revoke(&"a".into(), &record.id).await.unwrap().revoked_at.is_some());
        assert_eq!(keys.find(reveal(&text)).await.unwrap(), None);
        assert_eq!(keys.list(&"a".into()).await.unwrap().len(), 1, "the record of it stays");
    }

    #[tokio::test]
    async fn the_store_never_sees_a_key() {
        let store: Arc<dyn Store> = Arc::new(MemoryState::default());
        let keys = Keys::new(store.clone());
        let (_, text) = keys.create(order("default")).await.unwrap();
        for space in [SPACE, LIST] {
            for (key, entry) in store.scan(Namespace::new(&TenantId::default(), space), "", None, 10).await.unwrap() {
                let row = format!("{key} {}", String::from_utf8_lossy(&entry.value));
                assert!(!row.contains(reveal(&text)) && !row.contains(&reveal(&text)[3..]), "{row}");
            }
        }
    }

    #[tokio::test]
    async fn the_first_key_is_made_once() {
        let keys = Keys::new(Arc::new(MemoryState::default()));
        assert!(keys.first_key().await.unwrap().is_some());
        assert!(keys.first_key().await.unwrap().is_none());
    }
}
