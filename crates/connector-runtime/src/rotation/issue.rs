//! Asking a vendor for a successor, and telling it later to forget the one before.
//!
//! Owns the order: the master key is proven to work, the intent is on disk, the vendor is asked, the answer is stored, and only then is
//! anything else done. Refuses to ask again while an answer waits to be stored.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use connector_core::{
    CallCx, Error, ErrorKind, Result, TenantId,
    clock::unix_millis,
    credential::{Credential, CredentialQuery, CredentialStore as _},
    rotation::Issued,
    state::AuditOutcome,
};
use connector_vault::{CredentialInfo, Note};

use super::{
    About, ROTATE,
    progress::{self, Progress, Retiring, Row},
    replaceable,
};
use crate::{catalogue::Loaded, connection::Linked, credentials::Source, reauth, runtime::Runtime};

/// An intent older than this has nobody behind it any more.
pub(super) const ABANDONED: Duration = Duration::from_secs(600);
/// Waits between tries to store what was issued.
const STORE_AGAIN: [Duration; 4] = [Duration::from_millis(50), Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(5)];
/// Waits after a failure; the last one repeats.
const AGAIN: [u64; 5] = [60, 300, 1_800, 7_200, 43_200];

/// A secret that a vendor issued, with what is to be done once it is stored.
#[derive(Debug)]
struct Kept {
    issued: Issued,
    overlap: Duration,
    retiring: Retiring,
}

/// Secrets that a vendor issued and that could not be stored yet. They live as long as the process.
#[derive(Debug, Default)]
pub(crate) struct Unstored(Mutex<HashMap<(TenantId, String), Kept>>);

impl Unstored {
    fn take(&self, tenant: &TenantId, name: &str) -> Option<Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(tenant.clone(), name.to_owned()))
    }

    fn keep(&self, tenant: &TenantId, name: &str, kept: Kept) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((tenant.clone(), name.to_owned()), kept);
    }

    pub(super) fn holds(&self, tenant: &TenantId, name: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&(tenant.clone(), name.to_owned()))
    }
}

/// When to try again after so many failures, in Unix milliseconds.
pub(super) fn again(now: u64, failures: u32) -> u64 {
    let at = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
    now + AGAIN.get(at).or(AGAIN.last()).copied().unwrap_or_default() * 1_000
}

/// A connection whose connector can replace its credential.
pub(super) struct AtVendor {
    linked: Arc<Linked>,
    loaded: Arc<Loaded>,
}

impl AtVendor {
    fn cx(&self) -> CallCx {
        CallCx::new(self.linked.connection.clone())
            .with_workspace(reauth::workspace(&[&self.linked]))
            .with_operation(ROTATE)
            .with_correlation_id(uuid::Uuid::new_v4().to_string())
    }
}

impl Runtime {
    /// The first connection over which this credential can be replaced by the vendor.
    pub(super) fn at_vendor(&self, tenant: &TenantId, name: &str) -> Option<AtVendor> {
        let catalogue = self.0.shared.catalogue.load_full();
        reauth::using(&catalogue, tenant, name).into_iter().find_map(|linked| {
            let loaded = catalogue.loaded.get(&linked.connection.connector)?;
            loaded.connector.rotator().is_some().then(|| AtVendor { linked: linked.clone(), loaded: loaded.clone() })
        })
    }

    pub(super) fn now_millis(&self) -> u64 {
        unix_millis(self.0.shared.clock.wall())
    }

    /// Replaces a credential with what the vendor issues. Whoever asked may go away: what is under way is brought to its end.
    pub(super) async fn rotate_at_vendor(&self, info: &CredentialInfo, overlap: Duration) -> Result<CredentialInfo> {
        replaceable(info)?;
        let (this, info) = (self.clone(), info.clone());
        let rotating = tokio::spawn(async move { this.replace(&info, overlap).await });
        rotating.await.map_err(|error| Error::internal("a rotation was not brought to its end").with_source(error))?
    }

    async fn replace(&self, info: &CredentialInfo, overlap: Duration) -> Result<CredentialInfo> {
        let (tenant, name) = (&info.tenant, info.name.as_str());
        let put = About::of(self, info);
        if let Some(kept) = self.0.unstored.take(tenant, name) {
            let row = progress::load(&*self.0.store, tenant, name).await;
            let result = self.store_issued(info, kept).await;
            return self.conclude(info, row?, result, &put).await;
        }
        let Some(at_vendor) = self.at_vendor(tenant, name) else {
            let connector = info.connector.as_deref().unwrap_or("the connector");
            return Err(Error::unsupported(format!("`{connector}` cannot issue a new secret itself; make one at the vendor and give its fields")));
        };
        // What comes before the vault would go on being used.
        if self.0.credentials.source(tenant, name).await? != Some(Source::Vault) {
            return Err(Error::config(format!("credential `{name}` is not the vault's alone; remove it from hub.yaml first")));
        }
        let row = self.intend(info, &put).await?;
        let result = self.issue(info, &at_vendor, overlap, &put).await;
        self.conclude(info, row, result, &put).await
    }

    /// Writes down that the vendor is about to be asked. Of several hubs one may.
    async fn intend(&self, info: &CredentialInfo, put: &About<'_>) -> Result<Row> {
        let (tenant, name, now) = (&info.tenant, info.name.as_str(), self.now_millis());
        let busy = || Error::new(ErrorKind::Conflict, format!("credential `{name}` is being replaced at this moment"));
        let row = progress::load(&*self.0.store, tenant, name).await?;
        if let Some(since) = row.progress.intent {
            if now.saturating_sub(since) < u64::try_from(ABANDONED.as_millis()).unwrap_or(u64::MAX) {
                return Err(busy());
            }
            tracing::warn!(
                credential = name,
                "a rotation was cut off; the vendor may have issued a secret that nobody has, which can be removed there"
            );
            self.record(&put.errand(), AuditOutcome::Unknown, None).await?;
        }
        let intended = Progress { intent: Some(now), ..row.progress.clone() };
        let row = progress::save(&*self.0.store, tenant, name, &row, intended).await?.ok_or_else(busy)?;
        self.record(&put.errand(), AuditOutcome::Intent, None).await?;
        Ok(row)
    }

    async fn issue(&self, info: &CredentialInfo, at_vendor: &AtVendor, overlap: Duration, put: &About<'_>) -> Result<(CredentialInfo, Retiring)> {
        let (tenant, name) = (&info.tenant, info.name.as_str());
        let vault = self.require_vault()?;
        let cx = at_vendor.cx().with_correlation_id(put.correlation_id.as_str());
        let current = self.0.credentials.get(&CredentialQuery::of(&cx, name).for_errand(ROTATE)).await?;
        let overlap_ms = u64::try_from(overlap.as_millis()).unwrap_or(u64::MAX);
        // Before the vendor is asked: a vault that cannot seal this could not keep the answer either.
        let retiring = Retiring::seal(vault, tenant, name, &current, self.now_millis().saturating_add(overlap_ms)).await?;
        let connector = &at_vendor.loaded.connector;
        let rotator = connector.rotator().ok_or_else(|| Error::internal("a rotator went away"))?;
        let issued = rotator.issue(&cx, &**connector, &current).await?;
        self.store_issued(info, Kept { issued, overlap, retiring }).await
    }

    /// Stores a secret that exists nowhere else.
    async fn store_issued(&self, info: &CredentialInfo, kept: Kept) -> Result<(CredentialInfo, Retiring)> {
        let (tenant, name) = (&info.tenant, info.name.as_str());
        let vault = self.require_vault()?;
        let mut again = STORE_AGAIN.iter();
        let stored = loop {
            let fields: BTreeMap<_, _> = kept.issued.fields.iter().cloned().collect();
            match vault.rotate(tenant, name, fields, kept.overlap).await {
                Ok(stored) => break stored,
                // Taken back meanwhile: nobody wants the successor either.
                Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => {
                    tracing::warn!(
                        credential = name,
                        "a credential was taken back while the vendor issued its successor, which can be removed there"
                    );
                    return Err(error);
                }
                Err(error) => match again.next() {
                    Some(wait) => tokio::time::sleep(*wait).await,
                    None => {
                        tracing::error!(%error, credential = name, "a secret that the vendor issued cannot be stored; it is kept in memory and tried again");
                        self.0.unstored.keep(tenant, name, kept);
                        return Err(error);
                    }
                },
            }
        };
        let Some(expires_at) = kept.issued.expires_at.map(unix_millis) else { return Ok((stored, kept.retiring)) };
        // The secret is safe; when it ends can be said again by a person.
        let noted = vault.note(tenant, name, Note { expires_at: Some(Some(expires_at)), ..Note::default() }).await.unwrap_or_else(|error| {
            tracing::warn!(%error, credential = name, "when a new secret ends could not be noted");
            stored
        });
        Ok((noted, kept.retiring))
    }

    /// Writes down how it ended. What it says is for later; what was issued is stored already, or waits in memory.
    async fn conclude(&self, info: &CredentialInfo, row: Row, result: Result<(CredentialInfo, Retiring)>, put: &About<'_>) -> Result<CredentialInfo> {
        let (tenant, name, now) = (&info.tenant, info.name.as_str(), self.now_millis());
        let mut next = Progress { intent: None, ..row.progress.clone() };
        match &result {
            Ok((_, retiring)) => {
                (next.failures, next.retry_at) = (0, None);
                next.retiring.push(retiring.clone());
            }
            Err(_) => {
                // As long as a secret waits here, no other hub is to ask for another.
                next.intent = self.0.unstored.holds(tenant, name).then_some(now);
                next.failures = next.failures.saturating_add(1);
                next.retry_at = Some(again(now, next.failures));
            }
        }
        match progress::save(&*self.0.store, tenant, name, &row, next).await {
            Ok(Some(_)) => {}
            Ok(None) => tracing::warn!(credential = name, "how a rotation ended could not be noted: somebody else changed it"),
            Err(error) => tracing::error!(%error, credential = name, "how a rotation ended could not be noted"),
        }
        let result = result.map(|(info, _)| info);
        self.record_end(&put.errand(), &result).await;
        if result.is_ok() {
            self.trust(tenant, name);
        }
        result
    }

    /// Tells the vendor to forget the versions whose overlap is over. Gives how many it forgot.
    pub(super) async fn retire_due(&self, tenant: &TenantId, name: &str, row: Row) -> Result<u64> {
        let now = self.now_millis();
        let mut kept = Vec::new();
        let mut retired = 0;
        for mut old in row.progress.retiring.clone() {
            if old.at > now {
                kept.push(old);
                continue;
            }
            match self.retire(tenant, name, &old).await {
                Ok(()) => retired += 1,
                // Time does not help: a person has to look at the vendor, and is told once.
                Err(error) if error.kind() == ErrorKind::Unsupported => {
                    tracing::warn!(%error, credential = name, version = old.version, "an old secret has to be removed at the vendor by hand");
                }
                Err(error) => {
                    old.failures = old.failures.saturating_add(1);
                    old.at = again(now, old.failures);
                    tracing::warn!(%error, credential = name, version = old.version, "the vendor could not be told to forget an old secret yet");
                    kept.push(old);
                }
            }
        }
        let next = Progress { retiring: kept, ..row.progress.clone() };
        if progress::save(&*self.0.store, tenant, name, &row, next).await?.is_none() {
            tracing::debug!(credential = name, "somebody else noted something about a rotation; retiring again does no harm");
        }
        Ok(retired)
    }

    async fn retire(&self, tenant: &TenantId, name: &str, old: &Retiring) -> Result<()> {
        let at_vendor = self.at_vendor(tenant, name).ok_or_else(|| Error::config(format!("nothing uses credential `{name}` any more")))?;
        let old: Credential = old.unseal(self.require_vault()?, tenant, name).await?;
        let connector = &at_vendor.loaded.connector;
        let rotator = connector.rotator().ok_or_else(|| Error::internal("a rotator went away"))?;
        rotator.retire(&at_vendor.cx(), &**connector, &old).await
    }
}
