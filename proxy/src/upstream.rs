//! The side of the local memcached: connections to it, and the answers that come back on them.
//!
//! Every request that goes up is owed exactly one reply (requests that want none are sent without that wish and
//! their reply is swallowed), so a connection is two things: bytes to send, and a queue of what is owed, in the
//! same order. Many sessions of a worker use one *shared* connection; a session that streams, holds state or
//! says odd things has its *own*.
//!
//! ```text
//!  session ─ push(bytes, Pending) ─►  out ──────────► memcached
//!                                     pending ◄────── reply: framed, delivered to its session, effect completed
//! ```
//!
//! Promises: an answer reaches the session that asked, or the session is told that none will come; a write whose
//! answer never came is reported as *unknown* only after memcached has closed the connection, when it can no
//! longer be carried out. Refuses to know how requests were decoded.

mod batch;
mod binary_only;
mod capability;
mod connection;
mod explicit_cas;
mod graveyard;
mod lookup;
mod pending;
mod replies;
mod reply;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

pub(crate) use capability::Capability;
pub(crate) use capability::{Monitor, UpstreamState};
pub(crate) use connection::{keep_connected, open_own};
pub(crate) use explicit_cas::ExplicitCas;
pub(crate) use lookup::Lookup;
pub(crate) use pending::{Conversion, Hold, Label, Pending, Quiet, Write};
pub(crate) use reply::{Shape, trim};

use crate::downstream::Downstream;
use crate::replication::LaneId;
use crate::worker::Context;

/// One connection to memcached, or the place of a shared one that comes and goes.
pub(crate) struct Upstream {
    context: Rc<Context>,
    /// The session whose own connection this is.
    owner: Option<Rc<Downstream>>,
    target: Target,
    /// Its session has left it for another one.
    left: Cell<bool>,
    lane: Cell<LaneId>,
    state: RefCell<State>,
    task: RefCell<Option<Waker>>,
    scheduled: Cell<bool>,
    /// Replies are not read, because their app does not read them.
    paused: Cell<bool>,
    /// Sessions that go on when memcached has taken what it was sent.
    held_up: RefCell<Vec<Rc<Downstream>>>,
}

/// What is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The local memcached.
    Memcached,
    /// The proxy of a peer, for as long as the route leads there.
    Peer {
        /// Its place in the configuration.
        peer: usize,
        /// Which route that is.
        generation: u64,
    },
}

struct State {
    phase: Phase,
    out: Vec<u8>,
    sent: usize,
    pending: VecDeque<Pending>,
    framer: reply::Framer,
    /// The reply at the front has begun to reach its session.
    begun: bool,
    /// What is left of the reply at the front is not for the app.
    swallow: bool,
    /// When memcached last said something.
    heard_us: u64,
    timed_out: bool,
}

/// Whether requests can be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Not connected, for this reason.
    Down(Rc<str>),
    Up,
    /// The session is over; the connection ends when nothing is owed any more.
    Finishing,
}

impl Upstream {
    fn new(context: Rc<Context>, owner: Option<Rc<Downstream>>, target: Target, phase: Phase) -> Rc<Self> {
        let upstream = Rc::new(Self {
            owner,
            target,
            left: Cell::new(false),
            lane: Cell::new(crate::replication::next_lane()),
            state: RefCell::new(State {
                phase,
                out: Vec::new(),
                sent: 0,
                pending: VecDeque::new(),
                framer: reply::Framer::default(),
                begun: false,
                swallow: false,
                heard_us: context.now_us(),
                timed_out: false,
            }),
            task: RefCell::new(None),
            scheduled: Cell::new(false),
            paused: Cell::new(false),
            held_up: RefCell::default(),
            context,
        });
        upstream.context.watch(&upstream);
        upstream
    }

    /// The place of a shared connection, not yet connected.
    pub(crate) fn shared(context: Rc<Context>, target: Target) -> Rc<Self> {
        Self::new(context, None, target, Phase::Down("not connected yet".into()))
    }

    /// Whether a peer is at the other end: its proxy stamps the writes and owes them to all, us among them.
    pub(crate) fn is_tunnel(&self) -> bool {
        self.target != Target::Memcached
    }

    /// The order in which memcached sees what is sent here. A new connection is a new lane.
    pub(crate) fn lane(&self) -> LaneId {
        self.lane.get()
    }

    /// Whether a session has it for itself.
    pub(crate) fn is_own(&self) -> bool {
        self.owner.is_some()
    }

    /// Why nothing can be sent, if so.
    pub(crate) fn down_reason(&self) -> Option<Rc<str>> {
        match &self.state.borrow().phase {
            Phase::Down(reason) => Some(Rc::clone(reason)),
            Phase::Up | Phase::Finishing => None,
        }
    }

    /// Queues bytes for memcached; they leave at the end of the turn, with those of all other sessions.
    pub(crate) fn send(&self, pieces: &[&[u8]]) {
        let mut state = self.state.borrow_mut();
        for piece in pieces {
            state.out.extend_from_slice(piece);
        }
        drop(state);
        self.schedule();
    }

    /// Sends a request that is whole, and notes the reply that is owed for it.
    pub(crate) fn request(&self, pieces: &[&[u8]], pending: Pending) {
        self.asked(&pending);
        let mut state = self.state.borrow_mut();
        for piece in pieces {
            state.out.extend_from_slice(piece);
        }
        state.pending.push_back(pending);
        drop(state);
        self.schedule();
    }

    /// The same, of a request that is written where it goes.
    pub(crate) fn request_with(&self, write: impl FnOnce(&mut Vec<u8>), pending: Pending) {
        self.asked(&pending);
        let mut state = self.state.borrow_mut();
        write(&mut state.out);
        state.pending.push_back(pending);
        drop(state);
        self.schedule();
    }

    fn asked(&self, pending: &Pending) {
        pending.downstream.owed.asked(pending.keys);
        if pending.write.is_some() && self.context.fills.is_some() {
            pending.downstream.owed.changing(1);
        }
    }

    /// Notes the reply that is owed for what was, or will be, sent.
    pub(crate) fn expect(&self, pending: Pending) {
        self.asked(&pending);
        self.state.borrow_mut().pending.push_back(pending);
    }

    /// The request sent last is now complete.
    pub(crate) fn close_request(&self) {
        if let Some(pending) = self.state.borrow_mut().pending.back_mut() {
            pending.open = false;
            pending.asked_us = self.context.now_us();
        }
    }

    /// Takes back the last expectation, whose request memcached has refused in its answer to the one before.
    pub(crate) fn expect_no_more(&self) {
        if let Some(pending) = self.state.borrow_mut().pending.pop_back() {
            pending.downstream.owed.replied(pending.keys);
        }
    }

    /// Bytes that memcached has not taken yet.
    pub(crate) fn unsent(&self) -> usize {
        let state = self.state.borrow();
        state.out.len() - state.sent
    }

    /// Wakes this session when memcached has taken what it was sent.
    pub(crate) fn wake_when_drained(&self, downstream: &Rc<Downstream>) {
        let mut held_up = self.held_up.borrow_mut();
        if !held_up.iter().any(|known| Rc::ptr_eq(known, downstream)) {
            held_up.push(Rc::clone(downstream));
        }
    }

    /// The session is over. What is still owed is awaited, for the outcome of its writes, then the connection ends.
    pub(crate) fn finish(&self) {
        let mut state = self.state.borrow_mut();
        if state.phase == Phase::Up {
            state.phase = Phase::Finishing;
        }
        drop(state);
        self.schedule();
    }

    /// Its session goes on elsewhere: the connection ends when nothing is owed on it, and the session does not.
    pub(crate) fn leave(&self) {
        self.left.set(true);
        self.finish();
    }

    /// Whether an answer will come that waits for nobody but the server: not for an app that does not read, or has not
    /// sent its request to the end.
    pub(crate) fn owes(&self) -> bool {
        let due = |pending: &Pending| pending.shape.has_deadline() && !pending.open;
        !self.paused.get() && self.state.borrow().pending.iter().any(due)
    }

    /// Leaves it if nothing is on its way.
    pub(crate) fn leave_if_idle(&self) {
        if self.owner.is_some() && self.state.borrow().pending.is_empty() {
            self.leave();
        }
    }

    /// Nobody waits for its answers any more: they are taken for lost.
    pub(crate) fn give_up(&self) {
        let mut state = self.state.borrow_mut();
        if matches!(state.phase, Phase::Down(_)) || state.pending.is_empty() {
            return;
        }
        state.timed_out = true;
        drop(state);
        self.schedule();
    }

    /// Ends what has no end of its own: a log, a raw conversation.
    pub(crate) fn end_streams(&self) {
        let endless = |pending: &Pending| !pending.shape.has_deadline();
        if self.state.borrow().pending.front().is_some_and(endless) {
            self.give_up();
        }
    }

    /// Breaks the connection if memcached owes an answer and has said nothing for too long.
    pub(crate) fn check_timeout(&self, now_us: u64) {
        let mut state = self.state.borrow_mut();
        let Some(front) = state.pending.front() else { return };
        let patient = front.open || !front.shape.has_deadline() || self.paused.get();
        if patient {
            state.heard_us = now_us;
            return;
        }
        let since = front.asked_us.max(state.heard_us);
        if now_us.saturating_sub(since) > self.patience_us() && !state.timed_out {
            state.timed_out = true;
            drop(state);
            self.schedule();
        }
    }

    /// How long an answer may take. A peer that serves may keep that of a write until its own peers have it, of which this
    /// site, whose memcached is away, is one.
    fn patience_us(&self) -> u64 {
        let usual = self.context.settings.upstream_timeout_us;
        match &self.context.acks {
            Some(acks) if self.is_tunnel() => {
                let kept = acks.timeout() + ACK_MARGIN;
                usual.max(u64::try_from(kept.as_micros()).unwrap_or(u64::MAX))
            }
            _ => usual,
        }
    }

    fn schedule(&self) {
        if !self.scheduled.replace(true)
            && let Some(task) = &*self.task.borrow()
        {
            task.wake_by_ref();
        }
    }
}

/// How much later than its time is up an answer of a peer's may come.
const ACK_MARGIN: Duration = Duration::from_millis(500);
