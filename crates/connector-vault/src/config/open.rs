//! From the configuration to an open vault.

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use connector_core::{Error, Result, clock::Clock, state::Store, transport::Transport};
use zeroize::Zeroizing;

use super::{AppRoleConfig, KEEP_FOR, PATH, SecretRef, StoreConfig, VaultConfig, fill::Fill, place::Place};
use crate::{
    Vault,
    key::{HOW, LocalKey, MasterKey},
    manager::SecretManager,
    remote::{
        AwsClient, AwsCredentials, AwsService, Env, EnvStore, FileStore, HashiAuth, HashiClient, KmsKey, KvStore, PathTemplate, SecretsManagerStore,
        TransitKey,
    },
};

/// The variable that holds the master key where the configuration names none.
pub const MASTER_KEY: &str = "CONNECTORS_MASTER_KEY";
/// The file that holds it where there is no such variable, in the data directory.
const KEY_FILE: &str = "master.key";

/// What a vault is opened with.
#[derive(Clone)]
pub struct OpenDeps {
    /// Where records are kept.
    pub store: Arc<dyn Store>,
    /// How key services and managers are reached. Its egress guard must trust connection settings, because they may lie in private networks.
    pub transport: Arc<dyn Transport>,
    /// Where variables come from.
    pub env: Env,
    /// Where the default key file lies; none where there is no such place.
    pub data_dir: Option<PathBuf>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl fmt::Debug for OpenDeps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenDeps").field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}

/// Opens the vault that `config` describes. Without `keys` and without the variable [`MASTER_KEY`], a key file is made in the data
/// directory on first use, and the log says so.
///
/// # Errors
/// [`connector_core::ErrorKind::Config`] that names every key of the configuration that is wrong and every variable that is missing, or the
/// place that cannot be read; what [`crate::VaultBuilder::open`] finds, which proves the keys.
pub async fn open(config: &VaultConfig, deps: OpenDeps) -> Result<Vault> {
    let problems = config.problems();
    if !problems.is_empty() {
        let shown: Vec<String> = problems.into_iter().map(|(key, message)| format!("`{key}`: {message}")).collect();
        return Err(Error::config(format!("the vault cannot be configured: {}", shown.join("; "))));
    }
    let plan = Plan::of(config, &deps.env)?;
    let mut makers = Makers { deps: &deps, aws: HashMap::new() };
    let mut builder = Vault::builder(deps.store.clone()).clock(deps.clock.clone()).keep_for(config.keep().unwrap_or(KEEP_FOR));
    if plan.keys.is_empty() {
        builder = builder.key(makers.default_key().await?);
    }
    for key in plan.keys {
        let at = format!("{}.from", key.at);
        builder = builder.key(makers.key(key).await.map_err(|error| named(&at, error))?);
    }
    for store in plan.stores {
        let (at, name) = (store.at, store.name);
        builder = builder.manager(&name, makers.store(store.kind).map_err(|error| named(&at, error))?);
    }
    builder.open().await
}

/// The same error, with the key of the configuration it is about.
fn named(at: &str, error: Error) -> Error {
    let mut named = Error::new(error.kind(), format!("`{at}`: {}", error.message())).with_retry(error.retry());
    if let Some(status) = error.status() {
        named = named.with_status(status);
    }
    named.with_source(error)
}

/// The configuration with its variables filled.
struct Plan {
    keys: Vec<PlannedKey>,
    stores: Vec<PlannedStore>,
}

struct PlannedKey {
    at: String,
    id: String,
    place: Place,
    login: Option<Login>,
}

struct PlannedStore {
    at: String,
    name: String,
    kind: PlannedKind,
}

enum PlannedKind {
    Hashicorp { url: String, mount: String, path: PathTemplate, login: Login },
    SecretsManager { region: Option<String>, endpoint: Option<String>, path: PathTemplate },
    File(PathBuf),
    Env { prefix: String, fields: Vec<String> },
}

struct Login {
    auth: HashiAuth,
    namespace: Option<String>,
}

impl Plan {
    fn of(config: &VaultConfig, env: &Env) -> Result<Self> {
        let mut fill = Fill::new(env);
        let mut keys = Vec::new();
        for (number, key) in config.keys.iter().enumerate() {
            let at = format!("vault.keys[{number}]");
            let from = fill.text(&format!("{at}.from"), &key.from);
            let login = login(&mut fill, &at, key.token.as_ref(), key.approle.as_ref(), key.namespace.as_deref());
            match Place::parse(&from) {
                Ok(place) => keys.push(PlannedKey { at, id: key.id.clone(), place, login }),
                Err(why) => fill.problem(&format!("{at}.from"), &why),
            }
        }
        let mut stores = Vec::new();
        for (name, store) in &config.stores {
            let at = format!("vault.stores.{name}");
            let path = |text: &Option<String>| PathTemplate::parse(text.as_deref().unwrap_or(PATH));
            let mut some = |leaf: &str, text: &Option<String>| text.as_ref().map(|text| fill.text(&format!("{at}.{leaf}"), text).to_string());
            let kind = match store {
                StoreConfig::Hashicorp(config) => {
                    let url = fill.text(&format!("{at}.url"), &config.url).to_string();
                    let login = login(&mut fill, &at, config.token.as_ref(), config.approle.as_ref(), config.namespace.as_deref());
                    let Some(login) = login else { continue };
                    let mount = config.mount.clone().unwrap_or_else(|| "secret".into());
                    PlannedKind::Hashicorp { url, mount, path: path(&config.path)?, login }
                }
                StoreConfig::AwsSecretsManager(config) => PlannedKind::SecretsManager {
                    region: some("region", &config.region),
                    endpoint: some("endpoint", &config.endpoint),
                    path: path(&config.path)?,
                },
                StoreConfig::File(config) => {
                    let dir = config.dir.to_str().map(|dir| fill.text(&format!("{at}.dir"), dir).to_string());
                    PlannedKind::File(dir.map_or_else(|| config.dir.clone(), PathBuf::from))
                }
                StoreConfig::Env(config) => PlannedKind::Env { prefix: config.prefix.clone(), fields: config.fields.clone() },
            };
            stores.push(PlannedStore { at, name: name.clone(), kind });
        }
        fill.finish()?;
        Ok(Self { keys, stores })
    }
}

/// A login with its secrets; `None` if the configuration gives none, which was checked where one is needed.
fn login(fill: &mut Fill<'_>, at: &str, token: Option<&SecretRef>, approle: Option<&AppRoleConfig>, namespace: Option<&str>) -> Option<Login> {
    let auth = match (token, approle) {
        (Some(token), _) => HashiAuth::Token(fill.text(&format!("{at}.token"), &token.0).as_str().into()),
        (None, Some(approle)) => HashiAuth::AppRole {
            mount: approle.mount.clone().unwrap_or_else(|| "approle".into()),
            role_id: fill.text(&format!("{at}.approle.role_id"), &approle.role_id).to_string(),
            secret_id: fill.text(&format!("{at}.approle.secret_id"), &approle.secret_id.0).as_str().into(),
        },
        (None, None) => return None,
    };
    let namespace = namespace.map(|namespace| fill.text(&format!("{at}.namespace"), namespace).to_string());
    Some(Login { auth, namespace })
}

/// Makes keys and managers; those in one AWS region share their credentials.
struct Makers<'a> {
    deps: &'a OpenDeps,
    aws: HashMap<String, Arc<AwsCredentials>>,
}

impl Makers<'_> {
    async fn key(&mut self, key: PlannedKey) -> Result<Arc<dyn MasterKey>> {
        let PlannedKey { id, place, login, .. } = key;
        Ok(match place {
            Place::Env(variable) => Arc::new(self.variable(Some(&id), &variable)?),
            Place::File(path) => Arc::new(blocking(move || LocalKey::from_file(Some(&id), &path)).await?),
            Place::Keyring { service, account } => Arc::new(blocking(move || LocalKey::from_keyring(Some(&id), &service, &account)).await?),
            Place::Kms { key, region, endpoint } => {
                let client = self.aws(AwsService::Kms, region, endpoint.as_deref())?;
                Arc::new(KmsKey::new(client, &id, &key)?)
            }
            Place::Transit { url, mount, key } => {
                let login = login.ok_or_else(|| Error::config("a transit key needs `token` or `approle` beside it"))?;
                Arc::new(TransitKey::new(self.hashicorp(&url, login)?, &id, &mount, &key)?)
            }
        })
    }

    fn store(&mut self, kind: PlannedKind) -> Result<Arc<dyn SecretManager>> {
        Ok(match kind {
            PlannedKind::Hashicorp { url, mount, path, login } => Arc::new(KvStore::new(self.hashicorp(&url, login)?, &mount, path)?),
            PlannedKind::SecretsManager { region, endpoint, path } => {
                Arc::new(SecretsManagerStore::new(self.aws(AwsService::SecretsManager, region, endpoint.as_deref())?, path))
            }
            PlannedKind::File(dir) => Arc::new(FileStore::new(dir)),
            PlannedKind::Env { prefix, fields } => Arc::new(EnvStore::new(self.deps.env.clone(), &prefix, &fields)?),
        })
    }

    /// The key where the configuration names none.
    async fn default_key(&self) -> Result<Arc<dyn MasterKey>> {
        if (self.deps.env)(MASTER_KEY).is_some_and(|value| !value.is_empty()) {
            return Ok(Arc::new(self.variable(None, MASTER_KEY)?));
        }
        let Some(dir) = &self.deps.data_dir else {
            return Err(Error::config(format!(
                "the vault has no master key: set {MASTER_KEY} ({HOW}), or name one under `vault.keys` with `from:` {}",
                super::place::WAYS
            )));
        };
        let path = dir.join(KEY_FILE);
        Ok(Arc::new(blocking(move || found_or_made(&path)).await?))
    }

    fn variable(&self, id: Option<&str>, variable: &str) -> Result<LocalKey> {
        let text = (self.deps.env)(variable).filter(|value| !value.is_empty()).map(Zeroizing::new);
        let text =
            text.ok_or_else(|| Error::config(format!("the environment variable `{variable}` is not set; it must hold the master key: {HOW}")))?;
        LocalKey::from_text(id, &text, format!("environment variable {variable}"))
    }

    fn hashicorp(&self, url: &str, login: Login) -> Result<HashiClient> {
        HashiClient::new(self.deps.transport.clone(), self.deps.clock.clone(), url, login.namespace.as_deref(), login.auth)
    }

    fn aws(&mut self, service: AwsService, region: Option<String>, endpoint: Option<&str>) -> Result<AwsClient> {
        let var = |name: &str| (self.deps.env)(name).filter(|value| !value.is_empty());
        let region = region.or_else(|| var("AWS_REGION")).or_else(|| var("AWS_DEFAULT_REGION"));
        let region = region.ok_or_else(|| Error::config("the AWS region is not known; write `region`, or set AWS_REGION"))?;
        let (transport, clock) = (&self.deps.transport, &self.deps.clock);
        let credentials = match self.aws.get(&region) {
            Some(known) => known.clone(),
            None => {
                let made = Arc::new(AwsCredentials::new(transport.clone(), clock.clone(), self.deps.env.clone(), &region)?);
                self.aws.insert(region.clone(), made.clone());
                made
            }
        };
        AwsClient::new(transport.clone(), clock.clone(), credentials, service, &region, endpoint)
    }
}

/// Runs file and keyring work where it may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::internal("reading the master key was cut off"))?
}

/// The key in the default file, which is made if there is none.
pub(super) fn found_or_made(path: &Path) -> Result<LocalKey> {
    if path.symlink_metadata().is_ok() {
        return LocalKey::from_file(None, path);
    }
    // Made under another name and put in place whole: a second process that starts now finds no file or a complete one.
    let draft = path.with_extension(format!("new-{}", hex::encode(crate::aead::random::<8>()?.as_slice())));
    LocalKey::generate_file(&draft)?;
    let placed = std::fs::hard_link(&draft, path);
    let cleared = std::fs::remove_file(&draft);
    let wrong =
        |error: std::io::Error| Error::config(format!("the master key file {} cannot be made ({})", path.display(), error.kind())).with_source(error);
    cleared.map_err(wrong)?;
    match placed {
        Ok(()) => {
            #[cfg(unix)]
            if let Some(folder) = path.parent() {
                std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(wrong)?;
            }
            let key = LocalKey::from_file(None, path)?;
            tracing::warn!(
                file = %path.display(),
                id = key.id(),
                "made a new master key beside the data; keep a copy of this file where the backups are not: without it the credentials are gone"
            );
            Ok(key)
        }
        // Another process was faster; its key is the one.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => LocalKey::from_file(None, path),
        Err(error) => Err(wrong(error)),
    }
}
