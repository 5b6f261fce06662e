//! What is due, and doing it: one resync at a time, until none is owed.
//!
//! ```text
//!   every tick: is our memcached being filled? ──► copy from a linked peer that is whole
//!               is there a list of keys for a linked peer? ──► push their states, before anything is copied over them
//!               does a linked peer miss something, or we of it, and is our name the smaller one? ──► compare
//! ```
//!
//! A resync ends early when the links to its peer break, or those to others change what states leave out, and is tried again; a copy goes on where it was. One that fails
//! is tried again later and later, and the other peers have their turn meanwhile. If nobody can fill us because all sites started empty together, the one with the smallest name says that it is whole, and the others
//! copy from it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::super::Context;
use super::super::hold::Hold;
use super::super::state::PeerLink;
use super::compare::compare;
use super::copy::{Ended, Position, copy};
use super::due::{Due, Linked, Situation, due};
use super::failing::Failing;
use super::listed::push_listed;
use super::watcher::Watcher;
use crate::replication::{Guard, Incarnation, Loss, PeerId, Version, wall_clock_ms};

/// Looks after this site until the proxy stops.
pub(in crate::link) async fn run(context: Arc<Context>) {
    let mut engine = Engine {
        context: &context,
        position: None,
        passed_over: Vec::new(),
        again: Vec::new(),
        again_since: Version::ZERO,
        failing: Failing::default(),
    };
    loop {
        tokio::select! {
            biased;
            () = context.drain.cancelled() => return,
            () = context.shared.resync_due() => {}
            () = sleep(TICK) => {}
        }
        let Some(work) = engine.next() else { continue };
        tokio::select! {
            biased;
            () = context.drain.cancelled() => return,
            () = engine.carry_out(work) => {}
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Work {
    Copy { from: PeerId, since: Version },
    Compare { with: PeerId },
    Listed { to: PeerId },
}

struct Engine<'a> {
    context: &'a Arc<Context>,
    /// Where the copy goes on that was cut.
    position: Option<Position>,
    /// Peers that are being filled themselves.
    passed_over: Vec<PeerId>,
    /// We were whole first, at this time; what these peers took meanwhile of what we owed them is to be looked for.
    again: Vec<PeerId>,
    again_since: Version,
    failing: Failing,
}

impl Engine<'_> {
    /// The next thing to do, if there is one.
    fn next(&mut self) -> Option<Work> {
        let context = self.context;
        let links = context.links.peers();
        context.shared.check_lists();
        let life = context.shared.memcached_life();
        let mut replica = context.shared.lock();
        self.let_go(&mut replica);
        let situation = self.situation(&replica, &links, life);
        drop(replica);
        match due(&situation) {
            Due::Nothing => None,
            Due::Copy { from, since } => Some(Work::Copy { from, since }),
            Due::Compare { with } => Some(Work::Compare { with }),
            Due::Listed { to } => Some(Work::Listed { to }),
            Due::NobodyIsBelieved { since } => {
                self.passed_over.clear();
                if context.shared.lock().warmed(since) {
                    warn!(
                        "peers miss writes of before that are lost here: what they hold is dropped where it is not here"
                    );
                }
                None
            }
            Due::NobodyIsWhole { first } => {
                self.passed_over.clear();
                if let Some(since) = first
                    && context.shared.lock().warmed_first(since)
                {
                    info!("all sites started empty: this one is whole first");
                    self.again = situation.linked.iter().map(|linked| linked.peer).collect();
                    self.again_since = since;
                }
                None
            }
        }
    }

    fn situation<'l>(
        &mut self,
        replica: &Guard<'_>,
        links: &'l [PeerLink],
        life: Option<Incarnation>,
    ) -> Situation<'l>
    where
        Self: 'l,
    {
        let now_ms = wall_clock_ms();
        let is_linked = |peer: &PeerId| {
            let status = replica.status(*peer, now_ms);
            status.connected && status.inbound_connected
        };
        let peers: Vec<PeerId> = replica.peer_ids().filter(is_linked).collect();
        self.failing.meets(&peers, life);
        let linked = |peer: PeerId| Linked {
            peer,
            name: links.iter().find(|link| link.id == peer.0).and_then(|link| link.site.as_deref()),
            listed: replica.status(peer, now_ms).gap.is_some_and(|gap| gap.listed),
            behind: replica.status(peer, now_ms).gap.is_some_and(|gap| !gap.listed),
            lost: replica.loss(peer) != Loss::Nothing || replica.loss_from(peer) != Loss::Nothing,
            passed_over: self.passed_over.contains(&peer),
            again: self.again.contains(&peer),
            rests: self.failing.rests(peer),
        };
        let linked: Vec<Linked<'l>> = peers.into_iter().map(linked).collect();
        let warming = replica.warming();
        Situation {
            name: &self.context.identity.site,
            complete: linked.len() == links.len(),
            linked,
            warming,
            late: self.is_late(warming),
            again_since: self.again_since,
        }
    }

    /// An empty memcached has waited for so long that whoever there is has to do.
    fn is_late(&self, warming: Option<Version>) -> bool {
        let waited = warming.map_or(0, |since| wall_clock_ms().saturating_sub(since.millis()));
        Duration::from_millis(waited) > self.context.config.warmup_timeout
    }

    /// Peers that went are not looked at again.
    fn let_go(&mut self, replica: &mut Guard<'_>) {
        let waited = !self.again.is_empty();
        self.again.retain(|peer| replica.has_peer(*peer));
        self.passed_over.retain(|peer| replica.has_peer(*peer));
        self.failing.retain(|peer| replica.has_peer(peer));
        if waited && self.again.is_empty() {
            replica.looked_again();
        }
    }

    async fn carry_out(&mut self, work: Work) {
        let context = self.context;
        let (Work::Copy { from: peer, .. } | Work::Compare { with: peer } | Work::Listed { to: peer }) = work;
        let Some(_member) = context.directory.member(peer) else { return };
        let hold = Hold::on(&context.shared);
        let watcher = Watcher::new(context, peer);
        let ended = tokio::select! {
            biased;
            ended = self.try_to(work, &watcher) => ended,
            () = watcher.companions.broken() => Err(io::Error::other("links to peers have changed")),
        };
        // What a site that was away wrote, and only one of us had heard of, was decided without it.
        if watcher.companions.doubt() {
            info!("a peer was away: it is compared with when it comes back");
        }
        drop(hold);
        watcher.ended(&ended);
        match ended {
            Ok(true) => self.failing.succeeded(peer),
            Ok(false) if matches!(work, Work::Listed { .. }) => {}
            Ok(false) => self.failing.not_yet(peer),
            Err(error) => self.broke_off(peer, &error),
        }
    }

    fn broke_off(&mut self, peer: PeerId, error: &io::Error) {
        let addr = self.context.peer_addr(peer);
        match self.failing.failed(peer, &error.to_string()) {
            true => warn!(peer.addr = %addr, %error, "a resync broke off, and is tried again"),
            false => debug!(peer.addr = %addr, %error, "a resync broke off again"),
        }
    }

    async fn try_to(&mut self, work: Work, watcher: &Watcher<'_>) -> io::Result<bool> {
        let context = self.context;
        match work {
            Work::Listed { to } => match &context.config.lists {
                Some(lists) => push_listed(context, to, lists, watcher).await,
                None => Ok(false),
            },
            Work::Compare { with } => compare(context, with, watcher).await,
            Work::Copy { from, since } => {
                // A better one may come; but not of those that are being filled, nor for ever.
                let everybody = || context.shared.lock().peer_ids().collect();
                let gone = if self.is_late(Some(since)) { everybody() } else { self.passed_over.clone() };
                let fresh = Position { since, next: 0, items: 0 };
                let last = self.position.take().filter(|position| position.since == since);
                let position = self.position.insert(last.unwrap_or(fresh));
                match copy(context, from, &gone, position, watcher).await? {
                    Ended::Whole => {
                        let items = self.position.take().map_or(0, |position| position.items);
                        self.passed_over.clear();
                        let again = self.again.contains(&from);
                        self.again.retain(|peer| *peer != from);
                        let mut replica = context.shared.lock();
                        if again && items > 0 {
                            replica.others_may_lack(from);
                        }
                        replica.copied(since, self.again.is_empty());
                        Ok(true)
                    }
                    Ended::PeerIsWarming => {
                        self.passed_over.push(from);
                        Ok(false)
                    }
                    // It may fill us later; another one perhaps sooner.
                    Ended::PeerIsCutOff => Ok(false),
                }
            }
        }
    }
}

const TICK: Duration = Duration::from_millis(100);
