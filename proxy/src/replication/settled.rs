//! What has reached the peers, for whoever waits for it (`--ack peer`).
//!
//! A write is *settled* at a peer when the peer has acknowledged its version, or a newer one of the same key, or a
//! flush after it. Who waits names not the version of the write but the newest one when it was completed, and the write is
//! settled everywhere once the oldest thing owed to any live peer is newer than that. Why this is so:
//!
//! * The queue is ordered by `first`, the version a key had when it entered; a newer write of a queued key keeps the
//!   place, and one that goes back from the window goes to the place of what was lost. So whatever of the key the peer may
//!   lack, its place is as old as the oldest of it.
//! * The window is in the order of taking. What was completed then and is in the window now was in the queue when what
//!   stands before it was taken, so that is older or was completed then as well: the front of the window is not newer than
//!   what was named. (A version promised when its write began comes into the queue late, but not after it is named.)
//!
//! Three things take mutations out of the queue without an acknowledgement:
//!
//! * A flush of ours. What it took out is settled with the flush itself (`Peer::cleared`).
//! * Something newer from another site. It reaches the peer from there; what it replaced counts as settled.
//! * The bound on the backlog, or a clock that the peer refuses. Those are `missed`, and no wait for them ends well.
//!
//! A peer is *live* while its link is up and it keeps up. One that has just connected with a backlog, or that let
//! somebody wait in vain, is *behind* until it has acknowledged all that it was owed at that moment and owes little
//! else. Nobody waits for it meanwhile: an hour of backlog, or a frozen machine, costs one wait and not one a write.

use super::replica::{PeerId, Replica};
use super::version::Version;

/// How far our own writes have come.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Settled {
    /// At or below this all live peers have everything.
    pub live: Version,
    /// The same of all peers; none while one of them is not live.
    pub all: Option<Version>,
    /// At or below this some peer may lack something for good, whatever it has acknowledged since.
    pub missed: Version,
}

impl<W> Replica<W> {
    /// How far our own writes have come. To be compared with the newest version when a write was completed.
    pub fn settled(&self) -> Settled {
        let latest = self.clock.latest();
        let peers = self.peers.iter().filter(|peer| peer.is_live());
        let oldest = peers.clone().filter_map(super::peer::Peer::unsettled).min();
        let live = oldest.map_or(latest, Version::before);
        Settled { live, all: (peers.count() == self.peer_ids().count()).then_some(live), missed: self.missed }
    }

    /// Whether writes wait for this peer.
    pub fn is_live(&self, peer: PeerId) -> bool {
        self.peers[peer.0].is_live()
    }

    /// Somebody waited for `version` in vain: whoever has not settled it is behind.
    pub fn late(&mut self, version: Version) {
        let latest = self.clock.latest();
        for peer in &mut self.peers {
            if peer.is_live() && peer.unsettled().is_some_and(|oldest| oldest <= version) {
                peer.behind = Some(latest);
            }
        }
    }

    /// What this peer was owed is gone, or refused: an acknowledgement says nothing of it.
    pub(super) fn missed_by(&mut self, peer: usize) {
        self.missed = self.clock.latest();
        self.peers[peer].behind = Some(self.missed);
    }

    /// Something was acknowledged: the peer may have caught up.
    pub(super) fn catch_up(&mut self, peer: usize) {
        let bounds = self.bounds;
        let peer = &mut self.peers[peer];
        let Some(behind) = peer.behind else { return };
        let little =
            peer.owed() <= bounds.window_entries as u64 / LITTLE && peer.owed_bytes <= bounds.window_bytes;
        if little && peer.unsettled().is_none_or(|oldest| oldest > behind) {
            peer.behind = None;
        }
    }
}

/// What is a fourth of the window is acknowledged in a moment.
const LITTLE: u64 = 4;

#[cfg(test)]
mod tests;
