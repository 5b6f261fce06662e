//! The binary dialect: every opcode, its quiet form, and its errors.

use super::{End, Paces, Scene, Step};
use crate::binary::*;

pub fn scenes() -> Vec<Scene> {
    vec![
        Scene::binary("binary storage", Paces::All, storage()),
        Scene::binary("binary quiet", Paces::All, quiet()),
        Scene::binary("binary numbers", Paces::All, numbers()),
        Scene::binary("binary expiry", Paces::All, expiry()),
        Scene::binary("binary large", Paces::Whole, large()),
        Scene::binary("binary rest", Paces::All, rest()),
        Scene::binary("binary unknown opcode", Paces::All, unknown_with_a_body()),
        Scene::binary("binary quit", Paces::All, vec![closing(Frame { opaque: 9, ..Frame::new(QUIT) })]),
        Scene::binary("binary quiet quit", Paces::All, vec![closing(Frame::new(QUITQ))]),
        Scene::binary(
            "binary long key",
            Paces::Whole,
            vec![closing(Frame { key: &[b'k'; 251], ..Frame::new(GET) })],
        ),
        Scene::binary("binary no key", Paces::Whole, vec![closing(Frame::new(GET))]),
        Scene::binary(
            "binary no extras",
            Paces::Whole,
            vec![closing(Frame { key: b"k", ..Frame::new(SET) })],
        ),
        Scene::binary(
            "text behind binary",
            Paces::Whole,
            vec![
                step(&[Frame::new(VERSION)]),
                Step { send: b"get a\r\nget b\r\nget c\r\nget d\r\n".to_vec(), end: End::Close },
            ],
        ),
        Scene::text(
            "binary behind text",
            Paces::All,
            r"
            get a
            \x80\x0a\x01\x01|
            get a
        ",
        ),
    ]
}

/// Frames, each with a barrier that the reader can tell from any other reply: opaques in a scene stay small.
fn step(frames: &[Frame<'_>]) -> Step {
    let mut send = Vec::new();
    frames.iter().for_each(|frame| frame.encode(&mut send));
    let barrier = Frame { opaque: u32::from_be_bytes(*b"MARK"), ..Frame::new(NOOP) };
    let mut answer = vec![0x81, NOOP];
    answer.extend([0; 10]);
    answer.extend(b"MARK");
    answer.extend([0; 8]);
    Step { send, end: End::Barrier(barrier.bytes(), answer) }
}

fn closing(frame: Frame<'_>) -> Step {
    Step { send: frame.bytes(), end: End::Close }
}

fn each(frames: &[Frame<'_>]) -> Vec<Step> {
    frames.iter().map(|&frame| step(&[frame])).collect()
}

const STORE: &[u8] = &[0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 0];
const SHORT_LIFE: &[u8] = &[0, 0, 0, 5, 0, 0, 0, 100];

fn keyed<'a>(opcode: u8, key: &'a [u8]) -> Frame<'a> {
    Frame { key, opaque: u32::from(opcode) + 1000, ..Frame::new(opcode) }
}

fn store<'a>(opcode: u8, key: &'a [u8], value: &'a [u8]) -> Frame<'a> {
    Frame { value, extras: STORE, ..keyed(opcode, key) }
}

fn plus<'a>(opcode: u8, key: &'a [u8], value: &'a [u8]) -> Frame<'a> {
    Frame { value, ..keyed(opcode, key) }
}

fn storage() -> Vec<Step> {
    each(&[
        store(SET, b"bs", b"hello"),
        keyed(GET, b"bs"),
        keyed(GETK, b"bs"),
        keyed(GET, b"none"),
        keyed(GETK, b"none"),
        store(ADD, b"bs", b"again"),
        store(ADD, b"bs2", b"new"),
        store(REPLACE, b"bs3", b"none"),
        store(REPLACE, b"bs2", b"newer"),
        Frame { extras: SHORT_LIFE, ..store(SET, b"bs4", b"") },
        keyed(GET, b"bs4"),
        plus(APPEND, b"bs2", b">>"),
        plus(PREPEND, b"bs2", b"<<"),
        plus(APPEND, b"none", b">>"),
        plus(PREPEND, b"none", b"<<"),
        keyed(GETK, b"bs2"),
        Frame { cas: 999_999, ..store(SET, b"bs2", b"cas") },
        Frame { cas: 999_999, ..store(SET, b"none", b"cas") },
        Frame { cas: 999_999, ..keyed(DELETE, b"bs2") },
        keyed(DELETE, b"bs2"),
        keyed(DELETE, b"bs2"),
        store(SET, b"with blank\x00\r\n", b"raw"),
        keyed(GETK, b"with blank\x00\r\n"),
        store(SET, &[b'k'; 250], b"max"),
        keyed(GETK, &[b'k'; 250]),
    ])
}

fn quiet() -> Vec<Step> {
    vec![
        step(&[store(SETQ, b"q1", b"1"), store(ADDQ, b"q1", b"2"), store(ADDQ, b"q2", b"2")]),
        step(&[store(REPLACEQ, b"q1", b"3"), store(REPLACEQ, b"none", b"3")]),
        step(&[plus(APPENDQ, b"q1", b"4"), plus(PREPENDQ, b"q1", b"2"), plus(APPENDQ, b"none", b"4")]),
        step(&[plus(PREPENDQ, b"none", b"4"), keyed(GETQ, b"q1"), keyed(GETQ, b"none"), keyed(GETKQ, b"q2")]),
        step(&[keyed(GETKQ, b"none"), keyed(GETK, b"q1"), Frame { opaque: 5, ..Frame::new(NOOP) }]),
        step(&[keyed(DELETEQ, b"q1"), keyed(DELETEQ, b"q1"), keyed(GETQ, b"q1")]),
        step(&[
            store(SETQ, b"q3", b"7"),
            counter(INCREMENTQ, b"q3", 1, 0, 0),
            counter(DECREMENTQ, b"q3", 3, 0, 0),
        ]),
        step(&[counter(INCREMENTQ, b"none", 1, 0, u32::MAX), keyed(GETQ, b"q3"), keyed(GET, b"q3")]),
        step(&[
            Frame { extras: &[0, 0, 0, 60], ..keyed(GATQ, b"q3") },
            Frame { extras: &[0, 0, 0, 60], ..keyed(GATKQ, b"none") },
        ]),
        step(&[Frame { extras: &[0, 0, 0, 60], ..keyed(GATKQ, b"q3") }]),
        step(&[keyed(FLUSHQ, b""), keyed(GETQ, b"q3")]),
        step(&[
            store(SETQ, b"q5", b"x"),
            store(SETQ, b"q6", b"y"),
            store(SETQ, b"q7", b"z"),
            keyed(GETKQ, b"q6"),
        ]),
    ]
}

/// A counter request; its extras live for the whole run of the test.
fn counter(opcode: u8, key: &'static [u8], delta: u64, initial: u64, expiry: u32) -> Frame<'static> {
    let mut extras = Vec::new();
    extras.extend(delta.to_be_bytes());
    extras.extend(initial.to_be_bytes());
    extras.extend(expiry.to_be_bytes());
    Frame { extras: extras.leak(), ..keyed(opcode, key) }
}

fn numbers() -> Vec<Step> {
    each(&[
        counter(INCREMENT, b"bn", 1, 10, u32::MAX),
        counter(INCREMENT, b"bn", 1, 10, 0),
        counter(INCREMENT, b"bn", 5, 10, 0),
        counter(DECREMENT, b"bn", 7, 10, 0),
        counter(DECREMENT, b"bn", 100, 10, 0),
        keyed(GET, b"bn"),
        store(SET, b"bt", b"text"),
        counter(INCREMENT, b"bt", 1, 0, 0),
        counter(DECREMENT, b"bd", 1, 77, 100),
        keyed(GET, b"bd"),
        Frame { cas: 99_999, ..counter(INCREMENT, b"bn", 1, 0, 0) },
    ])
}

fn expiry() -> Vec<Step> {
    each(&[
        store(SET, b"be", b"e"),
        Frame { extras: &[0, 0, 0, 100], ..keyed(TOUCH, b"be") },
        Frame { extras: &[0, 0, 0, 100], ..keyed(TOUCH, b"none") },
        Frame { extras: &[0, 0, 0, 100], ..keyed(GAT, b"be") },
        Frame { extras: &[0, 0, 0, 100], ..keyed(GATK, b"be") },
        Frame { extras: &[0, 0, 0, 100], ..keyed(GAT, b"none") },
        Frame { extras: &[0, 0, 0, 100], ..keyed(GATK, b"none") },
        Frame { extras: &[0, 0x27, 0x8d, 0x01], ..keyed(TOUCH, b"be") },
        keyed(GET, b"be"),
    ])
}

fn large() -> Vec<Step> {
    let big: &'static [u8] = vec![b'b'; 1_000_000].leak();
    let huge: &'static [u8] = vec![b'h'; 1_048_577].leak();
    each(&[
        store(SET, b"bl", big),
        keyed(GET, b"bl"),
        store(SET, b"bl", huge),
        keyed(GET, b"bl"),
        store(SET, b"bl", b"small"),
        store(ADD, b"bl2", huge),
        store(SETQ, b"bl", huge),
        keyed(GET, b"bl"),
    ])
}

/// memcached does not know this opcode and swallows its body twice: the second time out of what follows.
fn unknown_with_a_body() -> Vec<Step> {
    let mut odd = step(&[Frame { extras: &[0, 0, 0, 0], ..Frame::new(VERBOSITY) }]);
    odd.send.extend([0; 4]);
    vec![odd, step(&[Frame::new(VERSION)])]
}

fn rest() -> Vec<Step> {
    each(&[
        Frame { opaque: 77, ..Frame::new(NOOP) },
        Frame::new(VERSION),
        Frame { key: b"settings", ..Frame::new(STAT) },
        Frame { key: b"reset", ..Frame::new(STAT) },
        Frame::new(STAT),
        Frame { key: b"nonsense", ..Frame::new(STAT) },
        Frame::new(SASL_LIST),
        store(SET, b"bf", b"f"),
        Frame { extras: &[0, 0, 3, 232], ..Frame::new(FLUSH) },
        keyed(GET, b"bf"),
        Frame::new(FLUSH),
        keyed(GET, b"bf"),
        Frame { opaque: 3, ..Frame::new(0x7f) },
        Frame { opaque: 3, ..Frame::new(0x3e) },
    ])
}
