//! Payloads sealed at rest: what they are bound to, whose keys they use, how those come and go, and that a rotation of the master key finds them.
#![allow(clippy::unwrap_used, reason = "a test may fail this way")]

mod common;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use common::{Place, RemoteKey, key, open};
use connector_core::{ErrorKind, TenantId, state::Namespace};
use connector_vault::{
    Vault,
    payload::{PayloadSealer, Unopened},
};

const KEYS: &str = "vault.payload_keys";
const DAY: Duration = Duration::from_secs(86_400);
const CONTEXT: [&[u8]; 3] = [b"event", b"main", b"e-1"];

on_both_stores!(
    what_is_sealed_opens_in_its_own_place_only,
    what_was_never_sealed_is_given_back_as_it_is,
    a_tenant_has_one_key_a_day_whoever_seals,
    a_key_that_cannot_be_replaced_goes_on_for_a_week,
    digests_stay_while_keys_change_and_are_a_tenants_own,
    a_rotation_of_the_master_key_moves_and_counts_the_keys,
    a_master_key_that_only_payloads_need_is_missed_at_the_start,
    everything_stays_readable_while_the_master_key_changes,
    a_lost_key_loses_what_it_sealed_and_nothing_else,
    keys_that_nothing_needs_are_forgotten,
);

fn acme() -> TenantId {
    "acme".into()
}

async fn sealer(place: &Place) -> PayloadSealer {
    PayloadSealer::new(place.vault().await)
}

async fn seal(sealer: &PayloadSealer, text: &str) -> Bytes {
    sealer.seal(&acme(), &CONTEXT, text.as_bytes()).await.unwrap()
}

async fn opened(sealer: &PayloadSealer, sealed: &Bytes) -> Result<Bytes, Unopened> {
    sealer.open(&acme(), &CONTEXT, sealed.clone()).await
}

/// The names of a tenant's keys in the store.
async fn names(place: &Place, tenant: &TenantId) -> Vec<String> {
    let rows = place.store.scan(Namespace::new(tenant, KEYS), "", None, 100).await.unwrap();
    rows.into_iter().map(|(name, _)| name).collect()
}

fn why(unopened: Unopened) -> String {
    match unopened {
        Unopened::Lost(why) => why,
        Unopened::Away(error) => panic!("not lost: {error}"),
    }
}

async fn what_is_sealed_opens_in_its_own_place_only(place: Place) {
    let sealer = sealer(&place).await;
    let sealed = seal(&sealer, "{\"canary\":1}").await;
    assert!(PayloadSealer::is_sealed(&sealed) && !sealed.windows(6).any(|window| window == b"canary"));
    assert_ne!(sealed, seal(&sealer, "{\"canary\":1}").await, "each has a nonce of its own");
    assert_eq!(opened(&sealer, &sealed).await.unwrap(), "{\"canary\":1}");
    for context in [&[&b"job"[..], b"main", b"e-1"][..], &[b"event", b"other", b"e-1"], &[b"event", b"main", b"e-2"], &CONTEXT[..2], &[]] {
        let text = why(sealer.open(&acme(), context, sealed.clone()).await.unwrap_err());
        assert_eq!(text, "it, or what it is bound to (tenant, data key, place), was changed");
    }
    // Another tenant has no such key; with one of its own under the same number it is another key.
    let globex = TenantId::from("globex");
    let text = why(sealer.open(&globex, &CONTEXT, sealed.clone()).await.unwrap_err());
    assert_eq!(text, "data key 1 of tenant `globex` is not in the store");
    sealer.seal(&globex, &CONTEXT, b"{}").await.unwrap();
    assert!(matches!(sealer.open(&globex, &CONTEXT, sealed.clone()).await, Err(Unopened::Lost(_))));
    // Nor does its row open there: the key itself is bound to the tenant.
    let row = place.raw("acme", KEYS, "k0000000000000001").await;
    place.put_raw("globex", KEYS, "k0000000000000001", row).await;
    let fresh = PayloadSealer::new(place.vault().await);
    let text = why(fresh.open(&globex, &CONTEXT, sealed.clone()).await.unwrap_err());
    assert!(text.starts_with("its data key `k0000000000000001` does not open: "), "{text}");
    for at in [0, 4, 5, 12, 13, 24, 25, sealed.len() - 1] {
        let mut bytes = sealed.to_vec();
        bytes[at] ^= 1;
        let opened = sealer.open(&acme(), &CONTEXT, bytes.into()).await;
        // Without its first bytes it is no sealed payload, and whoever reads it finds no JSON.
        assert!(if at == 0 { opened.is_ok() } else { matches!(opened, Err(Unopened::Lost(_))) }, "byte {at}");
    }
}

async fn what_was_never_sealed_is_given_back_as_it_is(place: Place) {
    let sealer = sealer(&place).await;
    for text in ["{\"id\":1}", "", "[]", "17"] {
        assert_eq!(opened(&sealer, &Bytes::from_static(text.as_bytes())).await.unwrap(), text);
    }
    assert!(names(&place, &acme()).await.is_empty(), "reading makes no key");
    assert_eq!(opened(&sealer, &seal(&sealer, "").await).await.unwrap(), "");
}

async fn a_tenant_has_one_key_a_day_whoever_seals(place: Place) {
    let (one, two) = (sealer(&place).await, sealer(&place).await);
    let (first, second) = tokio::join!(seal(&one, "1"), seal(&two, "2"));
    assert_eq!(names(&place, &acme()).await, ["k0000000000000001"]);
    assert_eq!((opened(&two, &first).await.unwrap(), opened(&one, &second).await.unwrap()), ("1".into(), "2".into()));
    // A process that was started anew goes on with the key there is.
    let three = sealer(&place).await;
    let third = seal(&three, "3").await;
    place.pass(DAY).await;
    let fourth = seal(&one, "4").await;
    seal(&two, "5").await;
    assert_eq!(names(&place, &acme()).await, ["k0000000000000001", "k0000000000000002"]);
    for (sealed, text) in [(&first, "1"), (&third, "3"), (&fourth, "4")] {
        for sealer in [&one, &two, &three, &PayloadSealer::new(place.vault().await)] {
            assert_eq!(opened(sealer, sealed).await.unwrap(), text);
        }
    }
    // Each process wrote down what it may seal before it did: two times a million for each of three, less those that are over.
    let row: serde_json::Value = serde_json::from_slice(&place.raw("acme", KEYS, "k0000000000000001").await).unwrap();
    assert_eq!(row["reserved"], 3 << 20);
}

async fn a_key_that_cannot_be_replaced_goes_on_for_a_week(place: Place) {
    let kms = RemoteKey::new(9);
    let vault = open(place.store.clone(), &place.clock, vec![kms.clone()]).await.unwrap();
    let sealer = PayloadSealer::new(vault);
    let first = seal(&sealer, "1").await;
    kms.set_away(true);
    place.pass(DAY).await;
    let second = seal(&sealer, "2").await;
    assert_eq!(opened(&sealer, &second).await.unwrap(), "2");
    assert_eq!(opened(&sealer, &first).await.unwrap(), "1", "what is open stays open, whoever is away");
    assert_eq!(names(&place, &acme()).await.len(), 1);
    place.pass(6 * DAY).await;
    let error = sealer.seal(&acme(), &CONTEXT, b"3").await.unwrap_err();
    assert!(error.kind().is_passing(), "{error}");
    // Another process cannot open anything now; it is away, not lost.
    let asleep = PayloadSealer::new(open(place.store.clone(), &place.clock, vec![kms.clone()]).await.unwrap());
    assert!(matches!(opened(&asleep, &first).await, Err(Unopened::Away(_))));
    assert_eq!(connector_core::Error::from(opened(&asleep, &first).await.unwrap_err()).kind(), ErrorKind::Transient);
    kms.set_away(false);
    assert_eq!(opened(&asleep, &first).await.unwrap(), "1");
    seal(&sealer, "3").await;
    assert_eq!(names(&place, &acme()).await.len(), 2);
}

async fn digests_stay_while_keys_change_and_are_a_tenants_own(place: Place) {
    let one = sealer(&place).await;
    let digest = one.digest(&acme(), b"{\"id\":1}").await.unwrap();
    assert_ne!(digest, one.digest(&acme(), b"{\"id\":2}").await.unwrap());
    assert_ne!(digest, one.digest(&"globex".into(), b"{\"id\":1}").await.unwrap());
    place.pass(8 * DAY).await;
    seal(&one, "x").await;
    assert_eq!(digest, one.digest(&acme(), b"{\"id\":1}").await.unwrap());
    assert_eq!(digest, sealer(&place).await.digest(&acme(), b"{\"id\":1}").await.unwrap());
    place.vault_under(vec![key(2), key(1)]).await.unwrap().rotate_key(&|_| ()).await.unwrap();
    let later = PayloadSealer::new(place.vault_under(vec![key(2)]).await.unwrap());
    assert_eq!(digest, later.digest(&acme(), b"{\"id\":1}").await.unwrap());
}

async fn a_rotation_of_the_master_key_moves_and_counts_the_keys(place: Place) {
    let old = sealer(&place).await;
    let first = seal(&old, "1").await;
    old.digest(&acme(), b"x").await.unwrap();
    place.pass(DAY).await;
    let second = seal(&old, "2").await;
    let vault = place.vault_under(vec![key(2), key(1)]).await.unwrap();
    let before = vault.verify().await.unwrap();
    assert_eq!((before.credentials, before.opened, before.by_key), (0, 3, BTreeMap::from([("k1".to_owned(), 3)])));
    let report = vault.rotate_key(&|_| ()).await.unwrap();
    assert_eq!((report.rewrapped, report.already, report.left), (3, 0, BTreeMap::from([("k1".to_owned(), 0)])));
    assert_eq!(vault.rotate_key(&|_| ()).await.unwrap().already, 3);
    // The old key is not needed any more, and payloads are as they were.
    let new = PayloadSealer::new(place.vault_under(vec![key(2)]).await.unwrap());
    assert_eq!((opened(&new, &first).await.unwrap(), opened(&new, &second).await.unwrap()), ("1".into(), "2".into()));
    let report = new.vault().verify().await.unwrap();
    assert_eq!(report.by_key, BTreeMap::from([("k2".to_owned(), 3)]));
    // Who still has the old key open goes on sealing under the same data key.
    let third = seal(&old, "3").await;
    assert_eq!(opened(&new, &third).await.unwrap(), "3");
    let trail = place.trail("acme").await;
    let rotated: Vec<_> =
        trail.iter().filter(|entry| &*entry.record.operation == "vault.rotate_key").filter_map(|entry| entry.record.credential.as_deref()).collect();
    assert_eq!(rotated, ["$payloads:digest", "$payloads:k0000000000000001", "$payloads:k0000000000000002"]);
}

async fn a_master_key_that_only_payloads_need_is_missed_at_the_start(place: Place) {
    let sealed = seal(&sealer(&place).await, "1").await;
    let error = place.vault_under(vec![key(2)]).await.unwrap_err();
    assert!(error.to_string().contains("the master key `k1` is missing, which 1 credential needs"), "{error}");
    assert_eq!(opened(&sealer(&place).await, &sealed).await.unwrap(), "1");
}

async fn everything_stays_readable_while_the_master_key_changes(place: Place) {
    let under = |keys: Vec<_>| place.vault_under(keys);
    let writer = PayloadSealer::new(under(vec![key(1)]).await.unwrap());
    let mut all = vec![seal(&writer, "0").await];
    for round in 1..6_u8 {
        let vault = under(vec![key(round + 1), key(round)]).await.unwrap();
        let (writing, reading) = (PayloadSealer::new(vault.clone()), PayloadSealer::new(vault.clone()));
        // A day passes in between, so that keys are made while others are moved.
        place.pass(DAY).await;
        let work = async {
            let mut new = Vec::new();
            for _ in 0..20 {
                new.push(seal(&writing, "0").await);
                for sealed in all.iter().chain(&new) {
                    assert_eq!(opened(&reading, sealed).await.unwrap(), "0");
                }
                tokio::task::yield_now().await;
            }
            new
        };
        let (new, report) = tokio::join!(work, async { vault.rotate_key(&|_| ()).await.unwrap() });
        assert!(report.unreadable.is_empty(), "{report:?}");
        all.extend(new);
        // What was made meanwhile is under the new key already or is found by a second look.
        let report = vault.rotate_key(&|_| ()).await.unwrap();
        assert!(report.left.values().all(|left| *left == 0), "{report:?}");
        let alone = PayloadSealer::new(under(vec![key(round + 1)]).await.unwrap());
        for sealed in &all {
            assert_eq!(opened(&alone, sealed).await.unwrap(), "0");
        }
    }
    assert_eq!(names(&place, &acme()).await.len(), 6);
}

async fn a_lost_key_loses_what_it_sealed_and_nothing_else(place: Place) {
    let before = sealer(&place).await;
    let first = seal(&before, "1").await;
    place.put_raw("acme", KEYS, "k0000000000000001", b"damaged".to_vec()).await;
    let after = sealer(&place).await;
    assert_eq!(why(opened(&after, &first).await.unwrap_err()), "the row of data key 1 of tenant `acme` is damaged");
    let second = seal(&after, "2").await;
    assert_eq!(opened(&after, &second).await.unwrap(), "2");
    assert_eq!(names(&place, &acme()).await.len(), 2);
    let report = Vault::verify(after.vault()).await.unwrap();
    let lost: Vec<_> = report.unreadable.iter().map(|one| (one.name.as_str(), one.field.as_str())).collect();
    assert_eq!(lost, [("$payloads", "k0000000000000001")]);
    // The process that has it open still reads what it sealed.
    assert_eq!(opened(&before, &first).await.unwrap(), "1");
}

async fn keys_that_nothing_needs_are_forgotten(place: Place) {
    let sealer = sealer(&place).await;
    let first = seal(&sealer, "1").await;
    place.pass(30 * DAY).await;
    let second = seal(&sealer, "2").await;
    let start = common::START * 1000;
    let days = |days: u64| start + days * 86_400_000;
    assert_eq!(sealer.forget_keys(&acme(), days(14) - 1).await.unwrap(), 0, "a week it may seal, a week more that may live");
    assert_eq!(opened(&sealer, &first).await.unwrap(), "1");
    assert_eq!(sealer.forget_keys(&acme(), days(14)).await.unwrap(), 1);
    assert_eq!(why(opened(&sealer, &first).await.unwrap_err()), "data key 1 of tenant `acme` is not in the store");
    // The newest stays, however old it is: its number must not be given again.
    assert_eq!(sealer.forget_keys(&acme(), days(10_000)).await.unwrap(), 0);
    assert_eq!(opened(&sealer, &second).await.unwrap(), "2");
    assert_eq!(sealer.forget_keys(&"globex".into(), days(10_000)).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_debug_text_shows_no_key() {
    let place = Place::memory();
    let sealer = Arc::new(sealer(&place).await);
    seal(&sealer, "canary").await;
    let shown = format!("{sealer:?}");
    assert!(shown.starts_with("PayloadSealer") && !shown.contains("canary") && !shown.contains("Cipher"), "{shown}");
}
