//! The sidecar under test: the real binary, built by cargo beside this test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::client::Client;
use crate::process::{Folder, Process};
use crate::program::Program;
use crate::wait::eventually;
use crate::{http, ports};

/// Where a sidecar listens and what it is told: all that is needed to start it, and to start it again.
#[derive(Clone, Debug)]
pub struct Settings {
    pub site: String,
    pub listen: String,
    pub admin: String,
    pub upstream: String,
    pub peer_listen: Option<String>,
    pub peers: Vec<String>,
    pub extra: Vec<String>,
    /// Besides what this test was started with.
    pub environment: Vec<(String, String)>,
    /// A folder that is a disk of its own, of so many bytes, empty at each start.
    pub small_disk: Option<(PathBuf, u64)>,
}

impl Settings {
    /// In front of `upstream`, on free ports, without peers.
    pub fn new(site: &str, upstream: &str) -> Self {
        Self {
            site: site.to_owned(),
            listen: ports::free_address(),
            admin: ports::free_address(),
            upstream: upstream.to_owned(),
            peer_listen: None,
            peers: Vec::new(),
            extra: Vec::new(),
            environment: Vec::new(),
            small_disk: None,
        }
    }

    #[must_use]
    pub fn with(mut self, extra: &[&str]) -> Self {
        self.extra.extend(extra.iter().map(|&arg| arg.to_owned()));
        self
    }

    /// The flags of `memcloud-proxy`, by the contract.
    pub fn args(&self) -> Vec<String> {
        let mut args = vec!["sidecar".to_owned()];
        let mut flag = |name: &str, value: &str| args.extend([name.to_owned(), value.to_owned()]);
        flag("--listen", &self.listen);
        flag("--upstream", &self.upstream);
        flag("--site", &self.site);
        flag("--admin", &self.admin);
        if let Some(address) = &self.peer_listen {
            flag("--peer-listen", address);
        }
        for peer in &self.peers {
            flag("--peer", peer);
        }
        args.extend(self.extra.iter().cloned());
        args
    }
}

/// A running sidecar.
#[derive(Debug)]
pub struct Sidecar {
    settings: Settings,
    folder: Folder,
    process: Process,
}

impl Sidecar {
    /// Starts it and waits until it is ready.
    pub fn start(settings: Settings, folder: &Folder) -> Self {
        let mut sidecar = Self::launch(settings, folder);
        sidecar.wait_until_ready();
        sidecar
    }

    /// Starts it and waits for nothing.
    pub fn launch(settings: Settings, folder: &Folder) -> Self {
        let process = start(&settings, folder);
        Self { settings, folder: folder.clone(), process }
    }

    /// Starts it again after its end, with the same settings, and waits for nothing.
    pub fn relaunch(&mut self) {
        self.process.kill();
        self.process = start(&self.settings, &self.folder);
    }

    /// Waits until `/ready` says so and apps can connect.
    pub fn wait_until_ready(&mut self) {
        let what = format!("sidecar {} is ready", self.settings.site);
        eventually(&what, Duration::from_secs(20), || {
            if let Some(status) = self.process.ended() {
                panic!("sidecar {} ended with {status}: {}", self.settings.site, self.process.log());
            }
            let ready = matches!(http::get(&self.settings.admin, "/ready"), Ok((200, _)));
            (ready && Client::connect(&self.settings.listen).is_ok()).then_some(())
        });
    }

    /// Waits until apps can connect, whether the site is ready or not.
    pub fn wait_until_listening(&self) {
        eventually(&format!("sidecar {} listens", self.settings.site), Duration::from_secs(20), || {
            Client::connect(&self.settings.listen).ok().map(|_| ())
        });
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where apps connect.
    pub fn address(&self) -> &str {
        &self.settings.listen
    }

    pub fn client(&self) -> Client {
        Client::to(&self.settings.listen)
    }

    pub fn process(&self) -> &Process {
        &self.process
    }

    pub fn process_mut(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Ends it at once and starts it again with the same settings.
    pub fn restart(&mut self) {
        self.process.kill();
        let next = Self::start(self.settings.clone(), &self.folder);
        self.process = next.process;
    }

    /// `/status`, or `Null` while it cannot be had.
    pub fn status(&self) -> Value {
        let answer = http::get(&self.settings.admin, "/status");
        answer.ok().and_then(|(_, body)| serde_json::from_str(&body).ok()).unwrap_or_default()
    }

    pub fn in_sync(&self) -> bool {
        self.status()["in_sync"].as_bool().unwrap_or(false)
    }

    /// The Prometheus text.
    pub fn metrics(&self) -> String {
        http::get(&self.settings.admin, "/metrics").map(|(_, body)| body).unwrap_or_default()
    }

    /// The sum of a metric's samples that carry all `labels`.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        http::metric(&self.metrics(), name, labels)
    }
}

fn start(settings: &Settings, folder: &Folder) -> Process {
    let mut command = match &settings.small_disk {
        None => Command::new(PROXY.path()),
        Some((folder, bytes)) => beside_small_disk(folder, *bytes),
    };
    command.args(settings.args()).envs(settings.environment.iter().cloned());
    Process::start(&format!("sidecar-{}", settings.site), folder, &mut command)
}

/// The binary, in a mount namespace of its own. Its process id is that of the command.
fn beside_small_disk(folder: &Path, bytes: u64) -> Command {
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "--map-root-user",
        "sh",
        "-c",
        r#"mount -t tmpfs -o "size=$1" none "$0" && shift && exec "$@""#,
    ]);
    command.arg(folder).arg(bytes.to_string()).arg(PROXY.path());
    command
}

/// The binary.
pub fn binary() -> &'static Path {
    PROXY.path()
}

static PROXY: Program =
    Program::new("memcloud-proxy", "MEMCLOUD_PROXY", &["proxy/src", "protocol/src", "tls/src"]);
