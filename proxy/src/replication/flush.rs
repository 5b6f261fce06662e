//! `flush_all`: a mutation of all keys, with a gate over all gates.
//!
//! A flush waits until no write is in flight and holds whatever begins later, so that every write is plainly
//! before or after it. The newest flush known stands for the tombstones of all keys older than it, so the ledger
//! keeps none of them. A peer's flush may destroy here what is newer than it: that becomes a deletion with a fresh
//! version, mirrored to all: a miss on every side rather than a difference.
//!
//! A scheduled flush (`flush_all 30`) is a note in the replica, and memcached never hears of it: it keeps one time for
//! the flush that was and for the one to come, so a schedule would bring back what a flush has just removed. When it is
//! due the site that was asked runs an ordinary flush, which has a place in the order of all writes. Peers keep the note
//! too, for the case that this site is gone by then: seconds later they run it themselves.

use std::collections::VecDeque;
use std::sync::Arc;

use super::gate::{Pass, make_room};
use super::mutation::Effect;
use super::peer::{Peer, What};
use super::remote::Verdict;
use super::replica::{Offer, PeerId, Replica, Scheduled, Slot};
use super::room::Room;
use super::version::Version;

/// Open, or closed by a flush that waits or runs; then with what is held back behind it.
#[derive(Debug)]
pub(super) struct FlushGate<W> {
    state: State<W>,
    held: VecDeque<Held<W>>,
}

#[derive(Debug)]
enum State<W> {
    Open,
    /// Waits for the writes in flight.
    Waiting(W),
    Running,
}

#[derive(Debug)]
enum Held<W> {
    Write { key: Arc<[u8]>, pass: Pass, waiter: W },
    Flush(W),
}

impl<W> Held<W> {
    fn waiter(&self) -> &W {
        match self {
            Self::Write { waiter, .. } | Self::Flush(waiter) => waiter,
        }
    }
}

impl<W> FlushGate<W> {
    pub(super) fn new() -> Self {
        Self { state: State::Open, held: VecDeque::new() }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// A flush is on its way to memcached, alone.
    pub(super) fn is_running(&self) -> bool {
        matches!(self.state, State::Running)
    }

    /// Holds a write back until the flush is done.
    pub(super) fn hold(&mut self, key: &[u8], pass: Pass, waiter: W, is_gone: fn(&W) -> bool) {
        make_room(&mut self.held, |held| is_gone(held.waiter()));
        self.held.push_back(Held::Write { key: Arc::from(key), pass, waiter });
    }

    /// A flush comes while another one waits or runs.
    fn queue(&mut self, waiter: W, is_gone: fn(&W) -> bool) {
        match &mut self.state {
            // It takes the place of one that nobody waits for any more. What is held behind that began before this one, and
            // none of it was sent.
            State::Waiting(first) if is_gone(first) => *first = waiter,
            _ => {
                make_room(&mut self.held, |held| is_gone(held.waiter()));
                self.held.push_back(Held::Flush(waiter));
            }
        }
    }
}

impl<W> Replica<W> {
    /// Asks for all gates at once. False: the waiter will be woken with `Slot::FLUSH`.
    pub fn begin_flush(&mut self, waiter: impl FnOnce() -> W) -> bool {
        if self.flush_gate.is_open() {
            if self.in_flight == 0 {
                self.flush_gate.state = State::Running;
                return true;
            }
            self.flush_gate.state = State::Waiting(waiter());
        } else {
            self.flush_gate.queue(waiter(), self.is_gone);
        }
        self.counters.waited += 1;
        false
    }

    /// A local flush has its answer; `flushed` is false if memcached refused it (or the waiter is gone).
    pub fn complete_flush(&mut self, flushed: bool, now_ms: u64, woken: &mut Vec<(W, Slot)>) -> bool {
        if flushed {
            self.counters.flushes += 1;
            self.warmth.written = true;
            let version = self.clock.stamp(now_ms);
            for peer in &mut self.peers {
                let queued = peer.queue.front().map(|debt| debt.first);
                peer.cleared = [peer.cleared, queued].into_iter().flatten().min();
            }
            self.flush_ledger(version);
            self.flushed_all();
            for (index, peer) in self.peers.iter_mut().enumerate().filter(|(_, peer)| peer.present) {
                self.lister.anew(index);
                peer.flush = Some(version);
            }
        }
        self.open_flush_gate(woken);
        flushed && self.has_peers()
    }

    /// The connection broke with a local flush in flight. Whether it happened is unknown, so `due_flush` asks for
    /// another one, until one is completed.
    pub fn flush_unknown(&mut self, now_ms: u64, woken: &mut Vec<(W, Slot)>) {
        let version = self.clock.stamp(now_ms);
        self.scheduled = Some(Scheduled { version, at_ms: now_ms, due_ms: now_ms });
        self.open_flush_gate(woken);
    }

    /// A local `flush_all N`; `at_ms` is when it takes effect. True: poke the dialers.
    ///
    /// As with memcached, one is pending at a time, and any newer flush replaces it.
    pub fn schedule_flush(&mut self, at_ms: u64, now_ms: u64) -> bool {
        self.counters.flushes += 1;
        self.warmth.written = true;
        let version = self.clock.stamp(now_ms);
        self.scheduled = Some(Scheduled { version, at_ms, due_ms: at_ms });
        for peer in self.peers.iter_mut().filter(|peer| peer.present) {
            peer.scheduled = Some(version);
        }
        self.has_peers()
    }

    /// True when the scheduled flush is due here, and again every second until a flush is completed: run an ordinary
    /// flush through `begin_flush`.
    pub fn due_flush(&mut self, now_ms: u64) -> bool {
        match &mut self.scheduled {
            Some(Scheduled { due_ms, .. }) if *due_ms <= now_ms => {
                *due_ms = now_ms.saturating_add(TRY_AGAIN_MS);
                true
            }
            _ => false,
        }
    }

    /// A flush has come from a peer. When it waited, `reoffer` with `Slot::FLUSH` judges it again.
    pub fn offer_flush(
        &mut self,
        from: PeerId,
        version: Version,
        now_ms: u64,
        waiter: impl FnOnce() -> W,
    ) -> Offer {
        if let Some(refused) = self.refuse(from, version, now_ms) {
            return refused;
        }
        let verdict = self.judge_flush(from, version);
        if matches!(verdict, Verdict::Superseded | Verdict::Duplicate) || self.begin_flush(waiter) {
            return self.count(from, verdict, Slot::FLUSH);
        }
        Offer::Waiting
    }

    /// A peer's flush is done in memcached. True: poke the dialers, something newer was destroyed.
    pub fn applied_flush(
        &mut self,
        from: PeerId,
        version: Version,
        now_ms: u64,
        woken: &mut Vec<(W, Slot)>,
    ) -> bool {
        self.peers[from.0].counters.applied += 1;
        let mut newer: Vec<(Version, Arc<[u8]>)> = self
            .table
            .indices()
            .map(|at| &self.table[at])
            .filter(|entry| entry.version > version)
            .map(|entry| (entry.version, Arc::clone(&entry.key)))
            .collect();
        // In their order, and not in that of the hash table, which differs from run to run.
        newer.sort_unstable();
        self.flush_ledger(version);
        self.peers.iter_mut().for_each(Peer::clear_with_flush);
        let mut grew = false;
        for (_, key) in newer {
            let fresh = self.clock.stamp(now_ms);
            let at = self.table.find_or_insert(&key);
            grew |= self.owe(at, fresh, Effect::Removed, now_ms);
        }
        self.open_flush_gate(woken);
        self.keep_bounds(now_ms);
        grew
    }

    /// A scheduled flush has come from a peer: it is noted, and settled by that. False: refused, because its clock is
    /// too far ahead.
    pub fn heard_scheduled_flush(&mut self, from: PeerId, version: Version, at_ms: u64, now_ms: u64) -> bool {
        if let Some(refused) = self.refuse(from, version, now_ms) {
            return refused != Offer::Skewed;
        }
        let known =
            self.scheduled.map_or(self.last_flush, |scheduled| scheduled.version.max(self.last_flush));
        if version <= known {
            self.peers[from.0].counters.superseded += 1;
            return true;
        }
        self.peers[from.0].counters.applied += 1;
        self.scheduled = Some(Scheduled { version, at_ms, due_ms: at_ms.saturating_add(PEER_IS_LATE_MS) });
        true
    }

    /// The last write in flight is done: a flush that waited may run.
    pub(super) fn wake_flush(&mut self, woken: &mut Vec<(W, Slot)>) {
        if self.in_flight > 0 || !matches!(self.flush_gate.state, State::Waiting(_)) {
            return;
        }
        if let State::Waiting(waiter) = std::mem::replace(&mut self.flush_gate.state, State::Running) {
            woken.push((waiter, Slot::FLUSH));
        }
    }

    /// A flush is done: what was held back goes on, up to the next flush.
    pub(super) fn open_flush_gate(&mut self, woken: &mut Vec<(W, Slot)>) {
        debug_assert!(matches!(self.flush_gate.state, State::Running), "no flush was running");
        self.flush_gate.state = State::Open;
        while let Some(held) = self.flush_gate.held.pop_front() {
            match held {
                Held::Write { key, pass, waiter } => {
                    let mut waiter = Some(waiter);
                    let slot = self.enter(&key, pass, || waiter.take().expect("asked for once"));
                    if let (Some(slot), Some(waiter)) = (slot, waiter) {
                        woken.push((waiter, slot));
                    }
                }
                Held::Flush(waiter) => {
                    self.flush_gate.state = State::Waiting(waiter);
                    self.wake_flush(woken);
                    break;
                }
            }
        }
    }

    /// Everything is older than this flush, or destroyed by it. No gate is held now.
    fn flush_ledger(&mut self, version: Version) {
        debug_assert_eq!(self.in_flight, 0, "a flush runs alone");
        self.last_flush = self.last_flush.max(version);
        if self.scheduled.is_some_and(|scheduled| scheduled.version < version) {
            self.scheduled = None;
        }
        for peer in &mut self.peers {
            peer.counters.void += peer.owed_keys;
            (peer.owed_keys, peer.owed_bytes) = (0, 0);
            peer.queue.clear();
            for sent in &mut peer.window {
                if matches!(sent.what, What::Key { .. }) {
                    sent.what = What::Void;
                }
            }
            peer.flush = peer.flush.filter(|owed| *owed > version);
            peer.scheduled = peer.scheduled.filter(|owed| *owed > version);
        }
        self.age.clear();
        self.room = Room::default();
        self.table.clear();
    }
}

/// A flush that was due and did not come about is tried again.
const TRY_AGAIN_MS: u64 = 1000;
/// How long after it was due a peer's scheduled flush is awaited before it is run here: the peer has asked its
/// memcached by then and sent it, unless it is gone. If it is only far away everything is flushed twice.
const PEER_IS_LATE_MS: u64 = 5000;

#[cfg(test)]
mod tests {
    use super::super::Bounds;
    use super::*;

    /// Odd waiters are gone.
    fn replica() -> Replica<u32> {
        Replica::new("a", 0, Bounds::default()).with_waiters_that_go(|waiter| waiter % 2 == 1)
    }

    #[test]
    fn who_is_gone_is_not_held_behind_a_flush() {
        let mut a = replica();
        assert!(a.begin_flush(|| 0));
        for _ in 0..1000 {
            assert!(a.begin(b"k", 1, || 1).is_none());
            assert!(!a.begin_flush(|| 3));
        }
        assert!(a.flush_gate.held.capacity() < 16);
        assert!(a.begin(b"k", 1, || 2).is_none());
        let mut woken = Vec::new();
        a.complete_flush(true, 1, &mut woken);
        while let Some((_, Slot::FLUSH)) = woken.last() {
            a.complete_flush(false, 1, &mut woken);
        }
        assert_eq!(woken.iter().filter(|(waiter, _)| *waiter == 2).count(), 1);
    }

    #[test]
    fn a_flush_takes_the_place_of_one_that_nobody_waits_for() {
        let mut a = replica();
        let slot = a.begin(b"k", 1, || 0).expect("nobody holds the gate");
        assert!(!a.begin_flush(|| 1) && !a.begin_flush(|| 2));
        let mut woken = Vec::new();
        a.complete(slot, Effect::None, 1, &mut woken);
        assert_eq!(woken, [(2, Slot::FLUSH)]);
    }
}
