//! The replica's state, and the steps that several of its parts share.
//!
//! The parts: `local` (writes of apps), `remote` (mutations of peers), `flush`, `sending` (what peers are owed),
//! `forget` (what is no longer needed, and what there is no room for), `status`.

use std::collections::VecDeque;

use super::clock::Clock;
use super::flush::FlushGate;
use super::gate::Pass;
use super::listing::Lister;
use super::mutation::{Effect, Marks};
use super::peer::{Debt, Peer};
use super::promised::Promised;
use super::room::Room;
use super::status::Counters;
use super::table::{Table, payload_len};
use super::version::Version;
use super::warmth::Warmth;

/// An upstream connection: a FIFO in which memcached sees writes in the order in which they began.
pub type LaneId = u32;

/// Proof that a write holds the gate of its key (or, for a flush, of all keys). Give it back exactly once.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Slot(pub(super) u32);

impl Slot {
    /// The slot of a granted flush.
    pub const FLUSH: Self = Self(u32::MAX);
}

/// The place of a peer; another one may have it after it has gone.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub struct PeerId(pub usize);

/// Peers at a time, at the most: each has a bit.
pub const PEERS_MAX: usize = 64;

/// Limits on what is kept.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Bounds {
    /// All that is kept: keys, bookkeeping, and payloads up to half of it.
    pub backlog_bytes: u64,
    /// Mutations on their way to one peer, unacknowledged.
    pub window_entries: usize,
    /// Bytes on their way to one peer, unacknowledged.
    pub window_bytes: u64,
    /// How far ahead of our wall time a peer's version may lie.
    pub max_clock_skew_ms: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            backlog_bytes: 256 << 20,
            window_entries: 16_384,
            window_bytes: 8 << 20,
            max_clock_skew_ms: 60_000,
        }
    }
}

/// What to do with a peer's mutation.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[must_use]
pub enum Offer {
    /// Apply it to memcached, then call `applied` (or `abandon` if the upstream broke).
    Apply(Slot),
    /// It cannot be judged whether it is newer than what memcached holds: delete the key there instead (for a
    /// flush: flush) and call `complete(slot, Effect::Removed)` (`complete_flush(true)`), which mirrors the miss.
    Drop(Slot),
    /// The gate is held: the waiter gets the slot, then call `reoffer`. Nothing later on the link may pass.
    Waiting,
    /// Something newer is known. Acknowledge it.
    Superseded,
    /// It was processed before. Acknowledge it.
    Duplicate,
    /// It is our own. Acknowledge it and count: nobody should send it.
    Echo,
    /// Its clock is too far ahead. Acknowledge it, refused.
    Skewed,
    /// A state (never a mutation) that is older than what was forgotten here: read it again.
    TooOld,
}

/// What a dialer says about progress: the site sends nothing at or below `version` on this link any more.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Mark {
    /// The watermark.
    pub version: Version,
    /// How much is still owed: queued or unacknowledged.
    pub owed: u64,
}

/// One site's side of replication. `W` is a waiter: whatever the shell needs to go on with a write that waited.
#[derive(Debug)]
pub struct Replica<W> {
    pub(super) clock: Clock,
    pub(super) bounds: Bounds,
    pub(super) table: Table<W>,
    pub(super) peers: Vec<Peer>,
    /// Slots given out.
    pub(super) in_flight: u32,
    /// Keys that were changed, or may have been, whose gates somebody has yet to come by to say so.
    pub(super) unstamped: u32,
    /// Versions of writes in flight that were stamped when they began.
    pub(super) promised: Promised,
    pub(super) flush_gate: FlushGate<W>,
    /// Whether nobody waits any more who once did.
    pub(super) is_gone: fn(&W) -> bool,
    /// The newest flush known: whatever is older is gone.
    pub(super) last_flush: Version,
    pub(super) scheduled: Option<Scheduled>,
    /// Entries in about the order of their versions, each at most once.
    pub(super) age: VecDeque<(Version, u32)>,
    /// At or below the marks of all peers that count.
    pub(super) stable: Version,
    /// How far the making of room has come.
    pub(super) room: Room,
    /// The newest version that was forgotten.
    pub(super) horizon: Version,
    pub(super) lister: Lister,
    /// The newest of our own that some peer does not get by way of its queue.
    pub(super) missed: Version,
    /// Mutations were sent, or came, whose items were older than they.
    pub(super) said_again: bool,
    /// When this life of the proxy began.
    pub(super) born: Version,
    /// Resyncs that are on: entries are kept a little longer.
    pub(super) holds: u32,
    pub(super) warmth: Warmth,
    pub(super) counters: Counters,
}

/// A `flush_all` with a delay, our own or a peer's.
#[derive(Copy, Clone, Debug)]
pub(super) struct Scheduled {
    pub(super) version: Version,
    pub(super) at_ms: u64,
    /// When it is run here: its time, or for a peer's the time when the peer must be gone.
    pub(super) due_ms: u64,
}

impl<W> Replica<W> {
    /// A replica that owes nothing and knows nothing. At most [`PEERS_MAX`] peers.
    pub fn new(site: &str, peers: usize, bounds: Bounds) -> Self {
        assert!(peers <= PEERS_MAX, "a replica has at most 64 peers");
        let mut replica = Self {
            clock: Clock::new(site, bounds.max_clock_skew_ms),
            bounds,
            table: Table::new(),
            peers: (0..peers).map(|_| Peer { present: true, ..Peer::default() }).collect(),
            in_flight: 0,
            unstamped: 0,
            promised: Promised::default(),
            flush_gate: FlushGate::new(),
            is_gone: |_| false,
            last_flush: Version::ZERO,
            scheduled: None,
            age: VecDeque::new(),
            stable: Version::ZERO,
            room: Room::default(),
            horizon: Version::ZERO,
            lister: Lister::default(),
            missed: Version::ZERO,
            said_again: false,
            born: Version::ZERO,
            holds: 0,
            warmth: Warmth::default(),
            counters: Counters::default(),
        };
        replica.find_stable();
        replica
    }

    /// How to see that nobody waits any more who once did: such waiters are not kept.
    #[must_use]
    pub fn with_waiters_that_go(mut self, is_gone: fn(&W) -> bool) -> Self {
        self.is_gone = is_gone;
        self
    }

    /// Other limits hold from now on. What is beyond them is given up as writes and marks come.
    pub fn set_bounds(&mut self, bounds: Bounds) {
        self.clock.believe(bounds.max_clock_skew_ms);
        self.bounds = bounds;
    }

    /// Asks for a key's gate. None: a flush is on or waits, or somebody else holds the gate, and the waiter will be woken.
    pub(super) fn ask(&mut self, key: &[u8], pass: Pass, waiter: impl FnOnce() -> W) -> Option<Slot> {
        if self.flush_gate.is_open() {
            return self.enter(key, pass, waiter);
        }
        self.flush_gate.hold(key, pass, waiter(), self.is_gone);
        self.counters.waited += 1;
        None
    }

    /// Lets a write in at its key's gate, or makes it wait there.
    pub(super) fn enter(&mut self, key: &[u8], pass: Pass, waiter: impl FnOnce() -> W) -> Option<Slot> {
        let at = self.table.find_or_insert(key);
        let gate = &mut self.table[at].gate;
        if gate.enter(pass) {
            self.in_flight += 1;
            return Some(Slot(at));
        }
        gate.wait(pass, waiter(), self.is_gone);
        self.counters.waited += 1;
        None
    }

    /// Gives a slot back and wakes whose turn it is.
    pub(super) fn leave(&mut self, slot: Slot, woken: &mut Vec<(W, Slot)>) {
        let let_in = self.table[slot.0].gate.leave(|waiter| woken.push((waiter, slot)));
        self.in_flight = (self.in_flight + let_in).saturating_sub(1);
        self.forget_if_loose(slot.0);
        self.wake_flush(woken);
    }

    /// Sets the newest version of a key and owes it to every peer. True if a queue grew.
    pub(super) fn owe(&mut self, at: u32, version: Version, effect: Effect, now_ms: u64) -> bool {
        self.settle_parted(at);
        let effect = self.within_bounds(effect);
        let cost_before = self.table[at].cost();
        let before = &self.table[at];
        let unsure = before.marks_unsure;
        let plain = Marks::default();
        let marked = matches!(before.effect(), Effect::Item { marks, .. } if *marks != plain || unsure);
        let silent = matches!(&effect, Effect::Item { payload: None, marks } if *marks == plain);
        self.table[at].marks_unsure = marked && silent;
        self.table.set_effect(at, effect);
        let entry = &mut self.table[at];
        entry.unsure = false;
        debug_assert!(version > entry.version, "a key's versions only rise");
        (entry.version, entry.stated) = (version, false);
        let cost = entry.cost();
        let mut grew = false;
        for (index, peer) in self.peers.iter_mut().enumerate().filter(|(_, peer)| peer.present) {
            let bit = 1_u64 << index;
            if entry.owed & bit != 0 {
                peer.owed_bytes -= cost_before;
            } else if peer.is_given_up() {
                self.missed = self.clock.latest();
                if peer.lose(1, now_ms, version, self.lister.kept) {
                    self.lister.add(index, &entry.key);
                    self.counters.listed += 1;
                } else {
                    self.counters.lost += 1;
                }
                continue;
            } else {
                entry.owed |= bit;
                peer.owed_keys += 1;
            }
            peer.owed_bytes += cost;
            if entry.queued & bit == 0 {
                entry.queued |= bit;
                entry.pins += 1;
                peer.enqueue(Debt { first: version, at, again: false });
                grew = true;
            }
        }
        if entry.owed == 0 {
            self.table.set_effect(at, Effect::None);
        }
        self.note_age(at);
        grew
    }

    /// A peer no longer waits for this key. The payload goes with the last one.
    pub(super) fn settle(&mut self, at: u32, peer: usize) {
        let entry = &mut self.table[at];
        let bit = 1_u64 << peer;
        if entry.owed & bit == 0 {
            return;
        }
        entry.owed &= !bit;
        self.peers[peer].owed_keys -= 1;
        self.peers[peer].owed_bytes -= entry.cost();
        if entry.owed == 0 {
            self.table.set_effect(at, Effect::None);
        }
    }

    /// Something newer from elsewhere made all debts for this key void: it reaches the others from its origin.
    pub(super) fn void(&mut self, at: u32) {
        let mut owed = self.table[at].owed;
        while owed != 0 {
            let peer = owed.trailing_zeros() as usize;
            owed &= owed - 1;
            self.settle(at, peer);
            self.peers[peer].counters.void += 1;
            self.trim(peer);
        }
    }

    /// Takes void debts off the front of a peer's queue, so that its front is what the mark waits for.
    pub(super) fn trim(&mut self, peer: usize) {
        let bit = 1_u64 << peer;
        while let Some(debt) = self.peers[peer].queue.front() {
            let entry = &mut self.table[debt.at];
            if entry.owed & bit != 0 {
                break;
            }
            entry.queued &= !bit;
            entry.pins -= 1;
            self.peers[peer].queue.pop_front();
        }
    }

    /// Payloads may fill half of the bound; beyond it the item is read again when it is sent.
    fn within_bounds(&mut self, effect: Effect) -> Effect {
        let room = (self.bounds.backlog_bytes / 2).saturating_sub(self.table.payload_bytes());
        match effect {
            Effect::Item { payload: Some(_), marks } if payload_len(&effect) > room => {
                self.counters.payloads_dropped += 1;
                Effect::Item { payload: None, marks }
            }
            effect => effect,
        }
    }
}
