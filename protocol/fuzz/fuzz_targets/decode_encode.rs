//! Whatever is decoded and can be written is written and decoded to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memcloud_protocol::memcache::binary::{self, Header};
use memcloud_protocol::memcache::encode::{self, MetaRequest};
use memcloud_protocol::memcache::key::base64;
use memcloud_protocol::memcache::reply::{ValueLine, classify};
use memcloud_protocol::memcache::text::{Command, Decoded, Framing, Request, decode};

fuzz_target!(|input: &[u8]| {
    lines(input);
    keys(input);
    if let Some(header) = Header::read(input) {
        let mut out = Vec::new();
        header.write(&mut out);
        assert_eq!(out, &input[..binary::HEADER]);
    }
    if let Some(value) = ValueLine::parse(input) {
        let mut out = Vec::new();
        value.write(&mut out);
        assert_eq!(ValueLine::parse(&out[..out.len() - 2]), Some(value));
        let _ = classify(input);
    }
});

fn lines(input: &[u8]) {
    let framing = Framing::default();
    let Decoded::Request(before) = decode(input, &framing) else { return };
    let mut out = Vec::new();
    if encode::line(&before.command, before.body, before.quiet.is_some(), &mut out) {
        let Decoded::Request(after) = decode(&out, &framing) else { panic!("{out:?}") };
        assert_eq!(after.line, out);
        assert_same(&before, &after);
    } else {
        assert!(out.is_empty());
    }
}

fn assert_same(before: &Request<'_>, after: &Request<'_>) {
    assert_eq!((before.body, before.quiet.is_some()), (after.body, after.quiet.is_some()));
    match (before.command, after.command) {
        (Command::Meta(before), Command::Meta(after)) => {
            // q moves to the end, everything else keeps its place.
            assert_eq!((before.verb, before.key), (after.verb, after.key));
            let rest = |&(letter, _): &(u8, &[u8])| letter != b'q';
            assert!(before.flags().filter(rest).eq(after.flags().filter(rest)));
        }
        (before, after) => assert_eq!(before, after),
    }
}

fn keys(input: &[u8]) {
    let mut out = Vec::new();
    if let Ok(request) = MetaRequest::get(input, &mut out) {
        request.flag(b'v').finish();
        let Decoded::Request(request) = decode(&out, &Framing::default()) else { panic!("{out:?}") };
        let Command::Meta(meta) = request.command else { panic!("{out:?}") };
        assert_eq!(&*meta.decoded_key(), input);
    }
    if let Some(plain) = base64::decode(input) {
        let mut again = Vec::new();
        base64::encode(&plain, &mut again);
        assert_eq!(base64::decode(&again), Some(plain));
    }
}
