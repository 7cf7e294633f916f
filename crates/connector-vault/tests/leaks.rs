//! Nothing the vault shows or writes holds a secret: its files, its audit trail, its errors and its `Debug` texts.
#![allow(clippy::unwrap_used, reason = "a test may fail this way")]

mod common;

use std::time::Duration;

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};
use common::{Place, ask, ask_for, fields, key, new};
use connector_core::{
    TenantId,
    credential::CredentialStore as _,
    state::Condition,
    token::{TokenFacts, TokenRecord, TokenSet, TokenStore as _},
};
use connector_vault::{Vault, key::LocalKey};

/// One marked secret of each kind.
const CANARIES: [&str; 5] = ["CANARY-set-7f3a91", "CANARY-rotated-c05be2", "CANARY-access-19d4ee", "CANARY-refresh-aa0c33", "CANARY-sealed-5e1fb8"];

/// The forms a secret may be found in: plain, hex and base64 at each of the three places it can have in a group.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut forms =
        vec![secret.to_vec(), hex::encode(secret).into_bytes(), hex::encode_upper(secret).into_bytes(), secret.iter().rev().copied().collect()];
    for skip in 0..3 {
        // Whole groups only: what stands before and after decides the letters at the edges.
        let inner = &secret[skip..];
        let inner = &inner[..inner.len() / 3 * 3];
        for engine in [BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD] {
            forms.push(engine.encode(inner).into_bytes());
        }
    }
    forms
}

fn assert_clean(what: &str, haystack: &[u8], secrets: &[Vec<u8>]) {
    for secret in secrets {
        for form in forms(secret) {
            let found = haystack.windows(form.len()).any(|window| window == form);
            assert!(!found, "{what} holds a secret");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_secret_in_files_trail_errors_or_debug_texts() {
    let place = Place::sqlite();
    let vault = place.vault_under(vec![key(1)]).await.unwrap();
    let tenant = TenantId::from("acme");
    let mut shown: Vec<String> = Vec::new();
    let mut see = |value: &dyn std::fmt::Debug| shown.push(format!("{value:?} {value:#?}"));

    let credential = new([("token", CANARIES[0]), ("second", CANARIES[0])]);
    see(&credential);
    see(&vault.set(&tenant, "crm", credential).await.unwrap());
    see(&vault.rotate(&tenant, "crm", fields([("token", CANARIES[1])]), Duration::from_secs(60)).await.unwrap());
    let record = TokenRecord { tokens: TokenSet { access: CANARIES[2].into(), refresh: Some(CANARIES[3].into()) }, facts: TokenFacts::default() };
    vault.save(&ask("acme", "crm").query(), &record, Condition::Absent).await.unwrap();
    see(&record);
    let sealed = vault.seal(&tenant, "pkce", "state-1", CANARIES[4].as_bytes()).await.unwrap();
    place.put_raw("acme", "somewhere", "else", sealed.clone()).await;
    assert_eq!(vault.unseal(&tenant, "pkce", "state-1", &sealed).await.unwrap().as_slice(), CANARIES[4].as_bytes());

    see(&vault.get(&ask("acme", "crm").query()).await.unwrap());
    see(&vault.load(&ask("acme", "crm").query()).await.unwrap());
    see(&vault);
    see(&Vault::builder(place.store.clone()).key(key(1)));
    see(&vault.list(&tenant).await.unwrap());
    see(&vault.verify().await.unwrap());
    see(&vault.get(&ask_for("acme", "crm", "elsewhere").query()).await.unwrap_err());
    for (tenant, purpose, id) in [("other", "pkce", "state-1"), ("acme", "else", "state-1"), ("acme", "pkce", "state-2")] {
        see(&vault.unseal(&tenant.into(), purpose, id, &sealed).await.unwrap_err());
    }
    let big = CANARIES[0].repeat(5000);
    see(&vault.set(&tenant, "big", new([("token", &big)])).await.unwrap_err());
    // Rows that do not open say why.
    let row = place.raw("acme", common::CREDENTIALS, "crm").await;
    place.put_raw("other", common::CREDENTIALS, "crm", row).await;
    let tokens = place.raw("acme", common::TOKENS, "crm").await;
    place.put_raw("other", common::TOKENS, "crm", tokens).await;
    see(&vault.get(&ask("other", "crm").query()).await.unwrap_err());
    see(&vault.load(&ask("other", "crm").query()).await.unwrap_err());
    let next = place.vault_under(vec![key(2), key(1)]).await.unwrap();
    see(&next.rotate_key(&|_| ()).await.unwrap());
    see(&next.set(&tenant, "gone", new([("token", CANARIES[0])])).await.unwrap());
    see(&next.revoke(&tenant, "gone").await.unwrap());
    see(&next.get(&ask("acme", "gone").query()).await.unwrap_err());
    let trail = format!("{:?}", place.trail("acme").await);
    drop((vault, next));

    let secrets: Vec<Vec<u8>> = CANARIES.iter().map(|canary| canary.as_bytes().to_vec()).chain([1, 2].map(key_bytes)).collect();
    assert_clean("a Debug text", shown.join("\n").as_bytes(), &secrets);
    assert_clean("the audit trail", trail.as_bytes(), &secrets);
    // The database and its log, while it is open and after it was folded.
    let folder = place.folder.as_ref().unwrap().path().to_owned();
    let mut seen = 0;
    let mut scan = |what: &str| {
        for file in std::fs::read_dir(&folder).unwrap() {
            let path = file.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            seen += bytes.len();
            assert_clean(&format!("{what} {}", path.display()), &bytes, &secrets);
        }
    };
    scan("open");
    let Place { store, folder: _kept, .. } = place;
    drop(store);
    scan("closed");
    assert!(seen > 50_000, "{seen} bytes were searched");
}

/// The bytes of the local test keys, as `common::key` makes them.
fn key_bytes(n: u8) -> Vec<u8> {
    (0..32_u8).map(|at| at.wrapping_mul(11).wrapping_add(n)).collect()
}

#[test]
fn the_search_finds_what_it_looks_for() {
    let secret = vec![CANARIES[0].as_bytes().to_vec()];
    for skip in 0..3 {
        let text = [&b"xxx"[..skip], CANARIES[0].as_bytes(), b"tail"].concat();
        for hidden in [text.clone(), hex::encode(&text).into_bytes(), BASE64_STANDARD_NO_PAD.encode(&text).into_bytes()] {
            assert!(std::panic::catch_unwind(|| assert_clean("it", &hidden, &secret)).is_err());
        }
    }
}

#[test]
fn a_key_is_not_in_its_debug_text_nor_in_its_refusals() {
    let text = hex::encode(key_bytes(1));
    let key = LocalKey::from_text(None, &text, "a test").unwrap();
    let refused = LocalKey::from_text(None, &text[..40], "a test").unwrap_err();
    let shown = format!("{key:?} {refused:?} {refused}");
    assert_clean("a key's text", shown.as_bytes(), &[key_bytes(1)]);
    assert!(!shown.contains(&text[..40]));
}
