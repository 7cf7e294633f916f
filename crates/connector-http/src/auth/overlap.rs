//! The time after a rotation in which two versions of a secret may be right: which one is sent first.
//!
//! The newest is, until the vendor refuses it; then the one before it is preferred for a minute, and the other way round. Owns that memory.
//! Refuses to try more than one other version: a call fails once at most.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use connector_core::{
    clock::{Clock, Instant},
    context::{CallCx, TenantId},
    credential::Credential,
};

/// How long the version before is sent first once the newest was refused.
const PREFERRED_FOR: Duration = Duration::from_secs(60);

/// After this many memories, those that ended are dropped before another is made.
const SWEEP_AT: usize = 256;

/// Tenant, credential and its newest version.
type Key = (TenantId, Arc<str>, u64);

/// Remembers for which credentials the version before is sent first.
#[derive(Debug)]
pub(crate) struct Overlap {
    clock: Arc<dyn Clock>,
    preferred_until: Mutex<HashMap<Key, Instant>>,
}

impl Overlap {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, preferred_until: Mutex::default() })
    }

    /// The version to send first.
    pub(crate) fn choose(&self, cx: &CallCx, credential: &Arc<Credential>) -> Arc<Credential> {
        match &credential.previous {
            Some(previous) if self.prefers_previous(cx, credential) => previous.clone(),
            _ => credential.clone(),
        }
    }

    /// The version that is not `tried`, if there are two.
    pub(crate) fn other(&self, credential: &Arc<Credential>, tried: &Credential) -> Option<Arc<Credential>> {
        let previous = credential.previous.as_ref()?;
        Some(if tried.version == credential.version { previous.clone() } else { credential.clone() })
    }

    /// Sends this version first from now on: for a minute, if it is not the newest.
    pub(crate) fn prefer(&self, cx: &CallCx, credential: &Credential, version: &Credential) {
        let now = self.clock.now();
        let mut preferred_until = self.preferred_until.lock().unwrap_or_else(PoisonError::into_inner);
        if version.version == credential.version {
            preferred_until.remove(&key(cx, credential));
            return;
        }
        if preferred_until.len() >= SWEEP_AT {
            preferred_until.retain(|_, until| now < *until);
        }
        preferred_until.insert(key(cx, credential), now + PREFERRED_FOR);
    }

    fn prefers_previous(&self, cx: &CallCx, credential: &Credential) -> bool {
        let preferred_until = self.preferred_until.lock().unwrap_or_else(PoisonError::into_inner);
        // Almost always empty: no key has to be made then.
        !preferred_until.is_empty() && preferred_until.get(&key(cx, credential)).is_some_and(|until| self.clock.now() < *until)
    }
}

fn key(cx: &CallCx, credential: &Credential) -> Key {
    (cx.connection.tenant.clone(), cx.connection.credential.clone().unwrap_or_default(), credential.version)
}
