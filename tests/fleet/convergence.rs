//! When writing stops and the links are up, every site holds the same: value, flags and expiry of every key.
//!
//! Random writers of all dialects work on all sites at once, on few keys, so that they meet. Afterwards the memcacheds
//! themselves are asked, item by item. `MEMCLOUD_CONVERGENCE_SECONDS` sets how long is written.

#![allow(clippy::unwrap_used, reason = "a broken expectation of a test ends the test")]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use memcloud_tests::binary::{APPEND, DELETE, Frame, GET, SET, reply};
use memcloud_tests::compare::{Comparison, Difference, compare};
use memcloud_tests::process::Folder;
use memcloud_tests::writer::{self, Dialect, LONGEST_FLUSH_DELAY, Order, Signals, Space, Tally};
use memcloud_tests::{Direction, Fleet, Memcached, Plan, Rng, Server, eventually, seconds_from_env};

/// The writers themselves: against one memcached directly nothing they send is ill-formed or refused.
#[test]
fn the_writers_are_well_formed() {
    let folder = Folder::new();
    let memcached = Memcached::start("alone", &folder, &["-m", "256"]);
    let mut rng = Rng::announced("writers", 1);
    let run =
        Run { length: Duration::from_secs(1), connections: 1, flush_every: Some(Duration::from_millis(400)) };
    let tallies = run.write(&[memcached.address().to_owned()], &mut rng, |_, _| {});
    assert!(
        tallies.iter().all(|tally| tally.reconnects == 0 && tally.server_errors.is_empty()),
        "{:?}",
        errors(&tallies)
    );
    assert!(tallies.iter().all(|tally| tally.requests > 100));
}

#[test]
fn two_sites() {
    converge("two sites", Plan::of(2), &Run::usual(), |_, _| {});
}

/// Other classes, other dumps, other error words: nothing may depend on the distribution's version.
#[test]
fn two_sites_on_the_newest_server() {
    converge("two sites, newest", Plan::of(2).server(&Server::newest()), &Run::usual(), |_, _| {});
}

/// A shard amid an upgrade: what one server can do and the other cannot is not used.
#[test]
fn two_sites_on_mixed_servers() {
    let plan = Plan::of(2).server(&Server::distribution()).server_at(1, &Server::newest());
    converge("two sites, mixed", plan, &Run::usual(), |_, _| {});
}

#[test]
fn three_sites_on_bad_cables_on_the_newest_server() {
    let plan = Plan::of(3).server(&Server::newest()).sidecars(&["--peer-timeout", "1s"]);
    converge("three sites on bad cables, newest", plan, &Run::usual(), trouble);
}

#[test]
fn two_sites_with_dedicated_connections() {
    let plan = Plan::of(2).sidecars(&["--upstream-connections", "dedicated"]);
    converge("dedicated", plan, &Run::usual(), |_, _| {});
}

#[test]
fn two_sites_on_bad_cables() {
    let plan = Plan::of(2).sidecars(&["--peer-timeout", "1s"]);
    converge("bad cables", plan, &Run::usual(), trouble);
}

#[test]
fn three_sites() {
    converge("three sites", Plan::of(3), &Run::usual(), |_, _| {});
}

#[test]
fn three_sites_on_bad_cables() {
    let plan = Plan::of(3).sidecars(&["--peer-timeout", "1s"]);
    converge("three sites on bad cables", plan, &Run::usual(), trouble);
}

/// A key that no text line can carry and that is too long for base64 in a meta line (250 bytes bound that form too):
/// only the binary dialect can name it.
#[test]
fn long_raw_keys_converge() {
    let fleet = Plan::of(2).start();
    let keys = [188, 220, 250].map(|length| [b"raw \r\n\0".as_slice(), &vec![b'k'; length - 7]].concat());
    let store = |opcode, key, value| {
        Frame { extras: &[0, 0, 0, 9, 0, 0, 0, 0], key, value, ..Frame::new(opcode) }.bytes()
    };
    let ask = |site: usize, request: Vec<u8>| {
        let mut client = fleet.sites[site].sidecar.client();
        client.send(request).unwrap();
        reply(&mut client).unwrap()
    };
    for key in &keys {
        assert_eq!(ask(0, store(SET, key, b"value")).status, 0);
    }
    fleet.wait_in_sync(Duration::from_secs(30));
    for key in &keys {
        let seen = ask(1, Frame { key, ..Frame::new(GET) }.bytes());
        let what = (seen.status, seen.value.as_slice(), seen.extras.as_slice());
        assert_eq!(what, (0, b"value".as_slice(), [0, 0, 0, 9].as_slice()), "key of {} bytes", key.len());
        let append = Frame { key, value: b"+", ..Frame::new(APPEND) };
        assert_eq!(ask(1, append.bytes()).status, 0);
    }
    fleet.wait_in_sync(Duration::from_secs(30));
    for key in &keys {
        let seen = [0, 1].map(|site| ask(site, Frame { key, ..Frame::new(GET) }.bytes()).value);
        assert_eq!(seen, [b"value+", b"value+"], "key of {} bytes", key.len());
        assert_eq!(ask(0, Frame { key, ..Frame::new(DELETE) }.bytes()).status, 0);
    }
    fleet.wait_in_sync(Duration::from_secs(30));
    for key in &keys {
        assert_eq!(ask(1, Frame { key, ..Frame::new(GET) }.bytes()).status, 1);
    }
}

/// `ms` with `I` and a CAS below the item's stores the value, but keeps the expiry and the win mark it finds: its outcome
/// is not what it says.
#[test]
fn a_stale_store_keeps_the_expiry_it_finds() {
    let fleet = Plan::of(2).start();
    let mut client = fleet.sites[0].sidecar.client();
    for (key, exptime) in [("lasting", "1000"), ("endless", "0")] {
        assert_eq!(client.set("counter", b"on").unwrap(), "STORED");
        assert_eq!(client.ask(&format!("set {key} 3 {exptime} 1\r\nx")), "STORED");
        fleet.wait_in_sync(Duration::from_secs(30));
        assert_eq!(client.ask(&format!("ms {key} 1 C1 I T500 F4\r\ny")), "HD");
    }
    fleet.wait_in_sync(Duration::from_secs(30));
    let result = compare(&[&fleet.sites[0].memcached, &fleet.sites[1].memcached]);
    assert!(result.is_equal() && result.held == 3, "{result:?}");
}

/// The last delayed flush is over when writing stops, on all sites, and items have been written since: memcached
/// counts whole seconds, and the sites follow one another.
const AFTER_THE_LAST_FLUSH: Duration = LONGEST_FLUSH_DELAY.saturating_add(Duration::from_millis(1500));

struct Run {
    length: Duration,
    /// For each site and dialect.
    connections: usize,
    flush_every: Option<Duration>,
}

impl Run {
    fn usual() -> Self {
        let length = seconds_from_env("MEMCLOUD_CONVERGENCE_SECONDS", 6.0);
        Self { length, connections: 2, flush_every: Some((length / 3).min(Duration::from_secs(10))) }
    }

    /// Lets writers loose on all addresses, and `meanwhile` until the time is over.
    fn write(
        &self,
        addresses: &[String],
        rng: &mut Rng,
        meanwhile: impl FnOnce(&mut Rng, Instant),
    ) -> Vec<Tally> {
        let space = space();
        let signals = Arc::new(Signals::default());
        let end = Instant::now() + self.length;
        let mut threads = Vec::new();
        for (site, address) in addresses.iter().enumerate() {
            for dialect in [Dialect::Classic, Dialect::Meta, Dialect::Binary] {
                for number in 0..self.connections {
                    let order = Order {
                        name: format!("{site}/{dialect:?}{number}"),
                        address: address.clone(),
                        dialect,
                        space: space.clone(),
                        largest_value: 9216,
                        // One connection of each dialect flushes; meta has no word for it and uses the classic one.
                        flush_every: self.flush_every.filter(|_| number == 0),
                        flush_until: end.checked_sub(AFTER_THE_LAST_FLUSH).unwrap_or(end),
                        through_faults: false,
                    };
                    let (signals, rng) = (Arc::clone(&signals), rng.fork());
                    threads.push(thread::spawn(move || writer::run(&order, rng, &signals)));
                }
            }
        }
        meanwhile(rng, end);
        eventually("the time is over", self.length * 2 + Duration::from_secs(5), || {
            (Instant::now() >= end).then_some(())
        });
        signals.stop.store(true, Ordering::Relaxed);
        threads.into_iter().map(|thread| thread.join().expect("a writer")).collect()
    }
}

fn space() -> Space {
    Space::new(150, 20, 15)
}

/// Two rounds of writing, waiting until all is in sync, and comparing. The first has flushes, of which one that comes
/// late over a bad cable may rightly leave nothing; the second has none, so that there is something to compare.
fn converge(name: &str, plan: Plan, run: &Run, meanwhile: impl Fn(&Fleet, (&mut Rng, Instant))) {
    let mut rng = Rng::announced(name, 20_260);
    let fleet = plan.start();
    let quiet = Run { flush_every: None, ..*run };
    for (round, run, least) in [("flushing", run, 0), ("not flushing", &quiet, 20)] {
        let tallies = run.write(&fleet.addresses(), &mut rng, |rng, end| meanwhile(&fleet, (rng, end)));
        fleet.heal();
        let written = Instant::now();
        let mut took = fleet.wait_in_sync(Duration::from_secs(30));
        if run.flush_every.is_some() {
            // One that a cable held back may have come only now, and its delay counts from then.
            let rest = AFTER_THE_LAST_FLUSH;
            eventually("delayed flushes are over", rest * 5, || (written.elapsed() > rest).then_some(()));
            took += fleet.wait_in_sync(Duration::from_secs(30));
        }
        judge(&format!("{name}, {round}"), &fleet, &tallies, took, least);
    }
}

fn judge(name: &str, fleet: &Fleet, tallies: &[Tally], took: Duration, least: usize) {
    let memcacheds: Vec<&Memcached> = fleet.sites.iter().map(|site| &site.memcached).collect();
    let result = compare(&memcacheds);
    let requests: u64 = tallies.iter().map(|tally| tally.requests).sum();
    let flushes: u64 = tallies.iter().map(|tally| tally.flushes).sum();
    println!(
        "{name}: {requests} requests, {flushes} flushes, in sync after {took:?}, {} items, {} different, {} on one side only",
        result.held,
        result.different.len(),
        result.one_sided.len()
    );
    assert!(result.is_equal(), "{name}:\n{}\n{}", told(&result, tallies), fleet.statuses());
    assert!(errors(tallies).is_empty(), "{name}: {:?}", errors(tallies));
    let closed = tallies.iter().any(|tally| tally.reconnects > 0);
    assert!(!closed, "{name}: a sidecar closed an app's connection");
    assert!(result.held >= least, "{name}: only {} items are left to compare", result.held);
}

/// Cuts and stalls cables at random until `end`.
fn trouble(fleet: &Fleet, (rng, end): (&mut Rng, Instant)) {
    let sites = fleet.sites.len() as u64;
    while Instant::now() < end {
        let from = rng.below(sites);
        let to = (from + rng.between(1, sites - 1)) % sites;
        let cable = fleet.cable(from as usize, to as usize);
        match rng.below(4) {
            0 => cable.cut(),
            1 => cable.stall(Direction::Forward),
            2 => cable.stall(Direction::Back),
            _ => fleet.part(from as usize, to as usize),
        }
        let pause = Duration::from_millis(rng.between(20, 1500));
        let until = Instant::now() + pause;
        eventually("the trouble lasts", pause * 2 + Duration::from_secs(5), || {
            (Instant::now() >= until).then_some(())
        });
        if rng.chance(70) {
            fleet.heal();
        } else {
            cable.heal();
        }
    }
}

fn errors(tallies: &[Tally]) -> Vec<&String> {
    tallies.iter().flat_map(|tally| &tally.server_errors).take(20).collect()
}

/// The first differences, each with the last deeds on its key.
fn told(result: &Comparison, tallies: &[Tally]) -> String {
    let space = space();
    let tell = |kind: &str, difference: &Difference| {
        let items = difference.items.iter().map(|item| format!("    {item:?}\n")).collect::<String>();
        let story = writer::story(tallies, &space, &difference.key, 12);
        format!("{kind}: {}\n{items}{story}", difference.key.escape_ascii())
    };
    let different = result.different.iter().take(5).map(|difference| tell("different", difference));
    let one_sided = result.one_sided.iter().take(5).map(|difference| tell("on one side only", difference));
    let counts =
        format!("{} different, {} on one side only\n", result.different.len(), result.one_sided.len());
    counts + &different.chain(one_sided).collect::<String>()
}
