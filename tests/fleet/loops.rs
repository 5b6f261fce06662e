//! A write is applied exactly once per site, whatever the topology; an eviction is nobody else's business.

#![allow(clippy::unwrap_used, reason = "a broken expectation of a test ends the test")]

use std::time::{Duration, Instant};

use memcloud_tests::compare::{compare, keys};
use memcloud_tests::{Fleet, Memcached, Plan, eventually};

const WITHIN: Duration = Duration::from_secs(30);
const MUTATIONS: &str = "memcloud_proxy_replication_mutations_total";

/// Three fully meshed sites, a few hundred writes on each, every one to a key of its own so that none supersedes
/// another: memcached's own counters must show each write once, and stay there.
#[test]
fn three_sites_apply_each_write_once() {
    let fleet = Plan::of(3).start();
    let before: Vec<u64> = stat(&fleet, "cmd_set");
    let written = 300;
    for (site, at) in fleet.sites.iter().enumerate() {
        let mut client = at.sidecar.client();
        for number in 0..written {
            let answer = client.set(&format!("from{site}:{number}"), b"once").unwrap();
            assert_eq!(answer, "STORED");
        }
    }
    fleet.wait_in_sync(WITHIN);
    let all = 3 * written;
    let counted = |fleet: &Fleet| -> Vec<u64> {
        stat(fleet, "cmd_set").iter().zip(&before).map(|(after, before)| after - before).collect()
    };
    assert_eq!(counted(&fleet), vec![all; 3], "{}", fleet.statuses());
    for site in &fleet.sites {
        let received = applied(site.sidecar.metrics().as_str());
        assert_eq!(
            received,
            2 * written,
            "applied at {}:\n{}",
            site.sidecar.settings().site,
            mutations(&fleet)
        );
    }
    // Nothing goes on circling: heartbeats pass, counters stay.
    let carried: u64 = fleet.cables().map(|cable| cable.carried_bytes()).sum();
    eventually("heartbeats have passed", WITHIN, || {
        (fleet.cables().map(|cable| cable.carried_bytes()).sum::<u64>() > carried + 500).then_some(())
    });
    assert_eq!(counted(&fleet), vec![all; 3], "{}", mutations(&fleet));
    let memcacheds: Vec<&Memcached> = fleet.sites.iter().map(|site| &site.memcached).collect();
    let result = compare(&memcacheds);
    assert!(result.is_equal() && result.held as u64 == all, "{result:?}");
}

/// The same for deletions: each memcached deletes each key once.
#[test]
fn three_sites_delete_once() {
    let fleet = Plan::of(3).start();
    let keys = 200;
    let mut client = fleet.sites[0].sidecar.client();
    for number in 0..keys {
        assert_eq!(client.set(&format!("d{number}"), b"x").unwrap(), "STORED");
    }
    fleet.wait_in_sync(WITHIN);
    let mut client = fleet.sites[1].sidecar.client();
    for number in 0..keys {
        assert_eq!(client.ask(&format!("delete d{number}")), "DELETED");
    }
    fleet.wait_in_sync(WITHIN);
    assert_eq!(stat(&fleet, "delete_hits"), vec![keys; 3]);
    assert_eq!(stat(&fleet, "delete_misses"), vec![0; 3]);
    assert_eq!(stat(&fleet, "curr_items"), vec![0; 3]);
}

/// One site has room for a fraction of the items: what it evicts stays on the other, in both directions of writing.
#[test]
fn an_eviction_deletes_nothing_elsewhere() {
    let fleet = Plan::of(2).memcached(0, &["-m", "4"]).start();
    let value = vec![b'e'; 8000];
    let count = 2000;
    for (site, half) in [(1, 0..count / 2), (0, count / 2..count)] {
        let mut client = fleet.sites[site].sidecar.client();
        for number in half {
            assert_eq!(client.set(&format!("evict{number}"), &value).unwrap(), "STORED");
        }
    }
    fleet.wait_in_sync(WITHIN);
    let evicted = stat(&fleet, "evictions");
    let items = stat(&fleet, "curr_items");
    println!("evictions {evicted:?}, items {items:?}");
    assert!(evicted[0] > 500 && evicted[1] == 0, "{evicted:?}");
    assert_eq!(items[1], count);
    assert_eq!(keys(&fleet.sites[1].memcached).len() as u64, count);
    assert_eq!(stat(&fleet, "delete_hits")[1], 0);
}

/// What expires on one side is not deleted on the other: there it has been given more time meanwhile.
#[test]
fn expiry_is_no_deletion() {
    let fleet = Plan::of(2).start();
    let mut clients: Vec<_> = fleet.sites.iter().map(|site| site.sidecar.client()).collect();
    clients[0].send("set short 0 2 1\r\nx\r\n").unwrap();
    assert_eq!(clients[0].line().unwrap(), "STORED\r\n");
    fleet.wait_in_sync(WITHIN);
    // Written past the proxies, so that the two sides differ on purpose.
    assert_eq!(fleet.sites[1].memcached.client().ask("touch short 1000"), "TOUCHED");
    let end = Instant::now() + Duration::from_secs(5);
    eventually("it expires on one side", WITHIN, || clients[0].get("short").unwrap().is_none().then_some(()));
    eventually("some time more", WITHIN, || (Instant::now() > end).then_some(()));
    fleet.wait_in_sync(WITHIN);
    assert_eq!(clients[1].get("short").unwrap().as_deref(), Some(b"x".as_slice()));
}

fn stat(fleet: &Fleet, name: &str) -> Vec<u64> {
    fleet.sites.iter().map(|site| site.memcached.client().stat(name)).collect()
}

/// Mutations from peers that were applied, by the site's own count.
fn applied(metrics: &str) -> u64 {
    memcloud_tests::http::metric(metrics, MUTATIONS, &["outcome=\"applied\""]) as u64
}

fn mutations(fleet: &Fleet) -> String {
    let lines = fleet.sites.iter().map(|site| {
        let metrics = site.sidecar.metrics();
        let own = metrics.lines().filter(|line| line.starts_with(MUTATIONS));
        format!("{}:\n{}\n", site.sidecar.settings().site, own.collect::<Vec<_>>().join("\n"))
    });
    lines.collect()
}
