//! Keys that are given up for a peer, on their way to a list outside: a disk, where one was given to us.
//!
//! A listed key needs no version and no value. It means that the peer must get its current state, which is pushed as
//! a *state* and so loses to everything newer. So what is given up is not lost as long as its list is complete: the
//! gap says that it is listed, and is closed when the list has been delivered.
//!
//! What happens to lists is told in the order of the replica's steps, and passed on before the lock is given up: that
//! a list begins anew must not overtake a key, nor be overtaken by one. What waits here has just left the ledger, so
//! the ledger's bound is its bound.

use std::sync::Arc;

use super::history::Loss;
use super::peer::What;
use super::replica::{PeerId, Replica};
use super::status::Gap;
use super::version::Version;

/// What is to be done to a peer's list.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Listing {
    /// The peer must get the state of this key.
    Add {
        /// Whose list.
        peer: PeerId,
        /// The key as bytes.
        key: Arc<[u8]>,
    },
    /// The peer lacks nothing but what memory owes it: its list begins anew.
    Anew {
        /// Whose list.
        peer: PeerId,
    },
}

/// What a run before this one has left on a peer's list.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Left {
    /// Keys on it.
    pub keys: u64,
    /// They are all that the peer was owed.
    pub whole: bool,
}

/// Whether lists are kept, and what is to be told to them.
#[derive(Debug, Default)]
pub(super) struct Lister {
    pub(super) kept: bool,
    told: Vec<Listing>,
    /// Peers whose list says all that the last run owed them, one bit each.
    whole: u64,
}

impl Lister {
    pub(super) fn add(&mut self, peer: usize, key: &Arc<[u8]>) {
        self.told.push(Listing::Add { peer: PeerId(peer), key: Arc::clone(key) });
    }

    /// The last run left nothing that is not on the peer's list.
    pub(super) fn is_whole(&self, peer: usize) -> bool {
        self.whole & (1 << peer) != 0
    }

    /// Another peer has this place: what was left to the one before is no concern of it.
    pub(super) fn begin(&mut self, peer: usize) {
        self.whole &= !(1 << peer);
    }

    pub(super) fn anew(&mut self, peer: usize) {
        if self.kept {
            self.told.push(Listing::Anew { peer: PeerId(peer) });
        }
    }
}

impl<W> Replica<W> {
    /// From now on what is given up is listed. `left` is what is on the lists already, in the order of `PeerId`.
    pub fn keep_lists(&mut self, left: &[Left], now_ms: u64) {
        self.lister.kept = true;
        for (index, (peer, left)) in self.peers.iter_mut().zip(left).enumerate() {
            self.lister.whole |= u64::from(left.whole) << index;
            if left.keys > 0 {
                peer.gap =
                    Some(Gap { since_ms: now_ms, mutations: left.keys, listed: true, last: Version::ZERO });
            }
        }
    }

    /// What is to be done to lists, in this order.
    pub fn take_listings(&mut self) -> Vec<Listing> {
        std::mem::take(&mut self.lister.told)
    }

    /// A list has lost a key: what was given up for the peer since it began is lost.
    pub fn unlist(&mut self, peer: PeerId) {
        let peer = &mut self.peers[peer.0];
        if let Some(gap) = peer.gap.as_mut().filter(|gap| gap.listed) {
            gap.listed = false;
            peer.counters.lost += gap.mutations;
            self.counters.lost += gap.mutations;
        }
    }

    /// Everything on the peer's list has arrived there, and nothing was listed since.
    pub fn list_delivered(&mut self, peer: PeerId) {
        self.peers[peer.0].gap.take_if(|gap| gap.listed);
    }

    /// The proxy stops: lists what the peer does not have, in flight, queued or unacknowledged. True: with that the
    /// list says all that the peer is owed, by this life and those before it.
    pub fn list_rest(&mut self, peer: PeerId) -> bool {
        let bit = 1_u64 << peer.0;
        let left = self.table.indices().map(|at| &self.table[at]);
        for entry in left.filter(|entry| entry.owed & bit != 0 || !entry.gate.is_idle()) {
            self.lister.add(peer.0, &entry.key);
        }
        let known = &self.peers[peer.0];
        let sent_flush = known.window.iter().any(|sent| matches!(sent.what, What::Flush | What::Scheduled));
        let flush = known.flush.is_some() || known.scheduled.is_some() || sent_flush;
        // What an earlier life left is known once the peer has told, or if that life listed it.
        let told = known.history.is_met() || self.lister.is_whole(peer.0);
        // What was changed and has no gate is in no entry.
        !flush && told && self.unstamped == 0 && self.loss(peer) == Loss::Nothing && self.flush_gate.is_open()
    }
}
