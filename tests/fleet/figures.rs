//! What recovery costs, in figures: `make figures` prints them, built for release. They are measured and not judged, except
//! that nothing may be stale and nothing may be left unrepaired.
//!
//! `MEMCLOUD_FIGURES_ITEMS` and `MEMCLOUD_FIGURES_RATE` scale them down.

#![allow(clippy::unwrap_used, reason = "a broken expectation of a test ends the test")]

use std::collections::HashMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use memcloud_tests::compare::items;
use memcloud_tests::process::Folder;
use memcloud_tests::{Client, Fleet, Memcached, Plan, Rng, eventually, sidecar};
use serde_json::Value;

const WITHIN: Duration = Duration::from_secs(300);
const BATCH: usize = 100;
const VALUE: usize = 100;

/// An empty replica is filled from its peer: how long, how that compares with a client that reads and writes item by item
/// in pipelines, and what the giver's apps feel.
#[test]
#[ignore = "a measurement: make figures"]
fn a_copy_of_a_million_items() {
    let count = number("MEMCLOUD_FIGURES_ITEMS", 1_000_000);
    let mut fleet = Plan::of(2).memcached(0, &["-m", "1024"]).memcached(1, &["-m", "1024"]).start();
    fill(fleet.sites[0].sidecar.address(), count);
    fleet.wait_in_sync(WITHIN);
    let before = gets(&fleet, Duration::from_secs(5), count);
    // Asked meanwhile, too: what any other reader of the whole cache costs the apps on this machine.
    let stop = Arc::new(AtomicBool::new(false));
    let beside = spawn_gets(&fleet, &stop, count);
    let loops = plain_loop(&fleet.sites[0].memcached, count);
    stop.store(true, Ordering::Relaxed);
    let beside = sorted(beside.join().unwrap());

    fleet.sites[1].memcached.kill();
    fleet.sites[1].memcached.restart();
    let began = Instant::now();
    let stop = Arc::new(AtomicBool::new(false));
    let during = spawn_gets(&fleet, &stop, count);
    let held = || fleet.sites[1].memcached.client().stat("curr_items");
    eventually("the copy begins", WITHIN, || (held() > 0).then_some(()));
    eventually("all is copied", WITHIN, || (held() >= count as u64).then_some(()));
    let copied = began.elapsed();
    stop.store(true, Ordering::Relaxed);
    let during = sorted(during.join().unwrap());
    fleet.wait_in_sync(WITHIN);
    let ready = began.elapsed();
    println!(
        "copy of {count} items of {VALUE} B: {copied:.2?}, {:.0} items/s; ready and in sync after {ready:.2?}; \
         a plain loop of mg and ms by one client, {BATCH} in a pipeline: {loops:.2?}; ratio of throughputs {:.2}; \
         p99 of gets at the giver {:?} before, {:?} beside the plain loop, {:?} during the copy ({} gets)",
        count as f64 / copied.as_secs_f64(),
        loops.as_secs_f64() / copied.as_secs_f64(),
        at(&before, 99.0),
        at(&beside, 99.0),
        at(&during, 99.0),
        during.len(),
    );
    assert_eq!(lost(&fleet), 0);
}

/// Two equal memcacheds are compared, and then again with one item in a thousand changed behind the proxies' backs.
#[test]
#[ignore = "a measurement: make figures"]
fn an_audit_of_a_million_items() {
    const CHANGED_EVERY: usize = 1_000;
    let count = number("MEMCLOUD_FIGURES_ITEMS", 1_000_000);
    let folder = Folder::new();
    let sites = ["a", "b"].map(|name| Memcached::start(name, &folder, &["-m", "1024"]));
    for site in &sites {
        fill(site.address(), count);
    }
    let equal = audit(&sites);
    let mut client = sites[1].client();
    for key in (0..count).step_by(CHANGED_EVERY) {
        client.send(request(&name(key), 2)).unwrap();
        assert_eq!(client.line().unwrap(), "STORED\r\n");
    }
    let different = audit(&sites);
    println!(
        "audit of {count} items of {VALUE} B on two memcacheds: {:.2?} when equal; {:.2?} with {} different, \
         which it asks again after the lag",
        equal.taken, different.taken, different.different,
    );
    assert_eq!((equal.equal, equal.different), (count as u64, 0));
    assert_eq!(different.different, count.div_ceil(CHANGED_EVERY) as u64);
}

struct Audited {
    taken: Duration,
    equal: u64,
    different: u64,
}

fn audit(sites: &[Memcached]) -> Audited {
    let mut command = Command::new(sidecar::binary());
    command.args(["audit", "--json"]);
    for site in sites {
        command.args(["--replica", site.address()]);
    }
    let began = Instant::now();
    let output = command.output().unwrap();
    let taken = began.elapsed();
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let figure = |name: &str| json[name].as_u64().unwrap();
    Audited { taken, equal: figure("equal"), different: figure("different") }
}

/// A proxy is killed amid writes, and started again at once: what the repair had to drop.
#[test]
#[ignore = "a measurement: make figures"]
fn a_proxy_killed_amid_writes() {
    let rate = number("MEMCLOUD_FIGURES_RATE", 50_000);
    let mut fleet = Plan::of(2).memcached(0, &["-m", "1024"]).memcached(1, &["-m", "1024"]).start();
    let stop = Arc::new(AtomicBool::new(false));
    let address = fleet.sites[0].sidecar.address().to_owned();
    let writer = {
        let stop = Arc::clone(&stop);
        thread::spawn(move || write_at(&address, rate, &stop))
    };
    // Long enough that the pace is kept and the ledger has its usual size.
    thread::sleep(Duration::from_secs(4));
    fleet.sites[0].sidecar.process_mut().kill();
    let killed = Instant::now();
    fleet.sites[0].sidecar.relaunch();
    thread::sleep(Duration::from_secs(4));
    stop.store(true, Ordering::Relaxed);
    let written = writer.join().unwrap();
    fleet.wait_in_sync(WITHIN);
    let repaired = killed.elapsed();
    let keys: Vec<Vec<u8>> = written.newest.keys().map(|&key| name(key).into_bytes()).collect();
    let sites: Vec<_> = fleet.sites.iter().map(|site| items(&site.memcached, &keys)).collect();
    let (mut dropped, mut one_sided, mut older) = (0, 0, 0);
    for (&key, &(least, most)) in &written.newest {
        let seen = sites.iter().map(|held| held.get(name(key).as_bytes()));
        let numbers: Vec<Option<u64>> = seen.map(|item| Some(round_of(&item?.value))).collect();
        let present = numbers.iter().flatten().count();
        dropped += usize::from(present == 0);
        one_sided += usize::from(present == 1);
        older += numbers.iter().flatten().filter(|&&round| round < least || round > most).count();
    }
    println!(
        "proxy killed amid {:.0} writes/s over {} keys: {dropped} dropped on both sides, {one_sided} on one side only, \
         {older} older than acknowledged; in sync {repaired:.2?} after the kill; lost_unrepaired {}",
        written.rate,
        written.newest.len(),
        lost(&fleet),
    );
    assert_eq!((one_sided, older, lost(&fleet)), (0, 0, 0));
}

/// What a writer knows of its keys: the last round acknowledged, and the last one sent.
struct Written {
    newest: HashMap<usize, (u64, u64)>,
    rate: f64,
}

/// Sets over a limited number of keys in pipelines, at a steady pace; when the site is away it is tried again.
fn write_at(address: &str, rate: usize, stop: &AtomicBool) -> Written {
    const KEYS: usize = 200_000;
    let (mut newest, mut next, mut done) = (HashMap::new(), 0_usize, 0_u64);
    let mut client = None;
    let began = Instant::now();
    let mut away = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let Some(open) = client.as_mut() else {
            let since = Instant::now();
            client = Client::connect(address).ok();
            thread::sleep(Duration::from_millis(1));
            away += since.elapsed();
            continue;
        };
        let batch: Vec<(usize, u64)> =
            (next..next + BATCH).map(|number| (number % KEYS, (number / KEYS) as u64 + 1)).collect();
        next += BATCH;
        let mut answered = 0;
        let sent: String = batch.iter().map(|&(key, round)| request(&name(key), round)).collect();
        if open.send(sent).is_ok() {
            while answered < batch.len() && open.line().is_ok_and(|line| line == "STORED\r\n") {
                answered += 1;
            }
        }
        for (at, &(key, round)) in batch.iter().enumerate() {
            let known = newest.entry(key).or_insert((0, 0));
            *known = (if at < answered { round } else { known.0 }, round);
        }
        done += answered as u64;
        if answered < batch.len() {
            client = None;
        }
        let due = Duration::from_secs_f64(next as f64 / rate as f64) + away;
        thread::sleep(due.saturating_sub(began.elapsed()));
    }
    Written { newest, rate: done as f64 / (began.elapsed() - away).as_secs_f64() }
}

fn request(key: &str, round: u64) -> String {
    format!("set {key} 0 0 {VALUE}\r\n{round:0100}\r\n")
}

fn round_of(value: &[u8]) -> u64 {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn name(key: usize) -> String {
    format!("figure:{key}")
}

fn fill(address: &str, count: usize) {
    let mut client = Client::to(address);
    for first in (0..count).step_by(BATCH) {
        let batch = first..(first + BATCH).min(count);
        client.send(batch.clone().map(|key| request(&name(key), 1)).collect::<String>()).unwrap();
        for _ in batch {
            assert_eq!(client.line().unwrap(), "STORED\r\n");
        }
    }
}

/// What somebody would write who has to copy a cache by hand: `mg` here, `ms` there, in pipelines.
fn plain_loop(from: &Memcached, count: usize) -> Duration {
    let folder = Folder::new();
    let to = Memcached::start("plain", &folder, &["-m", "1024"]);
    let (mut reader, mut writer) = (from.client(), to.client());
    let began = Instant::now();
    for first in (0..count).step_by(BATCH) {
        let batch = first..(first + BATCH).min(count);
        let asked: String = batch.clone().map(|key| format!("mg {} t f v\r\n", name(key))).collect();
        reader.send(asked).unwrap();
        let mut stores = Vec::new();
        for key in batch.clone() {
            assert!(reader.line().unwrap().starts_with("VA "));
            stores.extend(format!("ms {} {VALUE}\r\n", name(key)).into_bytes());
            stores.extend(reader.take(VALUE + 2).unwrap());
        }
        writer.send(stores).unwrap();
        for _ in batch {
            assert_eq!(writer.line().unwrap(), "HD\r\n");
        }
    }
    began.elapsed()
}

fn gets(fleet: &Fleet, length: Duration, count: usize) -> Vec<Duration> {
    let stop = Arc::new(AtomicBool::new(false));
    let asking = spawn_gets(fleet, &stop, count);
    thread::sleep(length);
    stop.store(true, Ordering::Relaxed);
    sorted(asking.join().unwrap())
}

/// One app at the giver that reads at a pace well below what the machine can do, so that the figures show waiting.
fn spawn_gets(fleet: &Fleet, stop: &Arc<AtomicBool>, count: usize) -> thread::JoinHandle<Vec<Duration>> {
    let (mut client, stop) = (fleet.sites[0].sidecar.client(), Arc::clone(stop));
    let mut rng = Rng::new(1);
    thread::spawn(move || {
        let mut taken = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let key = name(rng.below(count as u64) as usize);
            let began = Instant::now();
            assert!(client.get(&key).unwrap().is_some());
            taken.push(began.elapsed());
            thread::sleep(Duration::from_micros(500));
        }
        taken
    })
}

fn sorted(mut taken: Vec<Duration>) -> Vec<Duration> {
    taken.sort_unstable();
    taken
}

fn at(sorted: &[Duration], percent: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * percent / 100.0) as usize).copied().unwrap_or_default()
}

fn lost(fleet: &Fleet) -> u64 {
    fleet.sites.iter().map(|site| site.sidecar.status()["lost_unrepaired"].as_u64().unwrap_or(u64::MAX)).sum()
}

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
