//! The vault: its parts, its settings, and how it reads and writes rows. What it does with them is in the modules below.
//!
//! Refuses unconditional writes: every change names the version it was made from.

mod audit;
mod elsewhere;
mod external;
mod manage;
mod open;
mod proof;
mod read;
mod rotate_key;
mod seal;
mod tokens;
mod verify;

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use connector_core::{
    Error, ErrorKind, Result, TenantId,
    clock::{Clock, Instant, SystemClock, unix_millis},
    redact::printable,
    state::{Condition, Namespace, PutOutcome, Store},
};

pub use elsewhere::{Resealed, SealedElsewhere};
pub use manage::Note;

use crate::{
    cache::{Cache, Slot},
    key::MasterKey,
    keys::{Keys, Target},
    manager::SecretManager,
    record::{Record, Row},
};

/// Records of credentials, by name.
const CREDENTIALS: &str = "vault.credentials";
/// Tokens of credentials, by the credential's name.
const TOKENS: &str = "vault.tokens";
/// Who renews tokens now, by the credential's name.
const LEASES: &str = "vault.leases";
/// In [`OWN`]: the tenants that have credentials or data keys of payloads.
const TENANTS: &str = "vault.tenants";
/// In [`OWN`]: a proof of each master key, by its id.
const KEYS: &str = "vault.keys";
/// The vault's own place in the store. No tenant can be called so.
const OWN: &str = "$vault";
/// How long opened secrets are kept if nobody says.
const KEEP_FOR: Duration = Duration::from_secs(5 * 60);
/// A write that others got ahead of is tried so often.
const TRIES: usize = 16;
/// Rows are read in pages of this size.
const PAGE: usize = 64;
/// What is too old in memory is looked for this often.
const PURGE_EVERY: Duration = Duration::from_secs(15);

/// The credential store. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Vault(pub(crate) Arc<Inner>);

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault")
            .field("keys", &self.0.keys)
            .field("managers", &self.0.managers)
            .field("keep_for", &self.0.keep_for)
            .finish_non_exhaustive()
    }
}

pub(crate) struct Inner {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) keys: Keys,
    managers: BTreeMap<String, Arc<dyn SecretManager>>,
    clock: Arc<dyn Clock>,
    keep_for: Duration,
    cache: Cache,
    external: external::Copies,
    /// Whether the current key's proof is known to be kept.
    proven: AtomicBool,
    /// Tenants that are known to be in the index.
    indexed: Mutex<HashSet<TenantId>>,
    purged: Mutex<Option<Instant>>,
    /// Who else keeps what this vault sealed.
    elsewhere: Mutex<Vec<Arc<dyn SealedElsewhere>>>,
    own: TenantId,
}

/// Settings of a [`Vault`].
#[derive(Debug)]
#[must_use = "a builder does nothing until `open` is called"]
pub struct VaultBuilder {
    store: Arc<dyn Store>,
    keys: Vec<Arc<dyn MasterKey>>,
    managers: BTreeMap<String, Arc<dyn SecretManager>>,
    clock: Arc<dyn Clock>,
    keep_for: Duration,
}

impl VaultBuilder {
    /// Adds a master key. The first one added is current: what is sealed from now on is sealed under it. The others still open.
    pub fn key(mut self, key: Arc<dyn MasterKey>) -> Self {
        self.keys.push(key);
        self
    }

    /// Adds an external manager: a credential called `name:rest` is read from it as `rest`.
    pub fn manager(mut self, name: &str, manager: Arc<dyn SecretManager>) -> Self {
        self.managers.insert(name.to_owned(), manager);
        self
    }

    /// The time.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// How long what was opened is kept in memory, and so how long a remote master key may be away: 5 minutes if not said.
    pub fn keep_for(mut self, time: Duration) -> Self {
        self.keep_for = time;
        self
    }

    /// Opens the vault and proves its keys. A key service that cannot be reached is not a wrong key: the vault opens, and what is sealed
    /// under it is [`ErrorKind::Transient`] until it comes back.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if a key that something is sealed under is missing or wrong, with its id and how many
    /// credentials need it; if there is no key at all or two have one id.
    pub async fn open(self) -> Result<Vault> {
        if let Some(bad) = self.managers.keys().find(|name| name.is_empty() || name.contains(':') || name.starts_with('$')) {
            return Err(Error::config(format!("`{}` cannot be the name of a secret manager", printable(bad, 40))));
        }
        let vault = Vault(Arc::new(Inner {
            store: self.store,
            keys: Keys::new(self.keys, self.clock.clone())?,
            managers: self.managers,
            clock: self.clock,
            keep_for: self.keep_for,
            cache: Cache::default(),
            external: external::Copies::default(),
            proven: AtomicBool::new(false),
            indexed: Mutex::default(),
            purged: Mutex::default(),
            elsewhere: Mutex::default(),
            own: TenantId::from(OWN),
        }));
        vault.prove_keys().await?;
        Ok(vault)
    }
}

impl Vault {
    /// Starts to open the vault that lies in `store`.
    pub fn builder(store: Arc<dyn Store>) -> VaultBuilder {
        VaultBuilder { store, keys: Vec::new(), managers: BTreeMap::new(), clock: SystemClock::shared(), keep_for: KEEP_FOR }
    }

    /// The tenants that have credentials or data keys of payloads, or had some.
    ///
    /// # Errors
    /// What the store reports.
    pub async fn tenants(&self) -> Result<Vec<TenantId>> {
        let namespace = Namespace::new(&self.0.own, TENANTS);
        let (mut tenants, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = self.0.store.scan(namespace, "", after.as_deref(), PAGE).await?;
            tenants.extend(page.iter().map(|(tenant, _)| TenantId::from(tenant.as_str())));
            match page.into_iter().last() {
                Some((last, _)) => after = Some(last),
                None => return Ok(tenants),
            }
        }
    }
}

impl Inner {
    /// Unix milliseconds.
    pub(crate) fn wall(&self) -> u64 {
        unix_millis(self.clock.wall())
    }

    /// The row as it is now.
    async fn row(&self, tenant: &TenantId, name: &str) -> Result<Option<(Arc<Slot>, Arc<Row>)>> {
        let asked = self.clock.now();
        let Some(entry) = self.store.get(Namespace::new(tenant, CREDENTIALS), name).await? else {
            self.cache.forget(tenant, name);
            return Ok(None);
        };
        let slot = self.cache.find_or_add(tenant, name);
        let row = slot.confirm(&entry, asked);
        Ok(Some((slot, row)))
    }

    /// The row as it was at most a second ago.
    async fn recent_row(&self, tenant: &TenantId, name: &str) -> Result<Option<(Arc<Slot>, Arc<Row>)>> {
        if let Some(slot) = self.cache.find(tenant, name)
            && let Some(row) = slot.believed(self.clock.now())
        {
            return Ok(Some((slot, row)));
        }
        self.row(tenant, name).await
    }

    /// Writes a record over the row it was made from. `None`: somebody else wrote meanwhile.
    async fn write(&self, tenant: &TenantId, name: &str, record: Record, over: Option<&Row>) -> Result<Option<Arc<Row>>> {
        if over.is_none() {
            self.index(tenant).await?;
        }
        let condition = over.map_or(Condition::Absent, |row| Condition::Is(row.version));
        match self.store.put(Namespace::new(tenant, CREDENTIALS), name, record.to_bytes()?, condition, None).await? {
            PutOutcome::Refused(_) => Ok(None),
            PutOutcome::Stored(version) => {
                let row = Arc::new(Row { version, record: Some(record) });
                self.cache.find_or_add(tenant, name).wrote(row.clone(), self.clock.now());
                Ok(Some(row))
            }
        }
    }

    /// Notes that a tenant has something here, before the first of it is written: a tenant that is missing there would be missed by rotations.
    pub(crate) async fn index(&self, tenant: &TenantId) -> Result<()> {
        if self.indexed.lock().unwrap_or_else(PoisonError::into_inner).contains(tenant) {
            return Ok(());
        }
        let namespace = Namespace::new(&self.own, TENANTS);
        self.store.put(namespace, tenant.as_str(), bytes::Bytes::new(), Condition::Absent, None).await?;
        self.indexed.lock().unwrap_or_else(PoisonError::into_inner).insert(tenant.clone());
        Ok(())
    }

    /// Seals fields as a version of a credential.
    async fn seal_fields(
        &self,
        tenant: &TenantId,
        credential: &str,
        version: u64,
        fields: &BTreeMap<String, secrecy::SecretString>,
    ) -> Result<BTreeMap<String, Vec<u8>>> {
        self.prove_current().await?;
        let mut sealed = BTreeMap::new();
        for (field, secret) in fields {
            let target = Target { tenant, credential, field, version };
            let plain = secrecy::ExposeSecret::expose_secret(secret).as_bytes();
            sealed.insert(field.clone(), self.keys.seal(target, plain).await?);
        }
        Ok(sealed)
    }

    /// Wipes what was kept long enough, now and then.
    fn purge(&self, now: Instant) {
        {
            let mut purged = self.purged.lock().unwrap_or_else(PoisonError::into_inner);
            let every = if self.cache.is_full() { crate::cache::BELIEVED } else { PURGE_EVERY };
            if purged.is_some_and(|last| now.saturating_duration_since(last) < every) {
                return;
            }
            *purged = Some(now);
        }
        self.cache.purge(now, self.keep_for);
        self.external.purge(now, self.keep_for);
    }
}

/// What to say to people who manage a credential that is not there.
fn not_found(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no credential `{}`", printable(name, 80)))
}

fn contended(name: &str) -> Error {
    Error::new(ErrorKind::Conflict, format!("credential `{}` is being changed by others all the time", printable(name, 80)))
}
