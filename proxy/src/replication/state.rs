//! States: what a key holds at one site, sent to another one by a copy, a repair or a fill, and not by a write.
//!
//! A state bears the *state version* of its giver: everything at or below it has been applied there before the item
//! was read. So it loses to every newer mutation, and beats only what the giver had processed. It is compared with
//! the ledger like a mutation, passes the gate like one, and is owed to nobody.
//!
//! The ledger forgets what is stable, and a copy may be slow. So while a resync is on (a *hold*) entries stay for at
//! least [`HOLD_MS`], and a state that is older than what was forgotten is refused: whoever sent it reads it again.
//!
//! A peer whose link is down holds nobody up: its marks do not count. What it wrote and only one of the two had heard
//! of is then decided without it; so the two doubt that peer, and compare when it comes back.

use super::gate::Pass;
use super::history::Loss;
use super::replica::{LaneId, Offer, PeerId, Replica, Slot};
use super::version::Version;

/// What a state claims.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The state version of its site.
    pub version: Version,
    /// The items' own versions have said that it is the newer one.
    pub decided: bool,
}

impl<W> Replica<W> {
    /// A version at or below which everything that linked peers wrote has been applied here.
    pub fn state_version(&self) -> Version {
        let linked = self.peers.iter().filter(|peer| peer.inbound).map(|peer| peer.mark);
        let least = linked.min().map_or(self.clock.latest().time(), Version::time);
        // A write that was promised a version may reach memcached after the item was read.
        let promised = self.promised.oldest().map_or(u64::MAX, |oldest| oldest.time().saturating_sub(1));
        Version::new(least.min(promised), self.clock.origin())
    }

    /// Nothing older than `than` is on its way between us and the peer.
    pub fn has_settled(&self, peer: PeerId, than: Version) -> bool {
        let peer = &self.peers[peer.0];
        peer.mark >= than && peer.oldest().is_none_or(|oldest| oldest > than)
    }

    /// Something is decided without peers whose links are down: the two compare when they are back. True: there are some.
    pub fn doubt_absent(&mut self) -> bool {
        let absent: Vec<_> =
            (0..self.peers.len()).map(PeerId).filter(|peer| !self.peers[peer.0].inbound).collect();
        absent.iter().for_each(|peer| self.doubt(*peer));
        !absent.is_empty()
    }

    /// A resync begins (or ends): the ledger keeps what states must not beat.
    pub fn hold(&mut self, on: bool) {
        self.holds = if on { self.holds + 1 } else { self.holds.saturating_sub(1) };
    }

    /// A state of `key` has come from a peer. `Apply`: store or delete it in memcached, then call `applied_state`
    /// (or `abandon`). `Drop`: delete it, then `complete(slot, Effect::Removed)`.
    pub fn offer_state(
        &mut self,
        from: PeerId,
        key: &[u8],
        claim: Claim,
        lane: LaneId,
        now_ms: u64,
        waiter: impl FnOnce() -> W,
    ) -> Offer {
        let version = claim.version;
        if self.clock.observe(version, now_ms).is_err() {
            return Offer::Skewed;
        }
        let known = self.table.find(key).map_or(Version::ZERO, |at| self.table[at].version);
        if let Some(refused) = self.judge_state(from, known, claim) {
            return refused;
        }
        let pass = Pass { lane, mirrored: Some(version) };
        if !self.flush_gate.is_open() {
            self.flush_gate.hold(key, pass, waiter());
            self.counters.waited += 1;
            return Offer::Waiting;
        }
        match self.enter(key, pass, waiter) {
            Some(slot) => self.take_state(slot, from),
            None => Offer::Waiting,
        }
    }

    /// A state that waited has its slot: judge it again. Unless `Apply` or `Drop`, the slot is given back.
    pub fn reoffer_state(
        &mut self,
        slot: Slot,
        from: PeerId,
        claim: Claim,
        woken: &mut Vec<(W, Slot)>,
    ) -> Offer {
        match self.judge_state(from, self.table[slot.0].version, claim) {
            Some(refused) => {
                self.leave(slot, woken);
                refused
            }
            None => self.take_state(slot, from),
        }
    }

    /// A peer's state is in memcached.
    pub fn applied_state(&mut self, slot: Slot, from: PeerId, version: Version, woken: &mut Vec<(W, Slot)>) {
        let entry = &mut self.table[slot.0];
        if version > entry.version {
            entry.version = version;
            // The giver had applied whatever we owed it below its state.
            self.settle(slot.0, from.0);
            self.trim(from.0);
            self.note_age(slot.0);
        }
        self.leave(slot, woken);
        let now_ms = self.clock.latest().millis();
        self.keep_bounds(now_ms);
    }

    /// Half of the bound is taken: whoever makes more to send, and need not at once, waits.
    pub fn is_crowded(&self) -> bool {
        self.table.bytes() > self.bounds.backlog_bytes / 2
    }

    /// Whether some peer has not acknowledged the newest version of a key.
    pub fn is_owed(&self, key: &[u8]) -> bool {
        self.table.find(key).is_some_and(|at| self.table[at].owed != 0)
    }

    fn judge_state(&self, from: PeerId, known: Version, claim: Claim) -> Option<Offer> {
        let Claim { version, decided } = claim;
        // A giver that may miss something of ours does not know it: its states only seem to cover what we wrote. It may
        // have become so while the state waited at a gate.
        let misses = self.loss(from) != Loss::Nothing || self.peers[from.0].gap.is_some();
        let gave_up = misses && !decided && self.warmth.warming.is_none();
        if version <= known.max(self.last_flush) {
            Some(Offer::Superseded)
        } else if gave_up || known == Version::ZERO && version <= self.horizon {
            Some(Offer::TooOld)
        } else {
            None
        }
    }

    /// A key that is still owed to a third site cannot take somebody else's state: which of the two the third one
    /// has is not known. A miss on every side, then.
    fn take_state(&mut self, slot: Slot, from: PeerId) -> Offer {
        let others = self.table[slot.0].owed & !(1_u64 << from.0);
        if others == 0 {
            return Offer::Apply(slot);
        }
        self.table[slot.0].gate.close();
        Offer::Drop(slot)
    }

    /// What is at or below this may be forgotten, if it is owed to nobody.
    pub(super) fn forgettable(&self) -> Version {
        if self.holds == 0 { self.stable } else { self.stable.min(self.clock.latest().earlier_by(HOLD_MS)) }
    }
}

/// A state is applied within this after it was read, or it is read again. Longer costs memory: the ledger holds the
/// writes of as long a time.
pub const HOLD_MS: u64 = 2000;
