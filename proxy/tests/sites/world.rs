//! The world: sites with a proxy, a memcached and apps each, a network between them, and one clock for all.
//!
//! A millisecond is a turn: what is due is delivered, memcacheds and apps act on it, then each proxy runs until its own
//! event loop has caught up. A proxy's bytes arrive a turn later at the earliest, so it does not matter that proxies
//! run one after the other.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use memcloud_proxy::admin::Status;
use memcloud_proxy::config::{Config, Settings};
use memcloud_tests::history::{Circumstances, Loss};

use crate::client::{Client, Dialect, Habits, History, name};
use crate::machine::{Clock, Process};
use crate::memcached::{Item, Memcached};
use crate::network::{ActorId, Event, Network};
use crate::rng::Rng;

/// How a run is made.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) sites: usize,
    pub(crate) clients: usize,
    pub(crate) habits: Habits,
    /// Between sites: the least delay, and what chance adds.
    pub(crate) delay_ms: (u64, u64),
    /// How far clocks are off at the start, at the most.
    pub(crate) skew_ms: u64,
    pub(crate) backlog_bytes: Option<u64>,
    pub(crate) trace: bool,
}

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
            history: History::default(),
            circumstances,
            now,
            rng,
            synced: 0,
        };
        for site in 0..world.plan.sites {
            world.start_memcached(site);
            world.start_proxy(site);
        }
        for client in 0..world.plan.clients {
            let id = world.plan.sites + client;
            let dialect = [Dialect::Classic, Dialect::Meta, Dialect::Binary][world.rng.index(3)];
            let rng = Rng::new(world.rng.next());
            let habits = world.plan.habits.clone();
            world.clients.push(Client::new(id, client % world.plan.sites, dialect, habits, rng));
        }
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

    // ---- what starts and stops

    pub(crate) fn start_memcached(&mut self, site: usize) {
        if self.sites[site].memcached.is_some() {
            return;
        }
        let now = self.now.get();
        let pid = self.rng.below(30_000) as u32 + 2;
        let place = &mut self.sites[site];
        place.started = (now, place.clock.wall_ms());
        place.memcached = Some(Memcached::new(pid, place.clock.wall_ms()));
        assert!(self.network.listen(&format!("m{site}:11211"), Some(site)));
        self.note(|| format!("memcached {site} starts"));
    }

    /// SIGKILL: all it held is gone.
    pub(crate) fn kill_memcached(&mut self, site: usize) {
        self.resume_memcached(site);
        let Some(memcached) = self.sites[site].memcached.take() else { return };
        self.network.unlisten(&format!("m{site}:11211"));
        for end in memcached.connections() {
            self.network.close(end);
        }
        self.sites[site].memcached_lost = true;
        self.lost(site);
        self.note(|| format!("memcached {site} is killed"));
    }

    pub(crate) fn stop_memcached(&mut self, site: usize) {
        if self.sites[site].memcached.is_some() {
            self.sites[site].stopped.get_or_insert_default();
            self.note(|| format!("memcached {site} stands still"));
        }
    }

    pub(crate) fn resume_memcached(&mut self, site: usize) {
        for event in self.sites[site].stopped.take().unwrap_or_default() {
            self.serve(site, event);
        }
    }

    /// A new one; whatever is left of the old one is killed.
    pub(crate) fn start_proxy(&mut self, site: usize) {
        if self.sites[site].proxy.is_some() {
            if !self.sites[site].stopping {
                return;
            }
            self.kill_proxy(site);
        }
        self.sites[site].stopping = false;
        let config = self.config(site);
        let rng = Rng::new(self.rng.next());
        let place = &mut self.sites[site];
        // A clock that was set back may give versions below those of the proxy before.
        let offset_ms = place.clock.offset_ms.get();
        if place.lived_until_ms.is_some_and(|before| offset_ms < before) {
            self.circumstances.amnesias.push((site, self.history.tick()));
        }
        place.lived_until_ms = place.lived_until_ms.max(Some(offset_ms));
        place.proxy = Some(Process::start(config, self.network.clone(), site, place.clock.clone(), rng));
        self.note(|| format!("proxy {site} starts"));
    }

    /// SIGTERM.
    pub(crate) fn ask_proxy_to_stop(&mut self, site: usize) {
        if let Some(proxy) = &self.sites[site].proxy {
            proxy.ask_to_stop();
            self.sites[site].stopping = true;
        }
    }

    /// SIGSTOP.
    pub(crate) fn stop_proxy(&mut self, site: usize) {
        self.sites[site].frozen = true;
    }

    /// SIGCONT: its clock jumps to where the world's is.
    pub(crate) fn resume_proxy(&mut self, site: usize) {
        let frozen = std::mem::take(&mut self.sites[site].frozen);
        if let Some(proxy) = self.sites[site].proxy.as_ref().filter(|_| frozen) {
            proxy.jump_to(self.now.get());
        }
    }

    /// Somebody sets the clock of a machine.
    pub(crate) fn jump_clock(&mut self, site: usize, by_ms: i64) {
        let place = &mut self.sites[site];
        place.lived_until_ms = place.lived_until_ms.max(Some(place.clock.offset_ms.get()));
        place.clock.offset_ms.set(place.clock.offset_ms.get() + by_ms);
    }

    /// SIGKILL.
    pub(crate) fn kill_proxy(&mut self, site: usize) {
        self.sites[site].frozen = false;
        let Some(proxy) = self.sites[site].proxy.take() else { return };
        proxy.kill();
        self.sites[site].proxy_lost = true;
        self.lost(site);
        self.note(|| format!("proxy {site} is killed"));
    }

    /// Both gone before everything was sent: what was acknowledged since then may be lost.
    fn lost(&mut self, site: usize) {
        let time = self.history.tick();
        let since = self.synced;
        let place = &mut self.sites[site];
        if place.proxy_lost && place.memcached_lost {
            self.circumstances.losses.push(Loss { site, since, died: time, until: time });
        }
    }

    fn config(&self, site: usize) -> Config {
        let address = |host: &str, port: u16| format!("{host}:{port}").parse().unwrap();
        let others = (0..self.plan.sites).filter(|other| *other != site);
        let settings = Settings {
            listen: Some(vec![address(&format!("p{site}"), 11211)]),
            upstream: Some(address(&format!("m{site}"), 11211)),
            site: Some(format!("site-{site}")),
            peer_listen: Some(address(&format!("p{site}"), 7000)),
            peer: Some(others.map(|other| address(&format!("p{other}"), 7000)).collect()),
            peer_insecure: Some(true),
            admin: Some(address(&format!("p{site}"), 9000)),
            workers: Some(1),
            ..Settings::default()
        };
        let config = Config::from_layers(settings, None).unwrap();
        // Less than an operator may choose: a run has few keys.
        let backlog_bytes = self.plan.backlog_bytes.unwrap_or(config.backlog_bytes);
        Config { backlog_bytes, ..config }
    }

    // ---- what is true at the end

    pub(crate) fn status(&self, site: usize) -> Option<Status> {
        self.sites[site].proxy.as_ref()?.ask(|source| source.status())
    }

    pub(crate) fn is_in_sync(&self) -> bool {
        (0..self.plan.sites).all(|site| self.status(site).is_some_and(|status| status.in_sync))
    }

    /// Apps write again.
    pub(crate) fn go_on(&mut self) {
        self.clients.iter_mut().for_each(Client::write_again);
    }

    /// Mutations sent to peers for the first time, and those that could cause them: of apps, and of doubt.
    pub(crate) fn sent_and_caused(&self) -> (u64, u64) {
        let (mut sent, mut caused) = (0, self.history.writes);
        for site in &self.sites {
            let Some(figures) =
                site.proxy.as_ref().and_then(|proxy| proxy.ask(|source| source.replication()))
            else {
                continue;
            };
            for (_, outcome, count) in figures.peers.iter().flat_map(|peer| &peer.mutations) {
                match *outcome {
                    "sent" => sent += count,
                    "resent" => sent -= count,
                    "doubtful" => caused += count,
                    _ => {}
                }
            }
        }
        (sent, caused)
    }

    /// Lets clients read only, and waits until all sites are in sync; false if they do not become so.
    pub(crate) fn settle(&mut self, limit_ms: u64) -> bool {
        self.clients.iter_mut().for_each(Client::only_read);
        for _ in 0..limit_ms / SYNC_EVERY_MS {
            self.run(SYNC_EVERY_MS);
            if self.is_in_sync() && !self.clients.iter().any(Client::is_waiting_for_write) {
                self.synced = self.history.tick();
                for site in &mut self.sites {
                    (site.proxy_lost, site.memcached_lost) = (false, false);
                }
                return true;
            }
        }
        false
    }

    pub(crate) fn statuses(&self) -> String {
        let all = (0..self.plan.sites).filter_map(|site| self.status(site));
        all.map(|status| serde_json::to_string_pretty(&status).unwrap()).collect()
    }

    pub(crate) fn full_resyncs(&self) -> u64 {
        let all = (0..self.plan.sites).filter_map(|site| self.status(site));
        all.flat_map(|status| status.peers).map(|peer| peer.resyncs_full).sum()
    }

    /// All apps read all keys for a while.
    pub(crate) fn read_everything(&mut self) {
        self.run(1_000);
    }

    /// The keys at each site, and the seconds they have left.
    pub(crate) fn held(&mut self) -> Vec<BTreeMap<Vec<u8>, Option<u64>>> {
        let living = self.living();
        living
            .into_iter()
            .map(|items| items.into_iter().map(|(key, (_, left))| (key, left)).collect())
            .collect()
    }

    fn living(&mut self) -> Vec<BTreeMap<Vec<u8>, Held>> {
        let now = self.now.get();
        let living = |place: &mut Site| {
            let Some(memcached) = &mut place.memcached else { return BTreeMap::new() };
            memcached.set_time(place.started.1 + now - place.started.0);
            memcached.living()
        };
        self.sites.iter_mut().map(living).collect()
    }

    /// What differs between the memcacheds, as sentences; times left by more than a second and `tolerance_s`.
    pub(crate) fn differences(&mut self, tolerance_s: u64) -> Vec<String> {
        let held = self.living();
        let mut differences = Vec::new();
        for key in (0..self.plan.habits.keys).map(name) {
            let (first, others) = held.split_first().unwrap();
            for (other, items) in others.iter().enumerate() {
                let same = match (first.get(&key), items.get(&key)) {
                    (None, None) => true,
                    (Some((a, a_left)), Some((b, b_left))) => {
                        let close = match (a_left, b_left) {
                            (Some(a), Some(b)) => a.abs_diff(*b) <= 1 + tolerance_s,
                            (a, b) => a == b,
                        };
                        (a.flags, &a.value) == (b.flags, &b.value) && close
                    }
                    // About to expire on one side.
                    (Some((_, Some(left))), None) | (None, Some((_, Some(left)))) => *left <= 1 + tolerance_s,
                    _ => false,
                };
                if !same {
                    let show = |item: Option<&Held>| {
                        item.map(|(item, left)| {
                            let value: String =
                                String::from_utf8_lossy(&item.value).chars().take(60).collect();
                            format!("{value:?} flags {} left {left:?} cas {}", item.flags, item.cas)
                        })
                    };
                    differences.push(format!(
                        "{}: site 0 {:?}, site {} {:?}",
                        String::from_utf8_lossy(&key),
                        show(first.get(&key)),
                        other + 1,
                        show(items.get(&key))
                    ));
                }
            }
        }
        differences
    }
}

/// An item, and the seconds it has left.
type Held = (Item, Option<u64>);

/// How often it is asked whether all is in sync.
const SYNC_EVERY_MS: u64 = 50;
