//! What the zone costs, in figures: `make figures` prints them, built for release. They are measured and not judged.
//!
//! `MEMCLOUD_FIGURES_APPS` scales them down.

#![allow(clippy::unwrap_used, reason = "a broken expectation of a test ends the test")]

use std::fmt::Write;
use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use memcloud_tests::process::Folder;
use memcloud_tests::registry::{FIRST_APP, Member, Shards, import};
use memcloud_tests::{Control, Knot, Rng};
use serde_json::json;

const ZONE: &str = "memcloud.internal";
const ROUNDS: usize = 5;

/// Lookups of 10,000 apps, beside Knot DNS with the same zone on the same machine, in turns.
#[test]
#[ignore = "a measurement: make figures"]
fn srv_lookups_beside_knot() {
    let apps = number("MEMCLOUD_FIGURES_APPS", 10_000);
    let folder = Folder::new();
    let control = Control::start(&folder, &["--lease", "3600"]);
    import(&control, &folder, (0..apps).map(shards));
    let knot = Knot::start(ZONE, &control.zone(), &folder);
    let file = folder.path().join("names");
    fs::write(&file, names(apps)).unwrap();
    let (mut speeds, mut waits) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let [ours, theirs] = [control.dns_port(), knot.port()].map(|port| perf(port, &file));
        println!("round {round}: control {ours:?}; knot {theirs:?}");
        speeds.push(ours.rate / theirs.rate);
        waits.push(ours.p99 / theirs.p99);
    }
    println!(
        "SRV lookups over {apps} apps of two replicas, {ROUNDS} rounds in turns: control to knot {:.2} in queries/s, {:.2} in p99 \
         (medians of the rounds' ratios)",
        median(speeds),
        median(waits),
    );
}

/// From the call that publishes a revision to the changed answer.
#[test]
#[ignore = "a measurement: make figures"]
fn publishing_among_many_apps() {
    const PUBLISHED: usize = 200;
    let apps = number("MEMCLOUD_FIGURES_APPS", 100_000);
    let folder = Folder::new();
    let control = Control::start(&folder, &["--lease", "3600"]);
    let began = Instant::now();
    import(&control, &folder, (0..apps).map(shards));
    let imported = began.elapsed();
    let mut rng = Rng::new(1);
    let mut revisions = vec![1_u64; apps];
    let (mut calls, mut seen) = (Vec::new(), Vec::new());
    for _ in 0..PUBLISHED {
        let at = rng.below(apps as u64) as usize;
        let app = FIRST_APP as usize + at;
        revisions[at] += 1;
        let weight = json!({ "weight": 100 + revisions[at] });
        control.ok("PATCH", &format!("/v1/apps/{app}/shards/s0/replicas/{}", 2 * at + 1), &weight);
        let began = Instant::now();
        control.ok("POST", &format!("/v1/apps/{app}/publish"), &json!({}));
        calls.push(began.elapsed());
        wait_for(control.dns_port(), app, revisions[at]);
        seen.push(began.elapsed());
    }
    let (calls, seen) = (sorted(calls), sorted(seen));
    println!(
        "{apps} apps of two replicas: imported in {imported:.2?}; resident {} MiB, {} MiB at most; {PUBLISHED} revisions published: \
         answered p50 {:.2?}, p99 {:.2?}; seen by DNS p50 {:.2?}, p99 {:.2?}",
        control.process().resident_bytes() >> 20,
        control.process().resident_peak_bytes() >> 20,
        at(&calls, 50.0),
        at(&calls, 99.0),
        at(&seen, 50.0),
        at(&seen, 99.0),
    );
}

/// Two replicas in one shard.
fn shards(app: usize) -> Shards {
    let member = |site: &str, net: u8| Member {
        site: site.into(),
        host: format!("10.{net}.{}.{}", app / 256 % 256, app % 256),
        is_standby: false,
        weight: 100,
    };
    vec![vec![member("a", 1), member("b", 2)]]
}

/// All apps once, in no order.
fn names(apps: usize) -> String {
    let mut rng = Rng::new(1);
    let mut all: Vec<usize> = (0..apps).map(|app| FIRST_APP as usize + app).collect();
    for last in (1..all.len()).rev() {
        all.swap(last, rng.below(last as u64 + 1) as usize);
    }
    let mut text = String::new();
    for app in all {
        writeln!(text, "_memcached._tcp.{app}.{ZONE} SRV").unwrap();
    }
    text
}

/// Queries/s, and seconds in which 99 of 100 are answered.
#[derive(Debug)]
struct Figures {
    rate: f64,
    p99: f64,
}

/// As many questions as are answered, and then a steady thousand a second, whose waits are printed one by one.
fn perf(port: u16, names: &Path) -> Figures {
    let run = |flags: &[&str]| {
        let mut command = Command::new("dnsperf");
        command.args(["-s", "127.0.0.1", "-p", &port.to_string(), "-d"]).arg(names).args(flags);
        let output = command.output().expect("dnsperf runs: tests/setup figures installs it");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let most = run(&["-l", "3", "-c", "4"]);
    let rate = most.lines().find_map(|line| line.trim().strip_prefix("Queries per second:")).unwrap();
    let steady = run(&["-l", "3", "-c", "4", "-Q", "1000", "-v"]);
    let waits = steady.lines().filter(|line| line.starts_with("> NOERROR"));
    let waits =
        waits.filter_map(|line| Some(Duration::from_secs_f64(line.rsplit(' ').next()?.parse().ok()?)));
    let waits = sorted(waits.collect());
    assert!(waits.len() > 1_000, "{} are answered", waits.len());
    Figures { rate: rate.trim().parse().unwrap(), p99: at(&waits, 99.0).as_secs_f64() }
}

/// Asks again and again for the TXT record of an app, until it tells this revision.
fn wait_for(port: u16, app: usize, revision: u64) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    // RFC 1035 section 4.1: an id, no flags, one question; its name, type TXT, class IN.
    let mut question = vec![0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in format!("{app}.{ZONE}").split('.') {
        question.push(u8::try_from(label.len()).unwrap());
        question.extend(label.as_bytes());
    }
    question.extend([0, 0, 16, 0, 1]);
    let expected = format!("revision={revision}");
    // The length of the string before it tells 1 from 10.
    let expected = [&[u8::try_from(expected.len()).unwrap()], expected.as_bytes()].concat();
    let mut answer = [0; 512];
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        socket.send(&question).unwrap();
        let length = socket.recv(&mut answer).unwrap();
        if answer[..length].windows(expected.len()).any(|part| part == expected) {
            return;
        }
    }
    panic!("revision {revision} of app {app} is not answered");
}

fn median(mut ratios: Vec<f64>) -> f64 {
    ratios.sort_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}

fn sorted(mut taken: Vec<Duration>) -> Vec<Duration> {
    taken.sort_unstable();
    taken
}

fn at(sorted: &[Duration], percent: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * percent / 100.0) as usize).copied().unwrap_or_default()
}

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
