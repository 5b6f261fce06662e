//! The line before a value, in both text dialects, and the way from one to the other.

use crate::memcache::key::base64;
use crate::memcache::number::{parse_u32, parse_u64, write_u64};
use crate::memcache::text::MetaFlags;

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
///
/// An item that was stored under a base64 key says its key so for ever, however it is asked for: `kZm9v b`.
pub fn write_value_line(va_line: &[u8], with_cas: bool, out: &mut Vec<u8>) -> Result<u64, Malformed> {
    let malformed = Malformed { len: va_line.len() };
    let line = Tokens::of(va_line, with_cas).ok_or(malformed)?;
    let decoded = if line.base64 { Some(base64::decode(line.key).ok_or(malformed)?) } else { None };
    out.extend_from_slice(b"VALUE ");
    out.extend_from_slice(decoded.as_deref().unwrap_or(line.key));
    for token in [Some(line.flags), Some(line.len.1), line.cas].into_iter().flatten() {
        out.push(b' ');
        out.extend_from_slice(token);
    }
    out.extend_from_slice(b"\r\n");
    Ok(line.len.0)
}

/// What the classic line says. It is copied as text: this runs once a hit.
struct Tokens<'a> {
    len: (u64, &'a [u8]),
    key: &'a [u8],
    base64: bool,
    flags: &'a [u8],
    cas: Option<&'a [u8]>,
}

impl<'a> Tokens<'a> {
    fn of(va_line: &'a [u8], with_cas: bool) -> Option<Self> {
        let rest = va_line.strip_prefix(b"VA ")?;
        let len_end = rest.iter().position(|&byte| byte == b' ')?;
        let len = (parse_u64(&rest[..len_end])?, &rest[..len_end]);
        let (mut key, mut base64, mut flags, mut cas) = (None, false, None, None);
        for (letter, token) in (MetaFlags { text: &rest[len_end + 1..] }) {
            match letter {
                b'k' => key = Some(token).filter(|key| !key.is_empty()),
                b'f' => flags = Some(token).filter(|flags| parse_u32(flags).is_some()),
                b'c' => cas = Some(token).filter(|cas| parse_u64(cas).is_some()),
                b'b' => base64 = true,
                _ => {}
            }
        }
        let cas = if with_cas { Some(cas?) } else { None };
        Some(Self { len, key: key?, base64, flags: flags?, cas })
    }
}
