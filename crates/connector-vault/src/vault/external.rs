//! Credentials that an external manager keeps: read through, kept as long as the manager's lease says, used a little longer while the manager
//! is away.
//!
//! Refuses to write to a manager and to keep what it gave anywhere but in memory.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use connector_core::{
    Error, ErrorKind, Result, TenantId,
    clock::Instant,
    credential::{Credential, CredentialQuery},
    redact::printable,
};

use super::Inner;
use crate::{keys::Fault, manager::ManagedSecret};

/// After a manager did not answer, what is still good is handed out for so long before it is asked again.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Even a lease of nothing is one of this long, or a busy connection would ask for each call.
const SHORTEST: Duration = Duration::from_secs(1);

#[derive(Clone)]
struct Copy {
    credential: Arc<Credential>,
    read: Instant,
    /// It is read again after this.
    fresh_until: Instant,
}

#[derive(Default)]
struct Place {
    gate: tokio::sync::Mutex<()>,
    copy: Mutex<(Option<Copy>, Option<Instant>)>,
}

impl Place {
    fn get(&self) -> (Option<Copy>, Option<Instant>) {
        self.copy.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, copy: Option<Copy>, retry_at: Option<Instant>) {
        *self.copy.lock().unwrap_or_else(PoisonError::into_inner) = (copy, retry_at);
    }
}

/// By tenant and full name.
type Places = HashMap<(TenantId, Box<str>), Arc<Place>>;

/// What managers gave lately.
#[derive(Default)]
pub(super) struct Copies(Mutex<Places>);

impl Copies {
    fn place(&self, query: &CredentialQuery<'_>) -> Arc<Place> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.entry((query.tenant.clone(), query.name.into())).or_default().clone()
    }

    /// Drops what is too old to be used in any case.
    pub(super) fn purge(&self, now: Instant, keep_for: Duration) {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_good = |place: &Place| place.get().0.is_some_and(|copy| now.saturating_duration_since(copy.read) < keep_for);
        places.retain(|_, place| Arc::strong_count(place) > 1 || is_good(place));
    }
}

impl Inner {
    /// The credential `name` of `manager`.
    pub(super) async fn external(&self, query: &CredentialQuery<'_>, manager: &str, name: &str) -> Result<Arc<Credential>> {
        let Some(source) = self.managers.get(manager) else {
            let message = format!("there is no secret manager `{}` for credential `{}`", printable(manager, 40), printable(query.name, 80));
            return Err(Error::config(message));
        };
        let place = self.external.place(query);
        let usable = |(copy, retry_at): (Option<Copy>, Option<Instant>), now: Instant| {
            let copy = copy.filter(|copy| now.saturating_duration_since(copy.read) < self.keep_for)?;
            let fresh = now < copy.fresh_until || retry_at.is_some_and(|at| now < at);
            Some((copy, fresh))
        };
        if let Some((copy, true)) = usable(place.get(), self.clock.now()) {
            return Ok(copy.credential);
        }
        self.purge(self.clock.now());
        let _alone = place.gate.lock().await;
        let (now, started) = (self.clock.now(), self.wall());
        let kept = match usable(place.get(), now) {
            Some((copy, true)) => return Ok(copy.credential),
            kept => kept.map(|(copy, _)| copy),
        };
        let read = source.read(query.tenant, name).await;
        match read {
            Ok(Some(secret)) => {
                self.audit_open(query, None, started).await;
                let copy = self.copy(secret, now);
                place.set(Some(copy.clone()), None);
                Ok(copy.credential)
            }
            Ok(None) => {
                place.set(None, None);
                Err(query.missing())
            }
            Err(error) => {
                let fault = Fault::Away(error);
                self.audit_open(query, Some(&fault), started).await;
                match kept {
                    Some(copy) if fault.is_passing() => {
                        place.set(Some(copy.clone()), Some(now + RETRY_AFTER));
                        tracing::warn!(manager, error = %fault.about("it"), "a credential is used from memory while its manager cannot be reached");
                        Ok(copy.credential)
                    }
                    _ => {
                        place.set(None, None);
                        let passing = fault.is_passing();
                        let error = fault.about("it");
                        let message = format!("credential `{}` cannot be read from {}", printable(query.name, 80), source.place());
                        Err(if passing { Error::new(ErrorKind::Transient, message).with_source(error) } else { error })
                    }
                }
            }
        }
    }

    fn copy(&self, secret: ManagedSecret, now: Instant) -> Copy {
        let previous = secret.previous.map(|fields| {
            let mut previous = Credential::new(fields);
            previous.version = secret.version.saturating_sub(1);
            Arc::new(previous)
        });
        let mut credential = Credential::new(secret.fields).with_previous(previous);
        credential.version = secret.version;
        // Asked again a little before the copy ends, so that a manager that is away for a moment is not noticed.
        let fresh = secret.lease.map_or(Duration::MAX, |lease| lease.max(SHORTEST)).min(self.keep_for * 4 / 5);
        Copy { credential: Arc::new(credential), read: now, fresh_until: now + fresh }
    }
}
