//! The link between two proxies of a shard: how what one replica owes reaches the other one.
//!
//! Each proxy dials every peer and sends its own mutations on the connection it dialed; acks come back on it.
//! So a pair has two connections, one each way, and each direction lives and dies by itself.
//!
//! ```text
//!        site a                                                       site b
//!   Replica ──take──> dialer ── ms md mg, flush, mark ──>  acceptor ──offer──> Replica
//!      ▲                 │                                     │
//!      └──acknowledge────┴────────────── ack ──────────────────┘ after its memcached answered
//! ```
//!
//! Promises: what is written to a peer is written in the replica's order; an ack means that memcached here has
//! answered (or that the mutation was judged superseded or refused, and counted); a link that breaks anywhere
//! loses nothing, because what was not acknowledged is owed again and what comes twice is recognised; a slow,
//! dead or hostile peer costs bounded memory and no app's time.
//!
//! It refuses to know: who wrote what first. Versions are compared by the [replica](crate::replication) alone.
//!
//! docs/peer-link.md is the wire for whoever wants to write the other side.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

mod acceptor;
mod company;
mod dialer;
mod directory;
mod filler;
mod flusher;
mod hold;
mod members;
pub mod message;
mod resync;
mod state;
mod tunnel;

pub use resync::{Progress, ResyncCounters, ResyncKind};
pub use state::{LinkState, LinkStopped, Links, PeerLink, PeerLinkCounters};
pub(crate) use tunnel::Tunnels;

use crate::chance::chance;
use crate::config::Address;
use crate::fill::Fills;
use crate::memcached::{commands, incarnation, local};
use crate::net::{Arrival, Listener};
use crate::peers::Wanted;
use crate::replication::{PeerId, Shared};
use crate::spill::Spill;
use directory::{Directory, Identity};
use members::Members;

/// What the links have to know.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// Our name; [`message::is_name`] must hold.
    pub site: String,
    /// The shard, where one is known.
    pub shard: Option<String>,
    /// The peers' addresses at the start, in the order of `PeerId`.
    pub peers: Vec<String>,
    /// The peers that are wanted from then on; without it they stay.
    pub wanted: Option<watch::Receiver<Wanted>>,
    /// The local memcached.
    pub upstream: Address,
    /// How long memcached may take to let us in.
    pub upstream_timeout: Duration,
    /// Silence after which a peer is given up.
    pub peer_timeout: Duration,
    /// Bytes a second that a resync reads, at first.
    pub resync_rate: u64,
    /// How long an empty memcached waits for sites that are not there.
    pub warmup_timeout: Duration,
    /// How long a stopping proxy goes on sending what it owes.
    pub drain_timeout: Duration,
    /// Keys owed to peers that memory has no room for.
    pub lists: Option<Arc<Spill>>,
    /// Who waits for keys that peers may have; none without `--miss peer`.
    pub fills: Option<Arc<Fills>>,
    /// Where sessions go that a peer opens for its apps; without it they are refused.
    pub sessions: Option<mpsc::Sender<Arrival>>,
}

/// What all tasks of the links share.
struct Context {
    config: LinkConfig,
    identity: Identity,
    shared: Arc<Shared>,
    directory: Directory,
    links: Arc<Links>,
    tracker: TaskTracker,
    /// The proxy stops: send what is owed, then end.
    drain: CancellationToken,
    /// Our own sending has ended: nobody needs the rest any more.
    over: CancellationToken,
}

impl Context {
    fn peer_addr(&self, peer: PeerId) -> String {
        self.directory.address(peer).unwrap_or_default()
    }
}

/// Starts dialing all peers, and accepting them on `listener`. Must be called on the runtime that is to carry the
/// links; all tasks are tracked by `tracker`.
///
/// Cancelling `drain` ends the links once the peers have everything, or after the drain timeout; sessions must have
/// ended before, or what they write last stays behind. Peers' mutations are taken until then.
pub fn spawn(
    config: LinkConfig,
    listener: Option<Listener>,
    shared: Arc<Shared>,
    drain: CancellationToken,
    tracker: &TaskTracker,
) -> Arc<Links> {
    start(config, listener, shared, drain, tracker).0
}

/// The same, with the way to the peers' sessions.
pub(crate) fn start(
    config: LinkConfig,
    listener: Option<Listener>,
    shared: Arc<Shared>,
    drain: CancellationToken,
    tracker: &TaskTracker,
) -> (Arc<Links>, Tunnels) {
    let links = Arc::new(Links::new(config.resync_rate));
    let run = chance();
    let identity = Identity { site: config.site.clone(), run, shard: config.shard.clone() };
    let context = Arc::new(Context {
        directory: Directory::new(),
        identity,
        shared,
        links: Arc::clone(&links),
        tracker: tracker.clone(),
        drain,
        over: CancellationToken::new(),
        config,
    });
    let dialers = TaskTracker::new();
    let members = Members::new(Arc::clone(&context), dialers.clone());
    if let Some(wanted) = context.config.wanted.clone() {
        tracker.spawn(members.run(wanted));
    }
    dialers.close();
    if let Some(listener) = listener {
        tracker.spawn(acceptor::listen(Arc::clone(&context), listener));
    }
    tracker.spawn(flusher::run(Arc::clone(&context)));
    tracker.spawn(resync::run(Arc::clone(&context)));
    let tunnels = Tunnels::new(Arc::clone(&context));
    if let Some(fills) = context.config.fills.clone() {
        tracker.spawn(filler::run(Arc::clone(&context), fills));
    }
    tracker.spawn(async move {
        context.drain.cancelled().await;
        dialers.wait().await;
        context.over.cancel();
    });
    (links, tunnels)
}
