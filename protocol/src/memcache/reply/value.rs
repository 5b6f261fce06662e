//! The line before a value, in both text dialects, and the way from one to the other.

use super::{Line, classify, meta_flags};
use crate::memcache::key;
use crate::memcache::number::{parse_u32, parse_u64, write_u64};

/// `VALUE <key> <flags> <len> [<cas>]`, as `get`, `gets`, `gat` and `gats` answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueLine<'a> {
    /// As asked for.
    pub key: &'a [u8],
    /// The client's, stored beside the value.
    pub flags: u32,
    /// Bytes of the value, without the line end behind it.
    pub len: u64,
    /// With `gets` and `gats`.
    pub cas: Option<u64>,
}

impl<'a> ValueLine<'a> {
    /// Reads a line without its CR LF; nothing when it is no such line.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let mut tokens = line.strip_prefix(b"VALUE ")?.split(|&byte| byte == b' ');
        let key = tokens.next().filter(|key| !key.is_empty())?;
        let flags = parse_u32(tokens.next()?)?;
        let len = parse_u64(tokens.next()?)?;
        let cas = match tokens.next() {
            Some(cas) => Some(parse_u64(cas)?),
            None => None,
        };
        tokens.next().is_none().then_some(Self { key, flags, len, cas })
    }

    /// Appends the line, with its CR LF.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"VALUE ");
        out.extend_from_slice(self.key);
        for number in [Some(u64::from(self.flags)), Some(self.len), self.cas].into_iter().flatten() {
            out.push(b' ');
            write_u64(number, out);
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// An upstream's line is not what the request led to expect. Its connection has fallen out of step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("upstream answered with a line of {len} bytes that is no value line for the request")]
pub struct Malformed {
    /// Length of the line; its text may hold a key, which belongs in no log.
    pub len: usize,
}

/// Turns what `mg <key> k f [c] v` answers into what `get` or `gets` would have: `VA 5 kfoo f7 c9` becomes
/// `VALUE foo 7 5` or, with the cas token, `VALUE foo 7 5 9`. Appends the line with its CR LF and returns the
/// length of the value.
pub fn write_value_line(va_line: &[u8], with_cas: bool, out: &mut Vec<u8>) -> Result<u64, Malformed> {
    let line = value_line(va_line, with_cas).ok_or(Malformed { len: va_line.len() })?;
    line.write(out);
    Ok(line.len)
}

fn value_line(va_line: &[u8], with_cas: bool) -> Option<ValueLine<'_>> {
    let Line::Va { len } = classify(va_line) else { return None };
    let (mut found_key, mut flags, mut cas) = (None, None, None);
    for (letter, token) in meta_flags(va_line) {
        match letter {
            b'k' => found_key = Some(token),
            b'f' => flags = Some(parse_u32(token)?),
            b'c' => cas = Some(parse_u64(token)?),
            b'b' => return None,
            _ => {}
        }
    }
    let cas = if with_cas { Some(cas?) } else { None };
    Some(ValueLine { key: found_key.filter(|key| key::is_valid(key))?, flags: flags?, len, cas })
}
