//! Changing the master key while everything goes on, with kills.
#![allow(clippy::unwrap_used, reason = "a test may fail this way")]

mod common;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use common::{Place, RemoteKey, ask, dying::Dying, fields, key, new, open, value};
use connector_core::{
    TenantId,
    credential::CredentialStore as _,
    state::Condition,
    token::{TokenFacts, TokenRecord, TokenSet, TokenStore as _},
};
use connector_vault::{CredentialState, Vault};
use secrecy::ExposeSecret as _;

on_both_stores!(
    everything_comes_under_the_new_key_and_the_old_one_can_go,
    killed_after_any_write_it_goes_on_where_it_was,
    eight_readers_never_fail_meanwhile,
    what_does_not_open_is_left_and_reported,
    a_renewal_in_flight_is_not_disturbed,
    a_key_service_that_goes_away_stops_it_and_loses_nothing,
);

fn tokens(access: &str, serial: u64) -> TokenRecord {
    TokenRecord { tokens: TokenSet { access: access.into(), refresh: Some("r3fresh".into()) }, facts: TokenFacts { serial, ..TokenFacts::default() } }
}

/// Twelve credentials of two tenants, one in its overlap, one with tokens: 14 envelopes of credentials and one of tokens.
async fn fill(vault: &Vault) {
    for n in 0..12 {
        let tenant = TenantId::from(if n % 2 == 0 { "acme" } else { "other" });
        vault.set(&tenant, &format!("c{n:02}"), new([("token", &format!("s3cret {n}"))])).await.unwrap();
    }
    let acme = TenantId::from("acme");
    vault.rotate(&acme, "c00", fields([("token", "s3cret new"), ("second", "x")]), Duration::from_secs(86_400)).await.unwrap();
    vault.save(&ask("acme", "c02").query(), &tokens("acc3ss", 3), Condition::Absent).await.unwrap().unwrap();
}

async fn check(vault: &Vault) {
    for n in 0..12 {
        let tenant = if n % 2 == 0 { "acme" } else { "other" };
        let given = vault.get(&ask(tenant, &format!("c{n:02}")).query()).await.unwrap();
        if n == 0 {
            assert_eq!((value(&given, "token"), value(given.previous.as_ref().unwrap(), "token")), ("s3cret new".into(), "s3cret 0".into()));
        } else {
            assert_eq!(value(&given, "token"), format!("s3cret {n}"));
        }
    }
    let row = vault.load(&ask("acme", "c02").query()).await.unwrap().unwrap();
    assert_eq!((row.record.tokens.access.expose_secret(), row.record.facts.serial), ("acc3ss", 3));
}

const ENVELOPES: u64 = 15;

async fn everything_comes_under_the_new_key_and_the_old_one_can_go(place: Place) {
    fill(&place.vault_under(vec![key(1)]).await.unwrap()).await;
    let before = place.raw("acme", common::CREDENTIALS, "c02").await;
    let vault = place.vault_under(vec![key(2), key(1)]).await.unwrap();
    check(&vault).await;
    let told = AtomicU64::new(0);
    let report = vault.rotate_key(&|done| told.store(done, Ordering::SeqCst)).await.unwrap();
    assert_eq!((report.key_id.as_str(), report.rewrapped, report.already, told.into_inner()), ("k2", ENVELOPES, 0, ENVELOPES));
    assert_eq!((report.left, report.unreadable.len()), (BTreeMap::from([("k1".to_owned(), 0)]), 0));
    check(&vault).await;
    // A rotation of the key is no rotation of the credential.
    let info = vault.show(&"acme".into(), "c02").await.unwrap();
    assert_eq!((info.version, info.key_id.as_str(), info.rotated_at, info.token.unwrap().serial), (1, "k2", None, 3));
    assert_ne!(place.raw("acme", common::CREDENTIALS, "c02").await, before);
    let again = vault.rotate_key(&|_| ()).await.unwrap();
    assert_eq!((again.rewrapped, again.already), (0, ENVELOPES));
    // The old key is not needed any more.
    let vault = place.vault_under(vec![key(2)]).await.unwrap();
    check(&vault).await;
    let report = vault.verify().await.unwrap();
    assert_eq!((report.opened, report.by_key), (ENVELOPES, BTreeMap::from([("k2".to_owned(), ENVELOPES)])));
    let errands = place.trail("acme").await.iter().filter(|entry| &*entry.record.operation == "vault.rotate_key").count();
    // Six credentials of this tenant, and the tokens of one.
    assert_eq!(errands, 7);
}

async fn killed_after_any_write_it_goes_on_where_it_was(place: Place) {
    fill(&place.vault_under(vec![key(1)]).await.unwrap()).await;
    let mut under = vec![key(1)];
    // Each round brings in another key and is killed after one write more than the round before, then goes on to the end.
    for round in 0..14_u8 {
        under.insert(0, key(round + 2));
        under.truncate(2);
        // The proof of the new key is written at the start.
        let started = open(place.store.clone(), &place.clock, under.clone()).await.unwrap();
        drop(started);
        let dying = Arc::new(Dying::after(place.store.clone(), i64::from(round)));
        let vault = open(dying, &place.clock, under.clone()).await.unwrap();
        let outcome = vault.rotate_key(&|_| ()).await;
        assert!(outcome.is_err(), "round {round} was not killed");
        drop(vault);
        let vault = open(place.store.clone(), &place.clock, under.clone()).await.unwrap();
        check(&vault).await;
        // The lease a killed one held ends by itself.
        place.pass(Duration::from_secs(15)).await;
        let report = vault.rotate_key(&|_| ()).await.unwrap();
        assert_eq!(report.rewrapped + report.already, ENVELOPES, "round {round}");
        assert!(report.left.values().all(|left| *left == 0) && report.unreadable.is_empty(), "round {round}: {report:?}");
        assert!(round < 2 || report.already > 0, "round {round} began anew");
        check(&open(place.store.clone(), &place.clock, under[..1].to_vec()).await.unwrap()).await;
    }
}

async fn eight_readers_never_fail_meanwhile(place: Place) {
    fill(&place.vault_under(vec![key(1)]).await.unwrap()).await;
    let (done, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let keys = || vec![key(2), key(1)];
    let mut tasks = tokio::task::JoinSet::new();
    for reader in 0..8 {
        let (done, reads) = (done.clone(), reads.clone());
        // Half of them share a process; the others have one each, and keep nothing, so that they open all the time.
        let keep_for = Duration::from_secs(if reader % 2 == 0 { 0 } else { 300 });
        let builder = Vault::builder(place.store.clone()).clock(Arc::new(place.clock.clone())).keep_for(keep_for);
        let vault = keys().into_iter().fold(builder, connector_vault::VaultBuilder::key).open().await.unwrap();
        tasks.spawn(async move {
            while !done.load(Ordering::SeqCst) {
                check(&vault).await;
                reads.fetch_add(13, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        });
    }
    let vault = place.vault_under(keys()).await.unwrap();
    let report = vault.rotate_key(&|_| ()).await.unwrap();
    // And on to a third key, so that rows change under the readers twice.
    let third = place.vault_under(vec![key(3), key(2)]).await;
    assert!(third.is_ok());
    while reads.load(Ordering::SeqCst) < 500 {
        tokio::task::yield_now().await;
    }
    done.store(true, Ordering::SeqCst);
    // A reader that failed once has panicked.
    tasks.join_all().await;
    assert_eq!(report.rewrapped, ENVELOPES);
}

async fn what_does_not_open_is_left_and_reported(place: Place) {
    let vault = place.vault_under(vec![key(1)]).await.unwrap();
    fill(&vault).await;
    let foreign = place.raw("acme", common::CREDENTIALS, "c04").await;
    place.put_raw("other", common::CREDENTIALS, "c01", foreign.clone()).await;
    let vault = place.vault_under(vec![key(2), key(1)]).await.unwrap();
    let report = vault.rotate_key(&|_| ()).await.unwrap();
    let lost: Vec<_> = report.unreadable.iter().map(|u| (u.tenant.as_str(), u.name.as_str(), u.field.as_str())).collect();
    assert_eq!(lost, [("other", "c01", "token")]);
    // It still needs the old key as far as anybody can say, so the key is not free to go.
    assert_eq!((report.rewrapped, report.left), (ENVELOPES - 1, BTreeMap::from([("k1".to_owned(), 1)])));
    assert_eq!(place.raw("other", common::CREDENTIALS, "c01").await, foreign);
    assert_eq!(vault.show(&"other".into(), "c03").await.unwrap().state, CredentialState::Active);
}

async fn a_renewal_in_flight_is_not_disturbed(place: Place) {
    let old = place.vault_under(vec![key(1)]).await.unwrap();
    fill(&old).await;
    let asked = ask("acme", "c02");
    // Somebody has the lease, has written its intent, and waits for the vendor.
    let lease = old.lease(&asked.query(), Duration::from_secs(60)).await.unwrap().unwrap();
    let row = old.load(&asked.query()).await.unwrap().unwrap();
    let mut intent = row.record.clone();
    intent.facts.intent = Some(lease.fence);
    let version = old.save(&asked.query(), &intent, Condition::Is(row.version)).await.unwrap().unwrap();
    let vault = place.vault_under(vec![key(2), key(1)]).await.unwrap();
    let rotation = tokio::spawn({
        let vault = vault.clone();
        async move { vault.rotate_key(&|_| ()).await }
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!rotation.is_finished());
    // The vendor's answer can be saved: nobody wrote the row meanwhile.
    old.save(&asked.query(), &tokens("renewed", 4), Condition::Is(version)).await.unwrap().unwrap();
    old.release(&asked.query(), lease).await.unwrap();
    let report = rotation.await.unwrap().unwrap();
    assert_eq!((report.rewrapped, report.left), (ENVELOPES, BTreeMap::from([("k1".to_owned(), 0)])));
    let row = vault.load(&asked.query()).await.unwrap().unwrap();
    assert_eq!((row.record.tokens.access.expose_secret(), row.record.facts.serial), ("renewed", 4));
    // The rotation gave its own lease back.
    assert!(vault.lease(&asked.query(), Duration::from_secs(1)).await.unwrap().is_some());
}

async fn a_key_service_that_goes_away_stops_it_and_loses_nothing(place: Place) {
    fill(&place.vault_under(vec![key(1)]).await.unwrap()).await;
    let kms = RemoteKey::new(9);
    let vault = place.vault_under(vec![kms.clone(), key(1)]).await.unwrap();
    let cut = kms.clone();
    let error = vault.rotate_key(&move |done| cut.set_away(done >= 5)).await.unwrap_err();
    assert!(error.kind().is_passing(), "{error}");
    kms.set_away(false);
    check(&vault).await;
    let report = vault.rotate_key(&|_| ()).await.unwrap();
    assert!(report.already >= 5 && report.rewrapped + report.already == ENVELOPES, "{report:?}");
    check(&place.vault_under(vec![kms]).await.unwrap()).await;
}
