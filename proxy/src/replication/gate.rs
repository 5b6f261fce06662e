//! The gate of one key: who may have a write of it on its way to memcached.
//!
//! Writes of one lane pass together, because the lane is a FIFO: memcached applies and answers them in the order
//! in which they began. Everybody else waits, and is served in order. A peer's mutations pass together only on
//! their own lane and only while their versions rise, because they are compared when they begin and not when they
//! end; they never pass together with local writes, whose versions are not known before they end.

use std::collections::VecDeque;

use super::replica::LaneId;
use super::version::Version;

/// What a write shows at the gate.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) struct Pass {
    pub(super) lane: LaneId,
    /// The version of a peer's mutation; None for a local write.
    pub(super) mirrored: Option<Version>,
}

/// Who holds the gate of a key, and who waits for it.
#[derive(Debug)]
pub(super) struct Gate<W> {
    holders: u32,
    /// The pass of the newest holder; says nothing without holders.
    newest: Pass,
    waiters: VecDeque<(Pass, W)>,
}

impl<W> Gate<W> {
    pub(super) fn new() -> Self {
        Self { holders: 0, newest: Pass { lane: 0, mirrored: None }, waiters: VecDeque::new() }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.holders == 0
    }

    /// Lets a write in, or says no.
    pub(super) fn enter(&mut self, pass: Pass) -> bool {
        let open = self.waiters.is_empty() && self.admits(pass);
        if open {
            self.hold(pass);
        }
        open
    }

    /// The newest holder is alone from now on: what comes later waits until it is done.
    pub(super) fn close(&mut self) {
        self.newest.mirrored = Some(Version::MAX);
    }

    /// Puts a write that was refused behind those that wait. Those that are gone make room for it.
    pub(super) fn wait(&mut self, pass: Pass, waiter: W, is_gone: fn(&W) -> bool) {
        debug_assert!(self.holders > 0, "nobody waits at an open gate");
        make_room(&mut self.waiters, |(_, waiter)| is_gone(waiter));
        self.waiters.push_back((pass, waiter));
    }

    /// One holder leaves; those whose turn it is are woken. Returns how many.
    pub(super) fn leave(&mut self, mut wake: impl FnMut(W)) -> u32 {
        debug_assert!(self.holders > 0, "a slot was given back twice");
        self.holders = self.holders.saturating_sub(1);
        let mut let_in = 0;
        while let Some((pass, _)) = self.waiters.front() {
            if !self.admits(*pass) {
                break;
            }
            let Some((pass, waiter)) = self.waiters.pop_front() else { break };
            self.hold(pass);
            let_in += 1;
            wake(waiter);
        }
        let_in
    }

    pub(super) fn holders(&self) -> u32 {
        self.holders
    }

    pub(super) fn has_waiters(&self) -> bool {
        !self.waiters.is_empty()
    }

    fn admits(&self, pass: Pass) -> bool {
        if self.holders == 0 {
            return true;
        }
        self.newest.lane == pass.lane
            && match (self.newest.mirrored, pass.mirrored) {
                (None, None) => true,
                (Some(pending), Some(version)) => version > pending,
                _ => false,
            }
    }

    fn hold(&mut self, pass: Pass) {
        self.holders += 1;
        self.newest = pass;
    }
}

/// Before a queue of waiters grows, whoever is gone leaves it. So it is at most about twice as long as it ever had to be,
/// however long the gate stays closed: apps come, time out and come again while memcached is away.
pub(super) fn make_room<T>(queue: &mut VecDeque<T>, is_gone: impl Fn(&T) -> bool) {
    let places = queue.capacity();
    if queue.len() < places {
        return;
    }
    queue.retain(|waiter| !is_gone(waiter));
    // Or a queue that is nearly full would be looked through for each that comes.
    if queue.len() > places / 2 {
        queue.reserve(places);
    }
}

#[cfg(test)]
mod tests {
    use super::super::version::Origin;
    use super::*;

    const NOBODY: [u32; 0] = [];

    fn local(lane: LaneId) -> Pass {
        Pass { lane, mirrored: None }
    }

    fn mirrored(lane: LaneId, time: u64) -> Pass {
        Pass { lane, mirrored: Some(Version::new(time, Origin::of("b"))) }
    }

    fn nobody_goes(_: &u32) -> bool {
        false
    }

    fn leave(gate: &mut Gate<u32>) -> Vec<u32> {
        let mut woken = Vec::new();
        let count = gate.leave(|waiter| woken.push(waiter));
        assert_eq!(count as usize, woken.len());
        woken
    }

    #[test]
    fn who_is_gone_takes_no_room() {
        let mut gate = Gate::new();
        assert!(gate.enter(local(1)));
        for waiter in 0..10_000 {
            // One of a thousand stays.
            gate.wait(local(2), waiter, |waiter| waiter % 1000 != 0);
        }
        assert!(gate.waiters.capacity() < 64, "{}", gate.waiters.capacity());
        let stayed: Vec<u32> = leave(&mut gate).into_iter().filter(|waiter| waiter % 1000 == 0).collect();
        assert_eq!(stayed, (0..10).map(|n| n * 1000).collect::<Vec<_>>(), "in their order");
    }

    #[test]
    fn one_lane_passes_together_until_somebody_waits() {
        let mut gate = Gate::new();
        assert!(gate.enter(local(1)) && gate.enter(local(1)));
        assert!(!gate.enter(local(2)));
        gate.wait(local(2), 20, nobody_goes);
        assert!(!gate.enter(local(1)), "the waiter is first");
        gate.wait(local(1), 10, nobody_goes);
        assert_eq!(leave(&mut gate), NOBODY);
        assert_eq!(leave(&mut gate), [20]);
        assert_eq!(leave(&mut gate), [10]);
        assert_eq!(leave(&mut gate), NOBODY);
        assert!(gate.is_idle());
    }

    #[test]
    fn waiters_of_one_lane_are_let_in_together() {
        let mut gate = Gate::new();
        assert!(gate.enter(local(1)));
        for waiter in [20, 21] {
            gate.wait(local(2), waiter, nobody_goes);
        }
        gate.wait(mirrored(2, 5), 22, nobody_goes);
        assert_eq!(leave(&mut gate), [20, 21]);
        assert_eq!(leave(&mut gate), NOBODY);
        assert_eq!(leave(&mut gate), [22]);
    }

    #[test]
    fn mirrored_writes_pass_together_only_in_rising_order() {
        let mut gate = Gate::<u32>::new();
        assert!(gate.enter(mirrored(1, 5)));
        assert!(!gate.enter(mirrored(1, 5)));
        assert!(!gate.enter(mirrored(1, 4)));
        assert!(!gate.enter(mirrored(2, 6)));
        assert!(!gate.enter(local(1)), "a local write has no version yet");
        assert!(gate.enter(mirrored(1, 6)));
    }
}
