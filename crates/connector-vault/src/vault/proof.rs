//! Proving the master keys when the vault opens: a known text is kept sealed under each, so that a wrong key under a known id is noticed
//! before anything is sealed with it, and a missing one before somebody needs it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
};

use bytes::Bytes;
use connector_core::{
    Error, Result, TenantId,
    state::{Condition, Namespace},
};

use super::{CREDENTIALS, Inner, KEYS, PAGE, TOKENS, Vault, tokens};
use crate::{
    key::MasterKey,
    keys::{Fault, Target},
    payload::{KeyRow, PAYLOAD_KEYS, SUBJECT},
    record::Row,
};

/// What is sealed to prove a key.
const TEXT: &[u8] = b"this master key is the one";
/// What stands for the credential there.
const PROOF: &str = "$key";

/// What a key's proof says.
enum Proof {
    Right,
    Wrong,
    /// It could not be asked.
    Later,
}

impl Vault {
    pub(super) async fn prove_keys(&self) -> Result<()> {
        let mut wrong = BTreeSet::new();
        for key in self.0.keys.iter() {
            match self.0.prove(key).await? {
                Proof::Right => {}
                Proof::Wrong => {
                    wrong.insert(key.id().to_owned());
                }
                Proof::Later => tracing::warn!(key = key.id(), place = key.place(), "a master key cannot be reached and is not proven yet"),
            }
        }
        let known = self.known_keys().await?;
        let missing: BTreeSet<String> = known.into_iter().filter(|id| self.0.keys.find(id).is_none()).collect();
        if wrong.is_empty() && missing.is_empty() {
            return Ok(());
        }
        let users = self.key_users().await?;
        let mut troubles = Vec::new();
        for id in &wrong {
            let Some(key) = self.0.keys.find(id) else { continue };
            if self.opens_any(key).await? {
                // The key is right and its proof was damaged, which must not stop everything.
                tracing::warn!(key = id.as_str(), "the proof of a master key was damaged and is written anew");
                self.0.write_proof(key, Condition::Any).await?;
                continue;
            }
            let users = credentials(users.get(id).copied().unwrap_or_default());
            troubles.push(format!("what {} holds is not the master key `{id}`, which {users}; give another key another id", key.place()));
        }
        for id in &missing {
            if let Some(count) = users.get(id) {
                troubles.push(format!("the master key `{id}` is missing, which {}", credentials(*count)));
            }
        }
        if troubles.is_empty() {
            return Ok(());
        }
        Err(Error::config(format!("the vault cannot be opened: {}; configure that key, from its backup if need be", troubles.join("; "))))
    }

    /// The ids of all keys that were ever used here.
    pub(super) async fn known_keys(&self) -> Result<Vec<String>> {
        let (mut known, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = self.0.store.scan(Namespace::new(&self.0.own, KEYS), "", after.as_deref(), PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(known) };
            after = Some(last.clone());
            known.extend(page.into_iter().map(|(id, _)| id));
        }
    }

    /// How many credentials need each key; the payloads of a tenant count as one.
    async fn key_users(&self) -> Result<BTreeMap<String, u64>> {
        let mut users = BTreeMap::new();
        for tenant in self.tenants().await? {
            let mut needs = BTreeSet::new();
            self.each(&tenant, CREDENTIALS, |name, entry| {
                let row = Row::read(&entry);
                for id in row.record.iter().flat_map(|record| record.envelopes().filter_map(|(_, kept)| kept.key_id())) {
                    needs.insert((name.clone(), id.to_owned()));
                }
            })
            .await?;
            self.each(&tenant, TOKENS, |name, entry| {
                needs.extend(tokens::key_id(&entry.value).map(|id| (name, id)));
            })
            .await?;
            self.each(&tenant, PAYLOAD_KEYS, |_, entry| {
                needs.extend(KeyRow::read(&entry).and_then(|row| row.key_id()).map(|id| (SUBJECT.to_owned(), id)));
            })
            .await?;
            for (_, id) in needs {
                *users.entry(id).or_default() += 1;
            }
        }
        Ok(users)
    }

    /// Whether a key opens any of the first credentials and data keys it is named by.
    async fn opens_any(&self, key: &dyn MasterKey) -> Result<bool> {
        for tenant in self.tenants().await? {
            for (name, entry) in self.0.store.scan(Namespace::new(&tenant, CREDENTIALS), "", None, PAGE).await? {
                if self.opens(key, &tenant, &name, &Row::read(&entry)).await {
                    return Ok(true);
                }
            }
            for (name, entry) in self.0.store.scan(Namespace::new(&tenant, PAYLOAD_KEYS), "", None, PAGE).await? {
                let Some(row) = KeyRow::read(&entry).filter(|row| row.key_id().as_deref() == Some(key.id())) else { continue };
                if self.0.keys.open(row.target(&tenant, &name), &row.sealed()).await.is_ok() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    async fn opens(&self, key: &dyn MasterKey, tenant: &TenantId, name: &str, row: &Row) -> bool {
        let Some(record) = &row.record else { return false };
        for (field, kept) in record.envelopes().filter(|(_, kept)| kept.key_id() == Some(key.id())) {
            if self.0.keys.open(Target { tenant, credential: name, field, version: kept.version }, &kept.sealed).await.is_ok() {
                return true;
            }
        }
        false
    }
}

impl Inner {
    /// Makes sure that the current key is proven before something is sealed under it for good. It is not yet if it was away at the start.
    pub(crate) async fn prove_current(&self) -> Result<()> {
        if self.proven.load(Ordering::Acquire) {
            return Ok(());
        }
        let key = self.keys.current();
        match self.prove(key).await? {
            Proof::Right => Ok(()),
            // Sealing will say that it is away.
            Proof::Later => Ok(()),
            Proof::Wrong => Err(Error::config(format!("what {} holds is not the master key `{}` that was used here", key.place(), key.id()))),
        }
    }

    async fn prove(&self, key: &dyn MasterKey) -> Result<Proof> {
        // A second look if another process proves it for the first time just now.
        for _ in 0..2 {
            let namespace = Namespace::new(&self.own, KEYS);
            if let Some(entry) = self.store.get(namespace, key.id()).await? {
                return match self.keys.open(self.proof_target(key.id()), &entry.value).await {
                    Ok(plain) if *plain == TEXT => Ok(self.right(key)),
                    Ok(_) | Err(Fault::Unreadable(_)) => Ok(Proof::Wrong),
                    Err(fault) if fault.is_passing() => Ok(Proof::Later),
                    Err(Fault::Away(error)) => Err(error),
                };
            }
            match self.write_proof(key, Condition::Absent).await {
                Ok(true) => return Ok(self.right(key)),
                Ok(false) => {}
                Err(error) if error.kind().is_passing() => return Ok(Proof::Later),
                Err(error) => return Err(error),
            }
        }
        Ok(Proof::Later)
    }

    fn right(&self, key: &dyn MasterKey) -> Proof {
        if key.id() == self.keys.current().id() {
            self.proven.store(true, Ordering::Release);
        }
        Proof::Right
    }

    fn proof_target<'a>(&'a self, id: &'a str) -> Target<'a> {
        Target { tenant: &self.own, credential: PROOF, field: id, version: 0 }
    }

    /// `false`: there is one already.
    async fn write_proof(&self, key: &dyn MasterKey, condition: Condition) -> Result<bool> {
        let sealed = self.keys.seal_under(key, self.proof_target(key.id()), TEXT).await?;
        let written = self.store.put(Namespace::new(&self.own, KEYS), key.id(), Bytes::from(sealed), condition, None).await?;
        Ok(written.is_stored())
    }
}

fn credentials(count: u64) -> String {
    match count {
        0 => "no credential needs".into(),
        1 => "1 credential needs".into(),
        n => format!("{n} credentials need"),
    }
}
