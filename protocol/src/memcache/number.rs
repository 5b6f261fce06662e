//! Decimal numbers, read strictly and written without an allocation.
//!
//! memcached reads numbers with `strtol` and friends, which take a sign, leading blanks and, in 1.6.18, values
//! that do not fit (they are cut to 32 bits). Here only what every version reads alike is a number.

/// Digits only, no sign, fits 64 bits.
pub(crate) fn parse_u64(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    let mut value = 0u64;
    for &byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    Some(value)
}

/// Digits only, fits 32 bits.
pub(crate) fn parse_u32(text: &[u8]) -> Option<u32> {
    parse_u64(text).and_then(|value| u32::try_from(value).ok())
}

/// Digits with an optional `-`, fits a signed number of 32 bits: what exptime is for every version.
pub(crate) fn parse_i32(text: &[u8]) -> Option<i32> {
    match text {
        [b'-', digits @ ..] => {
            parse_u64(digits).and_then(|value| i32::try_from(-i64::try_from(value).ok()?).ok())
        }
        digits => parse_u64(digits).and_then(|value| i32::try_from(value).ok()),
    }
}

/// Digits with an optional `-`, fits 64 bits.
pub(crate) fn parse_i64(text: &[u8]) -> Option<i64> {
    match text {
        [b'-', digits @ ..] => parse_u64(digits).and_then(|value| 0i64.checked_sub_unsigned(value)),
        digits => parse_u64(digits).and_then(|value| i64::try_from(value).ok()),
    }
}

/// Appends `value` in decimal.
pub fn write_u64(mut value: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// Appends `value` in decimal, with a `-` when it is negative.
pub(crate) fn write_i64(value: i64, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    write_u64(value.unsigned_abs(), out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_read_and_what_lies_beyond_is_not() {
        assert_eq!(parse_u64(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse_u64(b"18446744073709551616"), None);
        assert_eq!(parse_u64(b"007"), Some(7));
        assert_eq!(parse_u32(b"4294967295"), Some(u32::MAX));
        assert_eq!(parse_u32(b"4294967296"), None);
        assert_eq!(parse_i32(b"-2147483648"), Some(i32::MIN));
        assert_eq!(parse_i32(b"-2147483649"), None);
        assert_eq!(parse_i32(b"2147483648"), None);
        assert_eq!(parse_i32(b"-18446744073709551615"), None);
        assert_eq!(parse_i64(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(parse_i64(b"9223372036854775808"), None);
    }

    #[test]
    fn signs_blanks_and_nothing_are_no_numbers() {
        for text in [&b""[..], b"-", b"+1", b" 1", b"1 ", b"1x", b"0x1", b"--1", b"000000000000000000001"] {
            assert_eq!((parse_u64(text), parse_i64(text)), (None, None), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read(unsigned: u64, signed: i64) {
            let mut out = Vec::new();
            write_u64(unsigned, &mut out);
            proptest::prop_assert_eq!(parse_u64(&out), Some(unsigned));
            out.clear();
            write_i64(signed, &mut out);
            proptest::prop_assert_eq!(parse_i64(&out), Some(signed));
        }
    }
}
