//! The base64 of meta keys: standard alphabet, padding required.
//!
//! memcached does not look at the bits that padding leaves over: `YR==` names the same item as `YQ==` (tried on
//! 1.6.18, which also answers with the latter). The decoder does as memcached does, so that both proxies of a
//! pair call one item by one name.

/// Bytes of base64 text for `len` bytes.
pub const fn encoded_len(len: usize) -> usize {
    len.div_ceil(3) * 4
}

/// Appends `plain` in base64 to `out`.
pub fn encode(plain: &[u8], out: &mut Vec<u8>) {
    out.reserve(encoded_len(plain.len()));
    for chunk in plain.chunks(3) {
        let second = chunk.get(1).copied().unwrap_or(0);
        let third = chunk.get(2).copied().unwrap_or(0);
        let bits = u32::from(chunk[0]) << 16 | u32::from(second) << 8 | u32::from(third);
        let digit = |shift: u32| ALPHABET[(bits >> shift) as usize & 63];
        out.extend_from_slice(&[digit(18), digit(12)]);
        out.push(if chunk.len() > 1 { digit(6) } else { b'=' });
        out.push(if chunk.len() > 2 { digit(0) } else { b'=' });
    }
}

/// Whether `text` is base64 of at least one byte.
pub fn is_valid(text: &[u8]) -> bool {
    !text.is_empty()
        && text.len().is_multiple_of(4)
        && text[..text.len() - padding(text)].iter().all(|&byte| value(byte).is_some())
}

/// The bytes that `text` stands for, or nothing when it is not base64 of at least one byte.
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    if !is_valid(text) {
        return None;
    }
    let padding = padding(text);
    let mut plain = Vec::with_capacity(text.len() / 4 * 3);
    for quad in text.chunks(4) {
        let bits = quad.iter().fold(0u32, |bits, &byte| bits << 6 | value(byte).unwrap_or(0));
        plain.extend_from_slice(&bits.to_be_bytes()[1..]);
    }
    plain.truncate(plain.len() - padding);
    Some(plain)
}

fn padding(text: &[u8]) -> usize {
    match text {
        [.., b'=', b'='] => 2,
        [.., b'='] => 1,
        _ => 0,
    }
}

fn value(byte: u8) -> Option<u32> {
    let value = match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(plain, &mut out);
        out
    }

    #[test]
    fn known_pairs() {
        for (plain, text) in [
            (&b"f"[..], &b"Zg=="[..]),
            (b"fo", b"Zm8="),
            (b"foo", b"Zm9v"),
            (b"foob", b"Zm9vYg=="),
            (b"a b", b"YSBi"),
        ] {
            assert_eq!(encoded(plain), text);
            assert_eq!(decode(text).as_deref(), Some(plain));
        }
    }

    #[test]
    fn memcached_ignores_the_bits_behind_the_last_byte() {
        assert_eq!(decode(b"YR=="), decode(b"YQ=="));
    }

    #[test]
    fn what_memcached_refuses_is_refused() {
        for text in [&b""[..], b"YQ", b"YQ=", b"Y-Q=", b"====", b"A===", b"YQ==YQ==", b"Y=Q=", b"YQ\n="] {
            assert_eq!(decode(text), None, "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn round_trip(plain in proptest::collection::vec(0u8.., 1..200)) {
            let text = encoded(&plain);
            proptest::prop_assert_eq!(text.len(), encoded_len(plain.len()));
            proptest::prop_assert_eq!(decode(&text), Some(plain));
        }
    }
}
