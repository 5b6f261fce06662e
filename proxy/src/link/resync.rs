//! Making two sites equal again when what is owed does not tell how: after a memcached came back empty, a backlog was
//! given up, or a proxy was killed.
//!
//! ```text
//!   taker: dials, asks, decides                          giver: answers
//!     │ survey ────────────────────────────────────────► │
//!     │ copy:     items of a span of hashes ───────────► │ walks its memcached, reads, sends states
//!     │ compare:  digests of ranges, then lists ───────► │ walks its memcached, digests
//!     │           one key's state, or here is mine ────► │ reads it, or applies it
//!     │ done ──────────────────────────────────────────► │ what was lost before this is made good
//! ```
//!
//! All that travels are *states* (see `replication/state.rs`): a state loses to every newer write and to every
//! deletion, so apps go on writing on all sides meanwhile. Nothing here is needed for convergence of what is owed;
//! it repairs what is not.
//!
//! Who takes: a site whose memcached is empty copies from a peer that is whole. Of two sites that may miss something
//! of each other, the one with the smaller name compares. A site takes one resync at a time.
//!
//! Promises: what is equal stays; where the two differ the newer side wins, if it is known which (of all keys by `Authority`, of one by the CAS of its items), and
//! else the key is dropped on every side; memory is bounded by `SLICE_ITEMS`; a cut costs what was not done yet.
//! It refuses to know how values compare (`inventory`) and which version wins (`replication`).

use std::time::Duration;

mod compare;
mod copy;
mod drop;
mod due;
mod engine;
mod failing;
mod giver;
mod life;
mod listed;
mod newer;
mod progress;
mod same;
mod seat;
mod states;
mod taker;
mod watcher;
mod wire;

pub(super) use engine::run;
pub(super) use giver::serve;
pub use progress::{Progress, ResyncCounters, ResyncKind};
pub(super) use seat::Seat;
pub(super) use states::{Applying, READ_KEYS};
pub(super) use taker::Taker;

/// A taker applies, walks and digests between two requests; one that is dead is noticed by its links.
pub(super) const TAKER_PATIENCE: Duration = Duration::from_secs(600);
/// Items that are listed at a time: some 100 bytes each, on either side.
const SLICE_ITEMS: u64 = 500_000;
