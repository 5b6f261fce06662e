//! Keys by their hashes: a number that every process gives a key alike, and ranges of such numbers.

use twox_hash::XxHash3_64;

/// The hash of a key: xxh3 with 64 bits. It travels between sites and must never change.
pub fn hash(key: &[u8]) -> u64 {
    XxHash3_64::oneshot(key)
}

/// All hashes from the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// The least.
    pub first: u64,
    /// The greatest.
    pub last: u64,
}

impl Span {
    /// Every hash there is.
    pub const ALL: Self = Self { first: 0, last: u64::MAX };

    /// Whether a hash lies in it.
    pub fn contains(self, hash: u64) -> bool {
        (self.first..=self.last).contains(&hash)
    }

    /// Its two halves; nothing for a single hash.
    pub fn halves(self) -> Option<[Self; 2]> {
        let middle = self.first + (self.last - self.first) / 2;
        let (lower, upper) = (Self { last: middle, ..self }, Self { first: middle.checked_add(1)?, ..self });
        (self.first < self.last).then_some([lower, upper])
    }

    /// All hashes in as many equal parts as make each hold about `per_slice` of `items`; at least one.
    pub fn slices(items: u64, per_slice: u64) -> impl Iterator<Item = Self> + Clone {
        let count = items.div_ceil(per_slice.max(1)).max(1);
        let bound = move |index: u64| (u128::from(index) << 64) / u128::from(count);
        (0..count).map(move |index| Self {
            first: u64::try_from(bound(index)).unwrap_or(u64::MAX),
            last: u64::try_from(bound(index + 1) - 1).unwrap_or(u64::MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_published_one() {
        // Test vectors of xxHash itself; another number here would make sites disagree about every key.
        assert_eq!(hash(b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(hash(b"a"), 0xe6c6_32b6_1e96_4e1f);
    }

    proptest::proptest! {
        #[test]
        fn slices_hold_every_hash_once(items in 0_u64..10_000_000, per_slice in 0_u64..1_000_000, hash: u64) {
            let per_slice = per_slice.max(items / 1000);
            let slices: Vec<_> = Span::slices(items, per_slice).collect();
            proptest::prop_assert_eq!(slices[0].first, 0);
            proptest::prop_assert_eq!(slices[slices.len() - 1].last, u64::MAX);
            proptest::prop_assert!(slices.windows(2).all(|two| two[0].last + 1 == two[1].first));
            proptest::prop_assert!(slices.iter().all(|slice| slice.first <= slice.last));
            proptest::prop_assert_eq!(slices.iter().filter(|slice| slice.contains(hash)).count(), 1);
        }

        #[test]
        fn halves_hold_every_hash_once(a: u64, b: u64, hash: u64) {
            let span = Span { first: a.min(b), last: a.max(b) };
            let Some([lower, upper]) = span.halves() else {
                proptest::prop_assert_eq!(a, b);
                return Ok(());
            };
            proptest::prop_assert_eq!(lower.contains(hash) || upper.contains(hash), span.contains(hash));
            proptest::prop_assert!(lower.last < upper.first && lower.first <= lower.last);
        }

        #[test]
        fn keys_fall_evenly_into_slices(seed: u64) {
            let slices: Vec<_> = Span::slices(10_000, 1_000).collect();
            let mut counts = vec![0_u32; slices.len()];
            for index in 0..10_000 {
                let of = hash(format!("key:{seed}:{index}").as_bytes());
                counts[slices.iter().position(|slice| slice.contains(of)).unwrap()] += 1;
            }
            proptest::prop_assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{:?}", counts);
        }
    }
}
