//! What the vault's tests share: both stores, a clock that is moved by hand, questions, keys that can be cut off.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub, reason = "a test may fail this way; not every test uses everything")]

pub mod dying;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use connector_core::{
    Error, ErrorKind, Result, TenantId, WorkspaceId,
    clock::ManualClock,
    context::Actor,
    credential::{Credential, CredentialQuery},
    state::{AuditFilter, Condition, Namespace, PutOutcome, Store, StoredAudit},
};
use connector_state::{MemoryState, SqliteState};
use connector_vault::{
    NewCredential, Vault,
    key::{Binding, DataKey, LocalKey, MasterKey},
};
use secrecy::{ExposeSecret as _, SecretString};

/// When the tests play, in Unix seconds.
pub const START: u64 = 1_800_000_000;
pub const CREDENTIALS: &str = "vault.credentials";
pub const TOKENS: &str = "vault.tokens";

/// A store with its clock.
pub struct Place {
    pub store: Arc<dyn Store>,
    pub clock: ManualClock,
    /// The folder of the database, which goes with it.
    pub folder: Option<tempfile::TempDir>,
}

impl Place {
    pub fn memory() -> Self {
        let clock = ManualClock::at_unix(START);
        Self { store: Arc::new(MemoryState::new(Arc::new(clock.clone()))), clock, folder: None }
    }

    pub fn sqlite() -> Self {
        let clock = ManualClock::at_unix(START);
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteState::open_with(folder.path().join("state.db"), Arc::new(clock.clone())).unwrap();
        Self { store: Arc::new(store), clock, folder: Some(folder) }
    }

    pub async fn vault(&self) -> Vault {
        self.vault_under(vec![key(1)]).await.unwrap()
    }

    pub async fn vault_under(&self, keys: Vec<Arc<dyn MasterKey>>) -> Result<Vault> {
        open(self.store.clone(), &self.clock, keys).await
    }

    /// Moves both clocks.
    pub async fn pass(&self, time: Duration) {
        self.clock.advance(time);
        tokio::time::advance(time).await;
    }

    pub async fn raw(&self, tenant: &str, namespace: &str, key: &str) -> Vec<u8> {
        let tenant = TenantId::from(tenant);
        self.store.get(Namespace::new(&tenant, namespace), key).await.unwrap().unwrap().value.to_vec()
    }

    pub async fn put_raw(&self, tenant: &str, namespace: &str, key: &str, value: Vec<u8>) {
        let tenant = TenantId::from(tenant);
        let outcome = self.store.put(Namespace::new(&tenant, namespace), key, value.into(), Condition::Any, None).await.unwrap();
        assert!(matches!(outcome, PutOutcome::Stored(_)));
    }

    pub async fn trail(&self, tenant: &str) -> Vec<StoredAudit> {
        self.store.audit_tail(&TenantId::from(tenant), AuditFilter { limit: 10_000, ..AuditFilter::default() }).await.unwrap()
    }
}

pub async fn open(store: Arc<dyn Store>, clock: &ManualClock, keys: Vec<Arc<dyn MasterKey>>) -> Result<Vault> {
    let builder = Vault::builder(store).clock(Arc::new(clock.clone()));
    keys.into_iter().fold(builder, connector_vault::VaultBuilder::key).open().await
}

/// Local key number `n`, called `k<n>`.
pub fn key(n: u8) -> Arc<dyn MasterKey> {
    key_called(&format!("k{n}"), n)
}

pub fn key_called(id: &str, n: u8) -> Arc<dyn MasterKey> {
    let bytes: [u8; 32] = std::array::from_fn(|at| u8::try_from(at).unwrap().wrapping_mul(11).wrapping_add(n));
    Arc::new(LocalKey::new(Some(id), bytes.into(), format!("test key {n}")).unwrap())
}

/// A master key in a key service that can be cut off.
#[derive(Debug)]
pub struct RemoteKey {
    inner: Arc<dyn MasterKey>,
    pub away: AtomicBool,
    pub unwraps: AtomicU64,
}

impl RemoteKey {
    pub fn new(n: u8) -> Arc<Self> {
        Arc::new(Self { inner: key_called("kms", n), away: AtomicBool::new(false), unwraps: AtomicU64::new(0) })
    }

    pub fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    fn check(&self) -> Result<()> {
        if self.away.load(Ordering::SeqCst) { Err(Error::new(ErrorKind::Timeout, "no answer from the key service")) } else { Ok(()) }
    }
}

#[async_trait]
impl MasterKey for RemoteKey {
    fn id(&self) -> &str {
        self.inner.id()
    }

    fn place(&self) -> String {
        "key service of the test".into()
    }

    fn is_remote(&self) -> bool {
        true
    }

    async fn wrap(&self, key: &DataKey, binding: &Binding<'_>) -> Result<Vec<u8>> {
        self.check()?;
        self.inner.wrap(key, binding).await
    }

    async fn unwrap(&self, wrapped: &[u8], binding: &Binding<'_>) -> Result<DataKey> {
        self.check()?;
        self.unwraps.fetch_add(1, Ordering::SeqCst);
        self.inner.unwrap(wrapped, binding).await
    }
}

/// Who asks, owned.
pub struct Ask {
    pub tenant: TenantId,
    pub name: String,
    pub workspace: Option<WorkspaceId>,
    pub actor: Actor,
}

impl Ask {
    pub fn query(&self) -> CredentialQuery<'_> {
        CredentialQuery {
            tenant: &self.tenant,
            name: &self.name,
            workspace: self.workspace.as_ref(),
            connector: "crm",
            connection: "crm-main",
            operation: "crm_get_contact",
            actor: &self.actor,
            correlation_id: "corr-1",
        }
    }
}

/// Asks for the hub's own errand.
pub fn ask(tenant: &str, name: &str) -> Ask {
    Ask { tenant: tenant.into(), name: name.into(), workspace: None, actor: Actor::User("ada".into()) }
}

pub fn ask_for(tenant: &str, name: &str, workspace: &str) -> Ask {
    Ask { workspace: Some(workspace.into()), ..ask(tenant, name) }
}

pub fn fields<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, SecretString> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), SecretString::from(value.to_owned()))).collect()
}

pub fn new<const N: usize>(pairs: [(&str, &str); N]) -> NewCredential {
    NewCredential { fields: fields(pairs), ..NewCredential::default() }
}

pub fn value(credential: &Credential, field: &str) -> String {
    credential.field(field).unwrap().expose_secret().to_owned()
}

/// Runs each test on both stores.
#[macro_export]
macro_rules! on_both_stores {
    ($($name:ident),+ $(,)?) => {
        mod memory {
            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                super::$name($crate::common::Place::memory()).await;
            })+
        }

        mod sqlite {
            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                super::$name($crate::common::Place::sqlite()).await;
            })+
        }
    };
}
