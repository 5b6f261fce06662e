//! What is no longer needed, and what there is no room for.
//!
//! An entry is forgotten once it is *stable* (no peer will send anything as old as it any more), owed to nobody and
//! not in flight. Entries stand in an age queue, about in the order of their versions, and only its front is looked
//! at: a peer that is away stops forgetting, but costs nothing more.
//!
//! When the bound is reached, the backlog that fills it is given up (a gap, to be repaired by a full resync) and its
//! peer's mark no longer holds the ledger; if no backlog fills it, the marks of peers, the oldest first. What such a peer sends later
//! below what was forgotten is *doubtful* (`remote.rs`).

use super::mutation::Effect;
use super::replica::Replica;
use super::version::Version;

impl<W> Replica<W> {
    /// The version at or below which no peer will send anything any more.
    pub(super) fn find_stable(&mut self) {
        let marks = self.peers.iter().filter(|peer| !peer.excluded).map(|peer| peer.mark);
        self.stable = marks.min().unwrap_or(Version::MAX);
    }

    /// Puts an entry into the age queue, unless it stands there.
    pub(super) fn note_age(&mut self, at: u32) {
        let entry = &mut self.table[at];
        if !entry.aged {
            entry.aged = true;
            self.age.push_back((entry.version, at));
        }
    }

    /// A gate was given back: an entry that nothing else points at goes now, or joins the age queue again.
    pub(super) fn forget_if_loose(&mut self, at: u32) {
        let entry = &self.table[at];
        if !entry.aged && entry.is_loose() && entry.version <= self.forgettable() {
            self.forget(at);
        } else if !entry.aged && entry.gate.is_idle() && entry.version > Version::ZERO {
            self.note_age(at);
        }
    }

    /// Forgets up to `most` entries from the front of the age queue.
    pub(super) fn sweep(&mut self, most: usize) {
        if self.flush_gate.is_running() {
            // What a peer's flush destroys must still be known when it is done, if it was newer.
            return;
        }
        let forgettable = self.forgettable();
        for _ in 0..most {
            let Some((noted, at)) = self.age.front().copied() else { break };
            let entry = &mut self.table[at];
            if noted > forgettable {
                break;
            }
            if entry.version > forgettable {
                // Written again since: its turn comes later.
                self.age.pop_front();
                self.age.push_back((self.table[at].version, at));
                continue;
            }
            if !entry.gate.is_idle() {
                // It comes back into the queue when the gate is given back.
                entry.aged = false;
                self.age.pop_front();
                continue;
            }
            if entry.owed != 0 || entry.pins != 0 {
                break;
            }
            entry.aged = false;
            self.age.pop_front();
            self.forget(at);
        }
    }

    /// Makes room when the bound is exceeded: at the cost of the peer that is owed most, if that is what fills the
    /// ledger; else of whoever's mark holds what is owed to nobody. A peer that keeps up loses nothing for another.
    pub(super) fn keep_bounds(&mut self, now_ms: u64) {
        while self.table.bytes() > self.bounds.backlog_bytes {
            self.sweep(usize::MAX);
            if self.table.bytes() <= self.bounds.backlog_bytes {
                break;
            }
            let queued = (0..self.peers.len()).filter(|peer| !self.peers[*peer].queue.is_empty());
            let most_owed = queued.max_by_key(|peer| self.peers[*peer].owed_bytes);
            let behind = (0..self.peers.len()).filter(|peer| !self.peers[*peer].excluded);
            let oldest_mark = behind.min_by_key(|peer| self.peers[*peer].mark);
            let fills = |peer: &usize| self.peers[*peer].owed_bytes > self.bounds.backlog_bytes / 2;
            match (most_owed.filter(fills), oldest_mark, most_owed) {
                (Some(peer), _, _) | (None, None, Some(peer)) => self.give_up(peer, now_ms),
                (None, Some(peer), _) => self.exclude(peer),
                (None, None, None) => break,
            }
            self.sweep_all();
        }
    }

    /// Forgets whatever can be forgotten, also behind entries that cannot.
    fn sweep_all(&mut self) {
        for _ in 0..self.age.len() {
            let Some((_, at)) = self.age.front().copied() else { break };
            let entry = &self.table[at];
            if entry.gate.is_idle() && (entry.owed != 0 || entry.pins != 0) {
                self.age.rotate_left(1);
            } else {
                self.sweep(1);
            }
        }
    }

    fn forget(&mut self, at: u32) {
        let version = self.table[at].version;
        self.horizon = self.horizon.max(version);
        for peer in self.peers.iter_mut().filter(|peer| peer.excluded && peer.mark < version) {
            peer.doubt = peer.doubt.max(version);
        }
        self.table.remove(at);
    }

    /// Takes back all that a peer waits for. What is in its window is still acknowledged.
    fn give_up(&mut self, peer: usize, now_ms: u64) {
        let bit = 1_u64 << peer;
        let queue = std::mem::take(&mut self.peers[peer].queue);
        let mut given_up = 0;
        let at = self.clock.latest();
        let listed = self.peers[peer].lose(0, now_ms, at, self.lister.kept);
        for debt in queue {
            let entry = &mut self.table[debt.at];
            entry.queued &= !bit;
            entry.pins -= 1;
            if entry.owed & bit != 0 {
                given_up += 1;
                if listed {
                    self.lister.add(peer, &entry.key);
                }
            }
            self.settle(debt.at, peer);
        }
        self.peers[peer].lose(given_up, now_ms, at, listed);
        let counter = if listed { &mut self.counters.listed } else { &mut self.counters.lost };
        *counter += given_up;
        self.missed_by(peer);
        self.exclude(peer);
    }

    fn exclude(&mut self, peer: usize) {
        self.peers[peer].excluded = true;
        self.find_stable();
    }

    /// Panics if an invariant is broken; for tests.
    pub fn check_invariants(&self) {
        let mut pins = vec![0_u32; self.table.indices().max().map_or(0, |at| at as usize + 1)];
        for (index, peer) in self.peers.iter().enumerate() {
            let bit = 1_u64 << index;
            assert!(peer.queue.iter().is_sorted_by_key(|debt| debt.first), "a queue is in order");
            assert!(peer.connected || peer.window.is_empty(), "a window needs a link");
            assert!(peer.window.len() <= self.bounds.window_entries, "a window is bounded");
            for debt in &peer.queue {
                pins[debt.at as usize] += 1;
                assert!(self.table[debt.at].queued & bit != 0);
            }
            for sent in &peer.window {
                if let super::peer::What::Key { at, .. } = sent.what {
                    pins[at as usize] += 1;
                }
            }
            let front_owed = peer.queue.front().is_none_or(|debt| self.table[debt.at].owed & bit != 0);
            assert!(front_owed, "the front of a queue is owed");
            let owed = self.table.indices().filter(|at| self.table[*at].owed & bit != 0);
            let (keys, bytes) = owed.fold((0, 0), |(n, b), at| (n + 1, b + self.table[at].cost()));
            assert_eq!((peer.owed_keys, peer.owed_bytes), (keys, bytes));
        }
        assert!(self.promised.is_sorted(), "versions are promised in order");
        assert!(self.promised.len() <= self.in_flight as usize, "a promise is made to a write in flight");
        let mut holders = 0;
        for at in self.table.indices() {
            let entry = &self.table[at];
            holders += entry.gate.holders();
            assert_eq!(entry.pins, pins[at as usize], "every pin is a place");
            assert_eq!(entry.owed == 0, *entry.effect() == Effect::None, "what is owed has an effect");
            assert!(!entry.gate.has_waiters() || !entry.gate.is_idle(), "nobody waits at an open gate");
            assert!(entry.version == Version::ZERO || entry.version > self.last_flush);
            assert!(!entry.is_loose() || entry.version > self.forgettable(), "an entry nobody needs stays");
            let held = entry.aged || !entry.gate.is_idle();
            assert!(held, "an entry is in flight or will be forgotten");
        }
        assert_eq!(self.age.len(), self.table.indices().filter(|at| self.table[*at].aged).count());
        assert_eq!(holders, self.in_flight);
        assert!(self.table.payload_bytes() <= self.bounds.backlog_bytes / 2, "payloads are bounded");
    }
}
