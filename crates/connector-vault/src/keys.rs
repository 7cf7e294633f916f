//! All master keys of a vault: the current one seals, all of them open. Remembers since when one cannot be reached.
//!
//! Refuses to open anything without its key, whatever is away.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use connector_core::{
    Error, ErrorKind, Result, TenantId,
    clock::{Clock, unix_millis},
};
use zeroize::Zeroizing;

use crate::{
    envelope::{Envelope, is_key_id},
    key::{Binding, MasterKey},
};

/// What is sealed, apart from the key it is sealed under.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) tenant: &'a TenantId,
    pub(crate) credential: &'a str,
    pub(crate) field: &'a str,
    pub(crate) version: u64,
}

impl<'a> Target<'a> {
    fn under(self, key_id: &'a str) -> Binding<'a> {
        Binding { tenant: self.tenant, credential: self.credential, field: self.field, version: self.version, key_id }
    }
}

/// Why something did not open.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It is damaged, moved, or its key is not configured: trying again will not help.
    Unreadable(String),
    /// Its key could not be asked.
    Away(Error),
}

impl Fault {
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::Away(error) if error.kind().is_passing())
    }

    /// The fault as an error about `what`.
    pub(crate) fn about(self, what: &str) -> Error {
        match self {
            Self::Unreadable(why) => Error::config(format!("{what} is unreadable: {why}")),
            Self::Away(error) => error,
        }
    }
}

pub(crate) struct Keys {
    /// Never empty; the first is current.
    list: Vec<Arc<dyn MasterKey>>,
    /// Unix milliseconds of the first failure in a row.
    away: Mutex<HashMap<String, u64>>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.list.iter().map(|key| key.id())).finish()
    }
}

impl Keys {
    pub(crate) fn new(list: Vec<Arc<dyn MasterKey>>, clock: Arc<dyn Clock>) -> Result<Self> {
        if list.is_empty() {
            return Err(Error::config(format!("the vault has no master key; {}", crate::key::HOW)));
        }
        for (n, key) in list.iter().enumerate() {
            if !is_key_id(key.id()) {
                return Err(Error::config(format!("the id of the master key in {} must be 1 to 32 of a-z, 0-9, _ and -", key.place())));
            }
            if let Some(other) = list[..n].iter().find(|other| other.id() == key.id()) {
                return Err(Error::config(format!("two master keys are called `{}`: {} and {}", key.id(), other.place(), key.place())));
            }
        }
        Ok(Self { list, away: Mutex::default(), clock })
    }

    /// What everything is sealed under from now on.
    pub(crate) fn current(&self) -> &dyn MasterKey {
        &*self.list[0]
    }

    pub(crate) fn find(&self, id: &str) -> Option<&dyn MasterKey> {
        self.list.iter().find(|key| key.id() == id).map(|key| &**key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &dyn MasterKey> {
        self.list.iter().map(|key| &**key)
    }

    /// Seals under the current key.
    pub(crate) async fn seal(&self, target: Target<'_>, plain: &[u8]) -> Result<Vec<u8>> {
        self.seal_under(self.current(), target, plain).await
    }

    /// Seals under one of the keys.
    pub(crate) async fn seal_under(&self, key: &dyn MasterKey, target: Target<'_>, plain: &[u8]) -> Result<Vec<u8>> {
        let sealed = Envelope::seal(key, &target.under(key.id()), plain).await;
        self.reached(key, sealed)
    }

    /// Opens with the key the envelope names.
    pub(crate) async fn open(&self, target: Target<'_>, bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let envelope = Envelope::parse(bytes).map_err(|error| Fault::Unreadable(error.message().to_owned()))?;
        let id = envelope.key_id();
        let Some(key) = self.find(id) else {
            return Err(Fault::Unreadable(format!("it is sealed under the master key `{id}`, which is not configured")));
        };
        let opened = envelope.open(key, &target.under(id)).await;
        self.reached(key, opened).map_err(|error| match error.kind() {
            ErrorKind::Invalid => Fault::Unreadable(error.message().to_owned()),
            _ => Fault::Away(error),
        })
    }

    /// Notes whether the key answered, and says since when it did not.
    fn reached<T>(&self, key: &dyn MasterKey, outcome: Result<T>) -> Result<T> {
        if !key.is_remote() {
            return outcome;
        }
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Err(error) if error.kind().is_passing() => {
                let since = *away.entry(key.id().to_owned()).or_insert_with(|| unix_millis(self.clock.wall()));
                let since = jiff::Timestamp::from_millisecond(i64::try_from(since).unwrap_or(i64::MAX)).unwrap_or(jiff::Timestamp::MAX);
                let message = format!("the master key `{}` ({}) cannot be reached since {since:.0}", key.id(), key.place());
                Err(Error::new(ErrorKind::Transient, message).with_source(error))
            }
            answered => {
                away.remove(key.id());
                answered
            }
        }
    }
}
