//! Where apps come in: accepts, counts, and hands each connection to the worker that has the fewest. Sessions that
//! peers open for their apps come in here, too, and take seats of the same number.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use memcloud_protocol::memcache::error::TOO_MANY_CONNECTIONS;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::metrics::{Refusal, WorkerCounters};
use crate::net::{Arrival, Listener};
use crate::worker::Inbox;

/// Accepts for one listener until drained.
pub(crate) struct FrontDoor {
    /// The workers, in no order.
    pub(crate) inboxes: Vec<Inbox>,
    /// Sessions at the most, over all workers.
    pub(crate) sessions_max: Arc<AtomicU64>,
    /// Where refusals are counted.
    pub(crate) counters: Arc<WorkerCounters>,
}

/// Counts a connection for as long as it lives.
#[derive(Debug)]
pub(crate) struct Seat(Arc<AtomicU64>);

impl Seat {
    /// Takes a seat of those that `count` counts.
    pub(crate) fn take(count: &Arc<AtomicU64>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where sessions of peers' apps wait for a seat; the next ones wait in their handshake.
pub(crate) fn lobby() -> (mpsc::Sender<Arrival>, mpsc::Receiver<Arrival>) {
    mpsc::channel(TUNNELS_WAITING_MAX)
}

impl FrontDoor {
    /// Lets apps in until `drain` is cancelled; then nobody listens any more.
    pub(crate) async fn open(self: Arc<Self>, listener: Listener, drain: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = drain.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok(accepted) => {
                    let refusal = [TOO_MANY_CONNECTIONS, b"\r\n"].concat();
                    let (read, welcome) = (Vec::new(), Vec::new());
                    self.seat(Arrival { accepted, read, welcome, refusal, tunnelled: false }).await;
                }
                Err(error) => {
                    // Out of file descriptors, most likely: apps that leave will free some.
                    self.counters.session_refused(Refusal::Accept);
                    tracing::warn!(%error, "an app could not be let in");
                    sleep(AFTER_FAILED_ACCEPT).await;
                }
            }
        }
    }

    /// Lets in the sessions that peers open for their apps, until `drain` is cancelled.
    pub(crate) async fn open_to_peers(
        self: Arc<Self>,
        mut arrivals: mpsc::Receiver<Arrival>,
        drain: CancellationToken,
    ) {
        loop {
            tokio::select! {
                biased;
                () = drain.cancelled() => return,
                Some(arrival) = arrivals.recv() => self.seat(arrival).await,
            }
        }
    }

    async fn seat(&self, arrival: Arrival) {
        let taken: u64 = self.inboxes.iter().map(Inbox::seats).sum();
        let Some(inbox) = self.inboxes.iter().min_by_key(|inbox| inbox.seats()) else { return };
        if taken >= self.sessions_max.load(Ordering::Relaxed) {
            self.counters.session_refused(Refusal::Limit);
            arrival.accepted.refuse(&arrival.refusal);
            return;
        }
        inbox.put(arrival).await;
    }
}

const AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(50);
/// Sessions of peers' apps that have no seat yet; far more than come while one is given away.
const TUNNELS_WAITING_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn a_session_of_a_peer_beyond_the_bound_waits_in_its_handshake() {
        let (sessions, waiting) = lobby();
        let mut taken = sessions.try_reserve_many(TUNNELS_WAITING_MAX).unwrap();
        let mut beyond = pin!(sessions.clone().reserve_owned());
        assert!(poll_fn(|cx| Poll::Ready(beyond.as_mut().poll(cx))).await.is_pending());
        drop(taken.next());
        beyond.await.unwrap();
        let mut late = pin!(sessions.clone().reserve_owned());
        let _full = sessions.try_reserve().unwrap();
        drop(waiting);
        assert!(poll_fn(|cx| late.as_mut().poll(cx)).await.is_err(), "the proxy stops: it is told at once");
    }
}
