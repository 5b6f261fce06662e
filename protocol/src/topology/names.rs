//! The owner names of a zone (RFC 2782, RFC 1035): built and parsed in one place.
//!
//! ```text
//!   _memcached._tcp.<appid>           SRV     every published replica of the app
//!   _memcached._tcp.<shard>.<appid>   SRV     those of a shard
//!   <site>.<shard>.<appid>            A AAAA  a replica's address
//!   <appid>                           TXT     revision, number of shards, hash
//! ```
//!
//! Names here are relative to the zone: what the zone is called is known by who serves it and by who asks.

use std::fmt;

use super::{AppId, ShardName, Site};

/// The service of RFC 2782, with its underscore.
pub const SERVICE: &str = "_memcached";
/// The protocol of RFC 2782, with its underscore.
pub const PROTOCOL: &str = "_tcp";

/// A name below the zone's own.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum OwnerName {
    /// `_memcached._tcp.<appid>`
    AppService(AppId),
    /// `_memcached._tcp.<shard>.<appid>`
    ShardService(AppId, ShardName),
    /// `<site>.<shard>.<appid>`
    Replica(AppId, ShardName, Site),
    /// `<appid>`
    App(AppId),
    /// `_tcp.<appid>`: it exists because a name below it does, and holds nothing (RFC 8020).
    AppProtocol(AppId),
    /// `<shard>.<appid>`, for the same reason.
    Shard(AppId, ShardName),
    /// `_tcp.<shard>.<appid>`, for the same reason.
    ShardProtocol(AppId, ShardName),
}

impl OwnerName {
    /// Reads the labels below the zone, the leftmost first, in any case. `None`: no name of this form can exist.
    #[must_use]
    pub fn parse(labels: &[&str]) -> Option<Self> {
        let (&appid, below) = labels.split_last()?;
        let appid = appid.parse().ok()?;
        match *below {
            [] => Some(Self::App(appid)),
            [last] if is(last, PROTOCOL) => Some(Self::AppProtocol(appid)),
            [last] => Some(Self::Shard(appid, last.parse().ok()?)),
            [service, last] if is(last, PROTOCOL) => is(service, SERVICE).then_some(Self::AppService(appid)),
            [first, shard] => {
                let shard = shard.parse().ok()?;
                if is(first, PROTOCOL) {
                    return Some(Self::ShardProtocol(appid, shard));
                }
                Some(Self::Replica(appid, shard, first.parse().ok()?))
            }
            [service, protocol, shard] if is(service, SERVICE) && is(protocol, PROTOCOL) => {
                Some(Self::ShardService(appid, shard.parse().ok()?))
            }
            _ => None,
        }
    }

    /// Whose name it is.
    #[must_use]
    pub fn appid(&self) -> AppId {
        match *self {
            Self::AppService(appid)
            | Self::ShardService(appid, _)
            | Self::Replica(appid, ..)
            | Self::App(appid)
            | Self::AppProtocol(appid)
            | Self::Shard(appid, _)
            | Self::ShardProtocol(appid, _) => appid,
        }
    }
}

fn is(label: &str, name: &str) -> bool {
    label.eq_ignore_ascii_case(name)
}

impl fmt::Display for OwnerName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AppService(appid) => write!(out, "{SERVICE}.{PROTOCOL}.{appid}"),
            Self::ShardService(appid, shard) => write!(out, "{SERVICE}.{PROTOCOL}.{shard}.{appid}"),
            Self::Replica(appid, shard, site) => write!(out, "{site}.{shard}.{appid}"),
            Self::App(appid) => write!(out, "{appid}"),
            Self::AppProtocol(appid) => write!(out, "{PROTOCOL}.{appid}"),
            Self::Shard(appid, shard) => write!(out, "{shard}.{appid}"),
            Self::ShardProtocol(appid, shard) => write!(out, "{PROTOCOL}.{shard}.{appid}"),
        }
    }
}
