//! States: what a key holds at one site, sent to another one by a copy, a repair or a fill, and not by a write.
//!
//! A state bears the *state version* of its giver: everything at or below it has been applied there before the item
//! was read. So it loses to every newer mutation, and beats only what the giver had processed. It is compared with
//! the ledger like a mutation, passes the gate like one, and is owed to nobody.
//!
//! The ledger forgets what is stable, and a copy may be slow. So while a resync is on (a *hold*) entries stay for at
//! least [`HOLD_MS`], if there is room (`room.rs`), and a state that is older than what was forgotten is refused: whoever sent it reads it again.
//!
//! A peer whose link is down counts with the mark it had, unless the two sites have agreed to leave it out (`company.rs`).

use super::company::Company;
use super::gate::Pass;
use super::history::Loss;
use super::replica::{LaneId, Offer, PeerId, Replica, Slot};
use super::version::Version;

/// What a state claims.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The state version of its site.
    pub version: Version,
    /// The version of the item itself, where it is its CAS.
    pub item: Option<u64>,
    /// Why it is believed to be the newer one.
    pub basis: Basis,
}

/// What was looked at before a state was sent.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Basis {
    /// The items' own versions have said that it is the newer one.
    pub decided: bool,
    /// Our own state was read for it, at this time. What has come since was not looked at.
    pub read: Option<Version>,
    /// Nobody has looked at our item. What is owed to a third site is looked at first, and not dropped for a state that may say the same.
    pub unread: bool,
}

impl<W> Replica<W> {
    /// A version at or below which everything that peers wrote has been applied here; but for those whom both sides of
    /// `company` do not hear.
    pub fn state_version(&self, company: &Company) -> Version {
        let counted = self.peers.iter().enumerate().filter(|(_, peer)| peer.present);
        let marks =
            counted.filter(|(index, peer)| peer.inbound || company.counts(*index)).map(|(_, peer)| peer.mark);
        let least = marks.min().map_or(self.clock.latest().time(), Version::time);
        // A write that was promised a version may reach memcached after the item was read.
        let promised = self.promised.oldest().map_or(u64::MAX, |oldest| oldest.time().saturating_sub(1));
        Version::new(least.min(promised), self.clock.origin())
    }

    /// The version of the state of `key` as it is read from now on, where all states have `least`. Where the ledger knows the key it knows
    /// better: what is on its way to peers and is older must not come over the state that they were given.
    pub fn state_version_of(&self, key: &[u8], least: Version) -> Version {
        least.max(Version::new(self.known(key).time(), self.clock.origin()))
    }

    /// Nothing older than `than` is on its way between us and the peer.
    pub fn has_settled(&self, peer: PeerId, than: Version) -> bool {
        let peer = &self.peers[peer.0];
        peer.mark >= than && peer.oldest().is_none_or(|oldest| oldest > than)
    }

    /// A resync begins (or ends): the ledger keeps what states must not beat.
    pub fn hold(&mut self, on: bool) {
        self.holds = if on { self.holds + 1 } else { self.holds.saturating_sub(1) };
        self.room.holds_nothing &= self.holds > 0;
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
        if let Some(refused) = self.judge_state(from, self.table.find(key), claim) {
            return refused;
        }
        match self.ask(key, Pass { lane, mirrored: Some(version) }, waiter) {
            Some(slot) => self.take_state(slot, from, claim),
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
        match self.judge_state(from, Some(slot.0), claim) {
            Some(refused) => {
                self.leave(slot, woken);
                refused
            }
            None => self.take_state(slot, from, claim),
        }
    }

    /// A peer's state is in memcached.
    pub fn applied_state(&mut self, slot: Slot, version: Version, woken: &mut Vec<(W, Slot)>) {
        self.warmth.untouched = false;
        let now = self.clock.latest().time();
        let entry = &mut self.table[slot.0];
        (entry.changed, entry.stated) = (now, true);
        if version > entry.version {
            entry.version = version;
            self.note_age(slot.0);
        }
        self.leave(slot, woken);
        let now_ms = self.clock.latest().millis();
        self.keep_bounds(now_ms);
    }

    /// What was owed to the peer was given up, and that is not made good yet: it cannot say what is newer.
    pub fn gave_up(&self, peer: PeerId) -> bool {
        self.peers[peer.0].gap.is_some()
    }

    /// Half of the bound is taken: whoever makes more to send, and need not at once, waits.
    pub fn is_crowded(&self) -> bool {
        self.table.bytes() > self.bounds.backlog_bytes / 2
    }

    /// Whether some peer has not acknowledged the newest version of a key.
    pub fn is_owed(&self, key: &[u8]) -> bool {
        self.table.find(key).is_some_and(|at| self.table[at].owed != 0)
    }

    /// Whether what is known of a key is a mutation, no state, and newer than `since`.
    pub fn is_written_since(&self, key: &[u8], since: Version) -> bool {
        self.table.find(key).is_some_and(|at| !self.table[at].stated && self.table[at].version > since)
    }

    fn judge_state(&self, from: PeerId, at: Option<u32>, claim: Claim) -> Option<Offer> {
        let Claim { version, basis, .. } = claim;
        let entry = at.map(|at| &self.table[at]);
        let (known, owed) = entry.map_or((Version::ZERO, 0), |entry| (entry.version, entry.owed));
        // What came after our item was read was not compared with: look again. A newer mutation needs no look.
        let changed = entry.zip(basis.read).filter(|(entry, read)| entry.changed >= read.time());
        let unseen = changed.is_some_and(|(entry, _)| entry.stated || version > known);
        // What was here by then was: the two items know better than a state's version, which is its site's, not the item's.
        let seen = basis.read.is_some_and(|read| changed.is_none() && known.time() < read.time());
        let decided = basis.decided && seen;
        // Nor does one to which we owe the key: until it has confirmed that, nothing of its own says that it had it. Not even
        // the versions of two items do: ours may have been written after it was read.
        let unheard = owed & (1 << from.0) != 0;
        // What would be dropped for it may be just the same: a site that was away is owed what all others have.
        let unlooked = basis.unread && owed != 0;
        // What was forgotten at exactly its version has been processed by the giver, too: the states of one batch have one version.
        // A giver that may miss something of ours does not know it: its states only seem to cover what we wrote. It may
        // have become so while the state waited at a gate. A memcached that is being filled lacks what was lost before, but
        // not what is given up meanwhile (found by chaos: a deletion was, and a copy brought the item back).
        let given_up = self.gave_up(from);
        let misses = given_up || self.loss(from) != Loss::Nothing && self.warmth.warming.is_none();
        if unseen {
            Some(Offer::TooOld)
        } else if version <= self.last_flush || version <= known && !decided {
            Some(Offer::Superseded)
        } else if misses && !decided
            || unheard
            || unlooked
            || known == Version::ZERO && version < self.horizon
        {
            Some(Offer::TooOld)
        } else {
            None
        }
    }

    /// A mutation goes out, or has come, whose item is older than itself: it said again what was there. That may be older than
    /// what another site holds.
    pub fn note_said_again(&mut self) {
        self.said_again = true;
    }

    /// A key that is still owed to a third site cannot take somebody else's state: which of the two the third one
    /// has is not known. A miss on every side, then.
    ///
    /// An item may be newer than ours and older than a mutation that only said again what was there (a `touch`, a win): others
    /// have that one, or get it, and this item would never reach them, so they are compared with. Which keys were said
    /// again the ledger does not know for ever; that some were, it does.
    fn take_state(&mut self, slot: Slot, from: PeerId, claim: Claim) -> Offer {
        if self.said_again && claim.basis.decided && claim.item.is_some() {
            self.others_may_lack(from);
        }
        if self.table[slot.0].owed == 0 {
            return Offer::Apply(slot);
        }
        self.table[slot.0].gate.close();
        Offer::Drop(slot)
    }

    /// What is at or below this may be forgotten, if it is owed to nobody.
    pub(super) fn forgettable(&self) -> Version {
        if self.holds == 0 || self.room.holds_nothing {
            self.stable
        } else {
            self.stable.min(self.clock.latest().earlier_by(HOLD_MS))
        }
    }
}

/// A state is applied within this after it was read, or it is read again. Longer costs memory: the ledger holds the
/// writes of as long a time.
pub const HOLD_MS: u64 = 2000;

#[cfg(test)]
mod tests {
    use super::super::{Bounds, Effect, Marks};
    use super::*;

    const NOW_MS: u64 = 1_700_000_000_000;
    const PEER: PeerId = PeerId(0);
    const ITEM: Effect =
        Effect::Item { payload: None, marks: Marks { stale: false, won: false, vivified: false } };

    fn offered(replica: &mut Replica<()>, decided: bool) -> Offer {
        // The giver's clock is ahead of what it has heard of us: no link of ours to it is up.
        let version = replica.latest().later_by(10);
        let claim = Claim { version, item: None, basis: Basis { decided, ..Basis::default() } };
        replica.offer_state(PEER, b"k", claim, 7, NOW_MS, || ())
    }

    /// Found by the simulation.
    #[test]
    fn a_state_of_a_peer_that_has_not_heard_of_our_write_does_not_beat_it() {
        let mut replica: Replica<()> = Replica::new("a", 1, Bounds::default());
        replica.connected(PEER);
        let slot = replica.begin(b"k", 1, || ()).expect("nobody else is there");
        replica.complete(slot, ITEM, NOW_MS, &mut Vec::new());
        assert!(replica.is_owed(b"k"));
        assert_eq!(offered(&mut replica, false), Offer::TooOld);
        let mut sent = Vec::new();
        replica.take(PEER, usize::MAX, NOW_MS, &mut sent);
        assert_eq!(sent.len(), 1);
        assert_eq!(offered(&mut replica, false), Offer::TooOld, "sent is not applied");
        // Two items have said which is newer, and then an app wrote.
        assert_eq!(offered(&mut replica, true), Offer::TooOld);
        assert!(replica.acknowledge(PEER, 1, 0, NOW_MS));
        assert!(matches!(offered(&mut replica, false), Offer::Apply(_)));
    }

    /// Found by chaos: a copy filled the ledger, and the little that was owed was given up for that.
    #[test]
    fn what_a_resync_keeps_costs_nobody_what_is_owed() {
        let bounds = Bounds { backlog_bytes: 64 << 10, ..Bounds::default() };
        let mut replica: Replica<()> = Replica::new("a", 1, bounds);
        replica.connected(PEER);
        replica.hold(true);
        let slot = replica.begin(b"deleted", 1, || ()).expect("nobody else is there");
        replica.complete(slot, Effect::Removed, NOW_MS, &mut Vec::new());
        for number in 1..2_000_u64 {
            let version = super::super::Clock::new("b", 60_000).stamp(NOW_MS + number);
            replica.heard_mark(PEER, version, 0, NOW_MS + number);
            let claim = Claim { version: version.later_by(1), item: None, basis: Basis::default() };
            let key = format!("copied{number}");
            match replica.offer_state(PEER, key.as_bytes(), claim, 7, NOW_MS + number, || ()) {
                Offer::Apply(slot) => replica.applied_state(slot, claim.version, &mut Vec::new()),
                other => panic!("{other:?}"),
            }
            assert!(replica.counters().ledger_bytes <= bounds.backlog_bytes);
        }
        assert_eq!(replica.status(PEER, NOW_MS).gap, None);
        assert!(replica.is_owed(b"deleted"));
        replica.check_invariants();
    }

    /// Found by chaos: it was, and an item came back that had been deleted here.
    #[test]
    fn a_memcached_that_is_filled_takes_no_states_once_something_was_given_up() {
        let bounds = Bounds { backlog_bytes: 64 << 10, ..Bounds::default() };
        let mut replica: Replica<()> = Replica::new("a", 1, bounds);
        replica.memcached_found(true);
        replica.connected(PEER);
        replica.heard_mark(PEER, super::super::Clock::new("b", 60_000).stamp(NOW_MS), 0, NOW_MS);
        assert!(matches!(offered(&mut replica, false), Offer::Apply(slot) if {
            replica.abandon(slot, PEER, &mut Vec::new());
            true
        }));
        for number in 0..2_000 {
            let slot =
                replica.begin(format!("deleted{number}").as_bytes(), 1, || ()).expect("nobody else is there");
            replica.complete(slot, Effect::Removed, NOW_MS, &mut Vec::new());
        }
        assert!(replica.status(PEER, NOW_MS).gap.is_some() && replica.warming().is_some());
        assert_eq!(offered(&mut replica, false), Offer::TooOld);
    }

    /// The states of one batch have one version, and the first of them may be forgotten before the last one comes.
    #[test]
    fn a_state_as_old_as_what_was_forgotten_is_taken() {
        let mut replica: Replica<()> = Replica::new("a", 1, Bounds::default());
        let version = super::super::Clock::new("b", 60_000).stamp(NOW_MS);
        let offer = |replica: &mut Replica<()>, key: &[u8], version| match replica.offer_state(
            PEER,
            key,
            Claim { version, item: None, basis: Basis::default() },
            7,
            NOW_MS,
            || (),
        ) {
            Offer::Apply(slot) => {
                replica.applied_state(slot, version, &mut Vec::new());
                true
            }
            _ => false,
        };
        assert!(offer(&mut replica, b"first", version));
        replica.heard_mark(PEER, version, 0, NOW_MS);
        assert_eq!(replica.counters().ledger_entries, 0, "forgotten");
        assert!(offer(&mut replica, b"last", version));
        assert!(!offer(&mut replica, b"older", version.earlier_by(1)));
    }

    /// Found by the simulation: two comparisons at a time, and the second one did not know what the first one had brought.
    #[test]
    fn a_state_does_not_beat_one_that_came_after_ours_was_read() {
        let mut replica: Replica<()> = Replica::new("a", 2, Bounds::default());
        let claim = |version: Version, read| Claim {
            version,
            item: None,
            basis: Basis { decided: true, read: Some(read), unread: false },
        };
        let read = replica.begin_resync();
        let first = claim(read.later_by(10), read);
        let Offer::Apply(slot) = replica.offer_state(PEER, b"k", first, 7, NOW_MS, || ()) else {
            panic!("nothing is known")
        };
        replica.applied_state(slot, first.version, &mut Vec::new());
        for by_ms in [5, 20] {
            let second = claim(read.later_by(by_ms), read);
            assert_eq!(replica.offer_state(PeerId(1), b"k", second, 8, NOW_MS, || ()), Offer::TooOld);
        }
        let again = claim(read.later_by(5), replica.begin_resync());
        assert!(matches!(replica.offer_state(PeerId(1), b"k", again, 8, NOW_MS, || ()), Offer::Apply(_)));
    }

    /// Found by the simulation: the peer's state version stood behind our own write, for it had not heard of a third site since.
    #[test]
    fn of_two_items_that_were_looked_at_the_newer_one_wins_whatever_its_site_has_heard() {
        let mut replica: Replica<()> = Replica::new("a", 1, Bounds::default());
        let stale = replica.latest().later_by(1);
        let slot = replica.begin(b"k", 1, || ()).expect("nobody else is there");
        replica.complete(slot, ITEM, NOW_MS, &mut Vec::new());
        replica.connected(PEER);
        replica.take(PEER, usize::MAX, NOW_MS, &mut Vec::new());
        assert!(replica.acknowledge(PEER, 1, 0, NOW_MS));
        let claim =
            |read| Claim { version: stale, item: None, basis: Basis { decided: true, read, unread: false } };
        let slot = replica.begin(b"k", 1, || ()).expect("nobody else is there");
        let before = replica.begin_resync();
        replica.complete(slot, ITEM, NOW_MS, &mut Vec::new());
        replica.take(PEER, usize::MAX, NOW_MS, &mut Vec::new());
        assert!(replica.acknowledge(PEER, 2, 0, NOW_MS));
        for read in [None, Some(before)] {
            assert_eq!(replica.offer_state(PEER, b"k", claim(read), 7, NOW_MS, || ()), Offer::Superseded);
        }
        let after = replica.begin_resync();
        assert!(matches!(
            replica.offer_state(PEER, b"k", claim(Some(after)), 7, NOW_MS, || ()),
            Offer::Apply(_)
        ));
    }

    /// Found by chaos: a site that was being filled had the newest value, and then, for a moment, each of the older ones again that
    /// were on their way.
    #[test]
    fn what_was_written_before_a_state_was_read_does_not_come_over_it() {
        let mut giver: Replica<()> = Replica::new("a", 1, Bounds::default());
        let mut taker: Replica<()> = Replica::new("b", 1, Bounds::default());
        let heard = super::super::Clock::new("b", 60_000).stamp(NOW_MS);
        giver.heard_mark(PEER, heard, 0, NOW_MS);
        let mut write = |at: u64| {
            let slot = giver.begin(b"k", 1, || ()).expect("nobody else is there");
            giver.complete(slot, ITEM, NOW_MS + at, &mut Vec::new());
            giver.known(b"k")
        };
        let (older, newest) = (write(1), write(2));
        let least = giver.state_version(&Company::default());
        assert!(least < older, "nothing that was written here says what peers have heard");
        let claim = |version| Claim { version, item: None, basis: Basis::default() };
        assert_eq!(giver.state_version_of(b"other", least), least);
        let state = claim(giver.state_version_of(b"k", least));
        let Offer::Apply(slot) = taker.offer_state(PEER, b"k", state, 7, NOW_MS + 3, || ()) else {
            panic!("it holds nothing");
        };
        taker.applied_state(slot, state.version, &mut Vec::new());
        for version in [older, newest] {
            let offer = taker.offer(PEER, b"k", version, 7, NOW_MS + 3, || ());
            assert!(matches!(offer, Offer::Superseded | Offer::Duplicate), "{offer:?}");
        }
    }

    /// Found by the simulation: a win on a stale item was carried to two sites, and not to the third one, whose item was newer.
    #[test]
    fn who_takes_what_is_older_than_its_own_mutation_has_others_compared() {
        let (from, other) = (PEER, PeerId(1));
        for said_again in [true, false] {
            let mut replica: Replica<()> = Replica::new("a", 2, Bounds::default());
            for peer in [from, other] {
                replica.connected(peer);
                replica.met(peer, 1);
                replica.inbound_connected(peer, 1);
            }
            let slot = replica.begin(b"k", 1, || ()).expect("nobody else is there");
            replica.complete(slot, ITEM, NOW_MS, &mut Vec::new());
            for peer in [from, other] {
                replica.take(peer, usize::MAX, NOW_MS, &mut Vec::new());
                assert!(replica.acknowledge(peer, 1, 0, NOW_MS));
            }
            if said_again {
                replica.note_said_again();
            }
            let basis = Basis { decided: true, read: Some(replica.begin_resync()), unread: false };
            let claim = Claim { version: replica.latest(), item: Some(1), basis };
            let offer = replica.offer_state(from, b"k", claim, 7, NOW_MS, || ());
            assert!(matches!(offer, Offer::Apply(_)), "{offer:?}");
            assert_eq!(replica.loss(other) != Loss::Nothing, said_again);
        }
    }

    /// Three sites, one of them away: a copy between the other two dropped everywhere what both of them had.
    #[test]
    fn what_a_third_site_is_owed_is_looked_at_before_it_is_dropped() {
        let mut replica: Replica<()> = Replica::new("a", 2, Bounds::default());
        replica.connected(PEER);
        let slot = replica.begin(b"k", 1, || ()).expect("nobody else is there");
        replica.complete(slot, ITEM, NOW_MS, &mut Vec::new());
        replica.take(PEER, usize::MAX, NOW_MS, &mut Vec::new());
        assert!(replica.acknowledge(PEER, 1, 0, NOW_MS) && replica.is_owed(b"k"));
        let version = replica.latest().later_by(10);
        let mut offered = |unread| {
            let claim = Claim { version, item: None, basis: Basis { unread, ..Basis::default() } };
            replica.offer_state(PEER, b"k", claim, 7, NOW_MS, || ())
        };
        assert_eq!(offered(true), Offer::TooOld);
        assert!(matches!(offered(false), Offer::Drop(_)), "it differs");
    }

    /// A comparison without authority dropped keys that apps wrote all the time, because they differed whenever they were read.
    #[test]
    fn what_is_written_while_two_sites_are_compared_is_known() {
        let mut replica: Replica<()> = Replica::new("a", 1, Bounds::default());
        let write = |replica: &mut Replica<()>, key: &[u8]| {
            let slot = replica.begin(key, 1, || ()).expect("nobody else is there");
            replica.complete(slot, ITEM, NOW_MS, &mut Vec::new());
        };
        write(&mut replica, b"before");
        let began = replica.begin_resync();
        write(&mut replica, b"since");
        let written = [&b"before"[..], b"since", b"never"].map(|key| replica.is_written_since(key, began));
        assert_eq!(written, [false, true, false]);
    }
}
