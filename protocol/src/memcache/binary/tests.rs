//! Golden packets, as tried on memcached 1.6.18.

use super::*;

fn packet(opcode: u8, extras: &[u8], key: &[u8], value: &[u8]) -> Vec<u8> {
    let header = Header {
        magic: MAGIC_REQUEST,
        opcode,
        key_len: key.len() as u16,
        extras_len: extras.len() as u8,
        body_len: (extras.len() + key.len() + value.len()) as u32,
        opaque: 0xdead_beef,
        cas: 9,
        ..Header::default()
    };
    let mut out = Vec::new();
    header.write(&mut out);
    [&out, extras, key, value].concat()
}

fn decoded(input: &[u8]) -> Request<'_> {
    match decode(input) {
        Decoded::Request(request) => request,
        other => panic!("{other:?}"),
    }
}

/// The meaning of a valid packet, its body and the opcode of its loud form.
fn meaning(opcode: u8, extras: &[u8], key: &[u8], value: &[u8]) -> (Command, u64, Option<u8>) {
    let input = packet(opcode, extras, key, value);
    let request = decoded(&input);
    assert!(request.valid, "{opcode:#x}");
    assert_eq!((request.key, request.extras, request.head), (key, extras, HEADER + extras.len() + key.len()));
    assert_eq!((request.header.opaque, request.header.cas), (0xdead_beef, 9));
    (request.command, request.body, request.quiet)
}

const EXPTIME: &[u8] = &[0, 0, 0, 60];
const FLAGS_EXPTIME: &[u8] = &[0, 0, 0, 7, 0, 0, 0, 60];
const DELTA_INITIAL_EXPTIME: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 255, 255, 255, 255];

#[test]
fn retrievals() {
    for (opcode, with_key, quiet) in
        [(0x00, false, None), (0x0c, true, None), (0x09, false, Some(0)), (0x0d, true, Some(0x0c))]
    {
        assert_eq!(meaning(opcode, b"", b"a b", b""), (Command::Get { with_key }, 0, quiet));
    }
    for (opcode, with_key, quiet) in
        [(0x1d, false, None), (0x23, true, None), (0x1e, false, Some(0x1d)), (0x24, true, Some(0x23))]
    {
        let command = Command::GetAndTouch { exptime: 60, with_key };
        assert_eq!(meaning(opcode, EXPTIME, b"k", b""), (command, 0, quiet));
    }
}

#[test]
fn writes() {
    for (loud, quiet, verb) in
        [(0x01, 0x11, StoreVerb::Set), (0x02, 0x12, StoreVerb::Add), (0x03, 0x13, StoreVerb::Replace)]
    {
        let command = Command::Store { verb, flags: 7, exptime: 60, cas: 9 };
        assert_eq!(meaning(loud, FLAGS_EXPTIME, b"k", b"value"), (command, 5, None));
        assert_eq!(meaning(quiet, FLAGS_EXPTIME, b"k", b""), (command, 0, Some(loud)));
    }
    for (loud, quiet, verb) in [(0x0e, 0x19, StoreVerb::Append), (0x0f, 0x1a, StoreVerb::Prepend)] {
        assert_eq!(meaning(loud, b"", b"k", b"value"), (Command::Concat { verb, cas: 9 }, 5, None));
        assert_eq!(meaning(quiet, b"", b"k", b"value"), (Command::Concat { verb, cas: 9 }, 5, Some(loud)));
    }
    for (loud, quiet, verb) in [(0x05, 0x15, ArithmeticVerb::Incr), (0x06, 0x16, ArithmeticVerb::Decr)] {
        let command = Command::Arithmetic { verb, delta: 1, initial: 2, exptime: u32::MAX, cas: 9 };
        assert_eq!(meaning(loud, DELTA_INITIAL_EXPTIME, b"k", b""), (command, 0, None));
        assert_eq!(meaning(quiet, DELTA_INITIAL_EXPTIME, b"k", b""), (command, 0, Some(loud)));
    }
    assert_eq!(meaning(0x04, b"", b"k", b""), (Command::Delete { cas: 9 }, 0, None));
    assert_eq!(meaning(0x14, b"", b"k", b""), (Command::Delete { cas: 9 }, 0, Some(0x04)));
    assert_eq!(meaning(0x1c, EXPTIME, b"k", b""), (Command::Touch { exptime: 60 }, 0, None));
    assert_eq!(meaning(0x08, b"", b"", b""), (Command::Flush { delay: None }, 0, None));
    assert_eq!(meaning(0x18, EXPTIME, b"", b""), (Command::Flush { delay: Some(60) }, 0, Some(0x08)));
}

#[test]
fn the_rest() {
    assert_eq!(meaning(0x0a, b"", b"", b""), (Command::Noop, 0, None));
    assert_eq!(meaning(0x0b, b"", b"", b""), (Command::Version, 0, None));
    assert_eq!(meaning(0x07, b"", b"", b""), (Command::Quit, 0, None));
    assert_eq!(meaning(0x17, b"", b"", b""), (Command::Quit, 0, Some(0x07)));
    assert_eq!(meaning(0x10, b"", b"", b""), (Command::Stat, 0, None));
    assert_eq!(meaning(0x10, b"", b"items", b""), (Command::Stat, 0, None));
    assert_eq!(meaning(0x20, b"", b"", b""), (Command::Sasl, 0, None));
    assert_eq!(meaning(0x21, b"", b"PLAIN", b"\0user\0pass"), (Command::Sasl, 10, None));
    assert_eq!(meaning(0x22, b"", b"PLAIN", b"more"), (Command::Sasl, 4, None));
}

#[test]
fn an_unknown_opcode_costs_another_body_length() {
    for opcode in [0x1b, 0x1f, 0x25, 0x30, 0x55, 0xff] {
        assert_eq!(meaning(opcode, &[0; 22], b"k", b""), (Command::Unknown, 23, None));
    }
}

#[test]
fn what_follows_a_touch_or_a_stat_is_the_next_packet() {
    for (opcode, extras) in [(0x1c, EXPTIME), (0x1d, EXPTIME), (0x24, EXPTIME), (0x10, b"")] {
        assert_eq!(meaning(opcode, extras, b"k", b"value").1, 0);
    }
}

#[test]
fn lengths_that_do_not_suit_the_opcode() {
    let key = [b'k'; 251];
    // opcode, extras, key, value
    type Packet<'a> = (u8, &'a [u8], &'a [u8], &'a [u8]);
    let table: &[Packet<'_>] = &[
        (0x00, b"", b"", b""),
        (0x00, b"", b"k", b"value"),
        (0x00, b"x", b"k", b""),
        (0x00, b"", &key, b""),
        (0x55, b"", &key, b""),
        (0x01, FLAGS_EXPTIME, b"", b"v"),
        (0x01, &[0; 7], b"k", b"v"),
        (0x04, b"", b"k", b"v"),
        (0x04, EXPTIME, b"k", b""),
        (0x05, &[0; 8], b"k", b""),
        (0x05, DELTA_INITIAL_EXPTIME, b"k", b"v"),
        (0x07, b"", b"k", b""),
        (0x08, b"", b"k", b""),
        (0x08, b"", b"", b"v"),
        (0x08, &[0; 3], b"", b""),
        (0x0a, b"", b"k", b""),
        (0x0b, b"", b"", b"v"),
        (0x0e, b"x", b"k", b"v"),
        (0x0e, b"", b"", b"v"),
        (0x10, b"x", b"", b""),
        (0x1c, EXPTIME, b"", b""),
        (0x1d, b"", b"k", b""),
        (0x20, b"", b"k", b""),
        (0x21, b"", b"", b"v"),
    ];
    for &(opcode, extras, key, value) in table {
        let input = packet(opcode, extras, key, value);
        let request = decoded(&input);
        assert_eq!(
            (request.valid, request.command, request.body),
            (false, Command::Unknown, 0),
            "{opcode:#x}"
        );
    }
    let mut short_body = packet(0x00, b"", b"key", b"");
    short_body[11] = 2;
    assert!(!decoded(&short_body).valid, "a key longer than the body");
}

#[test]
fn heads_are_awaited_and_other_magics_refused() {
    let whole = packet(0x01, FLAGS_EXPTIME, b"key", b"value");
    for len in 0..HEADER + 8 + 3 {
        assert_eq!(decode(&whole[..len]), Decoded::Incomplete, "{len}");
    }
    assert_eq!(decode(&whole[..HEADER + 11]), decode(&whole), "the value need not be there");
    for magic in [0x00, 0x7f, MAGIC_RESPONSE, b'g'] {
        assert_eq!(decode(&[magic]), Decoded::BadMagic);
    }
}

#[test]
fn opcodes_and_their_quiet_forms() {
    for byte in 0..=255 {
        assert_eq!(Opcode::from_byte(byte).to_byte(), byte);
    }
    for &opcode in Opcode::ALL {
        let quiet = format!("{opcode:?}").ends_with('Q');
        assert_eq!(opcode.loud().is_some(), quiet, "{opcode:?}");
        assert_eq!(opcode.loud().and_then(Opcode::loud), None);
        assert!(!opcode.quiet_hides(status::INVALID_ARGUMENTS));
        if !quiet {
            assert!(!opcode.quiet_hides(status::SUCCESS) && !opcode.quiet_hides(status::KEY_NOT_FOUND));
        }
    }
    assert!(Opcode::GetQ.quiet_hides(status::KEY_NOT_FOUND) && !Opcode::GetQ.quiet_hides(status::SUCCESS));
    assert!(Opcode::SetQ.quiet_hides(status::SUCCESS) && !Opcode::DeleteQ.quiet_hides(status::KEY_NOT_FOUND));
}

#[test]
fn an_error_packet_is_memcacheds_own() {
    let mut out = Vec::new();
    write_error(0x0a, status::INVALID_ARGUMENTS, 7, status::text(status::INVALID_ARGUMENTS), &mut out);
    assert_eq!(out, b"\x81\x0a\0\0\0\0\0\x04\0\0\0\x11\0\0\0\x07\0\0\0\0\0\0\0\0Invalid arguments");
    let header = Header::read(&out).unwrap();
    assert_eq!((header.magic, header.value_len(), header.opaque), (MAGIC_RESPONSE, 17, 7));
}
