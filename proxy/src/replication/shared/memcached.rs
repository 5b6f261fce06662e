//! The memcached of this site, as those see it who connect to it: which life of it this is, and what must not be done
//! to it any more.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::Shared;
use crate::replication::Incarnation;

impl Shared {
    /// Somebody has a new connection to memcached and asked who it is, before using it. True: it is another one than
    /// before, and was empty when it began. `writes`: [`writes`](Self::writes) before it was asked.
    pub fn memcached_seen(&self, seen: Incarnation, writes: u64) -> bool {
        let mut known = self.memcached.lock().unwrap_or_else(PoisonError::into_inner);
        let restarted = match &*known {
            Some(known) if known.is(&seen) => return false,
            Some(_) => true,
            None => false,
        };
        *known = Some(seen);
        // Still under the first lock: nobody may read from the new one as if it were the old one.
        let mut replica = self.lock();
        if restarted {
            replica.memcached_restarted()
        } else {
            // By now it may hold what was written meanwhile.
            replica.memcached_found(seen.items == 0 || self.memcached_was_away.load(Ordering::Relaxed))
        }
        // Connections of apps do not ask: what they wrote to it counts.
        if seen.items > 0 || replica.writes() != writes {
            replica.memcached_is_touched();
        }
        drop(replica);
        if restarted {
            // What is gone with it may be owed to more peers than before.
            self.poke_all();
        }
        self.resync.notify_one();
        restarted
    }

    /// Nobody listens at memcached's address.
    pub fn memcached_is_away(&self) {
        self.memcached_was_away.store(true, Ordering::Relaxed);
    }

    /// The memcached that was seen last.
    pub fn memcached_life(&self) -> Option<Incarnation> {
        *self.memcached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stale marks (`md … I`) are in use: from now on nobody may read an item with `mg` on the quiet, because
    /// that takes the one right to recache it.
    pub fn note_stale_marks(&self) {
        self.stale_marks.store(true, Ordering::Relaxed);
    }

    /// Whether stale marks were ever seen here.
    pub fn stale_marks_seen(&self) -> bool {
        self.stale_marks.load(Ordering::Relaxed)
    }
}
