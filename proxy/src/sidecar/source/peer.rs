//! One peer as `/status` shows it: how its links are, what it misses, and in a sentence why the two are not in sync.

use crate::admin::{InboundState, PeerState, PeerStatus, ResyncStatus};
use crate::link::{LinkState, PeerLink};
use crate::replication::{self, Gap, Loss};

pub(super) fn peer_status((link, status): &(PeerLink, replication::PeerStatus)) -> PeerStatus {
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
pub(super) fn reason(link: &PeerLink, status: &replication::PeerStatus) -> Option<String> {
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
    if link.clocks_apart {
        reasons.push("the clocks of the two are too far apart to compare".to_owned());
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
