//! Whatever fails, and while everybody writes: afterwards all sites hold the same, and nobody ever saw what was older than
//! what had to be known.
//!
//! Each run is a number of rounds. In a round writers of all dialects work on all sites while a [`Storm`] lets processes die,
//! freeze and come back, cuts and stalls links; then all is healed, with the writers still at work for a moment; then the
//! sites must say that they are in sync, the memcacheds are compared item by item, and the witnesses' histories are
//! checked. A seed draws all that is random here; what the threads of many processes make of it, it cannot.
//!
//! `make chaos MINUTES=60` runs this at length.

#![allow(clippy::unwrap_used, reason = "a broken expectation of a test ends the test")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use memcloud_tests::compare::{Comparison, compare_within};
use memcloud_tests::fault::{Kinds, Storm, wait_until_alive};
use memcloud_tests::history::{Circumstances, Event, Time, Verdict, Violation, check};
use memcloud_tests::witness::{Desk, Witness, key_name};
use memcloud_tests::writer::{self, Dialect, Order, Signals, Space};
use memcloud_tests::{Fleet, Plan, Rng, Server, eventually, seconds_from_env};

/// Everything fails but clocks and bounds, on the distribution's server.
#[test]
fn two_sites() {
    let plan = Plan::of(2).server(&Server::distribution()).sidecars(FLAGS);
    run("two sites", plan, Kinds::MEMORIES);
}

#[test]
fn three_sites_on_the_newest_server() {
    let plan = Plan::of(3).server(&Server::newest()).sidecars(FLAGS);
    run("three sites, newest", plan, Kinds::MEMORIES);
}

#[test]
#[ignore = "the other two are in every run; these at length: make chaos"]
fn two_sites_on_the_newest_server() {
    let plan = Plan::of(2).server(&Server::newest()).sidecars(FLAGS);
    run("two sites, newest", plan, Kinds::MEMORIES);
}

#[test]
#[ignore = "the other two are in every run; these at length: make chaos"]
fn three_sites() {
    let plan = Plan::of(3).server(&Server::distribution()).sidecars(FLAGS);
    run("three sites", plan, Kinds::MEMORIES);
}

/// Clocks that are off within what sites bear, and backlogs too small for what is written.
#[test]
fn two_sites_with_wrong_clocks_and_small_backlogs() {
    let plan = Plan::of(2).clocks().sidecars(FLAGS).sidecars(&["--backlog-bytes", "1MiB"]);
    run("two sites, clocks and backlogs", plan, Kinds::ALL);
}

/// Short time-outs, so that a round sees what happens after them.
const FLAGS: &[&str] = &["--peer-timeout", "1s", "--upstream-timeout", "1s", "--drain-timeout", "1s"];
const DIALECTS: [Dialect; 3] = [Dialect::Classic, Dialect::Meta, Dialect::Binary];
/// Keys of the witnesses in each round: few, so that they meet.
const KEYS: usize = 40;
/// How long the sites may take to come back to one state.
const WITHIN: Duration = Duration::from_secs(60);
/// Writers go on for so long after the last fault, so that what repairs it meets them.
const AFTERMATH: Duration = Duration::from_secs(1);

/// An expiry is sent as seconds left, so what a stalled link or a frozen site holds up is added to it: at most a time-out
/// of each, and a second for each memcached's own counting.
const TTL_APART: i64 = 5;
/// Beyond thirty days it is sent as an instant of the sender's clock.
const TTL_APART_WITH_WRONG_CLOCKS: i64 = 45;

/// What a whole run came to.
#[derive(Default)]
struct Total {
    rounds: u64,
    requests: u64,
    verdict: Verdict,
    slowest: Duration,
    lives_under_a_wrong_clock: u64,
}

fn run(name: &str, plan: Plan, kinds: Kinds) {
    let mut rng = Rng::announced(name, 20_263);
    let length = seconds_from_env("MEMCLOUD_CHAOS_SECONDS", 12.0);
    let storm = seconds_from_env("MEMCLOUD_CHAOS_ROUND_SECONDS", 5.0);
    let mut fleet = plan.start();
    let desk = Arc::new(Desk::default());
    let mut around = Circumstances { sites: fleet.sites.len(), ..Circumstances::default() };
    let (mut events, mut total) = (Vec::new(), Total::default());
    let (end, mut since) = (Instant::now() + length, 0);
    while total.rounds == 0 || Instant::now() < end {
        let round = Round { number: total.rounds as usize, name, storm, kinds: kinds.named(), since };
        let outcome = round.go(&mut fleet, &desk, &mut rng, &mut events, &mut around);
        since = outcome.in_sync_at;
        total.add(&outcome);
        // The last round's keys are read once more in the next one; older ones have been.
        let oldest = round.keys().start;
        events.retain(|event: &Event| event.key >= oldest);
    }
    let wrong_clocks = total.lives_under_a_wrong_clock;
    assert!(wrong_clocks > 0 || !kinds.named().clocks, "{name}: no proxy began with its clock off");
    println!(
        "{name}: {} rounds, {wrong_clocks} lives under a wrong clock, {} requests; {} mutations and {} reads on record, {} of them in calms, {} ordered pairs, 0 stale; in sync after at most {:?}; 0 different, 0 on one side only",
        total.rounds,
        total.requests,
        total.verdict.mutations,
        total.verdict.reads,
        total.verdict.calm_reads,
        total.verdict.ordered_pairs,
        total.slowest,
    );
}

impl Total {
    fn add(&mut self, outcome: &Outcome) {
        self.rounds += 1;
        self.requests += outcome.requests;
        self.slowest = self.slowest.max(outcome.took);
        self.lives_under_a_wrong_clock += outcome.lives;
        let (sum, verdict) = (&mut self.verdict, &outcome.verdict);
        sum.reads += verdict.reads;
        sum.calm_reads += verdict.calm_reads;
        sum.mutations += verdict.mutations;
        sum.ordered_pairs += verdict.ordered_pairs;
    }
}

/// One storm and its end.
struct Round<'a> {
    number: usize,
    name: &'a str,
    storm: Duration,
    kinds: Kinds,
    /// When the sites were last in sync.
    since: Time,
}

struct Outcome {
    requests: u64,
    took: Duration,
    in_sync_at: Time,
    verdict: Verdict,
    /// Of proxies that began with their clock off.
    lives: u64,
}

impl Round<'_> {
    fn go(
        &self,
        fleet: &mut Fleet,
        desk: &Arc<Desk>,
        rng: &mut Rng,
        events: &mut Vec<Event>,
        around: &mut Circumstances,
    ) -> Outcome {
        let crowd = Crowd::start(fleet, desk, self.keys(), rng);
        let mut storm = Storm::new(fleet, desk, self.kinds);
        storm.rage(self.storm, rng);
        storm.account(self.since, around);
        let lives = storm.lives_under_a_wrong_clock;
        let story = std::mem::take(&mut storm.story);
        let healed = Instant::now();
        wait_until_alive(fleet, WITHIN);
        eventually("the aftermath is over", AFTERMATH * 2 + WITHIN, || {
            (healed.elapsed() > AFTERMATH).then_some(())
        });
        let requests = crowd.stop(desk, events);
        let took = fleet.wait_in_sync(WITHIN);
        let in_sync_at = desk.now();
        // Twice over the last two rounds' keys: from the first to the last moment of the calm.
        events.extend(self.read_all(fleet, desk));
        let memcacheds: Vec<_> = fleet.sites.iter().map(|site| &site.memcached).collect();
        let seconds = if self.kinds.clocks { TTL_APART_WITH_WRONG_CLOCKS } else { TTL_APART };
        let comparison = compare_within(&memcacheds, seconds);
        events.extend(self.read_all(fleet, desk));
        around.calms.push((in_sync_at, desk.now()));
        let verdict = check(events, around);
        let outcome = Outcome { requests, took, in_sync_at, verdict, lives };
        self.judge(&outcome, &comparison, fleet, events, &story);
        outcome
    }

    /// Each round has keys of its own, so that its history can be checked by itself.
    fn keys(&self) -> std::ops::Range<usize> {
        self.number * KEYS..(self.number + 1) * KEYS
    }

    fn read_all(&self, fleet: &Fleet, desk: &Desk) -> Vec<Event> {
        let keys = self.number.saturating_sub(1) * KEYS..self.keys().end;
        let mut events = Vec::new();
        for (site, address) in fleet.addresses().into_iter().enumerate() {
            for dialect in DIALECTS {
                let witness = Witness { site, address: address.clone(), dialect, keys: keys.clone() };
                events.extend(witness.read_all(desk));
            }
        }
        events
    }

    fn judge(
        &self,
        outcome: &Outcome,
        comparison: &Comparison,
        fleet: &Fleet,
        events: &[Event],
        story: &[(Time, String)],
    ) {
        let verdict = &outcome.verdict;
        let told = format!(
            "{}, round {}: {} requests, in sync after {:?}; {} items, {} different, {} on one side only; {} violations",
            self.name,
            self.number,
            outcome.requests,
            outcome.took,
            comparison.held,
            comparison.different.len(),
            comparison.one_sided.len(),
            verdict.violations.len(),
        );
        println!("{told}");
        let mut wrong = String::new();
        for difference in comparison.different.iter().chain(&comparison.one_sided).take(5) {
            writeln!(wrong, "differs: {difference:?}").unwrap();
        }
        for violation in verdict.violations.iter().take(3) {
            wrong += &tell(violation, events);
        }
        for (name, site) in fleet.addresses().iter().zip(&fleet.sites) {
            let lost = site.sidecar.status()["lost_unrepaired"].as_u64();
            if lost != Some(0) {
                writeln!(wrong, "{name}: lost_unrepaired {lost:?}").unwrap();
            }
        }
        let story = story
            .iter()
            .fold(String::new(), |text, (time, what)| format!("{text}    {:9.4} {what}\n", seconds(*time)));
        assert!(wrong.is_empty(), "{told}\n{wrong}\nfaults:\n{story}\n{}", fleet.statuses());
    }
}

/// Everybody who writes and reads in a round.
struct Crowd {
    witnesses: Vec<thread::JoinHandle<Vec<Event>>>,
    writers: Vec<thread::JoinHandle<writer::Tally>>,
    signals: Arc<Signals>,
}

impl Crowd {
    /// For each site and dialect a witness, and a writer that sends everything that mutates to keys of its own.
    fn start(fleet: &Fleet, desk: &Arc<Desk>, keys: std::ops::Range<usize>, rng: &mut Rng) -> Self {
        desk.stop.store(false, Ordering::Relaxed);
        let signals = Arc::new(Signals::default());
        let mut crowd = Self { witnesses: Vec::new(), writers: Vec::new(), signals };
        for (site, address) in fleet.addresses().into_iter().enumerate() {
            for dialect in DIALECTS {
                let witness = Witness { site, address: address.clone(), dialect, keys: keys.clone() };
                let (desk, own) = (Arc::clone(desk), rng.fork());
                crowd.witnesses.push(thread::spawn(move || witness.run(&desk, own)));
                let order = Order {
                    name: format!("{site}/{dialect:?}"),
                    address: address.clone(),
                    dialect,
                    space: Space::new(150, 20, 15),
                    largest_value: 2048,
                    flush_every: None,
                    flush_until: Instant::now(),
                    through_faults: true,
                };
                let (signals, own) = (Arc::clone(&crowd.signals), rng.fork());
                crowd.writers.push(thread::spawn(move || writer::run(&order, own, &signals)));
            }
        }
        crowd
    }

    /// Returns how many requests there were.
    fn stop(self, desk: &Desk, events: &mut Vec<Event>) -> u64 {
        desk.stop.store(true, Ordering::Relaxed);
        self.signals.stop.store(true, Ordering::Relaxed);
        let mut requests = 0;
        for witness in self.witnesses {
            let seen = witness.join().expect("a witness");
            requests += seen.len() as u64;
            events.extend(seen);
        }
        let tallies = self.writers.into_iter().map(|writer| writer.join().expect("a writer"));
        requests + tallies.map(|tally| tally.requests).sum::<u64>()
    }
}

/// A violation, and all that was done to its key around it.
fn tell(violation: &Violation, events: &[Event]) -> String {
    let read = &violation.read;
    let mut text = format!(
        "{:?}: site {} showed {:?} of {} at {:.4}; newer is what site {} acknowledged by {:.4}\n",
        violation.kind,
        read.site,
        read.deed,
        key_name(read.key),
        seconds(read.begin),
        violation.newer.0,
        seconds(violation.newer.1),
    );
    let mut by_time: BTreeMap<Time, &Event> = BTreeMap::new();
    by_time.extend(events.iter().filter(|event| event.key == read.key).map(|event| (event.begin, event)));
    let last = by_time.range(..=read.begin).rev().take(40).collect::<Vec<_>>();
    for (begin, event) in last.iter().rev() {
        let (begin, end) = (seconds(**begin), seconds(event.end));
        writeln!(text, "    {begin:9.4} to {end:9.4} site {}: {:?}", event.site, event.deed).unwrap();
    }
    text
}

fn seconds(time: Time) -> f64 {
    time as f64 / 1e9
}
