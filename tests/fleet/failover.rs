//! Apps of a site whose memcached is gone are served by a peer.

#![allow(clippy::unwrap_used, reason = "a broken expectation of a test ends the test")]

#[path = "failover/load.rs"]
mod load;

use std::time::{Duration, Instant};

use load::{Load, Record};
use memcloud_tests::compare::compare;
use memcloud_tests::{Client, Direction, Fleet, Plan, eventually, http};

const SOON: Duration = Duration::from_secs(20);

/// What stands behind the hello in the same breath belongs to the app, and is replicated as if it had come to the
/// front door.
#[test]
fn a_tunnel_loses_no_byte_and_writes_replicate() {
    let fleet = Plan::of(2).start();
    let door = fleet.sites[0].sidecar.settings().peer_listen.clone().unwrap();
    let mut raw = Client::to(&door);
    raw.send("ml hello V2 Sb R1 Qsession C1\r\nset tunnelled 0 0 1\r\nx\r\nget tunnelled\r\nmn\r\n").unwrap();
    let answer = String::from_utf8(raw.until(b"MN\r\n").unwrap()).unwrap();
    let (hello, rest) = answer.split_once("\r\n").unwrap();
    assert!(hello.starts_with("ml hello V2 Sa ") && hello.ends_with(" Qsession"), "{hello}");
    assert_eq!(rest, "ml ack 0\r\nSTORED\r\nVALUE tunnelled 0 1\r\nx\r\nEND\r\nMN\r\n");
    let status = fleet.sites[0].sidecar.status();
    assert_eq!(status["tunnelled_sessions"], 1, "{status}");
    eventually("the write reaches the other site", SOON, || {
        fleet.sites[1].memcached.client().get("tunnelled").unwrap().filter(|value| value == b"x")
    });
    drop(raw);
    eventually("the session is over", SOON, || {
        (fleet.sites[0].sidecar.status()["tunnelled_sessions"] == 0).then_some(())
    });
}

#[test]
fn who_gets_no_tunnel() {
    let mut fleet = Plan::of(2).sidecars(&["--max-sessions", "2"]).start();
    let door = fleet.sites[0].sidecar.settings().peer_listen.clone().unwrap();
    let refused = |site: &str| Client::connect(&format!("tunnel:{site}@{door}")).unwrap_err().to_string();
    assert_eq!(refused("stranger"), "ml refused unknown-peer\r\n");
    assert_eq!(refused("a"), "ml refused same-site\r\n");
    let mut ahead = Client::to(&door);
    ahead.send("ml hello V2 Sb R1 Qsession Cffffffffffffffff\r\n").unwrap();
    assert!(ahead.line().unwrap().starts_with("ml hello "));
    assert_eq!(ahead.line().unwrap(), "ml refused clock\r\n");
    // Tunnels take seats of the same number as apps.
    let seated = [fleet.sites[0].sidecar.client(), Client::to(&format!("tunnel:b@{door}"))];
    eventually("both have a seat", SOON, || (fleet.sites[0].sidecar.status()["sessions"] == 2).then_some(()));
    assert_eq!(refused("b"), "ml refused busy\r\n");
    drop(seated);
    fleet.sites[0].memcached.kill();
    eventually("its memcached is down", SOON, || {
        (refused("b") == "ml refused upstream-down\r\n").then_some(())
    });
}

/// A memcached that stands still keeps what it has, and what it was sent: when it goes on, late writes do not win over
/// what apps wrote at the peer meanwhile.
#[test]
fn a_frozen_memcached_is_left_and_found_again() {
    let fleet = plan().sidecars(&["--upstream-timeout", "500ms"]).start();
    let load = Load::start(fleet.sites[0].sidecar.address(), 4);
    some_time();
    let before = fleet.sites[0].sidecar.metric("memcloud_proxy_failovers_total", &[]);
    fleet.sites[0].memcached.hang();
    wait_for(&fleet, 0, "away");
    some_time();
    let ready = http::get(&fleet.sites[0].sidecar.settings().admin, "/ready").unwrap();
    assert_eq!(ready.0, 200, "{ready:?}");
    assert_eq!(fleet.sites[0].sidecar.status()["failover"]["peer"], "b");
    fleet.sites[0].memcached.resume();
    wait_for(&fleet, 0, "local");
    some_time();
    let records = load.end();
    report("frozen", &records);
    fleet.wait_in_sync(SOON);
    for record in &records {
        assert!(record.stale.is_empty() && record.misses == 0, "{record:?}");
        assert!(record.gap < Duration::from_secs(4), "{record:?}");
        // What was in flight, once, and for binary the connection with it.
        assert!(record.failures.len() <= 3, "{record:?}");
    }
    everything_is_there(&fleet, &records);
    equal(&fleet);
    let served = fleet.sites[0].sidecar.metric("memcloud_proxy_failover_requests_total", &[]);
    assert!(served > 100.0, "{served}");
    // Sites that start empty may lead to one another until they know that there is nothing to copy.
    let failovers = fleet.sites[0].sidecar.metric("memcloud_proxy_failovers_total", &[]);
    assert!((failovers - before - 1.0).abs() < 0.5, "{before} {failovers}");
}

/// The peer that serves us waits for our acknowledgement, which we cannot give; the tunnel has more patience than that.
#[test]
fn a_write_at_the_peer_is_answered_whoever_it_waits_for() {
    let fleet = plan().sidecars(&["--ack", "peer", "--upstream-timeout", "500ms"]).start();
    fleet.wait_in_sync(SOON);
    let mut client = fleet.sites[0].sidecar.client();
    assert_eq!(client.set("k", b"1").unwrap(), "STORED");
    fleet.sites[0].memcached.hang();
    assert_eq!(client.set("k", b"2").unwrap(), "SERVER_ERROR memcached does not answer");
    wait_for(&fleet, 0, "away");
    assert_eq!(client.set("k", b"3").unwrap(), "STORED");
    assert_eq!(client.get("k").unwrap().unwrap(), b"3");
    fleet.sites[0].memcached.resume();
    wait_for(&fleet, 0, "local");
    fleet.wait_in_sync(SOON);
    for site in &fleet.sites {
        assert_eq!(site.memcached.client().get("k").unwrap().unwrap(), b"3");
    }
}

/// Killed and started again, empty.
#[test]
fn a_dead_memcached_is_left_and_found_again() {
    let mut fleet = plan().start();
    let mut client = fleet.sites[0].sidecar.client();
    assert_eq!(client.set("early", b"1").unwrap(), "STORED");
    fleet.wait_in_sync(SOON);
    let load = Load::start(fleet.sites[0].sidecar.address(), 4);
    some_time();
    fleet.sites[0].memcached.kill();
    wait_for(&fleet, 0, "away");
    some_time();
    fleet.sites[0].memcached.restart();
    let mut missed = 0;
    eventually("memcached serves again", SOON, || {
        // Never anything else; a resync may drop what it cannot judge.
        let found = client.get("early").unwrap();
        assert!(found.as_deref().is_none_or(|value| value == b"1"), "{found:?}");
        missed += u64::from(found.is_none());
        (fleet.sites[0].sidecar.status()["failover"]["state"] == "local").then_some(())
    });
    println!("dead: what nobody touched was missed {missed} times");
    some_time();
    let records = load.end();
    report("dead", &records);
    fleet.wait_in_sync(SOON);
    for record in &records {
        assert!(record.gap < Duration::from_secs(2), "{record:?}");
        assert!(record.failures.len() <= 3, "{record:?}");
    }
    everything_is_there(&fleet, &records);
    equal(&fleet);
}

/// With `--ack peer` no write that an app was told of is lost with a memcached: each has a key of its own, so nothing
/// that came later hides it.
#[test]
fn no_acknowledged_write_dies_with_a_memcached() {
    let mut fleet = plan().sidecars(&["--ack", "peer"]).start();
    let load = Load::spread(fleet.sites[0].sidecar.address(), 4);
    for _ in 0..2 {
        some_time();
        fleet.sites[0].memcached.kill();
        wait_for(&fleet, 0, "away");
        some_time();
        fleet.sites[0].memcached.restart();
        wait_for(&fleet, 0, "local");
    }
    some_time();
    let records = load.end();
    fleet.wait_in_sync(SOON);
    let all: Vec<&String> = records.iter().flat_map(|record| &record.keys).collect();
    let missing = fleet.sites.iter().map(|site| {
        let mut client = site.memcached.client();
        all.iter().filter(|key| client.get(key).unwrap().is_none()).collect()
    });
    let missing: Vec<Vec<_>> = missing.collect();
    println!(
        "of {} acknowledged writes {:?} are missing",
        all.len(),
        missing.iter().map(Vec::len).collect::<Vec<_>>()
    );
    assert!(missing.iter().all(Vec::is_empty) && all.len() > 1000, "of {} missing: {missing:?}", all.len());
}

/// What was written at the peer does not arrive in time: the peer goes on serving, and no app notices.
#[test]
fn a_return_that_fails_is_tried_again() {
    let fleet = plan().sidecars(&["--upstream-timeout", "2s"]).start();
    fleet.sites[0].memcached.hang();
    wait_for(&fleet, 0, "away");
    fleet.cable(1, 0).stall(Direction::Forward);
    let load = Load::start(fleet.sites[0].sidecar.address(), 4);
    fleet.sites[0].memcached.resume();
    wait_for(&fleet, 0, "returning");
    wait_for(&fleet, 0, "away");
    fleet.heal();
    wait_for(&fleet, 0, "local");
    some_time();
    let records = load.end();
    report("slow", &records);
    for record in &records {
        assert!(record.failures.is_empty() && record.stale.is_empty() && record.misses == 0, "{record:?}");
    }
    fleet.wait_in_sync(SOON);
    everything_is_there(&fleet, &records);
    equal(&fleet);
}

/// Both sites lose their memcached: each one's apps hear of it, and no session goes round in circles.
#[test]
fn nobody_serves_when_both_are_down() {
    let mut fleet = plan().start();
    let mut clients: Vec<Client> = fleet.sites.iter().map(|site| site.sidecar.client()).collect();
    for site in &mut fleet.sites {
        site.memcached.kill();
    }
    for site in 0..2 {
        wait_for(&fleet, site, "stranded");
    }
    for client in &mut clients {
        let started = Instant::now();
        let answer = client.set("k", b"v").unwrap();
        assert!(answer.starts_with("SERVER_ERROR memcached"), "{answer}");
        assert!(started.elapsed() < Duration::from_millis(500), "{:?}", started.elapsed());
    }
    for site in &fleet.sites {
        let status = site.sidecar.status();
        assert_eq!(status["tunnelled_sessions"], 0, "{status}");
        assert_eq!(http::get(&site.sidecar.settings().admin, "/ready").unwrap().0, 503);
    }
    // One comes back: it serves both.
    fleet.sites[1].memcached.restart();
    wait_for(&fleet, 0, "away");
    for client in &mut clients {
        eventually("it is served", SOON, || (client.set("k", b"v").unwrap() == "STORED").then_some(()));
    }
}

/// The peer that serves is lost as well: the next one takes over, then none.
#[test]
fn a_peer_that_dies_is_replaced() {
    let mut fleet = Plan::of(3).sidecars(&["--failover", "peer", "--peer-timeout", "1s"]).start();
    let mut client = fleet.sites[0].sidecar.client();
    assert_eq!(client.set("early", b"1").unwrap(), "STORED");
    fleet.wait_in_sync(SOON);
    fleet.sites[0].memcached.kill();
    wait_for(&fleet, 0, "away");
    assert_eq!(client.get("early").unwrap().unwrap(), b"1");
    assert_eq!(client.set("second", b"2").unwrap(), "STORED");
    eventually("site c has it", SOON, || fleet.sites[2].memcached.client().get("second").unwrap());
    fleet.sites[1].sidecar.process_mut().kill();
    eventually("site c serves", SOON, || {
        let status = fleet.sites[0].sidecar.status();
        (status["failover"]["peer"] == "c" && status["failover"]["state"] == "away").then_some(())
    });
    assert_eq!(client.get("second").unwrap().unwrap(), b"2");
    fleet.sites[2].memcached.kill();
    wait_for(&fleet, 0, "stranded");
    assert!(client.get("second").unwrap_err().to_string().starts_with("SERVER_ERROR "));
}

fn plan() -> Plan {
    Plan::of(2).sidecars(&["--failover", "peer"])
}

/// Load goes on; nothing is waited for.
fn some_time() {
    let end = Instant::now() + Duration::from_millis(700);
    eventually("time passes", SOON, || (Instant::now() > end).then_some(()));
}

fn wait_for(fleet: &Fleet, site: usize, state: &str) {
    let what = format!("site {site} is {state}");
    let mut last = Instant::now();
    eventually(&what, SOON, || {
        let status = fleet.sites[site].sidecar.status();
        if last.elapsed() > SOON / 2 {
            last = Instant::now();
            println!("{what}: still {status}");
        }
        (status["failover"]["state"] == state).then_some(())
    });
}

fn report(what: &str, records: &[Record]) {
    for record in records {
        println!(
            "{what}: {:?} {} writes {} reads, longest gap {:?}, {} misses, stale {:?}, failures {:?}",
            record.dialect,
            record.writes,
            record.reads,
            record.gap,
            record.misses,
            record.stale,
            record.failures
        );
    }
}

/// Every acknowledged write is there, or a newer one, on every site.
fn everything_is_there(fleet: &Fleet, records: &[Record]) {
    for site in &fleet.sites {
        let mut client = site.memcached.client();
        for record in records {
            let found = client.get(&record.key).unwrap().map(|value| String::from_utf8(value).unwrap());
            let found: Option<u64> = found.and_then(|value| value.parse().ok());
            assert!(
                found.is_some_and(|found| (record.acknowledged..=record.sent).contains(&found)),
                "{found:?} at {}: {record:?}",
                site.sidecar.settings().site
            );
        }
    }
}

fn equal(fleet: &Fleet) {
    let memcacheds: Vec<_> = fleet.sites.iter().map(|site| &site.memcached).collect();
    let result = compare(&memcacheds);
    assert!(result.is_equal() && result.one_sided.is_empty(), "{result:?}");
}
