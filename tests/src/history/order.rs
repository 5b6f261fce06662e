//! Which mutations of a key are provably newer than another one.

use std::collections::HashMap;

use super::{Circumstances, Deed, Event, Mark, Time};

/// A write or a deletion.
#[derive(Clone, Debug)]
pub(super) struct Mutation {
    pub(super) site: usize,
    pub(super) begin: Time,
    pub(super) end: Time,
    /// A deletion has none.
    pub(super) mark: Option<Mark>,
    /// Acknowledged, and no permitted loss may have taken it.
    pub(super) binding: bool,
    /// For each lane: since when it is known there.
    pub(super) known: Vec<Option<Time>>,
}

/// A site is one lane, or several if amnesias divide it: nothing is provable from one to the next.
#[derive(Debug)]
pub(super) struct Lanes {
    /// For each lane: its site, and when it begins.
    lanes: Vec<(usize, Time)>,
}

/// All mutations of one key.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) mutations: Vec<Mutation>,
    /// For each lane its mutations, by begin.
    by_begin: Vec<Vec<usize>>,
}

impl Lanes {
    pub(super) fn of(circumstances: &Circumstances) -> Self {
        let whole = (0..circumstances.sites).map(|site| (site, 0));
        Self { lanes: whole.chain(circumstances.amnesias.iter().copied()).collect() }
    }

    pub(super) fn site(&self, lane: usize) -> usize {
        self.lanes[lane].0
    }

    pub(super) fn at(&self, site: usize, time: Time) -> usize {
        let of_site = self.lanes.iter().enumerate().filter(|(_, (at, from))| *at == site && *from <= time);
        of_site.max_by_key(|(_, (_, from))| *from).map_or(site, |(lane, _)| lane)
    }
}

impl Order {
    /// Of the events of one key.
    pub(super) fn of(events: &[&Event], circumstances: &Circumstances, lanes: &Lanes) -> Self {
        let mut mutations: Vec<Mutation> =
            events.iter().filter_map(|event| Mutation::of(event, circumstances, lanes)).collect();
        let place: HashMap<Mark, usize> =
            (0..mutations.len()).filter_map(|at| Some((mutations[at].mark?, at))).collect();
        for event in events {
            if let Deed::Read(Some(mark)) = event.deed
                && let Some(&at) = place.get(&mark)
            {
                let known = &mut mutations[at].known[lanes.at(event.site, event.end)];
                *known = Some(known.map_or(event.end, |time| time.min(event.end)));
            }
        }
        let mut by_begin = vec![Vec::new(); lanes.lanes.len()];
        for (at, mutation) in mutations.iter().enumerate() {
            by_begin[lanes.at(mutation.site, mutation.begin)].push(at);
        }
        for of_lane in &mut by_begin {
            of_lane.sort_by_key(|&at| mutations[at].begin);
        }
        Self { mutations, by_begin }
    }

    /// Calls `visit` with every mutation that is provably newer than the one at `oldest`.
    ///
    /// A lane's mutations are newer from a time on: that of the earliest knowledge, in this lane, of `oldest` or of
    /// anything newer. So there is one such time for each lane, and it only falls.
    pub(super) fn newer_than(&self, oldest: usize, mut visit: impl FnMut(&Mutation)) {
        let mut left: Vec<&[usize]> = self.by_begin.iter().map(Vec::as_slice).collect();
        let mut next = vec![oldest];
        while let Some(at) = next.pop() {
            for (left, known) in left.iter_mut().zip(&self.mutations[at].known) {
                let Some(known) = *known else { continue };
                while let Some((&last, before)) = left.split_last()
                    && known < self.mutations[last].begin
                {
                    *left = before;
                    // It cannot be newer than itself, but for a clock of ours that errs.
                    if last != oldest {
                        visit(&self.mutations[last]);
                        next.push(last);
                    }
                }
            }
        }
    }
}

impl Mutation {
    fn of(event: &Event, circumstances: &Circumstances, lanes: &Lanes) -> Option<Self> {
        let (mark, acknowledged) = match event.deed {
            Deed::Write { mark, acknowledged } => (Some(mark), acknowledged),
            Deed::Delete { acknowledged } => (None, acknowledged),
            Deed::Read(_) => return None,
        };
        let mut known = vec![None; lanes.lanes.len()];
        if acknowledged {
            known[lanes.at(event.site, event.end)] = Some(event.end);
        }
        let mut losses = circumstances.losses.iter().filter(|loss| loss.site == event.site);
        let lost = losses.any(|loss| event.end >= loss.since && event.begin <= loss.until);
        let &Event { site, begin, end, .. } = event;
        Some(Self { site, begin, end, mark, binding: acknowledged && !lost, known })
    }
}
