//! Looking after credentials, once a minute, by one hub of a fleet: what is due, what ends soon, what is over.
//!
//! Owns the schedule. Refuses to let one credential's trouble keep it from the others.

use std::{collections::BTreeMap, time::Duration};

use connector_core::{
    Result,
    state::{Condition, Namespace, PutOutcome},
};
use connector_vault::{CredentialInfo, CredentialState};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    OVERLAP,
    progress::{self, Row},
};
use crate::{connect, events::HubEvent, reauth, runtime::Runtime};

/// The type of the event that says that a person has to replace a credential, once for each period.
pub const ROTATION_DUE: &str = "credential.rotation_due";
/// The type of the event that says that a credential ends soon: 14 days, 3 days and 1 day before.
pub const CREDENTIAL_EXPIRING: &str = "credential.expiring";

/// How often they are looked at.
const EVERY: Duration = Duration::from_secs(60);
/// How long one look may take before another hub may begin.
const LEASE: Duration = Duration::from_secs(300);
const NAMESPACE: &str = "scheduler";
const DAY: u64 = 86_400_000;
/// Days before the end at which it is told.
const WARN: [u64; 3] = [14, 3, 1];

/// What one look did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tended {
    /// Another hub is at it; nothing was done here.
    pub elsewhere: bool,
    /// Credentials replaced through the vendor.
    pub rotated: u64,
    /// Old versions the vendor was told to forget.
    pub retired: u64,
    /// People reminded to replace one.
    pub reminded: u64,
    /// People told that one ends soon.
    pub expiring: u64,
    /// What failed and is tried again.
    pub failed: u64,
    /// Old versions destroyed here because their overlap is over.
    pub swept: u64,
}

/// Looks after credentials until `stop`.
pub(crate) async fn tend(runtime: Runtime, mut stop: watch::Receiver<bool>) {
    while !*stop.borrow_and_update() {
        let pause = EVERY.mul_f64(0.9 + runtime.0.rng.unit() * 0.2);
        tokio::select! {
            changed = stop.changed() => if changed.is_err() { break },
            () = tokio::time::sleep(pause) => {
                if let Err(error) = runtime.tend_credentials().await {
                    tracing::error!(%error, "credentials could not be looked after; it is tried again in a minute");
                }
            }
        }
    }
}

impl Runtime {
    /// Looks after the credentials now, as the scheduler does every minute: replaces what is due and can be replaced, reminds people of the rest, tells
    /// what ends soon, has the vendor forget old versions, destroys ours.
    ///
    /// # Errors
    /// What keeps the vault or the state store from looking. Trouble with one credential is counted, not an error.
    pub async fn tend_credentials(&self) -> Result<Tended> {
        let Some(vault) = self.vault() else { return Ok(Tended::default()) };
        self.follow(vault).await?;
        let hub = connect::hub();
        let namespace = Namespace::new(&hub, NAMESPACE);
        let PutOutcome::Stored(lease) = self.0.store.put(namespace, "credentials", Vec::new().into(), Condition::Absent, Some(LEASE)).await? else {
            return Ok(Tended { elsewhere: true, ..Tended::default() });
        };
        let done = self.tend_all(vault).await;
        // `false`: it took longer than the lease, and somebody else began.
        self.0.store.delete(namespace, "credentials", Condition::Is(lease)).await?;
        done
    }

    async fn tend_all(&self, vault: &connector_vault::Vault) -> Result<Tended> {
        let mut done = Tended { swept: vault.sweep().await?, ..Tended::default() };
        for tenant in vault.tenants().await? {
            let mut rows: BTreeMap<String, Row> = progress::all(&*self.0.store, &tenant).await?.into_iter().collect();
            for info in vault.list(&tenant).await? {
                let row = rows.remove(&info.name);
                if let Err(error) = self.tend_one(&info, row, &mut done).await {
                    done.failed += 1;
                    tracing::warn!(%error, tenant = tenant.as_str(), credential = info.name, "a credential could not be looked after");
                }
            }
        }
        Ok(done)
    }

    /// Takes notice of what other processes did: credentials that came or went, people who connected or disconnected.
    async fn follow(&self, vault: &connector_vault::Vault) -> Result<()> {
        self.follow_vault().await?;
        for tenant in vault.tenants().await? {
            for info in vault.list(&tenant).await? {
                let serial = info.token.as_ref().map_or(0, |token| token.serial);
                let before = self.0.serials.insert((tenant.clone(), info.name.clone()), serial);
                if before.is_some_and(|before| before != serial) {
                    self.0.credentials.renew(&tenant, &info.name);
                }
            }
        }
        Ok(())
    }

    async fn tend_one(&self, info: &CredentialInfo, row: Option<Row>, done: &mut Tended) -> Result<()> {
        if matches!(info.state, CredentialState::Revoked | CredentialState::Unreadable) {
            return Ok(());
        }
        let now = self.now_millis();
        let row = row.unwrap_or_default();
        if let Some(end) = info.expires_at
            && self.tell_end(info, end, now).await?
        {
            done.expiring += 1;
        }
        if row.progress.retiring.iter().any(|old| old.at <= now) {
            done.retired += self.retire_due(&info.tenant, &info.name, row.clone()).await?;
        }
        if self.0.unstored.holds(&info.tenant, &info.name) {
            self.rotate_at_vendor(info, OVERLAP).await?;
            done.rotated += 1;
            return Ok(());
        }
        let Some((since, every)) = period(info) else { return Ok(()) };
        let periods = now.saturating_sub(since) / every;
        if periods == 0 || info.state == CredentialState::ReauthRequired {
            return Ok(());
        }
        if self.at_vendor(&info.tenant, &info.name).is_none() {
            if self.remind(info, since, periods).await? {
                done.reminded += 1;
            }
            return Ok(());
        }
        if row.progress.retry_at.is_some_and(|at| at > now) || row.progress.intent.is_some_and(|at| now.saturating_sub(at) < abandoned()) {
            return Ok(());
        }
        self.rotate_at_vendor(info, OVERLAP).await?;
        done.rotated += 1;
        Ok(())
    }

    /// Tells that a credential ends soon. `true`: it was not told before.
    async fn tell_end(&self, info: &CredentialInfo, end: u64, now: u64) -> Result<bool> {
        let left = end.saturating_sub(now);
        // The nearest of the marks that are passed: who looks for the first time two days before the end is told once.
        let Some(days) = WARN.iter().rev().find(|days| left <= **days * DAY) else { return Ok(false) };
        let more = json!({ "expires_at": end, "days": days });
        self.tell(info, CREDENTIAL_EXPIRING, format!("expiring:{}:{end}:{days}", info.name), more).await
    }

    /// Reminds a person to replace a credential, once for each period that it is overdue.
    async fn remind(&self, info: &CredentialInfo, since: u64, periods: u64) -> Result<bool> {
        let more = json!({ "since": since, "period": periods });
        self.tell(info, ROTATION_DUE, format!("rotation_due:{}:{since}:{periods}", info.name), more).await
    }

    async fn tell(&self, info: &CredentialInfo, event_type: &str, event_id: String, more: Value) -> Result<bool> {
        let key = (info.tenant.clone(), event_id.clone());
        // Once told, a minute later nothing is written.
        if self.0.told.contains_key(&key) {
            return Ok(false);
        }
        let catalogue = self.0.shared.catalogue.load_full();
        let over = reauth::using(&catalogue, &info.tenant, &info.name);
        let connections: Vec<&str> = over.iter().map(|linked| linked.connection.id.as_str()).collect();
        let connector = over.first().map(|linked| linked.connection.connector.to_string()).or_else(|| info.connector.clone());
        let connector = connector.unwrap_or_else(|| "hub".to_owned());
        let mut payload = json!({ "credential": info.name, "connections": connections, "connector": connector, "owner": info.owner });
        if let (Value::Object(payload), Value::Object(more)) = (&mut payload, more) {
            payload.extend(more);
        }
        let event = HubEvent {
            tenant: &info.tenant,
            workspace: reauth::workspace(&over),
            connector: &connector,
            event_type,
            event_id,
            about: &info.name,
            payload,
        };
        let is_new = self.0.teller.tell(event).await?;
        self.0.told.insert(key, ());
        if is_new {
            tracing::warn!(
                tenant = info.tenant.as_str(),
                credential = info.name,
                owner = info.owner.as_deref().unwrap_or("nobody"),
                event_type,
                "a credential needs attention"
            );
        }
        Ok(is_new)
    }
}

fn abandoned() -> u64 {
    u64::try_from(super::issue::ABANDONED.as_millis()).unwrap_or(u64::MAX)
}

/// Since when a credential is in use, and for how long it may be, in milliseconds.
fn period(info: &CredentialInfo) -> Option<(u64, u64)> {
    let every = info.rotate_every.filter(|every| *every > 0)?.saturating_mul(1_000);
    Some((info.rotated_at.unwrap_or(info.created_at), every))
}
