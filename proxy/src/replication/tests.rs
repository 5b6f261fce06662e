//! What the simulation cannot show, because its clocks are near enough and its peers are told nothing of.

use super::*;

const PEER: PeerId = PeerId(0);
const NOW_MS: u64 = 1_000_000;

fn replica(site: &str) -> Replica<()> {
    Replica::new(site, 1, Bounds::default())
}

fn delete(replica: &mut Replica<()>, key: &str, now_ms: u64) {
    let slot = replica.begin(key.as_bytes(), 1, || ()).expect("nobody holds the gate");
    replica.complete(slot, Effect::Removed, now_ms, &mut Vec::new());
}

fn take(replica: &mut Replica<()>) -> usize {
    let mut owed = Vec::new();
    replica.take(PEER, 100, NOW_MS, &mut owed);
    owed.len()
}

#[test]
fn what_a_peer_refuses_because_of_our_clock_is_shown_until_a_flush() {
    let mut a = replica("a");
    a.connected(PEER);
    a.inbound_connected(PEER, 1);
    a.heard_mark(PEER, a.latest(), 0, NOW_MS);
    for key in ["k", "l", "m"] {
        delete(&mut a, key, NOW_MS);
    }
    assert_eq!(take(&mut a), 3);
    assert!(a.acknowledge(PEER, 2, 1, NOW_MS + 1));
    assert!(a.acknowledge(PEER, 3, 2, NOW_MS + 2));
    let status = a.status(PEER, NOW_MS);
    assert_eq!(
        status.skewed,
        Some(Gap { since_ms: NOW_MS + 1, mutations: 2, listed: false, last: status.skewed.unwrap().last })
    );
    assert_eq!((status.counters.acked, status.counters.refused), (3, 2));
    assert!(!a.in_sync(), "the peer holds something else");
    // The count begins anew with each hello.
    a.disconnected(PEER);
    a.connected(PEER);
    assert!(a.acknowledge(PEER, 0, 0, NOW_MS));
    assert!(!a.in_sync());
    // Nothing older than a flush matters.
    assert!(a.begin_flush(|| ()));
    a.complete_flush(true, NOW_MS, &mut Vec::new());
    assert_eq!((take(&mut a), a.status(PEER, NOW_MS).skewed), (1, None));
    assert!(a.acknowledge(PEER, 1, 0, NOW_MS));
    assert!(a.in_sync());
    // Unless the flush is refused as well.
    assert!(a.begin_flush(|| ()));
    a.complete_flush(true, NOW_MS, &mut Vec::new());
    assert_eq!(take(&mut a), 1);
    assert!(a.acknowledge(PEER, 2, 1, NOW_MS));
    assert!(!a.in_sync());
    a.check_invariants();
}

/// What is handed out for the peer, if it is a flush: its version and its delay.
fn take_flush(replica: &mut Replica<()>, now_ms: u64) -> Option<(Version, u64)> {
    let mut owed = Vec::new();
    replica.take(PEER, 100, now_ms, &mut owed);
    match owed[..] {
        [Owed::Flush { version, delay_ms }] => Some((version, delay_ms)),
        _ => None,
    }
}

fn flush(replica: &mut Replica<()>, now_ms: u64) {
    assert!(replica.begin_flush(|| ()));
    replica.complete_flush(true, now_ms, &mut Vec::new());
}

#[test]
fn a_scheduled_flush_is_run_by_its_origin_when_it_is_due() {
    let mut a = replica("a");
    a.connected(PEER);
    a.schedule_flush(NOW_MS + 3000, NOW_MS);
    assert_eq!(take_flush(&mut a, NOW_MS + 500).map(|(_, delay_ms)| delay_ms), Some(2500));
    assert!(!a.due_flush(NOW_MS + 2999));
    assert!(a.due_flush(NOW_MS + 3000));
    assert!(!a.due_flush(NOW_MS + 3001), "it is on its way");
    assert!(a.due_flush(NOW_MS + 4000), "it did not come about");
    flush(&mut a, NOW_MS + 4001);
    assert!(!a.due_flush(NOW_MS + 100_000));
    assert_eq!(take_flush(&mut a, NOW_MS + 4001).map(|(_, delay_ms)| delay_ms), Some(0));
}

#[test]
fn a_newer_flush_replaces_a_scheduled_one() {
    let mut a = replica("a");
    a.schedule_flush(NOW_MS + 1000, NOW_MS);
    a.schedule_flush(NOW_MS + 9000, NOW_MS + 1);
    assert!(!a.due_flush(NOW_MS + 8999));
    flush(&mut a, NOW_MS + 2);
    assert!(!a.due_flush(NOW_MS + 9000));
    // What the peer has not heard of yet it need not hear of any more.
    a.connected(PEER);
    assert_eq!(take_flush(&mut a, NOW_MS + 3).map(|(_, delay_ms)| delay_ms), Some(0));
    assert_eq!(take_flush(&mut a, NOW_MS + 3), None);
}

#[test]
fn a_peers_scheduled_flush_is_run_here_if_the_peer_is_gone() {
    let (mut a, mut b) = (replica("a"), replica("b"));
    a.connected(PEER);
    let schedule = |a: &mut Replica<()>, b: &mut Replica<()>, at_ms: u64, now_ms| {
        a.schedule_flush(at_ms, now_ms);
        let (version, delay_ms) = take_flush(a, now_ms).expect("the schedule");
        assert!(b.heard_scheduled_flush(PEER, version, now_ms + delay_ms, now_ms));
    };
    schedule(&mut a, &mut b, NOW_MS + 1000, NOW_MS);
    assert!(!b.due_flush(NOW_MS + 5999), "the peer is still expected to run it");
    assert!(b.due_flush(NOW_MS + 6000));
    flush(&mut b, NOW_MS + 6000);
    assert!(!b.due_flush(NOW_MS + 60_000));
    // The peer is not gone: what it sends is what was awaited.
    schedule(&mut a, &mut b, NOW_MS + 61_000, NOW_MS + 60_000);
    assert!(a.due_flush(NOW_MS + 61_000));
    flush(&mut a, NOW_MS + 61_001);
    let (version, _) = take_flush(&mut a, NOW_MS + 61_001).expect("the flush itself");
    let offer = b.offer_flush(PEER, version, NOW_MS + 61_001, || ());
    assert_eq!(offer, Offer::Apply(Slot::FLUSH));
    b.applied_flush(PEER, version, NOW_MS + 61_002, &mut Vec::new());
    assert!(!b.due_flush(NOW_MS + 100_000));
}

#[test]
fn acks_of_refused_mutations_are_held_to_the_rules() {
    let mut a = replica("a");
    a.connected(PEER);
    delete(&mut a, "k", NOW_MS);
    delete(&mut a, "l", NOW_MS);
    assert_eq!(take(&mut a), 2);
    assert!(!a.acknowledge(PEER, 1, 2, NOW_MS), "more refused than settled");
    assert!(a.acknowledge(PEER, 1, 1, NOW_MS));
    assert!(!a.acknowledge(PEER, 2, 0, NOW_MS), "a count goes back");
}

#[test]
fn what_was_refused_is_refused_again_when_its_acknowledgement_is_lost() {
    let mut b = replica("b");
    b.inbound_connected(PEER, 1);
    let ahead_ms = NOW_MS + Bounds::default().max_clock_skew_ms + 1;
    let version = |ms: u64| Version::new(ms << 20, Origin::of("a"));
    let offer = |b: &mut Replica<()>, version, now_ms| b.offer(PEER, b"k", version, 1, now_ms, || ());
    assert_eq!(offer(&mut b, version(ahead_ms), NOW_MS), Offer::Skewed);
    b.heard_mark(PEER, version(ahead_ms + 1), 0, NOW_MS);
    b.inbound_disconnected(PEER);
    b.inbound_connected(PEER, 1);
    // By now it would not look too far ahead, and it is below the mark: but it was never applied.
    assert_eq!(offer(&mut b, version(ahead_ms), NOW_MS + 1000), Offer::Skewed);
    assert_eq!(offer(&mut b, version(NOW_MS), NOW_MS + 1000), Offer::Duplicate);
    assert_eq!(b.status(PEER, NOW_MS).counters.skewed, 2);
    b.check_invariants();
}

#[test]
fn a_link_that_comes_back_with_nothing_owed_has_nothing_to_catch_up() {
    let mut a = replica("a");
    let catch_ups = |a: &Replica<()>| a.status(PEER, NOW_MS).catch_ups;
    delete(&mut a, "k", NOW_MS);
    a.connected(PEER);
    assert_eq!(catch_ups(&a), 0, "the first link does not come back");
    assert_eq!(take(&mut a), 1);
    a.disconnected(PEER);
    a.connected(PEER);
    assert_eq!(catch_ups(&a), 1);
    assert_eq!(take(&mut a), 1);
    assert!(a.acknowledge(PEER, 1, 0, NOW_MS));
    a.disconnected(PEER);
    a.connected(PEER);
    assert_eq!(catch_ups(&a), 1);
}

#[test]
fn a_write_that_says_nothing_of_marks_does_not_hide_those_of_one_before() {
    let mut a = replica("a");
    a.connected(PEER);
    let write = |a: &mut Replica<()>, marks| {
        let slot = a.begin(b"k", 1, || ()).expect("nobody holds the gate");
        a.complete(slot, Effect::Item { payload: None, marks }, NOW_MS, &mut Vec::new());
    };
    let unsure = |a: &mut Replica<()>| {
        let mut owed = Vec::new();
        a.take(PEER, 1, NOW_MS, &mut owed);
        matches!(owed[..], [Owed::Key { marks_unsure: true, .. }])
    };
    let (touch, won) = (Marks::default(), Marks { stale: true, won: true, ..Marks::default() });
    write(&mut a, touch);
    assert!(!unsure(&mut a));
    for marks in [won, touch, touch] {
        write(&mut a, marks);
    }
    assert!(unsure(&mut a));
    write(&mut a, won);
    assert!(!unsure(&mut a), "the last one says it all");
    assert!(a.acknowledge(PEER, 3, 0, NOW_MS));
    write(&mut a, touch);
    assert!(!unsure(&mut a), "what was before has been sent");
    a.check_invariants();
}

const SMALL: Bounds = Bounds {
    backlog_bytes: 64 << 10,
    window_entries: 16_384,
    window_bytes: 8 << 20,
    max_clock_skew_ms: 60_000,
};

/// A site that only receives, and a third one that never comes: nothing becomes stable.
#[test]
fn the_ledger_of_what_others_write_is_bounded() {
    let mut a: Replica<()> = Replica::new("a", 2, SMALL);
    a.inbound_connected(PEER, 1);
    for number in 0..5_000_u64 {
        let version = Version::new((NOW_MS + number) << 20, Origin::of("b"));
        let key = format!("key{number}");
        let offer = a.offer(PEER, key.as_bytes(), version, 1, NOW_MS + number, || ());
        let Offer::Apply(slot) = offer else { panic!("{offer:?}") };
        a.applied(slot, PEER, version, &mut Vec::new());
        assert!(a.counters().ledger_bytes <= SMALL.backlog_bytes);
    }
    a.check_invariants();
}

/// What a peer that is away or dumb makes us remember costs a peer that acknowledges nothing.
#[test]
fn a_peer_that_keeps_up_pays_for_nobody() {
    let (dumb, away) = (1, 2);
    for peers in [dumb, away] {
        let mut a: Replica<()> = Replica::new("a", peers, SMALL);
        a.connected(PEER);
        for number in 0..5_000_u64 {
            delete(&mut a, &format!("key{number}"), NOW_MS + number);
            assert_eq!(take(&mut a), 1);
            assert!(a.acknowledge(PEER, number + 1, 0, NOW_MS + number));
            if peers == away {
                a.heard_mark(PEER, a.latest(), 0, NOW_MS + number);
            }
        }
        assert_eq!(a.status(PEER, NOW_MS).gap, None, "of {peers} peers");
        assert_eq!(peers == away, a.status(PeerId(peers - 1), NOW_MS).gap.is_some());
        a.check_invariants();
    }
}

fn listed(replica: &mut Replica<()>) -> Vec<(usize, String)> {
    let told = replica.take_listings().into_iter().map(|listing| match listing {
        Listing::Add { peer, key } => (peer.0, String::from_utf8(key.to_vec()).expect("text")),
        Listing::Anew { peer } => (peer.0, "anew".to_owned()),
    });
    told.collect()
}

#[test]
fn what_memory_has_no_room_for_is_listed_and_not_lost() {
    let mut a: Replica<()> = Replica::new("a", 1, SMALL);
    a.keep_lists(&[Left::default()], NOW_MS);
    for number in 0..1_000 {
        delete(&mut a, &format!("key{number}"), NOW_MS + number);
    }
    let keys: std::collections::BTreeSet<_> = listed(&mut a).into_iter().collect();
    assert_eq!(keys.len(), 1_000, "given up, and then not queued any more");
    let status = a.status(PEER, NOW_MS);
    let gap = status.gap.expect("the bound was reached");
    assert!(gap.listed && gap.mutations == 1_000, "{gap:?}");
    assert_eq!((status.counters.lost, status.counters.listed, a.counters().lost), (0, 1_000, 0));
    assert!(!a.in_sync());
    a.list_delivered(PEER);
    assert_eq!(a.status(PEER, NOW_MS).gap, None);
    a.check_invariants();
}

#[test]
fn a_list_that_lost_a_key_makes_a_loss_of_it_all() {
    let mut a: Replica<()> = Replica::new("a", 1, SMALL);
    a.keep_lists(&[Left { keys: 7, whole: true }], NOW_MS);
    assert!(a.status(PEER, NOW_MS).gap.expect("left by the last run").listed);
    delete(&mut a, "k", NOW_MS);
    assert_eq!(listed(&mut a), [(0, "k".to_owned())]);
    a.unlist(PEER);
    a.unlist(PEER);
    delete(&mut a, "l", NOW_MS);
    assert_eq!(listed(&mut a), [], "it is a loss by now");
    assert_eq!((a.counters().lost, a.status(PEER, NOW_MS).counters.lost), (9, 9));
    a.list_delivered(PEER);
    assert!(a.status(PEER, NOW_MS).gap.is_some(), "only a resync closes it");
    // Or a flush of ours: what comes before it does not matter.
    assert!(a.begin_flush(|| ()));
    a.complete_flush(true, NOW_MS, &mut Vec::new());
    assert_eq!(listed(&mut a), [(0, "anew".to_owned())]);
    assert_eq!(a.status(PEER, NOW_MS).gap, None);
    a.check_invariants();
}

#[test]
fn a_proxy_that_stops_lists_what_is_queued_and_on_its_way() {
    let mut a = replica("a");
    a.keep_lists(&[Left { keys: 0, whole: true }], NOW_MS);
    a.connected(PEER);
    delete(&mut a, "sent", NOW_MS);
    assert_eq!(take(&mut a), 1);
    delete(&mut a, "queued", NOW_MS);
    let _in_flight = a.begin(b"in flight", 1, || ()).expect("nobody holds the gate");
    assert!(a.list_rest(PEER));
    let mut keys = listed(&mut a);
    keys.sort();
    assert_eq!(keys, [(0, "in flight".to_owned()), (0, "queued".to_owned()), (0, "sent".to_owned())]);
}

#[test]
fn what_is_not_stamped_yet_makes_a_list_incomplete() {
    let mut a = replica("a");
    a.keep_lists(&[Left { keys: 0, whole: true }], NOW_MS);
    a.foresee(2);
    a.foreseen();
    assert!(!a.list_rest(PEER));
    a.foreseen();
    assert!(a.list_rest(PEER));
}

#[test]
fn an_owed_flush_cannot_be_listed() {
    let mut a = replica("a");
    a.keep_lists(&[Left { keys: 0, whole: true }], NOW_MS);
    assert!(a.begin_flush(|| ()));
    a.complete_flush(true, NOW_MS, &mut Vec::new());
    assert!(!a.list_rest(PEER));
    a.connected(PEER);
    assert_eq!(take(&mut a), 1);
    assert!(!a.list_rest(PEER), "it may not have arrived");
    assert!(a.acknowledge(PEER, 1, 0, NOW_MS));
    assert!(a.list_rest(PEER));
}

/// Two peers that are away fill the ledger by the same keys: both have to be given up before there is room.
#[test]
fn room_is_made_in_slices() {
    let (peers, slice, written) = (2, room::SLICE as u64, 60_000_u64);
    let bounds = Bounds { backlog_bytes: 8 << 20, ..SMALL };
    let mut a: Replica<()> = Replica::new("a", peers, bounds);
    let lost = |a: &Replica<()>, peer| a.status(PeerId(peer), NOW_MS).gap.map_or(0, |gap| gap.mutations);
    let (mut most, mut before) = (0, [0; 2]);
    for number in 0..written {
        delete(&mut a, &format!("key{number:08}"), NOW_MS + number);
        most = most.max(a.counters().ledger_bytes);
        let now = [lost(&a, 0), lost(&a, 1)];
        let given_up = now[0] + now[1] - before[0] - before[1];
        assert!(given_up <= slice + 2, "{given_up} in one go");
        before = now;
        if number % 5000 == 0 {
            a.check_invariants();
        }
    }
    a.check_invariants();
    let bound = bounds.backlog_bytes;
    assert!(most > bound && most <= bound + bound * 3 * (peers as u64 + 1) / slice, "{most} of {bound}");
    assert!(a.counters().ledger_bytes < bound / 2);
    for peer in 0..peers {
        let owed = a.status(PeerId(peer), NOW_MS).backlog_entries;
        assert_eq!(lost(&a, peer) + owed, written, "each is counted once");
    }
}
