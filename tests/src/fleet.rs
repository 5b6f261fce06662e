//! N sites, fully meshed, every link through a cable of its own.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cable::Cable;
use crate::clock::Clock;
use crate::memcached::Memcached;
use crate::ports;
use crate::process::Folder;
use crate::server::Server;
use crate::sidecar::{Settings, Sidecar};
use crate::wait::eventually;

/// What a fleet shall look like.
#[derive(Clone, Debug)]
pub struct Plan {
    servers: Vec<Server>,
    memcached: Vec<Vec<String>>,
    sidecar: Vec<Vec<String>>,
    clocks: bool,
    backlog_dirs: bool,
}

impl Plan {
    /// `sites` sites with memory enough that nothing is evicted.
    pub fn of(sites: usize) -> Self {
        let memcached = ["-m", "256"].map(str::to_owned).to_vec();
        let servers = vec![Server::usual(); sites];
        let sidecar = vec![Vec::new(); sites];
        Self { servers, memcached: vec![memcached; sites], sidecar, clocks: false, backlog_dirs: false }
    }

    /// Gives each sidecar a wall clock of its own, which [`Clock::set`] changes for its next life.
    #[must_use]
    pub fn clocks(mut self) -> Self {
        self.clocks = true;
        self
    }

    /// Gives each sidecar a folder for what memory has no room for: `lists-NAME` in the fleet's folder.
    #[must_use]
    pub fn backlog_dirs(mut self) -> Self {
        self.backlog_dirs = true;
        self
    }

    /// The memcached of every site.
    #[must_use]
    pub fn server(mut self, server: &Server) -> Self {
        self.servers.fill(server.clone());
        self
    }

    /// The memcached of one site: a shard with mixed servers.
    #[must_use]
    pub fn server_at(mut self, site: usize, server: &Server) -> Self {
        self.servers[site] = server.clone();
        self
    }

    /// Arguments for the memcached of one site; later ones win.
    #[must_use]
    pub fn memcached(mut self, site: usize, args: &[&str]) -> Self {
        self.memcached[site].extend(args.iter().map(|&arg| arg.to_owned()));
        self
    }

    /// Flags for every sidecar.
    #[must_use]
    pub fn sidecars(mut self, flags: &[&str]) -> Self {
        for site in &mut self.sidecar {
            site.extend(flags.iter().map(|&flag| flag.to_owned()));
        }
        self
    }

    /// Flags for the sidecar of one site.
    #[must_use]
    pub fn sidecar_at(mut self, site: usize, flags: &[&str]) -> Self {
        self.sidecar[site].extend(flags.iter().map(|&flag| flag.to_owned()));
        self
    }

    /// Starts everything and waits until all sites report that they are in sync.
    pub fn start(self) -> Fleet {
        let folder = Folder::new();
        let count = self.memcached.len();
        let listening: Vec<String> = (0..count).map(|_| ports::free_address()).collect();
        let sites = (0..count).map(|index| {
            let name = site_name(index);
            let args: Vec<&str> = self.memcached[index].iter().map(String::as_str).collect();
            let server = &self.servers[index];
            let memcached = Memcached::start_server(server, &format!("memcached-{name}"), &folder, &args);
            let others = (0..count).filter(|&other| other != index);
            let cables: Vec<(usize, Cable)> =
                others.map(|other| (other, Cable::to(&listening[other]))).collect();
            let mut settings = Settings::new(&name, memcached.address());
            if count > 1 {
                settings.peer_listen = Some(listening[index].clone());
            }
            settings.peers = cables.iter().map(|(_, cable)| cable.address().to_owned()).collect();
            settings.extra.clone_from(&self.sidecar[index]);
            if self.backlog_dirs {
                let dir = folder.path().join(format!("lists-{name}"));
                settings.extra.extend(["--backlog-dir".to_owned(), dir.display().to_string()]);
            }
            let clock = self.clocks.then(|| Clock::new(&name, &folder));
            settings.environment = clock.as_ref().map(Clock::environment).unwrap_or_default();
            Site { sidecar: Sidecar::launch(settings, &folder), memcached, cables, clock }
        });
        let mut sites: Vec<Site> = sites.collect();
        for site in &mut sites {
            site.sidecar.wait_until_ready();
        }
        let fleet = Fleet { sites, folder };
        fleet.wait_in_sync(Duration::from_secs(20));
        fleet
    }
}

/// One memcached with its sidecar, and the cables through which this sidecar dials the others.
#[derive(Debug)]
pub struct Site {
    // Dropped first: a sidecar that outlives its memcached would log alarms.
    pub sidecar: Sidecar,
    pub memcached: Memcached,
    /// If the plan asked for clocks.
    pub clock: Option<Clock>,
    cables: Vec<(usize, Cable)>,
}

/// A running fleet.
#[derive(Debug)]
pub struct Fleet {
    pub sites: Vec<Site>,
    pub folder: Folder,
}

impl Fleet {
    /// The cable through which site `from` dials site `to`: mutations go forward, acknowledgements back.
    pub fn cable(&self, from: usize, to: usize) -> &Cable {
        let found = self.sites[from].cables.iter().find(|(other, _)| *other == to);
        &found.expect("two different sites of this fleet").1
    }

    pub fn cables(&self) -> impl Iterator<Item = &Cable> {
        self.sites.iter().flat_map(|site| site.cables.iter().map(|(_, cable)| cable))
    }

    pub fn heal(&self) {
        self.cables().for_each(Cable::heal);
    }

    /// Cuts both links between two sites.
    pub fn part(&self, one: usize, other: usize) {
        self.cable(one, other).cut();
        self.cable(other, one).cut();
    }

    /// Where apps connect, by site.
    pub fn addresses(&self) -> Vec<String> {
        self.sites.iter().map(|site| site.sidecar.address().to_owned()).collect()
    }

    /// Waits until all sites say that they are in sync, in two rounds of asking one watermark apart: a site may have
    /// answered just before it heard of what another one owes. Returns how long it took.
    pub fn wait_in_sync(&self, within: Duration) -> Duration {
        let started = Instant::now();
        let mut first: Option<Instant> = None;
        let all = || self.sites.iter().all(|site| site.sidecar.in_sync());
        let sites = self.sites.iter().map(|site| site.sidecar.settings().site.as_str()).collect::<Vec<_>>();
        let deadline = started + within;
        eventually(&format!("sites {sites:?} in sync"), within + Duration::from_secs(5), || {
            if !all() {
                assert!(Instant::now() < deadline, "not in sync after {within:?}:\n{}", self.statuses());
                first = None;
                return None;
            }
            let since = *first.get_or_insert_with(Instant::now);
            (since.elapsed() > WATERMARK_EVERY * 2).then_some(())
        });
        started.elapsed()
    }

    /// Every site's `/status`, for a message.
    pub fn statuses(&self) -> String {
        let texts = self.sites.iter().map(|site| match site.sidecar.status() {
            Value::Null => format!("{}: no status", site.sidecar.settings().site),
            status => status.to_string(),
        });
        texts.collect::<Vec<_>>().join("\n")
    }
}

/// `a`, `b`, `c`, …
fn site_name(index: usize) -> String {
    char::from(b'a' + u8::try_from(index).unwrap()).to_string()
}

/// A link that is idle carries its watermark this often.
const WATERMARK_EVERY: Duration = Duration::from_millis(100);
