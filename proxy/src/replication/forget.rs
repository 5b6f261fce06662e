//! What is no longer needed.
//!
//! An entry is forgotten once it is *stable* (no peer will send anything as old as it any more), owed to nobody and
//! not in flight. Entries stand in an age queue, about in the order of their versions, and only its front is looked
//! at: a peer that is away stops forgetting, but costs nothing more.
//!
//! What happens when there is no room is in `room.rs`.

use super::mutation::Effect;
use super::replica::Replica;
use super::version::Version;

impl<W> Replica<W> {
    /// The version at or below which no peer will send anything any more.
    pub(super) fn find_stable(&mut self) {
        let marks = self.peers.iter().filter(|peer| peer.present && !peer.excluded).map(|peer| peer.mark);
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

    /// Looks at up to `most` entries at the front of the age queue, and forgets those that can be. Says how many it
    /// has passed: fewer, if the next one cannot be forgotten.
    pub(super) fn sweep(&mut self, most: usize) -> usize {
        if self.flush_gate.is_running() {
            // What a peer's flush destroys must still be known when it is done, if it was newer.
            return 0;
        }
        let forgettable = self.forgettable();
        for passed in 0..most {
            let Some((noted, at)) = self.age.front().copied() else { return passed };
            let entry = &mut self.table[at];
            if noted > forgettable {
                return passed;
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
                return passed;
            }
            entry.aged = false;
            self.age.pop_front();
            self.forget(at);
        }
        most
    }

    fn forget(&mut self, at: u32) {
        let version = self.table[at].version;
        self.horizon = self.horizon.max(version);
        for peer in self.peers.iter_mut().filter(|peer| peer.excluded && peer.mark < version) {
            peer.doubt = peer.doubt.max(version);
        }
        self.table.remove(at);
    }

    /// Panics if an invariant is broken; for tests.
    pub fn check_invariants(&self) {
        let mut pins = vec![0_u32; self.table.indices().max().map_or(0, |at| at as usize + 1)];
        for (index, peer) in self.peers.iter().enumerate() {
            let bit = 1_u64 << index;
            assert!(peer.queue.iter().is_sorted_by_key(|debt| debt.first), "a queue is in order");
            assert!(peer.connected || peer.window.is_empty() || !peer.present, "a window needs a link");
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
