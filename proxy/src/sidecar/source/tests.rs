use super::figures::peer_figures;
use super::peer::{peer_status, reason};
use crate::admin::{InboundState, PeerState};
use crate::link::{LinkState, LinkStopped, PeerLink, PeerLinkCounters};
use crate::replication::{self, Gap};

fn streaming() -> (PeerLink, replication::PeerStatus) {
    // A link each way, both of them new.
    let counters = PeerLinkCounters { links: 2, ..PeerLinkCounters::default() };
    let link = PeerLink { state: LinkState::Streaming, inbound: true, counters, ..PeerLink::default() };
    let status = replication::PeerStatus {
        connected: true,
        inbound_connected: true,
        peer_owes: Some(0),
        ..replication::PeerStatus::default()
    };
    (link, status)
}

fn gap(mutations: u64) -> Option<Gap> {
    Some(Gap { since_ms: 5, mutations, ..Gap::default() })
}

#[test]
fn a_fresh_pair_has_nothing_to_tell() {
    let shown = peer_status(&streaming());
    assert_eq!((shown.reason, shown.resyncs_partial, shown.lost_unrepaired), (None, 0, 0));
    assert_eq!((shown.state, shown.inbound), (PeerState::Streaming, InboundState::Up));
    assert_eq!(peer_figures(&streaming()).resyncs_partial, 0);
    let (link, status) = streaming();
    let caught_up = replication::PeerStatus { catch_ups: 3, ..status };
    assert_eq!(peer_status(&(link, caught_up)).resyncs_partial, 3);
}

#[test]
fn the_reason_says_what_the_other_direction_lacks() {
    let (link, status) = streaming();
    let told = |peer_owes| {
        let status = replication::PeerStatus { peer_owes, ..status.clone() };
        reason(&link, &status)
    };
    assert_eq!(told(Some(7)).as_deref(), Some("the peer still owes 7 mutations"));
    assert_eq!(told(None).as_deref(), Some("the peer has not said yet what it owes"));
    let alone = replication::PeerStatus { inbound_connected: false, peer_owes: None, ..status.clone() };
    let shown = peer_status(&(link.clone(), alone.clone()));
    assert_eq!(shown.inbound, InboundState::Down);
    assert_eq!(shown.reason.as_deref(), Some("no link from the peer"));
    // If neither is up, there is one thing to look at.
    let down = PeerLink { state: LinkState::Down, stopped: Some(LinkStopped::Unreachable), ..link };
    assert_eq!(reason(&down, &alone).as_deref(), Some("unreachable"));
}

#[test]
fn losses_are_told_whatever_the_links_do() {
    let (mut link, mut status) = streaming();
    status.skewed = gap(4);
    let shown = peer_status(&(link.clone(), status.clone()));
    assert_eq!(shown.lost_unrepaired, 4);
    let expected = "the peer refused 4 mutations since 5, because our clock is too far ahead of its own";
    assert_eq!(shown.reason.as_deref(), Some(expected));
    (status.gap, link.state, link.stopped) = (gap(2), LinkState::Down, Some(LinkStopped::Closed));
    let shown = peer_status(&(link, status));
    assert_eq!(shown.lost_unrepaired, 6);
    let reason = shown.reason.unwrap();
    assert!(
        reason.starts_with("2 mutations were given up since 5") && reason.ends_with("; closed"),
        "{reason}"
    );
}
