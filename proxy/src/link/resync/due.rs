//! What is due, from what is known: plain values, and no clock.

use crate::replication::{PeerId, Version};

/// What decides what is due.
#[derive(Clone, Debug)]
pub(super) struct Situation<'a> {
    /// Our site's name.
    pub(super) name: &'a str,
    /// Peers whose links are up, both ways, in the order of their places.
    pub(super) linked: Vec<Linked<'a>>,
    /// There are no others.
    pub(super) complete: bool,
    /// Since when our memcached is being filled.
    pub(super) warming: Option<Version>,
    /// Nobody waits any longer for those that are not linked.
    pub(super) late: bool,
    /// Since when we were whole first.
    pub(super) again_since: Version,
}

/// A peer whose links are up.
#[derive(Clone, Debug)]
pub(super) struct Linked<'a> {
    pub(super) peer: PeerId,
    /// Its site's name, if that is known.
    pub(super) name: Option<&'a str>,
    /// There is a list of keys for it.
    pub(super) listed: bool,
    /// It may miss something, or we of it.
    pub(super) lost: bool,
    /// What it misses of ours is on no list: what it holds may be older than what was written here.
    pub(super) behind: bool,
    /// It is being filled itself.
    pub(super) passed_over: bool,
    /// What it took of what we owed it, while we were whole first, is to be looked for.
    pub(super) again: bool,
    /// An attempt with it has failed just now.
    pub(super) rests: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Copy {
        from: PeerId,
        since: Version,
    },
    Compare {
        with: PeerId,
    },
    Listed {
        to: PeerId,
    },
    /// Those that are whole miss something of ours that nobody can name: what they hold cannot be believed. What is here counts, and a
    /// comparison drops the rest.
    NobodyIsBelieved {
        since: Version,
    },
    /// All that are linked are being filled themselves.
    NobodyIsWhole {
        /// So we are, since then, and first of all.
        first: Option<Version>,
    },
}

/// The next thing to do. One that rests stands back, and holds no other up.
pub(super) fn due(situation: &Situation<'_>) -> Due {
    let ready = || situation.linked.iter().filter(|linked| !linked.rests);
    if let Some(linked) = ready().find(|linked| linked.listed) {
        return Due::Listed { to: linked.peer };
    }
    if let Some(since) = situation.warming {
        return fill(situation, since);
    }
    if let Some(linked) = ready().find(|linked| linked.again) {
        return Due::Copy { from: linked.peer, since: situation.again_since };
    }
    let ours = |linked: &&Linked<'_>| linked.lost && linked.name.is_some_and(|name| situation.name < name);
    ready().find(ours).map_or(Due::Nothing, |linked| Due::Compare { with: linked.peer })
}

/// From whom an empty memcached is filled.
fn fill(situation: &Situation<'_>, since: Version) -> Due {
    let whole = || situation.linked.iter().filter(|linked| !linked.passed_over);
    let everybody_was_asked = situation.complete || situation.late;
    match whole().find(|linked| !linked.rests && !linked.behind && !linked.listed) {
        Some(linked) => Due::Copy { from: linked.peer, since },
        None if whole().next().is_none() => {
            let first = is_first(situation) && everybody_was_asked;
            Due::NobodyIsWhole { first: first.then_some(since) }
        }
        None if everybody_was_asked && whole().all(|linked| linked.behind) => Due::NobodyIsBelieved { since },
        // One that rests, or is not linked, may be whole.
        None => Due::Nothing,
    }
}

/// Of all that are linked our name is the smallest one.
fn is_first(situation: &Situation<'_>) -> bool {
    let names = situation.linked.iter().filter_map(|linked| linked.name);
    names.min().is_some_and(|least| situation.name < least)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SINCE: Version = Version::ZERO;

    fn linked(place: usize, name: &str) -> Linked<'_> {
        let (listed, lost, behind, passed_over, again, rests) = (false, false, false, false, false, false);
        Linked { peer: PeerId(place), name: Some(name), listed, lost, behind, passed_over, again, rests }
    }

    fn site_b<'a>(linked: Vec<Linked<'a>>) -> Situation<'a> {
        Situation { name: "b", linked, complete: true, warming: None, late: false, again_since: SINCE }
    }

    fn warming<'a>(linked: Vec<Linked<'a>>) -> Situation<'a> {
        Situation { warming: Some(SINCE), ..site_b(linked) }
    }

    #[test]
    fn the_smaller_name_compares_if_something_was_lost() {
        assert_eq!(due(&site_b(vec![linked(0, "a"), linked(1, "c")])), Due::Nothing);
        let lost = |place, name| Linked { lost: true, ..linked(place, name) };
        assert_eq!(due(&site_b(vec![lost(0, "a"), lost(1, "c")])), Due::Compare { with: PeerId(1) });
        assert_eq!(due(&site_b(vec![lost(0, "a")])), Due::Nothing, "it is the other one's turn");
        let unknown = Linked { name: None, ..lost(1, "c") };
        assert_eq!(due(&site_b(vec![unknown])), Due::Nothing);
    }

    #[test]
    fn lists_come_first_and_copies_before_comparisons() {
        let lost = Linked { lost: true, ..linked(0, "c") };
        let listed = Linked { listed: true, ..linked(1, "d") };
        assert_eq!(due(&warming(vec![lost.clone(), listed])), Due::Listed { to: PeerId(1) });
        let again = Linked { again: true, ..linked(1, "d") };
        let copy = |from| Due::Copy { from: PeerId(from), since: SINCE };
        assert_eq!(due(&warming(vec![lost.clone(), again.clone()])), copy(0));
        assert_eq!(due(&site_b(vec![lost, again])), copy(1));
    }

    #[test]
    fn one_that_rests_holds_no_other_up() {
        let lost = |place, rests| Linked { lost: true, rests, ..linked(place, "c") };
        assert_eq!(due(&site_b(vec![lost(0, true), lost(1, false)])), Due::Compare { with: PeerId(1) });
        assert_eq!(due(&site_b(vec![lost(0, true)])), Due::Nothing);
        let listed = Linked { listed: true, ..lost(0, true) };
        assert_eq!(due(&site_b(vec![listed, lost(1, false)])), Due::Compare { with: PeerId(1) });
        let copy = due(&warming(vec![lost(0, true), lost(1, false)]));
        assert_eq!(copy, Due::Copy { from: PeerId(1), since: SINCE });
    }

    /// What was written here beyond the backlog's bound is gone with our memcached: an older value must not come back for it.
    #[test]
    fn nobody_is_filled_from_a_peer_that_misses_what_nobody_can_name() {
        let behind = |place, name| Linked { behind: true, lost: true, ..linked(place, name) };
        let copy = Due::Copy { from: PeerId(1), since: SINCE };
        assert_eq!(due(&warming(vec![behind(0, "c"), linked(1, "d")])), copy);
        let rests = Linked { rests: true, ..linked(1, "d") };
        assert_eq!(due(&warming(vec![behind(0, "c"), rests])), Due::Nothing, "it may be whole");
        let nobody = Due::NobodyIsBelieved { since: SINCE };
        assert_eq!(due(&warming(vec![behind(0, "c")])), nobody);
        let parted = Situation { complete: false, ..warming(vec![behind(0, "c")]) };
        assert_eq!(due(&parted), Due::Nothing, "another one may be whole");
        assert_eq!(due(&Situation { late: true, ..parted }), nobody);
        assert_eq!(due(&site_b(vec![behind(0, "c")])), Due::Compare { with: PeerId(0) });
    }

    #[test]
    fn if_all_are_empty_the_smallest_name_is_whole_first() {
        let empty = |place, name| Linked { passed_over: true, ..linked(place, name) };
        let nobody = |first| Due::NobodyIsWhole { first };
        assert_eq!(due(&warming(vec![empty(0, "c")])), nobody(Some(SINCE)));
        assert_eq!(due(&warming(vec![empty(0, "a"), empty(1, "c")])), nobody(None));
        assert_eq!(due(&warming(Vec::new())), nobody(None), "nobody was asked");
        let parted = Situation { complete: false, ..warming(vec![empty(0, "c")]) };
        assert_eq!(due(&parted), nobody(None), "another one may be whole");
        assert_eq!(due(&Situation { late: true, ..parted }), nobody(Some(SINCE)));
        let resting = Linked { rests: true, ..linked(1, "d") };
        assert_eq!(due(&warming(vec![empty(0, "c"), resting])), Due::Nothing, "it may be whole");
    }
}
