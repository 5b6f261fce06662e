//! What whoever works with states needs of the ledger and of the links.

use super::Context;
use crate::replication::{PeerId, Shared, wall_clock_ms};

/// The ledger keeps what a state must not beat, for as long as states may come. Given back however the work ends.
pub(super) struct Hold<'a>(&'a Shared);

impl<'a> Hold<'a> {
    pub(super) fn on(shared: &'a Shared) -> Self {
        shared.lock().hold(true);
        Self(shared)
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.lock().hold(false);
    }
}

/// Whether the links with the peer are up, both ways.
pub(super) fn is_linked(context: &Context, peer: PeerId) -> bool {
    let status = context.shared.lock().status(peer, wall_clock_ms());
    status.connected && status.inbound_connected
}
