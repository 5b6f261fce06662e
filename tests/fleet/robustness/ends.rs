//! How the sidecar ends: with everything answered, in time, and with a code that says why.

use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use memcloud_tests::client::Client;
use memcloud_tests::process::Process;
use memcloud_tests::sidecar::{Settings, binary};
use memcloud_tests::{eventually, ports};
use rustix::process::Signal;

use crate::{SOON, pair};

/// `SIGTERM`: what was asked is answered, nothing new is let in, and the exit code is 0.
#[test]
fn sigterm_drains() {
    let mut pair = pair(&["-m", "128"], &["--drain-timeout", "5s"]);
    let value = vec![b'v'; 100_000];
    let mut client = pair.sidecar.client();
    assert_eq!(client.set("k", &value).unwrap(), "STORED");
    client.send("get k\r\n".repeat(300)).unwrap();
    let one = format!("VALUE k 0 {}\r\n", value.len()).len() + value.len() + "\r\nEND\r\n".len();
    // The first answer shows that the sidecar has begun with them.
    let mut received = client.take(one).unwrap().len();
    pair.sidecar.process().signal(Signal::TERM);
    let address = pair.sidecar.address().to_owned();
    eventually("no new session", SOON, || {
        let refused = Client::connect(&address)
            .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused);
        refused.then_some(())
    });
    received += client.rest().unwrap().len();
    assert_eq!(received, 300 * one, "answers were lost");
    let status = pair.sidecar.process_mut().wait(SOON);
    assert_eq!(status.code(), Some(0), "{}", pair.sidecar.process().log());
}

/// An idle session does not hold up the end.
#[test]
fn sigterm_ends_idle_sessions() {
    let mut pair = pair(&[], &["--drain-timeout", "5s"]);
    let mut idle = pair.sidecar.client();
    assert!(idle.ask("version").starts_with("VERSION "));
    let started = Instant::now();
    pair.sidecar.process().signal(Signal::TERM);
    assert_eq!(pair.sidecar.process_mut().wait(SOON).code(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(6), "took {:?}", started.elapsed());
    assert_eq!(idle.rest().unwrap(), b"");
}

#[test]
fn exit_codes() {
    let pair = pair(&[], &[]);
    let run = |settings: Settings| {
        let mut command = Command::new(binary());
        let mut process = Process::start("exit", &pair.folder, command.args(settings.args()));
        process.wait(SOON).code()
    };
    let settings = || Settings::new("x", pair.memcached.address());
    assert_eq!(run(settings().with(&["--no-such-flag"])), Some(64));
    assert_eq!(run(settings().with(&["--workers", "many"])), Some(64));
    assert_eq!(run(settings().with(&["--config", "/nowhere/memcloud.yaml"])), Some(64));
    let mut taken = settings();
    taken.listen = pair.sidecar.address().to_owned();
    assert_eq!(run(taken), Some(69));
    let mut taken = settings();
    taken.admin = pair.sidecar.settings().admin.clone();
    assert_eq!(run(taken), Some(69));
    let mut taken = settings();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    taken.peer_listen = Some(held.local_addr().unwrap().to_string());
    taken.peers = vec![ports::free_address()];
    assert_eq!(run(taken), Some(69));
}
