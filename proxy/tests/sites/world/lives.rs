//! What starts and stops: memcacheds and proxies that are killed, stand still, are asked to end; clocks that somebody sets.

use memcloud_proxy::config::{Config, Settings};
use memcloud_tests::history::Loss;

use super::World;
use crate::client::name;
use crate::machine::Process;
use crate::memcached::Memcached;
use crate::rng::Rng;

impl World {
    pub(crate) fn start_memcached(&mut self, site: usize) {
        if self.sites[site].memcached.is_some() {
            return;
        }
        let now = self.now.get();
        let pid = self.rng.below(30_000) as u32 + 2;
        let server = self.plan.servers.of(site);
        let place = &mut self.sites[site];
        place.started = (now, place.clock.wall_ms());
        place.memcached = Some(Memcached::new(server, pid, place.clock.wall_ms()));
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
        self.lost_a_memcached = true;
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

    /// One memcached has no room for some of the keys that apps use.
    pub(crate) fn evict(&mut self, site: usize) {
        for key in 0..self.plan.habits.keys {
            if self.rng.chance(EVICTED_PER_MILLE)
                && let Some(memcached) = &mut self.sites[site].memcached
                && memcached.evict(&name(key))
            {
                self.evicted.insert(key);
                self.note(|| format!("memcached {site} evicts key {key}"));
            }
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

    /// SIGKILL.
    pub(crate) fn kill_proxy(&mut self, site: usize) {
        self.sites[site].frozen = false;
        let Some(proxy) = self.sites[site].proxy.take() else { return };
        self.met.retain(|(one, other)| *one != site && *other != site);
        proxy.kill();
        self.sites[site].proxy_lost = true;
        self.lost(site);
        self.note(|| format!("proxy {site} is killed"));
    }

    /// Somebody sets the clock of a machine.
    pub(crate) fn jump_clock(&mut self, site: usize, by_ms: i64) {
        let place = &mut self.sites[site];
        place.lived_until_ms = place.lived_until_ms.max(Some(place.clock.offset_ms.get()));
        let offset_ms = place.clock.offset_ms.get() + by_ms;
        // Two of them stay closer than the skew at which a peer refuses.
        place.clock.offset_ms.set(offset_ms.clamp(-OFFSET_MAX_MS, OFFSET_MAX_MS));
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
        let others = self.peers_of(site);
        let settings = Settings {
            listen: Some(vec![address(&format!("p{site}"), 11211)]),
            upstream: Some(address(&format!("m{site}"), 11211)),
            site: Some(format!("site-{site}")),
            peer_listen: Some(address(&format!("p{site}"), 7000)),
            peer: Some(others.into_iter().map(|other| address(&format!("p{other}"), 7000)).collect()),
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
}

/// Of each key, when memory is short.
const EVICTED_PER_MILLE: u64 = 150;

/// How far a clock may be off.
const OFFSET_MAX_MS: i64 = 25_000;
