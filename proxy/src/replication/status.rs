//! What can be told about replication: per peer, and in all.

use super::history::Loss;
use super::replica::{PeerId, Replica};
use super::version::Version;

impl<W> Replica<W> {
    /// What can be told about one peer.
    pub fn status(&self, peer: PeerId, now_ms: u64) -> PeerStatus {
        let (loss, loss_from) = (self.loss(peer), self.loss_from(peer));
        let peer = &self.peers[peer.0];
        PeerStatus {
            connected: peer.connected,
            live: peer.is_live(),
            backlog_entries: peer.owed(),
            backlog_bytes: peer.owed_bytes,
            unacked: peer.window.len() as u64,
            lag_ms: peer.oldest().map_or(0, |oldest| now_ms.saturating_sub(oldest.millis())),
            gap: peer.gap,
            listed_keys: None,
            listed_bytes: 0,
            skewed: peer.skewed,
            catch_ups: peer.catch_ups,
            inbound_connected: peer.inbound,
            peer_owes: peer.owes,
            restarts: peer.restarts,
            loss,
            loss_from,
            counters: peer.counters,
        }
    }

    /// The newest version known of a key: its own, or that of the last flush.
    pub fn known(&self, key: &[u8]) -> Version {
        let own = self.table.find(key).map_or(Version::ZERO, |at| self.table[at].version);
        own.max(self.last_flush)
    }

    /// Whether this is the newest version of the key, and no write of it is on its way.
    pub fn is_newest(&self, key: &[u8], version: Version) -> bool {
        let entry = self.table.find(key).map(|at| &self.table[at]);
        entry.is_some_and(|entry| entry.version == version && entry.gate.is_idle())
            && !self.flush_gate.is_running()
    }

    /// Everything of the peer at or below this was processed here.
    pub fn heard(&self, from: PeerId) -> Version {
        self.peers[from.0].mark
    }

    /// The newest version seen anywhere, as if it were stamped here.
    pub fn latest(&self) -> Version {
        self.clock.latest()
    }

    /// Writes of apps that took effect in this life of the proxy.
    pub fn writes(&self) -> u64 {
        self.counters.stamped
    }

    /// What can be told about the site.
    pub fn counters(&self) -> Counters {
        Counters {
            ledger_entries: self.table.len() as u64,
            ledger_bytes: self.table.bytes(),
            ..self.counters
        }
    }

    /// There is no peer; or every peer streams both ways, and nothing is queued, unacknowledged, in flight, missing or refused for its
    /// clock, by them or by us.
    pub fn in_sync(&self) -> bool {
        let quiet = self.is_stamped() && self.flush_gate.is_open();
        let peers_in_sync = self.peer_ids().all(|id| {
            let peer = &self.peers[id.0];
            self.nothing_is_missing(id) && peer.owed() == 0 && peer.owes == Some(0)
        });
        // Who is alone is in sync with all there are, whatever is in flight.
        !self.has_peers() || quiet && peers_in_sync && self.is_warm()
    }

    /// Both of us have what the other one has, but for what is on its way; whatever it is with other peers.
    pub fn whole_with(&self, peer: PeerId) -> bool {
        self.has_peer(peer) && self.nothing_is_missing(peer) && self.warming().is_none()
    }

    fn nothing_is_missing(&self, id: PeerId) -> bool {
        let peer = &self.peers[id.0];
        let streams = peer.connected && peer.inbound;
        let whole = self.loss(id) == Loss::Nothing;
        streams && whole && peer.history.peer_is_whole() && peer.gap.is_none()
    }
}

/// The state of replication with one peer, in both directions.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub struct PeerStatus {
    /// The link to the peer is up (said by `connected`).
    pub connected: bool,
    /// Writes that wait for peers wait for this one.
    pub live: bool,
    /// Keys whose newest mutation the peer has not acknowledged, and owed flushes.
    pub backlog_entries: u64,
    /// What those keep in memory: payloads, keys and bookkeeping.
    pub backlog_bytes: u64,
    /// Mutations sent and not yet acknowledged.
    pub unacked: u64,
    /// Age of the oldest mutation that the peer has not acknowledged.
    pub lag_ms: u64,
    /// Mutations were given up: a full resync is owed.
    pub gap: Option<Gap>,
    /// Keys on the peer's list outside, and what they take there: for whoever keeps lists to fill in.
    pub listed_keys: Option<u64>,
    /// See `listed_keys`.
    pub listed_bytes: u64,
    /// The peer refused mutations, because our clock is too far ahead of its own.
    pub skewed: Option<Gap>,
    /// How often the link to the peer came back while something was owed.
    pub catch_ups: u64,
    /// The link from the peer is up (said by `inbound_connected`).
    pub inbound_connected: bool,
    /// What the peer said it owes us in its last mark on this link.
    pub peer_owes: Option<u64>,
    /// How often the peer came with a new run id: each time its ledger was empty.
    pub restarts: u64,
    /// What the peer may miss of ours, whatever the reason.
    pub loss: Loss,
    /// What we may miss of the peer, as it says.
    pub loss_from: Loss,
    /// Counted since the start.
    pub counters: PeerCounters,
}

/// Since when, and how much, a peer has missed.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Gap {
    /// When its backlog was given up first.
    pub since_ms: u64,
    /// How many mutations were given up or not queued since.
    pub mutations: u64,
    /// Their keys are on a list outside, which is complete: they are owed and not lost.
    pub listed: bool,
    /// Our clock when the last of them was.
    pub last: Version,
}

/// Mutations to and from one peer, by outcome.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct PeerCounters {
    /// Handed to the dialer, repetitions included.
    pub sent: u64,
    /// Handed to the dialer again after a link broke.
    pub resent: u64,
    /// Acknowledged by the peer.
    pub acked: u64,
    /// Not sent because something newer made them void.
    pub void: u64,
    /// Given up because the backlog exceeded its bound.
    pub lost: u64,
    /// Given up in memory, and put on the peer's list.
    pub listed: u64,
    /// Refused by the peer, because our clock is too far ahead of its own.
    pub refused: u64,
    /// From the peer: applied here.
    pub applied: u64,
    /// From the peer: older than what is known here.
    pub superseded: u64,
    /// From the peer: processed before, the acknowledgement was lost.
    pub duplicate: u64,
    /// From the peer: our own mutation came back.
    pub echo: u64,
    /// From the peer: too far in the future, refused.
    pub skewed: u64,
    /// From the peer: its age cannot be judged any more, so the key is dropped on every side.
    pub doubtful: u64,
    /// From the peer: could not be applied because the upstream connection broke; it comes again.
    pub abandoned: u64,
}

/// Counted for the site as a whole.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Counters {
    /// Local writes that got a version.
    pub stamped: u64,
    /// Local flushes that got a version, scheduled ones included.
    pub flushes: u64,
    /// Local writes whose outcome is unknown.
    pub unknown: u64,
    /// Writes and peer mutations that had to wait at a gate.
    pub waited: u64,
    /// Payloads that were dropped to keep the bound; their items are read when sent.
    pub payloads_dropped: u64,
    /// Mutations given up for some peer.
    pub lost: u64,
    /// Mutations given up in memory for some peer, and put on its list.
    pub listed: u64,
    /// Mutations that were owed to peers when they went.
    pub parted: u64,
    /// How often memcached was found empty again.
    pub memcached_restarts: u64,
    /// Keys in the ledger now.
    pub ledger_entries: u64,
    /// What the ledger and the payloads take now.
    pub ledger_bytes: u64,
}
