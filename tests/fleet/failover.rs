//! Apps of a site whose memcached is gone are served by a peer.

#![allow(clippy::unwrap_used, reason = "a broken expectation of a test ends the test")]

use std::time::Duration;

use memcloud_tests::{Client, Plan, eventually};

const SOON: Duration = Duration::from_secs(20);

/// What stands behind the hello in the same breath belongs to the app, and is replicated as if it had come to the
/// front door.
#[test]
fn a_tunnel_loses_no_byte_and_writes_replicate() {
    let fleet = Plan::of(2).start();
    let door = fleet.sites[0].sidecar.settings().peer_listen.clone().unwrap();
    let mut raw = Client::to(&door);
    raw.send("ml hello V2 Sb R1 Qsession C1\r\nset tunnelled 0 0 1\r\nx\r\nget tunnelled\r\nmn\r\n").unwrap();
    let answer = String::from_utf8(raw.until(b"MN\r\n").unwrap()).unwrap();
    let (hello, rest) = answer.split_once("\r\n").unwrap();
    assert!(hello.starts_with("ml hello V2 Sa ") && hello.ends_with(" Qsession"), "{hello}");
    assert_eq!(rest, "ml ack 0\r\nSTORED\r\nVALUE tunnelled 0 1\r\nx\r\nEND\r\nMN\r\n");
    let status = fleet.sites[0].sidecar.status();
    assert_eq!(status["tunnelled_sessions"], 1, "{status}");
    eventually("the write reaches the other site", SOON, || {
        fleet.sites[1].memcached.client().get("tunnelled").unwrap().filter(|value| value == b"x")
    });
    drop(raw);
    eventually("the session is over", SOON, || {
        (fleet.sites[0].sidecar.status()["tunnelled_sessions"] == 0).then_some(())
    });
}

#[test]
fn who_gets_no_tunnel() {
    let mut fleet = Plan::of(2).sidecars(&["--max-sessions", "2"]).start();
    let door = fleet.sites[0].sidecar.settings().peer_listen.clone().unwrap();
    let refused = |site: &str| Client::connect(&format!("tunnel:{site}@{door}")).unwrap_err().to_string();
    assert_eq!(refused("stranger"), "ml refused unknown-peer\r\n");
    assert_eq!(refused("a"), "ml refused same-site\r\n");
    let mut ahead = Client::to(&door);
    ahead.send("ml hello V2 Sb R1 Qsession Cffffffffffffffff\r\n").unwrap();
    assert!(ahead.line().unwrap().starts_with("ml hello "));
    assert_eq!(ahead.line().unwrap(), "ml refused clock\r\n");
    // Tunnels take seats of the same number as apps.
    let seated = [fleet.sites[0].sidecar.client(), Client::to(&format!("tunnel:b@{door}"))];
    eventually("both have a seat", SOON, || (fleet.sites[0].sidecar.status()["sessions"] == 2).then_some(()));
    assert_eq!(refused("b"), "ml refused busy\r\n");
    drop(seated);
    fleet.sites[0].memcached.kill();
    eventually("its memcached is down", SOON, || {
        (refused("b") == "ml refused upstream-down\r\n").then_some(())
    });
}
