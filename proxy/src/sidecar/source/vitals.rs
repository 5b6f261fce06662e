//! How this replica is, in a few figures: what it tells control.

use std::pin::Pin;

use tokio::time::timeout;

use super::Source;
use crate::admin::{AdminSource, PeerState, PeerStatus, Status};
use crate::metrics::MemcachedStats;
use crate::peers::{Glance, Memcached, Vital, Vitals};
use crate::replication::PeerId;

impl Vital for Source {
    fn glance(&self) -> Glance {
        let mut whole_with = self.whole_with();
        whole_with.sort();
        Glance { ready: self.ready().is_ok(), upstream_up: self.upstream.borrow().down.is_none(), whole_with }
    }

    fn vitals(&self) -> Pin<Box<dyn Future<Output = Vitals> + Send + '_>> {
        Box::pin(async {
            let memcached = timeout(self.upstream_timeout, self.memcached_stats()).await;
            let memcached = memcached.ok().and_then(Result::ok);
            let Status { peers, in_sync, warming, lost_unrepaired, sessions, .. } = self.status();
            let streams =
                |peer: &&PeerStatus| matches!(peer.state, PeerState::Streaming | PeerState::Resyncing);
            Vitals {
                glance: self.glance(),
                in_sync,
                warming,
                streaming: peers.iter().filter(streams).filter_map(|peer| peer.site.clone()).collect(),
                lag_ms: peers.iter().map(|peer| peer.lag_ms).max().unwrap_or_default(),
                backlog_entries: peers.iter().map(|peer| peer.backlog_entries).sum(),
                backlog_bytes: peers.iter().map(|peer| peer.backlog_bytes).sum(),
                lost_unrepaired,
                sessions,
                memcached: memcached.as_ref().map(memcached_vitals),
            }
        })
    }
}

impl Source {
    /// The sites with which nothing is missing on either side.
    fn whole_with(&self) -> Vec<String> {
        let (Some(shared), Some(links)) = (&self.replication, &self.links) else { return Vec::new() };
        let links = links.peers();
        let replica = shared.lock();
        links
            .into_iter()
            .filter(|link| replica.whole_with(PeerId(link.id)))
            .filter_map(|link| link.site)
            .collect()
    }
}

fn memcached_vitals(stats: &MemcachedStats) -> Memcached {
    let text = |name| stats.general.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let number = |name| text(name).and_then(|value| value.parse().ok()).unwrap_or_default();
    Memcached {
        version: text("version").unwrap_or_default().to_owned(),
        items: number("curr_items"),
        bytes: number("bytes"),
        bytes_max: number("limit_maxbytes"),
    }
}
