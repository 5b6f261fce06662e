//! What a resync must not leave behind. Each of these was found by chaos, and is played here step by step.

#![allow(clippy::unwrap_used, reason = "a broken expectation of a test ends the test")]

use std::time::Duration;

use memcloud_tests::compare::{Comparison, compare};
use memcloud_tests::{Direction, Fleet, Memcached, Plan, eventually};

const WITHIN: Duration = Duration::from_secs(60);

/// An empty memcached was written to, and while it waited to be filled the other site deleted that and gave the
/// deletion up. A copy does not delete anything, so it had not made that good.
#[test]
fn what_was_given_up_while_the_peer_was_empty_is_compared() {
    let mut fleet = Plan::of(2).sidecars(&["--backlog-bytes", "1MiB", "--peer-timeout", "1s"]).start();
    let [mut here, mut there] = [fleet.sites[0].sidecar.client(), fleet.sites[1].sidecar.client()];
    assert_eq!(here.set("before", b"x").unwrap(), "STORED");
    fleet.wait_in_sync(WITHIN);
    let cable = fleet.cable(0, 1);
    cable.stall(Direction::Forward);
    cable.stall(Direction::Back);
    eventually("nothing is on its way", WITHIN, || {
        (fleet.sites[0].sidecar.status()["peers"][0]["state"] != "streaming").then_some(())
    });
    fleet.sites[1].memcached.restart();
    eventually("the empty memcached is served", WITHIN, || {
        there.set("gone", b"x").is_ok_and(|answer| answer == "STORED").then_some(())
    });
    eventually("the write has arrived", WITHIN, || here.get("gone").unwrap());
    assert_eq!(here.ask("delete gone"), "DELETED");
    here.set_items(20_000, 100).unwrap();
    eventually("the deletion is given up", WITHIN, || {
        (fleet.sites[0].sidecar.status()["lost_unrepaired"].as_u64()? > 0).then_some(())
    });
    fleet.heal();
    fleet.wait_in_sync(WITHIN);
    let result = compared(&fleet);
    assert!(result.is_equal() && result.held == 20_001, "{result:?} {}", fleet.statuses());
    assert_eq!(there.get("gone").unwrap(), None, "the later deletion counts");
}

/// A site that is being filled loses both others amid that, and they start again, empty. The first of them has nothing and is whole;
/// what the third one had got by then has to reach both.
#[test]
fn what_a_third_site_had_reaches_everybody() {
    let mut fleet = Plan::of(3).sidecars(&["--peer-timeout", "1s", "--resync-rate", "1MiB"]).start();
    fleet.sites[0].sidecar.client().set_items(20_000, 100).unwrap();
    fleet.wait_in_sync(WITHIN);
    fleet.sites[2].memcached.restart();
    let mut third = fleet.sites[2].memcached.client();
    eventually("a part is copied", WITHIN, || (third.stat("curr_items") > 1000).then_some(()));
    fleet.sites[0].memcached.restart();
    fleet.sites[1].memcached.restart();
    fleet.wait_in_sync(WITHIN);
    let result = compared(&fleet);
    assert!(result.is_equal(), "{} items, {}", result.held, fleet.statuses());
    assert!((1000..20_000).contains(&result.held), "{} items: not the part that was meant", result.held);
}

fn compared(fleet: &Fleet) -> Comparison {
    compare(&fleet.sites.iter().map(|site| &site.memcached).collect::<Vec<&Memcached>>())
}
