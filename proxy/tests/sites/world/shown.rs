//! What is true of a world: what its proxies say, and what its memcacheds hold.

use std::collections::BTreeMap;

use memcloud_proxy::admin::Status;
use memcloud_proxy::metrics::Direction;

use super::{COLD_KEYS, Site, World};
use crate::client::name;
use crate::memcached::Item;

/// An item, and the milliseconds it has left.
type Held = (Item, Option<u64>);

impl World {
    pub(crate) fn status(&self, site: usize) -> Option<Status> {
        self.sites[site].proxy.as_ref()?.ask(|source| source.status())
    }

    pub(crate) fn is_in_sync(&self) -> bool {
        (0..self.plan.sites).all(|site| self.status(site).is_some_and(|status| status.in_sync))
    }

    /// Whether every proxy says that versions are the CAS of items.
    pub(crate) fn is_versioned(&self) -> bool {
        (0..self.plan.sites).all(|site| self.status(site).is_some_and(|status| status.versioned))
    }

    /// What each site counts of mutations, for each of its peers.
    pub(crate) fn mutations(&self) -> BTreeMap<(usize, usize), BTreeMap<&'static str, u64>> {
        let mut all = BTreeMap::new();
        for (site, place) in self.sites.iter().enumerate() {
            let figures = place.proxy.as_ref().and_then(|proxy| proxy.ask(|source| source.replication()));
            let peers = (0..self.plan.sites).filter(|peer| *peer != site);
            for (peer, figures) in peers.zip(figures.into_iter().flat_map(|figures| figures.peers)) {
                let counted = figures.mutations.into_iter().map(|(direction, outcome, count)| {
                    let outcome = match (direction, outcome) {
                        (Direction::Out, "skewed") => "out skewed",
                        (Direction::In, "skewed") => "in skewed",
                        (_, outcome) => outcome,
                    };
                    (outcome, count)
                });
                all.insert((site, peer), counted.collect());
            }
        }
        all
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

    pub(crate) fn statuses(&self) -> String {
        let all = (0..self.plan.sites).filter_map(|site| self.status(site));
        all.map(|status| serde_json::to_string_pretty(&status).unwrap()).collect()
    }

    pub(crate) fn full_resyncs(&self) -> u64 {
        let all = (0..self.plan.sites).filter_map(|site| self.status(site));
        all.flat_map(|status| status.peers).map(|peer| peer.resyncs_full).sum()
    }

    /// The keys at each site, and the milliseconds they have left.
    pub(crate) fn held(&mut self) -> Vec<BTreeMap<Vec<u8>, Option<u64>>> {
        let living = self.living();
        living
            .into_iter()
            .map(|items| items.into_iter().map(|(key, (_, left))| (key, left)).collect())
            .collect()
    }

    pub(crate) fn living(&mut self) -> Vec<BTreeMap<Vec<u8>, Held>> {
        let now = self.now.get();
        let living = |place: &mut Site| {
            let Some(memcached) = &mut place.memcached else { return BTreeMap::new() };
            memcached.set_time(place.started.1 + now - place.started.0);
            memcached.living()
        };
        self.sites.iter_mut().map(living).collect()
    }

    /// What differs between the memcacheds, as sentences; times left by more than a second and `tolerance_s`, as the memcacheds
    /// tell them: each counts whole seconds, from a moment of its own, so one second more can be all there is between 0 and 2.
    pub(crate) fn differences(&mut self, tolerance_s: u64) -> Vec<String> {
        let tolerance_ms = (1 + tolerance_s) * 1000;
        let held = self.living();
        let mut differences = Vec::new();
        for (index, key) in (0..self.plan.habits.keys + COLD_KEYS).map(|index| (index, name(index))) {
            let evicted = self.evicted.contains(&index);
            let (first, others) = held.split_first().unwrap();
            for (other, items) in others.iter().enumerate() {
                let same = match (first.get(&key), items.get(&key)) {
                    (None, None) => true,
                    (None, _) | (_, None) if evicted => true,
                    (Some((a, a_left)), Some((b, b_left))) => {
                        let close = match (a_left, b_left) {
                            (Some(a), Some(b)) => a.abs_diff(*b) < tolerance_ms + 1000,
                            (a, b) => a == b,
                        };
                        (a.flags, &a.value) == (b.flags, &b.value) && close
                    }
                    // About to expire on one side.
                    (Some((_, Some(left))), None) | (None, Some((_, Some(left)))) => {
                        *left < tolerance_ms + 1000
                    }
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
