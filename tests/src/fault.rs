//! What can happen to a fleet, drawn from a seed: deaths, frozen processes, cut and stalled links, wrong clocks, overflow.
//!
//! A [`Storm`] lets faults begin and end at random, up to two at a time, and keeps the account that the checker needs: which
//! sites lost both their memories ([`Loss`]), and where a proxy began anew under a clock that had been ahead.

use std::fmt;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::cable::Direction;
use crate::client::Client;
use crate::fleet::Fleet;
use crate::history::{Circumstances, Loss, Time};
use crate::random::Rng;
use crate::wait::eventually;
use crate::witness::Desk;

/// One thing that goes wrong, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9`; it is started again when the fault ends.
    KillProxy(usize),
    /// SIGTERM; it is started again when the fault ends, and killed first if it still drains.
    StopProxy(usize),
    /// `kill -9`; it comes back empty.
    KillMemcached(usize),
    FreezeProxy(usize),
    FreezeMemcached(usize),
    /// Both links between two sites are reset and refused.
    Cut(usize, usize),
    /// The link that the first one dials is; the other one stays.
    CutOneLink(usize, usize),
    /// Nothing that the first one sends arrives at the second; the way back works.
    OneWay(usize, usize),
    /// Both links stay open and move nothing.
    Stall(usize, usize),
    /// `kill -9` of a proxy, which begins anew with its clock off by so many seconds; and again, with the clock right, when
    /// the fault ends.
    WrongClock(usize, i64),
    /// Cut off from everybody, and written to until its backlog is past any bound.
    Overflow(usize),
}

/// Which faults a storm may draw.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kinds {
    pub links: bool,
    pub freezes: bool,
    pub proxies: bool,
    pub memcacheds: bool,
    /// Needs a [`crate::Plan`] with clocks.
    pub clocks: bool,
    /// Needs a small `--backlog-bytes`.
    pub overflow: bool,
}

impl Kinds {
    /// Nobody loses its memory.
    pub const LINKS: Self = Self {
        links: true,
        freezes: true,
        proxies: false,
        memcacheds: false,
        clocks: false,
        overflow: false,
    };
    pub const MEMORIES: Self = Self { proxies: true, memcacheds: true, ..Self::LINKS };
    pub const ALL: Self = Self { clocks: true, overflow: true, ..Self::MEMORIES };

    /// Those of them that `MEMCLOUD_CHAOS_KINDS` names (`links,proxies`); all, if it is not set.
    #[must_use]
    pub fn named(self) -> Self {
        let Ok(named) = std::env::var("MEMCLOUD_CHAOS_KINDS") else { return self };
        let has = |name: &str| named.split(',').any(|word| word == name);
        Self {
            links: self.links && has("links"),
            freezes: self.freezes && has("freezes"),
            proxies: self.proxies && has("proxies"),
            memcacheds: self.memcacheds && has("memcacheds"),
            clocks: self.clocks && has("clocks"),
            overflow: self.overflow && has("overflow"),
        }
    }

    /// One fault among `sites` sites.
    fn draw(self, sites: usize, rng: &mut Rng) -> Fault {
        let site = rng.below(sites as u64) as usize;
        let other = (site + rng.between(1, sites as u64 - 1) as usize) % sites;
        loop {
            return match rng.below(14) {
                0 if self.links => Fault::Cut(site, other),
                1 if self.links => Fault::CutOneLink(site, other),
                2 if self.links => Fault::OneWay(site, other),
                3 if self.links => Fault::Stall(site, other),
                4 if self.freezes => Fault::FreezeProxy(site),
                5 if self.freezes => Fault::FreezeMemcached(site),
                6..8 if self.proxies => Fault::KillProxy(site),
                8 if self.proxies => Fault::StopProxy(site),
                9..11 if self.memcacheds => Fault::KillMemcached(site),
                11..13 if self.clocks => {
                    let ahead = rng.between(1, CLOCK_OFF_SECONDS) as i64;
                    Fault::WrongClock(site, if rng.chance(50) { ahead } else { -ahead })
                }
                13 if self.overflow => Fault::Overflow(site),
                _ => continue,
            };
        }
    }
}

/// Faults over a fleet, and what they permit.
#[derive(Debug)]
pub struct Storm<'a> {
    fleet: &'a mut Fleet,
    desk: &'a Desk,
    kinds: Kinds,
    open: Vec<(Fault, Instant)>,
    /// What happened, for a failed run: when, and what.
    pub story: Vec<(Time, String)>,
    deaths: Vec<Deaths>,
    amnesias: Vec<(usize, Time)>,
    clock_was_off: bool,
    /// Lives of proxies that began with their clock off.
    pub lives_under_a_wrong_clock: u64,
}

/// When a site's memories died, from before to after.
#[derive(Clone, Debug, Default)]
struct Deaths {
    /// Of what the proxy owed: killed, stopped before it had sent all, or given up.
    proxy: Vec<(Time, Time)>,
    memcached: Vec<(Time, Time)>,
}

impl<'a> Storm<'a> {
    pub fn new(fleet: &'a mut Fleet, desk: &'a Desk, kinds: Kinds) -> Self {
        let deaths = vec![Deaths::default(); fleet.sites.len()];
        let (open, story, amnesias) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            fleet,
            desk,
            kinds,
            open,
            story,
            deaths,
            amnesias,
            clock_was_off: false,
            lives_under_a_wrong_clock: 0,
        }
    }

    /// Lets faults come and go for so long, and then ends them all.
    pub fn rage(&mut self, length: Duration, rng: &mut Rng) {
        let end = Instant::now() + length;
        while Instant::now() < end {
            if self.open.len() < MOST_AT_ONCE && (self.open.is_empty() || rng.chance(40)) {
                let fault = self.kinds.draw(self.fleet.sites.len(), rng);
                if self.is_possible(fault) {
                    self.begin(fault);
                    let lasts = Duration::from_millis(rng.between(20, 1800));
                    self.open.push((fault, (Instant::now() + lasts).min(end)));
                }
            }
            // Paced: how long faults last and how far they are apart is drawn above.
            std::thread::sleep(Duration::from_millis(rng.between(5, 150)));
            self.end_those(|until| until <= Instant::now());
        }
        self.end_those(|_| true);
    }

    /// What the checker has to know, for a time in which nothing was in sync since `since`.
    pub fn account(&mut self, since: Time, circumstances: &mut Circumstances) {
        for (site, deaths) in self.deaths.iter_mut().enumerate() {
            circumstances.losses.extend(deaths.loss(site, since));
            *deaths = Deaths::default();
        }
        circumstances.amnesias.append(&mut self.amnesias);
    }

    fn end_those(&mut self, over: impl Fn(Instant) -> bool) {
        let (ended, open) = self.open.drain(..).partition(|(_, until)| over(*until));
        self.open = open;
        for (fault, _) in ended as Vec<(Fault, Instant)> {
            self.end(fault);
        }
    }

    /// Not twice in one place: a process that is dead cannot be frozen, and what one fault ends another would lose.
    fn is_possible(&self, fault: Fault) -> bool {
        self.open.iter().all(|(open, _)| {
            let other_place = open.place() != fault.place();
            other_place || matches!((open, fault), (Fault::Overflow(_), Fault::KillMemcached(_)))
        })
    }

    fn begin(&mut self, fault: Fault) {
        let before = self.desk.now();
        self.story.push((before, format!("{fault}")));
        let fleet = &mut *self.fleet;
        match fault {
            Fault::KillProxy(site) => fleet.sites[site].sidecar.process_mut().kill(),
            Fault::StopProxy(site) => fleet.sites[site].sidecar.process().signal(Signal::TERM),
            Fault::KillMemcached(site) => fleet.sites[site].memcached.kill(),
            Fault::FreezeProxy(site) => fleet.sites[site].sidecar.process().freeze(),
            Fault::FreezeMemcached(site) => fleet.sites[site].memcached.hang(),
            Fault::Cut(one, other) => fleet.part(one, other),
            Fault::CutOneLink(one, other) => fleet.cable(one, other).cut(),
            Fault::OneWay(one, other) => {
                fleet.cable(one, other).stall(Direction::Forward);
                fleet.cable(other, one).stall(Direction::Back);
            }
            Fault::Stall(one, other) => {
                for cable in [fleet.cable(one, other), fleet.cable(other, one)] {
                    cable.stall(Direction::Forward);
                    cable.stall(Direction::Back);
                }
            }
            Fault::WrongClock(site, seconds) => {
                self.clock_was_off = true;
                self.lives_under_a_wrong_clock += 1;
                relaunch_with_clock(fleet, site, seconds);
            }
            Fault::Overflow(site) => overflow(fleet, site),
        }
        let death = (before, self.desk.now());
        match fault {
            Fault::KillMemcached(site) => self.deaths[site].memcached.push(death),
            Fault::KillProxy(site) | Fault::WrongClock(site, _) | Fault::Overflow(site) => {
                self.proxy_died(site, death);
            }
            _ => {}
        }
    }

    fn end(&mut self, fault: Fault) {
        let before = self.desk.now();
        self.story.push((before, format!("end of {fault}")));
        let fleet = &mut *self.fleet;
        match fault {
            Fault::KillProxy(site) => fleet.sites[site].sidecar.relaunch(),
            Fault::StopProxy(site) => {
                // Whether it had sent everything is not known from outside.
                let began = self.story.iter().rev().find(|(_, told)| *told == format!("{fault}"));
                let began = began.map_or(before, |(time, _)| *time);
                fleet.sites[site].sidecar.relaunch();
                self.proxy_died(site, (began, self.desk.now()));
            }
            Fault::KillMemcached(site) => fleet.sites[site].memcached.restart(),
            Fault::FreezeProxy(site) => fleet.sites[site].sidecar.process().thaw(),
            Fault::FreezeMemcached(site) => fleet.sites[site].memcached.resume(),
            Fault::Cut(one, other)
            | Fault::CutOneLink(one, other)
            | Fault::OneWay(one, other)
            | Fault::Stall(one, other) => {
                fleet.cable(one, other).heal();
                fleet.cable(other, one).heal();
            }
            Fault::WrongClock(site, _) => {
                relaunch_with_clock(fleet, site, 0);
                self.proxy_died(site, (before, self.desk.now()));
            }
            Fault::Overflow(site) => {
                for other in (0..fleet.sites.len()).filter(|&other| other != site) {
                    fleet.cable(site, other).heal();
                    fleet.cable(other, site).heal();
                }
            }
        }
    }

    fn proxy_died(&mut self, site: usize, death: (Time, Time)) {
        self.deaths[site].proxy.push(death);
        if self.clock_was_off {
            self.amnesias.push((site, death.1));
        }
    }
}

impl Deaths {
    /// A mutation is in danger if both memories died after it began; one that lived on has it.
    fn loss(&self, site: usize, since: Time) -> Option<Loss> {
        let first = self.proxy.first()?.0.max(self.memcached.first()?.0);
        let last = self.proxy.last()?.1.min(self.memcached.last()?.1);
        Some(Loss { site, since, died: first, until: last })
    }
}

impl Fault {
    /// Two faults in one place do not go together. Links are one place: a heal ends all that is wrong with a cable.
    fn place(self) -> (usize, &'static str) {
        match self {
            Self::KillProxy(site)
            | Self::StopProxy(site)
            | Self::FreezeProxy(site)
            | Self::WrongClock(site, _) => (site, "proxy"),
            Self::KillMemcached(site) | Self::FreezeMemcached(site) => (site, "memcached"),
            Self::Cut(..) | Self::CutOneLink(..) | Self::OneWay(..) | Self::Stall(..) | Self::Overflow(_) => {
                (0, "links")
            }
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KillProxy(site) => write!(f, "proxy {site} killed"),
            Self::StopProxy(site) => write!(f, "proxy {site} stopped"),
            Self::KillMemcached(site) => write!(f, "memcached {site} killed"),
            Self::FreezeProxy(site) => write!(f, "proxy {site} frozen"),
            Self::FreezeMemcached(site) => write!(f, "memcached {site} frozen"),
            Self::Cut(one, other) => write!(f, "links of {one} and {other} cut"),
            Self::CutOneLink(one, other) => write!(f, "link from {one} to {other} cut"),
            Self::OneWay(one, other) => write!(f, "nothing passes from {one} to {other}"),
            Self::Stall(one, other) => write!(f, "links of {one} and {other} stalled"),
            Self::WrongClock(site, seconds) => {
                write!(f, "proxy {site} begins anew, its clock off by {seconds} s")
            }
            Self::Overflow(site) => write!(f, "backlog of {site} overflows"),
        }
    }
}

fn relaunch_with_clock(fleet: &mut Fleet, site: usize, seconds: i64) {
    fleet.sites[site].clock.as_ref().expect("a plan with clocks").set(seconds);
    fleet.sites[site].sidecar.relaunch();
}

/// Cuts the site off and writes more keys than a backlog of 1 MiB holds. A site that is down takes none.
fn overflow(fleet: &Fleet, site: usize) {
    for other in (0..fleet.sites.len()).filter(|&other| other != site) {
        fleet.part(site, other);
    }
    let Ok(mut client) = Client::connect(fleet.sites[site].sidecar.address()) else { return };
    client.set_patience(Duration::from_secs(3));
    for batch in 0..OVERFLOW_KEYS / 500 {
        let requests = (0..500).map(|number| {
            format!("set overflow:{} 0 0 100 noreply\r\n{number:0100}\r\n", batch * 500 + number)
        });
        if client.send(requests.collect::<String>()).is_err() {
            return;
        }
    }
    let _ = client.try_ask("mn");
}

/// Waits until memcacheds answer and proxies listen again.
pub fn wait_until_alive(fleet: &Fleet, within: Duration) {
    for site in &fleet.sites {
        eventually(&format!("site {} is alive", site.sidecar.settings().site), within, || {
            let asked = |address: &str| {
                let mut client = Client::connect(address).ok()?;
                client.set_patience(Duration::from_secs(2));
                client.try_ask("version").ok().filter(|answer| answer.starts_with("VERSION"))
            };
            asked(site.memcached.address())?;
            asked(site.sidecar.address()).map(|_| ())
        });
    }
}

const MOST_AT_ONCE: usize = 2;
/// Within what sites bear with one another (`--max-clock-skew`, a minute).
const CLOCK_OFF_SECONDS: u64 = 20;
/// At 384 bytes and more each, twice what a backlog of 1 MiB holds.
const OVERFLOW_KEYS: usize = 6000;
