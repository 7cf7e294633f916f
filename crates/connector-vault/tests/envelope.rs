//! Envelopes that were moved, changed or cut: a clean error for every byte, never another secret, never a panic.
#![allow(clippy::unwrap_used, reason = "a test may fail this way")]

mod common;

use std::{collections::BTreeSet, sync::Arc};

use common::{Place, ask, key_called, new, value};
use connector_core::{ErrorKind, TenantId, credential::CredentialStore as _};
use connector_vault::{
    envelope::Envelope,
    key::{Binding, MasterKey},
};
use proptest::prelude::*;
use zeroize::Zeroizing;

/// A binding that owns its parts.
#[derive(Debug, Clone)]
struct Bound {
    tenant: TenantId,
    credential: String,
    field: String,
    version: u64,
    key: Arc<dyn MasterKey>,
}

impl Bound {
    fn new(tenant: &str, credential: &str, field: &str, version: u64, key: &Arc<dyn MasterKey>) -> Self {
        Self { tenant: tenant.into(), credential: credential.into(), field: field.into(), version, key: key.clone() }
    }

    fn binding(&self) -> Binding<'_> {
        Binding { tenant: &self.tenant, credential: &self.credential, field: &self.field, version: self.version, key_id: self.key.id() }
    }

    async fn seal(&self, plain: &[u8]) -> Vec<u8> {
        Envelope::seal(&*self.key, &self.binding(), plain).await.unwrap()
    }

    async fn open(&self, bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, connector_core::Error> {
        Envelope::parse(bytes)?.open(&*self.key, &self.binding()).await
    }
}

/// Where the parts of an envelope are, so that they can be exchanged.
struct Parts<'a> {
    head: &'a [u8],
    wrapped: &'a [u8],
    nonce: &'a [u8],
    rest: &'a [u8],
}

fn parts(bytes: &[u8]) -> Parts<'_> {
    let id = usize::from(bytes[4]);
    let (head, rest) = bytes.split_at(5 + id + 2);
    let (wrapped, rest) = rest.split_at(usize::from(u16::from_be_bytes([head[5 + id], head[6 + id]])));
    let (nonce, rest) = rest.split_at(12);
    Parts { head, wrapped, nonce, rest }
}

#[tokio::test]
async fn vault_move_integrity() {
    // Two ids for the same key material: only the binding tells them apart.
    let (k1, k2) = (key_called("k1", 1), key_called("k2", 1));
    let home = Bound::new("acme", "crm", "token", 1, &k1);
    let sealed = home.seal(b"s3cret").await;
    assert_eq!(home.open(&sealed).await.unwrap().as_slice(), b"s3cret");
    let elsewhere = [
        Bound::new("other", "crm", "token", 1, &k1),
        Bound::new("acme", "erp", "token", 1, &k1),
        Bound::new("acme", "crm", "secret", 1, &k1),
        Bound::new("acme", "crm", "token", 2, &k1),
        Bound::new("acme", "crm", "token", 1, &k2),
        // The same letters, cut elsewhere: lengths are part of the binding.
        Bound::new("acmec", "rm", "token", 1, &k1),
        Bound::new("acme", "crmt", "oken", 1, &k1),
        Bound::new("ac", "mecrm", "token", 1, &k1),
    ];
    for place in &elsewhere {
        let error = place.open(&sealed).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{place:?}");
        assert!(!error.to_string().contains("s3cret"));
        // What was sealed there does not open at home, and no mixture of the two opens anywhere.
        let theirs = place.seal(b"theirs").await;
        home.open(&theirs).await.unwrap_err();
        let (a, b) = (parts(&sealed), parts(&theirs));
        for choice in 1..15_u8 {
            let pick = |bit: u8, mine: fn(&Parts<'_>) -> Vec<u8>| if choice & bit == 0 { mine(&a) } else { mine(&b) };
            let mixed =
                [pick(1, |p| p.head.to_vec()), pick(2, |p| p.wrapped.to_vec()), pick(4, |p| p.nonce.to_vec()), pick(8, |p| p.rest.to_vec())].concat();
            for target in [&home, place] {
                // Heads differ only in the key id; where they do not, exchanging them is no change.
                let unchanged = a.head == b.head && matches!(choice | 1, 15 | 1);
                let opened = target.open(&mixed).await;
                assert!(unchanged || opened.is_err(), "choice {choice:04b} of {place:?} opens");
            }
        }
    }
    // Two envelopes of the same place and key: data keys are fresh, so their parts do not fit together either.
    let again = home.seal(b"s3cret").await;
    let (a, b) = (parts(&sealed), parts(&again));
    assert!(a.wrapped != b.wrapped && a.nonce != b.nonce && a.rest != b.rest);
    for mixed in
        [[a.head, b.wrapped, a.nonce, a.rest].concat(), [a.head, a.wrapped, b.nonce, a.rest].concat(), [a.head, a.wrapped, a.nonce, b.rest].concat()]
    {
        assert_eq!(home.open(&mixed).await.unwrap_err().kind(), ErrorKind::Invalid);
    }
}

#[tokio::test]
async fn vault_bitflip_every_byte() {
    let home = Bound::new("acme", "crm", "token", 1, &key_called("k1", 1));
    let sealed = home.seal(b"a secret of some length").await;
    for at in 0..sealed.len() {
        for bit in 0..8 {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1 << bit;
            let error = home.open(&flipped).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "byte {at} bit {bit}");
        }
    }
}

#[tokio::test]
async fn vault_truncate_every_len() {
    let home = Bound::new("acme", "crm", "token", 1, &key_called("k1", 1));
    let sealed = home.seal(b"a secret of some length").await;
    let mut reasons = BTreeSet::new();
    for len in 0..sealed.len() {
        let error = Envelope::parse(&sealed[..len]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{len}");
        reasons.insert(error.message().to_owned());
    }
    // Each part is named where it is cut.
    for part in ["first bytes", "format", "length of the key id", "key id", "length of the wrapped key", "wrapped key", "nonce", "ciphertext"] {
        assert!(reasons.iter().any(|reason| reason.ends_with(&format!("it ends inside the {part}"))), "{part}: {reasons:?}");
    }
    let longer = [&sealed[..], b"x"].concat();
    assert!(Envelope::parse(&longer).unwrap_err().message().contains("something follows"));
}

#[tokio::test]
async fn lengths_that_cannot_be_are_refused_before_anything_is_allocated() {
    let home = Bound::new("acme", "crm", "token", 1, &key_called("k1", 1));
    let sealed = home.seal(b"x").await;
    let wrapped_len = 5 + 2;
    for (at, bytes, why) in [
        (4, &[0_u8][..], "key id has an impossible length"),
        (4, &[33], "key id has an impossible length"),
        (wrapped_len, &[0, 0], "wrapped key has an impossible length"),
        (wrapped_len, &[0x10, 0x01], "wrapped key has an impossible length"),
        (5, b"K1", "key id is not one"),
        (3, &[2], "format 2 is not known"),
    ] {
        let mut changed = sealed.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        let error = Envelope::parse(&changed).unwrap_err();
        assert!(error.message().contains(why), "{error}");
    }
    let mut huge = sealed.clone();
    let at = sealed.len() - 17 - 4;
    huge[at..at + 4].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(Envelope::parse(&huge).unwrap_err().message().contains("impossible length"));
    let error = Envelope::seal(&*home.key, &home.binding(), &vec![0; (1 << 20) + 1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

/// Runs a future that waits for nothing.
fn now<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

proptest! {
    #[test]
    fn whatever_the_bytes_are_reading_them_does_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(envelope) = Envelope::parse(&bytes) {
            prop_assert_eq!(envelope.to_bytes(), bytes);
        }
    }

    #[test]
    fn what_starts_like_an_envelope_is_read_as_it_is_or_not_at_all(
        id in proptest::collection::vec(any::<u8>(), 0..40),
        lens in any::<(u8, u16, u32)>(),
        honest in any::<(bool, bool, bool)>(),
        wrapped in proptest::collection::vec(any::<u8>(), 0..80),
        ciphertext in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let id_len = if honest.0 { u8::try_from(id.len()).unwrap() } else { lens.0 };
        let wrapped_len = if honest.1 { u16::try_from(wrapped.len()).unwrap() } else { lens.1 };
        let len = if honest.2 { u32::try_from(ciphertext.len()).unwrap() } else { lens.2 };
        let bytes = [b"CNV\x01", &[id_len][..], &id, &wrapped_len.to_be_bytes(), &wrapped, &[7; 12], &len.to_be_bytes(), &ciphertext].concat();
        if let Ok(envelope) = Envelope::parse(&bytes) {
            prop_assert_eq!(envelope.to_bytes(), bytes);
        }
    }

    #[test]
    fn what_is_sealed_opens_for_its_binding_only(
        tenant in "\\PC{0,12}", credential in "\\PC{0,12}", field in "\\PC{0,12}", version in any::<u64>(),
        other in ("\\PC{0,12}", "\\PC{0,12}", "\\PC{0,12}", any::<u64>()),
        plain in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let key = key_called("k1", 1);
        let home = Bound::new(&tenant, &credential, &field, version, &key);
        let sealed = now(home.seal(&plain));
        let opened = now(home.open(&sealed)).unwrap();
        prop_assert_eq!(opened.as_slice(), plain.as_slice());
        let away = Bound::new(&other.0, &other.1, &other.2, other.3, &key);
        if away.binding() != home.binding() {
            prop_assert!(now(away.open(&sealed)).is_err());
        }
    }
}

/// What a row is opened to, asked by a process that knows nothing: `Ok` with the token, or the error's text.
async fn read(place: &Place, tenant: &str, name: &str) -> Result<String, String> {
    let vault = place.vault().await;
    let given = vault.get(&ask(tenant, name).query()).await.map_err(|error| format!("{error:?} {error}"))?;
    given.field("token").map(|_| value(&given, "token")).ok_or_else(|| "no token".to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_row_that_was_moved_does_not_open_and_the_others_do() {
    let place = Place::memory();
    let vault = place.vault().await;
    for tenant in ["acme", "other"] {
        for name in ["crm", "erp"] {
            let secret = format!("s3cret of {tenant} {name}");
            vault.set(&tenant.into(), name, new([("token", &secret), ("second", "x")])).await.unwrap();
        }
    }
    let mine = place.raw("acme", common::CREDENTIALS, "crm").await;
    // To another tenant, and to another name.
    place.put_raw("other", common::CREDENTIALS, "crm", mine.clone()).await;
    place.put_raw("acme", common::CREDENTIALS, "erp", mine.clone()).await;
    // One field's envelope to another field.
    let mut swapped: serde_json::Value = serde_json::from_slice(&mine).unwrap();
    let token = swapped["fields"]["token"].clone();
    swapped["fields"]["second"] = token;
    place.put_raw("acme", common::CREDENTIALS, "swapped", serde_json::to_vec(&swapped).unwrap()).await;
    // An older version's envelope as a newer one.
    let mut older: serde_json::Value = serde_json::from_slice(&mine).unwrap();
    older["version"] = 2.into();
    older["fields"]["token"][0]["version"] = 2.into();
    place.put_raw("acme", common::CREDENTIALS, "older", serde_json::to_vec(&older).unwrap()).await;
    for (tenant, name) in [("other", "crm"), ("acme", "erp"), ("acme", "swapped"), ("acme", "older")] {
        let error = read(&place, tenant, name).await.unwrap_err();
        assert!(
            error.contains(&format!("credential `{name}` is unreadable: field `")) && error.contains("other credentials are not affected"),
            "{error}"
        );
        assert!(!error.contains("s3cret"), "{error}");
    }
    assert_eq!(read(&place, "acme", "crm").await.unwrap(), "s3cret of acme crm");
    assert_eq!(read(&place, "other", "erp").await.unwrap(), "s3cret of other erp");
    let report = vault.verify().await.unwrap();
    let lost: BTreeSet<(String, String)> = report.unreadable.iter().map(|u| (u.tenant.to_string(), u.name.clone())).collect();
    let expected = [("acme", "erp"), ("acme", "older"), ("acme", "swapped"), ("other", "crm")];
    assert_eq!(lost, expected.map(|(tenant, name)| (tenant.to_owned(), name.to_owned())).into());
    assert_eq!(report.credentials, 6);
}

#[tokio::test(start_paused = true)]
async fn a_row_with_any_byte_changed_or_cut_gives_the_secret_or_an_error_never_another_secret() {
    let place = Place::memory();
    let vault = place.vault().await;
    vault.set(&"acme".into(), "crm", new([("token", "s3cret")])).await.unwrap();
    vault.set(&"acme".into(), "erp", new([("token", "healthy")])).await.unwrap();
    let row = place.raw("acme", common::CREDENTIALS, "crm").await;
    let mut unreadable = 0;
    let changed = (0..row.len()).flat_map(|at| [0x01, 0x80, 0xff].map(|mask| (at, mask))).map(|(at, mask)| {
        let mut row = row.clone();
        row[at] ^= mask;
        row
    });
    let cut = (0..row.len()).map(|len| row[..len].to_vec());
    for bytes in changed.chain(cut) {
        place.put_raw("acme", common::CREDENTIALS, "crm", bytes).await;
        match read(&place, "acme", "crm").await {
            Ok(token) => assert_eq!(token, "s3cret"),
            Err(error) => {
                assert!(!error.contains("s3cret"), "{error}");
                unreadable += 1;
            }
        }
    }
    assert!(unreadable > row.len() * 2, "{unreadable}");
    assert_eq!(read(&place, "acme", "erp").await.unwrap(), "healthy");
}
