//! What keeps the replicas of a shard equal, as a pure state machine: no sockets, no tasks, `now` as an argument.
//!
//! ```text
//!             apps' writes                                    peers' mutations
//!                  │ begin                                         │ offer
//!          ┌───────▼───────────────────────────────────────────────▼───────┐
//!          │                  gate of the key (one lane)                   │
//!          └───────┬───────────────────────────────────────────────┬───────┘
//!                  ▼                                               ▼
//!              memcached ── answers                       newer than the ledger?
//!                  │ complete                                      │ yes: memcached, then `applied`
//!          ┌───────▼───────┐      version                  ┌───────▼───────┐
//!          │ clock: stamp  ├──────────────────────────────►│    ledger     │
//!          └───────┬───────┘                               └───────▲───────┘
//!                  │ owe                                           │ forget
//!          ┌───────▼───────┐  take    ┌────────┐  acknowledge      │
//!          │ queue, a peer ├─────────►│ window ├───────────────────┤
//!          └───────────────┘          └────────┘   marks of peers ─┘
//! ```
//!
//! # What it promises
//!
//! * The order of versions of a key is the order in which memcached applied its writes: the gate.
//! * An older mutation never replaces a newer one; a deleted value does not come back: the ledger, with tombstones.
//! * The ledger holds what is in flight, owed, or not yet stable, and no more: the marks.
//! * What is applied for a peer is never owed to anybody: nothing can loop.
//! * A peer that is away costs memory up to a bound, and then a gap that is shown until it is repaired.
//! * Where it can no longer be known what is newer, the key becomes a miss on every side (`Offer::Drop`).
//!
//! # What it refuses to know
//!
//! Sockets, memcached's dialects, and who a peer is: a peer is an index. Values pass through unread.
//!
//! # What is left for a resync
//!
//! * A gap: a peer whose backlog was given up keeps what it missed. A local flush closes a gap, for nothing older
//!   matters after it.
//! * A proxy that is killed loses what it owed. Its memcached then holds values that nobody else gets; and as its
//!   new ledger is empty, a peer's older mutation that was still on its way may replace them. Peers see the new run
//!   id (`PeerStatus::restarts`).
//! * A mutation that was void here because a third site replaced it is lost with that site, if it dies before it
//!   has sent its own.
//! * A mutation refused because of its clock is not repaired by itself: its origin is told (`PeerStatus::skewed`), and
//!   not in sync until a flush that the peer accepts.

mod clock;
mod company;
pub(crate) mod effect;
mod flush;
mod forget;
mod gate;
mod history;
mod incarnation;
mod listing;
mod local;
mod membership;
mod mutation;
mod peer;
mod promised;
mod remote;
mod replica;
mod room;
mod sending;
mod settled;
mod shared;
mod state;
mod status;
mod table;
#[cfg(test)]
mod tests;
mod version;
mod versioned;
mod wall_clock;
mod warmth;

pub use clock::{Clock, TooFarAhead};
pub use company::Company;
pub use history::{Authority, Loss, Memory};
pub use incarnation::Incarnation;
pub use listing::{Left, Listing};
pub use memcloud_protocol::memcache::expiry::Expiry;
pub use mutation::{Effect, Marks, Owed, Payload};
pub use replica::{Bounds, LaneId, Mark, Offer, PEERS_MAX, PeerId, Replica, Slot};
pub use settled::Settled;
pub use shared::{
    Begin, Board, Guard, Lists, Outcome, Progress, Shared, Shut, Wait, Waiter, Woken, next_lane,
};
pub use state::{Basis, Claim, HOLD_MS};
pub use status::{Counters, Gap, PeerCounters, PeerStatus};
pub use version::{Origin, Version, WireTime};
pub use versioned::Unversioned;
pub use wall_clock::wall_clock_ms;
pub(crate) use wall_clock::wall_clock_us;
