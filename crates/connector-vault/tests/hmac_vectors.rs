//! The Wycheproof vectors of HMAC-SHA-256 through the crate that webhook signatures and request signatures are made and checked with.
#![allow(clippy::unwrap_used, reason = "a test may fail this way")]

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use wycheproof::{TestResult, mac};

#[test]
fn wycheproof_hmac_sha256_vectors_verify_as_they_say() {
    let set = mac::TestSet::load(mac::TestName::HmacSha256).unwrap();
    let (mut good, mut bad) = (0, 0);
    for group in &set.test_groups {
        let len = group.tag_size / 8;
        for test in &group.tests {
            let mac = Hmac::<Sha256>::new_from_slice(&test.key).unwrap().chain_update(&test.msg[..]);
            let whole = mac.clone().finalize().into_bytes();
            let verified = mac.verify_truncated_left(&test.tag).is_ok();
            assert_eq!(verified, test.result != TestResult::Invalid, "case {}: {}", test.tc_id, test.comment);
            assert_eq!(whole[..len] == test.tag[..], verified, "case {}", test.tc_id);
            if verified { good += 1 } else { bad += 1 }
        }
    }
    assert!(good > 60 && bad > 40, "{good} good, {bad} bad");
}
