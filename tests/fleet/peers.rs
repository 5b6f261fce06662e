//! Peers that come and go without a restart: the file is changed, and SIGHUP has it read again.

#![allow(clippy::unwrap_used, reason = "a broken expectation of a test ends the test")]

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use memcloud_tests::compare::compare;
use memcloud_tests::process::Folder;
use memcloud_tests::sidecar::{Settings, Sidecar};
use memcloud_tests::{Busy, Memcached, eventually, ports};
use rustix::process::Signal;

const ITEMS: u64 = 10_000;
const WITHIN: Duration = Duration::from_secs(30);

/// A site whose peers stand in a file.
struct Site {
    memcached: Memcached,
    sidecar: Sidecar,
    file: PathBuf,
    peer_listen: String,
}

impl Site {
    fn start(name: &str, folder: &Folder) -> Self {
        Self::start_with(name, folder, "", &[])
    }

    fn start_with(name: &str, folder: &Folder, text: &str, flags: &[&str]) -> Self {
        let memcached = Memcached::start(&format!("memcached-{name}"), folder, &["-m", "256"]);
        let file = folder.path().join(format!("{name}.yaml"));
        fs::write(&file, text).unwrap();
        let peer_listen = ports::free_address();
        let mut settings =
            Settings::new(name, memcached.address()).with(&["--config", file.to_str().unwrap()]).with(flags);
        settings.peer_listen = Some(peer_listen.clone());
        let sidecar = Sidecar::start(settings, folder);
        Self { memcached, sidecar, file, peer_listen }
    }

    fn configure(&self, text: &str) {
        fs::write(&self.file, text).unwrap();
        self.sidecar.process().signal(Signal::HUP);
    }

    fn peers(&self, peers: &[&Self]) {
        let lines = peers.iter().map(|peer| format!("  - {}\n", peer.peer_listen));
        let list = lines.collect::<String>();
        self.configure(&if list.is_empty() { "peer: []\n".to_owned() } else { format!("peer:\n{list}") });
    }

    fn has_peers(&self, count: usize) -> bool {
        self.sidecar.status()["peers"].as_array().is_some_and(|peers| peers.len() == count)
    }

    fn logs(&self, sentence: &str) {
        eventually(sentence, WITHIN, || self.sidecar.process().log().contains(sentence).then_some(()));
    }
}

/// Waits until these sites are a shard, and its sites have nothing to tell each other.
fn in_sync(sites: &[&Site]) {
    eventually("the shard is in sync", WITHIN, || {
        let is = |site: &&Site| site.has_peers(sites.len() - 1) && site.sidecar.in_sync();
        sites.iter().all(is).then_some(())
    });
}

fn fill(site: &Site) {
    site.sidecar.client().set_items(ITEMS, 8).unwrap();
}

/// Somebody who writes all the time, and deletes an item now and then.
fn busy(site: &Site) -> Busy {
    Busy::start_with(site.sidecar.client(), |client, writes| {
        if writes.is_multiple_of(7) {
            client.ask(&format!("delete item:{}", writes % 1000));
        }
    })
}

/// Every site holds the newest of each key that was written all the time.
fn nothing_is_stale(sites: &[&Site], newest: &[(String, String)]) {
    for site in sites {
        let mut client = site.memcached.client();
        for (key, value) in newest {
            assert_eq!(client.get(key).unwrap().as_deref(), Some(value.as_bytes()), "{key}");
        }
    }
}

fn lost(site: &Site) -> u64 {
    site.sidecar.status()["lost_unrepaired"].as_u64().unwrap()
}

#[test]
fn a_site_gets_a_peer_and_another_one_in_its_place() {
    let folder = Folder::new();
    let [a, b, c] = ["a", "b", "c"].map(|name| Site::start(name, &folder));
    fill(&a);
    let writer = busy(&a);
    assert!(a.sidecar.in_sync(), "nobody is waited for");
    assert!(a.sidecar.metric("memcloud_proxy_ledger_entries", &[]) < 10.0, "nothing is kept for nobody");
    a.peers(&[&b]);
    a.logs("refused: unknown-peer");
    b.peers(&[&a]);
    eventually("b is filled", WITHIN, || {
        let copied = b.sidecar.metric("memcloud_proxy_resync_keys_total", &["outcome=\"copied\""]);
        (copied >= ITEMS as f64 * 0.9).then_some(())
    });
    eventually("b is whole", WITHIN, || (b.sidecar.status()["warming"] == false).then_some(()));
    let newest = writer.end();
    in_sync(&[&a, &b]);
    assert!(compare(&[&a.memcached, &b.memcached]).is_equal());
    nothing_is_stale(&[&a, &b], &newest);
    assert_eq!([&a, &b].map(lost), [0, 0]);

    let writer = busy(&a);
    a.peers(&[&b, &c]);
    b.peers(&[&a, &c]);
    c.peers(&[&a, &b]);
    eventually("c is whole", WITHIN, || {
        let resyncs = c.sidecar.metric("memcloud_proxy_resyncs_total", &["kind=\"full\""]);
        (resyncs > 0.0 && c.sidecar.status()["warming"] == false).then_some(())
    });
    b.peers(&[]);
    a.peers(&[&c]);
    c.peers(&[&a]);
    eventually("b is alone", WITHIN, || b.has_peers(0).then_some(()));
    let newest = writer.end();
    in_sync(&[&a, &c]);
    let compared = compare(&[&a.memcached, &c.memcached]);
    assert!(compared.is_equal() && compared.held as u64 >= ITEMS - 1000, "{compared:?}");
    nothing_is_stale(&[&a, &c], &newest);
    assert_eq!([&a, &c].map(lost), [0, 0]);
    assert!(b.sidecar.in_sync() && b.sidecar.status()["peers"].as_array().unwrap().is_empty());
}

#[test]
fn a_peer_that_was_away_from_the_set_is_nowhere_stale() {
    let folder = Folder::new();
    let [a, b] = ["a", "b"].map(|name| Site::start(name, &folder));
    a.peers(&[&b]);
    b.peers(&[&a]);
    in_sync(&[&a, &b]);
    fill(&a);
    in_sync(&[&a, &b]);
    a.peers(&[]);
    b.peers(&[]);
    eventually("both are alone", WITHIN, || (a.has_peers(0) && b.has_peers(0)).then_some(()));
    let mut client = a.sidecar.client();
    for n in 0..500 {
        assert_eq!(client.set(&format!("item:{n}"), b"new").unwrap(), "STORED");
    }
    for n in 500..600 {
        assert_eq!(client.ask(&format!("delete item:{n}")), "DELETED");
    }
    // Only b's side first: its dialing is refused until a knows it again.
    b.peers(&[&a]);
    a.peers(&[&b]);
    in_sync(&[&a, &b]);
    let compared = compare(&[&a.memcached, &b.memcached]);
    assert!(compared.is_equal(), "{compared:?}");
    assert_eq!(compared.held as u64, ITEMS - 100, "b wrote nothing, so a is right");
    assert_eq!(b.memcached.client().get("item:0").unwrap().unwrap(), b"new");
}

#[test]
fn a_file_that_is_wrong_is_refused_and_what_cannot_change_is_said() {
    let folder = Folder::new();
    let [a, b] = ["a", "b"].map(|name| Site::start(name, &folder));
    b.peers(&[&a]);
    a.peers(&[&b]);
    in_sync(&[&a, &b]);
    let peer = format!("peer: {}\n", b.peer_listen);
    a.configure("peer: []\nmax_sessions: 0\nnonsense: 1\n");
    a.logs("there is no setting `nonsense`");
    assert!(a.has_peers(1), "all of it is refused");
    a.configure(&format!("{peer}log_level: debug\nmax_sessions: 1\nworkers: 3\nadmin: 127.0.0.1:1\n"));
    a.logs("these settings keep their value");
    let log = a.sidecar.process().log();
    let line = log.lines().find(|line| line.contains("these settings keep their value")).unwrap();
    assert!(line.contains("workers") && !line.contains("admin"), "a flag wins over the file: {line}");
    let changed = log.lines().rfind(|line| line.contains("holds from now on")).unwrap();
    assert!(changed.contains("log_level") && changed.contains("max_sessions"), "{changed}");
    eventually("the limit holds", WITHIN, || {
        let mut one = a.sidecar.client();
        one.ask("version").starts_with("VERSION").then_some(())?;
        let mut other = a.sidecar.client();
        other.try_ask("version").ok().filter(|answer| answer.contains("Too many")).map(|_| ())
    });
    a.configure(&format!("{peer}log_level: debug\nworkers: 3\n"));
    a.configure("peer: []\n");
    a.logs("a peer went");
    in_sync(&[&a]);
}

/// With `--ack peer` answers wait for all peers that live, and no longer for one that goes.
#[test]
fn nobody_waits_for_a_peer_that_went() {
    let folder = Folder::new();
    let [b, c] = ["b", "c"].map(|name| Site::start(name, &folder));
    let flags = "--ack peer --ack-timeout 25s --peer-timeout 25s --warmup-timeout 0s";
    let flags: Vec<&str> = flags.split(' ').collect();
    let a = Site::start_with("a", &folder, &format!("peer: {}\n", b.peer_listen), &flags);
    a.peers(&[&b, &c]);
    b.peers(&[&a, &c]);
    c.peers(&[&a, &b]);
    in_sync(&[&a, &b, &c]);
    b.sidecar.process().freeze();
    let (mut client, began) = (a.sidecar.client(), Instant::now());
    client.send("set k 0 0 1\r\nv\r\n").unwrap();
    client.set_patience(Duration::from_millis(500));
    assert!(client.line().is_err(), "it is waited for");
    a.peers(&[&c]);
    client.set_patience(Duration::from_secs(20));
    assert_eq!(client.line().unwrap(), "STORED\r\n");
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "before --ack-timeout, and before the link is given up"
    );
    b.sidecar.process().thaw();
    b.peers(&[]);
    c.peers(&[&a]);
    in_sync(&[&a, &c]);
    assert!(compare(&[&a.memcached, &c.memcached]).is_equal());
}

/// Apps that a peer serves go on at another one when that peer is taken out of the set.
#[test]
fn a_peer_that_goes_serves_no_longer() {
    let folder = Folder::new();
    let [b, c] = ["b", "c"].map(|name| Site::start(name, &folder));
    let flags = ["--failover", "peer", "--warmup-timeout", "0s"];
    let mut a = Site::start_with("a", &folder, &format!("peer: {}\n", b.peer_listen), &flags);
    a.peers(&[&b, &c]);
    b.peers(&[&a, &c]);
    c.peers(&[&a, &b]);
    in_sync(&[&a, &b, &c]);
    let mut client = a.sidecar.client();
    assert_eq!(client.set("k", b"1").unwrap(), "STORED");
    in_sync(&[&a, &b, &c]);
    a.memcached.kill();
    let served_by = |site: &str| a.sidecar.status()["failover"]["peer"] == site;
    eventually("b serves", WITHIN, || served_by("b").then_some(()));
    assert_eq!(client.set("k", b"2").unwrap(), "STORED");
    a.peers(&[&c]);
    eventually("c serves", WITHIN, || served_by("c").then_some(()));
    eventually("what was written at b is at c", WITHIN, || (client.get("k").ok()?? == b"2").then_some(()));
    assert_eq!(client.set("k", b"3").unwrap(), "STORED");
    assert_eq!(c.memcached.client().get("k").unwrap().unwrap(), b"3");
}
