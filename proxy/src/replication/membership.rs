//! Peers that come and go while the replica runs.
//!
//! ```text
//!             join                       part                    forget_parted, in slices
//!   vacant ─────────► present ─────────────────────► parted ───────────────────────────────► vacant
//!     ▲                  counts: marks, acks, in_sync     owed nothing more, counts for nothing   │
//!     └──────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! A peer that comes begins with nothing known of it. What was written here before it came was owed to others only, so
//! it may be missing there: a loss of ours (`lacks`), to be made good as any other. It is none if nothing was written in
//! this life of the proxy: then the peer is as one that was there from the start, and if memcached is empty as well, the
//! site is filled as after a start. And what the ledger forgot before it came is doubtful when it comes from there.
//!
//! A peer that goes is owed nothing: its backlog is dropped, not lost. Who waits for it waits no more. What it wrote may
//! have reached some of us and not the others, who doubt each other then, unless it has said goodbye.

use super::peer::{Peer, What};
use super::replica::{PEERS_MAX, PeerId, Replica};
use super::room::Room;
use super::version::Version;

impl<W> Replica<W> {
    /// The peers there are.
    pub fn peer_ids(&self) -> impl Iterator<Item = PeerId> {
        self.peers.iter().enumerate().filter(|(_, peer)| peer.present).map(|(index, _)| PeerId(index))
    }

    /// Whether there is such a peer.
    pub fn has_peer(&self, peer: PeerId) -> bool {
        self.peers.get(peer.0).is_some_and(|peer| peer.present)
    }

    /// When a peer came, which tells it from one that has its place later; none if there is no peer.
    pub fn came(&self, peer: PeerId) -> Option<Version> {
        self.peers.get(peer.0).filter(|peer| peer.present).map(|peer| peer.came)
    }

    /// A peer comes, to a place where there is none. False: there is no such place.
    pub fn join(&mut self, peer: PeerId) -> bool {
        if peer.0 >= PEERS_MAX || self.peers.get(peer.0).is_some_and(|place| !place.is_vacant()) {
            return false;
        }
        let alone = !self.has_peers();
        let now = self.clock.stamp(0);
        while self.peers.len() <= peer.0 {
            self.peers.push(Peer::default());
        }
        self.lister.begin(peer.0);
        let mut joined =
            Peer { present: true, came: now, doubt: self.horizon, floor: now, ..Peer::default() };
        if self.warmth.written {
            joined.history.joined(now);
        }
        self.peers[peer.0] = joined;
        if alone {
            self.first_peer_came(now);
        }
        self.find_stable();
        true
    }

    /// Our memcached was emptied, and nobody who comes is told what was written before. Only right without peers.
    pub fn begin_afresh(&mut self) {
        if !self.has_peers() {
            self.warmth.begin_afresh();
        }
    }

    /// A peer goes: nothing waits for it any more. Its links have to be closed; what it was owed is to be dropped by
    /// [`forget_parted`](Self::forget_parted). Says how much that is.
    pub fn part(&mut self, peer: PeerId) -> u64 {
        if !self.has_peer(peer) {
            return 0;
        }
        let known = &self.peers[peer.0];
        let owed = known.owed();
        let heard_of = known.known || known.run.is_some();
        if heard_of && !known.history.has_said_goodbye() {
            self.doubt_others(peer);
        }
        let Peer { queue, window, owed_keys, owed_bytes, .. } = std::mem::take(&mut self.peers[peer.0]);
        self.peers[peer.0] = Peer { queue, window, owed_keys, owed_bytes, ..Peer::default() };
        if self.room.gives_up(peer.0) {
            self.room = Room::default();
        }
        if !self.has_peers() {
            self.last_peer_went();
        }
        self.counters.parted += owed;
        self.find_stable();
        owed
    }

    /// Drops up to `most` of what a peer that went was owed. True: nothing is left, and its place may be another's.
    pub fn forget_parted(&mut self, peer: PeerId, most: usize) -> bool {
        if self.has_peer(peer) || peer.0 >= self.peers.len() {
            return false;
        }
        let bit = 1_u64 << peer.0;
        for _ in 0..most {
            if let Some(sent) = self.peers[peer.0].window.pop_front() {
                if let What::Key { at, .. } = sent.what {
                    self.table[at].pins -= 1;
                    if self.table[at].queued & bit == 0 {
                        self.settle(at, peer.0);
                    }
                }
            } else if let Some(debt) = self.peers[peer.0].queue.pop_front() {
                let entry = &mut self.table[debt.at];
                entry.queued &= !bit;
                entry.pins -= 1;
                self.settle(debt.at, peer.0);
            } else {
                break;
            }
        }
        self.trim(peer.0);
        self.sweep(most);
        self.peers[peer.0].is_vacant()
    }

    /// A key that is written again is not owed any more to a peer that went.
    pub(super) fn settle_parted(&mut self, at: u32) {
        let mut owed = self.table[at].owed;
        while owed != 0 {
            let peer = owed.trailing_zeros() as usize;
            owed &= owed - 1;
            if !self.peers[peer].present {
                self.settle(at, peer);
                self.trim(peer);
            }
        }
    }

    pub(super) fn has_peers(&self) -> bool {
        self.peers.iter().any(|peer| peer.present)
    }
}

#[cfg(test)]
mod tests;
