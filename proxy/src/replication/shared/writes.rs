//! What apps' writes have done: reported a batch at a time, and told to whoever sends.

use std::sync::Arc;

use super::Shared;
use crate::replication::{Effect, Slot, Version, wall_clock_ms};

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

impl Shared {
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

    /// Marks a key as changed, after the fact and without having held its gate: it is read again and sent as it is
    /// by then. Sound because what is sent is read later than the change and stamped later than all else known. Whoever
    /// hands this to a task [foresees](crate::replication::Replica::foresee) the key first: a stop might not wait for the task.
    pub async fn mark(self: Arc<Self>, key: Box<[u8]>, effect: Effect) -> Version {
        let slot = self.gate_foreseen(&key).await;
        let now_ms = wall_clock_ms();
        let (owed, newest) = self.with(|replica, woken| {
            (replica.complete_afterwards(slot, effect, now_ms, woken), replica.latest())
        });
        if owed {
            self.poke_all();
        }
        newest
    }

    /// Writes of apps that took effect in this life of the proxy.
    pub fn writes(&self) -> u64 {
        self.lock().writes()
    }
}
