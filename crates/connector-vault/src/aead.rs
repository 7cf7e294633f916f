//! AES-256-GCM, the only cipher of the vault, and the system's randomness. What the Wycheproof vectors are run through is what the vault uses.
//!
//! Refuses to choose nonces from anything but randomness, and to give out a plaintext before its tag was checked.

use aes_gcm::{AeadInOut as _, Aes256Gcm, KeyInit as _, Tag};
use connector_core::{Error, Result};
use zeroize::{Zeroize as _, Zeroizing};

/// Bytes of a key.
pub(crate) const KEY: usize = 32;
/// Bytes of a nonce.
pub(crate) const NONCE: usize = 12;
/// Bytes of a tag, at the end of every ciphertext.
pub(crate) const TAG: usize = 16;

/// Fills a buffer from the operating system.
pub(crate) fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(&mut *bytes).map_err(|error| Error::internal("the operating system gives no randomness").with_source(error))?;
    Ok(bytes)
}

/// The cipher under one key, for a key that is used often: preparing it costs as much as sealing a few hundred bytes. Wiped on drop.
pub(crate) struct Cipher(Aes256Gcm);

impl Cipher {
    pub(crate) fn new(key: &[u8; KEY]) -> Self {
        Self(Aes256Gcm::new(key.into()))
    }

    /// Turns a plaintext into its ciphertext and gives the tag. `None`: it is too long, and still a plaintext.
    pub(crate) fn seal_in_place(&self, nonce: &[u8; NONCE], associated: &[u8], text: &mut [u8]) -> Option<[u8; TAG]> {
        self.0.encrypt_inout_detached(nonce.into(), associated, text.into()).ok().map(Into::into)
    }

    /// Turns a ciphertext into its plaintext. `false`: key, nonce, associated data, ciphertext or tag is not what it was sealed with, and
    /// nothing was opened.
    pub(crate) fn open_in_place(&self, nonce: &[u8; NONCE], associated: &[u8], text: &mut [u8], tag: &[u8; TAG]) -> bool {
        let tag: &Tag = tag.into();
        self.0.decrypt_inout_detached(nonce.into(), associated, text.into(), tag).is_ok()
    }
}

/// Ciphertext and tag of `plain`.
pub(crate) fn seal(key: &[u8; KEY], nonce: &[u8; NONCE], associated: &[u8], plain: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(plain.len() + TAG);
    out.extend_from_slice(plain);
    let Some(tag) = Cipher::new(key).seal_in_place(nonce, associated, &mut out) else {
        out.zeroize();
        return Err(Error::internal("too long to be sealed"));
    };
    out.extend_from_slice(&tag);
    Ok(out)
}

/// The plaintext; `None` if key, nonce, associated data, ciphertext or tag is not what it was sealed with.
pub(crate) fn open(key: &[u8; KEY], nonce: &[u8; NONCE], associated: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (ciphertext, tag) = sealed.split_last_chunk::<TAG>()?;
    let mut plain = Zeroizing::new(ciphertext.to_vec());
    Cipher::new(key).open_in_place(nonce, associated, &mut plain, tag).then_some(plain)
}

#[cfg(test)]
mod tests {
    use wycheproof::{TestResult, aead};

    use super::*;

    #[test]
    fn wycheproof_vectors_seal_and_open_as_they_say() {
        let set = aead::TestSet::load(aead::TestName::AesGcm).unwrap();
        let (mut good, mut bad) = (0, 0);
        for group in set.test_groups.iter().filter(|group| group.key_size == 256 && group.nonce_size == 96 && group.tag_size == 128) {
            for test in &group.tests {
                let key: &[u8; KEY] = test.key[..].try_into().unwrap();
                let nonce: &[u8; NONCE] = test.nonce[..].try_into().unwrap();
                let sealed = [&test.ct[..], &test.tag[..]].concat();
                let opened = open(key, nonce, &test.aad, &sealed);
                if test.result == TestResult::Invalid {
                    assert!(opened.is_none(), "case {} opens: {}", test.tc_id, test.comment);
                    bad += 1;
                } else {
                    assert_eq!(opened.as_deref().map(Vec::as_slice), Some(&test.pt[..]), "case {}: {}", test.tc_id, test.comment);
                    assert_eq!(seal(key, nonce, &test.aad, &test.pt).unwrap(), sealed, "case {}", test.tc_id);
                    good += 1;
                }
            }
        }
        // An empty set would prove nothing.
        assert!(good >= 30 && bad >= 20, "{good} good, {bad} bad");
    }

    #[test]
    fn what_is_shorter_than_a_tag_does_not_open() {
        for len in 0..TAG {
            assert!(open(&[1; KEY], &[2; NONCE], b"", &vec![0; len]).is_none());
        }
    }

    #[test]
    fn randomness_does_not_repeat() {
        assert_ne!(*random::<KEY>().unwrap(), *random::<KEY>().unwrap());
    }
}
