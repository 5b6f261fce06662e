//! Mutations on an inbound link: batch after batch into memcached, and an ack behind each.
//!
//! While a batch waits, for memcached or for a gate, the last ack is repeated each second: the dialer can tell a
//! slow memcached from a dead proxy. A link that is told to leave finishes its batch first. A memcached from which
//! not a byte comes for `--upstream-timeout` ends the link.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncWriteExt, WriteHalf};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use super::{ACCEPT_PAUSE, Applier, Inbound, Pause};
use crate::link::directory::Seat;
use crate::link::message::{Ack, Message};
use crate::link::state::LinkStopped;
use crate::memcached::local::Duplex;
use crate::replication::{PeerId, Slot, Version, wall_clock_ms};

impl Inbound<'_> {
    /// Takes what comes until something ends it.
    pub(super) async fn stream(&mut self, applier: &mut Applier, seat: &Seat, peer: PeerId) -> LinkStopped {
        loop {
            if let Err(stopped) = self.batch(applier, seat, peer).await {
                return stopped;
            }
        }
    }

    /// One round: a batch into memcached, its ack out, and whatever it takes until there can be another one.
    async fn batch(&mut self, applier: &mut Applier, seat: &Seat, peer: PeerId) -> Result<(), LinkStopped> {
        let mut granted = None;
        loop {
            let (used, pause) = applier.fill(&self.input, granted.take())?;
            let acked = applier.acked();
            let settling = applier.settle(&self.input);
            patiently(settling, &mut self.writer, acked).await.map_err(|_| LinkStopped::Upstream)?;
            self.input.advance(used);
            self.note_refused(applier, peer);
            if used > 0 {
                self.say(&Message::Ack(applier.acked())).await?;
            }
            match pause {
                Pause::Full => {}
                Pause::Goodbye => return Err(LinkStopped::Goodbye),
                Pause::Gate(wait) => granted = Some(self.wait(wait, applier.acked(), seat).await?),
                Pause::Flush { version, delay_s } => {
                    self.flush(applier, seat, version, delay_s).await?;
                    self.note_refused(applier, peer);
                    self.say(&Message::Ack(applier.acked())).await?;
                }
                Pause::Hungry { need } => {
                    let midway = !self.input.is_empty();
                    self.feed(need, seat, peer).await?;
                    // A large value over a slow line takes its time; the dialer must not take that for silence.
                    return if midway { self.say(&Message::Ack(applier.acked())).await } else { Ok(()) };
                }
            }
        }
    }

    async fn flush(
        &mut self,
        applier: &mut Applier,
        seat: &Seat,
        version: Version,
        delay_s: u32,
    ) -> Result<(), LinkStopped> {
        let acked = applier.acked();
        if delay_s > 0 {
            applier.note_flush(version, wall_clock_ms() + u64::from(delay_s) * 1000);
            return Ok(());
        }
        let mut granted = None;
        let offer = loop {
            match applier.offer_flush(version, granted.take()) {
                Ok(offer) => break offer,
                Err(wait) => granted = Some(self.wait(wait, acked, seat).await?),
            }
        };
        let flushing = applier.flush(version, offer);
        patiently(flushing, &mut self.writer, acked).await.map_err(|_| LinkStopped::Upstream)
    }

    /// Why this link was asked to leave.
    fn left(&self, seat: &Seat) -> LinkStopped {
        match self.context.directory.member(seat.peer) {
            Some(_) => LinkStopped::Replaced,
            None => LinkStopped::Parted,
        }
    }

    /// Waits for a gate. Nothing of ours is in flight meanwhile, so leaving is safe.
    async fn wait(
        &mut self,
        wait: impl Future<Output = Slot>,
        acked: Ack,
        seat: &Seat,
    ) -> Result<Slot, LinkStopped> {
        tokio::select! {
            biased;
            () = seat.leave.cancelled() => Err(self.left(seat)),
            () = self.context.over.cancelled() => Err(LinkStopped::Draining),
            slot = patiently(wait, &mut self.writer, acked) => Ok(slot),
        }
    }

    /// Waits for more bytes, and for a good part of a large value rather than for each piece of it.
    async fn feed(&mut self, need: usize, seat: &Seat, peer: PeerId) -> Result<(), LinkStopped> {
        let context = self.context;
        let before = self.input.len();
        let missing = need.saturating_sub(before);
        if before == 0 && self.input.capacity() > INPUT_BYTES_KEPT {
            self.input = BytesMut::new();
        }
        let read = tokio::select! {
            biased;
            () = seat.leave.cancelled() => return Err(self.left(seat)),
            () = context.over.cancelled() => return Err(LinkStopped::Draining),
            read = timeout(context.config.peer_timeout, self.read(missing)) => read,
        };
        read.map_err(|_| LinkStopped::Silent)??;
        let received = (self.input.len() - before) as u64;
        context.links.change(peer.0, |link| link.counters.received_bytes += received);
        Ok(())
    }

    fn note_refused(&self, applier: &mut Applier, peer: PeerId) {
        let refused = applier.take_refused();
        if refused > 0 {
            self.context.links.change(peer.0, |link| link.counters.refused += refused);
            debug!(
                peer.addr = %self.context.peer_addr(peer),
                refused, "memcached refused mutations of a peer: their keys are dropped here"
            );
        }
    }
}

/// Awaits `work`, and repeats the last ack each second so that the dialer keeps its patience. A dialer that is
/// gone is noticed afterwards: the work itself must be finished.
async fn patiently<T>(work: impl Future<Output = T>, writer: &mut WriteHalf<Box<dyn Duplex>>, ack: Ack) -> T {
    let mut work = pin!(work);
    let mut line = Vec::new();
    Message::Ack(ack).encode(&mut line);
    let mut writable = true;
    loop {
        let next = Instant::now() + REPEAT_ACK;
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = sleep_until(next), if writable => {
                // A cut ack would spoil the stream; whoever has no room for one line has not read for long.
                writable = matches!(timeout(ACCEPT_PAUSE, writer.write_all(&line)).await, Ok(Ok(())));
                if !writable {
                    let _ = writer.shutdown().await;
                }
            }
        }
    }
}

const REPEAT_ACK: Duration = Duration::from_secs(1);

/// A buffer that once held a huge value is not kept.
const INPUT_BYTES_KEPT: usize = 1 << 20;
