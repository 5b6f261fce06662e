//! What is due, and doing it: one resync at a time, until none is owed.
//!
//! ```text
//!   every tick: is our memcached being filled? ──► copy from a linked peer that is whole
//!               is there a list of keys for a linked peer? ──► push their states, before anything is copied over them
//!               does a linked peer miss something, or we of it, and is our name the smaller one? ──► compare
//! ```
//!
//! A resync ends early when the links to its peer break, and is tried again; a copy goes on where it was. If nobody can
//! fill us because all sites started empty together, the one with the smallest name says that it is whole, and the others
//! copy from it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::super::Context;
use super::compare::compare;
use super::copy::{Ended, Position, copy};
use super::listed::push_listed;
use super::progress::{Progress, ResyncKind};
use crate::replication::{Loss, PeerId, Version, wall_clock_ms};

/// Looks after this site until the proxy stops.
pub(in crate::link) async fn run(context: Arc<Context>) {
    let mut engine = Engine {
        context: &context,
        position: None,
        passed_over: Vec::new(),
        again: Vec::new(),
        again_since: Version::ZERO,
    };
    loop {
        tokio::select! {
            biased;
            () = context.drain.cancelled() => return,
            () = context.shared.resync_due() => {}
            () = sleep(TICK) => {}
        }
        let Some(work) = engine.due() else { continue };
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
}

/// Gives the hold back however the work ends.
struct Hold<'a>(&'a Context);

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.shared.lock().hold(false);
    }
}

impl Engine<'_> {
    fn due(&mut self) -> Option<Work> {
        let context = self.context;
        let links = context.links.peers();
        context.shared.check_lists();
        let replica = context.shared.lock();
        let now_ms = wall_clock_ms();
        let linked = |peer: &PeerId| {
            let status = replica.status(*peer, now_ms);
            status.connected && status.inbound_connected
        };
        let linked: Vec<PeerId> = (0..links.len()).map(PeerId).filter(linked).collect();
        let is_listed = |peer: &PeerId| replica.status(*peer, now_ms).gap.is_some_and(|gap| gap.listed);
        if let Some(to) = linked.iter().copied().find(is_listed) {
            return Some(Work::Listed { to });
        }
        let again = self.again.iter().copied().find(|peer| linked.contains(peer));
        let mut peers = linked.into_iter();
        if let Some(since) = replica.warming() {
            let all: Vec<PeerId> = peers.collect();
            if let Some(from) = all.iter().find(|peer| !self.passed_over.contains(peer)) {
                return Some(Work::Copy { from: *from, since });
            }
            self.passed_over.clear();
            let waited_ms = now_ms.saturating_sub(since.millis());
            let complete = all.len() == links.len();
            let late =
                waited_ms > u64::try_from(context.config.warmup_timeout.as_millis()).unwrap_or(u64::MAX);
            let names = all.iter().filter_map(|peer| links[peer.0].site.as_deref());
            let first = names.min().is_some_and(|least| context.identity.site.as_str() < least);
            drop(replica);
            if first && (complete || late) && context.shared.lock().warmed_first(since) {
                info!("all sites started empty: this one is whole first");
                (self.again, self.again_since) = (all, since);
            }
            return None;
        }
        if let Some(from) = again {
            return Some(Work::Copy { from, since: self.again_since });
        }
        peers
            .find(|peer| {
                let lost = replica.loss(*peer) != Loss::Nothing || replica.loss_from(*peer) != Loss::Nothing;
                let name = links[peer.0].site.as_deref();
                lost && name.is_some_and(|name| context.identity.site.as_str() < name)
            })
            .map(|with| Work::Compare { with })
    }

    async fn carry_out(&mut self, work: Work) {
        let context = self.context;
        let (Work::Copy { from: peer, .. } | Work::Compare { with: peer } | Work::Listed { to: peer }) = work;
        context.shared.lock().hold(true);
        let hold = Hold(context);
        let watcher = Watcher::new(context, peer);
        let ended = tokio::select! {
            biased;
            ended = self.try_to(work, &watcher) => ended,
            () = unlinked(context, peer) => Err(io::Error::other("the link to the peer broke")),
        };
        // What a site that was away wrote, and only one of us had heard of, was decided without it.
        let away = context.shared.lock().doubt_absent();
        drop(hold);
        watcher.ended(&ended);
        if let Err(error) = ended {
            warn!(peer.addr = context.peer_addr(peer), %error, "a resync broke off, and is tried again");
            sleep(RETRY).await;
        } else if away {
            info!("a peer was away: it is compared with when it comes back");
        }
    }

    async fn try_to(&mut self, work: Work, watcher: &Watcher<'_>) -> io::Result<bool> {
        let context = self.context;
        match work {
            Work::Listed { to } => match &context.config.lists {
                Some(lists) => push_listed(context, to, lists, watcher).await,
                None => Ok(false),
            },
            Work::Compare { with } => {
                let compared = compare(context, with, watcher).await?;
                if !compared {
                    sleep(RETRY).await;
                }
                Ok(compared)
            }
            Work::Copy { from, since } => {
                let fresh = Position { since, next: 0, items: 0 };
                let last = self.position.take().filter(|position| position.since == since);
                let position = self.position.insert(last.unwrap_or(fresh));
                match copy(context, from, position, watcher).await? {
                    Ended::Whole => {
                        self.position = None;
                        self.passed_over.clear();
                        self.again.retain(|peer| *peer != from);
                        let mut replica = context.shared.lock();
                        if replica.warming().is_none() && self.again.is_empty() {
                            replica.looked_again();
                        }
                        replica.warmed(since);
                        Ok(true)
                    }
                    Ended::PeerIsWarming => {
                        self.passed_over.push(from);
                        if context.shared.lock().warming().is_none() {
                            sleep(RETRY).await;
                        }
                        Ok(false)
                    }
                }
            }
        }
    }
}

/// Resolves when a link with the peer, either way, is down.
async fn unlinked(context: &Context, peer: PeerId) {
    loop {
        sleep(TICK).await;
        let status = context.shared.lock().status(peer, wall_clock_ms());
        if !status.connected || !status.inbound_connected {
            return;
        }
    }
}

/// Tells how far a resync is.
pub(super) struct Watcher<'a> {
    context: &'a Context,
    peer: PeerId,
    began: Instant,
    /// Milliseconds after it began.
    told_ms: AtomicU64,
    /// How long a peer may take over one answer.
    pub(super) patience: Duration,
}

impl<'a> Watcher<'a> {
    fn new(context: &'a Context, peer: PeerId) -> Self {
        let told_ms = AtomicU64::new(0);
        Self { context, peer, began: Instant::now(), told_ms, patience: ANSWER_PATIENCE }
    }

    pub(super) fn began(&self, kind: ResyncKind, items_expected: u64) {
        let progress = Progress { kind, running: true, items: 0, items_expected, bytes: 0, elapsed_ms: 0 };
        info!(
            peer.addr = self.context.peer_addr(self.peer),
            kind = kind.as_str(),
            items_expected,
            "resync began"
        );
        self.context.links.change(self.peer.0, |link| link.progress = Some(progress));
    }

    pub(super) fn copied(&self, items: u64, bytes: u64, taken: u64) {
        self.context.links.change(self.peer.0, |link| link.resync.copied += taken);
        self.advance(items, bytes);
    }

    pub(super) fn compared(&self, items: u64) {
        self.advance(items, 0);
    }

    pub(super) fn repaired(&self, keys: usize) {
        self.context.links.change(self.peer.0, |link| link.resync.repaired += keys as u64);
    }

    pub(super) fn dropped(&self, keys: usize) {
        self.context.links.change(self.peer.0, |link| link.resync.dropped += keys as u64);
    }

    pub(super) fn listed(&self, keys: u64) {
        self.advance(keys, 0);
    }

    fn advance(&self, items: u64, bytes: u64) {
        let elapsed_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut now = None;
        self.context.links.change(self.peer.0, |link| {
            if let Some(progress) = &mut link.progress {
                (progress.items, progress.elapsed_ms) = (items, elapsed_ms);
                progress.bytes += bytes;
                now = Some(*progress);
            }
        });
        if let Some(progress) = now
            && elapsed_ms.saturating_sub(self.told_ms.load(Ordering::Relaxed)) > TOLD_APART_MS
        {
            self.told_ms.store(elapsed_ms, Ordering::Relaxed);
            let Progress { items, items_expected, bytes, .. } = progress;
            info!(items, items_expected, bytes, left_ms = progress.left_ms(), "resync goes on");
        }
    }

    fn ended(&self, ended: &io::Result<bool>) {
        let elapsed_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.context.links.change(self.peer.0, |link| {
            if let Some(progress) = &mut link.progress {
                (progress.running, progress.elapsed_ms) = (false, elapsed_ms);
            }
            match ended {
                Ok(true) if link.progress.is_some_and(|progress| progress.kind == ResyncKind::Listed) => {
                    link.resync.listed += 1;
                }
                Ok(true) => link.resync.full += 1,
                Ok(false) => link.progress = None,
                Err(_) => link.resync.broken += 1,
            }
        });
        if matches!(ended, Ok(true)) {
            let links = self.context.links.peers();
            let link = &links[self.peer.0];
            let items = link.progress.map_or(0, |progress| progress.items);
            let counted = link.resync;
            info!(
                peer.addr = link.addr,
                items,
                elapsed_ms,
                copied = counted.copied,
                repaired = counted.repaired,
                dropped = counted.dropped,
                "resync ended"
            );
        }
    }
}

const TICK: Duration = Duration::from_millis(100);
const RETRY: Duration = Duration::from_millis(250);
/// A walk through a large memcached, and the values of a slice at the slowest pace that makes sense. A dead peer is
/// noticed by its links.
const ANSWER_PATIENCE: Duration = Duration::from_secs(600);
const TOLD_APART_MS: u64 = 5000;
