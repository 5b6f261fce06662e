//! The zone as others see it: asked with `dig` and `kdig`, directly and through a forwarder, and compared with Knot DNS.

#![allow(clippy::unwrap_used, reason = "a broken expectation of a test ends the test")]

mod messages;
mod questions;
mod served;

use std::thread;

use memcloud_tests::knot::Knot;
use memcloud_tests::process::Folder;
use memcloud_tests::random::Rng;

use messages::{Message, Question, dig, kdig};
use served::{Forwarder, ZONE, furnished, many, mixed, pair};

const TRANSPORTS: [&str; 2] = ["+notcp", "+tcp"];

#[test]
fn each_row_of_the_contract_for_all_who_ask() {
    let folder = Folder::new();
    let control = furnished(&folder, vec![pair()], 4);
    let forwarder = Forwarder::start(control.dns_port(), &folder);
    let rows: [(&str, &str, &[&str]); 9] = [
        (
            "_memcached._tcp.10001",
            "SRV",
            &[
                "0 100 11211 a.s0.10001.memcloud.internal.",
                "0 100 11211 a.s1.10001.memcloud.internal.",
                "0 50 11211 cache.example.org.",
                "10 100 11211 b.s0.10001.memcloud.internal.",
            ],
        ),
        (
            "_MemCached._TCP.S0.10001",
            "SRV",
            &["0 100 11211 a.s0.10001.memcloud.internal.", "10 100 11211 b.s0.10001.memcloud.internal."],
        ),
        ("a.s0.10001", "A", &["10.0.0.1"]),
        ("A.s1.10001", "AAAA", &["fd00::1"]),
        ("b.s1.10001", "A", &["cache.example.org."]),
        ("10001", "TXT", &[r#""v=memcloud1" "revision=1" "shards=2" "hash=ketama""#]),
        ("ns", "A", &["127.0.0.1"]),
        ("a.s0.10001", "AAAA", &[]),
        ("a.s0.10001", "TYPE65280", &[]),
    ];
    for transport in TRANSPORTS {
        for (name, kind, expected) in rows {
            let question = Question::new(&format!("{name}.{ZONE}"), kind, transport);
            let by_dig = dig(control.dns_port(), std::slice::from_ref(&question), &folder).remove(0);
            let by_kdig =
                kdig(control.dns_port(), &format!("{transport} {} {kind}", question.name)).remove(0);
            assert_eq!(by_dig, by_kdig, "{question:?}");
            assert_eq!((by_dig.code.as_str(), by_dig.is("aa")), ("NOERROR", true), "{question:?}");
            assert_eq!(by_dig.data(), expected, "{question:?}");
            assert_eq!(by_dig.authority.len(), usize::from(expected.is_empty()), "{question:?}");
            let forwarded = dig(forwarder.port(), std::slice::from_ref(&question), &folder).remove(0);
            assert_eq!(
                (forwarded.code.as_str(), forwarded.data()),
                ("NOERROR", by_dig.data()),
                "{question:?}"
            );
        }
        let missing = Question::new(&format!("_memcached._tcp.10002.{ZONE}"), "SRV", transport);
        for port in [control.dns_port(), forwarder.port()] {
            let told = dig(port, std::slice::from_ref(&missing), &folder).remove(0);
            assert_eq!((told.code.as_str(), told.answer.len()), ("NXDOMAIN", 0));
            assert!(told.authority.iter().all(|record| record.contains(" soa ")), "{told:?}");
        }
    }
    let soa = kdig(control.dns_port(), &format!("{ZONE} SOA")).remove(0).data();
    assert!(soa[0].starts_with("ns.memcloud.internal. hostmaster.memcloud.internal. "), "{soa:?}");
    assert_eq!(kdig(control.dns_port(), &format!("{ZONE} NS")).remove(0).data(), ["ns.memcloud.internal."]);
}

#[test]
fn what_does_not_fit_is_cut_and_whole_over_tcp() {
    let folder = Folder::new();
    let control = furnished(&folder, vec![many(200, 200), many(1_000, 500)], 0);
    let forwarder = Forwarder::start(control.dns_port(), &folder);
    let name = |service: &str| format!("{service}.{ZONE}");
    // A thousand are more than the 64 KiB of a message: as many are told as it holds, and all by the shards.
    let services = [
        ("_memcached._tcp.10001", 200),
        ("_memcached._tcp.s0.10002", 500),
        ("_memcached._tcp.s1.10002", 500),
    ];
    for (service, count) in services {
        for how in
            ["+noedns +ignore", "+bufsize=512 +ignore", "+bufsize=1232 +ignore", "+bufsize=4096 +ignore"]
        {
            let cut =
                dig(control.dns_port(), &[Question::new(&name(service), "SRV", how)], &folder).remove(0);
            assert!(cut.is("tc") && !cut.answer.is_empty() && cut.answer.len() < count, "{how}: {cut:?}");
        }
        for port in [control.dns_port(), forwarder.port()] {
            for how in ["+bufsize=1232", "+noedns", "+tcp"] {
                let whole = dig(port, &[Question::new(&name(service), "SRV", how)], &folder).remove(0);
                assert_eq!((whole.data().len(), whole.is("tc")), (count, false), "{service} {how}");
            }
        }
    }
    let most = kdig(control.dns_port(), &format!("+tcp {} SRV", name("_memcached._tcp.10002"))).remove(0);
    assert!(most.data().len() > 500 && !most.is("tc"), "{}", most.data().len());
    let questions = [("_memcached._tcp.10001", "SRV"), ("10001", "TXT"), ("none", "A")];
    let asked: Vec<String> =
        questions.iter().map(|(service, kind)| format!("+tcp +keepopen {} {kind}", name(service))).collect();
    let told = kdig(control.dns_port(), &asked.join(" "));
    let counts: Vec<_> = told.iter().map(|one| (one.code.as_str(), one.answer.len())).collect();
    assert_eq!(counts, [("NOERROR", 200), ("NOERROR", 1), ("NXDOMAIN", 0)]);
}

#[test]
fn knot_answers_ten_thousand_questions_the_same() {
    const QUESTIONS: usize = 10_000;
    let mut rng = Rng::announced("zone", 4);
    let folder = Folder::new();
    let mut apps = vec![many(200, 200), many(1_000, 500)];
    apps.extend((0..300).map(|_| mixed(&mut rng)));
    let control = furnished(&folder, apps.clone(), 60);
    let master_file = control.zone();
    let knot = Knot::start(ZONE, &master_file, &folder);
    assert_eq!(knot.log(), "", "the zone has no faults");
    let questions: Vec<Question> = (0..QUESTIONS).map(|_| questions::draw(&mut rng, &apps)).collect();
    let (told, expected) = thread::scope(|scope| {
        let told = scope.spawn(|| dig(control.dns_port(), &questions, &folder));
        let expected = dig(knot.port(), &questions, &folder);
        (told.join().unwrap(), expected)
    });
    assert_eq!(control.zone(), master_file, "nothing was published meanwhile");
    for (question, (told, expected)) in questions.iter().zip(told.iter().zip(&expected)) {
        same(question, told, expected);
    }
    let found = told.iter().filter(|one| !one.answer.is_empty()).count();
    let missing = told.iter().filter(|one| one.code == "NXDOMAIN").count();
    let cut = told.iter().filter(|one| one.is("tc")).count();
    println!("of {QUESTIONS}: {found} with an answer, {missing} names that do not exist, {cut} cut");
    assert!(found > QUESTIONS / 5 && missing > QUESTIONS / 10 && cut > 10, "the questions are mixed");
}

/// The same where both have to say the same. Order is chance at control, so sections are compared sorted.
fn same(question: &Question, told: &Message, expected: &Message) {
    let head = |one: &Message| (one.code.clone(), one.is("aa"), one.is("ra"), one.is("ad"));
    assert_eq!(head(told), head(expected), "{question:?}: {told:?}; knot: {expected:?}");
    // Control writes the name in question once more, which may be what one more record needs.
    let is_narrow = told.is("tc") && !expected.is("tc") && told.answer.len() + 1 == expected.answer.len();
    assert!(told.is("tc") == expected.is("tc") || is_narrow, "{question:?}: {told:?}; knot: {expected:?}");
    // RFC 8482 leaves to each what to say of ANY: knot picks one kind of record. What was cut, each cuts where it likes.
    if question.kind == "ANY" || told.is("tc") {
        return;
    }
    assert_eq!(told.answer, expected.answer, "{question:?}");
    assert_eq!(told.authority, expected.authority, "{question:?}");
    // Who has no room for all addresses leaves out some: control reckons with names that are not compressed.
    if question.is_tcp() && told.answer.len() <= 200 {
        assert_eq!(told.additional, expected.additional, "{question:?}");
    } else {
        let is_of_target = |record: &String| {
            let target = record.split(' ').next().unwrap();
            told.answer.iter().any(|answer| answer.ends_with(target))
        };
        assert!(told.additional.iter().all(is_of_target), "{question:?}: {told:?}");
    }
}
