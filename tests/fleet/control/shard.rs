//! A control with an app, and the shard that sites come to share.

use std::path::PathBuf;
use std::time::Duration;

use memcloud_tests::process::Folder;
use memcloud_tests::{Control, eventually};
use serde_json::json;

use crate::machine::Machine;

const ITEMS: u64 = 5_000;
pub(crate) const WITHIN: Duration = Duration::from_secs(60);
pub(crate) const APPID: u64 = 10_001;
pub(crate) const FLAGS: [&str; 4] = ["--ttl", "1", "--lease", "3"];

/// A control whose answers live a second and whose leases three, with an app of which a shard has two replicas.
pub(crate) fn control(folder: &Folder) -> Control {
    let control = Control::start(folder, &FLAGS);
    furnish(&control);
    control
}

pub(crate) fn furnish(control: &Control) {
    let quota = json!({ "shards": 2, "replicas_per_shard": 2, "memory_bytes": 1_u64 << 34 });
    let app =
        control.ok("POST", "/v1/apps", &json!({ "name": "shop", "quota": quota, "auto_publish": true }));
    assert_eq!(app["appid"], APPID);
}

pub(crate) fn in_sync(machines: &[&Machine]) {
    eventually("the shard is in sync", WITHIN, || {
        let is = |one: &&Machine| one.peers().len() == machines.len() - 1 && one.sidecar.in_sync();
        machines.iter().all(is).then_some(())
    });
}

pub(crate) fn shown(control: &Control, wanted: &[String]) {
    let mut wanted = wanted.to_vec();
    wanted.sort();
    let mut last = Vec::new();
    let seen = || {
        last = control.srv(APPID);
        (last == wanted).then_some(())
    };
    eventually(&format!("DNS has {wanted:?}"), WITHIN, seen);
}

/// A shard that two sites have come to share, and the items it holds.
pub(crate) struct Pair {
    pub(crate) folder: Folder,
    pub(crate) control: Control,
    pub(crate) token: PathBuf,
    pub(crate) a: Machine,
    pub(crate) b: Machine,
}

impl Pair {
    pub(crate) fn start() -> Self {
        let folder = Folder::new();
        let control = control(&folder);
        let token = control.token_file("token");
        let a = Machine::start("a", "m-a", Some("s0"), &control, &token, &folder);
        a.is("placed");
        let b = Machine::start("b", "m-b", Some("s0"), &control, &token, &folder);
        b.is("placed");
        fill(&a);
        in_sync(&[&a, &b]);
        Self { folder, control, token, a, b }
    }
}

pub(crate) fn fill(machine: &Machine) {
    machine.sidecar.client().set_items(ITEMS, 8).unwrap();
}
