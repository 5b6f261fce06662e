use super::*;
use crate::replication::{Basis, Bounds, Claim, Clock, Loss, Offer, Version};

const NOW_MS: u64 = 1_000_000;

fn at(ms: u64, site: &str) -> Version {
    Clock::new(site, 60_000).stamp(ms)
}

/// A site with peers that have told their names, and are linked both ways.
fn site(name: &str, peers: &[&str]) -> Replica<()> {
    let mut replica = Replica::new(name, peers.len(), Bounds::default());
    for (index, peer) in peers.iter().enumerate() {
        let id = PeerId(index);
        replica.named(id, Origin::of(peer));
        replica.connected(id);
        replica.met(id, 1);
        replica.inbound_connected(id, 1);
        replica.heard_mark(id, at(NOW_MS, peer), 0, NOW_MS);
        replica.heard_loss(id, Some(Loss::Nothing));
    }
    replica.hold(true);
    replica
}

const B: PeerId = PeerId(0);
const C: PeerId = PeerId(1);
const A_AT_B: PeerId = PeerId(0);

fn agree(a: &Replica<()>, b: &Replica<()>) -> (Company, Company) {
    (a.company(B, &b.heard_sites()), b.company(A_AT_B, &a.heard_sites()))
}

/// Between b and c nothing gets through; a hears both.
#[test]
fn a_state_does_not_beat_what_its_giver_cannot_have_heard() {
    let (mut a, mut b) = (site("a", &["b", "c"]), site("b", &["a", "c"]));
    b.inbound_disconnected(C);
    let written = at(NOW_MS + 20, "c");
    let Offer::Apply(slot) = a.offer(C, b"k", written, 7, NOW_MS + 20, || ()) else { panic!("it is new") };
    a.applied(slot, C, written, &mut Vec::new());
    for ms in (NOW_MS + 1000..NOW_MS + 6000).step_by(1000) {
        a.heard_mark(B, at(ms, "b"), 0, ms);
        a.heard_mark(C, at(ms, "c"), 0, ms);
        b.heard_mark(A_AT_B, at(ms, "a"), 0, ms);
    }
    assert_eq!(a.known(b"k"), Version::ZERO, "the ledger has forgotten it");
    let (ours, theirs) = agree(&a, &b);
    assert!(ours.they_lack && !ours.we_lack && !ours.leaves_out());
    assert!(theirs.we_lack && !theirs.they_lack && !theirs.leaves_out());
    for company in [Company::default(), theirs] {
        let version = b.state_version(&company);
        assert!(version < written, "{version:?}");
        let claim = Claim { version, item: None, basis: Basis::default() };
        assert_eq!(a.offer_state(B, b"k", claim, 9, NOW_MS + 6000, || ()), Offer::TooOld);
    }
}

#[test]
fn who_is_away_from_both_is_left_out_and_doubted_by_both() {
    let (mut a, mut b) = (site("a", &["b", "c"]), site("b", &["a", "c"]));
    a.inbound_disconnected(C);
    b.inbound_disconnected(C);
    let (ours, theirs) = agree(&a, &b);
    for (replica, company, mark) in
        [(&mut a, ours, at(NOW_MS + 1000, "b")), (&mut b, theirs, at(NOW_MS + 1000, "a"))]
    {
        assert!(company.leaves_out() && !company.we_lack && !company.they_lack);
        replica.heard_mark(B, mark, 0, NOW_MS + 1000);
        assert_eq!(replica.state_version(&company).time(), mark.time(), "a dead site stops nobody");
        assert!(!replica.has_grown(&company, B) && !replica.has_shrunk(&company));
        assert!(replica.left_out_lately(&company), "it may be back in a moment");
        replica.follow_clock(at(NOW_MS + 60_000, "b").time(), NOW_MS + 60_000);
        assert!(!replica.left_out_lately(&company));
        replica.inbound_connected(C, 1);
        assert!(replica.has_grown(&company, B), "it is back: agree anew");
        assert!(replica.state_version(&company) < mark, "and it counts at once");
        assert!(replica.doubt_absent(&company));
        assert_eq!((replica.loss(C), replica.loss(B)), (Loss::Anything, Loss::Nothing));
        replica.part(C);
        assert_eq!(replica.state_version(&company).time(), mark.time(), "who went counts no more");
    }
}

#[test]
fn who_was_heard_by_both_and_goes_is_missed() {
    let (mut a, b) = (site("a", &["b", "c"]), site("b", &["a", "c"]));
    let (ours, _) = agree(&a, &b);
    assert_eq!((ours.leaves_out(), ours.we_lack, ours.they_lack), (false, false, false));
    assert!(!a.has_shrunk(&ours));
    a.inbound_disconnected(C);
    assert!(a.has_shrunk(&ours) && !a.has_grown(&ours, B));
    assert!(!a.doubt_absent(&ours), "it was counted all the time");
}

/// A peer that has not answered in this life has no name; it may be the one of whom the other speaks.
#[test]
fn somebody_without_a_name_is_left_out_only_if_the_other_hears_nobody_unknown() {
    let mut a: Replica<()> = Replica::new("a", 2, Bounds::default());
    a.named(B, Origin::of("b"));
    a.inbound_connected(B, 1);
    let alone = a.company(B, &[Origin::of("a")]);
    assert!(alone.leaves_out() && !alone.we_lack);
    let beside = a.company(B, &[Origin::of("a"), Origin::of("c")]);
    assert!(!beside.leaves_out() && beside.we_lack);
    // A peer that we are to get later, and have not been told of.
    a.part(C);
    assert!(a.company(B, &[Origin::of("c")]).we_lack);
}
