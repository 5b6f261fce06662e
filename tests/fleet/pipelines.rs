//! Pipelines that nobody would write: whatever they mix, the answers are those of memcached, and nobody else waits.

#![allow(clippy::unwrap_used, reason = "a broken expectation of a test ends the test")]

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use memcloud_tests::binary::{self, Frame, Reply, reply};
use memcloud_tests::process::Folder;
use memcloud_tests::{Client, Fleet, Memcached, Plan, Rng, eventually, seconds_from_env};
use rustix::process::Signal;

const SOON: Duration = Duration::from_secs(20);

/// Random pipelines, cut anywhere, to a memcached of their own and to a site whose writes wait for a live peer.
#[test]
fn random_pipelines_are_answered_as_by_memcached() {
    let mut rng = Rng::announced("pipelines", 1);
    let fleet = Plan::of(2).sidecars(&["--ack", "peer", "--ack-timeout", "20s"]).start();
    fleet.wait_in_sync(SOON);
    let folder = Folder::new();
    let alone = Memcached::start("alone", &folder, &[]);
    let end = Instant::now() + seconds_from_env("MEMCLOUD_PIPELINES_SECONDS", 5.0);
    let mut round = 0;
    while Instant::now() < end {
        round += 1;
        let clients = || [alone.client(), fleet.sites[0].sidecar.client()];
        match rng.chance(80) {
            true => compare_text(&mut rng, clients(), round),
            false => compare_packets(&mut rng, clients(), round),
        }
    }
    println!("{round} pipelines");
    fleet.wait_in_sync(SOON);
    no_session_is_left(&fleet);
}

fn no_session_is_left(fleet: &Fleet) {
    eventually("no session is left", SOON, || {
        (fleet.sites[0].sidecar.status()["sessions"] == 0).then_some(())
    });
}

fn compare_text(rng: &mut Rng, clients: [Client; 2], round: usize) {
    let mut requests = b"flush_all\r\n".to_vec();
    for _ in 0..*rng.pick(&[3, 10, 30, 100]) {
        requests.extend(request(rng));
    }
    requests.extend_from_slice(b"set end 0 0 9\r\nthe fence\r\nget end\r\n");
    let cuts = cuts(rng, requests.len());
    let [expected, got] = clients.map(|mut client| {
        play(&client, &requests, &cuts);
        client.until(b"the fence\r\nEND\r\n").unwrap_or_else(|_| client.pending().to_vec())
    });
    if expected == got {
        return;
    }
    let at = expected.iter().zip(&got).take_while(|(one, other)| one == other).count();
    let around =
        |bytes: &[u8]| bytes[at.saturating_sub(80)..bytes.len().min(at + 120)].escape_ascii().to_string();
    panic!("pipeline {round}, byte {at}:\n memcached {}\n proxy     {}", around(&expected), around(&got));
}

fn cuts(rng: &mut Rng, len: usize) -> Vec<usize> {
    let count = *rng.pick(&[0, 0, 3, 20]);
    let mut cuts: Vec<usize> = (0..count).map(|_| rng.below(len as u64) as usize).chain([len]).collect();
    cuts.sort_unstable();
    cuts
}

/// Sends from a thread of its own, so that neither side waits for the other to read.
fn play(client: &Client, requests: &[u8], cuts: &[usize]) {
    let (mut writer, requests, cuts) = (client.writer(), requests.to_vec(), cuts.to_vec());
    thread::spawn(move || {
        let mut from = 0;
        for cut in cuts {
            if writer.write_all(&requests[from..cut]).and_then(|()| writer.flush()).is_err() {
                return;
            }
            from = cut;
            thread::yield_now();
        }
    });
}

fn key(rng: &mut Rng) -> String {
    rng.pick(&["a", "b", "c", "dd", &"e".repeat(200)]).to_string()
}

fn value(rng: &mut Rng) -> Vec<u8> {
    match rng.below(10) {
        0..3 => rng.below(100_000).to_string().into_bytes(),
        3..7 => {
            let length = rng.below(7) as usize;
            rng.letters(length)
        }
        _ => {
            let length = *rng.pick(&[0, 20, 300, 9_000, 40_000, 70_000, 100_000]);
            vec![b'v'; length]
        }
    }
}

fn request(rng: &mut Rng) -> Vec<u8> {
    let (key, noreply) = (key(rng), if rng.chance(25) { " noreply" } else { "" });
    let quiet = if rng.chance(30) { " q" } else { "" };
    let line = match rng.below(100) {
        0..16 => {
            let verb = rng.pick(&["set", "set", "add", "replace", "append", "prepend"]);
            let value = value(rng);
            let head = format!("{verb} {key} {} 0 {}{noreply}\r\n", rng.below(9), value.len());
            return [head.as_bytes(), &value, b"\r\n"].concat();
        }
        16..32 => {
            let others = ["", "", " b", " a c dd"];
            format!("{} {key}{}", rng.pick(&["get", "get", "gat 0"]), rng.pick(&others))
        }
        32..38 => format!("delete {key}{noreply}"),
        38..46 => {
            // No `decr`: whether memcached pads the shorter number with blanks depends on who is reading the item just then.
            format!("incr {key} {}{noreply}", rng.pick(&["1", "5", "99999999", "x", "-1"]))
        }
        46..50 => format!("touch {key} {}{noreply}", rng.pick(&["0", "100", "x"])),
        50..60 => {
            let flags = rng.pick(&["", " MA", " MP", " ME", " MR", " MZ", " F3", " Oabc k", " T0"]);
            let value = value(rng);
            let head = format!("ms {key} {}{flags}{quiet}\r\n", value.len());
            return [head.as_bytes(), &value, b"\r\n"].concat();
        }
        60..70 => {
            format!("mg {key}{}{quiet}", rng.pick(&[" v", " k f v", "", " s v Oq", " T0 v", " N30 v", " zz"]))
        }
        70..75 => format!("md {key}{}{quiet}", rng.pick(&["", " Ox", " k"])),
        75..80 => format!("ma {key}{}{quiet}", rng.pick(&["", " v", " N0 J5 v", " D7"])),
        80..86 => "mn".to_owned(),
        86..88 => "bogus".to_owned(),
        88..90 => format!("set {key} 0 0"),
        90..92 => format!("cas {key} 0 0 1 {}{noreply}\r\nx", rng.between(1, 50) * 1_000_000),
        92 => format!("flush_all{noreply}"),
        93 => "verbosity 0".to_owned(),
        94..96 => format!("set {key} 0 0 3\r\nabcdef"),
        96 => format!("set {key} 0 0 1100000{noreply}\r\n{}", "z".repeat(1_100_000)),
        97 => format!("get  {key} "),
        _ => "version".to_owned(),
    };
    format!("{line}\r\n").into_bytes()
}

/// The same in the binary dialect. CAS numbers are each server's own.
fn compare_packets(rng: &mut Rng, clients: [Client; 2], round: usize) {
    let mut requests = Frame { extras: &[0; 4], ..Frame::new(binary::FLUSH) }.bytes();
    for opaque in 0..rng.between(3, 60) as u32 {
        packet(rng, opaque, &mut requests);
    }
    Frame { opaque: END, ..Frame::new(binary::NOOP) }.encode(&mut requests);
    let cuts = cuts(rng, requests.len());
    let [expected, got] = clients.map(|mut client| {
        play(&client, &requests, &cuts);
        let mut replies: Vec<Reply> = Vec::new();
        while replies.last().is_none_or(|last| last.opaque != END) {
            match reply(&mut client) {
                Ok(reply) => replies.push(Reply { cas: 0, ..reply }),
                Err(_) => break,
            }
        }
        replies
    });
    assert!(expected == got, "pipeline {round}:\n memcached {expected:?}\n proxy     {got:?}");
}

fn packet(rng: &mut Rng, opaque: u32, out: &mut Vec<u8>) {
    let (key, value) = (key(rng), value(rng));
    let counter = [1_u64.to_be_bytes(), 5_u64.to_be_bytes()].concat();
    let counter = [counter.as_slice(), &[0; 4]].concat();
    let opcode = *rng.pick(OPCODES);
    let (extras, value): (&[u8], &[u8]) = match opcode {
        binary::SET | binary::SETQ | binary::ADD | binary::ADDQ | binary::REPLACE | binary::REPLACEQ => {
            (&[0; 8], &value)
        }
        binary::APPEND | binary::APPENDQ | binary::PREPEND | binary::PREPENDQ => (b"", &value),
        binary::INCREMENT | binary::INCREMENTQ => (&counter, b""),
        binary::TOUCH | binary::GAT | binary::GATQ | binary::GATK | binary::GATKQ => (&[0; 4], b""),
        _ => (b"", b""),
    };
    let key: &[u8] = if matches!(opcode, binary::NOOP | binary::VERSION) { b"" } else { key.as_bytes() };
    Frame { extras, key, value, opaque, ..Frame::new(opcode) }.encode(out);
}

const END: u32 = 0x00fe_9ce0;
const OPCODES: &[u8] = &[
    binary::GET,
    binary::GETQ,
    binary::GETK,
    binary::GETKQ,
    binary::SET,
    binary::SETQ,
    binary::ADD,
    binary::ADDQ,
    binary::REPLACE,
    binary::REPLACEQ,
    binary::APPEND,
    binary::APPENDQ,
    binary::PREPEND,
    binary::PREPENDQ,
    binary::DELETE,
    binary::DELETEQ,
    binary::INCREMENT,
    binary::INCREMENTQ,
    binary::TOUCH,
    binary::GAT,
    binary::GATQ,
    binary::GATK,
    binary::GATKQ,
    binary::NOOP,
    binary::VERSION,
];

/// An app that goes away in the middle of a long value leaves what was there, as it would with memcached alone.
#[test]
fn a_value_that_is_cut_off_changes_nothing() {
    let fleet = Plan::of(2).start();
    fleet.wait_in_sync(SOON);
    let (mut client, mut direct) = (fleet.sites[0].sidecar.client(), fleet.sites[0].memcached.client());
    for verb in ["set", "add", "append"] {
        assert_eq!(client.set("k", b"old").unwrap(), "STORED");
        fleet.wait_in_sync(SOON);
        let before = direct.stat("curr_connections");
        let mut cut = fleet.sites[0].sidecar.client();
        cut.send(format!("mn\r\n{verb} k 0 0 100000\r\n{}", "v".repeat(50_000))).unwrap();
        cut.until(b"MN\r\n").unwrap();
        drop(cut);
        eventually("its session is over", SOON, || {
            (fleet.sites[0].sidecar.status()["sessions"] == 1).then_some(())
        });
        // The key is looked at when memcached has closed that connection too.
        eventually("memcached has closed it", SOON, || {
            (direct.stat("curr_connections") <= before).then_some(())
        });
        for site in &fleet.sites {
            assert_eq!(site.memcached.client().get("k").unwrap().as_deref(), Some(&b"old"[..]), "{verb}");
        }
        assert_eq!(client.set("k", b"new").unwrap(), "STORED", "nobody holds its gate");
        fleet.wait_in_sync(SOON);
        assert_eq!(fleet.sites[1].memcached.client().get("k").unwrap().unwrap(), b"new");
    }
}

/// A long value that is on its way when the proxy is told to stop gets there, if its app goes on sending.
#[test]
fn a_drain_waits_for_a_long_value() {
    let mut fleet = Plan::of(2).start();
    fleet.wait_in_sync(SOON);
    let mut client = fleet.sites[0].sidecar.client();
    let mut stalled = fleet.sites[0].sidecar.client();
    for client in [&mut client, &mut stalled] {
        client.send(format!("mn\r\nset k 0 0 100000\r\n{}", "v".repeat(90_000))).unwrap();
        client.until(b"MN\r\n").unwrap();
    }
    fleet.sites[0].sidecar.process().signal(Signal::TERM);
    eventually("the proxy takes no more apps", SOON, || {
        Client::connect(fleet.sites[0].sidecar.address()).is_err().then_some(())
    });
    client.send(format!("{}\r\n", "v".repeat(10_000))).unwrap();
    assert_eq!(client.line().unwrap(), "STORED\r\n");
    assert!(stalled.rest().unwrap().is_empty(), "who sends nothing more is cut off");
    assert!(fleet.sites[0].sidecar.process_mut().wait(SOON).success());
    for site in &fleet.sites {
        assert_eq!(site.memcached.client().get("k").unwrap().map(|value| value.len()), Some(100_000));
    }
}

/// Whoever was granted a gate, and finds then that his app has stopped reading, gives it back: others write the key.
#[test]
fn who_does_not_read_holds_no_gate() {
    let fleet = Plan::of(2).sidecars(&["--workers", "1"]).start();
    fleet.wait_in_sync(SOON);
    let own = || {
        let mut client = fleet.sites[0].sidecar.client();
        assert!(client.ask("incr none nothing").starts_with("CLIENT_ERROR"));
        client
    };
    let mut writers: Vec<Client> = (0..30).map(|_| own()).collect();
    let mut client = fleet.sites[0].sidecar.client();
    // How much the sockets hold is the kernel's affair; somewhere in these sizes the answers are a little more than that.
    for size in (120_000..420_000).step_by(12_000) {
        assert_eq!(client.set("large", &vec![b'v'; size]).unwrap(), "STORED");
        let mut lazy = own();
        // Answered by the one worker itself: by the second answer it has read what others sent before.
        let mut heard = || {
            for _ in 0..2 {
                client.send("stats memcloud\r\n").unwrap();
                client.until(b"END\r\n").unwrap();
            }
        };
        // One has the gate, the others queue for it, and the lazy one behind them with answers before its write.
        fleet.sites[0].memcached.hang();
        writers.iter_mut().for_each(|writer| writer.send("set k 0 0 1\r\nx\r\n").unwrap());
        heard();
        lazy.send(format!("{}set k 0 0 1\r\ny\r\n", "get large\r\n".repeat(12))).unwrap();
        heard();
        fleet.sites[0].memcached.resume();
        for writer in &mut writers {
            assert_eq!(writer.line().unwrap(), "STORED\r\n");
        }
        assert_eq!(client.ask("set k 0 0 1\r\nz"), "STORED", "size {size}");
    }
}
