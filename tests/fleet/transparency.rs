//! An app sees through the sidecar what it would see from its memcached, byte for byte.
//!
//! One script of every command and error is played against a memcached directly and through a sidecar, each time with
//! a fresh memcached behind; CAS numbers, times and the server's counters are masked, everything else must be equal:
//! step by step, cut into single bytes, and as one write.

#![allow(clippy::unwrap_used, reason = "a broken expectation of a test ends the test")]

use memcloud_tests::cable::Cable;
use memcloud_tests::client;
use memcloud_tests::process::Folder;
use memcloud_tests::script::{self, NO_ANSWER, Pace, Paces, Scene, Transcript, shown};
use memcloud_tests::sidecar::Settings;
use memcloud_tests::{Client, Fleet, Memcached, Plan, Server, Sidecar, eventually};

use std::time::Duration;

/// The script itself: twice against memcached, the second time through a plain relay.
#[test]
fn the_script_gives_the_same_answers_twice() {
    let folder = Folder::new();
    check("relay", || {
        let memcached = Memcached::start("behind-relay", &folder, ARGS);
        let relay = Cable::to(memcached.address());
        (relay.address().to_owned(), (memcached, relay))
    });
}

#[test]
fn shared() {
    alone("shared", "shared");
}

#[test]
fn dedicated() {
    alone("dedicated", "dedicated");
}

#[test]
fn shared_with_a_peer() {
    paired("shared with a peer", "shared");
}

#[test]
fn dedicated_with_a_peer() {
    paired("dedicated with a peer", "dedicated");
}

/// Where memcached is told versions, stores go up in other words than they came.
#[test]
fn beside_the_newest_server() {
    let server = Server::newest();
    compare("newest", &server, Readers::Sidecar, || {
        let fleet = Plan::of(2).server(&server).memcached(0, ARGS).start();
        fleet.wait_in_sync(SOON);
        eventually("the mode is on where it can be", SOON, || {
            (fleet.sites[0].sidecar.status()["versioned"] == server.is_versioned()).then_some(())
        });
        (fleet.sites[0].sidecar.address().to_owned(), fleet)
    });
}

/// App side and memcached side both on unix sockets.
#[test]
fn over_unix_sockets() {
    let folder = Folder::new();
    check("unix sockets", || {
        let memcached = Memcached::start_unix("unix", &folder, ARGS);
        let mut settings = Settings::new("u", memcached.address());
        settings.listen = format!("unix:{}", folder.path().join("apps.socket").display());
        let sidecar = Sidecar::start(settings, &folder);
        (sidecar.address().to_owned(), (sidecar, memcached))
    });
}

/// As an app of a peer whose own memcached is down.
#[test]
fn through_a_tunnel() {
    compare("tunnel", &Server::usual(), Readers::Sidecar, || {
        let fleet: Fleet = Plan::of(2).memcached(0, ARGS).start();
        fleet.wait_in_sync(SOON);
        let door = fleet.sites[0].sidecar.settings().peer_listen.clone().unwrap();
        (format!("tunnel:b@{door}"), fleet)
    });
}

/// A connection that watches becomes a log: it needs a connection of its own, and others go on.
#[test]
fn watch_streams_through() {
    let folder = Folder::new();
    let memcached = Memcached::start("watched", &folder, &[]);
    let sidecar = Sidecar::start(Settings::new("w", memcached.address()), &folder);
    let mut watcher = sidecar.client();
    assert_eq!(watcher.ask("watch mutations"), "OK");
    let mut writer = sidecar.client();
    eventually("a line about the watched key", Duration::from_secs(10), || {
        assert_eq!(writer.set("watched", b"1").unwrap(), "STORED");
        watcher.set_patience(Duration::from_millis(300));
        let line = watcher.line().ok()?;
        line.contains("key=watched").then_some(())
    });
}

/// `shutdown` ends this memcached and no other.
#[test]
fn shutdown_stays_local() {
    let fleet = Plan::of(2).memcached(0, &["-A"]).memcached(1, &["-A"]).start();
    let mut client = fleet.sites[0].sidecar.client();
    client.send("shutdown\r\n").unwrap();
    eventually("the memcached of site a has ended", Duration::from_secs(10), || {
        Client::connect(fleet.sites[0].memcached.address()).is_err().then_some(())
    });
    assert!(fleet.sites[1].memcached.client().ask("version").starts_with("VERSION "));
    assert_eq!(fleet.sites[1].sidecar.client().set("k", b"v").unwrap(), "STORED");
}

fn alone(name: &str, connections: &str) {
    let folder = Folder::new();
    check(name, || {
        let memcached = Memcached::start(&format!("behind-{connections}"), &folder, ARGS);
        let settings = Settings::new("t", memcached.address()).with(&["--upstream-connections", connections]);
        let sidecar = Sidecar::start(settings, &folder);
        (sidecar.address().to_owned(), (sidecar, memcached))
    });
}

fn paired(name: &str, connections: &str) {
    compare(name, &Server::usual(), Readers::Sidecar, || {
        let plan = Plan::of(2).memcached(0, ARGS).sidecars(&["--upstream-connections", connections]);
        let fleet: Fleet = plan.start();
        // A copy into an empty memcached reads stale items as well, and gives back the win a moment later.
        fleet.wait_in_sync(SOON);
        (fleet.sites[0].sidecar.address().to_owned(), fleet)
    });
}

fn check<Keep>(name: &str, front: impl Fn() -> (String, Keep)) {
    compare(name, &Server::usual(), Readers::Apps, front);
}

/// Who reads items while a scene is played.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Readers {
    Apps,
    /// Counters are read to be sent to a peer, and what memcached does to an item then, it does for any second reader.
    Sidecar,
}

/// Plays all scenes at all paces, directly and through what `front` starts, and compares.
fn compare<Keep>(name: &str, server: &Server, readers: Readers, front: impl Fn() -> (String, Keep)) {
    let folder = Folder::new();
    let mut failures = Vec::new();
    for pace in [Pace::Steps, Pace::Bytes, Pace::OneWrite] {
        let direct = Memcached::start_server(server, "direct", &folder, ARGS);
        let (address, _keep) = front();
        for scene in scenes().iter().filter(|scene| fits(scene, pace)) {
            let mut expected = scene.play(direct.address(), pace);
            let mut seen = scene.play(&address, pace);
            if readers == Readers::Sidecar {
                scene.unpad(&mut expected);
                scene.unpad(&mut seen);
            }
            differences(&format!("{name}, {pace:?}, {}", scene.name), &expected, &seen, &mut failures);
        }
    }
    assert!(failures.is_empty(), "{} differences:\n{}", failures.len(), failures.join("\n"));
}

fn scenes() -> Vec<Scene> {
    let dialects = [script::classic::scenes(), script::meta::scenes(), script::binary::scenes()];
    [script::admin::first(), dialects.concat(), script::admin::last()].concat()
}

fn fits(scene: &Scene, pace: Pace) -> bool {
    match pace {
        Pace::Steps => true,
        Pace::OneWrite => scene.paces >= Paces::Whole,
        Pace::Bytes => scene.paces == Paces::All,
    }
}

fn differences(what: &str, expected: &Transcript, seen: &Transcript, failures: &mut Vec<String>) {
    if let Some((sent, answer)) =
        expected.iter().find(|(_, answer)| client::find(answer, NO_ANSWER.as_bytes()).is_some())
    {
        failures.push(format!("{what}: memcached itself: {sent}: {}", shown(answer)));
    }
    if expected.len() != seen.len() {
        failures.push(format!("{what}: {} steps directly, {} through", expected.len(), seen.len()));
    }
    for ((sent, expected), (_, seen)) in expected.iter().zip(seen) {
        if expected != seen {
            let from =
                expected.iter().zip(seen).take_while(|(one, other)| one == other).count().saturating_sub(40);
            let (direct, through) = (shown(&expected[from..]), shown(&seen[from.min(seen.len())..]));
            failures.push(format!(
                "{what}: {sent}\n  directly (from byte {from}): {direct}\n  through:  {through}"
            ));
        }
    }
}

const ARGS: &[&str] = &["-m", "256"];

const SOON: Duration = Duration::from_secs(15);
