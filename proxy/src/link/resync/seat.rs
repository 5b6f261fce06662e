//! How many connections one peer may ask on at a time.
//!
//! One makes the two equal, one fills misses, and one of each may not have noticed yet that it is dead. Whatever is
//! beyond that is told to come again: each may hold a slice in memory, and for minutes.

use std::sync::Arc;

use super::super::state::Links;
use crate::replication::PeerId;

/// The right to ask on one connection.
#[derive(Debug)]
pub(in crate::link) struct Seat {
    links: Arc<Links>,
    peer: PeerId,
}

impl Seat {
    /// None: the peer has as many as it may have.
    pub(in crate::link) fn take(links: &Arc<Links>, peer: PeerId) -> Option<Self> {
        let mut taken = false;
        links.change(peer.0, |link| {
            taken = link.resync.asking < ASKING_MAX;
            match taken {
                true => link.resync.asking += 1,
                false => link.resync.turned_away += 1,
            }
        });
        taken.then(|| Self { links: Arc::clone(links), peer })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.links.change(self.peer.0, |link| link.resync.asking -= 1);
    }
}

/// Resync connections of one peer.
pub(in crate::link) const ASKING_MAX: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_so_many_seats_and_no_more() {
        let links = Arc::new(Links::new(1));
        links.join(PeerId(0), "one", None);
        links.join(PeerId(1), "other", None);
        let mut seats: Vec<_> = (0..ASKING_MAX).filter_map(|_| Seat::take(&links, PeerId(0))).collect();
        assert_eq!(seats.len() as u64, ASKING_MAX);
        assert!(Seat::take(&links, PeerId(0)).is_none());
        assert!(Seat::take(&links, PeerId(1)).is_some(), "another one's are its own");
        seats.pop();
        assert!(Seat::take(&links, PeerId(0)).is_some());
        let shown = links.peers().swap_remove(0).resync;
        assert_eq!((shown.asking, shown.turned_away), (ASKING_MAX - 1, 1));
    }
}
