//! The replica as threads see it: one lock, held for moments, never over an await.
//!
//! Workers complete their writes here, a batch at a time; dialers and acceptors do their part. Whoever is owed
//! something is poked through [`Shared::owed`], whoever waits for a gate is woken with its slot.
//!
//! | part | what goes through the lock |
//! |---|---|
//! | `waits` | gates that somebody else holds |
//! | `writes` | what apps' writes have done |
//! | `members` | peers that come and go |
//! | `lists` | keys that memory has no room for |
//! | `memcached` | which memcached this is |
//! | `versions` | whether versions are the CAS of items |
//! | `progress` | how far our writes have come, for those who wait for that |

mod lists;
mod members;
mod memcached;
mod progress;
mod versions;
mod waits;
mod writes;

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;

pub use lists::Lists;
pub use progress::{Board, Progress};
pub use waits::{Begin, Shut, Wait, Waiter, Woken, next_lane};
pub use writes::Outcome;

use super::versioned::Agreement;
use super::{Bounds, Incarnation, PEERS_MAX, PeerId, Replica};

/// The replica of this site, shared by all threads.
#[derive(Debug)]
pub struct Shared {
    replica: Mutex<Replica<Waiter>>,
    owed: [Notify; PEERS_MAX],
    /// Places of peers that were ever taken.
    places: AtomicUsize,
    stale_marks: AtomicBool,
    lists: OnceLock<Arc<dyn Lists>>,
    memcached: Mutex<Option<Incarnation>>,
    /// Nobody listened at its address: whoever does later has begun later, with nothing.
    memcached_was_away: AtomicBool,
    /// Something happened that a resync may be about.
    resync: Notify,
    board: OnceLock<Board>,
    agreement: Mutex<Agreement>,
    /// What the agreement says, for the data path.
    versioned: AtomicBool,
}

/// The replica, for as long as it is held. Whoever waits for peers learns what came of it when it is given back.
#[derive(Debug)]
pub struct Guard<'a> {
    replica: MutexGuard<'a, Replica<Waiter>>,
    // Dropped after the lock is.
    board: Option<Wake<'a>>,
}

impl Deref for Guard<'_> {
    type Target = Replica<Waiter>;

    fn deref(&self) -> &Self::Target {
        &self.replica
    }
}

impl DerefMut for Guard<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.replica
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if let Some(Wake(board)) = &self.board {
            board.publish(&self.replica.settled());
        }
    }
}

#[derive(Debug)]
struct Wake<'a>(&'a Board);

impl Drop for Wake<'_> {
    fn drop(&mut self) {
        self.0.wake();
    }
}

impl Shared {
    /// A replica for `site` with so many configured peers.
    #[must_use]
    pub fn new(site: &str, peers: usize, bounds: Bounds) -> Arc<Self> {
        Arc::new(Self {
            replica: Mutex::new(Replica::new(site, peers, bounds).with_waiters_that_go(Waiter::is_closed)),
            owed: [const { Notify::const_new() }; PEERS_MAX],
            places: AtomicUsize::new(peers),
            stale_marks: AtomicBool::new(false),
            lists: OnceLock::new(),
            board: OnceLock::new(),
            agreement: Mutex::new(Agreement::new(site, peers)),
            versioned: AtomicBool::new(false),
            memcached: Mutex::new(None),
            memcached_was_away: AtomicBool::new(false),
            resync: Notify::new(),
        })
    }

    /// From now on it is shown how far our writes have come, to so many workers that may wait for it.
    pub fn show_progress(&self, workers: usize) {
        let board = Board::new(workers);
        board.publish(&self.lock().settled());
        let _ = self.board.set(board);
    }

    /// How far our writes have come, if that is shown.
    pub fn board(&self) -> Option<&Board> {
        self.board.get()
    }

    /// The replica itself, to look at or for calls that wake nobody. Hold it for moments.
    pub fn lock(&self) -> Guard<'_> {
        let replica = self.replica.lock().unwrap_or_else(PoisonError::into_inner);
        Guard { replica, board: self.board.get().map(Wake) }
    }

    /// Runs `work` under the lock, then passes on the gates it opened.
    pub fn with<R>(&self, work: impl FnOnce(&mut Replica<Waiter>, &mut Woken) -> R) -> R {
        let mut woken = Woken::new();
        let mut replica = self.lock();
        let result = work(&mut replica, &mut woken);
        self.tell_lists(&mut replica);
        drop(replica);
        self.pass_on(woken);
        result
    }

    /// Tells every dialer that something is owed.
    pub fn poke_all(&self) {
        for notify in &self.owed[..self.places.load(Ordering::Relaxed)] {
            notify.notify_one();
        }
    }

    /// Waits until something may be owed to `peer`.
    pub async fn owed(&self, peer: PeerId) {
        match self.owed.get(peer.0) {
            Some(notify) => notify.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Something was heard from which a resync may follow.
    pub fn resync_may_be_due(&self) {
        self.resync.notify_one();
    }

    /// Waits until a resync may have become due.
    pub async fn resync_due(&self) {
        self.resync.notified().await;
    }
}
