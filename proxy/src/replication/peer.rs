//! One peer, as seen from here: what it is owed, what is on its way to it, and what it said about itself.
//!
//! ```text
//!   owed ──► queue ──take──► window ──acknowledge──► settled
//!              ▲                │
//!              └──disconnected──┘        (in order, to the front)
//! ```
//!
//! The queue is ordered by `first`, the version a key had when it entered: a newer write of a queued key keeps the
//! place. So nothing older than the front's `first` is still to be taken, and the mark can say so. Versions mostly come in
//! order; one that was promised when its write began may come late, and one that goes back from the window goes to the front.

use std::collections::VecDeque;

use super::history::History;
use super::status::{Gap, PeerCounters};
use super::version::{Origin, Version};

#[derive(Debug, Default)]
pub(super) struct Peer {
    /// There is one: its place is not vacant, nor does it wait for being so (`membership.rs`).
    pub(super) present: bool,
    /// When it came; who has its place later came later.
    pub(super) came: Version,

    // ---- to the peer
    pub(super) connected: bool,
    pub(super) queue: VecDeque<Debt>,
    pub(super) window: VecDeque<Sent>,
    pub(super) window_bytes: u64,
    /// Acknowledged since hello.
    pub(super) acked: u64,
    /// A flush that is not taken yet; it stands before everything in the queue.
    pub(super) flush: Option<Version>,
    /// A scheduled flush that is not taken yet.
    pub(super) scheduled: Option<Version>,
    /// The oldest mutation that a flush of ours took out of the queue: it has not reached the peer before that flush.
    pub(super) cleared: Option<Version>,
    /// Nobody waits for its acknowledgements before it has acknowledged this (`settled.rs`).
    pub(super) behind: Option<Version>,
    /// Keys whose owed bit is set for this peer, and what they cost.
    pub(super) owed_keys: u64,
    pub(super) owed_bytes: u64,
    pub(super) gap: Option<Gap>,
    /// What the peer refused because our clock is too far ahead.
    pub(super) skewed: Option<Gap>,
    /// Refused by it since hello.
    pub(super) refused_since_hello: u64,
    /// It was connected before.
    pub(super) known: bool,
    pub(super) catch_ups: u64,

    // ---- from the peer
    /// What it is called, once it has said so.
    pub(super) origin: Option<Origin>,
    pub(super) inbound: bool,
    pub(super) run: Option<u64>,
    pub(super) restarts: u64,
    /// Everything of the peer at or below this was processed here.
    pub(super) mark: Version,
    pub(super) owes: Option<u64>,
    /// The oldest and the newest version that was refused for its clock.
    pub(super) refused: Option<(Version, Version)>,
    /// Its mark no longer holds the ledger.
    pub(super) excluded: bool,
    /// What the ledger forgot although this peer might still send something older.
    pub(super) doubt: Version,
    /// Everything known here when the peer came with a new run: it may stamp below this without knowing better.
    pub(super) floor: Version,

    pub(super) counters: PeerCounters,
    pub(super) history: History,
    /// When something of the peer was refused for its clock.
    pub(super) refused_at: Version,
}

/// A key in the queue.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) struct Debt {
    pub(super) first: Version,
    pub(super) at: u32,
    /// It was sent before, on a link that broke.
    pub(super) again: bool,
}

/// A mutation on its way.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) struct Sent {
    pub(super) first: Version,
    pub(super) what: What,
    pub(super) bytes: u64,
}

/// What is on its way.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum What {
    /// Made void by a flush; only its acknowledgement is still awaited.
    Void,
    Flush,
    Scheduled,
    Key {
        at: u32,
        version: Version,
    },
}

impl Peer {
    /// Puts a key at its place in the queue: near the back for a new one, near the front for one that comes again.
    pub(super) fn enqueue(&mut self, debt: Debt) {
        if self.queue.back().is_none_or(|last| last.first <= debt.first) {
            self.queue.push_back(debt);
        } else {
            let at = self.queue.partition_point(|other| other.first < debt.first);
            self.queue.insert(at, debt);
        }
    }

    /// There is no peer here, nor is anything left of one.
    pub(super) fn is_vacant(&self) -> bool {
        !self.present && self.queue.is_empty() && self.window.is_empty()
    }

    /// Nothing new is queued: it missed mutations already, and nobody knows when it comes back.
    pub(super) fn is_given_up(&self) -> bool {
        self.gap.is_some() && !self.connected
    }

    /// Some mutations were not queued, or taken back. True: they are to be listed, if lists are kept; else lost.
    pub(super) fn lose(&mut self, mutations: u64, now_ms: u64, at: Version, lists_kept: bool) -> bool {
        let fresh = Gap { since_ms: now_ms, mutations: 0, listed: lists_kept, last: at };
        let gap = self.gap.get_or_insert(fresh);
        gap.mutations += mutations;
        gap.last = at;
        let counter = if gap.listed { &mut self.counters.listed } else { &mut self.counters.lost };
        *counter += mutations;
        gap.listed
    }

    /// The peer has refused mutations because of our clock.
    pub(super) fn refused_by(&mut self, mutations: u64, now_ms: u64, at: Version) {
        let skewed = self.skewed.get_or_insert(Gap { since_ms: now_ms, ..Gap::default() });
        skewed.mutations += mutations;
        skewed.last = at;
        self.counters.refused += mutations;
    }

    /// What is owed, in mutations: queued or unacknowledged.
    pub(super) fn owed(&self) -> u64 {
        self.owed_keys.max(self.window.len() as u64)
            + u64::from(self.flush.is_some())
            + u64::from(self.scheduled.is_some())
    }

    /// The oldest mutation that is not acknowledged.
    pub(super) fn oldest(&self) -> Option<Version> {
        let sent = self.window.front().map(|sent| sent.first);
        let queued = self.queue.front().map(|debt| debt.first);
        [sent, self.flush, self.scheduled, queued].into_iter().flatten().min()
    }

    /// Whether writes wait for it.
    pub(super) fn is_live(&self) -> bool {
        self.connected && self.behind.is_none()
    }

    /// The oldest mutation that neither it nor a flush that it acknowledged has settled.
    pub(super) fn unsettled(&self) -> Option<Version> {
        [self.oldest(), self.cleared].into_iter().flatten().min()
    }

    /// What a flush took out of the queue is settled with that flush.
    pub(super) fn clear_with_flush(&mut self) {
        let is_flush = |sent: &Sent| matches!(sent.what, What::Flush);
        if self.flush.is_none() && !self.window.iter().any(is_flush) {
            self.cleared = None;
        }
    }
}
