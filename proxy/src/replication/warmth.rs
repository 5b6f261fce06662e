//! Whether our memcached holds what it should: it may have started again, empty, with or without our noticing.
//!
//! An empty memcached makes the site *warming* until a peer has copied everything to it, or until there is nobody to
//! copy from. What the ledger knew stays true: older mutations of peers still lose. Two things change. A write whose
//! outcome was not known is gone for sure, and peers hold what was there before it, so it is not sent as a deletion;
//! its key is looked up at a peer when the copy has ended. And what was owed without its value is owed as a deletion,
//! because what a peer holds of it is older than what an app was told.

use std::sync::Arc;

use super::mutation::Effect;
use super::replica::{Replica, Slot};
use super::version::Version;

/// What is known of our memcached's contents.
#[derive(Debug, Default)]
pub(super) struct Warmth {
    /// It was empty when this life of the proxy first saw it.
    pub(super) started_empty: Option<bool>,
    /// Since when it is being filled.
    pub(super) warming: Option<Version>,
    /// It was called whole because nobody could fill it; who was filled meanwhile may have what was owed to it.
    looking_again: bool,
    /// Keys that the copy could not decide.
    undecided: Vec<Arc<[u8]>>,
    /// There was no room to note another one.
    overflowed: bool,
}

impl<W> Replica<W> {
    /// memcached was seen for the first time in this life.
    pub fn memcached_found(&mut self, empty: bool) {
        self.warmth.started_empty = Some(empty);
        if empty && !self.peers.is_empty() {
            self.warmth.warming = Some(self.clock.stamp(0));
        }
    }

    /// memcached has started again, empty.
    pub fn memcached_restarted(&mut self) {
        self.counters.memcached_restarts += 1;
        if self.peers.is_empty() {
            return;
        }
        self.warmth.warming = Some(self.clock.stamp(0));
        let unsure: Vec<u32> = self.table.indices().filter(|at| self.table[*at].unsure).collect();
        for at in unsure {
            self.forgive(at);
        }
    }

    /// Since when memcached is being filled; None: it holds what it should.
    pub fn warming(&self) -> Option<Version> {
        self.warmth.warming
    }

    /// memcached held nothing when this life of the proxy first saw it.
    pub fn started_empty(&self) -> bool {
        self.warmth.started_empty == Some(true)
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

    /// What peers had of ours is here.
    pub fn looked_again(&mut self) {
        self.warmth.looking_again = false;
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
