//! A private PostgreSQL: its own folder, a free port on loopback, nothing shared with one that may be installed as a service.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::ports;
use crate::process::{Folder, Process};
use crate::wait::eventually;

const WITHIN: Duration = Duration::from_secs(60);

/// A server that ends with this value; its data live as long as the folder.
#[derive(Debug)]
pub struct Postgres {
    process: Option<Process>,
    folder: Folder,
    port: u16,
}

impl Postgres {
    /// Makes a cluster and starts it. `tests/setup` installs the programs.
    ///
    /// # Panics
    /// They are missing, or do not start.
    pub fn start() -> Self {
        let folder = Folder::new();
        let data = folder.path().join("data");
        fs::create_dir(&data).unwrap();
        // The server refuses to run as root, and its user has to reach the folder.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(&data));
        }
        let mut command = unprivileged(&programs().join("initdb"));
        command
            .args(["--no-sync", "--auth=trust", "--username=memcloud", "--encoding=UTF8", "--pgdata"])
            .arg(&data);
        run(command.current_dir("/"));
        let mut server = Self { process: None, folder, port: ports::free() };
        server.restart();
        server
    }

    /// Where a client finds it.
    pub fn url(&self) -> String {
        format!("postgres://memcloud@127.0.0.1:{}/postgres", self.port)
    }

    /// Ends it as its operator would who has no time: connections are cut, what is committed stays.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal(Signal::INT);
            process.wait(WITHIN);
        }
    }

    /// Starts it again, on the same port.
    pub fn restart(&mut self) {
        self.stop();
        let mut command = unprivileged(&programs().join("postgres"));
        let port = self.port.to_string();
        command.args([
            "-p",
            &port,
            "-h",
            "127.0.0.1",
            "-c",
            "unix_socket_directories=",
            "-c",
            "fsync=off",
            "-D",
        ]);
        command.arg(self.folder.path().join("data")).current_dir("/");
        self.process = Some(Process::start("postgres", &self.folder, &mut command));
        eventually("PostgreSQL answers", WITHIN, || self.is_ready().then_some(()));
    }

    fn is_ready(&self) -> bool {
        let port = self.port.to_string();
        let mut asked = Command::new(programs().join("pg_isready"));
        asked.args(["-q", "-h", "127.0.0.1", "-p", &port]).status().is_ok_and(|status| status.success())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        process.signal(Signal::QUIT);
        // A client that is just connecting, in the thread that waits here, would be waited for: in vain.
        let patience = Instant::now() + Duration::from_secs(2);
        while process.ended().is_none() && Instant::now() < patience {
            thread::sleep(Duration::from_millis(20));
        }
        process.kill();
    }
}

/// Debian keeps them apart by version, outside the path.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL: tests/setup installs it");
    let newest = versions
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|path| path.join("initdb").exists());
    newest.max().expect("PostgreSQL's programs: tests/setup installs them")
}

fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

fn unprivileged(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]).arg(program);
    command
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
