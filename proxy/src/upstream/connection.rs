//! The task of one connection: replies in, batches out, and what happens when it breaks.
//!
//! ```text
//!            connect + "mn" answered             closed, broken, silent for too long
//!  Down(why) ─────────────────────────►  Up  ─────────────────────────────────────►  Down(why)
//!     ▲                                                                                 │
//!     └──────── backoff, for ever (shared connections only) ◄───────────────────────────┘
//! ```

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::task::coop::unconstrained;
use tokio::time::{sleep, timeout};

use super::batch::Batch;
use super::{Pending, Phase, State, Target, Upstream, graveyard};
use crate::backoff::Backoff;
use crate::downstream::Downstream;
use crate::metrics::UpstreamFault;
use crate::net::{self, Stream};
use crate::worker::Context;

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stop {
    /// memcached closed it.
    Closed,
    /// The operating system reported this.
    Broken(String),
    /// Bytes came that fit no reply.
    OutOfStep(&'static str),
    /// An answer was owed for too long.
    TimedOut,
    /// Its session is over and nothing is owed.
    Finished,
}

impl Stop {
    fn fault(&self) -> UpstreamFault {
        match self {
            Self::Closed | Self::Finished => UpstreamFault::Closed,
            Self::Broken(_) => UpstreamFault::Broken,
            Self::OutOfStep(_) => UpstreamFault::OutOfStep,
            Self::TimedOut => UpstreamFault::TimedOut,
        }
    }

    fn sentence(&self, target: Target) -> String {
        let who = match target {
            Target::Memcached => "memcached",
            Target::Peer { .. } => "the peer that serves for memcached",
        };
        match self {
            Self::Closed => format!("{who} closed the connection"),
            Self::Broken(error) => format!("the connection to {who} broke: {error}"),
            Self::OutOfStep(what) => (*what).to_owned(),
            Self::TimedOut => format!("{who} does not answer"),
            Self::Finished => "the session is over".to_owned(),
        }
    }
}

/// Keeps a shared connection up for ever; one to a peer, as long as the route goes there. `first` is told how the first
/// attempt ended.
pub(crate) async fn keep_connected(upstream: Rc<Upstream>, first: tokio::sync::oneshot::Sender<()>) {
    let mut first = Some(first);
    let mut backoff = Backoff::new(RECONNECT_MIN, RECONNECT_MAX);
    loop {
        let context = Rc::clone(&upstream.context);
        let limit = Duration::from_micros(context.settings.upstream_timeout_us);
        let reason = match timeout(limit, establish(&context, upstream.target)).await {
            Ok(Ok(stream)) => {
                backoff.reset();
                upstream.up();
                context.moved.notify_waiters();
                if let Some(first) = first.take() {
                    let _ = first.send(());
                }
                let (stop, stream) = serve(&upstream, stream).await;
                upstream.ended(&stop, stream);
                if !upstream.is_tunnel() {
                    context.counters.upstream_error(stop.fault());
                }
                stop.sentence(upstream.target)
            }
            Ok(Err(error)) => upstream.target.unreachable_because(&context, &error.to_string()),
            Err(_) => upstream.target.unreachable_because(&context, "it does not answer"),
        };
        let news = upstream.set_down(&reason);
        match upstream.target {
            Target::Peer { generation, .. } if context.routed().generation != generation => return,
            Target::Peer { .. } if news => tracing::debug!(reason, "no shared session at the peer"),
            Target::Memcached if news => {
                tracing::warn!(upstream.addr = %context.settings.upstream, reason, "no memcached");
            }
            Target::Peer { .. } | Target::Memcached => {}
        }
        if let Some(first) = first.take() {
            let _ = first.send(());
        }
        sleep(backoff.next_delay()).await;
    }
}

/// Opens a connection that one session has for itself.
pub(crate) async fn open_own(
    context: &Rc<Context>,
    owner: &Rc<Downstream>,
    target: Target,
) -> Result<Rc<Upstream>, String> {
    let limit = Duration::from_micros(context.settings.upstream_timeout_us);
    let stream = match timeout(limit, target.connect(context)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(target.unreachable_because(context, &error.to_string())),
        Err(_) => return Err(target.unreachable_because(context, "it does not answer")),
    };
    let upstream = Upstream::new(Rc::clone(context), Some(Rc::clone(owner)), target, Phase::Up);
    let task = Rc::clone(&upstream);
    let generation = context.routed().generation;
    tokio::task::spawn_local(async move {
        let (stop, stream) = serve(&task, stream).await;
        let owed = !task.state.borrow().pending.is_empty();
        task.ended(&stop, stream);
        if stop != Stop::Finished {
            tracing::debug!(reason = stop.sentence(target), "a session's own connection ended");
            if !task.is_tunnel() {
                task.context.counters.upstream_error(stop.fault());
            }
            task.set_down(&stop.sentence(target));
        }
        // A session that is owed nothing goes on where the route leads, if the server itself is gone.
        let goes_on = task.left.get() || !owed && task.context.moves_on(generation).await;
        if let (Some(owner), false) = (&task.owner, goes_on) {
            owner.finish();
        }
    });
    Ok(upstream)
}

impl Target {
    async fn connect(self, context: &Context) -> io::Result<Stream> {
        match (self, &context.failover) {
            (Self::Peer { peer, .. }, Some(switch)) => switch.dial.dial(peer).await,
            _ => net::connect(&context.settings.upstream).await,
        }
    }

    fn unreachable_because(self, context: &Context, error: &str) -> String {
        match self {
            Self::Memcached => {
                context.counters.upstream_error(UpstreamFault::Unreachable);
                format!("memcached is not reachable: {error}")
            }
            Self::Peer { .. } => format!("the peer that serves for memcached is not reachable: {error}"),
        }
    }
}

/// Connects and waits until memcached has answered once: a hung server accepts connections too.
async fn establish(context: &Context, target: Target) -> io::Result<Stream> {
    let mut stream = target.connect(context).await?;
    stream.write_all(GREETING).await?;
    let mut answer = Vec::with_capacity(64);
    while GREETED.starts_with(&answer) && answer.len() < GREETED.len() {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(io::Error::other("it closed the connection at once"));
        }
    }
    match answer.as_slice() {
        GREETED => Ok(stream),
        other => Err(io::Error::other(String::from_utf8_lossy(other).trim_end().to_owned())),
    }
}

async fn serve(upstream: &Rc<Upstream>, mut stream: Stream) -> (Stop, Stream) {
    let mut partial = Vec::new();
    let stop = unconstrained(poll_fn(|cx| upstream.turn(cx, &mut stream, &mut partial))).await;
    (stop, stream)
}

impl Upstream {
    fn up(&self) {
        let mut state = self.state.borrow_mut();
        state.phase = Phase::Up;
        state.heard_us = self.context.turn();
        drop(state);
        self.lane.set(crate::replication::next_lane());
    }

    /// True if the reason is new.
    fn set_down(&self, reason: &str) -> bool {
        let mut state = self.state.borrow_mut();
        let down = Phase::Down(reason.into());
        let new = state.phase != down;
        state.phase = down;
        new
    }

    fn turn(
        self: &Rc<Self>,
        cx: &mut TaskContext<'_>,
        stream: &mut Stream,
        partial: &mut Vec<u8>,
    ) -> Poll<Stop> {
        self.remember(cx);
        let mut batch = Batch::default();
        let read = self.read(cx, stream, partial, &mut batch);
        if let Some(replication) = &self.context.replication {
            batch.report(&self.context, replication, self.context.wall_ms());
        }
        for missed in batch.missed {
            tokio::task::spawn_local(missed.fill(Rc::clone(self)));
        }
        for downstream in batch.touched {
            downstream.flush();
        }
        if let Poll::Ready(stop) = read {
            return Poll::Ready(stop);
        }
        if let Some(stop) = self.write(cx, stream) {
            return Poll::Ready(stop);
        }
        Poll::Pending
    }

    fn remember(&self, cx: &TaskContext<'_>) {
        let mut task = self.task.borrow_mut();
        if !task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            *task = Some(cx.waker().clone());
        }
        self.scheduled.set(false);
    }

    fn read(
        &self,
        cx: &mut TaskContext<'_>,
        stream: &mut Stream,
        partial: &mut Vec<u8>,
        batch: &mut Batch,
    ) -> Poll<Stop> {
        for _ in 0..READS_A_TURN {
            if self.must_pause(cx) {
                return Poll::Pending;
            }
            let mut scratch = self.context.scratch.borrow_mut();
            let kept = partial.len();
            scratch[..kept].copy_from_slice(partial);
            let mut buf = ReadBuf::new(&mut scratch[kept..]);
            let got = match Pin::new(&mut *stream).poll_read(cx, &mut buf) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Stop::Broken(error.to_string())),
                Poll::Ready(Ok(())) => buf.filled().len(),
            };
            if got == 0 {
                return Poll::Ready(Stop::Closed);
            }
            self.context.turn();
            let input = &scratch[..kept + got];
            let used = match self.take_replies(input, batch) {
                Ok(used) => used,
                Err(out_of_step) => return Poll::Ready(Stop::OutOfStep(out_of_step.0)),
            };
            partial.clear();
            partial.extend_from_slice(&input[used..]);
        }
        // More may be waiting: others first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// An app that does not read stops its own connection, unless a gate waits for the answers behind.
    fn must_pause(&self, cx: &TaskContext<'_>) -> bool {
        let Some(owner) = &self.owner else { return false };
        let holds_a_gate =
            |pending: &Pending| pending.write.as_ref().is_some_and(|write| write.holds_a_gate());
        let pause = owner.is_backed_up() && !self.state.borrow().pending.iter().any(holds_a_gate);
        self.paused.set(pause);
        if pause {
            owner.wake_when_drained(cx.waker());
        }
        pause
    }

    fn write(&self, cx: &mut TaskContext<'_>, stream: &mut Stream) -> Option<Stop> {
        let mut guard = self.state.borrow_mut();
        let state = &mut *guard;
        if state.timed_out {
            return Some(Stop::TimedOut);
        }
        while state.sent < state.out.len() {
            match Pin::new(&mut *stream).poll_write(cx, &state.out[state.sent..]) {
                Poll::Pending => {
                    state.compact();
                    return None;
                }
                Poll::Ready(Err(error)) => return Some(Stop::Broken(error.to_string())),
                Poll::Ready(Ok(sent)) => state.sent += sent,
            }
        }
        if state.sent > 0 {
            state.sent = 0;
            state.out.clear();
            state.out.shrink_to(OUT_KEPT_BYTES);
            if let Some(owner) = &self.owner {
                owner.upstream_drained();
            }
            for downstream in self.held_up.take() {
                downstream.upstream_drained();
            }
        }
        let over = state.pending.front().is_none_or(|front| front.open);
        (state.phase == Phase::Finishing && over).then_some(Stop::Finished)
    }

    /// Nothing more comes: the sessions learn that, and what was written without an answer is dropped.
    fn ended(&self, stop: &Stop, stream: Stream) {
        let mut guard = self.state.borrow_mut();
        let pending = std::mem::take(&mut guard.pending);
        let begun = std::mem::take(&mut guard.begun);
        guard.out = Vec::new();
        guard.sent = 0;
        guard.framer = super::reply::Framer::default();
        guard.swallow = false;
        guard.timed_out = false;
        guard.phase = Phase::Down(stop.sentence(self.target).into());
        drop(guard);

        let reason = stop.sentence(self.target);
        let (mut writes, mut cut) = (Vec::new(), Vec::new());
        for (position, mut owed) in pending.into_iter().enumerate() {
            if let Some(write) = owed.write.take() {
                if owed.open { &mut cut } else { &mut writes }.push(*write);
                self.changed(&owed.downstream);
            }
            owed.downstream.cut_write();
            if let Some(hold) = owed.again {
                if begun && position == 0 {
                    owed.downstream.drop_aside();
                }
                owed.end_again(hold);
            }
            if self.owner.is_some() || begun && position == 0 {
                // Cut in the middle of an answer, or as the session's own server would be gone.
                owed.downstream.owed.replied(owed.keys);
                if self.owner.is_none() {
                    owed.downstream.abort();
                }
            } else {
                owed.refuse(&reason);
                owed.downstream.flush();
            }
        }
        for downstream in self.held_up.take() {
            downstream.upstream_drained();
        }
        if let Some(replication) = &self.context.replication {
            graveyard::settle(writes, cut, &self.context, replication, stop, stream);
        }
    }
}

impl State {
    /// Gives back the memory of what was sent, while the rest waits.
    fn compact(&mut self) {
        if self.sent >= OUT_KEPT_BYTES && self.sent >= self.out.len() / 2 {
            self.out.drain(..self.sent);
            self.sent = 0;
        }
    }
}

/// As long as the header of a binary packet: a server that speaks only that dialect waits for one, then closes.
const GREETING: &[u8] = b"mn\r\nmn\r\nmn\r\nmn\r\nmn\r\nmn\r\n";
const GREETED: &[u8] = b"MN\r\nMN\r\nMN\r\nMN\r\nMN\r\nMN\r\n";
const RECONNECT_MIN: Duration = Duration::from_millis(10);
const RECONNECT_MAX: Duration = Duration::from_secs(1);
/// Reads in one turn, before other tasks of the worker have theirs.
const READS_A_TURN: usize = 4;
/// Memory that the send buffer keeps when it is empty.
const OUT_KEPT_BYTES: usize = 64 * 1024;
