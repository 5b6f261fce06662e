//! A run: apps write and read while faults come and go, then everything is healed, and what replication promises must be
//! true.
//!
//! * *Convergent*: once all sites say that they are in sync, their memcacheds hold the same items: value, flags, and
//!   the time left to a second. They must say so within a bounded time. (Where a memcached stood still the time left
//!   may differ by as long: it counts from when it reads a request.)
//! * *Never stale*: no read after that shows a value older than one acknowledged before; and no site ever goes back
//!   behind what its own apps knew (`memcloud_tests::history`, which also says what a lost machine excuses).
//! * *Nothing lost within the bounds*: where only links failed, what was written last somewhere is there, and no full
//!   resync was needed. The same where proxies were killed and versions are the CAS of items. What nobody has written for long
//!   is there whatever happened, as long as its memcacheds live.
//! * *Local speed*: whatever happens to links, apps are answered at once, and what is owed stays within its bound.
//! * *No loops, no eviction echo*: a site applies no more than the others have stamped; what one memcached evicts stays at
//!   the others.
//! * *Honest*: `lost_unrepaired` is 0 at the end, and what was sent is counted on both sides.
//! * *Versioned*: where versions are the CAS of items, one CAS is one value; the newer side wins in a repair.

mod oracles;

use std::collections::BTreeMap;

use memcloud_proxy::config::LogFormat;
use memcloud_proxy::logging;

use crate::panics;
use crate::world::{Plan, Servers, World};

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
    /// The way between two sites is long.
    Slow,
    /// One memcached evicts some of what apps use.
    Evict,
    /// A site is taken out of the shard, and comes back.
    Part,
}

pub(crate) const LINK_FAULTS: &[Fault] = &[Fault::CutOneWay, Fault::CutBoth, Fault::Reset, Fault::Slow];
pub(crate) const STALLS: &[Fault] = &[Fault::StopMemcached, Fault::StopProxy];

pub(crate) const KILLS: &[Fault] =
    &[Fault::KillProxy, Fault::KillMemcached, Fault::RestartProxy, Fault::CutBoth, Fault::JumpClock];
pub(crate) const PARTS: &[Fault] = &[Fault::Part, Fault::Part, Fault::CutBoth, Fault::Slow, Fault::Reset];
pub(crate) const PARTS_AND_KILLS: &[Fault] = &[
    Fault::Part,
    Fault::Part,
    Fault::KillProxy,
    Fault::RestartProxy,
    Fault::KillMemcached,
    Fault::CutOneWay,
];
pub(crate) const ALL: &[Fault] = &[
    Fault::CutOneWay,
    Fault::CutBoth,
    Fault::Reset,
    Fault::StopMemcached,
    Fault::StopProxy,
    Fault::KillProxy,
    Fault::RestartProxy,
    Fault::KillMemcached,
    Fault::JumpClock,
    Fault::Slow,
    Fault::Evict,
];

/// What comes of a fault when its time is over.
#[derive(Debug)]
enum End {
    Heal(usize, usize),
    Near(usize, usize),
    Resume(usize),
    ResumeProxy(usize),
    StartProxy(usize),
    StartMemcached(usize),
    Join(usize),
}

pub(crate) struct Run {
    pub(crate) world: World,
    faults: &'static [Fault],
    ends: BTreeMap<(u64, u64), End>,
    happened: u64,
    longest_stall_ms: u64,
    full_resyncs: u64,
    /// How many keys were held to what was written last.
    pub(crate) certain: usize,
}

impl Run {
    pub(crate) fn new(seed: u64, plan: Plan, faults: &'static [Fault]) -> Self {
        panics::watch();
        if plan.trace {
            let _ =
                logging::install(LogFormat::Human, &std::env::var("SIMULATION_LOG").unwrap_or("info".into()));
        }
        let mut world = World::new(seed, plan);
        // Sites that start empty copy from one another; only what comes after that counts.
        assert!(world.settle(SETTLE_MS), "not in sync at the start:\n{}", world.statuses());
        let versioned = world.is_versioned();
        assert_eq!(versioned, world.plan.servers == Servers::New, "{}", world.statuses());
        let full_resyncs = world.full_resyncs();
        Self {
            world,
            full_resyncs,
            faults,
            ends: BTreeMap::new(),
            happened: 0,
            longest_stall_ms: 0,
            certain: 0,
        }
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
            if now.is_multiple_of(BOUNDS_EVERY_MS) {
                self.check_bounds();
            }
        }
        self.end_all();
    }

    /// From now on these happen.
    pub(crate) fn let_happen(&mut self, faults: &'static [Fault]) {
        self.faults = faults;
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
        if matches!(fault, Fault::KillProxy | Fault::RestartProxy) && !self.world.is_known_to_all(site) {
            return;
        }
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
                let most = [2_000, 2_000, 20_000][world.rng.index(3)];
                let by = world.rng.below(2 * most) as i64 - most as i64;
                world.jump_clock(site, by);
                Vec::new()
            }
            Fault::Slow => {
                let more_ms = 50 + world.rng.below(400);
                world.set_far(site, other, more_ms);
                vec![End::Near(site, other)]
            }
            Fault::Part => {
                world.set_apart(site, true);
                vec![End::Join(site)]
            }
            Fault::Evict => {
                world.evict(site);
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
            End::Near(one, other) => self.world.set_far(one, other, 0),
            End::Resume(site) => self.world.resume_memcached(site),
            End::ResumeProxy(site) => self.world.resume_proxy(site),
            End::StartProxy(site) => self.world.start_proxy(site),
            End::Join(site) => self.world.set_apart(site, false),
            End::StartMemcached(site) => self.world.start_memcached(site),
        }
    }
}

/// Less than `--upstream-timeout`.
const STOPPED_MAX_MS: u64 = 4_000;
/// After this all sites must be in sync.
const SETTLE_MS: u64 = 60_000;
/// How often memory is looked at.
const BOUNDS_EVERY_MS: u64 = 20;
