//! All sites of a shard, the network between them, and what must hold.

use std::collections::VecDeque;

use memcloud_proxy::replication::{Bounds, Expiry};

use crate::memcached::{Command, Item};
use crate::rng::Rng;
use crate::site::{Message, SESSION_LANES, Site, Truth};

/// What kind of trouble a run has.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) sites: usize,
    pub(crate) keys: u64,
    pub(crate) steps: u64,
    pub(crate) cuts: bool,
    pub(crate) flushes: bool,
    pub(crate) evictions: bool,
    pub(crate) breaks: bool,
    /// Proxies start again once what they owe is acknowledged. Only sound without a resync in a pair.
    pub(crate) restarts: bool,
    /// Versions are given when writes begin: never, always, or at times.
    pub(crate) promises: [bool; 2],
    pub(crate) skew_ms: u64,
    pub(crate) bounds: Bounds,
}

/// The direction from one site to another.
#[derive(Debug, Default)]
struct Link {
    up: bool,
    blocked_until_ms: u64,
    messages: VecDeque<Message>,
    acks: VecDeque<u64>,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) rng: Rng,
    pub(crate) now_ms: u64,
    pub(crate) sites: Vec<Site>,
    links: Vec<Vec<Link>>,
    truth: Truth,
    writes: u64,
    busy: bool,
    /// When the last scheduled flush was run, by whom it may be.
    repaired_at_ms: u64,
    pub(crate) restarts: u64,
}

impl World {
    pub(crate) fn new(seed: u64, plan: Plan) -> Self {
        let mut rng = Rng::new(seed);
        let site = |me| Site::new(me, plan.sites, plan.bounds, rng.below(plan.skew_ms + 1));
        let mut sites: Vec<_> = (0..plan.sites).map(site).collect();
        sites.iter_mut().for_each(|site| site.promises = plan.promises[0]);
        let links = (0..plan.sites).map(|_| (0..plan.sites).map(|_| Link::default()).collect()).collect();
        Self {
            plan,
            rng,
            now_ms: 1_700_000_000_000,
            sites,
            links,
            truth: Truth::new(),
            writes: 0,
            busy: true,
            repaired_at_ms: 0,
            restarts: 0,
        }
    }

    /// Lets things happen at random.
    pub(crate) fn run(&mut self) {
        for _ in 0..self.plan.steps {
            self.step();
            for site in &self.sites {
                site.replica.check_invariants();
            }
        }
    }

    fn step(&mut self) {
        self.pass_time();
        let site = self.rng.index(self.plan.sites);
        let other = (site + 1 + self.rng.index(self.plan.sites - 1)) % self.plan.sites;
        match self.rng.below(1000) {
            0..10 => self.busy = !self.busy,
            // In quiet times what was sent is not overwritten before it arrives, or comes again.
            10..600 if self.busy || self.rng.chance(100) => self.write(site),
            960..975 if self.plan.cuts => self.cut(site, other),
            975..985 if self.plan.breaks => {
                let lane = self.rng.index(SESSION_LANES + self.plan.sites);
                self.break_lane(site, lane);
            }
            985..990 if self.plan.evictions => {
                let key = self.key();
                self.sites[site].memcached.items.remove(&key);
            }
            990..994 if self.plan.flushes => {
                let lane = self.rng.index(SESSION_LANES);
                self.sites[site].flush(lane);
            }
            994..995 if self.plan.flushes => {
                let delay_ms = 1000 * (1 + self.rng.below(3));
                self.sites[site].flush_later(self.now_ms, delay_ms);
                self.repaired_at_ms = u64::MAX;
            }
            995..998 if self.plan.restarts => self.restart(site),
            998..1000 => self.sites[site].promises = self.plan.promises[self.rng.index(2)],
            _ => {}
        }
        for _ in 0..self.rng.below(5 * self.plan.sites as u64 * self.plan.sites as u64) {
            self.move_on();
        }
    }

    /// Something that is on its way gets a step further.
    fn move_on(&mut self) {
        let site = self.rng.index(self.plan.sites);
        let other = (site + 1 + self.rng.index(self.plan.sites - 1)) % self.plan.sites;
        match self.rng.below(100) {
            0..50 => {
                let lane = self.rng.index(SESSION_LANES + self.plan.sites);
                if self.rng.chance(500) {
                    self.sites[site].execute(lane);
                } else {
                    self.answer(site, lane);
                }
            }
            50..70 => self.dial(site, other),
            70..95 => {
                self.accept(site, other);
            }
            _ => self.acknowledge(site, other),
        }
    }

    fn pass_time(&mut self) {
        self.now_ms += self.rng.below(3);
        if self.rng.chance(3) {
            self.now_ms += self.rng.below(700);
        }
        for site in &mut self.sites {
            if site.replica.due_flush(self.now_ms + site.clock_skew_ms) {
                site.flush(0);
            }
        }
    }

    fn key(&mut self) -> Vec<u8> {
        format!("k{}", self.rng.below(self.plan.keys)).into_bytes()
    }

    fn write(&mut self, site: usize) {
        let key = self.key();
        self.writes += 1;
        let value = if self.rng.chance(300) {
            self.writes.to_string()
        } else {
            // Some are so long that not all of them may be kept.
            let padding = if self.rng.chance(200) { 3000 } else { 0 };
            format!("site {site} write {}{}", self.writes, "-".repeat(padding))
        };
        let item = Item { value: value.into(), expiry: Expiry::Never };
        let command = match self.rng.below(10) {
            0..3 => Command::Set(item),
            3 => Command::Add(item),
            4 => Command::Replace(item),
            5 => Command::Append(b"+"),
            6 => Command::Increment,
            7 => Command::Touch(2_000_000_000 + self.writes),
            8 => Command::Delete,
            _ if self.rng.chance(200) => Command::TooLarge,
            _ => Command::Delete,
        };
        let lane = self.rng.index(SESSION_LANES);
        self.sites[site].write(lane, key, command, self.now_ms);
    }

    fn answer(&mut self, site: usize, lane: usize) -> bool {
        self.sites[site].answer(lane, self.now_ms, &mut self.rng, &mut self.truth)
    }

    /// The upstream connection of a lane breaks; if it belonged to a link, that goes too.
    fn break_lane(&mut self, site: usize, lane: usize) {
        if lane < SESSION_LANES {
            self.sites[site].break_lane(lane, self.now_ms, &mut self.rng, &mut self.truth);
        } else if self.links[lane - SESSION_LANES][site].up {
            self.cut(lane - SESSION_LANES, site);
        }
    }

    fn dial(&mut self, from: usize, to: usize) {
        let link = &mut self.links[from][to];
        let peer = self.sites[from].peer(to);
        if !link.up {
            if link.blocked_until_ms > self.now_ms {
                return;
            }
            link.up = true;
            self.sites[from].replica.connected(peer);
            let run = self.sites[from].run;
            self.sites[to].accept(from, run);
        }
        let site = &mut self.sites[from];
        let now_ms = self.now_ms + site.clock_skew_ms;
        if site.outbox[to].is_empty() {
            let mut taken = Vec::new();
            site.replica.take(peer, 1 + self.rng.index(8), now_ms, &mut taken);
            site.outbox[to].extend(taken);
        } else {
            // Reading and writing takes several steps: a mark must wait for all of them.
            while let Some(message) = site.next_message(to) {
                link.messages.push_back(message);
                if self.rng.chance(300) {
                    return;
                }
            }
        }
        if site.outbox[to].is_empty() && self.rng.chance(400) {
            let mark = site.replica.mark(peer, now_ms);
            link.messages.push_back(Message::Mark { version: mark.version, owed: mark.owed });
        }
    }

    fn accept(&mut self, site: usize, from: usize) -> bool {
        let link = &mut self.links[from][site];
        if !link.up || self.sites[site].acceptors[from].stalled {
            return false;
        }
        let Some(message) = link.messages.pop_front() else { return false };
        self.sites[site].receive(from, message, self.now_ms);
        true
    }

    fn acknowledge(&mut self, site: usize, from: usize) {
        let link = &mut self.links[from][site];
        if !link.up {
            return;
        }
        let now_ms = self.now_ms + self.sites[site].clock_skew_ms;
        link.acks.push_back(self.sites[site].process(from, now_ms));
        if self.rng.chance(700) {
            let peer = self.sites[from].peer(site);
            while let Some(count) = link.acks.pop_front() {
                assert!(self.sites[from].replica.acknowledge(peer, count, 0, self.now_ms));
            }
        }
    }

    fn cut(&mut self, from: usize, to: usize) {
        let link = &mut self.links[from][to];
        link.blocked_until_ms = self.now_ms + self.rng.below(400);
        if !link.up {
            return;
        }
        link.up = false;
        link.messages.clear();
        link.acks.clear();
        let peer = self.sites[from].peer(to);
        self.sites[from].outbox[to].clear();
        self.sites[from].replica.disconnected(peer);
        self.sites[to].hang_up(from, self.now_ms, &mut self.rng, &mut self.truth);
    }

    fn restart(&mut self, site: usize) {
        let now_ms = self.now_ms;
        let others: Vec<_> = (0..self.plan.sites).filter(|other| *other != site).collect();
        let quiet = self.sites[site].is_quiet()
            && others.iter().all(|other| {
                let peer = self.sites[site].peer(*other);
                self.sites[site].replica.status(peer, now_ms).backlog_entries == 0
            });
        if !quiet {
            return;
        }
        for other in others {
            self.cut(site, other);
            self.cut(other, site);
        }
        self.restarts += 1;
        let skew_ms = self.rng.below(self.plan.skew_ms + 1);
        self.sites[site].restart(self.plan.sites, self.plan.bounds, skew_ms);
    }

    /// Writing stops and the links are up: everything that is on its way arrives.
    pub(crate) fn settle(&mut self) {
        for round in 0..1000 {
            self.now_ms += 20;
            if self.repaired_at_ms == u64::MAX && round == 5 {
                self.repaired_at_ms = self.now_ms + 10_000;
            }
            self.pass_time();
            for site in 0..self.plan.sites {
                for lane in 0..SESSION_LANES + self.plan.sites {
                    while self.sites[site].execute(lane) {}
                    while self.answer(site, lane) {}
                }
                for other in (0..self.plan.sites).filter(|other| *other != site) {
                    self.links[site][other].blocked_until_ms = 0;
                    self.dial(site, other);
                    self.accept(other, site);
                    self.acknowledge(other, site);
                }
            }
            for site in &self.sites {
                site.replica.check_invariants();
            }
            if self.now_ms > self.repaired_at_ms && self.is_settled() {
                return;
            }
        }
        let states: Vec<_> = self.sites.iter().map(|site| site.replica.counters()).collect();
        panic!("it never settles: {states:?}");
    }

    fn is_settled(&self) -> bool {
        self.sites.iter().all(|site| {
            let gaps = (0..self.plan.sites - 1)
                .any(|peer| site.replica.status(memcloud_proxy::replication::PeerId(peer), 0).gap.is_some());
            let in_sync = site.replica.in_sync() || gaps;
            in_sync && site.is_quiet() && site.replica.counters().ledger_entries == 0
        }) && self.links.iter().flatten().all(|link| link.messages.is_empty())
    }

    pub(crate) fn has_gaps(&self) -> bool {
        self.sites.iter().any(|site| {
            (0..self.plan.sites - 1)
                .any(|peer| site.replica.status(memcloud_proxy::replication::PeerId(peer), 0).gap.is_some())
        })
    }

    /// All sites hold the outcome of the newest write of every key; what may have been evicted may be missing.
    pub(crate) fn check_equal(&self) {
        for (key, (version, outcome)) in &self.truth {
            let held: Vec<_> = self.sites.iter().map(|site| site.memcached.items.get(key)).collect();
            let present: Vec<_> = held.iter().flatten().collect();
            let name = String::from_utf8_lossy(key);
            assert!(present.is_sorted_by(|a, b| a == b), "{name} differs: {held:?}");
            let may_miss = self.plan.evictions;
            assert!(
                may_miss || present.is_empty() || present.len() == held.len(),
                "{name} is missing: {held:?}"
            );
            if let Some(outcome) = outcome {
                for found in held.iter().filter(|found| !may_miss || found.is_some()) {
                    assert_eq!(*found, outcome.as_ref(), "{name} is not what was written last, {version:?}");
                }
            }
        }
    }

    /// What one memcached evicts stays elsewhere.
    pub(crate) fn check_no_eviction_echo(&mut self) {
        let before: Vec<_> = self.sites.iter().map(|site| site.memcached.items.clone()).collect();
        self.sites[0].memcached.items.clear();
        self.now_ms += 1000;
        self.settle();
        for (site, before) in self.sites.iter().zip(&before).skip(1) {
            assert_eq!(&site.memcached.items, before);
        }
    }

    /// A flush at every site heals every gap.
    pub(crate) fn flush_everywhere(&mut self) {
        for site in 0..self.plan.sites {
            self.sites[site].flush(0);
            self.settle();
        }
        assert!(!self.has_gaps());
        assert!(self.sites.iter().all(|site| site.memcached.items.is_empty()));
    }
}
