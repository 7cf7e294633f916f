//! Tokens and the right to renew them, on both stores.
#![allow(clippy::unwrap_used, reason = "a test may fail this way")]

mod common;

use std::time::Duration;

use common::{Place, ask, ask_for, new};
use connector_core::{
    ErrorKind, TenantId,
    state::Condition,
    token::{TokenFacts, TokenRecord, TokenSet, TokenState, TokenStore as _},
};
use connector_vault::{CredentialState, NewCredential, Vault};
use secrecy::ExposeSecret as _;

on_both_stores!(
    tokens_are_kept_with_what_is_known_about_them,
    a_writer_with_an_old_version_is_refused,
    edited_facts_do_not_open,
    tokens_do_not_move_between_credentials_and_tenants,
    a_lease_is_one_ends_by_itself_and_is_given_back_by_its_holder_only,
    a_revoked_credential_takes_its_tokens_along,
    a_save_that_a_revocation_overtook_leaves_nothing,
    tokens_are_refused_like_the_credential,
    a_load_opens_once_for_each_version,
);

fn record(access: &str, refresh: Option<&str>, serial: u64) -> TokenRecord {
    let facts = TokenFacts {
        serial,
        obtained_at: common::START * 1000,
        expires_at: Some(common::START * 1000 + 3_600_000),
        scopes: vec!["crm.read".into()],
        keep: [("instance_url".to_owned(), "https://eu.example".to_owned())].into(),
        ..TokenFacts::default()
    };
    TokenRecord { tokens: TokenSet { access: access.into(), refresh: refresh.map(Into::into) }, facts }
}

async fn vault_with(place: &Place, name: &str) -> Vault {
    let vault = place.vault().await;
    vault.set(&"acme".into(), name, NewCredential { workspaces: vec!["ws".into()], ..new([("client_secret", "cs")]) }).await.unwrap();
    vault
}

async fn tokens_are_kept_with_what_is_known_about_them(place: Place) {
    let vault = vault_with(&place, "crm").await;
    let asked = ask("acme", "crm");
    assert!(vault.load(&asked.query()).await.unwrap().is_none());
    let written = record("acc3ss", Some("r3fresh"), 7);
    let version = vault.save(&asked.query(), &written, Condition::Absent).await.unwrap().unwrap();
    for vault in [&vault, &place.vault().await] {
        let row = vault.load(&asked.query()).await.unwrap().unwrap();
        assert_eq!((row.version, &row.record.facts), (version, &written.facts));
        assert_eq!(row.record.tokens.access.expose_secret(), "acc3ss");
        assert_eq!(row.record.tokens.refresh.as_ref().unwrap().expose_secret(), "r3fresh");
    }
    let info = vault.show(&"acme".into(), "crm").await.unwrap().token.unwrap();
    assert_eq!((info.serial, info.state, info.scopes), (7, TokenState::Active, vec!["crm.read".to_owned()]));
    let mut tired = record("acc3ss", None, 8);
    (tired.facts.state, tired.facts.reason) = (TokenState::ReauthRequired, Some("invalid_grant".into()));
    let next = vault.save(&asked.query(), &tired, Condition::Is(version)).await.unwrap().unwrap();
    assert!(next > version);
    let info = vault.list(&"acme".into()).await.unwrap().remove(0);
    assert_eq!((info.state, info.token.unwrap().reason.as_deref()), (CredentialState::ReauthRequired, Some("invalid_grant")));
    assert!(vault.remove(&asked.query()).await.unwrap());
    assert!(!vault.remove(&asked.query()).await.unwrap());
    assert!(vault.load(&asked.query()).await.unwrap().is_none());
    // A row that comes back does not come back under a version somebody still knows.
    assert!(vault.save(&asked.query(), &tired, Condition::Absent).await.unwrap().unwrap() > next);
}

async fn a_writer_with_an_old_version_is_refused(place: Place) {
    let vault = vault_with(&place, "crm").await;
    let asked = ask("acme", "crm");
    let first = vault.save(&asked.query(), &record("a1", None, 1), Condition::Absent).await.unwrap().unwrap();
    assert_eq!(vault.save(&asked.query(), &record("a0", None, 1), Condition::Absent).await.unwrap(), None);
    let other = place.vault().await;
    other.save(&asked.query(), &record("a2", None, 2), Condition::Is(first)).await.unwrap().unwrap();
    assert_eq!(vault.save(&asked.query(), &record("stale", None, 2), Condition::Is(first)).await.unwrap(), None);
    assert_eq!(vault.load(&asked.query()).await.unwrap().unwrap().record.tokens.access.expose_secret(), "a2");
}

async fn edited_facts_do_not_open(place: Place) {
    let vault = vault_with(&place, "crm").await;
    let asked = ask("acme", "crm");
    vault.save(&asked.query(), &record("acc3ss", Some("r3fresh"), 7), Condition::Absent).await.unwrap();
    let raw = String::from_utf8(place.raw("acme", common::TOKENS, "crm").await).unwrap();
    assert!(raw.contains("\"serial\":7") && raw.contains("https://eu.example") && !raw.contains("acc3ss"), "{raw}");
    for (from, to) in [
        ("\"serial\":7", "\"serial\":8"),
        ("https://eu.example", "https://evil.example"),
        ("crm.read", "crm.write"),
        ("\"facts\":{", "\"facts\":{\"intent\":3,"),
        ("\"facts\":{", "\"facts\":{ "),
    ] {
        let edited = raw.replace(from, to);
        assert_ne!(edited, raw);
        place.put_raw("acme", common::TOKENS, "crm", edited.into_bytes()).await;
        let error = vault.load(&asked.query()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(
            error.to_string().contains("credential `crm` is unreadable: its tokens: the envelope is damaged")
                || error.to_string().contains("the wrapped data key"),
            "{error}"
        );
    }
    place.put_raw("acme", common::TOKENS, "crm", raw.as_bytes()[..raw.len() / 2].to_vec()).await;
    let error = vault.load(&asked.query()).await.unwrap_err();
    assert!(error.to_string().contains("the row of its tokens is damaged"), "{error}");
    place.put_raw("acme", common::TOKENS, "crm", raw.into_bytes()).await;
    assert_eq!(vault.load(&asked.query()).await.unwrap().unwrap().record.facts.serial, 7);
}

async fn tokens_do_not_move_between_credentials_and_tenants(place: Place) {
    let vault = vault_with(&place, "crm").await;
    vault.set(&"acme".into(), "erp", new([("client_secret", "cs")])).await.unwrap();
    vault.set(&"other".into(), "crm", new([("client_secret", "cs")])).await.unwrap();
    vault.save(&ask("acme", "crm").query(), &record("acc3ss", None, 1), Condition::Absent).await.unwrap();
    let raw = place.raw("acme", common::TOKENS, "crm").await;
    for (tenant, name) in [("acme", "erp"), ("other", "crm")] {
        place.put_raw(tenant, common::TOKENS, name, raw.clone()).await;
        assert_eq!(vault.load(&ask(tenant, name).query()).await.unwrap_err().kind(), ErrorKind::Config);
    }
}

async fn a_lease_is_one_ends_by_itself_and_is_given_back_by_its_holder_only(place: Place) {
    let (here, there) = (vault_with(&place, "crm").await, place.vault().await);
    let asked = ask("acme", "crm");
    let minute = Duration::from_secs(60);
    let first = here.lease(&asked.query(), minute).await.unwrap().unwrap();
    assert!(there.lease(&asked.query(), minute).await.unwrap().is_none());
    // Another credential's and another tenant's are others.
    for other in [ask("acme", "erp"), ask("other", "crm")] {
        assert!(there.lease(&other.query(), minute).await.unwrap().is_some());
    }
    here.release(&asked.query(), first).await.unwrap();
    let second = there.lease(&asked.query(), minute).await.unwrap().unwrap();
    assert!(second.fence > first.fence);
    // Whoever lost it cannot give back what another one holds.
    here.release(&asked.query(), first).await.unwrap();
    assert!(here.lease(&asked.query(), minute).await.unwrap().is_none());
    place.pass(minute).await;
    let third = here.lease(&asked.query(), minute).await.unwrap().unwrap();
    assert!(third.fence > second.fence);
    there.release(&asked.query(), second).await.unwrap();
    assert!(there.lease(&asked.query(), minute).await.unwrap().is_none());
}

async fn a_revoked_credential_takes_its_tokens_along(place: Place) {
    let vault = vault_with(&place, "crm").await;
    let asked = ask("acme", "crm");
    vault.save(&asked.query(), &record("acc3ss", Some("r3fresh"), 1), Condition::Absent).await.unwrap();
    vault.lease(&asked.query(), Duration::from_secs(60)).await.unwrap().unwrap();
    let info = vault.revoke(&"acme".into(), "crm").await.unwrap();
    assert!(info.token.is_none());
    assert_eq!(vault.load(&asked.query()).await.unwrap_err().kind(), ErrorKind::AuthExpired);
    assert_eq!(vault.save(&asked.query(), &record("late", None, 2), Condition::Any).await.unwrap_err().kind(), ErrorKind::AuthExpired);
    // Set anew, it starts without tokens and without a lease.
    vault.set(&"acme".into(), "crm", new([("client_secret", "cs")])).await.unwrap();
    assert!(vault.load(&asked.query()).await.unwrap().is_none());
    assert!(vault.lease(&asked.query(), Duration::from_secs(60)).await.unwrap().is_some());
}

async fn a_save_that_a_revocation_overtook_leaves_nothing(place: Place) {
    let (here, there) = (vault_with(&place, "crm").await, place.vault().await);
    let asked = ask("acme", "crm");
    here.save(&asked.query(), &record("a1", None, 1), Condition::Absent).await.unwrap();
    there.load(&asked.query()).await.unwrap().unwrap();
    here.revoke(&"acme".into(), "crm").await.unwrap();
    // This one still believes its row for a second, so its save gets as far as the store.
    let error = there.save(&asked.query(), &record("a2", None, 2), Condition::Any).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthExpired);
    assert!(error.to_string().contains("its new tokens are not kept"), "{error}");
    let tenant = TenantId::from("acme");
    let namespace = connector_core::state::Namespace::new(&tenant, common::TOKENS);
    assert!(place.store.get(namespace, "crm").await.unwrap().is_none());
}

async fn tokens_are_refused_like_the_credential(place: Place) {
    let vault = vault_with(&place, "crm").await;
    vault.save(&ask("acme", "crm").query(), &record("a1", None, 1), Condition::Absent).await.unwrap();
    assert!(vault.load(&ask_for("acme", "crm", "ws").query()).await.unwrap().is_some());
    let error = vault.load(&ask_for("acme", "crm", "elsewhere").query()).await.unwrap_err();
    assert_eq!(error.to_string(), ask("acme", "crm").query().missing().to_string());
    // There is none: nothing to load, and nothing may be kept for it.
    for asked in [ask("acme", "none"), ask("other", "crm")] {
        assert!(vault.load(&asked.query()).await.unwrap().is_none());
        let error = vault.save(&asked.query(), &record("a1", None, 1), Condition::Any).await.unwrap_err();
        assert_eq!(error.to_string(), asked.query().missing().to_string());
    }
    assert!(vault.load(&ask("acme", "nobody:crm").query()).await.is_err());
}

async fn a_load_opens_once_for_each_version(place: Place) {
    let (here, there) = (vault_with(&place, "crm").await, place.vault().await);
    let asked = ask("acme", "crm");
    let version = here.save(&asked.query(), &record("a1", None, 1), Condition::Absent).await.unwrap().unwrap();
    for _ in 0..5 {
        here.load(&asked.query()).await.unwrap().unwrap();
    }
    // It knows what it wrote.
    assert_eq!(place.trail("acme").await.len(), 0);
    for _ in 0..5 {
        there.load(&asked.query()).await.unwrap().unwrap();
    }
    assert_eq!(place.trail("acme").await.len(), 1);
    here.save(&asked.query(), &record("a2", None, 2), Condition::Is(version)).await.unwrap().unwrap();
    // A new version is seen at once, not after a second: renewals depend on it.
    assert_eq!(there.load(&asked.query()).await.unwrap().unwrap().record.tokens.access.expose_secret(), "a2");
    assert_eq!(place.trail("acme").await.len(), 2);
}
