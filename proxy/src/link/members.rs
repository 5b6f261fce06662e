//! Peers that come and go: the one owner of the set, who carries out what is wanted.
//!
//! ```text
//!   PeerSet ── wanted ──► plan ──┬─► part:   replica, lists, links; who works for it leaves; then the place is cleared
//!                                ├─► update: another address is dialed
//!                                └─► join:   a free place, replica, lists, links; then it is dialed
//! ```
//!
//! A place is given to another peer only when nobody works for the one before any more and the replica has dropped what
//! that one was owed. Who finds no place waits until one is free.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinSet, yield_now};
use tokio::time::sleep;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::directory::Member;
use super::{Context, dialer, flusher};
use crate::peers::{Known, Peer, Wanted, plan};
use crate::replication::{PEERS_MAX, PeerId};

/// Who carries it out.
pub(super) struct Members {
    context: Arc<Context>,
    dialers: TaskTracker,
    /// Places that were taken once, those that were given up last at the end.
    free: VecDeque<PeerId>,
    /// Places that were never taken begin here.
    fresh: usize,
    clearing: JoinSet<PeerId>,
}

impl Members {
    /// Takes in the peers of the start, which the replica and the lists have already.
    pub(super) fn new(context: Arc<Context>, dialers: TaskTracker) -> Self {
        let mut members =
            Self { context, dialers, free: VecDeque::new(), fresh: 0, clearing: JoinSet::new() };
        for address in members.context.config.peers.clone() {
            let place = PeerId(members.fresh);
            members.fresh += 1;
            members.greet(place, &Peer { site: None, address });
        }
        members
    }

    /// Follows what is wanted until the proxy stops.
    pub(super) async fn run(mut self, mut wanted: watch::Receiver<Wanted>) {
        let drain = self.context.drain.clone();
        loop {
            let now = wanted.borrow_and_update().clone();
            let carried_out = self.carry_out(&now).await;
            tokio::select! {
                biased;
                () = drain.cancelled() => return,
                changed = wanted.changed() => if changed.is_err() {
                    return;
                },
                Some(cleared) = self.clearing.join_next() => if let Ok(place) = cleared {
                    self.free.push_back(place);
                },
                () = sleep(AGAIN_AFTER), if !carried_out => {}
            }
        }
    }

    /// False: memcached could not be flushed, and it has to be tried again.
    async fn carry_out(&mut self, wanted: &Wanted) -> bool {
        let known = self.known();
        let plan = plan(&known, &wanted.peers);
        let alone = plan.part.len() == known.iter().flatten().count();
        plan.part.into_iter().for_each(|place| self.part(PeerId(place)));
        plan.update.iter().for_each(|(place, peer)| self.update(PeerId(*place), peer));
        let joining: Vec<(PeerId, &Peer)> =
            plan.join.iter().filter_map(|peer| Some((self.take_place(peer)?, peer))).collect();
        if wanted.afresh && alone && !joining.is_empty() {
            let places: Vec<PeerId> = joining.iter().map(|(place, _)| *place).collect();
            if let Err(error) = flusher::empty_for(&self.context, &places).await {
                warn!(%error, "peers wait until memcached is flushed");
                self.free.extend(places);
                return false;
            }
            info!("what memcached held was none of this shard's: it is flushed");
        } else {
            for (place, _) in &joining {
                self.context.shared.join(*place);
            }
        }
        for (place, peer) in joining {
            info!(peer.addr = peer.address, site = peer.site, "a peer came");
            self.greet(place, peer);
        }
        true
    }

    /// Who is there, by place.
    fn known(&self) -> Vec<Option<Known>> {
        let mut known = vec![None; self.fresh];
        for link in self.context.links.peers() {
            if let Some(place) = known.get_mut(link.id) {
                *place = Some(Known { site: link.site, address: link.addr });
            }
        }
        known
    }

    fn part(&mut self, peer: PeerId) {
        let context = Arc::clone(&self.context);
        let addr = context.peer_addr(peer);
        let dropped = context.shared.part(peer);
        if let Some(lists) = &context.config.lists {
            lists.part(peer);
        }
        context.links.part(peer);
        info!(peer.addr = addr, dropped, "a peer went");
        let left = context.directory.part(peer);
        self.clearing.spawn(async move {
            left.await;
            while !context.shared.clear_place(peer) {
                yield_now().await;
            }
            peer
        });
    }

    fn update(&self, peer: PeerId, is: &Peer) {
        let moved = self.context.peer_addr(peer) != is.address;
        if moved {
            info!(peer.addr = is.address, was = self.context.peer_addr(peer), "a peer has another address");
        }
        self.context.links.change(peer.0, |link| {
            link.addr.clone_from(&is.address);
            link.site = is.site.clone().or(link.site.take());
        });
        self.context.directory.update(peer, &is.address, is.site.as_deref());
    }

    /// A place for a peer, whose list begins there.
    fn take_place(&mut self, peer: &Peer) -> Option<PeerId> {
        let fresh = (self.fresh < PEERS_MAX).then_some(PeerId(self.fresh));
        let Some(place) = self.free.pop_front().or(fresh) else {
            warn!(peer.addr = peer.address, "a peer waits until the place of another one is free");
            return None;
        };
        self.fresh = self.fresh.max(place.0 + 1);
        if let Some(lists) = &self.context.config.lists {
            lists.join(place, &peer.address);
        }
        Some(place)
    }

    fn greet(&self, place: PeerId, peer: &Peer) {
        let context = &self.context;
        context.links.join(place, &peer.address, peer.site.as_deref());
        let member: Member = context.directory.join(place, &peer.address, peer.site.as_deref());
        let dialing = dialer::dial(Arc::clone(context), member);
        self.dialers.spawn(context.tracker.track_future(dialing));
    }
}

/// memcached may be on its way.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
