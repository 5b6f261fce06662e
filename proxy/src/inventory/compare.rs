//! Two inventories side by side, as values: by range, where a sum of many items travels instead of them, and item by item.

use std::cmp::Ordering;

use memcloud_protocol::memcache::expiry::Expiry;

use super::Entry;

/// What a range of hashes holds, in three numbers. The order of items does not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RangeDigest {
    /// Items.
    pub count: u64,
    /// Of all but their expiries.
    pub sum: u64,
    /// Seconds since 1970 at which they end, added up, of those that end.
    pub expiries_s: u64,
}

impl RangeDigest {
    /// Whether both hold the same items, as far as sums tell. Expiries may differ by [`EXPIRY_TOLERANCE_S`] each: so one
    /// of them may hide in a full range by being off by more, but no value and no item that lacks an expiry.
    pub fn agrees(&self, other: &Self) -> bool {
        let apart = self.expiries_s.wrapping_sub(other.expiries_s);
        let apart = apart.min(apart.wrapping_neg());
        (self.count, self.sum) == (other.count, other.sum)
            && apart <= self.count.saturating_mul(EXPIRY_TOLERANCE_S)
    }

    fn add(&mut self, entry: &Entry) {
        self.count += 1;
        let (ends, at_s) = match entry.expiry {
            Expiry::At(at_s) => (ENDS, at_s),
            Expiry::Never | Expiry::Past => (0, 0),
        };
        // Multiplied by what depends on the key: values that change places must not cancel each other out.
        let item = (entry.digest ^ ends).wrapping_mul(entry.hash | 1).rotate_left(32) ^ entry.hash;
        self.sum = self.sum.wrapping_add(item.wrapping_mul(MIX));
        self.expiries_s = self.expiries_s.wrapping_add(at_s);
    }
}

/// The range digests of the 2^`bits` equal parts of all hashes, in order.
///
/// # Panics
/// With more than 24 bits, which no caller has a use for.
pub fn fold<'e>(entries: impl IntoIterator<Item = &'e Entry>, bits: u32) -> Vec<RangeDigest> {
    assert!(bits <= FOLD_BITS_MAX, "{bits} bits of ranges");
    let mut ranges = vec![RangeDigest::default(); 1 << bits];
    for entry in entries {
        let range = entry.hash.checked_shr(u64::BITS - bits).unwrap_or(0);
        ranges[range as usize].add(entry);
    }
    ranges
}

/// What two inventories have not in common.
#[derive(Debug, Default)]
pub struct Differences<'e> {
    /// Items that are the same on both sides.
    pub equal: u64,
    /// Keys that both sides hold, with other values, flags, marks or expiries: ours and theirs.
    pub different: Vec<(&'e Entry, &'e Entry)>,
    /// Keys that we alone hold.
    pub only_ours: Vec<&'e Entry>,
    /// Keys that they alone hold.
    pub only_theirs: Vec<&'e Entry>,
}

/// Compares two inventories of one span, each sorted by hash and then by key as a walk sorts them.
pub fn compare<'e>(ours: &'e [Entry], theirs: &'e [Entry]) -> Differences<'e> {
    let mut found = Differences::default();
    let (mut ours, mut theirs) = (ours.iter().peekable(), theirs.iter().peekable());
    loop {
        let order = match (ours.peek(), theirs.peek()) {
            (None, None) => return found,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(our), Some(their)) => our.place().cmp(&their.place()),
        };
        match order {
            Ordering::Less => found.only_ours.extend(ours.next()),
            Ordering::Greater => found.only_theirs.extend(theirs.next()),
            Ordering::Equal => match ours.next().zip(theirs.next()) {
                Some((our, their)) if our.is_same(their) => found.equal += 1,
                pair => found.different.extend(pair),
            },
        }
    }
}

impl Entry {
    fn place(&self) -> (u64, &[u8]) {
        (self.hash, &self.key)
    }

    /// Whether an app could not tell them apart.
    pub fn is_same(&self, other: &Self) -> bool {
        self.digest == other.digest
            && match (self.expiry, other.expiry) {
                (Expiry::At(one), Expiry::At(other)) => one.abs_diff(other) <= EXPIRY_TOLERANCE_S,
                (one, other) => one == other,
            }
    }
}

/// Seconds by which the expiries of one item may differ between sites: memcached counts whole seconds and its clock lags by
/// up to one, on either side.
pub const EXPIRY_TOLERANCE_S: u64 = 2;
const FOLD_BITS_MAX: u32 = 24;
/// An item that ends is not the same as one that does not, whatever the sums of expiries are.
const ENDS: u64 = 0x5555_5555_5555_5555;
/// Odd, so that it loses nothing; its bits are those of the golden ratio.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests;
