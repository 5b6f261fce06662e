//! A configuration that is read again while the sidecar runs: what can change is handed to whom it concerns.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::watch;

use super::{bounds, configured, waiting_bytes_max};
use crate::config::{Config, Reload};
use crate::link::Links;
use crate::peers::PeerSet;
use crate::replication::Shared;

/// Who can be told other limits.
pub(super) struct Reloading {
    pub(super) config: Config,
    pub(super) peers: Arc<PeerSet>,
    pub(super) shared: Option<Arc<Shared>>,
    pub(super) links: Option<Arc<Links>>,
    pub(super) limits: Limits,
}

/// Limits that others read again and again.
#[derive(Clone)]
pub(super) struct Limits {
    pub(super) sessions_max: Arc<AtomicU64>,
    pub(super) waiting_bytes_max: Arc<AtomicUsize>,
}

impl Limits {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            sessions_max: Arc::new(AtomicU64::new(config.max_sessions as u64)),
            waiting_bytes_max: Arc::new(AtomicUsize::new(waiting_bytes_max(config))),
        }
    }
}

impl Reloading {
    /// Follows what is read until the proxy ends.
    pub(super) async fn follow(mut self, mut read: watch::Receiver<Config>) {
        while read.changed().await.is_ok() {
            let fresh = read.borrow_and_update().clone();
            self.take(&fresh);
        }
    }

    fn take(&mut self, fresh: &Config) {
        let Reload { now, changed, kept } = self.config.reload(fresh, self.links.is_some());
        if now.peers != self.config.peers
            && let Err(error) = self.peers.set(configured(&now))
        {
            tracing::error!(%error, "the peers stay as they are");
        }
        if let Some(shared) = &self.shared {
            shared.lock().set_bounds(bounds(&now));
        }
        if let Some(links) = &self.links {
            links.set_resync_rate(now.recovery.resync_rate);
        }
        self.limits.sessions_max.store(now.max_sessions as u64, Ordering::Relaxed);
        self.limits.waiting_bytes_max.store(waiting_bytes_max(&now), Ordering::Relaxed);
        if changed.is_empty() && kept.is_empty() {
            tracing::info!("the configuration was read again: nothing has changed");
        }
        if !changed.is_empty() {
            tracing::info!(
                changed = changed.join(", "),
                "the configuration was read again and holds from now on"
            );
        }
        if !kept.is_empty() {
            tracing::warn!(
                settings = kept.join(", "),
                "these settings keep their value: they change at the next start only"
            );
        }
        self.config = now;
    }
}
