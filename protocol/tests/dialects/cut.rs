//! Input cut at every byte gives `Incomplete` or what the whole gives.

use memcloud_protocol::memcache::binary;
use memcloud_protocol::memcache::text::{Decoded, Framing, LINE_MAX, decode};
use proptest::prelude::*;

use crate::grammar::{careless_line, valid_line};

fn assert_text_cuts(input: &[u8]) {
    for framing in [Framing::V1_6_18, Framing::V1_6_45] {
        let whole = decode(input, &framing);
        for len in 0..input.len() {
            match decode(&input[..len], &framing) {
                Decoded::Incomplete => assert!(len <= LINE_MAX),
                Decoded::LongGet => {
                    assert!(len > LINE_MAX && matches!(whole, Decoded::LongGet | Decoded::Request(_)))
                }
                part => assert_eq!(part, whole, "cut at {len}"),
            }
        }
    }
}

proptest! {
    #[test]
    fn text(line in prop_oneof![valid_line(), careless_line()], behind: Vec<u8>) {
        assert_text_cuts(&[line, behind].concat());
    }

    #[test]
    fn any_text(input: Vec<u8>) {
        assert_text_cuts(&input);
    }

    #[test]
    fn binary(mut head in prop::array::uniform24(0u8..), behind in prop::collection::vec(0u8.., 0..400)) {
        // Mostly requests whose lengths can be met.
        (head[0], head[2], head[4]) = (0x80, head[2] & 1, head[4] & 31);
        let input = [&head[..], &behind].concat();
        let whole = binary::decode(&input);
        for len in 0..input.len() {
            let part = binary::decode(&input[..len]);
            prop_assert!(part == binary::Decoded::Incomplete || part == whole, "cut at {}", len);
        }
    }
}

#[test]
fn long_lines() {
    let keys = b" key".repeat(LINE_MAX / 4 + 10);
    for verb in [&b"get"[..], b"gats 0", b"set", b"xyz"] {
        assert_text_cuts(&[verb, &keys, b"\r\nget a\r\n"].concat());
    }
}
