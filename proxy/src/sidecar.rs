//! The composition root of the sidecar: builds every part, says which addresses are bound, and ends them in order.
//!
//! ```text
//!  apps ─► front door ─► workers ─► memcached ◄─ monitor
//!                           │            ▲
//!                        replica ◄─► links ─► peers
//!                           │
//!                         admin
//! ```
//!
//! Promises: no socket is open before the configuration is checked, no app is let in before every worker has tried
//! memcached, and the end comes in this order: apps first, then what is owed to peers, then the rest. Refuses to
//! know how any part works.

mod control;
mod failover;
mod lists;
mod reload;
mod source;
mod versions;

use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin;
use crate::config::{Ack, AckFallback, Address, Config, Miss, UpstreamConnections};
use crate::failover::Switch;
use crate::fill::Fills;
use crate::front_door::{self, FrontDoor};
use crate::link::{self, LinkConfig};
use crate::metrics::WorkerCounters;
use crate::net::{Arrival, Listener};
use crate::peers::{Peer, PeerSet};
use crate::replication::{Bounds, Shared, wall_clock_ms};
use crate::spill::Spill;
use crate::upstream::Monitor;
use crate::worker::{AckSettings, Parts, Settings, Worker};
use reload::{Limits, Reloading};
use source::Source;

/// An address could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; stop what is there, or choose another address with {flag}")]
pub struct BindError {
    address: Address,
    flag: &'static str,
    source: std::io::Error,
}

/// Everything that listens, bound.
struct Doors {
    apps: Vec<Listener>,
    peers: Option<Listener>,
}

/// Runs until `stop` is cancelled, then drains. What is `read_again` takes effect as far as it can.
///
/// # Errors
/// [`BindError`] if an address cannot be bound; else a thread cannot be started.
pub async fn run(
    config: Config,
    read_again: watch::Receiver<Config>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let doors = Doors::open(&config).await?;
    let admin = TcpListener::bind(config.admin.to_string()).await;
    let admin = admin.map_err(|source| failed(&config.admin, "--admin", source))?;
    serve(config, doors, read_again, stop, |source, _, stop| tokio::spawn(admin::serve(admin, source, stop)))
        .await
}

/// The same in a simulation: nothing listens on `--admin`, and what would be shown there is given to `serving`, with the
/// set of peers.
///
/// # Errors
/// As [`run`].
#[cfg(feature = "simulation")]
pub async fn simulate(
    config: Config,
    stop: CancellationToken,
    serving: impl FnOnce(Arc<dyn admin::AdminSource>, Arc<PeerSet>),
) -> anyhow::Result<()> {
    let doors = Doors::open(&config).await?;
    let (_, nothing) = watch::channel(config.clone());
    serve(config, doors, nothing, stop, |source, peers, _| {
        serving(source, peers);
        tokio::spawn(async { Ok(()) })
    })
    .await
}

async fn serve(
    config: Config,
    doors: Doors,
    read_again: watch::Receiver<Config>,
    stop: CancellationToken,
    show: impl FnOnce(Arc<Source>, Arc<PeerSet>, CancellationToken) -> JoinHandle<std::io::Result<()>>,
) -> anyhow::Result<()> {
    let given = config.clone();
    let (config, recalled) = control::recall(config);
    let shared = (!config.peers.is_empty() || doors.peers.is_some())
        .then(|| Shared::new(&config.site, config.peers.len(), bounds(&config)));
    if let Some(shared) = &shared {
        shared.lock().begin_life(wall_clock_ms());
    }
    let (peers, followed) = PeerSet::new(&config.site, configured(&config));
    let spill = lists::open(&config, shared.as_ref())?;
    if let Some(shared) = shared.as_ref().filter(|_| config.ack == Ack::Peer) {
        shared.show_progress(config.workers);
    }
    let wanted = Arc::new(Notify::new());
    if shared.is_some() || config.upstream_connections == UpstreamConnections::Shared {
        wanted.notify_one();
    }
    let (monitor, upstream) =
        Monitor::new(config.upstream.clone(), config.upstream_timeout, Arc::clone(&wanted), shared.clone());
    monitor.meet().await;
    let monitor = tokio::spawn(monitor.run());
    let versions = shared.clone().map(|shared| tokio::spawn(versions::follow(upstream.clone(), shared)));

    let (sessions, tunnelled) = front_door::lobby();
    let fills =
        (config.recovery.miss == Miss::Peer).then(|| Arc::new(Fills::new(config.recovery.miss_timeout)));
    let tracker = TaskTracker::new();
    let links_stop = CancellationToken::new();
    let (links, tunnels) = shared
        .as_ref()
        .map(|shared| {
            let link = LinkConfig {
                wanted: Some(followed),
                ..link_config(&config, spill.clone(), fills.clone(), sessions)
            };
            link::start(link, doors.peers, Arc::clone(shared), links_stop.clone(), &tracker)
        })
        .unzip();
    let mut source =
        Source::new(&config, upstream.clone(), shared.clone(), links.clone(), spill.clone(), fills);
    let failover = failover::start(&config, tunnels, &upstream, shared.as_ref(), &mut source);
    let peers = Arc::new(peers);
    let control = control::prepare(&config, &mut source);
    let source = Arc::new(source);
    let control = control.map(|prepared| prepared.start(&config, recalled, &peers, &source, &stop));
    let workers_stop = CancellationToken::new();
    let limits = Limits::of(&config);
    let workers =
        start_workers(&config, &limits, shared.clone(), failover, &wanted, &source, &workers_stop).await?;
    let admin_stop = CancellationToken::new();
    let admin = show(Arc::clone(&source), Arc::clone(&peers), admin_stop.clone());
    let front_door = open_front_door(&limits, doors.apps, tunnelled, &workers, &source, &stop);
    let reloading = Reloading { config: given, peers, shared: shared.clone(), links, limits };
    let reloading = tokio::spawn(reloading.follow(read_again));
    tracing::info!(listen = %list(&config.listen), upstream = %config.upstream, admin = %config.admin, "serving");

    stop.cancelled().await;
    // One limit for all: apps may use most of it, what is owed to peers has the rest.
    let deadline = Instant::now() + config.drain_timeout;
    front_door.wait().await;
    workers_stop.cancel();
    let ended = async {
        for worker in workers {
            worker.ended().await;
        }
    };
    let cut_off = timeout(config.drain_timeout * 3 / 4, ended).await.is_err();
    if cut_off {
        tracing::warn!(
            "some apps were cut off, or writes of theirs are not settled: memcached or they were not done within --drain-timeout"
        );
    }
    links_stop.cancel();
    tracker.close();
    if timeout_at(deadline, tracker.wait()).await.is_err() {
        tracing::warn!("peers have not taken all that is owed to them within --drain-timeout");
    }
    if let (Some(spill), Some(shared)) = (spill, &shared) {
        lists::close(spill, shared, !cut_off).await;
    }
    if let Some(control) = control {
        let _ = control.await;
    }
    admin_stop.cancel();
    let _ = admin.await;
    monitor.abort();
    reloading.abort();
    if let Some(versions) = versions {
        versions.abort();
    }
    Ok(())
}

impl Doors {
    async fn open(config: &Config) -> Result<Self, BindError> {
        let mut apps = Vec::new();
        for address in &config.listen {
            let listener = Listener::bind(address).await;
            apps.push(listener.map_err(|source| failed(address, "--listen", source))?);
        }
        let peers = match &config.peer_listen {
            Some(address) => {
                Some(Listener::bind(address).await.map_err(|e| failed(address, "--peer-listen", e))?)
            }
            None => None,
        };
        Ok(Self { apps, peers })
    }
}

fn failed(address: &Address, flag: &'static str, source: std::io::Error) -> BindError {
    BindError { address: address.clone(), flag, source }
}

async fn start_workers(
    config: &Config,
    limits: &Limits,
    replication: Option<Arc<Shared>>,
    failover: Option<Arc<Switch>>,
    wanted: &Arc<Notify>,
    source: &Arc<Source>,
    drain: &CancellationToken,
) -> anyhow::Result<Vec<Worker>> {
    let figures = Arc::clone(source);
    let parts = Parts {
        settings: settings(config, limits),
        replication,
        fills: source.fills(),
        upstream: source.upstream(),
        upstream_wanted: Arc::clone(wanted),
        notes: Arc::default(),
        failover,
        stats: Arc::new(move || figures.stats_memcloud()),
        drain: drain.clone(),
    };
    let mut workers = Vec::new();
    for number in 0..config.workers {
        let (ready, told) = oneshot::channel();
        let worker =
            Worker::start(number, parts.clone(), ready).context("a worker thread cannot be started")?;
        source.add_worker(Arc::clone(worker.counters()));
        workers.push(worker);
        let _ = told.await;
    }
    Ok(workers)
}

fn open_front_door(
    limits: &Limits,
    listeners: Vec<Listener>,
    tunnelled: mpsc::Receiver<Arrival>,
    workers: &[Worker],
    source: &Source,
    stop: &CancellationToken,
) -> TaskTracker {
    let counters = Arc::new(WorkerCounters::default());
    source.add_front_door(Arc::clone(&counters));
    let door = Arc::new(FrontDoor {
        inboxes: workers.iter().map(Worker::inbox).collect(),
        sessions_max: Arc::clone(&limits.sessions_max),
        counters,
    });
    let tracker = TaskTracker::new();
    for listener in listeners {
        tracker.spawn(Arc::clone(&door).open(listener, stop.clone()));
    }
    tracker.spawn(door.open_to_peers(tunnelled, stop.clone()));
    tracker.close();
    tracker
}

fn settings(config: &Config, limits: &Limits) -> Settings {
    Settings {
        upstream: config.upstream.clone(),
        upstream_timeout_us: u64::try_from(config.upstream_timeout.as_micros()).unwrap_or(u64::MAX),
        dedicated: config.upstream_connections == UpstreamConnections::Dedicated,
        waiting_bytes_max: Arc::clone(&limits.waiting_bytes_max),
        shared_connections: config.shared_connections,
        ack: (config.ack == Ack::Peer).then_some(AckSettings {
            timeout: config.recovery.ack_timeout,
            drain: config.drain_timeout / 2,
            fail: config.recovery.ack_fallback == AckFallback::Fail,
        }),
    }
}

/// What may wait for apps that do not read, at one worker.
fn waiting_bytes_max(config: &Config) -> usize {
    usize::try_from(config.session_buffer_bytes).unwrap_or(usize::MAX) / config.workers.max(1)
}

fn bounds(config: &Config) -> Bounds {
    Bounds {
        backlog_bytes: config.backlog_bytes,
        max_clock_skew_ms: u64::try_from(config.max_clock_skew.as_millis()).unwrap_or(u64::MAX),
        ..Bounds::default()
    }
}

fn link_config(
    config: &Config,
    lists: Option<Arc<Spill>>,
    fills: Option<Arc<Fills>>,
    sessions: mpsc::Sender<Arrival>,
) -> LinkConfig {
    LinkConfig {
        lists,
        wanted: None,
        site: config.site.clone(),
        shard: None,
        peers: config.peers.clone(),
        upstream: config.upstream.clone(),
        upstream_timeout: config.upstream_timeout,
        peer_timeout: config.peer_timeout,
        resync_rate: config.recovery.resync_rate,
        warmup_timeout: config.recovery.warmup_timeout,
        drain_timeout: config.drain_timeout,
        fills,
        sessions: Some(sessions),
    }
}

/// The peers that the configuration names; who they are is heard when they answer.
fn configured(config: &Config) -> Vec<Peer> {
    let peer = |address: &String| Peer { site: None, address: address.clone() };
    config.peers.iter().map(peer).collect()
}

fn list(addresses: &[Address]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
