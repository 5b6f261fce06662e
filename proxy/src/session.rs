//! One app connection: its requests in, on to memcached, in order.
//!
//! ```text
//!  app ─► turn: read ─► decode ─► dispatch ─► upstream.request(bytes, Pending)
//!                                   │
//!                                   └─ what cannot go on at once is a Step, awaited by `run`:
//!                                      own connection · another route · a key's gate · no answer owed · a long body · raw relay
//! ```
//!
//! The fast way is all synchronous: whatever was read is decoded and handed on within one turn, without an
//! allocation. Everything slow or rare leaves the turn as a [`Step`], is awaited, and then the same request is
//! looked at again.
//!
//! Promises: a session uses one upstream connection at a time and changes it only when no answer is owed, so
//! answers come in the order of requests. A request is sent only when it is whole, unless it has the connection
//! for itself. Refuses to know what replies look like.

mod binary;
mod flush;
mod gate;
mod intent;
mod label;
mod local;
mod odd;
mod route;
mod slow;
mod text;
mod versioned;

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll};

use memcloud_protocol::memcache::Dialect;
use tokio::io::ReadBuf;
use tokio::task::coop::unconstrained;

use crate::downstream::{Awaiting, Downstream, End};
use crate::front_door::Seat;
use crate::net::Stream;
use crate::replication::{LaneId, Wait};
use crate::upstream::Upstream;
use crate::worker::Context;
use gate::HeldGate;

/// An app's connection.
pub(crate) struct Session {
    context: Rc<Context>,
    downstream: Rc<Downstream>,
    shared: Option<Rc<Upstream>>,
    /// The shared connection to memcached that it began with.
    home: Option<Rc<Upstream>>,
    /// The route its connections are on.
    generation: u64,
    /// Its place among the sessions of this worker.
    seat: usize,
    /// A peer has opened it, so it is served by our memcached or not at all.
    tunnelled: bool,
    own: Option<Rc<Upstream>>,
    dialect: Option<Dialect>,
    /// Read and not yet used.
    input: Vec<u8>,
    /// `input` may hold a whole request.
    look_again: bool,
    /// Bytes of a refused request's body, still to come.
    skip: u64,
    /// The gate that was waited for.
    granted: Option<HeldGate>,
    /// The next request is refused with this.
    refusal: Option<String>,
    /// Nothing is sent before all answers are here.
    alone: bool,
    /// What memcached can do was asked for, whatever came of it.
    asked_capability: bool,
    /// Something was answered here, and not by memcached.
    answered: bool,
    /// The last request was a classic retrieval, whose answer memcached sends at once.
    behind_get: bool,
    /// A dump or a watch stood behind unanswered requests.
    pipelined: bool,
    /// Keys of a `gat` that were sent already.
    keys_sent: usize,
}

/// What a turn cannot do.
enum Step {
    /// The session is over.
    Over,
    /// The request needs a connection that the session has for itself.
    Own,
    /// The route has changed.
    Move,
    /// Another write of the key is under way.
    Gate(Wait, LaneId, Option<Box<[u8]>>),
    /// No answer must be owed.
    Idle,
    /// What memcached makes of an ill-formed line must be known.
    Capability,
    /// The request at the front of `input` is longer than what is ever held.
    Stream,
    /// A `get` whose line has no end in sight.
    LongLine,
    /// From here on bytes are passed on as they come.
    Raw,
    /// The same, if memcached takes the request at the front for a good one.
    Watch,
}

/// What became of the input.
enum Next {
    /// It is used up, or ends in a part of a request.
    More,
    /// The rest has to wait for answers.
    Blocked,
    /// The rest has to wait until memcached takes what it was sent; the upstream wakes the session.
    HeldUp,
    /// The request at the front needs this.
    Step(Step),
}

/// How a session begins.
pub(crate) struct Opening {
    /// Read before it came here.
    pub(crate) read: Vec<u8>,
    /// To be said first.
    pub(crate) welcome: Vec<u8>,
    /// It is the session of a peer's app.
    pub(crate) tunnelled: bool,
}

/// Serves an app until it or memcached ends the connection.
pub(crate) async fn run(
    context: Rc<Context>,
    stream: Stream,
    opening: Opening,
    shared: Option<Rc<Upstream>>,
    _seat: Seat,
) {
    let downstream = Rc::new(Downstream::new(Rc::clone(&context), stream));
    let seat = context.sessions.enter(&downstream);
    context.counters.session_opened(opening.tunnelled);
    downstream.deliver(&opening.welcome);
    downstream.flush();
    let tunnelled = opening.tunnelled;
    let mut session = Session::new(&context, downstream, shared, seat, opening);
    if context.settings.dedicated {
        // A refusal of memcached's (too many connections) is to be heard before the first request.
        if session.must_move() {
            Box::pin(session.move_on()).await;
        }
        Box::pin(session.open_own()).await;
        session.refusal = None;
    }
    loop {
        match unconstrained(poll_fn(|cx| session.turn(cx))).await {
            Step::Over => break,
            // Rare and large: on the heap, so that an idle session is small.
            step => Box::pin(session.take_step(step)).await,
        }
    }
    session.close().await;
    context.sessions.leave(seat);
    context.counters.session_closed(tunnelled);
}

impl Session {
    fn new(
        context: &Rc<Context>,
        downstream: Rc<Downstream>,
        shared: Option<Rc<Upstream>>,
        seat: usize,
        opening: Opening,
    ) -> Self {
        Self {
            context: Rc::clone(context),
            downstream,
            home: shared.clone(),
            shared,
            generation: 0,
            seat,
            tunnelled: opening.tunnelled,
            own: None,
            dialect: None,
            look_again: !opening.read.is_empty(),
            input: opening.read,
            skip: 0,
            granted: None,
            refusal: None,
            alone: false,
            asked_capability: false,
            answered: false,
            behind_get: false,
            pipelined: false,
            keys_sent: 0,
        }
    }

    async fn take_step(&mut self, step: Step) {
        match step {
            Step::Over => {}
            Step::Own => self.open_own().await,
            Step::Move => self.move_on().await,
            Step::Gate(wait, lane, key) => self.wait_for_gate(wait, lane, key).await,
            Step::Idle => self.idle().await,
            Step::Capability => {
                self.asked_capability = true;
                self.context.learn_capability().await;
            }
            Step::Stream => self.stream_request().await,
            Step::LongLine => self.stream_line().await,
            Step::Raw => self.relay().await,
            Step::Watch => self.watch().await,
        }
        self.look_again = true;
    }

    /// Reads and dispatches until nothing more can be done now.
    fn turn(&mut self, cx: &mut TaskContext<'_>) -> Poll<Step> {
        self.downstream.set_waker(cx.waker());
        self.downstream.set_awaiting(Awaiting::Nothing);
        for _ in 0..READS_A_TURN {
            let flushed = self.downstream.poll_flush(cx).is_ready();
            match self.downstream.end() {
                Some(End::Now | End::AfterFlush) => return Poll::Ready(Step::Over),
                None => {}
            }
            let next = if self.look_again {
                self.look_again = false;
                let input = std::mem::take(&mut self.input);
                let (used, next) = self.dispatch(&input);
                self.input = input;
                self.input.drain(..used);
                next
            } else {
                match self.read(cx) {
                    Poll::Pending if self.downstream.is_draining() => return self.drained(flushed),
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(None) => return Poll::Ready(Step::Over),
                    Poll::Ready(Some(next)) => next,
                }
            };
            if self.input.is_empty() {
                self.input = Vec::new();
            }
            match next {
                Next::More => {}
                Next::Step(step) => return Poll::Ready(step),
                Next::HeldUp => {
                    self.look_again = true;
                    return Poll::Pending;
                }
                Next::Blocked => {
                    self.look_again = true;
                    let awaiting = if self.alone { Awaiting::Idle } else { Awaiting::Room };
                    self.downstream.set_awaiting(awaiting);
                    // Answers given here, not by memcached, may be what fills the buffer.
                    if flushed && self.downstream.may_go_on() {
                        continue;
                    }
                    return Poll::Pending;
                }
            }
        }
        // There may be more to read: other tasks of the worker first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// While the proxy drains, a session is over once all that was received is answered.
    fn drained(&self, flushed: bool) -> Poll<Step> {
        if flushed && self.downstream.owed.in_flight() == 0 && !self.downstream.has_unsent() {
            return Poll::Ready(Step::Over);
        }
        self.downstream.set_awaiting(Awaiting::Idle);
        Poll::Pending
    }

    /// `None` at the end of the app's stream.
    fn read(&mut self, cx: &mut TaskContext<'_>) -> Poll<Option<Next>> {
        let context = Rc::clone(&self.context);
        let mut scratch = context.scratch.borrow_mut();
        let kept = self.input.len();
        scratch[..kept].copy_from_slice(&self.input);
        let mut buf = ReadBuf::new(&mut scratch[kept..]);
        let got = match self.downstream.poll_read(cx, &mut buf) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(_)) => return Poll::Ready(None),
            Poll::Ready(Ok(())) => buf.filled().len(),
        };
        if got == 0 {
            return Poll::Ready(None);
        }
        context.turn();
        context.counters.received(got as u64);
        let (used, next) = self.dispatch(&scratch[..kept + got]);
        self.input.clear();
        self.input.extend_from_slice(&scratch[used..kept + got]);
        Poll::Ready(Some(next))
    }

    /// Hands on as many requests as it can; says how many bytes they were, and why it stopped.
    fn dispatch(&mut self, input: &[u8]) -> (usize, Next) {
        let mut used = 0;
        let next = loop {
            let rest = &input[used..];
            if rest.is_empty() {
                break Next::More;
            }
            if self.skip > 0 {
                let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(rest.len());
                self.skip -= skipped as u64;
                used += skipped;
                continue;
            }
            if !self.downstream.has_room() || self.alone && self.downstream.owed.in_flight() > 0 {
                // A gate must not wait for an app to read.
                drop(self.granted.take());
                break Next::Blocked;
            }
            if self.is_held_up() {
                drop(self.granted.take());
                break Next::HeldUp;
            }
            if self.must_move() {
                break Next::Step(Step::Move);
            }
            self.alone = false;
            let dialect = *self.dialect.get_or_insert_with(|| Dialect::of(rest[0]));
            let step = match dialect {
                Dialect::Text => self.text(rest),
                Dialect::Binary => self.binary(rest),
            };
            match step {
                Ok(0) => break Next::More,
                Ok(len) => used += len,
                Err(step) => break Next::Step(step),
            }
        };
        if std::mem::take(&mut self.answered) {
            self.downstream.flush();
        }
        (used, next)
    }

    fn is_held_up(&self) -> bool {
        let Some(upstream) = self.own.as_ref().or(self.shared.as_ref()) else { return false };
        let held_up = upstream.unsent() > UNSENT_MAX;
        if held_up {
            upstream.wake_when_drained(&self.downstream);
        }
        held_up
    }

    /// The connection that requests go to now, if there is one and it is up.
    fn upstream(&self) -> Result<&Rc<Upstream>, Rc<str>> {
        let upstream = self.own.as_ref().or(self.shared.as_ref());
        let upstream = upstream.ok_or_else(|| Rc::from("no connection to memcached"))?;
        match upstream.down_reason() {
            Some(reason) => Err(reason),
            None => Ok(upstream),
        }
    }
}

/// What memcached has not taken yet, before an app is read again.
const UNSENT_MAX: usize = 1024 * 1024;
/// Reads in one turn, before other tasks of the worker have theirs.
const READS_A_TURN: usize = 4;
/// A request with a body beyond this is never held as a whole: it gets its own connection and streams.
const WHOLE_REQUEST_MAX: u64 = 64 * 1024;

#[cfg(test)]
mod tests;
