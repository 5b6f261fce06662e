//! A memcached that is killed, hangs, or is not there yet: apps are told at once, and service comes back by itself.

use std::time::{Duration, Instant};

use memcloud_tests::binary::{Frame, GET, SET, reply};
use memcloud_tests::client::Client;
use memcloud_tests::process::Folder;
use memcloud_tests::sidecar::Settings;
use memcloud_tests::{Memcached, Sidecar, eventually};

use crate::{SOON, pair};

/// Without its memcached the sidecar says so at once, in every dialect, and goes on by itself once it is back.
#[test]
fn a_killed_upstream_is_told_at_once() {
    for connections in ["shared", "dedicated"] {
        let mut pair = pair(&[], &["--upstream-connections", connections]);
        let mut client = pair.sidecar.client();
        assert_eq!(client.set("k", b"v").unwrap(), "STORED");
        pair.memcached.kill();
        for request in ["get k", "set k 0 0 1\r\nx", "mg k v", "incr k 1", "delete k", "ms k 1\r\nx"] {
            let started = Instant::now();
            let mut client = pair.sidecar.client();
            let answer = client.ask(request);
            assert!(answer.starts_with("SERVER_ERROR "), "{connections}: {request:?}: {answer}");
            assert!(started.elapsed() < Duration::from_secs(1), "{request:?} took {:?}", started.elapsed());
        }
        let state = || pair.sidecar.status()["upstream"]["state"].as_str().map(str::to_owned);
        eventually("the status says so", SOON, || (state()? != "up").then_some(()));
        pair.memcached.restart();
        let started = Instant::now();
        eventually("service resumes", SOON, || {
            (pair.sidecar.client().set("k", b"w").ok()? == "STORED").then_some(())
        });
        println!("{connections}: resumed after {:?}", started.elapsed());
        eventually("the status says up", SOON, || {
            (pair.sidecar.status()["upstream"]["state"] == "up").then_some(())
        });
    }
}

/// Requests on the way when memcached dies are all answered, in order, and the session lives on.
#[test]
fn requests_on_the_way_are_answered_when_the_upstream_dies() {
    let mut pair = pair(&[], &[]);
    let mut client = pair.sidecar.client();
    assert_eq!(client.set("k", b"v").unwrap(), "STORED");
    pair.memcached.hang();
    client.send("get k\r\n".repeat(50)).unwrap();
    client.send("set k 0 0 1\r\nx\r\n".repeat(50)).unwrap();
    pair.memcached.kill();
    for _ in 0..100 {
        let answer = client.line().unwrap();
        assert!(answer.starts_with("SERVER_ERROR "), "{answer}");
    }
    pair.memcached.restart();
    eventually("the same session goes on", SOON, || (client.set("k", b"w").ok()? == "STORED").then_some(()));
}

/// A memcached without text: packets go through, and text ends as it does there.
#[test]
fn a_memcached_that_speaks_packets_only() {
    let pair = pair(&["-B", "binary"], &[]);
    let mut packets = pair.sidecar.client();
    packets.send(Frame { key: b"k", value: b"v", extras: &[0; 8], ..Frame::new(SET) }.bytes()).unwrap();
    assert_eq!(reply(&mut packets).unwrap().status, 0);
    packets.send(Frame { key: b"k", ..Frame::new(GET) }.bytes()).unwrap();
    assert_eq!(reply(&mut packets).unwrap().value, b"v");
    let ends = |mut client: Client| {
        client.send("set k 0 0 20\r\nnobody may answer it\r\n").unwrap();
        client.line().map_err(|error| error.kind())
    };
    let there = ends(pair.memcached.client());
    assert!(there.is_err());
    // Until it is known what memcached speaks, text is told that it cannot be had.
    eventually("the sidecar knows", SOON, || ends(pair.sidecar.client()).is_err().then_some(()));
    for _ in 0..4 {
        assert_eq!(ends(pair.sidecar.client()), there);
    }
    assert_eq!(pair.sidecar.status()["upstream"]["state"], "up");
}

#[test]
fn a_hung_upstream_times_out() {
    let pair = pair(&[], &["--upstream-timeout", "1s"]);
    let mut client = pair.sidecar.client();
    assert_eq!(client.set("k", b"v").unwrap(), "STORED");
    pair.memcached.hang();
    let started = Instant::now();
    let answer = client.ask("get k");
    let took = started.elapsed();
    assert!(answer.starts_with("SERVER_ERROR "), "{answer}");
    assert!(took > Duration::from_millis(500) && took < Duration::from_secs(5), "answered after {took:?}");
    pair.memcached.resume();
    eventually("service resumes", SOON, || {
        (pair.sidecar.client().set("k", b"w").ok()? == "STORED").then_some(())
    });
    // Every worker finds back by itself, each in its own time.
    eventually("on all workers", SOON, || {
        let answers = (0..8).map(|_| pair.sidecar.client().get("k").ok().flatten());
        answers.into_iter().all(|value| value.as_deref() == Some(b"w")).then_some(())
    });
}

/// A sidecar that starts before its memcached serves as soon as that is there.
#[test]
fn a_sidecar_may_start_first() {
    let folder = Folder::new();
    let mut memcached = Memcached::start("late", &folder, &[]);
    memcached.kill();
    let sidecar = Sidecar::launch(Settings::new("early", memcached.address()), &folder);
    let mut client = eventually("apps can connect", SOON, || Client::connect(sidecar.address()).ok());
    assert!(client.ask("get k").starts_with("SERVER_ERROR "));
    memcached.restart();
    eventually("service starts", SOON, || (sidecar.client().set("k", b"w").ok()? == "STORED").then_some(()));
}
