//! What metrics show of one peer, and of the lists on disk: each figure under the name of its label.

use crate::link::{LinkState, LinkStopped, PeerLink};
use crate::metrics::{Direction, PeerFigures};
use crate::replication;
use crate::spill::{Reason, Spill};

pub(super) fn peer_figures((link, status): &(PeerLink, replication::PeerStatus)) -> PeerFigures {
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
        resyncs_asking: link.resync.asking,
        resyncs_turned_away: link.resync.turned_away,
        read_misses: link.counters.read_misses,
        restarts: status.restarts,
        links_stopped: LinkStopped::LABELS.into_iter().zip(link.counters.stopped).collect(),
        sent_bytes: link.counters.sent_bytes,
        received_bytes: link.counters.received_bytes,
    }
}

pub(super) fn spill_losses(spill: &Spill) -> Vec<(&'static str, u64)> {
    Reason::ALL.iter().map(|reason| reason.as_str()).zip(spill.losses()).collect()
}
