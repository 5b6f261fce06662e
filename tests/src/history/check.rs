//! Holds a history against what no order of versions can excuse.

use std::collections::{BTreeMap, HashMap};

use super::order::{Lanes, Mutation, Order};
use super::{Circumstances, Deed, Event, Mark, Time};

/// The outcome.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    pub violations: Vec<Violation>,
    /// Values read, all told.
    pub reads: u64,
    /// Of those, read in a calm.
    pub calm_reads: u64,
    /// Acknowledged writes and deletions that bind.
    pub mutations: u64,
    /// Pairs of a value that was read and a mutation provably newer: how much there was to be broken.
    pub ordered_pairs: u64,
}

/// A read that should not have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub kind: Kind,
    pub read: Event,
    /// The site and the acknowledgement of a mutation that the value read is older than.
    pub newer: (usize, Time),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// In a calm: older than what was acknowledged before it.
    Stale,
    /// Older than what this site itself had known.
    Backwards,
    /// A value that nobody wrote to this key.
    Foreign,
}

/// Checks every read of every key. Each read is told once, with the gravest kind.
pub fn check(events: &[Event], circumstances: &Circumstances) -> Verdict {
    let mut by_key: BTreeMap<usize, Vec<&Event>> = BTreeMap::new();
    for event in events {
        by_key.entry(event.key).or_default().push(event);
    }
    let lanes = Lanes::of(circumstances);
    let mut verdict = Verdict::default();
    for events in by_key.values() {
        check_key(events, circumstances, &lanes, &mut verdict);
    }
    verdict.violations.sort_by_key(|violation| violation.read.begin);
    verdict
}

fn check_key(events: &[&Event], circumstances: &Circumstances, lanes: &Lanes, verdict: &mut Verdict) {
    let order = Order::of(events, circumstances, lanes);
    let written = order.mutations.iter().enumerate();
    let places: HashMap<Mark, usize> =
        written.filter_map(|(at, mutation)| Some((mutation.mark?, at))).collect();
    verdict.mutations += order.mutations.iter().filter(|mutation| mutation.binding).count() as u64;
    let mut bounds: HashMap<Mark, Option<Bounds>> = HashMap::new();
    for &event in events {
        let Deed::Read(seen) = event.deed else { continue };
        let calm = circumstances.calms.iter().find(|(from, to)| *from <= event.begin && event.end <= *to);
        verdict.reads += 1;
        verdict.calm_reads += u64::from(calm.is_some());
        let Some(mark) = seen else { continue };
        let bounds = bounds.entry(mark).or_insert_with(|| {
            let bounds = Bounds::of(&order, *places.get(&mark)?, circumstances, lanes);
            verdict.ordered_pairs += bounds.pairs;
            Some(bounds)
        });
        let Some(bounds) = bounds else {
            let newer = (event.site, event.begin);
            verdict.violations.push(Violation { kind: Kind::Foreign, read: event.clone(), newer });
            continue;
        };
        let stale = calm.and_then(|(from, _)| bounds.acknowledged.filter(|(_, end)| end < from));
        let backwards = bounds.known_before(event.site, event.begin, circumstances);
        let found = stale.map(|newer| (Kind::Stale, newer));
        if let Some((kind, newer)) = found.or(backwards.map(|newer| (Kind::Backwards, newer))) {
            verdict.violations.push(Violation { kind, read: event.clone(), newer });
        }
    }
}

/// From when on a value must not be read any more.
struct Bounds {
    /// The first acknowledgement of something newer, and where.
    acknowledged: Option<(usize, Time)>,
    /// For each site and each of its lives (a [`super::Loss`] ends one): when it first knew of something newer.
    known: Vec<Vec<Option<(usize, Time)>>>,
    pairs: u64,
}

impl Bounds {
    fn of(order: &Order, at: usize, circumstances: &Circumstances, lanes: &Lanes) -> Self {
        let lives = |site: usize| circumstances.losses.iter().filter(|loss| loss.site == site).count() + 1;
        let known = (0..circumstances.sites).map(|site| vec![None; lives(site)]).collect();
        let mut bounds = Self { acknowledged: None, known, pairs: 0 };
        order.newer_than(at, |newer| bounds.lower(newer, circumstances, lanes));
        bounds
    }

    fn lower(&mut self, newer: &Mutation, circumstances: &Circumstances, lanes: &Lanes) {
        self.pairs += 1;
        let told = (newer.site, newer.end);
        if newer.binding && self.acknowledged.is_none_or(|(_, end)| newer.end < end) {
            self.acknowledged = Some(told);
        }
        for (lane, known) in newer.known.iter().enumerate() {
            let (site, Some(time)) = (lanes.site(lane), *known) else { continue };
            // What is on record is the first time; a later life that came to know it again is not looked for.
            let earliest = &mut self.known[site][life_of_knowledge(site, time, circumstances)];
            if earliest.is_none_or(|(_, first)| time < first) {
                *earliest = Some((newer.site, time));
            }
        }
    }

    /// Whether the site knew of something newer, in the life in which it was read.
    fn known_before(&self, site: usize, begin: Time, circumstances: &Circumstances) -> Option<(usize, Time)> {
        let life = circumstances.losses.iter().filter(|loss| loss.site == site && loss.died <= begin).count();
        self.known[site][life].filter(|(_, time)| *time < begin)
    }
}

/// A site that was dying may have known it before its end only.
fn life_of_knowledge(site: usize, time: Time, circumstances: &Circumstances) -> usize {
    circumstances.losses.iter().filter(|loss| loss.site == site && loss.until < time).count()
}
