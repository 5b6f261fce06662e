//! Writes of apps: they pass the gate of their key, and are stamped when memcached has answered.
//!
//! ```text
//!   session          Replica            memcached            dialers
//!     │── begin ───────►│ gate              │                   │
//!     │◄─ slot ─────────│                   │                   │
//!     │── the command, on its lane ────────►│                   │
//!     │◄────────────────────── the answer ──│                   │
//!     │── complete ────►│ stamp, owe        │                   │
//!     │                 │── poke ─────────────────────────────► │ take
//! ```
//!
//! Stamping at the end and not at the beginning makes the order of versions the order in which memcached applied
//! the writes, because the gate lets only writes of one FIFO in together; and a write that memcached refused never
//! has a version. A slot's command must be on its way before its holder waits for anything else, or two holders
//! may wait for each other for ever.
//!
//! Where memcached is told the version of a write with the write itself, it is stamped at the beginning: `promised.rs`.

use std::sync::Arc;

use super::gate::Pass;
use super::mutation::{Effect, Marks};
use super::replica::{LaneId, Replica, Slot};
use super::version::Version;

impl<W> Replica<W> {
    /// Asks for the gate of `key` for a local write on `lane`. None: the waiter will be woken with its slot.
    pub fn begin(&mut self, key: &[u8], lane: LaneId, waiter: impl FnOnce() -> W) -> Option<Slot> {
        self.ask(key, Pass { lane, mirrored: None }, waiter)
    }

    /// A local write has its answer. True: something new is owed, poke the dialers.
    ///
    /// A delete that missed is `Removed` too: a peer may hold the item. A waiter that is gone gives its slot back
    /// with `Effect::None`.
    pub fn complete(&mut self, slot: Slot, effect: Effect, now_ms: u64, woken: &mut Vec<(W, Slot)>) -> bool {
        let unknown = effect == Effect::Unknown;
        let effect = match effect {
            Effect::None => {
                self.leave(slot, woken);
                return false;
            }
            Effect::Unknown => {
                self.counters.unknown += 1;
                Effect::Item { payload: None, marks: Marks::default() }
            }
            effect => effect,
        };
        // Only if nothing is owed already does the doubt cover all that is owed.
        let unsure = unknown && self.table[slot.0].owed == 0;
        let version = self.clock.stamp(now_ms);
        let grew = self.conclude(slot, version, effect, now_ms, woken);
        if unsure && self.table[slot.0].owed != 0 {
            self.table[slot.0].unsure = true;
            if self.warming().is_some() {
                // It was on its way to a memcached that is gone.
                self.forgive(slot.0);
            }
        }
        grew
    }

    /// The same for a write that held no gate, whose slot was asked for after its answer: what was read of the key in
    /// between was read without knowing of it.
    pub fn complete_afterwards(
        &mut self,
        slot: Slot,
        effect: Effect,
        now_ms: u64,
        woken: &mut Vec<(W, Slot)>,
    ) -> bool {
        let key = Arc::clone(&self.table[slot.0].key);
        let grew = self.complete(slot, effect, now_ms, woken);
        let entry = &mut self.table[slot.0];
        // Owed to nobody, it may be forgotten by now, and its place be another's.
        entry.marks_unsure |= Arc::ptr_eq(&key, &entry.key) && entry.owed != 0;
        grew
    }

    /// So many keys were changed, or may have been, without a gate or behind one that is given back. Until whoever is to
    /// stamp them holds their gates nobody may be told that peers are owed no more than the queues say.
    pub fn foresee(&mut self, keys: usize) {
        self.unstamped = self.unstamped.saturating_add(u32::try_from(keys).unwrap_or(u32::MAX));
    }

    /// One of those keys has its gate held, or is not to be stamped any more.
    pub fn foreseen(&mut self) {
        debug_assert!(self.unstamped > 0, "nobody foresaw this key");
        self.unstamped = self.unstamped.saturating_sub(1);
    }

    /// No write is on its way to memcached, and none is answered and not stamped.
    pub(super) fn is_stamped(&self) -> bool {
        self.in_flight == 0 && self.unstamped == 0
    }

    /// The keys of writes whose answers leave doubt, by their slots, which are to be given back. Others of their lane may
    /// be in flight behind them, so their gates have to be asked for anew: that is foreseen.
    pub fn doubted(&mut self, slots: &[Slot]) -> Vec<Box<[u8]>> {
        self.foresee(slots.len());
        slots.iter().map(|slot| self.table[slot.0].key.as_ref().into()).collect()
    }

    /// The keys of writes whose answer never came, by their slots. They are deleted in memcached, and then completed as
    /// `Removed`.
    pub fn unknown_outcomes(&mut self, slots: &[Slot]) -> Vec<Arc<[u8]>> {
        self.counters.unknown += slots.len() as u64;
        slots.iter().map(|slot| Arc::clone(&self.table[slot.0].key)).collect()
    }

    /// A write took effect, and this is its version.
    pub(super) fn conclude(
        &mut self,
        slot: Slot,
        version: Version,
        effect: Effect,
        now_ms: u64,
        woken: &mut Vec<(W, Slot)>,
    ) -> bool {
        self.counters.stamped += 1;
        (self.warmth.untouched, self.warmth.written) = (false, true);
        let grew = self.owe(slot.0, version, effect, now_ms);
        self.leave(slot, woken);
        self.sweep(SWEPT_PER_WRITE);
        self.keep_bounds(now_ms);
        grew
    }
}

/// A write pays for forgetting up to this many, so that a mark seldom finds many to forget at once.
const SWEPT_PER_WRITE: usize = 2;
