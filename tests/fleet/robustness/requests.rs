//! Requests that are large, many, unknown, or made to look like answers: each is answered as memcached would, to whoever
//! has asked.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use memcloud_tests::Rng;
use memcloud_tests::client::closed;
use memcloud_tests::compare::base64;

use crate::{MIB, pair};

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
