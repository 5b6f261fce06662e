//! Apps that are slow, idle, gone, or too many: memory stays bounded, and others notice nothing.

use std::time::{Duration, Instant};

use memcloud_tests::client::Client;
use memcloud_tests::process::raise_open_files;
use memcloud_tests::{Rng, eventually};

use crate::{MIB, Pair, SOON, pair};

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
    // The connection that asked whether the sidecar is there may still count, or not count yet.
    let mut within = eventually("three are served", SOON, || {
        let mut clients: Vec<Client> = (0..3).map(|_| pair.sidecar.client()).collect();
        let is_served =
            |client: &mut Client| client.try_ask("version").is_ok_and(|said| said.starts_with("VERSION "));
        clients.iter_mut().all(is_served).then_some(clients)
    });
    let refused = pair.sidecar.client().rest().unwrap();
    assert_eq!(refused, b"ERROR Too many open connections\r\n");
    drop(within.pop());
    eventually("a place is free again", SOON, || {
        pair.sidecar.client().try_ask("version").ok()?.starts_with("VERSION ").then_some(())
    });
    assert_eq!(within[0].set("k", b"v").unwrap(), "STORED");
}
