//! The sending half: dial a peer for ever, and while it listens, send what it is owed.
//!
//! ```text
//!   ┌──────────────────────── backoff, 50 ms to 2 s, with jitter ◄──────────────────────┐
//!   ▼                                                                                   │
//!   connect ─> hello written ─> hello read ─> the peer has a name ─> `ml ack 0` ─> streaming ─┘
//! ```
//!
//! Streaming is two loops on one connection, and the end of either ends both: [`sender`] writes mutations and
//! marks, the other one reads acks. The peer acks marks too, and a mark goes out every 100 ms, so silence for
//! `--peer-timeout` means that it is gone. What was not acknowledged is owed again.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

pub(in crate::link) mod raw;
pub(in crate::link) mod reader;
mod sender;

use self::sender::Sender;
pub(in crate::link) use self::sender::item_message;
use super::Context;
use super::directory::{Member, NAMING_GRACE};
use super::local::{self, Duplex};
use super::message::{Ack, Decoded, LINE_MAX, LINK_VERSION, Malformed, Message, Purpose, decode};
use super::state::{LinkState, LinkStopped};
use crate::backoff::Backoff;
use crate::config::Address;
use crate::replication::{PeerId, wall_clock_ms};

/// Dials one peer until it is none any more; or until the proxy stops and nothing is owed any more, or
/// `--drain-timeout` is over.
pub(super) async fn dial(context: Arc<Context>, member: Member) {
    let peer = member.peer;
    tokio::select! {
        biased;
        () = member.gone.cancelled() => return,
        () = redial(&context, peer) => {}
        () = last_moment(&context, peer) => {}
    }
    let left = owed(&context, peer);
    if left > 0 {
        warn!(
            peer.addr = %context.peer_addr(peer),
            left, "stopped with mutations that the peer does not have"
        );
    }
    context.links.change(peer.0, |link| {
        link.state = LinkState::Down;
        link.stopped = Some(LinkStopped::Draining);
    });
}

/// Resolves when the proxy stops and the drain timeout is over; or before, if nothing is owed and there is no link to
/// say goodbye on, or no goodbye to be said: what is missing beyond that is not made good in a moment.
async fn last_moment(context: &Context, peer: PeerId) {
    context.drain.cancelled().await;
    let deadline = Instant::now() + context.config.drain_timeout;
    let busy = || {
        let replica = context.shared.lock();
        let status = replica.status(peer, wall_clock_ms());
        let bids_goodbye = status.connected && !replica.leaves_something(peer);
        // What it is owed goes to its list, with what is there.
        let is_listed = !status.connected && status.gap.is_some_and(|gap| gap.listed);
        bids_goodbye || (status.backlog_entries > 0 && !is_listed)
    };
    while busy() && Instant::now() < deadline {
        tokio::time::sleep(DRAIN_TICK).await;
    }
}

/// What the peer does not have yet.
fn owed(context: &Context, peer: PeerId) -> u64 {
    context.shared.lock().status(peer, wall_clock_ms()).backlog_entries
}

/// Returns when goodbye is said.
async fn redial(context: &Context, peer: PeerId) {
    let mut backoff = Backoff::new(BACKOFF_LEAST, BACKOFF_GREATEST);
    let mut last = None;
    loop {
        let began = Instant::now();
        let moved = context.directory.moved(peer);
        let stopped = one_link(context, peer, &moved).await;
        context.links.stopped(peer.0, stopped);
        match stopped {
            LinkStopped::Goodbye => return,
            LinkStopped::Silent => context.shared.lock().fell_silent(peer),
            _ => {}
        }
        context.links.change(peer.0, |link| {
            link.state = LinkState::Down;
            link.stopped = Some(stopped);
        });
        let addr = context.peer_addr(peer);
        let addr = addr.as_str();
        // The same reason again and again is one piece of news.
        if last != Some(stopped) {
            warn!(peer.addr = addr, reason = %stopped, "link down, dialing again until it is up");
        } else {
            debug!(peer.addr = addr, reason = %stopped, "link still down");
        }
        last = Some(stopped);
        if began.elapsed() > STEADY {
            backoff.reset();
            last = None;
        }
        tokio::select! {
            biased;
            () = moved.cancelled() => backoff.reset(),
            () = tokio::time::sleep(backoff.next_delay()) => {}
        }
    }
}

async fn one_link(context: &Context, peer: PeerId, moved: &CancellationToken) -> LinkStopped {
    let addr = Address::Tcp(context.peer_addr(peer));
    let patience = context.config.peer_timeout;
    let mut stream = match timeout(patience, local::connect(&addr)).await {
        Ok(Ok(stream)) => stream,
        // Its machine says that nobody is there.
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            return LinkStopped::Unreachable;
        }
        Ok(Err(_)) | Err(_) => {
            context.shared.lock().fell_silent(peer);
            return LinkStopped::Unreachable;
        }
    };
    let mut input = BytesMut::new();
    match timeout(patience + NAMING_GRACE, greet(context, peer, &mut stream, &mut input)).await {
        Ok(Ok(())) => {}
        Ok(Err(stopped)) => return stopped,
        Err(_) => return LinkStopped::Silent,
    }
    info!(peer.addr = %context.peer_addr(peer), "link streaming");
    context.links.change(peer.0, |link| {
        link.state = LinkState::Streaming;
        link.stopped = None;
        link.counters.links += 1;
    });
    context.shared.lock().connected(peer);
    let (read_half, write_half) = tokio::io::split(stream);
    let acked = Notify::new();
    let mut sender = Sender::new(context, peer, write_half, &acked);
    let stopped = tokio::select! {
        biased;
        () = moved.cancelled() => LinkStopped::Moved,
        stopped = acks(context, peer, read_half, input, &acked) => stopped,
        stopped = sender.run() => stopped,
    };
    // The peer closes behind a goodbye.
    let stopped =
        if sender.said_goodbye() && stopped == LinkStopped::Closed { LinkStopped::Goodbye } else { stopped };
    context.shared.lock().disconnected(peer);
    stopped
}

/// Says hello, hears who is there, and waits until it is let in.
async fn greet(
    context: &Context,
    peer: PeerId,
    stream: &mut Box<dyn Duplex>,
    input: &mut BytesMut,
) -> Result<(), LinkStopped> {
    let mut line = Vec::new();
    Message::Hello(context.identity.hello(Purpose::Mutations)).encode(&mut line);
    stream.write_all(&line).await.map_err(|_| LinkStopped::Closed)?;
    let mut named = false;
    loop {
        while let Decoded::Message { message, used } = decode(input).map_err(LinkStopped::Malformed)? {
            match message {
                Message::Hello(hello) if !named && hello.version <= LINK_VERSION => {
                    context.identity.judge(&hello).map_err(LinkStopped::Refused)?;
                    context.directory.dialed(peer, hello.site)?;
                    context.shared.note_site_of(peer, hello.site);
                    context.shared.lock().met(peer, hello.run);
                    let site = hello.site.to_owned();
                    context.links.change(peer.0, |link| link.site = Some(site));
                    named = true;
                }
                Message::Ack(Ack { count: 0, .. }) if named => {
                    input.advance(used);
                    return Ok(());
                }
                Message::Refused(refusal) => return Err(LinkStopped::Refused(refusal)),
                _ => return Err(LinkStopped::OutOfTurn),
            }
            input.advance(used);
        }
        hear(stream, input).await?;
    }
}

/// Reads acks until the link ends.
async fn acks(
    context: &Context,
    peer: PeerId,
    mut stream: impl AsyncRead + Unpin,
    mut input: BytesMut,
    acked: &Notify,
) -> LinkStopped {
    let mut told = 0;
    loop {
        let mut newest = None;
        loop {
            let (message, used) = match decode(&input) {
                Ok(Decoded::Incomplete { .. }) => break,
                Ok(Decoded::Message { message, used }) => (message, used),
                Err(malformed) => return LinkStopped::Malformed(malformed),
            };
            match message {
                Message::Ack(ack) => newest = Some(ack),
                Message::Refused(refusal) => return LinkStopped::Refused(refusal),
                _ => return LinkStopped::OutOfTurn,
            }
            input.advance(used);
        }
        if let Some(Ack { count, refused }) = newest {
            if !context.shared.lock().acknowledge(peer, count, refused, wall_clock_ms()) {
                return LinkStopped::AckBeyond;
            }
            if refused > told {
                told = refused;
                warn!(
                    peer.addr = %context.peer_addr(peer),
                    refused, "the peer refuses mutations: our clock is too far ahead of its own"
                );
            }
            acked.notify_one();
        }
        match timeout(context.config.peer_timeout, hear(&mut stream, &mut input)).await {
            Ok(Ok(())) => {}
            Ok(Err(stopped)) => return stopped,
            Err(_) => return LinkStopped::Silent,
        }
    }
}

async fn hear(stream: &mut (impl AsyncRead + Unpin), input: &mut BytesMut) -> Result<(), LinkStopped> {
    // What is left undecoded is the beginning of a line; nothing an acceptor says has data behind it.
    if input.len() > LINE_MAX {
        return Err(LinkStopped::Malformed(Malformed::LineTooLong));
    }
    input.reserve(READ_BYTES);
    match stream.read_buf(input).await {
        Ok(0) | Err(_) => Err(LinkStopped::Closed),
        Ok(_) => Ok(()),
    }
}

const BACKOFF_LEAST: Duration = Duration::from_millis(50);
/// A peer that comes back is found within this.
const BACKOFF_GREATEST: Duration = Duration::from_secs(2);
/// A link that lived so long was a good one: the next one is tried at once.
const STEADY: Duration = Duration::from_secs(1);
const DRAIN_TICK: Duration = Duration::from_millis(10);
const READ_BYTES: usize = 4 << 10;
