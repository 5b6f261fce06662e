//! decode(encode(x)) = x.

use memcloud_protocol::memcache::binary::{self, HEADER, Header, MAGIC_REQUEST, Opcode};
use memcloud_protocol::memcache::encode;
use memcloud_protocol::memcache::text::{Command, Decoded, Framing, Request, decode};
use proptest::prelude::*;

use crate::grammar::{careless_line, valid_line};

fn request(line: &[u8]) -> Request<'_> {
    match decode(line, &Framing::default()) {
        Decoded::Request(request) => request,
        other => panic!("{:?}: {other:?}", String::from_utf8_lossy(line)),
    }
}

/// The flag q is written last; all else comes back as it was.
fn assert_same(before: &Request<'_>, after: &Request<'_>) {
    assert_eq!((before.body, before.quiet.is_some()), (after.body, after.quiet.is_some()));
    match (before.command, after.command) {
        (Command::Meta(before), Command::Meta(after)) => {
            assert_eq!((before.verb, before.key), (after.verb, after.key));
            let flags = |meta: memcloud_protocol::memcache::text::Meta<'_>| {
                meta.flags()
                    .filter(|&(letter, _)| letter != b'q')
                    .map(|(l, t)| (l, t.to_vec()))
                    .collect::<Vec<_>>()
            };
            assert_eq!(flags(before), flags(after));
        }
        (before, after) => assert_eq!(before, after),
    }
}

proptest! {
    #[test]
    fn text_lines(line in prop_oneof![4 => valid_line(), 1 => careless_line()]) {
        let before = request(&line);
        let mut out = Vec::new();
        if encode::line(&before.command, before.body, before.quiet.is_some(), &mut out) {
            assert_same(&before, &request(&out));
        }
    }

    #[test]
    fn a_valid_line_is_plainly_valid_and_loud_without_its_token(line in valid_line()) {
        let before = request(&line);
        prop_assert!(before.command != Command::Odd, "{:?}", String::from_utf8_lossy(&line));
        let (first, second) = before.loud();
        let loud = [first, second].concat();
        let after = request(&loud);
        prop_assert_eq!(&after.quiet, &None);
        prop_assert_eq!(after.body, before.body);
        prop_assert_eq!(std::mem::discriminant(&after.command), std::mem::discriminant(&before.command));
    }

    #[test]
    fn binary_packets(
        opcode in proptest::sample::select(Opcode::ALL), opaque: u32, cas: u64, vbucket: u16,
        extras in prop::collection::vec(0u8.., 0..21), key in prop::collection::vec(0u8.., 0..250), value_len in 0u32..1000,
    ) {
        let header = Header {
            magic: MAGIC_REQUEST,
            opcode: opcode.to_byte(),
            key_len: key.len() as u16,
            extras_len: extras.len() as u8,
            data_type: 0,
            status_or_vbucket: vbucket,
            body_len: (extras.len() + key.len()) as u32 + value_len,
            opaque,
            cas,
        };
        let mut out = Vec::new();
        header.write(&mut out);
        prop_assert_eq!(out.len(), HEADER);
        out.extend(extras.iter().chain(&key));
        let binary::Decoded::Request(request) = binary::decode(&out) else { panic!() };
        prop_assert_eq!(request.header, header);
        prop_assert_eq!((request.opcode, request.extras, request.key), (opcode, &extras[..], &key[..]));
        prop_assert_eq!(request.head, out.len());
        prop_assert_eq!(request.quiet, opcode.loud().map(Opcode::to_byte));
    }
}
