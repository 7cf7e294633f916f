//! The keyring of the operating system: Secret Service on Linux and the BSDs, Keychain on macOS, Credential Manager on Windows.
//!
//! Behind the feature `os-keyring`, because it needs a desktop session and three dozen crates. The kernel's key retention service is not
//! used: it forgets with a restart, and a master key must not.

use connector_core::{Error, Result};

use super::LocalKey;

impl LocalKey {
    /// The key in the operating system's keyring under `service` and `account`, in the form of [`LocalKey::from_text`]. Blocks while a
    /// person unlocks the keyring.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] if this program was built without the feature `os-keyring`, there is no keyring, it holds no
    /// such entry, or the entry is no key.
    #[cfg(feature = "os-keyring")]
    pub fn from_keyring(id: Option<&str>, service: &str, account: &str) -> Result<Self> {
        let place = format!("keyring entry {service}/{account}");
        // The keyring's own words may quote the entry, so its kind is told and nothing else.
        let text = keyring::Entry::new(service, account).and_then(|entry| entry.get_password()).map_err(|error| {
            let why = match error {
                keyring::Error::NoEntry => format!("there is no {place}; put the key there, for example with `secret-tool store --label connectors service {service} username {account}`"),
                keyring::Error::NoStorageAccess(_) => format!("the keyring is locked, so {place} cannot be read; unlock it"),
                _ => format!("there is no keyring of the operating system here, so {place} cannot be read; name another place for the master key"),
            };
            Error::config(why)
        })?;
        let text = zeroize::Zeroizing::new(text);
        Self::from_text(id, &text, place)
    }

    /// The key in the operating system's keyring; this program was built without it.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] always.
    #[cfg(not(feature = "os-keyring"))]
    pub fn from_keyring(_id: Option<&str>, service: &str, account: &str) -> Result<Self> {
        Err(Error::config(format!(
            "keyring entry {service}/{account} cannot be read: this program was built without the feature `os-keyring`; name another place for the master key"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_such_an_entry_the_place_is_named() {
        let error = LocalKey::from_keyring(None, "connectors-test", "no-such-entry").unwrap_err();
        assert_eq!(error.kind(), connector_core::ErrorKind::Config);
        assert!(error.to_string().contains("keyring entry connectors-test/no-such-entry"), "{error}");
    }
}
