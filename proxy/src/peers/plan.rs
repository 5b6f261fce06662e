//! From the peers there are to those that are wanted: who goes, who moves, who comes. Pure.

use super::Peer;

/// A peer that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its name, told or heard.
    pub site: Option<String>,
    /// Where it is dialed.
    pub address: String,
}

/// What is to be done, by the places of peers, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Their places are given up.
    pub part: Vec<usize>,
    /// Who stays is told its name, or has another address.
    pub update: Vec<(usize, Peer)>,
    /// They come, to whatever places are free.
    pub join: Vec<Peer>,
}

/// What makes of those that are `there`, by place, those that are `wanted`.
#[must_use]
pub fn plan(there: &[Option<Known>], wanted: &[Peer]) -> Plan {
    let mut plan = Plan::default();
    let mut stays = vec![false; there.len()];
    for peer in wanted {
        let Some(place) = find(there, peer).filter(|place| !stays[*place]) else {
            plan.join.push(peer.clone());
            continue;
        };
        stays[place] = true;
        let same = there[place].as_ref().is_some_and(|known| {
            known.address == peer.address && (peer.site.is_none() || known.site == peer.site)
        });
        if !same {
            plan.update.push((place, peer.clone()));
        }
    }
    plan.part = (0..there.len()).filter(|place| there[*place].is_some() && !stays[*place]).collect();
    plan
}

/// The place of a peer: by its name if both have one, else by its address.
fn find(there: &[Option<Known>], peer: &Peer) -> Option<usize> {
    let place = |is: &dyn Fn(&Known) -> bool| there.iter().position(|known| known.as_ref().is_some_and(is));
    let by_name = peer.site.as_ref().and_then(|site| place(&|known| known.site.as_ref() == Some(site)));
    by_name.or_else(|| {
        place(&|known| known.address == peer.address && (known.site.is_none() || peer.site.is_none()))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn known(site: Option<&str>, address: &str) -> Option<Known> {
        Some(Known { site: site.map(str::to_owned), address: address.to_owned() })
    }

    fn peer(site: Option<&str>, address: &str) -> Peer {
        Peer { site: site.map(str::to_owned), address: address.to_owned() }
    }

    #[test]
    fn a_peer_is_known_by_its_site() {
        let there = [known(Some("b"), "h:1"), None, known(Some("c"), "h:2")];
        let moved = peer(Some("b"), "h:3");
        let plan = plan(&there, &[moved.clone(), peer(Some("c"), "h:2")]);
        assert_eq!(plan, Plan { update: vec![(0, moved)], ..Plan::default() });
    }

    #[test]
    fn another_site_at_the_same_address_is_another_peer() {
        let there = [known(Some("b"), "h:1")];
        let other = peer(Some("c"), "h:1");
        let plan = plan(&there, std::slice::from_ref(&other));
        assert_eq!(plan, Plan { part: vec![0], join: vec![other], ..Plan::default() });
    }

    #[test]
    fn without_a_name_the_address_counts() {
        let there = [known(None, "h:1"), known(Some("c"), "h:2")];
        let (named, nameless) = (peer(Some("b"), "h:1"), peer(None, "h:2"));
        let plan = plan(&there, &[named.clone(), nameless, peer(None, "h:3")]);
        let join = vec![peer(None, "h:3")];
        assert_eq!(plan, Plan { update: vec![(0, named)], join, ..Plan::default() });
    }

    #[test]
    fn two_sites_change_addresses() {
        let there = [known(Some("b"), "h:1"), known(Some("c"), "h:2")];
        let (b, c) = (peer(Some("b"), "h:2"), peer(Some("c"), "h:1"));
        let plan = plan(&there, &[b.clone(), c.clone()]);
        assert_eq!(plan, Plan { update: vec![(0, b), (1, c)], ..Plan::default() });
    }

    prop_compose! {
        fn any_peers()(names in prop::collection::btree_map("[a-e]", 0..6_u8, 0..5)) -> Vec<Peer> {
            let mut peers: Vec<Peer> = Vec::new();
            for (site, port) in names {
                let address = format!("h:{port}");
                if peers.iter().all(|other| other.address != address) {
                    peers.push(Peer { site: (port % 3 != 0).then_some(site), address });
                }
            }
            peers
        }
    }

    proptest! {
        #[test]
        fn what_is_planned_makes_what_is_wanted(sets in prop::collection::vec(any_peers(), 1..6)) {
            let mut there: Vec<Option<Known>> = Vec::new();
            for wanted in sets {
                let plan = plan(&there, &wanted);
                plan.part.iter().for_each(|place| there[*place] = None);
                for (place, peer) in plan.update {
                    let known = there[place].as_mut().unwrap();
                    known.address = peer.address;
                    known.site = peer.site.or(known.site.take());
                }
                let joined = plan.join.into_iter().map(|peer| Some(Known { site: peer.site, address: peer.address }));
                there.extend(joined);
                let mut addresses: Vec<_> = there.iter().flatten().map(|known| known.address.clone()).collect();
                let mut expected: Vec<_> = wanted.iter().map(|peer| peer.address.clone()).collect();
                addresses.sort();
                expected.sort();
                prop_assert_eq!(addresses, expected);
                for peer in wanted.iter().filter(|peer| peer.site.is_some()) {
                    prop_assert!(there.iter().flatten().any(|known| known.site == peer.site));
                }
            }
        }
    }
}
