//! A run: apps write and read while faults come and go, then everything is healed, and what replication promises must be
//! true.
//!
//! * *Convergent*: once all sites say that they are in sync, their memcacheds hold the same items: value, flags, and
//!   the time left to a second. They must say so within a bounded time. (Where a memcached stood still the time left
//!   may differ by as long: it counts from when it reads a request.)
//! * *Never stale*: no read after that shows a value older than one acknowledged before; and no site ever goes back
//!   behind what its own apps knew (`memcloud_tests::history`, which also says what a lost machine excuses).
//! * *Nothing lost within the bounds*: where only links failed, what was written last somewhere is there, and no full
//!   resync was needed.
//! * *No loops, no eviction echo*: a site applies no more than the others have stamped; what one memcached evicts stays at
//!   the others.
//! * *Honest*: `lost_unrepaired` is 0 at the end.

use std::collections::BTreeMap;

use memcloud_proxy::config::LogFormat;
use memcloud_proxy::logging;
use memcloud_tests::history::{self, Deed};

use crate::client::name;
use crate::panics;
use crate::world::{Plan, World};

/// What can happen to a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing passes from the one site to the other.
    CutOneWay,
    CutBoth,
    /// Connections between two sites are reset.
    Reset,
    /// Memcached stands still (SIGSTOP).
    StopMemcached,
    /// The whole proxy stands still (SIGSTOP).
    StopProxy,
    /// SIGKILL, and a new one after a while.
    KillProxy,
    /// SIGTERM, and a new one after a while.
    RestartProxy,
    /// SIGKILL; the new one is empty.
    KillMemcached,
    /// The machine's clock is set.
    JumpClock,
}

pub(crate) const LINK_FAULTS: &[Fault] = &[Fault::CutOneWay, Fault::CutBoth, Fault::Reset];
pub(crate) const STALLS: &[Fault] = &[Fault::StopMemcached, Fault::StopProxy];

pub(crate) const KILLS: &[Fault] =
    &[Fault::KillProxy, Fault::KillMemcached, Fault::RestartProxy, Fault::CutBoth, Fault::JumpClock];

/// What comes of a fault when its time is over.
#[derive(Debug)]
enum End {
    Heal(usize, usize),
    Resume(usize),
    ResumeProxy(usize),
    StartProxy(usize),
    StartMemcached(usize),
}

pub(crate) struct Run {
    pub(crate) world: World,
    faults: &'static [Fault],
    ends: BTreeMap<(u64, u64), End>,
    happened: u64,
    longest_stall_ms: u64,
    full_resyncs: u64,
}

impl Run {
    pub(crate) fn new(seed: u64, plan: Plan, faults: &'static [Fault]) -> Self {
        panics::watch();
        if plan.trace {
            logging::install(LogFormat::Human, &std::env::var("SIMULATION_LOG").unwrap_or("info".into()));
        }
        let mut world = World::new(seed, plan);
        // Sites that start empty copy from one another; only what comes after that counts.
        assert!(world.settle(SETTLE_MS), "not in sync at the start:\n{}", world.statuses());
        let full_resyncs = world.full_resyncs();
        Self { world, full_resyncs, faults, ends: BTreeMap::new(), happened: 0, longest_stall_ms: 0 }
    }

    /// Apps write for so long, and faults come at any moment.
    pub(crate) fn trouble(&mut self, ms: u64) {
        self.world.go_on();
        let until = self.world.now.get() + ms;
        let mut next = self.world.now.get() + self.world.rng.below(500);
        while self.world.now.get() < until {
            let now = self.world.now.get();
            if now >= next && !self.faults.is_empty() {
                self.fault(until);
                next = now + 1 + self.world.rng.below(1_500);
            }
            self.end_what_is_over();
            self.world.run(1);
        }
        self.end_all();
    }

    fn fault(&mut self, until: u64) {
        let rng = &mut self.world.rng;
        let fault = self.faults[rng.index(self.faults.len())];
        let sites = self.world.plan.sites;
        let site = rng.index(sites);
        let other = (site + 1 + rng.index(sites - 1)) % sites;
        let now = self.world.now.get();
        let lasts = match rng.below(4) {
            0 => rng.below(30),
            1 => rng.below(300),
            2 => rng.below(2_000),
            _ => rng.below(9_000),
        };
        let lasts = if fault == Fault::StopMemcached { lasts.min(STOPPED_MAX_MS) } else { lasts };
        let over = (now + 1 + lasts).min(until);
        self.world.note(|| format!("{fault:?} at {site} (and {other}) for {lasts} ms"));
        let world = &mut self.world;
        let ends = match fault {
            Fault::CutOneWay => {
                world.network.set_cut(site, other, true);
                vec![End::Heal(site, other)]
            }
            Fault::CutBoth => {
                world.network.set_cut(site, other, true);
                world.network.set_cut(other, site, true);
                vec![End::Heal(site, other), End::Heal(other, site)]
            }
            Fault::Reset => {
                world.network.reset(site, other);
                Vec::new()
            }
            Fault::StopMemcached => {
                self.longest_stall_ms = self.longest_stall_ms.max(lasts);
                world.stop_memcached(site);
                vec![End::Resume(site)]
            }
            Fault::StopProxy => {
                self.longest_stall_ms = self.longest_stall_ms.max(lasts);
                world.stop_proxy(site);
                vec![End::ResumeProxy(site)]
            }
            Fault::KillProxy => {
                world.kill_proxy(site);
                vec![End::StartProxy(site)]
            }
            Fault::RestartProxy => {
                world.ask_proxy_to_stop(site);
                vec![End::StartProxy(site)]
            }
            Fault::KillMemcached => {
                world.kill_memcached(site);
                vec![End::StartMemcached(site)]
            }
            Fault::JumpClock => {
                let by = world.rng.below(4_000) as i64 - 2_000;
                world.jump_clock(site, by);
                Vec::new()
            }
        };
        for end in ends {
            self.happened += 1;
            self.ends.insert((over, self.happened), end);
        }
    }

    fn end_what_is_over(&mut self) {
        let now = self.world.now.get();
        while let Some(entry) = self.ends.first_entry().filter(|entry| entry.key().0 <= now) {
            let end = entry.remove();
            self.end(&end);
        }
    }

    fn end_all(&mut self) {
        while let Some((_, end)) = self.ends.pop_first() {
            self.end(&end);
        }
    }

    fn end(&mut self, end: &End) {
        self.world.note(|| format!("{end:?}"));
        match *end {
            End::Heal(from, to) => self.world.network.set_cut(from, to, false),
            End::Resume(site) => self.world.resume_memcached(site),
            End::ResumeProxy(site) => self.world.resume_proxy(site),
            End::StartProxy(site) => self.world.start_proxy(site),
            End::StartMemcached(site) => self.world.start_memcached(site),
        }
    }

    /// Everything is healed by now: waits until all sites are in sync, lets apps read, and checks what must be true.
    pub(crate) fn check(&mut self) {
        let in_sync = self.world.settle(SETTLE_MS);
        assert!(in_sync, "not in sync after {SETTLE_MS} ms:\n{}", self.world.statuses());
        let from = self.world.history.tick();
        let differences = self.world.differences(self.longest_stall_ms.div_ceil(1000));
        assert!(differences.is_empty(), "{differences:#?}");
        self.world.read_everything();
        let until = self.world.history.tick();
        self.world.circumstances.calms.push((from, until));
        self.check_history();
        let lost: Vec<u64> =
            (0..self.world.plan.sites).map(|site| self.world.status(site).unwrap().lost_unrepaired).collect();
        assert!(lost.iter().all(|lost| *lost == 0), "lost_unrepaired {lost:?}");
    }

    fn check_history(&self) {
        let verdict = history::check(&self.world.history.events, &self.world.circumstances);
        if let Some(violation) = verdict.violations.first() {
            let key = violation.read.key;
            let told = self.world.history.events.iter().filter(|event| event.key == key);
            for event in told.filter(|event| self.world.plan.trace || !matches!(event.deed, Deed::Read(_))) {
                eprintln!("{event:?}");
            }
            let name = String::from_utf8_lossy(&name(key)).into_owned();
            panic!("{name}: {violation:?}; losses {:?}", self.world.circumstances.losses);
        }
    }

    /// What one memcached evicts stays at the others.
    pub(crate) fn check_no_eviction_echo(&mut self) {
        let keys = self.world.plan.habits.keys;
        for key in (0..keys).map(name) {
            let site = self.world.rng.index(self.world.plan.sites);
            if let Some(memcached) = &mut self.world.sites[site].memcached {
                memcached.evict(&key);
            }
        }
        let before = self.world.held();
        self.world.run(2_000);
        for (site, (before, after)) in before.iter().zip(self.world.held()).enumerate() {
            for (key, left) in before {
                let expired = left.is_some_and(|left| left <= 3);
                assert!(expired || after.contains_key(key), "site {site} deleted what another one evicted");
            }
        }
    }

    /// Nothing that came from a peer goes on to another one.
    pub(crate) fn check_no_loops(&self) {
        let (sent, caused) = self.world.sent_and_caused();
        let peers = self.world.plan.sites as u64 - 1;
        assert!(
            sent <= caused * peers,
            "{sent} mutations were sent, {caused} were made, for {peers} peers each"
        );
    }

    /// Where only links failed: nothing was compared or copied as a whole, nothing was dropped.
    pub(crate) fn check_nothing_was_lost(&self) {
        let full = self.world.full_resyncs() - self.full_resyncs;
        assert_eq!(full, 0, "a cut link needed a full resync:\n{}", self.world.statuses());
    }
}

/// Less than `--upstream-timeout`.
const STOPPED_MAX_MS: u64 = 4_000;
/// After this all sites must be in sync.
const SETTLE_MS: u64 = 60_000;
