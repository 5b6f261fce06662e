//! Misses that a peer may fill: who asks for which key, and who is told (`--miss peer`).
//!
//! ```text
//!   session: miss ─ ask ─► Fills: one flight a key ◄─ wanted ─ link: asks a peer, applies its state
//!            repeats its read ◄──── told ────┘        ◄─ land ──┘
//! ```
//!
//! Promises that a key is on its way at most once however many ask for it; that nobody is asked while no peer answers, so
//! that a miss costs nothing then; and that no more than [`FLIGHTS_MAX`] are under way. Refuses to know what a key holds
//! and how it gets here.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

/// What became of a flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landing {
    /// The key may be here now; its value has so many bytes.
    Here {
        /// Of the value.
        bytes: usize,
    },
    /// Something as new is known here already, from an earlier flight perhaps: the key may be here.
    Known {
        /// Of the value that the peer has.
        bytes: usize,
    },
    /// The peer does not have it either.
    Missed,
    /// It could not be had.
    Failed,
}

/// How many misses were to be filled, and what came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FillFigures {
    /// Keys that came from a peer.
    pub filled: u64,
    /// Keys that the peer did not have either.
    pub missed: u64,
    /// Keys that could not be had: the peer was gone, or something newer is known here.
    pub failed: u64,
    /// Misses that joined a flight.
    pub joined: u64,
    /// Misses that were not asked for, because as many as may are under way.
    pub refused: u64,
    /// Keys under way now.
    pub in_flight: u64,
}

impl FillFigures {
    /// Label and count.
    pub fn by_outcome(&self) -> [(&'static str, u64); 5] {
        let Self { filled, missed, failed, joined, refused, .. } = *self;
        [("filled", filled), ("missed", missed), ("failed", failed), ("joined", joined), ("refused", refused)]
    }
}

/// All flights of this proxy.
#[derive(Debug)]
pub struct Fills {
    timeout: Duration,
    flights: Mutex<Flights>,
    wanted: Notify,
    filled: AtomicU64,
    missed: AtomicU64,
    failed: AtomicU64,
    joined: AtomicU64,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct Flights {
    /// A peer answers.
    open: bool,
    asked: BTreeMap<Arc<[u8]>, Vec<oneshot::Sender<Landing>>>,
    queue: VecDeque<Arc<[u8]>>,
}

impl Fills {
    /// For misses that wait so long.
    pub fn new(timeout: Duration) -> Self {
        let [filled, missed, failed, joined, refused] = [const { AtomicU64::new(0) }; 5];
        let (flights, wanted) = Default::default();
        Self { timeout, flights, wanted, filled, missed, failed, joined, refused }
    }

    /// How long a miss waits.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Asks for a key. None: nobody can be asked now.
    pub fn ask(&self, key: &[u8]) -> Option<oneshot::Receiver<Landing>> {
        let mut flights = self.lock();
        if !flights.open {
            return None;
        }
        let (told, landing) = oneshot::channel();
        if let Some(waiting) = flights.asked.get_mut(key) {
            waiting.push(told);
            self.joined.fetch_add(1, Ordering::Relaxed);
            return Some(landing);
        }
        if flights.asked.len() >= FLIGHTS_MAX {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let key: Arc<[u8]> = key.into();
        flights.asked.insert(Arc::clone(&key), vec![told]);
        flights.queue.push_back(key);
        drop(flights);
        self.wanted.notify_one();
        Some(landing)
    }

    /// Waits for keys to ask a peer for, and takes up to so many.
    pub async fn wanted(&self, most: usize) -> Vec<Arc<[u8]>> {
        loop {
            let keys: Vec<_> = {
                let mut flights = self.lock();
                let most = most.min(flights.queue.len());
                flights.queue.drain(..most).collect()
            };
            if !keys.is_empty() {
                return keys;
            }
            self.wanted.notified().await;
        }
    }

    /// A flight has ended: whoever waits is told.
    pub fn land(&self, key: &[u8], landing: Landing) {
        let counter = match landing {
            Landing::Here { .. } => &self.filled,
            Landing::Missed => &self.missed,
            Landing::Known { .. } | Landing::Failed => &self.failed,
        };
        let Some(waiting) = self.lock().asked.remove(key) else { return };
        counter.fetch_add(1, Ordering::Relaxed);
        for told in waiting {
            // Who is gone by now has had a miss.
            let _ = told.send(landing);
        }
    }

    /// A peer answers from now on.
    pub fn open(&self) {
        self.lock().open = true;
    }

    /// No peer answers any more: all flights end.
    pub fn close(&self) {
        let asked = {
            let mut flights = self.lock();
            flights.open = false;
            flights.queue.clear();
            std::mem::take(&mut flights.asked)
        };
        self.failed.fetch_add(asked.len() as u64, Ordering::Relaxed);
        for told in asked.into_values().flatten() {
            let _ = told.send(Landing::Failed);
        }
    }

    /// Counted so far.
    pub fn figures(&self) -> FillFigures {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        FillFigures {
            filled: read(&self.filled),
            missed: read(&self.missed),
            failed: read(&self.failed),
            joined: read(&self.joined),
            refused: read(&self.refused),
            in_flight: self.lock().asked.len() as u64,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Flights> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keys under way: as many as fit a peer's window of reads some hundred times, little memory, and far more than a peer
/// answers within `--miss-timeout` if it is slow.
pub const FLIGHTS_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Fills {
        let fills = Fills::new(Duration::from_millis(50));
        fills.open();
        fills
    }

    #[tokio::test]
    async fn a_key_is_asked_for_once_and_all_are_told() {
        let fills = open();
        let (one, other) = (fills.ask(b"k").unwrap(), fills.ask(b"k").unwrap());
        let late = fills.ask(b"l").unwrap();
        let keys = fills.wanted(10).await;
        assert_eq!(keys.iter().map(|key| &**key).collect::<Vec<_>>(), [b"k", b"l"]);
        fills.land(b"k", Landing::Here { bytes: 3 });
        fills.land(b"l", Landing::Missed);
        assert_eq!(
            (one.await, other.await),
            (Ok(Landing::Here { bytes: 3 }), Ok(Landing::Here { bytes: 3 }))
        );
        assert_eq!(late.await, Ok(Landing::Missed));
        // The next miss is a flight of its own.
        drop(fills.ask(b"k"));
        assert_eq!(fills.wanted(10).await.len(), 1);
        let expected =
            FillFigures { filled: 1, missed: 1, joined: 1, in_flight: 1, ..FillFigures::default() };
        assert_eq!(fills.figures(), expected);
    }

    #[tokio::test]
    async fn nobody_is_asked_while_no_peer_answers() {
        let fills = Fills::new(Duration::from_millis(50));
        assert!(fills.ask(b"k").is_none());
        fills.open();
        let landing = fills.ask(b"k").unwrap();
        fills.close();
        assert_eq!(landing.await, Ok(Landing::Failed));
        assert!(fills.ask(b"k").is_none());
        fills.open();
        drop(fills.ask(b"l"));
        assert_eq!(fills.wanted(10).await.len(), 1, "what was given up is not asked for");
    }

    #[test]
    fn flights_are_bounded() {
        let fills = open();
        let landings: Vec<_> = (0..FLIGHTS_MAX).map(|key| fills.ask(key.to_string().as_bytes())).collect();
        assert!(landings.iter().all(Option::is_some));
        assert!(fills.ask(b"one more").is_none() && fills.ask(b"0").is_some());
        assert_eq!((fills.figures().refused, fills.figures().in_flight), (1, FLIGHTS_MAX as u64));
    }
}
