//! How a run is made.

use crate::client::Habits;
use crate::memcached::Server;

/// How a run is made.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) sites: usize,
    pub(crate) clients: usize,
    pub(crate) habits: Habits,
    /// Between sites: the least delay, and what chance adds.
    pub(crate) delay_ms: (u64, u64),
    /// How far clocks are off at the start, at the most.
    pub(crate) skew_ms: u64,
    pub(crate) backlog_bytes: Option<u64>,
    pub(crate) servers: Servers,
    /// No app speaks binary.
    pub(crate) text_only: bool,
    pub(crate) trace: bool,
}

/// Which memcacheds the sites have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Servers {
    Old,
    /// Versions are told to memcached, as the CAS of items.
    New,
    /// The first site's is new, the others' are old.
    Mixed,
}

impl Servers {
    pub(super) fn of(self, site: usize) -> Server {
        match self {
            Self::New => Server::New,
            Self::Mixed if site == 0 => Server::New,
            Self::Old | Self::Mixed => Server::Old,
        }
    }
}
