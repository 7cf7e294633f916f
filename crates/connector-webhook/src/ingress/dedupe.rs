//! The key under which an event counts as seen: the vendor's id, or a digest of the payload where there is no usable one.

use sha2::{Digest as _, Sha256};

/// The longest id taken from a vendor.
const MAX_ID: usize = 512;

/// What programs write when they have nothing to write.
const PLACEHOLDERS: [&str; 4] = ["none", "null", "undefined", "nil"];

/// The dedupe key, and whether it had to be made from the payload.
pub(super) fn key(id: Option<&str>, payload: &[u8]) -> (String, bool) {
    match id.map(str::trim).filter(|id| usable(id)) {
        Some(id) => (id.to_owned(), false),
        None => (format!("sha256:{}", hex::encode(Sha256::digest(payload))), true),
    }
}

fn usable(id: &str) -> bool {
    !id.is_empty() && id.len() <= MAX_ID && !id.chars().any(char::is_control) && !PLACEHOLDERS.iter().any(|word| id.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_says_nothing_becomes_a_digest() {
        let long = "x".repeat(4096);
        for id in [None, Some(""), Some("  "), Some("None"), Some("null"), Some("a\u{1b}[0m"), Some(long.as_str())] {
            let (key, made) = key(id, b"{}");
            assert!(made, "{id:?}");
            assert_eq!(key, "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
        }
        for id in ["evt_1", "a.b", "0", "Nonesuch"] {
            assert_eq!(key(Some(id), b"{}"), (id.to_owned(), false));
        }
    }
}
