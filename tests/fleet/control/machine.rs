//! A machine of a test: memcached and proxy, and what can be seen of them from outside.

use std::path::Path;

use memcloud_tests::process::Folder;
use memcloud_tests::sidecar::{Settings, Sidecar};
use memcloud_tests::{Control, Memcached, eventually, ports};
use serde_json::Value;

use crate::shard::WITHIN;

/// A machine: memcached and proxy.
pub(crate) struct Machine {
    pub(crate) memcached: Memcached,
    pub(crate) sidecar: Sidecar,
}

impl Machine {
    /// On a machine of its own name, asking for a place in `shard`, or waiting in the pool.
    pub(crate) fn start(
        site: &str,
        machine: &str,
        shard: Option<&str>,
        control: &Control,
        token: &Path,
        folder: &Folder,
    ) -> Self {
        Self::start_by(site, machine, shard, &control.url(), token, folder)
    }

    /// The same by these addresses of control.
    pub(crate) fn start_by(
        site: &str,
        machine: &str,
        shard: Option<&str>,
        url: &str,
        token: &Path,
        folder: &Folder,
    ) -> Self {
        let memcached = Memcached::start(&format!("memcached-{machine}"), folder, &["-m", "256"]);
        let flags = ["--control", url, "--token-file", token.to_str().unwrap(), "--machine", machine];
        let mut settings = Settings::new(site, memcached.address()).with(&flags);
        let lists = folder.path().join(format!("lists-{machine}"));
        settings = settings.with(&["--backlog-dir", lists.to_str().unwrap()]);
        if let Some(shard) = shard {
            settings = settings.with(&["--app", "10001", "--shard", shard]);
        }
        settings.peer_listen = Some(ports::free_address());
        let mut sidecar = Sidecar::launch(settings, folder);
        sidecar.wait_until_listening();
        assert!(sidecar.process_mut().ended().is_none());
        Self { memcached, sidecar }
    }

    pub(crate) fn kill(&mut self) {
        self.sidecar.process_mut().kill();
        self.memcached.kill();
    }

    pub(crate) fn control(&self) -> Value {
        self.sidecar.status()["control"].clone()
    }

    pub(crate) fn is(&self, state: &str) {
        eventually(&format!("it is {state}: {}", self.sidecar.settings().site), WITHIN, || {
            (self.control()["state"] == state && self.control()["up"] == true).then_some(())
        });
    }

    pub(crate) fn says(&self, reason: &str) {
        eventually(reason, WITHIN, || {
            self.control()["reason"].as_str().is_some_and(|says| says.contains(reason)).then_some(())
        });
    }

    pub(crate) fn peers(&self) -> Vec<String> {
        let status = self.sidecar.status();
        let peers = status["peers"].as_array().cloned().unwrap_or_default();
        peers.iter().filter_map(|peer| peer["site"].as_str().map(str::to_owned)).collect()
    }

    /// The target and port that DNS has for it.
    pub(crate) fn srv(&self, priority: u16) -> String {
        let Settings { listen, site, .. } = self.sidecar.settings();
        let port = listen.rsplit_once(':').unwrap().1;
        format!("{priority} 100 {port} {site}.s0.10001.memcloud.internal.")
    }

    pub(crate) fn set(&self, key: &str, value: &str) {
        assert_eq!(self.sidecar.client().set(key, value.as_bytes()).unwrap(), "STORED");
    }

    pub(crate) fn gets(&self, key: &str, value: &str) {
        eventually(&format!("{key} at {}", self.sidecar.settings().site), WITHIN, || {
            (self.memcached.client().get(key).unwrap().as_deref() == Some(value.as_bytes())).then_some(())
        });
    }
}
