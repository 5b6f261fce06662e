//! What is known of lives: which mutations of a life that ended may never have arrived, and who can tell.
//!
//! A proxy that stops says goodbye to each peer that has everything of it. One that is killed does not, and what it
//! owed is gone with it: its *tail*. Its next life cannot know that; its peers can, so the first thing a link says
//! is what its dialer remembers of the acceptor's earlier life ([`Memory`]).
//!
//! ```text
//!   goodbye heard before the new life ──► Clean: nothing is lost
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

use super::replica::{PeerId, Replica};
use super::version::Version;

/// What the one who stayed remembers of the other one's earlier life.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Memory {
    /// No earlier life is known.
    None,
    /// It ended with a goodbye.
    Clean,
    /// It was killed, at about this time.
    Killed {
        /// What we send at or below it may be older than what that life had.
        until: Version,
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
}

/// The lives of one peer, and of ours as far as that peer is concerned.
#[derive(Debug)]
pub(super) struct History {
    life: Option<u64>,
    said_goodbye: bool,
    /// Our clock when the peer's link broke last.
    pub(super) broke: Version,
    /// What we tell it of its earlier life.
    memory: Memory,
    /// It has told us what it remembers of ours.
    met: bool,
    /// What it sends at or below this may be older than what our earlier life had.
    until: Version,
    /// When it was noted that an earlier life of ours may have left without telling it everything.
    tail: Option<Version>,
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
            broke: Version::ZERO,
            memory: Memory::None,
            met: false,
            until: Version::ZERO,
            tail: None,
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

    /// The peer has not contradicted that all it wrote will arrive here.
    pub(super) fn peer_is_whole(&self) -> bool {
        self.theirs == Loss::Nothing && !self.untold
    }
}

impl<W> Replica<W> {
    /// A link with the peer was agreed upon, by whom ever it was dialed. `life` is the run id of its hello.
    pub fn met(&mut self, peer: PeerId, life: u64) {
        let latest = self.clock.latest();
        let known = &mut self.peers[peer.0];
        let connected = known.inbound;
        let history = &mut known.history;
        let Some(before) = history.life.replace(life) else { return };
        if before == life {
            return;
        }
        let goodbye = std::mem::replace(&mut history.said_goodbye, false);
        let broke = if connected || history.broke == Version::ZERO { latest } else { history.broke };
        let until = broke.max(known.mark).later_by(NOTICED_WITHIN_MS);
        history.memory = if goodbye { Memory::Clean } else { Memory::Killed { until } };
        history.untold = true;
        if !goodbye {
            self.doubt_others(peer);
        }
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
            Memory::None => peer.history.tail = tail,
            Memory::Killed { until } => {
                peer.history.tail = tail;
                peer.history.until = until;
            }
        }
    }

    /// The peer stops, and we have everything of it.
    pub fn heard_goodbye(&mut self, from: PeerId) {
        self.peers[from.0].history.said_goodbye = true;
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
        } else if tail || peer.gap.is_some_and(|gap| !gap.listed) {
            Loss::Ours
        } else {
            Loss::Nothing
        }
    }

    /// What we may miss of the peer, as it said last.
    pub fn loss_from(&self, from: PeerId) -> Loss {
        self.peers[from.0].history.theirs
    }

    /// Nobody knows any more who of the two misses what.
    pub fn doubt(&mut self, peer: PeerId) {
        self.peers[peer.0].history.doubt = Some(self.clock.stamp(0));
    }

    /// What the peer sends at or below this is doubtful where the ledger knows nothing of the key.
    pub(super) fn doubtful_until(&self, from: PeerId) -> Version {
        let peer = &self.peers[from.0];
        // An empty memcached has nothing that could be newer.
        let empty = self.warmth.started_empty == Some(true);
        if empty { peer.doubt } else { peer.doubt.max(peer.history.until) }
    }

    /// The peer has everything of ours, and no write is on its way: we may say goodbye.
    pub fn may_leave(&self, peer: PeerId) -> bool {
        let known = &self.peers[peer.0];
        self.in_flight == 0 && known.owed() == 0 && known.gap.is_none() && self.loss(peer) == Loss::Nothing
    }

    /// A time for [`resynced`](Self::resynced): what is lost later than this is not made good by it.
    pub fn begin_resync(&mut self) -> Version {
        self.clock.stamp(0)
    }

    /// Nothing older than a flush of ours matters any more.
    pub(super) fn flushed_all(&mut self) {
        for peer in &mut self.peers {
            (peer.gap, peer.skewed) = (None, None);
            (peer.history.tail, peer.history.doubt) = (None, None);
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
        history.doubt.take_if(|noted| *noted <= began);
        if history.tail.is_none() && history.doubt.is_none() && peer.gap.is_none() {
            self.lister.anew(with.0);
        }
        made_good
    }

    /// A site that was killed may have reached some of its peers and not the others.
    fn doubt_others(&mut self, killed: PeerId) {
        let now = self.clock.stamp(0);
        let others = self.peers.iter_mut().enumerate().filter(|(index, _)| *index != killed.0);
        for (_, other) in others.filter(|(_, other)| other.known || other.run.is_some()) {
            other.history.doubt = Some(now);
        }
    }
}

/// How long a link may have been dead before it was noticed, at most: a kill shows at once, a lost machine within the
/// silence that ends a link, and then the peer's own marks tell until when it lived.
const NOTICED_WITHIN_MS: u64 = 1000;
