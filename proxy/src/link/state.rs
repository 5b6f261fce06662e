//! What the links show of themselves: to `/status`, to metrics and to the log, never to one another.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::message::{Malformed, Refusal};
use super::resync::{Progress, ResyncCounters};
use crate::replication::PeerId;

/// Why a link is not streaming.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkStopped {
    /// The peer could not be reached.
    Unreachable,
    /// The peer closed the connection, or the network did.
    Closed,
    /// Nothing was heard for `--peer-timeout`.
    Silent,
    /// The other side refused, with its reason.
    Refused(Refusal),
    /// A line that is none of the link's.
    Malformed(Malformed),
    /// A message that may not be said here: hello in the middle, an ack from a dialer.
    OutOfTurn,
    /// A mutation of a third site: sites send their own ones only.
    ForeignOrigin,
    /// An acknowledgement of more than was sent.
    AckBeyond,
    /// The local memcached does not answer, or not in a way that can be understood.
    Upstream,
    /// Two addresses among `--peer` are the same site.
    SameSiteTwice,
    /// A newer link of the same site has taken its place.
    Replaced,
    /// It is no peer any more.
    Parted,
    /// It is dialed at another address from now on.
    Moved,
    /// This proxy stops.
    Draining,
    /// The proxy that dialed stops, and everything of it has arrived.
    Goodbye,
}

impl LinkStopped {
    /// How many labels there are.
    pub const LABELS: [&'static str; 15] = [
        "unreachable",
        "closed",
        "silent",
        "refused",
        "malformed",
        "out_of_turn",
        "foreign_origin",
        "ack_beyond",
        "upstream",
        "same_site_twice",
        "replaced",
        "draining",
        "goodbye",
        "parted",
        "moved",
    ];

    fn index(self) -> usize {
        match self {
            Self::Unreachable => 0,
            Self::Closed => 1,
            Self::Silent => 2,
            Self::Refused(_) => 3,
            Self::Malformed(_) => 4,
            Self::OutOfTurn => 5,
            Self::ForeignOrigin => 6,
            Self::AckBeyond => 7,
            Self::Upstream => 8,
            Self::SameSiteTwice => 9,
            Self::Replaced => 10,
            Self::Draining => 11,
            Self::Goodbye => 12,
            Self::Parted => 13,
            Self::Moved => 14,
        }
    }

    /// The metric label.
    pub fn label(self) -> &'static str {
        Self::LABELS[self.index()]
    }

    /// Worth a line in the log even where links come and go: somebody has to change something.
    pub(super) fn is_fault(self) -> bool {
        !matches!(
            self,
            Self::Unreachable
                | Self::Closed
                | Self::Replaced
                | Self::Parted
                | Self::Moved
                | Self::Draining
                | Self::Goodbye
        )
    }
}

impl fmt::Display for LinkStopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => write!(f, "refused: {}", refusal.token()),
            Self::Malformed(malformed) => write!(f, "malformed: {malformed}"),
            other => f.write_str(other.label()),
        }
    }
}

/// The state of the link that we dial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkState {
    /// Not tried yet, or being tried for the first time.
    #[default]
    Connecting,
    /// Hello is done, mutations flow.
    Streaming,
    /// It broke or could not be made; it is tried again and again.
    Down,
}

impl LinkState {
    /// The word in `/status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Streaming => "streaming",
            Self::Down => "down",
        }
    }
}

/// One peer's links as they are now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerLink {
    /// Its place.
    pub id: usize,
    /// The configured address.
    pub addr: String,
    /// The name that answered there last.
    pub site: Option<String>,
    /// The link we dial.
    pub state: LinkState,
    /// Why it stopped last, while it is not streaming.
    pub stopped: Option<LinkStopped>,
    /// The peer's own link, which it dialed to us, is up.
    pub inbound: bool,
    /// One of the two clocks is too far ahead of the other one for a comparison.
    pub clocks_apart: bool,
    /// The resync with it that is on, or the last one.
    pub progress: Option<Progress>,
    /// What resyncs with it have done.
    pub resync: ResyncCounters,
    /// Counted since the start.
    pub counters: PeerLinkCounters,
}

/// What is counted about a peer's links.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerLinkCounters {
    /// Links that got as far as hello, both directions.
    pub links: u64,
    /// Ended links and failed attempts, by the place of the reason in [`LinkStopped::LABELS`].
    pub stopped: [u64; LinkStopped::LABELS.len()],
    /// Bytes written to the peer.
    pub sent_bytes: u64,
    /// Bytes read from the peer on its own links.
    pub received_bytes: u64,
    /// Mutations of the peer whose store memcached refused: the key was dropped here instead.
    pub refused: u64,
    /// Items that were gone from memcached when the dialer came to read them: sent as deletions.
    pub read_misses: u64,
}

/// The links' state, shared with whoever shows it.
#[derive(Debug)]
pub struct Links {
    /// Bytes a second that a resync reads.
    resync_rate: AtomicU64,
    /// By place.
    peers: Mutex<Vec<Option<PeerLink>>>,
    /// Inbound connections that ended before they were known to be a configured peer's, by reason.
    strangers: [AtomicU64; LinkStopped::LABELS.len()],
    /// How often the listener for peers had no place for one more connection.
    full: AtomicU64,
}

impl Links {
    pub(super) fn new(resync_rate: u64) -> Self {
        Self {
            resync_rate: AtomicU64::new(resync_rate),
            peers: Mutex::default(),
            strangers: Default::default(),
            full: AtomicU64::new(0),
        }
    }

    /// Resyncs that begin from now on read so many bytes a second.
    pub fn set_resync_rate(&self, rate: u64) {
        self.resync_rate.store(rate, Ordering::Relaxed);
    }

    pub(super) fn resync_rate(&self) -> u64 {
        self.resync_rate.load(Ordering::Relaxed)
    }

    /// All peers, in the order of their places.
    pub fn peers(&self) -> Vec<PeerLink> {
        self.lock().iter().flatten().cloned().collect()
    }

    /// One peer, if there is one at this place.
    pub fn peer(&self, peer: PeerId) -> Option<PeerLink> {
        self.lock().get(peer.0).cloned().flatten()
    }

    pub(super) fn join(&self, peer: PeerId, addr: &str, site: Option<&str>) {
        let mut peers = self.lock();
        if peers.len() <= peer.0 {
            peers.resize(peer.0 + 1, None);
        }
        let (addr, site) = (addr.to_owned(), site.map(str::to_owned));
        peers[peer.0] = Some(PeerLink { id: peer.0, addr, site, ..PeerLink::default() });
    }

    pub(super) fn part(&self, peer: PeerId) {
        if let Some(link) = self.lock().get_mut(peer.0) {
            *link = None;
        }
    }

    /// Connections of nobody we know, by the place of the reason in [`LinkStopped::LABELS`].
    pub fn strangers(&self) -> Vec<u64> {
        self.strangers.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    pub(super) fn stranger(&self, stopped: LinkStopped) {
        self.strangers[stopped.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// How often one more connection on peer-listen had to wait until another one ended.
    pub fn listener_full(&self) -> u64 {
        self.full.load(Ordering::Relaxed)
    }

    /// Counts that, and says how often it was.
    pub(super) fn full(&self) -> u64 {
        self.full.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn stopped(&self, peer: usize, stopped: LinkStopped) {
        self.change(peer, |link| link.counters.stopped[stopped.index()] += 1);
    }

    pub(super) fn change(&self, peer: usize, change: impl FnOnce(&mut PeerLink)) {
        if let Some(Some(link)) = self.lock().get_mut(peer) {
            change(link);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<PeerLink>>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
