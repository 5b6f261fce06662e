//! Who was heard of lately (pure): the last heartbeat of each replica, and what follows from it. A value; a clone costs nothing.
//!
//! A lease is not a record: it changes every few seconds, is nobody's decision, and is worth nothing when it is old. What was heard
//! by another process on the same database comes in by the same door.

use jiff::{SignedDuration, Timestamp};
use memcloud_protocol::registration::Heartbeat;
use memcloud_protocol::topology::{ReplicaState, Site};
use rpds::HashTrieMapSync;

use crate::registry::number::ReplicaId;

/// What was heard, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct Heard {
    pub at: Timestamp,
    pub heartbeat: Heartbeat,
}

/// The last word of each replica.
#[derive(Clone, Debug)]
pub struct Leases {
    length: SignedDuration,
    /// Before that nobody could be heard: a control process that was away does not take all replicas for dead.
    since: Timestamp,
    heard: HashTrieMapSync<ReplicaId, Heard>,
}

impl Leases {
    #[must_use]
    pub fn new(length: SignedDuration, since: Timestamp) -> Self {
        Self { length, since, heard: HashTrieMapSync::default() }
    }

    /// How long a heartbeat is good for.
    #[must_use]
    pub fn length(&self) -> SignedDuration {
        self.length
    }

    /// The last heartbeat, however old.
    #[must_use]
    pub fn heard(&self, id: ReplicaId) -> Option<&Heard> {
        self.heard.get(&id)
    }

    /// Takes a heartbeat. One that was overtaken by a later one changes nothing.
    pub fn hear(&mut self, id: ReplicaId, heard: Heard) {
        if self.heard.get(&id).is_none_or(|known| known.at <= heard.at) {
            self.heard.insert_mut(id, heard);
        }
    }

    /// Forgets a replica that is none any more.
    pub fn forget(&mut self, id: ReplicaId) {
        self.heard.remove_mut(&id);
    }

    /// Whether its lease lasts. Who was heard before this process began has a whole lease from then on; who said that it
    /// stops has none.
    #[must_use]
    pub fn is_alive(&self, id: ReplicaId, now: Timestamp) -> bool {
        let Some(heard) = self.heard.get(&id) else { return false };
        !heard.heartbeat.stopping && now.duration_since(heard.at.max(self.since)) < self.length
    }

    /// When its lease ends, if nothing more is heard.
    #[must_use]
    pub fn end(&self, id: ReplicaId) -> Option<Timestamp> {
        let heard = self.heard.get(&id)?;
        heard.at.max(self.since).checked_add(self.length).ok()
    }

    /// What clients are told of it.
    #[must_use]
    pub fn state(&self, id: ReplicaId, now: Timestamp) -> ReplicaState {
        match self.heard.get(&id) {
            Some(heard) if self.is_alive(id, now) => {
                match (&heard.heartbeat.upstream_up, &heard.heartbeat.ready) {
                    (false, _) => ReplicaState::Down,
                    (true, false) => ReplicaState::Warming,
                    (true, true) => ReplicaState::Up,
                }
            }
            _ => ReplicaState::Down,
        }
    }

    /// Whether it has its copy, and those of its peers that are well have what it has. Nobody waits for one that is dead.
    #[must_use]
    pub fn is_whole<'a>(
        &self,
        id: ReplicaId,
        peers: impl IntoIterator<Item = (ReplicaId, &'a Site)>,
        now: Timestamp,
    ) -> bool {
        let Some(heard) = self.heard.get(&id) else { return false };
        let mut well = peers.into_iter().filter(|&(peer, _)| self.state(peer, now) != ReplicaState::Down);
        self.state(id, now) == ReplicaState::Up
            && well.all(|(_, site)| heard.heartbeat.whole_with.contains(site))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ReplicaId = ReplicaId(1);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn heard(second: i64, ready: bool, upstream_up: bool) -> Heard {
        Heard {
            at: at(second),
            heartbeat: Heartbeat { ready, upstream_up, in_sync: ready, ..Heartbeat::default() },
        }
    }

    #[test]
    fn a_lease_ends_to_the_second() {
        let mut leases = Leases::new(SignedDuration::from_secs(15), at(0));
        assert_eq!(leases.state(ONE, at(0)), ReplicaState::Down);
        leases.hear(ONE, heard(100, true, true));
        assert_eq!(leases.state(ONE, at(114)), ReplicaState::Up);
        assert_eq!(leases.state(ONE, at(115)), ReplicaState::Down);
        // One that comes late and is old does not shorten it.
        leases.hear(ONE, heard(120, true, true));
        leases.hear(ONE, heard(101, false, false));
        assert_eq!(leases.state(ONE, at(130)), ReplicaState::Up);
    }

    #[test]
    fn what_it_says_of_itself_counts() {
        let mut leases = Leases::new(SignedDuration::from_secs(15), at(0));
        leases.hear(ONE, heard(1, false, true));
        assert_eq!(
            (leases.state(ONE, at(2)), leases.is_whole(ONE, [], at(2))),
            (ReplicaState::Warming, false)
        );
        leases.hear(ONE, heard(2, true, false));
        assert_eq!(leases.state(ONE, at(2)), ReplicaState::Down);
        leases.hear(ONE, heard(3, true, true));
        assert!(leases.is_whole(ONE, [], at(3)));
        leases.hear(
            ONE,
            Heard { heartbeat: Heartbeat { stopping: true, ..heard(4, true, true).heartbeat }, at: at(4) },
        );
        assert_eq!((leases.is_alive(ONE, at(4)), leases.state(ONE, at(4))), (false, ReplicaState::Down));
        leases.hear(ONE, heard(5, true, true));
        assert!(leases.is_alive(ONE, at(5)), "it has started again");
    }

    #[test]
    fn a_newcomer_is_whole_with_those_who_are_well() {
        const TWO: ReplicaId = ReplicaId(2);
        const DEAD: ReplicaId = ReplicaId(3);
        let (b, c): (Site, Site) = ("b".parse().unwrap(), "c".parse().unwrap());
        let mut leases = Leases::new(SignedDuration::from_secs(15), at(0));
        let peers = || [(TWO, &b), (DEAD, &c)];
        leases.hear(TWO, heard(1, true, true));
        leases.hear(ONE, heard(1, true, true));
        assert!(!leases.is_whole(ONE, peers(), at(2)), "it has nothing of b yet");
        let mut told = heard(2, true, true);
        told.heartbeat.whole_with = vec![b.clone()];
        leases.hear(ONE, told);
        assert!(leases.is_whole(ONE, peers(), at(2)), "nobody waits for c");
        leases.hear(DEAD, heard(2, true, true));
        assert!(!leases.is_whole(ONE, peers(), at(2)), "c has come back");
    }

    #[test]
    fn control_that_was_away_takes_nobody_for_dead() {
        let mut leases = Leases::new(SignedDuration::from_secs(15), at(1_000));
        leases.hear(ONE, heard(100, true, true));
        assert!(leases.is_alive(ONE, at(1_014)));
        assert!(!leases.is_alive(ONE, at(1_015)));
    }
}
