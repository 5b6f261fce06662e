//! What peers are owed: handed out in order, kept until it is acknowledged, told in marks.

use std::collections::HashSet;
use std::sync::Arc;

use super::mutation::Owed;
use super::peer::{Debt, Sent, What};
use super::replica::{Mark, PeerId, Replica};

impl<W> Replica<W> {
    /// The link to the peer is up: hello is done.
    pub fn connected(&mut self, to: PeerId) {
        debug_assert!(!self.peers[to.0].connected && self.peers[to.0].window.is_empty());
        let peer = &mut self.peers[to.0];
        peer.connected = true;
        (peer.acked, peer.refused_since_hello) = (0, 0);
        let owed = peer.owed() > 0;
        peer.behind = owed.then_some(self.clock.latest());
        if std::mem::replace(&mut peer.known, true) && owed {
            peer.catch_ups += 1;
        }
    }

    /// The link to the peer is down: what it has not acknowledged is owed again, oldest first.
    pub fn disconnected(&mut self, to: PeerId) {
        let bit = 1_u64 << to.0;
        self.heard_of(to);
        let peer = &mut self.peers[to.0];
        peer.connected = false;
        peer.window_bytes = 0;
        let mut again = Vec::new();
        let mut placed = HashSet::new();
        for sent in std::mem::take(&mut peer.window) {
            match sent.what {
                What::Void => peer.cleared = Some(peer.cleared.map_or(sent.first, |c| c.min(sent.first))),
                What::Flush => peer.flush = peer.flush.max(Some(sent.first)),
                What::Scheduled => {
                    let current = self.scheduled.is_some_and(|scheduled| scheduled.version == sent.first);
                    if current {
                        peer.scheduled = Some(sent.first);
                    }
                }
                What::Key { at, .. } => {
                    let entry = &mut self.table[at];
                    entry.pins -= 1;
                    if entry.owed & bit != 0 && placed.insert(at) {
                        again.push(Debt { first: sent.first, at, again: true });
                    }
                }
            }
        }
        peer.clear_with_flush();
        self.put_back(to.0, again, &placed);
        self.trim(to.0);
    }

    /// Puts what has to be sent again before all else, oldest first. A key that was written meanwhile moves there, too:
    /// the peer may have none of its versions, so what is owed of it is as old as the oldest of them.
    fn put_back(&mut self, to: usize, again: Vec<Debt>, placed: &HashSet<u32>) {
        let bit = 1_u64 << to;
        if again.iter().any(|debt| self.table[debt.at].queued & bit != 0) {
            self.peers[to].queue.retain(|debt| {
                let stays = !placed.contains(&debt.at);
                if !stays {
                    self.table[debt.at].pins -= 1;
                }
                stays
            });
        }
        for debt in again.into_iter().rev() {
            let entry = &mut self.table[debt.at];
            entry.queued |= bit;
            entry.pins += 1;
            self.peers[to].enqueue(debt);
        }
    }

    /// Moves up to `max_entries` owed mutations into the window. They must be written in this order.
    ///
    /// Call it again until it hands out nothing, and after every acknowledgement: `complete` says "owed" only for
    /// a key that is not queued already.
    pub fn take(&mut self, to: PeerId, max_entries: usize, now_ms: u64, out: &mut Vec<Owed>) {
        let until = out.len().saturating_add(max_entries);
        while out.len() < until && self.window_is_open(to) {
            if !self.take_flush(to, now_ms, out) && !self.take_key(to, out) {
                break;
            }
        }
    }

    /// The peer has processed `count` mutations since hello, and refused so many of them because of our clock.
    /// False: more than were sent; close the link.
    pub fn acknowledge(&mut self, to: PeerId, count: u64, refused: u64, now_ms: u64) -> bool {
        let at = self.clock.latest();
        let peer = &mut self.peers[to.0];
        let known = peer.acked..=peer.acked + peer.window.len() as u64;
        if !known.contains(&count) || !(peer.refused_since_hello..=count).contains(&refused) {
            return false;
        }
        if refused > peer.refused_since_hello {
            let more = refused - std::mem::replace(&mut peer.refused_since_hello, refused);
            peer.refused_by(more, now_ms, at);
            self.missed_by(to.0);
        }
        while self.peers[to.0].acked < count {
            let peer = &mut self.peers[to.0];
            let Some(sent) = peer.window.pop_front() else { break };
            peer.acked += 1;
            peer.counters.acked += 1;
            peer.window_bytes -= sent.bytes;
            if let What::Key { at, version } = sent.what {
                self.table[at].pins -= 1;
                // A newer version of the key is queued or on its way: only its own acknowledgement settles it.
                if self.table[at].version == version {
                    self.settle(at, to.0);
                }
            } else if matches!(sent.what, What::Flush) {
                self.peers[to.0].clear_with_flush();
            }
        }
        self.trim(to.0);
        self.catch_up(to.0);
        self.sweep(SWEPT_PER_ACK);
        true
    }

    /// The mark to send. Only right when everything taken was written before it.
    pub fn mark(&mut self, to: PeerId, now_ms: u64) -> Mark {
        // Writes in flight are no concern, unless they were promised a version: they will be stamped above this tick.
        let fresh = self.clock.stamp(now_ms);
        let peer = &self.peers[to.0];
        let queued = peer.queue.front().map(|debt| debt.first);
        let waiting = [peer.flush, peer.scheduled, queued, self.promised.oldest()];
        let version = waiting.into_iter().flatten().min().map_or(fresh, |oldest| oldest.before());
        let listed = peer.gap.filter(|gap| gap.listed).map_or(0, |gap| gap.mutations);
        Mark { version, owed: peer.owed() + listed }
    }

    fn window_is_open(&self, to: PeerId) -> bool {
        let peer = &self.peers[to.0];
        peer.connected
            && peer.window.len() < self.bounds.window_entries
            && (peer.window.is_empty() || peer.window_bytes < self.bounds.window_bytes)
    }

    fn take_flush(&mut self, to: PeerId, now_ms: u64, out: &mut Vec<Owed>) -> bool {
        let peer = &mut self.peers[to.0];
        let (version, what, delay_ms) = if let Some(version) = peer.flush.take() {
            (version, What::Flush, 0)
        } else if let Some(version) = peer.scheduled.take() {
            // One whose time has come is not sent any more: the ordinary flush that follows it says it all.
            let scheduled = self.scheduled.filter(|s| s.version == version && s.at_ms > now_ms);
            let Some(scheduled) = scheduled else { return self.take_flush(to, now_ms, out) };
            (version, What::Scheduled, scheduled.at_ms - now_ms)
        } else {
            return false;
        };
        peer.window.push_back(Sent { first: version, what, bytes: 0 });
        peer.counters.sent += 1;
        out.push(Owed::Flush { version, delay_ms });
        true
    }

    fn take_key(&mut self, to: PeerId, out: &mut Vec<Owed>) -> bool {
        let bit = 1_u64 << to.0;
        let peer = &mut self.peers[to.0];
        let Some(debt) = peer.queue.pop_front() else { return false };
        let entry = &mut self.table[debt.at];
        debug_assert!(entry.owed & bit != 0, "the front of a queue is owed");
        entry.queued &= !bit;
        // The pin goes from the queue to the window.
        let what = What::Key { at: debt.at, version: entry.version };
        let bytes = entry.cost();
        peer.window.push_back(Sent { first: debt.first, what, bytes });
        peer.window_bytes += bytes;
        peer.counters.sent += 1;
        peer.counters.resent += u64::from(debt.again);
        out.push(Owed::Key {
            key: Arc::clone(&entry.key),
            version: entry.version,
            effect: entry.effect().clone(),
            marks_unsure: entry.marks_unsure,
        });
        self.trim(to.0);
        true
    }
}

/// A bound on the time under the lock.
const SWEPT_PER_ACK: usize = 512;
