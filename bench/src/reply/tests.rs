//! A wrong reply must be noticed, a right one never, however the bytes are cut.

use super::*;
use crate::workload::Dialect;

const K0: &str = "memcloud-bench:00000000000000000";
const K1: &str = "memcloud-bench:00000000000000001";
const K2: &str = "memcloud-bench:00000000000000002";

fn workload() -> Workload {
    Workload::filling(3, &"40".parse().unwrap(), Dialect::Text)
}

fn expect(kind: Kind, key: u32, keys: u32) -> VecDeque<Expected> {
    VecDeque::from([Expected { kind, key, keys, due_ns: 0 }])
}

/// Feeds `replies` in pieces of `piece` bytes; returns what was seen and how many requests were answered.
fn feed(
    mut in_flight: VecDeque<Expected>,
    replies: &str,
    piece: usize,
) -> Result<(Seen, usize, Checker), Broken> {
    let (workload, mut checker, mut kept, mut answered) = (workload(), Checker::default(), Vec::new(), 0);
    for bytes in replies.as_bytes().chunks(piece) {
        kept.extend_from_slice(bytes);
        let used = checker.feed(&workload, &mut in_flight, &kept, |_| answered += 1)?;
        kept.drain(..used);
    }
    assert!(kept.len() < 100, "a value is skipped, not kept");
    Ok((checker.seen, answered, checker))
}

/// The same whole and in every smaller piece.
fn seen(in_flight: &VecDeque<Expected>, replies: &str) -> (Seen, usize) {
    let (whole, answered, _) = feed(in_flight.clone(), replies, usize::MAX).unwrap();
    for piece in 1..replies.len() {
        let (cut, cut_answered, _) = feed(in_flight.clone(), replies, piece).unwrap();
        assert_eq!((cut, cut_answered), (whole, answered), "in pieces of {piece}");
    }
    (whole, answered)
}

fn value(key: &str, flags: u32) -> String {
    format!("VALUE {key} {flags} 40\r\n{key}ghijklmn\r\n")
}

fn right(values: u64) -> Seen {
    Seen { values, ..Seen::default() }
}

#[test]
fn right_replies_are_right() {
    let get = expect(Kind::TextGet, 1, 1);
    assert_eq!(seen(&get, &format!("{}END\r\n", value(K1, 1))), (right(1), 1));
    let meta = format!("VA 40 k{K1} f1\r\n{K1}ghijklmn\r\n");
    assert_eq!(seen(&expect(Kind::MetaGet, 1, 1), &meta), (right(1), 1));
    assert_eq!(seen(&expect(Kind::TextSet, 1, 1), "STORED\r\n"), (right(0), 1));
    assert_eq!(seen(&expect(Kind::MetaSet, 1, 1), &format!("HD k{K1}\r\n")), (right(0), 1));
}

#[test]
fn a_multiget_round_the_end_is_right_and_its_gaps_are_misses() {
    let get = expect(Kind::TextGet, 1, 3);
    let all = format!("{}{}{}END\r\n", value(K1, 1), value(K2, 2), value(K0, 0));
    assert_eq!(seen(&get, &all), (right(3), 1));
    let gap = format!("{}{}END\r\n", value(K1, 1), value(K0, 0));
    assert_eq!(seen(&get, &gap), (Seen { values: 2, misses: 1, ..Seen::default() }, 1));
    let last = format!("{}END\r\n", value(K1, 1));
    assert_eq!(seen(&get, &last), (Seen { values: 1, misses: 2, ..Seen::default() }, 1));
}

#[test]
fn misses_are_counted() {
    assert_eq!(seen(&expect(Kind::TextGet, 0, 1), "END\r\n").0.misses, 1);
    assert_eq!(seen(&expect(Kind::MetaGet, 0, 1), "EN\r\n").0.misses, 1);
}

#[test]
fn a_wrong_value_is_noticed() {
    let get = expect(Kind::TextGet, 1, 1);
    let cases = [
        ("the key of another", format!("VALUE {K2} 1 40\r\n{K1}ghijklmn\r\nEND\r\n")),
        ("the value of another", format!("VALUE {K1} 1 40\r\n{K2}ghijklmn\r\nEND\r\n")),
        ("another length", format!("VALUE {K1} 1 39\r\n{K1}ghijklm\r\nEND\r\n")),
        ("other flags", value(K1, 2) + "END\r\n"),
        ("twice", value(K1, 1) + &value(K1, 1) + "END\r\n"),
    ];
    for (what, replies) in cases {
        let (seen, answered) = seen(&get, &replies);
        assert_eq!((seen.wrong, answered), (1, 1), "{what}");
    }
    let order = format!("{}{}END\r\n", value(K1, 1), value(K0, 0));
    assert_eq!(seen(&expect(Kind::TextGet, 0, 2), &order).0.wrong, 1, "in another order");
    let meta = format!("VA 40 k{K1} f1\r\n{K1}ghijklmn\r\n");
    assert_eq!(seen(&expect(Kind::MetaGet, 2, 1), &meta).0.wrong, 1);
    assert_eq!(seen(&expect(Kind::MetaGet, 1, 1), &meta.replace(" f1", "")).0.wrong, 1);
}

#[test]
fn a_wrong_answer_to_a_set_is_noticed() {
    assert_eq!(seen(&expect(Kind::TextSet, 1, 1), "NOT_STORED\r\n").0.wrong, 1);
    assert_eq!(seen(&expect(Kind::TextSet, 1, 1), "END\r\n").0.wrong, 1);
    assert_eq!(seen(&expect(Kind::MetaSet, 1, 1), &format!("HD k{K2}\r\n")).0.wrong, 1);
    assert_eq!(seen(&expect(Kind::MetaSet, 1, 1), "NS\r\n").0.wrong, 1);
}

#[test]
fn errors_answer_the_request_and_are_counted() {
    for line in ["ERROR\r\n", "SERVER_ERROR out of memory\r\n", "CLIENT_ERROR bad\r\n"] {
        let (seen, answered) = seen(&expect(Kind::TextGet, 0, 1), line);
        assert_eq!((seen.errors, answered), (1, 1));
    }
}

#[test]
fn what_cannot_be_framed_breaks_the_connection() {
    let get = || expect(Kind::TextGet, 1, 1);
    for replies in [
        format!("VALUE {K1} 1 39\r\n{K1}ghijklmn\r\nEND\r\n"),
        format!("VALUE {K1} 1 41\r\n{K1}ghijklmn\r\nEND\r\n"),
        format!("VALUE {K1} 1 99999999999999999999\r\n"),
        "STORED\r\n".to_owned(),
        "END\n".to_owned(),
        format!("{}END\r\nEND\r\n", value(K1, 1)),
        "x".repeat(LINE_BYTES_MAX),
    ] {
        assert!(feed(get(), &replies, usize::MAX).is_err(), "{replies}");
    }
}

#[test]
fn pipelined_replies_are_matched_in_order() {
    let mut in_flight = expect(Kind::TextSet, 0, 1);
    in_flight.extend(expect(Kind::TextGet, 1, 1));
    in_flight.extend(expect(Kind::TextGet, 2, 1));
    let ordered = format!("STORED\r\n{}END\r\n{}END\r\n", value(K1, 1), value(K2, 2));
    assert_eq!(seen(&in_flight, &ordered), (right(2), 3));
    let swapped = format!("STORED\r\n{}END\r\n{}END\r\n", value(K2, 2), value(K1, 1));
    assert_eq!(seen(&in_flight, &swapped).0.wrong, 2);
    let (_, _, checker) = feed(in_flight, &swapped, usize::MAX).unwrap();
    assert!(checker.complaint.unwrap().contains(K2));
}
