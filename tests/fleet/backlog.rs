//! What is kept for a peer that is away: in memory by key, past its bound on disk, across a restart.
//!
//! `MEMCLOUD_OUTAGE_WRITES` sets how many writes 100,000 keys get while the peer is away (10,000,000 in the full check).

#![allow(clippy::unwrap_used, reason = "a broken expectation of a test ends the test")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use memcloud_tests::compare::compare;
use memcloud_tests::sidecar::Settings;
use memcloud_tests::{Client, Fleet, Memcached, Plan, Sidecar, eventually};
use rustix::process::Signal;

/// Generous: tests share their machine.
const WITHIN: Duration = Duration::from_secs(300);
/// What a key costs in the ledger beside itself and its value: `OVERHEAD` of `replication/table.rs`.
const KEY_OVERHEAD: u64 = 384;

/// Distinct keys count, not writes: what a peer is owed does not grow with how often they are written.
#[test]
fn a_backlog_is_as_long_as_its_keys_are_many() {
    const KEYS: u64 = 100_000;
    let writes = std::env::var("MEMCLOUD_OUTAGE_WRITES").map_or(300_000, |text| text.parse().unwrap());
    let fleet = Plan::of(2).start();
    let resident = fleet.sites[0].sidecar.process().resident_bytes();
    fleet.part(0, 1);
    let took = write(&mut fleet.sites[0].sidecar.client(), KEYS, writes);
    let status = fleet.sites[0].sidecar.status();
    let peer = &status["peers"][0];
    let name = key(0).len() as u64;
    assert_eq!(peer["backlog_entries"], KEYS.min(writes), "{status}");
    assert_eq!(peer["backlog_bytes"], KEYS.min(writes) * (KEY_OVERHEAD + name + VALUE as u64), "{status}");
    let grown = fleet.sites[0].sidecar.process().resident_bytes().saturating_sub(resident);
    let began = Instant::now();
    fleet.heal();
    fleet.wait_in_sync(WITHIN);
    println!(
        "{writes} writes in {took:?} to {KEYS} keys: backlog {} keys, {} bytes (resident {grown} more); in sync {:?} after the link came back",
        peer["backlog_entries"],
        peer["backlog_bytes"],
        began.elapsed()
    );
    assert_equal(&fleet, KEYS.min(writes));
}

/// Far more keys than memory has room for, and the proxy is stopped before the peer is back: the list on disk is all
/// that has to be sent, and nothing has to be compared.
#[test]
fn keys_on_disk_survive_a_restart() {
    const KEYS: u64 = 200_000;
    let mut fleet = listing(&[]);
    fleet.part(0, 1);
    let took = write(&mut fleet.sites[0].sidecar.client(), KEYS, KEYS);
    let status = fleet.sites[0].sidecar.status();
    assert_eq!(status["lost_unrepaired"], 0, "{status}");
    assert_eq!(status["in_sync"], false, "{status}");
    stop(&mut fleet.sites[0].sidecar);
    let restarted = Instant::now();
    fleet.sites[0].sidecar.relaunch();
    fleet.sites[0].sidecar.wait_until_ready();
    let ready = restarted.elapsed();
    let status = fleet.sites[0].sidecar.status();
    assert_eq!(
        (&status["peers"][0]["spilled_keys"], &status["lost_unrepaired"]),
        (&KEYS.into(), &0.into()),
        "{status}"
    );
    let bytes = fleet.sites[0].sidecar.metric("memcloud_proxy_spill_bytes", &[]);
    let before = compared(&fleet);
    let began = Instant::now();
    fleet.heal();
    fleet.wait_in_sync(WITHIN);
    println!(
        "{KEYS} keys written in {took:?}, {} bytes on disk a key, ready {ready:?} after the start, delivered in {:?}",
        bytes / KEYS as f64,
        began.elapsed()
    );
    assert_equal(&fleet, KEYS);
    assert_eq!(compared(&fleet), before, "{}", fleet.statuses());
    let status = fleet.sites[0].sidecar.status();
    assert_eq!(
        (&status["peers"][0]["spilled_keys"], &status["lost_unrepaired"]),
        (&0.into(), &0.into()),
        "{status}"
    );
    assert_eq!(fleet.sites[0].sidecar.metric("memcloud_proxy_resyncs_total", &["kind=\"listed\""]), 1.0);
}

/// Without a restart the list is delivered as well, and keys that are gone by then are gone at the peer.
#[test]
fn keys_on_disk_go_to_the_peer_as_they_are_by_then() {
    let fleet = listing(&[]);
    let before = compared(&fleet);
    let mut client = fleet.sites[0].sidecar.client();
    write(&mut client, 1_000, 1_000);
    fleet.wait_in_sync(WITHIN);
    fleet.part(0, 1);
    write(&mut client, 50_000, 50_000);
    for number in 0..500 {
        client.send(format!("delete {} noreply\r\n", key(number))).unwrap();
    }
    assert!(client.ask("mn").starts_with("MN"));
    assert!(fleet.sites[0].sidecar.metric("memcloud_proxy_spill_keys", &[]) > 10_000.0);
    fleet.heal();
    fleet.wait_in_sync(WITHIN);
    assert_equal(&fleet, 49_500);
    assert_eq!(compared(&fleet), before, "{}", fleet.statuses());
}

/// A list that reaches its bound is dropped: the sites are compared instead, and nobody's service stops.
#[test]
fn past_the_bound_on_disk_the_sites_are_compared() {
    let fleet = listing(&["--backlog-dir-bytes", "1MiB"]);
    fleet.part(0, 1);
    let mut client = fleet.sites[0].sidecar.client();
    eventually("the bound on disk is reached", WITHIN, || {
        write(&mut client, 50_000, 50_000);
        let lost = fleet.sites[0].sidecar.metric("memcloud_proxy_spill_errors_total", &["reason=\"bound\""]);
        (lost > 0.0).then_some(())
    });
    eventually("the loss is shown", WITHIN, || {
        (fleet.sites[0].sidecar.status()["lost_unrepaired"].as_u64()? > 0).then_some(())
    });
    fleet.heal();
    fleet.wait_in_sync(WITHIN);
    let memcacheds: Vec<&Memcached> = fleet.sites.iter().map(|site| &site.memcached).collect();
    let result = compare(&memcacheds);
    // A state that took too long on its way is dropped on both sides.
    assert!(result.is_equal() && result.held > 40_000, "{} items\n{}", result.held, fleet.statuses());
}

/// A disk that is full is no more than a list that is dropped.
#[test]
fn a_full_disk_stops_nobody() {
    let mut fleet = listing(&[]);
    let lists = fleet.folder.path().join("lists-a");
    stop(&mut fleet.sites[0].sidecar);
    let mut settings = fleet.sites[0].sidecar.settings().clone();
    settings.small_disk = Some((lists, 2 << 20));
    fleet.sites[0].sidecar = Sidecar::start(settings, &fleet.folder);
    fleet.wait_in_sync(WITHIN);
    fleet.part(0, 1);
    let mut client = fleet.sites[0].sidecar.client();
    let failed = ["reason=\"disk_full\""];
    let mut keys = 0;
    eventually("the disk is full", WITHIN, || {
        keys += 50_000;
        write(&mut client, keys, keys);
        let lost = fleet.sites[0].sidecar.metric("memcloud_proxy_spill_errors_total", &failed);
        (lost > 0.0).then_some(())
    });
    eventually("the loss is shown", WITHIN, || {
        (fleet.sites[0].sidecar.status()["lost_unrepaired"].as_u64()? > 0).then_some(())
    });
    fleet.heal();
    fleet.wait_in_sync(WITHIN);
    let memcacheds: Vec<&Memcached> = fleet.sites.iter().map(|site| &site.memcached).collect();
    let result = compare(&memcacheds);
    // A state that took too long on its way is dropped on both sides.
    assert!(
        result.is_equal() && result.held as u64 > keys * 4 / 5,
        "{} items\n{}",
        result.held,
        fleet.statuses()
    );
    let status = fleet.sites[0].sidecar.status();
    assert_eq!(status["lost_unrepaired"], 0, "{status}");
}

/// A folder that is in use, or cannot be used, is said at once: 69.
#[test]
fn a_folder_that_cannot_be_used_ends_the_proxy_at_its_start() {
    let fleet = listing(&[]);
    let refused = |dir: PathBuf| {
        let mut settings = Settings::new("a", fleet.sites[0].memcached.address());
        settings.peers = vec!["127.0.0.1:9".to_owned()];
        settings.extra = vec!["--backlog-dir".to_owned(), dir.display().to_string()];
        let mut second = Sidecar::launch(settings, &fleet.folder);
        let status = second.process_mut().wait(Duration::from_secs(10));
        assert_eq!(status.code(), Some(69), "{}", second.process().log());
        second.process().log()
    };
    let lists = fleet.folder.path().join("lists-a");
    assert!(refused(lists.clone()).contains("is in use by another proxy"));
    assert!(refused(lists.join("lock")).contains("name a folder that this process may write to"));
}

/// Two sites, the first with a folder for its lists and little memory.
fn listing(more: &[&str]) -> Fleet {
    let plan = Plan::of(2).sidecar_at(0, &["--backlog-bytes", "1MiB", "--drain-timeout", "1s"]);
    plan.sidecar_at(0, more).backlog_dirs().start()
}

/// `writes` sets over `keys` keys, in turn, and waits until all are answered.
fn write(client: &mut Client, keys: u64, writes: u64) -> Duration {
    let began = Instant::now();
    let mut number = 0;
    while number < writes {
        let until = writes.min(number + 1_000);
        let batch = (number..until)
            .map(|write| format!("set {} 0 0 {VALUE} noreply\r\n{write:0VALUE$}\r\n", key(write % keys)));
        client.send(batch.collect::<String>()).unwrap();
        assert!(client.ask("mn").starts_with("MN"));
        number = until;
    }
    began.elapsed()
}

/// Copies and comparisons so far, of both sites.
fn compared(fleet: &Fleet) -> Vec<u64> {
    let count = |status: serde_json::Value| status["peers"][0]["resyncs_full"].as_u64().unwrap();
    fleet.sites.iter().map(|site| count(site.sidecar.status())).collect()
}

fn key(number: u64) -> String {
    format!("backlog:{number:012}")
}

/// Ends a proxy in order.
fn stop(sidecar: &mut Sidecar) {
    sidecar.process().signal(Signal::TERM);
    let status = sidecar.process_mut().wait(Duration::from_secs(30));
    assert_eq!(status.code(), Some(0), "{}", sidecar.process().log());
}

fn assert_equal(fleet: &Fleet, items: u64) {
    let memcacheds: Vec<&Memcached> = fleet.sites.iter().map(|site| &site.memcached).collect();
    let result = compare(&memcacheds);
    assert!(
        result.is_equal() && result.held as u64 == items,
        "{} items, {} different, {} on one side only\n{:?}\n{}",
        result.held,
        result.different.len(),
        result.one_sided.len(),
        result.different.iter().chain(&result.one_sided).take(3).collect::<Vec<_>>(),
        fleet.statuses()
    );
}

const VALUE: usize = 100;
