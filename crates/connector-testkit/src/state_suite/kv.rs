//! Key-value behaviour: conditions, versions, expiry, scans, tenants.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use connector_core::{
    TenantId,
    clock::Clock,
    state::{Condition, Namespace, PutOutcome, Store},
};

use super::fresh;

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn version(outcome: PutOutcome) -> u64 {
    match outcome {
        PutOutcome::Stored(version) => version,
        PutOutcome::Refused(entry) => panic!("the write was refused, there is {entry:?}"),
    }
}

/// Runs the key-value behaviour against fresh stores.
pub async fn kv(make: impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    conditions_guard_writes(&make).await;
    versions_grow_across_delete(&make).await;
    entries_expire(&make).await;
    scans_are_in_key_order(&make).await;
    tenants_and_names_are_apart(&make).await;
    one_of_many_concurrent_writers_wins(&make).await;
    a_version_is_won_once(&make).await;
    any_text_is_a_key(&make).await;
}

async fn conditions_guard_writes(make: &impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    let (store, _) = fresh(make);
    let tenant = TenantId::from("acme");
    let tokens = Namespace::new(&tenant, "tokens");
    assert_eq!(store.get(tokens, "k").await.unwrap(), None);
    let first = version(store.put(tokens, "k", bytes("one"), Condition::Absent, None).await.unwrap());
    match store.put(tokens, "k", bytes("two"), Condition::Absent, None).await.unwrap() {
        PutOutcome::Refused(Some(entry)) => assert_eq!((entry.value, entry.version), (bytes("one"), first)),
        other => panic!("a second `Absent` write gave {other:?}"),
    }
    let second = version(store.put(tokens, "k", bytes("two"), Condition::Is(first), None).await.unwrap());
    assert!(second > first);
    assert!(!store.put(tokens, "k", bytes("three"), Condition::Is(first), None).await.unwrap().is_stored());
    assert!(!store.put(tokens, "none", bytes("x"), Condition::Is(1), None).await.unwrap().is_stored());
    assert!(store.put(tokens, "k", bytes("four"), Condition::Any, None).await.unwrap().is_stored());
    assert_eq!(store.get(tokens, "k").await.unwrap().map(|entry| entry.value), Some(bytes("four")));
    assert!(!store.delete(tokens, "k", Condition::Is(second)).await.unwrap(), "the version moved on");
    assert!(store.delete(tokens, "k", Condition::Any).await.unwrap());
    assert!(!store.delete(tokens, "k", Condition::Any).await.unwrap(), "it is gone");
}

async fn versions_grow_across_delete(make: &impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    let (store, _) = fresh(make);
    let tenant = TenantId::from("acme");
    let leases = Namespace::new(&tenant, "leases");
    let first = version(store.put(leases, "k", bytes("a"), Condition::Any, None).await.unwrap());
    assert!(store.delete(leases, "k", Condition::Any).await.unwrap());
    let again = version(store.put(leases, "k", bytes("a"), Condition::Absent, None).await.unwrap());
    assert!(again > first, "version {again} after {first}");
}

async fn entries_expire(make: &impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    let (store, clock) = fresh(make);
    let tenant = TenantId::from("acme");
    let cache = Namespace::new(&tenant, "cache");
    let first = version(store.put(cache, "k", bytes("v"), Condition::Any, Some(Duration::from_secs(10))).await.unwrap());
    clock.advance(Duration::from_millis(9_999));
    assert!(store.get(cache, "k").await.unwrap().is_some());
    clock.advance(Duration::from_millis(1));
    assert_eq!(store.get(cache, "k").await.unwrap(), None);
    assert_eq!(store.scan(cache, "", None, 10).await.unwrap(), Vec::new());
    assert!(!store.delete(cache, "k", Condition::Any).await.unwrap());
    assert!(!store.put(cache, "k", bytes("w"), Condition::Is(first), None).await.unwrap().is_stored());
    let again = version(store.put(cache, "k", bytes("w"), Condition::Absent, None).await.unwrap());
    assert!(again > first);
    clock.advance(Duration::from_secs(3600));
    assert!(store.get(cache, "k").await.unwrap().is_some(), "the new entry has no expiry");
}

async fn scans_are_in_key_order(make: &impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    let (store, _) = fresh(make);
    let tenant = TenantId::from("acme");
    let streams = Namespace::new(&tenant, "streams");
    for key in ["b/2", "a/1", "b/1", "b/10", "c", "b", "bü", "b_%"] {
        assert!(store.put(streams, key, Bytes::copy_from_slice(key.as_bytes()), Condition::Any, None).await.unwrap().is_stored());
    }
    let keys = |found: Vec<(String, connector_core::state::Entry)>| found.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    assert_eq!(keys(store.scan(streams, "b/", None, 10).await.unwrap()), ["b/1", "b/10", "b/2"]);
    assert_eq!(keys(store.scan(streams, "b/", Some("b/1"), 1).await.unwrap()), ["b/10"]);
    assert_eq!(keys(store.scan(streams, "b/", Some("a"), 10).await.unwrap()), ["b/1", "b/10", "b/2"]);
    assert_eq!(keys(store.scan(streams, "b", None, 10).await.unwrap()), ["b", "b/1", "b/10", "b/2", "b_%", "bü"]);
    assert_eq!(keys(store.scan(streams, "b_", None, 10).await.unwrap()), ["b_%"], "a prefix is text, not a pattern");
    assert_eq!(keys(store.scan(streams, "", None, 2).await.unwrap()), ["a/1", "b"]);
    assert_eq!(keys(store.scan(streams, "", None, 0).await.unwrap()), Vec::<String>::new());
}

async fn tenants_and_names_are_apart(make: &impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    let (store, _) = fresh(make);
    let (acme, other) = (TenantId::from("acme"), TenantId::from("other"));
    let mine = Namespace::new(&acme, "tokens");
    assert!(store.put(mine, "k", bytes("secret"), Condition::Any, None).await.unwrap().is_stored());
    for stranger in [Namespace::new(&other, "tokens"), Namespace::new(&acme, "token"), Namespace::new(&acme, "tokens2")] {
        assert_eq!(store.get(stranger, "k").await.unwrap(), None);
        assert!(!store.delete(stranger, "k", Condition::Any).await.unwrap());
        assert_eq!(store.scan(stranger, "", None, 10).await.unwrap(), Vec::new());
        assert!(store.put(stranger, "k", bytes("own"), Condition::Absent, None).await.unwrap().is_stored());
    }
    assert_eq!(store.get(mine, "k").await.unwrap().map(|entry| entry.value), Some(bytes("secret")));
}

async fn one_of_many_concurrent_writers_wins(make: &impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    let (store, _) = fresh(make);
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let tenant = TenantId::from("acme");
                store.put(Namespace::new(&tenant, "leases"), "k", bytes("me"), Condition::Absent, None).await.unwrap().is_stored()
            })
        })
        .collect();
    let mut winners = 0;
    for task in tasks {
        winners += usize::from(task.await.unwrap());
    }
    assert_eq!(winners, 1);
}

async fn a_version_is_won_once(make: &impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    let (store, _) = fresh(make);
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let tenant = TenantId::from("acme");
                let counters = Namespace::new(&tenant, "counters");
                let mut seen = Vec::new();
                while seen.len() < 10 {
                    let current = store.get(counters, "k").await.unwrap();
                    // Now and then somebody removes it: the version must grow all the same.
                    let at = current.as_ref().map(|entry| entry.version);
                    if seen.len() == 5 && store.delete(counters, "k", Condition::Any).await.unwrap() {
                        seen.push(0);
                        continue;
                    }
                    let condition = at.map_or(Condition::Absent, Condition::Is);
                    if let PutOutcome::Stored(version) = store.put(counters, "k", bytes("v"), condition, None).await.unwrap() {
                        assert!(at.is_none_or(|at| version > at), "{version} after {at:?}");
                        seen.push(version);
                    }
                }
                seen
            })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        let mine: Vec<u64> = task.await.unwrap().into_iter().filter(|version| *version > 0).collect();
        assert!(mine.is_sorted(), "{mine:?}");
        all.extend(mine);
    }
    all.sort_unstable();
    let many = all.len();
    all.dedup();
    assert_eq!(all.len(), many, "a version was given twice");
}

async fn any_text_is_a_key(make: &impl Fn(Arc<dyn Clock>) -> Arc<dyn Store>) {
    let (store, _) = fresh(make);
    let tenant = TenantId::from("te\0nant");
    let odd = Namespace::new(&tenant, "na'me\0");
    let keys = ["a\0b", "a\u{10}0b", "a'b\"c\\d", "a%_*", "a\u{10FFFF}\u{10FFFF}", "a\u{1F600}"];
    for key in keys {
        assert!(store.put(odd, key, Bytes::copy_from_slice(key.as_bytes()), Condition::Absent, None).await.unwrap().is_stored(), "{key:?}");
    }
    for key in keys {
        assert_eq!(store.get(odd, key).await.unwrap().map(|entry| entry.value), Some(Bytes::copy_from_slice(key.as_bytes())), "{key:?}");
    }
    let mut found: Vec<String> = store.scan(odd, "a", None, 100).await.unwrap().into_iter().map(|(key, _)| key).collect();
    let mut expected = keys.map(str::to_owned);
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    let after: Vec<String> = store.scan(odd, "a\u{10FFFF}", None, 100).await.unwrap().into_iter().map(|(key, _)| key).collect();
    assert_eq!(after, ["a\u{10FFFF}\u{10FFFF}"]);
}
