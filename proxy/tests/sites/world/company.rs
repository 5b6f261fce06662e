//! Who is whose peer, how far apart they are, and who has met.

use memcloud_proxy::admin::{InboundState, PeerState, PeerStatus};
use memcloud_proxy::peers::Peer;

use super::World;

impl World {
    /// The way between two sites is longer than planned by so much.
    pub(crate) fn set_far(&self, one: usize, other: usize, more_ms: u64) {
        let (least, more) = self.plan.delay_ms;
        self.network.set_delay(one, other, least + more_ms, more);
        self.network.set_delay(other, one, least + more_ms, more);
    }

    /// A site is nobody's peer any more, or everybody's again. Some are told sooner than others.
    pub(crate) fn set_apart(&mut self, site: usize, apart: bool) {
        if apart {
            self.apart.insert(site);
        } else {
            self.apart.remove(&site);
        }
        let mut told: Vec<usize> = (0..self.plan.sites).collect();
        while !told.is_empty() {
            let at = told.swap_remove(self.rng.index(told.len()));
            let peer = |other: usize| Peer {
                site: Some(format!("site-{other}")),
                address: format!("p{other}:7000"),
            };
            if let Some(proxy) = &self.sites[at].proxy {
                proxy.set_peers(self.peers_of(at).into_iter().map(peer).collect());
            }
            let late_ms = self.rng.below(60);
            self.run(late_ms);
        }
    }

    /// Who a site is to be linked with.
    pub(super) fn peers_of(&self, site: usize) -> Vec<usize> {
        let is_apart = |other: &usize| self.apart.contains(other);
        if is_apart(&site) {
            return Vec::new();
        }
        (0..self.plan.sites).filter(|other| *other != site && !is_apart(other)).collect()
    }

    pub(super) fn note_meetings(&mut self) {
        let sites = self.plan.sites;
        let pairs = (0..sites).flat_map(|one| (one + 1..sites).map(move |other| (one, other)));
        let unmet: Vec<(usize, usize)> = pairs.filter(|pair| !self.met.contains(pair)).collect();
        for (one, other) in unmet {
            if self.hears(one, other) && self.hears(other, one) {
                self.met.insert((one, other));
            }
        }
    }

    /// Both links between them are up, as the one says.
    fn hears(&self, one: usize, other: usize) -> bool {
        let name = format!("site-{other}");
        let peers = self.status(one).map(|status| status.peers).unwrap_or_default();
        let up = |peer: &PeerStatus| peer.state == PeerState::Streaming && peer.inbound == InboundState::Up;
        peers.iter().any(|peer| peer.site.as_ref() == Some(&name) && up(peer))
    }

    /// Each of its peers that lives has met the life of the proxy that is there. A life that a living peer has not met may be
    /// forgotten (decision 15, known limits).
    pub(crate) fn is_known_to_all(&self, site: usize) -> bool {
        self.peers_of(site)
            .into_iter()
            .filter(|other| self.sites[*other].proxy.is_some())
            .all(|other| self.met.contains(&(site.min(other), site.max(other))))
    }
}
