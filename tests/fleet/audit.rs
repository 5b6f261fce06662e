//! `memcloud-proxy audit` beside real memcacheds and proxies: what it finds, what it repairs, and what it leaves alone.

#![allow(clippy::unwrap_used, reason = "a broken expectation of a test ends the test")]

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use memcloud_tests::binary::{Frame, reply};
use memcloud_tests::process::Folder;
use memcloud_tests::server::Server;
use memcloud_tests::{Memcached, Plan, ports, sidecar};
use serde_json::Value;

/// Exit code, what was said to programs, and what to people.
struct Audited {
    code: i32,
    json: Value,
    stderr: String,
}

fn audit(replicas: &[&str], more: &[&str]) -> Audited {
    let mut command = Command::new(sidecar::binary());
    command.args(["audit", "--json"]).args(more);
    if !more.contains(&"--lag") {
        command.args(["--lag", "100ms"]);
    }
    for replica in replicas {
        command.args(["--replica", replica]);
    }
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let json = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"));
    Audited { code: output.status.code().unwrap(), json, stderr }
}

impl Audited {
    /// equal, different, one-sided
    fn counts(&self) -> [u64; 3] {
        ["equal", "different", "one_sided"].map(|name| self.json[name].as_u64().unwrap())
    }

    fn samples(&self) -> Vec<[String; 3]> {
        let samples = self.json["samples"].as_array().unwrap().iter();
        let mut samples: Vec<_> = samples
            .map(|sample| {
                let holds = sample["holds"].as_array().unwrap().iter();
                let holds: String = holds.map(|holds| holds.as_str().unwrap_or("-")).collect();
                [
                    sample["key"].as_str().unwrap().to_owned(),
                    sample["differs"].as_str().unwrap().to_owned(),
                    holds,
                ]
            })
            .collect();
        samples.sort();
        samples
    }
}

/// Stores by the binary protocol, which takes any bytes as a key.
fn store_binary(memcached: &Memcached, key: &[u8], exptime: u32, value: &[u8]) {
    let extras = [7_u32.to_be_bytes(), exptime.to_be_bytes()].concat();
    let mut client = memcached.client();
    client.send(Frame { extras: &extras, key, value, ..Frame::new(1) }.bytes()).unwrap();
    assert_eq!(reply(&mut client).unwrap().status, 0);
}

fn two(folder: &Folder) -> [Memcached; 2] {
    ["a", "b"].map(|name| Memcached::start(name, folder, &["-m", "128"]))
}

fn addresses(memcacheds: &[Memcached]) -> Vec<&str> {
    memcacheds.iter().map(Memcached::address).collect()
}

fn sample(key: &str, differs: &str, holds: &str) -> [String; 3] {
    [key, differs, holds].map(str::to_owned)
}

/// Far above what a mirror takes, even where many tests share few cores.
const LAG: &str = "3s";

const NAMELESS: &[u8] = &[b' '; 200];

/// Keys of every kind, equal on all.
fn fill(memcacheds: &[Memcached]) {
    for memcached in memcacheds {
        let mut client = memcached.client();
        for number in 0..500 {
            assert_eq!(client.ask(&format!("set k{number} {number} 0 3\r\nabc")), "STORED");
        }
        assert_eq!(client.ask("set ends 0 1000 3\r\nabc"), "STORED");
        assert_eq!(client.ask("ms YSBi 3 b\r\nabc"), "HD");
        store_binary(memcached, NAMELESS, 1000, b"abc");
        assert_eq!(client.set("large", &vec![b'x'; 900_000]).unwrap(), "STORED");
    }
}

#[test]
fn equal_replicas_are_equal() {
    let folder = Folder::new();
    let memcacheds = [
        Memcached::start("a", &folder, &[]),
        Memcached::start_unix("b", &folder, &[]),
        Memcached::start_server(&Server::newest(), "c", &folder, &[]),
    ];
    assert_eq!(audit(&addresses(&memcacheds), &[]).counts(), [0, 0, 0], "empty ones are equal");
    fill(&memcacheds);
    let found = audit(&addresses(&memcacheds), &[]);
    assert_eq!((found.code, found.counts()), (0, [504, 0, 0]), "{}", found.json);
    assert_eq!(found.json["result"], "equal");
    assert_eq!(found.json["replicas"][1]["items"], 504);
    assert!(found.stderr.is_empty(), "no bar where nobody looks: {}", found.stderr);
}

#[test]
fn each_kind_of_difference_is_named() {
    let folder = Folder::new();
    let memcacheds = two(&folder);
    fill(&memcacheds);
    let [mut a, mut b] = memcacheds.each_ref().map(Memcached::client);
    b.ask("set k1 1 0 3\r\nabd");
    b.ask("set k2 9 0 3\r\nabc");
    b.ask("touch ends 2000");
    b.ask("md k3 I");
    b.ask("delete k4");
    a.ask("set mine 0 0 3\r\nabc");
    b.ask("ms YSBi 3 b\r\nabd");
    store_binary(&memcacheds[1], NAMELESS, 1000, b"abd");
    // Gone or about to go on one side only: no difference.
    a.ask("set gone 0 -1 3\r\nabc");
    a.ask("set going 0 1 3\r\nabc");
    let found = audit(&addresses(&memcacheds), &[]);
    assert_eq!((found.code, found.counts()), (1, [497, 6, 2]), "{}", found.json);
    let nameless = " ".repeat(200);
    let expected = [
        sample(&nameless, "value", "AB"),
        sample("a b", "value", "AB"),
        sample("ends", "expiry", "AB"),
        sample("k1", "value", "AB"),
        sample("k2", "value", "AB"),
        sample("k3", "value", "AB"),
        sample("k4", "one_sided", "A-"),
        sample("mine", "one_sided", "A-"),
    ];
    assert_eq!(found.samples(), expected);
    let [of_a, of_b] = [0, 1].map(|index| &found.json["replicas"][index]);
    assert_eq!((&of_a["only_here"], &of_a["missing_here"]), (&2.into(), &0.into()));
    assert_eq!((&of_b["only_here"], &of_b["missing_here"]), (&0.into(), &2.into()));
    assert!(!found.json.to_string().contains("abd"), "values are not told");
    assert!(b.ask("mg k3").contains('W'), "the win of a stale item is still there");
    assert_eq!(audit(&addresses(&memcacheds), &["--samples", "1"]).samples().len(), 3, "one of each kind");
}

#[test]
fn a_repair_leaves_no_difference() {
    let folder = Folder::new();
    let memcacheds = two(&folder);
    fill(&memcacheds);
    let [mut a, mut b] = memcacheds.each_ref().map(Memcached::client);
    b.ask("set k1 1 0 3\r\nabd");
    a.ask("set mine 0 0 3\r\nabc");
    b.ask("ms YSBi 3 b\r\nabd");
    store_binary(&memcacheds[1], NAMELESS, 1000, b"abd");
    let found = audit(&addresses(&memcacheds), &["--repair"]);
    assert_eq!((found.code, found.counts()), (0, [501, 3, 1]), "{}", found.json);
    assert_eq!(found.json["repair"], serde_json::json!({ "deleted": 4, "still_differing": 0 }));
    for client in [&mut a, &mut b] {
        assert_eq!(client.get("k1").unwrap(), None, "a miss on both sides");
        assert_eq!(client.get("k2").unwrap().as_deref(), Some(&b"abc"[..]));
    }
    assert_eq!(audit(&addresses(&memcacheds), &[]).counts(), [501, 0, 0]);
}

#[test]
fn what_cannot_be_compared_says_why() {
    let folder = Folder::new();
    let memcached = Memcached::start("a", &folder, &[]);
    let nobody = ports::free_address();
    let found = audit(&[memcached.address(), &nobody], &[]);
    assert_eq!((found.code, found.json["result"].as_str()), (2, Some("failed")));
    assert!(found.stderr.contains(&nobody) && found.stderr.contains("refused"), "{}", found.stderr);
    for options in [&["-X"][..], &["-o", "no_lru_crawler"]] {
        let silent = Memcached::start("silent", &folder, options);
        let found = audit(&[memcached.address(), silent.address()], &[]);
        assert_eq!(found.code, 2);
        let reason = found.json["reason"].as_str().unwrap();
        assert!(reason.contains(silent.address()) && reason.contains("refuses"), "{reason}");
    }
    let hanging = Memcached::start("hanging", &folder, &[]);
    hanging.hang();
    assert_eq!(audit(&[memcached.address(), hanging.address()], &["--timeout", "200ms"]).code, 2);
    hanging.resume();
}

#[test]
fn wrong_flags_are_64() {
    for args in
        [&["audit"][..], &["audit", "--replica", "a:1"], &["audit", "--replica", "a:1", "--replica", "a:1"]]
    {
        assert_eq!(Command::new(sidecar::binary()).args(args).output().unwrap().status.code(), Some(64));
    }
}

/// A replica whose memcached is another one at the end than at the beginning says nothing.
#[test]
fn a_replica_that_is_replaced_is_noticed() {
    let folder = Folder::new();
    let mut memcacheds = two(&folder);
    fill(&memcacheds);
    memcacheds[1].client().ask("delete k1");
    let addresses: Vec<String> = memcacheds.iter().map(|memcached| memcached.address().to_owned()).collect();
    let [a, b] = [&addresses[0], &addresses[1]].map(String::as_str);
    sidecar::binary();
    // It waits for the lag because of k1, and meanwhile the second one is started anew.
    let found = std::thread::scope(|scope| {
        let audited = scope.spawn(|| audit(&[a, b], &["--lag", "3s"]));
        memcloud_tests::eventually("the audit has read all", Duration::from_secs(10), || {
            (memcacheds[1].client().stat("cmd_get") > 500).then_some(())
        });
        memcacheds[1].restart();
        audited.join().unwrap()
    });
    assert_eq!(found.code, 2, "{}", found.json);
    assert!(found.json["reason"].as_str().unwrap().contains("restarted"), "{}", found.json);
}

/// Writers on both sites of a replicated pair, and an audit through both proxies meanwhile, of old and new servers.
#[test]
fn live_writes_raise_no_alarm() {
    for server in [Server::distribution(), Server::newest()] {
        let fleet = Plan::of(2).server(&server).start();
        let addresses = fleet.addresses();
        let replicas: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for (site, address) in replicas.iter().enumerate() {
                let over = &over;
                scope.spawn(move || {
                    let mut client = memcloud_tests::Client::to(address);
                    for number in (0_u64..).take_while(|_| !over.load(Ordering::Relaxed)) {
                        let key = number * 7919 % 2000;
                        client.ask(&format!("set k{key} 0 0 12\r\n{site}{number:011}"));
                        // One that is written all the time.
                        client.ask(&format!("set hot 0 0 12\r\n{site}{number:011}"));
                    }
                });
            }
            let found = scope.spawn(|| audit(&replicas, &["--lag", LAG])).join();
            over.store(true, Ordering::Relaxed);
            let found = found.unwrap();
            assert_eq!((found.code, &found.counts()[1..]), (0, &[0, 0][..]), "{}", found.json);
        });
        fleet.wait_in_sync(Duration::from_secs(15));
        let found = audit(&replicas, &[]);
        assert_eq!(found.counts(), [fleet.sites[0].memcached.client().stat("curr_items"), 0, 0]);
    }
}

/// Through the proxies a repair is mirrored like any deletion, and both stay in sync.
#[test]
fn a_repair_through_proxies() {
    let fleet = Plan::of(3).start();
    let addresses = fleet.addresses();
    let replicas: Vec<&str> = addresses.iter().map(String::as_str).collect();
    for number in 0..100 {
        fleet.sites[0].sidecar.client().set(&format!("k{number}"), b"abc").unwrap();
    }
    fleet.wait_in_sync(Duration::from_secs(15));
    // Past the proxies.
    fleet.sites[1].memcached.client().set("k1", b"abd").unwrap();
    fleet.sites[2].memcached.client().ask("delete k2");
    let found = audit(&replicas, &[]);
    assert_eq!((found.code, found.counts()), (1, [98, 1, 1]), "{}", found.json);
    assert_eq!(found.samples(), [sample("k1", "value", "ABA"), sample("k2", "one_sided", "AA-")]);
    let repaired = audit(&replicas, &["--repair"]);
    assert_eq!((repaired.code, &repaired.json["repair"]["deleted"]), (0, &2.into()), "{}", repaired.json);
    fleet.wait_in_sync(Duration::from_secs(15));
    assert_eq!(audit(&replicas, &[]).counts(), [98, 0, 0]);
}
