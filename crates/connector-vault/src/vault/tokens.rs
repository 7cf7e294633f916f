//! Tokens that a person's consent gave: sealed, with what is known about them beside them in plain JSON, bound to each other.
//!
//! Refuses edited facts: their digest is part of what the tokens are bound to, so tokens whose serial, scopes or intent were changed do not open.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use connector_core::{
    Error, ErrorKind, Result, TenantId,
    credential::CredentialQuery,
    redact::printable,
    state::{Condition, Entry, Namespace, PutOutcome},
    token::{TokenFacts, TokenLease, TokenRecord, TokenRow, TokenSet, TokenStore},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{Inner, LEASES, TOKENS, Vault, read::permitted};
use crate::{
    cache::{OpenedTokens, Slot},
    envelope::Envelope,
    info::TokenInfo,
    key::MasterKey,
    keys::{Fault, Target},
};

/// What stands for the tokens in reports.
pub(super) const FIELD: &str = "$tokens";
/// Longer tokens than this are not tokens.
const LONGEST: usize = 64 * 1024;

/// A row of tokens as it lies in the store.
#[derive(Serialize, Deserialize)]
pub(super) struct Wire {
    /// Kept as it was written: its digest is what the tokens are bound to.
    facts: Box<RawValue>,
    sealed: String,
}

impl Wire {
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    fn facts(&self) -> Option<TokenFacts> {
        serde_json::from_str(self.facts.get()).ok()
    }

    pub(super) fn sealed(&self) -> Option<Vec<u8>> {
        BASE64_STANDARD.decode(&self.sealed).ok()
    }
}

fn write(wire: &Wire) -> Result<Bytes> {
    serde_json::to_vec(wire).map(Bytes::from).map_err(|_| Error::internal("a row of tokens cannot be written as JSON"))
}

/// What is known about the tokens of a row, for people. Not proven: only opening proves it.
pub(super) fn info(bytes: &[u8]) -> Option<TokenInfo> {
    Wire::read(bytes).and_then(|wire| wire.facts()).as_ref().map(TokenInfo::from)
}

/// The master key a row's tokens are sealed under, as far as it can be read.
pub(super) fn key_id(bytes: &[u8]) -> Option<String> {
    let sealed = Wire::read(bytes)?.sealed()?;
    Envelope::parse(&sealed).ok().map(|envelope| envelope.key_id().to_owned())
}

/// The field that binds tokens to their facts.
fn field(facts: &RawValue) -> String {
    format!("{FIELD}:{}", hex::encode(Sha256::digest(facts.get().as_bytes())))
}

/// Access and refresh token, each after its length; no refresh token: nothing follows the access token.
fn pack(tokens: &TokenSet) -> Result<Zeroizing<Vec<u8>>> {
    let parts: Vec<&str> = std::iter::once(&tokens.access).chain(&tokens.refresh).map(|token| token.expose_secret()).collect();
    let mut packed = Zeroizing::new(Vec::with_capacity(parts.iter().map(|part| part.len() + 4).sum()));
    for part in parts {
        let len = u32::try_from(part.len()).ok().filter(|_| part.len() <= LONGEST);
        let len = len.ok_or_else(|| Error::invalid(format!("a token of {} bytes cannot be kept, at most {LONGEST}", part.len())))?;
        packed.extend_from_slice(&len.to_be_bytes());
        packed.extend_from_slice(part.as_bytes());
    }
    Ok(packed)
}

fn unpack(packed: &[u8]) -> Option<TokenSet> {
    let mut rest = packed;
    let mut next = || -> Option<SecretString> {
        let (len, after) = rest.split_first_chunk::<4>()?;
        let (token, after) = after.split_at_checked(u32::from_be_bytes(*len) as usize)?;
        rest = after;
        std::str::from_utf8(token).ok().map(|token| SecretString::from(token.to_owned()))
    };
    let access = next()?;
    let refresh = next();
    rest.is_empty().then_some(TokenSet { access, refresh })
}

impl Inner {
    /// Opens a row of tokens.
    pub(super) async fn open_tokens(&self, tenant: &TenantId, credential: &str, bytes: &[u8]) -> Result<TokenRecord, Fault> {
        let damaged = || Fault::Unreadable("the row of its tokens is damaged".into());
        let wire = Wire::read(bytes).ok_or_else(damaged)?;
        let (facts, sealed) = (wire.facts().ok_or_else(damaged)?, wire.sealed().ok_or_else(damaged)?);
        let target = Target { tenant, credential, field: &field(&wire.facts), version: facts.serial };
        let plain = self.keys.open(target, &sealed).await.map_err(|fault| match fault {
            Fault::Unreadable(why) => Fault::Unreadable(format!("its tokens: {why}")),
            away => away,
        })?;
        let tokens = unpack(&plain).ok_or_else(|| Fault::Unreadable("its tokens are not in their form".into()))?;
        Ok(TokenRecord { tokens, facts })
    }

    /// A row of tokens, sealed.
    pub(super) async fn seal_tokens(&self, tenant: &TenantId, credential: &str, record: &TokenRecord) -> Result<Bytes> {
        let facts =
            serde_json::value::to_raw_value(&record.facts).map_err(|_| Error::internal("what is known about tokens cannot be written as JSON"))?;
        let target = Target { tenant, credential, field: &field(&facts), version: record.facts.serial };
        let sealed = self.keys.seal(target, &pack(&record.tokens)?).await?;
        write(&Wire { facts, sealed: BASE64_STANDARD.encode(sealed) })
    }

    /// Whether the credential is there and whoever asks may use it. `None`: there is none.
    async fn token_slot(&self, query: &CredentialQuery<'_>) -> Result<Option<Arc<Slot>>> {
        if let Some((manager, _)) = query.name.split_once(':') {
            // The credential lies with its manager, its tokens lie here.
            return if self.managers.contains_key(manager) {
                Ok(Some(self.cache.find_or_add(query.tenant, query.name)))
            } else {
                Err(query.missing())
            };
        }
        let Some((slot, row)) = self.recent_row(query.tenant, query.name).await? else { return Ok(None) };
        permitted(query, &row)?;
        Ok(Some(slot))
    }

    async fn load_tokens(&self, query: &CredentialQuery<'_>, slot: &Slot, entry: &Entry) -> Result<Arc<TokenRow>> {
        let known = |slot: &Slot| {
            let now = self.clock.now();
            let mine = |tokens: &OpenedTokens| tokens.row.version == entry.version && now.saturating_duration_since(tokens.at) < self.keep_for;
            slot.state().tokens.clone().filter(mine).map(|tokens| (tokens.row, now.saturating_duration_since(tokens.at) < self.keep_for * 4 / 5))
        };
        if let Some((row, true)) = known(slot) {
            return Ok(row);
        }
        let _alone = slot.gate.lock().await;
        let kept = match known(slot) {
            Some((row, true)) => return Ok(row),
            Some((row, false)) if !self.is_remote(&entry.value) => return Ok(row),
            kept => kept,
        };
        let (started, at) = (self.wall(), self.clock.now());
        let opened = self.open_tokens(query.tenant, query.name, &entry.value).await;
        self.audit_open(query, opened.as_ref().err(), started).await;
        match (opened, kept) {
            (Ok(record), _) => {
                let row = Arc::new(TokenRow { version: entry.version, record });
                slot.state().tokens = Some(OpenedTokens { at, row: row.clone() });
                self.purge(at);
                Ok(row)
            }
            (Err(fault), Some((row, _))) if fault.is_passing() => Ok(row),
            (Err(Fault::Unreadable(why)), _) => Err(super::read::unreadable(query.name, &why)),
            (Err(Fault::Away(error)), _) => Err(error),
        }
    }

    fn is_remote(&self, bytes: &[u8]) -> bool {
        key_id(bytes).and_then(|id| self.keys.find(&id)).is_some_and(MasterKey::is_remote)
    }
}

#[async_trait]
impl TokenStore for Vault {
    async fn load(&self, query: &CredentialQuery<'_>) -> Result<Option<TokenRow>> {
        let inner = &*self.0;
        let Some(slot) = inner.token_slot(query).await? else { return Ok(None) };
        match inner.store.get(Namespace::new(query.tenant, TOKENS), query.name).await? {
            Some(entry) => Ok(Some(TokenRow::clone(&*inner.load_tokens(query, &slot, &entry).await?))),
            None => {
                slot.state().tokens = None;
                Ok(None)
            }
        }
    }

    /// Tokens belong to a credential: without one they are refused, and so are those of a revoked one.
    async fn save(&self, query: &CredentialQuery<'_>, record: &TokenRecord, condition: Condition) -> Result<Option<u64>> {
        let inner = &*self.0;
        let slot = inner.token_slot(query).await?.ok_or_else(|| query.missing())?;
        inner.prove_current().await?;
        let row = inner.seal_tokens(query.tenant, query.name, record).await?;
        inner.index(query.tenant).await?;
        let namespace = Namespace::new(query.tenant, TOKENS);
        let PutOutcome::Stored(version) = inner.store.put(namespace, query.name, row, condition, None).await? else { return Ok(None) };
        if !query.name.contains(':') {
            // It may have been revoked while these were on their way. The revocation deletes what it finds; what came after it goes here.
            let found = inner.row(query.tenant, query.name).await?;
            if found.is_none_or(|(_, row)| row.record.as_ref().is_some_and(crate::record::Record::is_revoked)) {
                inner.store.delete(namespace, query.name, Condition::Is(version)).await?;
                let message = format!("credential `{}` was revoked; its new tokens are not kept", printable(query.name, 80));
                return Err(Error::new(ErrorKind::AuthExpired, message));
            }
        }
        let row = Arc::new(TokenRow { version, record: record.clone() });
        let mut state = slot.state();
        if state.tokens.as_ref().is_none_or(|known| known.row.version < version) {
            state.tokens = Some(OpenedTokens { at: inner.clock.now(), row });
        }
        Ok(Some(version))
    }

    async fn lease(&self, query: &CredentialQuery<'_>, time: Duration) -> Result<Option<TokenLease>> {
        let namespace = Namespace::new(query.tenant, LEASES);
        match self.0.store.put(namespace, query.name, Bytes::new(), Condition::Absent, Some(time)).await? {
            PutOutcome::Stored(fence) => Ok(Some(TokenLease { fence })),
            PutOutcome::Refused(_) => Ok(None),
        }
    }

    async fn release(&self, query: &CredentialQuery<'_>, lease: TokenLease) -> Result<()> {
        // `false`: it ran out, and perhaps somebody else has one. Theirs stays.
        self.0.store.delete(Namespace::new(query.tenant, LEASES), query.name, Condition::Is(lease.fence)).await?;
        Ok(())
    }

    async fn remove(&self, query: &CredentialQuery<'_>) -> Result<bool> {
        let removed = self.0.store.delete(Namespace::new(query.tenant, TOKENS), query.name, Condition::Any).await?;
        if let Some(slot) = self.0.cache.find(query.tenant, query.name) {
            slot.state().tokens = None;
        }
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_packing_and_damaged_packs_are_refused() {
        for refresh in [None, Some("r"), Some("")] {
            let packed = pack(&TokenSet { access: "access".into(), refresh: refresh.map(Into::into) }).unwrap();
            let tokens = unpack(&packed).unwrap();
            assert_eq!(tokens.access.expose_secret(), "access");
            assert_eq!(tokens.refresh.as_ref().map(|token| token.expose_secret()), refresh);
            for len in 0..packed.len() {
                // Cut between the tokens, it is a pack without a refresh token.
                assert!(len == 10 || unpack(&packed[..len]).is_none(), "{len}");
            }
        }
        assert!(pack(&TokenSet { access: "x".repeat(LONGEST + 1).into(), refresh: None }).is_err());
    }
}
