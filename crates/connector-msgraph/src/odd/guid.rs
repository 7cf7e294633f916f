//! Ids we make ourselves so that a repeat is recognised: a `transactionId` of an appointment, the id of a card.
//!
//! They follow from the caller's idempotency key, so that another run makes the same one; without a key they are made up.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use connector_core::CallCx;
use sha2::{Digest as _, Sha256};

/// Different in every process.
static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one("msgraph"));
/// Different in every call.
static MADE: AtomicU64 = AtomicU64::new(0);

/// An id in the form of a GUID for this call of `operation` on `place`.
pub(crate) fn guid(cx: &CallCx, operation: &str, place: &str) -> String {
    let mut hash = Sha256::new();
    let mut add = |part: &str| {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    };
    add(operation);
    add(place);
    match cx.idempotency_key.as_deref() {
        Some(key) => {
            add(cx.tenant().as_str());
            add(key);
        }
        None => {
            let number = MADE.fetch_add(1, Ordering::Relaxed);
            add(&format!("{:016x}{number:016x}{:016x}", *PROCESS, RandomState::new().hash_one(number)));
        }
    }
    let digits = hex::encode(&hash.finalize()[..16]);
    // Version 8: made by the application's own rule. RFC 9562 §5.8
    format!("{}-{}-8{}-8{}-{}", &digits[..8], &digits[8..12], &digits[13..16], &digits[17..20], &digits[20..])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use connector_core::Connection;

    use super::*;

    #[test]
    fn a_key_makes_the_same_id_again_and_none_a_new_one_each_time() {
        let cx = CallCx::new(Arc::new(Connection::new("msgraph", "https://graph.example/v1.0").unwrap()));
        let keyed = cx.clone().with_idempotency_key("ticket-7");
        assert_eq!(guid(&keyed, "create", "a"), guid(&keyed, "create", "a"));
        assert_ne!(guid(&keyed, "create", "a"), guid(&keyed, "create", "b"));
        assert_ne!(guid(&cx, "create", "a"), guid(&cx, "create", "a"));
        let made = guid(&keyed, "create", "a");
        assert_eq!((made.len(), &made[14..15], &made[19..20]), (36, "8", "8"));
    }
}
