//! What people do with credentials: set, list, show, grant, rotate, note, revoke. Nothing here opens one.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use connector_core::{
    Error, ErrorKind, Result, TenantId,
    redact::printable,
    state::{Condition, Namespace},
};
use secrecy::{ExposeSecret as _, SecretString};

use super::{CREDENTIALS, LEASES, OWN, PAGE, TOKENS, TRIES, Vault, contended, not_found, tokens};
use crate::{
    info::{CredentialInfo, CredentialState, NewCredential, TokenInfo},
    record::{Record, Row, seconds, workspaces},
};

/// A name of a credential or field is at most so long.
const NAME: usize = 128;
/// A credential has at most so many fields.
const FIELDS: usize = 64;
/// A field is at most so long: room for a certificate chain with its key.
const FIELD: usize = 64 * 1024;

/// What to change about a credential's record.
#[derive(Debug, Clone, Default)]
pub struct Note {
    /// How it stands: `Active`, `Expiring` or `ReauthRequired`. Taking it back is [`Vault::revoke`].
    pub state: Option<CredentialState>,
    /// The scopes it has.
    pub scopes: Option<Vec<String>>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// Unix milliseconds at which the vendor stops accepting it; `Some(None)`: it does not.
    pub expires_at: Option<Option<u64>>,
    /// How often it is to be replaced; `Some(None)`: no schedule.
    pub rotate_every: Option<Option<Duration>>,
    /// How it is used.
    pub scheme: Option<Arc<str>>,
}

impl Vault {
    /// Keeps a credential; one of the same name is replaced at once, with a higher version. What `new` leaves out about its use (connector,
    /// scheme, owner, workspaces, schedule) stays as it was, unless it was revoked.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a name or field that cannot be kept; [`ErrorKind::Transient`] if the master key cannot be reached.
    pub async fn set(&self, tenant: &TenantId, name: &str, new: NewCredential) -> Result<CredentialInfo> {
        check_name(name)?;
        check_tenant(tenant)?;
        check_fields(&new.fields)?;
        let granted = workspaces(new.workspaces)?;
        for _ in 0..TRIES {
            let found = self.0.row(tenant, name).await?;
            let row = found.as_ref().map(|(_, row)| &**row);
            let old = row.and_then(|row| row.record.as_ref());
            let now = self.0.wall();
            let mut record = Record::new(row.map_or(1, Row::next_version), now);
            if let Some(old) = old {
                (record.created_at, record.rotated_at) = (old.created_at, Some(now));
            }
            let old = old.filter(|old| !old.is_revoked());
            record.connector = new.connector.clone().or_else(|| old.and_then(|old| old.connector.clone()));
            record.scheme = new.scheme.clone().or_else(|| old.and_then(|old| old.scheme.clone()));
            record.owner = new.owner.clone().or_else(|| old.and_then(|old| old.owner.clone()));
            record.rotate_every = new.rotate_every.map(seconds).or_else(|| old.and_then(|old| old.rotate_every));
            record.workspaces = if granted.is_empty() { old.map(|old| old.workspaces.clone()).unwrap_or_default() } else { granted.clone() };
            record.scopes.clone_from(&new.scopes);
            record.expires_at = new.expires_at;
            let (version, sealed) = (record.version, self.0.seal_fields(tenant, name, record.version, &new.fields).await?);
            record.succeed(version, sealed, None);
            if let Some(row) = self.0.write(tenant, name, record, row).await? {
                return self.info(tenant, name, &row).await;
            }
        }
        Err(contended(name))
    }

    /// The credentials of a tenant, by name. Revoked ones are there too.
    ///
    /// # Errors
    /// What the store reports.
    pub async fn list(&self, tenant: &TenantId) -> Result<Vec<CredentialInfo>> {
        let mut infos = HashMap::new();
        self.each(tenant, TOKENS, |name, entry| {
            infos.extend(tokens::info(&entry.value).map(|info| (name, info)));
        })
        .await?;
        let mut found = Vec::new();
        self.each(tenant, CREDENTIALS, |name, entry| {
            let token = infos.remove(&name);
            found.push(self.describe(tenant, &name, &Row::read(&entry), token));
        })
        .await?;
        Ok(found)
    }

    /// One credential. Another tenant's looks like one that does not exist ([`ErrorKind::NotFound`]).
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none; what the store reports.
    pub async fn show(&self, tenant: &TenantId, name: &str) -> Result<CredentialInfo> {
        let (_, row) = self.0.row(tenant, name).await?.ok_or_else(|| not_found(name))?;
        self.info(tenant, name, &row).await
    }

    /// Grants it to exactly these workspaces (`*`: to all). None: to nobody.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none; [`ErrorKind::Conflict`] if it was revoked.
    pub async fn grant(&self, tenant: &TenantId, name: &str, workspaces: Vec<String>) -> Result<CredentialInfo> {
        let workspaces = self::workspaces(workspaces)?;
        self.change(tenant, name, |record| {
            record.workspaces.clone_from(&workspaces);
            Ok(())
        })
        .await
    }

    /// Replaces the given fields; the version before is accepted for `overlap` besides. Of three versions the oldest goes. The end of the
    /// old version says nothing about the new one: say when it ends with [`Vault::note`].
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none; [`ErrorKind::Conflict`] if it was revoked; [`ErrorKind::Invalid`] for fields that cannot be kept.
    pub async fn rotate(&self, tenant: &TenantId, name: &str, fields: BTreeMap<String, SecretString>, overlap: Duration) -> Result<CredentialInfo> {
        check_fields(&fields)?;
        for _ in 0..TRIES {
            let (_, row) = self.0.row(tenant, name).await?.ok_or_else(|| not_found(name))?;
            let mut record = living(name, &row)?.clone();
            let (now, next) = (self.0.wall(), row.next_version());
            record.prune(now);
            let overlap = u64::try_from(overlap.as_millis()).unwrap_or(u64::MAX);
            let until = (overlap > 0).then(|| now.saturating_add(overlap));
            record.succeed(next, self.0.seal_fields(tenant, name, next, &fields).await?, until);
            (record.rotated_at, record.expires_at, record.state) = (Some(now), None, CredentialState::Active);
            if record.fields.len() > FIELDS {
                return Err(too_many());
            }
            if let Some(row) = self.0.write(tenant, name, record, Some(&row)).await? {
                return self.info(tenant, name, &row).await;
            }
        }
        Err(contended(name))
    }

    /// Says how it stands, when it ends, what it may, how often it is to be replaced. `None` leaves a thing as it is.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none; [`ErrorKind::Conflict`] if it was revoked; [`ErrorKind::Invalid`] for the states `Revoked`
    /// and `Unreadable`, which are not said but done and found.
    pub async fn note(&self, tenant: &TenantId, name: &str, note: Note) -> Result<CredentialInfo> {
        if matches!(note.state, Some(CredentialState::Revoked | CredentialState::Unreadable)) {
            return Err(Error::invalid("a credential is revoked with `revoke`, and unreadable is what it is found to be"));
        }
        self.change(tenant, name, |record| {
            if let Some(state) = note.state {
                record.state = state;
            }
            if let Some(scopes) = &note.scopes {
                record.scopes.clone_from(scopes);
            }
            if let Some(owner) = &note.owner {
                record.owner = Some(owner.clone());
            }
            if let Some(expires_at) = note.expires_at {
                record.expires_at = expires_at;
            }
            if let Some(every) = note.rotate_every {
                record.rotate_every = every.map(seconds);
            }
            if let Some(scheme) = &note.scheme {
                record.scheme = Some(scheme.clone());
            }
            Ok(())
        })
        .await
    }

    /// Destroys its secrets and tokens and keeps the record that there was one. Here it is refused at once, in other processes within a
    /// second. Doing it twice does no harm.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none; what the store reports.
    pub async fn revoke(&self, tenant: &TenantId, name: &str) -> Result<CredentialInfo> {
        for _ in 0..TRIES {
            let (_, row) = self.0.row(tenant, name).await?.ok_or_else(|| not_found(name))?;
            let written = match &row.record {
                Some(record) if record.is_revoked() => Some(row),
                record => {
                    // A damaged record can be revoked too: nothing of it is needed for that.
                    let mut record = record.clone().unwrap_or_else(|| Record::new(row.version, self.0.wall()));
                    record.destroy();
                    self.0.write(tenant, name, record, Some(&row)).await?
                }
            };
            if let Some(row) = written {
                // After the record: a save that comes later sees that it is revoked and takes its tokens back.
                for namespace in [TOKENS, LEASES] {
                    self.0.store.delete(Namespace::new(tenant, namespace), name, Condition::Any).await?;
                }
                return self.info(tenant, name, &row).await;
            }
        }
        Err(contended(name))
    }

    /// Drops every version whose overlap is over and wipes what was kept in memory long enough. Versions that are over are not handed out
    /// in any case; this destroys them. To be called now and then. Gives how many credentials lost an old version.
    ///
    /// # Errors
    /// What the store reports.
    pub async fn sweep(&self) -> Result<u64> {
        let mut swept = 0;
        for tenant in self.tenants().await? {
            let (mut due, now) = (Vec::new(), self.0.wall());
            self.each(&tenant, CREDENTIALS, |name, entry| {
                if Row::read(&entry).record.is_some_and(|mut record| record.prune(now)) {
                    due.push(name);
                }
            })
            .await?;
            for name in due {
                let Some((_, row)) = self.0.row(&tenant, &name).await? else { continue };
                let Some(mut record) = row.record.clone() else { continue };
                // Whoever got ahead has pruned it too.
                if record.prune(now) && self.0.write(&tenant, &name, record, Some(&row)).await?.is_some() {
                    swept += 1;
                }
            }
        }
        self.0.cache.purge(self.0.clock.now(), self.0.keep_for);
        Ok(swept)
    }

    async fn change(&self, tenant: &TenantId, name: &str, change: impl Fn(&mut Record) -> Result<()> + Send + Sync) -> Result<CredentialInfo> {
        for _ in 0..TRIES {
            let (_, row) = self.0.row(tenant, name).await?.ok_or_else(|| not_found(name))?;
            let mut record = living(name, &row)?.clone();
            record.prune(self.0.wall());
            change(&mut record)?;
            if let Some(row) = self.0.write(tenant, name, record, Some(&row)).await? {
                return self.info(tenant, name, &row).await;
            }
        }
        Err(contended(name))
    }

    async fn info(&self, tenant: &TenantId, name: &str, row: &Row) -> Result<CredentialInfo> {
        let entry = self.0.store.get(Namespace::new(tenant, TOKENS), name).await?;
        Ok(self.describe(tenant, name, row, entry.and_then(|entry| tokens::info(&entry.value))))
    }

    fn describe(&self, tenant: &TenantId, name: &str, row: &Row, token: Option<TokenInfo>) -> CredentialInfo {
        let mut info = match &row.record {
            Some(record) => record.info(tenant, name, self.0.wall(), token),
            None => Record::new(0, 0).info(tenant, name, 0, token),
        };
        let is_lost = |record: &Record| record.envelopes().any(|(_, kept)| kept.key_id().is_none_or(|id| self.0.keys.find(id).is_none()));
        let met = || self.0.cache.find(tenant, name).is_some_and(|slot| slot.state().unreadable == Some(row.version));
        if row.record.as_ref().is_none_or(is_lost) || met() {
            info.state = CredentialState::Unreadable;
        }
        info
    }

    /// Every entry of a namespace, page by page.
    pub(super) async fn each(
        &self,
        tenant: &TenantId,
        namespace: &str,
        mut visit: impl FnMut(String, connector_core::state::Entry) + Send,
    ) -> Result<()> {
        let mut after = None::<String>;
        loop {
            let page = self.0.store.scan(Namespace::new(tenant, namespace), "", after.as_deref(), PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            page.into_iter().for_each(|(name, entry)| visit(name, entry));
        }
    }
}

/// The record, if it can be changed.
fn living<'a>(name: &str, row: &'a Row) -> Result<&'a Record> {
    match &row.record {
        None => Err(super::read::unreadable(name, "its record is damaged or was written by a newer version")),
        Some(record) if record.is_revoked() => {
            Err(Error::new(ErrorKind::Conflict, format!("credential `{}` was revoked; set it anew", printable(name, 80))))
        }
        Some(record) => Ok(record),
    }
}

fn check_tenant(tenant: &TenantId) -> Result<()> {
    if tenant.as_str().is_empty() || tenant.as_str() == OWN {
        return Err(Error::invalid(format!("`{tenant}` cannot be a tenant")));
    }
    Ok(())
}

/// A name is text that means nothing else: `:` names an external manager, `$` marks the vault's own.
fn check_name(name: &str) -> Result<()> {
    let why = if name.is_empty() || name.len() > NAME {
        "must have 1 to 128 characters"
    } else if name.contains(':') {
        "must not contain `:`, which names an external secret manager"
    } else if name.starts_with('$') || name.chars().any(char::is_control) {
        "must not start with `$` or contain control characters"
    } else {
        return Ok(());
    };
    Err(Error::invalid(format!("the name of a credential {why}: `{}`", printable(name, 40))))
}

fn check_fields(fields: &BTreeMap<String, SecretString>) -> Result<()> {
    if fields.is_empty() {
        return Err(Error::invalid("a credential needs at least one field, for example `token`"));
    }
    if fields.len() > FIELDS {
        return Err(too_many());
    }
    for (name, secret) in fields {
        if name.is_empty() || name.len() > NAME || name.starts_with('$') || name.chars().any(char::is_control) {
            return Err(Error::invalid(format!("`{}` cannot be the name of a field", printable(name, 40))));
        }
        let len = secret.expose_secret().len();
        if len == 0 || len > FIELD {
            return Err(Error::invalid(format!("field `{name}` has {len} bytes; 1 to {FIELD} can be kept")));
        }
    }
    Ok(())
}

fn too_many() -> Error {
    Error::invalid(format!("a credential has at most {FIELDS} fields"))
}
