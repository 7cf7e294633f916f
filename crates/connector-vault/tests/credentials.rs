//! What people and calls see of credentials, on both stores.
#![allow(clippy::unwrap_used, reason = "a test may fail this way")]

mod common;

use std::time::Duration;

use common::{Place, ask, ask_for, fields, new, value};
use connector_core::{ErrorKind, TenantId, credential::CredentialStore as _};
use connector_vault::{CredentialState, NewCredential, Note};
use secrecy::ExposeSecret as _;

on_both_stores!(
    what_was_set_is_given_and_described,
    another_tenants_and_an_ungranted_one_look_exactly_like_a_missing_one,
    a_grant_is_for_exactly_these_workspaces,
    after_a_rotation_both_versions_are_there_until_the_overlap_is_over,
    of_three_versions_the_oldest_goes,
    a_sweep_destroys_what_is_over,
    a_revocation_is_at_once_here_and_within_a_second_elsewhere,
    a_replacement_is_seen_at_once_here_and_within_a_second_elsewhere,
    an_end_that_is_near_shows,
    a_note_changes_what_it_says,
    what_cannot_be_kept_is_refused_with_the_reason,
    existence_is_told_without_opening,
    many_who_set_at_once_all_get_a_version_of_their_own,
);

async fn what_was_set_is_given_and_described(place: Place) {
    let vault = place.vault().await;
    let tenant = TenantId::from("acme");
    let credential = NewCredential {
        scheme: Some("bearer".into()),
        connector: Some("hubspot".into()),
        workspaces: vec!["ws_sales".into(), "ws_sales".into()],
        scopes: vec!["crm.read".into()],
        owner: Some("ada@example.com".into()),
        expires_at: Some(common::START * 1000 + 90 * 86_400_000),
        rotate_every: Some(Duration::from_secs(30 * 86_400)),
        ..new([("token", "s3cret"), ("account", "42")])
    };
    let info = vault.set(&tenant, "crm", credential).await.unwrap();
    assert_eq!((info.version, info.state), (1, CredentialState::Active));
    let shown = serde_json::to_value(vault.show(&tenant, "crm").await.unwrap()).unwrap();
    let expected = serde_json::json!({
        "tenant": "acme", "name": "crm", "connector": "hubspot", "scheme": "bearer", "fields": ["account", "token"], "state": "active",
        "version": 1, "workspaces": ["ws_sales"], "scopes": ["crm.read"], "owner": "ada@example.com", "created_at": common::START * 1000,
        "rotated_at": null, "expires_at": common::START * 1000 + 90 * 86_400_000, "rotate_every": 30 * 86_400, "previous_until": null,
        "key_id": "k1", "token": null,
    });
    assert_eq!(shown, expected);
    let given = vault.get(&ask_for("acme", "crm", "ws_sales").query()).await.unwrap();
    assert_eq!((value(&given, "token").as_str(), value(&given, "account").as_str(), given.version), ("s3cret", "42", 1));
    assert_eq!(given.scheme.as_deref(), Some("bearer"));
    assert!(given.previous.is_none());

    // Another process, that knows nothing yet, sees the same.
    let other = place.vault().await;
    assert_eq!(value(&other.get(&ask("acme", "crm").query()).await.unwrap(), "token"), "s3cret");
    assert_eq!(other.tenants().await.unwrap(), std::slice::from_ref(&tenant));

    // A replacement keeps what it does not mention about its use.
    let again = vault.set(&tenant, "crm", new([("token", "other")])).await.unwrap();
    assert_eq!((again.version, again.fields, again.workspaces), (2, vec!["token".to_owned()], vec!["ws_sales".to_owned()]));
    assert_eq!((again.expires_at, again.scopes.len(), again.connector.as_deref()), (None, 0, Some("hubspot")));
    let names: Vec<String> = vault.list(&tenant).await.unwrap().into_iter().map(|info| info.name).collect();
    assert_eq!(names, ["crm"]);
}

async fn another_tenants_and_an_ungranted_one_look_exactly_like_a_missing_one(place: Place) {
    let vault = place.vault().await;
    let acme = TenantId::from("acme");
    vault.set(&acme, "crm", NewCredential { workspaces: vec!["ws_sales".into()], ..new([("token", "s3cret")]) }).await.unwrap();
    vault.set(&acme, "erp", new([("token", "s3cret")])).await.unwrap();
    let missing = vault.get(&ask_for("acme", "none", "ws_sales").query()).await.unwrap_err();
    for asked in [ask_for("other", "crm", "ws_sales"), ask("other", "crm"), ask_for("acme", "crm", "ws_legal"), ask_for("acme", "erp", "ws_sales")] {
        let error = vault.get(&asked.query()).await.unwrap_err();
        assert_eq!(error.kind(), missing.kind());
        assert_eq!(error.to_string(), missing.to_string().replace("none", &asked.name));
        assert_eq!(format!("{error:?}"), format!("{missing:?}").replace("none", &asked.name));
    }
    let other = TenantId::from("other");
    let absent = vault.show(&acme, "none").await.unwrap_err();
    let foreign = [
        vault.show(&other, "crm").await.unwrap_err(),
        vault.grant(&other, "crm", vec!["*".into()]).await.unwrap_err(),
        vault.rotate(&other, "crm", fields([("token", "x")]), Duration::ZERO).await.unwrap_err(),
        vault.note(&other, "crm", Note::default()).await.unwrap_err(),
        vault.revoke(&other, "crm").await.unwrap_err(),
    ];
    for error in foreign {
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::NotFound, absent.to_string().replace("none", "crm")));
    }
    assert!(!vault.exists(&other, "crm").await.unwrap());
    assert!(vault.list(&other).await.unwrap().is_empty());
}

async fn a_grant_is_for_exactly_these_workspaces(place: Place) {
    let vault = place.vault().await;
    let tenant = TenantId::from("acme");
    vault.set(&tenant, "crm", new([("token", "s3cret")])).await.unwrap();
    let may = async |workspace: &str| vault.get(&ask_for("acme", "crm", workspace).query()).await.is_ok();
    // The hub's own errands need no grant; nobody else has one yet.
    assert!(vault.get(&ask("acme", "crm").query()).await.is_ok());
    assert!(!may("ws_sales").await);
    assert_eq!(vault.grant(&tenant, "crm", vec!["ws_sales".into(), "ws_a".into()]).await.unwrap().workspaces, ["ws_a", "ws_sales"]);
    assert!(may("ws_sales").await && !may("ws_legal").await && !may("*").await && !may("").await);
    assert_eq!(vault.grant(&tenant, "crm", vec!["*".into(), "ws_a".into()]).await.unwrap().workspaces, ["*"]);
    assert!(may("ws_legal").await);
    vault.grant(&tenant, "crm", Vec::new()).await.unwrap();
    assert!(!may("ws_sales").await);
}

async fn after_a_rotation_both_versions_are_there_until_the_overlap_is_over(place: Place) {
    let vault = place.vault().await;
    let tenant = TenantId::from("acme");
    vault.set(&tenant, "hook", new([("webhook_secret", "old"), ("account", "42")])).await.unwrap();
    place.pass(Duration::from_secs(60)).await;
    let info = vault.rotate(&tenant, "hook", fields([("webhook_secret", "new")]), Duration::from_secs(3600)).await.unwrap();
    let ends = (common::START + 60 + 3600) * 1000;
    assert_eq!((info.version, info.previous_until, info.rotated_at), (2, Some(ends), Some((common::START + 60) * 1000)));
    let other = place.vault().await;
    for vault in [&vault, &other] {
        let given = vault.get(&ask("acme", "hook").query()).await.unwrap();
        let both: Vec<String> = given.both("webhook_secret").iter().map(|secret| secret.expose_secret().to_owned()).collect();
        assert_eq!(both, ["new", "old"]);
        let previous = given.previous.as_ref().unwrap();
        assert_eq!((given.version, previous.version, value(previous, "account").as_str()), (2, 1, "42"));
    }
    // A moment before the end, and at it. The second look is from memory.
    place.pass(Duration::from_millis(3_599_999)).await;
    assert!(vault.get(&ask("acme", "hook").query()).await.unwrap().previous.is_some());
    place.pass(Duration::from_millis(1)).await;
    for vault in [&vault, &other] {
        let given = vault.get(&ask("acme", "hook").query()).await.unwrap();
        assert!(given.previous.is_none());
        assert_eq!((value(&given, "webhook_secret").as_str(), value(&given, "account").as_str()), ("new", "42"));
    }
    assert_eq!(vault.show(&tenant, "hook").await.unwrap().previous_until, None);
    // The next write drops it.
    vault.note(&tenant, "hook", Note { owner: Some("ada".into()), ..Note::default() }).await.unwrap();
    let raw: serde_json::Value = serde_json::from_slice(&place.raw("acme", common::CREDENTIALS, "hook").await).unwrap();
    assert_eq!(raw["fields"]["webhook_secret"].as_array().unwrap().len(), 1);
}

async fn of_three_versions_the_oldest_goes(place: Place) {
    let vault = place.vault().await;
    let tenant = TenantId::from("acme");
    vault.set(&tenant, "hook", new([("a", "a1"), ("b", "b1")])).await.unwrap();
    vault.rotate(&tenant, "hook", fields([("a", "a2")]), Duration::from_secs(3600)).await.unwrap();
    vault.rotate(&tenant, "hook", fields([("a", "a3"), ("c", "c3")]), Duration::from_secs(3600)).await.unwrap();
    let given = vault.get(&ask("acme", "hook").query()).await.unwrap();
    let previous = given.previous.clone().unwrap();
    assert_eq!((value(&given, "a"), value(&given, "b"), value(&given, "c")), ("a3".into(), "b1".into(), "c3".into()));
    assert_eq!((value(&previous, "a"), value(&previous, "b"), previous.version), ("a2".into(), "b1".into(), 2));
    assert!(previous.field("c").is_none() && previous.previous.is_none());
    // Without an overlap nothing else is accepted.
    vault.rotate(&tenant, "hook", fields([("b", "b4")]), Duration::ZERO).await.unwrap();
    let given = vault.get(&ask("acme", "hook").query()).await.unwrap();
    assert!(given.previous.is_none());
    assert_eq!((value(&given, "a"), value(&given, "b"), given.version), ("a3".into(), "b4".into(), 4));
}

async fn a_sweep_destroys_what_is_over(place: Place) {
    let vault = place.vault().await;
    let tenant = TenantId::from("acme");
    for name in ["one", "two"] {
        vault.set(&tenant, name, new([("token", "old")])).await.unwrap();
    }
    vault.rotate(&tenant, "one", fields([("token", "new")]), Duration::from_secs(10)).await.unwrap();
    vault.rotate(&tenant, "two", fields([("token", "new")]), Duration::from_secs(1000)).await.unwrap();
    assert_eq!(vault.sweep().await.unwrap(), 0);
    place.pass(Duration::from_secs(10)).await;
    assert_eq!(vault.sweep().await.unwrap(), 1);
    assert_eq!(vault.sweep().await.unwrap(), 0);
    let raw: serde_json::Value = serde_json::from_slice(&place.raw("acme", common::CREDENTIALS, "one").await).unwrap();
    assert_eq!((raw["fields"]["token"].as_array().unwrap().len(), raw.get("previous")), (1, None));
    assert!(vault.get(&ask("acme", "two").query()).await.unwrap().previous.is_some());
}

async fn a_revocation_is_at_once_here_and_within_a_second_elsewhere(place: Place) {
    let (here, there) = (place.vault().await, place.vault().await);
    let tenant = TenantId::from("acme");
    here.set(&tenant, "crm", NewCredential { workspaces: vec!["ws".into()], ..new([("token", "s3cret")]) }).await.unwrap();
    for vault in [&here, &there] {
        vault.get(&ask_for("acme", "crm", "ws").query()).await.unwrap();
    }
    let info = here.revoke(&tenant, "crm").await.unwrap();
    assert_eq!((info.state, info.fields.len(), info.version, info.key_id.as_str()), (CredentialState::Revoked, 0, 2, ""));
    let error = here.get(&ask_for("acme", "crm", "ws").query()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthExpired);
    assert!(error.to_string().contains("was revoked; set it anew or connect again"), "{error}");
    assert!(!here.exists(&tenant, "crm").await.unwrap());
    // A workspace without a grant does not hear that there was one.
    let error = here.get(&ask_for("acme", "crm", "elsewhere").query()).await.unwrap_err();
    assert!(error.to_string().contains("there is no credential"), "{error}");
    place.pass(Duration::from_secs(1)).await;
    assert_eq!(there.get(&ask_for("acme", "crm", "ws").query()).await.unwrap_err().kind(), ErrorKind::AuthExpired);
    // Nothing is left to open, a tombstone is not changed, and revoking again does no harm.
    assert!(!String::from_utf8(place.raw("acme", common::CREDENTIALS, "crm").await).unwrap().contains("sealed"));
    assert_eq!(here.grant(&tenant, "crm", vec!["*".into()]).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(here.revoke(&tenant, "crm").await.unwrap().version, 2);
    // Set anew, it is another one: nobody has a grant.
    assert_eq!(here.set(&tenant, "crm", new([("token", "fresh")])).await.unwrap().version, 3);
    assert!(here.get(&ask_for("acme", "crm", "ws").query()).await.is_err());
    assert_eq!(value(&here.get(&ask("acme", "crm").query()).await.unwrap(), "token"), "fresh");
}

async fn a_replacement_is_seen_at_once_here_and_within_a_second_elsewhere(place: Place) {
    let (here, there) = (place.vault().await, place.vault().await);
    let tenant = TenantId::from("acme");
    here.set(&tenant, "crm", new([("token", "old")])).await.unwrap();
    assert_eq!(value(&there.get(&ask("acme", "crm").query()).await.unwrap(), "token"), "old");
    here.set(&tenant, "crm", new([("token", "new")])).await.unwrap();
    assert_eq!(value(&here.get(&ask("acme", "crm").query()).await.unwrap(), "token"), "new");
    place.pass(Duration::from_secs(1)).await;
    assert_eq!(value(&there.get(&ask("acme", "crm").query()).await.unwrap(), "token"), "new");
}

async fn an_end_that_is_near_shows(place: Place) {
    let vault = place.vault().await;
    let tenant = TenantId::from("acme");
    let days = |n: u64| Duration::from_secs(n * 86_400);
    let at = |n: u64| Some((common::START + n * 86_400) * 1000);
    vault.set(&tenant, "year", NewCredential { expires_at: at(365), ..new([("token", "x")]) }).await.unwrap();
    vault.set(&tenant, "ten", NewCredential { expires_at: at(10), ..new([("token", "x")]) }).await.unwrap();
    vault.set(&tenant, "plan", NewCredential { rotate_every: Some(days(30)), ..new([("token", "x")]) }).await.unwrap();
    let states = async || -> Vec<CredentialState> { vault.list(&tenant).await.unwrap().iter().map(|info| info.state).collect() };
    use CredentialState::{Active, Expiring};
    // In order: plan, ten, year. A fifth of ten days is two, of thirty six; of a year it would be more than two weeks.
    assert_eq!(states().await, [Active, Active, Active]);
    place.pass(days(8)).await;
    assert_eq!(states().await, [Active, Expiring, Active]);
    place.pass(days(16)).await;
    assert_eq!(states().await, [Expiring, Expiring, Active]);
    place.pass(days(365 - 14 - 24)).await;
    assert_eq!(states().await, [Expiring, Expiring, Expiring]);
    let info = vault.rotate(&tenant, "plan", fields([("token", "y")]), Duration::ZERO).await.unwrap();
    assert_eq!(info.state, Active);
}

async fn a_note_changes_what_it_says(place: Place) {
    let vault = place.vault().await;
    let tenant = TenantId::from("acme");
    vault.set(&tenant, "crm", NewCredential { expires_at: Some(5), ..new([("token", "x")]) }).await.unwrap();
    let note = Note {
        state: Some(CredentialState::ReauthRequired),
        scopes: Some(vec!["a".into()]),
        owner: Some("ada".into()),
        expires_at: Some(None),
        rotate_every: Some(Some(Duration::from_secs(60))),
        scheme: Some("bearer".into()),
    };
    let info = vault.note(&tenant, "crm", note).await.unwrap();
    assert_eq!((info.state, info.scopes, info.owner.as_deref()), (CredentialState::ReauthRequired, vec!["a".to_owned()], Some("ada")));
    assert_eq!((info.expires_at, info.rotate_every, info.scheme.as_deref(), info.version), (None, Some(60), Some("bearer"), 1));
    let info = vault.note(&tenant, "crm", Note { state: Some(CredentialState::Active), rotate_every: Some(None), ..Note::default() }).await.unwrap();
    assert_eq!((info.state, info.rotate_every, info.owner.as_deref()), (CredentialState::Active, None, Some("ada")));
    for state in [CredentialState::Revoked, CredentialState::Unreadable] {
        let error = vault.note(&tenant, "crm", Note { state: Some(state), ..Note::default() }).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

async fn what_cannot_be_kept_is_refused_with_the_reason(place: Place) {
    let vault = place.vault().await;
    let tenant = TenantId::from("acme");
    let long = "n".repeat(129);
    for (name, why) in [
        ("", "1 to 128"),
        (long.as_str(), "1 to 128"),
        ("bao:crm", "external secret manager"),
        ("$tokens", "must not start with `$`"),
        ("a\nb", "control"),
    ] {
        let error = vault.set(&tenant, name, new([("token", "s3cret")])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(why) && !error.to_string().contains("s3cret"), "{error}");
    }
    let big = "x".repeat(64 * 1024 + 1);
    for (field, secret, why) in
        [("token", "", "0 bytes"), ("token", big.as_str(), "65537 bytes"), ("$tokens", "x", "cannot be the name"), ("", "x", "cannot be the name")]
    {
        let error = vault.set(&tenant, "crm", new([(field, secret)])).await.unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
    let error = vault.set(&tenant, "crm", NewCredential::default()).await.unwrap_err();
    assert!(error.to_string().contains("at least one field"), "{error}");
    for reserved in ["$vault", ""] {
        assert_eq!(vault.set(&reserved.into(), "crm", new([("token", "x")])).await.unwrap_err().kind(), ErrorKind::Invalid);
    }
    assert!(vault.list(&tenant).await.unwrap().is_empty());
    assert_eq!(vault.grant(&tenant, "crm", vec![String::new()]).await.unwrap_err().kind(), ErrorKind::Invalid);
}

async fn existence_is_told_without_opening(place: Place) {
    let vault = place.vault().await;
    let tenant = TenantId::from("acme");
    assert!(!vault.exists(&tenant, "crm").await.unwrap());
    vault.set(&tenant, "crm", new([("token", "x")])).await.unwrap();
    assert!(vault.exists(&tenant, "crm").await.unwrap());
    assert!(!vault.exists(&tenant, "nobody:crm").await.unwrap());
    assert!(place.trail("acme").await.is_empty());
}

async fn many_who_set_at_once_all_get_a_version_of_their_own(place: Place) {
    let vault = place.vault().await;
    let tenant = TenantId::from("acme");
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..8 {
        let (vault, tenant) = (vault.clone(), tenant.clone());
        tasks.spawn(async move { vault.set(&tenant, "crm", new([("token", &format!("t{n}"))])).await.unwrap().version });
    }
    let mut versions = tasks.join_all().await;
    versions.sort_unstable();
    assert_eq!(versions, [1, 2, 3, 4, 5, 6, 7, 8]);
}
