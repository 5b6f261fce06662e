//! The replica as threads see it: one lock, held for moments, never over an await.
//!
//! Workers complete their writes here, a batch at a time; dialers and acceptors do their part. Whoever is owed
//! something is poked through [`Shared::owed`], whoever waits for a gate is woken with its slot. A waiter that is
//! gone by then, a session that was closed, gives its slot back by itself.

mod progress;

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::{Notify, oneshot};

pub use progress::{Board, Progress};

use super::versioned::Agreement;
use super::wall_clock::wall_clock_ms;
use super::{
    Bounds, Effect, Incarnation, LaneId, Left, Listing, PeerId, Replica, Slot, Unversioned, Version,
};

/// How the holder of a wait hears that the gate is its own.
pub type Waiter = oneshot::Sender<Slot>;

/// Waiters and the slots they were given while the lock was held.
pub type Woken = Vec<(Waiter, Slot)>;

/// The outcome of a local write.
#[derive(Debug)]
pub enum Outcome {
    /// Of one key.
    Key(Slot, Effect),
    /// Of one key, for a write that was promised this version.
    Promised(Slot, Version, Effect),
    /// Of a flush of everything: whether it took place.
    Flush(bool),
    /// Of a flush whose answer never came.
    FlushUnknown,
}

/// Answer to a request for a gate.
#[derive(Debug)]
pub enum Begin {
    /// The gate is the caller's.
    Granted(Slot),
    /// Somebody else holds it; await this.
    Waiting(Wait),
}

/// Where keys go that memory has no room for.
pub trait Lists: fmt::Debug + Send + Sync {
    /// Does to the lists what happened. Called under the replica's lock, so it waits for nothing. Answers with those
    /// of the peers concerned whose lists are not complete.
    fn tell(&self, told: Vec<Listing>) -> Vec<PeerId>;

    /// How many keys are on a peer's list; None: it is not complete.
    fn keys(&self, peer: PeerId) -> Option<u64>;
}

/// The replica of this site, shared by all threads.
#[derive(Debug)]
pub struct Shared {
    replica: Mutex<Replica<Waiter>>,
    owed: Vec<Notify>,
    stale_marks: AtomicBool,
    lists: OnceLock<Arc<dyn Lists>>,
    memcached: Mutex<Option<Incarnation>>,
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
            replica: Mutex::new(Replica::new(site, peers, bounds)),
            owed: (0..peers).map(|_| Notify::new()).collect(),
            stale_marks: AtomicBool::new(false),
            lists: OnceLock::new(),
            board: OnceLock::new(),
            agreement: Mutex::new(Agreement::new(site, peers)),
            versioned: AtomicBool::new(false),
            memcached: Mutex::new(None),
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

    /// From now on what is given up for a peer goes to `lists`, where a run that ended at `since_ms` has `left`
    /// something.
    pub fn keep_lists(&self, lists: Arc<dyn Lists>, left: &[Left], since_ms: u64) {
        if self.lists.set(lists).is_ok() {
            self.lock().keep_lists(left, since_ms);
        }
    }

    /// The proxy stops: lists what peers do not have, and tells of each whether its list says it all.
    pub fn list_rest(&self, mut listed: impl FnMut(PeerId, bool)) {
        let mut replica = self.lock();
        for peer in (0..self.owed.len()).map(PeerId) {
            let all = replica.list_rest(peer);
            self.tell_lists(&mut replica);
            listed(peer, all);
        }
    }

    /// A list that was lost by itself, on its disk, makes a loss of what was given up.
    pub fn check_lists(&self) {
        let Some(lists) = self.lists.get() else { return };
        for peer in (0..self.owed.len()).map(PeerId).filter(|peer| lists.keys(*peer).is_none()) {
            self.lock().unlist(peer);
        }
    }

    /// The peer has been sent what was on its list. False: there is more, or the list is not complete.
    pub fn list_delivered(&self, peer: PeerId) -> bool {
        let mut replica = self.lock();
        let delivered = self.lists.get().is_none_or(|lists| lists.keys(peer) == Some(0));
        if delivered {
            replica.list_delivered(peer);
        }
        delivered
    }

    /// Under the lock still, so that lists hear of everything in the order in which it happened.
    fn tell_lists(&self, replica: &mut Replica<Waiter>) {
        let told = replica.take_listings();
        if let (false, Some(lists)) = (told.is_empty(), self.lists.get()) {
            for incomplete in lists.tell(told) {
                replica.unlist(incomplete);
            }
        }
    }

    /// Asks for the gate of `key` for a write on `lane`.
    pub fn begin(self: &Arc<Self>, key: &[u8], lane: LaneId) -> Begin {
        let mut receiver = None;
        let slot = self.lock().begin(key, lane, || waiter(&mut receiver));
        self.granted_or_wait(slot, receiver)
    }

    /// Asks for the gate of `key` for a write that tells memcached its version, which is promised with the gate. One that
    /// has to wait asks for its promise when it has its slot and is about to be sent.
    pub fn begin_promised(
        self: &Arc<Self>,
        key: &[u8],
        lane: LaneId,
        now_ms: u64,
    ) -> (Begin, Option<Version>) {
        let mut receiver = None;
        let mut replica = self.lock();
        let slot = replica.begin(key, lane, || waiter(&mut receiver));
        let version = slot.map(|_| replica.promise(now_ms));
        drop(replica);
        (self.granted_or_wait(slot, receiver), version)
    }

    /// Asks for all gates at once.
    pub fn begin_flush(self: &Arc<Self>) -> Begin {
        let mut receiver = None;
        let granted = self.lock().begin_flush(|| waiter(&mut receiver));
        self.granted_or_wait(granted.then_some(Slot::FLUSH), receiver)
    }

    fn granted_or_wait(
        self: &Arc<Self>,
        slot: Option<Slot>,
        receiver: Option<oneshot::Receiver<Slot>>,
    ) -> Begin {
        match (slot, receiver) {
            (Some(slot), _) => Begin::Granted(slot),
            (None, Some(receiver)) => Begin::Waiting(self.wait(receiver)),
            (None, None) => unreachable!("the replica takes a waiter when it grants nothing"),
        }
    }

    /// A wait on a receiver whose sender was given to the replica.
    pub fn wait(self: &Arc<Self>, receiver: oneshot::Receiver<Slot>) -> Wait {
        Wait { receiver, shared: Arc::clone(self) }
    }

    /// Reports the outcomes of a batch of local writes, and says the version of the newest of them.
    pub fn complete(&self, outcomes: Vec<Outcome>, now_ms: u64) -> Version {
        let (owed, newest) = self.with(|replica, woken| {
            let mut owed = false;
            for outcome in outcomes {
                owed |= match outcome {
                    Outcome::Key(slot, effect) => replica.complete(slot, effect, now_ms, woken),
                    Outcome::Promised(slot, version, effect) => {
                        replica.complete_promised(slot, version, effect, now_ms, woken)
                    }
                    Outcome::Flush(flushed) => replica.complete_flush(flushed, now_ms, woken),
                    Outcome::FlushUnknown => {
                        replica.flush_unknown(now_ms, woken);
                        false
                    }
                };
            }
            (owed, replica.latest())
        });
        if owed {
            self.poke_all();
        }
        newest
    }

    /// An app wants a flush at this time. It is run by whoever asks the replica what is due.
    pub fn schedule_flush(&self, at_ms: u64, now_ms: u64) {
        if self.lock().schedule_flush(at_ms, now_ms) {
            self.poke_all();
        }
    }

    /// Tells every dialer that something is owed.
    pub fn poke_all(&self) {
        for notify in &self.owed {
            notify.notify_one();
        }
    }

    /// Marks a key as changed, after the fact and without having held its gate: it is read again and sent as it is
    /// by then. Sound because what is sent is read later than the change and stamped later than all else known.
    pub async fn mark(self: Arc<Self>, key: Box<[u8]>, effect: Effect) -> Version {
        let slot = match self.begin(&key, next_lane()) {
            Begin::Granted(slot) => slot,
            Begin::Waiting(wait) => wait.await,
        };
        let now_ms = wall_clock_ms();
        let (owed, newest) = self.with(|replica, woken| {
            (replica.complete_afterwards(slot, effect, now_ms, woken), replica.latest())
        });
        if owed {
            self.poke_all();
        }
        newest
    }

    /// Waits until something may be owed to `peer`.
    pub async fn owed(&self, peer: PeerId) {
        match self.owed.get(peer.0) {
            Some(notify) => notify.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Somebody has a new connection to memcached and asked who it is, before using it. True: it is another one than
    /// before, and empty.
    pub fn memcached_seen(&self, seen: Incarnation) -> bool {
        let mut known = self.memcached.lock().unwrap_or_else(PoisonError::into_inner);
        let restarted = match &*known {
            Some(known) if known.is(&seen) => return false,
            Some(_) => true,
            None => false,
        };
        *known = Some(seen);
        // Still under the first lock: nobody may read from the new one as if it were the old one.
        let mut replica = self.lock();
        if restarted {
            replica.memcached_restarted()
        } else {
            replica.memcached_found(seen.items == 0)
        }
        drop(replica);
        self.resync.notify_one();
        restarted
    }

    /// The memcached that was seen last.
    pub fn memcached_life(&self) -> Option<Incarnation> {
        *self.memcached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a resync may have become due.
    pub async fn resync_due(&self) {
        self.resync.notified().await;
    }

    /// Stale marks (`md … I`) are in use: from now on nobody may read an item with `mg` on the quiet, because
    /// that takes the one right to recache it.
    pub fn note_stale_marks(&self) {
        self.stale_marks.store(true, Ordering::Relaxed);
    }

    /// Whether stale marks were ever seen here.
    pub fn stale_marks_seen(&self) -> bool {
        self.stale_marks.load(Ordering::Relaxed)
    }

    /// Whether versions are the CAS of items: what goes to memcached says its version.
    pub fn is_versioned(&self) -> bool {
        self.versioned.load(Ordering::Relaxed)
    }

    /// Why not, if so.
    pub fn unversioned(&self) -> Option<Unversioned> {
        self.agreement().verdict().err()
    }

    /// Whether our memcached can be told the CAS of an item, if that is known.
    pub fn takes_versions(&self) -> Option<bool> {
        self.agreement().takes_here()
    }

    /// What our memcached can do; None while it is away.
    pub fn note_own_memcached(&self, takes_versions: Option<bool>) {
        self.agree(|agreement| agreement.here(takes_versions));
    }

    /// What a peer says of its own.
    pub fn note_memcached_of(&self, peer: PeerId, takes_versions: bool) {
        self.agree(|agreement| agreement.peer(peer, takes_versions));
    }

    /// What a peer is called.
    pub fn note_site_of(&self, peer: PeerId, site: &str) {
        self.agree(|agreement| agreement.met(peer, site));
    }

    fn agree(&self, change: impl FnOnce(&mut Agreement)) {
        let mut agreement = self.agreement();
        change(&mut agreement);
        self.versioned.store(agreement.verdict().is_ok(), Ordering::Relaxed);
    }

    fn agreement(&self) -> MutexGuard<'_, Agreement> {
        self.agreement.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass_on(&self, mut woken: Woken) {
        while let Some((waiter, slot)) = woken.pop() {
            if waiter.send(slot).is_err() {
                give_back(&mut self.lock(), slot, &mut woken);
            }
        }
    }
}

/// A place in the queue before a gate. Dropping it gives up the place, or the gate if that was already won.
#[derive(Debug)]
pub struct Wait {
    receiver: oneshot::Receiver<Slot>,
    shared: Arc<Shared>,
}

impl Future for Wait {
    type Output = Slot;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Slot> {
        match Pin::new(&mut self.receiver).poll(cx) {
            Poll::Ready(Ok(slot)) => Poll::Ready(slot),
            // The replica never drops a waiter while the process runs.
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.receiver.close();
        if let Ok(slot) = self.receiver.try_recv() {
            self.shared.with(|replica, woken| give_back(replica, slot, woken));
        }
    }
}

fn give_back(replica: &mut Replica<Waiter>, slot: Slot, woken: &mut Woken) {
    // Nothing was done under this gate, so nothing is stamped and the time does not matter.
    if slot == Slot::FLUSH {
        replica.complete_flush(false, 0, woken);
    } else {
        replica.complete(slot, Effect::None, 0, woken);
    }
}

fn waiter(receiver: &mut Option<oneshot::Receiver<Slot>>) -> Waiter {
    let (sender, waiting) = oneshot::channel();
    *receiver = Some(waiting);
    sender
}

/// A number no upstream connection of this process had before.
pub fn next_lane() -> LaneId {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
