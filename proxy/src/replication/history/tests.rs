use super::*;
use crate::replication::replica::Offer;
use crate::replication::{Bounds, Clock, Effect};

const PEER: PeerId = PeerId(0);
const NOW_MS: u64 = 1_000_000;

/// Life 1 of a is killed with a tail. Life 2 stops before it was told so: nobody may take its goodbye for that of life 1.
#[test]
fn a_goodbye_says_nothing_of_a_life_before_that_nobody_has_told_of() {
    let mark = |ms| Clock::new("a", 60_000).stamp(ms);
    let mut b: Replica<()> = Replica::new("b", 1, Bounds::default());
    b.met(PEER, 1);
    b.inbound_connected(PEER, 1);
    b.heard_mark(PEER, mark(NOW_MS), 0, NOW_MS);
    b.heard_loss(PEER, Some(Loss::Nothing));
    b.inbound_disconnected(PEER);
    let mut a: Replica<()> = Replica::new("a", 1, Bounds::default());
    a.connected(PEER);
    assert!(!a.may_leave(PEER), "it has not heard of its earlier life");
    b.met(PEER, 2);
    b.inbound_connected(PEER, 2);
    b.heard_mark(PEER, mark(NOW_MS + 10), 0, NOW_MS);
    b.heard_loss(PEER, a.told_loss(PEER));
    // Said all the same.
    b.heard_goodbye(PEER, false);
    b.inbound_disconnected(PEER);
    b.met(PEER, 3);
    assert!(matches!(b.memory_of(PEER), Memory::Killed { .. }), "{:?}", b.memory_of(PEER));
    a.heard_memory(PEER, Memory::Clean);
    assert!(a.may_leave(PEER));
    // Life 3 is told, is made whole, and says so.
    b.heard_loss(PEER, Some(Loss::Nothing));
    b.heard_goodbye(PEER, false);
    b.met(PEER, 4);
    assert_eq!(b.memory_of(PEER), Memory::Clean);
}

/// A stop amid a copy: nothing is lost at the peer, and the next life goes on being filled.
#[test]
fn a_goodbye_amid_a_copy_is_remembered() {
    let mut b: Replica<()> = Replica::new("b", 1, Bounds::default());
    b.met(PEER, 1);
    b.heard_loss(PEER, Some(Loss::Nothing));
    b.heard_goodbye(PEER, true);
    b.met(PEER, 2);
    assert_eq!(b.memory_of(PEER), Memory::Unfilled);
    let mut a: Replica<()> = Replica::new("a", 1, Bounds::default());
    a.memcached_found(false);
    assert!(a.warming().is_none());
    a.heard_memory(PEER, b.memory_of(PEER));
    assert!(a.warming().is_some());
    assert_eq!(a.loss(PEER), Loss::Nothing);
    // The next goodbye is that of a memcached that was filled.
    b.heard_loss(PEER, Some(Loss::Nothing));
    b.heard_goodbye(PEER, false);
    b.met(PEER, 3);
    assert_eq!(b.memory_of(PEER), Memory::Clean);
}

/// Found by chaos: a third site had a part of what was there before all three started empty.
#[test]
fn what_one_peer_held_the_others_may_lack() {
    let mut a: Replica<()> = Replica::new("a", 3, Bounds::default());
    let [from, other, unknown] = [PeerId(0), PeerId(1), PeerId(2)];
    a.met(from, 1);
    a.met(other, 1);
    a.inbound_connected(from, 1);
    a.inbound_connected(other, 1);
    a.others_may_lack(from);
    assert_eq!([from, other, unknown].map(|peer| a.loss(peer)), [Loss::Nothing, Loss::Ours, Loss::Nothing]);
    let began = a.begin_resync();
    a.resynced(other, began);
    assert_eq!(a.loss(other), Loss::Nothing);
}

/// What `b` tells the second life of its peer of the first one, which was last heard of at `NOW_MS`, 100 s after that.
fn told_until(leave: impl FnOnce(&mut Replica<()>)) -> u64 {
    let mut b: Replica<()> = Replica::new("b", 1, Bounds::default());
    let peers_mark = Clock::new("a", 60_000).stamp(NOW_MS);
    b.met(PEER, 1);
    b.inbound_connected(PEER, 1);
    b.connected(PEER);
    b.heard_mark(PEER, peers_mark, 0, NOW_MS);
    leave(&mut b);
    let slot = b.begin(b"k", 1, || ()).expect("nobody else is there");
    b.complete(slot, Effect::Removed, NOW_MS + 100_000, &mut Vec::new());
    b.met(PEER, 2);
    match b.memory_of(PEER) {
        Memory::Killed { until, .. } => until.millis() - NOW_MS,
        other => panic!("{other:?}"),
    }
}

/// Found by chaos: a life is dated by whatever was heard of it last, and one that fell silent may have lived until just now.
#[test]
fn a_life_that_was_killed_is_dated_by_its_last_sign() {
    let both_end = |b: &mut Replica<()>| {
        b.inbound_disconnected(PEER);
        b.disconnected(PEER);
    };
    assert_eq!(told_until(both_end), NOTICED_WITHIN_MS);
    assert_eq!(
        told_until(|b| b.inbound_disconnected(PEER)),
        100_000 + NOTICED_WITHIN_MS,
        "we still send to it"
    );
    let silently = |b: &mut Replica<()>| {
        both_end(b);
        b.fell_silent(PEER);
    };
    assert_eq!(told_until(silently), 100_000 + NOTICED_WITHIN_MS);
    let refused_later = |b: &mut Replica<()>| {
        both_end(b);
        let later = Clock::new("a", 60_000).stamp(NOW_MS + 5_000);
        b.heard_mark(PEER, later, 0, NOW_MS + 5_000);
        b.heard_of(PEER);
    };
    assert_eq!(told_until(refused_later), 5_000 + NOTICED_WITHIN_MS);
}

/// One peer was cut off before the other one: what it sends may be older than what the other one knew of that life.
#[test]
fn what_one_peer_knew_of_a_life_counts_for_all() {
    let mut a: Replica<()> = Replica::new("a", 2, Bounds::default());
    let until = |ms| Memory::Killed { until: Clock::new("b", 60_000).stamp(ms), unfilled: false };
    a.heard_memory(PEER, until(NOW_MS));
    a.heard_memory(PeerId(1), until(NOW_MS + 10_000));
    assert_eq!(a.doubtful_until(PEER).millis(), NOW_MS + 10_000);
}

/// Found by the simulation: a site was filled from one that had missed the deletions of a third one that was killed.
#[test]
fn who_misses_something_of_a_third_site_says_so() {
    let mut b: Replica<()> = Replica::new("b", 2, Bounds::default());
    let (taker, third) = (PEER, PeerId(1));
    for peer in [taker, third] {
        b.inbound_connected(peer, 1);
        b.heard_loss(peer, Some(Loss::Nothing));
    }
    let site = |name| Clock::new(name, 1).origin();
    b.named(taker, site("taker"));
    b.named(third, site("third"));
    let missed = |b: &Replica<()>, with| b.missed_besides(with, &Company::default());
    assert_eq!(missed(&b, taker), []);
    b.heard_loss(third, Some(Loss::Ours));
    assert_eq!(missed(&b, taker), [site("third")]);
    assert_eq!(missed(&b, third), [], "the two of them see to that themselves");
    b.heard_loss(third, None);
    assert_eq!(missed(&b, taker), [site("third")], "it does not know yet");
    assert!(b.is_any_but(&missed(&b, taker), &[]));
    assert!(!b.is_any_but(&missed(&b, taker), &[third]), "it is being filled: what it wrote is gone");
}

/// Found by the simulation: a third site was killed after it had reached one of two, and then the other one was.
#[test]
fn nobody_is_believed_who_may_miss_something_of_a_third_site() {
    let us = Authority::of(Loss::Ours, Loss::Nothing);
    let peer = Authority::of(Loss::Nothing, Loss::Ours);
    for (authority, we_miss, they_miss, left) in [
        (us, false, true, Authority::Us),
        (us, true, false, Authority::Nobody),
        (peer, true, false, Authority::Peer),
        (peer, false, true, Authority::Nobody),
        (Authority::Nobody, false, false, Authority::Nobody),
    ] {
        assert_eq!(authority.unless(we_miss, they_miss), left);
    }
}

/// Found by chaos: a proxy was killed while its memcached was filled, and its next life took the little that was there for all.
#[test]
fn a_life_that_was_killed_amid_a_copy_is_filled_by_the_next_one() {
    for unfilled in [false, true] {
        let mut b: Replica<()> = Replica::new("b", 1, Bounds::default());
        b.met(PEER, 1);
        b.heard_filling(PEER, unfilled);
        b.met(PEER, 2);
        let mut a: Replica<()> = Replica::new("a", 1, Bounds::default());
        a.memcached_found(false);
        a.heard_memory(PEER, b.memory_of(PEER));
        assert_eq!(a.warming().is_some(), unfilled);
        // It has said nothing of itself yet in its second life.
        b.met(PEER, 3);
        assert!(matches!(b.memory_of(PEER), Memory::Killed { unfilled: false, .. }));
    }
}

/// Found by chaos: a site and its peer were both killed while the link was cut, and what the peer owed came as if it were new.
#[test]
fn what_a_life_owes_that_never_met_ours_is_doubtful_from_before_ours() {
    let mut a: Replica<()> = Replica::new("a", 1, Bounds::default());
    a.memcached_found(false);
    a.begin_life(NOW_MS);
    a.heard_memory(PEER, Memory::None);
    assert_eq!(a.doubtful_until(PEER).millis(), NOW_MS);
    let mut b = Clock::new("b", 60_000);
    let mut offered = |key: &[u8], ms| a.offer(PEER, key, b.stamp(ms), 7, NOW_MS + 2, || ());
    assert!(matches!(offered(b"before", NOW_MS - 1), Offer::Drop(_)));
    assert!(matches!(offered(b"since", NOW_MS + 1), Offer::Apply(_)));
}
