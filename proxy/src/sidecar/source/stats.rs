//! The main figures as `STAT` lines: what `stats memcloud` is answered with.

use std::fmt::{Display, Write as _};

use super::Source;
use crate::admin::{self, AdminSource, PeerState};

impl Source {
    /// The main figures as `STAT` lines.
    pub(in crate::sidecar) fn stats_memcloud(&self) -> String {
        let status = self.status();
        let mut text = String::new();
        let mut stat = |name: &str, value: &dyn Display| {
            let _ = write!(text, "STAT {name} {value}\r\n");
        };
        stat("site", &status.site);
        stat("version", &status.version);
        stat("in_sync", &u8::from(status.in_sync));
        stat("upstream_up", &u8::from(status.upstream.state == admin::UpstreamState::Up));
        stat("sessions", &status.sessions);
        stat("lost_unrepaired", &status.lost_unrepaired);
        for (number, peer) in status.peers.iter().enumerate() {
            stat(&format!("peer:{number}:site"), &peer.site.as_deref().unwrap_or("-"));
            stat(&format!("peer:{number}:state"), &word(peer.state));
            stat(&format!("peer:{number}:lag_ms"), &peer.lag_ms);
            stat(&format!("peer:{number}:backlog_entries"), &peer.backlog_entries);
            stat(&format!("peer:{number}:backlog_bytes"), &peer.backlog_bytes);
        }
        if let Some(shared) = &self.replication {
            let clock = shared.lock().latest().time();
            stat("clock", &format_args!("{clock:x}"));
        }
        text.push_str("END\r\n");
        text
    }
}

fn word(state: PeerState) -> &'static str {
    match state {
        PeerState::Connecting => "connecting",
        PeerState::Streaming => "streaming",
        PeerState::Resyncing => "resyncing",
        PeerState::Down => "down",
    }
}
