//! What goes wrong around the sidecar stays where it went wrong: bounded memory, no effect on others, plain words.

#![allow(clippy::unwrap_used, reason = "a broken expectation of a test ends the test")]

use std::io::Write;
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use memcloud_tests::client::{Client, closed};
use memcloud_tests::compare::base64;
use memcloud_tests::process::{Folder, Process, raise_open_files};
use memcloud_tests::sidecar::{Settings, binary};
use memcloud_tests::{Memcached, Rng, Sidecar, eventually, ports};
use rustix::process::Signal;

struct Pair {
    sidecar: Sidecar,
    memcached: Memcached,
    folder: Folder,
}

fn pair(memcached: &[&str], flags: &[&str]) -> Pair {
    let folder = Folder::new();
    let memcached = Memcached::start("memcached", &folder, memcached);
    let sidecar = Sidecar::start(Settings::new("r", memcached.address()).with(flags), &folder);
    Pair { sidecar, memcached, folder }
}

const SOON: Duration = Duration::from_secs(10);
const MIB: u64 = 1024 * 1024;

/// Asks for far more than any buffer holds and reads nothing: the sidecar must not take it all into memory, others
/// must not notice, and once it reads it gets everything.
#[test]
fn a_slow_reader_costs_bounded_memory() {
    let pair = pair(&["-m", "256"], &[]);
    let value = Rng::new(1).letters(512 * 1024);
    assert_eq!(pair.sidecar.client().set("large", &value).unwrap(), "STORED");
    let before = pair.sidecar.process().resident_bytes();
    let mut slow: Vec<Client> = (0..4).map(|_| pair.sidecar.client()).collect();
    let asked = 200;
    for client in &mut slow {
        client.send("get large\r\n".repeat(asked)).unwrap();
    }
    let mut other = pair.sidecar.client();
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        let started = Instant::now();
        assert_eq!(other.set("small", b"x").unwrap(), "STORED");
        assert!(
            started.elapsed() < Duration::from_secs(2),
            "another session waited for {:?}",
            started.elapsed()
        );
    }
    let grown = pair.sidecar.process().resident_peak_bytes().saturating_sub(before);
    println!(
        "4 slow readers, {} MiB asked for: {} MiB more",
        4 * asked * value.len() / MIB as usize,
        grown / MIB
    );
    assert!(grown < 96 * MIB, "grew by {} MiB", grown / MIB);
    for _ in 0..asked {
        let head = slow[0].line().unwrap();
        assert_eq!(head, format!("VALUE large 0 {}\r\n", value.len()));
        assert_eq!(slow[0].take(value.len()).unwrap(), value);
        assert_eq!(slow[0].take(7).unwrap(), b"\r\nEND\r\n");
    }
}

/// The first half of a request waits as long as it likes, and holds up nobody, whatever its kind.
#[test]
fn half_sent_requests_hold_up_nobody() {
    let pair = pair(&[], &["--shared-connections", "1", "--workers", "1"]);
    let halves: [&[u8]; 6] = [
        b"get hal",
        b"set half 0 0 10\r\nabc",
        b"set half 0 0 500000\r\nabc",
        b"ms half 10\r\n12345",
        b"\x80\x01\x00\x04",
        b"get half\r\nset half 0 0 3\r\nab",
    ];
    let mut waiting: Vec<Client> = halves
        .iter()
        .map(|half| {
            let mut client = pair.sidecar.client();
            client.send(half).unwrap();
            client
        })
        .collect();
    let mut other = pair.sidecar.client();
    for number in 0..200 {
        assert_eq!(other.set("half", number.to_string().as_bytes()).unwrap(), "STORED");
        assert_eq!(other.get("half").unwrap().unwrap(), number.to_string().as_bytes());
    }
    waiting[1].send("defghij\r\n").unwrap();
    assert_eq!(waiting[1].line().unwrap(), "STORED\r\n");
    assert_eq!(other.get("half").unwrap().unwrap(), b"abcdefghij");
    waiting[0].send("f\r\n").unwrap();
    assert_eq!(waiting[0].until(b"END\r\n").unwrap(), b"VALUE half 0 10\r\nabcdefghij\r\nEND\r\n");
}

/// Clients that vanish in the middle, by a reset or in order, leave nothing behind and harm nobody.
#[test]
fn vanishing_clients_leave_nothing_behind() {
    let pair = pair(&[], &[]);
    let mut rng = Rng::announced("vanishing clients", 7);
    let mut other = pair.sidecar.client();
    let sessions = |pair: &Pair| pair.sidecar.status()["sessions"].as_u64();
    assert_eq!(other.set("steady", b"1").unwrap(), "STORED");
    for round in 0..300 {
        let mut client = pair.sidecar.client();
        let request: &[u8] = match round % 6 {
            0 => b"get steady\r\n",
            1 => b"set gone 0 0 100\r\nhalf of it",
            2 => b"incr counter 1\r\nget steady\r\nget steady\r\nset x 0 0 1\r\n1\r\n",
            3 => b"ms gone 5 q\r\n12345\r\nmg gone v\r\n",
            4 => b"\x80\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            _ => b"",
        };
        client.send(request).unwrap();
        if rng.chance(50) {
            client.vanish()
        } else {
            drop(client)
        }
        assert_eq!(other.get("steady").unwrap().unwrap(), b"1");
    }
    eventually("only the other session is left", SOON, || (sessions(&pair) == Some(1)).then_some(()));
    // A write whose client has gone is still a write: the gate of its key is free again.
    for key in ["gone", "x", "counter"] {
        assert_eq!(other.set(key, b"after").unwrap(), "STORED");
    }
}

#[test]
fn thousands_of_idle_connections() {
    let limit = raise_open_files();
    let count = 5000.min(limit.saturating_sub(500) / 2) as usize;
    let pair = pair(&["-c", "512"], &[]);
    let before = pair.sidecar.process().resident_bytes();
    let mut idle: Vec<Client> = (0..count).map(|_| pair.sidecar.client()).collect();
    for (number, client) in idle.iter_mut().enumerate() {
        assert_eq!(client.set(&format!("idle{}", number % 100), b"x").unwrap(), "STORED");
    }
    eventually("all are counted", SOON, || {
        (pair.sidecar.status()["sessions"].as_u64() == Some(count as u64)).then_some(())
    });
    let grown = pair.sidecar.process().resident_bytes().saturating_sub(before);
    println!("{count} idle sessions: {} bytes each", grown / count as u64);
    assert!(grown / (count as u64) < 16 * 1024, "{} bytes for each idle session", grown / count as u64);
    let mut busy = pair.sidecar.client();
    let started = Instant::now();
    for _ in 0..200 {
        assert_eq!(busy.get("idle7").unwrap().unwrap(), b"x");
    }
    assert!(started.elapsed() < SOON);
    drop(idle);
    eventually("the idle ones are gone", SOON, || {
        (pair.sidecar.status()["sessions"].as_u64() == Some(1)).then_some(())
    });
}

#[test]
fn beyond_the_limit_memcacheds_own_words() {
    let pair = pair(&[], &["--max-sessions", "3"]);
    // The connection that asked whether the sidecar is there may still count.
    eventually("no session", SOON, || (pair.sidecar.status()["sessions"].as_u64() == Some(0)).then_some(()));
    let mut within: Vec<Client> = (0..3).map(|_| pair.sidecar.client()).collect();
    for client in &mut within {
        assert!(client.ask("version").starts_with("VERSION "));
    }
    let refused = pair.sidecar.client().rest().unwrap();
    assert_eq!(refused, b"ERROR Too many open connections\r\n");
    drop(within.pop());
    eventually("a place is free again", SOON, || {
        pair.sidecar.client().try_ask("version").ok()?.starts_with("VERSION ").then_some(())
    });
    assert_eq!(within[0].set("k", b"v").unwrap(), "STORED");
}

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

#[test]
fn values_of_all_sizes() {
    let pair = pair(&["-I", "64m", "-m", "1024"], &[]);
    let mut rng = Rng::new(3);
    let sizes =
        [0, 1, 1024, 16 * 1024 - 1, 16 * 1024, 64 * 1024 + 1, 1024 * 1024, 10 << 20, (64 << 20) - 1024];
    let mut text = pair.sidecar.client();
    text.set_patience(Duration::from_secs(60));
    for size in sizes {
        let value = rng.letters(size);
        assert_eq!(text.set("value", &value).unwrap(), "STORED", "{size} bytes");
        assert!(text.get("value").unwrap() == Some(value.clone()), "get of {size} bytes");
        text.send("mg value s v\r\n").unwrap();
        assert_eq!(text.line().unwrap(), format!("VA {size} s{size}\r\n"));
        let mut expected = value;
        expected.extend(b"\r\n");
        assert!(text.take(size + 2).unwrap() == expected, "mg of {size} bytes");
    }
    // Exactly as large as the limit is too large: an item has a head.
    let value = rng.letters(64 << 20);
    assert_eq!(text.set("value", &value).unwrap(), "SERVER_ERROR object too large for cache");
    assert_eq!(text.get("value").unwrap(), None);
    println!("peak memory {} MiB", pair.sidecar.process().resident_peak_bytes() / MIB);
}

/// Ten thousand requests in one go, of all kinds, quiet and loud, read at the end.
#[test]
fn deep_pipelines_of_mixed_verbs() {
    for connections in ["shared", "dedicated"] {
        let pair = pair(&["-m", "128"], &["--upstream-connections", connections]);
        let mut rng = Rng::announced("deep pipelines", 11);
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for number in 0..10_000 {
            let key = format!("p{}", rng.below(50));
            let (request, answer) = match rng.below(9) {
                0 => (format!("set {key} 0 0 4\r\n{number:04}\r\n"), "STORED\r\n".to_owned()),
                1 => (format!("set {key} 0 0 4 noreply\r\n{number:04}\r\n"), String::new()),
                2 => (format!("ms {key} 4 O{number} q\r\n{number:04}\r\n"), String::new()),
                3 => (format!("ms {key} 4 O{number}\r\n{number:04}\r\n"), format!("HD O{number}\r\n")),
                4 => (format!("get none{number}\r\n"), "END\r\n".to_owned()),
                5 => (format!("mg none{number} v O{number}\r\n"), format!("EN O{number}\r\n")),
                6 => (format!("nonsense {number}\r\n"), "ERROR\r\n".to_owned()),
                7 => (format!("delete none{number}\r\n"), "NOT_FOUND\r\n".to_owned()),
                _ => (
                    format!("set {key} 1 0 2\r\nab\r\nget {key}\r\n"),
                    format!("STORED\r\nVALUE {key} 1 2\r\nab\r\nEND\r\n"),
                ),
            };
            bytes.extend(request.into_bytes());
            expected.extend(answer.into_bytes());
        }
        let mut client = pair.sidecar.client();
        let mut writer = client.writer();
        let writing = thread::spawn(move || writer.write_all(&bytes));
        let seen = client.take(expected.len()).unwrap();
        writing.join().unwrap().unwrap();
        let at = seen.iter().zip(&expected).position(|(one, other)| one != other);
        if let Some(at) = at {
            let around = at.saturating_sub(60)..(at + 60).min(seen.len());
            panic!(
                "{connections}: differs at byte {at}:\n{}\n{}",
                seen[around.clone()].escape_ascii(),
                expected[around].escape_ascii()
            );
        }
        assert!(client.ask("version").starts_with("VERSION "));
    }
}

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

/// A command that nobody knows goes to memcached, and its answer comes back.
#[test]
fn unknown_commands_are_memcacheds_business() {
    let pair = pair(&[], &[]);
    let mut client = pair.sidecar.client();
    for _ in 0..50 {
        assert_eq!(client.ask("frobnicate a b c"), "ERROR");
        assert_eq!(client.set("k", b"v").unwrap(), "STORED");
        assert_eq!(client.get("k").unwrap().unwrap(), b"v");
    }
    let garbage: Vec<u8> = (1..=255).filter(|&byte| byte != b'\n').collect();
    let mut other = pair.sidecar.client();
    other.send([garbage.as_slice(), b"\r\n"].concat()).unwrap();
    match other.line() {
        Ok(answer) => assert!(answer.starts_with("ERROR"), "{answer}"),
        Err(error) => assert!(closed(&error), "{error}"),
    }
    assert_eq!(client.get("k").unwrap().unwrap(), b"v");
}

/// memcached answers the flag `k` with the key as it is, line ends and all: what looks like further answers must not
/// reach a neighbour who shares the upstream connection.
#[test]
fn keys_with_line_ends_do_not_reach_neighbours() {
    let pair = pair(&[], &["--shared-connections", "1", "--workers", "1"]);
    let mut odd = pair.sidecar.client();
    let mut neighbour = pair.sidecar.client();
    let key = base64(b"x\r\nEN\r\ny");
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let odd = thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            odd.send(format!(
                "ms {key} 1 b k O1\r\nx\r\nma {key} b k N9 J1 v\r\nmd {key} b k\r\nmd {key} b k\r\nmg {key} b k v N9\r\nmg {key} b k v\r\nmn\r\n"
            ))
            .unwrap();
            odd.until(b"MN\r\n").unwrap();
        }
    });
    for number in 0..3000 {
        let value = number.to_string();
        let seen = (neighbour.set("k", value.as_bytes()).unwrap(), neighbour.get("k").unwrap());
        assert_eq!(seen, ("STORED".to_owned(), Some(value.into_bytes())));
    }
    stop.store(true, Ordering::Relaxed);
    odd.join().unwrap();
}

/// `stats memcloud` is the proxy's, every other `stats` is memcached's.
#[test]
fn stats_memcloud() {
    let pair = pair(&[], &[]);
    let mut client = pair.sidecar.client();
    client.send("stats memcloud\r\n").unwrap();
    let answer = String::from_utf8(client.until(b"END\r\n").unwrap()).unwrap();
    assert!(answer.lines().filter(|line| line.starts_with("STAT ")).count() >= 3, "{answer}");
    assert_eq!(client.stat("pid"), u64::from(pair.memcached.process().pid()));
}
