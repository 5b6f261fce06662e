use std::collections::HashMap;

use proptest::prelude::*;

use crate::replication::{Bounds, Effect, Offer, Origin, Owed, PeerId, Replica, Slot, Version};

const NOW_MS: u64 = 1_000_000;
const NEAR: PeerId = PeerId(0);
const FAR: PeerId = PeerId(1);

fn write(replica: &mut Replica<()>, key: &str) -> Version {
    let slot = replica.begin(key.as_bytes(), 1, || ()).expect("nobody holds the gate");
    replica.complete(slot, Effect::Removed, NOW_MS, &mut Vec::new());
    replica.latest()
}

fn flush(replica: &mut Replica<()>) -> Version {
    assert!(replica.begin_flush(|| ()));
    replica.complete_flush(true, NOW_MS, &mut Vec::new());
    replica.latest()
}

fn take(replica: &mut Replica<()>, peer: PeerId) -> Vec<Owed> {
    let mut owed = Vec::new();
    replica.take(peer, 100, NOW_MS, &mut owed);
    owed
}

/// Whether `version` has reached every peer.
fn has(replica: &Replica<()>, version: Version) -> bool {
    replica.settled().all.is_some_and(|all| version <= all && version > replica.settled().missed)
}

fn connected(peers: usize) -> Replica<()> {
    let mut replica = Replica::new("a", peers, Bounds::default());
    (0..peers).for_each(|peer| replica.connected(PeerId(peer)));
    replica
}

#[test]
fn a_key_that_is_written_again_while_it_waits_is_settled_with_its_newest_version() {
    let mut a = connected(1);
    let first = write(&mut a, "k");
    let other = write(&mut a, "l");
    let second = write(&mut a, "k");
    assert_eq!(take(&mut a, NEAR).len(), 2);
    assert!(!has(&a, first));
    assert!(a.acknowledge(NEAR, 1, 0, NOW_MS));
    assert!(has(&a, first) && !has(&a, other) && !has(&a, second), "one version speaks for all keys");
    assert!(a.acknowledge(NEAR, 2, 0, NOW_MS));
    assert!(has(&a, second));
}

#[test]
fn a_key_written_again_on_its_way_is_as_old_as_what_was_lost_with_the_link() {
    let mut a = connected(1);
    let first = write(&mut a, "k");
    write(&mut a, "l");
    take(&mut a, NEAR);
    write(&mut a, "k");
    take(&mut a, NEAR);
    write(&mut a, "l");
    a.disconnected(NEAR);
    a.check_invariants();
    a.connected(NEAR);
    // Both keys are sent once, in their old order, and the first is not settled by the second.
    let again = take(&mut a, NEAR);
    let keys: Vec<&[u8]> = again
        .iter()
        .map(|owed| match owed {
            Owed::Key { key, .. } => &**key,
            Owed::Flush { .. } => b"",
        })
        .collect();
    assert_eq!(keys, [b"k", b"l"]);
    assert_eq!(a.peers[0].unsettled(), Some(first));
    assert!(a.acknowledge(NEAR, 2, 0, NOW_MS));
    assert!(has(&a, a.latest()));
    a.check_invariants();
}

#[test]
fn what_a_flush_took_out_of_the_queue_waits_for_the_flush() {
    let mut a = connected(1);
    let sent = write(&mut a, "k");
    take(&mut a, NEAR);
    let queued = write(&mut a, "l");
    let flushed = flush(&mut a);
    assert!(!has(&a, sent) && !has(&a, queued));
    assert!(a.acknowledge(NEAR, 1, 0, NOW_MS));
    assert!(has(&a, sent) && !has(&a, queued));
    // On a broken link all of it is lost, and the flush says it again.
    take(&mut a, NEAR);
    a.disconnected(NEAR);
    a.connected(NEAR);
    assert_eq!(take(&mut a, NEAR).len(), 1);
    assert!(!has(&a, queued));
    assert!(a.acknowledge(NEAR, 1, 0, NOW_MS));
    assert!(has(&a, queued) && has(&a, flushed));
}

#[test]
fn nobody_waits_for_a_peer_that_is_away_or_has_a_backlog_to_catch_up_with() {
    let mut a = connected(2);
    a.disconnected(FAR);
    let version = write(&mut a, "k");
    take(&mut a, NEAR);
    assert!(a.settled().live < version);
    assert!(a.acknowledge(NEAR, 1, 0, NOW_MS));
    assert_eq!((a.settled().live, a.settled().all), (version, None));
    a.connected(FAR);
    assert!(!a.is_live(FAR) && a.settled().live >= version);
    take(&mut a, FAR);
    // What comes meanwhile need not be acknowledged for it to be live, but then is waited for.
    let later = write(&mut a, "l");
    assert!(a.acknowledge(FAR, 1, 0, NOW_MS));
    assert!(a.is_live(FAR) && has(&a, version) && !has(&a, later));
}

#[test]
fn a_peer_is_live_only_once_little_is_owed_to_it() {
    let mut a = Replica::<()>::new("a", 1, Bounds { window_entries: 8, ..Bounds::default() });
    write(&mut a, "k");
    a.connected(NEAR);
    take(&mut a, NEAR);
    for key in ["l", "m", "n"] {
        write(&mut a, key);
    }
    assert!(a.acknowledge(NEAR, 1, 0, NOW_MS));
    assert!(!a.is_live(NEAR), "three are more than a fourth of the window");
    take(&mut a, NEAR);
    assert!(a.acknowledge(NEAR, 2, 0, NOW_MS));
    assert!(a.is_live(NEAR));
}

#[test]
fn a_peer_that_let_somebody_wait_is_behind_until_it_has_caught_up() {
    let mut a = connected(2);
    let version = write(&mut a, "k");
    take(&mut a, NEAR);
    take(&mut a, FAR);
    assert!(a.acknowledge(NEAR, 1, 0, NOW_MS));
    let missed_too = write(&mut a, "l");
    a.late(version);
    assert!(a.is_live(NEAR) && !a.is_live(FAR), "only who is late is behind");
    take(&mut a, FAR);
    assert!(a.acknowledge(FAR, 1, 0, NOW_MS));
    assert!(!a.is_live(FAR), "{missed_too:?} was owed as well");
    assert!(a.acknowledge(FAR, 2, 0, NOW_MS));
    assert!(a.is_live(FAR));
}

#[test]
fn what_a_peer_will_never_get_is_not_settled_by_what_comes_later() {
    // Refused because of our clock.
    let mut a = connected(1);
    let refused = write(&mut a, "k");
    take(&mut a, NEAR);
    assert!(a.acknowledge(NEAR, 1, 1, NOW_MS));
    assert!(!has(&a, refused));
    // Not even queued, because its backlog was given up.
    let bounds = Bounds { backlog_bytes: 1000, ..Bounds::default() };
    let mut a = Replica::<()>::new("a", 1, bounds);
    let lost: Vec<_> = ["k", "l", "m", "n"].iter().map(|key| write(&mut a, key)).collect();
    assert!(a.status(NEAR, NOW_MS).gap.is_some());
    a.connected(NEAR);
    assert!(lost.iter().all(|version| !has(&a, *version)));
    let later = write(&mut a, "o");
    take(&mut a, NEAR);
    assert!(a.acknowledge(NEAR, 1, 0, NOW_MS));
    assert!(a.is_live(NEAR) && has(&a, later) && !has(&a, lost[3]));
}

/// What may happen, to one of four keys and one of two peers.
#[derive(Clone, Debug)]
enum Step {
    Write(usize),
    /// A write is promised its version.
    Begin(usize),
    /// One of those is completed.
    Complete(usize),
    Flush,
    Take(usize, usize),
    Acknowledge(usize, usize),
    Cut(usize),
    /// A write of the second peer, newer than all that is known.
    Theirs(usize),
    TheirFlush,
    Late,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..4_usize).prop_map(Step::Write),
        2 => (0..4_usize).prop_map(Step::Begin),
        3 => (0..4_usize).prop_map(Step::Complete),
        1 => Just(Step::Flush),
        4 => (0..2_usize, 1..4_usize).prop_map(|(peer, most)| Step::Take(peer, most)),
        4 => (0..2_usize, 1..4_usize).prop_map(|(peer, most)| Step::Acknowledge(peer, most)),
        2 => (0..2_usize).prop_map(Step::Cut),
        1 => (0..4_usize).prop_map(Step::Theirs),
        1 => Just(Step::TheirFlush),
        1 => Just(Step::Late),
    ]
}

/// A peer that has processed what it acknowledged.
#[derive(Default)]
struct Model {
    on_the_way: Vec<Owed>,
    acked: u64,
    has: HashMap<Vec<u8>, Version>,
    flushed: Version,
}

impl Model {
    fn process(&mut self, most: usize) {
        for owed in self.on_the_way.drain(..most.min(self.on_the_way.len())) {
            self.acked += 1;
            match owed {
                Owed::Key { key, version, .. } => drop(self.has.insert(key.to_vec(), version)),
                Owed::Flush { version, .. } => self.flushed = version,
            }
        }
    }

    fn reached(&self, key: &[u8], version: Version) -> bool {
        self.flushed >= version || self.has.get(key).is_some_and(|has| *has >= version)
    }
}

struct World {
    replica: Replica<()>,
    models: [Model; 2],
    /// Key, version, and the newest version when it was completed.
    ours: Vec<(Vec<u8>, Version, Version)>,
    begun: Vec<(usize, Slot, Version)>,
    /// By key, and for flushes under no key.
    theirs: HashMap<Vec<u8>, Version>,
}

impl World {
    fn new() -> Self {
        let bounds = Bounds { window_entries: 8, backlog_bytes: 4 << 10, ..Bounds::default() };
        let mut replica = Replica::new("a", 2, bounds);
        replica.connected(NEAR);
        replica.connected(FAR);
        Self {
            replica,
            models: Default::default(),
            ours: Vec::new(),
            begun: Vec::new(),
            theirs: HashMap::new(),
        }
    }

    fn their_version(&self) -> Version {
        Version::new(self.replica.latest().time() + 1, Origin::of("b"))
    }

    fn take(&mut self, step: &Step) {
        let key = |number: &usize| format!("key{number}").into_bytes();
        let replica = &mut self.replica;
        match step {
            Step::Write(number) => {
                let version = write(replica, &format!("key{number}"));
                self.ours.push((key(number), version, version));
            }
            Step::Begin(number) => {
                let slot = replica.begin(&key(number), 1, || ()).expect("one lane only");
                self.begun.push((*number, slot, replica.promise(NOW_MS)));
            }
            Step::Complete(which) if *which < self.begun.len() => {
                let (number, slot, version) = self.begun.remove(*which);
                replica.complete_promised(slot, version, Effect::Removed, NOW_MS, &mut Vec::new());
                let (key, latest) = (key(&number), replica.latest());
                // One that was overtaken is stamped afresh.
                self.ours.push((key.clone(), replica.known(&key), latest));
            }
            Step::Complete(_) => {}
            // These want all gates.
            Step::Theirs(_) | Step::TheirFlush | Step::Flush if !self.begun.is_empty() => {}
            Step::Flush => drop(flush(replica)),
            Step::Take(peer, most) => {
                replica.take(PeerId(*peer), *most, NOW_MS, &mut self.models[*peer].on_the_way)
            }
            Step::Acknowledge(peer, most) => {
                self.models[*peer].process(*most);
                let count = self.models[*peer].acked;
                assert!(replica.acknowledge(PeerId(*peer), count, 0, NOW_MS));
            }
            Step::Cut(peer) => {
                replica.disconnected(PeerId(*peer));
                replica.connected(PeerId(*peer));
                self.models[*peer].on_the_way.clear();
                self.models[*peer].acked = 0;
            }
            Step::Theirs(number) => {
                let (key, version) = (key(number), self.their_version());
                let offer = self.replica.offer(FAR, &key, version, 2, NOW_MS, || ());
                let Offer::Apply(slot) = offer else { panic!("{offer:?}") };
                self.replica.applied(slot, FAR, version, &mut Vec::new());
                self.theirs.insert(key, version);
            }
            Step::TheirFlush => {
                let version = self.their_version();
                let offer = self.replica.offer_flush(FAR, version, NOW_MS, || ());
                assert_eq!(offer, Offer::Apply(Slot::FLUSH));
                self.replica.applied_flush(FAR, version, NOW_MS, &mut Vec::new());
                self.theirs.insert(Vec::new(), version);
            }
            Step::Late => {
                let latest = self.replica.latest();
                self.replica.late(latest);
            }
        }
    }

    fn check(&self) {
        self.replica.check_invariants();
        let settled = self.replica.settled();
        for (key, version, completed) in &self.ours {
            let replaced = |key: &[u8]| self.theirs.get(key).is_some_and(|theirs| theirs > version);
            if *completed <= settled.missed || replaced(key) || replaced(b"") {
                continue;
            }
            let live = (0..2).filter(|peer| self.replica.is_live(PeerId(*peer)));
            for peer in live.filter(|_| *completed <= settled.live) {
                assert!(self.models[peer].reached(key, *version), "{version:?} did not reach {peer}");
            }
            assert!(settled.all.is_none_or(|all| all == settled.live));
        }
    }
}

proptest! {
    #[test]
    fn what_is_settled_has_reached_every_live_peer(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
            world.check();
        }
        // And once everything is acknowledged, everything is settled.
        while !world.begun.is_empty() {
            world.take(&Step::Complete(0));
        }
        for peer in 0..2 {
            world.take(&Step::Take(peer, 100));
            world.take(&Step::Acknowledge(peer, 100));
            world.take(&Step::Take(peer, 100));
            world.take(&Step::Acknowledge(peer, 100));
        }
        world.check();
        let settled = world.replica.settled();
        prop_assert_eq!(settled.all, Some(world.replica.latest()));
    }
}
