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
            _ => {
                self.count += 1;
                return Ok(());
            }
        };
        let flushed = self.flush_all(0).await;
        let now_ms = wall_clock_ms();
        let owed = self.shared.with(|replica, woken| match flushed {
            Ok(true) if doubtful => replica.complete_flush(true, now_ms, woken),
            Ok(true) => replica.applied_flush(self.from, version, now_ms, woken),
            Ok(false) | Err(_) => {
                replica.abandon(slot, self.from, woken);
                false
            }
        });
        if owed {
            self.shared.poke_all();
        }
        self.count += u64::from(flushed.is_ok());
        flushed.map(|_| ())
    }

    /// A flush that is to come: memcached keeps the time.
    pub(in crate::link::acceptor) async fn schedule_flush(
        &mut self,
        version: Version,
        delay_s: u32,
    ) -> io::Result<()> {
        let now_ms = wall_clock_ms();
        let at_ms = now_ms + u64::from(delay_s) * 1000;
        let newest = self.shared.lock().heard_scheduled_flush(self.from, version, at_ms, now_ms);
        if newest {
            self.flush_all(delay_s).await?;
        }
        self.count += 1;
        Ok(())
    }

    /// False: memcached does not flush (started with `-F`).
    async fn flush_all(&mut self, delay_s: u32) -> io::Result<bool> {
        self.local.write(format!("flush_all {delay_s}\r\n").as_bytes()).await?;
        let flushed = self.local.line().await?.as_ref() == b"OK";
        self.refused += u64::from(!flushed);
        Ok(flushed)
    }
}
