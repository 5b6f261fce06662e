//! A worker: one thread, one event loop, its sessions and its connections to memcached.
//!
//! ```text
//!  main thread: accept ──Accepted──► inbox ─► session task ─┐ dispatch           ┌─ replies
//!                                                           └─► shared upstream ─┘   one of each per turn
//! ```
//!
//! Promises that nothing in a worker waits for another worker, but at the gate of a key and for moments at the
//! replica's lock. Refuses to know the configuration: what it needs is handed to it.

mod acks;
#[cfg(test)]
pub(crate) mod bare;
mod context;
mod route;
mod sessions;

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::spawn_local;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

pub(crate) use acks::{AckSettings, Acks};
pub(crate) use context::{Context, Notes, Settings};

use crate::failover::Switch;
use crate::fill::Fills;
use crate::front_door::Seat;
use crate::metrics::{Refusal, WorkerCounters};
use crate::net::Arrival;
use crate::replication::Shared;
use crate::session::{self, Opening};
use crate::upstream::{Target, Upstream, UpstreamState, keep_connected};

/// A worker as the rest of the program sees it.
pub(crate) struct Worker {
    inbox: Inbox,
    counters: Arc<WorkerCounters>,
    /// Closed when its thread has ended.
    ended: oneshot::Receiver<()>,
}

/// The way into a worker.
#[derive(Clone)]
pub(crate) struct Inbox {
    arrivals: mpsc::Sender<(Arrival, Seat)>,
    seats: Arc<AtomicU64>,
}

impl Inbox {
    fn new() -> (Self, mpsc::Receiver<(Arrival, Seat)>) {
        let (arrivals, taken) = mpsc::channel(INBOX_MAX);
        (Self { arrivals, seats: Arc::default() }, taken)
    }

    /// Sessions it has, those included that are on their way.
    pub(crate) fn seats(&self) -> u64 {
        self.seats.load(Ordering::Relaxed)
    }

    /// Gives it a connection.
    pub(crate) async fn put(&self, arrival: Arrival) {
        if self.arrivals.send((arrival, Seat::take(&self.seats))).await.is_err() {
            tracing::debug!("an app came while the workers stop");
        }
    }
}

/// What a worker is built from.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) settings: Settings,
    pub(crate) replication: Option<Arc<Shared>>,
    pub(crate) fills: Option<Arc<Fills>>,
    pub(crate) upstream: watch::Receiver<UpstreamState>,
    /// Asks the monitor to find out what memcached can do.
    pub(crate) upstream_wanted: Arc<Notify>,
    pub(crate) notes: Arc<Notes>,
    /// Who leads to a peer while memcached is away.
    pub(crate) failover: Option<Arc<Switch>>,
    /// What `stats memcloud` answers.
    pub(crate) stats: Arc<dyn Fn() -> String + Send + Sync>,
    pub(crate) drain: CancellationToken,
}

impl Worker {
    /// Starts the thread. `ready` is told when its shared connections have tried to connect once.
    pub(crate) fn start(number: usize, parts: Parts, ready: oneshot::Sender<()>) -> io::Result<Self> {
        let (inbox, arrivals) = Inbox::new();
        let counters = Arc::new(WorkerCounters::default());
        let known = Arc::clone(&counters);
        let (alive, ended) = oneshot::channel();
        spawn(number, alive, move || run(number, parts, counters, arrivals, ready))?;
        Ok(Self { inbox, counters: known, ended })
    }

    /// The way into it.
    pub(crate) fn inbox(&self) -> Inbox {
        self.inbox.clone()
    }

    /// Its figures.
    pub(crate) fn counters(&self) -> &Arc<WorkerCounters> {
        &self.counters
    }

    /// Resolves when its thread has ended, which `drain` brings about.
    pub(crate) async fn ended(self) {
        drop(self.inbox);
        let _ = self.ended.await;
    }
}

/// Runs `work` to its end on a thread and an event loop of its own, then lets go of `alive`.
fn spawn<W: Future<Output = ()> + 'static>(
    number: usize,
    alive: oneshot::Sender<()>,
    work: impl FnOnce() -> W + Send + 'static,
) -> io::Result<()> {
    #[cfg(feature = "simulation")]
    if crate::simulation::machine().is_some() {
        spawn_local(async move {
            work().await;
            drop(alive);
        });
        return Ok(());
    }
    thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
        let _alive = alive;
        let runtime = match tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(Default::default())
        {
            Ok(runtime) => runtime,
            Err(error) => return tracing::error!(%error, "a worker cannot start"),
        };
        runtime.block_on(work());
    })?;
    Ok(())
}

async fn run(
    number: usize,
    parts: Parts,
    counters: Arc<WorkerCounters>,
    mut arrivals: mpsc::Receiver<(Arrival, Seat)>,
    ready: oneshot::Sender<()>,
) {
    let drain = parts.drain.clone();
    let context = Rc::new(Context::new(number, parts, counters));
    spawn_local(tick(Rc::clone(&context)));
    if let Some(acks) = &context.acks {
        spawn_local(Rc::clone(acks).run(drain.clone()));
    }
    let shared = connect_shared(&context).await;
    if let Some(switch) = context.failover.clone() {
        spawn_local(route::follow(Rc::clone(&context), switch));
    }
    let _ = ready.send(());

    let mut turn = 0;
    loop {
        let arrival = tokio::select! {
            biased;
            () = drain.cancelled() => None,
            arrival = arrivals.recv() => arrival,
        };
        let Some((arrival, seat)) = arrival else { break };
        let Arrival { accepted, read, welcome, tunnelled, .. } = arrival;
        let Ok(stream) = accepted.adopt() else {
            context.counters.session_refused(Refusal::Accept);
            continue;
        };
        let upstream = (!shared.is_empty()).then(|| Rc::clone(&shared[turn % shared.len()]));
        turn += 1;
        let opening = Opening { read, welcome, tunnelled };
        spawn_local(session::run(Rc::clone(&context), stream, opening, upstream, seat));
    }
    context.sessions.drain_all();
    context.sessions.empty().await;
    // However long that takes: who stops the workers has a limit, and tells.
    context.settling.close();
    context.settling.wait().await;
}

/// Shared connections that have tried to connect once, so that the first app does not come too early.
async fn connect_shared(context: &Rc<Context>) -> Vec<Rc<Upstream>> {
    if context.settings.dedicated {
        return Vec::new();
    }
    let mut shared = Vec::new();
    for _ in 0..context.settings.shared_connections {
        let upstream = Upstream::shared(Rc::clone(context), Target::Memcached);
        let (first, tried) = oneshot::channel();
        spawn_local(keep_connected(Rc::clone(&upstream), first));
        let _ = tried.await;
        shared.push(upstream);
    }
    shared
}

async fn tick(context: Rc<Context>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        context.tick();
        context.counters.beat();
    }
}

/// Connections handed to a worker that it has not taken yet.
const INBOX_MAX: usize = 1024;
/// How often time-outs are looked for and the wall clock is followed.
const TICK: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    use super::*;
    use crate::net::Accepted;

    fn arrival() -> Arrival {
        let (app, _) = std::os::unix::net::UnixStream::pair().unwrap();
        let (read, welcome, refusal) = (Vec::new(), Vec::new(), Vec::new());
        Arrival { accepted: Accepted::Unix(app), read, welcome, refusal, tunnelled: false }
    }

    /// The front door waits; the app has its seat, so others are not let in instead.
    #[tokio::test]
    async fn an_app_beyond_a_full_inbox_waits_for_its_worker() {
        let (inbox, mut taken) = Inbox::new();
        let rest = inbox.arrivals.try_reserve_many(INBOX_MAX - 1).unwrap();
        let mut last = pin!(inbox.put(arrival()));
        assert!(poll_fn(|cx| Poll::Ready(last.as_mut().poll(cx))).await.is_ready(), "there is room for one");
        let mut beyond = pin!(inbox.put(arrival()));
        assert!(poll_fn(|cx| Poll::Ready(beyond.as_mut().poll(cx))).await.is_pending());
        assert_eq!(inbox.seats(), 2);
        let (_, seat) = taken.recv().await.unwrap();
        beyond.await;
        drop((seat, rest));
        assert_eq!(inbox.seats(), 1);
    }

    #[tokio::test]
    async fn an_app_that_waits_for_a_worker_that_stops_is_let_go() {
        let (inbox, taken) = Inbox::new();
        let full = inbox.arrivals.try_reserve_many(INBOX_MAX).unwrap();
        let mut waits = pin!(inbox.put(arrival()));
        assert!(poll_fn(|cx| Poll::Ready(waits.as_mut().poll(cx))).await.is_pending());
        drop((full, taken));
        waits.await;
        assert_eq!(inbox.seats(), 0);
    }
}
