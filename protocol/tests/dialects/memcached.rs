//! A real memcached as the judge of framing.
//!
//! Each line goes out with the data that the decoder says it takes, then `mn`. The data of two bytes is the text
//! `mn`: were it read as a command, there would be two `MN`; were the real `mn` taken for data, none. Without
//! memcached at its usual place there is no judge, and the test says so.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command as Process, Stdio};
use std::time::Duration;

use memcloud_protocol::memcache::binary::{self, HEADER, Header, MAGIC_REQUEST, Opcode};
use memcloud_protocol::memcache::encode::{self, MetaRequest};
use memcloud_protocol::memcache::reply::{Line, classify};
use memcloud_protocol::memcache::text::{Command, Decoded, Framing, Reach, Request, decode};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::grammar::{careless_line, nearly_valid_store, valid_line};

const MEMCACHED: &str = "/usr/bin/memcached";
/// A socket is looked for again and again, for ten seconds at the most: how soon it is there nobody knows.
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);
const LOOKS_MAX: usize = 1_000;

struct Memcached {
    process: Child,
    folder: tempfile::TempDir,
}

impl Memcached {
    fn start() -> Option<Self> {
        if !std::path::Path::new(MEMCACHED).exists() {
            eprintln!("skipped: no {MEMCACHED}");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let mut process = Process::new(MEMCACHED);
        process.args(["-u", "root", "-t", "1", "-s"]).arg(folder.path().join("socket"));
        let process = process.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let server = Self { process, folder };
        let listens = || {
            let found = UnixStream::connect(server.folder.path().join("socket")).is_ok();
            if !found {
                std::thread::sleep(BETWEEN_LOOKS);
            }
            found
        };
        assert!((0..LOOKS_MAX).any(|_| listens()), "memcached does not listen");
        Some(server)
    }

    /// The lines that answer `bytes`, up to that of a `version` sent behind them.
    fn ask(&self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut stream = UnixStream::connect(self.folder.path().join("socket")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        stream.write_all(&[bytes, b"version\r\n"].concat()).unwrap();
        let mut answers = BufReader::new(stream);
        let mut lines = Vec::new();
        loop {
            let mut line = Vec::new();
            answers.read_until(b'\n', &mut line).expect("an answer to `version`");
            let line = line.strip_suffix(b"\r\n").expect("no close before the answer to `version`");
            match classify(line) {
                Line::Version if lines.contains(&b"MN".to_vec()) => return lines,
                Line::Va { len } | Line::Value { len } => {
                    std::io::copy(&mut answers.by_ref().take(len + 2), &mut std::io::sink()).unwrap();
                }
                _ => {}
            }
            lines.push(line.to_vec());
            assert!(lines.len() < 1000, "no barrier: {:?}", String::from_utf8_lossy(bytes));
        }
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a packet and the noop behind it are answered with: opcode, status and opaque of each; the flag says that
/// the connection was closed.
fn ask_packets(server: &Memcached, bytes: &[u8]) -> (Vec<(u8, u16, u32)>, bool) {
    let mut stream = UnixStream::connect(server.folder.path().join("socket")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answers = Vec::new();
    let mut head = [0; HEADER];
    loop {
        match stream.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("no answer to the noop: {bytes:?}"),
            Err(_) => return (answers, true),
        }
        let header = Header::read(&head).unwrap();
        std::io::copy(&mut (&stream).take(u64::from(header.body_len)), &mut std::io::sink()).unwrap();
        answers.push((header.opcode, header.status_or_vbucket, header.opaque));
        if header.opaque == BARRIER {
            return (answers, false);
        }
    }
}

fn packet(header: Header, behind: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Header { magic: MAGIC_REQUEST, ..header }.write(&mut out);
    out.extend_from_slice(behind);
    out
}

/// A valid packet and its data are followed by the noop; behind an invalid one the connection is closed.
fn check_packet(server: &Memcached, head: &[u8]) {
    let binary::Decoded::Request(request) = binary::decode(head) else { panic!("{head:?}") };
    let noop = packet(Header { opcode: 0x0a, opaque: BARRIER, ..Header::default() }, b"");
    let data = vec![b'7'; usize::try_from(request.body).unwrap()];
    let (answers, closed) = ask_packets(server, &[head, &data, &noop].concat());
    assert_eq!(closed, !request.valid, "{head:?}: {answers:x?}");
    let own: Vec<_> = answers.iter().filter(|answer| answer.2 != BARRIER).collect();
    match (request.quiet, request.valid) {
        (_, false) => assert!(matches!(own[..], [(_, 0x04 | 0x81, _)]), "{head:?}: {own:x?}"),
        (None, true) if request.opcode == Opcode::Stat => {}
        (None, true) => assert_eq!(own.len(), 1, "{head:?}"),
        (Some(_), true) => {
            assert!(own.iter().all(|answer| !request.opcode.quiet_hides(answer.1)), "{head:?}: {own:x?}");
        }
    }
}

const BARRIER: u32 = 0x0b0a_0908;

fn with_data(line: &[u8], body: u64) -> Vec<u8> {
    let data: &[u8] = match body {
        0 => b"",
        2 => b"\r\n",
        4 => b"mn\r\n",
        other => panic!("a body of {other} bytes, in {:?}", String::from_utf8_lossy(line)),
    };
    [line, data, b"mn\r\n"].concat()
}

/// Answers before the barrier. The lines of a list count as one with its end.
fn answers(lines: &[Vec<u8>]) -> usize {
    let before = lines.iter().take_while(|line| *line != b"MN");
    before.filter(|line| !matches!(classify(line), Line::Value { .. } | Line::Stat)).count()
}

fn check(server: &Memcached, framing: &Framing, line: &[u8]) {
    let Decoded::Request(request) = decode(line, framing) else { panic!() };
    if !matches!(
        request.command,
        Command::Quit | Command::Watch | Command::Dump | Command::Shutdown | Command::MetaNoop
    ) {
        let lines = server.ask(&with_data(line, request.body));
        let barriers = lines.iter().filter(|line| *line == b"MN").count();
        let expected = if is_noop(line) { 2 } else { 1 };
        assert_eq!(barriers, expected, "{:?}: {lines:?}", String::from_utf8_lossy(line));
        check_answers(server, &request, answers(&lines));
    }
}

/// A plainly valid line has exactly one answer once its quiet token is cut out, and with the token that very
/// answer or none, as foretold.
fn check_answers(server: &Memcached, request: &Request<'_>, found: usize) {
    let name = String::from_utf8_lossy(request.line);
    match request.command {
        Command::Odd => {}
        _ if request.quiet.is_none() => assert_eq!(found, 1, "{name:?}"),
        command => {
            let (first, second) = request.loud();
            for present in [false, true] {
                let before = prelude(request, present);
                let answers = |line: &[u8]| {
                    let lines = server.ask(&[&before[..], &with_data(line, request.body)].concat());
                    lines.split(|line| line == b"MN").nth(1).unwrap().to_vec()
                };
                let (quiet, loud) = (answers(request.line), answers(&[first, second].concat()));
                assert_eq!(loud.len(), 1, "{name:?} made loud: {loud:?}");
                let hidden = match command {
                    Command::Meta(meta) => meta.verb.quiet_hides(&classify(&loud[0])),
                    _ => true,
                };
                assert_eq!(quiet.len(), usize::from(!hidden), "{name:?} after {loud:?}: {quiet:?}");
            }
        }
    }
}

/// Brings about that the line's key is there, or is not, and ends in a barrier.
fn prelude(request: &Request<'_>, present: bool) -> Vec<u8> {
    let mut out = Vec::new();
    if let Reach::Key(key) = request.reach() {
        MetaRequest::delete(&key, &mut out).unwrap().flag(b'q').finish();
        if present {
            MetaRequest::set(&key, 1, &mut out).unwrap().flag(b'q').finish();
            encode::value(b"5", &mut out);
        }
    }
    out.extend_from_slice(encode::META_NOOP);
    out
}

fn is_noop(line: &[u8]) -> bool {
    line.trim_ascii_start().split(|byte| b" \r\n".contains(byte)).next() == Some(b"mn")
}

#[test]
fn memcached_frames_lines_as_the_decoder_does() {
    let Some(server) = Memcached::start() else { return };
    let version = server.ask(b"version\r\nmn\r\n").remove(0);
    let framing = if newer_than_1_6_39(&version) { Framing::V1_6_45 } else { Framing::V1_6_18 };
    let lines = prop_oneof![2 => valid_line(), 2 => careless_line(), 1 => nearly_valid_store()];
    let mut runner = TestRunner::new(Config { cases: 2000, failure_persistence: None, ..Config::default() });
    runner
        .run(&lines, |line| {
            check(&server, &framing, &line);
            Ok(())
        })
        .unwrap();
}

#[test]
fn memcached_frames_packets_as_the_decoder_does() {
    let Some(server) = Memcached::start() else { return };
    // quit closes whatever else is right.
    let opcode = (0u8..0x40).prop_filter("quit", |opcode| !matches!(opcode, 0x07 | 0x17));
    let extras = prop_oneof![Just(0), Just(4), Just(8), Just(20), 0usize..23];
    let key = prop_oneof![2 => Just(0), 8 => 1usize..4, 1 => Just(250), 1 => Just(251)];
    let value = prop_oneof![Just(0), 1u32..40];
    let cas = prop_oneof![4 => Just(0), 1 => 1u64..20];
    let packets = (opcode, extras, key, value, cas).prop_map(|(opcode, extras, key, value, cas)| {
        let (extras_len, key_len) = (extras as u8, key as u16);
        let body_len = u32::from(extras_len) + u32::from(key_len) + value;
        let header = Header { opcode, key_len, extras_len, body_len, opaque: 1, cas, ..Header::default() };
        packet(header, &[vec![0; extras], vec![b'k'; key]].concat())
    });
    let mut runner = TestRunner::new(Config { cases: 2000, failure_persistence: None, ..Config::default() });
    runner
        .run(&packets, |head| {
            check_packet(&server, &head);
            Ok(())
        })
        .unwrap();
}

fn newer_than_1_6_39(version_line: &[u8]) -> bool {
    let text = String::from_utf8_lossy(version_line).into_owned();
    let numbers: Vec<u32> =
        text.trim_start_matches("VERSION ").split('.').map_while(|n| n.parse().ok()).collect();
    numbers.as_slice() > [1, 6, 39].as_slice()
}
