//! Peers that come and go: what is noted of those that come late, and that nothing is kept for those that went.

use proptest::prelude::*;

use super::super::{Bounds, Effect, Loss, Offer, Origin, Owed, PEERS_MAX, PeerId, Replica, Version};

const NOW_MS: u64 = 1_700_000_000_000;
const B: PeerId = PeerId(0);
const C: PeerId = PeerId(1);

fn alone() -> Replica<()> {
    Replica::new("a", 0, Bounds::default())
}

fn delete(replica: &mut Replica<()>, key: &str) {
    let slot = replica.begin(key.as_bytes(), 1, || ()).expect("nobody holds the gate");
    replica.complete(slot, Effect::Removed, NOW_MS, &mut Vec::new());
}

fn take(replica: &mut Replica<()>, peer: PeerId) -> u64 {
    let mut owed = Vec::new();
    replica.take(peer, usize::MAX, NOW_MS, &mut owed);
    owed.len() as u64
}

/// Links both ways, by a peer that owes nothing.
fn link(replica: &mut Replica<()>, peer: PeerId) {
    replica.connected(peer);
    replica.met(peer, 7);
    replica.heard_memory(peer, super::super::Memory::None);
    replica.inbound_connected(peer, 7);
    replica.heard_loss(peer, Some(Loss::Nothing));
    replica.heard_mark(peer, replica.latest().later_by(1), 0, NOW_MS);
}

fn clear(replica: &mut Replica<()>, peer: PeerId) {
    while !replica.forget_parted(peer, 3) {
        replica.check_invariants();
    }
    replica.check_invariants();
}

#[test]
fn nobody_says_goodbye_while_a_change_is_not_stamped() {
    let mut a: Replica<()> = Replica::new("a", 1, Bounds::default());
    a.memcached_found(true);
    link(&mut a, B);
    assert!(a.may_leave(B));
    a.foresee(1);
    assert!(!a.may_leave(B) && !a.leaves_something(B));
    a.foreseen();
    assert!(a.may_leave(B));
}

#[test]
fn who_is_alone_keeps_no_ledger() {
    let mut a = alone();
    a.memcached_found(true);
    (0..1000).for_each(|n| delete(&mut a, &format!("k{n}")));
    assert_eq!((a.counters().ledger_entries, a.counters().ledger_bytes), (0, 0));
    let _in_flight = a.begin(b"k", 1, || ());
    assert!(a.in_sync() && a.warming().is_none());
    let settled = a.settled();
    assert_eq!(settled.all, Some(settled.live), "nobody is waited for");
    a.check_invariants();
}

#[test]
fn a_peer_that_comes_late_may_miss_what_was_written_before() {
    let mut a = alone();
    a.memcached_found(true);
    delete(&mut a, "k");
    assert!(a.join(B));
    assert_eq!(a.loss(B), Loss::Ours);
    assert_eq!(a.warming(), None, "it holds something itself");
    link(&mut a, B);
    assert!(!a.in_sync());
    let began = a.begin_resync();
    a.resynced(B, began);
    assert!(a.in_sync());
    a.check_invariants();
}

#[test]
fn a_resync_that_began_before_it_came_makes_nothing_good() {
    let mut a = alone();
    a.memcached_found(false);
    delete(&mut a, "k");
    let began = a.begin_resync();
    assert!(a.join(B));
    a.resynced(B, began);
    assert_eq!(a.loss(B), Loss::Ours);
}

#[test]
fn before_the_first_write_it_is_as_at_the_start() {
    let mut a = alone();
    a.memcached_found(true);
    assert!(a.join(B));
    assert_eq!(a.loss(B), Loss::Nothing);
    assert!(a.warming().is_some(), "somebody has come who can fill it");
    let since = a.warming().unwrap();
    assert!(a.warmed(since));
    assert!(a.join(C));
    assert_eq!((a.loss(C), a.warming()), (Loss::Nothing, None));
}

#[test]
fn who_begins_afresh_is_filled_and_has_nothing_to_tell() {
    let mut a = alone();
    a.memcached_found(false);
    delete(&mut a, "k");
    assert!(a.begin_flush(|| ()));
    a.complete_flush(true, NOW_MS, &mut Vec::new());
    a.begin_afresh();
    assert!(a.join(B) && a.join(C));
    link(&mut a, B);
    assert_eq!((a.loss(B), a.loss(C)), (Loss::Nothing, Loss::Nothing));
    assert!(a.warming().is_some());
    a.begin_afresh();
    delete(&mut a, "l");
    a.part(C);
    clear(&mut a, C);
    assert!(a.join(C));
    assert_eq!(a.loss(C), Loss::Ours, "with peers nobody begins afresh");
}

#[test]
fn a_memcached_that_restarted_empty_while_alone_is_filled_by_the_first_who_comes() {
    let mut a = alone();
    a.memcached_found(false);
    delete(&mut a, "k");
    a.memcached_restarted();
    assert_eq!(a.warming(), None, "there is nobody who could");
    assert!(a.join(B));
    assert!(a.warming().is_some());
    a.part(B);
    assert_eq!(a.warming(), None);
}

#[test]
fn what_was_forgotten_before_it_came_is_doubtful_from_it() {
    let mut a = alone();
    delete(&mut a, "k");
    let older = Version::new(a.latest().time() - 1, Origin::of("b"));
    assert!(a.join(B));
    a.inbound_connected(B, 7);
    let offer = a.offer(B, b"k", older, 2, NOW_MS, || ());
    assert!(matches!(offer, Offer::Drop(_)), "{offer:?}: nobody knows any more that ours is newer");
}

#[test]
fn who_went_is_owed_nothing_and_waited_for_by_nobody() {
    let mut a = Replica::new("a", 2, Bounds::default());
    link(&mut a, B);
    link(&mut a, C);
    for peer in [B, C] {
        let began = a.begin_resync();
        a.resynced(peer, began);
    }
    for n in 0..100 {
        delete(&mut a, &format!("k{n}"));
    }
    let named = a.latest();
    assert_eq!(take(&mut a, B), 100);
    assert!(a.acknowledge(B, 100, 0, NOW_MS));
    assert_eq!(take(&mut a, C), 100);
    delete(&mut a, "k1");
    a.heard_mark(B, a.latest().later_by(1), 0, NOW_MS);
    assert!(a.settled().live < named && a.counters().ledger_entries >= 100);
    a.heard_goodbye(C, false);
    assert_eq!(a.part(C), 100);
    a.check_invariants();
    assert!(a.settled().live >= named, "nobody waits for it");
    assert_eq!((a.counters().parted, a.counters().lost), (100, 0));
    delete(&mut a, "k2");
    a.check_invariants();
    clear(&mut a, C);
    assert_eq!(take(&mut a, B), 2);
    assert!(a.acknowledge(B, 102, 0, NOW_MS));
    a.heard_mark(B, a.latest().later_by(1), 0, NOW_MS);
    assert_eq!(a.counters().ledger_entries, 0);
    assert!(a.in_sync());
    assert_eq!(a.peer_ids().collect::<Vec<_>>(), [B]);
}

#[test]
fn who_stays_doubts_the_others_unless_it_has_said_goodbye() {
    for goodbye in [false, true] {
        let mut a = Replica::new("a", 2, Bounds::default());
        a.memcached_found(true);
        link(&mut a, B);
        link(&mut a, C);
        if goodbye {
            a.heard_goodbye(C, false);
        }
        a.part(C);
        assert_eq!(a.loss(B) == Loss::Nothing, goodbye);
    }
}

#[test]
fn one_that_was_never_heard_of_leaves_no_doubt() {
    let mut a = Replica::new("a", 2, Bounds::default());
    a.memcached_found(true);
    link(&mut a, B);
    a.part(C);
    assert_eq!(a.loss(B), Loss::Nothing);
}

#[test]
fn a_place_is_taken_by_one_at_a_time_and_nothing_is_inherited() {
    let mut a = alone();
    assert!(a.join(B));
    assert!(!a.join(B), "it is taken");
    assert!(!a.join(PeerId(64)), "there are 64");
    link(&mut a, B);
    delete(&mut a, "k");
    delete(&mut a, "l");
    let first = a.came(B);
    a.part(B);
    assert_eq!(a.came(B), None);
    assert!(!a.join(B), "what the one before was owed is there still");
    clear(&mut a, B);
    assert!(a.join(B));
    assert!(a.came(B) > first);
    let status = a.status(B, NOW_MS);
    assert_eq!((status.backlog_entries, status.connected, status.inbound_connected), (0, false, false));
    assert_eq!(a.heard(B), Version::ZERO);
}

#[test]
fn a_flush_while_a_place_is_cleared() {
    let mut a = Replica::new("a", 2, Bounds::default());
    link(&mut a, C);
    (0..10).for_each(|n| delete(&mut a, &format!("k{n}")));
    assert_eq!(take(&mut a, C), 10);
    (0..20).for_each(|n| delete(&mut a, &format!("k{n}")));
    a.part(C);
    assert!(!a.forget_parted(C, 3));
    assert!(a.begin_flush(|| ()));
    a.complete_flush(true, NOW_MS, &mut Vec::new());
    clear(&mut a, C);
    let mut owed = Vec::new();
    a.connected(B);
    a.take(B, usize::MAX, NOW_MS, &mut owed);
    assert!(matches!(owed[..], [Owed::Flush { .. }]));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Write(u8),
    Flush,
    Link(usize),
    Unlink(usize),
    Take(usize, usize),
    Acknowledge(usize),
    Mark(usize),
    Join(usize),
    Part(usize),
    Clear(usize, usize),
    Offer(usize, u8),
}

fn any_step() -> impl Strategy<Value = Step> {
    let place = 0..3_usize;
    prop_oneof![
        8 => (0..12_u8).prop_map(Step::Write),
        1 => Just(Step::Flush),
        2 => place.clone().prop_map(Step::Link),
        1 => place.clone().prop_map(Step::Unlink),
        4 => (place.clone(), 1..6_usize).prop_map(|(place, most)| Step::Take(place, most)),
        3 => place.clone().prop_map(Step::Acknowledge),
        3 => place.clone().prop_map(Step::Mark),
        2 => place.clone().prop_map(Step::Join),
        2 => place.clone().prop_map(Step::Part),
        3 => (place.clone(), 1..6_usize).prop_map(|(place, most)| Step::Clear(place, most)),
        3 => (place, 0..12_u8).prop_map(|(place, key)| Step::Offer(place, key)),
    ]
}

/// A replica, and what its links know.
struct World {
    replica: Replica<()>,
    taken: [u64; 3],
    now_ms: u64,
}

impl World {
    fn is_linked(&self, place: usize) -> bool {
        self.replica.has_peer(PeerId(place)) && self.replica.status(PeerId(place), NOW_MS).connected
    }

    fn step(&mut self, step: Step) {
        self.now_ms += 1;
        let now_ms = self.now_ms;
        match step {
            Step::Write(key) => delete(&mut self.replica, &format!("k{key}")),
            Step::Flush => {
                assert!(self.replica.begin_flush(|| ()));
                self.replica.complete_flush(true, now_ms, &mut Vec::new());
            }
            Step::Link(place) if self.replica.has_peer(PeerId(place)) && !self.is_linked(place) => {
                link(&mut self.replica, PeerId(place));
                self.taken[place] = 0;
            }
            Step::Unlink(place) if self.is_linked(place) => {
                self.replica.disconnected(PeerId(place));
                self.replica.inbound_disconnected(PeerId(place));
            }
            Step::Take(place, most) if self.is_linked(place) => {
                let mut owed = Vec::new();
                self.replica.take(PeerId(place), most, now_ms, &mut owed);
                self.taken[place] += owed.len() as u64;
            }
            Step::Acknowledge(place) if self.is_linked(place) => {
                assert!(self.replica.acknowledge(PeerId(place), self.taken[place], 0, now_ms));
            }
            Step::Mark(place) if self.is_linked(place) => {
                let mark = self.replica.latest().later_by(1);
                self.replica.heard_mark(PeerId(place), mark, 0, now_ms);
            }
            Step::Join(place) => {
                self.replica.join(PeerId(place));
            }
            Step::Part(place) => {
                self.replica.part(PeerId(place));
            }
            Step::Clear(place, most) => {
                self.replica.forget_parted(PeerId(place), most);
            }
            Step::Offer(place, key) if self.is_linked(place) => {
                let origin = Origin::of(["b", "c", "d"][place]);
                let version = Version::new(self.replica.latest().time() + 1024, origin);
                let key = format!("k{key}");
                match self.replica.offer(PeerId(place), key.as_bytes(), version, 9, now_ms, || ()) {
                    Offer::Apply(slot) => {
                        self.replica.applied(slot, PeerId(place), version, &mut Vec::new());
                    }
                    Offer::Drop(slot) => {
                        self.replica.complete(slot, Effect::Removed, now_ms, &mut Vec::new());
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

proptest! {
    #[test]
    fn whoever_comes_and_goes_the_books_are_right(steps in prop::collection::vec(any_step(), 1..200)) {
        let bounds = Bounds { backlog_bytes: 8 << 10, ..Bounds::default() };
        let mut world = World { replica: Replica::new("a", 2, bounds), taken: [0; 3], now_ms: NOW_MS };
        for step in steps {
            world.step(step);
            world.replica.check_invariants();
        }
        // Nobody is left: nothing is owed, and nothing kept.
        for place in 0..world.replica.peers.len() {
            world.replica.part(PeerId(place));
            clear(&mut world.replica, PeerId(place));
        }
        let settled = world.replica.settled();
        prop_assert_eq!(settled.all, Some(settled.live));
        delete(&mut world.replica, "last");
        delete(&mut world.replica, "last");
        while world.replica.counters().ledger_entries > 0 {
            let before = world.replica.counters().ledger_entries;
            delete(&mut world.replica, "last");
            prop_assert!(world.replica.counters().ledger_entries < before, "it shrinks to nothing");
        }
    }
}

#[test]
fn there_are_no_more_places_than_bits() {
    let mut replica = alone();
    for place in 0..PEERS_MAX {
        assert!(replica.join(PeerId(place)), "{place}");
    }
    assert!(!replica.join(PeerId(PEERS_MAX)));
    assert!(!replica.join(PeerId(PEERS_MAX - 1)), "it is taken");
    assert_eq!(replica.peer_ids().count(), PEERS_MAX);
    delete(&mut replica, "k");
    assert!(replica.peer_ids().all(|peer| replica.status(peer, NOW_MS).backlog_entries == 1));
    replica.check_invariants();
}
