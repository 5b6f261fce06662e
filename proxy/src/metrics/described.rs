//! What each metric means, in the words that a scrape says beside it.

use metrics::{describe_counter, describe_gauge};

/// Tells the recorder of this scrape.
pub(super) fn describe() {
    for (name, says) in GAUGES {
        describe_gauge!(*name, *says);
    }
    for (name, says) in COUNTERS {
        describe_counter!(*name, *says);
    }
}

const GAUGES: &[(&str, &str)] = &[
    ("memcloud_proxy_info", "Always 1; its labels say which proxy this is."),
    ("memcloud_proxy_sessions", "App connections open now."),
    ("memcloud_proxy_tunnelled_sessions", "Those of the open sessions that peers opened for their apps."),
    ("memcloud_proxy_upstream_up", "Whether memcached is connected and answers."),
    ("memcloud_proxy_fills_in_flight", "Keys that a peer is being asked for."),
    ("memcloud_proxy_control_up", "Whether control knows this replica and has answered the last request."),
    ("memcloud_proxy_control_placed", "Whether control has given this replica a place in a shard."),
    ("memcloud_proxy_control_heard_timestamp_seconds", "When control has answered last."),
    ("memcloud_proxy_failover_active", "Whether a peer serves the apps of this site."),
    ("memcloud_proxy_in_sync", "Whether this proxy and all its peers have the same, as far as it knows."),
    ("memcloud_proxy_versioned", "Whether the CAS of items is their version, on all sites."),
    ("memcloud_proxy_ledger_entries", "Keys whose newest version is remembered."),
    ("memcloud_proxy_ledger_bytes", "Memory of the ledger and the backlogs."),
    ("memcloud_proxy_replication_inbound", "Whether the peer has a link to this proxy."),
    ("memcloud_proxy_replication_streaming", "Whether mutations flow to the peer."),
    ("memcloud_proxy_replication_lag_seconds", "Age of the oldest mutation that the peer has not confirmed."),
    ("memcloud_proxy_replication_backlog_entries", "Mutations that wait for the peer."),
    ("memcloud_proxy_replication_backlog_bytes", "Memory of what waits for the peer."),
    ("memcloud_proxy_replication_unacknowledged", "Mutations sent and not confirmed yet."),
    ("memcloud_proxy_spill_keys", "Keys owed to the peer that are on disk."),
    ("memcloud_proxy_spill_bytes", "What the keys owed to the peer take on disk."),
    ("memcloud_proxy_resync_items", "Items done of the resync that is on, or of the last one."),
    ("memcloud_proxy_resync_items_expected", "About how many items that resync has."),
    ("memcloud_proxy_resyncs_asking", "Connections on which the peer asks for states now."),
];

const COUNTERS: &[(&str, &str)] = &[
    ("memcloud_proxy_requests_total", "Requests answered."),
    ("memcloud_proxy_received_bytes_total", "Bytes received from apps."),
    ("memcloud_proxy_sent_bytes_total", "Bytes sent to apps."),
    ("memcloud_proxy_sessions_opened_total", "App connections accepted."),
    ("memcloud_proxy_tunnelled_sessions_opened_total", "Sessions accepted from peers."),
    ("memcloud_proxy_sessions_refused_total", "App connections turned away."),
    ("memcloud_proxy_slow_readers_closed_total", "Sessions closed because answers were not read."),
    ("memcloud_proxy_upstream_errors_total", "Connections to memcached that failed."),
    ("memcloud_proxy_gate_waits_total", "Writes that waited for another write of their key."),
    ("memcloud_proxy_fills_total", "Misses that a peer was to fill, with --miss peer."),
    ("memcloud_proxy_acks_total", "Writes that waited for peers, with --ack peer, by how that ended."),
    ("memcloud_proxy_control_requests_total", "Requests to control, by kind and outcome."),
    ("memcloud_proxy_failovers_total", "How often a peer has taken over."),
    ("memcloud_proxy_failover_requests_total", "Requests of apps answered by a peer."),
    ("memcloud_proxy_replication_lost_total", "Mutations that a peer will not get."),
    (
        "memcloud_proxy_replication_unknown_outcomes_total",
        "Writes whose answer never came: their keys are deleted here and at every peer.",
    ),
    (
        "memcloud_proxy_replication_payloads_dropped_total",
        "Values let go to keep the bound on the backlog: their items are read again.",
    ),
    (
        "memcloud_proxy_peer_strangers_total",
        "Connections on peer-listen that were no configured peer's, by why they ended.",
    ),
    (
        "memcloud_proxy_peer_listener_full_total",
        "How often peers had to wait because all 256 connections on peer-listen were taken.",
    ),
    (
        "memcloud_proxy_replication_read_misses_total",
        "Items that were gone when they were to be read for the peer: sent as deletions.",
    ),
    ("memcloud_proxy_peer_restarts_total", "How often the peer came back as a new process."),
    ("memcloud_proxy_replication_mutations_total", "Mutations to and from the peer, by outcome."),
    (
        "memcloud_proxy_spill_errors_total",
        "Lists of owed keys that lost a key: the peer is compared with instead.",
    ),
    ("memcloud_proxy_resync_keys_total", "Keys that resyncs copied, repaired or dropped."),
    ("memcloud_proxy_resyncs_broken_total", "Resyncs that broke off and were tried again."),
    (
        "memcloud_proxy_resyncs_turned_away_total",
        "Connections for resyncs that the peer was refused because it had too many.",
    ),
    ("memcloud_proxy_resyncs_total", "Resyncs with the peer."),
    ("memcloud_proxy_links_stopped_total", "Links with the peer that ended or could not be made."),
    ("memcloud_proxy_link_sent_bytes_total", "Bytes sent on links with the peer."),
    ("memcloud_proxy_link_received_bytes_total", "Bytes received on links with the peer."),
];
