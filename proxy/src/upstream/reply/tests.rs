use super::*;

/// Frames `stream` as replies of these shapes, fed in chunks of `step` bytes; returns each reply's bytes.
fn replies(shapes: &[Shape], stream: &[u8], step: usize) -> Vec<Vec<u8>> {
    let mut framer = Framer::default();
    let mut done: Vec<Vec<u8>> = Vec::new();
    let mut current = Vec::new();
    let mut held: Vec<u8> = Vec::new();
    for chunk in stream.chunks(step) {
        held.extend_from_slice(chunk);
        loop {
            let Some(&shape) = shapes.get(done.len()) else {
                assert!(held.is_empty(), "bytes beyond the last reply: {held:?}");
                break;
            };
            let (len, last) = match framer.next(shape, &held) {
                Piece::Incomplete => break,
                Piece::Head { len, last } | Piece::Data { len, last } => (len, last),
                Piece::Malformed => panic!("malformed: {held:?}"),
            };
            current.extend(held.drain(..len));
            if last {
                done.push(std::mem::take(&mut current));
            }
        }
    }
    done
}

fn check(shapes: &[Shape], expected: &[&[u8]]) {
    let stream = expected.concat();
    for step in 1..=stream.len() {
        let found = replies(shapes, &stream, step);
        assert_eq!(found, expected, "cut into pieces of {step}");
    }
}

#[test]
fn a_line_ends_a_storage_reply() {
    check(&[Shape::Line; 3], &[b"STORED\r\n", b"SERVER_ERROR object too large for cache\r\n", b"HD\r\n"]);
}

#[test]
fn a_value_behind_va_belongs_to_it_whatever_it_holds() {
    check(&[Shape::Line; 4], &[b"VA 5 f0\r\nEN\r\nx\r\n", b"EN\r\n", b"VA 0\r\n\r\n", b"HD\r\n"]);
}

#[test]
fn values_end_at_the_first_other_line() {
    check(
        &[Shape::Values; 4],
        &[
            b"VALUE a 0 5\r\nEND\r\n\r\nVALUE b 1 0 77\r\n\r\nEND\r\n",
            b"END\r\n",
            b"CLIENT_ERROR line format\r\n",
            b"END\r\n",
        ],
    );
}

#[test]
fn listings_end_at_the_first_line_that_is_none() {
    check(&[Shape::Stats; 3], &[b"STAT a END\r\nITEM k [1 b; 0 s]\r\nEND\r\n", b"RESET\r\n", b"END\r\n"]);
}

#[test]
fn an_odd_answer_ends_with_the_noop_behind_it() {
    check(
        &[Shape::UntilNoop; 4],
        &[
            b"MN\r\n",
            b"ERROR\r\nMN\r\n",
            b"A\r\nB\r\nMN\r\n",
            b"VALUE k 0 8\r\na\r\nMN\r\nb\r\nEND\r\nVA 2\r\nMN\r\nMN\r\n",
        ],
    );
}

#[test]
fn a_dump_ends_at_its_end_or_at_a_refusal() {
    check(
        &[Shape::Dump; 4],
        &[
            b"key=a exp=-1 la=0\nkey=b exp=-1 la=0\nEND\r\n",
            b"BUSY currently processing crawler request\r\n",
            b"OK\r\nmg a\r\nmg b\r\nEN\r\n",
            b"END\r\n",
        ],
    );
}

#[test]
fn packets_end_by_their_header() {
    let mut value = Vec::new();
    let header = binary::Header {
        magic: binary::MAGIC_RESPONSE,
        opcode: 0,
        key_len: 0,
        extras_len: 4,
        data_type: 0,
        status_or_vbucket: 0,
        body_len: 7,
        opaque: 9,
        cas: 1,
    };
    header.write(&mut value);
    value.extend_from_slice(b"\0\0\0\0abc");
    let mut bare = Vec::new();
    binary::Header { extras_len: 0, body_len: 0, ..header }.write(&mut bare);
    let mut stat = Vec::new();
    binary::Header { opcode: 0x10, key_len: 3, extras_len: 0, body_len: 4, ..header }.write(&mut stat);
    stat.extend_from_slice(b"pid1");
    let stats = [stat.as_slice(), &stat, &bare].concat();
    check(&[Shape::Packet, Shape::Packet, Shape::Packets, Shape::Packet], &[&value, &bare, &stats, &bare]);
}

#[test]
fn what_is_no_reply_is_noticed() {
    assert_eq!(Framer::default().next(Shape::Packet, &[0x80; 24]), Piece::Malformed);
    assert_eq!(Framer::default().next(Shape::Line, &[b'x'; REPLY_LINE_MAX + 1]), Piece::Malformed);
}

#[test]
fn raw_bytes_have_no_end() {
    assert_eq!(Framer::default().next(Shape::Raw, b"abc"), Piece::Data { len: 3, last: false });
    assert_eq!(Framer::default().next(Shape::Raw, b""), Piece::Incomplete);
}
