//! A sealed payload as bytes.
//!
//! ```text
//! magic 00 "CNP" 4 · format 1 · data key's number 8 · nonce 12 · ciphertext with tag
//! ```
//!
//! Owns the form and what a payload is bound to. Refuses to know where data keys come from. A zero byte starts no JSON text, so what was written
//! before payloads were sealed is never taken for a sealed one.

use bytes::Bytes;
use connector_core::{Error, Result, TenantId};

use crate::aead::{Cipher, NONCE, TAG};

/// What a sealed payload starts with.
const MAGIC: &[u8; 4] = b"\0CNP";
/// The format this code writes, and the only one it reads.
const FORMAT: u8 = 1;
/// Bytes before the ciphertext.
const HEAD: usize = MAGIC.len() + 1 + size_of::<u64>() + NONCE;

/// A sealed payload, cut into its parts.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    /// The number of the data key.
    pub(super) key: u64,
    nonce: &'a [u8; NONCE],
    ciphertext: &'a [u8],
    tag: &'a [u8; TAG],
}

/// Whether this starts like a sealed payload.
pub(super) fn is_sealed(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// The parts of a sealed payload; what is wrong with it otherwise.
pub(super) fn parse(bytes: &[u8]) -> Result<Parts<'_>, String> {
    let cut = || "it is cut".to_owned();
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| "it does not start like a sealed payload".to_owned())?;
    let ([format], rest) = rest.split_first_chunk::<1>().ok_or_else(cut)?;
    if *format != FORMAT {
        return Err(format!("format {format} is not known, only {FORMAT}; a newer version may have written it"));
    }
    let (key, rest) = rest.split_first_chunk::<8>().ok_or_else(cut)?;
    let (nonce, rest) = rest.split_first_chunk::<NONCE>().ok_or_else(cut)?;
    let (ciphertext, tag) = rest.split_last_chunk::<TAG>().ok_or_else(cut)?;
    Ok(Parts { key: u64::from_be_bytes(*key), nonce, ciphertext, tag })
}

/// What a payload is bound to: format, tenant, data key and context, each after its length, so that no two bindings give the same bytes.
fn associated(tenant: &TenantId, key: u64, context: &[&[u8]]) -> Vec<u8> {
    let (format, key, tenant) = ([FORMAT], key.to_be_bytes(), tenant.as_str().as_bytes());
    let fixed: [&[u8]; 3] = [&format, tenant, &key];
    let parts = || fixed.iter().chain(context);
    let mut out = Vec::with_capacity(parts().map(|part| part.len() + 8).sum());
    for part in parts() {
        out.extend_from_slice(&(part.len() as u64).to_be_bytes());
        out.extend_from_slice(part);
    }
    out
}

/// Seals under a data key.
pub(super) fn seal(cipher: &Cipher, key: u64, nonce: &[u8; NONCE], tenant: &TenantId, context: &[&[u8]], plain: &[u8]) -> Result<Bytes> {
    let mut out = Vec::with_capacity(HEAD + plain.len() + TAG);
    out.extend_from_slice(MAGIC);
    out.push(FORMAT);
    out.extend_from_slice(&key.to_be_bytes());
    out.extend_from_slice(nonce);
    out.extend_from_slice(plain);
    let tag = cipher.seal_in_place(nonce, &associated(tenant, key, context), &mut out[HEAD..]);
    out.extend_from_slice(&tag.ok_or_else(|| Error::internal("too long to be sealed"))?);
    Ok(out.into())
}

/// The plaintext; `None` if anything is not as it was sealed.
pub(super) fn open(cipher: &Cipher, parts: &Parts<'_>, tenant: &TenantId, context: &[&[u8]]) -> Option<Bytes> {
    let mut plain = parts.ciphertext.to_vec();
    cipher.open_in_place(parts.nonce, &associated(tenant, parts.key, context), &mut plain, parts.tag).then(|| plain.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed() -> (Cipher, TenantId, Bytes) {
        let (cipher, tenant) = (Cipher::new(&[7; 32]), TenantId::from("acme"));
        let sealed = seal(&cipher, 3, &[9; NONCE], &tenant, &[b"event", b"main", b"e-1"], b"{\"amount\":1}").unwrap();
        (cipher, tenant, sealed)
    }

    #[test]
    fn it_opens_with_every_part_as_it_was_and_with_no_other() {
        let (cipher, acme, sealed) = sealed();
        let parts = parse(&sealed).unwrap();
        let opens = |tenant: &str, context: &[&[u8]]| open(&cipher, &parts, &tenant.into(), context);
        assert_eq!(opens("acme", &[b"event", b"main", b"e-1"]).unwrap(), "{\"amount\":1}");
        let others: [&[&[u8]]; 9] = [
            &[b"job", b"main", b"e-1"],
            &[b"event", b"other", b"e-1"],
            &[b"event", b"main", b"e-2"],
            &[b"event", b"main"],
            &[b"event", b"main", b"e-1", b""],
            &[b"event", b"maine", b"-1"],
            &[b"eventmain", b"e-1"],
            &[b"main", b"event", b"e-1"],
            &[],
        ];
        for context in others {
            assert!(opens("acme", context).is_none(), "{context:?}");
        }
        assert!(opens("acm", &[b"event", b"main", b"e-1"]).is_none() && opens("other", &[b"event", b"main", b"e-1"]).is_none());
        // The number of the key is bound as well: the same key under another number opens nothing.
        let moved = Parts { key: 4, ..parse(&sealed).unwrap() };
        assert!(open(&cipher, &moved, &acme, &[b"event", b"main", b"e-1"]).is_none());
        assert!(open(&Cipher::new(&[8; 32]), &parts, &acme, &[b"event", b"main", b"e-1"]).is_none());
    }

    #[test]
    fn a_flipped_bit_anywhere_and_a_cut_anywhere_are_noticed() {
        let (cipher, tenant, sealed) = sealed();
        let opens = |bytes: &[u8]| parse(bytes).ok().and_then(|parts| open(&cipher, &parts, &tenant, &[b"event", b"main", b"e-1"]));
        for at in 0..sealed.len() * 8 {
            let mut bytes = sealed.to_vec();
            bytes[at / 8] ^= 1 << (at % 8);
            assert!(opens(&bytes).is_none(), "bit {at}");
        }
        for len in 0..sealed.len() {
            assert!(opens(&sealed[..len]).is_none(), "{len} bytes");
        }
        assert!(opens(&[&sealed[..], b"x"].concat()).is_none());
        assert!(opens(&sealed).is_some());
    }

    #[test]
    fn json_never_looks_sealed() {
        for text in ["{}", " {}", "\"\\u0000CNP\"", "17", "", "null"] {
            assert!(!is_sealed(text.as_bytes()), "{text}");
        }
        assert!(is_sealed(&sealed().2));
        let mut newer = sealed().2.to_vec();
        newer[4] = 2;
        assert_eq!(parse(&newer).unwrap_err(), "format 2 is not known, only 1; a newer version may have written it");
    }
}
