//! One scene for each row: what is done to a pair, and what is seen. Each sentence says what was measured, and nothing in it
//! changes from run to run unless memcloud does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use memcloud_tests::{Direction, Plan, Server};

use super::pair::{Pair, share};

const MANY: usize = 100;
/// `--max-clock-skew` unless it is set.
const MAX_CLOCK_SKEW_SECONDS: i64 = 60;

/// The same key written on both sides of a cut, now here last, now there.
pub(crate) fn both_sides() -> String {
    let mut pair = Pair::start();
    pair.fleet.part(0, 1);
    let mut clients = [pair.client(0), pair.client(1)];
    for number in 0..MANY {
        let order = if number % 2 == 0 { [0, 1] } else { [1, 0] };
        let key = format!("both:{number}");
        for site in order {
            // Versions count milliseconds: of two writes in one, either may be the later.
            thread::sleep(Duration::from_millis(2));
            let value = format!("of {site}");
            assert_eq!(clients[site].set(&key, value.as_bytes()).unwrap(), "STORED");
            pair.newest.insert(key.clone(), Some(value));
        }
    }
    format!("the later write wins: {}", pair.outcome())
}

pub(crate) fn cas() -> String {
    let mut pair = Pair::start();
    pair.fill(0, "cas", MANY, "first");
    pair.in_sync();
    let mut tokens = Vec::new();
    let mut client = pair.client(0);
    for number in 0..MANY {
        client.send(format!("gets cas:{number}\r\n")).unwrap();
        let answer = String::from_utf8(client.until(b"END\r\n").unwrap()).unwrap();
        tokens.push(answer.split_whitespace().nth(4).unwrap().to_owned());
    }
    pair.fill(1, "cas", MANY, "other");
    pair.in_sync();
    let refused = tokens
        .iter()
        .enumerate()
        .filter(|(number, token)| client.ask(&format!("cas cas:{number} 0 0 4 {token}\r\nmine")) == "EXISTS");
    let refused = refused.count();
    format!(
        "a token is void once another site wrote: {}; {}",
        share(refused, MANY, "refused"),
        pair.outcome()
    )
}

pub(crate) fn counters() -> String {
    let mut pair = Pair::start();
    pair.fill(0, "count", 1, "0");
    pair.in_sync();
    for round in 0..20 {
        pair.client(round % 2).ask("incr count:0 1");
        pair.in_sync();
    }
    let linked = pair.client(0).get("count:0").unwrap().unwrap();
    pair.fleet.part(0, 1);
    for site in [0, 1] {
        for _ in 0..10 {
            pair.client(site).ask("incr count:0 1");
        }
        thread::sleep(Duration::from_millis(2));
    }
    pair.newest.insert("count:0".to_owned(), Some("30".to_owned()));
    let exact = if linked == b"20" { "exact" } else { "WRONG" };
    format!(
        "in turn: {exact}; at once on both sides of a cut: one side's increments are lost, {}",
        pair.outcome()
    )
}

pub(crate) fn append() -> String {
    let mut pair = Pair::start();
    pair.fill(0, "piece", 1, "0");
    pair.in_sync();
    for round in 0..20 {
        assert_eq!(pair.client(round % 2).ask("append piece:0 0 0 1\r\n+"), "STORED");
        pair.in_sync();
    }
    let linked = pair.client(0).get("piece:0").unwrap().unwrap();
    let whole = if linked.len() == 21 { "exact" } else { "WRONG" };
    pair.fleet.part(0, 1);
    for (site, piece) in ["a", "b"].iter().enumerate() {
        assert_eq!(pair.client(site).ask(&format!("append piece:0 0 0 1\r\n{piece}")), "STORED");
        thread::sleep(Duration::from_millis(2));
    }
    pair.newest.insert("piece:0".to_owned(), Some(format!("0{}b", "+".repeat(20))));
    format!("in turn: {whole}; at once on both sides of a cut: one side's piece is lost, {}", pair.outcome())
}

pub(crate) fn add() -> String {
    let mut pair = Pair::start();
    pair.fill(0, "lock", MANY, "a");
    pair.in_sync();
    let add = |site: usize, key: &str| pair.client(site).ask(&format!("add {key} 0 0 1\r\nx"));
    let refused = (0..MANY).filter(|number| add(1, &format!("lock:{number}")) == "NOT_STORED").count();
    pair.fleet.part(0, 1);
    let both = [0, 1].map(|site| add(site, "late")).iter().all(|answer| answer == "STORED");
    let both = if both { "both win across a cut" } else { "across a cut one is refused" };
    pair.newest.insert("late".to_owned(), Some("x".to_owned()));
    format!("once it has arrived: {}; {both}; {}", share(refused, MANY, "refused"), pair.outcome())
}

/// A flush on one side of a cut, and writes before and after it on the other.
pub(crate) fn flush_all() -> String {
    let mut pair = Pair::start();
    pair.fill(0, "old", 1000, "old");
    pair.in_sync();
    pair.fleet.part(0, 1);
    pair.fill(1, "before", 1000, "before");
    thread::sleep(Duration::from_millis(5));
    assert_eq!(pair.client(0).ask("flush_all"), "OK");
    for (kind, count) in [("old", 1000), ("before", 1000)] {
        pair.newest.extend((0..count).map(|number| (format!("{kind}:{number}"), None)));
    }
    thread::sleep(Duration::from_millis(5));
    pair.fill(0, "after", 1000, "after");
    format!("empties every site, across a cut too, and no more: {}", pair.outcome())
}

/// Seconds left on both sides, after each way to set them.
pub(crate) fn expiry() -> String {
    let pair = Pair::start();
    let mut client = pair.client(0);
    let mut seen = Vec::new();
    for (what, request) in [
        ("set", "set t 0 500 1\r\nx"),
        ("touch", "touch t 900"),
        ("gat", "gat 700 t"),
        ("meta", "mg t T300"),
        ("never", "touch t 0"),
    ] {
        client.send(format!("{request}\r\nmn\r\n")).unwrap();
        client.until(b"MN\r\n").unwrap();
        pair.in_sync();
        let left = [0, 1].map(|site| pair.memcached(site).client().ask("mg t t"));
        let left = left.map(|line| line.trim_start_matches("HD t").parse::<i64>().unwrap());
        let close = (left[0] - left[1]).abs() <= 1;
        seen.push(format!("{what} {}", if close { "right" } else { "WRONG" }));
    }
    format!("within a second: {}", seen.join(", "))
}

/// A long outage, scaled: what counts is how much was written, not how long it took.
pub(crate) fn peer_down() -> String {
    let mut pair = Pair::start();
    pair.fill(0, "kept", 2000, "first");
    pair.fill(0, "gone", 2000, "first");
    pair.in_sync();
    pair.fleet.sites[1].sidecar.process().freeze();
    pair.fleet.part(0, 1);
    for round in 0..5 {
        pair.fill(0, "kept", 2000, &format!("round {round}"));
    }
    pair.delete(0, "gone", 2000);
    pair.fill(0, "new", 20_000, "new");
    pair.fleet.sites[1].sidecar.process().thaw();
    format!("what changed is sent: {}", pair.outcome())
}

pub(crate) fn peer_restarts_empty() -> String {
    let mut pair = Pair::start();
    pair.fill(0, "item", 10_000, "value");
    pair.in_sync();
    pair.restart_memcached(1);
    let (seen, outcome) = watched(&pair, 1, || pair.outcome());
    // It may take a moment until the proxy has noticed; until then apps see misses. Once it has, nobody is sent there.
    let warming = seen.iter().position(|sample| !sample.ready);
    let told = match warming {
        None => "SERVES MISSES",
        Some(first) if seen[first..].iter().any(|sample| sample.ready && sample.items < 10_000) => {
            "READY TOO SOON"
        }
        Some(_) => "not ready before it is whole",
    };
    format!("copied from the peer: {outcome}; {told}")
}

/// What `/ready` and memcached said at one moment.
struct Sample {
    ready: bool,
    items: u64,
}

/// Looks at a site all the while that `work` takes.
fn watched<T>(pair: &Pair, site: usize, work: impl FnOnce() -> T) -> (Vec<Sample>, T) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut seen = Vec::new();
            while !over.load(Ordering::Relaxed) {
                // First what is promised, then what there is: items only become more meanwhile.
                let ready = ready(pair, site);
                let items = pair.memcached(site).client().stat("curr_items");
                seen.push(Sample { ready, items });
                thread::sleep(Duration::from_millis(2));
            }
            seen
        });
        let worked = work();
        over.store(true, Ordering::Relaxed);
        (looking.join().unwrap(), worked)
    })
}

pub(crate) fn partition_heals() -> String {
    let mut pair = Pair::start();
    for kind in ["of a", "of b", "shared", "gone"].map(|kind| kind.replace(' ', "-")) {
        pair.fill(0, &kind, 1000, "before");
    }
    pair.in_sync();
    pair.fleet.part(0, 1);
    pair.fill(0, "of-a", 1000, "a");
    pair.fill(1, "of-b", 1000, "b");
    pair.fill(0, "shared", 1000, "a");
    thread::sleep(Duration::from_millis(5));
    pair.fill(1, "shared", 1000, "b");
    pair.delete(0, "gone", 1000);
    pair.outcome()
}

/// Killed while it owes what the peer has not got, and started again.
pub(crate) fn proxy_killed() -> String {
    let mut pair = before_a_cut();
    pair.fleet.part(0, 1);
    change(&mut pair, 0);
    pair.restart_proxy(0);
    pair.outcome()
}

pub(crate) fn both_proxies_killed() -> String {
    let mut pair = before_a_cut();
    pair.fleet.part(0, 1);
    change(&mut pair, 0);
    pair.restart_proxy(0);
    pair.restart_proxy(1);
    let outcome = pair.outcome();
    format!("what was unchanged: {}; in all {outcome}", pair.share_with("before"))
}

pub(crate) fn proxy_restarted() -> String {
    let mut pair = before_a_cut();
    change(&mut pair, 0);
    pair.fleet.sites[0].sidecar.process().signal(rustix::process::Signal::TERM);
    pair.fleet.sites[0].sidecar.process_mut().wait(Duration::from_secs(10));
    pair.fill(1, "meanwhile", 1000, "b");
    pair.restart_proxy(0);
    pair.outcome()
}

/// Its proxy lives, and still owes what only the dead memcached held.
pub(crate) fn memcached_killed() -> String {
    let mut pair = before_a_cut();
    pair.fleet.part(0, 1);
    change(&mut pair, 0);
    pair.restart_memcached(0);
    pair.outcome()
}

/// Proxy and memcached of one site, with everything that had been sent.
pub(crate) fn machine_lost() -> String {
    let mut pair = before_a_cut();
    change(&mut pair, 0);
    pair.in_sync();
    pair.fleet.sites[0].sidecar.process_mut().kill();
    pair.fleet.sites[0].memcached.kill();
    pair.fill(1, "meanwhile", 1000, "b");
    pair.restart_memcached(0);
    pair.restart_proxy(0);
    pair.outcome()
}

pub(crate) fn overflow() -> String {
    let mut pair = Pair::of(Plan::of(2).sidecars(&["--backlog-bytes", "1MiB"]));
    pair.fill(0, "kept", 1000, "before");
    pair.fill(0, "gone", 1000, "before");
    pair.in_sync();
    pair.fleet.part(0, 1);
    pair.delete(0, "gone", 1000);
    pair.fill(0, "new", 10_000, "new");
    pair.wait_for_a_gap(0);
    pair.outcome()
}

pub(crate) fn one_way() -> String {
    let mut pair = before_a_cut();
    pair.fleet.cable(0, 1).stall(Direction::Forward);
    pair.fleet.cable(1, 0).stall(Direction::Back);
    change(&mut pair, 0);
    pair.fill(1, "meanwhile", 1000, "b");
    // Longer than --peer-timeout: both sides have given their links up once.
    thread::sleep(Duration::from_secs(2));
    pair.outcome()
}

/// A frozen peer: what its neighbour's apps feel of it.
pub(crate) fn frozen_peer() -> String {
    let mut pair = before_a_cut();
    pair.fleet.sites[1].sidecar.process().freeze();
    let mut client = pair.client(0);
    let mut slowest = Duration::ZERO;
    for number in 0..2000 {
        let key = format!("alone:{number}");
        let began = Instant::now();
        assert_eq!(client.set(&key, b"a").unwrap(), "STORED");
        slowest = slowest.max(began.elapsed());
        pair.newest.insert(key, Some("a".to_owned()));
    }
    pair.fleet.sites[1].sidecar.process().thaw();
    // A stop of the whole machine shows as well, so the bound is generous; --peer-timeout is a second.
    let felt = if slowest < Duration::from_millis(500) { "no write waits" } else { "WRITES WAIT" };
    format!("{felt}; {}", pair.outcome())
}

pub(crate) fn clock_off() -> String {
    off_by(20)
}

pub(crate) fn clock_far_off() -> String {
    off_by(600)
}

/// Writes through a proxy that began with its clock ahead, then, with the clock right and the proxy begun anew, at the other
/// site. A proxy reads the wall's clock once, so both need a new life.
fn off_by(seconds: i64) -> String {
    let mut pair = Pair::of(Plan::of(2).clocks());
    pair.fill(0, "key", 1000, "before");
    pair.in_sync();
    pair.restart_proxy_with_clock(0, seconds);
    pair.fill(0, "key", 1000, "ahead");
    if seconds > MAX_CLOCK_SKEW_SECONDS && !pair.refuses_a_clock(1) {
        return "THE FAULT DID NOT HAPPEN".to_owned();
    }
    pair.restart_proxy_with_clock(0, 0);
    pair.in_sync();
    // What the other site writes within a second of a kill may be older than what the dead life had, and is dropped.
    thread::sleep(Duration::from_millis(1500));
    pair.fill(1, "other", 1000, "b");
    let outcome = pair.outcome();
    format!(
        "written ahead: {}; later at the other site: {}; in all {outcome}",
        pair.share_with("ahead"),
        pair.share_with("b")
    )
}

/// Half of the items that one site cannot hold are evicted there.
pub(crate) fn eviction() -> String {
    let mut pair = Pair::of(Plan::of(2).memcached(1, &["-m", "2"]));
    let value = "v".repeat(4000);
    pair.fill(0, "big", 2000, &value);
    pair.in_sync();
    let evicted = pair.memcached(1).client().stat("evictions") > 0;
    let whole = pair.memcached(0).client().stat("curr_items") == 2000;
    let text = if whole { "the other site keeps its copies" } else { "ECHOED" };
    if evicted { text.to_owned() } else { "NOTHING WAS EVICTED".to_owned() }
}

/// 1.6.18 on one side, the newest on the other.
pub(crate) fn mixed_servers() -> String {
    let plan = Plan::of(2).server_at(0, &Server::distribution()).server_at(1, &Server::newest());
    let mut pair = Pair::of(plan);
    pair.fill(0, "kept", 1000, "before");
    pair.fill(1, "gone", 1000, "before");
    pair.in_sync();
    pair.fleet.part(0, 1);
    change(&mut pair, 0);
    pair.restart_proxy(0);
    pair.outcome()
}

fn before_a_cut() -> Pair {
    let mut pair = Pair::start();
    for kind in ["kept", "other", "gone"] {
        pair.fill(0, kind, 2000, "before");
    }
    pair.in_sync();
    pair
}

/// Overwrites, deletes and creates, in all a third of what there is.
fn change(pair: &mut Pair, site: usize) {
    pair.fill(site, "kept", 1000, "changed");
    pair.delete(site, "gone", 500);
    pair.fill(site, "new", 500, "new");
}

fn ready(pair: &Pair, site: usize) -> bool {
    let address = &pair.fleet.sites[site].sidecar.settings().admin;
    matches!(memcloud_tests::http::get(address, "/ready"), Ok((200, _)))
}
