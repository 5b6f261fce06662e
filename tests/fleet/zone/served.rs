//! What is served: a control with apps, and a forwarder before it.

use std::process::Command;
use std::time::Duration;

use memcloud_tests::process::{Folder, Process};
use memcloud_tests::random::Rng;
use memcloud_tests::registry::{Member, Shards, import};
use memcloud_tests::{Control, eventually, ports};
use serde_json::json;

use crate::messages::{Question, dig};

pub(crate) const ZONE: &str = "memcloud.internal";

/// A control with these apps, whose first replicas, so many, are up.
pub(crate) fn furnished(folder: &Folder, apps: Vec<Shards>, up: usize) -> Control {
    let control = Control::start(folder, &["--ttl", "60", "--lease", "3600"]);
    import(&control, folder, apps);
    let beat = json!({ "ready": true, "in_sync": true, "upstream_up": true });
    for id in 1..=up {
        control.ok("POST", &format!("/v1/replicas/{id}/heartbeat"), &beat);
    }
    // Each stands twice: among its app's replicas, and among its shard's.
    let is_up = |line: &&str| line.contains(" SRV 0 ") || line.contains(" SRV 10 ");
    eventually("they are up", Duration::from_secs(30), || {
        (control.zone().lines().filter(is_up).count() >= 2 * up).then_some(())
    });
    control
}

pub(crate) fn member(site: &str, host: &str, is_standby: bool, weight: u16) -> Member {
    Member { site: site.into(), host: host.into(), is_standby, weight }
}

pub(crate) fn pair() -> Shards {
    vec![
        vec![member("a", "10.0.0.1", false, 100), member("b", "10.0.0.2", true, 100)],
        vec![member("a", "fd00::1", false, 100), member("b", "cache.example.org", false, 50)],
    ]
}

/// So many replicas, in shards of so many.
pub(crate) fn many(count: usize, in_a_shard: usize) -> Shards {
    let one =
        |at: usize| member(&format!("site-{at}"), &format!("10.1.{}.{}", at / 256, at % 256), false, 100);
    let all: Vec<Member> = (0..count).map(one).collect();
    all.chunks(in_a_shard).map(<[Member]>::to_vec).collect()
}

/// One to four shards of one to nine replicas, at addresses of both kinds and at names, some of them the same.
pub(crate) fn mixed(rng: &mut Rng) -> Shards {
    let shards = rng.between(1, 4);
    (0..shards).map(|_| (0..rng.between(1, 9)).map(|at| drawn(rng, at)).collect()).collect()
}

fn drawn(rng: &mut Rng, at: u64) -> Member {
    let host = match rng.below(10) {
        0 => format!("Cache-{}.example.org", rng.below(3)),
        1..4 => format!("fd00::{:x}", rng.between(1, 0xffff)),
        _ => format!("10.2.{}.{}", rng.below(256), rng.below(256)),
    };
    member(&format!("site-{at}"), &host, rng.chance(30), if rng.chance(80) { 100 } else { 7 })
}

/// dnsmasq, which knows nothing but to ask control.
#[derive(Debug)]
pub(crate) struct Forwarder {
    port: u16,
    _process: Process,
}

impl Forwarder {
    pub(crate) fn start(dns: u16, folder: &Folder) -> Self {
        let port = ports::free();
        let mut command = Command::new("/usr/sbin/dnsmasq");
        command.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--pid-file",
            "--user=root",
            "--no-resolv",
        ]);
        command.args(["--no-hosts", "--log-facility=-", "--bind-interfaces", "--listen-address=127.0.0.1"]);
        command.arg(format!("--port={port}")).arg(format!("--server=/{ZONE}/127.0.0.1#{dns}"));
        let process = Process::start("dnsmasq", folder, &mut command);
        let question = [Question::new(ZONE, "SOA", "+tcp +tries=1")];
        eventually("dnsmasq forwards", Duration::from_secs(30), || {
            let is_up = std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
            (is_up && dig(port, &question, folder)[0].code == "NOERROR").then_some(())
        });
        Self { port, _process: process }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}
