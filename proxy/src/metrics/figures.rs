//! What a scrape shows, as plain values: whoever counts fills them in, and nobody here knows how.

use super::{MemcachedStats, Totals};

/// All that a scrape shows.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub site: String,
    /// What the workers counted.
    pub totals: Totals,
    pub upstream_up: bool,
    /// Nothing without `--failover peer`.
    pub failover: Option<FailoverFigures>,
    /// Nothing without `--control`.
    pub control: Option<ControlFigures>,
    pub replication: ReplicationFigures,
    /// Nothing when memcached did not answer.
    pub memcached: Option<MemcachedStats>,
}

/// What failover shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FailoverFigures {
    /// A peer serves the apps of this site.
    pub active: bool,
    /// How often one has taken over.
    pub total: u64,
}

/// What is shown of control.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControlFigures {
    /// It knows this replica and has answered the last request.
    pub up: bool,
    /// This replica has a place in a shard.
    pub placed: bool,
    /// When it has answered last, in milliseconds since 1970.
    pub heard_ms: Option<u64>,
    /// Requests to it, by kind and outcome.
    pub requests: Vec<(&'static str, &'static str, u64)>,
}

/// What replication shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicationFigures {
    pub in_sync: bool,
    /// The CAS of items is their version.
    pub versioned: bool,
    /// Keys whose newest version is remembered.
    pub ledger_entries: u64,
    pub ledger_bytes: u64,
    /// Mutations that some peer will not get, by reason.
    pub lost: Vec<(&'static str, u64)>,
    /// Local writes whose answer never came.
    pub unknown_outcomes: u64,
    /// Values let go to keep the bound on the backlog.
    pub payloads_dropped: u64,
    /// Connections on peer-listen that were no configured peer's, by why they ended.
    pub strangers: Vec<(&'static str, u64)>,
    /// How often one more connection on peer-listen had to wait until another one ended.
    pub listener_full: u64,
    /// Lists of owed keys that are no longer complete, by reason; empty without `--backlog-dir`.
    pub spill_losses: Vec<(&'static str, u64)>,
    /// Misses that a peer was to fill, by what came of it; none without `--miss peer`.
    pub fills: Vec<(&'static str, u64)>,
    pub fills_in_flight: u64,
    pub peers: Vec<PeerFigures>,
}

/// What one peer shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerFigures {
    /// The label: its address as configured, which is known from the start and does not change.
    pub peer: String,
    pub streaming: bool,
    /// Whether it has a link to us.
    pub inbound: bool,
    pub lag_ms: u64,
    pub backlog_entries: u64,
    pub backlog_bytes: u64,
    /// Sent and not acknowledged yet.
    pub unacknowledged: u64,
    /// Keys on disk that are owed to it, and the bytes there.
    pub spilled: Option<(u64, u64)>,
    /// By direction and outcome; the outcome comes from an enum.
    pub mutations: Vec<(Direction, &'static str, u64)>,
    pub resyncs_full: u64,
    /// Lists of keys that were delivered.
    pub resyncs_listed: u64,
    pub resyncs_partial: u64,
    /// Items done and expected, of the resync that is on or was last.
    pub resync: Option<(u64, u64)>,
    /// Keys by what a resync did with them.
    pub resync_keys: Vec<(&'static str, u64)>,
    /// Resyncs that broke off.
    pub resyncs_broken: u64,
    /// Connections on which the peer asks for states now, and those it was refused.
    pub resyncs_asking: u64,
    pub resyncs_turned_away: u64,
    /// Items that were gone when they were to be read for it.
    pub read_misses: u64,
    /// How often it came back as a new process.
    pub restarts: u64,
    /// How often a link with it ended, by reason.
    pub links_stopped: Vec<(&'static str, u64)>,
    pub sent_bytes: u64,
    pub received_bytes: u64,
}

/// Which way a mutation goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Born here, for the peer.
    Out,
    /// Born there, for us.
    In,
}

impl Direction {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::In => "in",
        }
    }
}
