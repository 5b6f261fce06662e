//! memcached's answers in text, read line by line.
//!
//! A line is given without its CR LF. [`Line::Va`] and [`Line::Value`] announce data: so many bytes and a CR LF
//! follow.

mod value;

use super::number::{parse_i64, parse_u64};
use super::text::MetaFlags;

pub use value::{Malformed, ValueLine, write_value_line};

/// What an answer line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "memcached's own words")]
pub enum Line<'a> {
    Stored,
    NotStored,
    Exists,
    NotFound,
    Deleted,
    Touched,
    Ok,
    Reset,
    End,
    /// The new value of `incr` or `decr`.
    Number(u64),
    Hd,
    Ns,
    Ex,
    Nf,
    En,
    Mn,
    /// Data of `len` bytes follows.
    Va {
        len: u64,
    },
    /// Data of `len` bytes follows.
    Value {
        len: u64,
    },
    /// What `me` answers for a hit.
    Me,
    /// The line begins with this word, whatever stands behind it.
    Error,
    /// The line begins with this word, whatever stands behind it.
    ClientError,
    /// The line begins with this word, whatever stands behind it.
    ServerError,
    /// One line of many, ended by `END` or `EN`: `STAT`, `ITEM`, `PREFIX` and the lines of dumps.
    Stat,
    Version,
    /// Anything else, for instance what administration answers.
    Other(&'a [u8]),
}

impl Line<'_> {
    /// Whether memcached refused the request.
    pub fn is_error(&self) -> bool {
        matches!(self, Self::Error | Self::ClientError | Self::ServerError)
    }
}

/// Reads an answer line, which comes without its CR LF.
pub fn classify(line: &[u8]) -> Line<'_> {
    match line {
        b"STORED" => Line::Stored,
        b"END" => Line::End,
        [b'H', b'D'] | [b'H', b'D', b' ', ..] => Line::Hd,
        [b'V', b'A', b' ', rest @ ..] => announced(rest).map_or(Line::Other(line), |len| Line::Va { len }),
        [b'E', b'N'] | [b'E', b'N', b' ', ..] => Line::En,
        [b'N', b'F'] | [b'N', b'F', b' ', ..] => Line::Nf,
        [b'N', b'S'] | [b'N', b'S', b' ', ..] => Line::Ns,
        [b'E', b'X'] | [b'E', b'X', b' ', ..] => Line::Ex,
        b"MN" => Line::Mn,
        [b'0'..=b'9', ..] => parse_u64(line).map_or(Line::Other(line), Line::Number),
        b"DELETED" => Line::Deleted,
        b"NOT_FOUND" => Line::NotFound,
        b"NOT_STORED" => Line::NotStored,
        b"EXISTS" => Line::Exists,
        b"TOUCHED" => Line::Touched,
        b"OK" => Line::Ok,
        b"RESET" => Line::Reset,
        _ => classify_by_word(line),
    }
}

/// What a classic store, `incr` or `decr` says where its meta form says this; None for what both word alike.
pub fn classic_words(line: &[u8]) -> Option<&'static [u8]> {
    Some(match classify(line) {
        Line::Hd => b"STORED",
        Line::Ns => b"NOT_STORED",
        Line::Ex => b"EXISTS",
        Line::Nf => b"NOT_FOUND",
        _ => return None,
    })
}

/// Whether a meta command was refused for a flag that this memcached does not know.
pub fn is_unknown_flag(line: &[u8]) -> bool {
    line == b"CLIENT_ERROR invalid flag" || line == b"CLIENT_ERROR invalid or duplicate flag"
}

fn classify_by_word(line: &[u8]) -> Line<'_> {
    let word_len = memchr::memchr(b' ', line).unwrap_or(line.len());
    match &line[..word_len] {
        b"VALUE" => ValueLine::parse(line).map_or(Line::Other(line), |value| Line::Value { len: value.len }),
        b"STAT" | b"ITEM" | b"PREFIX" | b"mg" => Line::Stat,
        b"ME" => Line::Me,
        // `ERROR: shutdown not enabled` has a colon.
        b"ERROR" | b"ERROR:" => Line::Error,
        b"CLIENT_ERROR" => Line::ClientError,
        b"SERVER_ERROR" => Line::ServerError,
        b"VERSION" => Line::Version,
        word if word.starts_with(b"key=") => Line::Stat,
        _ => Line::Other(line),
    }
}

/// The length that begins what stands behind `VA `.
fn announced(rest: &[u8]) -> Option<u64> {
    let len = memchr::memchr(b' ', rest).unwrap_or(rest.len());
    parse_u64(&rest[..len])
}

/// Letter and token of every flag of a meta answer; none for an answer that has no flags.
pub fn meta_flags(line: &[u8]) -> MetaFlags<'_> {
    let behind = |count: usize| {
        let mut rest = line;
        for _ in 0..count {
            rest = memchr::memchr(b' ', rest).map_or(&[][..], |blank| &rest[blank + 1..]);
        }
        MetaFlags { text: rest }
    };
    match classify(line) {
        Line::Hd | Line::Ns | Line::Ex | Line::Nf | Line::En => behind(1),
        Line::Va { .. } => behind(2),
        _ => MetaFlags { text: &[] },
    }
}

/// The token of a numeric flag of a meta answer: `t`, `c`, `f`, `s`, `l`, `h`.
pub fn meta_number(line: &[u8], letter: u8) -> Option<i128> {
    let (_, token) = meta_flags(line).find(|&(found, _)| found == letter)?;
    parse_i64(token).map(i128::from).or_else(|| parse_u64(token).map(i128::from))
}

#[cfg(test)]
mod tests;
