//! What everything on one worker thread shares: buffers, the clock of the turn, counters, the way to replication.
//!
//! Promises that nothing here is ever touched by another thread, but for the counters and the replica behind
//! its lock. One clock read serves a whole batch: whoever reads a socket calls [`Context::turn`] once, and all
//! requests and replies of that batch carry that time.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use super::Parts;
use super::acks::{AckSettings, Acks};
use super::sessions::Sessions;
use crate::config::Address;
use crate::failover::{Route, Routed, Switch};
use crate::fill::Fills;
use crate::metrics::WorkerCounters;
use crate::replication::Shared;
use crate::upstream::{Capability, ExplicitCas, Upstream, UpstreamState};

/// The surroundings of every session and upstream connection of a worker.
pub(crate) struct Context {
    /// Limits and addresses, fixed at start.
    pub(crate) settings: Settings,
    /// This worker's figures.
    pub(crate) counters: Arc<WorkerCounters>,
    /// The replica, when there are peers.
    pub(crate) replication: Option<Arc<Shared>>,
    /// Answers that wait for peers, with `--ack peer`.
    pub(crate) acks: Option<Rc<Acks>>,
    /// Who asks peers for what is missing here, with `--miss peer`.
    pub(crate) fills: Option<Arc<Fills>>,
    /// What the memcached behind us can do, as last heard.
    pub(crate) capability: Cell<Capability>,
    /// It was asked; until then it is a guess.
    pub(crate) capability_known: Cell<bool>,
    /// Where reads land before they are decoded; free again at the end of every turn.
    pub(crate) scratch: RefCell<Box<[u8]>>,
    /// Spare output buffers, so that an idle session holds none.
    pub(crate) buffers: Buffers,
    /// Bytes of answers that wait for apps to read them, of all sessions.
    pub(crate) waiting: Cell<usize>,
    /// Who is connected.
    pub(crate) sessions: Sessions,
    /// Tasks that settle what writes have done: a worker that stops waits for them, too.
    pub(crate) settling: TaskTracker,
    /// What `stats memcloud` answers.
    pub(crate) stats: Arc<dyn Fn() -> String + Send + Sync>,
    /// Who leads to a peer while memcached is away.
    pub(crate) failover: Option<Arc<Switch>>,
    /// The route has changed, or a shared connection is up.
    pub(crate) moved: Notify,
    /// Shared connections to the peer that serves, on the route that leads there.
    pub(crate) tunnels: RefCell<Vec<Rc<Upstream>>>,
    routed: Cell<Routed>,
    upstream_state: watch::Receiver<UpstreamState>,
    upstream_wanted: Arc<Notify>,
    notes: Arc<Notes>,
    upstreams: RefCell<Vec<Weak<Upstream>>>,
    epoch: Instant,
    now_us: Cell<u64>,
    wall_offset_us: Cell<u64>,
}

/// The part of the configuration that the data path needs.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Where memcached is.
    pub(crate) upstream: Address,
    /// How long memcached may be silent while it owes an answer.
    pub(crate) upstream_timeout_us: u64,
    /// Every session has a connection of its own.
    pub(crate) dedicated: bool,
    /// Bound on answers that wait for apps that do not read, of one worker.
    pub(crate) waiting_bytes_max: Arc<AtomicUsize>,
    /// Shared upstream connections of each worker.
    pub(crate) shared_connections: usize,
    /// Answers to writes wait for peers.
    pub(crate) ack: Option<AckSettings>,
}

impl Context {
    pub(crate) fn new(worker: usize, parts: Parts, counters: Arc<WorkerCounters>) -> Self {
        let (capability, known) = {
            let state = parts.upstream.borrow();
            (state.capability, state.asked)
        };
        let acks =
            parts.settings.ack.zip(parts.replication.clone()).map(|(settings, shared)| {
                Rc::new(Acks::new(settings, worker, shared, Arc::clone(&counters)))
            });
        let context = Self {
            acks,
            fills: parts.fills,
            capability: Cell::new(capability),
            capability_known: Cell::new(known),
            settings: parts.settings,
            counters,
            replication: parts.replication,
            scratch: RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice()),
            buffers: Buffers::default(),
            waiting: Cell::new(0),
            sessions: Sessions::default(),
            settling: TaskTracker::new(),
            stats: parts.stats,
            failover: parts.failover,
            moved: Notify::new(),
            tunnels: RefCell::default(),
            routed: Cell::default(),
            upstream_state: parts.upstream,
            upstream_wanted: parts.upstream_wanted,
            notes: parts.notes,
            upstreams: RefCell::default(),
            epoch: Instant::now(),
            now_us: Cell::new(0),
            wall_offset_us: Cell::new(0),
        };
        context.set_wall_clock();
        context
    }

    /// Stale marks (`md … I`) are in use on this memcached: from now on `get` goes up as `get`, because an `mg` of a
    /// stale item takes the one right to recache it.
    pub(crate) fn note_stale_marks(&self) {
        self.notes.stale_marks.store(true, Ordering::Relaxed);
        if let Some(replication) = &self.replication {
            replication.note_stale_marks();
        }
    }

    /// Whether stale marks were ever seen, here or from a peer.
    pub(crate) fn stale_marks_seen(&self) -> bool {
        self.notes.stale_marks.load(Ordering::Relaxed)
            || self.replication.as_ref().is_some_and(|replication| replication.stale_marks_seen())
    }

    /// Statistics by prefix are in use (`stats detail`): they count `get` and not `mg`.
    pub(crate) fn note_prefix_statistics(&self) {
        self.notes.prefix_statistics.store(true, Ordering::Relaxed);
    }

    /// Whether a `get` may go up as `mg` without anybody noticing.
    pub(crate) fn gets_are_convertible(&self) -> bool {
        self.capability.get().meta && !self.counts_by_prefix() && !self.stale_marks_seen()
    }

    /// How far memcached can be told the CAS of items without an app seeing it.
    pub(crate) fn explicit_cas(&self) -> Option<ExplicitCas> {
        self.capability.get().explicit_cas.filter(|_| !self.counts_by_prefix())
    }

    fn counts_by_prefix(&self) -> bool {
        self.capability.get().prefix_statistics || self.notes.prefix_statistics.load(Ordering::Relaxed)
    }

    /// Runs what settles a write and does not end with its session.
    pub(crate) fn settle<F>(&self, settling: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: 'static> + 'static,
    {
        spawn_local(self.settling.track_future(settling))
    }

    /// Waits until it is known what memcached can do, or cannot be learned.
    pub(crate) async fn learn_capability(&self) {
        let mut state = self.upstream_state.clone();
        self.upstream_wanted.notify_one();
        let known = state.wait_for(|state| state.asked || state.down.is_some());
        let limit = Duration::from_micros(self.settings.upstream_timeout_us);
        if let Ok(Ok(state)) = timeout(limit, known).await {
            self.capability.set(state.capability);
            self.capability_known.set(state.asked);
        }
    }

    /// Where requests go, as this worker has heard last.
    pub(crate) fn routed(&self) -> Routed {
        self.routed.get()
    }

    /// Takes note of another route.
    pub(crate) fn set_routed(&self, routed: Routed) {
        self.routed.set(routed);
        self.moved.notify_waiters();
    }

    /// Waits until memcached serves.
    pub(crate) async fn at_home(&self) {
        loop {
            let mut moved = std::pin::pin!(self.moved.notified());
            moved.as_mut().enable();
            if self.routed().route == Route::Local {
                return;
            }
            moved.await;
        }
    }

    /// All connections of this worker that are left, to whomever.
    pub(crate) fn upstreams(&self) -> Vec<Rc<Upstream>> {
        self.upstreams.borrow().iter().filter_map(Weak::upgrade).collect()
    }

    /// How memcached is, as last seen.
    pub(crate) fn upstream_state(&self) -> watch::Receiver<UpstreamState> {
        self.upstream_state.clone()
    }

    /// Whether the route of this generation ends: memcached itself is gone, and not just one connection to it.
    pub(crate) async fn moves_on(&self, generation: u64) -> bool {
        if self.failover.is_none() {
            return false;
        }
        let mut state = self.upstream_state.clone();
        let down = async {
            if self.routed().route == Route::Local {
                let _ = state.wait_for(|state| state.down.is_some()).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        let moved = async {
            while self.routed().generation == generation {
                self.moved.notified().await;
            }
        };
        let either = async {
            tokio::select! { biased; () = down => {}, () = moved => {} }
        };
        timeout(MOVES_ON_WITHIN, either).await.is_ok()
    }

    /// Reads the clock, once for all that follows in this turn.
    pub(crate) fn turn(&self) -> u64 {
        let now = u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.now_us.set(now);
        now
    }

    /// The time of this turn, in microseconds since the worker began.
    pub(crate) fn now_us(&self) -> u64 {
        self.now_us.get()
    }

    /// The time of this turn, in milliseconds since 1970.
    pub(crate) fn wall_ms(&self) -> u64 {
        (self.wall_offset_us.get() + self.now_us.get()) / 1000
    }

    /// The time of this turn, in seconds since 1970.
    pub(crate) fn wall_seconds(&self) -> u64 {
        self.wall_ms() / 1000
    }

    /// Looks at the wall's clock for the moment of this turn. Called a few times a second; only a simulated clock jumps.
    pub(crate) fn set_wall_clock(&self) {
        let now_us = self.turn();
        let now = self.epoch + Duration::from_micros(now_us);
        self.wall_offset_us.set(crate::replication::wall_clock_us(now.into_std()).saturating_sub(now_us));
    }

    /// Whether apps that do not read hold more than they may together.
    pub(crate) fn too_much_waits(&self) -> bool {
        self.waiting.get() > self.settings.waiting_bytes_max.load(Ordering::Relaxed)
    }

    /// Puts a connection under the watch of [`Context::tick`].
    pub(crate) fn watch(&self, upstream: &Rc<Upstream>) {
        self.upstreams.borrow_mut().push(Rc::downgrade(upstream));
    }

    /// Looks for connections that owe an answer for too long.
    pub(crate) fn tick(&self) {
        self.set_wall_clock();
        let state = self.upstream_state.borrow();
        self.capability.set(state.capability);
        self.capability_known.set(state.asked);
        drop(state);
        let now = self.now_us();
        self.upstreams.borrow_mut().retain(|weak| {
            let Some(upstream) = weak.upgrade() else { return false };
            upstream.check_timeout(now);
            true
        });
    }
}

/// What was noticed of how this memcached is used, by all workers together. Once true, always true.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    stale_marks: AtomicBool,
    prefix_statistics: AtomicBool,
}

/// A pool of byte buffers, bounded in number and in the size of what it keeps.
#[derive(Default)]
pub(crate) struct Buffers(RefCell<Vec<Vec<u8>>>);

impl Buffers {
    /// An empty buffer, used before if there is one.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    /// Gives a buffer back; an unusually large one is freed instead.
    pub(crate) fn give(&self, mut buffer: Vec<u8>) {
        let mut spare = self.0.borrow_mut();
        if (1..=SPARE_BYTES_MAX).contains(&buffer.capacity()) && spare.len() < SPARE_MAX {
            buffer.clear();
            spare.push(buffer);
        }
    }
}

/// A server that dies closes all its connections in the same moment.
const MOVES_ON_WITHIN: Duration = Duration::from_millis(100);
/// Bytes of the buffer that every read of a worker goes through.
pub(crate) const SCRATCH_BYTES: usize = 256 * 1024;
const SPARE_MAX: usize = 64;
const SPARE_BYTES_MAX: usize = 64 * 1024;
