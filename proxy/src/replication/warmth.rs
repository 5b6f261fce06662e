//! Whether our memcached holds what it should: it may have started again, empty, with or without our noticing.
//!
//! An empty memcached makes the site *warming* until a peer has copied everything to it, or until there is nobody to
//! copy from. What the ledger knew stays true: older mutations of peers still lose. Two things change. A write whose
//! outcome was not known is gone for sure, and peers hold what was there before it, so it is not sent as a deletion;
//! its key is looked up at a peer when the copy has ended. And what was owed without its value is owed as a deletion,
//! because what a peer holds of it is older than what an app was told: to all peers, and newer than what some of them had of it.

use std::sync::Arc;

use super::mutation::{Effect, Marks};
use super::replica::{Replica, Slot};
use super::version::Version;

/// What is known of our memcached's contents.
#[derive(Debug, Default)]
pub(super) struct Warmth {
    /// It was empty when this life of the proxy first saw it.
    pub(super) started_empty: Option<bool>,
    /// It was empty when it was seen last, and nothing was stored there since.
    pub(super) untouched: bool,
    /// Something was written here in this life of the proxy.
    pub(super) written: bool,
    /// Since when it is being filled.
    pub(super) warming: Option<Version>,
    /// It was called whole because nobody could fill it; who was filled meanwhile may have what was owed to it.
    looking_again: bool,
    /// Keys that the copy could not decide.
    undecided: Vec<Arc<[u8]>>,
    /// There was no room to note another one.
    overflowed: bool,
}

impl Warmth {
    /// An earlier life of the proxy ended while memcached was being filled: what it lacks is not known to be here.
    pub(super) fn begin_again(&mut self, now: Version) {
        self.warming.get_or_insert(now);
    }

    /// It is empty, and what was done to it before is nobody's concern.
    pub(super) fn begin_afresh(&mut self) {
        (self.started_empty, self.untouched, self.written) = (Some(true), true, false);
    }
}

impl<W> Replica<W> {
    /// memcached was seen for the first time in this life.
    pub fn memcached_found(&mut self, empty: bool) {
        self.warmth.started_empty = Some(empty);
        self.warmth.untouched = empty;
        if empty && self.has_peers() {
            self.warmth.warming = Some(self.clock.stamp(0));
        }
    }

    /// memcached has started again, empty.
    pub fn memcached_restarted(&mut self) {
        self.counters.memcached_restarts += 1;
        self.warmth.untouched = true;
        if !self.has_peers() {
            return;
        }
        self.warmth.warming = Some(self.clock.stamp(0));
        let unsure: Vec<u32> = self.table.indices().filter(|at| self.table[*at].unsure).collect();
        for at in unsure {
            self.forgive(at);
        }
        self.disown_lost_values();
    }

    /// Values that are owed and were to be read from memcached are gone with it, so they are owed as deletions. Of several peers
    /// some may have had them: these are owed the deletion, too, so it is newer than what they had. What an app has
    /// written to the new one meanwhile is read, and sent.
    fn disown_lost_values(&mut self) {
        if self.peer_ids().count() < 2 {
            return;
        }
        let lost = |at: &u32| matches!(self.table[*at].effect(), Effect::Item { payload: None, .. });
        let lost: Vec<u32> = self.table.indices().filter(lost).collect();
        for at in lost {
            let version = self.clock.stamp(0);
            self.owe(at, version, Effect::Item { payload: None, marks: Marks::default() }, version.millis());
        }
    }

    /// It holds what was written to it before it was asked who it is.
    pub fn memcached_is_touched(&mut self) {
        self.warmth.untouched = false;
    }

    /// There is somebody who can fill it.
    pub(super) fn first_peer_came(&mut self, now: Version) {
        if self.warmth.untouched {
            self.warmth.warming = Some(now);
        }
    }

    /// Nobody is left who could.
    pub(super) fn last_peer_went(&mut self) {
        (self.warmth.warming, self.warmth.looking_again) = (None, false);
    }

    /// Since when memcached is being filled; None: it holds what it should.
    pub fn warming(&self) -> Option<Version> {
        self.warmth.warming
    }

    /// It was empty when it was seen last, and nothing was stored there since.
    pub fn is_untouched(&self) -> bool {
        self.warmth.untouched
    }

    /// A copy that began at `since` has ended, or there is nobody to copy from. False: memcached was emptied again.
    pub fn warmed(&mut self, since: Version) -> bool {
        if self.warmth.warming.is_some_and(|warming| warming <= since) {
            self.warmth.warming = None;
        }
        self.warmth.warming.is_none()
    }

    /// All peers are as empty as we are, so somebody has to begin: we are whole, but look again when they are.
    pub fn warmed_first(&mut self, since: Version) -> bool {
        self.warmth.looking_again = self.warmed(since);
        self.warmth.looking_again
    }

    /// All that a peer had at `since` or later is here. `last`: there is nobody left to look at again.
    pub fn copied(&mut self, since: Version, last: bool) {
        if self.warmed(since) && last {
            self.looked_again();
        }
    }

    /// What peers had of ours is here, or they are gone; unless memcached is being filled, whose copy says it then.
    pub fn looked_again(&mut self) {
        self.warmth.looking_again &= self.warmth.warming.is_some();
    }

    /// memcached holds what it should, as far as can be known.
    pub(super) fn is_warm(&self) -> bool {
        self.warmth.warming.is_none() && !self.warmth.looking_again
    }

    /// Notes a key whose state is to be asked for once more. False: too many; everything has to be compared.
    pub fn note_undecided(&mut self, key: &[u8]) -> bool {
        if self.warmth.undecided.len() >= UNDECIDED_MAX {
            self.warmth.overflowed = true;
            return false;
        }
        self.warmth.undecided.push(Arc::from(key));
        true
    }

    /// The keys noted so far, and whether these are all.
    pub fn take_undecided(&mut self) -> (Vec<Arc<[u8]>>, bool) {
        let whole = !std::mem::take(&mut self.warmth.overflowed);
        (std::mem::take(&mut self.warmth.undecided), whole)
    }

    /// Writes whose outcome is not known, and never will be: their memcached is gone and its next life is empty. Peers
    /// hold what was there before them, so nothing is told to anybody.
    pub fn died_with_memcached(&mut self, slots: Vec<Slot>, woken: &mut Vec<(W, Slot)>) {
        for slot in slots {
            let key = Arc::clone(&self.table[slot.0].key);
            self.note_undecided(&key);
            self.complete(slot, Effect::None, 0, woken);
        }
    }

    /// A write without known outcome, of a memcached that is gone: nobody is owed anything.
    pub(super) fn forgive(&mut self, at: u32) {
        let key = Arc::clone(&self.table[at].key);
        self.table[at].unsure = false;
        self.void(at);
        self.note_undecided(&key);
    }
}

/// Far more writes than are on their way to a memcached when it dies.
const UNDECIDED_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::super::Bounds;
    use super::super::mutation::Owed;
    use super::super::replica::PeerId;
    use super::*;

    /// Found by the simulation: one of two peers had the value for good, and the other one was sent a deletion under its version.
    #[test]
    fn a_value_that_is_gone_before_all_had_it_is_deleted_everywhere() {
        let now_ms = 1_700_000_000_000;
        let mut replica: Replica<()> = Replica::new("a", 2, Bounds::default());
        let (first, second) = (PeerId(0), PeerId(1));
        replica.memcached_found(false);
        replica.connected(first);
        let slot = replica.begin(b"k", 1, || ()).expect("nobody else is there");
        let effect = Effect::Item { payload: None, marks: Marks::default() };
        replica.complete(slot, effect, now_ms, &mut Vec::new());
        let take = |replica: &mut Replica<()>, to| {
            let mut owed = Vec::new();
            replica.take(to, usize::MAX, now_ms, &mut owed);
            owed.into_iter()
                .map(|owed| match owed {
                    Owed::Key { version, .. } => version,
                    Owed::Flush { .. } => panic!("nobody flushed"),
                })
                .collect::<Vec<Version>>()
        };
        let sent = take(&mut replica, first);
        assert!(replica.acknowledge(first, 1, 0, now_ms));
        replica.memcached_restarted();
        let again = take(&mut replica, first);
        assert!(again.len() == 1 && again > sent, "it is to drop what it has");
        replica.connected(second);
        assert_eq!(take(&mut replica, second), again);
        replica.check_invariants();
    }

    /// Found by the simulation: the site was never in sync again.
    #[test]
    fn one_that_was_whole_first_and_is_emptied_again_is_warm_after_the_copy() {
        let mut replica: Replica<()> = Replica::new("a", 1, Bounds::default());
        replica.memcached_found(true);
        let since = replica.warming().expect("it was empty");
        assert!(replica.warmed_first(since));
        assert!(!replica.is_warm(), "the others may have what was owed to them");
        replica.memcached_restarted();
        replica.looked_again();
        let again = replica.warming().expect("it is empty again");
        replica.copied(since, true);
        assert!(!replica.is_warm(), "a copy into the one before");
        replica.copied(again, true);
        assert!(replica.is_warm());
    }

    #[test]
    fn beyond_the_bound_of_undecided_keys_everything_is_compared() {
        let mut replica: Replica<()> = Replica::new("a", 1, Bounds::default());
        for at in 0..UNDECIDED_MAX {
            assert!(replica.note_undecided(&at.to_be_bytes()), "{at}");
        }
        let (keys, whole) = replica.take_undecided();
        assert!(keys.len() == UNDECIDED_MAX && whole);
        keys.iter().for_each(|key| assert!(replica.note_undecided(key)));
        assert!(!replica.note_undecided(b"one more"));
        let (keys, whole) = replica.take_undecided();
        assert!(keys.len() == UNDECIDED_MAX && !whole, "one is not among them");
        let (keys, whole) = replica.take_undecided();
        assert!(keys.is_empty() && whole, "that was told once");
    }

    #[test]
    fn a_copy_that_is_not_the_last_one_leaves_others_to_look_at() {
        let mut replica: Replica<()> = Replica::new("a", 2, Bounds::default());
        replica.memcached_found(true);
        let since = replica.warming().expect("it was empty");
        assert!(replica.warmed_first(since));
        replica.copied(since, false);
        assert!(!replica.is_warm());
        replica.copied(since, true);
        assert!(replica.is_warm());
    }
}
