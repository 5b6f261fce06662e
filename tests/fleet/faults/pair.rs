//! Two sites, what was written to them, and what came of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use memcloud_tests::compare::{Item, items};
use memcloud_tests::{Client, Fleet, Memcached, Plan, eventually};

/// How long the sites may take to be in sync again.
const WITHIN: Duration = Duration::from_secs(30);
const FLAGS: &[&str] = &["--peer-timeout", "1s", "--upstream-timeout", "1s", "--drain-timeout", "1s"];

/// Two sites, and for each key what its last acknowledged write was (`None`: deleted).
pub(crate) struct Pair {
    pub(crate) fleet: Fleet,
    pub(crate) newest: BTreeMap<String, Option<String>>,
}

/// What the memcacheds hold of the keys that were written.
#[derive(Default)]
struct Found {
    /// The same on every site.
    equal: usize,
    /// On every site what was acknowledged last.
    kept: usize,
    /// On some site something older, or a key that was deleted.
    stale: usize,
}

impl Pair {
    pub(crate) fn start() -> Self {
        Self::of(Plan::of(2))
    }

    pub(crate) fn of(plan: Plan) -> Self {
        Self { fleet: plan.sidecars(FLAGS).start(), newest: BTreeMap::new() }
    }

    pub(crate) fn client(&self, site: usize) -> Client {
        self.fleet.sites[site].sidecar.client()
    }

    pub(crate) fn memcached(&self, site: usize) -> &Memcached {
        &self.fleet.sites[site].memcached
    }

    /// Writes `value` to keys of this kind at a site, in one pipeline, and takes note of what was acknowledged.
    pub(crate) fn fill(&mut self, site: usize, kind: &str, count: usize, value: &str) {
        let mut client = self.client(site);
        let keys: Vec<String> = (0..count).map(|number| format!("{kind}:{number}")).collect();
        for batch in keys.chunks(200) {
            let requests = batch.iter().map(|key| format!("set {key} 0 0 {}\r\n{value}\r\n", value.len()));
            client.send(requests.collect::<String>()).unwrap();
            for key in batch {
                assert_eq!(client.line().unwrap(), "STORED\r\n");
                self.newest.insert(key.clone(), Some(value.to_owned()));
            }
        }
    }

    /// Deletes the first `count` keys of this kind at a site.
    pub(crate) fn delete(&mut self, site: usize, kind: &str, count: usize) {
        let mut client = self.client(site);
        for key in (0..count).map(|number| format!("{kind}:{number}")) {
            let answer = client.ask(&format!("delete {key}"));
            assert!(["DELETED", "NOT_FOUND"].contains(&answer.as_str()), "{answer}");
            self.newest.insert(key, None);
        }
    }

    pub(crate) fn in_sync(&self) {
        self.fleet.wait_in_sync(WITHIN);
    }

    /// Heals, waits, and says what became of the keys: a sentence that stays the same while the outcome does.
    pub(crate) fn outcome(&self) -> String {
        self.fleet.heal();
        let began = Instant::now();
        let asked = || self.fleet.sites.iter().all(|site| site.sidecar.in_sync());
        while !asked() {
            if began.elapsed() > WITHIN {
                return format!("NOT IN SYNC; {}", self.found().text(self.newest.len()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.in_sync();
        self.found().text(self.newest.len())
    }

    /// How many of the keys that were last given this value have it on every site.
    pub(crate) fn share_with(&self, value: &str) -> String {
        let kept = |newest: &Option<String>| newest.as_deref() == Some(value);
        let those = self.newest.iter().filter(|(_, newest)| kept(newest));
        let those: Vec<Vec<u8>> = those.map(|(key, _)| key.as_bytes().to_vec()).collect();
        let sites = self.fleet.sites.iter().map(|site| items(&site.memcached, &those)).collect::<Vec<_>>();
        let held = |key: &Vec<u8>| {
            sites.iter().all(|site| site.get(key).is_some_and(|item| item.value == value.as_bytes()))
        };
        share(those.iter().filter(|key| held(key)).count(), those.len(), "kept")
    }

    fn found(&self) -> Found {
        let keys: Vec<Vec<u8>> = self.newest.keys().map(|key| key.as_bytes().to_vec()).collect();
        let sites: Vec<BTreeMap<Vec<u8>, Item>> =
            self.fleet.sites.iter().map(|site| items(&site.memcached, &keys)).collect();
        let mut found = Found::default();
        for (key, newest) in &self.newest {
            let seen: Vec<Option<&[u8]>> =
                sites.iter().map(|held| held.get(key.as_bytes()).map(|item| item.value.as_slice())).collect();
            let newest = newest.as_ref().map(String::as_bytes);
            found.equal += usize::from(seen.iter().all(|value| *value == seen[0]));
            found.kept += usize::from(seen.iter().all(|value| *value == newest));
            found.stale += usize::from(seen.iter().any(|value| value.is_some() && *value != newest));
        }
        found
    }

    /// Kills a memcached and brings it back, empty.
    pub(crate) fn restart_memcached(&mut self, site: usize) {
        self.fleet.sites[site].memcached.restart();
    }

    /// Kills a proxy and brings it back.
    pub(crate) fn restart_proxy(&mut self, site: usize) {
        self.fleet.sites[site].sidecar.relaunch();
        self.fleet.sites[site].sidecar.wait_until_listening();
    }

    /// Kills a proxy and brings it back with its clock off by so much.
    pub(crate) fn restart_proxy_with_clock(&mut self, site: usize, seconds: i64) {
        self.fleet.sites[site].clock.as_ref().expect("a plan with clocks").set(seconds);
        self.restart_proxy(site);
    }

    /// Whether a site comes to drop what its peer sends because it is dated too far ahead.
    pub(crate) fn refuses_a_clock(&self, site: usize) -> bool {
        let began = Instant::now();
        let skewed = || {
            let labels = ["direction=\"in\"", "outcome=\"skewed\""];
            self.fleet.sites[site].sidecar.metric("memcloud_proxy_replication_mutations_total", &labels) > 0.0
        };
        while !skewed() && began.elapsed() < WITHIN {
            std::thread::sleep(Duration::from_millis(50));
        }
        skewed()
    }

    /// Waits until a site has a gap on show.
    pub(crate) fn wait_for_a_gap(&self, site: usize) {
        eventually("the backlog is given up", WITHIN, || {
            let lost = self.fleet.sites[site].sidecar.status()["lost_unrepaired"].as_u64()?;
            (lost > 0).then_some(())
        });
    }
}

impl Found {
    fn text(&self, all: usize) -> String {
        let equal = if self.equal == all { "equal" } else { "DIFFERENT" };
        let stale = if self.stale == 0 { "nothing stale" } else { "STALE VALUES" };
        format!("{equal}; {}; {stale}", share(self.kept, all, "kept"))
    }
}

/// How many of all, in words that do not change from run to run.
pub(crate) fn share(part: usize, all: usize, what: &str) -> String {
    match part * 1000 / all.max(1) {
        1000 => format!("all {what}"),
        0 if part == 0 => format!("none {what}"),
        990.. => format!("over 99 % {what}"),
        900.. => format!("over 90 % {what}"),
        500.. => format!("over half {what}"),
        _ => format!("less than half {what}"),
    }
}
