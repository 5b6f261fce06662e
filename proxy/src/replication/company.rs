//! In whose company two sites exchange states: whom both hear, and who is away from both.
//!
//! A state says that everything below its version has been applied at its giver. So the version counts the mark of
//! every peer, whether its link is up or not: what a third site wrote, and only one of the two has heard of, must not
//! lose to it. A site that is dead would stop all states with its mark; so it is left out, but only where both of the
//! two say that they do not hear it. What it wrote may have reached one of them, so both doubt it afterwards, and
//! compare with it when it is back.
//!
//! ```text
//!   a hears c, b does not ─► b lacks c: its states stay at the last mark of c. Somebody else gives, or one waits
//!   neither hears c ───────► states leave c out, and both doubt it afterwards
//!   c comes back ──────────► the two are done with each other, and agree anew
//! ```

use super::replica::{PeerId, Replica};
use super::version::Origin;

/// What two sites have agreed upon. Peers are bits.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Company {
    heard: u64,
    without: u64,
    /// The other one hears a site that we do not hear: our states are older than what it has.
    pub we_lack: bool,
    /// We hear a site that it does not hear.
    pub they_lack: bool,
}

impl Company {
    /// Somebody is left out.
    pub fn leaves_out(&self) -> bool {
        self.without != 0
    }

    pub(super) fn counts(&self, peer: usize) -> bool {
        self.without & (1 << peer) == 0
    }
}

impl<W> Replica<W> {
    /// What a peer is called.
    pub fn named(&mut self, peer: PeerId, origin: Origin) {
        self.peers[peer.0].origin = Some(origin);
    }

    /// The sites that are heard now.
    pub fn heard_sites(&self) -> Vec<Origin> {
        let heard = self.peers.iter().filter(|peer| peer.present && peer.inbound);
        heard.filter_map(|peer| peer.origin).collect()
    }

    /// What is agreed upon with a peer that hears these sites.
    pub fn company(&self, with: PeerId, heard_there: &[Origin]) -> Company {
        let ours = self.clock.origin();
        let known = |origin| self.peers.iter().any(|peer| peer.present && peer.origin == Some(origin));
        // Whoever has not told us its name may be this one, or somebody of whom we have not even heard.
        let stranger = heard_there.iter().any(|origin| *origin != ours && !known(*origin));
        let mut company = Company { we_lack: stranger, ..Company::default() };
        let others = self.peers.iter().enumerate().filter(|(index, peer)| *index != with.0 && peer.present);
        for (index, peer) in others {
            let there = peer.origin.map_or(stranger, |origin| heard_there.contains(&origin));
            match (peer.inbound, there) {
                (true, there) => {
                    company.heard |= 1 << index;
                    company.they_lack |= !there;
                }
                (false, true) => company.we_lack = true,
                (false, false) => company.without |= 1 << index,
            }
        }
        company
    }

    /// Somebody has come who was not counted: what is agreed upon does not hold any more.
    pub fn has_grown(&self, company: &Company, with: PeerId) -> bool {
        let others = self.peers.iter().enumerate().filter(|(index, peer)| *index != with.0 && peer.present);
        others.into_iter().any(|(index, peer)| peer.inbound && company.heard & (1 << index) == 0)
    }

    /// Somebody whom both counted is not heard any more: until it is back, or is left out, states do not get on.
    pub fn has_shrunk(&self, company: &Company) -> bool {
        let peers = self.peers.iter().enumerate().filter(|(_, peer)| peer.present);
        peers.into_iter().any(|(index, peer)| !peer.inbound && company.heard & (1 << index) != 0)
    }

    /// Somebody is left out whose link broke a moment ago. Whatever is not urgent waits for it rather than doubt it.
    pub fn left_out_lately(&self, company: &Company) -> bool {
        let now = self.clock.latest();
        let left_out =
            self.peers.iter().enumerate().filter(|(index, peer)| peer.present && !company.counts(*index));
        left_out.into_iter().any(|(_, peer)| now < peer.history.alive.later_by(LATELY_MS))
    }

    /// Something may have been decided without peers that are away: they and we compare when they are back. True: there
    /// are some.
    pub fn doubt_absent(&mut self, company: &Company) -> bool {
        let absent: Vec<PeerId> = self.peer_ids().filter(|peer| !company.counts(peer.0)).collect();
        absent.iter().for_each(|peer| self.doubt(*peer));
        !absent.is_empty()
    }
}

/// A restart of a proxy or a short cut.
const LATELY_MS: u64 = 30_000;

#[cfg(test)]
mod tests;
