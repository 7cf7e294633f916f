//! Sealing what vendors told us and what is to be told them, where it lies in the store: events, queued calls, dead letters, kept replies.
//!
//! A credential is worth an envelope of its own; a payload comes a thousand times a second. So each tenant has a data key that is made on its
//! first use, wrapped by the current master key, kept beside the vault's other records, and replaced after a day or 2^31 seals. The vault's
//! rotation of master keys finds these keys and wraps them anew; payloads stay as they are.
//!
//! Owns the keys, what a payload is bound to, and the digests that tell repeated payloads from others. Refuses to know what a payload is, and
//! to open what was changed or stood somewhere else.

mod nonce;
mod ring;
mod row;
mod wire;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use bytes::Bytes;
use connector_core::{
    Error, ErrorKind, Result, TenantId,
    state::{Condition, Entry, Namespace, PutOutcome},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{
    Vault,
    aead::{self, Cipher},
    key::DataKey,
    keys::Fault,
};
use ring::{Current, Ring};
pub(crate) use row::{KeyRow, PAYLOAD_KEYS, SUBJECT};

/// A row that others got ahead of is tried so often.
const TRIES: usize = 16;
/// Rows are read in pages of this size.
const PAGE: usize = 256;
/// With more tenants than this in memory, those that did nothing for [`IDLE`] are let go.
const MANY: usize = 1_024;
/// An hour, in milliseconds.
const IDLE: u64 = 60 * 60 * 1000;

/// Why a payload does not open.
#[derive(Debug)]
pub enum Unopened {
    /// It was changed, cut, stood somewhere else, or its data key is gone: trying again does not help. The text says which, without secrets.
    Lost(String),
    /// Its data key cannot be had now: the store or the master key's service is away.
    Away(Error),
}

impl From<Unopened> for Error {
    fn from(unopened: Unopened) -> Self {
        match unopened {
            Unopened::Lost(why) => Self::config(format!("a sealed payload is unreadable: {why}")),
            Unopened::Away(error) if error.kind().is_passing() => error,
            Unopened::Away(error) => Self::new(ErrorKind::Transient, "a sealed payload cannot be opened now").with_source(error),
        }
    }
}

/// Seals and opens payloads. Cheap to clone; clones share the open keys.
#[derive(Clone)]
pub struct PayloadSealer(Arc<Shared>);

struct Shared {
    vault: Vault,
    rings: RwLock<HashMap<TenantId, Arc<Ring>>>,
}

impl fmt::Debug for PayloadSealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PayloadSealer").field("vault", &self.0.vault).finish_non_exhaustive()
    }
}

impl PayloadSealer {
    /// A sealer whose keys lie in this vault.
    pub fn new(vault: Vault) -> Self {
        Self(Arc::new(Shared { vault, rings: RwLock::default() }))
    }

    /// Whether these bytes are a sealed payload, by how they start. No JSON text starts so.
    pub fn is_sealed(bytes: &[u8]) -> bool {
        wire::is_sealed(bytes)
    }

    /// The vault whose master keys wrap the data keys.
    pub fn vault(&self) -> &Vault {
        &self.0.vault
    }

    /// Seals a payload, bound to the tenant and to every part of `context` in its order. The store is asked only on a tenant's first use, once
    /// a day, and once in a million seals.
    ///
    /// # Errors
    /// What the store or the master key reports where a data key must be fetched or made. A key that is due and cannot be replaced goes on for up
    /// to a week.
    pub async fn seal(&self, tenant: &TenantId, context: &[&[u8]], plain: &[u8]) -> Result<Bytes> {
        let (ring, now) = self.ring(tenant);
        let current = match ring.take(now) {
            Some(current) => current,
            None => self.renewed(tenant, &ring, now).await?,
        };
        wire::seal(&current.cipher, current.number, &nonce::next()?, tenant, context, plain)
    }

    /// Opens what [`PayloadSealer::seal`] sealed for the same tenant and context. What is not sealed is given back as it is: it was written
    /// before payloads were sealed.
    ///
    /// # Errors
    /// [`Unopened`].
    pub async fn open(&self, tenant: &TenantId, context: &[&[u8]], bytes: Bytes) -> Result<Bytes, Unopened> {
        if !wire::is_sealed(&bytes) {
            return Ok(bytes);
        }
        let parts = wire::parse(&bytes).map_err(Unopened::Lost)?;
        let (ring, _) = self.ring(tenant);
        let cipher = match ring.opened(parts.key) {
            Some(cipher) => cipher,
            None => self.fetched(tenant, &ring, parts.key).await?,
        };
        wire::open(&cipher, &parts, tenant, context)
            .ok_or_else(|| Unopened::Lost("it, or what it is bound to (tenant, data key, place), was changed".into()))
    }

    /// A digest of a payload under a key that only this tenant has and that stays: the same payload has the same digest whenever it comes, and
    /// whoever reads the store cannot try payloads against it.
    ///
    /// # Errors
    /// What the store or the master key reports on a tenant's first use.
    pub async fn digest(&self, tenant: &TenantId, plain: &[u8]) -> Result<[u8; 32]> {
        let (ring, now) = self.ring(tenant);
        let key = match ring.digest() {
            Some(key) => key,
            None => self.digest_key(tenant, &ring, now).await?,
        };
        let mut mac = Hmac::<Sha256>::new_from_slice(&**key).map_err(|_| Error::internal("a key of 32 bytes is no key for HMAC"))?;
        mac.update(plain);
        Ok(mac.finalize().into_bytes().into())
    }

    /// Removes the data keys of a tenant that sealed nothing since `before` (Unix milliseconds): nothing that old may need them any more, also
    /// nothing in the state store that ends by itself within a week. Gives how many.
    ///
    /// # Errors
    /// What the store reports.
    pub async fn forget_keys(&self, tenant: &TenantId, before: u64) -> Result<u64> {
        let rows = self.rows(tenant).await?;
        let Some(((newest, _), older)) = rows.split_last() else { return Ok(0) };
        let mut gone = 0;
        for (number, entry) in older {
            // A key seals for a week at most, and what it sealed there ends after another one.
            let needed_until = KeyRow::read(entry).map(|row| row.made_at.saturating_add(2 * ring::MOST_OVERDUE));
            if number < newest && needed_until.is_some_and(|until| until <= before) {
                let removed = self.0.vault.0.store.delete(self.place(tenant), &row::name(*number), Condition::Is(entry.version)).await?;
                self.ring(tenant).0.forget(*number);
                gone += u64::from(removed);
            }
        }
        Ok(gone)
    }

    fn place<'a>(&self, tenant: &'a TenantId) -> Namespace<'a> {
        Namespace::new(tenant, PAYLOAD_KEYS)
    }

    /// The tenant's open keys, and the time.
    fn ring(&self, tenant: &TenantId) -> (Arc<Ring>, u64) {
        let now = self.0.vault.0.wall();
        let known = self.0.rings.read().unwrap_or_else(PoisonError::into_inner).get(tenant).cloned();
        let ring = known.unwrap_or_else(|| {
            let mut rings = self.0.rings.write().unwrap_or_else(PoisonError::into_inner);
            if rings.len() >= MANY {
                rings.retain(|_, ring| ring.idle_since().saturating_add(IDLE) > now);
            }
            rings.entry(tenant.clone()).or_default().clone()
        });
        ring.touch(now);
        (ring, now)
    }

    /// All data keys of a tenant, the oldest first.
    async fn rows(&self, tenant: &TenantId) -> Result<Vec<(u64, Entry)>> {
        let (mut rows, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = self.0.vault.0.store.scan(self.place(tenant), row::DATA, after.as_deref(), PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(rows) };
            after = Some(last.clone());
            rows.extend(page.into_iter().filter_map(|(name, entry)| row::number(&name).map(|number| (number, entry))));
        }
    }

    /// The key to seal with where the known one is due, used up, or not known.
    async fn renewed(&self, tenant: &TenantId, ring: &Ring, now: u64) -> Result<Arc<Current>> {
        let _alone = ring.gate.lock().await;
        if let Some(current) = ring.take(now) {
            return Ok(current);
        }
        match self.next(tenant, ring, now).await {
            Ok(current) => {
                ring.set_current(Arc::new(current));
                ring.take(now).ok_or_else(|| Error::internal("a data key was made and is not there"))
            }
            Err(error) => match ring.take_overdue(now) {
                Some(current) => {
                    tracing::warn!(%tenant, %error, "the data key of payloads is due and cannot be replaced; it goes on, and is tried again in a minute");
                    Ok(current)
                }
                None => Err(error),
            },
        }
    }

    /// The newest key of the store if it is good for more, else a new one.
    async fn next(&self, tenant: &TenantId, ring: &Ring, now: u64) -> Result<Current> {
        let inner = &self.0.vault.0;
        for _ in 0..TRIES {
            let newest = self.rows(tenant).await?.pop();
            if let Some((number, entry)) = &newest
                && let Some(row) = KeyRow::read(entry)
                && let Some(reserving) = row.reserving(now)
            {
                match self.cipher(tenant, ring, *number, &row).await {
                    Ok(cipher) => {
                        // Written down before the first of them is made: no process can forget what another one used.
                        let (name, row_now) = (row::name(*number), reserving.to_bytes()?);
                        match inner.store.put(self.place(tenant), &name, row_now, Condition::Is(entry.version), None).await? {
                            PutOutcome::Stored(_) => return Ok(Current::new(*number, cipher, row.made_at)),
                            PutOutcome::Refused(_) => continue,
                        }
                    }
                    Err(Unopened::Lost(why)) => {
                        tracing::error!(%tenant, key = number, why, "a data key of payloads cannot be opened, nor what was sealed under it; another one is made");
                    }
                    Err(away) => return Err(away.into()),
                }
            }
            let number = newest.map_or(1, |(number, _)| number.saturating_add(1));
            let name = row::name(number);
            if let Some((key, row)) = self.made(tenant, &name, now, Condition::Absent, true).await? {
                return Ok(Current::new(number, Arc::new(Cipher::new(&key)), row.made_at));
            }
        }
        Err(Error::new(ErrorKind::Conflict, format!("the data keys of tenant `{tenant}` are being changed by others all the time")))
    }

    /// Makes a key and writes it down. `None`: somebody else wrote that row meanwhile.
    async fn made(&self, tenant: &TenantId, name: &str, now: u64, condition: Condition, reserve: bool) -> Result<Option<(DataKey, KeyRow)>> {
        let inner = &self.0.vault.0;
        inner.prove_current().await?;
        // The tenant first: one that is missing in the index would be missed by rotations of the master key.
        inner.index(tenant).await?;
        let key: DataKey = aead::random()?;
        let row = KeyRow::new(now, &inner.keys.seal(row::target(tenant, name, now), &*key).await?);
        let row = if reserve { row.reserving(now).unwrap_or(row) } else { row };
        let put = inner.store.put(self.place(tenant), name, row.to_bytes()?, condition, None).await?;
        Ok(put.is_stored().then_some((key, row)))
    }

    /// The key of a number that is not open yet.
    async fn fetched(&self, tenant: &TenantId, ring: &Ring, number: u64) -> Result<Arc<Cipher>, Unopened> {
        let _alone = ring.gate.lock().await;
        if let Some(cipher) = ring.opened(number) {
            return Ok(cipher);
        }
        let entry = self.0.vault.0.store.get(self.place(tenant), &row::name(number)).await.map_err(Unopened::Away)?;
        let entry = entry.ok_or_else(|| Unopened::Lost(format!("data key {number} of tenant `{tenant}` is not in the store")))?;
        let row = KeyRow::read(&entry).ok_or_else(|| Unopened::Lost(format!("the row of data key {number} of tenant `{tenant}` is damaged")))?;
        let cipher = self.cipher(tenant, ring, number, &row).await?;
        ring.remember(number, cipher.clone());
        Ok(cipher)
    }

    /// A key from its row, or from memory.
    async fn cipher(&self, tenant: &TenantId, ring: &Ring, number: u64, row: &KeyRow) -> Result<Arc<Cipher>, Unopened> {
        if let Some(cipher) = ring.opened(number) {
            return Ok(cipher);
        }
        let name = row::name(number);
        Ok(Arc::new(Cipher::new(&*self.unwrapped(tenant, &name, row).await?)))
    }

    async fn unwrapped(&self, tenant: &TenantId, name: &str, row: &KeyRow) -> Result<DataKey, Unopened> {
        let opened = self.0.vault.0.keys.open(row.target(tenant, name), &row.sealed()).await;
        let plain = opened.map_err(|fault| match fault {
            Fault::Unreadable(why) => Unopened::Lost(format!("its data key `{name}` does not open: {why}")),
            Fault::Away(error) => Unopened::Away(error),
        })?;
        let mut key = Zeroizing::new([0; aead::KEY]);
        if plain.len() != key.len() {
            return Err(Unopened::Lost(format!("its data key `{name}` is {} bytes long", plain.len())));
        }
        key.copy_from_slice(&plain);
        Ok(key)
    }

    /// The key of digests, made if there is none.
    async fn digest_key(&self, tenant: &TenantId, ring: &Ring, now: u64) -> Result<Arc<DataKey>> {
        let _alone = ring.gate.lock().await;
        if let Some(key) = ring.digest() {
            return Ok(key);
        }
        for _ in 0..TRIES {
            let entry = self.0.vault.0.store.get(self.place(tenant), row::DIGEST).await?;
            let mut condition = Condition::Absent;
            if let Some(entry) = entry {
                let opened = match KeyRow::read(&entry) {
                    Some(row) => self.unwrapped(tenant, row::DIGEST, &row).await,
                    None => Err(Unopened::Lost("its row is damaged".into())),
                };
                match opened {
                    Ok(key) => {
                        let key = Arc::new(key);
                        ring.set_digest(key.clone());
                        return Ok(key);
                    }
                    Err(Unopened::Lost(why)) => {
                        tracing::error!(%tenant, why, "the key of payload digests is lost and made anew; repeated events are told from others by their content");
                        condition = Condition::Is(entry.version);
                    }
                    Err(away) => return Err(away.into()),
                }
            }
            if let Some((key, _)) = self.made(tenant, row::DIGEST, now, condition, false).await? {
                let key = Arc::new(key);
                ring.set_digest(key.clone());
                return Ok(key);
            }
        }
        Err(Error::new(ErrorKind::Conflict, format!("the key of payload digests of tenant `{tenant}` is being changed by others all the time")))
    }
}
