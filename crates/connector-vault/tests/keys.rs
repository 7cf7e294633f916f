//! Which master keys a vault starts with, and what is missing when it does not.
#![allow(clippy::unwrap_used, reason = "a test may fail this way")]

mod common;

use common::{Place, RemoteKey, ask, key, key_called, new, value};
use connector_core::{
    ErrorKind, TenantId,
    credential::CredentialStore as _,
    state::{Condition, Namespace},
    token::{TokenFacts, TokenRecord, TokenSet, TokenStore as _},
};
use connector_vault::{CredentialState, key::LocalKey};

on_both_stores!(
    a_wrong_key_under_a_known_id_is_noticed_before_anything_is_sealed,
    a_missing_key_is_named_with_how_many_need_it,
    a_key_nothing_needs_any_more_is_not_missed,
    a_damaged_proof_does_not_lock_the_right_key_out,
    a_key_service_that_is_away_at_the_start_is_not_a_wrong_key,
    a_damaged_envelope_leaves_the_others_readable,
);

async fn a_wrong_key_under_a_known_id_is_noticed_before_anything_is_sealed(place: Place) {
    let vault = place.vault_under(vec![key_called("main", 1)]).await.unwrap();
    for name in ["crm", "erp"] {
        vault.set(&"acme".into(), name, new([("token", "s3cret")])).await.unwrap();
    }
    vault.set(&"other".into(), "crm", new([("token", "s3cret")])).await.unwrap();
    let error = place.vault_under(vec![key_called("main", 2)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let text = error.to_string();
    assert!(text.contains("what test key 2 holds is not the master key `main`, which 3 credentials need"), "{text}");
    // The right key still starts, and under another id the new one may come first.
    place.vault_under(vec![key_called("main", 1)]).await.unwrap();
    place.vault_under(vec![key_called("next", 2), key_called("main", 1)]).await.unwrap();
}

async fn a_missing_key_is_named_with_how_many_need_it(place: Place) {
    let vault = place.vault_under(vec![key(1)]).await.unwrap();
    vault.set(&"acme".into(), "crm", new([("token", "s3cret"), ("other", "x")])).await.unwrap();
    let asked = ask("acme", "crm");
    let tokens = TokenSet { access: "a".into(), refresh: None };
    vault.save(&asked.query(), &TokenRecord { tokens, facts: TokenFacts::default() }, Condition::Absent).await.unwrap();
    let error = place.vault_under(vec![key(2)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("the master key `k1` is missing, which 1 credential needs"), "{error}");
    assert_eq!(place.vault_under(Vec::new()).await.unwrap_err().kind(), ErrorKind::Config);
    let twins = place.vault_under(vec![key(1), key_called("k1", 3)]).await.unwrap_err();
    assert!(twins.to_string().contains("two master keys are called `k1`: test key 1 and test key 3"), "{twins}");
}

async fn a_key_nothing_needs_any_more_is_not_missed(place: Place) {
    place.vault_under(vec![key(1)]).await.unwrap();
    let vault = place.vault_under(vec![key(2)]).await.unwrap();
    vault.set(&"acme".into(), "crm", new([("token", "s3cret")])).await.unwrap();
    let error = place.vault_under(vec![key(1)]).await.unwrap_err();
    assert!(error.to_string().contains("`k2` is missing"), "{error}");
    vault.revoke(&"acme".into(), "crm").await.unwrap();
    place.vault_under(vec![key(1)]).await.unwrap();
}

async fn a_damaged_proof_does_not_lock_the_right_key_out(place: Place) {
    let vault = place.vault().await;
    vault.set(&"acme".into(), "crm", new([("token", "s3cret")])).await.unwrap();
    let mut proof = place.raw("$vault", "vault.keys", "k1").await;
    let last = proof.len() - 1;
    proof[last] ^= 1;
    place.put_raw("$vault", "vault.keys", "k1", proof.clone()).await;
    let again = place.vault().await;
    assert_eq!(value(&again.get(&ask("acme", "crm").query()).await.unwrap(), "token"), "s3cret");
    assert_ne!(place.raw("$vault", "vault.keys", "k1").await, proof);
    assert!(place.vault_under(vec![key_called("k1", 2)]).await.is_err());
}

async fn a_key_service_that_is_away_at_the_start_is_not_a_wrong_key(place: Place) {
    let kms = RemoteKey::new(7);
    kms.set_away(true);
    // First start: not even proven. It opens, seals nothing, and the proof comes with the first write.
    let vault = place.vault_under(vec![kms.clone()]).await.unwrap();
    let tenant = TenantId::from("acme");
    let error = vault.set(&tenant, "crm", new([("token", "s3cret")])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient);
    assert!(error.to_string().contains("the master key `kms` (key service of the test) cannot be reached since 2027-01-15T08:00:00Z"), "{error}");
    kms.set_away(false);
    vault.set(&tenant, "crm", new([("token", "s3cret")])).await.unwrap();
    let own = TenantId::from("$vault");
    assert!(place.store.get(Namespace::new(&own, "vault.keys"), "kms").await.unwrap().is_some());
    // A later start while it is away: what is sealed is passing trouble, not unreadable.
    kms.set_away(true);
    let vault = place.vault_under(vec![kms.clone()]).await.unwrap();
    assert_eq!(vault.get(&ask("acme", "crm").query()).await.unwrap_err().kind(), ErrorKind::Transient);
    assert_eq!(vault.show(&tenant, "crm").await.unwrap().state, CredentialState::Active);
    kms.set_away(false);
    assert_eq!(value(&vault.get(&ask("acme", "crm").query()).await.unwrap(), "token"), "s3cret");
}

async fn a_damaged_envelope_leaves_the_others_readable(place: Place) {
    let vault = place.vault().await;
    let tenant = TenantId::from("acme");
    for name in ["bad", "good", "row"] {
        vault.set(&tenant, name, new([("token", "s3cret")])).await.unwrap();
    }
    let mut row: serde_json::Value = serde_json::from_slice(&place.raw("acme", common::CREDENTIALS, "bad").await).unwrap();
    let sealed = row["fields"]["token"][0]["sealed"].as_str().unwrap().to_owned();
    // Some base64 near the end: the ciphertext.
    let at = sealed.len() - 8;
    let other = if &sealed[at..=at] == "A" { "B" } else { "A" };
    row["fields"]["token"][0]["sealed"] = format!("{}{other}{}", &sealed[..at], &sealed[at + 1..]).into();
    place.put_raw("acme", common::CREDENTIALS, "bad", serde_json::to_vec(&row).unwrap()).await;
    place.put_raw("acme", common::CREDENTIALS, "row", b"{\"format\":1,\"version\":".to_vec()).await;
    let vault = place.vault().await;
    for (name, why) in [("bad", "field `token`: the envelope is damaged: its ciphertext"), ("row", "its record is damaged")] {
        let error = vault.get(&ask("acme", name).query()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(&format!("credential `{name}` is unreadable: {why}")), "{error}");
    }
    assert_eq!(value(&vault.get(&ask("acme", "good").query()).await.unwrap(), "token"), "s3cret");
    let states: Vec<_> = vault.list(&tenant).await.unwrap().into_iter().map(|info| (info.name, info.state.as_str())).collect();
    assert_eq!(states, [("bad".to_owned(), "unreadable"), ("good".to_owned(), "active"), ("row".to_owned(), "unreadable")]);
    let report = vault.verify().await.unwrap();
    assert_eq!((report.credentials, report.opened, report.unreadable.len()), (3, 1, 2));
    // Both can be replaced and are whole again.
    for name in ["bad", "row"] {
        assert!(vault.set(&tenant, name, new([("token", "anew")])).await.unwrap().version > 1);
        assert_eq!(value(&vault.get(&ask("acme", name).query()).await.unwrap(), "token"), "anew");
    }
    assert!(vault.verify().await.unwrap().unreadable.is_empty());
}

#[test]
fn a_variable_that_is_not_set_is_named() {
    let error = LocalKey::from_env(None, "CONNECTORS_TEST_NO_SUCH_KEY").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("environment variable CONNECTORS_TEST_NO_SUCH_KEY is not set"), "{error}");
}
