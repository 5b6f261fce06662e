//! The lists behind `--backlog-dir`: taken into use at the start, and left in order at the end.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::config::Config;
use crate::replication::{Left, PeerId, Shared, wall_clock_ms};
use crate::spill::{Spill, SpillConfig, SpillError};

/// Opens the lists and has the replica use them. Nothing without a folder, or where there can be no peers.
pub(super) fn open(config: &Config, shared: Option<&Arc<Shared>>) -> Result<Option<Arc<Spill>>, SpillError> {
    let (Some(dir), Some(shared)) = (&config.recovery.backlog_dir, shared) else { return Ok(None) };
    let spill = Spill::open(&SpillConfig {
        dir: dir.clone(),
        bytes_max: config.recovery.backlog_dir_bytes,
        // A whole backlog may have to wait for the disk.
        waiting_bytes_max: config.backlog_bytes.max(WAITING_BYTES_MIN),
        site: config.site.clone(),
        peers: config.peers.clone(),
    })?;
    let left: Vec<Left> = (0..config.peers.len()).map(|peer| left(&spill, PeerId(peer))).collect();
    for (peer, left) in config.peers.iter().zip(&left).filter(|(_, left)| left.keys > 0) {
        tracing::info!(
            peer.addr = peer,
            keys = left.keys,
            whole = left.whole,
            "keys are owed from the last run"
        );
    }
    shared.keep_lists(spill.clone(), &left, spill.stopped_ms().unwrap_or_else(wall_clock_ms));
    Ok(Some(spill))
}

fn left(spill: &Spill, peer: PeerId) -> Left {
    let state = spill.state(peer);
    Left { keys: state.keys, whole: state.whole }
}

/// Lists what the peers do not have, and notes that this run ended in order. It did not, for the next one, if apps
/// were cut off: what they wrote last may still come.
pub(super) async fn close(spill: Arc<Spill>, shared: &Shared, orderly: bool) {
    shared.list_rest(|peer, all| {
        if !(all && orderly) {
            spill.doubt(peer);
        }
    });
    let closed = tokio::task::spawn_blocking(move || spill.close(wall_clock_ms()));
    if timeout(CLOSE_WITHIN, closed).await.is_err() {
        tracing::warn!(
            "the lists of owed keys could not be closed in time: the next run will compare with its peers"
        );
    }
}

/// Half a million keys: ten seconds of a busy site, should the disk stand still as long.
const WAITING_BYTES_MIN: u64 = 64 << 20;
/// Some million keys on an ordinary disk; a disk that hangs must not keep the process for ever.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);
