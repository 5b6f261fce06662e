//! Keys: what a valid one is, and the base64 form in which meta commands carry any other.
//!
//! A key that came by the binary dialect may hold blanks and line ends. Text can name it only in base64 (flag
//! `b`), where the limit of 250 bytes counts the base64 text: a key of more than 187 such bytes has no text
//! form at all. The same item has one name, its plain bytes; order and compare by those.

pub mod base64;

/// The longest key, in bytes on the wire.
pub const KEY_MAX: usize = 250;

/// Whether every version of memcached takes `key` in a text command as it is: 1 to 250 bytes, no blank, no
/// control byte.
///
/// memcached 1.6.18 takes some control bytes too; they are left out because other versions need not.
pub fn is_valid(key: &[u8]) -> bool {
    !key.is_empty() && key.len() <= KEY_MAX && key.iter().all(|&byte| is_key_byte(byte))
}

/// Whether a byte may stand in a valid key.
pub(crate) fn is_key_byte(byte: u8) -> bool {
    byte > 0x20 && byte != 0x7f
}

/// How a text command can name a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextForm {
    /// As it is.
    Plain,
    /// In base64 with flag `b`; meta commands only.
    Base64,
    /// Not at all: empty, over 250 bytes, or in need of base64 and too long for it.
    None,
}

/// The text form of `key`.
pub fn text_form(key: &[u8]) -> TextForm {
    if is_valid(key) {
        TextForm::Plain
    } else if !key.is_empty() && base64::encoded_len(key.len()) <= KEY_MAX {
        TextForm::Base64
    } else {
        TextForm::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_plain_keys() {
        assert!(is_valid(b"k"));
        assert!(is_valid(&[b'k'; 250]));
        assert!(is_valid("käse".as_bytes()));
        for key in [&b""[..], &[b'k'; 251], b"a b", b"a\tb", b"a\x7f", b"a\0", b"a\r"] {
            assert!(!is_valid(key), "{key:?}");
        }
    }

    #[test]
    fn limits_of_base64_keys() {
        assert_eq!(text_form(&[b'k'; 250]), TextForm::Plain);
        assert_eq!(text_form(&[b' '; 186]), TextForm::Base64);
        assert_eq!(text_form(&[b' '; 187]), TextForm::None);
        assert_eq!(text_form(b""), TextForm::None);
        assert_eq!(text_form(&[b'k'; 251]), TextForm::None);
    }
}
