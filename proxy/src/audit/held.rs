//! A key on all replicas at once, and what that says. Pure.

use std::iter::Peekable;
use std::vec::IntoIter;

use memcloud_protocol::memcache::expiry::Expiry;

use crate::inventory::{EXPIRY_TOLERANCE_S, Entry};

/// A key that at least one replica holds, and what each of them holds for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) hash: u64,
    pub(super) key: Box<[u8]>,
    pub(super) on: Vec<Option<Entry>>,
}

/// How a key differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Equal,
    /// Value, flags or stale mark.
    Value,
    /// Only when it ends.
    Expiry,
    /// Some replicas lack it, and the others agree.
    OneSided,
}

/// All keys of a span, compared.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    pub(super) equal: u64,
    /// By hash and then by key.
    pub(super) differing: Vec<Held>,
}

/// Puts side by side what each replica holds; each list is sorted by hash and then by key. What is about to end at
/// `now_s` is left out if it differs.
pub(super) fn sort(replicas: Vec<Vec<Entry>>, now_s: u64) -> Sorted {
    let mut sorted = Sorted::default();
    let mut replicas: Vec<_> = replicas.into_iter().map(|entries| entries.into_iter().peekable()).collect();
    while let Some(held) = next(&mut replicas) {
        match held.kind() {
            Kind::Equal => sorted.equal += 1,
            _ if held.is_ending(now_s) => {}
            _ => sorted.differing.push(held),
        }
    }
    sorted
}

/// The least key of all lists, taken from each that has it.
fn next(replicas: &mut [Peekable<IntoIter<Entry>>]) -> Option<Held> {
    let least =
        replicas.iter_mut().filter_map(Peekable::peek).min_by_key(|entry| (entry.hash, &entry.key))?;
    let (hash, key) = (least.hash, least.key.clone());
    let of_key = |entry: &Entry| entry.hash == hash && entry.key == key;
    let on = replicas.iter_mut().map(|replica| replica.next_if(of_key)).collect();
    Some(Held { hash, key, on })
}

impl Held {
    pub(super) fn kind(&self) -> Kind {
        let present = || self.on.iter().flatten();
        let all =
            |same: fn(&Entry, &Entry) -> bool| present().all(|one| present().all(|other| same(one, other)));
        if !all(|one, other| one.digest == other.digest) {
            Kind::Value
        } else if !all(Entry::is_same) {
            Kind::Expiry
        } else if self.on.iter().any(Option::is_none) {
            Kind::OneSided
        } else {
            Kind::Equal
        }
    }

    /// Whether every copy is so near its end that memcacheds need not agree about it.
    fn is_ending(&self, now_s: u64) -> bool {
        let ends =
            |entry: &Entry| matches!(entry.expiry, Expiry::At(at_s) if at_s <= now_s + EXPIRY_TOLERANCE_S);
        self.on.iter().flatten().all(ends)
    }

    /// Whether what differs now and differed `earlier` was not just on its way from one replica to another: one of two
    /// that differ has held the same all the time. One that lacked the key all the time proves nothing by itself, for the
    /// key may have come and gone; then the other one has to have rested.
    pub(super) fn is_proven_since(&self, earlier: &Self) -> bool {
        let rested: Vec<bool> = self
            .on
            .iter()
            .zip(&earlier.on)
            .map(|(now, then)| is_unchanged(now.as_ref(), then.as_ref()))
            .collect();
        let apart = |of: &Self, one: usize, other: usize| match (&of.on[one], &of.on[other]) {
            (Some(one), Some(other)) => !one.is_same(other),
            (one, other) => one.is_some() != other.is_some(),
        };
        (0..self.on.len()).any(|one| {
            rested[one]
                && self.on[one].is_some()
                && (0..self.on.len()).any(|other| apart(self, one, other) && apart(earlier, one, other))
        })
    }
}

/// Whether an item is the one that was there earlier.
fn is_unchanged(now: Option<&Entry>, then: Option<&Entry>) -> bool {
    match (now, then) {
        (Some(now), Some(then)) => {
            now.is_same(then) && (now.cas == then.cas || now.cas == 0 || then.cas == 0)
        }
        (now, then) => now.is_none() && then.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::hash;

    const NOW_S: u64 = 1_000;

    fn entry(key: &str, digest: u64, cas: u64) -> Entry {
        let key: Box<[u8]> = key.as_bytes().into();
        Entry { hash: hash(&key), key, digest, expiry: Expiry::Never, cas }
    }

    fn ending(at_s: u64) -> Entry {
        Entry { expiry: Expiry::At(at_s), ..entry("k", 1, 1) }
    }

    fn held(on: &[Option<(u64, u64)>]) -> Held {
        let on = on.iter().map(|seen| seen.map(|(digest, cas)| entry("k", digest, cas))).collect();
        Held { hash: hash(b"k"), key: (*b"k").into(), on }
    }

    fn list(keys: &[(&str, u64)]) -> Vec<Entry> {
        let mut list: Vec<_> = keys.iter().map(|(key, digest)| entry(key, *digest, 1)).collect();
        list.sort_by(|a, b| (a.hash, &a.key).cmp(&(b.hash, &b.key)));
        list
    }

    #[test]
    fn three_replicas_side_by_side() {
        let sorted = sort(
            vec![
                list(&[("all", 1), ("two", 1), ("value", 1), ("one", 1)]),
                list(&[("all", 1), ("two", 1), ("value", 2)]),
                list(&[("all", 1), ("value", 1), ("other", 1)]),
            ],
            NOW_S,
        );
        assert_eq!(sorted.equal, 1);
        let mut kinds: Vec<_> = sorted
            .differing
            .iter()
            .map(|held| (String::from_utf8_lossy(&held.key).into_owned(), held.kind()))
            .collect();
        kinds.sort_by(|a, b| a.0.cmp(&b.0));
        let expected = [
            ("one", Kind::OneSided),
            ("other", Kind::OneSided),
            ("two", Kind::OneSided),
            ("value", Kind::Value),
        ];
        assert_eq!(kinds, expected.map(|(key, kind)| (key.to_owned(), kind)));
        let found = sorted.differing.iter().find(|held| &*held.key == b"two").unwrap();
        assert_eq!(found.on.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, false]);
    }

    #[test]
    fn expiries_and_what_is_about_to_end() {
        let of = |one: Vec<Entry>, other: Vec<Entry>| sort(vec![one, other], NOW_S);
        assert_eq!(of(vec![ending(5_000)], vec![ending(5_002)]).equal, 1);
        assert_eq!(of(vec![ending(5_000)], vec![ending(5_003)]).differing[0].kind(), Kind::Expiry);
        assert_eq!(of(vec![ending(5_000)], vec![entry("k", 1, 1)]).differing[0].kind(), Kind::Expiry);
        assert!(of(vec![ending(1_002)], vec![]).differing.is_empty(), "it ends everywhere");
        assert_eq!(of(vec![ending(1_003)], vec![]).differing.len(), 1);
        assert_eq!(of(vec![ending(1_000)], vec![entry("k", 1, 1)]).differing.len(), 1, "the other one stays");
    }

    #[test]
    fn what_rested_and_differs_is_proven() {
        let proven =
            |then: &[Option<(u64, u64)>], now: &[Option<(u64, u64)>]| held(now).is_proven_since(&held(then));
        let (a, b, a2) = (Some((1, 10)), Some((2, 20)), Some((3, 11)));
        assert!(proven(&[a, b], &[a, b]), "both rested");
        assert!(proven(&[a, b], &[a2, b]), "b heard nothing of a");
        assert!(!proven(&[a, b], &[a2, Some((1, 21))]), "b follows a");
        assert!(proven(&[a, None], &[a, None]), "b never got it");
        assert!(!proven(&[a, None], &[a2, None]), "it comes and goes");
        assert!(!proven(&[None, None, a], &[a, None, Some((1, 12))]), "it came again");
        assert!(!proven(&[a, a], &[a, b]), "it differs only now");
        assert!(!proven(&[a, Some((2, 20))], &[a, Some((2, 20))].map(|_| a)), "it is equal now");
        // Rewritten with the same value: somebody writes.
        assert!(!proven(&[a, b], &[Some((1, 12)), Some((2, 22))]));
        // Without CAS, or where a win was given back, the value has to do.
        assert!(proven(&[a, b], &[Some((1, 0)), Some((2, 0))]));
    }
}
