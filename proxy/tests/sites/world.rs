//! The world: sites with a proxy, a memcached and apps each, a network between them, and one clock for all.
//!
//! A millisecond is a turn: what is due is delivered, memcacheds and apps act on it, then each proxy runs until its own
//! event loop has caught up. A proxy's bytes arrive a turn later at the earliest, so it does not matter that proxies
//! run one after the other.
//!
//! Here is the clock, and what a turn is. How a run is made is in `plan`, what starts and stops in `lives`, who is whose peer in
//! `company`, what can be said of it all in `shown`.

mod company;
mod lives;
mod plan;
mod shown;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;

use memcloud_tests::history::Circumstances;

use crate::client::{Client, Dialect, History};
use crate::machine::{Clock, Process};
use crate::memcached::Memcached;
use crate::network::{ActorId, Event, Network};
use crate::rng::Rng;
pub(crate) use plan::{Plan, Servers};

pub(crate) struct Site {
    pub(crate) proxy: Option<Process>,
    /// The proxy stands still.
    frozen: bool,
    /// It was asked to stop: a new one is started when it has ended.
    stopping: bool,
    pub(crate) memcached: Option<Memcached>,
    /// Events that came while memcached was stopped.
    stopped: Option<Vec<Event>>,
    pub(crate) clock: Clock,
    /// When memcached was started: by the world's time, and by the site's clock.
    started: (u64, u64),
    /// The greatest offset of its clock in any life of its proxy.
    lived_until_ms: Option<i64>,
    pub(crate) proxy_lost: bool,
    pub(crate) memcached_lost: bool,
}

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) network: Network,
    pub(crate) sites: Vec<Site>,
    pub(crate) clients: Vec<Client>,
    pub(crate) history: History,
    pub(crate) circumstances: Circumstances,
    pub(crate) now: Rc<Cell<u64>>,
    pub(crate) rng: Rng,
    /// The last moment at which every site said that all is in sync.
    pub(crate) synced: u64,
    /// Keys that some memcached has evicted: any of them may lack it.
    evicted: BTreeSet<usize>,
    pub(crate) lost_a_memcached: bool,
    /// Sites that are nobody's peers.
    apart: BTreeSet<usize>,
    /// Pairs whose proxies have heard each other since both were started.
    met: BTreeSet<(usize, usize)>,
}

impl World {
    pub(crate) fn new(seed: u64, plan: Plan) -> Self {
        let mut rng = Rng::new(seed);
        let network = Network::new(plan.sites, Rng::new(rng.next()));
        let now = Rc::new(Cell::new(0));
        for from in 0..plan.sites {
            for to in (0..plan.sites).filter(|to| *to != from) {
                network.set_delay(from, to, plan.delay_ms.0, plan.delay_ms.1);
            }
        }
        let sites = (0..plan.sites)
            .map(|_| Site {
                proxy: None,
                frozen: false,
                stopping: false,
                memcached: None,
                stopped: None,
                clock: Clock {
                    now: Rc::clone(&now),
                    offset_ms: Rc::new(Cell::new(
                        rng.below(2 * plan.skew_ms + 1) as i64 - plan.skew_ms as i64,
                    )),
                },
                started: (0, 0),
                lived_until_ms: None,
                proxy_lost: false,
                memcached_lost: false,
            })
            .collect();
        let circumstances = Circumstances { sites: plan.sites, ..Circumstances::default() };
        let mut world = Self {
            plan,
            network,
            sites,
            clients: Vec::new(),
            history: History::new(Rc::clone(&now)),
            circumstances,
            now,
            rng,
            synced: 0,
            evicted: BTreeSet::new(),
            lost_a_memcached: false,
            apart: BTreeSet::new(),
            met: BTreeSet::new(),
        };
        for site in 0..world.plan.sites {
            world.start_memcached(site);
            world.start_proxy(site);
        }
        for client in 0..world.plan.clients {
            let id = world.plan.sites + client;
            let dialects = if world.plan.text_only { 2 } else { 3 };
            let dialect = [Dialect::Classic, Dialect::Meta, Dialect::Binary][world.rng.index(dialects)];
            let rng = Rng::new(world.rng.next());
            let habits = world.plan.habits.clone();
            world.clients.push(Client::new(id, client % world.plan.sites, dialect, habits, rng));
        }
        let keys = world.plan.habits.keys;
        world.clients[0].write_first((keys..keys + COLD_KEYS).collect());
        world
    }

    pub(crate) fn note(&self, what: impl FnOnce() -> String) {
        if self.plan.trace {
            eprintln!("{:>7} {}", self.now.get(), what());
        }
    }

    // ---- time

    pub(crate) fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.turn();
        }
    }

    fn turn(&mut self) {
        self.now.set(self.now.get() + 1);
        let now = self.now.get();
        for event in self.network.advance(now) {
            self.happened(event);
        }
        for client in &mut self.clients {
            client.tick(now, &self.network, &mut self.history);
        }
        for site in &mut self.sites {
            if let Some(proxy) = site.proxy.as_ref().filter(|_| !site.frozen) {
                proxy.run_until(now);
            }
        }
        for site in 0..self.sites.len() {
            if self.sites[site].proxy.as_ref().is_some_and(Process::has_ended) {
                // It may have given up before peers had everything.
                self.kill_proxy(site);
            }
        }
        if now.is_multiple_of(MEET_EVERY_MS) {
            self.note_meetings();
        }
        crate::panics::check();
    }

    fn happened(&mut self, event: Event) {
        let now = self.now.get();
        let (Event::Connected(actor, _)
        | Event::Refused(actor)
        | Event::Accepted(actor, _)
        | Event::Came(actor, _)) = event;
        if actor < self.plan.sites {
            return self.serve(actor, event);
        }
        let client = &mut self.clients[actor - self.plan.sites];
        match event {
            Event::Connected(_, end) => client.connected(end, now),
            Event::Refused(_) => client.refused(now),
            Event::Came(_, end) => client.came(end, now, &self.network, &mut self.history),
            Event::Accepted(..) => unreachable!("nobody dials an app"),
        }
    }

    /// Something has come for a memcached.
    fn serve(&mut self, site: ActorId, event: Event) {
        let now = self.now.get();
        let place = &mut self.sites[site];
        if let Some(held) = &mut place.stopped {
            held.push(event);
            return;
        }
        let Some(memcached) = &mut place.memcached else { return };
        let (started, wall) = place.started;
        memcached.set_time(wall + now - started);
        match event {
            Event::Accepted(_, end) => memcached.accept(end),
            Event::Came(_, end) => {
                let came = self.network.take(end);
                let answer = memcached.read(end, &came.bytes);
                if self.plan.trace {
                    let shown =
                        |bytes: &[u8]| String::from_utf8_lossy(bytes).chars().take(300).collect::<String>();
                    eprintln!(
                        "{now:>7} memcached {site} {}: {:?} -> {:?}",
                        end.connection,
                        shown(&came.bytes),
                        shown(&answer.bytes)
                    );
                }
                if !answer.bytes.is_empty() {
                    self.network.send(end, &answer.bytes);
                }
                if came.over || answer.close {
                    memcached.closed(end);
                    self.network.close(end);
                }
            }
            Event::Connected(..) | Event::Refused(_) => {}
        }
    }

    // ---- what apps do

    /// Apps write again.
    pub(crate) fn go_on(&mut self) {
        self.clients.iter_mut().for_each(Client::write_again);
    }

    /// Lets clients read only, and waits until all sites are in sync; false if they do not become so.
    pub(crate) fn settle(&mut self, limit_ms: u64) -> bool {
        self.clients.iter_mut().for_each(Client::only_read);
        for _ in 0..limit_ms / SYNC_EVERY_MS {
            self.run(SYNC_EVERY_MS);
            let flushed = self.now.get() >= self.history.flushed_ms;
            if flushed && self.is_in_sync() && !self.clients.iter().any(Client::is_waiting_for_write) {
                self.synced = self.history.tick();
                for site in &mut self.sites {
                    (site.proxy_lost, site.memcached_lost) = (false, false);
                }
                return true;
            }
        }
        false
    }

    /// All apps read all keys for a while.
    pub(crate) fn read_everything(&mut self) {
        self.run(1_000);
    }
}

/// Keys that are written once at the start, and never again.
pub(crate) const COLD_KEYS: usize = 6;
/// How often it is asked who has met.
const MEET_EVERY_MS: u64 = 20;
/// How often it is asked whether all is in sync.
const SYNC_EVERY_MS: u64 = 50;
