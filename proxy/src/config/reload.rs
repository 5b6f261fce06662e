//! A configuration that is read again while the proxy runs: what of it can change, and what cannot.

use serde_json::Value;

use super::{Config, Recovery};

/// What becomes of a configuration when another one is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reload {
    /// What holds from now on.
    pub now: Config,
    /// Settings that have changed.
    pub changed: Vec<String>,
    /// Settings that are another in the file, and keep their value until the next start.
    pub kept: Vec<String>,
}

impl Config {
    /// What of `fresh` can take effect: peers (where there can be any), limits, and the level of the log.
    #[must_use]
    pub fn reload(&self, fresh: &Self, has_links: bool) -> Reload {
        let recovery = Recovery { resync_rate: fresh.recovery.resync_rate, ..self.recovery.clone() };
        let now = Self {
            // With control both are empty.
            peers: if has_links && self.control.is_none() { fresh.peers.clone() } else { self.peers.clone() },
            log_level: fresh.log_level.clone(),
            backlog_bytes: fresh.backlog_bytes,
            max_clock_skew: fresh.max_clock_skew,
            max_sessions: fresh.max_sessions,
            session_buffer_bytes: fresh.session_buffer_bytes,
            recovery,
            ..self.clone()
        };
        Reload { changed: self.differs_in(&now), kept: now.differs_in(fresh), now }
    }

    /// The settings in which two configurations differ.
    fn differs_in(&self, other: &Self) -> Vec<String> {
        let (Ok(Value::Object(ours)), Ok(Value::Object(theirs))) =
            (serde_json::to_value(self.settings()), serde_json::to_value(other.settings()))
        else {
            return Vec::new();
        };
        let names = ours.keys().chain(theirs.keys().filter(|name| !ours.contains_key(*name)));
        names.filter(|name| ours.get(*name) != theirs.get(*name)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Settings};

    fn read(text: &str) -> Config {
        Config::from_layers(Settings::default(), Some(("file", text))).unwrap()
    }

    #[test]
    fn peers_limits_and_the_level_of_the_log_change_and_nothing_else() {
        let old = read("site: a\npeer_listen: 127.0.0.1:7\n");
        let fresh = read(
            "site: b\npeer_listen: 127.0.0.1:8\npeer: h:1\nlog_level: debug\nbacklog_bytes: 1MiB\nmax_sessions: 7\n\
             session_buffer_bytes: 1MiB\nmax_clock_skew: 1s\nresync_rate: 2MiB\nack_timeout: 2s\nbacklog_dir: /x\n",
        );
        let reload = old.reload(&fresh, true);
        let mut changed = reload.changed.clone();
        changed.sort();
        let expected = [
            "backlog_bytes",
            "log_level",
            "max_clock_skew",
            "max_sessions",
            "peer",
            "resync_rate",
            "session_buffer_bytes",
        ];
        assert_eq!(changed, expected);
        let mut kept = reload.kept.clone();
        kept.sort();
        assert_eq!(kept, ["ack_timeout", "backlog_dir", "peer_listen", "site"]);
        assert_eq!((reload.now.site.as_str(), reload.now.max_sessions), ("a", 7));
        // Again: what holds by now is no news, what is kept is said again.
        let again = reload.now.reload(&fresh, true);
        assert_eq!((again.changed, again.kept), (vec![], reload.kept));
    }

    #[test]
    fn who_was_started_without_links_gets_none() {
        let old = read("site: a\n");
        let reload = old.reload(&read("site: a\npeer: h:1\n"), false);
        assert_eq!((reload.changed, reload.kept), (vec![], vec!["peer".to_owned()]));
        assert_eq!(reload.now, old);
    }
}
