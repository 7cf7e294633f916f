//! Nonces: 96 bits of the operating system's randomness each, fetched many at a time.
//!
//! A call into the system costs as much as sealing a kilobyte. A nonce is no secret and is used once, so those that wait in this thread's memory
//! are as good as fresh ones. Refuses to go on without randomness. Processes that fork without `exec` would share what waits; ours do not.

use std::cell::RefCell;

use connector_core::{Error, Result};

use crate::aead::NONCE;

/// Nonces fetched at a time.
const POOL: usize = 64;

struct Pool {
    bytes: [u8; POOL * NONCE],
    used: usize,
}

thread_local! {
    static NONCES: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; POOL * NONCE], used: POOL * NONCE }) };
}

/// A nonce that was never given before.
pub(super) fn next() -> Result<[u8; NONCE]> {
    NONCES.with_borrow_mut(|pool| {
        if pool.used >= pool.bytes.len() {
            getrandom::fill(&mut pool.bytes).map_err(|error| Error::internal("the operating system gives no randomness").with_source(error))?;
            pool.used = 0;
        }
        let mut nonce = [0; NONCE];
        nonce.copy_from_slice(&pool.bytes[pool.used..pool.used + NONCE]);
        pool.used += NONCE;
        Ok(nonce)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn none_is_given_twice_in_a_thread_or_across_threads() {
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(|| (0..1_000).map(|_| next().unwrap()).collect::<Vec<_>>())).collect();
        let all: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 4_000);
        assert!(!all.contains(&[0; NONCE]));
    }
}
