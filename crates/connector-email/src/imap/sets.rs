//! Sets of UIDs, as ranges: what servers send may span four thousand million, so a set is never spelt out.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// Ranges in ascending order that neither touch nor overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct UidSet(Vec<(u32, u32)>);

impl UidSet {
    /// Of single UIDs in any order.
    pub(crate) fn of(uids: impl IntoIterator<Item = u32>) -> Self {
        Self::ranges(uids.into_iter().map(|uid| (uid, uid)).collect())
    }

    fn ranges(mut ranges: Vec<(u32, u32)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
        for (low, high) in ranges {
            match merged.last_mut() {
                Some(last) if low <= last.1.saturating_add(1) => last.1 = last.1.max(high),
                _ => merged.push((low, high)),
            }
        }
        Self(merged)
    }

    /// `1:3,7`. `None` if it is no set; `*` is none either, because it means something else each time.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut ranges = Vec::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (low, high) = part.split_once(':').unwrap_or((part, part));
            let (low, high): (u32, u32) = (low.parse().ok()?, high.parse().ok()?);
            ranges.push((low.min(high), low.max(high)));
        }
        Some(Self::ranges(ranges))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u64 {
        self.0.iter().map(|(low, high)| u64::from(high - low) + 1).sum()
    }

    /// The greatest.
    pub(crate) fn last(&self) -> Option<u32> {
        self.0.last().map(|(_, high)| *high)
    }

    pub(crate) fn contains(&self, uid: u32) -> bool {
        let at = self.0.partition_point(|(_, high)| *high < uid);
        self.0.get(at).is_some_and(|(low, _)| *low <= uid)
    }

    /// Each one, in ascending order. Only for sets that are known to be small.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().flat_map(|(low, high)| *low..=*high)
    }

    /// What is in both.
    pub(crate) fn intersection(&self, other: &Self) -> Self {
        let mut found = Vec::new();
        let (mut a, mut b) = (self.0.iter().peekable(), other.0.iter().peekable());
        while let (Some(&&(a_low, a_high)), Some(&&(b_low, b_high))) = (a.peek(), b.peek()) {
            let (low, high) = (a_low.max(b_low), a_high.min(b_high));
            if low <= high {
                found.push((low, high));
            }
            if a_high < b_high {
                a.next()
            } else {
                b.next()
            };
        }
        Self(found)
    }

    /// What is here and not there.
    pub(crate) fn without(&self, other: &Self) -> Self {
        let mut found = Vec::new();
        for &(low, high) in &self.0 {
            let mut from = Some(low);
            for &(other_low, other_high) in &other.0 {
                let Some(start) = from else { break };
                if other_high < start || other_low > high {
                    continue;
                }
                if other_low > start {
                    found.push((start, other_low - 1));
                }
                from = other_high.checked_add(1).filter(|next| *next <= high);
            }
            if let Some(start) = from {
                found.push((start, high));
            }
        }
        Self(found)
    }

    /// What is in either.
    pub(crate) fn union(&self, other: &Self) -> Self {
        Self::ranges(self.0.iter().chain(&other.0).copied().collect())
    }

    /// A short mark by which two sets are told apart.
    pub(crate) fn digest(&self) -> String {
        hex::encode(&Sha256::digest(self.to_string().as_bytes())[..8])
    }
}

impl std::fmt::Display for UidSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, (low, high)) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_char(',')?;
            }
            if low == high { write!(f, "{low}")? } else { write!(f, "{low}:{high}")? }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sets_are_read_and_written_in_their_shortest_form() {
        assert_eq!(UidSet::parse("7,3:1,4,9:4294967295").unwrap().to_string(), "1:4,7,9:4294967295");
        assert_eq!(UidSet::parse("1:4294967295").unwrap().len(), 4_294_967_295);
        for wrong in ["*", "1:*", "x", "-1", "4294967296"] {
            assert_eq!(UidSet::parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn they_behave_like_sets(a in proptest::collection::btree_set(0u32..60, 0..30), b in proptest::collection::btree_set(0u32..60, 0..30)) {
            let (x, y) = (UidSet::of(a.iter().copied()), UidSet::of(b.iter().copied()));
            let list = |set: &UidSet| set.iter().collect::<BTreeSet<_>>();
            prop_assert_eq!(list(&x.intersection(&y)), &a & &b);
            prop_assert_eq!(list(&x.without(&y)), &a - &b);
            prop_assert_eq!(list(&x.union(&y)), &a | &b);
            prop_assert!((0..60).all(|uid| x.contains(uid) == a.contains(&uid)));
            prop_assert_eq!(UidSet::parse(&x.to_string()), Some(x));
        }
    }
}
