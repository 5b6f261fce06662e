//! The harness itself: a cable does what it says, and a comparison finds what differs.

#![allow(clippy::unwrap_used, reason = "a broken expectation of a test ends the test")]

use std::time::Duration;

use memcloud_tests::compare::{base64, compare};
use memcloud_tests::process::Folder;
use memcloud_tests::{Cable, Client, Direction, Memcached, eventually, http};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_cut_cable_resets_and_refuses_until_healed() {
    let folder = Folder::new();
    let memcached = Memcached::start("far", &folder, &[]);
    let cable = Cable::to(memcached.address());
    let mut client = Client::to(cable.address());
    assert_eq!(client.set("k", b"v").unwrap(), "STORED");
    cable.cut();
    assert_eq!(client.rest().unwrap(), b"");
    assert_eq!(Client::to(cable.address()).rest().unwrap(), b"");
    cable.heal();
    assert_eq!(Client::to(cable.address()).get("k").unwrap().unwrap(), b"v");
    assert!(cable.carried_bytes() > 0);
}

#[test]
fn a_stall_holds_one_direction() {
    let folder = Folder::new();
    let memcached = Memcached::start("far", &folder, &[]);
    let cable = Cable::to(memcached.address());
    let mut client = Client::to(cable.address());
    client.set_patience(Duration::from_millis(200));
    assert_eq!(client.set("k", b"1").unwrap(), "STORED");
    cable.stall(Direction::Back);
    // A pump that was already reading still carries one answer; from then on nothing comes back.
    eventually("the way back stands still", SOON, || client.try_ask("version").is_err().then_some(()));
    let mut direct = memcached.client();
    client.send("set k 0 0 1\r\n2\r\n").unwrap();
    eventually("the way forth is open", SOON, || (direct.get("k").unwrap().unwrap() == b"2").then_some(()));
    cable.heal();
    client.set_patience(SOON);
    client.until(b"STORED\r\n").unwrap();
}

#[test]
fn a_comparison_finds_what_differs() {
    let folder = Folder::new();
    let sites = ["a", "b"].map(|name| Memcached::start(name, &folder, &[]));
    let mut clients = sites.each_ref().map(Memcached::client);
    let mut both = |one: &str, other: &str| {
        for (client, request) in clients.iter_mut().zip([one, other]) {
            client.send(format!("{request}\r\nmn\r\n")).unwrap();
            client.until(b"MN\r\n").unwrap();
        }
    };
    both("set same 1 100 1\r\nx", "set same 1 101 1\r\nx");
    both("ms ACAl 1 b\r\nx", "ms ACAl 1 b\r\nx");
    assert!(compare(&[&sites[0], &sites[1]]).is_equal());
    both("set value 0 0 1\r\nx", "set value 0 0 1\r\ny");
    both("set flags 1 0 1\r\nx", "set flags 2 0 1\r\nx");
    both("set time 0 100 1\r\nx", "set time 0 110 1\r\nx");
    both("set never 0 0 1\r\nx", "set never 0 1000 1\r\nx");
    both("set stale 0 0 1\r\nx", "set stale 0 0 1\r\nx\r\nmd stale I");
    both("set alone 0 0 1\r\nx", "delete alone");
    both("set going 0 1 1\r\nx", "delete going");
    let result = compare(&[&sites[0], &sites[1]]);
    let names: Vec<_> = result.different.iter().map(|found| found.key.escape_ascii().to_string()).collect();
    assert_eq!(names, ["flags", "never", "stale", "time", "value"]);
    assert_eq!(result.one_sided.len(), 1, "{result:?}");
    assert_eq!(result.one_sided[0].key, b"alone");
}

#[test]
fn base64_is_the_usual_one() {
    let known = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")];
    for (plain, encoded) in known {
        assert_eq!(base64(plain.as_bytes()), encoded);
    }
}

#[test]
fn metrics_are_summed_by_label() {
    let text = "# HELP x y\nm{a=\"1\",b=\"2\"} 3\nm{a=\"1\",b=\"3\"} 4\nm_more{a=\"1\"} 5\nm 6\n";
    assert!((http::metric(text, "m", &["a=\"1\""]) - 7.0).abs() < 1e-9);
    assert!((http::metric(text, "m", &["b=\"3\""]) - 4.0).abs() < 1e-9);
    assert!((http::metric(text, "m", &[]) - 13.0).abs() < 1e-9);
}
