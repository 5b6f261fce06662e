use std::borrow::Cow;

use proptest::prelude::*;

use super::*;

fn name() -> impl Strategy<Value = String> {
    "[A-Za-z0-9._-]{1,64}"
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(0x21_u8..0x7f, 1..=250),
        proptest::collection::vec(any::<u8>(), 1..=250),
    ]
}

/// Everything a message can hold, owned; `kind` chooses which parts are used.
#[derive(Clone, Debug)]
struct Parts {
    kind: usize,
    site: String,
    shard: Option<String>,
    key: Vec<u8>,
    value: Vec<u8>,
    numbers: (u64, u64, u32, u32),
    bits: (bool, bool),
}

fn parts() -> impl Strategy<Value = Parts> {
    let value = proptest::collection::vec(any::<u8>(), 0..400);
    let numbers = (any::<u64>(), any::<u64>(), any::<u32>(), 0..=i32::MAX as u32);
    (0..11_usize, name(), proptest::option::of(name()), key(), value, numbers, any::<(bool, bool)>())
        .prop_map(|(kind, site, shard, key, value, numbers, bits)| Parts {
            kind,
            site,
            shard,
            key,
            value,
            numbers,
            bits,
        })
}

impl Parts {
    fn message(&self) -> Message<'_> {
        let (time, count, flags, exptime) = self.numbers;
        let tag = Tag { site: &self.site, time };
        let key = Cow::Borrowed(self.key.as_slice());
        match self.kind {
            0 => Message::Hello(Hello {
                version: flags,
                site: &self.site,
                run: time,
                shard: self.shard.as_deref(),
                purpose: [Purpose::Mutations, Purpose::Session, Purpose::Resync][exptime as usize % 3],
                clock: (count % 2 == 0).then_some(time),
            }),
            1 => Message::Refused(Refusal::ALL[count as usize % Refusal::ALL.len()]),
            2 => Message::Item(Item {
                key,
                tag,
                flags,
                exptime,
                stale: self.bits.0,
                won: self.bits.1,
                cas: [None, Some(0), Some(count)][flags as usize % 3],
                value: &self.value,
            }),
            3 => Message::Delete { key, tag },
            4 => Message::Vivify { key, exptime, tag },
            5 => Message::Flush { delay_s: flags, tag },
            6 => Message::Mark {
                tag,
                owed: count,
                loss: [None, Some(Loss::Nothing), Some(Loss::Ours), Some(Loss::Anything)][flags as usize % 4],
                unfilled: self.bits.0,
            },
            7 => Message::Memory(
                [
                    Memory::None,
                    Memory::Clean,
                    Memory::Unfilled,
                    Memory::Killed { until: tag, unfilled: self.bits.0 },
                ][flags as usize % 4],
            ),
            8 => Message::Goodbye { unfilled: self.bits.0 },
            9 => Message::Server { takes_versions: self.bits.0 },
            _ => Message::Ack(Ack { count, refused: flags.into() }),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.message().encode(&mut out);
        out
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(parts in parts(), behind in proptest::collection::vec(any::<u8>(), 0..20)) {
        let mut bytes = parts.bytes();
        let used = bytes.len();
        bytes.extend_from_slice(&behind);
        prop_assert_eq!(decode(&bytes), Ok(Decoded::Message { message: parts.message(), used }));
    }

    #[test]
    fn a_cut_anywhere_is_incomplete_and_asks_for_no_more_than_there_is(parts in parts()) {
        let bytes = parts.bytes();
        for cut in 0..bytes.len() {
            match decode(&bytes[..cut]) {
                Ok(Decoded::Incomplete { need }) => prop_assert!(need > cut && need <= bytes.len()),
                other => prop_assert!(false, "cut at {}: {:?}", cut, other),
            }
        }
    }

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn garbage_behind_a_known_word_never_panics(
        word in prop::sample::select(vec!["ms ", "md ", "mg ", "ml hello ", "ml mark ", "ml flush ", "ml ack ", "ms k 5 "]),
        rest in "[ -~]{0,80}",
    ) {
        let _ = decode(format!("{word}{rest}\r\n").as_bytes());
    }

    #[test]
    fn one_wrong_byte_is_never_another_length(parts in parts(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = parts.bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(Decoded::Message { used, .. }) = decode(&bytes) {
            prop_assert!(used <= bytes.len());
        }
    }
}

#[test]
fn lines_that_are_refused() {
    let long = format!("md {} Pmc1/a/1\r\n", "k".repeat(LINE_MAX));
    let cases: &[(&[u8], Malformed)] = &[
        (b"get k\r\n", Malformed::Word),
        (b"\x80", Malformed::Word),
        (b"\x16\x03\x01", Malformed::Word),
        (b"GET / HTTP/1.1\r\n", Malformed::Word),
        (b"ml what\r\n", Malformed::Word),
        (b"ml\r\n", Malformed::Word),
        (b"ml ack 1\n", Malformed::Line),
        (b"ml  ack 1\r\n", Malformed::Line),
        (b"ml ack 1 \r\n", Malformed::Line),
        (b"ml ack 1 2\r\n", Malformed::Flag),
        (b"ml ack 1 R\r\n", Malformed::Number),
        (b"ml ack 1 R1 R1\r\n", Malformed::Line),
        (b"ml ack\r\n", Malformed::Line),
        (b"ml ack 01\r\n", Malformed::Number),
        (b"ml ack -1\r\n", Malformed::Number),
        (b"ml ack 18446744073709551616\r\n", Malformed::Number),
        (b"ml hello V1 Sa b R1\r\n", Malformed::Flag),
        (b"ml hello V1 Sa/b R1\r\n", Malformed::Line),
        (b"ml hello V1 Sa RA\r\n", Malformed::Number),
        (b"md k\r\n", Malformed::Flag),
        (b"md k Pmc1/a/1 Pmc1/a/1\r\n", Malformed::Flag),
        (b"md k Pmc1/a/1 I\r\n", Malformed::Flag),
        (b"md k Pmc1/a/1 bb\r\n", Malformed::Flag),
        (b"md k Pmc2/a/1\r\n", Malformed::Tag),
        (b"md k Pmc1/a\r\n", Malformed::Tag),
        (b"md k Pmc1//1\r\n", Malformed::Tag),
        (b"md k Pmc1/a/\r\n", Malformed::Tag),
        (b"md k\x01 Pmc1/a/1\r\n", Malformed::Key),
        (b"md ? Pmc1/a/1 b\r\n", Malformed::Key),
        (b"mg k N2147483648 Pmc1/a/1\r\n", Malformed::Number),
        (b"mg k Pmc1/a/1\r\n", Malformed::Flag),
        (b"ms k 1 T0 Pmc1/a/1\r\nx\r\n", Malformed::Flag),
        (b"ms k 1 T0 F0 Pmc1/a/1\r\nxyz", Malformed::Data),
        (b"ms k 1073741825 T0 F0 Pmc1/a/1\r\n", Malformed::ValueTooLarge),
        (b"ms k -1 T0 F0 Pmc1/a/1\r\n", Malformed::Number),
        (long.as_bytes(), Malformed::LineTooLong),
    ];
    for (line, reason) in cases {
        assert_eq!(decode(line), Err(*reason), "{}", String::from_utf8_lossy(line));
    }
}

#[test]
fn flags_may_come_in_any_order() {
    let one = decode(b"ms a2V5 2 W Pmc1/a/1f b F7 E9 T60 I\r\nhi\r\n");
    let item = Item {
        key: Cow::Borrowed(b"key"),
        tag: Tag { site: "a", time: 0x1f },
        flags: 7,
        exptime: 60,
        stale: true,
        won: true,
        cas: Some(9),
        value: b"hi",
    };
    assert_eq!(one, Ok(Decoded::Message { message: Message::Item(item), used: 41 }));
}

#[test]
fn a_reason_of_a_later_version_is_not_fatal() {
    let line = b"ml refused too-hot\r\n";
    assert_eq!(
        decode(line),
        Ok(Decoded::Message { message: Message::Refused(Refusal::Other), used: line.len() })
    );
}

#[test]
fn the_longest_line_fits() {
    let site = "s".repeat(NAME_MAX);
    let item = Item {
        key: Cow::Owned(vec![0xff; 250]),
        tag: Tag { site: &site, time: u64::MAX },
        flags: u32::MAX,
        exptime: i32::MAX as u32,
        stale: true,
        won: true,
        cas: Some(u64::MAX),
        value: b"",
    };
    let mut out = Vec::new();
    Message::Item(item.clone()).encode(&mut out);
    assert!(out.len() < LINE_MAX / 2, "{}", out.len());
    assert_eq!(decode(&out), Ok(Decoded::Message { message: Message::Item(item), used: out.len() }));
}

#[test]
fn the_transcript_of_the_specification_is_in_the_grammar() {
    let page = include_str!("../../../../docs/peer-link.md");
    let transcript = page.split("## A transcript").nth(1).unwrap().split("```").nth(1).unwrap();
    for (side, messages) in [("> ", 9), ("< ", 5)] {
        let lines = transcript.lines().filter_map(|line| line.strip_prefix(side));
        let bytes: Vec<u8> = lines.flat_map(|line| [line.as_bytes(), b"\r\n"].concat()).collect();
        let (mut rest, mut read) = (bytes.as_slice(), 0);
        while !rest.is_empty() {
            match decode(rest) {
                Ok(Decoded::Message { used, .. }) => rest = &rest[used..],
                other => panic!("{side}{}: {other:?}", String::from_utf8_lossy(rest)),
            }
            read += 1;
        }
        assert_eq!(read, messages);
    }
}
