//! The secret of each subscription (Graph's clientState, Google's channel token): 256 bits made here, sealed in the vault where there is one.
//!
//! Refuses to show one: it goes from here into the call that makes the subscription, and into the verifier. While a subscription is made anew
//! the old and the new secret both prove something.

use std::time::Duration;

use base64::Engine as _;
use connector_core::{Connection, Error, Result, TenantId, state::Namespace};
use secrecy::{ExposeSecret as _, SecretString};

use super::row::{Held, KeptSecret, NAMESPACE, Row, decode};
use crate::runtime::Runtime;

/// What the vault binds the sealed secrets to.
const PURPOSE: &str = "subscription";
/// How long an old secret still counts: vendors send again what they could not deliver for hours (Graph: 4).
const OVERLAP: Duration = Duration::from_secs(24 * 3_600);
/// Secrets of one subscription that may be valid at once.
const MOST: usize = 4;
const BASE64: base64::engine::GeneralPurpose = base64::engine::general_purpose::URL_SAFE_NO_PAD;

impl Runtime {
    /// Makes a new secret the current one. The row is not saved here.
    pub(super) async fn renew_subscription_secret(&self, held: &mut Held) -> Result<SecretString> {
        let mut bytes = zeroize::Zeroizing::new([0_u8; 32]);
        getrandom::fill(&mut *bytes).map_err(|error| Error::internal(format!("the system gives no random bytes: {error}")))?;
        let secret = SecretString::from(BASE64.encode(*bytes));
        let kept = match self.vault() {
            Some(vault) => {
                let sealed = vault.seal(&held.tenant, PURPOSE, &held.row.id, secret.expose_secret().as_bytes()).await?;
                KeptSecret { sealed: Some(BASE64.encode(sealed)), plain: None, until: None }
            }
            None => KeptSecret { sealed: None, plain: Some(secret.expose_secret().to_owned()), until: None },
        };
        let now = self.wall_ms();
        let over = now.saturating_add(u64::try_from(OVERLAP.as_millis()).unwrap_or(u64::MAX));
        held.row.secrets.retain(|old| old.until.is_none_or(|until| until > now));
        held.row.secrets.iter_mut().for_each(|old| old.until = Some(old.until.unwrap_or(over)));
        held.row.secrets.push(kept);
        let more = held.row.secrets.len().saturating_sub(MOST);
        held.row.secrets.drain(..more);
        Ok(secret)
    }

    /// The current secret, if the subscription has one.
    pub(super) async fn subscription_secret(&self, held: &Held) -> Result<Option<SecretString>> {
        match held.row.secrets.last() {
            Some(kept) => self.open_subscription_secret(&held.tenant, &held.row, kept).await.map(Some),
            None => Ok(None),
        }
    }

    async fn open_subscription_secret(&self, tenant: &TenantId, row: &Row, kept: &KeptSecret) -> Result<SecretString> {
        let Some(sealed) = &kept.sealed else {
            return Ok(SecretString::from(kept.plain.clone().unwrap_or_default()));
        };
        // Sealed texts differ each time, so one stands for one secret.
        let key = (tenant.clone(), sealed.clone());
        if let Some(known) = self.0.subscriptions.opened.get(&key) {
            return Ok(known.clone());
        }
        let unreadable =
            || Error::config(format!("the secret of subscription `{}` cannot be read; remove the subscription and make it anew", row.id));
        let bytes = BASE64.decode(sealed).map_err(|_| unreadable())?;
        let vault = self.vault().ok_or_else(|| {
            Error::config(format!("the secret of subscription `{}` is sealed, and this hub has no vault; give it the master key again", row.id))
        })?;
        let plain = vault.unseal(tenant, PURPOSE, &row.id, &bytes).await?;
        let secret = SecretString::from(std::str::from_utf8(&plain).map_err(|_| unreadable())?);
        if self.0.subscriptions.opened.len() > 4_096 {
            self.0.subscriptions.opened.clear();
        }
        self.0.subscriptions.opened.insert(key, secret.clone());
        Ok(secret)
    }

    /// Seals anew, under the current master key, what is sealed under an older one. `true`: the row changed and must be saved.
    pub(super) async fn reseal_subscription_secrets(&self, held: &mut Held) -> Result<bool> {
        let Some(vault) = self.vault() else { return Ok(false) };
        let mut changed = false;
        for kept in &mut held.row.secrets {
            let Some(bytes) = kept.sealed.as_ref().and_then(|sealed| BASE64.decode(sealed).ok()) else { continue };
            if let Some(again) = vault.reseal(&held.tenant, PURPOSE, &held.row.id, &bytes).await? {
                kept.sealed = Some(BASE64.encode(again));
                changed = true;
            }
        }
        Ok(changed)
    }

    /// The secrets that notifications over a connection may prove themselves with. Read from the store each time: another hub may have made the
    /// subscription a moment ago, and its first notification may come before that hub has heard that it was made.
    pub(crate) async fn subscription_secrets(&self, connection: &Connection) -> Result<Vec<SecretString>> {
        /// Subscriptions of one connection that are looked at.
        const MOST_ROWS: usize = 1_000;
        let mut secrets = Vec::new();
        let makes = self
            .0
            .shared
            .catalogue
            .load()
            .registry
            .get(&connection.connector)
            .is_some_and(|connector| connector.spec().subscriptions.iter().any(|kind| kind.secret));
        // Most connectors make none, and their deliveries must not cost a look at the store.
        if !makes {
            return Ok(secrets);
        }
        let (tenant, connection, now) = (&connection.tenant, connection.id.as_str(), self.wall_ms());
        for (_, entry) in self.0.store.scan(Namespace::new(tenant, NAMESPACE), &format!("{connection}."), None, MOST_ROWS).await? {
            let row = decode(&entry)?;
            for kept in row.secrets.iter().filter(|kept| kept.until.is_none_or(|until| until > now)) {
                secrets.push(self.open_subscription_secret(tenant, &row, kept).await?);
            }
        }
        Ok(secrets)
    }
}
