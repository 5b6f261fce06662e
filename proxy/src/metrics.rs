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

mod described;
mod figures;
mod histogram;
mod memcached;
mod names;
mod process;
mod worker;

use metrics::{counter, gauge};
use metrics_exporter_prometheus::PrometheusBuilder;

pub use figures::{ControlFigures, Direction, FailoverFigures, Figures, PeerFigures, ReplicationFigures};
pub use memcached::{MemcachedStats, StatLines};
pub use names::{AckOutcome, CommandName, Refusal, UpstreamFault};
pub use worker::{Totals, WorkerCounters};

/// The text of a scrape.
pub fn render(figures: &Figures) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        described::describe();
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
    if let Some(control) = &figures.control {
        gauge!("memcloud_proxy_control_up").set(float(control.up.into()));
        gauge!("memcloud_proxy_control_placed").set(float(control.placed.into()));
        if let Some(heard_ms) = control.heard_ms {
            gauge!("memcloud_proxy_control_heard_timestamp_seconds").set(float(heard_ms) / 1e3);
        }
        for &(request, outcome, count) in &control.requests {
            counter!("memcloud_proxy_control_requests_total", "request" => request, "outcome" => outcome)
                .absolute(count);
        }
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
    counter!("memcloud_proxy_peer_listener_full_total").absolute(figures.listener_full);
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
    gauge!("memcloud_proxy_resyncs_asking", "peer" => peer()).set(figures.resyncs_asking as f64);
    counter!("memcloud_proxy_resyncs_turned_away_total", "peer" => peer())
        .absolute(figures.resyncs_turned_away);
    counter!("memcloud_proxy_replication_read_misses_total", "peer" => peer()).absolute(figures.read_misses);
    counter!("memcloud_proxy_peer_restarts_total", "peer" => peer()).absolute(figures.restarts);
    for &(reason, count) in &figures.links_stopped {
        counter!("memcloud_proxy_links_stopped_total", "peer" => peer(), "reason" => reason).absolute(count);
    }
    counter!("memcloud_proxy_link_sent_bytes_total", "peer" => peer()).absolute(figures.sent_bytes);
    counter!("memcloud_proxy_link_received_bytes_total", "peer" => peer()).absolute(figures.received_bytes);
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
