//! A quick hasher for the lookups every call makes: operation names, scopes, connections.
//!
//! Seeded once per process, so that nobody outside can choose keys that collide; not for anything that leaves the process.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::LazyLock,
};

static SEED: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0x9e37_79b9_7f4a_7c15_u64));

/// Makes [`Folded`] hashers with the process's seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BuildFolded(u64);

impl Default for BuildFolded {
    fn default() -> Self {
        Self(*SEED)
    }
}

impl BuildHasher for BuildFolded {
    type Hasher = Folded;

    fn build_hasher(&self) -> Folded {
        Folded(self.0)
    }
}

/// Folds each eight bytes into the state with a wide multiplication.
#[derive(Debug)]
pub(crate) struct Folded(u64);

impl Folded {
    fn fold(&mut self, word: u64) {
        let wide = u128::from(self.0 ^ word) * 0x2d35_8dcc_aa6c_78a5;
        #[allow(clippy::cast_possible_truncation, reason = "both halves are kept")]
        let folded = (wide as u64) ^ ((wide >> 64) as u64);
        self.0 = folded.wrapping_add(word.rotate_left(32) | 1);
    }
}

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.fold(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.fold(u64::from_le_bytes(last) ^ ((rest.len() as u64) << 56));
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.fold(u64::from(byte));
    }

    fn write_u64(&mut self, word: u64) {
        self.fold(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.fold(word as u64);
    }

    fn finish(&self) -> u64 {
        // The tables look at the highest and the lowest bits.
        self.0 ^ self.0.rotate_right(29)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_that_differ_little_hash_apart_in_high_and_low_bits() {
        let build = BuildFolded::default();
        let hashes: Vec<u64> = (0..4_096).map(|n| build.hash_one(format!("hubspot_get_contact_{n}"))).collect();
        assert_eq!(hashes.iter().collect::<HashSet<_>>().len(), 4_096);
        for part in [|hash: &u64| hash >> 52, |hash: &u64| hash & 0xfff] {
            let distinct = hashes.iter().map(part).collect::<HashSet<_>>().len();
            // 4,096 balls in 4,096 bins leave about 63 % of the bins used.
            assert!(distinct > 2_300, "{distinct}");
        }
        assert_ne!(build.hash_one("ab"), build.hash_one("ab\0"));
    }
}
