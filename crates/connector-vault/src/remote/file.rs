//! Secrets as files, as Kubernetes and Docker mount them: `{dir}/{tenant}/{name}/{field}`, or one file `{dir}/{tenant}/{name}`.
//!
//! Refuses links that lead out of the tenant's own folder, files that everybody may read, and files over 64 KiB.

use std::{
    collections::BTreeMap,
    fs::{File, Metadata},
    io::{ErrorKind as IoKind, Read as _},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use async_trait::async_trait;
use connector_core::{Error, Result, TenantId};
use secrecy::SecretString;
use zeroize::Zeroizing;

use super::path::{check, is_plain};
use crate::manager::{ManagedSecret, SecretManager};

/// The longest secret, in bytes.
const MAX_FILE: u64 = 64 * 1024;
/// The most fields a secret may have.
const MAX_FIELDS: usize = 64;
/// The field of a secret that is one file.
const VALUE: &str = "value";

/// A folder of secrets.
#[derive(Debug, Clone)]
pub struct FileStore {
    dir: PathBuf,
}

impl FileStore {
    /// The folder that holds a folder for each tenant. It is looked at when a secret is read, so it may be mounted later.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }
}

#[async_trait]
impl SecretManager for FileStore {
    fn place(&self) -> String {
        format!("folder {}", self.dir.display())
    }

    async fn read(&self, tenant: &TenantId, name: &str) -> Result<Option<ManagedSecret>> {
        check("tenant", tenant.as_str())?;
        check("secret", name)?;
        let (dir, tenant, name) = (self.dir.clone(), tenant.as_str().to_owned(), name.to_owned());
        let reading = tokio::task::spawn_blocking(move || read(&dir, &tenant, &name));
        reading.await.map_err(|_| Error::internal("reading a secret's files was cut off"))?
    }
}

fn read(dir: &Path, tenant: &str, name: &str) -> Result<Option<ManagedSecret>> {
    let Some(dir) = resolved(dir)? else {
        return Err(Error::config(format!("there is no folder {}; mount the secrets there or correct `dir`", dir.display())));
    };
    let own = dir.join(tenant);
    let Some(real) = resolved(&own)? else { return Ok(None) };
    // A tenant's folder is its own: a link to another tenant's would make one credential two.
    if real != own {
        return Err(Error::config(format!("{} is a link; make it a folder", own.display())));
    }
    let path = own.join(name);
    let Some(real) = inside(&own, &path)? else { return Ok(None) };
    let mut newest = 0;
    let mut fields = BTreeMap::new();
    if real.is_dir() {
        for entry in std::fs::read_dir(&real).map_err(|error| unreadable(&path, error))? {
            let entry = entry.map_err(|error| unreadable(&path, error))?;
            // Kubernetes keeps its versions in `..data` and `..2026_11_21`; what has such a name is no field.
            let Some(field) = entry.file_name().to_str().filter(|field| is_plain(field)).map(str::to_owned) else { continue };
            let shown = path.join(&field);
            let Some(file) = inside(&own, &entry.path())? else { continue };
            if file.is_dir() {
                continue;
            }
            if fields.len() == MAX_FIELDS {
                return Err(Error::config(format!("{} holds more than {MAX_FIELDS} files; a secret's folder holds its fields only", path.display())));
            }
            fields.insert(field, text(&file, &shown, &mut newest)?);
        }
        if fields.is_empty() {
            return Ok(None);
        }
    } else {
        fields.insert(VALUE.to_owned(), text(&real, &path, &mut newest)?);
    }
    Ok(Some(ManagedSecret { fields, version: newest, previous: None, lease: None }))
}

/// Where a path really leads; `None` if to nothing.
fn resolved(path: &Path) -> Result<Option<PathBuf>> {
    match path.canonicalize() {
        Ok(real) => Ok(Some(real)),
        Err(error) if matches!(error.kind(), IoKind::NotFound | IoKind::NotADirectory) => Ok(None),
        Err(error) => Err(unreadable(path, error)),
    }
}

/// The same, for what must stay in a tenant's folder.
fn inside(own: &Path, path: &Path) -> Result<Option<PathBuf>> {
    match resolved(path)? {
        Some(real) if !real.starts_with(own) || real == own => {
            Err(Error::config(format!("{} is a link that leads out of {}; put the file itself there", path.display(), own.display())))
        }
        found => Ok(found),
    }
}

/// The text of a file, without one newline at its end. `newest` becomes the time of the newest file.
fn text(file: &Path, shown: &Path, newest: &mut u64) -> Result<SecretString> {
    // Asked first: opening a pipe would wait for its writer.
    if !std::fs::metadata(file).map_err(|error| unreadable(shown, error))?.is_file() {
        return Err(Error::config(format!("{} is not a file", shown.display())));
    }
    let mut opened = File::open(file).map_err(|error| unreadable(shown, error))?;
    let about = opened.metadata().map_err(|error| unreadable(shown, error))?;
    refuse_public(&about, shown)?;
    // The capacity keeps the text from being moved while it is read, which would leave a copy behind.
    let room = usize::try_from(about.len().min(MAX_FILE)).unwrap_or(0) + 2;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    opened.by_ref().take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|error| unreadable(shown, error))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Error::config(format!("{} is longer than {} KiB; that is no credential", shown.display(), MAX_FILE / 1024)));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| Error::config(format!("{} is not text; store it in base64", shown.display())))?;
    let text = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
    let changed = about.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    *newest = (*newest).max(changed.map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)));
    Ok(SecretString::from(text))
}

#[cfg(unix)]
fn refuse_public(about: &Metadata, shown: &Path) -> Result<()> {
    use std::os::unix::fs::MetadataExt as _;

    let mode = about.mode() & 0o7777;
    if mode & 0o006 == 0 {
        return Ok(());
    }
    let path = shown.display();
    Err(Error::config(format!(
        "{path} can be read or changed by everybody (mode {mode:04o}); run `chmod o-rwx '{path}'`, in Kubernetes say `defaultMode: 0440`, in a compose \
         file `mode: 0440`"
    )))
}

#[cfg(not(unix))]
#[allow(clippy::unnecessary_wraps, reason = "the same shape as on Unix")]
fn refuse_public(_: &Metadata, _: &Path) -> Result<()> {
    Ok(())
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    Error::config(format!("{} cannot be read ({})", path.display(), error.kind())).with_source(error)
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use secrecy::ExposeSecret as _;
    use tempfile::TempDir;

    use super::*;
    use crate::remote::path::HOSTILE;

    fn put(dir: &TempDir, path: &str, text: &str) -> PathBuf {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        path
    }

    async fn get(dir: &TempDir, tenant: &str, name: &str) -> Result<Option<Vec<(String, String)>>> {
        let found = FileStore::new(dir.path()).read(&tenant.into(), name).await?;
        Ok(found.map(|secret| secret.fields.into_iter().map(|(field, text)| (field, text.expose_secret().to_owned())).collect()))
    }

    fn pair(field: &str, text: &str) -> (String, String) {
        (field.to_owned(), text.to_owned())
    }

    #[tokio::test]
    async fn a_folder_is_fields_and_a_file_is_one() {
        let dir = TempDir::new().unwrap();
        put(&dir, "acme/slack/token", "xoxb\n");
        put(&dir, "acme/slack/secret", "two\n\n");
        put(&dir, "acme/stripe", "sk\r\n");
        assert_eq!(get(&dir, "acme", "slack").await.unwrap().unwrap(), [pair("secret", "two\n"), pair("token", "xoxb")]);
        assert_eq!(get(&dir, "acme", "stripe").await.unwrap().unwrap(), [pair("value", "sk")]);
        for (tenant, name) in [("acme", "nothing"), ("other", "slack"), ("acme", "stripe.txt")] {
            assert_eq!(get(&dir, tenant, name).await.unwrap(), None, "{tenant}/{name}");
        }
    }

    #[tokio::test]
    async fn a_newer_file_is_a_higher_version() {
        let dir = TempDir::new().unwrap();
        let path = put(&dir, "default/slack/token", "one");
        let store = FileStore::new(dir.path());
        let before = store.read(&TenantId::default(), "slack").await.unwrap().unwrap().version;
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(UNIX_EPOCH + std::time::Duration::from_millis(before + 5)).unwrap();
        assert_eq!(store.read(&TenantId::default(), "slack").await.unwrap().unwrap().version, before + 5);
    }

    /// As Kubernetes mounts a secret: fields are links through `..data` into a folder with a date.
    #[tokio::test]
    async fn links_that_stay_inside_are_followed() {
        let dir = TempDir::new().unwrap();
        put(&dir, "acme/slack/..2026_11_21/token", "xoxb");
        let slack = dir.path().join("acme/slack");
        symlink("..2026_11_21", slack.join("..data")).unwrap();
        symlink("..data/token", slack.join("token")).unwrap();
        assert_eq!(get(&dir, "acme", "slack").await.unwrap().unwrap(), [pair("token", "xoxb")]);
    }

    #[tokio::test]
    async fn links_that_leave_the_tenants_folder_are_refused() {
        let dir = TempDir::new().unwrap();
        let theirs = put(&dir, "other/slack/token", "theirs");
        put(&dir, "acme/crm/id", "1");
        let acme = dir.path().join("acme");
        symlink(&theirs, acme.join("crm/token")).unwrap();
        symlink(dir.path().join("other/slack"), acme.join("slack")).unwrap();
        symlink(&theirs, acme.join("one")).unwrap();
        symlink(&acme, acme.join("loop")).unwrap();
        symlink("/etc/hostname", acme.join("host")).unwrap();
        symlink(dir.path().join("other"), dir.path().join("third")).unwrap();
        for (tenant, name) in [("acme", "crm"), ("acme", "slack"), ("acme", "one"), ("acme", "loop"), ("acme", "host"), ("third", "slack")] {
            let error = get(&dir, tenant, name).await.unwrap_err();
            assert_eq!(error.kind(), connector_core::ErrorKind::Config, "{tenant}/{name}");
            assert!(error.message().contains("is a link"), "{error}");
        }
    }

    #[tokio::test]
    async fn hostile_names_are_refused() {
        let dir = TempDir::new().unwrap();
        put(&dir, "acme/slack/token", "xoxb");
        for hostile in HOSTILE {
            assert!(get(&dir, "acme", hostile).await.is_err(), "{hostile:?} as a name");
            assert!(get(&dir, hostile, "slack").await.is_err(), "{hostile:?} as a tenant");
        }
    }

    #[tokio::test]
    async fn what_everybody_may_read_and_what_is_too_long_is_refused() {
        let dir = TempDir::new().unwrap();
        let path = put(&dir, "acme/slack/token", "xoxb-canary");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = get(&dir, "acme", "slack").await.unwrap_err().to_string();
        assert!(error.contains("chmod o-rwx '") && error.contains("0644") && !error.contains("canary"), "{error}");
        put(&dir, "acme/long", &"x".repeat(usize::try_from(MAX_FILE).unwrap() + 1));
        assert!(get(&dir, "acme", "long").await.unwrap_err().to_string().contains("longer than 64 KiB"));
        put(&dir, "acme/full", &"x".repeat(usize::try_from(MAX_FILE).unwrap()));
        assert!(get(&dir, "acme", "full").await.is_ok());
        let error = FileStore::new(dir.path().join("none")).read(&TenantId::default(), "slack").await.unwrap_err();
        assert!(error.message().contains("there is no folder"), "{error}");
    }
}
