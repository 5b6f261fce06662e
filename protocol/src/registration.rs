//! What a proxy and control say to one another: register, heartbeat, and the place that is given in answer.
//!
//! ```text
//!   proxy                                     control
//!     │ POST /v1/replicas          Register ──► │ known by `identity`: the same replica, whatever its address is today
//!     │ ◄── Registered { replica, lease … }     │
//!     │ POST /v1/replicas/{id}/heartbeat  ────► │ every `heartbeat_seconds`; the lease begins anew
//!     │ ◄── Assignment { place, peers }         │ empty until a requisition is approved
//!     │ GET /v1/replicas/{id}/assignment  ────► │ answered when it is another one (`wait`, `If-None-Match`)
//!     │ ◄── Assignment                          │
//!     │ POST … Heartbeat { stopping }     ────► │ the lease is given back: clients are told at once
//! ```
//!
//! A proxy that cannot reach control keeps the assignment it has, for ever. A replica whose lease has run out is not forgotten:
//! it is down, and nothing is allocated to it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::topology::{AppId, ShardName, Site};

/// A proxy's first words. Repeating them changes what is known of it, and never makes a second replica.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Register {
    /// Chosen by the proxy and stable over its restarts; two proxies never share one.
    pub identity: String,
    /// The name that it goes by in the tags of its mutations.
    pub site: Site,
    /// Where apps reach it.
    pub address: Endpoint,
    /// Where its peers reach it.
    pub peer_address: Endpoint,
    /// What memcached may use for items (`-m`), as it says itself.
    pub memory_bytes: u64,
    /// Of the memcached behind the proxy, as it says itself.
    #[serde(default)]
    pub memcached_version: Option<String>,
    /// Of the proxy.
    pub proxy_version: String,
    /// The machine it runs on: replicas of one shard are kept apart.
    pub machine: String,
    /// Where the machine stands; replicas of one shard are kept apart where there is a choice.
    #[serde(default)]
    pub zone: Option<String>,
    /// A place that is asked for; without it the replica waits in the pool.
    #[serde(default)]
    pub place: Option<WantedPlace>,
}

/// A host and a port.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Endpoint {
    /// An address, or a name.
    pub host: String,
    /// TCP.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    /// As it is dialed: an IPv6 address in brackets.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') && !host.starts_with('[') {
            write!(out, "[{host}]:{port}")
        } else {
            write!(out, "{host}:{port}")
        }
    }
}

/// `--app` and `--shard`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct WantedPlace {
    /// The app.
    pub appid: AppId,
    /// A shard of it that exists, or the next that would be created.
    pub shard: ShardName,
}

/// Control's answer to a registration.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Registered {
    /// The replica's number, for its heartbeats.
    pub replica: u64,
    /// What it has to do now.
    pub assignment: Assignment,
}

/// What a proxy tells every few seconds.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Heartbeat {
    /// Where this proxy is reached by its peers: control tells one that has been replaced from the one in its place.
    #[serde(default)]
    pub peer_address: Option<Endpoint>,
    /// As `/ready` says.
    pub ready: bool,
    /// As `/status` says.
    pub in_sync: bool,
    /// The sites of the peers that it is streaming to.
    #[serde(default)]
    pub streaming: Vec<Site>,
    /// The sites of the peers with which nothing is missing on either side, but for what is on its way.
    #[serde(default)]
    pub whole_with: Vec<Site>,
    /// The slowest peer's.
    #[serde(default)]
    pub lag_ms: u64,
    /// Whether its memcached answers.
    pub upstream_up: bool,
    /// Items that memcached holds.
    #[serde(default)]
    pub items: u64,
    /// Bytes that memcached uses for them.
    #[serde(default)]
    pub bytes: u64,
    /// Mutations waiting for peers.
    #[serde(default)]
    pub backlog_entries: u64,
    /// Mutations lost and not yet repaired.
    #[serde(default)]
    pub lost_unrepaired: u64,
    /// Sessions of apps.
    #[serde(default)]
    pub sessions: u64,
    /// The proxy is ending: this is its last word, and its lease ends with it. Its place stays its own.
    #[serde(default)]
    pub stopping: bool,
}

/// What a replica is for, from now on.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Assignment {
    /// `None`: it waits in the pool.
    pub place: Option<Place>,
    /// How long after a heartbeat control takes the replica for up.
    pub lease_seconds: u32,
    /// How often to send one.
    pub heartbeat_seconds: u32,
    /// Rises with every decision of control: of two assignments the one with the greater number is the newer one.
    #[serde(default)]
    pub sequence: u64,
}

/// A place in a shard.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Place {
    /// The app.
    pub appid: AppId,
    /// The shard.
    pub shard: ShardName,
    /// The other replicas of the shard.
    pub peers: Vec<AssignedPeer>,
    /// It is a newcomer that the others fill: what its memcached held before is none of the shard's.
    #[serde(default)]
    pub joining: bool,
}

/// Another replica of the same shard.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AssignedPeer {
    /// Its name.
    pub site: Site,
    /// Its `--peer-listen`, as others reach it.
    pub peer_address: Endpoint,
}
