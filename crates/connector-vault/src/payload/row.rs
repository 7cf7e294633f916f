//! A tenant's data keys as they lie in the store: JSON with an envelope in base64, and how many seals were given out.
//!
//! Owns the rows' names, what their envelopes are bound to, and the bound on seals. Refuses to open anything.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use connector_core::{Error, Result, TenantId, state::Entry};
use serde::{Deserialize, Serialize};

use crate::{envelope::Envelope, keys::Target};

/// Data keys of payloads, and the key of their digests, in the store.
pub(crate) const PAYLOAD_KEYS: &str = "vault.payload_keys";
/// What the names of data keys start with.
pub(super) const DATA: &str = "k";
/// The name of the key of digests.
pub(super) const DIGEST: &str = "digest";
/// What stands for the credential in a row's binding, in the trail and in reports. No credential is called so.
pub(crate) const SUBJECT: &str = "$payloads";
/// A data key is replaced after this many milliseconds.
pub(super) const MOST_AGE: u64 = 24 * 60 * 60 * 1000;
/// So many seals a data key is good for, over all processes. With random nonces of 96 bits, NIST SP 800-38D allows 2^32.
const MOST_SEALS: u64 = 1 << 31;
/// A process writes down that it will make this many seals before it makes the first of them.
pub(super) const CHUNK: u64 = 1 << 20;
/// The format this code writes. A row that says more was written by a newer version.
const FORMAT: u8 = 1;

/// A row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyRow {
    format: u8,
    /// Unix milliseconds. Part of what the envelope is bound to.
    pub(super) made_at: u64,
    /// Seals that were given out, used or not.
    #[serde(default)]
    reserved: u64,
    sealed: String,
}

impl KeyRow {
    pub(super) fn new(made_at: u64, sealed: &[u8]) -> Self {
        Self { format: FORMAT, made_at, reserved: 0, sealed: BASE64_STANDARD.encode(sealed) }
    }

    /// `None` if it is damaged or of a newer format.
    pub(crate) fn read(entry: &Entry) -> Option<Self> {
        serde_json::from_slice::<Self>(&entry.value).ok().filter(|row| row.format == FORMAT)
    }

    pub(crate) fn to_bytes(&self) -> Result<Bytes> {
        serde_json::to_vec(self).map(Bytes::from).map_err(|_| Error::internal("the row of a data key cannot be written as JSON"))
    }

    /// The envelope; empty if it is no base64.
    pub(crate) fn sealed(&self) -> Vec<u8> {
        BASE64_STANDARD.decode(&self.sealed).unwrap_or_default()
    }

    /// The same key in another envelope.
    pub(crate) fn resealed(self, sealed: &[u8]) -> Self {
        Self { sealed: BASE64_STANDARD.encode(sealed), ..self }
    }

    /// The master key it is sealed under, as far as it can be read.
    pub(crate) fn key_id(&self) -> Option<String> {
        Envelope::parse(&self.sealed()).ok().map(|envelope| envelope.key_id().to_owned())
    }

    /// The row with one process's seals more, if the key is good for them at this time.
    pub(super) fn reserving(&self, now: u64) -> Option<Self> {
        let reserved = self.reserved.checked_add(CHUNK).filter(|reserved| *reserved <= MOST_SEALS)?;
        (now < self.made_at.saturating_add(MOST_AGE)).then(|| Self { reserved, ..self.clone() })
    }

    /// What the envelope of the row `name` is bound to.
    pub(crate) fn target<'a>(&self, tenant: &'a TenantId, name: &'a str) -> Target<'a> {
        target(tenant, name, self.made_at)
    }
}

pub(super) fn target<'a>(tenant: &'a TenantId, name: &'a str, made_at: u64) -> Target<'a> {
    Target { tenant, credential: SUBJECT, field: name, version: made_at }
}

/// The name of data key number `number`. Names sort like numbers.
pub(super) fn name(number: u64) -> String {
    format!("{DATA}{number:016x}")
}

/// The way back from [`name`].
pub(super) fn number(name: &str) -> Option<u64> {
    name.strip_prefix(DATA).filter(|digits| digits.len() == 16).and_then(|digits| u64::from_str_radix(digits, 16).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_given_out_for_a_day_and_two_thousand_times() {
        let mut row = KeyRow::new(1_000, b"x");
        assert!(row.reserving(1_000 + MOST_AGE).is_none());
        let mut times = 0;
        while let Some(more) = row.reserving(1_000 + MOST_AGE - 1) {
            row = more;
            times += 1;
        }
        assert_eq!((times, row.reserved), (MOST_SEALS / CHUNK, MOST_SEALS));
    }

    #[test]
    fn names_sort_like_numbers_and_lead_back_to_them() {
        assert!(name(9) < name(10) && name(255) < name(256));
        assert_eq!(number(&name(u64::MAX)), Some(u64::MAX));
        assert_eq!((number(DIGEST), number("k1"), number("k000000000000000g")), (None, None, None));
    }

    #[test]
    fn a_row_of_a_newer_format_is_left_alone() {
        let entry = |text: &str| Entry { value: Bytes::copy_from_slice(text.as_bytes()), version: 1 };
        assert!(KeyRow::read(&entry(r#"{"format":1,"made_at":1,"sealed":""}"#)).is_some());
        assert!(KeyRow::read(&entry(r#"{"format":2,"made_at":1,"sealed":""}"#)).is_none());
        assert!(KeyRow::read(&entry("x")).is_none());
    }
}
