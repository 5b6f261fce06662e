use std::collections::BTreeMap;

use proptest::collection::btree_map;
use proptest::prelude::*;

use super::super::hash;
use super::*;

type Store = BTreeMap<u16, (u64, Option<u64>)>;

/// Keys, digests and expiries from small ranges, so that two stores have much in common.
fn store() -> impl Strategy<Value = Store> {
    btree_map(0..200_u16, (0..3_u64, proptest::option::of(1000..1010_u64)), 0..100)
}

fn entries(store: &Store) -> Vec<Entry> {
    let mut entries: Vec<Entry> =
        store.iter().map(|(&key, &(digest, at_s))| entry(key, digest, at_s)).collect();
    entries.sort_by(|a, b| a.place().cmp(&b.place()));
    entries
}

fn entry(key: u16, digest: u64, at_s: Option<u64>) -> Entry {
    let key: Box<[u8]> = format!("key:{key}").into_bytes().into();
    let expiry = at_s.map_or(Expiry::Never, Expiry::At);
    Entry { hash: hash(&key), key, digest, expiry, cas: 0 }
}

fn is_same(one: &(u64, Option<u64>), other: &(u64, Option<u64>)) -> bool {
    one.0 == other.0
        && match (one.1, other.1) {
            (Some(one), Some(other)) => one.abs_diff(other) <= 2,
            (one, other) => one == other,
        }
}

proptest! {
    /// What a plain look at both maps says.
    #[test]
    fn comparing_by_merging_finds_what_there_is(ours in store(), theirs in store()) {
        let (our_entries, their_entries) = (entries(&ours), entries(&theirs));
        let found = compare(&our_entries, &their_entries);
        let both = || ours.iter().filter_map(|(key, our)| Some((our, theirs.get(key)?)));
        prop_assert_eq!(found.equal, both().filter(|(our, their)| is_same(our, their)).count() as u64);
        prop_assert_eq!(found.different.len() as u64, both().count() as u64 - found.equal);
        prop_assert!(found.different.iter().all(|(our, their)| our.key == their.key && !our.is_same(their)));
        prop_assert_eq!(found.only_ours.len(), ours.keys().filter(|key| !theirs.contains_key(key)).count());
        prop_assert_eq!(found.only_theirs.len(), theirs.keys().filter(|key| !ours.contains_key(key)).count());
    }

    #[test]
    fn the_order_of_items_does_not_matter(store in store(), bits in 0_u32..10) {
        let entries = entries(&store);
        prop_assert_eq!(fold(&entries, bits), fold(entries.iter().rev(), bits));
    }

    /// Ranges that are finer add up to those that are coarser.
    #[test]
    fn ranges_hold_what_they_should(store in store(), bits in 0_u32..10) {
        let entries = entries(&store);
        let ranges = fold(&entries, bits);
        prop_assert_eq!(ranges.len(), 1 << bits);
        let whole = fold(&entries, 0)[0];
        prop_assert_eq!(whole.count, store.len() as u64);
        prop_assert_eq!(ranges.iter().map(|range| range.count).sum::<u64>(), whole.count);
        prop_assert_eq!(ranges.iter().fold(0, |sum: u64, range| sum.wrapping_add(range.sum)), whole.sum);
    }

    /// A range agrees exactly if nothing in it differs, but for expiries that hide behind the others' tolerance.
    #[test]
    fn a_value_or_an_item_more_is_seen(store in store(), key in 0_u16..200, digest in 0_u64..3) {
        let mut other = store.clone();
        other.insert(key, (digest, None));
        let same = store.get(&key) == Some(&(digest, None));
        prop_assert_eq!(fold(&entries(&store), 0)[0].agrees(&fold(&entries(&other), 0)[0]), same);
    }

    #[test]
    fn expiries_within_the_tolerance_agree(store in store(), off in proptest::collection::vec(0_u64..=2, 100)) {
        let later: Store = store
            .iter()
            .zip(off)
            .map(|((&key, &(digest, at_s)), off)| (key, (digest, at_s.map(|at_s| at_s + off))))
            .collect();
        let (one, other) = (entries(&store), entries(&later));
        let all_agree = fold(&one, 4).iter().zip(fold(&other, 4)).all(|(one, other)| one.agrees(&other) && other.agrees(one));
        prop_assert!(all_agree);
        prop_assert_eq!(compare(&one, &other).equal, store.len() as u64);
    }
}

#[test]
fn values_that_change_places_are_seen() {
    let one = [entry(1, 7, None), entry(2, 8, None)];
    let other = [entry(1, 8, None), entry(2, 7, None)];
    assert!(!fold(&one, 0)[0].agrees(&fold(&other, 0)[0]));
}

#[test]
fn an_expiry_far_off_is_seen() {
    let one = [entry(1, 7, Some(1000)), entry(2, 8, None)];
    let other = [entry(1, 7, Some(2000)), entry(2, 8, None)];
    assert!(!fold(&one, 0)[0].agrees(&fold(&other, 0)[0]));
    assert_eq!(compare(&one, &other).different.len(), 1);
}

#[test]
fn an_item_that_ends_is_not_one_that_stays() {
    assert!(!entry(1, 7, Some(0)).is_same(&entry(1, 7, None)));
    assert!(!fold(&[entry(1, 7, Some(0))], 0)[0].agrees(&fold(&[entry(1, 7, None)], 0)[0]));
}
