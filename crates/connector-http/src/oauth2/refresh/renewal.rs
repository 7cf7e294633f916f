//! The renewal protocol: what processes that share a row of tokens agree on, so that a rotating refresh token is used once.
//!
//! 1. Look at the row. Good enough? Use it.
//! 2. Take the lease (60 s by the store's clock); whoever does not get it looks at the row again, after 50 ms up to 500 ms.
//! 3. Look again, write the intent, then send. An intent that is found under a lease of one's own belongs to somebody who died.
//! 4. Write what came of it, before anybody sees it. Every write names the version it builds on: a holder whose lease is over writes
//!    nothing, throws away what it got, and looks again.
//!
//! A refusal of the refresh token itself (`invalid_grant`) is final. An outcome that nobody knows, with a vendor whose refresh tokens rotate,
//! is a state of its own and no reason to ask again at once.

use std::{sync::Arc, time::Duration};

use connector_core::{
    clock::Instant,
    context::CallCx,
    credential::{Credential, CredentialQuery},
    error::{Error, ErrorKind, Result, Retry},
    state::Condition,
    token::{CredentialNotice, TokenFacts, TokenLease, TokenRecord, TokenRow, TokenState},
};
use secrecy::{ExposeSecret as _, SecretString};

use super::{
    super::{
        exchange::{Endpoint, TOKEN_TIMEOUT},
        home,
        refusal::{Failed, Fate, unambiguous},
        request::{Form, Target},
        slot::Token,
        token::{self, Answer},
    },
    ERRAND, Entry, Pause,
    row::{self, Origin},
};

/// How long the right to renew lasts: two token requests and time to write.
const LEASE: Duration = Duration::from_secs(60);

/// A request that begins later might still be on its way when the lease ends.
const START_WITHIN: Duration = Duration::from_secs(LEASE.as_secs() - TOKEN_TIMEOUT.as_secs() - 5);

/// How long others are waited for: a lease, and what its end may bring.
const PATIENCE: Duration = Duration::from_secs(90);

/// How often a first row is written, should somebody else be faster each time.
const WRITES: u32 = 8;

/// How much of the margin the early renewals of many processes and credentials are spread over.
const SPREAD: f64 = 0.2;

/// What is wanted of the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// A token that can be sent.
    Usable,
    /// A token that can be sent for a while.
    Fresh,
    /// A token newer than that of this serial, which was refused.
    After(u64),
}

/// One caller's way to a token.
pub(super) struct Renewal<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) entry: &'a Entry,
    pub(super) target: Target,
    pub(super) cx: &'a CallCx,
    pub(super) credential: &'a Arc<Credential>,
    pub(super) need: Need,
}

impl Renewal<'_> {
    /// A token that satisfies the need.
    pub(super) async fn run(&self) -> Result<Token> {
        let give_up = self.now() + PATIENCE;
        let mut pause = Pause::new();
        loop {
            let row = self.row().await?;
            if let Some(token) = self.settle(&row).await? {
                return Ok(token);
            }
            if self.now() >= give_up {
                return Err(Error::new(ErrorKind::NotSent, "another process is renewing this token and has not finished"));
            }
            // Before the store is asked, so that this process never believes in its lease for longer than the store does.
            let taken = self.now();
            if let Some(lease) = self.endpoint.deps.tokens.lease(&self.query(), LEASE).await? {
                let outcome = self.under(lease, taken).await;
                if let Err(error) = self.endpoint.deps.tokens.release(&self.query(), lease).await {
                    tracing::warn!(connector = %self.cx.connection.connector, %error, "the right to renew could not be given back and ends by itself");
                }
                if let Some(token) = outcome? {
                    return Ok(token);
                }
            }
            tokio::time::sleep(pause.next(self.endpoint.deps.rng.unit())).await;
        }
    }

    fn now(&self) -> Instant {
        self.endpoint.deps.clock.now()
    }

    fn query(&self) -> CredentialQuery<'_> {
        CredentialQuery::of(self.cx, &self.entry.name).for_errand(ERRAND)
    }

    /// The row; one is made of the credential's own tokens if there is none, or if they are newer.
    async fn row(&self) -> Result<TokenRow> {
        let origin = Origin::of(self.cx.tenant(), &self.entry.name, self.credential);
        for _ in 0..WRITES {
            let found = self.endpoint.deps.tokens.load(&self.query()).await?;
            if let Some(row) = found.as_ref().filter(|row| !origin.supersedes(&row.record.facts)) {
                self.entry.sight().see(row.record.facts.serial, self.now());
                return Ok(row.clone());
            }
            let before = found.as_ref().map(|row| row.record.facts.serial);
            let seeded = row::seed(&self.endpoint.spec, self.credential, origin.clone(), before, self.endpoint.wall_millis());
            let Some(record) = seeded else { return Err(self.not_connected()) };
            let condition = found.map_or(Condition::Absent, |row| Condition::Is(row.version));
            if let Some(version) = self.endpoint.deps.tokens.save(&self.query(), &record, condition).await? {
                self.entry.sight().see(record.facts.serial, self.now());
                return Ok(TokenRow { version, record });
            }
            // Somebody else was faster; what they wrote is looked at first.
        }
        Err(Error::new(ErrorKind::NotSent, "the tokens of this credential are being written by somebody else all the time"))
    }

    fn not_connected(&self) -> Error {
        let connector = &self.cx.connection.connector;
        Error::config(format!("{connector} is not connected yet: run `connector-hub connect {connector}`, or store a `refresh_token`"))
            .with_context("credential", &*self.entry.name)
    }

    /// What the row alone decides: a token, an error, or `None`: it has to be renewed.
    async fn settle(&self, row: &TokenRow) -> Result<Option<Token>> {
        let facts = &row.record.facts;
        if facts.state == TokenState::ReauthRequired {
            return Err(self.ended(facts).await);
        }
        let refused = if let Need::After(serial) = self.need { Some(serial) } else { None };
        let (worth, now) = {
            let (wall, now) = (self.endpoint.wall_millis(), self.now());
            (row::worth(&row.record, &self.entry.sight(), refused, wall, now), now)
        };
        // Nobody asks early where the last question has no answer, or where there is nothing to ask with.
        let is_last = facts.state == TokenState::Unknown || row.record.tokens.refresh.is_none();
        let enough = if self.need == Need::Fresh { worth.fresh || (worth.live && is_last) } else { worth.live };
        if enough {
            let header = token::bearer(&row.record.tokens.access)?;
            let token = Token::shared(header, facts.serial, worth.lifetime, worth.age, now).at(home::kept(&self.endpoint.spec, &facts.keep));
            let token = token.spread(SPREAD * self.endpoint.deps.rng.unit());
            return Ok(Some(if is_last { token.without_early_refresh() } else { token }));
        }
        if row.record.tokens.refresh.is_none() {
            let mut record = row.record.clone();
            row::end(&mut record.facts, "expired");
            let saved = self.endpoint.deps.tokens.save(&self.query(), &record, Condition::Is(row.version)).await?;
            // Refused: somebody connected meanwhile.
            return if saved.is_some() { Err(self.ended(&record.facts).await) } else { Ok(None) };
        }
        match worth.rest {
            // Its sender is dead or at work, and the lease tells which.
            _ if facts.intent.is_some() => Ok(None),
            Some(left) => Err(Error::new(ErrorKind::NotSent, "the last renewal of this token failed, the next one is not due yet")
                .with_retry(Retry::After(left))
                .with_context("credential", &*self.entry.name)),
            None => Ok(None),
        }
    }

    /// Renews with the right to do so. `None`: somebody else wrote meanwhile.
    async fn under(&self, lease: TokenLease, taken: Instant) -> Result<Option<Token>> {
        let row = self.row().await?;
        if let Some(token) = self.settle(&row).await? {
            return Ok(Some(token));
        }
        let Some(refresh) = &row.record.tokens.refresh else { return Ok(None) };
        let url = self.endpoint.token_url(self.cx, &self.target.place).await?;
        let form = |_: &Credential| Ok(self.form(refresh, &row.record.facts));
        let prepared = self.endpoint.prepare(self.cx, self.credential, &url, form)?;
        let mut marked = row.record.clone();
        marked.facts.intent = Some(lease.fence);
        let Some(version) = self.endpoint.deps.tokens.save(&self.query(), &marked, Condition::Is(row.version)).await? else { return Ok(None) };
        let start_by = taken + START_WITHIN;
        let (asked, wall) = (self.now(), self.endpoint.wall_millis());
        if asked >= start_by {
            // This process slept, or the store did: by the time of an answer somebody else may be asking too.
            let saved = self.endpoint.deps.tokens.save(&self.query(), &row.record, Condition::Is(version)).await?;
            return if saved.is_some() { Err(Error::new(ErrorKind::NotSent, "the store took too long for a renewal")) } else { Ok(None) };
        }
        let mut outcome = self.endpoint.submit(self.cx, self.credential, &url, form, prepared, Some(start_by)).await;
        let grace = Duration::from_secs(self.endpoint.spec.rotation_grace);
        let is_unknown = matches!(&outcome, Err(failed) if failed.fate == Fate::Unknown);
        if is_unknown && self.now() < start_by.min(asked + grace) {
            // The vendor documents that it forgives this.
            let again = self.endpoint.prepare(self.cx, self.credential, &url, form)?;
            outcome = self.endpoint.submit(self.cx, self.credential, &url, form, again, Some(start_by)).await;
        }
        match outcome {
            Ok(answer) => self.publish(&row, version, answer, asked, wall, taken + LEASE).await,
            Err(failed) => self.give_up(&row, version, &failed).await,
        }
    }

    fn form(&self, refresh: &SecretString, facts: &TokenFacts) -> Form {
        let spec = &self.endpoint.spec;
        let form = Form::of("refresh_token").with("refresh_token", refresh.clone());
        if !spec.scope_on_refresh {
            return form;
        }
        // What was granted, and what is asked for whatever is granted (Microsoft's `offline_access` is not among the granted).
        let mut all: Vec<&str> = spec.base_scopes.iter().map(String::as_str).collect();
        all.extend(facts.scopes.iter().map(String::as_str).filter(|scope| !spec.base_scopes.iter().any(|base| base == scope)));
        if facts.scopes.is_empty() && !self.target.scopes.is_empty() {
            all.push(&self.target.scopes);
        }
        form.with_scopes(&all.join(spec.scope_separator.as_str()))
    }

    /// Makes new tokens durable, and only then gives them out.
    async fn publish(&self, row: &TokenRow, version: u64, answer: Answer, asked: Instant, wall: u64, lease_end: Instant) -> Result<Option<Token>> {
        let record = row::renewed(&self.endpoint.spec, &row.record, answer, wall);
        let mut pause = Pause::new();
        let saved = loop {
            match self.endpoint.deps.tokens.save(&self.query(), &record, Condition::Is(version)).await {
                Ok(Some(version)) => break Some(TokenRow { version, record }),
                Ok(None) => break self.own(&record).await?,
                // These may be the only copy of a rotated refresh token: as long as the lease lasts, the store gets another chance.
                Err(error) if self.now() >= lease_end => return Err(error),
                Err(error) => {
                    tracing::warn!(connector = %self.cx.connection.connector, %error, "new tokens could not be written yet");
                    tokio::time::sleep(pause.next(self.endpoint.deps.rng.unit())).await;
                }
            }
        };
        let Some(saved) = saved else {
            tracing::warn!(connector = %self.cx.connection.connector, credential = %self.entry.name, "a renewal took too long, somebody else's stands");
            return Ok(None);
        };
        let after_rejection = matches!(self.need, Need::After(_));
        self.entry.sight().obtained(saved.record.facts.serial, asked, self.now(), after_rejection);
        // Whatever was needed, nothing newer exists: a lifetime shorter than this renewal took is the vendor's to explain.
        let facts = &saved.record.facts;
        let lifetime = facts.expires_at.map(|end| Duration::from_millis(end.saturating_sub(facts.obtained_at)));
        let age = self.now().saturating_duration_since(asked);
        let token = Token::shared(token::bearer(&saved.record.tokens.access)?, facts.serial, lifetime, age, self.now());
        let token = token.at(home::kept(&self.endpoint.spec, &facts.keep));
        Ok(Some(token.spread(SPREAD * self.endpoint.deps.rng.unit())))
    }

    /// The row, if it is the one this renewal wrote: a write whose confirmation was lost looks refused when it is repeated.
    async fn own(&self, record: &TokenRecord) -> Result<Option<TokenRow>> {
        let row = self.endpoint.deps.tokens.load(&self.query()).await?;
        let same = |one: &SecretString, other: &SecretString| one.expose_secret() == other.expose_secret();
        Ok(row.filter(|row| row.record.facts == record.facts && same(&row.record.tokens.access, &record.tokens.access)))
    }

    /// Writes down that a renewal gave no token. `None`: somebody else wrote meanwhile.
    async fn give_up(&self, row: &TokenRow, version: u64, failed: &Failed) -> Result<Option<Token>> {
        let (record, rest) = row::failed(&self.endpoint.spec, &row.record, failed, self.endpoint.wall_millis());
        let facts = &record.facts;
        self.entry.sight().rest(facts.serial, self.now() + rest);
        match self.endpoint.deps.tokens.save(&self.query(), &record, Condition::Is(version)).await {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(None),
            // The intent stays: whoever finds it asks once.
            Err(error) => tracing::warn!(connector = %self.cx.connection.connector, %error, "a failed renewal could not be written down"),
        }
        let error = failed.error.clone();
        if facts.state == TokenState::ReauthRequired {
            tracing::warn!(connector = %self.cx.connection.connector, credential = %self.entry.name, %error, "somebody has to connect again");
            let ended = self.ended(facts).await;
            return Err(if failed.fate == Fate::Dead {
                error.with_context("reason", facts.reason.clone().unwrap_or_default())
            } else {
                ended.with_source(error)
            });
        }
        let error = unambiguous(error);
        Err(if error.kind().is_passing() { error.with_retry(Retry::After(rest)) } else { error })
    }

    /// Tells whoever listens that somebody has to connect again, and says so. A token that is left is not sent any more.
    async fn ended(&self, facts: &TokenFacts) -> Error {
        self.entry.slot.forget();
        let reason = facts.reason.as_deref().unwrap_or("invalid_grant");
        if let Some(watch) = &self.endpoint.deps.watch {
            watch.notice(&self.query(), CredentialNotice::ReauthRequired { reason: reason.to_owned(), serial: facts.serial }).await;
        }
        let connector = &self.cx.connection.connector;
        Error::new(ErrorKind::AuthExpired, format!("the consent that {connector} was connected with has ended (`{reason}`): connect again"))
            .with_context("credential", &*self.entry.name)
    }
}
