//! Whether versions are the CAS of items: what our memcached and those of the peers can do, agreed upon, and the answer
//! where the data path reads it without a lock.

use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use super::Shared;
use crate::replication::versioned::Agreement;
use crate::replication::{PeerId, Unversioned};

impl Shared {
    /// Whether versions are the CAS of items: what goes to memcached says its version.
    pub fn is_versioned(&self) -> bool {
        self.versioned.load(Ordering::Relaxed)
    }

    /// Why not, if so.
    pub fn unversioned(&self) -> Option<Unversioned> {
        self.agreement().verdict().err()
    }

    /// Whether our memcached can be told the CAS of an item, if that is known.
    pub fn takes_versions(&self) -> Option<bool> {
        self.agreement().takes_here()
    }

    /// What our memcached can do; None while it is away.
    pub fn note_own_memcached(&self, takes_versions: Option<bool>) {
        self.agree(|agreement| agreement.here(takes_versions));
    }

    /// What a peer says of its own.
    pub fn note_memcached_of(&self, peer: PeerId, takes_versions: bool) {
        self.agree(|agreement| agreement.peer(peer, takes_versions));
    }

    pub(super) fn agree(&self, change: impl FnOnce(&mut Agreement)) {
        let mut agreement = self.agreement();
        change(&mut agreement);
        self.versioned.store(agreement.verdict().is_ok(), Ordering::Relaxed);
    }

    fn agreement(&self) -> MutexGuard<'_, Agreement> {
        self.agreement.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
