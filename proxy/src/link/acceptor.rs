//! The receiving half: who may come in, and one inbound link from hello to its end.
//!
//! ```text
//!   accept ─> hello read ─> judged ─> memcached answers ─> hello written ─> peer known ─> seat ─> `ml ack 0` ─> streaming
//!                └──────────────┴─────────────┴──── ml refused <reason> ────────┴───────────┘
//! ```
//!
//! Hello is answered before the peer is known, because that answer is what the other side's dialing waits for:
//! if both sides first waited to know the other, neither ever would.

mod applier;
mod mutations;
mod packet;
mod resync;
mod tunnel;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

pub(in crate::link) use self::applier::{Applier, Kept, Pause};
use super::Context;
use super::directory::{Member, NAMING_GRACE, Seat};
use super::incarnation;
use super::local::Duplex;
use super::message::{
    Ack, Decoded, Hello, LINE_MAX, LINK_VERSION, Malformed, Message, Purpose, Refusal, decode,
};
use super::state::{LinkStopped, PeerLink};
use crate::net::{Accepted, Listener};
use crate::replication::next_lane;

/// Accepts links until the context says that it is over.
pub(super) async fn listen(context: Arc<Context>, listener: Listener) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Some(permit) = place(&context, &room).await else { return };
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

/// A place for the next connection. Who comes while none is free waits in the kernel's queue.
async fn place(context: &Context, room: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    if let Ok(place) = Arc::clone(room).try_acquire_owned() {
        return Some(place);
    }
    if context.links.full().is_power_of_two() {
        warn!(connections = CONNECTIONS_MAX, "peer listener is full: peers have to wait");
    }
    tokio::select! {
        biased;
        () = context.over.cancelled() => None,
        place = Arc::clone(room).acquire_owned() => place.ok(),
    }
}

async fn serve(context: Arc<Context>, stream: Box<dyn Duplex>) {
    let (reader, writer) = tokio::io::split(stream);
    let mut inbound = Inbound { context: &context, reader, writer, input: BytesMut::new() };
    let mut known: Option<Member> = None;
    let stopped = match inbound.caller().await {
        Ok(caller) => match caller.purpose {
            Purpose::Mutations => inbound.run(caller, &mut known).await,
            Purpose::Session => match inbound.open_session(&caller, &mut known).await {
                Ok(opening) => return inbound.hand_over(opening).await,
                Err(stopped) => stopped,
            },
            Purpose::Resync => match inbound.open_resync(&caller, &mut known).await {
                Ok(opening) => return inbound.give(opening).await,
                Err(stopped) => stopped,
            },
        },
        Err(stopped) => stopped,
    };
    inbound.say_why(stopped).await;
    match known {
        Some(Member { peer, .. }) => {
            context.links.stopped(peer.0, stopped);
            let addr = context.peer_addr(peer);
            let addr = addr.as_str();
            if stopped.is_fault() && !is_old_news(context.links.peer(peer), stopped) {
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

/// One that keeps coming while it has all its seats is worth a word when their number has doubled.
fn is_old_news(link: Option<PeerLink>, stopped: LinkStopped) -> bool {
    let turned_away = link.map_or(0, |link| link.resync.turned_away);
    stopped == refuse(Refusal::Busy) && !turned_away.is_power_of_two()
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

    async fn run(&mut self, caller: Caller, known: &mut Option<Member>) -> LinkStopped {
        let run = caller.run;
        match self.greet(caller, known).await {
            Ok((mut applier, seat)) => {
                let Some(peer) = known.as_ref().map(|member| member.peer) else {
                    return LinkStopped::OutOfTurn;
                };
                {
                    let mut replica = self.context.shared.lock();
                    replica.met(peer, run);
                    replica.inbound_connected(peer, run);
                }
                self.context.links.change(peer.0, |link| {
                    link.inbound = true;
                    link.counters.links += 1;
                });
                info!(peer.addr = %self.context.peer_addr(peer), "inbound link streaming");
                let stopped = self.stream(&mut applier, &seat, peer).await;
                applier.abandon();
                self.context.links.change(peer.0, |link| link.inbound = false);
                let mut replica = self.context.shared.lock();
                replica.inbound_disconnected(peer);
                if stopped == LinkStopped::Silent {
                    replica.fell_silent(peer);
                }
                stopped
            }
            Err(stopped) => stopped,
        }
    }

    async fn greet(
        &mut self,
        caller: Caller,
        known: &mut Option<Member>,
    ) -> Result<(Applier, Seat), LinkStopped> {
        let context = self.context;
        let site = caller.site;
        let (upstream, patience) = (&context.config.upstream, context.config.upstream_timeout);
        let Ok(local) = incarnation::connect(upstream, patience, &context.shared).await else {
            if let Some(peer) = context.directory.known(&site) {
                context.shared.lock().heard_of(peer);
            }
            return Err(refuse(Refusal::UpstreamDown));
        };
        self.say(&Message::Hello(Hello {
            version: LINK_VERSION,
            ..context.identity.hello(Purpose::Mutations)
        }))
        .await?;
        let member = context.directory.identify(&site, NAMING_GRACE).await.map_err(refuse)?;
        let peer = member.peer;
        let seat = context.directory.take_seat(peer, context.config.peer_timeout).await.map_err(refuse)?;
        if member.gone.is_cancelled() {
            return Err(refuse(Refusal::UnknownPeer));
        }
        *known = Some(member);
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
            LinkStopped::Parted => Refusal::UnknownPeer,
            _ => return,
        };
        if self.say(&Message::Refused(refusal)).await.is_err() || self.writer.shutdown().await.is_err() {
            return;
        }
        let mut unread = vec![0; READ_BYTES];
        let until = Instant::now() + LINGER;
        while let Ok(Ok(1..)) = tokio::time::timeout_at(until, self.reader.read(&mut unread)).await {}
    }
}

fn refuse(refusal: Refusal) -> LinkStopped {
    LinkStopped::Refused(refusal)
}

/// Connections on peer-listen at a time; far more than peers there can be.
const CONNECTIONS_MAX: usize = 256;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const LINGER: Duration = Duration::from_millis(300);
const READ_BYTES: usize = 64 << 10;
/// A length that a peer claims is believed step by step, as the bytes come.
const RESERVE_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests;
