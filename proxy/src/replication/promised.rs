//! Versions given when a write begins, for a memcached that is told the version with the write itself, as its CAS.
//!
//! ```text
//!   session          Replica            memcached            dialers
//!     │── begin ───────►│ gate              │                   │
//!     │◄─ slot ─────────│                   │                   │
//!     │── promise ─────►│ stamp             │                   │
//!     │◄─ version ──────│                   │                   │
//!     │── the command, with E<version> ────►│                   │
//!     │◄────────────────────── the answer ──│                   │
//!     │── complete ────►│ owe               │                   │
//!     │                 │── poke ─────────────────────────────► │ take
//! ```
//!
//! The order of versions of a key still is the order in which memcached applied the writes: a version is promised when
//! the command is put on its lane, and the gate lets only writes of one lane in together. What changes is that a version
//! may be queued after a greater one of another key. So queues take it at its place, and no mark passes a version that
//! is promised and not kept.
//!
//! A promise is kept only by a write that took effect, and broken as soon as it is clear that no answer will come, for
//! the gate may stay closed for long then. One whose outcome is unknown is stamped afresh, and so is one that
//! was overtaken: a write of the same key that was promised nothing (the mode had just changed) ended in between. Its item
//! then has a CAS older than its version, which misleads nobody: what is sent for it says the CAS beside the version.

use std::collections::VecDeque;

use super::mutation::Effect;
use super::replica::{Replica, Slot};
use super::version::Version;

/// Versions that writes in flight will have. They rise, as the clock's stamps do.
#[derive(Debug, Default)]
pub(super) struct Promised(VecDeque<Version>);

impl Promised {
    /// The oldest one: no mark may reach it.
    pub(super) fn oldest(&self) -> Option<Version> {
        self.0.front().copied()
    }

    /// Most are taken back near the front, where taking out is cheap.
    fn take_back(&mut self, version: Version) {
        let found = self.0.binary_search(&version);
        debug_assert!(found.is_ok(), "a promise is taken back once");
        if let Ok(at) = found {
            self.0.remove(at);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_sorted(&self) -> bool {
        self.0.iter().is_sorted()
    }
}

impl<W> Replica<W> {
    /// The version of a write that holds its slot and goes on its lane now, before any other write of this key does.
    /// Give it back with [`complete_promised`](Self::complete_promised), exactly once.
    pub fn promise(&mut self, now_ms: u64) -> Version {
        let version = self.clock.stamp(now_ms);
        self.promised.0.push_back(version);
        version
    }

    /// A clock reading for the CAS of an item whose mutation is stamped later: unlike any other, and promised to nobody.
    pub fn reading(&mut self, now_ms: u64) -> Version {
        self.clock.stamp(now_ms)
    }

    /// A local write that was promised `version` has its answer. True: something new is owed, poke the dialers.
    pub fn complete_promised(
        &mut self,
        slot: Slot,
        version: Version,
        effect: Effect,
        now_ms: u64,
        woken: &mut Vec<(W, Slot)>,
    ) -> bool {
        self.promised.take_back(version);
        let kept = version > self.table[slot.0].version;
        if !kept || matches!(effect, Effect::None | Effect::Unknown) {
            return self.complete(slot, effect, now_ms, woken);
        }
        // Who waits for peers names the newest version there is now: one that nobody was told of while this was in flight.
        let _ = self.clock.stamp(now_ms);
        self.conclude(slot, version, effect, now_ms, woken)
    }

    /// The answer of a write that was promised `version` will never come. Its slot is held on, and completed as one
    /// that was promised nothing; marks no longer wait for it.
    pub fn break_promise(&mut self, version: Version) {
        self.promised.take_back(version);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Bounds, Marks, Owed, PeerId};
    use super::*;

    const NOW_MS: u64 = 1_700_000_000_000;
    const PEER: PeerId = PeerId(0);
    const ITEM: Effect =
        Effect::Item { payload: None, marks: Marks { stale: false, won: false, vivified: false } };

    fn replica() -> Replica<()> {
        let mut replica = Replica::new("a", 1, Bounds::default());
        replica.connected(PEER);
        replica
    }

    fn begin(replica: &mut Replica<()>, key: &[u8]) -> (Slot, Version) {
        let slot = replica.begin(key, 1, || ()).expect("nobody else is there");
        (slot, replica.promise(NOW_MS))
    }

    fn complete(replica: &mut Replica<()>, (slot, version): (Slot, Version), effect: Effect) {
        replica.complete_promised(slot, version, effect, NOW_MS, &mut Vec::new());
        replica.check_invariants();
    }

    fn taken(replica: &mut Replica<()>) -> Vec<Version> {
        let mut owed = Vec::new();
        replica.take(PEER, usize::MAX, NOW_MS, &mut owed);
        let version = |owed| match owed {
            Owed::Key { version, .. } | Owed::Flush { version, .. } => version,
        };
        owed.into_iter().map(version).collect()
    }

    #[test]
    fn no_mark_passes_a_promise() {
        let mut replica = replica();
        let (first, second) = (begin(&mut replica, b"k"), begin(&mut replica, b"l"));
        complete(&mut replica, second, ITEM);
        assert_eq!(taken(&mut replica), [second.1]);
        assert!(replica.mark(PEER, NOW_MS).version < first.1);
        complete(&mut replica, first, ITEM);
        assert_eq!(taken(&mut replica), [first.1], "behind a newer one, and no mark lied");
        assert!(replica.mark(PEER, NOW_MS).version > second.1);
        replica.disconnected(PEER);
        replica.check_invariants();
        replica.connected(PEER);
        assert_eq!(taken(&mut replica), [first.1, second.1], "in order again");
    }

    #[test]
    fn a_reading_is_like_no_other_and_holds_no_mark_up() {
        let mut replica = replica();
        let first = begin(&mut replica, b"k");
        let reading = replica.reading(NOW_MS);
        let second = begin(&mut replica, b"l");
        assert!(first.1 < reading && reading < second.1);
        complete(&mut replica, first, ITEM);
        complete(&mut replica, second, ITEM);
        assert_eq!(taken(&mut replica), [first.1, second.1]);
        assert!(replica.mark(PEER, NOW_MS).version > second.1);
    }

    #[test]
    fn what_comes_late_is_not_settled_before_it_is_acknowledged() {
        let mut replica = replica();
        let (first, second) = (begin(&mut replica, b"k"), begin(&mut replica, b"l"));
        complete(&mut replica, second, ITEM);
        assert_eq!(taken(&mut replica).len(), 1);
        assert!(replica.acknowledge(PEER, 1, 0, NOW_MS));
        let shown = replica.settled().live;
        complete(&mut replica, first, ITEM);
        let named = replica.latest();
        assert!(named > shown && named > replica.settled().live);
        assert_eq!(taken(&mut replica).len(), 1);
        assert!(replica.acknowledge(PEER, 2, 0, NOW_MS));
        assert!(replica.settled().live >= named);
    }

    #[test]
    fn what_took_no_effect_or_an_unknown_one_does_not_use_its_promise() {
        let mut replica = replica();
        let (none, unknown) = (begin(&mut replica, b"k"), begin(&mut replica, b"l"));
        complete(&mut replica, none, Effect::None);
        complete(&mut replica, unknown, Effect::Unknown);
        assert!(taken(&mut replica)[0] > unknown.1);
    }

    #[test]
    fn a_broken_promise_stamps_nothing_and_leaves_the_gate_closed() {
        let mut replica = replica();
        let (slot, version) = begin(&mut replica, b"k");
        replica.break_promise(version);
        replica.check_invariants();
        assert_eq!((replica.counters().stamped, taken(&mut replica)), (0, vec![]));
        assert!(replica.begin(b"k", 2, || ()).is_none(), "nobody else is let in");
        let passed = replica.mark(PEER, NOW_MS).version;
        assert!(passed > version, "marks do not stand still");
        replica.complete(slot, Effect::Removed, NOW_MS, &mut Vec::new());
        assert!(taken(&mut replica)[0] > passed);
        replica.check_invariants();
    }

    #[test]
    fn a_promise_that_was_overtaken_is_not_kept() {
        let mut replica = replica();
        let older = replica.begin(b"k", 1, || ()).expect("the gate is open");
        let newer = begin(&mut replica, b"k");
        replica.complete(older, Effect::Removed, NOW_MS, &mut Vec::new());
        let stamped = replica.known(b"k");
        assert!(stamped > newer.1);
        complete(&mut replica, newer, ITEM);
        assert!(replica.known(b"k") > stamped);
    }
}
