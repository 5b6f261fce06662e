//! What the monitor finds out about memcached, told to replication: whether it takes versions as CAS.

use std::sync::Arc;

use tokio::sync::watch;

use crate::replication::Shared;
use crate::upstream::UpstreamState;

/// Follows the monitor for ever.
pub(super) async fn follow(mut upstream: watch::Receiver<UpstreamState>, shared: Arc<Shared>) {
    let mut shown = None;
    loop {
        let takes = {
            let state = upstream.borrow_and_update();
            let known = state.down.is_none() && state.asked;
            known.then(|| state.capability.explicit_cas.is_some())
        };
        shared.note_own_memcached(takes);
        let versioned = shared.is_versioned();
        if takes.is_some() && shown.replace(versioned) != Some(versioned) {
            let reason = shared.unversioned().map(|reason| reason.to_string());
            tracing::info!(versioned, reason, "whether versions are the CAS of items");
        }
        if upstream.changed().await.is_err() {
            return;
        }
    }
}
