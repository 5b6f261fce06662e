//! What must be true of a run that has come to rest; see `run.rs` for the list.

use std::collections::{BTreeMap, BTreeSet};

use memcloud_proxy::replication::Version;
use memcloud_tests::history::{self, Deed, Event, Mark};

use super::{Run, SETTLE_MS};
use crate::client::{NANOS_PER_MS, mark_of, name};
use crate::world::{COLD_KEYS, Plan, Servers};

impl Run {
    /// Everything is healed by now: waits until all sites are in sync, lets apps read, and checks what must be true.
    pub(crate) fn check(&mut self) {
        let in_sync = self.world.settle(SETTLE_MS);
        assert!(in_sync, "not in sync after {SETTLE_MS} ms:\n{}", self.world.statuses());
        let from = self.world.history.tick();
        let differences = self.world.differences(self.longest_stall_ms.div_ceil(1000));
        assert!(differences.is_empty(), "{differences:#?}");
        self.check_what_nobody_wrote();
        self.check_tokens();
        self.world.read_everything();
        let until = self.world.history.tick();
        self.world.circumstances.calms.push((from, until));
        self.check_history();
        let lost: Vec<u64> =
            (0..self.world.plan.sites).map(|site| self.world.status(site).unwrap().lost_unrepaired).collect();
        assert!(lost.iter().all(|lost| *lost == 0), "lost_unrepaired {lost:?}");
    }

    /// A repair that empties the cache would be a failure: what was written once, long ago, is still there.
    fn check_what_nobody_wrote(&mut self) {
        let plan = &self.world.plan;
        if plan.habits.flushes || self.world.lost_a_memcached {
            return;
        }
        let cold = plan.habits.keys..plan.habits.keys + COLD_KEYS;
        for (site, items) in self.world.living().iter().enumerate() {
            for key in cold.clone().map(name) {
                assert!(items.contains_key(&key), "site {site} has lost {:?}", String::from_utf8_lossy(&key));
            }
        }
    }

    /// Where versions are the CAS of items, a token that was read on one site is never good for another value elsewhere.
    fn check_tokens(&mut self) {
        let living = self.world.living();
        let Some((first, others)) = living.split_first() else { return };
        for (key, (item, _)) in first {
            for (other, _) in others.iter().filter_map(|items| items.get(key)) {
                let same_token = Version::is_reading(item.cas) && item.cas == other.cas;
                assert!(
                    !same_token || item.value == other.value,
                    "{:?} has CAS {} on two sites, and two values",
                    String::from_utf8_lossy(key),
                    item.cas
                );
            }
        }
    }

    /// The same value has the same token everywhere, where nothing but links failed: then all that came, came as a mutation or a
    /// copy, and both bear the CAS. After an overflow two sites may hold one value under two tokens: a comparison looks at
    /// values only, and leaves what is equal. Where a token says no version (binary stores) it is good at home only.
    pub(crate) fn check_tokens_are_good_everywhere(&mut self) {
        if self.world.plan.servers != Servers::New {
            return;
        }
        let living = self.world.living();
        let Some((first, others)) = living.split_first() else { return };
        for (key, (item, _)) in first {
            for (other, _) in others.iter().filter_map(|items| items.get(key)) {
                let versions = Version::is_reading(item.cas) && Version::is_reading(other.cas);
                assert!(
                    !versions || item.cas == other.cas,
                    "{:?} has the tokens {} and {} for one value",
                    String::from_utf8_lossy(key),
                    item.cas,
                    other.cas
                );
            }
        }
    }

    /// Where clocks are right, and no memcached forgets: what was acknowledged last, long after anything else was asked of
    /// the key, is what all sites hold. Keys that were not there at `since` may be on one side only, and are left out.
    /// Where `drops`, a site may have dropped what it could not judge; but nothing older has won.
    pub(crate) fn check_newest_wins(&mut self, since: &BTreeSet<usize>, drops: bool) {
        let Plan { skew_ms, habits, .. } = &self.world.plan;
        assert!(*skew_ms == 0 && !habits.flushes && !habits.expiry, "nobody could say what is newest");
        let mut last: BTreeMap<usize, (&Event, u64)> = BTreeMap::new();
        for event in &self.world.history.events {
            if matches!(event.deed, Deed::Read(_)) {
                continue;
            }
            let (newest, others_end) = last.entry(event.key).or_insert((event, 0));
            if event.begin >= newest.begin {
                *others_end = (*others_end).max(if *newest == event { 0 } else { newest.end });
                *newest = event;
            } else {
                *others_end = (*others_end).max(event.end);
            }
        }
        let certain = last.iter().filter_map(|(key, (newest, others_end))| match newest.deed {
            Deed::Write { mark, acknowledged: true } => {
                let apart = newest.begin > others_end + APART_MS * NANOS_PER_MS;
                (apart && since.contains(key)).then_some((*key, mark))
            }
            _ => None,
        });
        let certain: Vec<(usize, Mark)> = certain.collect();
        for (site, items) in self.world.living().iter().enumerate() {
            for (key, mark) in &certain {
                let held = items.get(&name(*key)).map(|(item, _)| mark_of(&item.value));
                let dropped = drops && held.is_none();
                assert!(
                    dropped || held == Some(Some(*mark)),
                    "key {key} at site {site}: {held:?}, and w{mark} was the last one"
                );
            }
        }
        self.certain += certain.len();
    }

    /// The keys that every site holds.
    pub(crate) fn held_everywhere(&mut self) -> BTreeSet<usize> {
        let held = self.world.held();
        let everywhere = |key: &usize| held.iter().all(|items| items.contains_key(&name(*key)));
        (0..self.world.plan.habits.keys).filter(everywhere).collect()
    }

    /// Whatever happens to links and peers, apps are answered as soon as their memcached has.
    pub(crate) fn check_local_speed(&self) {
        let slowest_ms = self.world.history.slowest_ms;
        assert!(slowest_ms <= ANSWER_MAX_MS, "an app waited {slowest_ms} ms while links failed");
    }

    /// Where only links failed, what was acknowledged here is told of there with what came of it, and nothing is missing.
    pub(crate) fn check_all_is_counted(&self) {
        let figures = self.world.mutations();
        let of = |outcomes: &BTreeMap<&str, u64>, names: &[&str]| -> u64 {
            names.iter().filter_map(|name| outcomes.get(name)).sum()
        };
        for ((from, to), out) in &figures {
            let there = &figures[&(*to, *from)];
            assert_eq!(of(there, &["echo"]), 0, "site {from} sent to {to} what {to} had stamped");
            let came = of(there, CAME) + of(there, &["refused"]);
            // What was on its way when a link broke was sent, and may never have come.
            let (judged, sent) = (of(there, CAME), of(out, &["sent"]));
            assert!(judged <= sent, "{from} to {to}: {sent} sent, {judged} came");
            let acknowledged = of(out, &["acknowledged"]);
            assert!(acknowledged <= came, "{from} to {to}: {acknowledged} acknowledged, {came} came");
            assert_eq!(of(out, &["lost", "out skewed", "abandoned"]), 0, "{from} to {to}: {out:?}");
        }
    }

    /// Where nothing fails, each mutation is sent once, comes once, and is acknowledged once.
    pub(crate) fn check_each_came_once(&self) {
        let figures = self.world.mutations();
        for ((from, to), out) in &figures {
            let there = &figures[&(*to, *from)];
            let of = |name| out.get(name).copied().unwrap_or_default();
            let came: u64 = CAME.iter().filter_map(|name| there.get(name)).sum();
            assert_eq!((of("sent"), of("resent")), (of("acknowledged"), 0), "{from} to {to}: {out:?}");
            assert_eq!(of("sent"), came, "{from} to {to}: {there:?}");
        }
    }

    /// Memory for what peers are owed stays within its bound at any moment.
    pub(super) fn check_bounds(&self) {
        let Some(most) = self.world.plan.backlog_bytes else { return };
        for status in (0..self.world.plan.sites).filter_map(|site| self.world.status(site)) {
            for peer in &status.peers {
                assert!(peer.backlog_bytes <= most, "{} bytes owed, {most} at the most", peer.backlog_bytes);
            }
        }
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
                let expired = left.is_some_and(|left| left <= 3_000);
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

/// What can come of a mutation at a peer.
const CAME: &[&str] = &["applied", "superseded", "duplicate", "echo", "in skewed", "doubtful"];
/// Requests that are further apart than this are in the order of their versions.
const APART_MS: u64 = 10;
/// An app is 1 ms from its proxy and that from its memcached, there and back, and may open a connection.
const ANSWER_MAX_MS: u64 = 25;
