//! What the sidecar tells of itself: to `/status`, `/ready`, `/live`, `/metrics`, to control, and to `stats memcloud`.
//!
//! Everything that is asked is in one place, which only reads. What is said of one peer is a value of what the links and
//! the replica know of it: `peer` for `/status`, `figures` for metrics. `vitals` is what control is told, `stats` what an app
//! that asks memcached gets.

mod figures;
mod peer;
mod stats;
mod vitals;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use self::figures::{peer_figures, spill_losses};
use self::peer::peer_status;
use super::failover::Shown;
use crate::admin::{
    self, AckStatus, AdminSource, ControlStatus, Liveness, Status, UpstreamStatus, read_stats,
};
use crate::agent;
use crate::config::{Ack, Address, Config};
use crate::fill::Fills;
use crate::link::{LinkStopped, Links, PeerLink};
use crate::metrics::{AckOutcome, ControlFigures, MemcachedStats, ReplicationFigures, WorkerCounters};
use crate::net;
use crate::replication::{self, PeerId, Shared, wall_clock_ms};
use crate::spill::Spill;
use crate::upstream::UpstreamState;

/// Who is asked.
pub(super) struct Source {
    site: String,
    ack: Ack,
    address: Address,
    upstream: watch::Receiver<UpstreamState>,
    replication: Option<Arc<Shared>>,
    links: Option<Arc<Links>>,
    spill: Option<Arc<Spill>>,
    failover: Option<watch::Receiver<Shown>>,
    /// Where control is, and how we stand with it.
    control: Option<watch::Receiver<agent::Shown>>,
    fills: Option<Arc<Fills>>,
    workers: Mutex<Vec<Arc<WorkerCounters>>>,
    front_door: Mutex<Vec<Arc<WorkerCounters>>>,
    liveness: Mutex<Liveness>,
    warmup_timeout_ms: u64,
    upstream_timeout: Duration,
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
            control: None,
            fills,
            workers: Mutex::default(),
            front_door: Mutex::default(),
            liveness: Mutex::default(),
            upstream_timeout: config.upstream_timeout,
            warmup_timeout_ms: u64::try_from(config.recovery.warmup_timeout.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// There is a failover, and this is how it is.
    pub(super) fn shows_failover(&mut self, shown: watch::Receiver<Shown>) {
        self.failover = Some(shown);
    }

    /// There is a control, and this is how we stand with it.
    pub(super) fn shows_control(&mut self, shown: watch::Receiver<agent::Shown>) {
        self.control = Some(shown);
    }

    fn failover(&self) -> Option<admin::FailoverStatus> {
        let shown = *self.failover.as_ref()?.borrow();
        let links = self.links.as_ref().map(|links| links.peers()).unwrap_or_default();
        let peer = shown.state.peer().and_then(|peer| links.into_iter().find(|link| link.id == peer));
        Some(admin::FailoverStatus {
            state: shown.state.word(),
            peer: peer.map(|link| link.site.unwrap_or(link.addr)),
            since: shown.since_ms,
            total: shown.failovers,
        })
    }

    /// What the monitor finds out about memcached.
    pub(super) fn upstream(&self) -> watch::Receiver<UpstreamState> {
        self.upstream.clone()
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

    /// Who speaks with control, and what for.
    fn control_status(&self) -> Option<ControlStatus> {
        let shown = self.control.as_ref()?.borrow();
        let (app, shard) = shown.place.clone().unzip();
        Some(ControlStatus {
            url: shown.url.clone(),
            state: shown.standing.word(),
            up: shown.replica.is_some() && shown.trouble.is_none(),
            replica: shown.replica,
            app,
            shard,
            heard: shown.tally.heard,
            reason: shown.trouble.clone(),
        })
    }

    /// Each peer's links with what the replica knows of it.
    fn peers(&self) -> Vec<(PeerLink, replication::PeerStatus)> {
        let (Some(shared), Some(links)) = (&self.replication, &self.links) else { return Vec::new() };
        let links = links.peers();
        let replica = shared.lock();
        let now = wall_clock_ms();
        let status = |peer| {
            let mut status = replica.status(peer, now);
            if let Some(list) = self.spill.as_ref().map(|spill| spill.state(peer)) {
                (status.listed_keys, status.listed_bytes) = (Some(list.keys), list.bytes);
                if let Some(gap) = &mut status.gap {
                    gap.listed &= list.complete;
                }
            }
            status
        };
        let there = links.into_iter().filter(|link| replica.has_peer(PeerId(link.id)));
        there
            .map(|link| {
                let status = status(PeerId(link.id));
                (link, status)
            })
            .collect()
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
            control: self.control_status(),
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

    fn control(&self) -> Option<ControlFigures> {
        let shown = self.control.as_ref()?.borrow();
        Some(ControlFigures {
            up: shown.replica.is_some() && shown.trouble.is_none(),
            placed: shown.place.is_some(),
            heard_ms: shown.tally.heard,
            requests: shown.tally.cells().collect(),
        })
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
            listener_full: self.links.as_ref().map_or(0, |links| links.listener_full()),
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
