//! Every state, and every way out of it.

use proptest::prelude::*;

use super::*;

const GOOD: Seen = Seen { up: true, refused: false, whole: true, linked: true };
const SILENT: Seen = Seen { up: false, refused: false, whole: true, linked: true };
const GONE: Seen = Seen { up: false, refused: true, whole: true, linked: true };
const EMPTY: Seen = Seen { up: true, refused: false, whole: false, linked: true };

#[test]
fn a_blip_is_sat_out_and_a_refusal_is_not() {
    let mut machine = Machine::new(1, 0);
    assert_eq!(machine.on(Event::Tick, 0, SILENT), None);
    assert_eq!(machine.on(Event::Tick, 199, SILENT), None);
    assert_eq!(machine.on(Event::Tick, 199, GOOD), None);
    assert_eq!(machine.on(Event::Tick, 300, SILENT), None, "a new blip counts from its own beginning");
    assert_eq!(machine.on(Event::Tick, 500, SILENT), Some(Command::Probe(0)));
    assert_eq!(machine.route(), Route::Changing);
    assert_eq!(Machine::new(1, 0).on(Event::Tick, 0, GONE), Some(Command::Probe(0)));
    assert_eq!(Machine::new(1, 0).on(Event::Tick, 0, EMPTY), Some(Command::Probe(0)));
}

/// Away at the only peer.
fn away(peers: usize) -> Machine {
    let mut machine = Machine::new(peers, 0);
    machine.on(Event::Tick, 0, GONE);
    machine.on(Event::Answers, 0, GONE);
    assert_eq!((machine.route(), machine.failovers()), (Route::Peer(0), 1));
    machine
}

#[test]
fn the_way_back_is_taken_when_memcached_is_whole_and_everything_is_here() {
    let mut machine = away(1);
    assert_eq!(machine.on(Event::Tick, 10, GONE), None);
    assert_eq!(machine.on(Event::Tick, 10, EMPTY), None);
    assert_eq!(machine.on(Event::Tick, 10, Seen { linked: false, ..GOOD }), None);
    assert_eq!(machine.on(Event::Tick, 20, GOOD), Some(Command::Gather));
    assert_eq!((machine.route(), machine.state().peer()), (Route::Changing, Some(0)));
    assert_eq!(machine.on(Event::Tick, 30, GOOD), None);
    assert_eq!(machine.on(Event::Arrived, 40, GOOD), None);
    assert_eq!((machine.route(), machine.since_ms()), (Route::Local, 40));
}

#[test]
fn a_return_that_takes_too_long_is_tried_again_later() {
    let mut machine = away(1);
    machine.on(Event::Tick, 0, GOOD);
    assert_eq!(machine.on(Event::Tick, RETURN_WITHIN_MS, GOOD), None);
    assert_eq!(machine.route(), Route::Peer(0));
    assert_eq!(machine.on(Event::Arrived, RETURN_WITHIN_MS, GOOD), None, "too late");
    assert_eq!(machine.on(Event::Tick, RETURN_WITHIN_MS + 1, GOOD), None);
    assert_eq!(machine.on(Event::Tick, RETURN_WITHIN_MS + AGAIN_AFTER_MS, GOOD), Some(Command::Gather));
    machine.on(Event::Tick, RETURN_WITHIN_MS + AGAIN_AFTER_MS, GONE);
    assert_eq!((machine.route(), machine.failovers()), (Route::Peer(0), 1));
}

#[test]
fn a_lost_peer_is_replaced_by_the_next_one_or_by_none() {
    let mut machine = away(2);
    assert_eq!(machine.on(Event::Lost, 10, GONE), Some(Command::Probe(0)));
    assert_eq!(machine.on(Event::Refuses, 10, GONE), Some(Command::Probe(1)));
    machine.on(Event::Answers, 10, GONE);
    assert_eq!(machine.route(), Route::Peer(1));
    machine.on(Event::Lost, 20, GONE);
    machine.on(Event::Refuses, 20, GONE);
    assert_eq!(machine.on(Event::Refuses, 20, GONE), None);
    assert_eq!(machine.route(), Route::Nobody);
    assert_eq!(machine.on(Event::Tick, 20, GONE), None);
    assert_eq!(machine.on(Event::Tick, 20 + AGAIN_AFTER_MS, GONE), Some(Command::Probe(0)));
    assert_eq!(machine.on(Event::Tick, 20 + AGAIN_AFTER_MS, GONE), None, "one at a time");
    machine.on(Event::Answers, 20 + AGAIN_AFTER_MS, GONE);
    assert_eq!(machine.route(), Route::Peer(0));
}

#[test]
fn an_empty_memcached_serves_only_while_nobody_else_does() {
    let mut machine = Machine::new(1, 0);
    machine.on(Event::Tick, 0, EMPTY);
    machine.on(Event::Refuses, 0, EMPTY);
    assert_eq!((machine.route(), machine.state().word()), (Route::Local, "cold"));
    assert_eq!(machine.on(Event::Tick, AGAIN_AFTER_MS, EMPTY), Some(Command::Probe(0)));
    assert_eq!(machine.route(), Route::Local, "nobody waits while it is asked");
    assert_eq!(machine.on(Event::Answers, AGAIN_AFTER_MS, EMPTY), Some(Command::Probe(0)));
    assert_eq!(machine.route(), Route::Changing);
    machine.on(Event::Answers, AGAIN_AFTER_MS, EMPTY);
    assert_eq!(machine.route(), Route::Peer(0));
}

#[test]
fn stranded_ends_when_memcached_is_back() {
    for (seen, word) in [(GOOD, "local"), (EMPTY, "cold")] {
        let mut machine = Machine::new(1, 0);
        machine.on(Event::Tick, 0, GONE);
        machine.on(Event::Refuses, 0, GONE);
        assert_eq!(machine.state().word(), "stranded");
        machine.on(Event::Tick, 1, seen);
        assert_eq!((machine.route(), machine.state().word()), (Route::Local, word));
    }
}

proptest! {
    /// Whatever happens: requests go home only when memcached is up or nothing better was found, and wait only while
    /// something is on its way that ends the waiting.
    #[test]
    fn no_step_leads_astray(steps in prop::collection::vec((0..5_usize, 0..4_usize, 0..700_u64), 1..300)) {
        let events = [Event::Tick, Event::Answers, Event::Refuses, Event::Lost, Event::Arrived];
        let mut machine = Machine::new(2, 0);
        let (mut now, mut probing, mut gathering) = (0, false, false);
        for (event, seen, later) in steps {
            let (event, seen) = (events[event], [GOOD, SILENT, GONE, EMPTY][seen]);
            now += later;
            // What nobody was asked for cannot happen.
            let event = match event {
                Event::Answers | Event::Refuses if !probing => Event::Tick,
                Event::Arrived if !gathering => Event::Tick,
                event => event,
            };
            let before = machine.state();
            probing &= !matches!(event, Event::Answers | Event::Refuses);
            match machine.on(event, now, seen) {
                Some(Command::Probe(peer)) => {
                    let seeking = matches!(before, State::Seeking { .. });
                    prop_assert!(!(probing && seeking) && peer < 2);
                    probing = true;
                }
                Some(Command::Gather) => { prop_assert!(seen.up && seen.whole); gathering = true; }
                None => {}
            }
            gathering &= matches!(machine.state(), State::Returning { .. });
            match machine.route() {
                Route::Changing => prop_assert!(probing || gathering),
                Route::Local if machine.route() != route_of(before) => prop_assert!(seen.up),
                _ => {}
            }
        }
    }
}

fn route_of(state: State) -> Route {
    let mut machine = Machine::new(2, 0);
    machine.state = state;
    machine.route()
}
