//! Gates that somebody else holds, and those who wait for them.
//!
//! Promises that whoever waits is woken with the slot, and that a waiter that is gone by then, a session that was
//! closed, gives its slot back by itself: no gate is ever held by nobody.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::Shared;
use crate::replication::{Effect, LaneId, Replica, Slot, Version};

/// How the holder of a wait hears that the gate is its own.
pub type Waiter = oneshot::Sender<Slot>;

/// Waiters and the slots they were given while the lock was held.
pub type Woken = Vec<(Waiter, Slot)>;

/// Answer to a request for a gate.
#[derive(Debug)]
pub enum Begin {
    /// The gate is the caller's.
    Granted(Slot),
    /// Somebody else holds it; await this.
    Waiting(Wait),
}

/// A place in the queue before a gate. Dropping it gives up the place, or the gate if that was already won.
#[derive(Debug)]
pub struct Wait {
    receiver: oneshot::Receiver<Slot>,
    shared: Arc<Shared>,
}

/// A gate that is held to keep others out while nothing is written; open again once this is dropped.
#[derive(Debug)]
pub struct Shut {
    slot: Slot,
    shared: Arc<Shared>,
}

impl Begin {
    /// The gate's slot, as soon as it is the caller's.
    pub async fn granted(self) -> Slot {
        match self {
            Self::Granted(slot) => slot,
            Self::Waiting(wait) => wait.await,
        }
    }
}

impl Shared {
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

    /// Waits for the gate of a key, on a lane of its own, and keeps others out.
    pub async fn shut(self: &Arc<Self>, key: &[u8]) -> Shut {
        let slot = self.begin(key, next_lane()).granted().await;
        Shut { slot, shared: Arc::clone(self) }
    }

    /// Waits for the gate of a key that was [foreseen](Replica::foresee), on a lane of its own.
    pub async fn gate_foreseen(self: &Arc<Self>, key: &[u8]) -> Slot {
        let slot = self.begin(key, next_lane()).granted().await;
        self.lock().foreseen();
        slot
    }

    /// Gives slots to those who waited for them.
    pub(super) fn pass_on(&self, mut woken: Woken) {
        while let Some((waiter, slot)) = woken.pop() {
            if waiter.send(slot).is_err() {
                give_back(&mut self.lock(), slot, &mut woken);
            }
        }
    }
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

impl Drop for Shut {
    fn drop(&mut self) {
        self.shared.with(|replica, woken| give_back(replica, self.slot, woken));
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
