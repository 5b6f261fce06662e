//! Versioned mode: the version of a mutation is the CAS of its item, on every site of the shard.
//!
//! memcached 1.6.27 and later let a write say which CAS its item shall have. Where all of a shard do, a CAS read on
//! one site is good on every other one, versions survive a proxy's death, and a listing of keys with their CAS is a
//! listing of versions. One that does not, or two sites that could give one clock reading, and the whole shard
//! goes on without. Nothing has to be agreed on at one moment: a site that is ahead or behind by a second only makes
//! some items whose CAS says nothing (the small number of a server's own counter), and those are compared otherwise.

use std::fmt;

use super::replica::PeerId;
use super::version::Origin;

/// What every site of the shard says of its memcached.
#[derive(Debug)]
pub(super) struct Agreement {
    site: Origin,
    here: Option<bool>,
    peers: Vec<Peer>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Peer {
    site: Option<Origin>,
    /// As it said last; a peer that is away has not changed its mind.
    takes: Option<bool>,
}

/// Why versions are not kept in memcached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unversioned {
    /// Our memcached was not asked yet, or is away.
    Unknown,
    /// Our memcached gives each item a CAS of its own choice, or none.
    Here,
    /// So does this peer's.
    Peer(PeerId),
    /// Two sites have one node number: rename one of them.
    SameNode,
}

impl Agreement {
    pub(super) fn new(site: &str, peers: usize) -> Self {
        Self { site: Origin::of(site), here: None, peers: vec![Peer::default(); peers] }
    }

    /// What our memcached can do; None while it is away.
    pub(super) fn here(&mut self, takes: Option<bool>) {
        self.here = takes;
    }

    pub(super) fn takes_here(&self) -> Option<bool> {
        self.here
    }

    /// Another peer has this place, or nobody.
    pub(super) fn begin(&mut self, peer: PeerId) {
        if self.peers.len() <= peer.0 {
            self.peers.resize(peer.0 + 1, Peer::default());
        }
        self.peers[peer.0] = Peer::default();
    }

    pub(super) fn peer(&mut self, peer: PeerId, takes: bool) {
        if let Some(peer) = self.peers.get_mut(peer.0) {
            peer.takes = Some(takes);
        }
    }

    pub(super) fn met(&mut self, peer: PeerId, site: &str) {
        if let Some(peer) = self.peers.get_mut(peer.0) {
            peer.site = Some(Origin::of(site));
        }
    }

    /// Whether the mode is on; a peer that nobody has heard of yet is no reason against it.
    pub(super) fn verdict(&self) -> Result<(), Unversioned> {
        match self.here {
            None => return Err(Unversioned::Unknown),
            Some(false) => return Err(Unversioned::Here),
            Some(true) => {}
        }
        if let Some(index) = self.peers.iter().position(|peer| peer.takes == Some(false)) {
            return Err(Unversioned::Peer(PeerId(index)));
        }
        let mut nodes: Vec<u16> = self.peers.iter().filter_map(|peer| Some(peer.site?.node())).collect();
        nodes.push(self.site.node());
        nodes.sort_unstable();
        if nodes.is_sorted_by(|one, next| one < next) { Ok(()) } else { Err(Unversioned::SameNode) }
    }
}

impl fmt::Display for Unversioned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "memcached was not asked yet what it can do",
            Self::Here => "this memcached cannot be told the CAS of an item (it takes 1.6.27, without -C)",
            Self::Peer(_) => "a peer's memcached cannot be told the CAS of an item",
            Self::SameNode => "two sites of this shard share a node number: one needs another name",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_cannot_is_enough() {
        let mut shard = Agreement::new("a", 2);
        assert_eq!(shard.verdict(), Err(Unversioned::Unknown));
        shard.here(Some(true));
        assert_eq!(shard.verdict(), Ok(()), "nobody has objected");
        shard.peer(PeerId(1), false);
        assert_eq!(shard.verdict(), Err(Unversioned::Peer(PeerId(1))));
        shard.peer(PeerId(1), true);
        assert_eq!(shard.verdict(), Ok(()));
        shard.here(Some(false));
        assert_eq!(shard.verdict(), Err(Unversioned::Here));
        shard.here(None);
        assert_eq!((shard.verdict(), shard.takes_here()), (Err(Unversioned::Unknown), None));
    }

    #[test]
    fn two_sites_of_one_node_could_give_one_reading() {
        let same =
            (0..).map(|n| format!("s{n}")).find(|name| Origin::of(name).node() == Origin::of("a").node());
        let mut shard = Agreement::new("b", 2);
        shard.here(Some(true));
        shard.met(PeerId(0), "a");
        assert_eq!(shard.verdict(), Ok(()));
        shard.met(PeerId(1), &same.expect("one of a thousand"));
        assert_eq!(shard.verdict(), Err(Unversioned::SameNode));
    }
}
