//! What the processes of a case share: one SQLite file with a vault in it, and the master keys by environment.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use connector_core::{
    CallCx, TenantId,
    clock::{Clock as _, SystemClock, unix_millis},
    credential::CredentialQuery,
    state::Condition,
    token::{TokenFacts, TokenRecord, TokenSet, TokenState, TokenStore as _},
};
use connector_state::SqliteState;
use connector_vault::{NewCredential, Vault, key::LocalKey};
use futures_util::{StreamExt as _, TryStreamExt as _};
use secrecy::SecretString;

use super::{
    provider::{CLIENT_ID, CLIENT_SECRET, Family, LIFETIME},
    worker::connection,
};

/// The environment by which a process finds it.
const FILE: &str = "CHAOS_FILE";
const KEYS: &str = "CHAOS_KEYS";

/// How long a vault keeps what it opened, if nobody says otherwise.
pub(crate) const KEEP: Duration = Duration::from_secs(300);

/// The open vault.
#[derive(Debug, Clone)]
pub(crate) struct Lot {
    pub(crate) vault: Vault,
    file: PathBuf,
    keys: Vec<String>,
}

/// The file, as the environment says.
pub(crate) fn file() -> Result<PathBuf> {
    Ok(PathBuf::from(std::env::var_os(FILE).context(FILE)?))
}

/// The master keys, as the environment says: the current one first.
pub(crate) fn keys() -> Result<Vec<String>> {
    Ok(std::env::var(KEYS).context(KEYS)?.split(',').map(str::to_owned).collect())
}

/// The name of credential `number` of a lot with many.
pub(crate) fn name(number: usize) -> String {
    format!("credential-{number}")
}

/// What is in it.
pub(crate) fn secret(number: usize) -> String {
    format!("secret-of-{number}")
}

impl Lot {
    /// A new file in `dir`, under a new key.
    pub(crate) async fn create(dir: &Path) -> Result<Self> {
        Self::with(&dir.join("lot.db"), &[new_key("first")], KEEP).await
    }

    /// The one the environment names; what is opened is kept for so long.
    pub(crate) async fn open(keep: Duration) -> Result<Self> {
        Self::with(&file()?, &keys()?, keep).await
    }

    /// The file under these keys (`id=base64`), the current one first. With nothing kept, each read goes to the file.
    pub(crate) async fn with(file: &Path, keys: &[String], keep: Duration) -> Result<Self> {
        let mut builder = Vault::builder(Arc::new(SqliteState::open(file)?)).keep_for(keep);
        for key in keys {
            let (id, text) = key.split_once('=').context("a key is written `id=base64`")?;
            builder = builder.key(Arc::new(LocalKey::from_text(Some(id), text, "a case's own key")?));
        }
        Ok(Self { vault: builder.open().await?, file: file.to_owned(), keys: keys.to_vec() })
    }

    /// The environment by which another process finds it.
    pub(crate) fn env(&self) -> Vec<(&'static str, String)> {
        env(&self.file, &self.keys)
    }

    /// Keeps the first tokens of a consent, as signing in does.
    pub(crate) async fn connect(&self, name: &str, family: &Family) -> Result<()> {
        let fields = [("client_id", CLIENT_ID), ("client_secret", CLIENT_SECRET)];
        let new = NewCredential {
            fields: fields.into_iter().map(|(field, value)| (field.to_owned(), SecretString::from(value))).collect(),
            scheme: Some("authorization_code".into()),
            workspaces: vec!["*".into()],
            ..NewCredential::default()
        };
        self.vault.set(&TenantId::default(), name, new).await?;
        let now = unix_millis(SystemClock.wall());
        let facts =
            TokenFacts { state: TokenState::Active, serial: 1, obtained_at: now, expires_at: Some(now + LIFETIME * 1000), ..TokenFacts::default() };
        let tokens = TokenSet { access: family.access.clone(), refresh: Some(family.refresh.clone()) };
        let cx = CallCx::new(connection(name)?);
        let query = CredentialQuery::of(&cx, name).for_errand("chaos.connect");
        self.vault.save(&query, &TokenRecord { tokens, facts }, Condition::Absent).await?.context("there are tokens already")?;
        Ok(())
    }

    /// Puts many credentials in, several at a time.
    pub(crate) async fn fill(&self, credentials: usize) -> Result<()> {
        let sets = (0..credentials).map(|number| async move {
            let new = NewCredential {
                fields: [("token".to_owned(), SecretString::from(secret(number)))].into(),
                workspaces: vec!["*".into()],
                ..NewCredential::default()
            };
            self.vault.set(&TenantId::default(), &name(number), new).await.map(|_| ())
        });
        futures_util::stream::iter(sets).buffer_unordered(64).try_collect::<()>().await?;
        Ok(())
    }
}

/// The environment by which a process finds the file and its keys.
pub(crate) fn env(at: &Path, keys: &[String]) -> Vec<(&'static str, String)> {
    vec![(FILE, at.display().to_string()), (KEYS, keys.join(","))]
}

/// A master key nobody else has, as `id=base64`.
pub(crate) fn new_key(id: &str) -> String {
    let bytes: [u8; 32] = std::array::from_fn(|_| fastrand::u8(..));
    format!("{id}={}", base64::engine::general_purpose::STANDARD.encode(bytes))
}
