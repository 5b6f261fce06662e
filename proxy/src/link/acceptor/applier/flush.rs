//! Flushes of a peer. Each passes alone: whatever came before it is settled, nothing behind it is looked at.

use std::io;

use super::Applier;
use crate::replication::{Offer, Outcome, Slot, Version, Wait, wall_clock_ms};

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
        let flushed = match self.flush_all(0).await {
            Ok(flushed) => flushed,
            Err(error) => {
                self.bury(vec![slot]);
                return Err(error);
            }
        };
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

    /// A flush that is to come: memcached keeps the time. The caller holds all gates, so that the newest one known
    /// here is also the one that memcached keeps; they are given back here.
    pub(in crate::link::acceptor) async fn schedule_flush(
        &mut self,
        version: Version,
        at_ms: u64,
    ) -> io::Result<()> {
        let now_ms = wall_clock_ms();
        let offer = self.shared.lock().heard_scheduled_flush(self.from, version, at_ms, now_ms);
        let answered = if matches!(offer, Offer::Apply(_)) {
            // A gate may have taken longer than the delay; 0 would be an ordinary flush.
            let delay_s = at_ms.saturating_sub(now_ms).div_ceil(1000).max(1);
            self.flush_all(delay_s).await.map(|_| ())
        } else {
            Ok(())
        };
        if answered.is_err() {
            // The schedule stays noted: its origin flushes once more when it is due.
            self.bury(vec![Slot::FLUSH]);
            return answered;
        }
        self.shared.complete(vec![Outcome::Flush(false)], wall_clock_ms());
        self.acked.refused += u64::from(offer == Offer::Skewed);
        self.acked.count += 1;
        Ok(())
    }

    /// False: memcached does not flush (started with `-F`).
    async fn flush_all(&mut self, delay_s: u64) -> io::Result<bool> {
        self.local.write(format!("flush_all {delay_s}\r\n").as_bytes()).await?;
        let flushed = self.local.line().await?.as_ref() == b"OK";
        self.refused += u64::from(!flushed);
        Ok(flushed)
    }
}
