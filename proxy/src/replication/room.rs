//! What there is no room for.
//!
//! When the bound is reached, what is kept for the states of a resync goes first (they are read again), then the backlog that fills it is given up (a gap, to be repaired by a resync) and its peer's
//! mark no longer holds the ledger; if no backlog fills it, the marks of peers, the oldest first. What such a peer sends
//! later below what was forgotten is *doubtful* (`remote.rs`).
//!
//! ```text
//!   over the bound ──► sweep the front ──► still over: choose ──► give up its queue ──► look behind what stays ──┐
//!          ▲                                                                                                      │
//!          └──────────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! All of it can be hundreds of thousands of entries, and apps wait for the lock meanwhile. So it is done in slices: each
//! write that ends pays for [`SLICE`] entries, and the next one goes on. Once a backlog is chosen it goes as far as it
//! stood then, whether there is room by then or not. Until there is, the ledger grows by the entries of those writes.
//! Each entry is looked at thrice at the most for each peer (swept, given up, looked behind), so of `n` entries at the
//! bound it becomes at most `n + 3 n (peers + 1) / SLICE`: for two peers 1.8 % more.

use super::peer::Debt;
use super::replica::Replica;
use super::version::Version;

/// How far the making of room has come.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Whose queue is given up, and up to where.
    from: Option<(usize, Version)>,
    /// Entries still to be looked at behind those that cannot be forgotten.
    unseen: usize,
    /// A resync keeps nothing any more, until it has ended.
    pub(super) holds_nothing: bool,
}

impl Room {
    /// It is this peer's queue that is given up.
    pub(super) fn gives_up(&self, peer: usize) -> bool {
        self.from.is_some_and(|(given_up, _)| given_up == peer)
    }
}

impl<W> Replica<W> {
    /// Makes room when the bound is exceeded: at the cost of the peer that is owed most, if that is what fills the
    /// ledger; else of whoever's mark holds what is owed to nobody. A peer that keeps up loses nothing for another.
    pub(super) fn keep_bounds(&mut self, now_ms: u64) {
        let mut left = SLICE;
        // A flush that runs makes all the room there is, and holds whatever would need more.
        while left > 0 && !self.flush_gate.is_running() {
            if let Some((peer, until)) = self.room.from {
                left -= self.give_up(peer, until, left, now_ms);
            } else if self.table.bytes() <= self.bounds.backlog_bytes {
                self.room.unseen = 0;
                return;
            } else if self.room.unseen > 0 {
                left -= self.look_behind(left);
            } else {
                left -= self.sweep(left);
                let over = self.table.bytes() > self.bounds.backlog_bytes;
                if left > 0 && over && !self.choose() {
                    return;
                }
            }
        }
    }

    /// Who is to pay. False: there is nobody left.
    fn choose(&mut self) -> bool {
        if self.holds > 0 && !self.room.holds_nothing {
            self.room.holds_nothing = true;
            self.room.unseen = self.age.len();
            return true;
        }
        let present = || (0..self.peers.len()).filter(|peer| self.peers[*peer].present);
        let queued = present().filter(|peer| !self.peers[*peer].queue.is_empty());
        let most_owed = queued.max_by_key(|peer| self.peers[*peer].owed_bytes);
        let behind = present().filter(|peer| !self.peers[*peer].excluded);
        let oldest_mark = behind.min_by_key(|peer| self.peers[*peer].mark);
        let fills = |peer: &usize| self.peers[*peer].owed_bytes > self.bounds.backlog_bytes / 2;
        let peer = match (most_owed.filter(fills), oldest_mark, most_owed) {
            (Some(peer), _, _) | (None, None, Some(peer)) => {
                self.room.from = Some((peer, self.clock.latest()));
                peer
            }
            (None, Some(peer), _) => {
                self.room.unseen = self.age.len();
                peer
            }
            (None, None, None) => return false,
        };
        self.peers[peer].excluded = true;
        self.find_stable();
        true
    }

    /// Forgets what can be forgotten behind entries that cannot. Says how many it has looked at.
    fn look_behind(&mut self, most: usize) -> usize {
        let looked = most.min(self.room.unseen);
        self.room.unseen -= looked;
        let forgettable = self.forgettable();
        for _ in 0..looked {
            let Some((_, at)) = self.age.front().copied() else { break };
            let entry = &self.table[at];
            let stays = entry.gate.is_idle() && (entry.owed != 0 || entry.pins != 0);
            if stays || entry.version > forgettable {
                self.age.rotate_left(1);
            } else {
                self.sweep(1);
            }
        }
        looked
    }

    /// Takes back what a peer waits for, up to `most` keys that entered its queue no later than `until`. What is in its
    /// window is still acknowledged. Says how many it was.
    fn give_up(&mut self, peer: usize, until: Version, most: usize, now_ms: u64) -> usize {
        let at = self.clock.latest();
        let listed = self.peers[peer].lose(0, now_ms, at, self.lister.kept);
        let (mut steps, mut given_up) = (0, 0);
        while steps < most {
            let front = self.peers[peer].queue.front().copied();
            let Some(debt) = front.filter(|debt| debt.first <= until) else {
                (self.room.from, self.room.unseen) = (None, self.age.len());
                break;
            };
            self.peers[peer].queue.pop_front();
            given_up += u64::from(self.give_up_key(peer, debt, listed));
            steps += 1;
        }
        self.trim(peer);
        self.peers[peer].lose(given_up, now_ms, at, listed);
        let counter = if listed { &mut self.counters.listed } else { &mut self.counters.lost };
        *counter += given_up;
        self.missed_by(peer);
        steps
    }

    /// The one place where a key that was queued is given up. False: it was not owed any more.
    fn give_up_key(&mut self, peer: usize, debt: Debt, listed: bool) -> bool {
        let bit = 1_u64 << peer;
        let entry = &mut self.table[debt.at];
        entry.queued &= !bit;
        entry.pins -= 1;
        let owed = entry.owed & bit != 0;
        if owed && listed {
            self.lister.add(peer, &entry.key);
        }
        self.settle(debt.at, peer);
        owed
    }
}

/// Entries that are looked at under the lock in one go; some 0.1 ms.
pub(super) const SLICE: usize = 512;
