//! Knot DNS, a second implementation: it loads the master file of a zone, and is asked the same.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::ports;
use crate::process::{Folder, Process};
use crate::wait::eventually;

/// A running knotd.
#[derive(Debug)]
pub struct Knot {
    port: u16,
    process: Process,
}

impl Knot {
    /// One that serves this master file. Debian's package brings it.
    pub fn start(zone: &str, master_file: &str, folder: &Folder) -> Self {
        let port = ports::free();
        let own = folder.path().join("knot");
        fs::create_dir_all(&own).unwrap();
        let (file, conf) = (own.join("zone"), own.join("knot.conf"));
        fs::write(&file, master_file).unwrap();
        let (own, file) = (own.display(), file.display());
        let text = format!(
            "server:\n    rundir: {own}\n    listen: 127.0.0.1@{port}\ndatabase:\n    storage: {own}\n\
             log:\n  - target: stderr\n    any: warning\n\
             zone:\n  - domain: {zone}\n    file: {file}\n    semantic-checks: on\n    zonefile-sync: -1\n    \
             zonefile-load: whole\n    journal-content: none\n"
        );
        fs::write(&conf, text).unwrap();
        let mut command = Command::new("/usr/sbin/knotd");
        let process = Process::start("knot", folder, command.arg("-c").arg(conf));
        let knot = Self { port, process };
        eventually("knot has loaded the zone", Duration::from_secs(60), || {
            assert!(!knot.log().contains("error"), "{}", knot.log());
            knot.has(zone).then_some(())
        });
        knot
    }

    fn has(&self, zone: &str) -> bool {
        let port = self.port.to_string();
        let asked = Command::new("dig")
            .args(["@127.0.0.1", "-p", &port, "+short", "+tries=1", "+time=1", zone, "SOA"])
            .output()
            .expect("dig (bind9-dnsutils) runs");
        asked.status.success() && asked.stdout.ends_with(b"\n") && !asked.stdout.starts_with(b";")
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Warnings, and what is worse.
    pub fn log(&self) -> String {
        self.process.log()
    }
}
