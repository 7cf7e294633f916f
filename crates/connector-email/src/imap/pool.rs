//! Sessions kept between calls: at most three for an account, each given to one call at a time, closed when nobody needs them.
//!
//! Owns the counting and the one renewal after a refused login. A session is kept under the credential it was made with: another actor's call
//! over the same connection, or one after a rotation, gets a session of its own. Refuses to keep a session whose last command has no end.

use std::{
    collections::HashMap,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use connector_core::{CallCx, ErrorKind, Result, clock::Instant};
use connector_manifest::{Engine, engine::Authorization};
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{command::Command, failure::Errand, login, session::Session};
use crate::{
    net::{Dial, tls::Tls},
    settings::{Server, Settings},
};

/// Connections of one account (fact sheet §3.11: Gmail allows 15, others fewer).
const PER_ACCOUNT: usize = 3;
/// After this long a session is asked whether it still lives.
const ASK_AFTER: Duration = Duration::from_secs(10);
/// After this long a session nobody used is closed.
const CLOSE_AFTER: Duration = Duration::from_secs(60);

/// Whose sessions they are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct AccountKey {
    tenant: String,
    server: Server,
    user: String,
}

#[derive(Debug)]
struct Account {
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    session: Session,
    /// Of the credential it was made with.
    proof: [u8; 32],
    since: Instant,
}

/// The sessions of all accounts.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    accounts: Mutex<HashMap<AccountKey, Arc<Account>>>,
    tls: Tls,
}

/// A session for as long as a call needs it.
#[derive(Debug)]
pub(crate) struct Lease {
    session: Option<Session>,
    proof: [u8; 32],
    account: Arc<Account>,
    _permit: OwnedSemaphorePermit,
}

impl Pool {
    /// The TLS clients, which SMTP shares.
    pub(crate) fn tls(&self) -> &Tls {
        &self.tls
    }

    /// A session for the call's connection. A refused login asks for a fresher credential once and tries once more.
    pub(crate) async fn lease(&self, engine: &Engine, cx: &CallCx, settings: &Settings) -> Result<Lease> {
        let (authorization, used) = engine.authorization(cx).await?;
        match self.lease_as(engine, cx, settings, &authorization).await {
            Err(error) if error.kind() == ErrorKind::AuthExpired && engine.rejected(cx, &used).await? => {
                let (fresher, _) = engine.authorization(cx).await?;
                self.lease_as(engine, cx, settings, &fresher).await
            }
            leased => leased,
        }
    }

    async fn lease_as(&self, engine: &Engine, cx: &CallCx, settings: &Settings, authorization: &Authorization) -> Result<Lease> {
        let account = self.account(cx, settings, authorization);
        let permit = account.permits.clone().acquire_owned().await;
        let permit = permit.map_err(|_| connector_core::Error::new(ErrorKind::Cancelled, "the connector is shutting down"))?;
        let proof = proof(authorization);
        while let Some(idle) = account.take(&proof) {
            let mut session = idle.session;
            let lives = idle.since.elapsed() < ASK_AFTER || session.simple(Errand::Other, Command::new("NOOP")).await.is_ok();
            if lives {
                return Ok(Lease { session: Some(session), proof, account, _permit: permit });
            }
        }
        let dial = Dial::new(engine, cx, &settings.imap, self.tls.client(settings.ca_file.as_deref()).await?).await?;
        let session = login::open(&dial, settings, authorization).await?;
        Ok(Lease { session: Some(session), proof, account, _permit: permit })
    }

    fn account(&self, cx: &CallCx, settings: &Settings, authorization: &Authorization) -> Arc<Account> {
        let user = match authorization {
            Authorization::Password { username, .. } => username.clone(),
            _ => settings.address.clone().unwrap_or_default(),
        };
        let key = AccountKey { tenant: cx.tenant().to_string(), server: settings.imap.clone(), user };
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        // Accounts nobody uses are forgotten once there are many.
        if accounts.len() > 1_000 {
            accounts.retain(|_, account| Arc::strong_count(account) > 1);
        }
        let fresh = || Arc::new(Account { permits: Arc::new(Semaphore::new(PER_ACCOUNT)), idle: Mutex::default() });
        accounts.entry(key).or_insert_with(fresh).clone()
    }
}

/// A mark of a credential by which the sessions made with it are found again. Not reversible, never shown.
fn proof(authorization: &Authorization) -> [u8; 32] {
    match authorization {
        Authorization::Password { username, password } => {
            Sha256::new().chain_update(username).chain_update([0]).chain_update(password.expose_secret()).finalize().into()
        }
        Authorization::Bearer { token } => Sha256::new().chain_update([1]).chain_update(token.expose_secret()).finalize().into(),
        _ => [0; 32],
    }
}

impl Account {
    fn take(&self, proof: &[u8; 32]) -> Option<Idle> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // The youngest, so that those not needed grow old.
        let at = idle.iter().rposition(|idle| idle.proof == *proof)?;
        Some(idle.remove(at))
    }

    fn put(self: &Arc<Self>, session: Session, proof: [u8; 32]) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let since = Instant::now();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(Idle { session, proof, since });
        let account: Weak<Self> = Arc::downgrade(self);
        runtime.spawn(async move {
            tokio::time::sleep(CLOSE_AFTER).await;
            let Some(account) = account.upgrade() else { return };
            let old: Vec<Idle> = {
                let mut idle = account.idle.lock().unwrap_or_else(PoisonError::into_inner);
                let (old, young) = idle.drain(..).partition(|idle| idle.since.elapsed() >= CLOSE_AFTER);
                *idle = young;
                old
            };
            for mut idle in old {
                // A farewell is politeness: the socket closes either way.
                tokio::time::timeout(Duration::from_secs(2), idle.session.simple(Errand::Other, Command::new("LOGOUT"))).await.ok();
            }
        });
    }
}

impl Lease {
    /// Ends every session of the account that nobody uses, and this one after this call.
    pub(crate) fn retire_all(&mut self) {
        self.account.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.spoil();
    }
}

impl Deref for Lease {
    type Target = Session;

    fn deref(&self) -> &Session {
        self.session.as_ref().expect("it is only taken when the lease is dropped")
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Session {
        self.session.as_mut().expect("it is only taken when the lease is dropped")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(session) = self.session.take().filter(Session::is_clean) {
            self.account.put(session, self.proof);
        }
    }
}
