//! Every metric name of the sidecar on a page, and the text that a scrape gets.
//!
//! ```text
//! WorkerCounters (one writer each) ── summed ──┐
//! ReplicationFigures, upstream state ──────────┼─ recorder of this scrape ─> counters and gauges ─┐
//! durations ───────────────────────────────────┴─ own buckets ─────────────────────────────────────┼─> text
//! memcached's stats ─────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! It promises names with units, labels from closed sets, and a page that holds what is known at that moment:
//! each scrape fills a fresh recorder, so a peer that was taken out of the configuration leaves nothing behind.
//! It refuses to know how anything is counted or served.

mod histogram;
mod memcached;
mod names;
mod process;
mod worker;

use metrics::{counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::PrometheusBuilder;

pub use memcached::{MemcachedStats, StatLines};
pub use names::{AckOutcome, CommandName, Refusal, UpstreamFault};
pub use worker::{Totals, WorkerCounters};

/// All that a scrape shows.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub site: String,
    /// What the workers counted.
    pub totals: Totals,
    pub upstream_up: bool,
    /// Nothing without `--failover peer`.
    pub failover: Option<FailoverFigures>,
    pub replication: ReplicationFigures,
    /// Nothing when memcached did not answer.
    pub memcached: Option<MemcachedStats>,
}

/// What failover shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FailoverFigures {
    /// A peer serves the apps of this site.
    pub active: bool,
    /// How often one has taken over.
    pub total: u64,
}

/// What replication shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicationFigures {
    pub in_sync: bool,
    /// The CAS of items is their version.
    pub versioned: bool,
    /// Keys whose newest version is remembered.
    pub ledger_entries: u64,
    pub ledger_bytes: u64,
    /// Mutations that some peer will not get, by reason.
    pub lost: Vec<(&'static str, u64)>,
    /// Local writes whose answer never came.
    pub unknown_outcomes: u64,
    /// Values let go to keep the bound on the backlog.
    pub payloads_dropped: u64,
    /// Connections on peer-listen that were no configured peer's, by why they ended.
    pub strangers: Vec<(&'static str, u64)>,
    /// Lists of owed keys that are no longer complete, by reason; empty without `--backlog-dir`.
    pub spill_losses: Vec<(&'static str, u64)>,
    /// Misses that a peer was to fill, by what came of it; none without `--miss peer`.
    pub fills: Vec<(&'static str, u64)>,
    pub fills_in_flight: u64,
    pub peers: Vec<PeerFigures>,
}

/// What one peer shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerFigures {
    /// The label: its address as configured, which is known from the start and does not change.
    pub peer: String,
    pub streaming: bool,
    /// Whether it has a link to us.
    pub inbound: bool,
    pub lag_ms: u64,
    pub backlog_entries: u64,
    pub backlog_bytes: u64,
    /// Sent and not acknowledged yet.
    pub unacknowledged: u64,
    /// Keys on disk that are owed to it, and the bytes there.
    pub spilled: Option<(u64, u64)>,
    /// By direction and outcome; the outcome comes from an enum.
    pub mutations: Vec<(Direction, &'static str, u64)>,
    pub resyncs_full: u64,
    /// Lists of keys that were delivered.
    pub resyncs_listed: u64,
    pub resyncs_partial: u64,
    /// Items done and expected, of the resync that is on or was last.
    pub resync: Option<(u64, u64)>,
    /// Keys by what a resync did with them.
    pub resync_keys: Vec<(&'static str, u64)>,
    /// Resyncs that broke off.
    pub resyncs_broken: u64,
    /// Items that were gone when they were to be read for it.
    pub read_misses: u64,
    /// How often it came back as a new process.
    pub restarts: u64,
    /// How often a link with it ended, by reason.
    pub links_stopped: Vec<(&'static str, u64)>,
    pub sent_bytes: u64,
    pub received_bytes: u64,
}

/// Which way a mutation goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Born here, for the peer.
    Out,
    /// Born there, for us.
    In,
}

impl Direction {
    fn as_str(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::In => "in",
        }
    }
}

/// The text of a scrape.
pub fn render(figures: &Figures) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        describe();
        record_proxy(figures);
        record_replication(&figures.replication);
    });
    let mut text = recorder.handle().render();
    figures.totals.durations.render(
        REQUEST_DURATION,
        "From a request's arrival to its complete answer.",
        &mut text,
    );
    figures.totals.ack_waits.render(
        ACK_WAIT,
        "How long answers to writes waited for peers, with --ack peer.",
        &mut text,
    );
    memcached::render(figures.memcached.as_ref(), &mut text);
    process::render(&mut text);
    text
}

fn record_proxy(figures: &Figures) {
    let totals = &figures.totals;
    gauge!("memcloud_proxy_info", "site" => figures.site.clone(), "version" => env!("CARGO_PKG_VERSION"))
        .set(1);
    // Most of the hundred combinations never happen; a series appears with its first request.
    for &(dialect, command, count) in totals.requests.iter().filter(|(_, _, count)| *count > 0) {
        counter!("memcloud_proxy_requests_total", "command" => command.as_str(), "dialect" => dialect)
            .absolute(count);
    }
    counter!("memcloud_proxy_received_bytes_total").absolute(totals.received_bytes);
    counter!("memcloud_proxy_sent_bytes_total").absolute(totals.sent_bytes);
    gauge!("memcloud_proxy_sessions").set(float(totals.sessions));
    counter!("memcloud_proxy_sessions_opened_total").absolute(totals.sessions_opened);
    gauge!("memcloud_proxy_tunnelled_sessions").set(float(totals.tunnelled));
    counter!("memcloud_proxy_tunnelled_sessions_opened_total").absolute(totals.tunnels_opened);
    for &(why, count) in &totals.sessions_refused {
        counter!("memcloud_proxy_sessions_refused_total", "reason" => why.as_str()).absolute(count);
    }
    counter!("memcloud_proxy_slow_readers_closed_total").absolute(totals.slow_readers);
    gauge!("memcloud_proxy_upstream_up").set(float(figures.upstream_up.into()));
    for &(fault, count) in &totals.upstream_faults {
        counter!("memcloud_proxy_upstream_errors_total", "reason" => fault.as_str()).absolute(count);
    }
    counter!("memcloud_proxy_gate_waits_total").absolute(totals.gate_waits);
    for &(outcome, count) in &totals.acks {
        counter!("memcloud_proxy_acks_total", "outcome" => outcome.as_str()).absolute(count);
    }
    if let Some(failover) = figures.failover {
        gauge!("memcloud_proxy_failover_active").set(float(failover.active.into()));
        counter!("memcloud_proxy_failovers_total").absolute(failover.total);
        counter!("memcloud_proxy_failover_requests_total").absolute(totals.served_by_peers);
    }
}

fn record_replication(figures: &ReplicationFigures) {
    gauge!("memcloud_proxy_in_sync").set(float(figures.in_sync.into()));
    gauge!("memcloud_proxy_versioned").set(float(figures.versioned.into()));
    gauge!("memcloud_proxy_ledger_entries").set(float(figures.ledger_entries));
    gauge!("memcloud_proxy_ledger_bytes").set(float(figures.ledger_bytes));
    for &(reason, count) in &figures.lost {
        counter!("memcloud_proxy_replication_lost_total", "reason" => reason).absolute(count);
    }
    counter!("memcloud_proxy_replication_unknown_outcomes_total").absolute(figures.unknown_outcomes);
    counter!("memcloud_proxy_replication_payloads_dropped_total").absolute(figures.payloads_dropped);
    for &(reason, count) in &figures.strangers {
        counter!("memcloud_proxy_peer_strangers_total", "reason" => reason).absolute(count);
    }
    for &(reason, count) in &figures.spill_losses {
        counter!("memcloud_proxy_spill_errors_total", "reason" => reason).absolute(count);
    }
    for &(outcome, count) in &figures.fills {
        counter!("memcloud_proxy_fills_total", "outcome" => outcome).absolute(count);
    }
    gauge!("memcloud_proxy_fills_in_flight").set(float(figures.fills_in_flight));
    figures.peers.iter().for_each(record_peer);
}

fn record_peer(figures: &PeerFigures) {
    let peer = || figures.peer.clone();
    gauge!("memcloud_proxy_replication_streaming", "peer" => peer()).set(float(figures.streaming.into()));
    gauge!("memcloud_proxy_replication_inbound", "peer" => peer()).set(float(figures.inbound.into()));
    gauge!("memcloud_proxy_replication_lag_seconds", "peer" => peer()).set(float(figures.lag_ms) / 1e3);
    gauge!("memcloud_proxy_replication_backlog_entries", "peer" => peer())
        .set(float(figures.backlog_entries));
    gauge!("memcloud_proxy_replication_backlog_bytes", "peer" => peer()).set(float(figures.backlog_bytes));
    gauge!("memcloud_proxy_replication_unacknowledged", "peer" => peer()).set(float(figures.unacknowledged));
    if let Some((keys, bytes)) = figures.spilled {
        gauge!("memcloud_proxy_spill_keys", "peer" => peer()).set(float(keys));
        gauge!("memcloud_proxy_spill_bytes", "peer" => peer()).set(float(bytes));
    }
    for &(direction, outcome, count) in &figures.mutations {
        counter!("memcloud_proxy_replication_mutations_total",
            "peer" => peer(), "direction" => direction.as_str(), "outcome" => outcome)
        .absolute(count);
    }
    let kinds = [
        ("full", figures.resyncs_full),
        ("partial", figures.resyncs_partial),
        ("listed", figures.resyncs_listed),
    ];
    for (kind, count) in kinds {
        counter!("memcloud_proxy_resyncs_total", "peer" => peer(), "kind" => kind).absolute(count);
    }
    if let Some((items, expected)) = figures.resync {
        gauge!("memcloud_proxy_resync_items", "peer" => peer()).set(float(items));
        gauge!("memcloud_proxy_resync_items_expected", "peer" => peer()).set(float(expected));
    }
    for &(outcome, count) in &figures.resync_keys {
        counter!("memcloud_proxy_resync_keys_total", "peer" => peer(), "outcome" => outcome).absolute(count);
    }
    counter!("memcloud_proxy_resyncs_broken_total", "peer" => peer()).absolute(figures.resyncs_broken);
    counter!("memcloud_proxy_replication_read_misses_total", "peer" => peer()).absolute(figures.read_misses);
    counter!("memcloud_proxy_peer_restarts_total", "peer" => peer()).absolute(figures.restarts);
    for &(reason, count) in &figures.links_stopped {
        counter!("memcloud_proxy_links_stopped_total", "peer" => peer(), "reason" => reason).absolute(count);
    }
    counter!("memcloud_proxy_link_sent_bytes_total", "peer" => peer()).absolute(figures.sent_bytes);
    counter!("memcloud_proxy_link_received_bytes_total", "peer" => peer()).absolute(figures.received_bytes);
}

fn describe() {
    describe_gauge!("memcloud_proxy_info", "Always 1; its labels say which proxy this is.");
    describe_counter!("memcloud_proxy_requests_total", "Requests answered.");
    describe_counter!("memcloud_proxy_received_bytes_total", "Bytes received from apps.");
    describe_counter!("memcloud_proxy_sent_bytes_total", "Bytes sent to apps.");
    describe_gauge!("memcloud_proxy_sessions", "App connections open now.");
    describe_counter!("memcloud_proxy_sessions_opened_total", "App connections accepted.");
    describe_gauge!(
        "memcloud_proxy_tunnelled_sessions",
        "Those of the open sessions that peers opened for their apps."
    );
    describe_counter!("memcloud_proxy_tunnelled_sessions_opened_total", "Sessions accepted from peers.");
    describe_counter!("memcloud_proxy_sessions_refused_total", "App connections turned away.");
    describe_counter!(
        "memcloud_proxy_slow_readers_closed_total",
        "Sessions closed because answers were not read."
    );
    describe_gauge!("memcloud_proxy_upstream_up", "Whether memcached is connected and answers.");
    describe_counter!("memcloud_proxy_upstream_errors_total", "Connections to memcached that failed.");
    describe_counter!(
        "memcloud_proxy_gate_waits_total",
        "Writes that waited for another write of their key."
    );
    describe_counter!("memcloud_proxy_fills_total", "Misses that a peer was to fill, with --miss peer.");
    describe_gauge!("memcloud_proxy_fills_in_flight", "Keys that a peer is being asked for.");
    describe_counter!(
        "memcloud_proxy_acks_total",
        "Writes that waited for peers, with --ack peer, by how that ended."
    );
    describe_gauge!("memcloud_proxy_failover_active", "Whether a peer serves the apps of this site.");
    describe_counter!("memcloud_proxy_failovers_total", "How often a peer has taken over.");
    describe_counter!("memcloud_proxy_failover_requests_total", "Requests of apps answered by a peer.");
    describe_gauge!(
        "memcloud_proxy_in_sync",
        "Whether this proxy and all its peers have the same, as far as it knows."
    );
    describe_gauge!("memcloud_proxy_versioned", "Whether the CAS of items is their version, on all sites.");
    describe_gauge!("memcloud_proxy_ledger_entries", "Keys whose newest version is remembered.");
    describe_gauge!("memcloud_proxy_ledger_bytes", "Memory of the ledger and the backlogs.");
    describe_counter!("memcloud_proxy_replication_lost_total", "Mutations that a peer will not get.");
    describe_counter!(
        "memcloud_proxy_replication_unknown_outcomes_total",
        "Writes whose answer never came: their items are read again."
    );
    describe_counter!(
        "memcloud_proxy_replication_payloads_dropped_total",
        "Values let go to keep the bound on the backlog: their items are read again."
    );
    describe_counter!(
        "memcloud_proxy_peer_strangers_total",
        "Connections on peer-listen that were no configured peer's, by why they ended."
    );
    describe_gauge!("memcloud_proxy_replication_inbound", "Whether the peer has a link to this proxy.");
    describe_counter!(
        "memcloud_proxy_replication_read_misses_total",
        "Items that were gone when they were to be read for the peer: sent as deletions."
    );
    describe_counter!("memcloud_proxy_peer_restarts_total", "How often the peer came back as a new process.");
    describe_gauge!("memcloud_proxy_replication_streaming", "Whether mutations flow to the peer.");
    describe_gauge!(
        "memcloud_proxy_replication_lag_seconds",
        "Age of the oldest mutation that the peer has not confirmed."
    );
    describe_gauge!("memcloud_proxy_replication_backlog_entries", "Mutations that wait for the peer.");
    describe_gauge!("memcloud_proxy_replication_backlog_bytes", "Memory of what waits for the peer.");
    describe_gauge!("memcloud_proxy_replication_unacknowledged", "Mutations sent and not confirmed yet.");
    describe_counter!(
        "memcloud_proxy_replication_mutations_total",
        "Mutations to and from the peer, by outcome."
    );
    describe_gauge!("memcloud_proxy_spill_keys", "Keys owed to the peer that are on disk.");
    describe_gauge!("memcloud_proxy_spill_bytes", "What the keys owed to the peer take on disk.");
    describe_counter!(
        "memcloud_proxy_spill_errors_total",
        "Lists of owed keys that lost a key: the peer is compared with instead."
    );
    describe_gauge!(
        "memcloud_proxy_resync_items",
        "Items done of the resync that is on, or of the last one."
    );
    describe_gauge!("memcloud_proxy_resync_items_expected", "About how many items that resync has.");
    describe_counter!("memcloud_proxy_resync_keys_total", "Keys that resyncs copied, repaired or dropped.");
    describe_counter!("memcloud_proxy_resyncs_broken_total", "Resyncs that broke off and were tried again.");
    describe_counter!("memcloud_proxy_resyncs_total", "Resyncs with the peer.");
    describe_counter!(
        "memcloud_proxy_links_stopped_total",
        "Links with the peer that ended or could not be made."
    );
    describe_counter!("memcloud_proxy_link_sent_bytes_total", "Bytes sent on links with the peer.");
    describe_counter!("memcloud_proxy_link_received_bytes_total", "Bytes received on links with the peer.");
}

/// A label value as it stands between quotation marks.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[allow(clippy::cast_precision_loss, reason = "exact up to 2^53, and Prometheus knows floats only")]
fn float(value: u64) -> f64 {
    value as f64
}

const REQUEST_DURATION: &str = "memcloud_proxy_request_duration_seconds";
const ACK_WAIT: &str = "memcloud_proxy_ack_wait_seconds";

#[cfg(test)]
mod tests;
