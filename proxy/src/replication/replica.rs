//! The replica: one site's state, behind one lock.

use super::clock::Clock;
use super::mutation::{Effect, Owed};
use super::status::{Counters, PeerStatus};
use super::version::Version;

/// An upstream connection: a FIFO in which memcached sees writes in the order in which they began.
pub type LaneId = u32;

/// Proof that a write holds the gate of its key (or, for a flush, of all keys). Give it back exactly once.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Slot(u32);

impl Slot {
    /// The slot of a granted flush.
    pub const FLUSH: Self = Self(u32::MAX);
}

/// The index of a configured `--peer`.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub struct PeerId(pub usize);

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
    clock: Clock,
    waiters: Vec<W>,
}

#[allow(unused_variables, clippy::ptr_arg, reason = "the bodies follow")]
impl<W> Replica<W> {
    /// A replica that owes nothing and knows nothing.
    pub fn new(site: &str, peers: usize, bounds: Bounds) -> Self {
        Self { clock: Clock::new(site, bounds.max_clock_skew_ms), waiters: Vec::new() }
    }

    /// Asks for the gate of `key` for a local write on `lane`. None: the waiter will be woken with its slot.
    pub fn begin(&mut self, key: &[u8], lane: LaneId, waiter: impl FnOnce() -> W) -> Option<Slot> {
        Some(Slot(0))
    }

    /// A local write has its answer. True: something new is owed, poke the dialers.
    pub fn complete(&mut self, slot: Slot, effect: Effect, now_ms: u64, woken: &mut Vec<(W, Slot)>) -> bool {
        false
    }

    /// Asks for all gates at once. False: the waiter will be woken with `Slot::FLUSH`.
    pub fn begin_flush(&mut self, waiter: impl FnOnce() -> W) -> bool {
        true
    }

    /// A local flush has its answer; `flushed` is false if memcached refused it (or the waiter is gone).
    pub fn complete_flush(&mut self, flushed: bool, now_ms: u64, woken: &mut Vec<(W, Slot)>) -> bool {
        false
    }

    /// A local `flush_all N` was accepted by memcached.
    pub fn schedule_flush(&mut self, at_ms: u64, now_ms: u64) -> bool {
        false
    }

    /// True once, a second after our own scheduled flush was due: run an ordinary flush through `begin_flush`.
    pub fn due_flush(&mut self, now_ms: u64) -> bool {
        false
    }

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
        Offer::Superseded
    }

    /// A mutation that waited has its slot: judge it again. Unless `Apply` or `Drop`, the gate is free again.
    pub fn reoffer(
        &mut self,
        slot: Slot,
        from: PeerId,
        version: Version,
        woken: &mut Vec<(W, Slot)>,
    ) -> Offer {
        Offer::Superseded
    }

    /// A peer's mutation is in memcached. True: poke the dialers.
    pub fn applied(&mut self, slot: Slot, from: PeerId, version: Version, woken: &mut Vec<(W, Slot)>) {}

    /// A peer's mutation (or flush, with `Slot::FLUSH`) could not be applied, or its waiter is gone.
    pub fn abandon(&mut self, slot: Slot, from: PeerId, woken: &mut Vec<(W, Slot)>) {}

    /// A flush has come from a peer. When it waited, `reoffer` with `Slot::FLUSH` judges it again.
    pub fn offer_flush(
        &mut self,
        from: PeerId,
        version: Version,
        now_ms: u64,
        waiter: impl FnOnce() -> W,
    ) -> Offer {
        Offer::Superseded
    }

    /// A peer's flush is done in memcached. True: poke the dialers.
    pub fn applied_flush(
        &mut self,
        from: PeerId,
        version: Version,
        now_ms: u64,
        woken: &mut Vec<(W, Slot)>,
    ) -> bool {
        false
    }

    /// A scheduled flush has come from a peer. True: forward `flush_all N` to memcached.
    pub fn heard_scheduled_flush(&mut self, from: PeerId, version: Version, at_ms: u64, now_ms: u64) -> bool {
        false
    }

    /// A mark has come, and everything before it on the link is processed.
    pub fn heard_mark(&mut self, from: PeerId, mark: Version, owed: u64, now_ms: u64) {}

    /// A link from the peer is up; `run` is the run id of its hello.
    pub fn inbound_connected(&mut self, from: PeerId, run: u64) {}

    /// The link from the peer is down.
    pub fn inbound_disconnected(&mut self, from: PeerId) {}

    /// The link to the peer is up: hello is done.
    pub fn connected(&mut self, to: PeerId) {}

    /// The link to the peer is down: what it has not acknowledged is owed again.
    pub fn disconnected(&mut self, to: PeerId) {}

    /// Moves up to `max_entries` owed mutations into the window. They must be written in this order.
    pub fn take(&mut self, to: PeerId, max_entries: usize, now_ms: u64, out: &mut Vec<Owed>) {}

    /// The peer has processed `count` mutations since hello. False: more than were sent; close the link.
    pub fn acknowledge(&mut self, to: PeerId, count: u64, now_ms: u64) -> bool {
        true
    }

    /// The mark to send. Only right when everything taken was written before it.
    pub fn mark(&mut self, to: PeerId, now_ms: u64) -> Mark {
        Mark { version: self.clock.stamp(now_ms), owed: 0 }
    }

    /// What can be told about one peer.
    pub fn status(&self, peer: PeerId, now_ms: u64) -> PeerStatus {
        PeerStatus::default()
    }

    /// What can be told about the site.
    pub fn counters(&self) -> Counters {
        Counters::default()
    }

    /// Every peer streams both ways, and nothing is queued, unacknowledged, in flight or missing.
    pub fn in_sync(&self) -> bool {
        true
    }

    /// Panics if an invariant is broken; for tests.
    pub fn check_invariants(&self) {}
}
