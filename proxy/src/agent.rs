//! Who speaks with control: registers this replica, says how it is, and has the links follow what control answers.
//!
//! ```text
//!             vitals                    Say                      HTTP
//!   Source ───────────► Machine (pure) ─────► Client ───────────────────► control
//!                          │    ▲ answers        │ POST /v1/replicas, …/heartbeat
//!   PeerSet ◄── Peers ─────┘    └────────────────┘
//!                               ▲ assignments: a long poll of its own (`watcher`)
//! ```
//!
//! Promises that nothing it does or fails to do touches an app: while control is away, refuses or makes no sense, the peers
//! stay as they are. Only an answer of control changes them. The token is read from its file at each request and is in no log.
//! Refuses to know what peers are owed, and who decides in control.

mod client;
mod machine;
mod memory;
mod shown;
mod told;
mod watcher;
mod work;

use std::sync::Arc;

use memcloud_protocol::registration::Place;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use memory::Memory;
pub use shown::{Outcome, Request, Shown};
pub use told::Addresses;

use crate::config::Control;
use crate::peers::{PeerSet, Vital};
use work::Work;

/// What it is made of.
pub struct Agent {
    /// Where control is, and what is asked of it.
    pub control: Control,
    /// This replica's name.
    pub site: String,
    /// Where it listens.
    pub addresses: Addresses,
    /// Where the last place is kept, if anywhere.
    pub memory: Option<Memory>,
    /// That place: the peers of it are there already.
    pub recalled: Option<Place>,
    /// Who follows.
    pub peers: Arc<PeerSet>,
    /// Who knows how the replica is.
    pub vital: Arc<dyn Vital>,
    /// What `/status` and metrics show.
    pub shown: watch::Sender<Shown>,
    /// The wall clock, in milliseconds since 1970.
    pub clock: fn() -> u64,
}

impl Agent {
    /// Speaks with control until `stop`; then takes its leave.
    pub async fn run(self, stop: CancellationToken) {
        let mut work = Work::new(self);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = work.turn() => {}
            }
        }
        work.leave().await;
    }
}
