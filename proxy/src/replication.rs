//! What keeps replicas equal, as a pure state machine.

mod clock;
mod mutation;
mod replica;
mod shared;
mod status;
mod version;

pub use clock::{Clock, TooFarAhead};
pub use mutation::{Effect, Expiry, Marks, Owed, Payload};
pub use replica::{Bounds, LaneId, Mark, Offer, PeerId, Replica, Slot};
pub use shared::{Begin, Outcome, Shared, Wait, Waiter, Woken, next_lane, wall_clock_ms};
pub use status::{Counters, Gap, PeerCounters, PeerStatus};
pub use version::{Origin, Version, WireTime};
