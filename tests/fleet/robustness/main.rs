//! What goes wrong around the sidecar stays where it went wrong: bounded memory, no effect on others, plain words.

#![allow(clippy::unwrap_used, reason = "a broken expectation of a test ends the test")]

mod apps;
mod ends;
mod requests;
mod upstream;

use std::time::Duration;

use memcloud_tests::process::Folder;
use memcloud_tests::sidecar::Settings;
use memcloud_tests::{Memcached, Sidecar};

/// A memcached and its sidecar.
struct Pair {
    sidecar: Sidecar,
    memcached: Memcached,
    folder: Folder,
}

fn pair(memcached: &[&str], flags: &[&str]) -> Pair {
    let folder = Folder::new();
    let memcached = Memcached::start("memcached", &folder, memcached);
    let sidecar = Sidecar::start(Settings::new("r", memcached.address()).with(flags), &folder);
    Pair { sidecar, memcached, folder }
}

const SOON: Duration = Duration::from_secs(10);
const MIB: u64 = 1024 * 1024;
