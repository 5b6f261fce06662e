//! What the sidecar tells of itself: to `/status`, `/ready`, `/live`, `/metrics`, and to `stats memcloud`.

use std::fmt::Write as _;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

use super::failover::Shown;
use crate::admin::{
    self, AckStatus, AdminSource, InboundState, Liveness, PeerState, PeerStatus, ResyncStatus, Status,
    UpstreamStatus, read_stats,
};
use crate::config::{Ack, Address, Config};
use crate::fill::Fills;
use crate::link::{LinkState, LinkStopped, Links, PeerLink};
use crate::metrics::{
    AckOutcome, Direction, MemcachedStats, PeerFigures, ReplicationFigures, WorkerCounters,
};
use crate::net;
use crate::replication::{self, Gap, Loss, PeerId, Shared, wall_clock_ms};
use crate::spill::{Reason, Spill};
use crate::upstream::UpstreamState;

/// Everything that is asked, in one place; it only reads.
pub(super) struct Source {
    site: String,
    ack: Ack,
    address: Address,
    upstream: watch::Receiver<UpstreamState>,
    replication: Option<Arc<Shared>>,
    links: Option<Arc<Links>>,
    spill: Option<Arc<Spill>>,
    failover: Option<watch::Receiver<Shown>>,
    fills: Option<Arc<Fills>>,
    workers: Mutex<Vec<Arc<WorkerCounters>>>,
    front_door: Mutex<Vec<Arc<WorkerCounters>>>,
    liveness: Mutex<Liveness>,
    warmup_timeout_ms: u64,
}

impl Source {
    pub(super) fn new(
        config: &Config,
        upstream: watch::Receiver<UpstreamState>,
        replication: Option<Arc<Shared>>,
        links: Option<Arc<Links>>,
        spill: Option<Arc<Spill>>,
        fills: Option<Arc<Fills>>,
    ) -> Self {
        Self {
            site: config.site.clone(),
            ack: config.ack,
            address: config.upstream.clone(),
            upstream,
            replication,
            links,
            spill,
            failover: None,
            fills,
            workers: Mutex::default(),
            front_door: Mutex::default(),
            liveness: Mutex::default(),
            warmup_timeout_ms: u64::try_from(config.recovery.warmup_timeout.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// There is a failover, and this is how it is.
    pub(super) fn shows_failover(&mut self, shown: watch::Receiver<Shown>) {
        self.failover = Some(shown);
    }

    fn failover(&self) -> Option<admin::FailoverStatus> {
        let shown = *self.failover.as_ref()?.borrow();
        let links = self.links.as_ref().map(|links| links.peers()).unwrap_or_default();
        let peer = shown.state.peer().and_then(|peer| links.into_iter().nth(peer));
        Some(admin::FailoverStatus {
            state: shown.state.word(),
            peer: peer.map(|link| link.site.unwrap_or(link.addr)),
            since: shown.since_ms,
            total: shown.failovers,
        })
    }

    /// Who asks peers for what is missing here.
    pub(super) fn fills(&self) -> Option<Arc<Fills>> {
        self.fills.clone()
    }

    pub(super) fn add_worker(&self, counters: Arc<WorkerCounters>) {
        lock(&self.workers).push(counters);
    }

    pub(super) fn add_front_door(&self, counters: Arc<WorkerCounters>) {
        lock(&self.front_door).push(counters);
    }

    /// The main figures as `STAT` lines.
    pub(super) fn stats_memcloud(&self) -> String {
        let status = self.status();
        let mut text = String::new();
        let mut stat = |name: &str, value: &dyn std::fmt::Display| {
            let _ = write!(text, "STAT {name} {value}\r\n");
        };
        stat("site", &status.site);
        stat("version", &status.version);
        stat("in_sync", &u8::from(status.in_sync));
        stat("upstream_up", &u8::from(status.upstream.state == admin::UpstreamState::Up));
        stat("sessions", &status.sessions);
        stat("lost_unrepaired", &status.lost_unrepaired);
        for (number, peer) in status.peers.iter().enumerate() {
            stat(&format!("peer:{number}:site"), &peer.site.as_deref().unwrap_or("-"));
            stat(&format!("peer:{number}:state"), &word(peer.state));
            stat(&format!("peer:{number}:lag_ms"), &peer.lag_ms);
            stat(&format!("peer:{number}:backlog_entries"), &peer.backlog_entries);
            stat(&format!("peer:{number}:backlog_bytes"), &peer.backlog_bytes);
        }
        if let Some(shared) = &self.replication {
            let clock = shared.lock().latest().time();
            stat("clock", &format_args!("{clock:x}"));
        }
        text.push_str("END\r\n");
        text
    }

    fn ack_status(&self, workers: &[Arc<WorkerCounters>]) -> AckStatus {
        let count = |outcome| workers.iter().map(|counters| counters.acks(outcome)).sum();
        AckStatus {
            mode: if self.ack == Ack::Peer { "peer" } else { "local" },
            peer: count(AckOutcome::Peer),
            degraded: count(AckOutcome::Degraded),
            timeout: count(AckOutcome::Timeout),
            failed: count(AckOutcome::Failed),
        }
    }

    /// Each peer's links with what the replica knows of it.
    fn peers(&self) -> Vec<(PeerLink, replication::PeerStatus)> {
        let (Some(shared), Some(links)) = (&self.replication, &self.links) else { return Vec::new() };
        let links = links.peers();
        let replica = shared.lock();
        let now = wall_clock_ms();
        let status = |number| {
            let mut status = replica.status(PeerId(number), now);
            if let Some(list) = self.spill.as_ref().map(|spill| spill.state(PeerId(number))) {
                (status.listed_keys, status.listed_bytes) = (Some(list.keys), list.bytes);
                if let Some(gap) = &mut status.gap {
                    gap.listed &= list.complete;
                }
            }
            status
        };
        links.into_iter().enumerate().map(|(number, link)| (link, status(number))).collect()
    }
}

impl AdminSource for Source {
    fn status(&self) -> Status {
        let peers: Vec<_> = self.peers().iter().map(peer_status).collect();
        let in_sync = self.replication.as_ref().is_none_or(|shared| shared.lock().in_sync());
        let upstream = self.upstream.borrow();
        let workers = lock(&self.workers);
        Status {
            site: self.site.clone(),
            version: env!("CARGO_PKG_VERSION"),
            in_sync: in_sync && upstream.down.is_none(),
            upstream: UpstreamStatus {
                addr: self.address.to_string(),
                state: if upstream.down.is_none() {
                    admin::UpstreamState::Up
                } else {
                    admin::UpstreamState::Down
                },
                version: (!upstream.version.is_empty()).then(|| upstream.version.clone()),
            },
            versioned: self.replication.as_ref().is_some_and(|shared| shared.is_versioned()),
            unversioned_because: self
                .replication
                .as_ref()
                .and_then(|shared| shared.unversioned())
                .map(|reason| reason.to_string()),
            failover: self.failover(),
            warming: self.replication.as_ref().is_some_and(|shared| shared.lock().warming().is_some()),
            lost_unrepaired: peers.iter().map(|peer| peer.lost_unrepaired).sum(),
            peers,
            sessions: workers.iter().map(|counters| counters.sessions()).sum(),
            tunnelled_sessions: workers.iter().map(|counters| counters.tunnelled_sessions()).sum(),
            ack: self.ack_status(&workers),
        }
    }

    fn ready(&self) -> Result<(), String> {
        // Apps are served, whoever does it.
        if self.failover.as_ref().is_some_and(|shown| shown.borrow().state.peer().is_some()) {
            return Ok(());
        }
        if let Some(reason) = &self.upstream.borrow().down {
            return Err(reason.clone());
        }
        let warming = self.replication.as_ref().and_then(|shared| shared.lock().warming());
        match warming {
            Some(since) if wall_clock_ms().saturating_sub(since.millis()) < self.warmup_timeout_ms => {
                Err("memcached started empty and is being filled from a peer".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn live(&self) -> Result<(), String> {
        let beats: Vec<u64> = lock(&self.workers).iter().map(|counters| counters.beats()).collect();
        lock(&self.liveness).check(&beats, Instant::now())
    }

    fn counters(&self) -> Vec<Arc<WorkerCounters>> {
        let mut all = lock(&self.workers).clone();
        all.extend(lock(&self.front_door).iter().cloned());
        all
    }

    fn replication(&self) -> ReplicationFigures {
        let Some(shared) = &self.replication else {
            return ReplicationFigures { in_sync: true, ..ReplicationFigures::default() };
        };
        let peers = self.peers();
        let (in_sync, counters) = {
            let replica = shared.lock();
            (replica.in_sync(), replica.counters())
        };
        let fills = self.fills.as_ref().map(|fills| fills.figures());
        let strangers = self.links.as_ref().map(|links| links.strangers()).unwrap_or_default();
        let skewed = peers.iter().map(|(_, status)| status.counters.refused).sum();
        ReplicationFigures {
            in_sync,
            versioned: shared.is_versioned(),
            ledger_entries: counters.ledger_entries,
            ledger_bytes: counters.ledger_bytes,
            lost: vec![("backlog_full", counters.lost), ("clock_skew", skewed)],
            unknown_outcomes: counters.unknown,
            payloads_dropped: counters.payloads_dropped,
            strangers: LinkStopped::LABELS.into_iter().zip(strangers).collect(),
            fills: fills.map(|fills| fills.by_outcome().to_vec()).unwrap_or_default(),
            fills_in_flight: fills.map_or(0, |fills| fills.in_flight),
            spill_losses: self.spill.as_ref().map(|spill| spill_losses(spill)).unwrap_or_default(),
            peers: peers.iter().map(peer_figures).collect(),
        }
    }

    fn memcached_stats(&self) -> Pin<Box<dyn Future<Output = io::Result<MemcachedStats>> + Send + '_>> {
        Box::pin(async { read_stats(net::connect(&self.address).await?).await })
    }
}

fn peer_status((link, status): &(PeerLink, replication::PeerStatus)) -> PeerStatus {
    PeerStatus {
        site: link.site.clone(),
        addr: link.addr.clone(),
        state: match link.state {
            LinkState::Connecting => PeerState::Connecting,
            LinkState::Streaming if link.progress.is_some_and(|progress| progress.running) => {
                PeerState::Resyncing
            }
            LinkState::Streaming => PeerState::Streaming,
            LinkState::Down => PeerState::Down,
        },
        inbound: if status.inbound_connected { InboundState::Up } else { InboundState::Down },
        live: status.live,
        lag_ms: status.lag_ms,
        backlog_entries: status.backlog_entries,
        backlog_bytes: status.backlog_bytes,
        unacknowledged: status.unacked,
        resyncs_full: link.resync.full,
        resyncs_partial: status.catch_ups,
        spilled_keys: status.listed_keys,
        lost_unrepaired: lost_unrepaired(status),
        resync: resync(link),
        reason: reason(link, status),
    }
}

/// What the peer misses. Of a life that was killed nobody knows how much that is: at least one.
fn lost_unrepaired(status: &replication::PeerStatus) -> u64 {
    let counted = mutations(status.gap.filter(|gap| !gap.listed)) + mutations(status.skewed);
    counted.max(u64::from(status.loss != Loss::Nothing))
}

fn resync(link: &PeerLink) -> Option<ResyncStatus> {
    let progress = link.progress?;
    let counted = link.resync;
    Some(ResyncStatus {
        kind: progress.kind.as_str(),
        running: progress.running,
        items: progress.items,
        items_expected: progress.items_expected,
        bytes: progress.bytes,
        elapsed_ms: progress.elapsed_ms,
        left_ms: progress.left_ms(),
        copied: counted.copied,
        repaired: counted.repaired,
        dropped: counted.dropped,
        broken: counted.broken,
    })
}

fn mutations(gap: Option<Gap>) -> u64 {
    gap.map_or(0, |gap| gap.mutations)
}

/// Why the two are not in sync, beyond what is simply on its way there. Losses first: they do not go away.
fn reason(link: &PeerLink, status: &replication::PeerStatus) -> Option<String> {
    let mut reasons = Vec::new();
    if let Some(gap) = status.gap {
        reasons.push(match (gap.listed, status.listed_keys) {
            (true, Some(keys)) => format!("{keys} keys are owed from --backlog-dir"),
            _ => format!(
                "{} mutations were given up since {}, because the backlog was full: a full resync is owed",
                gap.mutations, gap.since_ms
            ),
        });
    }
    if let Some(skewed) = status.skewed {
        reasons.push(format!(
            "the peer refused {} mutations since {}, because our clock is too far ahead of its own",
            skewed.mutations, skewed.since_ms
        ));
    }
    if status.loss == Loss::Anything && status.skewed.is_none() {
        reasons.push("it is not known what the two miss of each other: a comparison is owed".to_owned());
    } else if status.loss != Loss::Nothing && status.gap.is_none() {
        reasons.push(
            "an earlier life of ours was killed before it had sent everything: a comparison is owed"
                .to_owned(),
        );
    }
    if status.loss_from != Loss::Nothing {
        reasons.push("the peer may have failed to send something: a comparison is owed".to_owned());
    }
    match (link.stopped, status.inbound_connected, status.peer_owes) {
        (Some(stopped), ..) => reasons.push(stopped.to_string()),
        // What keeps our own dialing from succeeding would be the first thing to look at.
        _ if link.state != LinkState::Streaming => {}
        (None, false, _) => reasons.push("no link from the peer".to_owned()),
        (None, true, None) => reasons.push("the peer has not said yet what it owes".to_owned()),
        (None, true, Some(owed)) if owed > 0 => reasons.push(format!("the peer still owes {owed} mutations")),
        (None, true, Some(_)) => {}
    }
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

fn spill_losses(spill: &Spill) -> Vec<(&'static str, u64)> {
    Reason::ALL.iter().map(|reason| reason.as_str()).zip(spill.losses()).collect()
}

fn peer_figures((link, status): &(PeerLink, replication::PeerStatus)) -> PeerFigures {
    let counted = &status.counters;
    let mutations = vec![
        (Direction::Out, "sent", counted.sent),
        (Direction::Out, "resent", counted.resent),
        (Direction::Out, "acknowledged", counted.acked),
        (Direction::Out, "void", counted.void),
        (Direction::Out, "lost", counted.lost),
        (Direction::Out, "listed", counted.listed),
        (Direction::Out, "skewed", counted.refused),
        (Direction::In, "applied", counted.applied),
        (Direction::In, "superseded", counted.superseded),
        (Direction::In, "duplicate", counted.duplicate),
        (Direction::In, "echo", counted.echo),
        (Direction::In, "skewed", counted.skewed),
        (Direction::In, "doubtful", counted.doubtful),
        (Direction::In, "abandoned", counted.abandoned),
        (Direction::In, "refused", link.counters.refused),
    ];
    PeerFigures {
        peer: link.addr.clone(),
        streaming: link.state == LinkState::Streaming,
        inbound: status.inbound_connected,
        lag_ms: status.lag_ms,
        backlog_entries: status.backlog_entries,
        backlog_bytes: status.backlog_bytes,
        unacknowledged: status.unacked,
        spilled: status.listed_keys.map(|keys| (keys, status.listed_bytes)),
        mutations,
        resyncs_full: link.resync.full,
        resyncs_listed: link.resync.listed,
        resyncs_partial: status.catch_ups,
        resync: link.progress.map(|progress| (progress.items, progress.items_expected)),
        resync_keys: vec![
            ("copied", link.resync.copied),
            ("repaired", link.resync.repaired),
            ("dropped", link.resync.dropped),
        ],
        resyncs_broken: link.resync.broken,
        read_misses: link.counters.read_misses,
        restarts: status.restarts,
        links_stopped: LinkStopped::LABELS.into_iter().zip(link.counters.stopped).collect(),
        sent_bytes: link.counters.sent_bytes,
        received_bytes: link.counters.received_bytes,
    }
}

fn word(state: PeerState) -> &'static str {
    match state {
        PeerState::Connecting => "connecting",
        PeerState::Streaming => "streaming",
        PeerState::Resyncing => "resyncing",
        PeerState::Down => "down",
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
