//! One test for each fault that a review or another program's suite has found.

#![allow(clippy::unwrap_used, reason = "a broken expectation of a test ends the test")]

use std::time::Duration;

use memcloud_tests::binary::{FLUSH, FLUSHQ, Frame, GET, NOOP, SET, reply};
use memcloud_tests::process::Folder;
use memcloud_tests::sidecar::Settings;
use memcloud_tests::{Client, Fleet, Memcached, Plan, Server, Sidecar, eventually};

const SOON: Duration = Duration::from_secs(15);

fn pair_of_sites() -> Fleet {
    let fleet = Plan::of(2).start();
    fleet.wait_in_sync(SOON);
    fleet
}

/// Waits until the other site has what this one has, and says what that is.
fn mirrored(fleet: &Fleet, key: &str) -> Option<Vec<u8>> {
    fleet.wait_in_sync(SOON);
    let [here, there] = [0, 1].map(|site| fleet.sites[site].memcached.client().get(key).unwrap());
    assert_eq!(here, there, "{key} differs");
    here
}

/// Apps that stop reading hold at most what they may together; beyond that they are cut off, and others go on.
#[test]
fn answers_that_nobody_reads_have_a_bound_together() {
    let folder = Folder::new();
    let memcached = Memcached::start("memcached", &folder, &["-m", "256"]);
    let flags = ["--session-buffer-bytes", "8MiB", "--workers", "1"];
    let sidecar = Sidecar::start(Settings::new("r", memcached.address()).with(&flags), &folder);
    let value = vec![b'x'; 500_000];
    for number in 0..40 {
        assert_eq!(memcached.client().set(&format!("k{number}"), &value).unwrap(), "STORED");
    }
    let all: String = (0..40).map(|number| format!(" k{number}")).collect();
    let mut slow: Vec<_> = (0..4).map(|_| sidecar.client()).collect();
    for client in &mut slow {
        client.send(format!("get{all}\r\n")).unwrap();
    }
    eventually("a slow reader is cut off", SOON, || {
        (sidecar.metric("memcloud_proxy_slow_readers_closed_total", &[]) >= 1.0).then_some(())
    });
    assert_eq!(sidecar.client().set("other", b"goes on").unwrap(), "STORED");
}

/// Apps that vanish in the middle of a long request, a long line or a watch leave no session behind.
#[test]
fn apps_that_vanish_in_the_middle_end_their_session() {
    let fleet = pair_of_sites();
    let sidecar = &fleet.sites[0].sidecar;
    for half in ["set big 0 0 1000000\r\nxxxx".to_owned(), format!("get {} ", "k".repeat(240)).repeat(20)] {
        let mut client = sidecar.client();
        client.send(half).unwrap();
        client.vanish();
    }
    let mut watcher = sidecar.client();
    assert_eq!(watcher.ask("watch evictions"), "OK");
    watcher.vanish();
    eventually("no session is left", SOON, || (sidecar.status()["sessions"] == 0).then_some(()));
}

/// memcached remembers that an item was stored under a base64 key, and says its key so to whoever asks by `mg`; a `get`
/// goes up as one.
#[test]
fn a_get_of_what_was_stored_under_a_base64_key() {
    let folder = Folder::new();
    let memcached = Memcached::start("memcached", &folder, &[]);
    let sidecar = Sidecar::start(Settings::new("r", memcached.address()), &folder);
    let mut app = sidecar.client();
    assert_eq!(app.ask("ms Zm9v 2 b\r\nhi"), "HD");
    assert_eq!(app.get("foo").unwrap().unwrap(), b"hi");
    app.send("gets foo\r\nmn\r\n").unwrap();
    let answer = String::from_utf8(app.until(b"MN\r\n").unwrap()).unwrap();
    assert!(
        answer.starts_with("VALUE foo 0 2 ") && answer.ends_with("\r\nhi\r\nEND\r\nMN\r\n"),
        "{answer:?}"
    );
}

type Way<'a> = &'a dyn Fn(&mut Client, &mut Client);

/// memcached keeps one time for the last flush and for the next: told of a delay, it brings back what the last one
/// has removed, and on each site another item perhaps. So it is not told.
#[test]
fn a_delayed_flush_brings_nothing_back() {
    let fleet = pair_of_sites();
    let [mut app, mut other] = [0, 1].map(|site| fleet.sites[site].sidecar.client());
    let mut binary = fleet.sites[0].sidecar.client();
    let delayed = |opcode| Frame { extras: &[0, 0, 0, 100], opaque: 7, ..Frame::new(opcode) }.bytes();
    let ways: [Way<'_>; 5] = [
        &|app, _| assert_eq!(app.ask("flush_all 100"), "OK"),
        &|app, _| assert_eq!(app.ask("flush_all  100"), "OK"),
        &|app, _| app.send("flush_all 100 noreply\r\n").unwrap(),
        &|_, binary| {
            binary.send(delayed(FLUSH)).unwrap();
            let answer = reply(binary).unwrap();
            assert_eq!((answer.opcode, answer.status, answer.opaque), (FLUSH, 0, 7));
        },
        &|_, binary| {
            binary.send([delayed(FLUSHQ), Frame::new(NOOP).bytes()].concat()).unwrap();
            assert_eq!(reply(binary).unwrap().opcode, NOOP);
        },
    ];
    for schedule in ways {
        assert_eq!(app.set("k", b"v").unwrap(), "STORED");
        mirrored(&fleet, "k").unwrap();
        assert_eq!(app.ask("flush_all"), "OK");
        schedule(&mut app, &mut binary);
        assert_eq!(app.get("k").unwrap(), None);
        assert_eq!(mirrored(&fleet, "k"), None);
    }
    // The newest one counts, whoever asked for it; one for a time that is past is for now.
    assert_eq!(app.set("k", b"v").unwrap(), "STORED");
    mirrored(&fleet, "k").unwrap();
    assert_eq!(other.ask("flush_all 2"), "OK");
    assert_eq!(app.get("k").unwrap().unwrap(), b"v");
    eventually("the flush", SOON, || (app.get("k").unwrap().is_none()).then_some(()));
    assert_eq!(mirrored(&fleet, "k"), None);
    assert_eq!(app.set("k", b"v").unwrap(), "STORED");
    mirrored(&fleet, "k").unwrap();
    assert_eq!(app.ask("flush_all 2592001"), "OK");
    assert_eq!(mirrored(&fleet, "k"), None);
}

/// A memcached that does not flush says so itself, also of a flush that would not reach it before its time.
#[test]
fn a_delayed_flush_is_refused_by_a_memcached_that_does_not_flush() {
    let fleet = Plan::of(2).memcached(0, &["-F"]).start();
    fleet.wait_in_sync(SOON);
    let mut app = fleet.sites[0].sidecar.client();
    for line in ["flush_all", "flush_all 1", "flush_all  1"] {
        assert_eq!(app.ask(line), "CLIENT_ERROR flush_all not allowed");
    }
    let mut binary = fleet.sites[0].sidecar.client();
    binary.send(Frame { extras: &[0, 0, 0, 1], ..Frame::new(FLUSH) }.bytes()).unwrap();
    assert_ne!(reply(&mut binary).unwrap().status, 0);
    assert_eq!(fleet.sites[0].sidecar.client().set("k", b"v").unwrap(), "STORED");
    assert_eq!(mirrored(&fleet, "k").unwrap(), b"v");
}

/// A watch that memcached refuses leaves the connection as it was, its later writes mirrored.
#[test]
fn writes_behind_a_refused_watch_are_mirrored() {
    let fleet = pair_of_sites();
    let mut app = fleet.sites[0].sidecar.client();
    let answer = app.ask("watch nonsense");
    assert_ne!(answer, "OK");
    assert_eq!(app.set("behind", b"it").unwrap(), "STORED");
    assert_eq!(mirrored(&fleet, "behind").unwrap(), b"it");
}

/// A storage line that is oddly written, with a value that comes in pieces, and one behind an overlong line.
#[test]
fn odd_writes_are_mirrored() {
    let fleet = pair_of_sites();
    let mut app = fleet.sites[0].sidecar.client();
    app.send("set  odd 0 0 200000\r\n").unwrap();
    app.send("x".repeat(100_000)).unwrap();
    app.send("x".repeat(100_000)).unwrap();
    assert_eq!(app.ask(""), "STORED");
    assert_eq!(mirrored(&fleet, "odd").unwrap().len(), 200_000);

    app.send(format!("{}\r\nset after 0 0 1\r\nx\r\n", "z".repeat(3000))).unwrap();
    // memcached takes such a line if it comes in one piece, and closes otherwise.
    let answered = app.until(b"STORED\r\n").is_ok();
    fleet.wait_in_sync(SOON);
    let there = fleet.sites[1].memcached.client().get("after").unwrap();
    assert_eq!(there.is_some(), answered);
}

/// An upload that is cut after its head may have removed the old item already.
#[test]
fn an_upload_that_is_cut_leaves_both_sites_alike() {
    let fleet = pair_of_sites();
    let mut app = fleet.sites[0].sidecar.client();
    assert_eq!(app.set("cut", b"old").unwrap(), "STORED");
    mirrored(&fleet, "cut");
    app.send("set cut 0 0 2000000\r\nxxxx").unwrap();
    app.vanish();
    eventually("both sites agree", SOON, || {
        let [here, there] = [0, 1].map(|site| fleet.sites[site].memcached.client().get("cut").unwrap());
        (here == there
            && fleet.sites[0].sidecar.status()["sessions"] == 0
            && fleet.sites[0].sidecar.in_sync())
        .then_some(())
    });
    mirrored(&fleet, "cut");
}

/// An oddly written retrieval brings its value whole, whatever the value holds.
#[test]
fn odd_retrievals_bring_values_whole() {
    let fleet = pair_of_sites();
    let mut app = fleet.sites[0].sidecar.client();
    for value in [b"aa\r\nMN\r\nbb".to_vec(), vec![b'x'; 900_000]] {
        assert_eq!(app.set("odd", &value).unwrap(), "STORED");
        app.send("get  odd\r\n").unwrap();
        assert_eq!(app.line().unwrap(), format!("VALUE odd 0 {}\r\n", value.len()));
        assert_eq!(app.take(value.len() + 7).unwrap(), [&value[..], b"\r\nEND\r\n"].concat());
    }
}

/// An app that does not read its answers must not keep others from writing the keys it writes.
#[test]
fn a_slow_reader_holds_no_gate() {
    let fleet = Plan::of(2).sidecars(&["--upstream-connections", "dedicated"]).start();
    fleet.wait_in_sync(SOON);
    let sidecar = &fleet.sites[0].sidecar;
    let value = vec![b'v'; 1_000_000];
    assert_eq!(sidecar.client().set("big", &value).unwrap(), "STORED");
    let mut slow = sidecar.client();
    slow.send(format!("{}set k 0 0 1\r\nx\r\n", "get big\r\n".repeat(40))).unwrap();
    for _ in 0..20 {
        assert_eq!(sidecar.client().set("k", b"mine").unwrap(), "STORED");
        assert_eq!(fleet.sites[1].sidecar.client().set("k", b"theirs").unwrap(), "STORED");
    }
    assert_eq!(sidecar.client().ask("flush_all"), "OK");
    drop(slow);
}

/// A value that is still being written when memcached falls silent: once it wakes up the sites agree.
#[test]
fn a_long_write_whose_answer_never_came_makes_no_difference() {
    let fleet = Plan::of(2).sidecars(&["--upstream-timeout", "1s"]).start();
    fleet.wait_in_sync(SOON);
    let mut app = fleet.sites[0].sidecar.client();
    let half = "x".repeat(150_000);
    app.send(format!("set frozen 0 0 300000\r\n{half}")).unwrap();
    eventually("the first half is taken", SOON, || {
        (fleet.sites[0].sidecar.status()["sessions"] == 1).then_some(())
    });
    fleet.sites[0].memcached.hang();
    app.send(format!("{half}\r\n")).unwrap();
    assert!(app.line().map_or(true, |line| line.starts_with("SERVER_ERROR")), "no answer can come");
    fleet.sites[0].memcached.resume();
    eventually("the sites agree again", SOON, || {
        let there = fleet.sites[1].memcached.client().get("frozen").unwrap();
        let here = fleet.sites[0].memcached.client().get("frozen").unwrap();
        (here == there && fleet.sites.iter().all(|site| site.sidecar.in_sync())).then_some(())
    });
}

/// A socket path that holds something else is not taken away.
#[test]
fn a_file_in_the_place_of_a_socket_stays() {
    let folder = Folder::new();
    let memcached = Memcached::start("memcached", &folder, &[]);
    let path = folder.path().join("precious");
    std::fs::write(&path, "data").unwrap();
    let listen = format!("unix:{}", path.display());
    let settings = Settings::new("r", memcached.address()).with(&["--listen", &listen]);
    let mut sidecar = Sidecar::launch(settings, &folder);
    assert_eq!(sidecar.process_mut().wait(SOON).code(), Some(69));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "data");
}

/// A write without an answer drops its key. What was there before it must not be taken for its outcome: with a version of
/// now it would win over what a peer has written since.
#[test]
fn a_write_without_an_answer_brings_nothing_back() {
    brings_nothing_back(&without_patience(Plan::of(2)));
}

/// The same where writes are promised their versions before memcached has answered.
#[test]
fn a_write_with_a_version_and_without_an_answer_brings_nothing_back() {
    if Server::newest().is_versioned() {
        let fleet = without_patience(Plan::of(2).server(&Server::newest()));
        eventually("versions are kept in memcached", SOON, || {
            fleet.sites.iter().all(|site| site.sidecar.status()["versioned"] == true).then_some(())
        });
        brings_nothing_back(&fleet);
    } else {
        println!("no memcached at hand takes a CAS from outside");
    }
}

fn without_patience(plan: Plan) -> Fleet {
    plan.sidecars(&["--upstream-timeout", "500ms", "--peer-timeout", "5s"]).start()
}

fn brings_nothing_back(fleet: &Fleet) {
    let [a, b] = [0, 1].map(|site| &fleet.sites[site]);
    for key in ["added", "changed", "stays"] {
        assert_eq!(a.sidecar.client().set(key, b"before").unwrap(), "STORED");
    }
    fleet.wait_in_sync(SOON);
    a.memcached.hang();
    let mut app = a.sidecar.client();
    app.send("add added 0 0 4\r\nmine\r\nappend changed 0 0 1\r\n+\r\n").unwrap();
    for _ in 0..2 {
        let answer = app.line().unwrap();
        assert!(answer.starts_with("SERVER_ERROR"), "{answer}");
    }
    for key in ["added", "changed"] {
        assert_eq!(b.sidecar.client().get(key).unwrap().unwrap(), b"before");
        assert_eq!(b.sidecar.client().set(key, b"newer").unwrap(), "STORED");
    }
    a.memcached.resume();
    fleet.wait_in_sync(SOON);
    for key in ["added", "changed"] {
        let seen = [a, b].map(|site| site.memcached.client().get(key).unwrap());
        assert!(seen[0] == seen[1] && seen[0].as_deref().is_none_or(|value| value == b"newer"), "{seen:?}");
    }
    assert_eq!(mirrored(fleet, "stays").unwrap(), b"before");
    let unknown = a.sidecar.metric("memcloud_proxy_replication_unknown_outcomes_total", &[]);
    assert!((unknown - 2.0).abs() < 0.5, "{unknown}");
}

/// A proxy that began with its clock ten minutes ahead: its peer refuses its writes. Nothing is repaired, for nothing could
/// be: they stay where they are, and the gap stays on show, until the clock is right and the proxy begins anew.
#[test]
fn a_clock_that_jumped_costs_no_write() {
    for (ahead, server) in [(0, Server::distribution()), (1, Server::distribution()), (0, Server::newest())] {
        let mut fleet = Plan::of(2).server(&server).clocks().start();
        assert_eq!(fleet.sites[ahead].sidecar.client().set("k0", b"older").unwrap(), "STORED");
        fleet.wait_in_sync(SOON);
        let begin_anew = |fleet: &mut Fleet, seconds| {
            fleet.sites[ahead].clock.as_ref().unwrap().set(seconds);
            fleet.sites[ahead].sidecar.relaunch();
            fleet.sites[ahead].sidecar.wait_until_listening();
        };
        begin_anew(&mut fleet, 600);
        let mut client = fleet.sites[ahead].sidecar.client();
        for number in 0..20 {
            assert_eq!(client.set(&format!("k{number}"), b"ahead").unwrap(), "STORED");
        }
        // Whoever compares has looked at the clocks by then.
        eventually("the clocks are on show", SOON, || {
            let reason = fleet.sites[0].sidecar.status()["peers"][0]["reason"].to_string();
            reason.contains("clocks").then_some(())
        });
        let status = fleet.sites[ahead].sidecar.status();
        assert_eq!(status["in_sync"], false, "{status}");
        assert_eq!(fleet.sites[ahead].memcached.client().stat("curr_items"), 20, "{status}");
        begin_anew(&mut fleet, 0);
        fleet.wait_in_sync(SOON);
        for number in 0..20 {
            assert_eq!(
                mirrored(&fleet, &format!("k{number}")).as_deref(),
                Some(b"ahead".as_slice()),
                "{number}"
            );
        }
    }
}

/// A memcached that died took the writes with it: what peers hold was acknowledged, and is copied back. Also for a key that no
/// text line can name.
#[test]
fn writes_in_flight_at_a_death_cost_nothing_that_was_acknowledged() {
    let mut fleet = Plan::of(2).start();
    let raw = [b"raw \r\n\0".as_slice(), &[b'k'; 213]].concat();
    let store = Frame { extras: &[0; 8], key: &raw, value: b"x", ..Frame::new(SET) }.bytes();
    let text = b"set plain 0 0 1\r\nx\r\n".to_vec();
    let [mut binary, mut plain] = [0; 2].map(|site: usize| fleet.sites[site].sidecar.client());
    binary.send(&store).unwrap();
    assert_eq!(reply(&mut binary).unwrap().status, 0);
    plain.send(&text).unwrap();
    assert_eq!(plain.line().unwrap(), "STORED\r\n");
    fleet.wait_in_sync(SOON);
    fleet.sites[0].memcached.hang();
    binary.send(&store).unwrap();
    plain.send(&text).unwrap();
    // By then the proxy has passed both on; memcached does not answer.
    plain.set_patience(Duration::from_millis(300));
    assert!(plain.line().is_err());
    fleet.sites[0].memcached.restart();
    eventually("both keys are on both sides", SOON, || {
        let holds_both = |site: usize| {
            let mut client = fleet.sites[site].memcached.client();
            client.send(Frame { key: &raw, ..Frame::new(GET) }.bytes()).unwrap();
            let raw_is_there = reply(&mut client).unwrap().status == 0;
            raw_is_there && fleet.sites[site].memcached.client().get("plain").unwrap().is_some()
        };
        (holds_both(0) && holds_both(1)).then_some(())
    });
    fleet.wait_in_sync(SOON);
}
