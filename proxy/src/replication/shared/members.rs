//! Peers that come and go while everything runs: first what is owed to them, then who is told of it.

use std::sync::atomic::Ordering;

use super::Shared;
use crate::replication::{Origin, PEERS_MAX, PeerId};

impl Shared {
    /// A peer comes, to a place where there is none. False: there is no such place.
    pub fn join(&self, peer: PeerId) -> bool {
        // Before anything is owed: what is found is a reason to look, and no more.
        self.places.fetch_max((peer.0 + 1).min(PEERS_MAX), Ordering::Relaxed);
        let joined = self.lock().join(peer);
        if joined {
            self.agree(|agreement| agreement.begin(peer));
            self.resync.notify_one();
        }
        joined
    }

    /// A flush of our memcached, for which all gates are held, has been carried out: what it held was none of the shard's
    /// whose peers come now, before anybody writes again.
    pub fn join_afresh(&self, peers: &[PeerId], now_ms: u64) {
        let places = peers.iter().map(|peer| peer.0 + 1).max().unwrap_or_default();
        self.places.fetch_max(places.min(PEERS_MAX), Ordering::Relaxed);
        self.with(|replica, woken| {
            replica.complete_flush(true, now_ms, woken);
            replica.begin_afresh();
            for peer in peers {
                replica.join(*peer);
            }
        });
        peers.iter().for_each(|peer| self.agree(|agreement| agreement.begin(*peer)));
        self.resync.notify_one();
    }

    /// A peer goes. Its links have to be closed, and then its place be [cleared](Self::clear_place).
    pub fn part(&self, peer: PeerId) -> u64 {
        let owed = self.with(|replica, _| replica.part(peer));
        self.agree(|agreement| agreement.begin(peer));
        // Its dialer may be waiting for something to send.
        self.poke_all();
        self.resync.notify_one();
        owed
    }

    /// Drops some of what a peer that went was owed. True: its place is free.
    pub fn clear_place(&self, peer: PeerId) -> bool {
        self.lock().forget_parted(peer, DROPPED_AT_ONCE)
    }

    /// What a peer is called.
    pub fn note_site_of(&self, peer: PeerId, site: &str) {
        self.lock().named(peer, Origin::of(site));
        self.agree(|agreement| agreement.met(peer, site));
    }
}

/// A bound on the time under the lock; some 0.1 ms.
const DROPPED_AT_ONCE: usize = 512;
