//! `--miss peer`: what memcached does not have is read from a peer, and never replaces anything newer.

#![allow(clippy::unwrap_used, reason = "a broken expectation of a test ends the test")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use memcloud_tests::binary::{self, Frame, reply};
use memcloud_tests::{Client, Fleet, Plan, Rng, eventually, seconds_from_env};

const SOON: Duration = Duration::from_secs(20);

/// Sites that fill, once they can.
fn plan(sites: usize, timeout: &str, more: &[&str]) -> Fleet {
    let fleet =
        Plan::of(sites).sidecars(&["--miss", "peer", "--miss-timeout", timeout]).sidecars(more).start();
    for (index, site) in fleet.sites.iter().enumerate() {
        let mut client = site.sidecar.client();
        eventually("misses are filled", SOON, || {
            client.get("nobody has this").ok();
            client.get(&format!("probe{index}")).unwrap();
            (fills(&fleet, index, "missed") > 0.0).then_some(())
        });
    }
    fleet
}

fn fills(fleet: &Fleet, site: usize, outcome: &str) -> f64 {
    let label = format!("outcome=\"{outcome}\"");
    fleet.sites[site].sidecar.metric("memcloud_proxy_fills_total", &[&label])
}

/// Puts an item everywhere, then takes it out of the first memcached, as an eviction does.
fn evicted(fleet: &Fleet, key: &str, flags: u32, exptime: u32, value: &[u8]) {
    let mut client = fleet.sites[0].sidecar.client();
    client.send(format!("set {key} {flags} {exptime} {}\r\n", value.len())).unwrap();
    client.send(value).unwrap();
    client.send("\r\n").unwrap();
    assert_eq!(client.line().unwrap(), "STORED\r\n");
    fleet.wait_in_sync(SOON);
    assert_eq!(fleet.sites[0].memcached.client().ask(&format!("delete {key}")), "DELETED");
}

#[test]
fn a_miss_is_filled_with_flags_and_time_left() {
    let fleet = plan(2, "10s", &[]);
    let mut client = fleet.sites[0].sidecar.client();
    evicted(&fleet, "classic", 7, 100, b"value");
    assert_eq!(client.ask("get classic"), "VALUE classic 7 5");
    assert_eq!(client.until(b"END\r\n").unwrap(), b"value\r\nEND\r\n");
    let left = client.ask("mg classic t");
    let left: u64 = left.strip_prefix("HD t").unwrap().parse().unwrap();
    assert!((90..=101).contains(&left), "{left}");
    evicted(&fleet, "meta", 9, 0, b"meta");
    assert_eq!(client.ask("mg meta f v t k Oq"), "VA 4 f9 t-1 kmeta Oq");
    assert_eq!(client.line().unwrap(), "meta\r\n");
    evicted(&fleet, "alone", 9, 0, b"");
    assert_eq!(client.ask("mg alone s"), "HD s0");
    evicted(&fleet, "Zm9v", 9, 0, b"x");
    assert_eq!(client.ask("mg Wm05dg== b v"), "VA 1");
    assert_eq!(client.line().unwrap(), "x\r\n");
    // Some of several keys, among hits and keys that nobody has.
    for key in ["b", "d"] {
        evicted(&fleet, key, 0, 0, b"1");
    }
    for key in ["a", "c"] {
        assert_eq!(client.set(key, b"2").unwrap(), "STORED");
    }
    client.send("get a b none c d\r\n").unwrap();
    let expected = "VALUE a 0 1\r\n2\r\nVALUE b 0 1\r\n1\r\nVALUE c 0 1\r\n2\r\nVALUE d 0 1\r\n1\r\nEND\r\n";
    assert_eq!(String::from_utf8(client.until(b"END\r\n").unwrap()).unwrap(), expected);
    let large = vec![b'x'; 300_000];
    evicted(&fleet, "large", 1, 0, &large);
    assert_eq!(client.get("large").unwrap().unwrap(), large);
    assert!(fills(&fleet, 0, "filled") >= 7.0);
    // The next read is a plain hit.
    let filled = fills(&fleet, 0, "filled");
    assert_eq!(client.get("classic").unwrap().unwrap(), b"value");
    assert!((fills(&fleet, 0, "filled") - filled).abs() < 0.5);
}

#[test]
fn binary_misses_are_filled_quiet_ones_too() {
    let fleet = plan(2, "10s", &[]);
    let mut client = fleet.sites[0].sidecar.client();
    for (key, opcode) in [("get", binary::GET), ("getk", binary::GETK)] {
        evicted(&fleet, key, 5, 0, b"v");
        client.send(Frame { key: key.as_bytes(), opaque: 3, ..Frame::new(opcode) }.bytes()).unwrap();
        let got = reply(&mut client).unwrap();
        assert_eq!((got.status, got.opcode, got.opaque, got.value.as_slice()), (0, opcode, 3, &b"v"[..]));
        assert_eq!(got.extras, 5_u32.to_be_bytes());
    }
    for key in ["q1", "q3"] {
        evicted(&fleet, key, 0, 0, key.as_bytes());
    }
    let mut batch = Vec::new();
    for (opaque, key) in [(1, "q1"), (2, "q2"), (3, "q3")] {
        batch.extend(Frame { key: key.as_bytes(), opaque, ..Frame::new(binary::GETKQ) }.bytes());
    }
    batch.extend(Frame { opaque: 9, ..Frame::new(binary::NOOP) }.bytes());
    client.send(&batch).unwrap();
    for (opaque, value) in [(1, &b"q1"[..]), (3, b"q3"), (9, b"")] {
        let got = reply(&mut client).unwrap();
        assert_eq!((got.opaque, got.value.as_slice()), (opaque, value));
    }
}

/// Answers keep their order around misses that are filled and misses that are not; a write that was sent behind a read
/// does not show in it.
#[test]
fn pipelines_keep_their_order() {
    let fleet = plan(2, "10s", &[]);
    let mut client = fleet.sites[0].sidecar.client();
    for round in 0..30 {
        for key in ["one", "two"] {
            evicted(&fleet, key, 0, 0, format!("{key}{round}").as_bytes());
        }
        client.send("mg one v q\r\nmg none v q\r\nget two\r\nget none\r\nmn\r\n").unwrap();
        let expected = format!(
            "VA {0}\r\none{round}\r\nVALUE two 0 {0}\r\ntwo{round}\r\nEND\r\nEND\r\nMN\r\n",
            3 + round.to_string().len()
        );
        assert_eq!(String::from_utf8(client.take(expected.len()).unwrap()).unwrap(), expected);
        evicted(&fleet, "one", 0, 0, b"old");
        client.send("get one\r\nset one 0 0 3\r\nnew\r\nget one\r\n").unwrap();
        let answer = String::from_utf8(client.until(b"new\r\nEND\r\n").unwrap()).unwrap();
        let behind = "STORED\r\nVALUE one 0 3\r\nnew\r\nEND\r\n";
        let before = answer.strip_suffix(behind).unwrap();
        assert!(before == "END\r\n" || before == "VALUE one 0 3\r\nold\r\nEND\r\n", "{answer}");
        assert!(client.pending().is_empty());
    }
}

#[test]
fn many_sessions_that_miss_one_key_ask_for_it_once() {
    let fleet = plan(2, "10s", &["--workers", "2"]);
    let address = fleet.sites[0].sidecar.address();
    let value = vec![b'v'; 200_000];
    for _ in 0..5 {
        evicted(&fleet, "hot", 0, 0, &value);
        thread::scope(|scope| {
            for _ in 0..24 {
                scope.spawn(|| assert_eq!(Client::to(address).get("hot").unwrap().unwrap(), value));
            }
        });
    }
    // A flight that begins when the one before has landed is possible, but is no rule.
    let filled = fills(&fleet, 0, "filled");
    assert!((5.0..20.0).contains(&filled), "{filled}");
}

#[test]
fn a_peer_that_does_not_answer_costs_one_wait_and_one_that_is_away_none() {
    let fleet = plan(2, "400ms", &["--peer-timeout", "60s"]);
    let mut client = fleet.sites[0].sidecar.client();
    fleet.sites[1].sidecar.process().freeze();
    let started = Instant::now();
    assert_eq!(client.get("none").unwrap(), None);
    assert!(started.elapsed() >= Duration::from_millis(400), "{:?}", started.elapsed());
    let started = Instant::now();
    for key in 0..100 {
        assert_eq!(client.get(&format!("none{key}")).unwrap(), None);
    }
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    fleet.sites[1].sidecar.process().thaw();
    evicted(&fleet, "back", 0, 0, b"x");
    eventually("the peer fills again", SOON, || client.get("back").unwrap().map(|_| ()));
    fleet.part(0, 1);
    eventually("nobody is asked", SOON, || {
        let started = Instant::now();
        client.get("none").unwrap();
        (started.elapsed() < Duration::from_millis(100)).then_some(())
    });
    fleet.heal();
    fleet.wait_in_sync(SOON);
    evicted(&fleet, "again", 0, 0, b"x");
    eventually("the peer fills again", SOON, || client.get("again").unwrap().map(|_| ()));
}

/// One writer for each key on each of two sites' behalf, evictions past the proxy all the time, readers on both sides: no read shows what
/// is older than what was answered, no deleted key comes back.
#[test]
fn a_fill_beats_nothing_newer() {
    let fleet = plan(2, "1s", &[]);
    let mut rng = Rng::announced("fills", 11);
    let over = Arc::new(AtomicBool::new(false));
    let length = seconds_from_env("MEMCLOUD_FILL_SECONDS", 8.0);
    // By key: the newest number that was answered at the site of its writer; deletions have numbers, too.
    let answered: Arc<Mutex<HashMap<usize, (u64, bool)>>> = Arc::default();
    let (through, memcached) = (fleet.sites[0].sidecar.address(), fleet.sites[0].memcached.address());
    thread::scope(|scope| {
        let mut tasks = Vec::new();
        for writer in 0..4_usize {
            let (over, answered, mut rng) = (Arc::clone(&over), Arc::clone(&answered), rng.fork());
            tasks.push(scope.spawn(move || {
                let mut client = Client::to(through);
                let mut number = 0;
                while !over.load(Ordering::Relaxed) {
                    let key = writer * 10 + usize::try_from(rng.below(10)).unwrap();
                    number += 1;
                    let deletes = rng.chance(20);
                    if deletes {
                        client.ask(&format!("delete key{key}"));
                    } else {
                        assert_eq!(
                            client.set(&format!("key{key}"), number.to_string().as_bytes()).unwrap(),
                            "STORED"
                        );
                    }
                    answered.lock().unwrap().insert(key, (number, deletes));
                }
                0
            }));
        }
        for _ in 0..3 {
            let (over, answered, mut rng) = (Arc::clone(&over), Arc::clone(&answered), rng.fork());
            tasks.push(scope.spawn(move || {
                let (mut client, mut direct) = (Client::to(through), Client::to(memcached));
                let mut hits = 0;
                while !over.load(Ordering::Relaxed) {
                    let key = usize::try_from(rng.below(40)).unwrap();
                    direct.ask(&format!("delete key{key}"));
                    let (least, _) = answered.lock().unwrap().get(&key).copied().unwrap_or_default();
                    let Some(value) = client.get(&format!("key{key}")).unwrap() else { continue };
                    let value: u64 = String::from_utf8(value).unwrap().parse().unwrap();
                    let deleted = answered.lock().unwrap().get(&key).copied() == Some((value, true));
                    assert!(value >= least && !deleted, "key{key} is {value} again, {least} was answered");
                    hits += 1;
                }
                hits
            }));
        }
        thread::sleep(length);
        over.store(true, Ordering::Relaxed);
        let hits: u64 = tasks.into_iter().map(|task| task.join().unwrap()).sum();
        println!("{hits} hits, {} fills", fills(&fleet, 0, "filled"));
        assert!(hits > 100, "{hits}");
    });
    assert!(fills(&fleet, 0, "filled") > 50.0, "{}", fills(&fleet, 0, "filled"));
    fleet.wait_in_sync(SOON);
    // In the end both hold the same, but for what was evicted.
    let (mut here, mut there) = (fleet.sites[0].sidecar.client(), fleet.sites[1].memcached.client());
    for (key, (number, deleted)) in answered.lock().unwrap().iter() {
        let expected = (!deleted).then(|| number.to_string().into_bytes());
        assert_eq!(there.get(&format!("key{key}")).unwrap(), expected, "key{key}");
        assert_eq!(here.get(&format!("key{key}")).unwrap(), expected, "key{key}");
    }
}
