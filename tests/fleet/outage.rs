//! A peer that is dead or stalled: apps do not feel it, memory stays within its bound, and afterwards all drains.
//!
//! `MEMCLOUD_OUTAGE_SECONDS` sets how long each outage lasts (60 in the full check).

#![allow(clippy::unwrap_used, reason = "a broken expectation of a test ends the test")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use memcloud_tests::compare::compare;
use memcloud_tests::{Client, Direction, Fleet, Memcached, Plan, Rng, eventually, seconds_from_env};

const MIB: u64 = 1024 * 1024;
/// More distinct data than the bound holds as payload, fewer keys than it holds as keys.
const KEYS: u64 = 30_000;
const VALUE: u64 = 4096;
const BACKLOG_MIB: u64 = 32;
const WITHIN: Duration = Duration::from_secs(60);

#[test]
fn a_frozen_peer() {
    outage(
        "frozen peer",
        |fleet| fleet.sites[1].sidecar.process().freeze(),
        |fleet| {
            fleet.sites[1].sidecar.process().thaw();
        },
    );
}

#[test]
fn a_cut_link() {
    outage("cut link", |fleet| fleet.part(0, 1), |fleet| fleet.heal());
}

#[test]
fn a_stalled_link() {
    let stall = |fleet: &mut Fleet| {
        for (from, to) in [(0, 1), (1, 0)] {
            fleet.cable(from, to).stall(Direction::Forward);
            fleet.cable(from, to).stall(Direction::Back);
        }
    };
    outage("stalled link", stall, |fleet| fleet.heal());
}

#[test]
fn a_frozen_memcached_behind_the_peer() {
    outage(
        "frozen memcached",
        |fleet| fleet.sites[1].memcached.hang(),
        |fleet| fleet.sites[1].memcached.resume(),
    );
}

/// A peer's sidecar that was killed and started again: what is owed to it is kept meanwhile.
#[test]
fn a_dead_peer() {
    outage(
        "dead peer",
        |fleet| fleet.sites[1].sidecar.process_mut().kill(),
        |fleet| fleet.sites[1].sidecar.restart(),
    );
}

/// Past the second bound the backlog is given up: that is said until a comparison has made it good, deletions as well.
#[test]
fn an_overflow_is_shown() {
    let fleet = Plan::of(2).sidecars(&["--backlog-bytes", "1MiB"]).start();
    let mut client = fleet.sites[0].sidecar.client();
    for number in 0..100 {
        assert_eq!(client.set(&format!("gone:{number}"), b"x").unwrap(), "STORED");
    }
    fleet.wait_in_sync(WITHIN);
    fleet.part(0, 1);
    for number in 0..100 {
        assert_eq!(client.ask(&format!("delete gone:{number}")), "DELETED");
    }
    for batch in 0..100 {
        let requests = (0..500)
            .map(|number| format!("set overflow:{batch}:{number} 0 0 100 noreply\r\n{:0100}\r\n", number));
        client.send(requests.collect::<String>()).unwrap();
    }
    assert!(client.ask("mn").starts_with("MN"));
    let status = eventually("the loss is shown", WITHIN, || {
        let status = fleet.sites[0].sidecar.status();
        (status["lost_unrepaired"].as_u64().unwrap_or(0) > 0).then_some(status)
    });
    assert_eq!(status["in_sync"], false, "{status}");
    let lost = fleet.sites[0].sidecar.metric("memcloud_proxy_replication_lost_total", &[]);
    assert!(lost > 0.0, "the metric says {lost}");
    let backlog = status["peers"][0]["backlog_bytes"].as_u64().unwrap_or(u64::MAX);
    assert!(backlog <= MIB, "{status}");
    fleet.heal();
    eventually("new writes pass", WITHIN, || {
        client.set("after", b"x").unwrap();
        fleet.sites[1].memcached.client().get("after").unwrap().map(|_| ())
    });
    fleet.wait_in_sync(WITHIN);
    assert_eq!(fleet.sites[0].sidecar.status()["lost_unrepaired"], 0);
    let memcacheds: Vec<&Memcached> = fleet.sites.iter().map(|site| &site.memcached).collect();
    let result = compare(&memcacheds);
    assert!(result.is_equal() && result.held == 50_001, "{} items, {}", result.held, fleet.statuses());
    for site in &fleet.sites {
        let mut client = site.memcached.client();
        assert!((0..100).all(|number| client.get(&format!("gone:{number}")).unwrap().is_none()));
    }
}

fn outage(name: &str, begin: impl FnOnce(&mut Fleet), end: impl FnOnce(&mut Fleet)) {
    // One at a time: what is measured here is waiting.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let length = seconds_from_env("MEMCLOUD_OUTAGE_SECONDS", 5.0);
    let flags = ["--backlog-bytes", &format!("{BACKLOG_MIB}MiB"), "--peer-timeout", "1s"];
    let mut fleet = Plan::of(2).sidecars(&flags).start();
    let mut rng = Rng::announced(name, 5);
    let mut load = |fleet: &Fleet, length| write(fleet.sites[0].sidecar.address(), length, &mut rng);
    let healthy = load(&fleet, length.min(Duration::from_secs(10)));
    fleet.wait_in_sync(WITHIN);
    let resident = fleet.sites[0].sidecar.process().resident_bytes();

    begin(&mut fleet);
    let during = load(&fleet, length);
    let peak = fleet.sites[0].sidecar.process().resident_peak_bytes();
    println!(
        "{name}: p50 {:?} p99 {:?} max {:?} of {} writes; with a healthy peer p50 {:?} p99 {:?} max {:?} of {}; memory {} MiB, peak {} MiB",
        during.at(50.0),
        during.at(99.0),
        during.at(100.0),
        during.0.len(),
        healthy.at(50.0),
        healthy.at(99.0),
        healthy.at(100.0),
        healthy.0.len(),
        resident / MIB,
        peak / MIB,
    );
    // The bound, as much again for what the allocator and the tables add, and what an empty sidecar needs.
    assert!(peak < (2 * BACKLOG_MIB + 64) * MIB, "peak memory {} MiB", peak / MIB);
    let noise = healthy.at(99.0) * 3 + Duration::from_millis(20);
    assert!(during.at(99.0) < noise, "p99 {:?}, with a healthy peer {:?}", during.at(99.0), healthy.at(99.0));

    end(&mut fleet);
    let took = fleet.wait_in_sync(WITHIN);
    let memcacheds: Vec<&Memcached> = fleet.sites.iter().map(|site| &site.memcached).collect();
    let result = compare(&memcacheds);
    println!("{name}: drained after {took:?}, {} items", result.held);
    assert!(
        result.is_equal() && result.held > 1000,
        "{} different, {} on one side only\n{:?}\n{}",
        result.different.len(),
        result.one_sided.len(),
        result.different.iter().chain(&result.one_sided).take(3).collect::<Vec<_>>(),
        fleet.statuses()
    );
}

/// Latencies of single writes, sorted.
struct Latencies(Vec<Duration>);

impl Latencies {
    fn at(&self, percent: f64) -> Duration {
        let last = self.0.len().saturating_sub(1);
        self.0.get((last as f64 * percent / 100.0) as usize).copied().unwrap_or_default()
    }
}

/// Four connections that write one item after the other, each at a steady pace well below what the machine can do, so
/// that the figures show waiting and not saturation.
fn write(address: &str, length: Duration, rng: &mut Rng) -> Latencies {
    let stop = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (mut client, mut rng, stop) = (Client::to(address), rng.fork(), Arc::clone(&stop));
            thread::spawn(move || {
                let mut taken = Vec::new();
                let value = rng.letters(VALUE as usize);
                while !stop.load(Ordering::Relaxed) {
                    let key = format!("outage:{}", rng.below(KEYS));
                    let started = Instant::now();
                    let answer = client
                        .set(&key, &value[..rng.between(VALUE / 2, VALUE) as usize])
                        .expect("an answer");
                    taken.push(started.elapsed());
                    assert_eq!(answer, "STORED");
                    // Paced, not synchronised: about 1,600 writes a second in all.
                    thread::sleep(Duration::from_millis(2));
                }
                taken
            })
        })
        .collect();
    let end = Instant::now() + length;
    eventually("the time is over", length * 2 + WITHIN, || (Instant::now() >= end).then_some(()));
    stop.store(true, Ordering::Relaxed);
    let mut all: Vec<Duration> =
        threads.into_iter().flat_map(|thread| thread.join().expect("a writer")).collect();
    all.sort_unstable();
    Latencies(all)
}
