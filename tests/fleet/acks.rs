//! `--ack peer`: what was answered is at the peers, and what happens when one of them cannot say so.

#![allow(clippy::unwrap_used, reason = "a broken expectation of a test ends the test")]

use std::time::{Duration, Instant};

use memcloud_tests::binary::{self, Frame, reply};
use memcloud_tests::{Client, Fleet, Plan, Rng, eventually};

const SOON: Duration = Duration::from_secs(20);
/// Long enough that no healthy peer lets it pass, however busy the machine.
const PATIENT: &str = "20s";
const SHORT: Duration = Duration::from_millis(300);
const AWAY: &str = "SERVER_ERROR done here, but a peer is away";
const LATE: &str = "SERVER_ERROR done here, but a peer has not confirmed it in time";

fn plan(sites: usize, timeout: &str, more: &[&str]) -> Fleet {
    let flags = ["--ack", "peer", "--ack-timeout", timeout];
    let fleet = Plan::of(sites).sidecars(&flags).sidecars(more).start();
    for site in &fleet.sites {
        eventually("all peers are live", SOON, || {
            let status = site.sidecar.status();
            let peers = status["peers"].as_array()?.clone();
            peers.iter().all(|peer| peer["live"] == true).then_some(())
        });
    }
    fleet
}

fn short() -> String {
    format!("{}ms", SHORT.as_millis())
}

fn acks(fleet: &Fleet, outcome: &str) -> f64 {
    let label = format!("outcome=\"{outcome}\"");
    fleet.sites[0].sidecar.metric("memcloud_proxy_acks_total", &[&label])
}

/// A value as memcached itself holds it.
fn held(direct: &mut Client, key: &str) -> Option<Vec<u8>> {
    direct.get(key).unwrap()
}

#[test]
fn every_answered_write_is_at_the_peer() {
    let fleet = plan(2, PATIENT, &[]);
    let (mut client, mut direct) = (fleet.sites[0].sidecar.client(), fleet.sites[1].memcached.client());
    let mut rng = Rng::announced("acks", 3);
    for round in 0..600 {
        let key = format!("key{}", rng.below(50));
        let value = format!("{round}");
        assert_eq!(client.set(&key, value.as_bytes()).unwrap(), "STORED");
        assert_eq!(held(&mut direct, &key).unwrap(), value.as_bytes());
        assert_eq!(client.ask(&format!("append {key} 0 0 1\r\nx")), "STORED");
        assert_eq!(held(&mut direct, &key).unwrap(), format!("{value}x").as_bytes());
        assert_eq!(client.ask(&format!("ms {key} 1 T60\r\n5")), "HD");
        assert_eq!(client.ask(&format!("incr {key} {round}")), format!("{}", 5 + round));
        assert_eq!(held(&mut direct, &key).unwrap(), format!("{}", 5 + round).as_bytes());
        assert_eq!(client.ask(&format!("md {key} q\r\nmn")), "MN");
        assert_eq!(held(&mut direct, &key), None);
        assert_eq!(client.ask(&format!("ma {key} N0 J7")), "HD");
        assert_eq!(held(&mut direct, &key).unwrap(), b"7");
        assert_eq!(client.ask(&format!("delete {key}")), "DELETED");
        assert_eq!(held(&mut direct, &key), None);
    }
    assert_eq!(client.ask("set all 0 0 1\r\nx"), "STORED");
    assert_eq!(client.ask("flush_all"), "OK");
    assert_eq!(held(&mut direct, "all"), None);
    let waited = fleet.sites[0].sidecar.metric("memcloud_proxy_ack_wait_seconds_count", &[]);
    assert!(acks(&fleet, "peer") >= 4200.0, "{}", acks(&fleet, "peer"));
    assert!(waited >= 4200.0, "{waited}");
    assert_eq!(acks(&fleet, "degraded") + acks(&fleet, "timeout") + acks(&fleet, "failed"), 0.0);
    assert_eq!(fleet.sites[0].sidecar.status()["ack"]["mode"], "peer");
}

/// What takes other ways through a session: a body that streams, an odd line, an expiry, a read that touches.
#[test]
fn rare_writes_wait_as_well() {
    let fleet = plan(2, PATIENT, &[]);
    let (mut client, mut direct) = (fleet.sites[0].sidecar.client(), fleet.sites[1].memcached.client());
    for round in 0..50_u64 {
        let large = format!("{round:010}").repeat(20_000);
        assert_eq!(client.set("large", large.as_bytes()).unwrap(), "STORED");
        assert_eq!(held(&mut direct, "large").unwrap(), large.as_bytes());
        let mut odd = fleet.sites[0].sidecar.client();
        assert_eq!(odd.ask(&format!(" set  odd 0 0 3\r\n{:03}", round)), "STORED");
        assert_eq!(held(&mut direct, "odd").unwrap(), format!("{round:03}").as_bytes());
        let mut other = fleet.sites[0].sidecar.client();
        other.send(format!("gat {} large odd none\r\n", 1000 + round)).unwrap();
        let answer = other.until(b"END\r\n").unwrap();
        assert!(
            answer.starts_with(b"VALUE large")
                && memcloud_tests::client::find(&answer, b"VALUE odd").is_some()
        );
        for key in ["large", "odd"] {
            let left: u64 = direct.ask(&format!("mg {key} t")).strip_prefix("HD t").unwrap().parse().unwrap();
            assert!(left.abs_diff(1000 + round) <= 2, "{left}");
        }
        assert_eq!(other.ask(&format!("mg won{round} N30 t")), "HD t30 W");
        assert!(direct.ask(&format!("mg won{round} t")).starts_with("HD t"));
    }
}

/// Reads between writes keep their places, and nothing of a pipeline is answered before its writes are at the peer.
#[test]
fn pipelines_keep_their_order_and_wait_as_a_whole() {
    let fleet = plan(2, PATIENT, &[]);
    let (mut client, mut direct) = (fleet.sites[0].sidecar.client(), fleet.sites[1].memcached.client());
    for round in 0..100 {
        let mut requests = String::new();
        let mut answers = String::new();
        for number in 0..50 {
            requests += &format!(
                "set k{number} 0 0 4\r\n{round:04}\r\nget k{number}\r\nincr none 1\r\nset q{number} 0 0 1 noreply\r\nx\r\n"
            );
            answers += &format!("STORED\r\nVALUE k{number} 0 4\r\n{round:04}\r\nEND\r\nNOT_FOUND\r\n");
        }
        client.send(&requests).unwrap();
        let got = client.take(answers.len()).unwrap();
        assert_eq!(String::from_utf8(got).unwrap(), answers);
        for number in 0..50 {
            assert_eq!(held(&mut direct, &format!("k{number}")).unwrap(), format!("{round:04}").as_bytes());
        }
    }
    assert!(client.pending().is_empty());
}

#[test]
fn binary_writes_wait_and_quiet_ones_hold_what_follows() {
    let fleet = plan(2, PATIENT, &[]);
    let (mut client, mut direct) = (fleet.sites[0].sidecar.client(), fleet.sites[1].memcached.client());
    let set = |opcode, key: &str, value: &str, opaque| {
        Frame { extras: &[0; 8], key: key.as_bytes(), value: value.as_bytes(), opaque, ..Frame::new(opcode) }
            .bytes()
    };
    for round in 0..1000_u32 {
        client.send(set(binary::SET, "loud", &round.to_string(), round)).unwrap();
        assert_eq!(reply(&mut client).unwrap().status, 0);
        assert_eq!(held(&mut direct, "loud").unwrap(), round.to_string().as_bytes());
        let mut batch = Vec::new();
        for number in 0..5 {
            batch.extend(set(binary::SETQ, &format!("quiet{number}"), &round.to_string(), 7));
        }
        batch.extend(Frame { opaque: round, ..Frame::new(binary::NOOP) }.bytes());
        client.send(&batch).unwrap();
        let noop = reply(&mut client).unwrap();
        assert_eq!((noop.opcode, noop.opaque), (binary::NOOP, round));
        for number in 0..5 {
            assert_eq!(held(&mut direct, &format!("quiet{number}")).unwrap(), round.to_string().as_bytes());
        }
    }
}

/// Many sessions on several workers at once: each sees its own write at the peer.
#[test]
fn many_sessions_wait_at_once() {
    let fleet = plan(2, PATIENT, &["--workers", "2"]);
    let (through, direct) = (fleet.sites[0].sidecar.address(), fleet.sites[1].memcached.address());
    std::thread::scope(|scope| {
        for session in 0..16 {
            scope.spawn(move || {
                let (mut client, mut direct) = (Client::to(through), Client::to(direct));
                for round in 0..100 {
                    // One key of its own, and one that all write.
                    assert_eq!(client.set("hot", b"x").unwrap(), "STORED");
                    let key = format!("session{session}");
                    assert_eq!(client.set(&key, round.to_string().as_bytes()).unwrap(), "STORED");
                    assert_eq!(held(&mut direct, &key).unwrap(), round.to_string().as_bytes());
                }
            });
        }
    });
    assert!(acks(&fleet, "peer") >= 3200.0);
}

#[test]
fn a_frozen_peer_costs_one_wait() {
    let fleet = plan(2, &short(), &["--peer-timeout", "60s"]);
    let mut client = fleet.sites[0].sidecar.client();
    assert_eq!(client.set("before", b"x").unwrap(), "STORED");
    fleet.sites[1].sidecar.process().freeze();
    let started = Instant::now();
    assert_eq!(client.set("first", b"x").unwrap(), "STORED");
    assert!(started.elapsed() >= SHORT, "{:?}", started.elapsed());
    assert!(acks(&fleet, "timeout") >= 1.0);
    let timeouts = acks(&fleet, "timeout");
    // From now on it is known to be behind, and nobody waits.
    let started = Instant::now();
    for round in 0..100 {
        assert_eq!(client.set("next", round.to_string().as_bytes()).unwrap(), "STORED");
    }
    assert!(started.elapsed() < SHORT * 20, "{:?}", started.elapsed());
    assert_eq!((acks(&fleet, "timeout"), acks(&fleet, "degraded")), (timeouts, 100.0));
    assert_eq!(fleet.sites[0].sidecar.status()["peers"][0]["live"], false);
    fleet.sites[1].sidecar.process().thaw();
    is_waited_for_again(&fleet);
}

fn is_waited_for_again(fleet: &Fleet) {
    eventually("the peer is live again", SOON, || {
        (fleet.sites[0].sidecar.status()["peers"][0]["live"] == true).then_some(())
    });
    let (mut client, mut direct) = (fleet.sites[0].sidecar.client(), fleet.sites[1].memcached.client());
    let before = acks(fleet, "peer");
    assert_eq!(client.set("again", b"y").unwrap(), "STORED");
    assert_eq!(held(&mut direct, "again").unwrap(), b"y");
    assert!(acks(fleet, "peer") > before);
}

#[test]
fn with_fallback_fail_a_late_peer_and_one_that_is_away_are_errors() {
    let fleet = plan(2, &short(), &["--peer-timeout", "60s", "--ack-fallback", "fail"]);
    let mut client = fleet.sites[0].sidecar.client();
    fleet.sites[1].sidecar.process().freeze();
    let started = Instant::now();
    // The write that was late, those that stood behind it, and the read between them.
    client
        .send("set a 0 0 1\r\nx\r\nget none\r\nms b 1 q\r\ny\r\nset c 0 0 1 noreply\r\nz\r\nmn\r\n")
        .unwrap();
    let lines: Vec<String> = (0..4).map(|_| client.line().unwrap().trim_end().to_owned()).collect();
    assert!(started.elapsed() >= SHORT, "{:?}", started.elapsed());
    assert_eq!((lines[0].as_str(), lines[1].as_str(), lines[3].as_str()), (LATE, "END", "MN"));
    assert!(lines[2] == LATE || lines[2] == AWAY, "{lines:?}");
    assert_eq!(client.set("a", b"2").unwrap(), AWAY);
    assert_eq!(client.ask("add a 0 0 1\r\nx"), "NOT_STORED", "what changes nothing waits for nobody");
    client.send("gat 100 none a b\r\n").unwrap();
    assert_eq!(client.line().unwrap().trim_end(), AWAY, "as one answer");
    assert_eq!(client.ask(" set  odd 0 0 1\r\n1"), AWAY);
    let mut packets = fleet.sites[0].sidecar.client();
    for (opcode, opaque) in [(binary::SET, 5), (binary::SETQ, 6)] {
        let frame = Frame { extras: &[0; 8], key: b"d", value: b"v", opaque, ..Frame::new(opcode) };
        packets.send(frame.bytes()).unwrap();
        let refused = reply(&mut packets).unwrap();
        assert_eq!((refused.opcode, refused.opaque, refused.status), (opcode, opaque, 0x86));
    }
    // All of them stand here.
    let mut direct = fleet.sites[0].memcached.client();
    for (key, value) in [("a", "2"), ("b", "y"), ("c", "z"), ("odd", "1"), ("d", "v")] {
        assert_eq!(held(&mut direct, key).unwrap(), value.as_bytes(), "{key}");
    }
    assert!(acks(&fleet, "failed") >= 7.0, "{}", acks(&fleet, "failed"));
    fleet.sites[1].sidecar.process().thaw();
    is_waited_for_again(&fleet);
}

#[test]
fn a_peer_that_is_away_delays_nobody_and_comes_back() {
    let fleet = plan(2, PATIENT, &["--peer-timeout", "60s"]);
    let mut client = fleet.sites[0].sidecar.client();
    // Cut while something waits: that ends the wait.
    fleet.cable(0, 1).stall(memcloud_tests::Direction::Forward);
    client.send("set waits 0 0 1\r\nx\r\n").unwrap();
    eventually("it waits", SOON, || {
        (fleet.sites[0].sidecar.status()["peers"][0]["backlog_entries"].as_u64() > Some(0)).then_some(())
    });
    fleet.part(0, 1);
    assert_eq!(client.line().unwrap(), "STORED\r\n");
    for round in 0..2000 {
        assert_eq!(client.set(&format!("k{}", round % 100), round.to_string().as_bytes()).unwrap(), "STORED");
    }
    assert!(acks(&fleet, "degraded") >= 2001.0);
    fleet.heal();
    is_waited_for_again(&fleet);
    fleet.wait_in_sync(SOON);
    assert_eq!(acks(&fleet, "timeout"), 0.0);
}

#[test]
fn of_two_peers_the_live_one_is_waited_for() {
    let fleet = plan(3, PATIENT, &[]);
    fleet.part(0, 2);
    eventually("one is away", SOON, || {
        let status = fleet.sites[0].sidecar.status();
        (status["peers"][1]["live"] == false && status["peers"][0]["live"] == true).then_some(())
    });
    let (mut client, mut direct) = (fleet.sites[0].sidecar.client(), fleet.sites[1].memcached.client());
    for round in 0..1000 {
        assert_eq!(client.set("k", round.to_string().as_bytes()).unwrap(), "STORED");
        assert_eq!(held(&mut direct, "k").unwrap(), round.to_string().as_bytes());
    }
    assert!(acks(&fleet, "degraded") >= 1000.0);
    fleet.heal();
    let mut third = fleet.sites[2].memcached.client();
    eventually("both are live", SOON, || {
        let status = fleet.sites[0].sidecar.status();
        (status["peers"][1]["live"] == true && status["peers"][0]["live"] == true).then_some(())
    });
    assert_eq!(client.set("k", b"last").unwrap(), "STORED");
    assert_eq!(
        (held(&mut direct, "k"), held(&mut third, "k")),
        (Some(b"last".to_vec()), Some(b"last".to_vec()))
    );
}

/// A proxy that stops does not wait longer for peers than its drain allows, and a session that ends while its answers
/// wait leaves nothing behind.
#[test]
fn a_drain_ends_all_waits() {
    let mut fleet = plan(2, "1h", &["--peer-timeout", "1h", "--drain-timeout", "2s"]);
    let mut client = fleet.sites[0].sidecar.client();
    fleet.sites[1].sidecar.process().freeze();
    let mut gone = fleet.sites[0].sidecar.client();
    gone.send("set gone 0 0 1\r\nx\r\n").unwrap();
    gone.vanish();
    // No more is read of an app than may wait; what it sent before is answered.
    let mut eager = fleet.sites[0].sidecar.client();
    let mut writer = eager.writer();
    let flood = std::thread::spawn(move || {
        let batch = "set eager 0 0 1\r\nx\r\n".repeat(1000);
        (0..100).all(|_| std::io::Write::write_all(&mut writer, batch.as_bytes()).is_ok())
    });
    client.send("set held 0 0 1\r\nx\r\n").unwrap();
    let mut direct = fleet.sites[0].memcached.client();
    eventually("as much as may wait does", SOON, || (direct.stat("cmd_set") > 16_384).then_some(()));
    let resident = fleet.sites[0].sidecar.process().resident_bytes();
    assert!(resident < 256 << 20, "{resident}");
    // What may be in flight on top of it is 1024.
    assert!(direct.stat("cmd_set") < 18_000, "{}", direct.stat("cmd_set"));
    let started = Instant::now();
    fleet.sites[0].sidecar.process().signal(rustix::process::Signal::TERM);
    assert_eq!(client.line().unwrap(), "STORED\r\n");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!(eager.line().unwrap(), "STORED\r\n");
    let status = fleet.sites[0].sidecar.process_mut().wait(SOON);
    assert!(status.success(), "{status}");
    fleet.sites[1].sidecar.process().thaw();
    eager.end();
    flood.join().unwrap();
}

/// Answers that tell of no change wait for nothing, and leave those before them to the peer: behind a write of the same
/// breath an odd line, and a body that streams.
#[test]
fn what_changes_nothing_takes_no_other_answer_with_it() {
    let fleet = plan(2, PATIENT, &[]);
    let mut client = fleet.sites[0].sidecar.client();
    let large = "v".repeat(200_000);
    assert_eq!(client.set("large", large.as_bytes()).unwrap(), "STORED");
    for _ in 0..20 {
        let mut odd = fleet.sites[0].sidecar.client();
        assert!(odd.ask("incr none nothing").starts_with("CLIENT_ERROR"));
        odd.send("set small 0 0 1\r\nx\r\nincr small nothing\r\nmn\r\n").unwrap();
        let answers = odd.until(b"MN\r\n").unwrap();
        assert!(answers.starts_with(b"STORED\r\nCLIENT_ERROR"), "{}", answers.escape_ascii());
        client.send("set small 0 0 1\r\nx\r\nadd large 0 0 200000\r\n").unwrap();
        client.send(format!("{large}\r\nmn\r\n")).unwrap();
        assert_eq!(client.until(b"MN\r\n").unwrap(), b"STORED\r\nNOT_STORED\r\nMN\r\n");
    }
    drop(client);
    eventually("no session is left behind", SOON, || {
        (fleet.sites[0].sidecar.status()["sessions"] == 0).then_some(())
    });
}

/// An answer of several values that tells of changes is held, but not until it is whole: it may be more than a session keeps.
#[test]
fn many_large_values_are_touched() {
    let fleet = plan(2, PATIENT, &[]);
    let mut client = fleet.sites[0].sidecar.client();
    let keys: Vec<String> = (0..12).map(|number| format!("key{number}")).collect();
    let value = vec![b'v'; 100_000];
    for key in &keys {
        assert_eq!(client.set(key, &value).unwrap(), "STORED");
    }
    let keys = keys.join(" ");
    for request in [format!("gat 1000 {keys}"), format!("gat  1000 {keys}")] {
        client.send(format!("{request}\r\n")).unwrap();
        let answer = client.until(b"END\r\n").unwrap();
        assert!(answer.len() > 12 * value.len(), "{request}: {} bytes", answer.len());
        assert_eq!(client.ask("mn"), "MN");
    }
    let mut direct = fleet.sites[1].memcached.client();
    eventually("they are touched at the peer", SOON, || (direct.ask("mg key11 t") != "HD t-1").then_some(()));
}
