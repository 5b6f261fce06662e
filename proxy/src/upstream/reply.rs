//! Where a reply of memcached ends: incremental framing of whatever comes back on an upstream connection.
//!
//! Promises to find the last byte of a reply of a known [`Shape`] however the bytes are cut, and never to ask
//! for a value to be in memory as a whole: a value is handed on in the pieces in which it arrives.
//! Refuses to know who asked, or what is done with the pieces.
//!
//! ```text
//!  Head ──line without data──► Head or end of reply, by shape
//!   └────line that announces n bytes──► Data(n) ──n bytes──► Head or end of reply
//! ```

use memcloud_protocol::memcache::{binary, reply};

/// What kind of reply is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One line; a `VA` line is followed by its data. Every storage command, every meta command.
    Line,
    /// `VALUE` lines with data until any other line: `get`, `gets`, `gat`, `gats`.
    Values,
    /// `STAT`, `ITEM` or `PREFIX` lines until any other line.
    Stats,
    /// Whatever comes before the line `MN`, that line included: the answer to an odd request and the `mn` behind it.
    UntilNoop,
    /// `lru_crawler metadump|mgdump`: lines without end until `END`, `EN` or an error.
    Dump,
    /// A binary packet.
    Packet,
    /// Binary `stat`: packets until one without key, or an error.
    Packets,
    /// Bytes without end: `watch`, and lines too long to be understood.
    Raw,
}

/// The next piece of a reply at the front of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// More input is needed to say anything.
    Incomplete,
    /// A line or a binary header: `len` bytes. `last` ends the reply.
    Head { len: usize, last: bool },
    /// `len` bytes of data. `last` ends the reply.
    Data { len: usize, last: bool },
    /// Not a reply of this shape.
    Malformed,
}

/// Position within the reply at the front of an upstream connection.
#[derive(Debug, Default)]
pub(crate) struct Framer {
    data_left: u64,
    data_ends_reply: bool,
}

impl Framer {
    /// Says what the front of `input` is. Call again with the input advanced by the piece's length.
    pub(crate) fn next(&mut self, shape: Shape, input: &[u8]) -> Piece {
        if self.data_left > 0 {
            return self.data(input);
        }
        match shape {
            Shape::Packet | Shape::Packets => self.packet(shape, input),
            Shape::Raw if input.is_empty() => Piece::Incomplete,
            Shape::Raw => Piece::Data { len: input.len(), last: false },
            _ => self.line(shape, input),
        }
    }

    fn data(&mut self, input: &[u8]) -> Piece {
        if input.is_empty() {
            return Piece::Incomplete;
        }
        let len = usize::try_from(self.data_left).unwrap_or(usize::MAX).min(input.len());
        self.data_left -= len as u64;
        Piece::Data { len, last: self.data_left == 0 && self.data_ends_reply }
    }

    fn expect_data(&mut self, len: u64, ends_reply: bool) {
        self.data_left = len;
        self.data_ends_reply = ends_reply;
    }

    fn line(&mut self, shape: Shape, input: &[u8]) -> Piece {
        let Some(end) = memchr::memchr(b'\n', input) else {
            return if input.len() > REPLY_LINE_MAX { Piece::Malformed } else { Piece::Incomplete };
        };
        let len = end + 1;
        let text = trim(&input[..len]);
        let last = match shape {
            Shape::Line => match data_after_va(text) {
                Some(data) => {
                    self.expect_data(data + 2, true);
                    false
                }
                None => true,
            },
            Shape::Values => match value_len(text) {
                Some(data) => {
                    self.expect_data(data + 2, false);
                    false
                }
                None => true,
            },
            Shape::Stats => !is_listing(text),
            Shape::Dump => !(text == b"OK" || text.starts_with(b"key=") || text.starts_with(b"mg ")),
            Shape::UntilNoop => match data_after_va(text).or_else(|| value_len(text)) {
                Some(data) => {
                    self.expect_data(data + 2, false);
                    false
                }
                None => text == b"MN",
            },
            Shape::Packet | Shape::Packets | Shape::Raw => true,
        };
        Piece::Head { len, last }
    }

    fn packet(&mut self, shape: Shape, input: &[u8]) -> Piece {
        let Some(header) = binary::Header::read(input) else { return Piece::Incomplete };
        if header.magic != binary::MAGIC_RESPONSE {
            return Piece::Malformed;
        }
        let ends = shape == Shape::Packet || header.key_len == 0 || header.status_or_vbucket != 0;
        self.expect_data(u64::from(header.body_len), ends);
        Piece::Head { len: binary::HEADER, last: ends && header.body_len == 0 }
    }
}

/// A reply line without its line end.
pub(crate) fn trim(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn data_after_va(text: &[u8]) -> Option<u64> {
    if !text.starts_with(b"VA ") {
        return None;
    }
    match reply::classify(text) {
        reply::Line::Va { len } => Some(len),
        _ => None,
    }
}

fn value_len(text: &[u8]) -> Option<u64> {
    if !text.starts_with(b"VALUE ") {
        return None;
    }
    match reply::classify(text) {
        reply::Line::Value { len } => Some(len),
        _ => None,
    }
}

fn is_listing(text: &[u8]) -> bool {
    [&b"STAT "[..], b"ITEM ", b"PREFIX "].iter().any(|word| text.starts_with(word))
}

/// No reply line of memcached comes near this; a longer one means that framing was lost.
const REPLY_LINE_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests;
