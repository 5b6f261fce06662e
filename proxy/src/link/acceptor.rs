//! The receiving half: who may come in, and one inbound link from hello to its end.
//!
//! ```text
//!   accept ─> hello read ─> judged ─> memcached answers ─> hello written ─> peer known ─> seat ─> `ml ack 0` ─> streaming
//!                └──────────────┴─────────────┴──── ml refused <reason> ────────┴───────────┘
//! ```
//!
//! Hello is answered before the peer is known, because that answer is what the other side's dialing waits for:
//! if both sides first waited to know the other, neither ever would.
//!
//! While a batch waits, for memcached or for a gate, the last ack is repeated each second: the dialer can tell a
//! slow memcached from a dead proxy. A link that is told to leave finishes its batch first. A memcached from which
//! not a byte comes for `--upstream-timeout` ends the link.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info, warn};

mod applier;
mod packet;
mod resync;
mod tunnel;

pub(in crate::link) use self::applier::{Applier, Kept, Pause};
use super::Context;
use super::directory::{NAMING_GRACE, Seat};
use super::incarnation;
use super::local::Duplex;
use super::message::{
    Ack, Decoded, Hello, LINE_MAX, LINK_VERSION, Malformed, Message, Purpose, Refusal, decode,
};
use super::state::LinkStopped;
use crate::net::{Accepted, Listener};
use crate::replication::{PeerId, Slot, Version, next_lane, wall_clock_ms};

/// Accepts links until the context says that it is over.
pub(super) async fn listen(context: Arc<Context>, listener: Listener) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let accepted = tokio::select! {
            biased;
            () = context.over.cancelled() => return,
            accepted = listener.accept() => accepted.and_then(Accepted::adopt),
        };
        match accepted {
            Ok(stream) => {
                let inbound = Arc::clone(&context);
                context.tracker.spawn(async move {
                    serve(inbound, Box::new(stream)).await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: trying at once again would only burn the processor.
                warn!(%error, "peer listener cannot accept");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(context: Arc<Context>, stream: Box<dyn Duplex>) {
    let (reader, writer) = tokio::io::split(stream);
    let mut inbound = Inbound { context: &context, reader, writer, input: BytesMut::new() };
    let mut peer = None;
    let stopped = match inbound.caller().await {
        Ok(caller) => match caller.purpose {
            Purpose::Mutations => inbound.run(caller, &mut peer).await,
            Purpose::Session => match inbound.open_session(&caller, &mut peer).await {
                Ok(opening) => return inbound.hand_over(opening).await,
                Err(stopped) => stopped,
            },
            Purpose::Resync => match inbound.open_resync(&caller, &mut peer).await {
                Ok(opening) => return inbound.give(opening).await,
                Err(stopped) => stopped,
            },
        },
        Err(stopped) => stopped,
    };
    inbound.say_why(stopped).await;
    match peer {
        Some(peer) => {
            context.links.stopped(peer.0, stopped);
            let addr = context.peer_addr(peer);
            if stopped.is_fault() {
                warn!(peer.addr = addr, reason = %stopped, "inbound link stopped");
            } else {
                info!(peer.addr = addr, reason = %stopped, "inbound link closed");
            }
        }
        None => {
            context.links.stranger(stopped);
            debug!(reason = %stopped, "connection on peer-listen closed");
        }
    }
}

/// What a dialer's hello says, once it is judged.
struct Caller {
    site: String,
    run: u64,
    purpose: Purpose,
    clock: Option<u64>,
}

/// One connection of a peer.
struct Inbound<'a> {
    context: &'a Arc<Context>,
    reader: ReadHalf<Box<dyn Duplex>>,
    writer: WriteHalf<Box<dyn Duplex>>,
    input: BytesMut,
}

impl Inbound<'_> {
    /// Who calls, and what for.
    async fn caller(&mut self) -> Result<Caller, LinkStopped> {
        let patience = self.context.config.peer_timeout;
        let caller = timeout(patience, self.hello()).await.map_err(|_| LinkStopped::Silent)??;
        match self.context.drain.is_cancelled() {
            true => Err(refuse(Refusal::Draining)),
            false => Ok(caller),
        }
    }

    async fn run(&mut self, caller: Caller, known: &mut Option<PeerId>) -> LinkStopped {
        let run = caller.run;
        match self.greet(caller, known).await {
            Ok((mut applier, seat)) => {
                let Some(peer) = *known else { return LinkStopped::OutOfTurn };
                {
                    let mut replica = self.context.shared.lock();
                    replica.met(peer, run);
                    replica.inbound_connected(peer, run);
                }
                self.context.links.change(peer.0, |link| {
                    link.inbound = true;
                    link.counters.links += 1;
                });
                info!(peer.addr = self.context.peer_addr(peer), "inbound link streaming");
                let stopped = self.stream(&mut applier, &seat, peer).await;
                applier.abandon();
                self.context.links.change(peer.0, |link| link.inbound = false);
                self.context.shared.lock().inbound_disconnected(peer);
                stopped
            }
            Err(stopped) => stopped,
        }
    }

    async fn greet(
        &mut self,
        caller: Caller,
        known: &mut Option<PeerId>,
    ) -> Result<(Applier, Seat), LinkStopped> {
        let context = self.context;
        let site = caller.site;
        let local =
            incarnation::connect(&context.config.upstream, context.config.upstream_timeout, &context.shared)
                .await
                .map_err(|_| refuse(Refusal::UpstreamDown))?;
        self.say(&Message::Hello(Hello {
            version: LINK_VERSION,
            ..context.identity.hello(Purpose::Mutations)
        }))
        .await?;
        let peer = context.directory.identify(&site, NAMING_GRACE).await.map_err(refuse)?;
        let seat = context.directory.take_seat(peer, context.config.peer_timeout).await.map_err(refuse)?;
        *known = Some(peer);
        context.shared.note_site_of(peer, &site);
        self.say(&Message::Ack(Ack::default())).await?;
        let sites = [site.as_str(), context.identity.site.as_str()];
        let applier = Applier::new(
            Arc::clone(&context.shared),
            peer,
            sites,
            next_lane(),
            (context.config.upstream.clone(), context.config.upstream_timeout),
            local,
        );
        Ok((applier, seat))
    }

    /// Reads the dialer's hello and judges it.
    async fn hello(&mut self) -> Result<Caller, LinkStopped> {
        loop {
            match decode(&self.input).map_err(LinkStopped::Malformed)? {
                // Before hello nobody has a right to more than a line.
                Decoded::Incomplete { .. } if self.input.len() > LINE_MAX => {
                    return Err(LinkStopped::Malformed(Malformed::LineTooLong));
                }
                Decoded::Incomplete { .. } => {}
                Decoded::Message { message: Message::Hello(hello), used } => {
                    self.context.identity.judge(&hello).map_err(refuse)?;
                    let site = hello.site.to_owned();
                    let caller = Caller { site, run: hello.run, purpose: hello.purpose, clock: hello.clock };
                    self.input.advance(used);
                    return Ok(caller);
                }
                Decoded::Message { .. } => return Err(LinkStopped::OutOfTurn),
            }
            self.read(0).await?;
        }
    }

    async fn stream(&mut self, applier: &mut Applier, seat: &Seat, peer: PeerId) -> LinkStopped {
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

    /// Waits for a gate. Nothing of ours is in flight meanwhile, so leaving is safe.
    async fn wait(
        &mut self,
        wait: impl Future<Output = Slot>,
        acked: Ack,
        seat: &Seat,
    ) -> Result<Slot, LinkStopped> {
        tokio::select! {
            biased;
            () = seat.leave.cancelled() => Err(LinkStopped::Replaced),
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
            () = seat.leave.cancelled() => return Err(LinkStopped::Replaced),
            () = context.over.cancelled() => return Err(LinkStopped::Draining),
            read = timeout(context.config.peer_timeout, self.read(missing)) => read,
        };
        read.map_err(|_| LinkStopped::Silent)??;
        let received = (self.input.len() - before) as u64;
        context.links.change(peer.0, |link| link.counters.received_bytes += received);
        Ok(())
    }

    async fn read(&mut self, missing: usize) -> Result<(), LinkStopped> {
        self.input.reserve(missing.clamp(READ_BYTES, RESERVE_BYTES_MAX));
        match self.reader.read_buf(&mut self.input).await {
            Ok(0) | Err(_) => Err(LinkStopped::Closed),
            Ok(_) => Ok(()),
        }
    }

    /// Says something small. A peer that does not even read its acks is gone.
    async fn say(&mut self, message: &Message<'_>) -> Result<(), LinkStopped> {
        let mut line = Vec::new();
        message.encode(&mut line);
        match timeout(self.context.config.peer_timeout, self.writer.write_all(&line)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(LinkStopped::Closed),
            Err(_) => Err(LinkStopped::Silent),
        }
    }

    /// The last words. What the peer has sent meanwhile is read and dropped for a moment: closing over unread
    /// bytes resets the connection, and the reset could overtake the reason.
    async fn say_why(&mut self, stopped: LinkStopped) {
        let refusal = match stopped {
            LinkStopped::Refused(refusal) => refusal,
            LinkStopped::Malformed(_) | LinkStopped::OutOfTurn | LinkStopped::ForeignOrigin => {
                Refusal::Malformed
            }
            LinkStopped::Upstream => Refusal::UpstreamDown,
            LinkStopped::Draining => Refusal::Draining,
            _ => return,
        };
        if self.say(&Message::Refused(refusal)).await.is_err() || self.writer.shutdown().await.is_err() {
            return;
        }
        let mut unread = vec![0; READ_BYTES];
        let until = Instant::now() + LINGER;
        while let Ok(Ok(1..)) = tokio::time::timeout_at(until, self.reader.read(&mut unread)).await {}
    }

    fn note_refused(&self, applier: &mut Applier, peer: PeerId) {
        let refused = applier.take_refused();
        if refused > 0 {
            self.context.links.change(peer.0, |link| link.counters.refused += refused);
            debug!(
                peer.addr = self.context.peer_addr(peer),
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

fn refuse(refusal: Refusal) -> LinkStopped {
    LinkStopped::Refused(refusal)
}

/// Connections on peer-listen at a time; far more than peers there can be.
const CONNECTIONS_MAX: usize = 256;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const REPEAT_ACK: Duration = Duration::from_secs(1);
const LINGER: Duration = Duration::from_millis(300);
const READ_BYTES: usize = 64 << 10;
/// A length that a peer claims is believed step by step, as the bytes come.
const RESERVE_BYTES_MAX: usize = 1 << 20;
/// A buffer that once held a huge value is not kept.
const INPUT_BYTES_KEPT: usize = 1 << 20;
