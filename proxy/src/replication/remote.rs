//! Mutations of peers: compared with the ledger, applied, and never given to a queue.
//!
//! ```text
//!   offer ──┬─► Superseded, Duplicate, Echo, Skewed ──────────────► acknowledge
//!           ├─► Apply(slot) ─► memcached ─► applied ──────────────► acknowledge
//!           │                      └─ upstream broke ─► abandon ──► close the link, it comes again
//!           ├─► Drop(slot) ──► delete here ─► complete(Removed) ──► acknowledge; the miss is mirrored to all
//!           └─► Waiting ─► (woken) ─► reoffer ─► one of the above
//! ```
//!
//! Why `Drop`: the ledger forgets what is stable. If a peer that no longer held the ledger (its backlog was given
//! up), or one that started again with an earlier clock, sends a version below what was forgotten, nobody can say
//! whether memcached holds something newer. A miss on every side is always right, a value may be wrong.

use super::gate::Pass;
use super::replica::{LaneId, Offer, PeerId, Replica, Slot};
use super::version::Version;

impl<W> Replica<W> {
    /// A mutation of `key` has come from a peer.
    pub fn offer(
        &mut self,
        from: PeerId,
        key: &[u8],
        version: Version,
        lane: LaneId,
        now_ms: u64,
        waiter: impl FnOnce() -> W,
    ) -> Offer {
        if let Some(refused) = self.refuse(from, version, now_ms) {
            return refused;
        }
        let at = self.table.find(key);
        // What is already decided need not wait for the gate.
        let verdict = self.judge(from, at.map(|at| self.table[at].version), version);
        if matches!(verdict, Verdict::Superseded | Verdict::Duplicate) {
            return self.count(from, verdict, Slot::FLUSH);
        }
        match self.ask(key, Pass { lane, mirrored: Some(version) }, waiter) {
            Some(slot) => self.count(from, verdict, slot),
            None => Offer::Waiting,
        }
    }

    /// A mutation (or flush) that waited has its slot: judge it again. Unless `Apply` or `Drop`, the slot is given
    /// back.
    pub fn reoffer(
        &mut self,
        slot: Slot,
        from: PeerId,
        version: Version,
        woken: &mut Vec<(W, Slot)>,
    ) -> Offer {
        let verdict = if slot == Slot::FLUSH {
            self.judge_flush(from, version)
        } else {
            self.judge(from, Some(self.table[slot.0].version), version)
        };
        let offer = self.count(from, verdict, slot);
        if !matches!(offer, Offer::Apply(_) | Offer::Drop(_)) {
            self.give_back(slot, woken);
        }
        offer
    }

    /// A peer's mutation is in memcached: what we owed of the key is void.
    pub fn applied(&mut self, slot: Slot, from: PeerId, version: Version, woken: &mut Vec<(W, Slot)>) {
        self.peers[from.0].counters.applied += 1;
        self.warmth.untouched = false;
        let now = self.clock.latest().time();
        let entry = &mut self.table[slot.0];
        (entry.changed, entry.stated) = (now, false);
        if version > entry.version {
            entry.version = version;
            self.void(slot.0);
            self.note_age(slot.0);
        }
        self.leave(slot, woken);
        // A site that only receives has a ledger, too.
        let now_ms = self.clock.latest().millis();
        self.keep_bounds(now_ms);
    }

    /// A peer's mutation (or flush, with `Slot::FLUSH`) could not be applied, or its waiter is gone.
    pub fn abandon(&mut self, slot: Slot, from: PeerId, woken: &mut Vec<(W, Slot)>) {
        self.peers[from.0].counters.abandoned += 1;
        self.give_back(slot, woken);
    }

    /// A mark has come, and everything before it on the link is processed.
    pub fn heard_mark(&mut self, from: PeerId, mark: Version, owed: u64, now_ms: u64) {
        // A mark from a clock too far ahead is still true of its peer; it only must not move our clock.
        let _ = self.clock.observe(mark, now_ms);
        let peer = &mut self.peers[from.0];
        peer.owes = Some(owed);
        if mark > peer.mark {
            peer.mark = mark;
            if peer.excluded && mark >= peer.doubt {
                peer.excluded = false;
            }
            self.find_stable();
        }
        self.sweep(SWEPT_PER_MARK);
        // What was begun to make room ends, also when nobody writes any more.
        self.keep_bounds(now_ms);
    }

    /// Another site's clock has come so far: whatever is stamped here from now on is newer than all it has stamped.
    /// False if it is too far ahead to be followed.
    pub fn follow_clock(&mut self, time: u64, now_ms: u64) -> bool {
        self.clock.observe(Version::new(time, self.clock.origin()), now_ms).is_ok()
    }

    /// What [`follow_clock`](Self::follow_clock) is told elsewhere: nothing stamped here from now on is older than this.
    pub fn time(&self, now_ms: u64) -> u64 {
        self.clock.time(now_ms)
    }

    /// A link from the peer is up; `run` is the run id of its hello. Whatever came on an older link must be
    /// processed or abandoned before.
    pub fn inbound_connected(&mut self, from: PeerId, run: u64) {
        let floor = self.clock.latest();
        let peer = &mut self.peers[from.0];
        peer.inbound = true;
        peer.owes = None;
        if peer.run.is_some_and(|known| known != run) {
            peer.restarts += 1;
            peer.mark = Version::ZERO;
            peer.refused = None;
            peer.floor = floor;
            peer.doubt = self.horizon;
            self.find_stable();
        }
        self.peers[from.0].run = Some(run);
    }

    /// The link from the peer is down.
    pub fn inbound_disconnected(&mut self, from: PeerId) {
        let peer = &mut self.peers[from.0];
        (peer.inbound, peer.owes) = (false, None);
        self.heard_of(from);
    }

    /// What needs no look at the key. The version is merged into the clock here, before any later stamp.
    pub(super) fn refuse(&mut self, from: PeerId, version: Version, now_ms: u64) -> Option<Offer> {
        let peer = &mut self.peers[from.0];
        if version.origin() == self.clock.origin() {
            peer.counters.echo += 1;
            return Some(Offer::Echo);
        }
        // What was refused may come again below the mark, and may look less far ahead by then.
        let refused = peer.refused.is_some_and(|(first, last)| (first..=last).contains(&version));
        let processed = version <= peer.mark;
        if self.clock.is_too_far_ahead(version, now_ms) || (processed && refused) {
            peer.counters.skewed += 1;
            let (first, last) = peer.refused.unwrap_or((version, version));
            peer.refused = Some((first.min(version), last.max(version)));
            peer.refused_at = self.clock.latest();
            return Some(Offer::Skewed);
        }
        if processed {
            peer.counters.duplicate += 1;
            return Some(Offer::Duplicate);
        }
        let _ = self.clock.observe(version, now_ms);
        None
    }

    fn judge(&self, from: PeerId, known: Option<Version>, version: Version) -> Verdict {
        let known = known.unwrap_or(Version::ZERO);
        let peer = &self.peers[from.0];
        if version > known.max(self.last_flush) {
            let forgotten = known == Version::ZERO && version <= self.doubtful_until(from);
            return if forgotten { Verdict::Doubtful } else { Verdict::Newer };
        }
        if version == known {
            Verdict::Duplicate
        } else if version <= peer.floor {
            Verdict::Doubtful
        } else {
            Verdict::Superseded
        }
    }

    pub(super) fn judge_flush(&self, from: PeerId, version: Version) -> Verdict {
        let peer = &self.peers[from.0];
        if version == self.last_flush {
            Verdict::Duplicate
        } else if version < self.last_flush && version > peer.floor {
            Verdict::Superseded
        } else if version < self.last_flush || version <= self.doubtful_until(from) {
            Verdict::Doubtful
        } else {
            Verdict::Newer
        }
    }

    pub(super) fn count(&mut self, from: PeerId, verdict: Verdict, slot: Slot) -> Offer {
        let counters = &mut self.peers[from.0].counters;
        match verdict {
            Verdict::Newer => Offer::Apply(slot),
            Verdict::Doubtful => {
                counters.doubtful += 1;
                if slot != Slot::FLUSH {
                    // It is stamped when it ends, like a local write: the peer's next version must not pass.
                    self.table[slot.0].gate.close();
                }
                Offer::Drop(slot)
            }
            Verdict::Superseded => {
                counters.superseded += 1;
                Offer::Superseded
            }
            Verdict::Duplicate => {
                counters.duplicate += 1;
                Offer::Duplicate
            }
        }
    }

    fn give_back(&mut self, slot: Slot, woken: &mut Vec<(W, Slot)>) {
        if slot == Slot::FLUSH {
            self.open_flush_gate(woken);
        } else {
            self.leave(slot, woken);
        }
    }
}

/// How a peer's mutation compares with what is known.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Verdict {
    Newer,
    Superseded,
    Duplicate,
    Doubtful,
}

/// A bound on the time under the lock; the rest waits for the next writes and marks.
const SWEPT_PER_MARK: usize = 1024;
