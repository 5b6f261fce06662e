//! Flushes of a peer. Each passes alone: whatever came before it is settled, nothing behind it is looked at.

use std::io;

use super::Applier;
use crate::replication::{Offer, Slot, Version, Wait, wall_clock_ms};

impl Applier {
    /// Offers a flush. A wait: await it and come again with the slot.
    pub(in crate::link::acceptor) fn offer_flush(
        &mut self,
        version: Version,
        granted: Option<Slot>,
    ) -> Result<Offer, Wait> {
        let mut receiver = None;
        let offer = match granted {
            Some(slot) => self.shared.with(|replica, woken| replica.reoffer(slot, self.from, version, woken)),
            None => self.shared.lock().offer_flush(self.from, version, wall_clock_ms(), || {
                let (sender, waiting) = tokio::sync::oneshot::channel();
                receiver = Some(waiting);
                sender
            }),
        };
        receiver.map_or(Ok(offer), |receiver| Err(self.shared.wait(receiver)))
    }

    /// Carries out a flush that the replica has judged.
    pub(in crate::link::acceptor) async fn flush(
        &mut self,
        version: Version,
        offer: Offer,
    ) -> io::Result<()> {
        let (slot, doubtful) = match offer {
            Offer::Apply(slot) => (slot, false),
            Offer::Drop(slot) => (slot, true),
            settled => {
                self.acked.refused += u64::from(settled == Offer::Skewed);
                self.acked.count += 1;
                return Ok(());
            }
        };
        let flushed = match self.local.flush_all().await {
            Ok(flushed) => flushed,
            Err(error) => {
                self.bury(vec![slot]);
                return Err(error);
            }
        };
        self.refused += u64::from(!flushed);
        let now_ms = wall_clock_ms();
        let owed = self.shared.with(|replica, woken| match (flushed, doubtful) {
            (true, true) => replica.complete_flush(true, now_ms, woken),
            (true, false) => replica.applied_flush(self.from, version, now_ms, woken),
            (false, _) => {
                replica.abandon(slot, self.from, woken);
                false
            }
        });
        if owed {
            self.shared.poke_all();
        }
        // A memcached that may not flush (`-F`) leaves the sites different: the origin is to know.
        self.acked.refused += u64::from(!flushed);
        self.acked.count += 1;
        Ok(())
    }

    /// A flush that is to come is only noted: its origin sends an ordinary one when it is due.
    pub(in crate::link::acceptor) fn note_flush(&mut self, version: Version, at_ms: u64) {
        let now_ms = wall_clock_ms();
        let settled = self.shared.lock().heard_scheduled_flush(self.from, version, at_ms, now_ms);
        self.acked.refused += u64::from(!settled);
        self.acked.count += 1;
    }
}
