//! Who sees how far a resync is, and says so: to `/status` and metrics, and to the log now and then.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

use super::super::Context;
use super::super::company::Companions;
use super::progress::{Progress, ResyncKind};
use crate::replication::PeerId;

/// Tells how far a resync is.
pub(super) struct Watcher<'a> {
    context: &'a Context,
    peer: PeerId,
    began: Instant,
    /// Milliseconds after it began.
    told_ms: AtomicU64,
    pub(super) companions: Companions<'a>,
    /// How long a peer may take over one answer.
    pub(super) patience: Duration,
}

impl<'a> Watcher<'a> {
    pub(super) fn new(context: &'a Context, peer: PeerId) -> Self {
        let told_ms = AtomicU64::new(0);
        let companions = Companions::with(context, peer);
        Self { context, peer, began: Instant::now(), told_ms, companions, patience: ANSWER_PATIENCE }
    }

    /// Said before a state is pushed or applied, or a key is dropped.
    pub(super) fn decides(&self) {
        self.companions.begin();
    }

    pub(super) fn began(&self, kind: ResyncKind, items_expected: u64) {
        let progress = Progress { kind, running: true, items: 0, items_expected, bytes: 0, elapsed_ms: 0 };
        info!(
            peer.addr = %self.context.peer_addr(self.peer),
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

    pub(super) fn ended(&self, ended: &io::Result<bool>) {
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
            let Some(link) = self.context.links.peer(self.peer) else { return };
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

/// A walk through a large memcached, and the values of a slice at the slowest pace that makes sense. A dead peer is
/// noticed by its links.
const ANSWER_PATIENCE: Duration = Duration::from_secs(600);
const TOLD_APART_MS: u64 = 5000;
