//! What the vault adds to a call: handing out what is in memory, and opening what is not, beside what cannot be less.
//!
//! `cargo bench -p connector-vault`. Floors in the same run: one bare AES-256-GCM opening of 256 bytes, and a store that keeps plain
//! secrets in memory. After the table the ratios are printed from a measurement of their own, so that a change shows without arithmetic.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark may fail this way and tells its figures")]

use std::{
    collections::BTreeMap,
    future::Future,
    hint::black_box,
    pin::pin,
    sync::{Arc, LazyLock},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use aes_gcm::{
    Aes256Gcm, KeyInit as _,
    aead::{Aead as _, Payload},
};
use connector_core::{
    TenantId,
    context::Actor,
    credential::{Credential, CredentialQuery, CredentialStore, MemoryCredentials},
};
use connector_state::MemoryState;
use connector_vault::{NewCredential, Vault, key::LocalKey};
use divan::Bencher;

/// As long as an access token.
const SECRET: usize = 256;

fn main() {
    divan::Divan::from_args().sample_size(200).main();
    ratios();
}

/// Runs a future that never waits: the store is in memory and nobody else is there.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("nothing here should wait"),
    }
}

struct Bed {
    cached: Vault,
    /// Keeps nothing, so that every look opens.
    opening: Vault,
    memory: MemoryCredentials,
    tenant: TenantId,
}

static BED: LazyLock<Bed> = LazyLock::new(|| {
    let vault = |keep_for: Duration| {
        let key = LocalKey::new(Some("k1"), std::array::from_fn(|n| u8::try_from(n).unwrap()).into(), "a benchmark").unwrap();
        let vault = now(Vault::builder(Arc::new(MemoryState::default())).key(Arc::new(key)).keep_for(keep_for).open()).unwrap();
        for fields in [1, 3] {
            now(vault.set(&TenantId::default(), &format!("{fields}"), NewCredential { fields: secrets(fields), ..NewCredential::default() }))
                .unwrap();
        }
        vault
    };
    let memory = MemoryCredentials::with("1", Credential::new(secrets(1)));
    Bed { cached: vault(Duration::from_secs(3600)), opening: vault(Duration::ZERO), memory, tenant: TenantId::default() }
});

fn secrets(count: usize) -> BTreeMap<String, secrecy::SecretString> {
    (0..count).map(|n| (format!("field{n}"), "x".repeat(SECRET).into())).collect()
}

fn get(store: &dyn CredentialStore, name: &str) -> Arc<Credential> {
    let query = CredentialQuery {
        tenant: &BED.tenant,
        name,
        workspace: None,
        connector: "crm",
        connection: "crm",
        operation: "crm_get_contact",
        actor: &Actor::System,
        correlation_id: "bench",
    };
    now(store.get(&query)).unwrap()
}

/// The floor of every opening.
fn bare() -> impl Fn() -> Vec<u8> {
    let (key, nonce) = ([7; 32], [9; 12]);
    let sealed = Aes256Gcm::new(&key.into())
        .encrypt(&nonce.into(), Payload { msg: &[b'x'; SECRET], aad: b"bound to something of this length or so" })
        .unwrap();
    move || {
        let cipher = Aes256Gcm::new(black_box(&key).into());
        cipher.decrypt(&nonce.into(), Payload { msg: black_box(&sealed), aad: b"bound to something of this length or so" }).unwrap()
    }
}

#[divan::bench]
fn floor_bare_aes_gcm_open_256(bencher: Bencher) {
    bencher.bench(bare());
}

#[divan::bench]
fn floor_memory_get(bencher: Bencher) {
    bencher.bench(|| get(&BED.memory, "1"));
}

#[divan::bench]
fn get_cached(bencher: Bencher) {
    bencher.bench(|| get(&BED.cached, "1"));
}

#[divan::bench]
fn get_uncached_one_field(bencher: Bencher) {
    bencher.bench(|| get(&BED.opening, "1"));
}

#[divan::bench]
fn get_uncached_three_fields(bencher: Bencher) {
    bencher.bench(|| get(&BED.opening, "3"));
}

/// The median time of one call, in nanoseconds.
fn median<T>(act: impl Fn() -> T) -> f64 {
    const CALLS: u32 = 200;
    let mut samples: Vec<Duration> = (0..101)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..CALLS {
                black_box(act());
            }
            start.elapsed()
        })
        .collect();
    samples.sort_unstable();
    samples[samples.len() / 2].as_secs_f64() * 1e9 / f64::from(CALLS)
}

fn ratios() {
    let (aes, memory) = (median(bare()), median(|| get(&BED.memory, "1")));
    println!("floors: bare AES-256-GCM opening of {SECRET} bytes {aes:.0} ns, memory get {memory:.0} ns");
    for (what, time, floor, name) in [
        ("get, cached", median(|| get(&BED.cached, "1")), memory, "memory get"),
        // Each field is two openings: its data key and itself.
        ("get, one field opened", median(|| get(&BED.opening, "1")), 2.0 * aes, "2 bare openings"),
        ("get, three fields opened", median(|| get(&BED.opening, "3")), 6.0 * aes, "6 bare openings"),
    ] {
        println!("{what}: {time:.0} ns, {:.2} x {name}", time / floor);
    }
}
