//! Who is who among the peers.
//!
//! A peer is configured as an address and shows itself as a site's name. Only our own dialing ties the two
//! together: whoever answers at `--peer` *is* that peer. An inbound link names its site, and has to be the site of
//! one of the peers, because marks and duplicates are counted by peer.
//!
//! Both sides of a pair start at the same time, so an inbound link may come before our own dialing has heard the
//! peer's name: it waits for a moment. When only one direction of the network works the name never comes; then
//! the link is taken for the one peer that is still nameless. With two or more nameless peers there is no telling
//! which one it is, and it is refused until dialing has named them. A name is taken from a peer only by
//! another one answering at its address.
//!
//! A peer has one *seat* for its inbound link. A new link asks the old one to leave, and waits until the old one's
//! mutations are answered or given up: two links of one peer never apply at the same time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedMutexGuard};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::message::{Hello, LINK_VERSION, Purpose, Refusal};
use super::state::LinkStopped;
use crate::replication::{Origin, PeerId};

/// How long an inbound link waits for our own dialing to hear its site's name.
pub(super) const NAMING_GRACE: Duration = Duration::from_secs(2);

/// What this process says of itself.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) site: String,
    pub(super) run: u64,
    pub(super) shard: Option<String>,
}

impl Identity {
    pub(super) fn hello(&self, purpose: Purpose) -> Hello<'_> {
        let shard = self.shard.as_deref();
        Hello { version: LINK_VERSION, site: &self.site, run: self.run, shard, purpose, clock: None }
    }

    /// Whether a link with whoever says `hello` can be at all.
    pub(super) fn judge(&self, hello: &Hello<'_>) -> Result<(), Refusal> {
        if hello.version < LINK_VERSION {
            return Err(Refusal::Version);
        }
        if hello.site == self.site {
            return Err(Refusal::SameSite);
        }
        if Origin::of(hello.site) == Origin::of(&self.site) {
            return Err(Refusal::OriginClash);
        }
        match (hello.shard, self.shard.as_deref()) {
            (Some(theirs), Some(ours)) if theirs != ours => Err(Refusal::Shard),
            _ => Ok(()),
        }
    }
}

#[derive(Debug)]
pub(super) struct Directory {
    entries: Mutex<Vec<Entry>>,
    named: Notify,
}

#[derive(Debug, Default)]
struct Entry {
    /// Who answered at this peer's address last.
    dialed: Option<String>,
    /// Who was taken for this peer before it had a name.
    assumed: Option<String>,
    /// Ends the inbound link that holds the seat or waits for it.
    leave: CancellationToken,
    seat: Arc<tokio::sync::Mutex<()>>,
}

/// The right to apply a peer's mutations.
#[derive(Debug)]
pub(super) struct Seat {
    /// Cancelled when somebody else wants it.
    pub(super) leave: CancellationToken,
    _held: OwnedMutexGuard<()>,
}

enum Lookup {
    Is(PeerId),
    NotYet,
    Nobody,
}

impl Directory {
    pub(super) fn new(peers: usize) -> Self {
        Self { entries: Mutex::new((0..peers).map(|_| Entry::default()).collect()), named: Notify::new() }
    }

    /// `site` has answered at `peer`'s address.
    pub(super) fn dialed(&self, peer: PeerId, site: &str) -> Result<(), LinkStopped> {
        let mut entries = self.lock();
        let others = entries.iter().enumerate().filter(|(index, _)| *index != peer.0);
        for other in others.filter_map(|(_, entry)| entry.dialed.as_deref()) {
            if other == site {
                return Err(LinkStopped::SameSiteTwice);
            }
            if Origin::of(other) == Origin::of(site) {
                return Err(LinkStopped::Refused(Refusal::OriginClash));
            }
        }
        if let Some(entry) = entries.get_mut(peer.0) {
            let inbound = entry.dialed.as_deref().or(entry.assumed.as_deref());
            if inbound.is_some_and(|inbound| inbound != site) {
                entry.leave.cancel();
            }
            entry.dialed = Some(site.to_owned());
            entry.assumed = None;
        }
        drop(entries);
        self.named.notify_waiters();
        Ok(())
    }

    /// Which peer `site` is.
    pub(super) async fn identify(&self, site: &str, grace: Duration) -> Result<PeerId, Refusal> {
        let deadline = Instant::now() + grace;
        loop {
            let named = self.named.notified();
            tokio::pin!(named);
            named.as_mut().enable();
            match self.look_up(site) {
                Lookup::Is(peer) => return Ok(peer),
                Lookup::Nobody => return Err(Refusal::UnknownPeer),
                Lookup::NotYet => {}
            }
            if timeout_at(deadline, named).await.is_err() {
                return self.assume(site);
            }
        }
    }

    /// The seat of `peer`, as soon as its holder has left.
    pub(super) async fn take_seat(&self, peer: PeerId, patience: Duration) -> Result<Seat, Refusal> {
        let (leave, seat) = {
            let mut entries = self.lock();
            let entry = entries.get_mut(peer.0).ok_or(Refusal::UnknownPeer)?;
            entry.leave.cancel();
            entry.leave = CancellationToken::new();
            (entry.leave.clone(), Arc::clone(&entry.seat))
        };
        tokio::select! {
            biased;
            held = seat.lock_owned() => Ok(Seat { leave, _held: held }),
            () = leave.cancelled() => Err(Refusal::Busy),
            () = tokio::time::sleep(patience) => Err(Refusal::Busy),
        }
    }

    fn look_up(&self, site: &str) -> Lookup {
        let entries = self.lock();
        if let Some(index) = entries.iter().position(|entry| entry.dialed.as_deref() == Some(site)) {
            return Lookup::Is(PeerId(index));
        }
        if entries.iter().all(|entry| entry.dialed.is_some()) { Lookup::Nobody } else { Lookup::NotYet }
    }

    fn assume(&self, site: &str) -> Result<PeerId, Refusal> {
        let mut entries = self.lock();
        let mut nameless = entries.iter_mut().enumerate().filter(|(_, entry)| entry.dialed.is_none());
        match (nameless.next(), nameless.next()) {
            (Some((index, entry)), None) => {
                entry.assumed = Some(site.to_owned());
                Ok(PeerId(index))
            }
            _ => Err(Refusal::UnknownPeer),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn hello<'a>(version: u32, site: &'a str, shard: Option<&'a str>) -> Hello<'a> {
        Hello { version, site, run: 1, shard, purpose: Purpose::Mutations, clock: None }
    }

    #[test]
    fn who_is_refused_at_hello() {
        let we = Identity { site: "a".into(), run: 7, shard: Some("s0".into()) };
        assert_eq!(we.judge(&hello(2, "b", None)), Ok(()));
        assert_eq!(we.judge(&hello(9, "b", Some("s0"))), Ok(()));
        assert_eq!(we.judge(&hello(1, "b", None)), Err(Refusal::Version));
        assert_eq!(we.judge(&hello(2, "a", None)), Err(Refusal::SameSite));
        assert_eq!(we.judge(&hello(2, "b", Some("s1"))), Err(Refusal::Shard));
    }

    #[tokio::test]
    async fn dialing_names_peers_and_an_inbound_link_waits_for_it() {
        let directory = Arc::new(Directory::new(2));
        directory.dialed(PeerId(0), "b").unwrap();
        let waiting = tokio::spawn({
            let directory = Arc::clone(&directory);
            async move { directory.identify("c", Duration::from_secs(60)).await }
        });
        tokio::task::yield_now().await;
        directory.dialed(PeerId(1), "c").unwrap();
        assert_eq!(waiting.await.unwrap(), Ok(PeerId(1)));
        assert_eq!(directory.identify("b", NOW).await, Ok(PeerId(0)));
        assert_eq!(directory.identify("d", NOW).await, Err(Refusal::UnknownPeer));
    }

    #[tokio::test]
    async fn the_last_nameless_peer_is_taken_for_whoever_comes() {
        let directory = Directory::new(2);
        assert_eq!(directory.identify("c", NOW).await, Err(Refusal::UnknownPeer), "two are nameless");
        directory.dialed(PeerId(0), "b").unwrap();
        assert_eq!(directory.identify("c", NOW).await, Ok(PeerId(1)));
        let seat = directory.take_seat(PeerId(1), NOW).await.unwrap();
        directory.dialed(PeerId(1), "c").unwrap();
        assert!(!seat.leave.is_cancelled(), "the guess was right");
        directory.dialed(PeerId(1), "d").unwrap();
        assert!(seat.leave.is_cancelled(), "another site answers there now");
        assert_eq!(directory.identify("c", NOW).await, Err(Refusal::UnknownPeer));
    }

    #[test]
    fn one_site_at_two_addresses_is_a_fault() {
        let directory = Directory::new(2);
        directory.dialed(PeerId(0), "b").unwrap();
        assert_eq!(directory.dialed(PeerId(1), "b"), Err(LinkStopped::SameSiteTwice));
        assert_eq!(directory.dialed(PeerId(0), "b"), Ok(()));
    }

    #[tokio::test]
    async fn a_new_link_waits_until_the_old_one_has_left() {
        let directory = Directory::new(1);
        let old = directory.take_seat(PeerId(0), NOW).await.unwrap();
        assert_eq!(directory.take_seat(PeerId(0), NOW).await.err(), Some(Refusal::Busy));
        assert!(old.leave.is_cancelled());
        drop(old);
        assert!(directory.take_seat(PeerId(0), NOW).await.is_ok());
    }
}
