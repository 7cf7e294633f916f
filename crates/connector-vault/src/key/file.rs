//! Key files: read only if nobody else can read or replace them, made without ever overwriting one.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    path::Path,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use connector_core::{Error, Result};
use zeroize::Zeroizing;

use super::{DataKey, LocalKey};
use crate::aead;

/// A key file is one line. More is not read.
const LONGEST: u64 = 1024;

impl LocalKey {
    /// The key in a file, which must be a regular file of ours that only we can read (0600 or stricter; checked on Unix only).
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] if there is no such file, others could read it, or it holds no key; with the command that mends it.
    pub fn from_file(id: Option<&str>, path: &Path) -> Result<Self> {
        let place = format!("file {}", path.display());
        let wrong = |why: String| Error::config(format!("the master key {place} {why}"));
        // Asked before opening: opening a pipe would wait for its writer.
        let found = std::fs::metadata(path).map_err(|error| wrong(format!("cannot be read ({})", error.kind())).with_source(error))?;
        if !found.is_file() {
            return Err(wrong("is not a regular file; name a file".into()));
        }
        let file = File::open(path).map_err(|error| wrong(format!("cannot be read ({})", error.kind())).with_source(error))?;
        refuse_shared(&file, path).map_err(wrong)?;
        // The capacity keeps the text from being moved while it is read, which would leave a copy behind.
        let mut text = Zeroizing::new(String::with_capacity(LONGEST as usize + 1));
        file.take(LONGEST).read_to_string(&mut text).map_err(|error| wrong(format!("is not text ({})", error.kind())))?;
        Self::from_text(id, &text, place)
    }

    /// Makes a new key in a new file that only we can read, and gives the key. Flushed to the disk when it returns.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] if the file is there already (it is never overwritten: what is sealed under it would be lost)
    /// or cannot be written.
    pub fn generate_file(path: &Path) -> Result<Self> {
        let place = format!("file {}", path.display());
        let wrong = |error: std::io::Error| {
            let why = match error.kind() {
                std::io::ErrorKind::AlreadyExists => "is there already and is not overwritten: what is sealed under it would be lost".to_owned(),
                kind => format!("cannot be written ({kind})"),
            };
            Error::config(format!("the master key {place} {why}")).with_source(error)
        };
        let key: DataKey = aead::random()?;
        let mut text = Zeroizing::new(String::with_capacity(64));
        BASE64_STANDARD.encode_string(&key[..], &mut text);
        text.push('\n');
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path).map_err(wrong)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(wrong)?;
        #[cfg(unix)]
        if let Some(folder) = path.parent() {
            // Without this the name itself may be gone after a power cut, and with it everything sealed under the key.
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(wrong)?;
        }
        Self::new(None, key, place)
    }
}

#[cfg(unix)]
fn refuse_shared(file: &File, path: &Path) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt as _;

    let found = file.metadata().map_err(|error| format!("cannot be read ({})", error.kind()))?;
    let (path, mode, us) = (path.display(), found.mode() & 0o7777, rustix::process::geteuid().as_raw());
    if !found.is_file() {
        return Err("is not a regular file; name a file".into());
    }
    if mode & 0o077 != 0 {
        return Err(format!("can be read or changed by others (mode {mode:04o}); run `chmod 600 '{path}'`, and make a new key if it was shared"));
    }
    if found.uid() != us {
        return Err(format!("belongs to user {}, not to user {us} who runs this; run `chown {us} '{path}'`", found.uid()));
    }
    Ok(())
}

#[cfg(not(unix))]
#[allow(clippy::unnecessary_wraps, reason = "the same shape as on Unix")]
fn refuse_shared(_: &File, _: &Path) -> Result<(), String> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::key::MasterKey as _;

    #[test]
    fn a_made_key_file_is_ours_alone_and_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let made = LocalKey::generate_file(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(LocalKey::from_file(None, &path).unwrap().id(), made.id());
        let before = std::fs::read(&path).unwrap();
        let error = LocalKey::generate_file(&path).unwrap_err().to_string();
        assert!(error.contains("is not overwritten"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_key_file_that_others_can_read_is_refused_with_the_command_that_mends_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        LocalKey::generate_file(&path).unwrap();
        for mode in [0o644, 0o640, 0o604, 0o660, 0o602, 0o601] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            let error = LocalKey::from_file(None, &path).unwrap_err().to_string();
            assert!(error.contains(&format!("chmod 600 '{}'", path.display())) && error.contains(&format!("{mode:04o}")), "{error}");
        }
        for mode in [0o600, 0o400] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            LocalKey::from_file(None, &path).unwrap();
        }
    }

    #[test]
    fn folders_missing_files_and_endless_ones_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = LocalKey::from_file(None, folder.path()).unwrap_err().to_string();
        assert!(error.contains("not a regular file"), "{error}");
        let error = LocalKey::from_file(None, &folder.path().join("none")).unwrap_err().to_string();
        assert!(error.contains("cannot be read"), "{error}");
        let error = LocalKey::from_file(None, Path::new("/dev/zero")).unwrap_err().to_string();
        assert!(error.contains("not a regular file"), "{error}");
    }
}
