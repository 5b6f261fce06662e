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
//! Peers come and go while the proxy runs ([`members`](super::members)). One that is told with its name is known by
//! that name alone: nobody else is taken for it. Whoever works for a peer holds a [`Member`]; the place of a peer that
//! went is free when the last of these is dropped.
//!
//! A peer has one *seat* for its inbound link. A new link asks the old one to leave, and waits until the old one's
//! mutations are answered or given up: two links of one peer never apply at the same time.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedMutexGuard};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

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
    entries: Mutex<Vec<Option<Entry>>>,
    named: Notify,
}

#[derive(Debug, Default)]
struct Entry {
    address: String,
    /// Its name, if we were told.
    told: Option<String>,
    /// Who answered at this peer's address last.
    dialed: Option<String>,
    /// Who was taken for this peer before it had a name.
    assumed: Option<String>,
    /// Ends the inbound link that holds the seat or waits for it.
    leave: CancellationToken,
    seat: Arc<tokio::sync::Mutex<()>>,
    /// Who works for this peer.
    tasks: TaskTracker,
    /// It is to be dialed at another address.
    moved: CancellationToken,
    /// It is no peer any more.
    gone: CancellationToken,
}

/// A peer, for whoever works for it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) peer: PeerId,
    /// Cancelled when it is no peer any more.
    pub(super) gone: CancellationToken,
    _held: TaskTrackerToken,
}

impl Entry {
    fn member(&self, peer: usize) -> Member {
        Member { peer: PeerId(peer), gone: self.gone.clone(), _held: self.tasks.token() }
    }

    /// What an inbound link of it says.
    fn name(&self) -> Option<&str> {
        self.told.as_deref().or(self.dialed.as_deref())
    }
}

/// The right to apply a peer's mutations.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) peer: PeerId,
    /// Cancelled when somebody else wants it.
    pub(super) leave: CancellationToken,
    _held: OwnedMutexGuard<()>,
}

enum Lookup {
    Is(Member),
    NotYet,
    Nobody,
}

impl Directory {
    pub(super) fn new() -> Self {
        Self { entries: Mutex::default(), named: Notify::new() }
    }

    /// A peer has come, to a place where there is none.
    pub(super) fn join(&self, peer: PeerId, address: &str, told: Option<&str>) -> Member {
        let mut entries = self.lock();
        if entries.len() <= peer.0 {
            entries.resize_with(peer.0 + 1, || None);
        }
        let told = told.map(str::to_owned);
        let entry = entries[peer.0].insert(Entry { address: address.to_owned(), told, ..Entry::default() });
        let member = entry.member(peer.0);
        drop(entries);
        self.named.notify_waiters();
        member
    }

    /// It has another address, or we are told its name.
    pub(super) fn update(&self, peer: PeerId, address: &str, told: Option<&str>) {
        if let Some(Some(entry)) = self.lock().get_mut(peer.0) {
            if entry.address != address {
                entry.address = address.to_owned();
                std::mem::take(&mut entry.moved).cancel();
            }
            entry.told = told.map(str::to_owned).or(entry.told.take());
        }
        self.named.notify_waiters();
    }

    /// It is no peer any more. Who works for it is told, and all are gone when what is returned resolves.
    pub(super) fn part(&self, peer: PeerId) -> impl Future<Output = ()> + use<> {
        let entry = self.lock().get_mut(peer.0).and_then(Option::take);
        if let Some(entry) = &entry {
            entry.gone.cancel();
            entry.leave.cancel();
            entry.tasks.close();
        }
        async move {
            if let Some(entry) = entry {
                entry.tasks.wait().await;
            }
        }
    }

    /// A peer that is there, to work for.
    pub(super) fn member(&self, peer: PeerId) -> Option<Member> {
        self.lock().get(peer.0)?.as_ref().map(|entry| entry.member(peer.0))
    }

    /// Cancelled when a peer is to be dialed elsewhere than now.
    pub(super) fn moved(&self, peer: PeerId) -> CancellationToken {
        let entries = self.lock();
        entries.get(peer.0).and_then(Option::as_ref).map(|entry| entry.moved.clone()).unwrap_or_default()
    }

    /// Where a peer is dialed; nothing if there is none.
    pub(super) fn address(&self, peer: PeerId) -> Option<String> {
        self.lock().get(peer.0)?.as_ref().map(|entry| entry.address.clone())
    }

    /// `site` has answered at `peer`'s address.
    pub(super) fn dialed(&self, peer: PeerId, site: &str) -> Result<(), LinkStopped> {
        let mut entries = self.lock();
        let others = entries.iter().enumerate().filter(|(index, _)| *index != peer.0);
        for other in others.filter_map(|(_, entry)| entry.as_ref()?.name()) {
            if other == site {
                return Err(LinkStopped::SameSiteTwice);
            }
            if Origin::of(other) == Origin::of(site) {
                return Err(LinkStopped::Refused(Refusal::OriginClash));
            }
        }
        if let Some(Some(entry)) = entries.get_mut(peer.0) {
            if entry.told.as_deref().is_some_and(|told| told != site) {
                return Err(LinkStopped::Refused(Refusal::UnknownPeer));
            }
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
    pub(super) async fn identify(&self, site: &str, grace: Duration) -> Result<Member, Refusal> {
        let deadline = Instant::now() + grace;
        loop {
            let named = self.named.notified();
            tokio::pin!(named);
            named.as_mut().enable();
            match self.look_up(site) {
                Lookup::Is(member) => return Ok(member),
                Lookup::Nobody => return Err(Refusal::UnknownPeer),
                Lookup::NotYet => {}
            }
            if timeout_at(deadline, named).await.is_err() {
                return self.assume(site);
            }
        }
    }

    /// The peer that is known to be this site.
    pub(super) fn known(&self, site: &str) -> Option<PeerId> {
        match self.look_up(site) {
            Lookup::Is(member) => Some(member.peer),
            Lookup::Nobody | Lookup::NotYet => None,
        }
    }

    /// The seat of `peer`, as soon as its holder has left.
    pub(super) async fn take_seat(&self, peer: PeerId, patience: Duration) -> Result<Seat, Refusal> {
        let (leave, seat) = {
            let mut entries = self.lock();
            let entry = entries.get_mut(peer.0).and_then(Option::as_mut).ok_or(Refusal::UnknownPeer)?;
            entry.leave.cancel();
            entry.leave = CancellationToken::new();
            (entry.leave.clone(), Arc::clone(&entry.seat))
        };
        tokio::select! {
            biased;
            held = seat.lock_owned() => Ok(Seat { peer, leave, _held: held }),
            () = leave.cancelled() => Err(Refusal::Busy),
            () = tokio::time::sleep(patience) => Err(Refusal::Busy),
        }
    }

    fn look_up(&self, site: &str) -> Lookup {
        let entries = self.lock();
        let mut there =
            entries.iter().enumerate().filter_map(|(index, entry)| Some((index, entry.as_ref()?)));
        if let Some((index, entry)) = there.clone().find(|(_, entry)| entry.name() == Some(site)) {
            return Lookup::Is(entry.member(index));
        }
        if there.all(|(_, entry)| entry.name().is_some()) { Lookup::Nobody } else { Lookup::NotYet }
    }

    fn assume(&self, site: &str) -> Result<Member, Refusal> {
        let mut entries = self.lock();
        let there =
            entries.iter_mut().enumerate().filter_map(|(index, entry)| Some((index, entry.as_mut()?)));
        let mut nameless = there.filter(|(_, entry)| entry.name().is_none());
        match (nameless.next(), nameless.next()) {
            (Some((index, entry)), None) => {
                entry.assumed = Some(site.to_owned());
                Ok(entry.member(index))
            }
            _ => Err(Refusal::UnknownPeer),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn directory(peers: usize) -> Directory {
        let directory = Directory::new();
        for peer in 0..peers {
            drop(directory.join(PeerId(peer), &format!("h:{peer}"), None));
        }
        directory
    }

    fn peer(member: Result<Member, Refusal>) -> Result<PeerId, Refusal> {
        member.map(|member| member.peer)
    }

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
        let directory = Arc::new(directory(2));
        directory.dialed(PeerId(0), "b").unwrap();
        let waiting = tokio::spawn({
            let directory = Arc::clone(&directory);
            async move { peer(directory.identify("c", Duration::from_secs(60)).await) }
        });
        tokio::task::yield_now().await;
        directory.dialed(PeerId(1), "c").unwrap();
        assert_eq!(waiting.await.unwrap(), Ok(PeerId(1)));
        assert_eq!(peer(directory.identify("b", NOW).await), Ok(PeerId(0)));
        assert_eq!(peer(directory.identify("d", NOW).await), Err(Refusal::UnknownPeer));
    }

    #[tokio::test]
    async fn the_last_nameless_peer_is_taken_for_whoever_comes() {
        let directory = directory(2);
        assert_eq!(peer(directory.identify("c", NOW).await), Err(Refusal::UnknownPeer), "two are nameless");
        directory.dialed(PeerId(0), "b").unwrap();
        assert_eq!(peer(directory.identify("c", NOW).await), Ok(PeerId(1)));
        let seat = directory.take_seat(PeerId(1), NOW).await.unwrap();
        directory.dialed(PeerId(1), "c").unwrap();
        assert!(!seat.leave.is_cancelled(), "the guess was right");
        directory.dialed(PeerId(1), "d").unwrap();
        assert!(seat.leave.is_cancelled(), "another site answers there now");
        assert_eq!(peer(directory.identify("c", NOW).await), Err(Refusal::UnknownPeer));
    }

    #[test]
    fn one_site_at_two_addresses_is_a_fault() {
        let directory = directory(2);
        directory.dialed(PeerId(0), "b").unwrap();
        assert_eq!(directory.dialed(PeerId(1), "b"), Err(LinkStopped::SameSiteTwice));
        assert_eq!(directory.dialed(PeerId(0), "b"), Ok(()));
    }

    #[tokio::test]
    async fn a_new_link_waits_until_the_old_one_has_left() {
        let directory = directory(1);
        let old = directory.take_seat(PeerId(0), NOW).await.unwrap();
        assert_eq!(directory.take_seat(PeerId(0), NOW).await.err(), Some(Refusal::Busy));
        assert!(old.leave.is_cancelled());
        drop(old);
        assert!(directory.take_seat(PeerId(0), NOW).await.is_ok());
    }

    #[tokio::test]
    async fn a_peer_with_a_name_is_nobody_else() {
        let directory = directory(0);
        assert_eq!(peer(directory.identify("b", NOW).await), Err(Refusal::UnknownPeer), "there is nobody");
        drop(directory.join(PeerId(0), "h:0", Some("b")));
        assert_eq!(peer(directory.identify("b", NOW).await), Ok(PeerId(0)), "no dialing is waited for");
        assert_eq!(peer(directory.identify("c", NOW).await), Err(Refusal::UnknownPeer));
        let other = LinkStopped::Refused(Refusal::UnknownPeer);
        assert_eq!(directory.dialed(PeerId(0), "c"), Err(other));
        assert_eq!(directory.dialed(PeerId(0), "b"), Ok(()));
    }

    #[tokio::test]
    async fn a_place_is_free_when_nobody_works_for_its_peer() {
        let directory = directory(1);
        let member = directory.member(PeerId(0)).unwrap();
        let mut free = std::pin::pin!(directory.part(PeerId(0)));
        assert!(member.gone.is_cancelled());
        assert!(directory.member(PeerId(0)).is_none() && directory.address(PeerId(0)).is_none());
        let waits = tokio::time::timeout(Duration::from_millis(20), free.as_mut()).await;
        assert!(waits.is_err(), "somebody works for it still");
        drop(member);
        free.await;
    }
}
