//! Who the peers are to be: said by whoever knows (a file that is read again, control), carried out by the links.
//!
//! ```text
//!   file, control ── set ──► PeerSet ──► links: plan ──► part, move, join
//! ```
//!
//! A peer is known by its site; its address may change. One whose site nobody has told is known by its address until
//! somebody answers there. [`Vitals`] is the other direction: what control is told of this site.
//!
//! Promises that a set that cannot be is refused as a whole, and that [`plan()`] leaves alone who stays. Refuses to know
//! what a peer is owed.

mod plan;

use std::future::Future;
use std::pin::Pin;

use tokio::sync::watch;

pub use plan::{Known, Plan, plan};

use crate::config::Address;

/// One to be linked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name; none: whoever answers at the address.
    pub site: Option<String>,
    /// Its `--peer-listen`, as `host:port`.
    pub address: String,
}

/// Why a set of peers cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// There are places for so many only.
    #[error("{0} peers are named; {PEERS_MAX} is the most")]
    TooMany(usize),
    /// A site or an address stands there twice.
    #[error("{0} is named twice; name each peer once")]
    Twice(String),
    /// Nobody is a peer of itself.
    #[error("{0} is this site itself")]
    Ourselves(String),
    /// It is no address of a peer.
    #[error("{0} is no address of a peer; a peer is host:port")]
    Address(String),
    /// The links have ended, or there is no `--peer-listen`.
    #[error("this proxy has no links: it was started without --peer-listen and --peer")]
    NoLinks,
}

/// The set of peers that is wanted. Cheap to call from any task; the links follow by themselves.
#[derive(Debug)]
pub struct PeerSet {
    site: String,
    wanted: watch::Sender<Wanted>,
}

/// What is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// These peers and no others.
    pub peers: Vec<Peer>,
    /// What our memcached holds is none of their shard's.
    pub afresh: bool,
}

impl PeerSet {
    /// A set that begins like this, for `site`; and the end at which it is followed.
    #[must_use]
    pub fn new(site: &str, peers: Vec<Peer>) -> (Self, watch::Receiver<Wanted>) {
        let (wanted, followed) = watch::channel(Wanted { peers, afresh: false });
        (Self { site: site.to_owned(), wanted }, followed)
    }

    /// From now on these are the peers, and no others. Returns at once; who stays is not disturbed.
    ///
    /// # Errors
    /// The set cannot be. Then the one before stays.
    pub fn set(&self, peers: Vec<Peer>) -> Result<(), SetError> {
        self.want(Wanted { peers, afresh: false })
    }

    /// The same for a site that comes from elsewhere: what its memcached holds is none of this shard's, and is flushed
    /// before the first of the peers comes, who then fill it. Not so if one of them is a peer already.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn set_afresh(&self, peers: Vec<Peer>) -> Result<(), SetError> {
        self.want(Wanted { peers, afresh: true })
    }

    fn want(&self, new: Wanted) -> Result<(), SetError> {
        self.check(&new.peers)?;
        if self.wanted.is_closed() {
            return Err(SetError::NoLinks);
        }
        self.wanted.send_if_modified(|wanted| {
            let changed = wanted.peers != new.peers;
            if changed {
                *wanted = new;
            }
            changed
        });
        Ok(())
    }

    /// What is wanted now.
    #[must_use]
    pub fn wanted(&self) -> Vec<Peer> {
        self.wanted.borrow().peers.clone()
    }

    fn check(&self, peers: &[Peer]) -> Result<(), SetError> {
        if peers.len() > PEERS_MAX {
            return Err(SetError::TooMany(peers.len()));
        }
        for (index, peer) in peers.iter().enumerate() {
            if !matches!(peer.address.parse(), Ok(Address::Tcp(_))) {
                return Err(SetError::Address(peer.address.clone()));
            }
            if peer.site.as_ref() == Some(&self.site) {
                return Err(SetError::Ourselves(self.site.clone()));
            }
            for other in &peers[..index] {
                if other.address == peer.address {
                    return Err(SetError::Twice(peer.address.clone()));
                }
                if let (Some(site), true) = (&peer.site, other.site == peer.site) {
                    return Err(SetError::Twice(site.clone()));
                }
            }
        }
        Ok(())
    }
}

/// What clients are concerned with, at a glance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Glance {
    /// As `/ready`.
    pub ready: bool,
    /// memcached answers.
    pub upstream_up: bool,
    /// The sites with which nothing is missing on either side, but for what is on its way; sorted.
    pub whole_with: Vec<String>,
}

/// How this site is: what a heartbeat says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vitals {
    /// What clients are concerned with.
    pub glance: Glance,
    /// As in `/status`.
    pub in_sync: bool,
    /// memcached started empty and is being filled from a peer.
    pub warming: bool,
    /// The sites to which mutations flow.
    pub streaming: Vec<String>,
    /// The age of the oldest mutation that some peer has not confirmed.
    pub lag_ms: u64,
    /// Mutations that wait for peers, of all of them together.
    pub backlog_entries: u64,
    /// What those keep in memory.
    pub backlog_bytes: u64,
    /// Mutations that some peer missed and no resync has made good yet.
    pub lost_unrepaired: u64,
    /// Apps connected.
    pub sessions: u64,
    /// What memcached says of itself; none while it does not answer.
    pub memcached: Option<Memcached>,
}

/// memcached's own figures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memcached {
    /// Its version.
    pub version: String,
    /// Items it holds.
    pub items: u64,
    /// Bytes these take.
    pub bytes: u64,
    /// Bytes they may take: `-m`.
    pub bytes_max: u64,
}

/// Who can tell the vitals.
pub trait Vital: Send + Sync {
    /// Tells what is known already.
    fn glance(&self) -> Glance;

    /// Asks memcached, and tells. Takes as long as memcached takes, at most `--upstream-timeout`.
    fn vitals(&self) -> Pin<Box<dyn Future<Output = Vitals> + Send + '_>>;
}

/// As many as a replica has places for.
pub const PEERS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(site: &str, address: &str) -> Peer {
        Peer { site: (!site.is_empty()).then(|| site.to_owned()), address: address.to_owned() }
    }

    #[test]
    fn a_set_that_cannot_be_is_refused_and_the_old_one_stays() {
        let (set, _followed) = PeerSet::new("a", vec![peer("b", "h:1")]);
        let refused = |peers| set.set(peers).unwrap_err();
        assert_eq!(refused(vec![peer("a", "h:2")]), SetError::Ourselves("a".into()));
        assert_eq!(refused(vec![peer("c", "h:2"), peer("c", "h:3")]), SetError::Twice("c".into()));
        assert_eq!(refused(vec![peer("c", "h:2"), peer("d", "h:2")]), SetError::Twice("h:2".into()));
        assert_eq!(refused(vec![peer("c", "unix:/x")]), SetError::Address("unix:/x".into()));
        let many = |count: usize| (0..count).map(|n| peer("", &format!("h{n}:1"))).collect();
        assert_eq!(refused(many(PEERS_MAX + 1)), SetError::TooMany(PEERS_MAX + 1));
        assert_eq!(set.wanted(), [peer("b", "h:1")]);
        assert_eq!(set.set(many(PEERS_MAX)), Ok(()));
    }

    #[test]
    fn who_has_no_links_cannot_have_peers() {
        let (set, followed) = PeerSet::new("a", Vec::new());
        drop(followed);
        assert_eq!(set.set(vec![peer("b", "h:1")]), Err(SetError::NoLinks));
    }

    #[test]
    fn the_same_set_again_is_no_change() {
        let (set, mut followed) = PeerSet::new("a", vec![peer("b", "h:1")]);
        followed.mark_unchanged();
        set.set(vec![peer("b", "h:1")]).unwrap();
        assert!(!followed.has_changed().unwrap());
        set.set(vec![peer("b", "h:2")]).unwrap();
        assert!(followed.has_changed().unwrap());
    }
}
