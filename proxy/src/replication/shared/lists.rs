//! Keys that memory has no room for, on their way to lists on disk. Which keys these are the replica decides; whose lists
//! they are, and where, is not known here.

use std::fmt;
use std::sync::Arc;

use super::{Shared, Waiter};
use crate::replication::{Left, Listing, PeerId, Replica};

/// Where keys go that memory has no room for.
pub trait Lists: fmt::Debug + Send + Sync {
    /// Does to the lists what happened. Called under the replica's lock, so it waits for nothing. Answers with those
    /// of the peers concerned whose lists are not complete.
    fn tell(&self, told: Vec<Listing>) -> Vec<PeerId>;

    /// How many keys are on a peer's list; None: it is not complete.
    fn keys(&self, peer: PeerId) -> Option<u64>;
}

impl Shared {
    /// From now on what is given up for a peer goes to `lists`, where a run that ended at `since_ms` has `left`
    /// something.
    pub fn keep_lists(&self, lists: Arc<dyn Lists>, left: &[Left], since_ms: u64) {
        if self.lists.set(lists).is_ok() {
            self.lock().keep_lists(left, since_ms);
        }
    }

    /// The proxy stops: lists what peers do not have, and tells of each whether its list says it all.
    pub fn list_rest(&self, mut listed: impl FnMut(PeerId, bool)) {
        let mut replica = self.lock();
        for peer in replica.peer_ids().collect::<Vec<_>>() {
            let all = replica.list_rest(peer);
            self.tell_lists(&mut replica);
            listed(peer, all);
        }
    }

    /// A list that was lost by itself, on its disk, makes a loss of what was given up.
    pub fn check_lists(&self) {
        let Some(lists) = self.lists.get() else { return };
        let mut replica = self.lock();
        for peer in replica.peer_ids().filter(|peer| lists.keys(*peer).is_none()).collect::<Vec<_>>() {
            replica.unlist(peer);
        }
    }

    /// The peer has been sent what was on its list. False: there is more, or the list is not complete.
    pub fn list_delivered(&self, peer: PeerId) -> bool {
        let mut replica = self.lock();
        let delivered = self.lists.get().is_none_or(|lists| lists.keys(peer) == Some(0));
        if delivered {
            replica.list_delivered(peer);
        }
        delivered
    }

    /// Under the lock still, so that lists hear of everything in the order in which it happened.
    pub(super) fn tell_lists(&self, replica: &mut Replica<Waiter>) {
        let told = replica.take_listings();
        if let (false, Some(lists)) = (told.is_empty(), self.lists.get()) {
            for incomplete in lists.tell(told) {
                replica.unlist(incomplete);
            }
        }
    }
}
