//! Tokens that a person's consent gave: what is known about them, and where they are kept between processes.
//!
//! Owns the shape of the row and the port. Refuses to know how a token is renewed (that is `connector-http`) and how it is encrypted
//! (that is `connector-vault`).

use std::{
    collections::{BTreeMap, HashMap},
    fmt::{self, Debug},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::{
    clock::{Clock, Instant, SystemClock},
    context::TenantId,
    credential::CredentialQuery,
    error::Result,
    state::Condition,
};

/// The tokens of one credential. `Debug` shows none of them.
#[derive(Clone)]
pub struct TokenSet {
    /// What requests are sent with.
    pub access: SecretString,
    /// What a successor is asked for with.
    pub refresh: Option<SecretString>,
}

impl Debug for TokenSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSet").field("refresh", &self.refresh.is_some()).finish_non_exhaustive()
    }
}

/// Where tokens stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenState {
    /// They work, as far as anybody knows.
    #[default]
    Active,
    /// A renewal was sent and nobody knows what became of it.
    Unknown,
    /// A person has to connect again. Nothing is tried any more.
    ReauthRequired,
}

/// What is known about tokens besides themselves. Holds no secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenFacts {
    /// Where they stand.
    pub state: TokenState,
    /// Grows with each new access token.
    pub serial: u64,
    /// Unix milliseconds of their arrival.
    pub obtained_at: u64,
    /// Unix milliseconds at which the access token ends; `None`: not by time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
    /// The scopes that were granted; empty if the vendor does not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Further members of the vendor's answer that calls need (`instance_url`, `hub_id`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keep: BTreeMap<String, String>,
    /// A renewal that was about to be sent under this lease. Still there under another one: its sender died, the outcome is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<u64>,
    /// Unix milliseconds of the first of the failures in a row, if the last renewal failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<u64>,
    /// Unix milliseconds before which no renewal is tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<u64>,
    /// Why a person has to connect again, as a short code (`invalid_grant`, `outcome_unknown`, `exhausted`, `expired`, `revoked`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The version of the credential that the first of these tokens came from, or that a consent was given over.
    #[serde(default)]
    pub seeded_from: u64,
    /// A fingerprint of that version's own token, if it had one: a newer version with another one starts over, one with the same does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<String>,
}

/// Tokens with what is known about them.
#[derive(Debug, Clone)]
pub struct TokenRecord {
    /// The tokens.
    pub tokens: TokenSet,
    /// What is known about them.
    pub facts: TokenFacts,
}

/// A kept record.
#[derive(Debug, Clone)]
pub struct TokenRow {
    /// Grows with every write. A writer that names an older one is refused: this is the fence.
    pub version: u64,
    /// The record.
    pub record: TokenRecord,
}

/// The right to renew, for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenLease {
    /// Unique and growing per credential.
    pub fence: u64,
}

/// Keeps tokens, one row for each credential. All times are the store's own.
#[async_trait]
pub trait TokenStore: Debug + Send + Sync + 'static {
    /// The row, if there is one.
    async fn load(&self, query: &CredentialQuery<'_>) -> Result<Option<TokenRow>>;

    /// Writes the row if `condition` holds and gives its new version; `None`: somebody else wrote meanwhile. Durable when it returns.
    async fn save(&self, query: &CredentialQuery<'_>, record: &TokenRecord, condition: Condition) -> Result<Option<u64>>;

    /// Takes the right to renew for `time`; `None`: somebody else has it.
    async fn lease(&self, query: &CredentialQuery<'_>, time: Duration) -> Result<Option<TokenLease>>;

    /// Gives the right back, unless it was lost already.
    async fn release(&self, query: &CredentialQuery<'_>, lease: TokenLease) -> Result<()>;

    /// Forgets the row. `true`: there was one.
    async fn remove(&self, query: &CredentialQuery<'_>) -> Result<bool>;
}

/// Tokens in memory, for tests and for programs that connect anew each time.
#[derive(Debug)]
pub struct MemoryTokens {
    clock: Arc<dyn Clock>,
    rows: Mutex<HashMap<(TenantId, Box<str>), Slot>>,
}

#[derive(Debug, Default)]
struct Slot {
    row: Option<TokenRow>,
    /// Goes on growing when a row is removed and comes back.
    version: u64,
    fence: u64,
    leased_until: Option<Instant>,
}

impl Default for MemoryTokens {
    fn default() -> Self {
        Self::new(SystemClock::shared())
    }
}

impl MemoryTokens {
    /// No tokens yet; leases end by this clock.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, rows: Mutex::default() }
    }

    fn with<T>(&self, query: &CredentialQuery<'_>, act: impl FnOnce(&mut Slot) -> T) -> T {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        act(rows.entry((query.tenant.clone(), query.name.into())).or_default())
    }
}

#[async_trait]
impl TokenStore for MemoryTokens {
    async fn load(&self, query: &CredentialQuery<'_>) -> Result<Option<TokenRow>> {
        Ok(self.with(query, |slot| slot.row.clone()))
    }

    async fn save(&self, query: &CredentialQuery<'_>, record: &TokenRecord, condition: Condition) -> Result<Option<u64>> {
        Ok(self.with(query, |slot| {
            let current = slot.row.as_ref().map(|row| row.version);
            let holds = match condition {
                Condition::Any => true,
                Condition::Absent => current.is_none(),
                Condition::Is(version) => current == Some(version),
            };
            holds.then(|| {
                slot.version += 1;
                slot.row = Some(TokenRow { version: slot.version, record: record.clone() });
                slot.version
            })
        }))
    }

    async fn lease(&self, query: &CredentialQuery<'_>, time: Duration) -> Result<Option<TokenLease>> {
        let now = self.clock.now();
        Ok(self.with(query, |slot| {
            slot.leased_until.is_none_or(|until| until <= now).then(|| {
                slot.fence += 1;
                slot.leased_until = Some(now + time);
                TokenLease { fence: slot.fence }
            })
        }))
    }

    async fn release(&self, query: &CredentialQuery<'_>, lease: TokenLease) -> Result<()> {
        self.with(query, |slot| {
            if slot.fence == lease.fence {
                slot.leased_until = None;
            }
        });
        Ok(())
    }

    async fn remove(&self, query: &CredentialQuery<'_>) -> Result<bool> {
        Ok(self.with(query, |slot| slot.row.take().is_some()))
    }
}

/// Something happened to a credential that people or rules should hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CredentialNotice {
    /// A person has to connect again.
    ReauthRequired {
        /// Why, as a short code.
        reason: String,
        /// The serial of the tokens that stopped working: the same trouble is told once, however often it is met.
        serial: u64,
    },
    /// Tokens work again after a person connected.
    Connected {
        /// The serial of the new tokens.
        serial: u64,
    },
}

/// Hears of what happens to credentials. The same notice may come again, from every process that meets it: tell it once by its serial.
#[async_trait]
pub trait CredentialWatch: Debug + Send + Sync + 'static {
    /// Takes a notice. Failures are the watcher's own to report; they never fail the call that met the trouble.
    async fn notice(&self, query: &CredentialQuery<'_>, notice: CredentialNotice);
}
