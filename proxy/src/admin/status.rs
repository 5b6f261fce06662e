//! The JSON of `/status`. Names are fixed: people and checks are written against them.

use serde::Serialize;

/// This replica as it sees itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    pub site: String,
    pub version: &'static str,
    /// Every peer streams, all that was sent is acknowledged, nothing waits and no resync is owed, in both
    /// directions as far as this proxy knows.
    pub in_sync: bool,
    pub upstream: UpstreamStatus,
    /// The CAS of items is their version, the same on all sites.
    pub versioned: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unversioned_because: Option<String>,
    /// Who serves the apps of this site; nothing without `--failover peer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failover: Option<FailoverStatus>,
    /// Who says who the peers are; nothing without `--control`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<ControlStatus>,
    pub peers: Vec<PeerStatus>,
    /// memcached started empty and is being filled from a peer.
    pub warming: bool,
    /// Mutations that some peer missed and no resync has made good yet.
    pub lost_unrepaired: u64,
    pub sessions: u64,
    /// Those of them that peers opened for their apps.
    pub tunnelled_sessions: u64,
    pub ack: AckStatus,
}

/// When writes are answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AckStatus {
    /// `local` or `peer`.
    pub mode: &'static str,
    /// Writes that every peer had before they were answered.
    pub peer: u64,
    /// Answered although a peer was away.
    pub degraded: u64,
    /// Answered although a peer had not confirmed them in time.
    pub timeout: u64,
    /// Answered with an error for one of these reasons.
    pub failed: u64,
}

/// Whether a peer serves in place of memcached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailoverStatus {
    /// `local`, `seeking`, `away`, `returning`, `cold` or `stranded`.
    pub state: &'static str,
    /// The peer's name, or its address before it has said one.
    pub peer: Option<String>,
    /// In milliseconds since 1970.
    pub since: u64,
    /// How often a peer has taken over.
    pub total: u64,
}

/// How this replica stands with control.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ControlStatus {
    pub url: String,
    /// `registering`, `pool`, `joining` (it is being filled by its peers) or `placed`.
    pub state: &'static str,
    /// It knows this replica, and has answered the last request. If not, the peers stay as they are.
    pub up: bool,
    /// This replica's number there.
    pub replica: Option<u64>,
    pub app: Option<u32>,
    pub shard: Option<String>,
    /// When it has answered last, in milliseconds since 1970.
    pub heard: Option<u64>,
    /// Why it is not up, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The memcached behind this proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UpstreamStatus {
    pub addr: String,
    pub state: UpstreamState,
    /// As it says itself; nothing before it has answered once.
    pub version: Option<String>,
}

/// Whether memcached answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamState {
    Connecting,
    Up,
    Down,
}

/// A peer, and how far it is behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeerStatus {
    /// Its name; nothing before it has said hello once.
    pub site: Option<String>,
    pub addr: String,
    /// Of the link that we dial.
    pub state: PeerState,
    /// Of the link that the peer dials.
    pub inbound: InboundState,
    /// Streaming, and not behind: with `--ack peer` writes wait for it.
    pub live: bool,
    pub lag_ms: u64,
    pub backlog_entries: u64,
    pub backlog_bytes: u64,
    /// Sent and not acknowledged yet.
    pub unacknowledged: u64,
    pub resyncs_full: u64,
    pub resyncs_partial: u64,
    /// Keys owed to it that are on disk; nothing without `--backlog-dir`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spilled_keys: Option<u64>,
    /// Mutations it missed and no resync has made good yet.
    pub lost_unrepaired: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resync: Option<ResyncStatus>,
    /// Why the two are not in sync, beyond what is simply on its way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A resync that we drive: the one that is on, or the last one; and what all of them with this peer have done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ResyncStatus {
    /// `copy` fills an empty memcached, `compare` makes two equal.
    pub kind: &'static str,
    pub running: bool,
    pub items: u64,
    pub items_expected: u64,
    pub bytes: u64,
    pub elapsed_ms: u64,
    /// If it goes on like this; nothing while nobody can say.
    pub left_ms: Option<u64>,
    /// Items copied to here.
    pub copied: u64,
    /// Keys of which the newer side was taken over.
    pub repaired: u64,
    /// Keys that differed and were dropped on every side.
    pub dropped: u64,
    /// Resyncs that broke off and were tried again.
    pub broken: u64,
}

/// Whether the peer has a link to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InboundState {
    Up,
    Down,
}

/// What the link to a peer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerState {
    Connecting,
    Streaming,
    Resyncing,
    Down,
}
