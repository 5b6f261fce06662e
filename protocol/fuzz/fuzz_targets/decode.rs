//! Any bytes: no panic, no more taken than given, no difference where they are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memcloud_protocol::memcache::key::KEY_MAX;
use memcloud_protocol::memcache::text::{
    Command, Decoded, Framing, LINE_MAX, Request, VALUE_LEN_MAX, decode,
};
use memcloud_protocol::memcache::{binary, key, reply};

fuzz_target!(|input: &[u8]| {
    let Some((&choice, input)) = input.split_first() else { return };
    let framing = if choice & 1 == 0 { Framing::V1_6_18 } else { Framing::V1_6_45 };
    let cut = usize::from(choice >> 1) % (input.len() + 1);
    text(input, cut, &framing);
    packets(input, cut);
    answers(input);
});

fn text(input: &[u8], cut: usize, framing: &Framing) {
    let whole = decode(input, framing);
    match decode(&input[..cut], framing) {
        Decoded::Incomplete => assert!(cut <= LINE_MAX),
        Decoded::LongGet => {
            assert!(cut > LINE_MAX && matches!(whole, Decoded::LongGet | Decoded::Request(_)))
        }
        part => assert_eq!(part, whole),
    }
    // A stream: each step takes a whole line and at most the data it announces.
    let mut rest = input;
    while let Decoded::Request(request) = decode(rest, framing) {
        check(&request, rest);
        let taken = request.line.len() as u64 + request.body;
        rest = usize::try_from(taken).ok().and_then(|taken| rest.get(taken..)).unwrap_or_default();
    }
}

fn check(request: &Request<'_>, rest: &[u8]) {
    assert!(rest.starts_with(request.line) && request.line.ends_with(b"\n"));
    assert_eq!(request.line.iter().filter(|&&byte| byte == b'\n').count(), 1);
    assert!(request.body <= VALUE_LEN_MAX + 2);
    let (before, after) = request.loud();
    match &request.quiet {
        Some(quiet) => {
            assert!(matches!(&request.line[quiet.clone()], b" noreply" | b" q"));
            assert_eq!(before.len() + quiet.len() + after.len(), request.line.len());
        }
        None => assert_eq!((before, after), (request.line, &b""[..])),
    }
    let _ = request.reach();
    match request.command {
        Command::Get { keys, .. } | Command::GetAndTouch { keys, .. } => {
            assert!(keys.count() > 0 && keys.iter().all(key::is_valid));
            assert_eq!(keys.iter().count(), keys.count());
            assert_eq!(keys.single().is_some(), keys.count() == 1);
        }
        Command::Store { key, .. } => assert!(key::is_valid(key) && request.body >= 2),
        Command::Delete { key } | Command::Arithmetic { key, .. } | Command::Touch { key, .. } => {
            assert!(key::is_valid(key));
        }
        Command::Meta(meta) => {
            assert!(key::is_valid(meta.key) && (1..=KEY_MAX).contains(&meta.decoded_key().len()));
            assert!(meta.flags().count() <= 17 && meta.flags().all(|(letter, _)| meta.has(letter)));
            let _ = meta.mode();
        }
        _ => {}
    }
}

fn packets(input: &[u8], cut: usize) {
    let whole = binary::decode(input);
    let part = binary::decode(&input[..cut]);
    assert!(part == binary::Decoded::Incomplete || part == whole);
    if let binary::Decoded::Request(request) = whole {
        assert_eq!(request.head, binary::HEADER + request.extras.len() + request.key.len());
        assert!(request.head <= input.len() && request.body <= u64::from(request.header.body_len));
        assert!(!request.valid || request.key.len() <= KEY_MAX);
    }
}

fn answers(input: &[u8]) {
    let mut out = Vec::new();
    for line in input.split(|&byte| byte == b'\n') {
        let _ = reply::classify(line);
        assert!(reply::meta_flags(line).count() <= line.len());
        let before = out.len();
        if reply::write_value_line(line, line.len() % 2 == 0, &mut out).is_err() {
            assert_eq!(out.len(), before);
        }
    }
}
