//! How far our writes have come, where threads can see it without the replica's lock, and who waits for it.
//!
//! ```text
//!   dialer: ack ─► Replica::acknowledge ─► settled ──publish──► three numbers ◄── look ── worker
//!                                                                     │                     ▲
//!                                                                     └── far enough for ───┘ woken
//! ```
//!
//! Written whenever the replica's lock is given back, by whoever held it. Each worker names the version it waits for and
//! looks again before it sleeps; who publishes looks whom that wakes. So a batch of acknowledgements costs each worker one
//! wake, and a write that nobody waits for costs none.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::replication::{Settled, Version};

/// What can be said about a write that somebody waits for.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Progress {
    /// Some live peer has not acknowledged it.
    Waiting,
    /// Every configured peer has it.
    Everywhere,
    /// Every live peer has it, but not every peer is live, or some peer will not get it.
    Degraded,
}

/// Progress as numbers: clock readings of our own versions.
#[derive(Debug)]
pub struct Board {
    live: AtomicU64,
    all: AtomicU64,
    missed: AtomicU64,
    waiters: Vec<Worker>,
}

#[derive(Debug)]
struct Worker {
    /// The oldest version it waits for.
    version: AtomicU64,
    wake: Notify,
}

impl Board {
    pub(super) fn new(workers: usize) -> Self {
        let worker = |_| Worker { version: AtomicU64::new(NOBODY), wake: Notify::new() };
        let [live, all, missed] = [const { AtomicU64::new(0) }; 3];
        Self { live, all, missed, waiters: (0..workers).map(worker).collect() }
    }

    /// Writes it down. Under the replica's lock, so that the last word is the newest.
    pub(super) fn publish(&self, settled: &Settled) {
        // Read in the opposite order: whoever sees `live` sees what came before it.
        self.missed.fetch_max(settled.missed.time(), Ordering::SeqCst);
        if let Some(all) = settled.all {
            self.all.fetch_max(all.time(), Ordering::SeqCst);
        }
        self.live.store(settled.live.time(), Ordering::SeqCst);
    }

    /// Wakes the workers whose oldest wait is over.
    pub(super) fn wake(&self) {
        for worker in &self.waiters {
            if self.look_at(worker.version.load(Ordering::SeqCst)) != Progress::Waiting {
                worker.wake.notify_one();
            }
        }
    }

    /// How far a write of ours has come.
    pub fn look(&self, version: Version) -> Progress {
        self.look_at(version.time())
    }

    fn look_at(&self, time: u64) -> Progress {
        let live = self.live.load(Ordering::SeqCst);
        let all = self.all.load(Ordering::SeqCst);
        let missed = self.missed.load(Ordering::SeqCst);
        if time <= all && time > missed {
            Progress::Everywhere
        } else if time <= live.max(all) {
            Progress::Degraded
        } else {
            Progress::Waiting
        }
    }

    /// Says what this worker waits for; none for nothing. Look again afterwards: it may have come just before.
    pub fn wait_for(&self, worker: usize, version: Option<Version>) {
        if let Some(worker) = self.waiters.get(worker) {
            worker.version.store(version.map_or(NOBODY, |version| version.time()), Ordering::SeqCst);
        }
    }

    /// Until what this worker waits for may have come.
    pub async fn changed(&self, worker: usize) {
        match self.waiters.get(worker) {
            Some(worker) => worker.wake.notified().await,
            None => std::future::pending().await,
        }
    }
}

/// Newer than everything.
const NOBODY: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;
    use crate::replication::Origin;

    fn version(time: u64) -> Version {
        Version::new(time, Origin::of("a"))
    }

    fn settled(live: u64, all: Option<u64>, missed: u64) -> Settled {
        Settled { live: version(live), all: all.map(version), missed: version(missed) }
    }

    #[test]
    fn what_all_peers_have_stays_true_when_one_goes() {
        let board = Board::new(1);
        assert_eq!(board.look(version(5)), Progress::Waiting);
        board.publish(&settled(5, Some(5), 0));
        assert_eq!(board.look(version(5)), Progress::Everywhere);
        board.publish(&settled(9, None, 0));
        assert_eq!(board.look(version(5)), Progress::Everywhere);
        assert_eq!(board.look(version(6)), Progress::Degraded);
        // A peer that has just come back may be further behind.
        board.publish(&settled(3, Some(3), 0));
        assert_eq!(board.look(version(5)), Progress::Everywhere);
        assert_eq!(board.look(version(6)), Progress::Waiting);
    }

    #[test]
    fn what_was_missed_is_not_everywhere() {
        let board = Board::new(1);
        board.publish(&settled(9, Some(9), 7));
        assert_eq!(board.look(version(7)), Progress::Degraded);
        assert_eq!(board.look(version(8)), Progress::Everywhere);
    }

    #[tokio::test]
    async fn only_who_waits_for_what_has_come_is_woken() {
        let board = Board::new(2);
        board.wait_for(0, Some(version(5)));
        board.wait_for(1, Some(version(6)));
        board.publish(&settled(5, Some(5), 0));
        board.wake();
        board.changed(0).await;
        let mut other = std::pin::pin!(board.changed(1));
        let waits = std::future::poll_fn(|cx| Poll::Ready(other.as_mut().poll(cx).is_pending())).await;
        assert!(waits, "it waits for something newer");
    }
}
