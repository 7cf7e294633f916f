//! What a row of tokens is worth right now, and what becomes of it. Pure: rows and times in, rows and verdicts out.
//!
//! A row's times are wall times of whichever process wrote it. What this process saw itself, by its own monotonic clock, bounds them on both
//! sides: a wall clock that is wrong or jumps costs one renewal at most, never one for each call.

use std::time::Duration;

use connector_core::{
    clock::Instant,
    context::TenantId,
    credential::Credential,
    error::Retry,
    spec::OAuth2Spec,
    token::{TokenFacts, TokenRecord, TokenSet, TokenState},
};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use super::super::{
    refusal::{Failed, Fate},
    slot::{MAX_WAIT, last_moment, margin},
    token::Answer,
};

/// How long after a failure the next renewal is tried, where the vendor does not say.
pub(super) const COOL_DOWN: Duration = Duration::from_secs(30);

/// After failing for this long nobody believes in the refresh token any more.
const GIVE_UP_AFTER: Duration = Duration::from_secs(4 * 24 * 3600);

/// What this process knows of a credential's tokens by its own clock.
#[derive(Debug, Default)]
pub(super) struct Sight {
    seen: Option<Seen>,
    /// No renewal of the tokens of this serial is tried before.
    quiet_until: Option<(u64, Instant)>,
    /// The serial that a 401 led to, and when.
    after_rejection: Option<(u64, Instant)>,
}

#[derive(Debug)]
struct Seen {
    serial: u64,
    first: Instant,
    last: Instant,
    /// The last time an older serial was the newest.
    older: Option<Instant>,
}

impl Sight {
    /// Notes that a row of this serial was there.
    pub(super) fn see(&mut self, serial: u64, now: Instant) {
        match &mut self.seen {
            Some(seen) if seen.serial == serial => seen.last = now,
            seen => *seen = Some(Seen { serial, first: now, last: now, older: seen.as_ref().map(|seen| seen.last) }),
        }
    }

    /// Notes that this process asked for the tokens of this serial at `asked` and has them.
    pub(super) fn obtained(&mut self, serial: u64, asked: Instant, now: Instant, after_rejection: bool) {
        self.seen = Some(Seen { serial, first: asked, last: now, older: Some(asked) });
        self.quiet_until = None;
        self.after_rejection = after_rejection.then_some((serial, now));
    }

    /// Notes that a renewal of the tokens of this serial failed.
    pub(super) fn rest(&mut self, serial: u64, until: Instant) {
        self.quiet_until = Some((serial, until));
    }

    /// Whether the tokens of this serial were fetched because of a 401 a moment ago: what refuses them again is not their age.
    pub(super) fn is_fresh_from_rejection(&self, serial: u64, now: Instant) -> bool {
        self.after_rejection.is_some_and(|(refused, at)| refused == serial && now < at + COOL_DOWN)
    }

    /// How old the access token is.
    fn age(&self, facts: &TokenFacts, wall: u64, now: Instant) -> Duration {
        let told = Duration::from_millis(wall.saturating_sub(facts.obtained_at));
        let Some(seen) = self.seen.as_ref().filter(|seen| seen.serial == facts.serial) else { return told };
        let least = now.saturating_duration_since(seen.first);
        let most = seen.older.map_or(Duration::MAX, |older| now.saturating_duration_since(older));
        told.max(least).min(most)
    }

    /// How long no renewal is to be tried. A time further away than any failure puts it comes from a wrong clock.
    fn rest_left(&self, facts: &TokenFacts, wall: u64, now: Instant) -> Option<Duration> {
        let told = facts.retry_at.map(|at| Duration::from_millis(at.saturating_sub(wall))).filter(|left| *left <= MAX_WAIT);
        let own = self.quiet_until.filter(|(serial, _)| *serial == facts.serial).map(|(_, until)| until.saturating_duration_since(now));
        told.max(own).filter(|left| !left.is_zero())
    }
}

/// What a row is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Worth {
    /// How old the access token is.
    pub(super) age: Duration,
    /// How long it is good, counted from its issue; `None`: not by time.
    pub(super) lifetime: Option<Duration>,
    /// It can be sent.
    pub(super) live: bool,
    /// Its successor need not be fetched yet.
    pub(super) fresh: bool,
    /// How long no renewal is to be tried.
    pub(super) rest: Option<Duration>,
}

/// What a row is worth at this time, for somebody who had the access token of serial `refused` refused.
pub(super) fn worth(record: &TokenRecord, sight: &Sight, refused: Option<u64>, wall: u64, now: Instant) -> Worth {
    let facts = &record.facts;
    let age = sight.age(facts, wall, now);
    let lifetime = facts.expires_at.map(|end| Duration::from_millis(end.saturating_sub(facts.obtained_at)));
    let is_there = !record.tokens.access.expose_secret().is_empty() && refused.is_none_or(|refused| facts.serial > refused);
    let live = is_there && lifetime.is_none_or(|lifetime| age < lifetime - last_moment(lifetime));
    let fresh = live && lifetime.is_none_or(|lifetime| age < lifetime - margin(lifetime));
    Worth { age, lifetime, live, fresh, rest: sight.rest_left(facts, wall, now) }
}

/// A first serial. Starts at the time, so that a credential that is removed and connected again never repeats one.
pub(in crate::oauth2) fn next_serial(before: Option<u64>, wall: u64) -> u64 {
    (wall / 1000).max(before.map_or(1, |serial| serial + 1))
}

/// The record a consent or a code exchange gave.
pub(in crate::oauth2) fn first(spec: &OAuth2Spec, answer: Answer, from: Origin, before: Option<u64>, wall: u64) -> TokenRecord {
    let lifetime = answer.lifetime.or(spec.default_lifetime.map(Duration::from_secs));
    TokenRecord {
        tokens: TokenSet { access: answer.access, refresh: answer.refresh },
        facts: TokenFacts {
            serial: next_serial(before, wall),
            obtained_at: wall,
            expires_at: lifetime.map(|lifetime| wall.saturating_add(millis(lifetime))),
            scopes: answer.scopes,
            keep: answer.keep,
            seeded_from: from.version,
            seed: from.fingerprint,
            ..TokenFacts::default()
        },
    }
}

/// The record after a renewal that was asked for at `wall`.
pub(super) fn renewed(spec: &OAuth2Spec, old: &TokenRecord, answer: Answer, wall: u64) -> TokenRecord {
    let lifetime = answer.lifetime.or(spec.default_lifetime.map(Duration::from_secs));
    let mut keep = old.facts.keep.clone();
    keep.extend(answer.keep);
    TokenRecord {
        tokens: TokenSet { access: answer.access, refresh: answer.refresh.or_else(|| old.tokens.refresh.clone()) },
        facts: TokenFacts {
            state: TokenState::Active,
            serial: old.facts.serial + 1,
            obtained_at: wall,
            expires_at: lifetime.map(|lifetime| wall.saturating_add(millis(lifetime))),
            scopes: if answer.scopes.is_empty() { old.facts.scopes.clone() } else { answer.scopes },
            keep,
            intent: None,
            failing_since: None,
            retry_at: None,
            reason: None,
            seeded_from: old.facts.seeded_from,
            seed: old.facts.seed.clone(),
        },
    }
}

/// The record after a renewal that gave no token, and how long to leave it alone.
pub(super) fn failed(spec: &OAuth2Spec, old: &TokenRecord, failed: &Failed, wall: u64) -> (TokenRecord, Duration) {
    let mut record = old.clone();
    let facts = &mut record.facts;
    // Somebody asked before and never said what came of it, or nobody could know.
    let was_unknown = spec.rotates && (facts.intent.is_some() || facts.state == TokenState::Unknown);
    facts.intent = None;
    let rest = match failed.error.retry() {
        Retry::After(delay) => delay.min(MAX_WAIT),
        _ => COOL_DOWN,
    };
    if failed.fate == Fate::Dead {
        let revoked = failed.error.vendor_code() == Some("token_revoked");
        end(
            facts,
            if was_unknown {
                "outcome_unknown"
            } else if revoked {
                "revoked"
            } else {
                "invalid_grant"
            },
        );
        return (record, rest);
    }
    let is_unknown = was_unknown || (spec.rotates && failed.fate == Fate::Unknown);
    facts.state = if is_unknown { TokenState::Unknown } else { TokenState::Active };
    let since = *facts.failing_since.get_or_insert(wall);
    facts.retry_at = Some(wall.saturating_add(millis(rest)));
    if wall.saturating_sub(since) >= millis(GIVE_UP_AFTER) {
        end(facts, "exhausted");
    }
    (record, rest)
}

/// Says that a person has to connect again.
pub(super) fn end(facts: &mut TokenFacts, reason: &str) {
    facts.state = TokenState::ReauthRequired;
    facts.reason = Some(reason.to_owned());
    facts.retry_at = None;
}

/// Which version of a credential tokens belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::oauth2) struct Origin {
    pub(super) version: u64,
    pub(super) fingerprint: Option<String>,
}

impl Origin {
    /// Of this credential, by the token it holds itself.
    pub(in crate::oauth2) fn of(tenant: &TenantId, name: &str, credential: &Credential) -> Self {
        let held = text(credential, "refresh_token").or_else(|| text(credential, "access_token"));
        let fingerprint = held.map(|held| {
            let mut hash = Sha256::new();
            // The place is part of it: the same token elsewhere has another fingerprint.
            for part in [tenant.as_str(), "\u{1f}", name, "\u{1f}", held.expose_secret()] {
                hash.update(part.as_bytes());
            }
            hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
        });
        Self { version: credential.version, fingerprint }
    }

    /// Whether a credential of this origin starts over what is kept.
    pub(super) fn supersedes(&self, facts: &TokenFacts) -> bool {
        self.version > facts.seeded_from && self.fingerprint.is_some() && self.fingerprint != facts.seed
    }
}

/// The tokens that a credential holds itself, as a first record. Nobody knows how old they are: an access token is used until it is
/// refused, or for the lifetime that the spec names.
pub(super) fn seed(spec: &OAuth2Spec, credential: &Credential, from: Origin, before: Option<u64>, wall: u64) -> Option<TokenRecord> {
    let (access, refresh) = (text(credential, "access_token"), text(credential, "refresh_token"));
    if access.is_none() && refresh.is_none() {
        return None;
    }
    let access = access.cloned().unwrap_or_else(|| SecretString::from(String::new()));
    let answer = Answer { access, refresh: refresh.cloned(), lifetime: None, scopes: Vec::new(), keep: std::collections::BTreeMap::new() };
    Some(first(spec, answer, from, before, wall))
}

fn text<'a>(credential: &'a Credential, field: &str) -> Option<&'a SecretString> {
    credential.field(field).filter(|value| !value.expose_secret().trim().is_empty())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
