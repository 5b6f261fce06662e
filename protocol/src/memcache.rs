//! memcached's three dialects: classic text, meta (which lives on text connections) and binary.
//!
//! | module | reads or writes |
//! |---|---|
//! | [`text`] | request lines of the two text dialects |
//! | [`binary`] | request and response packets of the binary dialect |
//! | [`reply`] | memcached's answers in text |
//! | [`encode`] | text requests of our own |
//! | [`key`], [`expiry`], [`error`] | what they share: keys and base64, exptime's readings, the exact error words |

pub mod binary;
pub mod encode;
pub mod error;
pub mod expiry;
pub mod key;
pub mod number;
pub mod reply;
pub mod text;

/// What a connection speaks. Its first byte decides, for as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Classic and meta commands: lines.
    Text,
    /// Packets with a header of 24 bytes.
    Binary,
}

impl Dialect {
    /// The dialect of a connection that begins with `first_byte`.
    ///
    /// Only the request magic means binary: 0x81, the magic of responses, is taken for text by memcached and
    /// answered with `ERROR`.
    pub fn of(first_byte: u8) -> Self {
        if first_byte == binary::MAGIC_REQUEST { Self::Binary } else { Self::Text }
    }
}
