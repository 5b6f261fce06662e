//! What a memcached holds, without taking it along: a walk lists keys, digests say what is behind them, and two
//! inventories are compared as values.
//!
//! ```text
//!   survey ──► Span::slices ──► walk (one metadump) ──► digests (mg … v u, throttled) ──┬─► fold: ranges
//!      who, how many               keys of a span             a number an item          └─► compare: two lists
//! ```
//!
//! Copies, repairs and audits are made of these. A store of any size is taken in slices of the keys' hashes, each walk
//! bounded by [`WALK_ITEMS_MAX`]; a walk passes the whole store whatever its span, about 0.6 s for a million items, so
//! slices should be few. xxh3 spreads keys evenly, in every process alike.
//!
//! # What reading leaves behind
//!
//! Nothing an app could see, but for memcached's counters:
//!
//! - Values are read by `mg … u`, which bumps nothing in the LRU and leaves the fetched bit alone.
//! - `mg` takes the win of a stale item. It is given back at once by `md … I`, bound to the CAS just seen; for that moment
//!   another asker may hear that somebody recaches already. `me` and `gets` would leave the win alone, but `gets` bumps
//!   every item, and nothing else tells which items are stale.
//! - The few keys that no text can name (over 187 bytes, with a blank or a line end) are read by binary `get`, which bumps,
//!   and tells no expiry: that is the walk's, if the CAS is the same. Else the item is left out.
//!
//! # What it costs the giver
//!
//! A walk runs in a thread of memcached's own, and holds up no app. Values are read in small batches, one answered before
//! the next is asked, at the pace of a [`Throttle`]. Of a value that is read only its digest is kept.
//!
//! It refuses to know who is right, what a peer is, and what time it is: the clock is an argument. Expiries are what this
//! machine's clock makes of the seconds memcached says are left, so that inventories taken by one observer agree even
//! where the clocks of the servers do not.

use std::io;
use std::time::Duration;

use memcloud_protocol::memcache::expiry::Expiry;
use thiserror::Error;

mod compare;
mod digests;
mod span;
mod survey;
mod throttle;
mod walk;

pub use compare::{Differences, EXPIRY_TOLERANCE_S, RangeDigest, compare, fold};
pub use span::{Span, hash};
pub use survey::Survey;
pub use throttle::Throttle;
pub use walk::WALK_ITEMS_MAX;

use crate::config::Address;
use crate::memcached::crawler::CrawlError;

/// One who takes inventory of a memcached.
#[derive(Clone, Debug)]
pub struct Inventory {
    addr: Address,
    /// How long memcached may be silent while it owes an answer.
    patience: Duration,
    /// Seconds since 1970.
    clock: fn() -> u64,
}

/// An item as the walk lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Of the key.
    pub hash: u64,
    /// Its own bytes, whatever dialect named it.
    pub key: Box<[u8]>,
    /// By memcached's clock.
    pub expiry: Expiry,
    /// 0 for a server without.
    pub cas: u64,
    /// Bytes it takes in memory, key and header included.
    pub size: u64,
}

/// An item whose value was read, and is known by its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Of the key.
    pub hash: u64,
    /// Its own bytes.
    pub key: Box<[u8]>,
    /// Of value, flags and whether it is marked stale.
    pub digest: u64,
    /// By this machine's clock.
    pub expiry: Expiry,
    /// As it was read; 0 for a server without, and where a win was given back, which changes it.
    pub cas: u64,
}

/// Why there is no inventory.
#[derive(Debug, Error)]
pub enum InventoryError {
    /// Unreachable, silent, gone in the middle, or out of step.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// memcached does not tell: its list is switched off, or it wants a password.
    #[error("memcached refuses: `{0}`")]
    Refused(String),
    /// Somebody else has memcached list its items, for too long.
    #[error("memcached's crawler is busy for others since {0:?}")]
    Busy(Duration),
    /// The span has to be made smaller.
    #[error("more than {0} items in one span")]
    TooMany(usize),
}

impl Inventory {
    /// Of the memcached at `addr`, or the one behind a proxy there.
    pub fn new(addr: Address, patience: Duration, clock: fn() -> u64) -> Self {
        Self { addr, patience, clock }
    }

    /// Where it is taken.
    pub fn addr(&self) -> &Address {
        &self.addr
    }

    /// How long memcached may be silent.
    pub fn patience(&self) -> Duration {
        self.patience
    }
}

impl From<CrawlError> for InventoryError {
    fn from(error: CrawlError) -> Self {
        match error {
            CrawlError::Refused(why) => Self::Refused(why),
            CrawlError::Busy(since) => Self::Busy(since),
            CrawlError::Io(error) => Self::Io(error),
        }
    }
}
