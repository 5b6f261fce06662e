//! Histories with known violations, which must be found, and sound ones, which must pass.

use super::*;
use crate::random::Rng;

/// A history of one key, written request by request: each takes one unit of time and they follow one another, unless
/// a test sets times of its own.
#[derive(Default)]
struct Script {
    events: Vec<Event>,
    now: Time,
    around: Circumstances,
}

impl Script {
    fn sites(sites: usize) -> Self {
        Self { around: Circumstances { sites, ..Circumstances::default() }, ..Self::default() }
    }

    fn add(&mut self, site: usize, deed: Deed) -> &mut Self {
        self.now += 10;
        self.events.push(Event { site, key: 0, begin: self.now, end: self.now + 5, deed });
        self
    }

    fn write(&mut self, site: usize, mark: Mark) -> &mut Self {
        self.add(site, Deed::Write { mark, acknowledged: true })
    }

    fn unanswered(&mut self, site: usize, mark: Mark) -> &mut Self {
        self.add(site, Deed::Write { mark, acknowledged: false })
    }

    fn delete(&mut self, site: usize) -> &mut Self {
        self.add(site, Deed::Delete { acknowledged: true })
    }

    fn read(&mut self, site: usize, mark: Mark) -> &mut Self {
        self.add(site, Deed::Read(Some(mark)))
    }

    fn miss(&mut self, site: usize) -> &mut Self {
        self.add(site, Deed::Read(None))
    }

    /// From now on all is healed and in sync.
    fn calm(&mut self) -> &mut Self {
        self.around.calms.push((self.now + 6, Time::MAX));
        self
    }

    /// The site loses everything since the beginning.
    fn loss(&mut self, site: usize) -> &mut Self {
        self.now += 10;
        self.around.losses.push(Loss { site, since: 0, died: self.now, until: self.now + 5 });
        self
    }

    fn found(&self) -> Vec<(Kind, usize)> {
        let verdict = check(&self.events, &self.around);
        verdict.violations.iter().map(|violation| (violation.kind, violation.read.site)).collect()
    }
}

#[test]
fn the_newest_is_sound_everywhere() {
    let mut script = Script::sites(2);
    script.write(0, 1).read(0, 1).write(0, 2).read(1, 1).read(1, 2).calm().read(0, 2).read(1, 2);
    assert_eq!(script.found(), []);
    let verdict = check(&script.events, &script.around);
    assert_eq!((verdict.reads, verdict.calm_reads, verdict.mutations), (5, 2, 2));
    assert_eq!(verdict.ordered_pairs, 1);
}

#[test]
fn an_old_value_in_a_calm_is_stale() {
    let mut script = Script::sites(2);
    script.write(0, 1).write(0, 2).calm().read(1, 1);
    assert_eq!(script.found(), [(Kind::Stale, 1)]);
}

#[test]
fn before_the_calm_another_site_may_lag() {
    let mut script = Script::sites(2);
    script.write(0, 1).write(0, 2).read(1, 1);
    assert_eq!(script.found(), []);
}

#[test]
fn a_deleted_key_must_not_come_back() {
    let mut script = Script::sites(2);
    script.write(0, 1).delete(0).calm().miss(0).read(1, 1);
    assert_eq!(script.found(), [(Kind::Stale, 1)]);
}

#[test]
fn a_miss_is_always_legal() {
    let mut script = Script::sites(2);
    script.write(0, 1).calm().miss(0).miss(1);
    assert_eq!(script.found(), []);
}

/// Overwritten in front of its own apps, amid faults.
#[test]
fn a_site_must_not_go_backwards() {
    let mut script = Script::sites(2);
    script.write(0, 1).write(0, 2).read(0, 1);
    assert_eq!(script.found(), [(Kind::Backwards, 0)]);
}

/// Site 1 saw the newer one, so it may not show the older one again, although both were written elsewhere.
#[test]
fn a_site_that_saw_the_newer_must_not_show_the_older() {
    let mut script = Script::sites(2);
    script.write(0, 1).write(0, 2).read(1, 1).read(1, 2);
    assert_eq!(script.found(), []);
    script.read(1, 1);
    assert_eq!(script.found(), [(Kind::Backwards, 1)]);
}

/// Two sites that knew nothing of each other: either may win.
#[test]
fn concurrent_writes_are_not_ordered() {
    for winner in [1, 2] {
        let mut script = Script::sites(2);
        script.write(0, 1).write(1, 2).calm().read(0, winner).read(1, winner);
        assert_eq!(script.found(), [], "winner {winner}");
    }
}

/// A write at a site that had shown the other's value is newer than that.
#[test]
fn what_was_seen_before_a_write_is_older() {
    let mut script = Script::sites(2);
    script.write(0, 1).read(1, 1).write(1, 2).calm().read(0, 1);
    assert_eq!(script.found(), [(Kind::Stale, 0)]);
}

/// Transitive over three sites: 1 < 2 because site 1 saw it, 2 < 3 because site 2 saw that.
#[test]
fn the_order_is_followed_across_sites() {
    let mut script = Script::sites(3);
    script.write(0, 1).read(1, 1).write(1, 2).read(2, 2).write(2, 3).calm().read(0, 1).read(0, 2).read(0, 3);
    assert_eq!(script.found(), [(Kind::Stale, 0), (Kind::Stale, 0)]);
}

/// A deletion between two writes orders them, although no read can show a deletion.
#[test]
fn a_deletion_passes_the_order_on_at_its_site() {
    let mut script = Script::sites(2);
    script.write(0, 1).delete(0).write(0, 2).calm().read(1, 1);
    assert_eq!(script.found(), [(Kind::Stale, 1)]);
}

/// Requests that overlap are not ordered, even at one site.
#[test]
fn overlapping_writes_are_not_ordered() {
    let mut script = Script::sites(1);
    script.write(0, 1).write(0, 2).calm().read(0, 1);
    script.events[1].begin = script.events[0].end;
    assert_eq!(script.found(), []);
}

/// A read that began before the newer one was acknowledged may show the older.
#[test]
fn an_overlapping_read_may_show_the_older() {
    let mut script = Script::sites(1);
    script.write(0, 1).write(0, 2).read(0, 1);
    script.events[2].begin = script.events[1].end - 1;
    assert_eq!(script.found(), []);
}

#[test]
fn a_write_without_an_answer_binds_nobody_until_it_is_seen() {
    let mut script = Script::sites(2);
    script.write(0, 1).unanswered(0, 2).calm().read(0, 1).read(1, 1);
    assert_eq!(script.found(), []);
    script.read(0, 2).read(0, 1);
    assert_eq!(script.found(), [(Kind::Backwards, 0)]);
}

/// It may be carried out at any later time, so nothing is older than it but what was known before it began.
#[test]
fn a_write_without_an_answer_may_win_late() {
    let mut script = Script::sites(2);
    script.unanswered(0, 1).write(0, 2).calm().read(0, 1).read(1, 1);
    assert_eq!(script.found(), []);
}

#[test]
fn a_lost_site_may_forget_what_it_acknowledged() {
    let mut script = Script::sites(2);
    script.write(0, 1).read(1, 1).write(0, 2).loss(0).read(0, 1).calm().read(0, 1).read(1, 1);
    assert_eq!(script.found(), []);
    script.around.losses.clear();
    assert_eq!(script.found(), [(Kind::Backwards, 0), (Kind::Stale, 0), (Kind::Stale, 1)]);
}

/// The loss of a site excuses neither the other sites' mutations nor what it acknowledged afterwards.
#[test]
fn a_loss_excuses_only_what_was_in_danger() {
    let mut script = Script::sites(2);
    script.write(0, 1).read(1, 1).write(1, 2).loss(0).calm().read(0, 1);
    assert_eq!(script.found(), [(Kind::Stale, 0)]);
    let mut script = Script::sites(2);
    script.write(0, 1).loss(0).write(0, 2).calm().read(1, 1);
    assert_eq!(script.found(), [(Kind::Stale, 1)]);
    let mut script = Script::sites(2);
    script.loss(0).write(0, 1).write(0, 2).read(0, 1);
    assert_eq!(script.found(), [(Kind::Backwards, 0)]);
}

/// What a lost write was known to be newer than stays older than what follows it.
#[test]
fn the_order_passes_through_what_was_lost() {
    let mut script = Script::sites(2);
    script.write(0, 1).write(0, 2).read(1, 2).write(1, 3).loss(0).calm().read(0, 1);
    assert_eq!(script.found(), [(Kind::Stale, 0)]);
}

/// A proxy that began anew with an earlier clock may stamp below its old versions.
#[test]
fn nothing_is_provable_across_an_amnesia() {
    let mut script = Script::sites(2);
    script.write(0, 1).write(0, 2).calm().read(1, 1);
    script.around.amnesias.push((0, 17));
    assert_eq!(script.found(), []);
    script.around.amnesias = vec![(1, 17), (0, 5), (0, 1000)];
    assert_eq!(script.found(), [(Kind::Stale, 1)]);
}

#[test]
fn a_value_that_nobody_wrote_is_found() {
    let mut script = Script::sites(2);
    script.write(0, 1).read(1, 9);
    assert_eq!(script.found(), [(Kind::Foreign, 1)]);
}

#[test]
fn keys_do_not_mix() {
    let mut script = Script::sites(1);
    script.write(0, 1).write(0, 2).calm().read(0, 1);
    script.events[1].key = 7;
    assert_eq!(script.found(), []);
}

/// The relation found lane by lane is the transitive closure of its definition.
#[test]
fn the_order_is_the_closure_of_its_definition() {
    let mut rng = Rng::new(3);
    for _ in 0..200 {
        let mut script = Script::sites(3);
        let around = Circumstances { sites: 3, amnesias: vec![(1, 150)], ..Circumstances::default() };
        for mark in 1..25 {
            let site = rng.below(3) as usize;
            match rng.below(4) {
                0 => script.read(site, rng.between(1, mark)),
                1 => script.unanswered(site, mark),
                2 => script.delete(site),
                _ => script.write(site, mark),
            };
            let last = script.events.last_mut().unwrap();
            last.begin = last.begin.saturating_sub(rng.below(30));
        }
        let events: Vec<&Event> = script.events.iter().collect();
        let lanes = order::Lanes::of(&around);
        let order = order::Order::of(&events, &around, &lanes);
        let count = order.mutations.len();
        let direct = |one: usize, other: usize| {
            let (one, other) = (&order.mutations[one], &order.mutations[other]);
            one.known.iter().enumerate().any(|(lane, known)| {
                let same_lane = lane == lanes.at(other.site, other.begin);
                same_lane && known.is_some_and(|known| known < other.begin)
            })
        };
        let mut closure: Vec<Vec<bool>> =
            (0..count).map(|one| (0..count).map(|other| direct(one, other)).collect()).collect();
        for middle in 0..count {
            for one in 0..count {
                for other in 0..count {
                    closure[one][other] |= closure[one][middle] && closure[middle][other];
                }
            }
        }
        for (oldest, row) in closure.iter().enumerate() {
            let mut found = Vec::new();
            order.newer_than(oldest, |newer| found.push((newer.site, newer.begin, newer.mark)));
            let newer = (0..count).filter(|&other| other != oldest && row[other]);
            let mut wanted: Vec<_> = newer
                .map(|other| &order.mutations[other])
                .map(|newer| (newer.site, newer.begin, newer.mark))
                .collect();
            found.sort_unstable();
            wanted.sort_unstable();
            assert_eq!(found, wanted);
        }
    }
}

/// A small model of memcloud: last writer wins by a hybrid clock, mutations travel in any order and late.
struct Model {
    clocks: Vec<u64>,
    held: Vec<((u64, usize), Option<Mark>)>,
    travelling: Vec<(usize, (u64, usize), Option<Mark>)>,
    /// Off: what comes from elsewhere is applied whatever its version.
    compares: bool,
}

impl Model {
    fn write(&mut self, site: usize, mark: Option<Mark>) {
        self.clocks[site] += 1;
        let version = (self.clocks[site], site);
        self.held[site] = (version, mark);
        self.travelling.extend((0..self.held.len()).filter(|&to| to != site).map(|to| (to, version, mark)));
    }

    fn arrive(&mut self, at: usize) {
        let (site, version, mark) = self.travelling.swap_remove(at);
        self.clocks[site] = self.clocks[site].max(version.0);
        if version > self.held[site].0 || !self.compares {
            self.held[site] = (version, mark);
        }
    }
}

fn violations_of_the_model(seed: u64, compares: bool) -> usize {
    let mut rng = Rng::new(seed);
    // Clocks are far apart: the order may not lean on them.
    let clocks = vec![0, 1000, 20];
    let mut model = Model { clocks, held: vec![((0, 0), None); 3], travelling: Vec::new(), compares };
    let mut script = Script::sites(3);
    for mark in 1..200 {
        let site = rng.below(3) as usize;
        match rng.below(6) {
            0 => {
                model.write(site, Some(mark));
                script.write(site, mark);
            }
            1 => {
                model.write(site, None);
                script.delete(site);
            }
            2 | 3 if !model.travelling.is_empty() => {
                model.arrive(rng.below(model.travelling.len() as u64) as usize);
            }
            _ => {
                script.add(site, Deed::Read(model.held[site].1));
            }
        }
    }
    while !model.travelling.is_empty() {
        model.arrive(rng.below(model.travelling.len() as u64) as usize);
    }
    script.calm();
    for site in 0..3 {
        script.add(site, Deed::Read(model.held[site].1));
    }
    script.found().len()
}

#[test]
fn a_sound_system_is_never_accused() {
    assert_eq!((0..300).map(|seed| violations_of_the_model(seed, true)).sum::<usize>(), 0);
}

#[test]
fn a_system_that_does_not_compare_versions_is_found_out() {
    let found = (0..300).filter(|&seed| violations_of_the_model(seed, false) > 0).count();
    assert!(found > 250, "{found} of 300");
}
