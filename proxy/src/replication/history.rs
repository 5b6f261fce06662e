//! What is known of lives: which mutations of a life that ended may never have arrived, and who can tell.
//!
//! A proxy that stops says goodbye to each peer that has everything of it. One that is killed does not, and what it
//! owed is gone with it: its *tail*. Its next life cannot know that; its peers can, so the first thing a link says
//! is what its dialer remembers of the acceptor's earlier life ([`Memory`]).
//!
//! ```text
//!   goodbye heard before the new life ──► Clean: nothing is lost
//!   a goodbye amid a copy to it ────────► Unfilled: nothing is lost, and the copy begins anew
//!   no goodbye ─────────────────────────► Killed: its tail may be lost, and what we send below `until` may be older
//!                                         than what that life had written and its next one has forgotten
//!   nothing known ──────────────────────► None: unless its memcached started empty, who knows what it holds
//! ```
//!
//! Each side decides what *it* may have failed to send ([`Loss`]) and says so in its marks. From the two losses follows
//! whose state is the newer one ([`Authority`]); a resync then makes the two equal, and clears what was lost before it
//! began.
//!
//! A third site that was killed may have reached some of its peers and not others, so these doubt each other too.

use super::company::Company;
use super::peer::Peer;
use super::replica::{PeerId, Replica};
use super::version::{Origin, Version};

/// What the one who stayed remembers of the other one's earlier life.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Memory {
    /// No earlier life is known.
    None,
    /// It ended with a goodbye.
    Clean,
    /// It ended with a goodbye, and before its memcached was filled.
    Unfilled,
    /// It was killed, at about this time.
    Killed {
        /// What we send at or below it may be older than what that life had.
        until: Version,
        /// Its memcached was being filled.
        unfilled: bool,
    },
}

/// What may be missing at a peer.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub enum Loss {
    /// Nothing beyond what is owed.
    #[default]
    Nothing,
    /// Mutations of ours.
    Ours,
    /// It cannot be said who misses what.
    Anything,
}

/// Whose state is the newer one where two sites differ.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Authority {
    /// Ours: the peer misses mutations of ours and not the other way round.
    Us,
    /// The peer's.
    Peer,
    /// Nobody's: what differs is dropped on both sides.
    Nobody,
}

impl Authority {
    /// Whose state counts, from what we may have failed to send and what the peer says it may have.
    pub fn of(ours: Loss, theirs: Loss) -> Self {
        match (ours, theirs) {
            (Loss::Ours, Loss::Nothing) => Self::Us,
            (Loss::Nothing, Loss::Ours) => Self::Peer,
            _ => Self::Nobody,
        }
    }

    /// Whoever may miss something of a third site cannot say what is newer: where it is older, a write of that third one
    /// reached the other side alone.
    pub fn unless(self, we_miss: bool, they_miss: bool) -> Self {
        match self {
            Self::Us if we_miss => Self::Nobody,
            Self::Peer if they_miss => Self::Nobody,
            authority => authority,
        }
    }
}

/// The lives of one peer, and of ours as far as that peer is concerned.
#[derive(Debug)]
pub(super) struct History {
    life: Option<u64>,
    said_goodbye: bool,
    /// Its memcached was being filled when it was heard last.
    left_unfilled: bool,
    /// Our clock when the peer gave its last sign of life over a link that ended then.
    pub(super) alive: Version,
    /// Links to it ended in silence: it may have lived on and written, for all that we know.
    silent: bool,
    /// What we tell it of its earlier life.
    memory: Memory,
    /// It has told us what it remembers of ours.
    met: bool,
    /// What it sends at or below this may be older than what our earlier life had.
    until: Version,
    /// When it was noted that an earlier life of ours may have left without telling it everything.
    tail: Option<Version>,
    /// When it was noted that it may lack what is here: it came after that was written, or only another one had it.
    lacks: Option<Version>,
    /// When it was noted that nobody knows who misses what.
    doubt: Option<Version>,
    /// What the peer says that we may miss.
    theirs: Loss,
    /// It has not said so yet in its life, or ours.
    untold: bool,
}

impl Default for History {
    fn default() -> Self {
        Self {
            life: None,
            said_goodbye: false,
            left_unfilled: false,
            alive: Version::ZERO,
            silent: false,
            memory: Memory::None,
            met: false,
            until: Version::ZERO,
            tail: None,
            lacks: None,
            doubt: None,
            theirs: Loss::Nothing,
            untold: false,
        }
    }
}

impl History {
    /// The peer has told what it remembers of our earlier life.
    pub(super) fn is_met(&self) -> bool {
        self.met
    }

    /// Something was written here before it came, at this time.
    pub(super) fn joined(&mut self, at: Version) {
        self.lacks = Some(at);
    }

    /// It has stopped, and we have everything of it.
    pub(super) fn has_said_goodbye(&self) -> bool {
        self.said_goodbye
    }

    /// Nothing is known that it may miss because of lives that ended, or because it came late.
    fn is_whole(&self) -> bool {
        self.tail.is_none() && self.lacks.is_none() && self.doubt.is_none()
    }

    /// The peer has not contradicted that all it wrote will arrive here.
    pub(super) fn peer_is_whole(&self) -> bool {
        self.theirs == Loss::Nothing && !self.untold
    }
}

impl<W> Replica<W> {
    /// This life of the proxy begins. What is older was written, or heard of, in one that this one knows nothing of.
    pub fn begin_life(&mut self, now_ms: u64) {
        self.born = self.clock.stamp(now_ms);
    }

    /// A link with the peer was agreed upon, by whom ever it was dialed. `life` is the run id of its hello.
    pub fn met(&mut self, peer: PeerId, life: u64) {
        let latest = self.clock.latest();
        let known = &mut self.peers[peer.0];
        let connected = known.inbound || known.connected;
        let history = &mut known.history;
        let silent = std::mem::replace(&mut history.silent, false);
        let Some(before) = history.life.replace(life) else { return };
        if before == life {
            return;
        }
        // Whoever never said what we may miss cannot say that we miss nothing.
        let goodbye = std::mem::replace(&mut history.said_goodbye, false) && !history.untold;
        // Who fell silent may have been behind a cut, and have lived and written until just now.
        let unknown = connected || silent || history.alive == Version::ZERO;
        let alive = if unknown { latest } else { history.alive };
        // Its marks have moved our clock. One that did not, because it is dated too far ahead, says nothing of when it died.
        let until = alive.later_by(NOTICED_WITHIN_MS);
        history.memory = match (goodbye, std::mem::take(&mut history.left_unfilled)) {
            (true, false) => Memory::Clean,
            (true, true) => Memory::Unfilled,
            (false, unfilled) => Memory::Killed { until, unfilled },
        };
        history.untold = true;
        if !goodbye {
            self.doubt_others(peer);
        }
    }

    /// It has just been heard of: a link to it or from it has ended, or it has called and was refused.
    pub fn heard_of(&mut self, peer: PeerId) {
        self.peers[peer.0].history.alive = self.clock.latest();
    }

    /// A link to it or from it has ended in silence, or it does not answer at all: nobody knows how long it lives on.
    pub fn fell_silent(&mut self, peer: PeerId) {
        self.peers[peer.0].history.silent = true;
    }

    /// What the link to the peer says first.
    pub fn memory_of(&self, peer: PeerId) -> Memory {
        self.peers[peer.0].history.memory
    }

    /// The peer has said what it remembers of our earlier life. It counts once: afterwards we know by ourselves.
    pub fn heard_memory(&mut self, from: PeerId, memory: Memory) {
        let now = self.clock.stamp(0);
        let peer = &mut self.peers[from.0];
        if std::mem::replace(&mut peer.history.met, true) {
            return;
        }
        // What that life owed may be on a list, all of it.
        let tail = (!self.lister.is_whole(from.0)).then_some(now);
        match memory {
            Memory::Clean => {}
            Memory::Unfilled => self.warmth.begin_again(now),
            Memory::None => {
                peer.history.tail = tail;
                // Two lives that never met: what it has owed us since before ours may be older than what ours forgot.
                peer.history.until = self.born;
            }
            Memory::Killed { until, unfilled } => {
                peer.history.tail = tail;
                peer.history.until = until;
                if unfilled {
                    // The little that it holds would pass for all there should be, and the rest be dropped everywhere.
                    self.warmth.begin_again(now);
                }
            }
        }
    }

    /// The peer stops, and we have everything of it.
    pub fn heard_goodbye(&mut self, from: PeerId, unfilled: bool) {
        let history = &mut self.peers[from.0].history;
        (history.said_goodbye, history.left_unfilled) = (true, unfilled);
    }

    /// A mark has said whether the peer's memcached is being filled. Its next life would not know.
    pub fn heard_filling(&mut self, from: PeerId, unfilled: bool) {
        self.peers[from.0].history.left_unfilled = unfilled;
    }

    /// A mark has said what we may miss of the peer; None: it does not know yet.
    pub fn heard_loss(&mut self, from: PeerId, loss: Option<Loss>) {
        let history = &mut self.peers[from.0].history;
        history.theirs = loss.unwrap_or_default();
        history.untold = loss.is_none();
    }

    /// What to say in marks: what the peer may miss of ours, once its memory of us was heard.
    pub fn told_loss(&self, to: PeerId) -> Option<Loss> {
        self.peers[to.0].history.met.then(|| self.loss(to))
    }

    /// What the peer may miss.
    pub fn loss(&self, to: PeerId) -> Loss {
        let peer = &self.peers[to.0];
        // What an earlier life left is no concern of a memcached that holds nothing of it.
        let tail = peer.history.tail.is_some() && self.warmth.started_empty != Some(true);
        if peer.skewed.is_some() || peer.refused.is_some() || peer.history.doubt.is_some() {
            Loss::Anything
        } else if tail || peer.history.lacks.is_some() || peer.gap.is_some_and(|gap| !gap.listed) {
            Loss::Ours
        } else {
            Loss::Nothing
        }
    }

    /// Sites other than `with` of which we may miss something: our states seem newer than they are, and beat what those wrote.
    pub fn missed_besides(&self, with: PeerId, company: &Company) -> Vec<Origin> {
        let others = self.peers.iter().enumerate().filter(|(index, peer)| *index != with.0 && peer.present);
        let missed = others.filter(|(index, peer)| company.counts(*index) && !peer.history.peer_is_whole());
        missed.filter_map(|(_, peer)| peer.origin).collect()
    }

    /// Whether any of the sites is none of these peers.
    pub fn is_any_but(&self, sites: &[Origin], these: &[PeerId]) -> bool {
        sites.iter().any(|site| these.iter().all(|peer| self.peers[peer.0].origin != Some(*site)))
    }

    /// What we may miss of the peer, as it said last.
    pub fn loss_from(&self, from: PeerId) -> Loss {
        self.peers[from.0].history.theirs
    }

    /// Nobody knows any more who of the two misses what.
    pub fn doubt(&mut self, peer: PeerId) {
        self.peers[peer.0].history.doubt = Some(self.clock.stamp(0));
    }

    /// What the peer sends at or below this is doubtful where the ledger knows nothing of the key. Of an earlier life of ours some
    /// peers may have heard longer than others.
    pub(super) fn doubtful_until(&self, from: PeerId) -> Version {
        let doubt = self.peers[from.0].doubt;
        // An empty memcached has nothing that could be newer.
        let empty = self.warmth.started_empty == Some(true);
        let until = self.peers.iter().map(|peer| peer.history.until).max().filter(|_| !empty);
        until.map_or(doubt, |until| doubt.max(until))
    }

    /// The peer has everything of ours, of lives before this one too, and no write is on its way: we may say goodbye.
    pub fn may_leave(&self, peer: PeerId) -> bool {
        let known = &self.peers[peer.0];
        let whole = known.history.is_met() && known.gap.is_none() && self.loss(peer) == Loss::Nothing;
        self.is_stamped() && known.owed() == 0 && whole
    }

    /// No write is on its way, and the peer misses more than what is owed to it: there is no goodbye to be said.
    pub fn leaves_something(&self, peer: PeerId) -> bool {
        self.is_stamped() && (self.peers[peer.0].gap.is_some() || self.loss(peer) != Loss::Nothing)
    }

    /// A time for [`resynced`](Self::resynced): what is lost later than this is not made good by it.
    pub fn begin_resync(&mut self) -> Version {
        self.clock.stamp(0)
    }

    /// Nothing older than a flush of ours matters any more.
    pub(super) fn flushed_all(&mut self) {
        for peer in &mut self.peers {
            (peer.gap, peer.skewed) = (None, None);
            (peer.history.tail, peer.history.lacks, peer.history.doubt) = (None, None, None);
        }
    }

    /// The peer and we are equal but for what is owed, as of `began` and later. Says how much was made good.
    pub fn resynced(&mut self, with: PeerId, began: Version) -> u64 {
        let peer = &mut self.peers[with.0];
        let mut made_good = 0;
        for lost in [&mut peer.gap, &mut peer.skewed] {
            made_good += lost.take_if(|lost| lost.last <= began).map_or(0, |lost| lost.mutations);
        }
        if peer.refused_at <= began {
            peer.refused = None;
        }
        let history = &mut peer.history;
        history.tail.take_if(|noted| *noted <= began);
        history.lacks.take_if(|noted| *noted <= began);
        history.doubt.take_if(|noted| *noted <= began);
        if peer.gap.is_none() && history.is_whole() {
            self.lister.anew(with.0);
        }
        made_good
    }

    /// We were whole and took what `from` held nevertheless: the others may lack it.
    pub fn others_may_lack(&mut self, from: PeerId) {
        let now = self.clock.stamp(0);
        self.others_of(from).for_each(|other| other.history.lacks = Some(now));
    }

    /// A site that was killed may have reached some of its peers and not the others.
    pub(super) fn doubt_others(&mut self, killed: PeerId) {
        let now = self.clock.stamp(0);
        self.others_of(killed).for_each(|other| other.history.doubt = Some(now));
    }

    /// All peers that we have heard of but this one.
    fn others_of(&mut self, this: PeerId) -> impl Iterator<Item = &mut Peer> {
        let others = self.peers.iter_mut().enumerate().filter(move |(index, _)| *index != this.0);
        let met = |other: &&mut Peer| other.present && (other.known || other.run.is_some());
        others.map(|(_, other)| other).filter(met)
    }
}

/// How long a link may have been dead before it was noticed, at most: a kill shows at once, a lost machine within the
/// silence that ends a link, and then the peer's own marks tell until when it lived.
const NOTICED_WITHIN_MS: u64 = 1000;

#[cfg(test)]
mod tests;
