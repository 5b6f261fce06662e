//! The agent that speaks with control: made before the rest is told apart from it, started when there is somebody to follow.

use std::sync::Arc;

use memcloud_protocol::registration::Place;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::source::Source;
use crate::agent::{Addresses, Agent, Memory, Shown};
use crate::config::{Config, Control};
use crate::peers::{PeerSet, Vital};
use crate::replication::wall_clock_ms;

/// What `/status` follows already.
pub(super) struct Prepared {
    control: Control,
    shown: watch::Sender<Shown>,
}

/// With control, and a folder: the place where this replica was when it ended, and a configuration that has its peers.
pub(super) fn recall(config: Config) -> (Config, Option<Place>) {
    let place = memory(&config).and_then(|memory| memory.recall());
    let Some(place) = place else { return (config, None) };
    let peers: Vec<String> = place.peers.iter().map(|peer| peer.peer_address.to_string()).collect();
    tracing::info!(appid = %place.appid, shard = %place.shard, peers = peers.join(", "), "the last place is remembered");
    (Config { peers, ..config }, Some(place))
}

fn memory(config: &Config) -> Option<Memory> {
    let (control, dir) = (config.control.as_ref()?, config.recovery.backlog_dir.as_ref()?);
    Some(Memory::new(dir, &control.identity))
}

/// Nothing without `--control`.
pub(super) fn prepare(config: &Config, source: &mut Source) -> Option<Prepared> {
    let control = config.control.clone()?;
    let url = control.endpoints.first().map(ToString::to_string).unwrap_or_default();
    let (shown, follow) = watch::channel(Shown { url, ..Shown::default() });
    source.shows_control(follow);
    Some(Prepared { control, shown })
}

impl Prepared {
    /// Speaks with control until `stop`, and a moment longer to say so.
    pub(super) fn start(
        self,
        config: &Config,
        recalled: Option<Place>,
        peers: &Arc<PeerSet>,
        source: &Arc<Source>,
        stop: &CancellationToken,
    ) -> JoinHandle<()> {
        let agent = Agent {
            control: self.control,
            site: config.site.clone(),
            memory: memory(config),
            recalled,
            addresses: Addresses { listen: config.listen.clone(), peer_listen: config.peer_listen.clone() },
            peers: Arc::clone(peers),
            vital: Arc::clone(source) as Arc<dyn Vital>,
            shown: self.shown,
            clock: wall_clock_ms,
        };
        tokio::spawn(agent.run(stop.clone()))
    }
}
